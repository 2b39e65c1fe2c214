//! The built component in the real host core, over a scripted log, with a coordinator and a storage that can fail.
//!
//! The log is a list of records and time is a number, so a scenario runs the same each time. The coordinator is the embedded one's rules;
//! files are written by the real segment writer into a temporary folder.

mod seen;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use tidegate::engine::{BUILT_IN, Engine, GuestConfig, Instance, Loaded};
use tidegate::storage::{Body, ChunkStore, DeleteJob, RowBatchJob, WriteOutcome, write_deletes, write_rows};
use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::calls::{Call, CallError, Caller, Position, Reply};
use tidegate_core::coordinator::{CollectionInfo, Coordinator, NewCollection};
use tidegate_core::journal::Turn;
use tidegate_core::pchannel::{
    Action, DeadLetter, Event, Limits, MessageNames, Order, Outcome, Pchannel, SwapStep, Told, Version, Work, WriteJob, Written,
};
use tidegate_core::retry::CallId;
use tidegate_core::scan::{ScanLimits, Scanned, Scanner};
use tidegate_core::turn::{Fault, Page, TurnInput, TurnOutput, flag};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::schema::Schema;
use tidegate_message::{CreateSegment, MessageId, Outgoing, Record};

use crate::rows::rows;

/// The pchannel of every harness.
pub const PCHANNEL: &str = "test-dml_0";
/// Low bits of a tick.
const LOGICAL_BITS: u32 = 18;

/// What the harness does with a piece of work.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Do it.
    Do,
    /// Do not do it, and say so.
    Fail(CallError),
    /// Do it, and lose the answer.
    DoAndFail(CallError),
    /// Do not do it, and answer this.
    Answer(Reply),
    /// Keep it until [`Harness::release`].
    Hold,
}

/// Changes what a component's turn gave.
pub type Lie = Box<dyn FnMut(&TurnInput, &mut TurnOutput)>;

/// How a turn faults, if it does.
pub type Weakness = Box<dyn FnMut(&TurnInput) -> Option<Fault>>;

/// A component that traps on each message, by its place in a page, for which a test holds and that is not settled.
pub fn traps_on(mut is_poison: impl FnMut(&Page, usize) -> bool + 'static) -> Option<Weakness> {
    Some(Box::new(move |input| {
        let page = &input.page;
        let met = (0..page.len()).any(|at| page.flags[at] & flag::SETTLED == 0 && is_poison(page, at));
        met.then(|| Fault::Trap("scripted".into()))
    }))
}

/// One pchannel's flusher with everything around it.
pub struct Harness {
    /// The state machine under test.
    pub core: Pchannel,
    /// The coordinator's rules and state.
    pub coordinator: Coordinator,
    /// Messages set aside.
    pub dead_letters: Vec<DeadLetter>,
    /// Control messages that an operator gave up: the next process knows.
    pub skipped: MessageNames,
    /// What the operator was told.
    pub notices: Vec<String>,
    /// Every piece of work, in the order it was done.
    pub done: Vec<Work>,
    /// Where the log was truncated, in order.
    pub truncated: Vec<MessageId>,
    /// Where scans were opened, in order.
    pub opened: Vec<Option<Position>>,
    /// Where catch-up scans were opened, in order: the channel and the position.
    pub caught_up: Vec<(String, Option<Position>)>,
    /// Messages that one delivery of a catch-up scan hands over; 0 for none.
    pub catch_up_max: usize,
    /// A catch-up scan is read before the main one.
    pub catch_up_first: bool,
    /// Asked about every piece of work.
    pub verdict: Box<dyn FnMut(&Work) -> Verdict>,
    /// Changes the output of every turn: a component that lies.
    pub lie: Option<Lie>,
    /// What a successor says that it holds, instead of what it does.
    pub told: Option<Told>,
    /// The next snapshot traps.
    pub snapshot_traps: bool,
    /// Turns (counted from 1) that trap instead.
    pub traps: Vec<u64>,
    /// Turns that fault, by what they are given.
    pub weakness: Option<Weakness>,
    /// Turns run, traps included.
    pub turns: u64,
    /// Faults that there were when a snapshot was taken, in order.
    pub snapshots: Vec<u64>,
    /// Actions done since the process began.
    pub actions: u64,
    /// The process dies before this action is done: nothing happens until [`Harness::crash`].
    pub dies_at: Option<u64>,
    /// Storage version of segments that are created.
    pub storage_version: i64,
    /// Messages that one delivery hands over.
    pub delivery_max: usize,
    /// The scripted log: records in order.
    pub log: Vec<Record>,
    /// The segment files.
    pub chunks: ChunkStore,
    config: GuestConfig,
    /// What became of versions, in order.
    pub swapped: Vec<SwapStep>,
    /// Turns of recordings.
    pub recorded: Vec<Turn>,
    /// Why recordings ended.
    pub recordings_ended: Vec<String>,
    components: BTreeMap<Version, Arc<Loaded>>,
    orders: u64,
    instance: Option<Instance>,
    successor: Option<Instance>,
    resume: Vec<u8>,
    limits: Limits,
    scan: Option<(u64, usize, Scanner)>,
    ready: VecDeque<Scanned>,
    catch_up: Option<CatchUp>,
    work: VecDeque<(CallId, Work)>,
    held: Vec<(CallId, Work)>,
    caller: Caller,
    now_ms: u64,
    tick: u64,
    next_id: i64,
    _dir: tempfile::TempDir,
}

