//! What the handle, the appender and the readers of one log share.

use std::collections::VecDeque;
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_message::Outgoing;

use super::LogLimits;
use super::chunks::Chunks;
use crate::wal::{Appended, LogError};

/// Changes to the keys that the log's owner keeps beside it; `None` removes.
pub type MetaChanges = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Keys of the log's owner, with their values.
pub type MetaEntries = Vec<(Vec<u8>, Vec<u8>)>;

/// What readers may see.
pub(super) struct Tail {
    pub chunks: Chunks,
    /// The last durable id; -1 for none.
    pub durable: i64,
    /// The time since the last record, and its last confirmed id.
    pub idle: Option<(u64, i64)>,
    /// Why nothing follows.
    pub stopped: Option<LogError>,
}

/// An append that waits.
pub(super) struct Request {
    pub batch: Vec<Outgoing>,
    pub meta: MetaChanges,
    pub bytes: usize,
    pub reply: SyncSender<Result<Vec<Appended>, LogError>>,
}

/// Appends in the order of their arrival.
#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
    closed: Option<LogError>,
}

/// The shared state of one log handle. Locks nest in this order: the writer's, queue, tail.
pub(super) struct Shared {
    pub limits: LogLimits,
    pub tail: Mutex<Tail>,
    pub tail_moved: Condvar,
    queue: Mutex<Queue>,
    queue_moved: Condvar,
}

impl Shared {
    /// Returns the state of a log whose durable records are in `tail`.
    pub fn new(limits: LogLimits, tail: Tail) -> Self {
        Shared { limits, tail: Mutex::new(tail), tail_moved: Condvar::new(), queue: Mutex::default(), queue_moved: Condvar::new() }
    }

    /// Queues an append, waiting while the queue is full.
    pub fn submit(&self, request: Request) -> Result<(), LogError> {
        let mut queue = lock(&self.queue);
        while queue.closed.is_none() && !queue.requests.is_empty() && queue.bytes + request.bytes > self.limits.queue_bytes {
            queue = self.queue_moved.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(reason) = &queue.closed {
            return Err(reason.clone());
        }
        queue.bytes += request.bytes;
        queue.requests.push_back(request);
        self.queue_moved.notify_all();
        Ok(())
    }

    /// Returns the appends of the next group: none if none came within `wait`.
    ///
    /// # Errors
    /// Why the log stopped.
    pub fn next_group(&self, wait: Duration) -> Result<Vec<Request>, LogError> {
        let mut queue = lock(&self.queue);
        if queue.requests.is_empty() && queue.closed.is_none() {
            queue = wait_for(&self.queue_moved, queue, wait);
        }
        if let Some(reason) = &queue.closed {
            return Err(reason.clone());
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while let Some(request) = queue.requests.pop_front_if(|request| bytes == 0 || bytes + request.bytes <= self.limits.group_bytes) {
            bytes += request.bytes;
            group.push(request);
        }
        queue.bytes -= bytes;
        self.queue_moved.notify_all();
        Ok(group)
    }

    /// Stops the log; the first reason stays. Appends that wait are refused with it.
    pub fn stop(&self, reason: LogError) {
        let mut queue = lock(&self.queue);
        let reason = queue.closed.get_or_insert(reason).clone();
        queue.bytes = 0;
        for request in queue.requests.drain(..) {
            // A caller that is gone needs no answer.
            let _ = request.reply.send(Err(reason.clone()));
        }
        lock(&self.tail).stopped.get_or_insert(reason);
        self.queue_moved.notify_all();
        self.tail_moved.notify_all();
    }
}

/// Locks a mutex; what a panicking thread leaves behind is whole, since state changes only after what can fail.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition variable for some time.
pub(super) fn wait_for<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, wait: Duration) -> MutexGuard<'a, T> {
    condvar.wait_timeout(guard, wait).unwrap_or_else(PoisonError::into_inner).0
}
