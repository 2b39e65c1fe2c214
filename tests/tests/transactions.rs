//! Transactions and bad messages: what is set aside, and that nothing else is.

use std::ops::Range;

use tidegate::engine::GuestConfig;
use tidegate::storage::read_segment;
use tidegate_core::calls::SegmentState;
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::Limits;
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{PrimaryKey, Values};
use tidegate_message::{Outgoing, TxnContext, properties};
use tidegate_tests::harness::{Harness, config};
use tidegate_tests::rows::{rows, schema};

const TXN: TxnContext = TxnContext { txn_id: 7, keepalive_ms: 10_000 };

fn pair() -> (Harness, CollectionInfo, CollectionInfo) {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    (h, c, d)
}

fn vchannel(c: &CollectionInfo) -> String {
    c.shards[0].vchannel.clone()
}

fn keys(range: Range<i64>) -> Vec<i64> {
    range.collect()
}

fn begin(h: &mut Harness, c: &CollectionInfo) {
    h.append(build::with_txn(build::begin_txn(&vchannel(c), TXN.keepalive_ms), &TXN));
}

fn body(h: &mut Harness, c: &CollectionInfo, segment: i64, keys: Range<i64>) {
    let message = h.insert(c, 0, segment, keys);
    h.append(build::with_txn(message, &TXN));
}

/// An insert that promises one row more than it has.
fn short_insert(c: &CollectionInfo, segment: i64, keys: Range<i64>) -> Outgoing {
    let row_ids: Vec<i64> = keys.clone().collect();
    let user: Vec<_> = rows(&c.schema, keys).fields.into_iter().filter(|f| f.field_id >= 100).collect();
    let to = InsertAssignment { collection: c.id, partition: c.partitions[0].id, segment, rows: row_ids.len() as u64 + 1, bytes: 64 };
    build::insert(&vchannel(c), &to, &user, &row_ids)
}

fn cut_short(mut message: Outgoing) -> Outgoing {
    message.payload.truncate(message.payload.len() - 7);
    message
}

#[test]
fn rows_of_a_committed_transaction_are_durable_with_the_commits_tick() {
    let (mut h, c, _) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    begin(&mut h, &c);
    body(&mut h, &c, s, 0..10);
    h.append_insert(&c, 0, t, 100..110); // between, and not of it
    body(&mut h, &c, s, 10..20);
    h.append(build::with_txn(build::delete(&vchannel(&c), c.id, -1, &[PrimaryKey::Int64(100)]), &TXN));
    h.tick();
    assert_eq!(h.ledger(&vchannel(&c)).inserts.delivered, 10, "an open transaction delivers nothing");
    let commit = h.append(build::commit_txn(&vchannel(&c), &TXN));
    let tick = h.flush(&c, 0, &[s, t]);
    assert_eq!(h.flushed_keys(&c), [keys(0..20), keys(100..110)].concat());
    let stored = read_segment(&h.chunks, &h.segment(s).expect("a segment").files, &c.schema).expect("readable files");
    let ticks = stored.fields.iter().find(|f| f.field_id == 1).map(|f| f.values.clone());
    assert_eq!(ticks, Some(Values::Int64(vec![commit as i64; 20])));
    assert_eq!(h.stored_deletes(&c), [(PrimaryKey::Int64(100), commit)]);
    assert!(h.ledger_closed() && h.checkpoint(&vchannel(&c)) >= Some(tick));
}

#[test]
fn a_transaction_that_is_rolled_back_or_never_ends_leaves_no_row() {
    for rolled_back in [true, false] {
        let (mut h, c, _) = pair();
        let segment = h.create_segment(&c, 0);
        begin(&mut h, &c);
        body(&mut h, &c, segment, 0..10);
        h.append_insert(&c, 0, segment, 10..20);
        if rolled_back {
            h.append(build::rollback_txn(&vchannel(&c), &TXN));
        } else {
            h.pass_ms(20_000);
        }
        let tick = h.flush(&c, 0, &[segment]);
        assert_eq!(h.flushed_keys(&c), keys(10..20));
        assert!(h.ledger_closed() && h.dead_letters.is_empty() && h.checkpoint(&vchannel(&c)) >= Some(tick));
    }
}

