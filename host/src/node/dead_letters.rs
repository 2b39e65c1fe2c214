//! Messages that cannot be flushed: one JSON object a line, fsynced before anything later is done, each message once. What an operator
//! made of them stands behind them, a line a step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tidegate_core::pchannel::{DeadLetter, MessageNames};
use tidegate_message::{MessageId, Properties, WalName};

/// A message in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Id in the log, channel and tick: together they name a message.
    pub id: String,
    pub vchannel: String,
    pub tick: u64,
    pub reason: String,
    pub properties: Properties,
    /// Base64, standard alphabet, padded.
    pub payload: String,
    /// The component faults on it: it is settled when it is met again.
    #[serde(default)]
    pub poison: bool,
    /// The kind of log that the id is of.
    #[serde(default)]
    pub wal: String,
}

impl Entry {
    pub fn name(&self) -> String {
        name(&self.id, &self.vchannel, self.tick)
    }
}

/// What an operator did with messages of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "snake_case")]
pub(super) enum Mark {
    /// They are about to be appended again; a crash leaves it at that.
    Retrying {
        names: Vec<String>,
        /// Milliseconds since 1970.
        at_ms: u64,
    },
    /// They were appended again.
    Retried { names: Vec<String>, messages: Vec<Again> },
    /// The log or the coordinator refused, and nothing was appended.
    NotRetried { names: Vec<String>, reason: String },
    /// Control messages whose effect is given up.
    Skipped { names: Vec<String>, at_ms: u64 },
}

impl Mark {
    fn names(&self) -> &[String] {
        match self {
            Self::Retrying { names, .. } | Self::Retried { names, .. } | Self::NotRetried { names, .. } | Self::Skipped { names, .. } => {
                names
            }
        }
    }
}

/// As what a message was appended again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// The tick that it had.
    pub old_tick: u64,
    /// Its new tick.
    pub tick: u64,
    /// Its new id in the log.
    pub new_id: String,
    /// The segment that its rows are assigned to; none for deletes.
    pub segment: Option<i64>,
}

/// The dead-letter file of one pchannel, between the thread that writes messages and those that read and mark them.
#[derive(Clone)]
pub(super) struct DeadLetters(Arc<Mutex<Letters>>);

struct Letters {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    len: u64,
    known: BTreeSet<String>,
    /// Id, channel and tick of what is settled when it is met again: the component faults on it, or it is in the log a second time.
    settled: Vec<(String, String, u64)>,
    /// Id, channel and tick of control messages that are given up.
    skipped: Vec<(String, String, u64)>,
    /// The last mark of each message that has one.
    marks: BTreeMap<String, Mark>,
}

impl DeadLetters {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut letters = Letters {
            path: path.to_owned(),
            file,
            len: 0,
            known: BTreeSet::new(),
            settled: Vec::new(),
            skipped: Vec::new(),
            marks: BTreeMap::new(),
        };
        let mut places = BTreeMap::new();
        let ends_line = read_lines(path, |line| match line {
            Line::Entry(entry) => {
                let name = entry.name();
                let Entry { id, vchannel, tick, poison, .. } = *entry;
                if poison {
                    letters.settled.push((id.clone(), vchannel.clone(), tick));
                }
                places.insert(name.clone(), (id, vchannel, tick));
                letters.known.insert(name);
            }
            Line::Mark(mark) => letters.marked(mark),
        })?;
        for (name, mark) in &letters.marks {
            match mark {
                Mark::Skipped { .. } => letters.skipped.extend(places.get(name).cloned()),
                Mark::Retrying { .. } | Mark::Retried { .. } => letters.settled.extend(places.get(name).cloned()),
                Mark::NotRetried { .. } => {}
            }
        }
        // A line that a crash cut short is written again when its message is met again.
        if !ends_line {
            letters.file.write_all(b"\n")?;
        }
        letters.len = letters.file.metadata()?.len();
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self(Arc::new(Mutex::new(letters))))
    }

    /// A file that cannot be written.
    #[cfg(test)]
    pub fn unwritable(path: &Path) -> Self {
        let letters = Self::open(path).unwrap();
        letters.lock().file = File::open(path).unwrap();
        letters
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores a message, unless it is stored already, and returns when it is durable.
    pub fn store(&self, letter: &DeadLetter) -> io::Result<()> {
        let entry = Entry {
            id: letter.id.marshal(),
            vchannel: letter.vchannel.clone(),
            tick: letter.tick,
            reason: letter.reason.clone(),
            properties: letter.properties.clone(),
            payload: String::new(),
            poison: letter.poison,
            wal: letter.id.wal().to_string(),
        };
        let name = entry.name();
        let mut letters = self.lock();
        if letters.known.contains(&name) {
            return Ok(());
        }
        letters.append(&Entry { payload: tidegate_message::properties::encode_base64(&letter.payload), ..entry })?;
        letters.known.insert(name);
        Ok(())
    }

    /// Stores what an operator does, and returns when it is durable.
    pub fn mark(&self, mark: Mark) -> io::Result<()> {
        let mut letters = self.lock();
        letters.append(&mark)?;
        letters.marked(mark);
        Ok(())
    }

    /// Goes through the messages that are stored, each with its last mark.
    pub fn each(&self, mut look: impl FnMut(Entry, Option<&Mark>)) -> io::Result<()> {
        let (path, marks) = {
            let letters = self.lock();
            (letters.path.clone(), letters.marks.clone())
        };
        let mut met = BTreeSet::new();
        read_lines(&path, |line| {
            if let Line::Entry(entry) = line {
                let name = entry.name();
                let mark = marks.get(&name);
                if met.insert(name) {
                    look(*entry, mark);
                }
            }
        })?;
        Ok(())
    }

    /// Names of the messages that are settled when they are met again, and of the control messages that are given up, as of the opening.
    pub fn names(&self, wal: WalName) -> (MessageNames, MessageNames) {
        let letters = self.lock();
        let named = |list: &[(String, String, u64)]| {
            let mut names = MessageNames::default();
            for (id, vchannel, tick) in list {
                // What is of another log is never met in this one.
                if let Ok(id) = MessageId::unmarshal(wal, id) {
                    names.insert(id, vchannel.clone(), *tick);
                }
            }
            names
        };
        (named(&letters.settled), named(&letters.skipped))
    }
}

