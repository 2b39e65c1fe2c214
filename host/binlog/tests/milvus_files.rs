//! Files that a Milvus 2.3.5 server wrote are read, value by value, and forms that only other versions write.
//!
//! The fixtures are one sync of one segment. Its rows were made from the primary key `id`: `b = id % 3 == 0`,
//! `i8 = id % 256 - 128`, `i16 = id * 37 % 65536 - 32768`, `i32 = id * 1000003 - 2^30`, `f = d = id / 7`.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tidegate_binlog::{
    Binlog, DeltaForm, ReadError, SegmentKey, describe, memory_size, read, read_column, read_deletes, write_delta_log, write_insert_log,
};
use tidegate_message::array::Elements;
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};

const ROWS: usize = 500;
const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name)).as_slice()
    };
}

fn ids() -> Vec<i64> {
    let Values::Int64(ids) = read_column(fixture!("insert_int64")).unwrap().values else { panic!("integers") };
    ids
}

#[test]
fn every_scalar_of_a_real_segment_has_the_value_that_was_inserted() {
    let ids = ids();
    assert_eq!((ids.len(), ids[0], ids[499]), (ROWS, 0, 998));
    let read = |bytes| read_column(bytes).unwrap().values;
    assert_eq!(read(fixture!("insert_bool")), Values::Bool(ids.iter().map(|id| id % 3 == 0).collect()));
    assert_eq!(read(fixture!("insert_int8")), Values::Int8(ids.iter().map(|id| (id % 256 - 128) as i8).collect()));
    assert_eq!(read(fixture!("insert_int16")), Values::Int16(ids.iter().map(|id| (id * 37 % 65536 - 32768) as i16).collect()));
    assert_eq!(read(fixture!("insert_int32")), Values::Int32(ids.iter().map(|id| (id * 1_000_003 - (1 << 30)) as i32).collect()));
    assert_eq!(read(fixture!("insert_float")), Values::Float(ids.iter().map(|&id| (id as f64 / 7.0) as f32).collect()));
    assert_eq!(read(fixture!("insert_double")), Values::Double(ids.iter().map(|&id| id as f64 / 7.0).collect()));
    assert_eq!(read(fixture!("insert_timestamp")), Values::Int64(vec![470_647_704_081_924_099; ROWS]));
    let Values::Int64(row_ids) = read(fixture!("insert_row_id")) else { panic!("row ids") };
    assert!(row_ids.len() == ROWS && row_ids.is_sorted() && row_ids[0] == 470_647_677_430_530_570);
}

#[test]
fn text_and_vectors_of_a_real_segment_are_read() {
    let texts = |bytes| {
        let Values::Bytes { ends, bytes } = read_column(bytes).unwrap().values else { panic!("text") };
        let starts = [0].into_iter().chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, &end)| String::from_utf8(bytes[start..end].to_vec()).unwrap()).collect::<Vec<_>>()
    };
    let (varchar, json) = (texts(fixture!("insert_varchar")), texts(fixture!("insert_json")));
    assert_eq!((varchar.len(), json.len()), (ROWS, ROWS));
    assert_eq!(varchar[..3], ["", "k", "bc"]);
    assert_eq!(json[2], r#"{"i":2,"t":"ärd","n":{"x":[1,2,2]},"z":null}"#);
    let Values::Fixed { width, bytes } = read_column(fixture!("insert_float_vector")).unwrap().values else { panic!("vectors") };
    assert_eq!((width, bytes.len()), (32, 32 * ROWS));
    assert_eq!(bytes[..8], [0.001_230_153_4_f32.to_le_bytes(), 0.298_745_54_f32.to_le_bytes()].concat());
}

#[test]
fn arrays_of_a_real_segment_are_read() {
    let column = read_column(fixture!("insert_array")).unwrap();
    assert_eq!((column.data_type, column.values.len()), (DataType::Array, ROWS));
    for (row, id) in ids().into_iter().enumerate() {
        let expected = Elements::Bools((0..id % 5).map(|i| i % 2 == 1).collect());
        assert_eq!(Elements::decode(column.values.bytes_at(row)), Ok(Some(expected)), "key {id}");
    }
    assert!(describe(fixture!("insert_array"), 5).unwrap().contains("    [false, true]\n"));
}

