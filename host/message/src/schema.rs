//! A collection's schema, as far as the flush path needs it.

use serde::{Deserialize, Serialize};

use crate::columns::DataType;

mod convert;
mod limits;

pub use limits::{ARRAY_CAPACITY_MAX, BINARY_DIM_MAX, DIM_MAX, TEXT_BYTES_MAX};

/// A collection's schema; every field is one that segment files can be written for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Collection name.
    pub name: String,
    /// Ascending by field id, system fields left out.
    pub fields: Vec<Field>,
    /// Whether rows carry undeclared keys in `$meta`.
    pub enable_dynamic_field: bool,
    /// Schema version, 0 when new.
    pub version: i32,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// 100 and up.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Type of the values of an array: a scalar type other than JSON, geometry and arrays. `None` for all else.
    pub element_type: Option<DataType>,
    /// Exactly one field is the primary key: Int64 or VarChar.
    pub is_primary: bool,
    /// Whether rows are put into partitions by a hash of this field.
    pub is_partition_key: bool,
    /// Whether compaction sorts by this field.
    pub is_clustering_key: bool,
    /// Whether the server gives the key.
    pub auto_id: bool,
    /// Whether this is `$meta`.
    pub is_dynamic: bool,
    /// Whether a row may have no value.
    pub nullable: bool,
    /// What a row without a value gets.
    pub default_value: Option<DefaultValue>,
    /// Dimension of a dense vector, else 0.
    pub dim: usize,
    /// Longest VarChar in bytes, of a field or of an array's values, else 0.
    pub max_length: usize,
    /// Most values of an array, else 0.
    pub max_capacity: usize,
}

/// Milvus `schema.ValueField`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DefaultValue {
    /// For Bool.
    Bool(bool),
    /// For Int8, Int16 and Int32.
    Int(i32),
    /// For Int64.
    Long(i64),
    /// For Float.
    Float(f32),
    /// For Double.
    Double(f64),
    /// For text, at most `max_length` bytes of it.
    Text(String),
    /// For JSON.
    Bytes(Vec<u8>),
    /// For Timestamptz.
    Timestamptz(i64),
}

impl Schema {
    /// Returns the primary key's field.
    pub fn primary(&self) -> Option<&Field> {
        self.fields.iter().find(|f| f.is_primary)
    }
}

impl Field {
    /// Returns a field without any property beyond its type.
    pub fn new(id: i64, name: &str, data_type: DataType) -> Field {
        Field {
            id,
            name: name.to_owned(),
            data_type,
            element_type: None,
            is_primary: false,
            is_partition_key: false,
            is_clustering_key: false,
            auto_id: false,
            is_dynamic: false,
            nullable: false,
            default_value: None,
            dim: 0,
            max_length: 0,
            max_capacity: 0,
        }
    }

    /// Returns the bytes that a value of a dense vector takes, 0 for other types.
    pub fn width(&self) -> usize {
        match self.data_type {
            DataType::BinaryVector => self.dim.div_ceil(8),
            DataType::Int8Vector => self.dim,
            DataType::Float16Vector | DataType::BFloat16Vector => 2 * self.dim,
            DataType::FloatVector => 4 * self.dim,
            _ => 0,
        }
    }

    /// Returns whether a row may come without a value: it then gets the default value, or is null.
    pub fn may_be_absent(&self) -> bool {
        self.nullable || self.default_value.is_some()
    }
}
