//! What becomes of each kind of message, and when a batch ends.

use tidegate::engine::GuestConfig;
use tidegate_core::calls::{Call, CallError, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Work};
use tidegate_core::turn::FilterReason;
use tidegate_message::build;
use tidegate_message::columns::{DataType, PrimaryKey};
use tidegate_message::schema::Field;
use tidegate_message::{CreateSegment, Outgoing, TxnContext, properties};
use tidegate_tests::harness::{Harness, PCHANNEL, Verdict, config};
use tidegate_tests::rows::schema;

/// A harness that runs, with one collection of one shard.
fn started() -> (Harness, CollectionInfo, String) {
    started_with(config())
}

fn started_with(config: GuestConfig) -> (Harness, CollectionInfo, String) {
    let mut h = Harness::new(config, Limits { not_found_tolerance: 0, ..Limits::default() });
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let v = c.shards[0].vchannel.clone();
    (h, c, v)
}

/// The same collection, with its messages going to another partition.
fn in_partition(c: &CollectionInfo, partition: i64) -> CollectionInfo {
    let mut c = c.clone();
    c.partitions[0].id = partition;
    c
}

/// Files of a segment's first field: one a sync.
fn syncs(h: &Harness, segment: i64) -> usize {
    h.segment(segment).and_then(|s| s.files.insert.first()).map_or(0, |f| f.binlogs.len())
}

fn keys(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Nothing is pending, nothing was refused, and the channel's checkpoint reached a tick.
#[track_caller]
fn settled(h: &Harness, v: &str, tick: u64) {
    assert!(h.ledger_closed(), "{:#?}", h.core.status());
    assert!(h.checkpoint(v) >= Some(tick), "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
}

#[test]
fn a_flushed_segment_has_every_row_once_and_the_checkpoints_pass() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    for n in 0..5 {
        h.append_insert(&c, 0, segment, n * 10..n * 10 + 10);
    }
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.state(segment), Some(SegmentState::Flushed));
    assert_eq!(h.flushed_keys(&c), keys(0..50));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick), "{:#?} {:?}", h.core.status(), h.notices);
    settled(&h, &v, tick);
}

#[test]
fn deletes_go_to_a_level_zero_segment_of_their_own() {
    let (mut h, c, v) = started();
    let tick = h.append(build::delete(&v, c.id, -1, &[PrimaryKey::Int64(7)]));
    h.flush(&c, 0, &[]);
    assert_eq!(h.stored_deletes(&c), [(PrimaryKey::Int64(7), tick)]);
    settled(&h, &v, tick);
}

#[test]
fn rows_and_deletes_of_another_collection_are_filtered_by_name_and_counted() {
    let (mut h, c, v) = started();
    let foreign = CollectionInfo { id: 777_777, ..c.clone() };
    let (own, other) = (h.create_segment(&c, 0), h.ids(1));
    h.append_insert(&c, 0, own, 0..5);
    h.append_insert(&foreign, 0, other, 100..107);
    h.append(build::delete(&v, foreign.id, -1, &[PrimaryKey::Int64(1)]));
    h.append_insert(&c, 0, own, 5..10);
    let tick = h.flush(&c, 0, &[own]);
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    assert_eq!(h.filtered(&v, FilterReason::ForeignCollection), 7);
    assert_eq!(h.ledger(&v).deletes.filtered[&FilterReason::ForeignCollection], 1);
    assert_eq!(h.stored_deletes(&c), []);
    settled(&h, &v, tick);
}

#[test]
fn a_drop_of_another_collection_leaves_the_channel_alone() {
    let (mut h, c, v) = started();
    h.append(build::drop_collection(&v, 777_777));
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.count("drop-channel"), 0);
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    settled(&h, &v, tick);
}

