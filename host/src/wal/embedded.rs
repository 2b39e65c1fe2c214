//! Logs in the node's own directory, in one fjall database.
//!
//! Each open log has one appender thread. It takes everything that is queued, gives it ids and ticks, closes it with a time tick, and
//! writes it as one fsynced batch (group commit); only then are readers shown the records and callers answered. Ids are consecutive;
//! ticks ascend with them. While nothing is appended, readers get a tick every [`LogLimits::tick_interval`] that is not stored.
//!
//! A failed write or fsync leaves the disk in a state that nobody knows: the log stops for good with [`LogError::Storage`].
//!
//! Transactions live in the log and in a table beside it. Opening a log rolls back, in the log, those that an older handle left open.

mod chunks;
mod group;
mod reader;
mod shared;
mod txns;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::{Database, Keyspace, Readable};
use tidegate_message::{MessageId, Outgoing, TxnContext, WalName, build, properties};

use super::{Appended, Log, LogError, LogReader, ReadFrom, TickSource};
use chunks::Chunks;
use reader::EmbeddedReader;
pub use shared::{MetaChanges, MetaEntries};
use shared::{Request, Shared, Tail, lock};
use txns::{OpenTxn, OpenTxns};
use writer::{META_PREFIX, TERM_KEY, TXN_PREFIX, Writer};

/// The lease of a transaction that asks for none, in milliseconds, as in Milvus.
const DEFAULT_KEEPALIVE_MS: i64 = 10_000;

/// The numbers of the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// A chunk that reached this is followed by another. Default 64 MiB: what truncation lets go at a time.
    pub chunk_bytes: u64,
    /// Records in a chunk. Default 2^20: also small records get truncated.
    pub chunk_records: i64,
    /// Bytes of one append. Default 16 MiB: Milvus' brokers take 10 MB a message.
    pub append_bytes_max: usize,
    /// Bytes of one group commit, one append at least. Default 8 MiB.
    pub group_bytes: usize,
    /// Bytes of appends that wait; further ones block. Default 16 MiB.
    pub queue_bytes: usize,
    /// Bytes of the bodies of one transaction. Default 64 MiB: a reader holds them until the Commit.
    pub txn_bytes_max: usize,
    /// Transactions open at a time. Default 1024.
    pub txns_max: usize,
    /// How often an idle log ticks. Default 200 ms, as Milvus' `proxy.timeTickInterval`.
    pub tick_interval: Duration,
    /// Bytes that a reader reads ahead. Default 1 MiB.
    pub read_ahead_bytes: usize,
    /// Table in memory of each keyspace, of which a log writes two. Default 4 MiB; fjall's own default is 64.
    pub memtable_bytes: u64,
    /// Block cache of the database. Default 16 MiB.
    pub cache_bytes: u64,
    /// Journals of the database. Default 64 MiB, the least that fjall takes.
    pub journal_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits {
            chunk_bytes: 64 << 20,
            chunk_records: 1 << 20,
            append_bytes_max: 16 << 20,
            group_bytes: 8 << 20,
            queue_bytes: 16 << 20,
            txn_bytes_max: 64 << 20,
            txns_max: 1024,
            tick_interval: Duration::from_millis(200),
            read_ahead_bytes: 1 << 20,
            memtable_bytes: 4 << 20,
            cache_bytes: 16 << 20,
            journal_bytes: 64 << 20,
        }
    }
}

/// The logs of one directory.
pub struct EmbeddedLogs {
    db: Database,
    limits: LogLimits,
    open: Mutex<BTreeMap<String, Weak<Handle>>>,
}

impl EmbeddedLogs {
    /// Opens the database in `dir`, creating it if it is not there. One process at a time may do so.
    ///
    /// # Errors
    /// [`LogError::Storage`] if another process holds it, or it cannot be read.
    pub fn open(dir: &Path, limits: LogLimits) -> Result<Self, LogError> {
        let db = Database::builder(dir)
            .cache_size(limits.cache_bytes)
            .max_journaling_size(limits.journal_bytes.max(64 << 20))
            .worker_threads(1)
            .open()
            .map_err(storage)?;
        Ok(EmbeddedLogs { db, limits, open: Mutex::default() })
    }

