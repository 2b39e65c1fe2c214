//! The envelope of a v1 binlog: magic, descriptor event, and the header of the one data event around a Parquet file.
//!
//! ```text
//! offset  bytes
//!      0  4    magic bc fa ff 00
//!      4  17   event header: u64 written, i8 type 0, i32 length, i32 next position
//!     21  52   i64 collection, partition, segment, field; u64 first tick, last tick; i32 payload type
//!     73  8    post-header lengths of the event types 0..=7
//!     81  4+n  i32 length, then a JSON object: the extras
//!   85+n  17   event header of type 1 (insert) or 2 (delete)
//!  102+n  16   u64 first tick, last tick
//!  118+n       Parquet, to the end of the file
//! ```
//!
//! All integers are little-endian. An event's length counts its header; "next position" is the offset after it, or -1
//! in files of Milvus' compaction. Reading goes by the lengths.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{ReadError, SegmentKey, WriteError};

const MAGIC: [u8; 4] = 0x00FF_FABC_u32.to_le_bytes();
const HEADER_BYTES: usize = 17;
const POST_HEADER_LENGTHS: [u8; 8] = [52, 16, 16, 16, 16, 16, 16, 16];
const DESCRIPTOR_FIXED_BYTES: usize = 52 + 8 + 4;
const TICKS_BYTES: usize = 16;
const DESCRIPTOR_AT: usize = MAGIC.len();
/// Offset of the payload's type.
pub(crate) const PAYLOAD_TYPE_AT: usize = 69;

/// Kind of the data event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Values of one field.
    Insert = 1,
    /// Primary keys and ticks of deletes.
    Delete = 2,
}

/// What a binlog says about its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Whose file it is.
    pub key: SegmentKey,
    /// Milvus field id, -1 in delta logs.
    pub field: i64,
    /// Milvus `schema.DataType` code of the payload: the field's, 20 (String) or 5 (Int64) in delta logs.
    pub payload_type: i32,
    /// Kind of the data event.
    pub kind: EventKind,
    /// Hybrid time in the event header: the last tick of the batch when Tidegate wrote it, a wall clock otherwise.
    pub written: u64,
    /// First tick of the payload, as the data event has it.
    pub tick_from: u64,
    /// Last tick of the payload, as the data event has it.
    pub tick_to: u64,
    /// The extra JSON object, `original_size` among it.
    pub extras: BTreeMap<String, Value>,
    /// Bytes in memory before encoding, from the extras; informative.
    pub original_size: u64,
    /// Offset of the data event.
    pub event_at: usize,
    /// Offset of the Parquet payload, which reaches to the end of the file.
    pub payload_at: usize,
}

/// What to write into an envelope.
pub(crate) struct Label<'a> {
    pub key: &'a SegmentKey,
    pub field: i64,
    pub payload_type: i32,
    pub kind: EventKind,
    pub tick_from: u64,
    pub tick_to: u64,
    /// Keys in alphabetical order, as Milvus writes them.
    pub extras: String,
}

impl Label<'_> {
    /// Encodes the file: the envelope, and the payload as `append_payload` appends it.
    pub(crate) fn wrap(&self, append_payload: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>) -> Result<Vec<u8>, WriteError> {
        let Label { field, tick_from, tick_to, .. } = *self;
        if tick_from == 0 || tick_from > tick_to {
            return Err(WriteError::Ticks { field, from: tick_from, to: tick_to });
        }
        let mut out = MAGIC.to_vec();
        let descriptor_bytes = HEADER_BYTES + DESCRIPTOR_FIXED_BYTES + self.extras.len();
        out.extend_from_slice(&self.event_header(DESCRIPTOR_AT, 0, descriptor_bytes)?);
        for id in [self.key.collection, self.key.partition, self.key.segment, field] {
            out.extend_from_slice(&id.to_le_bytes());
        }
        self.put_ticks(&mut out);
        out.extend_from_slice(&self.payload_type.to_le_bytes());
        out.extend_from_slice(&POST_HEADER_LENGTHS);
        out.extend_from_slice(&self.to_i32(self.extras.len())?.to_le_bytes());
        out.extend_from_slice(self.extras.as_bytes());

        let event_at = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        self.put_ticks(&mut out);
        append_payload(&mut out)?;
        let header = self.event_header(event_at, self.kind as u8, out.len() - event_at)?;
        out[event_at..event_at + HEADER_BYTES].copy_from_slice(&header);
        Ok(out)
    }

    // FL-3: the header's time is the batch's last tick, so that equal batches give equal files.
    fn event_header(&self, at: usize, kind: u8, bytes: usize) -> Result<[u8; HEADER_BYTES], WriteError> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&self.tick_to.to_le_bytes());
        header[8] = kind;
        header[9..13].copy_from_slice(&self.to_i32(bytes)?.to_le_bytes());
        header[13..].copy_from_slice(&self.to_i32(at + bytes)?.to_le_bytes());
        Ok(header)
    }

    fn put_ticks(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tick_from.to_le_bytes());
        out.extend_from_slice(&self.tick_to.to_le_bytes());
    }

    fn to_i32(&self, bytes: usize) -> Result<i32, WriteError> {
        i32::try_from(bytes).map_err(|_| WriteError::TooLarge { field: self.field, bytes })
    }
}

