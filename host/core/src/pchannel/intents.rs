//! The guard: what a component wants, checked against what the host knows, and applied. It does not trust the component (principle 5).

use std::collections::BTreeSet;

use super::work::Purpose;
use super::{Action, Pchannel, Weight, Work};
use crate::account::{ChannelAccount, Job, Pin, Pinned, Standing, Target, Wait};
use crate::calls::{Call, Position, SaveBinlogPaths};
use crate::ledger::End;
use crate::mutants::{Mutant, is_mutated};
use crate::switches::{Switch, is_on};
use crate::turn::{Answer, ChannelIndex, EVERY_CHANNEL, FilterReason, Filtered, Intent, IntentKind, Ordinal, Refusal, RefusalKind, Ticket};

/// What is wanted for a channel that is not served.
const NOT_SERVED: &str = "the channel is not served";

impl Pchannel {
    /// Applies one intent of a finished turn.
    pub(super) fn apply(&mut self, ticket: Ticket, intent: &Intent) {
        let refused = match intent {
            Intent::VChannels => {
                self.begin(Purpose::VChannels { ticket }, Work::Call(Call::VChannels));
                Ok(())
            }
            Intent::RecoveryInfo(channel) => self.ask(ticket, *channel),
            Intent::AppendFlush { channel, partition, segment } => self.append_flush(ticket, *channel, *partition, *segment),
            Intent::Open(channels) => {
                let purpose = Purpose::LoadConsume { ticket, channels: channels.clone() };
                self.begin(purpose, Work::Call(Call::LoadConsume));
                Ok(())
            }
            Intent::AllocSegment { channel, at } => self.alloc(ticket, *channel, *at),
            Intent::Sync { channel, segment, up_to, flush } => self.sync(ticket, *channel, *segment, *up_to, *flush),
            Intent::SyncDeletes { channel, partition, up_to } => self.sync_deletes(ticket, *channel, *partition, *up_to),
            Intent::DropSegment { channel, segment, at } => self.drop_segment(ticket, *channel, *segment, *at),
            Intent::DropChannel { channel, at } => self.drop_channel(ticket, *channel, *at),
            Intent::Filter(runs) => {
                runs.iter().for_each(|run| self.filter(run));
                Ok(())
            }
            Intent::Detach { channel, reason } => {
                self.detach(*channel, reason.clone());
                Ok(())
            }
            Intent::Report(checkpoints) => self.report(ticket, checkpoints),
            Intent::SaveCheckpoint(at) => self.save_consume(ticket, *at),
        };
        if let Err(detail) = refused {
            self.refuse(ticket, intent, detail);
        }
    }

    fn refuse(&mut self, ticket: Ticket, intent: &Intent, detail: String) {
        let (kind, channel, segment, up_to) = match intent {
            Intent::VChannels => (IntentKind::VChannels, EVERY_CHANNEL, 0, 0),
            Intent::RecoveryInfo(channel) => (IntentKind::RecoveryInfo, *channel, 0, 0),
            Intent::AppendFlush { channel, segment, .. } => (IntentKind::AppendFlush, *channel, *segment, 0),
            Intent::Open(_) => (IntentKind::Open, EVERY_CHANNEL, 0, 0),
            Intent::AllocSegment { channel, at } => (IntentKind::AllocSegment, *channel, 0, *at),
            Intent::Sync { channel, segment, up_to, .. } => (IntentKind::Sync, *channel, *segment, *up_to),
            Intent::SyncDeletes { channel, partition, up_to } => (IntentKind::SyncDeletes, *channel, *partition, *up_to),
            Intent::DropSegment { channel, segment, at } => (IntentKind::DropSegment, *channel, *segment, *at),
            Intent::DropChannel { channel, at } => (IntentKind::DropChannel, *channel, 0, *at),
            Intent::Filter(_) | Intent::Detach { .. } => return,
            Intent::Report(_) => (IntentKind::Report, EVERY_CHANNEL, 0, 0),
            Intent::SaveCheckpoint(at) => (IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, *at),
        };
        if !self.is_news(channel, &detail) {
            self.counters.guard_refusals += 1;
            self.out.push(Action::Notice(Weight::Error, format!("the guard refuses {kind:?} of {}: {detail}", self.name_of(channel))));
        }
        self.complete(ticket, kind, channel, segment, up_to, Err(Refusal::new(RefusalKind::Guard, detail)));
    }

