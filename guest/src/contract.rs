//! The border in plain Rust: what `wit/0.2.0` says, so that the logic also builds and runs natively.

use serde::{Deserialize, Serialize};

/// Number of a delivered message; the first of a scan is 1.
pub type Ordinal = u64;
/// Index of a channel's name.
pub type ChannelIndex = u32;
/// Names an intent until its completion.
pub type Ticket = u64;

/// The channel of messages that concern every channel.
pub const EVERY_CHANNEL: ChannelIndex = u32::MAX;

/// Milvus' message type codes.
pub mod kind {
    /// Moves time.
    pub const TIME_TICK: u16 = 1;
    /// Rows of one segment.
    pub const INSERT: u16 = 2;
    /// Keys to delete in a partition.
    pub const DELETE: u16 = 3;
    /// Seals one segment.
    pub const FLUSH: u16 = 4;
    /// Begins a channel's life.
    pub const CREATE_COLLECTION: u16 = 5;
    /// Ends a channel's life.
    pub const DROP_COLLECTION: u16 = 6;
    /// Only moves positions.
    pub const CREATE_PARTITION: u16 = 7;
    /// Drops the segments of a partition.
    pub const DROP_PARTITION: u16 = 8;
    /// Seals segments and asks for everything before it to be flushed.
    pub const MANUAL_FLUSH: u16 = 9;
    /// Begins a segment's life.
    pub const CREATE_SEGMENT: u16 = 10;
    /// Only moves positions.
    pub const IMPORT: u16 = 11;
    /// Seals segments.
    pub const SCHEMA_CHANGE: u16 = 12;
    /// Seals segments.
    pub const ALTER_COLLECTION: u16 = 13;
    /// Seals every segment and asks for everything before it to be flushed.
    pub const FLUSH_ALL: u16 = 37;
    /// Seals segments and asks for everything before it to be flushed.
    pub const TRUNCATE_COLLECTION: u16 = 38;
    /// The log moves to another kind of log: the last message of this one.
    pub const ALTER_WAL: u16 = 700;
    /// Concerns replication; forwarded to no channel.
    pub const ALTER_REPLICATE_CONFIG: u16 = 800;
}

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

/// Why a message is not to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The message.
    pub ordinal: Ordinal,
    /// What it carries.
    pub body: ControlBody,
}

/// A run of messages, one list a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ordinal of the first message.
    pub first: Ordinal,
    /// Type codes.
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

/// State of a segment in a recovery answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentState {
    /// Takes rows.
    Growing,
    /// Complete.
    Flushed,
    /// Gone.
    Dropped,
}

/// A segment as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredSegment {
    /// Segment id.
    pub segment: i64,
    /// Partition id.
    pub partition: i64,
    /// State.
    pub state: SegmentState,
    /// Rows with a tick at or below it are durable.
    pub dml_tick: u64,
    /// To be sealed at recovery.
    pub old_architecture: bool,
}

/// Where a channel's flush stands.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The host's guard refuses.
    Guard,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What to do next.
    pub kind: RefusalKind,
    /// For the operator.
    pub detail: String,
}

/// What a ticket was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentKind {
    /// [`Host::vchannels`].
    VChannels,
    /// [`Host::recovery_info`].
    RecoveryInfo,
    /// [`Host::append_flush`].
    AppendFlush,
    /// [`Host::open`].
    Open,
    /// [`Host::alloc_segment`].
    AllocSegment,
    /// [`Host::sync`].
    Sync,
    /// [`Host::sync_deletes`].
    SyncDeletes,
    /// [`Host::drop_segment`].
    DropSegment,
    /// [`Host::drop_channel`].
    DropChannel,
    /// [`Host::report`].
    Report,
    /// [`Host::save_checkpoint`].
    SaveCheckpoint,
    /// The host detached the channel, or did so when asked.
    Detach,
}

/// The end of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The ticket.
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

/// Weight of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is lost or stuck.
    Error,
    /// Something is odd.
    Warn,
    /// A milestone.
    Info,
    /// A decision.
    Debug,
}

