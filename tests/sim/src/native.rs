//! The guest's logic as it is in the component, without the component: the host's side of the border in plain Rust.

use tidegate_core::turn as core;
use tidegate_flusher::Flusher;
use tidegate_flusher::contract as own;

/// An instance of the logic.
pub trait Guest {
    /// Runs a turn.
    ///
    /// # Errors
    /// The instance is of no use any more.
    fn turn(&mut self, input: &core::TurnInput) -> Result<core::TurnOutput, core::Fault>;

    /// Takes a snapshot.
    ///
    /// # Errors
    /// The instance is of no use any more.
    fn snapshot(&mut self) -> Result<Vec<u8>, core::Fault>;

    /// Says what it holds.
    ///
    /// # Errors
    /// The instance is of no use any more.
    fn accounts(&mut self) -> Result<Vec<core::Holding>, core::Fault>;
}

/// What makes instances.
pub trait Guests {
    /// Makes one, from nothing or from a snapshot.
    ///
    /// # Errors
    /// It does not start.
    fn start(&self, config: &own::Config, resume: Option<&[u8]>) -> Result<Box<dyn Guest>, core::Fault>;
}

/// Makes instances of the native logic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Guests for Native {
    fn start(&self, config: &own::Config, resume: Option<&[u8]>) -> Result<Box<dyn Guest>, core::Fault> {
        let flusher = match resume {
            Some(snapshot) => Flusher::restore(config.clone(), snapshot).map_err(|e| core::Fault::Start(e.to_string()))?,
            None => Flusher::new(config.clone()),
        };
        Ok(Box::new(Instance(flusher)))
    }
}

struct Instance(Flusher);

