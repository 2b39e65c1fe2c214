//! Seeds: each is a scenario, and no promise may break in any of them.

use tidegate_sim::generate::Weather;
use tidegate_sim::native::Native;
use tidegate_sim::run::{Seeds, run};

fn no_seed_breaks(count: u64, weather: Weather) {
    let seeds = Seeds::first(count);
    println!("seeds from {} on, {count} of them", seeds.first);
    let outcome = run(seeds, weather, &Native, &|_, failure| {
        if let Some((seed, violation)) = failure {
            println!("seed {seed}: {violation}");
        }
    });
    print!("{}", outcome.tally);
    let failures: Vec<u64> = outcome.failures.iter().map(|(seed, _)| *seed).collect();
    if weather == Weather::Any {
        assert_eq!(outcome.tally.too_rare(), [], "these are too rare to prove anything");
    }
    assert!(failures.is_empty(), "seeds {failures:?} broke promises: cargo run --release -p tidegate-sim -- trace --seed {}", failures[0]);
}

#[test]
fn no_seed_without_trouble_breaks_a_promise() {
    no_seed_breaks(500, Weather::Fair);
}

#[test]
fn no_seed_breaks_a_promise() {
    no_seed_breaks(20_000, Weather::Any);
}
