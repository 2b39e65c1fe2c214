//! Reads snapshots of schema 1: postcard throughout, the whole state in one section. Its types are as they were; only what has not changed
//! since is shared.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Deserialize;

use super::{Envelope, SnapshotError, View};
use crate::buffer::{self, Buffer, Sync};
use crate::channel::{Channel, Segment, Service};
use crate::contract::{ChannelIndex, Counts, Filtered, Ordinal, SegmentState};
use crate::flusher::{Stage, State, Timer};

/// Section of the whole state.
pub(super) const STATE: u16 = 1;

#[derive(Deserialize)]
struct Envelope1<'a> {
    schema_version: u16,
    pchannel: String,
    term: i64,
    digest: u64,
    #[serde(borrow)]
    sections: Vec<View<'a>>,
}

#[derive(Deserialize)]
struct State1 {
    stage: Stage,
    channels: BTreeMap<ChannelIndex, Channel1>,
    unarmed: BTreeSet<ChannelIndex>,
    timers: BTreeSet<(u64, ChannelIndex, Timer)>,
    stored: BTreeSet<(Ordinal, ChannelIndex)>,
    reports: BTreeSet<ChannelIndex>,
    flush_waits: BTreeSet<ChannelIndex>,
    full: BTreeSet<(ChannelIndex, Timer)>,
    filter_runs: BTreeSet<ChannelIndex>,
    group_end: Ordinal,
    tick: u64,
    consumed: Ordinal,
    consuming: Option<Ordinal>,
    consume_refused: Ordinal,
    counts: Counts,
}

#[derive(Deserialize)]
struct Channel1 {
    index: ChannelIndex,
    name: String,
    service: Service,
    collection: i64,
    seek_tick: u64,
    replay_until: u64,
    segments: BTreeMap<i64, Segment1>,
    deletes: BTreeMap<i64, Buffer1>,
    dropped_partitions: BTreeSet<i64>,
    controls: BTreeMap<Ordinal, u32>,
    flush_wait: Option<Ordinal>,
    stored: Ordinal,
    reporting: Option<Ordinal>,
    report_due: u64,
    filter_run: Option<Filtered>,
}

#[derive(Deserialize)]
struct Segment1 {
    partition: i64,
    state: SegmentState,
    sealed: bool,
    dml_tick: u64,
    buffer: Buffer1,
}

#[derive(Deserialize)]
struct Buffer1 {
    open: Option<Batch1>,
    syncing: VecDeque<Batch1>,
}

/// Of a sync, `last` was the ordinal it was asked up to.
#[derive(Deserialize)]
struct Batch1 {
    first: Ordinal,
    first_tick: u64,
    last: Ordinal,
    rows: u64,
    bytes: u64,
}

/// Takes what follows the version apart.
pub(super) fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, SnapshotError> {
    let (envelope, rest): (Envelope1<'_>, _) = postcard::take_from_bytes(bytes).map_err(|_| SnapshotError::Damaged)?;
    if !rest.is_empty() || envelope.schema_version != 1 || envelope.digest != digest(&envelope.sections) {
        return Err(SnapshotError::Damaged);
    }
    Ok(Envelope { pchannel: envelope.pchannel, term: envelope.term, sections: envelope.sections })
}

/// Returns the state that the section has.
pub(super) fn read(own: &[View<'_>]) -> Result<State, SnapshotError> {
    let state: Option<State1> = own.first().and_then(|s| postcard::from_bytes(s.bytes).ok());
    let s = state.ok_or(SnapshotError::Unreadable("tables"))?;
    let channels: BTreeMap<_, _> = s.channels.into_iter().map(|(index, c)| (index, channel(c))).collect();
    Ok(State {
        stage: s.stage,
        detached: super::tables::detached(&channels),
        behind: BTreeMap::new(),
        channels,
        unarmed: s.unarmed,
        timers: s.timers,
        stored: s.stored,
        reports: s.reports,
        flush_waits: s.flush_waits,
        full: s.full,
        filter_runs: s.filter_runs,
        group_end: s.group_end,
        tick: s.tick,
        consumed: s.consumed,
        consuming: s.consuming,
        consume_refused: s.consume_refused,
        counts: s.counts,
    })
}

fn channel(c: Channel1) -> Channel {
    let mut deletes = BTreeMap::new();
    deletes.extend(c.deletes.into_iter().map(|(partition, b)| (partition, buffer(b))));
    Channel {
        index: c.index,
        name: c.name,
        service: c.service,
        collection: c.collection,
        seek_tick: c.seek_tick,
        replay_until: c.replay_until,
        segments: c.segments.into_iter().map(|(id, s)| (id, segment(s))).collect(),
        deletes,
        dropped_partitions: c.dropped_partitions,
        controls: c.controls,
        flush_wait: c.flush_wait,
        stored: c.stored,
        reporting: c.reporting,
        report_due: c.report_due,
        filter_run: c.filter_run,
    }
}

fn segment(s: Segment1) -> Segment {
    Segment { partition: s.partition, state: s.state, sealed: s.sealed, dml_tick: s.dml_tick, buffer: buffer(s.buffer) }
}

fn buffer(b: Buffer1) -> Buffer {
    let rows = |b: Batch1| buffer::Batch { first: b.first, first_tick: b.first_tick, last: b.last, rows: b.rows, bytes: b.bytes };
    let sync = |b: Batch1| Sync { up_to: b.last, batch: (b.rows > 0).then(|| rows(b)) };
    Buffer::of(b.open.map(rows), b.syncing.into_iter().map(sync).collect())
}

/// 64-bit FNV-1a over the sections.
fn digest(sections: &[View<'_>]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    sections.iter().fold(0xcbf2_9ce4_8422_2325, |hash, s| {
        let head = [s.id.to_le_bytes().as_slice(), &s.base.to_le_bytes(), &(s.bytes.len() as u64).to_le_bytes()].concat();
        s.bytes.iter().fold(head.iter().fold(hash, step), step)
    })
}
