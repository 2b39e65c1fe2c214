//! A detached channel comes back without a restart: every row once, its batches as if nothing had happened, its neighbours undisturbed.

use tidegate::engine::GuestConfig;
use tidegate_core::calls::{Call, CallError, Reply, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Phase, Work};
use tidegate_core::turn::{FilterReason, Intent};
use tidegate_message::columns::PrimaryKey;
use tidegate_message::{TxnContext, WalName, build, properties};
use tidegate_tests::harness::{Harness, PCHANNEL, Verdict, config};
use tidegate_tests::rows::schema;

const TXN: TxnContext = TxnContext { txn_id: 7, keepalive_ms: 600_000 };

fn limits() -> Limits {
    Limits { not_found_tolerance: 0, ..Limits::default() }
}

/// Two collections of one shard each, started.
fn pair_with(config: GuestConfig, limits: Limits) -> (Harness, CollectionInfo, CollectionInfo) {
    let mut h = Harness::that_rejoins(config, limits);
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    (h, c, d)
}

fn pair() -> (Harness, CollectionInfo, CollectionInfo) {
    pair_with(config(), limits())
}

fn vchannel(c: &CollectionInfo) -> String {
    c.shards[0].vchannel.clone()
}

fn keys(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

fn transient() -> CallError {
    CallError::Transient("the peer is not there".into())
}

fn permanent() -> CallError {
    CallError::Permanent("the peer does not want it".into())
}

/// Every save of a collection is refused.
fn refusing_saves(c: &CollectionInfo) -> Box<dyn FnMut(&Work) -> Verdict> {
    let of = c.id;
    Box::new(move |work| match work {
        Work::Call(Call::SaveBinlogPaths(save)) if save.collection == of => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    })
}

/// Detaches a collection's channel with ten rows in it, and goes on on both channels; returns their segments.
fn detached(h: &mut Harness, c: &CollectionInfo, d: &CollectionInfo) -> (i64, i64) {
    let (s, t) = (h.create_segment(c, 0), h.create_segment(d, 0));
    h.append_insert(c, 0, s, 0..10);
    h.append_insert(d, 0, t, 0..10);
    h.verdict = refusing_saves(c);
    h.flush(c, 0, &[s]);
    assert!(h.is_detached(&vchannel(c)) && !h.is_detached(&vchannel(d)), "{:?}", h.notices);
    (s, t)
}

/// What ails the peers is over: the next tries succeed.
fn heal(h: &mut Harness) {
    h.verdict = Box::new(|_| Verdict::Do);
    h.core.rejoin_now();
    h.run();
}

fn standing(h: &Harness, c: &CollectionInfo) -> String {
    let v = vchannel(c);
    h.core.status().channels.into_iter().find(|s| s.vchannel == v).map(|s| s.standing).unwrap_or_default()
}

/// Lets event time pass until checkpoints are reported.
fn let_report(h: &mut Harness) -> u64 {
    h.pass_ms(5_000);
    h.tick();
    h.pass_ms(5_000);
    h.tick();
    let last = h.tick();
    h.run();
    last
}

/// The channel is served, its ledger closes, no other one is listed by its name, and the consume checkpoint passes.
fn assert_healed(h: &mut Harness, c: &CollectionInfo) {
    let v = vchannel(c);
    assert_eq!(standing(h, c), "served", "{:#?} {:?}", h.core.status(), h.notices);
    let before = h.append(build::flush_all(PCHANNEL));
    h.tick();
    let_report(h);
    assert_eq!(h.core.status().channels.iter().filter(|s| s.vchannel == v).count(), 1);
    assert!(h.ledger_closed(), "LD-1: {:#?}", h.core.status());
    assert!(h.core.accounts().all(|a| a.rejoin.is_none()), "{:#?}", h.core.status());
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= before), "{:?} {before}", h.consume_checkpoint());
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
}

