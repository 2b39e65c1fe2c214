//! What a run, or many of them, came to.

use std::collections::BTreeMap;
use std::fmt;

use crate::faults::FAULTS;

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds, or scenarios.
    pub runs: u64,
    /// Events given to state machines.
    pub steps: u64,
    /// Actions done by processes.
    pub actions: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Rows that had to be somewhere.
    pub rows: u64,
    /// Faults and states, by id.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one more of something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Tally) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.actions += other.actions;
        self.simulated_ms += other.simulated_ms;
        self.rows += other.rows;
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }
}

/// Runs of fewer seeds say nothing about how often something happens.
const RUNS_LEAST: u64 = 2_000;
/// How often, in a thousand seeds, every fault strikes and every state is met, at least.
const LEAST: u64 = 2;

impl Tally {
    /// What struck, or was met, too rarely to prove anything: id, words, count. Nothing for short runs.
    pub fn too_rare(&self) -> Vec<(&'static str, &'static str, u64)> {
        let least = if self.runs < RUNS_LEAST { 0 } else { (LEAST * self.runs).div_ceil(1_000) };
        let counted = FAULTS.iter().chain(&SOMETIMES).map(|&(id, words)| (id, words, self.counts.get(id).copied().unwrap_or_default()));
        counted.filter(|(_, _, count)| *count < least).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, steps, actions, rows, .. } = self;
        let days = self.simulated_ms / 86_400_000;
        writeln!(f, "{runs} seeds, {steps} steps, {actions} actions, {rows} rows, {days} days of simulated time")?;
        for (id, words) in FAULTS.iter().chain(&SOMETIMES) {
            writeln!(f, "{id} {:>12}  {words}", self.counts.get(id).unwrap_or(&0))?;
        }
        Ok(())
    }
}

/// States that every longer run must have met: what never happens proves nothing.
pub const SOMETIMES: [(&str, &str); 50] = [
    ("S-01", "channel detached"),
    ("S-02", "instance rebuilt from the journal"),
    ("S-03", "instance rebuilt from a snapshot"),
    ("S-04", "instance lost, recovery anew"),
    ("S-05", "flusher fenced"),
    ("S-06", "message set aside"),
    ("S-07", "records truncated"),
    ("S-08", "pressure ended a batch"),
    ("S-09", "rows let go by the scan and read again"),
    ("S-10", "transaction delivered"),
    ("S-11", "channel dropped"),
    ("S-12", "duplicate rows filtered"),
    ("S-13", "save ignored, segment read back"),
    ("S-14", "reading stopped by the budget"),
    ("S-15", "records lost by a power loss"),
    ("S-16", "flush appended for a segment of the old architecture"),
    ("S-17", "scan begun at the earliest record that is left"),
    ("S-18", "channel caught up"),
    ("S-19", "swap committed"),
    ("S-20", "old version stays"),
    ("S-21", "new version recovers from the log"),
    ("S-22", "version rolled back"),
    ("S-23", "rolled back to the snapshot that it began with"),
    ("S-24", "probation over"),
    ("S-25", "order not now"),
    ("S-26", "version that failed before refused"),
    ("S-27", "order in recovery"),
    ("S-28", "order in a backoff"),
    ("S-29", "order in a catch-up"),
    ("S-30", "swap with work in flight"),
    ("S-31", "swap under memory pressure"),
    ("S-32", "killed inside a swap"),
    ("S-33", "power lost inside a swap"),
    ("S-34", "zombie inside a swap"),
    ("S-35", "fenced inside a swap"),
    ("S-36", "swap undone at open"),
    ("S-37", "process begins with a version on probation"),
    ("S-38", "swap after a message was set aside"),
    ("S-39", "snapshot of an older form converted"),
    ("S-40", "process killed while a channel catches up"),
    ("S-41", "power loss while a channel catches up"),
    ("S-42", "channel detached in a recovery"),
    ("S-43", "pressure while a channel catches up"),
    ("S-44", "flusher fenced while it writes"),
    ("S-45", "process dead with a save under way"),
    ("S-46", "records truncated while a channel catches up"),
    ("S-47", "dead letter in a transaction"),
    ("S-48", "collection dropped while a channel of it catches up"),
    ("S-49", "coordinator restarted while a flusher recovers"),
    ("S-50", "process dead while it writes"),
];
