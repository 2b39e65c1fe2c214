//! What crosses the border, as plain data: the host's side of `wit/`.

use serde::{Deserialize, Serialize};

use crate::switches::{Switch, is_on};

/// Number of a delivered message; the first of a scan is 1.
pub type Ordinal = u64;
/// Index of a channel's name; never reused in a process.
pub type ChannelIndex = u32;
/// Names an intent until its completion.
pub type Ticket = u64;

/// The channel of messages that concern every channel.
pub const EVERY_CHANNEL: ChannelIndex = u32::MAX;

/// Bits of [`Page::flags`].
pub mod flag {
    /// Stored in the log, not only in the writer's memory.
    pub const PERSISTED: u8 = 1;
    /// Concerns the whole pchannel.
    pub const PCHANNEL_LEVEL: u8 = 2;
    /// On the control channel.
    pub const CONTROL_CHANNEL: u8 = 4;
    /// Last message of its tick.
    pub const GROUP_END: u8 = 8;
    /// The host settled it already: it only moves positions.
    pub const SETTLED: u8 = 16;
}

/// Why a message is not to be stored; the guard checks each against what the host knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FilterReason {
    /// Durable already.
    Duplicate,
    /// The coordinator lists the segment as dropped.
    DroppedSegment,
    /// It names another collection than its channel serves.
    ForeignCollection,
    /// Its channel is dropped.
    DroppedChannel,
    /// The coordinator does not know its channel.
    UnknownChannel,
    /// Its partition was dropped earlier.
    DroppedPartition,
    /// The coordinator does not know the segment that a control message names.
    UnknownSegment,
    /// Its effect stands already.
    Repeated,
}

impl FilterReason {
    /// Returns the name used in the ledger, in logs and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::DroppedSegment => "dropped-segment",
            Self::ForeignCollection => "foreign-collection",
            Self::DroppedChannel => "dropped-channel",
            Self::UnknownChannel => "unknown-channel",
            Self::DroppedPartition => "dropped-partition",
            Self::UnknownSegment => "unknown-segment",
            Self::Repeated => "repeated",
        }
    }
}

/// Messages of one channel between two ordinals, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filtered {
    /// The channel.
    pub channel: ChannelIndex,
    /// First ordinal.
    pub first: Ordinal,
    /// Last ordinal.
    pub last: Ordinal,
    /// Why.
    pub reason: FilterReason,
}

/// What a message carries beyond integers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlBody {
    /// A new channel index and its name.
    Intern(String),
    /// The collection's partitions, and why its rows cannot be written faithfully.
    CreateCollection(Vec<i64>, Option<String>),
    /// Whether the segment's level is L0.
    CreateSegment(bool),
    /// Segments to seal, and why rows after the message cannot be written faithfully.
    Seal(Vec<i64>, Option<String>),
    /// Why the channel is to be detached.
    Hazard(String),
}

/// A [`ControlBody`] and the message it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The message.
    pub ordinal: Ordinal,
    /// What it carries.
    pub body: ControlBody,
}

/// A run of whole groups of messages, one list a field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Ordinal of the first message.
    pub first: Ordinal,
    /// Milvus' message type codes.
    pub kinds: Vec<u16>,
    /// See [`flag`].
    pub flags: Vec<u8>,
    /// Channels.
    pub channels: Vec<ChannelIndex>,
    /// Collections.
    pub collections: Vec<i64>,
    /// Partitions.
    pub partitions: Vec<i64>,
    /// Segments.
    pub segments: Vec<i64>,
    /// Rows.
    pub rows: Vec<u32>,
    /// Bytes in a buffer.
    pub bytes: Vec<u64>,
    /// Time ticks.
    pub ticks: Vec<u64>,
    /// Ascending by ordinal.
    pub controls: Vec<Control>,
}

/// One message's place in a [`Page`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// Type code.
    pub kind: u16,
    /// See [`flag`].
    pub flags: u8,
    /// Channel.
    pub channel: ChannelIndex,
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
}

