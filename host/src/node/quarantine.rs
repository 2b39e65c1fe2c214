//! The operator's side of the dead letters: what is there, and appending it again.
//!
//! | step | durable before the next |
//! |---|---|
//! | every message of the retry is read and checked against its collection as it is now | nothing is written |
//! | `retrying` | in the dead-letter file: a crash from here on cannot hide that rows may be in the log |
//! | the messages, as one unit, through the node's write path: new ticks, new segments | in the log |
//! | `retried`, with the new ticks and ids | in the dead-letter file |

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_core::coordinator::{CollectionInfo, CollectionState, pchannel_of};
use tidegate_message::columns::{Columns, Deletes, FieldColumn, PrimaryKey, ROW_ID_FIELD, TIMESTAMP_FIELD, Values};
use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::{Header, Message, MessageId, MessageType, Record, WalName, properties};

use super::dead_letters::{Again, DeadLetters, Entry, Mark};
use super::deletes::EVERY_PARTITION;
use super::write::Change;
use super::{Node, NodeError};
use crate::wal::{Log, LogError};

/// A message that is set aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quarantined {
    /// The pchannel whose log it is of.
    pub pchannel: String,
    /// Its id in that log.
    pub id: String,
    /// Its channel, if readable.
    pub vchannel: String,
    /// Its tick, if readable.
    pub tick: u64,
    /// Its type, as Milvus names it.
    pub kind: String,
    /// Rows, or keys of a delete, if readable.
    pub rows: Option<u64>,
    /// The transaction that it came in.
    pub transaction: Option<i64>,
    /// Why it is here.
    pub reason: String,
    /// What was done with it: `held`, `retrying`, `retried` or `skipped`.
    pub state: String,
    /// The same in words, where there is more to say.
    pub detail: Option<String>,
}

/// A message that was appended again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Retried {
    /// The pchannel.
    pub pchannel: String,
    /// The id that it had.
    pub id: String,
    /// Its channel.
    pub vchannel: String,
    /// Its type, as Milvus names it.
    pub kind: String,
    /// Rows, or keys of a delete.
    pub rows: u64,
    /// As what.
    #[serde(flatten)]
    pub again: Again,
}

/// What is to be appended again for a message.
struct Prepared {
    vchannel: String,
    id: String,
    old_tick: u64,
    collection: i64,
    partition: i64,
    body: Body,
}

enum Body {
    Rows { fields: Vec<FieldColumn>, row_ids: Vec<i64> },
    Keys(Vec<PrimaryKey>),
}

impl Prepared {
    fn change(&self) -> Change<'_> {
        let (collection, vchannel, partition) = (self.collection, self.vchannel.as_str(), self.partition);
        match &self.body {
            Body::Rows { fields, row_ids } => Change::Rows { collection, vchannel, partition, fields, row_ids },
            Body::Keys(keys) => Change::Keys { collection, vchannel, partition, keys },
        }
    }

    fn rows(&self) -> u64 {
        match &self.body {
            Body::Rows { row_ids, .. } => row_ids.len() as u64,
            Body::Keys(keys) => keys.len() as u64,
        }
    }
}

impl Node {
    /// Lists the messages that are set aside, in the order they were.
    ///
    /// # Errors
    /// A dead-letter file cannot be read.
    pub fn quarantined(&self) -> Result<Vec<Quarantined>, NodeError> {
        let mut found = Vec::new();
        for (pchannel, letters) in &self.letters {
            let wal = self.log_named(pchannel)?.wal();
            letters.each(|entry, mark| found.push(describe(pchannel, wal, &entry, mark))).map_err(|e| unreadable(pchannel, &e))?;
        }
        Ok(found)
    }

    /// Appends a message that is set aside again, with the others of its transaction that are: with new ticks, and for rows a segment that
    /// takes rows now. With `force` it goes alone, and although that was done before.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] says why the message cannot be appended again; nothing was written then.
    pub fn retry_quarantined(&self, which: &str, force: bool) -> Result<Vec<Retried>, NodeError> {
        let _one_at_a_time = self.retries.lock();
        let known = self.quarantined()?;
        let letter = select(&known, which)?;
        if !force {
            self.retriable(letter)?;
        }
        let with = known.iter().filter(|other| {
            let sibling = letter.transaction.is_some()
                && (&other.pchannel, &other.vchannel, other.transaction) == (&letter.pchannel, &letter.vchannel, letter.transaction);
            same(other, letter) || (sibling && !force && other.state == "held")
        });
        self.append_again(&letter.pchannel, &with.collect::<Vec<_>>())
    }

