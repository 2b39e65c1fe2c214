//! A collection's segment files in the layout that a Milvus import takes.
//!
//! ```text
//! OUT/insert_log/<collection>/<partition>/<segment>/<field>/<log>    the files as they are, under names of one width
//! OUT/delta_log/<collection>/<partition>/<segment>/<log>             what L0 segments delete from that segment, one JSON delta log
//! ```
//!
//! An import pairs the files of different fields by the order of their names as text, and passes over the delta logs of L0 segments; it
//! drops a row iff its delete has the higher tick, which is the rule here too. So a delta log has the deletes that remove a row, no others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_binlog::{DeltaForm, SegmentKey, write_delta_log};
use tidegate_core::calls::{Binlog, Level, SegmentFiles, SegmentInfo, SegmentState, storage_version};
use tidegate_core::coordinator::{ChannelCheckpoint, CollectionInfo, Partition};
use tidegate_message::columns::{DataType, Deletes, ROW_ID_FIELD, TIMESTAMP_FIELD};
use tidegate_message::schema::Schema;
use tidegate_message::{Header, Message};

use super::deletes::LatestDeletes;
use super::folder::NewFolder;
use super::read::syncs;
use super::{Node, NodeError};
use crate::storage::{StorageError, keys, read_segment};
use crate::wal::{Log, LogItem, ReadFrom};

/// The largest log id whose name has 18 digits, as those of Milvus have.
const WIDEST_LOG_ID: i64 = 999_999_999_999_999_999;
/// What an import of Milvus 2.3 reads.
const TYPES_OF_2_3: [DataType; 12] = [
    DataType::Bool,
    DataType::Int8,
    DataType::Int16,
    DataType::Int32,
    DataType::Int64,
    DataType::Float,
    DataType::Double,
    DataType::VarChar,
    DataType::Array,
    DataType::Json,
    DataType::BinaryVector,
    DataType::FloatVector,
];

/// What an export wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// See [`storage_version`].
    pub storage_version: i64,
    /// The partitions with rows, in the order of the collection.
    pub partitions: Vec<ExportedPartition>,
    /// Why Milvus 2.3 cannot import this; empty if it can.
    pub not_for_2_3: Vec<String>,
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One partition, which is what one import takes.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedPartition {
    /// The partition.
    pub partition: Partition,
    /// Folder of its insert logs.
    pub insert: PathBuf,
    /// Folder of its delta logs, if a row is deleted.
    pub delta: Option<PathBuf>,
    /// Segments.
    pub segments: u64,
    /// Rows in the insert logs.
    pub rows: u64,
    /// Rows of them that the delta logs delete.
    pub deleted: u64,
}

/// The segments of a collection that has no rows or deletes elsewhere.
struct Flushed {
    level_zero: Vec<SegmentInfo>,
    /// Those with rows, ascending by id.
    segments: Vec<SegmentInfo>,
}

