//! Rows of any schema, from a message's body into segment files of both layouts and back; statistics and delta logs of any keys.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate_binlog::{Binlog, ColumnGroups, DeltaForm, FilterKind, PackedPlan, SegmentKey, column_groups, describe, read, read_column};
use tidegate_binlog::{merge_statistics, primary_key_statistics, read_deletes, read_packed, write_delta_log, write_insert_log};
use tidegate_message::array::Elements;
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, Deletes, FieldColumn, PrimaryKey, TIMESTAMP_FIELD, Values};
use tidegate_message::rows::InsertBody;
use tidegate_message::schema::{Field, Schema};
use tidegate_message::sparse;

const KEY: SegmentKey = SegmentKey { collection: 1, partition: 2, segment: 3 };
const TEXT_BYTES_MAX: usize = 40;
const CAPACITY_MAX: usize = 5;

/// SplitMix64: a value is a function of its number, so that a failing case is a few numbers.
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A field of any type, with any parameters that its type has.
fn any_field() -> impl Strategy<Value = Field> {
    let elements: Vec<DataType> = DataType::ALL.into_iter().filter(|t| t.is_array_element()).collect();
    (prop::sample::select(DataType::ALL.to_vec()), prop::sample::select(elements), 1..40_usize, any::<bool>()).prop_map(
        |(data_type, element, dim, nullable)| {
            let element_type = (data_type == DataType::Array).then_some(element);
            Field {
                element_type,
                nullable,
                dim: match data_type {
                    DataType::BinaryVector => 8 * dim,
                    _ if data_type.is_dense_vector() => dim,
                    _ => 0,
                },
                max_length: if element_type.unwrap_or(data_type) == DataType::VarChar { TEXT_BYTES_MAX } else { 0 },
                max_capacity: if data_type == DataType::Array { CAPACITY_MAX } else { 0 },
                ..Field::new(0, "", data_type)
            }
        },
    )
}

/// A schema with a key of either type and up to eight more fields, in any order.
fn any_schema() -> impl Strategy<Value = Schema> {
    (vec(any_field(), 0..8), any::<bool>(), any::<prop::sample::Index>()).prop_map(|(mut fields, text, at)| {
        let data_type = if text { DataType::VarChar } else { DataType::Int64 };
        let max_length = if text { TEXT_BYTES_MAX } else { 0 };
        fields.insert(at.index(fields.len() + 1), Field { is_primary: true, max_length, ..Field::new(0, "", data_type) });
        for (field, id) in fields.iter_mut().zip(100..) {
            (field.id, field.name) = (id, format!("f{id}"));
        }
        Schema { name: "any".to_owned(), fields, enable_dynamic_field: false, version: 0 }
    })
}

/// A batch as it stands in a segment: row ids, ticks, and rows that are functions of their numbers.
fn batch(schema: &Schema, numbers: &[u64], tick: u64) -> Columns {
    let mut columns = Columns::new(schema);
    columns.rows = numbers.len();
    for column in &mut columns.fields {
        let field = schema.fields.iter().find(|field| field.id == column.field_id);
        for (row, number) in numbers.iter().enumerate() {
            match (field, &mut column.values) {
                (None, Values::Int64(v)) => v.push(if column.field_id == TIMESTAMP_FIELD { tick.cast_signed() } else { row as i64 - 5 }),
                (Some(field), _) if field.nullable && mix(number ^ field.id as u64).is_multiple_of(4) => column.push_absent(field, 1),
                (Some(field), values) => {
                    push(values, field, mix(number.wrapping_add(field.id as u64)));
                    column.valid.iter_mut().for_each(|valid| valid.push(true));
                }
                (None, other) => panic!("{other:?}"),
            }
        }
    }
    columns
}

