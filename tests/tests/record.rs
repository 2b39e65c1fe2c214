//! Recordings: of the core, and with the real binary on a node that works meanwhile; replays of them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate::tables::RowsOut;
use tidegate::trace::Trace;
use tidegate_core::journal::Turn;
use tidegate_core::pchannel::{Event, Limits};
use tidegate_core::turn::Intent;
use tidegate_tests::guests;
use tidegate_tests::harness::{Harness, component, config, twin};
use tidegate_tests::process::{Ended, binary, node, run, run_json};
use tidegate_tests::rows::{rows, schema};

const SCHEMA: &str = r#"{"name": "things", "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true},
    {"name": "text", "dtype": "VARCHAR", "params": {"max_length": 64}},
    {"name": "vector", "dtype": "FLOAT_VECTOR", "params": {"dim": 4}}]}"#;

fn harness() -> Harness {
    let mut h = Harness::new(config(), Limits { not_found_tolerance: 0, ..Limits::default() });
    h.start();
    h
}

#[test]
fn a_recording_goes_on_from_the_journal_with_each_turn_and_ends_when_told() {
    let mut h = harness();
    let collection = h.create_collection(&schema("things"), 1);
    let segment = h.create_segment(&collection, 0);
    assert!(h.recorded.is_empty(), "nothing is handed out before it is asked for");
    let before = h.core.recordable().unwrap();
    h.step(Event::Record(true));
    h.append_insert(&collection, 0, segment, 0..10);
    h.flush(&collection, 0, &[segment]);
    let journal = h.core.journal().unwrap();
    assert!(!h.recorded.is_empty() && before.base.is_none() && journal.base.is_none());
    assert_eq!([before.turns, h.recorded.clone()].concat(), journal.turns);
    h.step(Event::Record(false));
    h.tick();
    assert!(h.core.journal().unwrap().turns.len() > journal.turns.len());
    assert_eq!(before_and(&h), journal.turns.len(), "no turn after the end");
    assert!(h.recordings_ended.is_empty(), "who ended it knows");
}

/// Turns of the journal up to the last recorded one.
fn before_and(h: &Harness) -> usize {
    let (turns, last) = (h.core.journal().unwrap().turns, h.recorded.last().unwrap());
    turns.iter().rposition(|turn| turn == last).unwrap() + 1
}

#[test]
fn another_version_or_a_lost_instance_ends_a_recording_and_the_same_version_anew_does_not() {
    let mut h = harness();
    let collection = h.create_collection(&schema("things"), 1);
    let segment = h.create_segment(&collection, 0);
    h.step(Event::Record(true));
    h.swap(&component());
    h.append_insert(&collection, 0, segment, 0..10);
    h.tick();
    assert!(h.recordings_ended.is_empty() && !h.recorded.is_empty());

    let recorded = h.recorded.len();
    h.swap(&twin(b'a'));
    h.tick();
    assert!(h.recordings_ended[0].contains(" follows "), "{:?}", h.recordings_ended);
    assert_eq!(h.recorded[recorded..].iter().filter(|t| !t.input.page.is_empty()).count(), 0, "turns of the other version");

    // An instance that gives no state away: the next one recovers.
    h.step(Event::Record(true));
    h.snapshot_traps = true;
    h.swap(&twin(b'a'));
    assert_eq!(h.recordings_ended[1..], ["a new instance recovers"]);

    // On probation it is rolled back, afterwards it is lost.
    for ended in ["is rolled back: it failed on probation", "the instance was lost"] {
        h.step(Event::Record(true));
        h.traps = (h.turns + 1..h.turns + 100).collect();
        h.append_insert(&collection, 0, segment, 10..20);
        h.tick();
        assert!(h.recordings_ended.last().unwrap().contains(ended), "{:?}", h.recordings_ended);
        h.traps.clear();
        h.pass_ms(60_000);
        h.tick();
    }
    h.step(Event::Record(true));
    h.step(Event::Stop);
    assert_eq!(h.recordings_ended[4..], ["the node is stopping"]);
    assert!(h.core.recordable().is_err());
}

/// A folder with a running node of one pchannel or more.
struct Place {
    root: tempfile::TempDir,
    dir: String,
    node: Ended,
}

impl Place {
    fn new(pchannels: u32) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("n").to_str().unwrap().to_owned();
        let schema = root.path().join("schema.json");
        fs::write(&schema, SCHEMA).unwrap();
        run_json(&["collection", "create", "--dir", &dir, "--schema", schema.to_str().unwrap(), "--json"]);
        fs::write(root.path().join("n/tidegate.toml"), format!("pchannels = {pchannels}\n")).unwrap();
        let node = node(&dir);
        Self { root, dir, node }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn ingest_and_flush(&self, range: std::ops::Range<i64>) {
        let (file, schema) = (self.path("rows.parquet"), schema("things"));
        let mut out = RowsOut::create(&file, &schema).unwrap();
        out.write(&rows(&schema, range)).unwrap();
        out.finish().unwrap();
        let file = file.to_str().unwrap();
        run_json(&["ingest", "--dir", &self.dir, "--collection", "things", "--file", file, "--batch-rows", "50", "--json"]);
        run_json(&["flush", "--dir", &self.dir, "--collection", "things", "--json"]);
    }

