//! Columns as a Parquet file, the same bytes for the same values whatever the host, the thread or the day.

use std::borrow::Cow;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{ColumnPath, Type as Schema};
use tidegate_message::columns::{DataType, FieldColumn, ROW_ID_FIELD, Values};

use crate::WriteError;
use crate::compression::{self, ZSTD_LEVEL};

/// Rows given to the Parquet writer at a time; pages are cut between slices, so this is part of the format.
const SLICE_ROWS: usize = 1024;
/// Bytes and rows at which a data page ends, and bytes at which a dictionary is given up.
const PAGE_BYTES: usize = 1024 * 1024;
const PAGE_ROWS: usize = 20_000;
/// Written into every file; a version here would change the bytes with every release.
const CREATED_BY: &str = "tidegate";
/// Milvus' flush path names the column of an insert log so; readers go by position.
const COLUMN_NAME: &str = "val";

/// A checked column and how it is stored. It is OPTIONAL if it has flags of validity, REQUIRED otherwise.
pub(crate) struct Stored<'a> {
    pub column: &'a FieldColumn,
    pub name: Cow<'a, str>,
    /// Parquet's own field id.
    pub id: Option<i32>,
    pub dictionary: bool,
    pub compressed: bool,
}

impl<'a> Stored<'a> {
    /// A column stored as it pays: compressed if its sample shrinks, with a dictionary as Milvus does, except where no value occurs twice
    /// and it only costs time: the primary key, the row id and dense vectors.
    pub fn new(column: &'a FieldColumn, name: impl Into<Cow<'a, str>>) -> Stored<'a> {
        let dictionary = !column.is_primary && column.field_id != ROW_ID_FIELD && !column.data_type.is_dense_vector();
        Stored { column, name: name.into(), id: None, dictionary, compressed: compression::pays(column) }
    }
}

/// Appends the Parquet file of a checked column: the payload of an insert log.
pub(crate) fn append_column(out: &mut Vec<u8>, column: &FieldColumn, rows: usize) -> Result<(), WriteError> {
    append_table(out, &[Stored::new(column, COLUMN_NAME)], slice::from_ref(&(0..rows)), Vec::new())
        .map_err(|e| WriteError::Column { field: column.field_id, problem: e.to_string() })
}

/// Appends the Parquet file of checked columns of one length, with these row groups, which follow one another, and this footer metadata.
pub(crate) fn append_table(
    out: &mut Vec<u8>,
    columns: &[Stored<'_>],
    row_groups: &[Range<usize>],
    footer: Vec<KeyValue>,
) -> Result<(), ParquetError> {
    let fields = columns.iter().map(|stored| column_schema(stored).map(Arc::new)).collect::<Result<_, _>>()?;
    let schema = Schema::group_type_builder("schema").with_fields(fields).build()?;
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by(CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_write_batch_size(SLICE_ROWS)
        .set_data_page_size_limit(PAGE_BYTES)
        .set_dictionary_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS);
    for stored in columns {
        let path = ColumnPath::from(stored.name.as_ref());
        properties = properties.set_column_dictionary_enabled(path.clone(), stored.dictionary);
        if !stored.compressed {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    let mut file = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build()))?;
    for rows in row_groups {
        let mut group = file.next_row_group()?;
        for stored in columns {
            if let Some(mut writer) = group.next_column()? {
                write_rows(&mut writer, stored.column, rows.clone())?;
                writer.close()?;
            }
        }
        group.close()?;
    }
    footer.into_iter().for_each(|pair| file.append_key_value_metadata(pair));
    file.close()?;
    Ok(())
}

fn column_schema(stored: &Stored<'_>) -> Result<Schema, ParquetError> {
    let column = stored.column;
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
        // Milvus keeps nullable vectors as binary values of one length.
        DataType::BinaryVector | DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
            (if column.valid.is_some() { Physical::BYTE_ARRAY } else { Physical::FIXED_LEN_BYTE_ARRAY }, None)
        }
    };
    let width = match &column.values {
        Values::Fixed { width, .. } if physical == Physical::FIXED_LEN_BYTE_ARRAY => i32::try_from(*width)?,
        _ => -1,
    };
    Schema::primitive_type_builder(&stored.name, physical)
        .with_repetition(if column.valid.is_some() { Repetition::OPTIONAL } else { Repetition::REQUIRED })
        .with_logical_type(logical)
        .with_length(width)
        .with_id(stored.id)
        .build()
}

/// Writes some rows of a column, slice by slice.
fn write_rows(writer: &mut SerializedColumnWriter<'_>, column: &FieldColumn, rows: Range<usize>) -> Result<(), ParquetError> {
    for start in rows.clone().step_by(SLICE_ROWS) {
        let slice = start..rows.end.min(start.saturating_add(SLICE_ROWS));
        let valid = column.valid.as_ref().map(|valid| &valid[slice.clone()]);
        match &column.values {
            Values::Bool(v) => put::<BoolType>(writer, &v[slice], valid)?,
            Values::Int8(v) => put::<Int32Type>(writer, &widen(&v[slice]), valid)?,
            Values::Int16(v) => put::<Int32Type>(writer, &widen(&v[slice]), valid)?,
            Values::Int32(v) => put::<Int32Type>(writer, &v[slice], valid)?,
            Values::Int64(v) => put::<Int64Type>(writer, &v[slice], valid)?,
            Values::Float(v) => put::<FloatType>(writer, &v[slice], valid)?,
            Values::Double(v) => put::<DoubleType>(writer, &v[slice], valid)?,
            Values::Bytes { ends, bytes } => {
                // One copy a slice, shared by its values; a whole column would double what is staged.
                let before = slice.start.checked_sub(1).map_or(0, |row| ends[row]);
                let ends = &ends[slice];
                let shared = Bytes::copy_from_slice(&bytes[before..ends.last().copied().unwrap_or(before)]);
                let mut from = 0;
                let value = |end: &usize| ByteArray::from(shared.slice(std::mem::replace(&mut from, end - before)..end - before));
                put::<ByteArrayType>(writer, &ends.iter().map(value).collect::<Vec<_>>(), valid)?;
            }
            Values::Fixed { width, bytes } => {
                let shared = Bytes::copy_from_slice(&bytes[slice.start * width..slice.end * width]);
                let values = (0..slice.len()).map(|row| ByteArray::from(shared.slice(row * width..(row + 1) * width)));
                if valid.is_some() {
                    put::<ByteArrayType>(writer, &values.collect::<Vec<_>>(), valid)?;
                } else {
                    put::<FixedLenByteArrayType>(writer, &values.map(FixedLenByteArray::from).collect::<Vec<_>>(), None)?;
                }
            }
        }
    }
    Ok(())
}

fn widen<T: Copy + Into<i32>>(values: &[T]) -> Vec<i32> {
    values.iter().map(|&v| v.into()).collect()
}

/// Hands one slice to the Parquet writer, which takes the flags of all rows and the values of those that have one.
fn put<T: parquet::data_type::DataType>(
    writer: &mut SerializedColumnWriter<'_>,
    values: &[T::T],
    valid: Option<&[bool]>,
) -> Result<(), ParquetError> {
    let Some(valid) = valid else {
        writer.typed::<T>().write_batch(values, None, None)?;
        return Ok(());
    };
    let present: Vec<T::T> = values.iter().zip(valid).filter(|(_, valid)| **valid).map(|(value, _)| value.clone()).collect();
    let levels: Vec<i16> = valid.iter().map(|&valid| valid.into()).collect();
    writer.typed::<T>().write_batch(&present, Some(&levels), None)?;
    Ok(())
}
