//! Reading a segment back, for `tidegate scan`.

use tidegate_binlog::{read_column, read_deletes};
use tidegate_core::calls::{Binlog, SegmentFiles};
use tidegate_message::columns::{Columns, Deletes, FieldColumn, Values};
use tidegate_message::schema::Schema;

use super::{ChunkStore, StorageError};

/// Reads all rows of a segment, in the order they were written. All of them are in memory at once.
///
/// # Errors
///
/// Any [`StorageError`]: a file is missing or damaged, a field of the schema has other files than its neighbours, or rows differ in number.
pub fn read_segment(store: &ChunkStore, files: &SegmentFiles, schema: &Schema) -> Result<Columns, StorageError> {
    let mut columns = Columns::new(schema);
    let mut rows_of_files: Option<Vec<i64>> = None;
    for column in &mut columns.fields {
        let lists = files.insert.iter().filter(|list| list.field == column.field_id);
        let mut of_field: Vec<&Binlog> = lists.flat_map(|list| &list.binlogs).collect();
        // The files of one sync are the ones at the same place, by log id, in every field.
        of_field.sort_by_key(|file| file.log_id);
        let rows: Vec<i64> = of_field.iter().map(|file| file.entries).collect();
        let expected = rows_of_files.get_or_insert_with(|| rows.clone());
        if *expected != rows {
            let reason = format!("its files have {rows:?} rows, those of other fields {expected:?}");
            return Err(StorageError::permanent(&format!("field {} `{}`", column.field_id, column.name), reason));
        }
        for file in of_field {
            append_file(store, file, column)?;
        }
    }
    let rows: i64 = rows_of_files.unwrap_or_default().iter().sum();
    columns.rows = usize::try_from(rows).map_err(|error| StorageError::permanent("insert_log", error))?;
    Ok(columns)
}

fn append_file(store: &ChunkStore, file: &Binlog, column: &mut FieldColumn) -> Result<(), StorageError> {
    let object = store.get(&file.path)?;
    let read = read_column(&object).map_err(|error| StorageError::permanent(&file.path, error))?;
    if usize::try_from(file.entries) != Ok(length(&read)) {
        return Err(StorageError::permanent(&file.path, format!("it has {} rows, not {}", length(&read), file.entries)));
    }
    if !append(&mut column.values, read) {
        return Err(StorageError::permanent(
            &file.path,
            format!("its values are not those of a {:?} field of the schema", column.data_type),
        ));
    }
    Ok(())
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

fn length(values: &Values) -> usize {
    match values {
        Values::Bool(v) => v.len(),
        Values::Int8(v) => v.len(),
        Values::Int16(v) => v.len(),
        Values::Int32(v) => v.len(),
        Values::Int64(v) => v.len(),
        Values::Float(v) => v.len(),
        Values::Double(v) => v.len(),
        Values::Bytes { ends, .. } => ends.len(),
        Values::Fixed { width, bytes } => bytes.len().checked_div(*width).unwrap_or(0),
    }
}

/// Appends values of the same type and width, or nothing.
fn append(to: &mut Values, more: Values) -> bool {
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
        _ => return false,
    }
    true
}
