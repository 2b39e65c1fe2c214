//! The write path: what a Milvus proxy and a streaming node append. Segment assignment, CreateSegment before the first insert, Flush
//! when a segment is full.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_core::calls::{Position, SegmentState};
use tidegate_core::coordinator::{CollectionInfo, CollectionState, NewCollection, Shard, pchannel_of};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, FieldColumn, PrimaryKey};
use tidegate_message::schema::Schema;
use tidegate_message::{CreateSegment, Outgoing};

use super::deletes::EVERY_PARTITION;
use super::pieces::{bytes_of_key, bytes_of_rows, check_keys, pieces};
use super::place::{Partitions, partition_names, with_keys};
use super::shard::{places, shard_of};
use super::wait::Wait;
use super::{Node, NodeError, Settings};
use crate::coordinator::CoordinatorClient;
use crate::wal::embedded::EmbeddedLog;
use crate::wal::{Appended, Log};

/// Keys of one delete message.
const DELETE_KEYS_MAX: usize = 20_000;
/// Key of the log's owner table under which assignments lie.
const ASSIGNMENT: &str = "segment/";
/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(20);

/// How far a flush is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushProgress {
    /// Segments that are not complete yet.
    pub segments_left: usize,
    /// Channels whose checkpoint has not passed the flush.
    pub channels_left: usize,
}

/// A growing segment that takes inserts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Assignment {
    segment: i64,
    rows: u64,
    bytes: u64,
}

/// Rows to insert.
struct Batch<'a> {
    columns: &'a Columns,
    row_ids: Vec<i64>,
    /// Bytes of each row in a message, at most.
    sizes: Vec<usize>,
}

/// Rows or deletes to append to a channel.
pub(super) enum Change<'a> {
    Rows { collection: i64, vchannel: &'a str, partition: i64, fields: &'a [FieldColumn], row_ids: &'a [i64] },
    Keys { collection: i64, vchannel: &'a str, partition: i64, keys: &'a [PrimaryKey] },
}

type Table = BTreeMap<(String, i64), Assignment>;

/// The growing segment of every channel and partition, one table a pchannel; it changes in the same batch as the log.
pub(super) struct Assignments(BTreeMap<String, Mutex<Table>>);

impl Assignments {
    pub fn load(logs: &BTreeMap<String, Arc<EmbeddedLog>>) -> Result<Self, NodeError> {
        let mut tables = BTreeMap::new();
        for (pchannel, log) in logs {
            let mut table = Table::new();
            for (key, value) in log.meta_scan(ASSIGNMENT.as_bytes())? {
                let parsed = std::str::from_utf8(&key).ok().and_then(|key| {
                    let (vchannel, partition) = key.strip_prefix(ASSIGNMENT)?.rsplit_once('/')?;
                    Some(((vchannel.to_owned(), partition.parse().ok()?), postcard::from_bytes(&value).ok()?))
                });
                let (key, assignment) =
                    parsed.ok_or_else(|| NodeError::Setup(format!("log of {pchannel}: an unreadable segment assignment")))?;
                table.insert(key, assignment);
            }
            tables.insert(pchannel.clone(), Mutex::new(table));
        }
        Ok(Self(tables))
    }

