//! From a failure back to work: nothing is lost, nothing is doubled, and neighbours do not notice.

use tidegate::engine::GuestConfig;
use tidegate_core::calls::{Call, CallError, Caller, Reply, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Action, Event, Limits, Pchannel, Phase, Work};
use tidegate_core::turn::{FilterReason, Intent, TurnOutput, TurnReport};
use tidegate_message::columns::PrimaryKey;
use tidegate_message::{MessageId, build};
use tidegate_tests::harness::{Harness, PCHANNEL, Verdict, config};
use tidegate_tests::rows::schema;

fn transient() -> CallError {
    CallError::Transient("the peer is not there".into())
}

fn permanent() -> CallError {
    CallError::Permanent("the peer does not want it".into())
}

fn keys(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Two collections of one shard each, started.
fn pair() -> (Harness, CollectionInfo, CollectionInfo) {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    (h, c, d)
}

fn vchannel(c: &CollectionInfo) -> String {
    c.shards[0].vchannel.clone()
}

/// Answers the recovery questions about one channel with an error.
fn unrecovered(v: String, error: CallError) -> Box<dyn FnMut(&Work) -> Verdict> {
    Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == v => Verdict::Fail(error.clone()),
        _ => Verdict::Do,
    })
}

#[test]
fn of_three_channels_the_one_with_a_position_is_served_and_the_log_brings_the_second() {
    let mut h = Harness::default();
    let (c, d, e) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1), h.create_collection(&schema("e"), 1));
    let (later, missing) = (vchannel(&d), vchannel(&e));
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == later => Verdict::Fail(CallError::NotAvailable("no position".into())),
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == missing => Verdict::Fail(CallError::NotFound("no collection".into())),
        _ => Verdict::Do,
    });
    h.start();
    let segments = [h.create_segment(&c, 0), h.create_segment(&d, 0), h.create_segment(&e, 0)];
    for (collection, segment) in [&c, &d, &e].into_iter().zip(segments) {
        h.append_insert(collection, 0, segment, 0..10);
        h.flush(collection, 0, &[segment]);
    }
    let tick = h.append(build::drop_collection(&vchannel(&c), c.id));
    h.tick();
    assert_eq!(h.count("alloc-segment"), 2, "once a CreateSegment of the two channels that are served");
    assert_eq!(h.count("drop-channel"), 1);
    assert_eq!((h.flushed_keys(&d), h.state(segments[2])), (keys(0..10), None));
    assert_eq!(h.filtered(&vchannel(&e), FilterReason::UnknownChannel), 10);
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
    h.pass_ms(2_000);
    h.tick();
    h.tick();
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick > tick), "{:#?}", h.core.status());
    assert!(h.ledger_closed());
}

#[test]
fn a_channel_not_found_is_asked_for_again_before_it_is_believed() {
    let limits = Limits { not_found_tolerance: 2, ..Default::default() };
    let mut h = Harness::new(config(), limits);
    let c = h.create_collection(&schema("c"), 1);
    let mut failures = 2;
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { .. }) if failures > 0 => {
            failures -= 1;
            Verdict::Fail(CallError::NotFound("not yet".into()))
        }
        _ => Verdict::Do,
    });
    h.start();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.flush(&c, 0, &[segment]);
    assert_eq!((h.count("recovery-info"), h.flushed_keys(&c)), (3, keys(0..10)));
}