    /// Starts a recording and waits until its file is begun.
    fn record(&self, args: &[&str]) -> Ended {
        let mut command = Command::new(binary());
        command.args(["record", "--dir", &self.dir, "--json"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let recording = Ended(command.spawn().unwrap());
        self.wait_for(|names| names.iter().any(|n| n.ends_with(".partial")));
        recording
    }

    fn traces(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("n/traces")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn wait_for(&self, done: impl Fn(&[String]) -> bool) {
        let began = Instant::now();
        while !done(&self.traces()) {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", self.traces());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn only_trace(&self) -> Trace {
        let names = self.traces();
        assert_eq!(names.len(), 1, "{names:?}");
        Trace::read(&self.path("n/traces").join(&names[0])).unwrap()
    }
}

/// The result of a recording that a process ended with.
fn result(mut recording: Ended) -> Value {
    let out = BufReader::new(recording.0.stdout.take().unwrap()).lines();
    let last = out.map(Result::unwrap).last().unwrap();
    assert!(recording.0.wait().unwrap().success());
    serde_json::from_str(&last).unwrap()
}

fn flushes(turns: &[Turn]) -> usize {
    let intents = turns.iter().flat_map(|t| &t.output.intents);
    intents.filter(|i| matches!(i, Intent::Sync { flush: true, .. })).count()
}

fn delivered(turns: &[Turn]) -> usize {
    turns.iter().map(|t| t.output.taken).sum()
}

/// Runs a trace with the component that this file was built with, and compares every turn.
fn replay(trace: &Trace) {
    let mut instance = component().start(&trace.header.config, trace.base.as_deref()).unwrap();
    for (nth, turn) in trace.turns.iter().enumerate() {
        assert_eq!(instance.turn(&turn.input).unwrap(), *turn.output, "turn {nth}");
    }
}

#[test]
fn what_a_node_does_while_it_is_recorded_is_in_the_trace_and_runs_again() {
    let place = Place::new(1);
    place.ingest_and_flush(0..100);
    let recording = place.record(&["--turns", "1000000", "--seconds", "8"]);
    place.ingest_and_flush(100..1_100);
    let said = result(recording);
    assert_eq!(said["ended"], "8 s are over");
    let trace = place.only_trace();
    assert_eq!(said["turns"], trace.turns.len());
    let file = Path::new(said["file"].as_str().unwrap());
    assert_eq!(said["bytes"], file.metadata().unwrap().len());
    assert!(file.file_name().unwrap().to_str().unwrap().ends_with(&format!("-{}-1.trace", &trace.header.component[..8])), "{file:?}");
    assert_eq!(trace.header.component, component().digest);
    assert!(flushes(&trace.turns) >= 2, "both flushes: {}", flushes(&trace.turns));
    println!(
        "{} turns with {} messages in {} bytes: {:.0} bytes a turn, {:.1} a message",
        trace.turns.len(),
        delivered(&trace.turns),
        said["bytes"],
        said["bytes"].as_f64().unwrap() / trace.turns.len() as f64,
        said["bytes"].as_f64().unwrap() / delivered(&trace.turns) as f64,
    );
    replay(&trace);
}

#[test]
fn a_recording_ends_at_its_bounds_and_a_bound_that_is_too_small_writes_nothing() {
    let place = Place::new(1);
    let at = place.path("three.trace");
    let out = ["--out", at.to_str().unwrap()];
    let record = |args: &[&str]| run_json(&[&["record", "--dir", &place.dir, "--json"], args, &out[..]].concat());
    assert_eq!(record(&["--turns", "3"])["ended"], "3 turns are recorded");
    assert_eq!(Trace::read(&at).unwrap().turns.len(), 3);
    place.ingest_and_flush(0..500);
    let said = record(&["--max-bytes", "3000", "--seconds", "60"]);
    assert_eq!(said["ended"], "3000 bytes are the bound, and the next turn would pass it");
    assert!(said["turns"].as_u64().unwrap() > 3 && at.metadata().unwrap().len() <= 3_000, "{said}");
    replay(&Trace::read(&at).unwrap());

    let small = run(&["record", "--dir", &place.dir, "--max-bytes", "100"]);
    assert_eq!(small.status.code(), Some(2), "{small:?}");
    let folder = run(&["record", "--dir", &place.dir, "--out", place.root.path().to_str().unwrap()]);
    assert!(folder.status.code() == Some(2) && String::from_utf8_lossy(&folder.stderr).contains("name a file"), "{folder:?}");
    assert!(place.traces().is_empty());
}

#[test]
fn a_command_that_goes_away_and_a_node_that_stops_end_a_recording_with_what_it_has() {
    let mut place = Place::new(1);
    let mut recording = place.record(&["--seconds", "600"]);
    recording.0.kill().unwrap();
    place.wait_for(|names| names.iter().all(|n| n.ends_with(".trace")));
    assert!(place.only_trace().end.contains("nobody waits"), "{}", place.only_trace().end);
    fs::remove_file(place.path("n/traces").join(&place.traces()[0])).unwrap();

    let recording = place.record(&["--seconds", "600"]);
    let second = run(&["record", "--dir", &place.dir]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("recorded already"), "{second:?}");
    let stopped = Command::new("kill").args(["-TERM", &place.node.0.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let said = result(recording);
    place.node.0.wait().unwrap();
    assert!(said["ended"].as_str().unwrap().contains("the node is stopping"), "{said}");
    assert_eq!(place.only_trace().end, said["ended"].as_str().unwrap());
}

#[test]
fn of_several_pchannels_one_is_to_be_named() {
    let place = Place::new(2);
    let unnamed = run(&["record", "--dir", &place.dir]);
    let said = String::from_utf8_lossy(&unnamed.stderr);
    assert!(unnamed.status.code() == Some(2) && said.contains("tidegate-dml_0, tidegate-dml_1"), "{said}");
    let said = run_json(&["record", "--dir", &place.dir, "--pchannel", "tidegate-dml_1", "--seconds", "0", "--json"]);
    assert_eq!((&said["ended"], place.only_trace().header.pchannel.as_str()), (&"0 s are over".into(), "tidegate-dml_1"));
}

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/demo");

/// Records a pchannel while the demo's rows are ingested and flushed; returns the folder and the trace.
fn recorded() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (dir, trace) = (path("n"), path("demo.trace"));
    let (schema, rows) = (format!("{DEMO}/digits.schema.json"), format!("{DEMO}/digits.parquet"));
    run_json(&["collection", "create", "--dir", &dir, "--schema", &schema, "--json"]);
    let _node = node(&dir);
    let channel = run_json(&["status", "--dir", &dir, "--json"]);
    let served = |p: &&Value| p["channels"].as_array().is_some_and(|c| !c.is_empty());
    let pchannel = channel["pchannels"].as_array().unwrap().iter().find(served).unwrap()["pchannel"].as_str().unwrap().to_owned();
    let mut record = Command::new(binary());
    record.args(["record", "--dir", &dir, "--pchannel", &pchannel, "--out", &trace, "--seconds", "8", "--json"]);
    let record = Ended(record.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let partial = format!("{trace}.partial");
    while !fs::exists(&partial).unwrap() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    run_json(&["ingest", "--dir", &dir, "--collection", "digits", "--file", &rows, "--batch-rows", "20", "--json"]);
    run_json(&["flush", "--dir", &dir, "--collection", "digits", "--json"]);
    let mut record = record;
    assert!(record.0.wait().unwrap().success());
    (root, trace)
}

/// DT-1.
#[test]
fn a_recorded_demo_is_replayed_to_the_byte_and_another_component_gets_a_report() {
    let (root, trace) = recorded();
    let same = run_json(&["replay", "--trace", &trace, "--json"]);
    assert_eq!((&same["identical"], &same["ended"]), (&Value::Bool(true), &Value::Null), "{same}");
    assert!(same["turns"].as_u64() > Some(20) && same["recorded_with"] == same["replayed_with"], "{same}");
    let next = root.path().join("next.wasm");
    fs::write(&next, guests::NEXT).unwrap();
    let other = run_json(&["replay", "--trace", &trace, "--component", next.to_str().unwrap(), "--json"]);
    let (recorded, replayed) = (&other["report"]["recorded"], &other["report"]["replayed"]);
    assert!(replayed["syncs"].as_u64() > recorded["syncs"].as_u64(), "{other}");
    assert!(other["report"]["first"]["replayed"].as_str().unwrap().contains("Sync"), "{other}");
    assert_eq!(other["refused"], Value::Null, "{other}");

    let bytes = fs::read(&trace).unwrap();
    let damaged = root.path().join("damaged.trace");
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damage in [&bytes[..bytes.len() / 2], &flipped] {
        fs::write(&damaged, damage).unwrap();
        let output = run(&["replay", "--trace", damaged.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("byte ") && !said.contains("panicked"), "{said}");
    }
}
