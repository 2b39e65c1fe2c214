//! What is written is read back, and equal input gives equal bytes.

use parquet::basic::{Compression, Repetition};
use parquet::file::reader::{FileReader, SerializedFileReader};
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_binlog::{
    Binlog, DeltaForm, EventKind, SegmentKey, describe, read, read_column, read_deletes, write_delta_log, write_insert_log,
};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::schema::Field;

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };
/// Past the slices and the data pages that the writer cuts.
const MANY_ROWS: i64 = 45_000;
const BYTES: [DataType; 4] = [DataType::Array, DataType::Json, DataType::Geometry, DataType::SparseFloatVector];
const VECTORS: [DataType; 5] =
    [DataType::BinaryVector, DataType::FloatVector, DataType::Float16Vector, DataType::BFloat16Vector, DataType::Int8Vector];

fn column(data_type: DataType, values: Values) -> FieldColumn {
    FieldColumn { field_id: 101, name: "f".to_owned(), data_type, is_primary: false, valid: None, values }
}

fn packed(values: impl IntoIterator<Item = Vec<u8>>) -> Values {
    let (mut ends, mut bytes) = (Vec::new(), Vec::new());
    for value in values {
        bytes.extend(value);
        ends.push(bytes.len());
    }
    Values::Bytes { ends, bytes }
}

/// A column as [`any_column`], some of its rows null.
fn nullable_column() -> impl Strategy<Value = FieldColumn> {
    (any_column(), vec(any::<bool>(), 200)).prop_map(|(column, valid)| {
        let rows = column.values.len();
        // Zeros where there is no value, of the storage's own kind.
        let Values::Fixed { width, .. } = &column.values else {
            let field = Field::new(101, "f", column.data_type);
            return with_nulls(column, &Values::filler(&field), &valid[..rows]);
        };
        let zero = Values::Fixed { width: *width, bytes: vec![0; *width] };
        with_nulls(column, &zero, &valid[..rows])
    })
}

fn with_nulls(column: FieldColumn, zero: &Values, valid: &[bool]) -> FieldColumn {
    let mut nulls = Columns { rows: valid.len(), fields: vec![column.clone()] }.select(&[]).fields.remove(0);
    for (row, &valid) in valid.iter().enumerate() {
        if valid { nulls.values.push_row(&column.values, row) } else { nulls.values.push_row(zero, 0) }
    }
    FieldColumn { valid: Some(valid.to_vec()), ..nulls }
}

