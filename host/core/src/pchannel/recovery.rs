//! What the coordinator knows, taken over: where channels stand, and where the scan begins.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::work::{Purpose, refusal, unsupported_version};
use super::{Pchannel, Work};
use crate::account::{Pinned, Standing, Wait};
use crate::calls::{CallError, Position, RecoveryInfo, SegmentInfo, SegmentState, storage_version};
use crate::mutants::{Mutant, is_mutated};
use crate::turn::{
    Answer, ChannelIndex, EVERY_CHANNEL, IntentKind, RecoveredChannel, RecoveredSegment, Refusal, RefusalKind, SegmentStanding, Ticket,
};

impl Pchannel {
    pub(super) fn recovered(&mut self, ticket: Ticket, channel: ChannelIndex, info: RecoveryInfo) {
        // A channel that stands before this scan's start was not read from there: a scan of its own does it.
        let behind = self.scan_from.as_ref().is_some_and(|from| match &info.seek {
            Some(seek) => seek.last_confirmed.compare(&from.last_confirmed).is_ok_and(|o| o.is_lt()),
            None => true,
        });
        let Some(account) = self.channels.get_mut(&channel) else { return };
        if behind && account.is_live() {
            account.collection = Some(info.collection);
            account.seek = info.seek.clone();
            let reason = "it stands before the start of this scan".to_owned();
            self.detach(channel, reason);
            self.rejoin_due(channel, self.now_ms);
        }
        let outcome = match self.channels.get(&channel).map(|account| &account.standing) {
            Some(Standing::Detached { reason, .. }) => Err(Refusal::new(RefusalKind::Permanent, reason.clone())),
            // Another answer said so meanwhile, and this one is older.
            Some(Standing::Dropped) => Err(Refusal::new(RefusalKind::Dropped, "the channel was dropped meanwhile".to_owned())),
            _ => match self.adopt(channel, info) {
                Some(recovered) => Ok(Answer::Recovered(recovered)),
                None => return,
            },
        };
        self.complete(ticket, IntentKind::RecoveryInfo, channel, 0, 0, outcome);
    }

    /// Takes over what the coordinator knows of a channel, and says it as the component hears it.
    pub(super) fn adopt(&mut self, channel: ChannelIndex, info: RecoveryInfo) -> Option<RecoveredChannel> {
        let account = self.channels.get_mut(&channel)?;
        account.collection = Some(info.collection);
        account.seek = info.seek.clone();
        account.standing = Standing::Served;
        for (from, schema) in info.schemas {
            if account.schemas.binary_search_by_key(&from, |(f, _)| *f).is_err() {
                account.schemas.push((from, Arc::new(schema)));
            }
        }
        account.schemas.sort_by_key(|(from, _)| *from);
        let hazard = hazard_of(!account.schemas.is_empty(), &info.segments);
        let mut segments = Vec::with_capacity(info.segments.len());
        for s in info.segments {
            segments.push(RecoveredSegment {
                segment: s.segment,
                partition: s.partition,
                state: match s.state {
                    SegmentState::Growing => SegmentStanding::Growing,
                    SegmentState::Flushed => SegmentStanding::Flushed,
                    SegmentState::Dropped => SegmentStanding::Dropped,
                },
                dml_tick: s.dml.as_ref().map_or(0, |p| p.tick),
                old_architecture: !s.created_by_streaming,
            });
            let entry = account.segments.entry(s.segment).or_default();
            entry.partition = s.partition;
            entry.dropped = s.state == SegmentState::Dropped;
            entry.storage_version = s.storage_version;
            entry.recovered_dml = s.dml.clone();
            entry.dml = s.dml;
            entry.start = s.start.or(entry.start.take());
            entry.files = s.files;
            entry.rows = s.rows;
            let id = s.segment;
            account.segment_registered(id);
            if s.state != SegmentState::Growing {
                account.segment_ended(id);
            }
        }
        account.settle_controls(|w| *w == Wait::Standing);
        self.check_pinned(channel);
        Some(RecoveredChannel { collection: info.collection, seek_tick: info.seek.map_or(0, |p| p.tick), segments, hazard })
    }

    pub(super) fn not_recovered(&mut self, ticket: Ticket, channel: ChannelIndex, error: CallError) {
        if let Some(account) = self.channels.get_mut(&channel).filter(|c| c.is_live()) {
            match &error {
                CallError::Dropped(_) => account.standing = Standing::Dropped,
                CallError::NotFound(_) => account.standing = Standing::NotFound,
                // The channel begins in this scan, with the CreateCollection that waits for this answer.
                CallError::NotAvailable(_) => {
                    let begins = account.pins.values().find(|p| matches!(&p.what, Pinned::Control(w) if w.contains(&Wait::Standing)));
                    if let Some(pin) = begins {
                        account.seek = Some(pin.position.clone());
                        account.standing = Standing::Served;
                        account.settle_controls(|w| *w == Wait::Standing);
                    } else if self.scan_from.is_none() && account.first.is_none() {
                        self.channels.remove(&channel);
                        self.introduced.remove(&channel);
                        self.stored.remove(&(0, channel));
                    }
                }
                _ => {}
            }
        }
        if matches!(error, CallError::Dropped(_) | CallError::NotFound(_)) {
            self.hold_no_more(channel);
        }
        self.complete(ticket, IntentKind::RecoveryInfo, channel, 0, 0, Err(refusal(error)));
    }

    /// The scan starts at the smaller of the stored consume checkpoint and the channels' seek positions; without channels at the stored
    /// one; without either at the earliest record.
    pub(super) fn open_scan(&mut self, ticket: Ticket, channels: &[ChannelIndex], stored: Option<Position>) {
        let listed: BTreeSet<ChannelIndex> = channels.iter().copied().collect();
        let left_out: Vec<ChannelIndex> =
            self.channels.values().filter(|c| c.is_served() && !listed.contains(&c.index)).map(|c| c.index).collect();
        for index in left_out {
            self.detach_and_tell(index, "the component left it out of the scan".to_owned());
        }
        self.consumed = stored.clone();
        let mut from = stored;
        let mut earliest = from.is_none() && channels.is_empty();
        for index in channels {
            let Some(account) = self.channels.get(index).filter(|c| c.is_served()) else { continue };
            match (&account.seek, &from) {
                (None, _) => earliest = true,
                (Some(seek), None) => from = Some(seek.clone()),
                (Some(seek), Some(smallest)) => match seek.last_confirmed.compare(&smallest.last_confirmed) {
                    Ok(order) if order.is_lt() != is_mutated(Mutant::LargerStart) => from = Some(seek.clone()),
                    Ok(_) => {}
                    // CK-4: ids of different logs are never compared.
                    Err(error) => {
                        let refusal = Refusal::new(RefusalKind::Permanent, format!("channel {}: {error}", account.name));
                        self.complete(ticket, IntentKind::Open, EVERY_CHANNEL, 0, 0, Err(refusal));
                        return;
                    }
                },
            }
        }
        let from = if earliest { None } else { from };
        self.scan_from = from.clone();
        self.begin(Purpose::OpenScan { ticket }, Work::OpenScan { scan: self.scan, from });
    }
}

/// Why a channel cannot be served as its coordinator knows it.
pub(super) fn hazard_of(knows_schema: bool, segments: &[SegmentInfo]) -> Option<String> {
    let foreign = segments.iter().find(|s| s.state == SegmentState::Growing && !storage_version::is_known(s.storage_version));
    match foreign {
        _ if !knows_schema => Some("the coordinator has no schema for the channel".to_owned()),
        Some(s) => Some(unsupported_version(s.segment, s.storage_version)),
        None => None,
    }
}
