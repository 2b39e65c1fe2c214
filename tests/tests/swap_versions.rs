//! Versions that differ, one after another under load; and versions that misbehave: what each tried, what the host said, and that no row
//! was lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::engine::Loaded;
use tidegate_core::calls::{Call, CallError};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Probation, Verdict, Work};
use tidegate_message::build;
use tidegate_message::columns::PrimaryKey;
use tidegate_tests::guests::{NEXT, PREVIOUS, bad, load};
use tidegate_tests::harness::{Harness, Verdict as Fate, component, config};
use tidegate_tests::rows::schema;

fn loaded(bytes: &[u8]) -> Arc<Loaded> {
    load(bytes).unwrap_or_else(|e| panic!("{e}"))
}

fn harness() -> Harness {
    let probation = Probation { turns: 20, event_ms: 1_000, lag_ms: 1_000_000 };
    Harness::new(config(), Limits { not_found_tolerance: 0, probation, ..Limits::default() })
}

/// Refuses every message that is handed out a second time in one scan, and every one that is left out.
fn watch_ordinals(h: &mut Harness) {
    let mut next = 1;
    h.lie = Some(Box::new(move |input, output| {
        if output.taken > 0 {
            assert_eq!(input.page.first, next, "the messages that a turn takes follow those of the turn before");
            next = input.page.first + output.taken as u64;
        }
    }));
}

/// Every 7th write and every 11th call that changes something fails, and every 5th answer waits until the next round.
fn trouble(h: &mut Harness) {
    let mut seen = 0_u64;
    h.verdict = Box::new(move |work| {
        let mutating = match work {
            Work::Write(_) => true,
            Work::Call(call) => call.is_mutating(),
            _ => false,
        };
        seen += u64::from(mutating);
        match (work, seen) {
            _ if !mutating => Fate::Do,
            (Work::Write(_), n) if n % 7 == 0 => Fate::Fail(CallError::Transient("the storage is not there".into())),
            (Work::Call(_), n) if n % 11 == 0 => Fate::DoAndFail(CallError::Transient("the answer is lost".into())),
            (_, n) if n % 5 == 0 => Fate::Hold,
            _ => Fate::Do,
        }
    });
}

/// Two collections with segments that are opened, filled and flushed round after round.
struct Ingest {
    collections: [CollectionInfo; 2],
    open: BTreeMap<usize, Vec<i64>>,
    rows: [i64; 2],
    deletes: usize,
}

impl Ingest {
    fn new(h: &mut Harness) -> Self {
        let collections = [h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1)];
        Self { collections, open: BTreeMap::new(), rows: [0, 0], deletes: 0 }
    }

    fn round(&mut self, h: &mut Harness, round: i64) {
        for which in 0..2 {
            let c = &self.collections[which];
            let open = self.open.entry(which).or_default();
            if open.len() < 2 {
                open.push(h.create_segment(c, 0));
            }
            let segment = open[round as usize % open.len()];
            let count = 10 + 15 * (round % 3);
            h.append_insert(c, 0, segment, self.rows[which]..self.rows[which] + count);
            self.rows[which] += count;
            if round % 4 == 0 {
                h.append(build::delete(&c.shards[0].vchannel, c.id, c.partitions[0].id, &[PrimaryKey::Int64(-round)]));
                self.deletes += 1;
            }
            if round % 13 == 12 {
                h.append(build::manual_flush(&c.shards[0].vchannel, c.id, 0, open));
                open.clear();
            }
        }
        h.pass_ms(100);
        h.tick();
    }

    /// Flushes the rest, and looks for every row.
    fn judge(&self, h: &mut Harness) {
        h.lie = None;
        h.verdict = Box::new(|_| Fate::Do);
        h.release();
        for (which, c) in self.collections.iter().enumerate() {
            if let Some(open) = self.open.get(&which) {
                h.flush(c, 0, open);
            }
            assert_eq!(h.flushed_keys(c), (0..self.rows[which]).collect::<Vec<_>>(), "each row once");
        }
        let deletes: usize = self.collections.iter().map(|c| h.stored_deletes(c).len()).sum();
        assert!(deletes >= self.deletes, "{deletes} of {} deletes", self.deletes);
        assert!(h.ledger_closed(), "{:#?}", h.core.status());
        assert!(h.core.accounts().all(|c| c.is_served()), "no channel is given up");
    }
}

#[test]
fn a_thousand_swaps_under_load_and_trouble_lose_no_row_and_hand_no_message_out_twice() {
    let versions = [component(), loaded(NEXT), component(), loaded(PREVIOUS)];
    let mut h = harness();
    let mut ingest = Ingest::new(&mut h);
    h.start();
    watch_ordinals(&mut h);
    trouble(&mut h);
    for round in 0..1_000 {
        ingest.round(&mut h, round);
        h.swap(&versions[(round as usize + 1) % versions.len()]);
        let step = h.swapped.last().expect("a swap ends");
        assert_eq!(step.verdict, Verdict::Committed, "round {round}");
        if round % 5 == 4 {
            let held = std::mem::replace(&mut h.verdict, Box::new(|_| Fate::Do));
            h.release();
            h.verdict = held;
        }
    }
    let committed = h.swapped.iter().filter(|s| s.order.is_some() && s.verdict == Verdict::Committed).count();
    assert_eq!((committed, h.opened.len()), (1_000, 1), "the log is read once");
    assert_eq!((h.core.counters().guard_refusals, h.core.counters().faults), (0, 0), "{:?}", h.notices);
    ingest.judge(&mut h);
}

