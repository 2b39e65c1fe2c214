//! Cuts what is written into pieces that an append takes, by the bytes of each row: an average would be wrong where rows differ.

use tidegate_message::columns::{Columns, PrimaryKey, Values};

use super::NodeError;
use crate::wal::embedded::LogLimits;

/// Bytes of an append beside its rows: properties, headers, the other messages of a group.
const REST_BYTES: usize = 1 << 20;
/// Most bytes of an integer in a message, whatever its type.
const VARINT_BYTES: usize = 10;
/// Tag and length of a value of any length, in a message.
const PREFIX_BYTES: usize = 8;

/// Cuts items into runs of at most so many bytes, one item at least.
pub(super) fn pieces<'a, T>(items: &'a [T], bytes_of: &dyn Fn(&T) -> usize, bytes_max: usize) -> Vec<&'a [T]> {
    let (mut pieces, mut start, mut bytes) = (Vec::new(), 0, 0_usize);
    for (at, item) in items.iter().enumerate() {
        let more = bytes_of(item);
        if at > start && bytes.saturating_add(more) > bytes_max {
            pieces.push(&items[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(more);
    }
    pieces.extend((start < items.len()).then(|| &items[start..]));
    pieces
}

/// Returns the bytes that each row takes at most in a message.
///
/// # Errors
/// [`NodeError::Invalid`] with the first row that no append takes.
pub(super) fn bytes_of_rows(columns: &Columns) -> Result<Vec<usize>, NodeError> {
    let mut sizes = vec![VARINT_BYTES; columns.rows];
    for field in &columns.fields {
        let valid = usize::from(field.valid.is_some());
        for (row, size) in sizes.iter_mut().enumerate() {
            *size += valid
                + match &field.values {
                    Values::Bool(_) => 1,
                    Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_) => VARINT_BYTES,
                    Values::Float(_) => 4,
                    Values::Double(_) => 8,
                    Values::Fixed { width, .. } => *width,
                    values @ Values::Bytes { .. } => values.bytes_at(row).len() + PREFIX_BYTES,
                };
        }
    }
    for (row, &bytes) in sizes.iter().enumerate() {
        fits(bytes).map_err(|max| NodeError::Invalid(format!("row {row} of this insert takes {bytes} bytes; one may take {max}")))?;
    }
    Ok(sizes)
}

/// Returns the bytes that a key takes at most in a message.
pub(super) fn bytes_of_key(key: &PrimaryKey) -> usize {
    match key {
        PrimaryKey::Int64(_) => VARINT_BYTES,
        PrimaryKey::VarChar(key) => key.len() + PREFIX_BYTES,
    }
}

/// Refuses keys that no append takes.
///
/// # Errors
/// [`NodeError::Invalid`] with the first one.
pub(super) fn check_keys(keys: &[PrimaryKey]) -> Result<(), NodeError> {
    keys.iter().map(bytes_of_key).enumerate().try_for_each(|(nth, bytes)| {
        fits(bytes).map_err(|max| NodeError::Invalid(format!("key {nth} of this delete takes {bytes} bytes; one may take {max}")))
    })
}

/// Whether an append takes a row of so many bytes; how many it takes, if not.
fn fits(bytes: usize) -> Result<(), usize> {
    let max = LogLimits::default().append_bytes_max - REST_BYTES;
    if bytes <= max { Ok(()) } else { Err(max) }
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::DataType;
    use tidegate_message::schema::{Field, Schema};

    use super::*;

    #[test]
    fn every_item_is_in_one_piece_and_only_a_single_item_is_too_large() {
        let items = [3, 3, 3, 20, 1, 9, 1];
        assert_eq!(pieces(&items, &|n| *n, 9), [&[3, 3, 3][..], &[20], &[1], &[9], &[1]]);
        assert!(pieces(&[], &|n: &usize| *n, 9).is_empty());
    }

    #[test]
    fn a_row_counts_what_it_takes_and_one_that_no_append_takes_is_named() {
        let fields = vec![Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) }, Field::new(101, "text", DataType::VarChar)];
        let mut columns = Columns::new(&Schema { name: "c".into(), fields, enable_dynamic_field: false, version: 0 });
        columns.fields.drain(..2);
        columns.rows = 2;
        columns.fields[0].values = Values::Int64(vec![1, 2]);
        columns.fields[1].values = Values::Bytes { ends: vec![1, 1_001], bytes: vec![b'x'; 1_001] };
        let sizes = bytes_of_rows(&columns).unwrap();
        assert_eq!(sizes[1] - sizes[0], 999);
        let huge = 16 << 20;
        columns.fields[1].values = Values::Bytes { ends: vec![1, huge], bytes: vec![b'x'; huge] };
        assert!(bytes_of_rows(&columns).is_err_and(|e| e.to_string().contains("row 1")));
        assert!(check_keys(&[PrimaryKey::Int64(1), PrimaryKey::VarChar("k".repeat(huge))]).is_err_and(|e| e.to_string().contains("key 1")));
    }
}
