//! A collection's schema as a JSON file.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tidegate_message::columns::DataType;
use tidegate_message::schema::{ARRAY_CAPACITY_MAX, BINARY_DIM_MAX, DIM_MAX, DefaultValue, Field, Schema, TEXT_BYTES_MAX};

use super::TableError;

/// Id of the first field.
const FIRST_FIELD: i64 = 100;
/// The field that holds undeclared keys.
const DYNAMIC_FIELD: &str = "$meta";
/// Names that every segment has for its system columns.
const SYSTEM_FIELDS: [&str; 2] = ["RowID", "Timestamp"];
/// Milvus' `proxy.maxNameLength`.
const NAME_BYTES_MAX: usize = 255;
/// Milvus' `proxy.maxFieldNum`.
const FIELDS_MAX: usize = 64;
/// The file as it is written; what other programs note in it about a collection (ids, shards, partitions) is passed over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaFile {
    name: String,
    #[serde(default)]
    enable_dynamic_field: bool,
    fields: Vec<FieldEntry>,
    #[serde(default, rename = "description")]
    _description: Option<Value>,
    #[serde(default, rename = "collection_id")]
    _collection_id: Option<Value>,
    #[serde(default, rename = "shards")]
    _shards: Option<Value>,
    #[serde(default, rename = "partitions")]
    _partitions: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldEntry {
    name: String,
    dtype: String,
    #[serde(default)]
    is_primary: bool,
    #[serde(default)]
    auto_id: bool,
    #[serde(default)]
    nullable: bool,
    #[serde(default)]
    default_value: Option<Value>,
    #[serde(default)]
    is_partition_key: bool,
    #[serde(default)]
    is_clustering_key: bool,
    #[serde(default)]
    params: Parameters,
    #[serde(default)]
    element_type: Option<String>,
    #[serde(default, rename = "dtype_id")]
    _dtype_id: Option<Value>,
    #[serde(default, rename = "description")]
    _description: Option<Value>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    dim: Option<u64>,
    max_length: Option<u64>,
    max_capacity: Option<u64>,
}

/// Reads a schema file.
///
/// # Errors
/// [`TableError::Refused`] names the field and what is wrong with it, or the line and column that is not JSON.
pub fn read_schema(path: &Path) -> Result<Schema, TableError> {
    let file = path.display().to_string();
    let text = std::fs::read(path).map_err(|e| TableError::refused(&file, e))?;
    parse_schema(&file, &text)
}

/// Parses the text of a schema file; `file` is its name in errors. Fields get the ids 100, 101, … in order, `$meta` the last.
///
/// # Errors
/// As [`read_schema`].
pub fn parse_schema(file: &str, text: &[u8]) -> Result<Schema, TableError> {
    let parsed: SchemaFile = serde_json::from_slice(text).map_err(|e| TableError::refused(file, e))?;
    to_schema(parsed).map_err(|problem| TableError::refused(file, problem))
}

fn to_schema(file: SchemaFile) -> Result<Schema, String> {
    check_name(&file.name).map_err(|problem| format!("the collection's name {:?} {problem}", file.name))?;
    if file.fields.len() > FIELDS_MAX {
        return Err(format!("there are {} fields; at most {FIELDS_MAX} are possible", file.fields.len()));
    }
    let mut names = BTreeSet::new();
    let mut fields: Vec<Field> = Vec::new();
    for (entry, id) in file.fields.into_iter().zip(FIRST_FIELD..) {
        let field = to_field(&entry, id).map_err(|problem| format!("field {:?} {problem}", entry.name))?;
        if !names.insert(entry.name.clone()) {
            return Err(format!("field {:?} occurs twice; names must differ", entry.name));
        }
        if let Some(first) = fields.iter().find(|f| f.is_primary && field.is_primary) {
            return Err(format!("fields {:?} and {:?} are both primary; exactly one must be", first.name, field.name));
        }
        if let Some(first) = fields.iter().find(|f| f.is_partition_key && field.is_partition_key) {
            return Err(format!("fields {:?} and {:?} are both partition keys; one can be", first.name, field.name));
        }
        fields.push(field);
    }
    if !fields.iter().any(|f| f.is_primary) {
        return Err("no field is the primary key; give one INT64 or VARCHAR field \"is_primary\": true".to_owned());
    }
    if file.enable_dynamic_field {
        let id = FIRST_FIELD + fields.len() as i64;
        fields.push(Field { is_dynamic: true, ..Field::new(id, DYNAMIC_FIELD, DataType::Json) });
    }
    Ok(Schema { name: file.name, fields, enable_dynamic_field: file.enable_dynamic_field, version: 0 })
}