impl Node {
    /// Writes a flushed collection's segment files into `out`, which has all of them when this returns, and nothing after a failure. `each`
    /// is told how many segments are done, and of how many.
    ///
    /// # Errors
    /// [`NodeError::Unflushed`]; [`NodeError::Invalid`] when `out` has something in it, there are no rows, or segments are of two layouts;
    /// a file cannot be read or written; `each` fails.
    pub fn export(
        &self,
        collection: &CollectionInfo,
        out: &Path,
        each: &mut dyn FnMut(u64, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Exported> {
        let Flushed { level_zero, segments } = self.flushed(collection)?;
        let version = one_layout(collection, &segments)?;
        let folder = NewFolder::begin(out)?;
        let deletes = LatestDeletes::read(&self.chunks, &level_zero)?;
        // The newest of the logs that the merged one stands for.
        let delta_id = level_zero.iter().flat_map(|s| &s.files.delta).flat_map(|f| &f.binlogs).map(|b| b.log_id).max().unwrap_or(0);
        let not_for_2_3 = unknown_to_2_3(&collection.schema, version);
        let mut exported = Exported { storage_version: version, partitions: Vec::new(), not_for_2_3, files: 0, bytes: 0 };
        let (mut done, of) = (0, segments.len() as u64);
        for partition in &collection.partitions {
            let under = |root: &str| out.join(format!("{root}/{}/{}", collection.id, partition.id));
            let insert = under("insert_log");
            let mut part = ExportedPartition { partition: partition.clone(), insert, delta: None, segments: 0, rows: 0, deleted: 0 };
            for segment in segments.iter().filter(|s| s.partition == partition.id) {
                let absent = absent_fields(&collection.schema, segment)?;
                exported.not_for_2_3.extend(absent.iter().map(|name| format!("segment {} is older than field {name:?}", segment.segment)));
                for file in insert_logs(segment)? {
                    folder.add(&self.chunks, &file.path, &padded(&file.path))?;
                    exported.files += 1;
                    exported.bytes += file.log_size.unsigned_abs();
                }
                let (removing, deleted) = self.deletes_of(collection, segment, &deletes)?;
                if deleted > 0 {
                    let key = SegmentKey { collection: collection.id, partition: partition.id, segment: segment.segment };
                    let name = padded(&keys::delta_log(&key, delta_id));
                    let log = write_delta_log(&key, &removing, DeltaForm::Json).map_err(|e| inconsistent(&name, e))?;
                    folder.write(&name, &log)?;
                    exported.files += 1;
                    exported.bytes += log.len() as u64;
                    part.delta = Some(under("delta_log"));
                }
                part.segments += 1;
                part.rows += segment.rows.unsigned_abs();
                part.deleted += deleted;
                done += 1;
                each(done, of)?;
            }
            if part.segments > 0 {
                exported.partitions.push(part);
            }
        }
        folder.finish()?;
        Ok(exported)
    }

    /// The collection's segments, if they have everything that is in the log.
    fn flushed(&self, collection: &CollectionInfo) -> Result<Flushed, NodeError> {
        // Segments and checkpoints of one moment: a message below its channel's checkpoint is in those segments, the others are in the log.
        let (mut segments, from) = self.coordinator.read(|c| {
            let checkpoint = |vchannel: &str| match c.checkpoints().find(|(name, _)| *name == vchannel) {
                Some((_, ChannelCheckpoint::At(position))) => Some(position.clone()),
                _ => None,
            };
            let from: Vec<_> = collection.shards.iter().map(|s| checkpoint(&s.vchannel).or_else(|| s.start.clone())).collect();
            (c.segments(collection.id).cloned().collect::<Vec<_>>(), from)
        })?;
        let growing = segments.iter().filter(|s| s.state == SegmentState::Growing).count();
        let (mut rows, mut deletes) = (0, 0);
        for (shard, from) in collection.shards.iter().zip(from) {
            let tick = from.as_ref().map_or(0, |p| p.tick);
            let mut reader = self.log_of(&shard.vchannel)?.open(from.map_or(ReadFrom::Earliest, |p| ReadFrom::At(p.last_confirmed)))?;
            while let Some(LogItem::Record(record)) = reader.next(Duration::ZERO)? {
                // A record that is no message has no rows: it ends as a dead letter.
                let Ok(message) = Message::decode(record) else { continue };
                match message.header {
                    _ if message.vchannel != shard.vchannel || message.tick < tick => {}
                    Header::Insert { rows: of_message, .. } => rows += of_message,
                    Header::Delete { rows: of_message, .. } => deletes += of_message,
                    _ => {}
                }
            }
        }
        if growing > 0 || rows > 0 || deletes > 0 {
            let what = format!("{growing} segments are growing, and {rows} rows and {deletes} deletes are behind the checkpoints");
            return Err(NodeError::Unflushed { collection: collection.name.clone(), what, dir: self.dir().to_owned() });
        }
        segments.retain(|s| s.state == SegmentState::Flushed);
        segments.sort_by_key(|s| s.segment);
        let (level_zero, mut segments): (Vec<_>, Vec<_>) = segments.into_iter().partition(|s| s.level == Level::L0);
        segments.retain(|s| !s.files.insert.is_empty());
        Ok(Flushed { level_zero, segments })
    }

    /// The deletes that remove rows of a segment, ascending by tick, and how many rows they remove.
    fn deletes_of(&self, collection: &CollectionInfo, segment: &SegmentInfo, all: &LatestDeletes) -> Result<(Deletes, u64), NodeError> {
        let Some(primary) = collection.schema.primary() else { return Ok((Deletes::default(), 0)) };
        let keys_only = Schema { fields: vec![primary.clone()], ..collection.schema.clone() };
        let of_segment = all.of(segment);
        if of_segment.is_empty() {
            return Ok((Deletes::default(), 0));
        }
        let (mut removing, mut rows) = (BTreeSet::new(), 0);
        for files in syncs(&files_of(&[ROW_ID_FIELD, TIMESTAMP_FIELD, primary.id], &segment.files)) {
            let columns = read_segment(&self.chunks, &files, &keys_only)?;
            for removed in of_segment.removed_from(&columns, primary.id) {
                removing.insert((removed.tick, removed.key));
                rows += 1;
            }
        }
        let (ticks, keys) = removing.into_iter().unzip();
        Ok((Deletes { keys, ticks }, rows))
    }
}

/// The storage version that all segments have: an import takes one.
fn one_layout(collection: &CollectionInfo, segments: &[SegmentInfo]) -> Result<i64, NodeError> {
    let refuse = |problem: String| Err(NodeError::Invalid(format!("collection {:?} cannot be exported: {problem}", collection.name)));
    let of_version = |version: i64| segments.iter().filter(|s| s.storage_version == version).count();
    match segments.first().map(|s| s.storage_version) {
        None => refuse("it has no rows".into()),
        Some(version) if of_version(version) == segments.len() => Ok(version),
        Some(_) => refuse(format!(
            "{} segments have one file a field and {} are packed, and an import takes one layout; `tidegate scan` and `tidegate ingest` into \
             a new collection with one storage version make one of them",
            of_version(storage_version::FIELDS),
            segments.len() - of_version(storage_version::FIELDS)
        )),
    }
}

/// The fields that a segment with one file a field has no files of: it is older than they are.
fn absent_fields<'a>(schema: &'a Schema, segment: &SegmentInfo) -> Result<Vec<&'a str>, StorageError> {
    if segment.storage_version != storage_version::FIELDS {
        return Ok(Vec::new());
    }
    let is_there = |id: i64| segment.files.insert.iter().any(|f| f.field == id);
    let missing = |id: i64| Err(inconsistent(&format!("segment {}", segment.segment), format!("it has no files of field {id}")));
    if let Some(id) = [ROW_ID_FIELD, TIMESTAMP_FIELD].into_iter().find(|id| !is_there(*id)) {
        return missing(id);
    }
    let absent: Vec<_> = schema.fields.iter().filter(|f| !is_there(f.id)).collect();
    match absent.iter().find(|f| !f.may_be_absent()) {
        Some(field) => missing(field.id),
        None => Ok(absent.into_iter().map(|f| f.name.as_str()).collect()),
    }
}

