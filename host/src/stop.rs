//! How threads end: by a stop that they watch and that nothing waits past, or by a panic.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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

/// Waits for threads that were told to stop, and leaves those behind that do not end in time: what they call may hang.
pub(crate) fn join_within(threads: impl IntoIterator<Item = JoinHandle<()>>, within: Duration) {
    const POLL: Duration = Duration::from_millis(2);
    let began = Instant::now();
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        while !thread.is_finished() && began.elapsed() < within {
            thread::sleep(POLL);
        }
        if !thread.is_finished() {
            tracing::error!("thread {name:?} is left behind: what it waits for does not answer");
        } else if thread.join().is_err() {
            tracing::error!("thread {name:?} panicked");
        }
    }
}

/// Returns what a thread said when it panicked.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it did not say why")
}
