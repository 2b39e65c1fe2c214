//! Puts what was read in time-tick order.

use std::collections::BTreeMap;

use tidegate_message::Message;

use super::BadRecord;
use crate::mutants::{Mutant, is_mutated};

/// What waits for its tick.
pub(super) enum Held {
    /// A message, and the bytes of its payload that were let go.
    Message(Box<Message>, usize),
    /// A record that is no message, but whose tick can be read.
    Bad(Box<BadRecord>),
}

impl Held {
    fn size(&self) -> usize {
        match self {
            Held::Message(message, _) => message.size(),
            Held::Bad(bad) => bad.malformed.record.size(),
        }
    }
}

/// Holds messages until a time tick says that nothing with a lower tick follows.
///
/// Among equal ticks the order is that of arrival, which is the log's own.
#[derive(Default)]
pub(super) struct Reorder {
    held: BTreeMap<(u64, u64), Held>,
    arrivals: u64,
    bytes: usize,
    released: u64,
}

impl Reorder {
    /// Whether a message with this tick comes too late: strictly below the last release, as in Milvus; an equal tick is in time.
    pub fn is_late(&self, tick: u64) -> bool {
        tick < self.released
    }

    /// Returns the tick of the last release.
    pub fn released(&self) -> u64 {
        self.released
    }

    /// Returns the size of what is held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes in what is not late.
    pub fn hold(&mut self, tick: u64, held: Held) {
        self.bytes += held.size();
        self.arrivals += 1;
        let tick = if is_mutated(Mutant::NoReorder) { self.released } else { tick };
        self.held.insert((tick, self.arrivals), held);
    }

    /// Gives out everything with a tick up to and including `tick`, ascending.
    pub fn release(&mut self, tick: u64) -> Vec<Held> {
        self.released = self.released.max(tick);
        let later = self.held.split_off(&(tick, u64::MAX));
        let ready: Vec<Held> = std::mem::replace(&mut self.held, later).into_values().collect();
        self.bytes -= ready.iter().map(Held::size).sum::<usize>();
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::message;
    use super::*;

    fn ticks(released: Vec<Held>) -> Vec<u64> {
        released
            .into_iter()
            .map(|held| match held {
                Held::Message(message, _) => message.tick,
                Held::Bad(_) => unreachable!("no bad record was held"),
            })
            .collect()
    }

    #[test]
    fn twenty_five_permuted_ticks_come_out_ascending_in_steps_and_the_bytes_return_to_zero() {
        let mut reorder = Reorder::default();
        for n in 0..25u64 {
            let tick = n * 7 % 25;
            reorder.hold(tick, Held::Message(Box::new(message(i64::try_from(n).unwrap(), tick)), 0));
        }
        assert!(reorder.bytes() > 0);
        assert_eq!(ticks(reorder.release(9)), (0..=9).collect::<Vec<_>>());
        assert_eq!(ticks(reorder.release(9)), Vec::<u64>::new());
        assert_eq!(ticks(reorder.release(23)), (10..=23).collect::<Vec<_>>());
        assert_eq!(ticks(reorder.release(100)), vec![24]);
        assert_eq!(reorder.bytes(), 0);
    }

    #[test]
    fn only_a_tick_strictly_below_the_last_release_is_late_and_a_lower_release_does_not_move_it_back() {
        let mut reorder = Reorder::default();
        assert!(!reorder.is_late(0));
        reorder.release(10);
        reorder.release(5);
        assert!(reorder.is_late(9));
        assert!(!reorder.is_late(10));
    }
}
