//! A failing scenario made small: operations are left out, numbers made smaller, settings made ordinary and times pulled together, as long as
//! the same promise breaks.

use crate::native::Guests;
use crate::scenario::{Op, Scenario, Settings};
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
    let ordinary = Settings::default();
    let settings: [fn(&mut Settings, &Settings); 18] = [
        |s, o| s.pchannels = o.pchannels,
        |s, o| s.bytes_max = o.bytes_max,
        |s, o| s.page_max = o.page_max,
        |s, o| s.delivery_max = o.delivery_max,
        |s, o| s.group_ends_max = o.group_ends_max,
        |s, o| s.writes_max = o.writes_max,
        |s, o| s.scan_bytes_max = o.scan_bytes_max,
        |s, o| s.insert_bytes_max = o.insert_bytes_max,
        |s, o| s.sync_period_ms = o.sync_period_ms,
        |s, o| s.report_period_ms = o.report_period_ms,
        |s, o| s.reports_max = o.reports_max,
        |s, o| s.segment_rows = o.segment_rows,
        |s, o| s.shuffle = o.shuffle,
        |s, o| s.slow_turns = o.slow_turns,
        |s, o| s.latency_ms = o.latency_ms,
        |s, _| s.latency_ms = 1,
        |s, _| s.latency_ms = 0,
        |s, o| s.seed = o.seed,
    ];
    for set in settings {
        let mut candidate = best.clone();
        set(&mut candidate.settings, &ordinary);
        if candidate != best && breaks(&candidate) {
            best = candidate;
        }
    }
    for at in 0..best.ops.len() {
        // What comes after keeps its distance.
        let before = at.checked_sub(1).map_or(0, |before| best.ops[before].0);
        for pause in [0, 10, 100] {
            let mut candidate = best.clone();
            let pulled = best.ops[at].0.saturating_sub(before + pause);
            candidate.ops[at..].iter_mut().for_each(|(time, _)| *time -= pulled);
            if pulled > 0 && breaks(&candidate) {
                best = candidate;
                break;
            }
        }
    }
    best
}
