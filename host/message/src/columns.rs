//! Rows as columns: the one form that rows take between a message and a segment file.

use serde::{Deserialize, Serialize};

use crate::schema::{Field, Schema};

mod values;

pub use values::Values;

/// Field id of the row id column, present in every segment.
pub const ROW_ID_FIELD: i64 = 0;
/// Field id of the time tick column, present in every segment.
pub const TIMESTAMP_FIELD: i64 = 1;

/// Milvus' `schema.DataType` codes of the types that segment files are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(i32)]
pub enum DataType {
    /// One bit a row.
    Bool = 1,
    /// Signed, 8 bits.
    Int8 = 2,
    /// Signed, 16 bits.
    Int16 = 3,
    /// Signed, 32 bits.
    Int32 = 4,
    /// Signed, 64 bits.
    Int64 = 5,
    /// IEEE 754, 32 bits.
    Float = 10,
    /// IEEE 754, 64 bits.
    Double = 11,
    /// UTF-8 text; Milvus keeps the code and makes no collections with it.
    String = 20,
    /// UTF-8 text of at most `max_length` bytes.
    VarChar = 21,
    /// At most `max_capacity` values of one scalar type: a serialised `schema.ScalarField` a row.
    Array = 22,
    /// A JSON document as UTF-8 bytes.
    Json = 23,
    /// Well-known binary.
    Geometry = 24,
    /// UTF-8 text without a stated length.
    Text = 25,
    /// Microseconds since 1970 in UTC, 64 bits.
    Timestamptz = 26,
    /// `dim` bits, the first in the lowest bit of the first byte.
    BinaryVector = 100,
    /// `dim` 32-bit floats.
    FloatVector = 101,
    /// `dim` IEEE 754 16-bit floats.
    Float16Vector = 102,
    /// `dim` bfloat16 floats.
    BFloat16Vector = 103,
    /// Pairs of a 32-bit index and a 32-bit float, indices ascending.
    SparseFloatVector = 104,
    /// `dim` signed bytes.
    Int8Vector = 105,
}

/// The rows of one batch, column by column.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    /// Number of rows; every column has as many values.
    pub rows: usize,
    /// Ascending by field id; the row id (0) and the time tick (1) come first.
    pub fields: Vec<FieldColumn>,
}

/// One field's values.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldColumn {
    /// Milvus field id: 0 and 1 are the system's, a user's start at 100.
    pub field_id: i64,
    /// Name in the schema; `RowID` and `Timestamp` for the system's.
    pub name: String,
    /// Type in the schema.
    pub data_type: DataType,
    /// Whether this is the primary key.
    pub is_primary: bool,
    /// A nullable field's flags, as many as the batch has rows: false is null. `None` if the field is not nullable.
    pub valid: Option<Vec<bool>>,
    /// The values, as many as the batch has rows; where there is a null, its type's zero: 0, no bytes, a vector of zeros.
    pub values: Values,
}

/// A primary key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrimaryKey {
    /// Key of an Int64 field.
    Int64(i64),
    /// Key of a VarChar field.
    VarChar(String),
}

/// Deletes of one batch: `keys[i]` removes rows with a tick below `ticks[i]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deletes {
    /// Primary keys, in log order.
    pub keys: Vec<PrimaryKey>,
    /// The time tick of each delete.
    pub ticks: Vec<u64>,
}

impl DataType {
    /// Every type, ascending by code.
    pub const ALL: [DataType; 20] = [
        DataType::Bool,
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float,
        DataType::Double,
        DataType::String,
        DataType::VarChar,
        DataType::Array,
        DataType::Json,
        DataType::Geometry,
        DataType::Text,
        DataType::Timestamptz,
        DataType::BinaryVector,
        DataType::FloatVector,
        DataType::Float16Vector,
        DataType::BFloat16Vector,
        DataType::SparseFloatVector,
        DataType::Int8Vector,
    ];

    /// Returns the type of a Milvus code, `None` if segment files are not written for it.
    pub fn from_code(code: i32) -> Option<DataType> {
        DataType::ALL.into_iter().find(|t| *t as i32 == code)
    }

    /// Whether values are UTF-8 text that Parquet marks as such.
    pub fn is_text(self) -> bool {
        matches!(self, DataType::String | DataType::VarChar | DataType::Text)
    }

    /// Whether an array may have values of this type.
    pub fn is_array_element(self) -> bool {
        use DataType::{Bool, Double, Float, Int8, Int16, Int32, Int64, String, VarChar};
        matches!(self, Bool | Int8 | Int16 | Int32 | Int64 | Float | Double | String | VarChar)
    }

    /// Whether values are vectors of `dim` numbers: every vector but the sparse one.
    pub fn is_dense_vector(self) -> bool {
        use DataType::{BFloat16Vector, BinaryVector, Float16Vector, FloatVector, Int8Vector};
        matches!(self, BinaryVector | FloatVector | Float16Vector | BFloat16Vector | Int8Vector)
    }
}

impl Columns {
    /// Returns a batch without rows: the row id, the time tick and the fields of the schema.
    pub fn new(schema: &Schema) -> Columns {
        let system = |field_id, name: &str| FieldColumn {
            field_id,
            name: name.to_owned(),
            data_type: DataType::Int64,
            is_primary: false,
            valid: None,
            values: Values::Int64(Vec::new()),
        };
        let mut fields = vec![system(ROW_ID_FIELD, "RowID"), system(TIMESTAMP_FIELD, "Timestamp")];
        fields.extend(schema.fields.iter().map(FieldColumn::new));
        Columns { rows: 0, fields }
    }

    /// Returns the rows with these numbers, in this order. Numbers must be below [`Columns::rows`].
    pub fn select(&self, rows: &[usize]) -> Columns {
        let of = |f: &FieldColumn| FieldColumn {
            field_id: f.field_id,
            name: f.name.clone(),
            data_type: f.data_type,
            is_primary: f.is_primary,
            valid: f.valid.as_ref().map(|valid| rows.iter().map(|&r| valid[r]).collect()),
            values: f.values.select(rows),
        };
        Columns { rows: rows.len(), fields: self.fields.iter().map(of).collect() }
    }

    /// Returns the bytes that the values take.
    pub fn memory_bytes(&self) -> usize {
        self.fields.iter().map(FieldColumn::memory_bytes).sum()
    }
}

impl FieldColumn {
    /// Returns a field's column without values.
    pub fn new(field: &Field) -> FieldColumn {
        FieldColumn {
            field_id: field.id,
            name: field.name.clone(),
            data_type: field.data_type,
            is_primary: field.is_primary,
            valid: field.nullable.then(Vec::new),
            values: Values::new(field),
        }
    }

    /// Appends `rows` rows without a value: they get the field's default value, or else are null. Of a field that has neither, they get
    /// its type's zero.
    pub fn push_absent(&mut self, field: &Field, rows: usize) {
        let filler = Values::filler(field);
        (0..rows).for_each(|_| self.values.push_row(&filler, 0));
        if let Some(valid) = &mut self.valid {
            valid.extend(std::iter::repeat_n(field.default_value.is_some(), rows));
        }
    }

    /// Returns the bytes that the values take.
    pub fn memory_bytes(&self) -> usize {
        self.values.memory_bytes() + self.valid.as_ref().map_or(0, Vec::len)
    }

    /// Returns whether a row has a value.
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.as_ref().is_none_or(|valid| valid.get(row).copied().unwrap_or_default())
    }

    /// Drops the values past the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }
}
