//! What the component costs: it is fed pages by hand, and peers that never fail answer its intents. Only the time inside a turn counts,
//! with the border's crossing and the host's copy of the page in it.
//!
//! ```text
//! | figure      | page                                             | must not grow with |
//! | insert      | inserts, one a group, in turn over all channels  | (caches only)      |
//! | time tick   | persisted ticks, inside a report period          | channels           |
//! | empty turn  | nothing                                          | channels           |
//! | report      | one tick that makes every channel's report due   | channels, per report |
//! | cut         | nothing, but memory pressure: batches end        | channels, per batch  |
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use tidegate_core::turn::{
    Answer, Completion, EVERY_CHANNEL, GuestPhase, Intent, IntentKind, Ordinal, Page, RecoveredChannel, RecoveredSegment, Row,
    SegmentStanding, Ticket, TurnInput, flag,
};
use tidegate_message::MessageType;

use super::BUILD;
use super::figures::{Figure, significant};
use crate::engine::{BUILT_IN, Engine, GuestConfig, Instance, Loaded};

/// Completions handed to one turn: peers answer bit by bit.
const COMPLETIONS_MAX: usize = 4_096;
/// Low bits of a time tick that count within a millisecond.
const LOGICAL_BITS: u32 = 18;
/// Event time between two reports of a channel.
const REPORT_PERIOD_MS: u64 = 60_000;
/// Bytes that memory pressure wants written, in a turn of its own each round: a few dozen batches, if they are small.
const PRESSURE_BYTES: u64 = 64 << 10;
/// Snapshots, and restores, of each size.
const SNAPSHOTS: usize = 5;
/// First segment's id: channel `n` has one growing segment, this plus `n`.
const SEGMENTS: i64 = 1_000_000;
/// The one collection, and its one partition.
const COLLECTION: i64 = 1;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Messages a round, of each kind and for each number of channels
    #[arg(long, default_value_t = 256_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub messages: u32,
    /// Numbers of channels, each with one growing segment
    #[arg(long, value_delimiter = ',', default_value = "1,1000,10000,100000", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub channels: Vec<u32>,
    /// Messages a page
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub page: u32,
    /// Rounds that count; one comes before
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `release` or `debug`; the component itself is always optimised.
    pub build: &'static str,
    /// Bytes of the built-in component.
    pub component_bytes: usize,
    /// Milliseconds to check and compile it.
    pub load_ms: f64,
    /// Messages a round.
    pub messages: u32,
    /// Messages a page.
    pub page: u32,
    /// Rounds.
    pub rounds: u32,
    /// In the order asked for.
    pub of_channels: Vec<OfChannels>,
    /// Median cost of a time tick with the most channels over that with the fewest; `None` with one number of channels.
    pub tick_ratio: Option<f64>,
}

/// Figures with a number of channels. Times are nanoseconds unless their name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct OfChannels {
    /// Channels, and growing segments.
    pub channels: u32,
    /// Milliseconds in turns from the start to the open scan.
    pub recovery_ms: f64,
    /// An insert.
    pub insert_ns: Figure,
    /// A time tick.
    pub tick_ns: Figure,
    /// A turn with nothing to do.
    pub empty_turn_ns: Figure,
    /// A channel's report, with the note of its answer.
    pub report_ns: Figure,
    /// A batch that memory pressure ends.
    pub cut_ns: Figure,
    /// Bytes of a snapshot.
    pub snapshot_bytes: usize,
    /// Milliseconds to take it.
    pub snapshot_ms: Figure,
    /// Milliseconds from it to a new instance.
    pub restore_ms: Figure,
}