#[test]
fn a_scan_starts_at_the_smaller_of_the_consume_checkpoint_and_the_channels_positions() {
    let (mut h, c, d) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.flush(&c, 0, &[s]);
    h.append_insert(&d, 0, t, 0..10);
    h.flush(&d, 0, &[t]);
    let consumed = h.consume_checkpoint().expect("a consume checkpoint");
    let channels = [h.checkpoint(&vchannel(&c)), h.checkpoint(&vchannel(&d))];
    assert!(channels.iter().all(|&at| at >= Some(consumed.tick)), "CK-3");
    h.crash();
    assert_eq!(h.opened.last(), Some(&Some(consumed.clone())), "the consume checkpoint is the smaller one");
    // A consume checkpoint that is ahead of a channel does not hide the channel's rows.
    let channels = [h.checkpoint(&vchannel(&c)), h.checkpoint(&vchannel(&d))];
    let ahead = tidegate_core::calls::Position { last_confirmed: MessageId::RocksMq(1_000_000), tick: u64::MAX >> 1 };
    let reply = Reply::Consume(Some(ahead));
    h.verdict =
        Box::new(move |work| if matches!(work, Work::Call(Call::LoadConsume)) { Verdict::Answer(reply.clone()) } else { Verdict::Do });
    h.crash();
    let from = h.opened.last().cloned().flatten().expect("a position");
    assert_eq!(Some(from.tick), channels.into_iter().flatten().min());
}

#[test]
fn without_channels_a_scan_starts_at_the_consume_checkpoint_or_at_the_earliest_record() {
    let mut h = Harness::default();
    h.start();
    assert_eq!(h.opened, [None]);
    for _ in 0..600 {
        h.pass_ms(2_000);
        h.append(build::time_tick());
    }
    h.tick();
    let consumed = h.consume_checkpoint();
    assert!(consumed.is_some(), "a log without channels moves on too");
    assert!(h.count("save-consume-checkpoint") <= 4, "but not with every tick");
    h.crash();
    assert_eq!(h.opened.last(), Some(&consumed));
}

/// Rows, deletes, syncs, flushes, a dropped partition and a dropped collection; `crash` is called between.
fn busy_log(h: &mut Harness, c: &CollectionInfo, d: &CollectionInfo, mut crash: impl FnMut(&mut Harness)) -> Vec<(PrimaryKey, u64)> {
    let (s, t, u) = (h.create_segment(c, 0), h.create_segment(c, 0), h.create_segment(d, 0));
    h.append_insert(c, 0, s, 0..10);
    h.append_insert(d, 0, u, 0..10);
    h.append_insert(c, 0, t, 10..20);
    let first = h.append(build::delete(&vchannel(c), c.id, -1, &[PrimaryKey::Int64(3)]));
    h.tick();
    crash(h);
    h.append_insert(c, 0, s, 20..30);
    h.pass_ms(700_000);
    h.append_insert(c, 0, s, 30..40);
    let second = h.append(build::delete(&vchannel(c), c.id, -1, &[PrimaryKey::Int64(4)]));
    h.flush(c, 0, &[s]);
    h.append(build::drop_collection(&vchannel(d), d.id));
    h.tick();
    crash(h);
    h.flush(c, 0, &[t]);
    crash(h);
    h.verdict = Box::new(|_| Verdict::Do);
    h.release();
    vec![(PrimaryKey::Int64(3), first), (PrimaryKey::Int64(4), second)]
}

#[test]
fn a_process_that_dies_after_any_piece_of_work_loses_no_row_and_doubles_none() {
    // The n-th piece of work is done and its answer lost, later ones are not done; then the process dies.
    let (mut n, mut reached) = (0, true);
    while reached {
        let mut h = Harness::default();
        let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
        let mut seen = 0;
        h.verdict = Box::new(move |_| {
            seen += 1;
            match seen - 1 {
                at if at < n => Verdict::Do,
                at if at == n => Verdict::DoAndFail(transient()),
                _ => Verdict::Hold,
            }
        });
        h.start();
        reached = false;
        let deletes = busy_log(&mut h, &c, &d, |h| {
            if h.held() > 0 {
                reached = true;
                h.verdict = Box::new(|_| Verdict::Do);
                h.crash();
            }
        });
        assert_eq!(h.flushed_keys(&c), keys(0..40), "work {n}: {:#?}", h.core.status());
        let mut stored = h.stored_deletes(&c);
        stored.sort_by_key(|(_, tick)| *tick);
        stored.dedup(); // deletes may be stored twice: the second one deletes nothing
        assert_eq!(stored, deletes, "work {n}");
        assert_eq!(h.flushed_keys(&d), keys(0..0), "work {n}");
        assert!(h.ledger_closed(), "work {n}: {:#?}", h.core.status());
        assert_eq!(h.core.counters().guard_refusals, 0, "work {n}: {:?}", h.notices);
        n += 1;
    }
    assert!(n > 15, "only {n} pieces of work");
}

