//! What users, proxies and operators do: collections, rows, transactions, flushes; and the operations that are faults.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidegate_core::calls::{Call, Caller, Level, Position, SegmentFiles, SegmentInfo, SegmentState};
use tidegate_core::coordinator::{CollectionInfo, NewCollection, pchannel_of};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{DataType, FieldColumn, PrimaryKey, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{CreateSegment, MessageId, Outgoing, TxnContext, WalName, properties};

use crate::judge::Verdict;
use crate::log::{Append, Effect};
use crate::scenario::Op;
use crate::world::{Ev, World};

/// Postcard values of the coordinator's disk begin with this byte.
const RECORD_VERSION: u8 = 2;

#[derive(Debug, PartialEq, Eq)]
enum Life {
    Creating,
    Live,
    Dropping,
    Gone,
}

#[derive(Debug)]
struct Collection {
    info: CollectionInfo,
    schema: Schema,
    life: Life,
    starts: BTreeMap<String, Position>,
    drops: BTreeSet<String>,
    early_drop: bool,
    dropped_partitions: BTreeSet<i64>,
}

#[derive(Clone, Debug)]
struct Growing {
    vchannel: String,
    partition: i64,
    rows: u64,
    sealed: bool,
}

#[derive(Clone, Debug)]
struct Slot {
    pchannel: usize,
    txn: TxnContext,
    collection: usize,
    vchannel: String,
    segments: BTreeSet<i64>,
    bytes: usize,
}

/// What the workload knows.
#[derive(Debug, Default)]
pub(crate) struct Workload {
    collections: Vec<Collection>,
    segments: BTreeMap<i64, Growing>,
    /// The segment that takes rows of a channel's partition.
    current: BTreeMap<(String, i64), i64>,
    slots: [Option<Slot>; 4],
    next_key: u64,
    names: u64,
    largest_txn: usize,
    /// Ticks of the last flush of each channel, once durable.
    flushed_at: BTreeMap<String, u64>,
    /// Channels whose last flush is wanted and not durable.
    flush_wanted: BTreeSet<String>,
    /// Segments of the old architecture on their way: their pchannel is not served before they are there.
    old: BTreeMap<i64, (usize, SegmentInfo)>,
    /// The last flush of a segment that nobody knows, and its pchannel.
    orphan: Option<(usize, Outgoing)>,
    finishing: bool,
    /// Pchannels whose log has ended.
    moved: BTreeSet<usize>,
}

impl Workload {
    pub fn largest_txn(&self) -> usize {
        self.largest_txn
    }

    pub fn holds_back(&self, p: usize) -> bool {
        self.old.values().any(|(at, _)| *at == p)
    }

    pub fn forget_slots(&mut self, p: usize) {
        for slot in &mut self.slots {
            slot.take_if(|s| s.pchannel == p);
        }
    }

    pub fn has_moved(&self, p: usize) -> bool {
        self.moved.contains(&p)
    }

    pub fn flushed_at(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.flushed_at.iter()
    }

    pub fn dropped_channels(&self) -> impl Iterator<Item = &String> {
        self.collections.iter().filter(|c| c.life == Life::Gone).flat_map(|c| c.info.shards.iter().map(|s| &s.vchannel))
    }

    pub fn has_unfinished(&self) -> bool {
        let live = self.collections.iter().filter(|c| c.life == Life::Live);
        let unflushed = live.flat_map(|c| &c.info.shards).any(|s| !self.flushed_at.contains_key(&s.vchannel));
        (self.finishing && unflushed)
            || !self.old.is_empty()
            || self.collections.iter().any(|c| matches!(c.life, Life::Creating | Life::Dropping))
    }

    /// A live collection and one of its shards.
    fn choose(&self, at: u64) -> Option<(usize, String)> {
        let live: Vec<usize> = (0..self.collections.len()).filter(|&c| self.collections[c].life == Life::Live).collect();
        let collection = *live.get((at % live.len().max(1) as u64) as usize)?;
        let shards = &self.collections[collection].info.shards;
        Some((collection, shards[((at >> 16) % shards.len() as u64) as usize].vchannel.clone()))
    }

    fn choose_partition(&self, collection: usize, at: u64) -> Option<i64> {
        let c = &self.collections[collection];
        let live: Vec<i64> = c.info.partitions.iter().map(|p| p.id).filter(|p| !c.dropped_partitions.contains(p)).collect();
        live.get(((at >> 32) % live.len().max(1) as u64) as usize).copied()
    }

    fn is_in_a_transaction(&self, segment: i64) -> bool {
        self.slots.iter().flatten().any(|s| s.segments.contains(&segment))
    }

    /// Segments that take rows, of a channel or of a whole pchannel.
    fn growing(&self, of: impl Fn(&Growing) -> bool) -> Vec<i64> {
        self.segments.iter().filter(|(_, s)| !s.sealed && of(s)).map(|(&id, _)| id).collect()
    }

    fn seal(&mut self, segments: &[i64]) {
        for id in segments {
            if let Some(s) = self.segments.get_mut(id) {
                s.sealed = true;
            }
            self.current.retain(|_, current| current != id);
        }
    }
}

/// The schema of every collection: a key, a text; each change adds a field that may be null.
fn schema(name: String, version: i32) -> Schema {
    let mut fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { max_length: 65_535, ..Field::new(101, "text", DataType::VarChar) },
    ];
    fields.extend((0..version).map(|n| Field { nullable: true, ..Field::new(102 + i64::from(n), &format!("f{n}"), DataType::Int64) }));
    Schema { name, fields, enable_dynamic_field: false, version }
}

