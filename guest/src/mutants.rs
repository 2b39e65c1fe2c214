//! Mutants: deliberate faults of one line, which the simulator must catch. As `tidegate_core::mutants`, but each is the slip of a hand somewhere in the
//! protocol rather than the opposite of a promise. Only builds with the feature `switches` can turn one on.

#[cfg(feature = "switches")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The floor forgets syncs in flight.
    ForgetSyncing,
    /// The floor forgets control messages.
    ForgetControls,
    /// Rows after their segment's flush count as duplicates.
    RowsAfterFlush,
    /// Batches reach over a change of the schema.
    NoCutBeforeSchema,
    /// A message at the seek tick is a duplicate.
    DuplicateAtSeek,
    /// A row at the dml position is taken again.
    RowsAtDmlAgain,
    /// A FlushAll reaches nobody.
    FlushAllIgnored,
    /// A replayed FlushAll seals segments that are younger than it.
    FlushAllSealsLater,
    /// A dropped partition keeps its segments.
    PartitionStays,
    /// A dropped collection is not told to the coordinator.
    DropNotForwarded,
    /// A flush seals nothing.
    SealForgotten,
    /// A channel that was not listed is not asked for.
    UnlistedIgnored,
    /// Messages that waited for the coordinator's word are forgotten.
    HeldForgotten,
    /// Nothing is done by time.
    TimersStop,
    /// Memory pressure ends no batch.
    PressureIgnored,
    /// Segments of the old architecture are not sealed.
    OldStaysOpen,
    /// Nor are they when their channel comes back later than the others.
    OldStaysOpenAtRejoin,
    /// The consume checkpoint is not saved.
    ConsumeStops,
    /// Batches that are full go on.
    FullForgotten,
    /// Deletes are not written.
    DeletesForgotten,
}

#[cfg(feature = "switches")]
static ON: AtomicU64 = AtomicU64::new(0);

/// Whether a fault is made now: never, in this build.
#[cfg(not(feature = "switches"))]
pub(crate) const fn is_mutated(_mutant: Mutant) -> bool {
    false
}

/// Whether a fault is made now.
#[cfg(feature = "switches")]
pub(crate) fn is_mutated(mutant: Mutant) -> bool {
    ON.load(Ordering::Relaxed) >> mutant as u64 & 1 == 1
}

/// Turns one mutant on and all others off; `None` turns all of them off.
#[cfg(feature = "switches")]
pub fn set(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, |m| 1 << m as u64), Ordering::Relaxed);
}

/// Every mutant by name.
#[cfg(feature = "switches")]
pub const ALL: [(&str, Mutant); 20] = [
    ("forget-syncing", Mutant::ForgetSyncing),
    ("forget-controls", Mutant::ForgetControls),
    ("rows-after-flush", Mutant::RowsAfterFlush),
    ("no-cut-before-schema", Mutant::NoCutBeforeSchema),
    ("duplicate-at-seek", Mutant::DuplicateAtSeek),
    ("rows-at-dml-again", Mutant::RowsAtDmlAgain),
    ("flush-all-ignored", Mutant::FlushAllIgnored),
    ("flush-all-seals-later", Mutant::FlushAllSealsLater),
    ("partition-stays", Mutant::PartitionStays),
    ("drop-not-forwarded", Mutant::DropNotForwarded),
    ("seal-forgotten", Mutant::SealForgotten),
    ("unlisted-ignored", Mutant::UnlistedIgnored),
    ("held-forgotten", Mutant::HeldForgotten),
    ("timers-stop", Mutant::TimersStop),
    ("pressure-ignored", Mutant::PressureIgnored),
    ("old-stays-open", Mutant::OldStaysOpen),
    ("old-stays-open-at-rejoin", Mutant::OldStaysOpenAtRejoin),
    ("consume-stops", Mutant::ConsumeStops),
    ("full-forgotten", Mutant::FullForgotten),
    ("deletes-forgotten", Mutant::DeletesForgotten),
];
