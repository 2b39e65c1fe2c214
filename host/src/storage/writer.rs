//! The segment writer: the bodies of one sync become the files of one sync.
//!
//! ```text
//! | # | file                                      | when                                  | log id         |
//! | 1 | insert log, one a field, or a packed file | rows; ascending by field or group     | first, first+1 |
//! |   | a column group                            |                                       |                |
//! | 2 | statistics of the batch                   | rows                                  | the last       |
//! | 3 | merged statistics                         | flush, when the segment ever had rows | 1              |
//! | – | delta log                                 | a job of its own (L0 segments)        | its only one   |
//! ```
//!
//! Milvus leaves out 3 when the flushing sync itself has no rows; readers then load every single one. Here the earlier ones are read back.
//! All log ids of a job come from one allocation and are above those of earlier jobs: readers align the files of different fields by
//! sorting them by log id. A job that fails leaves objects nobody knows of, and is repeated as a whole under new ids.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_binlog::{
    ColumnGroups, DeltaForm, FilterKind, PackedPlan, SegmentKey, column_groups, deletes_memory_size, memory_size, merge_statistics,
    primary_key_statistics, write_delta_log, write_insert_log,
};
use tidegate_core::calls::{Binlog, CallError, FieldBinlogs, Layout, SegmentFiles};
use tidegate_message::columns::{Columns, Deletes, FieldColumn};
use tidegate_message::rows::{DeleteBody, InsertBody, RowsError};
use tidegate_message::schema::Schema;

use super::{Objects, StorageError, keys};

/// The body of one insert or delete message.
#[derive(Clone, Debug)]
pub struct Body {
    /// The message's time tick.
    pub tick: u64,
    /// The message's payload.
    pub payload: Bytes,
    /// The message's ordinal in the scan, to name it by.
    pub ordinal: u64,
}

/// Rows of one sync of a segment.
#[derive(Clone, Debug)]
pub struct RowBatchJob {
    /// Collection id.
    pub collection: i64,
    /// Partition id.
    pub partition: i64,
    /// Segment id.
    pub segment: i64,
    /// The schema of every body.
    pub schema: Arc<Schema>,
    /// Insert messages, in log order; may be empty.
    pub bodies: Vec<Body>,
    /// The statistics files that the segment has already.
    pub earlier_statistics: Vec<Binlog>,
    /// Whether this completes the segment.
    pub flush: bool,
    /// How the segment's rows lie in files.
    pub layout: Layout,
    /// Which bloom filter the statistics get.
    pub filter: FilterKind,
}

