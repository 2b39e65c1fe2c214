//! `tidegate demo`: the whole story on bundled real data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use tidegate_core::calls::SegmentInfo;
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::ledger::Account;
use tidegate_message::columns::{Columns, FieldColumn, PrimaryKey, TIMESTAMP_FIELD, Values};

use super::screen::Screen;
use super::{BadInput, Progress, Sink, settings};
use crate::node::Node;
use crate::tables::{RowsFile, parse_schema};

const ROWS: &[u8] = include_bytes!("../../demo/digits.parquet");
const SCHEMA: &[u8] = include_bytes!("../../demo/digits.schema.json");
const SHARDS: usize = 2;
const PARTITIONS: [&str; 2] = ["even", "odd"];
const BATCH_ROWS: usize = 200;
/// One key of so many is deleted.
const DELETE_EVERY: usize = 10;

/// Shows the whole story on bundled real data.
#[derive(Debug, Args)]
#[command(after_long_help = STORY)]
pub struct Demo {
    /// Directory to make the node in; a new one below the system's temporary directory when none is named.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

const STORY: &str = "\
1,797 handwritten digits go through log and flusher into segment files: a collection with two shards and the partitions `even` and `odd`
is created, rows are ingested in batches, a tenth of them is deleted, all is flushed, read back, and compared value by value.

Exits with 1 when a value differs or the ledger does not close. The directory stays: look at it with `tidegate status --dir DIR`.";

/// The rows that must come back, by key.
type Expected = BTreeMap<i64, Vec<u8>>;

impl Demo {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut screen = Screen::new(self.json);
        let dir = self.dir.clone().unwrap_or_else(fresh_directory);
        let node = Node::open(&dir, settings(&dir)?, true)?;
        let schema = parse_schema("digits.schema.json", SCHEMA)?;
        if node.collections()?.iter().any(|c| c.name == schema.name) {
            let fresh = fresh_directory();
            let problem = format!(
                "{} holds the demo's collection already; for another run, `tidegate demo --dir {}`",
                dir.display(),
                fresh.display()
            );
            return Err(BadInput(problem).into());
        }
        screen.say(&format!("A node in {}, its flusher is component {}.", dir.display(), node.status().component_digest))?;
        let collection = node.create_collection(&schema, SHARDS, &PARTITIONS.map(str::to_owned))?;
        let channels: Vec<&str> = collection.shards.iter().map(|s| s.vchannel.as_str()).collect();
        screen.say(&format!(
            "Collection {:?}: channels {}, partitions {}.",
            collection.name,
            channels.join(", "),
            PARTITIONS.join(", ")
        ))?;

        let mut expected = ingest(&node, &collection, &mut screen)?;
        let rows_ingested = expected.len();
        let gone: Vec<i64> = expected.keys().copied().step_by(DELETE_EVERY).collect();
        node.delete(&collection, &gone.iter().map(|key| PrimaryKey::Int64(*key)).collect::<Vec<_>>())?;
        gone.iter().for_each(|key| drop(expected.remove(key)));
        screen.say(&format!("Ingested {rows_ingested} rows and deleted {}: durable in the log.", gone.len()))?;
        node.flush(&collection, &mut |_| {})?;
        let segments = node.segments(Some(collection.id))?;
        screen.say("Flushed:")?;
        segments.iter().try_for_each(|s| screen.say(&describe(&collection, s)))?;

        let (rows_read_back, mismatches) = compare(&node, &collection, &expected)?;
        let status = node.status();
        let ledger_closed = node.ledger_closed();
        let mut ledger = [Account::default(), Account::default()];
        let mut checkpoints = serde_json::Map::new();
        for channel in status.pchannels.iter().flat_map(|p| &p.channels) {
            ledger[0].add(&channel.ledger.inserts);
            ledger[1].add(&channel.ledger.deletes);
            checkpoints.insert(channel.vchannel.clone(), json!(channel.checkpoint_tick));
            let tick = channel.checkpoint_tick.map_or("none".to_owned(), |t| t.to_string());
            screen.say(&format!("Checkpoint of {}: tick {tick}; held by: {}.", channel.vchannel, channel.pin))?;
        }
        let [inserts, deletes] = &ledger;
        screen.say(&format!("Ledger of inserts: {}.\nLedger of deletes: {}.", describe_account(inserts), describe_account(deletes)))?;
        let done = json!({
            "dir": dir,
            "rows_ingested": rows_ingested,
            "rows_deleted": gone.len(),
            "rows_expected": expected.len(),
            "rows_read_back": rows_read_back,
            "mismatches": mismatches,
            "segments": segments.len(),
            "files": segments.iter().map(|s| s.files.iter().count()).sum::<usize>(),
            "bytes": segments.iter().flat_map(|s| s.files.iter()).map(|f| f.log_size).sum::<i64>(),
            "checkpoints": checkpoints,
            "ledger": { "inserts": inserts, "deletes": deletes },
            "ledger_closed": ledger_closed,
            "component_digest": status.component_digest,
            "seconds": began.elapsed().as_secs_f64(),
        });
        node.shutdown();
        screen.finish(&done, summary)?;
        if mismatches > 0 || !ledger_closed {
            bail!(
                "{mismatches} rows differ, and the ledger is {}; keep {} and report this",
                if ledger_closed { "closed" } else { "open" },
                dir.display()
            );
        }
        Ok(())
    }
}

