use super::*;
use crate::build::{self, InsertAssignment, Outgoing};
use crate::columns::{DataType, PrimaryKey};
use crate::proto::schema::value_field::Data;
use crate::proto::{common, schema as proto};
use crate::schema::{DefaultValue, Field};
use crate::{IdError, Malformed, Message, MessageId, TxnContext, WalName};

const CHANNEL: &str = "by-dev-rootcoord-dml_0_7v0";
const TXN: TxnContext = TxnContext { txn_id: 5, keepalive_ms: -1000 };

fn schema() -> Schema {
    let field = |id, name: &str, data_type| Field {
        is_primary: id == 100,
        auto_id: id == 100,
        is_dynamic: name == "$meta",
        dim: if data_type == DataType::FloatVector { 4 } else { 0 },
        max_length: if data_type == DataType::VarChar { 64 } else { 0 },
        ..Field::new(id, name, data_type)
    };
    let fields = vec![
        field(100, "id", DataType::Int64),
        field(101, "s", DataType::VarChar),
        field(102, "v", DataType::FloatVector),
        field(103, "$meta", DataType::Json),
        Field { element_type: Some(DataType::Int8), max_capacity: 5, nullable: true, ..Field::new(104, "a", DataType::Array) },
        Field { is_partition_key: true, default_value: Some(DefaultValue::Long(-1)), ..Field::new(105, "k", DataType::Int64) },
        Field { nullable: true, default_value: Some(DefaultValue::Bytes(b"{}".to_vec())), ..Field::new(106, "j", DataType::Json) },
    ];
    Schema { name: "c".to_owned(), fields, enable_dynamic_field: true, version: 3 }
}

fn record(outgoing: Outgoing) -> Record {
    let (payload, properties) = outgoing.stamp(1 << 60, &MessageId::Kafka(35), 12);
    Record { id: MessageId::Kafka(40), payload, properties }
}

fn decode(outgoing: Outgoing) -> Message {
    Message::decode(record(outgoing)).unwrap()
}

fn refused(outgoing: Outgoing, change: impl FnOnce(&mut Record)) -> Malformed {
    let mut record = record(outgoing);
    change(&mut record);
    let malformed = *Message::decode(record.clone()).unwrap_err();
    assert_eq!(malformed.record, record, "the record comes back whole");
    assert!(malformed.to_string().starts_with("the record at kafka 40 "), "{malformed}");
    malformed
}

fn insert() -> Outgoing {
    let to = InsertAssignment { collection: 7, partition: 8, segment: 9, rows: 2, bytes: 100 };
    build::insert(CHANNEL, &to, &[], &[1, 2])
}

/// What [`insert`] makes, with another header.
fn insert_with(header: messages::InsertMessageHeader) -> Outgoing {
    let with_header = Outgoing::v2(MessageType::INSERT, CHANNEL, &header, &());
    Outgoing { payload: insert().payload, properties: with_header.properties }
}

fn assignment(partition_id: i64, segment_id: i64) -> messages::PartitionSegmentAssignment {
    let segment_assignment = Some(messages::SegmentAssignment { segment_id });
    messages::PartitionSegmentAssignment { partition_id, rows: 2, binary_size: 100, segment_assignment }
}

