//! `tidegate delete`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::node::{Node, NodeError};
use crate::tables::read_keys;

/// Deletes rows by their primary keys, in every partition.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Delete {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
    /// JSON list of primary keys, such as [1, 2, 3] or ["a", "b"].
    #[arg(long)]
    pub(super) file: PathBuf,
}

impl Delete {
    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        let collection = node.collection(&self.collection)?;
        let primary = collection.schema.primary();
        let primary = primary.ok_or_else(|| NodeError::Invalid(format!("collection {:?} has no primary key", self.collection)))?;
        let keys = read_keys(&self.file, primary)?;
        Ok(json!({ "collection": self.collection, "keys": node.delete(&collection, &keys)? }))
    }
}
