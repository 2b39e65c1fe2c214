//! A sync, from the staged rows to the coordinator's word that it has their files.

use std::sync::Arc;

use super::work::{Purpose, refusal};
use super::{Outcome, Pchannel, Work, WriteJob, Written};
use crate::account::{Job, Pinned, Target};
use crate::calls::{
    Binlog, Call, CallError, FieldBinlogs, Level, Reply, SaveBinlogPaths, SegmentFiles, SegmentInfo, SegmentState, storage_version,
};
use crate::ledger::End;
use crate::mutants::{Mutant, is_mutated};
use crate::switches::{Switch, is_on};
use crate::turn::{Answer, ChannelIndex, IntentKind, Ordinal, Refusal, RefusalKind};

impl Pchannel {
    /// Begins the next sync of a segment or partition, if none runs.
    pub(super) fn run_jobs(&mut self, channel: ChannelIndex, target: Target) {
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let Some(front) = account.jobs(target).front().cloned() else { return };
        // A segment that is not registered yet cannot be saved: the end of its registration comes back here.
        if (front.running && !is_mutated(Mutant::JobsInParallel))
            || matches!(target, Target::Segment(id) if account.is_registering(id) && !is_mutated(Mutant::SyncUnregistered))
        {
            return;
        }
        let (up_to, flush) = (front.up_to, front.flush);
        let batch = account.take_staged(target, up_to);
        if let Some(front) = account.jobs(target).front_mut() {
            front.running = true;
            front.batch.clone_from(&batch);
        }
        let rows_flush = flush && matches!(target, Target::Segment(_));
        if batch.is_empty() && !rows_flush {
            return self.end_job(channel, target, Ok(0));
        }
        self.write(channel, target, &batch, rows_flush);
    }

    fn write(&mut self, channel: ChannelIndex, target: Target, batch: &[Ordinal], flush: bool) {
        let Some(account) = self.channels.get(&channel) else { return };
        let segment = match target {
            Target::Segment(id) => account.segments.get(&id),
            Target::Deletes(_) => None,
        };
        let mut bodies: Vec<_> = batch
            .iter()
            .filter_map(|&ordinal| {
                let pin = account.pins.get(&ordinal)?;
                match &pin.what {
                    Pinned::Rows { payload, .. } | Pinned::Deletes { payload, .. } => Some((ordinal, pin.position.tick, payload.clone())),
                    Pinned::Control(_) => None,
                }
            })
            .collect();
        let tick = bodies.first().map_or(u64::MAX, |b| b.1);
        let earlier_statistics: Vec<Binlog> =
            segment.map(|s| s.files.stats.iter().flat_map(|f| &f.binlogs).filter(|b| b.log_id != 1).cloned().collect()).unwrap_or_default();
        let layout = segment.map(|s| s.files.layout(s.storage_version)).unwrap_or_default();
        let id = match target {
            Target::Segment(id) => id,
            Target::Deletes(_) => 0,
        };
        if bodies.is_empty() && (earlier_statistics.is_empty() || !flush) {
            let written = Written { segment: id, files: Default::default(), rows: 0 };
            // One that recovery did not list is complete already, or nobody's: the coordinator is asked, not told.
            if segment.is_some_and(|s| !s.registered) {
                return self.begin(Purpose::Confirm { channel, target, written }, Work::Call(Call::Segment { segment: id }));
            }
            return self.save(channel, target, written);
        }
        let Some(schema) = account.schema_at(tick).cloned() else {
            let refusal = Refusal::new(RefusalKind::Permanent, format!("channel {} has no schema at tick {tick}", account.name));
            return self.end_job(channel, target, Err(refusal));
        };
        // FL-2: rows are written with their own schema. The component ends its batches where it changes.
        let last = bodies.last().map_or(tick, |b| b.1);
        let other = account.schema_at(last).filter(|other| !Arc::ptr_eq(other, &schema) && matches!(target, Target::Segment(_)));
        if other.is_some() && !is_mutated(Mutant::TwoSchemas) {
            let detail = format!("the batch of segment {id} from tick {tick} to {last} has rows of two schemas");
            return self.end_job(channel, target, Err(Refusal::new(RefusalKind::Guard, detail)));
        }
        let partition = match target {
            Target::Segment(_) => segment.map_or(0, |s| s.partition),
            Target::Deletes(partition) => partition,
        };
        if is_on(Switch::SaveBeforeWrite) {
            let rows = bodies.len() as u64;
            let early = Binlog {
                path: format!("insert_log/{}/{partition}/{id}/0/{tick}", account.collection.unwrap_or_default()),
                log_id: 1,
                entries: 1,
                tick_from: tick,
                tick_to: tick,
                log_size: 1,
                memory_size: 1,
            };
            let files = SegmentFiles {
                insert: vec![FieldBinlogs { field: 0, child_fields: Vec::new(), binlogs: vec![early] }],
                ..SegmentFiles::default()
            };
            return self.save(channel, target, Written { segment: id, files, rows });
        }
        if is_on(Switch::RowsByPage) && self.limits.page_max < 64 {
            bodies.reverse();
        }
        // Columns take about as much as the bodies, while both live.
        let bytes: usize = bodies.iter().map(|b| b.2.len()).sum();
        let collection = account.collection.unwrap_or_default();
        let deletes = matches!(target, Target::Deletes(_));
        let job = WriteJob { collection, partition, segment: id, deletes, layout, schema, bodies, earlier_statistics, flush };
        self.writing_bytes += bytes;
        self.begin(Purpose::Write { channel, target, bytes }, Work::Write(Arc::new(job)));
    }