#[test]
fn a_channel_whose_save_was_refused_rejoins_and_has_every_row_once() {
    let (mut h, c, d) = pair();
    let (s, t) = detached(&mut h, &c, &d);
    // A flush completed the segment: what follows goes to another one.
    let next = h.create_segment(&c, 0);
    h.append_insert(&c, 0, next, 10..20);
    h.append_insert(&d, 0, t, 10..20);
    let tick = h.flush(&d, 0, &[t]);
    assert_eq!(h.flushed_keys(&d), keys(0..20), "IS-1");
    assert!(h.checkpoint(&vchannel(&d)) >= Some(tick), "IS-1");
    heal(&mut h);
    h.append_insert(&c, 0, next, 20..30);
    h.flush(&c, 0, &[next]);
    assert_eq!(h.flushed_keys(&c), keys(0..30), "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!((h.state(s), h.state(next)), (Some(SegmentState::Flushed), Some(SegmentState::Flushed)));
    assert_eq!(h.caught_up.last().map(|(v, _)| v.clone()), Some(vchannel(&c)));
    assert_eq!(h.opened.len(), 1, "the main scan went on");
    assert_healed(&mut h, &c);
}

#[test]
fn a_try_that_fails_is_made_again_later_and_the_status_says_when_and_why() {
    let (mut h, c, d) = pair();
    detached(&mut h, &c, &d);
    let v = vchannel(&c);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == v => Verdict::Fail(CallError::Transient("no answer".into())),
        _ => Verdict::Do,
    });
    let asked = h.count("recovery-info");
    h.core.rejoin_now();
    h.run();
    assert_eq!(h.count("recovery-info"), asked + 1, "the tries before have failed so often that the next one is minutes away");
    let of = h.core.status().channels.into_iter().find(|s| s.vchannel == vchannel(&c)).unwrap();
    assert!(of.standing == "detached" && !of.stays_detached, "{of:?}");
    assert!(of.pin.contains("no answer") && of.pin.contains("is due in") && of.pin.contains("the peer does not want it"), "{}", of.pin);
    h.verdict = Box::new(|_| Verdict::Do);
    h.wake();
    h.run();
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    assert_healed(&mut h, &c);
}

#[test]
fn a_channel_whose_recovery_kept_failing_rejoins() {
    let (mut h, c, d) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&d, 0, t, 0..10);
    h.tick();
    let silent = vchannel(&c);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == silent => Verdict::Fail(transient()),
        _ => Verdict::Do,
    });
    h.crash();
    assert!(h.core.phase() == &Phase::Working && h.is_detached(&vchannel(&c)));
    h.append_insert(&c, 0, s, 10..20);
    h.flush(&d, 0, &[t]);
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    heal(&mut h);
    h.flush(&c, 0, &[s]);
    assert_eq!(h.flushed_keys(&c), keys(0..20), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &c);
}

#[test]
fn a_channel_that_filled_the_budget_with_failing_syncs_rejoins_within_a_quarter_of_it() {
    let budget = 64 << 10;
    let limits = Limits { bytes_max: budget, ..limits() };
    let (mut h, c, d) = pair_with(config(), limits);
    h.delivery_max = 1;
    h.catch_up_max = 1;
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    let of = c.id;
    h.verdict = Box::new(move |work| match work {
        Work::Write(job) if job.collection == of => Verdict::Fail(CallError::Transient("the disk is full".into())),
        _ => Verdict::Do,
    });
    let mut last = 0;
    for n in 0..100 {
        h.append_insert(&c, 0, s, n * 20..n * 20 + 20);
        h.append_insert(&d, 0, t, n * 20..n * 20 + 20);
        h.pass_ms(100);
        h.tick();
        let moved = h.checkpoint(&vchannel(&d)).unwrap_or_default();
        assert!(moved >= last && h.core.held_bytes() < budget + (16 << 10), "ME-1: {}", h.core.held_bytes());
        last = moved;
    }
    assert!(h.is_detached(&vchannel(&c)), "{:#?}", h.core.status());
    h.flush(&d, 0, &[t]);
    assert_eq!(h.flushed_keys(&d), keys(0..2_000), "IS-1");
    // It is tried again, and gives its memory back.
    h.core.rejoin_now();
    for _ in 0..30 {
        h.wake();
        h.run();
    }
    assert!(h.is_detached(&vchannel(&c)) && !h.caught_up.is_empty(), "{:#?}", h.core.status());
    assert!(h.notices.iter().any(|n| n.contains("keeps failing while it catches up")), "{:?}", h.notices);
    assert_eq!(h.core.held_bytes(), 0, "{:#?}", h.core.status());
    // While it catches up it holds a quarter, and what comes in one delivery.
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    h.core.rejoin_now();
    h.wake();
    h.run();
    assert_eq!(standing(&h, &c), "rejoining", "{:#?}", h.core.status());
    let held = h.core.accounts().map(|a| a.held_bytes).sum::<usize>();
    assert!(held > 0 && held < budget / 4 + (4 << 10), "ME-1: {held} bytes");
    h.release();
    h.flush(&c, 0, &[s]);
    assert_eq!(h.flushed_keys(&c), keys(0..2_000), "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(standing(&h, &c), "served");
}

#[test]
fn a_channel_whose_schema_was_not_recorded_rejoins() {
    let (mut h, c, d) = pair();
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 0..10);
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::SaveSchema { .. }) => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    h.append(build::schema_change(&vchannel(&c), c.id, &[s], &c.schema));
    h.tick();
    assert!(h.is_detached(&vchannel(&c)), "{:?}", h.notices);
    let next = h.create_segment(&c, 0);
    h.append_insert(&c, 0, next, 10..20);
    h.tick();
    heal(&mut h);
    h.flush(&c, 0, &[next]);
    assert_eq!(h.flushed_keys(&c), keys(0..20), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &c);
    assert_healed(&mut h, &d);
}

