//! `tidegate export`: what it writes, and when it refuses to. Whether Milvus takes it is asked in `milvus.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tidegate::node::{Exported, Node, NodeError, Settings};
use tidegate_binlog::{Binlog, InsertLog, SegmentKey, read};
use tidegate_core::calls::storage_version;
use tidegate_core::coordinator::CollectionInfo;
use tidegate_message::columns::{FieldColumn, PrimaryKey, Values};
use tidegate_tests::process::{run, run_json};
use tidegate_tests::rows::{rows, schema};

/// A node whose segments have several files a field.
fn small_batches(dir: &Path) -> Node {
    let settings = Settings { insert_buffer_bytes: 2_048, message_bytes: 1_024, ..Settings::default() };
    Node::open(dir, settings, true).unwrap()
}

fn export(node: &Node, collection: &CollectionInfo, out: &Path) -> anyhow::Result<Exported> {
    node.export(collection, out, &mut |_, _| Ok(()))
}

/// The files below a folder, as paths from it.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found
}

fn keys(of: impl IntoIterator<Item = i64>) -> Vec<PrimaryKey> {
    of.into_iter().map(PrimaryKey::Int64).collect()
}

#[test]
fn rows_and_deletes_that_are_only_in_the_log_are_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let schema = schema("things");
    let collection = node.create_collection(&schema, 2, &[]).unwrap();
    let out = dir.path().join("out");
    let refused = |says: &str| {
        let error = export(&node, &collection, &out).unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(NodeError::Unflushed { .. })), "{error}");
        let said = error.to_string();
        assert!(said.contains(says) && said.contains("tidegate flush --dir") && said.contains("--collection things"), "{said}");
        assert!(!out.exists());
    };
    assert!(export(&node, &collection, &out).unwrap_err().to_string().contains("it has no rows"));
    node.insert(&collection, None, &rows(&schema, 0..100)).unwrap();
    refused("100 rows and 0 deletes");
    node.flush(&collection, &mut |_| ()).unwrap();
    node.delete(&collection, &keys(0..3)).unwrap();
    refused("0 segments are growing, and 0 rows and 3 deletes");
    node.flush(&collection, &mut |_| ()).unwrap();
    let exported = export(&node, &collection, &out).unwrap();
    assert_eq!((exported.partitions[0].rows, exported.partitions[0].deleted), (100, 3));
}

#[test]
fn files_pair_up_by_their_names_and_deletes_lie_with_the_segments_whose_rows_they_remove() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_batches(&dir.path().join("n"));
    let schema = schema("things");
    let collection = node.create_collection(&schema, 2, &["a".into(), "b".into()]).unwrap();
    for batch in 0..6 {
        node.insert(&collection, Some(["a", "b"][batch as usize % 2]), &rows(&schema, batch * 100..batch * 100 + 100)).unwrap();
    }
    node.delete(&collection, &keys((0..100).step_by(10))).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    // Inserted again behind their delete, in the other partition: these rows stay, those of partition `a` do not.
    node.insert(&collection, Some("b"), &rows(&schema, 0..5)).unwrap();
    node.delete(&collection, &keys([5, 599, 100_000])).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let out = dir.path().join("out");
    let exported = export(&node, &collection, &out).unwrap();
    let told: Vec<_> = exported.partitions.iter().map(|p| (p.partition.name.as_str(), p.rows, p.deleted)).collect();
    assert_eq!(told, [("a", 300, 11), ("b", 305, 1)]);

    let found = files(&out);
    assert_eq!((found.len() as u64, exported.not_for_2_3), (exported.files, vec![]));
    assert_eq!(found.iter().map(|f| fs::metadata(out.join(f)).unwrap().len()).sum::<u64>(), exported.bytes);
    let mut names: BTreeMap<(i64, i64, i64), Vec<&str>> = BTreeMap::new();
    let (mut deletes, mut rows_found) = (Vec::new(), 0);
    for file in &found {
        let parts: Vec<&str> = file.iter().map(|part| part.to_str().unwrap()).collect();
        let ids: Vec<i64> = parts[1..].iter().map(|part| part.parse().unwrap()).collect();
        assert!(parts.last().unwrap().len() == 18 && ids[0] == collection.id, "{file:?}");
        let log = fs::read(out.join(file)).unwrap();
        match parts[0] {
            "insert_log" => {
                names.entry((ids[1], ids[2], ids[3])).or_default().push(parts[5]);
                if ids[3] == 100
                    && let Binlog::Insert(InsertLog { column: FieldColumn { values: Values::Int64(keys), .. }, .. }) = read(&log).unwrap()
                {
                    rows_found += keys.len();
                }
            }
            "delta_log" => {
                let Binlog::Delta(delta) = read(&log).unwrap() else { panic!("{file:?}") };
                assert_eq!(delta.envelope.key, SegmentKey { collection: ids[0], partition: ids[1], segment: ids[2] });
                assert!(names.keys().chain([&(ids[1], ids[2], 100)]).any(|of| (of.0, of.1) == (ids[1], ids[2])));
                deletes.extend(delta.deletes.keys);
            }
            other => panic!("{other} in an export"),
        }
    }
    assert_eq!(rows_found, 605);
    deletes.sort();
    assert_eq!(deletes, keys([0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 599]));
    let segments: BTreeSet<(i64, i64)> = names.keys().map(|(partition, segment, _)| (*partition, *segment)).collect();
    for (partition, segment) in segments {
        let of_segment: Vec<_> = names.iter().filter(|(of, _)| (of.0, of.1) == (partition, segment)).collect();
        assert_eq!(of_segment.iter().map(|(of, _)| of.2).collect::<Vec<_>>(), [0, 1, 100, 101, 102]);
        assert!(of_segment.iter().all(|(_, logs)| logs.len() == of_segment[0].1.len()), "{names:?}");
    }
    assert!(names.values().any(|logs| logs.len() > 1), "the buffers are not small enough: {names:?}");
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let node_dir = path("n");
    let node = small_batches(Path::new(&node_dir));
    let schema = schema("things");
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..10)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    node.shutdown();
    for folder in ["full", "left.partial", "empty"] {
        fs::create_dir(path(folder)).unwrap();
    }
    fs::write(path("full/precious"), "mine").unwrap();
    fs::write(path("file"), "mine").unwrap();
    let export = |out: &str| ["export", "--dir", &node_dir, "--collection", "things", "--out", out].map(str::to_owned);
    for (out, says) in [("full", "is not empty"), ("file", "cannot become a folder"), ("left", "left.partial was left by")] {
        let output = run(&export(&path(out)).each_ref().map(String::as_str));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{out}: {said}");
    }
    assert_eq!(files(dir.path()).iter().filter(|f| !f.starts_with("n")).count(), 2, "something was written");
    let done = run_json(&[&export(&path("empty")).each_ref().map(String::as_str)[..], &["--json"]].concat());
    assert_eq!((done["rows"].as_u64(), done["files"].as_u64()), (Some(10), Some(files(Path::new(&path("empty"))).len() as u64)), "{done}");
    let request = &done["partitions"][0]["import_2_3"];
    assert_eq!(request["files"][0], format!("{}/insert_log/{}/{}", path("empty"), collection.id, collection.partitions[0].id));
    assert_eq!(request["files"][1], "", "nothing is deleted");
    let words = run(&export(&path("again")).each_ref().map(String::as_str));
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    for call in ["milvus.Import(", "/v2/vectordb/jobs/import/create", "\"backup\":\"true\"", &path("again")] {
        assert!(words.contains(call), "{call} is not in {words}");
    }
}

