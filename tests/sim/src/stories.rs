//! Stories: what users of Milvus suffered, played once more. `docs/threads.md` says which thread is which story.
//!
//! A story is a golden scenario with the trouble of its thread in it: it is cut after every action as well, and it must break with the fault
//! that its thread was about, where there is a mutant for that.

use crate::scenario::{Op, Scenario, Settings, Trouble};

/// A thread's trouble.
pub struct Story {
    /// What it is called.
    pub name: &'static str,
    /// The mutant that it must break with: `core-…`, `guest-…` or `switch-…`.
    pub mutant: Option<&'static str>,
    /// What happens.
    pub scenario: Scenario,
}

/// Batches of a few rows, segments of a dozen.
fn small() -> Settings {
    Settings { insert_bytes_max: 300, segment_rows: 12, latency_ms: 3, report_period_ms: 500, ..Settings::default() }
}

fn story(name: &'static str, mutant: &'static str, settings: Settings, ops: Vec<(u64, Op)>) -> Story {
    Story { name, mutant: Some(mutant).filter(|m| !m.is_empty()), scenario: Scenario { settings, ops, cuts: Vec::new() } }
}

fn create(shards: usize) -> Op {
    Op::Create { shards, partitions: 2 }
}

/// Rows of the first collection's first shard and partition.
fn rows(rows: u64) -> Op {
    Op::Insert { at: 0, rows, width: 20 }
}

/// Rows of the first collection's second shard.
fn rows_beside(rows: u64) -> Op {
    Op::Insert { at: 1 << 16, rows, width: 20 }
}

fn deletes(keys: u64) -> Op {
    Op::Delete { at: 0, keys }
}

fn begin() -> Op {
    Op::Begin { slot: 0, at: 0, keepalive_ms: 60_000 }
}

fn body(rows: u64) -> Op {
    Op::Body { slot: 0, rows, bad: false }
}

fn commit() -> Op {
    Op::End { slot: 0, commit: Some(true) }
}

fn kill() -> Op {
    Op::Kill { at: 0, after_ms: 20, same_term: false }
}

fn always(trouble: Trouble, ms: u64) -> Op {
    Op::Window { trouble, ms, percent: 100 }
}

/// Every story.
pub fn all() -> Vec<Story> {
    let mut all = of_the_log();
    all.extend(of_the_coordinator());
    all.extend(of_the_storage());
    all
}

