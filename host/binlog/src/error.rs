//! What can go wrong, by what the operator does next.

use thiserror::Error;

/// Says why a file was not written; the input is at fault, so trying again does not help.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// There are no rows: such a file is left out, not written.
    #[error("field {field}: no rows to write")]
    Empty {
        /// Milvus field id; -1 for deletes.
        field: i64,
    },
    /// The ticks are zero or in the wrong order; every reader's codec refuses them.
    #[error("field {field}: ticks {from}..={to} are not a range above zero")]
    Ticks {
        /// Milvus field id; -1 for deletes.
        field: i64,
        /// First tick.
        from: u64,
        /// Last tick.
        to: u64,
    },
    /// The column contradicts itself, or is of a type that this file has no place for.
    #[error("field {field}: {problem}")]
    Column {
        /// Milvus field id; -1 for deletes.
        field: i64,
        /// What is wrong with it.
        problem: String,
    },
    /// The file would pass 2 GiB, the most that an event header can say: sync the segment in smaller batches.
    #[error("field {field}: {bytes} bytes do not fit one event")]
    TooLarge {
        /// Milvus field id; -1 for deletes.
        field: i64,
        /// Bytes of the event.
        bytes: usize,
    },
}

/// Says why a file was not read, and at which byte.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// Neither a binlog nor statistics: look for another file.
    #[error("not a segment file at byte 0: {found}")]
    Foreign {
        /// What the file begins with.
        found: String,
    },
    /// The file is shorter than it says: fetch it again.
    #[error("cut off: {what} at byte {offset} ends at byte {end}, the file at byte {length}")]
    Truncated {
        /// What is cut.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Where it should end.
        end: usize,
        /// Where the file ends.
        length: usize,
    },
    /// The bytes are not what any writer writes: restore the file from a replica or a backup.
    #[error("damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where.
        offset: usize,
        /// What was found, and what belongs there.
        problem: String,
    },
    /// Well formed as far as it was read, but a feature or a size that this reader has no place for.
    #[error("cannot be read here, byte {offset}: {problem}")]
    Unsupported {
        /// Where.
        offset: usize,
        /// The feature.
        problem: String,
    },
    /// Another kind of segment file than the caller asked for.
    #[error("asked for {expected}, but this is {found}")]
    Kind {
        /// What the caller asked for.
        expected: &'static str,
        /// What the file is.
        found: &'static str,
    },
}

impl ReadError {
    pub(crate) fn damaged(offset: usize, problem: impl Into<String>) -> ReadError {
        ReadError::Damaged { offset, problem: problem.into() }
    }

    pub(crate) fn unsupported(offset: usize, problem: impl Into<String>) -> ReadError {
        ReadError::Unsupported { offset, problem: problem.into() }
    }
}
