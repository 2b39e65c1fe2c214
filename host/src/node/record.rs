//! A recording of a running pchannel: its thread hands turns over and never waits; whoever asked writes the file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};
use tidegate_core::journal::{Replay, TURNS_MAX, Turn};
use tidegate_core::pchannel::Version;

use super::{Driver, Node, NodeError};
use crate::engine::GuestConfig;
use crate::trace::{Header, TraceError, TraceWriter};

/// Time between two looks at whether anybody waits for the recording.
const LOOK: Duration = Duration::from_millis(200);

/// What is to be recorded, and for how long.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The pchannel; needed where there is more than one.
    pub pchannel: Option<String>,
    /// How long.
    pub time: Duration,
    /// Turns of the trace at most, those from before included.
    pub turns: Option<u64>,
    /// Bytes of the file at most.
    pub bytes_max: u64,
    /// The file; one in the node's `traces/` unless it is named.
    pub out: Option<PathBuf>,
}

/// A trace that is whole and durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The file.
    pub file: PathBuf,
    /// Turns in it.
    pub turns: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it ended.
    pub ended: String,
}

/// A recording, on the side of who writes it. The pchannel's thread forgets it once this is gone.
#[derive(Debug)]
pub(super) struct Recording {
    pub version: Version,
    pub config: GuestConfig,
    pub before: Replay,
    turns: Receiver<Turn>,
    why: Arc<OnceLock<String>>,
}

/// A recording, on the side of the pchannel's thread.
#[derive(Debug)]
pub(super) struct Tap {
    turns: Sender<Turn>,
    why: Weak<OnceLock<String>>,
}

impl Recording {
    /// Begins one; as many turns may wait for the file as the ring holds.
    pub fn begin(version: Version, config: GuestConfig, before: Replay) -> (Tap, Self) {
        let (give, turns) = bounded(TURNS_MAX);
        let why = Arc::new(OnceLock::new());
        (Tap { turns: give, why: Arc::downgrade(&why) }, Self { version, config, before, turns, why })
    }

    /// Returns the next turn, if one comes in time.
    ///
    /// # Errors
    /// Why none come any more.
    fn next(&self, within: Duration) -> Result<Option<Turn>, String> {
        match self.turns.recv_timeout(within) {
            Ok(turn) => Ok(Some(turn)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.why.get().cloned().unwrap_or_else(|| "the pchannel's thread ended".to_owned())),
        }
    }
}

impl Tap {
    /// Whether somebody writes it.
    pub fn is_open(&self) -> bool {
        self.why.strong_count() > 0
    }

    /// Hands a turn over; `false` when the recording is over with that.
    pub fn give(&self, turn: Turn) -> bool {
        match self.turns.try_send(turn) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.end(format!("the file could not keep up: {TURNS_MAX} turns waited for it"));
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// Says why no more turns come.
    pub fn end(&self, why: String) {
        if let Some(place) = self.why.upgrade() {
            // The first reason stands.
            let _set_before = place.set(why);
        }
    }
}

impl Node {
    /// Records the turns of a pchannel: those since its last snapshot, then each that it runs, until a bound, an error of `progress`, or
    /// the end of the instance. `progress` takes the number of turns, several times a second.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] before anything is recorded, [`NodeError::Trace`] where the file cannot be written.
    pub fn record(&self, options: &RecordOptions, progress: &mut dyn FnMut(u64) -> anyhow::Result<()>) -> Result<Recorded, NodeError> {
        let driver = self.recorded(options)?;
        let began = Instant::now();
        let recording = driver.record().map_err(|why| NodeError::Trace(format!("pchannel {}: {why}", driver.pchannel())))?;
        let file = options.out.clone().unwrap_or_else(|| free_name(&self.dir().join("traces"), driver.pchannel(), &recording.version));
        let header = Header {
            pchannel: driver.pchannel().to_owned(),
            term: driver.term(),
            config: recording.config.clone(),
            component: recording.version.to_string(),
            started_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or_default()),
        };
        if file.is_dir() {
            return Err(NodeError::Invalid(format!("{} is a directory; name a file", file.display())));
        }
        let base = recording.before.base.as_deref().map(Vec::as_slice);
        let mut writer = TraceWriter::create(&file, &header, base, options.bytes_max).map_err(|error| match error {
            TraceError::Io(_) => NodeError::Trace(format!("{}: {error}", file.display())),
            _ => NodeError::Invalid(format!("{}: {error}", file.display())),
        })?;
        let unwritable = |error: std::io::Error| NodeError::Trace(format!("{}: {error}", file.display()));
        let ended = fill(&mut writer, &recording, options, began, progress).map_err(unwritable)?;
        let finished = writer.finish(&ended).map_err(unwritable)?;
        Ok(Recorded { turns: finished.turns, bytes: finished.bytes, ended, file })
    }

