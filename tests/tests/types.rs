//! Every type of field: through the real binary, and into quarantine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tidegate::node::{Node, Settings, key_partitions};
use tidegate::storage::read_segment;
use tidegate::tables::{RowsFile, RowsOut};
use tidegate_core::calls::SegmentState;
use tidegate_message::array::Elements;
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, FieldColumn, PrimaryKey, Values};
use tidegate_message::schema::{DefaultValue, Field, Schema};
use tidegate_message::sparse;
use tidegate_tests::every_type::{rows, schema};
use tidegate_tests::harness::Harness;
use tidegate_tests::process::{run, run_json};

/// A row as text, field by field, by its key.
type Rows = BTreeMap<String, Vec<String>>;

fn by_key(schema: &Schema, batch: &Columns, into: &mut Rows) {
    let columns: Vec<_> = schema.fields.iter().map(|f| batch.fields.iter().find(|c| c.field_id == f.id).unwrap()).collect();
    for row in 0..batch.rows {
        let value = |(column, field): (&&FieldColumn, &Field)| {
            let mut one = Values::new(field);
            one.push_row(&column.values, row);
            format!("{} = {}", field.name, if column.is_valid(row) { format!("{one:?}") } else { "null".to_owned() })
        };
        let row: Vec<String> = columns.iter().zip(&schema.fields).map(value).collect();
        assert!(into.insert(row[0].clone(), row).is_none(), "a key occurs twice");
    }
}

fn compare(expected: &Rows, found: &Rows) {
    assert!(expected.keys().eq(found.keys()), "{} rows, {} rows", expected.len(), found.len());
    expected.iter().for_each(|(key, row)| assert_eq!(&found[key], row));
}

fn dtype(data_type: DataType) -> String {
    let name = format!("{data_type:?}").to_uppercase();
    name.replace("VECTOR", "_VECTOR").replace("SPARSEFLOAT", "SPARSE_FLOAT")
}

/// A schema as a file has it.
fn schema_file(schema: &Schema) -> String {
    let field = |f: &Field| {
        let mut params = serde_json::Map::new();
        for (key, value) in [("dim", f.dim), ("max_length", f.max_length), ("max_capacity", f.max_capacity)] {
            if value > 0 {
                params.insert(key.to_owned(), value.into());
            }
        }
        let default = match &f.default_value {
            Some(DefaultValue::Int(value)) => json!(value),
            Some(DefaultValue::Text(value)) => json!(value),
            _ => Value::Null,
        };
        json!({
            "name": f.name, "dtype": dtype(f.data_type), "is_primary": f.is_primary, "auto_id": f.auto_id, "nullable": f.nullable,
            "is_partition_key": f.is_partition_key, "element_type": f.element_type.map(dtype), "default_value": default, "params": params,
        })
    };
    let fields: Vec<Value> = schema.fields.iter().filter(|f| !f.is_dynamic).map(field).collect();
    json!({"name": schema.name, "enable_dynamic_field": schema.enable_dynamic_field, "fields": fields}).to_string()
}

fn write(path: &str, schema: &Schema, columns: &Columns) {
    let mut out = RowsOut::create(Path::new(path), schema).unwrap();
    out.write(columns).unwrap();
    out.finish().unwrap();
}

