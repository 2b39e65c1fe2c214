//! What a node can be asked, and where its answers go.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{collection, delete, export, flush, ingest, quarantine, record, scan, segments, status, swap};
use crate::node::Node;

/// One request; it crosses the socket as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub(crate) enum Request {
    CreateCollection(collection::Create),
    DropCollection(collection::Drop),
    ListCollections(collection::List),
    Ingest(ingest::Ingest),
    Delete(delete::Delete),
    Flush(flush::Flush),
    Scan(scan::Scan),
    Export(export::Export),
    Status(status::ShowStatus),
    Segments(segments::Segments),
    Explain(status::Explain),
    Swap(swap::Swap),
    Rollback(swap::Rollback),
    Record(record::Record),
    QuarantineList(quarantine::List),
    QuarantineRetry(quarantine::Retry),
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// What is being counted, as a person reads it.
    pub what: String,
    /// How many are done.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}

/// Where a request's output goes while it runs. An error means that nobody listens any more.
pub(crate) trait Sink {
    /// Takes a line that scripts read, at once.
    fn line(&mut self, line: Value) -> anyhow::Result<()>;
    /// Takes how far the request is.
    fn progress(&mut self, progress: Progress) -> anyhow::Result<()>;
}

impl Request {
    /// Looks at the request's own files, and makes their names mean the same in any process.
    ///
    /// # Errors
    /// A file is not what it should be.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Request::CreateCollection(r) => r.check(),
            Request::Ingest(r) => absolute(&mut r.file),
            Request::Delete(r) => absolute(&mut r.file),
            Request::Scan(r) => absolute(&mut r.out),
            Request::Export(r) => absolute(&mut r.out),
            Request::Swap(r) => r.check(),
            Request::Record(r) => r.check(),
            _ => Ok(()),
        }
    }

    /// Whether the node's directory is made if it is not there.
    pub fn makes_directory(&self) -> bool {
        matches!(self, Request::CreateCollection(_))
    }

    /// Carries the request out and returns its result, one JSON object.
    ///
    /// # Errors
    /// Whatever went wrong; [`super::exit_code`] says whether the input was at fault.
    pub fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        match self {
            Request::CreateCollection(r) => r.run(node),
            Request::DropCollection(r) => r.run(node),
            Request::ListCollections(_) => collection::list(node),
            Request::Ingest(r) => r.run(node, sink),
            Request::Delete(r) => r.run(node),
            Request::Flush(r) => r.run(node, sink),
            Request::Scan(r) => r.run(node, sink),
            Request::Export(r) => r.run(node, sink),
            Request::Status(_) => status::status(node),
            Request::Segments(r) => r.run(node),
            Request::Explain(r) => r.run(node),
            Request::Swap(r) => r.run(node, sink),
            Request::Rollback(r) => r.run(node, sink),
            Request::Record(r) => r.run(node, sink),
            Request::QuarantineList(_) => quarantine::list(node),
            Request::QuarantineRetry(r) => r.run(node),
        }
    }

    /// Puts the request's result in words.
    pub fn render(&self, done: &Value) -> String {
        let text = |key: &str| match &done[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        match self {
            Request::CreateCollection(_) => {
                format!("created collection {} (id {}) on {}", text("collection"), text("id"), text("vchannels"))
            }
            Request::DropCollection(_) => format!("dropped collection {}", text("collection")),
            Request::ListCollections(_) => collection::render(done),
            Request::Ingest(_) => format!("ingested {} rows into {}; they are durable in the log", text("rows"), text("collection")),
            Request::Delete(_) => format!("deleted {} keys from {}; the deletes are durable in the log", text("keys"), text("collection")),
            Request::Flush(_) => format!("flushed {}: {} segments with {} rows", text("collection"), text("segments"), text("rows")),
            Request::Scan(_) => format!("read {} rows back into {}", text("rows"), text("out")),
            Request::Export(_) => export::render(done),
            Request::Status(_) => status::render(done),
            Request::Segments(_) => segments::render(done),
            Request::Record(_) => {
                format!("recorded {} turns in {} bytes to {}: {}", text("turns"), text("bytes"), text("file"), text("ended"))
            }
            Request::Swap(_) | Request::Rollback(_) => swap::render(done),
            Request::QuarantineList(_) => quarantine::render_list(done),
            Request::QuarantineRetry(_) => quarantine::render_retry(done),
            Request::Explain(_) => format!("{}\n  host:      {}\n  component: {}", text("vchannel"), text("pin"), text("component")),
        }
    }
}

/// Makes a file's name independent of the working directory.
pub(super) fn absolute(path: &mut std::path::PathBuf) -> anyhow::Result<()> {
    *path = std::path::absolute(&*path).map_err(|e| super::BadInput(format!("{}: {e}", path.display())))?;
    Ok(())
}