fn to_field(entry: &FieldEntry, id: i64) -> Result<Field, String> {
    check_name(&entry.name)?;
    if SYSTEM_FIELDS.contains(&entry.name.as_str()) {
        return Err("has the name of a system column; choose another".to_owned());
    }
    let data_type = data_type(&entry.dtype)?;
    if entry.is_primary && !matches!(data_type, DataType::Int64 | DataType::VarChar) {
        return Err(format!("is primary and {}; a primary key is INT64 or VARCHAR", entry.dtype));
    }
    let element_type = match (data_type, &entry.element_type) {
        (DataType::Array, Some(name)) => Some(element_type(name)?),
        (DataType::Array, None) => return Err("is an ARRAY and lacks \"element_type\", such as \"INT64\"".to_owned()),
        (_, Some(_)) => return Err(format!("has an element_type and is {}, no ARRAY", entry.dtype)),
        (_, None) => None,
    };
    let params = &entry.params;
    let most_dim = if data_type == DataType::BinaryVector { BINARY_DIM_MAX } else { DIM_MAX };
    let has_length = element_type.unwrap_or(data_type) == DataType::VarChar;
    let parsed = Field {
        is_primary: entry.is_primary,
        auto_id: entry.auto_id,
        nullable: entry.nullable,
        is_partition_key: entry.is_partition_key,
        is_clustering_key: entry.is_clustering_key,
        element_type,
        default_value: entry.default_value.as_ref().filter(|v| !v.is_null()).map(|v| default_value(data_type, v)).transpose()?,
        dim: if data_type.is_dense_vector() { parameter("dim", params.dim, most_dim)? } else { 0 },
        max_length: if has_length { parameter("max_length", params.max_length, TEXT_BYTES_MAX)? } else { 0 },
        max_capacity: if data_type == DataType::Array { parameter("max_capacity", params.max_capacity, ARRAY_CAPACITY_MAX)? } else { 0 },
        ..Field::new(id, &entry.name, data_type)
    };
    parsed.refusal().map_or(Ok(parsed), Err)
}

/// Takes over a default value as JSON has it: JSON fields any document, points in time microseconds since 1970.
fn default_value(data_type: DataType, value: &Value) -> Result<DefaultValue, String> {
    let int = || value.as_i64().and_then(|value| i32::try_from(value).ok());
    let found = match data_type {
        DataType::Bool => value.as_bool().map(DefaultValue::Bool),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => int().map(DefaultValue::Int),
        DataType::Int64 => value.as_i64().map(DefaultValue::Long),
        DataType::Float => value.as_f64().map(|value| value as f32).filter(|value| value.is_finite()).map(DefaultValue::Float),
        DataType::Double => value.as_f64().map(DefaultValue::Double),
        DataType::VarChar | DataType::String | DataType::Text => value.as_str().map(|text| DefaultValue::Text(text.to_owned())),
        DataType::Json => Some(DefaultValue::Bytes(value.to_string().into_bytes())),
        DataType::Timestamptz => value.as_i64().map(DefaultValue::Timestamptz),
        _ => return Err(format!("is {} and has a default_value, which only scalars have", super::dtype(data_type))),
    };
    found.ok_or_else(|| format!("is {} and has the default_value {value}", super::dtype(data_type)))
}

fn data_type(name: &str) -> Result<DataType, String> {
    let known = || DataType::ALL.map(super::dtype).join(", ");
    DataType::ALL.into_iter().find(|t| super::dtype(*t) == name).ok_or_else(|| format!("has dtype {name:?}, which is none of {}", known()))
}

