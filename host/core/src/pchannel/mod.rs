//! One pchannel's flusher on the host's side: `step(event, now) → actions`, without threads, clocks or files (principle 6).
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the turn loop: when an instance runs, what happens when it faults |
//! | `events` | what happens, and what is wanted |
//! | `deliver` | messages from the scanner: ordinals, pins, pages |
//! | `intents` | the guard: what a component wants, checked and applied |
//! | `recovery` | what the coordinator knows, taken over |
//! | `sync` | from staged rows to files that the coordinator has |
//! | `work` | calls and writes in flight, and what their ends mean |
//! | `record` | turns, handed out as they end |
//! | `swap` | one version of the component after another |
//! | `rejoin` | detached channels come back |
//! | `poison` | the search for a message on which every instance faults |
//! | `status` | what an operator sees |

mod deliver;
mod events;
mod intents;
mod poison;
mod record;
mod recovery;
mod rejoin;
mod status;
mod swap;
mod sync;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_message::Message;

pub use events::{Action, DeadLetter, Event, Outcome, Weight, Work, WriteJob, Written};
pub use poison::MessageNames;
pub use status::{ChannelStatus, Status};
pub use swap::{Order, Probation, REFUSALS_MAX, SwapStep, Told, Verdict, Version};

use crate::account::{ChannelAccount, Standing, Totals};
use crate::calls::{Caller, Position};
use crate::journal::{Journal, TURNS_MAX};
use crate::mutants::{Mutant, is_mutated};
use crate::retry::{CallId, Calls, backoff_ms};
use crate::switches::{Switch, is_on};
use crate::turn::{
    Answer, ChannelIndex, Completion, EVERY_CHANNEL, Fault, GuestPhase, IntentKind, Ordinal, Page, Refusal, RefusalKind, Ticket, TurnInput,
    TurnOutput, TurnReport,
};

/// Limits of one pchannel.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes that its messages may hold: its share of the node's budget. Half of it asks the component to write, all of it stops reading.
    pub bytes_max: usize,
    /// Messages a page.
    pub page_max: usize,
    /// Positions of past group ends that a report may still name.
    pub group_ends_max: usize,
    /// Failures in a row after which a recovery question of one channel is given up, if the others have their answers: its channel is
    /// detached, and the others are served without it. Eight are about 23 s of backoff.
    pub recovery_failures_max: u32,
    /// "Not found" answers to a recovery question that are tried again before they are believed.
    pub not_found_tolerance: u32,
    /// Writes that run at the same time.
    pub writes_max: usize,
    /// Turns in the journal before a snapshot is taken, from which it starts anew.
    pub journal_turns_max: usize,
    /// How long a new version of the component is on probation.
    pub probation: Probation,
    /// First wait before a detached channel is tried again, in milliseconds; it doubles. One second: most causes are a peer's restart.
    pub rejoin_first_ms: u64,
    /// Longest wait before a detached channel is tried again, in milliseconds. Five minutes: a try that fails may read much of the log.
    pub rejoin_max_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 32 << 20,
            page_max: 256,
            group_ends_max: 65_536,
            recovery_failures_max: 8,
            not_found_tolerance: 10,
            writes_max: 2,
            journal_turns_max: TURNS_MAX,
            probation: Probation::default(),
            rejoin_first_ms: 1_000,
            rejoin_max_ms: 300_000,
        }
    }
}

/// What the flusher is doing, for `status`, metrics and exit codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asking the coordinator.
    InRecovery,
    /// Draining the log.
    Working,
    /// Stopped on request.
    Closing,
    /// The log ended with an AlterWAL message, and everything before it is durable.
    LogMoved,
    /// A newer term owns the pchannel.
    Fenced(String),
    /// Waiting to recover with a new instance, and why.
    Backoff(String),
    /// No instance gets on, and no message is to blame: waits for an operator.
    Stopped(String),
}

/// Failures in a row after which a channel over its share is given up: about six seconds of backoff.
const HOARDER_FAILURES: u32 = 6;
/// Instances lost within this time of each other, in milliseconds, are lost in a row: the wait between them grows.
const FAULTS_APART_MS: u64 = 60_000;

