//! `tidegate quarantine`.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{BadInput, sentence};
use crate::node::Node;

/// What a retry is to be known for.
const WARNING: &str = "the rows have a new tick: those that were deleted meanwhile come back, and what came later with the same keys is \
                       older than they are now; a delete also removes rows that came meanwhile";

/// Lists the messages that cannot be flushed.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct List {}

/// Appends messages that are set aside again.
///
/// They go through the node's write path: new ticks, and for rows a segment that takes rows now. The messages of a transaction that are set
/// aside go together, as one append. Rows that were deleted meanwhile come back; what came later with the same keys is older than they are
/// then; a delete also removes rows that came meanwhile.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Retry {
    /// The message's id as `tidegate quarantine list` shows it, or PCHANNEL/ID where several pchannels have one.
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// Every message that waits; those that cannot be appended again are said.
    #[arg(long, conflicts_with_all = ["id", "force", "skip"])]
    all: bool,
    /// Also what was appended again before, and without the rest of its transaction.
    #[arg(long, conflicts_with = "skip")]
    force: bool,
    /// Give up the effect of a control message that cannot be read: from the next start of the node on it detaches no channel.
    #[arg(long)]
    skip: bool,
}

pub(super) fn list(node: &Node) -> anyhow::Result<Value> {
    Ok(json!({ "quarantined": node.quarantined()? }))
}

impl Retry {
    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        match &self.id {
            Some(id) if self.skip => Ok(json!({ "skipped": node.skip_quarantined(id)? })),
            Some(id) => Ok(json!({ "retried": node.retry_quarantined(id, self.force)?, "refused": [], "warning": WARNING })),
            None if self.all => retry_all(node),
            None => Err(BadInput("name a message, or say --all".into()).into()),
        }
    }
}

fn retry_all(node: &Node) -> anyhow::Result<Value> {
    let (mut retried, mut refused) = (Vec::new(), Vec::new());
    for letter in node.quarantined()?.into_iter().filter(|letter| letter.state == "held") {
        // It went with its transaction.
        if retried.iter().any(|r: &crate::node::Retried| (&r.pchannel, &r.id) == (&letter.pchannel, &letter.id)) {
            continue;
        }
        match node.retry_quarantined(&format!("{}/{}", letter.pchannel, letter.id), false) {
            Ok(messages) => retried.extend(messages),
            Err(error) => refused.push(json!({ "pchannel": letter.pchannel, "id": letter.id, "reason": sentence(&error.into()) })),
        }
    }
    Ok(json!({ "retried": retried, "refused": refused, "warning": WARNING }))
}

pub(super) fn render_list(done: &Value) -> String {
    let letters = array(done, "quarantined");
    if letters.is_empty() {
        return "nothing is set aside".to_owned();
    }
    let mut out = Vec::new();
    for l in letters {
        let rows = l["rows"].as_u64().map(|rows| format!(", {rows} rows")).unwrap_or_default();
        let of = l["transaction"].as_i64().map(|txn| format!(", transaction {txn}")).unwrap_or_default();
        out.push(format!(
            "{}/{}  {} of {:?} at tick {}{rows}{of}",
            text(l, "pchannel"),
            text(l, "id"),
            text(l, "kind"),
            text(l, "vchannel"),
            l["tick"]
        ));
        let detail = l["detail"].as_str().map(|detail| format!(": {detail}")).unwrap_or_default();
        out.push(format!("  {}{detail}\n  {}", text(l, "state"), text(l, "reason")));
    }
    out.join("\n")
}

pub(super) fn render_retry(done: &Value) -> String {
    if let Value::Object(skipped) = &done["skipped"] {
        let name = |key: &str| skipped.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        return format!(
            "{}/{}, a {}, is skipped: its effect is given up. Restart the node; its channels are served from then on",
            name("pchannel"),
            name("id"),
            name("kind")
        );
    }
    let mut out = Vec::new();
    for r in array(done, "retried") {
        let segment = r["segment"].as_i64().map(|s| format!(" in segment {s}")).unwrap_or_default();
        out.push(format!(
            "{} rows of {} {}{segment}: tick {} is now {}; durable in the log",
            r["rows"],
            text(r, "kind"),
            text(r, "vchannel"),
            r["old_tick"],
            r["tick"]
        ));
    }
    if !out.is_empty() {
        out.push(format!("mind: {}", text(done, "warning")));
    }
    out.extend(array(done, "refused").iter().map(|r| text(r, "reason")));
    if out.is_empty() { "nothing waits".to_owned() } else { out.join("\n") }
}

fn array<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().unwrap_or_default().to_owned()
}
