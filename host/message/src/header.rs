//! What each message type says to a flusher.

use bytes::Bytes;

use crate::kind::MessageType;
use crate::message::{MessageError, optional_protobuf};
use crate::properties;
use crate::proto::{messages, msg, schema as proto_schema};
use crate::record::Record;
use crate::schema::Schema;
use crate::wire::{WireError, fields};

/// The path in an alter message's update mask that makes it a change of the schema.
const SCHEMA_PATH: &str = "schema";

/// A message's header, with the ids that Milvus keeps in the body of some types.
///
/// A schema is `Err` with the reason if segment files cannot be written for it: the message itself is sound, and the collection's
/// other messages are not to be flushed.
#[derive(Clone, Debug, PartialEq)]
pub enum Header {
    /// Nothing that a flusher reads, or a type that this build does not know.
    None,
    /// [`MessageType::TIME_TICK`].
    TimeTick,
    /// [`MessageType::INSERT`].
    Insert {
        /// Collection id, the same in the body.
        collection: i64,
        /// Partition id.
        partition: i64,
        /// The segment that the rows belong to, not 0.
        segment: i64,
        /// Number of rows.
        rows: u64,
        /// Size of the rows as the proxy estimated it.
        bytes: u64,
    },
    /// [`MessageType::DELETE`].
    Delete {
        /// Collection id, the same in the body.
        collection: i64,
        /// Partition id, from the body; -1 for every partition.
        partition: i64,
        /// Number of primary keys.
        rows: u64,
    },
    /// [`MessageType::FLUSH`].
    Flush {
        /// Collection id.
        collection: i64,
        /// Partition id; 0 in the form before 2.6.0, which had none.
        partition: i64,
        /// Segments to seal; one in 2.6, any number in the form before 2.6.0.
        segments: Vec<i64>,
    },
    /// [`MessageType::CREATE_SEGMENT`].
    CreateSegment {
        /// Collection id.
        collection: i64,
        /// Segments to open; one in 2.6, any number in the form before 2.6.0.
        segments: Vec<CreateSegment>,
    },
    /// [`MessageType::MANUAL_FLUSH`].
    ManualFlush {
        /// Collection id.
        collection: i64,
        /// Everything below this tick is to be durable.
        flush_tick: u64,
        /// Segments to seal; none in the form before 2.6.0.
        segments: Vec<i64>,
    },
    /// [`MessageType::CREATE_COLLECTION`].
    CreateCollection {
        /// Collection id.
        collection: i64,
        /// Partition ids.
        partitions: Vec<i64>,
        /// Its schema, or why segment files cannot be written for it.
        schema: Result<Box<Schema>, String>,
    },
    /// [`MessageType::DROP_COLLECTION`].
    DropCollection {
        /// Collection id.
        collection: i64,
    },
    /// [`MessageType::CREATE_PARTITION`].
    CreatePartition {
        /// Collection id.
        collection: i64,
        /// Partition id.
        partition: i64,
    },
    /// [`MessageType::DROP_PARTITION`].
    DropPartition {
        /// Collection id.
        collection: i64,
        /// Partition id.
        partition: i64,
    },
    /// [`MessageType::SCHEMA_CHANGE`] and [`MessageType::ALTER_COLLECTION`].
    SchemaChange {
        /// Collection id.
        collection: i64,
        /// Segments to seal: rows after the message have the new schema.
        segments: Vec<i64>,
        /// The new schema, or why segment files cannot be written for it; `None` if something else was altered.
        schema: Option<Result<Box<Schema>, String>>,
    },
    /// [`MessageType::TRUNCATE_COLLECTION`].
    Truncate {
        /// Collection id.
        collection: i64,
        /// Segments to seal.
        segments: Vec<i64>,
    },
    /// [`MessageType::BEGIN_TXN`].
    BeginTxn {
        /// How long the transaction lives after its last message; negative for ever.
        keepalive_ms: i64,
    },
    /// [`MessageType::ALTER_REPLICATE_CONFIG`].
    AlterReplicateConfig {
        /// Whether a secondary cluster becomes primary without the old one's consent: open transactions end.
        force_promote: bool,
        /// Whether the message is to have no effect.
        ignore: bool,
    },
    /// An insert or a delete whose body is encrypted, and why that is not read.
    Cipher(String),
}