/// Milvus 2.3 knows no nullable fields, whose flag 2.6 counts as one byte.
#[test]
fn columns_of_a_real_segment_weigh_what_their_files_say() {
    for file in
        [fixture!("insert_array"), fixture!("insert_int8"), fixture!("insert_varchar"), fixture!("insert_json"), fixture!("insert_double")]
    {
        let Binlog::Insert(log) = read(file).unwrap() else { panic!("an insert log") };
        assert_eq!(memory_size(&log.column), log.envelope.original_size + 1, "{}", log.envelope.field);
    }
    let Binlog::Insert(log) = read(fixture!("insert_float_vector")).unwrap() else { panic!("an insert log") };
    assert_eq!(memory_size(&log.column), log.envelope.original_size);
}

#[test]
fn deletes_of_a_real_segment_are_read() {
    let deletes = read_deletes(fixture!("delta_log")).unwrap();
    assert_eq!(deletes.ticks, vec![470_647_704_332_271_621; 29]);
    assert_eq!(deletes.keys[..3], [2040, 2074, 2091].map(PrimaryKey::Int64));
    assert!(deletes.keys.iter().all(|key| matches!(key, PrimaryKey::Int64(key) if key % 17 == 0)));
}

#[test]
fn statistics_of_a_real_segment_hold_its_keys_and_few_others() {
    let Binlog::Statistics(batch) = read(fixture!("stats_batch")).unwrap() else { panic!("statistics") };
    let Binlog::Statistics(merged) = read(fixture!("stats_merged")).unwrap() else { panic!("statistics") };
    assert_eq!((batch.len(), merged.len(), &merged[0]), (1, 2, &batch[0]));
    let ids = ids();
    assert!(ids.iter().all(|&id| batch[0].may_hold(&PrimaryKey::Int64(id))));
    let others = (0..998).filter(|id| !ids.contains(id));
    let wrong = others.filter(|&id| batch[0].may_hold(&PrimaryKey::Int64(id))).count();
    assert!(wrong < 50, "{wrong} of 498 at one in twenty");
}

#[test]
fn a_type_that_is_not_decoded_is_still_described() {
    let mut file = fixture!("insert_array").to_vec();
    // The payload's type in the descriptor: an array of vectors.
    file[69..73].copy_from_slice(&106i32.to_le_bytes());
    assert!(matches!(read(&file), Err(ReadError::Unsupported { .. })));
    let text = describe(&file, 3).unwrap();
    assert!(
        text.starts_with("insert log of field 110, ArrayOfVector\n  segment     470647677430730574 of collection 470647677430530560"),
        "{text}"
    );
    assert!(text.contains("not decoded: values of type ArrayOfVector (106)"), "{text}");
}

#[test]
fn a_description_says_whose_file_it_is_and_shows_the_first_rows() {
    let expected = "\
insert log of field 102, Int8
  segment     470647677430730574 of collection 470647677430530560, partition 470647677430530561
  ticks       470647704081924099 (1795378509834 ms + 3) to 470647704081924099 (1795378509834 ms + 3), \
written 470647704206442496 (1795378510309 ms + 0)
  extras      {\"original_size\":\"500\"}
  events      descriptor at byte 4, insert at byte 108, payload of 1717 bytes at byte 141
  rows        500
         0    -128
         1    -127
  and 498 more
";
    assert_eq!(describe(fixture!("insert_int8"), 2).unwrap(), expected);
    let deletes = describe(fixture!("delta_log"), 1).unwrap();
    assert!(deletes.contains("         0    2040 at 470647704332271621 (1795378510789 ms + 5)\n  and 28 more\n"), "{deletes}");
    let statistics = describe(fixture!("stats_merged"), 9).unwrap();
    assert!(statistics.contains("1    field 100, keys 1000 to 1993, basic filter of 2981 bits, 5 hashes\n"), "{statistics}");
}

/// A Parquet file with one row group a call of `write`, which gets the group's columns one after another.
fn parquet(schema: &str, properties: WriterProperties, groups: usize, write: impl Fn(usize, &mut dyn Columns)) -> Vec<u8> {
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(parse_message_type(schema).unwrap()), Arc::new(properties)).unwrap();
    for group in 0..groups {
        let mut columns = file.next_row_group().unwrap();
        write(group, &mut columns);
        columns.close().unwrap();
    }
    file.into_inner().unwrap()
}

