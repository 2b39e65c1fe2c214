//! A look at the page headers of a Parquet column before the Parquet crate sees it.
//!
//! The crate reserves what a page header claims: up to 2 GiB for a page, and far more for a dictionary. Here the claims are
//! read first, from the thrift compact encoding, and held against the limits.

use std::ops::Range;

use crate::ReadError;

/// Most bytes that one page may unpack to: writers aim for 1 MiB, but Milvus looks only every 1024 rows, and a row may have 128 KiB.
pub(crate) const PAGE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most values of a dictionary: writers give it up at 1 MiB.
pub(crate) const DICTIONARY_VALUES_MAX: usize = 1024 * 1024;

const NESTING_MAX: u8 = 8;
/// PLAIN, PLAIN_DICTIONARY, RLE (booleans) and RLE_DICTIONARY.
const ENCODINGS: [i64; 4] = [0, 2, 3, 8];
const STRUCT: u8 = 12;

/// Checks every page in `range` of `payload`: it is complete, unpacks to at most [`PAGE_BYTES_MAX`], has an encoding that
/// reserves no more than its bytes justify; and all have `rows` values together. `base` is the payload's offset in its file.
pub(crate) fn check(payload: &[u8], range: Range<usize>, rows: usize, base: usize) -> Result<(), ReadError> {
    let Some(chunk) = payload.get(range.clone()) else {
        return Err(ReadError::damaged(base, format!("column at {range:?} of a payload of {} bytes", payload.len())));
    };
    let mut thrift = Thrift { bytes: chunk, at: 0 };
    let mut values = 0usize;
    while thrift.at < chunk.len() {
        let at = base + range.start + thrift.at;
        let damaged = |problem: &str| ReadError::damaged(at, format!("page header: {problem}"));
        let page = thrift.page_header().ok_or_else(|| damaged("not thrift, or incomplete"))?;
        let size = |claim: Option<i64>| claim.and_then(|n| usize::try_from(n).ok());
        let (Some(unpacked), Some(packed)) = (size(page.unpacked), size(page.packed)) else {
            return Err(damaged("no sizes"));
        };
        if unpacked > PAGE_BYTES_MAX {
            return Err(ReadError::unsupported(at, format!("a page of {unpacked} bytes, more than {PAGE_BYTES_MAX}")));
        }
        thrift.at = thrift.at.checked_add(packed).filter(|&end| end <= chunk.len()).ok_or_else(|| damaged("the page passes its column"))?;
        if page.kind == Some(1) {
            continue; // an index page: skipped by readers
        }
        let Some(count) = size(page.values) else {
            return Err(damaged("no number of values"));
        };
        if !page.encoding.is_some_and(|code| ENCODINGS.contains(&code)) {
            return Err(ReadError::unsupported(at, format!("page encoding {:?}, known are PLAIN, RLE and dictionaries", page.encoding)));
        }
        match page.kind {
            Some(0 | 3) => values = values.checked_add(count).ok_or_else(|| damaged("too many values"))?,
            Some(2) if count > DICTIONARY_VALUES_MAX || count > unpacked => {
                return Err(ReadError::unsupported(at, format!("a dictionary of {count} values in {unpacked} bytes")));
            }
            Some(2) => {}
            kind => return Err(damaged(&format!("page type {kind:?}"))),
        }
    }
    match values == rows {
        true => Ok(()),
        false => Err(ReadError::damaged(base + range.start, format!("the pages have {values} values, the footer says {rows} rows"))),
    }
}

#[derive(Default)]
struct PageHeader {
    kind: Option<i64>,
    unpacked: Option<i64>,
    packed: Option<i64>,
    values: Option<i64>,
    encoding: Option<i64>,
}

/// The thrift compact protocol, as much as page headers have of it.
struct Thrift<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Thrift<'_> {
    fn page_header(&mut self) -> Option<PageHeader> {
        let mut page = PageHeader::default();
        self.each_field(|thrift, id, kind| {
            match (id, kind) {
                (1, 5) => page.kind = Some(thrift.integer()?),
                (2, 5) => page.unpacked = Some(thrift.integer()?),
                (3, 5) => page.packed = Some(thrift.integer()?),
                (5 | 7 | 8, STRUCT) => {
                    let encoding_id = if id == 8 { 4 } else { 2 };
                    thrift.each_field(|thrift, inner, kind| {
                        match kind {
                            5 if inner == 1 => page.values = Some(thrift.integer()?),
                            5 if inner == encoding_id => page.encoding = Some(thrift.integer()?),
                            _ => thrift.skip(kind, 0)?,
                        }
                        Some(())
                    })?;
                }
                _ => thrift.skip(kind, 0)?,
            }
            Some(())
        })?;
        Some(page)
    }

    fn each_field(&mut self, mut visit: impl FnMut(&mut Self, i64, u8) -> Option<()>) -> Option<()> {
        let mut id = 0i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = match head >> 4 {
                0 => self.integer()?,
                delta => id.checked_add(i64::from(delta))?,
            };
            visit(self, id, head & 15)?;
        }
    }

    fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        if depth > NESTING_MAX {
            return None;
        }
        match kind {
            1 | 2 => Some(()),
            3 => self.byte().map(drop),
            4..=6 => self.integer().map(drop),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(usize::try_from(length).ok()?)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
                (0..count).try_for_each(|_| match head & 15 {
                    1 | 2 => self.advance(1), // a bool of a list has a byte of its own
                    kind => self.skip(kind, depth + 1),
                })
            }
            STRUCT => self.each_field(|thrift, _, kind| thrift.skip(kind, depth + 1)),
            _ => None, // maps do not occur
        }
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
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn integer(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PLAIN data page header (type 0) or dictionary header (type 2), and `packed` bytes.
    fn page(kind: u8, unpacked: u32, packed: u8, values: u8, encoding: u8) -> Vec<u8> {
        let mut bytes = vec![0x15, kind << 1, 0x15];
        let mut zigzag = u64::from(unpacked) << 1;
        while zigzag > 127 {
            bytes.push(zigzag as u8 | 128);
            zigzag >>= 7;
        }
        let id_delta = if kind == 2 { 4 } else { 2 };
        bytes.extend([zigzag as u8, 0x15, packed << 1, id_delta << 4 | STRUCT, 0x15, values << 1, 0x15, encoding << 1, 0, 0]);
        bytes.extend(vec![0; packed.into()]);
        bytes
    }

    fn verdict(bytes: &[u8], rows: usize) -> String {
        check(bytes, 0..bytes.len(), rows, 100).map_or_else(|e| e.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn pages_within_the_limits_pass() {
        let mut bytes = page(2, 9, 9, 3, 2);
        bytes.extend(page(0, 5, 5, 7, 8));
        bytes.extend(page(0, 5, 5, 4, 0));
        assert_eq!(verdict(&bytes, 11), "fine");
        assert_eq!(verdict(&bytes, 12), "damaged at byte 100: the pages have 11 values, the footer says 12 rows");
    }

    #[test]
    fn a_page_that_claims_too_much_is_refused_before_memory_is_reserved() {
        assert!(verdict(&page(0, 1 << 30, 5, 7, 0), 7).contains("a page of 1073741824 bytes"));
        assert!(verdict(&page(2, 3, 3, 7, 0), 7).contains("a dictionary of 7 values in 3 bytes"));
        assert!(verdict(&page(0, 5, 5, 7, 5), 7).contains("page encoding Some(5)"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = page(0, 5, 5, 7, 0);
        for length in 0..bytes.len() {
            assert_ne!(verdict(&bytes[..length], 7), "fine", "{length}");
        }
    }
}