    /// The lock also orders appends, so that a segment's CreateSegment comes before its inserts and its Flush after them.
    fn lock(&self, pchannel: &str) -> Result<MutexGuard<'_, Table>, NodeError> {
        let table =
            self.0.get(pchannel).ok_or_else(|| NodeError::Setup(format!("pchannel {pchannel} is not of this node; raise `pchannels`")))?;
        Ok(table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn assignment_key(vchannel: &str, partition: i64) -> Vec<u8> {
    format!("{ASSIGNMENT}{vchannel}/{partition}").into_bytes()
}

impl Node {
    /// Creates a collection and returns when every channel's log has it. With a partition key it has [`super::KEY_PARTITIONS`] partitions,
    /// or as many as there are names, which are then those of [`super::key_partitions`].
    ///
    /// # Errors
    /// The name is taken, or the request makes no sense; nothing was written then.
    pub fn create_collection(&self, schema: &Schema, shards: usize, partitions: &[String]) -> Result<CollectionInfo, NodeError> {
        let new = NewCollection { schema: schema.clone(), shards, partitions: partition_names(schema, partitions)? };
        let planned = self.coordinator.create_collection(&new, &self.settings.pchannel_names())?;
        self.carry_out_create(&planned)?;
        self.collection(&schema.name)
    }

    /// Drops a collection and returns when every channel is dropped.
    ///
    /// # Errors
    /// There is none of that name, or a channel is stuck.
    pub fn drop_collection(&self, name: &str) -> Result<(), NodeError> {
        let collection = self.collection(name)?;
        let dropping = self.coordinator.begin_drop(collection.id)?;
        self.carry_out_drop(&dropping)?;
        let mut wait = Wait::new(&collection.shards);
        while self.collections()?.iter().any(|c| c.id == collection.id) {
            wait.check(&self.status().pchannels, Instant::now())?;
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Finishes DDL that an earlier process recorded and did not carry through. Each step may be repeated.
    pub(super) fn finish_ddl(&self) -> Result<(), NodeError> {
        let unfinished: Vec<CollectionInfo> = self.coordinator.read(|c| c.unfinished().cloned().collect())?;
        for collection in unfinished {
            match collection.state {
                CollectionState::Creating => self.carry_out_create(&collection)?,
                CollectionState::Dropping => self.carry_out_drop(&collection)?,
                CollectionState::Created | CollectionState::Dropped => {}
            }
        }
        Ok(())
    }

    fn carry_out_create(&self, collection: &CollectionInfo) -> Result<(), NodeError> {
        let partitions: Vec<i64> = collection.partitions.iter().map(|p| p.id).collect();
        let mut starts = BTreeMap::new();
        for shard in &collection.shards {
            let message = build::create_collection(&shard.vchannel, "default", collection.id, &partitions, &collection.schema);
            let appended = first(self.log_of(&shard.vchannel)?.append(vec![message])?)?;
            starts.insert(shard.vchannel.clone(), Position { last_confirmed: appended.last_confirmed, tick: appended.tick });
        }
        Ok(self.coordinator.finish_create(collection.id, &starts)?)
    }

    fn carry_out_drop(&self, collection: &CollectionInfo) -> Result<(), NodeError> {
        for shard in &collection.shards {
            let log = self.log_of(&shard.vchannel)?;
            let mut table = self.assignments.lock(log.pchannel())?;
            let gone: Vec<(String, i64)> = table.keys().filter(|(v, _)| *v == shard.vchannel).cloned().collect();
            let changes = gone.iter().map(|(v, p)| (assignment_key(v, *p), None)).collect();
            log.append_with(vec![build::drop_collection(&shard.vchannel, collection.id)], changes)?;
            table.retain(|key, _| !gone.contains(key));
        }
        self.coordinator.finish_drop(collection.id)?;
        Ok(())
    }

    /// Inserts rows and returns when they are durable in the log. Values of the user's fields are taken; row ids and ticks are given here,
    /// and so are the keys of a collection with automatic keys, unless the rows have that column. Rows of a collection with a partition key
    /// go where their keys say, others into one partition.
    ///
    /// # Errors
    /// The rows do not fit the schema, or the log refuses. Of rows over several shards, some may be in the log when an error is returned.
    pub fn insert(&self, collection: &CollectionInfo, partition: Option<&str>, columns: &Columns) -> Result<(), NodeError> {
        if columns.rows == 0 {
            return Ok(());
        }
        let count = u32::try_from(columns.rows).map_err(|_| NodeError::Invalid(format!("{} rows in one insert", columns.rows)))?;
        let first_id = self.coordinator.alloc_ids(count)?;
        let row_ids: Vec<i64> = (first_id..first_id + i64::from(count)).collect();
        let columns = &*with_keys(&collection.schema, columns, &row_ids)?;
        let sizes = bytes_of_rows(columns)?;
        let partitions = match collection.schema.fields.iter().find(|field| field.is_partition_key) {
            None => Partitions::One(self.partition_id(collection, partition)?),
            Some(key) if partition.is_none() => Partitions::by_key(collection, columns, key.id)?,
            Some(key) => {
                let reason = format!("the partition key {:?} says where rows go; leave the partition out", key.name);
                return Err(NodeError::Invalid(reason));
            }
        };
        let keys = columns.fields.iter().find(|f| f.is_primary).map(|f| places(&f.values, collection.shards.len())).unwrap_or_default();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); collection.shards.len()];
        keys.into_iter().enumerate().for_each(|(row, shard)| rows[shard].push(row));
        let batch = &Batch { columns, row_ids, sizes };
        let partitions = &partitions;
        // Shards on different pchannels wait for different fsyncs.
        thread::scope(|scope| {
            let of_shard = |(shard, rows): (&'_ Shard, Vec<usize>)| {
                let vchannel = shard.vchannel.clone();
                scope.spawn(move || {
                    let mut parts = partitions.split(&rows).into_iter();
                    parts.try_for_each(|(partition, rows)| self.insert_into(collection, &vchannel, partition, batch, &rows))
                })
            };
            let running: Vec<_> = collection.shards.iter().zip(rows).filter(|(_, rows)| !rows.is_empty()).map(of_shard).collect();
            running.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err(NodeError::Setup("an insert panicked".into()))))
        })
    }