#[test]
fn a_dropped_partition_drops_its_growing_segments_and_takes_no_more_rows() {
    let (mut h, c, v) = started();
    let gone = in_partition(&c, 5_000);
    let (kept, dropped) = (h.create_segment(&c, 0), h.create_segment(&gone, 0));
    h.append_insert(&c, 0, kept, 0..10);
    h.append_insert(&gone, 0, dropped, 100..110);
    h.append(build::drop_partition(&v, c.id, 5_000));
    let late = h.create_segment(&gone, 0);
    h.append_insert(&gone, 0, late, 110..115);
    h.append(build::delete(&v, c.id, 5_000, &[PrimaryKey::Int64(100)]));
    let tick = h.flush(&c, 0, &[kept]);
    assert_eq!(h.state(dropped), Some(SegmentState::Dropped));
    assert_eq!(h.state(late), None);
    assert_eq!(h.flushed_keys(&c), keys(0..10), "{:#?} {:?}", h.core.status(), h.notices);
    assert_eq!(h.filtered(&v, FilterReason::DroppedPartition), 15);
    assert_eq!(h.ledger(&v).deletes.filtered[&FilterReason::DroppedPartition], 1);
    settled(&h, &v, tick);
}

#[test]
fn a_sync_that_runs_while_its_partition_is_dropped_does_not_take_the_channel_along() {
    for held in ["segment write", "save"] {
        let (mut h, c, v) = started_with(GuestConfig { insert_bytes_max: 1, ..config() });
        let gone = in_partition(&c, 5_000);
        let dropped = h.create_segment(&gone, 0);
        h.append_insert(&gone, 0, dropped, 0..10);
        h.verdict = Box::new(move |work| match work {
            Work::Write(_) if held == "segment write" => Verdict::Hold,
            Work::Call(Call::SaveBinlogPaths(save)) if held == "save" && !save.dropped => Verdict::Hold,
            _ => Verdict::Do,
        });
        h.tick();
        assert_eq!(h.held(), 1);
        h.append(build::drop_partition(&v, c.id, 5_000));
        h.tick();
        h.release();
        assert_eq!(h.state(dropped), Some(SegmentState::Dropped));
        let kept = h.create_segment(&c, 0);
        h.append_insert(&c, 0, kept, 10..20);
        let tick = h.flush(&c, 0, &[kept]);
        assert_eq!(h.flushed_keys(&c), keys(10..20), "{held}: {:?}", h.notices);
        assert!(h.checkpoint(&v) >= Some(tick) && h.ledger_closed(), "{held}: {:#?}", h.core.status());
    }
}

#[test]
fn a_dropped_collection_drops_its_channel_and_its_later_rows_are_filtered() {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    let v = c.shards[0].vchannel.clone();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&d, 0, t, 0..10);
    h.append(build::drop_collection(&v, c.id));
    h.append_insert(&c, 0, s, 10..20);
    h.tick();
    h.append_insert(&c, 0, s, 20..30);
    let tick = h.flush(&d, 0, &[t]);
    assert_eq!(h.state(s), Some(SegmentState::Dropped));
    assert_eq!(h.count("drop-channel"), 1);
    assert_eq!(h.filtered(&v, FilterReason::DroppedChannel), 30);
    assert_eq!(h.checkpoint(&v), Some(u64::MAX), "the dropped sentinel");
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick), "the channel left the checkpoints");
    settled(&h, &d.shards[0].vchannel, tick);
}

#[test]
fn a_repeated_create_collection_changes_nothing() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..5);
    h.append(build::create_collection(&v, "default", c.id, &[c.partitions[0].id], &c.schema));
    h.append(build::create_partition(&v, c.id, 5_000));
    h.append_insert(&c, 0, segment, 5..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    assert_eq!(h.count("recovery-info"), 1);
    settled(&h, &v, tick);
}