/// A segment that opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSegment {
    /// Partition id.
    pub partition: i64,
    /// Segment id.
    pub segment: i64,
    /// 0 = one file a field, 2 = packed.
    pub storage_version: i64,
    /// Milvus `data.SegmentLevel`: 0 = not said, 1 = L0, 2 = L1.
    pub level: i32,
    /// Rows at which the node seals it; 0 = not said.
    pub max_rows: u64,
    /// Bytes at which the node seals it; 0 = not said.
    pub max_bytes: u64,
}

impl Header {
    /// Reads a record's header, and its body where the type needs that.
    pub(crate) fn read(kind: MessageType, record: &Record) -> Result<Header, MessageError> {
        match kind {
            MessageType::TIME_TICK => Ok(Header::TimeTick),
            MessageType::INSERT | MessageType::DELETE if record.properties.contains_key(properties::CIPHER) => cipher(record),
            MessageType::INSERT => insert(record),
            MessageType::DELETE => delete(record),
            MessageType::FLUSH => flush(record),
            MessageType::CREATE_SEGMENT => create_segment(record),
            MessageType::MANUAL_FLUSH => {
                let h: messages::ManualFlushMessageHeader = header(record)?;
                Ok(Header::ManualFlush { collection: h.collection_id, flush_tick: h.flush_ts, segments: h.segment_ids })
            }
            MessageType::CREATE_COLLECTION => create_collection(record),
            MessageType::DROP_COLLECTION => {
                let h: messages::DropCollectionMessageHeader = header(record)?;
                Ok(Header::DropCollection { collection: h.collection_id })
            }
            MessageType::CREATE_PARTITION => {
                let h: messages::PartitionMessageHeader = header(record)?;
                Ok(Header::CreatePartition { collection: h.collection_id, partition: h.partition_id })
            }
            MessageType::DROP_PARTITION => {
                let h: messages::PartitionMessageHeader = header(record)?;
                Ok(Header::DropPartition { collection: h.collection_id, partition: h.partition_id })
            }
            MessageType::SCHEMA_CHANGE => {
                let h: messages::SchemaChangeMessageHeader = header(record)?;
                let b: messages::SchemaChangeMessageBody = body(kind, &record.payload)?;
                Ok(Header::SchemaChange { collection: h.collection_id, segments: h.flushed_segment_ids, schema: Some(supported(b.schema)) })
            }
            MessageType::ALTER_COLLECTION => alter_collection(record),
            MessageType::TRUNCATE_COLLECTION => {
                let h: messages::TruncateCollectionMessageHeader = header(record)?;
                Ok(Header::Truncate { collection: h.collection_id, segments: h.segment_ids })
            }
            MessageType::BEGIN_TXN => {
                let h: messages::BeginTxnMessageHeader = header(record)?;
                Ok(Header::BeginTxn { keepalive_ms: h.keepalive_milliseconds })
            }
            MessageType::ALTER_REPLICATE_CONFIG => {
                let h: messages::AlterReplicateConfigMessageHeader = header(record)?;
                Ok(Header::AlterReplicateConfig { force_promote: h.force_promote, ignore: h.ignore })
            }
            _ => Ok(Header::None),
        }
    }
}

/// Reads the header's protobuf, which every message has, if only as an empty text.
fn header<P: prost::Message + Default>(record: &Record) -> Result<P, MessageError> {
    optional_protobuf(record, properties::HEADER)?.ok_or(MessageError::Missing(properties::HEADER))
}

fn body<P: prost::Message + Default>(kind: MessageType, payload: &Bytes) -> Result<P, MessageError> {
    P::decode(payload.clone()).map_err(|source| MessageError::Body { kind, source })
}

fn cipher(record: &Record) -> Result<Header, MessageError> {
    let h: Option<messages::CipherHeader> = optional_protobuf(record, properties::CIPHER)?;
    Ok(Header::Cipher(format!(
        "the body is encrypted with the key of zone {}, and this build has no decryptor",
        h.unwrap_or_default().ez_id
    )))
}

fn insert(record: &Record) -> Result<Header, MessageError> {
    let h: messages::InsertMessageHeader = header(record)?;
    let body = RowsIds::read(MessageType::INSERT, &record.payload)?;
    body.check_collection(h.collection_id)?;
    let assignment = match h.partitions.as_slice() {
        [only] => Some(only),
        several => several.iter().find(|p| p.partition_id == body.partition),
    };
    let segment = |p: &messages::PartitionSegmentAssignment| p.segment_assignment.map_or(0, |s| s.segment_id);
    match assignment {
        Some(p) if segment(p) != 0 => Ok(Header::Insert {
            collection: h.collection_id,
            partition: p.partition_id,
            segment: segment(p),
            rows: p.rows,
            bytes: p.binary_size,
        }),
        _ => Err(MessageError::NoSegment(body.partition)),
    }
}

