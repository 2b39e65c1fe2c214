//! One column of an insert: Milvus `schema.FieldData`.

use bytes::Bytes;

use super::repeated::Repeated;
use super::{RowsError, label};
use crate::columns::DataType;
use crate::schema::Field;
use crate::wire::{Value, fields};

mod values;

/// A column as it stands in its message.
///
/// A column with nulls (`valid_data`) has either a value for every row, of which those of the nulls mean nothing, or values for the
/// other rows alone. A Milvus proxy sends scalars in the first form and vectors in the second; both are read for all types.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) is_dynamic: bool,
    type_code: i32,
    array: Array,
    /// Dense vectors only.
    dim: usize,
    /// Arrays only; 0 if the message does not say.
    element_code: i32,
    values: Repeated,
    /// One flag a row, or none if no row is null.
    valid: Repeated,
    nulls: usize,
    /// Whether nulls have values too.
    is_full: bool,
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
    Arrays,
    Jsons,
    Geometries,
    Timestamps,
    BinaryVectors,
    FloatVectors,
    Float16Vectors,
    BFloat16Vectors,
    SparseVectors,
    Int8Vectors,
}

impl Array {
    fn of(data_type: DataType) -> Array {
        match data_type {
            DataType::Bool => Array::Bools,
            DataType::Int8 | DataType::Int16 | DataType::Int32 => Array::Ints,
            DataType::Int64 => Array::Longs,
            DataType::Float => Array::Floats,
            DataType::Double => Array::Doubles,
            DataType::String | DataType::VarChar | DataType::Text => Array::Texts,
            DataType::Array => Array::Arrays,
            DataType::Json => Array::Jsons,
            DataType::Geometry => Array::Geometries,
            DataType::Timestamptz => Array::Timestamps,
            DataType::BinaryVector => Array::BinaryVectors,
            DataType::FloatVector => Array::FloatVectors,
            DataType::Float16Vector => Array::Float16Vectors,
            DataType::BFloat16Vector => Array::BFloat16Vectors,
            DataType::SparseFloatVector => Array::SparseVectors,
            DataType::Int8Vector => Array::Int8Vectors,
        }
    }

    /// Bytes of a dense vector, `None` for all else.
    fn width(self, dim: usize) -> Option<usize> {
        match self {
            Array::BinaryVectors => Some(dim.div_ceil(8)),
            Array::Int8Vectors => Some(dim),
            Array::Float16Vectors | Array::BFloat16Vectors => dim.checked_mul(2),
            Array::FloatVectors => dim.checked_mul(4),
            _ => None,
        }
    }
}

