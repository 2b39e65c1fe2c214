//! A flusher's process: the real core, an instance of the guest, a scan; and how the world drives them.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_core::account::Standing;
use tidegate_core::calls::{CallError, Caller};
use tidegate_core::journal::Turn;
use tidegate_core::pchannel::{Action, Event, Limits, MessageNames, Outcome, Pchannel, Phase, Version, Work, WriteJob};
use tidegate_core::retry::CallId;
use tidegate_core::scan::{ScanLimits, Scanner};
use tidegate_core::turn::{Fault, FilterReason, Filtered, Intent, TurnInput, TurnOutput};
use tidegate_flusher::contract::Config;
use tidegate_message::{MessageId, build};

use crate::judge::{Verdict, broken};
use crate::log::{Append, Effect, raw};
use crate::reading::{Largest, Scan};
use crate::scenario::{Cut, Trouble};
use crate::swap::{PROBATION, Side, is_step};
use crate::swap_judge::Before;
use crate::versions::{Instance, OLD, is_old_form};
use crate::world::{Ev, World, clip};

/// Events between two looks at everything that a core holds.
const DEEP_LOOK: u64 = 64;

/// The clock of a process: monotonic, and nobody else's.
#[derive(Clone, Copy, Debug)]
struct Clock {
    offset: u64,
    /// Of the world's.
    percent: u64,
}

impl Clock {
    fn at(self, now: u64) -> u64 {
        self.offset + now * self.percent / 100
    }

    /// When it shows a time, in the world's.
    fn when(self, at: u64) -> u64 {
        (at.saturating_sub(self.offset) * 100).div_ceil(self.percent)
    }
}

/// One incarnation of a pchannel's flusher.
pub(crate) struct Process {
    pub pchannel: usize,
    pub caller: Caller,
    /// `None` when it is dead.
    pub core: Option<Pchannel>,
    pub guest: Option<Instance>,
    todo: VecDeque<Action>,
    pub scan: Option<Scan>,
    /// The scan of a channel that rejoins, and the channel.
    pub catch_up: Option<(Scan, String)>,
    /// Files that are being written.
    pub writing: usize,
    clock: Clock,
    inbox: Vec<Event>,
    pub paused: bool,
    pub wake_at: Option<u64>,
    pub pumping: bool,
    pub config: Config,
    pub largest: Largest,
    /// The same of what was read a second time.
    pub largest_again: Largest,
    looks: u64,
    fenced: bool,
    /// Its component lied: what it is rebuilt from is not what it would say.
    pub lied: bool,
    /// A snapshot was damaged: nothing starts from it.
    pub garbled: bool,
    pub side: Side,
    /// The last message that its component took.
    taken: u64,
    /// Instances that were made.
    pub builds: u64,
}

impl Process {
    pub fn die(&mut self) {
        self.core = None;
        self.guest = None;
        self.forget_snapshots();
        self.scan = None;
        self.catch_up = None;
        self.todo.clear();
        self.inbox.clear();
    }

    /// Whether a channel is being caught up.
    pub fn catches_up(&self) -> bool {
        self.catch_up.is_some()
    }

    /// Whether more is to be said of versions.
    pub fn has_more_to_tell(&self) -> bool {
        self.todo.iter().any(|action| matches!(action, Action::Swapped(_)))
    }

    /// A reader at the end of the log hears that time goes on.
    pub fn idle_tick(&mut self, pchannel: usize, term: i64, end: i64, tick: u64, last_confirmed: i64) {
        if self.pchannel != pchannel || self.caller.term != term {
            return;
        }
        let again = self.catch_up.as_mut().map(|(scan, _)| scan);
        for scan in self.scan.as_mut().into_iter().chain(again).filter(|s| s.next == end && s.ready.len() < 64) {
            let mut out = Vec::new();
            scan.scanner.idle_tick(tick, MessageId::RocksMq(last_confirmed), &mut out);
            scan.ready.extend(out);
        }
    }
}

