//! Rows out and in again, and what is refused on the way in.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Float64Builder, Int64Builder, LargeListBuilder, ListBuilder};
use arrow_array::{
    Array, ArrayRef, BinaryArray, Float32Array, Int32Array, Int64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, UInt64Array,
};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use tidegate_message::array::Elements;
use tidegate_message::columns::{Columns, FieldColumn, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::sparse;

use super::RowsOut;
use crate::tables::{RowsFile, TableError, parse_schema};

const ALL_TYPES: &str = r#"{"name": "all", "enable_dynamic_field": true, "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "b", "dtype": "BOOL"}, {"name": "i8", "dtype": "INT8"},
    {"name": "i16", "dtype": "INT16"}, {"name": "i32", "dtype": "INT32"}, {"name": "f", "dtype": "FLOAT"}, {"name": "d", "dtype": "DOUBLE"},
    {"name": "s", "dtype": "VARCHAR", "params": {"max_length": 4}}, {"name": "j", "dtype": "JSON"},
    {"name": "v", "dtype": "FLOAT_VECTOR", "params": {"dim": 2}}, {"name": "text", "dtype": "TEXT"},
    {"name": "g", "dtype": "GEOMETRY"}, {"name": "t", "dtype": "TIMESTAMPTZ"}, {"name": "bv", "dtype": "BINARY_VECTOR", "params": {"dim": 16}},
    {"name": "f16", "dtype": "FLOAT16_VECTOR", "params": {"dim": 2}}, {"name": "bf16", "dtype": "BFLOAT16_VECTOR", "params": {"dim": 2}},
    {"name": "i8v", "dtype": "INT8_VECTOR", "params": {"dim": 3}}, {"name": "sv", "dtype": "SPARSE_FLOAT_VECTOR"},
    {"name": "ab", "dtype": "ARRAY", "element_type": "BOOL", "params": {"max_capacity": 4}},
    {"name": "ai8", "dtype": "ARRAY", "element_type": "INT8", "params": {"max_capacity": 4}},
    {"name": "ai16", "dtype": "ARRAY", "element_type": "INT16", "params": {"max_capacity": 4}},
    {"name": "ai32", "dtype": "ARRAY", "element_type": "INT32", "params": {"max_capacity": 4}},
    {"name": "ai64", "dtype": "ARRAY", "element_type": "INT64", "params": {"max_capacity": 4}},
    {"name": "af", "dtype": "ARRAY", "element_type": "FLOAT", "params": {"max_capacity": 4}},
    {"name": "ad", "dtype": "ARRAY", "element_type": "DOUBLE", "params": {"max_capacity": 4}},
    {"name": "as", "dtype": "ARRAY", "element_type": "VARCHAR", "params": {"max_capacity": 4, "max_length": 4}}]}"#;
/// A point as well-known binary.
const POINT: [u8; 21] = [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 64];

/// [`ALL_TYPES`] with every field nullable but the key.
fn nullable(schema: &Schema) -> Schema {
    let fields = schema.fields.iter().map(|f| Field { nullable: !f.is_primary, ..f.clone() });
    Schema { fields: fields.collect(), ..schema.clone() }
}

fn schema(text: &str) -> Schema {
    parse_schema("s.json", text.as_bytes()).unwrap()
}