impl Letters {
    fn marked(&mut self, mark: Mark) {
        for name in mark.names() {
            self.marks.insert(name.clone(), mark.clone());
        }
    }

    fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        // What a failure leaves of the line goes: the next try starts at the end of a whole one.
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(())
    }
}

enum Line {
    Entry(Box<Entry>),
    Mark(Mark),
}

/// Reads the whole lines of a file; returns whether the last one is whole.
fn read_lines(path: &Path, mut look: impl FnMut(Line)) -> io::Result<bool> {
    let mut ends_line = true;
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let line = line?;
        ends_line = true;
        if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
            look(Line::Entry(Box::new(entry)));
        } else if let Ok(mark) = serde_json::from_slice::<Mark>(&line) {
            look(Line::Mark(mark));
        } else {
            ends_line = false;
        }
    }
    Ok(ends_line)
}

/// What the file calls a message.
pub(super) fn name(id: &str, vchannel: &str, tick: u64) -> String {
    format!("{id} {vchannel} {tick}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(tick: u64, poison: bool) -> DeadLetter {
        DeadLetter {
            id: MessageId::RocksMq(7),
            vchannel: "p_0_1v0".into(),
            tick,
            reason: "broken".into(),
            poison,
            properties: Properties::new(),
            payload: bytes::Bytes::from_static(b"x"),
        }
    }

    fn marks(letters: &DeadLetters) -> Vec<(u64, Option<Mark>)> {
        let mut found = Vec::new();
        letters.each(|entry, mark| found.push((entry.tick, mark.cloned()))).unwrap();
        found
    }

    #[test]
    fn a_message_is_stored_once_also_across_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p_0.jsonl");
        let letters = DeadLetters::open(&path).unwrap();
        letters.store(&letter(1, false)).unwrap();
        letters.store(&letter(1, false)).unwrap();
        letters.lock().file.write_all(b"{\"id\":\"8").unwrap();
        drop(letters);
        let letters = DeadLetters::open(&path).unwrap();
        letters.store(&letter(1, false)).unwrap();
        letters.store(&letter(2, false)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|l| serde_json::from_str::<Entry>(l).is_ok()).count(), 2, "{text}");
        assert_eq!(marks(&letters), [(1, None), (2, None)]);
    }

    #[test]
    fn marks_and_poison_are_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p_0.jsonl");
        let letters = DeadLetters::open(&path).unwrap();
        letters.store(&letter(1, true)).unwrap();
        letters.store(&letter(2, false)).unwrap();
        letters.store(&letter(3, false)).unwrap();
        letters.store(&letter(4, false)).unwrap();
        let names = |tick| vec![name("7", "p_0_1v0", tick)];
        let again = Again { old_tick: 1, tick: 9, new_id: "8".into(), segment: Some(5) };
        letters.mark(Mark::Retrying { names: names(1), at_ms: 4 }).unwrap();
        letters.mark(Mark::Retried { names: names(1), messages: vec![again.clone()] }).unwrap();
        letters.mark(Mark::Retrying { names: names(2), at_ms: 5 }).unwrap();
        letters.mark(Mark::Skipped { names: names(3), at_ms: 6 }).unwrap();
        letters.mark(Mark::Retrying { names: names(4), at_ms: 7 }).unwrap();
        letters.mark(Mark::NotRetried { names: names(4), reason: "closed".into() }).unwrap();
        let before = marks(&letters);
        drop(letters);
        let letters = DeadLetters::open(&path).unwrap();
        assert_eq!(marks(&letters), before);
        assert_eq!(before[0].1, Some(Mark::Retried { names: names(1), messages: vec![again] }));
        assert_eq!(before[1].1, Some(Mark::Retrying { names: names(2), at_ms: 5 }));
        let (settled, skipped) = letters.names(WalName::RocksMq);
        let id = MessageId::RocksMq(7);
        let of = |names: &MessageNames| [1, 2, 3, 4].map(|tick| names.contains(&id, "p_0_1v0", tick));
        assert_eq!((of(&settled), of(&skipped)), ([true, true, false, false], [false, false, true, false]));
        letters.store(&letter(3, false)).unwrap();
        assert_eq!(marks(&letters).len(), 4, "a marked message is not stored again");
    }
}
