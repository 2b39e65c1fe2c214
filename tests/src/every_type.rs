//! A collection with every type of field, and its rows, made from numbers.

use std::ops::Range;

use tidegate_message::array::Elements;
use tidegate_message::columns::{Columns, DataType, FieldColumn, TIMESTAMP_FIELD, Values};
use tidegate_message::schema::{DefaultValue, Field, Schema};
use tidegate_message::sparse;

/// A key; every type, an array of every type, and all of these once more nullable; fields with default values; `$meta` last.
///
/// The first field is `id`, Int64 and the primary key; the second is `k`, VarChar and the partition key. Fields are named by their type,
/// arrays by that of their elements (`a_…`), nullable ones `n_…`.
pub fn schema(name: &str) -> Schema {
    let scalar = |data_type: DataType| Field {
        dim: if data_type.is_dense_vector() { 16 } else { 0 },
        max_length: if data_type == DataType::VarChar { 40 } else { 0 },
        ..Field::new(0, &format!("{data_type:?}").to_lowercase(), data_type)
    };
    let array = |element: DataType| Field {
        element_type: Some(element),
        max_capacity: 4,
        max_length: if element == DataType::VarChar { 40 } else { 0 },
        ..Field::new(0, &format!("a_{element:?}").to_lowercase(), DataType::Array)
    };
    let types = DataType::ALL.into_iter().filter(|t| *t != DataType::Array).map(scalar);
    let arrays = DataType::ALL.into_iter().filter(|t| t.is_array_element()).map(array);
    let plain: Vec<Field> = types.chain(arrays).collect();
    let nullable = plain.iter().map(|f| Field { name: format!("n_{}", f.name), nullable: true, ..f.clone() });
    let mut fields = vec![
        Field { is_primary: true, ..Field::new(0, "id", DataType::Int64) },
        Field { is_partition_key: true, max_length: 8, ..Field::new(0, "k", DataType::VarChar) },
    ];
    fields.extend(plain.iter().cloned().chain(nullable));
    fields.push(Field { default_value: Some(DefaultValue::Int(7)), ..Field::new(0, "d_int", DataType::Int16) });
    let text = Some(DefaultValue::Text("ä".into()));
    fields.push(Field { nullable: true, default_value: text, ..Field::new(0, "d_text", DataType::Text) });
    fields.push(Field { is_dynamic: true, ..Field::new(0, "$meta", DataType::Json) });
    fields.iter_mut().zip(100..).for_each(|(field, id)| field.id = id);
    Schema { name: name.into(), fields, enable_dynamic_field: true, version: 0 }
}

/// Rows of these keys; of a nullable field, every third has no value.
pub fn rows(schema: &Schema, keys: Range<i64>) -> Columns {
    let mut columns = Columns::new(schema);
    columns.fields.retain(|column| column.field_id > TIMESTAMP_FIELD);
    for key in keys {
        columns.rows += 1;
        for (column, field) in columns.fields.iter_mut().zip(&schema.fields) {
            if field.nullable && (key + field.id) % 3 == 0 {
                column.push_absent(field, 1);
            } else {
                push(column, field, key);
            }
        }
    }
    columns
}

/// Appends the value that a field has in a row.
pub fn push(column: &mut FieldColumn, field: &Field, key: i64) {
    let n = key.wrapping_mul(0x1e37_79b9_7f4a_7c15) ^ field.id;
    match &mut column.values {
        Values::Bool(v) => v.push(n & 1 == 1),
        Values::Int8(v) => v.push(n as i8),
        Values::Int16(v) => v.push(n as i16),
        Values::Int32(v) => v.push(n as i32),
        Values::Int64(v) if field.is_primary => v.push(key),
        Values::Int64(v) => v.push(n),
        Values::Float(v) => v.push(n as f32),
        Values::Double(v) => v.push(n as f64),
        Values::Bytes { ends, bytes } => {
            bytes.extend(variable(field, key, n));
            ends.push(bytes.len());
        }
        Values::Fixed { width, bytes } => bytes.extend((0..*width).map(|i| (n >> (i % 8)) as u8 & 0x3f)),
    }
    column.valid.iter_mut().for_each(|valid| valid.push(true));
}

fn variable(field: &Field, key: i64, n: i64) -> Vec<u8> {
    match field.data_type {
        DataType::Array => array(field, key).encode(),
        DataType::SparseFloatVector => sparse::encode((0..key as u32 % 4).map(|i| (key as u32 + 7 * i, n as f32 / 3.0))),
        DataType::Geometry => [&[1, 1, 0, 0, 0][..], &(key as f64).to_le_bytes(), &(n as f64).to_le_bytes()].concat(),
        DataType::Json => format!("{{\"n\": {n}}}").into_bytes(),
        _ if field.is_partition_key => format!("k{}", key % 20).into_bytes(),
        _ => "żółw ".repeat(key as usize % 4).into_bytes(),
    }
}

fn array(field: &Field, key: i64) -> Elements {
    let items = key..key + key % 5;
    match field.element_type {
        Some(DataType::Bool) => Elements::Bools(items.map(|n| n & 1 == 1).collect()),
        Some(DataType::Int8) => Elements::Ints(items.map(|n| i32::from(n as i8)).collect()),
        Some(DataType::Int16 | DataType::Int32) => Elements::Ints(items.map(|n| i32::from(n as i16)).collect()),
        Some(DataType::Int64) => Elements::Longs(items.map(|n| n << 40).collect()),
        Some(DataType::Float) => Elements::Floats(items.map(|n| n as f32 / 3.0).collect()),
        Some(DataType::Double) => Elements::Doubles(items.map(|n| n as f64 / 3.0).collect()),
        _ => Elements::Texts(items.map(|n| format!("ż{n}")).collect()),
    }
}