/// Deletes of one sync.
#[derive(Clone, Debug)]
pub struct DeleteJob {
    /// Collection id.
    pub collection: i64,
    /// Partition id; −1 for every partition.
    pub partition: i64,
    /// Segment id.
    pub segment: i64,
    /// Field id of the primary key.
    pub primary_key: i64,
    /// Delete messages, in log order; may be empty.
    pub bodies: Vec<Body>,
    /// Which form the delta log is written in.
    pub form: DeltaForm,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum WriteOutcome {
    /// All of it is durable.
    Written {
        /// The files of this job, not of earlier ones.
        files: SegmentFiles,
        /// Rows (or deletes) in them.
        rows: u64,
        /// Bytes of the objects.
        bytes: u64,
    },
    /// Nothing is written: these bodies, by ordinal, cannot be, and why.
    BadRows(Vec<(u64, String)>),
}

/// Writes the rows of one sync. `ids` allocates consecutive log ids. Columns, or column groups, are encoded, stored and released one at a
/// time.
///
/// # Errors
///
/// Any [`StorageError`]; the whole job may then be repeated.
pub fn write_rows(
    store: &dyn Objects,
    ids: &dyn Fn(u32) -> Result<i64, CallError>,
    job: &RowBatchJob,
) -> Result<WriteOutcome, StorageError> {
    let mut columns = Columns::new(&job.schema);
    let bad = bad_bodies(&job.bodies, |body| {
        let rows = InsertBody::parse(&body.payload)?;
        rows.check(&job.schema)?;
        rows.append_to(body.tick, &job.schema, &mut columns)
    });
    if !bad.is_empty() {
        return Ok(WriteOutcome::BadRows(bad));
    }
    let segment = SegmentKey { collection: job.collection, partition: job.partition, segment: job.segment };
    let mut sync = Sync::new(store, &job.bodies);
    let rows = columns.rows;
    let mut statistics = None;
    if rows > 0 {
        if let Some(primary) = columns.fields.iter().find(|column| column.is_primary) {
            let failed = |error| StorageError::permanent(&format!("statistics of field {}", primary.field_id), error);
            statistics = Some(primary_key_statistics(primary, job.filter).map_err(failed)?);
        }
        let mut log_ids = match &job.layout {
            Layout::Fields => write_fields(&mut sync, ids, &segment, columns)?,
            Layout::Packed(earlier) => write_groups(&mut sync, ids, &segment, columns, &column_groups(&job.schema, earlier))?,
        };
        if let (Some(text), Some(primary), Some(log_id)) = (&statistics, job.schema.primary(), log_ids.next()) {
            let object = Bytes::copy_from_slice(text.as_bytes());
            let binlog = sync.put(keys::stats_log(&segment, primary.id, log_id), log_id, object, rows, text.len() as u64)?;
            sync.files.stats.push(FieldBinlogs { field: primary.id, child_fields: Vec::new(), binlogs: vec![binlog] });
        }
    }
    if let (true, Some(primary)) = (job.flush, job.schema.primary()) {
        write_merged_statistics(&mut sync, &segment, primary.id, &job.earlier_statistics, statistics, rows)?;
    }
    Ok(sync.written(rows))
}

/// Writes one file a field; returns the log id that is left for the statistics.
fn write_fields(
    sync: &mut Sync<'_>,
    ids: &dyn Fn(u32) -> Result<i64, CallError>,
    segment: &SegmentKey,
    columns: Columns,
) -> Result<Range<i64>, StorageError> {
    let mut log_ids = allocate(ids, columns.fields.len() + 1)?;
    for (column, log_id) in columns.fields.into_iter().zip(&mut log_ids) {
        let key = keys::insert_log(segment, column.field_id, log_id);
        let file =
            write_insert_log(segment, &column, sync.tick_from, sync.tick_to).map_err(|error| StorageError::permanent(&key, error))?;
        let binlog = sync.put(key, log_id, file.into(), columns.rows, memory_size(&column))?;
        sync.files.insert.push(FieldBinlogs { field: column.field_id, child_fields: Vec::new(), binlogs: vec![binlog] });
    }
    Ok(log_ids)
}

/// Writes one packed file a column group; returns the log id that is left for the statistics.
fn write_groups(
    sync: &mut Sync<'_>,
    ids: &dyn Fn(u32) -> Result<i64, CallError>,
    segment: &SegmentKey,
    mut columns: Columns,
    groups: &ColumnGroups,
) -> Result<Range<i64>, StorageError> {
    let plan = PackedPlan::new(&columns, groups).map_err(|error| StorageError::permanent("column groups", error))?;
    let mut log_ids = allocate(ids, groups.len() + 1)?;
    for ((&group, members), log_id) in groups.iter().zip(&mut log_ids) {
        let own: Vec<FieldColumn> = columns.fields.extract_if(.., |column| members.contains(&column.field_id)).collect();
        let key = keys::insert_log(segment, group, log_id);
        let file = plan.write(&own).map_err(|error| StorageError::permanent(&key, error))?;
        let binlog = sync.put(key, log_id, file.into(), columns.rows, own.iter().map(memory_size).sum())?;
        sync.files.insert.push(FieldBinlogs { field: group, child_fields: members.clone(), binlogs: vec![binlog] });
    }
    Ok(log_ids)
}

fn write_merged_statistics(
    sync: &mut Sync<'_>,
    segment: &SegmentKey,
    primary: i64,
    earlier: &[Binlog],
    of_batch: Option<String>,
    rows: usize,
) -> Result<(), StorageError> {
    let mut all = Vec::new();
    let mut entries = count(rows);
    for file in earlier.iter().filter(|file| file.log_id != keys::MERGED_STATISTICS) {
        all.push(read_statistics(sync.store, &file.path)?);
        entries = entries.saturating_add(file.entries);
    }
    all.extend(of_batch);
    if all.is_empty() {
        return Ok(());
    }
    let object = Bytes::from(merge_statistics(&all).into_bytes());
    let merged =
        Binlog { entries, ..sync.put(keys::stats_log(segment, primary, keys::MERGED_STATISTICS), keys::MERGED_STATISTICS, object, 0, 0)? };
    match sync.files.stats.first_mut() {
        Some(of_primary) => of_primary.binlogs.push(merged),
        None => sync.files.stats.push(FieldBinlogs { field: primary, child_fields: Vec::new(), binlogs: vec![merged] }),
    }
    Ok(())
}

/// Reads the statistics of one batch, checked: a damaged one must not spoil the merged file.
fn read_statistics(store: &dyn Objects, key: &str) -> Result<String, StorageError> {
    let object = store.get(key)?;
    match tidegate_binlog::read(&object) {
        Ok(tidegate_binlog::Binlog::Statistics(_)) => String::from_utf8(object.into()).map_err(|error| StorageError::permanent(key, error)),
        Ok(_) => Err(StorageError::permanent(key, "it holds no statistics")),
        Err(error) => Err(StorageError::permanent(key, error)),
    }
}

/// Writes the deletes of one sync.
///
/// # Errors
///
/// Any [`StorageError`]; the whole job may then be repeated.
pub fn write_deletes(
    store: &dyn Objects,
    ids: &dyn Fn(u32) -> Result<i64, CallError>,
    job: &DeleteJob,
) -> Result<WriteOutcome, StorageError> {
    let mut deletes = Deletes::default();
    let bad = bad_bodies(&job.bodies, |body| {
        DeleteBody::parse(&body.payload)?.append_to(body.tick, &mut deletes);
        Ok(())
    });
    if !bad.is_empty() {
        return Ok(WriteOutcome::BadRows(bad));
    }
    let segment = SegmentKey { collection: job.collection, partition: job.partition, segment: job.segment };
    let mut sync = Sync::new(store, &job.bodies);
    let rows = deletes.keys.len();
    if rows > 0 {
        let log_id = allocate(ids, 1)?.start;
        let key = keys::delta_log(&segment, log_id);
        let file = write_delta_log(&segment, &deletes, job.form).map_err(|error| StorageError::permanent(&key, error))?;
        let binlog = sync.put(key, log_id, file.into(), rows, deletes_memory_size(&deletes))?;
        sync.files.delta.push(FieldBinlogs { field: job.primary_key, child_fields: Vec::new(), binlogs: vec![binlog] });
    }
    Ok(sync.written(rows))
}

/// The files of one sync as they come into being.
struct Sync<'a> {
    store: &'a dyn Objects,
    tick_from: u64,
    tick_to: u64,
    files: SegmentFiles,
}

