//! Storage version 2: how a segment's fields are split into packed files, and its rows into row groups.
//!
//! ```text
//! group 0    row id, time tick, primary key, partition key, clustering key
//! group f    the vector or Text field f, alone
//! group 1    every other field
//! ```
//!
//! Each sync writes one Parquet file a group, without envelope. Row group `i` has the same rows in all files of a sync, so that a reader
//! can walk them side by side; it ends where the next row would take the values of all groups past 1 MiB.
//!
//! The footers say what lies where:
//!
//! | key | value |
//! |---|---|
//! | `group_field_id_list` | field ids of every group, `0,1,100;102;101,103`: groups ascending by id, whether this is one of their files or not |
//! | `row_group_metadata` | bytes in memory, rows and first row of every row group of this file, `98304\|512\|0;1536\|8\|512` |
//! | `storage_version` | `1.0.0` |

use std::collections::BTreeMap;
use std::ops::Range;

use tidegate_message::columns::{Columns, DataType, FieldColumn, ROW_ID_FIELD, TIMESTAMP_FIELD, Values};
use tidegate_message::schema::{Field, Schema};

/// Column groups by id, each with the ids of its fields.
pub type ColumnGroups = BTreeMap<i64, Vec<i64>>;

/// Footer keys and the version that they belong to.
pub(crate) const GROUPS_KEY: &str = "group_field_id_list";
pub(crate) const ROW_GROUPS_KEY: &str = "row_group_metadata";
pub(crate) const VERSION_KEY: &str = "storage_version";
pub(crate) const VERSION: &str = "1.0.0";

/// The group of the keys and system fields, and the group of other short values.
const KEYS_GROUP: i64 = 0;
const SHORT_GROUP: i64 = 1;
/// Bytes of values at which a row group ends, all column groups together.
const ROW_GROUP_BYTES: usize = 1024 * 1024;
/// What a value of variable length costs besides its bytes: Arrow's offset.
const OFFSET_BYTES: usize = 4;

/// Splits the fields of a schema, and the row id and the time tick, into column groups.
///
/// `earlier` is the split that the segment has already, empty before its first sync; it is kept for the segment's whole life. A group
/// without fields in it is of a file from before Milvus 2.6.2, where group 0 had every field that was not alone. A field that the segment
/// did not have gets a group of its own.
///
/// ```
/// use tidegate_binlog::column_groups;
/// use tidegate_message::columns::DataType;
/// use tidegate_message::schema::{Field, Schema};
///
/// let fields = vec![
///     Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
///     Field::new(101, "price", DataType::Float),
///     Field { dim: 8, ..Field::new(102, "v", DataType::FloatVector) },
/// ];
/// let schema = Schema { name: "things".into(), fields, enable_dynamic_field: false, version: 0 };
/// let groups = column_groups(&schema, &Default::default());
/// assert_eq!(groups.into_iter().collect::<Vec<_>>(), [(0, vec![0, 1, 100]), (1, vec![101]), (102, vec![102])]);
/// ```
pub fn column_groups(schema: &Schema, earlier: &ColumnGroups) -> ColumnGroups {
    let system = [ROW_ID_FIELD, TIMESTAMP_FIELD].map(|id| (id, KEYS_GROUP));
    let first_split = system.into_iter().chain(schema.fields.iter().map(|field| (field.id, first_group(field))));
    let mut groups = ColumnGroups::new();
    for (field, first) in first_split {
        let known = earlier.iter().find(|(group, fields)| fields.contains(&field) || (fields.is_empty() && **group == field));
        let group = match known {
            Some((group, _)) => *group,
            None if earlier.is_empty() => first,
            None if earlier.get(&KEYS_GROUP).is_some_and(Vec::is_empty) => KEYS_GROUP,
            None => field,
        };
        groups.entry(group).or_default().push(field);
    }
    groups
}

fn first_group(field: &Field) -> i64 {
    let is_key = field.is_primary || field.is_partition_key || field.is_clustering_key;
    let is_long = field.data_type.is_dense_vector() || matches!(field.data_type, DataType::SparseFloatVector | DataType::Text);
    match (is_key, is_long) {
        (true, _) => KEYS_GROUP,
        (false, true) => field.id,
        (false, false) => SHORT_GROUP,
    }
}