impl Page {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Whether the last message ends its group.
    pub fn ends_group(&self) -> bool {
        self.flags.last().is_some_and(|f| f & flag::GROUP_END != 0)
    }

    /// Ordinal of the last message; the one before the first if there are none.
    pub fn last(&self) -> Ordinal {
        (self.first + self.len() as Ordinal).saturating_sub(1)
    }

    /// Number of groups, an unfinished one at the end included.
    pub fn groups(&self) -> usize {
        self.flags.iter().filter(|f| *f & flag::GROUP_END != 0).count() + usize::from(!self.is_empty() && !self.ends_group())
    }

    /// Number of messages in the first half of the groups up to a message, or in the first group if that is all.
    pub fn half_until(&self, last: Ordinal) -> usize {
        let among = usize::try_from((last + 1).saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.len());
        let flags = self.flags[..among].iter().enumerate();
        let ends: Vec<usize> = flags.filter(|(_, f)| *f & flag::GROUP_END != 0).map(|(at, _)| at + 1).collect();
        ends.get((ends.len() / 2).saturating_sub(1)).copied().unwrap_or(self.len())
    }

    /// Appends a message.
    pub fn push(&mut self, row: Row) {
        self.kinds.push(row.kind);
        self.flags.push(row.flags);
        self.channels.push(row.channel);
        self.collections.push(row.collection);
        self.partitions.push(row.partition);
        self.segments.push(row.segment);
        self.rows.push(row.rows);
        self.bytes.push(row.bytes);
        self.ticks.push(row.tick);
    }

    /// Takes the first groups off: as many whole ones as fit in `max` messages, at least one.
    pub fn take_groups(&mut self, max: usize) -> Page {
        let ends = self.flags.iter().enumerate().filter(|(_, f)| *f & flag::GROUP_END != 0).map(|(at, _)| at + 1);
        let mut at = self.len();
        for (nth, end) in ends.enumerate() {
            if nth == 0 || end <= max {
                at = end;
            } else {
                break;
            }
        }
        if is_on(Switch::CutGroups) {
            at = max.clamp(1, self.len());
            self.flags[at - 1] |= flag::GROUP_END;
        }
        let rest_first = self.first + at as Ordinal;
        let controls = self.controls.partition_point(|c| c.ordinal < rest_first);
        let rest = Page {
            first: rest_first,
            kinds: self.kinds.split_off(at),
            flags: self.flags.split_off(at),
            channels: self.channels.split_off(at),
            collections: self.collections.split_off(at),
            partitions: self.partitions.split_off(at),
            segments: self.segments.split_off(at),
            rows: self.rows.split_off(at),
            bytes: self.bytes.split_off(at),
            ticks: self.ticks.split_off(at),
            controls: self.controls.split_off(controls),
        };
        std::mem::replace(self, rest)
    }

    /// Bytes that the page takes in memory, roughly.
    pub fn memory(&self) -> usize {
        self.len() * 55 + self.controls.len() * 64
    }
}

/// State of a segment in a recovery answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentStanding {
    /// Takes rows.
    Growing,
    /// Complete.
    Flushed,
    /// Gone.
    Dropped,
}

/// A segment as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredSegment {
    /// Segment id.
    pub segment: i64,
    /// Partition id.
    pub partition: i64,
    /// State.
    pub state: SegmentStanding,
    /// Rows with a tick at or below it are durable.
    pub dml_tick: u64,
    /// To be sealed at recovery.
    pub old_architecture: bool,
}

/// Where a channel's flush stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveredChannel {
    /// Collection id.
    pub collection: i64,
    /// Messages with a smaller tick are durable.
    pub seek_tick: u64,
    /// Its segments.
    pub segments: Vec<RecoveredSegment>,
    /// Why it is to be detached.
    pub hazard: Option<String>,
}

