//! Calls and writes: what their ends mean for pins, accounts and completions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Action, Outcome, Pchannel, Phase, Weight, Work, WriteJob, Written};
use crate::account::{ChannelAccount, Job, Pinned, Standing, Target, Wait};
use crate::calls::{
    Binlog, Call, CallError, FieldBinlogs, Level, Position, RecoveryInfo, Reply, SaveBinlogPaths, SegmentFiles, SegmentInfo, SegmentState,
    storage_version,
};
use crate::ledger::End;
use crate::mutants::{Mutant, is_mutated};
use crate::retry::{CallId, DEADLINE_MS, InFlight};
use crate::switches::{Switch, is_on};
use crate::turn::{
    Answer, ChannelIndex, EVERY_CHANNEL, FilterReason, IntentKind, Ordinal, RecoveredChannel, RecoveredSegment, Refusal, RefusalKind,
    SegmentStanding, Ticket,
};

/// Work in flight and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub purpose: Purpose,
    pub work: Work,
    /// The scan it belongs to: results of an earlier one are of no interest.
    pub scan: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Purpose {
    VChannels {
        ticket: Ticket,
    },
    Recovery {
        ticket: Ticket,
        channel: ChannelIndex,
    },
    /// Where a detached channel stands.
    Rejoin {
        channel: ChannelIndex,
    },
    /// The second scan of a channel that is behind.
    CatchUp {
        channel: ChannelIndex,
    },
    AppendFlush {
        ticket: Ticket,
        channel: ChannelIndex,
        segment: i64,
    },
    LoadConsume {
        ticket: Ticket,
        channels: Vec<ChannelIndex>,
    },
    OpenScan {
        ticket: Ticket,
    },
    Alloc {
        ticket: Ticket,
        channel: ChannelIndex,
        at: Ordinal,
        segment: i64,
    },
    Schema {
        channel: ChannelIndex,
        at: Ordinal,
    },
    Write {
        channel: ChannelIndex,
        target: Target,
        bytes: usize,
    },
    Save {
        channel: ChannelIndex,
        target: Target,
        written: Written,
    },
    /// The peer kept what it had: what does it have?
    Confirm {
        channel: ChannelIndex,
        target: Target,
        written: Written,
    },
    DropSegment {
        ticket: Ticket,
        channel: ChannelIndex,
        segment: i64,
        at: Ordinal,
    },
    /// The peer did not take the drop: what does it have?
    ConfirmDrop {
        ticket: Ticket,
        channel: ChannelIndex,
        segment: i64,
        at: Ordinal,
    },
    DropChannel {
        ticket: Ticket,
        channel: ChannelIndex,
        at: Ordinal,
    },
    Report {
        ticket: Ticket,
        entries: Vec<(ChannelIndex, Ordinal, Position)>,
    },
    SaveConsume {
        ticket: Ticket,
        at: Ordinal,
        position: Position,
    },
}

impl Purpose {
    /// Returns the channel that the work is for, if it is for one.
    pub fn channel(&self) -> Option<ChannelIndex> {
        match self {
            Self::Recovery { channel, .. }
            | Self::Rejoin { channel }
            | Self::CatchUp { channel }
            | Self::AppendFlush { channel, .. }
            | Self::Alloc { channel, .. }
            | Self::Schema { channel, .. }
            | Self::Write { channel, .. }
            | Self::Save { channel, .. }
            | Self::Confirm { channel, .. }
            | Self::DropSegment { channel, .. }
            | Self::ConfirmDrop { channel, .. }
            | Self::DropChannel { channel, .. } => Some(*channel),
            Self::VChannels { .. } | Self::LoadConsume { .. } | Self::OpenScan { .. } | Self::Report { .. } | Self::SaveConsume { .. } => {
                None
            }
        }
    }
}