/// What the tests write: a column of integers or of text, with definition levels where it is optional.
trait Columns {
    fn int64(&mut self, values: &[i64], levels: Option<&[i16]>);
    fn text(&mut self, values: &[&'static str], levels: Option<&[i16]>);
}

impl<W: std::io::Write + Send> Columns for parquet::file::writer::SerializedRowGroupWriter<'_, W> {
    fn int64(&mut self, values: &[i64], levels: Option<&[i16]>) {
        let mut column = self.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(values, levels, None).unwrap();
        column.close().unwrap();
    }

    fn text(&mut self, values: &[&'static str], levels: Option<&[i16]>) {
        let mut column = self.next_column().unwrap().unwrap();
        let values: Vec<_> = values.iter().map(|text| ByteArray::from(Bytes::from_static(text.as_bytes()))).collect();
        column.typed::<ByteArrayType>().write_batch(&values, levels, None).unwrap();
        column.close().unwrap();
    }
}

/// Puts another payload into a file's envelope, with the next position unset as Milvus' compaction leaves it.
fn with_payload(mut file: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    let (event_at, payload_at) = match read(&file).unwrap() {
        Binlog::Insert(log) => (log.envelope.event_at, log.envelope.payload_at),
        Binlog::Delta(log) => (log.envelope.event_at, log.envelope.payload_at),
        Binlog::Packed(_) | Binlog::Statistics(_) => panic!("no envelope"),
    };
    file.truncate(payload_at);
    file.extend_from_slice(payload);
    let length = (file.len() - event_at) as i32;
    file[event_at + 9..event_at + 13].copy_from_slice(&length.to_le_bytes());
    file[event_at + 13..event_at + 17].copy_from_slice(&(-1i32).to_le_bytes());
    file
}

fn insert_with(payload: &[u8]) -> Vec<u8> {
    let values = Values::Int64(vec![1]);
    let column = FieldColumn { field_id: 100, name: "id".to_owned(), data_type: DataType::Int64, is_primary: false, valid: None, values };
    with_payload(write_insert_log(&KEY, &column, 1, 2).unwrap(), payload)
}

fn deletes_with(payload: &[u8]) -> Vec<u8> {
    let deletes = Deletes { keys: vec![PrimaryKey::Int64(1)], ticks: vec![1] };
    with_payload(write_delta_log(&KEY, &deletes, DeltaForm::Json).unwrap(), payload)
}

#[test]
fn an_optional_column_is_read_if_it_has_no_nulls() {
    let schema = "message schema { OPTIONAL INT64 100; }";
    for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(Default::default())] {
            let properties = || {
                WriterProperties::builder().set_writer_version(version).set_compression(compression).set_dictionary_enabled(true).build()
            };
            let whole = parquet(schema, properties(), 2, |_, group| group.int64(&[7, 8, 7], Some(&[1, 1, 1])));
            assert_eq!(read_column(&insert_with(&whole)).unwrap().values, Values::Int64(vec![7, 8, 7, 7, 8, 7]));
            let holes = parquet(schema, properties(), 1, |_, group| group.int64(&[7, 8], Some(&[1, 0, 1])));
            let error = read_column(&insert_with(&holes)).unwrap_err();
            assert!(matches!(&error, ReadError::Unsupported { problem, .. } if problem == "column \"100\" has nulls"), "{error}");
        }
    }
}

#[test]
fn the_parquet_form_of_a_delta_log_is_read() {
    let ticks = [1000, 2000];
    let integers = parquet("message schema { REQUIRED INT64 pk; REQUIRED INT64 ts; }", WriterProperties::default(), 1, |_, group| {
        group.int64(&[-5, 6], None);
        group.int64(&ticks, None);
    });
    let deletes = read_deletes(&deletes_with(&integers)).unwrap();
    assert_eq!(deletes, Deletes { keys: [-5, 6].map(PrimaryKey::Int64).to_vec(), ticks: vec![1000, 2000] });

    let text =
        parquet("message schema { REQUIRED BYTE_ARRAY pk (UTF8); REQUIRED INT64 ts; }", WriterProperties::default(), 1, |_, group| {
            group.text(&["a", "ä"], None);
            group.int64(&ticks, None);
        });
    let keys = ["a", "ä"].map(|key| PrimaryKey::VarChar(key.to_owned())).to_vec();
    assert_eq!(read_deletes(&deletes_with(&text)).unwrap(), Deletes { keys, ticks: vec![1000, 2000] });
}

#[test]
fn a_payload_of_another_type_than_the_descriptor_says_is_damage() {
    let text = parquet("message schema { REQUIRED BYTE_ARRAY val; }", WriterProperties::default(), 1, |_, group| group.text(&["a"], None));
    let error = read_column(&insert_with(&text)).unwrap_err().to_string();
    assert!(error.ends_with("the descriptor says Int64, the payload has Bytes values"), "{error}");
}
