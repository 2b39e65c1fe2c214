//! What a field may be, as Milvus' proxy has it by default.

use super::{DefaultValue, Field};
use crate::columns::DataType;

/// Widest vector of numbers: `proxy.maxDimension`.
pub const DIM_MAX: usize = 32_768;
/// Widest binary vector, in bits: as many bytes as numbers of the others.
pub const BINARY_DIM_MAX: usize = 8 * DIM_MAX;
/// Longest VarChar in bytes: `proxy.maxVarCharLength`.
pub const TEXT_BYTES_MAX: usize = 65_535;
/// Most values of an array.
pub const ARRAY_CAPACITY_MAX: usize = 4_096;

impl Field {
    /// Says why segment files cannot be written for the field, in words that follow its name.
    pub fn refusal(&self) -> Option<String> {
        self.wrong_parameter().or_else(|| self.wrong_role()).or_else(|| self.wrong_default())
    }

    fn wrong_parameter(&self) -> Option<String> {
        let most = if self.data_type == DataType::BinaryVector { BINARY_DIM_MAX } else { DIM_MAX };
        if self.data_type.is_dense_vector() && !(1..=most).contains(&self.dim) {
            return Some(format!("has dim {}; it must be 1 to {most}", self.dim));
        }
        if self.data_type == DataType::BinaryVector && !self.dim.is_multiple_of(8) {
            return Some(format!("has dim {}; that of a binary vector is a multiple of 8", self.dim));
        }
        if self.data_type == DataType::Array {
            match self.element_type {
                Some(element) if element.is_array_element() => {}
                Some(element) => return Some(format!("is an array of {element:?}, which segment files are not written for")),
                None => return Some("is an array without an element type".to_owned()),
            }
            if !(1..=ARRAY_CAPACITY_MAX).contains(&self.max_capacity) {
                return Some(format!("has max_capacity {}; it must be 1 to {ARRAY_CAPACITY_MAX}", self.max_capacity));
            }
        }
        let has_length = DataType::VarChar == self.element_type.unwrap_or(self.data_type);
        (has_length && self.max_length == 0).then(|| "has max_length 0".to_owned())
    }

    fn wrong_role(&self) -> Option<String> {
        let is_key_type = matches!(self.data_type, DataType::Int64 | DataType::VarChar);
        let data_type = self.data_type;
        if self.is_primary && !is_key_type {
            return Some(format!("is a primary key of type {data_type:?}"));
        }
        if self.is_primary && self.may_be_absent() {
            return Some("is the primary key, and has a default value or is nullable".to_owned());
        }
        if self.auto_id && !self.is_primary {
            return Some("is automatic and not the primary key".to_owned());
        }
        if self.is_partition_key && (!is_key_type || self.is_primary || self.nullable) {
            let what = if self.is_primary { "the primary key".to_owned() } else { format!("{data_type:?}, nullable: {}", self.nullable) };
            return Some(format!("is the partition key and {what}; a partition key is Int64 or VarChar, and nothing else"));
        }
        None
    }

    fn wrong_default(&self) -> Option<String> {
        let fits = match (self.data_type, self.default_value.as_ref()?) {
            (DataType::Bool, DefaultValue::Bool(_))
            | (DataType::Int32, DefaultValue::Int(_))
            | (DataType::Int64, DefaultValue::Long(_))
            | (DataType::Float, DefaultValue::Float(_))
            | (DataType::Double, DefaultValue::Double(_))
            | (DataType::String | DataType::Text, DefaultValue::Text(_))
            | (DataType::Timestamptz, DefaultValue::Timestamptz(_)) => true,
            (DataType::Int8, DefaultValue::Int(value)) => i8::try_from(*value).is_ok(),
            (DataType::Int16, DefaultValue::Int(value)) => i16::try_from(*value).is_ok(),
            (DataType::VarChar, DefaultValue::Text(text)) => text.len() <= self.max_length,
            (DataType::Json, DefaultValue::Bytes(json)) => std::str::from_utf8(json).is_ok(),
            _ => false,
        };
        (!fits).then(|| format!("has a default value that no {:?} has: {:?}", self.data_type, self.default_value))
    }
}
