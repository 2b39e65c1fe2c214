//! The trace of a run: a rolling hash of every event and action, and their text where someone wants to read it.

use crate::rng::mix;

/// What happened so far.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// The lines, if they are kept.
    pub lines: Option<Vec<String>>,
}

impl Trace {
    /// Returns the hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Takes note of numbers.
    pub fn mix(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.hash = mix(self.hash.rotate_left(7) ^ number);
        }
    }

    /// Takes note of a line, which is only made if lines are kept.
    pub fn say(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now_ms:>8} {}", line()));
        }
    }
}
