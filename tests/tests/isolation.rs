//! IS-1 and ME-1 in a real node: the storage of one channel fails for as long as it likes, its fifty neighbours take ten times the budget.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::node::{Node, Settings};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::ChannelStatus;
use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_tests::process::peak_bytes;
use tidegate_tests::rows::keys;

const NEIGHBOURS: usize = 50;
const BUDGET: usize = 8 << 20;
/// Floats of a row's vector: a row takes a little more than 1 KiB.
const DIM: usize = 256;
/// Rows of one insert.
const BATCH: i64 = 100;
/// Inserts of a round into the channel that fails: in a few rounds more than its pchannel may hold.
const ILL_BATCHES: i64 = 8;

fn schema(name: &str) -> Schema {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { dim: DIM, ..Field::new(101, "v", DataType::FloatVector) },
    ];
    Schema { name: name.into(), fields, enable_dynamic_field: false, version: 0 }
}

fn rows(schema: &Schema, from: i64) -> Columns {
    let mut columns = Columns::new(schema);
    columns.rows = BATCH as usize;
    for column in &mut columns.fields {
        match &mut column.values {
            Values::Int64(values) => values.extend(from..from + BATCH),
            Values::Fixed { bytes, .. } => {
                (0..columns.rows * DIM).for_each(|n| bytes.extend_from_slice(&((from * 7 + n as i64) as f32).to_le_bytes()));
            }
            _ => {}
        }
    }
    columns
}

fn channel(node: &Node, c: &CollectionInfo) -> ChannelStatus {
    let pchannels = node.status().pchannels;
    let mut channels = pchannels.into_iter().flat_map(|p| p.channels);
    channels.find(|s| s.vchannel == c.shards[0].vchannel).expect("a channel")
}

fn stored_keys(node: &Node, c: &CollectionInfo) -> Vec<i64> {
    let mut found = Vec::new();
    node.read_rows(c, &mut |columns| {
        found.extend(keys(&columns));
        Ok(())
    })
    .unwrap();
    found.sort_unstable();
    found
}

#[test]
fn a_channel_whose_storage_fails_for_long_takes_nothing_from_its_neighbours_and_catches_up_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { pchannels: 1, budget_bytes: BUDGET, report_period_s: 1, ..Settings::default() };
    let node = Node::open(&dir.path().join("n"), settings, true).unwrap();
    let ill = node.create_collection(&schema("ill"), 1, &[]).unwrap();
    let others: Vec<CollectionInfo> =
        (0..NEIGHBOURS).map(|n| node.create_collection(&schema(&format!("other{n}")), 1, &[]).unwrap()).collect();
    // A file stands where the folder of its segments must be.
    let folder = dir.path().join("n/chunks/insert_log").join(ill.id.to_string());
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::write(&folder, b"in the way").unwrap();

    let bytes_of_batch = BATCH as usize * DIM * 4;
    let rounds = (10 * BUDGET).div_ceil(NEIGHBOURS * bytes_of_batch) as i64;
    let (mut held_max, mut moved, mut standings) = (0, 0, BTreeSet::new());
    let mut before = BTreeMap::new();
    for round in 0..rounds {
        for c in &others {
            node.insert(c, None, &rows(&c.schema, round * BATCH)).unwrap();
        }
        for nth in 0..ILL_BATCHES {
            node.insert(&ill, None, &rows(&ill.schema, (round * ILL_BATCHES + nth) * BATCH)).unwrap();
        }
        // The channel's storage gets the time to fail for long, and its neighbours the chance to stand still.
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            let pchannel = node.status().pchannels.remove(0);
            assert!(pchannel.held_bytes <= pchannel.bytes_max + (3 << 20), "ME-1: {} of {}", pchannel.held_bytes, pchannel.bytes_max);
            held_max = held_max.max(pchannel.held_bytes);
            for s in pchannel.channels {
                if s.vchannel == ill.shards[0].vchannel {
                    standings.insert(s.standing);
                } else if s.checkpoint_tick > before.insert(s.vchannel.clone(), s.checkpoint_tick).flatten() {
                    moved += 1;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    for c in &others {
        node.flush(c, &mut |_| ()).unwrap_or_else(|e| panic!("IS-1: {e}"));
    }
    let standing = channel(&node, &ill);
    let peak = peak_bytes(std::process::id());
    println!(
        "{rounds} rounds of {} MB: checkpoints moved {moved} times, at most {} of {} MB held, peak of the process {} MB; {standings:?}: {}",
        (NEIGHBOURS * bytes_of_batch) >> 20,
        held_max >> 20,
        BUDGET >> 20,
        peak >> 20,
        standing.pin,
    );
    assert!(standings.contains("detached"), "{standings:?}");
    assert!(moved > 2 * NEIGHBOURS, "IS-1: {moved}");
    assert_eq!(stored_keys(&node, &ill), Vec::<i64>::new());
    let held = node.status().pchannels[0].consume_tick;
    assert!(held < before.values().flatten().min().copied(), "CK-3: {held:?}");

    std::fs::remove_file(&folder).unwrap();
    let began = Instant::now();
    while let Err(error) = node.flush(&ill, &mut |_| ()) {
        assert!(began.elapsed() < Duration::from_secs(360), "{error}");
    }
    println!("caught up after {:?}", began.elapsed());
    assert_eq!(stored_keys(&node, &ill), (0..rounds * ILL_BATCHES * BATCH).collect::<Vec<_>>(), "FL-2");
    for c in &others {
        assert_eq!(stored_keys(&node, c), (0..rounds * BATCH).collect::<Vec<_>>(), "FL-2");
    }
    assert!(node.ledger_closed(), "LD-1: {:#?}", node.status());
    assert_eq!(channel(&node, &ill).standing, "served");
}