    /// Whether the message waits for a retry.
    fn retriable(&self, letter: &Quarantined) -> Result<(), NodeError> {
        match (letter.state.as_str(), &letter.detail) {
            ("retried" | "retrying", Some(detail)) => refuse(letter, &format!("{detail}; --force appends it all the same, alone")),
            _ => Ok(()),
        }
    }

    /// Gives up the effect of a control message that is set aside: it does not detach its channels any more, from the next start on.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] when it carries rows, or was given up before.
    pub fn skip_quarantined(&self, which: &str) -> Result<Quarantined, NodeError> {
        let _one_at_a_time = self.retries.lock();
        let known = self.quarantined()?;
        let letter = select(&known, which)?;
        if [MessageType::INSERT.name(), MessageType::DELETE.name()].contains(&letter.kind.as_str()) {
            return refuse(letter, "it carries rows, which detach nothing: retry it, or leave it");
        }
        if letter.state == "skipped" {
            return refuse(letter, "it is skipped already");
        }
        let name = super::dead_letters::name(&letter.id, &letter.vchannel, letter.tick);
        self.mark(&letter.pchannel, Mark::Skipped { names: vec![name], at_ms: now_ms() })?;
        Ok(Quarantined { state: "skipped".into(), ..letter.clone() })
    }

    fn append_again(&self, pchannel: &str, which: &[&Quarantined]) -> Result<Vec<Retried>, NodeError> {
        let wal = self.log_named(pchannel)?.wal();
        // No message of this node has a tick that was not given out yet.
        let now = self.coordinator.alloc_ticks(1)?;
        let collections = self.collections()?;
        let mut prepared = Vec::new();
        for entry in self.entries(pchannel, which)? {
            match prepare(pchannel, wal, now, &collections, &entry) {
                Ok(ready) => prepared.push((entry.name(), ready)),
                Err(reason) => return refuse_one(pchannel, &entry.id, &reason),
            }
        }
        let names: Vec<String> = prepared.iter().map(|(name, _)| name.clone()).collect();
        self.mark(pchannel, Mark::Retrying { names: names.clone(), at_ms: now_ms() })?;
        let changes: Vec<Change<'_>> = prepared.iter().map(|(_, ready)| ready.change()).collect();
        let appended = match self.append_changes(pchannel, &changes) {
            Ok(appended) => appended,
            // What became of the append is known after a restart: the mark stands.
            Err(error @ NodeError::Log(LogError::Storage(_))) => return Err(error),
            Err(error) => {
                self.mark(pchannel, Mark::NotRetried { names, reason: error.to_string() })?;
                return Err(error);
            }
        };
        let retried = prepared.iter().zip(&appended).map(|((_, ready), (appended, segment))| Retried {
            pchannel: pchannel.to_owned(),
            id: ready.id.clone(),
            vchannel: ready.vchannel.clone(),
            kind: match ready.body {
                Body::Rows { .. } => MessageType::INSERT.name().to_owned(),
                Body::Keys(_) => MessageType::DELETE.name().to_owned(),
            },
            rows: ready.rows(),
            again: Again { old_tick: ready.old_tick, tick: appended.tick, new_id: appended.id.marshal(), segment: *segment },
        });
        let retried: Vec<Retried> = retried.collect();
        self.mark(pchannel, Mark::Retried { names, messages: retried.iter().map(|r| r.again.clone()).collect() })?;
        Ok(retried)
    }

    fn letters_of(&self, pchannel: &str) -> Result<&DeadLetters, NodeError> {
        self.letters.get(pchannel).ok_or_else(|| NodeError::Setup(format!("pchannel {pchannel} is not of this node; raise `pchannels`")))
    }

    fn mark(&self, pchannel: &str, mark: Mark) -> Result<(), NodeError> {
        let marked = self.letters_of(pchannel)?.mark(mark);
        marked.map_err(|e| NodeError::Setup(format!("the dead-letter file of {pchannel} cannot be written: {e}")))
    }

