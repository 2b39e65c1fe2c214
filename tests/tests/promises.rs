//! Components that lie, writers that are fenced, budgets: a promise each, and the switch that turns its test red.

use std::process::Command;

use tidegate::engine::GuestConfig;
use tidegate_core::calls::{Call, CallError, Caller, Position};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Told, Verdict as Became, Work};
use tidegate_core::switches;
use tidegate_core::turn::{FilterReason, Filtered, Intent};
use tidegate_message::build;
use tidegate_message::{MessageId, TxnContext};
use tidegate_tests::harness::{Harness, Lie, PCHANNEL, Verdict, config, twin};
use tidegate_tests::rows::schema;

/// A channel with thirty rows that no sync took yet.
fn with_rows() -> (Harness, CollectionInfo, i64) {
    let mut h = Harness::default();
    let c = h.create_collection(&schema("c"), 2);
    h.start();
    let segment = h.create_segment(&c, 0);
    for n in 0..3 {
        h.append_insert(&c, 0, segment, n * 10..n * 10 + 10);
    }
    h.tick();
    (h, c, segment)
}

/// Tells one lie as soon as there is a turn, and checks that the host refuses it and that an honest component loses nothing afterwards.
fn tell(lie: impl FnMut(&mut Vec<Intent>) + 'static) -> Harness {
    let (mut h, c, segment) = with_rows();
    let refused = h.core.counters().guard_refusals;
    h.lie = Some(once(lie));
    h.pass_ms(2_000);
    h.tick();
    assert!(h.core.counters().guard_refusals > refused, "the guard did not refuse: {:?}", h.notices);
    nothing_is_lost(&mut h, &c, segment);
    h
}

fn once(mut lie: impl FnMut(&mut Vec<Intent>) + 'static) -> Lie {
    let mut told = false;
    Box::new(move |input, output| {
        // A turn with messages, so that there is something to lie about.
        if !told && !input.page.is_empty() {
            told = true;
            lie(&mut output.intents);
        }
    })
}

/// An honest component takes over: every row is in exactly one flushed segment (FL-2).
fn nothing_is_lost(h: &mut Harness, c: &CollectionInfo, segment: i64) {
    h.lie = None;
    h.crash();
    h.flush(c, 0, &[segment]);
    assert_eq!(h.flushed_keys(c), (0..30).collect::<Vec<_>>(), "{:?}", h.notices);
}

fn index(h: &Harness, c: &CollectionInfo, shard: usize) -> u32 {
    h.core.channel_index(&c.shards[shard].vchannel).expect("a known channel")
}

#[test]
fn a_component_that_forgets_its_rows_cannot_move_the_checkpoint() {
    // Channels are numbered as the coordinator lists them; the first has the rows.
    let h = tell(|intents| intents.push(Intent::Report(vec![(0, 8)])));
    assert!(h.notices.iter().any(|n| n.contains("is not finished")), "{:?}", h.notices);
}

#[test]
fn a_false_reason_filters_nothing() {
    for reason in [
        FilterReason::Duplicate,
        FilterReason::DroppedSegment,
        FilterReason::ForeignCollection,
        FilterReason::DroppedChannel,
        FilterReason::UnknownChannel,
        FilterReason::DroppedPartition,
        FilterReason::UnknownSegment,
        FilterReason::Repeated,
    ] {
        let run = Filtered { channel: 0, first: 1, last: 8, reason };
        let h = tell(move |intents| intents.push(Intent::Filter(vec![run])));
        assert!(h.notices.iter().any(|n| n.contains("does not hold")), "{reason:?}: {:?}", h.notices);
    }
}

#[test]
fn a_segment_is_not_complete_with_rows_staged_after_the_flush() {
    let (mut h, c, segment) = with_rows();
    let first_row = h.core.accounts().find(|a| a.index == index(&h, &c, 0)).and_then(|a| a.floor()).expect("rows wait");
    h.lie = Some(once(move |intents| intents.push(Intent::Sync { channel: 0, segment, up_to: first_row, flush: true })));
    h.tick();
    assert!(h.notices.iter().any(|n| n.contains("staged after")), "{:?}", h.notices);
    nothing_is_lost(&mut h, &c, segment);
}