#[test]
fn another_policy_cuts_by_rows_and_its_counts_travel_through_versions_that_do_not_know_them() {
    let mut h = harness();
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    h.swap(&loaded(NEXT));
    let vchannel = c.shards[0].vchannel.clone();
    let (full, gone) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    for n in 0..12 {
        h.append_insert(&c, 0, full, 10 * n..10 * (n + 1));
        h.append_insert(&c, 0, gone, 1_000 + 10 * n..1_000 + 10 * (n + 1));
        h.tick();
    }
    assert_eq!(h.segment(full).map(|s| s.rows), Some(100), "two batches of fifty rows");
    for version in [loaded(PREVIOUS), component()] {
        h.swap(&version);
        assert_eq!(h.swapped.last().map(|s| &s.verdict), Some(&Verdict::Committed));
    }
    h.flush(&c, 0, &[gone]);
    h.swap(&loaded(NEXT));
    let explained = h.explain(&vchannel);
    assert!(explained.ends_with(&format!("batches so far: 2 of segment {full}")), "{explained}");
}

/// Swaps to what misbehaves while two channels are written, and goes on writing. Returns what the host said of the swap.
fn swap_to(how: &str, h: &mut Harness) -> (Ingest, String) {
    let mut ingest = Ingest::new(h);
    h.start();
    (0..5).for_each(|round| ingest.round(h, round));
    let before = h.swapped.len();
    h.swap(&loaded(&bad(how)));
    (5..40).for_each(|round| ingest.round(h, round));
    let said: Vec<String> = h.swapped[before..].iter().map(|s| format!("{:?}", s.verdict)).collect();
    (ingest, said.join("; "))
}

/// Checkpoints of both channels move to the end of the log.
fn checkpoints_move(h: &mut Harness, ingest: &Ingest) {
    let end = h.tick();
    for _ in 0..4 {
        h.pass_ms(1_100);
        h.tick();
    }
    for c in &ingest.collections {
        let vchannel = &c.shards[0].vchannel;
        assert!(h.checkpoint(vchannel) >= Some(end), "{vchannel}: {:#?}", h.core.status());
    }
}

#[test]
fn what_traps_or_hoards_or_floods_or_lies_on_probation_goes_home_and_no_row_is_lost() {
    let tried = [
        ("traps 4", "turn 4 is one too many"),
        ("hoards 3", "memory limit"),
        ("overtakes 2", "the guard refused"),
        ("filters 2", "the guard refused"),
    ];
    for (how, words) in tried {
        let mut h = harness();
        let (ingest, said) = swap_to(how, &mut h);
        assert!(said.contains("RolledBack") && said.contains(words), "{how}: {said}");
        assert_eq!(&**h.core.version(), component().digest, "{how}: the version before serves");
        ingest.judge(&mut h);
        checkpoints_move(&mut h, &ingest);
    }
}

#[test]
fn a_turn_that_does_not_end_is_cut_off_and_its_version_goes_home() {
    let mut h = harness();
    let (ingest, said) = swap_to("loops 3", &mut h);
    assert!(said.contains("RolledBack") && said.contains("deadline"), "{said}");
    assert_eq!(&**h.core.version(), component().digest);
    ingest.judge(&mut h);
}

#[test]
fn a_flood_of_words_changes_nothing() {
    let mut h = harness();
    let (ingest, said) = swap_to("floods 1", &mut h);
    assert!(said.starts_with("Committed"), "{said}");
    ingest.judge(&mut h);
    checkpoints_move(&mut h, &ingest);
}

#[test]
fn a_version_that_counts_wrong_does_not_follow() {
    let mut h = harness();
    let (ingest, said) = swap_to("miscounts", &mut h);
    assert!(said.contains("Stayed") && said.contains("does not hold what the old one does"), "{said}");
    assert_eq!((&**h.core.version(), h.opened.len()), (component().digest.as_str(), 1), "nothing happened");
    ingest.judge(&mut h);
}

#[test]
fn a_version_that_takes_no_snapshot_recovers_from_the_log() {
    let mut h = harness();
    let (ingest, said) = swap_to("refuses", &mut h);
    assert!(said.contains("Recovers") && said.contains("goes on from nothing"), "{said}");
    assert_eq!(h.opened.len(), 2);
    ingest.judge(&mut h);
}

#[test]
fn a_version_that_gives_no_good_snapshot_is_left_all_the_same() {
    let kept = [
        ("snapshot traps", "nobody gets this state"),
        ("snapshot loops", "deadline"),
        ("snapshot swells", "snapshot"),
        ("snapshot rots", "damaged"),
        ("snapshot ages", "ledger"),
    ];
    for (how, words) in kept {
        let mut h = harness();
        let (ingest, said) = swap_to(how, &mut h);
        assert!(said.starts_with("Committed"), "{how}: it began well: {said}");
        h.swap(&component());
        let said = h.swapped.iter().rev().find(|s| s.order.is_some()).map(|s| format!("{:?}", s.verdict)).unwrap_or_default();
        assert!(said.contains("Recovers") && said.contains(words), "{how}: {said}");
        assert_eq!(&**h.core.version(), component().digest, "{how}");
        ingest.judge(&mut h);
        checkpoints_move(&mut h, &ingest);
    }
}

/// What a call is, for a look at the trouble above.
#[test]
fn the_trouble_reaches_writes_and_calls() {
    let mut h = harness();
    let mut ingest = Ingest::new(&mut h);
    h.start();
    trouble(&mut h);
    (0..30).for_each(|round| ingest.round(&mut h, round));
    let writes = h.done.iter().filter(|w| matches!(w, Work::Write(_))).count();
    let reports = h.done.iter().filter(|w| matches!(w, Work::Call(Call::ReportCheckpoints(_)))).count();
    assert!(h.held() > 0 && writes > 0 && reports > 0, "{} held, {writes} writes, {reports} reports", h.held());
    ingest.judge(&mut h);
}
