//! Which component serves which pchannel: what was chosen, what failed, and the way from one to another.

mod log;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::{Deserialize, Serialize};
use tidegate_core::pchannel::{Verdict as Became, Version};

pub use tidegate_core::versions::{Line, Step};

use self::log::SwapLog;
use super::driver::{Components, Driver, Swapped, ToldSwap};
use super::guest::Guests;
use super::{Node, NodeError};
use crate::engine::{BUILT_IN, Engine, Loaded, hex_digest};
use crate::pause;
use crate::replay::{Rehearsal, Verdict, rehearse};
use crate::selftest;

/// How long a pchannel that was handed over is watched before the next one follows: it may fail in its first turn, or recover first.
const SETTLE_MAX: Duration = Duration::from_secs(10);
const SETTLE_POLL: Duration = Duration::from_millis(5);
/// A pchannel without news runs no turn: then nothing is waited for.
const QUIET: Duration = Duration::from_millis(300);

/// The component to go on with.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// This one.
    Component(Vec<u8>),
    /// The one that serves already, anew: its memory begins small.
    Same,
    /// The one before.
    Previous,
}

/// How a swap is to be done.
#[derive(Clone, Debug, Default)]
pub struct SwapOptions {
    /// Only this pchannel.
    pub pchannel: Option<String>,
    /// Also a component that failed before, or that the rehearsal refuses; without the self-test.
    pub force: bool,
}

/// What a swap did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwapReport {
    /// Its number in the swap log.
    pub swap: u64,
    /// What the rehearsals said.
    pub rehearsals: Vec<Rehearsed>,
    /// Its lines in the swap log, but for the first and the last.
    pub steps: Vec<Line>,
}

/// A rehearsal on a pchannel's last turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The pchannel.
    pub pchannel: String,
    /// What came of it.
    pub rehearsal: Rehearsal,
}

