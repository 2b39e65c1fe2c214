//! Mutants: deliberate faults of one line, each of which some story or seed must bring to light within a minute of one core.
//!
//! A run takes ten of them, other ones each day; `TIDEGATE_MUTANTS=all` takes all, a name takes that one. The table says how long each lived.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_sim::generate::{Weather, generate};
use tidegate_sim::native::Native;
use tidegate_sim::scenario::Scenario;
use tidegate_sim::stories;
use tidegate_sim::world::run_caught;

/// How long a mutant may live, in seconds, unless `TIDEGATE_MUTANT_S` says otherwise.
const LIFE_MAX_S: u64 = 60;
/// Mutants of an ordinary run.
const A_DAY: usize = 10;

enum Which {
    Switch(&'static str),
    Core(tidegate_core::mutants::Mutant),
    Guest(tidegate_flusher::mutants::Mutant),
}

impl Which {
    fn turn_on(&self) {
        match self {
            Self::Switch(name) => tidegate_core::switches::set(name).expect("a switch of the list"),
            Self::Core(mutant) => tidegate_core::mutants::set(Some(*mutant)),
            Self::Guest(mutant) => tidegate_flusher::mutants::set(Some(*mutant)),
        }
    }
}

fn turn_off() {
    tidegate_core::switches::set("").expect("no switch");
    tidegate_core::mutants::set(None);
    tidegate_flusher::mutants::set(None);
}

fn all() -> Vec<(String, Which)> {
    let switches = tidegate_core::switches::ALL.iter().map(|(name, _)| (format!("switch {name}"), Which::Switch(name)));
    let core = tidegate_core::mutants::ALL.iter().map(|(name, m)| (format!("core {name}"), Which::Core(*m)));
    let guest = tidegate_flusher::mutants::ALL.iter().map(|(name, m)| (format!("guest {name}"), Which::Guest(*m)));
    switches.chain(core).chain(guest).collect()
}

/// What a mutant's bug was reduced to, where it was.
fn scenario_file(mutant: &str) -> Option<Scenario> {
    let file = format!("{}/scenarios/{}.json", env!("CARGO_MANIFEST_DIR"), mutant.replace(' ', "-"));
    let text = std::fs::read_to_string(file).ok()?;
    Some(serde_json::from_str(&text).expect("a scenario"))
}

#[test]
fn every_mutant_is_caught() {
    std::panic::set_hook(Box::new(|_| {}));
    let wanted = std::env::var("TIDEGATE_MUTANTS").unwrap_or_default();
    let life_max = std::env::var("TIDEGATE_MUTANT_S").ok().and_then(|s| s.parse().ok()).unwrap_or(LIFE_MAX_S);
    let life_max = Duration::from_secs(life_max);
    let mutants = all();
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as usize / 86_400;
    let count = mutants.len();
    let is_todays = |nth: usize| (nth + count - day * A_DAY % count) % count < A_DAY;
    let chosen = mutants.iter().enumerate().filter(|(nth, (name, _))| match wanted.as_str() {
        "" => is_todays(*nth),
        "all" => true,
        part => name.contains(part),
    });
    let mut survivors = Vec::new();
    let stories = stories::all();
    println!("{count} mutants; {:<32} {:>8} {:>6}  caught by", "mutant", "lived", "seeds");
    for (_, (name, which)) in chosen {
        which.turn_on();
        let began = Instant::now();
        let mut seed = 0;
        // Its own scenario file and stories, about what seeds seldom do, are few and short: they come first.
        let file = scenario_file(name);
        let mut short = file.iter().chain(stories.iter().map(|story| &story.scenario));
        let told = short.find_map(|scenario| run_caught(scenario, &Native).err());
        let caught = loop {
            if told.is_some() {
                break told;
            }
            seed += 1;
            if let Err(violation) = run_caught(&generate(seed, Weather::Any), &Native) {
                break Some(violation);
            }
            if began.elapsed() > life_max {
                break None;
            }
        };
        turn_off();
        let lived = began.elapsed().as_secs_f64();
        match caught {
            Some(violation) => {
                let text: String = violation.to_string().chars().take(110).collect();
                println!("{name:<44} {lived:>6.2} s {seed:>6}  {text}");
            }
            None => {
                println!("{name:<44} {lived:>6.2} s {seed:>6}  SURVIVES");
                survivors.push(name);
            }
        }
    }
    let _default = std::panic::take_hook();
    assert!(survivors.is_empty(), "{survivors:?} survive");
}
