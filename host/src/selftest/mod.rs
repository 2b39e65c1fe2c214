//! Golden scenarios that a component must pass before it is trusted with a log: built in, without a disk, in milliseconds.
//!
//! A scenario is a scripted log and what its end must be. The component runs between the real core and the real rules of the coordinator;
//! only files are not written: their names and counts are made up. A component passes when it neither faults nor makes a claim that the
//! guard refuses, detaches nothing, and leaves every row in a flushed segment, every checkpoint at the end and a closed ledger.
//!
//! | file | idea |
//! |---|---|
//! | [`run`] | every scenario, each in a world of its own |
//! | `scenarios` | what happens, and what must come of it |
//! | `world` | the core around the component: log, calls, time |
//! | `script` | collections, segments and rows, and their messages in the log |
//! | `files` | answers to writes |

mod files;
mod scenarios;
pub(crate) mod script;
pub(crate) mod world;

use std::fmt;

use serde::Serialize;
use tidegate_core::turn::Fault;

use self::world::World;
use crate::engine::Loaded;

/// A scenario that a component passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// What happened in it.
    pub scenario: &'static str,
    /// Messages that the component was given, those of every scan.
    pub messages: u64,
    /// Turns that it took.
    pub turns: u64,
    /// Inserted rows that are in flushed segments at its end.
    pub rows: u64,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, messages, turns, rows } = self;
        write!(f, "{scenario}: {messages} messages in {turns} turns, {rows} rows flushed")
    }
}

/// The first scenario that a component failed, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("self-test, {scenario}: {failure}")]
pub struct SelfTestError {
    /// What happened in it.
    pub scenario: &'static str,
    /// What the component did.
    pub failure: Failure,
}

/// What a component did wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It trapped, missed a deadline, wanted too much memory or refused to start.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The guard refused what it claimed; the guard's words.
    #[error("{0}")]
    Refused(String),
    /// It gave a channel up, or the host had to.
    #[error("channel {channel} is detached: {reason}")]
    Detached {
        /// The channel.
        channel: String,
        /// Why.
        reason: String,
    },
    /// It and the host keep each other busy without an end.
    #[error("does not come to rest after {0} steps")]
    Restless(usize),
    /// Something is not as it must be at the end.
    #[error("{0}")]
    Outcome(String),
}

/// Runs every scenario with a component; each begins with a new instance.
///
/// ```
/// # use tidegate::engine::{BUILT_IN, Engine};
/// let loaded = Engine::new()?.load(BUILT_IN, None)?;
/// let passed = tidegate::selftest::run(&loaded)?;
/// assert!(passed.iter().all(|p| p.turns > 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The first scenario that it fails, and what it did.
pub fn run(loaded: &Loaded) -> Result<Vec<Passed>, SelfTestError> {
    let pass = |&(scenario, play): &scenarios::Scenario| {
        let failed = |failure| SelfTestError { scenario, failure };
        let mut world = World::new(loaded);
        let rows = play(&mut world).and_then(|()| world.judge()).map_err(failed)?;
        Ok(Passed { scenario, messages: world.messages(), turns: world.turns(), rows })
    };
    scenarios::ALL.iter().map(pass).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{BUILT_IN, Engine};

    #[test]
    fn the_built_in_component_passes_every_scenario() {
        let artifacts = std::env::current_exe().unwrap().with_file_name("components");
        let loaded = Engine::new().unwrap().load(BUILT_IN, Some(&artifacts)).unwrap();
        let passed = run(&loaded).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(passed.len(), scenarios::ALL.len());
        for p in &passed {
            assert!(p.turns > 0 && p.messages > 0 && p.rows > 0, "{p}");
        }
    }
}