impl Envelope {
    /// Whether a file begins as a binlog does.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads the envelope of a file that begins with the magic, and checks everything that the file says twice.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Envelope, ReadError> {
        let mut cursor = Cursor { bytes, at: DESCRIPTOR_AT };
        let descriptor = cursor.event_header("descriptor event")?;
        if descriptor.kind != 0 {
            return Err(ReadError::damaged(DESCRIPTOR_AT + 8, format!("event type {}, a descriptor is 0", descriptor.kind)));
        }
        let [collection, partition, segment, field] =
            [cursor.i64("collection")?, cursor.i64("partition")?, cursor.i64("segment")?, cursor.i64("field")?];
        cursor.take::<TICKS_BYTES>("descriptor ticks")?;
        let payload_type = i32::from_le_bytes(cursor.take("payload type")?);
        let lengths_at = cursor.at;
        let lengths: [u8; 8] = cursor.take("post-header lengths")?;
        if lengths != POST_HEADER_LENGTHS {
            return Err(ReadError::damaged(lengths_at, format!("post-header lengths {lengths:?}, version 1 has {POST_HEADER_LENGTHS:?}")));
        }
        let extras_at = cursor.at;
        let extras_bytes = i32::from_le_bytes(cursor.take("length of the extras")?);
        let expected = descriptor.length.checked_sub(HEADER_BYTES + DESCRIPTOR_FIXED_BYTES);
        if usize::try_from(extras_bytes).ok() != expected {
            return Err(ReadError::damaged(
                extras_at,
                format!("extras of {extras_bytes} bytes in a descriptor of {} bytes", descriptor.length),
            ));
        }
        let json_at = cursor.at;
        let (extras, original_size) = parse_extras(cursor.slice("extras", expected.unwrap_or(0))?, json_at)?;

        let event_at = cursor.at;
        let event = cursor.event_header("data event")?;
        let kind = match event.kind {
            1 => EventKind::Insert,
            2 => EventKind::Delete,
            kind @ 3..=7 => return Err(ReadError::unsupported(event_at + 8, format!("event type {kind}: metadata or index file"))),
            kind => return Err(ReadError::damaged(event_at + 8, format!("event type {kind}, known are 0 to 7"))),
        };
        let tick_from = u64::from_le_bytes(cursor.take("first tick")?);
        let tick_to = u64::from_le_bytes(cursor.take("last tick")?);
        let end = event_at.saturating_add(event.length);
        if end < cursor.at {
            return Err(ReadError::damaged(event_at + 9, format!("data event of {} bytes", event.length)));
        }
        if end > bytes.len() {
            return Err(ReadError::Truncated { what: "data event", offset: event_at, end, length: bytes.len() });
        }
        if end < bytes.len() {
            return Err(ReadError::damaged(end, format!("{} bytes after the data event", bytes.len() - end)));
        }
        let key = SegmentKey { collection, partition, segment };
        let payload_at = cursor.at;
        Ok(Envelope {
            key,
            field,
            payload_type,
            kind,
            written: event.written,
            tick_from,
            tick_to,
            extras,
            original_size,
            event_at,
            payload_at,
        })
    }
}

/// Reads the extras; `original_size` must be a string that holds an integer, or no Milvus reads the file.
fn parse_extras(json: &[u8], at: usize) -> Result<(BTreeMap<String, Value>, u64), ReadError> {
    let extras: BTreeMap<String, Value> =
        serde_json::from_slice(json).map_err(|e| ReadError::damaged(at, format!("extras are not a JSON object: {e}")))?;
    if extras.contains_key("edek") {
        return Err(ReadError::unsupported(at, "an encrypted file"));
    }
    let size = match extras.get("original_size") {
        Some(Value::String(size)) => size.parse().map_err(|_| format!("original_size {size:?} is not an integer")),
        Some(other) => Err(format!("original_size {other} is not a string")),
        None => Err("the extras lack original_size".to_owned()),
    };
    size.map(|size| (extras, size)).map_err(|problem| ReadError::damaged(at, problem))
}

struct EventHeader {
    written: u64,
    kind: u8,
    length: usize,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn slice(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.saturating_add(length);
        let slice = self.bytes.get(self.at..end).ok_or(ReadError::Truncated { what, offset: self.at, end, length: self.bytes.len() })?;
        self.at = end;
        Ok(slice)
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(what, N)?);
        Ok(out)
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, ReadError> {
        Ok(i64::from_le_bytes(self.take(what)?))
    }

