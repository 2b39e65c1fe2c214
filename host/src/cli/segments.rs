//! `tidegate segments`.

use std::collections::BTreeMap;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::calls::SegmentInfo;
use tidegate_core::coordinator::CollectionInfo;

use crate::node::Node;

/// Lists segments with their files.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Segments {
    /// Name of a collection; all of them when none is named.
    #[arg(long)]
    collection: Option<String>,
    /// List the keys of the files too.
    #[arg(long)]
    files: bool,
}

impl Segments {
    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        let collections = match &self.collection {
            Some(name) => vec![node.collection(name)?],
            None => node.collections()?,
        };
        let collections: BTreeMap<i64, CollectionInfo> = collections.into_iter().map(|c| (c.id, c)).collect();
        let mut segments = Vec::new();
        for (id, collection) in &collections {
            segments.extend(node.segments(Some(*id))?.iter().map(|s| self.describe(collection, s)));
        }
        Ok(json!({ "segments": segments, "storage": node.settings().storage.as_deref().unwrap_or("chunks") }))
    }

    fn describe(&self, collection: &CollectionInfo, segment: &SegmentInfo) -> Value {
        let partition = collection.partitions.iter().find(|p| p.id == segment.partition).map_or("(all)", |p| p.name.as_str());
        let mut described = json!({
            "segment": segment.segment,
            "collection": collection.name,
            "partition": partition,
            "vchannel": segment.vchannel,
            "state": format!("{:?}", segment.state).to_lowercase(),
            "level": format!("{:?}", segment.level),
            "storage_version": segment.storage_version,
            "rows": segment.rows,
            "files": segment.files.iter().count(),
            "bytes": segment.files.iter().map(|f| f.log_size).sum::<i64>(),
        });
        if self.files {
            described["paths"] = segment.files.iter().map(|f| f.path.as_str()).collect();
        }
        described
    }
}

pub(super) fn render(done: &Value) -> String {
    let text = |segment: &Value, key: &str| match &segment[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut out = format!(
        "{:>20} {:<16} {:<12} {:<8} {:<5} {:>10} {:>6} {:>12}  {}",
        "segment", "collection", "partition", "state", "level", "rows", "files", "bytes", "channel"
    );
    for s in done["segments"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let [id, collection, partition, state, level, rows, files, bytes, vchannel] =
            ["segment", "collection", "partition", "state", "level", "rows", "files", "bytes", "vchannel"].map(|key| text(s, key));
        out += &format!("\n{id:>20} {collection:<16} {partition:<12} {state:<8} {level:<5} {rows:>10} {files:>6} {bytes:>12}  {vchannel}");
        for path in s["paths"].as_array().map(Vec::as_slice).unwrap_or_default() {
            out += &format!("\n{:>20} {}/{}", "", text(done, "storage"), path.as_str().unwrap_or_default());
        }
    }
    out
}