#[test]
fn a_channel_that_the_coordinator_learns_of_later_rejoins() {
    let mut h = Harness::that_rejoins(config(), limits());
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let d = h.create_collection(&schema("d"), 1);
    let later = vchannel(&d);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == later => Verdict::Fail(CallError::NotAvailable("no position".into())),
        _ => Verdict::Do,
    });
    // The message that would say where it begins is not the first that is met.
    let created = h.log.remove(h.log.len() - 1);
    let s = h.create_segment(&d, 0);
    h.append_insert(&d, 0, s, 0..10);
    h.tick();
    assert!(h.is_detached(&vchannel(&d)), "{:?}", h.notices);
    assert!(created.properties.contains_key(properties::HEADER));
    heal(&mut h);
    h.flush(&d, 0, &[s]);
    assert_eq!(h.flushed_keys(&d), keys(0..10), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &d);
    assert_healed(&mut h, &c);
}

#[test]
fn a_channel_that_stands_before_the_start_of_the_scan_is_served_by_a_scan_of_its_own_at_once() {
    let mut h = Harness::that_rejoins(config(), limits());
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    let t = h.create_segment(&d, 0);
    h.append_insert(&d, 0, t, 0..10);
    h.append(build::time_tick());
    // The coordinator does not list it at first, so that the scan begins where the other one stands.
    let listed = vchannel(&c);
    let mut lists = 1;
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::VChannels) if lists > 0 => {
            lists -= 1;
            Verdict::Answer(Reply::VChannels(vec![listed.clone()]))
        }
        _ => Verdict::Do,
    });
    h.coordinator_seeks(&vchannel(&c), h.log.len());
    h.start();
    assert!(h.opened[0].is_some(), "{:?}", h.opened);
    h.append_insert(&d, 0, t, 10..20);
    h.tick();
    assert_eq!(h.caught_up.len(), 1, "{:#?} {:?}", h.core.status(), h.notices);
    h.flush(&d, 0, &[t]);
    assert_eq!(h.flushed_keys(&d), keys(0..20), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &d);
}

#[test]
fn deletes_are_read_again_and_each_is_stored() {
    let (mut h, c, d) = pair();
    detached(&mut h, &c, &d);
    let delete = |key: i64| build::delete(&vchannel(&c), c.id, -1, &[PrimaryKey::Int64(key)]);
    h.append(delete(3));
    h.append(delete(4));
    h.tick();
    heal(&mut h);
    h.append(delete(5));
    h.flush(&c, 0, &[]);
    let mut deleted: Vec<PrimaryKey> = h.stored_deletes(&c).into_iter().map(|(key, _)| key).collect();
    deleted.sort();
    assert_eq!(deleted, [3, 4, 5].map(PrimaryKey::Int64), "FL-2");
    assert_healed(&mut h, &c);
}

