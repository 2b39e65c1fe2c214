//! Seeds: each is a scenario, and no promise may break in any of them.
//!
//! `TIDEGATE_SEEDS` says how many, `TIDEGATE_SEED` where they begin, `TIDEGATE_TRACE=1` prints the trace of a single one.

use tidegate_sim::generate::{Weather, generate};
use tidegate_sim::judge::Violation;
use tidegate_sim::native::Native;
use tidegate_sim::tally::Tally;
use tidegate_sim::world::{World, run_caught};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Runs a seed.
fn run(seed: u64, weather: Weather) -> Result<Tally, Violation> {
    let scenario = generate(seed, weather);
    if std::env::var_os("TIDEGATE_TRACE").is_none() {
        return run_caught(&scenario, &Native);
    }
    let mut world = World::new(&scenario, &Native);
    world.trace.lines = Some(Vec::new());
    let ended = world.run();
    world.trace.lines.iter().flatten().for_each(|line| println!("{line}"));
    ended.map(|()| world.tally)
}

fn run_all(first: u64, count: u64, weather: Weather) {
    tidegate_core::switches::set(&std::env::var("TIDEGATE_BREAK").unwrap_or_default()).unwrap();
    println!("seeds from {first} on, {count} of them");
    let began = std::time::Instant::now();
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    for seed in first..first + count {
        match run(seed, weather) {
            Ok(one) => tally.add(&one),
            Err(violation) => {
                println!("seed {seed}: {violation}");
                failures.push(seed);
                if failures.len() >= 20 {
                    break;
                }
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{tally:#?}");
    println!("{} steps in {seconds:.1} s: {:.0} a second", tally.steps, tally.steps as f64 / seconds);
    assert!(failures.is_empty(), "seeds {failures:?} broke promises; again with TIDEGATE_SEED={} TIDEGATE_SEEDS=1", failures[0]);
}

#[test]
fn no_seed_without_trouble_breaks_a_promise() {
    run_all(number("TIDEGATE_SEED", 1), number("TIDEGATE_SEEDS", 500), Weather::Fair);
}

#[test]
fn no_seed_breaks_a_promise() {
    run_all(number("TIDEGATE_SEED", 1), number("TIDEGATE_SEEDS", 500), Weather::Any);
}
