//! The swap log's meaning: its lines, and which version of the component serves which pchannel once they are added up. Where the lines lie is
//! not said here.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::pchannel::{SwapStep, Verdict};

/// Lines that `status` shows.
const SHOWN: usize = 8;

/// A step of a swap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The swap that it belongs to; 0 for what happened by itself.
    pub swap: u64,
    /// What happened.
    pub step: Step,
    /// The pchannel, empty for all of them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pchannel: String,
    /// SHA-256 of the component before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// SHA-256 of the component that the step is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// Bytes of the state that was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<usize>,
    /// How long the pchannel stood still, in microseconds, and its parts: snapshot, start, accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    /// See `pause_us`.
    pub pause_parts_us: Option<[u64; 3]>,
    /// The verdict in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verdict: String,
}

/// What a line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The component that the program brings; from its first line on it serves what nobody chose another one for.
    #[default]
    BuiltIn,
    /// A component passed the checks, the self-test and the rehearsal.
    Prepared,
    /// It did not.
    Refused,
    /// Pchannels are handed over from here on; without its end, they go back at the next open.
    Begun,
    /// A pchannel was handed over with a verified snapshot; the component is on probation.
    Committed,
    /// A pchannel recovers with the component; it is on probation.
    Recovers,
    /// The component could not follow the one before.
    Stayed,
    /// Nothing was tried.
    NotNow,
    /// The component failed on probation; the one before serves again.
    RolledBack,
    /// Probation is over.
    Good,
    /// The swap is over.
    Ended,
    /// At open: what serves the pchannel from here on, and why.
    Opened,
}

/// The components of a pchannel, as the log has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// What serves.
    pub current: String,
    /// What to go back to.
    pub good: Option<String>,
    /// Whether the first has to prove itself still.
    pub on_probation: bool,
}

/// What the lines so far add up to.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// By pchannel; one that is missing has what the program brings.
    pub chosen: BTreeMap<String, Chosen>,
    /// Components that failed, and how.
    pub failed: BTreeMap<String, String>,
    /// What the program brings.
    pub built_in: String,
    /// Swaps without an end: what their pchannels had before.
    pub unfinished: BTreeMap<u64, BTreeMap<String, Chosen>>,
    /// Number of the last swap.
    pub last_swap: u64,
    /// The last lines, for an operator.
    pub shown: Vec<Line>,
}

impl Versions {
    /// Adds a line.
    pub fn take(&mut self, line: &Line) {
        self.last_swap = self.last_swap.max(line.swap);
        match line.step {
            Step::BuiltIn => {
                self.built_in.clone_from(&line.to);
                // A program with another component serves with that one; what served before is what to go back to.
                for chosen in self.chosen.values_mut().filter(|c| c.current != line.to) {
                    let good = Some(std::mem::take(&mut chosen.current));
                    *chosen = Chosen { current: line.to.clone(), good, on_probation: true };
                }
            }
            Step::Begun => {
                self.unfinished.insert(line.swap, BTreeMap::new());
            }
            Step::Committed | Step::Recovers => {
                let before = self.of(&line.pchannel);
                if let Some(undo) = self.unfinished.get_mut(&line.swap) {
                    undo.entry(line.pchannel.clone()).or_insert(before.clone());
                }
                if before.current != line.to {
                    // One that has not proved itself is nothing to go back to while there is one that has.
                    let proven = before.good.filter(|good| before.on_probation && *good != line.to);
                    let good = Some(proven.unwrap_or_else(|| line.from.clone()));
                    let after = Chosen { current: line.to.clone(), good, on_probation: true };
                    self.chosen.insert(line.pchannel.clone(), after);
                }
            }
            Step::RolledBack => {
                self.failed.insert(line.from.clone(), line.verdict.clone());
                let after = Chosen { current: line.to.clone(), good: None, on_probation: false };
                self.chosen.insert(line.pchannel.clone(), after);
            }
            Step::Stayed => {
                self.failed.insert(line.to.clone(), line.verdict.clone());
            }
            Step::Good => {
                self.failed.remove(&line.to);
                if let Some(chosen) = self.chosen.get_mut(&line.pchannel) {
                    chosen.on_probation = false;
                }
            }
            Step::Ended => {
                self.unfinished.remove(&line.swap);
            }
            Step::Opened => {
                let good = self.of(&line.pchannel).good.filter(|good| *good != line.to);
                let on_probation = self.of(&line.pchannel).on_probation && self.of(&line.pchannel).current == line.to;
                self.chosen.insert(line.pchannel.clone(), Chosen { current: line.to.clone(), good, on_probation });
            }
            Step::Prepared | Step::Refused | Step::NotNow => {}
        }
        self.shown.push(line.clone());
        if self.shown.len() > SHOWN {
            self.shown.remove(0);
        }
    }