#[test]
fn a_transaction_that_begins_before_the_join_and_ends_after_it_is_delivered_once_and_whole() {
    let (mut h, c, d) = pair();
    detached(&mut h, &c, &d);
    let v = vchannel(&c);
    let s = h.create_segment(&c, 0);
    h.append(build::with_txn(build::begin_txn(&v, TXN.keepalive_ms), &TXN));
    let first = build::with_txn(h.insert(&c, 0, s, 10..20), &TXN);
    h.append(first);
    h.tick();
    heal(&mut h);
    assert_eq!(standing(&h, &c), "served", "{:#?}", h.core.status());
    let second = build::with_txn(h.insert(&c, 0, s, 20..30), &TXN);
    h.append(second);
    h.append(build::commit_txn(&v, &TXN));
    h.tick();
    h.flush(&c, 0, &[s]);
    assert_eq!(h.flushed_keys(&c), keys(0..30), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &c);
}

#[test]
fn a_catch_up_scan_that_overtakes_the_main_one_leaves_the_rest_to_it() {
    // The main scan stands before, at, or after a message of the channel itself.
    for deliveries in 0..8 {
        let (mut h, c, d) = pair();
        let (_, t) = detached(&mut h, &c, &d);
        (h.delivery_max, h.catch_up_max, h.catch_up_first) = (1, 1 + deliveries % 3, true);
        let s = h.create_segment(&c, 0);
        for n in 1..20 {
            h.append_insert(&d, 0, t, n * 10..n * 10 + 10);
            h.append_insert(&c, 0, s, n * 10..n * 10 + 10);
            if n % 2 == 0 {
                h.append(build::time_tick());
            }
        }
        h.append(build::time_tick());
        h.deliver_times(deliveries);
        h.verdict = Box::new(|_| Verdict::Do);
        h.core.rejoin_now();
        h.wake();
        h.run();
        h.flush(&c, 0, &[s]);
        h.flush(&d, 0, &[t]);
        assert_eq!((h.flushed_keys(&c), h.flushed_keys(&d)), (keys(0..200), keys(0..200)), "{:?}", h.notices);
        let inserts = h.ledger(&vchannel(&c)).inserts;
        assert_eq!((inserts.delivered, inserts.durable), (200, 200), "LD-1: every row was delivered once, {deliveries} deliveries");
        assert_healed(&mut h, &c);
    }
}

#[test]
fn what_the_main_scan_meets_of_a_channel_that_is_behind_is_read_once_and_by_the_other_scan() {
    let (mut h, c, d) = pair();
    let (_, t) = detached(&mut h, &c, &d);
    h.catch_up_max = 0;
    h.verdict = Box::new(|_| Verdict::Do);
    h.core.rejoin_now();
    h.run();
    assert_eq!(standing(&h, &c), "rejoining", "{:#?}", h.core.status());
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 10..20);
    h.append(build::delete(&vchannel(&c), c.id, -1, &[PrimaryKey::Int64(3)]));
    h.append_insert(&d, 0, t, 10..20);
    h.append(build::flush_all(PCHANNEL));
    h.tick();
    assert_eq!((h.state(s), h.state(t)), (None, Some(SegmentState::Flushed)), "{:#?}", h.core.status());
    let behind = h.core.accounts().find(|a| a.name == vchannel(&c)).unwrap();
    assert_eq!((behind.pins.len(), behind.ledger.inserts.pending), (0, 0), "it holds nothing that it has not read itself");
    h.catch_up_max = 1;
    h.run();
    assert_eq!((standing(&h, &c), h.state(s)), ("served".to_owned(), Some(SegmentState::Flushed)), "{:?}", h.notices);
    let ledger = h.ledger(&vchannel(&c));
    assert_eq!((h.flushed_keys(&c), ledger.inserts.durable, ledger.deletes.durable), (keys(0..20), 20, 1), "LD-1");
    assert_healed(&mut h, &c);
}

#[test]
fn a_checkpoint_of_a_channel_that_is_behind_at_a_place_that_only_its_neighbours_passed_has_no_effect() {
    let (mut h, c, d) = pair();
    let (_, t) = detached(&mut h, &c, &d);
    // It is behind, and nothing of it was delivered yet.
    h.catch_up_max = 0;
    h.verdict = Box::new(|_| Verdict::Do);
    h.core.rejoin_now();
    h.run();
    assert_eq!(standing(&h, &c), "rejoining", "{:#?}", h.core.status());
    let index = h.core.channel_index(&vchannel(&c)).unwrap();
    h.lie = Some(Box::new(move |input, output| {
        let last = input.page.first + output.taken as u64;
        if output.taken > 0 {
            output.intents.push(Intent::Report(vec![(index, last - 1)]));
        }
    }));
    let before = h.checkpoint(&vchannel(&c));
    h.append_insert(&d, 0, t, 10..20);
    h.tick();
    assert_eq!(h.checkpoint(&vchannel(&c)), before, "CK-2");
    h.lie = None;
    h.catch_up_max = 512;
    h.run();
    assert_eq!((standing(&h, &c), h.flushed_keys(&c)), ("served".to_owned(), keys(0..10)));
}

