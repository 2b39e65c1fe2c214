//! What each kind of message does. Upstream's steps and what became of them are tabled in `docs/design.md`.

use crate::channel::{Message, Segment, Service};
use crate::contract::*;
use crate::flusher::{Flusher, Stage, Timer};
use crate::mutants::{Mutant, is_mutated};
use crate::policy;

impl Flusher {
    /// Dispatches one message to its channel, to all of them, or to none, and ends its group.
    pub(crate) fn dispatch(&mut self, host: &mut impl Host, index: ChannelIndex, message: Message) {
        let persisted = message.flags & flag::PERSISTED != 0;
        if message.kind == kind::TIME_TICK && index != EVERY_CHANNEL {
            self.join(index, message.ordinal);
        } else if message.kind == kind::TIME_TICK
            && !persisted
            && policy::elapsed_ms(self.state.tick, message.tick) < self.config.idle_tick_ms
        {
            self.state.counts.idle_ticks_filtered += 1;
            return;
        }
        let (ordinal, tick, flags, kind) = (message.ordinal, message.tick, message.flags, message.kind);
        let pchannel_wide = index == EVERY_CHANNEL || flags & flag::PCHANNEL_LEVEL != 0;
        let for_control_channel = flags & flag::CONTROL_CHANNEL != 0 && flags & flag::PCHANNEL_LEVEL == 0;
        if kind == kind::TIME_TICK || kind == kind::ALTER_REPLICATE_CONFIG || for_control_channel {
            // Only moves positions.
        } else if pchannel_wide {
            if !is_mutated(Mutant::FlushAllIgnored) {
                self.dispatch_to_all(host, &message);
            }
        } else {
            self.dispatch_to(host, index, message);
        }
        // Event time is the others': it does not go back with one that is behind.
        let behind = self.is_read_again(index, flags, tick);
        match self.state.behind.get_mut(&index).filter(|_| behind) {
            Some(behind) => behind.tick = tick,
            None => self.state.tick = self.state.tick.max(tick),
        }
        self.arm_reports();
        if flags & flag::GROUP_END != 0 {
            self.state.group_end = ordinal;
            self.end_group(host, behind.then_some(index));
        }
        if kind == kind::ALTER_WAL && pchannel_wide {
            self.state.stage = Stage::Sealing(ordinal);
        }
    }

    fn dispatch_to_all(&mut self, host: &mut impl Host, message: &Message) {
        // One that is behind meets the message in its own time.
        let channels: Vec<ChannelIndex> = self.state.channels.keys().copied().filter(|&index| !self.is_behind(index)).collect();
        for index in channels {
            self.dispatch_to(host, index, message.clone());
        }
    }

