//! What batches weigh, counted as Milvus counts.

use tidegate_message::array::Elements;
use tidegate_message::columns::{DataType, Deletes, FieldColumn, PrimaryKey, Values};
use tidegate_message::sparse;

/// Bytes of a text's or a document's header in memory.
const HEADER_BYTES: usize = 16;
/// Bytes of the flag that says whether a field is nullable.
const NULLABLE_BYTES: usize = 1;

/// Estimates a column's bytes in memory exactly as Milvus does.
///
/// ```text
/// fixed-width scalar     rows × width + validity flags + 1
/// text, JSON, geometry   sum of (length + 16) + validity flags + 1
/// array                  bytes of the elements + validity flags + 1; of text, each array counts as a column of its own
/// dense vector           bytes of the vectors that are not null + 4
/// sparse vector          bytes of its protobuf
/// ```
///
/// A column does not know its arrays' element type: small integers count as 32 bits, which Milvus counts as 8 or 16.
pub fn memory_size(column: &FieldColumn) -> u64 {
    let scalar = NULLABLE_BYTES + column.valid.as_ref().map_or(0, Vec::len);
    let bytes = match &column.values {
        Values::Bool(v) => v.len() + scalar,
        Values::Int8(v) => v.len() + scalar,
        Values::Int16(v) => v.len() * 2 + scalar,
        Values::Int32(v) => v.len() * 4 + scalar,
        Values::Int64(v) => v.len() * 8 + scalar,
        Values::Float(v) => v.len() * 4 + scalar,
        Values::Double(v) => v.len() * 8 + scalar,
        values @ Values::Bytes { ends, bytes } => match column.data_type {
            DataType::Array => (0..ends.len()).map(|row| elements_size(values.bytes_at(row))).sum::<usize>() + scalar,
            DataType::SparseFloatVector => sparse_size(column),
            _ => bytes.len() + ends.len() * HEADER_BYTES + scalar,
        },
        Values::Fixed { width, bytes } => {
            let nulls = column.valid.iter().flatten().filter(|valid| !**valid).count();
            bytes.len().saturating_sub(nulls * width) + 4
        }
    };
    bytes as u64
}

/// Estimates the bytes of deletes in memory exactly as Milvus does: 16 and 8 for the tick an Int64 key, length and 16 a VarChar key.
pub fn deletes_memory_size(deletes: &Deletes) -> u64 {
    let size = |key: &PrimaryKey| match key {
        PrimaryKey::Int64(_) => 16 + 8,
        PrimaryKey::VarChar(text) => text.len() + 8 + 8,
    };
    deletes.keys.iter().map(size).sum::<usize>() as u64
}

fn elements_size(array: &[u8]) -> usize {
    match Elements::decode(array) {
        Ok(Some(Elements::Bools(v))) => v.len(),
        Ok(Some(Elements::Ints(v))) => v.len() * 4,
        Ok(Some(Elements::Longs(v))) => v.len() * 8,
        Ok(Some(Elements::Floats(v))) => v.len() * 4,
        Ok(Some(Elements::Doubles(v))) => v.len() * 8,
        Ok(Some(Elements::Texts(v))) => v.iter().map(|text| text.len() + HEADER_BYTES).sum::<usize>() + NULLABLE_BYTES,
        Ok(None) | Err(_) => 0,
    }
}

/// Bytes of `schema.SparseFloatArray`: every row with its tag and length, and the dimension.
fn sparse_size(column: &FieldColumn) -> usize {
    let rows = || (0..column.values.len()).filter(|row| column.is_valid(*row)).map(|row| column.values.bytes_at(row));
    let dim = rows().filter_map(|row| sparse::pairs(row).last()).map(|(index, _)| u64::from(index) + 1).max();
    rows().map(|row| 1 + varint_bytes(row.len() as u64) + row.len()).sum::<usize>() + dim.map_or(0, |dim| 1 + varint_bytes(dim))
}

