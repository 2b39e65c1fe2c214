//! The state as sections: what every channel and segment has in tables of fixed width, the rest in postcard.
//!
//! | id | section | a row |
//! |---|---|---|
//! | 2 | channels | [`ChannelRow`], ascending by index |
//! | 3 | names | the channels' names, joined |
//! | 4 | segments | [`SegmentRow`], in the order of the channels, ascending by id |
//! | 5 | deletes | [`DeletesRow`], likewise |
//! | 6 | syncs | [`Sync`]: those of the segments in their order, then those of the deletes |
//! | 7 | timers | [`TimerRow`], ascending |
//! | 8 | stored checkpoints | [`StoredRow`], ascending |
//! | 9 | rest | [`Rest`] |
//!
//! The large maps are built at once, from rows that are in order; what is small by nature is filled entry by entry.
//!
//! What a row has in another table is counted in the row, and follows there in order. Of channels that are not among the channels nothing is
//! read; a timer of one expires by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::fixed::{Fixed, fixed, number, take};
use super::{SnapshotError, View};
use crate::buffer::{Batch, Buffer, Sync};
use crate::channel::{Channel, Segment, Service};
use crate::contract::{ChannelIndex, Counts, Filtered, Ordinal, SegmentState};
use crate::flusher::{Stage, State, Timer};
use crate::rejoin::Behind;

const CHANNELS: u16 = 2;
const NAMES: u16 = 3;
const SEGMENTS: u16 = 4;
const DELETES: u16 = 5;
const SYNCS: u16 = 6;
const TIMERS: u16 = 7;
const STORED: u16 = 8;
const REST: u16 = 9;

/// Ids of the sections, each of which is there once, in this order.
pub(super) const SECTIONS: RangeInclusive<u16> = CHANNELS..=REST;

struct ChannelRow {
    index: ChannelIndex,
    collection: i64,
    seek_tick: u64,
    replay_until: u64,
    flush_wait: Option<Ordinal>,
    stored: Ordinal,
    reporting: Option<Ordinal>,
    report_due: u64,
    name_bytes: u32,
    segments: u32,
    deletes: u32,
}

fixed!(ChannelRow {
    index: u32,
    collection: i64,
    seek_tick: u64,
    replay_until: u64,
    flush_wait: Option<u64>,
    stored: u64,
    reporting: Option<u64>,
    report_due: u64,
    name_bytes: u32,
    segments: u32,
    deletes: u32,
});

struct SegmentRow {
    id: i64,
    partition: i64,
    state: SegmentState,
    sealed: bool,
    dml_tick: u64,
    open: Option<Batch>,
    syncs: u32,
}

fixed!(SegmentRow { id: i64, partition: i64, state: SegmentState, sealed: bool, dml_tick: u64, open: Option<Batch>, syncs: u32 });

struct DeletesRow {
    partition: i64,
    open: Option<Batch>,
    syncs: u32,
}

fixed!(DeletesRow { partition: i64, open: Option<Batch>, syncs: u32 });

struct TimerRow {
    due: u64,
    channel: ChannelIndex,
    what: Timer,
}

fixed!(TimerRow { due: u64, channel: u32, what: Timer });

struct StoredRow {
    at: Ordinal,
    channel: ChannelIndex,
}

fixed!(StoredRow { at: u64, channel: u32 });

/// What is one of a kind, or few channels have.
#[derive(Serialize, Deserialize)]
struct Rest {
    stage: Stage,
    group_end: Ordinal,
    tick: u64,
    consumed: Ordinal,
    consuming: Option<Ordinal>,
    consume_refused: Ordinal,
    counts: Counts,
    unarmed: Vec<ChannelIndex>,
    reports: Vec<ChannelIndex>,
    flush_waits: Vec<ChannelIndex>,
    full: Vec<(ChannelIndex, Timer)>,
    filter_runs: Vec<ChannelIndex>,
    behind: Vec<(ChannelIndex, Behind)>,
    /// Of the channels that have any of it.
    channels: Vec<ChannelRest>,
}

#[derive(Serialize, Deserialize)]
struct ChannelRest {
    index: ChannelIndex,
    service: Service,
    dropped_partitions: Vec<i64>,
    controls: Vec<(Ordinal, u32)>,
    filter_run: Option<Filtered>,
}

