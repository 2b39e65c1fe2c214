//! Components that misbehave, all in one file: a marker in it says how, and tests write it into the file's bytes. So one build makes many
//! components, each with a digest of its own.
//!
//! | marker | what it does |
//! |---|---|
//! | dots | nothing wrong |
//! | `traps N` | panics in its N-th turn |
//! | `loops N` | does not end its N-th turn |
//! | `hoards N` | allocates without an end in its N-th turn |
//! | `floods N` | logs without measure from its N-th turn on |
//! | `overtakes N` | reports checkpoints at the last message that it met, from its N-th turn on |
//! | `filters N` | calls every insert that it meets a duplicate, from its N-th turn on |
//! | `miscounts` | has a row more in its accounts than it was given |
//! | `refuses` | takes no snapshot |
//! | `snapshot traps`, `snapshot loops` | panics in its snapshot, does not end it |
//! | `snapshot swells` | gives a snapshot beyond every limit |
//! | `snapshot rots` | gives a snapshot with a flipped bit |
//! | `snapshot ages` | gives the snapshot that it was started from |

#[cfg(target_family = "wasm")]
mod exports;
mod lies;

use std::ptr;

use tidegate_flusher::Flusher;
use tidegate_flusher::contract::{ChannelIndex, Completion, Config, Holding, Host, Level, Logic, Report};

use lies::Lying;

/// What tests look for in the file.
const PREFIX: &[u8] = b"tidegate-bad: ";
/// The marker.
static MARKER: [u8; 32] = *b"tidegate-bad: ..................";
/// Bytes of a snapshot that no host takes.
const SWOLLEN: usize = 65 << 20;
/// Events that a flood has a turn, and bytes of each.
const FLOOD: (usize, usize) = (10_000, 8 << 10);

/// A flusher that misbehaves as its marker says.
pub struct Bad {
    flusher: Flusher,
    /// Turns of this instance so far.
    turns: u64,
    how: String,
    /// The turn at which it begins.
    from: u64,
    started_from: Vec<u8>,
}

impl Bad {
    fn does(&self, how: &str) -> bool {
        self.how == how && self.turns >= self.from
    }
}

/// Returns the marker's words and number. The marker is read as bytes that may be anything: what the compiler saw is not what is there.
fn marker() -> (String, u64) {
    // SAFETY: the pointer is that of a static of this very type.
    let marker = unsafe { ptr::read_volatile(&raw const MARKER) };
    let words = String::from_utf8_lossy(&marker[PREFIX.len()..]).trim_end_matches('.').to_owned();
    match words.rsplit_once(' ').and_then(|(how, from)| Some((how.to_owned(), from.parse().ok()?))) {
        Some(of) => of,
        None => (words, 0),
    }
}

impl Logic for Bad {
    fn start(config: Config, resume: Option<&[u8]>) -> Result<Self, String> {
        let (how, from) = marker();
        if how == "refuses" && resume.is_some() {
            return Err("this version goes on from nothing".to_owned());
        }
        let flusher = <Flusher as Logic>::start(config, resume)?;
        Ok(Self { flusher, turns: 0, how, from, started_from: resume.unwrap_or_default().to_vec() })
    }

    fn turn(&mut self, host: &mut impl Host, completions: &[Completion], pressure: u64) -> Report {
        self.turns += 1;
        if self.does("traps") {
            panic!("turn {} is one too many", self.turns);
        }
        while self.does("loops") {
            std::hint::black_box(&self.turns);
        }
        if self.does("hoards") {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1_u8; 1 << 20]);
                std::hint::black_box(&hoard);
            }
        }
        if self.does("floods") {
            let (events, bytes) = FLOOD;
            (0..events).for_each(|n| host.log(Level::Warn, &"x".repeat(bytes), &[("n", n.to_string())]));
        }
        let mut host = Lying { host, overtakes: self.does("overtakes"), filters: self.does("filters"), last: 0 };
        self.flusher.turn(&mut host, completions, pressure)
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut snapshot = self.flusher.snapshot();
        match self.how.as_str() {
            "snapshot traps" => panic!("nobody gets this state"),
            "snapshot loops" => loop {
                std::hint::black_box(&snapshot);
            },
            "snapshot swells" => vec![0; SWOLLEN],
            "snapshot rots" => {
                let middle = snapshot.len() / 2;
                snapshot[middle] ^= 1;
                snapshot
            }
            "snapshot ages" => self.started_from.clone(),
            _ => snapshot,
        }
    }

    fn accounts(&self) -> Vec<Holding> {
        let mut held = self.flusher.accounts();
        if let Some(first) = held.first_mut().filter(|_| self.does("miscounts")) {
            first.rows += 1;
        }
        held
    }

    fn explain(&self, channel: ChannelIndex) -> String {
        self.flusher.explain(channel)
    }
}
