//! Segments: registration and the files of a sync (Milvus `SaveBinlogPaths` with full lists).
//!
//! ```text
//! | stored            | save                   | outcome                              |
//! | nothing           | L0                     | created, flushed                     |
//! | nothing           | L1                     | not found                            |
//! | dropped           | any                    | ignored                              |
//! | flushed           | not a drop             | ignored                              |
//! | growing, dml t    | dml below t            | ignored                              |
//! | growing           | dropped                | dropped                              |
//! | growing           | flushed, without rows  | dropped                              |
//! | growing           | flushed                | flushed, lists and position replaced |
//! | growing           | else                   | growing, lists and position replaced |
//! ```

use super::Coordinator;
use super::record::{Changes, Key};
use crate::calls::{AllocSegment, CallError, FieldBinlogs, Level, Reply, SaveBinlogPaths, SegmentFiles, SegmentInfo, SegmentState};
use crate::mutants::{Mutant, is_mutated};

impl Coordinator {
    pub(super) fn alloc_segment(&mut self, alloc: &AllocSegment, changes: &mut Changes) -> Result<Reply, CallError> {
        if alloc.collection == 0 || alloc.partition == 0 || alloc.segment == 0 || alloc.vchannel.is_empty() {
            return Err(CallError::Permanent(format!("an id is 0 or the channel empty: {alloc:?}")));
        }
        if let Some(stored) = self.segments.get(&alloc.segment) {
            let same = (stored.collection, stored.partition, &stored.vchannel) == (alloc.collection, alloc.partition, &alloc.vchannel);
            return if same { Ok(Reply::Done) } else { Err(differs(stored, format!("{alloc:?}"))) };
        }
        let collection = self.live(&alloc.vchannel)?.id;
        if collection != alloc.collection {
            return Err(CallError::Permanent(format!(
                "vchannel `{}` is of collection {collection}, not {}",
                alloc.vchannel, alloc.collection
            )));
        }
        let segment = SegmentInfo {
            segment: alloc.segment,
            collection,
            partition: alloc.partition,
            vchannel: alloc.vchannel.clone(),
            state: SegmentState::Growing,
            level: Level::L1,
            storage_version: alloc.storage_version,
            rows: 0,
            files: SegmentFiles::default(),
            start: None,
            dml: None,
            created_by_streaming: true,
        };
        self.put_segment(segment, changes);
        Ok(Reply::Done)
    }

    pub(super) fn save_binlog_paths(&mut self, save: &SaveBinlogPaths, changes: &mut Changes) -> Result<Reply, CallError> {
        let rows = check_files(save)?;
        let (start, created_by_streaming) = match self.segments.get(&save.segment) {
            None if save.level == Level::L1 => return Err(CallError::NotFound(format!("segment {} on `{}`", save.segment, save.vchannel))),
            None => match self.live(&save.vchannel) {
                Ok(_) => (None, true),
                Err(CallError::Dropped(what)) => return Ok(Reply::Ignored(format!("dropped: {what}"))),
                Err(error) => return Err(error),
            },
            Some(stored) => {
                let same = (stored.collection, stored.partition, stored.level, &stored.vchannel)
                    == (save.collection, save.partition, save.level, &save.vchannel);
                if !same {
                    return Err(differs(
                        stored,
                        format!("collection {}, partition {}, {:?}, `{}`", save.collection, save.partition, save.level, save.vchannel),
                    ));
                }
                if let Some(reason) = reason_to_ignore(stored, save) {
                    return Ok(Reply::Ignored(format!("segment {}: {reason}", save.segment)));
                }
                // One of the old architecture stays one until its flush: recoveries ask for that.
                (stored.start.clone(), stored.created_by_streaming)
            }
        };
        let segment = SegmentInfo {
            segment: save.segment,
            collection: save.collection,
            partition: save.partition,
            vchannel: save.vchannel.clone(),
            state: state_after(save, rows),
            level: save.level,
            storage_version: save.storage_version,
            rows,
            files: save.files.clone(),
            start: save.start.clone().or(start),
            dml: Some(save.dml.clone()),
            created_by_streaming,
        };
        self.put_segment(segment, changes);
        Ok(Reply::Done)
    }

