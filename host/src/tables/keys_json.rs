//! A JSON list of primary keys.

use std::path::Path;

use serde_json::Value;
use tidegate_message::columns::{DataType, PrimaryKey};
use tidegate_message::schema::Field;

use super::TableError;

/// Reads a JSON list of primary keys of the type of `primary`.
///
/// # Errors
/// [`TableError::Refused`] names the entry, counted from 0, that is no such key.
pub fn read_keys(path: &Path, primary: &Field) -> Result<Vec<PrimaryKey>, TableError> {
    let file = path.display().to_string();
    let text = std::fs::read(path).map_err(|e| TableError::refused(&file, e))?;
    let list = serde_json::from_slice(&text).map_err(|e| TableError::refused(&file, format!("not a JSON list of primary keys: {e}")))?;
    parse(list, primary).map_err(|problem| TableError::refused(&file, problem))
}

fn parse(list: Value, primary: &Field) -> Result<Vec<PrimaryKey>, String> {
    let Value::Array(list) = list else {
        return Err("a JSON list of primary keys was expected, such as [1, 2, 3]".to_owned());
    };
    let expected = match primary.data_type {
        DataType::VarChar => "a string",
        _ => "a whole number of 64 bits",
    };
    let key = |(at, value): (usize, Value)| {
        match (primary.data_type, &value) {
            (DataType::Int64, Value::Number(number)) => number.as_i64().map(PrimaryKey::Int64),
            (DataType::VarChar, Value::String(text)) => Some(PrimaryKey::VarChar(text.clone())),
            _ => None,
        }
        .ok_or_else(|| {
            format!(
                "entry {at} is {value}; {expected} was expected, since the primary key {:?} is {}",
                primary.name,
                super::dtype(primary.data_type)
            )
        })
    };
    list.into_iter().enumerate().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(data_type: DataType) -> Field {
        Field { is_primary: true, max_length: 9, ..Field::new(100, "id", data_type) }
    }

    #[test]
    fn keys_of_the_primary_keys_type_are_read() {
        let numbers = parse(serde_json::json!([1, -9_223_372_036_854_775_808_i64]), &primary(DataType::Int64)).unwrap();
        assert_eq!(numbers, [PrimaryKey::Int64(1), PrimaryKey::Int64(i64::MIN)]);
        let texts = parse(serde_json::json!(["a", ""]), &primary(DataType::VarChar)).unwrap();
        assert_eq!(texts, [PrimaryKey::VarChar("a".into()), PrimaryKey::VarChar(String::new())]);
    }

    #[test]
    fn a_key_of_another_type_is_named_by_its_place() {
        let problem = parse(serde_json::json!([1, "2"]), &primary(DataType::Int64)).unwrap_err();
        assert!(problem.starts_with("entry 1 is \"2\"; a whole number"), "{problem}");
        let problem = parse(serde_json::json!([1.5]), &primary(DataType::Int64)).unwrap_err();
        assert!(problem.contains("1.5"), "{problem}");
        assert!(parse(serde_json::json!({"ids": []}), &primary(DataType::Int64)).is_err());
    }
}
