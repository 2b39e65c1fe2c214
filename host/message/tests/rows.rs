//! Rows from columns to a body and back.

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody, RowsError};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{Message, MessageId, Record};

const TO: InsertAssignment = InsertAssignment { collection: 7, partition: 8, segment: 9, rows: 2, bytes: 0 };
const TYPES: [DataType; 10] = [
    DataType::Int64,
    DataType::Bool,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Float,
    DataType::Double,
    DataType::VarChar,
    DataType::Json,
    DataType::FloatVector,
];

/// One field of every type; field 100 is the primary key.
fn schema() -> Schema {
    let fields = (100..).zip(TYPES).map(|(id, data_type)| Field {
        is_primary: id == 100,
        dim: if data_type == DataType::FloatVector { 3 } else { 0 },
        max_length: if data_type == DataType::VarChar { 40 } else { 0 },
        ..Field::new(id, &format!("f{id}"), data_type)
    });
    Schema { name: "c".to_owned(), fields: fields.collect(), enable_dynamic_field: false, version: 0 }
}

fn texts(texts: &[String]) -> Values {
    let ends = texts.iter().scan(0, |end, text| {
        *end += text.len();
        Some(*end)
    });
    Values::Bytes { ends: ends.collect(), bytes: texts.concat().into_bytes() }
}

/// The values of one row of [`schema`].
type Row = (i64, bool, i8, i16, i32, i32, i64, String, [i32; 3]);

fn columns(rows: &[Row]) -> Vec<FieldColumn> {
    let words: Vec<String> = rows.iter().map(|r| r.7.clone()).collect();
    let json: Vec<String> = rows.iter().map(|r| format!("{{\"n\":{}}}", r.0)).collect();
    let values = [
        Values::Int64(rows.iter().map(|r| r.0).collect()),
        Values::Bool(rows.iter().map(|r| r.1).collect()),
        Values::Int8(rows.iter().map(|r| r.2).collect()),
        Values::Int16(rows.iter().map(|r| r.3).collect()),
        Values::Int32(rows.iter().map(|r| r.4).collect()),
        Values::Float(rows.iter().map(|r| r.5 as f32).collect()),
        Values::Double(rows.iter().map(|r| r.6 as f64).collect()),
        texts(&words),
        texts(&json),
        Values::Fixed { width: 12, bytes: rows.iter().flat_map(|r| r.8.map(|x| (x as f32).to_le_bytes())).flatten().collect() },
    ];
    (schema().fields.iter().zip(values))
        .map(|(f, values)| FieldColumn {
            field_id: f.id,
            name: f.name.clone(),
            data_type: f.data_type,
            is_primary: f.is_primary,
            valid: None,
            values,
        })
        .collect()
}

fn body(columns: &[FieldColumn], row_ids: &[i64]) -> Bytes {
    build::insert("p_7v0", &TO, columns, row_ids).payload
}

fn two_rows() -> Vec<FieldColumn> {
    columns(&[(1, true, -8, -16, -32, 5, 6, "ä".to_owned(), [1, 2, 3]), (2, false, 8, 16, 32, -5, -6, String::new(), [4, 5, 6])])
}