    pub(super) fn wrote(&mut self, channel: ChannelIndex, target: Target, result: Result<Outcome, CallError>) {
        match result {
            Ok(Outcome::Written(written)) => self.save(channel, target, written),
            Ok(Outcome::BadRows(bad)) => {
                self.set_pinned_aside(channel, Some(target), bad, false);
                let Some(account) = self.channels.get_mut(&channel) else { return };
                let Some(front) = account.jobs(target).front() else { return };
                let (batch, flush) = (front.batch.clone(), front.flush);
                self.write(channel, target, &batch, flush && matches!(target, Target::Segment(_)));
            }
            Ok(other) => self.end_job(channel, target, Err(Refusal::new(RefusalKind::Permanent, format!("a write ended with {other:?}")))),
            Err(error) => self.end_job(channel, target, Err(refusal(error))),
        }
    }

    /// FL-1: the files exist; now the coordinator hears of them, as the segment's full lists.
    fn save(&mut self, channel: ChannelIndex, target: Target, written: Written) {
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let Some(job) = account.jobs(target).front().cloned() else { return };
        let mut last = job.batch.last().and_then(|o| account.pins.get(o)).map(|p| p.position.clone());
        if is_mutated(Mutant::DmlAhead) {
            last = account.pins.values().last().map(|p| p.position.clone());
        }
        let first = job.batch.first().and_then(|o| account.pins.get(o)).map(|p| p.position.clone());
        let control = account.pins.get(&job.up_to).map(|p| p.position.clone());
        let Some(account) = self.channels.get(&channel) else { return };
        let fallback = self.position_for(account, job.up_to);
        let vchannel = account.name.clone();
        let collection = account.collection.unwrap_or_default();
        let save = match target {
            Target::Segment(id) => {
                let Some(s) = account.segments.get(&id) else { return };
                let Some(dml) = last.or_else(|| s.dml.clone()).or(control).or(fallback).or_else(|| account.seek.clone()) else {
                    let refusal = Refusal::new(RefusalKind::Permanent, format!("no position is known for segment {id}"));
                    return self.end_job(channel, target, Err(refusal));
                };
                let mut files = if is_mutated(Mutant::PartialLists) { SegmentFiles::default() } else { s.files.clone() };
                files.extend(written.files.clone());
                let rows = s.rows + i64::try_from(written.rows).unwrap_or_default();
                let start = s.start.clone();
                SaveBinlogPaths {
                    segment: id,
                    collection,
                    partition: s.partition,
                    vchannel,
                    level: Level::L1,
                    storage_version: s.storage_version,
                    files,
                    dml,
                    start,
                    rows,
                    flushed: job.flush,
                    dropped: false,
                }
            }
            Target::Deletes(partition) => {
                let Some(dml) = last else { return self.end_job(channel, target, Ok(0)) };
                let rows = i64::try_from(written.rows).unwrap_or_default();
                let files = written.files.clone();
                let (segment, start) = (written.segment, first);
                SaveBinlogPaths {
                    segment,
                    collection,
                    partition,
                    vchannel,
                    level: Level::L0,
                    storage_version: storage_version::FIELDS,
                    files,
                    dml,
                    start,
                    rows,
                    flushed: true,
                    dropped: false,
                }
            }
        };
        self.begin(Purpose::Save { channel, target, written }, Work::Call(Call::SaveBinlogPaths(Box::new(save))));
    }

