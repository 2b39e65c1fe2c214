//! A record read as a message: everything that dispatch needs, the rows left alone.

use std::fmt;

use bytes::Bytes;
use prost::DecodeError;
use serde::{Deserialize, Serialize};

use crate::header::Header;
use crate::id::{IdError, MessageId};
use crate::kind::MessageType;
use crate::properties::{self, Properties, decode_base64};
use crate::proto::messages;
use crate::record::{Record, estimated_size};
use crate::wire::WireError;

/// What the name of a control channel ends with.
const CONTROL_CHANNEL_SUFFIX: &str = "vcchan";

/// One message of a log.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its own id: for equality and for logs, never a position to resume from.
    pub id: MessageId,
    /// Its type.
    pub kind: MessageType,
    /// Its time tick: physical milliseconds shifted left by 18 bits, and a counter.
    pub tick: u64,
    /// Reading from here, inclusively, meets every message with this tick or a later one.
    pub last_confirmed: MessageId,
    /// The vchannel; empty for every vchannel of the pchannel.
    pub vchannel: String,
    /// Whether the log keeps it; a time tick may live only in its writer's memory.
    pub persisted: bool,
    /// Whether it concerns the whole pchannel, whatever its vchannel says.
    pub pchannel_level: bool,
    /// The transaction that it belongs to.
    pub txn: Option<TxnContext>,
    /// The term of the node that appended it.
    pub term: Option<i64>,
    /// What its type says about it.
    pub header: Header,
    /// The body's protobuf.
    pub payload: Bytes,
    /// All properties, the reserved ones included.
    pub properties: Properties,
}

/// A transaction, as its messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnContext {
    /// Its id.
    pub txn_id: i64,
    /// How long it lives after its last message; negative (Milvus writes -1000) for ever.
    pub keepalive_ms: i64,
}

/// A record that is no message, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// The record, untouched.
    pub record: Record,
    /// What is wrong with it.
    pub error: MessageError,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let property = |key| self.record.properties.get(key).map_or("none", String::as_str);
        write!(
            f,
            "the record at {} {} (type {}, vchannel {}, tick {}) is malformed: {}",
            self.record.id.wal(),
            self.record.id,
            property(properties::TYPE),
            property(properties::VCHANNEL),
            property(properties::TIME_TICK),
            self.error
        )
    }
}

impl std::error::Error for Malformed {}

