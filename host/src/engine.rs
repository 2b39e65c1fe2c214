//! Components: judged by what they say of themselves, compiled, instantiated; one store an instance, since a trap ends a whole store.

mod contract;
mod inspect;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidegate_core::pchannel::Told;
use tidegate_core::turn::{ChannelIndex, Fault, Holding, TurnInput, TurnOutput};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Store, Trap, UpdateDeadline};

pub use self::contract::Contract;
pub use self::inspect::{Inspected, Interface, inspect};

use crate::border::served::{self, Linked, Logic};
use crate::border::{self, HostState, SNAPSHOT_BYTES_MAX};
use crate::stop::Stop;

/// The component that this binary was built with.
pub const BUILT_IN: &[u8] = include_bytes!(env!("TIDEGATE_COMPONENT"));

/// Interfaces that a component may import: ours, and what Rust's std drags in, which is linked to traps.
pub const ALLOWED_IMPORTS: [&str; 3] = ["tidegate:flusher/", "wasi:io/", "wasi:cli/"];

/// Milliseconds between two epochs: the grain of deadlines.
const EPOCH_MS: u64 = 50;
/// Deadline of a turn, a snapshot, and what an instance tells, in milliseconds: a pchannel stands still meanwhile. They take well under a
/// tenth of a second with 100,000 channels; seconds mean that they do not end.
const TURN_MS_MAX: u64 = 5_000;
/// Deadline of a start or a restore, in milliseconds: it may decode a large snapshot.
const START_MS_MAX: u64 = 30_000;
/// Fuel that stands for a millisecond of a deadline where none of them are counted: about an instruction each, of which a core does some
/// hundred thousand a millisecond.
const FUEL_PER_MS: u64 = 500_000;
/// Bytes of the SHA-256 that an artifact begins with.
const CHECKSUM_BYTES: usize = 32;
/// Bytes of a component's stack.
const STACK_BYTES: usize = 1 << 20;

/// Why a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file is not a component.
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It is WebAssembly, but without interfaces.
    #[error("a core module, not a component: build it for wasm32-wasip2, or make a component of it with `wasm-tools component new`")]
    CoreModule,
    /// It wants what no flusher gets.
    #[error("imports {0}, which no flusher gets ({ALLOWED_IMPORTS:?} are all there is): build it without what needs that")]
    ForeignImport(String),
    /// It is made for another version of the contract.
    #[error(
        "made for version {version} of the contract tidegate:flusher; this host serves {served}: build it against one of these, or update the host"
    )]
    Unserved {
        /// The version.
        version: String,
        /// Those that are served.
        served: String,
    },
    /// It wants from the contract what the contract does not have.
    #[error("imports {what}, which version {contract} of the contract does not have: build it against wit/{contract}")]
    UnknownImport {
        /// The interface or function.
        what: String,
        /// The version that it is made for.
        contract: Contract,
    },
    /// It does not give what the contract asks for.
    #[error("does not export {missing}, which the contract tidegate:flusher asks for (version {contract})")]
    MissingExport {
        /// The interface or function.
        missing: String,
        /// The version that it is made for, or those that are served.
        contract: String,
    },
    /// Names fit, types do not.
    #[error("does not fit version {contract} of the contract tidegate:flusher: {problem}; build it against wit/{contract}")]
    Contract {
        /// The version that it is made for.
        contract: Contract,
        /// What does not fit.
        problem: String,
    },
    /// wasmtime could not be set up.
    #[error("wasmtime: {0}")]
    Setup(String),
}

/// The engine that all components of a process share.
pub struct Engine {
    engine: wasmtime::Engine,
    deadlines: Deadlines,
}

/// How the time of a call is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadlines {
    /// By the clock.
    Epochs,
    /// By what it does: the same on any machine.
    Fuel,
}

/// A component that passed the checks.
pub struct Loaded {
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// The version of the contract that it is made for.
    pub contract: Contract,
    linked: Box<dyn Linked>,
    engine: wasmtime::Engine,
    deadlines: Deadlines,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "component {}", self.digest)
    }
}

/// What a component is started with, but for the pchannel and its term.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Name of the pchannel.
    pub pchannel: String,
    /// Its term.
    pub term: i64,
    /// Bytes at which a segment's rows are synced.
    pub insert_bytes_max: u64,
    /// Bytes at which a partition's deletes are synced.
    pub delete_bytes_max: u64,
    /// Event time that a batch spans at most, in milliseconds.
    pub sync_period_ms: u64,
    /// Event time between two reports of a channel, in milliseconds.
    pub report_period_ms: u64,
    /// Reports a turn.
    pub reports_max: u32,
    /// Event time within which idle ticks are passed over, in milliseconds.
    pub idle_tick_ms: u64,
    /// Messages a page.
    pub page_max: u32,
}

