//! What a swap costs: the real core hands a component over to another instance of itself while messages wait, with nothing around it but
//! lists in memory.
//!
//! ```text
//! last turn of the old ─► snapshot ─► instantiate, restore ─► accounts ─► host: its own sums, comparison ─► let go ─► first turn of the new
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::BUILD;
use super::figures::{Percentiles, significant};
use crate::engine::{BUILT_IN, Engine, Loaded};
use crate::selftest::Failure;
use crate::selftest::script::Segment;
use crate::selftest::world::World;

/// Messages a page.
const PAGE: u32 = 256;
/// Swaps before those that count: the first ones touch memory that later ones find mapped.
const WARM_UP: u32 = 5;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Numbers of channels
    #[arg(long, value_delimiter = ',', default_value = "100,1000", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub channels: Vec<u32>,
    /// Growing segments a channel, each with a row that waits
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub segments: u32,
    /// Swaps that count, for each number of channels
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub swaps: u32,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `release` or `debug`; the component itself is always optimised.
    pub build: &'static str,
    /// Swaps of each size.
    pub swaps: u32,
    /// In the order asked for.
    pub of_channels: Vec<OfChannels>,
}

/// Figures with a number of channels, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct OfChannels {
    /// Channels.
    pub channels: u32,
    /// Growing segments of all of them.
    pub segments: u32,
    /// Bytes of the state that is handed over.
    pub state_bytes: usize,
    /// From the end of the old instance's last turn to the begin of the new one's first.
    pub pause_ms: Percentiles,
    /// The old instance's snapshot.
    pub snapshot_ms: Percentiles,
    /// An instance that is started from nothing, timed beside the swap.
    pub instantiate_ms: Percentiles,
    /// What starting from the snapshot takes beyond it.
    pub restore_ms: Percentiles,
    /// The new instance's accounts.
    pub accounts_ms: Percentiles,
    /// The rest: the ledger's sums, their comparison with the accounts, the core's own steps.
    pub compare_ms: Percentiles,
    /// The old instance let go.
    pub drop_ms: Percentiles,
}

/// Measures.
///
/// # Errors
/// The component faults, or a swap is not carried out.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let component = Engine::new()?.load(BUILT_IN, None)?;
    let measure = |&channels: &u32| measure(&component, channels, options).with_context(|| format!("{channels} channels"));
    let of_channels = options.channels.iter().map(measure).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Report { build: BUILD, swaps: options.swaps, of_channels })
}

fn measure(component: &Loaded, channels: u32, options: &Options) -> anyhow::Result<OfChannels> {
    let mut world = World::new(component);
    world.with_load(PAGE);
    let segments = fill(&mut world, channels, options.segments)?;
    let mut parts: [Vec<f64>; 7] = Default::default();
    let mut state_bytes = 0;
    for swap in 0..WARM_UP + options.swaps {
        // The order comes in the turn of the first page; the second one waits.
        let first = (swap * 2 * PAGE) as usize;
        for at in first..first + 2 * PAGE as usize {
            let key = at as i64;
            world.rows(&segments[at % segments.len()], key..key + 1);
        }
        world.succeed_in_turn()?;
        let began = Instant::now();
        let empty = world.start_from_nothing()?;
        let instantiate = began.elapsed();
        drop(empty);
        let cost = world.cost.clone();
        let pause = cost.pause.context("no turn followed the swap")?;
        let known = cost.snapshot + cost.start + cost.accounts + cost.drop;
        if swap >= WARM_UP {
            let restore = cost.start.saturating_sub(instantiate);
            let compare = pause.saturating_sub(known);
            let of_this = [pause, cost.snapshot, instantiate, restore, cost.accounts, compare, cost.drop];
            parts.iter_mut().zip(of_this).for_each(|(part, took)| part.push(ms(took)));
        }
        state_bytes = cost.state_bytes;
    }
    let [pause_ms, snapshot_ms, instantiate_ms, restore_ms, accounts_ms, compare_ms, drop_ms] = parts.map(|part| Percentiles::of(&part));
    let segments = channels * options.segments;
    Ok(OfChannels { channels, segments, state_bytes, pause_ms, snapshot_ms, instantiate_ms, restore_ms, accounts_ms, compare_ms, drop_ms })
}

/// Opens channels and segments, each with a row.
fn fill(world: &mut World<'_>, channels: u32, segments: u32) -> Result<Vec<Segment>, Failure> {
    let collections = (0..channels).map(|n| world.collection(&format!("c{n}"), 1)).collect::<Result<Vec<_>, _>>()?;
    world.start()?;
    let mut opened = Vec::new();
    for collection in &collections {
        for _ in 0..segments {
            let segment = world.segment(collection, 0, 0);
            world.rows(&segment, 0..1);
            opened.push(segment);
        }
    }
    world.tick()?;
    Ok(opened)
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} swaps of each size while messages wait; {} build; ms: p50, p99", self.swaps, self.build)?;
        type Of = fn(&OfChannels) -> Percentiles;
        let figures: [(&str, Of); 7] = [
            ("pause", |o| o.pause_ms),
            ("  snapshot", |o| o.snapshot_ms),
            ("  instantiate", |o| o.instantiate_ms),
            ("  restore", |o| o.restore_ms),
            ("  accounts", |o| o.accounts_ms),
            ("  compare", |o| o.compare_ms),
            ("  let go", |o| o.drop_ms),
        ];
        write!(f, "\n{:<24}", "channels, segments")?;
        self.of_channels.iter().try_for_each(|o| write!(f, "{:>22}", format!("{}, {}", o.channels, o.segments)))?;
        for (name, of) in figures {
            write!(f, "\n{name:<24}")?;
            self.of_channels.iter().try_for_each(|o| write!(f, "{:>22}", of(o)))?;
        }
        write!(f, "\n{:<24}", "state, kB")?;
        self.of_channels.iter().try_for_each(|o| write!(f, "{:>22}", significant(o.state_bytes as f64 / 1e3)))
    }
}