#[test]
fn what_is_built_is_what_is_decoded() {
    let segment = CreateSegment { partition: 8, segment: 9, storage_version: 2, level: 2, max_rows: 10, max_bytes: 1 << 40 };
    let keys = [PrimaryKey::VarChar("a".to_owned()), PrimaryKey::VarChar("b".to_owned())];
    let create_collection = Header::CreateCollection { collection: 7, partitions: vec![8, 18], schema: Ok(Box::new(schema())) };
    let schema_change = Header::SchemaChange { collection: 7, segments: vec![9, 10], schema: Some(Ok(Box::new(schema()))) };
    for (outgoing, kind, header) in [
        (insert(), MessageType::INSERT, Header::Insert { collection: 7, partition: 8, segment: 9, rows: 2, bytes: 100 }),
        (build::delete(CHANNEL, 7, -1, &keys), MessageType::DELETE, Header::Delete { collection: 7, partition: -1, rows: 2 }),
        (build::create_collection(CHANNEL, "db", 7, &[8, 18], &schema()), MessageType::CREATE_COLLECTION, create_collection),
        (build::drop_collection(CHANNEL, 7), MessageType::DROP_COLLECTION, Header::DropCollection { collection: 7 }),
        (build::create_partition(CHANNEL, 7, 8), MessageType::CREATE_PARTITION, Header::CreatePartition { collection: 7, partition: 8 }),
        (build::drop_partition(CHANNEL, 7, 8), MessageType::DROP_PARTITION, Header::DropPartition { collection: 7, partition: 8 }),
        (
            build::create_segment(CHANNEL, 7, &segment),
            MessageType::CREATE_SEGMENT,
            Header::CreateSegment { collection: 7, segments: vec![segment] },
        ),
        (build::flush(CHANNEL, 7, 8, 9), MessageType::FLUSH, Header::Flush { collection: 7, partition: 8, segments: vec![9] }),
        (
            build::manual_flush(CHANNEL, 7, 99, &[9, 10]),
            MessageType::MANUAL_FLUSH,
            Header::ManualFlush { collection: 7, flush_tick: 99, segments: vec![9, 10] },
        ),
        (build::truncate(CHANNEL, 7, &[9]), MessageType::TRUNCATE_COLLECTION, Header::Truncate { collection: 7, segments: vec![9] }),
        (build::schema_change(CHANNEL, 7, &[9, 10], &schema()), MessageType::ALTER_COLLECTION, schema_change),
        (build::begin_txn(CHANNEL, 250), MessageType::BEGIN_TXN, Header::BeginTxn { keepalive_ms: 250 }),
    ] {
        let message = decode(build::with_txn(outgoing.clone(), &TXN));
        assert_eq!((message.kind, &message.header), (kind, &header));
        assert_eq!((message.tick, message.term), (1 << 60, Some(12)));
        assert_eq!((message.id, message.last_confirmed), (MessageId::Kafka(40), MessageId::Kafka(35)));
        assert_eq!((message.vchannel.as_str(), message.txn), (CHANNEL, Some(TXN)));
        assert_eq!(decode(outgoing).txn, None);
    }
    for outgoing in [build::commit_txn(CHANNEL, &TXN), build::rollback_txn(CHANNEL, &TXN)] {
        let message = decode(outgoing);
        assert_eq!((message.header, message.txn), (Header::None, Some(TXN)));
    }
}

#[test]
fn a_time_tick_is_of_every_vchannel_and_may_live_in_memory_only() {
    let message = decode(build::time_tick());
    assert_eq!((message.vchannel.as_str(), &message.header, message.persisted), ("", &Header::TimeTick, true));
    let mut tick = record(build::time_tick());
    tick.properties.insert("_np".to_owned(), String::new());
    assert!(!Message::decode(tick).unwrap().persisted);
    let malformed = refused(insert(), |r| _ = r.properties.insert("_np".to_owned(), String::new()));
    assert_eq!(malformed.error, MessageError::NotPersisted(MessageType::INSERT));
}

#[test]
fn a_flush_of_everything_concerns_the_pchannel_even_on_the_control_channel() {
    let message = decode(build::flush_all("by-dev-rootcoord-dml_0_vcchan"));
    assert!(message.pchannel_level && message.is_control_channel());
    assert!(!decode(insert()).pchannel_level && !decode(insert()).is_control_channel());
}

#[test]
fn an_unknown_type_and_unknown_properties_pass_through() {
    let mut outgoing = Outgoing::v2(MessageType(4711), CHANNEL, &(), &());
    outgoing.properties.insert("traceparent".to_owned(), "00-1".to_owned());
    let record = record(outgoing);
    let size = record.size();
    let message = Message::decode(record.clone()).unwrap();
    assert_eq!((message.kind, message.kind.name(), &message.header), (MessageType(4711), "Unknown", &Header::None));
    assert_eq!((&message.properties, message.size()), (&record.properties, size));
}

