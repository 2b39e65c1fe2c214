//! Rows to Parquet: one column a field, system fields left out, batch by batch.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
};
use arrow_schema::{DataType as ArrowType, Field as ArrowField, FieldRef, Schema as ArrowSchema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};

use super::TableError;

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

fn arrow_field(field: &Field) -> ArrowField {
    let data_type = match field.data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int8 => ArrowType::Int8,
        DataType::Int16 => ArrowType::Int16,
        DataType::Int32 => ArrowType::Int32,
        DataType::Int64 => ArrowType::Int64,
        DataType::Float => ArrowType::Float32,
        DataType::Double => ArrowType::Float64,
        DataType::VarChar | DataType::Json => ArrowType::Utf8,
        // Parquet has lists of one length only by convention; the schema's dimension is at most 32,768.
        DataType::FloatVector => ArrowType::FixedSizeList(element(), field.dim as i32),
        _ => ArrowType::Binary,
    };
    ArrowField::new(&field.name, data_type, false)
}

fn element() -> FieldRef {
    Arc::new(ArrowField::new("element", ArrowType::Float32, false))
}

fn to_batch(schema: &Schema, columns: &Arc<ArrowSchema>, rows: &Columns) -> Result<RecordBatch, String> {
    let array = |field: &Field| {
        let column = rows.fields.iter().find(|c| c.field_id == field.id).ok_or(format!("no column of field {:?}", field.name))?;
        to_array(field, &column.values).map_err(|e| format!("field {:?}: {e}", field.name))
    };
    let arrays = schema.fields.iter().map(array).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(columns.clone(), arrays).map_err(|e| e.to_string())
}

fn to_array(field: &Field, values: &Values) -> Result<ArrayRef, String> {
    Ok(match values {
        Values::Bool(v) => Arc::new(BooleanArray::from(v.clone())),
        Values::Int8(v) => Arc::new(Int8Array::from(v.clone())),
        Values::Int16(v) => Arc::new(Int16Array::from(v.clone())),
        Values::Int32(v) => Arc::new(Int32Array::from(v.clone())),
        Values::Int64(v) => Arc::new(Int64Array::from(v.clone())),
        Values::Float(v) => Arc::new(Float32Array::from(v.clone())),
        Values::Double(v) => Arc::new(Float64Array::from(v.clone())),
        Values::Bytes { ends, bytes } => {
            let mut texts = StringBuilder::with_capacity(ends.len(), bytes.len());
            let mut start = 0;
            for &end in ends {
                let text = bytes.get(start..end).ok_or("its offsets are out of order")?;
                texts.append_value(std::str::from_utf8(text).map_err(|e| e.to_string())?);
                start = end;
            }
            Arc::new(texts.finish())
        }
        Values::Fixed { bytes, .. } => {
            let (floats, _) = bytes.as_chunks::<4>();
            let floats = Float32Array::from_iter_values(floats.iter().map(|f| f32::from_le_bytes(*f)));
            let list = FixedSizeListArray::try_new(element(), field.dim as i32, Arc::new(floats), None);
            Arc::new(list.map_err(|e| e.to_string())?)
        }
    })
}