/// Every fourth value is one that writers stumble over.
fn push(values: &mut Values, field: &Field, n: u64) {
    let odd = n.is_multiple_of(4).then_some((n >> 8) as usize % 4);
    match values {
        Values::Bool(v) => v.push(n & 8 == 8),
        Values::Int8(v) => v.push(odd.map_or(n as i8, |i| [0, -1, i8::MIN, i8::MAX][i])),
        Values::Int16(v) => v.push(odd.map_or(n as i16, |i| [0, -1, i16::MIN, i16::MAX][i])),
        Values::Int32(v) => v.push(odd.map_or(n as i32, |i| [0, -1, i32::MIN, i32::MAX][i])),
        Values::Int64(v) => v.push(odd.map_or(n as i64, |i| [0, -1, i64::MIN, i64::MAX][i])),
        Values::Float(v) => v.push(odd.map_or(n as f32, |i| [-0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE][i])),
        Values::Double(v) => v.push(odd.map_or(n as f64, |i| [-0.0, f64::NAN, f64::NEG_INFINITY, f64::MAX][i])),
        Values::Bytes { ends, bytes } => {
            match field.data_type {
                DataType::Array => bytes.extend(array(field, n).encode()),
                DataType::SparseFloatVector => bytes.extend(sparse::encode((0..n % 5).map(|i| (n as u32 % 1000 + i as u32, n as f32)))),
                DataType::Geometry => bytes.extend([&[1, 1, 0, 0, 0][..], &n.to_le_bytes(), &n.to_be_bytes()].concat()),
                DataType::Json => {
                    bytes.extend(odd.map_or(format!("{{\"n\": {n}}}"), |i| ["null", "{}", "[\"ä\"]", "-0.5e3"][i].to_owned()).bytes())
                }
                _ => bytes.extend(text(n, odd).bytes()),
            }
            ends.push(bytes.len());
        }
        // Numbers that are finite in every width.
        Values::Fixed { width, bytes } => bytes.extend((0..*width as u64).map(|i| mix(n ^ i) as u8 & 0x3f)),
    }
}

fn text(n: u64, odd: Option<usize>) -> String {
    odd.map_or_else(|| format!("{n:x}"), |i| ["", "\0", "żółw\u{2028}\"\\", "{\"pk\":1}"][i].to_owned())
}

fn array(field: &Field, n: u64) -> Elements {
    let items = (0..n % (CAPACITY_MAX as u64 + 1)).map(|i| mix(n ^ i));
    match field.element_type {
        Some(DataType::Bool) => Elements::Bools(items.map(|n| n & 1 == 1).collect()),
        Some(DataType::Int8) => Elements::Ints(items.map(|n| i32::from(n as i8)).collect()),
        Some(DataType::Int16) => Elements::Ints(items.map(|n| i32::from(n as i16)).collect()),
        Some(DataType::Int32) => Elements::Ints(items.map(|n| n as i32).collect()),
        Some(DataType::Int64) => Elements::Longs(items.map(|n| n as i64).collect()),
        Some(DataType::Float) => Elements::Floats(items.map(|n| n as f32).collect()),
        Some(DataType::Double) => Elements::Doubles(items.map(|n| n as f64).collect()),
        _ => Elements::Texts(items.map(|n| text(n, None)).collect()),
    }
}

/// What two columns are compared by: a NaN differs from itself.
fn shown(column: &FieldColumn) -> String {
    format!("{:?} {:?} {:?}", column.data_type, column.valid, column.values)
}

/// A file of nulls alone does not say how wide its vectors are.
fn as_read(column: &FieldColumn) -> FieldColumn {
    let none = column.valid.as_ref().is_some_and(|valid| !valid.contains(&true));
    match (&column.values, none) {
        (Values::Fixed { .. }, true) => FieldColumn { values: Values::Fixed { width: 0, bytes: Vec::new() }, ..column.clone() },
        _ => column.clone(),
    }
}