#[test]
fn its_own_id_is_the_last_confirmed_one_if_the_message_says_so() {
    let mut record = record(build::time_tick());
    record.properties.insert("_lcs".to_owned(), String::new());
    assert_eq!(Message::decode(record).unwrap().last_confirmed, MessageId::Kafka(40));
}

#[test]
fn the_forms_before_2_6_0_have_their_ids_in_the_body() {
    let body = messages::FlushMessageBody { collection_id: 7, segment_id: vec![9, 10] };
    let message = decode(Outgoing::v2(MessageType::FLUSH, CHANNEL, &(), &body));
    assert_eq!(message.header, Header::Flush { collection: 7, partition: 0, segments: vec![9, 10] });

    let infos = [9, 10].map(|segment_id| messages::CreateSegmentInfo { partition_id: 8, segment_id, storage_version: 2 });
    let body = messages::CreateSegmentMessageBody { collection_id: 7, segments: infos.to_vec() };
    let message = decode(Outgoing::v2(MessageType::CREATE_SEGMENT, CHANNEL, &(), &body));
    let opened = |segment| CreateSegment { partition: 8, segment, storage_version: 2, level: 0, max_rows: 0, max_bytes: 0 };
    assert_eq!(message.header, Header::CreateSegment { collection: 7, segments: vec![opened(9), opened(10)] });

    let header = messages::ManualFlushMessageHeader { collection_id: 7, flush_ts: 99, segment_ids: Vec::new() };
    let message = decode(Outgoing::v2(MessageType::MANUAL_FLUSH, CHANNEL, &header, &()));
    assert_eq!(message.header, Header::ManualFlush { collection: 7, flush_tick: 99, segments: Vec::new() });
}

#[test]
fn the_old_forms_of_a_schema_are_read_too() {
    let header = messages::CreateCollectionMessageHeader { collection_id: 7, partition_ids: vec![8] };
    let serialised = prost::Message::encode_to_vec(&schema().to_proto()).into();
    let body = msg::CreateCollectionRequest { schema: serialised, ..Default::default() };
    let message = decode(Outgoing::v2(MessageType::CREATE_COLLECTION, CHANNEL, &header, &body));
    assert_eq!(message.header, Header::CreateCollection { collection: 7, partitions: vec![8], schema: Ok(Box::new(schema())) });

    let header = messages::SchemaChangeMessageHeader { collection_id: 7, flushed_segment_ids: vec![9] };
    let body = messages::SchemaChangeMessageBody { schema: Some(schema().to_proto()) };
    let message = decode(Outgoing::v2(MessageType::SCHEMA_CHANGE, CHANNEL, &header, &body));
    assert_eq!(message.header, Header::SchemaChange { collection: 7, segments: vec![9], schema: Some(Ok(Box::new(schema()))) });
}

#[test]
fn altering_something_else_is_no_change_of_the_schema() {
    let mask = messages::FieldMask { paths: vec!["properties".to_owned()] };
    let header = messages::AlterCollectionMessageHeader { collection_id: 7, update_mask: Some(mask), flushed_segment_ids: Vec::new() };
    let message = decode(Outgoing::v2(MessageType::ALTER_COLLECTION, CHANNEL, &header, &()));
    assert_eq!(message.header, Header::SchemaChange { collection: 7, segments: Vec::new(), schema: None });
}

#[test]
fn a_replication_change_says_whether_open_transactions_end() {
    let header = messages::AlterReplicateConfigMessageHeader { force_promote: true, ignore: false };
    let message = decode(Outgoing::v2(MessageType::ALTER_REPLICATE_CONFIG, CHANNEL, &header, &()));
    assert_eq!(message.header, Header::AlterReplicateConfig { force_promote: true, ignore: false });
}

