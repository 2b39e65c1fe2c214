//! The coordinator as the host sees it: one blocking trait, one file an implementation.

mod embedded;

use tidegate_core::calls::{Call, CallError, Caller, Reply};

pub use self::embedded::{EmbeddedCoordinator, OpenError};

/// A coordinator that worker threads call; every call blocks until it is answered.
pub trait CoordinatorClient: Send + Sync {
    /// Makes one call. What the answer says is durable when it is given.
    ///
    /// # Errors
    ///
    /// As [`CallError`] tells; after [`CallError::Transient`] a mutating call may have been applied, so repeat it or read back.
    fn call(&self, caller: &Caller, call: &Call) -> Result<Reply, CallError>;

    /// Allocates `count` consecutive ids that were never issued and returns the first.
    ///
    /// # Errors
    ///
    /// As [`CallError`] tells; ids of a failed call are lost, which hurts nobody.
    fn alloc_ids(&self, count: u32) -> Result<i64, CallError>;
}
