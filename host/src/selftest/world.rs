//! The real core and the real rules of the coordinator around one component, with a list for a log and a number for time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::account::Standing;
use tidegate_core::calls::{Call, CallError, Caller, Level, Position, SegmentState};
use tidegate_core::coordinator::Coordinator;
use tidegate_core::journal::Turn;
use tidegate_core::pchannel::{Action, Event, Limits, Order, Outcome, Pchannel, Phase, Verdict, Weight, Work};
use tidegate_core::retry::CallId;
use tidegate_core::scan::{ScanLimits, Scanner};
use tidegate_core::turn::Fault;
use tidegate_message::{MessageId, Record, build};

use super::script::Segment;
use super::{Failure, files};
use crate::engine::{GuestConfig, Instance, Loaded};

/// The world's pchannel.
pub(super) const PCHANNEL: &str = "selftest-dml_0";
/// Low bits of a tick.
pub(super) const LOGICAL_BITS: u32 = 18;
/// Event time between two reports of a channel, in milliseconds.
pub(super) const REPORT_MS: u64 = 1_000;
/// Event time that a batch spans at most, in milliseconds.
pub(super) const SYNC_MS: u64 = 60_000;
/// Events after which a world that is still busy is called restless: the longest scenario takes a few hundred.
const STEPS_MAX: usize = 20_000;
/// Messages that one delivery hands over.
const DELIVERY_MAX: usize = 64;
/// A wait that is a pause, in milliseconds; a longer one is none that a scenario makes.
const WAIT_MS_MAX: u64 = 60_000;

/// What a swap cost, part by part.
#[derive(Clone, Debug, Default)]
pub(crate) struct SwapCost {
    /// From the end of the old instance's last turn to the begin of the new one's first; `None` until it begins.
    pub pause: Option<Duration>,
    /// The old instance's snapshot.
    pub snapshot: Duration,
    /// A new instance from it.
    pub start: Duration,
    /// The new instance's accounts.
    pub accounts: Duration,
    /// The old instance let go.
    pub drop: Duration,
    /// Bytes of the snapshot.
    pub state_bytes: usize,
}

/// One pchannel with everything around it.
pub(crate) struct World<'a> {
    loaded: &'a Loaded,
    config: GuestConfig,
    caller: Caller,
    core: Pchannel,
    instance: Option<Instance>,
    /// Started from the running one's snapshot, and that snapshot.
    successor: Option<Instance>,
    resume: Arc<Vec<u8>>,
    orders: u64,
    /// How the last order ended.
    swapped: Option<Verdict>,
    pub(super) coordinator: Coordinator,
    pub(super) log: Vec<Record>,
    /// Of the last message.
    pub(super) tick: u64,
    pub(super) next_id: i64,
    /// Writes that are still to fail.
    pub(super) failing_writes: u32,
    /// Writes are kept until [`World::release`].
    pub(super) hold_writes: bool,
    held: Vec<(CallId, Work)>,
    /// The scan's name, how far it read, and the scanner.
    scan: Option<(u64, usize, Scanner)>,
    work: VecDeque<(CallId, Work)>,
    now_ms: u64,
    steps: usize,
    steps_max: usize,
    /// An order that comes while the next turn runs.
    order_in_turn: Option<Order>,
    /// What the last swap cost.
    pub(crate) cost: SwapCost,
    last_turn_ended: Instant,
    /// Of earlier scans.
    past: (u64, u64),
    /// The first error that the core had to tell: others follow from it.
    said: Option<String>,
}

impl<'a> World<'a> {
    pub fn new(loaded: &'a Loaded) -> Self {
        let config = GuestConfig {
            pchannel: PCHANNEL.to_owned(),
            term: 1,
            insert_bytes_max: 16 << 20,
            delete_bytes_max: 16 << 20,
            sync_period_ms: SYNC_MS,
            report_period_ms: REPORT_MS,
            reports_max: 128,
            idle_tick_ms: 100,
            page_max: 16,
        };
        let caller = Caller { node_id: 1, pchannel: PCHANNEL.to_owned(), term: 1 };
        Self {
            loaded,
            config,
            core: Pchannel::new(caller.clone(), Limits::default()),
            caller,
            instance: None,
            successor: None,
            resume: Arc::default(),
            orders: 0,
            swapped: None,
            coordinator: Coordinator::default(),
            log: Vec::new(),
            tick: 1_000_000 << LOGICAL_BITS,
            next_id: 1_000,
            failing_writes: 0,
            hold_writes: false,
            held: Vec::new(),
            scan: None,
            work: VecDeque::new(),
            now_ms: 0,
            steps: 0,
            steps_max: STEPS_MAX,
            order_in_turn: None,
            cost: SwapCost::default(),
            last_turn_ended: Instant::now(),
            past: (0, 0),
            said: None,
        }
    }

