//! Reading a collection back from its segment files, deletes applied.

use std::collections::HashMap;

use tidegate_core::calls::{FieldBinlogs, Level, SegmentFiles, SegmentInfo, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_message::columns::{Columns, PrimaryKey, TIMESTAMP_FIELD, Values};

use super::Node;
use crate::storage::{read_deltas, read_segment};

/// A partition that stands for every partition.
const EVERY_PARTITION: i64 = -1;

impl Node {
    /// Reads the rows that the coordinator has files of, one call a batch. A delete removes rows with a smaller tick of its partition.
    ///
    /// # Errors
    /// A file is missing or damaged, or `each` fails.
    pub fn read_rows(&self, collection: &CollectionInfo, each: &mut dyn FnMut(Columns) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut segments = self.segments(Some(collection.id))?;
        segments.retain(|s| s.state != SegmentState::Dropped);
        segments.sort_by_key(|s| s.segment);
        let (level_zero, rows): (Vec<SegmentInfo>, Vec<SegmentInfo>) = segments.into_iter().partition(|s| s.level == Level::L0);
        let mut deletes: HashMap<(String, i64), HashMap<PrimaryKey, u64>> = HashMap::new();
        for s in &level_zero {
            let latest = deletes.entry((s.vchannel.clone(), s.partition)).or_default();
            let read = read_deltas(&self.chunks, s.files.delta.iter().flat_map(|f| &f.binlogs))?;
            for (key, tick) in read.keys.into_iter().zip(read.ticks) {
                let entry = latest.entry(key).or_default();
                *entry = tick.max(*entry);
            }
        }
        let primary = collection.schema.primary().map_or(0, |f| f.id);
        for s in &rows {
            let of_partition = deletes.get(&(s.vchannel.clone(), s.partition));
            let of_all = deletes.get(&(s.vchannel.clone(), EVERY_PARTITION));
            let deleted_at =
                |key: &PrimaryKey| of_partition.and_then(|d| d.get(key)).max(of_all.and_then(|d| d.get(key))).copied().unwrap_or_default();
            for files in syncs(&s.files) {
                let columns = read_segment(&self.chunks, &files, &collection.schema)?;
                let keep = kept(&columns, primary, &deleted_at);
                each(if keep.len() == columns.rows { columns } else { columns.select(&keep) })?;
            }
        }
        Ok(())
    }
}

/// The insert logs of a segment, one sync's at a time: a batch is in memory, not the segment. By log id, the files at the same place
/// of every field, or column group, belong together.
fn syncs(files: &SegmentFiles) -> Vec<SegmentFiles> {
    let mut syncs: Vec<SegmentFiles> = Vec::new();
    for field in &files.insert {
        let mut binlogs = field.binlogs.clone();
        binlogs.sort_by_key(|b| b.log_id);
        for (at, binlog) in binlogs.into_iter().enumerate() {
            if syncs.len() <= at {
                syncs.push(SegmentFiles::default());
            }
            syncs[at].insert.push(FieldBinlogs { field: field.field, child_fields: field.child_fields.clone(), binlogs: vec![binlog] });
        }
    }
    syncs
}

fn kept(columns: &Columns, primary: i64, deleted_at: &dyn Fn(&PrimaryKey) -> u64) -> Vec<usize> {
    let values = |id: i64| columns.fields.iter().find(|f| f.field_id == id).map(|f| &f.values);
    let Some(Values::Int64(ticks)) = values(TIMESTAMP_FIELD) else { return (0..columns.rows).collect() };
    let alive = |row: &usize| match values(primary) {
        Some(Values::Int64(keys)) => ticks[*row] as u64 >= deleted_at(&PrimaryKey::Int64(keys[*row])),
        Some(Values::Bytes { ends, bytes }) => {
            let start = if *row == 0 { 0 } else { ends[*row - 1] };
            let key = String::from_utf8_lossy(&bytes[start..ends[*row]]).into_owned();
            ticks[*row] as u64 >= deleted_at(&PrimaryKey::VarChar(key))
        }
        _ => true,
    };
    (0..columns.rows).filter(alive).collect()
}
