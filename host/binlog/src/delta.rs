//! Delta logs: which primary keys were deleted, and when.

use serde::{Deserialize, Serialize};
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};

use crate::columns::{STRING_TYPE, payload_type, slice, storage_name, value_count};
use crate::envelope::{Envelope, EventKind, Label};
use crate::parquet_read::{Column, read_table};
use crate::{ReadError, SegmentKey, WriteError, parquet_write};

/// Field id of a payload that is not a field's.
const NO_FIELD: i64 = -1;

/// One delete in the JSON form, `{"pk":1,"ts":100,"pkType":5}`.
#[derive(Serialize, Deserialize)]
struct Row<K> {
    pk: K,
    ts: u64,
    #[serde(rename = "pkType")]
    pk_type: i32,
}

/// A primary key as JSON has it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Key<S> {
    Int64(i64),
    VarChar(S),
}

impl Key<String> {
    /// The key if it is of the type that the code names.
    pub(crate) fn typed(self, code: i32) -> Option<PrimaryKey> {
        match (self, code) {
            (Key::Int64(key), 5) => Some(PrimaryKey::Int64(key)),
            (Key::VarChar(key), 21) => Some(PrimaryKey::VarChar(key)),
            _ => None,
        }
    }
}

impl<'a> From<&'a PrimaryKey> for Key<&'a str> {
    fn from(key: &'a PrimaryKey) -> Self {
        match key {
            PrimaryKey::Int64(key) => Key::Int64(*key),
            PrimaryKey::VarChar(key) => Key::VarChar(key),
        }
    }
}