#[test]
fn the_segment_of_an_insert_is_that_of_the_partition_of_its_rows() {
    let several = messages::InsertMessageHeader { collection_id: 7, partitions: vec![assignment(3, 4), assignment(8, 9)] };
    let expected = Header::Insert { collection: 7, partition: 8, segment: 9, rows: 2, bytes: 100 };
    assert_eq!(decode(insert_with(several)).header, expected);
    for partitions in [vec![], vec![assignment(8, 0)], vec![assignment(3, 4), assignment(5, 6)]] {
        let header = messages::InsertMessageHeader { collection_id: 7, partitions };
        assert_eq!(refused(insert_with(header), |_| {}).error, MessageError::NoSegment(8));
    }
    let header = messages::InsertMessageHeader { collection_id: 6, partitions: vec![assignment(8, 9)] };
    assert_eq!(refused(insert_with(header), |_| {}).error, MessageError::Collections { header: 6, body: 7 });
}

#[test]
fn an_encrypted_body_is_said_to_be_one() {
    let mut record = record(insert());
    record.properties.insert("_ch".to_owned(), "CAU=".to_owned());
    record.payload = Bytes::from_static(b"\xff\xff noise");
    let Header::Cipher(reason) = Message::decode(record).unwrap().header else { panic!() };
    assert!(reason.contains("zone 5"), "{reason}");
}

#[test]
fn every_broken_property_is_a_reason() {
    let set = |key: &'static str, value: &'static str| move |r: &mut Record| _ = r.properties.insert(key.to_owned(), value.to_owned());
    let unset = |key: &'static str| move |r: &mut Record| _ = r.properties.remove(key);
    for legacy in ["", "0"] {
        assert_eq!(refused(insert(), set("_v", legacy)).error, MessageError::Legacy);
    }
    assert_eq!(refused(insert(), unset("_v")).error, MessageError::Legacy);
    assert_eq!(refused(insert(), set("_v", "3")).error, MessageError::UnknownVersion("3".to_owned()));
    for key in ["_t", "_tt", "_lc", "_h"] {
        assert_eq!(refused(insert(), unset(key)).error, MessageError::Missing(key));
    }
    for (key, value) in [
        ("_t", "Insert"),
        ("_tt", "-1"),
        ("_tt", "3w5e11264sgsg"),
        ("_wt", "?"),
        ("_tx", "%"),
        ("_h", "CA"),
        ("_h", "CA=="),
        ("_ch", "CA=="),
    ] {
        let error = refused(insert(), set(key, value)).error;
        assert!(matches!(&error, MessageError::Property { key: k, value: v, .. } if *k == key && v == value), "{error}");
    }
    let error = refused(insert(), set("_lc", "!")).error;
    assert!(matches!(error, MessageError::LastConfirmed(IdError::Unreadable { wal: WalName::Kafka, .. })), "{error}");
    let not_split = refused(insert(), |r| {
        r.properties.remove("_vc");
        r.properties.insert("_bh".to_owned(), "CAE=".to_owned());
    });
    assert_eq!(not_split.error, MessageError::NotSplit);
}

#[test]
fn a_broken_body_is_a_reason_where_the_ids_are_in_the_body() {
    let cut = |r: &mut Record| r.payload = r.payload.slice(..r.payload.len() - 1);
    assert!(matches!(refused(insert(), cut).error, MessageError::Wire { kind: MessageType::INSERT, .. }));
    let create = build::create_collection(CHANNEL, "db", 7, &[8], &schema());
    assert!(matches!(refused(create, cut).error, MessageError::Body { kind: MessageType::CREATE_COLLECTION, .. }));
}

