//! Rows from columns to a body and back.

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_message::array::Elements;
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody, RowsError};
use tidegate_message::schema::{DefaultValue, Field, Schema};
use tidegate_message::{Message, MessageId, Record, sparse};

const TO: InsertAssignment = InsertAssignment { collection: 7, partition: 8, segment: 9, rows: 2, bytes: 0 };
const TYPES: [DataType; 19] = [
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
    DataType::String,
    DataType::Text,
    DataType::Geometry,
    DataType::Timestamptz,
    DataType::BinaryVector,
    DataType::Float16Vector,
    DataType::BFloat16Vector,
    DataType::SparseFloatVector,
    DataType::Int8Vector,
];
const ELEMENTS: [DataType; 9] = [
    DataType::Bool,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Float,
    DataType::Double,
    DataType::VarChar,
    DataType::String,
];
/// Where the arrays begin among the fields of [`schema`], and where the fields begin that may be null.
const ARRAYS: usize = TYPES.len();
const NULLABLE: usize = TYPES.len() + ELEMENTS.len();

/// One field of every type, field 100 the primary key; then all of them but the key once more, nullable.
fn schema() -> Schema {
    let scalar = |data_type| Field {
        dim: match data_type {
            DataType::BinaryVector => 16,
            _ if Field::new(0, "", data_type).data_type.is_dense_vector() => 3,
            _ => 0,
        },
        max_length: if data_type == DataType::VarChar { 40 } else { 0 },
        ..Field::new(0, "", data_type)
    };
    let array = |element| Field {
        element_type: Some(element),
        max_capacity: 3,
        max_length: if element == DataType::VarChar { 40 } else { 0 },
        ..Field::new(0, "", DataType::Array)
    };
    let once: Vec<Field> = TYPES.into_iter().map(scalar).chain(ELEMENTS.into_iter().map(array)).collect();
    let nullable = once[1..].iter().map(|f| Field { nullable: true, ..f.clone() });
    let fields = (100..).zip(once.iter().cloned().chain(nullable));
    let fields = fields.map(|(id, f)| Field { id, name: format!("f{id}"), is_primary: id == 100, ..f });
    Schema { name: "c".to_owned(), fields: fields.collect(), enable_dynamic_field: false, version: 0 }
}

fn texts(texts: &[String]) -> Values {
    let ends = texts.iter().scan(0, |end, text| {
        *end += text.len();
        Some(*end)
    });
    Values::Bytes { ends: ends.collect(), bytes: texts.concat().into_bytes() }
}

/// A row from a number; of a nullable field, every third has none.
type Row = u64;

fn columns(rows: &[Row]) -> Vec<FieldColumn> {
    let mut columns = Columns::new(&schema()).fields.split_off(2);
    for (column, field) in columns.iter_mut().zip(&schema().fields) {
        for &row in rows {
            let n = row.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(field.id as u32);
            if field.nullable && n.is_multiple_of(3) {
                column.push_absent(field, 1);
                continue;
            }
            push(&mut column.values, field, n);
            column.valid.iter_mut().for_each(|valid| valid.push(true));
        }
    }
    columns
}

fn push(values: &mut Values, field: &Field, n: u64) {
    match values {
        Values::Bool(v) => v.push(n & 1 == 1),
        Values::Int8(v) => v.push(n as i8),
        Values::Int16(v) => v.push(n as i16),
        Values::Int32(v) => v.push(n as i32),
        Values::Int64(v) => v.push(n as i64),
        Values::Float(v) => v.push(n as f32),
        Values::Double(v) => v.push(n as f64),
        Values::Bytes { ends, bytes } => {
            match field.data_type {
                DataType::Array => bytes.extend(array(field.element_type.unwrap(), n).encode()),
                DataType::SparseFloatVector => bytes.extend(sparse::encode((0..n % 4).map(|i| (n as u32 % 999 + i as u32, n as f32)))),
                DataType::Geometry => bytes.extend([&[1, 1, 0, 0, 0][..], &n.to_le_bytes(), &n.to_be_bytes()].concat()),
                DataType::Json => bytes.extend(format!("{{\"n\":{n}}}").bytes()),
                _ => bytes.extend("żółw ".repeat(n as usize % 4).bytes()),
            }
            ends.push(bytes.len());
        }
        Values::Fixed { width, bytes } => bytes.extend((0..*width).map(|i| (n >> (i % 8)) as u8)),
    }
}

