//! Bursts over the budget, for as long as one likes.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tidegate::tables::RowsOut;
use tidegate_chaos::memory::{anonymous, resident};
use tidegate_chaos::node::Node;
use tidegate_chaos::written::Written;
use tidegate_message::columns::{Columns, DataType, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_tests::process::{peak_bytes, run_json};

/// ME-1: what messages may hold.
const BUDGET: u64 = 8 << 20;
/// What a node of this size has beside the budget's messages: program, component and its compiled code, the log's and the coordinator's tables
/// and journals in memory (`docs/design.md`, Memory), a batch's columns and one encoded file.
const FIXED: u64 = 176 << 20;
/// Memory after the last third over memory after the first, at most, in percent.
const GROWTH_PERCENT: u64 = 130;
/// IS-1: how far the checkpoint of the quiet channel may be behind the clock. Its batches span five seconds and its reports come each second.
const LAG_MAX: Duration = Duration::from_secs(30);
/// Floats of a row's vector.
const DIM: usize = 256;
/// Rows of a burst: ten times the budget.
const BURST_ROWS: i64 = (10 * BUDGET as i64) / (DIM as i64 * 4);

const SETTINGS: &str = "pchannels = 1\nbudget_bytes = 8388608\nsync_period_s = 5\nreport_period_s = 1\nsegment_bytes = 33554432\n";

fn schema() -> Schema {
    let fields = vec![
        Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) },
        Field { dim: DIM, ..Field::new(101, "v", DataType::FloatVector) },
    ];
    Schema { name: "burst".into(), fields, enable_dynamic_field: false, version: 0 }
}

const DEFINITION: &str = r#"{"name": "NAME", "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true}, {"name": "v", "dtype": "FLOAT_VECTOR", "params": {"dim": 256}}]}"#;

fn write_burst(file: &Path) {
    let schema = schema();
    let mut out = RowsOut::create(file, &schema).unwrap();
    let mut from = 0;
    while from < BURST_ROWS {
        let keys = from..(from + 4_096).min(BURST_ROWS);
        from = keys.end;
        let mut columns = Columns::new(&schema);
        for key in keys {
            columns.rows += 1;
            for column in &mut columns.fields {
                match &mut column.values {
                    Values::Int64(values) if column.field_id >= 100 => values.push(key),
                    Values::Fixed { bytes, .. } => {
                        // Does not compress: what is counted is what is held.
                        let noise = |n: i64| ((key * 977 + n) as u32).wrapping_mul(2_654_435_761) & 0x3fff_ffff;
                        (0..DIM as i64).for_each(|n| bytes.extend_from_slice(&noise(n).to_le_bytes()));
                    }
                    _ => {}
                }
            }
        }
        out.write(&columns).unwrap();
    }
    out.finish().unwrap();
}

/// How far the stored checkpoints of a collection's channels are behind the clock.
fn lag(status: &Value, vchannel: &str) -> Option<Duration> {
    let channels = status["pchannels"].as_array()?.iter().flat_map(|p| p["channels"].as_array().into_iter().flatten());
    let channel = channels.into_iter().find(|c| c["vchannel"].as_str() == Some(vchannel))?;
    let at = Duration::from_millis(channel["checkpoint_tick"].as_u64()? >> 18);
    Some(SystemTime::now().duration_since(UNIX_EPOCH).ok()?.saturating_sub(at))
}