/// What the swap log says of rehearsals.
fn in_words(rehearsed: &[Rehearsed]) -> String {
    let said = rehearsed.iter().map(|Rehearsed { pchannel, rehearsal }| match (&rehearsal.verdict, &rehearsal.report) {
        (Verdict::NotJudged(why), _) => format!("{pchannel}: not judged, {why}"),
        (Verdict::Refused(why), _) => format!("{pchannel}: refused by the rehearsal, and forced: {why}"),
        (Verdict::Passed, Some(report)) if report.is_identical() => format!("{pchannel}: {} turns, no difference", rehearsal.turns),
        (Verdict::Passed, Some(report)) => format!("{pchannel}: {} of {} turns differ", report.turns_differing, rehearsal.turns),
        (Verdict::Passed, None) => format!("{pchannel}: {} turns", rehearsal.turns),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// The components of a node.
pub(super) struct Swaps {
    engine: Arc<Engine>,
    /// Counts fuel; made when it is first asked for.
    replays: Mutex<Option<Arc<Engine>>>,
    folder: PathBuf,
    log: Arc<Mutex<SwapLog>>,
    swapping: Mutex<()>,
    told: Option<Sender<ToldSwap>>,
    writer: Option<JoinHandle<()>>,
}

impl Swaps {
    /// Opens `DIR/components`, and settles what a crash left between two versions: a swap without an end is undone.
    pub fn open(engine: Arc<Engine>, folder: &Path) -> Result<Self, NodeError> {
        let io = |e: std::io::Error| NodeError::Setup(format!("{}: {e}", folder.display()));
        let mut log = SwapLog::open(&folder.join("swaps.jsonl")).map_err(io)?;
        let built_in = hex_digest(BUILT_IN);
        store(folder, &built_in, BUILT_IN).map_err(io)?;
        for line in log.state.settle(&built_in) {
            log.append(line).map_err(io)?;
        }
        sweep(folder, &log);
        let log = Arc::new(Mutex::new(log));
        let (told, tells) = unbounded();
        let writes = log.clone();
        let writer = thread::Builder::new().name("swap log".into()).spawn(move || write_down(&tells, &writes)).map_err(io)?;
        Ok(Self {
            engine,
            replays: Mutex::default(),
            folder: folder.to_owned(),
            log,
            swapping: Mutex::new(()),
            told: Some(told),
            writer: Some(writer),
        })
    }

    fn log(&self) -> MutexGuard<'_, SwapLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a pchannel's flusher starts with. A component whose file is not what it was gives way to the built-in one, and says so.
    pub fn components(&self, pchannel: &str) -> Result<Components, NodeError> {
        let chosen = self.log().state.of(pchannel);
        let (current, on_probation) = match self.stored(&chosen.current) {
            Ok(loaded) => (loaded, chosen.on_probation),
            Err(error) => {
                let loaded = self.engine.load(BUILT_IN, Some(&self.folder))?;
                let verdict = format!("component {} cannot be used, the built-in one serves: {error}", short(&chosen.current));
                tracing::error!(pchannel, "{verdict}");
                let to = loaded.digest.clone();
                self.write(Line {
                    step: Step::Opened,
                    pchannel: pchannel.to_owned(),
                    from: chosen.current,
                    to,
                    verdict,
                    ..Line::default()
                })?;
                (loaded, false)
            }
        };
        let good = chosen.good.and_then(|digest| match self.stored(&digest) {
            Ok(loaded) => Some(loaded),
            Err(error) => {
                tracing::warn!(pchannel, "component {} is not there to go back to: {error}", short(&digest));
                None
            }
        });
        let named = |loaded: Arc<Loaded>| (Version::from(loaded.digest.as_str()), loaded as Arc<dyn Guests>);
        let told = self.told.clone().ok_or_else(|| NodeError::Setup("the node is stopping".into()))?;
        Ok(Components { current: named(current), on_probation, good: good.map(named), told })
    }

    /// Returns the last lines of the log.
    pub fn recent(&self) -> Vec<Line> {
        self.log().state.shown.clone()
    }

    /// A stored component, as replays run it.
    fn for_replay(&self, digest: &str) -> Result<Arc<Loaded>, NodeError> {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        let engine = match &*replays {
            Some(engine) => engine.clone(),
            None => replays.insert(Engine::for_replay()?).clone(),
        };
        Ok(engine.load(&self.read(digest)?, Some(&self.folder))?)
    }

    fn stored(&self, digest: &str) -> Result<Arc<Loaded>, NodeError> {
        Ok(self.engine.load(&self.read(digest)?, Some(&self.folder))?)
    }

    fn read(&self, digest: &str) -> Result<Vec<u8>, NodeError> {
        let file = self.folder.join(format!("{digest}.wasm"));
        let bytes = fs::read(&file).map_err(|e| NodeError::Setup(format!("{}: {e}", file.display())))?;
        if hex_digest(&bytes) != digest {
            return Err(NodeError::Setup(format!("{} is damaged: its digest is {}", file.display(), hex_digest(&bytes))));
        }
        Ok(bytes)
    }

    fn write(&self, line: Line) -> Result<Line, NodeError> {
        self.log().append(line).map_err(|e| NodeError::Setup(format!("the swap log cannot be written: {e}")))
    }
}

impl Drop for Swaps {
    fn drop(&mut self) {
        self.told = None;
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread that writes the swap log panicked");
        }
    }
}

/// Writes down what became of versions, in the order in which it did: a rollback must not stand before what it takes back.
fn write_down(tells: &Receiver<ToldSwap>, log: &Mutex<SwapLog>) {
    for ToldSwap { pchannel, swap, swapped, waiting } in tells {
        let line = line(swap, &pchannel, &swapped);
        let written = log.lock().unwrap_or_else(PoisonError::into_inner).append(line);
        if let Err(error) = &written {
            tracing::error!(pchannel, "the swap log cannot be written: {error}; the next open may choose the version before");
        }
        if let Some(waiting) = waiting {
            // Who asked may have given up.
            let _gone = waiting.send((swapped, written));
        }
    }
}

fn line(swap: u64, pchannel: &str, swapped: &Swapped) -> Line {
    Line {
        pause_us: swapped.pause.map(|p| p.total_us),
        pause_parts_us: swapped.pause.map(|p| [p.snapshot_us, p.start_us, p.verify_us]),
        ..Line::of(swap, pchannel, &swapped.step)
    }
}

/// The file appears whole and durable, or not at all.
fn store(folder: &Path, digest: &str, bytes: &[u8]) -> std::io::Result<()> {
    let file = folder.join(format!("{digest}.wasm"));
    if fs::read(&file).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let partial = file.with_extension("partial");
    let mut out = fs::File::create(&partial)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(partial, file)?;
    fs::File::open(folder)?.sync_all()
}

/// Removes stored components that nobody can go back to.
fn sweep(folder: &Path, log: &SwapLog) {
    let wanted = log.state.wanted();
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let digest = name.split(['-', '.']).next().unwrap_or_default();
        if digest.len() == 64 && !wanted.contains(digest) && fs::remove_file(entry.path()).is_ok() {
            tracing::debug!("{name} is not needed any more");
        }
    }
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

impl Node {
    /// Has another component serve one pchannel or all of them, one after the other; the first failure ends it. `progress` hears what is
    /// being done.
    ///
    /// # Errors
    /// The component is not fit ([`NodeError::Engine`]), was refused, or could not follow the one before; every pchannel is served as before, but
    /// for those that the error names.
    pub fn swap(&self, wanted: &Wanted, options: &SwapOptions, progress: &mut dyn FnMut(&str)) -> Result<SwapReport, NodeError> {
        let _alone = match self.swaps.swapping.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(NodeError::Swap("another swap is being carried out; wait for its end".into())),
        };
        let drivers: Vec<&Driver> = self.drivers.iter().filter(|d| options.pchannel.as_ref().is_none_or(|p| *p == d.pchannel())).collect();
        if drivers.is_empty() {
            let known: Vec<&str> = self.drivers.iter().map(Driver::pchannel).collect();
            return Err(NodeError::Invalid(format!("there is no pchannel {:?}; there are {known:?}", options.pchannel)));
        }
        let has_previous = |driver: &&Driver| self.swaps.log().state.of(driver.pchannel()).good.is_some();
        let drivers = match wanted {
            // Of all pchannels, those go back that can.
            Wanted::Previous if drivers.iter().any(&has_previous) => drivers.into_iter().filter(has_previous).collect(),
            _ => drivers,
        };
        let swap = self.swaps.log().state.last_swap + 1;
        let targets =
            drivers.into_iter().map(|driver| Ok((driver, self.target(wanted, driver)?))).collect::<Result<Vec<_>, NodeError>>()?;
        for (_, to) in targets.iter().filter(|_| !options.force) {
            if let Some(why) = self.swaps.log().state.failed.get(&to.digest) {
                return Err(NodeError::Swap(format!("component {} failed before: {why}; --force tries it again", short(&to.digest))));
            }
        }
        progress("checks");
        let to = targets.first().map(|(_, to)| to.digest.clone()).unwrap_or_default();
        let prepared = self.prepare(&targets, options, progress);
        let step = if prepared.is_ok() { Step::Prepared } else { Step::Refused };
        let verdict = prepared.as_ref().map_or_else(ToString::to_string, |rehearsed| in_words(rehearsed));
        self.swaps.write(Line { swap, step, to: to.clone(), verdict, ..Line::default() })?;
        let rehearsals = prepared?;
        pause::at("prepared");
        self.swaps.write(Line { swap, step: Step::Begun, to: to.clone(), ..Line::default() })?;
        pause::at("begun");
        let mut report = SwapReport { swap, rehearsals, steps: Vec::new() };
        let mut failure = None;
        for (nth, (driver, to)) in targets.iter().enumerate() {
            progress(driver.pchannel());
            if let Err(why) = self.hand_over(swap, driver, to, &mut report) {
                let rest = targets.len() - nth - 1;
                let rest = if rest > 0 { format!("; {rest} more pchannels were not tried") } else { String::new() };
                failure = Some(format!("pchannel {}: {why}{rest}", driver.pchannel()));
                break;
            }
        }
        let verdict = failure.clone().unwrap_or_default();
        self.swaps.write(Line { swap, step: Step::Ended, to, verdict, ..Line::default() })?;
        pause::at("ended");
        failure.map_or(Ok(report), |why| Err(NodeError::Swap(why)))
    }

    /// The component that a pchannel is to be served by.
    fn target(&self, wanted: &Wanted, driver: &Driver) -> Result<Arc<Loaded>, NodeError> {
        let chosen = self.swaps.log().state.of(driver.pchannel());
        match wanted {
            Wanted::Component(bytes) => {
                let loaded = self.swaps.engine.load(bytes, Some(&self.swaps.folder))?;
                let io = |e: std::io::Error| NodeError::Setup(format!("{}: {e}", self.swaps.folder.display()));
                store(&self.swaps.folder, &loaded.digest, bytes).map_err(io)?;
                pause::at("stored");
                Ok(loaded)
            }
            Wanted::Same => self.swaps.stored(&chosen.current),
            Wanted::Previous => {
                let good = chosen.good.ok_or_else(|| {
                    let why = format!("pchannel {} has no version before {}", driver.pchannel(), short(&chosen.current));
                    NodeError::Invalid(format!("{why}; `tidegate swap --component FILE` takes any"))
                })?;
                self.swaps.stored(&good)
            }
        }
    }

    /// What can be known of a component before it serves: it goes through golden scenarios, and is rehearsed on the last turns of each pchannel.
    fn prepare(
        &self,
        targets: &[(&Driver, Arc<Loaded>)],
        options: &SwapOptions,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Vec<Rehearsed>, NodeError> {
        if let Some((_, to)) = targets.first().filter(|_| !options.force) {
            progress("self-test");
            let refused = |e| NodeError::Swap(format!("component {} is refused by its self-test: {e}", short(&to.digest)));
            selftest::run(to).map_err(refused)?;
            pause::at("self-tested");
        }
        let mut rehearsed = Vec::new();
        for (driver, to) in targets {
            let current = self.swaps.log().state.of(driver.pchannel()).current;
            let Some(journal) = driver.journal().filter(|_| current != to.digest) else { continue };
            progress(&format!("rehearses on {} turns of {}", journal.turns.len(), driver.pchannel()));
            let (current, candidate) = (self.swaps.for_replay(&current)?, self.swaps.for_replay(&to.digest)?);
            let config = self.settings.guest(driver.pchannel(), driver.term());
            let rehearsal = rehearse(&current, &candidate, &config, &journal);
            if let (Verdict::Refused(why), false) = (&rehearsal.verdict, options.force) {
                let text = format!("component {} is refused by its rehearsal on {}: {why}", short(&to.digest), driver.pchannel());
                return Err(NodeError::Swap(text));
            }
            rehearsed.push(Rehearsed { pchannel: driver.pchannel().to_owned(), rehearsal });
        }
        Ok(rehearsed)
    }

    fn hand_over(&self, swap: u64, driver: &Driver, to: &Arc<Loaded>, report: &mut SwapReport) -> Result<(), String> {
        let turns = driver.status().turns;
        let (swapped, written) = driver.swap(swap, Version::from(to.digest.as_str()), to.clone())?;
        let line = written.map_err(|e| {
            let now = short(&driver.status().component).to_owned();
            format!("component {now} serves, and the swap log cannot be written: {e}. Make room and swap again, or a restart chooses the one before")
        })?;
        report.steps.push(line);
        pause::at("written");
        match &swapped.step.verdict {
            Became::Stayed(why) | Became::NotNow(why) => return Err(format!("component {} stays: {why}", short(&swapped.step.from))),
            _ => {}
        }
        let began = Instant::now();
        loop {
            let status = driver.status();
            if status.component != to.digest {
                return Err(format!("component {} was rolled back; `tidegate status` says why", short(&to.digest)));
            }
            let quiet = status.turns > turns || began.elapsed() > QUIET;
            if status.state == "working" && quiet {
                return Ok(());
            }
            if began.elapsed() > SETTLE_MAX {
                let reason = status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                let text =
                    format!("component {} serves and is {:?} after {} s{reason}", short(&to.digest), status.state, SETTLE_MAX.as_secs());
                return Err(format!("{text}. `tidegate status` says how it goes on"));
            }
            thread::sleep(SETTLE_POLL);
        }
    }
}
