//! The calls a flusher makes of the coordinator and the checkpoint store, as plain data.
//!
//! Shapes and semantics follow Milvus' `DataCoord` (SaveBinlogPaths, AllocSegment, UpdateChannelCheckpoint,
//! GetChannelRecoveryInfo, DropVirtualChannel); an implementation translates them to its peer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_message::MessageId;
use tidegate_message::schema::Schema;

/// A place in a log to resume from: read inclusively at `last_confirmed`, everything with a tick at or above `tick` is met again (CK-4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Last confirmed id of the message that the position belongs to; never its own id.
    pub last_confirmed: MessageId,
    /// That message's time tick.
    pub tick: u64,
}

/// Who calls: every mutating call carries it (FE-1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The streaming node.
    pub node_id: i64,
    /// The physical channel that the caller owns.
    pub pchannel: String,
    /// The epoch of that ownership.
    pub term: i64,
}

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// The vchannels of the caller's pchannel, dropped ones left out. Answer: [`Reply::VChannels`].
    VChannels,
    /// Where a vchannel's flush stands. Answer: [`Reply::Recovery`].
    RecoveryInfo {
        /// The vchannel's name.
        vchannel: String,
    },
    /// Registers a growing segment; repeating it is success. Answer: [`Reply::Done`].
    AllocSegment(AllocSegment),
    /// Records the files of a sync with the segment's full lists. Answer: [`Reply::Done`] or [`Reply::Ignored`].
    SaveBinlogPaths(Box<SaveBinlogPaths>),
    /// Reads one segment back. Answer: [`Reply::Segment`].
    Segment {
        /// The segment's id.
        segment: i64,
    },
    /// Moves channel checkpoints forward; answers with what is stored afterwards. Answer: [`Reply::Checkpoints`], one entry a request in order.
    ReportCheckpoints(Vec<(String, Position)>),
    /// Marks every segment of the channel dropped and stores the dropped sentinel; repeating it is success. Answer: [`Reply::Done`].
    DropChannel {
        /// The vchannel's name.
        vchannel: String,
    },
    /// Records the schema that is valid on a channel from a tick on; repeating it is success. Answer: [`Reply::Done`].
    SaveSchema {
        /// The vchannel's name.
        vchannel: String,
        /// First tick it is valid at.
        tick: u64,
        /// The schema.
        schema: Box<Schema>,
    },
    /// The stored consume checkpoint of the pchannel. Answer: [`Reply::Consume`].
    LoadConsume,
    /// Stores the consume checkpoint of the pchannel, forward only. Answer: [`Reply::Done`].
    SaveConsume(Position),
}

impl Call {
    /// Whether the call changes what the peer stores.
    pub fn is_mutating(&self) -> bool {
        !matches!(self, Call::VChannels | Call::RecoveryInfo { .. } | Call::Segment { .. } | Call::LoadConsume)
    }

    /// Returns the call's name, as it appears in logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Call::VChannels => "vchannels",
            Call::RecoveryInfo { .. } => "recovery-info",
            Call::AllocSegment(_) => "alloc-segment",
            Call::SaveBinlogPaths(_) => "save-binlog-paths",
            Call::Segment { .. } => "segment",
            Call::ReportCheckpoints(_) => "report-checkpoints",
            Call::DropChannel { .. } => "drop-channel",
            Call::SaveSchema { .. } => "save-schema",
            Call::LoadConsume => "load-consume-checkpoint",
            Call::SaveConsume(_) => "save-consume-checkpoint",
        }
    }
}

/// Registration of a growing segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocSegment {
    /// Collection id, not 0.
    pub collection: i64,
    /// Partition id, not 0.
    pub partition: i64,
    /// Segment id, not 0.
    pub segment: i64,
    /// The vchannel's name, not empty.
    pub vchannel: String,
    /// See [`storage_version`].
    pub storage_version: i64,
}

/// Milvus' storage versions: how the rows of a segment lie in files.
pub mod storage_version {
    /// One file a field and sync.
    pub const FIELDS: i64 = 0;
    /// One packed file a column group and sync.
    pub const PACKED: i64 = 2;

    /// Whether rows of such a segment can be written.
    pub fn is_known(version: i64) -> bool {
        matches!(version, FIELDS | PACKED)
    }
}

/// How the rows of a segment lie in files, with what its earlier files settle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One file a field.
    #[default]
    Fields,
    /// One packed file a column group: the groups that the segment has by now, each with its fields. None before the first sync; no fields
    /// in groups that were written before Milvus 2.6.2.
    Packed(BTreeMap<i64, Vec<i64>>),
}

/// Milvus' `data.SegmentLevel` as far as a flusher writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Level {
    /// Deletes only, written once.
    L0 = 1,
    /// Rows.
    L1 = 2,
}

/// Milvus' `common.SegmentState` as far as a flusher meets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentState {
    /// Takes rows.
    Growing = 2,
    /// Complete.
    Flushed = 4,
    /// Gone.
    Dropped = 6,
}

/// One file of a segment (`data.Binlog`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binlog {
    /// The object's key below the chunk root, for example `insert_log/1/2/3/100/4`.
    pub path: String,
    /// Last element of the path.
    pub log_id: i64,
    /// Rows (or deletes) in the file.
    pub entries: i64,
    /// Smallest tick in the file.
    pub tick_from: u64,
    /// Largest tick in the file.
    pub tick_to: u64,
    /// Bytes of the object.
    pub log_size: i64,
    /// Bytes of the rows in memory.
    pub memory_size: i64,
}