/// Recovery, positions, definitions, transactions.
fn of_the_log() -> Vec<Story> {
    let flush = Op::Flush { at: 0 };
    let drop = Op::DropCollection { at: 0, early: false };
    vec![
        story(
            "dropped-and-read-again",
            "guest-drop-not-forwarded",
            small(),
            // Nothing is reported before the restart: it reads everything again, the drop of the first collection too.
            vec![
                (0, always(Trouble::ReportDropped, 2_000)),
                (100, create(1)),
                (300, rows(4)),
                (500, drop.clone()),
                (700, create(1)),
                (900, rows(4)),
                (1_500, kill()),
                (3_000, rows(4)),
            ],
        ),
        story(
            "flush-all-and-a-restart",
            "guest-flush-all-ignored",
            small(),
            vec![(0, create(2)), (200, rows(3)), (300, rows_beside(3)), (400, Op::FlushAll { at: 0 }), (405, kill()), (1_000, rows(3))],
        ),
        story(
            "flush-all-between-younger-segments",
            "guest-flush-all-seals-later",
            small(),
            vec![
                (0, always(Trouble::ReportDropped, 1_500)),
                (100, create(1)),
                (300, rows(3)),
                (500, Op::FlushAll { at: 0 }),
                (700, rows(3)),
                (1_000, kill()),
                (1_200, rows(3)),
                (2_000, rows(3)),
            ],
        ),
        story(
            "appends-side-by-side",
            "core-no-reorder",
            Settings { shuffle: true, ..small() },
            vec![
                (0, create(1)),
                (200, rows(3)),
                (200, rows(3)),
                (200, rows(3)),
                (200, rows(3)),
                (900, rows(1)),
                (901, rows(1)),
                (902, rows(1)),
                (910, kill()),
                (1_500, rows(1)),
            ],
        ),
        story(
            "two-crashes-in-a-transaction",
            "core-bodies-at-own-place",
            small(),
            vec![
                (0, create(1)),
                (200, begin()),
                (300, body(2)),
                (800, rows(9)),
                (1_300, body(2)),
                (1_800, rows(9)),
                (1_900, Op::Kill { at: 0, after_ms: 20, same_term: true }),
                (2_000, Op::Kill { at: 0, after_ms: 20, same_term: true }),
                (2_500, body(1)),
                (3_000, commit()),
                (3_005, Op::Kill { at: 0, after_ms: 20, same_term: true }),
            ],
        ),
        story(
            "nothing-is-confirmed",
            "guest-rows-at-dml-again",
            small(),
            // A record says that everything must be read again to meet what follows it: so it is, and nothing is flushed twice.
            vec![
                (0, create(1)),
                (200, rows(12)),
                (700, rows(9)),
                (1_200, Op::Late { at: 0 }),
                (1_300, rows(3)),
                (1_800, kill()),
                (2_500, rows(9)),
                (3_000, kill()),
                (3_500, rows(3)),
            ],
        ),
        story(
            "dropped-with-rows-on-their-way",
            "guest-drop-not-forwarded",
            small(),
            vec![
                (0, always(Trouble::StorageSlow, 600)),
                (100, create(2)),
                (300, rows(9)),
                (310, rows_beside(9)),
                (400, rows(9)),
                (410, drop.clone()),
                (420, create(1)),
                (600, rows(3)),
                (30_000, rows(3)),
            ],
        ),
        story(
            "a-schema-older-than-the-checkpoint",
            "core-schemas-forgotten",
            small(),
            vec![
                (0, create(1)),
                (200, rows(3)),
                (600, Op::Alter { at: 0 }),
                (700, rows(3)),
                (800, always(Trouble::ReportDropped, 1_000)),
                (900, Op::Alter { at: 0 }),
                (1_000, rows(3)),
                (1_100, Op::Alter { at: 0 }),
                (1_200, rows(3)),
                (1_400, kill()),
                (2_000, rows(3)),
            ],
        ),
        story(
            "deletes-across-a-field-more",
            "guest-deletes-forgotten",
            small(),
            vec![
                (0, create(1)),
                (200, rows(6)),
                (300, deletes(2)),
                (500, Op::Alter { at: 0 }),
                (600, deletes(2)),
                (1_200, rows(9)),
                (1_300, kill()),
                (2_000, deletes(2)),
            ],
        ),
        story(
            "a-log-that-is-let-go",
            "guest-consume-stops",
            small(),
            vec![(0, create(1)), (200, rows(9)), (400, flush.clone()), (70_000, rows(9)), (150_000, rows(9)), (150_100, kill())],
        ),
        story(
            "one-channel-lags-and-the-log-is-let-go",
            "switch-consume-ahead",
            small(),
            vec![
                (0, create(2)),
                (200, rows(9)),
                (300, rows_beside(3)),
                (400, Op::Window { trouble: Trouble::Lies, ms: 3_000, percent: 30 }),
                (800, rows(12)),
                (1_200, rows(12)),
                (1_700, rows(12)),
                (2_200, rows(12)),
                (4_000, rows_beside(3)),
                (4_500, kill()),
            ],
        ),
        story(
            "of-the-old-architecture-twice",
            "guest-old-stays-open",
            small(),
            // The flush that its recovery appends is lost with the answer: the next one appends it again.
            vec![(0, create(1)), (200, rows(3)), (400, Op::OldSegment { at: 0 }), (430, kill()), (500, kill()), (1_000, rows(3))],
        ),
        story(
            "of-the-old-architecture-and-recovered-late",
            "guest-old-stays-open-at-rejoin",
            Settings { seed: 3, ..small() },
            // The others do not wait for the recovery of the channel that has one.
            vec![
                (0, create(2)),
                (200, rows(3)),
                (300, rows_beside(3)),
                (400, Op::Window { trouble: Trouble::CallLost, ms: 60_000, percent: 80 }),
                (410, Op::OldSegment { at: 0 }),
                (70_000, rows(3)),
            ],
        ),
        story(
            "nobody-drains-and-the-log-takes-nothing",
            "core-appends-awaited",
            small(),
            vec![
                (0, create(1)),
                (200, rows(9)),
                (300, Op::LogRefuses { at: 0, silent: false }),
                (400, Op::OldSegment { at: 0 }),
                (500, rows(9)),
                (1_000, kill()),
                (1_500, rows(3)),
            ],
        ),
        story(
            "an-append-is-never-answered",
            "core-made-again-in-backoff",
            small(),
            vec![
                (0, create(1)),
                (200, rows(9)),
                (300, Op::LogRefuses { at: 0, silent: true }),
                (400, Op::OldSegment { at: 0 }),
                (500, rows(9)),
                // An instance that is lost is replaced, however long the append is out.
                (600, Op::Window { trouble: Trouble::Trap, ms: 5_000, percent: 40 }),
                (700, rows(9)),
                (900, rows(9)),
                (1_500, rows(3)),
                (1_700, rows(3)),
                (6_000, rows(3)),
            ],
        ),
        story(
            "a-log-that-is-moved",
            "guest-flush-all-ignored",
            small(),
            vec![
                (0, create(2)),
                (200, rows(9)),
                (210, rows_beside(3)),
                (300, deletes(2)),
                (310, rows(2)),
                (320, Op::AlterWal { at: 0 }),
                (2_000, kill()),
            ],
        ),
        story(
            "a-log-that-lost-its-start",
            "",
            Settings { segment_rows: 200, ..small() },
            // What was not flushed is lost, and everything else goes on: the node says so (`tidegate_scan_gaps`).
            vec![
                (0, create(2)),
                (200, rows(3)),
                (300, rows_beside(3)),
                (400, always(Trouble::StorageDown, 1_000)),
                (500, rows(9)),
                (600, rows_beside(9)),
                (700, Op::Kill { at: 0, after_ms: 300, same_term: false }),
                (750, rows(1)),
                (800, Op::Retention { at: 0 }),
                (1_000, rows(3)),
                (2_000, rows(9)),
                (2_100, rows_beside(3)),
                (2_200, flush.clone()),
                (3_000, kill()),
                (3_500, rows(3)),
            ],
        ),
        story(
            "flushed-again-after-everything-was-reported",
            "guest-seal-forgotten",
            small(),
            vec![(0, create(1)), (200, rows(3)), (400, flush.clone()), (3_000, kill()), (3_500, flush.clone()), (4_000, flush)],
        ),
        story(
            "a-channel-that-nobody-listed",
            "guest-unlisted-ignored",
            small(),
            vec![(200, create(1)), (300, rows(3)), (600, create(1)), (800, Op::Insert { at: 1, rows: 3, width: 20 })],
        ),
    ]
}

