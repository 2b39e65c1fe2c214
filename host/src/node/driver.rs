//! The thread of one pchannel: it feeds events to the core and does what the core wants, turns included.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use tidegate_core::calls::{CallError, Caller};
use tidegate_core::journal::{Replay, Turn};
use tidegate_core::pchannel::{Action, DeadLetter, Event, Limits, Order, Outcome, Pchannel, Status, SwapStep, Told, Version, Weight, Work};
use tidegate_core::retry::backoff_ms;
use tidegate_core::scan::{ReadFailure, ScanLimits};
use tidegate_core::turn::Fault;

use super::dead_letters::DeadLetters;
use super::guest::{Guest, Guests};
use super::record::{Recording, Tap};
use super::scan::{Batch, Scan};
use super::swaps::Line;
use super::workers::{Peers, Workers};
use super::{Explanation, NODE_ID, Settings, Syncs};
use crate::engine::GuestConfig;
use crate::pause;
use crate::stop::{Stop, panic_text};

/// Batches of messages between the scan and the flusher.
const BATCHES: usize = 2;
/// How long an operator's question waits for the flusher's thread.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A pchannel's flusher, running.
pub(super) struct Driver {
    pchannel: String,
    term: i64,
    questions: Sender<Question>,
    stop: Stop,
    /// The state that was answered last.
    known: Mutex<Status>,
    syncs: Arc<Mutex<Syncs>>,
    /// What the thread said when it panicked.
    died: Arc<OnceLock<String>>,
    thread: Option<JoinHandle<()>>,
}

/// How long an order may take: an instance that is being built, a snapshot and a start that use up their deadlines.
const SWAP_MAX: Duration = Duration::from_secs(120);

enum Question {
    Status(Sender<Status>),
    Explain(String, Sender<Option<Explanation>>),
    Swap {
        swap: u64,
        version: Version,
        guests: Arc<dyn Guests>,
        waiting: Sender<Written>,
    },
    Journal(Sender<Option<Replay>>),
    Record(Sender<Result<Recording, String>>),
    /// Wakes the thread, so that it sees the stop.
    Stop,
}

/// The components of a pchannel, when its flusher starts.
pub(super) struct Components {
    /// The one that serves it, and whether it is on probation.
    pub current: (Version, Arc<dyn Guests>),
    pub on_probation: bool,
    /// The one to go back to.
    pub good: Option<(Version, Arc<dyn Guests>)>,
    /// Takes what becomes of versions, to be written down in this order.
    pub told: Sender<ToldSwap>,
}

/// What became of a version, for the log of swaps.
pub(super) struct ToldSwap {
    pub pchannel: String,
    /// The swap that it belongs to; 0 for what happened by itself.
    pub swap: u64,
    pub swapped: Swapped,
    /// Who waits until it is written down.
    pub waiting: Option<Sender<Written>>,
}

/// What became of a version, and its line in the log of swaps, or why there is none.
pub(super) type Written = (Swapped, std::io::Result<Line>);

/// What became of a version, and how long the pchannel stood still for it.
#[derive(Clone, Debug)]
pub(super) struct Swapped {
    pub step: SwapStep,
    pub pause: Option<Pause>,
}

/// The parts of a hand-over, in microseconds: from the end of the old one's last turn to the start of the new one's first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    pub snapshot_us: u64,
    /// A store, an instance, and the state in it.
    pub start_us: u64,
    /// Its accounts, compared with the ledger.
    pub verify_us: u64,
    pub total_us: u64,
}

