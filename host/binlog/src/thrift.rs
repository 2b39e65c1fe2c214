//! The thrift compact protocol, as much as Parquet has of it: walked, never built.
//!
//! What is checked here is read again by the Parquet crate, which takes more than writers write: fields in any order, an id past 16 bits
//! as its lower ones, a value as the type that it expects whatever type it has. Bytes that the two would read differently could claim
//! one thing here and another there, so they are refused.

const NESTING_MAX: u8 = 8;
const BYTE: u8 = 3;
pub(crate) const I32: u8 = 5;
const I64: u8 = 6;
pub(crate) const BINARY: u8 = 8;
pub(crate) const LIST: u8 = 9;
pub(crate) const STRUCT: u8 = 12;

/// A place in bytes that are read as thrift's compact protocol; every read is `None` past their end.
pub(crate) struct Thrift<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl Thrift<'_> {
    /// Calls `visit` with the id and the type of every field of a struct, ids ascending; it must read the value or skip it.
    pub(crate) fn each_field(&mut self, mut visit: impl FnMut(&mut Self, i16, u8) -> Option<()>) -> Option<()> {
        let mut last = 0i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            let id = match head >> 4 {
                0 => i16::try_from(self.integer()?).ok()?,
                delta => last.checked_add(i16::from(delta))?,
            };
            if id <= last {
                return None;
            }
            last = id;
            visit(self, id, head & 15)?;
        }
    }

    /// Passes over a value, and checks that it is there.
    pub(crate) fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        if depth > NESTING_MAX {
            return None;
        }
        match kind {
            1 | 2 => Some(()),
            BYTE => self.byte().map(drop),
            4..=I64 => self.integer().map(drop),
            7 => self.advance(8),
            BINARY => {
                let length = self.varint()?;
                self.advance(usize::try_from(length).ok()?)
            }
            LIST | 10 => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| match kind {
                    1 | 2 => self.advance(1), // a bool of a list has a byte of its own
                    kind => self.skip(kind, depth + 1),
                })
            }
            STRUCT => self.each_field(|thrift, _, kind| thrift.skip(kind, depth + 1)),
            _ => None, // maps do not occur
        }
    }

    /// Reads the head of a list: how many values of which type it claims to have.
    pub(crate) fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((count, head & 15))
    }

    fn advance(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|&end| end <= self.bytes.len())?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    /// Reads an integer of 32 bits.
    pub(crate) fn i32(&mut self) -> Option<i32> {
        i32::try_from(self.integer()?).ok()
    }

    fn integer(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}
