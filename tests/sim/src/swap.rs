//! Hand-overs: what an operator orders, what a driver does for one, what fails inside.

use std::sync::Arc;

use tidegate_core::pchannel::{Action, Event, Order, Pchannel, Phase, Probation, SwapStep, Told, Verdict as Became, Version};
use tidegate_core::turn::{Fault, Intent, TurnOutput};
use tidegate_core::versions::{Chosen, Line, Step};

use crate::judge::{Verdict, Violation, broken};
use crate::process::Process;
use crate::scenario::{Cut, Successor, Trouble};
use crate::swap_judge::Model;
use crate::versions::{Directory, GOOD, Instance, OLD, Open, is_old_form, with_state_of};
use crate::world::{Ev, World};

/// How long a new version is on probation: short, so that most see its end.
pub(crate) const PROBATION: Probation = Probation { turns: 20, event_ms: 5_000, lag_ms: 1_800_000 };
/// How long a pchannel that was handed over is watched before the swap is over, as in the node.
const SETTLE_MAX_MS: u64 = 10_000;
/// A pchannel without news runs no turn: then nothing is waited for.
const QUIET_MS: u64 = 300;
/// Turns after which a version faults that does so later.
const LATER: u64 = 6;

/// What the version that serves is going to do wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upset {
    /// A turn faults after so many.
    Faults(u64),
    /// A turn claims what is not so.
    Lies,
    /// No instance starts.
    Unfit,
}

impl Upset {
    fn of(version: &str) -> Option<Self> {
        match version {
            "faults-at-once" => Some(Self::Faults(0)),
            "faults-later" => Some(Self::Faults(LATER)),
            "lies" => Some(Self::Lies),
            "unfit" => Some(Self::Unfit),
            _ => None,
        }
    }
}

/// What a process has for hand-overs.
pub(crate) struct Side {
    /// The directory of its node.
    pub directory: usize,
    successor: Option<Instance>,
    resume: Arc<Vec<u8>>,
    /// A snapshot of this scan that was taken before.
    earlier: Option<Vec<u8>>,
    upset: Option<Upset>,
    /// A version was rolled back, and the one before it is not there yet.
    goes_back: bool,
    pub model: Model,
}

impl Side {
    fn new(directory: usize, chosen: &Chosen) -> Self {
        let model = Model::new(Version::from(chosen.current.as_str()), chosen.good.as_deref().map(Version::from), chosen.on_probation);
        Self {
            directory,
            successor: None,
            resume: Arc::default(),
            earlier: None,
            upset: Upset::of(&chosen.current),
            goes_back: false,
            model,
        }
    }
}

/// Directories of nodes, and which of them each pchannel's owner has.
#[derive(Default)]
pub(crate) struct Swaps {
    directories: Vec<Directory>,
    homes: Vec<Option<usize>>,
}

/// Whether an action is a step of a swap.
pub(crate) fn is_step(action: &Action, core: Option<&Pchannel>) -> bool {
    match action {
        Action::Stand { .. } | Action::AskOld | Action::Commit | Action::Dismiss | Action::Swapped(_) => true,
        Action::Snapshot => core.is_some_and(Pchannel::is_handing_over),
        _ => false,
    }
}

/// The accounts of an instance, made wrong.
fn twist(told: &mut Told) {
    match told {
        Told::Holdings(holdings) => holdings.iter_mut().filter(|h| h.rows > 0).for_each(|h| h.rows += 1),
        Told::Echo(echo) => *echo = false,
    }
}

