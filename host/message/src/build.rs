//! Messages as a proxy and a streaming node of Milvus 2.6 append them.
//!
//! Every function returns the message before the log has stamped it: [`Outgoing::stamp`] adds what only the log knows.

use bytes::Bytes;
use prost::Message as _;

use crate::columns::{FieldColumn, PrimaryKey};
use crate::header::CreateSegment;
use crate::id::{MessageId, WalName};
use crate::kind::MessageType;
use crate::message::TxnContext;
use crate::properties::{self, Properties, encode_base36, encode_base36_unsigned, encode_base64};
use crate::proto::common::MsgBase;
use crate::proto::schema::{self, ids};
use crate::proto::{messages, msg};
use crate::schema::Schema;

mod field_data;

use field_data::field_data;

/// A message on its way to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The body's protobuf.
    pub payload: Bytes,
    /// Everything but the time tick, the last confirmed id and the term.
    pub properties: Properties,
}

impl Outgoing {
    /// A message with a body of `msg.proto`.
    fn v1(kind: MessageType, vchannel: &str, header: &impl prost::Message, body: &impl prost::Message) -> Outgoing {
        Outgoing::new("1", kind, vchannel, header, body)
    }

    /// A message with a body of `messages.proto`.
    pub(crate) fn v2(kind: MessageType, vchannel: &str, header: &impl prost::Message, body: &impl prost::Message) -> Outgoing {
        Outgoing::new("2", kind, vchannel, header, body)
    }

    fn new(version: &str, kind: MessageType, vchannel: &str, header: &impl prost::Message, body: &impl prost::Message) -> Outgoing {
        let outgoing = Outgoing { payload: body.encode_to_vec().into(), properties: Properties::new() }
            .with(properties::VERSION, version.to_owned())
            .with(properties::TYPE, kind.0.to_string())
            .with(properties::HEADER, encode_base64(&header.encode_to_vec()));
        if vchannel.is_empty() { outgoing } else { outgoing.with(properties::VCHANNEL, vchannel.to_owned()) }
    }

    fn with(mut self, key: &str, value: String) -> Outgoing {
        self.properties.insert(key.to_owned(), value);
        self
    }

    /// Adds what the log knows when it appends: the time tick, the last confirmed id, the term. Returns payload and properties.
    pub fn stamp(self, tick: u64, last_confirmed: &MessageId, term: i64) -> (Bytes, Properties) {
        let stamped = self
            .with(properties::TIME_TICK, encode_base36_unsigned(tick))
            .with(properties::LAST_CONFIRMED, last_confirmed.marshal())
            .with(properties::TERM, encode_base36(term));
        (stamped.payload, stamped.properties)
    }
}

/// Where the rows of an insert go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InsertAssignment {
    /// Collection id.
    pub collection: i64,
    /// Partition id.
    pub partition: i64,
    /// Segment id, not 0.
    pub segment: i64,
    /// Number of rows.
    pub rows: u64,
    /// Size of the rows as the proxy estimates it.
    pub bytes: u64,
}

/// Rows. `columns` are the user's fields, each with as many values as there are row ids.
pub fn insert(vchannel: &str, to: &InsertAssignment, columns: &[FieldColumn], row_ids: &[i64]) -> Outgoing {
    let header = messages::InsertMessageHeader {
        collection_id: to.collection,
        partitions: vec![messages::PartitionSegmentAssignment {
            partition_id: to.partition,
            rows: to.rows,
            binary_size: to.bytes,
            segment_assignment: Some(messages::SegmentAssignment { segment_id: to.segment }),
        }],
    };
    let body = msg::InsertRequest {
        base: base(400),
        shard_name: vchannel.to_owned(),
        collection_id: to.collection,
        partition_id: to.partition,
        row_ids: row_ids.to_vec(),
        fields_data: columns.iter().map(field_data).collect(),
        num_rows: row_ids.len() as u64,
        version: 1,
    };
    Outgoing::v1(MessageType::INSERT, vchannel, &header, &body)
}

