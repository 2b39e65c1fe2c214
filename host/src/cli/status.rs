//! `tidegate status` and `tidegate explain`.

use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::ledger::Account;

use crate::node::{Node, NodeStatus};

/// How long a node that was just opened is given to recover its channels.
const RECOVERY_WAIT: Duration = Duration::from_secs(5);
const RECOVERY_POLL: Duration = Duration::from_millis(20);

/// Shows the state of a node.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct ShowStatus {}

/// Says why a channel's checkpoint is where it is.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Explain {
    /// The channel (vchannel), as `tidegate status` names it.
    channel: String,
}

impl Explain {
    pub(super) fn run(&self, node: &Node) -> anyhow::Result<Value> {
        recovered(node);
        Ok(serde_json::to_value(node.explain(&self.channel)?)?)
    }
}

pub(super) fn status(node: &Node) -> anyhow::Result<Value> {
    let mut status = serde_json::to_value(recovered(node))?;
    status["ledger_closed"] = node.ledger_closed().into();
    Ok(status)
}

/// Returns the state once no pchannel is in recovery any more, or time is up.
fn recovered(node: &Node) -> NodeStatus {
    let began = Instant::now();
    loop {
        let status = node.status();
        if began.elapsed() > RECOVERY_WAIT || status.pchannels.iter().all(|p| p.state != "in_recovery") {
            return status;
        }
        std::thread::sleep(RECOVERY_POLL);
    }
}

pub(super) fn render(done: &Value) -> String {
    let mut out = String::new();
    match serde_json::from_value::<NodeStatus>(done.clone()) {
        Ok(status) => match put(&mut out, &status) {
            Ok(()) => out.trim_end().to_owned(),
            Err(_) => done.to_string(),
        },
        // A node of another version: what it says, as it says it.
        Err(_) => done.to_string(),
    }
}

fn put(out: &mut String, status: &NodeStatus) -> std::fmt::Result {
    writeln!(out, "node       {}", status.dir.display())?;
    writeln!(out, "component  {} ({} bytes)", status.component_digest, status.component_bytes)?;
    for p in &status.pchannels {
        writeln!(out, "\n{}  {}, term {}{}", p.pchannel, p.state, p.term, p.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())?;
        writeln!(out, "  read to {}; log may be truncated below {}", tick(Some(p.tick)), tick(p.consume_tick))?;
        writeln!(
            out,
            "  holds {} of {} bytes; {} calls in flight; {} messages in {} turns",
            p.held_bytes, p.bytes_max, p.in_flight, p.messages, p.turns
        )?;
        let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
        let good = p.good_component.as_deref().map(|good| format!(", can go back to {}", short(good))).unwrap_or_default();
        let probation = p.probation.as_ref().map(|far| format!(", on probation: {far}")).unwrap_or_default();
        writeln!(out, "  component {}{good}{probation}", short(&p.component))?;
        if p.faults + p.guard_refusals + p.dead_letters + p.pressure_cuts > 0 {
            let (faults, refusals, letters, cuts) = (p.faults, p.guard_refusals, p.dead_letters, p.pressure_cuts);
            writeln!(
                out,
                "  {faults} component faults, {refusals} refused intents, {letters} dead letters, {cuts} batches cut by memory pressure"
            )?;
        }
        if p.events_dropped > 0 {
            writeln!(out, "  {} log events of the component were not kept: it logged too much in one call", p.events_dropped)?;
        }
        for c in &p.channels {
            let lag = c.lag_ms.map(|ms| format!(", {}.{:03} s behind", ms / 1_000, ms % 1_000)).unwrap_or_default();
            writeln!(out, "  {}  {}, checkpoint {}{lag}", c.vchannel, c.standing, tick(c.checkpoint_tick))?;
            writeln!(out, "    pin      {}", c.pin)?;
            if let Some(failing) = &c.failing {
                writeln!(out, "    failing  {failing}")?;
            }
            put_account(out, "inserts", &c.ledger.inserts)?;
            put_account(out, "deletes", &c.ledger.deletes)?;
        }
    }
    if !status.swaps.is_empty() {
        writeln!(out, "\nswap log")?;
        for line in &status.swaps {
            out.push_str("  ");
            super::swap::put_line(out, line);
        }
    }
    Ok(())
}

fn put_account(out: &mut String, kind: &str, account: &Account) -> std::fmt::Result {
    let Account { delivered, durable, duplicate, quarantined, pending, .. } = account;
    let filtered: u64 = account.filtered.values().sum();
    let closed = if account.is_closed() { "closed" } else { "open" };
    writeln!(
        out,
        "    {kind}  {delivered} delivered = {durable} durable + {duplicate} duplicate + {filtered} filtered + {quarantined} quarantined + {pending} pending ({closed})"
    )
}

/// A tick, with the seconds since 1970 that it stands for.
fn tick(tick: Option<u64>) -> String {
    match tick {
        Some(tick) => format!("{tick} ({}.{:03} s)", (tick >> 18) / 1_000, (tick >> 18) % 1_000),
        None => "none yet".to_owned(),
    }
}
