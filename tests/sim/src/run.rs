//! Many seeds, on several threads. A seed's world stays on one: threads share nothing but the number of the next seed.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::generate::{Weather, generate};
use crate::judge::Violation;
use crate::native::Guests;
use crate::tally::Tally;
use crate::world::run_caught;

/// Failures after which a run ends, unless it says otherwise: more of them mostly say nothing new.
pub const FAILURES_MAX: usize = 20;

/// Which seeds.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Threads that run them.
    pub threads: usize,
    /// Failures after which none begins any more.
    pub failures_max: usize,
}

impl Seeds {
    /// So many from 1 on, on all cores.
    pub fn first(count: u64) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { first: 1, count, threads, failures_max: FAILURES_MAX }
    }

    /// Gives each seed to `work`, in ascending order on each thread, until one says that it is enough.
    pub fn each(self, work: impl Fn(u64) -> ControlFlow<()> + Sync) {
        let next = AtomicU64::new(0);
        let worker = || {
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= self.count {
                    return;
                }
                if work(self.first + nth).is_break() {
                    next.store(self.count, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| (0..self.threads.max(1)).for_each(|_| drop(scope.spawn(worker))));
    }
}

/// What became of seeds.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Those that kept every promise, together.
    pub tally: Tally,
    /// Those that broke one, in ascending order.
    pub failures: Vec<(u64, Violation)>,
}

/// Who hears of each seed that ended: how many that makes, and which promise it broke, if any.
pub type Told<'a> = dyn Fn(u64, Option<(u64, &Violation)>) + Sync + 'a;

/// Runs seeds.
pub fn run(seeds: Seeds, weather: Weather, guests: &(dyn Guests + Sync), told: &Told<'_>) -> Outcome {
    let ended = AtomicU64::new(0);
    let outcome = Mutex::new(Outcome::default());
    seeds.each(|seed| {
        let result = run_caught(&generate(seed, weather), guests);
        told(ended.fetch_add(1, Ordering::Relaxed) + 1, result.as_ref().err().map(|violation| (seed, violation)));
        let outcome = &mut *locked(&outcome);
        match result {
            Ok(tally) => outcome.tally.add(&tally),
            Err(violation) => outcome.failures.push((seed, violation)),
        }
        if outcome.failures.len() < seeds.failures_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.failures.sort_by_key(|(seed, _)| *seed);
    outcome
}

/// A world's panic is caught where it runs: nothing is half done behind this lock.
fn locked(outcome: &Mutex<Outcome>) -> MutexGuard<'_, Outcome> {
    outcome.lock().unwrap_or_else(PoisonError::into_inner)
}
