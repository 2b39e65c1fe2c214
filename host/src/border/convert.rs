//! The core's plain data ↔ the bindings' types.

use tidegate_core::turn as core;

use super::bindings::exports::tidegate::flusher::logic;
use super::bindings::tidegate::flusher::{types, wal};

pub(crate) fn page(page: core::Page) -> wal::Page {
    let controls = page.controls.into_iter().map(|c| wal::Control { ordinal: c.ordinal, body: body(c.body) }).collect();
    wal::Page {
        first: page.first,
        kinds: page.kinds,
        flags: page.flags,
        channels: page.channels,
        collections: page.collections,
        partitions: page.partitions,
        segments: page.segments,
        rows: page.rows,
        bytes: page.bytes,
        ticks: page.ticks,
        controls,
    }
}

fn body(body: core::ControlBody) -> wal::ControlBody {
    match body {
        core::ControlBody::Intern(name) => wal::ControlBody::Intern(name),
        core::ControlBody::CreateCollection(partitions, hazard) => wal::ControlBody::CreateCollection((partitions, hazard)),
        core::ControlBody::CreateSegment(level_zero) => wal::ControlBody::CreateSegment(level_zero),
        core::ControlBody::Seal(segments, hazard) => wal::ControlBody::Seal((segments, hazard)),
        core::ControlBody::Hazard(reason) => wal::ControlBody::Hazard(reason),
    }
}

pub(crate) fn filtered(run: types::Filtered) -> core::Filtered {
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

pub(crate) fn report(report: &logic::Report) -> core::TurnReport {
    core::TurnReport {
        phase: match report.phase {
            logic::Phase::InRecovery => core::GuestPhase::InRecovery,
            logic::Phase::Working => core::GuestPhase::Working,
            logic::Phase::LogMoved => core::GuestPhase::LogMoved,
        },
        more: report.more,
        idle_ticks_filtered: report.idle_ticks_filtered,
        unknown_types: report.unknown_types,
        pressure_cuts: report.pressure_cuts,
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
