//! What the host itself knows of a channel: every delivered message that is not finished pins it, with its payload.
//!
//! The guest decides; this account says what really is. Whatever an intent claims is checked here (principle 5).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidegate_message::schema::Schema;
use tidegate_message::{MessageId, Properties};

use crate::calls::{Position, SegmentFiles};
use crate::ledger::{End, Ledger};
use crate::mutants::{Mutant, is_mutated};
use crate::turn::{ChannelIndex, FilterReason, Holding, Ordinal, Refusal, Ticket};

/// Bytes that a pin takes beside its payload, roughly: part of the budget (ME-1).
pub const PIN_BYTES: usize = 256;

/// Whether the host serves a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The coordinator was not asked yet, or has not answered.
    Unknown,
    /// The coordinator said where it stands, or that it begins in this scan.
    Served,
    /// The coordinator says that it is dropped.
    Dropped,
    /// The coordinator does not know it.
    NotFound,
    /// Given up until it rejoins the scan, or until the next recovery.
    Detached {
        /// Why.
        reason: String,
        /// Since when, as the tick of the last delivered message.
        since: u64,
        /// Where the consume checkpoint is held: an ordinal of this scan, 0 for before it.
        held: Ordinal,
        /// A message that would be corrupted, or cannot be read, is in the way: time alone heals nothing.
        lasts: bool,
    },
}

/// A delivered message that is not finished.
#[derive(Clone, Debug)]
pub struct Pin {
    /// The message's id in the log.
    pub id: MessageId,
    /// Where reading must begin to meet it again.
    pub position: Position,
    /// Its collection.
    pub collection: i64,
    /// The transaction it came in.
    pub txn: Option<i64>,
    /// All properties of rows and deletes, for a dead letter; a control message's are not kept.
    pub properties: Properties,
    /// What it is.
    pub what: Pinned,
}

/// What holds a pin.
#[derive(Clone, Debug)]
pub enum Pinned {
    /// Rows of a segment.
    Rows {
        /// Segment.
        segment: i64,
        /// Partition.
        partition: i64,
        /// Rows.
        rows: u64,
        /// The message's body.
        payload: Bytes,
    },
    /// Deletes in a partition.
    Deletes {
        /// Partition.
        partition: i64,
        /// Keys.
        rows: u64,
        /// The message's body.
        payload: Bytes,
    },
    /// A control message whose effects the coordinator has not acknowledged: what is missing.
    Control(Vec<Wait>),
}

/// What a control message waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The coordinator's word on the channel.
    Standing,
    /// The registration of a segment.
    Alloc {
        /// Segment.
        segment: i64,
        /// Partition.
        partition: i64,
        /// See [`storage_version`](crate::calls::storage_version).
        storage_version: i64,
    },
    /// Segments that are to be complete (or gone).
    Complete(BTreeSet<i64>),
    /// The channel's drop.
    DropChannel,
    /// A schema that the coordinator is to record.
    Schema,
    /// Nothing ends it but a detach: the message would be corrupted.
    Hazard,
}

/// A segment as far as the host follows it.
#[derive(Clone, Debug, Default)]
pub struct SegmentAccount {
    /// Partition.
    pub partition: i64,
    /// The coordinator has it.
    pub registered: bool,
    /// A sync was refused: none follows it, or its batch would begin with the other one's rows.
    pub refused: Option<Refusal>,
    /// A flush was accepted, or it is complete: no later row may be synced.
    pub sealed: bool,
    /// Complete, or gone.
    pub ended: bool,
    /// The coordinator says it is dropped.
    pub dropped: bool,
    /// Its CreateSegment or a row of it was met in this scan.
    pub met: bool,
    /// See [`storage_version`](crate::calls::storage_version).
    pub storage_version: i64,
    /// The dml position as the host read it at recovery.
    pub recovered_dml: Option<Position>,
    /// The dml position as last saved.
    pub dml: Option<Position>,
    /// Position of its first row.
    pub start: Option<Position>,
    /// Its files.
    pub files: SegmentFiles,
    /// Rows saved.
    pub rows: i64,
    /// Ordinals of staged rows that no sync took yet.
    pub staged: VecDeque<Ordinal>,
    /// Syncs asked for, oldest first; the first one runs.
    pub jobs: VecDeque<Job>,
    held: Held,
}

