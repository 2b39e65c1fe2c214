//! FL-3 by the real binary: one log, flushed in fresh directories with other numbers of writers and other pages, gives equal bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tidegate::coordinator::{CoordinatorClient, EmbeddedCoordinator};
use tidegate::tables::RowsOut;
use tidegate_binlog::read_deletes;
use tidegate_tests::process::{node, run_json};
use tidegate_tests::rows::{rows, schema};

const SCHEMA: &str = r#"{"name": "things", "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true},
    {"name": "text", "dtype": "VARCHAR", "params": {"max_length": 64}},
    {"name": "vector", "dtype": "FLOAT_VECTOR", "params": {"dim": 4}}]}"#;
/// A segment is complete after some 800 rows, a batch of it after some 160; both end with the message that passes the limit.
const SETTINGS: &str = "segment_bytes = 40000\ninsert_buffer_bytes = 8000\ndelete_buffer_bytes = 2000\n";
/// The other form of everything that has two.
const PACKED: &str = "storage_version = 2\nbloom_filter = \"blocked\"\ndelta_log = \"parquet\"\n";
const PCHANNELS: [&str; 2] = ["tidegate-dml_0", "tidegate-dml_1"];
const ROWS: i64 = 8_000;

/// Where a delta log names its segment, whose id is allotted when it is written.
const SEGMENT_AT: std::ops::Range<usize> = 37..45;

/// What a directory's segment files hold: those of a segment and a field in the order of their log ids, whatever those are; and the delta
/// logs of a channel and a partition, in that order too and without the id of their segment.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    files: BTreeMap<(i64, String), Vec<Vec<u8>>>,
    deltas: BTreeMap<(String, String), Vec<Vec<u8>>>,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn contents(dir: &Path) -> Contents {
    let listed = run_json(&["segments", "--dir", text(dir), "--files", "--json"]);
    let mut contents = Contents::default();
    let mut deltas = Vec::new();
    for segment in listed["segments"].as_array().expect("segments") {
        let id = segment["segment"].as_i64().expect("an id");
        let mut paths: Vec<&str> = segment["paths"].as_array().expect("paths").iter().filter_map(|path| path.as_str()).collect();
        paths.sort_by_key(|path| path.rsplit('/').next().and_then(|log_id| log_id.parse::<i64>().ok()));
        for path in paths {
            let bytes = fs::read(dir.join("chunks").join(path)).unwrap();
            let parts: Vec<&str> = path.split('/').collect();
            match parts.as_slice() {
                ["delta_log", _, partition, _, log_id] => {
                    let of = (segment["vchannel"].as_str().unwrap_or_default().to_owned(), (*partition).to_owned());
                    deltas.push((of, log_id.parse::<i64>().expect("a log id"), bytes));
                }
                // The log id 1 of merged statistics sorts first in every directory.
                [kind, _, _, _, field, _] => contents.files.entry((id, format!("{kind}/{field}"))).or_default().push(bytes),
                other => panic!("{other:?}"),
            }
        }
    }
    deltas.sort_by_key(|(_, log_id, _)| *log_id);
    for (of, _, mut bytes) in deltas {
        bytes[SEGMENT_AT].fill(0);
        contents.deltas.entry(of).or_default().push(bytes);
    }
    contents
}

/// A directory with the log of `base` and a coordinator that has the collection and nothing else.
fn fresh(root: &Path, base: &Path, meta: &Path, settings: &str) -> PathBuf {
    let dir = root.join("fresh");
    copy(&base.join("wal"), &dir.join("wal"));
    copy(&base.join("components"), &dir.join("components"));
    copy(meta, &dir.join("meta"));
    fs::write(dir.join("tidegate.toml"), settings).unwrap();
    dir
}

#[test]
fn one_log_gives_equal_bytes_with_other_writers_and_other_pages() {
    // Twelve segments: five fields, or three column groups, and the statistics of each.
    equal_bytes(SETTINGS, 12 * 6);
    equal_bytes(&format!("{SETTINGS}{PACKED}"), 12 * 4);
}