impl<'a> Sync<'a> {
    fn new(store: &'a dyn Objects, bodies: &[Body]) -> Sync<'a> {
        let ticks = || bodies.iter().map(|body| body.tick);
        Sync { store, tick_from: ticks().min().unwrap_or(0), tick_to: ticks().max().unwrap_or(0), files: SegmentFiles::default() }
    }

    /// Stores one object and describes it.
    fn put(&self, key: String, log_id: i64, object: Bytes, entries: usize, memory_size: u64) -> Result<Binlog, StorageError> {
        let log_size = count(object.len());
        self.store.put(&key, object)?;
        let (tick_from, tick_to) = (self.tick_from, self.tick_to);
        let memory_size = i64::try_from(memory_size).unwrap_or(i64::MAX);
        Ok(Binlog { path: key, log_id, entries: count(entries), tick_from, tick_to, log_size, memory_size })
    }

    fn written(self, rows: usize) -> WriteOutcome {
        let bytes = self.files.iter().map(|file| file.log_size.unsigned_abs()).sum();
        WriteOutcome::Written { files: self.files, rows: rows as u64, bytes }
    }
}

/// Takes every body in; returns those that cannot be, so that one answer names them all.
fn bad_bodies(bodies: &[Body], mut take: impl FnMut(&Body) -> Result<(), RowsError>) -> Vec<(u64, String)> {
    bodies.iter().filter_map(|body| take(body).err().map(|error| (body.ordinal, error.to_string()))).collect()
}

fn allocate(ids: &dyn Fn(u32) -> Result<i64, CallError>, wanted: usize) -> Result<Range<i64>, StorageError> {
    let key = || "log ids".to_owned();
    let first = match u32::try_from(wanted).map(ids) {
        Ok(Ok(first)) => first,
        Ok(Err(CallError::Transient(reason))) => return Err(StorageError::Transient { key: key(), reason }),
        Ok(Err(error)) => return Err(StorageError::permanent(&key(), error)),
        Err(error) => return Err(StorageError::permanent(&key(), error)),
    };
    let last = first.checked_add(count(wanted)).ok_or_else(|| StorageError::permanent(&key(), format!("no {wanted} above {first}")))?;
    Ok(first..last)
}

/// A length as the descriptors count: lengths in memory fit.
fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tidegate_core::calls::storage_version;
    use tidegate_message::build::{self, InsertAssignment};
    use tidegate_message::columns::{DataType, FieldColumn, PrimaryKey, Values};
    use tidegate_message::schema::{DefaultValue, Field};