#[test]
fn a_save_whose_answer_is_lost_is_made_again_and_confirmed() {
    let (mut h, c, d) = pair();
    let mut lost = std::collections::BTreeSet::new();
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::SaveBinlogPaths(save)) if lost.insert((save.segment, save.dml.tick)) => Verdict::DoAndFail(transient()),
        _ => Verdict::Do,
    });
    let tick = busy_log(&mut h, &c, &d, |_| {})[1].1;
    assert_eq!(h.flushed_keys(&c), keys(0..40));
    assert_eq!(h.stored_deletes(&c).len(), 2);
    assert!(h.count("segment") > 0, "a save that was ignored is confirmed by reading back");
    assert!(h.checkpoint(&vchannel(&c)) > Some(tick) && h.ledger_closed());
}

#[test]
fn transient_faults_of_everything_are_tried_again_with_backoff() {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    let mut calls = 0;
    h.verdict = Box::new(move |_| {
        calls += 1;
        if calls % 4 == 0 { Verdict::Do } else { Verdict::Fail(transient()) }
    });
    h.start();
    busy_log(&mut h, &c, &d, |_| {});
    assert_eq!((h.flushed_keys(&c), h.opened.len()), (keys(0..40), 1));
    assert!(h.ledger_closed());
}

#[test]
fn a_growing_segment_of_the_old_architecture_is_sealed_by_a_flush_in_the_log() {
    let (mut h, c, _) = pair();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.tick();
    let caller = Caller { node_id: 1, pchannel: PCHANNEL.into(), term: 1 };
    let (asked, _) = h.coordinator.call(&caller, &Call::RecoveryInfo { vchannel: vchannel(&c) });
    let Ok(Reply::Recovery(mut info)) = asked else { panic!("{asked:?}") };
    info.segments[0].created_by_streaming = false;
    let v = vchannel(&c);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == v => Verdict::Answer(Reply::Recovery(info.clone())),
        _ => Verdict::Do,
    });
    h.crash();
    assert_eq!(h.done.iter().filter(|w| matches!(w, Work::AppendFlush { segment: s, .. } if *s == segment)).count(), 1);
    h.tick();
    assert_eq!((h.state(segment), h.flushed_keys(&c)), (Some(SegmentState::Flushed), keys(0..10)));
    assert!(h.ledger_closed());
}

#[test]
fn a_turn_that_traps_is_handed_out_again_to_an_instance_rebuilt_from_the_journal() {
    for trap in 1..30 {
        let mut h = Harness::default();
        h.traps = vec![trap];
        let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
        h.start();
        busy_log(&mut h, &c, &d, |_| {});
        assert_eq!(h.flushed_keys(&c), keys(0..40), "turn {trap}");
        assert_eq!((h.core.counters().faults, h.opened.len()), (u64::from(trap <= h.turns), 1), "turn {trap}: no recovery");
        assert!(h.ledger_closed() && h.core.counters().guard_refusals == 0, "turn {trap}: {:?}", h.notices);
    }
}

#[test]
fn an_instance_that_traps_twice_on_a_turn_is_replaced_and_recovers() {
    for trap in [2, 5, 8, 13] {
        let mut h = Harness::default();
        h.traps = vec![trap, trap + 1];
        let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
        h.start();
        busy_log(&mut h, &c, &d, |_| {});
        assert_eq!(h.flushed_keys(&c), keys(0..40), "turn {trap}: {:#?} {:?}", h.core.status(), h.notices);
        assert_eq!(h.core.counters().faults, 2);
        assert!(h.ledger_closed(), "turn {trap}");
    }
}

