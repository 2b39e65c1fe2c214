//! Delta logs: which primary keys were deleted, and when.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};

use crate::columns::{STRING_TYPE, payload_type, slice, storage_name, value_count};
use crate::envelope::{Envelope, EventKind, Label};
use crate::packed::memory_bytes;
use crate::parquet_read::{Column, read_table};
use crate::parquet_write::{Stored, append_column, append_table};
use crate::{ReadError, SegmentKey, WriteError};

/// Field id of a payload that is not a field's.
const NO_FIELD: i64 = -1;
/// The extra `version` of the Parquet form.
const TWO_COLUMNS: &str = "MULTI_FIELD";

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

/// Which form a delta log is written in. Every reader and importer accepts the JSON form; importers of Milvus 2.3 accept nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaForm {
    /// One column of JSON objects, compressed.
    #[default]
    Json,
    /// The columns `pk` and `ts`, plain.
    Parquet,
}

/// Encodes deletes as a delta log: descriptor, one delete event, a Parquet payload in one of Milvus' forms.
///
/// The ticks in the envelope are the smallest and the largest of the deletes, and the time is the largest.
/// `original_size` is the number of JSON bytes, or the bytes of keys and ticks. Fails if there are none, if keys and ticks differ in
/// number, if the keys are of two types, or if a tick is zero.
pub fn write_delta_log(key: &SegmentKey, deletes: &Deletes, form: DeltaForm) -> Result<Vec<u8>, WriteError> {
    let fail = |problem: String| WriteError::Column { field: NO_FIELD, problem };
    let rows = deletes.keys.len();
    let (Some(first), Some(&tick_from), Some(&tick_to)) = (deletes.keys.first(), deletes.ticks.iter().min(), deletes.ticks.iter().max())
    else {
        return Err(WriteError::Empty { field: NO_FIELD });
    };
    if rows != deletes.ticks.len() {
        return Err(fail(format!("{rows} keys, but {} ticks", deletes.ticks.len())));
    }
    if deletes.keys.iter().any(|key| key_type(key) != key_type(first)) {
        return Err(fail("the primary keys are of two types".to_owned()));
    }
    let label = |payload_type, extras| Label { key, field: NO_FIELD, payload_type, kind: EventKind::Delete, tick_from, tick_to, extras };
    match form {
        DeltaForm::Json => {
            let (mut ends, mut bytes) = (Vec::with_capacity(rows), Vec::new());
            for (key, &ts) in deletes.keys.iter().zip(&deletes.ticks) {
                let row = Row { pk: Key::from(key), ts, pk_type: payload_type(key_type(key)) };
                serde_json::to_writer(&mut bytes, &row).map_err(|e| fail(e.to_string()))?;
                ends.push(bytes.len());
            }
            let extras = format!(r#"{{"original_size":"{}"}}"#, bytes.len());
            let json = column(DataType::VarChar, Values::Bytes { ends, bytes });
            label(STRING_TYPE, extras).wrap(|out| append_column(out, &json, rows))
        }
        DeltaForm::Parquet => {
            let keys = column(key_type(first), key_values(&deletes.keys));
            let ticks = column(DataType::Int64, Values::Int64(deletes.ticks.iter().map(|tick| tick.cast_signed()).collect()));
            let size = memory_bytes(&keys, 0..rows) + memory_bytes(&ticks, 0..rows);
            let extras = format!(r#"{{"original_size":"{size}","version":"{TWO_COLUMNS}"}}"#);
            let plain = |column, name, dictionary| Stored { column, name: Cow::Borrowed(name), id: None, dictionary, compressed: false };
            let columns = [plain(&keys, "pk", false), plain(&ticks, "ts", true)];
            label(payload_type(DataType::Int64), extras)
                .wrap(|out| append_table(out, &columns, std::slice::from_ref(&(0..rows)), Vec::new()).map_err(|e| fail(e.to_string())))
        }
    }
}

fn column(data_type: DataType, values: Values) -> FieldColumn {
    FieldColumn { field_id: NO_FIELD, name: String::new(), data_type, is_primary: false, valid: None, values }
}

/// Keys of one type as a column.
fn key_values(keys: &[PrimaryKey]) -> Values {
    let (mut numbers, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    for key in keys {
        match key {
            PrimaryKey::Int64(key) => numbers.push(*key),
            PrimaryKey::VarChar(key) => {
                bytes.extend_from_slice(key.as_bytes());
                ends.push(bytes.len());
            }
        }
    }
    if ends.is_empty() { Values::Int64(numbers) } else { Values::Bytes { ends, bytes } }
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
        (Some(Column { values: Values::Bytes { ends, bytes }, at, .. }), None, _) => {
            let mut deletes = Deletes { keys: Vec::with_capacity(ends.len()), ticks: Vec::with_capacity(ends.len()) };
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
            let keys = primary_keys(&keys.values, keys.at)?;
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
    use bytes::Bytes;
    use parquet::basic::Compression;
    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    const KEY: SegmentKey = SegmentKey { collection: 123, partition: 456, segment: 789 };

    #[test]
    fn ten_deletes_are_the_rows_that_milvus_writes() {
        let deletes = Deletes { keys: (1..=10).map(PrimaryKey::Int64).collect(), ticks: (100..110).collect() };
        let file = write_delta_log(&KEY, &deletes, DeltaForm::Json).unwrap();
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
    fn the_parquet_form_has_two_plain_columns_and_says_so() {
        let integers = Deletes { keys: (1..=10).map(PrimaryKey::Int64).collect(), ticks: (100..110).collect() };
        let text = Deletes { keys: ["a", "", "ä"].map(|key| PrimaryKey::VarChar(key.to_owned())).to_vec(), ticks: vec![u64::MAX, 1, 2] };
        for (deletes, size) in [(integers, 160), (text, 3 * 8 + 3 * 4 + 3)] {
            let file = write_delta_log(&KEY, &deletes, DeltaForm::Parquet).unwrap();
            let envelope = Envelope::parse(&file).unwrap();
            assert_eq!((envelope.field, envelope.payload_type, envelope.original_size), (-1, 5, size));
            assert_eq!(envelope.extras.get("version").and_then(|version| version.as_str()), Some("MULTI_FIELD"));
            let table = read_table(&file[envelope.payload_at..], envelope.payload_at).unwrap();
            assert_eq!(
                table.columns.iter().map(|c| (c.name.as_str(), c.valid.is_some())).collect::<Vec<_>>(),
                [("pk", false), ("ts", false)]
            );
            let payload = SerializedFileReader::new(Bytes::copy_from_slice(&file[envelope.payload_at..])).unwrap();
            let plain = |column: &ColumnChunkMetaData| column.compression() == Compression::UNCOMPRESSED;
            assert!(payload.metadata().row_group(0).columns().iter().all(plain));
            assert_eq!(read_delta(&file, &envelope).unwrap(), deletes);
        }
    }

    #[test]
    fn text_keys_survive_whatever_is_in_them() {
        let keys = ["a", "", "\"quoted\"", "1,2", "{", "é\u{2028}\n"].map(|key| PrimaryKey::VarChar(key.to_owned()));
        let deletes = Deletes { keys: keys.to_vec(), ticks: vec![u64::MAX, 1, 2, 3, 4, 5] };
        let file = write_delta_log(&KEY, &deletes, DeltaForm::Json).unwrap();
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
        let write = |deletes: &Deletes| {
            let json = write_delta_log(&KEY, deletes, DeltaForm::Json);
            assert_eq!(write_delta_log(&KEY, deletes, DeltaForm::Parquet), json);
            json
        };
        assert_eq!(write(&Deletes::default()), Err(WriteError::Empty { field: -1 }));
        assert!(write(&Deletes { keys: keys.clone(), ticks: vec![1] }).is_err());
        assert!(write(&Deletes { keys: keys.clone(), ticks: vec![1, 1] }).is_err());
        assert!(write(&Deletes { keys: keys[..1].to_vec(), ticks: vec![0] }).is_err());
    }
}
