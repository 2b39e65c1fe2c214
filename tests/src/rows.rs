//! Collections and rows, made from a number so that every run has the same.

use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};

/// A collection of an Int64 key, a text and a vector of four floats.
pub fn schema(name: &str) -> Schema {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { max_length: 64, ..Field::new(101, "text", DataType::VarChar) },
        Field { dim: 4, ..Field::new(102, "vector", DataType::FloatVector) },
    ];
    Schema { name: name.into(), fields, enable_dynamic_field: false, version: 0 }
}

/// Rows of [`schema`] with these keys.
pub fn rows(schema: &Schema, keys: std::ops::Range<i64>) -> Columns {
    let mut columns = Columns::new(schema);
    for key in keys {
        columns.rows += 1;
        for column in &mut columns.fields {
            match &mut column.values {
                Values::Int64(values) => values.push(key),
                Values::Bytes { ends, bytes } => {
                    bytes.extend_from_slice(format!("row {key}").as_bytes());
                    ends.push(bytes.len());
                }
                Values::Fixed { bytes, .. } => (0..4).for_each(|n| bytes.extend_from_slice(&((key * 4 + n) as f32).to_le_bytes())),
                _ => {}
            }
        }
    }
    columns
}

/// The Int64 keys of rows, sorted.
pub fn keys(columns: &Columns) -> Vec<i64> {
    let primary = columns.fields.iter().find(|f| f.is_primary);
    match primary.map(|f| &f.values) {
        Some(Values::Int64(keys)) => {
            let mut keys = keys.clone();
            keys.sort_unstable();
            keys
        }
        _ => Vec::new(),
    }
}
