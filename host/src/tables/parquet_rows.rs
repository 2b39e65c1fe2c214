//! Rows from Parquet: which columns the file has is checked when it is opened, values as they are read.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;
use tidegate_message::columns::{Columns, TIMESTAMP_FIELD};
use tidegate_message::schema::{Field, Schema};

use super::TableError;
use super::parquet_values::{check_type, push_absent, push_values};

/// A Parquet file of rows of a schema, with columns of its fields and no others. Columns may be missing of fields that are nullable or
/// have a default value, and of `$meta`; that of a primary key which is given automatically must be, unless its values are kept.
pub struct RowsFile {
    name: String,
    schema: Schema,
    keep_keys: bool,
    rows: u64,
    source: Source,
}

enum Source {
    File(File),
    Memory(Bytes),
}

/// The rows of a [`RowsFile`], batch by batch; a batch has the user's fields, not the system's.
pub struct RowsIn {
    name: String,
    /// The fields that rows have here: without a key that is given automatically.
    schema: Schema,
    next_row: u64,
    reader: ParquetRecordBatchReader,
}

impl RowsFile {
    /// Opens a file. `keep_keys`: of a collection that gives its keys itself, the file has the keys all the same.
    ///
    /// # Errors
    /// [`TableError::Refused`]: it is no Parquet file, or a column is missing, unknown to the schema, not to be given, or of another type.
    pub fn open(path: &Path, schema: &Schema, keep_keys: bool) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| TableError::refused(&name, e))?;
        Self::new(name, Source::File(file), schema, keep_keys)
    }

    /// Opens a file's content; `name` stands for it in errors.
    ///
    /// # Errors
    /// As [`RowsFile::open`].
    pub fn of_bytes(name: &str, content: Bytes, schema: &Schema, keep_keys: bool) -> Result<Self, TableError> {
        Self::new(name.to_owned(), Source::Memory(content), schema, keep_keys)
    }

    fn new(name: String, source: Source, schema: &Schema, keep_keys: bool) -> Result<Self, TableError> {
        let mut file = Self { name, schema: schema.clone(), keep_keys, rows: 0, source };
        file.rows = match &file.source {
            Source::File(content) => file.check(content),
            Source::Memory(content) => file.check(content),
        }
        .map_err(|problem| TableError::refused(&file.name, problem))?;
        Ok(file)
    }

    fn check<T: ChunkReader>(&self, content: &T) -> Result<u64, String> {
        let metadata = parquet::arrow::arrow_reader::ArrowReaderMetadata::load(content, options()).map_err(|e| not_parquet(&e))?;
        let mut found = BTreeSet::new();
        for column in metadata.schema().fields() {
            let Some(field) = self.schema.fields.iter().find(|f| f.name == *column.name()) else {
                return Err(format!(
                    "column {:?} is no field of collection {:?}, which has {}",
                    column.name(),
                    self.schema.name,
                    self.names()
                ));
            };
            if !found.insert(column.name().as_str()) {
                return Err(format!("column {:?} occurs twice", column.name()));
            }
            if self.is_given(field) {
                return Err(format!(
                    "column {:?} has primary keys, but collection {:?} gives them itself; leave the column out, or keep its values with \
                     --keep-keys",
                    column.name(),
                    self.schema.name
                ));
            }
            check_type(field, column.data_type())?;
        }
        let may_be_missing = |f: &Field| f.is_dynamic || f.may_be_absent() || self.is_given(f);
        match self.schema.fields.iter().find(|f| !may_be_missing(f) && !found.contains(f.name.as_str())) {
            Some(missing) => Err(format!("column {:?} is missing; collection {:?} has {}", missing.name, self.schema.name, self.names())),
            None => u64::try_from(metadata.metadata().file_metadata().num_rows()).map_err(|e| e.to_string()),
        }
    }

    /// Whether the collection gives the field's values, so that the file may not have them.
    fn is_given(&self, field: &Field) -> bool {
        field.auto_id && !self.keep_keys
    }

    fn names(&self) -> String {
        let of = |f: &Field| format!("{} {}", f.name, super::dtype(f.data_type));
        self.schema.fields.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Reads the rows from row `from` on (the first is 0), `batch_rows` at a time; the last batch may be smaller.
    ///
    /// # Errors
    /// [`TableError::Refused`]: the file has fewer rows.
    pub fn read(&self, from: u64, batch_rows: usize) -> Result<RowsIn, TableError> {
        if from > self.rows {
            return Err(TableError::refused(&self.name, format!("there is no row {from} to begin with; it has {} rows", self.rows)));
        }
        let reader = match &self.source {
            Source::File(content) => content.try_clone().map_err(|e| e.to_string()).and_then(|content| reader(content, from, batch_rows)),
            Source::Memory(content) => reader(content.clone(), from, batch_rows),
        };
        let reader = reader.map_err(|problem| TableError::refused(&self.name, problem))?;
        let mut schema = self.schema.clone();
        schema.fields.retain(|field| !self.is_given(field));
        Ok(RowsIn { name: self.name.clone(), schema, next_row: from, reader })
    }
}

/// Types follow from the Parquet schema alone, so that large and view variants of an Arrow writer are met as their plain ones.
fn options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

fn reader<T: ChunkReader + 'static>(content: T, from: u64, batch_rows: usize) -> Result<ParquetRecordBatchReader, String> {
    let from = usize::try_from(from).map_err(|e| e.to_string())?;
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(content, options()).map_err(|e| not_parquet(&e))?;
    builder.with_batch_size(batch_rows.max(1)).with_offset(from).build().map_err(|e| e.to_string())
}

fn not_parquet(error: &dyn std::fmt::Display) -> String {
    format!("not a readable Parquet file: {error}")
}

impl Iterator for RowsIn {
    type Item = Result<Columns, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?.map_err(|e| format!("after row {}: {e}", self.next_row));
        Some(batch.and_then(|batch| self.convert(&batch)).map_err(|problem| TableError::refused(&self.name, problem)))
    }
}

impl RowsIn {
    fn convert(&mut self, batch: &RecordBatch) -> Result<Columns, String> {
        let mut columns = Columns::new(&self.schema);
        columns.fields.retain(|f| f.field_id > TIMESTAMP_FIELD);
        columns.rows = batch.num_rows();
        for (column, field) in columns.fields.iter_mut().zip(&self.schema.fields) {
            match batch.column_by_name(&field.name) {
                Some(array) => push_values(field, array, self.next_row, column)?,
                None => push_absent(field, batch.num_rows(), column),
            }
        }
        self.next_row += batch.num_rows() as u64;
        Ok(columns)
    }
}