fn array(element: DataType, n: u64) -> Elements {
    let items = (0..n % 4).map(|i| n >> i);
    match Elements::new(element) {
        Elements::Bools(_) => Elements::Bools(items.map(|n| n & 1 == 1).collect()),
        Elements::Ints(_) if element == DataType::Int8 => Elements::Ints(items.map(|n| i32::from(n as i8)).collect()),
        Elements::Ints(_) if element == DataType::Int16 => Elements::Ints(items.map(|n| i32::from(n as i16)).collect()),
        Elements::Ints(_) => Elements::Ints(items.map(|n| n as i32).collect()),
        Elements::Longs(_) => Elements::Longs(items.map(|n| n as i64).collect()),
        Elements::Floats(_) => Elements::Floats(items.map(|n| n as f32).collect()),
        Elements::Doubles(_) => Elements::Doubles(items.map(|n| n as f64).collect()),
        Elements::Texts(_) => Elements::Texts(items.map(|n| n.to_string()).collect()),
    }
}

fn body(columns: &[FieldColumn], row_ids: &[i64]) -> Bytes {
    build::insert("p_7v0", &TO, columns, row_ids).payload
}

fn two_rows() -> Vec<FieldColumn> {
    columns(&[1, 2])
}

/// Parses and checks a body of two rows after a change of its columns.
fn check(change: impl FnOnce(&mut Vec<FieldColumn>)) -> Result<(), RowsError> {
    let mut columns = two_rows();
    change(&mut columns);
    InsertBody::parse(&body(&columns, &[11, 12]))?.check(&schema())
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(any::<Row>(), 1..20)
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
    #![proptest_config(ProptestConfig::with_cases(256))]

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
    refused(|c| c[11].values = Values::Bytes { ends: vec![1, 2], bytes: vec![0xff, b'a'] }, "field \"f111\" (id 111), row 0: not UTF-8");
    refused(|c| c[13].values = Values::Int64(vec![1]), "field \"f113\" (id 113) has 1 values for 2 rows");
    refused(|c| c[13].data_type = DataType::Int64, "field \"f113\" (id 113) is Timestamptz in the schema; its column has data type 5");
    refused(|c| c[14].values = Values::Fixed { width: 1, bytes: vec![0; 2] }, "has dim 16 in the schema and 8 in its column");
    refused(|c| c[15].values = Values::Fixed { width: 6, bytes: vec![0; 13] }, "has 13 bytes for 2 vectors of dim 3");
    refused(|c| c[16].values = Values::Fixed { width: 8, bytes: vec![0; 16] }, "field \"f116\" (id 116) has dim 3 in the schema and 4");
    refused(|c| c[18].values = Values::Fixed { width: 3, bytes: vec![0; 5] }, "has 5 bytes for 2 vectors of dim 3");
    refused(
        |c| c[17].values = Values::Bytes { ends: vec![0, 7], bytes: vec![0; 7] },
        "field \"f117\" (id 117), row 1: a sparse vector of 7 bytes",
    );
    refused(|c| c[12].values = texts(&["POINT (1 2)".to_owned(), String::new()]), "field \"f112\" (id 112), row 0: no geometry: byte 0");
    let unsorted = |c: &mut Vec<FieldColumn>| {
        let bytes = sparse::encode([(2, 1.0), (1, 1.0)]);
        c[17].values = Values::Bytes { ends: vec![0, 16], bytes };
    };
    refused(unsorted, "field \"f117\" (id 117), row 1: pair 1 of the sparse vector has index 1 after 2");
}

#[test]
fn an_array_that_is_not_its_fields_is_refused_with_its_row() {
    let refused = |element: DataType, array: Elements, expected: &str| {
        let at = ARRAYS + ELEMENTS.iter().position(|e| *e == element).unwrap();
        let error = check(|c| {
            let bytes = array.encode();
            c[at].values = Values::Bytes { ends: vec![0, bytes.len()], bytes };
        });
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(&format!("field \"f{}\" (id {}), row 1: ", 100 + at, 100 + at)) && error.contains(expected), "{error}");
    };
    refused(DataType::Bool, Elements::Ints(vec![1]), "an array of 32-bit integers, not of Bool");
    refused(DataType::Int8, Elements::Ints(vec![-129]), "value 0 of the array is out of the range of Int8");
    refused(DataType::Int16, Elements::Ints(vec![0, 1 << 15]), "value 1 of the array is out of the range of Int16");
    refused(DataType::Int64, Elements::Longs(vec![0; 4]), "an array of 4 values, more than max_capacity 3");
    refused(DataType::VarChar, Elements::Texts(vec!["x".repeat(41)]), "has 41 bytes, more than max_length 40");
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

