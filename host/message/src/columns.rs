//! Rows as columns: the one form that rows take between a message and a segment file.

use serde::{Deserialize, Serialize};

use crate::schema::{Field, Schema};

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

/// Column storage.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// [`DataType::Bool`].
    Bool(Vec<bool>),
    /// [`DataType::Int8`].
    Int8(Vec<i8>),
    /// [`DataType::Int16`].
    Int16(Vec<i16>),
    /// [`DataType::Int32`].
    Int32(Vec<i32>),
    /// [`DataType::Int64`], [`DataType::Timestamptz`], row ids and time ticks (as the two's complement of the unsigned tick).
    Int64(Vec<i64>),
    /// [`DataType::Float`].
    Float(Vec<f32>),
    /// [`DataType::Double`].
    Double(Vec<f64>),
    /// Text, [`DataType::Array`], [`DataType::Json`], [`DataType::Geometry`] and [`DataType::SparseFloatVector`]: value `i` is
    /// `bytes[ends[i-1]..ends[i]]`, with `ends[-1]` = 0. A sparse vector's numbers are little-endian.
    Bytes {
        /// End offset of every value.
        ends: Vec<usize>,
        /// All values, back to back.
        bytes: Vec<u8>,
    },
    /// Dense vectors: little-endian numbers, `width` bytes a row.
    Fixed {
        /// Bytes a row, as [`Field::width`].
        width: usize,
        /// All rows, back to back.
        bytes: Vec<u8>,
    },
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
        fields.extend(schema.fields.iter().map(|field| FieldColumn {
            field_id: field.id,
            name: field.name.clone(),
            data_type: field.data_type,
            is_primary: field.is_primary,
            valid: field.nullable.then(Vec::new),
            values: Values::new(field),
        }));
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
        self.fields.iter().map(|f| f.values.memory_bytes() + f.valid.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl FieldColumn {
    /// Drops the values past the first `rows`.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        if let Some(valid) = &mut self.valid {
            valid.truncate(rows);
        }
    }
}

impl Values {
    /// Returns storage of a field's type, empty.
    fn new(field: &Field) -> Values {
        match field.data_type {
            DataType::Bool => Values::Bool(Vec::new()),
            DataType::Int8 => Values::Int8(Vec::new()),
            DataType::Int16 => Values::Int16(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 | DataType::Timestamptz => Values::Int64(Vec::new()),
            DataType::Float => Values::Float(Vec::new()),
            DataType::Double => Values::Double(Vec::new()),
            DataType::String
            | DataType::VarChar
            | DataType::Text
            | DataType::Array
            | DataType::Json
            | DataType::Geometry
            | DataType::SparseFloatVector => Values::Bytes { ends: Vec::new(), bytes: Vec::new() },
            DataType::BinaryVector | DataType::FloatVector | DataType::Float16Vector | DataType::BFloat16Vector | DataType::Int8Vector => {
                Values::Fixed { width: field.width(), bytes: Vec::new() }
            }
        }
    }

    fn select(&self, rows: &[usize]) -> Values {
        match self {
            Values::Bool(v) => Values::Bool(rows.iter().map(|&r| v[r]).collect()),
            Values::Int8(v) => Values::Int8(rows.iter().map(|&r| v[r]).collect()),
            Values::Int16(v) => Values::Int16(rows.iter().map(|&r| v[r]).collect()),
            Values::Int32(v) => Values::Int32(rows.iter().map(|&r| v[r]).collect()),
            Values::Int64(v) => Values::Int64(rows.iter().map(|&r| v[r]).collect()),
            Values::Float(v) => Values::Float(rows.iter().map(|&r| v[r]).collect()),
            Values::Double(v) => Values::Double(rows.iter().map(|&r| v[r]).collect()),
            Values::Bytes { ends, bytes } => {
                let mut selected = (Vec::with_capacity(rows.len()), Vec::new());
                for &r in rows {
                    let start = if r == 0 { 0 } else { ends[r - 1] };
                    selected.1.extend_from_slice(&bytes[start..ends[r]]);
                    selected.0.push(selected.1.len());
                }
                Values::Bytes { ends: selected.0, bytes: selected.1 }
            }
            Values::Fixed { width, bytes } => {
                let mut selected = Vec::with_capacity(rows.len() * width);
                rows.iter().for_each(|&r| selected.extend_from_slice(&bytes[r * width..(r + 1) * width]));
                Values::Fixed { width: *width, bytes: selected }
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Values::Bool(v) => v.len(),
            Values::Int8(v) => v.len(),
            Values::Int16(v) => v.len() * 2,
            Values::Int32(v) => v.len() * 4,
            Values::Int64(v) => v.len() * 8,
            Values::Float(v) => v.len() * 4,
            Values::Double(v) => v.len() * 8,
            Values::Bytes { ends, bytes } => ends.len() * 8 + bytes.len(),
            Values::Fixed { bytes, .. } => bytes.len(),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Values::Bool(values) => values.truncate(rows),
            Values::Int8(values) => values.truncate(rows),
            Values::Int16(values) => values.truncate(rows),
            Values::Int32(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Double(values) => values.truncate(rows),
            Values::Bytes { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Values::Fixed { width, bytes } => bytes.truncate(rows * *width),
        }
    }
}