    use super::super::{ChunkStore, read_deltas, read_segment};
    use super::*;

    fn schema() -> Arc<Schema> {
        Arc::new(Schema {
            name: "rows".into(),
            fields: vec![
                Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
                Field { max_length: 16, ..Field::new(101, "title", DataType::VarChar) },
                Field { dim: 2, ..Field::new(102, "vector", DataType::FloatVector) },
            ],
            enable_dynamic_field: false,
            version: 0,
        })
    }

    /// An insert of two rows: keys `first` and `first + 1`.
    fn insert(first: i64) -> Bytes {
        let column = |field_id, name: &str, data_type, values| FieldColumn {
            field_id,
            name: name.into(),
            data_type,
            is_primary: field_id == 100,
            valid: None,
            values,
        };
        let columns = [
            column(100, "id", DataType::Int64, Values::Int64(vec![first, first + 1])),
            column(101, "title", DataType::VarChar, Values::Bytes { ends: vec![1, 3], bytes: b"abc".to_vec() }),
            column(102, "vector", DataType::FloatVector, Values::Fixed { width: 8, bytes: vec![first as u8; 16] }),
        ];
        let to = InsertAssignment { collection: 1, partition: 2, segment: 3, rows: 2, bytes: 0 };
        build::insert("p_0_1v0", &to, &columns, &[first * 10, first * 10 + 1]).payload
    }

    fn body(tick: u64, payload: Bytes) -> Body {
        Body { tick, payload, ordinal: tick * 100 }
    }

    fn job(bodies: Vec<Body>, earlier: &SegmentFiles, flush: bool) -> RowBatchJob {
        let earlier_statistics = earlier.stats.iter().flat_map(|list| list.binlogs.clone()).collect();
        let (layout, filter) = (Layout::Fields, FilterKind::Basic);
        RowBatchJob { collection: 1, partition: 2, segment: 3, schema: schema(), bodies, earlier_statistics, flush, layout, filter }
    }

    struct Setting {
        store: ChunkStore,
        next_id: Cell<i64>,
        _dir: tempfile::TempDir,
    }

    impl Setting {
        fn new() -> Setting {
            let dir = tempfile::tempdir().unwrap();
            Setting { store: ChunkStore::open(dir.path()).unwrap(), next_id: Cell::new(1000), _dir: dir }
        }

        fn ids(&self) -> impl Fn(u32) -> Result<i64, CallError> {
            |count| Ok(self.next_id.replace(self.next_id.get() + i64::from(count)))
        }

        fn write(&self, job: &RowBatchJob) -> (SegmentFiles, u64) {
            match write_rows(&self.store, &self.ids(), job).unwrap() {
                WriteOutcome::Written { files, rows, .. } => (files, rows),
                bad => panic!("{bad:?}"),
            }
        }
    }

