//! A column as a proxy sends it: Milvus `schema.FieldData`.

use std::borrow::Cow;

use bytes::Bytes;

use crate::columns::{DataType, FieldColumn, Values};
use crate::proto::schema::{self, field_data::Field, scalar_field::Data, vector_field::Data as Vectors};
use crate::sparse;

/// The name of the field that holds undeclared keys; no user may give it.
const DYNAMIC_FIELD: &str = "$meta";

/// Returns a column as the proxy sends it: Int8 and Int16 as 32-bit integers; nullable scalars with a value for every row, nullable
/// vectors with those of the rows that have one. An array's element type is left to the schema.
pub(super) fn field_data(column: &FieldColumn) -> schema::FieldData {
    let field = if column.data_type.is_dense_vector() || column.data_type == DataType::SparseFloatVector {
        Field::Vectors(vectors(column))
    } else {
        Field::Scalars(schema::ScalarField { data: Some(scalars(column)) })
    };
    schema::FieldData {
        r#type: column.data_type as i32,
        field_name: column.name.clone(),
        field_id: column.field_id,
        is_dynamic: column.name == DYNAMIC_FIELD,
        valid_data: column.valid.clone().unwrap_or_default(),
        field: Some(field),
    }
}

fn scalars(column: &FieldColumn) -> Data {
    let integers = |data: Vec<i32>| Data::Ints(schema::IntArray { data });
    match &column.values {
        Values::Bool(values) => Data::Bools(schema::BoolArray { data: values.clone() }),
        Values::Int8(values) => integers(values.iter().map(|&v| v.into()).collect()),
        Values::Int16(values) => integers(values.iter().map(|&v| v.into()).collect()),
        Values::Int32(values) => integers(values.clone()),
        Values::Int64(values) if column.data_type == DataType::Timestamptz => Data::Timestamps(schema::LongArray { data: values.clone() }),
        Values::Int64(values) => Data::Longs(schema::LongArray { data: values.clone() }),
        Values::Float(values) => Data::Floats(schema::FloatArray { data: values.clone() }),
        Values::Double(values) => Data::Doubles(schema::DoubleArray { data: values.clone() }),
        values @ (Values::Bytes { .. } | Values::Fixed { .. }) => {
            let data: Vec<Bytes> = (0..values.len()).map(|row| Bytes::copy_from_slice(values.bytes_at(row))).collect();
            match column.data_type {
                DataType::Array => Data::Arrays(schema::ArrayArray { data, element_type: 0 }),
                DataType::Json => Data::Jsons(schema::BytesArray { data }),
                DataType::Geometry => Data::Geometries(schema::BytesArray { data }),
                _ => Data::Strings(schema::BytesArray { data }),
            }
        }
    }
}

fn vectors(column: &FieldColumn) -> schema::VectorField {
    let has_value = |row: &usize| column.is_valid(*row);
    let Values::Fixed { width, bytes } = &column.values else {
        let rows = (0..column.values.len()).filter(has_value);
        let contents: Vec<Bytes> = rows.map(|row| Bytes::copy_from_slice(column.values.bytes_at(row))).collect();
        let dim = contents.iter().filter_map(|row| sparse::pairs(row).last()).map(|(index, _)| i64::from(index) + 1).max().unwrap_or(0);
        let vectors = schema::SparseFloatArray { contents, dim };
        return schema::VectorField { dim, data: Some(Vectors::Sparse(vectors)) };
    };
    let bytes = match column.valid {
        None => Cow::Borrowed(bytes.as_slice()),
        Some(_) => {
            let rows: Vec<&[u8]> =
                bytes.chunks((*width).max(1)).enumerate().filter(|(row, _)| column.is_valid(*row)).map(|(_, v)| v).collect();
            Cow::Owned(rows.concat())
        }
    };
    let (dim, data) = match column.data_type {
        DataType::BinaryVector => (8 * width, Vectors::Binary(Bytes::copy_from_slice(&bytes))),
        DataType::Float16Vector => (width / 2, Vectors::Float16(Bytes::copy_from_slice(&bytes))),
        DataType::BFloat16Vector => (width / 2, Vectors::Bfloat16(Bytes::copy_from_slice(&bytes))),
        DataType::Int8Vector => (*width, Vectors::Int8(Bytes::copy_from_slice(&bytes))),
        _ => {
            let data = bytes.as_chunks().0.iter().map(|&float| f32::from_le_bytes(float)).collect();
            (width / 4, Vectors::Floats(schema::FloatArray { data }))
        }
    };
    schema::VectorField { dim: dim as i64, data: Some(data) }
}