/// Files of one field or column group (`data.FieldBinlog`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldBinlogs {
    /// The field's id, or the group's; the primary key's for statistics and deletes.
    pub field: i64,
    /// The fields in a group's files, empty for files of one field.
    pub child_fields: Vec<i64>,
    /// In the order of their syncs.
    pub binlogs: Vec<Binlog>,
}

/// All files of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentFiles {
    /// Insert logs, ascending by field or group id.
    pub insert: Vec<FieldBinlogs>,
    /// Primary-key statistics; the merged one has log id 1.
    pub stats: Vec<FieldBinlogs>,
    /// Delta logs.
    pub delta: Vec<FieldBinlogs>,
}

impl SegmentFiles {
    /// Appends another sync's files, field by field.
    pub fn extend(&mut self, more: SegmentFiles) {
        for (lists, new) in [(&mut self.insert, more.insert), (&mut self.stats, more.stats), (&mut self.delta, more.delta)] {
            for field in new {
                match lists.binary_search_by_key(&field.field, |f| f.field) {
                    Ok(at) => lists[at].binlogs.extend(field.binlogs),
                    Err(at) => lists.insert(at, field),
                }
            }
        }
    }

    /// Returns how the next rows of the segment are laid out; a known storage version is assumed.
    pub fn layout(&self, version: i64) -> Layout {
        match version {
            storage_version::PACKED => Layout::Packed(self.insert.iter().map(|f| (f.field, f.child_fields.clone())).collect()),
            _ => Layout::Fields,
        }
    }

    /// Iterates over every file.
    pub fn iter(&self) -> impl Iterator<Item = &Binlog> {
        [&self.insert, &self.stats, &self.delta].into_iter().flatten().flat_map(|f| f.binlogs.iter())
    }
}

/// `SaveBinlogPathsRequest` with full lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SaveBinlogPaths {
    /// Segment id.
    pub segment: i64,
    /// Collection id.
    pub collection: i64,
    /// Partition id; −1 for deletes of every partition.
    pub partition: i64,
    /// The vchannel's name.
    pub vchannel: String,
    /// L0 segments are created by this call.
    pub level: Level,
    /// See [`storage_version`].
    pub storage_version: i64,
    /// Everything the segment has, not only what is new.
    pub files: SegmentFiles,
    /// The dml position: every row of the segment with a tick at or below its tick is in the files.
    pub dml: Position,
    /// Position of the segment's first row, when known.
    pub start: Option<Position>,
    /// Rows of the segment so far (deletes for L0).
    pub rows: i64,
    /// The segment is complete.
    pub flushed: bool,
    /// The segment is dropped.
    pub dropped: bool,
}

/// What the coordinator stores about a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SegmentInfo {
    /// Segment id.
    pub segment: i64,
    /// Collection id.
    pub collection: i64,
    /// Partition id.
    pub partition: i64,
    /// The vchannel's name.
    pub vchannel: String,
    /// State.
    pub state: SegmentState,
    /// Level.
    pub level: Level,
    /// See [`storage_version`].
    pub storage_version: i64,
    /// Rows (deletes for L0).
    pub rows: i64,
    /// Files.
    pub files: SegmentFiles,
    /// Position of the first row.
    pub start: Option<Position>,
    /// See [`SaveBinlogPaths::dml`].
    pub dml: Option<Position>,
    /// False for segments of the architecture before streaming: they are sealed at recovery.
    pub created_by_streaming: bool,
}

/// `GetChannelRecoveryInfo`, together with the segment infos and the schemas that a flusher then asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryInfo {
    /// The vchannel's name.
    pub vchannel: String,
    /// Collection id.
    pub collection: i64,
    /// Where to read from: channel checkpoint, else earliest segment position, else the collection's start position. `None` = earliest.
    pub seek: Option<Position>,
    /// Growing segments, flushed and dropped ones that a replay from `seek` may meet.
    pub segments: Vec<SegmentInfo>,
    /// Schemas ascending by the tick they are valid from.
    pub schemas: Vec<(u64, Schema)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Done (again).
    Done,
    /// The peer kept what it had, and why. Upstream says success here.
    Ignored(String),
    /// Names.
    VChannels(Vec<String>),
    /// Recovery information.
    Recovery(Box<RecoveryInfo>),
    /// The segment, if there is one.
    Segment(Option<Box<SegmentInfo>>),
    /// What is stored for each reported channel: `None` if nothing is.
    Checkpoints(Vec<Result<Option<Position>, CallError>>),
    /// The stored consume checkpoint.
    Consume(Option<Position>),
}

/// Why a call failed, chosen by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CallError {
    /// May pass: try again with backoff. The call may or may not have been applied.
    #[error("unavailable: {0}")]
    Transient(String),
    /// The named thing does not exist (error codes 100, 500, 600).
    #[error("not found: {0}")]
    NotFound(String),
    /// The channel exists but has no position yet (error code 503).
    #[error("channel not available: {0}")]
    NotAvailable(String),
    /// The channel is dropped (sentinel position).
    #[error("dropped: {0}")]
    Dropped(String),
    /// Another node or a newer term owns the pchannel: stop.
    #[error("fenced: {0}")]
    Fenced(String),
    /// Trying again will not help; an operator must act.
    #[error("refused: {0}")]
    Permanent(String),
}
