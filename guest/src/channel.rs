//! One virtual channel: its segments, its deletes, and what holds its checkpoint.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::buffer::Buffer;
use crate::contract::{ChannelIndex, ControlBody, FilterReason, Filtered, Ordinal, RecoveredChannel, SegmentState};
use crate::mutants::{Mutant, is_mutated};

/// A message's header, as dispatch sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its ordinal.
    pub ordinal: Ordinal,
    /// Type code.
    pub kind: u16,
    /// Bits of [`crate::contract::flag`].
    pub flags: u8,
    /// Collection.
    pub collection: i64,
    /// Partition.
    pub partition: i64,
    /// Segment.
    pub segment: i64,
    /// Rows.
    pub rows: u32,
    /// Bytes.
    pub bytes: u64,
    /// Time tick.
    pub tick: u64,
    /// What it carries beyond integers.
    pub body: Option<ControlBody>,
}

/// Whether a channel is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// The coordinator was asked; messages wait, oldest first.
    Asking(Vec<Message>),
    /// Served.
    Attached,
    /// Its DropCollection was met; the coordinator was told.
    Dropping(Ordinal),
    /// Given up until the host serves its name again, under a new index, and why.
    Detached(String),
    /// It does not exist (any more): its messages are filtered for this reason.
    Gone(FilterReason),
}

/// A segment that takes, or took, rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its partition.
    pub partition: i64,
    /// Growing until its flush is durable.
    pub state: SegmentState,
    /// A flush was asked for: no more rows.
    pub sealed: bool,
    /// Rows with a tick at or below it were durable at recovery. 0 is of a segment of which nothing is known but that the coordinator has
    /// it: whether it is older than a replayed message cannot be told.
    pub dml_tick: u64,
    /// Its rows.
    pub buffer: Buffer,
}

impl Segment {
    /// A segment that begins.
    pub fn growing(partition: i64) -> Self {
        Self { partition, state: SegmentState::Growing, sealed: false, dml_tick: 0, buffer: Buffer::default() }
    }

    /// Its CreateSegment or a row of it was met: it is older than what follows. No row has a tick as low as 1.
    pub fn met(&mut self) {
        self.dml_tick = self.dml_tick.max(1);
    }
}

/// A virtual channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its index.
    pub index: ChannelIndex,
    /// Its name.
    pub name: String,
    /// Whether it is served.
    pub service: Service,
    /// Its collection.
    pub collection: i64,
    /// Messages with a smaller tick were durable at recovery.
    pub seek_tick: u64,
    /// Largest dml tick of the complete segments at recovery: past it they can be forgotten.
    pub replay_until: u64,
    /// By id.
    pub segments: BTreeMap<i64, Segment>,
    /// By partition; −1 is every partition.
    pub deletes: BTreeMap<i64, Buffer>,
    /// Partitions dropped in this scan.
    pub dropped_partitions: BTreeSet<i64>,
    /// Control messages whose coordinator calls are not acknowledged: how many calls each waits for.
    pub controls: BTreeMap<Ordinal, u32>,
    /// A flush asks for everything up to this message: its ordinal.
    pub flush_wait: Option<Ordinal>,
    /// The checkpoint as read back.
    pub stored: Ordinal,
    /// The checkpoint last reported and not yet answered.
    pub reporting: Option<Ordinal>,
    /// When to report next.
    pub report_due: u64,
    pub(crate) filter_run: Option<Filtered>,
}

impl Channel {
    /// A channel whose service is not known yet.
    pub fn new(index: ChannelIndex, name: String) -> Self {
        Self {
            index,
            name,
            service: Service::Asking(Vec::new()),
            collection: 0,
            seek_tick: 0,
            replay_until: 0,
            segments: BTreeMap::new(),
            deletes: BTreeMap::new(),
            dropped_partitions: BTreeSet::new(),
            controls: BTreeMap::new(),
            flush_wait: None,
            stored: 0,
            reporting: None,
            report_due: 0,
            filter_run: None,
        }
    }

    /// Takes over what the coordinator knows; returns the messages that waited.
    pub fn attach(&mut self, info: RecoveredChannel) -> Vec<Message> {
        self.collection = info.collection;
        self.seek_tick = info.seek_tick;
        for s in info.segments {
            if s.state != SegmentState::Growing {
                self.replay_until = self.replay_until.max(s.dml_tick);
            }
            let segment = Segment { state: s.state, dml_tick: s.dml_tick, ..Segment::growing(s.partition) };
            self.segments.insert(s.segment, segment);
        }
        match std::mem::replace(&mut self.service, Service::Attached) {
            Service::Asking(held) if !is_mutated(Mutant::HeldForgotten) => held,
            _ => Vec::new(),
        }
    }

    /// Leaves service: forgets rows, controls and reports.
    pub fn leave(&mut self, service: Service) {
        self.service = service;
        self.segments.clear();
        self.deletes.clear();
        self.controls.clear();
        self.flush_wait = None;
        self.reporting = None;
    }

    /// Whether messages are dispatched to it.
    pub fn is_attached(&self) -> bool {
        self.service == Service::Attached
    }

    /// Returns the first ordinal that holds the checkpoint, if any: a row that is not durable, a sync in flight, a control message that
    /// is not acknowledged. CK-2.
    pub fn floor(&self) -> Option<Ordinal> {
        let rows = self.segments.values().map(|s| &s.buffer).chain(self.deletes.values()).filter_map(Buffer::floor).min();
        let controls = self.controls.keys().next().copied().filter(|_| !is_mutated(Mutant::ForgetControls));
        [rows, controls].into_iter().flatten().min()
    }

    /// A segment's drop is acknowledged. Of one that was dropped with its partition nothing has to be known any more; into one that the
    /// coordinator dropped by itself rows may still come.
    pub fn segment_dropped(&mut self, id: i64) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        if self.dropped_partitions.contains(&segment.partition) {
            self.segments.remove(&id);
        } else {
            segment.buffer = Buffer::default();
        }
    }

    /// Returns the bytes that wait for a sync.
    pub fn open_bytes(&self) -> u64 {
        self.segments.values().map(|s| &s.buffer).chain(self.deletes.values()).filter_map(Buffer::open).map(|b| b.bytes).sum()
    }

    /// Adds a message to the current run of filtered ones, and returns the run before if this one does not continue it.
    pub fn extend_filter(&mut self, ordinal: Ordinal, reason: FilterReason) -> Option<Filtered> {
        match &mut self.filter_run {
            Some(run) if run.reason == reason => {
                run.last = ordinal;
                None
            }
            _ => self.filter_run.replace(Filtered { channel: self.index, first: ordinal, last: ordinal, reason }),
        }
    }

    /// Ends the current run of filtered messages: a message that is kept came between.
    pub fn end_filter(&mut self) -> Option<Filtered> {
        self.filter_run.take()
    }

    /// Notes that a call which a control message waits for ended.
    pub fn acknowledge(&mut self, control: Ordinal) {
        if let Some(calls) = self.controls.get_mut(&control) {
            *calls -= 1;
            if *calls == 0 {
                self.controls.remove(&control);
            }
        }
    }

    /// Notes that a control message waits for one more call.
    pub fn await_call(&mut self, control: Ordinal) {
        *self.controls.entry(control).or_default() += 1;
    }
}
