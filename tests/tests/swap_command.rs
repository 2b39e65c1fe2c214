//! Swaps on the real binary, and a node that is killed in the middle of one.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tidegate::engine::BUILT_IN;
use tidegate::tables::{RowsFile, RowsOut};
use tidegate_tests::guests;
use tidegate_tests::process::{Ended, binary, node, run, run_json};
use tidegate_tests::rows::{keys, rows, schema};

const SCHEMA: &str = r#"{"name": "things", "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true},
    {"name": "text", "dtype": "VARCHAR", "params": {"max_length": 64}},
    {"name": "vector", "dtype": "FLOAT_VECTOR", "params": {"dim": 4}}]}"#;
/// Steps of a swap at which a node can be stopped, in their order.
const POINTS: [&str; 10] =
    ["stored", "self-tested", "prepared", "begun", "handing-over", "standing", "verified", "committed", "written", "ended"];

/// A folder with a node, rows, and a component that is the built-in one as another file.
struct Place {
    root: tempfile::TempDir,
    dir: String,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("n").to_str().unwrap().to_owned();
        let place = Self { root, dir };
        fs::write(place.path("schema.json"), SCHEMA).unwrap();
        // A custom section without content.
        fs::write(place.path("twin.wasm"), [BUILT_IN, &[0, 5, 4, b't', b'w', b'i', b'n']].concat()).unwrap();
        place.json(&["collection", "create", "--dir", &place.dir, "--schema", &place.path("schema.json"), "--shards", "2"]);
        place
    }

    fn path(&self, name: &str) -> String {
        self.root.path().join(name).to_str().unwrap().to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        run_json(&[args, &["--json"]].concat())
    }

    fn ingest(&self, range: std::ops::Range<i64>) {
        let (file, schema) = (PathBuf::from(self.path("rows.parquet")), schema("things"));
        let mut out = RowsOut::create(&file, &schema).unwrap();
        out.write(&rows(&schema, range)).unwrap();
        out.finish().unwrap();
        self.json(&["ingest", "--dir", &self.dir, "--collection", "things", "--file", file.to_str().unwrap(), "--batch-rows", "50"]);
    }

    /// Keys of the rows in flushed segments; panics on a row that is there twice.
    fn flushed(&self) -> BTreeSet<i64> {
        let back = self.path("back.parquet");
        self.json(&["flush", "--dir", &self.dir, "--collection", "things"]);
        self.json(&["scan", "--dir", &self.dir, "--collection", "things", "--out", &back]);
        let mut found = BTreeSet::new();
        for columns in RowsFile::open(Path::new(&back), &schema("things"), false).unwrap().read(0, 4096).unwrap() {
            keys(&columns.unwrap()).into_iter().for_each(|key| assert!(found.insert(key), "row {key} is stored twice"));
        }
        found
    }

    /// What serves each pchannel.
    fn components(&self) -> Vec<String> {
        let status = self.json(&["status", "--dir", &self.dir]);
        status["pchannels"].as_array().unwrap().iter().map(|p| p["component"].as_str().unwrap().to_owned()).collect()
    }

    /// The steps in the swap log, with their verdicts.
    fn log(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(format!("{}/components/swaps.jsonl", self.dir)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|l| (l["step"].as_str().unwrap().to_owned(), l["verdict"].as_str().unwrap_or_default().to_owned())).collect()
    }
}

/// Not a test by itself: the node of the tests below, a process of this file, whose build has the points to stop at.
#[test]
fn the_node_of_these_tests() {
    if let Some(dir) = std::env::var_os("TIDEGATE_TEST_NODE") {
        let args: Vec<OsString> = vec!["tidegate".into(), "node".into(), "--dir".into(), dir, "--json".into()];
        let _code = tidegate::cli::main_with(args);
    }
}

