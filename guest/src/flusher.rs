//! A turn: completions first, then a page, with policies and checkpoints at the ends of groups.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Message, Segment, Service};
use crate::contract::*;
use crate::mutants::{Mutant, is_mutated};
use crate::policy::Policy;
use crate::rejoin::Behind;

/// The state of one pchannel's flusher.
///
/// ```
/// # use tidegate_flusher::{Flusher, contract::Config};
/// let config = Config {
///     pchannel: "by-dev-rootcoord-dml_0".into(), term: 1, insert_bytes_max: 16 << 20, delete_bytes_max: 16 << 20,
///     sync_period_ms: 600_000, report_period_ms: 60_000, reports_max: 128, idle_tick_ms: 1_000, page_max: 256,
/// };
/// let fresh = Flusher::new(config.clone());
/// assert_eq!(Flusher::restore(config, &fresh.snapshot()).unwrap(), fresh);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flusher {
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) state: State,
    /// Sections beside those of the base state, carried verbatim.
    pub(crate) foreign_sections: Vec<crate::snapshot::Section>,
}

/// What a snapshot carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub stage: Stage,
    /// By index.
    pub channels: BTreeMap<ChannelIndex, Channel>,
    /// Channels that were recovered before any event time was known: their reports are due from the first tick on.
    pub unarmed: BTreeSet<ChannelIndex>,
    /// Event time at which something is to be done.
    pub timers: BTreeSet<(u64, ChannelIndex, Timer)>,
    /// Stored checkpoint of every channel that is not gone: the first is what holds the consume checkpoint (CK-3).
    pub stored: BTreeSet<(Ordinal, ChannelIndex)>,
    /// Channels whose report waits for a turn with room.
    pub reports: BTreeSet<ChannelIndex>,
    /// Channels with a flush that waits.
    pub flush_waits: BTreeSet<ChannelIndex>,
    /// Channels with a batch that is full and ends with its group.
    pub full: BTreeSet<(ChannelIndex, Timer)>,
    /// Channels with a run of filtered messages that was not handed to the host.
    pub filter_runs: BTreeSet<ChannelIndex>,
    /// Channels that are detached.
    pub detached: BTreeSet<ChannelIndex>,
    /// Channels that were detached, and whose checkpoint is not past the place where they joined the others.
    pub behind: BTreeMap<ChannelIndex, Behind>,
    /// The last message of the last whole group.
    pub group_end: Ordinal,
    /// Tick of the last dispatched message.
    pub tick: u64,
    /// The consume checkpoint that was saved, and the one being saved.
    pub consumed: Ordinal,
    pub consuming: Option<Ordinal>,
    /// The consume checkpoint that was refused: only a later one is worth asking for.
    pub consume_refused: Ordinal,
    pub counts: Counts,
}

/// How far the flusher has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    #[default]
    New,
    /// Waiting for the list of channels.
    Listing,
    /// Waiting for so many recovery answers and appended Flush messages.
    Recovering(usize),
    /// Waiting for the scan.
    Opening,
    Working,
    /// An AlterWAL message was met: nothing more is read.
    Sealing(Ordinal),
    LogMoved,
}

/// What a point in event time is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Timer {
    Segment(i64),
    Deletes(i64),
    Report,
}

impl Logic for Flusher {
    fn start(config: Config, resume: Option<&[u8]>) -> Result<Self, String> {
        match resume {
            Some(snapshot) => Self::restore(config, snapshot).map_err(|e| e.to_string()),
            None => Ok(Self::new(config)),
        }
    }

    fn turn(&mut self, host: &mut impl Host, completions: &[Completion], pressure: u64) -> Report {
        self.turn(host, completions, pressure)
    }

    fn snapshot(&self) -> Vec<u8> {
        self.snapshot()
    }

    fn accounts(&self) -> Vec<Holding> {
        self.accounts()
    }

    fn explain(&self, channel: ChannelIndex) -> String {
        self.explain(channel)
    }
}

impl Flusher {
    /// Begins from nothing: the first turn asks the coordinator.
    pub fn new(config: Config) -> Self {
        Self { config, policy: Policy::default(), state: State::default(), foreign_sections: Vec::new() }
    }

    /// Goes on with another policy; batches that are open already end by it as well.
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Takes completions and messages, records intents. `pressure` is the number of staged bytes that the host wants written soon.
    pub fn turn(&mut self, host: &mut impl Host, completions: &[Completion], pressure: u64) -> Report {
        if self.state.stage == Stage::New {
            host.vchannels();
            self.state.stage = Stage::Listing;
        }
        for completion in completions {
            self.complete(host, completion);
        }
        // A channel that is behind goes on to the end of the log as the others did.
        if matches!(self.state.stage, Stage::Working | Stage::Sealing(_)) {
            let page = host.next(self.config.page_max);
            self.read(host, page);
        }
        self.relieve(host, pressure);
        // Before the reports: what is filtered holds no checkpoint.
        self.hand_over_filters(host);
        let more = self.send_reports(host);
        self.save_consumed(host);
        if let Stage::Sealing(last) = self.state.stage
            && self.state.stored.first().is_none_or(|&(stored, _)| stored >= last)
            && self.state.consumed >= last
        {
            self.state.stage = Stage::LogMoved;
            host.log(Level::Info, "log moved: everything before the AlterWAL message is durable", &[("ordinal", last.to_string())]);
        }
        Report { phase: self.phase(), more, counts: self.state.counts }
    }

