//! One column's values, from Arrow to ours; a value changes its width only where none is lost.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, ListArray};
use arrow_schema::DataType as ArrowType;
use serde::de::IgnoredAny;
use tidegate_message::columns::{DataType, Values};
use tidegate_message::schema::Field;

/// What a row without a `$meta` column has in it.
const NO_DYNAMIC_VALUES: &[u8] = b"{}";

/// Says what is wrong when a column of this type cannot hold the field.
pub(super) fn check_type(field: &Field, found: &ArrowType) -> Result<(), String> {
    let fits = match (field.data_type, found) {
        (DataType::Bool, found) => *found == ArrowType::Boolean,
        (DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64, found) => found.is_integer(),
        (DataType::Float, found) => *found == ArrowType::Float32,
        (DataType::Double, found) => matches!(found, ArrowType::Float32 | ArrowType::Float64),
        (DataType::VarChar | DataType::Json, found) => *found == ArrowType::Utf8,
        (DataType::FloatVector, ArrowType::List(element)) => *element.data_type() == ArrowType::Float32,
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("column {:?} is {found}; {} was expected", field.name, expected(field))) }
}

/// What a column of the field is, in words.
fn expected(field: &Field) -> String {
    let of = super::dtype(field.data_type);
    match field.data_type {
        DataType::Bool => format!("a boolean column for {of}"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => format!("an integer column for {of}"),
        DataType::Float => format!("a column of 32-bit floats for {of}"),
        DataType::Double => format!("a column of 64-bit floats for {of}"),
        DataType::VarChar => format!("a string column for {of}"),
        DataType::Json => format!("a column of JSON documents as strings for {of}"),
        DataType::FloatVector => format!("lists of {} 32-bit floats for {of}", field.dim),
        _ => format!("another version for {of}"),
    }
}

/// Appends the values of a column whose first row is row `first_row` of the file.
pub(super) fn push_values(field: &Field, array: &ArrayRef, first_row: u64, to: &mut Values) -> Result<(), String> {
    check_type(field, array.data_type())?;
    let place = Place { field, first_row };
    if let Some(row) = (0..array.len()).find(|&row| array.is_null(row)) {
        return Err(place.says(row, "the value is null"));
    }
    match to {
        Values::Bool(to) => to.extend(array.as_boolean().values().iter()),
        Values::Int8(to) => push_integers(&place, array, to)?,
        Values::Int16(to) => push_integers(&place, array, to)?,
        Values::Int32(to) => push_integers(&place, array, to)?,
        Values::Int64(to) => push_integers(&place, array, to)?,
        Values::Float(to) => to.extend_from_slice(array.as_primitive::<Float32Type>().values()),
        Values::Double(to) if *array.data_type() == ArrowType::Float32 => {
            to.extend(array.as_primitive::<Float32Type>().values().iter().map(|&v| f64::from(v)));
        }
        Values::Double(to) => to.extend_from_slice(array.as_primitive::<Float64Type>().values()),
        Values::Bytes { ends, bytes } => {
            for (row, text) in array.as_string::<i32>().iter().map(Option::unwrap_or_default).enumerate() {
                check_text(&place, row, text)?;
                bytes.extend_from_slice(text.as_bytes());
                ends.push(bytes.len());
            }
        }
        Values::Fixed { bytes, .. } => push_vectors(&place, array.as_list(), bytes)?,
    }
    Ok(())
}

/// Appends what rows have in `$meta` when the file has no such column.
pub(super) fn push_absent(rows: usize, to: &mut Values) {
    if let Values::Bytes { ends, bytes } = to {
        for _ in 0..rows {
            bytes.extend_from_slice(NO_DYNAMIC_VALUES);
            ends.push(bytes.len());
        }
    }
}

/// Where a value stands in the file.
struct Place<'a> {
    field: &'a Field,
    first_row: u64,
}

impl Place<'_> {
    fn says(&self, row: usize, problem: &str) -> String {
        format!("column {:?}, row {}: {problem}; {} was expected", self.field.name, self.first_row + row as u64, self.one())
    }

    /// What a value of the field is, in words.
    fn one(&self) -> String {
        let Field { data_type, dim, max_length, .. } = self.field;
        match data_type {
            DataType::Bool => "true or false".to_owned(),
            DataType::Int8 => format!("a whole number from {} to {}", i8::MIN, i8::MAX),
            DataType::Int16 => format!("a whole number from {} to {}", i16::MIN, i16::MAX),
            DataType::Int32 => format!("a whole number from {} to {}", i32::MIN, i32::MAX),
            DataType::Int64 => format!("a whole number from {} to {}", i64::MIN, i64::MAX),
            DataType::Float | DataType::Double => "a number".to_owned(),
            DataType::VarChar => format!("text of at most {max_length} bytes"),
            DataType::Json if self.field.is_dynamic => "a JSON object".to_owned(),
            DataType::Json => "a JSON document".to_owned(),
            DataType::FloatVector => format!("a vector of {dim} floats"),
            _ => "another version".to_owned(),
        }
    }
}

fn push_integers<T: TryFrom<i128>>(place: &Place, array: &ArrayRef, to: &mut Vec<T>) -> Result<(), String> {
    macro_rules! values {
        ($type:ty) => {
            array.as_primitive::<$type>().values().iter().map(|&v| i128::from(v)).collect()
        };
    }
    let values: Vec<i128> = match array.data_type() {
        ArrowType::Int8 => values!(Int8Type),
        ArrowType::Int16 => values!(Int16Type),
        ArrowType::Int32 => values!(Int32Type),
        ArrowType::Int64 => values!(Int64Type),
        ArrowType::UInt8 => values!(UInt8Type),
        ArrowType::UInt16 => values!(UInt16Type),
        ArrowType::UInt32 => values!(UInt32Type),
        _ => values!(UInt64Type),
    };
    for (row, value) in values.into_iter().enumerate() {
        to.push(T::try_from(value).map_err(|_| place.says(row, &format!("the value is {value}")))?);
    }
    Ok(())
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

fn push_vectors(place: &Place, lists: &ListArray, to: &mut Vec<u8>) -> Result<(), String> {
    for row in 0..lists.len() {
        let list = lists.value(row);
        if list.len() != place.field.dim {
            return Err(place.says(row, &format!("the vector has {} floats", list.len())));
        }
        if list.null_count() > 0 {
            return Err(place.says(row, "an element of the vector is null"));
        }
        list.as_primitive::<Float32Type>().values().iter().for_each(|v| to.extend_from_slice(&v.to_le_bytes()));
    }
    Ok(())
}