impl Driver {
    pub fn start(peers: Peers, dead_letters: DeadLetters, components: Components, settings: &Settings) -> std::io::Result<Self> {
        let pchannel = peers.log.pchannel().to_owned();
        let term = peers.log.term();
        let caller = Caller { node_id: NODE_ID, pchannel: pchannel.clone(), term };
        let limits = Limits {
            bytes_max: settings.share_bytes() - settings.scan_bytes(),
            page_max: settings.page_max as usize,
            // The embedded coordinator is the authority: what it does not know does not exist.
            not_found_tolerance: 0,
            writes_max: settings.writers,
            probation: settings.probation(),
            ..Limits::default()
        };
        let mut core = Pchannel::new(caller.clone(), limits);
        let (settled, skipped) = dead_letters.names(peers.log.wal());
        core.remember(settled, skipped);
        let stop = Stop::default();
        let syncs = Arc::default();
        let (questions, asked) = unbounded();
        let (events, happened) = unbounded();
        let workers = Workers::start(&peers, &caller, settings.writers, &events, &stop, &syncs)?;
        let (batches, delivered) = bounded(BATCHES);
        let Components { current: (version, guests), on_probation, good, told } = components;
        let good_version = good.as_ref().map(|(version, _)| version.clone());
        let (batches_again, read_again) = bounded(BATCHES);
        let mut running = Running {
            core: core.running(version.clone(), good_version, on_probation),
            config: settings.guest(&pchannel, term),
            components: good.into_iter().chain([(version, guests)]).collect(),
            told,
            orders: BTreeMap::new(),
            instance: None,
            successor: None,
            resume: None,
            tap: None,
            pause: Pause::default(),
            pause_began: Instant::now(),
            scan: None,
            catch_up: None,
            scan_limits: ScanLimits { held_bytes_max: settings.scan_bytes() - settings.catch_up_bytes(), ..ScanLimits::default() },
            catch_up_limits: ScanLimits { held_bytes_max: settings.catch_up_bytes(), ..ScanLimits::default() },
            peers,
            dead_letters,
            workers,
            batches,
            batches_again,
            began: Instant::now(),
            todo: VecDeque::new(),
            stop: stop.clone(),
            blocked: None,
            events_dropped: 0,
        };
        let known = Mutex::new(running.core.status());
        let died = Arc::new(OnceLock::new());
        let dies = died.clone();
        let run = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| running.run(&asked, &happened, &delivered, &read_again))) {
                let text = dies.get_or_init(|| panic_text(&*panic).to_owned());
                tracing::error!(pchannel = running.config.pchannel, "the flusher's thread panicked: {text}");
            }
        };
        let named = pchannel.clone();
        let thread = thread::Builder::new().name(pchannel).spawn(run)?;
        Ok(Self { pchannel: named, term, questions, stop, known, syncs, died, thread: Some(thread) })
    }

    pub fn pchannel(&self) -> &str {
        &self.pchannel
    }

    pub fn term(&self) -> i64 {
        self.term
    }

    /// Returns the state of the pchannel; of one that does not answer, the last state known and what became of its thread.
    pub fn status(&self) -> Status {
        let (reply, answer) = bounded(1);
        let answered = self.questions.send(Question::Status(reply)).ok().and_then(|()| answer.recv_timeout(ANSWER_MAX).ok());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match answered {
            Some(status) => *known = status,
            None => (known.state, known.reason) = self.silence(),
        }
        known.clone()
    }

    /// Returns what the workers did.
    pub fn syncs(&self) -> Syncs {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn explain(&self, vchannel: &str) -> Option<Explanation> {
        let (reply, answer) = bounded(1);
        let asked = self.questions.send(Question::Explain(vchannel.to_owned(), reply));
        match asked.ok().and_then(|()| answer.recv_timeout(ANSWER_MAX).ok()) {
            Some(explanation) => explanation,
            None => {
                let (state, reason) = self.silence();
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let pin = known.channels.iter().find(|c| c.vchannel == vchannel)?.pin.clone();
                let component =
                    format!("it cannot answer: the pchannel is {state}{}", reason.map(|r| format!(": {r}")).unwrap_or_default());
                Some(Explanation { vchannel: vchannel.to_owned(), pin: format!("when it was asked last: {pin}"), component })
            }
        }
    }

    /// Has another version follow, and returns what became of it once that is written down.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn swap(&self, swap: u64, version: Version, guests: Arc<dyn Guests>) -> Result<Written, String> {
        let (waiting, answer) = bounded(1);
        let asked = self.questions.send(Question::Swap { swap, version, guests, waiting });
        asked.ok().and_then(|()| answer.recv_timeout(SWAP_MAX).ok()).ok_or_else(|| {
            let (state, reason) = self.silence();
            format!("the pchannel is {state}{}", reason.map(|r| format!(": {r}")).unwrap_or_default())
        })
    }

    /// Returns the turns since the last snapshot, and the snapshot.
    pub fn journal(&self) -> Option<Replay> {
        let (reply, answer) = bounded(1);
        self.questions.send(Question::Journal(reply)).ok()?;
        answer.recv_timeout(ANSWER_MAX).ok()?
    }

    /// Begins a recording.
    ///
    /// # Errors
    /// Why there is none.
    pub fn record(&self) -> Result<Recording, String> {
        let (reply, answer) = bounded(1);
        let asked = self.questions.send(Question::Record(reply));
        asked.ok().and_then(|()| answer.recv_timeout(ANSWER_MAX).ok()).unwrap_or_else(|| {
            let (state, reason) = self.silence();
            Err(format!("it is {state}{}", reason.map(|r| format!(": {r}")).unwrap_or_default()))
        })
    }

    /// The state of a thread that does not answer, and its reason.
    fn silence(&self) -> (String, Option<String>) {
        let (state, reason) = match self.died.get() {
            Some(panic) => ("dead", format!("its thread panicked, restart the node: {panic}")),
            None if self.stop.is_set() => ("closing", "the node is stopping; run the command again when it is back".to_owned()),
            None => ("not answering", format!("its thread did not answer for {} s", ANSWER_MAX.as_secs())),
        };
        (state.to_owned(), Some(reason))
    }

    pub fn stop(&self) {
        self.stop.set();
        // A thread that is gone is stopped.
        let _sent = self.questions.send(Question::Stop);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("a flusher's thread panicked");
        }
    }
}