#[test]
fn bursts_over_the_budget_leave_memory_under_it_starve_no_quiet_channel_and_leave_nothing_behind() {
    let seconds = std::env::var("TIDEGATE_SOAK_S").ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let whole = Duration::from_secs(seconds);
    let root = tempfile::tempdir().unwrap();
    let (dir, file) = (root.path().join("n"), root.path().join("burst.parquet"));
    write_burst(&file);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("tidegate.toml"), SETTINGS).unwrap();
    let node = Node::start(&dir, &[]);
    let pid = node.pid();
    let mut quiet = Written::new(&dir, "quiet");
    let vchannels = quiet.vchannels();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (dir, file) = (text(&dir), text(&file));
    let done = AtomicBool::new(false);
    let began = Instant::now();
    let mut drained: Vec<(Duration, u64)> = Vec::new();
    let mut bursts = 0;
    thread::scope(|scope| {
        let _over = SetAtEnd(&done);
        // The quiet channel: a row each second, whose checkpoint follows.
        let watched = scope.spawn(|| {
            let (mut lag_max, mut peak, mut said) = (Duration::ZERO, 0, Instant::now());
            while !done.load(Ordering::Relaxed) {
                let second = Instant::now();
                quiet.insert(1);
                let status = run_json(&["status", "--dir", &dir, "--json"]);
                let lags: Vec<Duration> = vchannels.iter().filter_map(|v| lag(&status, v)).collect();
                lag_max = lags.iter().copied().max().unwrap_or_default().max(lag_max);
                peak = peak.max(peak_bytes(pid));
                if said.elapsed() >= Duration::from_secs(5) {
                    said = Instant::now();
                    println!(
                        "{:>4} s: {} of {} KiB held, resident {} MiB, peak {} MiB; the quiet channel is {lags:.1?} behind the clock",
                        began.elapsed().as_secs(),
                        status["pchannels"][0]["held_bytes"].as_u64().unwrap_or_default() >> 10,
                        BUDGET >> 10,
                        resident(pid) >> 20,
                        peak >> 20,
                    );
                }
                thread::sleep(Duration::from_secs(1).saturating_sub(second.elapsed()));
            }
            (lag_max, peak)
        });
        while began.elapsed() < whole || drained.len() < 3 {
            let name = format!("burst{bursts}");
            let definition = root.path().join("s.json");
            fs::write(&definition, DEFINITION.replace("NAME", &name)).unwrap();
            run_json(&["collection", "create", "--dir", &dir, "--schema", &text(&definition), "--shards", "2", "--json"]);
            run_json(&["ingest", "--dir", &dir, "--collection", &name, "--file", &file, "--batch-rows", "1000", "--json"]);
            let flushed = run_json(&["flush", "--dir", &dir, "--collection", &name, "--json"]);
            assert_eq!(flushed["rows"].as_i64(), Some(BURST_ROWS), "FL-2: {flushed}");
            run_json(&["collection", "drop", "--dir", &dir, "--collection", &name, "--json"]);
            bursts += 1;
            drained.push((began.elapsed(), anonymous(pid)));
        }
        done.store(true, Ordering::Relaxed);
        let (lag_max, peak) = watched.join().expect("the quiet channel's thread");
        let third = drained.last().map(|d| d.0 / 3).unwrap_or_default();
        let after_first = drained.iter().filter(|(at, _)| *at <= third).map(|(_, bytes)| *bytes).max().unwrap_or(drained[0].1);
        let after_last = drained.last().map(|d| d.1).unwrap_or_default();
        println!(
            "{bursts} bursts of {} MiB in {:?}: peak {} MiB with a budget of {} MiB; {} MiB after the first third, {} MiB after the last; \
             the quiet channel was at most {lag_max:.1?} behind the clock",
            (BURST_ROWS * DIM as i64 * 4) >> 20,
            began.elapsed(),
            peak >> 20,
            BUDGET >> 20,
            after_first >> 20,
            after_last >> 20
        );
        assert!(peak <= BUDGET + FIXED, "ME-1: {peak} bytes");
        assert!(lag_max < LAG_MAX, "IS-1: {lag_max:?}");
        assert!(after_last * 100 <= after_first * GROWTH_PERCENT, "memory grows: {drained:?}");
    });
    quiet.check();
    let (status, _) = node.terminate();
    assert!(status.success(), "{status}");
}

/// Ends the other thread also when this one fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