/// Parses and checks a body of two rows after a change of its columns.
fn check(change: impl FnOnce(&mut Vec<FieldColumn>)) -> Result<(), RowsError> {
    let mut columns = two_rows();
    change(&mut columns);
    InsertBody::parse(&body(&columns, &[11, 12]))?.check(&schema())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(
        (any::<i64>(), any::<bool>(), any::<i8>(), any::<i16>(), any::<i32>(), any::<i32>(), any::<i64>(), "\\PC{0,9}", any::<[i32; 3]>()),
        1..20,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn appended_rows_are_the_rows_that_were_built(first in rows(), second in rows()) {
        let schema = schema();
        let mut out = Columns::new(&schema);
        for (tick, rows) in [(u64::MAX, &first), (2, &second)] {
            let ids: Vec<i64> = (0..rows.len() as i64).collect();
            let parsed = InsertBody::parse(&body(&columns(rows), &ids)).unwrap();
            prop_assert_eq!(parsed.rows(), rows.len());
            parsed.check(&schema).unwrap();
            parsed.append_to(tick, &schema, &mut out).unwrap();
        }
        let all = [first.clone(), second.clone()].concat();
        prop_assert_eq!(out.rows, all.len());
        prop_assert_eq!(&out.fields[2..], &columns(&all)[..]);
        let ids = (0..first.len() as i64).chain(0..second.len() as i64).collect();
        prop_assert_eq!(&out.fields[0].values, &Values::Int64(ids));
        let ticks = [vec![-1; first.len()], vec![2; second.len()]].concat();
        prop_assert_eq!(&out.fields[1].values, &Values::Int64(ticks));
    }

    #[test]
    fn deleted_keys_are_the_keys_that_were_built(integers: Vec<i64>, words in prop::collection::vec("\\PC{0,9}", 0..9)) {
        for keys in [
            integers.iter().map(|key| PrimaryKey::Int64(*key)).collect::<Vec<_>>(),
            words.iter().map(|key| PrimaryKey::VarChar(key.clone())).collect(),
        ] {
            let mut deletes = Deletes::default();
            let parsed = DeleteBody::parse(&build::delete("p_7v0", 7, 8, &keys).payload).unwrap();
            prop_assert_eq!(parsed.rows(), keys.len());
            parsed.append_to(5, &mut deletes);
            prop_assert_eq!(deletes, Deletes { ticks: vec![5; keys.len()], keys });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_damaged_body_is_an_error_or_other_rows_and_never_a_panic(at: prop::sample::Index, byte: u8, cut: bool) {
        let insert = build::insert("p_7v0", &TO, &two_rows(), &[11, 12]);
        let delete = build::delete("p_7v0", 7, 8, &[PrimaryKey::Int64(-3), PrimaryKey::Int64(300)]);
        for mut outgoing in [insert, delete, build::create_collection("p_7v0", "db", 7, &[8], &schema())] {
            let mut damaged = outgoing.payload.to_vec();
            let at = at.index(damaged.len());
            if cut { damaged.truncate(at) } else { damaged[at] = byte }
            outgoing.payload = damaged.into();
            let (payload, properties) = outgoing.stamp(1, &MessageId::Test(0), 1);
            let _ = Message::decode(Record { id: MessageId::Test(1), payload: payload.clone(), properties });
            let _ = DeleteBody::parse(&payload);
            if let Ok(body) = InsertBody::parse(&payload) {
                let (schema, mut out) = (schema(), Columns::new(&schema()));
                let appended = body.append_to(1, &schema, &mut out);
                prop_assert!(body.check(&schema).is_err() || appended.is_ok());
                prop_assert_eq!(out.rows, if appended.is_ok() { body.rows() } else { 0 });
                prop_assert!(appended.is_ok() || out == Columns::new(&schema));
            }
        }
    }
}

#[test]
fn a_column_that_does_not_fit_the_schema_is_refused_with_its_field() {
    let refused = |change: fn(&mut Vec<FieldColumn>), expected: &str| {
        let error = check(change).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    assert_eq!(check(|_| {}), Ok(()));
    assert_eq!(check(|c| c.reverse()), Ok(()), "columns come in any order");
    assert_eq!(check(|c| c.iter_mut().for_each(|c| c.field_id = 0)), Ok(()), "a column without id is found by its name");
    refused(|c| _ = c.remove(3), "field \"f103\" (id 103) has no column");
    refused(|c| c.push(c[1].clone()), "field \"f101\" (id 101) has two columns");
    refused(|c| c[1].field_id = 99, "field \"f101\" (id 99) is not in the schema");
    refused(|c| c[1].data_type = DataType::Int8, "field \"f101\" (id 101) is Bool in the schema; its column has data type 2 and Bools");
    refused(|c| c[1].values = Values::Int64(vec![1, 2]), "its column has data type 1 and Longs");
    refused(|c| c[1].values = Values::Bool(vec![true]), "field \"f101\" (id 101) has 1 values for 2 rows");
    refused(|c| c[2].values = Values::Int32(vec![127, 128]), "field \"f102\" (id 102), row 1: 128 is out of the range of 8 bits");
    refused(|c| c[3].values = Values::Int32(vec![-32769, 0]), "field \"f103\" (id 103), row 0: -32769 is out of the range of 16 bits");
    refused(|c| c[7].values = texts(&["x".repeat(40), "x".repeat(41)]), "row 1: 41 bytes, more than max_length 40");
    refused(|c| c[7].values = Values::Bytes { ends: vec![1, 2], bytes: vec![b'a', 0xff] }, "field \"f107\" (id 107), row 1: not UTF-8");
    refused(|c| c[8].values = Values::Bytes { ends: vec![1, 2], bytes: vec![0xff, b'a'] }, "field \"f108\" (id 108), row 0: not UTF-8");
    refused(|c| c[9].values = Values::Fixed { width: 8, bytes: vec![0; 16] }, "has dim 3 in the schema and 2 in its column");
    refused(|c| c[9].values = Values::Fixed { width: 12, bytes: vec![0; 20] }, "has 5 floats for 2 vectors of dim 3");
    refused(|c| c[9].values = Values::Fixed { width: 0, bytes: Vec::new() }, "has 0 floats for 2 vectors of dim 0");
}

#[test]
fn a_body_needs_as_many_row_ids_as_rows_and_at_least_one() {
    for ids in [&[][..], &[1], &[1, 2, 3]] {
        assert!(InsertBody::parse(&body(&two_rows(), ids)).is_err(), "{ids:?}");
    }
    let lost_ids = [&body(&[], &[])[..], &[14 << 3, 2]].concat();
    assert_eq!(InsertBody::parse(&lost_ids.into()).unwrap_err(), RowsError::Body("has 0 row ids for 2 rows".to_owned()));
}

#[test]
fn a_failed_append_leaves_the_columns_as_they_were() {
    let schema = schema();
    let mut out = Columns::new(&schema);
    InsertBody::parse(&body(&two_rows(), &[11, 12])).unwrap().append_to(1, &schema, &mut out).unwrap();
    let before = out.clone();
    let mut columns = two_rows();
    columns[3].values = Values::Int32(vec![0, 1 << 20]);
    InsertBody::parse(&body(&columns, &[13, 14])).unwrap().append_to(2, &schema, &mut out).unwrap_err();
    assert_eq!(out, before);
}

/// Returns a field of bytes.
fn bytes_field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8][..], content].concat()
}

#[test]
fn scalars_are_read_packed_and_one_by_one() {
    let one_by_one = [0x08, 1, 0x08, 0xac, 2];
    let column = [&[0x08, 5][..], &bytes_field(2, b"f100"), &bytes_field(3, &bytes_field(3, &one_by_one)), &[5 << 3, 100]].concat();
    let tail = [14 << 3, 2, 15 << 3, 1];
    let body = [&bytes_field(13, &column)[..], &[11 << 3, 21, 11 << 3, 22], &tail].concat();
    let schema = Schema { fields: schema().fields[..1].to_vec(), ..schema() };
    let mut out = Columns::new(&schema);
    InsertBody::parse(&body.into()).unwrap().append_to(1, &schema, &mut out).unwrap();
    assert_eq!(out.fields[0].values, Values::Int64(vec![21, 22]));
    assert_eq!(out.fields[2].values, Values::Int64(vec![1, 300]));
}

#[test]
fn a_null_is_refused_with_its_row() {
    let longs = bytes_field(3, &bytes_field(1, &[1, 2]));
    for (valid, accepted) in [(&[1, 1][..], true), (&[1, 0], false)] {
        let column = [&[0x08, 5][..], &bytes_field(2, b"f100"), &bytes_field(3, &longs), &[5 << 3, 100], &bytes_field(7, valid)].concat();
        let body = [&bytes_field(13, &column)[..], &bytes_field(11, &[21, 22]), &[14 << 3, 2, 15 << 3, 1]].concat();
        match InsertBody::parse(&body.into()) {
            Ok(_) => assert!(accepted),
            Err(error) => assert_eq!(error.to_string(), "field \"f100\" (id 100), row 1: null in a field that is not nullable"),
        }
    }
}

#[test]
fn a_delete_with_other_keys_than_it_says_is_refused() {
    let keys = [PrimaryKey::VarChar("ab".to_owned()), PrimaryKey::VarChar("c".to_owned())];
    let built = build::delete("p_7v0", 7, 8, &keys).payload;
    let more = [&built[..], &[11 << 3, 3]].concat();
    assert_eq!(DeleteBody::parse(&more.into()).unwrap_err().to_string(), "the body has 2 primary keys for 3 rows");
    let mut not_text = built.to_vec();
    *not_text.last_mut().unwrap() = 0xff;
    assert!(DeleteBody::parse(&not_text.into()).unwrap_err().to_string().contains("row 1: not UTF-8"));
    let deprecated = [9 << 3, 5, 9 << 3, 6, 11 << 3, 2];
    assert_eq!(DeleteBody::parse(&deprecated.to_vec().into()).unwrap().rows(), 2);
}
