//! Primary key statistics: the range of a batch's keys and a bloom filter over them, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_message::columns::{DataType, FieldColumn, PrimaryKey, Values};

use crate::columns::{payload_type, row_count, slice};
use crate::delta::Key;
use crate::{BasicBloom, BlockedBloom, ReadError, WriteError};

/// How often the filter of a batch is wrong: Milvus 2.6's default.
const FALSE_POSITIVES: f64 = 0.001;
/// Code of the basic filter, which statistics without a code have.
const BASIC_FILTER: i32 = 3;
/// Code of the blocked filter.
const BLOCKED_FILTER: i32 = 4;

/// Which bloom filter is written. Milvus 2.6 reads both and writes the blocked one by default, which 2.3 fails to parse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilterKind {
    /// One filter as long as it must be.
    #[default]
    Basic,
    /// Blocks of a cache line: a sixth longer, and faster to ask.
    Blocked,
}

/// A bloom filter over primary keys, of either kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum PkFilter {
    /// See [`FilterKind::Basic`].
    Basic(BasicBloom),
    /// See [`FilterKind::Blocked`].
    Blocked(BlockedBloom),
}

impl PkFilter {
    fn sized(kind: FilterKind, keys: usize) -> PkFilter {
        match kind {
            FilterKind::Basic => PkFilter::Basic(BasicBloom::sized(keys, FALSE_POSITIVES)),
            FilterKind::Blocked => PkFilter::Blocked(BlockedBloom::sized(keys)),
        }
    }

    fn add(&mut self, key: &[u8]) {
        match self {
            PkFilter::Basic(bloom) => bloom.add(key),
            PkFilter::Blocked(bloom) => bloom.add(key),
        }
    }

    /// Whether the key may have been added: an Int64 as 8 little-endian bytes, a VarChar as its UTF-8.
    pub fn test(&self, key: &[u8]) -> bool {
        match self {
            PkFilter::Basic(bloom) => bloom.test(key),
            PkFilter::Blocked(bloom) => bloom.test(key),
        }
    }

    fn code(&self) -> i32 {
        match self {
            PkFilter::Basic(_) => BASIC_FILTER,
            PkFilter::Blocked(_) => BLOCKED_FILTER,
        }
    }
}

/// Statistics of one batch as they are written; `max` and `min` are 0 and unused, but readers insist on them.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "fieldID")]
    field_id: i64,
    max: i64,
    min: i64,
    #[serde(rename = "bfType")]
    filter_type: i32,
    bf: &'a PkFilter,
    #[serde(rename = "pkType")]
    pk_type: i32,
    #[serde(rename = "maxPk")]
    max_pk: Key<&'a str>,
    #[serde(rename = "minPk")]
    min_pk: Key<&'a str>,
}

/// Statistics of one batch as anyone wrote them.
#[derive(Deserialize)]
struct Found {
    #[serde(rename = "fieldID")]
    field_id: i64,
    #[serde(rename = "bfType", default = "basic_filter")]
    filter_type: i32,
    #[serde(default)]
    bf: Value,
    #[serde(rename = "pkType")]
    pk_type: i32,
    #[serde(rename = "maxPk")]
    max_pk: Key<String>,
    #[serde(rename = "minPk")]
    min_pk: Key<String>,
}

fn basic_filter() -> i32 {
    BASIC_FILTER
}

/// Primary key statistics of one batch.
#[derive(Clone, Debug, PartialEq)]
pub struct PkStatistics {
    /// Field id of the primary key.
    pub field_id: i64,
    /// Smallest key.
    pub min: PrimaryKey,
    /// Largest key.
    pub max: PrimaryKey,
    /// The filter; none if the file has another kind, which then excludes nothing.
    pub filter: Option<PkFilter>,
}

impl PkStatistics {
    /// Whether the batch may hold the key: false is certain.
    pub fn may_hold(&self, key: &PrimaryKey) -> bool {
        let same_type = std::mem::discriminant(key) == std::mem::discriminant(&self.min);
        let in_range = same_type && &self.min <= key && key <= &self.max;
        in_range
            && self.filter.as_ref().is_none_or(|bloom| match key {
                PrimaryKey::Int64(key) => bloom.test(&key.to_le_bytes()),
                PrimaryKey::VarChar(key) => bloom.test(key.as_bytes()),
            })
    }
}

