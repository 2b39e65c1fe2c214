//! What must not stick, starve or overflow: peers that fail for ever, components that ask without end, headers that claim too much.

use tidegate_core::calls::{Call, CallError, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Phase, Work};
use tidegate_core::turn::FilterReason;
use tidegate_message::{WalName, build, properties};
use tidegate_tests::harness::{Harness, PCHANNEL, Verdict, config};
use tidegate_tests::rows::schema;

fn started_with(limits: Limits, collections: usize) -> (Harness, Vec<CollectionInfo>) {
    let mut h = Harness::new(config(), Limits { not_found_tolerance: 0, ..limits });
    let made = (0..collections).map(|n| h.create_collection(&schema(&format!("c{n}")), 1)).collect();
    h.start();
    (h, made)
}

fn vchannel(c: &CollectionInfo) -> String {
    c.shards[0].vchannel.clone()
}

fn keys(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Writes for one collection fail, those of the others do not.
fn failing_writes(of: &[i64]) -> Box<dyn FnMut(&Work) -> Verdict> {
    let of = of.to_vec();
    Box::new(move |work| match work {
        Work::Write(job) if of.contains(&job.collection) => Verdict::Fail(CallError::Transient("the disk is full".into())),
        _ => Verdict::Do,
    })
}

#[test]
fn an_alter_wal_seals_everything_and_the_pchannel_stops_in_the_state_log_moved() {
    let (mut h, c) = started_with(Limits::default(), 2);
    let segments = [h.create_segment(&c[0], 0), h.create_segment(&c[1], 0)];
    h.append_insert(&c[0], 0, segments[0], 0..10);
    h.append_insert(&c[1], 0, segments[1], 10..20);
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    let last = h.append(build::alter_wal(PCHANNEL, WalName::Kafka));
    // While the rows are being written, time goes on: what follows is read by nobody, and asks for no turn after turn.
    for _ in 0..3 {
        h.tick();
    }
    assert_eq!(h.core.phase(), &Phase::Working);
    let turns = h.turns;
    h.tick();
    assert!(h.turns <= turns + 1, "messages that nobody takes are offered once");
    h.release();
    assert_eq!(h.core.phase(), &Phase::LogMoved, "{:#?}", h.core.status());
    assert_eq!(segments.map(|s| h.state(s)), [Some(SegmentState::Flushed); 2]);
    assert_eq!((h.flushed_keys(&c[0]), h.flushed_keys(&c[1])), (keys(0..10), keys(10..20)));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= last));
    assert!(h.ledger_closed());
}

#[test]
fn a_flush_of_everything_does_not_wait_for_segments_of_rows_that_were_filtered() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let c = &c[0];
    let foreign = CollectionInfo { id: c.id + 1, ..c.clone() };
    h.append_insert(&foreign, 0, 777, 0..10);
    h.append(build::drop_partition(&vchannel(c), c.id, c.partitions[0].id));
    h.append_insert(c, 0, 778, 0..10);
    let tick = h.append(build::flush_all(PCHANNEL));
    h.tick();
    h.pass_ms(2_000);
    h.tick();
    assert_eq!(h.filtered(&vchannel(c), FilterReason::ForeignCollection), 10);
    assert_eq!(h.filtered(&vchannel(c), FilterReason::DroppedPartition), 10);
    assert!(h.checkpoint(&vchannel(c)) >= Some(tick), "{:#?}", h.core.status());
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
}

#[test]
fn a_write_that_fails_for_ever_leaves_its_place_to_its_neighbours() {
    let (mut h, c) = started_with(Limits { writes_max: 1, ..Limits::default() }, 2);
    let segments = [h.create_segment(&c[0], 0), h.create_segment(&c[1], 0)];
    h.tick();
    h.verdict = failing_writes(&[c[0].id]);
    h.append_insert(&c[0], 0, segments[0], 0..10);
    h.append_insert(&c[1], 0, segments[1], 0..10);
    h.append(build::manual_flush(&vchannel(&c[0]), c[0].id, 0, &segments[..1]));
    let tick = h.append(build::manual_flush(&vchannel(&c[1]), c[1].id, 0, &segments[1..]));
    h.tick();
    assert_eq!(h.flushed_keys(&c[1]), keys(0..10), "IS-1");
    assert!(h.checkpoint(&vchannel(&c[1])) >= Some(tick), "IS-1");
    assert_eq!(h.flushed_keys(&c[0]), keys(0..0));
    h.release();
    for _ in 0..3 {
        h.wake();
        h.run();
    }
    assert_eq!(h.flushed_keys(&c[0]), keys(0..10), "{:#?}", h.core.status());
    assert!(h.ledger_closed());
}

