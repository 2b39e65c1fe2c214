//! What an operator might swap to: a segment's batch also ends at a number of rows, and the component counts the batches of each segment.
//!
//! The counts are state that the version before does not know. They travel in a section of their own, which other versions carry verbatim;
//! those of segments that no longer exist are dropped when a snapshot is restored.

mod counts;
#[cfg(target_family = "wasm")]
mod exports;

use tidegate_flusher::contract::{ChannelIndex, Completion, Config, Holding, Host, Logic, Report};
use tidegate_flusher::{Flusher, Policy};

use counts::{Counting, Counts};

/// Rows at which a batch ends, with its group.
pub const INSERT_ROWS_MAX: u64 = 50;
/// The section of the counts.
pub const COUNTS: u16 = 0x4e31;

/// The flusher with its other policy.
pub struct Next {
    flusher: Flusher,
    counts: Counts,
}

impl Logic for Next {
    fn start(config: Config, resume: Option<&[u8]>) -> Result<Self, String> {
        let flusher = <Flusher as Logic>::start(config, resume)?.with_policy(Policy { insert_rows_max: INSERT_ROWS_MAX });
        let mut counts = flusher.section(COUNTS).map(Counts::decode).unwrap_or_default();
        counts.retain(|channel, segment| flusher.channel(channel).is_some_and(|c| c.segments.contains_key(&segment)));
        Ok(Self { flusher, counts })
    }

    fn turn(&mut self, host: &mut impl Host, completions: &[Completion], pressure: u64) -> Report {
        self.flusher.turn(&mut Counting { host, counts: &mut self.counts }, completions, pressure)
    }

    fn snapshot(&self) -> Vec<u8> {
        if self.counts.is_empty() && self.flusher.section(COUNTS).is_none() {
            return self.flusher.snapshot();
        }
        let mut flusher = self.flusher.clone();
        flusher.set_section(COUNTS, self.counts.encode());
        flusher.snapshot()
    }

    fn accounts(&self) -> Vec<Holding> {
        self.flusher.accounts()
    }

    fn explain(&self, channel: ChannelIndex) -> String {
        let batches: Vec<String> = self.counts.of(channel).map(|(segment, batches)| format!("{batches} of segment {segment}")).collect();
        format!(
            "{}; batches so far: {}",
            self.flusher.explain(channel),
            if batches.is_empty() { "none".into() } else { batches.join(", ") }
        )
    }
}