    /// Reads an event's header; its next position must agree with its length or be unset.
    fn event_header(&mut self, what: &'static str) -> Result<EventHeader, ReadError> {
        let at = self.at;
        let written = u64::from_le_bytes(self.take(what)?);
        let [kind] = self.take(what)?;
        let length = i32::from_le_bytes(self.take(what)?);
        let next = i32::from_le_bytes(self.take(what)?);
        let bad = |problem: String| ReadError::damaged(at + 9, problem);
        let length = usize::try_from(length).map_err(|_| bad(format!("{what} of {length} bytes")))?;
        if next != -1 && usize::try_from(next).ok() != at.checked_add(length) {
            return Err(bad(format!("{what} at {at} of {length} bytes, yet the next position is {next}")));
        }
        Ok(EventHeader { written, kind, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn example() -> Vec<u8> {
        Label {
            key: &SegmentKey { collection: 1, partition: 2, segment: 3 },
            field: 100,
            payload_type: 5,
            kind: EventKind::Insert,
            tick_from: 1000,
            tick_to: 2000,
            extras: r#"{"nullable":false,"original_size":"25"}"#.to_owned(),
        }
        .wrap(|out| {
            out.extend_from_slice(&[7; 500]);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn an_envelope_is_byte_for_byte_what_milvus_writes() {
        let mut expected = hex("
            bcfaff00 d007000000000000 00 78000000 7c000000
            0100000000000000 0200000000000000 0300000000000000 6400000000000000
            e803000000000000 d007000000000000 05000000
            3410101010101010 27000000
            7b226e756c6c61626c65223a66616c73652c226f726967696e616c5f73697a65223a223235227d
            d007000000000000 01 15020000 91020000 e803000000000000 d007000000000000");
        expected.extend_from_slice(&[7; 500]);
        assert_eq!(example(), expected);
    }

    #[test]
    fn the_worked_example_of_milvus_is_read_and_only_its_clock_is_not_written() {
        let mut file = hex("
            bcfaff00 efcdab8967452301 00 78000000 7c000000
            0100000000000000 0200000000000000 0300000000000000 6400000000000000
            e803000000000000 d007000000000000 05000000
            3410101010101010 27000000
            7b226e756c6c61626c65223a66616c73652c226f726967696e616c5f73697a65223a223235227d
            efcdab8967452301 01 15020000 91020000 e803000000000000 d007000000000000");
        assert_eq!((file.len(), file[13]), (157, 120));
        file.extend_from_slice(&[7; 500]);
        let (found, ours) = (Envelope::parse(&file).unwrap(), Envelope::parse(&example()).unwrap());
        assert_eq!(found, Envelope { written: 0x0123_4567_89ab_cdef, ..ours });
        // FL-3: a clock would make equal batches differ.
        let clock = |at: usize| at..at + 8;
        file[clock(4)].copy_from_slice(&2000_u64.to_le_bytes());
        file[clock(124)].copy_from_slice(&2000_u64.to_le_bytes());
        assert_eq!(file, example());
    }

    #[test]
    fn an_envelope_says_what_was_written() {
        let envelope = Envelope::parse(&example()).unwrap();
        assert_eq!(envelope.key, SegmentKey { collection: 1, partition: 2, segment: 3 });
        assert_eq!((envelope.field, envelope.payload_type, envelope.kind), (100, 5, EventKind::Insert));
        assert_eq!((envelope.tick_from, envelope.tick_to, envelope.written), (1000, 2000, 2000));
        assert_eq!((envelope.original_size, envelope.event_at, envelope.payload_at), (25, 124, 157));
    }

    #[test]
    fn every_truncation_is_named() {
        let bytes = example();
        for length in 4..bytes.len() {
            let error = Envelope::parse(&bytes[..length]).unwrap_err();
            assert!(matches!(error, ReadError::Truncated { length: found, .. } if found == length), "{length}: {error}");
        }
    }

    #[test]
    fn a_file_without_original_size_is_refused() {
        let mut bytes = example();
        let at = bytes.windows(13).position(|w| w == b"original_size").unwrap();
        bytes[at] = b'O';
        assert_eq!(Envelope::parse(&bytes), Err(ReadError::damaged(85, "the extras lack original_size")));
    }

    #[test]
    fn an_unset_next_position_is_accepted_and_a_wrong_one_is_not() {
        let mut bytes = example();
        bytes[124 + 13..124 + 17].copy_from_slice(&(-1i32).to_le_bytes());
        Envelope::parse(&bytes).unwrap();
        bytes[124 + 13] = 0;
        assert!(matches!(Envelope::parse(&bytes), Err(ReadError::Damaged { offset: 133, .. })));
    }

    #[test]
    fn bytes_after_the_event_are_refused() {
        let mut bytes = example();
        bytes.push(0);
        assert!(matches!(Envelope::parse(&bytes), Err(ReadError::Damaged { offset: 657, .. })));
    }

    #[test]
    fn ticks_that_readers_refuse_are_not_written() {
        let key = SegmentKey { collection: 1, partition: 2, segment: 3 };
        for (tick_from, tick_to) in [(0, 5), (6, 5)] {
            let label =
                Label { key: &key, field: 100, payload_type: 5, kind: EventKind::Insert, tick_from, tick_to, extras: "{}".to_owned() };
            assert_eq!(label.wrap(|_| Ok(())), Err(WriteError::Ticks { field: 100, from: tick_from, to: tick_to }));
        }
    }
}
