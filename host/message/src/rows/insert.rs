//! The body of an insert.

use bytes::Bytes;

use super::column::Column;
use super::repeated::Repeated;
use super::{RowsError, label};
use crate::columns::{Columns, FieldColumn, Values};
use crate::schema::{Field, Schema};
use crate::wire::fields;

/// Milvus `InsertDataVersion`: rows as columns.
const COLUMN_BASED: u64 = 1;
/// Most columns of a body: Milvus allows 256 fields a collection at most, and a column without anything in it is two bytes.
const COLUMNS_MAX: usize = 1024;
/// Most bytes that rows of one field without a value may take in memory: a flag on the wire can stand for a vector or a long default.
const ABSENT_BYTES_MAX: usize = 1 << 30;

/// Milvus `msg.InsertRequest`, as far as its rows: slices of the payload, counted and checked for UTF-8.
#[derive(Clone, Debug)]
pub struct InsertBody {
    rows: usize,
    row_ids: Repeated,
    columns: Vec<Column>,
}

impl InsertBody {
    /// Reads a body. Needs memory for its list of columns, none for its values.
    ///
    /// # Errors
    /// [`RowsError`] if it is not an insert's, has no rows, is row based, or has a column that is of another length than the row ids, of
    /// a type that is not read, or with text that is not UTF-8.
    pub fn parse(payload: &Bytes) -> Result<InsertBody, RowsError> {
        let (mut rows, mut version, mut columns) = (0, 0, Vec::new());
        for field in fields(payload) {
            match field? {
                (12, _) => return Err(RowsError::Body("has row-based rows, which Milvus 2.6 does not write".to_owned())),
                (13, _) if columns.len() == COLUMNS_MAX => return Err(RowsError::Body(format!("has more than {COLUMNS_MAX} columns"))),
                (13, value) => columns.push(Column::parse(&payload.slice_ref(value.bytes(13)?))?),
                (14, value) => rows = value.integer(14)?,
                (15, value) => version = value.integer(15)?,
                _ => {}
            }
        }
        if version != COLUMN_BASED {
            return Err(RowsError::Body(format!("has data version {version}, not {COLUMN_BASED} (column based)")));
        }
        let row_ids = Repeated { message: payload.clone(), field: 11 };
        let mut ids = 0;
        row_ids.integers(|_| {
            ids += 1;
            Ok(())
        })?;
        if ids == 0 || ids as u64 != rows {
            return Err(RowsError::Body(format!("has {ids} row ids for {rows} rows")));
        }
        for column in &mut columns {
            column.check_values(ids)?;
        }
        Ok(InsertBody { rows: ids, row_ids, columns })
    }

    /// Returns the number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Checks that the rows are of a schema: a column for every field that needs one and no other, of its type and width, every value in
    /// its range, nulls only where they may be.
    ///
    /// # Errors
    /// [`RowsError`] with the field and, if it is about one value, the row.
    pub fn check(&self, schema: &Schema) -> Result<(), RowsError> {
        for (field, column) in schema.fields.iter().zip(self.columns_of(schema)?) {
            if let Some(column) = column {
                column.check_range(field)?;
            }
        }
        Ok(())
    }

    /// Appends the rows, each with the message's tick. A row without a value gets its field's default value, or is null. `out` is of [`Columns::new`] of the same schema.
    ///
    /// # Errors
    /// [`RowsError`] as [`InsertBody::check`], which also checks the length of text, arrays and sparse vectors; `out` is then as it was.
    pub fn append_to(&self, tick: u64, schema: &Schema, out: &mut Columns) -> Result<(), RowsError> {
        let columns = self.columns_of(schema)?;
        let appended = self.append_columns(tick, schema, &columns, &mut out.fields);
        match appended {
            Ok(()) => out.rows += self.rows,
            Err(_) => out.fields.iter_mut().for_each(|field| field.truncate(out.rows)),
        }
        appended
    }

    fn append_columns(&self, tick: u64, schema: &Schema, columns: &[Option<&Column>], out: &mut [FieldColumn]) -> Result<(), RowsError> {
        let [FieldColumn { values: Values::Int64(row_ids), .. }, FieldColumn { values: Values::Int64(ticks), .. }, user @ ..] = out else {
            return Err(RowsError::Body("is appended to columns without row id and time tick".to_owned()));
        };
        if user.len() != columns.len() {
            return Err(RowsError::Body(format!("has {} columns and is appended to {}", columns.len(), user.len())));
        }
        row_ids.reserve(self.rows);
        self.row_ids.integers(|id| {
            row_ids.push(id as i64);
            Ok(())
        })?;
        ticks.resize(ticks.len() + self.rows, tick as i64);
        for ((column, field), out) in columns.iter().zip(&schema.fields).zip(user) {
            match column {
                Some(column) => column.append_to(self.rows, field, out)?,
                None => out.push_absent(field, self.rows),
            }
        }
        Ok(())
    }

    /// Returns the columns in the order of the schema's fields; a field that may be absent may have none.
    fn columns_of(&self, schema: &Schema) -> Result<Vec<Option<&Column>>, RowsError> {
        let mut found: Vec<Option<&Column>> = vec![None; schema.fields.len()];
        for column in &self.columns {
            let is_column = |f: &&Field| match column.id {
                0 => f.name == column.name || (f.is_dynamic && column.is_dynamic),
                id => f.id == id,
            };
            let slot = schema.fields.iter().zip(&mut found).find(|(field, _)| is_column(field));
            let Some((field, slot)) = slot else { return Err(column.error("is not in the schema")) };
            if slot.replace(column).is_some() {
                return Err(column.error("has two columns"));
            }
            column.check_type(self.rows, field)?;
        }
        for (field, column) in schema.fields.iter().zip(&found) {
            let error = |reason: String| RowsError::Field { field: label(&field.name, field.id), reason };
            if column.is_none() && !field.may_be_absent() {
                return Err(error("has no column".to_owned()));
            }
            let absent = column.map_or(self.rows, Column::nulls);
            let bytes = absent.saturating_mul(Values::filler(field).memory_bytes());
            if bytes > ABSENT_BYTES_MAX {
                return Err(error(format!("has {absent} rows without a value, which take {bytes} bytes, more than {ABSENT_BYTES_MAX}")));
            }
        }
        Ok(found)
    }
}
