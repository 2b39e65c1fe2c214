//! Insert logs: one field of one batch.

use tidegate_message::columns::FieldColumn;

use crate::columns::{payload_type, row_count};
use crate::envelope::{EventKind, Label};
use crate::{SegmentKey, WriteError, memory_size, parquet_write};

/// Encodes one field of a batch as a v1 insert log: descriptor, one insert event, a Parquet payload of one column.
///
/// `tick_from` and `tick_to` are the ticks of the batch's first and last row; the second is also the event's time, so equal
/// input gives equal bytes. The payload is one row group with the column `val`, REQUIRED or, of a nullable field, OPTIONAL; data pages of version 1, no statistics
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
        extras: format!(r#"{{"nullable":{},"original_size":"{}"}}"#, column.valid.is_some(), memory_size(column)),
    }
    .wrap(|out| parquet_write::append_column(out, column, rows))
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::{DataType, Values};

    use super::*;

    fn int64(field_id: i64, rows: i64) -> FieldColumn {
        let values = Values::Int64((0..rows).collect());
        FieldColumn { field_id, name: "x".to_owned(), data_type: DataType::Int64, is_primary: field_id == 100, valid: None, values }
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