/// The imports. None of them blocks: they read what the host has ready or record an intent.
pub trait Host {
    /// Asks for the channels of the pchannel.
    fn vchannels(&mut self) -> Ticket;
    /// Asks where a channel's flush stands.
    fn recovery_info(&mut self, channel: ChannelIndex) -> Ticket;
    /// Appends a Flush message for a segment of the old architecture.
    fn append_flush(&mut self, channel: ChannelIndex, partition: i64, segment: i64) -> Ticket;
    /// Starts the scan.
    fn open(&mut self, channels: &[ChannelIndex]) -> Ticket;
    /// Takes the next messages.
    fn next(&mut self, max: u32) -> Page;
    /// Registers the segment of a CreateSegment message.
    fn alloc_segment(&mut self, channel: ChannelIndex, at: Ordinal) -> Ticket;
    /// Writes a segment's rows up to an ordinal.
    fn sync(&mut self, channel: ChannelIndex, segment: i64, up_to: Ordinal, flush: bool) -> Ticket;
    /// Writes a partition's deletes up to an ordinal.
    fn sync_deletes(&mut self, channel: ChannelIndex, partition: i64, up_to: Ordinal) -> Ticket;
    /// Drops a segment of a dropped partition.
    fn drop_segment(&mut self, channel: ChannelIndex, segment: i64, at: Ordinal) -> Ticket;
    /// Drops a channel.
    fn drop_channel(&mut self, channel: ChannelIndex, at: Ordinal) -> Ticket;
    /// Says what is not to be stored.
    fn filter(&mut self, messages: &[Filtered]);
    /// Gives a channel up: the host serves its name again under a new index, or at the next recovery.
    fn detach(&mut self, channel: ChannelIndex, reason: &str);
    /// Reports channel checkpoints.
    fn report(&mut self, checkpoints: &[(ChannelIndex, Ordinal)]) -> Ticket;
    /// Saves the consume checkpoint.
    fn save_checkpoint(&mut self, at: Ordinal) -> Ticket;
    /// Whether events of a level are kept.
    fn log_enabled(&self, level: Level) -> bool;
    /// Records an event.
    fn log(&mut self, level: Level, message: &str, fields: &[(&str, String)]);
}

/// Rows of one segment, or deletes of one partition, that the component holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The channel.
    pub channel: ChannelIndex,
    /// Deletes of a partition instead of rows of a segment.
    pub deletes: bool,
    /// The segment; for deletes the partition.
    pub id: i64,
    /// First message.
    pub first: Ordinal,
    /// Last message.
    pub last: Ordinal,
    /// Rows, or keys.
    pub rows: u64,
    /// Bytes in a buffer.
    pub bytes: u64,
}

/// The exports: a version of the logic, between its start and its end.
pub trait Logic: Sized {
    /// Begins, or goes on from a snapshot.
    ///
    /// # Errors
    /// Says why the snapshot is not ours.
    fn start(config: Config, resume: Option<&[u8]>) -> Result<Self, String>;
    /// Takes completions and messages, records intents. `pressure` is the number of staged bytes that the host wants written soon.
    fn turn(&mut self, host: &mut impl Host, completions: &[Completion], pressure: u64) -> Report;
    /// Returns the whole state, for a successor.
    fn snapshot(&self) -> Vec<u8>;
    /// Returns what it holds, as [`crate::Flusher::accounts`] does.
    fn accounts(&self) -> Vec<Holding>;
    /// Says why a channel's checkpoint is where it is.
    fn explain(&self, channel: ChannelIndex) -> String;
}

/// Limits and periods; times are event time in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the pchannel.
    pub pchannel: String,
    /// Its term.
    pub term: i64,
    /// A segment's rows are synced at this many bytes.
    pub insert_bytes_max: u64,
    /// A partition's deletes are synced at this many bytes.
    pub delete_bytes_max: u64,
    /// A batch ends before the first row that is this much younger than its first.
    pub sync_period_ms: u64,
    /// A channel reports this often.
    pub report_period_ms: u64,
    /// Reports a turn.
    pub reports_max: u32,
    /// Idle ticks closer than this to the last tick are passed over.
    pub idle_tick_ms: u64,
    /// Messages a page.
    pub page_max: u32,
}

/// What the instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Asking the coordinator.
    InRecovery,
    /// Dispatching.
    Working,
    /// An AlterWAL message ended the log, and everything before it is durable.
    LogMoved,
}

/// What a turn ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the instance is doing.
    pub phase: Phase,
    /// Call again even without news.
    pub more: bool,
    /// Counts since the start.
    pub counts: Counts,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Idle ticks passed over.
    pub idle_ticks_filtered: u64,
    /// Messages of unknown types.
    pub unknown_types: u64,
    /// Batches that memory pressure ended.
    pub pressure_cuts: u64,
}