/// The channel whose state at its peer a piece of work may change.
fn owner(purpose: &Purpose, work: &Work) -> Option<ChannelIndex> {
    let changes = match work {
        Work::Call(call) => call.is_mutating(),
        Work::Write(_) | Work::AppendFlush { .. } => true,
        Work::OpenScan { .. } | Work::OpenCatchUp { .. } => false,
    };
    purpose.channel().filter(|_| changes)
}

/// "Not found" answers to a save that are tried again while the pchannel is ours: never success, and maybe a window.
const SAVE_NOT_FOUND_TOLERANCE: u32 = 5;

impl Pchannel {
    pub(super) fn begin(&mut self, purpose: Purpose, work: Work) {
        let write = matches!(work, Work::Write(_));
        let id = self.calls.begin(Task { purpose, work: work.clone(), scan: self.scan }, self.now_ms);
        if write && self.writes >= self.limits.writes_max {
            self.waiting_writes.push_back(id);
            self.calls.park(id);
            return;
        }
        self.writes += usize::from(write);
        self.send(id, work);
    }

    fn send(&mut self, id: CallId, work: Work) {
        // Files and scans take the time they take.
        let deadline = (matches!(work, Work::Call(_)) && !is_mutated(Mutant::NoDeadline)).then(|| self.now_ms.saturating_add(DEADLINE_MS));
        let owner = self.calls.get(id).and_then(|call| owner(&call.what.purpose, &work));
        self.calls.sent(id, owner, deadline);
        self.out.push(Action::Begin { id, work });
    }

    /// Calls without an answer count as failed, and are made again: every call may be repeated.
    pub(super) fn give_up_overdue(&mut self) {
        for (id, call) in self.calls.overdue(self.now_ms) {
            let why = format!("no answer within {} s", DEADLINE_MS / 1_000);
            if self.is_pointless(&call.what.purpose) {
                self.settle(call.what, Err(CallError::Transient(why)));
                continue;
            }
            self.out.push(Action::Notice(Weight::Warn, format!("{}: {why}; it is made again", name(&call.what.work))));
            self.calls.fail(id, call, why, self.now_ms);
        }
    }

    /// Makes a call again whose backoff has passed; a write waits for its turn among the others.
    pub(super) fn begin_again(&mut self, id: CallId, work: Work) {
        if matches!(work, Work::Write(_)) {
            if self.writes >= self.limits.writes_max {
                self.waiting_writes.push_back(id);
                return self.calls.park(id);
            }
            self.writes += 1;
        }
        self.send(id, work);
    }

    /// Forgets what waits to be done for a channel that is not served any more; what is at a peer still ends.
    pub(super) fn forget_work(&mut self, channel: ChannelIndex) {
        for task in self.calls.forget_waiting_where(|task| task.purpose.channel() == Some(channel)) {
            if let Purpose::Write { bytes, .. } = task.purpose {
                self.writing_bytes = self.writing_bytes.saturating_sub(bytes);
            }
        }
        let calls = &self.calls;
        self.waiting_writes.retain(|&id| calls.is_parked(id));
    }