    /// Whether something is refused for a channel that the host gave up by itself: the component hears of that with its next turn.
    fn is_news(&self, channel: ChannelIndex, detail: &str) -> bool {
        let given_up = self.channels.get(&channel).is_some_and(|c| !c.is_served() && c.standing != Standing::Unknown);
        detail == NOT_SERVED && given_up && !is_mutated(Mutant::GuardBlames)
    }

    pub(super) fn name_of(&self, channel: ChannelIndex) -> String {
        self.channels.get(&channel).map_or_else(|| format!("pchannel {}", self.caller.pchannel), |c| format!("channel {}", c.name))
    }

    fn ask(&mut self, ticket: Ticket, channel: ChannelIndex) -> Result<(), String> {
        let account = self.channels.get(&channel).ok_or("no such channel")?;
        let detached = match &account.standing {
            Standing::Detached { reason, .. } => Some(Err(Refusal::new(RefusalKind::Permanent, reason.clone()))),
            _ => None,
        };
        let vchannel = account.name.clone();
        if let Some(known) = detached.or_else(|| self.take_answer(channel)) {
            self.complete(ticket, IntentKind::RecoveryInfo, channel, 0, 0, known);
            return Ok(());
        }
        self.begin(Purpose::Recovery { ticket, channel }, Work::Call(Call::RecoveryInfo { vchannel }));
        Ok(())
    }