fn varint_bytes(value: u64) -> usize {
    (64 - value.leading_zeros() as usize).div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use tidegate_message::columns::{ROW_ID_FIELD, TIMESTAMP_FIELD};

    use super::*;

    fn column(data_type: DataType, values: Values) -> FieldColumn {
        FieldColumn { field_id: 101, name: "x".to_owned(), data_type, is_primary: false, valid: None, values }
    }

    fn int64(field_id: i64) -> FieldColumn {
        FieldColumn { field_id, ..column(DataType::Int64, Values::Int64((0..10).collect())) }
    }

    fn rows(rows: &[Vec<u8>]) -> Values {
        let ends = rows.iter().scan(0, |end, row| {
            *end += row.len();
            Some(*end)
        });
        Values::Bytes { ends: ends.collect(), bytes: rows.concat() }
    }

    #[test]
    fn ten_rows_with_a_vector_of_128_weigh_what_they_weigh_in_milvus() {
        let vector = column(DataType::FloatVector, Values::Fixed { width: 512, bytes: vec![0; 5120] });
        let columns = [int64(ROW_ID_FIELD), int64(TIMESTAMP_FIELD), int64(100), vector];
        let rows: u64 = columns.iter().map(memory_size).sum();
        assert_eq!(rows, 5367);
        let deletes = |rows| Deletes { keys: (0..rows).map(PrimaryKey::Int64).collect(), ticks: vec![1; rows as usize] };
        assert_eq!((rows + deletes_memory_size(&deletes(10)), rows + deletes_memory_size(&deletes(20))), (5607, 5847));
        let text = Deletes { keys: vec![PrimaryKey::VarChar("abc".to_owned())], ticks: vec![1] };
        assert_eq!(deletes_memory_size(&text), 3 + 8 + 8);
    }

    #[test]
    fn a_column_of_every_kind_weighs_what_milvus_says() {
        let null = |column: FieldColumn, flags: &[bool]| FieldColumn { valid: Some(flags.to_vec()), ..column };
        let array = |elements: &[Elements]| column(DataType::Array, rows(&elements.iter().map(Elements::encode).collect::<Vec<_>>()));
        let text = |data_type| column(data_type, rows(&[b"abc".to_vec(), vec![]]));
        let fixed = |data_type, width| column(data_type, Values::Fixed { width, bytes: vec![0; 2 * width] });
        for (column, expected) in [
            (column(DataType::Bool, Values::Bool(vec![true; 3])), 3 + 1),
            (column(DataType::Int8, Values::Int8(vec![1; 3])), 3 + 1),
            (column(DataType::Int16, Values::Int16(vec![1; 3])), 3 * 2 + 1),
            (column(DataType::Int32, Values::Int32(vec![1; 3])), 3 * 4 + 1),
            (column(DataType::Timestamptz, Values::Int64(vec![1; 3])), 3 * 8 + 1),
            (null(column(DataType::Float, Values::Float(vec![1.0; 3])), &[true, false, true]), 3 * 4 + 3 + 1),
            (column(DataType::Double, Values::Double(vec![1.0; 3])), 3 * 8 + 1),
            (text(DataType::VarChar), 3 + 2 * 16 + 1),
            (null(text(DataType::Json), &[true, false]), 3 + 2 * 16 + 2 + 1),
            (text(DataType::Geometry), 3 + 2 * 16 + 1),
            (array(&[Elements::Bools(vec![true; 2])]), 2 + 1),
            (array(&[Elements::Ints(vec![1, 2]), Elements::Ints(vec![])]), 2 * 4 + 1),
            (array(&[Elements::Longs(vec![1])]), 8 + 1),
            (array(&[Elements::Floats(vec![1.0])]), 4 + 1),
            (array(&[Elements::Doubles(vec![1.0; 3])]), 3 * 8 + 1),
            (array(&[Elements::Texts(vec!["ab".into(), "c".into()])]), (2 + 1 + 2 * 16 + 1) + 1),
            (fixed(DataType::BinaryVector, 2), 2 * 2 + 4),
            (fixed(DataType::Float16Vector, 6), 2 * 6 + 4),
            (fixed(DataType::BFloat16Vector, 6), 2 * 6 + 4),
            (fixed(DataType::Int8Vector, 3), 2 * 3 + 4),
            (null(fixed(DataType::FloatVector, 12), &[false, true]), 12 + 4),
            // A row of two pairs and one without any, each with tag and length; dim 301 takes two bytes.
            (column(DataType::SparseFloatVector, rows(&[sparse::encode([(1, 1.0), (300, 1.0)]), vec![]])), (2 + 16) + 2 + (1 + 2)),
        ] {
            assert_eq!(memory_size(&column), expected, "{column:?}");
        }
    }
}
