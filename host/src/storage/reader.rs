//! Reading a segment back, for `tidegate scan`.

use std::collections::BTreeMap;

use tidegate_binlog::{Binlog as Content, read_deletes};
use tidegate_core::calls::{Binlog, SegmentFiles};
use tidegate_message::columns::{Columns, Deletes, FieldColumn, Values};
use tidegate_message::schema::Schema;

use super::{ChunkStore, StorageError};

/// The row id and the time tick, which come before the columns of the schema's fields.
const SYSTEM_COLUMNS: usize = 2;

/// Reads all rows of a segment, of either layout, in the order they were written. All of them are in memory at once.
///
/// # Errors
///
/// Any [`StorageError`]: a file is missing or damaged, a field of the schema has other files than its neighbours, or rows differ in number.
pub fn read_segment(store: &ChunkStore, files: &SegmentFiles, schema: &Schema) -> Result<Columns, StorageError> {
    let mut columns = Columns::new(schema);
    let mut lists: BTreeMap<i64, Vec<&Binlog>> = BTreeMap::new();
    for list in &files.insert {
        lists.entry(list.field).or_default().extend(&list.binlogs);
    }
    let mut rows_of_files: Option<Vec<i64>> = None;
    for (field, mut of_field) in lists {
        // The files of one sync are the ones at the same place, by log id, in every field or column group.
        of_field.sort_by_key(|file| file.log_id);
        let rows: Vec<i64> = of_field.iter().map(|file| file.entries).collect();
        let expected = rows_of_files.get_or_insert_with(|| rows.clone());
        if *expected != rows {
            let reason = format!("its files have {rows:?} rows, those of other fields {expected:?}");
            return Err(StorageError::permanent(&format!("field or column group {field}"), reason));
        }
        for file in of_field {
            append_file(store, file, field, &mut columns.fields)?;
        }
    }
    let rows: i64 = rows_of_files.unwrap_or_default().iter().sum();
    columns.rows = usize::try_from(rows).map_err(|error| StorageError::permanent("insert_log", error))?;
    for (column, field) in columns.fields.iter_mut().skip(SYSTEM_COLUMNS).zip(&schema.fields) {
        // Written before the field was added.
        if column.values.is_empty() && field.may_be_absent() {
            column.push_absent(field, columns.rows);
        }
    }
    if let Some(column) = columns.fields.iter().find(|column| column.values.len() != columns.rows) {
        let reason = format!("{} rows, the segment has {rows}", column.values.len());
        return Err(StorageError::permanent(&format!("field {} `{}`", column.field_id, column.name), reason));
    }
    Ok(columns)
}

/// Appends the rows of one file to the columns of the fields that are in it.
fn append_file(store: &ChunkStore, file: &Binlog, field: i64, columns: &mut [FieldColumn]) -> Result<(), StorageError> {
    let failed = |problem: &dyn std::fmt::Display| StorageError::permanent(&file.path, problem);
    match tidegate_binlog::read(&store.get(&file.path)?).map_err(|error| failed(&error))? {
        Content::Insert(log) => {
            let rows = log.column.valid.as_ref().map_or(log.column.values.len(), Vec::len);
            append_column(file, columns, field, rows, |column| with_flags(log.column, column))
        }
        Content::Packed(packed) => {
            let rows = packed.rows();
            packed.columns.into_iter().try_for_each(|read| append_column(file, columns, read.field, rows, |column| read.typed(column)))
        }
        _ => Err(failed(&"it is no insert log")),
    }
}

/// Appends the rows of one file to the column of one field, if the schema has that field.
fn append_column(
    file: &Binlog,
    columns: &mut [FieldColumn],
    field: i64,
    rows: usize,
    typed: impl FnOnce(&FieldColumn) -> Result<FieldColumn, String>,
) -> Result<(), StorageError> {
    let Some(column) = columns.iter_mut().find(|column| column.field_id == field) else { return Ok(()) };
    let failed = |problem: String| StorageError::permanent(&file.path, problem);
    if usize::try_from(file.entries) != Ok(rows) {
        return Err(failed(format!("it has {rows} rows, not {}", file.entries)));
    }
    let read = typed(column).map_err(|problem| failed(format!("field {field} `{}`: {problem}", column.name)))?;
    if let (Some(to), Some(more)) = (&mut column.valid, read.valid) {
        to.extend(more);
    }
    match append(&mut column.values, read.values, rows) {
        true => Ok(()),
        false => Err(failed(format!("its values are not those of a {:?} field of the schema", column.data_type))),
    }
}

/// Gives what an insert log has the flags that the field of the schema has.
fn with_flags(read: FieldColumn, column: &FieldColumn) -> Result<FieldColumn, String> {
    let rows = read.values.len();
    let valid = match (&column.valid, read.valid) {
        (Some(_), valid) => Some(valid.unwrap_or_else(|| vec![true; rows])),
        (None, Some(valid)) if valid.contains(&false) => return Err("there are nulls, but the field is not nullable".to_owned()),
        (None, _) => None,
    };
    Ok(FieldColumn { valid, ..read })
}

/// Reads the deletes of delta logs, file by file in the order of their log ids.
///
/// # Errors
///
/// Any [`StorageError`]: a file is missing or damaged.
pub fn read_deltas<'a>(store: &ChunkStore, files: impl IntoIterator<Item = &'a Binlog>) -> Result<Deletes, StorageError> {
    let mut files: Vec<&Binlog> = files.into_iter().collect();
    files.sort_by_key(|file| file.log_id);
    let mut all = Deletes::default();
    for file in files {
        let read = read_deletes(&store.get(&file.path)?).map_err(|error| StorageError::permanent(&file.path, error))?;
        all.keys.extend(read.keys);
        all.ticks.extend(read.ticks);
    }
    Ok(all)
}

/// Appends the values of so many rows, of the same type and width, or nothing.
fn append(to: &mut Values, more: Values, rows: usize) -> bool {
    match (to, more) {
        (Values::Bool(to), Values::Bool(more)) => to.extend(more),
        (Values::Int8(to), Values::Int8(more)) => to.extend(more),
        (Values::Int16(to), Values::Int16(more)) => to.extend(more),
        (Values::Int32(to), Values::Int32(more)) => to.extend(more),
        (Values::Int64(to), Values::Int64(more)) => to.extend(more),
        (Values::Float(to), Values::Float(more)) => to.extend(more),
        (Values::Double(to), Values::Double(more)) => to.extend(more),
        (Values::Bytes { ends, bytes }, Values::Bytes { ends: more_ends, bytes: more }) => {
            ends.extend(more_ends.into_iter().map(|end| end + bytes.len()));
            bytes.extend(more);
        }
        (Values::Fixed { width, bytes }, Values::Fixed { width: more_width, bytes: more }) if *width == more_width => bytes.extend(more),
        // Vectors of which the file has none, since all rows are null.
        (Values::Fixed { width, bytes }, Values::Fixed { width: 0, .. }) => bytes.resize(bytes.len() + rows * *width, 0),
        _ => return false,
    }
    true
}
