//! Both layouts of segment files: one file a field (storage version 0) and packed files (storage version 2).

use tidegate::engine::GuestConfig;
use tidegate::node::{Node, Settings};
use tidegate_binlog::{Binlog, DeltaForm, FilterKind, PkFilter};
use tidegate_core::calls::{Level, SegmentState, storage_version};
use tidegate_core::pchannel::Limits;
use tidegate_message::CreateSegment;
use tidegate_message::build;
use tidegate_message::columns::{Columns, PrimaryKey};
use tidegate_tests::harness::{Harness, config};
use tidegate_tests::rows::{keys, rows, schema};

/// Field and child fields of a segment's insert logs, and how many syncs each has.
fn lists(h: &Harness, segment: i64) -> Vec<(i64, Vec<i64>, usize)> {
    let files = h.segment(segment).map(|s| s.files.insert.clone()).unwrap_or_default();
    files.into_iter().map(|list| (list.field, list.child_fields, list.binlogs.len())).collect()
}

#[test]
fn segments_of_both_layouts_live_in_one_collection() {
    let limits = || Limits { not_found_tolerance: 0, ..Limits::default() };
    // Every group of rows is a sync.
    let mut h = Harness::new(GuestConfig { insert_bytes_max: 1, ..config() }, limits());
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let plain = h.create_segment(&c, 0);
    h.storage_version = storage_version::PACKED;
    let packed = h.create_segment(&c, 0);
    for n in 0..3 {
        h.append_insert(&c, 0, plain, n * 20..n * 20 + 10);
        h.append_insert(&c, 0, packed, n * 20 + 10..n * 20 + 20);
        h.tick();
    }
    let groups = |syncs| [(0, vec![0, 1, 100], syncs), (1, vec![101], syncs), (102, vec![102], syncs)];
    assert_eq!(lists(&h, packed), groups(3));
    let fields = |syncs| [0, 1, 100, 101, 102].map(|field| (field, vec![], syncs));
    assert_eq!(lists(&h, plain), fields(3));

    // The next process learns the layout from the coordinator.
    h.crash();
    h.append_insert(&c, 0, packed, 60..70);
    h.append_insert(&c, 0, plain, 70..80);
    let tick = h.flush(&c, 0, &[plain, packed]);
    assert_eq!((h.state(plain), h.state(packed)), (Some(SegmentState::Flushed), Some(SegmentState::Flushed)));
    assert_eq!((lists(&h, packed), lists(&h, plain)), (groups(4).to_vec(), fields(4).to_vec()));
    assert_eq!(h.segment(packed).map(|s| s.storage_version), Some(storage_version::PACKED));
    assert_eq!(h.flushed_keys(&c), (0..80).collect::<Vec<_>>());
    assert!(h.ledger_closed(), "{:#?}", h.core.status());
    assert!(h.checkpoint(&c.shards[0].vchannel) >= Some(tick), "{:?}", h.notices);
}

#[test]
fn a_segment_of_an_unknown_storage_version_detaches_its_channel_and_no_other() {
    let mut h = Harness::default();
    let c = h.create_collection(&schema("c"), 2);
    h.start();
    let v = &c.shards[0].vchannel;
    let created = CreateSegment { partition: c.partitions[0].id, segment: 9_999, storage_version: 3, level: 2, max_rows: 0, max_bytes: 0 };
    h.append(build::create_segment(v, c.id, &created));
    h.storage_version = storage_version::PACKED;
    let segment = h.create_segment(&c, 1);
    h.append_insert(&c, 1, segment, 0..10);
    h.flush(&c, 1, &[segment]);
    assert!(h.is_detached(v) && !h.is_detached(&c.shards[1].vchannel), "{:?}", h.notices);
    assert!(h.explain(v).contains("storage version 3"), "{}", h.explain(v));
    assert_eq!(h.flushed_keys(&c), (0..10).collect::<Vec<_>>());
}

