//! FL-3 by the bytes: golden scenarios whose storage writes real segment files with the writer of the node. One log gives equal files whatever
//! the pages and deliveries, and after a crash at any action.
//!
//! The whole log stands before the flusher begins: what is written to a log while somebody crashes is another log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use tidegate::storage::{Body, DeleteJob, Objects, RowBatchJob, StorageError, WriteOutcome, write_deletes, write_rows};
use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::calls::{CallError, Level, SegmentState};
use tidegate_core::pchannel::{Outcome, WriteJob, Written};
use tidegate_sim::golden;
use tidegate_sim::native::Native;
use tidegate_sim::scenario::{Cut, Op, Scenario, Settings};
use tidegate_sim::storage::Files;
use tidegate_sim::world::World;

/// Objects in memory.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<BTreeMap<String, Bytes>>>);

impl Objects for Memory {
    fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        self.0.borrow_mut().insert(key.to_owned(), object);
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        self.0.borrow().get(key).cloned().ok_or_else(|| StorageError::NotFound { key: key.to_owned() })
    }
}

impl Files for Memory {
    /// As the node's workers do it.
    fn write(&mut self, job: &WriteJob, last_id: &mut i64) -> Result<Outcome, CallError> {
        let next = RefCell::new(last_id);
        let ids = |count: u32| {
            let mut last = next.borrow_mut();
            let first = **last + 1;
            **last += i64::from(count);
            Ok(first)
        };
        let bodies = job.bodies.iter().map(|(ordinal, tick, payload)| Body { ordinal: *ordinal, tick: *tick, payload: payload.clone() });
        let bodies: Vec<Body> = bodies.collect();
        let (collection, partition) = (job.collection, job.partition);
        let (segment, outcome) = if job.deletes {
            let segment = ids(1)?;
            let primary_key = job.schema.primary().map_or(0, |f| f.id);
            let job = DeleteJob { collection, partition, segment, primary_key, bodies, form: DeltaForm::Json };
            (segment, write_deletes(self, &ids, &job))
        } else {
            let job = RowBatchJob {
                collection,
                partition,
                segment: job.segment,
                schema: job.schema.clone(),
                bodies,
                earlier_statistics: job.earlier_statistics.clone(),
                flush: job.flush,
                layout: job.layout.clone(),
                filter: FilterKind::Basic,
            };
            (job.segment, write_rows(self, &ids, &job))
        };
        match outcome.map_err(|error| CallError::Permanent(error.to_string()))? {
            WriteOutcome::Written { files, rows, .. } => Ok(Outcome::Written(Written { segment, files, rows })),
            WriteOutcome::BadRows(bad) => Ok(Outcome::BadRows(bad)),
        }
    }
}

