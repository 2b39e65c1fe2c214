//! Message ids: where a record stands in its log, in each log's own coordinates.

use std::cmp::Ordering;
use std::fmt;

use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::properties::{decode_base64, encode_base36, encode_base64};
use crate::proto::wal::{PulsarId, WoodPeckerId};

/// Milvus `common.WALName`: the kind of log an id belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i32)]
pub enum WalName {
    /// Not said.
    Unknown = 0,
    /// The embedded queue.
    RocksMq = 1,
    /// Apache Pulsar.
    Pulsar = 2,
    /// Apache Kafka.
    Kafka = 3,
    /// Woodpecker.
    WoodPecker = 4,
    /// An in-process log for tests and demonstrations.
    Test = 999,
}

impl fmt::Display for WalName {
    /// Milvus' text form, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WalName::Unknown => "unknown",
            WalName::RocksMq => "rocksmq",
            WalName::Pulsar => "pulsar",
            WalName::Kafka => "kafka",
            WalName::WoodPecker => "woodpecker",
            WalName::Test => "walimplstest",
        })
    }
}

/// The id of one record. Ids are ordered within one kind of log only: see [`MessageId::compare`].
///
/// | log | marshalled text | wrapper bytes | order |
/// |---|---|---|---|
/// | RocksMQ, Kafka | base 36 | 8 bytes, little endian | numeric |
/// | Pulsar | base64 of the client's protobuf | the protobuf | ledger, entry, batch index |
/// | Woodpecker | base64 of the protobuf | the protobuf | segment, entry |
/// | test | decimal | 8 bytes, little endian | numeric |
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MessageId {
    /// Sequence number.
    RocksMq(i64),
    /// Offset in partition 0.
    Kafka(i64),
    /// Pulsar's client id; negative values are Pulsar's own "not set".
    Pulsar {
        /// Ledger.
        ledger: i64,
        /// Entry in the ledger.
        entry: i64,
        /// Partition of the topic.
        partition: i32,
        /// Message in a batch entry.
        batch_index: i32,
        /// Messages in the batch entry.
        batch_size: i32,
    },
    /// Woodpecker's entry.
    WoodPecker {
        /// Segment of the log.
        segment: i64,
        /// Entry in the segment.
        entry: i64,
    },
    /// Sequence number in a test log.
    Test(i64),
}

/// Why an id cannot be read or compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text or the bytes are not an id of that log.
    #[error("{id:?} is not a {wal} message id: {reason}")]
    Unreadable {
        /// The log that the id was read for.
        wal: WalName,
        /// What was read; bytes as base64.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The ids are of different kinds of log, which have no common order.
    #[error("message ids of different logs have no order: {left} ({left_wal}) and {right} ({right_wal})", left_wal = left.wal(), right_wal = right.wal())]
    DifferentLogs {
        /// The left operand.
        left: Box<MessageId>,
        /// The right operand.
        right: Box<MessageId>,
    },
}

impl MessageId {
    /// Returns the kind of log the id belongs to.
    pub fn wal(&self) -> WalName {
        match self {
            MessageId::RocksMq(_) => WalName::RocksMq,
            MessageId::Kafka(_) => WalName::Kafka,
            MessageId::Pulsar { .. } => WalName::Pulsar,
            MessageId::WoodPecker { .. } => WalName::WoodPecker,
            MessageId::Test(_) => WalName::Test,
        }
    }

    /// Returns the text form that Milvus stores in `_lc` and in `MessageID.id`.
    pub fn marshal(&self) -> String {
        match self {
            MessageId::RocksMq(n) | MessageId::Kafka(n) => encode_base36(*n),
            MessageId::Test(n) => n.to_string(),
            MessageId::Pulsar { .. } | MessageId::WoodPecker { .. } => encode_base64(&self.to_wrapper_bytes()),
        }
    }

    /// Reads the text form of a log's id; Milvus calls this `Unmarshal`.
    ///
    /// # Errors
    /// [`IdError::Unreadable`] if the text is no id of `wal`, or `wal` is [`WalName::Unknown`].
    pub fn unmarshal(wal: WalName, text: &str) -> Result<MessageId, IdError> {
        let unreadable = |reason: String| IdError::Unreadable { wal, id: text.to_owned(), reason };
        let base36 = || i64::from_str_radix(text, 36).map_err(|e| unreadable(e.to_string()));
        match wal {
            WalName::Unknown => Err(unreadable("the log is not known".to_owned())),
            WalName::RocksMq => base36().map(MessageId::RocksMq),
            WalName::Kafka => base36().map(MessageId::Kafka),
            WalName::Test => text.parse().map(MessageId::Test).map_err(|e: std::num::ParseIntError| unreadable(e.to_string())),
            WalName::Pulsar | WalName::WoodPecker => {
                let bytes = decode_base64(text).map_err(|e| unreadable(e.to_string()))?;
                MessageId::from_wrapper_bytes(wal, &bytes)
            }
        }
    }

