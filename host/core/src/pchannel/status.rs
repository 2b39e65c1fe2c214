//! What an operator sees: the state of the pchannel, and what holds each channel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::work::{Task, name};
use super::{Counters, HOARDER_FAILURES, Instance, Pchannel, Phase, Work};
use crate::account::{ChannelAccount, Pinned, Rejoin, Standing};
use crate::calls::Call;
use crate::ledger::Ledger;
use crate::retry::InFlight;
use crate::scan::ScanStatus;
use crate::turn::{ChannelIndex, EVERY_CHANNEL, Ordinal, TurnReport};

/// The state of a pchannel.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub pchannel: String,
    /// The term it is owned in.
    pub term: i64,
    /// What the flusher is doing, as `flusher_info` names it, or the named state it stopped in.
    pub state: String,
    /// Why, when the state is not a normal one.
    pub reason: Option<String>,
    /// Tick of the last delivered message.
    pub tick: u64,
    /// Tick of the stored consume checkpoint.
    pub consume_tick: Option<u64>,
    /// Bytes held in memory.
    pub held_bytes: usize,
    /// Bytes it may hold.
    pub bytes_max: usize,
    /// Calls and writes in flight.
    pub in_flight: usize,
    /// Those of them that write a segment's files or save their paths.
    #[serde(default)]
    pub syncs: usize,
    /// Instances lost to a fault.
    pub faults: u64,
    /// Intents that the guard refused.
    pub guard_refusals: u64,
    /// Messages set aside.
    pub dead_letters: u64,
    /// Turns run.
    pub turns: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Idle ticks passed over.
    pub idle_ticks_filtered: u64,
    /// Messages of unknown types.
    pub unknown_types: u64,
    /// Batches that memory pressure ended.
    pub pressure_cuts: u64,
    /// Events of the component that were not kept, because it logged too much in one call.
    #[serde(default)]
    pub events_dropped: u64,
    /// SHA-256 of the component that serves it.
    #[serde(default)]
    pub component: String,
    /// SHA-256 of the one to go back to, if there is one.
    #[serde(default)]
    pub good_component: Option<String>,
    /// How far the component's probation is, while it lasts.
    #[serde(default)]
    pub probation: Option<String>,
    /// The scan of the log.
    pub scan: ScanStatus,
    /// The channels.
    pub channels: Vec<ChannelStatus>,
}

/// The state of a channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Its name.
    pub vchannel: String,
    /// `served`, `detached`, `rejoining` (it was detached, and reads again what it missed), `dropped`, `unknown to the coordinator`, `asking` or `recovering`.
    pub standing: String,
    /// What holds its checkpoint, by the host's own account.
    pub pin: String,
    /// The same in a word: `nothing`, `rows`, `deletes`, `control`, or the standing where that holds it.
    #[serde(default)]
    pub pin_kind: String,
    /// Milliseconds of event time between the first message that is not finished and the last delivered one.
    #[serde(default)]
    pub pin_age_ms: Option<u64>,
    /// Tick of the stored checkpoint.
    pub checkpoint_tick: Option<u64>,
    /// Milliseconds of event time between the stored checkpoint and the last delivered message.
    pub lag_ms: Option<u64>,
    /// Messages that are not finished.
    pub pins: usize,
    /// Bytes they hold.
    pub held_bytes: usize,
    /// What of its work has failed so often that it may not be a blip, how often, and why: it is tried again.
    #[serde(default)]
    pub failing: Option<String>,
    /// It is detached for a cause that time does not heal.
    #[serde(default)]
    pub stays_detached: bool,
    /// Milliseconds of event time that a rejoining channel is behind the others.
    #[serde(default)]
    pub behind_ms: Option<u64>,
    /// LD-1.
    pub ledger: Ledger,
}

impl Pchannel {
    /// What the flusher is doing.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Returns the counts since the process started.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns what the component reported last.
    pub fn report_of_component(&self) -> TurnReport {
        self.report
    }

    /// Returns a channel's index, for the component's `explain`.
    pub fn channel_index(&self, vchannel: &str) -> Option<ChannelIndex> {
        self.names.get(vchannel).copied().filter(|index| self.channels.contains_key(index))
    }

    /// Whether there is a component instance to be asked, between two turns.
    pub fn has_instance(&self) -> bool {
        !matches!(self.instance, Instance::Absent(_) | Instance::Building)
    }