#[test]
fn rows_of_every_type_survive_ingest_flush_delete_and_scan() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (dir, definition, file, gone, back) = (path("n"), path("s.json"), path("r.parquet"), path("gone.json"), path("back.parquet"));
    let schema = schema("everything");
    fs::write(&definition, schema_file(&schema)).unwrap();
    run_json(&["collection", "create", "--dir", &dir, "--schema", &definition, "--num-partitions", "3", "--json"]);
    let ingest = |file: &str| run_json(&["ingest", "--dir", &dir, "--collection", "everything", "--file", file, "--json"]);
    let flush = || run_json(&["flush", "--dir", &dir, "--collection", "everything", "--json"]);

    let first = rows(&schema, 0..300);
    write(&file, &schema, &first.select(&(0..150).collect::<Vec<_>>()));
    ingest(&file);
    flush();
    let insert_logs = root.path().join("n/chunks/insert_log");
    // A file a field, the row id and the time tick, in each of three partitions.
    assert_eq!(describe_all(&insert_logs), 3 * (schema.fields.len() + 2));
    // From here on in packed files.
    fs::write(root.path().join("n/tidegate.toml"), "storage_version = 2\n").unwrap();
    write(&file, &schema, &first.select(&(150..300).collect::<Vec<_>>()));
    ingest(&file);
    flush();
    let keys: Vec<i64> = (0..300).step_by(10).collect();
    fs::write(&gone, serde_json::to_string(&keys).unwrap()).unwrap();
    run_json(&["delete", "--dir", &dir, "--collection", "everything", "--file", &gone, "--json"]);
    // Without the columns that may be missing.
    let needed =
        Schema { fields: schema.fields.iter().filter(|f| !f.may_be_absent() && !f.is_dynamic).cloned().collect(), ..schema.clone() };
    write(&file, &needed, &rows(&needed, 300..340));
    ingest(&file);
    flush();

    let mut expected = Rows::new();
    by_key(&schema, &first.select(&(0..300).filter(|row| row % 10 != 0).collect::<Vec<_>>()), &mut expected);
    let mut second = rows(&schema, 300..340);
    for (column, field) in second.fields.iter_mut().zip(&schema.fields) {
        if field.may_be_absent() {
            *column = FieldColumn::new(field);
            column.push_absent(field, 40);
        } else if field.is_dynamic {
            column.values = Values::Bytes { ends: (1..=40).map(|n| 2 * n).collect(), bytes: "{}".repeat(40).into_bytes() };
        }
    }
    by_key(&schema, &second, &mut expected);
    run_json(&["scan", "--dir", &dir, "--collection", "everything", "--out", &back, "--json"]);
    let mut found = Rows::new();
    for batch in RowsFile::open(Path::new(&back), &schema, false).unwrap().read(0, 1_000).unwrap() {
        by_key(&schema, &batch.unwrap(), &mut found);
    }
    assert_eq!(expected.len(), 310);
    compare(&expected, &found);
    assert!(describe_all(&insert_logs) > 3 * (schema.fields.len() + 2));
}

/// Describes every file of a folder, and returns how many there are.
fn describe_all(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += describe_all(&path);
        } else {
            files += 1;
            let text = tidegate_binlog::describe(&fs::read(&path).unwrap(), 3).unwrap();
            assert!(text.contains("\n         0    ") && !text.contains("not decoded"), "{text}");
        }
    }
    files
}

#[test]
fn keys_are_given_where_the_collection_says_so_and_kept_only_on_demand() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name).to_str().unwrap().to_owned();
    let (dir, definition, file, back) = (path("n"), path("s.json"), path("r.parquet"), path("back.parquet"));
    for (data_type, name) in [(DataType::Int64, "numbers"), (DataType::VarChar, "texts")] {
        let key = Field { is_primary: true, auto_id: true, max_length: 20, ..Field::new(100, "id", data_type) };
        let key = if data_type == DataType::Int64 { Field { max_length: 0, ..key } } else { key };
        let fields = vec![key, Field::new(101, "n", DataType::Int32)];
        let schema = Schema { name: name.into(), fields, enable_dynamic_field: false, version: 0 };
        fs::write(&definition, schema_file(&schema)).unwrap();
        run_json(&["collection", "create", "--dir", &dir, "--schema", &definition, "--shards", "2", "--json"]);
        let without = Schema { fields: schema.fields[1..].to_vec(), ..schema.clone() };
        write(&file, &without, &rows(&without, 0..500));
        run_json(&["ingest", "--dir", &dir, "--collection", name, "--file", &file, "--json"]);
        write(&file, &schema, &rows(&schema, 1_000..1_001));
        let refused = run(&["ingest", "--dir", &dir, "--collection", name, "--file", &file]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("--keep-keys"), "{said}");
        run_json(&["ingest", "--dir", &dir, "--collection", name, "--file", &file, "--keep-keys", "--json"]);
        run_json(&["flush", "--dir", &dir, "--collection", name, "--json"]);
        run_json(&["scan", "--dir", &dir, "--collection", name, "--out", &back, "--json"]);
        let mut found = Rows::new();
        for batch in RowsFile::open(Path::new(&back), &schema, true).unwrap().read(0, 1_000).unwrap() {
            by_key(&schema, &batch.unwrap(), &mut found);
        }
        let mut expected = Rows::new();
        by_key(&schema, &rows(&schema, 1_000..1_001), &mut expected);
        let kept = expected.into_iter().next().unwrap();
        assert_eq!(found.get(&kept.0), Some(&kept.1), "{name}");
        let numbers: BTreeSet<&String> = found.values().map(|row| &row[1]).collect();
        assert_eq!((found.len(), numbers.len()), (501, 501), "{name}");
    }
}