#[test]
fn of_channels_that_fill_the_budget_with_failing_work_the_largest_is_given_up_and_reading_goes_on() {
    let limits = Limits { bytes_max: 64 << 10, writes_max: 2, ..Limits::default() };
    let (mut h, c) = started_with(limits, 3);
    let segments: Vec<i64> = c.iter().map(|c| h.create_segment(c, 0)).collect();
    h.tick();
    h.verdict = failing_writes(&[c[0].id, c[1].id]);
    h.delivery_max = 1;
    for n in 0..100 {
        for (nth, at) in [(0, 0), (1, 0), (2, 1)] {
            let next = n * 60 + nth * 20;
            h.append_insert(&c[at], 0, segments[at], next..next + 20);
            h.append(build::time_tick());
        }
    }
    h.append_insert(&c[2], 0, segments[2], 0..10);
    let tick = h.append(build::manual_flush(&vchannel(&c[2]), c[2].id, 0, &segments[2..]));
    h.tick();
    assert!(h.is_detached(&vchannel(&c[0])), "{:#?}", h.core.status());
    assert_eq!(h.flushed_keys(&c[2]), keys(0..10), "IS-1: {:#?}", h.core.status());
    assert!(h.checkpoint(&vchannel(&c[2])) >= Some(tick), "IS-1");
    assert!(h.core.held_bytes() < 2 * (64 << 10), "ME-1: a channel that was given up holds nothing: {}", h.core.held_bytes());
    // What was given up is met again by the next recovery.
    h.verdict = Box::new(|_| Verdict::Do);
    h.crash();
    h.flush(&c[0], 0, &segments[..1]);
    let mut flushed = h.flushed_keys(&c[0]);
    flushed.dedup();
    assert_eq!(flushed.len(), 100 * 40);
}

#[test]
fn a_header_that_claims_more_rows_than_its_body_has_bytes_is_set_aside_and_counted_as_far_as_it_can_be() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let c = &c[0];
    let segment = h.create_segment(c, 0);
    for _ in 0..2 {
        let mut message = h.insert(c, 0, segment, 0..10);
        let claim = build::InsertAssignment { collection: c.id, partition: c.partitions[0].id, segment, rows: u64::MAX, bytes: 0 };
        message.properties = build::insert(&vchannel(c), &claim, &[], &[]).properties;
        h.append(message);
    }
    h.append_insert(c, 0, segment, 10..20);
    h.flush(c, 0, &[segment]);
    assert_eq!(h.dead_letters.len(), 2);
    assert!(h.dead_letters.iter().all(|letter| letter.properties.contains_key(properties::HEADER) && !letter.payload.is_empty()));
    assert_eq!(h.flushed_keys(c), keys(10..20));
    let inserts = h.ledger(&vchannel(c)).inserts;
    assert!(inserts.is_closed() && inserts.quarantined > 0 && inserts.quarantined < 10_000, "{inserts:?}");
}

#[test]
fn a_component_that_asks_to_be_called_again_without_doing_anything_comes_to_rest() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let c = &c[0];
    h.lie = Some(Box::new(|_, output| output.report.more = true));
    let segment = h.create_segment(c, 0);
    h.append_insert(c, 0, segment, 0..10);
    h.flush(c, 0, &[segment]);
    assert_eq!(h.flushed_keys(c), keys(0..10));
    let turns = h.turns;
    h.run();
    assert_eq!(h.turns, turns);
}

#[test]
fn a_component_that_never_takes_a_message_stalls_and_loses_nothing() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let c = &c[0];
    h.lie = Some(Box::new(|_, output| {
        output.taken = 0;
        output.intents.clear();
    }));
    let segment = h.create_segment(c, 0);
    h.append_insert(c, 0, segment, 0..10);
    h.append(build::manual_flush(&vchannel(c), c.id, 0, &[segment]));
    h.tick();
    assert_eq!((h.checkpoint(&vchannel(c)), h.flushed_keys(c)), (None, keys(0..0)));
    h.lie = None;
    h.crash();
    h.run();
    assert_eq!(h.flushed_keys(c), keys(0..10));
    assert!(h.ledger_closed());
}