#[test]
fn a_repeated_create_segment_is_filtered_and_a_level_zero_one_is_not_registered() {
    let (mut h, c, v) = started();
    let created =
        |segment, level| CreateSegment { partition: c.partitions[0].id, segment, storage_version: 0, level, max_rows: 0, max_bytes: 0 };
    let segment = h.create_segment(&c, 0);
    h.append(build::create_segment(&v, c.id, &created(segment, 2)));
    h.append(build::create_segment(&v, c.id, &created(9_999, 1)));
    h.append_insert(&c, 0, segment, 0..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!((h.count("alloc-segment"), h.state(9_999)), (1, None));
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    settled(&h, &v, tick);
}

#[test]
fn a_channel_that_begins_in_the_scan_is_attached_by_its_create_collection() {
    for finished in [true, false] {
        let (mut h, ..) = started();
        h.tick();
        let d = if finished {
            h.create_collection(&schema("d"), 1)
        } else {
            // The coordinator has no position for it yet.
            let d = h.plan_collection(&schema("d"), 1);
            h.append(build::create_collection(&d.shards[0].vchannel, "default", d.id, &[d.partitions[0].id], &d.schema));
            d
        };
        let segment = h.create_segment(&d, 0);
        h.append_insert(&d, 0, segment, 0..10);
        let tick = h.flush(&d, 0, &[segment]);
        assert_eq!(h.flushed_keys(&d), keys(0..10), "finished: {finished}, {:?}", h.notices);
        settled(&h, &d.shards[0].vchannel, tick);
        assert!(h.consume_checkpoint().is_some(), "{:#?}", h.core.status());
    }
}

#[test]
fn messages_of_a_channel_that_nobody_listed_wait_for_the_coordinators_word() {
    let (mut h, c, v) = started();
    let d = h.create_collection(&schema("d"), 1);
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&d, 0, t, 0..10);
    h.append_insert(&c, 0, s, 0..10);
    h.verdict = Box::new(|work| if matches!(work, Work::Call(Call::RecoveryInfo { .. })) { Verdict::Hold } else { Verdict::Do });
    let tick = h.flush(&c, 0, &[s]);
    let pending = h.append(build::manual_flush(&d.shards[0].vchannel, d.id, 0, &[t]));
    h.tick();
    assert_eq!(h.ledger(&d.shards[0].vchannel).inserts.pending, 10);
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < pending), "CK-3: its rows are pending");
    settled_channel(&h, &v, tick);
    h.release();
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    settled(&h, &d.shards[0].vchannel, pending);
}

#[test]
fn an_answer_from_before_the_drop_of_a_channel_does_not_bring_it_back() {
    let (mut h, c, v) = started();
    let d = h.create_collection(&schema("d"), 1);
    let dropped = d.shards[0].vchannel.clone();
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::RecoveryInfo { .. }) => Verdict::Hold,
        Work::Call(Call::SaveSchema { .. }) => Verdict::Fail(CallError::Dropped("its collection".into())),
        _ => Verdict::Do,
    });
    let segments = [h.create_segment(&c, 0), h.create_segment(&d, 0)];
    h.append_insert(&d, 0, segments[1], 0..10);
    h.append(build::schema_change(&dropped, d.id, &[segments[1]], &d.schema));
    h.tick();
    h.release();
    h.append(build::drop_collection(&dropped, d.id));
    h.append_insert(&c, 0, segments[0], 0..10);
    let tick = h.flush(&c, 0, &[segments[0]]);
    assert_eq!((h.filtered(&dropped, FilterReason::DroppedChannel), h.ledger(&dropped).is_closed()), (10, true));
    settled(&h, &v, tick);
}

#[track_caller]
fn settled_channel(h: &Harness, v: &str, tick: u64) {
    assert!(h.ledger(v).is_closed() && h.checkpoint(v) >= Some(tick), "{:#?}", h.core.status());
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
}

#[test]
fn a_channel_that_the_coordinator_does_not_know_is_filtered_to_its_end() {
    let (mut h, c, v) = started();
    let mut unknown = CollectionInfo { id: 424_242, ..c.clone() };
    unknown.shards[0].vchannel = format!("{PCHANNEL}_424242v0");
    let u = unknown.shards[0].vchannel.clone();
    h.append(build::create_collection(&u, "default", unknown.id, &[1], &unknown.schema));
    let stray = h.create_segment(&unknown, 0);
    h.append_insert(&unknown, 0, stray, 0..10);
    h.tick();
    h.append_insert(&unknown, 0, stray, 10..20);
    h.append(build::delete(&u, unknown.id, -1, &[PrimaryKey::Int64(1)]));
    h.append(build::manual_flush(&u, unknown.id, 0, &[stray]));
    h.append(build::drop_collection(&u, unknown.id));
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.filtered(&u, FilterReason::UnknownChannel), 20);
    assert_eq!((h.count("drop-channel"), h.state(stray)), (0, None));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick), "nothing of it holds the consume checkpoint");
    settled(&h, &v, tick);
}