/// Starts a node that stops at a point of a swap; its standard error says when.
fn node_that_pauses(dir: &str, point: &str) -> Ended {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["the_node_of_these_tests", "--exact", "--nocapture"]).env("TIDEGATE_TEST_NODE", dir).env("TIDEGATE_PAUSE_AT", point);
    let mut node = Ended(child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(node.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ready")), "the node did not come up");
    node
}

#[test]
fn a_node_that_is_killed_at_any_step_of_a_swap_comes_back_with_one_version_and_every_row() {
    for point in POINTS {
        let place = Place::new();
        let mut running = node_that_pauses(&place.dir, point);
        place.ingest(0..500);
        let before = place.components();
        let mut swap = Command::new(binary());
        swap.args(["swap", "--dir", &place.dir, "--component", &place.path("twin.wasm")]);
        let swapping = Ended(swap.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let mut said = BufReader::new(running.0.stderr.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap() == format!("paused at {point}")), "the swap did not come to {point}");
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        drop(swapping);

        let _node = node(&place.dir);
        let after = place.components();
        assert_eq!(after[0], after[1], "one version serves after {point}");
        assert_eq!(after != before, point == "ended", "what serves after {point}");
        let log = place.log();
        let undone = log.iter().any(|(step, why)| step == "ended" && why.contains("undone"));
        let begun = log.iter().any(|(step, _)| step == "begun");
        assert_eq!(undone, begun && point != "ended", "{point}: {log:?}");
        let opened = log.iter().filter(|(step, _)| step == "opened").collect::<Vec<_>>();
        assert_eq!(opened.len(), usize::from(point == "written"), "{point}: {log:?}");
        assert!(opened.iter().all(|(_, why)| why.contains("ended before swap 1 did")), "{opened:?}");
        place.ingest(500..600);
        assert_eq!(place.flushed(), (0..600).collect(), "rows after {point}");
    }
}

#[test]
fn a_swap_a_rollback_and_a_restart_leave_one_version_and_every_row() {
    let place = Place::new();
    let built_in = place.components();
    let running = node(&place.dir);
    place.ingest(0..500);
    let report = place.json(&["swap", "--dir", &place.dir, "--component", &place.path("twin.wasm")]);
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{report}");
    assert!(steps.iter().all(|s| s["step"] == "committed" && s["pause_us"].as_u64() > Some(0)), "{report}");
    let twin = place.components();
    assert!(twin[0] == twin[1] && twin != built_in, "{twin:?}");
    place.ingest(500..1_000);
    place.json(&["swap", "--dir", &place.dir, "--same", "--pchannel", "tidegate-dml_1"]);
    assert_eq!(place.components(), twin);
    drop(running);
    let _running = node(&place.dir);
    assert_eq!(place.components(), twin, "what was chosen is chosen after a restart");
    place.json(&["rollback", "--dir", &place.dir]);
    assert_eq!(place.components(), built_in);
    assert_eq!(place.flushed(), (0..1_000).collect());
}

/// Components that misbehave, forced upon a real node: what it says, what serves then and after a restart, and every row.
#[test]
fn a_forced_component_that_misbehaves_goes_home_and_stays_there_after_a_restart() {
    let place = Place::new();
    let built_in = place.components();
    let mut rows = 0;
    for (how, says) in [("traps 1", "trap"), ("filters 1", "guard"), ("miscounts", "ledger")] {
        let file = place.path("bad.wasm");
        fs::write(&file, guests::bad(how)).unwrap();
        let running = node(&place.dir);
        place.ingest(rows..rows + 200);
        rows += 200;
        let swapped = run(&["swap", "--dir", &place.dir, "--component", &file, "--pchannel", "tidegate-dml_0", "--force"]);
        let failed_at_once = !swapped.status.success();
        assert!(failed_at_once || how == "filters 1", "{how}: {}", String::from_utf8_lossy(&swapped.stdout));
        place.ingest(rows..rows + 200);
        rows += 200;
        assert_eq!(place.flushed(), (0..rows).collect(), "rows after {how}");
        assert_eq!(place.components(), built_in, "{how}");
        let told = place.log().into_iter().rev().find(|(step, _)| step == "rolled_back" || step == "stayed");
        assert!(told.as_ref().is_some_and(|(_, why)| why.contains(says)), "{how}: {told:?}");
        let again = run(&["swap", "--dir", &place.dir, "--component", &file]);
        let said = String::from_utf8_lossy(&again.stderr);
        assert!(!again.status.success() && said.contains("--force"), "{how}: {said}");
        drop(running);
        assert_eq!(place.components(), built_in, "{how}, after a restart");
    }
}

#[test]
fn what_is_no_component_is_refused_with_a_reason_and_changes_nothing() {
    let place = Place::new();
    let before = place.components();
    fs::write(place.path("broken.wasm"), &BUILT_IN[..BUILT_IN.len() / 2]).unwrap();
    for (args, code, says) in [
        (vec!["--component", "broken.wasm"], 2, "component"),
        (vec!["--component", "nowhere.wasm"], 2, "nowhere.wasm"),
        (vec!["--same", "--pchannel", "p_9"], 2, "tidegate-dml_0"),
    ] {
        let args: Vec<String> = args.iter().map(|a| if a.ends_with("wasm") { place.path(a) } else { (*a).to_owned() }).collect();
        let mut all = vec!["swap", "--dir", &place.dir];
        all.extend(args.iter().map(String::as_str));
        let output = run(&all);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says) && !said.contains("panicked"), "{said}");
    }
    let output = run(&["rollback", "--dir", &place.dir]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(place.components(), before);
}
