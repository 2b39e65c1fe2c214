//! Hand-over: one version of the component follows another between two turns, on probation, and goes home when it fails.
//!
//! ```text
//! order ─► drain ─► snapshot ─► stand ─► compare with the ledger ─► commit ─► probation ─► good
//!                      │           │             └─ the old one's accounts agree, the new one's do not ─► stay
//!                      └───────────┴─ no verified snapshot (SW-2) ─► the new one recovers from the log
//! probation: a fault, a refusal of the guard, an open ledger, a growing lag ─► roll back (SW-3)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_message::MessageType;

use super::{Action, Instance, Pchannel, Phase, Weight};
use crate::account::Target;
use crate::mutants::{Mutant, is_mutated};
use crate::switches::{Switch, is_on};
use crate::turn::{ChannelIndex, Fault, Holding, Page, flag};

/// A component's version: the SHA-256 of its file, in hexadecimal.
pub type Version = Arc<str>;

/// Turns that only take completions before a snapshot is taken with some of them left: each may lead to another one at once.
const DRAIN_TURNS_MAX: u32 = 8;
/// Turns between two looks at ledgers and lags during probation: they cost a walk over every channel.
const WATCH_TURNS: u64 = 64;
/// Turns with a refusal of the guard, in a row, after each of which the instance recovers; after so many the last good version takes over.
pub const REFUSALS_MAX: u32 = 3;

/// How long a version is on probation, and what ends it badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probation {
    /// Turns that it lasts at least.
    pub turns: u64,
    /// Event time that it lasts at least, in milliseconds.
    pub event_ms: u64,
    /// How much the largest lag of a channel's checkpoint may grow, in milliseconds of event time.
    pub lag_ms: u64,
}

impl Default for Probation {
    fn default() -> Self {
        Self { turns: 1_000, event_ms: 60_000, lag_ms: 1_800_000 }
    }
}

/// What an operator wants: another version, or the same one anew.
#[derive(Clone, Debug)]
pub struct Order {
    /// Names the order in [`SwapStep`]s.
    pub id: u64,
    /// The version to go on with.
    pub version: Version,
}

/// What became of an order or of a version on probation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapStep {
    /// The order; `None` for what happened by itself.
    pub order: Option<u64>,
    /// The version before.
    pub from: Version,
    /// The version that is spoken of.
    pub to: Version,
    /// Bytes of the state that was handed over, if any was.
    pub state_bytes: Option<usize>,
    /// What happened.
    pub verdict: Verdict,
}

/// How a step of a swap ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// The new version goes on from a verified snapshot (SW-1); it is on probation.
    Committed,
    /// There was none: the new version recovers from the checkpoint and the log (SW-2); it is on probation.
    Recovers(String),
    /// The old version stays: the new one could not follow it.
    Stayed(String),
    /// The old version stays: nothing was tried.
    NotNow(String),
    /// The new version failed on probation, or the good one was wanted back (SW-3).
    RolledBack(String),
    /// Probation is over.
    Good,
}

/// What a successor (or the one before it) says that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its accounts, ascending by channel, then rows before deletes, then id.
    Holdings(Vec<Holding>),
    /// It cannot say; whether it gave the snapshot back that it was started from, byte for byte.
    Echo(bool),
}

/// The versions of a pchannel.
#[derive(Debug)]
pub(super) struct Swaps {
    /// What instances are made of.
    pub version: Version,
    /// The one before, to go back to.
    pub good: Option<Version>,
    limits: Probation,
    carrying_out: Option<CarryingOut>,
    watch: Option<Watch>,
    /// Turns with refusals, in a row.
    refusals: u32,
    last_refusal_ms: u64,
    /// Refusals of the guard before the turn that is being applied.
    refused_before: u64,
}

#[derive(Debug)]
struct CarryingOut {
    order: Order,
    drained: u32,
    expected: Vec<Holding>,
    snapshot: Option<Arc<Vec<u8>>>,
    /// What the successor did not do right, while the one before it is asked.
    doubt: Option<Doubt>,
}