#[derive(Debug, PartialEq, Eq)]
enum Instance {
    /// There is none; one is made at this time, in milliseconds, once nothing is in flight.
    Absent(u64),
    Building,
    Ready,
    Turning,
    Snapshotting,
    /// A snapshot for a successor is taken.
    HandingOver,
    /// A successor is being started beside it.
    Standing,
}

/// One pchannel's flusher.
#[derive(Debug)]
pub struct Pchannel {
    caller: Caller,
    limits: Limits,
    phase: Phase,
    instance: Instance,
    started: bool,
    /// The turn being run, or to be run again after a fault.
    turn: Option<Arc<TurnInput>>,
    /// The turn was handed out again after a fault.
    retried: bool,
    /// Instances lost in a row.
    faults: u32,
    /// When the last one was lost, in milliseconds.
    last_fault_ms: u64,
    journal: Journal,
    recording: bool,
    swaps: swap::Swaps,
    poison: poison::Poison,
    report: TurnReport,
    /// The instance has not run yet: its first turn needs no news.
    fresh: bool,
    /// The last turn was offered messages and took none: they are no news until something else happens.
    declined: bool,
    completions: Vec<Completion>,
    ready: VecDeque<Page>,
    pressure: u64,
    next_ticket: Ticket,
    names: BTreeMap<String, ChannelIndex>,
    /// The next new index: never used again, whatever becomes of its name.
    unused_index: ChannelIndex,
    channels: BTreeMap<ChannelIndex, ChannelAccount>,
    totals: Arc<Totals>,
    /// The channels as the scan before left them, until this one knows them again: what an operator asks about in between.
    previous: BTreeMap<String, ChannelStatus>,
    /// Channels whose index the instance knows.
    introduced: BTreeSet<ChannelIndex>,
    /// Messages of the group being delivered.
    group: Vec<Message>,
    scan: u64,
    scan_from: Option<Position>,
    next_ordinal: Ordinal,
    /// The last ordinal handed to the instance.
    handed: Ordinal,
    /// Positions of the last group ends, ascending.
    group_ends: VecDeque<(Ordinal, Position)>,
    tick: u64,
    /// The stored checkpoints of live channels (CK-3).
    stored: BTreeSet<(Ordinal, ChannelIndex)>,
    /// Where detached channels hold the consume checkpoint (CK-3).
    detached: BTreeSet<(Ordinal, ChannelIndex)>,
    rejoins: rejoin::Rejoins,
    consumed: Option<Position>,
    calls: Calls<work::Task>,
    writes: usize,
    waiting_writes: VecDeque<CallId>,
    writing_bytes: usize,
    counters: Counters,
    /// Of the step that runs.
    now_ms: u64,
    /// What the step that runs wants done.
    out: Vec<Action>,
}

/// Counts since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Intents that the guard refused.
    pub guard_refusals: u64,
    /// Messages set aside.
    pub dead_letters: u64,
    /// Instances lost to a fault.
    pub faults: u64,
    /// Turns run.
    pub turns: u64,
    /// Messages delivered.
    pub messages: u64,
}

impl Pchannel {
    /// Builds the flusher of a pchannel; it does nothing until [`Event::Start`].
    pub fn new(caller: Caller, limits: Limits) -> Self {
        Self {
            caller,
            swaps: swap::Swaps::new(Version::from(""), limits.probation.clone()),
            limits,
            phase: Phase::InRecovery,
            instance: Instance::Absent(0),
            started: false,
            turn: None,
            retried: false,
            faults: 0,
            last_fault_ms: 0,
            journal: Journal::default(),
            recording: false,
            poison: poison::Poison::default(),
            report: TurnReport::default(),
            fresh: true,
            declined: false,
            completions: Vec::new(),
            ready: VecDeque::new(),
            pressure: 0,
            next_ticket: 1,
            names: BTreeMap::new(),
            unused_index: 0,
            channels: BTreeMap::new(),
            totals: Arc::default(),
            previous: BTreeMap::new(),
            introduced: BTreeSet::new(),
            group: Vec::new(),
            scan: 0,
            scan_from: None,
            next_ordinal: 1,
            handed: 0,
            group_ends: VecDeque::new(),
            tick: 0,
            stored: BTreeSet::new(),
            detached: BTreeSet::new(),
            rejoins: rejoin::Rejoins::default(),
            consumed: None,
            calls: Calls::default(),
            writes: 0,
            waiting_writes: VecDeque::new(),
            writing_bytes: 0,
            counters: Counters::default(),
            now_ms: 0,
            out: Vec::new(),
        }
    }

