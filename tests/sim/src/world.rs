//! The world: one queue of events, ordered by virtual time and by when they were made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use tidegate_core::account::Standing;
use tidegate_core::calls::{Call, CallError, Caller, Reply};
use tidegate_core::coordinator::{Coordinator, Write, pchannel_of};
use tidegate_core::pchannel::{Event, MessageNames, Outcome, Phase};
use tidegate_core::retry::CallId;

use crate::faults::{id_of, id_of_op};
use crate::judge::{Judge, Verdict, Violation, broken};
use crate::log::{LOGICAL_BITS, Log};
use crate::native::Guests;
use crate::process::Process;
use crate::rng::Rng;
use crate::scenario::{Cut, Op, Scenario, Settings, Trouble};
use crate::storage::Storage;
use crate::swap::Swaps;
use crate::tally::Tally;
use crate::trace::Trace;
use crate::under_way::UnderWay;
use crate::workload::Workload;

/// Runs a scenario to its end; a panic is a broken promise as well.
///
/// # Errors
/// The first broken promise.
pub fn run_caught(scenario: &Scenario, guests: &dyn Guests) -> Result<Tally, Violation> {
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(scenario, guests)));
    ended.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        broken("panic", text.unwrap_or_default())
    })
}

/// How long everything may take once the faults are over, in milliseconds of virtual time: a call that is never answered takes two minutes,
/// then a backoff.
pub const LIVENESS_MS: u64 = 600_000;
/// How often an idle log ticks, in milliseconds.
const TICK_MS: u64 = 500;
/// Events that a run may take: one that needs more keeps itself busy.
const EVENTS_MAX: u64 = 3_000_000;

/// Something to happen.
#[derive(Debug)]
pub(crate) enum Ev {
    Op(usize),
    LogWrite(usize),
    LogSync(usize),
    Tick(usize),
    Arrive { from: usize, id: CallId, call: Call },
    Commit,
    Answer { to: usize, id: CallId, result: Result<Outcome, CallError> },
    Stored { by: usize, id: CallId, job: std::sync::Arc<tidegate_core::pchannel::WriteJob> },
    Wake(usize),
    Pump(usize),
    Late { to: usize, of: u64, event: Event },
    Start { pchannel: usize, same_term: bool },
    Resume(usize),
    Calm,
    Poll,
}

pub(crate) struct Queued {
    at: u64,
    seq: u64,
    epoch: u64,
    ev: Ev,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.seq).cmp(&(other.at, other.seq))
    }
}

/// A call that the coordinator works on.
struct Committing {
    from: usize,
    id: CallId,
    caller: Caller,
    call: Call,
    reply: Result<Reply, CallError>,
    writes: Vec<Write>,
}

/// The coordinator as a service: the rules, their disk, what waits.
pub(crate) struct Service {
    pub rules: Coordinator,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
    waiting: VecDeque<(usize, CallId, Call)>,
    committing: Option<Committing>,
    /// Counts restarts: the end of a commit of before one means nothing.
    commit_at: Option<u64>,
    stale: Option<Coordinator>,
}

impl Service {
    pub fn store(&mut self, writes: Vec<Write>) {
        for Write { key, value } in writes {
            match value {
                Some(value) => drop(self.disk.insert(key, value)),
                None => drop(self.disk.remove(&key)),
            }
        }
    }

    pub fn store_raw(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.disk.insert(key, value);
        self.reload();
    }

    fn reload(&mut self) {
        self.rules = Coordinator::load(self.disk.clone()).expect("what the rules wrote can be loaded");
    }
}

