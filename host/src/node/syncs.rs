//! How long the segment writes and saves of syncs waited and took.

use std::time::Duration;

use prometheus_client::metrics::histogram::exponential_buckets_range;
use serde::{Deserialize, Serialize};
use tidegate_core::calls::Call;
use tidegate_core::pchannel::Work;

/// The writes and saves that workers ended, since the node was opened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Syncs {
    /// From their beginning to a worker.
    pub queued: Durations,
    /// At a worker.
    pub executed: Durations,
}

/// Durations by size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Durations {
    /// How many are at or below each of [`Durations::bounds`] and above the one before; the last, above all of them. Empty for none.
    pub counts: Vec<u64>,
    /// Their sum, in seconds.
    pub sum_seconds: f64,
}

impl Syncs {
    /// Whether a piece of work is a part of a sync.
    pub(super) fn include(work: &Work) -> bool {
        matches!(work, Work::Write(_) | Work::Call(Call::SaveBinlogPaths(_)))
    }

    /// Adds those of another pchannel.
    pub(super) fn add(&mut self, other: &Syncs) {
        self.queued.add(&other.queued);
        self.executed.add(&other.executed);
    }
}

impl Durations {
    /// Upper bounds in seconds: 15, exponential, 1 ms to 60 s, as a Milvus streaming node's.
    pub fn bounds() -> impl Iterator<Item = f64> {
        exponential_buckets_range(0.001, 60.0, 15)
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn observe(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.counts.resize(Self::bounds().count() + 1, 0);
        let at = Self::bounds().take_while(|bound| *bound < seconds).count();
        self.counts[at] += 1;
        self.sum_seconds += seconds;
    }

    fn add(&mut self, other: &Durations) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, more)| *sum += more);
        self.sum_seconds += other.sum_seconds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_once_and_sums_add_up() {
        let mut durations = Durations::default();
        for ms in [0, 1, 2, 100_000] {
            durations.observe(Duration::from_millis(ms));
        }
        assert_eq!((durations.counts[0], durations.counts[1], durations.counts[15], durations.count()), (2, 1, 1, 4));
        let mut sum = Syncs::default();
        sum.add(&Syncs { queued: durations.clone(), executed: Durations::default() });
        sum.add(&Syncs { queued: durations, executed: Durations::default() });
        assert_eq!((sum.queued.count(), sum.executed.count()), (8, 0));
        assert!((sum.queued.sum_seconds - 200.006).abs() < 1e-9, "{sum:?}");
    }
}
