//! Detached channels come back: a second scan reads a channel's messages again, from where the channel stands, until it meets the main one.
//!
//! ```text
//! main scan      ── a  b  c  d  e  f  g ──►   M: the last whole group that was delivered
//! detached at P     ×──passed over───────┐
//! catch-up scan     └─ b ── d ── f ── J ─┴►  J: the join; from here on the main scan serves the channel
//! ```
//!
//! | a group of the catch-up scan has a tick | it is |
//! |---|---|
//! | below M | delivered |
//! | of M | delivered, and the channel joins |
//! | above M | left to the main scan: everything up to M was read again, and the channel joins |
//!
//! A channel comes back under a new index with an account of its own, so nothing that is late can be taken for something of today. Its
//! messages get the next ordinals, whatever the log's order: each channel's own ordinals still ascend with the log, those of two channels
//! do not. Hence a channel that is behind may report its checkpoint at its own messages only, and it holds the consume checkpoint where the
//! detached one did until its checkpoint is past the join (CK-3).

use std::collections::{BTreeMap, BTreeSet};

use tidegate_message::{Message, MessageType, properties};

use super::recovery::hazard_of;
use super::work::{Purpose, refusal};
use super::{Action, Pchannel, Phase, Weight, Work};
use crate::account::{ChannelAccount, Rejoin, Standing};
use crate::calls::{Call, CallError, Position, RecoveryInfo};
use crate::ledger::End;
use crate::retry::doubled_ms;
use crate::scan::Scanned;
use crate::turn::{Answer, ChannelIndex, FilterReason, Ordinal, Refusal, Row, flag};

/// What becomes of detached channels.
#[derive(Debug, Default)]
pub(super) struct Rejoins {
    /// Channels that are detached, or were and are not healed yet, by name.
    tries: BTreeMap<String, Tries>,
    /// When detached channels are tried again, in milliseconds.
    due: BTreeSet<(u64, ChannelIndex)>,
    /// The channel that the coordinator is asked about.
    asking: Option<ChannelIndex>,
    /// The channel that reads its messages again: one at a time, so that their number is no burden for the log.
    running: Option<CatchUp>,
    /// Answers to what the component will ask about channels under their new indices.
    answers: BTreeMap<ChannelIndex, Result<Answer, Refusal>>,
    /// The last scan's name: never used again.
    last_scan: u64,
}

/// Tries of one channel.
#[derive(Debug, Default)]
struct Tries {
    /// In a row.
    failures: u32,
    /// When the next one is due, in milliseconds; `None` for a cause that lasts, and while one runs.
    due_ms: Option<u64>,
    /// Why the last one failed.
    why: Option<String>,
}

/// A catch-up scan.
#[derive(Debug)]
struct CatchUp {
    scan: u64,
    channel: ChannelIndex,
    vchannel: String,
    /// Everything up to this tick was read again.
    tick: u64,
    /// Messages of one tick that others of it may follow.
    group: Vec<Message>,
}

/// How a detached channel's return stands.
pub(super) struct Outlook<'a> {
    /// Milliseconds until the next try.
    pub wait_ms: Option<u64>,
    /// Tries that failed.
    pub failures: u32,
    /// Why the last one did.
    pub why: Option<&'a str>,
}

impl Pchannel {
    /// Makes every detached channel's next try due at once, of those too whose cause lasts: something changed that may have healed it.
    pub fn rejoin_now(&mut self) {
        let detached: Vec<ChannelIndex> = self.detached.iter().map(|&(_, index)| index).collect();
        for index in detached {
            self.rejoin_due(index, self.now_ms);
        }
    }

    /// Whether messages of a catch-up scan may be delivered: a channel that is behind may hold a quarter of the budget (ME-1, IS-1).
    pub fn wants_catch_up(&self) -> bool {
        let Some(running) = &self.rejoins.running else { return false };
        let account = self.channels.get(&running.channel);
        account.is_some_and(|account| account.held_bytes < self.limits.bytes_max / 4) && self.may_read(!running.group.is_empty())
    }

    /// Bytes of messages that wait for the rest of their tick.
    pub(super) fn catch_up_bytes(&self) -> usize {
        self.rejoins.running.iter().flat_map(|running| &running.group).map(Message::size).sum()
    }

    /// What a channel that is behind should write soon, so that its reading goes on: open bytes beyond an eighth of the budget.
    pub(super) fn wanted_of_behind(&self) -> usize {
        let account = self.rejoins.running.as_ref().and_then(|running| self.channels.get(&running.channel));
        account.map_or(0, |account| account.open_bytes.saturating_sub(self.limits.bytes_max / 8))
    }

