//! The turn journal: a snapshot and the turns since, in a bounded ring that is always on. A faulted instance is rebuilt from it.

use std::sync::Arc;

use crate::switches::{Switch, is_on};
use crate::turn::{TurnInput, TurnOutput};

/// One recorded turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// What went in.
    pub input: Arc<TurnInput>,
    /// What came out.
    pub output: Arc<TurnOutput>,
}

/// What rebuilds an instance.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The snapshot to start from; `None` is the state at start.
    pub base: Option<Arc<Vec<u8>>>,
    /// The turns since.
    pub turns: Vec<Turn>,
}

/// Turns before a new base is wanted, unless the limits say otherwise.
pub const TURNS_MAX: usize = 1024;
/// Bytes of recorded turns before a new base is wanted.
pub const BYTES_MAX: usize = 4 << 20;

/// The ring.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The state that the turns follow; `None` is the state at start.
    base: Option<Arc<Vec<u8>>>,
    turns: Vec<Turn>,
    bytes: usize,
    /// Set when no snapshot could be had and the ring ran full: the start is lost.
    broken: bool,
}

impl Journal {
    /// Records a turn.
    pub fn record(&mut self, input: Arc<TurnInput>, output: Arc<TurnOutput>) {
        let input = match is_on(Switch::JournalForgets) {
            true => Arc::new(TurnInput { completions: Vec::new(), ..(*input).clone() }),
            false => input,
        };
        self.bytes += input.page.memory() + input.completions.len() * 96 + output.intents.len() * 64 + 128;
        self.turns.push(Turn { input, output });
        if self.turns.len() > 4 * TURNS_MAX {
            self.turns.clear();
            self.bytes = 0;
            self.broken = true;
        }
    }

    /// Whether a snapshot should be taken, so that the ring can start anew from it.
    pub fn wants_base(&self, turns_max: usize) -> bool {
        self.turns.len() >= turns_max || self.bytes >= BYTES_MAX
    }

    /// Starts anew from a snapshot.
    pub fn rebase(&mut self, snapshot: Arc<Vec<u8>>) {
        *self = Self { base: Some(snapshot), ..Self::default() };
    }

    /// Returns what rebuilds the state before the next turn; `None` when the ring lost its beginning.
    pub fn replay(&self) -> Option<Replay> {
        (!self.broken).then(|| Replay { base: self.base.clone(), turns: self.turns.clone() })
    }

    /// Forgets everything: a new instance starts from nothing.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Bytes that the recorded turns take.
    pub fn bytes(&self) -> usize {
        self.bytes + self.base.as_ref().map_or(0, |b| b.len())
    }
}
