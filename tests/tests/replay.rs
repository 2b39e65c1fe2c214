//! DT-1, and what a rehearsal says of a component before it serves.

use std::sync::{Arc, OnceLock};

use tidegate::engine::{BUILT_IN, Engine, GuestConfig, Loaded};
use tidegate::replay::{Ended, Report, Verdict, rehearse, run};
use tidegate_core::journal::{Replay, Turn};
use tidegate_core::pchannel::Limits;
use tidegate_core::turn::{FilterReason, Filtered, Intent, TurnOutput};
use tidegate_tests::harness::{Harness, config};
use tidegate_tests::rows::schema;

/// The built-in component, its time counted in fuel.
fn component() -> Arc<Loaded> {
    static COMPONENT: OnceLock<Arc<Loaded>> = OnceLock::new();
    let load = || Engine::for_replay().and_then(|engine| engine.load(BUILT_IN, None)).expect("the built-in component loads");
    COMPONENT.get_or_init(load).clone()
}

/// The turns of a scenario with batches, deletes, flushes, and filtered rows.
fn journal(config: &GuestConfig) -> Replay {
    let mut h = Harness::new(config.clone(), Limits { not_found_tolerance: 0, ..Limits::default() });
    h.start();
    let collection = h.create_collection(&schema("c"), 2);
    let segments = [h.create_segment(&collection, 0), h.create_segment(&collection, 1)];
    for n in 0..30 {
        for (shard, &segment) in segments.iter().enumerate() {
            let first = (n * 2 + shard as i64) * 10;
            h.append_insert(&collection, shard, segment, first..first + 10);
        }
        h.pass_ms(300);
        h.tick();
    }
    h.flush(&collection, 0, &segments[..1]);
    h.core.journal().expect("the ring has its beginning")
}

fn small_batches() -> GuestConfig {
    GuestConfig { insert_bytes_max: 2_000, ..config() }
}

#[test]
fn the_same_component_gives_the_same_intents_and_uses_the_same_fuel() {
    let journal = journal(&config());
    assert!(journal.turns.len() > 30);
    let first = run(&component(), &config(), None, &journal.turns);
    assert_eq!((first.ended, first.refused), (None, None));
    assert!(Report::new(&journal.turns, &first.outputs).is_identical());
    assert!(first.fuel > 10_000);
    assert_eq!(run(&component(), &config(), None, &journal.turns).fuel, first.fuel);
}

#[test]
fn a_component_with_another_policy_gets_a_report_of_what_differs() {
    let journal = journal(&config());
    let other = run(&component(), &small_batches(), None, &journal.turns);
    assert_eq!((other.ended, other.refused), (None, None), "completions of tickets that it did not issue are understood");
    let report = Report::new(&journal.turns, &other.outputs);
    let first = report.first.as_ref().expect("a difference");
    assert!(first.replayed.contains("Sync"), "{first:?}");
    assert!(report.replayed.syncs > report.recorded.syncs && report.cut_differently == 2, "{report:?}");
    assert!(report.replayed.batch_bytes[2] < report.recorded.batch_bytes[2], "{report:?}");
    let text = report.to_string();
    assert!(text.contains("first difference: turn") && text.contains("batches written"), "{text}");
}

#[test]
fn a_component_is_not_blamed_for_a_journal_that_the_serving_one_does_not_repeat() {
    let mut replay = journal(&config());
    let rehearsal = rehearse(&component(), &component(), &config(), &replay);
    assert_eq!(rehearsal.verdict, Verdict::Passed);
    let last = replay.turns.pop().unwrap();
    let output = TurnOutput { intents: vec![Intent::SaveCheckpoint(1)], ..(*last.output).clone() };
    replay.turns.push(Turn { output: Arc::new(output), ..last });
    let rehearsal = rehearse(&component(), &component(), &config(), &replay);
    assert!(matches!(&rehearsal.verdict, Verdict::NotJudged(why) if why.contains("otherwise")), "{rehearsal:?}");
}

#[test]
fn a_state_that_is_not_read_is_no_failure() {
    let journal = journal(&config());
    let run = run(&component(), &config(), Some(b"something else"), &journal.turns);
    assert!(matches!(run.ended, Some(Ended::NotStarted(_))), "{run:?}");
}

/// Each lie of a component that the guard would refuse is found without the guard.
#[test]
fn what_the_guard_would_refuse_is_found_in_a_replay() {
    let journal = journal(&config());
    let pages = || journal.turns.iter().enumerate().filter(|(_, t)| t.input.page.len() > 1);
    let (nth, turn) = pages().nth(10).expect("a page with rows");
    let (page, channel) = (&turn.input.page, turn.input.page.channels[0]);
    let last = page.first + page.len() as u64 - 1;
    let lies = [
        (Intent::SaveCheckpoint(last + 1_000), "handed out"),
        (Intent::Report(vec![(channel, last)]), "not durable"),
        (Intent::Report(vec![(channel, 1)]), "back to 1"),
        (Intent::Filter(vec![Filtered { channel, first: page.first, last, reason: FilterReason::Duplicate }]), "kept"),
        (Intent::Sync { channel: channel + 1, segment: page.segments[0], up_to: last, flush: false }, "another channel"),
        (Intent::Detach { channel, reason: "no reason".into() }, "gives channel"),
    ];
    for (lie, says) in lies {
        let told = tidegate::replay::judge(&journal.turns, nth, &lie);
        assert!(told.as_ref().is_err_and(|why| why.contains(says)), "{lie:?}: {told:?}");
    }
}
