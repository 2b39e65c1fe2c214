//! The flusher's thread, between scripted peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::calls::{Call, CallError, Caller, Reply};
use tidegate_core::coordinator::NewCollection;
use tidegate_core::pchannel::{Verdict, Version};
use tidegate_core::turn::{Fault, Intent, TurnInput, TurnOutput, TurnReport, flag};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};

use super::dead_letters::DeadLetters;
use super::driver::{Components, Driver};
use super::scripted::{ScriptedGuests, ScriptedLog, eventually};
use super::workers::Peers;
use super::{Node, Settings};
use crate::coordinator::{CoordinatorClient, EmbeddedCoordinator};
use crate::stop::Stop;
use crate::storage::ChunkStore;
use crate::wal::Log;

/// Peers in a temporary folder, with a log of these messages.
fn peers(dir: &std::path::Path, log: ScriptedLog) -> Peers {
    Peers {
        log: Arc::new(log),
        coordinator: Arc::new(EmbeddedCoordinator::open(&dir.join("meta")).unwrap()),
        chunks: Arc::new(ChunkStore::open(&dir.join("chunks")).unwrap()),
        filter: FilterKind::Basic,
        delta_form: DeltaForm::Json,
    }
}

/// One component, and none to go back to.
fn only<F>(turn: F) -> Components
where
    F: Fn(u64, &TurnInput, &Stop) -> Result<TurnOutput, Fault> + Send + Sync + 'static,
{
    let (told, _) = crossbeam_channel::unbounded();
    let guests = Arc::new(ScriptedGuests(Arc::new(turn)));
    Components { current: (Version::from("scripted"), guests), on_probation: false, good: None, told }
}

fn start<F>(peers: Peers, dir: &std::path::Path, turn: F) -> Driver
where
    F: Fn(u64, &TurnInput, &Stop) -> Result<TurnOutput, Fault> + Send + Sync + 'static,
{
    let letters = DeadLetters::open(&dir.join("letters.jsonl")).unwrap();
    Driver::start(peers, letters, only(turn), &Settings::default()).unwrap()
}

#[test]
fn a_component_that_always_wants_another_turn_starves_neither_completions_nor_questions_nor_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let completions = Arc::new(AtomicU64::new(0));
    let seen = completions.clone();
    let driver = start(peers(dir.path(), ScriptedLog::new(vec![build::time_tick()])), dir.path(), move |turn, input, _| {
        seen.fetch_add(input.completions.len() as u64, Ordering::Relaxed);
        // Without any intent it would not be believed.
        let intents = vec![if turn == 1 { Intent::VChannels } else { Intent::Filter(Vec::new()) }];
        Ok(TurnOutput { intents, taken: 0, report: TurnReport { more: true, ..TurnReport::default() } })
    });
    eventually("the answer of its call", || completions.load(Ordering::Relaxed) == 1);
    let asked = Instant::now();
    // Between two turns the component can be asked as well: there always is a next turn.
    let explained = driver.explain("p_0_1v0").expect("a channel of this pchannel");
    assert!(explained.component.contains("has not asked for the channel"), "{explained:?}");
    let status = driver.status();
    assert!(status.turns > 0 && asked.elapsed() < Duration::from_secs(1), "{status:?}");
    stops_in_time(driver);
}

fn stops_in_time<T>(running: T) {
    let began = Instant::now();
    drop(running);
    assert!(began.elapsed() < Duration::from_secs(3), "the stop took {:?}", began.elapsed());
}

fn nothing(_: u64, _: &TurnInput, _: &Stop) -> Result<TurnOutput, Fault> {
    Ok(TurnOutput { intents: Vec::new(), taken: 0, report: TurnReport::default() })
}

/// Recovers without channels, and takes what comes.
fn draining(turn: u64, input: &TurnInput, stop: &Stop) -> Result<TurnOutput, Fault> {
    let intents = match turn {
        1 => vec![Intent::VChannels],
        2 => vec![Intent::Open(Vec::new())],
        _ => Vec::new(),
    };
    nothing(turn, input, stop).map(|output| TurnOutput { intents, taken: input.page.len(), ..output })
}

