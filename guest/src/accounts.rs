//! What the flusher holds, for a host that compares it with its own accounts.

use std::collections::BTreeMap;

use crate::buffer::Buffer;
use crate::channel::{Channel, Message, Service};
use crate::contract::{ChannelIndex, Holding, flag, kind};
use crate::flusher::Flusher;

impl Flusher {
    /// Returns the rows and deletes that were handed to the flusher, not filtered, and not yet told to be durable: ascending by channel, then
    /// deletes, then id. Channels that are not served hold none, but for messages that wait for the coordinator's answer.
    pub fn accounts(&self) -> Vec<Holding> {
        let mut holdings = Vec::new();
        for channel in self.state.channels.values() {
            match &channel.service {
                Service::Asking(held) => holdings.extend(waiting(channel.index, held)),
                Service::Attached => holdings.extend(buffered(channel)),
                Service::Dropping(_) | Service::Detached(_) | Service::Gone(_) => {}
            }
        }
        holdings
    }
}

fn buffered(channel: &Channel) -> impl Iterator<Item = Holding> {
    let segments = channel.segments.iter().map(|(&id, s)| (false, id, &s.buffer));
    let deletes = channel.deletes.iter().map(|(&partition, buffer)| (true, partition, buffer));
    segments.chain(deletes).filter_map(|(deletes, id, buffer)| held_by(channel.index, deletes, id, buffer))
}

fn held_by(channel: ChannelIndex, deletes: bool, id: i64, buffer: &Buffer) -> Option<Holding> {
    let batches = buffer.batches().map(|b| Holding { channel, deletes, id, first: b.first, last: b.last, rows: b.rows, bytes: b.bytes });
    batches.reduce(with)
}

fn waiting(channel: ChannelIndex, held: &[Message]) -> impl Iterator<Item = Holding> {
    let mut sums: BTreeMap<(bool, i64), Holding> = BTreeMap::new();
    for m in held.iter().filter(|m| m.flags & flag::SETTLED == 0) {
        let (deletes, id) = match m.kind {
            kind::INSERT => (false, m.segment),
            kind::DELETE => (true, m.partition),
            _ => continue,
        };
        let one = Holding { channel, deletes, id, first: m.ordinal, last: m.ordinal, rows: u64::from(m.rows), bytes: m.bytes };
        sums.entry((deletes, id)).and_modify(|sum| *sum = with(*sum, one)).or_insert(one);
    }
    sums.into_values()
}

/// Both, the first of which came earlier.
fn with(earlier: Holding, later: Holding) -> Holding {
    Holding { last: later.last, rows: earlier.rows + later.rows, bytes: earlier.bytes + later.bytes, ..earlier }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::Segment;
    use crate::contract::Config;

    fn flusher(channels: impl IntoIterator<Item = Channel>) -> Flusher {
        let mut flusher = Flusher::new(Config {
            pchannel: "p_0".into(),
            term: 1,
            insert_bytes_max: 1,
            delete_bytes_max: 1,
            sync_period_ms: 1,
            report_period_ms: 1,
            reports_max: 1,
            idle_tick_ms: 1,
            page_max: 1,
        });
        flusher.state.channels = channels.into_iter().map(|c| (c.index, c)).collect();
        flusher
    }

    fn holding(channel: ChannelIndex, deletes: bool, id: i64, (first, last): (u64, u64), rows: u64, bytes: u64) -> Holding {
        Holding { channel, deletes, id, first, last, rows, bytes }
    }

    #[test]
    fn what_waits_and_what_is_being_written_counts_and_a_flush_without_rows_does_not() {
        let mut channel = Channel::new(3, "c".into());
        channel.service = Service::Attached;
        let mut segment = Segment::growing(20);
        segment.buffer.append(4, 40, 1, 100);
        segment.buffer.append(6, 60, 2, 200);
        segment.buffer.cut(Some(9));
        segment.buffer.append(11, 110, 3, 300);
        channel.segments.insert(7, segment);
        let mut flushed = Segment::growing(20);
        flushed.buffer.cut(Some(9));
        channel.segments.insert(8, flushed);
        channel.deletes.entry(-1).or_default().append(5, 50, 4, 400);
        let (first, second) = (holding(3, false, 7, (4, 11), 6, 600), holding(3, true, -1, (5, 5), 4, 400));
        assert_eq!(flusher([channel.clone()]).accounts(), [first, second]);
        // The flush of segment 7 asked up to message 9, but its last row is message 6.
        let Some(segment) = channel.segments.get_mut(&7) else { panic!("no segment") };
        assert!(segment.buffer.synced(9));
        assert_eq!(flusher([channel.clone()]).accounts()[0], holding(3, false, 7, (11, 11), 3, 300));
        channel.leave(Service::Detached("a reason".into()));
        assert_eq!(flusher([channel]).accounts(), []);
    }

    #[test]
    fn messages_that_wait_for_the_coordinators_answer_count_by_segment_and_partition() {
        let mut channel = Channel::new(3, "c".into());
        let message = |ordinal, kind, segment, flags| Message {
            ordinal,
            kind,
            flags,
            collection: 1,
            partition: 20,
            segment,
            rows: 2,
            bytes: 10,
            tick: ordinal * 10,
            body: None,
        };
        channel.service = Service::Asking(vec![
            message(1, kind::CREATE_COLLECTION, 0, 0),
            message(2, kind::INSERT, 8, 0),
            message(3, kind::DELETE, 0, 0),
            message(4, kind::INSERT, 7, 0),
            message(5, kind::INSERT, 8, 0),
            message(6, kind::INSERT, 8, flag::SETTLED),
        ]);
        let wanted = [holding(3, false, 7, (4, 4), 2, 10), holding(3, false, 8, (2, 5), 4, 20), holding(3, true, 20, (3, 3), 2, 10)];
        assert_eq!(flusher([channel]).accounts(), wanted);
    }
}