/// Primary keys to remove; the keys are of one type. Partition -1 is every partition.
pub fn delete(vchannel: &str, collection: i64, partition: i64, keys: &[PrimaryKey]) -> Outgoing {
    let mut integers = schema::LongArray::default();
    let mut texts = schema::BytesArray::default();
    for key in keys {
        match key {
            PrimaryKey::Int64(key) => integers.data.push(*key),
            PrimaryKey::VarChar(key) => texts.data.push(key.clone().into()),
        }
    }
    let ids = if texts.data.is_empty() { ids::Keys::Ints(integers) } else { ids::Keys::Strings(texts) };
    let header = messages::DeleteMessageHeader { collection_id: collection, rows: keys.len() as u64 };
    let body = msg::DeleteRequest {
        base: base(401),
        shard_name: vchannel.to_owned(),
        collection_id: collection,
        partition_id: partition,
        num_rows: keys.len() as i64,
        primary_keys: Some(schema::Ids { keys: Some(ids) }),
    };
    Outgoing::v1(MessageType::DELETE, vchannel, &header, &body)
}

/// Opens a vchannel.
pub fn create_collection(vchannel: &str, db: &str, collection: i64, partitions: &[i64], schema: &Schema) -> Outgoing {
    let header = messages::CreateCollectionMessageHeader { collection_id: collection, partition_ids: partitions.to_vec() };
    let body = msg::CreateCollectionRequest {
        base: base(100),
        db_name: db.to_owned(),
        collection_name: schema.name.clone(),
        collection_id: collection,
        virtual_channel_names: vec![vchannel.to_owned()],
        partition_ids: partitions.to_vec(),
        collection_schema: Some(schema.to_proto()),
        ..Default::default()
    };
    Outgoing::v1(MessageType::CREATE_COLLECTION, vchannel, &header, &body)
}

/// Ends a vchannel.
pub fn drop_collection(vchannel: &str, collection: i64) -> Outgoing {
    let header = messages::DropCollectionMessageHeader { collection_id: collection };
    let body = msg::DropCollectionRequest { base: base(101), collection_id: collection };
    Outgoing::v1(MessageType::DROP_COLLECTION, vchannel, &header, &body)
}

/// Adds a partition.
pub fn create_partition(vchannel: &str, collection: i64, partition: i64) -> Outgoing {
    partition_message(MessageType::CREATE_PARTITION, 200, vchannel, collection, partition)
}

/// Removes a partition.
pub fn drop_partition(vchannel: &str, collection: i64, partition: i64) -> Outgoing {
    partition_message(MessageType::DROP_PARTITION, 201, vchannel, collection, partition)
}

fn partition_message(kind: MessageType, msg_type: i32, vchannel: &str, collection_id: i64, partition_id: i64) -> Outgoing {
    let header = messages::PartitionMessageHeader { collection_id, partition_id };
    let body = msg::PartitionRequest { base: base(msg_type), collection_id, partition_id };
    Outgoing::v1(kind, vchannel, &header, &body)
}

/// Opens a segment.
pub fn create_segment(vchannel: &str, collection: i64, segment: &CreateSegment) -> Outgoing {
    let header = messages::CreateSegmentMessageHeader {
        collection_id: collection,
        partition_id: segment.partition,
        segment_id: segment.segment,
        storage_version: segment.storage_version,
        max_segment_size: segment.max_bytes,
        max_rows: segment.max_rows,
        level: segment.level,
    };
    Outgoing::v2(MessageType::CREATE_SEGMENT, vchannel, &header, &())
}

/// Seals a segment.
pub fn flush(vchannel: &str, collection: i64, partition: i64, segment: i64) -> Outgoing {
    let header = messages::FlushMessageHeader { collection_id: collection, partition_id: partition, segment_id: segment };
    Outgoing::v2(MessageType::FLUSH, vchannel, &header, &())
}

