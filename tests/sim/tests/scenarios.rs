//! Scenario files: what the simulator found in Tidegate, reduced. Each must pass, and must break with the mutant that brings its bug back.
//!
//! `TIDEGATE_SHRINK=<mutant>` looks for a seed that breaks with a mutant, reduces it, and writes its file anew.

use std::path::PathBuf;

use tidegate_sim::generate::{Weather, generate};
use tidegate_sim::native::Native;
use tidegate_sim::scenario::Scenario;
use tidegate_sim::shrink::shrink;
use tidegate_sim::world::run_caught;

/// Seeds that are looked at for a mutant.
const SEEDS_MAX: u64 = 20_000;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Turns the mutant of a name on, in core or guest; all others off.
fn turn_on(name: Option<&str>) {
    let core = tidegate_core::mutants::ALL.iter().find(|(n, _)| Some(*n) == name.and_then(|n| n.strip_prefix("core-")));
    let guest = tidegate_flusher::mutants::ALL.iter().find(|(n, _)| Some(*n) == name.and_then(|n| n.strip_prefix("guest-")));
    assert!(name.is_none() || core.is_some() || guest.is_some(), "no mutant is called {name:?}");
    tidegate_core::mutants::set(core.map(|(_, m)| *m));
    tidegate_flusher::mutants::set(guest.map(|(_, m)| *m));
}

fn find_and_shrink(mutant: &str) {
    for seed in 1..SEEDS_MAX {
        for weather in [Weather::Fair, Weather::Any] {
            let scenario = generate(seed, weather);
            turn_on(None);
            let passes = run_caught(&scenario, &Native).is_ok();
            turn_on(Some(mutant));
            if passes && run_caught(&scenario, &Native).is_err() {
                let small = shrink(&scenario, &Native);
                turn_on(None);
                if run_caught(&small, &Native).is_ok() {
                    println!("{mutant}: seed {seed}, {} of {} operations", small.ops.len(), scenario.ops.len());
                    let text = serde_json::to_string_pretty(&small).expect("a scenario is text");
                    std::fs::write(folder().join(format!("{mutant}.json")), text + "\n").expect("the folder can be written");
                    return;
                }
            }
        }
    }
    panic!("no seed breaks with {mutant}");
}

#[test]
fn what_was_found_once_passes_and_breaks_with_its_bug() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", panic.to_string().lines().take(2).collect::<Vec<_>>().join(" "))));
    if let Ok(mutants) = std::env::var("TIDEGATE_SHRINK") {
        mutants.split(',').for_each(find_and_shrink);
    }
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).expect("the scenarios").map(|e| e.expect("an entry").path()).collect();
    names.sort();
    assert!(!names.is_empty());
    for path in names {
        let name = path.file_stem().and_then(|n| n.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&path).expect("a scenario file");
        let scenario: Scenario = serde_json::from_str(&text).expect("a scenario");
        turn_on(None);
        if let Err(violation) = run_caught(&scenario, &Native) {
            panic!("{name}: {violation}");
        }
        turn_on(Some(&name));
        assert!(run_caught(&scenario, &Native).is_err(), "{name} passes with its bug: it proves nothing");
        turn_on(None);
    }
}
