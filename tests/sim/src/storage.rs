//! Object storage: which rows lie under which key. Real files would take most of a run's time, and their form is tested elsewhere; here a
//! file is the list of its rows.

use std::collections::BTreeMap;

use tidegate_core::calls::{Binlog, CallError, FieldBinlogs, SegmentFiles};
use tidegate_core::pchannel::{Outcome, WriteJob, Written};
use tidegate_message::columns::{Columns, Deletes, PrimaryKey, Values};
use tidegate_message::rows::{DeleteBody, InsertBody};

/// What an object holds: keys with their ticks, in the order of the file.
pub type Rows = Vec<(i64, u64)>;

/// Writes real files where a run is about their bytes.
pub trait Files {
    /// Does a write; `ids` is the last id that was given out.
    ///
    /// # Errors
    /// Those of the storage.
    fn write(&mut self, job: &WriteJob, ids: &mut i64) -> Result<Outcome, CallError>;
}

/// The objects.
#[derive(Default)]
pub struct Storage {
    objects: BTreeMap<String, Option<Rows>>,
    files: Option<Box<dyn Files>>,
}

/// The primary key's field.
pub const KEY_FIELD: i64 = 100;

impl Storage {
    /// The rows of an object; `None` if there is none, or it is not whole.
    pub fn rows(&self, path: &str) -> Option<&Rows> {
        self.objects.get(path)?.as_ref()
    }

    /// Leaves half an object behind.
    pub fn put_partial(&mut self, path: String) {
        self.objects.insert(path, None);
    }

    /// From here on writes are real ones.
    pub fn be_real(&mut self, files: Box<dyn Files>) {
        self.files = Some(files);
    }

    /// Does a write: reads the rows out of the bodies and puts the files.
    ///
    /// # Errors
    /// Those of the real writer, if there is one.
    pub fn write(&mut self, job: &WriteJob, ids: &mut i64) -> Result<Outcome, CallError> {
        let mut next_id = || {
            *ids += 1;
            *ids
        };
        let (mut rows, mut bad) = (Rows::new(), Vec::new());
        for (ordinal, tick, body) in &job.bodies {
            let read = if job.deletes {
                DeleteBody::parse(body).map_err(|e| e.to_string()).map(|body| {
                    let mut deletes = Deletes::default();
                    body.append_to(*tick, &mut deletes);
                    rows.extend(deletes.keys.iter().map(|k| (integer(k), *tick)));
                })
            } else {
                InsertBody::parse(body)
                    .and_then(|body| {
                        let mut columns = Columns::new(&job.schema);
                        body.append_to(*tick, &job.schema, &mut columns)?;
                        Ok(columns)
                    })
                    .map_err(|e| e.to_string())
                    .map(|columns| {
                        if let Some(Values::Int64(keys)) = columns.fields.iter().find(|f| f.is_primary).map(|f| &f.values) {
                            rows.extend(keys.iter().map(|&key| (key, *tick)));
                        }
                    })
            };
            bad.extend(read.err().map(|reason| (*ordinal, reason)));
        }
        if !bad.is_empty() {
            return Ok(Outcome::BadRows(bad));
        }
        if let Some(files) = &mut self.files {
            let outcome = files.write(job, ids)?;
            if let Outcome::Written(written) = &outcome {
                // The rows lie in the files of the key; the others are there, and whole.
                let of_keys = |lists: &[FieldBinlogs]| {
                    lists.iter().find(|l| l.field == KEY_FIELD).and_then(|l| Some(l.binlogs.first()?.path.clone()))
                };
                self.objects.extend(written.files.iter().map(|file| (file.path.clone(), Some(Rows::new()))));
                let with_rows = if job.deletes { of_keys(&written.files.delta) } else { of_keys(&written.files.insert) };
                self.objects.extend(with_rows.map(|path| (path, Some(rows))));
            }
            return Ok(outcome);
        }
        let segment = if job.deletes { next_id() } else { job.segment };
        let folder = format!("{}/{}/{segment}", job.collection, job.partition);
        let count = rows.len() as u64;
        let (from, to) = (rows.first().map_or(0, |r| r.1), rows.last().map_or(0, |r| r.1));
        let mut put = |path: String, log_id: i64, entries: Rows| {
            let file = Binlog {
                path: path.clone(),
                log_id,
                entries: entries.len() as i64,
                tick_from: from,
                tick_to: to,
                log_size: 8 * entries.len() as i64,
                memory_size: 8 * entries.len() as i64,
            };
            self.objects.insert(path, Some(entries));
            vec![FieldBinlogs { field: KEY_FIELD, child_fields: Vec::new(), binlogs: vec![file] }]
        };
        let mut files = SegmentFiles::default();
        if job.deletes {
            let id = next_id();
            files.delta = put(format!("delta_log/{folder}/{id}"), id, rows);
        } else {
            if count > 0 {
                let id = next_id();
                files.insert = put(format!("insert_log/{folder}/{KEY_FIELD}/{id}"), id, rows);
                let id = next_id();
                files.stats = put(format!("stats_log/{folder}/{KEY_FIELD}/{id}"), id, Rows::new());
            }
            if job.flush {
                let merged = put(format!("stats_log/{folder}/{KEY_FIELD}/1"), 1, Rows::new());
                files.extend(SegmentFiles { stats: merged, ..SegmentFiles::default() });
            }
        }
        Ok(Outcome::Written(Written { segment, files, rows: count }))
    }
}

fn integer(key: &PrimaryKey) -> i64 {
    match key {
        PrimaryKey::Int64(key) => *key,
        PrimaryKey::VarChar(_) => -1,
    }
}