/// A schema of the primary key `id` and one field more.
fn schema_with(field: &str) -> Schema {
    schema(&format!(r#"{{"name": "c", "fields": [{{"name": "id", "dtype": "INT64", "is_primary": true}}, {field}]}}"#))
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Bytes {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut out = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut out, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    out.into()
}

fn read(schema: &Schema, columns: Vec<(&str, ArrayRef)>) -> Result<Vec<Columns>, TableError> {
    RowsFile::of_bytes("r.parquet", parquet(columns), schema, false)?.read(0, 2)?.collect()
}

fn problem(field: &str, column: (&str, ArrayRef)) -> String {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.1.len() as i64));
    read(&schema_with(field), vec![("id", ids), column]).unwrap_err().to_string()
}

fn all_types_rows(schema: &Schema) -> Columns {
    let bytes = |values: [&[u8]; 3]| {
        let ends = values.iter().scan(0, |end, value| {
            *end += value.len();
            Some(*end)
        });
        Values::Bytes { ends: ends.collect(), bytes: values.concat() }
    };
    let texts = |texts: [&str; 3]| bytes(texts.map(str::as_bytes));
    let arrays = |arrays: [Elements; 3]| {
        let encoded = arrays.map(|array| array.encode());
        bytes([&encoded[0], &encoded[1], &encoded[2]])
    };
    let floats = [1.0_f32, -0.0, f32::MIN, f32::NAN, 5.5, f32::INFINITY];
    let values = vec![
        Values::Int64(vec![i64::MIN, 0, i64::MAX]),
        Values::Bool(vec![true, false, true]),
        Values::Int8(vec![i8::MIN, 0, i8::MAX]),
        Values::Int16(vec![i16::MIN, 0, i16::MAX]),
        Values::Int32(vec![i32::MIN, 0, i32::MAX]),
        Values::Float(vec![-0.0, f32::MAX, 0.1]),
        Values::Double(vec![-0.0, f64::MAX, 0.1]),
        texts(["", "żó", "abcd"]),
        texts(["{\"a\": 1}", "null", "[]"]),
        Values::Fixed { width: 8, bytes: floats.iter().flat_map(|f| f.to_le_bytes()).collect() },
        texts(["", "text", "ä"]),
        bytes([&POINT, &POINT, &POINT]),
        Values::Int64(vec![i64::MIN, 0, i64::MAX]),
        Values::Fixed { width: 2, bytes: vec![0, 1, 2, 3, 254, 255] },
        Values::Fixed { width: 4, bytes: (0..12).collect() },
        Values::Fixed { width: 4, bytes: (100..112).collect() },
        Values::Fixed { width: 3, bytes: vec![128, 0, 127, 255, 1, 2, 3, 4, 5] },
        bytes([&[][..], &sparse::encode([(0, -0.1), (70_000, f32::MAX)]), &sparse::encode([(9, 0.3)])]),
        arrays([Elements::Bools(vec![]), Elements::Bools(vec![true, false]), Elements::Bools(vec![false; 4])]),
        arrays([Elements::Ints(vec![]), Elements::Ints(vec![-128, 127]), Elements::Ints(vec![0])]),
        arrays([Elements::Ints(vec![]), Elements::Ints(vec![-32768, 32767]), Elements::Ints(vec![0])]),
        arrays([Elements::Ints(vec![]), Elements::Ints(vec![i32::MIN, i32::MAX]), Elements::Ints(vec![0])]),
        arrays([Elements::Longs(vec![]), Elements::Longs(vec![i64::MIN, i64::MAX]), Elements::Longs(vec![0])]),
        arrays([Elements::Floats(vec![]), Elements::Floats(vec![f32::NAN, -0.0]), Elements::Floats(vec![0.1])]),
        arrays([Elements::Doubles(vec![]), Elements::Doubles(vec![f64::NAN, -0.0]), Elements::Doubles(vec![0.1])]),
        arrays([Elements::Texts(vec![]), Elements::Texts(vec![String::new(), "żó".into()]), Elements::Texts(vec!["a".into()])]),
        texts(["{}", "{\"x\": 1}", "{}"]),
    ];
    let mut columns = Columns::new(schema);
    columns.fields.retain(|f| f.field_id >= 100);
    columns.rows = 3;
    columns.fields.iter_mut().zip(values).for_each(|(f, v)| f.values = v);
    columns
}

#[test]
fn rows_of_every_type_come_back_bit_by_bit_and_from_any_row() {
    let schema = schema(ALL_TYPES);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.parquet");
    let rows = all_types_rows(&schema);
    let mut out = RowsOut::create(&path, &schema).unwrap();
    out.write(&rows).unwrap();
    assert!(!path.exists(), "a file has its name only when it is finished");
    assert_eq!(out.finish().unwrap(), 3);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    let file = RowsFile::open(&path, &schema, false).unwrap();
    let batches: Vec<Columns> = file.read(0, 2).unwrap().map(Result::unwrap).collect();
    // Formatted, since NaN differs from itself; the bits of vectors are bytes.
    assert_eq!(format!("{:?}", batches), format!("{:?}", [rows.select(&[0, 1]), rows.select(&[2])]));
    let last: Vec<Columns> = file.read(2, 100).unwrap().map(Result::unwrap).collect();
    assert_eq!(format!("{:?}", last), format!("{:?}", [rows.select(&[2])]));
    assert_eq!(file.read(3, 1).unwrap().count(), 0);
    let past = file.read(4, 1).map(|_| ()).unwrap_err().to_string();
    assert!(past.contains("no row 4") && past.contains("3 rows"), "{past}");
}

#[test]
fn nulls_of_every_type_come_back() {
    let schema = nullable(&schema(ALL_TYPES));
    let mut rows = all_types_rows(&schema);
    for (column, field) in rows.fields.iter_mut().zip(&schema.fields).skip(1) {
        let present = column.values.clone();
        *column = FieldColumn::new(field);
        column.values.push_row(&present, 0);
        column.valid = Some(vec![true]);
        column.push_absent(field, 1);
        column.values.push_row(&present, 2);
        column.valid.as_mut().unwrap().push(true);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.parquet");
    let mut out = RowsOut::create(&path, &schema).unwrap();
    out.write(&rows).unwrap();
    out.finish().unwrap();
    let batches: Vec<Columns> = RowsFile::open(&path, &schema, false).unwrap().read(0, 9).unwrap().map(Result::unwrap).collect();
    assert_eq!(format!("{batches:?}"), format!("{:?}", [rows]));
}

#[test]
fn a_value_that_is_missing_is_the_default_or_null() {
    let schema = schema(
        r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "a", "dtype": "INT16", "default_value": 7},
        {"name": "b", "dtype": "VARCHAR", "nullable": true, "default_value": "x", "params": {"max_length": 9}},
        {"name": "c", "dtype": "DOUBLE", "nullable": true}]}"#,
    );
    let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1, 2])) };
    let holes: Vec<(&str, ArrayRef)> = vec![
        ("id", ids()),
        ("a", Arc::new(Int32Array::from(vec![None, Some(1)]))),
        ("b", Arc::new(LargeStringArray::from(vec![Some("y"), None]))),
        ("c", Arc::new(Float32Array::from(vec![None, Some(0.5)]))),
    ];
    let with_holes = read(&schema, holes).unwrap().remove(0).fields;
    assert_eq!(with_holes[1].values, Values::Int16(vec![7, 1]));
    assert_eq!(
        (&with_holes[2].values, &with_holes[2].valid),
        (&Values::Bytes { ends: vec![1, 2], bytes: b"yx".to_vec() }, &Some(vec![true; 2]))
    );
    assert_eq!((&with_holes[3].values, &with_holes[3].valid), (&Values::Double(vec![0.0, 0.5]), &Some(vec![false, true])));
    let without = read(&schema, vec![("id", ids())]).unwrap().remove(0).fields;
    assert_eq!((&without[1].values, &without[1].valid), (&Values::Int16(vec![7, 7]), &None));
    assert_eq!((&without[2].values, &without[2].valid), (&Values::Bytes { ends: vec![1, 2], bytes: b"xx".to_vec() }, &Some(vec![true; 2])));
    assert_eq!((&without[3].values, &without[3].valid), (&Values::Double(vec![0.0; 2]), &Some(vec![false; 2])));
}