    #[test]
    fn rows_are_written_listed_and_read_back_in_order() {
        let setting = Setting::new();
        let (mut files, rows) = setting.write(&job(vec![body(7, insert(1)), body(9, insert(3))], &SegmentFiles::default(), false));
        assert_eq!(rows, 4);
        let keys: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.log_id, file.entries)).collect();
        let expected = [
            ("insert_log/1/2/3/0/1000", 1000, 4),
            ("insert_log/1/2/3/1/1001", 1001, 4),
            ("insert_log/1/2/3/100/1002", 1002, 4),
            ("insert_log/1/2/3/101/1003", 1003, 4),
            ("insert_log/1/2/3/102/1004", 1004, 4),
            ("stats_log/1/2/3/100/1005", 1005, 4),
        ];
        assert_eq!(keys, expected);
        assert!(files.iter().all(|file| (file.tick_from, file.tick_to) == (7, 9)));
        let sizes: Vec<_> = files.iter().map(|file| (file.path.clone(), file.log_size as u64)).collect();
        assert_eq!(setting.store.list("").unwrap(), sizes);

        files.extend(setting.write(&job(vec![body(11, insert(5))], &files, true)).0);
        let read = read_segment(&setting.store, &files, &schema()).unwrap();
        assert_eq!(read.rows, 6);
        let mut written = Columns::new(&schema());
        for (tick, first) in [(7, 1), (9, 3), (11, 5)] {
            InsertBody::parse(&insert(first)).unwrap().append_to(tick, &schema(), &mut written).unwrap();
        }
        assert_eq!(read.fields, written.fields);
    }

    #[test]
    fn a_flush_without_rows_merges_the_statistics_of_earlier_syncs() {
        let setting = Setting::new();
        let (mut files, _) = setting.write(&job(vec![body(7, insert(1))], &SegmentFiles::default(), false));
        files.extend(setting.write(&job(vec![body(9, insert(3))], &files, false)).0);
        let (last, rows) = setting.write(&job(vec![], &files, true));
        assert_eq!(rows, 0);
        let only: Vec<_> = last.iter().map(|file| (file.path.as_str(), file.log_id, file.entries, file.memory_size)).collect();
        assert_eq!(only, [("stats_log/1/2/3/100/1", 1, 4, 0)]);
        let singles = files.stats[0].binlogs.iter().map(|file| String::from_utf8(setting.store.get(&file.path).unwrap().into()).unwrap());
        assert_eq!(setting.store.get("stats_log/1/2/3/100/1").unwrap(), merge_statistics(&singles.collect::<Vec<_>>()));
    }

    #[test]
    fn damaged_statistics_of_an_earlier_sync_are_named_and_nothing_is_merged() {
        let setting = Setting::new();
        let (files, _) = setting.write(&job(vec![body(7, insert(1))], &SegmentFiles::default(), false));
        let key = &files.stats[0].binlogs[0].path;
        let mut object = setting.store.get(key).unwrap().to_vec();
        object[0] ^= 1;
        setting.store.put(key, object.into()).unwrap();
        let error = write_rows(&setting.store, &setting.ids(), &job(vec![], &files, true)).unwrap_err();
        assert!(matches!(&error, StorageError::Permanent { key: named, .. } if named == key), "{error}");
        assert!(!setting.store.exists("stats_log/1/2/3/100/1").unwrap());
    }

    #[test]
    fn a_flush_of_a_segment_that_never_had_rows_writes_nothing() {
        let setting = Setting::new();
        assert_eq!(setting.write(&job(vec![], &SegmentFiles::default(), true)), (SegmentFiles::default(), 0));
        assert_eq!(setting.store.list("").unwrap(), []);
    }

    #[test]
    fn all_bad_bodies_are_named_and_nothing_is_written() {
        let setting = Setting::new();
        let bodies = vec![body(7, Bytes::from_static(b"\xff")), body(8, insert(1)), body(9, Bytes::new())];
        let outcome = write_rows(&setting.store, &setting.ids(), &job(bodies, &SegmentFiles::default(), false)).unwrap();
        let WriteOutcome::BadRows(bad) = outcome else { panic!("{outcome:?}") };
        assert_eq!(bad.iter().map(|(ordinal, _)| *ordinal).collect::<Vec<_>>(), [700, 900]);
        assert_eq!(setting.store.list("").unwrap(), []);
        assert_eq!(setting.next_id.get(), 1000);
    }

    #[test]
    fn deletes_are_one_file_and_read_back() {
        let setting = Setting::new();
        let delete = |keys: &[i64]| {
            let keys: Vec<_> = keys.iter().map(|key| PrimaryKey::Int64(*key)).collect();
            build::delete("p_0_1v0", 1, -1, &keys).payload
        };
        for (form, log_id) in [(DeltaForm::Json, 1000), (DeltaForm::Parquet, 1001)] {
            let bodies = vec![body(7, delete(&[1, 2])), body(9, delete(&[1]))];
            let job = DeleteJob { collection: 1, partition: -1, segment: 4, primary_key: 100, bodies, form };
            let outcome = write_deletes(&setting.store, &setting.ids(), &job).unwrap();
            let WriteOutcome::Written { files, rows, .. } = outcome else { panic!("{outcome:?}") };
            let file = &files.delta[0].binlogs[0];
            assert_eq!((rows, files.delta[0].field, file.path.as_str()), (3, 100, format!("delta_log/1/-1/4/{log_id}").as_str()));
            assert_eq!((file.tick_from, file.tick_to), (7, 9));
            let read = read_deltas(&setting.store, &files.delta[0].binlogs).unwrap();
            assert_eq!((read.keys, read.ticks), ([1, 2, 1].map(PrimaryKey::Int64).to_vec(), vec![7, 7, 9]));
        }
    }

    #[test]
    fn ten_deletes_are_listed_as_milvus_lists_them() {
        let setting = Setting::new();
        setting.next_id.set(10_000);
        let delete = |(key, tick)| body(tick, build::delete("p_0_123v0", 123, 456, &[PrimaryKey::Int64(key)]).payload);
        let bodies = (1..=10).zip(100..).map(delete).collect();
        let job = DeleteJob { collection: 123, partition: 456, segment: 789, primary_key: 100, bodies, form: DeltaForm::Json };
        let outcome = write_deletes(&setting.store, &setting.ids(), &job).unwrap();
        let WriteOutcome::Written { files, .. } = outcome else { panic!("{outcome:?}") };
        let Binlog { path, log_id, entries, tick_from, tick_to, memory_size, .. } = &files.delta[0].binlogs[0];
        assert_eq!((path.as_str(), *log_id, *entries), ("delta_log/123/456/789/10000", 10_000, 10));
        assert_eq!((*tick_from, *tick_to, *memory_size), (100, 109, 240));
    }

    #[test]
    fn packed_rows_are_one_file_a_column_group_and_read_back_like_others() {
        let setting = Setting::new();
        let packed = |bodies, earlier: &SegmentFiles, flush| {
            let layout = earlier.layout(storage_version::PACKED);
            setting.write(&RowBatchJob { layout, filter: FilterKind::Blocked, ..job(bodies, earlier, flush) })
        };
        let (mut files, rows) = packed(vec![body(7, insert(1)), body(9, insert(3))], &SegmentFiles::default(), false);
        assert_eq!(rows, 4);
        let keys: Vec<_> = files.iter().map(|file| (file.path.as_str(), file.log_id, file.entries)).collect();
        let expected = [
            ("insert_log/1/2/3/0/1000", 1000, 4),
            ("insert_log/1/2/3/1/1001", 1001, 4),
            ("insert_log/1/2/3/102/1002", 1002, 4),
            ("stats_log/1/2/3/100/1003", 1003, 4),
        ];
        assert_eq!(keys, expected);
        let fields: Vec<_> = files.insert.iter().map(|list| (list.field, list.child_fields.as_slice())).collect();
        assert_eq!(fields, [(0, &[0, 1, 100][..]), (1, &[101]), (102, &[102])]);
        let memory: Vec<i64> = files.insert.iter().map(|list| list.binlogs[0].memory_size).collect();
        assert_eq!(memory, [3 * (4 * 8 + 1), 6 + 4 * 16 + 1, 4 * 8 + 4]);
        let statistics = setting.store.get("stats_log/1/2/3/100/1003").unwrap();
        assert!(statistics.windows(10).any(|part| part == br#""bfType":4"#), "{statistics:?}");

        files.extend(packed(vec![body(11, insert(5))], &files, true).0);
        let (mut others, _) = setting.write(&job(vec![body(7, insert(1)), body(9, insert(3))], &SegmentFiles::default(), false));
        others.extend(setting.write(&job(vec![body(11, insert(5))], &others, true)).0);
        let read = |files| read_segment(&setting.store, files, &schema()).unwrap();
        assert_eq!((read(&files).rows, read(&files)), (6, read(&others)));
    }

    #[test]
    fn a_segment_keeps_the_column_groups_that_it_has() {
        let setting = Setting::new();
        let layout = Layout::Packed([(0, vec![0, 1, 100, 101]), (102, vec![102])].into());
        let bodies = || vec![body(7, insert(1))];
        let (files, _) = setting.write(&RowBatchJob { layout, ..job(bodies(), &SegmentFiles::default(), false) });
        let groups = |files: &SegmentFiles| files.insert.iter().map(|list| (list.field, list.child_fields.clone())).collect::<Vec<_>>();
        assert_eq!(groups(&files), [(0, vec![0, 1, 100, 101]), (102, vec![102])]);
        let layout = files.layout(storage_version::PACKED);
        let (more, _) = setting.write(&RowBatchJob { layout, ..job(bodies(), &files, false) });
        assert_eq!(groups(&more), groups(&files));
    }

    #[test]
    fn a_packed_file_that_lacks_a_field_is_an_error_that_names_the_field() {
        let setting = Setting::new();
        let layout = Layout::Packed(Default::default());
        let (mut files, _) = setting.write(&RowBatchJob { layout, ..job(vec![body(7, insert(1))], &SegmentFiles::default(), false) });
        let renamed = Schema { fields: vec![Field { id: 105, ..schema().fields[1].clone() }], ..(*schema()).clone() };
        let error = read_segment(&setting.store, &files, &renamed).unwrap_err();
        assert!(error.to_string().contains("field 105 `title`"), "{error}");
        let wider = Schema { fields: vec![Field { dim: 3, ..schema().fields[2].clone() }], ..(*schema()).clone() };
        let error = read_segment(&setting.store, &files, &wider).unwrap_err();
        assert!(error.to_string().contains("vectors of 8 bytes, the schema says 12"), "{error}");
        files.insert[0].binlogs[0].entries = 3;
        assert!(read_segment(&setting.store, &files, &schema()).is_err());
    }

    #[test]
    fn a_file_that_is_missing_for_one_field_is_an_error_that_names_the_field() {
        let setting = Setting::new();
        let (mut files, _) = setting.write(&job(vec![body(7, insert(1))], &SegmentFiles::default(), false));
        files.insert.retain(|list| list.field != 101);
        let error = read_segment(&setting.store, &files, &schema()).unwrap_err();
        assert!(error.to_string().contains("field 101 `title`"), "{error}");
    }

    #[test]
    fn a_field_that_is_younger_than_its_segment_is_read_as_its_default_or_null() {
        let setting = Setting::new();
        let (files, _) = setting.write(&job(vec![body(7, insert(1))], &SegmentFiles::default(), false));
        let mut younger = (*schema()).clone();
        younger.fields.push(Field { nullable: true, dim: 3, ..Field::new(103, "half", DataType::Float16Vector) });
        younger.fields.push(Field { default_value: Some(DefaultValue::Int(7)), ..Field::new(104, "seven", DataType::Int32) });
        let read = read_segment(&setting.store, &files, &younger).unwrap();
        assert_eq!(
            (&read.fields[5].values, &read.fields[5].valid),
            (&Values::Fixed { width: 6, bytes: vec![0; 12] }, &Some(vec![false; 2]))
        );
        assert_eq!((&read.fields[6].values, &read.fields[6].valid), (&Values::Int32(vec![7; 2]), &None));
    }

    #[test]
    fn vectors_of_which_there_are_none_are_read_as_wide_as_the_schema_says() {
        let setting = Setting::new();
        let mut nullable = (*schema()).clone();
        nullable.fields[2].nullable = true;
        let job = |tick, payload| RowBatchJob {
            schema: Arc::new(nullable.clone()),
            ..job(vec![body(tick, payload)], &SegmentFiles::default(), false)
        };
        // The column of vectors is left out of the first sync.
        let mut columns = Columns::new(&schema()).fields.split_off(2);
        columns.pop();
        columns[0].values = Values::Int64(vec![1, 2]);
        columns[1].values = Values::Bytes { ends: vec![1, 2], bytes: b"ab".to_vec() };
        let to = InsertAssignment { collection: 1, partition: 2, segment: 3, rows: 2, bytes: 0 };
        let (mut files, _) = setting.write(&job(7, build::insert("p_0_1v0", &to, &columns, &[1, 2]).payload));
        files.extend(setting.write(&job(9, insert(3))).0);
        let read = read_segment(&setting.store, &files, &nullable).unwrap();
        assert_eq!(read.fields[4].valid, Some(vec![false, false, true, true]));
        assert_eq!(read.fields[4].values, Values::Fixed { width: 8, bytes: [[0; 16], [3; 16]].concat() });
        let error = read_segment(&setting.store, &files, &schema()).unwrap_err().to_string();
        assert!(error.contains("nulls, but the field is not nullable"), "{error}");
    }
}
