//! Why a channel's checkpoint is where it is, in one sentence.

use crate::channel::{Channel, Service};
use crate::contract::{ChannelIndex, Ordinal};
use crate::flusher::{Flusher, Stage};
use crate::policy::LOGICAL_BITS;

impl Flusher {
    /// Says what holds the channel's checkpoint.
    pub fn explain(&self, index: ChannelIndex) -> String {
        let Some(channel) = self.state.channels.get(&index) else {
            return match self.state.stage {
                Stage::New | Stage::Listing => "the coordinator has not listed the channels yet".into(),
                _ => "the channel was neither listed by the coordinator nor met in the log".into(),
            };
        };
        match &channel.service {
            Service::Asking(held) => format!("waits for the coordinator's recovery information; {} messages wait with it", held.len()),
            Service::Detached(reason) => format!("detached: {reason}; it is served again when the host lets it rejoin"),
            Service::Dropping(at) => format!("being dropped: the coordinator has not acknowledged the DropCollection message {at}"),
            Service::Gone(reason) => format!("not served: {reason:?}"),
            Service::Attached if self.is_behind(index) => {
                let floor = channel.floor().map_or_else(|| "nothing waits".to_owned(), |floor| self.explain_floor(channel, floor));
                format!("catches up, at event time {} ms: {floor}", self.clock(index) >> LOGICAL_BITS)
            }
            Service::Attached => match channel.floor() {
                None => format!("nothing holds it: stored {}, last whole group ends at {}", channel.stored, self.state.group_end),
                Some(floor) => self.explain_floor(channel, floor),
            },
        }
    }

    fn explain_floor(&self, channel: &Channel, floor: Ordinal) -> String {
        let segments = channel.segments.iter().map(|(id, s)| (format!("segment {id}"), &s.buffer));
        let deletes = channel.deletes.iter().map(|(id, b)| (format!("deletes of partition {id}"), b));
        let holder = segments.chain(deletes).find(|(_, b)| b.floor() == Some(floor));
        match holder {
            Some((what, buffer)) => match (buffer.syncing(), buffer.open()) {
                (Some(sync), _) => {
                    format!("held by {what}: a sync of {} rows, messages {} to {}, is in flight", sync.rows(), sync.first(), sync.up_to)
                }
                (None, Some(batch)) => format!(
                    "held by {what}: {} rows ({} bytes) since message {} wait for a full buffer, {} s of event time or a flush",
                    batch.rows,
                    batch.bytes,
                    batch.first,
                    self.config.sync_period_ms / 1000
                ),
                (None, None) => format!("held by {what}"),
            },
            None => format!("held by the control message {floor}: the coordinator has not acknowledged it"),
        }
    }
}