impl World<'_> {
    fn pchannel(&self, vchannel: &str) -> usize {
        let name = pchannel_of(vchannel);
        self.logs.iter().position(|l| l.name == name).unwrap_or_default()
    }

    fn new_id(&mut self) -> i64 {
        self.ids += 1;
        self.ids
    }

    /// Does one operation of the scenario.
    pub(crate) fn operate(&mut self, op: Op) -> Verdict {
        match op {
            Op::Create { shards, partitions } => self.create(shards, partitions),
            Op::Insert { at, rows, width } => self.insert(at, rows, width),
            Op::Delete { at, keys } => self.delete(at, keys),
            Op::Begin { slot, at, keepalive_ms } => self.begin_txn(slot, at, keepalive_ms),
            Op::Body { slot, rows, bad } => self.body(slot, rows, bad),
            Op::End { slot, commit } => self.end_txn(slot, commit),
            Op::Seal { at } => self.seal_one(at),
            Op::Flush { at } => {
                if let Some((collection, vchannel)) = self.workload.choose(at) {
                    self.manual_flush(collection, &vchannel);
                }
            }
            Op::FlushAll { at } => self.flush_all(at, false),
            Op::AlterWal { at } => self.flush_all(at, true),
            Op::Truncate { at } => self.truncate(at),
            Op::Alter { at } => self.alter(at),
            Op::DropPartition { at } => self.drop_partition(at),
            Op::DropCollection { at, early } => self.drop_collection(at, early),
            Op::OldSegment { at } => self.old_segment(at),
            Op::Unknown { at } => self.unknown(at),
            Op::Malformed { at } => self.malformed(at),
            Op::Late { at } => self.late(at),
            Op::AfterFlush { at } => self.after_flush(at),
            Op::Orphan { at } => self.orphan(at),
            Op::OrphanAgain => self.orphan_again(),
            Op::Stray { at } => self.stray(at),
            Op::Kill { at, after_ms, same_term } => {
                let p = (at % self.logs.len() as u64) as usize;
                if let Some(owner) = self.owners[p] {
                    self.kill(owner);
                    self.after(after_ms + 1, Ev::Start { pchannel: p, same_term });
                }
            }
            Op::Move { at, pause_ms } => {
                let p = (at % self.logs.len() as u64) as usize;
                if let Some(owner) = self.owners[p].take() {
                    self.leave_directory(p);
                    if pause_ms > 0 {
                        self.processes[owner].paused = true;
                        self.after(pause_ms, Ev::Resume(owner));
                    }
                    return self.start(p, false);
                }
            }
            Op::Pause { at, ms } => {
                let p = (at % self.logs.len() as u64) as usize;
                if let Some(owner) = self.owners[p] {
                    self.processes[owner].paused = true;
                    self.after(ms, Ev::Resume(owner));
                }
            }
            Op::LogRefuses { at, silent } => {
                let p = (at % self.logs.len() as u64) as usize;
                self.logs[p].refuses = Some(silent);
            }
            Op::Retention { at } => {
                let p = (at % self.logs.len() as u64) as usize;
                let up_to = self.logs[p].durable();
                self.trace.say(self.now, || format!("records of pchannel {p} before {up_to} are let go by somebody else"));
                self.judge.lose_records(&self.logs[p].name, up_to);
                self.logs[p].truncate(up_to);
            }
            Op::PowerLoss => return self.lose_power(),
            Op::CoordinatorRestart => self.restart_coordinator(),
            Op::ClockJump { ms } => self.clock += ms,
            Op::Swap { at, to, force, twice } => return self.order(at, to, force, twice),
            Op::Window { trouble, ms, percent } => self.open_window(trouble, ms, percent),
        }
        Ok(())
    }

    // ---- definitions -----------------------------------------------------------------------------------------------------------------

    fn create(&mut self, shards: usize, partitions: usize) {
        self.workload.names += 1;
        let schema = schema(format!("c{}", self.workload.names), 0);
        let names = (0..partitions).map(|n| format!("p{n}")).collect();
        let new = NewCollection { schema: schema.clone(), shards, partitions: names };
        let first_id = self.ids + 1;
        self.ids += i64::from(new.id_count());
        let pchannels: Vec<String> = self.logs.iter().map(|l| l.name.clone()).collect();
        let Ok((info, writes)) = self.service.rules.create_collection(&new, first_id, &pchannels) else { return };
        self.service.store(writes);
        self.workload.collections.push(Collection {
            info,
            schema,
            life: Life::Creating,
            starts: BTreeMap::new(),
            drops: BTreeSet::new(),
            early_drop: false,
            dropped_partitions: BTreeSet::new(),
        });
        self.append_creates(self.workload.collections.len() - 1);
    }

    fn append_creates(&mut self, collection: usize) {
        let c = &mut self.workload.collections[collection];
        c.starts.clear();
        let (info, schema) = (c.info.clone(), c.schema.clone());
        let partitions: Vec<i64> = info.partitions.iter().map(|p| p.id).collect();
        for shard in &info.shards {
            let message = build::create_collection(&shard.vchannel, "default", info.id, &partitions, &schema);
            let effect = Effect::CreateCollection { vchannel: shard.vchannel.clone(), collection: info.id };
            let p = self.pchannel(&shard.vchannel);
            self.append(p, vec![Append::new(message, effect)]);
        }
    }

    fn append_drops(&mut self, collection: usize) {
        let c = &mut self.workload.collections[collection];
        c.drops.clear();
        let info = c.info.clone();
        for shard in &info.shards {
            let effect = Effect::DropCollection { vchannel: shard.vchannel.clone(), collection: info.id };
            self.exclusive(&shard.vchannel, build::drop_collection(&shard.vchannel, info.id), effect);
        }
    }

    /// Appends a message that ends the transactions of its channel.
    fn exclusive(&mut self, vchannel: &str, message: Outgoing, effect: Effect) {
        let p = self.pchannel(vchannel);
        let mut appends = self.rollbacks(p, Some(vchannel));
        appends.push(Append::new(message, effect));
        self.append(p, appends);
    }

    fn rollbacks(&mut self, p: usize, vchannel: Option<&str>) -> Vec<Append> {
        // Also those that are queued, and not known to the log yet.
        let mut open: BTreeMap<i64, (String, TxnContext)> =
            self.logs[p].open_on(vchannel).into_iter().map(|(v, t)| (t.txn_id, (v, t))).collect();
        for slot in &mut self.workload.slots {
            if let Some(slot) = slot.take_if(|s| s.pchannel == p && vchannel.is_none_or(|v| v == s.vchannel)) {
                open.insert(slot.txn.txn_id, (slot.vchannel, slot.txn));
            }
        }
        let rollback = |(vchannel, txn): (String, TxnContext)| Append {
            txn: Some(txn),
            ..Append::new(build::rollback_txn(&vchannel, &txn), Effect::Rollback)
        };
        open.into_values().map(rollback).collect()
    }

    fn alter(&mut self, at: u64) {
        let Some((collection, _)) = self.workload.choose(at) else { return };
        let c = &mut self.workload.collections[collection];
        if c.schema.version >= 5 {
            return;
        }
        let version = c.schema.version + 1;
        c.schema = schema(c.schema.name.clone(), version);
        let (info, schema) = (c.info.clone(), c.schema.clone());
        for shard in &info.shards {
            let vchannel = &shard.vchannel;
            // Others than Milvus' own write path may leave segments growing: their rows of two schemas go to different batches.
            let segments = if at >> 61 & 3 == 0 { Vec::new() } else { self.workload.growing(|s| s.vchannel == *vchannel) };
            self.workload.seal(&segments);
            let message = build::schema_change(vchannel, info.id, &segments, &schema);
            self.exclusive(vchannel, message, Effect::Schema { vchannel: vchannel.clone(), version, segments });
        }
    }

    fn drop_partition(&mut self, at: u64) {
        let Some((collection, _)) = self.workload.choose(at) else { return };
        let c = &mut self.workload.collections[collection];
        let info = c.info.clone();
        let Some(partition) = info.partitions.iter().skip(1).map(|p| p.id).find(|p| !c.dropped_partitions.contains(p)) else { return };
        c.dropped_partitions.insert(partition);
        for shard in &info.shards {
            let vchannel = &shard.vchannel;
            let gone = self.workload.growing(|s| s.vchannel == *vchannel && s.partition == partition);
            self.workload.seal(&gone);
            let effect = Effect::DropPartition { vchannel: vchannel.clone(), partition };
            self.exclusive(vchannel, build::drop_partition(vchannel, info.id, partition), effect);
        }
    }

    fn drop_collection(&mut self, at: u64, early: bool) {
        let Some((collection, _)) = self.workload.choose(at) else { return };
        let c = &mut self.workload.collections[collection];
        let Ok((_, writes)) = self.service.rules.begin_drop(c.info.id) else { return };
        self.service.store(writes);
        c.life = Life::Dropping;
        c.early_drop = early;
        let vchannels: BTreeSet<String> = c.info.shards.iter().map(|s| s.vchannel.clone()).collect();
        self.met_by_drop(&vchannels);
        let gone = self.workload.growing(|s| vchannels.contains(&s.vchannel));
        self.workload.seal(&gone);
        self.workload.flush_wanted.retain(|v| !vchannels.contains(v));
        self.append_drops(collection);
    }

    // ---- rows ------------------------------------------------------------------------------------------------------------------------

    /// The segment for more rows, and the messages that make room for them.
    fn assign(&mut self, collection: usize, vchannel: &str, partition: i64, rows: u64) -> (i64, Vec<Append>) {
        let id = self.workload.collections[collection].info.id;
        let mut appends = Vec::new();
        let key = (vchannel.to_owned(), partition);
        if let Some(&current) = self.workload.current.get(&key) {
            let full = self.workload.segments.get(&current).is_some_and(|s| s.rows > 0 && s.rows + rows > self.settings.segment_rows);
            if !full || self.workload.is_in_a_transaction(current) {
                if let Some(s) = self.workload.segments.get_mut(&current) {
                    s.rows += rows;
                }
                return (current, appends);
            }
            let effect = Effect::Seal { vchannel: vchannel.to_owned(), segments: vec![current] };
            appends.push(Append::new(build::flush(vchannel, id, partition, current), effect));
            self.workload.seal(&[current]);
        }
        let segment = self.new_id();
        let created = CreateSegment { partition, segment, storage_version: 0, level: 2, max_rows: 0, max_bytes: 0 };
        let effect = Effect::CreateSegment { vchannel: vchannel.to_owned(), partition, segment };
        appends.push(Append::new(build::create_segment(vchannel, id, &created), effect));
        self.workload.segments.insert(segment, Growing { vchannel: vchannel.to_owned(), partition, rows, sealed: false });
        self.workload.current.insert(key, segment);
        (segment, appends)
    }

    fn rows(&mut self, collection: usize, vchannel: &str, partition: i64, segment: i64, rows: u64, width: usize) -> (Outgoing, Effect) {
        let c = &self.workload.collections[collection];
        let start = self.workload.next_key + 1;
        self.workload.next_key += rows;
        let keys: Vec<i64> = (start..start + rows).map(|k| k as i64).collect();
        let bytes = vec![b'x'; width * rows as usize];
        let column = |field: &Field, values| FieldColumn { values, ..FieldColumn::new(field) };
        let columns = [
            column(&c.schema.fields[0], Values::Int64(keys.clone())),
            column(&c.schema.fields[1], Values::Bytes { ends: (1..=rows as usize).map(|n| n * width).collect(), bytes }),
        ];
        let to = InsertAssignment { collection: c.info.id, partition, segment, rows, bytes: width as u64 * rows };
        let effect = Effect::Rows { vchannel: vchannel.to_owned(), partition, segment, start, count: rows };
        (build::insert(vchannel, &to, &columns, &keys), effect)
    }

    fn insert(&mut self, at: u64, rows: u64, width: usize) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let (segment, mut appends) = self.assign(collection, &vchannel, partition, rows);
        let (message, effect) = self.rows(collection, &vchannel, partition, segment, rows, width);
        appends.push(Append::new(message, effect));
        let p = self.pchannel(&vchannel);
        self.append(p, appends);
    }

    fn deletes(&mut self, collection: usize, vchannel: &str, partition: i64, keys: u64) -> (Outgoing, Effect) {
        let id = self.workload.collections[collection].info.id;
        let last = self.workload.next_key;
        let keys: Vec<i64> = (0..keys.max(1)).map(|_| self.rng.below(last + 1) as i64).collect();
        let primary: Vec<PrimaryKey> = keys.iter().map(|&k| PrimaryKey::Int64(k)).collect();
        (build::delete(vchannel, id, partition, &primary), Effect::Deletes { vchannel: vchannel.to_owned(), partition, keys })
    }

    fn delete(&mut self, at: u64, keys: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let partition = if at >> 60 & 1 == 1 { Some(-1) } else { self.workload.choose_partition(collection, at) };
        let Some(partition) = partition else { return };
        let (message, effect) = self.deletes(collection, &vchannel, partition, keys);
        let p = self.pchannel(&vchannel);
        self.append(p, vec![Append::new(message, effect)]);
    }

    fn begin_txn(&mut self, slot: usize, at: u64, keepalive_ms: i64) {
        if self.workload.slots[slot].is_some() {
            return;
        }
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let txn = TxnContext { txn_id: self.new_id(), keepalive_ms };
        let p = self.pchannel(&vchannel);
        let message = build::with_txn(build::begin_txn(&vchannel, keepalive_ms), &txn);
        let effect = Effect::Begin { vchannel: vchannel.clone() };
        self.append(p, vec![Append { txn: Some(txn), ..Append::new(message, effect) }]);
        self.workload.slots[slot] = Some(Slot { pchannel: p, txn, collection, vchannel, segments: BTreeSet::new(), bytes: 0 });
    }

    fn body(&mut self, slot: usize, rows: u64, bad: bool) {
        let Some(Slot { pchannel, txn, collection, vchannel, .. }) = self.workload.slots[slot].clone() else { return };
        let at = self.rng.draw();
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let mut appends = Vec::new();
        let (mut message, mut effect) = if rows == 0 {
            self.deletes(collection, &vchannel, partition, 1)
        } else {
            let (segment, more) = self.assign(collection, &vchannel, partition, rows);
            appends = more;
            if let Some(slot) = &mut self.workload.slots[slot] {
                slot.segments.insert(segment);
            }
            // Now and then a transaction is larger than the budget.
            let width = if at & 3 == 0 { 1_500 } else { 10 };
            self.rows(collection, &vchannel, partition, segment, rows, width)
        };
        if bad && rows > 0 && at & 4 == 0 {
            // Its header speaks of another number of rows: the scan cannot see that.
            let segment = self.new_id();
            message.properties = self.rows(collection, &vchannel, partition, segment, rows + 1, 1).0.properties;
            effect = Effect::Bad;
        } else if bad {
            message.payload = Bytes::from_static(b"no protobuf");
            effect = Effect::Bad;
        }
        let size = message.payload.len() + 1_000;
        if let Some(slot) = &mut self.workload.slots[slot] {
            slot.bytes += size;
            self.workload.largest_txn = self.workload.largest_txn.max(slot.bytes);
        }
        appends.push(Append { txn: Some(txn), ..Append::new(build::with_txn(message, &txn), effect) });
        self.append(pchannel, appends);
    }

    fn end_txn(&mut self, slot: usize, commit: Option<bool>) {
        let Some(Slot { pchannel, txn, vchannel, .. }) = self.workload.slots[slot].clone() else { return };
        let append = match commit {
            Some(true) => Append::new(build::commit_txn(&vchannel, &txn), Effect::Commit),
            Some(false) => Append::new(build::rollback_txn(&vchannel, &txn), Effect::Rollback),
            // Its lease runs out; its segments are not sealed before.
            None if txn.keepalive_ms >= 0 => return,
            None => return,
        };
        self.workload.slots[slot] = None;
        self.append(pchannel, vec![Append { txn: Some(txn), ..append }]);
    }

    // ---- ends of segments ------------------------------------------------------------------------------------------------------------

    fn seal_one(&mut self, at: u64) {
        let growing = self.workload.growing(|_| true);
        let Some(&segment) = growing.get((at % growing.len().max(1) as u64) as usize) else { return };
        if self.workload.is_in_a_transaction(segment) {
            return;
        }
        let Some(Growing { vchannel, partition, .. }) = self.workload.segments.get(&segment).cloned() else { return };
        self.workload.seal(&[segment]);
        let collection = collection_of(&vchannel);
        let p = self.pchannel(&vchannel);
        let effect = Effect::Seal { vchannel: vchannel.clone(), segments: vec![segment] };
        self.append(p, vec![Append::new(build::flush(&vchannel, collection, partition, segment), effect)]);
    }

    fn manual_flush(&mut self, collection: usize, vchannel: &str) {
        let id = self.workload.collections[collection].info.id;
        let segments = self.workload.growing(|s| s.vchannel == vchannel);
        self.workload.seal(&segments);
        let message = build::manual_flush(vchannel, id, 0, &segments);
        self.exclusive(vchannel, message, Effect::Seal { vchannel: vchannel.to_owned(), segments });
    }

    fn flush_all(&mut self, at: u64, moves: bool) {
        let p = (at % self.logs.len() as u64) as usize;
        let name = self.logs[p].name.clone();
        let segments = self.workload.growing(|s| pchannel_of(&s.vchannel) == name);
        self.workload.seal(&segments);
        let mut appends = self.rollbacks(p, None);
        let by_channel = segments.iter().filter_map(|id| Some((self.workload.segments.get(id)?.vchannel.clone(), *id)));
        let mut effects: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        by_channel.for_each(|(vchannel, id)| effects.entry(vchannel).or_default().push(id));
        let effect = Effect::SealAll { segments: effects.into_iter().collect(), moves };
        let message = if moves { build::alter_wal(&name, WalName::Kafka) } else { build::flush_all(&name) };
        appends.push(Append::new(message, effect));
        self.append(p, appends);
    }

    fn truncate(&mut self, at: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let id = self.workload.collections[collection].info.id;
        let segments = self.workload.growing(|s| s.vchannel == vchannel);
        self.workload.seal(&segments);
        let message = build::truncate(&vchannel, id, &segments);
        self.exclusive(&vchannel, message, Effect::Seal { vchannel: vchannel.clone(), segments });
    }

    // ---- what is odd -----------------------------------------------------------------------------------------------------------------

    fn old_segment(&mut self, at: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let p = self.pchannel(&vchannel);
        let Some(owner) = self.owners[p] else { return };
        self.kill(owner);
        let segment = self.new_id();
        let id = self.workload.collections[collection].info.id;
        let info = SegmentInfo {
            segment,
            collection: id,
            partition,
            vchannel: vchannel.clone(),
            state: SegmentState::Growing,
            level: Level::L1,
            storage_version: 0,
            rows: 0,
            files: SegmentFiles::default(),
            start: None,
            dml: None,
            created_by_streaming: false,
        };
        self.judge.old.insert(segment);
        self.workload.old.insert(segment, (p, info));
        let (message, effect) = self.rows(collection, &vchannel, partition, segment, 3, 5);
        self.append(p, vec![Append::new(message, effect)]);
    }

    fn unknown(&mut self, at: u64) {
        let Some((_, vchannel)) = self.workload.choose(at) else { return };
        let mut message = build::create_partition(&vchannel, collection_of(&vchannel), 1);
        message.properties.insert(properties::TYPE.to_owned(), "4711".to_owned());
        let p = self.pchannel(&vchannel);
        self.append(p, vec![Append::new(message, Effect::None)]);
    }

    fn malformed(&mut self, at: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let (mut message, _) = self.deletes(collection, &vchannel, partition, 2);
        match at >> 40 & 3 {
            0 => message.payload = Bytes::from_static(b"garbage"),
            1 => drop(message.properties.insert(properties::HEADER.to_owned(), "no base64".to_owned())),
            2 => drop(message.properties.insert(properties::VERSION.to_owned(), "9".to_owned())),
            _ => drop(message.properties.remove(properties::VERSION)),
        }
        let p = self.pchannel(&vchannel);
        self.append(p, vec![Append::new(message, Effect::Bad)]);
    }

    fn late(&mut self, at: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let (message, effect) = self.deletes(collection, &vchannel, partition, 1);
        let p = self.pchannel(&vchannel);
        if self.logs[p].last_tick() > 0 {
            self.append(p, vec![Append { late: true, ..Append::new(message, effect) }]);
        }
    }

    fn after_flush(&mut self, at: u64) {
        let live =
            |v: &str| self.workload.collections.iter().any(|c| c.life == Life::Live && c.info.shards.iter().any(|s| s.vchannel == v));
        let sealed: Vec<i64> = self.workload.segments.iter().filter(|(_, s)| s.sealed && live(&s.vchannel)).map(|(&id, _)| id).collect();
        let Some(&segment) = sealed.get((at % sealed.len().max(1) as u64) as usize) else { return };
        let Some(Growing { vchannel, partition, .. }) = self.workload.segments.get(&segment).cloned() else { return };
        // One without rows may have stayed open.
        if !self.judge.has_rows(&segment) {
            return;
        }
        let Some(collection) = self.workload.collections.iter().position(|c| c.info.id == collection_of(&vchannel)) else { return };
        let (message, _) = self.rows(collection, &vchannel, partition, segment, 2, 8);
        let p = self.pchannel(&vchannel);
        self.append(p, vec![Append::new(message, Effect::Hazard { vchannel })]);
    }

    fn orphan(&mut self, at: u64) {
        let Some((collection, vchannel)) = self.workload.choose(at) else { return };
        let Some(partition) = self.workload.choose_partition(collection, at) else { return };
        let segment = self.new_id();
        let message = build::flush(&vchannel, collection_of(&vchannel), partition, segment);
        let p = self.pchannel(&vchannel);
        self.workload.orphan = Some((p, message.clone()));
        self.append(p, vec![Append::new(message, Effect::None)]);
    }

    fn orphan_again(&mut self) {
        if let Some((p, message)) = self.workload.orphan.clone() {
            self.append(p, vec![Append::new(message, Effect::None)]);
        }
    }

    fn stray(&mut self, at: u64) {
        let p = (at % self.logs.len() as u64) as usize;
        let id = self.new_id();
        let vchannel = format!("{}_{id}v0", self.logs[p].name);
        let message = build::delete(&vchannel, id, -1, &[PrimaryKey::Int64(1)]);
        self.append(p, vec![Append::new(message, Effect::None)]);
    }

    // ---- what came of it -------------------------------------------------------------------------------------------------------------

    /// A message is durable: those who wrote it go on.
    pub(crate) fn happened(&mut self, p: usize, effect: Effect, tick: u64, last_confirmed: i64) -> Verdict {
        match effect {
            Effect::CreateCollection { vchannel, collection } => {
                let position = Position { last_confirmed: MessageId::RocksMq(last_confirmed), tick };
                let Some(c) = self.workload.collections.iter_mut().find(|c| c.info.id == collection) else { return Ok(()) };
                c.starts.insert(vchannel, position);
                if c.life == Life::Creating && c.starts.len() == c.info.shards.len() {
                    c.life = Life::Live;
                    if let Ok(writes) = self.service.rules.finish_create(collection, &c.starts) {
                        self.service.store(writes);
                    }
                }
            }
            Effect::DropCollection { vchannel, collection } => {
                let Some(c) = self.workload.collections.iter_mut().find(|c| c.info.id == collection) else { return Ok(()) };
                c.drops.insert(vchannel.clone());
                let early = c.early_drop;
                if c.life == Life::Dropping && c.drops.len() == c.info.shards.len() {
                    c.life = Life::Gone;
                    let ((), writes) = self.service.rules.finish_drop(collection);
                    self.service.store(writes);
                }
                if early {
                    self.finish_commit()?;
                    let caller = Caller { node_id: 0, pchannel: self.logs[p].name.clone(), term: self.logs[p].term };
                    let (_, writes) = self.service.rules.call(&caller, &Call::DropChannel { vchannel });
                    self.service.store(writes);
                }
            }
            Effect::Rows { segment, .. } => {
                if let Some((p, info)) = self.workload.old.remove(&segment) {
                    self.finish_commit()?;
                    let key = format!("segment/{segment}").into_bytes();
                    let value = postcard::to_extend(&info, vec![RECORD_VERSION]).unwrap_or_default();
                    self.service.store_raw(key, value);
                    self.after(1, Ev::Start { pchannel: p, same_term: false });
                }
            }
            Effect::SealAll { moves: true, .. } => {
                let live = self.workload.collections.iter().filter(|c| c.life == Life::Live).flat_map(|c| &c.info.shards);
                let here = live.filter(|s| pchannel_of(&s.vchannel) == self.logs[p].name);
                self.workload.flushed_at.extend(here.map(|s| (s.vchannel.clone(), tick)));
                self.workload.moved.insert(p);
            }
            Effect::Seal { vchannel, .. } if self.workload.finishing => {
                self.workload.flush_wanted.remove(&vchannel);
                self.workload.flushed_at.insert(vchannel, tick);
            }
            _ => {}
        }
        Ok(())
    }

    /// Messages were lost with the power: what they began did not begin, what they ended goes on.
    pub(crate) fn undo(&mut self, lost: Vec<Append>) {
        self.workload.slots = Default::default();
        let mut again = BTreeSet::new();
        let mut unsealed = Vec::new();
        for append in &lost {
            match &append.effect {
                Effect::CreateSegment { segment, .. } => {
                    self.workload.segments.remove(segment);
                    self.workload.current.retain(|_, current| current != segment);
                }
                Effect::Seal { vchannel, segments } => {
                    unsealed.extend(segments.iter().copied());
                    self.workload.flush_wanted.remove(vchannel);
                }
                Effect::Schema { segments, .. } => unsealed.extend(segments.iter().copied()),
                Effect::SealAll { segments, .. } => unsealed.extend(segments.iter().flat_map(|(_, s)| s.iter().copied())),
                Effect::DropPartition { partition, .. } => {
                    // Some shards may have it: the partition stays closed, and the others hear of it at the end.
                    again.insert(*partition);
                }
                Effect::CreateCollection { collection, .. } | Effect::DropCollection { collection, .. } => drop(again.insert(*collection)),
                Effect::Rows { segment, .. } => {
                    if let Some((p, _)) = self.workload.old.remove(segment) {
                        self.after(1, Ev::Start { pchannel: p, same_term: false });
                    }
                }
                _ => {}
            }
        }
        for segment in unsealed {
            let Some(s) = self.workload.segments.get_mut(&segment) else { continue };
            s.sealed = false;
        }
        for collection in 0..self.workload.collections.len() {
            let c = &self.workload.collections[collection];
            let (info, life) = (c.info.clone(), &c.life);
            match life {
                Life::Creating => self.append_creates(collection),
                Life::Dropping => self.append_drops(collection),
                Life::Live => {
                    for partition in info.partitions.iter().filter(|p| again.contains(&p.id)) {
                        for shard in &info.shards {
                            let effect = Effect::DropPartition { vchannel: shard.vchannel.clone(), partition: partition.id };
                            let message = build::drop_partition(&shard.vchannel, info.id, partition.id);
                            self.exclusive(&shard.vchannel, message, effect);
                        }
                    }
                }
                Life::Gone => {}
            }
        }
    }

    /// Flushes everything, so that all of it has to come to its end.
    pub(crate) fn finish_work(&mut self) {
        self.workload.finishing = true;
        for collection in 0..self.workload.collections.len() {
            let c = &self.workload.collections[collection];
            if c.life != Life::Live {
                continue;
            }
            for shard in c.info.shards.clone() {
                if self.workload.flushed_at.contains_key(&shard.vchannel) || !self.workload.flush_wanted.insert(shard.vchannel.clone()) {
                    continue;
                }
                self.manual_flush(collection, &shard.vchannel);
            }
        }
    }
}

/// The collection in a channel's name.
fn collection_of(vchannel: &str) -> i64 {
    let name = vchannel.rsplit_once('_').map_or(vchannel, |(_, name)| name);
    name.split('v').next().and_then(|id| id.parse().ok()).unwrap_or_default()
}