/// Deletes of one partition.
#[derive(Clone, Debug, Default)]
pub struct DeleteAccount {
    /// Ordinals of staged deletes that no sync took yet.
    pub staged: VecDeque<Ordinal>,
    /// Syncs asked for, oldest first; the first one runs.
    pub jobs: VecDeque<Job>,
    held: Held,
}

/// What is pinned of a segment's rows, or of a partition's deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    rows: u64,
    bytes: u64,
    /// A message up to this one was set aside after it was handed out: until its sync ends, the component counts it still.
    aside: Ordinal,
}

/// A sync that was asked for.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its ticket.
    pub ticket: Ticket,
    /// The ordinal it was asked up to.
    pub up_to: Ordinal,
    /// Completes the segment.
    pub flush: bool,
    /// The messages it writes, once it runs.
    pub batch: Vec<Ordinal>,
    /// It runs.
    pub running: bool,
}

/// A channel that was detached and reads its messages again. Their ordinals come after those that its neighbours passed already, so until
/// its checkpoint is past the message at which it joined the others, none of them says where the consume checkpoint may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejoin {
    /// Why it was detached.
    pub reason: String,
    /// Since when, as the tick of the message that was delivered last then.
    pub since: u64,
    /// Where the consume checkpoint is held (CK-3).
    pub held: Ordinal,
    /// The message at which it joined the others; `None` while it is behind.
    pub joined: Option<Ordinal>,
}

/// A channel as the host knows it.
#[derive(Debug)]
pub struct ChannelAccount {
    /// Index.
    pub index: ChannelIndex,
    /// Name.
    pub name: String,
    /// Whether it is served.
    pub standing: Standing,
    /// Its collection, once known.
    pub collection: Option<i64>,
    /// Seek position at recovery: rows with a smaller tick are durable.
    pub seek: Option<Position>,
    /// The first message of this scan.
    pub first: Option<Ordinal>,
    /// Schemas ascending by the tick they are valid from.
    pub schemas: Vec<(u64, Arc<Schema>)>,
    /// Messages that are not finished.
    pub pins: BTreeMap<Ordinal, Pin>,
    /// Those of them that are control messages.
    controls: BTreeSet<Ordinal>,
    /// Segments.
    pub segments: BTreeMap<i64, SegmentAccount>,
    /// Deletes by partition.
    pub deletes: BTreeMap<i64, DeleteAccount>,
    /// Partitions dropped in this scan, and the message that did it.
    pub dropped_partitions: BTreeMap<i64, Ordinal>,
    /// The DropCollection message of this scan.
    pub drop_message: Option<Ordinal>,
    /// Segments that the coordinator said it does not know.
    pub unknown_segments: BTreeSet<i64>,
    /// Segments whose CreateSegment was filtered: their flush is waited for by nobody, and may be asked for.
    pub not_created: BTreeSet<i64>,
    /// The checkpoint as read back: an ordinal of this scan, 0 for before it.
    pub stored: Ordinal,
    /// The checkpoint as read back.
    pub stored_position: Option<Position>,
    /// It was detached, and its checkpoint is not past the place where it joined the others.
    pub rejoin: Option<Rejoin>,
    /// LD-1.
    pub ledger: Ledger,
    /// Bytes held by pins.
    pub held_bytes: usize,
    /// Bytes of pins that no sync took yet.
    pub open_bytes: usize,
    totals: Arc<Totals>,
}

/// Sums over the channels of a pchannel, so that a look at the budget costs the same with one channel and with 100,000.
#[derive(Debug, Default)]
pub struct Totals {
    held: AtomicUsize,
    open: AtomicUsize,
}

impl Totals {
    /// Bytes held by pins.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes of pins that no sync took yet.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl ChannelAccount {
    /// A channel that nothing is known of but its name.
    pub fn new(index: ChannelIndex, name: String, totals: Arc<Totals>) -> Self {
        Self {
            index,
            name,
            standing: Standing::Unknown,
            collection: None,
            seek: None,
            first: None,
            schemas: Vec::new(),
            pins: BTreeMap::new(),
            controls: BTreeSet::new(),
            segments: BTreeMap::new(),
            deletes: BTreeMap::new(),
            dropped_partitions: BTreeMap::new(),
            drop_message: None,
            unknown_segments: BTreeSet::new(),
            not_created: BTreeSet::new(),
            stored: 0,
            stored_position: None,
            rejoin: None,
            ledger: Ledger::default(),
            held_bytes: 0,
            open_bytes: 0,
            totals,
        }
    }

