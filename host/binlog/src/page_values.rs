//! A look into the unpacked pages of a Parquet column before the Parquet crate decodes them.
//!
//! The crate takes the lengths of texts and of levels as they come, and panics where they pass the page.

use std::iter;

use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescPtr;

/// The pages of a flat column, each checked: its levels and its texts are within it, and as many as it says.
pub(crate) struct CheckedPages {
    pub pages: Box<dyn PageReader>,
    pub column: ColumnDescPtr,
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        match &page {
            Some(page) if !self.is_sound(page) => Err(ParquetError::General("the values of a page are not within it".to_owned())),
            _ => Ok(page),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl CheckedPages {
    fn is_sound(&self, page: &Page) -> bool {
        let optional = self.column.max_def_level() == 1;
        let (encoding, levels, values) = match page {
            Page::DictionaryPage { buf, .. } => (Encoding::PLAIN, None, buf.as_ref()),
            Page::DataPage { buf, .. } if !optional => (page.encoding(), None, buf.as_ref()),
            Page::DataPage { buf, def_level_encoding: Encoding::RLE, .. } => {
                let Some((levels, values)) = prefixed(buf) else { return false };
                (page.encoding(), Some(levels), values)
            }
            Page::DataPage { .. } => return false,
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                let (definitions, repetitions) = (*def_levels_byte_len as usize, *rep_levels_byte_len as usize);
                let split = buf.split_at_checked(repetitions).and_then(|(_, rest)| rest.split_at_checked(definitions));
                let Some((levels, values)) = split else { return false };
                (page.encoding(), optional.then_some(levels), values)
            }
        };
        let rows = page.num_values() as usize;
        let Some(present) = levels.map_or(Some(rows), |levels| count_ones(levels, 1, rows)) else { return false };
        match encoding {
            Encoding::PLAIN if self.column.physical_type() == Physical::BYTE_ARRAY => {
                iter::successors(Some(values), |rest| prefixed(rest).map(|(_, rest)| rest)).nth(present).is_some()
            }
            Encoding::PLAIN => true,
            Encoding::RLE => prefixed(values).is_some_and(|(bits, _)| count_ones(bits, 1, present).is_some()),
            // The indices into the dictionary, behind their width.
            _ => values.split_first().is_some_and(|(&width, indices)| width <= 32 && count_ones(indices, width.into(), present).is_some()),
        }
    }
}

/// Takes bytes off the front that stand behind their length, 4 bytes little-endian.
fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// Walks the first `count` numbers of `width` bits, which stand in runs and in groups of eight; `None` if there are fewer. Counts those
/// whose lowest bit is set if they have only that one.
fn count_ones(mut bytes: &[u8], width: usize, count: usize) -> Option<usize> {
    let (mut left, mut ones) = (count, 0);
    while left > 0 {
        let (mut head, mut shift) = (0u64, 0);
        loop {
            let (&byte, rest) = bytes.split_first()?;
            bytes = rest;
            head |= u64::from(byte & 127).checked_shl(shift)?;
            shift += 7;
            if byte < 128 {
                break;
            }
        }
        let numbers = usize::try_from(head >> 1).ok().filter(|&numbers| numbers > 0)?;
        if head & 1 == 0 {
            let (number, rest) = bytes.split_at_checked(width.div_ceil(8))?;
            bytes = rest;
            let run = numbers.min(left);
            ones += if number.first().is_some_and(|byte| byte & 1 == 1) { run } else { 0 };
            left -= run;
        } else {
            // The last group may end with its last number.
            let numbers = numbers.saturating_mul(8).min(left);
            let (groups, _) = bytes.split_at_checked(numbers.checked_mul(width)?.div_ceil(8))?;
            bytes = bytes.get(numbers.div_ceil(8).checked_mul(width)?..).unwrap_or_default();
            if width == 1 {
                for group in groups {
                    let bits = left.min(8);
                    ones += (u16::from(*group) & ((1 << bits) - 1)).count_ones() as usize;
                    left -= bits;
                }
            } else {
                left -= numbers;
            }
        }
    }
    Some(ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_in_runs_and_in_groups() {
        // A run of five ones, two groups of eight, a run of three zeros.
        let levels = [5 << 1, 1, 2 << 1 | 1, 0b1010_1010, 0b0000_1111, 3 << 1, 0];
        assert_eq!(count_ones(&levels, 1, 24), Some(5 + 4 + 4));
        assert_eq!(count_ones(&levels, 1, 15), Some(5 + 4 + 2));
        assert_eq!(count_ones(&levels, 1, 25), None);
        assert_eq!(count_ones(&levels[..4], 1, 24), None);
        assert_eq!(count_ones(&[0x80; 20], 1, 1), None);
        assert_eq!(count_ones(&[0, 0, 0, 0], 1, 1), None, "a run of nothing ends nowhere");
        assert_eq!(count_ones(&[], 1, 0), Some(0));
    }

    #[test]
    fn indices_are_walked_by_their_width() {
        // A run of 300 indices of nine bits, a group of eight.
        let indices = [&[0xd8, 0x04, 7, 1, 3][..], &[0xff; 9]].concat();
        assert!(count_ones(&indices, 9, 308).is_some());
        assert_eq!(count_ones(&indices, 9, 309), None);
        assert_eq!(count_ones(&indices[..13], 9, 308), None);
        assert!(count_ones(&indices[..13], 9, 307).is_some(), "the last group may end with its last number");
        assert!(count_ones(&[16], 0, 8).is_some(), "a dictionary of one value needs no bits");
    }
}