impl Engine {
    /// Sets wasmtime up and starts the thread that counts epochs.
    ///
    /// # Errors
    /// [`EngineError::Setup`] when wasmtime does not support this machine.
    pub fn new() -> Result<Arc<Self>, EngineError> {
        let mut config = Config::new();
        config.concurrency_support(false).epoch_interruption(true).max_wasm_stack(STACK_BYTES);
        let engine = wasmtime::Engine::new(&config).map_err(|e| EngineError::Setup(format!("{e:#}")))?;
        let weak = engine.weak();
        let tick = move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(Duration::from_millis(EPOCH_MS));
            }
        };
        thread::Builder::new().name("epochs".into()).spawn(tick).map_err(|e| EngineError::Setup(e.to_string()))?;
        Ok(Arc::new(Self { engine, deadlines: Deadlines::Epochs }))
    }

    /// Sets wasmtime up for replays: a call's time is counted in fuel, so that a replay ends the same on any machine.
    ///
    /// # Errors
    /// [`EngineError::Setup`] when wasmtime does not support this machine.
    pub fn for_replay() -> Result<Arc<Self>, EngineError> {
        let mut config = Config::new();
        config.concurrency_support(false).consume_fuel(true).max_wasm_stack(STACK_BYTES);
        let engine = wasmtime::Engine::new(&config).map_err(|e| EngineError::Setup(format!("{e:#}")))?;
        Ok(Arc::new(Self { engine, deadlines: Deadlines::Fuel }))
    }

    /// Judges a component by what it says of itself, then compiles it, or takes what an earlier load compiled from the folder of artifacts.
    ///
    /// # Errors
    /// Says what is wrong with it. That the folder cannot be used is no error: it only costs the time to compile.
    pub fn load(&self, bytes: &[u8], artifacts: Option<&Path>) -> Result<Arc<Loaded>, EngineError> {
        let inspected = inspect(bytes)?;
        let contract = inspected.judge()?;
        let component = self.compiled(bytes, artifacts)?;
        let linker: Linker<HostState> = Linker::new(&self.engine);
        let linked = match contract {
            Contract::V0_1 => served::link_0_1(linker, &component),
            Contract::V0_2 => served::link_0_2(linker, &component),
        };
        let misfit = |e: wasmtime::Error| EngineError::Contract { contract, problem: format!("{e:#}") };
        let linked = linked.map_err(misfit)?;
        let (size, engine, deadlines) = (bytes.len(), self.engine.clone(), self.deadlines);
        let loaded = Loaded { digest: inspected.digest, size, contract, linked, engine, deadlines };
        // Only an instance says whether the types of what is exported fit.
        loaded.linked.instantiate(&mut loaded.store("", &Stop::default())).map_err(misfit)?;
        Ok(Arc::new(loaded))
    }

    /// An artifact is named by the digest of its component and by what it was compiled for.
    fn compiled(&self, bytes: &[u8], artifacts: Option<&Path>) -> Result<Component, EngineError> {
        let broken = |e: wasmtime::Error| EngineError::NotAComponent(format!("{e:#}"));
        let Some(folder) = artifacts else { return Component::from_binary(&self.engine, bytes).map_err(broken) };
        let mut made_for = DefaultHasher::new();
        self.engine.precompile_compatibility_hash().hash(&mut made_for);
        let file = folder.join(format!("{}-{:016x}", hex_digest(bytes), made_for.finish()));
        if let Some(component) = self.read_artifact(&file) {
            return Ok(component);
        }
        let compiled = self.engine.precompile_component(bytes).map_err(broken)?;
        if let Err(error) = write_artifact(&file, &compiled) {
            tracing::warn!("{}: {error}; the component is compiled again next time", file.display());
        }
        // SAFETY: the bytes are what this engine has just compiled.
        unsafe { Component::deserialize(&self.engine, &compiled) }.map_err(broken)
    }

    /// Reads an artifact; `None` if there is none, or it is not what was written.
    fn read_artifact(&self, file: &Path) -> Option<Component> {
        let stored = fs::read(file).ok()?;
        let (checksum, compiled) = stored.split_at_checked(CHECKSUM_BYTES)?;
        if checksum != Sha256::digest(compiled).as_slice() {
            tracing::warn!("{} is damaged; the component is compiled again", file.display());
            return None;
        }
        // SAFETY: the checksum says that these are the bytes that `write_artifact` stored, which an engine compiled. A folder in which
        // others write checksums holds a log and segment files that they can change as well.
        unsafe { Component::deserialize(&self.engine, compiled) }.ok()
    }
}