    fn add_held(&mut self, bytes: usize) {
        self.held_bytes += bytes;
        self.totals.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub_held(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
        self.totals.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn add_open(&mut self, bytes: usize) {
        self.open_bytes += bytes;
        self.totals.open.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sub_open(&mut self, bytes: usize) {
        self.open_bytes -= bytes;
        self.totals.open.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether its checkpoints count: it is neither dropped, nor unknown to the coordinator, nor detached.
    pub fn is_live(&self) -> bool {
        matches!(self.standing, Standing::Unknown | Standing::Served)
    }

    /// Whether its rows may be synced and its checkpoint reported.
    pub fn is_served(&self) -> bool {
        self.standing == Standing::Served
    }

    /// Whether it reads messages that the scan has passed already.
    pub fn is_behind(&self) -> bool {
        self.rejoin.as_ref().is_some_and(|rejoin| rejoin.joined.is_none())
    }

    /// Where it holds the consume checkpoint (CK-3).
    pub fn hold(&self) -> Ordinal {
        self.rejoin.as_ref().map_or(self.stored, |rejoin| rejoin.held)
    }

    /// The checkpoint was read back. One that is past the place where the channel joined the others holds like any other.
    pub fn checkpoint_stored(&mut self, at: Ordinal, position: Position) {
        self.stored = at;
        self.stored_position = Some(position);
        if self.rejoin.as_ref().and_then(|rejoin| rejoin.joined).is_some_and(|joined| at >= joined) {
            self.rejoin = None;
        }
    }

    /// Returns the schema that rows of a tick have.
    pub fn schema_at(&self, tick: u64) -> Option<&Arc<Schema>> {
        let after = self.schemas.partition_point(|(from, _)| *from <= tick);
        self.schemas.get(after.saturating_sub(1)).map(|(_, schema)| schema)
    }

    /// Pins a message. Rows and deletes wait for a sync from here on.
    pub fn pin(&mut self, ordinal: Ordinal, pin: Pin) {
        let bytes = pin.bytes();
        self.add_held(bytes);
        match &pin.what {
            Pinned::Rows { segment, partition, rows, .. } => {
                self.ledger.inserts.deliver(*rows);
                let account = self.segments.entry(*segment).or_default();
                account.partition = *partition;
                account.met = true;
                account.staged.push_back(ordinal);
                account.held.add(&pin);
                self.add_open(bytes);
            }
            Pinned::Deletes { partition, rows, .. } => {
                self.ledger.deletes.deliver(*rows);
                let account = self.deletes.entry(*partition).or_default();
                account.staged.push_back(ordinal);
                account.held.add(&pin);
                self.add_open(bytes);
            }
            Pinned::Control(_) => {
                if let Some(s) = pin.alloc_wait().and_then(|segment| self.segments.get_mut(&segment)) {
                    s.met = true;
                }
                self.controls.insert(ordinal);
            }
        }
        self.pins.insert(ordinal, pin);
    }

    /// Ends a pinned message. The only way a pin leaves but for a detach.
    pub fn unpin(&mut self, ordinal: Ordinal, end: End) {
        let Some(pin) = self.pins.remove(&ordinal) else { return };
        let bytes = pin.bytes();
        self.sub_held(bytes);
        let staged = match &pin.what {
            Pinned::Rows { segment, rows, .. } => {
                self.ledger.inserts.end(*rows, end);
                self.segments.get_mut(segment).map(|s| (&mut s.staged, &mut s.held))
            }
            Pinned::Deletes { partition, rows, .. } => {
                self.ledger.deletes.end(*rows, end);
                self.deletes.get_mut(partition).map(|d| (&mut d.staged, &mut d.held))
            }
            Pinned::Control(_) => {
                self.controls.remove(&ordinal);
                None
            }
        };
        let Some((staged, held)) = staged else { return };
        held.sub(&pin);
        if end == End::Quarantined {
            held.aside = held.aside.max(ordinal);
        }
        if let Ok(at) = staged.binary_search(&ordinal) {
            staged.remove(at);
            self.sub_open(bytes);
        }
    }

    /// A sync up to an ordinal ended: the component has forgotten what was set aside of it.
    pub fn sync_ended(&mut self, target: Target, up_to: Ordinal) {
        let held = match target {
            Target::Segment(id) => self.segments.get_mut(&id).map(|s| &mut s.held),
            Target::Deletes(partition) => self.deletes.get_mut(&partition).map(|d| &mut d.held),
        };
        if let Some(held) = held.filter(|held| held.aside <= up_to) {
            held.aside = 0;
        }
    }

    /// What a component should hold of the messages up to `handed`, but for rows and bytes of later ones, which are counted. Segments are left
    /// out that are being dropped, or of which a message was set aside: there the component does not know yet what the host knows.
    pub fn holdings(&self, handed: Ordinal) -> impl Iterator<Item = Holding> {
        let dropped = move |partition: i64| self.dropped_partitions.get(&partition).is_some_and(|&at| at <= handed);
        let first_last = move |staged: &VecDeque<Ordinal>, jobs: &VecDeque<Job>| {
            let in_jobs = || jobs.iter().flat_map(|job| job.batch.iter().copied());
            let staged_last = staged.partition_point(|&o| o <= handed).checked_sub(1).and_then(|at| staged.get(at).copied());
            let first = in_jobs().chain(staged.front().copied()).next().filter(|&o| o <= handed)?;
            Some((first, staged_last.or_else(|| in_jobs().last())?))
        };
        let index = self.index;
        let rows = self.segments.iter().filter(move |(_, s)| !s.dropped && !dropped(s.partition) && s.held.aside == 0);
        let rows = rows.filter_map(move |(&id, s)| {
            let (first, last) = first_last(&s.staged, &s.jobs)?;
            Some(Holding { channel: index, deletes: false, id, first, last, rows: s.held.rows, bytes: s.held.bytes })
        });
        let deletes = self.deletes.iter().filter(move |(partition, d)| !dropped(**partition) && d.held.aside == 0);
        let deletes = deletes.filter_map(move |(&id, d)| {
            let (first, last) = first_last(&d.staged, &d.jobs)?;
            Some(Holding { channel: index, deletes: true, id, first, last, rows: d.held.rows, bytes: d.held.bytes })
        });
        rows.chain(deletes)
    }

    /// Takes the staged ordinals up to one for a sync.
    pub fn take_staged(&mut self, target: Target, up_to: Ordinal) -> Vec<Ordinal> {
        let staged = match target {
            Target::Segment(id) => self.segments.get_mut(&id).map(|s| &mut s.staged),
            Target::Deletes(partition) => self.deletes.get_mut(&partition).map(|d| &mut d.staged),
        };
        let Some(staged) = staged else { return Vec::new() };
        let count = staged.partition_point(|&o| o <= up_to);
        let batch: Vec<Ordinal> = staged.drain(..count).collect();
        let bytes: usize = batch.iter().filter_map(|o| self.pins.get(o)).map(Pin::bytes).sum();
        self.sub_open(bytes);
        batch
    }

    /// Takes a message out of the sync that was to write it: it is set aside instead.
    pub fn forget_in_jobs(&mut self, ordinal: Ordinal) {
        if let Some(target) = self.pins.get(&ordinal).and_then(Pin::target) {
            self.jobs(target).iter_mut().for_each(|job| job.batch.retain(|&o| o != ordinal));
        }
    }

    /// Whether a sync that runs has taken the message.
    pub fn is_being_written(&self, ordinal: Ordinal) -> bool {
        let jobs = match self.pins.get(&ordinal).and_then(Pin::target) {
            Some(Target::Segment(id)) => self.segments.get(&id).map(|s| &s.jobs),
            Some(Target::Deletes(partition)) => self.deletes.get(&partition).map(|d| &d.jobs),
            None => None,
        };
        jobs.is_some_and(|jobs| jobs.iter().any(|job| job.running && job.batch.contains(&ordinal)))
    }

    /// Puts a batch back that was not written.
    pub fn restage(&mut self, target: Target, batch: &[Ordinal]) {
        // Rows whose segment was dropped meanwhile have ended.
        let batch: Vec<Ordinal> = batch.iter().copied().filter(|o| self.pins.contains_key(o)).collect();
        let bytes: usize = batch.iter().filter_map(|o| self.pins.get(o)).map(Pin::bytes).sum();
        let staged = match target {
            Target::Segment(id) => self.segments.get_mut(&id).map(|s| &mut s.staged),
            Target::Deletes(partition) => self.deletes.get_mut(&partition).map(|d| &mut d.staged),
        };
        let Some(staged) = staged else { return };
        for &ordinal in batch.iter().rev() {
            staged.push_front(ordinal);
        }
        self.add_open(bytes);
    }

    /// The syncs of a target, oldest first.
    pub fn jobs(&mut self, target: Target) -> &mut VecDeque<Job> {
        match target {
            Target::Segment(id) => &mut self.segments.entry(id).or_default().jobs,
            Target::Deletes(partition) => &mut self.deletes.entry(partition).or_default().jobs,
        }
    }

    /// CK-2: the first message that holds the channel's checkpoint.
    pub fn floor(&self) -> Option<Ordinal> {
        match is_mutated(Mutant::DeletesNotPinned) {
            true => self.pins.iter().find(|(_, p)| !matches!(p.what, Pinned::Deletes { .. })).map(|(&o, _)| o),
            false => self.pins.keys().next().copied(),
        }
    }

    /// A segment is complete or gone: control messages that wait for it may be done.
    pub fn segment_ended(&mut self, id: i64) {
        if let Some(s) = self.segments.get_mut(&id) {
            s.ended = true;
            s.sealed = true;
        }
        self.settle_controls(|wait| match wait {
            Wait::Complete(segments) => {
                segments.remove(&id);
                segments.is_empty()
            }
            _ => false,
        });
    }

    /// A CreateSegment was filtered. If its segment is not growing by the coordinator's word either, nothing will ever complete it here:
    /// control messages that were met before that word do not wait for it.
    pub fn segment_not_created(&mut self, id: i64) {
        if self.is_registering(id) || self.segments.get(&id).is_some_and(|s| s.registered) || is_mutated(Mutant::HoldForFiltered) {
            return;
        }
        self.not_created.insert(id);
        self.settle_controls(|wait| match wait {
            Wait::Complete(segments) => segments.remove(&id) && segments.is_empty(),
            _ => false,
        });
    }

    /// The coordinator does not know a segment, and none of its rows wait: control messages up to `handed` do not wait for it either. The
    /// component asked by the name of `asked`, and filters that; a message that names the segment and is not handed out yet is asked for.
    pub fn segment_unknown(&mut self, id: i64, asked: Ordinal, handed: Ordinal) {
        self.unknown_segments.insert(id);
        self.segments.remove(&id);
        let mut ended = Vec::new();
        for &ordinal in self.controls.range(..=handed) {
            let Some(Pin { what: Pinned::Control(waits), .. }) = self.pins.get_mut(&ordinal) else { continue };
            // What waits for nothing else is left, to be filtered by this name.
            let to_be_filtered = waits.len() == 1 && (ordinal == asked || is_mutated(Mutant::SecondFlushWaits));
            waits.retain_mut(|wait| match wait {
                Wait::Complete(segments) if !to_be_filtered || segments.len() > 1 => {
                    segments.remove(&id);
                    !segments.is_empty()
                }
                _ => true,
            });
            if waits.is_empty() {
                ended.push(ordinal);
            }
        }
        for ordinal in ended {
            self.unpin(ordinal, End::Filtered(FilterReason::UnknownSegment));
        }
    }

    /// Segments that the coordinator has, or is being told of, and that are not complete: all of a partition's, or all.
    ///
    /// One that only has rows of messages to be filtered is nobody's: nothing will ever complete it.
    pub fn open_segments(&self, partition: Option<i64>) -> BTreeSet<i64> {
        let registering: BTreeSet<i64> = self.controls.iter().filter_map(|o| self.pins.get(o)?.alloc_wait()).collect();
        let wanted = |(id, s): &(&i64, &SegmentAccount)| {
            !s.ended && (s.registered || registering.contains(id)) && partition.is_none_or(|p| p == s.partition)
        };
        self.segments.iter().filter(wanted).map(|(&id, _)| id).collect()
    }

    /// Segments that a FlushAll message completes: the open ones that are known to be older than it. A replay meets messages again that are
    /// older than segments which the coordinator lists by now; those are another FlushAll's.
    pub fn segments_before(&self, tick: u64) -> BTreeSet<i64> {
        let mut open = self.open_segments(None);
        let is_older = |s: &SegmentAccount| s.met || s.dml.as_ref().is_some_and(|dml| dml.tick <= tick);
        open.retain(|id| self.segments.get(id).is_some_and(is_older) || is_mutated(Mutant::FlushAllSealsLater));
        open
    }

    /// Whether a segment's registration was asked for and is not acknowledged.
    pub fn is_registering(&self, id: i64) -> bool {
        self.controls.iter().filter_map(|o| self.pins.get(o)?.alloc_wait()).any(|s| s == id)
    }

    /// The coordinator has a segment: its CreateSegment message is done.
    pub fn segment_registered(&mut self, id: i64) {
        let s = self.segments.entry(id).or_default();
        s.registered = true;
        self.settle_controls(|wait| matches!(wait, Wait::Alloc { segment, .. } if *segment == id));
    }

    /// The coordinator has recorded the schema of one message; another one's may still be under way.
    pub fn schema_recorded(&mut self, at: Ordinal) {
        if is_mutated(Mutant::AnySchemaRecord) {
            return self.settle_controls(|wait| *wait == Wait::Schema);
        }
        let Some(Pin { what: Pinned::Control(waits), .. }) = self.pins.get_mut(&at) else { return };
        waits.retain(|wait| *wait != Wait::Schema);
        if waits.is_empty() {
            self.unpin(at, End::Durable);
        }
    }

    /// Drops the waits for which `done` holds, and ends the control messages that then wait for nothing.
    pub fn settle_controls(&mut self, mut done: impl FnMut(&mut Wait) -> bool) {
        let mut ended = Vec::new();
        for &ordinal in &self.controls {
            if let Some(Pin { what: Pinned::Control(waits), .. }) = self.pins.get_mut(&ordinal) {
                waits.retain_mut(|wait| !done(wait));
                if waits.is_empty() {
                    ended.push(ordinal);
                }
            }
        }
        for ordinal in ended {
            self.unpin(ordinal, End::Durable);
        }
    }

    /// Ends every pinned message for one reason: the channel is gone, as the host knows from the coordinator.
    pub fn end_all(&mut self, reason: FilterReason) {
        let ordinals: Vec<Ordinal> = self.pins.keys().copied().collect();
        for ordinal in ordinals {
            self.unpin(ordinal, End::Filtered(reason));
        }
        self.segments.clear();
        self.deletes.clear();
    }

    /// Drops every row from memory; the rows stay pending in the ledger and are met again when the channel rejoins, or at the next
    /// recovery.
    pub fn detach(&mut self, reason: String, since: u64, unreadable: bool) {
        let held = match &self.rejoin {
            Some(rejoin) => rejoin.held,
            None if self.stored > 0 || self.seek.is_some() => self.stored,
            None => self.first.unwrap_or_default(),
        };
        let waits_for_hazard = |pin: &Pin| matches!(&pin.what, Pinned::Control(waits) if waits.contains(&Wait::Hazard));
        let lasts = unreadable || self.controls.iter().filter_map(|o| self.pins.get(o)).any(waits_for_hazard);
        self.standing = Standing::Detached { reason, since, held, lasts };
        self.rejoin = None;
        self.pins.clear();
        self.controls.clear();
        self.segments.clear();
        self.deletes.clear();
        self.sub_held(self.held_bytes);
        self.sub_open(self.open_bytes);
    }

    /// Whether a filter reason holds for a pinned message, by what the host knows itself; an error says why it does not.
    pub fn may_filter(&self, ordinal: Ordinal, pin: &Pin, reason: FilterReason) -> Result<(), String> {
        let tick = pin.position.tick;
        let holds = match reason {
            FilterReason::Duplicate => {
                let below_seek = self.seek.as_ref().is_some_and(|s| tick < s.tick);
                let below_dml = match &pin.what {
                    Pinned::Rows { segment, .. } => {
                        self.segments.get(segment).and_then(|s| s.recovered_dml.as_ref()).is_some_and(|dml| tick <= dml.tick)
                    }
                    _ => false,
                };
                below_seek || below_dml
            }
            FilterReason::DroppedSegment => {
                matches!(&pin.what, Pinned::Rows { segment, .. } if self.segments.get(segment).is_some_and(|s| s.dropped))
            }
            // A control message of the whole pchannel is of no collection, and every channel's own.
            FilterReason::ForeignCollection => {
                let of_all = pin.collection == 0 && matches!(pin.what, Pinned::Control(_));
                !of_all && self.collection.is_some_and(|c| c != pin.collection)
            }
            FilterReason::DroppedChannel => self.standing == Standing::Dropped || self.drop_message.is_some_and(|at| at < ordinal),
            FilterReason::UnknownChannel => self.standing == Standing::NotFound,
            FilterReason::DroppedPartition => {
                let partition = match &pin.what {
                    Pinned::Rows { partition, .. } | Pinned::Deletes { partition, .. } => Some(*partition),
                    Pinned::Control(waits) => waits.iter().find_map(|w| match w {
                        Wait::Alloc { partition, .. } => Some(*partition),
                        _ => None,
                    }),
                };
                partition.and_then(|p| self.dropped_partitions.get(&p)).is_some_and(|&at| at < ordinal)
            }
            FilterReason::UnknownSegment => match &pin.what {
                Pinned::Control(waits) => {
                    waits.iter().all(|w| matches!(w, Wait::Complete(segments) if segments.is_subset(&self.unknown_segments)))
                }
                _ => false,
            },
            FilterReason::Repeated => pin.alloc_wait().is_some_and(|segment| {
                let earlier = || self.controls.range(..ordinal).filter_map(|o| self.pins.get(o)?.alloc_wait());
                self.segments.get(&segment).is_some_and(|s| s.registered) || earlier().any(|s| s == segment)
            }),
        };
        if holds { Ok(()) } else { Err(format!("{} does not hold for message {ordinal} at tick {tick}", reason.name())) }
    }
}

impl Held {
    fn add(&mut self, pin: &Pin) {
        let (rows, bytes) = pin.amount();
        self.rows += rows;
        self.bytes += bytes;
    }

    fn sub(&mut self, pin: &Pin) {
        let (rows, bytes) = pin.amount();
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Pin {
    /// Rows or deletes, and bytes of their payload.
    fn amount(&self) -> (u64, u64) {
        match &self.what {
            Pinned::Rows { rows, payload, .. } | Pinned::Deletes { rows, payload, .. } => (*rows, payload.len() as u64),
            Pinned::Control(_) => (0, 0),
        }
    }

    /// Returns the segment whose registration it waits for.
    pub fn alloc_wait(&self) -> Option<i64> {
        match &self.what {
            Pinned::Control(waits) => waits.iter().find_map(|w| match w {
                Wait::Alloc { segment, .. } => Some(*segment),
                _ => None,
            }),
            _ => None,
        }
    }

    /// Whether it is a control message that waits for something, and for no segment.
    pub fn is_past_its_segments(&self) -> bool {
        matches!(&self.what, Pinned::Control(waits) if !waits.iter().any(|w| matches!(w, Wait::Complete(_))))
    }

    /// Whether it waits for what the host asks for by itself: no component knows of it.
    pub fn waits_for_the_host_alone(&self) -> bool {
        matches!(&self.what, Pinned::Control(waits) if waits.iter().all(|w| *w == Wait::Schema))
    }

    /// Returns what writes it; `None` for a control message.
    pub fn target(&self) -> Option<Target> {
        match &self.what {
            Pinned::Rows { segment, .. } => Some(Target::Segment(*segment)),
            Pinned::Deletes { partition, .. } => Some(Target::Deletes(*partition)),
            Pinned::Control(_) => None,
        }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        let properties: usize = self.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
        PIN_BYTES
            + properties
            + match &self.what {
                Pinned::Rows { payload, .. } | Pinned::Deletes { payload, .. } => payload.len(),
                Pinned::Control(_) => 0,
            }
    }
}

/// What a sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Rows of a segment.
    Segment(i64),
    /// Deletes of a partition.
    Deletes(i64),
}