#[test]
fn a_dropped_channel_that_a_replay_meets_again_is_filtered() {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&d, 0, t, 0..10); // buffered: the consume checkpoint stays before it
    h.append_insert(&c, 0, s, 0..10);
    h.append(build::drop_collection(&c.shards[0].vchannel, c.id));
    h.tick();
    h.crash();
    assert_eq!(h.filtered(&c.shards[0].vchannel, FilterReason::DroppedChannel), 10);
    assert_eq!((h.count("drop-channel"), h.state(s)), (1, Some(SegmentState::Dropped)));
    let tick = h.flush(&d, 0, &[t]);
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    settled(&h, &d.shards[0].vchannel, tick);
}

#[test]
fn a_flush_of_everything_seals_every_growing_segment_of_every_channel() {
    for channel in [PCHANNEL.to_owned(), format!("{PCHANNEL}_vcchan"), String::new()] {
        let mut h = Harness::default();
        let (c, d) = (h.create_collection(&schema("c"), 2), h.create_collection(&schema("d"), 1));
        h.start();
        let segments = [h.create_segment(&c, 0), h.create_segment(&c, 1), h.create_segment(&d, 0)];
        h.append_insert(&c, 0, segments[0], 0..10);
        h.append_insert(&c, 1, segments[1], 10..20);
        h.append_insert(&d, 0, segments[2], 0..5);
        let empty = h.create_segment(&d, 0);
        h.append(build::delete(&d.shards[0].vchannel, d.id, -1, &[PrimaryKey::Int64(3)]));
        for _ in 0..2 {
            let tick = h.append(build::flush_all(&channel));
            h.tick();
            assert!(segments.iter().all(|&s| h.state(s) == Some(SegmentState::Flushed)), "{channel:?}: {:?}", h.notices);
            assert_eq!(h.state(empty), Some(SegmentState::Dropped), "complete without rows");
            for v in c.shards.iter().chain(&d.shards) {
                settled(&h, &v.vchannel, tick);
            }
        }
        assert_eq!((h.flushed_keys(&c), h.flushed_keys(&d)), (keys(0..20), keys(0..5)));
        assert_eq!(h.stored_deletes(&d).len(), 1);
    }
}

#[test]
fn a_truncation_seals_the_segments_it_names_and_makes_the_others_durable() {
    let (mut h, c, v) = started();
    let (named, other) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    h.append_insert(&c, 0, named, 0..10);
    h.append_insert(&c, 0, other, 10..20);
    let tick = h.append(build::truncate(&v, c.id, &[named]));
    h.tick();
    assert_eq!((h.state(named), h.state(other)), (Some(SegmentState::Flushed), Some(SegmentState::Growing)));
    assert_eq!(h.stored_keys(&c, |_| true), keys(0..20));
    settled(&h, &v, tick);
}

#[test]
fn a_schema_change_seals_its_segments_and_later_rows_have_the_new_schema() {
    let (mut h, c, v) = started();
    let mut newer = c.clone();
    newer.schema.fields.push(Field::new(103, "age", DataType::Int64));
    newer.schema.version = 1;
    let before = h.create_segment(&c, 0);
    h.append_insert(&c, 0, before, 0..10);
    h.append(build::schema_change(&v, c.id, &[before], &newer.schema));
    let after = h.create_segment(&newer, 0);
    h.append_insert(&newer, 0, after, 10..20);
    h.tick();
    assert_eq!((h.state(before), h.state(after)), (Some(SegmentState::Flushed), Some(SegmentState::Growing)));
    h.crash();
    let tick = h.flush(&c, 0, &[after]);
    assert_eq!(h.count("save-schema"), 1);
    assert_eq!(h.stored_keys(&c, |s| s.segment == before), keys(0..10));
    assert_eq!(h.stored_keys(&newer, |s| s.segment == after), keys(10..20));
    assert_eq!(h.segment(after).map(|s| s.files.insert.len()), Some(6), "four fields, row id and tick");
    assert_eq!(h.dead_letters.len(), 0, "{:?}", h.dead_letters);
    settled(&h, &v, tick);
}

