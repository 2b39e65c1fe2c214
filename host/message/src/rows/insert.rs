//! The body of an insert.

use bytes::Bytes;

use super::RowsError;
use super::repeated::Repeated;
use crate::columns::{Columns, DataType, FieldColumn, Values};
use crate::schema::{Field, Schema};
use crate::wire::{Value, fields};

/// Milvus `InsertDataVersion`: rows as columns.
const COLUMN_BASED: u64 = 1;

/// Milvus `msg.InsertRequest`, as far as its rows: slices of the payload, counted and checked for UTF-8.
#[derive(Clone, Debug)]
pub struct InsertBody {
    rows: usize,
    row_ids: Repeated,
    columns: Vec<Column>,
}

/// Milvus `schema.FieldData`.
#[derive(Clone, Debug)]
struct Column {
    id: i64,
    name: String,
    type_code: i32,
    array: Array,
    /// Vectors only.
    dim: usize,
    values: Repeated,
}

/// The array of the wire that a column's values stand in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Array {
    Absent,
    Bools,
    Ints,
    Longs,
    Floats,
    Doubles,
    Texts,
    Jsons,
    FloatVectors,
}

impl InsertBody {
    /// Reads a body. Needs memory for its list of columns, none for its values.
    ///
    /// # Errors
    /// [`RowsError`] if it is not an insert's, has no rows, is row based, or has a column that is of another length than the row ids, of
    /// a type that is not read, with nulls, or with text that is not UTF-8.
    pub fn parse(payload: &Bytes) -> Result<InsertBody, RowsError> {
        let (mut rows, mut version, mut columns) = (0, 0, Vec::new());
        for field in fields(payload) {
            match field? {
                (12, _) => return Err(RowsError::Body("has row-based rows, which Milvus 2.6 does not write".to_owned())),
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
        for column in &columns {
            column.check_values(ids)?;
        }
        Ok(InsertBody { rows: ids, row_ids, columns })
    }

    /// Returns the number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Checks that the rows are of a schema: a column for every field and no other, of its type and width, every value in its range.
    ///
    /// # Errors
    /// [`RowsError`] with the field and, if it is about one value, the row.
    pub fn check(&self, schema: &Schema) -> Result<(), RowsError> {
        for (field, column) in schema.fields.iter().zip(self.columns_of(schema)?) {
            column.check_range(field)?;
        }
        Ok(())
    }

    /// Appends the rows, each with the message's tick; `out` is of [`Columns::new`] of the same schema.
    ///
    /// # Errors
    /// [`RowsError`] as [`InsertBody::check`], which also checks the length of text; `out` is then as it was.
    pub fn append_to(&self, tick: u64, schema: &Schema, out: &mut Columns) -> Result<(), RowsError> {
        let columns = self.columns_of(schema)?;
        let appended = self.append_columns(tick, &columns, &mut out.fields);
        match appended {
            Ok(()) => out.rows += self.rows,
            Err(_) => out.fields.iter_mut().for_each(|field| field.truncate(out.rows)),
        }
        appended
    }

    fn append_columns(&self, tick: u64, columns: &[&Column], out: &mut [FieldColumn]) -> Result<(), RowsError> {
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
        columns.iter().zip(user).try_for_each(|(column, out)| column.append_to(self.rows, out))
    }

    /// Returns the columns in the order of the schema's fields.
    fn columns_of(&self, schema: &Schema) -> Result<Vec<&Column>, RowsError> {
        let mut found: Vec<Option<&Column>> = vec![None; schema.fields.len()];
        for column in &self.columns {
            let is_column = |f: &&Field| if column.id == 0 { f.name == column.name } else { f.id == column.id };
            let slot = schema.fields.iter().zip(&mut found).find(|(field, _)| is_column(field));
            let Some((field, slot)) = slot else { return Err(column.error("is not in the schema")) };
            if slot.replace(column).is_some() {
                return Err(column.error("has two columns"));
            }
            column.check_type(field)?;
        }
        let named = |field: &Field| label(&field.name, field.id);
        (schema.fields.iter().zip(found))
            .map(|(field, column)| column.ok_or_else(|| RowsError::Field { field: named(field), reason: "has no column".to_owned() }))
            .collect()
    }
}

impl Column {
    fn parse(message: &Bytes) -> Result<Column, RowsError> {
        let values = Repeated { message: Bytes::new(), field: 1 };
        let mut column = Column { id: 0, name: String::new(), type_code: 0, array: Array::Absent, dim: 0, values };
        for field in fields(message) {
            match field? {
                (1, value) => column.type_code = value.integer(1)? as i32,
                (2, value) => {
                    let name = std::str::from_utf8(value.bytes(2)?)
                        .map_err(|e| RowsError::Body(format!("has a field name that is not UTF-8: {e}")))?;
                    column.name = name.to_owned();
                }
                (3, value) => column.parse_scalars(&message.slice_ref(value.bytes(3)?))?,
                (4, value) => column.parse_vectors(&message.slice_ref(value.bytes(4)?))?,
                (5, value) => column.id = value.integer(5)? as i64,
                (8, _) => return Err(column.error("has struct arrays, which are not read")),
                _ => {}
            }
        }
        column.check_valid(message)?;
        Ok(column)
    }

    /// Reads Milvus `schema.ScalarField`.
    fn parse_scalars(&mut self, message: &Bytes) -> Result<(), RowsError> {
        for field in fields(message) {
            let (number, value) = field?;
            let array = match number {
                1 => Array::Bools,
                2 => Array::Ints,
                3 => Array::Longs,
                4 => Array::Floats,
                5 => Array::Doubles,
                6 => Array::Texts,
                9 => Array::Jsons,
                _ => return Err(self.error(&format!("has scalars of array {number}, which are not read"))),
            };
            self.set_array(array, message, number, value)?;
        }
        Ok(())
    }

    /// Reads Milvus `schema.VectorField`.
    fn parse_vectors(&mut self, message: &Bytes) -> Result<(), RowsError> {
        for field in fields(message) {
            match field? {
                (1, value) => {
                    self.dim = usize::try_from(value.integer(1)?).map_err(|_| self.error("has a negative dim"))?;
                }
                (2, value) => self.set_array(Array::FloatVectors, message, 2, value)?,
                (number, _) => return Err(self.error(&format!("has vectors of array {number}, which are not read"))),
            }
        }
        Ok(())
    }

    /// Protobuf would merge a second array into the first; no writer makes one.
    fn set_array(&mut self, array: Array, message: &Bytes, number: u32, value: Value<'_>) -> Result<(), RowsError> {
        if self.array != Array::Absent {
            return Err(self.error("has two arrays of values"));
        }
        self.array = array;
        self.values.message = message.slice_ref(value.bytes(number)?);
        Ok(())
    }

    /// Refuses nulls, which would shift the values that follow.
    fn check_valid(&self, message: &Bytes) -> Result<(), RowsError> {
        let mut row = 0;
        Repeated { message: message.clone(), field: 7 }.integers(|valid| {
            if valid == 0 {
                return Err(self.value_error(row, "null in a field that is not nullable".to_owned()));
            }
            row += 1;
            Ok(())
        })
    }

    /// Checks that every value is whole, text is UTF-8, and there are as many values as rows.
    fn check_values(&self, rows: usize) -> Result<(), RowsError> {
        let mut count = 0;
        match self.array {
            Array::Absent => {}
            Array::Bools | Array::Ints | Array::Longs => self.values.integers(|_| {
                count += 1;
                Ok(())
            })?,
            Array::Floats | Array::Doubles | Array::FloatVectors => {
                let width = if self.array == Array::Doubles { 8 } else { 4 };
                self.values.fixed_runs(width, |run| {
                    count += run.len() / width;
                    Ok(())
                })?;
            }
            Array::Texts | Array::Jsons => self.values.texts(|text| {
                std::str::from_utf8(text).map_err(|e| self.value_error(count, format!("not UTF-8: {e}")))?;
                count += 1;
                Ok(())
            })?,
        }
        if self.array != Array::FloatVectors && count != rows {
            return Err(self.error(&format!("has {count} values for {rows} rows")));
        }
        if self.array == Array::FloatVectors && (self.dim == 0 || self.dim.checked_mul(rows) != Some(count)) {
            return Err(self.error(&format!("has {count} floats for {rows} vectors of dim {}", self.dim)));
        }
        Ok(())
    }

    fn check_type(&self, field: &Field) -> Result<(), RowsError> {
        let array = match field.data_type {
            DataType::Bool => Array::Bools,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Array::Ints,
            DataType::Int64 => Array::Longs,
            DataType::Float => Array::Floats,
            DataType::Double => Array::Doubles,
            DataType::VarChar => Array::Texts,
            DataType::Json => Array::Jsons,
            DataType::FloatVector => Array::FloatVectors,
            _ => Array::Absent,
        };
        if self.type_code != field.data_type as i32 || self.array != array {
            let reason =
                format!("is {:?} in the schema; its column has data type {} and {:?}", field.data_type, self.type_code, self.array);
            return Err(self.error(&reason));
        }
        if self.dim != field.dim {
            return Err(self.error(&format!("has dim {} in the schema and {} in its column", field.dim, self.dim)));
        }
        Ok(())
    }

    fn check_range(&self, field: &Field) -> Result<(), RowsError> {
        let mut row = 0;
        match field.data_type {
            DataType::Int8 => self.narrow(|_: i8| {}),
            DataType::Int16 => self.narrow(|_: i16| {}),
            DataType::VarChar => self.values.texts(|text| {
                if text.len() > field.max_length {
                    return Err(self.value_error(row, format!("{} bytes, more than max_length {}", text.len(), field.max_length)));
                }
                row += 1;
                Ok(())
            }),
            _ => Ok(()),
        }
    }

    /// Calls `f` with every 32-bit integer of the column as the narrower type of its field.
    fn narrow<T: TryFrom<i32>>(&self, mut f: impl FnMut(T)) -> Result<(), RowsError> {
        let mut row = 0;
        self.values.integers(|value| {
            let value = value as i32;
            let narrow = T::try_from(value)
                .map_err(|_| self.value_error(row, format!("{value} is out of the range of {} bits", 8 * size_of::<T>())))?;
            f(narrow);
            row += 1;
            Ok(())
        })
    }

    fn append_to(&self, rows: usize, out: &mut FieldColumn) -> Result<(), RowsError> {
        match (self.array, &mut out.values) {
            (Array::Bools, Values::Bool(out)) => {
                out.reserve(rows);
                self.values.integers(|value| {
                    out.push(value != 0);
                    Ok(())
                })
            }
            (Array::Ints, Values::Int8(out)) => self.narrow(|value| out.push(value)),
            (Array::Ints, Values::Int16(out)) => self.narrow(|value| out.push(value)),
            (Array::Ints, Values::Int32(out)) => self.narrow(|value| out.push(value)),
            (Array::Longs, Values::Int64(out)) => {
                out.reserve(rows);
                self.values.integers(|value| {
                    out.push(value as i64);
                    Ok(())
                })
            }
            (Array::Floats, Values::Float(out)) => self.values.fixed_runs(4, |run| {
                out.extend(run.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)));
                Ok(())
            }),
            (Array::Doubles, Values::Double(out)) => self.values.fixed_runs(8, |run| {
                out.extend(run.as_chunks().0.iter().map(|&value| f64::from_le_bytes(value)));
                Ok(())
            }),
            (Array::Texts | Array::Jsons, Values::Bytes { ends, bytes }) => {
                ends.reserve(rows);
                self.values.texts(|text| {
                    bytes.extend_from_slice(text);
                    ends.push(bytes.len());
                    Ok(())
                })
            }
            (Array::FloatVectors, Values::Fixed { width, bytes }) if *width == 4 * self.dim => self.values.fixed_runs(4, |run| {
                bytes.extend_from_slice(run);
                Ok(())
            }),
            _ => Err(self.error(&format!("is appended to a column of {:?}, field {}", out.data_type, label(&out.name, out.field_id)))),
        }
    }

    fn error(&self, reason: &str) -> RowsError {
        RowsError::Field { field: label(&self.name, self.id), reason: reason.to_owned() }
    }

    fn value_error(&self, row: usize, reason: String) -> RowsError {
        RowsError::Value { field: label(&self.name, self.id), row, reason }
    }
}

/// Names a field in an error.
fn label(name: &str, id: i64) -> String {
    format!("{name:?} (id {id})")
}
