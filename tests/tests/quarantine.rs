//! `tidegate quarantine` on the real binary: what is set aside is listed, appended again once, and refused where that would be wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate::coordinator::EmbeddedCoordinator;
use tidegate::node::{Node, Settings};
use tidegate::wal::Log;
use tidegate::wal::embedded::{EmbeddedLogs, LogLimits};
use tidegate_core::coordinator::{CollectionInfo, pchannel_of};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::PrimaryKey;
use tidegate_message::{MessageId, Outgoing, TxnContext, WalName, properties};
use tidegate_tests::process::{node, run, run_json};
use tidegate_tests::rows::{keys, rows, schema};

/// A node's directory with a collection of ten rows, in flushed segments.
struct At {
    dir: tempfile::TempDir,
    collection: CollectionInfo,
}

impl At {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
        let collection = node.create_collection(&schema("things"), 1, &[]).unwrap();
        node.insert(&collection, None, &rows(&collection.schema, 0..10)).unwrap();
        node.flush(&collection, &mut |_| ()).unwrap();
        node.shutdown();
        Self { dir, collection }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("n")
    }

    fn open(&self) -> Node {
        Node::open(&self.path(), Settings::default(), false).unwrap()
    }

    fn vchannel(&self) -> &str {
        &self.collection.shards[0].vchannel
    }

    fn pchannel(&self) -> &str {
        pchannel_of(self.vchannel())
    }

    fn insert(&self, keys: std::ops::Range<i64>) -> Outgoing {
        let columns = rows(&self.collection.schema, keys.clone());
        let user: Vec<_> = columns.fields.into_iter().filter(|f| f.field_id >= 100).collect();
        let row_ids: Vec<i64> = keys.collect();
        let (collection, partition) = (self.collection.id, self.collection.partitions[0].id);
        build::insert(
            self.vchannel(),
            &InsertAssignment { collection, partition, segment: 77, rows: row_ids.len() as u64, bytes: 64 },
            &user,
            &row_ids,
        )
    }

    /// Writes lines into the dead-letter file, as a flusher does.
    fn write(&self, lines: &[Value]) {
        let file = self.path().join("dead_letters").join(format!("{}.jsonl", self.pchannel()));
        let text: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(file, text.concat()).unwrap();
    }

    /// A line of the dead-letter file, of a message on which the component faults.
    fn letter(&self, id: &str, tick: u64, message: Outgoing) -> Value {
        let vchannel = message.properties.get(properties::VCHANNEL).cloned().unwrap_or_default();
        let id = MessageId::unmarshal(WalName::RocksMq, id).unwrap();
        let (payload, stamped) = message.stamp(tick, &id, 1);
        json!({
            "id": id.marshal(), "vchannel": vchannel, "tick": tick, "reason": "the component faults on it", "properties": stamped,
            "payload": properties::encode_base64(&payload), "poison": true, "wal": "rocksmq",
        })
    }

    /// Appends messages that no write path would.
    fn append(&self, messages: Vec<Outgoing>) {
        let coordinator = Arc::new(EmbeddedCoordinator::open(&self.path().join("meta")).unwrap());
        let logs = EmbeddedLogs::open(&self.path().join("wal"), LogLimits::default()).unwrap();
        let term = coordinator.acquire_term(self.pchannel()).unwrap();
        logs.open_pchannel(self.pchannel(), term, coordinator).unwrap().append(messages).unwrap();
    }

    fn quarantine(&self, args: &[&str]) -> std::process::Output {
        run(&[&["quarantine"], args, &["--dir", self.path().to_str().unwrap()]].concat())
    }

    fn json(&self, args: &[&str]) -> Value {
        run_json(&[&["quarantine"], args, &["--json", "--dir", self.path().to_str().unwrap()]].concat())
    }

    /// State and detail of the messages that are set aside.
    fn states(&self) -> Vec<(String, String)> {
        let listed = self.json(&["list"]);
        let text = |l: &Value, key: &str| l[key].as_str().unwrap_or_default().to_owned();
        listed["quarantined"].as_array().unwrap().iter().map(|l| (text(l, "state"), text(l, "detail"))).collect()
    }

    /// Keys of the collection's rows once they are flushed.
    fn flushed(&self) -> Vec<i64> {
        let node = self.open();
        let collection = node.collection("things").unwrap();
        node.flush(&collection, &mut |_| ()).unwrap();
        let mut found = Vec::new();
        node.read_rows(&collection, &mut |columns| {
            found.extend(keys(&columns));
            Ok(())
        })
        .unwrap();
        node.shutdown();
        found.sort_unstable();
        found
    }
}

fn range(keys: std::ops::Range<i64>) -> Vec<i64> {
    keys.collect()
}

fn refusal(output: &std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said
}

