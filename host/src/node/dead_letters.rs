//! Messages that cannot be flushed: one JSON object a line, fsynced before anything later is done, each message once.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidegate_core::pchannel::DeadLetter;
use tidegate_message::Properties;

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// Id in the log, channel and tick: together they name a message.
    id: String,
    vchannel: String,
    tick: u64,
    reason: String,
    properties: Properties,
    /// Base64, standard alphabet, padded.
    payload: String,
}

/// The dead-letter file of one pchannel.
pub(super) struct DeadLetters {
    file: File,
    /// Bytes of whole lines.
    len: u64,
    known: BTreeSet<String>,
}

impl DeadLetters {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut known = BTreeSet::new();
        let mut ends_line = true;
        for line in BufReader::new(&file).split(b'\n') {
            let line = line?;
            // A line that a crash cut short is written again when its message is met again.
            match serde_json::from_slice::<Entry>(&line) {
                Ok(entry) => {
                    known.insert(name(&entry.id, &entry.vchannel, entry.tick));
                    ends_line = true;
                }
                Err(_) => ends_line = false,
            }
        }
        let mut letters = Self { file, len: 0, known };
        if !ends_line {
            letters.file.write_all(b"\n")?;
        }
        letters.len = letters.file.metadata()?.len();
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(letters)
    }

    /// A file that cannot be written.
    #[cfg(test)]
    pub fn unwritable(path: &Path) -> Self {
        std::fs::write(path, "").unwrap();
        Self { file: File::open(path).unwrap(), len: 0, known: BTreeSet::new() }
    }

    /// Stores a message, unless it is stored already, and returns when it is durable.
    pub fn store(&mut self, letter: &DeadLetter) -> io::Result<()> {
        let name = name(&letter.id.marshal(), &letter.vchannel, letter.tick);
        if self.known.contains(&name) {
            return Ok(());
        }
        let entry = Entry {
            id: letter.id.marshal(),
            vchannel: letter.vchannel.clone(),
            tick: letter.tick,
            reason: letter.reason.clone(),
            properties: letter.properties.clone(),
            payload: tidegate_message::properties::encode_base64(&letter.payload),
        };
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        // What a failure leaves of the line goes: the next try starts at the end of a whole one.
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += line.len() as u64;
        self.known.insert(name);
        Ok(())
    }
}

fn name(id: &str, vchannel: &str, tick: u64) -> String {
    format!("{id} {vchannel} {tick}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_stored_once_also_across_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p_0.jsonl");
        let letter = |tick| DeadLetter {
            id: tidegate_message::MessageId::RocksMq(7),
            vchannel: "p_0_1v0".into(),
            tick,
            reason: "broken".into(),
            properties: Properties::new(),
            payload: bytes::Bytes::from_static(b"x"),
        };
        let mut letters = DeadLetters::open(&path).unwrap();
        letters.store(&letter(1)).unwrap();
        letters.store(&letter(1)).unwrap();
        letters.file.write_all(b"{\"id\":\"8").unwrap();
        drop(letters);
        let mut letters = DeadLetters::open(&path).unwrap();
        letters.store(&letter(1)).unwrap();
        letters.store(&letter(2)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|l| serde_json::from_str::<Entry>(l).is_ok()).count(), 2, "{text}");
    }
}