#[test]
fn a_commit_whose_begin_lies_before_the_resume_point_of_another_is_met_whole_after_a_crash() {
    let (mut h, c, _) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    // As the log promises: while a transaction is open, nothing is confirmed past its Begin.
    let confirmed = h.log[h.log.len() - 1].id.clone();
    let begin = build::with_txn(build::begin_txn(&vchannel(&c), TXN.keepalive_ms), &TXN);
    h.append_confirmed(begin, &confirmed);
    let message = h.insert(&c, 0, s, 0..10);
    h.append_confirmed(build::with_txn(message, &TXN), &confirmed);
    let message = h.insert(&c, 0, t, 10..20);
    h.append_confirmed(message, &confirmed);
    h.append_confirmed(build::manual_flush(&vchannel(&c), c.id, 0, &[t]), &confirmed);
    h.append_confirmed(build::time_tick(), &confirmed);
    h.run();
    h.crash();
    h.append(build::commit_txn(&vchannel(&c), &TXN));
    h.flush(&c, 0, &[s]);
    assert_eq!(h.flushed_keys(&c), keys(0..20));
    assert!(h.ledger_closed());
}

#[test]
fn one_bad_body_sets_its_transaction_aside_whole_and_nothing_else() {
    for bad in ["not a message", "rows missing"] {
        let (mut h, c, d) = pair();
        let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
        h.append_insert(&c, 0, s, 0..10);
        begin(&mut h, &c);
        body(&mut h, &c, s, 10..20);
        let message = match bad {
            "not a message" => cut_short(h.insert(&c, 0, s, 20..30)),
            _ => short_insert(&c, s, 20..30),
        };
        h.append(build::with_txn(message, &TXN));
        body(&mut h, &c, s, 30..40);
        h.append(build::commit_txn(&vchannel(&c), &TXN));
        h.append_insert(&c, 0, s, 40..50);
        h.append_insert(&d, 0, t, 0..10);
        let tick = h.flush(&d, 0, &[t]);
        h.flush(&c, 0, &[s]);
        assert_eq!(h.flushed_keys(&c), [keys(0..10), keys(40..50)].concat(), "{bad}: {:?}", h.notices);
        assert_eq!(h.flushed_keys(&d), keys(0..10), "{bad}");
        assert_eq!(h.dead_letters.len(), 3, "{bad}: {:?}", h.dead_letters);
        let ids: std::collections::BTreeSet<String> = h.dead_letters.iter().map(|l| l.id.marshal()).collect();
        assert_eq!(ids.len(), 3, "{bad}: each under its own id");
        assert!(h.ledger(&vchannel(&c)).inserts.quarantined >= 20, "{bad}");
        assert!(!h.is_detached(&vchannel(&c)) && h.ledger_closed(), "{bad}: {:#?}", h.core.status());
        assert!(h.checkpoint(&vchannel(&d)) >= Some(tick) && h.checkpoint(&vchannel(&c)) >= Some(tick), "{bad}");
    }
}

#[test]
fn a_malformed_insert_or_delete_is_a_dead_letter_and_the_scan_goes_on() {
    let (mut h, c, _) = pair();
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    let message = h.insert(&c, 0, segment, 10..20);
    h.append(cut_short(message));
    h.append(short_insert(&c, segment, 20..30));
    h.append(cut_short(build::delete(&vchannel(&c), c.id, -1, &[PrimaryKey::Int64(1)])));
    h.append_insert(&c, 0, segment, 30..40);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), [keys(0..10), keys(30..40)].concat());
    assert_eq!((h.dead_letters.len(), h.core.counters().dead_letters), (3, 3), "{:?}", h.dead_letters);
    assert!(h.dead_letters.iter().all(|l| l.vchannel == vchannel(&c) && l.tick > 0 && !l.reason.is_empty() && !l.payload.is_empty()));
    assert!(h.ledger_closed() && h.checkpoint(&vchannel(&c)) >= Some(tick));
}

#[test]
fn rows_that_do_not_fit_the_schema_are_set_aside_and_the_others_of_their_segment_stay() {
    let (mut h, c, _) = pair();
    let mut other = c.clone();
    other.schema.fields.remove(2);
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    h.append_insert(&other, 0, segment, 10..20);
    h.append_insert(&c, 0, segment, 20..30);
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!((h.state(segment), h.flushed_keys(&c)), (Some(SegmentState::Flushed), [keys(0..10), keys(20..30)].concat()));
    assert_eq!((h.dead_letters.len(), h.ledger(&vchannel(&c)).inserts.quarantined), (1, 10), "{:?}", h.dead_letters);
    assert!(h.ledger_closed() && h.checkpoint(&vchannel(&c)) >= Some(tick));
}

