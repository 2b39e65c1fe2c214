//! The columns of a Parquet payload, whoever wrote it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tidegate_message::columns::Values;

use crate::page_values::CheckedPages;
use crate::{ReadError, footer, pages};

/// Rows decoded at a time.
const SLICE_ROWS: usize = 4096;
/// Bytes that they may take whatever the size of the file: Milvus flushes batches of 16 MiB and compacts into
/// files of 64 MiB, and one value or null repeated is a few bytes in a dictionary and its runs.
const UNPACKED_BYTES: usize = 64 * 1024 * 1024;
/// Times its size that a larger file's page, and its values, may take.
const UNPACKED_TIMES: usize = 32;
/// A value among [`Values::Bytes`] also costs its end offset.
const END_BYTES: usize = size_of::<usize>();
/// Most columns of a payload: Milvus allows 256 fields a collection at most.
const COLUMNS_MAX: usize = 1024;

/// Bytes that a page, and all values, of a file may take.
pub(crate) fn unpacked_max(file_bytes: usize) -> usize {
    UNPACKED_BYTES.max(file_bytes.saturating_mul(UNPACKED_TIMES))
}

/// One column, typed as Parquet stores it: small integers are still Int32.
pub(crate) struct Column {
    pub name: String,
    /// Parquet's own field id.
    pub id: Option<i32>,
    /// Flags of an OPTIONAL column: false is null, and the value then its type's zero.
    pub valid: Option<Vec<bool>>,
    pub values: Values,
    /// Where in the file it begins.
    pub at: usize,
}

/// A Parquet file, decoded.
pub(crate) struct Table {
    pub columns: Vec<Column>,
    /// Rows of every row group.
    pub row_groups: Vec<usize>,
    /// Key-value pairs of the footer.
    pub footer: Vec<(String, String)>,
    /// Where in the file the footer begins.
    pub footer_at: usize,
}

/// Reads a payload that lies at `base` in its file.
///
/// The Parquet crate asserts some of what it expects of a file. This is the one place where such a panic of foreign code over
/// foreign bytes becomes an error; nothing that lives on is borrowed by the closure.
pub(crate) fn read_table(payload: &[u8], base: usize) -> Result<Table, ReadError> {
    catch_unwind(AssertUnwindSafe(|| read(payload, base)))
        .unwrap_or_else(|_| Err(ReadError::damaged(base, "the Parquet payload contradicts itself")))
}

fn read(payload: &[u8], base: usize) -> Result<Table, ReadError> {
    // What is wrong in the footer is not said more closely than by its offset.
    let footer_at = footer::check(payload, base, COLUMNS_MAX)?;
    let parquet = |at: usize| move |e: ParquetError| ReadError::damaged(at, format!("Parquet payload: {e}"));
    let file = SerializedFileReader::new(Bytes::copy_from_slice(payload)).map_err(parquet(footer_at))?;
    let metadata = file.metadata().file_metadata();
    let schema = metadata.schema_descr_ptr();
    let pairs = metadata.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let footer = pairs.iter().filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
    let number = |what: &str, n: i64| {
        usize::try_from(n).map_err(|_| ReadError::damaged(footer_at, format!("{what}: {n} where a number of rows, a size or an offset is")))
    };
    let row_groups: Vec<usize> =
        file.metadata().row_groups().iter().map(|group| number("row group", group.num_rows())).collect::<Result<_, _>>()?;
    let mut columns = Vec::with_capacity(schema.num_columns());
    let bytes_max = unpacked_max(payload.len());
    let (mut left, mut unread) = (bytes_max, payload.len());
    for (index, column) in schema.columns().iter().enumerate() {
        let name = column.name().to_owned();
        if column.max_rep_level() != 0 || column.max_def_level() > 1 {
            return Err(ReadError::unsupported(footer_at, format!("column {name:?} is nested")));
        }
        let mut values = empty(column.physical_type(), column.type_length())
            .ok_or_else(|| ReadError::unsupported(footer_at, format!("column {name:?} is {}", column.physical_type())))?;
        let mut sink = Sink { left: &mut left, valid: (column.max_def_level() == 1).then(Vec::new) };
        let mut at = footer_at;
        for (nth, &rows) in row_groups.iter().enumerate() {
            let group = file.get_row_group(nth).map_err(parquet(footer_at))?;
            let chunk = group.metadata().column(index);
            let start = number(&name, chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()))?;
            let packed = number(&name, chunk.compressed_size())?;
            // Columns and row groups that share their pages would make a small file take for ever.
            unread = unread.checked_sub(packed).ok_or_else(|| ReadError::damaged(footer_at, "the columns are larger than the payload"))?;
            pages::check(payload, start..start.saturating_add(packed), rows, bytes_max, base)?;
            let chunk_at = base + start;
            at = at.min(chunk_at);
            let pages = group.get_column_page_reader(index).map_err(parquet(chunk_at))?;
            let reader = get_column_reader(column.clone(), Box::new(CheckedPages { pages, column: column.clone() }));
            append(&mut values, reader, rows, &mut sink).map_err(|stop| match stop {
                Stop::Parquet(e) => parquet(chunk_at)(e),
                Stop::TooLarge => {
                    ReadError::unsupported(chunk_at, format!("more than {bytes_max} bytes of values, reached in column {name:?}"))
                }
            })?;
        }
        let info = column.self_type().get_basic_info();
        columns.push(Column { name, id: info.has_id().then(|| info.id()), valid: sink.valid, values, at });
    }
    Ok(Table { columns, row_groups, footer, footer_at })
}