impl Guest for Instance {
    fn turn(&mut self, input: &core::TurnInput) -> Result<core::TurnOutput, core::Fault> {
        let completions: Vec<own::Completion> = input.completions.iter().map(completion).collect();
        let mut imports = Imports { page: input.page.clone(), taken: 0, intents: Vec::new(), first_ticket: input.first_ticket };
        let report = self.0.turn(&mut imports, &completions, input.pressure);
        let report = core::TurnReport {
            phase: match report.phase {
                own::Phase::InRecovery => core::GuestPhase::InRecovery,
                own::Phase::Working => core::GuestPhase::Working,
                own::Phase::LogMoved => core::GuestPhase::LogMoved,
            },
            more: report.more,
            idle_ticks_filtered: report.counts.idle_ticks_filtered,
            unknown_types: report.counts.unknown_types,
            pressure_cuts: report.counts.pressure_cuts,
        };
        Ok(core::TurnOutput { intents: imports.intents, taken: imports.taken, report })
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, core::Fault> {
        Ok(self.0.snapshot())
    }

    fn accounts(&mut self) -> Result<Vec<core::Holding>, core::Fault> {
        Ok(self.0.accounts().iter().map(holding).collect())
    }
}

struct Imports {
    page: core::Page,
    taken: usize,
    intents: Vec<core::Intent>,
    first_ticket: core::Ticket,
}

impl Imports {
    fn record(&mut self, intent: core::Intent) -> own::Ticket {
        self.intents.push(intent);
        self.first_ticket + self.intents.len() as core::Ticket - 1
    }
}

impl own::Host for Imports {
    fn vchannels(&mut self) -> own::Ticket {
        self.record(core::Intent::VChannels)
    }
    fn recovery_info(&mut self, channel: u32) -> own::Ticket {
        self.record(core::Intent::RecoveryInfo(channel))
    }
    fn append_flush(&mut self, channel: u32, partition: i64, segment: i64) -> own::Ticket {
        self.record(core::Intent::AppendFlush { channel, partition, segment })
    }
    fn open(&mut self, channels: &[u32]) -> own::Ticket {
        self.record(core::Intent::Open(channels.to_vec()))
    }
    fn next(&mut self, max: u32) -> own::Page {
        let max = max as usize;
        let page = if self.page.len() > max { self.page.take_groups(max) } else { std::mem::take(&mut self.page) };
        self.taken += page.len();
        own_page(page)
    }
    fn alloc_segment(&mut self, channel: u32, at: u64) -> own::Ticket {
        self.record(core::Intent::AllocSegment { channel, at })
    }
    fn sync(&mut self, channel: u32, segment: i64, up_to: u64, flush: bool) -> own::Ticket {
        self.record(core::Intent::Sync { channel, segment, up_to, flush })
    }
    fn sync_deletes(&mut self, channel: u32, partition: i64, up_to: u64) -> own::Ticket {
        self.record(core::Intent::SyncDeletes { channel, partition, up_to })
    }
    fn drop_segment(&mut self, channel: u32, segment: i64, at: u64) -> own::Ticket {
        self.record(core::Intent::DropSegment { channel, segment, at })
    }
    fn drop_channel(&mut self, channel: u32, at: u64) -> own::Ticket {
        self.record(core::Intent::DropChannel { channel, at })
    }
    fn filter(&mut self, messages: &[own::Filtered]) {
        let runs = messages.iter().map(|m| core::Filtered { channel: m.channel, first: m.first, last: m.last, reason: reason(m.reason) });
        let intent = core::Intent::Filter(runs.collect());
        self.record(intent);
    }
    fn detach(&mut self, channel: u32, reason: &str) {
        self.record(core::Intent::Detach { channel, reason: reason.to_owned() });
    }
    fn report(&mut self, checkpoints: &[(u32, u64)]) -> own::Ticket {
        self.record(core::Intent::Report(checkpoints.to_vec()))
    }
    fn save_checkpoint(&mut self, at: u64) -> own::Ticket {
        self.record(core::Intent::SaveCheckpoint(at))
    }
    fn log_enabled(&self, _level: own::Level) -> bool {
        false
    }
    fn log(&mut self, _level: own::Level, _message: &str, _fields: &[(&str, String)]) {}
}

fn reason(reason: own::FilterReason) -> core::FilterReason {
    match reason {
        own::FilterReason::Duplicate => core::FilterReason::Duplicate,
        own::FilterReason::DroppedSegment => core::FilterReason::DroppedSegment,
        own::FilterReason::ForeignCollection => core::FilterReason::ForeignCollection,
        own::FilterReason::DroppedChannel => core::FilterReason::DroppedChannel,
        own::FilterReason::UnknownChannel => core::FilterReason::UnknownChannel,
        own::FilterReason::DroppedPartition => core::FilterReason::DroppedPartition,
        own::FilterReason::UnknownSegment => core::FilterReason::UnknownSegment,
        own::FilterReason::Repeated => core::FilterReason::Repeated,
    }
}

fn own_page(page: core::Page) -> own::Page {
    let body = |body| match body {
        core::ControlBody::Intern(name) => own::ControlBody::Intern(name),
        core::ControlBody::CreateCollection(partitions, hazard) => own::ControlBody::CreateCollection(partitions, hazard),
        core::ControlBody::CreateSegment(level_zero) => own::ControlBody::CreateSegment(level_zero),
        core::ControlBody::Seal(segments, hazard) => own::ControlBody::Seal(segments, hazard),
        core::ControlBody::Hazard(reason) => own::ControlBody::Hazard(reason),
    };
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

fn completion(c: &core::Completion) -> own::Completion {
    own::Completion {
        ticket: c.ticket,
        kind: match c.kind {
            core::IntentKind::VChannels => own::IntentKind::VChannels,
            core::IntentKind::RecoveryInfo => own::IntentKind::RecoveryInfo,
            core::IntentKind::AppendFlush => own::IntentKind::AppendFlush,
            core::IntentKind::Open => own::IntentKind::Open,
            core::IntentKind::AllocSegment => own::IntentKind::AllocSegment,
            core::IntentKind::Sync => own::IntentKind::Sync,
            core::IntentKind::SyncDeletes => own::IntentKind::SyncDeletes,
            core::IntentKind::DropSegment => own::IntentKind::DropSegment,
            core::IntentKind::DropChannel => own::IntentKind::DropChannel,
            core::IntentKind::Report => own::IntentKind::Report,
            core::IntentKind::SaveCheckpoint => own::IntentKind::SaveCheckpoint,
            core::IntentKind::Detach => own::IntentKind::Detach,
        },
        channel: c.channel,
        segment: c.segment,
        up_to: c.up_to,
        outcome: c.outcome.as_ref().map(answer).map_err(refusal),
    }
}

fn holding(h: &own::Holding) -> core::Holding {
    core::Holding { channel: h.channel, deletes: h.deletes, id: h.id, first: h.first, last: h.last, rows: h.rows, bytes: h.bytes }
}

fn answer(answer: &core::Answer) -> own::Answer {
    match answer {
        core::Answer::Nothing => own::Answer::Nothing,
        core::Answer::VChannels(names) => own::Answer::VChannels(names.clone()),
        core::Answer::Recovered(r) => own::Answer::Recovered(own::RecoveredChannel {
            collection: r.collection,
            seek_tick: r.seek_tick,
            segments: r.segments.iter().map(segment).collect(),
            hazard: r.hazard.clone(),
        }),
        core::Answer::Synced(rows) => own::Answer::Synced(*rows),
        core::Answer::Checkpoints(stored) => own::Answer::Checkpoints(stored.clone()),
    }
}

fn segment(s: &core::RecoveredSegment) -> own::RecoveredSegment {
    own::RecoveredSegment {
        segment: s.segment,
        partition: s.partition,
        state: match s.state {
            core::SegmentStanding::Growing => own::SegmentState::Growing,
            core::SegmentStanding::Flushed => own::SegmentState::Flushed,
            core::SegmentStanding::Dropped => own::SegmentState::Dropped,
        },
        dml_tick: s.dml_tick,
        old_architecture: s.old_architecture,
    }
}

fn refusal(r: &core::Refusal) -> own::Refusal {
    own::Refusal {
        kind: match r.kind {
            core::RefusalKind::NotFound => own::RefusalKind::NotFound,
            core::RefusalKind::NotAvailable => own::RefusalKind::NotAvailable,
            core::RefusalKind::Dropped => own::RefusalKind::Dropped,
            core::RefusalKind::Unsupported => own::RefusalKind::Unsupported,
            core::RefusalKind::Permanent => own::RefusalKind::Permanent,
            core::RefusalKind::Guard => own::RefusalKind::Guard,
        },
        detail: r.detail.clone(),
    }
}