/// A second scan: its name, the channel, the next record, and what waits to be delivered.
struct CatchUp {
    scan: u64,
    vchannel: String,
    at: usize,
    scanner: Scanner,
    ready: VecDeque<Scanned>,
}

/// The built-in component, loaded once a process and compiled once a build.
pub fn component() -> Arc<Loaded> {
    static COMPONENT: OnceLock<Arc<Loaded>> = OnceLock::new();
    let load = || {
        let binary = std::env::current_exe().expect("a test has a file");
        let artifacts = binary.with_file_name("components");
        engine().load(BUILT_IN, Some(&artifacts)).expect("the built-in component loads")
    };
    COMPONENT.get_or_init(load).clone()
}

/// The built-in component as another file: the same logic, another digest.
pub fn twin(nth: u8) -> Arc<Loaded> {
    // A custom section of this name and no content.
    let section = [0, 5, 4, b't', b'w', b'n', nth];
    let binary = std::env::current_exe().expect("a test has a file");
    let artifacts = binary.with_file_name("components");
    engine().load(&[BUILT_IN, &section].concat(), Some(&artifacts)).expect("a twin loads")
}

/// The engine of this process.
pub fn engine() -> Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new().expect("wasmtime supports this machine")).clone()
}

/// Settings of the component for scenarios: small batches, reports each second of event time.
pub fn config() -> GuestConfig {
    GuestConfig {
        pchannel: PCHANNEL.to_owned(),
        term: 1,
        insert_bytes_max: 16 << 20,
        delete_bytes_max: 16 << 20,
        sync_period_ms: 600_000,
        report_period_ms: 1_000,
        reports_max: 128,
        idle_tick_ms: 1_000,
        page_max: 256,
    }
}

impl Default for Harness {
    fn default() -> Self {
        Self::new(config(), Limits { not_found_tolerance: 0, ..Limits::default() })
    }
}

impl Harness {
    /// Builds a harness in which detached channels stay so; nothing runs before [`Harness::start`].
    pub fn new(config: GuestConfig, limits: Limits) -> Self {
        let hour_ms = 3_600_000;
        Self::that_rejoins(config, Limits { rejoin_first_ms: hour_ms, rejoin_max_ms: hour_ms, ..limits })
    }

