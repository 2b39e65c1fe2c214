//! The one writer of a log: turns queued appends into group commits.

use std::collections::BTreeSet;
use std::sync::Arc;

use fjall::{Database, Keyspace, PersistMode};
use tidegate_message::build;

use super::group::Group;
use super::shared::{MetaChanges, Request, Shared, lock};
use super::storage;
use super::txns::OpenTxns;
use crate::wal::{Appended, LogError, TickSource};

/// Key of the term that owns the log.
pub(super) const TERM_KEY: &[u8] = b"term";
/// What the key of an open transaction begins with; its id follows.
pub(super) const TXN_PREFIX: &[u8] = b"txn:";
/// What the keys of the log's owner begin with.
pub(super) const META_PREFIX: &[u8] = b"meta:";

/// State of the writer.
pub(super) struct Writer {
    pub db: Database,
    pub meta: Keyspace,
    pub shared: Arc<Shared>,
    pub ticks: Arc<dyn TickSource>,
    pub pchannel: String,
    pub term: i64,
    pub next_id: i64,
    pub last_tick: u64,
    pub txns: OpenTxns,
    /// Transactions in the table on disk.
    pub table: BTreeSet<i64>,
    /// Payload bytes in the active chunk, as far as this handle wrote them.
    pub chunk_bytes: u64,
}

impl Writer {
    /// Takes the log over: rolls back what older terms left open, writes the first time tick of the term, and the term itself.
    pub fn take_over(&mut self) -> Result<(), LogError> {
        let rollbacks = self.txns.contexts().map(|(vchannel, txn)| build::rollback_txn(&vchannel, &txn)).collect();
        let term = (TERM_KEY.to_vec(), Some(self.term.to_be_bytes().to_vec()));
        self.write(vec![(rollbacks, Vec::new())], vec![term]).and_then(|mut written| written.pop().unwrap_or(Ok(Vec::new()))).map(drop)
    }

    /// Writes a group and answers each of its appends.
    pub fn serve(&mut self, group: Vec<Request>) {
        let (parts, replies): (Vec<_>, Vec<_>) = group.into_iter().map(|request| ((request.batch, request.meta), request.reply)).unzip();
        match self.write(parts, Vec::new()) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.iter().zip(outcomes) {
                    // A caller that is gone needs no answer.
                    let _ = reply.send(outcome);
                }
            }
            Err(error) => {
                for reply in &replies {
                    let _ = reply.send(Err(error.clone()));
                }
                if let LogError::Storage(_) = &error {
                    tracing::error!(pchannel = self.pchannel, term = self.term, %error, "the log stops");
                    self.shared.stop(error);
                }
            }
        }
    }

    /// Lets readers know that time goes on. No append is in flight: the writer is the only one who takes ticks for this log.
    pub fn idle(&mut self) {
        match self.ticks.next_ticks(1) {
            Ok(tick) if tick > self.last_tick => {
                self.last_tick = tick;
                self.txns.expire(tick);
                let mut tail = lock(&self.shared.tail);
                tail.idle = Some((tick, self.txns.oldest_begin().map_or(tail.durable, |begin| begin.min(tail.durable))));
                self.shared.tail_moved.notify_all();
            }
            Ok(tick) => tracing::warn!(pchannel = self.pchannel, tick, last = self.last_tick, "the tick source went back"),
            Err(error) => tracing::warn!(pchannel = self.pchannel, %error, "no time tick"),
        }
    }

    /// Writes the appends that can be written, a closing time tick, and the tables, in one fsynced batch; then shows them to readers.
    ///
    /// The batch itself carries the durability: fjall makes it visible only after the fsync, which a buffered commit followed by a
    /// `persist` would not.
    fn write(
        &mut self,
        parts: Vec<(Vec<tidegate_message::Outgoing>, MetaChanges)>,
        mut keys: MetaChanges,
    ) -> Result<Vec<Result<Vec<Appended>, LogError>>, LogError> {
        let messages = parts.iter().map(|(batch, _)| batch.len()).sum();
        let count = Group::ticks_for(messages, &self.txns)?;
        let first_tick = self.ticks.next_ticks(count)?;
        if first_tick <= self.last_tick {
            return Err(LogError::Invalid(format!("the tick source gave {first_tick}, which is not above {}", self.last_tick)));
        }
        let mut group = Group::new(&self.shared.limits, self.term, self.next_id, first_tick, self.txns.clone());
        let mut outcomes = Vec::with_capacity(parts.len());
        for (batch, meta) in parts {
            let outcome = group.add(batch);
            if outcome.is_ok() {
                keys.extend(meta.into_iter().map(|(key, value)| ([META_PREFIX, &key].concat(), value)));
            }
            outcomes.push(outcome);
        }
        let last_tick = group.finish()?;
        let Group { txns, entries, .. } = group;
        let table: BTreeSet<i64> = txns.0.keys().copied().collect();
        let key = |id: &i64| [TXN_PREFIX, &id.to_be_bytes()].concat();
        keys.extend(self.table.difference(&table).map(|id| (key(id), None)));
        keys.extend(txns.0.iter().filter(|(id, _)| !self.table.contains(id)).map(|(id, txn)| (key(id), Some(txn.encode()))));

        let bytes: usize = entries.iter().map(|(_, value)| value.len()).sum();
        let durable = entries.last().map_or(self.next_id - 1, |(id, _)| *id);
        self.commit(entries, keys)?;
        (self.next_id, self.last_tick, self.txns, self.table) = (durable + 1, last_tick, txns, table);
        self.chunk_bytes = self.chunk_bytes.saturating_add(bytes as u64);
        let mut tail = lock(&self.shared.tail);
        (tail.durable, tail.idle) = (durable, None);
        self.shared.tail_moved.notify_all();
        Ok(outcomes)
    }

    fn commit(&mut self, entries: Vec<(i64, Vec<u8>)>, keys: MetaChanges) -> Result<(), LogError> {
        let chunk = self.chunk()?;
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for (id, value) in entries {
            batch.insert(&chunk, id.to_be_bytes(), value);
        }
        for (key, value) in keys {
            match value {
                Some(value) => batch.insert(&self.meta, key, value),
                None => batch.remove(&self.meta, key),
            }
        }
        batch.commit().map_err(storage)
    }

    /// Returns the chunk for the next records, a new one if the active one is full.
    fn chunk(&mut self) -> Result<Keyspace, LogError> {
        let limits = &self.shared.limits;
        let mut tail = lock(&self.shared.tail);
        if let Some((first, chunk)) = tail.chunks.active()
            && self.chunk_bytes < limits.chunk_bytes
            && self.next_id - first < limits.chunk_records
        {
            return Ok(chunk.clone());
        }
        tail.chunks.roll(&self.db, &self.pchannel, self.next_id, limits)?;
        self.chunk_bytes = 0;
        tail.chunks.active().map(|(_, chunk)| chunk.clone()).ok_or(LogError::Closed)
    }
}
