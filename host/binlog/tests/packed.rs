//! Packed files: what is written is read back, the files of a batch fit each other, and damage is refused.

use bytes::Bytes;
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical};
use parquet::data_type::Int64Type;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tidegate_binlog::{Binlog, ColumnGroups, PackedPlan, ReadError, WriteError, column_groups, describe, read, read_packed};
use tidegate_message::columns::{Columns, DataType, FieldColumn, Values};
use tidegate_message::schema::{Field, Schema};

const DIM: usize = 24;

/// A collection with a field of every type, each nullable or not, behind an Int64 key.
fn schema(nullable: bool) -> Schema {
    let of = |(n, data_type): (i64, DataType)| {
        let dim = if data_type.is_dense_vector() { DIM } else { 0 };
        Field { nullable, dim, ..Field::new(101 + n, &format!("{data_type:?}"), data_type) }
    };
    let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
    let fields = std::iter::once(key).chain((0..).zip(DataType::ALL).map(of)).collect();
    Schema { name: "every".into(), fields, enable_dynamic_field: false, version: 0 }
}

/// Neighbours have nothing in common.
fn noise(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Rows of a schema, made from a seed; every third value of a nullable field is null.
fn batch(schema: &Schema, rows: usize, seed: u64) -> Columns {
    let mut columns = Columns::new(schema);
    columns.rows = rows;
    for column in &mut columns.fields {
        let draw = |row: usize| noise(seed ^ (column.field_id as u64) << 32 ^ row as u64);
        let null = |row: usize| column.valid.is_some() && draw(row) % 3 == 0;
        let number = |row: usize| if null(row) { 0 } else { draw(row) };
        let flags = (0..rows).map(|row| !null(row)).collect();
        column.values = match &column.values {
            Values::Bool(_) => Values::Bool((0..rows).map(|row| number(row) & 4 != 0).collect()),
            Values::Int8(_) => Values::Int8((0..rows).map(|row| number(row) as i8).collect()),
            Values::Int16(_) => Values::Int16((0..rows).map(|row| number(row) as i16).collect()),
            Values::Int32(_) => Values::Int32((0..rows).map(|row| number(row) as i32).collect()),
            Values::Int64(_) => Values::Int64((0..rows).map(|row| number(row) as i64).collect()),
            Values::Float(_) => Values::Float((0..rows).map(|row| (number(row) >> 40) as f32).collect()),
            Values::Double(_) => Values::Double((0..rows).map(|row| number(row) as f64).collect()),
            Values::Bytes { .. } => {
                let (mut ends, mut bytes) = (Vec::new(), Vec::new());
                for row in 0..rows {
                    if !null(row) {
                        bytes.extend(format!("{:.*}", (draw(row) % 9) as usize, draw(row) as f64).into_bytes());
                    }
                    ends.push(bytes.len());
                }
                Values::Bytes { ends, bytes }
            }
            Values::Fixed { width, .. } => {
                let byte = |row: usize, at: usize| if null(row) { 0 } else { noise(draw(row) ^ at as u64) as u8 };
                Values::Fixed { width: *width, bytes: (0..rows).flat_map(|row| (0..*width).map(move |at| byte(row, at))).collect() }
            }
        };
        if column.valid.is_some() {
            column.valid = Some(flags);
        }
    }
    columns
}

/// The files of a batch, by group.
fn write(columns: &Columns, groups: &ColumnGroups) -> Vec<(i64, Vec<u8>)> {
    let plan = PackedPlan::new(columns, groups).unwrap();
    let of = |members: &Vec<i64>| columns.fields.iter().filter(|c| members.contains(&c.field_id)).cloned().collect::<Vec<_>>();
    groups.iter().map(|(group, members)| (*group, plan.write(&of(members)).unwrap())).collect()
}

/// The files of a batch, typed by its schema again.
fn read_back(files: &[(i64, Vec<u8>)], schema: &Schema) -> Columns {
    let mut columns = Columns::new(schema);
    for (_, bytes) in files {
        let file = read_packed(bytes).unwrap();
        columns.rows = file.rows();
        for column in file.columns {
            let place = columns.fields.iter_mut().find(|place| place.field_id == column.field).unwrap();
            *place = column.typed(place).unwrap();
        }
    }
    columns
}

fn metadata(file: &[u8]) -> ParquetMetaData {
    SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap().metadata().clone()
}

fn footer(metadata: &ParquetMetaData) -> Vec<(String, String)> {
    let pairs = metadata.file_metadata().key_value_metadata().cloned().unwrap_or_default();
    pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_of_every_type_is_read_back(rows in 1..300usize, seed in any::<u64>(), nullable in any::<bool>()) {
        let schema = schema(nullable);
        let columns = batch(&schema, rows, seed);
        let groups = column_groups(&schema, &ColumnGroups::new());
        let files = write(&columns, &groups);
        prop_assert_eq!(read_back(&files, &schema), columns.clone());
        prop_assert_eq!(write(&columns, &groups), files);
    }
}

#[test]
fn a_row_group_has_the_same_rows_in_every_file() {
    let schema = schema(true);
    let columns = batch(&schema, 5000, 7);
    let files = write(&columns, &column_groups(&schema, &ColumnGroups::new()));
    let row_groups = |file: &[u8]| read_packed(file).unwrap().row_groups;
    let first = row_groups(&files[0].1);
    assert!(first.len() >= 2 && first.iter().sum::<usize>() == 5000, "{first:?}");
    assert!(files.iter().all(|(_, file)| row_groups(file) == first));
    assert_eq!(read_back(&files, &schema), columns);

    // Together the files say how much memory a row group takes: about a mebibyte each, but for the last.
    let mut sums = vec![0; first.len()];
    for (_, file) in &files {
        let footer = footer(&metadata(file));
        let said = &footer.iter().find(|(key, _)| key == "row_group_metadata").unwrap().1;
        let mut start = 0;
        for ((said, rows), sum) in said.split(';').zip(&first).zip(&mut sums) {
            let numbers: Vec<usize> = said.split('|').map(|number| number.parse().unwrap()).collect();
            assert_eq!(numbers[1..], [*rows, start]);
            *sum += numbers[0];
            start += rows;
        }
    }
    assert!(sums.iter().all(|sum| *sum <= 1 << 20) && sums[..sums.len() - 1].iter().all(|sum| *sum > 1_000_000), "{sums:?}");
}

#[test]
fn columns_are_named_typed_and_grouped_as_milvus_reads_them() {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field::new(101, "small", DataType::Int8),
        Field { nullable: true, ..Field::new(102, "title", DataType::VarChar) },
        Field { dim: 12, ..Field::new(103, "bits", DataType::BinaryVector) },
        Field { nullable: true, dim: 4, ..Field::new(104, "v", DataType::FloatVector) },
    ];
    let schema = Schema { name: "s".into(), fields, enable_dynamic_field: false, version: 0 };
    let files = write(&batch(&schema, 4, 1), &column_groups(&schema, &ColumnGroups::new()));
    let named: Vec<_> = files
        .iter()
        .map(|(group, file)| {
            let metadata = metadata(file);
            assert_eq!(metadata.file_metadata().created_by(), Some("tidegate"));
            let columns = metadata.file_metadata().schema_descr().columns().iter().map(|column| {
                let info = column.self_type().get_basic_info();
                assert_eq!(info.name(), info.id().to_string());
                (
                    info.id(),
                    column.physical_type(),
                    column.converted_type(),
                    column.type_length(),
                    info.repetition() == Repetition::OPTIONAL,
                )
            });
            (*group, columns.collect::<Vec<_>>())
        })
        .collect();
    let plain = |id| (id, Physical::INT64, ConvertedType::NONE, -1, false);
    assert_eq!(
        named,
        [
            (0, vec![plain(0), plain(1), plain(100)]),
            (1, vec![(101, Physical::INT32, ConvertedType::INT_8, -1, false), (102, Physical::BYTE_ARRAY, ConvertedType::UTF8, -1, true)]),
            (103, vec![(103, Physical::FIXED_LEN_BYTE_ARRAY, ConvertedType::NONE, 2, false)]),
            (104, vec![(104, Physical::BYTE_ARRAY, ConvertedType::NONE, -1, true)]),
        ]
    );
    let expected = [("group_field_id_list", "0,1,100;101,102;103;104"), ("row_group_metadata", "96|4|0"), ("storage_version", "1.0.0")];
    assert_eq!(footer(&metadata(&files[0].1)), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn each_column_is_compressed_if_it_shrinks() {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field::new(101, "noise", DataType::Double),
        Field::new(102, "same", DataType::Double),
    ];
    let schema = Schema { name: "s".into(), fields, enable_dynamic_field: false, version: 0 };
    let mut columns = batch(&schema, 500, 3);
    columns.fields[4].values = Values::Double(vec![0.5; 500]);
    let files = write(&columns, &column_groups(&schema, &ColumnGroups::new()));
    let codecs: Vec<_> = metadata(&files[1].1).row_group(0).columns().iter().map(|column| column.compression()).collect();
    assert!(matches!(codecs[..], [Compression::UNCOMPRESSED, Compression::ZSTD(_)]), "{codecs:?}");
}

#[test]
fn a_batch_that_contradicts_itself_is_not_planned() {
    let schema = schema(false);
    let columns = batch(&schema, 3, 1);
    let groups = column_groups(&schema, &ColumnGroups::new());
    let problem = |columns: &Columns, groups: &ColumnGroups| PackedPlan::new(columns, groups).unwrap_err().to_string();
    let mut twice = groups.clone();
    twice.entry(7).or_default().push(100);
    assert_eq!(problem(&columns, &twice), "field 100: it is in 2 column groups");
    assert_eq!(problem(&Columns { rows: 4, ..columns.clone() }, &groups), "field 0: 3 values in a batch of 4 rows");
    assert_eq!(PackedPlan::new(&batch(&schema, 0, 1), &groups).unwrap_err(), WriteError::Empty { field: 0 });
    let plan = PackedPlan::new(&columns, &groups).unwrap();
    assert!(plan.write(&[]).is_err() && plan.write(&batch(&schema, 2, 1).fields).is_err());
}

#[test]
fn a_column_of_another_type_than_the_schema_says_is_refused() {
    let schema = schema(true);
    let files = write(&batch(&schema, 50, 1), &column_groups(&schema, &ColumnGroups::new()));
    let file = |field: i64| files.iter().map(|(_, file)| read_packed(file).unwrap()).find(|f| f.columns.iter().any(|c| c.field == field));
    let column = |field: i64| file(field).unwrap().columns.into_iter().find(|column| column.field == field).unwrap();
    let fields = Columns::new(&schema).fields;
    let place = |data_type: DataType| fields.iter().find(|f| f.data_type == data_type && f.field_id > 100).unwrap();
    let (text, vector) = (place(DataType::VarChar), place(DataType::FloatVector));
    let typed = |field: i64, as_column: &FieldColumn| column(field).typed(as_column).map(|column| column.valid);

    assert!(typed(text.field_id, text).unwrap().unwrap().contains(&false));
    let required = FieldColumn { valid: None, ..text.clone() };
    assert_eq!(typed(text.field_id, &required).unwrap_err(), "there are nulls, but the field is not nullable");
    assert!(typed(text.field_id, place(DataType::Int64)).unwrap_err().contains("Bytes"));
    let narrow = FieldColumn { values: Values::Fixed { width: 8, bytes: vec![] }, ..vector.clone() };
    let error = typed(vector.field_id, &narrow).unwrap_err();
    assert!(error.ends_with("has 96 bytes, the schema says 8"), "{error}");
    let small = FieldColumn { data_type: DataType::Int8, ..place(DataType::Int8).clone() };
    assert!(typed(place(DataType::Int32).field_id, &small).unwrap_err().contains("out of its type's range"));
}

#[test]
fn a_description_shows_groups_and_rows() {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { nullable: true, ..Field::new(101, "title", DataType::VarChar) },
        Field::new(102, "n", DataType::Int8),
    ];
    let schema = Schema { name: "s".into(), fields, enable_dynamic_field: false, version: 0 };
    let mut columns = batch(&schema, 3, 1);
    columns.fields[3].values = Values::Bytes { ends: vec![1, 1, 3], bytes: b"abc".to_vec() };
    columns.fields[3].valid = Some(vec![true, false, true]);
    columns.fields[4].values = Values::Int8(vec![1, -2, 3]);
    let files = write(&columns, &column_groups(&schema, &ColumnGroups::new()));
    let expected = "\
packed file of fields 101, 102
  groups      0, 1, 100; 101, 102
  row groups  3
  rows        3
         0    101: \"a\"  102: 1
         1    101: null  102: -2
  and 1 more
";
    assert_eq!(describe(&files[1].1, 2).unwrap(), expected);
}