/// The rows of every row group, the same for all files of a batch. FL-3: the values alone decide.
pub(crate) fn row_groups(columns: &Columns) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for row in 0..columns.rows {
        let of_row: usize = columns.fields.iter().map(|column| memory_bytes(column, row..row + 1)).sum();
        if bytes + of_row > ROW_GROUP_BYTES && row > start {
            groups.push(start..row);
            (start, bytes) = (row, 0);
        }
        bytes += of_row;
    }
    groups.push(start..columns.rows);
    groups
}

/// Bytes that some rows of a checked column take as Arrow arrays, flags of validity left out.
pub(crate) fn memory_bytes(column: &FieldColumn, rows: Range<usize>) -> usize {
    let count = rows.len();
    match &column.values {
        Values::Bool(_) | Values::Int8(_) => count,
        Values::Int16(_) => count * 2,
        Values::Int32(_) | Values::Float(_) => count * 4,
        Values::Int64(_) | Values::Double(_) => count * 8,
        Values::Bytes { ends, .. } => {
            let end_of = |row: usize| row.checked_sub(1).map_or(0, |last| ends[last]);
            end_of(rows.end) - end_of(rows.start) + count * OFFSET_BYTES
        }
        Values::Fixed { width, .. } => count * width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        let fields = vec![
            Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
            Field::new(101, "price", DataType::Double),
            Field { dim: 8, ..Field::new(102, "v", DataType::Int8Vector) },
            Field { is_partition_key: true, ..Field::new(103, "tenant", DataType::VarChar) },
            Field { is_clustering_key: true, ..Field::new(104, "year", DataType::Int16) },
            Field::new(105, "words", DataType::SparseFloatVector),
            Field::new(106, "essay", DataType::Text),
            Field::new(107, "tags", DataType::Array),
        ];
        Schema { name: "s".into(), fields, enable_dynamic_field: false, version: 0 }
    }

    fn groups<const N: usize>(groups: [(i64, &[i64]); N]) -> ColumnGroups {
        groups.into_iter().map(|(group, fields)| (group, fields.to_vec())).collect()
    }

    #[test]
    fn keys_lie_together_long_values_alone_and_the_rest_together() {
        let expected = groups([(0, &[0, 1, 100, 103, 104]), (1, &[101, 107]), (102, &[102]), (105, &[105]), (106, &[106])]);
        assert_eq!(column_groups(&schema(), &ColumnGroups::new()), expected);
    }

    #[test]
    fn a_split_is_kept_and_a_new_field_gets_a_group_of_its_own() {
        let earlier = groups([(0, &[0, 1, 100, 101, 103]), (102, &[102]), (105, &[105, 106, 99])]);
        let expected = groups([(0, &[0, 1, 100, 101, 103]), (102, &[102]), (104, &[104]), (105, &[105, 106]), (107, &[107])]);
        assert_eq!(column_groups(&schema(), &earlier), expected);
    }

    #[test]
    fn a_split_without_fields_is_that_of_the_first_packed_files() {
        let earlier = groups([(0, &[]), (102, &[]), (105, &[])]);
        let expected = groups([(0, &[0, 1, 100, 101, 103, 104, 106, 107]), (102, &[102]), (105, &[105])]);
        assert_eq!(column_groups(&schema(), &earlier), expected);
    }

    #[test]
    fn a_row_group_ends_before_all_groups_together_pass_a_mebibyte() {
        let column =
            |values| FieldColumn { field_id: 1, name: "x".into(), data_type: DataType::Int64, is_primary: false, valid: None, values };
        let ids = column(Values::Int64(vec![0; 1000]));
        // Long enough that two of them are a row group of their own, and one longer than any group.
        let lengths = (0..1000).map(|row| if row == 10 { 2 * ROW_GROUP_BYTES } else { 1000 });
        let ends: Vec<usize> = lengths
            .scan(0, |end, length| {
                Some({
                    *end += length;
                    *end
                })
            })
            .collect();
        let bytes = vec![0; ends[999]];
        let columns = Columns { rows: 1000, fields: vec![ids, column(Values::Bytes { ends, bytes })] };
        let cut = row_groups(&columns);
        // 1 MiB / (8 + 4 + 1000) = 1036: more than there are, but for the long one.
        assert_eq!(cut, [0..10, 10..11, 11..1000]);
        assert_eq!(memory_bytes(&columns.fields[1], 10..12), 2 * ROW_GROUP_BYTES + 1000 + 2 * OFFSET_BYTES);

        let vectors = Columns { rows: 2050, fields: vec![column(Values::Fixed { width: 1024, bytes: vec![0; 2050 * 1024] })] };
        assert_eq!(row_groups(&vectors), [0..1024, 1024..2048, 2048..2050]);
    }
}