#[test]
fn keys_that_the_collection_gives_are_refused_or_kept() {
    let schema = schema(
        r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true, "auto_id": true}, {"name": "n", "dtype": "INT32"}]}"#,
    );
    let file = |columns: &[&str], keep_keys| {
        let columns = columns.iter().map(|name| (*name, Arc::new(Int64Array::from(vec![5])) as ArrayRef)).collect();
        let fields = |rows: Columns| rows.fields.iter().map(|f| (f.field_id, f.values.clone())).collect::<Vec<_>>();
        Ok::<_, TableError>(fields(RowsFile::of_bytes("r.parquet", parquet(columns), &schema, keep_keys)?.read(0, 2)?.next().unwrap()?))
    };
    let n = (101, Values::Int32(vec![5]));
    assert_eq!(file(&["n"], false).unwrap(), std::slice::from_ref(&n));
    assert_eq!(file(&["id", "n"], true).unwrap(), [(100, Values::Int64(vec![5])), n]);
    let refused = file(&["id", "n"], false).unwrap_err().to_string();
    assert!(
        refused.contains("column \"id\" has primary keys, but collection \"c\" gives them itself") && refused.contains("--keep-keys"),
        "{refused}"
    );
    assert!(file(&["n"], true).unwrap_err().to_string().contains("column \"id\" is missing"));
}