/// Calls, owners, reports.
fn of_the_coordinator() -> Vec<Story> {
    let mut orphans = vec![(0, create(1)), (200, rows(3)), (300, Op::Orphan { at: 0 }), (302, Op::CoordinatorRestart)];
    // While the coordinator is asked for the first, and in the turn that runs when it answers.
    orphans.extend((0..80).map(|n| (310 + 45 * n, Op::OrphanAgain)));
    orphans.extend([(400, rows(3)), (500, rows(3)), (5_000, Op::Orphan { at: 0 }), (5_005, kill()), (6_000, rows(3))]);
    vec![
        story(
            "a-recovery-that-is-cut-short",
            "",
            small(),
            vec![
                (0, create(2)),
                (200, rows(9)),
                (300, rows_beside(9)),
                (400, Op::Window { trouble: Trouble::CallSlow, ms: 40_000, percent: 50 }),
                (410, kill()),
                (420, Op::Window { trouble: Trouble::Trap, ms: 20_000, percent: 50 }),
                (5_000, rows(3)),
                (5_100, kill()),
                (60_000, rows(3)),
            ],
        ),
        story(
            "saved-and-not-heard-of",
            "guest-rows-at-dml-again",
            small(),
            // The save is applied, its answer is lost, another owner meets the same rows.
            vec![
                (0, create(1)),
                (200, rows(9)),
                (400, always(Trouble::AnswerLost, 300)),
                (500, rows(9)),
                (700, Op::Move { at: 0, pause_ms: 400 }),
                (1_500, rows(9)),
            ],
        ),
        story(
            "moved-with-a-sync-on-its-way",
            "core-save-of-any-term",
            small(),
            vec![
                (0, create(1)),
                (200, rows(3)),
                (300, Op::Window { trouble: Trouble::CallSlow, ms: 200, percent: 100 }),
                (310, rows(9)),
                (400, rows(9)),
                (520, Op::Move { at: 0, pause_ms: 100 }),
                (700, rows(9)),
                (40_000, rows(3)),
            ],
        ),
        story(
            "flushed-by-two-lives-of-one-owner",
            "core-flushed-not-listed",
            small(),
            vec![
                (0, create(1)),
                (200, rows(3)),
                (250, always(Trouble::CallTwice, 500)),
                (300, Op::Seal { at: 0 }),
                (302, Op::Flush { at: 0 }),
                (306, Op::Kill { at: 0, after_ms: 5, same_term: true }),
                (700, rows(3)),
                (8_000, rows(3)),
            ],
        ),
        story(
            "dropped-after-it-was-flushed",
            "core-flushed-not-listed",
            small(),
            // A sync's save comes a second time when its segment is complete, and when its partition is dropped.
            vec![
                (0, create(1)),
                (200, Op::Window { trouble: Trouble::CallTwice, ms: 300, percent: 100 }),
                (210, rows(9)),
                (220, Op::Insert { at: 1 << 32, rows: 9, width: 20 }),
                (600, Op::FlushAll { at: 0 }),
                (2_000, Op::DropPartition { at: 0 }),
                (8_000, rows(3)),
            ],
        ),
        story(
            "reports-that-cross",
            "core-trust-reports",
            small(),
            vec![
                (0, create(2)),
                (200, rows(12)),
                (300, Op::Window { trouble: Trouble::CallTwice, ms: 3_000, percent: 70 }),
                (700, rows(12)),
                (710, rows_beside(12)),
                (1_300, always(Trouble::ReportDropped, 1_500)),
                (1_400, rows(12)),
                (2_000, Op::Move { at: 0, pause_ms: 300 }),
                (3_000, rows(12)),
                (9_000, rows(3)),
            ],
        ),
        story(
            "not-found-for-a-while",
            "core-not-found-not-tolerated",
            small(),
            vec![
                (0, create(1)),
                (200, rows(3)),
                (300, Op::Window { trouble: Trouble::NotFound, ms: 3_000, percent: 60 }),
                (400, rows(9)),
                (500, Op::Seal { at: 0 }),
                (900, kill()),
                (1_500, rows(9)),
                (4_000, rows(3)),
            ],
        ),
        story("a-flush-of-a-segment-that-nobody-knows", "core-second-flush-waits", Settings { slow_turns: true, ..small() }, orphans),
        story(
            "rows-after-their-seal",
            "core-flushed-overwritten",
            small(),
            // Their channel is given up at each recovery, and its neighbour goes on.
            vec![
                (0, create(2)),
                (200, rows(3)),
                (210, rows_beside(3)),
                (300, Op::Seal { at: 0 }),
                (400, Op::AfterFlush { at: 0 }),
                (500, rows(3)),
                (600, rows_beside(9)),
                (700, Op::Flush { at: 1 << 16 }),
                (900, rows_beside(3)),
            ],
        ),
        story(
            "full-and-flushed-at-once",
            "core-jobs-in-parallel",
            Settings { latency_ms: 40, ..small() },
            vec![(0, create(1)), (200, rows(9)), (200, rows(2)), (200, Op::Flush { at: 0 }), (201, rows(12)), (201, Op::Seal { at: 0 })],
        ),
        story(
            "power-is-lost-with-everything-on-its-way",
            "core-larger-start",
            small(),
            vec![
                (0, create(2)),
                (200, rows(9)),
                (201, rows_beside(9)),
                (202, Op::PowerLoss),
                (900, rows(9)),
                (901, begin()),
                (902, body(3)),
                (903, Op::PowerLoss),
                (1_800, rows(3)),
            ],
        ),
    ]
}