    fn append_flush(&mut self, ticket: Ticket, channel: ChannelIndex, partition: i64, segment: i64) -> Result<(), String> {
        let account = self.channels.get(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        account.segments.get(&segment).filter(|s| s.registered && !s.ended).ok_or_else(|| format!("segment {segment} is not growing"))?;
        let collection = account.collection.unwrap_or_default();
        let work = Work::AppendFlush { vchannel: account.name.clone(), collection, partition, segment };
        self.begin(Purpose::AppendFlush { ticket, channel, segment }, work);
        // Nobody waits for it: a log that takes no messages, since nobody drains it, would never be drained.
        if !is_mutated(Mutant::AppendsAwaited) {
            self.complete(ticket, IntentKind::AppendFlush, channel, segment, 0, Ok(Answer::Nothing));
        }
        Ok(())
    }

    fn alloc(&mut self, ticket: Ticket, channel: ChannelIndex, at: Ordinal) -> Result<(), String> {
        let account = self.channels.get(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        let pin = account.pins.get(&at).filter(|_| at <= self.handed).ok_or_else(|| format!("message {at} waits for nothing"))?;
        let Pinned::Control(waits) = &pin.what else { return Err(format!("message {at} is not a CreateSegment")) };
        let wait = waits.iter().find_map(|w| match w {
            Wait::Alloc { segment, partition, storage_version } => Some((*segment, *partition, *storage_version)),
            _ => None,
        });
        let (segment, partition, storage_version) = wait.ok_or_else(|| format!("message {at} is not a CreateSegment"))?;
        let call = Call::AllocSegment(crate::calls::AllocSegment {
            collection: pin.collection,
            partition,
            segment,
            vchannel: account.name.clone(),
            storage_version,
        });
        self.begin(Purpose::Alloc { ticket, channel, at, segment }, Work::Call(call));
        if let Some(account) = self.channels.get_mut(&channel) {
            let s = account.segments.entry(segment).or_default();
            s.partition = partition;
            s.storage_version = storage_version;
            s.met = true;
        }
        Ok(())
    }

    fn sync(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, up_to: Ordinal, flush: bool) -> Result<(), String> {
        self.delivered(up_to)?;
        let account = self.channels.get_mut(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        // Whether a message up to here completes the segment, or did so before its creation was filtered or the coordinator knew nothing of it.
        let completes = |p: &Pin| match &p.what {
            Pinned::Control(waits) => waits.iter().any(|w| matches!(w, Wait::Complete(segments) if segments.contains(&segment))),
            _ => false,
        };
        let nobodys = account.not_created.contains(&segment) || account.unknown_segments.contains(&segment);
        let named = flush && (nobodys || account.pins.range(..=up_to).any(|(_, p)| completes(p)));
        if !account.segments.contains_key(&segment) && !named {
            return Err(format!("segment {segment} is not of this channel"));
        }
        let s = account.segments.entry(segment).or_default();
        if flush && s.ended && s.staged.front().is_none_or(|&o| o > up_to) {
            // A repeated Flush: it stands already.
            self.complete(ticket, IntentKind::Sync, channel, segment, up_to, Ok(Answer::Synced(0)));
            return Ok(());
        }
        if s.dropped && !is_mutated(Mutant::GuardBlames) {
            // Rows of it came in while its drop was under way: the coordinator's word is said again, and is no fault of the component.
            let refusal = Refusal::new(RefusalKind::Dropped, format!("the coordinator lists segment {segment} as dropped"));
            self.complete(ticket, IntentKind::Sync, channel, segment, up_to, Err(refusal));
            return Ok(());
        }
        if let Some(refusal) = s.refused.clone() {
            // The turn that wants this began before the component heard of it.
            self.complete(ticket, IntentKind::Sync, channel, segment, up_to, Err(refusal));
            return Ok(());
        }
        if s.sealed {
            return match s.staged.front().filter(|&&o| o <= up_to).copied() {
                Some(later) => self.after_flush(ticket, channel, segment, (up_to, later)),
                None => Err(format!("segment {segment} is sealed already")),
            };
        }
        // The dml position covers a whole tick: a batch that ended inside a group would make duplicates of the rest of it (FL-2).
        let taken = s.staged.partition_point(|&o| o <= up_to);
        let tick_of = |at: Option<&Ordinal>| at.and_then(|o| account.pins.get(o)).map(|p| p.position.tick);
        let (last, next) = (tick_of(taken.checked_sub(1).and_then(|at| s.staged.get(at))), tick_of(s.staged.get(taken)));
        if last.is_some() && last == next {
            return Err(format!("message {up_to} lies inside a group: rows of segment {segment} with the same tick come after it"));
        }
        if flush && let Some(&later) = s.staged.back().filter(|&&o| o > up_to && !is_on(Switch::FlushWithStagedRows)) {
            let ends_segments = |waits: &[Wait]| waits.iter().any(|w| matches!(w, Wait::Complete(_)));
            // The flush of one that was complete before may be waited for by nobody.
            let is_known = s.registered || account.is_registering(segment);
            return match account.pins.get(&up_to).map(|pin| &pin.what) {
                Some(Pinned::Control(waits)) if ends_segments(waits) => self.after_flush(ticket, channel, segment, (up_to, later)),
                waits if waits.is_none() || !is_known => self.after_flush(ticket, channel, segment, (up_to, later)),
                _ => Err(format!("segment {segment} would be complete with message {later} staged after {up_to}")),
            };
        }
        s.sealed = flush;
        s.jobs.push_back(Job { ticket, up_to, flush, batch: Vec::new(), running: false });
        self.run_jobs(channel, Target::Segment(segment));
        Ok(())
    }

    /// The log has rows for a segment after its flush: that is no fault of the component, and nothing that it can mend.
    fn after_flush(
        &mut self,
        ticket: Ticket,
        channel: ChannelIndex,
        segment: i64,
        (up_to, later): (Ordinal, Ordinal),
    ) -> Result<(), String> {
        let detail = format!("message {later} inserts into segment {segment} after its flush");
        self.complete(ticket, IntentKind::Sync, channel, segment, up_to, Err(Refusal::new(RefusalKind::Permanent, detail)));
        Ok(())
    }

    fn sync_deletes(&mut self, ticket: Ticket, channel: ChannelIndex, partition: i64, up_to: Ordinal) -> Result<(), String> {
        self.delivered(up_to)?;
        let account = self.channels.get_mut(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        let deletes = account.deletes.get_mut(&partition).ok_or_else(|| format!("no deletes are staged for partition {partition}"))?;
        deletes.jobs.push_back(Job { ticket, up_to, flush: true, batch: Vec::new(), running: false });
        self.run_jobs(channel, Target::Deletes(partition));
        Ok(())
    }

    fn drop_segment(&mut self, ticket: Ticket, channel: ChannelIndex, segment: i64, at: Ordinal) -> Result<(), String> {
        self.delivered(at)?;
        let handed = self.handed;
        let fallback = self.channels.get(&channel).and_then(|c| self.position_for(c, at));
        let account = self.channels.get_mut(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        let s = account.segments.get_mut(&segment).ok_or_else(|| format!("segment {segment} is not of this channel"))?;
        let partition_dropped = account.dropped_partitions.get(&s.partition).is_some_and(|&o| o <= at && o <= handed);
        if !(partition_dropped || s.dropped) {
            return Err(format!("segment {segment} is of partition {}, which is not dropped", s.partition));
        }
        let dml = s.dml.clone().or(fallback).or_else(|| account.seek.clone()).ok_or("no position for the segment")?;
        let save = SaveBinlogPaths {
            segment,
            collection: account.collection.unwrap_or_default(),
            partition: s.partition,
            vchannel: account.name.clone(),
            level: crate::calls::Level::L1,
            storage_version: s.storage_version,
            files: s.files.clone(),
            dml,
            start: s.start.clone(),
            rows: s.rows,
            flushed: false,
            dropped: true,
        };
        s.sealed = true;
        let call = Call::SaveBinlogPaths(Box::new(save));
        self.begin(Purpose::DropSegment { ticket, channel, segment, at }, Work::Call(call));
        Ok(())
    }

    fn drop_channel(&mut self, ticket: Ticket, channel: ChannelIndex, at: Ordinal) -> Result<(), String> {
        self.delivered(at)?;
        let account = self.channels.get(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        if account.drop_message != Some(at) {
            return Err(format!("message {at} is not the channel's DropCollection"));
        }
        let call = Call::DropChannel { vchannel: account.name.clone() };
        self.begin(Purpose::DropChannel { ticket, channel, at }, Work::Call(call));
        Ok(())
    }

    /// Ends the messages of a run for which the reason holds; the others stay pinned (LD-1: a row is filtered only for a checked reason).
    fn filter(&mut self, run: &Filtered) {
        if run.first > run.last || run.last > self.handed {
            self.counters.guard_refusals += 1;
            let text = format!("the guard refuses to filter messages {} to {}: they were not delivered", run.first, run.last);
            return self.out.push(Action::Notice(Weight::Error, text));
        }
        let Some(account) = self.channels.get_mut(&run.channel) else { return };
        let mut first_refusal = None;
        let mut held = Vec::new();
        for (&ordinal, pin) in account.pins.range(run.first..=run.last) {
            // Its unknown segments are forgotten, and it waits for something else.
            if run.reason == FilterReason::UnknownSegment && pin.is_past_its_segments() {
                continue;
            }
            match account.may_filter(ordinal, pin, run.reason) {
                Ok(()) => held.push(ordinal),
                Err(_) if is_on(Switch::TrustFilters) => held.push(ordinal),
                Err(why) => {
                    self.counters.guard_refusals += 1;
                    first_refusal.get_or_insert(why);
                }
            }
        }
        for ordinal in held {
            let created = account.pins.get(&ordinal).and_then(Pin::alloc_wait);
            account.unpin(ordinal, End::Filtered(run.reason));
            created.into_iter().for_each(|segment| account.segment_not_created(segment));
        }
        if let Some(why) = first_refusal {
            self.out.push(Action::Notice(Weight::Error, format!("the guard refuses to filter on {}: {why}", self.name_of(run.channel))));
        }
    }

    fn report(&mut self, ticket: Ticket, checkpoints: &[(ChannelIndex, Ordinal)]) -> Result<(), String> {
        let mut entries = Vec::new();
        let mut answered = Vec::new();
        for &(channel, at) in checkpoints {
            match self.may_report(channel, at) {
                Ok(Some((at, position))) => entries.push((channel, at, position)),
                Ok(None) => answered.push((channel, self.channels.get(&channel).map_or(0, |c| c.stored))),
                Err(why) if self.is_news(channel, &why) => answered.push((channel, self.channels.get(&channel).map_or(0, |c| c.stored))),
                Err(why) => {
                    let stored = self.channels.get(&channel).map_or(0, |c| c.stored);
                    answered.push((channel, stored));
                    self.counters.guard_refusals += 1;
                    let text = format!("the guard refuses checkpoint {at} of {}: {why}", self.name_of(channel));
                    self.out.push(Action::Notice(Weight::Error, text));
                }
            }
        }
        if !answered.is_empty() {
            self.complete(ticket, IntentKind::Report, EVERY_CHANNEL, 0, 0, Ok(Answer::Checkpoints(answered)));
        }
        if !entries.is_empty() {
            self.begin_report(ticket, entries);
        }
        Ok(())
    }

    pub(super) fn begin_report(&mut self, ticket: Ticket, entries: Vec<(ChannelIndex, Ordinal, Position)>) {
        let named = entries.iter().filter_map(|(c, _, p)| Some((self.channels.get(c)?.name.clone(), p.clone()))).collect();
        self.begin(Purpose::Report { ticket, entries }, Work::Call(Call::ReportCheckpoints(named)));
    }

    /// CK-1, CK-2: the checkpoint moves forward, and nothing that is not verified lies before it. Where the host waits for something that no
    /// component has to do, it goes as far as that. `None` is no fault of the component, and has no effect: it cannot know what ended since
    /// its turn began, nor that its report stands already.
    fn may_report(&self, channel: ChannelIndex, at: Ordinal) -> Result<Option<(Ordinal, Position)>, String> {
        self.delivered(at)?;
        let account = self.channels.get(&channel).filter(|c| c.is_served()).ok_or(NOT_SERVED)?;
        if at <= account.stored && !is_on(Switch::CheckpointsMoveBack) {
            let stands = at == account.stored;
            return if stands { Ok(None) } else { Err(format!("it would not move forward from {}", account.stored)) };
        }
        let floor = account.floor().filter(|&floor| at > floor && !is_on(Switch::IgnorePins));
        if let Some((floor, pin)) = floor.and_then(|floor| Some((floor, account.pins.get(&floor)?))) {
            let (host_waits, forward) = (pin.waits_for_the_host_alone(), floor > account.stored);
            let as_far = || forward.then(|| (floor, pin.position.clone()));
            return if host_waits && !is_mutated(Mutant::GuardBlames) {
                Ok(as_far())
            } else {
                Err(format!("message {floor} is not finished"))
            };
        }
        let position = account.pins.get(&at).map(|pin| pin.position.clone()).or_else(|| self.position_for(account, at));
        Ok(position.map(|position| (at, position)))
    }

    /// CK-3: never past a live channel's checkpoint as read back, nor past a detached channel.
    fn save_consume(&mut self, ticket: Ticket, at: Ordinal) -> Result<(), String> {
        self.delivered(at)?;
        let first = |set: &BTreeSet<(Ordinal, ChannelIndex)>| set.first().and_then(|&(at, c)| Some((at, self.channels.get(&c)?)));
        let holding = [first(&self.detached), first(&self.stored)];
        let smallest = holding.into_iter().flatten().map(|(at, c)| (at, &c.name)).min();
        if let Some((held, name)) = smallest.filter(|&(held, _)| at > held && !is_on(Switch::ConsumeAhead)) {
            let why = format!("channel {name} holds it at {held}, {at} was asked for");
            // One that waits to be handed out for the first time: the component does not know it yet.
            let unseen = |c: &ChannelAccount| c.name == *name && c.first.is_some_and(|first| first > self.handed);
            return if holding[1].is_some_and(|(_, c)| unseen(c)) { self.not_yet(ticket, at, why) } else { Err(why) };
        }
        let stored = holding.into_iter().flatten().filter(|&(held, c)| held == at && c.stored == at && c.rejoin.is_none());
        let stored = stored.filter_map(|(_, c)| c.stored_position.clone()).next();
        let Some(position) = stored.or_else(|| self.position_of(at)) else {
            // True, and forgotten: a channel that comes back holds the checkpoint at a message of long ago. A later one will be saved.
            return self.not_yet(ticket, at, format!("no position is known any more for message {at}"));
        };
        if self.consumed.as_ref().is_some_and(|c| position.tick <= c.tick) {
            // It stands there, or further on, already: from before this scan.
            self.complete(ticket, IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, at, Ok(Answer::Nothing));
            return Ok(());
        }
        let call = Call::SaveConsume(position.clone());
        self.begin(Purpose::SaveConsume { ticket, at, position }, Work::Call(call));
        Ok(())
    }

    /// A consume checkpoint is not saved for what the component cannot know; it asks for a later one.
    fn not_yet(&mut self, ticket: Ticket, at: Ordinal, why: String) -> Result<(), String> {
        let refusal = Refusal::new(RefusalKind::NotAvailable, why);
        self.complete(ticket, IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, at, Err(refusal));
        Ok(())
    }

    /// An ordinal may be named only after it was handed out.
    fn delivered(&self, at: Ordinal) -> Result<(), String> {
        if at == 0 || at > self.handed {
            return Err(format!("message {at} was never delivered: the last one is {}", self.handed));
        }
        Ok(())
    }

    /// The position of a recent end of a group.
    pub(super) fn position_of(&self, at: Ordinal) -> Option<Position> {
        let found = self.group_ends.binary_search_by_key(&at, |(ordinal, _)| *ordinal).ok()?;
        self.group_ends.get(found).map(|(_, position)| position.clone())
    }
}
