//! Run-time switches: each breaks one promise, so that its test can be seen red. Only builds with the feature `switches` can turn one on;
//! in all others `is_on` is the constant `false`.

#[cfg(feature = "switches")]
use std::sync::atomic::{AtomicU32, Ordering};

/// What to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Switch {
    /// CK-2: the guard lets checkpoints pass pins.
    IgnorePins = 1,
    /// LD-1: the guard believes every filter reason.
    TrustFilters = 2,
    /// CK-1: the coordinator's checkpoints move back.
    CheckpointsMoveBack = 4,
    /// FE-1: the coordinator does not look at terms.
    IgnoreTerms = 8,
    /// CK-3: the guard lets the consume checkpoint pass channels.
    ConsumeAhead = 16,
    /// FL-2: a flush is accepted with rows staged after it.
    FlushWithStagedRows = 32,
    /// CK-4: positions carry a message's own id.
    OwnIds = 64,
    /// FL-1: the coordinator hears of files before they exist.
    SaveBeforeWrite = 128,
    /// IS-1: a detached channel stops its neighbours.
    DetachStopsAll = 256,
    /// ME-1: reading goes on over budget.
    ReadOverBudget = 512,
    /// DT-1: the journal forgets completions.
    JournalForgets = 1024,
    /// DT-2: pages are cut within groups, which then look complete.
    CutGroups = 2048,
    /// FL-3: the order of a segment's rows depends on the page.
    RowsByPage = 4096,
    /// SW-1: a successor is not compared with the ledger.
    TrustSuccessors = 8192,
    /// SW-3: a version on probation stays, whatever it does.
    NeverRollBack = 16384,
    /// SW-2: without a snapshot of the old version, the old version stays.
    NeedsSnapshot = 32768,
}

#[cfg(feature = "switches")]
static ON: AtomicU32 = AtomicU32::new(0);

/// Whether a promise is broken now: never, in this build.
#[cfg(not(feature = "switches"))]
pub(crate) const fn is_on(_switch: Switch) -> bool {
    false
}

/// Whether a promise is broken now.
#[cfg(feature = "switches")]
pub fn is_on(switch: Switch) -> bool {
    ON.load(Ordering::Relaxed) & switch as u32 != 0
}

/// Breaks promises by their names, separated by commas; for the tests, which read them from `TIDEGATE_BREAK`.
///
/// # Errors
/// Names a switch that does not exist.
#[cfg(feature = "switches")]
pub fn set(names: &str) -> Result<(), String> {
    let mut on = 0;
    for name in names.split(',').filter(|n| !n.is_empty()) {
        on |= ALL.iter().find(|(n, _)| *n == name).ok_or_else(|| format!("no switch is called {name:?}"))?.1 as u32;
    }
    ON.store(on, Ordering::Relaxed);
    Ok(())
}

/// Every switch by name.
#[cfg(feature = "switches")]
pub const ALL: [(&str, Switch); 16] = [
    ("ignore-pins", Switch::IgnorePins),
    ("trust-filters", Switch::TrustFilters),
    ("checkpoints-move-back", Switch::CheckpointsMoveBack),
    ("ignore-terms", Switch::IgnoreTerms),
    ("consume-ahead", Switch::ConsumeAhead),
    ("flush-with-staged-rows", Switch::FlushWithStagedRows),
    ("own-ids", Switch::OwnIds),
    ("save-before-write", Switch::SaveBeforeWrite),
    ("detach-stops-all", Switch::DetachStopsAll),
    ("read-over-budget", Switch::ReadOverBudget),
    ("journal-forgets", Switch::JournalForgets),
    ("cut-groups", Switch::CutGroups),
    ("rows-by-page", Switch::RowsByPage),
    ("trust-successors", Switch::TrustSuccessors),
    ("never-roll-back", Switch::NeverRollBack),
    ("needs-snapshot", Switch::NeedsSnapshot),
];
