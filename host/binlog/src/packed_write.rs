//! Writing the packed files of one batch.

use std::ops::Range;

use parquet::file::metadata::KeyValue;
use tidegate_message::columns::{Columns, FieldColumn};

use crate::WriteError;
use crate::columns::row_count;
use crate::packed::{ColumnGroups, GROUPS_KEY, ROW_GROUPS_KEY, VERSION, VERSION_KEY, memory_bytes, row_groups};
use crate::parquet_write::{Stored, append_table};

/// The packed files of one batch, planned: what their row groups are, and what their footers say of each other.
///
/// ```
/// use tidegate_binlog::{PackedPlan, column_groups, read_packed};
/// use tidegate_message::columns::{Columns, DataType, Values};
/// use tidegate_message::schema::{Field, Schema};
///
/// let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
/// let schema = Schema { name: "things".into(), fields: vec![key], enable_dynamic_field: false, version: 0 };
/// let mut batch = Columns::new(&schema);
/// batch.rows = 3;
/// batch.fields.iter_mut().for_each(|column| column.values = Values::Int64(vec![7, 8, 9]));
///
/// let groups = column_groups(&schema, &Default::default());
/// let plan = PackedPlan::new(&batch, &groups)?;
/// let file = read_packed(&plan.write(&batch.fields)?)?;
/// assert_eq!((file.groups, file.row_groups), (vec![vec![0, 1, 100]], vec![3]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PackedPlan {
    rows: usize,
    row_groups: Vec<Range<usize>>,
    groups: String,
}

impl PackedPlan {
    /// Plans the files of a batch that is split into these groups.
    ///
    /// # Errors
    ///
    /// There are no rows, a column contradicts itself or the batch's number of rows, or a column is not in exactly one group.
    pub fn new(columns: &Columns, groups: &ColumnGroups) -> Result<PackedPlan, WriteError> {
        let rows = columns.rows;
        for column in &columns.fields {
            let field = column.field_id;
            let fail = |problem: String| Err(WriteError::Column { field, problem });
            let homes = groups.values().flatten().filter(|member| **member == field).count();
            match row_count(column)? {
                _ if homes != 1 => return fail(format!("it is in {homes} column groups")),
                0 => return Err(WriteError::Empty { field }),
                own if own != rows => return fail(format!("{own} values in a batch of {rows} rows")),
                _ => {}
            }
        }
        let list = |fields: &Vec<i64>| fields.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
        let groups = groups.values().map(list).collect::<Vec<_>>().join(";");
        Ok(PackedPlan { rows, row_groups: row_groups(columns), groups })
    }

    /// Encodes the columns of one group, ascending by field id, as a packed file.
    ///
    /// Each is named by its decimal field id, which is also its Parquet field id, and OPTIONAL if it is nullable. It is compressed with zstd
    /// level 3 if its first rows shrink by 15 %, else plain. Equal input gives equal bytes. There is no Arrow schema in the footer: the
    /// Parquet types say everything, but for the dimension of a nullable vector.
    ///
    /// # Errors
    ///
    /// There are no columns, or one is not of the batch that was planned.
    pub fn write(&self, columns: &[FieldColumn]) -> Result<Vec<u8>, WriteError> {
        let mut stored = Vec::with_capacity(columns.len());
        for column in columns {
            let field = column.field_id;
            let own = row_count(column)?;
            if own != self.rows {
                return Err(WriteError::Column { field, problem: format!("{own} values in a batch of {} rows", self.rows) });
            }
            let id = i32::try_from(field).map_err(|e| WriteError::Column { field, problem: format!("as a Parquet field id: {e}") })?;
            stored.push(Stored { id: Some(id), ..Stored::new(column, field.to_string()) });
        }
        let Some(first) = columns.first() else {
            return Err(WriteError::Column { field: -1, problem: "a packed file without columns".to_owned() });
        };
        let of_group = |rows: &Range<usize>| {
            let bytes: usize = columns.iter().map(|column| memory_bytes(column, rows.clone())).sum();
            format!("{bytes}|{}|{}", rows.len(), rows.start)
        };
        let row_groups = self.row_groups.iter().map(of_group).collect::<Vec<_>>().join(";");
        let footer = [(GROUPS_KEY, self.groups.clone()), (ROW_GROUPS_KEY, row_groups), (VERSION_KEY, VERSION.to_owned())];
        let footer = footer.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
        let mut out = Vec::new();
        append_table(&mut out, &stored, &self.row_groups, footer)
            .map_err(|e| WriteError::Column { field: first.field_id, problem: e.to_string() })?;
        Ok(out)
    }
}
