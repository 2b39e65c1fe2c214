//! Reading packed files, whoever wrote them.

use tidegate_message::columns::{FieldColumn, Values};

use crate::ReadError;
use crate::columns::{slice, value_count};
use crate::packed::{GROUPS_KEY, ROW_GROUPS_KEY, VERSION, VERSION_KEY};
use crate::parquet_read::{Column, Table, read_table};
use crate::read::narrow;

/// Most bytes that the vectors of a nullable column may take once nulls are zeros.
const VECTORS_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// What Parquet files begin and end with.
const MAGIC: &[u8; 4] = b"PAR1";
/// The magic twice, and the footer's length.
const FRAME_BYTES: usize = 12;

/// A packed file, decoded: some columns of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedFile {
    /// Field ids of every column group of the batch, one of which is this file's.
    pub groups: Vec<Vec<i64>>,
    /// Rows of every row group.
    pub row_groups: Vec<usize>,
    /// The columns, in the order of the file.
    pub columns: Vec<PackedColumn>,
}

/// One column of a packed file, as Parquet has it; only a schema knows its type.
#[derive(Clone, Debug, PartialEq)]
pub struct PackedColumn {
    /// Milvus field id.
    pub field: i64,
    /// Flags of an OPTIONAL column: false is null.
    pub valid: Option<Vec<bool>>,
    /// The values; small integers are still Int32, nullable vectors still Bytes. Where there is a null, 0 or no bytes.
    pub values: Values,
}

impl PackedFile {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.row_groups.iter().sum()
    }
}

impl PackedColumn {
    /// Gives the column the type that the schema names: `column` is that field's, and keeps everything but its values and flags.
    ///
    /// # Errors
    ///
    /// The values are of another type or width, or there are nulls in a field that is not nullable.
    pub fn typed(self, column: &FieldColumn) -> Result<FieldColumn, String> {
        let rows = value_count(&self.values);
        let valid = match (&column.valid, self.valid) {
            (Some(_), valid) => Some(valid.unwrap_or_else(|| vec![true; rows])),
            (None, Some(valid)) if valid.contains(&false) => return Err("there are nulls, but the field is not nullable".to_owned()),
            (None, _) => None,
        };
        let values = match (self.values, &column.values) {
            (Values::Bytes { ends, bytes }, Values::Fixed { width, .. }) => vectors(&ends, &bytes, *width, valid.as_deref())?,
            (Values::Fixed { width: found, .. }, Values::Fixed { width, .. }) if found != *width => {
                return Err(format!("vectors of {found} bytes, the schema says {width}"));
            }
            (values, _) => narrow(values, column.data_type)?,
        };
        Ok(FieldColumn { valid, values, name: column.name.clone(), ..*column })
    }
}

/// The vectors of a nullable field: binary values of one width, nothing where there is a null.
fn vectors(ends: &[usize], bytes: &[u8], width: usize, valid: Option<&[bool]>) -> Result<Values, String> {
    let total = ends.len().checked_mul(width).filter(|total| *total <= VECTORS_BYTES_MAX);
    let mut out = vec![0; total.ok_or_else(|| format!("{} vectors of {width} bytes", ends.len()))?];
    for (row, place) in out.chunks_mut(width.max(1)).enumerate() {
        let value = slice(ends, bytes, row);
        if value.len() == width {
            place.copy_from_slice(value);
        } else if valid.is_none_or(|valid| valid.get(row).copied().unwrap_or_default()) {
            return Err(format!("value {row} has {} bytes, the schema says {width}", value.len()));
        }
    }
    Ok(Values::Fixed { width, bytes: out })
}

