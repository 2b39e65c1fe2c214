//! What happens to a component, and what must come of it. Each scenario ends with everything flushed; [`World::judge`] looks at the rest.

use tidegate_core::calls::SegmentState;
use tidegate_core::pchannel::Phase;
use tidegate_message::build;
use tidegate_message::{TxnContext, WalName};

use super::Failure;
use super::script::insert;
use super::world::{PCHANNEL, SYNC_MS, World, expect};

/// A name, and what happens.
pub(super) type Scenario = (&'static str, fn(&mut World<'_>) -> Result<(), Failure>);

/// Every scenario, the simplest first.
pub(super) const ALL: &[Scenario] = &[
    ("two channels, rows and deletes, a manual flush", manual_flush),
    ("rows that nobody flushes", period),
    ("a transaction", transaction),
    ("a dropped partition", drop_partition),
    ("a dropped channel", drop_channel),
    ("a recovery that meets duplicates", recovery),
    ("a sync that fails", failing_sync),
    ("memory pressure", pressure),
    ("a successor while a sync runs", successor),
    ("the log moves", log_moves),
];

const TXN: TxnContext = TxnContext { txn_id: 7, keepalive_ms: 10_000 };

fn manual_flush(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 2)?;
    w.start()?;
    let segments = [w.segment(&c, 0, 0), w.segment(&c, 0, 1), w.segment(&c, 1, 0)];
    for n in 0..8 {
        for segment in &segments {
            w.rows(segment, 10 * n..10 * (n + 1));
        }
        w.deletes(&segments[0], 10 * n..10 * n + 2);
    }
    w.flush(&[&segments[0], &segments[1]]);
    w.flush(&[&segments[2]]);
    w.tick()?;
    segments.iter().try_for_each(|segment| w.expect_flushed(segment, 80))?;
    expect(|| "stored deletes".to_owned(), 16, w.stored_deletes())
}

fn period(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 1)?;
    w.start()?;
    let segment = w.segment(&c, 0, 0);
    w.rows(&segment, 0..10);
    w.deletes(&segment, 0..3);
    w.tick()?;
    // The period, the tenth of it that batches are spread over, and as much again.
    for _ in 0..12 {
        w.pass_ms(SYNC_MS / 10);
        w.tick()?;
    }
    expect(|| "rows stored within the period".to_owned(), Some((SegmentState::Growing, 10)), w.stored(&segment))?;
    expect(|| "deletes stored within the period".to_owned(), 3, w.stored_deletes())?;
    w.rows(&segment, 10..20);
    w.append(build::flush_all(PCHANNEL));
    w.tick()?;
    w.expect_flushed(&segment, 20)
}

fn transaction(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 1)?;
    w.start()?;
    let (inside, beside) = (w.segment(&c, 0, 0), w.segment(&c, 0, 0));
    w.append(build::with_txn(build::begin_txn(&inside.vchannel, TXN.keepalive_ms), &TXN));
    w.append(build::with_txn(insert(&inside, &(0..10)), &TXN));
    w.rows(&beside, 100..110);
    w.append(build::with_txn(insert(&inside, &(10..20)), &TXN));
    w.tick()?;
    w.append(build::commit_txn(&inside.vchannel, &TXN));
    w.flush(&[&inside, &beside]);
    w.tick()?;
    w.expect_flushed(&inside, 20)?;
    w.expect_flushed(&beside, 10)
}

fn drop_partition(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 1)?;
    w.start()?;
    let (gone, kept) = (w.segment(&c, 0, 0), w.segment(&c, 0, 1));
    w.rows(&gone, 0..10);
    w.rows(&kept, 0..10);
    w.append(build::drop_partition(&gone.vchannel, c.id, gone.partition));
    w.rows(&gone, 10..20);
    w.flush(&[&kept]);
    w.tick()?;
    expect(|| "the partition's segment".to_owned(), Some(SegmentState::Dropped), w.stored(&gone).map(|(state, _)| state))?;
    w.expect_flushed(&kept, 10)
}