impl Column {
    pub(super) fn parse(message: &Bytes) -> Result<Column, RowsError> {
        let mut column = Column {
            id: 0,
            name: String::new(),
            is_dynamic: false,
            type_code: 0,
            array: Array::Absent,
            dim: 0,
            element_code: 0,
            values: Repeated { message: Bytes::new(), field: 1 },
            valid: Repeated { message: message.clone(), field: 7 },
            nulls: 0,
            is_full: true,
        };
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
                (6, value) => column.is_dynamic = value.integer(6)? != 0,
                (8, _) => return Err(column.error("has struct arrays, which are not read")),
                _ => {}
            }
        }
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
                8 => Array::Arrays,
                9 => Array::Jsons,
                10 => Array::Geometries,
                11 => Array::Timestamps,
                12 => return Err(self.error("has geometries as text, which a proxy makes well-known binary")),
                _ => return Err(self.error(&format!("has scalars of array {number}, which are not read"))),
            };
            let list = self.set_array(array, message, number, value)?;
            if array == Array::Arrays {
                for field in fields(&list) {
                    if let (2, value) = field? {
                        self.element_code = value.integer(2)? as i32;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads Milvus `schema.VectorField`.
    fn parse_vectors(&mut self, message: &Bytes) -> Result<(), RowsError> {
        for field in fields(message) {
            let (number, value) = field?;
            let array = match number {
                1 => {
                    self.dim = usize::try_from(value.integer(1)?).map_err(|_| self.error("has a negative dim"))?;
                    continue;
                }
                2 => Array::FloatVectors,
                3 => Array::BinaryVectors,
                4 => Array::Float16Vectors,
                5 => Array::BFloat16Vectors,
                6 => Array::SparseVectors,
                7 => Array::Int8Vectors,
                _ => return Err(self.error(&format!("has vectors of array {number}, which are not read"))),
            };
            self.set_array(array, message, number, value)?;
            if !matches!(array, Array::FloatVectors | Array::SparseVectors) {
                // All vectors back to back are one value of the message itself.
                self.values = Repeated { message: message.clone(), field: number };
            }
        }
        Ok(())
    }

    /// Protobuf would merge a second array into the first; no writer makes one.
    fn set_array(&mut self, array: Array, message: &Bytes, number: u32, value: Value<'_>) -> Result<Bytes, RowsError> {
        if self.array != Array::Absent {
            return Err(self.error("has two arrays of values"));
        }
        self.array = array;
        self.values.message = message.slice_ref(value.bytes(number)?);
        Ok(self.values.message.clone())
    }

    /// Checks that every value is whole, text is UTF-8, and there are as many values as rows, or as rows that are not null.
    pub(super) fn check_values(&mut self, rows: usize) -> Result<(), RowsError> {
        let (mut flags, mut nulls) = (0, 0);
        self.valid.integers(|valid| {
            flags += 1;
            nulls += usize::from(valid == 0);
            Ok(())
        })?;
        if flags != 0 && flags != rows {
            return Err(self.error(&format!("has {flags} validity flags for {rows} rows")));
        }
        self.nulls = nulls;
        let (count, unit) = self.count_values()?;
        let a_row = match (self.array.width(self.dim), unit) {
            (None, _) => 1,
            (Some(width), "floats") => width / 4,
            (Some(width), _) => width,
        };
        let fits = |rows: usize| a_row.checked_mul(rows) == Some(count) && (a_row > 0 || rows == 0);
        self.is_full = fits(rows);
        if self.is_full || (nulls > 0 && fits(rows - nulls)) {
            return Ok(());
        }
        let of_them = if nulls > 0 { format!(", {nulls} of them null") } else { String::new() };
        Err(self.error(&match unit {
            "values" => format!("has {count} values for {rows} rows{of_them}"),
            unit => format!("has {count} {unit} for {rows} vectors of dim {}{of_them}", self.dim),
        }))
    }

    /// Counts what the values consist of, and says what that is.
    fn count_values(&self) -> Result<(usize, &'static str), RowsError> {
        let mut count = 0;
        match self.array {
            Array::Absent => {}
            Array::Bools | Array::Ints | Array::Longs | Array::Timestamps => self.values.integers(|_| {
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
            Array::Arrays | Array::Geometries | Array::SparseVectors => self.values.texts(|_| {
                count += 1;
                Ok(())
            })?,
            Array::BinaryVectors | Array::Float16Vectors | Array::BFloat16Vectors | Array::Int8Vectors => self.values.texts(|bytes| {
                count += bytes.len();
                Ok(())
            })?,
        }
        let unit = match self.array {
            Array::FloatVectors => "floats",
            array if array.width(0).is_some() => "bytes",
            _ => "values",
        };
        Ok((count, unit))
    }

    /// Checks that the column is of a field's type and width, and that it has nulls only if the field may.
    pub(super) fn check_type(&self, rows: usize, field: &Field) -> Result<(), RowsError> {
        let expected = Array::of(field.data_type);
        // A column of nulls alone may come without an array.
        let is_empty = self.array == Array::Absent && self.nulls == rows;
        if self.type_code != field.data_type as i32 || (self.array != expected && !is_empty) {
            let reason =
                format!("is {:?} in the schema; its column has data type {} and {:?}", field.data_type, self.type_code, self.array);
            return Err(self.error(&reason));
        }
        if self.array.width(0).is_some() && self.dim != field.dim && self.nulls < rows {
            return Err(self.error(&format!("has dim {} in the schema and {} in its column", field.dim, self.dim)));
        }
        match field.element_type {
            Some(element) if self.element_code != 0 && self.element_code != element as i32 => {
                return Err(
                    self.error(&format!("has values of {element:?} in the schema and of data type {} in its column", self.element_code))
                );
            }
            _ => {}
        }
        if self.nulls > 0 && !field.may_be_absent() {
            let reason = "null in a field that is not nullable".to_owned();
            return Err(RowsError::Value { field: label(&self.name, self.id), row: self.first_null()?, reason });
        }
        Ok(())
    }

    fn first_null(&self) -> Result<usize, RowsError> {
        let (mut row, mut first) = (0, None);
        self.valid.integers(|valid| {
            if valid == 0 {
                first = first.or(Some(row));
            }
            row += 1;
            Ok(())
        })?;
        Ok(first.unwrap_or_default())
    }

    /// Returns how many rows have no value.
    pub(super) fn nulls(&self) -> usize {
        self.nulls
    }

    pub(super) fn error(&self, reason: &str) -> RowsError {
        RowsError::Field { field: label(&self.name, self.id), reason: reason.to_owned() }
    }

    /// An error of value `at`, named by its row.
    fn value_error(&self, at: usize, reason: String) -> RowsError {
        RowsError::Value { field: label(&self.name, self.id), row: self.row_of(at).unwrap_or(at), reason }
    }

    /// The row of value `at`: with values for the rows alone that are not null, nulls are to be counted.
    fn row_of(&self, at: usize) -> Option<usize> {
        if self.is_full || self.nulls == 0 {
            return Some(at);
        }
        let (mut row, mut value, mut found) = (0, 0, None);
        let counted = self.valid.integers(|valid| {
            if valid != 0 {
                found = found.or((value == at).then_some(row));
                value += 1;
            }
            row += 1;
            Ok(())
        });
        counted.ok().and(found)
    }
}
