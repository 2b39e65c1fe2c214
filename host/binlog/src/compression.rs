//! Whether compression pays. A column whose values do not shrink is stored plain, which costs neither the writer's time nor a reader's.

use tidegate_message::columns::{FieldColumn, Values};

use crate::columns::{slice, value_count};

/// Compression level of Milvus' own writer.
pub(crate) const ZSTD_LEVEL: i32 = 3;
/// The sample is a column's first rows, and of what plain pages have of those the first bytes. Both are part of the format: another
/// sample may give other bytes for the same rows (FL-3).
const SAMPLE_ROWS: usize = 1024;
const SAMPLE_BYTES: usize = 256 * 1024;
/// Hundredths of the sample that compression may leave at most. Vectors of random floats keep 89 to 93, ids and text less than 60.
const KEPT_PERCENT_MAX: usize = 85;

/// Whether a column is worth compressing, judged by compressing its sample.
pub(crate) fn pays(column: &FieldColumn) -> bool {
    let sample = sample(column);
    let compressed = zstd::bulk::compress(&sample, ZSTD_LEVEL);
    // It fails only for want of memory; then the writer does too, and says so.
    compressed.is_ok_and(|compressed| compressed.len() * 100 <= sample.len() * KEPT_PERCENT_MAX)
}

/// The column's first values as a plain data page has them; nulls are not in a page.
fn sample(column: &FieldColumn) -> Vec<u8> {
    let mut sample = Vec::new();
    let rows = value_count(&column.values).min(SAMPLE_ROWS);
    let present = |row: &usize| column.valid.as_ref().is_none_or(|valid| valid.get(*row).copied().unwrap_or_default());
    for (nth, row) in (0..rows).filter(present).enumerate() {
        if sample.len() >= SAMPLE_BYTES {
            break;
        }
        match &column.values {
            Values::Bool(v) => put_bit(&mut sample, nth, v[row]),
            Values::Int8(v) => sample.extend(i32::from(v[row]).to_le_bytes()),
            Values::Int16(v) => sample.extend(i32::from(v[row]).to_le_bytes()),
            Values::Int32(v) => sample.extend(v[row].to_le_bytes()),
            Values::Int64(v) => sample.extend(v[row].to_le_bytes()),
            Values::Float(v) => sample.extend(v[row].to_le_bytes()),
            Values::Double(v) => sample.extend(v[row].to_le_bytes()),
            Values::Bytes { ends, bytes } => {
                let value = slice(ends, bytes, row);
                sample.extend((value.len() as u32).to_le_bytes());
                sample.extend(&value[..value.len().min(SAMPLE_BYTES)]);
            }
            Values::Fixed { width, bytes } => sample.extend(&bytes[row * width..(row + 1) * width]),
        }
    }
    sample.truncate(SAMPLE_BYTES);
    sample
}

fn put_bit(out: &mut Vec<u8>, nth: usize, bit: bool) {
    if nth.is_multiple_of(8) {
        out.push(0);
    }
    if let Some(last) = out.last_mut() {
        *last |= u8::from(bit) << (nth % 8);
    }
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::DataType;

    use super::*;

    /// Neighbours have nothing in common.
    fn noise(n: u64) -> u64 {
        let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 31)
    }

    fn column(data_type: DataType, values: Values) -> FieldColumn {
        FieldColumn { field_id: 101, name: "f".to_owned(), data_type, is_primary: false, valid: None, values }
    }

    fn vectors(component: impl Fn(u64) -> f32) -> FieldColumn {
        let bytes = (0..64 * 600).flat_map(|n| component(n).to_le_bytes()).collect();
        column(DataType::FloatVector, Values::Fixed { width: 256, bytes })
    }

    #[test]
    fn ids_text_and_round_vectors_are_compressed_and_random_ones_are_not() {
        let text: Vec<u8> = (0..500u64).flat_map(|n| format!("{:20}", noise(n)).into_bytes()).collect();
        let text = column(DataType::VarChar, Values::Bytes { ends: (1..=500).map(|n| n * 20).collect(), bytes: text });
        assert!(pays(&column(DataType::Int64, Values::Int64((0..500).collect()))));
        assert!(pays(&text));
        assert!(pays(&vectors(|n| (n % 17) as f32)));
        assert!(!pays(&vectors(|n| (noise(n) >> 40) as f32 / 16_777_216.0)));
        assert!(!pays(&column(DataType::Int64, Values::Int64((0..500).map(|n| noise(n).cast_signed()).collect()))));
    }

    #[test]
    fn the_first_rows_decide_and_later_ones_do_not() {
        let ids = |ordered: u64| (0..5000).map(|n| if n < ordered { n } else { noise(n) }.cast_signed()).collect();
        let sample_of = |ordered| sample(&column(DataType::Int64, Values::Int64(ids(ordered))));
        assert_eq!(sample_of(1024), sample_of(5000));
        assert_ne!(sample_of(1023), sample_of(5000));
    }

    #[test]
    fn a_sample_is_the_first_bytes_of_long_values() {
        let long = |rows: usize| Values::Bytes { ends: (1..=rows).map(|n| n * 300_000).collect(), bytes: vec![7; rows * 300_000] };
        assert_eq!(sample(&column(DataType::Json, long(1))).len(), SAMPLE_BYTES);
        assert_eq!(sample(&column(DataType::Json, long(1))), sample(&column(DataType::Json, long(2))));
    }

    #[test]
    fn nulls_are_not_in_the_sample() {
        let flags: Vec<bool> = (0..20).map(|n| n % 2 == 0).collect();
        let ints = FieldColumn { valid: Some(flags.clone()), ..column(DataType::Int8, Values::Int8((0..20).collect())) };
        assert_eq!(sample(&ints), (0..20).step_by(2).flat_map(i32::to_le_bytes).collect::<Vec<u8>>());
        let bools = FieldColumn { valid: Some(flags), ..column(DataType::Bool, Values::Bool(vec![true; 20])) };
        assert_eq!(sample(&bools), [0xff, 3]);
    }
}