/// Why a record is no message.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MessageError {
    /// The record has no version: it was written before Milvus 2.6.
    #[error("unsupported legacy record: it has no version, so Milvus wrote it before 2.6; flush it with the Milvus that wrote it")]
    Legacy,
    /// A version that this build does not know.
    #[error("version {0:?} is neither 1 nor 2; this build is older than the log")]
    UnknownVersion(String),
    /// A property that every message of this type has is not there.
    #[error("property {0} is missing")]
    Missing(&'static str),
    /// A property's text is not of its form.
    #[error("property {key} is {value:?}, which is {reason}")]
    Property {
        /// The property's key.
        key: &'static str,
        /// Its text.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The last confirmed id is not an id of the record's log.
    #[error("property {key}: {0}", key = properties::LAST_CONFIRMED)]
    LastConfirmed(#[from] IdError),
    /// A broadcast message that was not split into one copy a vchannel.
    #[error("a broadcast message has no vchannel: it was appended without being split")]
    NotSplit,
    /// A message about one shard that is on no shard's vchannel: it would be passed over by all of them.
    #[error("a {kind} message is about one shard, and {place}")]
    Misplaced {
        /// The message's type.
        kind: MessageType,
        /// Where it is instead.
        place: &'static str,
    },
    /// A message that is not persisted and no time tick.
    #[error("a {0} message says that it is not persisted, which only a time tick may")]
    NotPersisted(MessageType),
    /// The body is not the protobuf of its type.
    #[error("the body of a {kind} message is not its protobuf: {source}")]
    Body {
        /// The message's type.
        kind: MessageType,
        /// What the decoder says.
        source: DecodeError,
    },
    /// The body of an insert or a delete is not a protobuf message.
    #[error("the body of a {kind} message is not a protobuf message: {source}")]
    Wire {
        /// The message's type.
        kind: MessageType,
        /// What is wrong with it.
        source: WireError,
    },
    /// The header and the body name different collections.
    #[error("the header names collection {header} and the body {body}")]
    Collections {
        /// The header's.
        header: i64,
        /// The body's.
        body: i64,
    },
    /// An insert's header assigns no segment to the partition of its body.
    #[error("the header assigns no segment to partition {0}, where the rows belong")]
    NoSegment(i64),
}

impl Message {
    /// Reads a record.
    ///
    /// A type that this build does not know is a message with [`Header::None`]; so is one whose header says nothing to a flusher.
    ///
    /// # Errors
    /// [`Malformed`] with the record and the reason.
    pub fn decode(record: Record) -> Result<Message, Box<Malformed>> {
        match Envelope::read(&record) {
            Ok(e) => Ok(Message {
                kind: e.kind,
                tick: e.tick,
                last_confirmed: e.last_confirmed,
                vchannel: e.vchannel,
                persisted: e.persisted,
                pchannel_level: record.properties.contains_key(properties::PCHANNEL_LEVEL),
                txn: e.txn,
                term: e.term,
                header: e.header,
                id: record.id,
                payload: record.payload,
                properties: record.properties,
            }),
            Err(error) => Err(Box::new(Malformed { record, error })),
        }
    }

    /// Whether the message is on the control channel, which orders the cluster's changes and carries no rows.
    pub fn is_control_channel(&self) -> bool {
        self.vchannel.ends_with(CONTROL_CHANNEL_SUFFIX)
    }

    /// Returns Milvus' estimated size in bytes: payload, keys and values.
    pub fn size(&self) -> usize {
        estimated_size(&self.payload, &self.properties)
    }
}

/// The parts of a message that are read out of a record; the record gives the rest when it is whole.
struct Envelope {
    kind: MessageType,
    tick: u64,
    last_confirmed: MessageId,
    vchannel: String,
    persisted: bool,
    txn: Option<TxnContext>,
    term: Option<i64>,
    header: Header,
}

impl Envelope {
    fn read(record: &Record) -> Result<Envelope, MessageError> {
        let get = |key| record.properties.get(key).map(String::as_str);
        match get(properties::VERSION) {
            Some("1" | "2") => {}
            None | Some("" | "0") => return Err(MessageError::Legacy),
            Some(other) => return Err(MessageError::UnknownVersion(other.to_owned())),
        }
        let kind = MessageType(required(record, properties::TYPE, |text| text.parse())?);
        let persisted = get(properties::NOT_PERSISTED).is_none();
        if !persisted && kind != MessageType::TIME_TICK {
            return Err(MessageError::NotPersisted(kind));
        }
        let vchannel = match get(properties::VCHANNEL) {
            Some(vchannel) => vchannel.to_owned(),
            None if get(properties::BROADCAST).is_some() => return Err(MessageError::NotSplit),
            None => String::new(),
        };
        if let Some(place) = misplaced(kind, &vchannel, get(properties::PCHANNEL_LEVEL).is_some()) {
            return Err(MessageError::Misplaced { kind, place });
        }
        let last_confirmed = match get(properties::LAST_CONFIRMED) {
            _ if get(properties::LAST_CONFIRMED_SELF).is_some() => record.id.clone(),
            Some(text) => MessageId::unmarshal(record.id.wal(), text)?,
            None => return Err(MessageError::Missing(properties::LAST_CONFIRMED)),
        };
        let txn: Option<messages::TxnContext> = optional_protobuf(record, properties::TXN)?;
        Ok(Envelope {
            kind,
            tick: required(record, properties::TIME_TICK, |text| u64::from_str_radix(text, 36))?,
            last_confirmed,
            vchannel,
            persisted,
            txn: txn.map(|txn| TxnContext { txn_id: txn.txn_id, keepalive_ms: txn.keepalive_milliseconds }),
            term: optional(record, properties::TERM, |text| i64::from_str_radix(text, 36))?,
            header: Header::read(kind, record)?,
        })
    }
}

/// Where a message is that should be on a shard's vchannel. Changes of a collection are also on the control channel, which orders them.
fn misplaced(kind: MessageType, vchannel: &str, pchannel_level: bool) -> Option<&'static str> {
    let rows = matches!(kind, MessageType::INSERT | MessageType::DELETE | MessageType::CREATE_SEGMENT | MessageType::FLUSH);
    let change = matches!(
        kind,
        MessageType::CREATE_COLLECTION
            | MessageType::DROP_COLLECTION
            | MessageType::CREATE_PARTITION
            | MessageType::DROP_PARTITION
            | MessageType::MANUAL_FLUSH
            | MessageType::SCHEMA_CHANGE
            | MessageType::ALTER_COLLECTION
            | MessageType::TRUNCATE_COLLECTION
    );
    match () {
        () if !(rows || change) => None,
        () if vchannel.is_empty() => Some("it names no vchannel"),
        () if pchannel_level => Some("it says that it concerns the whole pchannel"),
        () if rows && vchannel.ends_with(CONTROL_CHANNEL_SUFFIX) => Some("it is on the control channel"),
        () => None,
    }
}

/// Reads a property with `parse`, if it is there.
fn optional<T, E: fmt::Display>(
    record: &Record,
    key: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, MessageError> {
    let Some(value) = record.properties.get(key) else { return Ok(None) };
    parse(value).map(Some).map_err(|e| MessageError::Property { key, value: value.clone(), reason: format!("not of its form: {e}") })
}

/// Reads a property with `parse`.
fn required<T, E: fmt::Display>(record: &Record, key: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, MessageError> {
    optional(record, key, parse)?.ok_or(MessageError::Missing(key))
}

/// Reads a property that is the base64 of a protobuf, if it is there.
pub(crate) fn optional_protobuf<P: prost::Message + Default>(record: &Record, key: &'static str) -> Result<Option<P>, MessageError> {
    optional(record, key, |text| -> Result<P, String> {
        let bytes = decode_base64(text).map_err(|e| e.to_string())?;
        P::decode(bytes.as_slice()).map_err(|e| e.to_string())
    })
}
