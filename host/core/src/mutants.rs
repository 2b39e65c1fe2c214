//! Mutants: deliberate faults of one line, which the simulator must catch. As [`crate::switches`], but each is the slip of a hand somewhere in the
//! protocol rather than the opposite of a promise. Only builds with the feature `switches` can turn one on.

#[cfg(feature = "switches")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The scan starts at the larger of its positions.
    LargerStart,
    /// A save that is answered with 'not found' counts as done.
    NotFoundIsDone,
    /// 'Not found' is believed at once.
    NotFoundNotTolerated,
    /// A save that was ignored counts as done.
    IgnoredIsDone,
    /// A segment that was read back counts as saved, whatever its files.
    ConfirmWithoutFiles,
    /// The dml position of a save is that of the last delivered message.
    DmlAhead,
    /// A save carries only the new files.
    PartialLists,
    /// Rows of a refused sync count as durable.
    RefusedIsDurable,
    /// A report counts without being read back.
    TrustReports,
    /// An attempt whose deadline has passed does not count any more.
    OverdueForgotten,
    /// A recovery does not wait for calls in flight.
    RecoverAtOnce,
    /// A sync does not wait for its segment's registration.
    SyncUnregistered,
    /// A drop that is answered with 'not found' counts as done, registered or not.
    DropOvertakes,
    /// A message does not wait for the record of its schema.
    SchemaNotAwaited,
    /// One schema's record stands for all.
    AnySchemaRecord,
    /// A write that fails keeps its place.
    WriteKeepsPlace,
    /// A fenced call is tried again.
    FenceIsTransient,
    /// Deletes hold no checkpoint.
    DeletesNotPinned,
    /// A flush message holds no checkpoint.
    FlushNotPinned,
    /// A replayed FlushAll waits for segments that are younger than it.
    FlushAllSealsLater,
    /// Control messages wait for segments whose creation was filtered.
    HoldForFiltered,
    /// Positions carry a tick that is one too high.
    TickTooHigh,
    /// The rest of a transaction with a bad body is delivered.
    SiblingsKept,
    /// A transaction's bodies keep their own ticks.
    BodiesAtOwnTick,
    /// A transaction's bodies keep their own last confirmed ids.
    BodiesAtOwnPlace,
    /// A rollback delivers.
    RollbackCommits,
    /// Messages that come too late are delivered.
    LateDelivered,
    /// A record that is read twice is delivered twice.
    TwiceDelivered,
    /// Messages come in the order of the log instead of their ticks.
    NoReorder,
    /// Saves of older terms are taken.
    SaveOfAnyTerm,
    /// A flushed segment takes saves.
    FlushedOverwritten,
    /// A save with an older dml position is taken.
    OlderSaves,
    /// Recovery information leaves complete segments out.
    FlushedNotListed,
    /// The stored consume checkpoint moves back.
    ConsumeMovesBack,
    /// Without a checkpoint, recovery starts at the segments' positions.
    SeekFromSegments,
    /// The rest of a page that was not taken is lost.
    PageLost,
    /// The completions of a void turn are lost.
    CompletionsLost,
    /// Half a group outlives its scan.
    GroupKept,
    /// A new instance is not told the names of channels.
    NamesKept,
    /// A channel that the coordinator dropped keeps its rows.
    DroppedStays,
    /// A call is waited for without a limit.
    NoDeadline,
    /// Syncs of one segment run at the same time.
    JobsInParallel,
    /// Work that fails while a recovery waits for it is tried again in the next scan.
    WorkOutlivesScan,
    /// The guard blames a component for what it cannot know.
    GuardBlames,
    /// A successor that fails to start is to blame, whatever the snapshot is.
    StartFaultStays,
    /// A snapshot for a successor is taken before completions are.
    UndrainedSwap,
    /// Staged rows are forgotten at a swap.
    StagedLostAtSwap,
    /// Pages that wait are lost at a swap.
    PagesLostAtSwap,
    /// Completions that wait are lost at a swap.
    CompletionsLostAtSwap,
    /// The journal goes on at a swap as if nothing had happened.
    JournalKeptAtSwap,
    /// A rollback forgets the turns of the version that failed.
    RollbackForgetsTurns,
    /// Probation does not end.
    ProbationForEver,
    /// There is nothing to go back to after a second swap on probation.
    ProvenForgotten,
    /// An order in a recovery is forgotten.
    OrderLost,
    /// A sync behind one that was refused runs, with the rows of both.
    NextAfterRefused,
    /// A batch may have rows of two schemas.
    TwoSchemas,
    /// A call that failed is made again at once.
    NoBackoff,
    /// Recovery information has the newest schema alone.
    SchemasForgotten,
    /// A segment's drop that was ignored counts as done.
    DropIgnoredIsDone,
    /// What a read-back does not show is gone, at once.
    ReadBackBelieved,
    /// An attempt that is never answered counts for ever.
    AttemptsCountForEver,
    /// A recovery waits for the flush messages that it appends.
    AppendsAwaited,
    /// A call of an instance that was lost is made again when it was not answered in time.
    MadeAgainInBackoff,
    /// A schema that is met after a later one is not recorded.
    SchemaOvertaken,
    /// A second flush of a segment that nobody knows waits for it.
    SecondFlushWaits,
    /// The rest of a group that has begun waits for room.
    GroupWaitsForRoom,
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
    ON.load(Ordering::Relaxed) == mutant as u64 + 1
}

