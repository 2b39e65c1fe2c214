//! From a seed to a scenario.

use crate::recipes::recipe;
use crate::rng::Rng;
use crate::scenario::{Op, Scenario, Settings, Successor, Trouble};

/// How much trouble a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// None: the workload alone.
    Fair,
    /// Whatever the seed says.
    Any,
}

const TROUBLES: [Trouble; 21] = [
    Trouble::CallLost,
    Trouble::AnswerLost,
    Trouble::CallSilent,
    Trouble::CallSlow,
    Trouble::CallTwice,
    Trouble::StaleAnswer,
    Trouble::NotFound,
    Trouble::ReportDropped,
    Trouble::StorageDown,
    Trouble::StorageSlow,
    Trouble::StorageReset,
    Trouble::StoragePartial,
    Trouble::LogStalls,
    Trouble::LogTwice,
    Trouble::Trap,
    Trouble::SnapshotTrap,
    Trouble::BuildFails,
    Trouble::Lies,
    Trouble::SaveIgnored,
    Trouble::DiskFull,
    Trouble::TurnLimit,
];

/// What strikes in hand-overs: each comes with one.
const SWAP_TROUBLES: [Trouble; 12] = [
    Trouble::SnapshotTrap,
    Trouble::SnapshotLimit,
    Trouble::SnapshotGarbage,
    Trouble::SnapshotStale,
    Trouble::RestoreFaults,
    Trouble::AccountsFault,
    Trouble::AccountsLie,
    Trouble::SwapKilled,
    Trouble::SwapPowerLoss,
    Trouble::SwapMoved,
    Trouble::Trap,
    Trouble::CallLost,
];

/// Makes the scenario of a seed.
pub fn generate(seed: u64, weather: Weather) -> Scenario {
    let rng = &mut Rng::new(seed);
    let mut settings = settings(seed, rng);
    let length = match rng.below(20) {
        0 => 400,
        1..=5 => 150,
        _ => 60,
    };
    // Now and then pchannels have some hundred channels.
    let big = rng.below(400) == 0;
    if big {
        settings.latency_ms = 2;
    }
    let pace_ms = rng.one_of(&[20, 100, 400, 1_500]);
    // Not everything in every run: what is rare in a mixture is common where it is one of few.
    let calm = weather == Weather::Fair || rng.percent(10);
    let kinds: u64 = rng.draw() | 0b11;
    let mut ops = Vec::new();
    let mut now = rng.between(0, 200);
    let (least, most) = if big { (20, 40) } else { (1, 3) };
    for _ in 0..rng.between(least, most) {
        let shards = if big { 8 } else { rng.one_of(&[1, 1, 2, 2, 3, 8]) };
        ops.push((now, Op::Create { shards, partitions: rng.between(1, 3) as usize }));
        now += rng.between(0, 50);
    }
    for _ in 0..length {
        now += rng.between(0, 2 * pace_ms);
        if rng.percent(1) {
            ops.extend(recipe(rng, &settings, now, calm));
        } else if rng.percent(8) && !calm {
            if kinds >> 26 & 1 == 1 && rng.percent(25) {
                let (trouble, ms) = (rng.one_of(&SWAP_TROUBLES), rng.one_of(&[200, 2_000, 20_000]));
                ops.push((now, Op::Window { trouble, ms, percent: rng.one_of(&[20, 60, 100]) }));
                ops.push((now, swap(rng, true)));
            } else {
                ops.push((now, trouble(rng, kinds)));
            }
        } else if let Some(op) = work(rng, kinds) {
            if rng.percent(2) {
                // A burst: far more than the budget, at once.
                for _ in 0..rng.between(20, 60) {
                    ops.push((now, Op::Insert { at: rng.draw(), rows: rng.between(1, 20), width: 400 }));
                }
            }
            ops.push((now, op));
        }
    }
    if !calm {
        ops.extend(flips(seed, now));
    }
    ops.sort_by_key(|(at, _)| *at);
    Scenario { settings, ops, cuts: Vec::new() }
}

/// Bits flip in one seed of eight. It has a chance of its own: what the others play stays as it was.
fn flips(seed: u64, end: u64) -> Option<(u64, Op)> {
    let rng = &mut Rng::new(!seed);
    let (ms, percent) = (rng.one_of(&[2_000, 20_000, 100_000]), rng.one_of(&[30, 100]));
    (rng.below(8) == 0).then(|| (rng.between(0, end), Op::Window { trouble: Trouble::BitsFlip, ms, percent }))
}