#[test]
fn a_segment_of_another_channel_is_refused() {
    let (mut h, c, segment) = with_rows();
    let other = index(&h, &c, 1);
    h.lie = Some(once(move |intents| intents.push(Intent::Sync { channel: other, segment, up_to: 5, flush: true })));
    h.tick();
    assert!(h.notices.iter().any(|n| n.contains("is not of this channel")), "{:?}", h.notices);
    nothing_is_lost(&mut h, &c, segment);
}

#[test]
fn an_ordinal_that_was_never_delivered_is_refused() {
    tell(|intents| {
        intents.push(Intent::Report(vec![(1, 1_000_000)]));
        intents.push(Intent::SaveCheckpoint(1_000_000));
        intents.push(Intent::Filter(vec![Filtered { channel: 0, first: 1, last: 1_000_000, reason: FilterReason::Duplicate }]));
    });
}

#[test]
fn a_checkpoint_never_moves_back() {
    let (mut h, c, segment) = with_rows();
    h.flush(&c, 0, &[segment]);
    let stored = h.checkpoint(&c.shards[0].vchannel);
    h.lie = Some(once(|intents| intents.push(Intent::Report(vec![(0, 2)]))));
    h.tick();
    // Past the guard, the coordinator's rules stand too.
    let early = Position { last_confirmed: MessageId::RocksMq(0), tick: 1 };
    let caller = Caller { node_id: 1, pchannel: PCHANNEL.to_owned(), term: 1 };
    let report = Call::ReportCheckpoints(vec![(c.shards[0].vchannel.clone(), early)]);
    h.coordinator.call(&caller, &report).0.expect("answered");
    assert!(h.checkpoint(&c.shards[0].vchannel) >= stored, "CK-1");
}

#[test]
fn the_consume_checkpoint_stays_behind_every_channel() {
    let (mut h, c, segment) = with_rows();
    h.lie = Some(once(|intents| intents.push(Intent::SaveCheckpoint(8))));
    h.tick();
    let first = h.log.len();
    let held = h.consume_checkpoint();
    assert!(held.is_none_or(|p| p.last_confirmed.compare(&MessageId::RocksMq(first as i64)).is_ok_and(|o| o.is_lt())));
    assert!(h.notices.iter().any(|n| n.contains("holds it at")), "{:?}", h.notices);
    nothing_is_lost(&mut h, &c, segment);
}

#[test]
fn an_older_term_can_change_nothing() {
    let (mut h, c, _) = with_rows();
    h.crash();
    let old = Caller { node_id: 1, pchannel: PCHANNEL.to_owned(), term: 1 };
    let late = Position { last_confirmed: MessageId::RocksMq(1 << 40), tick: u64::MAX - 1 };
    let report = Call::ReportCheckpoints(vec![(c.shards[0].vchannel.clone(), late.clone())]);
    for call in [report, Call::SaveConsume(late), Call::DropChannel { vchannel: c.shards[0].vchannel.clone() }] {
        let refused = h.coordinator.call(&old, &call).0;
        assert!(matches!(refused, Err(CallError::Fenced(_))), "FE-1: {} gave {refused:?}", call.name());
    }
}

#[test]
fn a_fenced_flusher_stops_and_says_so() {
    let (mut h, c, segment) = with_rows();
    h.coordinator.acquire_term(PCHANNEL).expect("a term");
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.core.status().state, "fenced");
    assert!(h.flushed_keys(&c).is_empty(), "nothing is saved in the name of an old term");
}

#[test]
fn positions_are_last_confirmed_ids() {
    let (mut h, c, segment) = with_rows();
    // A transaction was open when this row was written: reading must begin at its Begin.
    let begin = MessageId::RocksMq(3);
    let message = h.insert(&c, 0, segment, 30..31);
    h.append_confirmed(message, &begin);
    h.append_confirmed(build::manual_flush(&c.shards[0].vchannel, c.id, 0, &[segment]), &begin);
    h.append_confirmed(build::time_tick(), &begin);
    h.run();
    let stored = h.done.iter().rev().find_map(|w| match w {
        Work::Call(Call::ReportCheckpoints(entries)) => entries.iter().find(|(v, _)| *v == c.shards[0].vchannel).cloned(),
        _ => None,
    });
    assert_eq!(stored.map(|(_, p)| p.last_confirmed), Some(begin), "CK-4");
}

#[test]
fn files_exist_before_the_coordinator_hears_of_them() {
    let (mut h, c, segment) = with_rows();
    // The harness itself looks at every save (FL-1).
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c).len(), 30);
}

