//! What the guest knows of rows that the host holds: where they begin and end, never the rows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::contract::Ordinal;
use crate::mutants::{Mutant, is_mutated};

/// Rows of one segment (or deletes of one partition) that wait for a sync, and the syncs that run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    open: Option<Batch>,
    /// Batches whose sync was asked for, oldest first.
    syncing: VecDeque<Batch>,
}

/// A run of rows that one sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// First message.
    pub first: Ordinal,
    /// Tick of the first message.
    pub first_tick: u64,
    /// Last message so far; of a sync, the ordinal it was asked up to.
    pub last: Ordinal,
    /// Rows so far.
    pub rows: u64,
    /// Bytes so far.
    pub bytes: u64,
}

impl Buffer {
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

    /// Ends the open batch at its last message, or at `up_to` if that is later, and counts it as syncing. Without rows, a batch that
    /// only carries `up_to` is counted, so that the sync has an owner.
    pub fn cut(&mut self, up_to: Option<Ordinal>, tick: u64) -> Ordinal {
        let mut batch = self.open.take().unwrap_or_else(|| {
            let at = up_to.unwrap_or_default();
            Batch { first: at, first_tick: tick, last: at, rows: 0, bytes: 0 }
        });
        batch.last = batch.last.max(up_to.unwrap_or_default());
        self.syncing.push_back(batch);
        batch.last
    }

    /// Removes the sync that ended; `false` if there is none such.
    pub fn synced(&mut self, up_to: Ordinal) -> bool {
        let at = self.syncing.iter().position(|b| b.last == up_to);
        at.is_some_and(|at| self.syncing.remove(at).is_some())
    }

    /// Returns the first ordinal that is not durable.
    pub fn floor(&self) -> Option<Ordinal> {
        let syncing = self.syncing.front().filter(|_| !is_mutated(Mutant::ForgetSyncing));
        syncing.or(self.open.as_ref()).map(|b| b.first)
    }

    /// Returns the oldest sync that runs.
    pub fn syncing(&self) -> Option<&Batch> {
        self.syncing.front()
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
        assert_eq!(buffer.cut(None, 0), 5);
        buffer.append(8, 80, 1, 10);
        assert_eq!(buffer.floor(), Some(3));
        assert!(buffer.synced(5));
        assert_eq!(buffer.floor(), Some(8));
        assert!(!buffer.synced(5), "a sync ends once");
    }

    #[test]
    fn a_cut_without_rows_still_pins_its_control_message() {
        let mut buffer = Buffer::default();
        assert_eq!(buffer.cut(Some(7), 70), 7);
        assert_eq!(buffer.floor(), Some(7));
    }
}
