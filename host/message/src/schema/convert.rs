//! A schema from and to Milvus' protobuf.

use std::collections::BTreeSet;

use super::{DefaultValue, Field, Schema};
use crate::columns::{DataType, ROW_ID_FIELD, TIMESTAMP_FIELD};
use crate::proto::schema::value_field::Data;
use crate::proto::{common, schema as proto};

/// Lowest id of a user's field; 0 and 1 are the system's, which a stored schema may list.
const FIRST_USER_FIELD: i64 = 100;

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
        let second = |is: fn(&Field) -> bool| fields.iter().filter(|f| is(f)).nth(1);
        for (twin, what) in [(second(|f| f.is_primary), "primary key"), (second(|f| f.is_partition_key), "partition key")] {
            if let Some(twin) = twin {
                return Err(format!("field {:?} (id {}) is a second {what}", twin.name, twin.id));
            }
        }
        let schema =
            Schema { name: schema.name.clone(), fields, enable_dynamic_field: schema.enable_dynamic_field, version: schema.version };
        schema.primary().ok_or("no field is the primary key")?;
        Ok(schema)
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
    fn from_proto(field: &proto::FieldSchema) -> Result<Field, String> {
        let parameter = |key: &str| -> Result<usize, String> {
            let found = field.type_params.iter().find(|p| p.key == key).ok_or(format!("has no {key}"))?;
            let value = found.value.parse().map_err(|e| format!("has {key} {:?}: {e}", found.value))?;
            if value == 0 { Err(format!("has {key} 0")) } else { Ok(value) }
        };
        for (wrong, reason) in [
            (field.field_id < FIRST_USER_FIELD, "has an id below 100, which is reserved"),
            (field.is_function_output, "is the output of a function"),
            (field.state != 0, "is being created or dropped"),
        ] {
            if wrong {
                return Err(reason.to_owned());
            }
        }
        let known = |code: i32| DataType::from_code(code).ok_or(format!("is of data type {code}, which segment files are not written for"));
        let data_type = known(field.data_type)?;
        let is_array = data_type == DataType::Array;
        let element_type = if is_array && field.element_type != 0 { Some(known(field.element_type)?) } else { None };
        let has_length = element_type.unwrap_or(data_type) == DataType::VarChar;
        let parsed = Field {
            element_type,
            is_primary: field.is_primary_key,
            is_partition_key: field.is_partition_key,
            is_clustering_key: field.is_clustering_key,
            auto_id: field.auto_id,
            is_dynamic: field.is_dynamic,
            nullable: field.nullable,
            default_value: field.default_value.as_ref().map(DefaultValue::from_proto).transpose()?,
            dim: if data_type.is_dense_vector() { parameter("dim")? } else { 0 },
            max_length: if has_length { parameter("max_length")? } else { 0 },
            max_capacity: if is_array { parameter("max_capacity")? } else { 0 },
            ..Field::new(field.field_id, &field.name, data_type)
        };
        parsed.refusal().map_or(Ok(parsed), Err)
    }

    fn to_proto(&self) -> proto::FieldSchema {
        let parameters = [("dim", self.dim), ("max_length", self.max_length), ("max_capacity", self.max_capacity)];
        let parameters = parameters.into_iter().filter(|(_, value)| *value > 0);
        proto::FieldSchema {
            field_id: self.id,
            name: self.name.clone(),
            is_primary_key: self.is_primary,
            data_type: self.data_type as i32,
            type_params: parameters.map(|(key, value)| common::KeyValuePair { key: key.to_owned(), value: value.to_string() }).collect(),
            auto_id: self.auto_id,
            element_type: self.element_type.map_or(0, |t| t as i32),
            default_value: self.default_value.as_ref().map(DefaultValue::to_proto),
            is_dynamic: self.is_dynamic,
            is_partition_key: self.is_partition_key,
            is_clustering_key: self.is_clustering_key,
            nullable: self.nullable,
            ..Default::default()
        }
    }
}

impl DefaultValue {
    fn from_proto(value: &proto::ValueField) -> Result<DefaultValue, String> {
        Ok(match value.data.as_ref().ok_or("has a default value of an unknown type")? {
            Data::Bool(value) => DefaultValue::Bool(*value),
            Data::Int(value) => DefaultValue::Int(*value),
            Data::Long(value) => DefaultValue::Long(*value),
            Data::Float(value) => DefaultValue::Float(*value),
            Data::Double(value) => DefaultValue::Double(*value),
            Data::Text(value) => DefaultValue::Text(value.clone()),
            Data::Bytes(value) => DefaultValue::Bytes(value.to_vec()),
            Data::Timestamptz(value) => DefaultValue::Timestamptz(*value),
        })
    }

    fn to_proto(&self) -> proto::ValueField {
        let data = match self.clone() {
            DefaultValue::Bool(value) => Data::Bool(value),
            DefaultValue::Int(value) => Data::Int(value),
            DefaultValue::Long(value) => Data::Long(value),
            DefaultValue::Float(value) => Data::Float(value),
            DefaultValue::Double(value) => Data::Double(value),
            DefaultValue::Text(value) => Data::Text(value),
            DefaultValue::Bytes(value) => Data::Bytes(value.into()),
            DefaultValue::Timestamptz(value) => Data::Timestamptz(value),
        };
        proto::ValueField { data: Some(data) }
    }
}
