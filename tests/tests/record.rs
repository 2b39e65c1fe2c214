//! Recorded turns of a live node, replayed: by the component that they are of, and by another one.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate_tests::guests;
use tidegate_tests::process::{Ended, binary, node, run, run_json};

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