/// Whose fault it is depends on what the version before makes of the same snapshot.
#[derive(Debug)]
enum Doubt {
    /// The successor did not start, which is no word about the snapshot.
    Start(Fault),
    /// The successor told something else than the ledger.
    Holdings(String),
}

/// A version on probation.
#[derive(Debug)]
struct Watch {
    /// Turns that it ended.
    turns: u64,
    /// Tick of the last delivered message when it began; 0 while none is known.
    since: u64,
    /// The largest lag when it began, in milliseconds.
    lag_ms: u64,
}

impl Swaps {
    pub fn new(version: Version, limits: Probation) -> Self {
        Self { version, good: None, limits, carrying_out: None, watch: None, refusals: 0, last_refusal_ms: 0, refused_before: 0 }
    }

    /// Whether a version is on probation.
    pub fn on_probation(&self) -> bool {
        self.watch.is_some()
    }

    /// How far probation is, in words.
    pub fn probation(&self, tick: u64) -> Option<String> {
        let watch = self.watch.as_ref()?;
        let ms = if watch.since == 0 { 0 } else { ms_between(watch.since, tick) };
        let Probation { turns, event_ms, .. } = self.limits;
        Some(format!("{} of {turns} turns, {ms} of {event_ms} ms of event time", watch.turns.min(turns)))
    }
}

impl Pchannel {
    /// Sets the version that instances are made of, the one to go back to, and whether the first is on probation still.
    pub fn running(mut self, version: Version, good: Option<Version>, on_probation: bool) -> Self {
        self.swaps = Swaps { good, ..Swaps::new(version, self.limits.probation.clone()) };
        if on_probation {
            self.begin_probation();
        }
        self
    }

    /// Returns the version that instances are made of.
    pub fn version(&self) -> &Version {
        &self.swaps.version
    }

    /// Returns the version to go back to.
    pub fn good_version(&self) -> Option<&Version> {
        self.swaps.good.as_ref()
    }

    /// Whether an order is being carried out: until it is, nothing else is worth doing.
    pub fn is_handing_over(&self) -> bool {
        matches!(self.instance, Instance::HandingOver | Instance::Standing) || (self.is_swapping() && self.instance == Instance::Ready)
    }

    /// Returns what rebuilds the instance, for a rehearsal.
    pub fn journal(&self) -> Option<crate::journal::Replay> {
        self.journal.replay()
    }

    pub(super) fn is_swapping(&self) -> bool {
        self.swaps.carrying_out.is_some()
    }

    /// Takes an order; it is carried out at the next boundary between two turns.
    pub(super) fn order(&mut self, order: Order) {
        if matches!(self.phase, Phase::Stopped(_)) {
            self.start_again();
        }
        let refusal = if self.is_over() {
            Some(format!("the pchannel is {}", self.status().state))
        } else {
            self.is_swapping().then(|| "another swap is being carried out".to_owned())
        };
        match refusal {
            Some(reason) => self.tell(Some(order.id), &order.version.clone(), None, Verdict::NotNow(reason)),
            None => {
                let carrying = CarryingOut { order, drained: 0, expected: Vec::new(), snapshot: None, doubt: None };
                self.swaps.carrying_out = Some(carrying);
            }
        }
    }

    /// Ends an order that can be carried out no more.
    pub(super) fn abandon_order(&mut self, reason: &str) {
        if let Some(CarryingOut { order, .. }) = self.swaps.carrying_out.take() {
            self.out.push(Action::Dismiss);
            self.tell(Some(order.id), &order.version, None, Verdict::NotNow(reason.to_owned()));
        }
    }