/// A run.
pub struct World<'a> {
    pub(crate) guests: &'a dyn Guests,
    pub(crate) settings: Settings,
    ops: Vec<(u64, Op)>,
    cuts: VecDeque<(u64, Cut)>,
    queue: BinaryHeap<Reverse<Queued>>,
    seq: u64,
    /// Counts power losses: what was under way before one is gone.
    epoch: u64,
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    /// The last tick that was given out.
    pub(crate) tso: u64,
    /// How far event time is ahead of the world's, in milliseconds.
    pub(crate) clock: u64,
    pub(crate) ids: i64,
    pub(crate) logs: Vec<Log>,
    log_busy: Vec<bool>,
    pub(crate) service: Service,
    pub(crate) storage: Storage,
    /// Dead letters that a component faulted on, by pchannel: their file is fsynced, and every process has it.
    pub(crate) poison: Vec<MessageNames>,
    pub(crate) processes: Vec<Process>,
    /// The process that owns each pchannel.
    pub(crate) owners: Vec<Option<usize>>,
    pub(crate) workload: Workload,
    pub(crate) swaps: Swaps,
    pub(crate) judge: Judge,
    windows: Vec<(u64, Trouble, u64)>,
    /// When each trouble struck last.
    pub(crate) struck: BTreeMap<Trouble, u64>,
    not_found: BTreeMap<(usize, CallId), u32>,
    pub(crate) under_way: UnderWay,
    /// What happened so far.
    pub trace: Trace,
    /// Counts.
    pub tally: Tally,
    pub(crate) calm: bool,
    calm_since: u64,
    recovered_again: bool,
    done: bool,
    /// A process is to be cut here, by the action that it just did.
    pub(crate) cut: Option<Cut>,
}

/// Runs a scenario to its end.
///
/// # Errors
/// The first broken promise.
pub fn run(scenario: &Scenario, guests: &dyn Guests) -> Result<Tally, Violation> {
    let mut world = World::new(scenario, guests);
    world.run()?;
    Ok(world.tally)
}

impl<'a> World<'a> {
    /// Builds the world of a scenario.
    pub fn new(scenario: &Scenario, guests: &'a dyn Guests) -> Self {
        let settings = scenario.settings.clone();
        let pchannels = settings.pchannels;
        let mut world = Self {
            guests,
            ops: scenario.ops.clone(),
            cuts: scenario.cuts.iter().copied().collect(),
            queue: BinaryHeap::new(),
            seq: 0,
            epoch: 0,
            now: 1_000,
            rng: Rng::new(settings.seed),
            tso: 0,
            clock: 1_000_000,
            ids: 1_000,
            logs: (0..pchannels).map(|p| Log::new(format!("sim-dml_{p}"))).collect(),
            log_busy: vec![false; pchannels],
            service: Service {
                rules: Coordinator::default(),
                disk: BTreeMap::new(),
                waiting: VecDeque::new(),
                committing: None,
                commit_at: None,
                stale: None,
            },
            storage: Storage::default(),
            poison: vec![MessageNames::default(); pchannels],
            processes: Vec::new(),
            owners: vec![None; pchannels],
            workload: Workload::default(),
            swaps: Swaps::default(),
            judge: Judge::default(),
            windows: Vec::new(),
            struck: BTreeMap::new(),
            not_found: BTreeMap::new(),
            under_way: UnderWay::default(),
            trace: Trace::default(),
            tally: Tally { runs: 1, ..Tally::default() },
            calm: false,
            calm_since: 0,
            recovered_again: false,
            done: false,
            cut: None,
            settings,
        };
        for (nth, (at, _)) in scenario.ops.iter().enumerate() {
            world.at(1_000 + at, Ev::Op(nth));
        }
        let shards = |op: &Op| if let Op::Create { shards, .. } = op { *shards } else { 0 };
        if scenario.ops.iter().map(|(_, op)| shards(op)).sum::<usize>() > 100 {
            world.tally.count("F-55");
        }
        let end = scenario.ops.last().map_or(0, |(at, _)| *at);
        world.at(1_000 + end + 1_000, Ev::Calm);
        for p in 0..pchannels {
            world.at(1_000 + scenario.settings.served_after_ms, Ev::Start { pchannel: p, same_term: false });
            world.at(1_000 + TICK_MS, Ev::Tick(p));
        }
        world
    }

    pub(crate) fn at(&mut self, at: u64, ev: Ev) {
        self.seq += 1;
        self.queue.push(Reverse(Queued { at, seq: self.seq, epoch: self.epoch, ev }));
    }

    /// Event time, in milliseconds.
    fn event_ms(&self) -> u64 {
        self.now + self.clock
    }

