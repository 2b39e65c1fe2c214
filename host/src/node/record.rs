//! Turns of a pchannel that is served, written to a trace.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::RecvTimeoutError;
use serde::{Deserialize, Serialize};

use super::driver::{Driver, Recording};
use super::{Node, NodeError};
use crate::trace::{Header, TraceWriter};

/// How often whoever waits for a recording hears of it.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// When a recording ends, and where it goes.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// The pchannel; the only one, if there is one.
    pub pchannel: Option<String>,
    /// The file; one in `DIR/traces`, if none is named.
    pub out: Option<PathBuf>,
    /// How long turns are taken.
    pub time: Duration,
    /// At most so many turns.
    pub turns: Option<u64>,
    /// At most so many bytes.
    pub bytes_max: u64,
}

/// A recording that ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// The trace.
    pub file: PathBuf,
    /// Turns in it.
    pub turns: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Why it ended.
    pub ended: String,
}

impl Node {
    /// Writes the turns that a pchannel's ring holds, and those that follow, to a trace. The flusher does not wait for it. `progress` hears how
    /// many there are; its error ends the recording.
    ///
    /// # Errors
    /// There is no such pchannel, no instance whose turns are known from its beginning, or the file cannot be written.
    pub fn record(&self, options: &RecordOptions, progress: &mut dyn FnMut(u64) -> anyhow::Result<()>) -> Result<Recorded, NodeError> {
        let driver = self.recorded_driver(options.pchannel.as_deref())?;
        let Recording { beginning, turns, why } = driver.record().ok_or_else(|| {
            let text = "has no instance whose turns are known from its beginning, or is being recorded already";
            NodeError::Setup(format!("pchannel {} {text}; try again in a moment", driver.pchannel()))
        })?;
        let (component, pchannel) = (beginning.component.to_string(), driver.pchannel().to_owned());
        let file = match &options.out {
            Some(file) => file.clone(),
            None => free_name(&self.dir().join("traces"), &format!("{pchannel}-{}", component.get(..8).unwrap_or_default())),
        };
        let failed = |e: &dyn std::fmt::Display| NodeError::Setup(format!("{}: {e}", file.display()));
        let started_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or_default());
        let header = Header { pchannel, term: driver.term(), config: beginning.config, component, started_ms };
        let base = beginning.journal.base.as_deref().map(Vec::as_slice);
        let mut trace = TraceWriter::create(&file, &header, base, options.bytes_max).map_err(|e| failed(&e))?;
        let (began, mut told) = (Instant::now(), Instant::now());
        let mut waiting = beginning.journal.turns.into_iter();
        let ended = loop {
            let left = options.time.saturating_sub(began.elapsed());
            if options.turns.is_some_and(|most| trace.turns() >= most) {
                break "it has the turns that were asked for".to_owned();
            }
            let turn = match waiting.next() {
                Some(turn) => turn,
                None if left.is_zero() => break "its time is over".to_owned(),
                None => match turns.recv_timeout(left.min(TOLD_EVERY)) {
                    Ok(turn) => turn,
                    Err(RecvTimeoutError::Timeout) => {
                        if progress(trace.turns()).is_err() {
                            break "nobody waits for it any more".to_owned();
                        }
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => {
                        break why.get().cloned().unwrap_or_else(|| "the node is stopping".to_owned());
                    }
                },
            };
            if !trace.turn(&turn).map_err(|e| failed(&e))? {
                break format!("it has as many bytes as it may: {}", options.bytes_max);
            }
            if told.elapsed() >= TOLD_EVERY {
                told = Instant::now();
                if progress(trace.turns()).is_err() {
                    break "nobody waits for it any more".to_owned();
                }
            }
        };
        let finished = trace.finish(&ended).map_err(|e| failed(&e))?;
        Ok(Recorded { file, turns: finished.turns, bytes: finished.bytes, ended })
    }

    fn recorded_driver(&self, pchannel: Option<&str>) -> Result<&Driver, NodeError> {
        let known = || self.drivers.iter().map(Driver::pchannel).collect::<Vec<_>>();
        match (pchannel, self.drivers.as_slice()) {
            (None, [driver]) => Ok(driver),
            (None, _) => Err(NodeError::Invalid(format!("name a pchannel with --pchannel; there are {:?}", known()))),
            (Some(name), drivers) => {
                let found = drivers.iter().find(|d| d.pchannel() == name);
                found.ok_or_else(|| NodeError::Invalid(format!("there is no pchannel {name:?}; there are {:?}", known())))
            }
        }
    }
}

/// The first name of its kind that no file has.
fn free_name(folder: &Path, stem: &str) -> PathBuf {
    let names = (1_u32..).map(|n| folder.join(format!("{stem}-{n}.trace")));
    let taken = |name: &PathBuf| name.exists();
    names.into_iter().find(|name| !taken(name)).unwrap_or_else(|| folder.join(format!("{stem}.trace")))
}