#[test]
fn rows_in_an_encrypted_message_detach_their_channel_and_its_neighbour_goes_on() {
    let (mut h, c) = started_with(Limits::default(), 2);
    let segments = [h.create_segment(&c[0], 0), h.create_segment(&c[1], 0)];
    let mut message = h.insert(&c[0], 0, segments[0], 0..10);
    message.properties.insert(properties::CIPHER.to_owned(), "CAE=".to_owned());
    h.append(message);
    h.append_insert(&c[1], 0, segments[1], 0..10);
    let tick = h.flush(&c[1], 0, &segments[1..]);
    assert!(h.is_detached(&vchannel(&c[0])), "{:?}", h.notices);
    assert_eq!(h.flushed_keys(&c[1]), keys(0..10));
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < tick), "CK-3");
}

#[test]
fn rows_on_no_shards_vchannel_are_set_aside_and_not_passed_over_in_silence() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let c = &c[0];
    let segment = h.create_segment(c, 0);
    for nth in 0..3 {
        let mut message = h.insert(c, 0, segment, 0..10);
        match nth {
            0 => drop(message.properties.remove(properties::VCHANNEL)),
            1 => drop(message.properties.insert(properties::VCHANNEL.to_owned(), format!("{PCHANNEL}_vcchan"))),
            _ => drop(message.properties.insert(properties::PCHANNEL_LEVEL.to_owned(), String::new())),
        }
        h.append(message);
    }
    h.append_insert(c, 0, segment, 10..20);
    h.flush(c, 0, &[segment]);
    assert_eq!(h.dead_letters.len(), 3, "{:?}", h.notices);
    assert_eq!(h.flushed_keys(c), keys(10..20));
}

#[test]
fn a_channel_whose_recovery_keeps_failing_does_not_hold_up_the_others() {
    let (mut h, c) = started_with(Limits::default(), 2);
    let segments = [h.create_segment(&c[0], 0), h.create_segment(&c[1], 0)];
    h.append_insert(&c[0], 0, segments[0], 0..10);
    h.append_insert(&c[1], 0, segments[1], 0..10);
    h.tick();
    let silent = vchannel(&c[0]);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == silent => Verdict::Fail(CallError::Transient("no answer".into())),
        _ => Verdict::Do,
    });
    h.crash();
    assert_eq!(h.core.phase(), &Phase::Working, "{:#?}", h.core.status());
    let tick = h.flush(&c[1], 0, &segments[1..]);
    assert_eq!((h.flushed_keys(&c[0]), h.flushed_keys(&c[1])), (keys(0..0), keys(0..10)));
    assert!(h.is_detached(&vchannel(&c[0])));
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < tick), "CK-3: what was not recovered holds the consume checkpoint");
    h.verdict = Box::new(|_| Verdict::Do);
    h.crash();
    h.flush(&c[0], 0, &segments[..1]);
    assert_eq!(h.flushed_keys(&c[0]), keys(0..10), "FL-2");
}

#[test]
fn a_coordinator_that_answers_nobody_is_waited_for() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let mut failures = 30;
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { .. }) if failures > 0 => {
            failures -= 1;
            Verdict::Fail(CallError::Transient("no answer".into()))
        }
        _ => Verdict::Do,
    });
    h.crash();
    assert_eq!((h.core.phase(), h.is_detached(&vchannel(&c[0]))), (&Phase::Working, false));
}

#[test]
fn what_holds_a_channel_is_known_while_a_component_that_was_lost_is_replaced() {
    let (mut h, c) = started_with(Limits::default(), 1);
    let segment = h.create_segment(&c[0], 0);
    h.append_insert(&c[0], 0, segment, 0..10);
    h.tick();
    h.verdict = Box::new(|work| if matches!(work, Work::Call(Call::VChannels)) { Verdict::Hold } else { Verdict::Do });
    // Twice with its page, and twice with its completions alone: no message is to blame.
    h.traps = (1..=4).map(|n| h.turns + n).collect();
    h.pass_ms(2_000);
    h.tick();
    assert_eq!(h.core.phase(), &Phase::InRecovery, "the new instance has asked for its channels");
    let status = h.core.status();
    let [channel] = &status.channels[..] else { panic!("{status:#?}") };
    assert_eq!((channel.vchannel.as_str(), channel.standing.as_str()), (vchannel(&c[0]).as_str(), "recovering"));
    assert!(channel.pin.contains("10 rows"), "{}", channel.pin);
    h.release();
    assert_eq!(h.core.status().channels[0].standing, "served");
}
