//! Where the rows of an insert go, and the keys of those that come without: what a Milvus proxy decides.

use std::borrow::Cow;
use std::collections::BTreeMap;

use tidegate_core::coordinator::CollectionInfo;
use tidegate_message::columns::{Columns, FieldColumn, TIMESTAMP_FIELD, Values};
use tidegate_message::schema::Schema;

use super::NodeError;
use super::shard::places;

/// Partitions of a collection with a partition key, unless it is created with another number: Milvus' default.
pub const KEY_PARTITIONS: u32 = 16;

/// Returns the names of the partitions of a collection with a partition key, in the order of their hashes.
pub fn key_partitions(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("_default_{n}")).collect()
}

/// Returns the names that a new collection's partitions get; of those asked for, a collection with a partition key takes only its own.
pub(super) fn partition_names(schema: &Schema, asked: &[String]) -> Result<Vec<String>, NodeError> {
    if !schema.fields.iter().any(|field| field.is_partition_key) {
        return Ok(asked.to_vec());
    }
    let count = if asked.is_empty() { KEY_PARTITIONS } else { u32::try_from(asked.len()).unwrap_or(u32::MAX) };
    let names = key_partitions(count);
    if !asked.is_empty() && names != asked {
        let reason =
            format!("collection {:?} has a partition key; its partitions are _default_0, _default_1, … and cannot be named", schema.name);
        return Err(NodeError::Invalid(reason));
    }
    Ok(names)
}

/// Returns the user's fields of rows, with a primary key: those of a collection that gives its keys get the row ids, if they have none.
pub(super) fn with_keys<'a>(schema: &Schema, rows: &'a Columns, row_ids: &[i64]) -> Result<Cow<'a, Columns>, NodeError> {
    let primary = schema.primary().ok_or_else(|| NodeError::Invalid("the collection has no primary key".into()))?;
    let is_user = |column: &&FieldColumn| column.field_id > TIMESTAMP_FIELD;
    let has_key = rows.fields.iter().any(|column| column.field_id == primary.id);
    if has_key && rows.fields.iter().all(|column| is_user(&column)) {
        return Ok(Cow::Borrowed(rows));
    }
    let mut fields: Vec<FieldColumn> = rows.fields.iter().filter(is_user).cloned().collect();
    if !has_key && !primary.auto_id {
        return Err(NodeError::Invalid(format!("column {:?}, the primary key, is missing", primary.name)));
    }
    if !has_key {
        let mut keys = FieldColumn::new(primary);
        match &mut keys.values {
            Values::Int64(keys) => keys.extend_from_slice(row_ids),
            Values::Bytes { ends, bytes } => {
                for id in row_ids {
                    bytes.extend_from_slice(id.to_string().as_bytes());
                    ends.push(bytes.len());
                }
            }
            _ => return Err(NodeError::Invalid(format!("{:?} is no type for a primary key", primary.data_type))),
        }
        fields.push(keys);
        fields.sort_by_key(|column| column.field_id);
    }
    Ok(Cow::Owned(Columns { rows: rows.rows, fields }))
}

/// The partition of every row.
pub(super) enum Partitions {
    /// One for all.
    One(i64),
    /// By the partition key.
    OfRow(Vec<i64>),
}

impl Partitions {
    /// Hashes the partition keys.
    pub fn by_key(collection: &CollectionInfo, rows: &Columns, key: i64) -> Result<Partitions, NodeError> {
        let column = rows.fields.iter().find(|column| column.field_id == key);
        let column = column.ok_or_else(|| NodeError::Invalid(format!("the column of the partition key, field {key}, is missing")))?;
        let ids: Vec<i64> = collection.partitions.iter().map(|partition| partition.id).collect();
        Ok(Partitions::OfRow(places(&column.values, ids.len().max(1)).into_iter().filter_map(|place| ids.get(place).copied()).collect()))
    }

    /// Splits rows by their partition; every part is in the order of the rows.
    pub fn split(&self, rows: &[usize]) -> Vec<(i64, Vec<usize>)> {
        match self {
            Partitions::One(partition) => vec![(*partition, rows.to_vec())],
            Partitions::OfRow(of_row) => {
                let mut parts = BTreeMap::<i64, Vec<usize>>::new();
                rows.iter().for_each(|&row| parts.entry(of_row[row]).or_default().push(row));
                parts.into_iter().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::DataType;
    use tidegate_message::schema::Field;

    use super::*;

    fn schema(primary: Field, other: Field) -> Schema {
        let primary = Field { is_primary: true, ..primary };
        Schema { name: "c".into(), fields: vec![primary, other], enable_dynamic_field: false, version: 0 }
    }

    #[test]
    fn keys_that_are_given_are_the_row_ids_and_others_are_kept() {
        for (data_type, expected) in [
            (DataType::Int64, Values::Int64(vec![98, 101])),
            (DataType::VarChar, Values::Bytes { ends: vec![2, 5], bytes: b"98101".to_vec() }),
        ] {
            let schema = schema(Field { auto_id: true, ..Field::new(100, "id", data_type) }, Field::new(101, "b", DataType::Bool));
            let mut rows = Columns::new(&schema);
            rows.rows = 2;
            rows.fields[3].values = Values::Bool(vec![true, false]);
            rows.fields.remove(2);
            let with = with_keys(&schema, &rows, &[98, 101]).unwrap();
            assert_eq!(with.fields.iter().map(|f| f.field_id).collect::<Vec<_>>(), [100, 101]);
            assert_eq!(with.fields[0].values, expected);
            let again = with_keys(&schema, &with, &[1, 2]).unwrap();
            assert_eq!(again.fields[0].values, expected, "keys of the rows are kept");
        }
        let schema = schema(Field::new(100, "id", DataType::Int64), Field::new(101, "b", DataType::Bool));
        let rows = Columns { rows: 0, fields: Vec::new() };
        assert!(with_keys(&schema, &rows, &[]).unwrap_err().to_string().contains("column \"id\", the primary key, is missing"));
    }

    #[test]
    fn a_collection_with_a_partition_key_has_partitions_of_its_own() {
        let key = Field { is_partition_key: true, ..Field::new(101, "k", DataType::Int64) };
        let (keyed, plain) =
            (schema(Field::new(100, "id", DataType::Int64), key.clone()), schema(key, Field::new(101, "b", DataType::Bool)));
        assert_eq!(partition_names(&keyed, &[]).unwrap().len(), 16);
        assert_eq!(partition_names(&keyed, &key_partitions(3)).unwrap(), ["_default_0", "_default_1", "_default_2"]);
        assert!(partition_names(&keyed, &["a".to_owned()]).is_err());
        let plain = Schema { fields: plain.fields[1..].to_vec(), ..plain };
        assert_eq!(partition_names(&plain, &["a".to_owned()]).unwrap(), ["a"]);
    }

    #[test]
    fn rows_are_split_by_partition_in_their_order() {
        let parts = Partitions::OfRow(vec![7, 5, 7, 5, 6]);
        assert_eq!(parts.split(&[0, 1, 2, 3]), [(5, vec![1, 3]), (7, vec![0, 2])]);
        assert_eq!(Partitions::One(9).split(&[3, 1]), [(9, vec![3, 1])]);
    }
}
