//! What was acknowledged, and whether it is read back exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use tidegate::tables::{RowsFile, RowsOut};
use tidegate_message::columns::Columns;
use tidegate_message::schema::Schema;
use tidegate_tests::process::{Ended, binary, run, run_json};
use tidegate_tests::rows::{rows, schema};

/// The definition of [`schema`] for the command line.
const DEFINITION: &str = r#"{"name": "NAME", "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true},
    {"name": "text", "dtype": "VARCHAR", "params": {"max_length": 64}},
    {"name": "vector", "dtype": "FLOAT_VECTOR", "params": {"dim": 4}}]}"#;

/// The rows of one collection, as its user knows them.
pub struct Written {
    /// The node's directory.
    pub dir: PathBuf,
    /// The collection.
    pub name: String,
    schema: Schema,
    scratch: tempfile::TempDir,
    acknowledged: BTreeSet<i64>,
    next: i64,
}

/// An ingest under way.
pub struct Ingest {
    process: Ended,
    keys: Range<i64>,
    acknowledged: JoinHandle<BTreeSet<i64>>,
    said: JoinHandle<String>,
}

/// How an ingest ended.
pub struct Outcome {
    /// Rows that it acknowledged.
    pub acknowledged: usize,
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said on standard error.
    pub said: String,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

impl Written {
    /// Creates the collection, on two shards.
    pub fn new(dir: &Path, name: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let definition = scratch.path().join("schema.json");
        fs::write(&definition, DEFINITION.replace("NAME", name)).expect("a file");
        run_json(&["collection", "create", "--dir", text(dir), "--schema", text(&definition), "--shards", "2", "--json"]);
        let (acknowledged, name) = (BTreeSet::new(), name.to_owned());
        Self { dir: dir.to_owned(), schema: schema(&name), name, scratch, acknowledged, next: 0 }
    }

    /// Rows that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Begins to insert `count` rows with keys that were never used, `batch` at a time.
    pub fn begin(&mut self, count: i64, batch: i64) -> Ingest {
        let keys = self.next..self.next + count;
        self.next = keys.end;
        let file = self.scratch.path().join(format!("{}.parquet", keys.start));
        let mut out = RowsOut::create(&file, &self.schema).expect("a file");
        out.write(&rows(&self.schema, keys.clone())).and_then(|()| out.finish()).expect("rows");
        let mut command = Command::new(binary());
        command.args(["ingest", "--dir", text(&self.dir), "--collection", &self.name, "--file", text(&file)]);
        command.args(["--batch-rows", &batch.to_string(), "--json"]);
        let mut process = Ended(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("an ingest starts"));
        let (out, mut err) = (process.0.stdout.take().expect("piped"), process.0.stderr.take().expect("piped"));
        let base = keys.start;
        let acknowledged = thread::spawn(move || {
            let mut acknowledged = BTreeSet::new();
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let (Some(first), Some(last)) = (line["acknowledged"][0].as_i64(), line["acknowledged"][1].as_i64()) {
                    acknowledged.extend(base + first..=base + last);
                }
            }
            acknowledged
        });
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _whole = err.read_to_string(&mut said);
            said
        });
        Ingest { process, keys, acknowledged, said }
    }

    /// Waits for the end of an ingest and takes down what it acknowledged.
    pub fn end(&mut self, mut ingest: Ingest) -> Outcome {
        let new = ingest.acknowledged.join().expect("read");
        assert!(new.iter().all(|key| ingest.keys.contains(key)), "rows were acknowledged that nobody sent");
        let said = ingest.said.join().expect("read");
        let code = ingest.process.0.wait().expect("a child").code();
        let acknowledged = new.len();
        self.acknowledged.extend(new);
        Outcome { acknowledged, code, said }
    }

    /// Inserts rows that must all be acknowledged.
    pub fn insert(&mut self, count: i64) {
        let ingest = self.begin(count, count);
        let outcome = self.end(ingest);
        assert_eq!((outcome.code, outcome.acknowledged as i64), (Some(0), count), "{}", outcome.said);
    }

    /// The names of its channels.
    pub fn vchannels(&self) -> Vec<String> {
        let told = run_json(&["collection", "list", "--dir", text(&self.dir), "--json"]);
        let collections = told["collections"].as_array().expect("collections").iter();
        let mine = collections.filter(|c| c["collection"].as_str() == Some(&self.name));
        let channels = mine.flat_map(|c| c["vchannels"].as_array().expect("channels"));
        channels.map(|v| v.as_str().expect("a name").to_owned()).collect()
    }

    /// The keys of its segments' files.
    pub fn files(&self) -> BTreeSet<String> {
        let told = run_json(&["segments", "--dir", text(&self.dir), "--collection", &self.name, "--files", "--json"]);
        let segments = told["segments"].as_array().expect("segments").iter();
        let paths = segments.flat_map(|s| s["paths"].as_array().expect("paths"));
        paths.map(|path| path.as_str().expect("a key").to_owned()).collect()
    }

    /// Asks for a flush that must succeed.
    pub fn flush(&self) {
        let flushed = run_json(&["flush", "--dir", text(&self.dir), "--collection", &self.name, "--json"]);
        assert_eq!(flushed["ledger_closed"].as_bool(), Some(true), "LD-1: {flushed}");
    }

    /// Runs a command on the directory that may fail; returns its exit code and what it said.
    pub fn ask(&self, command: &[&str]) -> (Option<i32>, String) {
        let output = run(&[command, &["--dir", text(&self.dir)]].concat());
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// Flushes, reads everything back, and compares: every acknowledged row once, with its values; the others at most once; no more.
    pub fn check(&self) {
        self.flush();
        let back = self.scratch.path().join("back.parquet");
        run_json(&["scan", "--dir", text(&self.dir), "--collection", &self.name, "--out", text(&back), "--json"]);
        let mut found: BTreeMap<i64, usize> = BTreeMap::new();
        for columns in RowsFile::open(&back, &self.schema, false).and_then(|file| file.read(0, 4096)).expect("a rows file") {
            let columns = columns.expect("rows");
            for row in 0..columns.rows {
                let one = columns.select(&[row]);
                let key = tidegate_tests::rows::keys(&one)[0];
                assert_eq!(values(&one), values(&rows(&self.schema, key..key + 1)), "FL-2: the row of key {key} has other values");
                *found.entry(key).or_default() += 1;
            }
        }
        let doubled = found.iter().find(|(_, times)| **times > 1);
        assert_eq!(doubled, None, "FL-2: a row is stored more than once");
        let lost: Vec<&i64> = self.acknowledged.iter().filter(|key| !found.contains_key(key)).collect();
        assert!(lost.is_empty(), "FL-2: {} of {} acknowledged rows are lost, such as {:?}", lost.len(), self.acknowledged.len(), lost[0]);
        assert!(found.keys().all(|key| (0..self.next).contains(key)), "a row that nobody wrote");
        println!("{}: {} rows acknowledged, {} read back", self.name, self.acknowledged.len(), found.len());
    }
}

/// The values of the user's fields.
fn values(columns: &Columns) -> String {
    columns.fields.iter().filter(|f| f.field_id >= 100).map(|f| format!("{:?};", f.values)).collect()
}
