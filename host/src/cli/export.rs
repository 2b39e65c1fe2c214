//! `tidegate export`.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Progress, Sink};
use crate::node::{Exported, ExportedPartition, Node};

/// Writes a flushed collection's segment files in the layout that a Milvus import takes.
#[derive(Debug, Args, Serialize, Deserialize)]
#[command(after_long_help = IMPORT)]
pub struct Export {
    /// Name of the collection.
    #[arg(long)]
    collection: String,
    /// Folder to make; one that is there must be empty.
    #[arg(long)]
    pub(super) out: PathBuf,
}

const IMPORT: &str = "\
Files are linked where the file system can, else copied. Deletes of L0 segments, which imports pass over, become one delta log for each
segment that has rows to delete. Rows that are not flushed yet are not in segment files: run `tidegate flush` first.

Before the import make the collection in Milvus with the same fields in the same order, and its partitions. The server must see the folder:
with local storage as it is, below the server's storage root or on the same machine; else copied into its bucket, with the paths of the calls
replaced by the keys there. The result of --json has the requests in the form that the two servers take.";

impl Export {
    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let collection = node.collection(&self.collection)?;
        let exported =
            node.export(&collection, &self.out, &mut |done, of| sink.progress(Progress { what: "exporting segments".into(), done, of }))?;
        let partitions: Vec<Value> = exported.partitions.iter().map(|p| self.describe(&exported, p)).collect();
        let sum = |of: fn(&ExportedPartition) -> u64| exported.partitions.iter().map(of).sum::<u64>();
        Ok(json!({
            "collection": self.collection,
            "out": self.out,
            "storage_version": exported.storage_version,
            "segments": sum(|p| p.segments),
            "rows": sum(|p| p.rows),
            "deleted": sum(|p| p.deleted),
            "files": exported.files,
            "bytes": exported.bytes,
            "partitions": partitions,
            "not_for_2_3": exported.not_for_2_3,
        }))
    }

    fn describe(&self, exported: &Exported, part: &ExportedPartition) -> Value {
        let mut options = json!({ "backup": "true" });
        if exported.storage_version != 0 {
            options["storage_version"] = exported.storage_version.to_string().into();
        }
        let (insert, delta) = (json!(part.insert), part.delta.as_ref().map(|folder| json!(folder)));
        let prefixes: Vec<&Value> = [Some(&insert), delta.as_ref()].into_iter().flatten().collect();
        // milvus.proto's ImportRequest: two files, the second one empty where there are no deletes.
        let import_2_3 = json!({
            "collection_name": self.collection,
            "partition_name": part.partition.name,
            "row_based": false,
            "files": [&insert, delta.as_ref().unwrap_or(&json!(""))],
            "options": { "backup": "true" },
        });
        json!({
            "partition": part.partition.name,
            "segments": part.segments,
            "rows": part.rows,
            "deleted": part.deleted,
            "import_2_3": exported.not_for_2_3.is_empty().then_some(import_2_3),
            // POST /v2/vectordb/jobs/import/create
            "import_2_6": {
                "collectionName": self.collection,
                "partitionName": part.partition.name,
                "files": [prefixes],
                "options": options,
            },
        })
    }
}

/// The result, and the calls to make.
pub(super) fn render(done: &Value) -> String {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let partitions = list(&done["partitions"]);
    let mut lines = vec![
        format!(
            "exported {} rows, of which {} are deleted, in {} segments of {} partitions into {} ({} files, {} bytes)",
            done["rows"],
            done["deleted"],
            done["segments"],
            partitions.len(),
            done["out"].as_str().unwrap_or_default(),
            done["files"],
            done["bytes"]
        ),
        String::new(),
        "One import a partition, once Milvus has the collection, with the same fields in the same order, and its partitions.".into(),
        String::new(),
    ];
    let not_for_2_3: Vec<String> = list(&done["not_for_2_3"]).iter().filter_map(|why| why.as_str().map(str::to_owned)).collect();
    if not_for_2_3.is_empty() {
        lines.push(CALLS_OF_2_3.into());
        lines.extend(partitions.iter().map(|part| {
            let request = &part["import_2_3"];
            let [collection, partition, files] = ["collection_name", "partition_name", "files"].map(|key| &request[key]);
            format!("  milvus.Import(milvus_pb2.ImportRequest(collection_name={collection}, partition_name={partition}, files={files}, options=backup))")
        }));
    } else {
        lines.push(format!("Milvus 2.3 cannot import it: {}.", not_for_2_3.join("; ")));
    }
    lines.push("\nMilvus 2.6, by REST:".into());
    lines.extend(partitions.iter().map(|part| {
        let request = part["import_2_6"].to_string().replace('\'', r"'\''");
        format!("  curl http://127.0.0.1:19530/v2/vectordb/jobs/import/create -H 'Content-Type: application/json' -d '{request}'")
    }));
    lines.join("\n")
}

const CALLS_OF_2_3: &str = r#"Milvus 2.3, by gRPC; by hand in Python, since `utility.do_bulk_insert` of pymilvus 2.3 leaves the option out:
  from pymilvus import connections
  from pymilvus.grpc_gen import common_pb2, milvus_pb2
  connections.connect(host="127.0.0.1", port=19530)
  milvus = connections._fetch_handler("default")._stub
  backup = [common_pb2.KeyValuePair(key="backup", value="true")]"#;