fn fresh_directory() -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    std::env::temp_dir().join(format!("tidegate-demo-{}-{}", now.as_millis(), std::process::id()))
}

/// Inserts the bundled rows, each into the partition of its digit.
fn ingest(node: &Node, collection: &CollectionInfo, screen: &mut Screen) -> anyhow::Result<Expected> {
    let file = RowsFile::of_bytes("digits.parquet", Bytes::from_static(ROWS), &collection.schema, false)?;
    let mut expected = Expected::new();
    for batch in file.read(0, BATCH_ROWS)? {
        let batch = batch?;
        let Some(Values::Int64(digits)) = batch.fields.iter().find(|f| f.name == "digit").map(|f| &f.values) else {
            bail!("the bundled rows have no digits");
        };
        for (parity, partition) in (0..).zip(PARTITIONS) {
            let rows: Vec<usize> = (0..batch.rows).filter(|&row| digits[row] % 2 == parity).collect();
            node.insert(collection, Some(partition), &batch.select(&rows))?;
        }
        for row in 0..batch.rows {
            expected.insert(key_of(&batch, row)?, value_of(&batch, row)?);
        }
        screen.progress(Progress { what: "ingesting".into(), done: expected.len() as u64, of: file.rows() })?;
    }
    Ok(expected)
}

/// Reads all rows back and returns how many there are, and how many are missing, unexpected, repeated or different.
fn compare(node: &Node, collection: &CollectionInfo, expected: &Expected) -> anyhow::Result<(usize, usize)> {
    let mut left = expected.clone();
    let (mut rows, mut mismatches) = (0, 0);
    node.read_rows(collection, &mut |batch| {
        for row in 0..batch.rows {
            rows += 1;
            if left.remove(&key_of(&batch, row)?) != Some(value_of(&batch, row)?) {
                mismatches += 1;
            }
        }
        Ok(())
    })?;
    Ok((rows, mismatches + left.len()))
}

fn key_of(columns: &Columns, row: usize) -> anyhow::Result<i64> {
    match columns.fields.iter().find(|f| f.is_primary).map(|f| &f.values) {
        Some(Values::Int64(keys)) if row < keys.len() => Ok(keys[row]),
        _ => bail!("row {row} has no primary key of 64 bits"),
    }
}

/// The bits of the values of a row, the primary key left out.
fn value_of(columns: &Columns, row: usize) -> anyhow::Result<Vec<u8>> {
    let mut value = Vec::new();
    for FieldColumn { name, values, .. } in columns.fields.iter().filter(|f| f.field_id > TIMESTAMP_FIELD && !f.is_primary) {
        match values {
            Values::Int64(values) if row < values.len() => value.extend_from_slice(&values[row].to_le_bytes()),
            Values::Fixed { width, bytes } if (row + 1) * width <= bytes.len() => {
                value.extend_from_slice(&bytes[row * width..(row + 1) * width])
            }
            _ => bail!("row {row} has no value of {name:?}"),
        }
    }
    Ok(value)
}

fn describe(collection: &CollectionInfo, segment: &SegmentInfo) -> String {
    let partition = collection.partitions.iter().find(|p| p.id == segment.partition).map_or("all partitions", |p| p.name.as_str());
    let files = segment.files.iter().count();
    let bytes: i64 = segment.files.iter().map(|f| f.log_size).sum();
    let first = segment.files.iter().next().map(|f| format!(", such as chunks/{}", f.path)).unwrap_or_default();
    format!(
        "  {:?} segment {} ({partition}, {}): {} rows in {files} files, {bytes} bytes{first}",
        segment.level, segment.segment, segment.vchannel, segment.rows
    )
}

fn describe_account(account: &Account) -> String {
    let filtered: u64 = account.filtered.values().sum();
    let Account { delivered, durable, duplicate, quarantined, pending, .. } = account;
    format!(
        "{delivered} delivered = {durable} durable + {duplicate} duplicate + {filtered} filtered + {quarantined} quarantined + {pending} pending"
    )
}

fn summary(done: &Value) -> String {
    format!(
        "Read back {} rows of {} expected, {} mismatches; ledger {}. {} segments, {} files, {} bytes, {:.1} s.\nLook around: tidegate status --dir {}",
        done["rows_read_back"],
        done["rows_expected"],
        done["mismatches"],
        if done["ledger_closed"] == true { "closed" } else { "open" },
        done["segments"],
        done["files"],
        done["bytes"],
        done["seconds"].as_f64().unwrap_or_default(),
        done["dir"].as_str().unwrap_or_default(),
    )
}
