//! One column's values, from Arrow to ours; a value changes its width only where none is lost.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType as ArrowType, TimeUnit};
use serde::de::IgnoredAny;
use tidegate_message::columns::{DataType, FieldColumn, Values};
use tidegate_message::schema::Field;
use tidegate_message::wkb::check_wkb;

use super::parquet_lists::{push_arrays, push_vectors};
use super::sparse_json;

/// What a row without a `$meta` column has in it.
const NO_DYNAMIC_VALUES: &[u8] = b"{}";

/// Says what is wrong when a column of this type cannot hold the field.
pub(super) fn check_type(field: &Field, found: &ArrowType) -> Result<(), String> {
    let fits = match (field.data_type, found) {
        (DataType::Array, ArrowType::List(element)) => holds(field.element_type.unwrap_or(field.data_type), element.data_type()),
        (DataType::FloatVector, ArrowType::List(element)) => *element.data_type() == ArrowType::Float32,
        (DataType::Int8Vector, ArrowType::List(element)) => *element.data_type() == ArrowType::Int8,
        (DataType::Timestamptz, ArrowType::Timestamp(unit, zone)) => *unit == TimeUnit::Microsecond && zone.is_some(),
        (DataType::Timestamptz, found) => *found == ArrowType::Int64,
        (DataType::Json | DataType::Text | DataType::SparseFloatVector, found) => *found == ArrowType::Utf8,
        (DataType::Geometry, found) => *found == ArrowType::Binary,
        (DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector, ArrowType::FixedSizeBinary(width)) => {
            usize::try_from(*width) == Ok(field.width())
        }
        (DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector, found) => *found == ArrowType::Binary,
        (data_type, found) => holds(data_type, found),
    };
    if fits { Ok(()) } else { Err(format!("column {:?} is {found}; {} was expected", field.name, expected(field))) }
}

/// Whether a column of this type holds scalars that may also be an array's elements.
fn holds(data_type: DataType, found: &ArrowType) -> bool {
    match data_type {
        DataType::Bool => *found == ArrowType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => found.is_integer(),
        DataType::Float => *found == ArrowType::Float32,
        DataType::Double => matches!(found, ArrowType::Float32 | ArrowType::Float64),
        DataType::VarChar | DataType::String => *found == ArrowType::Utf8,
        _ => false,
    }
}

/// What a column of the field is, in words.
fn expected(field: &Field) -> String {
    let of = super::dtype(field.data_type);
    let scalars = |data_type| match data_type {
        DataType::Bool => "booleans",
        DataType::Float => "32-bit floats",
        DataType::Double => "64-bit floats",
        DataType::VarChar | DataType::String => "strings",
        _ => "integers",
    };
    match field.data_type {
        DataType::Bool => format!("a boolean column for {of}"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => format!("an integer column for {of}"),
        DataType::Float | DataType::Double => format!("a column of {} for {of}", scalars(field.data_type)),
        DataType::VarChar | DataType::String | DataType::Text => format!("a string column for {of}"),
        DataType::Array => format!("lists of {} for {of}", scalars(field.element_type.unwrap_or(field.data_type))),
        DataType::Json => format!("a column of JSON documents as strings for {of}"),
        DataType::Geometry => format!("a column of well-known binary for {of}"),
        DataType::Timestamptz => format!("a column of timestamps in microseconds, UTC, or of 64-bit integers for {of}"),
        DataType::FloatVector => format!("lists of {} 32-bit floats for {of}", field.dim),
        DataType::Int8Vector => format!("lists of {} 8-bit integers for {of}", field.dim),
        DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector => {
            format!("binary values of {} bytes for {of}", field.width())
        }
        DataType::SparseFloatVector => format!("a column of JSON objects of index and value, as strings, for {of}"),
    }
}

/// Appends the values of a column whose first row is row `first_row` of the file. A null becomes the field's default value, or is one
/// where it may be.
pub(super) fn push_values(field: &Field, array: &ArrayRef, first_row: u64, to: &mut FieldColumn) -> Result<(), String> {
    check_type(field, array.data_type())?;
    let mut row = 0;
    // Rows with a value and rows without, in turns.
    while row < array.len() {
        let is_null = array.is_null(row);
        let end = (row..array.len()).find(|&next| array.is_null(next) != is_null).unwrap_or(array.len());
        let place = Place { field, first_row: first_row + row as u64 };
        if !is_null {
            push_present(&place, &array.slice(row, end - row), &mut to.values)?;
            to.valid.iter_mut().for_each(|valid| valid.resize(valid.len() + end - row, true));
        } else if field.may_be_absent() {
            to.push_absent(field, end - row);
        } else {
            return Err(place.says(0, "the value is null"));
        }
        row = end;
    }
    Ok(())
}

/// Appends rows of which the file has no column.
pub(super) fn push_absent(field: &Field, rows: usize, to: &mut FieldColumn) {
    match &mut to.values {
        Values::Bytes { ends, bytes } if field.is_dynamic && !field.may_be_absent() => {
            for _ in 0..rows {
                bytes.extend_from_slice(NO_DYNAMIC_VALUES);
                ends.push(bytes.len());
            }
        }
        _ => to.push_absent(field, rows),
    }
}

fn push_present(place: &Place, array: &ArrayRef, to: &mut Values) -> Result<(), String> {
    match to {
        Values::Bool(to) => to.extend(array.as_boolean().values().iter()),
        Values::Int8(to) => push_integers(place, array, to)?,
        Values::Int16(to) => push_integers(place, array, to)?,
        Values::Int32(to) => push_integers(place, array, to)?,
        Values::Int64(to) if matches!(array.data_type(), ArrowType::Timestamp(..)) => {
            to.extend_from_slice(array.as_primitive::<TimestampMicrosecondType>().values());
        }
        Values::Int64(to) => push_integers(place, array, to)?,
        Values::Float(to) => to.extend_from_slice(array.as_primitive::<Float32Type>().values()),
        Values::Double(to) => to.extend(doubles(array)),
        Values::Bytes { ends, bytes } => push_bytes(place, array, |value| {
            bytes.extend_from_slice(value);
            ends.push(bytes.len());
        })?,
        Values::Fixed { bytes, .. } => push_vectors(place, array, bytes)?,
    }
    Ok(())
}

/// Calls `push` with every value of variable length.
fn push_bytes(place: &Place, array: &ArrayRef, mut push: impl FnMut(&[u8])) -> Result<(), String> {
    match place.field.data_type {
        DataType::Array => return push_arrays(place, array.as_list(), push),
        DataType::Geometry => {
            for (row, value) in array.as_binary::<i32>().iter().map(Option::unwrap_or_default).enumerate() {
                check_wkb(value).map_err(|problem| place.says(row, &problem))?;
                push(value);
            }
        }
        DataType::SparseFloatVector => {
            for (row, text) in array.as_string::<i32>().iter().map(Option::unwrap_or_default).enumerate() {
                push(&sparse_json::read(text).map_err(|problem| place.says(row, &problem))?);
            }
        }
        _ => {
            for (row, text) in array.as_string::<i32>().iter().map(Option::unwrap_or_default).enumerate() {
                check_text(place, row, text)?;
                push(text.as_bytes());
            }
        }
    }
    Ok(())
}

/// Where a value stands in the file.
pub(super) struct Place<'a> {
    pub field: &'a Field,
    pub first_row: u64,
}