/// Encodes deletes as a v1 delta log in Milvus' JSON form, the one that every reader and importer accepts.
///
/// The ticks in the envelope are the smallest and the largest of the deletes, and the time is the largest.
/// `original_size` is the number of JSON bytes. Fails if there are none, if keys and ticks differ in number, if the keys are of two
/// types, or if a tick is zero.
pub fn write_delta_log(key: &SegmentKey, deletes: &Deletes) -> Result<Vec<u8>, WriteError> {
    let fail = |problem: String| WriteError::Column { field: NO_FIELD, problem };
    let (Some(first), Some(&tick_from), Some(&tick_to)) = (deletes.keys.first(), deletes.ticks.iter().min(), deletes.ticks.iter().max())
    else {
        return Err(WriteError::Empty { field: NO_FIELD });
    };
    if deletes.keys.len() != deletes.ticks.len() {
        return Err(fail(format!("{} keys, but {} ticks", deletes.keys.len(), deletes.ticks.len())));
    }
    let (mut ends, mut bytes) = (Vec::with_capacity(deletes.keys.len()), Vec::new());
    for (key, &ts) in deletes.keys.iter().zip(&deletes.ticks) {
        if key_type(key) != key_type(first) {
            return Err(fail("the primary keys are of two types".to_owned()));
        }
        let row = Row { pk: Key::from(key), ts, pk_type: payload_type(key_type(key)) };
        serde_json::to_writer(&mut bytes, &row).map_err(|e| fail(e.to_string()))?;
        ends.push(bytes.len());
    }
    let extras = format!(r#"{{"original_size":"{}"}}"#, bytes.len());
    let values = Values::Bytes { ends, bytes };
    let column =
        FieldColumn { field_id: NO_FIELD, name: String::new(), data_type: DataType::VarChar, is_primary: false, valid: None, values };
    Label { key, field: NO_FIELD, payload_type: STRING_TYPE, kind: EventKind::Delete, tick_from, tick_to, extras }
        .wrap(|out| parquet_write::append_column(out, &column, deletes.keys.len()))
}

fn key_type(key: &PrimaryKey) -> DataType {
    match key {
        PrimaryKey::Int64(_) => DataType::Int64,
        PrimaryKey::VarChar(_) => DataType::VarChar,
    }
}

/// Reads the deletes of a delta log: JSON rows, the older `pk,ts` rows, or the two columns of the Parquet form.
pub(crate) fn read_delta(bytes: &[u8], envelope: &Envelope) -> Result<Deletes, ReadError> {
    let at = envelope.payload_at;
    let columns = read_table(bytes.get(at..).unwrap_or_default(), at)?.columns;
    if let Some(column) = columns.iter().find(|column| column.valid.as_ref().is_some_and(|valid| valid.contains(&false))) {
        return Err(ReadError::unsupported(at, format!("column {:?} has nulls", column.name)));
    }
    let mut columns = columns.into_iter();
    match (columns.next(), columns.next(), columns.next()) {
        (Some(Column { values: Values::Bytes { ends, bytes }, .. }), None, _) => {
            let mut deletes = Deletes::default();
            for i in 0..ends.len() {
                let row = slice(&ends, &bytes, i);
                let (key, tick) =
                    parse_row(row).ok_or_else(|| ReadError::damaged(at, format!("delete {i} is {:?}", String::from_utf8_lossy(row))))?;
                deletes.keys.push(key);
                deletes.ticks.push(tick);
            }
            Ok(deletes)
        }
        (Some(keys), Some(Column { values: Values::Int64(ticks), .. }), None) => {
            let keys = primary_keys(&keys.values, at)?;
            if keys.len() != ticks.len() {
                return Err(ReadError::damaged(at, format!("{} keys, but {} ticks", keys.len(), ticks.len())));
            }
            Ok(Deletes { keys, ticks: ticks.into_iter().map(i64::cast_unsigned).collect() })
        }
        (first, second, third) => {
            let all = [first, second, third].into_iter().flatten().chain(columns);
            let names: Vec<String> = all.map(|column| column.name).collect();
            Err(ReadError::unsupported(at, format!("columns {names:?} are not those of a delta log")))
        }
    }
}

fn parse_row(row: &[u8]) -> Option<(PrimaryKey, u64)> {
    let text = std::str::from_utf8(row).ok()?;
    if text.starts_with('{') {
        let row: Row<Key<String>> = serde_json::from_str(text).ok()?;
        return Some((row.pk.typed(row.pk_type)?, row.ts));
    }
    let (key, tick) = text.split_once(',')?;
    Some((PrimaryKey::Int64(key.parse().ok()?), tick.parse().ok()?))
}

fn primary_keys(values: &Values, at: usize) -> Result<Vec<PrimaryKey>, ReadError> {
    match values {
        Values::Int64(keys) => Ok(keys.iter().copied().map(PrimaryKey::Int64).collect()),
        Values::Bytes { ends, bytes } => (0..value_count(values))
            .map(|i| match std::str::from_utf8(slice(ends, bytes, i)) {
                Ok(key) => Ok(PrimaryKey::VarChar(key.to_owned())),
                Err(_) => Err(ReadError::damaged(at, format!("primary key {i} is not UTF-8"))),
            })
            .collect(),
        other => Err(ReadError::unsupported(at, format!("primary keys as {}", storage_name(other)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: SegmentKey = SegmentKey { collection: 123, partition: 456, segment: 789 };

    #[test]
    fn ten_deletes_are_the_rows_that_milvus_writes() {
        let deletes = Deletes { keys: (1..=10).map(PrimaryKey::Int64).collect(), ticks: (100..110).collect() };
        let file = write_delta_log(&KEY, &deletes).unwrap();
        let envelope = Envelope::parse(&file).unwrap();
        assert_eq!((envelope.tick_from, envelope.tick_to, envelope.written), (100, 109, 109));
        assert_eq!((envelope.field, envelope.payload_type, envelope.original_size), (-1, 20, 281));

        let columns = read_table(&file[envelope.payload_at..], envelope.payload_at).unwrap().columns;
        let Values::Bytes { ends, bytes } = &columns[0].values else { panic!("text") };
        assert_eq!(slice(ends, bytes, 0), br#"{"pk":1,"ts":100,"pkType":5}"#);
        assert_eq!(slice(ends, bytes, 9), br#"{"pk":10,"ts":109,"pkType":5}"#);
        assert_eq!(read_delta(&file, &envelope).unwrap(), deletes);
    }

    #[test]
    fn text_keys_survive_whatever_is_in_them() {
        let keys = ["a", "", "\"quoted\"", "1,2", "{", "é\u{2028}\n"].map(|key| PrimaryKey::VarChar(key.to_owned()));
        let deletes = Deletes { keys: keys.to_vec(), ticks: vec![u64::MAX, 1, 2, 3, 4, 5] };
        let file = write_delta_log(&KEY, &deletes).unwrap();
        assert_eq!(read_delta(&file, &Envelope::parse(&file).unwrap()).unwrap(), deletes);
        let mut row = Vec::new();
        serde_json::to_writer(&mut row, &Row { pk: Key::VarChar("a"), ts: 100, pk_type: 21 }).unwrap();
        assert_eq!(row, br#"{"pk":"a","ts":100,"pkType":21}"#);
    }

    #[test]
    fn rows_of_both_forms_are_understood_and_others_are_not() {
        assert_eq!(parse_row(b"-7,42"), Some((PrimaryKey::Int64(-7), 42)));
        assert_eq!(parse_row(br#"{"pkType":5,"pk":9223372036854775807,"ts":1}"#), Some((PrimaryKey::Int64(i64::MAX), 1)));
        for row in [r#"{"pk":1,"ts":100,"pkType":21}"#, r#"{"pk":1.5,"ts":100,"pkType":5}"#, r#"{"pk":1}"#, "1", "a,1", "1,-1", ""] {
            assert_eq!(parse_row(row.as_bytes()), None, "{row}");
        }
    }

    #[test]
    fn deletes_that_do_not_add_up_are_not_written() {
        let keys = vec![PrimaryKey::Int64(1), PrimaryKey::VarChar("1".to_owned())];
        assert_eq!(write_delta_log(&KEY, &Deletes::default()), Err(WriteError::Empty { field: -1 }));
        assert!(write_delta_log(&KEY, &Deletes { keys: keys.clone(), ticks: vec![1] }).is_err());
        assert!(write_delta_log(&KEY, &Deletes { keys: keys.clone(), ticks: vec![1, 1] }).is_err());
        assert!(write_delta_log(&KEY, &Deletes { keys: keys[..1].to_vec(), ticks: vec![0] }).is_err());
    }
}