/// Seals segments of a collection on a user's demand.
pub fn manual_flush(vchannel: &str, collection: i64, flush_tick: u64, segments: &[i64]) -> Outgoing {
    let header = messages::ManualFlushMessageHeader { collection_id: collection, flush_ts: flush_tick, segment_ids: segments.to_vec() };
    Outgoing::v2(MessageType::MANUAL_FLUSH, vchannel, &header, &())
}

/// Seals every segment of the pchannel; `channel` is the pchannel, or the control channel where that is hosted.
pub fn flush_all(channel: &str) -> Outgoing {
    Outgoing::v2(MessageType::FLUSH_ALL, channel, &(), &()).with(properties::PCHANNEL_LEVEL, String::new())
}

/// Ends the log: the pchannel goes on in another kind of log. `channel` as in [`flush_all`].
pub fn alter_wal(channel: &str, target: WalName) -> Outgoing {
    let header = messages::AlterWalMessageHeader { target_wal_name: target as i32 };
    Outgoing::v2(MessageType::ALTER_WAL, channel, &header, &()).with(properties::PCHANNEL_LEVEL, String::new())
}

/// Removes a collection's rows; `segments` are those to seal.
pub fn truncate(vchannel: &str, collection: i64, segments: &[i64]) -> Outgoing {
    let header = messages::TruncateCollectionMessageHeader { collection_id: collection, segment_ids: segments.to_vec() };
    Outgoing::v2(MessageType::TRUNCATE_COLLECTION, vchannel, &header, &())
}

/// Gives a collection a new schema; `segments` are those to seal before.
pub fn schema_change(vchannel: &str, collection: i64, segments: &[i64], schema: &Schema) -> Outgoing {
    let header = messages::AlterCollectionMessageHeader {
        collection_id: collection,
        update_mask: Some(messages::FieldMask { paths: vec!["schema".to_owned()] }),
        flushed_segment_ids: segments.to_vec(),
    };
    let updates = messages::AlterCollectionMessageUpdates { schema: Some(schema.to_proto()) };
    Outgoing::v2(MessageType::ALTER_COLLECTION, vchannel, &header, &messages::AlterCollectionMessageBody { updates: Some(updates) })
}

/// States that nothing with a lower or equal tick follows, on every vchannel.
pub fn time_tick() -> Outgoing {
    Outgoing::v1(MessageType::TIME_TICK, "", &(), &msg::TimeTickMsg { base: base(1200) })
}

/// Opens a transaction; the log names it with [`with_txn`].
pub fn begin_txn(vchannel: &str, keepalive_ms: i64) -> Outgoing {
    let header = messages::BeginTxnMessageHeader { keepalive_milliseconds: keepalive_ms };
    Outgoing::v2(MessageType::BEGIN_TXN, vchannel, &header, &())
}

/// Commits a transaction.
pub fn commit_txn(vchannel: &str, txn: &TxnContext) -> Outgoing {
    with_txn(Outgoing::v2(MessageType::COMMIT_TXN, vchannel, &(), &()), txn)
}

/// Rolls a transaction back.
pub fn rollback_txn(vchannel: &str, txn: &TxnContext) -> Outgoing {
    with_txn(Outgoing::v2(MessageType::ROLLBACK_TXN, vchannel, &(), &()), txn)
}

/// Makes a message part of a transaction.
pub fn with_txn(message: Outgoing, txn: &TxnContext) -> Outgoing {
    let context = messages::TxnContext { txn_id: txn.txn_id, keepalive_milliseconds: txn.keepalive_ms };
    message.with(properties::TXN, encode_base64(&context.encode_to_vec()))
}

/// The base of a version 1 body: Milvus' `MsgType`.
fn base(msg_type: i32) -> Option<MsgBase> {
    Some(MsgBase { msg_type })
}
