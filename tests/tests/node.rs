//! A whole node in a temporary folder: rows in, segment files, rows out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::node::{Node, Settings};
use tidegate_message::columns::{Columns, DataType, PrimaryKey, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_tests::process::run;
use tidegate_tests::rows::{keys, rows, schema};

fn read_keys(node: &Node, collection: &str) -> Vec<i64> {
    let collection = node.collection(collection).unwrap();
    let mut found = Vec::new();
    node.read_rows(&collection, &mut |columns| {
        found.extend(keys(&columns));
        Ok(())
    })
    .unwrap();
    found.sort_unstable();
    found
}

#[test]
fn rows_survive_flush_delete_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let schema = schema("things");
    let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let collection = node.create_collection(&schema, 2, &[]).unwrap();
    for batch in 0..10 {
        node.insert(&collection, None, &rows(&schema, batch * 100..batch * 100 + 100)).unwrap();
    }
    node.flush(&collection, &mut |_| ()).unwrap();
    assert_eq!(read_keys(&node, "things"), (0..1000).collect::<Vec<_>>());

    let gone: Vec<PrimaryKey> = (0..1000).step_by(10).map(PrimaryKey::Int64).collect();
    node.delete(&collection, &gone).unwrap();
    node.insert(&collection, None, &rows(&schema, 1000..1500)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let expected: Vec<i64> = (0..1500).filter(|k| k % 10 != 0 || *k >= 1000).collect();
    assert_eq!(read_keys(&node, "things"), expected);
    assert!(node.ledger_closed(), "{:#?}", node.status());

    node.insert(&collection, None, &rows(&schema, 1500..1600)).unwrap();
    node.shutdown();
    let node = Node::open(&dir.path().join("n"), Settings::default(), false).unwrap();
    let collection = node.collection("things").unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let expected: Vec<i64> = (0..1600).filter(|k| k % 10 != 0 || *k >= 1000).collect();
    assert_eq!(read_keys(&node, "things"), expected);
    node.drop_collection("things").unwrap();
}

/// The promise itself: a stop ends within 3 s, whatever it meets.
fn stop_in_time(node: Node, when: &str) {
    let began = Instant::now();
    node.shutdown();
    assert!(began.elapsed() < Duration::from_secs(3), "a stop {when} took {:?}", began.elapsed());
}

#[test]
fn a_stop_during_ingest_and_during_recovery_ends_in_time_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let schema = schema("things");
    let open = || Node::open(&path, Settings { insert_buffer_bytes: 4_096, ..Settings::default() }, true).unwrap();
    let node = open();
    node.create_collection(&schema, 2, &[]).unwrap();
    node.shutdown();
    let mut written = 0;
    for round in 0..6_u64 {
        // The rows of the rounds before are read again: a stop meets each step of that.
        let node = open();
        thread::sleep(Duration::from_millis(round * 15));
        stop_in_time(node, &format!("{} ms into a recovery", round * 15));
        let node = Arc::new(open());
        let collection = node.collection("things").unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let ingest = thread::spawn({
            let (node, ended, schema) = (node.clone(), ended.clone(), schema.clone());
            move || {
                let mut next = written;
                while !ended.load(Ordering::Relaxed) {
                    node.insert(&collection, None, &rows(&schema, next..next + 100)).unwrap();
                    next += 100;
                }
                next
            }
        });
        thread::sleep(Duration::from_millis(100));
        // The flushers stop while rows still come.
        node.stop();
        thread::sleep(Duration::from_millis(20));
        ended.store(true, Ordering::Relaxed);
        written = ingest.join().unwrap();
        stop_in_time(Arc::into_inner(node).unwrap(), "during ingest");
    }
    // Threads of a stopped node would still hold its databases, and the directory.
    let node = open();
    let collection = node.collection("things").unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    assert_eq!(read_keys(&node, "things"), (0..written).collect::<Vec<_>>());
}

