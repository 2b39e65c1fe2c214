//! Rows to Parquet: one column a field, system fields left out, batch by batch.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema as ArrowSchema;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tidegate_message::columns::Columns;
use tidegate_message::schema::{Field, Schema};

use super::TableError;
use super::arrow_out::{arrow_field, to_array};

/// Encoded bytes at which a row group ends: they are held in memory until then.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// Rows of a Parquet row group at most: bounds what the writer holds in memory.
const ROW_GROUP_ROWS: usize = 64 << 10;

/// A Parquet file in the making. It takes its name when it is finished, so that no reader meets half of it.
pub struct RowsOut {
    path: PathBuf,
    partial: PathBuf,
    schema: Schema,
    columns: Arc<ArrowSchema>,
    writer: ArrowWriter<File>,
    rows: u64,
}

impl RowsOut {
    /// Begins a file next to `path`.
    ///
    /// # Errors
    /// [`TableError::Unwritable`].
    pub fn create(path: &Path, schema: &Schema) -> Result<Self, TableError> {
        let name = path.display().to_string();
        let unwritable = |e: &dyn std::fmt::Display| TableError::unwritable(&name, e);
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        if path.is_dir() {
            return Err(unwritable(&"it is a directory; name a file"));
        }
        let columns = Arc::new(ArrowSchema::new(schema.fields.iter().map(arrow_field).collect::<Vec<_>>()));
        let properties = WriterProperties::builder()
            .set_created_by("tidegate".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let file = File::create(&partial).map_err(|e| unwritable(&e))?;
        let writer = ArrowWriter::try_new_with_options(file, columns.clone(), options).map_err(|e| unwritable(&e))?;
        Ok(Self { path: path.to_owned(), partial, schema: schema.clone(), columns, writer, rows: 0 })
    }

    /// Appends rows.
    ///
    /// # Errors
    /// [`TableError::Unwritable`], also when the rows are not of the schema.
    pub fn write(&mut self, rows: &Columns) -> Result<(), TableError> {
        if rows.rows == 0 {
            return Ok(());
        }
        let batch = to_batch(&self.schema, &self.columns, rows).map_err(|problem| self.unwritable(&problem))?;
        self.writer.write(&batch).map_err(|e| self.unwritable(&e))?;
        if self.writer.in_progress_size() >= ROW_GROUP_BYTES {
            self.writer.flush().map_err(|e| self.unwritable(&e))?;
        }
        self.rows += rows.rows as u64;
        Ok(())
    }

    /// Finishes the file, gives it its name, and returns how many rows it has.
    ///
    /// # Errors
    /// [`TableError::Unwritable`].
    pub fn finish(mut self) -> Result<u64, TableError> {
        self.writer.finish().map_err(|e| self.unwritable(&e))?;
        fs::rename(&self.partial, &self.path).map_err(|e| self.unwritable(&e))?;
        Ok(self.rows)
    }

    fn unwritable(&self, problem: &dyn std::fmt::Display) -> TableError {
        TableError::unwritable(&self.path.display().to_string(), problem)
    }
}

impl Drop for RowsOut {
    fn drop(&mut self) {
        // Not there once the file is finished.
        let _gone_or_left_behind = fs::remove_file(&self.partial);
    }
}

fn to_batch(schema: &Schema, columns: &Arc<ArrowSchema>, rows: &Columns) -> Result<RecordBatch, String> {
    let array = |field: &Field| {
        let column = rows.fields.iter().find(|c| c.field_id == field.id).ok_or(format!("no column of field {:?}", field.name))?;
        to_array(field, column).map_err(|e| format!("field {:?}: {e}", field.name))
    };
    let arrays = schema.fields.iter().map(array).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(columns.clone(), arrays).map_err(|e| e.to_string())
}