/// A coordinator that calls are never answered by until it is dropped.
struct Silent {
    called: AtomicU64,
    /// Calls wait for the sender's end.
    until: Receiver<()>,
}

impl CoordinatorClient for Silent {
    fn call(&self, _: &Caller, _: &Call) -> Result<Reply, CallError> {
        self.called.fetch_add(1, Ordering::Relaxed);
        let _ended = self.until.recv();
        Ok(Reply::Done)
    }

    fn alloc_ids(&self, _: u32) -> Result<i64, CallError> {
        Err(CallError::Transient("silent".into()))
    }
}

#[test]
fn what_becomes_of_versions_is_told_in_its_order_and_who_waits_hears_of_it_written() {
    let dir = tempfile::tempdir().unwrap();
    let (told, tells) = crossbeam_channel::unbounded();
    let components = Components { told, ..only(draining) };
    let letters = DeadLetters::open(&dir.path().join("letters.jsonl")).unwrap();
    let log = ScriptedLog::new(Vec::new());
    let script = log.script.clone();
    script.lock().unwrap().broken = true;
    let driver = Driver::start(peers(dir.path(), log), letters, components, &Settings::default()).unwrap();
    eventually("an open scan", || driver.status().state == "scan failing");
    let traps = Arc::new(ScriptedGuests(Arc::new(|_, _: &TurnInput, _: &Stop| Err(Fault::Trap("scripted".into())))));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| driver.swap(7, Version::from("another"), traps));
        let first = tells.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!((first.swap, &first.swapped.step.verdict), (7, &Verdict::Committed));
        // It fails in its first turn, while its commit is not written down yet.
        script.lock().unwrap().broken = false;
        let second = tells.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(matches!(second.swapped.step.verdict, Verdict::RolledBack(_)) && second.waiting.is_none(), "{:?}", second.swapped);
        assert!(!asked.is_finished(), "nobody hears of it before it is written down");
        first.waiting.unwrap().send((first.swapped, Err(std::io::Error::other("the disk is full")))).unwrap();
        assert!(asked.join().unwrap().unwrap().1.is_err());
    });
}

#[test]
fn a_stop_does_not_wait_for_a_turn_that_does_not_end() {
    let dir = tempfile::tempdir().unwrap();
    let turning = Arc::new(AtomicU64::new(0));
    let turns = turning.clone();
    let driver = start(peers(dir.path(), ScriptedLog::new(Vec::new())), dir.path(), move |_, _, stop| {
        turns.fetch_add(1, Ordering::Relaxed);
        stop.pause(Duration::from_secs(30));
        Err(Fault::Deadline("cut off".into()))
    });
    eventually("a turn", || turning.load(Ordering::Relaxed) == 1);
    stops_in_time(driver);
    assert_eq!(turning.load(Ordering::Relaxed), 1, "no turn begins after the stop");
}

#[test]
fn a_stop_does_not_wait_for_a_peer_that_does_not_answer_and_drops_what_is_queued() {
    for answers_after in [Duration::from_millis(100), Duration::from_secs(5)] {
        let dir = tempfile::tempdir().unwrap();
        let (end, until) = bounded(0);
        let silent = Arc::new(Silent { called: AtomicU64::new(0), until });
        let peers = Peers { coordinator: silent.clone(), ..peers(dir.path(), ScriptedLog::new(Vec::new())) };
        // More calls than there are threads to make them.
        let driver = start(peers, dir.path(), move |turn, input, stop| {
            let asks = if turn == 1 { vec![Intent::VChannels; 8] } else { Vec::new() };
            nothing(turn, input, stop).map(|output| TurnOutput { intents: asks, ..output })
        });
        eventually("two calls", || silent.called.load(Ordering::Relaxed) == 2);
        let peer = std::thread::spawn(move || {
            std::thread::sleep(answers_after);
            drop(end);
        });
        stops_in_time(driver);
        peer.join().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(silent.called.load(Ordering::Relaxed), 2, "what was queued was begun after the stop");
    }
}

