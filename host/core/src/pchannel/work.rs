//! Calls and writes: what their ends mean for pins, accounts and completions.

use super::{Action, Instance, Outcome, Pchannel, Phase, Weight, Work, Written};
use crate::account::{ChannelAccount, Pinned, Standing, Target};
use crate::calls::{Call, CallError, Position, Reply, SaveBinlogPaths, SegmentInfo, SegmentState};
use crate::ledger::End;
use crate::mutants::{Mutant, is_mutated};
use crate::retry::{CallId, DEADLINE_MS, InFlight};
use crate::turn::{Answer, ChannelIndex, EVERY_CHANNEL, FilterReason, IntentKind, Ordinal, Refusal, RefusalKind, Ticket};

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
        let has_deadline = matches!(work, Work::Call(_) | Work::AppendFlush { .. }) && !is_mutated(Mutant::NoDeadline);
        let deadline = has_deadline.then(|| self.now_ms.saturating_add(DEADLINE_MS));
        let owner = self.calls.get(id).and_then(|call| owner(&call.what.purpose, &work));
        self.calls.sent(id, owner, deadline);
        self.out.push(Action::Begin { id, work });
    }

    /// Calls without an answer count as failed, and are made again: every call may be repeated.
    pub(super) fn give_up_overdue(&mut self) {
        for (id, call) in self.calls.overdue(self.now_ms) {
            // The next recovery asks for what is still wanted: it begins when nothing is out.
            if matches!(self.phase, Phase::Backoff(_)) && !is_mutated(Mutant::MadeAgainInBackoff) {
                continue;
            }
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
            _ => self.is_for_nobody(purpose),
        }
    }

    /// Whether the work is for a channel that is not served any more. It may not be made again: the channel's new account begins with what the
    /// coordinator says once nothing of the old one is at it.
    fn is_for_nobody(&self, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Recovery { .. } | Purpose::Rejoin { .. } | Purpose::CatchUp { .. } => false,
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
        // What a recovery waits for is of no interest any more, and is not tried again: it would outlive its scan.
        let recovers = matches!(self.instance, Instance::Absent(_)) && !is_mutated(Mutant::WorkOutlivesScan);
        if self.is_over() || recovers || call.what.scan != self.scan || matches!(self.phase, Phase::Backoff(_)) {
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
            Err(CallError::NotFound(why)) if !self.is_for_nobody(&call.what.purpose) && self.tolerates(&call) => {
                self.calls.disbelieve(id, call, why, self.now_ms);
            }
            Ok(Outcome::Reply(Reply::Segment(found)))
                if !self.is_for_nobody(&call.what.purpose) && self.doubts(&call, found.as_deref()) =>
            {
                self.calls.disbelieve(id, call, "a segment is not shown as it was said to be".to_owned(), self.now_ms);
            }
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
            Purpose::Recovery { .. } | Purpose::Rejoin { .. } => call.disbelieved < self.limits.not_found_tolerance,
            // The registration may come after the drop, and its answer before the drop's: two calls run at a time.
            Purpose::DropSegment { .. } if is_mutated(Mutant::DropOvertakes) => false,
            Purpose::DropSegment { channel, segment, .. } => self.channels.get(&channel).is_some_and(|c| {
                let known = c.segments.get(&segment).is_some_and(|s| s.registered);
                c.is_registering(segment) || (known && call.disbelieved < SAVE_NOT_FOUND_TOLERANCE)
            }),
            Purpose::Save { channel, target, ref written } => {
                (written.rows > 0 || self.is_registered(channel, target))
                    && call.disbelieved < SAVE_NOT_FOUND_TOLERANCE.min(self.limits.not_found_tolerance)
            }
            _ => false,
        }
    }

    /// Whether a segment is asked for again when it is read back: the peer has just said that it keeps what it had of it, so an answer without
    /// that may be an older one. CK-2.
    fn doubts(&self, call: &InFlight<Task>, found: Option<&SegmentInfo>) -> bool {
        let is_old = match call.what.purpose {
            Purpose::Confirm { .. } => found.is_none(),
            Purpose::ConfirmDrop { .. } => found.is_none_or(|s| s.state != SegmentState::Dropped && s.dml.is_none()),
            _ => false,
        };
        is_old && !is_mutated(Mutant::ReadBackBelieved) && call.disbelieved < SAVE_NOT_FOUND_TOLERANCE.min(self.limits.not_found_tolerance)
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
                if let Err(error) = result {
                    let text = format!("segment {segment} of the old architecture stays unsealed: {error}");
                    self.out.push(Action::Notice(Weight::Error, text));
                }
                if is_mutated(Mutant::AppendsAwaited) {
                    self.complete(ticket, IntentKind::AppendFlush, channel, segment, 0, Ok(Answer::Nothing));
                }
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
                let live = self.channels.get(&channel).is_some_and(ChannelAccount::is_live);
                self.channel_gone(channel);
                if live {
                    self.complete(0, IntentKind::Detach, channel, 0, 0, Err(refusal(error)));
                }
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

    fn segment_dropped(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, at: Ordinal, result: Result<Outcome, CallError>) {
        if let Ok(Outcome::Reply(Reply::Ignored(_))) = result
            && !is_mutated(Mutant::DropIgnoredIsDone)
        {
            // It is dropped already, or a sync that ran meanwhile got ahead of the drop.
            return self.begin(Purpose::ConfirmDrop { ticket, channel, segment, at }, Work::Call(Call::Segment { segment }));
        }
        let registered = self.is_registered(channel, Target::Segment(segment));
        let outcome = match result {
            // It was there: a drop that nobody has heard of is not done (CK-2).
            Err(CallError::NotFound(why)) if registered && !is_mutated(Mutant::DropOvertakes) => {
                Err(Refusal::new(RefusalKind::Permanent, format!("the coordinator has forgotten a segment: {why}")))
            }
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

    /// Drops a segment as it is stored now, unless it is dropped by now. One that the peer keeps and does not show is not done (CK-2).
    fn confirm_drop(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, at: Ordinal, stored: Option<SegmentInfo>) {
        let is_dropped = |s: &SegmentInfo| s.state == SegmentState::Dropped;
        if stored.as_ref().map_or(is_mutated(Mutant::ReadBackBelieved), is_dropped) {
            return self.segment_dropped(ticket, channel, segment, at, Ok(Outcome::Reply(Reply::Done)));
        }
        if !self.channels.get(&channel).is_some_and(ChannelAccount::is_served) {
            // Its channel was given up meanwhile: whoever reads it again drops the segment again, from what stands then.
            let error = CallError::Permanent("the channel is not served".to_owned());
            return self.segment_dropped(ticket, channel, segment, at, Err(error));
        }
        let Some((s, dml)) = stored.and_then(|s| s.dml.clone().map(|dml| (s, dml))) else {
            let error = CallError::Permanent(format!("the coordinator keeps what it has of segment {segment} and does not show it"));
            return self.segment_dropped(ticket, channel, segment, at, Err(error));
        };
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
        // Of a detached one the component takes no messages any more, and holds the consume checkpoint: both end when it is asked for again.
        if self.channels.get(&channel).is_some_and(|c| matches!(c.standing, Standing::Detached { .. })) {
            return self.rejoin_due(channel, self.now_ms);
        }
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

/// Why a segment's rows cannot be written.
pub(super) fn unsupported_version(segment: i64, storage_version: i64) -> String {
    format!("segment {segment} has storage version {storage_version}; only 0, one file a field, and 2, packed, are written")
}

pub(super) fn name(work: &Work) -> &'static str {
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
