//! How many batches each segment has had: state that only this version knows.

use std::collections::BTreeMap;

use tidegate_flusher::contract::{ChannelIndex, Filtered, Host, Level, Ordinal, Page, Ticket};

/// Bytes of one count: channel, segment, batches, little-endian.
const ENTRY: usize = 4 + 8 + 8;

/// Batches by channel and segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(ChannelIndex, i64), u64>);

impl Counts {
    /// Reads what [`Counts::encode`] wrote; what does not fit is of no use and left out.
    pub fn decode(bytes: &[u8]) -> Self {
        let entries = bytes.chunks_exact(ENTRY).filter_map(|entry| {
            let (channel, rest) = entry.split_first_chunk()?;
            let (segment, rest) = rest.split_first_chunk()?;
            let (batches, _) = rest.split_first_chunk()?;
            Some(((u32::from_le_bytes(*channel), i64::from_le_bytes(*segment)), u64::from_le_bytes(*batches)))
        });
        Self(entries.collect())
    }

    /// Writes the counts, ascending.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY);
        for ((channel, segment), batches) in &self.0 {
            bytes.extend_from_slice(&channel.to_le_bytes());
            bytes.extend_from_slice(&segment.to_le_bytes());
            bytes.extend_from_slice(&batches.to_le_bytes());
        }
        bytes
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops what no longer exists.
    pub fn retain(&mut self, exists: impl Fn(ChannelIndex, i64) -> bool) {
        self.0.retain(|&(channel, segment), _| exists(channel, segment));
    }

    /// Iterates over the segments of a channel and their batches.
    pub fn of(&self, channel: ChannelIndex) -> impl Iterator<Item = (i64, u64)> {
        self.0.range((channel, i64::MIN)..=(channel, i64::MAX)).map(|(&(_, segment), &batches)| (segment, batches))
    }
}

/// A host whose syncs are counted.
pub struct Counting<'a, H> {
    /// The host.
    pub host: &'a mut H,
    /// The counts.
    pub counts: &'a mut Counts,
}

impl<H: Host> Host for Counting<'_, H> {
    fn vchannels(&mut self) -> Ticket {
        self.host.vchannels()
    }
    fn recovery_info(&mut self, channel: ChannelIndex) -> Ticket {
        self.host.recovery_info(channel)
    }
    fn append_flush(&mut self, channel: ChannelIndex, partition: i64, segment: i64) -> Ticket {
        self.host.append_flush(channel, partition, segment)
    }
    fn open(&mut self, channels: &[ChannelIndex]) -> Ticket {
        self.host.open(channels)
    }
    fn next(&mut self, max: u32) -> Page {
        self.host.next(max)
    }
    fn alloc_segment(&mut self, channel: ChannelIndex, at: Ordinal) -> Ticket {
        self.host.alloc_segment(channel, at)
    }
    fn sync(&mut self, channel: ChannelIndex, segment: i64, up_to: Ordinal, flush: bool) -> Ticket {
        *self.counts.0.entry((channel, segment)).or_default() += 1;
        self.host.sync(channel, segment, up_to, flush)
    }
    fn sync_deletes(&mut self, channel: ChannelIndex, partition: i64, up_to: Ordinal) -> Ticket {
        self.host.sync_deletes(channel, partition, up_to)
    }
    fn drop_segment(&mut self, channel: ChannelIndex, segment: i64, at: Ordinal) -> Ticket {
        self.host.drop_segment(channel, segment, at)
    }
    fn drop_channel(&mut self, channel: ChannelIndex, at: Ordinal) -> Ticket {
        self.host.drop_channel(channel, at)
    }
    fn filter(&mut self, messages: &[Filtered]) {
        self.host.filter(messages);
    }
    fn detach(&mut self, channel: ChannelIndex, reason: &str) {
        self.host.detach(channel, reason);
    }
    fn report(&mut self, checkpoints: &[(ChannelIndex, Ordinal)]) -> Ticket {
        self.host.report(checkpoints)
    }
    fn save_checkpoint(&mut self, at: Ordinal) -> Ticket {
        self.host.save_checkpoint(at)
    }
    fn log_enabled(&self, level: Level) -> bool {
        self.host.log_enabled(level)
    }
    fn log(&mut self, level: Level, message: &str, fields: &[(&str, String)]) {
        self.host.log(level, message, fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_back_and_a_torn_entry_is_left_out() {
        let counts = Counts(BTreeMap::from([((1, -7), 3), ((1, 9), 1), ((4, 2), u64::MAX)]));
        let mut bytes = counts.encode();
        assert_eq!(Counts::decode(&bytes), counts);
        bytes.pop();
        assert_eq!(Counts::decode(&bytes).of(1).collect::<Vec<_>>(), [(-7, 3), (9, 1)]);
        assert_eq!(Counts::decode(&bytes).of(4).count(), 0);
    }
}
