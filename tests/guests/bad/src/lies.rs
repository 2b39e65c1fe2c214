//! A host to which lies are told.

use tidegate_flusher::contract::{ChannelIndex, FilterReason, Filtered, Host, Level, Ordinal, Page, Ticket, kind};

/// A host between a flusher that says what is right and the one that hears what is wrong.
pub struct Lying<'a, H> {
    /// The host.
    pub host: &'a mut H,
    /// Checkpoints are at the last message that was met.
    pub overtakes: bool,
    /// Inserts are duplicates.
    pub filters: bool,
    /// The last message that was met in this turn.
    pub last: Ordinal,
}

impl<H: Host> Host for Lying<'_, H> {
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
        let page = self.host.next(max);
        self.last = (page.first + page.kinds.len() as Ordinal).saturating_sub(1);
        if self.filters {
            for (at, _) in page.kinds.iter().enumerate().filter(|(_, k)| **k == kind::INSERT) {
                let ordinal = page.first + at as Ordinal;
                let lie = Filtered { channel: page.channels[at], first: ordinal, last: ordinal, reason: FilterReason::Duplicate };
                self.host.filter(&[lie]);
            }
        }
        page
    }
    fn alloc_segment(&mut self, channel: ChannelIndex, at: Ordinal) -> Ticket {
        self.host.alloc_segment(channel, at)
    }
    fn sync(&mut self, channel: ChannelIndex, segment: i64, up_to: Ordinal, flush: bool) -> Ticket {
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
        if self.overtakes {
            let further: Vec<_> = checkpoints.iter().map(|&(channel, at)| (channel, at.max(self.last))).collect();
            return self.host.report(&further);
        }
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