#[test]
fn a_detached_channel_does_not_stop_its_neighbour() {
    let (mut h, c, _) = with_rows();
    let other = h.create_segment(&c, 1);
    let vchannel = c.shards[0].vchannel.clone();
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::SaveBinlogPaths(save)) if save.vchannel == vchannel => Verdict::Fail(CallError::Permanent("scripted".into())),
        _ => Verdict::Do,
    });
    let segment = h.segment(1003).map(|s| s.segment).unwrap_or_default();
    let growing: Vec<i64> = h.coordinator.segments(c.id).filter(|s| s.vchannel == c.shards[0].vchannel).map(|s| s.segment).collect();
    h.flush(&c, 0, if growing.is_empty() { std::slice::from_ref(&segment) } else { &growing });
    h.append_insert(&c, 1, other, 100..120);
    let tick = h.flush(&c, 1, &[other]);
    assert!(h.core.status().channels.iter().any(|ch| ch.standing == "detached"), "{:?}", h.notices);
    assert_eq!(h.flushed_keys(&c), (100..120).collect::<Vec<_>>(), "IS-1");
    assert!(h.checkpoint(&c.shards[1].vchannel) >= Some(tick), "IS-1");
    let consumed = h.consume_checkpoint().map_or(0, |p| p.tick);
    assert!(consumed < tick, "CK-3: the detached channel holds the consume checkpoint");
}

#[test]
fn over_budget_reading_stops_and_goes_on_when_there_is_room() {
    let budget = 64 << 10;
    let mut h = Harness::new(config(), Limits { bytes_max: budget, not_found_tolerance: 0, ..Limits::default() });
    h.delivery_max = 4;
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let segment = h.create_segment(&c, 0);
    for n in 0..200 {
        h.append_insert(&c, 0, segment, n * 20..n * 20 + 20);
        h.append(build::time_tick());
    }
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    h.run();
    // One delivery may come on top of the budget.
    let held = h.core.held_bytes();
    assert!(held < budget + (16 << 10), "ME-1: {held} bytes are held, {budget} allowed");
    assert!(!h.core.wants_messages(), "ME-1");
    h.release();
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c).len(), 4_000);
    assert!(h.ledger_closed());
}

#[test]
fn a_rebuilt_instance_gives_the_intents_that_the_journal_has() {
    let (mut h, c, segment) = with_rows();
    // The harness compares each turn that it replays.
    h.traps = vec![h.turns + 1];
    h.pass_ms(2_000);
    h.append_insert(&c, 0, segment, 30..40);
    h.tick();
    assert!(h.turns > h.traps[0], "a turn was lost and given again");
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), (0..40).collect::<Vec<_>>());
}

/// Content of the files of three segments, whose batches are cut by size, time and flush, one of them within transactions.
fn files_of(page_max: usize, delivery_max: usize) -> Vec<Vec<(&'static str, i64, Vec<u8>)>> {
    let small = GuestConfig { insert_bytes_max: 4_000, sync_period_ms: 3_000, page_max: page_max as u32, ..config() };
    let mut h = Harness::new(small, Limits { page_max, not_found_tolerance: 0, ..Limits::default() });
    h.delivery_max = delivery_max;
    let c = h.create_collection(&schema("c"), 2);
    h.start();
    let segments = [h.create_segment(&c, 0), h.create_segment(&c, 1), h.create_segment(&c, 1)];
    let mut key = 0..0;
    let mut more = |rows: i64| {
        key = key.end..key.end + rows;
        key.clone()
    };
    for n in 0..60 {
        h.append_insert(&c, 0, segments[0], more(1 + n % 7));
        h.append_insert(&c, 1, segments[1], more(20));
        if n % 10 == 9 {
            let txn = TxnContext { txn_id: n, keepalive_ms: 10_000 };
            let vchannel = &c.shards[1].vchannel;
            h.append(build::with_txn(build::begin_txn(vchannel, txn.keepalive_ms), &txn));
            for _ in 0..9 {
                let body = h.insert(&c, 1, segments[2], more(8));
                h.append(build::with_txn(body, &txn));
            }
            h.append(build::commit_txn(vchannel, &txn));
        }
        h.pass_ms(200);
        h.append(build::time_tick());
    }
    h.run();
    h.flush(&c, 0, &segments[..1]);
    h.flush(&c, 1, &segments[1..]);
    assert_eq!(h.flushed_keys(&c).len() as i64, key.end, "{:?}", h.notices);
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
    segments.map(|s| h.contents(s)).to_vec()
}

