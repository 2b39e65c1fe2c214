//! `tidegate flush`.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::calls::{Level, SegmentState};

use super::{Progress, Sink};
use crate::node::{FlushProgress, Node};

/// Completes the growing segments of a collection.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Flush {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
}

impl Flush {
    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let collection = node.collection(&self.collection)?;
        let mut last: Option<FlushProgress> = None;
        let mut of = 0;
        node.flush(&collection, &mut |progress| {
            if last != Some(progress) {
                let left = (progress.segments_left + progress.channels_left) as u64;
                of = left.max(of);
                // A flush that is in the log cannot be taken back, whether somebody listens or not.
                let _told = sink.progress(Progress { what: "flushing segments and checkpoints".into(), done: of - left, of });
                last = Some(progress);
            }
        })?;
        let mut segments = node.segments(Some(collection.id))?;
        segments.retain(|s| s.state == SegmentState::Flushed && s.level == Level::L1);
        let rows: i64 = segments.iter().map(|s| s.rows).sum();
        Ok(json!({ "collection": self.collection, "segments": segments.len(), "rows": rows, "ledger_closed": node.ledger_closed() }))
    }
}