/// What an intent led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Nothing,
    /// Channels and their names.
    VChannels(Vec<(ChannelIndex, String)>),
    /// Recovery information.
    Recovered(RecoveredChannel),
    /// Rows that became durable.
    Synced(u64),
    /// Stored checkpoints, read back.
    Checkpoints(Vec<(ChannelIndex, Ordinal)>),
}

/// Why an intent led to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The peer does not know it.
    NotFound,
    /// No position yet.
    NotAvailable,
    /// Dropped.
    Dropped,
    /// Not offered here.
    Unsupported,
    /// An operator must act.
    Permanent,
    /// The guard refuses.
    Guard,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What to do next.
    pub kind: RefusalKind,
    /// For the operator.
    pub detail: String,
}

impl Refusal {
    /// Builds a refusal.
    pub fn new(kind: RefusalKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

/// What a ticket was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntentKind {
    /// [`Intent::VChannels`].
    VChannels,
    /// [`Intent::RecoveryInfo`].
    RecoveryInfo,
    /// [`Intent::AppendFlush`].
    AppendFlush,
    /// [`Intent::Open`].
    Open,
    /// [`Intent::AllocSegment`].
    AllocSegment,
    /// [`Intent::Sync`].
    Sync,
    /// [`Intent::SyncDeletes`].
    SyncDeletes,
    /// [`Intent::DropSegment`].
    DropSegment,
    /// [`Intent::DropChannel`].
    DropChannel,
    /// [`Intent::Report`].
    Report,
    /// [`Intent::SaveCheckpoint`].
    SaveCheckpoint,
    /// The host detached the channel by itself.
    Detach,
}

/// The end of an intent; says by itself what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The ticket; 0 for what nobody asked for.
    pub ticket: Ticket,
    /// What it was for.
    pub kind: IntentKind,
    /// Its channel, or [`EVERY_CHANNEL`].
    pub channel: ChannelIndex,
    /// Its segment (for deletes: the partition), or 0.
    pub segment: i64,
    /// The ordinal that the intent named, or 0.
    pub up_to: Ordinal,
    /// What became of it.
    pub outcome: Result<Answer, Refusal>,
}

/// What a component wants. Recorded during a turn, checked and applied after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// The channels of the pchannel.
    VChannels,
    /// Where a channel's flush stands.
    RecoveryInfo(ChannelIndex),
    /// A Flush message for a segment of the old architecture.
    AppendFlush {
        /// Channel.
        channel: ChannelIndex,
        /// Partition.
        partition: i64,
        /// Segment.
        segment: i64,
    },
    /// The scan, serving these channels.
    Open(Vec<ChannelIndex>),
    /// The segment of a CreateSegment message, registered.
    AllocSegment {
        /// Channel.
        channel: ChannelIndex,
        /// The message.
        at: Ordinal,
    },
    /// A segment's rows up to an ordinal, written.
    Sync {
        /// Channel.
        channel: ChannelIndex,
        /// Segment.
        segment: i64,
        /// Last ordinal.
        up_to: Ordinal,
        /// The segment is complete.
        flush: bool,
    },
    /// A partition's deletes up to an ordinal, written.
    SyncDeletes {
        /// Channel.
        channel: ChannelIndex,
        /// Partition; −1 is every partition.
        partition: i64,
        /// Last ordinal.
        up_to: Ordinal,
    },
    /// A segment of a dropped partition, dropped.
    DropSegment {
        /// Channel.
        channel: ChannelIndex,
        /// Segment.
        segment: i64,
        /// The DropPartition message.
        at: Ordinal,
    },
    /// A channel, dropped.
    DropChannel {
        /// Channel.
        channel: ChannelIndex,
        /// The DropCollection message.
        at: Ordinal,
    },
    /// Messages that are not to be stored.
    Filter(Vec<Filtered>),
    /// A channel given up until the next recovery.
    Detach {
        /// Channel.
        channel: ChannelIndex,
        /// Why.
        reason: String,
    },
    /// Channel checkpoints.
    Report(Vec<(ChannelIndex, Ordinal)>),
    /// The consume checkpoint.
    SaveCheckpoint(Ordinal),
}

