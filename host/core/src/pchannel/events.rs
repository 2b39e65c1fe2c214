//! What happens to a pchannel's flusher, and what it wants done.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_message::schema::Schema;
use tidegate_message::{MessageId, Properties};

use super::{Order, SwapStep, Told, Version};
use crate::calls::{Binlog, Call, CallError, Layout, Position, Reply, SegmentFiles};
use crate::journal::Turn;
use crate::retry::CallId;
use crate::scan::Scanned;
use crate::turn::{Fault, Ordinal, TurnInput, TurnOutput};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Begin.
    Start,
    /// Messages of a scan, in order.
    Delivered {
        /// The scan, as [`Work::OpenScan`] named it.
        scan: u64,
        /// The messages.
        messages: Vec<Scanned>,
    },
    /// Messages of a catch-up scan, in order: those that concern its vchannel.
    CaughtUp {
        /// The scan, as [`Work::OpenCatchUp`] named it.
        scan: u64,
        /// The messages.
        messages: Vec<Scanned>,
    },
    /// A turn ended.
    Turned(Result<TurnOutput, Fault>),
    /// A new instance stands where the journal ends.
    Built(Result<(), Fault>),
    /// A snapshot was taken.
    Snapshot(Result<Vec<u8>, Fault>),
    /// Turns are to be handed out as they end ([`Action::Recorded`]), or not any more.
    Record(bool),
    /// Another version is to follow.
    Order(Order),
    /// A successor stands beside the instance, and says what it holds.
    Stood(Result<Told, Fault>),
    /// The instance says what it holds.
    OldTold(Result<Told, Fault>),
    /// A call or a write ended.
    Ended {
        /// Which.
        id: CallId,
        /// How.
        result: Result<Outcome, CallError>,
    },
    /// Time passed.
    Wake,
    /// End: no more turns, no more calls.
    Stop,
}

/// What to do. Actions are done in order; those before a turn are finished before it begins.
#[derive(Debug)]
pub enum Action {
    /// Make an instance: start it from a snapshot or from nothing, feed it the turns, compare their intents (DT-1).
    Build {
        /// What it is made of.
        version: Version,
        /// The snapshot.
        resume: Option<Arc<Vec<u8>>>,
        /// The turns since.
        replay: Vec<Turn>,
    },
    /// Run a turn.
    Turn(Arc<TurnInput>),
    /// Take a snapshot.
    Snapshot,
    /// Make a second instance, start it from the snapshot, and ask what it holds; the first one stays as it is. Answer with
    /// [`Event::Stood`].
    Stand {
        /// What it is made of.
        version: Version,
        /// The snapshot.
        resume: Arc<Vec<u8>>,
    },
    /// Start an instance of the version before from the same snapshot, beside both, and ask what it holds: what the running one says of
    /// itself is no word about what it handed over. Answer with [`Event::OldTold`].
    AskOld,
    /// The successor is the instance from here on.
    Commit,
    /// The successor is not needed.
    Dismiss,
    /// Keep a turn, while a recording is wanted.
    Recorded(Turn),
    /// No more turns of the recording come, and why.
    RecordingEnds(String),
    /// Tell the operator, for good, what became of a version.
    Swapped(SwapStep),
    /// Begin a call or a write; answer with [`Event::Ended`].
    Begin {
        /// Names it.
        id: CallId,
        /// What.
        work: Work,
    },
    /// End the scan, and the catch-up scan if there is one.
    CloseScan,
    /// End the catch-up scan.
    CloseCatchUp,
    /// Store what cannot be flushed, fsynced before anything later is done.
    DeadLetter(Box<DeadLetter>),
    /// Records before this id are needed no more.
    Truncate(MessageId),
    /// A part of a broadcast was delivered on a channel. Whoever coordinates broadcasts is to hear of it: that part of a streaming node is
    /// not ours, this is where it attaches.
    Broadcast {
        /// The channel, empty for all.
        vchannel: String,
        /// The message's tick.
        tick: u64,
        /// Its broadcast header: Milvus' `BroadcastHeader`, in base64.
        header: String,
    },
    /// Tell the operator.
    Notice(Weight, String),
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// A milestone.
    Info,
    /// Something is odd.
    Warn,
    /// Something is stuck or set aside.
    Error,
}

/// Work that is done elsewhere.
#[derive(Clone, Debug)]
pub enum Work {
    /// A call of the coordinator or of the checkpoint store.
    Call(Call),
    /// Segment files.
    Write(Arc<WriteJob>),
    /// A Flush message appended to the log.
    AppendFlush {
        /// Channel.
        vchannel: String,
        /// Collection.
        collection: i64,
        /// Partition.
        partition: i64,
        /// Segment.
        segment: i64,
    },
    /// A scan of the log.
    OpenScan {
        /// Names the scan in [`Event::Delivered`].
        scan: u64,
        /// Where from; `None` is the earliest record.
        from: Option<Position>,
    },
    /// A second scan of the log, for one channel: it gives what [`Scanned::concerns`] it.
    OpenCatchUp {
        /// Names the scan in [`Event::CaughtUp`].
        scan: u64,
        /// The channel.
        vchannel: String,
        /// Where from; `None` is the earliest record.
        from: Option<Position>,
    },
}

/// How work ended well.
#[derive(Debug)]
pub enum Outcome {
    /// A call's answer.
    Reply(Reply),
    /// Files are written.
    Written(Written),
    /// Some messages cannot be written; nothing is.
    BadRows(Vec<(Ordinal, String)>),
    /// The message is in the log.
    Appended,
    /// The scan runs.
    Opened,
}

/// Rows or deletes to write.
#[derive(Debug)]
pub struct WriteJob {
    /// Collection.
    pub collection: i64,
    /// Partition; −1 for deletes of every partition.
    pub partition: i64,
    /// Segment; 0 for deletes: the writer allots an L0 segment.
    pub segment: i64,
    /// Deletes instead of rows.
    pub deletes: bool,
    /// How the segment's rows lie in files.
    pub layout: Layout,
    /// The schema of the rows.
    pub schema: Arc<Schema>,
    /// Message bodies in log order: ordinal, tick, body.
    pub bodies: Vec<(Ordinal, u64, Bytes)>,
    /// Statistics files of the segment's earlier batches, for the merged one.
    pub earlier_statistics: Vec<Binlog>,
    /// Completes the segment.
    pub flush: bool,
}

/// Files that were written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The segment they belong to.
    pub segment: i64,
    /// The files.
    pub files: SegmentFiles,
    /// Rows in them.
    pub rows: u64,
}

/// A message that cannot be flushed.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its id: the same message is stored once.
    pub id: MessageId,
    /// Its channel, if readable.
    pub vchannel: String,
    /// Its tick, if readable.
    pub tick: u64,
    /// Why it is here.
    pub reason: String,
    /// The component faults on it, or on another message of its transaction: the host knows it when it is met again.
    pub poison: bool,
    /// Its properties.
    pub properties: Properties,
    /// Its payload.
    pub payload: Bytes,
}