    /// Whether nothing waits: no message, no call, no completion.
    pub fn is_idle(&self) -> bool {
        self.phase == Phase::Working
            && self.ready.is_empty()
            && self.completions.is_empty()
            && self.calls.is_empty()
            && self.instance == Instance::Ready
    }

    /// Iterates over the host's accounts of the channels.
    pub fn accounts(&self) -> impl Iterator<Item = &ChannelAccount> {
        self.channels.values().filter(|c| c.index != EVERY_CHANNEL)
    }

    /// Returns the state of the pchannel and of every channel.
    pub fn status(&self) -> Status {
        let (state, reason) = match &self.phase {
            Phase::InRecovery => ("in_recovery", None),
            Phase::Working => ("working", None),
            Phase::Closing => ("closing", None),
            Phase::LogMoved => ("log moved", None),
            Phase::Fenced(why) => ("fenced", Some(why.clone())),
            Phase::Backoff(why) => ("recovering again", Some(why.clone())),
            Phase::Stopped(why) => ("stopped", Some(why.clone())),
        };
        let waits = self.calls.iter().filter_map(|c| c.last_error.clone()).next();
        Status {
            pchannel: self.caller.pchannel.clone(),
            term: self.caller.term,
            state: state.to_owned(),
            reason: reason.or(waits),
            tick: self.tick,
            consume_tick: self.consumed.as_ref().map(|p| p.tick),
            held_bytes: self.held_bytes(),
            bytes_max: self.limits.bytes_max,
            in_flight: self.calls.len(),
            syncs: self.calls.iter().filter(|c| matches!(c.what.work, Work::Write(_) | Work::Call(Call::SaveBinlogPaths(_)))).count(),
            faults: self.counters.faults,
            guard_refusals: self.counters.guard_refusals,
            dead_letters: self.counters.dead_letters,
            turns: self.counters.turns,
            messages: self.counters.messages,
            events_dropped: 0,
            idle_ticks_filtered: self.report.idle_ticks_filtered,
            unknown_types: self.report.unknown_types,
            pressure_cuts: self.report.pressure_cuts,
            component: self.version().to_string(),
            good_component: self.good_version().map(|v| v.to_string()),
            probation: self.swaps.probation(self.tick),
            // Whoever runs the scan knows.
            scan: ScanStatus::default(),
            channels: self.channels_of_status(),
        }
    }

    fn channels_of_status(&self) -> Vec<ChannelStatus> {
        let mut failing: BTreeMap<ChannelIndex, &InFlight<Task>> = BTreeMap::new();
        for call in self.calls.iter().filter(|call| call.failures >= HOARDER_FAILURES) {
            if let Some(channel) = call.what.purpose.channel() {
                let longest = failing.entry(channel).or_insert(call);
                if call.failures > longest.failures {
                    *longest = call;
                }
            }
        }
        let said = |call: &InFlight<Task>| {
            let why = call.last_error.as_deref().unwrap_or_default();
            format!("{} failed {} times and is tried again: {why}", name(&call.what.work), call.failures)
        };
        let of = |account: &ChannelAccount| ChannelStatus {
            failing: failing.get(&account.index).map(|call| said(call)),
            ..self.channel_status(account)
        };
        self.accounts().map(of).chain(self.unknown_yet()).collect()
    }

    /// The channels that the scan before served and this one has not met yet.
    fn unknown_yet(&self) -> impl Iterator<Item = ChannelStatus> {
        let known = |name: &str| self.names.get(name).is_some_and(|index| self.channels.contains_key(index));
        let recovering = matches!(self.phase, Phase::InRecovery | Phase::Backoff(_));
        let previous = self.previous.iter().filter(move |(name, _)| recovering && !known(name));
        previous.map(|(_, c)| ChannelStatus {
            standing: "recovering".to_owned(),
            pin: format!("as the instance before left it: {}", c.pin),
            ..c.clone()
        })
    }