    /// Opens the log of a pchannel for a term, creating it if it is not there. An open handle of a lower term is fenced first: its append
    /// in flight ends, and nothing else of it is written.
    ///
    /// # Errors
    /// [`LogError::Fenced`] if a higher term opened the log before, or a handle of the same term is open; [`LogError::Invalid`] for a name
    /// that is empty or longer than 200 bytes; a failure of the storage or of the tick source.
    pub fn open_pchannel(&self, name: &str, term: i64, ticks: Arc<dyn TickSource>) -> Result<Arc<EmbeddedLog>, LogError> {
        if name.is_empty() || name.len() > 200 {
            return Err(LogError::Invalid(format!("a pchannel's name has 1 to 200 bytes, not {}", name.len())));
        }
        let fenced = |by| LogError::Fenced { pchannel: name.to_owned(), term, by };
        let mut open = lock(&self.open);
        if let Some(older) = open.get(name).and_then(Weak::upgrade) {
            if older.term >= term {
                return Err(fenced(older.term));
            }
            older.shared.stop(LogError::Fenced { pchannel: name.to_owned(), term: older.term, by: term });
            drop(lock(&older.writing));
        }
        let meta = self.db.keyspace(&format!("meta:{name}"), || chunks::options(&self.limits)).map_err(storage)?;
        if let Some(stored) = stored_term(&meta)?
            && stored > term
        {
            return Err(fenced(stored));
        }
        let mut writer = self.load(name, term, meta, ticks)?;
        writer.take_over()?;
        let handle = Arc::new(Handle {
            term,
            shared: writer.shared.clone(),
            meta: writer.meta.clone(),
            ticks: writer.ticks.clone(),
            writing: Mutex::new(writer),
        });
        open.insert(name.to_owned(), Arc::downgrade(&handle));
        let appender = std::thread::Builder::new()
            .name(format!("append {name}"))
            .spawn({
                let handle = handle.clone();
                move || append_groups(&handle)
            })
            .map_err(|e| LogError::Storage(format!("no thread for the appender: {e}")))?;
        Ok(Arc::new(EmbeddedLog { db: self.db.clone(), pchannel: name.to_owned(), handle, appender: Some(appender) }))
    }

    /// Reads where a log stands.
    fn load(&self, name: &str, term: i64, meta: Keyspace, ticks: Arc<dyn TickSource>) -> Result<Writer, LogError> {
        let chunks = Chunks::load(&self.db, name, &self.limits)?;
        let (mut durable, mut last_tick) = (-1, 0);
        if let Some(last) = chunks.last_record()? {
            let message = tidegate_message::Message::decode(last).map_err(|e| LogError::Storage(e.to_string()))?;
            last_tick = message.tick;
            if let MessageId::RocksMq(id) = message.id {
                durable = id;
            }
        }
        let mut txns = OpenTxns::default();
        for entry in meta.prefix(TXN_PREFIX) {
            let (key, value) = entry.into_inner().map_err(storage)?;
            let id = key.get(TXN_PREFIX.len()..).and_then(|id| id.try_into().ok()).map(i64::from_be_bytes);
            let (Some(id), Some(txn)) = (id, OpenTxn::decode(&value)) else {
                return Err(LogError::Storage(format!("the entry of an open transaction of {name} cannot be read")));
            };
            txns.0.insert(id, txn);
        }
        let chunk_bytes = chunks.active().map_or(0, |(_, chunk)| chunk.disk_space());
        let tail = Tail { chunks, durable, idle: None, stopped: None };
        Ok(Writer {
            db: self.db.clone(),
            meta,
            shared: Arc::new(Shared::new(self.limits.clone(), tail)),
            ticks,
            pchannel: name.to_owned(),
            term,
            next_id: durable.checked_add(1).ok_or_else(|| LogError::Storage("the log's ids are used up".to_owned()))?,
            last_tick,
            table: txns.0.keys().copied().collect(),
            txns,
            chunk_bytes,
        })
    }
}

