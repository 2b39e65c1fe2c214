//! Answers to writes: what a segment writer would have said, without a byte written.

use tidegate_binlog::SegmentKey;
use tidegate_core::calls::{Binlog, CallError, FieldBinlogs, SegmentFiles};
use tidegate_core::pchannel::{Outcome, WriteJob, Written};
use tidegate_message::columns::TIMESTAMP_FIELD;
use tidegate_message::rows::{DeleteBody, InsertBody};

use crate::storage::keys;

/// Field of the row ids.
const ROW_ID_FIELD: i64 = 0;

/// Says that a job's rows are in files. `next_id` is the first free id; ids are taken from it.
///
/// # Errors
/// [`CallError::Permanent`] for a body that is none.
pub(super) fn written(job: &WriteJob, next_id: &mut i64) -> Result<Outcome, CallError> {
    let mut take = || {
        *next_id += 1;
        *next_id - 1
    };
    let mut rows = 0;
    for (_, _, payload) in &job.bodies {
        let counted = if job.deletes { DeleteBody::parse(payload).map(|b| b.rows()) } else { InsertBody::parse(payload).map(|b| b.rows()) };
        rows += counted.map_err(|e| CallError::Permanent(e.to_string()))? as u64;
    }
    let segment = if job.deletes { take() } else { job.segment };
    let key = SegmentKey { collection: job.collection, partition: job.partition, segment };
    let ticks = || job.bodies.iter().map(|(_, tick, _)| *tick);
    let (tick_from, tick_to) = (ticks().min().unwrap_or_default(), ticks().max().unwrap_or_default());
    let file = |field: i64, log_id: i64, path: String| {
        let binlog = Binlog { path, log_id, entries: rows as i64, tick_from, tick_to, log_size: 1, memory_size: 1 };
        FieldBinlogs { field, child_fields: Vec::new(), binlogs: vec![binlog] }
    };
    let primary = job.schema.primary().map_or(0, |f| f.id);
    let mut files = SegmentFiles::default();
    if job.deletes {
        let id = take();
        files.delta.push(file(primary, id, keys::delta_log(&key, id)));
    } else if rows > 0 {
        let own = job.schema.fields.iter().map(|f| f.id);
        for field in [ROW_ID_FIELD, TIMESTAMP_FIELD].into_iter().chain(own) {
            let id = take();
            files.insert.push(file(field, id, keys::insert_log(&key, field, id)));
        }
        let id = take();
        files.stats.push(file(primary, id, keys::stats_log(&key, primary, id)));
    }
    Ok(Outcome::Written(Written { segment, files, rows }))
}