#[test]
fn a_schema_that_would_be_corrupted_is_refused_with_the_field() {
    type Change = fn(&mut proto::CollectionSchema);
    let parameter = |value: &str| vec![common::KeyValuePair { key: "dim".to_owned(), value: value.to_owned() }];
    let value = |data| Some(proto::ValueField { data: Some(data) });
    let changes: Vec<(Change, &str)> = vec![
        (|s| s.functions.push(proto::Unsupported {}), "functions"),
        (|s| s.struct_array_fields.push(proto::Unsupported {}), "struct array"),
        (|s| s.fields[0].is_primary_key = false, "field \"id\" (id 100) is automatic and not the primary key"),
        (|s| s.fields[1].is_primary_key = true, "field \"s\" (id 101) is a second primary key"),
        (|s| s.fields[0].data_type = 10, "field \"id\" (id 100) is a primary key of type Float"),
        (|s| s.fields[0].nullable = true, "field \"id\" (id 100) is the primary key, and has a default value or is nullable"),
        (|s| s.fields[0].is_partition_key = true, "field \"id\" (id 100) is the partition key and the primary key"),
        (|s| s.fields[2].is_partition_key = true, "field \"v\" (id 102) is the partition key and FloatVector"),
        (|s| s.fields[1].data_type = 106, "field \"s\" (id 101) is of data type 106"),
        (|s| s.fields[1].data_type = 22, "field \"s\" (id 101) has no max_capacity"),
        (|s| s.fields[4].element_type = 0, "field \"a\" (id 104) is an array without an element type"),
        (|s| s.fields[4].element_type = 23, "field \"a\" (id 104) is an array of Json"),
        (|s| s.fields[4].element_type = 21, "field \"a\" (id 104) has no max_length"),
        (|s| s.fields[4].type_params[0].value = "4097".to_owned(), "field \"a\" (id 104) has max_capacity 4097"),
        (|s| s.fields[1].default_value = Some(proto::ValueField::default()), "field \"s\" (id 101) has a default value of an unknown type"),
        (|s| s.fields[2].is_function_output = true, "field \"v\" (id 102) is the output of a function"),
        (|s| s.fields[1].state = 2, "field \"s\" (id 101) is being created or dropped"),
        (|s| s.fields[1].type_params.clear(), "field \"s\" (id 101) has no max_length"),
        (|s| s.fields[2].type_params.clear(), "field \"v\" (id 102) has no dim"),
        (|s| s.fields[2].type_params[0].value = "x".to_owned(), "field \"v\" (id 102) has dim \"x\""),
        (|s| s.fields[2].type_params[0].value = "32769".to_owned(), "field \"v\" (id 102) has dim 32769"),
        (|s| s.fields[2].data_type = 100, "field \"v\" (id 102) has dim 4; that of a binary vector is a multiple of 8"),
        (|s| s.fields[1].field_id = 99, "field \"s\" (id 99) has an id below 100"),
        (|s| s.fields[1].field_id = 100, "has the id of another"),
        (|s| s.fields[1].name = "v".to_owned(), "has the name of another"),
    ];
    for (change, expected) in changes {
        let mut changed = schema().to_proto();
        change(&mut changed);
        let reason = Schema::from_proto(&changed).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
    let mut zero = schema().to_proto();
    zero.fields[2].type_params = parameter("0");
    assert_eq!(Schema::from_proto(&zero).unwrap_err(), "field \"v\" (id 102) has dim 0");
    for (at, data) in
        [(1, Data::Int(1)), (1, Data::Text("x".repeat(65))), (2, Data::Bytes("x".into())), (3, Data::Bytes(vec![0xff].into()))]
    {
        let mut default = schema().to_proto();
        default.fields[at].default_value = value(data);
        let reason = Schema::from_proto(&default).unwrap_err();
        assert!(reason.contains("has a default value that no "), "{reason}");
    }
    let mut no_key = schema().to_proto();
    no_key.fields.remove(0);
    assert_eq!(Schema::from_proto(&no_key).unwrap_err(), "no field is the primary key");
}

#[test]
fn the_system_fields_of_a_stored_schema_are_left_out() {
    let mut stored = schema().to_proto();
    stored.fields.reverse();
    for (field_id, name) in [(0, "RowID"), (1, "Timestamp")] {
        stored.fields.push(proto::FieldSchema { field_id, name: name.to_owned(), data_type: 5, ..Default::default() });
    }
    assert_eq!(Schema::from_proto(&stored), Ok(schema()));
}