    /// Builds a harness in which detached channels rejoin.
    pub fn that_rejoins(config: GuestConfig, limits: Limits) -> Self {
        tidegate_core::switches::set(&std::env::var("TIDEGATE_BREAK").unwrap_or_default()).expect("TIDEGATE_BREAK names switches");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let caller = Caller { node_id: 1, pchannel: config.pchannel.clone(), term: config.term };
        Self {
            core: Pchannel::new(caller.clone(), limits.clone()).running(Version::from(component().digest.as_str()), None, false),
            coordinator: Coordinator::load([]).expect("an empty coordinator"),
            dead_letters: Vec::new(),
            skipped: MessageNames::default(),
            notices: Vec::new(),
            done: Vec::new(),
            truncated: Vec::new(),
            opened: Vec::new(),
            caught_up: Vec::new(),
            catch_up_max: 512,
            catch_up_first: false,
            verdict: Box::new(|_| Verdict::Do),
            lie: None,
            told: None,
            snapshot_traps: false,
            traps: Vec::new(),
            weakness: None,
            turns: 0,
            snapshots: Vec::new(),
            actions: 0,
            dies_at: None,
            storage_version: 0,
            delivery_max: 512,
            log: Vec::new(),
            chunks: ChunkStore::open(dir.path()).expect("a chunk store"),
            config,
            swapped: Vec::new(),
            recorded: Vec::new(),
            recordings_ended: Vec::new(),
            components: BTreeMap::new(),
            orders: 0,
            instance: None,
            successor: None,
            resume: Vec::new(),
            limits,
            scan: None,
            ready: VecDeque::new(),
            catch_up: None,
            work: VecDeque::new(),
            held: Vec::new(),
            caller,
            now_ms: 0,
            tick: 1_000_000 << LOGICAL_BITS,
            next_id: 1_000,
            _dir: dir,
        }
    }

    /// Begins, and runs until nothing is left to do.
    pub fn start(&mut self) {
        self.step(Event::Start);
        self.run();
    }

    /// The process dies and another one takes over, in the next term: what was in memory is gone; log, coordinator and files stay.
    pub fn crash(&mut self) {
        self.config.term += 1;
        self.caller.term += 1;
        let (version, good) = (self.core.version().clone(), self.core.good_version().cloned());
        self.core = Pchannel::new(self.caller.clone(), self.limits.clone()).running(version, good, false);
        let mut known = MessageNames::default();
        for letter in self.dead_letters.iter().filter(|letter| letter.poison) {
            known.insert(letter.id.clone(), letter.vchannel.clone(), letter.tick);
        }
        self.core.remember(known, self.skipped.clone());
        self.actions = 0;
        self.dies_at = None;
        self.instance = None;
        self.successor = None;
        self.scan = None;
        self.catch_up = None;
        self.ready.clear();
        self.work.clear();
        self.held.clear();
        self.start();
    }

    // ---- the log -------------------------------------------------------------------------------------------------------------------

    /// Lets event time pass.
    pub fn pass_ms(&mut self, ms: u64) {
        self.tick = ((self.tick >> LOGICAL_BITS) + ms) << LOGICAL_BITS;
    }

    /// Appends a message with the next tick, and a last confirmed id that is its own; returns its tick.
    pub fn append(&mut self, message: Outgoing) -> u64 {
        let id = MessageId::RocksMq(self.log.len() as i64);
        self.append_confirmed(message, &id)
    }

    /// Appends a message with a last confirmed id; returns its tick.
    pub fn append_confirmed(&mut self, message: Outgoing, last_confirmed: &MessageId) -> u64 {
        self.tick += 1;
        let tick = self.tick;
        let (payload, properties) = message.stamp(tick, last_confirmed, 1);
        self.log.push(Record { id: MessageId::RocksMq(self.log.len() as i64), payload, properties });
        tick
    }

    /// Appends a persisted time tick and runs: everything before it is dispatched.
    pub fn tick(&mut self) -> u64 {
        let tick = self.append(build::time_tick());
        self.run();
        tick
    }