fn drop_channel(w: &mut World<'_>) -> Result<(), Failure> {
    let (c, d) = (w.collection("c", 1)?, w.collection("d", 1)?);
    w.start()?;
    let (gone, kept) = (w.segment(&c, 0, 0), w.segment(&d, 0, 0));
    w.rows(&gone, 0..10);
    w.rows(&kept, 0..10);
    w.append(build::drop_collection(&gone.vchannel, c.id));
    w.rows(&gone, 10..20);
    w.flush(&[&kept]);
    w.tick()?;
    expect(|| "the channel's segment".to_owned(), Some(SegmentState::Dropped), w.stored(&gone).map(|(state, _)| state))?;
    w.expect_flushed(&kept, 10)
}

fn recovery(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 2)?;
    w.start()?;
    let (open, done) = (w.segment(&c, 0, 0), w.segment(&c, 1, 0));
    w.rows(&open, 0..10);
    w.rows(&done, 0..10);
    w.flush(&[&done]);
    w.tick()?;
    w.crash()?;
    expect(|| "rows met again: duplicate, durable".to_owned(), (10, 0), w.ended(&done))?;
    w.rows(&open, 10..20);
    w.flush(&[&open]);
    w.tick()?;
    w.expect_flushed(&open, 20)?;
    w.expect_flushed(&done, 10)
}

fn failing_sync(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 2)?;
    w.start()?;
    let (failing, beside) = (w.segment(&c, 0, 0), w.segment(&c, 1, 0));
    w.rows(&failing, 0..10);
    w.failing_writes = 5;
    w.flush(&[&failing]);
    w.rows(&beside, 0..10);
    w.flush(&[&beside]);
    w.tick()?;
    w.expect_flushed(&failing, 10)?;
    w.expect_flushed(&beside, 10)
}

/// A component that does not write what it is asked to leaves no room for the rest of the log.
fn pressure(w: &mut World<'_>) -> Result<(), Failure> {
    w.with_budget(64 << 10);
    let c = w.collection("c", 2)?;
    w.start()?;
    let segments = [w.segment(&c, 0, 0), w.segment(&c, 1, 0)];
    for n in 0..32 {
        for segment in &segments {
            w.rows(segment, 100 * n..100 * (n + 1));
        }
        w.tick()?;
    }
    for segment in &segments {
        w.flush(&[segment]);
    }
    w.tick()?;
    segments.iter().try_for_each(|segment| w.expect_flushed(segment, 3_200))
}

fn successor(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 2)?;
    w.start()?;
    let (synced, staged) = (w.segment(&c, 0, 0), w.segment(&c, 1, 0));
    w.rows(&synced, 0..10);
    w.hold_writes = true;
    w.flush(&[&synced]);
    w.rows(&staged, 0..10);
    w.deletes(&staged, 0..5);
    w.tick()?;
    expect(|| "syncs in flight".to_owned(), 1, w.held())?;
    w.succeed()?;
    w.rows(&staged, 10..20);
    w.tick()?;
    w.release()?;
    w.succeed()?;
    w.flush(&[&staged]);
    w.tick()?;
    w.expect_flushed(&synced, 10)?;
    w.expect_flushed(&staged, 20)?;
    expect(|| "stored deletes".to_owned(), 5, w.stored_deletes())
}

fn log_moves(w: &mut World<'_>) -> Result<(), Failure> {
    let c = w.collection("c", 1)?;
    w.start()?;
    let segment = w.segment(&c, 0, 0);
    w.rows(&segment, 0..10);
    let last = w.append(build::alter_wal(PCHANNEL, WalName::Kafka));
    w.tick()?;
    expect(|| "what the flusher says".to_owned(), &Phase::LogMoved, w.phase())?;
    expect(|| "whether the consume checkpoint is at the log's end".to_owned(), true, w.consumed() >= last)?;
    w.expect_flushed(&segment, 10)
}