/// Returns the sections, by their ids.
pub(super) fn write(state: &State) -> [(u16, Vec<u8>); 8] {
    let channels = || state.channels.values();
    let mut names = Vec::new();
    channels().for_each(|c| names.extend_from_slice(c.name.as_bytes()));
    let buffers = || channels().flat_map(|c| c.segments.values().map(|s| &s.buffer)).chain(channels().flat_map(|c| c.deletes.values()));
    let segments = channels().flat_map(|c| &c.segments).map(|(&id, s)| SegmentRow {
        id,
        partition: s.partition,
        state: s.state,
        sealed: s.sealed,
        dml_tick: s.dml_tick,
        open: s.buffer.open().copied(),
        syncs: number(s.buffer.syncs().len()),
    });
    let deletes = channels().flat_map(|c| &c.deletes).map(|(&partition, buffer)| DeletesRow {
        partition,
        open: buffer.open().copied(),
        syncs: number(buffer.syncs().len()),
    });
    [
        (CHANNELS, table(state.channels.len(), channels().map(channel_row))),
        (NAMES, names),
        (SEGMENTS, table(channels().map(|c| c.segments.len()).sum(), segments)),
        (DELETES, table(channels().map(|c| c.deletes.len()).sum(), deletes)),
        (SYNCS, table(0, buffers().flat_map(Buffer::syncs).copied())),
        (TIMERS, table(state.timers.len(), state.timers.iter().map(|&(due, channel, what)| TimerRow { due, channel, what }))),
        (STORED, table(state.stored.len(), state.stored.iter().map(|&(at, channel)| StoredRow { at, channel }))),
        // Nothing of these types can fail to be encoded into memory.
        (REST, postcard::to_allocvec(&rest(state)).unwrap_or_default()),
    ]
}

fn channel_row(c: &Channel) -> ChannelRow {
    ChannelRow {
        index: c.index,
        collection: c.collection,
        seek_tick: c.seek_tick,
        replay_until: c.replay_until,
        flush_wait: c.flush_wait,
        stored: c.stored,
        reporting: c.reporting,
        report_due: c.report_due,
        name_bytes: number(c.name.len()),
        segments: number(c.segments.len()),
        deletes: number(c.deletes.len()),
    }
}

fn rest(state: &State) -> Rest {
    let rare = |c: &&Channel| !c.is_attached() || !c.dropped_partitions.is_empty() || !c.controls.is_empty() || c.filter_run.is_some();
    let channels = state.channels.values().filter(rare).map(|c| ChannelRest {
        index: c.index,
        service: c.service.clone(),
        dropped_partitions: c.dropped_partitions.iter().copied().collect(),
        controls: c.controls.iter().map(|(&at, &calls)| (at, calls)).collect(),
        filter_run: c.filter_run,
    });
    Rest {
        stage: state.stage.clone(),
        group_end: state.group_end,
        tick: state.tick,
        consumed: state.consumed,
        consuming: state.consuming,
        consume_refused: state.consume_refused,
        counts: state.counts,
        unarmed: state.unarmed.iter().copied().collect(),
        reports: state.reports.iter().copied().collect(),
        flush_waits: state.flush_waits.iter().copied().collect(),
        full: state.full.iter().copied().collect(),
        filter_runs: state.filter_runs.iter().copied().collect(),
        behind: state.behind.iter().map(|(&index, behind)| (index, behind.clone())).collect(),
        channels: channels.collect(),
    }
}

fn table<R: Fixed>(expected: usize, rows: impl Iterator<Item = R>) -> Vec<u8> {
    let mut out = Vec::with_capacity(expected * R::BYTES);
    rows.for_each(|row| row.put(&mut out));
    out
}

/// Returns the rows of a table; the error names what it is a table of.
fn rows<R: Fixed>(mut bytes: &[u8], part: &'static str) -> Result<Vec<R>, SnapshotError> {
    let mut rows = Vec::with_capacity(bytes.len() / R::BYTES);
    while !bytes.is_empty() {
        rows.push(R::get(&mut bytes).ok_or(SnapshotError::Unreadable(part))?);
    }
    Ok(rows)
}