    pub(super) fn saved(&mut self, channel: ChannelIndex, target: Target, written: Written, result: Result<Outcome, CallError>) {
        match result {
            Ok(Outcome::Reply(Reply::Done)) => self.durable(channel, target, written),
            Ok(Outcome::Reply(Reply::Ignored(_))) if is_mutated(Mutant::IgnoredIsDone) => self.durable(channel, target, written),
            // A repeated or ambiguous save is confirmed by reading the segment back.
            Ok(Outcome::Reply(Reply::Ignored(_))) => {
                let segment = written.segment;
                self.begin(Purpose::Confirm { channel, target, written }, Work::Call(Call::Segment { segment }));
            }
            Ok(other) => {
                self.end_job(channel, target, Err(Refusal::new(RefusalKind::Permanent, format!("a save was answered with {other:?}"))))
            }
            Err(CallError::NotFound(_)) if is_mutated(Mutant::NotFoundIsDone) => self.durable(channel, target, written),
            Err(CallError::NotFound(why)) => {
                self.unknown(channel, target, &written, why);
            }
            Err(error) => self.end_job(channel, target, Err(refusal(error))),
        }
    }

    /// Whether the coordinator has said that it has the segment of a sync.
    pub(super) fn is_registered(&self, channel: ChannelIndex, target: Target) -> bool {
        let Target::Segment(id) = target else { return false };
        self.channels.get(&channel).and_then(|c| c.segments.get(&id)).is_some_and(|s| s.registered)
    }

    /// The coordinator does not know the segment of a sync.
    fn unknown(&mut self, channel: ChannelIndex, target: Target, written: &Written, why: String) {
        if self.is_registered(channel, target) {
            // It did: without rows this would be taken for done, and the segment would grow for ever.
            let detail = format!("the coordinator has forgotten a segment: {why}");
            return self.end_job(channel, target, Err(Refusal::new(RefusalKind::Permanent, detail)));
        }
        let why = match written.rows {
            0 => why,
            rows => format!("{rows} rows are of a segment that the coordinator does not know, and whose creation is not on its way: {why}"),
        };
        let asked = self.channels.get_mut(&channel).and_then(|c| c.jobs(target).front().map(|job| job.up_to));
        self.end_job(channel, target, Err(Refusal::new(RefusalKind::NotFound, why)));
        let handed = self.last_handed_out();
        if let (Target::Segment(id), 0, Some(asked), Some(account)) = (target, written.rows, asked, self.channels.get_mut(&channel)) {
            account.segment_unknown(id, asked, handed);
        }
    }