#[test]
fn a_channel_that_cannot_be_recovered_is_detached_alone_and_holds_the_consume_checkpoint() {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    let start = d.shards[0].vchannel.clone();
    h.verdict = unrecovered(start.clone(), permanent());
    h.start();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&d, 0, t, 0..10);
    h.append_insert(&c, 0, s, 0..10);
    h.flush(&d, 0, &[t]);
    let tick = h.flush(&c, 0, &[s]);
    assert!(h.is_detached(&start));
    assert_eq!((h.flushed_keys(&c), h.flushed_keys(&d)), (keys(0..10), keys(0..0)));
    assert!(h.checkpoint(&vchannel(&c)) >= Some(tick), "IS-1: its neighbour goes on");
    assert_eq!((h.consume_checkpoint(), h.truncated.len()), (None, 0), "CK-3");
    assert!(h.turns < 100, "{} turns", h.turns);
    h.verdict = Box::new(|_| Verdict::Do);
    h.crash();
    assert_eq!(h.flushed_keys(&d), keys(0..10), "the next recovery serves it");
    assert!(h.ledger_closed());
}

#[test]
fn a_channel_whose_save_is_refused_is_detached_alone_and_recovered_later() {
    let (mut h, c, d) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&d, 0, t, 0..10);
    h.append_insert(&c, 0, s, 0..10);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::SaveBinlogPaths(save)) if save.segment == t => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    let lost = h.flush(&d, 0, &[t]);
    let tick = h.flush(&c, 0, &[s]);
    h.append_insert(&d, 0, t, 10..20);
    h.tick();
    assert!(h.is_detached(&vchannel(&d)));
    assert!(h.checkpoint(&vchannel(&c)) >= Some(tick), "IS-1");
    assert!(h.checkpoint(&vchannel(&d)) < Some(lost) && h.consume_checkpoint().is_none_or(|p| p.tick < lost), "CK-2, CK-3");
    assert!(h.turns < 100, "{} turns", h.turns);
}

#[test]
fn a_fenced_flusher_does_nothing_more() {
    let (mut h, c, _) = pair();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::SaveBinlogPaths(_)) => Verdict::Fail(CallError::Fenced("term 2".into())),
        _ => Verdict::Do,
    });
    h.flush(&c, 0, &[segment]);
    assert!(matches!(h.core.phase(), Phase::Fenced(_)));
    let done = h.done.len();
    h.pass_ms(10_000);
    h.flush(&c, 0, &[segment]);
    assert_eq!((h.done.len(), h.flushed_keys(&c)), (done, keys(0..0)));
    h.verdict = Box::new(|_| Verdict::Do);
    h.crash();
    assert_eq!(h.flushed_keys(&c), keys(0..10), "the next owner goes on");
}

#[test]
fn a_zombie_of_an_older_term_cannot_save_anything() {
    let (mut h, c, _) = pair();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.coordinator.acquire_term(PCHANNEL).expect("a term");
    h.coordinator.acquire_term(PCHANNEL).expect("a term");
    h.flush(&c, 0, &[segment]);
    assert!(matches!(h.core.phase(), Phase::Fenced(_)), "{:?}", h.core.phase());
    assert_eq!(h.flushed_keys(&c), keys(0..0));
}

#[test]
fn small_pages_recover_as_large_ones_do() {
    let limits = Limits { page_max: 2, not_found_tolerance: 0, ..Default::default() };
    let mut h = Harness::new(GuestConfig { page_max: 2, ..config() }, limits);
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.delivery_max = 1;
    h.start();
    busy_log(&mut h, &c, &d, |h| h.crash());
    assert_eq!(h.flushed_keys(&c), keys(0..40), "{:#?} {:?}", h.core.status(), h.notices);
    assert!(h.ledger_closed());
}

