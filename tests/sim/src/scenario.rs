//! A scenario: settings, and what happens when. A seed makes one; a failing one is reduced and kept as a file.

use serde::{Deserialize, Serialize};

/// The numbers of a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Seed of latencies and of what windows of faults hit.
    pub seed: u64,
    /// Pchannels.
    pub pchannels: usize,
    /// Bytes that a pchannel may hold.
    pub bytes_max: usize,
    /// Messages a page.
    pub page_max: u32,
    /// Messages of a delivery.
    pub delivery_max: usize,
    /// Group ends that a flusher remembers.
    pub group_ends_max: usize,
    /// Writes at a time.
    pub writes_max: usize,
    /// Bytes held by a scan.
    pub scan_bytes_max: usize,
    /// Bytes at which a segment's rows are synced.
    pub insert_bytes_max: u64,
    /// Event time that a batch spans, in milliseconds.
    pub sync_period_ms: u64,
    /// Event time between reports, in milliseconds.
    pub report_period_ms: u64,
    /// Reports a turn.
    pub reports_max: u32,
    /// Rows of a segment, after which the write path begins another one.
    pub segment_rows: u64,
    /// Records of a group lie in another order than their ticks.
    pub shuffle: bool,
    /// The end of a turn is now and then seen late, so that other events come between.
    pub slow_turns: bool,
    /// Longest call, in milliseconds.
    pub latency_ms: u64,
    /// Messages that a component takes at once, if fewer than a page has.
    pub take_max: u32,
    /// Turns in a journal before a snapshot is taken.
    pub journal_turns_max: usize,
    /// How long nobody serves the pchannels at first, in milliseconds.
    #[serde(default)]
    pub served_after_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            pchannels: 1,
            bytes_max: 1 << 20,
            page_max: 64,
            delivery_max: 64,
            group_ends_max: 4096,
            writes_max: 2,
            scan_bytes_max: 1 << 20,
            insert_bytes_max: 1 << 14,
            sync_period_ms: 10_000,
            report_period_ms: 2_000,
            reports_max: 16,
            segment_rows: 200,
            shuffle: false,
            slow_turns: false,
            latency_ms: 10,
            take_max: u32::MAX,
            journal_turns_max: 1_024,
            served_after_ms: 0,
        }
    }
}