#[test]
fn a_message_that_is_set_aside_is_listed_and_appended_again_once() {
    let at = At::new();
    at.write(&[
        at.letter("900", 1_000, at.insert(100..110)),
        at.letter("901", 1_001, build::delete(at.vchannel(), at.collection.id, -1, &[PrimaryKey::Int64(3)])),
    ]);
    let served = node(at.path().to_str().unwrap());
    let listed = at.json(&["list"]);
    let [insert, delete] = &listed["quarantined"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&insert["id"], &insert["kind"], &insert["rows"]), (&json!("900"), &json!("Insert"), &json!(10)));
    assert_eq!((&insert["pchannel"], &insert["vchannel"]), (&json!(at.pchannel()), &json!(at.vchannel())));
    assert_eq!(
        (&delete["kind"], &delete["rows"], &delete["tick"], &delete["state"]),
        (&json!("Delete"), &json!(1), &json!(1_001), &json!("held"))
    );
    let output = at.quarantine(&["retry", "900"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("10 rows of Insert") && said.contains("tick 1000 is now ") && said.contains("come back"), "{said}");
    drop(served);
    let retried = at.json(&["retry", &format!("{}/901", at.pchannel())]);
    let retried = &retried["retried"][0];
    assert!(retried["old_tick"] == json!(1_001) && retried["tick"].as_u64() > Some(1_001) && retried["segment"].is_null(), "{retried}");
    let states = at.states();
    assert!(states.iter().all(|(state, detail)| state == "retried" && detail.contains("appended again")), "{states:?}");
    for id in ["900", "901"] {
        assert!(refusal(&at.quarantine(&["retry", id])).contains("it was appended again"));
    }
    let expected: Vec<i64> = (0..10).filter(|k| *k != 3).chain(100..110).collect();
    assert_eq!(at.flushed(), expected, "once");
    at.json(&["retry", "900", "--force"]);
    let twice: Vec<i64> = (0..10).filter(|k| *k != 3).chain((100..110).flat_map(|k| [k, k])).collect();
    assert_eq!(at.flushed(), twice, "an operator who insists gets what was asked for");
    assert_eq!(at.json(&["retry", "--all"])["retried"], json!([]), "nothing waits");
    assert!(refusal(&at.quarantine(&["retry", "5"])).contains("no message \"5\" is set aside"));
}

#[test]
fn what_cannot_be_appended_again_is_refused_with_its_reason_and_nothing_is_written() {
    let at = At::new();
    let with = |change: &dyn Fn(&mut Outgoing)| {
        let mut message = at.insert(100..110);
        change(&mut message);
        message
    };
    let set = |key: &'static str, value: &str| {
        let value = value.to_owned();
        with(&move |m| drop(m.properties.insert(key.to_owned(), value.clone())))
    };
    let assigned = |collection: i64, partition: i64| {
        let to = InsertAssignment { collection, partition, segment: 77, rows: 10, bytes: 64 };
        let user: Vec<_> = rows(&at.collection.schema, 0..10).fields.into_iter().filter(|f| f.field_id >= 100).collect();
        build::insert(at.vchannel(), &to, &user, &range(0..10))
    };
    let narrow = {
        let mut columns = rows(&at.collection.schema, 0..10);
        columns.fields.retain(|f| f.field_id == 100);
        let to =
            InsertAssignment { collection: at.collection.id, partition: at.collection.partitions[0].id, segment: 77, rows: 10, bytes: 64 };
        build::insert(at.vchannel(), &to, &columns.fields, &range(0..10))
    };
    let mut other_log = at.letter("7", 1_000, at.insert(100..110));
    other_log["wal"] = json!("kafka");
    let cases = [
        (at.letter("1", 1_000, with(&|m| m.payload.truncate(m.payload.len() - 7))), "it cannot be read"),
        (at.letter("2", 1_000, set(properties::CIPHER, "CAE=")), "it is encrypted"),
        (at.letter("3", 1_000, set(properties::VCHANNEL, "elsewhere_0_1v0")), "it is of another log"),
        (at.letter("4", u64::MAX >> 2, at.insert(100..110)), "it is of another log"),
        (at.letter("5", 1_000, assigned(4_711, 4_712)), "no collection 4711"),
        (at.letter("6", 1_000, assigned(at.collection.id, 4_712)), "no partition 4712"),
        (other_log, "of kind kafka"),
        (at.letter("8", 1_000, narrow), "it does not fit collection \"things\""),
        (at.letter("9", 1_000, build::manual_flush(at.vchannel(), at.collection.id, 0, &[1])), "only rows and deletes"),
    ];
    at.write(&cases.iter().map(|(letter, _)| letter.clone()).collect::<Vec<_>>());
    let done = at.json(&["retry", "--all"]);
    assert_eq!(done["retried"], json!([]));
    let refused = done["refused"].as_array().unwrap();
    assert_eq!(refused.len(), cases.len());
    for ((letter, why), refused) in cases.iter().zip(refused) {
        assert_eq!(letter["id"], refused["id"]);
        assert!(refused["reason"].as_str().unwrap().contains(why), "{why}: {refused}");
    }
    assert!(refusal(&at.quarantine(&["retry", "2"])).contains("it is encrypted"));
    assert!(at.states().iter().all(|(state, detail)| state == "held" && detail.is_empty()));
    assert_eq!(at.flushed(), range(0..10));
}

