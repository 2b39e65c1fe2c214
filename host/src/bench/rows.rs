//! Rows to ingest, made from their numbers, so that every run has the same.

use std::ops::Range;

use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};

/// Returns the schema: an Int64 key, a text and a vector.
pub fn schema(dim: usize) -> Schema {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { max_length: 64, ..Field::new(101, "text", DataType::VarChar) },
        Field { dim, ..Field::new(102, "vector", DataType::FloatVector) },
    ];
    Schema { name: "bench".to_owned(), fields, enable_dynamic_field: false, version: 0 }
}

/// Returns the rows with these keys. Texts and vectors look random to a compressor: components are uniform in 0..1.
pub fn rows(schema: &Schema, keys: Range<u32>) -> Columns {
    let mut columns = Columns::new(schema);
    columns.rows = keys.len();
    for column in columns.fields.iter_mut().filter(|f| f.field_id >= 100) {
        match &mut column.values {
            Values::Int64(values) => values.extend(keys.clone().map(i64::from)),
            Values::Bytes { ends, bytes } => {
                for key in keys.clone() {
                    bytes.extend_from_slice(format!("row {key}: {:016x}", mix(u64::from(key))).as_bytes());
                    ends.push(bytes.len());
                }
            }
            Values::Fixed { width, bytes } => {
                let dim = *width / 4;
                bytes.reserve(*width * keys.len());
                for key in keys.clone() {
                    // 24 bits: every value is exact in a float.
                    let component = |n: u64| (mix(u64::from(key) << 16 | n) >> 40) as f32 / 16_777_216.0;
                    (0..dim as u64).for_each(|n| bytes.extend_from_slice(&component(n).to_le_bytes()));
                }
            }
            _ => {}
        }
    }
    columns
}

/// Returns the values' own bytes, column by column: what a plain file of them would hold.
pub fn payload(columns: &Columns) -> Vec<u8> {
    let mut payload = Vec::with_capacity(columns.memory_bytes());
    for column in &columns.fields {
        match &column.values {
            Values::Int64(values) => values.iter().for_each(|v| payload.extend_from_slice(&v.to_le_bytes())),
            Values::Bytes { bytes, .. } | Values::Fixed { bytes, .. } => payload.extend_from_slice(bytes),
            _ => {}
        }
    }
    payload
}

/// SplitMix64's finaliser: neighbours have nothing in common.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_whatever_batch_it_comes_in() {
        let schema = schema(3);
        let (whole, part) = (rows(&schema, 0..10), rows(&schema, 4..6));
        assert_eq!(part.fields[2..], whole.select_user(&[4, 5]).fields[..]);
        assert_eq!(payload(&part).len(), 2 * (8 + 4 * 3 + "row 4: 0123456789abcdef".len()));
    }

    trait SelectUser {
        fn select_user(&self, rows: &[usize]) -> Columns;
    }

    impl SelectUser for Columns {
        fn select_user(&self, rows: &[usize]) -> Columns {
            let fields = self.fields.iter().filter(|f| f.field_id >= 100).cloned().collect();
            Columns { rows: self.rows, fields }.select(rows)
        }
    }
}