    fn phase(&self) -> Phase {
        match self.state.stage {
            Stage::New | Stage::Listing | Stage::Recovering(_) | Stage::Opening => Phase::InRecovery,
            Stage::Working | Stage::Sealing(_) => Phase::Working,
            Stage::LogMoved => Phase::LogMoved,
        }
    }

    fn read(&mut self, host: &mut impl Host, page: Page) {
        let mut controls = page.controls.into_iter().peekable();
        for (at, &kind) in page.kinds.iter().enumerate() {
            let ordinal = page.first + at as Ordinal;
            let mut body = None;
            while let Some(control) = controls.next_if(|c| c.ordinal <= ordinal) {
                match control.body {
                    ControlBody::Intern(name) => self.meet(host, page.channels[at], name, page.ticks[at]),
                    other => body = Some(other),
                }
            }
            let message = Message {
                ordinal,
                kind,
                flags: page.flags[at],
                collection: page.collections[at],
                partition: page.partitions[at],
                segment: page.segments[at],
                rows: page.rows[at],
                bytes: page.bytes[at],
                tick: page.ticks[at],
                body,
            };
            // Nothing of this log is ours after its AlterWAL message, but what a channel that is behind has before it.
            let settled = page.flags[at] & flag::SETTLED != 0;
            if !matches!(self.state.stage, Stage::Sealing(_)) || (self.is_behind(page.channels[at]) && !settled) {
                self.dispatch(host, page.channels[at], message);
            }
        }
    }

    /// A channel that the coordinator did not list: its messages wait until the coordinator says what it is.
    fn meet(&mut self, host: &mut impl Host, index: ChannelIndex, name: String, tick: u64) {
        if !self.come_back(index, &name, tick) && matches!(self.state.stage, Stage::Sealing(_)) {
            return;
        }
        if let Entry::Vacant(place) = self.state.channels.entry(index) {
            place.insert(Channel::new(index, name));
            // CK-3: its messages are pending until the answer.
            self.state.stored.insert((0, index));
            if !is_mutated(Mutant::UnlistedIgnored) {
                host.recovery_info(index);
            }
        }
    }

    fn complete(&mut self, host: &mut impl Host, completion: &Completion) {
        match completion.kind {
            IntentKind::VChannels | IntentKind::RecoveryInfo | IntentKind::AppendFlush | IntentKind::Open => {
                self.recovered(host, completion)
            }
            IntentKind::Sync | IntentKind::SyncDeletes | IntentKind::AllocSegment | IntentKind::DropSegment | IntentKind::DropChannel => {
                self.acknowledged(host, completion);
            }
            IntentKind::Report | IntentKind::SaveCheckpoint => self.stored(host, completion),
            IntentKind::Detach => {
                if let Err(refusal) = &completion.outcome {
                    self.lose(host, completion.channel, refusal);
                }
            }
        }
    }

    fn acknowledged(&mut self, host: &mut impl Host, completion: &Completion) {
        let Some(channel) = self.state.channels.get_mut(&completion.channel) else { return };
        if !matches!(channel.service, Service::Attached | Service::Dropping(_)) {
            return;
        }
        if let Err(refusal) = &completion.outcome {
            return self.refused(host, completion, &refusal.clone());
        }
        match completion.kind {
            IntentKind::Sync => {
                let Some(segment) = channel.segments.get_mut(&completion.segment) else { return };
                segment.buffer.synced(completion.up_to);
                if segment.sealed && segment.buffer.is_empty() {
                    channel.segments.remove(&completion.segment);
                }
            }
            IntentKind::SyncDeletes => {
                if let Some(buffer) = channel.deletes.get_mut(&completion.segment) {
                    buffer.synced(completion.up_to);
                    if buffer.is_empty() {
                        channel.deletes.remove(&completion.segment);
                    }
                }
            }
            IntentKind::DropSegment => {
                channel.segment_dropped(completion.segment);
                channel.acknowledge(completion.up_to);
            }
            IntentKind::AllocSegment => channel.acknowledge(completion.up_to),
            IntentKind::DropChannel => {
                channel.leave(Service::Gone(FilterReason::DroppedChannel));
                self.forget(completion.channel);
            }
            _ => {}
        }
    }

