//! A collection's schema as a JSON file.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tidegate_message::columns::DataType;
use tidegate_message::schema::{Field, Schema};

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
/// Milvus' `proxy.maxDimension`.
const DIM_MAX: u64 = 32_768;
/// Milvus' `proxy.maxVarCharLength`.
const LENGTH_MAX: u64 = 65_535;

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
    params: Parameters,
    #[serde(default, rename = "element_type")]
    _element_type: Option<Value>,
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
    #[serde(default, rename = "max_capacity")]
    _max_capacity: Option<Value>,
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
    for (used, what) in [
        (entry.auto_id, "auto_id"),
        (entry.nullable, "nullable"),
        (entry.default_value.as_ref().is_some_and(|v| !v.is_null()), "default_value"),
    ] {
        if used {
            return Err(format!("uses {what}, which is not supported yet by this version"));
        }
    }
    if entry.is_primary && !matches!(data_type, DataType::Int64 | DataType::VarChar) {
        return Err(format!("is primary and {}; a primary key is INT64 or VARCHAR", entry.dtype));
    }
    let dim = match data_type {
        DataType::FloatVector => parameter("dim", entry.params.dim, 1..=DIM_MAX)?,
        _ => 0,
    };
    let max_length = match data_type {
        DataType::VarChar => parameter("max_length", entry.params.max_length, 1..=LENGTH_MAX)?,
        _ => 0,
    };
    Ok(Field { is_primary: entry.is_primary, dim, max_length, ..Field::new(id, &entry.name, data_type) })
}

fn data_type(name: &str) -> Result<DataType, String> {
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
    const LATER: [&str; 8] =
        ["ARRAY", "BINARY_VECTOR", "FLOAT16_VECTOR", "BFLOAT16_VECTOR", "SPARSE_FLOAT_VECTOR", "INT8_VECTOR", "GEOMETRY", "TIMESTAMPTZ"];
    let supported = SUPPORTED.map(super::dtype);
    match SUPPORTED.into_iter().find(|t| super::dtype(*t) == name) {
        Some(found) => Ok(found),
        None if LATER.contains(&name) => {
            Err(format!("is {name}, which is not supported yet by this version; it has {}", supported.join(", ")))
        }
        None => Err(format!("has dtype {name:?}, which is none of {}", supported.join(", "))),
    }
}

fn parameter(key: &str, value: Option<u64>, range: std::ops::RangeInclusive<u64>) -> Result<usize, String> {
    let (least, most) = (range.start(), range.end());
    match value {
        Some(value) if range.contains(&value) => usize::try_from(value).map_err(|e| e.to_string()),
        Some(value) => Err(format!("has {key} {value}; it must be {least} to {most}")),
        None => Err(format!("lacks \"params\": {{\"{key}\": …}}, a number from {least} to {most}")),
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
    fn what_is_not_supported_yet_is_said_with_the_fields_name() {
        for field in [
            r#"{"name": "x", "dtype": "ARRAY", "element_type": "INT64", "params": {"max_capacity": 4}}"#,
            r#"{"name": "x", "dtype": "BINARY_VECTOR", "params": {"dim": 8}}"#,
            r#"{"name": "x", "dtype": "INT64", "nullable": true}"#,
            r#"{"name": "x", "dtype": "INT64", "default_value": 0}"#,
            r#"{"name": "x", "dtype": "INT64", "auto_id": true}"#,
        ] {
            let problem = with_field(field);
            assert!(problem.contains("field \"x\"") && problem.contains("not supported yet by this version"), "{problem}");
        }
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
        ] {
            let problem = with_field(field);
            assert!(problem.starts_with("s.json: ") && problem.contains(expected), "{problem}");
        }
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
