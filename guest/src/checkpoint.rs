//! What may be reported, and when.
//!
//! ```text
//! | the channel has                    | its checkpoint is             |
//! | a row not durable, a sync in flight | the first of them             |
//! | a control message not acknowledged  | the first of them, if earlier |
//! | neither                             | the end of the last group     |
//! ```
//!
//! A channel that is behind has no checkpoint but the first two: the last group is not its own.

use crate::contract::*;
use crate::flusher::{Flusher, Stage, Timer};
use crate::mutants::{Mutant, is_mutated};
use crate::policy::{LOGICAL_BITS, spread};

impl Flusher {
    /// The period of a channel's report has passed.
    pub(crate) fn report_due(&mut self, index: ChannelIndex, due: u64) {
        let clock = self.clock(index);
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        if !channel.is_attached() || channel.report_due != due {
            return;
        }
        // Channels stay apart: the next report is a period after the last one was due, not after the tick that found many of them due.
        let period = self.config.report_period_ms;
        let apart = clock.saturating_add((spread(i64::from(index), period) + 1) << LOGICAL_BITS);
        let next = due.saturating_add(period << LOGICAL_BITS).max(apart);
        channel.report_due = next;
        self.set_timer(next, index, Timer::Report);
        self.state.reports.insert(index);
    }

    /// Channels where everything up to a flush message is durable report at once.
    pub(crate) fn report_flushed(&mut self) {
        for &index in &self.state.flush_waits {
            let Some(channel) = self.state.channels.get(&index) else { continue };
            let wanted = channel.flush_wait.unwrap_or_default();
            let reached = match channel.floor() {
                Some(floor) => floor > wanted,
                None => !self.is_behind(index),
            } && self.state.group_end >= wanted;
            if reached && channel.reporting.is_none() {
                self.state.reports.insert(index);
            }
        }
    }

    /// Sends what is to be reported, at most `reports_max` at once; returns whether something is left.
    pub(crate) fn send_reports(&mut self, host: &mut impl Host) -> bool {
        self.report_flushed();
        let mut checkpoints = Vec::new();
        while checkpoints.len() < self.config.reports_max as usize {
            let Some(index) = self.state.reports.pop_first() else { break };
            let behind = self.is_behind(index);
            let Some(channel) = self.state.channels.get_mut(&index).filter(|c| c.is_attached()) else { continue };
            let Some(at) = channel.floor().or((!behind).then_some(self.state.group_end)) else { continue };
            // CK-1: never back, and nothing to say when it stands.
            if at > channel.stored.max(channel.reporting.unwrap_or_default()) {
                channel.reporting = Some(at);
                checkpoints.push((index, at));
            }
        }
        if !checkpoints.is_empty() {
            host.report(&checkpoints);
        }
        !self.state.reports.is_empty()
    }

    pub(crate) fn stored(&mut self, host: &mut impl Host, completion: &Completion) {
        match (&completion.outcome, completion.kind) {
            (Ok(Answer::Checkpoints(stored)), IntentKind::Report) => {
                for &(index, at) in stored {
                    self.note_stored(index, at);
                }
            }
            (Ok(_), IntentKind::SaveCheckpoint) => {
                self.state.consumed = self.state.consumed.max(completion.up_to);
                self.state.consuming = None;
            }
            (Err(refusal), IntentKind::SaveCheckpoint) => {
                self.state.consuming = None;
                self.state.consume_refused = completion.up_to;
                host.log(Level::Warn, "consume checkpoint not saved", &[("reason", refusal.detail.clone())]);
            }
            (outcome, _) => {
                // Nobody says which channels it was about: all of them may report again when they are due.
                self.state.channels.values_mut().for_each(|c| c.reporting = None);
                host.log(Level::Warn, "checkpoints not reported", &[("outcome", format!("{outcome:?}"))]);
            }
        }
    }

    fn note_stored(&mut self, index: ChannelIndex, at: Ordinal) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        // A report that was not taken is made again with the period, not at once.
        let refused = channel.reporting.take().is_some_and(|asked| at < asked);
        if channel.is_attached() && at > channel.stored {
            let before = std::mem::replace(&mut channel.stored, at);
            self.checkpoint_stored(index, before, at);
        }
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        if refused || channel.flush_wait.is_some_and(|wanted| channel.stored >= wanted) {
            channel.flush_wait = None;
            self.state.flush_waits.remove(&index);
        }
    }

    /// CK-3: the consume checkpoint follows the smallest stored channel checkpoint; without channels, the end of the last group.
    pub(crate) fn save_consumed(&mut self, host: &mut impl Host) {
        let smallest = self.state.stored.first().map_or(self.state.group_end, |&(at, _)| at);
        // Without channels nothing paces the saves, so only a real distance is worth one.
        let idle = self.state.stored.is_empty() && self.state.stage == Stage::Working;
        let step = if idle { u64::from(self.config.page_max) } else { 1 };
        let known = self.state.consumed.max(self.state.consume_refused);
        if self.state.consuming.is_none() && !is_mutated(Mutant::ConsumeStops) && smallest >= known.saturating_add(step) {
            self.state.consuming = Some(smallest);
            host.save_checkpoint(smallest);
        }
    }
}