impl World<'_> {
    /// A process takes a pchannel over.
    pub(crate) fn start(&mut self, p: usize, same_term: bool) -> Verdict {
        if self.owners[p].is_some_and(|o| self.processes[o].core.is_some()) || self.workload.holds_back(p) {
            return Ok(());
        }
        let name = self.logs[p].name.clone();
        let term = if same_term && self.logs[p].term > 0 {
            self.logs[p].term
        } else {
            let Ok((term, writes)) = self.service.rules.acquire_term(&name) else { return Ok(()) };
            self.service.store(writes);
            self.judge.term(&name, term);
            self.logs[p].term = term;
            // As the embedded log does: transactions of older terms end with them.
            let open = self.logs[p].open_on(None);
            let rollback = |(vchannel, txn)| Append {
                txn: Some(txn),
                ..Append::new(build::rollback_txn(&String::clone(&vchannel), &txn), Effect::Rollback)
            };
            if !open.is_empty() {
                self.tally.count("F-54");
            }
            let rollbacks = open.into_iter().map(rollback).collect();
            self.append(p, rollbacks);
            self.workload.forget_slots(p);
            term
        };
        let caller = Caller { node_id: self.processes.len() as i64 + 1, pchannel: name.clone(), term };
        let s = &self.settings;
        let limits = Limits {
            bytes_max: s.bytes_max,
            page_max: s.page_max as usize,
            group_ends_max: s.group_ends_max,
            writes_max: s.writes_max,
            probation: PROBATION,
            journal_turns_max: s.journal_turns_max,
            ..Limits::default()
        };
        let config = Config {
            pchannel: name,
            term,
            insert_bytes_max: s.insert_bytes_max,
            delete_bytes_max: s.insert_bytes_max,
            sync_period_ms: s.sync_period_ms,
            report_period_ms: s.report_period_ms,
            reports_max: s.reports_max,
            idle_tick_ms: 1_000,
            page_max: s.page_max.min(s.take_max),
        };
        let clock = Clock { offset: self.rng.below(10_000_000), percent: self.rng.one_of(&[100, 100, 95, 110]) };
        if clock.percent != 100 {
            self.tally.count("F-53");
        }
        self.owners[p] = Some(self.processes.len());
        let (side, version, good, on_probation) = self.open_directory(p);
        let mut core = Pchannel::new(caller.clone(), limits).running(version, good, on_probation);
        core.remember(self.poison[p].clone(), MessageNames::default());
        self.processes.push(Process {
            pchannel: p,
            core: Some(core),
            caller,
            guest: None,
            todo: VecDeque::new(),
            scan: None,
            catch_up: None,
            writing: 0,
            clock,
            inbox: Vec::new(),
            paused: false,
            wake_at: None,
            pumping: false,
            config,
            largest: Largest::default(),
            largest_again: Largest::default(),
            looks: 0,
            fenced: false,
            lied: false,
            garbled: false,
            side,
            taken: 0,
            builds: 0,
        });
        let process = self.processes.len() - 1;
        self.trace.say(self.now, || format!("#{process} starts in term {term}"));
        self.feed(process, Event::Start)
    }

    pub(crate) fn kill(&mut self, process: usize) {
        self.trace.say(self.now, || format!("#{process} dies"));
        self.met_by_death(process, false);
        self.close_directory(process);
        self.processes[process].die();
        let p = self.processes[process].pchannel;
        if self.owners[p] == Some(process) {
            self.owners[p] = None;
        }
    }

    pub(crate) fn resume(&mut self, process: usize) -> Verdict {
        self.processes[process].paused = false;
        let inbox = std::mem::take(&mut self.processes[process].inbox);
        for event in inbox {
            self.feed(process, event)?;
        }
        self.feed(process, Event::Wake)
    }

    /// Gives an event to a process and does what it wants, as the driver of a node does.
    pub(crate) fn feed(&mut self, process: usize, event: Event) -> Verdict {
        let here = &mut self.processes[process];
        if here.core.is_none() {
            return Ok(());
        }
        if here.paused {
            here.inbox.push(event);
            return Ok(());
        }
        if let Event::Ended { id, result } = &event {
            self.under_way.answered(process, *id, result, self.now);
        }
        let mut event = Some(event);
        let mut events = 0;
        while let Some(next) = event.take() {
            events += 1;
            if events > 10_000 {
                return broken("liveness", format!("#{process}: core and component keep each other busy"));
            }
            self.tally.steps += 1;
            let here = &mut self.processes[process];
            let Some(core) = here.core.as_mut() else { return Ok(()) };
            let before = Before::of(core, &next);
            let mut actions = Vec::new();
            core.step(next, here.clock.at(self.now), &mut actions);
            here.side.model.look(before, core, here.lied, &actions)?;
            here.todo.extend(actions);
            self.look(process)?;
            while event.is_none() {
                let Some(action) = self.processes[process].todo.pop_front() else { break };
                let of_swap = is_step(&action, self.processes[process].core.as_ref());
                event = self.perform(process, action)?;
                let cut = self.is_cut_now();
                if let Some(cut) = cut.or_else(|| if of_swap { self.cut_in_swap(process) } else { None }) {
                    let p = self.processes[process].pchannel;
                    match cut {
                        Cut::PowerLoss => self.cut = Some(Cut::PowerLoss),
                        Cut::Kill | Cut::KillSameTerm => {
                            self.kill(process);
                            self.after(10, Ev::Start { pchannel: p, same_term: cut == Cut::KillSameTerm });
                        }
                    }
                    return Ok(());
                }
            }
        }
        self.end_swap(process);
        self.settle(process);
        Ok(())
    }

    /// Sees to it that the process is called when time has passed, and reads on if it may.
    fn settle(&mut self, process: usize) {
        let here = &mut self.processes[process];
        let Some(core) = &here.core else { return };
        if let Some(at) = core.next_wake() {
            let at = here.clock.when(at).max(self.now + 1);
            if here.wake_at.is_none_or(|w| at < w || w < self.now) {
                here.wake_at = Some(at);
                self.at(at, Ev::Wake(process));
            }
        }
        self.pump_soon(process);
    }

    fn perform(&mut self, process: usize, action: Action) -> Result<Option<Event>, crate::judge::Violation> {
        let who = process as u64;
        match action {
            Action::Build { version, resume, replay } => {
                self.trace.mix(&[5, who, replay.len() as u64]);
                self.trace.say(self.now, || format!("#{process} build, {} turns, snapshot {}", replay.len(), resume.is_some()));
                if !replay.is_empty() {
                    self.tally.count("S-02");
                }
                if self.goes_back(process) && resume.is_some() {
                    self.tally.count("S-23");
                }
                match resume {
                    Some(_) => self.tally.count("S-03"),
                    None => self.processes[process].forget_snapshots(),
                }
                self.processes[process].guest = None;
                self.processes[process].builds += 1;
                if self.is_unfit(process) || self.strikes(Trouble::BuildFails) {
                    return Ok(Some(Event::Built(Err(Fault::Trap("no instance, says the engine".into())))));
                }
                let built = self.build(process, &version, resume.as_deref().map(Vec::as_slice), &replay)?;
                return Ok(Some(Event::Built(built)));
            }
            Action::Turn(input) => {
                let result = self.turn(process, &input)?;
                let event = Event::Turned(result);
                if self.settings.slow_turns && self.rng.percent(10) {
                    let wait = self.rng.between(1, 50);
                    self.after(wait, Ev::Late { to: process, of: self.processes[process].builds, event });
                    return Ok(None);
                }
                return Ok(Some(event));
            }
            Action::Snapshot => {
                self.trace.mix(&[6, who]);
                return Ok(Some(self.take_snapshot(process)));
            }
            Action::Begin { id, work } => return self.begin(process, id, work),
            Action::CloseScan => {
                self.processes[process].scan = None;
                self.processes[process].catch_up = None;
            }
            Action::Recorded(_) | Action::RecordingEnds(_) => {}
            Action::CloseCatchUp => self.processes[process].catch_up = None,
            Action::Stand { .. } | Action::AskOld | Action::Commit | Action::Dismiss | Action::Swapped(_) => {
                self.trace.mix(&[12, self.now, who]);
                self.trace.say(self.now, || format!("#{process} {}", clip(&format!("{action:?}"))));
                return self.hand_over(process, action);
            }
            Action::DeadLetter(letter) => {
                self.tally.count("S-06");
                if letter.reason.contains("transaction") {
                    self.tally.count("S-47");
                }
                self.trace.say(self.now, || format!("#{process} sets {} aside: {}", letter.id, letter.reason));
                let name = self.processes[process].caller.pchannel.clone();
                if letter.poison {
                    let p = self.processes[process].pchannel;
                    self.poison[p].insert(letter.id.clone(), letter.vchannel.clone(), letter.tick);
                }
                self.judge.set_aside(&name, raw(&letter.id), &letter.reason)?;
            }
            Action::Truncate(up_to) => {
                let up_to = raw(&up_to);
                let p = self.processes[process].pchannel;
                self.trace.mix(&[7, who, up_to as u64]);
                self.trace.say(self.now, || format!("#{process} truncates before {up_to}"));
                if self.logs[p].term == self.processes[process].caller.term {
                    let name = self.logs[p].name.clone();
                    self.judge.must_remain(&name, up_to, &self.service.rules)?;
                    if up_to > self.logs[p].first() {
                        self.tally.count("S-07");
                        self.met_by_truncation(process);
                    }
                    self.logs[p].truncate(up_to);
                }
            }
            Action::Broadcast { .. } => {}
            Action::Notice(_, text) => self.heard(process, &text)?,
        }
        Ok(None)
    }

    fn build(
        &mut self,
        process: usize,
        version: &Version,
        resume: Option<&[u8]>,
        replay: &[Turn],
    ) -> Result<Result<(), Fault>, crate::judge::Violation> {
        let here = &self.processes[process];
        let mut guest = match Instance::start(self.guests, version, &here.config, resume) {
            Ok(guest) => guest,
            Err(fault) if here.garbled || resume.is_some_and(|r| !is_old_form(r)) && **version == *OLD => return Ok(Err(fault)),
            Err(fault) => return broken("DT-1", format!("#{process} does not start from its own snapshot: {fault}")),
        };
        for (nth, turn) in replay.iter().enumerate() {
            match guest.turn(&turn.input) {
                Ok(output) if output == *turn.output => {}
                Ok(_) if self.processes[process].lied => {
                    return Ok(Err(Fault::Start("the component is not deterministic".into())));
                }
                Ok(output) => {
                    let text = format!(
                        "turn {nth} of the journal gave {}, not {}",
                        clip(&format!("{output:?}")),
                        clip(&format!("{:?}", turn.output))
                    );
                    return broken("DT-1", text);
                }
                Err(fault) => return Ok(Err(fault)),
            }
        }
        self.processes[process].guest = Some(guest);
        Ok(Ok(()))
    }

    fn turn(&mut self, process: usize, input: &Arc<TurnInput>) -> Result<Result<TurnOutput, Fault>, crate::judge::Violation> {
        if input.pressure > 0 {
            self.met_by_pressure(process);
        }
        if self.strikes(Trouble::Trap) {
            self.processes[process].guest = None;
            return Ok(Err(Fault::Trap("unreachable".into())));
        }
        let limit = if self.strikes(Trouble::TurnLimit) { Some(self.one_fault()) } else { self.upset_faults(process) };
        if let Some(fault) = limit {
            self.processes[process].guest = None;
            return Ok(Err(fault));
        }
        let Some(guest) = &mut self.processes[process].guest else { return Ok(Err(Fault::Trap("no instance".into()))) };
        guest.check_page(&input.page)?;
        let mut output = match guest.turn(input) {
            Ok(output) => output,
            Err(fault) => return Ok(Err(fault)),
        };
        self.upset_lies(process, &mut output);
        if output.taken > 0 {
            self.processes[process].taken = input.page.first + output.taken as u64 - 1;
        }
        if self.processes[process].taken > 0 && self.strikes(Trouble::Lies) {
            self.processes[process].lied = true;
            self.lie(process, &mut output);
        }
        self.trace.mix(&[8, self.now, process as u64, input.page.len() as u64, output.taken as u64, output.intents.len() as u64]);
        for intent in &output.intents {
            self.trace.mix(&numbers(intent));
        }
        self.trace.say(self.now, || {
            let completions: Vec<String> =
                input.completions.iter().map(|c| clip(&format!("{:?}/{}: {:?}", c.kind, c.up_to, c.outcome))).collect();
            format!(
                "#{process} turn {:?} page {}+{} {:?} -> {}",
                completions,
                input.page.first,
                input.page.len(),
                input.page.kinds,
                clip(&format!("{output:?}"))
            )
        });
        if output.report.pressure_cuts > 0 {
            self.tally.count("S-08");
        }
        Ok(Ok(output))
    }

    /// Puts a claim into a turn's output that is not so: the guard is there to refuse it.
    fn lie(&mut self, process: usize, output: &mut TurnOutput) {
        let last = self.processes[process].taken;
        let channel = self.rng.below(4) as u32;
        let reasons = [
            FilterReason::Duplicate,
            FilterReason::DroppedSegment,
            FilterReason::ForeignCollection,
            FilterReason::DroppedChannel,
            FilterReason::UnknownChannel,
            FilterReason::DroppedPartition,
            FilterReason::UnknownSegment,
            FilterReason::Repeated,
        ];
        match self.rng.below(6) {
            0 => {
                let reason = self.rng.one_of(&reasons);
                output.intents.push(Intent::Filter(vec![Filtered { channel, first: 1, last, reason }]));
            }
            1 => output.intents.push(Intent::SaveCheckpoint(last)),
            2 => output.intents.push(Intent::Report(vec![(channel, last)])),
            3 => output.intents.push(Intent::DropChannel { channel, at: last }),
            4 => output.intents.push(Intent::AllocSegment { channel, at: last }),
            _ => {
                for intent in &mut output.intents {
                    if let Intent::Sync { up_to, .. } = intent {
                        *up_to = up_to.saturating_sub(1 + self.rng.below(32)).max(1);
                    }
                }
            }
        }
    }

    fn begin(&mut self, process: usize, id: CallId, work: Work) -> Result<Option<Event>, crate::judge::Violation> {
        self.trace.mix(&[9, self.now, process as u64, id]);
        let p = self.processes[process].pchannel;
        match work {
            Work::Call(call) => {
                self.under_way.sent(process, id, &call, self.now)?;
                let wait = self.latency();
                self.after(wait, Ev::Arrive { from: process, id, call });
            }
            Work::Write(job) => {
                self.check_job(process, &job)?;
                self.processes[process].writing += 1;
                let wait = if self.strikes(Trouble::StorageSlow) { 20_000 } else { 1 + self.latency() };
                self.after(wait, Ev::Stored { by: process, id, job });
            }
            Work::AppendFlush { vchannel, collection, partition, segment } => {
                if self.logs[p].term != self.processes[process].caller.term {
                    let result = Err(CallError::Fenced("the log is of a newer term".into()));
                    return Ok(Some(Event::Ended { id, result }));
                }
                if self.logs[p].refuses.is_some() {
                    self.judge.unsealable.insert(segment);
                }
                match self.logs[p].refuses {
                    Some(true) => return Ok(None),
                    Some(false) => {
                        let result = Err(CallError::Transient("the backlog is full".into()));
                        return Ok(Some(Event::Ended { id, result }));
                    }
                    None => {}
                }
                let effect = Effect::Seal { vchannel: vchannel.clone(), segments: vec![segment] };
                let message = build::flush(&vchannel, collection, partition, segment);
                self.append(p, vec![Append { waits: Some((process, id)), ..Append::new(message, effect) }]);
            }
            Work::OpenCatchUp { scan, vchannel, from } => {
                let first = self.logs[p].first();
                let next = from.as_ref().map_or(first, |f| raw(&f.last_confirmed)).max(first);
                self.trace.say(self.now, || format!("#{process} catches {vchannel} up from {next}"));
                let limits = ScanLimits { held_bytes_max: self.settings.scan_bytes_max, ..ScanLimits::default() };
                let scan = Scan { id: scan, next, scanner: Scanner::new(limits), ready: VecDeque::new() };
                self.processes[process].catch_up = Some((scan, vchannel));
                return Ok(Some(Event::Ended { id, result: Ok(Outcome::Opened) }));
            }
            Work::OpenScan { scan, from } => {
                let first = self.logs[p].first();
                let next = from.as_ref().map_or(first, |f| raw(&f.last_confirmed));
                self.trace.say(self.now, || format!("#{process} scans from {next}"));
                if next < first.max(0) && first > 0 {
                    // As the node does: it goes on at the earliest record that is left. That nothing was needed, the judge saw to.
                    self.tally.count("S-17");
                }
                let next = next.max(first);
                let limits = ScanLimits { held_bytes_max: self.settings.scan_bytes_max, ..ScanLimits::default() };
                self.processes[process].scan = Some(Scan { id: scan, next, scanner: Scanner::new(limits), ready: VecDeque::new() });
                return Ok(Some(Event::Ended { id, result: Ok(Outcome::Opened) }));
            }
        }
        Ok(None)
    }

    /// FL-3: bodies in the order of the log; and rows of one schema, theirs.
    fn check_job(&self, process: usize, job: &WriteJob) -> Verdict {
        if !job.bodies.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1) {
            return broken("FL-3", format!("#{process} writes segment {} in another order than the log's", job.segment));
        }
        if job.deletes {
            return Ok(());
        }
        let last = job.bodies.last().map_or(0, |b| b.1);
        let before: usize = job.bodies.iter().filter(|b| b.1 < last).map(|b| b.2.len()).sum();
        if before as u64 >= self.settings.insert_bytes_max && !self.processes[process].lied {
            return broken("FL-3", format!("#{process} writes a batch of segment {} that was full {before} bytes ago", job.segment));
        }
        let vchannel = self.service.rules.segment(job.segment).map(|s| s.vchannel.clone()).unwrap_or_default();
        for (ordinal, tick, _) in &job.bodies {
            if let Some(version) = self.judge.schema_version(&vchannel, *tick).filter(|v| *v != job.schema.version) {
                let found = job.schema.version;
                return broken("FL-2", format!("message {ordinal} of {vchannel} has schema {version}, it is written with {found}"));
            }
        }
        Ok(())
    }

    pub(crate) fn stored(&mut self, by: usize, id: CallId, job: &WriteJob, of_before: bool) -> Verdict {
        self.tally.steps += 1;
        self.processes[by].writing = self.processes[by].writing.saturating_sub(1);
        if of_before || self.processes[by].core.is_none() {
            // Whoever wrote is dead: the files may be there, or half of one.
            if self.rng.percent(50) {
                self.ids += 1;
                self.storage.put_partial(format!("insert_log/{}/{}/{}/{}", job.collection, job.partition, job.segment, self.ids));
            }
            return Ok(());
        }
        let down = |why: &str| Err(CallError::Transient(why.to_owned()));
        let result = if self.strikes(Trouble::DiskFull) {
            down("no space left")
        } else if self.strikes(Trouble::StorageDown) {
            down("503")
        } else if self.strikes(Trouble::StoragePartial) {
            self.ids += 1;
            self.storage.put_partial(format!("insert_log/{}/{}/{}/{}", job.collection, job.partition, job.segment, self.ids));
            down("disk full")
        } else if job.flush && !job.earlier_statistics.is_empty() && self.strikes(Trouble::BitsFlip) {
            Err(CallError::Permanent("a file that is read back is damaged".to_owned()))
        } else {
            let written = self.storage.write(job, &mut self.ids);
            if self.strikes(Trouble::StorageReset) { down("connection reset") } else { written }
        };
        self.trace.say(self.now, || format!("#{by} write {id} of segment {}: {}", job.segment, clip(&format!("{result:?}"))));
        self.feed(by, Event::Ended { id, result })
    }

    /// What must hold after every step of a core.
    fn look(&mut self, process: usize) -> Verdict {
        let here = &mut self.processes[process];
        let Some(core) = &here.core else { return Ok(()) };
        here.looks += 1;
        if matches!(core.phase(), Phase::Fenced(_)) && !here.fenced {
            here.fenced = true;
            self.tally.count("S-05");
            self.met_by_fence(process);
            return Ok(());
        }
        let deep = here.looks.is_multiple_of(DEEP_LOOK);
        for account in core.accounts() {
            let ledger = &account.ledger;
            if !(ledger.inserts.balances() && ledger.deletes.balances()) {
                return broken("LD-1", format!("#{process}: the ledger of {} does not balance: {ledger:?}", account.name));
            }
            if !deep {
                continue;
            }
            match &account.standing {
                Standing::Detached { .. } => self.tally.count("S-01"),
                _ => {
                    let (mut inserts, mut deletes) = (0, 0);
                    for pin in account.pins.values() {
                        match &pin.what {
                            tidegate_core::account::Pinned::Rows { rows, .. } => inserts += rows,
                            tidegate_core::account::Pinned::Deletes { rows, .. } => deletes += rows,
                            tidegate_core::account::Pinned::Control(_) => {}
                        }
                    }
                    if (inserts, deletes) != (ledger.inserts.pending, ledger.deletes.pending) {
                        let name = &account.name;
                        return broken("LD-1", format!("#{process}: {name} has pins of {inserts}+{deletes} rows, its ledger {ledger:?}"));
                    }
                }
            }
            let saved = self.judge.saved_rows(&account.name);
            if ledger.inserts.durable > saved {
                let (name, durable) = (&account.name, ledger.inserts.durable);
                return broken("LD-1", format!("#{process}: the ledger of {name} has {durable} durable rows, its segments {saved}"));
            }
            if ledger.inserts.duplicate > 0 {
                self.tally.count("S-12");
            }
            if ledger.inserts.filtered.contains_key(&FilterReason::UnknownSegment) {
                return broken("LD-1", format!("#{process}: rows of {} are filtered as of an unknown segment", account.name));
            }
        }
        if matches!(core.phase(), Phase::Backoff(_)) && deep {
            self.tally.count("S-04");
        }
        if *core.phase() == Phase::InRecovery && core.accounts().next().is_none() && core.held_bytes() > 0 {
            return broken("ME-1", format!("#{process} holds {} bytes of a scan that is over", core.held_bytes()));
        }
        // ME-1: the budget, one group of each scan beyond it, and as much again for columns.
        let beyond = here.largest.bytes + here.largest_again.bytes + self.workload.largest_txn();
        let most = 2 * (self.settings.bytes_max + beyond);
        if core.held_bytes() > most {
            return broken("ME-1", format!("#{process} holds {} bytes, {most} are allowed", core.held_bytes()));
        }
        Ok(())
    }
}