    pub(super) fn confirm(&mut self, channel: ChannelIndex, target: Target, written: Written, stored: Option<SegmentInfo>) {
        let Some(stored) = stored else {
            return self.unknown(channel, target, &written, format!("segment {} is not known", written.segment));
        };
        let flush = self.channels.get_mut(&channel).and_then(|c| c.jobs(target).front().map(|j| j.flush)).unwrap_or_default();
        let has_files =
            is_mutated(Mutant::ConfirmWithoutFiles) || written.files.iter().all(|f| stored.files.iter().any(|s| s.path == f.path));
        let complete = !flush || stored.state != SegmentState::Growing;
        // Without rows, a segment that is dropped is as complete as one that is flushed.
        if stored.state == SegmentState::Dropped && written.rows > 0 {
            if let (Target::Segment(id), Some(account)) = (target, self.channels.get_mut(&channel)) {
                account.segments.entry(id).or_default().dropped = true;
            }
            let detail = format!("the coordinator lists segment {} as dropped", written.segment);
            return self.end_job(channel, target, Err(Refusal::new(RefusalKind::Dropped, detail)));
        }
        if has_files && complete {
            return self.durable(channel, target, written);
        }
        let detail = format!(
            "segment {} is {:?} at the coordinator with {} rows and without the {} files of this sync",
            written.segment,
            stored.state,
            stored.rows,
            written.files.iter().count()
        );
        self.end_job(channel, target, Err(Refusal::new(RefusalKind::Permanent, detail)));
    }

    /// The coordinator has the files: the rows' pins end as durable.
    fn durable(&mut self, channel: ChannelIndex, target: Target, written: Written) {
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let Some(job) = account.jobs(target).front().cloned() else { return };
        let last = job.batch.last().and_then(|o| account.pins.get(o)).map(|p| p.position.clone());
        for &ordinal in &job.batch {
            account.unpin(ordinal, End::Durable);
        }
        if let Target::Segment(id) = target {
            if let Some(s) = account.segments.get_mut(&id) {
                s.files.extend(written.files);
                s.rows += i64::try_from(written.rows).unwrap_or_default();
                s.dml = last.or(s.dml.take());
                s.registered = true;
            }
            if job.flush {
                account.segment_ended(id);
                if let Some(s) = account.segments.get_mut(&id) {
                    s.files = Default::default();
                }
            }
        }
        self.end_job(channel, target, Ok(written.rows));
    }

    /// Ends the sync that runs, and begins the next one. One that is refused takes those behind it along: their batches would begin with its
    /// rows, and end somewhere else than the component said (FL-3), over a change of the schema too (FL-2).
    pub(super) fn end_job(&mut self, channel: ChannelIndex, target: Target, outcome: Result<u64, Refusal>) {
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let Some(Job { ticket, up_to, flush, batch, .. }) = account.jobs(target).pop_front() else { return };
        let (kind, segment) = match target {
            Target::Segment(id) => (IntentKind::Sync, id),
            Target::Deletes(partition) => (IntentKind::SyncDeletes, partition),
        };
        let mut refused = Vec::new();
        if outcome.is_ok() {
            account.sync_ended(target, up_to);
        } else {
            if !is_mutated(Mutant::NextAfterRefused) {
                refused.extend(account.jobs(target).drain(..));
            }
            if is_mutated(Mutant::RefusedIsDurable) {
                batch.iter().for_each(|&o| account.unpin(o, End::Durable));
            }
            account.restage(target, &batch);
            if let (Target::Segment(id), true) = (target, flush || refused.iter().any(|job| job.flush))
                && let Some(s) = account.segments.get_mut(&id)
            {
                s.sealed = s.ended;
            }
            if let (Target::Segment(id), Err(refusal)) = (target, &outcome)
                && refusal.kind != RefusalKind::NotFound
                && !is_mutated(Mutant::NextAfterRefused)
                && let Some(s) = account.segments.get_mut(&id)
            {
                s.refused = Some(refusal.clone());
            }
        }
        let behind = refused.into_iter().map(|job| (job.ticket, job.up_to));
        for (ticket, up_to) in std::iter::once((ticket, up_to)).chain(behind) {
            self.complete(ticket, kind, channel, segment, up_to, outcome.clone().map(Answer::Synced));
        }
        self.run_jobs(channel, target);
    }
}
