//! Any segment file, by what it begins with.

use serde_json::Value;
use tidegate_message::columns::{DataType, Deletes, FieldColumn, Values};

use crate::columns::{UNKNOWN, slice, storage_name, type_name};
use crate::delta::read_delta;
use crate::envelope::{Envelope, EventKind, PAYLOAD_TYPE_AT};
use crate::parquet_read::{read_table, unpacked_max};
use crate::statistics::read_statistics;
use crate::{PackedFile, PkStatistics, ReadError, packed_read, read_packed};

/// Times what a file's values may take that its vectors may take once nulls are vectors of zeros.
const VECTORS_TIMES: usize = 4;

/// A segment file, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Binlog {
    /// One field of one batch.
    Insert(InsertLog),
    /// Deletes.
    Delta(DeltaLog),
    /// Some columns of one batch: a packed file.
    Packed(PackedFile),
    /// Primary key statistics, one entry a batch.
    Statistics(Vec<PkStatistics>),
}

/// One field of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct InsertLog {
    /// What the file says about itself.
    pub envelope: Envelope,
    /// The values; the name is the Parquet column's, and the file does not know whether it is the primary key.
    pub column: FieldColumn,
}

/// Deletes.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaLog {
    /// What the file says about itself.
    pub envelope: Envelope,
    /// Keys and ticks, in the order of the file.
    pub deletes: Deletes,
}

/// Decodes a segment file of Milvus 2.3 to 2.6 or of Tidegate, of either layout.
///
/// Never panics, and refuses a file before memory is reserved for what it claims: a page, and all values together, may take 64 MiB, or 32
/// times the size of the file if that is more; vectors four times as much once nulls are zeros. At its peak a call has less than 512 MiB
/// and 256 times the file's size allocated, zstd's own working memory apart; the test `mutations` measures it.
pub fn read(bytes: &[u8]) -> Result<Binlog, ReadError> {
    if packed_read::begins(bytes) {
        return read_packed(bytes).map(Binlog::Packed);
    }
    if !Envelope::begins(bytes) {
        return match bytes.first() {
            Some(b'{' | b'[') => read_statistics(bytes).map(Binlog::Statistics),
            _ => Err(ReadError::Foreign { found: first_bytes(bytes) }),
        };
    }
    let envelope = Envelope::parse(bytes)?;
    match envelope.kind {
        EventKind::Insert => Ok(Binlog::Insert(InsertLog { column: read_insert(bytes, &envelope)?, envelope })),
        EventKind::Delete => Ok(Binlog::Delta(DeltaLog { deletes: read_delta(bytes, &envelope)?, envelope })),
    }
}

/// Decodes the column of an insert log; any other file is an error.
pub fn read_column(bytes: &[u8]) -> Result<FieldColumn, ReadError> {
    match read(bytes)? {
        Binlog::Insert(log) => Ok(log.column),
        other => Err(ReadError::Kind { expected: "an insert log", found: other.name() }),
    }
}

/// Decodes the deletes of a delta log; any other file is an error.
pub fn read_deletes(bytes: &[u8]) -> Result<Deletes, ReadError> {
    match read(bytes)? {
        Binlog::Delta(log) => Ok(log.deletes),
        other => Err(ReadError::Kind { expected: "a delta log", found: other.name() }),
    }
}

impl Binlog {
    fn name(&self) -> &'static str {
        match self {
            Binlog::Insert(_) => "an insert log",
            Binlog::Delta(_) => "a delta log",
            Binlog::Packed(_) => "a packed file",
            Binlog::Statistics(_) => "primary key statistics",
        }
    }
}

fn first_bytes(bytes: &[u8]) -> String {
    match bytes.get(..4) {
        Some(first) => {
            format!("it begins with {first:02x?}, a binlog with [bc, fa, ff, 00], a packed file with PAR1, statistics with '{{' or '['")
        }
        None => format!("it has {} bytes", bytes.len()),
    }
}