/// The files that have these fields: their own, and those of their column groups.
fn files_of(fields: &[i64], files: &SegmentFiles) -> SegmentFiles {
    let mut found = SegmentFiles { insert: files.insert.clone(), ..SegmentFiles::default() };
    found.insert.retain(|list| fields.iter().any(|id| *id == list.field || list.child_fields.contains(id)));
    found
}

/// The insert logs of a segment, each field's ascending by log id. They pair up: an import pairs them by their place.
fn insert_logs(segment: &SegmentInfo) -> Result<Vec<&Binlog>, StorageError> {
    let inconsistent = |problem: String| inconsistent(&format!("segment {}", segment.segment), problem);
    let mut logs = Vec::new();
    let mut rows_of_first: Option<Vec<i64>> = None;
    for field in &segment.files.insert {
        let mut of_field: Vec<&Binlog> = field.binlogs.iter().collect();
        of_field.sort_by_key(|b| b.log_id);
        let rows: Vec<i64> = of_field.iter().map(|b| b.entries).collect();
        let first = rows_of_first.get_or_insert_with(|| rows.clone());
        if *first != rows {
            return Err(inconsistent(format!("the files of field {} have {rows:?} rows, those of others {first:?}", field.field)));
        }
        if let Some(wide) = of_field.last().filter(|b| b.log_id > WIDEST_LOG_ID) {
            return Err(inconsistent(format!("log id {} has more than 18 digits, and names would not sort", wide.log_id)));
        }
        logs.extend(of_field);
    }
    Ok(logs)
}