/// Encodes the statistics of a batch's primary key as one JSON object: the range, and a bloom filter sized for the batch.
///
/// Fails if the column is empty or neither Int64 nor VarChar.
pub fn primary_key_statistics(column: &FieldColumn, filter: FilterKind) -> Result<String, WriteError> {
    let field = column.field_id;
    let fail = |problem: String| WriteError::Column { field, problem };
    let rows = row_count(column)?;
    let mut bloom = PkFilter::sized(filter, rows);
    let range = match &column.values {
        Values::Int64(keys) => {
            keys.iter().for_each(|key| bloom.add(&key.to_le_bytes()));
            keys.iter().min().zip(keys.iter().max()).map(|(min, max)| (Key::Int64(*min), Key::Int64(*max)))
        }
        Values::Bytes { ends, bytes } if column.data_type == DataType::VarChar => {
            let keys = || (0..rows).map(|i| slice(ends, bytes, i));
            keys().for_each(|key| bloom.add(key));
            let text = |key| std::str::from_utf8(key).map(Key::VarChar).map_err(|e| fail(e.to_string()));
            match keys().min().zip(keys().max()) {
                Some((min, max)) => Some((text(min)?, text(max)?)),
                None => None,
            }
        }
        _ => return Err(fail(format!("{:?} is no type for a primary key", column.data_type))),
    };
    let (min_pk, max_pk) = range.ok_or(WriteError::Empty { field })?;
    let pk_type = payload_type(column.data_type);
    let filter_type = bloom.code();
    serde_json::to_string(&Written { field_id: field, max: 0, min: 0, filter_type, bf: &bloom, pk_type, max_pk, min_pk })
        .map_err(|e| fail(e.to_string()))
}

/// Joins the statistics of all batches of a segment, in the order of the syncs, into the JSON list of the merged file.
pub fn merge_statistics(batches: &[String]) -> String {
    format!("[{}]", batches.join(","))
}

/// Reads a batch's statistics (an object) or a segment's (a list).
pub(crate) fn read_statistics(bytes: &[u8]) -> Result<Vec<PkStatistics>, ReadError> {
    let found: Vec<Found> = match bytes.first() {
        Some(b'[') => serde_json::from_slice(bytes),
        _ => serde_json::from_slice(bytes).map(|one| vec![one]),
    }
    .map_err(|e| ReadError::damaged(offset(bytes, e.line(), e.column()), format!("statistics: {e}")))?;
    found
        .into_iter()
        .enumerate()
        .map(|(i, found)| found.checked().map_err(|problem| ReadError::damaged(batch_at(bytes, i), format!("statistics {i}: {problem}"))))
        .collect()
}

/// Byte offset of batch `nth` of a file that parses: the only object, or an object of the list.
fn batch_at(bytes: &[u8], nth: usize) -> usize {
    let level = usize::from(bytes.first() == Some(&b'['));
    let (mut depth, mut in_text, mut escaped, mut met) = (0_usize, false, false, 0);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                if byte == b'{' && depth == level {
                    if met == nth {
                        return at;
                    }
                    met += 1;
                }
                depth += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    0
}

impl Found {
    fn checked(self) -> Result<PkStatistics, String> {
        let filter = match self.filter_type {
            BASIC_FILTER => Some(PkFilter::Basic(serde_json::from_value(self.bf).map_err(|e| e.to_string())?)),
            BLOCKED_FILTER => Some(PkFilter::Blocked(serde_json::from_value(self.bf).map_err(|e| e.to_string())?)),
            _ => None,
        };
        let wrong = || format!("the keys are not of type {}", self.pk_type);
        let min = self.min_pk.typed(self.pk_type).ok_or_else(wrong)?;
        let max = self.max_pk.typed(self.pk_type).ok_or_else(wrong)?;
        Ok(PkStatistics { field_id: self.field_id, min, max, filter })
    }
}