    pub(super) fn put_segment(&mut self, segment: SegmentInfo, changes: &mut Changes) {
        changes.put(Key::Segment(segment.segment), &segment);
        self.keep_segment(segment);
    }

    pub(super) fn keep_segment(&mut self, segment: SegmentInfo) {
        self.segments_of.entry(segment.vchannel.clone()).or_default().insert(segment.segment);
        self.segments.insert(segment.segment, segment);
    }

    /// The segments of a channel, ascending by id, in whatever state.
    pub(super) fn segments_on(&self, vchannel: &str) -> impl Iterator<Item = &SegmentInfo> {
        self.segments_of.get(vchannel).into_iter().flatten().filter_map(|id| self.segments.get(id))
    }

    /// Lists the segments of all collections, dropped ones included, ascending by id.
    pub fn every_segment(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.values()
    }

    /// Returns a segment by id, in whatever state.
    pub fn segment(&self, id: i64) -> Option<&SegmentInfo> {
        self.segments.get(&id)
    }

    /// Lists the segments of a collection, ascending by id, in whatever state.
    pub fn segments(&self, collection: i64) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.values().filter(move |segment| segment.collection == collection)
    }
}

fn state_after(save: &SaveBinlogPaths, rows: i64) -> SegmentState {
    match (save.level, save.flushed) {
        _ if save.dropped => SegmentState::Dropped,
        (Level::L0, _) => SegmentState::Flushed,
        (Level::L1, true) if rows == 0 => SegmentState::Dropped,
        (Level::L1, true) => SegmentState::Flushed,
        (Level::L1, false) => SegmentState::Growing,
    }
}

fn reason_to_ignore(stored: &SegmentInfo, save: &SaveBinlogPaths) -> Option<String> {
    match (stored.state, &stored.dml) {
        (SegmentState::Dropped, _) => Some("it is dropped".to_owned()),
        (SegmentState::Flushed, _) if !save.dropped && !is_mutated(Mutant::FlushedOverwritten) => Some("it is flushed".to_owned()),
        (_, Some(dml)) if save.dml.tick < dml.tick && !is_mutated(Mutant::OlderSaves) => {
            Some(format!("its files reach tick {}, the save {}", dml.tick, save.dml.tick))
        }
        _ => None,
    }
}

fn differs(stored: &SegmentInfo, call: String) -> CallError {
    let SegmentInfo { segment, collection, partition, level, vchannel, .. } = stored;
    CallError::Permanent(format!(
        "segment {segment} is of collection {collection}, partition {partition}, {level:?}, `{vchannel}`; the call says {call}"
    ))
}

/// Checks that every file lies where its segment, field and log id say, and counts the rows (deletes for L0).
fn check_files(save: &SaveBinlogPaths) -> Result<i64, CallError> {
    let ids = format!("{}/{}/{}", save.collection, save.partition, save.segment);
    for (root, lists) in [("insert_log", &save.files.insert), ("stats_log", &save.files.stats), ("delta_log", &save.files.delta)] {
        for list in lists {
            let folder = if root == "delta_log" { format!("{root}/{ids}") } else { format!("{root}/{ids}/{}", list.field) };
            for file in &list.binlogs {
                let name = file.path.rsplit_once('/').filter(|(parent, _)| *parent == folder).map(|(_, name)| name);
                if name.and_then(|name| name.parse().ok()) != Some(file.log_id) || file.entries < 0 {
                    return Err(CallError::Permanent(format!(
                        "file `{}` with log id {} and {} entries does not fit `{folder}/<log id>`",
                        file.path, file.log_id, file.entries
                    )));
                }
            }
        }
    }
    let counted = if save.level == Level::L0 { &save.files.delta } else { &save.files.insert };
    count_entries(counted).ok_or_else(|| CallError::Permanent(format!("row count of segment {} overflows", save.segment)))
}

/// Every sync writes every field, so the first field's files count the rows.
fn count_entries(lists: &[FieldBinlogs]) -> Option<i64> {
    let of_first = lists.iter().filter(|list| Some(list.field) == lists.first().map(|first| first.field));
    of_first.flat_map(|list| &list.binlogs).try_fold(0i64, |sum, file| sum.checked_add(file.entries))
}
