//! `tidegate collection create | drop | list`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::coordinator::{CollectionInfo, CollectionState};
use tidegate_message::schema::Schema;

use super::BadInput;
use super::request::absolute;
use crate::node::{Node, key_partitions};
use crate::tables::read_schema;

/// Creates a collection.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_long_help = SCHEMA)]
pub struct Create {
    /// Schema file (JSON).
    #[arg(long)]
    schema: PathBuf,
    /// Shards, each with a channel of its own; rows are spread by primary key.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    shards: u16,
    /// Names of partitions, separated by commas; `_default` when none is given.
    #[arg(long, value_delimiter = ',')]
    partitions: Vec<String>,
    /// Number of partitions of a collection with a partition key, over which rows are spread by that key; 16 when none is given.
    #[arg(long, conflicts_with = "partitions", value_parser = clap::value_parser!(u32).range(1..=1024))]
    #[serde(default)]
    num_partitions: Option<u32>,
}

const SCHEMA: &str = r#"Example of a schema file:
  {"name": "books", "enable_dynamic_field": false, "fields": [
    {"name": "id", "dtype": "INT64", "is_primary": true, "auto_id": true},
    {"name": "shop", "dtype": "VARCHAR", "is_partition_key": true, "params": {"max_length": 64}},
    {"name": "title", "dtype": "VARCHAR", "nullable": true, "params": {"max_length": 256}},
    {"name": "pages", "dtype": "INT32", "default_value": 0},
    {"name": "tags", "dtype": "ARRAY", "element_type": "VARCHAR", "params": {"max_capacity": 16, "max_length": 32}},
    {"name": "embedding", "dtype": "FLOAT_VECTOR", "params": {"dim": 128}}]}

Types: BOOL INT8 INT16 INT32 INT64 FLOAT DOUBLE VARCHAR STRING TEXT JSON GEOMETRY TIMESTAMPTZ (microseconds since 1970)
  ARRAY (of BOOL, INT8 … INT64, FLOAT, DOUBLE, VARCHAR, STRING)
  FLOAT_VECTOR BINARY_VECTOR FLOAT16_VECTOR BFLOAT16_VECTOR INT8_VECTOR SPARSE_FLOAT_VECTOR"#;

/// Drops a collection.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Drop {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
}

/// Lists the collections.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct List {}

impl Create {
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        absolute(&mut self.schema)?;
        self.partition_names(&read_schema(&self.schema)?)?;
        let mut names = BTreeSet::new();
        match self.partitions.iter().find(|name| name.is_empty() || !names.insert(name.as_str())) {
            Some(wrong) => Err(BadInput(format!("--partitions: the name {wrong:?} is empty or occurs twice")).into()),
            None => Ok(()),
        }
    }

    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        let schema = read_schema(&self.schema)?;
        if let Some(there) = node.collections()?.into_iter().find(|c| c.name == schema.name && c.state != CollectionState::Dropped) {
            let (name, id) = (there.name, there.id);
            return Err(BadInput(format!("there is a collection {name:?} already (id {id}); drop it first, or choose another name")).into());
        }
        let partitions = self.partition_names(&schema)?;
        Ok(describe(&node.create_collection(&schema, usize::from(self.shards), &partitions)?))
    }

    fn partition_names(&self, schema: &Schema) -> anyhow::Result<Vec<String>> {
        let key = schema.fields.iter().find(|field| field.is_partition_key).map(|field| &field.name);
        match (key, self.num_partitions) {
            (Some(key), _) if !self.partitions.is_empty() => {
                Err(BadInput(format!("--partitions: rows go to partitions by the partition key {key:?}; say --num-partitions instead"))
                    .into())
            }
            (None, Some(_)) => {
                Err(BadInput(format!("--num-partitions: collection {:?} has no partition key; name --partitions instead", schema.name))
                    .into())
            }
            (_, Some(count)) => Ok(key_partitions(count)),
            (_, None) => Ok(self.partitions.clone()),
        }
    }
}

impl Drop {
    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        node.drop_collection(&self.collection)?;
        Ok(json!({ "collection": self.collection, "dropped": true }))
    }
}

pub(super) fn list(node: &Node) -> anyhow::Result<Value> {
    let collections: Vec<Value> = node.collections()?.iter().map(describe).collect();
    Ok(json!({ "collections": collections }))
}

fn describe(collection: &CollectionInfo) -> Value {
    json!({
        "collection": collection.name,
        "id": collection.id,
        "state": format!("{:?}", collection.state).to_lowercase(),
        "fields": collection.schema.fields.iter().map(|f| &f.name).collect::<Vec<_>>(),
        "partitions": collection.partitions.iter().map(|p| &p.name).collect::<Vec<_>>(),
        "vchannels": collection.shards.iter().map(|s| &s.vchannel).collect::<Vec<_>>(),
    })
}

pub(super) fn render(done: &Value) -> String {
    let list = done["collections"].as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        return "no collections".to_owned();
    }
    let line = |c: &Value| {
        format!(
            "{} (id {}, {}): fields {}, partitions {}, channels {}",
            plain(&c["collection"]),
            c["id"],
            plain(&c["state"]),
            c["fields"],
            c["partitions"],
            c["vchannels"]
        )
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
