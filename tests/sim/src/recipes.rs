//! Troubles that only matter together: what chance alone would put next to each other once in many thousand seeds.

use crate::rng::Rng;
use crate::scenario::{Op, Settings, Trouble};

/// Bytes of one insert of a burst.
const BURST_INSERT: usize = 20 * 400;
/// A burst of this many inserts takes too long to simulate.
const BURST_MAX: usize = 400;

/// Operations with their times; `fair` ones are no trouble.
pub fn recipe(rng: &mut Rng, settings: &Settings, now: u64, fair: bool) -> Vec<(u64, Op)> {
    let at = rng.draw();
    let mut ops = Vec::new();
    let mut then = |wait: u64, op: Op| ops.push((now + wait, op));
    match if fair { rng.below(3) } else { rng.below(17) } {
        0 | 3 | 4 => {
            let bad = !fair && rng.percent(30);
            transaction(rng, at, bad, &mut then);
        }
        // Two schemas that are recorded at the same time.
        1 => (0..rng.between(2, 3)).for_each(|n| then(n, Op::Alter { at })),
        2 => burst(rng, settings, at, &mut then),
        // A transaction over a change of terms.
        5 => {
            let slot = rng.below(4) as usize;
            then(0, Op::Begin { slot, at, keepalive_ms: 60_000 });
            (1..4).for_each(|n| then(10 * n, Op::Body { slot, rows: n, bad: false }));
            then(40, change_of_terms(rng, at));
            then(60, Op::Body { slot, rows: 2, bad: false });
            then(80, Op::End { slot, commit: Some(true) });
        }
        // Schemas under way when calls are slow, and the power goes.
        6 => {
            then(0, Op::Window { trouble: rng.one_of(&[Trouble::CallSlow, Trouble::CallLost]), ms: 3_000, percent: 50 });
            (0..3).for_each(|n| then(1 + n, Op::Alter { at }));
            then(2, Op::Insert { at, rows: 3, width: 8 });
            then(rng.between(1_000, 40_000), change_of_terms(rng, at));
        }
        // A channel falls behind, and something happens while it reads again.
        7..=9 => {
            burst(rng, settings, at, &mut then);
            let trouble = rng.one_of(&[Trouble::StorageDown, Trouble::DiskFull, Trouble::SaveIgnored, Trouble::NotFound]);
            then(0, Op::Window { trouble, ms: 15_000, percent: 100 });
            let wait = 15_000 + rng.between(1, 4_000);
            match rng.below(5) {
                0 => then(wait, change_of_terms(rng, at)),
                1 => then(wait, Op::DropCollection { at, early: rng.percent(50) }),
                2 => burst(rng, settings, at, &mut |ms, op| then(wait + ms, op)),
                3 => then(wait, Op::Window { trouble: Trouble::Trap, ms: 2_000, percent: 60 }),
                _ => then(wait, Op::FlushAll { at }),
            }
        }
        // A replay from far in the past.
        10 => {
            then(0, Op::Window { trouble: Trouble::ReportDropped, ms: 100_000, percent: 100 });
            (1..8).for_each(|n| then(10_000 * n, Op::Insert { at, rows: 5, width: 20 }));
            then(90_000, change_of_terms(rng, at));
        }
        // A pchannel moves through eight nodes, all of which go on.
        11 => (0..8).for_each(|n| then(20 * n, Op::Move { at, pause_ms: rng.one_of(&[0, 100, 5_000]) })),
        // Snapshots fail for long, turns fail after them.
        12 => {
            then(0, Op::Window { trouble: Trouble::SnapshotTrap, ms: 20_000, percent: rng.one_of(&[30, 100]) });
            then(0, Op::Window { trouble: Trouble::Trap, ms: 20_000, percent: 5 });
        }
        // Recovery meets trouble.
        13 => {
            let trouble = rng.one_of(&[Trouble::CallSlow, Trouble::NotFound, Trouble::BuildFails, Trouble::CallLost]);
            then(0, Op::Window { trouble, ms: 30_000, percent: rng.one_of(&[30, 70]) });
            then(1, change_of_terms(rng, at));
            then(rng.between(2, 2_000), change_of_terms(rng, at));
        }
        // Instances are lost within transactions.
        14 => {
            then(0, Op::Window { trouble: Trouble::Lies, ms: 2_000, percent: 20 });
            (0..6).for_each(|n| transaction(rng, at, false, &mut |ms, op| then(300 * n + ms, op)));
        }
        // Schemas change within growing segments, and the component lies about where its batches end.
        15 => {
            then(0, Op::Window { trouble: Trouble::Lies, ms: 5_000, percent: 60 });
            let at = at & !(3 << 61);
            for n in 0..16 {
                then(50 * n, if n % 4 == 3 { Op::Alter { at } } else { Op::Insert { at, rows: 2, width: 8 } });
            }
        }
        _ => {
            then(0, Op::Kill { at, after_ms: 1_000, same_term: false });
            burst(rng, settings, at, &mut then);
        }
    }
    ops
}

fn transaction(rng: &mut Rng, at: u64, bad: bool, then: &mut dyn FnMut(u64, Op)) {
    let (slot, bodies) = (rng.below(4) as usize, rng.between(2, 6));
    then(0, Op::Begin { slot, at, keepalive_ms: rng.one_of(&[-1_000, 3_000, 60_000]) });
    for n in 1..=bodies {
        then(5 * n, Op::Body { slot, rows: rng.below(6), bad: bad && n == bodies / 2 + 1 });
    }
    then(5 * bodies + 5, Op::End { slot, commit: Some(rng.percent(90)) });
}

/// Ten times the budget at once, where that is not too much to simulate.
fn burst(rng: &mut Rng, settings: &Settings, at: u64, then: &mut dyn FnMut(u64, Op)) {
    let wanted = 10 * settings.bytes_max / BURST_INSERT;
    let count = if wanted <= BURST_MAX && rng.percent(50) { wanted + 1 } else { 30 };
    // Of one collection, on all of its channels or on one.
    let spread = rng.percent(50);
    for _ in 0..count {
        let at = if spread { at & 0xffff | rng.draw() << 16 } else { at };
        then(0, Op::Insert { at, rows: 20, width: 400 });
    }
}

fn change_of_terms(rng: &mut Rng, at: u64) -> Op {
    match rng.below(4) {
        0 => Op::PowerLoss,
        1 => Op::Kill { at, after_ms: rng.one_of(&[0, 500]), same_term: true },
        2 => Op::Kill { at, after_ms: rng.one_of(&[0, 500]), same_term: false },
        _ => Op::Move { at, pause_ms: rng.one_of(&[0, 2_000]) },
    }
}