    pub(super) fn channel_status(&self, account: &ChannelAccount) -> ChannelStatus {
        let stored = account.stored_position.as_ref().or(account.seek.as_ref()).map(|p| p.tick);
        let first = account.pins.values().next();
        let standing = match account.standing {
            Standing::Unknown => "asking",
            Standing::Served if account.is_behind() => "rejoining",
            Standing::Served => "served",
            Standing::Dropped => "dropped",
            Standing::NotFound => "unknown to the coordinator",
            Standing::Detached { .. } => "detached",
        };
        let behind_ms = self.caught_up_to(account.index).map(|tick| (self.tick >> 18).saturating_sub(tick >> 18));
        let kind = match (&account.standing, first.map(|pin| &pin.what)) {
            (Standing::Served, _) if account.is_behind() => standing,
            (Standing::Served, None) => "nothing",
            (Standing::Served, Some(Pinned::Rows { .. })) => "rows",
            (Standing::Served, Some(Pinned::Deletes { .. })) => "deletes",
            (Standing::Served, Some(Pinned::Control(_))) => "control",
            _ => standing,
        };
        ChannelStatus {
            vchannel: account.name.clone(),
            standing: standing.to_owned(),
            pin: self.describe_pin(account, behind_ms),
            pin_kind: kind.to_owned(),
            pin_age_ms: first.map(|pin| (self.tick >> 18).saturating_sub(pin.position.tick >> 18)),
            checkpoint_tick: stored,
            lag_ms: stored.map(|s| (self.tick >> 18).saturating_sub(s >> 18)),
            pins: account.pins.len(),
            held_bytes: account.held_bytes,
            failing: None,
            stays_detached: matches!(account.standing, Standing::Detached { lasts: true, .. }),
            behind_ms,
            ledger: account.ledger.clone(),
        }
    }

    /// What holds a channel's checkpoint, in one sentence, by the host's own account: it answers even when the component is dead.
    fn describe_pin(&self, account: &ChannelAccount, behind_ms: Option<u64>) -> String {
        let unfinished = || match account.pins.first_key_value() {
            None => "every delivered message is finished".to_owned(),
            Some((ordinal, pin)) => format!("{} (tick {})", describe_message(*ordinal, &pin.what, account), pin.position.tick),
        };
        match (&account.standing, &account.rejoin) {
            (Standing::Detached { reason, since, held, lasts }, _) => {
                let ms = since >> 18;
                let text = format!("detached since event time {ms} ms, the consume checkpoint is held at message {held}: {reason}.");
                let outlook = self.outlook(&account.name);
                let failed = outlook.as_ref().and_then(|o| o.why).map(|why| format!(" The last try failed: {why}.")).unwrap_or_default();
                match outlook.and_then(|o| Some((o.wait_ms?, o.failures))) {
                    Some((wait, failures)) => {
                        format!("{text}{failed} Try {failures} to let it rejoin is due in {} s", wait.div_ceil(1_000))
                    }
                    None if *lasts => {
                        format!("{text} Time does not heal this: swap in a component that can, or mend the cause and restart the node")
                    }
                    None => format!("{text}{failed} The coordinator is being asked where it stands"),
                }
            }
            (Standing::Served, Some(Rejoin { reason, held, joined: None, .. })) => {
                let behind = behind_ms.map_or_else(String::new, |ms| format!(", {ms} ms of event time behind its neighbours"));
                let unfinished = unfinished();
                format!(
                    "rejoining: it reads again what it missed{behind}; {unfinished}. The consume checkpoint is held at message {held}. It was detached: {reason}"
                )
            }
            (Standing::Dropped, _) => "the channel is dropped".to_owned(),
            (Standing::NotFound, _) => "the coordinator does not know the channel".to_owned(),
            (Standing::Unknown, _) => "waits for the coordinator's answer".to_owned(),
            (Standing::Served, _) if account.pins.is_empty() => format!("nothing: {}", unfinished()),
            (Standing::Served, _) => unfinished(),
        }
    }
}

fn describe_message(ordinal: Ordinal, what: &Pinned, account: &ChannelAccount) -> String {
    match what {
        Pinned::Rows { segment, rows, .. } => {
            let s = account.segments.get(segment);
            let syncing = s.is_some_and(|s| s.jobs.front().is_some_and(|j| j.batch.first() <= Some(&ordinal) && j.running));
            let state = if syncing { "their sync is in flight" } else { "they wait for a sync" };
            format!("message {ordinal}: {rows} rows of segment {segment}, {state}")
        }
        Pinned::Deletes { partition, rows, .. } => format!("message {ordinal}: {rows} deletes of partition {partition} are not durable"),
        Pinned::Control(waits) => format!("control message {ordinal} waits for {waits:?}"),
    }
}