/// What the instance is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestPhase {
    /// Asking the coordinator.
    #[default]
    InRecovery,
    /// Dispatching.
    Working,
    /// The log ended with an AlterWAL message, and everything before it is durable.
    LogMoved,
}

/// What a turn ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnReport {
    /// What the instance is doing.
    pub phase: GuestPhase,
    /// Call again even without news.
    pub more: bool,
    /// Idle ticks passed over since the start.
    pub idle_ticks_filtered: u64,
    /// Messages of unknown types since the start.
    pub unknown_types: u64,
    /// Batches that memory pressure ended since the start.
    pub pressure_cuts: u64,
}

/// One turn's whole input: what the imports will answer with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnInput {
    /// Ends of earlier intents.
    pub completions: Vec<Completion>,
    /// What `wal.next` hands out.
    pub page: Page,
    /// Staged bytes that the host wants written soon.
    pub pressure: u64,
    /// The first intent's ticket; the others follow.
    pub first_ticket: Ticket,
}

/// One turn's whole output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnOutput {
    /// In the order they were recorded; the n-th has ticket `first_ticket + n`.
    pub intents: Vec<Intent>,
    /// Messages that `wal.next` handed out.
    pub taken: usize,
    /// What the turn returned.
    pub report: TurnReport,
}

/// What a component says it holds of one segment's rows, or of one partition's deletes: handed to it, not filtered, and not yet told to be
/// durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The channel.
    pub channel: ChannelIndex,
    /// Deletes of a partition instead of rows of a segment.
    pub deletes: bool,
    /// The segment; for deletes the partition.
    pub id: i64,
    /// First message.
    pub first: Ordinal,
    /// Last message; of a sync that runs it may be the ordinal that the sync was asked up to.
    pub last: Ordinal,
    /// Rows, or keys.
    pub rows: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// Why an instance is no longer to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Fault {
    /// It trapped.
    #[error("trap: {0}")]
    Trap(String),
    /// It missed its deadline.
    #[error("deadline missed: {0}")]
    Deadline(String),
    /// It wanted more memory than it may have.
    #[error("memory limit: {0}")]
    Memory(String),
    /// It refused to start.
    #[error("start refused: {0}")]
    Start(String),
    /// It ended a turn in which the guard refused something: it counts otherwise than the host.
    #[error("{0}")]
    Refused(String),
    /// Its snapshot is larger than one may be.
    #[error("snapshot limit: {0}")]
    Snapshot(String),
    /// What it answered means nothing.
    #[error("answer without a meaning: {0}")]
    Answer(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ends: &[bool]) -> Page {
        let mut page = Page { first: 10, ..Page::default() };
        for &end in ends {
            page.push(Row { flags: if end { flag::GROUP_END } else { 0 }, ..Row::default() });
        }
        page
    }

    #[test]
    fn pages_are_cut_between_groups_and_ordinals_go_on() {
        let mut rest = page(&[true, false, true, true]);
        let first = rest.take_groups(2);
        assert_eq!((first.first, first.len(), rest.first, rest.len()), (10, 1, 11, 3));
        let second = rest.take_groups(1);
        assert_eq!((second.len(), rest.len()), (2, 1), "a group longer than the page comes whole");
    }

    #[test]
    fn half_of_a_page_is_half_of_its_groups() {
        let mut rest = page(&[true, false, false, true, true, true, false, true]);
        assert_eq!((rest.groups(), rest.last()), (5, 17));
        assert_eq!(rest.half_until(17), 4, "two groups of five");
        assert_eq!(rest.half_until(14), 1, "one of three");
        assert_eq!(rest.half_until(10), 1, "the only one");
        let half = rest.take_groups(rest.half_until(17));
        assert_eq!((half.len(), half.groups(), rest.groups()), (4, 2, 3));
    }
}