    fn entries(&self, pchannel: &str, which: &[&Quarantined]) -> Result<Vec<Entry>, NodeError> {
        let wanted: BTreeSet<(&str, &str, u64)> = which.iter().map(|l| (l.id.as_str(), l.vchannel.as_str(), l.tick)).collect();
        let mut entries = Vec::new();
        let read = self.letters_of(pchannel)?.each(|entry, _| {
            if wanted.contains(&(entry.id.as_str(), entry.vchannel.as_str(), entry.tick)) {
                entries.push(entry);
            }
        });
        read.map(|()| entries).map_err(|e| unreadable(pchannel, &e))
    }
}

fn unreadable(pchannel: &str, error: &std::io::Error) -> NodeError {
    NodeError::Setup(format!("the dead-letter file of {pchannel} cannot be read: {error}"))
}

fn refuse<T>(letter: &Quarantined, reason: &str) -> Result<T, NodeError> {
    refuse_one(&letter.pchannel, &letter.id, reason)
}

fn refuse_one<T>(pchannel: &str, id: &str, reason: &str) -> Result<T, NodeError> {
    Err(NodeError::Invalid(format!("message {pchannel}/{id} cannot be appended again: {reason}")))
}

fn same(a: &Quarantined, b: &Quarantined) -> bool {
    (&a.pchannel, &a.id, &a.vchannel, a.tick) == (&b.pchannel, &b.id, &b.vchannel, b.tick)
}

/// Finds the message that `ID` or `PCHANNEL/ID` names.
fn select<'a>(known: &'a [Quarantined], which: &str) -> Result<&'a Quarantined, NodeError> {
    let named: Vec<&Quarantined> = known
        .iter()
        .filter(|l| which == l.id || which.strip_prefix(&l.pchannel).and_then(|rest| rest.strip_prefix('/')) == Some(&l.id))
        .collect();
    let pchannels: BTreeSet<&str> = named.iter().map(|l| l.pchannel.as_str()).collect();
    match (named.first(), pchannels.len()) {
        (Some(first), 1) => Ok(named.iter().find(|l| l.state == "held").unwrap_or(first)),
        (None, _) => Err(NodeError::Invalid(format!("no message {which:?} is set aside; `tidegate quarantine list` shows what is"))),
        _ => {
            Err(NodeError::Invalid(format!("several pchannels have set a message {which:?} aside, {pchannels:?}: name one as PCHANNEL/ID")))
        }
    }
}

fn decode(wal: WalName, entry: &Entry) -> Result<Message, String> {
    let id = MessageId::unmarshal(wal, &entry.id).map_err(|e| e.to_string())?;
    let payload = properties::decode_base64(&entry.payload).map_err(|e| format!("its payload is not base64: {e}"))?;
    let record = Record { id, payload: Bytes::from(payload), properties: entry.properties.clone() };
    Message::decode(record).map_err(|malformed| format!("it cannot be read: {}", malformed.error))
}

fn describe(pchannel: &str, wal: WalName, entry: &Entry, mark: Option<&Mark>) -> Quarantined {
    let message = decode(wal, entry).ok();
    let claimed = entry.properties.get(properties::TYPE).and_then(|text| text.parse().ok()).map(MessageType);
    let kind = message.as_ref().map(|m| m.kind).or(claimed);
    let rows = message.as_ref().and_then(|m| match &m.header {
        Header::Insert { rows, .. } | Header::Delete { rows, .. } => Some((*rows).min(m.payload.len() as u64)),
        _ => None,
    });
    let (state, detail) = match mark {
        None => ("held", None),
        Some(Mark::NotRetried { reason, .. }) => ("held", Some(format!("a retry was refused: {reason}"))),
        Some(Mark::Retrying { at_ms, .. }) => {
            ("retrying", Some(format!("a retry was begun {at_ms} ms after 1970; whether its rows are in the log is not known")))
        }
        Some(Mark::Retried { messages, .. }) => {
            let again = messages.iter().find(|again| again.old_tick == entry.tick);
            let detail = again.map(|a| {
                let segment = a.segment.map(|s| format!(", segment {s}")).unwrap_or_default();
                format!("it was appended again {} ms after 1970 as message {}, tick {}{segment}", a.tick >> 18, a.new_id, a.tick)
            });
            ("retried", Some(detail.unwrap_or_else(|| "it was appended again".to_owned())))
        }
        Some(Mark::Skipped { at_ms, .. }) => ("skipped", Some(format!("its effect was given up {at_ms} ms after 1970"))),
    };
    Quarantined {
        pchannel: pchannel.to_owned(),
        id: entry.id.clone(),
        vchannel: entry.vchannel.clone(),
        tick: entry.tick,
        kind: kind.map_or("Unknown", |k| k.name()).to_owned(),
        rows,
        transaction: message.and_then(|m| m.txn).map(|t| t.txn_id),
        reason: entry.reason.clone(),
        state: state.to_owned(),
        detail,
    }
}