fn element_type(name: &str) -> Result<DataType, String> {
    let elements = || DataType::ALL.into_iter().filter(|t| t.is_array_element());
    let known = || elements().map(super::dtype).collect::<Vec<_>>().join(", ");
    elements().find(|t| super::dtype(*t) == name).ok_or_else(|| format!("has element_type {name:?}, which is none of {}", known()))
}

fn parameter(key: &str, value: Option<u64>, most: usize) -> Result<usize, String> {
    match value.map(usize::try_from) {
        Some(Ok(value)) if (1..=most).contains(&value) => Ok(value),
        Some(_) => Err(format!("has {key} {}; it must be 1 to {most}", value.unwrap_or_default())),
        None => Err(format!("lacks \"params\": {{\"{key}\": …}}, a number from 1 to {most}")),
    }
}

/// Milvus' rule for names.
fn check_name(name: &str) -> Result<(), String> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on_well = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if starts_well && goes_on_well && name.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(format!("is no name: a letter or _ first, then letters, digits, _ or $, {NAME_BYTES_MAX} in all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(text: &str) -> String {
        parse_schema("s.json", text.as_bytes()).unwrap_err().to_string()
    }

    fn with_field(field: &str) -> String {
        problem_of(&format!(r#"{{"name": "c", "fields": [{{"name": "id", "dtype": "INT64", "is_primary": true}}, {field}]}}"#))
    }

    #[test]
    fn fields_get_ids_in_order_and_meta_is_last() {
        let text = r#"{"name": "c", "enable_dynamic_field": true, "shards": 2, "fields": [
            {"name": "k", "dtype": "VARCHAR", "is_primary": true, "params": {"max_length": 8}},
            {"name": "v", "dtype": "FLOAT_VECTOR", "dtype_id": 101, "params": {"dim": 4}}]}"#;
        let schema = parse_schema("s.json", text.as_bytes()).unwrap();
        let fields: Vec<_> =
            schema.fields.iter().map(|f| (f.id, f.name.as_str(), f.data_type, f.dim, f.max_length, f.is_dynamic)).collect();
        assert_eq!(
            fields,
            [
                (100, "k", DataType::VarChar, 0, 8, false),
                (101, "v", DataType::FloatVector, 4, 0, false),
                (102, "$meta", DataType::Json, 0, 0, true),
            ]
        );
        assert_eq!(schema.primary().map(|f| f.id), Some(100));
    }

    #[test]
    fn every_property_of_a_field_is_taken_over() {
        let text = r#"{"name": "c", "fields": [
            {"name": "id", "dtype": "VARCHAR", "is_primary": true, "auto_id": true, "params": {"max_length": 20}},
            {"name": "a", "dtype": "ARRAY", "element_type": "VARCHAR", "nullable": true, "params": {"max_capacity": 4, "max_length": 9}},
            {"name": "k", "dtype": "INT64", "is_partition_key": true, "default_value": -7},
            {"name": "j", "dtype": "JSON", "default_value": {"x": [1]}},
            {"name": "t", "dtype": "TIMESTAMPTZ", "nullable": true, "is_clustering_key": true, "default_value": 5},
            {"name": "f", "dtype": "FLOAT", "default_value": 0.5},
            {"name": "b", "dtype": "BINARY_VECTOR", "params": {"dim": 262144}}]}"#;
        let schema = parse_schema("s.json", text.as_bytes()).unwrap();
        let field = |at: usize, change: &dyn Fn(&mut Field)| {
            let found = &schema.fields[at];
            let mut expected = Field::new(100 + at as i64, &found.name, found.data_type);
            change(&mut expected);
            assert_eq!(*found, expected);
        };
        field(0, &|f| (f.is_primary, f.auto_id, f.max_length) = (true, true, 20));
        field(1, &|f| (f.element_type, f.nullable, f.max_capacity, f.max_length) = (Some(DataType::VarChar), true, 4, 9));
        field(2, &|f| (f.is_partition_key, f.default_value) = (true, Some(DefaultValue::Long(-7))));
        field(3, &|f| f.default_value = Some(DefaultValue::Bytes(br#"{"x":[1]}"#.to_vec())));
        field(4, &|f| (f.nullable, f.is_clustering_key, f.default_value) = (true, true, Some(DefaultValue::Timestamptz(5))));
        field(5, &|f| f.default_value = Some(DefaultValue::Float(0.5)));
        field(6, &|f| f.dim = 262_144);
    }

    #[test]
    fn each_mistake_is_one_sentence_about_its_field() {
        for (field, expected) in [
            (r#"{"name": "x", "dtype": "INTEGER"}"#, "none of BOOL, INT8"),
            (r#"{"name": "id", "dtype": "INT64"}"#, "occurs twice"),
            (r#"{"name": "x", "dtype": "INT64", "is_primary": true}"#, "\"id\" and \"x\" are both primary"),
            (r#"{"name": "x", "dtype": "FLOAT_VECTOR"}"#, "lacks \"params\": {\"dim\""),
            (r#"{"name": "x", "dtype": "FLOAT_VECTOR", "params": {"dim": 0}}"#, "has dim 0; it must be 1 to 32768"),
            (r#"{"name": "x", "dtype": "VARCHAR"}"#, "max_length"),
            (r#"{"name": "x y", "dtype": "BOOL"}"#, "is no name"),
            (r#"{"name": "RowID", "dtype": "BOOL"}"#, "system column"),
            (r#"{"name": "x", "dtype": "BOOL", "is_primry": true}"#, "unknown field `is_primry`"),
            (r#"{"name": "x", "dtype": "ARRAY", "params": {"max_capacity": 4}}"#, "lacks \"element_type\""),
            (
                r#"{"name": "x", "dtype": "ARRAY", "element_type": "JSON", "params": {"max_capacity": 4}}"#,
                "element_type \"JSON\", which is none of",
            ),
            (r#"{"name": "x", "dtype": "ARRAY", "element_type": "BOOL", "params": {"max_capacity": 4097}}"#, "it must be 1 to 4096"),
            (r#"{"name": "x", "dtype": "BOOL", "element_type": "BOOL"}"#, "no ARRAY"),
            (r#"{"name": "x", "dtype": "BINARY_VECTOR", "params": {"dim": 12}}"#, "a multiple of 8"),
            (r#"{"name": "x", "dtype": "INT8", "default_value": 128}"#, "has a default value that no Int8 has"),
            (r#"{"name": "x", "dtype": "INT64", "default_value": "1"}"#, "is INT64 and has the default_value \"1\""),
            (r#"{"name": "x", "dtype": "VARCHAR", "default_value": "ab", "params": {"max_length": 1}}"#, "that no VarChar has"),
            (r#"{"name": "x", "dtype": "GEOMETRY", "default_value": "x"}"#, "which only scalars have"),
            (r#"{"name": "x", "dtype": "INT64", "auto_id": true}"#, "is automatic and not the primary key"),
            (r#"{"name": "x", "dtype": "BOOL", "is_partition_key": true}"#, "is the partition key and Bool"),
            (r#"{"name": "x", "dtype": "INT64", "is_partition_key": true, "nullable": true}"#, "a partition key is Int64 or VarChar"),
        ] {
            let problem = with_field(field);
            assert!(problem.starts_with("s.json: ") && problem.contains(expected), "{problem}");
        }
        let nullable = r#"{"name": "c", "fields": [{"name": "d", "dtype": "INT64", "is_primary": true, "nullable": true}]}"#;
        assert!(problem_of(nullable).contains("is the primary key, and has a default value or is nullable"));
        assert!(problem_of(r#"{"name": "c", "fields": []}"#).contains("no field is the primary key"));
        assert!(
            problem_of(r#"{"name": "c", "fields": [{"name": "d", "dtype": "DOUBLE", "is_primary": true}]}"#).contains("INT64 or VARCHAR")
        );
        assert!(problem_of(r#"{"fields": []}"#).contains("missing field `name`"));
    }

    #[test]
    fn text_that_is_not_json_is_placed_by_line_and_column() {
        let problem = problem_of("{\n \"name\": oops\n}");
        assert!(problem.contains("line 2 column 10"), "{problem}");
    }
}