/// A body of two rows with one column, `f100`, of longs: its values, and its validity flags.
fn longs(values: &[u8], valid: &[u8]) -> InsertBody {
    let list = bytes_field(3, &bytes_field(3, &bytes_field(1, values)));
    let column = [&[0x08, 5][..], &bytes_field(2, b"f100"), &list, &[5 << 3, 100], &bytes_field(7, valid)].concat();
    let body = [&bytes_field(13, &column)[..], &bytes_field(11, &[21, 22]), &[14 << 3, 2, 15 << 3, 1]].concat();
    InsertBody::parse(&body.into()).unwrap()
}

fn one_field(change: impl FnOnce(&mut Field)) -> Schema {
    let mut field = Field::new(100, "f100", DataType::Int64);
    change(&mut field);
    Schema { fields: vec![field], ..schema() }
}

#[test]
fn a_null_is_refused_with_its_row_where_none_may_be() {
    let schema = one_field(|_| {});
    assert_eq!(longs(&[1, 2], &[1, 1]).check(&schema), Ok(()));
    for (values, valid, row) in [(&[1, 2][..], [1, 0], 1), (&[1], [1, 0], 1), (&[1], [0, 1], 0)] {
        let error = longs(values, &valid).check(&schema).unwrap_err().to_string();
        assert_eq!(error, format!("field \"f100\" (id 100), row {row}: null in a field that is not nullable"));
    }
}