/// Measures. Rounds of all numbers of channels are interleaved, so that a noisy minute falls on all of them.
///
/// # Errors
/// The component faults, or does not take what it is given.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let engine = Engine::new()?;
    let began = Instant::now();
    let component = engine.load(BUILT_IN, None)?;
    let load_ms = began.elapsed().as_secs_f64() * 1e3;
    let mut benches = options.channels.iter().map(|&n| Bench::start(&component, n, options.page)).collect::<anyhow::Result<Vec<_>>>()?;
    benches.iter_mut().try_for_each(Bench::begin)?;
    // Reports come first: once rows wait, they hold the checkpoints and nothing is left to report.
    for round in 0..=options.rounds {
        benches.iter_mut().try_for_each(|b| b.report_round(round > 0))?;
    }
    for round in 0..=options.rounds {
        benches.iter_mut().try_for_each(|b| b.message_round(options.messages, round > 0))?;
    }
    let of_channels = benches.into_iter().map(|b| b.finish(&component)).collect::<anyhow::Result<Vec<_>>>()?;
    let fewest = of_channels.iter().min_by_key(|o| o.channels);
    let most = of_channels.iter().max_by_key(|o| o.channels);
    let tick_ratio = fewest.zip(most).filter(|(f, m)| f.channels < m.channels).map(|(f, m)| m.tick_ns.median / f.tick_ns.median);
    let Options { messages, page, rounds, .. } = *options;
    Ok(Report { build: BUILD, component_bytes: component.size, load_ms, messages, page, rounds, of_channels, tick_ratio })
}

/// One number of channels, and its rounds so far.
struct Bench {
    rig: Rig,
    recovery: Duration,
    insert_ns: Vec<f64>,
    tick_ns: Vec<f64>,
    empty_turn_ns: Vec<f64>,
    report_ns: Vec<f64>,
    cut_ns: Vec<f64>,
}

impl Bench {
    fn start(component: &Loaded, channels: u32, page: u32) -> anyhow::Result<Self> {
        let (rig, recovery) = Rig::start(component, channels, page).with_context(|| format!("{channels} channels"))?;
        Ok(Self {
            rig,
            recovery,
            insert_ns: Vec::new(),
            tick_ns: Vec::new(),
            empty_turn_ns: Vec::new(),
            report_ns: Vec::new(),
            cut_ns: Vec::new(),
        })
    }

    /// The first event time: from here on reports are due.
    fn begin(&mut self) -> anyhow::Result<()> {
        let tick = self.rig.ticks(1);
        self.rig.turn(tick, 0)?;
        self.rig.settle()?;
        Ok(())
    }

    /// Lets a report period pass, until every channel's report is answered.
    fn report_round(&mut self, counts: bool) -> anyhow::Result<()> {
        let before = self.rig.reports;
        self.rig.tick += (REPORT_PERIOD_MS * 2) << LOGICAL_BITS;
        let tick = self.rig.ticks(1);
        let took = self.rig.turn(tick, 0)? + self.rig.settle()?;
        let reports = self.rig.reports - before;
        anyhow::ensure!(reports == u64::from(self.rig.channels), "{reports} reports of {} channels", self.rig.channels);
        if counts {
            self.report_ns.push(took.as_nanos() as f64 / reports as f64);
        }
        Ok(())
    }

    fn message_round(&mut self, messages: u32, counts: bool) -> anyhow::Result<()> {
        let page = self.rig.config.page_max.min(messages);
        let pages = messages / page;
        let (mut insert, mut tick, mut empty) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..pages {
            let inserts = self.rig.inserts(page);
            insert += self.rig.turn(inserts, 0)?;
        }
        self.rig.settle()?;
        for _ in 0..pages {
            let ticks = self.rig.ticks(page);
            tick += self.rig.turn(ticks, 0)?;
        }
        for _ in 0..pages {
            empty += self.rig.turn(Page::default(), 0)?;
        }
        let before = self.rig.cuts;
        let cut = self.rig.turn(Page::default(), PRESSURE_BYTES)?;
        let cuts = self.rig.cuts - before;
        anyhow::ensure!(cuts > 0, "memory pressure ended no batch");
        self.rig.settle()?;
        if counts {
            let sent = f64::from(pages * page);
            self.insert_ns.push(insert.as_nanos() as f64 / sent);
            self.tick_ns.push(tick.as_nanos() as f64 / sent);
            self.empty_turn_ns.push(empty.as_nanos() as f64 / f64::from(pages));
            self.cut_ns.push(cut.as_nanos() as f64 / cuts as f64);
        }
        Ok(())
    }