#[test]
fn a_message_of_an_unknown_type_is_counted_and_passed_over() {
    let (mut h, c, v) = started();
    let of_type = |kind: &str| {
        let mut message = build::flush(&v, c.id, c.partitions[0].id, 1);
        message.properties.insert(properties::TYPE.into(), kind.into());
        message
    };
    let segment = h.create_segment(&c, 0);
    h.append(of_type("4242"));
    h.append(of_type("70000"));
    h.append_insert(&c, 0, segment, 0..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.core.report_of_component().unknown_types, 2);
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    settled(&h, &v, tick);
}

#[test]
fn a_message_on_the_control_channel_only_moves_positions() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.append(build::drop_collection(&format!("{PCHANNEL}_vcchan"), c.id));
    h.append(build::manual_flush(&format!("{PCHANNEL}_vcchan"), c.id, 0, &[segment]));
    h.tick();
    assert_eq!((h.count("drop-channel"), h.state(segment)), (0, Some(SegmentState::Growing)));
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), keys(0..10));
    assert!(h.core.accounts().all(|a| a.name == v), "the control channel is no channel to serve");
    settled(&h, &v, tick);
}

#[test]
fn a_flush_of_a_segment_that_nobody_knows_is_filtered_and_holds_nothing() {
    for listed_first in [false, true] {
        let (mut h, c, v) = started();
        let segment = h.create_segment(&c, 0);
        h.append_insert(&c, 0, segment, 0..10);
        let tick = h.append(build::flush(&v, c.id, c.partitions[0].id, 99_999));
        h.tick();
        assert!(h.checkpoint(&v) < Some(tick), "the rows hold it");
        let both = if listed_first { [99_998, segment] } else { [segment, 99_998] };
        let tick = h.flush(&c, 0, &both);
        assert_eq!(h.flushed_keys(&c), keys(0..10));
        settled(&h, &v, tick);
        // It does not come back with a flush of everything either.
        let tick = h.append(build::flush_all(PCHANNEL));
        h.tick();
        settled(&h, &v, tick);
        assert_eq!(h.state(99_999), None);
    }
}

#[test]
fn a_segment_without_rows_is_completed_by_its_flush_even_before_its_registration_ends() {
    for hold in [false, true] {
        let (mut h, c, v) = started();
        if hold {
            h.verdict = Box::new(|work| if matches!(work, Work::Call(Call::AllocSegment(_))) { Verdict::Hold } else { Verdict::Do });
        }
        let segment = h.create_segment(&c, 0);
        let tick = h.flush(&c, 0, &[segment]);
        assert_eq!(h.held(), usize::from(hold));
        h.release();
        assert_eq!(h.state(segment), Some(SegmentState::Dropped), "complete without rows, hold: {hold}");
        settled(&h, &v, tick);
    }
}

#[test]
fn rows_after_their_segments_flush_detach_the_channel_and_its_neighbour_goes_on() {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    h.append_insert(&c, 0, s, 0..10);
    h.flush(&c, 0, &[s]);
    h.append_insert(&c, 0, s, 10..20);
    h.append_insert(&d, 0, t, 0..10);
    let tick = h.flush(&d, 0, &[t]);
    h.release();
    assert!(h.is_detached(&c.shards[0].vchannel));
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    settled_channel(&h, &d.shards[0].vchannel, tick);
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < tick), "CK-3: the detached channel holds it");
}

