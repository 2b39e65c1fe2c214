//! The glue of a component: what its exports and imports say, between the bindings of a contract version and [`Logic`].
//!
//! Variants take this file in beside bindings of their own: `super` has the bindings and names the `Version`.

use std::cell::RefCell;

use tidegate_flusher::contract::{self as own, Logic};

use super::Version;
use super::exports::tidegate::flusher::logic;
use super::tidegate::flusher::{checkpoint, chunk_storage, coordinator, log, types, wal};

thread_local! {
    static VERSION: RefCell<Option<Version>> = const { RefCell::new(None) };
}

/// Begins, or goes on from a snapshot.
pub(super) fn start(config: logic::Config, resume: Option<&[u8]>) -> Result<(), String> {
    std::panic::set_hook(Box::new(|panic| log::event(log::Level::Error, &panic.to_string(), &[])));
    let config = own::Config {
        pchannel: config.pchannel,
        term: config.term,
        insert_bytes_max: config.insert_bytes_max,
        delete_bytes_max: config.delete_bytes_max,
        sync_period_ms: config.sync_period_ms,
        report_period_ms: config.report_period_ms,
        reports_max: config.reports_max,
        idle_tick_ms: config.idle_tick_ms,
        page_max: config.page_max,
    };
    VERSION.set(Some(Version::start(config, resume)?));
    Ok(())
}

/// Runs a turn.
pub(super) fn turn(completions: Vec<types::Completion>, pressure: u64) -> logic::Report {
    let completions: Vec<own::Completion> = completions.into_iter().map(completion).collect();
    let report = with(|version| version.turn(&mut Imports, &completions, pressure));
    logic::Report {
        phase: match report.phase {
            own::Phase::InRecovery => logic::Phase::InRecovery,
            own::Phase::Working => logic::Phase::Working,
            own::Phase::LogMoved => logic::Phase::LogMoved,
        },
        more: report.more,
        idle_ticks_filtered: report.counts.idle_ticks_filtered,
        unknown_types: report.counts.unknown_types,
        pressure_cuts: report.counts.pressure_cuts,
    }
}

/// Returns the state for a successor.
pub(super) fn snapshot() -> Vec<u8> {
    with(|version| version.snapshot())
}

/// Says why a channel's checkpoint is where it is.
pub(super) fn explain(channel: u32) -> String {
    with(|version| version.explain(channel))
}

/// Runs on the version; a call before `start` is the host's mistake and traps.
pub(super) fn with<T>(run: impl FnOnce(&mut Version) -> T) -> T {
    VERSION.with_borrow_mut(|version| match version {
        Some(version) => run(version),
        None => panic!("called before start"),
    })
}

struct Imports;

impl own::Host for Imports {
    fn vchannels(&mut self) -> own::Ticket {
        coordinator::vchannels()
    }
    fn recovery_info(&mut self, channel: u32) -> own::Ticket {
        coordinator::recovery_info(channel)
    }
    fn append_flush(&mut self, channel: u32, partition: i64, segment: i64) -> own::Ticket {
        wal::append_flush(channel, partition, segment)
    }
    fn open(&mut self, channels: &[u32]) -> own::Ticket {
        wal::open(channels)
    }
    fn next(&mut self, max: u32) -> own::Page {
        page(wal::next(max))
    }
    fn alloc_segment(&mut self, channel: u32, at: u64) -> own::Ticket {
        coordinator::alloc_segment(channel, at)
    }
    fn sync(&mut self, channel: u32, segment: i64, up_to: u64, flush: bool) -> own::Ticket {
        chunk_storage::sync(channel, segment, up_to, flush)
    }
    fn sync_deletes(&mut self, channel: u32, partition: i64, up_to: u64) -> own::Ticket {
        chunk_storage::sync_deletes(channel, partition, up_to)
    }
    fn drop_segment(&mut self, channel: u32, segment: i64, at: u64) -> own::Ticket {
        chunk_storage::drop_segment(channel, segment, at)
    }
    fn drop_channel(&mut self, channel: u32, at: u64) -> own::Ticket {
        coordinator::drop_channel(channel, at)
    }
    fn filter(&mut self, messages: &[own::Filtered]) {
        let messages: Vec<types::Filtered> = messages
            .iter()
            .map(|m| types::Filtered { channel: m.channel, first: m.first, last: m.last, reason: reason(m.reason) })
            .collect();
        chunk_storage::filter(&messages);
    }
    fn detach(&mut self, channel: u32, reason: &str) {
        chunk_storage::detach(channel, reason);
    }
    fn report(&mut self, checkpoints: &[(u32, u64)]) -> own::Ticket {
        coordinator::report(checkpoints)
    }
    fn save_checkpoint(&mut self, at: u64) -> own::Ticket {
        checkpoint::save(at)
    }
    fn log_enabled(&self, level: own::Level) -> bool {
        log::enabled(log_level(level))
    }
    fn log(&mut self, level: own::Level, message: &str, fields: &[(&str, String)]) {
        if self.log_enabled(level) {
            let fields: Vec<(String, String)> = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
            log::event(log_level(level), message, &fields);
        }
    }
}

