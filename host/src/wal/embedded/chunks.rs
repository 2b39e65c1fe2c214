//! The records of a log on disk: one keyspace a chunk.
//!
//! fjall has no range delete, so truncation drops whole chunks. A chunk is named `log:<pchannel>:<first id>`; a chunk ends where the next
//! begins, and the last one takes the appends and is never dropped.

use std::collections::BTreeMap;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use tidegate_message::{MessageId, Record, decode_record};

use super::{LogLimits, storage};
use crate::wal::LogError;

/// The chunks of one log, by first id.
#[derive(Clone, Default)]
pub(super) struct Chunks(BTreeMap<i64, Keyspace>);

impl Chunks {
    /// Finds the chunks of a pchannel.
    pub fn load(db: &Database, pchannel: &str, limits: &LogLimits) -> Result<Chunks, LogError> {
        let mut chunks = BTreeMap::new();
        for name in db.list_keyspace_names() {
            if let Some((of, first)) = name.strip_prefix("log:").and_then(|rest| rest.rsplit_once(':'))
                && of == pchannel
                && let Ok(first) = first.parse()
            {
                chunks.insert(first, db.keyspace(&name, || options(limits)).map_err(storage)?);
            }
        }
        Ok(Chunks(chunks))
    }

    /// Adds a chunk that begins at `first`, and lets the one before it leave memory.
    pub fn roll(&mut self, db: &Database, pchannel: &str, first: i64, limits: &LogLimits) -> Result<(), LogError> {
        let chunk = db.keyspace(&format!("log:{pchannel}:{first}"), || options(limits)).map_err(storage)?;
        if let Some((_, full)) = self.active() {
            full.rotate_memtable().map_err(storage)?;
        }
        self.0.insert(first, chunk);
        Ok(())
    }

    /// Returns the chunk that takes the appends, with its first id.
    pub fn active(&self) -> Option<(i64, &Keyspace)> {
        self.0.last_key_value().map(|(&first, chunk)| (first, chunk))
    }

    /// Returns the first id that is left; 0 for a log that holds nothing.
    pub fn first(&self) -> i64 {
        self.0.first_key_value().map_or(0, |(&first, _)| first)
    }

    /// Returns the last record; a chunk that was made and never written is passed over.
    pub fn last_record(&self) -> Result<Option<Record>, LogError> {
        for chunk in self.0.values().rev() {
            if let Some(entry) = chunk.last_key_value() {
                let (key, value) = entry.into_inner().map_err(storage)?;
                return record(&key, &value).map(Some);
            }
        }
        Ok(None)
    }

    /// Takes out the chunks that lie wholly below `up_to`, oldest first.
    pub fn take_below(&mut self, up_to: i64) -> Vec<Keyspace> {
        let Some((&keep, _)) = self.0.range(..=up_to).next_back() else { return Vec::new() };
        let kept = self.0.split_off(&keep);
        std::mem::replace(&mut self.0, kept).into_values().collect()
    }

    /// Returns the chunk that holds an id, and the last id that it may hold.
    pub fn holding(&self, id: i64) -> Option<(Keyspace, i64)> {
        let (_, chunk) = self.0.range(..=id).next_back()?;
        let end = self.0.range(id.checked_add(1)?..).next().map_or(i64::MAX, |(&next, _)| next - 1);
        Some((chunk.clone(), end))
    }
}

/// Reads records of one chunk, from `first` up to and including `last`, until they make `bytes_max`.
pub(super) fn read(chunk: &Keyspace, first: i64, last: i64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
    let mut records = Vec::new();
    let mut bytes = 0;
    for (entry, expected) in chunk.range(first.to_be_bytes()..=last.to_be_bytes()).zip(first..) {
        let (key, value) = entry.into_inner().map_err(storage)?;
        let record = record(&key, &value)?;
        if record.id != MessageId::RocksMq(expected) {
            return Err(LogError::Storage(format!("record {expected} is missing; the next one is {}", record.id)));
        }
        bytes += record.size();
        records.push(record);
        if bytes >= bytes_max {
            break;
        }
    }
    if records.is_empty() {
        return Err(LogError::Storage(format!("record {first} is missing, though it was made durable")));
    }
    Ok(records)
}

/// Reads a stored record. Keys are big-endian: ids are never negative, so byte order is their order.
fn record(key: &[u8], value: &[u8]) -> Result<Record, LogError> {
    let key = key.try_into().map_err(|_| LogError::Storage(format!("a key of {} bytes among the records", key.len())))?;
    let id = MessageId::RocksMq(i64::from_be_bytes(key));
    let (payload, properties): (Bytes, _) = decode_record(value).map_err(|e| LogError::Storage(format!("record {id}: {e}")))?;
    Ok(Record { id, payload, properties })
}

/// Options of every keyspace. Payloads leave the tree when a table is written, so that compaction does not copy them.
pub(super) fn options(limits: &LogLimits) -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(limits.memtable_bytes)
        .data_block_compression_policy(CompressionPolicy::disabled())
        .with_kv_separation(Some(KvSeparationOptions::default().separation_threshold(4096)))
}
