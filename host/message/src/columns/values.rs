//! The storage of one column.

use super::DataType;
use crate::schema::{DefaultValue, Field};

/// Column storage.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// [`DataType::Bool`].
    Bool(Vec<bool>),
    /// [`DataType::Int8`].
    Int8(Vec<i8>),
    /// [`DataType::Int16`].
    Int16(Vec<i16>),
    /// [`DataType::Int32`].
    Int32(Vec<i32>),
    /// [`DataType::Int64`], [`DataType::Timestamptz`], row ids and time ticks (as the two's complement of the unsigned tick).
    Int64(Vec<i64>),
    /// [`DataType::Float`].
    Float(Vec<f32>),
    /// [`DataType::Double`].
    Double(Vec<f64>),
    /// Text, [`DataType::Array`], [`DataType::Json`], [`DataType::Geometry`] and [`DataType::SparseFloatVector`]: value `i` is
    /// `bytes[ends[i-1]..ends[i]]`, with `ends[-1]` = 0. A sparse vector's numbers are little-endian.
    Bytes {
        /// End offset of every value.
        ends: Vec<usize>,
        /// All values, back to back.
        bytes: Vec<u8>,
    },
    /// Dense vectors: little-endian numbers, `width` bytes a row.
    Fixed {
        /// Bytes a row, as [`Field::width`].
        width: usize,
        /// All rows, back to back.
        bytes: Vec<u8>,
    },
}

impl Values {
    /// Returns storage of a field's type, empty.
    pub fn new(field: &Field) -> Values {
        match field.data_type {
            DataType::Bool => Values::Bool(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 | DataType::Timestamptz => Values::Int64(Vec::new()),
            DataType::Float => Values::Float(Vec::new()),
            DataType::Double => Values::Double(Vec::new()),
            DataType::String
            | DataType::VarChar
            | DataType::Text
            | DataType::Array
            | DataType::Json
            | DataType::Geometry
            | DataType::SparseFloatVector => Values::Bytes { ends: Vec::new(), bytes: Vec::new() },
            DataType::BinaryVector | DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
                Values::Fixed { width: field.width(), bytes: Vec::new() }
            }
        }
    }

    /// Returns one row: the field's default value, or its type's zero.
    pub fn filler(field: &Field) -> Values {
        let mut filler = Values::new(field);
        let default = field.default_value.as_ref();
        match &mut filler {
            Values::Bool(values) => values.push(matches!(default, Some(DefaultValue::Bool(true)))),
            Values::Int8(values) => values.push(int(default) as i8),
            Values::Int16(values) => values.push(int(default) as i16),
            Values::Int32(values) => values.push(int(default)),
            Values::Int64(values) => values.push(match default {
                Some(DefaultValue::Long(value) | DefaultValue::Timestamptz(value)) => *value,
                _ => 0,
            }),
            Values::Float(values) => values.push(if let Some(DefaultValue::Float(value)) = default { *value } else { 0.0 }),
            Values::Double(values) => values.push(if let Some(DefaultValue::Double(value)) = default { *value } else { 0.0 }),
            Values::Bytes { ends, bytes } => {
                match default {
                    Some(DefaultValue::Text(value)) => bytes.extend_from_slice(value.as_bytes()),
                    Some(DefaultValue::Bytes(value)) => bytes.extend_from_slice(value),
                    _ => {}
                }
                ends.push(bytes.len());
            }
            Values::Fixed { width, bytes } => bytes.resize(*width, 0),
        }
        filler
    }

    /// Returns the number of values; 0 of vectors without width.
    pub fn len(&self) -> usize {
        match self {
            Values::Bool(v) => v.len(),
            Values::Int8(v) => v.len(),
            Values::Int16(v) => v.len(),
            Values::Int32(v) => v.len(),
            Values::Int64(v) => v.len(),
            Values::Float(v) => v.len(),
            Values::Double(v) => v.len(),
            Values::Bytes { ends, .. } => ends.len(),
            Values::Fixed { width, bytes } => bytes.len().checked_div(*width).unwrap_or(0),
        }
    }