/// A Parquet file of one Int64 column with these footer pairs.
fn foreign(pairs: &[(&str, &str)]) -> Vec<u8> {
    let schema = parse_message_type("message schema { REQUIRED INT64 pk = 100; }").unwrap();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema.into(), Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&[7, 8], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    pairs.iter().for_each(|(key, value)| writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), (*value).to_owned())));
    writer.into_inner().unwrap()
}

#[test]
fn a_footer_that_is_none_of_a_packed_file_is_refused_with_the_reason() {
    let version = ("storage_version", "1.0.0");
    let groups = ("group_field_id_list", "0,1;100");
    assert_eq!(read_packed(&foreign(&[version, groups])).unwrap().groups, [vec![0, 1], vec![100]]);
    assert!(read_packed(&foreign(&[version, groups, ("row_group_metadata", "16|2|0")])).is_ok());
    for (pairs, reason) in [
        (vec![], "not a segment file at byte 0: a Parquet file whose footer has no storage_version"),
        (vec![("storage_version", "2.0.0"), groups], "storage version \"2.0.0\", known is 1.0.0"),
        (vec![version], "group_field_id_list is \"\""),
        (vec![version, ("group_field_id_list", "0,1;101")], "the file has fields [100], which is none of the groups [[0, 1], [101]]"),
        (vec![version, groups, ("row_group_metadata", "16|3|0")], "row group 0 has 2 rows from row 0 on, its footer says \"16|3|0\""),
        (vec![version, groups, ("row_group_metadata", "16|2|0;16|2|2")], "1 row groups, but the footer has another"),
    ] {
        let error = read_packed(&foreign(&pairs)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// The keys, the short values, and one vector.
fn damaged_files() -> Vec<Vec<u8>> {
    let schema = schema(true);
    let files = write(&batch(&schema, 12, 5), &column_groups(&schema, &ColumnGroups::new()));
    files.into_iter().take(3).map(|(_, file)| file).collect()
}

#[test]
fn a_packed_file_that_is_cut_off_is_refused() {
    for file in damaged_files() {
        for length in 0..file.len() {
            assert!(read(&file[..length]).is_err(), "{length} of {}", file.len());
        }
        let error = read(&file[..file.len() - 1]).unwrap_err();
        assert!(matches!(&error, ReadError::Damaged { offset, .. } if *offset == file.len() - 5), "{error}");
        assert!(error.to_string().contains("cut off"), "{error}");
        let beheaded = [b"QAR1", &file[4..]].concat();
        assert!(matches!(read_packed(&beheaded), Err(ReadError::Damaged { offset: 0, .. })));
    }
}

#[test]
fn every_flipped_bit_of_a_packed_file_is_an_error_or_another_value() {
    for file in damaged_files() {
        for bit in 0..file.len() * 8 {
            let mut bytes = file.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(Binlog::Packed(read)) = read(&bytes) {
                assert_eq!(read.rows(), 12, "bit {bit}");
            }
        }
    }
}
