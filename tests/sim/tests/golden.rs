//! Golden scenarios and stories: a crash and a power loss after every action, not a sample; of the short ones after every two actions. FL-2: the
//! rows in flushed segments are those of the undisturbed run, segment by segment and in their order.
//!
//! The pairs of cuts are many: an ordinary run takes one in eight, other ones each day; `TIDEGATE_PAIRS=all` takes all.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use tidegate_sim::native::Native;
use tidegate_sim::scenario::{Cut, Op, Scenario};
use tidegate_sim::world::World;
use tidegate_sim::{golden, stories};

const CUTS: [Cut; 3] = [Cut::Kill, Cut::KillSameTerm, Cut::PowerLoss];
/// Actions of a scenario that is short.
const SHORT: u64 = 50;
/// An ordinary run takes one pair of so many.
const PAIRS_OF_A_DAY: u64 = 8;

/// The rows of each flushed segment, without its id: what a crash makes a flusher allot moves the ids of later segments.
type Segments = BTreeSet<Vec<i64>>;

/// Runs a scenario; returns the actions it took and the rows of its flushed segments.
fn run(name: &str, scenario: &Scenario) -> (u64, Segments) {
    let mut world = World::new(scenario, &Native);
    if let Err(violation) = world.run() {
        let text = serde_json::to_string(scenario).expect("a scenario is text");
        panic!("{name}, {:?}: {violation}\n{text}", scenario.cuts);
    }
    let rows = world.rows_of_segments().into_values().filter(|rows| !rows.is_empty()).collect();
    (world.tally.actions, rows)
}

/// A golden scenario and what came of it undisturbed.
struct Undisturbed {
    name: &'static str,
    scenario: Scenario,
    actions: u64,
    segments: Segments,
}

impl Undisturbed {
    fn new((name, scenario): (&'static str, Scenario)) -> Self {
        let (actions, segments) = run(name, &scenario);
        Self { name, scenario, actions, segments }
    }

    /// Runs it with cuts, and compares. Where the workload goes on otherwise after a cut there is less to compare: the next term rolls
    /// transactions back, whose rows go where chance wants; and rows that were lost with the power before anybody was told are not there.
    fn cut(&self, cuts: Vec<(u64, Cut)>) {
        let scenario = Scenario { cuts, ..self.scenario.clone() };
        let segments = run(self.name, &scenario).1;
        let keys = |segments: &Segments| segments.iter().flatten().copied().collect::<BTreeSet<i64>>();
        let has = |cut| scenario.cuts.iter().any(|(_, c)| *c == cut);
        let in_transactions = scenario.ops.iter().any(|(_, op)| matches!(op, Op::Begin { .. }));
        if in_transactions && (has(Cut::Kill) || has(Cut::PowerLoss)) {
            return;
        }
        if has(Cut::PowerLoss) {
            assert!(keys(&segments).is_subset(&keys(&self.segments)), "{}, {:?}", self.name, scenario.cuts);
        } else if in_transactions {
            assert_eq!(keys(&segments), keys(&self.segments), "{}, {:?}", self.name, scenario.cuts);
        } else {
            assert_eq!(segments, self.segments, "{}, {:?}", self.name, scenario.cuts);
        }
    }
}

#[test]
fn a_crash_or_a_power_loss_after_any_action_loses_and_doubles_nothing() {
    let mut runs = 0;
    for golden in golden::all().into_iter().map(Undisturbed::new) {
        for after in 1..=golden.actions {
            CUTS.into_iter().for_each(|cut| golden.cut(vec![(after, cut)]));
        }
        runs += golden.actions * CUTS.len() as u64;
        println!("{}: {} actions", golden.name, golden.actions);
    }
    println!("{runs} runs");
}

#[test]
fn two_crashes_or_power_losses_after_any_actions_lose_and_double_nothing() {
    let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    let all = std::env::var("TIDEGATE_PAIRS").is_ok_and(|pairs| pairs == "all");
    let (mut nth, mut runs) = (day, 0);
    for golden in golden::all().into_iter().map(Undisturbed::new).filter(|g| g.actions <= SHORT) {
        for first in 1..=golden.actions {
            // A restart takes about as many actions as there were before.
            for second in first + 1..=golden.actions + first {
                for (a, b) in CUTS.into_iter().flat_map(|a| CUTS.map(|b| (a, b))) {
                    nth += 1;
                    if all || nth % PAIRS_OF_A_DAY == 0 {
                        golden.cut(vec![(first, a), (second, b)]);
                        runs += 1;
                    }
                }
            }
        }
    }
    println!("{runs} pairs");
}

#[test]
fn a_story_holds_with_a_crash_or_a_power_loss_after_any_action() {
    let mut runs = 0;
    for stories::Story { name, scenario, .. } in stories::all() {
        let (actions, _) = run(name, &scenario);
        // Those with a burst take many actions, all alike.
        let step = (actions / 120 + 1) as usize;
        for after in (1..=actions).step_by(step) {
            for cut in CUTS {
                run(name, &Scenario { cuts: vec![(after, cut)], ..scenario.clone() });
                runs += 1;
            }
        }
        println!("{name}: {actions} actions");
    }
    println!("{runs} runs");
}
