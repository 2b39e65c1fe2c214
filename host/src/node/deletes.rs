//! Which rows the deletes of L0 segments remove: those of their channel and partition with a tick below the delete's.

use std::collections::HashMap;

use tidegate_core::calls::SegmentInfo;
use tidegate_message::columns::{Columns, PrimaryKey, TIMESTAMP_FIELD, Values};

use crate::storage::{ChunkStore, StorageError, read_deltas};

/// A partition that stands for every partition.
pub(super) const EVERY_PARTITION: i64 = -1;

/// The tick of each key's last delete, by channel and partition.
pub(super) struct LatestDeletes(HashMap<(String, i64), HashMap<PrimaryKey, u64>>);

/// The deletes that concern one segment.
pub(super) struct OfSegment<'a>([Option<&'a HashMap<PrimaryKey, u64>>; 2]);

/// A row that a delete removes.
pub(super) struct Removed {
    /// Its number among its columns' rows.
    pub row: usize,
    /// Its key.
    pub key: PrimaryKey,
    /// The tick of the key's last delete.
    pub tick: u64,
}

impl LatestDeletes {
    /// Reads the delta logs of L0 segments.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn read<'a>(chunks: &ChunkStore, level_zero: impl IntoIterator<Item = &'a SegmentInfo>) -> Result<Self, StorageError> {
        let mut deletes: HashMap<(String, i64), HashMap<PrimaryKey, u64>> = HashMap::new();
        for segment in level_zero {
            let latest = deletes.entry((segment.vchannel.clone(), segment.partition)).or_default();
            let read = read_deltas(chunks, segment.files.delta.iter().flat_map(|f| &f.binlogs))?;
            for (key, tick) in read.keys.into_iter().zip(read.ticks) {
                let entry = latest.entry(key).or_default();
                *entry = tick.max(*entry);
            }
        }
        Ok(Self(deletes))
    }

    /// Returns those that concern a segment's rows.
    pub fn of(&self, segment: &SegmentInfo) -> OfSegment<'_> {
        OfSegment([segment.partition, EVERY_PARTITION].map(|partition| self.0.get(&(segment.vchannel.clone(), partition))))
    }
}

impl OfSegment<'_> {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Finds the rows that are removed, ascending. Without a column of ticks or of keys there are none.
    pub fn removed_from(&self, columns: &Columns, primary: i64) -> Vec<Removed> {
        let values = |id: i64| columns.fields.iter().find(|f| f.field_id == id).map(|f| &f.values);
        let (Some(Values::Int64(ticks)), Some(keys)) = (values(TIMESTAMP_FIELD), values(primary)) else { return Vec::new() };
        let rows = ticks.iter().map(|tick| tick.cast_unsigned()).enumerate();
        let removed = |(row, inserted): (usize, u64)| {
            let key = key_at(keys, row)?;
            let tick = self.0.iter().filter_map(|deletes| deletes.and_then(|d| d.get(&key))).max().copied()?;
            (tick > inserted).then_some(Removed { row, key, tick })
        };
        rows.filter_map(removed).collect()
    }
}

fn key_at(keys: &Values, row: usize) -> Option<PrimaryKey> {
    match keys {
        Values::Int64(keys) => keys.get(row).copied().map(PrimaryKey::Int64),
        Values::Bytes { ends, bytes } => {
            let start = row.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
            let key = bytes.get(start..*ends.get(row)?)?;
            Some(PrimaryKey::VarChar(String::from_utf8_lossy(key).into_owned()))
        }
        _ => None,
    }
}