    /// Goes on with an order, if there is one, as far as it goes now; `true` while no ordinary turn may begin.
    pub(super) fn carry_out(&mut self) -> bool {
        let Some(carrying) = &mut self.swaps.carrying_out else { return false };
        match self.instance {
            Instance::Absent(_) if is_mutated(Mutant::OrderLost) => {
                self.swaps.carrying_out = None;
                false
            }
            Instance::Absent(_) => {
                self.recover_with_the_new("no instance was running");
                false
            }
            // A turn to be handed out again goes first; completions are taken before, so that both sides count the same.
            Instance::Ready if self.turn.is_some() || self.poison.is_searching() => false,
            Instance::Ready if !self.completions.is_empty() && carrying.drained < DRAIN_TURNS_MAX && !is_mutated(Mutant::UndrainedSwap) => {
                carrying.drained += 1;
                self.run_turn(Page::default());
                true
            }
            Instance::Ready => {
                let expected = self.expected_holdings();
                if let Some(carrying) = &mut self.swaps.carrying_out {
                    carrying.expected = expected;
                }
                self.instance = Instance::HandingOver;
                self.out.push(Action::Snapshot);
                true
            }
            _ => false,
        }
    }

    /// The old instance gave its state, or could not (SW-2).
    pub(super) fn handed_over(&mut self, snapshot: Result<Vec<u8>, Fault>) {
        let Some(carrying) = &mut self.swaps.carrying_out else { return };
        match snapshot {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                carrying.snapshot = Some(snapshot.clone());
                self.instance = Instance::Standing;
                self.out.push(Action::Stand { version: carrying.order.version.clone(), resume: snapshot });
            }
            Err(fault) if is_on(Switch::NeedsSnapshot) => self.stay(format!("the old version gave no snapshot: {fault}")),
            Err(fault) => self.recover_with_the_new(&format!("the old version gave no snapshot: {fault}")),
        }
    }

    /// The successor stands beside the old instance, or could not be started from its snapshot.
    pub(super) fn stood(&mut self, told: Result<Told, Fault>) {
        let Some(carrying) = &mut self.swaps.carrying_out else { return };
        match told {
            Ok(told) => match differs(&carrying.expected, &told) {
                Some(doubt) if !is_on(Switch::TrustSuccessors) => {
                    // Whose fault is it? The version before is asked the same, from the same snapshot.
                    carrying.doubt = Some(Doubt::Holdings(doubt));
                    self.out.push(Action::AskOld);
                }
                _ => self.commit(),
            },
            Err(Fault::Start(reason)) => self.recover_with_the_new(&format!("the snapshot was not accepted: {reason}")),
            Err(fault) if is_mutated(Mutant::StartFaultStays) => self.stay(format!("the new version failed to start: {fault}")),
            // The snapshot may do that to anyone: the version before is asked, which made it.
            Err(fault) => {
                carrying.doubt = Some(Doubt::Start(fault));
                self.out.push(Action::AskOld);
            }
        }
    }

    /// What the old version makes of the same snapshot, after its successor failed to start from it or said something else than the ledger:
    /// whose fault it is.
    pub(super) fn old_told(&mut self, told: Result<Told, Fault>) {
        let Some(carrying) = &mut self.swaps.carrying_out else { return };
        let Some(doubt) = carrying.doubt.take() else { return };
        let agrees = match (&told, &doubt) {
            (Ok(told @ Told::Holdings(_)), _) => differs(&carrying.expected, told).is_none(),
            (Ok(Told::Echo(echo)), Doubt::Start(_)) => *echo,
            (Ok(Told::Echo(_)), Doubt::Holdings(_)) | (Err(_), _) => false,
        };
        match (agrees, doubt) {
            (true, Doubt::Start(fault)) => self.stay(format!("the new version failed to start: {fault}")),
            (true, Doubt::Holdings(what)) => self.stay(format!("the new version does not hold what the old one does: {what}")),
            (false, Doubt::Start(fault)) => self.recover_with_the_new(&format!("no version starts right from the snapshot: {fault}")),
            (false, Doubt::Holdings(what)) => {
                self.recover_with_the_new(&format!("the snapshot does not agree with the host's ledger: {what}"));
            }
        }
    }

    fn stay(&mut self, reason: String) {
        let Some(CarryingOut { order, snapshot, .. }) = self.swaps.carrying_out.take() else { return };
        self.out.push(Action::Dismiss);
        self.instance = Instance::Ready;
        self.tell(Some(order.id), &order.version, snapshot.map(|s| s.len()), Verdict::Stayed(reason));
    }

    /// SW-1: between two turns; what is staged, in flight or waiting stays where it is.
    fn commit(&mut self) {
        let Some(CarryingOut { order, snapshot, .. }) = self.swaps.carrying_out.take() else { return };
        let Some(snapshot) = snapshot else { return };
        self.out.push(Action::Commit);
        self.instance = Instance::Ready;
        self.tell(Some(order.id), &order.version, Some(snapshot.len()), Verdict::Committed);
        if !is_mutated(Mutant::JournalKeptAtSwap) {
            self.journal.rebase(snapshot);
        }
        self.lose_at_swap();
        self.follow(order.version);
        // What one version could not serve, the next one may.
        self.rejoin_now();
    }

    /// What a slip of the hand would lose at a swap.
    fn lose_at_swap(&mut self) {
        if is_mutated(Mutant::StagedLostAtSwap) {
            self.channels.values_mut().flat_map(|c| c.segments.values_mut()).for_each(|s| s.staged.clear());
        }
        if is_mutated(Mutant::PagesLostAtSwap) {
            self.ready.clear();
        }
        if is_mutated(Mutant::CompletionsLostAtSwap) {
            self.completions.clear();
        }
    }

    /// SW-2: nothing of the old instance is needed.
    fn recover_with_the_new(&mut self, reason: &str) {
        let Some(CarryingOut { order, .. }) = self.swaps.carrying_out.take() else { return };
        self.tell(Some(order.id), &order.version, None, Verdict::Recovers(reason.to_owned()));
        self.follow(order.version);
        self.recover_at(self.now_ms);
    }

    fn follow(&mut self, version: Version) {
        // The same version anew has nothing to prove.
        if version != self.swaps.version {
            self.end_recording(|core| format!("component {version} follows {}", core.version()));
            let before = std::mem::replace(&mut self.swaps.version, version);
            // SW-3: one that has not proved itself is nothing to go back to while there is one that has.
            let proven = self.swaps.good.take().filter(|good| self.swaps.on_probation() && *good != self.swaps.version);
            self.swaps.good =
                if is_mutated(Mutant::ProvenForgotten) { proven.is_none().then_some(before) } else { proven.or(Some(before)) };
            self.begin_probation();
        }
    }

    fn begin_probation(&mut self) {
        self.swaps.refusals = 0;
        self.swaps.watch = Some(Watch { turns: 0, since: self.tick, lag_ms: self.largest_lag_ms() });
    }

    fn largest_lag_ms(&self) -> u64 {
        // One that rejoins lags for reasons of its own.
        let served = self.accounts().filter(|c| c.is_served() && c.rejoin.is_none());
        let checkpoint = served.filter_map(|c| c.stored_position.as_ref().or(c.seek.as_ref())).map(|p| p.tick).min();
        checkpoint.map_or(0, |tick| ms_between(tick, self.tick))
    }

    /// SW-3: goes back to the last good version, from the snapshot that the failed one began with if it ended no turn since, else by
    /// recovery from the checkpoint. `false` when there is none to go back to.
    pub(super) fn roll_back(&mut self, reason: &str) -> bool {
        let Some(good) = self.swaps.good.take().filter(|_| !is_on(Switch::NeverRollBack)) else { return false };
        self.end_recording(|core| format!("component {} is rolled back: {reason}", core.version()));
        let failed = std::mem::replace(&mut self.swaps.version, good.clone());
        let untouched = self.swaps.watch.take().is_some_and(|w| w.turns == 0) || is_mutated(Mutant::RollbackForgetsTurns);
        self.abandon_order("the version before it was rolled back");
        self.swaps.refusals = 0;
        let step = SwapStep {
            order: None,
            from: failed.clone(),
            to: good.clone(),
            state_bytes: None,
            verdict: Verdict::RolledBack(reason.to_owned()),
        };
        self.notice_swap(&step);
        self.out.push(Action::Swapped(step));
        match self
            .journal
            .replay()
            .filter(|replay| untouched && (replay.turns.is_empty() || is_mutated(Mutant::RollbackForgetsTurns)) && replay.base.is_some())
        {
            Some(replay) => {
                self.retried = false;
                self.poison.end_search();
                self.instance = Instance::Building;
                self.out.push(Action::Build { version: good, resume: replay.base, replay: Vec::new() });
            }
            None => self.recover_at(self.now_ms),
        }
        true
    }

    /// A turn ended and was applied: what it says about the version.
    pub(super) fn watch_turn(&mut self) {
        let refused = self.counters.guard_refusals - self.swaps.refused_before;
        self.swaps.refused_before = self.counters.guard_refusals;
        if let Some(watch) = &mut self.swaps.watch {
            watch.turns += 1;
            if watch.since == 0 {
                watch.since = self.tick;
            }
            let (turns, since, lag_before) = (watch.turns, watch.since, watch.lag_ms);
            if refused > 0 {
                return self.fail_probation("the guard refused what it wanted");
            }
            if turns.is_multiple_of(WATCH_TURNS) || turns == 1 {
                let open = self.accounts().find(|c| !(c.ledger.inserts.balances() && c.ledger.deletes.balances()));
                if let Some(name) = open.map(|c| c.name.clone()) {
                    return self.fail_probation(&format!("the ledger of channel {name} does not close"));
                }
                let (lag, bound) = (self.largest_lag_ms(), lag_before.saturating_add(self.swaps.limits.lag_ms));
                if lag > bound {
                    return self.fail_probation(&format!("the largest lag grew from {lag_before} to {lag} ms of event time"));
                }
            }
            if turns >= self.swaps.limits.turns
                && !is_mutated(Mutant::ProbationForEver)
                && ms_between(since, self.tick) >= self.swaps.limits.event_ms
            {
                self.swaps.watch = None;
                let version = self.swaps.version.clone();
                self.tell(None, &version, None, Verdict::Good);
            }
        } else if refused > 0 {
            self.refused_turn();
        }
    }

    fn fail_probation(&mut self, reason: &str) {
        if !self.roll_back(reason) {
            self.swaps.watch = None;
        }
    }

    /// Outside probation, refusals of the guard say that the instance counts wrong: it recovers; the last good version takes over when
    /// that does not help. Without one it goes on: a refused intent has no effect.
    fn refused_turn(&mut self) {
        let in_a_row = self.now_ms.saturating_sub(self.swaps.last_refusal_ms) < super::FAULTS_APART_MS;
        self.swaps.last_refusal_ms = self.now_ms;
        self.swaps.refusals = if in_a_row { self.swaps.refusals.saturating_add(1) } else { 1 };
        match self.swaps.refusals {
            n if n > REFUSALS_MAX => {
                self.roll_back("the guard refused what it wanted, again after recoveries");
            }
            _ => self.lose_instance(&Fault::Refused("the guard refused what it wanted".into())),
        }
    }

    fn tell(&mut self, order: Option<u64>, to: &Version, state_bytes: Option<usize>, verdict: Verdict) {
        let step = SwapStep { order, from: self.swaps.version.clone(), to: to.clone(), state_bytes, verdict };
        self.notice_swap(&step);
        self.out.push(Action::Swapped(step));
    }

    fn notice_swap(&mut self, step: &SwapStep) {
        let short = |version: &Version| version.chars().take(12).collect::<String>();
        let (from, to) = (short(&step.from), short(&step.to));
        let (weight, text) = match &step.verdict {
            Verdict::Committed => (Weight::Info, format!("component {to} follows {from}, on probation")),
            Verdict::Recovers(why) => (Weight::Warn, format!("component {to} follows {from} and recovers from the log: {why}")),
            Verdict::Stayed(why) | Verdict::NotNow(why) => (Weight::Error, format!("component {from} stays, {to} does not follow: {why}")),
            Verdict::RolledBack(why) => (Weight::Error, format!("component {from} is rolled back, {to} goes on: {why}")),
            Verdict::Good => (Weight::Info, format!("component {to} is past its probation")),
        };
        self.out.push(Action::Notice(weight, format!("pchannel {}: {text}", self.caller.pchannel)));
    }

    /// What the host's own accounts say that an instance holds, of the messages that were handed to it. Channels and segments that are
    /// being dropped are left out: there the component is ahead of the coordinator's answer.
    fn expected_holdings(&self) -> Vec<Holding> {
        let waiting = self.waiting_rows();
        let known = self.accounts().filter(|c| c.is_live() && c.drop_message.is_none_or(|at| at > self.handed));
        let mut expected: Vec<Holding> = known.flat_map(|c| c.holdings(self.handed)).collect();
        // Both ascend by channel, then rows before deletes, then id.
        let mut waiting = waiting.into_iter().peekable();
        for holding in &mut expected {
            let place = (holding.channel, if holding.deletes { Target::Deletes(holding.id) } else { Target::Segment(holding.id) });
            while waiting.next_if(|(other, _)| *other < place).is_some() {}
            let (rows, bytes) = waiting.next_if(|(other, _)| *other == place).map(|(_, unread)| unread).unwrap_or_default();
            holding.rows = holding.rows.saturating_sub(rows);
            holding.bytes = holding.bytes.saturating_sub(bytes);
        }
        expected
    }

    /// Rows and bytes in pages that no instance has taken yet.
    fn waiting_rows(&self) -> BTreeMap<(ChannelIndex, Target), (u64, u64)> {
        let mut waiting = BTreeMap::new();
        for page in &self.ready {
            for at in (0..page.len()).filter(|&at| page.flags[at] & flag::SETTLED == 0) {
                let target = match MessageType(i32::from(page.kinds[at])) {
                    MessageType::INSERT => Target::Segment(page.segments[at]),
                    MessageType::DELETE => Target::Deletes(page.partitions[at]),
                    _ => continue,
                };
                let sum: &mut (u64, u64) = waiting.entry((page.channels[at], target)).or_default();
                sum.0 += u64::from(page.rows[at]);
                sum.1 += page.bytes[at];
            }
        }
        waiting
    }

    pub(super) fn recover_at(&mut self, at_ms: u64) {
        self.retried = false;
        self.poison.end_search();
        self.turn = None;
        self.phase = Phase::InRecovery;
        self.instance = Instance::Absent(at_ms);
        self.calls.forget_waiting();
        self.out.push(Action::CloseScan);
    }
}

/// What a successor's word and the ledger disagree about, the first thing; `None` if nothing.
fn differs(expected: &[Holding], told: &Told) -> Option<String> {
    let told = match told {
        Told::Holdings(told) => told,
        Told::Echo(true) => return None,
        Told::Echo(false) => return Some("it did not give the snapshot back that it was started from".to_owned()),
    };
    let mut told = told.iter().filter(|h| h.rows > 0).peekable();
    for own in expected.iter().filter(|h| h.rows > 0) {
        let place = |h: &Holding| (h.channel, h.deletes, h.id);
        while told.next_if(|h| place(h) < place(own)).is_some() {}
        match told.next_if(|h| place(h) == place(own)) {
            Some(h) if (h.first, h.rows, h.bytes) == (own.first, own.rows, own.bytes) && h.last >= own.last => {}
            Some(h) => return Some(format!("the ledger has {own:?}, it has {h:?}")),
            None => return Some(format!("the ledger has {own:?}, it has nothing there")),
        }
    }
    None
}

/// Milliseconds between two ticks.
fn ms_between(from: u64, to: u64) -> u64 {
    (to >> 18).saturating_sub(from >> 18)
}