    /// Takes one event at a time, in milliseconds of any monotonic clock, and appends what is to be done.
    pub fn step(&mut self, event: Event, now_ms: u64, actions: &mut Vec<Action>) {
        self.now_ms = now_ms;
        match event {
            // Other events come between a turn and its end: they may have given the instance up.
            Event::Built(_) if self.instance != Instance::Building => {}
            Event::Turned(_) if self.instance != Instance::Turning || self.is_over() => {}
            Event::Snapshot(snapshot) if self.instance == Instance::HandingOver => self.handed_over(snapshot),
            Event::Snapshot(_) if self.instance != Instance::Snapshotting => {}
            Event::Stood(_) | Event::OldTold(_) if self.instance != Instance::Standing => {}
            Event::Stood(told) => self.stood(told),
            Event::OldTold(told) => self.old_told(told),
            Event::Record(on) => self.record(on),
            Event::Order(order) => self.order(order),
            Event::Start => self.started = true,
            Event::Stop => {
                self.calls.forget_waiting();
                self.end_recording(|_| "the node is stopping".to_owned());
                // What is held is met again by the next scan.
                self.forget_scan();
                self.abandon_order("the node is stopping");
                self.phase = Phase::Closing;
            }
            Event::Wake => {}
            Event::Delivered { scan, messages } if scan == self.scan => {
                self.declined = false;
                self.deliver(messages);
            }
            Event::Delivered { .. } => {}
            Event::CaughtUp { scan, messages } => self.catch_up(scan, messages),
            Event::Ended { id, result } => self.ended(id, result),
            Event::Built(Ok(())) => self.instance = Instance::Ready,
            Event::Built(Err(fault)) => self.lose_instance(&fault),
            Event::Snapshot(Ok(snapshot)) => {
                self.journal.rebase(Arc::new(snapshot));
                self.instance = Instance::Ready;
            }
            Event::Snapshot(Err(fault)) => self.fault(&fault),
            Event::Turned(Ok(_)) if self.poison.is_trying() => self.trial_ended(false),
            Event::Turned(Ok(output)) => self.turned(output),
            Event::Turned(Err(fault)) => self.fault(&fault),
        }
        self.advance();
        actions.append(&mut self.out);
    }

    /// Whether more messages may be delivered: the budget has room, or the rest of a group that has begun is missing (ME-1).
    pub fn wants_messages(&self) -> bool {
        self.may_read(!self.group.is_empty())
    }

    /// A group that has begun is read to its end: nothing of it can be written before, so waiting for room could last for ever.
    fn may_read(&self, has_begun: bool) -> bool {
        let room = (has_begun && !is_mutated(Mutant::GroupWaitsForRoom))
            || self.held_bytes() < self.limits.bytes_max
            || is_on(Switch::ReadOverBudget);
        self.phase == Phase::Working && room && self.ready.len() < 64
    }

    /// When the next [`Event::Wake`] is due, in milliseconds.
    pub fn next_wake(&self) -> Option<u64> {
        if self.is_over() {
            return None;
        }
        let instance = match self.instance {
            // Before, the end of a call is waited for.
            Instance::Absent(at) if self.started && self.calls.at_peer() == 0 => Some(at),
            _ => None,
        };
        [instance, self.calls.next_due(), self.rejoin_wake()].into_iter().flatten().min()
    }

