//! What a column must satisfy before it is written, and how types are numbered and named.

use tidegate_message::columns::{DataType, FieldColumn, Values};

use crate::WriteError;

/// Milvus' code of `String`, the payload type of delta logs.
pub(crate) const STRING_TYPE: i32 = 20;

/// Milvus' code of a type.
pub(crate) fn payload_type(data_type: DataType) -> i32 {
    data_type as i32
}

/// What [`type_name`] calls a code that Milvus does not have.
pub(crate) const UNKNOWN: &str = "unknown";

/// Milvus' name of a type code.
pub(crate) fn type_name(code: i32) -> &'static str {
    match code {
        1 => "Bool",
        2 => "Int8",
        3 => "Int16",
        4 => "Int32",
        5 => "Int64",
        10 => "Float",
        11 => "Double",
        20 => "String",
        21 => "VarChar",
        22 => "Array",
        23 => "JSON",
        24 => "Geometry",
        25 => "Text",
        26 => "Timestamptz",
        100 => "BinaryVector",
        101 => "FloatVector",
        102 => "Float16Vector",
        103 => "BFloat16Vector",
        104 => "SparseFloatVector",
        105 => "Int8Vector",
        106 => "ArrayOfVector",
        _ => UNKNOWN,
    }
}

/// Name of the storage, for messages.
pub(crate) fn storage_name(values: &Values) -> &'static str {
    match values {
        Values::Bool(_) => "Bool",
        Values::Int8(_) => "Int8",
        Values::Int16(_) => "Int16",
        Values::Int32(_) => "Int32",
        Values::Int64(_) => "Int64",
        Values::Float(_) => "Float",
        Values::Double(_) => "Double",
        Values::Bytes { .. } => "Bytes",
        Values::Fixed { .. } => "Fixed",
    }
}

/// Number of values.
pub(crate) fn value_count(values: &Values) -> usize {
    match values {
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

/// Checks that the values fit the type and themselves, and counts them.
pub(crate) fn row_count(column: &FieldColumn) -> Result<usize, WriteError> {
    let fail = |problem: String| Err(WriteError::Column { field: column.field_id, problem });
    match (column.data_type, &column.values) {
        (DataType::Bool, Values::Bool(_))
        | (DataType::Int8, Values::Int8(_))
        | (DataType::Int16, Values::Int16(_))
        | (DataType::Int32, Values::Int32(_))
        | (DataType::Int64 | DataType::Timestamptz, Values::Int64(_))
        | (DataType::Float, Values::Float(_))
        | (DataType::Double, Values::Double(_)) => {}
        (data_type, Values::Bytes { ends, bytes }) if has_variable_length(data_type) => {
            let mut start = 0;
            for (i, &end) in ends.iter().enumerate() {
                let Some(value) = bytes.get(start..end) else {
                    return fail(format!("value {i} spans bytes {start}..{end} of {}", bytes.len()));
                };
                if data_type.is_text() && std::str::from_utf8(value).is_err() {
                    return fail(format!("value {i} is not UTF-8"));
                }
                start = end;
            }
            if start != bytes.len() {
                return fail(format!("{} bytes, but the values end at {start}", bytes.len()));
            }
        }
        (data_type, Values::Fixed { width, bytes }) if data_type.is_dense_vector() => {
            if *width == 0 || i32::try_from(*width).is_err() || bytes.len() % width != 0 {
                return fail(format!("{} bytes are not rows of {width}", bytes.len()));
            }
        }
        (data_type, values) => return fail(format!("type {data_type:?}, but {} values", storage_name(values))),
    }
    let rows = value_count(&column.values);
    match &column.valid {
        Some(valid) if valid.len() != rows => fail(format!("{rows} values, but {} flags of validity", valid.len())),
        _ => Ok(rows),
    }
}

fn has_variable_length(data_type: DataType) -> bool {
    use DataType::{Array, Geometry, Json, SparseFloatVector};
    data_type.is_text() || matches!(data_type, Array | Json | Geometry | SparseFloatVector)
}

/// Value `i` of the back-to-back storage, empty if the ends are not ascending within the bytes.
pub(crate) fn slice<'a>(ends: &[usize], bytes: &'a [u8], i: usize) -> &'a [u8] {
    let start = i.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    ends.get(i).and_then(|&end| bytes.get(start..end)).unwrap_or_default()
}