#[test]
fn rows_lie_in_the_partition_of_their_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut schema = schema("keyed");
    schema.fields.truncate(2);
    let node = Node::open(&dir.path().join("n"), Settings::default(), true).unwrap();
    let collection = node.create_collection(&schema, 2, &key_partitions(4)).unwrap();
    node.insert(&collection, None, &rows(&schema, 0..400)).unwrap();
    assert!(node.insert(&collection, Some("_default_0"), &rows(&schema, 400..401)).is_err());
    node.delete(&collection, &[PrimaryKey::Int64(3)]).unwrap();
    node.flush(&collection, &mut |_| ()).unwrap();
    let mut partition_of = BTreeMap::new();
    for segment in node.segments(Some(collection.id)).unwrap().iter().filter(|s| s.state == SegmentState::Flushed && s.rows > 0) {
        let read = read_segment(node.chunks(), &segment.files, &schema).unwrap();
        for row in 0..read.rows {
            let key = String::from_utf8(read.fields[3].values.bytes_at(row).to_vec()).unwrap();
            assert_eq!(*partition_of.entry(key).or_insert(segment.partition), segment.partition);
        }
    }
    // CRC-32 of "k0" is 0xe109903f: number 3 of four, from 0.
    assert_eq!(partition_of["k0"], collection.partitions[3].id);
    assert_eq!((partition_of.len(), partition_of.values().collect::<BTreeSet<_>>().len()), (20, 4));
    let mut read = 0;
    node.read_rows(&collection, &mut |batch| {
        read += batch.rows;
        Ok(())
    })
    .unwrap();
    assert_eq!(read, 399);
    let other = Schema { name: "other".into(), ..schema };
    assert!(node.create_collection(&other, 1, &["a".to_owned()]).is_err());
}