impl Place<'_> {
    pub fn says(&self, row: usize, problem: &str) -> String {
        format!("column {:?}, row {}: {problem}; {} was expected", self.field.name, self.first_row + row as u64, self.one())
    }

    /// What a value of the field is, in words.
    fn one(&self) -> String {
        let Field { data_type, dim, max_length, max_capacity, .. } = self.field;
        match data_type {
            DataType::Bool => "true or false".to_owned(),
            DataType::Int8 => format!("a whole number from {} to {}", i8::MIN, i8::MAX),
            DataType::Int16 => format!("a whole number from {} to {}", i16::MIN, i16::MAX),
            DataType::Int32 => format!("a whole number from {} to {}", i32::MIN, i32::MAX),
            DataType::Int64 => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
            DataType::Float | DataType::Double => "a number".to_owned(),
            DataType::VarChar => format!("text of at most {max_length} bytes"),
            DataType::String | DataType::Text => "text".to_owned(),
            DataType::Json if self.field.is_dynamic => "a JSON object".to_owned(),
            DataType::Json => "a JSON document".to_owned(),
            DataType::Geometry => "a geometry as well-known binary".to_owned(),
            DataType::Timestamptz => "a point in time".to_owned(),
            DataType::FloatVector => format!("a vector of {dim} floats"),
            DataType::Int8Vector => format!("a vector of {dim} integers of 8 bits"),
            DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector => {
                format!("a vector of {dim} in {} bytes", self.field.width())
            }
            DataType::SparseFloatVector => "a sparse vector such as {\"1\": 0.5, \"7\": 2}".to_owned(),
            DataType::Array => {
                let element_type = self.field.element_type.unwrap_or(*data_type);
                let length = if *max_length > 0 { format!(" of at most {max_length} bytes each") } else { String::new() };
                format!("a list of at most {max_capacity} values of {}{length}", super::dtype(element_type))
            }
        }
    }
}

pub(super) fn doubles(array: &dyn Array) -> Vec<f64> {
    match array.data_type() {
        ArrowType::Float32 => array.as_primitive::<Float32Type>().values().iter().map(|&v| f64::from(v)).collect(),
        _ => array.as_primitive::<Float64Type>().values().to_vec(),
    }
}

pub(super) fn push_integers<T: TryFrom<i128>>(place: &Place, array: &dyn Array, to: &mut Vec<T>) -> Result<(), String> {
    for (row, value) in integers(array).into_iter().enumerate() {
        to.push(T::try_from(value).map_err(|_| place.says(row, &format!("the value is {value}")))?);
    }
    Ok(())
}

/// Returns the values of an integer column of any width.
pub(super) fn integers(array: &dyn Array) -> Vec<i128> {
    macro_rules! values {
        ($type:ty) => {
            array.as_primitive::<$type>().values().iter().map(|&v| i128::from(v)).collect()
        };
    }
    match array.data_type() {
        ArrowType::Int8 => values!(Int8Type),
        ArrowType::Int16 => values!(Int16Type),
        ArrowType::Int32 => values!(Int32Type),
        ArrowType::Int64 => values!(Int64Type),
        ArrowType::UInt8 => values!(UInt8Type),
        ArrowType::UInt16 => values!(UInt16Type),
        ArrowType::UInt32 => values!(UInt32Type),
        _ => values!(UInt64Type),
    }
}

fn check_text(place: &Place, row: usize, text: &str) -> Result<(), String> {
    match place.field.data_type {
        DataType::VarChar if text.len() > place.field.max_length => Err(place.says(row, &format!("the text has {} bytes", text.len()))),
        DataType::Json => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) if place.field.is_dynamic && !text.trim_start().starts_with('{') => Err(place.says(row, "the JSON is no object")),
            Ok(_) => Ok(()),
            Err(error) => Err(place.says(row, &format!("the text is not JSON ({error})"))),
        },
        _ => Ok(()),
    }
}