#[test]
fn nulls_are_read_with_and_without_values_of_their_own() {
    let (nullable, default) = (one_field(|f| f.nullable = true), one_field(|f| f.default_value = Some(DefaultValue::Long(9))));
    let both = one_field(|f| (f.nullable, f.default_value) = (true, Some(DefaultValue::Long(9))));
    for (values, valid, stored) in [
        (&[7, 8][..], &[0, 1][..], [None, Some(8)]),
        (&[8], &[0, 1], [None, Some(8)]),
        (&[7], &[1, 0], [Some(7), None]),
        (&[], &[0, 0], [None, None]),
        (&[7, 8], &[], [Some(7), Some(8)]),
    ] {
        let body = longs(values, valid);
        for (schema, null, flags) in
            [(&nullable, 0, Some(stored.map(|v| v.is_some()).to_vec())), (&default, 9, None), (&both, 9, Some(vec![true; 2]))]
        {
            let mut out = Columns::new(schema);
            body.check(schema).unwrap();
            body.append_to(1, schema, &mut out).unwrap();
            assert_eq!(
                out.fields[2].values,
                Values::Int64(stored.map(|v: Option<i64>| v.unwrap_or(null)).to_vec()),
                "{values:?} {valid:?}"
            );
            assert_eq!(out.fields[2].valid, flags, "{values:?} {valid:?}");
        }
    }
    for (values, valid, expected) in [
        (&[7, 8][..], &[1][..], "has 1 validity flags for 2 rows"),
        (&[7, 8, 9], &[1, 0], "has 3 values for 2 rows, 1 of them null"),
        (&[], &[1, 0], "has 0 values for 2 rows, 1 of them null"),
    ] {
        let list = bytes_field(3, &bytes_field(3, &bytes_field(1, values)));
        let column = [&[0x08, 5][..], &bytes_field(2, b"f100"), &list, &bytes_field(7, valid)].concat();
        let body = [&bytes_field(13, &column)[..], &bytes_field(11, &[21, 22]), &[14 << 3, 2, 15 << 3, 1]].concat();
        let error = InsertBody::parse(&body.into()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A body of one row with the key 1 and a second column.
fn with_column(column: &[u8]) -> InsertBody {
    let key = [&[0x08, 5][..], &bytes_field(2, b"f100"), &bytes_field(3, &bytes_field(3, &bytes_field(1, &[1])))].concat();
    let tail = [11 << 3, 21, 14 << 3, 1, 15 << 3, 1];
    InsertBody::parse(&[&bytes_field(13, &key)[..], &bytes_field(13, column), &tail].concat().into()).unwrap()
}

#[test]
fn the_dynamic_column_is_found_without_a_name() {
    let meta = Field { is_dynamic: true, ..Field::new(101, "$meta", DataType::Json) };
    let schema = Schema { fields: vec![schema().fields[0].clone(), meta], ..schema() };
    let documents = bytes_field(3, &bytes_field(9, &bytes_field(1, b"{}")));
    let body = with_column(&[&[0x08, 23][..], &documents, &[6 << 3, 1]].concat());
    let mut out = Columns::new(&schema);
    body.append_to(1, &schema, &mut out).unwrap();
    assert_eq!(out.fields[3].values, Values::Bytes { ends: vec![2], bytes: b"{}".to_vec() });
    assert!(with_column(&[&[0x08, 23][..], &documents].concat()).check(&schema).is_err());
}

#[test]
fn an_array_says_its_element_type_or_leaves_it_to_the_schema() {
    let array = Field { element_type: Some(DataType::Int8), max_capacity: 9, ..Field::new(101, "a", DataType::Array) };
    let schema = Schema { fields: vec![schema().fields[0].clone(), array], ..schema() };
    for (element, accepted) in [(0, true), (DataType::Int8 as u8, true), (DataType::Int32 as u8, false)] {
        let row = bytes_field(1, &Elements::Ints(vec![1, -1]).encode());
        let arrays = bytes_field(3, &bytes_field(8, &[&row[..], &[2 << 3, element]].concat()));
        let checked = with_column(&[&[0x08, 22][..], &bytes_field(2, b"a"), &arrays].concat()).check(&schema);
        assert_eq!(checked.is_ok(), accepted, "{element}: {checked:?}");
    }
}

#[test]
fn a_bad_value_among_nulls_is_named_by_its_row() {
    let mut columns = two_rows();
    let narrow = NULLABLE + 1; // the nullable Int8
    columns[narrow].valid = Some(vec![false, true]);
    columns[narrow].values = Values::Int32(vec![128]);
    let error = InsertBody::parse(&body(&columns, &[11, 12])).unwrap().check(&schema()).unwrap_err();
    assert!(error.to_string().contains("row 1: 128 is out of the range of 8 bits"), "{error}");
}

#[test]
fn a_field_without_a_column_gets_its_default_or_is_null() {
    let schema = Schema {
        fields: vec![
            Field { is_primary: true, ..Field::new(100, "f100", DataType::Int64) },
            Field { nullable: true, ..Field::new(101, "a", DataType::Double) },
            Field { default_value: Some(DefaultValue::Int(-3)), ..Field::new(102, "b", DataType::Int8) },
            Field { nullable: true, default_value: Some(DefaultValue::Text("ä".into())), ..Field::new(103, "c", DataType::Text) },
            Field { nullable: true, dim: 2, ..Field::new(104, "d", DataType::Float16Vector) },
        ],
        ..schema()
    };
    let body = longs(&[1, 2], &[]);
    let mut out = Columns::new(&schema);
    body.check(&schema).unwrap();
    body.append_to(1, &schema, &mut out).unwrap();
    let stored: Vec<_> = out.fields[3..].iter().map(|c| (c.values.clone(), c.valid.clone())).collect();
    let expected = [
        (Values::Double(vec![0.0; 2]), Some(vec![false; 2])),
        (Values::Int8(vec![-3; 2]), None),
        (Values::Bytes { ends: vec![2, 4], bytes: "ää".into() }, Some(vec![true; 2])),
        (Values::Fixed { width: 4, bytes: vec![0; 8] }, Some(vec![false; 2])),
    ];
    assert_eq!(stored, expected);
    let huge = Schema { fields: vec![schema.fields[0].clone(), Field { dim: 1 << 30, ..schema.fields[4].clone() }], ..schema };
    let error = body.check(&huge).unwrap_err().to_string();
    assert!(error.starts_with("field \"d\" (id 104) has 2 rows without a value, which take 4294967296 bytes"), "{error}");
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