/// Returns the state that the sections have.
pub(super) fn read(own: &[View<'_>]) -> Result<State, SnapshotError> {
    let unreadable = SnapshotError::Unreadable;
    if !own.iter().map(|s| s.id).eq(SECTIONS) {
        return Err(unreadable("sections"));
    }
    let of = |id: u16| own[usize::from(id - CHANNELS)].bytes;
    let parts = Parts { names: of(NAMES), segments: of(SEGMENTS), deletes: of(DELETES), syncs: of(SYNCS) };
    let mut channels = parts.channels(rows(of(CHANNELS), "channels")?).ok_or(unreadable("segments"))?;
    let timers: Vec<TimerRow> = rows(of(TIMERS), "timers")?;
    let stored: Vec<StoredRow> = rows(of(STORED), "checkpoints")?;
    let rest: Option<(Rest, &[u8])> = postcard::take_from_bytes(of(REST)).ok();
    let (rest, _) = rest.filter(|(_, after)| after.is_empty()).ok_or(unreadable("rare parts"))?;
    for c in rest.channels {
        let Some(channel) = channels.get_mut(&c.index) else { continue };
        channel.service = c.service;
        channel.dropped_partitions.extend(c.dropped_partitions);
        channel.controls.extend(c.controls);
        channel.filter_run = c.filter_run;
    }
    let known = |index: &ChannelIndex| channels.contains_key(index);
    let all_known = |indices: Vec<ChannelIndex>| {
        let mut all = BTreeSet::new();
        all.extend(indices.into_iter().filter(known));
        all
    };
    let mut full = BTreeSet::new();
    full.extend(rest.full.into_iter().filter(|(index, _)| known(index)));
    let mut behind = BTreeMap::new();
    behind.extend(rest.behind.into_iter().filter(|(index, _)| known(index)));
    Ok(State {
        stage: rest.stage,
        unarmed: all_known(rest.unarmed),
        timers: timers.into_iter().map(|t| (t.due, t.channel, t.what)).collect(),
        stored: stored.into_iter().filter(|s| known(&s.channel)).map(|s| (s.at, s.channel)).collect(),
        reports: all_known(rest.reports),
        flush_waits: all_known(rest.flush_waits),
        full,
        filter_runs: all_known(rest.filter_runs),
        detached: detached(&channels),
        behind,
        group_end: rest.group_end,
        tick: rest.tick,
        consumed: rest.consumed,
        consuming: rest.consuming,
        consume_refused: rest.consume_refused,
        counts: rest.counts,
        channels,
    })
}

/// The channels that are detached, as each says itself.
pub(super) fn detached(channels: &BTreeMap<ChannelIndex, Channel>) -> BTreeSet<ChannelIndex> {
    let mut detached = BTreeSet::new();
    detached.extend(channels.values().filter(|c| matches!(c.service, Service::Detached(_))).map(|c| c.index));
    detached
}

/// What channels have in other tables, as far as it was not taken yet.
struct Parts<'a> {
    names: &'a [u8],
    segments: &'a [u8],
    deletes: &'a [u8],
    syncs: &'a [u8],
}

impl Parts<'_> {
    /// Puts the channels together, and wants nothing to be left; `None` if the parts do not fit the rows.
    fn channels(mut self, rows: Vec<ChannelRow>) -> Option<BTreeMap<ChannelIndex, Channel>> {
        let mut channels = Vec::with_capacity(rows.len());
        for row in &rows {
            channels.push(self.channel(row)?);
        }
        for (row, (_, channel)) in rows.iter().zip(&mut channels) {
            for _ in 0..row.deletes {
                let (partition, buffer) = self.deletes()?;
                channel.deletes.insert(partition, buffer);
            }
        }
        let left = [self.names, self.segments, self.deletes, self.syncs];
        left.iter().all(|part| part.is_empty()).then(|| channels.into_iter().collect())
    }

    /// Takes a channel's name and segments.
    fn channel(&mut self, row: &ChannelRow) -> Option<(ChannelIndex, Channel)> {
        let name = std::str::from_utf8(take(&mut self.names, row.name_bytes)?).ok()?;
        let mut channel = Channel::new(row.index, name.to_owned());
        channel.service = Service::Attached;
        (channel.collection, channel.seek_tick, channel.replay_until) = (row.collection, row.seek_tick, row.replay_until);
        (channel.stored, channel.reporting) = (row.stored, row.reporting);
        (channel.report_due, channel.flush_wait) = (row.report_due, row.flush_wait);
        channel.segments = (0..row.segments).map(|_| self.segment()).collect::<Option<_>>()?;
        Some((row.index, channel))
    }

    fn segment(&mut self) -> Option<(i64, Segment)> {
        let row = SegmentRow::get(&mut self.segments)?;
        let buffer = self.buffer(row.open, row.syncs)?;
        Some((row.id, Segment { partition: row.partition, state: row.state, sealed: row.sealed, dml_tick: row.dml_tick, buffer }))
    }

    fn deletes(&mut self) -> Option<(i64, Buffer)> {
        let row = DeletesRow::get(&mut self.deletes)?;
        Some((row.partition, self.buffer(row.open, row.syncs)?))
    }

    fn buffer(&mut self, open: Option<Batch>, syncs: u32) -> Option<Buffer> {
        let syncs = (0..syncs).map(|_| Sync::get(&mut self.syncs)).collect::<Option<_>>()?;
        Some(Buffer::of(open, syncs))
    }
}