/// The file appears whole or not at all.
fn write_artifact(file: &Path, compiled: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension(std::process::id().to_string());
    fs::write(&partial, [&Sha256::digest(compiled), compiled].concat())?;
    fs::rename(partial, file)
}

/// SHA-256 in hexadecimal.
pub(crate) fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// One running instance.
pub struct Instance {
    store: Store<HostState>,
    logic: Box<dyn Logic>,
}

impl Loaded {
    /// Makes an instance and starts it, from nothing or from a snapshot.
    ///
    /// # Errors
    /// The component traps, misses its deadline, or refuses the snapshot.
    pub fn start(&self, config: &GuestConfig, resume: Option<&[u8]>) -> Result<Instance, Fault> {
        self.start_until(config, resume, &Stop::default())
    }

    /// Makes what an instance lives in, with the time that a start may take.
    fn store(&self, pchannel: &str, stop: &Stop) -> Store<HostState> {
        let mut store = Store::new(&self.engine, HostState::new(pchannel.to_owned(), stop.clone()));
        store.data_mut().counts_fuel = self.deadlines == Deadlines::Fuel;
        store.limiter(|state| state);
        if self.deadlines == Deadlines::Epochs {
            watch(&mut store);
        }
        give(&mut store, START_MS_MAX);
        store
    }

    /// As [`Loaded::start`]; a stop ends the instance's calls, this one as well, within two epochs.
    pub(crate) fn start_until(&self, config: &GuestConfig, resume: Option<&[u8]>, stop: &Stop) -> Result<Instance, Fault> {
        let mut store = self.store(&config.pchannel, stop);
        let logic = self.linked.instantiate(&mut store).map_err(|e| fault(&mut store, &e))?;
        let started = logic.start(&mut store, config, resume);
        started.map_err(|e| fault(&mut store, &e))?.map_err(Fault::Start)?;
        Ok(Instance { store, logic })
    }
}

impl Instance {
    /// Runs one turn.
    ///
    /// # Errors
    /// A fault: the instance is of no use any more, and nothing of the turn has happened.
    pub fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        let completions: Vec<_> = input.completions.iter().map(border::completion).collect();
        self.store.data_mut().begin_turn(input);
        give(&mut self.store, TURN_MS_MAX);
        let report = self.logic.turn(&mut self.store, &completions, input.pressure);
        let report = report.map_err(|e| fault(&mut self.store, &e))?;
        Ok(self.store.data_mut().end_turn(report))
    }

    /// Returns the fuel that the last call used; 0 where time is not counted so.
    pub fn fuel_used(&self) -> u64 {
        self.store.get_fuel().map_or(0, |left| self.store.data().fuel_given.saturating_sub(left))
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// A fault: the instance is of no use any more.
    pub fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        give(&mut self.store, TURN_MS_MAX);
        let snapshot = self.logic.snapshot(&mut self.store).map_err(|e| fault(&mut self.store, &e))?;
        if snapshot.len() > SNAPSHOT_BYTES_MAX {
            return Err(Fault::Snapshot(format!("{} bytes, {SNAPSHOT_BYTES_MAX} allowed", snapshot.len())));
        }
        Ok(snapshot)
    }

    /// Says what it holds, for the comparison with the host's ledger; what cannot say it gives back the snapshot that it was started from.
    ///
    /// # Errors
    /// A fault: the instance is of no use any more.
    pub fn told(&mut self, resume: &[u8]) -> Result<Told, Fault> {
        match self.accounts()? {
            Some(holdings) => Ok(Told::Holdings(holdings)),
            None => Ok(Told::Echo(self.snapshot()? == resume)),
        }
    }

    /// Asks what it holds; `None` from a component of contract 0.1.0, which cannot say.
    ///
    /// # Errors
    /// A fault: the instance is of no use any more.
    pub fn accounts(&mut self) -> Result<Option<Vec<Holding>>, Fault> {
        give(&mut self.store, TURN_MS_MAX);
        let accounts = self.logic.accounts(&mut self.store).map_err(|e| fault(&mut self.store, &e))?;
        accounts.transpose().map_err(Fault::Answer)
    }

    /// Returns how many events were not kept since it was asked last, because a call logged too much.
    pub fn take_dropped_events(&mut self) -> u64 {
        std::mem::take(&mut self.store.data_mut().events_dropped)
    }

    /// Asks why a channel's checkpoint is where it is.
    ///
    /// # Errors
    /// A fault: the instance is of no use any more.
    pub fn explain(&mut self, channel: ChannelIndex) -> Result<String, Fault> {
        give(&mut self.store, TURN_MS_MAX);
        let reason = self.logic.explain(&mut self.store, channel);
        reason.map_err(|e| fault(&mut self.store, &e))
    }
}