    pub(crate) fn dispatch_to(&mut self, host: &mut impl Host, index: ChannelIndex, message: Message) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        if message.flags & flag::SETTLED != 0 {
            return;
        }
        if let Some(ControlBody::Hazard(reason)) = &message.body {
            return self.detach(host, index, &reason.clone());
        }
        match &mut channel.service {
            Service::Asking(held) => held.push(message),
            Service::Detached(_) => {}
            Service::Gone(reason) => {
                let reason = *reason;
                self.filter(host, index, message.ordinal, reason);
            }
            Service::Dropping(_) => self.filter(host, index, message.ordinal, FilterReason::DroppedChannel),
            Service::Attached => match message.kind {
                kind::INSERT => self.insert(host, index, &message),
                kind::DELETE => self.delete(host, index, &message),
                _ => self.control(host, index, &message),
            },
        }
    }

    fn filter(&mut self, host: &mut impl Host, index: ChannelIndex, ordinal: Ordinal, reason: FilterReason) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        if let Some(run) = channel.extend_filter(ordinal, reason) {
            host.filter(&[run]);
        }
        self.state.filter_runs.insert(index);
    }

    /// A message of the channel is kept: a run of filtered ones must not reach over it.
    fn keep(&mut self, host: &mut impl Host, index: ChannelIndex) {
        if self.state.filter_runs.remove(&index)
            && let Some(run) = self.state.channels.get_mut(&index).and_then(|c| c.end_filter())
        {
            host.filter(&[run]);
        }
    }

    /// Why rows are not to be stored, by what the coordinator knew at recovery; `None` for rows to keep.
    fn replayed(&mut self, index: ChannelIndex, m: &Message) -> Option<FilterReason> {
        let channel = self.state.channels.get_mut(&index)?;
        if m.collection != channel.collection {
            return Some(FilterReason::ForeignCollection);
        }
        if m.tick < channel.seek_tick + u64::from(is_mutated(Mutant::DuplicateAtSeek)) {
            return Some(FilterReason::Duplicate);
        }
        if channel.dropped_partitions.contains(&m.partition) {
            return Some(FilterReason::DroppedPartition);
        }
        if m.kind != kind::INSERT {
            return None;
        }
        if m.tick > channel.replay_until && channel.replay_until > 0 {
            // Complete segments take no rows any more.
            channel.replay_until = 0;
            channel.segments.retain(|_, s| s.state != SegmentState::Flushed);
        }
        match channel.segments.get(&m.segment) {
            Some(s) if s.state == SegmentState::Dropped => Some(FilterReason::DroppedSegment),
            Some(s) if m.tick <= s.dml_tick.saturating_sub(u64::from(is_mutated(Mutant::RowsAtDmlAgain))) => Some(FilterReason::Duplicate),
            _ => None,
        }
    }

    fn insert(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message) {
        if let Some(reason) = self.replayed(index, m) {
            return self.filter(host, index, m.ordinal, reason);
        }
        self.keep(host, index);
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let segment = channel.segments.entry(m.segment).or_insert_with(|| Segment::growing(m.partition));
        if segment.sealed || segment.state == SegmentState::Flushed {
            if is_mutated(Mutant::RowsAfterFlush) {
                return self.filter(host, index, m.ordinal, FilterReason::Duplicate);
            }
            let reason = format!("message {} inserts into segment {} after its flush", m.ordinal, m.segment);
            return self.detach(host, index, &reason);
        }
        // FL-3: the first row past the period begins a batch, whether or not a tick ended the one before.
        let stale = |b: &crate::buffer::Batch| m.tick >= policy::stale_at(m.segment, b.first_tick, self.config.sync_period_ms);
        if segment.buffer.open().is_some_and(stale) {
            self.cut_segment(host, index, m.segment, None);
        }
        let Some(segment) = self.state.channels.get_mut(&index).and_then(|c| c.segments.get_mut(&m.segment)) else { return };
        segment.met();
        let batch = segment.buffer.append(m.ordinal, m.tick, u64::from(m.rows), m.bytes);
        self.watch(index, Timer::Segment(m.segment), m.segment, batch, self.config.insert_bytes_max);
    }

    fn delete(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message) {
        if let Some(reason) = self.replayed(index, m) {
            return self.filter(host, index, m.ordinal, reason);
        }
        self.keep(host, index);
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let batch = channel.deletes.entry(m.partition).or_default().append(m.ordinal, m.tick, u64::from(m.rows), m.bytes);
        self.watch(index, Timer::Deletes(m.partition), m.partition, batch, self.config.delete_bytes_max);
    }

    fn control(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let own = m.collection == channel.collection || m.collection == 0;
        if !own || m.tick < channel.seek_tick {
            let reason = if own { FilterReason::Duplicate } else { FilterReason::ForeignCollection };
            if own && m.kind == kind::CREATE_SEGMENT {
                channel.segments.get_mut(&m.segment).into_iter().for_each(Segment::met);
            }
            return self.filter(host, index, m.ordinal, reason);
        }
        self.keep(host, index);
        match (m.kind, &m.body) {
            (kind::CREATE_SEGMENT, body) => self.create_segment(host, index, m, matches!(body, Some(ControlBody::CreateSegment(true)))),
            (kind::FLUSH | kind::SCHEMA_CHANGE | kind::ALTER_COLLECTION, Some(ControlBody::Seal(segments, hazard))) => {
                self.seal(host, index, m, segments);
                if m.kind != kind::FLUSH && !is_mutated(Mutant::NoCutBeforeSchema) {
                    // A batch has one schema, also of a segment that the message does not seal.
                    self.cut_channel(host, index);
                }
                if let Some(reason) = hazard {
                    self.detach(host, index, reason);
                }
            }
            (kind::MANUAL_FLUSH | kind::TRUNCATE_COLLECTION, Some(ControlBody::Seal(segments, _))) => {
                self.seal(host, index, m, segments);
                self.flush_before(host, index, m.ordinal);
            }
            (kind::FLUSH_ALL | kind::ALTER_WAL, _) => {
                // A replay may meet a FlushAll that is older than a segment which the coordinator lists by now; nothing comes after an AlterWAL.
                let is_older = |s: &Segment| {
                    m.kind == kind::ALTER_WAL || is_mutated(Mutant::FlushAllSealsLater) || (s.dml_tick > 0 && s.dml_tick <= m.tick)
                };
                let growing = |s: &Segment| s.state == SegmentState::Growing && !s.sealed && is_older(s);
                let segments: Vec<i64> =
                    self.state.channels[&index].segments.iter().filter(|(_, s)| growing(s)).map(|(&id, _)| id).collect();
                self.seal(host, index, m, &segments);
                self.flush_before(host, index, m.ordinal);
            }
            (kind::DROP_PARTITION, _) => self.drop_partition(host, index, m),
            (kind::DROP_COLLECTION, _) => {
                self.leave_for_drop(index, m.ordinal);
                if !is_mutated(Mutant::DropNotForwarded) {
                    host.drop_channel(index, m.ordinal);
                }
            }
            // A repeated CreateCollection, CreatePartition, Import: only move positions.
            (kind::CREATE_COLLECTION | kind::CREATE_PARTITION | kind::IMPORT, _) => {}
            _ => self.state.counts.unknown_types += 1,
        }
    }

    fn create_segment(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message, level_zero: bool) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        let reason = if channel.dropped_partitions.contains(&m.partition) {
            Some(FilterReason::DroppedPartition)
        } else if level_zero || channel.segments.contains_key(&m.segment) {
            Some(FilterReason::Repeated)
        } else {
            None
        };
        if let Some(reason) = reason {
            channel.segments.get_mut(&m.segment).into_iter().for_each(Segment::met);
            return self.filter(host, index, m.ordinal, reason);
        }
        let mut segment = Segment::growing(m.partition);
        segment.met();
        channel.segments.insert(m.segment, segment);
        channel.await_call(m.ordinal);
        host.alloc_segment(index, m.ordinal);
    }

    /// Completes segments; one that nobody mentioned before is asked for without rows, and refused if the coordinator does not know it.
    fn seal(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message, segments: &[i64]) {
        for &id in segments {
            let Some(channel) = self.state.channels.get_mut(&index) else { return };
            let segment = channel.segments.entry(id).or_insert_with(|| Segment::growing(m.partition));
            if segment.state == SegmentState::Growing && !segment.sealed && !is_mutated(Mutant::SealForgotten) {
                self.cut_segment(host, index, id, Some(m.ordinal));
            }
        }
    }

    /// Everything before the message is to be durable soon, and its checkpoint reported at once.
    fn flush_before(&mut self, host: &mut impl Host, index: ChannelIndex, ordinal: Ordinal) {
        self.cut_channel(host, index);
        if let Some(channel) = self.state.channels.get_mut(&index) {
            channel.flush_wait = Some(ordinal);
            self.state.flush_waits.insert(index);
        }
    }

    fn drop_partition(&mut self, host: &mut impl Host, index: ChannelIndex, m: &Message) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        channel.dropped_partitions.insert(m.partition);
        let gone: Vec<i64> = channel
            .segments
            .iter()
            // One that is sealed ends with its flush.
            .filter(|(_, s)| s.partition == m.partition && s.state == SegmentState::Growing && !s.sealed)
            .map(|(&id, _)| id)
            .collect();
        for id in gone.into_iter().filter(|_| !is_mutated(Mutant::PartitionStays)) {
            channel.await_call(m.ordinal);
            host.drop_segment(index, id, m.ordinal);
            // Its rows hold the checkpoint until the drop is acknowledged, and are synced no more.
            if let Some(segment) = channel.segments.get_mut(&id) {
                segment.state = SegmentState::Dropped;
            }
        }
    }

    fn leave_for_drop(&mut self, index: ChannelIndex, ordinal: Ordinal) {
        let Some(channel) = self.state.channels.get_mut(&index) else { return };
        channel.leave(Service::Dropping(ordinal));
        self.state.flush_waits.remove(&index);
        self.state.reports.remove(&index);
    }
}