impl World<'_> {
    // ---- directories -----------------------------------------------------------------------------------------------------------------

    /// A process opens the directory of its pchannel's node: the version that it starts with.
    pub(crate) fn open_directory(&mut self, p: usize) -> (Side, Version, Option<Version>, bool) {
        self.swaps.homes.resize(self.logs.len(), None);
        let home = *self.swaps.homes[p].get_or_insert_with(|| {
            self.swaps.directories.push(Directory::default());
            self.swaps.directories.len() - 1
        });
        let (now, directory) = (self.now, &mut self.swaps.directories[home]);
        // Another node may have another program.
        if directory.open(GOOD[home % GOOD.len()], now) {
            self.tally.count("S-36");
        }
        let chosen = directory.versions(now).of(&self.logs[p].name);
        if chosen.on_probation {
            self.tally.count("S-37");
        }
        let side = Side::new(home, &chosen);
        (side, Version::from(chosen.current), chosen.good.map(Version::from), chosen.on_probation)
    }

    /// A pchannel goes to another node.
    pub(crate) fn leave_directory(&mut self, p: usize) {
        if let Some(home) = self.swaps.homes.get_mut(p) {
            *home = None;
        }
    }

    /// A process ends: what was not written to its log is not there.
    pub(crate) fn close_directory(&mut self, process: usize) {
        if self.processes[process].core.is_some() {
            let directory = self.processes[process].side.directory;
            self.swaps.directories[directory].lose(self.now);
        }
    }

    // ---- orders ----------------------------------------------------------------------------------------------------------------------

    /// An operator orders a version, as the node's command does; the checks beside the flushers are not played.
    pub(crate) fn order(&mut self, at: u64, successor: Successor, force: bool, twice: bool) -> Verdict {
        let p = (at % self.logs.len() as u64) as usize;
        // Now and then on a node that does not know yet that it is not the owner any more.
        let zombie = |at: u64| (0..self.processes.len()).rev().find(|&o| self.is_zombie(o) && self.processes[o].pchannel == p && at == 0);
        let Some(process) = zombie(at >> 40 & 1).or(self.owners[p]) else { return Ok(()) };
        let here = &self.processes[process];
        let Some(core) = &here.core else { return Ok(()) };
        let (turns, directory) = (core.counters().turns, here.side.directory);
        let name = self.logs[p].name.clone();
        let versions = self.swaps.directories[directory].versions(self.now);
        let Chosen { current, good, .. } = versions.of(&name);
        let others: Vec<&str> = GOOD.into_iter().filter(|v| *v != current).collect();
        let to = match successor {
            Successor::Same => current,
            Successor::Good => others[(at >> 16) as usize % others.len()].to_owned(),
            Successor::Old => OLD.to_owned(),
            Successor::Previous => good.unwrap_or(current),
            Successor::FaultsAtOnce => "faults-at-once".to_owned(),
            Successor::FaultsLater => "faults-later".to_owned(),
            Successor::Lies => "lies".to_owned(),
            Successor::Untrue => "untrue".to_owned(),
            Successor::Unfit => "unfit".to_owned(),
        };
        if !force && versions.failed.contains_key(&to) {
            self.tally.count("S-26");
            return Ok(());
        }
        // Even: the next number is for an order that is given twice, of which the log may know nothing yet.
        let last = versions.last_swap.max(self.swaps.directories[directory].open.as_ref().map_or(0, |o| o.swap));
        let swap = (last / 2 + 1) * 2;
        if self.swaps.directories[directory].open.is_some() {
            // "Another swap is being carried out", says the node.
            return Ok(());
        }
        let now = self.now;
        let log = &mut self.swaps.directories[directory];
        log.write(now, Line { swap, step: Step::Begun, to: to.clone(), ..Line::default() });
        log.versions(now);
        log.open = Some(Open { swap, to: to.clone(), since_ms: now, turns, decided: false });
        let version = Version::from(to);
        self.order_version(process, swap, &version)?;
        if twice && self.processes[process].core.is_some() {
            self.tally.count("F-49");
            self.order_version(process, swap + 1, &version)?;
        }
        Ok(())
    }

    fn order_version(&mut self, process: usize, id: u64, version: &Version) -> Verdict {
        let here = &mut self.processes[process];
        let Some(core) = &here.core else { return Ok(()) };
        let state = match core.phase() {
            Phase::InRecovery => Some("S-27"),
            Phase::Backoff(_) => Some("S-28"),
            _ => here.catches_up().then_some("S-29"),
        };
        here.side.model.ordered(id, version.clone());
        state.into_iter().for_each(|state| self.tally.count(state));
        self.trace.mix(&[11, process as u64, id]);
        self.feed(process, Event::Order(Order { id, version: version.clone() }))
    }

    /// Ends the swap that an operator waits for, once its pchannel works again or does not.
    pub(crate) fn end_swap(&mut self, process: usize) {
        let here = &self.processes[process];
        let (Some(core), log) = (&here.core, &mut self.swaps.directories[here.side.directory]) else { return };
        let Some(Open { swap, to, since_ms, turns, decided }) = &log.open else { return };
        let waited = self.now - since_ms;
        let works = *core.phase() == Phase::Working && (core.counters().turns > *turns || waited > QUIET_MS);
        if *decided && (**core.version() != **to || works || waited > SETTLE_MAX_MS) {
            let line = Line { swap: *swap, step: Step::Ended, to: to.clone(), ..Line::default() };
            log.open = None;
            log.write(self.now, line);
        }
    }

    // ---- what a driver does ----------------------------------------------------------------------------------------------------------

    pub(crate) fn hand_over(&mut self, process: usize, action: Action) -> Result<Option<Event>, Violation> {
        let event = match action {
            Action::Stand { version, resume } => {
                let told = self.stand(process, &version, &resume);
                self.processes[process].side.resume = resume;
                Event::Stood(told)
            }
            Action::AskOld => Event::OldTold(self.ask_old(process)),
            Action::Commit => {
                let successor = self.processes[process].side.successor.take();
                self.processes[process].guest = successor;
                return Ok(None);
            }
            Action::Swapped(step) => {
                self.swapped(process, &step)?;
                return Ok(None);
            }
            _ => {
                self.processes[process].side.successor = None;
                return Ok(None);
            }
        };
        if self.settings.slow_turns && self.rng.percent(20) {
            let wait = self.rng.between(1, 50);
            self.after(wait, Ev::Late { to: process, of: self.processes[process].builds, event });
            return Ok(None);
        }
        Ok(Some(event))
    }

    /// Takes a snapshot, for the journal or for a successor.
    pub(crate) fn take_snapshot(&mut self, process: usize) -> Event {
        let fault = if self.strikes(Trouble::SnapshotTrap) {
            Some(Fault::Trap("unreachable".into()))
        } else if self.strikes(Trouble::SnapshotLimit) {
            Some(self.one_fault())
        } else {
            None
        };
        let here = &mut self.processes[process];
        here.side.model.snapshot_is_taken(here.core.as_ref().is_some_and(Pchannel::is_handing_over));
        if let Some(fault) = fault {
            here.guest = None;
            return Event::Snapshot(Err(fault));
        }
        let snapshot = here.guest.as_mut().map_or_else(|| Err(Fault::Trap("no instance".into())), Instance::snapshot);
        Event::Snapshot(snapshot.map(|snapshot| self.doctor(process, snapshot)))
    }

    /// Makes a snapshot that is none, or one of the past.
    fn doctor(&mut self, process: usize, mut snapshot: Vec<u8>) -> Vec<u8> {
        if self.strikes(Trouble::SnapshotGarbage) {
            let at = self.rng.below(snapshot.len() as u64) as usize;
            match self.rng.percent(50) {
                true => snapshot.truncate(at),
                // Not in the head, which is the world's own.
                false => snapshot[at.max(9)] ^= 0x55,
            }
            let here = &mut self.processes[process];
            here.side.model.snapshot_is_bad();
            here.garbled = true;
            return snapshot;
        }
        let stale = self.strikes(Trouble::SnapshotStale);
        let here = &mut self.processes[process];
        let earlier = here.side.earlier.replace(snapshot.clone());
        match earlier.filter(|_| stale) {
            Some(earlier) => {
                here.lied = true;
                with_state_of(&snapshot, &earlier)
            }
            None => snapshot,
        }
    }

    /// A fault that is no trap.
    pub(crate) fn one_fault(&mut self) -> Fault {
        match self.rng.below(3) {
            0 => Fault::Deadline("the call did not end in time".into()),
            1 => Fault::Memory("4294967296 bytes of linear memory wanted".into()),
            _ => Fault::Snapshot("more bytes than are allowed".into()),
        }
    }

    fn stand(&mut self, process: usize, version: &Version, resume: &[u8]) -> Result<Told, Fault> {
        let fails = self.strikes(Trouble::RestoreFaults) || &**version == "unfit";
        if fails {
            self.processes[process].side.model.successor_fails();
            return Err(self.one_fault());
        }
        let here = &self.processes[process];
        let started = Instance::start(self.guests, version, &here.config, Some(resume));
        let model = &mut self.processes[process].side.model;
        if &**version == OLD && !is_old_form(resume) {
            model.may_recover();
        } else if is_old_form(resume) && &**version != OLD {
            self.tally.count("S-39");
        }
        let mut successor = started?;
        if self.strikes(Trouble::AccountsFault) {
            self.processes[process].side.model.successor_fails();
            return Err(if self.rng.percent(50) { Fault::Answer("a state that is none".into()) } else { self.one_fault() });
        }
        let mut told = successor.told(resume)?;
        if &**version == "untrue" || self.strikes(Trouble::AccountsLie) {
            let here = &mut self.processes[process];
            here.side.model.accounts_lie(&told, here.core.as_ref());
            twist(&mut told);
        }
        self.processes[process].side.successor = Some(successor);
        Ok(told)
    }

    fn ask_old(&mut self, process: usize) -> Result<Told, Fault> {
        let fails = self.strikes(Trouble::RestoreFaults) || self.strikes(Trouble::AccountsFault);
        let lies = self.strikes(Trouble::AccountsLie);
        let fault = fails.then(|| self.one_fault());
        let side = &mut self.processes[process].side;
        let version = side.model.current.clone();
        if fails || lies || &*version == OLD {
            side.model.may_recover();
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        let here = &self.processes[process];
        let mut told = Instance::start(self.guests, &version, &here.config, Some(&here.side.resume))?.told(&here.side.resume)?;
        if lies {
            twist(&mut told);
        }
        Ok(told)
    }

    /// The operator hears what became of a version, and the log does.
    fn swapped(&mut self, process: usize, step: &SwapStep) -> Verdict {
        let here = &self.processes[process];
        let (name, zombie) = (here.caller.pchannel.clone(), self.is_zombie(process));
        let Some(core) = &here.core else { return Ok(()) };
        let kind = step.verdict.clone();
        let mut counts = Vec::new();
        match &kind {
            Became::Committed => {
                counts.push("S-19");
                counts.extend((core.status().in_flight > 0).then_some("S-30"));
                counts.extend((core.held_bytes() >= self.settings.bytes_max / 2).then_some("S-31"));
                counts.extend((core.counters().dead_letters > 0).then_some("S-38"));
            }
            Became::Recovers(_) => counts.push("S-21"),
            Became::Stayed(_) => counts.push("S-20"),
            Became::NotNow(why) => counts.push(if why.contains("fenced") { "S-35" } else { "S-25" }),
            Became::RolledBack(_) => counts.push("S-22"),
            Became::Good => counts.push("S-24"),
        }
        counts.extend(zombie.then_some("S-34"));
        counts.into_iter().for_each(|count| self.tally.count(count));
        let swap = step.order.unwrap_or_default();
        let at = self.now + self.rng.below(4);
        let here = &mut self.processes[process];
        let serves = matches!(kind, Became::Committed | Became::Recovers(_));
        if serves && step.from != step.to {
            here.side.upset = Upset::of(&step.to);
        } else if matches!(kind, Became::RolledBack(_)) {
            here.side.upset = None;
            here.side.goes_back = true;
        }
        let more = here.has_more_to_tell();
        let log = &mut self.swaps.directories[here.side.directory];
        log.write(at, Line::of(swap, &name, step));
        if let Some(open) = log.open.as_mut().filter(|open| open.swap == swap) {
            open.decided = true;
        }
        // SW-3: a restart brings back what serves.
        let (said, Some(core)) = (log.to_be().of(&name), &here.core) else { return Ok(()) };
        let is = Chosen {
            current: core.version().to_string(),
            good: core.good_version().map(ToString::to_string),
            on_probation: core.status().probation.is_some(),
        };
        if said != is && !more {
            return broken("SW-3", format!("#{process} is served by {is:?}, its log says {said:?}"));
        }
        Ok(())
    }

    // ---- what fails inside -----------------------------------------------------------------------------------------------------------

    /// Whether a process serves a pchannel that another one owns.
    pub(crate) fn is_zombie(&self, process: usize) -> bool {
        let here = &self.processes[process];
        here.core.is_some() && self.owners[here.pchannel] != Some(process)
    }

    /// A step of a swap was done: its process may die of it, or not be the owner any more.
    pub(crate) fn cut_in_swap(&mut self, process: usize) -> Option<Cut> {
        if self.strikes(Trouble::SwapKilled) {
            self.tally.count("S-32");
            return Some(if self.rng.percent(50) { Cut::Kill } else { Cut::KillSameTerm });
        }
        if self.strikes(Trouble::SwapPowerLoss) {
            self.tally.count("S-33");
            return Some(Cut::PowerLoss);
        }
        let p = self.processes[process].pchannel;
        if self.owners[p] == Some(process) && self.strikes(Trouble::SwapMoved) {
            self.owners[p] = None;
            self.leave_directory(p);
            self.after(0, Ev::Start { pchannel: p, same_term: false });
        }
        None
    }

    /// Whether the version that serves faults in the turn to come.
    pub(crate) fn upset_faults(&mut self, process: usize) -> Option<Fault> {
        let upset = &mut self.processes[process].side.upset;
        match *upset {
            Some(Upset::Faults(0)) => {
                *upset = None;
                Some(self.one_fault())
            }
            Some(Upset::Faults(left)) => {
                *upset = Some(Upset::Faults(left - 1));
                None
            }
            _ => None,
        }
    }

    /// Has the version that serves claim what is not so, this once.
    pub(crate) fn upset_lies(&mut self, process: usize, output: &mut TurnOutput) {
        let here = &mut self.processes[process];
        if here.side.upset.take_if(|upset| *upset == Upset::Lies).is_some() {
            here.lied = true;
            output.intents.push(Intent::SaveCheckpoint(1 << 40));
        }
    }

    /// The next instance is made: whether it is the first after a rollback.
    pub(crate) fn goes_back(&mut self, process: usize) -> bool {
        std::mem::take(&mut self.processes[process].side.goes_back)
    }

    /// Whether no instance of the version that serves starts, this once.
    pub(crate) fn is_unfit(&mut self, process: usize) -> bool {
        self.processes[process].side.upset.take_if(|upset| *upset == Upset::Unfit).is_some()
    }
}

impl Process {
    /// A new scan begins: snapshots of the one before are of no use.
    pub fn forget_snapshots(&mut self) {
        self.side.earlier = None;
    }
}