    /// Whether trying again serves nobody: the work is for a channel that is not served any more, or it has tries of its own.
    fn is_pointless(&self, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Rejoin { .. } | Purpose::CatchUp { .. } => true,
            Purpose::Recovery { .. } => false,
            _ => purpose.channel().is_some_and(|c| self.channels.get(&c).is_none_or(|c| !c.is_live())),
        }
    }

    /// A write left its place: the next one may begin.
    fn next_write(&mut self) {
        self.writes = self.writes.saturating_sub(1);
        if let Some(id) = self.waiting_writes.pop_front()
            && let Some(task) = self.calls.unpark(id)
        {
            self.writes += 1;
            self.send(id, task.work);
        }
    }

    pub(super) fn ended(&mut self, id: CallId, result: Result<Outcome, CallError>) {
        let Some(call) = self.calls.end(id) else { return };
        if self.is_over() || (call.what.scan != self.scan && !is_mutated(Mutant::OldAnswers)) || matches!(self.phase, Phase::Backoff(_)) {
            return;
        }
        match result {
            Err(CallError::Transient(_)) if self.is_pointless(&call.what.purpose) => self.settle(call.what, result),
            Err(CallError::Transient(why)) if self.holds_up_the_others(&call) => {
                let why = format!("it cannot be recovered, and the others do not wait for it: {why}");
                self.settle(call.what, Err(CallError::Permanent(why)));
            }
            Err(CallError::Transient(why)) => {
                if call.failures == 0 || call.failures.is_multiple_of(10) {
                    let text = format!("{} failed and is tried again: {why}", name(&call.what.work));
                    self.out.push(Action::Notice(Weight::Warn, text));
                }
                // IS-1: a write that fails gives its place to the next one while it waits.
                let write = matches!(call.what.work, Work::Write(_));
                self.calls.fail(id, call, why, self.now_ms);
                if write && !is_mutated(Mutant::WriteKeepsPlace) {
                    self.next_write();
                }
            }
            Err(CallError::Fenced(why)) if is_mutated(Mutant::FenceIsTransient) => self.calls.fail(id, call, why, self.now_ms),
            Err(CallError::Fenced(why)) => self.fence(why),
            Err(CallError::NotFound(why)) if self.tolerates(&call) => self.calls.fail(id, call, why, self.now_ms),
            result => self.settle(call.what, result),
        }
    }

    /// IS-1: whether a channel's recovery keeps failing while other channels have their answers. A coordinator that answers nobody is
    /// waited for.
    fn holds_up_the_others(&self, call: &InFlight<Task>) -> bool {
        let Purpose::Recovery { .. } = call.what.purpose else { return false };
        call.failures >= self.limits.recovery_failures_max && self.channels.values().any(ChannelAccount::is_served)
    }

    fn tolerates(&self, call: &InFlight<Task>) -> bool {
        if is_mutated(Mutant::NotFoundNotTolerated) {
            return false;
        }
        match call.what.purpose {
            Purpose::Recovery { .. } | Purpose::Rejoin { .. } => call.failures < self.limits.not_found_tolerance,
            // The registration may come after the drop, and its answer before the drop's: two calls run at a time.
            Purpose::DropSegment { .. } if is_mutated(Mutant::DropOvertakes) => false,
            Purpose::DropSegment { channel, segment, .. } => self.channels.get(&channel).is_some_and(|c| {
                let known = c.segments.get(&segment).is_some_and(|s| s.registered);
                c.is_registering(segment) || (known && call.failures < SAVE_NOT_FOUND_TOLERANCE)
            }),
            Purpose::Save { channel, target, ref written } => {
                (written.rows > 0 || self.is_registered(channel, target))
                    && call.failures < SAVE_NOT_FOUND_TOLERANCE.min(self.limits.not_found_tolerance)
            }
            _ => false,
        }
    }

    fn settle(&mut self, task: Task, result: Result<Outcome, CallError>) {
        match (task.purpose, result) {
            (Purpose::VChannels { ticket }, Ok(Outcome::Reply(Reply::VChannels(names)))) => {
                let named: Vec<(ChannelIndex, String)> = names.into_iter().map(|name| (self.intern(&name), name)).collect();
                for (index, name) in &named {
                    self.account(*index, name);
                    self.introduced.insert(*index);
                    self.stored.insert((0, *index));
                }
                self.complete(ticket, IntentKind::VChannels, EVERY_CHANNEL, 0, 0, Ok(Answer::VChannels(named)));
            }
            (Purpose::Recovery { ticket, channel }, Ok(Outcome::Reply(Reply::Recovery(info)))) => self.recovered(ticket, channel, *info),
            (Purpose::Recovery { ticket, channel }, Err(error)) => self.not_recovered(ticket, channel, error),
            (Purpose::Rejoin { channel }, Ok(Outcome::Reply(Reply::Recovery(info)))) => self.rejoin_answered(channel, Ok(*info)),
            (Purpose::Rejoin { channel }, Ok(other)) => {
                let error = CallError::Permanent(format!("a recovery question was answered with {other:?}"));
                self.rejoin_answered(channel, Err(error));
            }
            (Purpose::Rejoin { channel }, Err(error)) => self.rejoin_answered(channel, Err(error)),
            (Purpose::CatchUp { .. }, Ok(_)) => {}
            (Purpose::CatchUp { channel }, Err(error)) => {
                self.detach_and_tell(channel, format!("its catch-up scan could not be opened: {error}"));
            }
            (Purpose::AppendFlush { ticket, channel, segment }, result) => {
                let outcome = result.map(|_| Answer::Nothing).map_err(refusal);
                self.complete(ticket, IntentKind::AppendFlush, channel, segment, 0, outcome);
            }
            (Purpose::LoadConsume { ticket, channels }, Ok(Outcome::Reply(Reply::Consume(stored)))) => {
                self.open_scan(ticket, &channels, stored)
            }
            (Purpose::OpenScan { ticket }, Ok(_)) => {
                self.phase = Phase::Working;
                self.complete(ticket, IntentKind::Open, EVERY_CHANNEL, 0, 0, Ok(Answer::Nothing));
            }
            (Purpose::Alloc { ticket, channel, at, segment }, Ok(_)) => {
                if let Some(account) = self.channels.get_mut(&channel) {
                    account.segment_registered(segment);
                }
                self.complete(ticket, IntentKind::AllocSegment, channel, segment, at, Ok(Answer::Nothing));
                self.run_jobs(channel, Target::Segment(segment));
            }
            (Purpose::Alloc { ticket, channel, at, segment }, Err(error)) => {
                if let CallError::Dropped(_) = error {
                    self.channel_gone(channel);
                }
                self.complete(ticket, IntentKind::AllocSegment, channel, segment, at, Err(refusal(error)));
            }
            (Purpose::Schema { channel, at }, Ok(_)) => {
                if let Some(account) = self.channels.get_mut(&channel) {
                    account.schema_recorded(at);
                }
            }
            // A replay, or the coordinator dropped the channel by itself: there is nothing to record a schema for.
            (Purpose::Schema { channel, .. }, Err(error @ CallError::Dropped(_))) => {
                self.channel_gone(channel);
                self.complete(0, IntentKind::Detach, channel, 0, 0, Err(refusal(error)));
            }
            (Purpose::Schema { channel, at }, Err(error)) => {
                self.detach_and_tell(channel, format!("the schema of message {at} was not recorded: {error}"));
            }
            (Purpose::Write { channel, target, bytes }, result) => {
                self.writing_bytes = self.writing_bytes.saturating_sub(bytes);
                self.next_write();
                self.wrote(channel, target, result);
            }
            (Purpose::Save { channel, target, written }, result) => self.saved(channel, target, written, result),
            (Purpose::Confirm { channel, target, written }, Ok(Outcome::Reply(Reply::Segment(stored)))) => {
                self.confirm(channel, target, written, stored.map(|s| *s));
            }
            (Purpose::Confirm { channel, target, .. }, Err(error)) => self.end_job(channel, target, Err(refusal(error))),
            (Purpose::DropSegment { ticket, channel, segment, at }, result) => self.segment_dropped(ticket, channel, segment, at, result),
            (Purpose::ConfirmDrop { ticket, channel, segment, at }, Ok(Outcome::Reply(Reply::Segment(stored)))) => {
                self.confirm_drop(ticket, channel, segment, at, stored.map(|s| *s));
            }
            (Purpose::ConfirmDrop { ticket, channel, segment, at }, Err(error)) => {
                self.segment_dropped(ticket, channel, segment, at, Err(error));
            }
            (Purpose::DropChannel { ticket, channel, at }, result) => self.channel_dropped(ticket, channel, at, result),
            (Purpose::Report { ticket, entries }, Ok(Outcome::Reply(Reply::Checkpoints(stored)))) => {
                self.reported(ticket, &entries, &stored)
            }
            (Purpose::Report { ticket, mut entries }, Err(_)) if entries.len() > 1 => {
                // A batch with a bad entry is split until that entry stands alone.
                let rest = entries.split_off(entries.len() / 2);
                self.begin_report(ticket, entries);
                self.begin_report(ticket, rest);
            }
            (Purpose::Report { ticket, entries }, Err(error)) => {
                self.out.push(Action::Notice(Weight::Error, format!("checkpoint of {} is refused: {error}", self.name_of(entries[0].0))));
                self.reported(ticket, &entries, &[]);
            }
            (Purpose::SaveConsume { ticket, at, position }, Ok(_)) => {
                self.out.push(Action::Truncate(position.last_confirmed.clone()));
                self.consumed = Some(position);
                self.complete(ticket, IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, at, Ok(Answer::Nothing));
            }
            (Purpose::SaveConsume { ticket, at, .. }, Err(error)) => {
                self.complete(ticket, IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, at, Err(refusal(error)));
            }
            (purpose, result) => {
                let text = format!("recovery cannot go on: {purpose:?} ended with {result:?}");
                self.lose_instance(&crate::turn::Fault::Start(text));
            }
        }
    }

    fn recovered(&mut self, ticket: Ticket, channel: ChannelIndex, info: RecoveryInfo) {
        // A channel that stands before this scan's start was not read from there: a scan of its own does it.
        let behind = self.scan_from.as_ref().is_some_and(|from| match &info.seek {
            Some(seek) => seek.last_confirmed.compare(&from.last_confirmed).is_ok_and(|o| o.is_lt()),
            None => true,
        });
        let Some(account) = self.channels.get_mut(&channel) else { return };
        if behind && account.is_live() {
            account.collection = Some(info.collection);
            account.seek = info.seek.clone();
            let reason = "it stands before the start of this scan".to_owned();
            self.detach(channel, reason);
            self.rejoin_due(channel, self.now_ms);
        }
        let outcome = match self.channels.get(&channel).map(|account| &account.standing) {
            Some(Standing::Detached { reason, .. }) => Err(Refusal::new(RefusalKind::Permanent, reason.clone())),
            _ => match self.adopt(channel, info) {
                Some(recovered) => Ok(Answer::Recovered(recovered)),
                None => return,
            },
        };
        self.complete(ticket, IntentKind::RecoveryInfo, channel, 0, 0, outcome);
    }

    /// Takes over what the coordinator knows of a channel, and says it as the component hears it.
    pub(super) fn adopt(&mut self, channel: ChannelIndex, info: RecoveryInfo) -> Option<RecoveredChannel> {
        let account = self.channels.get_mut(&channel)?;
        account.collection = Some(info.collection);
        account.seek = info.seek.clone();
        account.standing = Standing::Served;
        for (from, schema) in info.schemas {
            if account.schemas.binary_search_by_key(&from, |(f, _)| *f).is_err() {
                account.schemas.push((from, Arc::new(schema)));
            }
        }
        account.schemas.sort_by_key(|(from, _)| *from);
        let hazard = hazard_of(!account.schemas.is_empty(), &info.segments);
        let mut segments = Vec::with_capacity(info.segments.len());
        for s in info.segments {
            segments.push(RecoveredSegment {
                segment: s.segment,
                partition: s.partition,
                state: match s.state {
                    SegmentState::Growing => SegmentStanding::Growing,
                    SegmentState::Flushed => SegmentStanding::Flushed,
                    SegmentState::Dropped => SegmentStanding::Dropped,
                },
                dml_tick: s.dml.as_ref().map_or(0, |p| p.tick),
                old_architecture: !s.created_by_streaming,
            });
            let entry = account.segments.entry(s.segment).or_default();
            entry.partition = s.partition;
            entry.dropped = s.state == SegmentState::Dropped;
            entry.storage_version = s.storage_version;
            entry.recovered_dml = s.dml.clone();
            entry.dml = s.dml;
            entry.start = s.start.or(entry.start.take());
            entry.files = s.files;
            entry.rows = s.rows;
            let id = s.segment;
            account.segment_registered(id);
            if s.state != SegmentState::Growing {
                account.segment_ended(id);
            }
        }
        account.settle_controls(|w| *w == Wait::Standing);
        self.check_pinned(channel);
        Some(RecoveredChannel { collection: info.collection, seek_tick: info.seek.map_or(0, |p| p.tick), segments, hazard })
    }

    fn not_recovered(&mut self, ticket: Ticket, channel: ChannelIndex, error: CallError) {
        if let Some(account) = self.channels.get_mut(&channel).filter(|c| c.is_live()) {
            match &error {
                CallError::Dropped(_) => account.standing = Standing::Dropped,
                CallError::NotFound(_) => account.standing = Standing::NotFound,
                // The channel begins in this scan, with the CreateCollection that waits for this answer.
                CallError::NotAvailable(_) => {
                    let begins = account.pins.values().find(|p| matches!(&p.what, Pinned::Control(w) if w.contains(&Wait::Standing)));
                    if let Some(pin) = begins {
                        account.seek = Some(pin.position.clone());
                        account.standing = Standing::Served;
                        account.settle_controls(|w| *w == Wait::Standing);
                    } else if self.scan_from.is_none() && account.first.is_none() {
                        self.channels.remove(&channel);
                        self.introduced.remove(&channel);
                        self.stored.remove(&(0, channel));
                    }
                }
                _ => {}
            }
        }
        if matches!(error, CallError::Dropped(_) | CallError::NotFound(_)) {
            self.hold_no_more(channel);
        }
        self.complete(ticket, IntentKind::RecoveryInfo, channel, 0, 0, Err(refusal(error)));
    }

    /// The scan starts at the smaller of the stored consume checkpoint and the channels' seek positions; without channels at the stored
    /// one; without either at the earliest record.
    fn open_scan(&mut self, ticket: Ticket, channels: &[ChannelIndex], stored: Option<Position>) {
        let listed: BTreeSet<ChannelIndex> = channels.iter().copied().collect();
        let left_out: Vec<ChannelIndex> =
            self.channels.values().filter(|c| c.is_served() && !listed.contains(&c.index)).map(|c| c.index).collect();
        for index in left_out {
            self.detach_and_tell(index, "the component left it out of the scan".to_owned());
        }
        self.consumed = stored.clone();
        let mut from = stored;
        let mut earliest = from.is_none() && channels.is_empty();
        for index in channels {
            let Some(account) = self.channels.get(index).filter(|c| c.is_served()) else { continue };
            match (&account.seek, &from) {
                (None, _) => earliest = true,
                (Some(seek), None) => from = Some(seek.clone()),
                (Some(seek), Some(smallest)) => match seek.last_confirmed.compare(&smallest.last_confirmed) {
                    Ok(order) if order.is_lt() != is_mutated(Mutant::LargerStart) => from = Some(seek.clone()),
                    Ok(_) => {}
                    // CK-4: ids of different logs are never compared.
                    Err(error) => {
                        let refusal = Refusal::new(RefusalKind::Permanent, format!("channel {}: {error}", account.name));
                        self.complete(ticket, IntentKind::Open, EVERY_CHANNEL, 0, 0, Err(refusal));
                        return;
                    }
                },
            }
        }
        let from = if earliest { None } else { from };
        self.scan_from = from.clone();
        self.begin(Purpose::OpenScan { ticket }, Work::OpenScan { scan: self.scan, from });
    }

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

    fn wrote(&mut self, channel: ChannelIndex, target: Target, result: Result<Outcome, CallError>) {
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

    fn saved(&mut self, channel: ChannelIndex, target: Target, written: Written, result: Result<Outcome, CallError>) {
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
    fn is_registered(&self, channel: ChannelIndex, target: Target) -> bool {
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
        self.end_job(channel, target, Err(Refusal::new(RefusalKind::NotFound, why)));
        if let (Target::Segment(id), 0, Some(account)) = (target, written.rows, self.channels.get_mut(&channel)) {
            account.segment_unknown(id);
        }
    }

    fn confirm(&mut self, channel: ChannelIndex, target: Target, written: Written, stored: Option<SegmentInfo>) {
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

    /// Ends the sync that runs, and begins the next one.
    fn end_job(&mut self, channel: ChannelIndex, target: Target, outcome: Result<u64, Refusal>) {
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let Some(Job { ticket, up_to, flush, batch, .. }) = account.jobs(target).pop_front() else { return };
        let (kind, segment) = match target {
            Target::Segment(id) => (IntentKind::Sync, id),
            Target::Deletes(partition) => (IntentKind::SyncDeletes, partition),
        };
        if outcome.is_ok() {
            account.sync_ended(target, up_to);
        } else {
            if !is_mutated(Mutant::ForgetRestage) {
                account.restage(target, &batch);
            }
            if let (Target::Segment(id), true) = (target, flush)
                && let Some(s) = account.segments.get_mut(&id)
            {
                s.sealed = s.ended;
            }
        }
        self.complete(ticket, kind, channel, segment, up_to, outcome.map(Answer::Synced));
        self.run_jobs(channel, target);
    }

    fn segment_dropped(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, at: Ordinal, result: Result<Outcome, CallError>) {
        if let Ok(Outcome::Reply(Reply::Ignored(_))) = result {
            // It is dropped already, or a sync that ran meanwhile got ahead of the drop.
            return self.begin(Purpose::ConfirmDrop { ticket, channel, segment, at }, Work::Call(Call::Segment { segment }));
        }
        let outcome = match result {
            Ok(_) | Err(CallError::NotFound(_)) => {
                if let Some(account) = self.channels.get_mut(&channel) {
                    let known_dropped = account.segments.get(&segment).is_some_and(|s| s.dropped);
                    let reason = if known_dropped { FilterReason::DroppedSegment } else { FilterReason::DroppedPartition };
                    let rows: Vec<Ordinal> = account
                        .pins
                        .iter()
                        .filter(|(_, p)| matches!(p.what, Pinned::Rows { segment: s, .. } if s == segment))
                        .map(|(&o, _)| o)
                        .collect();
                    rows.into_iter().for_each(|o| account.unpin(o, End::Filtered(reason)));
                    account.segment_registered(segment);
                    account.segment_ended(segment);
                }
                Ok(Answer::Nothing)
            }
            Err(error) => Err(refusal(error)),
        };
        self.complete(ticket, IntentKind::DropSegment, channel, segment, at, outcome);
    }

    /// Drops a segment as it is stored now, unless it is gone by now.
    fn confirm_drop(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, at: Ordinal, stored: Option<SegmentInfo>) {
        let Some(SegmentInfo { dml: Some(dml), .. }) = stored.as_ref().filter(|s| s.state != SegmentState::Dropped) else {
            return self.segment_dropped(ticket, channel, segment, at, Ok(Outcome::Reply(Reply::Done)));
        };
        let dml = dml.clone();
        let Some(s) = stored else { return };
        let save = SaveBinlogPaths {
            segment,
            collection: s.collection,
            partition: s.partition,
            vchannel: s.vchannel,
            level: s.level,
            storage_version: s.storage_version,
            files: s.files,
            dml,
            start: s.start,
            rows: s.rows,
            flushed: false,
            dropped: true,
        };
        self.begin(Purpose::DropSegment { ticket, channel, segment, at }, Work::Call(Call::SaveBinlogPaths(Box::new(save))));
    }

    fn channel_dropped(&mut self, ticket: Ticket, channel: ChannelIndex, at: Ordinal, result: Result<Outcome, CallError>) {
        let outcome = match result {
            Ok(_) | Err(CallError::NotFound(_) | CallError::Dropped(_)) => {
                self.channel_gone(channel);
                Ok(Answer::Nothing)
            }
            Err(error) => Err(refusal(error)),
        };
        self.complete(ticket, IntentKind::DropChannel, channel, 0, at, outcome);
    }

    /// The coordinator says that a channel is dropped: its rows end here, and it holds nothing any more.
    fn channel_gone(&mut self, channel: ChannelIndex) {
        // Of a detached one the component takes no messages any more: its catch-up, or the next recovery, ends it.
        if !self.channels.get(&channel).is_some_and(|c| c.is_live() && !is_mutated(Mutant::DroppedStays)) {
            return;
        }
        self.hold_no_more(channel);
        if let Some(account) = self.channels.get_mut(&channel) {
            account.standing = Standing::Dropped;
            account.end_all(FilterReason::DroppedChannel);
            self.forget_work(channel);
        }
    }

    /// CK-3: a channel that is gone holds nothing, and what it missed while it was detached is nobody's.
    pub(super) fn hold_no_more(&mut self, channel: ChannelIndex) {
        self.end_catch_up(channel);
        self.forget_tries(channel);
        if let Some(account) = self.channels.get_mut(&channel) {
            self.stored.remove(&(account.hold(), channel));
            account.rejoin = None;
        }
        self.detached.retain(|&(_, index)| index != channel);
    }

    /// A report counts only as far as it was read back: a coordinator may drop it silently.
    fn reported(&mut self, ticket: Ticket, entries: &[(ChannelIndex, Ordinal, Position)], stored: &[Result<Option<Position>, CallError>]) {
        let mut answered = Vec::with_capacity(entries.len());
        let mut healed = Vec::new();
        for (nth, (channel, at, position)) in entries.iter().enumerate() {
            let Some(account) = self.channels.get_mut(channel) else { continue };
            if let Some(Ok(Some(read_back))) = stored.get(nth)
                && (read_back.tick >= position.tick || is_mutated(Mutant::TrustReports))
                && account.is_served()
                && *at > account.stored
            {
                self.stored.remove(&(account.hold(), *channel));
                account.checkpoint_stored(*at, position.clone());
                self.stored.insert((account.hold(), *channel));
                healed.push(*channel);
            }
            answered.push((*channel, account.stored));
        }
        healed.into_iter().for_each(|channel| self.note_healed(channel));
        self.complete(ticket, IntentKind::Report, EVERY_CHANNEL, 0, 0, Ok(Answer::Checkpoints(answered)));
    }
}

/// Why a channel cannot be served as its coordinator knows it.
pub(super) fn hazard_of(knows_schema: bool, segments: &[SegmentInfo]) -> Option<String> {
    let foreign = segments.iter().find(|s| s.state == SegmentState::Growing && !storage_version::is_known(s.storage_version));
    match foreign {
        _ if !knows_schema => Some("the coordinator has no schema for the channel".to_owned()),
        Some(s) => Some(unsupported_version(s.segment, s.storage_version)),
        None => None,
    }
}

/// Why a segment's rows cannot be written.
pub(super) fn unsupported_version(segment: i64, storage_version: i64) -> String {
    format!("segment {segment} has storage version {storage_version}; only 0, one file a field, and 2, packed, are written")
}

fn name(work: &Work) -> &'static str {
    match work {
        Work::Call(call) => call.name(),
        Work::Write(_) => "segment write",
        Work::AppendFlush { .. } => "append of a flush message",
        Work::OpenScan { .. } => "opening of the scan",
        Work::OpenCatchUp { .. } => "opening of a catch-up scan",
    }
}

pub(super) fn refusal(error: CallError) -> Refusal {
    let kind = match &error {
        CallError::NotFound(_) => RefusalKind::NotFound,
        CallError::NotAvailable(_) => RefusalKind::NotAvailable,
        CallError::Dropped(_) => RefusalKind::Dropped,
        CallError::Transient(_) | CallError::Fenced(_) | CallError::Permanent(_) => RefusalKind::Permanent,
    };
    Refusal::new(kind, error.to_string())
}