    fn insert_into(
        &self,
        collection: &CollectionInfo,
        vchannel: &str,
        partition: i64,
        batch: &Batch<'_>,
        rows: &[usize],
    ) -> Result<(), NodeError> {
        for rows in pieces(rows, &|&row| batch.sizes[row], self.settings.message_bytes) {
            let ids: Vec<i64> = rows.iter().map(|&row| batch.row_ids[row]).collect();
            self.append_insert(collection, vchannel, partition, &batch.columns.select(rows), &ids)?;
        }
        Ok(())
    }

    fn append_insert(
        &self,
        collection: &CollectionInfo,
        vchannel: &str,
        partition: i64,
        part: &Columns,
        row_ids: &[i64],
    ) -> Result<(), NodeError> {
        let rows = Change::Rows { collection: collection.id, vchannel, partition, fields: &part.fields, row_ids };
        self.append_changes(pchannel_of(vchannel), &[rows]).map(|_| ())
    }

    /// Appends changes of one pchannel as one unit, rows with the segment that takes them; returns what each became, and its segment.
    ///
    /// # Errors
    /// The log or the coordinator refuses.
    pub(super) fn append_changes(&self, pchannel: &str, changes: &[Change<'_>]) -> Result<Vec<(Appended, Option<i64>)>, NodeError> {
        let mut table = self.assignments.lock(pchannel)?;
        let mut planned = Table::new();
        let mut batch = Vec::new();
        let mut places = Vec::new();
        for change in changes {
            let (message, segment) = match *change {
                Change::Keys { collection, vchannel, partition, keys } => (build::delete(vchannel, collection, partition, keys), None),
                Change::Rows { collection, vchannel, partition, fields, row_ids } => {
                    let rows = row_ids.len() as u64;
                    let bytes = bytes_of_fields(fields);
                    let key = (vchannel.to_owned(), partition);
                    let current = planned.get(&key).or_else(|| table.get(&key));
                    let mut assignment = match current.filter(|a| a.bytes + bytes <= self.settings.segment_bytes || a.rows == 0).cloned() {
                        Some(open) => open,
                        None => {
                            if let Some(full) = current {
                                batch.push(build::flush(vchannel, collection, partition, full.segment));
                            }
                            let segment = self.coordinator.alloc_ids(1)?;
                            batch.push(create_segment(vchannel, collection, partition, segment, &self.settings));
                            Assignment { segment, rows: 0, bytes: 0 }
                        }
                    };
                    assignment.rows += rows;
                    assignment.bytes += bytes;
                    let to = InsertAssignment { collection, partition, segment: assignment.segment, rows, bytes };
                    let segment = assignment.segment;
                    planned.insert(key, assignment);
                    (build::insert(vchannel, &to, fields, row_ids), Some(segment))
                }
            };
            places.push((batch.len(), segment));
            batch.push(message);
        }
        let stored = planned.iter().map(|((vchannel, partition), assignment)| {
            let value = postcard::to_allocvec(assignment).map_err(|e| NodeError::Setup(e.to_string()))?;
            Ok((assignment_key(vchannel, *partition), Some(value)))
        });
        let stored = stored.collect::<Result<_, NodeError>>()?;
        let appended = self.log_named(pchannel)?.append_with(batch, stored)?;
        table.extend(planned);
        let ends = places.into_iter().map(|(at, segment)| Some((appended.get(at)?.clone(), segment)));
        ends.collect::<Option<_>>().ok_or_else(|| NodeError::Setup("the log did not acknowledge every message".into()))
    }

    /// Deletes rows by their primary keys, in every partition, and returns when the deletes are durable in the log.
    ///
    /// # Errors
    /// A key is of another type than the schema's or longer than an append, or the log refuses.
    pub fn delete(&self, collection: &CollectionInfo, keys: &[PrimaryKey]) -> Result<u64, NodeError> {
        check_keys(keys)?;
        let mut of_shard: Vec<Vec<PrimaryKey>> = vec![Vec::new(); collection.shards.len()];
        keys.iter().for_each(|key| of_shard[shard_of(key, collection.shards.len())].push(key.clone()));
        for (shard, keys) in collection.shards.iter().zip(of_shard) {
            for keys in pieces(&keys, &bytes_of_key, self.settings.message_bytes) {
                let message = |keys| build::delete(&shard.vchannel, collection.id, EVERY_PARTITION, keys);
                self.log_of(&shard.vchannel)?.append(keys.chunks(DELETE_KEYS_MAX).map(message).collect())?;
            }
        }
        Ok(keys.len() as u64)
    }

    /// Completes the collection's growing segments, and returns when their rows are in flushed segments and the checkpoints have passed.
    ///
    /// # Errors
    /// A channel cannot go on; the error says why and what to do.
    pub fn flush(&self, collection: &CollectionInfo, on_progress: &mut dyn FnMut(FlushProgress)) -> Result<(), NodeError> {
        let mut segments = Vec::new();
        let mut ticks = BTreeMap::new();
        for shard in &collection.shards {
            let log = self.log_of(&shard.vchannel)?;
            let mut table = self.assignments.lock(log.pchannel())?;
            let open: Vec<((String, i64), i64)> =
                table.iter().filter(|((v, _), _)| *v == shard.vchannel).map(|(key, a)| (key.clone(), a.segment)).collect();
            let ids: Vec<i64> = open.iter().map(|(_, segment)| *segment).collect();
            let changes = open.iter().map(|((v, p), _)| (assignment_key(v, *p), None)).collect();
            let flush_tick = self.coordinator.alloc_ticks(1)?;
            let appended = first(log.append_with(vec![build::manual_flush(&shard.vchannel, collection.id, flush_tick, &ids)], changes)?)?;
            table.retain(|key, _| !open.iter().any(|(open, _)| open == key));
            segments.extend(ids);
            ticks.insert(shard.vchannel.clone(), appended.tick);
        }
        let mut wait = Wait::new(&collection.shards);
        let mut last = None;
        loop {
            let progress = self.flush_progress(&segments, &ticks)?;
            on_progress(progress);
            if last.replace(progress) != Some(progress) {
                wait.progressed();
            }
            if progress == (FlushProgress { segments_left: 0, channels_left: 0 }) {
                return Ok(());
            }
            wait.check(&self.status().pchannels, Instant::now())?;
            thread::sleep(POLL);
        }
    }

    fn flush_progress(&self, segments: &[i64], ticks: &BTreeMap<String, u64>) -> Result<FlushProgress, NodeError> {
        Ok(self.coordinator.read(|c| {
            let complete = |id: &&i64| c.segment(**id).is_some_and(|s| s.state != SegmentState::Growing);
            let passed = |vchannel: &str, tick: u64| c.checkpoint_tick(vchannel).is_some_and(|at| at >= tick);
            FlushProgress {
                segments_left: segments.len() - segments.iter().filter(complete).count(),
                channels_left: ticks.iter().filter(|(vchannel, tick)| !passed(vchannel, **tick)).count(),
            }
        })?)
    }

    pub(super) fn log_of(&self, vchannel: &str) -> Result<&Arc<EmbeddedLog>, NodeError> {
        self.log_named(pchannel_of(vchannel))
    }

    pub(super) fn log_named(&self, pchannel: &str) -> Result<&Arc<EmbeddedLog>, NodeError> {
        self.logs.get(pchannel).ok_or_else(|| NodeError::Setup(format!("pchannel {pchannel} is not of this node; raise `pchannels`")))
    }

    fn partition_id(&self, collection: &CollectionInfo, name: Option<&str>) -> Result<i64, NodeError> {
        let found = match name {
            Some(name) => collection.partitions.iter().find(|p| p.name == name),
            None if collection.partitions.len() == 1 => collection.partitions.first(),
            None => collection.partitions.iter().find(|p| p.name == "_default"),
        };
        found.map(|p| p.id).ok_or_else(|| NodeError::UnknownPartition {
            collection: collection.name.clone(),
            name: name.unwrap_or("_default").to_owned(),
            known: collection.partitions.iter().map(|p| p.name.clone()).collect(),
        })
    }
}

fn bytes_of_fields(fields: &[FieldColumn]) -> u64 {
    fields.iter().map(FieldColumn::memory_bytes).sum::<usize>() as u64
}

fn create_segment(vchannel: &str, collection: i64, partition: i64, segment: i64, settings: &Settings) -> Outgoing {
    let (storage_version, max_bytes) = (settings.storage_version, settings.segment_bytes);
    // Level 2 is L1.
    let segment = CreateSegment { partition, segment, storage_version, level: 2, max_rows: 0, max_bytes };
    build::create_segment(vchannel, collection, &segment)
}

fn first(appended: Vec<Appended>) -> Result<Appended, NodeError> {
    appended.into_iter().next().ok_or_else(|| NodeError::Setup("the log acknowledged nothing".into()))
}