/// Rows of a collection by key, without row ids and ticks.
fn read(node: &Node, name: &str) -> Vec<(i64, Columns)> {
    let collection = node.collection(name).unwrap();
    let mut found = Vec::new();
    let mut take = |columns: Columns| {
        let of_row = |row: usize| {
            let mut one = columns.select(&[row]);
            one.fields.retain(|column| column.field_id >= 100);
            (keys(&one)[0], one)
        };
        found.extend((0..columns.rows).map(of_row));
        Ok(())
    };
    node.read_rows(&collection, &mut take).unwrap();
    found.sort_by_key(|(key, _)| *key);
    found
}

#[test]
fn a_node_reads_rows_and_deletes_of_both_layouts_and_forms() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("n");
    let schema = schema("things");
    let packed = Settings {
        storage_version: storage_version::PACKED,
        bloom_filter: FilterKind::Blocked,
        delta_log: DeltaForm::Parquet,
        ..Settings::default()
    };
    let delete = |node: &Node, keys: &mut dyn Iterator<Item = i64>| {
        let keys: Vec<PrimaryKey> = keys.map(PrimaryKey::Int64).collect();
        node.delete(&node.collection("things").unwrap(), &keys).unwrap();
    };
    for (round, settings) in [Settings::default(), packed, Settings::default()].into_iter().enumerate() {
        let node = Node::open(&dir, settings, round == 0).unwrap();
        let collection = if round == 0 { node.create_collection(&schema, 2, &[]).unwrap() } else { node.collection("things").unwrap() };
        let first = round as i64 * 1000;
        node.insert(&collection, None, &rows(&schema, first..first + 1000)).unwrap();
        // One in ten of everything so far.
        delete(&node, &mut (round as i64..first + 1000).step_by(10));
        node.flush(&collection, &mut |_| ()).unwrap();

        let gone = |key: i64| (0..=round as i64).any(|r| key % 10 == r && key < (r + 1) * 1000);
        let expected: Vec<i64> = (0..first + 1000).filter(|key| !gone(*key)).collect();
        let found = read(&node, "things");
        assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), expected);
        for (key, columns) in found {
            let mut inserted = rows(&schema, key..key + 1);
            inserted.fields.retain(|column| column.field_id >= 100);
            assert_eq!(columns, inserted);
        }
        assert!(node.ledger_closed(), "{:#?}", node.status());
        if round == 1 {
            check_forms(&node);
        }
        node.shutdown();
    }
}

/// Segments of the second round have packed files, blocked filters, and deletes in Parquet.
fn check_forms(node: &Node) {
    let content = |path: &str| tidegate_binlog::read(&node.chunks().get(path).unwrap()).unwrap();
    let segments = node.segments(None).unwrap();
    let (deletes, rows): (Vec<_>, Vec<_>) = segments.iter().partition(|s| s.level == Level::L0);
    let of = |version: i64| rows.iter().filter(move |s| s.storage_version == version);
    assert!(of(storage_version::FIELDS).count() >= 2 && of(storage_version::PACKED).count() >= 2);
    for segment in of(storage_version::PACKED) {
        for file in segment.files.insert.iter().flat_map(|list| &list.binlogs) {
            assert!(matches!(content(&file.path), Binlog::Packed(_)), "{}", file.path);
        }
        for file in segment.files.stats.iter().flat_map(|list| &list.binlogs) {
            let Binlog::Statistics(batches) = content(&file.path) else { panic!("{}", file.path) };
            assert!(batches.iter().all(|batch| matches!(batch.filter, Some(PkFilter::Blocked(_)))), "{}", file.path);
        }
    }
    let versions: Vec<Option<String>> = (deletes.iter().flat_map(|s| &s.files.delta).flat_map(|list| &list.binlogs))
        .map(|file| match content(&file.path) {
            Binlog::Delta(log) => log.envelope.extras.get("version").and_then(|version| version.as_str().map(str::to_owned)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(versions.contains(&None) && versions.contains(&Some("MULTI_FIELD".to_owned())), "{versions:?}");
}