#[test]
fn points_in_time_are_also_taken_as_integers_and_vectors_as_values_of_any_length() {
    let schema = schema(
        r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "t", "dtype": "TIMESTAMPTZ"},
        {"name": "b", "dtype": "BINARY_VECTOR", "params": {"dim": 16}}, {"name": "f", "dtype": "FLOAT16_VECTOR", "params": {"dim": 1}}]}"#,
    );
    let rows = read(
        &schema,
        vec![
            ("id", Arc::new(Int64Array::from(vec![1]))),
            ("t", Arc::new(Int64Array::from(vec![-5]))),
            ("b", Arc::new(BinaryArray::from_vec(vec![&[1, 2]]))),
            ("f", Arc::new(LargeBinaryArray::from_vec(vec![&[3, 4]]))),
        ],
    );
    let fields = rows.unwrap().remove(0).fields;
    assert_eq!(fields[1].values, Values::Int64(vec![-5]));
    assert_eq!(fields[2].values, Values::Fixed { width: 2, bytes: vec![1, 2] });
    assert_eq!(fields[3].values, Values::Fixed { width: 2, bytes: vec![3, 4] });
    let seconds = problem(r#"{"name": "t", "dtype": "TIMESTAMPTZ"}"#, ("t", Arc::new(TimestampMicrosecondArray::from(vec![1]))));
    assert!(seconds.contains("a column of timestamps in microseconds, UTC, or of 64-bit integers"), "{seconds}");
}

#[test]
fn large_and_view_variants_and_other_integer_widths_are_taken() {
    let schema = schema(
        r#"{"name": "c", "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "n", "dtype": "INT8"},
        {"name": "a", "dtype": "VARCHAR", "params": {"max_length": 9}}, {"name": "b", "dtype": "VARCHAR", "params": {"max_length": 9}},
        {"name": "d", "dtype": "DOUBLE"}, {"name": "v", "dtype": "FLOAT_VECTOR", "params": {"dim": 1}}]}"#,
    );
    let mut vectors = LargeListBuilder::new(Float32Builder::new());
    vectors.append_value([Some(1.5)]);
    let batches = read(
        &schema,
        vec![
            ("v", Arc::new(vectors.finish())),
            ("id", Arc::new(UInt64Array::from(vec![7_u64]))),
            ("n", Arc::new(Int32Array::from(vec![-128]))),
            ("a", Arc::new(LargeStringArray::from(vec!["large"]))),
            ("b", Arc::new(StringViewArray::from(vec!["view"]))),
            ("d", Arc::new(Float32Array::from(vec![0.5]))),
        ],
    )
    .unwrap();
    let values: Vec<&Values> = batches[0].fields.iter().map(|f| &f.values).collect();
    assert_eq!(values[0], &Values::Int64(vec![7]));
    assert_eq!(values[1], &Values::Int8(vec![-128]));
    assert_eq!(values[3], &Values::Bytes { ends: vec![4], bytes: b"view".to_vec() });
    assert_eq!(values[4], &Values::Double(vec![0.5]));
    assert_eq!(values[5], &Values::Fixed { width: 4, bytes: 1.5_f32.to_le_bytes().to_vec() });
}