fn any_column() -> impl Strategy<Value = FieldColumn> {
    let rows = 1..200usize;
    prop_oneof![
        vec(any::<bool>(), rows.clone()).prop_map(|v| column(DataType::Bool, Values::Bool(v))),
        vec(any::<i8>(), rows.clone()).prop_map(|v| column(DataType::Int8, Values::Int8(v))),
        vec(any::<i16>(), rows.clone()).prop_map(|v| column(DataType::Int16, Values::Int16(v))),
        vec(any::<i32>(), rows.clone()).prop_map(|v| column(DataType::Int32, Values::Int32(v))),
        vec(any::<i64>(), rows.clone()).prop_map(|v| column(DataType::Int64, Values::Int64(v))),
        vec(any::<f32>(), rows.clone()).prop_map(|v| column(DataType::Float, Values::Float(v))),
        vec(any::<f64>(), rows.clone()).prop_map(|v| column(DataType::Double, Values::Double(v))),
        vec(".{0,20}", rows.clone()).prop_map(|v| column(DataType::VarChar, packed(v.into_iter().map(String::into_bytes)))),
        (vec(vec(any::<u8>(), 0..40), rows.clone()), prop::sample::select(BYTES.to_vec()))
            .prop_map(|(v, data_type)| column(data_type, packed(v))),
        vec(any::<i64>(), rows.clone()).prop_map(|v| column(DataType::Timestamptz, Values::Int64(v))),
        (1..9usize, rows, prop::sample::select(VECTORS.to_vec())).prop_flat_map(|(dim, rows, data_type)| vec(any::<u8>(), dim * 4 * rows)
            .prop_map(move |bytes| { column(data_type, Values::Fixed { width: dim * 4, bytes }) })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_column_is_read_back(column in any_column(), tick in 1..u64::MAX) {
        let file = write_insert_log(&KEY, &column, 1, tick).unwrap();
        prop_assert_eq!(&file, &write_insert_log(&KEY, &column.clone(), 1, tick).unwrap());
        let Binlog::Insert(log) = read(&file).unwrap() else { panic!("an insert log") };
        prop_assert_eq!((log.envelope.key, log.envelope.kind, log.envelope.written), (KEY, EventKind::Insert, tick));
        prop_assert_eq!(log.column.data_type, column.data_type);
        // Debug, since a NaN differs from itself.
        prop_assert_eq!(format!("{:?}", log.column.values), format!("{:?}", column.values));
    }

    #[test]
    fn a_column_with_nulls_is_read_back(column in nullable_column()) {
        let file = write_insert_log(&KEY, &column, 1, 2).unwrap();
        let Binlog::Insert(log) = read(&file).unwrap() else { panic!("an insert log") };
        prop_assert_eq!(&log.envelope.extras["nullable"], true);
        prop_assert_eq!(&log.column.valid, &column.valid);
        let are_vectors_unknown = column.data_type.is_dense_vector() && column.valid.iter().flatten().all(|valid| !valid);
        let expected = if are_vectors_unknown { Values::Fixed { width: 0, bytes: Vec::new() } } else { column.values.clone() };
        prop_assert_eq!(format!("{:?}", log.column.values), format!("{:?}", expected));
        let rows = format!("  rows        {}\n", column.values.len());
        prop_assert!(describe(&file, 200).unwrap().contains(&rows));
    }

    #[test]
    fn deletes_are_read_back(rows in vec((any::<i64>(), 1..u64::MAX), 1..100), text in any::<bool>(), json in any::<bool>()) {
        let form = if json { DeltaForm::Json } else { DeltaForm::Parquet };
        let key = |&(key, _): &(i64, u64)| if text { PrimaryKey::VarChar(format!("\"{key}\n")) } else { PrimaryKey::Int64(key) };
        let deletes = Deletes { keys: rows.iter().map(key).collect(), ticks: rows.iter().map(|row| row.1).collect() };
        let file = write_delta_log(&KEY, &deletes, form).unwrap();
        prop_assert_eq!(&file, &write_delta_log(&KEY, &deletes, form).unwrap());
        prop_assert_eq!(read_deletes(&file).unwrap(), deletes);
    }
}

#[test]
fn a_column_of_many_pages_is_read_back() {
    let text = |i: i64| format!("row {} {}", i % 7, i.wrapping_mul(0x1E37_79B9_7F4A_7C15)).into_bytes();
    let columns = [
        column(DataType::Int64, Values::Int64((0..MANY_ROWS).collect())),
        column(DataType::Int64, Values::Int64(vec![7; MANY_ROWS as usize])),
        column(DataType::Bool, Values::Bool((0..MANY_ROWS).map(|i| i % 3 == 0).collect())),
        column(DataType::VarChar, packed((0..MANY_ROWS).map(text))),
        column(DataType::FloatVector, Values::Fixed { width: 64, bytes: (0..MANY_ROWS * 64).map(|i| ((i * i) >> 7) as u8).collect() }),
    ];
    for column in columns {
        let file = write_insert_log(&KEY, &column, 1, 2).unwrap();
        assert!(read_column(&file).unwrap().values == column.values, "{:?}", column.data_type);
    }
}

#[test]
fn the_payload_is_what_every_reader_can_read() {
    let column = column(DataType::VarChar, packed(["a", "b"].repeat(100).iter().map(|text| text.as_bytes().to_vec())));
    let file = write_insert_log(&KEY, &column, 1, 2).unwrap();
    let Binlog::Insert(log) = read(&file).unwrap() else { panic!("an insert log") };
    assert_eq!(log.column.name, "val");

    let payload = SerializedFileReader::new(bytes::Bytes::copy_from_slice(&file[log.envelope.payload_at..])).unwrap();
    let metadata = payload.metadata();
    assert_eq!(metadata.file_metadata().created_by(), Some("tidegate"));
    assert!(metadata.file_metadata().key_value_metadata().is_none(), "no Arrow schema");
    assert_eq!(metadata.num_row_groups(), 1);
    let chunk = metadata.row_group(0).column(0);
    assert_eq!(chunk.column_type(), parquet::basic::Type::BYTE_ARRAY);
    assert_eq!(chunk.column_descr().self_type().get_basic_info().repetition(), Repetition::REQUIRED);
    assert_eq!(chunk.column_descr().converted_type(), parquet::basic::ConvertedType::UTF8);
    assert!(matches!(chunk.compression(), Compression::ZSTD(_)));
    assert!(chunk.dictionary_page_offset().is_some() && chunk.statistics().is_none());
}

#[test]
fn columns_whose_values_never_repeat_have_no_dictionary() {
    let values = || Values::Int64((0..100).collect());
    let key = FieldColumn { is_primary: true, ..column(DataType::Int64, values()) };
    let row_id = FieldColumn { field_id: 0, ..column(DataType::Int64, values()) };
    let vector = column(DataType::FloatVector, Values::Fixed { width: 8, bytes: vec![0; 80] });
    for (column, expected) in [(key, false), (row_id, false), (vector, false), (column(DataType::Int64, values()), true)] {
        let file = write_insert_log(&KEY, &column, 1, 2).unwrap();
        let Binlog::Insert(log) = read(&file).unwrap() else { panic!("an insert log") };
        let payload = SerializedFileReader::new(bytes::Bytes::copy_from_slice(&file[log.envelope.payload_at..])).unwrap();
        assert_eq!(payload.metadata().row_group(0).column(0).dictionary_page_offset().is_some(), expected, "{column:?}");
    }
}