#[test]
fn messages_of_a_dropped_collection_stay_where_they_are() {
    let at = At::new();
    at.write(&[at.letter("900", 1_000, at.insert(100..110))]);
    let node = at.open();
    node.drop_collection("things").unwrap();
    node.shutdown();
    assert!(refusal(&at.quarantine(&["retry", "900"])).contains("it was dropped"));
}

#[test]
fn a_retry_that_a_crash_cut_short_is_said_and_not_repeated_unasked() {
    let at = At::new();
    let name = format!("900 {} 1000", at.vchannel());
    at.write(&[at.letter("900", 1_000, at.insert(100..110)), json!({ "mark": "retrying", "names": [name], "at_ms": 5 })]);
    let states = at.states();
    assert!(states[0].0 == "retrying" && states[0].1.contains("whether its rows are in the log is not known"), "{states:?}");
    assert_eq!(at.json(&["retry", "--all"])["retried"], json!([]));
    assert!(refusal(&at.quarantine(&["retry", "900"])).contains("--force"));
    at.json(&["retry", "900", "--force"]);
    assert_eq!(at.states()[0].0, "retried");
    assert_eq!(at.flushed(), [range(0..10), range(100..110)].concat());
}

#[test]
fn messages_of_a_transaction_are_appended_again_together_or_not_at_all() {
    let at = At::new();
    let txn = TxnContext { txn_id: 5, keepalive_ms: 1_000 };
    let other = TxnContext { txn_id: 6, keepalive_ms: 1_000 };
    let of = |txn: &TxnContext, message| build::with_txn(message, txn);
    at.write(&[
        at.letter("900", 1_000, of(&txn, at.insert(100..110))),
        at.letter("901", 1_000, of(&txn, at.insert(110..120))),
        at.letter("902", 1_000, of(&other, at.insert(200..210))),
        at.letter("903", 1_000, of(&other, build::delete(at.vchannel(), at.collection.id + 1, -1, &[PrimaryKey::Int64(1)]))),
    ]);
    let done = at.json(&["retry", "901"]);
    assert_eq!(done["retried"].as_array().unwrap().iter().map(|r| r["id"].clone()).collect::<Vec<_>>(), ["900", "901"]);
    assert!(refusal(&at.quarantine(&["retry", "902"])).contains("903"));
    let states: Vec<String> = at.states().into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["retried", "retried", "held", "held"]);
    assert_eq!(at.flushed(), [range(0..10), range(100..120)].concat());
    at.json(&["retry", "902", "--force"]);
    assert_eq!(at.flushed(), [range(0..10), range(100..120), range(200..210)].concat());
}

/// Opens the node until so many messages are set aside.
fn until_set_aside(path: &Path, count: usize) -> Vec<tidegate::node::Quarantined> {
    let node = Node::open(path, Settings::default(), false).unwrap();
    let began = Instant::now();
    loop {
        let found = node.quarantined().unwrap();
        if found.len() >= count {
            node.shutdown();
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{found:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn rows_that_their_schema_does_not_take_are_listed_with_the_reason_and_hold_nothing() {
    let at = At::new();
    let mut columns = rows(&at.collection.schema, 20..30);
    columns.fields.retain(|f| f.field_id == 100);
    let (collection, partition) = (at.collection.id, at.collection.partitions[0].id);
    let to = InsertAssignment { collection, partition, segment: 77, rows: 10, bytes: 64 };
    at.append(vec![build::insert(at.vchannel(), &to, &columns.fields, &range(20..30))]);
    let found = until_set_aside(&at.path(), 1);
    assert_eq!((found[0].kind.as_str(), found[0].rows, found[0].state.as_str()), ("Insert", Some(10), "held"));
    let said = String::from_utf8(at.quarantine(&["list"]).stdout).unwrap();
    assert!(said.contains(&found[0].reason) && said.contains("Insert of") && said.contains("10 rows"), "{said}");
    assert!(refusal(&at.quarantine(&["retry", &found[0].id])).contains("it does not fit collection"));
    assert_eq!(at.flushed(), range(0..10));
}

#[test]
fn a_control_message_is_given_up_by_name_and_rows_are_not() {
    let at = At::new();
    let mut broken = build::flush_all(at.pchannel());
    broken.properties.insert(properties::TXN.to_owned(), "!!".to_owned());
    at.write(&[at.letter("1", 1_000, at.insert(20..30)), at.letter("2", 1_001, broken)]);
    assert!(refusal(&at.quarantine(&["retry", "--skip", "1"])).contains("it carries rows"));
    let said = at.quarantine(&["retry", "--skip", "2"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("a FlushAll, is skipped"), "{said:?}");
    assert!(refusal(&at.quarantine(&["retry", "--skip", "2"])).contains("skipped already"));
    assert_eq!(at.states().into_iter().map(|(state, _)| state).collect::<Vec<_>>(), ["held", "skipped"]);
}
