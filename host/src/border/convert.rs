//! The core's plain data ↔ the bindings' types.
//!
//! What every version has for itself is converted by macros, which take the module of its bindings; a page costs what its lists cost to move.

use tidegate_core::turn as core;

use super::bindings::v0_2::exports::tidegate::flusher::logic;
use super::bindings::v0_2::tidegate::flusher::types;

macro_rules! page {
    ($wal:ident, $page:expr) => {{
        use tidegate_core::turn::{ControlBody, Page};
        let Page { first, kinds, flags, channels, collections, partitions, segments, rows, bytes, ticks, controls } = $page;
        let body = |body| match body {
            ControlBody::Intern(name) => $wal::ControlBody::Intern(name),
            ControlBody::CreateCollection(partitions, hazard) => $wal::ControlBody::CreateCollection((partitions, hazard)),
            ControlBody::CreateSegment(level_zero) => $wal::ControlBody::CreateSegment(level_zero),
            ControlBody::Seal(segments, hazard) => $wal::ControlBody::Seal((segments, hazard)),
            ControlBody::Hazard(reason) => $wal::ControlBody::Hazard(reason),
        };
        let controls = controls.into_iter().map(|c| $wal::Control { ordinal: c.ordinal, body: body(c.body) }).collect();
        $wal::Page { first, kinds, flags, channels, collections, partitions, segments, rows, bytes, ticks, controls }
    }};
}
pub(super) use page;

macro_rules! report {
    ($logic:ident, $report:expr) => {{
        use tidegate_core::turn::{GuestPhase, TurnReport};
        let $logic::Report { phase, more, idle_ticks_filtered, unknown_types, pressure_cuts } = $report;
        let phase = match phase {
            $logic::Phase::InRecovery => GuestPhase::InRecovery,
            $logic::Phase::Working => GuestPhase::Working,
            $logic::Phase::LogMoved => GuestPhase::LogMoved,
        };
        TurnReport { phase, more, idle_ticks_filtered, unknown_types, pressure_cuts }
    }};
}
pub(super) use report;

/// Makes a table of the lists; an error in words if they are not equally long.
pub(super) fn holdings(h: &logic::Holdings) -> Result<Vec<core::Holding>, String> {
    let lengths = [h.channels.len(), h.deletes.len(), h.ids.len(), h.first.len(), h.last.len(), h.rows.len(), h.bytes.len()];
    if lengths.iter().any(|&length| length != lengths[0]) {
        return Err(format!("the lists of its accounts have {lengths:?} elements"));
    }
    let holding = |at: usize| core::Holding {
        channel: h.channels[at],
        deletes: h.deletes[at],
        id: h.ids[at],
        first: h.first[at],
        last: h.last[at],
        rows: h.rows[at],
        bytes: h.bytes[at],
    };
    Ok((0..h.ids.len()).map(holding).collect())
}

pub(super) fn filtered(run: types::Filtered) -> core::Filtered {
    core::Filtered {
        channel: run.channel,
        first: run.first,
        last: run.last,
        reason: match run.reason {
            types::FilterReason::Duplicate => core::FilterReason::Duplicate,
            types::FilterReason::DroppedSegment => core::FilterReason::DroppedSegment,
            types::FilterReason::ForeignCollection => core::FilterReason::ForeignCollection,
            types::FilterReason::DroppedChannel => core::FilterReason::DroppedChannel,
            types::FilterReason::UnknownChannel => core::FilterReason::UnknownChannel,
            types::FilterReason::DroppedPartition => core::FilterReason::DroppedPartition,
            types::FilterReason::UnknownSegment => core::FilterReason::UnknownSegment,
            types::FilterReason::Repeated => core::FilterReason::Repeated,
        },
    }
}

pub(crate) fn completion(c: &core::Completion) -> types::Completion {
    types::Completion {
        ticket: c.ticket,
        kind: match c.kind {
            core::IntentKind::VChannels => types::IntentKind::Vchannels,
            core::IntentKind::RecoveryInfo => types::IntentKind::RecoveryInfo,
            core::IntentKind::AppendFlush => types::IntentKind::AppendFlush,
            core::IntentKind::Open => types::IntentKind::Open,
            core::IntentKind::AllocSegment => types::IntentKind::AllocSegment,
            core::IntentKind::Sync => types::IntentKind::Sync,
            core::IntentKind::SyncDeletes => types::IntentKind::SyncDeletes,
            core::IntentKind::DropSegment => types::IntentKind::DropSegment,
            core::IntentKind::DropChannel => types::IntentKind::DropChannel,
            core::IntentKind::Report => types::IntentKind::Report,
            core::IntentKind::SaveCheckpoint => types::IntentKind::SaveCheckpoint,
            core::IntentKind::Detach => types::IntentKind::Detach,
        },
        channel: c.channel,
        segment: c.segment,
        up_to: c.up_to,
        outcome: c.outcome.as_ref().map(answer).map_err(refusal),
    }
}

fn answer(answer: &core::Answer) -> types::Answer {
    match answer {
        core::Answer::Nothing => types::Answer::Nothing,
        core::Answer::VChannels(names) => types::Answer::Vchannels(
            names.iter().map(|(channel, name)| types::NamedChannel { channel: *channel, name: name.clone() }).collect(),
        ),
        core::Answer::Recovered(r) => types::Answer::Recovered(types::RecoveredChannel {
            collection: r.collection,
            seek_tick: r.seek_tick,
            segments: r.segments.iter().map(segment).collect(),
            hazard: r.hazard.clone(),
        }),
        core::Answer::Synced(rows) => types::Answer::Synced(*rows),
        core::Answer::Checkpoints(stored) => {
            types::Answer::Checkpoints(stored.iter().map(|&(channel, ordinal)| types::StoredCheckpoint { channel, ordinal }).collect())
        }
    }
}

fn segment(s: &core::RecoveredSegment) -> types::RecoveredSegment {
    types::RecoveredSegment {
        segment: s.segment,
        partition: s.partition,
        state: match s.state {
            core::SegmentStanding::Growing => types::SegmentState::Growing,
            core::SegmentStanding::Flushed => types::SegmentState::Flushed,
            core::SegmentStanding::Dropped => types::SegmentState::Dropped,
        },
        dml_tick: s.dml_tick,
        old_architecture: s.old_architecture,
    }
}

fn refusal(r: &core::Refusal) -> types::Refusal {
    types::Refusal {
        kind: match r.kind {
            core::RefusalKind::NotFound => types::RefusalKind::NotFound,
            core::RefusalKind::NotAvailable => types::RefusalKind::NotAvailable,
            core::RefusalKind::Dropped => types::RefusalKind::Dropped,
            core::RefusalKind::Unsupported => types::RefusalKind::Unsupported,
            core::RefusalKind::Permanent => types::RefusalKind::Permanent,
            core::RefusalKind::Guard => types::RefusalKind::Guard,
        },
        detail: r.detail.clone(),
    }
}
