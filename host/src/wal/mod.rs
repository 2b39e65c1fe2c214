//! The write-ahead log of a pchannel, seen from its owner.
//!
//! A [`Log`] is opened for one term. It appends messages, giving each an id, a time tick and a last confirmed id, and opens readers.
//! What every implementation keeps:
//!
//! | promise     | meaning                                                                                                      |
//! |-------------|--------------------------------------------------------------------------------------------------------------|
//! | durable     | an append returns, and a reader sees a record, only after the fsync that covers it                            |
//! | ordered     | a time tick says that nothing with a lower or equal tick follows it                                           |
//! | resumable   | reading inclusively from a message's last confirmed id meets every message with its tick or a later one (CK-4) |
//! | fenced      | a handle of an older term appends nothing (FE-1)                                                              |
//!
//! [`embedded`] keeps the logs of a self-contained node in its own directory.

pub mod embedded;

use std::time::Duration;

use tidegate_message::{MessageId, Outgoing, Record, WalName};

/// Where a reader begins, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the first record that is left.
    Earliest,
    /// At this record; at its place if it is yet to be written.
    At(MessageId),
    /// Behind this record.
    After(MessageId),
    /// Behind the last durable record.
    Latest,
}

/// What a reader gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A durable record.
    Record(Record),
    /// Everything durable was read, and the log's time is this; it is not stored.
    IdleTick {
        /// The time tick, above those of all records before and below those of all after.
        tick: u64,
        /// Where to resume from, inclusively.
        last_confirmed: MessageId,
    },
}

/// What an append gave a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its id.
    pub id: MessageId,
    /// Its time tick.
    pub tick: u64,
    /// Its last confirmed id.
    pub last_confirmed: MessageId,
}

/// Why a log does not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Another term owns the pchannel: give the channel up.
    #[error("pchannel {pchannel}: term {term} is fenced by term {by}; this node does not own the channel any more")]
    Fenced {
        /// The pchannel.
        pchannel: String,
        /// The term that asked.
        term: i64,
        /// The term that owns it.
        by: i64,
    },
    /// The handle was closed.
    #[error("the log is closed")]
    Closed,
    /// The records asked for were truncated: resume from a later checkpoint, or from the earliest.
    #[error("record {asked} was truncated; the log begins at {first}")]
    Truncated {
        /// The id asked for.
        asked: MessageId,
        /// The first one left.
        first: MessageId,
    },
    /// The transaction outlived its lease, was ended, or never was: begin another.
    #[error("transaction {txn_id} is not open: it expired, ended, or was rolled back by a change of its channel")]
    NotOpen {
        /// The transaction.
        txn_id: i64,
    },
    /// The storage failed: nothing is accepted from now on. An append that gets this may or may not be in the log after a restart.
    #[error("the log's storage failed, and the log accepts nothing until the process is restarted: {0}")]
    Storage(String),
    /// The request cannot be met as it is: correct it.
    #[error("invalid request: {0}")]
    Invalid(String),
}

/// The log of one pchannel, opened for one term.
pub trait Log: Send + Sync {
    /// Returns the pchannel's name.
    fn pchannel(&self) -> &str;

    /// Returns the kind of log.
    fn wal(&self) -> WalName;

    /// Returns the term that it was opened for.
    fn term(&self) -> i64;

    /// Appends messages as one unit, in their order, and returns when they are durable; one [`Appended`] a message.
    ///
    /// # Errors
    /// [`LogError`]; nothing was appended, except that the outcome of [`LogError::Storage`] is known only after a restart.
    fn append(&self, batch: Vec<Outgoing>) -> Result<Vec<Appended>, LogError>;

    /// Opens a reader.
    ///
    /// # Errors
    /// [`LogError::Truncated`], [`LogError::Invalid`] for an id of another kind of log, or a failure of the storage.
    fn open(&self, from: ReadFrom) -> Result<Box<dyn LogReader>, LogError>;

    /// Lets records below `up_to` go, at once or later; `up_to` itself stays readable.
    ///
    /// # Errors
    /// [`LogError::Invalid`] for an id of another kind of log, or a failure of the storage.
    fn truncate(&self, up_to: &MessageId) -> Result<(), LogError>;
}

/// Reads a log in its order.
pub trait LogReader: Send {
    /// Returns the next item, or `None` if there is none within `wait`.
    ///
    /// # Errors
    /// [`LogError`]; the reader is of no more use.
    fn next(&mut self, wait: Duration) -> Result<Option<LogItem>, LogError>;
}

/// Where ticks and ids come from. Both are above everything that was ever given out, across restarts and steps of the clock.
pub trait TickSource: Send + Sync {
    /// Returns the first of `count` consecutive time ticks.
    ///
    /// # Errors
    /// [`LogError`] if none can be given out safely.
    fn next_ticks(&self, count: u32) -> Result<u64, LogError>;

    /// Returns the first of `count` consecutive ids.
    ///
    /// # Errors
    /// [`LogError`] if none can be given out safely.
    fn next_ids(&self, count: u32) -> Result<i64, LogError>;
}