/// What the appender and the registry of open logs hold of a log.
struct Handle {
    term: i64,
    shared: Arc<Shared>,
    meta: Keyspace,
    ticks: Arc<dyn TickSource>,
    /// Held while a group is written.
    writing: Mutex<Writer>,
}

/// Writes groups until the log stops. Leaving, however that happens, stops the log: nobody waits for a thread that is gone.
fn append_groups(handle: &Handle) {
    struct StopOnExit<'a>(&'a Shared);
    impl Drop for StopOnExit<'_> {
        fn drop(&mut self) {
            self.0.stop(LogError::Closed);
        }
    }
    let _stop = StopOnExit(&handle.shared);
    while let Ok(group) = handle.shared.next_group(handle.shared.limits.tick_interval) {
        let mut writer = lock(&handle.writing);
        // Fenced while waiting for the lock: the newer term may have written already.
        if let Some(reason) = lock(&handle.shared.tail).stopped.clone() {
            for request in group {
                let _ = request.reply.send(Err(reason.clone()));
            }
            return;
        }
        if group.is_empty() { writer.idle() } else { writer.serve(group) }
    }
}

/// One open log. Dropping it ends the append in flight and refuses those that wait.
pub struct EmbeddedLog {
    db: Database,
    pchannel: String,
    handle: Arc<Handle>,
    appender: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Appends as [`Log::append`] does, and changes keys of the owner in the same atomic, durable batch.
    ///
    /// # Errors
    /// As [`Log::append`]; no key was changed either.
    pub fn append_with(&self, batch: Vec<Outgoing>, meta: MetaChanges) -> Result<Vec<Appended>, LogError> {
        if let Some(kind) = batch.iter().filter_map(|m| m.properties.get(properties::TYPE)).find(|kind| group::is_reserved(kind)) {
            return Err(LogError::Invalid(format!("messages of type {kind} are written by the log itself")));
        }
        self.submit(batch, meta)
    }

    /// Opens a transaction on a vchannel; 0 asks for a lease of 10 s, a negative lease has no end. Its bodies are appended as made by
    /// [`build::with_txn`]; each renews the lease.
    ///
    /// # Errors
    /// As [`Log::append`]; [`LogError::Invalid`] if too many are open.
    pub fn begin_txn(&self, vchannel: &str, keepalive_ms: i64) -> Result<TxnContext, LogError> {
        let keepalive_ms = if keepalive_ms == 0 { DEFAULT_KEEPALIVE_MS } else { keepalive_ms };
        let txn = TxnContext { txn_id: self.handle.ticks.next_ids(1)?, keepalive_ms };
        self.submit(vec![build::with_txn(build::begin_txn(vchannel, keepalive_ms), &txn)], Vec::new())?;
        Ok(txn)
    }

    /// Commits a transaction.
    ///
    /// # Errors
    /// As [`Log::append`]; [`LogError::NotOpen`] if its lease ended before the Commit's tick.
    pub fn commit_txn(&self, vchannel: &str, txn: &TxnContext) -> Result<Appended, LogError> {
        self.submit(vec![build::commit_txn(vchannel, txn)], Vec::new())?.pop().ok_or(LogError::Closed)
    }

    /// Rolls a transaction back.
    ///
    /// # Errors
    /// As [`Log::append`]; [`LogError::NotOpen`] if it is over already.
    pub fn rollback_txn(&self, vchannel: &str, txn: &TxnContext) -> Result<Appended, LogError> {
        self.submit(vec![build::rollback_txn(vchannel, txn)], Vec::new())?.pop().ok_or(LogError::Closed)
    }

    /// Returns the value of one of the owner's keys.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn meta_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LogError> {
        let value = self.handle.meta.get([META_PREFIX, key].concat()).map_err(storage)?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Returns the owner's keys that begin with `prefix`, in order, with their values, as of one moment.
    ///
    /// # Errors
    /// [`LogError::Storage`].
    pub fn meta_scan(&self, prefix: &[u8]) -> Result<MetaEntries, LogError> {
        let entries = self.db.snapshot().prefix(&self.handle.meta, [META_PREFIX, prefix].concat());
        entries
            .map(|entry| {
                let (key, value) = entry.into_inner().map_err(storage)?;
                Ok((key.get(META_PREFIX.len()..).unwrap_or_default().to_vec(), value.to_vec()))
            })
            .collect()
    }

