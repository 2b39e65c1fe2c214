//! The decoders, and what must hold of them whatever they are fed.
//!
//! Memory is counted in what Rust code allocates, at its peak and with the input left out. The multiples come from the worst that an input
//! can say in a byte, which the tests below construct; random changes stay far below.

use bytes::Bytes;
use tidegate_binlog::{Binlog, describe, read, read_column, read_deletes, read_packed};
use tidegate_message::columns::{Columns, Deletes, PrimaryKey};
use tidegate_message::rows::{DeleteBody, InsertBody};
use tidegate_message::{Message, MessageId, Properties, Record, WalName, decode_record, encode_record, properties};

use super::corpus;
use super::engine::{Input, Target};

/// Insert logs, delta logs and packed files.
pub fn binlog_reader() -> Target {
    Target {
        name: "the_binlog_reader_takes_any_bytes",
        corpus: corpus::binlogs(),
        memory_times: 256,
        memory_base: 512 << 20,
        decode: |input| {
            let file = corpus::join(input);
            // One result after the other, as a program has them.
            let kind = read(&file).as_ref().ok().map(std::mem::discriminant);
            let described = describe(&file, 5).is_ok();
            assert!(kind.is_none() || described);
            let column = read_column(&file).is_ok();
            let deletes = read_deletes(&file).is_ok();
            let packed = read_packed(&file).is_ok();
            assert_eq!(kind.is_some(), column || deletes || packed);
            kind.is_some()
        },
    }
}

/// Primary key statistics.
pub fn statistics_reader() -> Target {
    Target {
        name: "the_statistics_reader_takes_any_bytes",
        corpus: corpus::statistics(),
        memory_times: 64,
        memory_base: 64 << 10,
        decode: |input| {
            let decoded = read(&input[0]);
            assert!(decoded.is_err() || describe(&input[0], 5).is_ok());
            if let Ok(Binlog::Statistics(batches)) = &decoded {
                for batch in batches {
                    batch.may_hold(&PrimaryKey::Int64(7));
                    batch.may_hold(&batch.min);
                }
            }
            decoded.is_ok()
        },
    }
}

/// Bodies of inserts and deletes.
pub fn rows_decoder() -> Target {
    Target {
        name: "the_decoder_of_rows_takes_any_bytes",
        corpus: corpus::bodies(),
        memory_times: 128,
        memory_base: 64 << 10,
        decode: |input| {
            let payload = Bytes::copy_from_slice(&input[0]);
            let schemas = corpus::schemas();
            let schema = &schemas[input[1].first().map_or(0, |&n| usize::from(n) % schemas.len())];
            let mut accepted = false;
            if let Ok(body) = InsertBody::parse(&payload) {
                let mut out = Columns::new(schema);
                let (checked, appended) = (body.check(schema), body.append_to(7, schema, &mut out));
                assert!(checked.is_err() || appended.is_ok(), "what was checked can be appended: {appended:?}");
                assert!(appended.is_ok() || out == Columns::new(schema), "a refused body leaves nothing behind");
                assert_eq!(out.rows, if appended.is_ok() { body.rows() } else { 0 });
                accepted = appended.is_ok();
            }
            if let Ok(body) = DeleteBody::parse(&payload) {
                let mut out = Deletes::default();
                let _of_another_type = body.check(schema);
                body.append_to(7, &mut out);
                assert_eq!((out.keys.len(), out.ticks.len()), (body.rows(), body.rows()));
                accepted = true;
            }
            accepted
        },
    }
}

/// The properties of a record as parts of an input, and whether they are base64 of a protobuf.
pub const PROPERTIES: [(&str, bool); 14] = [
    (properties::VERSION, false),
    (properties::TYPE, false),
    (properties::VCHANNEL, false),
    (properties::HEADER, true),
    (properties::TERM, false),
    (properties::TIME_TICK, false),
    (properties::LAST_CONFIRMED, false),
    (properties::LAST_CONFIRMED_SELF, false),
    (properties::TXN, true),
    (properties::BROADCAST, false),
    (properties::CIPHER, true),
    (properties::NOT_PERSISTED, false),
    (properties::PCHANNEL_LEVEL, false),
    ("trace", false),
];

const WALS: [WalName; 6] = [WalName::RocksMq, WalName::Kafka, WalName::Test, WalName::WoodPecker, WalName::Pulsar, WalName::Unknown];

/// A record as an input: the payload, the properties, the id's bytes, the record as a log without properties stores it.
pub fn parts((payload, properties): (Bytes, Properties), id: &MessageId) -> Input {
    let property = |(key, coded): (&str, bool)| match properties.get(key) {
        None => Vec::new(),
        Some(value) if coded => properties::decode_base64(value).expect("our own base64"),
        Some(value) => value.clone().into_bytes(),
    };
    let mut input = vec![payload.to_vec()];
    input.extend(PROPERTIES.map(property));
    input.push(id.to_wrapper_bytes());
    input.push(encode_record(payload, &properties));
    input
}

/// Records, ids, stored records.
pub fn message_codec() -> Target {
    Target {
        name: "the_message_codec_takes_any_record",
        corpus: corpus::records(),
        memory_times: 128,
        memory_base: 64 << 10,
        decode: |input| {
            let [payload, values @ .., id, stored] = input.as_slice() else { panic!("parts of a record") };
            let mut properties = Properties::new();
            // An empty value is a property that is not there, save for those that are flags: mutations that add bytes set them.
            for ((key, coded), value) in PROPERTIES.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
                let text = if *coded { properties::encode_base64(value) } else { String::from_utf8_lossy(value).into_owned() };
                properties.insert((*key).to_owned(), text);
            }
            let text = properties.get(properties::LAST_CONFIRMED).cloned().unwrap_or_default();
            let mut accepted = false;
            for wal in WALS {
                let from_bytes = MessageId::from_wrapper_bytes(wal, id);
                for read in [MessageId::unmarshal(wal, &text), from_bytes].into_iter().flatten() {
                    assert_eq!(MessageId::unmarshal(wal, &read.marshal()), Ok(read.clone()));
                    assert_eq!(MessageId::from_wrapper_bytes(wal, &read.to_wrapper_bytes()), Ok(read.clone()));
                    let record = Record { id: read, payload: Bytes::copy_from_slice(payload), properties: properties.clone() };
                    accepted |= decode(record);
                }
            }
            if let Ok((payload, properties)) = decode_record(stored) {
                accepted |= decode(Record { id: MessageId::RocksMq(1), payload, properties });
            }
            accepted
        },
    }
}

fn decode(record: Record) -> bool {
    let size = record.size();
    match Message::decode(record) {
        Ok(message) => {
            assert_eq!(message.size(), size, "nothing of a record is lost");
            message.is_control_channel();
            true
        }
        Err(malformed) => {
            assert_eq!(malformed.record.size(), size, "an error has its record untouched");
            assert!(!malformed.to_string().is_empty());
            false
        }
    }
}
