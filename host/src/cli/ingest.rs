//! `tidegate ingest`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Progress, Sink};
use crate::node::Node;
use crate::tables::RowsFile;

/// Rows a step of the check before the first insert, whatever the batches are.
const CHECK_ROWS: usize = 4_096;

/// Inserts the rows of a Parquet file.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_long_help = RESUME)]
pub struct Ingest {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
    /// Parquet file with one column a field, see below.
    #[arg(long)]
    pub(super) file: PathBuf,
    /// Partition to insert into; the only one, or `_default`, when none is named.
    #[arg(long)]
    partition: Option<String>,
    /// Rows a batch; a batch is acknowledged as a whole.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch_rows: u32,
    /// First row of the file to insert, counted from 0.
    #[arg(long, default_value_t = 0)]
    from_row: u64,
    /// Take the file's primary keys although the collection gives its keys itself.
    #[arg(long)]
    #[serde(default)]
    keep_keys: bool,
}

const RESUME: &str = r#"Columns of the file, by type:
  BOOL, INT8 … INT64, FLOAT, DOUBLE     booleans, integers of any width that the values fit, floats
  VARCHAR, STRING, TEXT                 strings
  JSON, $meta                           strings with a JSON document, a JSON object
  ARRAY                                 lists
  GEOMETRY                              well-known binary
  TIMESTAMPTZ                           timestamps in microseconds, UTC, or microseconds since 1970 as integers
  FLOAT_VECTOR, INT8_VECTOR             lists of 32-bit floats, of 8-bit integers
  BINARY_VECTOR                         binary of dim / 8 bytes
  FLOAT16_VECTOR, BFLOAT16_VECTOR       binary of dim * 2 bytes, little-endian
  SPARSE_FLOAT_VECTOR                   strings with a JSON object of index and value, {"1": 0.5, "7": 2}
A row without a value gets the field's default value, or is null where it may be; so do all rows if the column is missing.
Keys of a collection with auto_id are given here: the file has no such column, unless --keep-keys says to take them from it.

The whole file is checked before its first row is inserted: a value that does not fit leaves nothing written.

With --json each acknowledged batch is a line, {"acknowledged": [first row, last row]}, rows of the file counted from 0, both
inclusive. After an interruption go on behind the last acknowledged row:
  tidegate ingest --dir node --collection digits --file digits.parquet --from-row 4096"#;

impl Ingest {
    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let collection = node.collection(&self.collection)?;
        let file = RowsFile::open(&self.file, &collection.schema, self.keep_keys)?;
        let batch_rows = self.batch_rows as usize;
        let rows = file.rows().saturating_sub(self.from_row);
        let mut row = self.from_row;
        for batch in file.read(self.from_row, CHECK_ROWS)? {
            row += batch?.rows as u64;
            sink.progress(Progress { what: "checking".into(), done: row - self.from_row, of: rows })?;
        }
        row = self.from_row;
        for batch in file.read(self.from_row, batch_rows)? {
            let batch = batch?;
            node.insert(&collection, self.partition.as_deref(), &batch)?;
            let first = row;
            row += batch.rows as u64;
            sink.line(json!({ "acknowledged": [first, row - 1] }))?;
            sink.progress(Progress { what: "ingesting".into(), done: row - self.from_row, of: rows })?;
        }
        Ok(json!({ "collection": self.collection, "rows": row - self.from_row, "from_row": self.from_row, "next_row": row }))
    }
}
