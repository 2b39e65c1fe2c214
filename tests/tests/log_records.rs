//! The other way round: log records and segment files that a real Milvus 2.3.5 wrote, through our decoder and our writer, column by column.
//!
//! Both come from the same generator, so that a row of a log record and the row of a segment file with the same key have equal values;
//! only the vectors were drawn anew, and the keys of JSON objects have another order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use tidegate_binlog::{DeltaForm, SegmentKey, read_column, read_deletes, write_delta_log, write_insert_log};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::schema::Schema;
use tidegate_message::{Header, Message, MessageId, Properties, Record};

macro_rules! message_fixture {
    ($name:literal) => {
        Bytes::from_static(include_bytes!(concat!("../../host/message/tests/fixtures/", $name)))
    };
}

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };

/// The file that the first sync of a segment wrote for a field.
fn first_file(field: i64) -> Vec<u8> {
    let segment = "fixtures/milvus-2.3.5/insert_log/470647677430530560/470647677430530561/470647677430730574";
    let logs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(segment).join(field.to_string())).unwrap();
    fs::read(logs.map(|log| log.unwrap().path()).min().unwrap()).unwrap()
}

/// The schema of the recorded CreateCollection, which the files' collection has too. Records of that age lack the properties of 2.6.
fn schema() -> Schema {
    let properties = [("_v", "1"), ("_t", "5"), ("_h", ""), ("_vc", "p_0_1v0"), ("_tt", "1"), ("_lcs", "")];
    let properties = Properties::from(properties.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let record = Record { id: MessageId::RocksMq(1), payload: message_fixture!("create_collection.bin"), properties };
    match Message::decode(record).unwrap().header {
        Header::CreateCollection { schema: Ok(schema), .. } => *schema,
        other => panic!("{other:?}"),
    }
}

/// The rows of the recorded inserts.
fn recorded(schema: &Schema) -> Columns {
    let mut columns = Columns::new(schema);
    for body in [message_fixture!("insert.bin"), message_fixture!("insert_second.bin"), message_fixture!("insert_third.bin")] {
        let body = InsertBody::parse(&body).unwrap();
        body.check(schema).unwrap();
        body.append_to(7, schema, &mut columns).unwrap();
    }
    columns
}

/// The rows of the server's files of one sync.
fn in_files(schema: &Schema) -> Columns {
    let mut columns = Columns::new(schema);
    for column in &mut columns.fields {
        let read = read_column(&first_file(column.field_id)).unwrap();
        assert_eq!((read.field_id, read.data_type, read.valid), (column.field_id, column.data_type, None));
        column.values = read.values;
    }
    columns.rows = keys(&columns).len();
    columns
}

fn keys(columns: &Columns) -> &[i64] {
    match columns.fields.iter().find(|f| f.is_primary).map(|f| &f.values) {
        Some(Values::Int64(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

/// The JSON document of a column of one row.
fn document(values: &Values) -> serde_json::Value {
    serde_json::from_slice(values.bytes_at(0)).unwrap()
}

/// A column as our writer and our reader leave it.
fn through_our_file(column: &FieldColumn) -> Values {
    let read = read_column(&write_insert_log(&KEY, column, 7, 7).unwrap()).unwrap();
    assert_eq!((read.field_id, read.data_type), (column.field_id, column.data_type));
    read.values
}

#[test]
fn recorded_rows_in_our_files_have_the_values_that_the_server_wrote_into_its_own() {
    let schema = schema();
    let (mut ours, theirs) = (recorded(&schema), in_files(&schema));
    assert_eq!((ours.rows, theirs.rows, ours.fields.len()), (41, 500, 21));
    for column in &mut ours.fields {
        let written = through_our_file(column);
        assert_eq!(written, column.values, "field {}", column.name);
        column.values = written;
    }
    let place: BTreeMap<i64, usize> = keys(&theirs).iter().enumerate().map(|(row, key)| (*key, row)).collect();
    let mut compared = BTreeMap::new();
    for (row, key) in keys(&ours).iter().enumerate() {
        let Some(&place) = place.get(key) else { continue };
        for (our, their) in ours.select(&[row]).fields.iter().zip(theirs.select(&[place]).fields).skip(2) {
            if our.data_type == DataType::FloatVector {
                assert!(matches!((&our.values, &their.values), (Values::Fixed { width: 32, .. }, Values::Fixed { width: 32, .. })));
                continue;
            }
            if our.data_type == DataType::Json {
                assert_eq!(document(&our.values), document(&their.values), "row {key}, field {}", our.name);
            } else {
                assert_eq!(our.values, their.values, "row {key}, field {}", our.name);
            }
            *compared.entry(our.name.clone()).or_insert(0) += 1;
        }
    }
    println!("values compared: {compared:?}");
    assert!(compared.len() == 18 && compared.values().all(|&rows| rows >= 15), "{compared:?}");
}

#[test]
fn every_column_of_a_real_segment_goes_through_our_writer_unchanged() {
    for column in in_files(&schema()).fields {
        let values = through_our_file(&column);
        assert!(values == column.values, "field {} ({:?}) differs", column.name, column.data_type);
    }
}

#[test]
fn recorded_deletes_and_those_of_a_real_delta_log_go_through_our_writer_unchanged() {
    let mut recorded = Deletes::default();
    DeleteBody::parse(&message_fixture!("delete.bin")).unwrap().append_to(9, &mut recorded);
    assert_eq!(recorded.keys, [3, 5, 31].map(PrimaryKey::Int64));
    let theirs = read_deletes(include_bytes!("../../host/binlog/tests/fixtures/delta_log")).unwrap();
    assert_eq!(theirs.keys.len(), 29);
    for deletes in [recorded, theirs] {
        assert_eq!(read_deletes(&write_delta_log(&KEY, &deletes, DeltaForm::Json).unwrap()).unwrap(), deletes);
    }
}