/// The files of the flushed segments: those of a segment and a field in the order of their log ids, whatever those are.
type Contents = BTreeMap<(i64, &'static str, i64), Vec<Bytes>>;

/// The scenario with a flusher that begins when all of the log is there.
fn late(scenario: Scenario) -> Scenario {
    let served_after_ms = 900 + scenario.ops.last().map_or(0, |(at, _)| *at);
    Scenario { settings: Settings { served_after_ms, ..scenario.settings }, ..scenario }
}

/// Runs a scenario; returns the actions it took and what was written.
fn contents(name: &str, scenario: &Scenario) -> (u64, Contents) {
    let memory = Memory::default();
    let mut world = World::new(scenario, &Native);
    world.write_real_files(Box::new(memory.clone()));
    if let Err(violation) = world.run() {
        panic!("{name}, {:?}: {violation}", scenario.cuts);
    }
    let mut contents = Contents::new();
    for segment in world.segments().iter().filter(|s| s.state == SegmentState::Flushed && s.level == Level::L1) {
        for (kind, lists) in [("insert", &segment.files.insert), ("stats", &segment.files.stats)] {
            for list in lists {
                let mut files: Vec<_> = list.binlogs.iter().map(|b| (b.log_id, memory.get(&b.path).expect("FL-1"))).collect();
                files.sort_by_key(|(log_id, _)| *log_id);
                contents.insert((segment.segment, kind, list.field), files.into_iter().map(|(_, bytes)| bytes).collect());
            }
        }
    }
    (world.tally.actions, contents)
}

/// Many batches of two channels, with deletes, a transaction and a field more between them.
fn long() -> Scenario {
    let mut ops = vec![(0, Op::Create { shards: 2, partitions: 2 }), (100, Op::Begin { slot: 0, at: 0, keepalive_ms: 60_000 })];
    for n in 0..60 {
        let at = (n & 1) << 16 | (n >> 1 & 1) << 32;
        ops.push((200 + 7 * n, Op::Insert { at, rows: 1 + n % 5, width: 20 }));
        ops.extend((n % 9 == 4).then_some((200 + 7 * n, Op::Delete { at, keys: 2 })));
        ops.extend((n % 6 == 3).then_some((200 + 7 * n, Op::Body { slot: 0, rows: 2, bad: false })));
    }
    ops.extend([(700, Op::End { slot: 0, commit: Some(true) }), (720, Op::Alter { at: 0 })]);
    ops.extend((0..20).map(|n| (730 + 7 * n, Op::Insert { at: (n & 1) << 16, rows: 3, width: 20 })));
    Scenario { settings: Settings { insert_bytes_max: 600, segment_rows: 40, ..Settings::default() }, ops, cuts: Vec::new() }
}

/// Golden scenarios whose log is the same whoever flushes it: one that restarts its flusher and one that asks the coordinator beside it are not.
fn logs() -> impl Iterator<Item = (&'static str, Scenario)> {
    let of_a_log = |op: &Op| !matches!(op, Op::OldSegment { .. } | Op::DropCollection { early: true, .. });
    let golden = golden::all().into_iter().filter(move |(_, s)| s.ops.iter().all(|(_, op)| of_a_log(op)));
    golden.chain([("many-batches", long())]).map(|(name, s)| (name, late(s)))
}

#[test]
fn one_log_gives_equal_bytes_whatever_the_pages_and_deliveries() {
    let mut files = 0;
    for (name, scenario) in logs() {
        let (_, expected) = contents(name, &scenario);
        files += expected.values().map(Vec::len).sum::<usize>();
        for page_max in [1, 7, 64, 1_024] {
            for delivery_max in [1, 3, 64, 512] {
                let settings = Settings { page_max, delivery_max, ..scenario.settings.clone() };
                let (_, found) = contents(name, &Scenario { settings, ..scenario.clone() });
                assert!(found == expected, "{name}: pages of {page_max}, deliveries of {delivery_max} give other bytes");
            }
        }
    }
    println!("{files} files");
    assert!(files > 200, "{files} files are too few to say anything");
}

#[test]
fn one_log_gives_equal_bytes_after_a_crash_or_a_power_loss_at_any_action() {
    let mut runs = 0;
    for (name, scenario) in logs() {
        let (actions, expected) = contents(name, &scenario);
        println!("{name}: {actions} actions, {} files", expected.values().map(Vec::len).sum::<usize>());
        for after in 1..=actions {
            for cut in [Cut::Kill, Cut::KillSameTerm, Cut::PowerLoss] {
                let (_, found) = contents(name, &Scenario { cuts: vec![(after, cut)], ..scenario.clone() });
                assert!(found == expected, "{name}: {cut:?} after action {after} gives other bytes");
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

#[test]
fn batches_after_a_flush_are_as_large_as_before_it() {
    let mut ops = vec![(0, Op::Create { shards: 1, partitions: 1 })];
    ops.extend((0..40).map(|n| (100 + n, Op::Insert { at: 0, rows: 3, width: 20 })));
    ops.push((200, Op::Flush { at: 0 }));
    ops.extend((0..40).map(|n| (300 + n, Op::Insert { at: 0, rows: 3, width: 20 })));
    let scenario = Scenario { settings: Settings { insert_bytes_max: 600, ..Settings::default() }, ops, cuts: Vec::new() };
    for scenario in [scenario.clone(), late(scenario)] {
        let (_, found) = contents("a flush in between", &scenario);
        let batches: Vec<usize> =
            found.iter().filter(|((_, kind, field), _)| (*kind, *field) == ("insert", 100)).map(|(_, f)| f.len()).collect();
        assert!(batches.len() == 2 && batches[0] == batches[1] && (2..20).contains(&batches[0]), "{batches:?} files of 40 messages each");
    }
}