    /// Begins, and runs until nothing is left to do.
    pub fn start(&mut self) -> Result<(), Failure> {
        self.step(Event::Start)?;
        self.run()
    }

    /// Takes larger pages, and as many events as there may be; before it starts.
    pub fn with_load(&mut self, page_max: u32) {
        self.config.page_max = page_max;
        self.steps_max = usize::MAX;
        self.core = Pchannel::new(self.caller.clone(), Limits { page_max: page_max as usize, bytes_max: 1 << 30, ..Limits::default() });
    }

    /// Gives the pchannel a new budget; before it starts.
    pub fn with_budget(&mut self, bytes_max: usize) {
        self.core = Pchannel::new(self.caller.clone(), Limits { bytes_max, ..Limits::default() });
    }

    /// The process ends and another one takes over in the next term: log and coordinator stay, what was in memory is gone.
    pub fn crash(&mut self) -> Result<(), Failure> {
        self.past = (self.messages(), self.turns());
        self.config.term += 1;
        self.caller.term += 1;
        self.core = Pchannel::new(self.caller.clone(), Limits::default());
        self.instance = None;
        self.scan = None;
        self.work.clear();
        self.held.clear();
        self.start()
    }

    /// Another instance goes on from the running one's snapshot, between two turns; it must hold what the ledger has.
    pub fn succeed(&mut self) -> Result<(), Failure> {
        self.orders += 1;
        let order = Order { id: self.orders, version: self.core.version().clone() };
        self.step(Event::Order(order))?;
        self.run()?;
        self.committed()
    }

    /// Starts an instance that nobody uses.
    pub fn start_from_nothing(&self) -> Result<Instance, Failure> {
        Ok(self.loaded.start(&self.config, None)?)
    }

    /// As [`World::succeed`], but the order comes while the turn of the next messages runs, and more of them wait.
    pub fn succeed_in_turn(&mut self) -> Result<(), Failure> {
        self.orders += 1;
        self.order_in_turn = Some(Order { id: self.orders, version: self.core.version().clone() });
        self.tick()?;
        self.committed()
    }

    fn committed(&mut self) -> Result<(), Failure> {
        match self.swapped.take() {
            Some(Verdict::Committed) => Ok(()),
            other => Err(Failure::Outcome(format!("a successor of the same version does not go on: {other:?}"))),
        }
    }

    /// Does the work that was held, and runs.
    pub fn release(&mut self) -> Result<(), Failure> {
        self.hold_writes = false;
        self.work.extend(std::mem::take(&mut self.held));
        self.run()
    }

    /// Number of writes that are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Messages that the component was given.
    pub fn messages(&self) -> u64 {
        self.past.0 + self.core.counters().messages
    }

    /// Turns that it took.
    pub fn turns(&self) -> u64 {
        self.past.1 + self.core.counters().turns
    }

    /// Tick of the stored consume checkpoint.
    pub fn consumed(&self) -> u64 {
        self.core.status().consume_tick.unwrap_or_default()
    }

    /// What the flusher is doing.
    pub fn phase(&self) -> &Phase {
        self.core.phase()
    }

    /// Rows that ended as duplicates in this scan, and rows that ended durable.
    pub fn ended(&self, segment: &Segment) -> (u64, u64) {
        let ledger = self.core.accounts().find(|c| c.name == segment.vchannel).map(|c| c.ledger.clone()).unwrap_or_default();
        (ledger.inserts.duplicate, ledger.inserts.durable)
    }

    /// The segment's state at the coordinator, and its rows there.
    pub fn stored(&self, segment: &Segment) -> Option<(SegmentState, u64)> {
        self.coordinator.segment(segment.id).map(|s| (s.state, s.rows.unsigned_abs()))
    }

    /// Deletes that are stored.
    pub fn stored_deletes(&self) -> u64 {
        self.coordinator.every_segment().filter(|s| s.level == Level::L0).map(|s| s.rows.unsigned_abs()).sum()
    }