/// Storage and memory.
fn of_the_storage() -> Vec<Story> {
    let burst = |from: u64| (0..40).map(move |n| (from, Op::Insert { at: (n & 1) << 16, rows: 4, width: 400 }));
    let tight = Settings { bytes_max: 6_000, page_max: 4, delivery_max: 4, ..small() };
    let mut away = vec![(0, create(2)), (200, rows(9)), (300, always(Trouble::StorageDown, 20_000)), (400, rows(9)), (500, rows_beside(9))];
    away.extend([(600, Op::Flush { at: 0 }), (700, deletes(3)), (25_000, rows(3))]);
    let mut away_and_full = vec![(0, create(2)), (200, always(Trouble::StorageDown, 15_000))];
    away_and_full.extend(burst(400));
    away_and_full.extend([(3_000, kill()), (16_000, rows(3))]);
    let mut flood = vec![(0, create(2)), (100, always(Trouble::StorageSlow, 2_000))];
    flood.extend(burst(200));
    flood.extend((0..30).map(|_| (210, deletes(4))));
    flood.extend(burst(220));
    let mut hoard = vec![(0, create(2))];
    hoard.extend(burst(200));
    let mut large = vec![(0, create(1)), (200, begin())];
    large.extend((0..8).map(|n| (300 + n, body(4))));
    large.extend([(400, rows(3)), (500, commit()), (600, rows(3))]);
    vec![
        story(
            "a-transaction-larger-than-the-budget",
            "core-group-waits-for-room",
            Settings { bytes_max: 3_000, page_max: 1, delivery_max: 1, scan_bytes_max: 0, ..small() },
            large,
        ),
        story("storage-is-away", "core-write-keeps-place", small(), away),
        story("storage-is-away-and-memory-is-full", "core-write-keeps-place", tight.clone(), away_and_full),
        story(
            "storage-is-slow",
            "core-jobs-in-parallel",
            small(),
            vec![
                (0, create(2)),
                (200, always(Trouble::StorageSlow, 30_000)),
                (300, rows(9)),
                (301, rows_beside(9)),
                (302, Op::Flush { at: 0 }),
                (500, rows(9)),
                (45_000, rows(3)),
            ],
        ),
        story(
            "one-large-batch-and-little-memory",
            "guest-pressure-ignored",
            Settings { insert_bytes_max: 1 << 20, ..tight.clone() },
            hoard,
        ),
        story("ten-times-the-budget", "switch-read-over-budget", tight.clone(), flood),
        story(
            "deletes-hold-the-checkpoint",
            "guest-deletes-forgotten",
            small(),
            vec![
                (0, create(1)),
                (200, rows(6)),
                (300, deletes(2)),
                (700, rows(12)),
                (1_300, rows(12)),
                (1_310, Op::FlushAll { at: 0 }),
                (1_400, deletes(1)),
                (1_402, kill()),
                (2_500, rows(3)),
            ],
        ),
        story(
            "files-cut-short-and-answers-lost",
            "core-write-keeps-place",
            small(),
            vec![
                (0, create(1)),
                (200, Op::Window { trouble: Trouble::StoragePartial, ms: 2_000, percent: 50 }),
                (200, always(Trouble::StorageReset, 2_000)),
                (300, rows(9)),
                (400, rows(9)),
                (600, kill()),
                (5_000, rows(3)),
            ],
        ),
        story(
            "bits-flip-in-what-is-read-back",
            "",
            small(),
            vec![
                (0, create(1)),
                (200, rows(4)),
                (1_500, rows(4)),
                (2_800, always(Trouble::BitsFlip, 500)),
                (3_000, Op::FlushAll { at: 0 }),
                (3_010, rows(3)),
            ],
        ),
    ]
}
