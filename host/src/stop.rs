//! A stop that threads watch: nothing waits past it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How long a stop may go unnoticed.
pub(crate) const STOP_GRAIN: Duration = Duration::from_millis(100);

/// Whether to stop, seen by all clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Tells everybody to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits, but not past a stop.
    pub fn pause(&self, wait: Duration) {
        let mut left = wait;
        while !left.is_zero() && !self.is_set() {
            let part = STOP_GRAIN.min(left);
            thread::sleep(part);
            left -= part;
        }
    }
}