    fn submit(&self, batch: Vec<Outgoing>, meta: MetaChanges) -> Result<Vec<Appended>, LogError> {
        if batch.is_empty() && meta.is_empty() {
            return Ok(Vec::new());
        }
        let text = |m: &Outgoing| m.properties.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let messages: usize = batch.iter().map(|m| m.payload.len() + text(m)).sum();
        let bytes = messages + meta.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>();
        let limit = self.handle.shared.limits.append_bytes_max;
        if bytes > limit {
            return Err(LogError::Invalid(format!("an append of {bytes} bytes; the limit is {limit}")));
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.handle.shared.submit(Request { batch, meta, bytes, reply })?;
        answer.recv().unwrap_or(Err(LogError::Closed))
    }
}

impl Log for EmbeddedLog {
    fn pchannel(&self) -> &str {
        &self.pchannel
    }

    fn wal(&self) -> WalName {
        WalName::RocksMq
    }

    fn term(&self) -> i64 {
        self.handle.term
    }

    fn append(&self, batch: Vec<Outgoing>) -> Result<Vec<Appended>, LogError> {
        self.append_with(batch, Vec::new())
    }

    fn open(&self, from: ReadFrom) -> Result<Box<dyn LogReader>, LogError> {
        let tail = lock(&self.handle.shared.tail);
        let first = tail.chunks.first();
        let next = match from {
            ReadFrom::Earliest => first,
            ReadFrom::Latest => tail.durable.saturating_add(1),
            // What earliest means in a stored position.
            ReadFrom::At(MessageId::RocksMq(-1)) | ReadFrom::After(MessageId::RocksMq(-1)) if first == 0 => 0,
            ReadFrom::At(id) => numeric(&id)?,
            ReadFrom::After(id) => numeric(&id)?.saturating_add(1),
        };
        if next < first {
            return Err(LogError::Truncated { asked: MessageId::RocksMq(next), first: MessageId::RocksMq(first) });
        }
        Ok(Box::new(EmbeddedReader::new(self.handle.shared.clone(), next)))
    }

    fn truncate(&self, up_to: &MessageId) -> Result<(), LogError> {
        let up_to = numeric(up_to)?;
        let below = {
            let mut tail = lock(&self.handle.shared.tail);
            if let Some(reason) = &tail.stopped {
                return Err(reason.clone());
            }
            let up_to = up_to.min(tail.durable);
            tail.chunks.take_below(up_to)
        };
        below.into_iter().try_for_each(|chunk| self.db.delete_keyspace(chunk).map_err(storage))
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.handle.shared.stop(LogError::Closed);
        if let Some(appender) = self.appender.take() {
            // A panic of the appender was reported by its own thread.
            let _ = appender.join();
        }
    }
}

fn stored_term(meta: &Keyspace) -> Result<Option<i64>, LogError> {
    let Some(stored) = meta.get(TERM_KEY).map_err(storage)? else { return Ok(None) };
    let term = stored.as_ref().try_into().map_err(|_| LogError::Storage("the stored term cannot be read".to_owned()))?;
    Ok(Some(i64::from_be_bytes(term)))
}

fn numeric(id: &MessageId) -> Result<i64, LogError> {
    match id {
        MessageId::RocksMq(id) => Ok(*id),
        other => Err(LogError::Invalid(format!("{other} is an id of {}, the embedded log's are {}", other.wal(), WalName::RocksMq))),
    }
}

fn storage(error: fjall::Error) -> LogError {
    LogError::Storage(match error {
        // All that whoever comes later gets to hear.
        fjall::Error::Poisoned => "its database failed before, in the background; check the disk, it may be full".to_owned(),
        error => error.to_string(),
    })
}
