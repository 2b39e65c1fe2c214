//! The swap log: one JSON object a line, fsynced; what the versions of the pchannels are is read from it at open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Lines that `status` shows.
pub(super) const SHOWN: usize = 8;

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
pub(super) struct Chosen {
    pub current: String,
    pub good: Option<String>,
    pub on_probation: bool,
}

/// What the lines so far add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub chosen: BTreeMap<String, Chosen>,
    /// Components that failed, and how.
    pub failed: BTreeMap<String, String>,
    pub built_in: String,
    /// Swaps without an end: what their pchannels had before.
    pub unfinished: BTreeMap<u64, BTreeMap<String, Chosen>>,
    pub last_swap: u64,
    pub shown: Vec<Line>,
}

impl State {
    fn take(&mut self, line: &Line) {
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
                    let after = Chosen { current: line.to.clone(), good: Some(line.from.clone()), on_probation: true };
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
}

/// The log, open.
pub(super) struct SwapLog {
    file: File,
    len: u64,
    pub state: State,
}

impl SwapLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut state = State::default();
        let mut ends_line = true;
        for line in BufReader::new(&file).split(b'\n') {
            let line = line?;
            // What a crash cut short did not happen.
            match serde_json::from_slice::<Line>(&line) {
                Ok(line) => {
                    state.take(&line);
                    ends_line = true;
                }
                Err(_) => ends_line = line.is_empty(),
            }
        }
        let mut log = Self { file, len: 0, state };
        if !ends_line {
            log.file.write_all(b"\n")?;
        }
        log.len = log.file.metadata()?.len();
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(log)
    }

    /// Appends a line, and returns it with its time when it is durable.
    pub fn append(&mut self, mut line: Line) -> io::Result<Line> {
        line.at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or_default());
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += text.len() as u64;
        self.state.take(&line);
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(swap: u64, step: Step, pchannel: &str, from: &str, to: &str) -> Line {
        Line { swap, step, pchannel: pchannel.into(), from: from.into(), to: to.into(), ..Line::default() }
    }

    fn current(log: &SwapLog, pchannel: &str) -> String {
        log.state.of(pchannel).current
    }

    #[test]
    fn what_was_chosen_is_read_back_and_a_torn_line_did_not_happen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("swaps.jsonl");
        let mut log = SwapLog::open(&path).unwrap();
        log.append(line(0, Step::BuiltIn, "", "", "one")).unwrap();
        log.append(line(1, Step::Begun, "", "", "two")).unwrap();
        log.append(line(1, Step::Committed, "p_0", "one", "two")).unwrap();
        log.append(line(1, Step::Ended, "", "", "two")).unwrap();
        log.file.write_all(b"{\"at_ms\":1,\"swap\":1,\"st").unwrap();
        drop(log);
        let mut log = SwapLog::open(&path).unwrap();
        assert_eq!((current(&log, "p_0"), current(&log, "p_1")), ("two".into(), "one".into()));
        assert!(log.state.of("p_0").on_probation && log.state.unfinished.is_empty());
        log.append(line(0, Step::RolledBack, "p_0", "two", "one")).unwrap();
        drop(log);
        let log = SwapLog::open(&path).unwrap();
        assert_eq!((current(&log, "p_0"), log.state.of("p_0").good), ("one".into(), None));
        assert!(log.state.failed.contains_key("two"), "{:?}", log.state);
    }

    #[test]
    fn a_swap_without_an_end_says_what_there_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SwapLog::open(&dir.path().join("swaps.jsonl")).unwrap();
        log.append(line(0, Step::BuiltIn, "", "", "one")).unwrap();
        log.append(line(1, Step::Begun, "", "", "two")).unwrap();
        log.append(line(1, Step::Committed, "p_0", "one", "two")).unwrap();
        assert_eq!(log.state.unfinished[&1]["p_0"].current, "one");
        assert!(!log.state.unfinished[&1].contains_key("p_1"));
    }

    #[test]
    fn a_program_with_another_component_serves_with_it_and_can_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SwapLog::open(&dir.path().join("swaps.jsonl")).unwrap();
        log.append(line(0, Step::BuiltIn, "", "", "one")).unwrap();
        log.append(line(0, Step::Opened, "p_0", "", "one")).unwrap();
        log.append(line(0, Step::BuiltIn, "", "", "three")).unwrap();
        assert_eq!(log.state.of("p_0"), Chosen { current: "three".into(), good: Some("one".into()), on_probation: true });
    }
}
