//! A column as a Parquet file, the same bytes for the same values whatever the host, the thread or the day.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::Type as Schema;
use tidegate_message::columns::{DataType, FieldColumn, Values};

use crate::WriteError;

/// Rows given to the Parquet writer at a time; pages are cut between slices, so this is part of the format.
const SLICE_ROWS: usize = 1024;
/// Bytes and rows at which a data page ends, and bytes at which a dictionary is given up.
const PAGE_BYTES: usize = 1024 * 1024;
const PAGE_ROWS: usize = 20_000;
/// Compression level of Milvus' own writer.
const ZSTD_LEVEL: i32 = 3;
/// Written into every file; a version here would change the bytes with every release.
const CREATED_BY: &str = "tidegate";
/// Milvus' flush path names the column so; readers go by position.
const COLUMN_NAME: &str = "val";

/// Appends the Parquet file of a checked column.
pub(crate) fn append_column(out: &mut Vec<u8>, column: &FieldColumn, dictionary: bool) -> Result<(), WriteError> {
    append(out, column, dictionary).map_err(|e| WriteError::Column { field: column.field_id, problem: e.to_string() })
}

fn append(out: &mut Vec<u8>, column: &FieldColumn, dictionary: bool) -> Result<(), ParquetError> {
    let schema = Schema::group_type_builder("schema").with_fields(vec![Arc::new(column_schema(column)?)]).build()?;
    let properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_dictionary_enabled(dictionary)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_write_batch_size(SLICE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .build();
    let mut file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    if let Some(mut writer) = group.next_column()? {
        write_values(&mut writer, &column.values)?;
        writer.close()?;
    }
    group.close()?;
    file.close()?;
    Ok(())
}

fn column_schema(column: &FieldColumn) -> Result<Schema, ParquetError> {
    let integer = |bits| Some(LogicalType::integer(bits, true));
    let (physical, logical) = match column.data_type {
        DataType::Bool => (Physical::BOOLEAN, None),
        DataType::Int8 => (Physical::INT32, integer(8)),
        DataType::Int16 => (Physical::INT32, integer(16)),
        DataType::Int32 => (Physical::INT32, None),
        DataType::Int64 | DataType::Timestamptz => (Physical::INT64, None),
        DataType::Float => (Physical::FLOAT, None),
        DataType::Double => (Physical::DOUBLE, None),
        DataType::String | DataType::VarChar | DataType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        DataType::Array | DataType::Json | DataType::Geometry | DataType::SparseFloatVector => (Physical::BYTE_ARRAY, None),
        DataType::BinaryVector | DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
            (Physical::FIXED_LEN_BYTE_ARRAY, None)
        }
    };
    let width = match &column.values {
        Values::Fixed { width, .. } => i32::try_from(*width)?,
        _ => -1,
    };
    Schema::primitive_type_builder(COLUMN_NAME, physical)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(logical)
        .with_length(width)
        .build()
}

fn write_values(writer: &mut SerializedColumnWriter<'_>, values: &Values) -> Result<(), ParquetError> {
    match values {
        Values::Bool(v) => write_slices::<BoolType>(writer, v.chunks(SLICE_ROWS)),
        Values::Int8(v) => write_slices::<Int32Type>(writer, v.chunks(SLICE_ROWS).map(widen)),
        Values::Int16(v) => write_slices::<Int32Type>(writer, v.chunks(SLICE_ROWS).map(widen)),
        Values::Int32(v) => write_slices::<Int32Type>(writer, v.chunks(SLICE_ROWS)),
        Values::Int64(v) => write_slices::<Int64Type>(writer, v.chunks(SLICE_ROWS)),
        Values::Float(v) => write_slices::<FloatType>(writer, v.chunks(SLICE_ROWS)),
        Values::Double(v) => write_slices::<DoubleType>(writer, v.chunks(SLICE_ROWS)),
        Values::Bytes { ends, bytes } => {
            let mut start = 0;
            let slices = ends.chunks(SLICE_ROWS).map(|ends| {
                // One copy a slice, shared by its values; a whole column would double what is staged.
                let base = start;
                start = ends.last().copied().unwrap_or(base);
                let shared = Bytes::copy_from_slice(&bytes[base..start]);
                let mut from = 0;
                let value = |end: &usize| {
                    let value = shared.slice(from..end - base);
                    from = end - base;
                    ByteArray::from(value)
                };
                ends.iter().map(value).collect::<Vec<_>>()
            });
            write_slices::<ByteArrayType>(writer, slices)
        }
        Values::Fixed { width, bytes } => {
            let slices = bytes.chunks(SLICE_ROWS.saturating_mul(*width)).map(|chunk| {
                let shared = Bytes::copy_from_slice(chunk);
                let value = |at| FixedLenByteArray::from(ByteArray::from(shared.slice(at..at + width)));
                (0..chunk.len()).step_by(*width).map(value).collect::<Vec<_>>()
            });
            write_slices::<FixedLenByteArrayType>(writer, slices)
        }
    }
}

fn widen<T: Copy + Into<i32>>(values: &[T]) -> Vec<i32> {
    values.iter().map(|&v| v.into()).collect()
}

fn write_slices<T: parquet::data_type::DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    slices: impl Iterator<Item = impl AsRef<[T::T]>>,
) -> Result<(), ParquetError> {
    for slice in slices {
        writer.typed::<T>().write_batch(slice.as_ref(), None, None)?;
    }
    Ok(())
}
