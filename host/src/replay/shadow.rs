//! What the guard would say to a component in a replay, as far as a journal can tell: it has no payloads and no coordinator, but it knows
//! which messages were handed out, which of them ended, and what the component of the recording was allowed.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::journal::Turn;
use tidegate_core::turn::{Answer, ChannelIndex, Completion, Intent, IntentKind, Ordinal, Page, flag};
use tidegate_message::MessageType;

/// Rows of a segment, or deletes of a partition, that wait for their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Rows(i64),
    Deletes(i64),
}

/// The guard's memory during a replay.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    handed: Ordinal,
    pins: BTreeMap<ChannelIndex, BTreeMap<Ordinal, Waits>>,
    segments: BTreeMap<i64, ChannelIndex>,
    reported: BTreeMap<ChannelIndex, Ordinal>,
    /// Runs of messages that the recording filtered: the guard let them be.
    filtered: BTreeMap<ChannelIndex, Vec<(Ordinal, Ordinal)>>,
    detached: BTreeSet<ChannelIndex>,
}

impl Shadow {
    /// Learns what the component of the recording was allowed.
    pub fn new(turns: &[Turn]) -> Self {
        let mut shadow = Self::default();
        for intent in turns.iter().flat_map(|turn| &turn.output.intents) {
            match intent {
                Intent::Filter(runs) => {
                    runs.iter().for_each(|run| shadow.filtered.entry(run.channel).or_default().push((run.first, run.last)));
                }
                Intent::Detach { channel, .. } => {
                    shadow.detached.insert(*channel);
                }
                _ => {}
            }
        }
        shadow
    }

    /// Takes what a turn hands out, before its intents are judged.
    pub fn hand_out(&mut self, completions: &[Completion], page: &Page, taken: usize) {
        for completion in completions.iter().filter(|c| c.outcome.is_ok()) {
            self.ended(completion);
        }
        let taken = taken.min(page.len());
        if taken > 0 {
            self.handed = page.first + taken as Ordinal - 1;
        }
        for at in (0..taken).filter(|&at| page.flags[at] & flag::SETTLED == 0) {
            let waits = match MessageType(i32::from(page.kinds[at])) {
                MessageType::INSERT => Waits::Rows(page.segments[at]),
                MessageType::DELETE => Waits::Deletes(page.partitions[at]),
                _ => continue,
            };
            if let Waits::Rows(segment) = waits {
                self.segments.entry(segment).or_insert(page.channels[at]);
            }
            self.pins.entry(page.channels[at]).or_default().insert(page.first + at as Ordinal, waits);
        }
    }

    fn ended(&mut self, completion: &Completion) {
        let Some(pins) = self.pins.get_mut(&completion.channel) else { return };
        let (up_to, id) = (completion.up_to, completion.segment);
        match (completion.kind, &completion.outcome) {
            (IntentKind::Sync, Ok(Answer::Synced(_))) => pins.retain(|&o, w| o > up_to || *w != Waits::Rows(id)),
            (IntentKind::SyncDeletes, Ok(_)) => pins.retain(|&o, w| o > up_to || *w != Waits::Deletes(id)),
            (IntentKind::DropSegment, Ok(_)) => pins.retain(|_, w| *w != Waits::Rows(id)),
            (IntentKind::DropChannel, Ok(_)) => pins.clear(),
            _ => {}
        }
    }

    /// Judges an intent, and takes its effect.
    ///
    /// # Errors
    /// Why the guard would refuse it.
    pub fn judge(&mut self, intent: &Intent) -> Result<(), String> {
        match intent {
            Intent::Report(checkpoints) => checkpoints.iter().try_for_each(|&(channel, at)| self.report(channel, at)),
            Intent::Filter(runs) => runs.iter().try_for_each(|run| self.filter(run.channel, run.first, run.last)),
            Intent::Sync { channel, segment, up_to, .. } => {
                self.handed_out(*up_to)?;
                match self.segments.get(segment) {
                    Some(owner) if owner != channel => Err(format!("it syncs segment {segment}, which is of another channel")),
                    _ => Ok(()),
                }
            }
            Intent::SyncDeletes { up_to: at, .. }
            | Intent::AllocSegment { at, .. }
            | Intent::DropSegment { at, .. }
            | Intent::DropChannel { at, .. }
            | Intent::SaveCheckpoint(at) => self.handed_out(*at),
            Intent::Detach { channel, reason } if !self.detached.contains(channel) => {
                Err(format!("it gives channel {channel} up, which the recording did not: {reason}"))
            }
            Intent::Detach { channel, .. } => {
                self.pins.remove(channel);
                Ok(())
            }
            Intent::VChannels | Intent::RecoveryInfo(_) | Intent::AppendFlush { .. } | Intent::Open(_) => Ok(()),
        }
    }

    fn handed_out(&self, at: Ordinal) -> Result<(), String> {
        if at == 0 || at > self.handed {
            return Err(format!("it names message {at}; the last one that was handed out is {}", self.handed));
        }
        Ok(())
    }

    /// CK-1, CK-2.
    fn report(&mut self, channel: ChannelIndex, at: Ordinal) -> Result<(), String> {
        self.handed_out(at)?;
        let before = self.reported.insert(channel, at).unwrap_or_default();
        if at < before {
            return Err(format!("it moves the checkpoint of channel {channel} from {before} back to {at}"));
        }
        let first = self.pins.get(&channel).and_then(|pins| pins.keys().next().copied());
        match first.filter(|&first| at > first) {
            Some(first) => Err(format!("it reports checkpoint {at} of channel {channel}, past message {first}, which is not durable")),
            None => Ok(()),
        }
    }

    /// LD-1.
    fn filter(&mut self, channel: ChannelIndex, first: Ordinal, last: Ordinal) -> Result<(), String> {
        self.handed_out(last)?;
        let Some(pins) = self.pins.get_mut(&channel) else { return Ok(()) };
        let ordinals: Vec<Ordinal> = pins.range(first..=last).map(|(&o, _)| o).collect();
        let allowed = self.filtered.get(&channel).map(Vec::as_slice).unwrap_or_default();
        for ordinal in ordinals {
            if !allowed.iter().any(|&(first, last)| (first..=last).contains(&ordinal)) {
                return Err(format!("it filters message {ordinal} of channel {channel}, which the recording kept"));
            }
            pins.remove(&ordinal);
        }
        Ok(())
    }
}