    /// When something is to be done for detached channels, in milliseconds.
    pub(super) fn rejoin_wake(&self) -> Option<u64> {
        if !self.may_rejoin() {
            return None;
        }
        self.rejoins.due.iter().find(|(_, index)| self.calls.at_peer_of(*index) == 0).map(|&(at, _)| at)
    }

    /// How a detached channel's return stands.
    pub(super) fn outlook(&self, vchannel: &str) -> Option<Outlook<'_>> {
        let tries = self.rejoins.tries.get(vchannel)?;
        let wait_ms = tries.due_ms.map(|at| at.saturating_sub(self.now_ms));
        Some(Outlook { wait_ms, failures: tries.failures, why: tries.why.as_deref() })
    }

    /// How far a channel that is behind has come: the tick up to which everything was read again.
    pub(super) fn caught_up_to(&self, channel: ChannelIndex) -> Option<u64> {
        self.rejoins.running.as_ref().filter(|running| running.channel == channel).map(|running| running.tick)
    }

    /// A channel was detached: sets when it is tried again.
    pub(super) fn rejoin_later(&mut self, index: ChannelIndex) {
        self.end_catch_up(index);
        self.rejoins.answers.remove(&index);
        let Some(account) = self.channels.get(&index) else { return };
        let lasts = matches!(account.standing, Standing::Detached { lasts: true, .. });
        let name = account.name.clone();
        let tries = self.rejoins.tries.entry(name).or_default();
        tries.failures = tries.failures.saturating_add(1);
        tries.due_ms = None;
        let wait = doubled_ms(tries.failures, self.limits.rejoin_first_ms, self.limits.rejoin_max_ms);
        if !lasts {
            self.rejoin_due(index, self.now_ms.saturating_add(wait));
        }
    }

    /// Sets when a detached channel is tried again.
    pub(super) fn rejoin_due(&mut self, index: ChannelIndex, at: u64) {
        let Some(account) = self.channels.get(&index) else { return };
        let tries = self.rejoins.tries.entry(account.name.clone()).or_default();
        if let Some(before) = tries.due_ms.replace(at) {
            self.rejoins.due.remove(&(before, index));
        }
        self.rejoins.due.insert((at, index));
    }

    /// Forgets everything about tries and scans: the next recovery serves every channel.
    pub(super) fn forget_rejoins(&mut self) {
        let last_scan = self.rejoins.last_scan;
        self.rejoins = Rejoins { last_scan, ..Rejoins::default() };
    }

    /// Returns the answer that waits for the component's question about a channel that came back.
    pub(super) fn take_answer(&mut self, channel: ChannelIndex) -> Option<Result<Answer, Refusal>> {
        self.rejoins.answers.remove(&channel)
    }

    fn may_rejoin(&self) -> bool {
        // Before the first whole group there is nothing to join.
        let free = self.rejoins.asking.is_none() && self.rejoins.running.is_none();
        self.phase == Phase::Working && free && !self.group_ends.is_empty()
    }

    /// Asks where the channel stands whose turn it is. Whatever was begun under its old index is waited for: it would change the answer.
    pub(super) fn begin_rejoin(&mut self) {
        self.detach_failing_again();
        if !self.may_rejoin() {
            return;
        }
        let due = self.rejoins.due.iter().take_while(|(at, _)| *at <= self.now_ms);
        let Some(&(at, index)) = due.into_iter().find(|(_, index)| self.calls.at_peer_of(*index) == 0) else { return };
        self.rejoins.due.remove(&(at, index));
        let Some(account) = self.channels.get(&index) else { return };
        let vchannel = account.name.clone();
        if let Some(tries) = self.rejoins.tries.get_mut(&vchannel) {
            tries.due_ms = None;
        }
        self.rejoins.asking = Some(index);
        self.begin(Purpose::Rejoin { channel: index }, Work::Call(Call::RecoveryInfo { vchannel }));
    }

    /// IS-1: a channel whose work keeps failing while it is behind leaves its place to the others, budget or not.
    fn detach_failing_again(&mut self) {
        let Some(channel) = self.rejoins.running.as_ref().map(|running| running.channel) else { return };
        let failing = |call: &&crate::retry::InFlight<super::work::Task>| {
            call.failures >= super::HOARDER_FAILURES && call.what.purpose.channel() == Some(channel)
        };
        let error = self.calls.iter().find(failing).and_then(|call| call.last_error.clone());
        if let Some(error) = error {
            self.detach_and_tell(channel, format!("its work keeps failing while it catches up: {error}"));
        }
    }

    /// The coordinator said where a detached channel stands, or why it does not say.
    pub(super) fn rejoin_answered(&mut self, old: ChannelIndex, result: Result<RecoveryInfo, CallError>) {
        self.rejoins.asking = None;
        if self.channels.get(&old).is_none_or(|c| !matches!(c.standing, Standing::Detached { .. })) {
            return;
        }
        match result {
            Ok(info) => match hazard_of(!info.schemas.is_empty(), &info.segments) {
                Some(hazard) => self.rejoin_failed(old, hazard),
                None => self.begin_catch_up(old, info),
            },
            Err(error @ CallError::Dropped(_)) => self.gone(old, Standing::Dropped, FilterReason::DroppedChannel, error),
            Err(error @ CallError::NotFound(_)) => self.gone(old, Standing::NotFound, FilterReason::UnknownChannel, error),
            Err(error) => self.rejoin_failed(old, error.to_string()),
        }
    }

    fn rejoin_failed(&mut self, old: ChannelIndex, why: String) {
        let Some(account) = self.channels.get(&old) else { return };
        let name = account.name.clone();
        self.out.push(Action::Notice(Weight::Warn, format!("channel {name} stays detached: {why}")));
        self.rejoin_later(old);
        if let Some(tries) = self.rejoins.tries.get_mut(&name) {
            tries.why = Some(why);
        }
    }

    /// A detached channel's account makes place for a new one, under a new index.
    fn come_back(&mut self, old: ChannelIndex) -> Option<ChannelIndex> {
        let Standing::Detached { reason, since, held, .. } = self.channels.get(&old)?.standing.clone() else { return None };
        let before = self.channels.remove(&old)?;
        self.detached.remove(&(held, old));
        let index = self.next_index(&before.name);
        let mut account = ChannelAccount::new(index, before.name, self.totals.clone());
        // LD-1: what had ended has ended; what waits is met again.
        account.ledger = before.ledger.ended();
        account.rejoin = Some(Rejoin { reason, since, held, joined: None });
        self.channels.insert(index, account);
        self.stored.insert((held, index));
        Some(index)
    }

    fn begin_catch_up(&mut self, old: ChannelIndex, info: RecoveryInfo) {
        let from = info.seek.clone();
        let vchannel = info.vchannel.clone();
        let Some(index) = self.come_back(old) else { return };
        let Some(recovered) = self.adopt(index, info) else { return };
        self.rejoins.answers.insert(index, Ok(Answer::Recovered(recovered)));
        if let Some(tries) = self.rejoins.tries.get_mut(&vchannel) {
            tries.why = None;
        }
        self.rejoins.last_scan += 1;
        let scan = self.rejoins.last_scan;
        let tick = from.as_ref().map_or(0, |p| p.tick);
        self.out.push(Action::Notice(Weight::Info, format!("channel {vchannel} reads again what it missed, from tick {tick} on")));
        self.rejoins.running = Some(CatchUp { scan, channel: index, vchannel: vchannel.clone(), tick, group: Vec::new() });
        self.begin(Purpose::CatchUp { channel: index }, Work::OpenCatchUp { scan, vchannel, from });
    }

    /// The coordinator says that a detached channel is no more: the component hears of it, and filters what still comes.
    fn gone(&mut self, old: ChannelIndex, standing: Standing, reason: FilterReason, error: CallError) {
        let pending = self.channels.get(&old).map(|c| (c.ledger.inserts.pending, c.ledger.deletes.pending));
        let Some(index) = self.come_back(old) else { return };
        let Some(account) = self.channels.get_mut(&index) else { return };
        let (inserts, deletes) = pending.unwrap_or_default();
        for (rows, ledger) in [(inserts, &mut account.ledger.inserts), (deletes, &mut account.ledger.deletes)] {
            ledger.deliver(rows);
            ledger.end(rows, End::Filtered(reason));
        }
        account.standing = standing;
        self.rejoins.answers.insert(index, Err(refusal(error)));
        self.join(index);
        self.hold_no_more(index);
    }

    /// Takes messages of a catch-up scan.
    pub(super) fn catch_up(&mut self, scan: u64, messages: Vec<Scanned>) {
        for scanned in messages {
            // Once it has joined, and when it was given up, the rest is the main scan's.
            if self.phase != Phase::Working || self.rejoins.running.as_ref().is_none_or(|running| running.scan != scan) {
                return;
            }
            match scanned {
                Scanned::Message(message, _) => self.read_again(*message),
                Scanned::Violation { message, last_released } => {
                    let reason = format!("time tick {} is below {last_released}, which was released before", message.tick);
                    self.set_aside(&message, reason);
                }
                Scanned::Quarantined { message, reason } => self.set_aside(&message, reason),
                Scanned::Parked(_) => {
                    let id = scanned.message().map(|m| m.id.to_string()).unwrap_or_default();
                    if let Some(channel) = self.rejoins.running.as_ref().map(|running| running.channel) {
                        self.detach_and_tell(channel, format!("its catch-up scan delivered message {id} without its rows"));
                    }
                }
                // One of the whole pchannel is passed over: it detached every channel when the main scan met it.
                Scanned::Malformed(bad) => self.set_record_aside(*bad, false),
            }
        }
    }

    fn read_again(&mut self, message: Message) {
        let Some(running) = &mut self.rejoins.running else { return };
        let tick = message.tick;
        if running.group.first().is_some_and(|first| first.tick != tick) && self.end_catch_up_group() {
            return;
        }
        let Some(running) = &mut self.rejoins.running else { return };
        if message.kind != MessageType::TIME_TICK {
            running.group.push(message);
        } else if !self.end_catch_up_group()
            && let Some(running) = &mut self.rejoins.running
        {
            // Nothing at or below a time tick follows it.
            running.tick = tick;
            let channel = running.channel;
            if self.last_tick().is_some_and(|last| tick >= last) {
                self.join(channel);
            }
        }
    }

    /// Delivers the messages of one tick, unless the main scan is going to; returns whether the catch-up is over.
    fn end_catch_up_group(&mut self) -> bool {
        let last = self.last_tick();
        let Some(running) = &mut self.rejoins.running else { return true };
        let group = std::mem::take(&mut running.group);
        let Some(tick) = group.first().map(|first| first.tick) else { return false };
        let channel = running.channel;
        if last.is_none_or(|last| tick <= last) {
            running.tick = tick;
            let group = group.into_iter().map(|message| for_one_channel(message, &running.vchannel)).collect();
            self.declined = false;
            self.deliver_group(group, true);
        }
        // What was delivered may have detached the channel.
        if self.rejoins.running.is_some() && last.is_some_and(|last| tick >= last) {
            self.join(channel);
        }
        self.rejoins.running.is_none()
    }

    /// Tick of the main scan's last whole group.
    fn last_tick(&self) -> Option<u64> {
        self.group_ends.back().map(|(_, position)| position.tick)
    }

    /// Everything that the main scan delivered was read again: from here on it serves the channel. The component hears of it by a time tick
    /// of the channel's own.
    fn join(&mut self, channel: ChannelIndex) {
        self.end_catch_up(channel);
        let Some((_, position)) = self.group_ends.back().cloned() else { return };
        let Some(account) = self.channels.get_mut(&channel) else { return };
        let name = account.name.clone();
        let at = self.next_ordinal;
        self.introduce(channel, &name, at);
        let kind = u16::try_from(MessageType::TIME_TICK.0).unwrap_or_default();
        self.push(Row { kind, flags: flag::GROUP_END, channel, tick: position.tick, ..Row::default() }, None);
        self.declined = false;
        self.note_group_end(position);
        if let Some(rejoin) = self.channels.get_mut(&channel).and_then(|account| account.rejoin.as_mut()) {
            rejoin.joined = Some(at);
        }
        self.out.push(Action::Notice(Weight::Info, format!("channel {name} has caught up and joins the scan at message {at}")));
    }

    /// Ends the second scan, if it is this channel's.
    pub(super) fn end_catch_up(&mut self, channel: ChannelIndex) {
        if self.rejoins.running.as_ref().is_some_and(|running| running.channel == channel) {
            self.rejoins.running = None;
            self.out.push(Action::CloseCatchUp);
        }
    }

    /// A channel's checkpoint was read back: once it is past the join, the channel is healed.
    pub(super) fn note_healed(&mut self, channel: ChannelIndex) {
        if self.channels.get(&channel).is_some_and(|account| account.rejoin.is_none()) {
            self.forget_tries(channel);
        }
    }

    /// A channel is over, or healed: its tries are history.
    pub(super) fn forget_tries(&mut self, channel: ChannelIndex) {
        let Some(account) = self.channels.get(&channel) else { return };
        if let Some(Tries { due_ms: Some(at), .. }) = self.rejoins.tries.remove(&account.name) {
            self.rejoins.due.remove(&(at, channel));
        }
    }

    /// CK-2: the position of a group's end, as a checkpoint of one channel: what a channel that was behind read before it joined is at no
    /// place that the others passed.
    pub(super) fn position_for(&self, account: &ChannelAccount, at: Ordinal) -> Option<Position> {
        match &account.rejoin {
            Some(Rejoin { joined: Some(joined), .. }) if at >= *joined => self.position_of(at),
            Some(_) => None,
            None => self.position_of(at),
        }
    }
}

/// A message of the whole pchannel, as it is delivered to one channel alone.
fn for_one_channel(mut message: Message, vchannel: &str) -> Message {
    if message.pchannel_level || message.vchannel != vchannel {
        vchannel.clone_into(&mut message.vchannel);
        message.pchannel_level = false;
        // The main scan has told of that part of the broadcast.
        message.properties.remove(properties::BROADCAST);
    }
    message
}
