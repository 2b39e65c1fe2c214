//! Bodies that a real Milvus 2.3.5 wrote. Records of that age have no streaming properties, so the tests give them those of 2.6; the
//! bodies are untouched, and those of version 1 messages have kept their form.

use bytes::Bytes;
use tidegate_message::columns::{Columns, DataType, Deletes, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody, RowsError};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{Header, Message, MessageId, Properties, Record};

const CREATE_COLLECTION: &[u8] = include_bytes!("fixtures/create_collection.bin");
const INSERT: &[u8] = include_bytes!("fixtures/insert.bin");
const DELETE: &[u8] = include_bytes!("fixtures/delete.bin");

const COLLECTION: i64 = 470648468662911008;
const PARTITION: i64 = 470648468662911009;

fn message(kind: &str, header: &str, body: &'static [u8]) -> Message {
    let properties = [("_v", "1"), ("_t", kind), ("_h", header), ("_tt", "1"), ("_lcs", "")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let record = Record { id: MessageId::RocksMq(1), payload: Bytes::from_static(body), properties: Properties::from(properties) };
    Message::decode(record).unwrap()
}

/// The collection's fields without its eight arrays.
fn schema() -> Schema {
    let field = |id, name: &str, data_type| Field {
        is_primary: id == 100,
        dim: if id == 118 { 8 } else { 0 },
        max_length: if id == 108 { 256 } else { 0 },
        ..Field::new(id, name, data_type)
    };
    let fields = vec![
        field(100, "id", DataType::Int64),
        field(101, "b", DataType::Bool),
        field(102, "i8", DataType::Int8),
        field(103, "i16", DataType::Int16),
        field(104, "i32", DataType::Int32),
        field(105, "i64", DataType::Int64),
        field(106, "f", DataType::Float),
        field(107, "d", DataType::Double),
        field(108, "s", DataType::VarChar),
        field(109, "j", DataType::Json),
        field(118, "v", DataType::FloatVector),
    ];
    Schema { name: "w".to_owned(), fields, enable_dynamic_field: false, version: 0 }
}

/// The insert without its columns of arrays: top-level fields 13 that begin with type 22.
fn insert_without_arrays() -> Bytes {
    let (mut rest, mut kept) = (INSERT, Vec::new());
    while let [tag, tail @ ..] = rest {
        let (number, used) = varint(tail);
        let whole = 1 + used + if tag & 7 == 2 { number as usize } else { 0 };
        if !(*tag == 13 << 3 | 2 && rest[1 + used..].starts_with(&[0x08, 22])) {
            kept.extend_from_slice(&rest[..whole]);
        }
        rest = &rest[whole..];
    }
    kept.into()
}

fn varint(bytes: &[u8]) -> (u64, usize) {
    let used = bytes.iter().position(|b| *b < 0x80).unwrap() + 1;
    (bytes[..used].iter().rev().fold(0, |n, b| n << 7 | u64::from(b & 0x7f)), used)
}

#[test]
fn a_schema_with_arrays_is_refused_by_name_and_the_message_is_sound() {
    let Header::CreateCollection { schema: Err(reason), .. } = message("5", "", CREATE_COLLECTION).header else { panic!() };
    assert!(reason.starts_with("field \"ab\" (id 110) is of data type 22"), "{reason}");
}

#[test]
fn an_insert_with_arrays_is_refused_by_name() {
    let error = InsertBody::parse(&Bytes::from_static(INSERT)).unwrap_err();
    assert!(matches!(&error, RowsError::Field { field, .. } if field.starts_with("\"ab\"")), "{error}");
}

#[test]
fn a_recorded_insert_becomes_columns() {
    let (body, schema) = (InsertBody::parse(&insert_without_arrays()).unwrap(), schema());
    assert_eq!(body.rows(), 30);
    body.check(&schema).unwrap();
    let mut columns = Columns::new(&schema);
    body.append_to(7, &schema, &mut columns).unwrap();
    let column = |id| columns.fields.iter().find(|f| f.field_id == id).map(|f| &f.values).unwrap();
    assert_eq!(*column(0), Values::Int64((470648468662911019..).take(30).collect()));
    assert_eq!(*column(1), Values::Int64(vec![7; 30]));
    assert_eq!(*column(100), Values::Int64((0..30).collect()));
    assert_eq!(*column(101), Values::Bool((0..30).map(|i| i % 3 == 0).collect()));
    assert_eq!(*column(102), Values::Int8((-128..).take(30).collect()));
    assert_eq!(*column(103), Values::Int16((0..30).map(|i| -32768 + i * 37).collect()));
    assert_eq!(*column(107), Values::Double((0..30).map(|i| f64::from(i) / 7.0).collect()));
    let Values::Bytes { ends, bytes } = column(108) else { panic!() };
    assert_eq!((ends[..6].to_vec(), &bytes[..16]), (vec![0, 1, 3, 6, 10, 16], "kbcsbqhcrnbäsdh".as_bytes()));
    let Values::Fixed { width: 32, bytes } = column(118) else { panic!() };
    assert_eq!(bytes.len(), 30 * 32);
}

#[test]
fn a_recorded_delete_becomes_keys() {
    // collection_id = COLLECTION, rows = 3
    let header = message("3", "CKCA8KWeiYXEBhAD", DELETE).header;
    assert_eq!(header, Header::Delete { collection: COLLECTION, partition: -1, rows: 3 });
    let mut deletes = Deletes::default();
    DeleteBody::parse(&Bytes::from_static(DELETE)).unwrap().append_to(9, &mut deletes);
    assert_eq!(deletes, Deletes { keys: [3, 5, 31].map(PrimaryKey::Int64).to_vec(), ticks: vec![9; 3] });
}

#[test]
fn the_ids_of_a_recorded_insert_are_found_without_its_columns() {
    // collection_id = COLLECTION, partitions = [{partition_id = PARTITION, rows = 30, segment_assignment = {segment_id = 5}}]
    let header = message("2", "CKCA8KWeiYXEBhIQCKGA8KWeiYXEBhAeIgIIBQ==", INSERT).header;
    assert_eq!(header, Header::Insert { collection: COLLECTION, partition: PARTITION, segment: 5, rows: 30, bytes: 0 });
}