#[test]
fn a_stop_does_not_wait_for_a_dead_letter_file_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = ScriptedLog::new(vec![build::time_tick(), build::time_tick()]);
    log.records[1].properties.clear();
    let peers = peers(dir.path(), log);
    let letters = DeadLetters::unwritable(&dir.path().join("letters.jsonl"));
    let driver = Driver::start(peers, letters, only(draining), &Settings::default()).unwrap();
    eventually("a state", || driver.status().state == "dead letters failing");
    // The backoff between two tries is longer than a stop may take by then.
    std::thread::sleep(Duration::from_secs(7));
    let status = driver.status();
    assert!(status.reason.as_ref().is_some_and(|r| r.contains("dead-letter file")), "{status:?}");
    stops_in_time(driver);
}

#[test]
fn a_log_that_cannot_be_read_is_a_state_with_a_reason_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let log = ScriptedLog::new(vec![build::time_tick()]);
    let script = log.script.clone();
    let driver = start(peers(dir.path(), log), dir.path(), draining);
    eventually("work", || driver.status().state == "working");
    script.lock().unwrap().broken = true;
    eventually("a state", || driver.status().state == "scan failing");
    let status = driver.status();
    assert!(status.reason.as_ref().is_some_and(|r| r.contains("the disk is gone") && r.contains("since")), "{status:?}");
    script.lock().unwrap().broken = false;
    eventually("work again", || driver.status().state == "working");
}

#[test]
fn a_thread_that_panicked_is_dead_with_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let driver = start(peers(dir.path(), ScriptedLog::new(Vec::new())), dir.path(), |turn, input, stop| {
        assert!(turn < 2, "scripted");
        draining(turn, input, stop)
    });
    eventually("its end", || driver.status().state == "dead");
    let status = driver.status();
    assert!(status.reason.as_ref().is_some_and(|r| r.contains("scripted") && r.contains("restart")), "{status:?}");
    assert_eq!((status.pchannel.as_str(), status.term), ("p_0", 1));
    stops_in_time(driver);
}

/// A log with an insert of one row between two time ticks.
fn one_insert() -> ScriptedLog {
    let schema = key_schema("c");
    let mut columns = Columns::new(&schema);
    columns.fields.drain(..2);
    columns.fields[0].values = Values::Int64(vec![7]);
    let to = InsertAssignment { collection: 1, partition: 2, segment: 3, rows: 1, bytes: 8 };
    ScriptedLog::new(vec![build::time_tick(), build::insert("p_0_1v0", &to, &columns.fields, &[7])])
}

/// Drains, and traps on messages of a type that are not settled; counts the traps.
fn trapping_on(kind: u16, traps: Arc<AtomicU64>) -> impl Fn(u64, &TurnInput, &Stop) -> Result<TurnOutput, Fault> + Send + Sync + 'static {
    move |turn, input, stop| {
        let page = &input.page;
        if (0..page.len()).any(|at| page.kinds[at] == kind && page.flags[at] & flag::SETTLED == 0) {
            traps.fetch_add(1, Ordering::Relaxed);
            return Err(Fault::Trap("scripted".into()));
        }
        draining(turn, input, stop)
    }
}

#[test]
fn a_message_on_which_the_component_traps_is_in_the_file_and_the_next_process_knows_it() {
    let dir = tempfile::tempdir().unwrap();
    let traps = Arc::new(AtomicU64::new(0));
    let ledger = |driver: &Driver| driver.status().channels.first().map(|c| c.ledger.inserts.clone()).unwrap_or_default();
    for process in 0..2 {
        let driver = start(peers(&dir.path().join(process.to_string()), one_insert()), dir.path(), trapping_on(2, traps.clone()));
        eventually("the row in quarantine", || ledger(&driver).quarantined == 1);
        assert_eq!((driver.status().state.as_str(), ledger(&driver).pending), ("working", 0));
        stops_in_time(driver);
        let text = std::fs::read_to_string(dir.path().join("letters.jsonl")).unwrap();
        assert!(text.lines().count() == 1 && text.contains("\"poison\":true") && text.contains("trap: scripted"), "{text}");
    }
    assert_eq!(traps.load(Ordering::Relaxed), 4, "twice with the page, twice alone, and never again");
}