#[test]
fn a_malformed_control_message_detaches_its_channel_alone() {
    let (mut h, c, d) = pair();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&d, 0, t, 0..10);
    h.tick();
    let mut message = build::drop_partition(&vchannel(&c), c.id, c.partitions[0].id);
    message.properties.insert(properties::HEADER.into(), "?".into());
    let bad = h.append(message);
    h.append_insert(&c, 0, s, 10..20);
    let tick = h.flush(&d, 0, &[t]);
    assert!(h.is_detached(&vchannel(&c)) && !h.is_detached(&vchannel(&d)), "{:?}", h.notices);
    assert_eq!(h.dead_letters.len(), 1);
    assert_eq!(h.flushed_keys(&d), keys(0..10));
    assert!(h.checkpoint(&vchannel(&d)) >= Some(tick), "IS-1");
    assert!(h.checkpoint(&vchannel(&c)) < Some(bad) && h.consume_checkpoint().is_none_or(|p| p.tick < bad), "CK-3");
    assert!(h.turns < 100, "{} turns", h.turns);
}

/// Everything that two runs must agree on: segments with their rows and the bytes of their files, and the deletes.
type Stored = (Vec<(i64, SegmentState, i64, Vec<(&'static str, i64, Vec<u8>)>)>, Vec<(PrimaryKey, u64)>);

fn run_with(page: u32, delivery: usize) -> Stored {
    let limits = Limits { page_max: page as usize, not_found_tolerance: 0, ..Limits::default() };
    let mut h = Harness::new(GuestConfig { page_max: page, insert_bytes_max: 1_500, sync_period_ms: 60_000, ..config() }, limits);
    h.delivery_max = delivery;
    let (c, d) = (h.create_collection(&schema("c"), 2), h.create_collection(&schema("d"), 1));
    let segments = [h.create_segment(&c, 0), h.create_segment(&c, 1), h.create_segment(&d, 0), h.create_segment(&c, 0)];
    for n in 0..60 {
        let (collection, shard, segment) = [(&c, 0, segments[0]), (&c, 1, segments[1]), (&d, 0, segments[2])][n as usize % 3];
        match n % 10 {
            4 => {
                let v = &collection.shards[shard].vchannel;
                h.append(build::with_txn(build::begin_txn(v, TXN.keepalive_ms), &TXN));
                for m in 0..3 {
                    let message = h.insert(collection, shard, segment, n * 100 + m * 10..n * 100 + m * 10 + 10);
                    h.append(build::with_txn(message, &TXN));
                }
                h.append(build::commit_txn(v, &TXN));
            }
            7 => drop(h.append(build::delete(&collection.shards[shard].vchannel, collection.id, -1, &[PrimaryKey::Int64(n)]))),
            9 => {
                h.pass_ms(20_000);
                h.append(build::time_tick());
            }
            _ => drop(h.append_insert(collection, shard, segment, n * 100..n * 100 + 10 + n)),
        }
    }
    h.append(build::manual_flush(&c.shards[0].vchannel, c.id, 0, &[segments[0]]));
    h.append_insert(&c, 0, segments[3], 10_000..10_010);
    h.append(build::flush_all(""));
    h.append(build::time_tick());
    h.start();
    assert!(h.ledger_closed(), "{:#?}", h.core.status());
    let stored = segments.iter().map(|&s| {
        let info = h.segment(s).expect("a segment");
        (s, info.state, info.rows, h.contents(s))
    });
    let stored = stored.collect();
    let mut deletes = [h.stored_deletes(&c), h.stored_deletes(&d)].concat();
    deletes.sort_unstable_by_key(|(_, tick)| *tick);
    (stored, deletes)
}

#[test]
fn pages_and_deliveries_of_any_size_give_the_same_segments_and_the_same_bytes() {
    let expected = run_with(256, 512);
    let syncs: usize = expected.0.iter().map(|(.., files)| files.iter().filter(|f| f.0 == "insert" && f.1 == 100).count()).sum();
    assert!(syncs > 8, "{syncs} syncs: the batches are to be cut by size and by time");
    assert!(!expected.1.is_empty());
    for (page, delivery) in [(7, 512), (256, 1), (7, 1), (1, 3)] {
        let found = run_with(page, delivery);
        for (a, b) in expected.0.iter().zip(&found.0) {
            assert_eq!((a.0, a.1, a.2, a.3.len()), (b.0, b.1, b.2, b.3.len()), "DT-2: pages of {page}, deliveries of {delivery}");
        }
        assert!(found == expected, "FL-3: pages of {page}, deliveries of {delivery} give other bytes");
    }
}
