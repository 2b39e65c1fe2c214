//! What the guest knows of rows that the host holds: where they begin and end, never the rows.

use std::collections::VecDeque;

use crate::contract::Ordinal;
use crate::mutants::{Mutant, is_mutated};

/// Rows of one segment (or deletes of one partition) that wait for a sync, and the syncs that run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    open: Option<Batch>,
    /// Oldest first.
    syncing: VecDeque<Sync>,
}

/// A sync that was asked for and has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// The ordinal it was asked up to: that of its last row, or of a later message that asked for it.
    pub up_to: Ordinal,
    /// Its rows; `None` if there were none to write.
    pub batch: Option<Batch>,
}

impl Sync {
    /// Returns the first ordinal that is not durable before it ends.
    pub fn first(&self) -> Ordinal {
        self.batch.map_or(self.up_to, |b| b.first)
    }

    /// Returns the rows that it writes.
    pub fn rows(&self) -> u64 {
        self.batch.map_or(0, |b| b.rows)
    }
}

/// A run of rows that one sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// First message.
    pub first: Ordinal,
    /// Tick of the first message.
    pub first_tick: u64,
    /// Last message so far.
    pub last: Ordinal,
    /// Rows so far.
    pub rows: u64,
    /// Bytes so far.
    pub bytes: u64,
}

impl Buffer {
    /// A buffer of these batches and syncs, oldest first.
    pub(crate) fn of(open: Option<Batch>, syncing: VecDeque<Sync>) -> Self {
        Self { open, syncing }
    }

    /// Adds a message and returns the batch so far.
    pub fn append(&mut self, ordinal: Ordinal, tick: u64, rows: u64, bytes: u64) -> Batch {
        let batch = self.open.get_or_insert(Batch { first: ordinal, first_tick: tick, last: ordinal, rows: 0, bytes: 0 });
        batch.last = ordinal;
        batch.rows += rows;
        batch.bytes += bytes;
        *batch
    }

    /// Returns the batch that still takes rows.
    pub fn open(&self) -> Option<&Batch> {
        self.open.as_ref()
    }

    /// Ends the open batch and counts it as syncing, up to its last message, or to `up_to` if that is later. Without rows a sync is counted
    /// that only has `up_to`, so that it has an owner.
    pub fn cut(&mut self, up_to: Option<Ordinal>) -> Ordinal {
        let batch = self.open.take();
        let up_to = batch.map_or(0, |b| b.last).max(up_to.unwrap_or_default());
        self.syncing.push_back(Sync { up_to, batch });
        up_to
    }

    /// Removes the sync that ended; `false` if there is none such.
    pub fn synced(&mut self, up_to: Ordinal) -> bool {
        let at = self.syncing.iter().position(|s| s.up_to == up_to);
        at.is_some_and(|at| self.syncing.remove(at).is_some())
    }

    /// Returns the first ordinal that is not durable.
    pub fn floor(&self) -> Option<Ordinal> {
        let syncing = self.syncing.front().filter(|_| !is_mutated(Mutant::ForgetSyncing));
        syncing.map(Sync::first).or(self.open.map(|b| b.first))
    }

    /// Returns the oldest sync that runs.
    pub fn syncing(&self) -> Option<&Sync> {
        self.syncing.front()
    }

    /// Returns the syncs that run, oldest first.
    pub(crate) fn syncs(&self) -> impl ExactSizeIterator<Item = &Sync> {
        self.syncing.iter()
    }

    /// Returns the batches that are not durable, oldest first: those being written, then the open one.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.syncing.iter().filter_map(|s| s.batch.as_ref()).chain(&self.open)
    }

    /// Whether nothing waits and nothing runs.
    pub fn is_empty(&self) -> bool {
        self.open.is_none() && self.syncing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_the_oldest_batch_in_flight_then_the_open_one() {
        let mut buffer = Buffer::default();
        buffer.append(3, 30, 1, 10);
        buffer.append(5, 50, 1, 10);
        assert_eq!(buffer.cut(None), 5);
        buffer.append(8, 80, 1, 10);
        assert_eq!(buffer.floor(), Some(3));
        assert!(buffer.synced(5));
        assert_eq!(buffer.floor(), Some(8));
        assert!(!buffer.synced(5), "a sync ends once");
    }

    #[test]
    fn a_cut_without_rows_still_pins_its_control_message() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.cut(Some(7)), 7);
        assert_eq!(buffer.floor(), Some(7));
    }
}
