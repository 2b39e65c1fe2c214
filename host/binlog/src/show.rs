//! One value in words.

use std::fmt::{Debug, Write};

use half::{bf16, f16};
use tidegate_message::array::Elements;
use tidegate_message::columns::{DataType, FieldColumn, Values};
use tidegate_message::sparse;

/// Most characters of a value that are shown.
const CHARS_MAX: usize = 120;
/// Most numbers of a vector or an array that are shown.
const NUMBERS_MAX: usize = 8;
/// Most bytes that are shown as hexadecimal digits.
const HEX_BYTES_MAX: usize = 32;

/// Shows a value; long ones are cut.
pub(crate) fn value(column: &FieldColumn, row: usize) -> String {
    if !column.is_valid(row) {
        return "null".to_owned();
    }
    typed(column.data_type, &column.values, row)
}

/// Shows a value of which only the storage is known: bytes as text, vectors as floats.
pub(crate) fn untyped(values: &Values, row: usize) -> String {
    let guess = if matches!(values, Values::Fixed { .. }) { DataType::FloatVector } else { DataType::String };
    typed(guess, values, row)
}

fn typed(data_type: DataType, values: &Values, row: usize) -> String {
    match values {
        Values::Bool(v) => one(v, row),
        Values::Int8(v) => one(v, row),
        Values::Int16(v) => one(v, row),
        Values::Int32(v) => one(v, row),
        Values::Int64(v) if data_type == DataType::Timestamptz => format!("{} µs since 1970", one(v, row)),
        Values::Int64(v) => one(v, row),
        Values::Float(v) => one(v, row),
        Values::Double(v) => one(v, row),
        values @ Values::Bytes { .. } => bytes(data_type, values.bytes_at(row)),
        Values::Fixed { width, bytes } => vector(data_type, bytes.chunks((*width).max(1)).nth(row).unwrap_or_default()),
    }
}

fn one<T: Debug>(values: &[T], row: usize) -> String {
    values.get(row).map(|value| format!("{value:?}")).unwrap_or_default()
}

fn bytes(data_type: DataType, bytes: &[u8]) -> String {
    match data_type {
        DataType::Array => match Elements::decode(bytes) {
            Ok(elements) => array(elements),
            Err(problem) => format!("{} ({problem})", hex(bytes)),
        },
        DataType::Geometry => hex(bytes),
        DataType::SparseFloatVector => {
            let pairs = sparse::pairs(bytes).map(|(index, value)| format!("{index}: {value}"));
            format!("{{{}}}", list(pairs, bytes.len() / 8))
        }
        _ => text(&String::from_utf8_lossy(bytes)),
    }
}

fn array(elements: Option<Elements>) -> String {
    let all = match &elements {
        None => String::new(),
        Some(Elements::Bools(v)) => numbers(v),
        Some(Elements::Ints(v)) => numbers(v),
        Some(Elements::Longs(v)) => numbers(v),
        Some(Elements::Floats(v)) => numbers(v),
        Some(Elements::Doubles(v)) => numbers(v),
        Some(Elements::Texts(v)) => list(v.iter().map(|v| text(v)), v.len()),
    };
    format!("[{all}]")
}

fn vector(data_type: DataType, bytes: &[u8]) -> String {
    let halves = || bytes.as_chunks::<2>().0.iter();
    let all = match data_type {
        DataType::BinaryVector => return hex(bytes),
        DataType::Int8Vector => list(bytes.iter().map(|&b| b.cast_signed().to_string()), bytes.len()),
        DataType::Float16Vector => list(halves().map(|&h| f16::from_le_bytes(h).to_string()), bytes.len() / 2),
        DataType::BFloat16Vector => list(halves().map(|&h| bf16::from_le_bytes(h).to_string()), bytes.len() / 2),
        _ => list(bytes.as_chunks::<4>().0.iter().map(|&f| f32::from_le_bytes(f).to_string()), bytes.len() / 4),
    };
    format!("[{all}]")
}

fn numbers<T: Debug>(values: &[T]) -> String {
    list(values.iter().map(|value| format!("{value:?}")), values.len())
}

fn list(items: impl Iterator<Item = String>, length: usize) -> String {
    let mut shown = items.take(NUMBERS_MAX).collect::<Vec<_>>().join(", ");
    if length > NUMBERS_MAX {
        shown.push_str(&format!(", … {length} in all"));
    }
    shown
}

fn hex(bytes: &[u8]) -> String {
    let mut shown = "0x".to_owned();
    bytes.iter().take(HEX_BYTES_MAX).for_each(|byte| _ = write!(shown, "{byte:02x}"));
    if bytes.len() > HEX_BYTES_MAX { format!("{shown}… {} bytes in all", bytes.len()) } else { shown }
}

/// Shows text in quotes.
pub(crate) fn text(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… {} bytes in all", text.get(..end).unwrap_or_default(), text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(data_type: DataType, values: Values) -> String {
        value(&FieldColumn { field_id: 1, name: String::new(), data_type, is_primary: false, valid: None, values }, 0)
    }

    #[test]
    fn values_of_every_kind_are_shown() {
        let bytes = |bytes: Vec<u8>| Values::Bytes { ends: vec![bytes.len()], bytes };
        let fixed = |bytes: Vec<u8>| Values::Fixed { width: bytes.len(), bytes };
        let halves = |halves: [u16; 2]| fixed(halves.iter().flat_map(|h| h.to_le_bytes()).collect());
        for (data_type, values, expected) in [
            (DataType::Bool, Values::Bool(vec![true]), "true"),
            (DataType::Double, Values::Double(vec![0.5]), "0.5"),
            (DataType::Timestamptz, Values::Int64(vec![5]), "5 µs since 1970"),
            (DataType::Text, bytes("\"ä".into()), "\"\\\"ä\""),
            (DataType::Array, bytes(Elements::Longs((0..9).collect()).encode()), "[0, 1, 2, 3, 4, 5, 6, 7, … 9 in all]"),
            (DataType::Array, bytes(Elements::Texts(vec!["a".into()]).encode()), "[\"a\"]"),
            (DataType::Array, bytes(vec![]), "[]"),
            (DataType::Array, bytes(vec![0x0a, 9]), "0x0a09 (the bytes end inside a value)"),
            (DataType::Geometry, bytes(vec![1, 0xab]), "0x01ab"),
            (DataType::SparseFloatVector, bytes(sparse::encode([(1, 0.5), (7, 2.0)])), "{1: 0.5, 7: 2}"),
            (DataType::BinaryVector, fixed(vec![0xff; 33]), &format!("0x{}… 33 bytes in all", "ff".repeat(32))),
            (DataType::Int8Vector, fixed(vec![0xff, 1]), "[-1, 1]"),
            (DataType::Float16Vector, halves([0x3c00, 0x3800]), "[1, 0.5]"),
            (DataType::BFloat16Vector, halves([0x3f80, 0xbf00]), "[1, -0.5]"),
        ] {
            assert_eq!(shown(data_type, values), expected, "{data_type:?}");
        }
        let column = |valid| FieldColumn {
            field_id: 1,
            name: String::new(),
            data_type: DataType::Bool,
            is_primary: false,
            valid,
            values: Values::Bool(vec![false]),
        };
        assert_eq!([value(&column(Some(vec![false])), 0), value(&column(Some(vec![true])), 0)], ["null", "false"]);
    }
}
