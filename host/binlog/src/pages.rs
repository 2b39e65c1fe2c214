//! A look at the page headers of a Parquet column before the Parquet crate sees it.
//!
//! The crate reserves what a page header claims: up to 2 GiB for a page, and far more for a dictionary. Here the claims are
//! read first, from the thrift compact encoding, and held against the limits.

use std::ops::Range;

use crate::ReadError;
use crate::thrift::{I32, STRUCT, Thrift};

/// Most values of a dictionary: writers give it up at 1 MiB.
pub(crate) const DICTIONARY_VALUES_MAX: usize = 1024 * 1024;

/// PLAIN, PLAIN_DICTIONARY, RLE (booleans) and RLE_DICTIONARY.
const ENCODINGS: [i32; 4] = [0, 2, 3, 8];
/// Those of them that take values from a dictionary.
const DICTIONARY_ENCODINGS: [i32; 2] = [2, 8];
/// Fields of a page header that hold the header of one type of page.
const DATA_PAGE: i16 = 5;
const INDEX_PAGE: i16 = 6;
const DICTIONARY_PAGE: i16 = 7;
const DATA_PAGE_V2: i16 = 8;

/// Checks every page in `range` of `payload`: it is complete, unpacks to at most `bytes_max`, has an encoding that
/// reserves no more than its bytes justify; and all have `rows` values together. `base` is the payload's offset in its file.
pub(crate) fn check(payload: &[u8], range: Range<usize>, rows: usize, bytes_max: usize, base: usize) -> Result<(), ReadError> {
    let Some(chunk) = payload.get(range.clone()) else {
        return Err(ReadError::damaged(base, format!("column at {range:?} of a payload of {} bytes", payload.len())));
    };
    let mut thrift = Thrift { bytes: chunk, at: 0 };
    let (mut values, mut dictionary) = (0usize, false);
    while thrift.at < chunk.len() {
        let at = base + range.start + thrift.at;
        let damaged = |problem: &str| ReadError::damaged(at, format!("page header: {problem}"));
        let page = page_header(&mut thrift).ok_or_else(|| damaged("not thrift, or incomplete"))?;
        let size = |claim: Option<i32>| claim.and_then(|n| usize::try_from(n).ok());
        let (Some(unpacked), Some(packed)) = (size(page.unpacked), size(page.packed)) else {
            return Err(damaged("no sizes"));
        };
        if page.levels > unpacked as i64 {
            return Err(damaged(&format!("levels of {} bytes in a page of {unpacked}", page.levels)));
        }
        if unpacked > bytes_max {
            return Err(ReadError::unsupported(at, format!("a page of {unpacked} bytes, more than {bytes_max}")));
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
            Some(0 | 3) if !dictionary && page.encoding.is_some_and(|code| DICTIONARY_ENCODINGS.contains(&code)) => {
                return Err(damaged("its values are in a dictionary that is not there"));
            }
            Some(0 | 3) => values = values.checked_add(count).ok_or_else(|| damaged("too many values"))?,
            Some(2) if count > DICTIONARY_VALUES_MAX || count > unpacked => {
                return Err(ReadError::unsupported(at, format!("a dictionary of {count} values in {unpacked} bytes")));
            }
            Some(2) => dictionary = true,
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
    kind: Option<i32>,
    unpacked: Option<i32>,
    packed: Option<i32>,
    values: Option<i32>,
    encoding: Option<i32>,
    /// Bytes of repetition and definition levels, version 2 only.
    levels: i64,
}

/// Reads a page header; `None` if a field that the Parquet crate reads has another type than it is read as.
fn page_header(thrift: &mut Thrift<'_>) -> Option<PageHeader> {
    let mut page = PageHeader::default();
    thrift.each_field(|thrift, id, kind| {
        match (id, kind) {
            (1, I32) => page.kind = Some(thrift.i32()?),
            (2, I32) => page.unpacked = Some(thrift.i32()?),
            (3, I32) => page.packed = Some(thrift.i32()?),
            // The checksum.
            (4, I32) => drop(thrift.i32()?),
            (DATA_PAGE | DICTIONARY_PAGE | DATA_PAGE_V2, STRUCT) => page_values(thrift, id, &mut page)?,
            (INDEX_PAGE, STRUCT) => thrift.skip(kind, 0)?,
            (1..=8, _) => return None,
            _ => thrift.skip(kind, 0)?,
        }
        Some(())
    })?;
    Some(page)
}

/// Reads the header of one type of page: its number of values and their encoding.
fn page_values(thrift: &mut Thrift<'_>, id: i16, page: &mut PageHeader) -> Option<()> {
    let (encoding, integers, statistics) = match id {
        DATA_PAGE => (2, 4, 5),
        DATA_PAGE_V2 => (4, 6, 8),
        _ => (2, 2, 0),
    };
    thrift.each_field(|thrift, inner, kind| {
        match kind {
            I32 if inner == 1 => page.values = Some(thrift.i32()?),
            I32 if inner == encoding => page.encoding = Some(thrift.i32()?),
            I32 if id == DATA_PAGE_V2 && (inner == 5 || inner == 6) => {
                page.levels += i64::from(thrift.i32().filter(|&bytes| bytes >= 0)?);
            }
            I32 if inner <= integers => drop(thrift.i32()?),
            // Whether a dictionary is sorted, whether values are compressed.
            1 | 2 if inner == integers + 1 => {}
            STRUCT if inner == statistics => thrift.skip(kind, 0)?,
            _ if inner <= integers + 2 => return None,
            _ => thrift.skip(kind, 0)?,
        }
        Some(())
    })
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
        check(bytes, 0..bytes.len(), rows, 1 << 20, 100).map_or_else(|e| e.to_string(), |()| "fine".to_owned())
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