#[test]
fn packed_segments_are_exported_for_the_milvus_that_reads_them_and_layouts_are_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let node_dir = dir.path().join("n");
    let packed =
        Settings { storage_version: storage_version::PACKED, insert_buffer_bytes: 2_048, message_bytes: 1_024, ..Settings::default() };
    let node = Node::open(&node_dir, packed, true).unwrap();
    let schema = schema("things");
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..100)).unwrap();
    node.delete(&collection, &keys([3, 4])).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let exported = export(&node, &collection, &dir.path().join("out")).unwrap();
    assert_eq!((exported.storage_version, exported.partitions[0].rows, exported.partitions[0].deleted), (2, 100, 2));
    assert_eq!(exported.not_for_2_3, ["it does not read packed segments"]);
    let found = files(&dir.path().join("out"));
    let groups: BTreeSet<_> = found.iter().filter(|f| f.starts_with("insert_log")).map(|f| f.iter().nth(4).unwrap()).collect();
    assert_eq!(groups.into_iter().collect::<Vec<_>>(), ["0", "1", "102"]);
    let counts: BTreeSet<_> = ["0", "1", "102"].map(|group| found.iter().filter(|f| f.iter().nth(4).unwrap() == group).count()).into();
    assert!(counts.len() == 1 && counts.iter().all(|&files| files > 1), "{found:?}");
    assert_eq!(found.iter().filter(|f| f.starts_with("delta_log")).count(), 1);
    node.shutdown();
    let at = ["--dir", node_dir.to_str().unwrap(), "--collection", "things", "--json"];
    let done = run_json(&[&["export", "--out", dir.path().join("again").to_str().unwrap()], &at[..]].concat());
    let part = &done["partitions"][0];
    assert_eq!((&part["import_2_3"], &part["import_2_6"]["options"]["storage_version"]), (&serde_json::Value::Null, &"2".into()), "{done}");

    let node = small_batches(&node_dir);
    node.insert(&collection, None, &rows(&schema, 100..200)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let error = export(&node, &collection, &dir.path().join("mixed")).unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(NodeError::Invalid(_))), "{error}");
    assert!(error.to_string().contains("1 segments have one file a field and 1 are packed"), "{error}");
    assert!(!dir.path().join("mixed").exists());
}

#[test]
fn an_export_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = small_batches(&dir.path().join("n"));
    let schema = schema("things");
    let collection = node.create_collection(&schema, 1, &[]).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..10)).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let segments = node.segments(Some(collection.id)).unwrap();
    let lost = &segments[0].files.insert.last().unwrap().binlogs[0].path;
    fs::remove_file(dir.path().join("n/chunks").join(lost)).unwrap();
    let error = export(&node, &collection, &dir.path().join("out")).unwrap_err().to_string();
    assert!(error.contains(lost.as_str()), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a folder is left");
}
