//! From rows in memory to flushed segments, through a whole node, next to a plain file of the same bytes.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use tidegate_message::columns::Columns;
use tidegate_message::schema::Schema;

use super::BUILD;
use super::figures::{Figure, cpu_seconds, peak_memory_bytes, significant};
use super::rows::{payload, rows, schema};
use super::scratch::Scratch;
use crate::node::{Node, Settings};

/// Bytes of rows inserted at once; spread over the shards it is a message or two each, and one wait for the log.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes of a row besides its vector, for cutting batches.
const ROW_BYTES: usize = 40;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Rows a round
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub rows: u32,
    /// Floats in a row's vector
    #[arg(long, default_value_t = 128, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=32_768))]
    pub dim: usize,
    /// Bytes that messages may hold between log and files, at least 4 MiB a pchannel; the node's default if not given
    #[arg(long)]
    pub budget: Option<usize>,
    /// Rounds that count; one with a tenth of the rows comes before
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Directory to work below, on the disk to measure; a temporary one if none is named
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// What it came to. MB are 10⁶ bytes of the values themselves.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `release` or `debug`.
    pub build: &'static str,
    /// Rows a round.
    pub rows: u32,
    /// Floats a vector.
    pub dim: usize,
    /// MB a round.
    pub payload_mb: f64,
    /// The node's budget in bytes.
    pub budget_bytes: usize,
    /// Rounds.
    pub rounds: u32,
    /// Seconds until the last row was durable in the log.
    pub ingest_s: Figure,
    /// Seconds until every row was in a flushed segment and the checkpoints had passed.
    pub flushed_s: Figure,
    /// MB a second until then.
    pub flushed_mb_s: Figure,
    /// CPU time of it, in seconds.
    pub cpu_s: Figure,
    /// MB a second of writing the same bytes to one file and fsyncing it once.
    pub plain_mb_s: Figure,
    /// Median of the node over median of the plain file.
    pub of_plain: f64,
    /// Most memory that the process had resident, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// Ingests and flushes, round after round, each into a new node.
///
/// # Errors
/// The node or the directory fails, or rows are missing from the segments.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let scratch = Scratch::below(options.dir.as_deref())?;
    let mut settings = Settings::load(scratch.path())?;
    settings.budget_bytes = options.budget.unwrap_or(settings.budget_bytes);
    let schema = schema(options.dim);
    let (mut ingest_s, mut flushed_s, mut flushed_mb_s, mut cpu_s, mut plain_mb_s) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut payload_mb = 0.0;
    for round in 0..=options.rounds {
        let count = if round == 0 { options.rows.div_ceil(10) } else { options.rows };
        let (plain_bytes, plain_s) = write_plainly(&scratch.path().join("plain"), &schema, count)?;
        let node = through_a_node(&scratch.path().join(format!("node-{round}")), settings.clone(), &schema, count)?;
        if round > 0 {
            payload_mb = plain_bytes as f64 / 1e6;
            plain_mb_s.push(payload_mb / plain_s);
            ingest_s.push(node.ingest_s);
            flushed_s.push(node.flushed_s);
            flushed_mb_s.push(payload_mb / node.flushed_s);
            cpu_s.push(node.cpu_s);
        }
    }
    let (flushed_mb_s, plain_mb_s) = (Figure::of(&flushed_mb_s), Figure::of(&plain_mb_s));
    Ok(Report {
        build: BUILD,
        rows: options.rows,
        dim: options.dim,
        payload_mb,
        budget_bytes: settings.budget_bytes,
        rounds: options.rounds,
        ingest_s: Figure::of(&ingest_s),
        flushed_s: Figure::of(&flushed_s),
        flushed_mb_s,
        cpu_s: Figure::of(&cpu_s),
        plain_mb_s,
        of_plain: flushed_mb_s.median / plain_mb_s.median,
        peak_memory_bytes: peak_memory_bytes(),
    })
}

struct Round {
    ingest_s: f64,
    flushed_s: f64,
    cpu_s: f64,
}

/// Opening the node is not counted, making the rows is: it takes a few hundredths of the time.
fn through_a_node(dir: &Path, settings: Settings, schema: &Schema, count: u32) -> anyhow::Result<Round> {
    let shards = settings.pchannels as usize;
    let node = Node::open(dir, settings, true)?;
    let collection = node.create_collection(schema, shards, &[])?;
    let cpu = cpu_seconds().unwrap_or_default();
    let began = Instant::now();
    for batch in batches(schema, count) {
        node.insert(&collection, None, &batch)?;
    }
    let ingest_s = began.elapsed().as_secs_f64();
    node.flush(&collection, &mut |_| ())?;
    let flushed_s = began.elapsed().as_secs_f64();
    let cpu_s = cpu_seconds().unwrap_or_default() - cpu;
    let stored: i64 = node.segments(Some(collection.id))?.iter().map(|s| s.rows).sum();
    anyhow::ensure!(stored == i64::from(count), "{stored} of {count} rows are in segments");
    node.shutdown();
    std::fs::remove_dir_all(dir)?;
    Ok(Round { ingest_s, flushed_s, cpu_s })
}

/// Returns the bytes and the seconds.
fn write_plainly(path: &Path, schema: &Schema, count: u32) -> anyhow::Result<(usize, f64)> {
    let began = Instant::now();
    let mut file = File::create(path)?;
    let mut bytes = 0;
    for batch in batches(schema, count) {
        let payload = payload(&batch);
        file.write_all(&payload)?;
        bytes += payload.len();
    }
    file.sync_all()?;
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((bytes, seconds))
}

fn batches(schema: &Schema, count: u32) -> impl Iterator<Item = Columns> {
    let dim = schema.fields.iter().map(|f| f.dim).sum::<usize>();
    let rows_a_batch = (BATCH_BYTES / (4 * dim + ROW_BYTES)).max(1);
    (0..count).step_by(rows_a_batch).map(move |first| rows(schema, first..first.saturating_add(rows_a_batch as u32).min(count)))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, dim, build, rounds, .. } = self;
        let mb = |bytes: u64| significant(bytes as f64 / 1e6);
        let (payload, budget) = (significant(self.payload_mb), mb(self.budget_bytes as u64));
        writeln!(
            f,
            "{rows} rows of {dim} floats, {payload} MB, budget {budget} MB; {rounds} rounds: median (least..greatest); {build} build"
        )?;
        writeln!(f, "  ingest, until durable in the log   {} s", self.ingest_s)?;
        writeln!(f, "  ingest to flushed                  {} s", self.flushed_s)?;
        writeln!(f, "                                     {} MB/s", self.flushed_mb_s)?;
        writeln!(f, "  CPU time                           {} s", self.cpu_s)?;
        writeln!(
            f,
            "  the same bytes, one file, one fsync {} MB/s: the node reaches {} of it",
            self.plain_mb_s,
            significant(self.of_plain)
        )?;
        let peak = self.peak_memory_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{} MB", mb(bytes)));
        write!(f, "  peak memory of the process         {peak}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_cover_every_row_once() {
        let schema = schema(2_000);
        let of = |count| batches(&schema, count).map(|b| b.rows).collect::<Vec<_>>();
        let a_batch = BATCH_BYTES / (8_000 + ROW_BYTES);
        assert_eq!(of(2 * a_batch as u32 + 1), [a_batch, a_batch, 1]);
        assert_eq!(of(3), [3]);
    }
}
