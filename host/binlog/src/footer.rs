//! A look at the footer of a Parquet payload before the Parquet crate sees it.
//!
//! The crate reserves what a schema claims to have of columns, 16 GiB for a number of five bytes, and follows nested groups by recursion,
//! until the stack ends. Binlogs are flat.

use crate::ReadError;
use crate::thrift::{BINARY, I32, LIST, STRUCT, Thrift};

const MAGIC: &[u8] = b"PAR1";
/// Length of the footer, and the magic.
const TAIL_BYTES: usize = 8;
const SCHEMA: i16 = 2;
const ROW_GROUPS: i16 = 4;

/// What a footer claims that must be known before it is believed.
#[derive(Default)]
struct Footer {
    /// Columns that the root of the schema claims to have.
    claimed: Option<i32>,
    /// Columns that are there.
    columns: i32,
    /// Whether a column claims to have columns of its own.
    nested: bool,
}

/// Checks that the payload, which lies at `base` in its file, ends with a Parquet footer all of whose lists are as long as they claim, and
/// whose schema is flat, with 1 to `columns_max` columns. Returns the footer's offset in the file.
pub(crate) fn check(payload: &[u8], base: usize, columns_max: usize) -> Result<usize, ReadError> {
    let end = base + payload.len();
    let Some((rest, tail)) = payload.split_last_chunk::<TAIL_BYTES>() else {
        return Err(ReadError::damaged(base, format!("a payload of {} bytes is no Parquet file", payload.len())));
    };
    let (length, magic) = tail.split_at(4);
    if magic != MAGIC {
        return Err(ReadError::damaged(end - 4, format!("the Parquet payload ends with {magic:02x?}, not with {MAGIC:02x?}")));
    }
    let length = length.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte));
    let Some(footer_at) = rest.len().checked_sub(length) else {
        return Err(ReadError::damaged(end - TAIL_BYTES, format!("a Parquet footer of {length} bytes in a payload of {}", payload.len())));
    };
    let mut thrift = Thrift { bytes: rest, at: footer_at };
    let Some(footer) = read(&mut thrift) else {
        return Err(ReadError::damaged(base + thrift.at, "the Parquet footer is not what writers write"));
    };
    let at = base + footer_at;
    if footer.nested {
        return Err(ReadError::unsupported(at, "a column of the Parquet payload is nested"));
    }
    if footer.claimed != Some(footer.columns) {
        return Err(ReadError::damaged(at, format!("the Parquet schema has {} columns and claims {:?}", footer.columns, footer.claimed)));
    }
    if !usize::try_from(footer.columns).is_ok_and(|columns| (1..=columns_max).contains(&columns)) {
        return Err(ReadError::unsupported(at, format!("{} columns, a segment file has 1 to {columns_max}", footer.columns)));
    }
    Ok(at)
}

fn read(thrift: &mut Thrift<'_>) -> Option<Footer> {
    let mut footer = Footer::default();
    thrift.each_field(|thrift, id, kind| match (id, kind) {
        // The version.
        (1, I32) => thrift.i32().map(drop),
        (SCHEMA, LIST) => read_schema(thrift, &mut footer),
        (1 | SCHEMA, _) => None,
        (ROW_GROUPS, _) if kind != LIST => None,
        _ => thrift.skip(kind, 0),
    })?;
    Some(footer)
}

/// The first element is the root, which says how many follow.
fn read_schema(thrift: &mut Thrift<'_>, footer: &mut Footer) -> Option<()> {
    let (count, STRUCT) = thrift.list()? else { return None };
    for nth in 0..count {
        let mut children = None;
        thrift.each_field(|thrift, id, kind| match (id, kind) {
            (NUM_CHILDREN, I32) => {
                children = Some(thrift.i32()?);
                Some(())
            }
            _ if field_type(id).is_some_and(|expected| expected != kind) => None,
            _ => thrift.skip(kind, 0),
        })?;
        if nth == 0 {
            footer.claimed = children;
        } else {
            footer.columns = footer.columns.checked_add(1)?;
            footer.nested |= children.is_some_and(|children| children != 0);
        }
    }
    Some(())
}

const NUM_CHILDREN: i16 = 5;

/// Types of a schema element's fields: type, its length, repetition, name, children, converted type, scale, precision, id, logical type.
fn field_type(id: i16) -> Option<u8> {
    match id {
        1..=3 | NUM_CHILDREN..=9 => Some(I32),
        4 => Some(BINARY),
        10 => Some(STRUCT),
        _ => None,
    }
}