/// An intent as numbers.
fn numbers(intent: &Intent) -> [u64; 4] {
    match intent {
        Intent::VChannels => [1, 0, 0, 0],
        Intent::RecoveryInfo(c) => [2, u64::from(*c), 0, 0],
        Intent::AppendFlush { channel, segment, .. } => [3, u64::from(*channel), *segment as u64, 0],
        Intent::Open(channels) => [4, channels.len() as u64, channels.iter().map(|&c| u64::from(c)).sum(), 0],
        Intent::AllocSegment { channel, at } => [5, u64::from(*channel), *at, 0],
        Intent::Sync { channel, segment, up_to, flush } => [6 + u64::from(*flush) * 100, u64::from(*channel), *segment as u64, *up_to],
        Intent::SyncDeletes { channel, partition, up_to } => [7, u64::from(*channel), *partition as u64, *up_to],
        Intent::DropSegment { channel, segment, at } => [8, u64::from(*channel), *segment as u64, *at],
        Intent::DropChannel { channel, at } => [9, u64::from(*channel), *at, 0],
        Intent::Filter(runs) => {
            [10, runs.len() as u64, runs.iter().map(|r| r.first).sum(), runs.iter().map(|r| r.last + r.reason as u64 * 1_000_000).sum()]
        }
        Intent::Detach { channel, reason } => [11, u64::from(*channel), reason.len() as u64, 0],
        Intent::Report(entries) => [12, entries.len() as u64, entries.iter().map(|e| e.1).sum(), 0],
        Intent::SaveCheckpoint(at) => [13, *at, 0, 0],
    }
}