/// Whether a file begins as a packed file does.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Decodes a packed file of Milvus 2.6 or of Tidegate; any other file is an error.
///
/// Never panics, and takes no more memory than [`read`](crate::read) does.
///
/// # Errors
///
/// The file is cut off or damaged, or is no packed file.
pub fn read_packed(bytes: &[u8]) -> Result<PackedFile, ReadError> {
    check_frame(bytes)?;
    let Table { columns, row_groups, footer, footer_at } = read_table(bytes, 0)?;
    let value = |key: &str| footer.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str());
    match value(VERSION_KEY) {
        Some(VERSION) => {}
        Some(version) => return Err(ReadError::unsupported(footer_at, format!("storage version {version:?}, known is {VERSION}"))),
        None => return Err(ReadError::Foreign { found: format!("a Parquet file whose footer has no {VERSION_KEY}") }),
    }
    let damaged = |problem: String| ReadError::damaged(footer_at, problem);
    if let Some(text) = value(ROW_GROUPS_KEY) {
        check_row_groups(text, &row_groups).map_err(damaged)?;
    }
    let columns: Vec<PackedColumn> = columns.into_iter().map(of_field).collect::<Result<_, _>>().map_err(damaged)?;
    let own: Vec<i64> = columns.iter().map(|column| column.field).collect();
    let groups = parse_groups(value(GROUPS_KEY).unwrap_or_default()).map_err(damaged)?;
    if !groups.contains(&own) {
        return Err(damaged(format!("the file has fields {own:?}, which is none of the groups {groups:?} of its footer")));
    }
    Ok(PackedFile { groups, row_groups, columns })
}

/// Checks the ends of a file, so that one that is cut off is called so.
fn check_frame(bytes: &[u8]) -> Result<(), ReadError> {
    let cut = |what, offset, end| Err(ReadError::Truncated { what, offset, end, length: bytes.len() });
    if bytes.len() < FRAME_BYTES {
        return cut("Parquet file", 0, FRAME_BYTES);
    }
    if !begins(bytes) {
        return Err(ReadError::damaged(0, "the file does not begin with PAR1"));
    }
    let (rest, end) = bytes.split_at(bytes.len() - MAGIC.len());
    if end != MAGIC {
        let problem = format!("the file ends with {end:02x?} and not with PAR1: it is cut off, or its end is overwritten");
        return Err(ReadError::damaged(rest.len(), problem));
    }
    let (rest, length) = rest.split_at(rest.len() - 4);
    let footer = length.first_chunk().map_or(0, |length| u32::from_le_bytes(*length)) as usize;
    if footer > rest.len() - MAGIC.len() {
        return Err(ReadError::damaged(rest.len(), format!("a footer of {footer} bytes in a file of {}", bytes.len())));
    }
    Ok(())
}

/// A column with its field's id: Parquet's own, or the decimal name.
fn of_field(column: Column) -> Result<PackedColumn, String> {
    let Column { name, id, valid, values, .. } = column;
    let field = id.map(i64::from).or_else(|| name.parse().ok());
    let field = field.ok_or_else(|| format!("column {name:?} has no field id, and its name is none"))?;
    Ok(PackedColumn { field, valid, values })
}

/// Holds what the footer says about row groups against the row groups.
fn check_row_groups(text: &str, row_groups: &[usize]) -> Result<(), String> {
    let mut first = 0usize;
    let mut said = text.split(';');
    for (nth, &rows) in row_groups.iter().enumerate() {
        let group = said.next().unwrap_or_default();
        let numbers: Vec<Option<usize>> = group.split('|').map(|number| number.parse().ok()).collect();
        if !matches!(numbers[..], [Some(_), Some(r), Some(f)] if (r, f) == (rows, first)) {
            return Err(format!("row group {nth} has {rows} rows from row {first} on, its footer says {group:?}"));
        }
        first = first.saturating_add(rows);
    }
    match said.next() {
        Some(more) if !row_groups.is_empty() => Err(format!("{} row groups, but the footer has another, {more:?}", row_groups.len())),
        _ => Ok(()),
    }
}

fn parse_groups(text: &str) -> Result<Vec<Vec<i64>>, String> {
    let group = |group: &str| group.split(',').map(|id| id.parse().ok()).collect::<Option<Vec<i64>>>();
    text.split(';').map(group).collect::<Option<_>>().ok_or_else(|| format!("{GROUPS_KEY} is {text:?}"))
}
