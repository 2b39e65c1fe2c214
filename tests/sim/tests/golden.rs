//! Golden scenarios: a crash and a power loss after every action, not a sample. FL-2: the rows in flushed segments are those of the
//! undisturbed run.

use std::collections::BTreeSet;

use tidegate_sim::golden;
use tidegate_sim::native::Native;
use tidegate_sim::scenario::{Cut, Scenario};
use tidegate_sim::world::World;

/// Runs a scenario; returns the actions it took and the keys in flushed segments.
fn run(name: &str, scenario: &Scenario) -> (u64, BTreeSet<i64>) {
    let mut world = World::new(scenario, &Native);
    if let Err(violation) = world.run() {
        let text = serde_json::to_string(scenario).expect("a scenario is text");
        panic!("{name}, {:?}: {violation}\n{text}", scenario.cuts);
    }
    let keys = world.rows_of_segments().into_values().flatten().collect();
    (world.tally.actions, keys)
}

#[test]
fn a_crash_or_a_power_loss_after_any_action_loses_and_doubles_nothing() {
    let mut runs = 0;
    for (name, scenario) in golden::all() {
        let (actions, undisturbed) = run(name, &scenario);
        for cut in [Cut::Kill, Cut::KillSameTerm, Cut::PowerLoss] {
            for after in 1..=actions {
                let (_, keys) = run(name, &Scenario { cuts: vec![(after, cut)], ..scenario.clone() });
                runs += 1;
                // What a power loss took from the log before anybody was told is not there. A transaction that the next term rolled back
                // leaves other keys to what follows: there the judge alone decides.
                match cut {
                    Cut::KillSameTerm => assert_eq!(keys, undisturbed, "{name}, {cut:?} after action {after}"),
                    _ if name.contains("transaction") => {}
                    Cut::Kill => assert_eq!(keys, undisturbed, "{name}, {cut:?} after action {after}"),
                    Cut::PowerLoss => assert!(keys.is_subset(&undisturbed), "{name}, {cut:?} after action {after}"),
                }
            }
        }
        println!("{name}: {actions} actions");
    }
    println!("{runs} runs");
}

#[test]
fn a_second_crash_after_any_action_changes_nothing_either() {
    let (name, scenario) = golden::all().swap_remove(0);
    let (actions, undisturbed) = run(name, &scenario);
    let early = actions.min(60);
    for first in (1..=early).step_by(3) {
        for second in (first + 1)..=(first + early) {
            let cuts = vec![(first, Cut::Kill), (second, Cut::KillSameTerm)];
            assert_eq!(run(name, &Scenario { cuts, ..scenario.clone() }).1, undisturbed, "{name}: {first}, {second}");
        }
    }
}
