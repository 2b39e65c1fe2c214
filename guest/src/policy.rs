//! When a batch ends. FL-3: batches end where the rows say, so that a replay cuts the same; only pressure cuts elsewhere, and is counted.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::buffer::Batch;
use crate::channel::Channel;
use crate::contract::*;
use crate::flusher::{Flusher, Timer};
use crate::mutants::{Mutant, is_mutated};

/// When a segment's batch ends beside what [`Config`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Rows at which a batch ends, with its group.
    pub insert_rows_max: u64,
}

impl Default for Policy {
    /// As Milvus does: bytes and periods alone.
    fn default() -> Self {
        Self { insert_rows_max: u64::MAX }
    }
}

/// Low bits of a time tick that count within a millisecond.
pub(crate) const LOGICAL_BITS: u32 = 18;

/// Milliseconds between two ticks.
pub(crate) fn elapsed_ms(from: u64, to: u64) -> u64 {
    (to >> LOGICAL_BITS).saturating_sub(from >> LOGICAL_BITS)
}

/// Up to a tenth of a period, a function of an id alone: what began together does not end together.
pub(crate) fn spread(id: i64, period_ms: u64) -> u64 {
    let hash = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    (period_ms / 10).saturating_mul(hash) >> 16
}

/// The first tick that no longer belongs to a batch which began at `first_tick`.
pub(crate) fn stale_at(id: i64, first_tick: u64, period_ms: u64) -> u64 {
    let ms = (first_tick >> LOGICAL_BITS).saturating_add(period_ms).saturating_add(spread(id, period_ms)).saturating_add(1);
    ms.checked_shl(LOGICAL_BITS).filter(|t| t >> LOGICAL_BITS == ms).unwrap_or(u64::MAX)
}

impl Flusher {
    /// Ends a segment's batch and asks for its sync.
    pub(crate) fn cut_segment(&mut self, host: &mut impl Host, index: ChannelIndex, id: i64, seal: Option<Ordinal>) {
        let Some(segment) = self.state.channels.get_mut(&index).and_then(|c| c.segments.get_mut(&id)) else { return };
        if segment.state == SegmentState::Dropped || (seal.is_none() && segment.buffer.open().is_none()) {
            return;
        }
        segment.sealed |= seal.is_some();
        let up_to = segment.buffer.cut(seal);
        host.sync(index, id, up_to, seal.is_some());
    }

    /// Ends a partition's run of deletes and asks for its sync. The host names the L0 segment, so there is no entry to forget.
    pub(crate) fn cut_deletes(&mut self, host: &mut impl Host, index: ChannelIndex, partition: i64) {
        let Some(buffer) = self.state.channels.get_mut(&index).and_then(|c| c.deletes.get_mut(&partition)) else { return };
        if buffer.open().is_some() {
            let up_to = buffer.cut(None);
            if !is_mutated(Mutant::DeletesForgotten) {
                host.sync_deletes(index, partition, up_to);
            }
        }
    }

    /// Ends everything that began on a channel.
    pub(crate) fn cut_channel(&mut self, host: &mut impl Host, index: ChannelIndex) {
        let Some(channel) = self.state.channels.get(&index) else { return };
        let segments: Vec<i64> = channel.segments.keys().copied().collect();
        let partitions: Vec<i64> = channel.deletes.keys().copied().collect();
        for id in segments {
            self.cut_segment(host, index, id, None);
        }
        for partition in partitions {
            self.cut_deletes(host, index, partition);
        }
    }

    fn cut(&mut self, host: &mut impl Host, index: ChannelIndex, what: Timer) {
        match what {
            Timer::Segment(id) => self.cut_segment(host, index, id, None),
            Timer::Deletes(partition) => self.cut_deletes(host, index, partition),
            Timer::Report => {}
        }
    }

    /// Ends the batches that are full.
    pub(crate) fn cut_full(&mut self, host: &mut impl Host) {
        for (index, what) in std::mem::take(&mut self.state.full).into_iter().filter(|_| !is_mutated(Mutant::FullForgotten)) {
            self.cut(host, index, what);
        }
    }