/// Has each epoch looked at: whether the call's time is up, or it is to stop.
fn watch(store: &mut Store<HostState>) {
    store.epoch_deadline_callback(|mut store| {
        let state = store.data_mut();
        state.epochs_left = state.epochs_left.saturating_sub(1);
        if state.epochs_left == 0 || state.stop.is_set() { Err(Trap::Interrupt.into()) } else { Ok(UpdateDeadline::Continue(1)) }
    });
}

/// Gives the next call so much time.
fn give(store: &mut Store<HostState>, ms: u64) {
    if store.data().counts_fuel {
        // Only a store of another engine refuses.
        let _counted = store.set_fuel(ms.saturating_mul(FUEL_PER_MS));
        store.data_mut().fuel_given = ms.saturating_mul(FUEL_PER_MS);
        return;
    }
    store.data_mut().begin_call();
    store.data_mut().epochs_left = ms / EPOCH_MS;
    store.set_epoch_deadline(1);
}

fn fault(store: &mut Store<HostState>, error: &wasmtime::Error) -> Fault {
    let state = store.data_mut();
    let said = state.last_error.take().map(|text| format!("; it said: {text}")).unwrap_or_default();
    if let Some(limit) = state.over_limit.take() {
        return Fault::Memory(limit);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) if state.stop.is_set() => Fault::Deadline(format!("the call was cut off by a stop{said}")),
        Some(Trap::OutOfFuel) => Fault::Deadline(format!("the call used more than {} of fuel{said}", state.fuel_given)),
        Some(Trap::Interrupt) => Fault::Deadline(format!("the call did not end in time{said}")),
        _ => Fault::Trap(format!("{error:#}{said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_component_imports_what_is_allowed_and_nothing_else() {
        let built_in = inspect(BUILT_IN).unwrap();
        assert_eq!(built_in.judge().unwrap(), Contract::V0_2);
        let imports = |interface: &str| built_in.imports.iter().any(|i| i.name == format!("tidegate:flusher/{interface}@0.2.0"));
        assert!(["types", "wal", "coordinator", "chunk-storage", "checkpoint", "log"].into_iter().all(imports), "{built_in:?}");
    }

    /// `(module (func (export "spin") (loop (br 0))))`
    const SPIN: &[u8] =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x08\x01\x04spin\0\0\x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    #[test]
    fn a_stop_ends_a_call_that_does_not_end_and_so_does_its_deadline() {
        let engine = Engine::new().unwrap();
        let module = wasmtime::Module::new(&engine.engine, SPIN).unwrap();
        let ended = |ms: u64, stop_after: Option<Duration>| {
            let stop = Stop::default();
            let mut store = Store::new(&engine.engine, HostState::new("p_0".into(), stop.clone()));
            watch(&mut store);
            give(&mut store, ms);
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let spin = instance.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
            let stopper = thread::spawn(move || {
                thread::sleep(stop_after.unwrap_or_default());
                stop_after.is_some().then(|| stop.set())
            });
            let began = std::time::Instant::now();
            let error = spin.call(&mut store, ()).unwrap_err();
            let took = began.elapsed();
            stopper.join().unwrap();
            (fault(&mut store, &error).to_string(), took)
        };
        let (said, took) = ended(60_000, Some(Duration::from_millis(200)));
        assert!(said.contains("by a stop") && took < Duration::from_secs(2), "{said} after {took:?}");
        let (said, took) = ended(300, None);
        assert!(
            said.contains("not end in time") && took > Duration::from_millis(100) && took < Duration::from_secs(5),
            "{said} after {took:?}"
        );
    }

    #[test]
    fn a_component_is_compiled_once_and_again_when_its_artifact_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Some(folder.path());
        let engine = Engine::new().unwrap();
        let digest = engine.load(BUILT_IN, artifacts).unwrap().digest.clone();
        let only = || {
            let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
            assert_eq!(files.len(), 1, "{files:?}");
            assert!(files[0].file_name().unwrap().to_str().unwrap().starts_with(&digest));
            files[0].clone()
        };
        let file = only();
        let written = fs::read(&file).unwrap();
        let began = fs::metadata(&file).unwrap().modified().unwrap();
        engine.load(BUILT_IN, artifacts).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), began, "it was compiled twice");
        let mut damaged = written.clone();
        damaged[written.len() / 2] ^= 1;
        fs::write(&file, damaged).unwrap();
        engine.load(BUILT_IN, artifacts).unwrap();
        assert_eq!(fs::read(only()).unwrap(), written);
    }
}
