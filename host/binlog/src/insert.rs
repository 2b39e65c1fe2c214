//! Insert logs: one field of one batch.

use tidegate_message::columns::{FieldColumn, Values};

use crate::columns::{payload_type, row_count};
use crate::envelope::{EventKind, Label};
use crate::{SegmentKey, WriteError, parquet_write};

/// Encodes one field of a batch as a v1 insert log: descriptor, one insert event, a Parquet payload of one column.
///
/// `tick_from` and `tick_to` are the ticks of the batch's first and last row; the second is also the event's time, so equal
/// input gives equal bytes. The payload is one row group with the REQUIRED column `val`, data pages of version 1, no statistics
/// and no Arrow schema, which is what readers of Milvus 2.3 and 2.6 have in common. It is compressed with zstd level 3 if the first
/// rows shrink by 15 %, else plain. A dictionary is used as Milvus does, except where no value occurs twice and it only costs
/// time: the primary key, the row id and vectors.
///
/// Fails if the column is empty or contradicts its own type, if the ticks are no range above zero, or if the file passes 2 GiB.
pub fn write_insert_log(key: &SegmentKey, column: &FieldColumn, tick_from: u64, tick_to: u64) -> Result<Vec<u8>, WriteError> {
    let field = column.field_id;
    let rows = row_count(column)?;
    if rows == 0 {
        return Err(WriteError::Empty { field });
    }
    Label {
        key,
        field,
        payload_type: payload_type(column.data_type),
        kind: EventKind::Insert,
        tick_from,
        tick_to,
        extras: format!(r#"{{"nullable":false,"original_size":"{}"}}"#, memory_size(column)),
    }
    .wrap(|out| parquet_write::append_column(out, column, rows))
}

/// Estimates a column's bytes in memory exactly as Milvus does, so that batches end where its batches end.
///
/// ```text
/// fixed-width scalar   rows × width + 1
/// VarChar, JSON        sum of (length + 16) + 1
/// float vector         bytes + 4
/// ```
pub fn memory_size(column: &FieldColumn) -> u64 {
    let bytes = match &column.values {
        Values::Bool(v) => v.len() + 1,
        Values::Int8(v) => v.len() + 1,
        Values::Int16(v) => v.len() * 2 + 1,
        Values::Int32(v) => v.len() * 4 + 1,
        Values::Int64(v) => v.len() * 8 + 1,
        Values::Float(v) => v.len() * 4 + 1,
        Values::Double(v) => v.len() * 8 + 1,
        Values::Bytes { ends, bytes } => bytes.len() + ends.len() * 16 + 1,
        Values::Fixed { bytes, .. } => bytes.len() + 4,
    };
    bytes as u64
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::{DataType, ROW_ID_FIELD, TIMESTAMP_FIELD};

    use super::*;

    fn int64(field_id: i64, rows: i64) -> FieldColumn {
        let values = Values::Int64((0..rows).collect());
        FieldColumn { field_id, name: "x".to_owned(), data_type: DataType::Int64, is_primary: field_id == 100, valid: None, values }
    }

    #[test]
    fn ten_rows_with_a_vector_of_128_weigh_what_they_weigh_in_milvus() {
        let vector =
            FieldColumn { values: Values::Fixed { width: 512, bytes: vec![0; 5120] }, data_type: DataType::FloatVector, ..int64(101, 0) };
        let columns = [int64(ROW_ID_FIELD, 10), int64(TIMESTAMP_FIELD, 10), int64(100, 10), vector];
        assert_eq!(columns.iter().map(memory_size).sum::<u64>(), 5367);
    }

    #[test]
    fn a_column_that_contradicts_itself_is_not_written() {
        let key = SegmentKey { collection: 1, partition: 2, segment: 3 };
        let write = |column: &FieldColumn| write_insert_log(&key, column, 1, 2).unwrap_err().to_string();
        assert_eq!(write(&int64(100, 0)), "field 100: no rows to write");
        assert_eq!(write(&FieldColumn { data_type: DataType::Int8, ..int64(100, 3) }), "field 100: type Int8, but Int64 values");
        let bytes = |ends: Vec<usize>, text: &[u8]| FieldColumn {
            data_type: DataType::VarChar,
            values: Values::Bytes { ends, bytes: text.to_vec() },
            ..int64(101, 0)
        };
        assert_eq!(write(&bytes(vec![2, 1], b"ab")), "field 101: value 1 spans bytes 2..1 of 2");
        assert_eq!(write(&bytes(vec![3], b"ab")), "field 101: value 0 spans bytes 0..3 of 2");
        assert_eq!(write(&bytes(vec![1, 2], "é".as_bytes())), "field 101: value 0 is not UTF-8");
        assert_eq!(write(&bytes(vec![1], b"ab")), "field 101: 2 bytes, but the values end at 1");
        let vector =
            |width| FieldColumn { data_type: DataType::FloatVector, values: Values::Fixed { width, bytes: vec![0; 10] }, ..int64(102, 0) };
        assert_eq!(write(&vector(0)), "field 102: 10 bytes are not rows of 0");
        assert_eq!(write(&vector(4)), "field 102: 10 bytes are not rows of 4");
    }
}
