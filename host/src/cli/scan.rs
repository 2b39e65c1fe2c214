//! `tidegate scan`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::calls::{Level, SegmentState};

use super::{Progress, Sink};
use crate::node::Node;
use crate::tables::RowsOut;

/// Reads a collection's segment files back.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_long_help = "Rows that are not flushed yet are not in segment files: run `tidegate flush` first.")]
pub struct Scan {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
    /// Parquet file to write; replaced when all rows are read.
    #[arg(long)]
    pub(super) out: PathBuf,
}

impl Scan {
    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let collection = node.collection(&self.collection)?;
        let with_rows =
            |s: &&_| matches!(s, tidegate_core::calls::SegmentInfo { state, level: Level::L1, .. } if *state != SegmentState::Dropped);
        let of = node.segments(Some(collection.id))?.iter().filter(with_rows).count() as u64;
        let mut out = RowsOut::create(&self.out, &collection.schema)?;
        let mut done = 0;
        node.read_rows(&collection, &mut |rows| {
            out.write(&rows)?;
            done += 1;
            sink.progress(Progress { what: "reading segments".into(), done, of })
        })?;
        Ok(json!({ "collection": self.collection, "out": self.out, "rows": out.finish()? }))
    }
}