    /// Returns the bytes that a position (`MsgPosition.msgID`) holds. Woodpecker's earliest id is zero bytes long.
    pub fn to_wrapper_bytes(&self) -> Vec<u8> {
        match *self {
            MessageId::RocksMq(n) | MessageId::Kafka(n) | MessageId::Test(n) => n.to_le_bytes().to_vec(),
            MessageId::Pulsar { ledger, entry, partition, batch_index, batch_size } => PulsarId {
                ledger: Some(ledger),
                entry: Some(entry),
                partition: Some(partition),
                batch_index: Some(batch_index),
                batch_size: Some(batch_size),
            }
            .encode_to_vec(),
            MessageId::WoodPecker { segment, entry } => WoodPeckerId { segment, entry }.encode_to_vec(),
        }
    }

    /// Reads the bytes of a position. Only Woodpecker has an id of zero bytes.
    ///
    /// # Errors
    /// [`IdError::Unreadable`] if the bytes are no id of `wal`, as after a change of the log under stored positions.
    pub fn from_wrapper_bytes(wal: WalName, bytes: &[u8]) -> Result<MessageId, IdError> {
        let unreadable = |reason: String| IdError::Unreadable { wal, id: encode_base64(bytes), reason };
        let number = || {
            let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| unreadable(format!("{} bytes instead of 8", bytes.len())))?;
            Ok(i64::from_le_bytes(bytes))
        };
        match wal {
            WalName::Unknown => Err(unreadable("the log is not known".to_owned())),
            WalName::RocksMq => number().map(MessageId::RocksMq),
            WalName::Kafka => number().map(MessageId::Kafka),
            WalName::Test => number().map(MessageId::Test),
            WalName::WoodPecker => {
                let id = WoodPeckerId::decode(bytes).map_err(|e| unreadable(e.to_string()))?;
                Ok(MessageId::WoodPecker { segment: id.segment, entry: id.entry })
            }
            WalName::Pulsar => {
                let id = PulsarId::decode(bytes).map_err(|e| unreadable(e.to_string()))?;
                let (Some(ledger), Some(entry)) = (id.ledger, id.entry) else {
                    return Err(unreadable("the ledger or the entry is missing".to_owned()));
                };
                Ok(MessageId::Pulsar {
                    ledger,
                    entry,
                    partition: id.partition.unwrap_or(-1),
                    batch_index: id.batch_index.unwrap_or(-1),
                    batch_size: id.batch_size.unwrap_or(0),
                })
            }
        }
    }

    /// Returns the id to read a whole log from. An unknown log has a test log's.
    pub fn earliest(wal: WalName) -> MessageId {
        match wal {
            WalName::RocksMq => MessageId::RocksMq(-1),
            WalName::Kafka => MessageId::Kafka(-2),
            WalName::Pulsar => MessageId::Pulsar { ledger: -1, entry: -1, partition: -1, batch_index: -1, batch_size: 0 },
            WalName::WoodPecker => MessageId::WoodPecker { segment: 0, entry: 0 },
            WalName::Test | WalName::Unknown => MessageId::Test(0),
        }
    }

    /// Orders two ids of one log; Pulsar's partition and batch size have no say.
    ///
    /// # Errors
    /// [`IdError::DifferentLogs`] if the ids are of different kinds of log.
    pub fn compare(&self, other: &MessageId) -> Result<Ordering, IdError> {
        match (self, other) {
            (MessageId::RocksMq(a), MessageId::RocksMq(b))
            | (MessageId::Kafka(a), MessageId::Kafka(b))
            | (MessageId::Test(a), MessageId::Test(b)) => Ok(a.cmp(b)),
            (
                MessageId::Pulsar { ledger: a, entry: b, batch_index: c, .. },
                MessageId::Pulsar { ledger: x, entry: y, batch_index: z, .. },
            ) => Ok((a, b, c).cmp(&(x, y, z))),
            (MessageId::WoodPecker { segment: a, entry: b }, MessageId::WoodPecker { segment: x, entry: y }) => Ok((a, b).cmp(&(x, y))),
            _ => Err(IdError::DifferentLogs { left: Box::new(self.clone()), right: Box::new(other.clone()) }),
        }
    }
}