#[test]
fn a_full_batch_ends_with_its_group() {
    let (mut h, c, v) = started_with(GuestConfig { insert_bytes_max: 1, ..config() });
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.append_insert(&c, 0, segment, 10..20);
    // The bodies of a transaction are one group: they have the tick of its commit.
    let txn = TxnContext { txn_id: 1, keepalive_ms: 10_000 };
    h.append(build::with_txn(build::begin_txn(&v, 10_000), &txn));
    for n in 2..5 {
        let body: Outgoing = h.insert(&c, 0, segment, n * 10..n * 10 + 10);
        h.append(build::with_txn(body, &txn));
    }
    h.append(build::commit_txn(&v, &txn));
    h.tick();
    assert_eq!(syncs(&h, segment), 3);
    assert_eq!((h.state(segment), h.segment(segment).map(|s| s.rows)), (Some(SegmentState::Growing), Some(50)));
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!((h.flushed_keys(&c), syncs(&h, segment)), (keys(0..50), 3));
    settled(&h, &v, tick);
}

#[test]
fn a_batch_ends_when_its_period_of_event_time_has_passed() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.tick();
    assert_eq!(syncs(&h, segment), 0);
    h.pass_ms(700_000);
    h.append_insert(&c, 0, segment, 10..20); // in the same delivery as the tick that finds the first one stale
    h.tick();
    assert_eq!(h.segment(segment).map(|s| s.rows), Some(10));
    h.pass_ms(700_000);
    h.tick();
    assert_eq!(h.segment(segment).map(|s| s.rows), Some(20), "a tick alone ends it too");
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!((h.flushed_keys(&c), syncs(&h, segment)), (keys(0..20), 2));
    settled(&h, &v, tick);
}

#[test]
fn memory_pressure_ends_the_oldest_batches_and_is_counted() {
    let limits = Limits { bytes_max: 16_384, not_found_tolerance: 0, ..Limits::default() };
    let mut h = Harness::new(config(), limits);
    h.delivery_max = 1;
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let segment = h.create_segment(&c, 0);
    for n in 0..100 {
        h.append_insert(&c, 0, segment, n * 10..n * 10 + 10);
        h.tick();
        assert!(h.core.held_bytes() < 2 * 16_384, "ME-1: {} bytes are held", h.core.held_bytes());
    }
    assert!(h.core.report_of_component().pressure_cuts > 1, "{:?}", h.core.report_of_component());
    assert!(h.segment(segment).is_some_and(|s| s.rows > 500 && s.rows < 1_000), "{:?}", h.segment(segment).map(|s| s.rows));
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), keys(0..1_000));
    settled(&h, &c.shards[0].vchannel, tick);
}

#[test]
fn syncs_of_one_segment_run_one_after_the_other_and_of_two_at_the_same_time() {
    let limits = Limits { writes_max: 8, not_found_tolerance: 0, ..Limits::default() };
    let mut h = Harness::new(GuestConfig { insert_bytes_max: 1, ..config() }, limits);
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    h.verdict = Box::new(|work| if matches!(work, Work::Write(_)) { Verdict::Hold } else { Verdict::Do });
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&c, 0, s, 10..20);
    h.append_insert(&c, 0, t, 20..30);
    h.tick();
    assert_eq!(h.held(), 2, "one of each segment");
    let tick = h.flush(&c, 0, &[s, t]);
    assert_eq!(h.held(), 2);
    h.release();
    let order: Vec<i64> = h.done.iter().filter_map(|w| if let Work::Write(job) = w { Some(job.segment) } else { None }).collect();
    assert_eq!(order[..2], [s, t], "{order:?}");
    assert_eq!((h.flushed_keys(&c), syncs(&h, s), syncs(&h, t)), (keys(0..30), 2, 1));
    settled(&h, &c.shards[0].vchannel, tick);
}

#[test]
fn a_flush_of_a_segment_whose_rows_are_all_synced_completes_it_with_merged_statistics() {
    let (mut h, c, v) = started_with(GuestConfig { insert_bytes_max: 1, ..config() });
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.append_insert(&c, 0, segment, 10..20);
    h.tick();
    let tick = h.flush(&c, 0, &[segment]);
    let info = h.segment(segment).expect("a segment").clone();
    assert_eq!((info.state, info.rows, syncs(&h, segment)), (SegmentState::Flushed, 20, 2));
    assert!(info.files.stats[0].binlogs.iter().any(|b| b.log_id == 1), "{:?}", info.files.stats);
    assert_eq!(h.flushed_keys(&c), keys(0..20));
    settled(&h, &v, tick);
}
