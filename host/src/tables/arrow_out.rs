//! One column's values, from ours to Arrow.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    ListBuilder, PrimitiveBuilder, StringBuilder,
};
use arrow_array::types::{Int8Type, Int16Type};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, TimestampMicrosecondArray,
};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, FieldRef, TimeUnit};
use tidegate_message::array::Elements;
use tidegate_message::columns::{DataType, FieldColumn, Values};
use tidegate_message::schema::Field;

use super::sparse_json;

/// The zone of points in time.
const UTC: &str = "UTC";

/// Returns the column that a field has in a file.
pub(super) fn arrow_field(field: &Field) -> ArrowField {
    ArrowField::new(&field.name, arrow_type(field), field.nullable)
}

/// Vectors have one length, at most 32,768 numbers or bytes, so that every length fits Arrow's.
fn arrow_type(field: &Field) -> ArrowType {
    match field.data_type {
        DataType::Array => ArrowType::List(element(scalar_type(field.element_type.unwrap_or(field.data_type)))),
        DataType::FloatVector => ArrowType::FixedSizeList(element(ArrowType::Float32), field.dim as i32),
        DataType::Int8Vector => ArrowType::FixedSizeList(element(ArrowType::Int8), field.dim as i32),
        DataType::BinaryVector | DataType::Float16Vector | DataType::BFloat16Vector => ArrowType::FixedSizeBinary(field.width() as i32),
        data_type => scalar_type(data_type),
    }
}

fn scalar_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::Timestamptz => ArrowType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        DataType::Geometry => ArrowType::Binary,
        _ => ArrowType::Utf8,
    }
}

fn element(data_type: ArrowType) -> FieldRef {
    Arc::new(ArrowField::new("element", data_type, false))
}

/// Converts a column.
///
/// # Errors
/// Says what in it is not of the field.
pub(super) fn to_array(field: &Field, column: &FieldColumn) -> Result<ArrayRef, String> {
    let nulls = column.valid.clone().map(Into::into);
    Ok(match &column.values {
        Values::Bool(v) => Arc::new(BooleanArray::new(v.clone().into(), nulls)),
        Values::Int8(v) => Arc::new(Int8Array::new(v.clone().into(), nulls)),
        Values::Int16(v) => Arc::new(Int16Array::new(v.clone().into(), nulls)),
        Values::Int32(v) => Arc::new(Int32Array::new(v.clone().into(), nulls)),
        Values::Int64(v) if field.data_type == DataType::Timestamptz => {
            Arc::new(TimestampMicrosecondArray::new(v.clone().into(), nulls).with_timezone(UTC))
        }
        Values::Int64(v) => Arc::new(Int64Array::new(v.clone().into(), nulls)),
        Values::Float(v) => Arc::new(Float32Array::new(v.clone().into(), nulls)),
        Values::Double(v) => Arc::new(Float64Array::new(v.clone().into(), nulls)),
        Values::Bytes { .. } => bytes(field, column)?,
        Values::Fixed { bytes, .. } => {
            let list = |data_type, numbers: ArrayRef, nulls| {
                FixedSizeListArray::try_new(element(data_type), field.dim as i32, numbers, nulls).map_err(|e| e.to_string())
            };
            match field.data_type {
                DataType::FloatVector => {
                    let floats = bytes.as_chunks().0.iter().map(|&float| f32::from_le_bytes(float));
                    Arc::new(list(ArrowType::Float32, Arc::new(Float32Array::from_iter_values(floats)), nulls)?)
                }
                DataType::Int8Vector => {
                    let integers = bytes.iter().map(|byte| byte.cast_signed());
                    Arc::new(list(ArrowType::Int8, Arc::new(Int8Array::from_iter_values(integers)), nulls)?)
                }
                _ => {
                    let vectors = FixedSizeBinaryArray::try_new(field.width() as i32, bytes.clone().into(), nulls);
                    Arc::new(vectors.map_err(|e| e.to_string())?)
                }
            }
        }
    })
}

/// Values of variable length: text, documents, geometries, arrays.
fn bytes(field: &Field, column: &FieldColumn) -> Result<ArrayRef, String> {
    let rows = || (0..column.values.len()).map(|row| column.is_valid(row).then(|| column.values.bytes_at(row)));
    match field.data_type {
        DataType::Geometry => {
            let mut out = BinaryBuilder::new();
            rows().for_each(|value| out.append_option(value));
            Ok(Arc::new(out.finish()))
        }
        DataType::SparseFloatVector => {
            let mut out = StringBuilder::new();
            rows().for_each(|value| out.append_option(value.map(sparse_json::write)));
            Ok(Arc::new(out.finish()))
        }
        DataType::Array => arrays(field.element_type.unwrap_or(field.data_type), rows()),
        _ => {
            let mut out = StringBuilder::new();
            for value in rows() {
                out.append_option(value.map(std::str::from_utf8).transpose().map_err(|e| e.to_string())?);
            }
            Ok(Arc::new(out.finish()))
        }
    }
}

fn arrays<'a>(element_type: DataType, rows: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef, String> {
    macro_rules! lists {
        ($builder:ty, $elements:path, $append:expr) => {
            lists(scalar_type(element_type), <$builder>::new(), rows, |out: &mut $builder, array| match array {
                $elements(values) => $append(out, values),
                other => Err(format!("an array of {element_type:?} is {other:?}")),
            })
        };
    }
    /// Appends values of a type that the wire widens.
    macro_rules! narrow {
        ($type:ty) => {
            |out: &mut PrimitiveBuilder<$type>, values: Vec<i32>| {
                values
                    .into_iter()
                    .try_for_each(|value| value.try_into().map(|value| out.append_value(value)).map_err(|e| format!("{value}: {e}")))
            }
        };
    }
    macro_rules! same {
        ($builder:ty, $value:ty) => {
            |out: &mut $builder, values: Vec<$value>| {
                out.append_slice(&values);
                Ok(())
            }
        };
    }
    match element_type {
        DataType::Bool => lists!(BooleanBuilder, Elements::Bools, same!(BooleanBuilder, bool)),
        DataType::Int8 => lists!(Int8Builder, Elements::Ints, narrow!(Int8Type)),
        DataType::Int16 => lists!(Int16Builder, Elements::Ints, narrow!(Int16Type)),
        DataType::Int64 => lists!(Int64Builder, Elements::Longs, same!(Int64Builder, i64)),
        DataType::Float => lists!(Float32Builder, Elements::Floats, same!(Float32Builder, f32)),
        DataType::Double => lists!(Float64Builder, Elements::Doubles, same!(Float64Builder, f64)),
        DataType::VarChar | DataType::String => lists!(StringBuilder, Elements::Texts, |out: &mut StringBuilder, values: Vec<String>| {
            values.iter().for_each(|text| out.append_value(text));
            Ok(())
        }),
        _ => lists!(Int32Builder, Elements::Ints, same!(Int32Builder, i32)),
    }
}

/// Builds a column of lists of what `append` makes of every array.
fn lists<'a, B: ArrayBuilder>(
    data_type: ArrowType,
    items: B,
    rows: impl Iterator<Item = Option<&'a [u8]>>,
    append: impl Fn(&mut B, Elements) -> Result<(), String>,
) -> Result<ArrayRef, String> {
    let mut out = ListBuilder::new(items).with_field(element(data_type));
    for row in rows {
        if let Some(array) = row.map(Elements::decode).transpose()?.flatten() {
            append(out.values(), array)?;
        }
        out.append(row.is_some());
    }
    Ok(Arc::new(out.finish()))
}