impl fmt::Display for MessageId {
    /// Milvus' form for logs: decimal, `ledger/entry/batch`, `segment/entry`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageId::RocksMq(n) | MessageId::Kafka(n) | MessageId::Test(n) => write!(f, "{n}"),
            MessageId::Pulsar { ledger, entry, batch_index, .. } => write!(f, "{ledger}/{entry}/{batch_index}"),
            MessageId::WoodPecker { segment, entry } => write!(f, "{segment}/{entry}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pulsar(ledger: i64, entry: i64, batch_index: i32) -> MessageId {
        MessageId::Pulsar { ledger, entry, partition: -1, batch_index, batch_size: 0 }
    }

    #[test]
    fn marshalled_ids_have_the_text_milvus_writes() {
        for (id, text) in [
            (MessageId::RocksMq(0), "0"),
            (MessageId::RocksMq(-1), "-1"),
            (MessageId::RocksMq(470648468662911008), "3kq6yhnejiu8"),
            (MessageId::Kafka(36), "10"),
            (MessageId::Kafka(i64::MAX), "1y2p0ij32e8e7"),
            (MessageId::Kafka(i64::MIN), "-1y2p0ij32e8e8"),
            (MessageId::Test(-12), "-12"),
            (MessageId::WoodPecker { segment: 0, entry: 0 }, ""),
            (MessageId::WoodPecker { segment: 1, entry: 300 }, "CAEQrAI="),
            (MessageId::Pulsar { ledger: 1, entry: 2, partition: 0, batch_index: 0, batch_size: 0 }, "CAEQAhgAIAAwAA=="),
        ] {
            assert_eq!(id.marshal(), text, "{id:?}");
            assert_eq!(MessageId::unmarshal(id.wal(), text), Ok(id));
        }
    }

    #[test]
    fn wrapper_bytes_have_the_form_milvus_stores_in_positions() {
        assert_eq!(MessageId::RocksMq(258).to_wrapper_bytes(), [2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(MessageId::Kafka(-2).to_wrapper_bytes(), [0xfe, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(MessageId::earliest(WalName::WoodPecker).to_wrapper_bytes(), [0u8; 0]);
        let minus_one = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let earliest = [&[0x08][..], &minus_one, &[0x10], &minus_one, &[0x18], &minus_one, &[0x20], &minus_one, &[0x30, 0]].concat();
        assert_eq!(MessageId::earliest(WalName::Pulsar).to_wrapper_bytes(), earliest);
    }

    #[test]
    fn zero_bytes_are_an_id_of_woodpecker_only() {
        assert_eq!(MessageId::from_wrapper_bytes(WalName::WoodPecker, &[]), Ok(MessageId::earliest(WalName::WoodPecker)));
        for wal in [WalName::Unknown, WalName::RocksMq, WalName::Kafka, WalName::Pulsar, WalName::Test] {
            assert!(MessageId::from_wrapper_bytes(wal, &[]).is_err(), "{wal}");
            assert!(MessageId::unmarshal(wal, "").is_err(), "{wal}");
        }
    }

    #[test]
    fn the_bytes_of_another_log_are_refused() {
        let kafka = MessageId::Kafka(5).to_wrapper_bytes();
        assert!(MessageId::from_wrapper_bytes(WalName::WoodPecker, &kafka).is_err());
        assert!(MessageId::from_wrapper_bytes(WalName::Pulsar, &kafka).is_err());
        assert!(MessageId::from_wrapper_bytes(WalName::Kafka, &pulsar(1, 2, 3).to_wrapper_bytes()).is_err());
    }

    #[test]
    fn ids_of_one_log_are_ordered_and_of_two_are_not() {
        assert_eq!(pulsar(1, 9, 9).compare(&pulsar(2, 0, 0)), Ok(Ordering::Less));
        assert_eq!(pulsar(1, 2, 3).compare(&pulsar(1, 2, -1)), Ok(Ordering::Greater));
        let woodpecker = |segment, entry| MessageId::WoodPecker { segment, entry };
        assert_eq!(woodpecker(2, 0).compare(&woodpecker(1, 7)), Ok(Ordering::Greater));
        assert!(matches!(MessageId::Kafka(1).compare(&MessageId::RocksMq(1)), Err(IdError::DifferentLogs { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_id_survives_both_forms(a: i64, b: i64, c: i32, d: i32, e: i32) {
            for id in [
                MessageId::RocksMq(a),
                MessageId::Kafka(a),
                MessageId::Test(a),
                MessageId::WoodPecker { segment: a, entry: b },
                MessageId::Pulsar { ledger: a, entry: b, partition: c, batch_index: d, batch_size: e },
            ] {
                prop_assert_eq!(MessageId::unmarshal(id.wal(), &id.marshal()), Ok(id.clone()));
                prop_assert_eq!(MessageId::from_wrapper_bytes(id.wal(), &id.to_wrapper_bytes()), Ok(id));
            }
        }
    }
}