    /// The components of a pchannel: the built-in one, unless another was chosen.
    pub fn of(&self, pchannel: &str) -> Chosen {
        let built_in = || Chosen { current: self.built_in.clone(), good: None, on_probation: false };
        self.chosen.get(pchannel).cloned().unwrap_or_else(built_in)
    }

    /// Digests that may still be wanted.
    pub fn wanted(&self) -> BTreeSet<&str> {
        let chosen = self.chosen.values().flat_map(|c| [Some(c.current.as_str()), c.good.as_deref()]).flatten();
        chosen.chain([self.built_in.as_str()]).collect()
    }

    /// What an open has to add: swaps without an end are undone, and a program may bring another component than the one before.
    pub fn settle(&self, built_in: &str) -> Vec<Line> {
        let mut lines = Vec::new();
        for (&swap, undo) in &self.unfinished {
            for (pchannel, before) in undo {
                let short = before.current.get(..12).unwrap_or(&before.current);
                let verdict = format!("the node ended before swap {swap} did: {short} serves again");
                let (from, to) = (self.of(pchannel).current, before.current.clone());
                lines.push(Line { swap, step: Step::Opened, pchannel: pchannel.clone(), from, to, verdict, ..Line::default() });
            }
            lines.push(Line { swap, step: Step::Ended, verdict: "undone at open".to_owned(), ..Line::default() });
        }
        if self.built_in != built_in {
            lines.push(Line { step: Step::BuiltIn, to: built_in.to_owned(), ..Line::default() });
        }
        lines
    }
}

impl Line {
    /// The line of what became of a version on a pchannel; it has no time yet.
    pub fn of(swap: u64, pchannel: &str, step: &SwapStep) -> Self {
        let (kind, verdict) = match &step.verdict {
            Verdict::Committed => (Step::Committed, String::new()),
            Verdict::Recovers(why) => (Step::Recovers, why.clone()),
            Verdict::Stayed(why) => (Step::Stayed, why.clone()),
            Verdict::NotNow(why) => (Step::NotNow, why.clone()),
            Verdict::RolledBack(why) => (Step::RolledBack, why.clone()),
            Verdict::Good => (Step::Good, String::new()),
        };
        Self {
            swap,
            step: kind,
            pchannel: pchannel.to_owned(),
            from: step.from.to_string(),
            to: step.to.to_string(),
            state_bytes: step.state_bytes,
            verdict,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_has_not_proved_itself_is_nothing_to_go_back_to_while_there_is_one_that_has() {
        let mut versions = Versions::default();
        let mut take = |step, from: &str, to: &str| {
            versions.take(&Line { step, pchannel: "p".into(), from: from.into(), to: to.into(), ..Line::default() });
            versions.of("p").good
        };
        assert_eq!(take(Step::BuiltIn, "", "one"), None);
        assert_eq!(take(Step::Committed, "one", "two"), Some("one".into()));
        assert_eq!(take(Step::Committed, "two", "three"), Some("one".into()), "two was on probation");
        assert_eq!(take(Step::Good, "three", "three"), Some("one".into()));
        assert_eq!(take(Step::Recovers, "three", "four"), Some("three".into()));
        assert_eq!(take(Step::Committed, "four", "three"), Some("four".into()), "there is no other");
    }
}