    /// A segment that must be flushed with so many rows.
    pub fn expect_flushed(&self, segment: &Segment, rows: u64) -> Result<(), Failure> {
        expect(|| format!("segment {} flushed with {rows} rows", segment.id), Some((SegmentState::Flushed, rows)), self.stored(segment))
    }

    /// Lets reports come due, then looks at everything that holds at the end of every scenario. Returns the rows in flushed segments.
    pub fn judge(&mut self) -> Result<u64, Failure> {
        let end = self.tick;
        // A log that moved has no end that time could be told about any more.
        let works = *self.core.phase() == Phase::Working;
        for _ in 0..if works { 4 } else { 0 } {
            self.pass_ms(2 * REPORT_MS);
            self.tick()?;
        }
        for account in self.core.accounts() {
            let name = &account.name;
            if !account.ledger.is_closed() {
                return Err(Failure::Outcome(format!("the ledger of {name} does not close: {:?}", account.ledger)));
            }
            let checkpoint = self.coordinator.checkpoint_tick(name).unwrap_or_default();
            if works && account.standing == Standing::Served && checkpoint < end {
                return Err(Failure::Outcome(format!("the checkpoint of {name} is at tick {checkpoint}, the log's end at {end}")));
            }
        }
        if works && self.consumed() < end {
            let consumed = self.consumed();
            return Err(Failure::Outcome(format!("the consume checkpoint is at tick {consumed}, the log's end at {end}")));
        }
        let flushed = self.coordinator.every_segment().filter(|s| s.level == Level::L1 && s.state == SegmentState::Flushed);
        Ok(flushed.map(|s| s.rows.unsigned_abs()).sum())
    }

    /// Runs until nothing is left to do; backoffs pass at once.
    pub fn run(&mut self) -> Result<(), Failure> {
        loop {
            if let Some((id, work)) = self.work.pop_front() {
                self.work(id, work)?;
            } else if !self.deliver()? {
                match self.core.next_wake().filter(|&at| at <= self.now_ms + WAIT_MS_MAX) {
                    Some(at) => {
                        self.now_ms = self.now_ms.max(at);
                        self.step(Event::Wake)?;
                    }
                    None => return Ok(()),
                }
            }
        }
    }

    fn step(&mut self, event: Event) -> Result<(), Failure> {
        let mut todo = VecDeque::new();
        let mut event = Some(event);
        while let Some(next) = event.take() {
            self.steps += 1;
            if self.steps > self.steps_max {
                return Err(Failure::Restless(self.steps_max));
            }
            let mut actions = Vec::new();
            if matches!(next, Event::Turned(_))
                && let Some(order) = self.order_in_turn.take()
            {
                self.core.step(Event::Order(order), self.now_ms, &mut actions);
            }
            self.core.step(next, self.now_ms, &mut actions);
            todo.extend(actions);
            while event.is_none()
                && let Some(action) = todo.pop_front()
            {
                event = self.perform(action)?;
            }
        }
        self.look()
    }

