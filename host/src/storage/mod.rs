//! Segment files on object storage: the store, the layout of its keys, and writing and reading the files of a segment.
//!
//! ```text
//! rows of one sync ─ writer ─► insert_log/… one a field or column group, stats_log/… ─┐
//! deletes          ─ writer ─► delta_log/…                                            ├─ chunks ─► files, fsynced with their folders; or objects of a bucket
//! `tidegate scan`  ◄ reader ──────────────────────────────────────────────────────────┘
//! ```

mod bucket;
mod chunks;
pub mod keys;
mod reader;
mod writer;

use bytes::Bytes;

pub use self::bucket::Bucket;
pub use self::chunks::ChunkStore;
pub use self::reader::{read_deltas, read_segment};
pub use self::writer::{Body, DeleteJob, RowBatchJob, WriteOutcome, write_deletes, write_rows};

/// Why the storage did not do what was asked, chosen by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is no such object.
    #[error("`{key}` does not exist")]
    NotFound {
        /// The object's key.
        key: String,
    },
    /// May pass: try again with backoff.
    #[error("`{key}`: {reason}")]
    Transient {
        /// The object's key, or what stands for one.
        key: String,
        /// What went wrong.
        reason: String,
    },
    /// Trying again will not help; an operator must act.
    #[error("`{key}` cannot be used: {reason}")]
    Permanent {
        /// The object's key, or what stands for one.
        key: String,
        /// What went wrong.
        reason: String,
    },
}

/// Where the writer puts files, and finds the statistics that it wrote before.
pub trait Objects {
    /// Stores an object, replacing one of that name. It appears whole or not at all, and is durable on return.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError>;

    /// Returns an object.
    ///
    /// # Errors
    ///
    /// Any [`StorageError`], naming the key.
    fn get(&self, key: &str) -> Result<Bytes, StorageError>;
}

impl Objects for ChunkStore {
    fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        ChunkStore::put(self, key, object)
    }

    fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        ChunkStore::get(self, key)
    }
}

impl StorageError {
    fn permanent(key: &str, reason: impl ToString) -> StorageError {
        StorageError::Permanent { key: key.to_owned(), reason: reason.to_string() }
    }
}