/// Makes the second of ten values one that the field cannot have, and says how that is called.
fn spoil(column: &mut FieldColumn, field: &Field) -> &'static str {
    let replace = |values: &Values, with: &[u8]| {
        let mut spoiled = (Vec::new(), Vec::new());
        for row in 0..values.len() {
            spoiled.1.extend_from_slice(if row == 1 { with } else { values.bytes_at(row) });
            spoiled.0.push(spoiled.1.len());
        }
        Values::Bytes { ends: spoiled.0, bytes: spoiled.1 }
    };
    // Zeros are values of every other kind.
    let is_variable = matches!(column.values, Values::Bytes { .. });
    column.valid.iter_mut().for_each(|valid| if is_variable { valid[1] = true } else { valid.fill(true) });
    match (&mut column.values, field.data_type) {
        (Values::Int8(_), _) => {
            column.values = Values::Int32(vec![128; 10]);
            "row 0: 128 is out of the range of 8 bits"
        }
        (Values::Int16(_), _) => {
            column.values = Values::Int32(vec![1 << 15; 10]);
            "row 0: 32768 is out of the range of 16 bits"
        }
        (Values::Bool(v), _) => {
            v.pop();
            "has 9 values for 10 rows"
        }
        (Values::Int32(v), _) => {
            v.push(0);
            "has 11 values for 10 rows"
        }
        (Values::Int64(_), _) => {
            column.values = Values::Double(vec![0.0; 10]);
            "and Doubles"
        }
        (Values::Float(_), _) => {
            column.values = Values::Double(vec![0.0; 10]);
            "and Doubles"
        }
        (Values::Double(v), _) => {
            v.clear();
            "has 0 values for 10 rows"
        }
        (Values::Fixed { width, .. }, DataType::BinaryVector) => {
            let width = *width + 1;
            column.values = Values::Fixed { width, bytes: vec![0; 10 * width] };
            "has dim 16 in the schema and 24 in its column"
        }
        (Values::Fixed { width, bytes }, _) => {
            bytes.truncate(9 * *width);
            "for 10 vectors of dim 16"
        }
        (values, DataType::VarChar) => {
            column.values = replace(values, &[b'x'; 41]);
            "row 1: 41 bytes, more than max_length"
        }
        (values, DataType::Array) if field.element_type == Some(DataType::Double) => {
            column.values = replace(values, &Elements::Texts(vec!["1".into()]).encode());
            "row 1: an array of text, not of Double"
        }
        (values, DataType::Array) => {
            column.values = replace(values, &Elements::Doubles(vec![1.0]).encode());
            "row 1: an array of 64-bit floats, not of"
        }
        (values, DataType::Geometry) => {
            column.values = replace(values, b"POINT (1 2)");
            "row 1: no geometry"
        }
        (values, DataType::SparseFloatVector) => {
            column.values = replace(values, &sparse::encode([(7, f32::NAN)]));
            "row 1: pair 0 of the sparse vector, index 7, has the value NaN"
        }
        (values, _) => {
            column.values = replace(values, b"\xff");
            "row 1: not UTF-8"
        }
    }
}

#[test]
fn a_bad_value_of_any_type_is_quarantined_by_field_and_row_and_its_neighbours_stay() {
    let schema = schema("c");
    let mut h = Harness::default();
    let c = h.create_collection(&schema, 1);
    h.start();
    let segment = h.create_segment(&c, 0);
    let vchannel = c.shards[0].vchannel.clone();
    let insert = |first: i64, change: &dyn Fn(&mut Vec<FieldColumn>)| {
        let mut columns = rows(&schema, first..first + 10).fields;
        change(&mut columns);
        let to = InsertAssignment { collection: c.id, partition: c.partitions[0].id, segment, rows: 10, bytes: 640 };
        build::insert(&vchannel, &to, &columns, &(first..first + 10).collect::<Vec<_>>())
    };
    let (mut good, mut expected) = (Vec::new(), Vec::new());
    for (at, field) in schema.fields.iter().enumerate() {
        let first = 100 * at as i64;
        let says = std::cell::Cell::new("");
        h.append(insert(first, &|columns| says.set(spoil(&mut columns[at], field))));
        expected.push(format!("{:?} (id {})|{}", field.name, field.id, says.get()));
        if !field.may_be_absent() {
            h.append(insert(first + 10, &|columns| drop(columns.remove(at))));
            expected.push(format!("{:?} (id {})|has no column", field.name, field.id));
            h.append(insert(first + 20, &|columns| columns[at].valid = Some((0..10).map(|row| row != 3).collect())));
            expected.push(format!("{:?} (id {})|row 3: null in a field that is not nullable", field.name, field.id));
        }
        h.append(insert(first + 30, &|_| ()));
        good.extend(first + 30..first + 40);
    }
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!((h.state(segment), h.flushed_keys(&c)), (Some(SegmentState::Flushed), good));
    assert_eq!(h.dead_letters.len(), expected.len());
    for (letter, expected) in h.dead_letters.iter().zip(&expected) {
        let (field, says) = expected.split_once('|').unwrap();
        assert!(letter.reason.contains(field) && letter.reason.contains(says), "{} is not about {expected}", letter.reason);
    }
    assert_eq!(h.ledger(&vchannel).inserts.quarantined, 10 * expected.len() as u64);
    assert!(h.ledger_closed() && h.checkpoint(&vchannel) >= Some(tick));
}