#[test]
fn a_component_that_traps_on_every_tick_stops_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let traps = Arc::new(AtomicU64::new(0));
    let driver = start(peers(dir.path(), one_insert()), dir.path(), trapping_on(1, traps.clone()));
    eventually("its stop", || driver.status().state == "stopped");
    let reason = driver.status().reason.unwrap_or_default();
    assert!(reason.contains("5 times in a row") && reason.contains("trap: scripted") && reason.contains("restart"), "{reason}");
    let met = traps.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(traps.load(Ordering::Relaxed), met, "it is not tried any more");
    let explained = driver.explain("p_0_1v0").unwrap();
    assert!(explained.component.contains("there is no instance"), "{explained:?}");
    stops_in_time(driver);
}

/// A coordinator whose first call panics.
struct Panicking {
    called: AtomicU64,
}

impl CoordinatorClient for Panicking {
    fn call(&self, _: &Caller, call: &Call) -> Result<Reply, CallError> {
        assert!(self.called.fetch_add(1, Ordering::Relaxed) > 0, "scripted");
        Ok(if *call == Call::LoadConsume { Reply::Consume(None) } else { Reply::VChannels(Vec::new()) })
    }

    fn alloc_ids(&self, _: u32) -> Result<i64, CallError> {
        Ok(1)
    }
}

#[test]
fn a_call_whose_thread_panics_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let coordinator = Arc::new(Panicking { called: AtomicU64::new(0) });
    let peers = Peers { coordinator, ..peers(dir.path(), ScriptedLog::new(Vec::new())) };
    let driver = start(peers, dir.path(), draining);
    eventually("work", || driver.status().state == "working");
}

fn key_schema(name: &str) -> Schema {
    let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
    Schema { name: name.into(), fields: vec![key], enable_dynamic_field: false, version: 0 }
}

#[test]
fn what_a_crash_left_of_a_create_and_of_a_drop_is_finished_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let node = open();
    let schema = key_schema("made");
    let dropped = node.create_collection(&key_schema("dropped"), 2, &[]).unwrap();
    // The process dies when the first of two shards has its message.
    let new = NewCollection { schema: schema.clone(), shards: 2, partitions: Vec::new() };
    let made = node.coordinator.create_collection(&new, &node.settings.pchannel_names()).unwrap();
    let partitions: Vec<i64> = made.partitions.iter().map(|p| p.id).collect();
    let first = &made.shards[0].vchannel;
    let message = build::create_collection(first, "default", made.id, &partitions, &schema);
    node.log_of(first).unwrap().append(vec![message]).unwrap();
    node.coordinator.begin_drop(dropped.id).unwrap();
    let first = &dropped.shards[0].vchannel;
    node.log_of(first).unwrap().append(vec![build::drop_collection(first, dropped.id)]).unwrap();
    assert_eq!(node.coordinator.read(|c| c.unfinished().count()).unwrap(), 2);
    node.shutdown();

    let node = open();
    assert_eq!(node.coordinator.read(|c| c.unfinished().count()).unwrap(), 0);
    let made = node.collection("made").unwrap();
    let mut columns = Columns::new(&schema);
    columns.rows = 100;
    columns.fields.drain(..2);
    columns.fields[0].values = Values::Int64((0..100).collect());
    node.insert(&made, None, &columns).unwrap();
    node.flush(&made, &mut |_| ()).unwrap();
    let mut read = 0;
    let count = &mut |columns: Columns| {
        read += columns.rows;
        Ok(())
    };
    node.read_rows(&made, count).unwrap();
    assert_eq!(read, 100, "both shards take rows");
    eventually("the drop of both shards", || {
        let status = node.status();
        let channels: Vec<_> = status.pchannels.iter().flat_map(|p| &p.channels).collect();
        dropped.shards.iter().all(|s| channels.iter().all(|c| c.vchannel != s.vchannel || c.standing == "dropped"))
    });
    assert!(node.collection("dropped").is_err());
}