struct Running {
    core: Pchannel,
    config: GuestConfig,
    components: BTreeMap<Version, Arc<dyn Guests>>,
    /// Takes what becomes of versions.
    told: Sender<ToldSwap>,
    /// The version that each swap wants, and who waits for the end of it.
    orders: BTreeMap<u64, (Version, Sender<Written>)>,
    instance: Option<Box<dyn Guest>>,
    /// The instance of the version that is to follow.
    successor: Option<Box<dyn Guest>>,
    /// What the successor was started from.
    resume: Option<Arc<Vec<u8>>>,
    tap: Option<Tap>,
    pause: Pause,
    pause_began: Instant,
    scan: Option<Scan>,
    /// The second scan, of a channel that is behind.
    catch_up: Option<Scan>,
    scan_limits: ScanLimits,
    catch_up_limits: ScanLimits,
    peers: Peers,
    dead_letters: DeadLetters,
    workers: Workers,
    batches: Sender<Batch>,
    batches_again: Sender<Batch>,
    began: Instant,
    todo: VecDeque<Action>,
    stop: Stop,
    blocked: Option<Blocked>,
    /// Events of instances that were not kept.
    events_dropped: u64,
}

/// A message that could not be made durable in the dead-letter file: nothing later is done before it is.
struct Blocked {
    reason: String,
    failures: u32,
    since_ms: u64,
    /// When it is tried again, by the driver's clock.
    again_ms: u64,
}

impl Running {
    fn run(&mut self, asked: &Receiver<Question>, happened: &Receiver<Event>, delivered: &Receiver<Batch>, read_again: &Receiver<Batch>) {
        self.step(Event::Start);
        let closed = never();
        while !self.stop.is_set() {
            // A turn may ask for the next one for ever: between two of them, whoever waits is heard.
            while let Some(event) = self.act() {
                // What a stop cut off did not happen.
                if self.stop.is_set() {
                    break;
                }
                self.step(event);
                // A hand-over goes before everything else: the log and the syncs wait for nothing longer than its pause.
                if !self.core.is_handing_over() {
                    break;
                }
            }
            if self.stop.is_set() {
                break;
            }
            let messages = if self.core.wants_messages() && self.blocked.is_none() { delivered } else { &closed };
            let again = if self.core.wants_catch_up() && self.blocked.is_none() { read_again } else { &closed };
            let wait = self.wait();
            select! {
                recv(asked) -> question => self.answer(question.unwrap_or(Question::Stop)),
                recv(happened) -> event => self.step(event.unwrap_or(Event::Stop)),
                recv(messages) -> batch => {
                    if let Ok((scan, messages)) = batch {
                        self.step(Event::Delivered { scan, messages });
                    }
                }
                recv(again) -> batch => {
                    if let Ok((scan, messages)) = batch {
                        self.step(Event::CaughtUp { scan, messages });
                    }
                }
                default(wait) => self.step(Event::Wake),
            }
        }
        // What was wanted before the stop is not done any more.
        self.todo.clear();
        self.blocked = None;
        self.step(Event::Stop);
        self.act();
    }