/// What the windows of faults do. Every one has an id in [`crate::faults`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Trouble {
    /// A call is lost on its way: it is not applied, and its caller hears of a timeout.
    CallLost,
    /// An answer is lost on its way back: the call is applied, and its caller hears of a timeout.
    AnswerLost,
    /// A call is never answered, applied or not.
    CallSilent,
    /// A call takes half a minute.
    CallSlow,
    /// A call arrives a second time, later.
    CallTwice,
    /// A reading call is answered from a state of the past.
    StaleAnswer,
    /// A question or a save is answered with "not found", three times at most in a row.
    NotFound,
    /// A report is taken and dropped in silence.
    ReportDropped,
    /// Storage is unavailable.
    StorageDown,
    /// A write takes 20 s.
    StorageSlow,
    /// A write is done, and its caller hears of a reset.
    StorageReset,
    /// A write leaves half a file.
    StoragePartial,
    /// The log cannot be read.
    LogStalls,
    /// A record is read twice.
    LogTwice,
    /// A turn traps.
    Trap,
    /// A snapshot traps.
    SnapshotTrap,
    /// An instance does not start.
    BuildFails,
    /// The component lies: it claims what is not so.
    Lies,
    /// A turn misses its deadline, or wants too much memory.
    TurnLimit,
    /// A snapshot misses its deadline, wants too much memory, or is too large.
    SnapshotLimit,
    /// A snapshot is damaged.
    SnapshotGarbage,
    /// A snapshot has an earlier state.
    SnapshotStale,
    /// An instance does not start from a snapshot.
    RestoreFaults,
    /// An instance fails to say what it holds, or says what has no meaning.
    AccountsFault,
    /// An instance says that it holds what it does not.
    AccountsLie,
    /// The process dies at a step of a swap.
    SwapKilled,
    /// The power is gone at a step of a swap.
    SwapPowerLoss,
    /// The pchannel moves at a step of a swap, while the old owner goes on with it.
    SwapMoved,
    /// A save is taken and dropped: the peer says that it keeps what it had.
    SaveIgnored,
    /// No file can be written, for as long as the window lasts.
    DiskFull,
    /// Bits of a file that a write reads back are flipped.
    BitsFlip,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// A collection with so many shards and partitions.
    Create {
        /// Shards.
        shards: usize,
        /// Partitions.
        partitions: usize,
    },
    /// Rows of a width.
    Insert {
        /// Chooses collection, shard and partition.
        at: u64,
        /// Rows.
        rows: u64,
        /// Bytes a row.
        width: usize,
    },
    /// Deletes of keys that were inserted, maybe.
    Delete {
        /// Chooses collection, shard and partition.
        at: u64,
        /// Keys.
        keys: u64,
    },
    /// A transaction begins in a slot.
    Begin {
        /// Which of four.
        slot: usize,
        /// Chooses collection and shard.
        at: u64,
        /// Its lease; negative for ever.
        keepalive_ms: i64,
    },
    /// Rows or deletes of the transaction in a slot; one in ten bodies can be made unreadable.
    Body {
        /// Which of four.
        slot: usize,
        /// Rows; 0 is a delete.
        rows: u64,
        /// The body is not what its header says.
        bad: bool,
    },
    /// The transaction in a slot ends.
    End {
        /// Which of four.
        slot: usize,
        /// Committed, rolled back, or forgotten.
        commit: Option<bool>,
    },
    /// A segment is sealed.
    Seal {
        /// Chooses it.
        at: u64,
    },
    /// A manual flush.
    Flush {
        /// Chooses collection and shard.
        at: u64,
    },
    /// A flush of everything in a pchannel.
    FlushAll {
        /// Chooses it.
        at: u64,
    },
    /// The pchannel goes on in another log: this one ends.
    AlterWal {
        /// Chooses it.
        at: u64,
    },
    /// A collection is truncated.
    Truncate {
        /// Chooses collection and shard.
        at: u64,
    },
    /// A collection gets a field.
    Alter {
        /// Chooses collection.
        at: u64,
    },
    /// A partition is dropped.
    DropPartition {
        /// Chooses collection and partition.
        at: u64,
    },
    /// A collection is dropped.
    DropCollection {
        /// Chooses it.
        at: u64,
        /// The coordinator ends its channels by itself, as soon as the message is durable.
        early: bool,
    },
    /// A segment of the architecture before streaming, with rows; its flusher is restarted.
    OldSegment {
        /// Chooses collection and shard.
        at: u64,
    },
    /// A message of a type that nobody knows.
    Unknown {
        /// Chooses collection and shard.
        at: u64,
    },
    /// A record that is no message, or whose body is none.
    Malformed {
        /// Chooses collection, shard and kind.
        at: u64,
    },
    /// Rows whose tick was passed.
    Late {
        /// Chooses collection and shard.
        at: u64,
    },
    /// Rows for a segment that was flushed before: nobody may write that.
    AfterFlush {
        /// Chooses the segment.
        at: u64,
    },
    /// A flush of a segment that nobody knows.
    Orphan {
        /// Chooses collection and shard.
        at: u64,
    },
    /// The last such flush, once more.
    OrphanAgain,
    /// A message for a channel that nobody knows.
    Stray {
        /// Chooses the pchannel.
        at: u64,
    },
    /// A flusher's process dies; another one takes over after a while, in the next term unless `same_term` says otherwise.
    Kill {
        /// Chooses the pchannel.
        at: u64,
        /// How long nobody serves it.
        after_ms: u64,
        /// The successor has its term.
        same_term: bool,
    },
    /// A pchannel moves to another node, while the old owner goes on as a zombie, after a pause.
    Move {
        /// Chooses the pchannel.
        at: u64,
        /// How long the old owner does nothing.
        pause_ms: u64,
    },
    /// A process is stopped and resumed, without anybody taking over.
    Pause {
        /// Chooses the pchannel.
        at: u64,
        /// How long.
        ms: u64,
    },
    /// From here on the log takes no messages of flushers: nobody drained it for too long.
    LogRefuses {
        /// Chooses the pchannel.
        at: u64,
        /// It does not say so, and answers nothing.
        silent: bool,
    },
    /// Somebody who is no flusher lets go of the log's durable records, but for the last one.
    Retention {
        /// Chooses the pchannel.
        at: u64,
    },
    /// The power is gone everywhere.
    PowerLoss,
    /// The coordinator dies between the call that it works on and its commit, and is back at once.
    CoordinatorRestart,
    /// Event time jumps.
    ClockJump {
        /// How far.
        ms: u64,
    },
    /// An operator orders a version of the component.
    Swap {
        /// Chooses the pchannel, and which version where there are several.
        at: u64,
        /// Which.
        to: Successor,
        /// Also one that failed before.
        force: bool,
        /// And orders it again at once.
        twice: bool,
    },
    /// Trouble for a while.
    Window {
        /// What.
        trouble: Trouble,
        /// How long.
        ms: u64,
        /// How often.
        percent: u64,
    },
}

/// A version that an operator may order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Successor {
    /// The one that serves, anew.
    Same,
    /// Another one, with a policy of its own.
    Good,
    /// One of the contract before: it cannot say what it holds, and reads no snapshot of later ones.
    Old,
    /// The one before.
    Previous,
    /// One whose first turn faults.
    FaultsAtOnce,
    /// One that faults some turns later.
    FaultsLater,
    /// One that claims what is not so once it serves.
    Lies,
    /// One that says that it holds what it does not.
    Untrue,
    /// One that does not start.
    Unfit,
}

/// Where a run is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// The process that just acted dies.
    Kill,
    /// The process dies, and its successor has its term.
    KillSameTerm,
    /// The power is gone.
    PowerLoss,
}

/// Everything about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The numbers.
    pub settings: Settings,
    /// What happens, by time in milliseconds.
    pub ops: Vec<(u64, Op)>,
    /// After which actions the run is cut.
    #[serde(default)]
    pub cuts: Vec<(u64, Cut)>,
}