/// Byte offset of a position that serde_json gives as a line and a column, both from 1.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let before: usize = bytes.split_inclusive(|&b| b == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    (before + column.saturating_sub(1)).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(values: Values, data_type: DataType) -> FieldColumn {
        FieldColumn { field_id: 100, name: "id".to_owned(), data_type, is_primary: true, valid: None, values }
    }

    fn text(keys_of_batch: &[&str]) -> FieldColumn {
        let bytes: Vec<u8> = keys_of_batch.concat().into_bytes();
        let ends = keys_of_batch
            .iter()
            .scan(0, |end, key| {
                Some({
                    *end += key.len();
                    *end
                })
            })
            .collect();
        keys(Values::Bytes { ends, bytes }, DataType::VarChar)
    }

    #[test]
    fn statistics_of_integers_are_those_of_milvus() {
        let json = primary_key_statistics(&keys(Values::Int64(vec![2, 1, 3]), DataType::Int64), FilterKind::Basic).unwrap();
        let bf = r#"{"m":44,"k":11,"b":"AAAAAAAAACwAAAeSV1hVWA=="}"#;
        assert_eq!(json, format!(r#"{{"fieldID":100,"max":0,"min":0,"bfType":3,"bf":{bf},"pkType":5,"maxPk":3,"minPk":1}}"#));
        let read = read_statistics(json.as_bytes()).unwrap();
        assert_eq!((&read[0].min, &read[0].max), (&PrimaryKey::Int64(1), &PrimaryKey::Int64(3)));
        assert!((1..=3).all(|key| read[0].may_hold(&PrimaryKey::Int64(key))));
        assert!(!read[0].may_hold(&PrimaryKey::Int64(4)));
    }

    #[test]
    fn statistics_with_a_blocked_filter_are_those_of_milvus() {
        let json = primary_key_statistics(&keys(Values::Int64(vec![2, 1, 3]), DataType::Int64), FilterKind::Blocked).unwrap();
        let block = "AAACAoAAAAAACAAAOBIAAAAAAIBAQAAACAEAAAgAAAJACAAAEIIABAAAAAAAAAQAAAAEgFCAAYAAEAAAAACAAA==";
        let bf = format!(r#"{{"k":12,"b":["{block}"]}}"#);
        assert_eq!(json, format!(r#"{{"fieldID":100,"max":0,"min":0,"bfType":4,"bf":{bf},"pkType":5,"maxPk":3,"minPk":1}}"#));
        let read = read_statistics(json.as_bytes()).unwrap();
        assert!((1..=3).all(|key| read[0].may_hold(&PrimaryKey::Int64(key))));
        let Some(filter) = &read[0].filter else { panic!("a filter") };
        assert!((4..100i64).filter(|key| filter.test(&key.to_le_bytes())).count() < 3);
    }

    #[test]
    fn statistics_of_text_hold_its_keys() {
        let json = primary_key_statistics(&text(&["b", "", "\"ä\""]), FilterKind::Basic).unwrap();
        assert!(json.ends_with(r#""pkType":21,"maxPk":"b","minPk":""}"#), "{json}");
        let read = read_statistics(json.as_bytes()).unwrap();
        assert!(["b", "", "\"ä\""].iter().all(|key| read[0].may_hold(&PrimaryKey::VarChar((*key).to_owned()))));
        assert!(!read[0].may_hold(&PrimaryKey::VarChar("a".to_owned())));
        assert!(!read[0].may_hold(&PrimaryKey::Int64(1)));
    }

    #[test]
    fn merged_statistics_are_a_list_in_order() {
        let batches = [text(&["a"]), text(&["b"])].map(|column| primary_key_statistics(&column, FilterKind::Blocked).unwrap());
        let read = read_statistics(merge_statistics(&batches).as_bytes()).unwrap();
        assert_eq!(read.iter().map(|s| s.min.clone()).collect::<Vec<_>>(), ["a", "b"].map(|key| PrimaryKey::VarChar(key.to_owned())));
        assert_eq!(merge_statistics(&[]), "[]");
    }

    #[test]
    fn a_filter_of_another_kind_excludes_nothing_within_the_range() {
        let json = r#"{"fieldID":100,"max":0,"min":0,"bfType":2,"bf":{},"pkType":5,"maxPk":3,"minPk":1}"#;
        let read = read_statistics(json.as_bytes()).unwrap();
        assert_eq!(read[0].filter, None);
        assert!(read[0].may_hold(&PrimaryKey::Int64(2)) && !read[0].may_hold(&PrimaryKey::Int64(4)));
    }

    #[test]
    fn a_key_of_the_wrong_type_is_damage() {
        let json = r#"{"fieldID":100,"bfType":2,"pkType":21,"maxPk":3,"minPk":1}"#;
        assert_eq!(read_statistics(json.as_bytes()), Err(ReadError::damaged(0, "statistics 0: the keys are not of type 21")));
        assert!(matches!(read_statistics(b"{\n\"fieldID\":x}"), Err(ReadError::Damaged { offset: 12, .. })));
        let sound = primary_key_statistics(&text(&["\\\"}{["]), FilterKind::Basic).unwrap();
        let merged = merge_statistics(&[sound.clone(), json.to_owned()]);
        assert_eq!(
            read_statistics(merged.as_bytes()).map_err(|e| e.to_string()),
            Err(format!("damaged at byte {}: statistics 1: the keys are not of type 21", sound.len() + 2))
        );
    }

    #[test]
    fn a_batch_without_keys_has_no_statistics() {
        let empty = keys(Values::Int64(vec![]), DataType::Int64);
        assert_eq!(primary_key_statistics(&empty, FilterKind::Basic), Err(WriteError::Empty { field: 100 }));
        assert!(primary_key_statistics(&keys(Values::Float(vec![1.0]), DataType::Float), FilterKind::Basic).is_err());
    }
}