    fn recorded(&self, options: &RecordOptions) -> Result<&Driver, NodeError> {
        let names = || self.drivers.iter().map(Driver::pchannel).collect::<Vec<_>>().join(", ");
        match (&options.pchannel, &self.drivers[..]) {
            (None, [only]) => Ok(only),
            (None, _) => Err(NodeError::Invalid(format!("name the pchannel, --pchannel is one of {}", names()))),
            (Some(name), drivers) => drivers
                .iter()
                .find(|d| d.pchannel() == name)
                .ok_or_else(|| NodeError::Invalid(format!("there is no pchannel {name:?}, there are {}", names()))),
        }
    }
}

/// Writes turns until one of the ends; returns which.
fn fill(
    writer: &mut TraceWriter,
    recording: &Recording,
    options: &RecordOptions,
    began: Instant,
    progress: &mut dyn FnMut(u64) -> anyhow::Result<()>,
) -> std::io::Result<String> {
    let mut before = recording.before.turns.iter();
    let mut looked: Option<Instant> = None;
    loop {
        if options.turns.is_some_and(|max| writer.turns() >= max) {
            return Ok(format!("{} turns are recorded", writer.turns()));
        }
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            if let Err(error) = progress(writer.turns()) {
                return Ok(recording.why.get().cloned().unwrap_or_else(|| format!("nobody waits for it any more: {error}")));
            }
        }
        let turn = match before.next() {
            Some(turn) => Some(turn.clone()),
            None => {
                let left = options.time.saturating_sub(began.elapsed());
                if left.is_zero() {
                    return Ok(format!("{} s are over", options.time.as_secs()));
                }
                match recording.next(left.min(LOOK)) {
                    Ok(turn) => turn,
                    Err(why) => return Ok(why),
                }
            }
        };
        if let Some(turn) = turn
            && !writer.turn(&turn)?
        {
            return Ok(format!("{} bytes are the bound, and the next turn would pass it", options.bytes_max));
        }
    }
}

/// The first name that no trace has, finished or not.
fn free_name(folder: &Path, pchannel: &str, version: &Version) -> PathBuf {
    let digest = version.get(..8).unwrap_or(version);
    let mut nth = 1_u64;
    loop {
        let file = folder.join(format!("{pchannel}-{digest}-{nth}.trace"));
        if !file.exists() && !file.with_extension("trace.partial").exists() {
            return file;
        }
        nth += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> Turn {
        Turn { input: Arc::default(), output: Arc::default() }
    }

    fn recording() -> (Tap, Recording) {
        let config = crate::node::Settings::default().guest("p_0", 1);
        Recording::begin(Version::from("ab"), config, Replay { base: None, turns: Vec::new() })
    }

    #[test]
    fn a_recording_that_cannot_keep_up_ends_with_what_it_has_and_the_flusher_does_not_wait() {
        let (tap, recording) = recording();
        assert_eq!((0..).take_while(|_| tap.give(turn())).count(), TURNS_MAX);
        drop(tap);
        let taken = (0..).map_while(|_| recording.next(Duration::ZERO).ok().flatten()).count();
        assert_eq!(taken, TURNS_MAX);
        assert!(recording.next(Duration::ZERO).unwrap_err().contains("could not keep up"));
    }

    #[test]
    fn a_recording_that_nobody_writes_any_more_is_over() {
        let (tap, recording) = recording();
        assert!(tap.is_open() && tap.give(turn()));
        drop(recording);
        assert!(!tap.is_open() && !tap.give(turn()));
    }

    #[test]
    fn a_name_is_not_given_twice_not_even_to_an_unfinished_recording() {
        let dir = tempfile::tempdir().unwrap();
        let name = || free_name(dir.path(), "p_0", &Version::from("0123456789")).file_name().unwrap().to_owned();
        assert_eq!(name(), "p_0-01234567-1.trace");
        std::fs::write(dir.path().join(name()), "").unwrap();
        assert_eq!(name(), "p_0-01234567-2.trace");
        std::fs::write(dir.path().join("p_0-01234567-2.trace.partial"), "").unwrap();
        assert_eq!(name(), "p_0-01234567-3.trace");
    }
}