pub(crate) fn read_insert(bytes: &[u8], envelope: &Envelope) -> Result<FieldColumn, ReadError> {
    let at = envelope.payload_at;
    let code = envelope.payload_type;
    let data_type = DataType::from_code(code).ok_or_else(|| match type_name(code) {
        UNKNOWN => ReadError::damaged(PAYLOAD_TYPE_AT, format!("values of type {code}, which Milvus does not have")),
        name => ReadError::unsupported(PAYLOAD_TYPE_AT, format!("values of type {name} ({code})")),
    })?;
    let mut columns = read_table(bytes.get(at..).unwrap_or_default(), at)?.columns.into_iter();
    let (Some(column), None) = (columns.next(), columns.next()) else {
        return Err(ReadError::unsupported(at, "an insert log with more than one column"));
    };
    // Nulls are zeros in memory and nothing in the file.
    let vectors_max = unpacked_max(bytes.len()).saturating_mul(VECTORS_TIMES);
    let damaged = |problem: String| ReadError::damaged(column.at, problem);
    let values = match column.values {
        Values::Bytes { ends, bytes } if data_type.is_dense_vector() => {
            vectors(&ends, &bytes, column.valid.as_deref().unwrap_or_default(), vectors_max).map_err(damaged)?
        }
        values => narrow(values, data_type).map_err(damaged)?,
    };
    // Milvus' compaction marks every column OPTIONAL; whether the field is nullable stands in the extras.
    let valid = match envelope.extras.get("nullable").and_then(Value::as_bool) {
        Some(true) => Some(column.valid.unwrap_or_else(|| vec![true; values.len()])),
        _ if column.valid.is_some_and(|valid| valid.contains(&false)) => {
            return Err(ReadError::unsupported(column.at, format!("column {:?} has nulls", column.name)));
        }
        _ => None,
    };
    Ok(FieldColumn { field_id: envelope.field, name: column.name, data_type, is_primary: false, valid, values })
}

/// Gives the vectors of a nullable field, stored as values of one length, zeros where there is none. Of nulls alone, nobody knows how
/// wide they are: their width is 0.
fn vectors(ends: &[usize], bytes: &[u8], valid: &[bool], bytes_max: usize) -> Result<Values, String> {
    let value = |row: usize| slice(ends, bytes, row);
    let present = || (0..ends.len()).filter(|&row| valid.get(row).copied().unwrap_or(true));
    let width = present().next().map_or(0, |row| value(row).len());
    if let Some(row) = present().find(|&row| value(row).len() != width || width == 0) {
        return Err(format!("value {row} is a vector of {} bytes among vectors of {width}", value(row).len()));
    }
    let total = ends.len().checked_mul(width).filter(|&total| total <= bytes_max);
    let too_large = || format!("{} vectors of {width} bytes, more than {bytes_max} with nulls as zeros", ends.len());
    let mut all = Vec::with_capacity(total.ok_or_else(too_large)?);
    for row in 0..ends.len() {
        all.extend_from_slice(value(row));
        all.resize((row + 1) * width, 0);
    }
    Ok(Values::Fixed { width, bytes: all })
}

/// Gives values as Parquet stores them the type that the descriptor names.
pub(crate) fn narrow(values: Values, data_type: DataType) -> Result<Values, String> {
    fn each<T: TryFrom<i32>>(values: &[i32]) -> Result<Vec<T>, String> {
        values.iter().map(|&v| T::try_from(v).map_err(|_| format!("value {v} is out of its type's range"))).collect()
    }
    match (data_type, values) {
        (DataType::Int8, Values::Int32(v)) => each(&v).map(Values::Int8),
        (DataType::Int16, Values::Int32(v)) => each(&v).map(Values::Int16),
        (DataType::Bool, v @ Values::Bool(_))
        | (DataType::Int32, v @ Values::Int32(_))
        | (DataType::Int64 | DataType::Timestamptz, v @ Values::Int64(_))
        | (DataType::Float, v @ Values::Float(_))
        | (DataType::Double, v @ Values::Double(_))
        | (DataType::Array | DataType::Json | DataType::Geometry | DataType::SparseFloatVector, v @ Values::Bytes { .. }) => Ok(v),
        (data_type, Values::Bytes { ends, bytes }) if data_type.is_text() => {
            let column = FieldColumn {
                field_id: 0,
                name: String::new(),
                data_type,
                is_primary: false,
                valid: None,
                values: Values::Bytes { ends, bytes },
            };
            crate::columns::row_count(&column).map_err(|e| e.to_string())?;
            Ok(column.values)
        }
        (data_type, v @ Values::Fixed { .. }) if data_type.is_dense_vector() => Ok(v),
        (data_type, values) => Err(format!("the descriptor says {data_type:?}, the payload has {} values", storage_name(&values))),
    }
}