#[test]
fn the_same_log_gives_the_same_files_whatever_the_pages_and_deliveries() {
    let expected = files_of(1_024, 512);
    assert!(expected.iter().all(|files| files.len() > 10), "each segment has several batches");
    for (page_max, delivery_max) in [(1, 512), (7, 512), (1_024, 3)] {
        assert!(files_of(page_max, delivery_max) == expected, "other files with pages of {page_max}, deliveries of {delivery_max}");
    }
}

/// A harness with rows staged in one segment.
fn with_staged_rows() -> (Harness, CollectionInfo, i64) {
    let mut h = Harness::default();
    h.start();
    let c = h.create_collection(&schema("c"), 1);
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.tick();
    (h, c, segment)
}

/// SW-1.
#[test]
fn a_successor_that_does_not_hold_what_the_ledger_has_does_not_follow() {
    let (mut h, c, segment) = with_staged_rows();
    h.told = Some(Told::Holdings(Vec::new()));
    h.swap(&twin(b'a'));
    assert!(matches!(h.swapped.last().unwrap().verdict, Became::Stayed(_) | Became::Recovers(_)), "{:?}", h.swapped);
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), (0..10).collect::<Vec<_>>());
}

/// SW-2.
#[test]
fn a_swap_needs_no_snapshot_of_the_old_version() {
    let (mut h, c, segment) = with_staged_rows();
    h.snapshot_traps = true;
    h.swap(&twin(b'a'));
    assert_eq!(h.core.version().to_string(), twin(b'a').digest);
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), (0..10).collect::<Vec<_>>());
    assert_eq!(h.opened.len(), 2);
}

/// SW-3.
#[test]
fn a_version_that_fails_on_probation_goes_home() {
    let (mut h, c, segment) = with_staged_rows();
    let before = h.core.version().clone();
    h.swap(&twin(b'a'));
    h.traps = vec![h.turns + 1];
    h.tick();
    assert_eq!(h.core.version(), &before);
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), (0..10).collect::<Vec<_>>());
}

/// Each switch breaks one promise; the test that proves the promise must then fail.
#[test]
fn every_switch_turns_its_test_red() {
    let table = [
        ("ignore-pins", "a_component_that_forgets_its_rows_cannot_move_the_checkpoint"),
        ("trust-filters", "a_false_reason_filters_nothing"),
        ("checkpoints-move-back", "a_checkpoint_never_moves_back"),
        ("ignore-terms", "an_older_term_can_change_nothing"),
        ("consume-ahead", "the_consume_checkpoint_stays_behind_every_channel"),
        ("flush-with-staged-rows", "a_segment_is_not_complete_with_rows_staged_after_the_flush"),
        ("own-ids", "positions_are_last_confirmed_ids"),
        ("save-before-write", "files_exist_before_the_coordinator_hears_of_them"),
        ("detach-stops-all", "a_detached_channel_does_not_stop_its_neighbour"),
        ("read-over-budget", "over_budget_reading_stops_and_goes_on_when_there_is_room"),
        ("journal-forgets", "a_rebuilt_instance_gives_the_intents_that_the_journal_has"),
        ("cut-groups", "the_same_log_gives_the_same_files_whatever_the_pages_and_deliveries"),
        ("rows-by-page", "the_same_log_gives_the_same_files_whatever_the_pages_and_deliveries"),
        ("trust-successors", "a_successor_that_does_not_hold_what_the_ledger_has_does_not_follow"),
        ("never-roll-back", "a_version_that_fails_on_probation_goes_home"),
        ("needs-snapshot", "a_swap_needs_no_snapshot_of_the_old_version"),
    ];
    assert_eq!(table.map(|(switch, _)| switch), switches::ALL.map(|(name, _)| name), "every switch has its test");
    let running: Vec<_> = table
        .map(|(switch, test)| {
            let this = std::env::current_exe().expect("this test");
            let mut command = Command::new(this);
            command
                .args([test, "--exact"])
                .env("TIDEGATE_BREAK", switch)
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            (switch, test, command.spawn().expect("this test runs"))
        })
        .into_iter()
        .collect();
    for (switch, test, mut child) in running {
        assert!(!child.wait().expect("it ends").success(), "{test} passes with {switch}: it proves nothing");
    }
}
