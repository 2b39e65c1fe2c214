//! The swap log: one JSON object a line, fsynced; what the versions of the pchannels are is read from it at open.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_core::versions::{Line, Versions};

/// The log, open.
pub(super) struct SwapLog {
    file: File,
    len: u64,
    pub state: Versions,
}

impl SwapLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut state = Versions::default();
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
    use tidegate_core::versions::{Chosen, Step};

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
