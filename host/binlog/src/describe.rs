//! A segment file in words, for a person.

use std::fmt::{self, Write};

use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey};

use crate::columns::type_name;
use crate::delta::read_delta;
use crate::envelope::{Envelope, EventKind};
use crate::read::read_insert;
use crate::{Binlog, PackedColumn, PackedFile, PkFilter, PkStatistics, ReadError, read, show};

/// Describes a segment file: whose it is, its events and extras, its number of rows and the first `max_rows` of them.
///
/// A payload of a type of Milvus' that [`read`] has no place for is described by its envelope alone; whatever else is not read is an error.
///
/// ```text
/// insert log of field 100, Int64
///   segment     3 of collection 1, partition 2
///   ticks       1000 (0 ms + 1000) to 2000 (0 ms + 2000), written 2000 (0 ms + 2000)
///   extras      {"nullable":false,"original_size":"25"}
///   events      descriptor at byte 4, insert at byte 124, payload of 227 bytes at byte 157
///   rows        3
///          0    7
/// ```
pub fn describe(bytes: &[u8], max_rows: usize) -> Result<String, ReadError> {
    let mut out = String::new();
    let written = if Envelope::begins(bytes) {
        let envelope = Envelope::parse(bytes)?;
        match envelope.kind {
            EventKind::Insert => match read_insert(bytes, &envelope) {
                Ok(column) => put_envelope(&mut out, &envelope, bytes.len()).and_then(|()| put_values(&mut out, &column, max_rows)),
                Err(ReadError::Unsupported { problem, .. }) if DataType::from_code(envelope.payload_type).is_none() => {
                    put_envelope(&mut out, &envelope, bytes.len()).and_then(|()| writeln!(out, "  rows        not decoded: {problem}"))
                }
                Err(error) => return Err(error),
            },
            EventKind::Delete => {
                let deletes = read_delta(bytes, &envelope)?;
                put_envelope(&mut out, &envelope, bytes.len()).and_then(|()| put_deletes(&mut out, &deletes, max_rows))
            }
        }
    } else {
        match read(bytes)? {
            Binlog::Packed(file) => put_packed(&mut out, &file, max_rows),
            Binlog::Statistics(statistics) => put_statistics(&mut out, &statistics, max_rows),
            Binlog::Insert(_) | Binlog::Delta(_) => Ok(()),
        }
    };
    written.map(|()| out).map_err(|e| ReadError::unsupported(0, e.to_string()))
}

fn put_envelope(out: &mut String, envelope: &Envelope, file_bytes: usize) -> fmt::Result {
    let Envelope { key, field, payload_type, event_at, payload_at, .. } = envelope;
    let event = match envelope.kind {
        EventKind::Insert => "insert",
        EventKind::Delete => "delete",
    };
    match envelope.kind {
        EventKind::Insert => writeln!(out, "insert log of field {field}, {}", type_name(*payload_type))?,
        EventKind::Delete => writeln!(out, "delta log, {}", type_name(*payload_type))?,
    }
    writeln!(out, "  segment     {} of collection {}, partition {}", key.segment, key.collection, key.partition)?;
    let [from, to, written] = [envelope.tick_from, envelope.tick_to, envelope.written].map(tick);
    writeln!(out, "  ticks       {from} to {to}, written {written}")?;
    let extras = serde_json::to_string(&envelope.extras).map_err(|_| fmt::Error)?;
    writeln!(out, "  extras      {extras}")?;
    let payload_bytes = file_bytes - payload_at;
    writeln!(out, "  events      descriptor at byte 4, {event} at byte {event_at}, payload of {payload_bytes} bytes at byte {payload_at}")
}

/// A tick and the wall clock in it: milliseconds since 1970, and a counter of 18 bits.
fn tick(tick: u64) -> String {
    format!("{tick} ({} ms + {})", tick >> 18, tick & ((1 << 18) - 1))
}

fn put_rows(out: &mut String, rows: usize, max_rows: usize, row: impl Fn(usize) -> String) -> fmt::Result {
    writeln!(out, "  rows        {rows}")?;
    (0..rows.min(max_rows)).try_for_each(|i| writeln!(out, "  {i:>8}    {}", row(i)))?;
    match rows.saturating_sub(max_rows) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

fn put_values(out: &mut String, column: &FieldColumn, max_rows: usize) -> fmt::Result {
    let rows = column.valid.as_ref().map_or(column.values.len(), Vec::len);
    put_rows(out, rows, max_rows, |row| show::value(column, row))
}

/// A row is its values by field id.
fn put_packed(out: &mut String, file: &PackedFile, max_rows: usize) -> fmt::Result {
    let list = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    writeln!(out, "packed file of fields {}", list(&file.columns.iter().map(|column| column.field).collect::<Vec<_>>()))?;
    writeln!(out, "  groups      {}", file.groups.iter().map(|group| list(group)).collect::<Vec<_>>().join("; "))?;
    writeln!(out, "  row groups  {}", file.row_groups.iter().map(usize::to_string).collect::<Vec<_>>().join(", "))?;
    let value = |column: &PackedColumn, row: usize| match &column.valid {
        Some(valid) if !valid.get(row).copied().unwrap_or_default() => "null".to_owned(),
        _ => show::untyped(&column.values, row),
    };
    put_rows(out, file.rows(), max_rows, |row| {
        file.columns.iter().map(|column| format!("{}: {}", column.field, value(column, row))).collect::<Vec<_>>().join("  ")
    })
}

fn put_deletes(out: &mut String, deletes: &Deletes, max_rows: usize) -> fmt::Result {
    put_rows(out, deletes.keys.len(), max_rows, |i| {
        let row = deletes.keys.get(i).zip(deletes.ticks.get(i));
        row.map(|(key, &at)| format!("{} at {}", primary_key(key), tick(at))).unwrap_or_default()
    })
}

fn primary_key(key: &PrimaryKey) -> String {
    match key {
        PrimaryKey::Int64(key) => key.to_string(),
        PrimaryKey::VarChar(key) => show::text(key),
    }
}

fn put_statistics(out: &mut String, statistics: &[PkStatistics], max_rows: usize) -> fmt::Result {
    writeln!(out, "primary key statistics")?;
    put_rows(out, statistics.len(), max_rows, |i| {
        let Some(batch) = statistics.get(i) else { return String::new() };
        let filter = match &batch.filter {
            Some(PkFilter::Basic(bloom)) => format!("basic filter of {} bits, {} hashes", bloom.bits(), bloom.hashes()),
            Some(PkFilter::Blocked(bloom)) => format!("blocked filter of {} bits, {} hashes", bloom.bits(), bloom.hashes()),
            None => "no filter".to_owned(),
        };
        format!("field {}, keys {} to {}, {filter}", batch.field_id, primary_key(&batch.min), primary_key(&batch.max))
    })
}
