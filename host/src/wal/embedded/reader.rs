//! Reads the embedded log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_message::{MessageId, Record};

use super::chunks;
use super::shared::{Shared, lock, wait_for};
use crate::wal::{LogError, LogItem, LogReader};

/// A reader, with at most [`super::LogLimits::read_ahead_bytes`] and one record read ahead.
pub(super) struct EmbeddedReader {
    log: Arc<Shared>,
    next: i64,
    idle: u64,
    ahead: VecDeque<Record>,
}

impl EmbeddedReader {
    /// Returns a reader whose first record is `next`.
    pub fn new(log: Arc<Shared>, next: i64) -> Self {
        EmbeddedReader { log, next, idle: 0, ahead: VecDeque::new() }
    }
}

impl LogReader for EmbeddedReader {
    fn next(&mut self, wait: Duration) -> Result<Option<LogItem>, LogError> {
        if let Some(record) = self.ahead.pop_front() {
            return Ok(Some(LogItem::Record(record)));
        }
        let deadline = Instant::now().checked_add(wait);
        let mut tail = lock(&self.log.tail);
        loop {
            match &tail.stopped {
                Some(reason @ (LogError::Fenced { .. } | LogError::Closed)) => return Err(reason.clone()),
                // What is durable is good, even if the storage failed since.
                Some(reason) if self.next > tail.durable => return Err(reason.clone()),
                _ => {}
            }
            if self.next <= tail.durable {
                let Some((chunk, end)) = tail.chunks.holding(self.next) else {
                    let (asked, first) = (MessageId::RocksMq(self.next), MessageId::RocksMq(tail.chunks.first()));
                    return Err(LogError::Truncated { asked, first });
                };
                let last = end.min(tail.durable);
                drop(tail);
                self.ahead = chunks::read(&chunk, self.next, last, self.log.limits.read_ahead_bytes)?.into();
                self.next += i64::try_from(self.ahead.len()).unwrap_or_default();
                return Ok(self.ahead.pop_front().map(LogItem::Record));
            }
            if let Some((tick, last_confirmed)) = tail.idle
                && tick > self.idle
            {
                self.idle = tick;
                return Ok(Some(LogItem::IdleTick { tick, last_confirmed: MessageId::RocksMq(last_confirmed) }));
            }
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            tail = wait_for(&self.log.tail_moved, tail, left);
        }
    }
}