/// Turns one mutant on and all others off; `None` turns all of them off.
#[cfg(feature = "switches")]
pub fn set(mutant: Option<Mutant>) {
    ON.store(mutant.map_or(0, |m| m as u64 + 1), Ordering::Relaxed);
}

/// Every mutant by name.
#[cfg(feature = "switches")]
pub const ALL: [(&str, Mutant); 66] = [
    ("larger-start", Mutant::LargerStart),
    ("not-found-is-done", Mutant::NotFoundIsDone),
    ("not-found-not-tolerated", Mutant::NotFoundNotTolerated),
    ("ignored-is-done", Mutant::IgnoredIsDone),
    ("confirm-without-files", Mutant::ConfirmWithoutFiles),
    ("dml-ahead", Mutant::DmlAhead),
    ("partial-lists", Mutant::PartialLists),
    ("refused-is-durable", Mutant::RefusedIsDurable),
    ("trust-reports", Mutant::TrustReports),
    ("overdue-forgotten", Mutant::OverdueForgotten),
    ("recover-at-once", Mutant::RecoverAtOnce),
    ("sync-unregistered", Mutant::SyncUnregistered),
    ("drop-overtakes", Mutant::DropOvertakes),
    ("schema-not-awaited", Mutant::SchemaNotAwaited),
    ("any-schema-record", Mutant::AnySchemaRecord),
    ("write-keeps-place", Mutant::WriteKeepsPlace),
    ("fence-is-transient", Mutant::FenceIsTransient),
    ("deletes-not-pinned", Mutant::DeletesNotPinned),
    ("flush-not-pinned", Mutant::FlushNotPinned),
    ("flush-all-seals-later", Mutant::FlushAllSealsLater),
    ("hold-for-filtered", Mutant::HoldForFiltered),
    ("tick-too-high", Mutant::TickTooHigh),
    ("siblings-kept", Mutant::SiblingsKept),
    ("bodies-at-own-tick", Mutant::BodiesAtOwnTick),
    ("bodies-at-own-place", Mutant::BodiesAtOwnPlace),
    ("rollback-commits", Mutant::RollbackCommits),
    ("late-delivered", Mutant::LateDelivered),
    ("twice-delivered", Mutant::TwiceDelivered),
    ("no-reorder", Mutant::NoReorder),
    ("save-of-any-term", Mutant::SaveOfAnyTerm),
    ("flushed-overwritten", Mutant::FlushedOverwritten),
    ("older-saves", Mutant::OlderSaves),
    ("flushed-not-listed", Mutant::FlushedNotListed),
    ("consume-moves-back", Mutant::ConsumeMovesBack),
    ("seek-from-segments", Mutant::SeekFromSegments),
    ("page-lost", Mutant::PageLost),
    ("completions-lost", Mutant::CompletionsLost),
    ("group-kept", Mutant::GroupKept),
    ("names-kept", Mutant::NamesKept),
    ("dropped-stays", Mutant::DroppedStays),
    ("no-deadline", Mutant::NoDeadline),
    ("jobs-in-parallel", Mutant::JobsInParallel),
    ("work-outlives-scan", Mutant::WorkOutlivesScan),
    ("guard-blames", Mutant::GuardBlames),
    ("start-fault-stays", Mutant::StartFaultStays),
    ("undrained-swap", Mutant::UndrainedSwap),
    ("staged-lost-at-swap", Mutant::StagedLostAtSwap),
    ("pages-lost-at-swap", Mutant::PagesLostAtSwap),
    ("completions-lost-at-swap", Mutant::CompletionsLostAtSwap),
    ("journal-kept-at-swap", Mutant::JournalKeptAtSwap),
    ("rollback-forgets-turns", Mutant::RollbackForgetsTurns),
    ("probation-for-ever", Mutant::ProbationForEver),
    ("proven-forgotten", Mutant::ProvenForgotten),
    ("order-lost", Mutant::OrderLost),
    ("next-after-refused", Mutant::NextAfterRefused),
    ("two-schemas", Mutant::TwoSchemas),
    ("no-backoff", Mutant::NoBackoff),
    ("schemas-forgotten", Mutant::SchemasForgotten),
    ("drop-ignored-is-done", Mutant::DropIgnoredIsDone),
    ("read-back-believed", Mutant::ReadBackBelieved),
    ("attempts-count-for-ever", Mutant::AttemptsCountForEver),
    ("appends-awaited", Mutant::AppendsAwaited),
    ("made-again-in-backoff", Mutant::MadeAgainInBackoff),
    ("schema-overtaken", Mutant::SchemaOvertaken),
    ("second-flush-waits", Mutant::SecondFlushWaits),
    ("group-waits-for-room", Mutant::GroupWaitsForRoom),
];
