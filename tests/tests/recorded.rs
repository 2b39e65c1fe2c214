//! Segments that a real Milvus 2.3.5 wrote, every field of every row, against the rows that its client inserted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidegate::storage::{ChunkStore, read_deltas, read_segment};
use tidegate::tables::{RowsFile, read_keys, read_schema};
use tidegate_binlog::read_column;
use tidegate_core::calls::{Binlog, FieldBinlogs, SegmentFiles};
use tidegate_message::columns::{Columns, DataType, PrimaryKey, Values};
use tidegate_message::schema::Schema;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/milvus-2.3.5")
}

/// The files of one segment.
fn files_of(store: &ChunkStore, folder: &str) -> SegmentFiles {
    let mut files = SegmentFiles::default();
    for (path, _) in store.list(folder).unwrap() {
        let ids: Vec<i64> = path.split('/').skip(1).map(|id| id.parse().unwrap()).collect();
        let [.., field, log_id] = ids[..] else { panic!("{path}") };
        let column = read_column(&store.get(&path).unwrap()).unwrap();
        let entries = column.values.len() as i64;
        let binlog = Binlog { path, log_id, entries, tick_from: 0, tick_to: 0, log_size: 0, memory_size: 0 };
        files.insert.push(FieldBinlogs { field, child_fields: Vec::new(), binlogs: vec![binlog] });
    }
    files
}

/// Every row's values, field by field, by its key.
type Rows = BTreeMap<i64, Vec<Values>>;

fn by_key(schema: &Schema, batches: impl IntoIterator<Item = Columns>) -> Rows {
    let mut rows = BTreeMap::new();
    for batch in batches {
        let keys = batch.fields.iter().find(|f| f.is_primary).map(|f| f.values.clone());
        let Some(Values::Int64(keys)) = keys else { panic!("keys of 64 bits") };
        let columns: Vec<_> = schema.fields.iter().map(|f| batch.fields.iter().find(|c| c.field_id == f.id).unwrap()).collect();
        for (row, key) in keys.into_iter().enumerate() {
            let values = columns.iter().zip(&schema.fields).map(|(column, field)| {
                assert!(column.is_valid(row));
                let mut one = Values::new(field);
                one.push_row(&column.values, row);
                one
            });
            assert!(rows.insert(key, values.collect()).is_none(), "key {key} occurs twice");
        }
    }
    rows
}

/// Reads every segment of a collection, and the rows that were inserted.
fn read_both(collection: &str, folder: &str, segments: usize) -> (Schema, Rows, Rows) {
    let rows = fixtures().join("rows");
    let schema = read_schema(&rows.join(format!("{collection}.schema.json"))).unwrap();
    let inserted = RowsFile::open(&rows.join(format!("{collection}.all_rows.parquet")), &schema, true).unwrap();
    let inserted: Vec<Columns> = inserted.read(0, 1_000).unwrap().map(Result::unwrap).collect();
    let store = ChunkStore::open(&fixtures()).unwrap();
    let mut folders: Vec<String> = Vec::new();
    for (path, _) in store.list(&format!("insert_log/{folder}")).unwrap() {
        let segment = path.rsplitn(3, '/').last().unwrap().to_owned();
        if !folders.contains(&segment) {
            folders.push(segment);
        }
    }
    assert_eq!(folders.len(), segments);
    let stored = folders.iter().map(|segment| read_segment(&store, &files_of(&store, segment), &schema).unwrap());
    (schema.clone(), by_key(&schema, inserted), by_key(&schema, stored))
}

fn document(values: &Values) -> serde_json::Value {
    serde_json::from_slice(values.bytes_at(0)).unwrap()
}

fn compare(schema: &Schema, inserted: &Rows, stored: &Rows) {
    assert!(inserted.keys().eq(stored.keys()), "{} keys, {} keys", inserted.len(), stored.len());
    for (key, row) in inserted {
        for ((inserted, stored), field) in row.iter().zip(&stored[key]).zip(&schema.fields) {
            match field.data_type {
                // The list of what was inserted has documents in other words.
                DataType::Json => assert_eq!(document(stored), document(inserted), "key {key}, field {}", field.name),
                _ => assert_eq!(stored, inserted, "key {key}, field {}", field.name),
            }
        }
    }
}

#[test]
fn every_field_of_every_row_of_a_real_collection_with_arrays_is_read() {
    let (schema, inserted, stored) = read_both("all_types", "470647677430530560", 4);
    assert_eq!((schema.fields.len(), inserted.len()), (19, 3_000));
    compare(&schema, &inserted, &stored);
}

#[test]
fn every_field_of_every_row_of_a_real_collection_with_automatic_keys_is_read() {
    let (schema, inserted, stored) = read_both("auto_dyn", "470647677430930634", 1);
    assert_eq!((schema.fields.len(), schema.fields[0].auto_id, inserted.len()), (3, true, 1_000));
    compare(&schema, &inserted, &stored);
}

#[test]
fn every_delete_of_a_real_collection_is_read() {
    let rows = fixtures().join("rows");
    let schema = read_schema(&rows.join("all_types.schema.json")).unwrap();
    let mut expected = read_keys(&rows.join("all_types.deleted.json"), schema.primary().unwrap()).unwrap();
    let store = ChunkStore::open(&fixtures()).unwrap();
    let files: Vec<Binlog> = (store.list("delta_log/470647677430530560").unwrap().into_iter())
        .map(|(path, _)| Binlog { log_id: 1, path, entries: 0, tick_from: 0, tick_to: 0, log_size: 0, memory_size: 0 })
        .collect();
    let mut deleted: Vec<PrimaryKey> = read_deltas(&store, &files).unwrap().keys;
    deleted.sort_unstable();
    deleted.dedup();
    expected.sort_unstable();
    assert_eq!(deleted, expected);
}
