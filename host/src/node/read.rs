//! Reading a collection back from its segment files, deletes applied.

use tidegate_core::calls::{FieldBinlogs, Level, SegmentFiles, SegmentInfo, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_message::columns::Columns;

use super::Node;
use super::deletes::{LatestDeletes, Removed};
use crate::storage::read_segment;

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
        let deletes = LatestDeletes::read(&self.chunks, &level_zero)?;
        let primary = collection.schema.primary().map_or(0, |f| f.id);
        for s in &rows {
            let deletes = deletes.of(s);
            for files in syncs(&s.files) {
                let columns = read_segment(&self.chunks, &files, &collection.schema)?;
                let removed = deletes.removed_from(&columns, primary);
                each(if removed.is_empty() { columns } else { columns.select(&others(&removed, columns.rows)) })?;
            }
        }
        Ok(())
    }
}

/// The insert logs of a segment, one sync's at a time: a batch is in memory, not the segment. By log id, the files at the same place
/// of every field, or column group, belong together.
pub(super) fn syncs(files: &SegmentFiles) -> Vec<SegmentFiles> {
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

/// The rows that are not removed.
fn others(removed: &[Removed], rows: usize) -> Vec<usize> {
    let mut removed = removed.iter().map(|r| r.row).peekable();
    (0..rows).filter(|&row| removed.next_if_eq(&row).is_none()).collect()
}
