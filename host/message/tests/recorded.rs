//! Bodies that a real Milvus 2.3.5 wrote. Records of that age have no streaming properties, so the tests give them those of 2.6; the
//! bodies are untouched, and those of version 1 messages have kept their form.

use bytes::Bytes;
use tidegate_message::array::Elements;
use tidegate_message::columns::{Columns, DataType, Deletes, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{Header, Message, MessageId, Properties, Record};

const CREATE_COLLECTION: &[u8] = include_bytes!("fixtures/create_collection.bin");
const INSERT: &[u8] = include_bytes!("fixtures/insert.bin");
const DELETE: &[u8] = include_bytes!("fixtures/delete.bin");

const COLLECTION: i64 = 470648468662911008;
const PARTITION: i64 = 470648468662911009;

fn message(kind: &str, header: &str, body: &'static [u8]) -> Message {
    let properties = [("_v", "1"), ("_t", kind), ("_h", header), ("_vc", "p_0_1v0"), ("_tt", "1"), ("_lcs", "")];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let record = Record { id: MessageId::RocksMq(1), payload: Bytes::from_static(body), properties: Properties::from(properties) };
    Message::decode(record).unwrap()
}

/// The collection's fields.
fn schema() -> Schema {
    let field = |id, name: &str, data_type| Field {
        is_primary: id == 100,
        dim: if id == 118 { 8 } else { 0 },
        max_length: if id == 108 { 256 } else { 0 },
        ..Field::new(id, name, data_type)
    };
    let array = |id, name: &str, element| Field {
        element_type: Some(element),
        max_capacity: 16,
        max_length: if id == 117 { 64 } else { 0 },
        ..Field::new(id, name, DataType::Array)
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
        array(110, "ab", DataType::Bool),
        array(111, "ai8", DataType::Int8),
        array(112, "ai16", DataType::Int16),
        array(113, "ai32", DataType::Int32),
        array(114, "ai64", DataType::Int64),
        array(115, "af", DataType::Float),
        array(116, "ad", DataType::Double),
        array(117, "as_", DataType::VarChar),
        field(118, "v", DataType::FloatVector),
    ];
    Schema { name: "w".to_owned(), fields, enable_dynamic_field: false, version: 0 }
}

#[test]
fn a_recorded_schema_with_arrays_is_taken_over() {
    let Header::CreateCollection { schema: found, .. } = message("5", "", CREATE_COLLECTION).header else { panic!() };
    assert_eq!(found, Ok(Box::new(schema())));
}

#[test]
fn a_recorded_insert_becomes_columns() {
    let (body, schema) = (InsertBody::parse(&Bytes::from_static(INSERT)).unwrap(), schema());
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
    let arrays = |id| (0..30).map(|row| Elements::decode(column(id).bytes_at(row)).unwrap().unwrap()).collect::<Vec<_>>();
    for n in 0..30_i32 {
        let items = |length: i32| 0..n % length;
        assert_eq!(arrays(110)[n as usize], Elements::Bools(items(5).map(|i| i % 2 == 1).collect()));
        assert_eq!(arrays(111)[n as usize], Elements::Ints(items(4).map(|i| n + i).collect()));
        assert_eq!(arrays(112)[n as usize], Elements::Ints(items(4).map(|i| n + i).collect()));
        assert_eq!(arrays(113)[n as usize], Elements::Ints(items(4).map(|i| n - i).collect()));
        assert_eq!(arrays(114)[n as usize], Elements::Longs(items(6).map(|i| 1_000_000_000 * i64::from(n) + i64::from(i)).collect()));
        assert_eq!(arrays(115)[n as usize], Elements::Floats(items(3).map(|i| i as f32 / 3.0).collect()));
        assert_eq!(arrays(116)[n as usize], Elements::Doubles(items(3).map(|i| f64::from(i) / 3.0).collect()));
    }
    assert_eq!(arrays(117)[7], Elements::Texts(["", "f", "ds"].map(str::to_owned).to_vec()));
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