#[test]
fn a_flush_of_everything_that_was_missed_is_made_up_for() {
    let (mut h, c, d) = pair();
    detached(&mut h, &c, &d);
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 10..20);
    h.append(build::flush_all(PCHANNEL));
    h.tick();
    heal(&mut h);
    assert_eq!(h.state(s), Some(SegmentState::Flushed), "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(h.flushed_keys(&c), keys(0..20));
    assert_healed(&mut h, &c);
}

#[test]
fn a_log_that_moves_waits_for_the_channel_that_reads_it_again() {
    let (mut h, c, d) = pair();
    let (_, t) = detached(&mut h, &c, &d);
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 10..20);
    h.append(build::alter_wal(PCHANNEL, WalName::Kafka));
    h.tick();
    assert_eq!((h.core.phase(), h.state(t)), (&Phase::Working, Some(SegmentState::Flushed)), "CK-3");
    heal(&mut h);
    assert_eq!(h.core.phase(), &Phase::LogMoved, "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!((h.flushed_keys(&c), h.flushed_keys(&d)), (keys(0..20), keys(0..10)));
    assert!(h.ledger_closed());
}

#[test]
fn a_malformed_flush_of_everything_detaches_every_channel_and_all_of_them_rejoin() {
    for channel in ["", PCHANNEL] {
        let (mut h, c, d) = pair();
        let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
        h.append_insert(&c, 0, s, 0..10);
        h.append_insert(&d, 0, t, 0..10);
        let mut message = build::flush_all(channel);
        message.properties.insert(properties::VERSION.into(), "9".into());
        h.append(message);
        h.append(build::time_tick());
        h.run();
        assert_eq!(h.notices.iter().filter(|n| n.contains("is detached: a malformed control message")).count(), 2, "{:?}", h.notices);
        h.flush(&c, 0, &[s]);
        h.flush(&d, 0, &[t]);
        assert_eq!((h.flushed_keys(&c), h.flushed_keys(&d)), (keys(0..10), keys(0..10)), "{:#?} {:?}", h.core.status(), h.notices);
        assert_healed(&mut h, &c);
        assert_healed(&mut h, &d);
        assert_eq!(h.notices.iter().filter(|n| n.contains("is detached")).count(), 2, "who reads it again detaches nobody");
    }
}

#[test]
fn a_message_that_nobody_can_read_is_not_tried_again_by_time_but_when_something_changed() {
    let (mut h, c, d) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&c, 0, s, 0..10);
    let mut message = build::drop_partition(&vchannel(&c), c.id, c.partitions[0].id);
    message.properties.insert(properties::HEADER.into(), "?".into());
    h.append(message);
    h.append_insert(&d, 0, t, 0..10);
    let tick = h.flush(&d, 0, &[t]);
    let of = h.core.status().channels.into_iter().find(|s| s.vchannel == vchannel(&c)).unwrap();
    assert!(of.standing == "detached" && of.stays_detached, "{of:?}");
    assert_eq!(h.caught_up.len(), 0);
    h.core.rejoin_now();
    h.run();
    assert_eq!(h.caught_up.len(), 1);
    assert!(h.is_detached(&vchannel(&c)), "it is in the way still");
    assert!(h.checkpoint(&vchannel(&d)) >= Some(tick), "IS-1");
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < tick), "CK-3");
}