#[test]
fn a_missing_meta_column_is_an_empty_object() {
    let schema = schema(r#"{"name": "c", "enable_dynamic_field": true, "fields": [{"name": "id", "dtype": "INT64", "is_primary": true}]}"#);
    let batches = read(&schema, vec![("id", Arc::new(Int64Array::from(vec![1, 2])))]).unwrap();
    assert_eq!(batches[0].fields[1].values, Values::Bytes { ends: vec![2, 4], bytes: b"{}{}".to_vec() });
}

#[test]
fn columns_that_do_not_match_the_schema_are_named_with_what_was_expected() {
    let ids = || -> ArrayRef { Arc::new(Int64Array::from(vec![1])) };
    let schema = schema_with(r#"{"name": "n", "dtype": "INT32"}"#);
    let missing = read(&schema, vec![("id", ids())]).unwrap_err().to_string();
    assert_eq!(missing, "r.parquet: column \"n\" is missing; collection \"c\" has id INT64, n INT32");
    let extra = read(&schema, vec![("id", ids()), ("n", ids()), ("m", ids())]).unwrap_err().to_string();
    assert!(extra.contains("column \"m\" is no field of collection \"c\""), "{extra}");
    let wrong = problem(r#"{"name": "n", "dtype": "INT32"}"#, ("n", Arc::new(Float32Array::from(vec![1.0]))));
    assert!(wrong.contains("column \"n\" is Float32; an integer column for INT32 was expected"), "{wrong}");
    let mut doubles = ListBuilder::new(Float64Builder::new());
    doubles.append_value([Some(1.0)]);
    let wide = problem(r#"{"name": "v", "dtype": "FLOAT_VECTOR", "params": {"dim": 1}}"#, ("v", Arc::new(doubles.finish())));
    assert!(wide.contains("lists of 1 32-bit floats for FLOAT_VECTOR was expected"), "{wide}");
    let text = RowsFile::of_bytes("r.parquet", Bytes::from_static(b"id,n\n1,2\n"), &schema, false).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("not a readable Parquet file"), "{text}");
}

#[test]
fn values_that_do_not_fit_are_named_by_column_and_row_of_the_file() {
    let vector = r#"{"name": "x", "dtype": "FLOAT_VECTOR", "params": {"dim": 2}}"#;
    let mut short = ListBuilder::new(Float32Builder::new());
    [vec![Some(1.0); 2], vec![Some(1.0); 2], vec![Some(1.0); 3]].into_iter().for_each(|v| short.append_value(v));
    let integers = r#"{"name": "x", "dtype": "ARRAY", "element_type": "INT8", "params": {"max_capacity": 2}}"#;
    let lists = |rows: &[&[Option<i64>]]| {
        let mut lists = ListBuilder::new(Int64Builder::new());
        rows.iter().for_each(|row| lists.append_value(row.iter().copied()));
        lists.finish()
    };
    let mut holed = ListBuilder::new(Float32Builder::new());
    holed.append_value([Some(1.0), None]);
    for (field, array, expected) in [
        (
            r#"{"name": "x", "dtype": "INT8"}"#,
            Arc::new(Int32Array::from(vec![1, 2, 128])) as ArrayRef,
            "row 2: the value is 128; a whole number from -128 to 127 was",
        ),
        (r#"{"name": "x", "dtype": "INT32"}"#, Arc::new(Int32Array::from(vec![Some(1), None])), "row 1: the value is null; a whole number"),
        (
            r#"{"name": "x", "dtype": "VARCHAR", "params": {"max_length": 2}}"#,
            Arc::new(LargeStringArray::from(vec!["żó"])),
            "row 0: the text has 4 bytes; text of at most 2 bytes",
        ),
        (r#"{"name": "x", "dtype": "JSON"}"#, Arc::new(LargeStringArray::from(vec!["{}", "{oops"])), "row 1: the text is not JSON"),
        (vector, Arc::new(short.finish()), "row 2: the vector has 3 floats; a vector of 2 floats was expected"),
        (vector, Arc::new(holed.finish()), "row 0: an element of the vector is null"),
        (
            r#"{"name": "x", "dtype": "BINARY_VECTOR", "params": {"dim": 8}}"#,
            Arc::new(BinaryArray::from_vec(vec![&[1], &[1, 2]])),
            "row 1: the vector has 2 bytes; a vector of 8 in 1 bytes",
        ),
        (r#"{"name": "x", "dtype": "GEOMETRY"}"#, Arc::new(BinaryArray::from_vec(vec![b"POINT"])), "row 0: no geometry: byte 0 is 80"),
        (
            r#"{"name": "x", "dtype": "SPARSE_FLOAT_VECTOR"}"#,
            Arc::new(LargeStringArray::from(vec!["{}", "{\"1\": 1, \"1\": 2}"])),
            "row 1: pair 1 of the sparse vector has index 1 after 1",
        ),
        (integers, Arc::new(lists(&[&[Some(1), Some(128)]])), "row 0: value 1 of the array is out of the range of Int8"),
        (integers, Arc::new(lists(&[&[], &[Some(1); 3]])), "row 1: an array of 3 values, more than max_capacity 2"),
        (integers, Arc::new(lists(&[&[None]])), "row 0: an element of the list is null; a list of at most 2 values of INT8"),
        (integers, Arc::new(lists(&[&[Some(1 << 40)]])), "row 0: an element of the list is 1099511627776"),
    ] {
        let problem = problem(field, ("x", array));
        assert!(problem.starts_with("r.parquet: column \"x\", ") && problem.contains(expected), "{problem}");
    }
}