enum Stop {
    Parquet(ParquetError),
    TooLarge,
}

/// What values take besides their place: bytes of the budget, and flags if the column is OPTIONAL.
struct Sink<'a> {
    left: &'a mut usize,
    valid: Option<Vec<bool>>,
}

impl Sink<'_> {
    fn spend(&mut self, bytes: usize) -> Result<(), Stop> {
        *self.left = self.left.checked_sub(bytes).ok_or(Stop::TooLarge)?;
        Ok(())
    }
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

fn append(values: &mut Values, reader: ColumnReader, rows: usize, sink: &mut Sink<'_>) -> Result<(), Stop> {
    match (values, reader) {
        (Values::Bool(out), ColumnReader::BoolColumnReader(reader)) => extend(reader, rows, sink, out),
        (Values::Int32(out), ColumnReader::Int32ColumnReader(reader)) => extend(reader, rows, sink, out),
        (Values::Int64(out), ColumnReader::Int64ColumnReader(reader)) => extend(reader, rows, sink, out),
        (Values::Float(out), ColumnReader::FloatColumnReader(reader)) => extend(reader, rows, sink, out),
        (Values::Double(out), ColumnReader::DoubleColumnReader(reader)) => extend(reader, rows, sink, out),
        (Values::Bytes { ends, bytes }, ColumnReader::ByteArrayColumnReader(reader)) => drain(
            reader,
            rows,
            sink,
            |value| value.map_or(0, ByteArray::len) + END_BYTES,
            |value| {
                bytes.extend_from_slice(value.map_or(&[], ByteArray::data));
                ends.push(bytes.len());
            },
        ),
        (Values::Fixed { width, bytes }, ColumnReader::FixedLenByteArrayColumnReader(reader)) => drain(
            reader,
            rows,
            sink,
            |_| *width,
            |value| match value {
                Some(value) => bytes.extend_from_slice(value.data()),
                None => bytes.resize(bytes.len() + *width, 0),
            },
        ),
        _ => Err(Stop::Parquet(ParquetError::General("the column's type differs from the schema's".to_owned()))),
    }
}

fn extend<T: DataType>(reader: ColumnReaderImpl<T>, rows: usize, sink: &mut Sink<'_>, out: &mut Vec<T::T>) -> Result<(), Stop> {
    drain(reader, rows, sink, |_| size_of::<T::T>(), |value| out.push(value.cloned().unwrap_or_default()))
}

/// Hands all `rows` values to `take`, `None` for a null, slice by slice and after their `size` is paid; a missing value is an error.
fn drain<T: DataType>(
    mut reader: ColumnReaderImpl<T>,
    rows: usize,
    sink: &mut Sink<'_>,
    size: impl Fn(Option<&T::T>) -> usize,
    mut take: impl FnMut(Option<&T::T>),
) -> Result<(), Stop> {
    let (mut values, mut definitions) = (Vec::new(), Vec::new());
    let mut left = rows;
    while left > 0 {
        values.clear();
        definitions.clear();
        let levels = sink.valid.is_some().then_some(&mut definitions);
        let (records, present, _) = reader.read_records(left.min(SLICE_ROWS), levels, None, &mut values).map_err(Stop::Parquet)?;
        if records == 0 || (sink.valid.is_none() && present != records) {
            return Err(Stop::Parquet(ParquetError::EOF(format!("{left} of {rows} rows are missing"))));
        }
        let nulls = records.saturating_sub(present);
        sink.spend(values.iter().map(|value| size(Some(value))).sum::<usize>() + nulls * size(None))?;
        if let Some(valid) = sink.valid.as_mut() {
            let mut values = values.iter();
            for level in &definitions {
                let value = if *level == 1 { values.next() } else { None };
                valid.push(value.is_some());
                take(value);
            }
            sink.spend(records)?;
        } else {
            values.iter().for_each(|value| take(Some(value)));
        }
        left = left.saturating_sub(records);
    }
    Ok(())
}
