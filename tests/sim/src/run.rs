//! Many seeds, on several threads. A seed's world stays on one: threads share nothing but the number of the next seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::generate::{Weather, generate};
use crate::judge::Violation;
use crate::native::Guests;
use crate::tally::Tally;
use crate::world::run_caught;

/// Failures after which a run ends: more of them say nothing new.
const FAILURES_MAX: usize = 20;

/// Which seeds.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// How much trouble they have.
    pub weather: Weather,
    /// Threads that run them.
    pub threads: usize,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that kept every promise, together.
    pub tally: Tally,
    /// Those that broke one, in ascending order.
    pub failures: Vec<(u64, Violation)>,
}

/// Runs seeds. `told` hears of each one that ended: how many that makes, and the promise if it broke one.
pub fn run(seeds: Seeds, guests: &(dyn Guests + Sync), told: &(dyn Fn(u64, Option<(u64, &Violation)>) + Sync)) -> Outcome {
    let (next, ended) = (AtomicU64::new(0), AtomicU64::new(0));
    let outcome = Mutex::new(Outcome::default());
    let work = || {
        let mut tally = Tally::default();
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds.count {
                break;
            }
            let seed = seeds.first + nth;
            let result = run_caught(&generate(seed, seeds.weather), guests);
            let ended = ended.fetch_add(1, Ordering::Relaxed) + 1;
            match result {
                Ok(one) => {
                    tally.add(&one);
                    told(ended, None);
                }
                Err(violation) => {
                    told(ended, Some((seed, &violation)));
                    let failures = &mut locked(&outcome).failures;
                    failures.push((seed, violation));
                    if failures.len() >= FAILURES_MAX {
                        next.store(seeds.count, Ordering::Relaxed);
                    }
                }
            }
        }
        locked(&outcome).tally.add(&tally);
    };
    std::thread::scope(|scope| {
        for _ in 0..seeds.threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcome.failures.sort_by_key(|(seed, _)| *seed);
    outcome
}

/// A world's panic is caught where it runs: nothing is half done behind this lock.
fn locked(outcome: &Mutex<Outcome>) -> std::sync::MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