    fn finish(mut self, component: &Loaded) -> anyhow::Result<OfChannels> {
        let (mut take, mut restore, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..SNAPSHOTS {
            let began = Instant::now();
            let snapshot = self.rig.instance.snapshot()?;
            take.push(began.elapsed().as_secs_f64() * 1e3);
            let began = Instant::now();
            component.start(&self.rig.config, Some(&snapshot))?;
            restore.push(began.elapsed().as_secs_f64() * 1e3);
            bytes = snapshot.len();
        }
        Ok(OfChannels {
            channels: self.rig.channels,
            recovery_ms: self.recovery.as_secs_f64() * 1e3,
            insert_ns: Figure::of(&self.insert_ns),
            tick_ns: Figure::of(&self.tick_ns),
            empty_turn_ns: Figure::of(&self.empty_turn_ns),
            report_ns: Figure::of(&self.report_ns),
            cut_ns: Figure::of(&self.cut_ns),
            snapshot_bytes: bytes,
            snapshot_ms: Figure::of(&take),
            restore_ms: Figure::of(&restore),
        })
    }
}

/// An instance between peers that answer every intent before the next turn.
struct Rig {
    instance: Instance,
    config: GuestConfig,
    channels: u32,
    /// Of the last message.
    ordinal: Ordinal,
    tick: u64,
    next_ticket: Ticket,
    completions: Vec<Completion>,
    phase: GuestPhase,
    /// Whether the instance wants another turn.
    more: bool,
    /// Channel reports so far.
    reports: u64,
    /// Batches that memory pressure ended so far.
    cuts: u64,
}

impl Rig {
    /// Starts an instance and lets it recover; returns the time that its turns took.
    fn start(component: &Loaded, channels: u32, page: u32) -> anyhow::Result<(Self, Duration)> {
        let config = GuestConfig {
            pchannel: "tidegate-dml_0".to_owned(),
            term: 1,
            insert_bytes_max: 16 << 20,
            delete_bytes_max: 16 << 20,
            sync_period_ms: 600_000,
            report_period_ms: REPORT_PERIOD_MS,
            reports_max: 128,
            idle_tick_ms: 1_000,
            page_max: page,
        };
        let instance = component.start(&config, None)?;
        let (tick, phase) = (1_000 << LOGICAL_BITS, GuestPhase::InRecovery);
        let mut rig = Self {
            instance,
            config,
            channels,
            ordinal: 0,
            tick,
            next_ticket: 1,
            completions: Vec::new(),
            phase,
            more: false,
            reports: 0,
            cuts: 0,
        };
        let recovery = rig.turn(Page::default(), 0)? + rig.settle()?;
        anyhow::ensure!(rig.phase == GuestPhase::Working, "the component recovered no further than {:?}", rig.phase);
        Ok((rig, recovery))
    }

    /// Runs turns until nothing is left to answer; returns the time they took.
    fn settle(&mut self) -> anyhow::Result<Duration> {
        let mut took = Duration::ZERO;
        while self.more || !self.completions.is_empty() {
            took += self.turn(Page::default(), 0)?;
        }
        Ok(took)
    }

    /// Runs a turn and answers its intents; returns the time that the turn alone took.
    fn turn(&mut self, page: Page, pressure: u64) -> anyhow::Result<Duration> {
        let later = self.completions.split_off(self.completions.len().min(COMPLETIONS_MAX));
        let completions = std::mem::replace(&mut self.completions, later);
        let input = TurnInput { completions, page, pressure, first_ticket: self.next_ticket };
        let began = Instant::now();
        let output = self.instance.turn(&input)?;
        let took = began.elapsed();
        anyhow::ensure!(output.taken == input.page.len(), "{} of {} messages were taken", output.taken, input.page.len());
        (self.phase, self.more, self.cuts) = (output.report.phase, output.report.more, output.report.pressure_cuts);
        for intent in output.intents {
            let ticket = self.next_ticket;
            self.next_ticket += 1;
            let answered = self.answer(ticket, intent)?;
            self.completions.push(answered);
        }
        Ok(took)
    }