fn settings(seed: u64, rng: &mut Rng) -> Settings {
    Settings {
        seed,
        pchannels: rng.one_of(&[1, 1, 1, 2, 2, 4]),
        bytes_max: rng.one_of(&[20_000, 60_000, 1 << 20]),
        page_max: rng.one_of(&[1, 4, 16, 64, 256]),
        delivery_max: rng.one_of(&[1, 8, 64, 512]),
        group_ends_max: rng.one_of(&[4, 64, 65_536]),
        writes_max: rng.one_of(&[1, 2, 4]),
        scan_bytes_max: rng.one_of(&[0, 4_000, 1 << 20]),
        insert_bytes_max: rng.one_of(&[1_500, 6_000, 50_000]),
        sync_period_ms: rng.one_of(&[1_000, 10_000, 60_000]),
        report_period_ms: rng.one_of(&[500, 3_000, 10_000]),
        reports_max: rng.one_of(&[1, 2, 128]),
        segment_rows: rng.one_of(&[20, 100, 1_000]),
        shuffle: rng.percent(40),
        slow_turns: rng.percent(30),
        latency_ms: rng.one_of(&[2, 20, 200]),
        take_max: rng.one_of(&[u32::MAX, u32::MAX, 8, 2]),
        journal_turns_max: rng.one_of(&[16, 64, 1_024]),
        served_after_ms: 0,
    }
}

fn work(rng: &mut Rng, kinds: u64) -> Option<Op> {
    let (at, slot) = (rng.draw(), rng.below(4) as usize);
    let allowed = |bit: u32| kinds >> bit & 1 == 1;
    let op = match rng.below(100) {
        0..=39 => Op::Insert { at, rows: rng.between(1, 12), width: rng.one_of(&[1, 20, 200]) },
        40..=49 => Op::Delete { at, keys: rng.between(1, 4) },
        50..=55 if allowed(2) => Op::Begin { slot, at, keepalive_ms: rng.one_of(&[-1_000, 300, 3_000, 60_000]) },
        56..=67 if allowed(2) => Op::Body { slot, rows: rng.below(6), bad: allowed(3) && rng.percent(5) },
        68..=73 if allowed(2) => Op::End { slot, commit: rng.one_of(&[Some(true), Some(true), Some(true), Some(false), None]) },
        74..=77 => Op::Seal { at },
        78..=80 => Op::Flush { at },
        81 => Op::FlushAll { at },
        82 if allowed(4) => Op::Truncate { at },
        83..=84 if allowed(5) => Op::Alter { at },
        96 if allowed(14) => Op::AfterFlush { at },
        85 if allowed(6) => Op::DropPartition { at },
        86 if allowed(7) => Op::DropCollection { at, early: rng.percent(30) },
        87..=88 if allowed(7) => Op::Create { shards: rng.between(1, 3) as usize, partitions: rng.between(1, 3) as usize },
        89 if allowed(8) => Op::OldSegment { at },
        90 if allowed(9) => Op::Unknown { at },
        91 if allowed(10) => Op::Malformed { at },
        92 if allowed(11) => Op::Late { at },
        93 if allowed(12) => Op::Orphan { at },
        94 if allowed(13) => Op::Stray { at },
        95..=96 if allowed(26) => swap(rng, false),
        _ => Op::Insert { at, rows: rng.between(1, 40), width: 8 },
    };
    Some(op)
}

/// An order, maybe of a version that is no good.
fn swap(rng: &mut Rng, any: bool) -> Op {
    let good = [Successor::Same, Successor::Good, Successor::Good, Successor::Good, Successor::Old, Successor::Previous];
    let bad = [Successor::FaultsAtOnce, Successor::FaultsLater, Successor::Lies, Successor::Untrue, Successor::Unfit];
    let to = if any && rng.percent(40) { rng.one_of(&bad) } else { rng.one_of(&good) };
    Op::Swap { at: rng.draw(), to, force: rng.percent(50), twice: any && rng.percent(20) }
}

fn trouble(rng: &mut Rng, kinds: u64) -> Op {
    let (at, wait) = (rng.draw(), rng.one_of(&[0, 10, 500, 5_000]));
    let allowed = |bit: u32| kinds >> bit & 1 == 1;
    match rng.below(20) {
        0..=3 if allowed(20) => Op::Kill { at, after_ms: wait, same_term: rng.percent(30) },
        4..=5 if allowed(21) => Op::PowerLoss,
        6..=7 if allowed(22) => Op::Move { at, pause_ms: wait * 4 },
        8 if allowed(23) => Op::Pause { at, ms: wait },
        9 if allowed(24) => Op::CoordinatorRestart,
        11 if allowed(26) => swap(rng, true),
        10 if allowed(25) => Op::ClockJump { ms: rng.one_of(&[5_000, 700_000]) },
        _ => {
            let trouble = rng.one_of(&TROUBLES);
            let often = if rng.percent(50) { 20 } else { 70 };
            Op::Window { trouble, ms: rng.one_of(&[200, 2_000, 20_000, 100_000]), percent: often }
        }
    }
}