/// Reads a message and checks that it still fits; an error says why it does not.
fn prepare(pchannel: &str, wal: WalName, now: u64, collections: &[CollectionInfo], entry: &Entry) -> Result<Prepared, String> {
    if !entry.wal.is_empty() && entry.wal != wal.to_string() {
        return Err(format!("it is of another log, of kind {}; this one is of kind {wal}", entry.wal));
    }
    let message = decode(wal, entry)?;
    if pchannel_of(&message.vchannel) != pchannel || entry.tick > now {
        return Err(format!(
            "it is of another log: channel {:?} at tick {} is not of this node's {pchannel}",
            message.vchannel, entry.tick
        ));
    }
    let (collection, partition, rows) = match message.header {
        Header::Insert { collection, partition, rows, .. } => (collection, partition, rows),
        Header::Delete { collection, partition, rows } => (collection, partition, rows),
        Header::Cipher(_) => return Err("it is encrypted, and the key is not here".to_owned()),
        _ => {
            return Err(format!(
                "it is a {}, and only rows and deletes are appended again; --skip gives its effect up",
                message.kind.name()
            ));
        }
    };
    let info = collections.iter().find(|c| c.id == collection && c.state == CollectionState::Created);
    let info = info.ok_or_else(|| format!("this node has no collection {collection}: it was dropped, or the message is another node's"))?;
    if !info.shards.iter().any(|s| s.vchannel == message.vchannel) {
        return Err(format!("collection {:?} has no channel {:?}", info.name, message.vchannel));
    }
    let is_delete = message.kind == MessageType::DELETE;
    let has_partition = (is_delete && partition == EVERY_PARTITION) || info.partitions.iter().any(|p| p.id == partition);
    if !has_partition {
        return Err(format!("collection {:?} has no partition {partition} any more", info.name));
    }
    let body = if is_delete { keys_of(&message.payload, info) } else { rows_of(&message.payload, info) };
    let body = body.map_err(|e| format!("it does not fit collection {:?}: {e}", info.name))?;
    let ready = Prepared { vchannel: message.vchannel, id: entry.id.clone(), old_tick: entry.tick, collection, partition, body };
    if ready.rows() != rows {
        return Err(format!("its header says {rows} rows, its body has {}", ready.rows()));
    }
    Ok(ready)
}

fn keys_of(payload: &Bytes, collection: &CollectionInfo) -> Result<Body, String> {
    let body = DeleteBody::parse(payload).map_err(|e| e.to_string())?;
    body.check(&collection.schema).map_err(|e| e.to_string())?;
    let mut deletes = Deletes::default();
    body.append_to(0, &mut deletes);
    Ok(Body::Keys(deletes.keys))
}

fn rows_of(payload: &Bytes, collection: &CollectionInfo) -> Result<Body, String> {
    let body = InsertBody::parse(payload).map_err(|e| e.to_string())?;
    body.check(&collection.schema).map_err(|e| e.to_string())?;
    let mut columns = Columns::new(&collection.schema);
    body.append_to(0, &collection.schema, &mut columns).map_err(|e| e.to_string())?;
    let row_ids = columns.fields.iter().find_map(|column| match &column.values {
        Values::Int64(ids) if column.field_id == ROW_ID_FIELD => Some(ids.clone()),
        _ => None,
    });
    let fields = columns.fields.into_iter().filter(|column| column.field_id > TIMESTAMP_FIELD).collect();
    Ok(Body::Rows { fields, row_ids: row_ids.unwrap_or_default() })
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}