#[test]
fn the_consume_checkpoint_does_not_pass_a_channel_that_is_behind_and_moves_after_it_joined() {
    let (mut h, c, d) = pair();
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 0..10);
    let lost = h.tick();
    let (_, t) = detached(&mut h, &c, &d);
    for n in 1..20 {
        h.append_insert(&c, 0, s, n * 10..n * 10 + 10);
        h.append_insert(&d, 0, t, n * 10..n * 10 + 10);
        h.pass_ms(1_000);
        h.tick();
    }
    h.flush(&d, 0, &[t]);
    let held = h.consume_checkpoint();
    assert!(held.as_ref().is_none_or(|p| p.tick <= lost), "CK-3: {held:?}");
    // It reads again and joins, while nothing of it becomes durable.
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    h.core.rejoin_now();
    h.run();
    assert_eq!(standing(&h, &c), "served", "{:#?}", h.core.status());
    for _ in 0..5 {
        let_report(&mut h);
        assert_eq!(h.consume_checkpoint(), held, "CK-3");
    }
    assert!(h.core.accounts().any(|a| a.rejoin.is_some()));
    let moved = h.checkpoint(&vchannel(&d)).unwrap();
    assert!(moved > lost + (5_000 << 18), "IS-1");
    h.release();
    h.flush(&c, 0, &[s]);
    assert_healed(&mut h, &c);
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= moved), "{:?}", h.consume_checkpoint());
    assert_eq!(h.flushed_keys(&c).len(), 210);
}

#[test]
fn a_late_save_of_a_detached_channel_is_waited_for_and_doubles_nothing() {
    let (mut h, c, d) = pair();
    let (s, u) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&c, 0, u, 10..20);
    // One save is at the coordinator for long, the other one is refused and detaches the channel.
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::SaveBinlogPaths(save)) if save.segment == s => Verdict::Hold,
        Work::Call(Call::SaveBinlogPaths(save)) if save.segment == u => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    h.flush(&c, 0, &[s, u]);
    assert!(h.is_detached(&vchannel(&c)) && h.held() == 1, "{:?}", h.notices);
    let asked = h.count("recovery-info");
    h.core.rejoin_now();
    h.run();
    h.run();
    assert_eq!((h.count("recovery-info"), h.caught_up.len()), (asked, 0), "the save may still change what would be read");
    // Now it arrives, long after its answer was given up.
    h.release();
    h.run();
    assert_eq!(h.flushed_keys(&c), keys(0..20), "{:#?} {:?}", h.core.status(), h.notices);
    assert_healed(&mut h, &c);
    assert_healed(&mut h, &d);
}

#[test]
fn a_collection_that_is_dropped_while_its_channel_is_detached_is_dropped_when_that_rejoins() {
    for catch_up_max in [1, 512] {
        let (mut h, c, d) = pair();
        h.catch_up_max = catch_up_max;
        let (_, t) = detached(&mut h, &c, &d);
        h.append(build::drop_collection(&vchannel(&c), c.id));
        h.tick();
        assert!(h.is_detached(&vchannel(&c)));
        heal(&mut h);
        assert_eq!(standing(&h, &c), "dropped", "{:#?} {:?}", h.core.status(), h.notices);
        assert_eq!(h.count("drop-channel"), 1);
        h.flush(&d, 0, &[t]);
        assert_healed(&mut h, &d);
    }
}

#[test]
fn a_detached_channel_that_the_coordinator_has_dropped_holds_nothing_any_more() {
    let (mut h, c, d) = pair();
    let (_, t) = detached(&mut h, &c, &d);
    let v = vchannel(&c);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if *vchannel == v => Verdict::Fail(CallError::Dropped("it is gone".into())),
        _ => Verdict::Do,
    });
    h.core.rejoin_now();
    h.run();
    let s = h.create_segment(&c, 0);
    h.append_insert(&c, 0, s, 10..20);
    h.flush(&d, 0, &[t]);
    assert_eq!(standing(&h, &c), "dropped", "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(h.filtered(&vchannel(&c), FilterReason::DroppedChannel), 20);
    assert_healed(&mut h, &d);
}