fn delete(record: &Record) -> Result<Header, MessageError> {
    let h: messages::DeleteMessageHeader = header(record)?;
    let body = RowsIds::read(MessageType::DELETE, &record.payload)?;
    body.check_collection(h.collection_id)?;
    Ok(Header::Delete { collection: h.collection_id, partition: body.partition, rows: h.rows })
}

fn flush(record: &Record) -> Result<Header, MessageError> {
    let h: messages::FlushMessageHeader = header(record)?;
    if h.segment_id != 0 {
        return Ok(Header::Flush { collection: h.collection_id, partition: h.partition_id, segments: vec![h.segment_id] });
    }
    let b: messages::FlushMessageBody = body(MessageType::FLUSH, &record.payload)?;
    Ok(Header::Flush { collection: b.collection_id, partition: 0, segments: b.segment_id })
}

fn create_segment(record: &Record) -> Result<Header, MessageError> {
    let h: messages::CreateSegmentMessageHeader = header(record)?;
    if h.segment_id != 0 {
        let segment = CreateSegment {
            partition: h.partition_id,
            segment: h.segment_id,
            storage_version: h.storage_version,
            level: h.level,
            max_rows: h.max_rows,
            max_bytes: h.max_segment_size,
        };
        return Ok(Header::CreateSegment { collection: h.collection_id, segments: vec![segment] });
    }
    let b: messages::CreateSegmentMessageBody = body(MessageType::CREATE_SEGMENT, &record.payload)?;
    let segments = b.segments.iter().map(|s| CreateSegment {
        partition: s.partition_id,
        segment: s.segment_id,
        storage_version: s.storage_version,
        level: 0,
        max_rows: 0,
        max_bytes: 0,
    });
    Ok(Header::CreateSegment { collection: b.collection_id, segments: segments.collect() })
}

fn create_collection(record: &Record) -> Result<Header, MessageError> {
    let h: messages::CreateCollectionMessageHeader = header(record)?;
    let b: msg::CreateCollectionRequest = body(MessageType::CREATE_COLLECTION, &record.payload)?;
    let schema = match b.collection_schema {
        None if !b.schema.is_empty() => Some(body(MessageType::CREATE_COLLECTION, &b.schema)?),
        schema => schema,
    };
    Ok(Header::CreateCollection { collection: h.collection_id, partitions: h.partition_ids, schema: supported(schema) })
}

fn alter_collection(record: &Record) -> Result<Header, MessageError> {
    let h: messages::AlterCollectionMessageHeader = header(record)?;
    let of_schema = h.update_mask.is_some_and(|mask| mask.paths.iter().any(|path| path == SCHEMA_PATH));
    let schema = if of_schema {
        let b: messages::AlterCollectionMessageBody = body(MessageType::ALTER_COLLECTION, &record.payload)?;
        Some(supported(b.updates.and_then(|updates| updates.schema)))
    } else {
        None
    };
    Ok(Header::SchemaChange { collection: h.collection_id, segments: h.flushed_segment_ids, schema })
}

fn supported(schema: Option<proto_schema::CollectionSchema>) -> Result<Box<Schema>, String> {
    Schema::from_proto(&schema.ok_or("the message has no schema")?).map(Box::new)
}

/// The ids in the body of an insert or a delete, read without its columns.
#[derive(Default)]
struct RowsIds {
    collection: i64,
    partition: i64,
}

impl RowsIds {
    /// Field 7 of both bodies is the collection, field 8 the partition.
    fn read(kind: MessageType, payload: &[u8]) -> Result<RowsIds, MessageError> {
        let read = || -> Result<RowsIds, WireError> {
            let mut ids = RowsIds::default();
            for field in fields(payload) {
                match field? {
                    (7, value) => ids.collection = value.integer(7)? as i64,
                    (8, value) => ids.partition = value.integer(8)? as i64,
                    _ => {}
                }
            }
            Ok(ids)
        };
        read().map_err(|source| MessageError::Wire { kind, source })
    }

    fn check_collection(&self, header: i64) -> Result<(), MessageError> {
        if self.collection == header { Ok(()) } else { Err(MessageError::Collections { header, body: self.collection }) }
    }
}

#[cfg(test)]
mod tests;