    /// Creates a collection as the coordinator and the log know it; returns it.
    pub fn create_collection(&mut self, schema: &Schema, shards: usize) -> CollectionInfo {
        let planned = self.plan_collection(schema, shards);
        let mut starts = BTreeMap::new();
        let partitions: Vec<i64> = planned.partitions.iter().map(|p| p.id).collect();
        for shard in &planned.shards {
            let last_confirmed = MessageId::RocksMq(self.log.len() as i64);
            let tick = self.append(build::create_collection(&shard.vchannel, "default", planned.id, &partitions, schema));
            starts.insert(shard.vchannel.clone(), Position { last_confirmed, tick });
        }
        self.coordinator.finish_create(planned.id, &starts).expect("a planned collection can be finished");
        planned
    }

    /// Records a collection at the coordinator only: the log does not know it yet.
    pub fn plan_collection(&mut self, schema: &Schema, shards: usize) -> CollectionInfo {
        let new = NewCollection { schema: schema.clone(), shards, partitions: Vec::new() };
        let first_id = self.ids(new.id_count());
        self.coordinator.create_collection(&new, first_id, &[PCHANNEL.to_owned()]).expect("a new collection").0
    }

    /// Appends a CreateSegment message; returns the segment.
    pub fn create_segment(&mut self, collection: &CollectionInfo, shard: usize) -> i64 {
        let segment = self.ids(1);
        let partition = collection.partitions[0].id;
        let storage_version = self.storage_version;
        let created = CreateSegment { partition, segment, storage_version, level: 2, max_rows: 0, max_bytes: 0 };
        self.append(build::create_segment(&collection.shards[shard].vchannel, collection.id, &created));
        segment
    }

    /// Builds an insert of [`crate::rows::schema`] rows with these keys.
    pub fn insert(&mut self, collection: &CollectionInfo, shard: usize, segment: i64, keys: std::ops::Range<i64>) -> Outgoing {
        let count = (keys.end - keys.start) as u64;
        let columns = rows(&collection.schema, keys.clone());
        let user: Vec<_> = columns.fields.into_iter().filter(|f| f.field_id >= 100).collect();
        let partition = collection.partitions[0].id;
        let to = InsertAssignment { collection: collection.id, partition, segment, rows: count, bytes: 64 * count };
        let row_ids: Vec<i64> = keys.collect();
        build::insert(&collection.shards[shard].vchannel, &to, &user, &row_ids)
    }

    /// Appends an insert; returns its tick.
    pub fn append_insert(&mut self, collection: &CollectionInfo, shard: usize, segment: i64, keys: std::ops::Range<i64>) -> u64 {
        let message = self.insert(collection, shard, segment, keys);
        self.append(message)
    }

    /// Appends a ManualFlush of segments, and a time tick; runs.
    pub fn flush(&mut self, collection: &CollectionInfo, shard: usize, segments: &[i64]) -> u64 {
        let tick = self.append(build::manual_flush(&collection.shards[shard].vchannel, collection.id, 0, segments));
        self.tick();
        tick
    }

    /// Lets the coordinator's checkpoint of a channel stand at a record of the log.
    pub fn coordinator_seeks(&mut self, vchannel: &str, record: usize) {
        let position = Position { last_confirmed: MessageId::RocksMq(record as i64), tick: self.tick };
        let report = Call::ReportCheckpoints(vec![(vchannel.to_owned(), position)]);
        self.coordinator.call(&self.caller, &report).0.expect("a report is taken");
    }

    /// Allots ids.
    pub fn ids(&mut self, count: u32) -> i64 {
        let first = self.next_id;
        self.next_id += i64::from(count);
        first
    }

    // ---- running -------------------------------------------------------------------------------------------------------------------

    /// Does the held work and runs.
    pub fn release(&mut self) {
        self.verdict = Box::new(|_| Verdict::Do);
        self.work.extend(std::mem::take(&mut self.held));
        self.run();
    }

