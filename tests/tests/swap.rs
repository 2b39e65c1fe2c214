//! SW-1 to SW-3: one version of the component after another.

use tidegate_core::pchannel::{Limits, Probation, Verdict};
use tidegate_core::turn::{Intent, TurnInput, TurnOutput};
use tidegate_tests::harness::{Harness, config, twin};
use tidegate_tests::rows::schema;

fn harness() -> Harness {
    let probation = Probation { turns: 20, event_ms: 1_000, lag_ms: 1_000_000 };
    Harness::new(config(), Limits { not_found_tolerance: 0, probation, ..Limits::default() })
}

/// Ingests until probation is over.
fn pass_probation(h: &mut Harness) {
    for _ in 0..40 {
        h.pass_ms(100);
        h.tick();
    }
}

#[test]
fn a_successor_goes_on_between_two_turns_and_no_message_is_handed_out_twice() {
    let mut h = harness();
    h.start();
    let collection = h.create_collection(&schema("rows"), 2);
    let segments = [h.create_segment(&collection, 0), h.create_segment(&collection, 1)];
    for round in 0..10_i64 {
        for shard in 0..2_i64 {
            let first = (round * 2 + shard) * 10;
            h.append_insert(&collection, shard as usize, segments[shard as usize], first..first + 10);
        }
        h.tick();
        h.swap(&twin(b'0' + round as u8));
    }
    assert!(h.swapped.iter().filter(|s| s.order.is_some()).all(|s| s.verdict == Verdict::Committed), "{:?}", h.swapped);
    assert_eq!(h.opened.len(), 1, "the log was read once");
    for (shard, segment) in segments.iter().enumerate() {
        h.flush(&collection, shard, &[*segment]);
    }
    assert_eq!(h.flushed_keys(&collection), (0..200).collect::<Vec<_>>());
    assert!(h.ledger_closed());
}

#[test]
fn a_fault_on_probation_goes_back_to_the_version_before_and_loses_nothing() {
    for turns_before in [0, 3] {
        let mut h = harness();
        h.start();
        let collection = h.create_collection(&schema("rows"), 1);
        let segment = h.create_segment(&collection, 0);
        h.append_insert(&collection, 0, segment, 0..10);
        h.tick();
        let before = h.core.version().clone();
        h.swap(&twin(b'a'));
        for _ in 0..turns_before {
            h.tick();
        }
        h.append_insert(&collection, 0, segment, 10..20);
        h.traps = vec![h.turns + 1];
        h.tick();
        assert_eq!(h.core.version(), &before, "{:?}", h.swapped);
        assert!(matches!(&h.swapped.last().unwrap().verdict, Verdict::RolledBack(why) if why.contains("probation")), "{:?}", h.swapped);
        // From the old snapshot when the new one ended no turn, else by recovery.
        assert_eq!(h.opened.len(), if turns_before == 0 { 1 } else { 2 });
        h.flush(&collection, 0, &[segment]);
        assert_eq!(h.flushed_keys(&collection), (0..20).collect::<Vec<_>>());
    }
}

/// Wants the consume checkpoint past the end of the log, with each page.
fn lie(input: &TurnInput, output: &mut TurnOutput) {
    if !input.page.is_empty() {
        output.intents.push(Intent::SaveCheckpoint(1 << 40));
    }
}

#[test]
fn a_refusal_of_the_guard_on_probation_goes_back_and_afterwards_recovers_first() {
    let mut h = harness();
    h.start();
    let collection = h.create_collection(&schema("rows"), 1);
    let segment = h.create_segment(&collection, 0);
    h.append_insert(&collection, 0, segment, 0..10);
    h.tick();
    let before = h.core.version().clone();
    h.swap(&twin(b'a'));
    h.lie = Some(Box::new(lie));
    h.tick();
    h.lie = None;
    assert_eq!(h.core.version(), &before);
    pass_probation(&mut h);
    // Past probation.
    h.swap(&twin(b'b'));
    let after = h.core.version().clone();
    pass_probation(&mut h);
    assert_eq!(h.swapped.last().map(|s| &s.verdict), Some(&Verdict::Good));
    let opened = h.opened.len();
    let mut lies = 2;
    h.lie = Some(Box::new(move |input, output| {
        if lies > 0 && !input.page.is_empty() {
            lies -= 1;
            lie(input, output);
        }
    }));
    h.tick();
    assert_eq!((h.core.version(), h.opened.len()), (&after, opened + 2), "{:?}", h.notices);
    h.lie = Some(Box::new(lie));
    h.tick();
    assert_eq!(h.core.version(), &before, "the last good version takes over");
    h.lie = None;
    h.flush(&collection, 0, &[segment]);
    assert_eq!(h.flushed_keys(&collection), (0..10).collect::<Vec<_>>());
}

#[test]
fn syncs_that_the_old_version_began_end_with_the_new_one() {
    let mut h = harness();
    h.start();
    let collection = h.create_collection(&schema("rows"), 1);
    let segment = h.create_segment(&collection, 0);
    h.append_insert(&collection, 0, segment, 0..10);
    h.tick();
    h.verdict = Box::new(|work| match work {
        tidegate_core::pchannel::Work::Write(_) => tidegate_tests::harness::Verdict::Hold,
        _ => tidegate_tests::harness::Verdict::Do,
    });
    h.flush(&collection, 0, &[segment]);
    assert_eq!(h.held(), 1);
    h.swap(&twin(b'a'));
    assert_eq!(h.swapped.last().unwrap().verdict, Verdict::Committed);
    h.release();
    assert_eq!(h.flushed_keys(&collection), (0..10).collect::<Vec<_>>());
    assert_eq!(h.opened.len(), 1);
    assert!(h.ledger_closed());
}
