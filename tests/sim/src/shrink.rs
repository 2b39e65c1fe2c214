//! A failing scenario made small: operations are left out, windows and numbers made smaller, as long as the same promise breaks.

use crate::native::Guests;
use crate::scenario::{Op, Scenario};
use crate::world::run_caught;

/// Runs that a reduction may take.
const RUNS_MAX: usize = 2_000;

/// Reduces a scenario that breaks a promise; one that breaks none comes back as it is.
pub fn shrink(scenario: &Scenario, guests: &dyn Guests) -> Scenario {
    let Err(violation) = run_caught(scenario, guests) else { return scenario.clone() };
    let mut runs = 0;
    let mut breaks = |candidate: &Scenario| {
        runs += 1;
        runs <= RUNS_MAX && run_caught(candidate, guests).is_err_and(|v| v.promise == violation.promise)
    };
    let mut best = scenario.clone();
    let mut size = best.ops.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut smaller = false;
        while at < best.ops.len() {
            let mut candidate = best.clone();
            candidate.ops.drain(at..(at + size).min(best.ops.len()));
            if !candidate.ops.is_empty() && breaks(&candidate) {
                best = candidate;
                smaller = true;
            } else {
                at += size;
            }
        }
        if size == 1 && !smaller {
            break;
        }
        size = (size / 2).max(1);
    }
    for at in 0..best.ops.len() {
        let mut candidate = best.clone();
        match &mut candidate.ops[at].1 {
            Op::Insert { rows, width, .. } => (*rows, *width) = (1, 1),
            Op::Create { shards, partitions } => (*shards, *partitions) = (1, 1),
            Op::Delete { keys, .. } => *keys = 1,
            _ => continue,
        }
        if breaks(&candidate) {
            best = candidate;
        }
    }
    best
}