fn keys_of(column: &FieldColumn) -> Vec<PrimaryKey> {
    match &column.values {
        Values::Int64(keys) => keys.iter().copied().map(PrimaryKey::Int64).collect(),
        values => {
            (0..values.len()).map(|row| PrimaryKey::VarChar(String::from_utf8(values.bytes_at(row).to_vec()).expect("text"))).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_of_any_schema_survive_the_message_and_both_layouts(schema in any_schema(), numbers in vec(any::<u64>(), 1..120), tick in 1..u64::MAX) {
        for field in &schema.fields {
            prop_assert_eq!(field.refusal(), None);
        }
        let expected = batch(&schema, &numbers, tick);
        let row_ids: Vec<i64> = (0..numbers.len() as i64).map(|row| row - 5).collect();
        let to = InsertAssignment { collection: 1, partition: 2, segment: 3, rows: numbers.len() as u64, bytes: 0 };
        let body = InsertBody::parse(&build::insert("p_0_1v0", &to, &expected.fields[2..], &row_ids).payload).expect("a sound body");
        prop_assert_eq!(body.check(&schema), Ok(()));
        let mut columns = Columns::new(&schema);
        body.append_to(tick, &schema, &mut columns).expect("a checked body");
        for (found, expected) in columns.fields.iter().zip(&expected.fields) {
            prop_assert_eq!(shown(found), shown(expected), "field {}", expected.field_id);
        }

        for column in &columns.fields {
            let file = write_insert_log(&KEY, column, tick, tick).expect("a sound column");
            prop_assert_eq!(shown(&read_column(&file).expect("our own file")), shown(&as_read(column)), "field {}", column.field_id);
            let rows = format!("  rows        {}\n", numbers.len());
            prop_assert!(describe(&file, 3).expect("our own file").contains(&rows));
        }

        let groups = column_groups(&schema, &ColumnGroups::new());
        let plan = PackedPlan::new(&columns, &groups).expect("a sound batch");
        let mut met = 0;
        for fields in groups.values() {
            let members: Vec<FieldColumn> = fields.iter().map(|id| columns.fields.iter().find(|c| c.field_id == *id).expect("a field").clone()).collect();
            let file = read_packed(&plan.write(&members).expect("a sound group")).expect("our own file");
            prop_assert_eq!(file.rows(), numbers.len());
            for (found, member) in file.columns.into_iter().zip(&members) {
                prop_assert_eq!(shown(&found.typed(member).expect("of its type")), shown(member), "field {}", member.field_id);
                met += 1;
            }
        }
        prop_assert_eq!(met, columns.fields.len());
    }

    #[test]
    fn statistics_of_any_keys_hold_them_and_their_range(numbers in vec(any::<u64>(), 1..200), text in any::<bool>(), blocked in any::<bool>()) {
        let data_type = if text { DataType::VarChar } else { DataType::Int64 };
        let field = Field { is_primary: true, max_length: TEXT_BYTES_MAX, ..Field::new(100, "id", data_type) };
        let schema = Schema { name: "any".to_owned(), fields: vec![field], enable_dynamic_field: false, version: 0 };
        let column = batch(&schema, &numbers, 1).fields.swap_remove(2);
        let filter = if blocked { FilterKind::Blocked } else { FilterKind::Basic };
        let file = primary_key_statistics(&column, filter).expect("a key's column");
        let merged = merge_statistics(&[file.clone(), file.clone()]);
        for (bytes, batches) in [(file, 1), (merged, 2)] {
            let Binlog::Statistics(read) = read(bytes.as_bytes()).expect("our own file") else { panic!("statistics") };
            prop_assert_eq!(read.len(), batches);
            let keys = keys_of(&column);
            for batch in &read {
                prop_assert_eq!((Some(&batch.min), Some(&batch.max)), (keys.iter().min(), keys.iter().max()));
                prop_assert!(keys.iter().all(|key| batch.may_hold(key)));
            }
        }
    }

    #[test]
    fn deletes_of_any_keys_survive_both_forms(numbers in vec((any::<u64>(), 1..u64::MAX), 1..200), text in any::<bool>()) {
        let key = |&(n, _): &(u64, u64)| {
            let odd = n.is_multiple_of(4).then_some((n >> 8) as usize % 4);
            if text { PrimaryKey::VarChar(self::text(n, odd)) } else { PrimaryKey::Int64(odd.map_or(n as i64, |i| [0, -1, i64::MIN, i64::MAX][i])) }
        };
        let deletes = Deletes { keys: numbers.iter().map(key).collect(), ticks: numbers.iter().map(|(_, tick)| *tick).collect() };
        for form in [DeltaForm::Json, DeltaForm::Parquet] {
            let file = write_delta_log(&KEY, &deletes, form).expect("sound deletes");
            prop_assert_eq!(&read_deletes(&file).expect("our own file"), &deletes);
            let rows = format!("  rows        {}\n", numbers.len());
            prop_assert!(describe(&file, 3).expect("our own file").contains(&rows));
        }
    }
}