/// Fills a node with these settings, and flushes its log again and again; its segments have files of `kinds` fields together.
fn equal_bytes(settings: &str, kinds: usize) {
    let root = tempfile::tempdir().unwrap();
    let (base, meta, file, keys) =
        (root.path().join("base"), root.path().join("meta"), root.path().join("r.parquet"), root.path().join("k.json"));
    fs::create_dir(&base).unwrap();
    fs::write(base.join("tidegate.toml"), settings).unwrap();
    fs::write(root.path().join("s.json"), SCHEMA).unwrap();
    let definition = root.path().join("s.json");
    run_json(&[
        "collection",
        "create",
        "--dir",
        text(&base),
        "--schema",
        text(&definition),
        "--shards",
        "2",
        "--partitions",
        "a,b",
        "--json",
    ]);
    copy(&base.join("meta"), &meta);

    let schema = schema("things");
    let serving = node(text(&base));
    for (round, partition) in ["a", "b", "a", "b"].into_iter().enumerate() {
        let first = round as i64 * ROWS / 4;
        let mut out = RowsOut::create(&file, &schema).unwrap();
        out.write(&rows(&schema, first..first + ROWS / 4)).unwrap();
        out.finish().unwrap();
        run_json(&[
            "ingest",
            "--dir",
            text(&base),
            "--collection",
            "things",
            "--partition",
            partition,
            "--file",
            text(&file),
            "--batch-rows",
            "30",
            "--json",
        ]);
        let gone: Vec<i64> = (0..first + ROWS / 4).filter(|key| key % 7 == round as i64).collect();
        fs::write(&keys, serde_json::to_string(&gone).unwrap()).unwrap();
        run_json(&["delete", "--dir", text(&base), "--collection", "things", "--file", text(&keys), "--json"]);
        if round % 2 == 1 {
            run_json(&["flush", "--dir", text(&base), "--collection", "things", "--json"]);
        }
    }
    drop(serving);
    let expected = contents(&base);
    let segments: std::collections::BTreeSet<i64> = expected.files.keys().map(|(segment, _)| *segment).collect();
    let (files, batches) = (expected.files.values().map(Vec::len).sum::<usize>(), expected.files.values().map(Vec::len).max());
    let deltas = expected.deltas.values().flatten();
    let deletes: usize = deltas.map(|bytes| read_deletes(bytes).expect("a delta log").keys.len()).sum();
    println!("{} segments, {files} files, up to {} batches a segment, {deletes} deletes", segments.len(), batches.unwrap_or(0));
    assert_eq!(expected.files.len(), kinds);
    assert!(segments.len() >= 12 && batches >= Some(4) && deletes > 2_000, "the log is too simple to prove anything");

    // The copies begin with the same ids, ticks (16 s ahead) and terms, beyond those that the log has already.
    let coordinator = EmbeddedCoordinator::open(&meta).unwrap();
    coordinator.alloc_ids(1_000_000).unwrap();
    coordinator.alloc_ticks(u32::MAX).unwrap();
    for pchannel in PCHANNELS {
        for _ in 0..100 {
            coordinator.acquire_term(pchannel).unwrap();
        }
    }
    drop(coordinator);
    for (writers, page_max) in [(1, 7), (1, 1_024), (4, 7), (4, 1_024)] {
        let dir = fresh(root.path(), &base, &meta, &format!("{settings}writers = {writers}\npage_max = {page_max}\n"));
        run_json(&["flush", "--dir", text(&dir), "--collection", "things", "--json"]);
        let found = contents(&dir);
        let other = |what: &str| format!("FL-3: other {what} with {writers} writers and pages of {page_max}");
        assert!(found.deltas == expected.deltas, "{}", other("deltas"));
        assert_eq!(found.files.keys().collect::<Vec<_>>(), expected.files.keys().collect::<Vec<_>>(), "{}", other("fields"));
        for (of, files) in &found.files {
            assert!(*files == expected.files[of], "{}", other(&format!("bytes in {of:?}")));
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