#[test]
fn long_keys_and_rows_of_very_different_sizes_fit_into_the_log() {
    let key = |n: usize| format!("{n} {}", "k".repeat(60_000));
    let fields = vec![
        Field { is_primary: true, max_length: 65_535, ..Field::new(100, "id", DataType::VarChar) },
        Field::new(101, "doc", DataType::Json),
    ];
    let schema = Schema { name: "things".into(), fields, enable_dynamic_field: false, version: 0 };
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    // Many small documents, and twenty of 2 MB side by side: more than an append takes.
    let mut columns = Columns::new(&schema);
    columns.rows = 300;
    for row in 0..columns.rows {
        let doc = if (100..120).contains(&row) { format!("\"{}\"", "d".repeat(2_000_000)) } else { "1".to_owned() };
        for (field, value) in [(2, key(row)), (3, doc)] {
            let Values::Bytes { ends, bytes } = &mut columns.fields[field].values else { unreachable!() };
            bytes.extend_from_slice(value.as_bytes());
            ends.push(bytes.len());
        }
    }
    columns.fields.drain(..2);
    node.insert(&collection, None, &columns).unwrap();
    let keys: Vec<PrimaryKey> = (0..299).map(|n| PrimaryKey::VarChar(key(n))).collect();
    node.delete(&collection, &keys).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let mut left = 0;
    node.read_rows(&collection, &mut |columns| {
        left += columns.rows;
        Ok(())
    })
    .unwrap();
    assert_eq!(left, 1);
}

#[test]
fn files_that_were_written_and_never_saved_are_removed_at_the_next_open_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let schema = schema("things");
    let open = || Node::open(&path, Settings::default(), true).unwrap();
    let node = open();
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..100)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let gone = node.create_collection(&Schema { name: "gone".into(), ..schema.clone() }, 1, &[]).unwrap();
    node.insert(&gone, None, &rows(&schema, 0..100)).unwrap();
    node.flush(&gone, &mut |_| ()).unwrap();
    node.drop_collection("gone").unwrap();
    let saved = node.chunks().list("").unwrap();
    assert!(saved.len() > 6, "{saved:?}");
    // What a second sync of the same segment, and one of deletes, leave when the process dies before the save; and what is not ours to remove.
    let id = collection.id;
    for (key, _) in saved.iter().filter(|(key, _)| key.starts_with("insert_log/") || key.starts_with("stats_log/")) {
        let (folder, _) = key.rsplit_once('/').unwrap();
        node.chunks().put(&format!("{folder}/9"), node.chunks().get(key).unwrap()).unwrap();
    }
    node.chunks().put(&format!("delta_log/{id}/-1/7/8"), "deletes".into()).unwrap();
    for foreign in ["insert_log/7/8/9/100/10", "elsewhere/1"] {
        node.chunks().put(foreign, "foreign".into()).unwrap();
    }
    node.shutdown();
    let node = open();
    let left: Vec<String> = node.chunks().list("").unwrap().into_iter().map(|(key, _)| key).collect();
    let mut expected: Vec<String> = saved.into_iter().map(|(key, _)| key).collect();
    expected.extend(["insert_log/7/8/9/100/10".to_owned(), "elsewhere/1".to_owned()]);
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(read_keys(&node, "things"), (0..100).collect::<Vec<_>>());
}

/// A command that finds the directory held, by a process without a socket here, waits a moment and writes nothing.
#[test]
fn a_directory_held_by_another_process_is_left_alone_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let text = path.to_str().unwrap();
    let node = Node::open(&path, Settings::default(), true).unwrap();
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        (names, node.collections().unwrap().len())
    };
    let before = files();
    let definition = dir.path().join("s.json");
    std::fs::write(&definition, r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}]}"#).unwrap();
    let create = ["collection", "create", "--dir", text, "--schema", definition.to_str().unwrap()];
    for args in [&create[..], &["node", "--dir", text]] {
        let refused = run(args);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(&format!("is held by another process ({})", std::process::id())) && said.contains("stop it"), "{said}");
    }
    assert_eq!(files(), before);
}

#[test]
fn a_damaged_segment_file_is_named_with_its_offset_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n");
    let schema = schema("things");
    let node = Node::open(&path, Settings::default(), true).unwrap();
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..100)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let segments = node.segments(Some(collection.id)).unwrap();
    let key = segments[0].files.insert[2].binlogs[0].path.clone();
    node.shutdown();
    let file = path.join("chunks").join(&key);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[13] ^= 0xff;
    std::fs::write(&file, bytes).unwrap();
    let out = dir.path().join("back.parquet");
    let refused = run(&["scan", "--dir", path.to_str().unwrap(), "--collection", "things", "--out", out.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains(&key) && said.contains("at byte 13"), "{said}");
    assert!(!out.exists(), "a scan that failed leaves no file");
}