    /// Returns whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns value `row` of variable length, nothing if there is none or the storage is of another kind.
    pub fn bytes_at(&self, row: usize) -> &[u8] {
        let Values::Bytes { ends, bytes } = self else { return &[] };
        let start = row.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
        ends.get(row).and_then(|&end| bytes.get(start..end)).unwrap_or_default()
    }

    /// Appends value `row` of storage of the same kind and width.
    ///
    /// # Panics
    /// There is no such value; of another kind, nothing is appended.
    pub fn push_row(&mut self, from: &Values, row: usize) {
        match (self, from) {
            (Values::Bool(to), Values::Bool(from)) => to.push(from[row]),
            (Values::Int8(to), Values::Int8(from)) => to.push(from[row]),
            (Values::Int16(to), Values::Int16(from)) => to.push(from[row]),
            (Values::Int32(to), Values::Int32(from)) => to.push(from[row]),
            (Values::Int64(to), Values::Int64(from)) => to.push(from[row]),
            (Values::Float(to), Values::Float(from)) => to.push(from[row]),
            (Values::Double(to), Values::Double(from)) => to.push(from[row]),
            (Values::Bytes { ends, bytes }, from @ Values::Bytes { .. }) => {
                bytes.extend_from_slice(from.bytes_at(row));
                ends.push(bytes.len());
            }
            (Values::Fixed { width, bytes: to }, Values::Fixed { bytes: from, .. }) => {
                to.extend_from_slice(&from[row * *width..(row + 1) * *width]);
            }
            _ => {}
        }
    }

    pub(super) fn select(&self, rows: &[usize]) -> Values {
        match self {
            Values::Bool(v) => Values::Bool(rows.iter().map(|&r| v[r]).collect()),
            Values::Int8(v) => Values::Int8(rows.iter().map(|&r| v[r]).collect()),
            Values::Int16(v) => Values::Int16(rows.iter().map(|&r| v[r]).collect()),
            Values::Int32(v) => Values::Int32(rows.iter().map(|&r| v[r]).collect()),
            Values::Int64(v) => Values::Int64(rows.iter().map(|&r| v[r]).collect()),
            Values::Float(v) => Values::Float(rows.iter().map(|&r| v[r]).collect()),
            Values::Double(v) => Values::Double(rows.iter().map(|&r| v[r]).collect()),
            Values::Bytes { ends, bytes } => {
                let mut selected = (Vec::with_capacity(rows.len()), Vec::new());
                for &r in rows {
                    let start = if r == 0 { 0 } else { ends[r - 1] };
                    selected.1.extend_from_slice(&bytes[start..ends[r]]);
                    selected.0.push(selected.1.len());
                }
                Values::Bytes { ends: selected.0, bytes: selected.1 }
            }
            Values::Fixed { width, bytes } => {
                let mut selected = Vec::with_capacity(rows.len() * width);
                rows.iter().for_each(|&r| selected.extend_from_slice(&bytes[r * width..(r + 1) * width]));
                Values::Fixed { width: *width, bytes: selected }
            }
        }
    }

    /// Returns the bytes that the values take.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Values::Bool(v) => v.len(),
            Values::Int8(v) => v.len(),
            Values::Int16(v) => v.len() * 2,
            Values::Int32(v) => v.len() * 4,
            Values::Int64(v) => v.len() * 8,
            Values::Float(v) => v.len() * 4,
            Values::Double(v) => v.len() * 8,
            Values::Bytes { ends, bytes } => ends.len() * 8 + bytes.len(),
            Values::Fixed { bytes, .. } => bytes.len(),
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        match self {
            Values::Bool(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Bytes { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Fixed { width, bytes } => bytes.truncate(rows * *width),
        }
    }
}

fn int(default: Option<&DefaultValue>) -> i32 {
    if let Some(DefaultValue::Int(value)) = default { *value } else { 0 }
}
