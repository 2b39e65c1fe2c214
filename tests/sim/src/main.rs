//! The simulator by hand: long runs of seeds, the trace of one, a failing one made small.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Parser, Subcommand};
use tidegate_sim::generate::{Weather, generate};
use tidegate_sim::native::Native;
use tidegate_sim::run::{FAILURES_MAX, Seeds, run};
use tidegate_sim::scenario::Scenario;
use tidegate_sim::shrink::shrink;
use tidegate_sim::world::{World, run_caught};

/// Time between two words about a long run.
const PROGRESS: Duration = Duration::from_secs(10);

/// A deterministic world that tries to make Tidegate lose a row.
///
/// A seed is a scenario: what users do, what fails, when. The same seed gives the same trace, byte for byte.
#[derive(Parser)]
#[command(name = "tidegate-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Breaks promises on purpose, by the names of their switches, separated by commas.
    #[arg(long = "break", global = true, default_value = "", value_name = "NAMES", hide_default_value = true)]
    broken: String,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds and print what they came to; exits with 1 if one of them breaks a promise.
    Seeds {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// How many.
        #[arg(long, default_value_t = 20_000)]
        count: u64,
        /// Threads; by default one for each core.
        #[arg(long)]
        threads: Option<usize>,
        /// Failing seeds after which the run ends.
        #[arg(long, default_value_t = FAILURES_MAX, value_name = "COUNT")]
        failures: usize,
        /// The workload alone, without any fault.
        #[arg(long)]
        fair: bool,
    },
    /// Print all that happens in a seed or in a scenario file.
    Trace {
        #[command(flatten)]
        which: Which,
    },
    /// Reduce a seed that breaks a promise to a short scenario file that breaks it too.
    Shrink {
        #[command(flatten)]
        which: Which,
        /// The file to write.
        #[arg(short, long)]
        output: PathBuf,
    },
}

#[derive(Args)]
#[group(skip)]
struct Which {
    /// A seed.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    seed: Option<u64>,
    /// A scenario file, as `shrink` writes it.
    #[arg(long, conflicts_with = "fair")]
    file: Option<PathBuf>,
    /// The seed's workload alone, without any fault.
    #[arg(long)]
    fair: bool,
}

impl Which {
    fn scenario(&self) -> Result<Scenario> {
        if let Some(path) = &self.file {
            let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            return serde_json::from_slice(&text).with_context(|| format!("{} is no scenario", path.display()));
        }
        Ok(generate(self.seed.unwrap_or_default(), weather(self.fair)))
    }
}

fn weather(fair: bool) -> Weather {
    if fair { Weather::Fair } else { Weather::Any }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    tidegate_core::switches::set(&cli.broken).map_err(|e| anyhow!("--break: {e}"))?;
    match cli.command {
        Command::Seeds { first, count, threads, failures, fair } => {
            let all = Seeds::first(count);
            seeds(Seeds { first, threads: threads.unwrap_or(all.threads), failures_max: failures, ..all }, weather(fair))
        }
        Command::Trace { which } => trace(&which.scenario()?),
        Command::Shrink { which, output } => {
            std::panic::set_hook(Box::new(|_| {}));
            let scenario = which.scenario()?;
            if run_caught(&scenario, &Native).is_ok() {
                bail!("it breaks no promise: there is nothing to reduce");
            }
            let small = shrink(&scenario, &Native);
            std::fs::write(&output, serde_json::to_string_pretty(&small)? + "\n")
                .with_context(|| format!("cannot write {}", output.display()))?;
            println!("{} of {} operations are left in {}", small.ops.len(), scenario.ops.len(), output.display());
            Ok(())
        }
    }
}

fn seeds(seeds: Seeds, weather: Weather) -> Result<()> {
    println!("seeds from {} on, {} of them, on {} threads", seeds.first, seeds.count, seeds.threads);
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let told = Mutex::new(began);
    let outcome = run(seeds, weather, &Native, &|ended, failure| {
        if let Some((seed, violation)) = failure {
            println!("seed {seed}: {violation}");
        }
        if let Ok(mut told) = told.try_lock()
            && told.elapsed() > PROGRESS
        {
            *told = Instant::now();
            eprintln!("{ended} of {} seeds in {} s", seeds.count, began.elapsed().as_secs());
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    print!("{}", outcome.tally);
    println!("{seconds:.1} s, {:.0} steps a second", outcome.tally.steps as f64 / seconds);
    let Some((seed, _)) = outcome.failures.first() else {
        let rare = if weather == Weather::Any { outcome.tally.too_rare() } else { Vec::new() };
        if !rare.is_empty() {
            bail!("these are too rare to prove anything: {rare:?}");
        }
        return Ok(());
    };
    bail!("{} seeds broke a promise; look at the first: tidegate-sim trace --seed {seed}", outcome.failures.len())
}

fn trace(scenario: &Scenario) -> Result<()> {
    let mut world = World::new(scenario, &Native);
    world.trace.lines = Some(Vec::new());
    let ended = world.run();
    let mut out = std::io::stdout().lock();
    for line in world.trace.lines.iter().flatten() {
        // Whoever reads may have seen enough.
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    ended.map_err(|violation| anyhow!("{violation}"))
}