#[test]
fn a_lost_instance_waits_for_a_call_at_a_peer_without_asking_to_be_woken() {
    let (mut h, c, _) = pair();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.verdict = Box::new(|work| if matches!(work, Work::Call(Call::SaveBinlogPaths(_))) { Verdict::Hold } else { Verdict::Do });
    h.flush(&c, 0, &[segment]);
    h.traps = vec![h.turns + 1, h.turns + 2];
    h.tick();
    let soon = h.core.next_wake().filter(|&at| at < tidegate_core::retry::DEADLINE_MS);
    assert_eq!((h.held(), soon), (1, None), "it would be woken all the time: {:?}", h.core.phase());
    h.release();
    assert_eq!((h.flushed_keys(&c), h.core.counters().faults), (keys(0..10), 2));
}

#[test]
fn a_turn_that_ends_after_its_flusher_was_fenced_begins_nothing() {
    let caller = Caller { node_id: 1, pchannel: PCHANNEL.into(), term: 1 };
    let mut core = Pchannel::new(caller, Limits::default());
    let mut step = |event| {
        let mut actions = Vec::new();
        core.step(event, 0, &mut actions);
        actions
    };
    let asks = || TurnOutput { intents: vec![Intent::VChannels], taken: 0, report: TurnReport { more: true, ..TurnReport::default() } };
    step(Event::Start);
    assert!(matches!(step(Event::Built(Ok(())))[..], [Action::Turn(_)]));
    let asked = step(Event::Turned(Ok(asks())));
    let [Action::Begin { id, .. }, Action::Turn(_)] = asked[..] else { panic!("{asked:?}") };
    step(Event::Ended { id, result: Err(CallError::Fenced("term 2".into())) });
    let late = step(Event::Turned(Ok(asks())));
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_stop_at_any_piece_of_work_leaves_no_call_no_bytes_and_begins_nothing() {
    // The n-th piece of work, recovery's first, is held when the stop comes; then it ends.
    let (mut n, mut reached) = (0, true);
    while reached {
        let mut h = Harness::default();
        let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
        let mut seen = 0;
        h.verdict = Box::new(move |_| {
            seen += 1;
            if seen > n { Verdict::Hold } else { Verdict::Do }
        });
        h.start();
        busy_log_until_held(&mut h, &c, &d);
        reached = h.held() > 0;
        h.step(Event::Stop);
        assert_eq!(h.core.next_wake(), None, "work {n}: nothing is waited for any more");
        let (turns, done) = (h.turns, h.done.len());
        let held = h.held();
        h.release();
        h.append(build::time_tick());
        h.run();
        h.wake();
        assert_eq!((h.turns, h.done.len()), (turns, done + held), "work {n}: only what was at a peer ended");
        let status = h.core.status();
        assert_eq!((status.held_bytes, status.in_flight, status.state.as_str()), (0, 0, "closing"), "work {n}: {status:#?}");
        assert!(!h.core.wants_messages() && h.core.next_wake().is_none(), "work {n}");
        n += 1;
    }
    assert!(n > 15, "only {n} pieces of work");
}

/// Rows, deletes, a flush and a dropped collection, until a piece of work is held.
fn busy_log_until_held(h: &mut Harness, c: &CollectionInfo, d: &CollectionInfo) {
    let (s, u) = (h.create_segment(c, 0), h.create_segment(d, 0));
    h.append_insert(c, 0, s, 0..10);
    h.append_insert(d, 0, u, 0..10);
    h.append(build::delete(&vchannel(c), c.id, -1, &[PrimaryKey::Int64(3)]));
    h.tick();
    h.flush(c, 0, &[s]);
    h.pass_ms(2_000);
    h.append(build::drop_collection(&vchannel(d), d.id));
    h.tick();
    h.pass_ms(2_000);
    h.tick();
}
