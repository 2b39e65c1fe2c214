//! Stories and the faults they are about: every trouble of a story strikes, and with its mutant the story or one of its cuts must break a promise.

use tidegate_sim::faults::id_of;
use tidegate_sim::native::Native;
use tidegate_sim::scenario::{Cut, Op, Scenario, Trouble};
use tidegate_sim::stories::{Story, all};
use tidegate_sim::tally::Tally;
use tidegate_sim::world::run_caught;

fn turn_on(name: &str) {
    tidegate_core::switches::set(name.strip_prefix("switch-").unwrap_or_default()).expect("a switch of the list");
    let core = tidegate_core::mutants::ALL.iter().find(|(n, _)| Some(*n) == name.strip_prefix("core-"));
    let guest = tidegate_flusher::mutants::ALL.iter().find(|(n, _)| Some(*n) == name.strip_prefix("guest-"));
    tidegate_core::mutants::set(core.map(|(_, m)| *m));
    tidegate_flusher::mutants::set(guest.map(|(_, m)| *m));
    assert!(name.is_empty() || name.starts_with("switch-") || core.is_some() || guest.is_some(), "no mutant is called {name}");
}

/// Where a story breaks: as it is, or cut after some action.
fn breaks(scenario: &Scenario, actions: u64) -> Option<(Vec<(u64, Cut)>, String)> {
    let with = |cuts: Vec<(u64, Cut)>| {
        let violation = run_caught(&Scenario { cuts: cuts.clone(), ..scenario.clone() }, &Native).err()?;
        Some((cuts, violation.to_string()))
    };
    let cuts = (1..=actions).flat_map(|after| [Cut::Kill, Cut::KillSameTerm, Cut::PowerLoss].map(|cut| vec![(after, cut)]));
    with(Vec::new()).or_else(|| cuts.into_iter().find_map(with))
}

/// The troubles of a story that struck nowhere: they tell nothing.
fn idle(scenario: &Scenario, tally: &Tally) -> Vec<Trouble> {
    let troubles = scenario.ops.iter().filter_map(|(_, op)| if let Op::Window { trouble, .. } = op { Some(*trouble) } else { None });
    troubles.filter(|trouble| !tally.counts.contains_key(id_of(*trouble))).collect()
}

#[test]
fn a_story_breaks_with_the_fault_that_it_is_about() {
    std::panic::set_hook(Box::new(|panic| eprintln!("{}", panic.to_string().lines().next().unwrap_or_default())));
    for Story { name, mutant, scenario } in all() {
        turn_on("");
        let tally = run_caught(&scenario, &Native).unwrap_or_else(|violation| panic!("{name}: {violation}"));
        assert_eq!(idle(&scenario, &tally), [], "{name}");
        let Some(mutant) = mutant else { continue };
        turn_on(mutant);
        let broken = breaks(&scenario, tally.actions);
        turn_on("");
        let (cuts, violation) = broken.unwrap_or_else(|| panic!("{name} holds with {mutant}: it does not tell its story"));
        println!("{name} with {mutant}, {cuts:?}: {}", violation.chars().take(100).collect::<String>());
    }
}