    fn answer(&mut self, ticket: Ticket, intent: Intent) -> anyhow::Result<Completion> {
        let (kind, channel, segment, up_to, answer) = match intent {
            Intent::VChannels => {
                let names = (0..self.channels).map(|n| (n, format!("tidegate-dml_0_{COLLECTION}v{n}"))).collect();
                (IntentKind::VChannels, EVERY_CHANNEL, 0, 0, Answer::VChannels(names))
            }
            Intent::RecoveryInfo(channel) => (IntentKind::RecoveryInfo, channel, 0, 0, Answer::Recovered(recovered(channel))),
            Intent::Open(_) => (IntentKind::Open, EVERY_CHANNEL, 0, 0, Answer::Nothing),
            // Every insert is one row, but the component does not count on it.
            Intent::Sync { channel, segment, up_to, .. } => (IntentKind::Sync, channel, segment, up_to, Answer::Synced(0)),
            Intent::Report(checkpoints) => {
                self.reports += checkpoints.len() as u64;
                (IntentKind::Report, EVERY_CHANNEL, 0, 0, Answer::Checkpoints(checkpoints))
            }
            Intent::SaveCheckpoint(at) => (IntentKind::SaveCheckpoint, EVERY_CHANNEL, 0, at, Answer::Nothing),
            other => anyhow::bail!("nothing that was sent leads to {other:?}"),
        };
        Ok(Completion { ticket, kind, channel, segment, up_to, outcome: Ok(answer) })
    }

    fn inserts(&mut self, count: u32) -> Page {
        let channels = u64::from(self.channels);
        self.page(count, |ordinal| {
            let channel = (ordinal % channels) as u32;
            let kind = MessageType::INSERT.0 as u16;
            Row {
                kind,
                channel,
                collection: COLLECTION,
                partition: 1,
                segment: segment_of(channel),
                rows: 1,
                bytes: 1_024,
                ..Row::default()
            }
        })
    }

    fn ticks(&mut self, count: u32) -> Page {
        self.page(count, |_| Row { kind: MessageType::TIME_TICK.0 as u16, channel: EVERY_CHANNEL, ..Row::default() })
    }

    /// A page of the next messages, each a group of its own.
    fn page(&mut self, count: u32, row: impl Fn(Ordinal) -> Row) -> Page {
        let mut page = Page { first: self.ordinal + 1, ..Page::default() };
        for _ in 0..count {
            self.ordinal += 1;
            self.tick += 1;
            page.push(Row { tick: self.tick, flags: flag::PERSISTED | flag::GROUP_END, ..row(self.ordinal) });
        }
        page
    }
}

fn segment_of(channel: u32) -> i64 {
    SEGMENTS + i64::from(channel)
}

fn recovered(channel: u32) -> RecoveredChannel {
    let segment = RecoveredSegment {
        segment: segment_of(channel),
        partition: 1,
        state: SegmentStanding::Growing,
        dml_tick: 0,
        old_architecture: false,
    };
    RecoveredChannel { collection: COLLECTION, seek_tick: 0, segments: vec![segment], hazard: None }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { component_bytes, messages, page, rounds, build, .. } = self;
        writeln!(f, "component of {component_bytes} bytes, checked and compiled in {} ms; {build} build", significant(self.load_ms))?;
        writeln!(f, "{messages} messages a round in pages of {page}; {rounds} rounds: median (least..greatest)")?;
        type Of = fn(&OfChannels) -> Figure;
        let figures: [(&str, Of); 7] = [
            ("insert, ns", |o| o.insert_ns),
            ("time tick, ns", |o| o.tick_ns),
            ("empty turn, ns", |o| o.empty_turn_ns),
            ("report, ns", |o| o.report_ns),
            ("cut, ns", |o| o.cut_ns),
            ("snapshot, ms", |o| o.snapshot_ms),
            ("restore, ms", |o| o.restore_ms),
        ];
        write!(f, "\n{:<16}", "channels")?;
        self.of_channels.iter().try_for_each(|o| write!(f, "{:>26}", o.channels))?;
        for (name, of) in figures {
            write!(f, "\n{name:<16}")?;
            self.of_channels.iter().try_for_each(|o| write!(f, "{:>26}", of(o)))?;
        }
        write!(f, "\n{:<16}", "snapshot, bytes")?;
        self.of_channels.iter().try_for_each(|o| write!(f, "{:>26}", o.snapshot_bytes))?;
        write!(f, "\n{:<16}", "recovery, ms")?;
        self.of_channels.iter().try_for_each(|o| write!(f, "{:>26}", significant(o.recovery_ms)))?;
        match self.tick_ratio {
            Some(ratio) => write!(f, "\n\na time tick with the most channels costs {} times one with the fewest", significant(ratio)),
            None => Ok(()),
        }
    }
}
