//! Milvus write-ahead-log messages: the wire codec, ids per log, and rows as columns.
//!
//! A log stores and returns a [`Record`]: an id, payload bytes and a map of text properties. [`Message::decode`] reads everything that
//! dispatch needs (kind, tick, channel, header) and leaves the rows of a body alone; [`rows`] reads those when a segment takes them in.
//! [`build`] writes what a proxy and a streaming node append. Everything from outside is checked: what cannot be read is an error that
//! carries its record, never a panic.

pub mod array;
pub mod build;
pub mod columns;
mod header;
mod id;
mod kind;
mod message;
pub mod properties;
mod record;
pub mod rows;
pub mod schema;
pub mod sparse;
mod wire;
pub mod wkb;

mod proto {
    pub(crate) use milvus::proto::*;
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));
}

pub use build::Outgoing;
pub use header::{CreateSegment, Header};
pub use id::{IdError, MessageId, WalName};
pub use kind::MessageType;
pub use message::{Malformed, Message, MessageError, TxnContext};
pub use properties::Properties;
pub use record::{Record, RecordError, decode_record, encode_record};
pub use wire::WireError;