    /// The end of a group: full batches end, and what was due by its tick is done. Costs what is due, not what exists.
    /// A group of a channel that is behind moves that channel's time alone.
    pub(crate) fn end_group(&mut self, host: &mut impl Host, behind: Option<ChannelIndex>) {
        self.cut_full(host);
        while let Some((due, index, timer)) = self.pop_timer(behind).filter(|_| !is_mutated(Mutant::TimersStop)) {
            match timer {
                Timer::Report => self.report_due(index, due),
                _ if self.is_stale(index, timer, due) => self.cut(host, index, timer),
                _ => {}
            }
        }
    }

    /// Whether the batch that a timer was set for is still open.
    fn is_stale(&self, index: ChannelIndex, timer: Timer, due: u64) -> bool {
        let Some(channel) = self.state.channels.get(&index) else { return false };
        let (id, buffer) = match timer {
            Timer::Segment(id) => (id, channel.segments.get(&id).map(|s| &s.buffer)),
            Timer::Deletes(partition) => (partition, channel.deletes.get(&partition)),
            Timer::Report => return false,
        };
        let open = buffer.and_then(|b| b.open());
        open.is_some_and(|b| stale_at(id, b.first_tick, self.config.sync_period_ms) <= due)
    }

    /// Sets the timer of a batch that just began, and notes it if it is full.
    pub(crate) fn watch(&mut self, index: ChannelIndex, what: Timer, id: i64, batch: Batch, bytes_max: u64) {
        if batch.first == batch.last {
            self.set_timer(stale_at(id, batch.first_tick, self.config.sync_period_ms), index, what);
        }
        let rows_max = if matches!(what, Timer::Segment(_)) { self.policy.insert_rows_max } else { u64::MAX };
        if batch.bytes >= bytes_max || batch.rows >= rows_max {
            self.state.full.insert((index, what));
        }
    }

    /// Memory pressure: of the channels with the most bytes, one that is behind first, the oldest batches end until enough was asked for.
    /// Every channel is looked at once, however many batches end.
    pub(crate) fn relieve(&mut self, host: &mut impl Host, pressure: u64) {
        if pressure == 0 || is_mutated(Mutant::PressureIgnored) {
            return;
        }
        let attached = self.state.channels.values().filter(|c| c.is_attached());
        let mut largest: BinaryHeap<(bool, u64, Reverse<ChannelIndex>)> =
            attached.map(|c| (self.is_behind(c.index), c.open_bytes(), Reverse(c.index))).filter(|(_, bytes, _)| *bytes > 0).collect();
        let mut wanted = pressure;
        while wanted > 0
            && let Some((behind, bytes, Reverse(index))) = largest.pop()
        {
            let Some((batch, what)) = self.state.channels.get(&index).and_then(oldest_batch) else { continue };
            host.log(Level::Debug, "pressure ends a batch", &[("what", format!("{what:?}")), ("bytes", batch.bytes.to_string())]);
            self.cut(host, index, what);
            self.state.counts.pressure_cuts += 1;
            wanted = wanted.saturating_sub(batch.bytes);
            largest.push((behind, bytes.saturating_sub(batch.bytes), Reverse(index)));
        }
    }
}

fn oldest_batch(channel: &Channel) -> Option<(Batch, Timer)> {
    let growing = channel.segments.iter().filter(|(_, s)| s.state != SegmentState::Dropped);
    let segments = growing.filter_map(|(&id, s)| Some((*s.buffer.open()?, Timer::Segment(id))));
    let deletes = channel.deletes.iter().filter_map(|(&id, b)| Some((*b.open()?, Timer::Deletes(id))));
    segments.chain(deletes).min_by_key(|(b, _)| b.first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_under_a_tenth_of_the_period() {
        for id in [0, 1, 2, 468, i64::MAX, i64::MIN] {
            assert!(spread(id, 600_000) < 60_000);
        }
        assert_ne!(spread(468_001, 600_000), spread(468_002, 600_000));
    }

    #[test]
    fn a_batch_at_the_end_of_time_never_goes_stale() {
        assert_eq!(stale_at(1, u64::MAX, u64::MAX), u64::MAX);
    }
}
