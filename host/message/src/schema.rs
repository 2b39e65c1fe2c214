//! A collection's schema, as far as the flush path needs it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::columns::{DataType, ROW_ID_FIELD, TIMESTAMP_FIELD};
use crate::proto::{common, schema as proto};

/// Lowest id of a user's field; 0 and 1 are the system's, which a stored schema may list.
const FIRST_USER_FIELD: i64 = 100;
/// What message bodies are read for.
const SUPPORTED: [DataType; 10] = [
    DataType::Bool,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Float,
    DataType::Double,
    DataType::VarChar,
    DataType::Json,
    DataType::FloatVector,
];
/// Widest vector that Milvus takes.
const DIM_MAX: usize = 32_768;

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
    /// For text.
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

impl Schema {
    /// Takes over a Milvus schema, or says what in it segment files cannot be written for: rows would be lost or corrupted.
    pub(crate) fn from_proto(schema: &proto::CollectionSchema) -> Result<Schema, String> {
        if !schema.functions.is_empty() {
            return Err("the schema has functions, whose output fields are computed while flushing".to_owned());
        }
        if !schema.struct_array_fields.is_empty() {
            return Err("the schema has struct array fields".to_owned());
        }
        let mut fields: Vec<Field> = (schema.fields.iter())
            .filter(|f| !matches!(f.field_id, ROW_ID_FIELD | TIMESTAMP_FIELD))
            .map(|f| Field::from_proto(f).map_err(|reason| format!("field {:?} (id {}) {reason}", f.name, f.field_id)))
            .collect::<Result<_, _>>()?;
        fields.sort_by_key(|f| f.id);
        if let Some([_, twin]) = fields.array_windows().find(|[a, b]| a.id == b.id) {
            return Err(format!("field {:?} (id {}) has the id of another", twin.name, twin.id));
        }
        let mut names = BTreeSet::new();
        if let Some(twin) = fields.iter().find(|f| !names.insert(f.name.as_str())) {
            return Err(format!("field {:?} (id {}) has the name of another", twin.name, twin.id));
        }
        let mut keys = fields.iter().filter(|f| f.is_primary);
        match (keys.next(), keys.next()) {
            (None, _) => return Err("no field is the primary key".to_owned()),
            (Some(_), Some(second)) => return Err(format!("field {:?} (id {}) is a second primary key", second.name, second.id)),
            (Some(key), None) if !matches!(key.data_type, DataType::Int64 | DataType::VarChar) => {
                return Err(format!("field {:?} (id {}) is a primary key of type {:?}", key.name, key.id, key.data_type));
            }
            (Some(_), None) => {}
        }
        Ok(Schema { name: schema.name.clone(), fields, enable_dynamic_field: schema.enable_dynamic_field, version: schema.version })
    }

    /// Returns the schema as Milvus writes it, without the system fields.
    pub(crate) fn to_proto(&self) -> proto::CollectionSchema {
        proto::CollectionSchema {
            name: self.name.clone(),
            fields: self.fields.iter().map(Field::to_proto).collect(),
            enable_dynamic_field: self.enable_dynamic_field,
            version: self.version,
            ..Default::default()
        }
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

    fn from_proto(field: &proto::FieldSchema) -> Result<Field, String> {
        let parameter = |key: &str| -> Result<usize, String> {
            let found = field.type_params.iter().find(|p| p.key == key).ok_or(format!("has no {key}"))?;
            let value = found.value.parse().map_err(|e| format!("has {key} {:?}: {e}", found.value))?;
            if value == 0 { Err(format!("has {key} 0")) } else { Ok(value) }
        };
        for (wrong, reason) in [
            (field.field_id < FIRST_USER_FIELD, "has an id below 100, which is reserved"),
            (field.nullable, "is nullable"),
            (field.default_value.is_some(), "has a default value"),
            (field.is_function_output, "is the output of a function"),
            (field.state != 0, "is being created or dropped"),
        ] {
            if wrong {
                return Err(reason.to_owned());
            }
        }
        let data_type = (DataType::from_code(field.data_type).filter(|t| SUPPORTED.contains(t)))
            .ok_or(format!("is of data type {}, which segment files are not written for", field.data_type))?;
        let dim = if data_type == DataType::FloatVector { parameter("dim")? } else { 0 };
        if dim > DIM_MAX {
            return Err(format!("has dim {dim}, more than {DIM_MAX}"));
        }
        Ok(Field {
            is_primary: field.is_primary_key,
            auto_id: field.auto_id,
            is_dynamic: field.is_dynamic,
            dim,
            max_length: if data_type == DataType::VarChar { parameter("max_length")? } else { 0 },
            ..Field::new(field.field_id, &field.name, data_type)
        })
    }

    fn to_proto(&self) -> proto::FieldSchema {
        let parameter = |key: &str, value: usize| common::KeyValuePair { key: key.to_owned(), value: value.to_string() };
        let type_params = match self.data_type {
            DataType::FloatVector => vec![parameter("dim", self.dim)],
            DataType::VarChar => vec![parameter("max_length", self.max_length)],
            _ => Vec::new(),
        };
        proto::FieldSchema {
            field_id: self.id,
            name: self.name.clone(),
            is_primary_key: self.is_primary,
            data_type: self.data_type as i32,
            type_params,
            auto_id: self.auto_id,
            is_dynamic: self.is_dynamic,
            ..Default::default()
        }
    }
}
