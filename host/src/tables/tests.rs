//! Rows out and in again, and what is refused on the way in.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Float64Builder, LargeListBuilder, ListBuilder};
use arrow_array::{Array, ArrayRef, Float32Array, Int32Array, Int64Array, LargeStringArray, RecordBatch, StringViewArray, UInt64Array};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use tidegate_message::columns::{Columns, Values};
use tidegate_message::schema::Schema;

use super::RowsOut;
use crate::tables::{RowsFile, TableError, parse_schema};

const ALL_TYPES: &str = r#"{"name": "all", "enable_dynamic_field": true, "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "b", "dtype": "BOOL"}, {"name": "i8", "dtype": "INT8"},
    {"name": "i16", "dtype": "INT16"}, {"name": "i32", "dtype": "INT32"}, {"name": "f", "dtype": "FLOAT"}, {"name": "d", "dtype": "DOUBLE"},
    {"name": "s", "dtype": "VARCHAR", "params": {"max_length": 4}}, {"name": "j", "dtype": "JSON"},
    {"name": "v", "dtype": "FLOAT_VECTOR", "params": {"dim": 2}}]}"#;

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
    RowsFile::of_bytes("r.parquet", parquet(columns), schema)?.read(0, 2)?.collect()
}

fn problem(field: &str, column: (&str, ArrayRef)) -> String {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.1.len() as i64));
    read(&schema_with(field), vec![("id", ids), column]).unwrap_err().to_string()
}

fn all_types_rows(schema: &Schema) -> Columns {
    let texts = |texts: [&str; 3]| Values::Bytes {
        ends: texts
            .iter()
            .scan(0, |end, t| {
                *end += t.len();
                Some(*end)
            })
            .collect(),
        bytes: texts.concat().into_bytes(),
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

    let file = RowsFile::open(&path, &schema).unwrap();
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
    let text = RowsFile::of_bytes("r.parquet", Bytes::from_static(b"id,n\n1,2\n"), &schema).map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("not a readable Parquet file"), "{text}");
}

#[test]
fn values_that_do_not_fit_are_named_by_column_and_row_of_the_file() {
    let vector = r#"{"name": "x", "dtype": "FLOAT_VECTOR", "params": {"dim": 2}}"#;
    let mut short = ListBuilder::new(Float32Builder::new());
    [vec![Some(1.0); 2], vec![Some(1.0); 2], vec![Some(1.0); 3]].into_iter().for_each(|v| short.append_value(v));
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
    ] {
        let problem = problem(field, ("x", array));
        assert!(problem.starts_with("r.parquet: column \"x\", ") && problem.contains(expected), "{problem}");
    }
}