    /// Number of pieces of work that are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Runs until nothing is left to do; backoffs pass at once. Panics when that takes too long.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if self.is_dead() {
                return;
            }
            if let Some((id, work)) = self.work.pop_front() {
                self.work(id, work);
            } else if !self.deliver_any() {
                match self.core.next_wake() {
                    Some(at) if at <= self.now_ms + 60_000 && !self.is_waiting_forever() => {
                        self.now_ms = self.now_ms.max(at);
                        self.step(Event::Wake);
                    }
                    _ => return,
                }
            }
        }
        panic!("the flusher does not come to rest: {:#?}", self.core.status());
    }

    /// Whether the process died.
    pub fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.actions >= at)
    }

    /// Lets one backoff pass.
    pub fn wake(&mut self) {
        self.now_ms = self.core.next_wake().unwrap_or(self.now_ms + 1_000).max(self.now_ms);
        self.step(Event::Wake);
    }

    /// Work that fails for ever is tried again for ever: a scenario with such a fault wakes the core itself.
    fn is_waiting_forever(&mut self) -> bool {
        self.done.len() > 10_000
    }

    /// Gives the core one event and does what it wants at once.
    pub fn step(&mut self, event: Event) {
        let mut todo = VecDeque::new();
        let mut event = Some(event);
        let mut events = 0;
        while let Some(next) = event.take() {
            events += 1;
            assert!(events < 20_000, "the core and the component keep each other busy: {:?}", self.notices.last());
            let mut actions = Vec::new();
            self.core.step(next, self.now_ms, &mut actions);
            todo.extend(actions);
            while event.is_none() {
                let Some(action) = todo.pop_front() else { break };
                if self.is_dead() {
                    return;
                }
                self.actions += 1;
                event = self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Build { version, resume, replay } => {
                return Some(Event::Built(self.build(&version, resume.as_deref().map(Vec::as_slice), &replay)));
            }
            Action::Stand { version, resume } => return Some(Event::Stood(self.stand(&version, &resume))),
            Action::AskOld => {
                let resume = std::mem::take(&mut self.resume);
                let anew = self.of(self.core.version()).start(&self.config, Some(&resume));
                let told = anew.and_then(|mut instance| instance.told(&resume));
                return Some(Event::OldTold(told));
            }
            Action::Commit => self.instance = self.successor.take(),
            Action::Dismiss => self.successor = None,
            Action::Recorded(turn) => self.recorded.push(turn),
            Action::RecordingEnds(why) => self.recordings_ended.push(why),
            Action::Swapped(step) => self.swapped.push(step),
            Action::Turn(input) => return Some(Event::Turned(self.turn(&input))),
            Action::Snapshot if std::mem::take(&mut self.snapshot_traps) => {
                return Some(Event::Snapshot(Err(Fault::Trap("scripted".into()))));
            }
            Action::Snapshot => {
                self.snapshots.push(self.core.counters().faults);
                let snapshot = self.instance.as_mut().map_or(Err(Fault::Trap("no instance".into())), Instance::snapshot);
                return Some(Event::Snapshot(snapshot));
            }
            Action::Begin { id, work: Work::OpenScan { scan, from } } => {
                let at = match &from {
                    Some(Position { last_confirmed: MessageId::RocksMq(id), .. }) => usize::try_from(*id).unwrap_or_default(),
                    _ => 0,
                };
                self.opened.push(from);
                self.scan = Some((scan, at, Scanner::new(ScanLimits::default())));
                self.ready.clear();
                return Some(Event::Ended { id, result: Ok(Outcome::Opened) });
            }
            Action::Begin { id, work: Work::OpenCatchUp { scan, vchannel, from } } => {
                let at = match &from {
                    Some(Position { last_confirmed: MessageId::RocksMq(id), .. }) => usize::try_from(*id).unwrap_or_default(),
                    _ => 0,
                };
                self.caught_up.push((vchannel.clone(), from));
                let scanner = Scanner::new(ScanLimits::default());
                self.catch_up = Some(CatchUp { scan, vchannel, at, scanner, ready: VecDeque::new() });
                return Some(Event::Ended { id, result: Ok(Outcome::Opened) });
            }
            Action::Begin { id, work } => self.work.push_back((id, work)),
            Action::CloseScan => {
                self.scan = None;
                self.catch_up = None;
            }
            Action::CloseCatchUp => self.catch_up = None,
            Action::DeadLetter(letter) => self.dead_letters.push(*letter),
            Action::Truncate(up_to) => self.truncated.push(up_to),
            Action::Broadcast { .. } => {}
            Action::Notice(_, text) => self.notices.push(text),
        }
        None
    }

    /// The component of a version; the built-in one when it was never named.
    fn of(&self, version: &Version) -> Arc<Loaded> {
        self.components.get(version).cloned().unwrap_or_else(component)
    }

    /// Asks for another component at the next boundary between two turns, and runs.
    pub fn swap(&mut self, to: &Arc<Loaded>) {
        let version = Version::from(to.digest.as_str());
        self.components.insert(version.clone(), to.clone());
        self.orders += 1;
        self.step(Event::Order(Order { id: self.orders, version }));
        self.run();
    }

    fn stand(&mut self, version: &Version, resume: &[u8]) -> Result<Told, Fault> {
        let mut successor = self.of(version).start(&self.config, Some(resume))?;
        let told = self.told.take().map_or_else(|| successor.told(resume), Ok);
        self.successor = Some(successor);
        self.resume = resume.to_vec();
        told
    }

    fn build(&mut self, version: &Version, resume: Option<&[u8]>, replay: &[Turn]) -> Result<(), Fault> {
        let mut instance = self.of(version).start(&self.config, resume)?;
        for turn in replay {
            assert_eq!(instance.turn(&turn.input)?, *turn.output, "DT-1: the journal's turn gives other intents than before");
        }
        self.instance = Some(instance);
        Ok(())
    }

    fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        self.turns += 1;
        if self.traps.contains(&self.turns) {
            self.instance = None;
            return Err(Fault::Trap("scripted".into()));
        }
        if let Some(fault) = self.weakness.as_mut().and_then(|faults| faults(input)) {
            self.instance = None;
            return Err(fault);
        }
        let instance = self.instance.as_mut().ok_or_else(|| Fault::Trap("no instance".into()))?;
        let mut output = instance.turn(input)?;
        if let Some(lie) = &mut self.lie {
            lie(input, &mut output);
        }
        Ok(output)
    }

    fn deliver(&mut self) -> bool {
        if !self.core.wants_messages() {
            return false;
        }
        let Some((scan, at, scanner)) = &mut self.scan else { return false };
        let mut out = Vec::new();
        while *at < self.log.len() && out.len() + self.ready.len() < self.delivery_max {
            scanner.push(self.log[*at].clone(), &mut out);
            *at += 1;
        }
        self.ready.extend(out);
        if self.ready.is_empty() {
            return false;
        }
        let scan = *scan;
        let count = self.delivery_max.min(self.ready.len());
        let messages = self.ready.drain(..count).collect();
        self.step(Event::Delivered { scan, messages });
        true
    }

    fn deliver_any(&mut self) -> bool {
        (self.catch_up_first && self.deliver_again()) || self.deliver() || self.deliver_again()
    }

    /// Delivers what the second scan found, if the core wants it.
    fn deliver_again(&mut self) -> bool {
        if !self.core.wants_catch_up() {
            return false;
        }
        let Some(CatchUp { scan, vchannel, at, scanner, ready }) = &mut self.catch_up else { return false };
        let mut out = Vec::new();
        while *at < self.log.len() && out.len() + ready.len() < self.catch_up_max {
            scanner.push(self.log[*at].clone(), &mut out);
            out.retain(|scanned| scanned.concerns(vchannel));
            *at += 1;
        }
        ready.extend(out);
        let (scan, count) = (*scan, self.catch_up_max.min(ready.len()));
        let messages: Vec<Scanned> = ready.drain(..count).collect();
        let some = !messages.is_empty();
        if some {
            self.step(Event::CaughtUp { scan, messages });
        }
        some
    }

    /// Lets the main scan deliver so many times, and no more.
    pub fn deliver_times(&mut self, times: usize) {
        for _ in 0..times {
            self.deliver();
        }
    }

    /// Lets the catch-up scan deliver so many messages, one at a time, and no more.
    pub fn catch_up_times(&mut self, times: usize) {
        let usual = std::mem::replace(&mut self.catch_up_max, 1);
        for _ in 0..times {
            self.deliver_again();
        }
        self.catch_up_max = usual;
    }

    /// Delivers messages that no log would hold, as if the scanner had found them.
    pub fn deliver_scanned(&mut self, messages: Vec<Scanned>) {
        if let Some((scan, ..)) = self.scan {
            self.step(Event::Delivered { scan, messages });
            self.run();
        }
    }

    fn work(&mut self, id: CallId, work: Work) {
        let result = match (self.verdict)(&work) {
            Verdict::Do => self.perform_work(&work),
            Verdict::Fail(error) => Err(error),
            Verdict::DoAndFail(error) => self.perform_work(&work).and(Err(error)),
            Verdict::Answer(reply) => Ok(Outcome::Reply(reply)),
            Verdict::Hold => return self.held.push((id, work)),
        };
        self.done.push(work);
        self.step(Event::Ended { id, result });
    }

    fn perform_work(&mut self, work: &Work) -> Result<Outcome, CallError> {
        match work {
            Work::Call(call) => self.call(call),
            Work::Write(job) => self.write(job),
            Work::AppendFlush { vchannel, collection, partition, segment } => {
                self.append(build::flush(vchannel, *collection, *partition, *segment));
                Ok(Outcome::Appended)
            }
            Work::OpenScan { .. } | Work::OpenCatchUp { .. } => unreachable!("a scan is opened at once"),
        }
    }

    fn call(&mut self, call: &Call) -> Result<Outcome, CallError> {
        if let Call::SaveBinlogPaths(save) = call {
            // FL-1: files exist before the coordinator hears of them.
            for file in save.files.iter() {
                assert!(self.chunks.exists(&file.path).expect("storage answers"), "FL-1: {} was saved before it exists", file.path);
            }
        }
        let before = self.checkpoints();
        let answer = self.coordinator.call(&self.caller, call).0.map(Outcome::Reply);
        for (vchannel, tick) in self.checkpoints() {
            let earlier = before.get(&vchannel).copied().unwrap_or_default();
            assert!(tick >= earlier, "CK-1: the checkpoint of {vchannel} moved from {earlier} back to {tick}");
        }
        answer
    }

    fn checkpoints(&self) -> BTreeMap<String, u64> {
        self.coordinator.checkpoints().filter_map(|(v, _)| Some((v.to_owned(), self.coordinator.checkpoint_tick(v)?))).collect()
    }

    fn write(&mut self, job: &WriteJob) -> Result<Outcome, CallError> {
        let next = std::cell::Cell::new(self.next_id);
        let ids = |count: u32| Ok(next.replace(next.get() + i64::from(count)));
        let bodies =
            job.bodies.iter().map(|(ordinal, tick, payload)| Body { ordinal: *ordinal, tick: *tick, payload: payload.clone() }).collect();
        let (collection, partition) = (job.collection, job.partition);
        let (segment, outcome) = if job.deletes {
            let segment = ids(1)?;
            let primary_key = job.schema.primary().map_or(0, |f| f.id);
            (
                segment,
                write_deletes(
                    &self.chunks,
                    &ids,
                    &DeleteJob { collection, partition, segment, primary_key, bodies, form: DeltaForm::Json },
                ),
            )
        } else {
            let (segment, schema, flush) = (job.segment, job.schema.clone(), job.flush);
            let (earlier_statistics, layout, filter) = (job.earlier_statistics.clone(), job.layout.clone(), FilterKind::Basic);
            let job = RowBatchJob { collection, partition, segment, schema, bodies, earlier_statistics, flush, layout, filter };
            (segment, write_rows(&self.chunks, &ids, &job))
        };
        self.next_id = next.get();
        match outcome.map_err(|e| CallError::Permanent(e.to_string()))? {
            WriteOutcome::Written { files, rows, .. } => Ok(Outcome::Written(Written { segment, files, rows })),
            WriteOutcome::BadRows(bad) => Ok(Outcome::BadRows(bad)),
        }
    }
}