    /// How long nothing is to be done unless something happens.
    fn wait(&self) -> Duration {
        let until = |at: u64| Duration::from_millis(at.saturating_sub(self.now_ms()));
        match &self.blocked {
            Some(blocked) => until(blocked.again_ms),
            None if self.todo.is_empty() => self.core.next_wake().map_or(Duration::from_secs(1), until),
            None => Duration::ZERO,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.core.step(event, self.now_ms(), &mut actions);
        self.todo.extend(actions);
    }

    /// Does what the core wants, up to the first thing that ends at once with an event: one turn at most.
    fn act(&mut self) -> Option<Event> {
        while self.blocked.as_ref().is_none_or(|b| b.again_ms <= self.now_ms()) {
            let action = self.todo.pop_front()?;
            if let Some(event) = self.perform(action) {
                return Some(event);
            }
        }
        None
    }

    /// Does one action; some end at once with an event.
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Build { version, resume, replay } => {
                self.instance = None;
                let built = self.build(&version, resume.as_deref().map(Vec::as_slice), &replay);
                return Some(Event::Built(built));
            }
            Action::Stand { version, resume } => {
                let told = self.stand(&version, &resume);
                self.resume = Some(resume);
                return Some(Event::Stood(told));
            }
            Action::AskOld => {
                let resume = self.resume.take().unwrap_or_default();
                let version = self.core.version().clone();
                return Some(Event::OldTold(self.ask_anew(&version, &resume)));
            }
            Action::Commit => {
                pause::at("verified");
                self.instance = self.successor.take();
                self.pause.total_us = micros(self.pause_began);
                pause::at("committed");
            }
            Action::Dismiss => self.successor = None,
            Action::Recorded(turn) => {
                if self.tap.take_if(|tap| !tap.give(turn)).is_some() {
                    self.step(Event::Record(false));
                }
            }
            Action::RecordingEnds(why) => {
                if let Some(tap) = self.tap.take() {
                    tap.end(why);
                }
            }
            Action::Swapped(step) => self.tell(step),
            Action::Turn(input) => {
                let Some(instance) = &mut self.instance else {
                    return Some(Event::Turned(Err(Fault::Trap("there is no instance".into()))));
                };
                let turned = instance.turn(&input);
                self.events_dropped += instance.take_dropped_events();
                return Some(Event::Turned(turned));
            }
            Action::Snapshot => {
                (self.pause, self.pause_began) = (Pause::default(), Instant::now());
                if self.core.is_handing_over() {
                    pause::at("handing-over");
                }
                let instance = self.instance.as_mut();
                let snapshot = instance.map_or_else(|| Err(Fault::Trap("there is no instance".into())), |i| i.snapshot());
                self.pause.snapshot_us = micros(self.pause_began);
                return Some(Event::Snapshot(snapshot));
            }
            Action::Begin { id, work: Work::OpenScan { scan, from } } => {
                let opened = Scan::start(self.peers.log.clone(), scan, from, self.scan_limits.clone(), self.batches.clone());
                let result =
                    opened.map(|scan| self.scan = Some(scan)).map(|()| Outcome::Opened).map_err(|e| CallError::Transient(e.to_string()));
                return Some(Event::Ended { id, result });
            }
            Action::Begin { id, work: Work::OpenCatchUp { scan, vchannel, from } } => {
                let (log, limits, out) = (self.peers.log.clone(), self.catch_up_limits.clone(), self.batches_again.clone());
                let opened = Scan::start_for(Some(vchannel), log, scan, from, limits, out);
                let result = opened
                    .map(|scan| self.catch_up = Some(scan))
                    .map(|()| Outcome::Opened)
                    .map_err(|e| CallError::Transient(e.to_string()));
                return Some(Event::Ended { id, result });
            }
            Action::Begin { id, work } => self.workers.begin(id, work),
            Action::CloseScan => {
                self.scan = None;
                self.catch_up = None;
            }
            Action::CloseCatchUp => self.catch_up = None,
            Action::DeadLetter(letter) => self.store(letter),
            Action::Truncate(up_to) => {
                if let Err(error) = self.peers.log.truncate(&up_to) {
                    tracing::warn!(pchannel = self.config.pchannel, "the log was not truncated: {error}");
                }
            }
            // No part of this node coordinates broadcasts: see `Action::Broadcast`.
            Action::Broadcast { vchannel, tick, .. } => tracing::debug!(vchannel, tick, "a broadcast message was delivered"),
            Action::Notice(weight, text) => match weight {
                Weight::Info => tracing::info!("{text}"),
                Weight::Warn => tracing::warn!("{text}"),
                Weight::Error => tracing::error!("{text}"),
            },
        }
        None
    }

    /// Starts a successor beside the instance and asks what it holds.
    fn stand(&mut self, version: &Version, resume: &[u8]) -> Result<Told, Fault> {
        let began = Instant::now();
        let mut successor = self.guests(version)?.start(&self.config, Some(resume), &self.stop)?;
        self.pause.start_us = micros(began);
        pause::at("standing");
        let began = Instant::now();
        let told = successor.told(resume);
        self.pause.verify_us = micros(began);
        self.successor = Some(successor);
        told
    }

    /// What an instance of a version holds that is started from a snapshot for this question alone.
    fn ask_anew(&self, version: &Version, resume: &[u8]) -> Result<Told, Fault> {
        self.guests(version)?.start(&self.config, Some(resume), &self.stop)?.told(resume)
    }

    fn guests(&self, version: &Version) -> Result<Arc<dyn Guests>, Fault> {
        self.components.get(version).cloned().ok_or_else(|| Fault::Start(format!("component {version} is not loaded")))
    }

    fn tell(&mut self, step: SwapStep) {
        let committed = matches!(step.verdict, tidegate_core::pchannel::Verdict::Committed);
        let swapped = Swapped { pause: committed.then_some(self.pause), step };
        let swap = swapped.step.order.unwrap_or_default();
        let waiting = self.orders.remove(&swap).map(|(_, waiting)| waiting);
        // The log of swaps ends with the node.
        let _ended = self.told.send(ToldSwap { pchannel: self.config.pchannel.clone(), swap, swapped, waiting });
        let (version, good) = (self.core.version().clone(), self.core.good_version().cloned());
        let wanted: Vec<&Version> = self.orders.values().map(|(v, _)| v).chain([&version]).chain(&good).collect();
        self.components.retain(|v, _| wanted.contains(&v));
    }

    /// Makes an instance and brings it to where the journal ends. DT-1: the same turns give the same intents.
    fn build(&mut self, version: &Version, resume: Option<&[u8]>, replay: &[Turn]) -> Result<(), Fault> {
        let mut instance = self.guests(version)?.start(&self.config, resume, &self.stop)?;
        for (nth, turn) in replay.iter().enumerate() {
            if instance.turn(&turn.input)? != *turn.output {
                return Err(Fault::Start(format!(
                    "turn {nth} of the journal gave other intents than before: the component is not deterministic"
                )));
            }
        }
        self.instance = Some(instance);
        Ok(())
    }

    /// A message is not passed before it is durable in the dead-letter file: the flusher waits, and says so.
    fn store(&mut self, letter: Box<DeadLetter>) {
        let Err(error) = self.dead_letters.store(&letter) else {
            self.blocked = None;
            return;
        };
        let now_ms = self.now_ms();
        let (failures, since_ms) = self.blocked.as_ref().map_or((1, now_ms), |b| (b.failures.saturating_add(1), b.since_ms));
        let wait = backoff_ms(failures);
        let reason = format!("the dead-letter file cannot be written: {error}");
        tracing::error!(pchannel = self.config.pchannel, "{reason}; tried again in {wait} ms");
        self.todo.push_front(Action::DeadLetter(letter));
        self.blocked = Some(Blocked { reason, failures, since_ms, again_ms: now_ms.saturating_add(wait) });
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Status(reply) => {
                // Who asked may have given up.
                let _gone = reply.send(self.status());
            }
            Question::Explain(vchannel, reply) => {
                let explanation = self.explain(&vchannel);
                let _gone = reply.send(explanation);
            }
            Question::Swap { swap, version, guests, waiting } => {
                self.components.insert(version.clone(), guests);
                self.orders.insert(swap, (version.clone(), waiting));
                self.step(Event::Order(Order { id: swap, version }));
            }
            Question::Journal(reply) => {
                let _gone = reply.send(self.core.journal());
            }
            Question::Record(reply) => {
                let recording = self.record();
                let _gone = reply.send(recording);
            }
            Question::Stop => self.stop.set(),
        }
    }

    fn record(&mut self) -> Result<Recording, String> {
        if self.tap.as_ref().is_some_and(Tap::is_open) {
            return Err("it is being recorded already".to_owned());
        }
        let before = self.core.recordable()?;
        let (tap, recording) = Recording::begin(self.core.version().clone(), self.config.clone(), before);
        self.tap = Some(tap);
        self.step(Event::Record(true));
        Ok(recording)
    }

    /// The core's account, with what the scan and the dead-letter file add to it.
    fn status(&self) -> Status {
        let mut status = self.core.status();
        status.events_dropped = self.events_dropped;
        status.scan = self.scan.as_ref().map(Scan::status).unwrap_or_default();
        status.held_bytes += status.scan.reorder_bytes + status.scan.transaction_bytes;
        status.bytes_max += self.scan_limits.held_bytes_max + self.catch_up_limits.held_bytes_max;
        if let Some(again) = self.catch_up.as_ref().map(Scan::status) {
            status.held_bytes += again.reorder_bytes + again.transaction_bytes;
            status.scan.gaps += again.gaps;
            status.scan.last_gap = status.scan.last_gap.or(again.last_gap);
            if let (Some(ReadFailure { reason, times, .. }), Some(behind)) =
                (again.failing, status.channels.iter_mut().find(|c| c.standing == "rejoining"))
            {
                behind.pin = format!("{}. Its scan fails: {reason}; tried {times} times", behind.pin);
            }
        }
        if status.state != "working" {
            return status;
        }
        if let Some(Blocked { reason, failures, since_ms, .. }) = &self.blocked {
            let seconds = self.now_ms().saturating_sub(*since_ms) / 1_000;
            status.state = "dead letters failing".to_owned();
            status.reason = Some(format!("{reason}; tried {failures} times in {seconds} s"));
        } else if let Some(ReadFailure { reason, times, since_ms }) = &status.scan.failing {
            status.state = "scan failing".to_owned();
            status.reason = Some(format!("{reason}; tried {times} times since {since_ms} ms (since 1970)"));
        } else if status.reason.is_none() {
            status.reason = status.scan.last_gap.clone();
        }
        status
    }

    fn explain(&mut self, vchannel: &str) -> Option<Explanation> {
        let status = self.core.status();
        let pin = match status.channels.into_iter().find(|c| c.vchannel == vchannel) {
            Some(channel) => channel.pin,
            // One of ours, by its name, of which nothing is known before the first recovery is through.
            None if vchannel.rsplit_once('_').is_some_and(|(pchannel, _)| pchannel == status.pchannel) && status.state != "working" => {
                let reason = status.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("nothing is known of it yet: pchannel {} is in state {:?}{reason}", status.pchannel, status.state)
            }
            None => return None,
        };
        let refused = self.core.counters().guard_refusals;
        let pin = match refused {
            0 => pin,
            _ => format!("{pin}. The guard has refused {refused} intents of this pchannel's component: its log says which"),
        };
        let index = self.core.channel_index(vchannel);
        let component = match (index, self.instance.as_mut().filter(|_| self.core.has_instance())) {
            (Some(index), Some(instance)) => instance.explain(index),
            (None, Some(_)) => Ok("it has not asked for the channel yet".to_owned()),
            (_, None) => Err(Fault::Trap("there is no instance".into())),
        };
        let component = component.unwrap_or_else(|fault| format!("it cannot answer: {fault}"));
        Some(Explanation { vchannel: vchannel.to_owned(), pin, component })
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