/// Why Milvus 2.3 cannot import the collection.
fn unknown_to_2_3(schema: &Schema, version: i64) -> Vec<String> {
    let packed = (version != storage_version::FIELDS).then(|| "it does not read packed segments".to_owned());
    let of_field = schema.fields.iter().filter_map(|f| match f.data_type {
        data_type if !TYPES_OF_2_3.contains(&data_type) => Some(format!("field {:?} is of a type that it does not import", f.name)),
        _ if f.nullable => Some(format!("field {:?} is nullable", f.name)),
        _ => None,
    });
    packed.into_iter().chain(of_field).collect()
}

/// A key whose last part, a log id, has 18 digits: then names sort as their numbers do.
fn padded(key: &str) -> String {
    match key.rsplit_once('/') {
        Some((folder, log_id)) => format!("{folder}/{log_id:0>18}"),
        None => key.to_owned(),
    }
}

fn inconsistent(what: &str, problem: impl ToString) -> StorageError {
    StorageError::Permanent { key: what.to_owned(), reason: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use tidegate_core::calls::FieldBinlogs;
    use tidegate_message::schema::Field;

    use super::*;

    /// A segment with one file a field, whose file of field `f` has `rows(f)` rows.
    fn segment(fields: &[i64], rows: impl Fn(i64) -> i64) -> SegmentInfo {
        let file = |field: i64| {
            let path = format!("insert_log/1/2/3/{field}/4");
            Binlog { path, log_id: 4, entries: rows(field), tick_from: 1, tick_to: 1, log_size: 1, memory_size: 1 }
        };
        let list = |&field: &i64| FieldBinlogs { field, child_fields: vec![], binlogs: vec![file(field)] };
        SegmentInfo {
            segment: 3,
            collection: 1,
            partition: 2,
            vchannel: "v".into(),
            state: SegmentState::Flushed,
            level: Level::L1,
            storage_version: storage_version::FIELDS,
            rows: 5,
            files: SegmentFiles { insert: fields.iter().map(list).collect(), ..SegmentFiles::default() },
            start: None,
            dml: None,
            created_by_streaming: true,
        }
    }

    #[test]
    fn only_fields_that_a_row_may_lack_may_be_younger_than_a_segment() {
        let fields = vec![
            Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
            Field { nullable: true, ..Field::new(101, "young", DataType::Bool) },
        ];
        let schema = Schema { name: "c".into(), fields, enable_dynamic_field: false, version: 0 };
        let absent = |of: &[i64]| absent_fields(&schema, &segment(of, |_| 5)).map_err(|e| e.to_string());
        assert_eq!(absent(&[0, 1, 100, 101]), Ok(vec![]));
        assert_eq!(absent(&[0, 1, 100]), Ok(vec!["young"]));
        for (of, missing) in [(&[0, 1, 101][..], "field 100"), (&[0, 100, 101], "field 1")] {
            assert!(absent(of).unwrap_err().ends_with(&format!("it has no files of {missing}")), "{:?}", absent(of));
        }
    }

    #[test]
    fn files_that_do_not_pair_up_and_names_that_do_not_sort_are_refused() {
        assert_eq!(insert_logs(&segment(&[0, 1, 100], |_| 5)).unwrap().len(), 3);
        let error = insert_logs(&segment(&[0, 1, 100], |field| if field == 100 { 4 } else { 5 })).unwrap_err().to_string();
        assert!(error.contains("field 100 have [4] rows, those of others [5]"), "{error}");
        let mut wide = segment(&[0], |_| 5);
        wide.files.insert[0].binlogs[0].log_id = WIDEST_LOG_ID + 1;
        assert!(insert_logs(&wide).unwrap_err().to_string().contains("more than 18 digits"));
        assert_eq!(padded("insert_log/1/2/3/0/1042"), "insert_log/1/2/3/0/000000000000001042");
    }
}