    pub(crate) fn after(&mut self, ms: u64, ev: Ev) {
        self.at(self.now + ms, ev);
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn run(&mut self) -> Verdict {
        let mut events = 0;
        while let Some(Reverse(Queued { at, epoch, ev, .. })) = self.queue.pop() {
            self.now = at;
            events += 1;
            if events > EVENTS_MAX {
                return broken("liveness", format!("the world keeps itself busy: {}", self.state()));
            }
            self.handle(epoch, ev)?;
            if self.done {
                break;
            }
        }
        self.tally.simulated_ms = self.now;
        self.tally.rows = self.judge.rows;
        Ok(())
    }

    fn handle(&mut self, epoch: u64, ev: Ev) -> Verdict {
        let of_before = epoch != self.epoch;
        match ev {
            Ev::Arrive { .. } | Ev::Commit | Ev::Answer { .. } | Ev::LogWrite(_) | Ev::LogSync(_) | Ev::Late { .. } if of_before => {}
            Ev::Op(nth) => {
                let op = self.ops[nth].1.clone();
                self.trace.mix(&[1, self.now, nth as u64]);
                self.trace.say(self.now, || format!("{op:?}"));
                if let Some(id) = id_of_op(&op) {
                    self.tally.count(id);
                }
                self.operate(op)?;
            }
            Ev::LogWrite(p) => {
                self.tally.steps += 1;
                let shuffle = self.settings.shuffle && self.rng.percent(50);
                let event_ms = self.event_ms();
                self.logs[p].write(&mut self.tso, event_ms, shuffle, &mut self.rng);
                let wait = self.rng.between(1, 1 + self.settings.latency_ms / 4);
                self.after(wait, Ev::LogSync(p));
            }
            Ev::LogSync(p) => self.log_synced(p)?,
            Ev::Tick(p) => self.tick(p),
            Ev::Arrive { from, id, call } => {
                self.service.waiting.push_back((from, id, call));
                self.serve()?;
            }
            Ev::Commit if self.service.commit_at != Some(self.now) => {}
            Ev::Commit => self.commit()?,
            Ev::Answer { to, id, result } => self.feed(to, Event::Ended { id, result })?,
            Ev::Stored { by, id, job } => self.stored(by, id, &job, of_before)?,
            Ev::Wake(process) => {
                if self.processes[process].wake_at.is_some_and(|at| at <= self.now) {
                    self.processes[process].wake_at = None;
                    self.feed(process, Event::Wake)?;
                }
            }
            Ev::Pump(process) => self.pump(process)?,
            // What an instance did that was replaced since, nobody hears of.
            Ev::Late { to, of, event } if of == self.processes[to].builds => self.feed(to, event)?,
            Ev::Late { .. } => {}
            Ev::Start { pchannel, same_term } => self.start(pchannel, same_term)?,
            Ev::Resume(process) => self.resume(process)?,
            Ev::Calm => self.calm_down(),
            Ev::Poll => self.poll()?,
        }
        match self.cut.take() {
            Some(Cut::PowerLoss) => self.lose_power(),
            _ => Ok(()),
        }
    }

    // ---- trouble ---------------------------------------------------------------------------------------------------------------------

    /// Whether a window of trouble strikes now.
    pub(crate) fn strikes(&mut self, trouble: Trouble) -> bool {
        let now = self.now;
        let often = self.windows.iter().filter(|(until, t, _)| *t == trouble && *until > now).map(|w| w.2).max().unwrap_or_default();
        let hit = self.rng.percent(often);
        if hit {
            self.struck.insert(trouble, now);
            self.tally.count(id_of(trouble));
        }
        hit
    }

    pub(crate) fn open_window(&mut self, trouble: Trouble, ms: u64, percent: u64) {
        if trouble == Trouble::StaleAnswer {
            self.service.stale = Some(self.service.rules.clone());
        }
        self.windows.push((self.now + ms, trouble, percent));
    }

    pub(crate) fn latency(&mut self) -> u64 {
        let most = self.settings.latency_ms;
        self.rng.between(0, most)
    }

    /// Whether the next action is where the run is cut.
    pub(crate) fn is_cut_now(&mut self) -> Option<Cut> {
        self.tally.actions += 1;
        let (_, cut) = self.cuts.pop_front_if(|(after, _)| *after <= self.tally.actions)?;
        self.trace.say(self.now, || format!("cut: {cut:?}"));
        Some(cut)
    }

    /// The power is gone everywhere: everything that is not durable vanishes.
    pub(crate) fn lose_power(&mut self) -> Verdict {
        self.epoch += 1;
        self.service.waiting.clear();
        self.service.committing = None;
        self.service.commit_at = None;
        self.service.reload();
        for process in 0..self.processes.len() {
            self.met_by_death(process, true);
            self.close_directory(process);
            self.processes[process].die();
        }
        let mut lost = Vec::new();
        for p in 0..self.logs.len() {
            self.owners[p] = None;
            self.log_busy[p] = false;
            lost.extend(self.logs[p].lose_power());
            let wait = self.rng.between(5, 500);
            self.after(wait, Ev::Start { pchannel: p, same_term: false });
        }
        if !lost.is_empty() {
            self.tally.count("S-15");
        }
        self.undo(lost);
        Ok(())
    }

    pub(crate) fn restart_coordinator(&mut self) {
        self.met_by_restart();
        // Its callers hear of a broken connection.
        let mut cut_off: Vec<(usize, CallId)> = self.service.waiting.drain(..).map(|(from, id, _)| (from, id)).collect();
        cut_off.extend(self.service.committing.take().map(|c| (c.from, c.id)));
        self.service.commit_at = None;
        self.service.reload();
        for (to, id) in cut_off {
            self.after(1, Ev::Answer { to, id, result: Err(CallError::Transient("the connection broke".into())) });
        }
    }

    // ---- coordinator -----------------------------------------------------------------------------------------------------------------

    fn serve(&mut self) -> Verdict {
        while self.service.committing.is_none() {
            let Some((from, id, call)) = self.service.waiting.pop_front() else { return Ok(()) };
            self.tally.steps += 1;
            self.serve_one(from, id, call)?;
        }
        Ok(())
    }

    fn serve_one(&mut self, from: usize, id: CallId, call: Call) -> Verdict {
        let caller = self.processes[from].caller.clone();
        let lost = || Err(CallError::Transient("timeout".into()));
        self.trace.mix(&[2, self.now, from as u64, id]);
        self.trace.say(self.now, || format!("#{from} call {id} {}", describe(&call)));
        if self.strikes(Trouble::CallLost) {
            let wait = 500 + self.latency();
            self.after(wait, Ev::Answer { to: from, id, result: lost() });
            return Ok(());
        }
        if self.strikes(Trouble::CallSlow) {
            // Now and then it arrives when its caller has given it up, and counts it no more.
            let wait = if self.rng.percent(10) { 300_000 } else { 30_000 };
            self.after(wait, Ev::Arrive { from, id, call });
            return Ok(());
        }
        if matches!(call, Call::RecoveryInfo { .. } | Call::SaveBinlogPaths(_)) && self.strikes(Trouble::NotFound) {
            let times = self.not_found.entry((from, id)).or_default();
            *times += 1;
            // A save that is not found for longer than its caller believes is refused; a channel would be given up for good.
            if *times <= if matches!(call, Call::SaveBinlogPaths(_)) { 9 } else { 3 } {
                self.after(1, Ev::Answer { to: from, id, result: Err(CallError::NotFound("no such thing, says a replica".into())) });
                return Ok(());
            }
        }
        // Lists of channels and recovery information must be of now: see docs/simulator.md.
        if !call.is_mutating()
            && !matches!(call, Call::RecoveryInfo { .. } | Call::VChannels)
            && self.strikes(Trouble::StaleAnswer)
            && let Some(mut stale) = self.service.stale.clone()
        {
            let reply = stale.call(&caller, &call).0;
            self.after(1, Ev::Answer { to: from, id, result: reply.map(Outcome::Reply) });
            return Ok(());
        }
        if let Call::ReportCheckpoints(entries) = &call
            && self.strikes(Trouble::ReportDropped)
        {
            let stored = |v: &str| {
                let found = self.service.rules.checkpoints().find(|(name, _)| *name == v).map(|(_, c)| c.clone());
                match found {
                    Some(tidegate_core::coordinator::ChannelCheckpoint::At(position)) => Ok(Some(position)),
                    _ => Ok(None),
                }
            };
            let reply = Reply::Checkpoints(entries.iter().map(|(v, _)| stored(v)).collect());
            self.after(1, Ev::Answer { to: from, id, result: Ok(Outcome::Reply(reply)) });
            return Ok(());
        }
        if self.strikes(Trouble::CallTwice) {
            let wait = self.rng.between(1, 5_000);
            self.under_way.arrives_twice(from, id);
            self.after(wait, Ev::Arrive { from, id, call: call.clone() });
        }
        if matches!(call, Call::SaveBinlogPaths(_)) && self.strikes(Trouble::SaveIgnored) {
            let reply = Reply::Ignored("it is not in the mood".into());
            self.after(1, Ev::Answer { to: from, id, result: Ok(Outcome::Reply(reply)) });
            return Ok(());
        }
        self.judge.before_call(&call, &self.storage)?;
        let (reply, writes) = self.service.rules.call(&caller, &call);
        self.judge.applied(&caller, &call, &reply)?;
        if matches!(reply, Ok(Reply::Ignored(_))) {
            self.tally.count("S-13");
        }
        let wait = if writes.is_empty() { 0 } else { self.rng.between(1, 1 + self.settings.latency_ms / 4) };
        self.service.committing = Some(Committing { from, id, caller, call, reply, writes });
        if wait == 0 {
            return self.finish_commit();
        }
        self.service.commit_at = Some(self.now + wait);
        self.after(wait, Ev::Commit);
        Ok(())
    }

    fn commit(&mut self) -> Verdict {
        self.finish_commit()?;
        self.serve()
    }

    /// Makes durable what is being committed, and answers.
    pub(crate) fn finish_commit(&mut self) -> Verdict {
        self.service.commit_at = None;
        let Some(Committing { from, id, caller, call, reply, writes }) = self.service.committing.take() else { return Ok(()) };
        let changed = !writes.is_empty();
        self.service.store(writes);
        if changed {
            self.judge.committed(&call, &reply, &self.service.rules, &self.storage)?;
            if let (Call::SaveConsume(position), Ok(_)) = (&call, &reply) {
                self.judge.consumed(&caller.pchannel, position, &self.service.rules)?;
            }
            if let (Call::DropChannel { .. }, Ok(_)) = (&call, &reply) {
                self.tally.count("S-11");
            }
        }
        self.trace.say(self.now, || format!("#{from} call {id} is answered: {}", clip(&format!("{reply:?}"))));
        let result = reply.map(Outcome::Reply);
        if self.strikes(Trouble::CallSilent) {
            return Ok(());
        }
        let result = if self.strikes(Trouble::AnswerLost) { Err(CallError::Transient("timeout".into())) } else { result };
        let wait = self.latency();
        self.after(wait, Ev::Answer { to: from, id, result });
        Ok(())
    }

    // ---- log -------------------------------------------------------------------------------------------------------------------------

    pub(crate) fn append(&mut self, p: usize, appends: Vec<crate::log::Append>) {
        if appends.is_empty() {
            return;
        }
        self.logs[p].submit(appends);
        if !self.log_busy[p] {
            self.log_busy[p] = true;
            let wait = self.rng.between(0, 3);
            self.after(wait, Ev::LogWrite(p));
        }
    }

    fn log_synced(&mut self, p: usize) -> Verdict {
        let from = self.logs[p].sync();
        let name = self.logs[p].name.clone();
        let mut answers = Vec::new();
        let mut durable = Vec::new();
        for id in from..=self.logs[p].durable() {
            let Some(entry) = self.logs[p].get(id) else { continue };
            self.judge.durable(&name, entry);
            self.trace.mix(&[3, id as u64, entry.tick]);
            self.trace.say(self.now, || {
                let effect = entry.append.as_ref().map(|a| format!("{:?} {:?}", a.effect, a.txn.map(|t| t.txn_id)));
                format!("{name} {id} tick {} {}", entry.tick, effect.unwrap_or_default())
            });
            if let Some(append) = &entry.append {
                answers.extend(append.waits);
                durable.push((append.effect.clone(), entry.tick, entry.last_confirmed));
            }
        }
        let open: BTreeSet<i64> = self.logs[p].open_on(None).into_iter().map(|(_, t)| t.txn_id).collect();
        self.judge.expired(&name, &open);
        for (to, id) in answers {
            self.tally.count("S-16");
            self.after(1, Ev::Answer { to, id, result: Ok(Outcome::Appended) });
        }
        for (effect, tick, last_confirmed) in durable {
            self.happened(p, effect, tick, last_confirmed)?;
        }
        self.log_busy[p] = self.logs[p].has_queue();
        if self.log_busy[p] {
            self.after(1, Ev::LogWrite(p));
        }
        self.wake_readers(p);
        Ok(())
    }

    fn tick(&mut self, p: usize) {
        if !self.log_busy[p] {
            let event_ms = self.event_ms();
            let (tick, last_confirmed) = self.logs[p].idle(&mut self.tso, event_ms);
            let open: BTreeSet<i64> = self.logs[p].open_on(None).into_iter().map(|(_, t)| t.txn_id).collect();
            let name = self.logs[p].name.clone();
            self.judge.expired(&name, &open);
            let end = self.logs[p].durable() + 1;
            let term = self.logs[p].term;
            for process in &mut self.processes {
                process.idle_tick(p, term, end, tick, last_confirmed);
            }
            self.wake_readers(p);
        }
        self.after(TICK_MS, Ev::Tick(p));
    }

    fn wake_readers(&mut self, p: usize) {
        for process in 0..self.processes.len() {
            if self.processes[process].pchannel == p {
                self.pump_soon(process);
            }
        }
    }

    // ---- the end ---------------------------------------------------------------------------------------------------------------------

    /// The faults are over: from here on everything has to come to its end.
    fn calm_down(&mut self) {
        self.calm = true;
        self.calm_since = self.now;
        self.windows.clear();
        self.trace.say(self.now, || "calm".to_owned());
        for p in 0..self.logs.len() {
            // A component that lied may wait for what it was never asked: it is replaced, as an operator would.
            // So is one that stopped after many failures, and asks for an operator.
            let replaced = |o: &usize| {
                let stopped = self.processes[*o].core.as_ref().is_some_and(|core| core.status().state == "stopped");
                self.processes[*o].lied || stopped
            };
            if let Some(owner) = self.owners[p].filter(replaced) {
                self.kill(owner);
            }
            if self.owners[p].is_none() {
                self.after(1, Ev::Start { pchannel: p, same_term: false });
            }
        }
        self.finish_work();
        self.after(1_000, Ev::Poll);
    }

    fn poll(&mut self) -> Verdict {
        self.after(1_000, Ev::Poll);
        let Some(missing) = self.missing() else {
            return self.end();
        };
        if self.now > self.calm_since + LIVENESS_MS {
            return broken("liveness", format!("{missing}; {}", self.state()));
        }
        Ok(())
    }

    /// What has not come to its end yet.
    fn missing(&mut self) -> Option<String> {
        if self.workload.has_unfinished() {
            // What lost its turn is asked for again.
            self.finish_work();
            return Some("the workload is not through".to_owned());
        }
        let detached = self.detached();
        let rules = &self.service.rules;
        for (vchannel, tick) in self.workload.flushed_at() {
            if self.judge.is_excused(vchannel) || detached.contains(vchannel) {
                continue;
            }
            let stored = rules.checkpoint_tick(vchannel).unwrap_or_default();
            if stored < *tick {
                return Some(format!("IS-1: the checkpoint of {vchannel} is at {stored}, its flush was at {tick}"));
            }
        }
        for vchannel in self.workload.dropped_channels() {
            if rules.checkpoint_tick(vchannel) != Some(u64::MAX) && !detached.contains(vchannel) {
                return Some(format!("{vchannel} is not dropped"));
            }
        }
        for (p, owner) in self.owners.iter().enumerate() {
            let Some(core) = owner.and_then(|o| self.processes[o].core.as_ref()) else { return Some(format!("pchannel {p} has no owner")) };
            let moved = *core.phase() == Phase::LogMoved && self.workload.has_moved(p);
            if *core.phase() != Phase::Working && !moved {
                return Some(format!("pchannel {p} is {:?}", core.phase()));
            }
            if let Some(missing) = owner.and_then(|o| self.processes[o].side.model.missing(core)) {
                return Some(missing);
            }
            let is_given_up = |v: &str| detached.contains(v) || self.judge.is_excused(v);
            if let Some(account) = core.accounts().find(|c| !c.ledger.is_closed() && !is_given_up(&c.name)) {
                return Some(format!("LD-1: the ledger of {} is open: {:?}", account.name, account.ledger));
            }
            if let Some(account) = core.accounts().find(|c| !c.pins.is_empty() && !is_given_up(&c.name)) {
                return Some(format!("{} has {} messages that are not finished", account.name, account.pins.len()));
            }
            if core.accounts().any(|c| is_given_up(&c.name)) {
                continue;
            }
            let stored = |s: &tidegate_core::coordinator::Shard| self.service.rules.checkpoint_tick(&s.vchannel).unwrap_or_default();
            let shards = self.service.rules.collections().flat_map(|c| &c.shards).filter(|s| pchannel_of(&s.vchannel) == self.logs[p].name);
            let behind = shards.map(stored).min().filter(|&at| self.judge.consumed_at(&self.logs[p].name) + (60_000 << LOGICAL_BITS) < at);
            if let Some(at) = behind.filter(|&at| at != u64::MAX) {
                return Some(format!("the consume checkpoint of pchannel {p} does not follow: its channels are at {at}"));
            }
            if core.held_bytes() > 0 {
                return Some(format!("ME-1: pchannel {p} holds {} bytes at the end", core.held_bytes()));
            }
        }
        let broken_by_nature = |v: &String| self.judge.is_excused(v);
        if !self.recovered_again && detached.iter().any(|v| !broken_by_nature(v)) {
            // A detached channel is served again by the next recovery.
            self.recovered_again = true;
            for p in 0..self.owners.len() {
                if let Some(owner) = self.owners[p].take() {
                    self.processes[owner].die();
                }
                self.after(1, Ev::Start { pchannel: p, same_term: false });
            }
            return Some("detached channels are recovered".to_owned());
        }
        detached.into_iter().find(|v| !self.judge.is_excused(v)).map(|v| format!("{v} is detached again after a recovery without faults"))
    }

    fn detached(&self) -> BTreeSet<String> {
        let owners = self.owners.iter().flatten().filter_map(|&o| self.processes[o].core.as_ref());
        let accounts = owners.flat_map(|core| core.accounts());
        accounts.filter(|c| matches!(c.standing, Standing::Detached { .. })).map(|c| c.name.clone()).collect()
    }

    fn end(&mut self) -> Verdict {
        self.done = true;
        let skip = BTreeSet::new();
        self.judge.end(&self.service.rules, &skip)
    }

    /// Lets the storage write real files.
    pub fn write_real_files(&mut self, files: Box<dyn crate::storage::Files>) {
        self.storage.be_real(files);
    }

    /// Every segment that the coordinator knows.
    pub fn segments(&self) -> Vec<tidegate_core::calls::SegmentInfo> {
        self.service.rules.every_segment().cloned().collect()
    }

    /// The rows of flushed segments at the end.
    pub fn rows_of_segments(&self) -> BTreeMap<i64, Vec<i64>> {
        self.judge.rows_of_segments(&self.service.rules, &self.storage)
    }

    fn state(&self) -> String {
        let owners = self.owners.iter().flatten().filter_map(|&o| self.processes[o].core.as_ref());
        let of = |core: &tidegate_core::pchannel::Pchannel| {
            let status = core.status();
            let pins: Vec<String> = status.channels.iter().map(|c| format!("{}: {}", c.vchannel, clip(&c.pin))).collect();
            format!("{} is {} ({:?}), holds {} bytes; {}", status.pchannel, status.state, status.reason, core.held_bytes(), pins.join("; "))
        };
        clip(&owners.map(of).collect::<Vec<_>>().join(" | "))
    }
}

/// A text, at most a line of it.
pub(crate) fn clip(text: &str) -> String {
    text.chars().take(3_000).collect()
}

fn describe(call: &Call) -> String {
    match call {
        Call::SaveBinlogPaths(s) => format!(
            "save segment {} {:?} dml {} rows {} flushed {} dropped {} files {}",
            s.segment,
            s.level,
            s.dml.tick,
            s.rows,
            s.flushed,
            s.dropped,
            s.files.iter().count()
        ),
        other => clip(&format!("{other:?}")),
    }
}
