//! The columns of a Parquet payload, whoever wrote it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use tidegate_message::columns::Values;

use crate::{ReadError, pages};

/// Rows decoded at a time.
const SLICE_ROWS: usize = 4096;
/// Most bytes that the values of one file may take; a dictionary, or nulls, can make a small file say a great deal.
pub(crate) const VALUES_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// A value among [`Values::Bytes`] also costs its end offset.
const END_BYTES: usize = size_of::<usize>();
/// Most columns of a payload: Milvus allows 256 fields a collection at most.
const COLUMNS_MAX: usize = 1024;

/// One column, typed as Parquet stores it: small integers are still Int32.
pub(crate) struct Column {
    pub name: String,
    /// Parquet's own field id.
    pub id: Option<i32>,
    /// Flags of an OPTIONAL column: false is null, and the value then its type's zero.
    pub valid: Option<Vec<bool>>,
    pub values: Values,
}

/// A Parquet file, decoded.
pub(crate) struct Table {
    pub columns: Vec<Column>,
    /// Rows of every row group.
    pub row_groups: Vec<usize>,
    /// Key-value pairs of the footer.
    pub footer: Vec<(String, String)>,
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
    let damaged = |e: ParquetError| ReadError::damaged(base, format!("Parquet payload: {e}"));
    let file = SerializedFileReader::new(Bytes::copy_from_slice(payload)).map_err(damaged)?;
    let metadata = file.metadata().file_metadata();
    let schema = metadata.schema_descr_ptr();
    let width = schema.num_columns();
    if !(1..=COLUMNS_MAX).contains(&width) {
        return Err(ReadError::unsupported(base, format!("{width} columns, a segment file has 1 to {COLUMNS_MAX}")));
    }
    let pairs = metadata.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let footer = pairs.iter().filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect();
    let number = |what: &str, n: i64| {
        usize::try_from(n).map_err(|_| ReadError::damaged(base, format!("{what}: {n} where a number of rows, a size or an offset is")))
    };
    let row_groups: Vec<usize> =
        file.metadata().row_groups().iter().map(|group| number("row group", group.num_rows())).collect::<Result<_, _>>()?;
    let mut columns = Vec::with_capacity(width);
    let mut left = VALUES_BYTES_MAX;
    for (index, column) in schema.columns().iter().enumerate() {
        let name = column.name().to_owned();
        if column.max_rep_level() != 0 || column.max_def_level() > 1 {
            return Err(ReadError::unsupported(base, format!("column {name:?} is nested")));
        }
        let mut values = empty(column.physical_type(), column.type_length())
            .ok_or_else(|| ReadError::unsupported(base, format!("column {name:?} is {}", column.physical_type())))?;
        let mut sink = Sink { left: &mut left, valid: (column.max_def_level() == 1).then(Vec::new) };
        for (nth, &rows) in row_groups.iter().enumerate() {
            let group = file.get_row_group(nth).map_err(damaged)?;
            let chunk = group.metadata().column(index);
            let start = number(&name, chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset()))?;
            let end = start.saturating_add(number(&name, chunk.compressed_size())?);
            pages::check(payload, start..end, rows, base)?;
            let reader = group.get_column_reader(index).map_err(damaged)?;
            append(&mut values, reader, rows, &mut sink).map_err(|stop| match stop {
                Stop::Parquet(e) => damaged(e),
                Stop::TooLarge => {
                    ReadError::unsupported(base, format!("more than {VALUES_BYTES_MAX} bytes of values, reached in column {name:?}"))
                }
            })?;
        }
        let info = column.self_type().get_basic_info();
        columns.push(Column { name, id: info.has_id().then(|| info.id()), valid: sink.valid, values });
    }
    Ok(Table { columns, row_groups, footer })
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