/// A segment's files, as [`Harness::contents`] gives them.
type Contents = Vec<(&'static str, i64, Vec<u8>)>;

/// A log with two channels, one of which may be detached in the middle; what is in the segments of that one.
fn files_of(detach: bool, catch_up_max: usize) -> Vec<(i64, Contents)> {
    let small = GuestConfig { insert_bytes_max: 4_000, sync_period_ms: 3_000, ..config() };
    let (mut h, c, d) = pair_with(small, limits());
    h.catch_up_max = catch_up_max;
    let segments = [h.create_segment(&c, 0), h.create_segment(&c, 0), h.create_segment(&c, 0)];
    let t = h.create_segment(&d, 0);
    h.tick();
    let of = segments[2];
    for n in 0..60 {
        if n == 20 && detach {
            h.verdict = refusing_saves(&c);
        }
        h.append_insert(&c, 0, segments[0], n * 100..n * 100 + 1 + n % 7);
        if n % 3 == 0 {
            h.append_insert(&c, 0, segments[1], n * 100 + 20..n * 100 + 40);
        }
        if n % 20 == 10 {
            h.append_insert(&c, 0, of, n * 100 + 50..n * 100 + 60);
        }
        h.append_insert(&d, 0, t, n * 100..n * 100 + 50);
        h.pass_ms(if n % 8 == 0 { 1_700 } else { 70 });
        h.tick();
        if n == 45 && detach {
            assert_ne!(standing(&h, &c), "served", "{:?}", h.notices);
            heal(&mut h);
        }
        if n > 45 && detach {
            // Of a scan that trickles, some messages come between those of the others.
            h.catch_up_times(6);
            h.run();
        }
    }
    h.catch_up_max = 512;
    h.run();
    assert_eq!(standing(&h, &c), "served");
    h.append(build::manual_flush(&vchannel(&c), c.id, 0, &segments));
    h.flush(&d, 0, &[t]);
    assert!(h.ledger_closed(), "{:#?}", h.core.status());
    segments.map(|s| (s, h.contents(s))).into()
}

#[test]
fn the_batches_of_a_channel_that_was_detached_are_those_of_one_that_was_not() {
    let expected = files_of(false, 512);
    let files = expected.iter().map(|(_, files)| files.iter().filter(|f| f.0 == "insert" && f.1 == 100).count());
    assert!(files.clone().sum::<usize>() > 12, "{:?}: batches end by size and by time", files.collect::<Vec<_>>());
    for catch_up_max in [512, 1, 0] {
        let found = files_of(true, catch_up_max);
        for (a, b) in expected.iter().zip(&found) {
            let sizes = |files: &[(&'static str, i64, Vec<u8>)]| files.iter().map(|f| (f.0, f.1, f.2.len())).collect::<Vec<_>>();
            assert_eq!(sizes(&a.1), sizes(&b.1), "FL-3: segment {}, deliveries of {catch_up_max}", a.0);
            assert!(a.1 == b.1, "FL-3: segment {} has other bytes", a.0);
        }
    }
}

/// Two channels, one detached and with rows to read again, in small deliveries.
fn about_to_rejoin() -> (Harness, CollectionInfo, CollectionInfo, i64, i64) {
    let (mut h, c, d) = pair_with(GuestConfig { insert_bytes_max: 2_000, ..config() }, limits());
    h.catch_up_max = 2;
    let (_, t) = detached(&mut h, &c, &d);
    let s = h.create_segment(&c, 0);
    for n in 1..10 {
        h.append_insert(&c, 0, s, n * 10..n * 10 + 10);
        h.append_insert(&d, 0, t, n * 10..n * 10 + 10);
        h.pass_ms(400);
        h.tick();
    }
    h.append(build::delete(&vchannel(&c), c.id, -1, &[PrimaryKey::Int64(5)]));
    h.tick();
    (h, c, d, s, t)
}

fn assert_complete(h: &mut Harness, c: &CollectionInfo, d: &CollectionInfo, s: i64, t: i64, when: &str) {
    h.append(build::manual_flush(&vchannel(c), c.id, 0, &[s]));
    h.flush(d, 0, &[t]);
    let_report(h);
    assert_eq!(h.flushed_keys(c), keys(0..100), "{when}: {:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(h.flushed_keys(d), keys(0..100), "{when}");
    let deletes = h.stored_deletes(c);
    assert!(deletes.iter().any(|(key, _)| *key == PrimaryKey::Int64(5)), "{when}: {deletes:?}");
    assert!(h.ledger_closed(), "{when}: {:#?}", h.core.status());
}

#[test]
fn a_crash_at_any_piece_of_work_of_a_rejoin_loses_and_doubles_nothing() {
    let mut reached = 0;
    for crash_at in 0.. {
        let (mut h, c, d, s, t) = about_to_rejoin();
        let done = h.done.len();
        let mut left = crash_at;
        // From that one on nothing is done any more, as in a process that is dead.
        h.verdict = Box::new(move |_| match left {
            0 => Verdict::Hold,
            _ => {
                left -= 1;
                Verdict::Do
            }
        });
        h.core.rejoin_now();
        h.run();
        let through = h.held() == 0;
        h.verdict = Box::new(|_| Verdict::Do);
        reached = h.done.len() - done;
        h.crash();
        assert_complete(&mut h, &c, &d, s, t, &format!("crash after {crash_at} pieces of work"));
        if through {
            break;
        }
    }
    assert!(reached > 6, "{reached} pieces of work");
}

#[test]
fn an_instance_that_is_lost_while_a_channel_is_behind_is_rebuilt_or_replaced() {
    for (traps, deliveries) in [(1, 1), (1, 4), (2, 1), (2, 4)] {
        let (mut h, c, d, s, t) = about_to_rejoin();
        h.verdict = Box::new(|_| Verdict::Do);
        h.traps = (1..=traps).map(|nth| h.turns + deliveries + nth).collect();
        h.core.rejoin_now();
        h.run();
        assert_eq!(h.core.counters().faults, traps, "{:?}", h.notices);
        assert_complete(&mut h, &c, &d, s, t, &format!("{traps} traps after {deliveries} turns"));
    }
}

#[test]
fn a_stop_and_a_newer_term_end_a_catch_up() {
    let (mut h, c, _, _, _) = about_to_rejoin();
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::SaveBinlogPaths(_)) => Verdict::Fail(CallError::Fenced("term 2".into())),
        _ => Verdict::Do,
    });
    h.core.rejoin_now();
    h.run();
    assert!(matches!(h.core.phase(), Phase::Fenced(_)), "{:?}", h.notices);
    assert!(!h.core.wants_catch_up());
    h.verdict = Box::new(|_| Verdict::Do);
    h.crash();
    assert_eq!(standing(&h, &c), "served");
}

#[test]
fn channels_rejoin_one_after_the_other() {
    let mut h = Harness::that_rejoins(config(), limits());
    let made: Vec<CollectionInfo> = (0..5).map(|n| h.create_collection(&schema(&format!("c{n}")), 1)).collect();
    h.start();
    let segments: Vec<i64> = made.iter().map(|c| h.create_segment(c, 0)).collect();
    for (c, &s) in made.iter().zip(&segments) {
        h.append_insert(c, 0, s, 0..10);
    }
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::SaveBinlogPaths(_)) => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    h.append(build::flush_all(PCHANNEL));
    h.tick();
    assert!(made.iter().all(|c| h.is_detached(&vchannel(c))), "{:#?}", h.core.status());
    heal(&mut h);
    assert_eq!(h.caught_up.iter().map(|(v, _)| v).collect::<std::collections::BTreeSet<_>>().len(), 5);
    for c in &made {
        assert_eq!(h.flushed_keys(c), keys(0..10), "{:#?} {:?}", h.core.status(), h.notices);
        assert_healed(&mut h, c);
    }
}

/// Files of a segment of a channel that is met in the log, with its recovery answer at once or after its messages.
fn met(late: bool) -> Vec<(&'static str, i64, Vec<u8>)> {
    let mut h = Harness::new(GuestConfig { insert_bytes_max: 2_000, ..config() }, limits());
    h.create_collection(&schema("c"), 1);
    h.start();
    let d = h.create_collection(&schema("d"), 1);
    let v = vchannel(&d);
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::RecoveryInfo { vchannel }) if late && *vchannel == v => Verdict::Hold,
        _ => Verdict::Do,
    });
    let s = h.create_segment(&d, 0);
    for n in 0..20 {
        h.append_insert(&d, 0, s, n * 10..n * 10 + 10);
        h.tick();
    }
    h.release();
    h.flush(&d, 0, &[s]);
    assert_eq!(h.flushed_keys(&d), keys(0..200));
    h.contents(s)
}

#[test]
fn full_batches_of_a_channel_that_waited_for_its_answer_end_where_they_would_have_ended() {
    let (at_once, late) = (met(false), met(true));
    assert!(at_once.iter().filter(|f| f.0 == "insert" && f.1 == 100).count() > 2, "batches end by size");
    assert!(at_once == late, "FL-3");
}