fn log_level(level: own::Level) -> log::Level {
    match level {
        own::Level::Error => log::Level::Error,
        own::Level::Warn => log::Level::Warn,
        own::Level::Info => log::Level::Info,
        own::Level::Debug => log::Level::Debug,
    }
}

fn reason(reason: own::FilterReason) -> types::FilterReason {
    match reason {
        own::FilterReason::Duplicate => types::FilterReason::Duplicate,
        own::FilterReason::DroppedSegment => types::FilterReason::DroppedSegment,
        own::FilterReason::ForeignCollection => types::FilterReason::ForeignCollection,
        own::FilterReason::DroppedChannel => types::FilterReason::DroppedChannel,
        own::FilterReason::UnknownChannel => types::FilterReason::UnknownChannel,
        own::FilterReason::DroppedPartition => types::FilterReason::DroppedPartition,
        own::FilterReason::UnknownSegment => types::FilterReason::UnknownSegment,
        own::FilterReason::Repeated => types::FilterReason::Repeated,
    }
}

fn page(page: wal::Page) -> own::Page {
    let controls = page.controls.into_iter().map(|c| own::Control { ordinal: c.ordinal, body: body(c.body) }).collect();
    own::Page {
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

fn body(body: wal::ControlBody) -> own::ControlBody {
    match body {
        wal::ControlBody::Intern(name) => own::ControlBody::Intern(name),
        wal::ControlBody::CreateCollection((partitions, hazard)) => own::ControlBody::CreateCollection(partitions, hazard),
        wal::ControlBody::CreateSegment(level_zero) => own::ControlBody::CreateSegment(level_zero),
        wal::ControlBody::Seal((segments, hazard)) => own::ControlBody::Seal(segments, hazard),
        wal::ControlBody::Hazard(reason) => own::ControlBody::Hazard(reason),
    }
}

fn completion(c: types::Completion) -> own::Completion {
    own::Completion {
        ticket: c.ticket,
        kind: match c.kind {
            types::IntentKind::Vchannels => own::IntentKind::VChannels,
            types::IntentKind::RecoveryInfo => own::IntentKind::RecoveryInfo,
            types::IntentKind::AppendFlush => own::IntentKind::AppendFlush,
            types::IntentKind::Open => own::IntentKind::Open,
            types::IntentKind::AllocSegment => own::IntentKind::AllocSegment,
            types::IntentKind::Sync => own::IntentKind::Sync,
            types::IntentKind::SyncDeletes => own::IntentKind::SyncDeletes,
            types::IntentKind::DropSegment => own::IntentKind::DropSegment,
            types::IntentKind::DropChannel => own::IntentKind::DropChannel,
            types::IntentKind::Report => own::IntentKind::Report,
            types::IntentKind::SaveCheckpoint => own::IntentKind::SaveCheckpoint,
            types::IntentKind::Detach => own::IntentKind::Detach,
        },
        channel: c.channel,
        segment: c.segment,
        up_to: c.up_to,
        outcome: c.outcome.map(answer).map_err(refusal),
    }
}

fn answer(answer: types::Answer) -> own::Answer {
    match answer {
        types::Answer::Nothing => own::Answer::Nothing,
        types::Answer::Vchannels(names) => own::Answer::VChannels(names.into_iter().map(|n| (n.channel, n.name)).collect()),
        types::Answer::Recovered(r) => own::Answer::Recovered(own::RecoveredChannel {
            collection: r.collection,
            seek_tick: r.seek_tick,
            segments: r.segments.into_iter().map(segment).collect(),
            hazard: r.hazard,
        }),
        types::Answer::Synced(rows) => own::Answer::Synced(rows),
        types::Answer::Checkpoints(stored) => own::Answer::Checkpoints(stored.into_iter().map(|s| (s.channel, s.ordinal)).collect()),
    }
}

fn segment(s: types::RecoveredSegment) -> own::RecoveredSegment {
    own::RecoveredSegment {
        segment: s.segment,
        partition: s.partition,
        state: match s.state {
            types::SegmentState::Growing => own::SegmentState::Growing,
            types::SegmentState::Flushed => own::SegmentState::Flushed,
            types::SegmentState::Dropped => own::SegmentState::Dropped,
        },
        dml_tick: s.dml_tick,
        old_architecture: s.old_architecture,
    }
}

fn refusal(refusal: types::Refusal) -> own::Refusal {
    own::Refusal {
        kind: match refusal.kind {
            types::RefusalKind::NotFound => own::RefusalKind::NotFound,
            types::RefusalKind::NotAvailable => own::RefusalKind::NotAvailable,
            types::RefusalKind::Dropped => own::RefusalKind::Dropped,
            types::RefusalKind::Unsupported => own::RefusalKind::Unsupported,
            types::RefusalKind::Permanent => own::RefusalKind::Permanent,
            types::RefusalKind::Guard => own::RefusalKind::Guard,
        },
        detail: refusal.detail,
    }
}
