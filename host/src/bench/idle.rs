//! What a node costs that has nothing to do: time ticks go on, and must cost next to nothing.

use std::fmt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use super::figures::{cpu_seconds, peak_memory_bytes, significant};
use super::scratch::Scratch;
use super::{BUILD, rows};
use crate::node::{Node, Settings};

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seconds to look on
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Directory to work below; a temporary one if none is named
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `release` or `debug`.
    pub build: &'static str,
    /// Seconds looked on.
    pub seconds: f64,
    /// Pchannels of the node; each has a log and a flusher.
    pub pchannels: usize,
    /// Milliseconds of CPU time a second.
    pub cpu_ms_a_second: f64,
    /// Turns of all components a second.
    pub turns_a_second: f64,
    /// Messages delivered a second.
    pub messages_a_second: f64,
    /// Most memory that the process had resident, in bytes; compiling the component is in it.
    pub peak_memory_bytes: Option<u64>,
}

/// Looks on at a node with an empty collection.
///
/// # Errors
/// The node cannot be set up, or `/proc` does not tell CPU time.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let scratch = Scratch::below(options.dir.as_deref())?;
    let node = Node::open(&scratch.path().join("node"), Settings::load(scratch.path())?, true)?;
    let shards = node.settings().pchannels as usize;
    node.create_collection(&rows::schema(4), shards, &[])?;
    // Its creation is not idleness.
    thread::sleep(Duration::from_secs(1));
    let work = || {
        let status = node.status();
        let sum = |of: fn(&tidegate_core::pchannel::Status) -> u64| status.pchannels.iter().map(of).sum::<u64>();
        anyhow::Ok((cpu_seconds().context("/proc/self/stat does not tell CPU time")?, sum(|p| p.turns), sum(|p| p.messages)))
    };
    let (cpu, turns, messages) = work()?;
    let began = Instant::now();
    thread::sleep(Duration::from_secs(options.seconds));
    let seconds = began.elapsed().as_secs_f64();
    let (cpu_after, turns_after, messages_after) = work()?;
    node.shutdown();
    Ok(Report {
        build: BUILD,
        seconds,
        pchannels: shards,
        cpu_ms_a_second: (cpu_after - cpu) * 1e3 / seconds,
        turns_a_second: turns_after.saturating_sub(turns) as f64 / seconds,
        messages_a_second: messages_after.saturating_sub(messages) as f64 / seconds,
        peak_memory_bytes: peak_memory_bytes(),
    })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "a node with an empty collection on {} pchannels, for {} s; {} build",
            self.pchannels,
            significant(self.seconds),
            self.build
        )?;
        writeln!(f, "  CPU time   {:>8} ms a second", significant(self.cpu_ms_a_second))?;
        writeln!(f, "  turns      {:>8} a second", significant(self.turns_a_second))?;
        writeln!(f, "  messages   {:>8} a second", significant(self.messages_a_second))?;
        let peak = self.peak_memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| significant(bytes as f64 / 1e6));
        write!(f, "  memory     {peak:>8} MB at most")
    }
}
