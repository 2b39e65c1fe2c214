//! From nothing to an open scan: channels, where each stands, Flush messages for segments of the old architecture, then the log.

use crate::channel::{Channel, Service};
use crate::contract::*;
use crate::flusher::{Flusher, Stage, Timer};
use crate::mutants::{Mutant, is_mutated};
use crate::policy;

impl Flusher {
    pub(crate) fn recovered(&mut self, host: &mut impl Host, completion: &Completion) {
        match (completion.kind, &completion.outcome) {
            (IntentKind::VChannels, Ok(Answer::VChannels(names))) => {
                for (index, name) in names {
                    self.state.channels.insert(*index, Channel::new(*index, name.clone()));
                    host.recovery_info(*index);
                }
                self.await_recovery(host, names.len());
            }
            (IntentKind::RecoveryInfo, outcome) => {
                self.answer(host, completion.channel, outcome.clone());
                self.one_less(host);
            }
            (IntentKind::AppendFlush, outcome) => {
                if let Err(refusal) = outcome {
                    let fields = [("segment", completion.segment.to_string()), ("reason", refusal.detail.clone())];
                    host.log(Level::Error, "a segment of the old architecture stays unsealed", &fields);
                }
                self.one_less(host);
            }
            (IntentKind::Open, Ok(_)) => {
                self.state.stage = Stage::Working;
                host.log(Level::Info, "recovered", &[("channels", self.state.stored.len().to_string())]);
            }
            (kind, outcome) => {
                host.log(Level::Error, "recovery cannot go on", &[("intent", format!("{kind:?}")), ("outcome", format!("{outcome:?}"))]);
            }
        }
    }

    /// What the coordinator knows of a channel, at recovery or when an unlisted channel was met.
    fn answer(&mut self, host: &mut impl Host, index: ChannelIndex, outcome: Result<Answer, Refusal>) {
        let listed = matches!(self.state.stage, Stage::Recovering(_));
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let Service::Asking(held) = &channel.service else { return };
        match outcome {
            Ok(Answer::Recovered(RecoveredChannel { hazard: Some(reason), .. })) => self.detach(host, index, &reason),
            Ok(Answer::Recovered(info)) => {
                // FL-2: nothing else seals them, whenever the channel comes back.
                let stays = is_mutated(Mutant::OldStaysOpen) || (!listed && is_mutated(Mutant::OldStaysOpenAtRejoin));
                for s in info.segments.iter().filter(|s| s.old_architecture && s.state == SegmentState::Growing && !stays) {
                    host.append_flush(index, s.partition, s.segment);
                    if let Stage::Recovering(waiting) = &mut self.state.stage {
                        *waiting += 1;
                    }
                }
                self.attach(host, index, info);
            }
            // The channel begins with the message that we hold: its CreateCollection.
            Err(Refusal { kind: RefusalKind::NotAvailable, .. }) if held.first().is_some_and(|m| m.kind == kind::CREATE_COLLECTION) => {
                let first = held[0].clone();
                match first.body {
                    Some(ControlBody::CreateCollection(_, Some(reason))) => self.detach(host, index, &reason),
                    _ => {
                        let info =
                            RecoveredChannel { collection: first.collection, seek_tick: first.tick, segments: Vec::new(), hazard: None };
                        self.attach(host, index, info);
                    }
                }
            }
            // Listed, but its creation is not through: it begins when its CreateCollection is met.
            Err(Refusal { kind: RefusalKind::NotAvailable, .. }) if listed => {
                self.state.channels.remove(&index);
            }
            Err(refusal) if refusal.kind == RefusalKind::NotFound => self.gone(index, FilterReason::UnknownChannel, host),
            Err(refusal) => self.lose(host, index, &refusal),
            Ok(other) => self.detach(host, index, &format!("the host answered a recovery question with {other:?}")),
        }
    }

    fn attach(&mut self, host: &mut impl Host, index: ChannelIndex, info: RecoveredChannel) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let held = channel.attach(info);
        self.state.stored.insert((0, index));
        self.state.unarmed.insert(index);
        self.arm_reports();
        let mut tick = None;
        for message in held {
            // FL-3: full batches end with their group, as if the answer had been there when the group was read.
            if tick.replace(message.tick).is_some_and(|before| before != message.tick) {
                self.cut_full(host);
            }
            self.dispatch_to(host, index, message);
        }
        let behind = self.is_behind(index).then_some(index);
        self.end_group(host, behind);
    }

    /// Sets when the channels that were attached report first: spread over a tenth of the period, from the first event time that is known.
    pub(crate) fn arm_reports(&mut self) {
        if self.state.tick == 0 {
            return;
        }
        for index in std::mem::take(&mut self.state.unarmed) {
            // One that is behind has no event time before its first message.
            let clock = self.clock(index);
            if clock == 0 {
                self.state.unarmed.insert(index);
                continue;
            }
            let Some(channel) = self.state.channels.get_mut(&index) else { continue };
            let spread = policy::spread(i64::from(index), self.config.report_period_ms);
            let due = clock.saturating_add(spread << policy::LOGICAL_BITS);
            channel.report_due = due;
            self.set_timer(due, index, Timer::Report);
        }
    }

    fn await_recovery(&mut self, host: &mut impl Host, answers: usize) {
        self.state.stage = Stage::Recovering(answers);
        self.open_when_ready(host);
    }

    fn one_less(&mut self, host: &mut impl Host) {
        if let Stage::Recovering(waiting) = &mut self.state.stage {
            *waiting = waiting.saturating_sub(1);
            self.open_when_ready(host);
        }
    }

    fn open_when_ready(&mut self, host: &mut impl Host) {
        if self.state.stage == Stage::Recovering(0) {
            let channels: Vec<ChannelIndex> = self.state.channels.values().filter(|c| c.is_attached()).map(|c| c.index).collect();
            host.open(&channels);
            self.state.stage = Stage::Opening;
        }
    }
}
