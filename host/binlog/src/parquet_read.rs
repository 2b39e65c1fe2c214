//! The columns of a Parquet payload, whoever wrote it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tidegate_message::columns::Values;

use crate::{ReadError, pages};

/// Rows decoded at a time.
const SLICE_ROWS: usize = 4096;
/// Most bytes that the values of one column may take; a dictionary can make a small file say a great deal.
const COLUMN_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// A value among [`Values::Bytes`] also costs its end offset.
const END_BYTES: usize = size_of::<usize>();
/// Most columns of a payload: a parquet delta log has two.
const COLUMNS_MAX: usize = 2;

/// One column, typed as Parquet stores it: small integers are still Int32.
pub(crate) struct Column {
    pub name: String,
    pub values: Values,
}

/// Reads all columns of a payload that lies at `base` in its file.
///
/// The Parquet crate asserts some of what it expects of a file. This is the one place where such a panic of foreign code over
/// foreign bytes becomes an error; nothing that lives on is borrowed by the closure.
pub(crate) fn read_columns(payload: &[u8], base: usize) -> Result<Vec<Column>, ReadError> {
    catch_unwind(AssertUnwindSafe(|| read(payload, base)))
        .unwrap_or_else(|_| Err(ReadError::damaged(base, "the Parquet payload contradicts itself")))
}

fn read(payload: &[u8], base: usize) -> Result<Vec<Column>, ReadError> {
    let damaged = |e: parquet::errors::ParquetError| ReadError::damaged(base, format!("Parquet payload: {e}"));
    let file = SerializedFileReader::new(Bytes::copy_from_slice(payload)).map_err(damaged)?;
    let schema = file.metadata().file_metadata().schema_descr_ptr();
    let columns = schema.num_columns();
    if !(1..=COLUMNS_MAX).contains(&columns) {
        return Err(ReadError::unsupported(base, format!("{columns} columns, a binlog has 1 or {COLUMNS_MAX}")));
    }
    let mut out = Vec::with_capacity(columns);
    for (index, column) in schema.columns().iter().enumerate() {
        let name = column.name().to_owned();
        if column.max_rep_level() != 0 || column.max_def_level() > 1 {
            return Err(ReadError::unsupported(base, format!("column {name:?} is nested")));
        }
        let mut values = empty(column.physical_type(), column.type_length())
            .ok_or_else(|| ReadError::unsupported(base, format!("column {name:?} is {}", column.physical_type())))?;
        for group in 0..file.num_row_groups() {
            let group = file.get_row_group(group).map_err(damaged)?;
            let chunk = group.metadata().column(index);
            let number = |n: i64| {
                usize::try_from(n).map_err(|_| ReadError::damaged(base, format!("column {name:?}: {n} where a size or an offset is")))
            };
            let start = number(chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()))?;
            let end = start.saturating_add(number(chunk.compressed_size())?);
            let rows = number(group.metadata().num_rows())?;
            pages::check(payload, start..end, rows, base)?;
            let reader = group.get_column_reader(index).map_err(damaged)?;
            append(&mut values, reader, rows, column.max_def_level() == 1).map_err(|stop| match stop {
                Stop::Parquet(e) => damaged(e),
                Stop::Null => ReadError::unsupported(base, format!("column {name:?} has nulls")),
                Stop::TooLarge => ReadError::unsupported(base, format!("column {name:?} has more than {COLUMN_BYTES_MAX} bytes")),
            })?;
        }
        out.push(Column { name, values });
    }
    Ok(out)
}

enum Stop {
    Parquet(parquet::errors::ParquetError),
    Null,
    TooLarge,
}

fn empty(physical: Physical, width: i32) -> Option<Values> {
    Some(match physical {
        Physical::BOOLEAN => Values::Bool(Vec::new()),
        Physical::INT32 => Values::Int32(Vec::new()),
        Physical::INT64 => Values::Int64(Vec::new()),
        Physical::FLOAT => Values::Float(Vec::new()),
        Physical::DOUBLE => Values::Double(Vec::new()),
        Physical::BYTE_ARRAY => Values::Bytes { ends: Vec::new(), bytes: Vec::new() },
        Physical::FIXED_LEN_BYTE_ARRAY => {
            Values::Fixed { width: usize::try_from(width).ok().filter(|&width| width > 0)?, bytes: Vec::new() }
        }
        Physical::INT96 => return None,
    })
}

fn append(values: &mut Values, reader: ColumnReader, rows: usize, optional: bool) -> Result<(), Stop> {
    match (values, reader) {
        (Values::Bool(out), ColumnReader::BoolColumnReader(reader)) => extend(reader, rows, optional, out),
        (Values::Int32(out), ColumnReader::Int32ColumnReader(reader)) => extend(reader, rows, optional, out),
        (Values::Int64(out), ColumnReader::Int64ColumnReader(reader)) => extend(reader, rows, optional, out),
        (Values::Float(out), ColumnReader::FloatColumnReader(reader)) => extend(reader, rows, optional, out),
        (Values::Double(out), ColumnReader::DoubleColumnReader(reader)) => extend(reader, rows, optional, out),
        (Values::Bytes { ends, bytes }, ColumnReader::ByteArrayColumnReader(reader)) => drain(reader, rows, optional, |slice| {
            let more: usize = slice.iter().map(|value| value.len() + END_BYTES).sum();
            fits(bytes.len() + ends.len() * END_BYTES, more)?;
            for value in slice {
                bytes.extend_from_slice(value.data());
                ends.push(bytes.len());
            }
            Ok(())
        }),
        (Values::Fixed { bytes, .. }, ColumnReader::FixedLenByteArrayColumnReader(reader)) => drain(reader, rows, optional, |slice| {
            fits(bytes.len(), slice.iter().map(|value| value.len()).sum())?;
            slice.iter().for_each(|value| bytes.extend_from_slice(value.data()));
            Ok(())
        }),
        _ => Err(Stop::Parquet(parquet::errors::ParquetError::General("the column's type differs from the schema's".to_owned()))),
    }
}

fn extend<T: DataType>(reader: ColumnReaderImpl<T>, rows: usize, optional: bool, out: &mut Vec<T::T>) -> Result<(), Stop> {
    drain(reader, rows, optional, |slice| {
        fits(size_of_val(out.as_slice()), size_of_val(slice))?;
        out.extend_from_slice(slice);
        Ok(())
    })
}

fn fits(bytes: usize, more: usize) -> Result<(), Stop> {
    bytes.checked_add(more).filter(|&sum| sum <= COLUMN_BYTES_MAX).map(drop).ok_or(Stop::TooLarge)
}

/// Hands all `rows` values to `take`, slice by slice; a null or a missing value is an error.
fn drain<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    optional: bool,
    mut take: impl FnMut(&[T::T]) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let (mut values, mut definitions) = (Vec::new(), Vec::new());
    let mut left = rows;
    while left > 0 {
        values.clear();
        definitions.clear();
        let levels = optional.then_some(&mut definitions);
        let (records, present, _) = reader.read_records(left.min(SLICE_ROWS), levels, None, &mut values).map_err(Stop::Parquet)?;
        if records == 0 {
            return Err(Stop::Parquet(parquet::errors::ParquetError::EOF(format!("{left} of {rows} rows are missing"))));
        }
        if present != records {
            return Err(Stop::Null);
        }
        take(&values)?;
        left = left.saturating_sub(records);
    }
    Ok(())
}