    /// Bytes of messages, columns and encode buffers held now.
    pub fn held_bytes(&self) -> usize {
        self.totals.held() + self.writing_bytes + self.group.iter().map(Message::size).sum::<usize>() + self.catch_up_bytes()
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Fenced(_) | Phase::Stopped(_))
    }

    fn advance(&mut self) {
        if self.is_over() {
            self.end_recording(|core| format!("the pchannel is in state {:?}", core.status().state));
        }
        if self.is_over() || !self.started {
            return;
        }
        self.detach_hoarder();
        self.give_up_overdue();
        self.begin_rejoin();
        for (id, task) in self.calls.due(self.now_ms) {
            self.begin_again(id, task.work);
        }
        if self.carry_out() {
            return;
        }
        match self.instance {
            // Recovery begins when no mutating call is in flight: it would see a state that is about to change.
            Instance::Absent(at) if self.now_ms >= at && (self.calls.at_peer() == 0 || is_mutated(Mutant::RecoverAtOnce)) => {
                self.forget_scan();
                self.instance = Instance::Building;
                self.out.push(Action::Build { version: self.swaps.version.clone(), resume: None, replay: Vec::new() });
            }
            Instance::Ready if self.journal.wants_base(self.limits.journal_turns_max) && !self.poison.is_searching() => {
                self.instance = Instance::Snapshotting;
                self.out.push(Action::Snapshot);
            }
            Instance::Ready => self.begin_turn(),
            _ => {}
        }
    }

    fn begin_turn(&mut self) {
        if let Some(mut input) = self.turn.clone() {
            if is_mutated(Mutant::CompletionsLost) {
                input = Arc::new(TurnInput { completions: Vec::new(), ..(*input).clone() });
            }
            return self.hand_out(input);
        }
        let pressure = self.wanted_bytes();
        if let Some(input) = self.next_search_turn(pressure) {
            return self.hand_out(input);
        }
        let messages = !self.ready.is_empty() && !self.declined;
        let news = !self.completions.is_empty() || messages || self.report.more || self.fresh;
        if !news && (pressure == 0 || pressure == self.pressure) {
            return;
        }
        let page = match self.ready.front_mut() {
            Some(front) => {
                let page = front.take_groups(self.limits.page_max);
                if front.is_empty() {
                    self.ready.pop_front();
                }
                page
            }
            None => Page::default(),
        };
        self.run_turn(page);
    }

    /// Hands out a page and every completion.
    fn run_turn(&mut self, page: Page) {
        let (completions, pressure) = (std::mem::take(&mut self.completions), self.wanted_bytes());
        self.hand_out(Arc::new(TurnInput { completions, page, pressure, first_ticket: self.next_ticket }));
    }

    fn hand_out(&mut self, input: Arc<TurnInput>) {
        self.pressure = input.pressure;
        self.instance = Instance::Turning;
        self.turn = Some(input.clone());
        self.out.push(Action::Turn(input));
    }

    /// The last message that the component has taken, or may take in the turn that runs.
    fn last_handed_out(&self) -> Ordinal {
        let page = self.turn.as_ref().map(|turn| &turn.page).filter(|page| !page.is_empty());
        page.map_or(self.handed, |page| page.first + page.len() as Ordinal - 1)
    }

    /// What the component should write soon: open bytes beyond half of the budget, or beyond a smaller part of it on a channel that is
    /// behind.
    fn wanted_bytes(&self) -> u64 {
        self.totals.open().saturating_sub(self.limits.bytes_max / 2).max(self.wanted_of_behind()) as u64
    }

    fn turned(&mut self, output: TurnOutput) {
        let Some(input) = self.turn.take() else { return };
        self.instance = Instance::Ready;
        self.retried = false;
        self.fresh = false;
        self.counters.turns += 1;
        self.report = output.report;
        // A component that did nothing has nothing left to do, whatever it says: it would be asked again for ever.
        self.report.more &= output.taken > 0 || !output.intents.is_empty();
        self.declined = output.taken == 0 && !input.page.is_empty();
        let mut page = input.page.clone();
        if output.taken < page.len() {
            if output.taken > 0 {
                page.take_groups(output.taken);
            }
            if !is_mutated(Mutant::PageLost) {
                self.ready.push_front(page);
            }
        }
        if output.taken > 0 {
            self.handed = input.page.first + output.taken as Ordinal - 1;
        }
        self.next_ticket = input.first_ticket + output.intents.len() as Ticket;
        let output = Arc::new(output);
        self.journal.record(input.clone(), output.clone());
        self.record_turn(&input, &output);
        for (nth, intent) in output.intents.iter().enumerate() {
            self.apply(input.first_ticket + nth as Ticket, intent);
        }
        self.search_passed();
        if output.report.phase == GuestPhase::LogMoved && self.phase == Phase::Working {
            self.phase = Phase::LogMoved;
            self.out.push(Action::Notice(
                Weight::Info,
                format!("pchannel {}: the log moved, everything in it is durable", self.caller.pchannel),
            ));
            self.out.push(Action::CloseScan);
        }
        self.watch_turn();
    }

    /// An instance trapped or missed its deadline: its turn is void. It is rebuilt from the journal and given the turn once more; if that
    /// faults too, the message that does it is looked for.
    fn fault(&mut self, fault: &Fault) {
        self.counters.faults += 1;
        if self.swaps.on_probation() && self.roll_back(&format!("it failed on probation: {fault}")) {
            return;
        }
        if self.poison.is_searching() {
            return self.search_faulted(fault);
        }
        let text = format!("pchannel {}: the component failed: {fault}", self.caller.pchannel);
        match self.journal.replay() {
            Some(replay) if !self.retried => {
                self.retried = true;
                self.poison.faulted(self.now_ms);
                self.out.push(Action::Notice(Weight::Error, format!("{text}; the turn is handed out again")));
                self.instance = Instance::Building;
                self.out.push(Action::Build { version: self.swaps.version.clone(), resume: replay.base, replay: replay.turns });
            }
            // In recovery there is no message yet.
            Some(_) if self.phase == Phase::Working => self.search_poison(fault),
            _ => self.lose_instance(fault),
        }
    }

    /// Recovers with a new instance, after a wait: nothing of the old one is needed (SW-2, principle 4).
    fn lose_instance(&mut self, fault: &Fault) {
        if self.swaps.on_probation() && self.roll_back(&format!("it failed on probation: {fault}")) {
            return;
        }
        // Faults far apart are not in a row.
        let in_a_row = self.now_ms.saturating_sub(self.last_fault_ms) < FAULTS_APART_MS;
        self.faults = if in_a_row { self.faults.saturating_add(1) } else { 1 };
        self.last_fault_ms = self.now_ms;
        self.retried = false;
        self.poison.end_search();
        self.end_recording(|_| format!("the instance was lost: {fault}"));
        let wait = backoff_ms(self.faults);
        let text = format!("pchannel {}: the component failed: {fault}; a new instance recovers in {wait} ms", self.caller.pchannel);
        self.phase = Phase::Backoff(fault.to_string());
        self.instance = Instance::Absent(self.now_ms.saturating_add(wait));
        self.calls.forget_waiting();
        self.out.push(Action::CloseScan);
        self.out.push(Action::Notice(Weight::Error, text));
    }

    /// Forgets everything that the log and the coordinator can say again.
    fn forget_scan(&mut self) {
        if self.scan > 0 {
            self.out.push(Action::CloseScan);
        }
        if !self.channels.is_empty() {
            self.previous = self.accounts().map(|c| (c.name.clone(), self.channel_status(c))).collect();
        }
        self.phase = Phase::InRecovery;
        self.scan += 1;
        self.scan_from = None;
        self.turn = None;
        self.journal.reset();
        self.end_recording(|_| "a new instance recovers".to_owned());
        self.poison.forget_scan();
        self.report = TurnReport::default();
        self.fresh = true;
        self.declined = false;
        self.completions.clear();
        self.ready.clear();
        if !is_mutated(Mutant::GroupKept) {
            self.group.clear();
        }
        self.channels.clear();
        self.totals = Arc::default();
        if !is_mutated(Mutant::NamesKept) {
            self.introduced.clear();
        }
        self.next_ordinal = 1;
        self.handed = 0;
        self.group_ends.clear();
        self.stored.clear();
        self.detached.clear();
        self.forget_rejoins();
        self.writes = 0;
        self.waiting_writes.clear();
        self.writing_bytes = 0;
    }

    fn complete(
        &mut self,
        ticket: Ticket,
        kind: IntentKind,
        channel: ChannelIndex,
        segment: i64,
        up_to: Ordinal,
        outcome: Result<Answer, Refusal>,
    ) {
        self.completions.push(Completion { ticket, kind, channel, segment, up_to, outcome });
    }

    fn intern(&mut self, name: &str) -> ChannelIndex {
        if let Some(&index) = self.names.get(name) {
            return index;
        }
        self.next_index(name)
    }

    /// Gives a name an index that none had before.
    fn next_index(&mut self, name: &str) -> ChannelIndex {
        let index = self.unused_index;
        self.unused_index += 1;
        self.names.insert(name.to_owned(), index);
        index
    }

    fn account(&mut self, index: ChannelIndex, name: &str) -> &mut ChannelAccount {
        self.channels.entry(index).or_insert_with(|| ChannelAccount::new(index, name.to_owned(), self.totals.clone()))
    }

    /// Gives a channel up until it rejoins the scan, or until the next recovery (IS-1).
    fn detach(&mut self, index: ChannelIndex, reason: String) {
        self.detach_for(index, reason, false);
    }

    /// Gives a channel up; `unreadable` is whether a message is in the way that no later try will read either.
    fn detach_for(&mut self, index: ChannelIndex, reason: String, unreadable: bool) {
        let since = self.tick;
        let Some(account) = self.channels.get_mut(&index).filter(|c| c.is_live()) else { return };
        let hold = account.hold();
        account.detach(reason, since, unreadable);
        let text = match &account.standing {
            Standing::Detached { reason, held, .. } => {
                self.detached.insert((*held, index));
                format!("channel {} is detached: {reason}", account.name)
            }
            _ => String::new(),
        };
        self.stored.remove(&(hold, index));
        self.forget_work(index);
        self.rejoin_later(index);
        self.out.push(Action::Notice(Weight::Error, text));
        if is_on(Switch::DetachStopsAll) {
            self.out.push(Action::CloseScan);
        }
    }

    /// The host detached a channel by itself: the component hears of it.
    fn detach_and_tell(&mut self, index: ChannelIndex, reason: String) {
        self.detach(index, reason.clone());
        self.tell_detached(index, reason);
    }

    /// A message of the channel that nobody can read is in its way.
    fn detach_unreadable(&mut self, index: ChannelIndex, reason: String) {
        self.detach_for(index, reason.clone(), true);
        self.tell_detached(index, reason);
    }

    fn tell_detached(&mut self, index: ChannelIndex, reason: String) {
        self.complete(0, IntentKind::Detach, index, 0, 0, Err(Refusal::new(RefusalKind::Permanent, reason)));
    }

    /// IS-1: over budget, the largest of the channels whose work keeps failing is given up, if those channels hold most of the budget; so
    /// their neighbours go on.
    fn detach_hoarder(&mut self) {
        if self.held_bytes() < self.limits.bytes_max {
            return;
        }
        let mut failing: BTreeMap<ChannelIndex, &str> = BTreeMap::new();
        // A message that the log does not take holds no rows.
        let holds_rows = |purpose: &work::Purpose| !matches!(purpose, work::Purpose::AppendFlush { .. });
        for call in self.calls.iter().filter(|c| c.failures >= HOARDER_FAILURES && holds_rows(&c.what.purpose)) {
            if let (Some(channel), Some(error)) = (call.what.purpose.channel(), &call.last_error) {
                failing.insert(channel, error);
            }
        }
        let held = |index: &ChannelIndex| self.channels.get(index).filter(|c| c.is_served()).map_or(0, |c| c.held_bytes);
        if failing.keys().map(held).sum::<usize>() <= self.limits.bytes_max / 2 {
            return;
        }
        if let Some((&index, &error)) = failing.iter().max_by_key(|(index, _)| held(index)) {
            let reason = format!("it holds much of the memory budget, and its work keeps failing: {error}");
            self.detach_and_tell(index, reason);
        }
    }

    /// A newer term owns the pchannel: nothing more may be done in its name (FE-1).
    fn fence(&mut self, detail: String) {
        self.out.push(Action::CloseScan);
        self.out.push(Action::Notice(Weight::Error, format!("pchannel {} is fenced: {detail}", self.caller.pchannel)));
        self.calls.forget_waiting();
        self.abandon_order("the pchannel is fenced");
        self.phase = Phase::Fenced(detail);
    }

    /// The channels that a message of the whole pchannel concerns. One that is behind meets it in its own scan.
    fn every_live_channel(&self) -> Vec<ChannelIndex> {
        self.channels.iter().filter(|(i, c)| **i != EVERY_CHANNEL && c.is_live() && !c.is_behind()).map(|(&i, _)| i).collect()
    }
}
