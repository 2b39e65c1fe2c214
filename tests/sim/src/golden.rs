//! Golden scenarios: short, made by hand, and cut after every single action.

use crate::scenario::{Op, Scenario, Settings, Successor};

fn scenario(settings: Settings, ops: Vec<Op>) -> Scenario {
    Scenario { settings, ops: ops.into_iter().enumerate().map(|(n, op)| (200 * (n as u64 + 1), op)).collect(), cuts: Vec::new() }
}

fn insert(at: u64, rows: u64) -> Op {
    Op::Insert { at, rows, width: 20 }
}

/// Every golden scenario by name.
pub fn all() -> Vec<(&'static str, Scenario)> {
    let small = Settings { insert_bytes_max: 300, segment_rows: 12, latency_ms: 3, ..Settings::default() };
    let create = |shards| Op::Create { shards, partitions: 2 };
    let body = |rows| Op::Body { slot: 0, rows, bad: false };
    vec![
        ("rows-and-a-flush", scenario(small.clone(), vec![create(1), insert(0, 3), insert(0, 3), Op::Flush { at: 0 }])),
        ("segments-that-fill", scenario(small.clone(), vec![create(1), insert(0, 8), insert(0, 8), insert(0, 8), insert(0, 2)])),
        ("deletes-and-rows", scenario(small.clone(), vec![create(1), insert(0, 4), Op::Delete { at: 0, keys: 2 }, insert(0, 4)])),
        ("two-shards", scenario(small.clone(), vec![create(2), insert(0, 4), insert(1 << 16, 4), Op::Flush { at: 0 }])),
        (
            "a-transaction",
            scenario(
                small.clone(),
                vec![
                    create(1),
                    Op::Begin { slot: 0, at: 0, keepalive_ms: 60_000 },
                    body(2),
                    insert(0, 2),
                    body(0),
                    Op::End { slot: 0, commit: Some(true) },
                ],
            ),
        ),
        (
            "a-transaction-rolled-back",
            scenario(
                small.clone(),
                vec![
                    create(1),
                    Op::Begin { slot: 0, at: 0, keepalive_ms: 60_000 },
                    body(2),
                    Op::End { slot: 0, commit: Some(false) },
                    insert(0, 2),
                ],
            ),
        ),
        ("flush-all-then-rows", scenario(small.clone(), vec![create(1), insert(0, 3), Op::FlushAll { at: 0 }, insert(0, 3), insert(0, 3)])),
        (
            "a-field-more",
            scenario(small.clone(), vec![create(1), insert(0, 3), Op::Alter { at: 0 }, insert(0, 3), Op::Alter { at: 0 }, insert(0, 3)]),
        ),
        (
            "a-partition-dropped",
            scenario(small.clone(), vec![create(1), insert(1 << 32, 3), insert(0, 3), Op::DropPartition { at: 0 }, insert(0, 3)]),
        ),
        (
            "a-collection-dropped",
            scenario(small.clone(), vec![create(1), insert(0, 3), Op::DropCollection { at: 0, early: false }, create(1), insert(0, 3)]),
        ),
        (
            "dropped-by-the-coordinator",
            scenario(small.clone(), vec![create(2), insert(0, 3), Op::DropCollection { at: 0, early: true }, create(1), insert(0, 3)]),
        ),
        ("of-the-old-architecture", scenario(small.clone(), vec![create(1), insert(0, 3), Op::OldSegment { at: 0 }, insert(0, 3)])),
        (
            "odd-records",
            scenario(
                small,
                vec![
                    create(1),
                    insert(0, 3),
                    Op::Malformed { at: 0 },
                    Op::Unknown { at: 0 },
                    Op::Orphan { at: 0 },
                    Op::Late { at: 0 },
                    Op::Stray { at: 0 },
                    insert(0, 3),
                ],
            ),
        ),
    ]
    .into_iter()
    .chain(swaps())
    .collect()
}

/// Scenarios with swaps of the component in them.
fn swaps() -> Vec<(&'static str, Scenario)> {
    let small = Settings { insert_bytes_max: 300, segment_rows: 12, latency_ms: 3, ..Settings::default() };
    let create = Op::Create { shards: 1, partitions: 2 };
    let swap = |to| Op::Swap { at: 0, to, force: true, twice: false };
    let named = |name, ops| (name, scenario(small.clone(), ops));
    vec![
        named(
            "a-swap-and-back",
            vec![
                create.clone(),
                insert(0, 4),
                swap(Successor::Good),
                insert(0, 4),
                swap(Successor::Previous),
                insert(0, 4),
                Op::Flush { at: 0 },
            ],
        ),
        named(
            "swaps-that-fail",
            vec![
                create.clone(),
                insert(0, 4),
                swap(Successor::Untrue),
                swap(Successor::FaultsAtOnce),
                insert(0, 4),
                swap(Successor::FaultsLater),
                insert(0, 4),
            ],
        ),
        named(
            "a-swap-to-the-contract-before",
            vec![
                create,
                insert(0, 4),
                Op::Delete { at: 0, keys: 2 },
                swap(Successor::Old),
                insert(0, 4),
                swap(Successor::Good),
                insert(0, 4),
            ],
        ),
    ]
}