    fn refused(&mut self, host: &mut impl Host, completion: &Completion, refusal: &Refusal) {
        let Some(channel) = self.state.channels.get_mut(&completion.channel) else { return };
        let segment = channel.segments.get_mut(&completion.segment);
        match (completion.kind, refusal.kind, segment) {
            // A Flush for a segment that nobody knows: there is nothing to flush.
            (IntentKind::Sync, RefusalKind::NotFound, Some(s))
                if s.sealed && s.buffer.syncing().is_some_and(|sync| sync.rows() == 0 && sync.up_to == completion.up_to) =>
            {
                channel.segments.remove(&completion.segment);
                let waits = |s: &Segment| s.sealed && s.buffer.syncing().is_some_and(|sync| sync.up_to == completion.up_to);
                if !channel.segments.values().any(waits) {
                    let at = completion.up_to;
                    host.filter(&[Filtered { channel: completion.channel, first: at, last: at, reason: FilterReason::UnknownSegment }]);
                }
                let segment = completion.segment.to_string();
                host.log(Level::Warn, "flush of a segment that the coordinator does not know", &[("segment", segment)]);
            }
            // Its drop is asked for already.
            (IntentKind::Sync, RefusalKind::Dropped, Some(s)) if s.state == SegmentState::Dropped => {}
            // Its rows hold the checkpoint until the drop is acknowledged, and more of them are filtered.
            (IntentKind::Sync, RefusalKind::Dropped, Some(s)) => {
                s.state = SegmentState::Dropped;
                channel.await_call(completion.up_to);
                host.drop_segment(completion.channel, completion.segment, completion.up_to);
            }
            // Its partition was dropped while the sync ran: its rows ended with it.
            (IntentKind::Sync, _, None) => {}
            // Only an answer about the channel itself can say that the channel is dropped.
            (IntentKind::Sync | IntentKind::SyncDeletes | IntentKind::DropSegment, ..) => {
                self.detach(host, completion.channel, &refusal.detail)
            }
            _ => self.lose(host, completion.channel, refusal),
        }
    }

    /// Takes a channel out of service: gone if the coordinator says that it is dropped, else detached.
    pub(crate) fn lose(&mut self, host: &mut impl Host, index: ChannelIndex, refusal: &Refusal) {
        match refusal.kind {
            RefusalKind::Dropped => self.gone(index, FilterReason::DroppedChannel, host),
            _ => self.detach(host, index, &refusal.detail),
        }
    }

    /// Filters everything of the channel, now and from here on.
    pub(crate) fn gone(&mut self, index: ChannelIndex, reason: FilterReason, host: &mut impl Host) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let first = match &channel.service {
            Service::Asking(held) => held.first().map(|m| m.ordinal),
            Service::Detached(_) => Some(1),
            _ => channel.floor(),
        };
        let last = match &channel.service {
            Service::Asking(held) => held.last().map(|m| m.ordinal),
            _ => Some(self.state.group_end.max(first.unwrap_or_default())),
        };
        channel.leave(Service::Gone(reason));
        if let (Some(first), Some(last)) = (first, last) {
            host.filter(&[Filtered { channel: index, first, last, reason }]);
        }
        let fields = [("channel", channel.name.clone()), ("reason", format!("{reason:?}"))];
        host.log(Level::Info, "channel is not served", &fields);
        self.forget(index);
    }

    /// Gives a channel up; its neighbours go on (IS-1), and the consume checkpoint waits where it stands (CK-3).
    pub(crate) fn detach(&mut self, host: &mut impl Host, index: ChannelIndex, reason: &str) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        if matches!(channel.service, Service::Detached(_) | Service::Gone(_)) {
            return;
        }
        channel.leave(Service::Detached(reason.to_owned()));
        host.detach(index, reason);
        host.log(Level::Error, "channel detached", &[("channel", channel.name.clone()), ("reason", reason.to_owned())]);
        self.state.detached.insert(index);
        if self.state.behind.remove(&index).is_some() {
            // Its checkpoint says nothing of where the others may go.
            channel.stored = 0;
        }
        self.state.stored.insert((channel.stored, index));
        self.state.reports.remove(&index);
        self.state.flush_waits.remove(&index);
    }

    /// Takes a channel that is gone out of every table that time or checkpoints walk. Its timers expire by themselves.
    pub(crate) fn forget(&mut self, index: ChannelIndex) {
        let stored = match self.state.behind.remove(&index) {
            Some(_) => 0,
            None => self.state.channels.get(&index).map_or(0, |c| c.stored),
        };
        self.state.stored.remove(&(stored, index));
        self.state.detached.remove(&index);
        self.state.reports.remove(&index);
        self.state.flush_waits.remove(&index);
    }

    fn hand_over_filters(&mut self, host: &mut impl Host) {
        let runs = std::mem::take(&mut self.state.filter_runs);
        let filters: Vec<Filtered> = runs.into_iter().filter_map(|c| self.state.channels.get_mut(&c)?.end_filter()).collect();
        if !filters.is_empty() {
            host.filter(&filters);
        }
    }
}