    /// What must hold after every event.
    fn look(&self) -> Result<(), Failure> {
        let said = || self.said.clone().unwrap_or_default();
        let counters = self.core.counters();
        if counters.guard_refusals > 0 {
            return Err(Failure::Refused(said()));
        }
        for account in self.core.accounts() {
            if let Standing::Detached { reason, .. } = &account.standing {
                return Err(Failure::Detached { channel: account.name.clone(), reason: reason.clone() });
            }
        }
        if counters.dead_letters > 0 {
            return Err(Failure::Outcome(format!("a good message was set aside: {}", said())));
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<Option<Event>, Failure> {
        match action {
            // There is one version, whatever its name.
            Action::Build { resume, replay, version: _ } => {
                self.instance = Some(self.build(resume.as_deref().map(Vec::as_slice), &replay)?);
                return Ok(Some(Event::Built(Ok(()))));
            }
            Action::Stand { version: _, resume } => {
                let began = Instant::now();
                let mut successor = self.loaded.start(&self.config, Some(&resume))?;
                self.cost.start = began.elapsed();
                let began = Instant::now();
                let told = successor.told(&resume)?;
                self.cost.accounts = began.elapsed();
                self.cost.state_bytes = resume.len();
                self.successor = Some(successor);
                self.resume = resume;
                return Ok(Some(Event::Stood(Ok(told))));
            }
            Action::AskOld => {
                let told = self.loaded.start(&self.config, Some(&self.resume))?.told(&self.resume)?;
                return Ok(Some(Event::OldTold(Ok(told))));
            }
            Action::Commit => {
                let began = Instant::now();
                self.instance = self.successor.take();
                self.cost.drop = began.elapsed();
                self.cost.pause = None;
            }
            Action::Dismiss => self.successor = None,
            Action::Swapped(step) => self.swapped = Some(step.verdict),
            Action::Turn(input) => {
                self.cost.pause.get_or_insert(self.last_turn_ended.elapsed());
                let output = self.running()?.turn(&input)?;
                self.last_turn_ended = Instant::now();
                return Ok(Some(Event::Turned(Ok(output))));
            }
            Action::Snapshot => {
                let began = Instant::now();
                let snapshot = self.running()?.snapshot()?;
                self.cost.snapshot = began.elapsed();
                return Ok(Some(Event::Snapshot(Ok(snapshot))));
            }
            Action::Begin { id, work: Work::OpenScan { scan, from } } => {
                let from = match from {
                    Some(Position { last_confirmed: MessageId::RocksMq(id), .. }) => usize::try_from(id).unwrap_or_default(),
                    _ => 0,
                };
                self.scan = Some((scan, from, Scanner::new(ScanLimits::default())));
                return Ok(Some(Event::Ended { id, result: Ok(Outcome::Opened) }));
            }
            Action::Begin { id, work } => self.work.push_back((id, work)),
            Action::CloseScan => self.scan = None,
            Action::Recorded(_) | Action::RecordingEnds(_) => {}
            Action::CloseCatchUp => {}
            Action::Notice(Weight::Error, text) => {
                self.said.get_or_insert(text);
            }
            Action::DeadLetter(_) | Action::Truncate(_) | Action::Broadcast { .. } | Action::Notice(..) => {}
        }
        Ok(None)
    }

    fn build(&self, resume: Option<&[u8]>, replay: &[Turn]) -> Result<Instance, Failure> {
        let mut instance = self.loaded.start(&self.config, resume)?;
        for turn in replay {
            if instance.turn(&turn.input)? != *turn.output {
                return Err(Failure::Outcome("the same turn gives other intents when it is run again".to_owned()));
            }
        }
        Ok(instance)
    }

    fn running(&mut self) -> Result<&mut Instance, Failure> {
        self.instance.as_mut().ok_or_else(|| Failure::Fault(Fault::Trap("no instance".to_owned())))
    }

    fn deliver(&mut self) -> Result<bool, Failure> {
        if !self.core.wants_messages() {
            return Ok(false);
        }
        let Some((scan, at, scanner)) = &mut self.scan else { return Ok(false) };
        let mut messages = Vec::new();
        while *at < self.log.len() && messages.len() < DELIVERY_MAX {
            scanner.push(self.log[*at].clone(), &mut messages);
            *at += 1;
        }
        let scan = *scan;
        if messages.is_empty() {
            return Ok(false);
        }
        self.step(Event::Delivered { scan, messages })?;
        Ok(true)
    }

    fn work(&mut self, id: CallId, work: Work) -> Result<(), Failure> {
        let result = match &work {
            Work::Write(_) if self.hold_writes => {
                self.held.push((id, work));
                return Ok(());
            }
            Work::Write(_) if self.failing_writes > 0 => {
                self.failing_writes -= 1;
                Err(CallError::Transient("the storage is not there".to_owned()))
            }
            Work::Write(job) => files::written(job, &mut self.next_id),
            Work::Call(call) => self.call(call),
            Work::AppendFlush { vchannel, collection, partition, segment } => {
                self.append(build::flush(vchannel, *collection, *partition, *segment));
                Ok(Outcome::Appended)
            }
            // A scan is opened at once, and a channel that is detached has failed the test before it is read again.
            Work::OpenScan { .. } | Work::OpenCatchUp { .. } => Ok(Outcome::Opened),
        };
        self.step(Event::Ended { id, result })
    }

    fn call(&mut self, call: &Call) -> Result<Outcome, CallError> {
        self.coordinator.call(&self.caller, call).0.map(Outcome::Reply)
    }
}

/// What must be the same.
pub(super) fn expect<T: PartialEq + std::fmt::Debug>(what: impl FnOnce() -> String, wanted: T, found: T) -> Result<(), Failure> {
    if wanted == found { Ok(()) } else { Err(Failure::Outcome(format!("{}: expected {wanted:?}, found {found:?}", what()))) }
}
