//! `tidegate swap` and `tidegate rollback`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::component;
use super::request::{Progress, Sink, absolute};
use crate::node::{Node, Rehearsed, SwapLine, SwapLineStep, SwapOptions, SwapReport, Wanted};
use crate::replay::Verdict;

/// Has another component serve the pchannels, one after the other, between two turns: nothing is read twice, nothing is lost. The new one is
/// checked, tried and rehearsed on the recorded turns before, and on probation afterwards: when it fails, the one before serves again.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Swap {
    /// The component, a .wasm file.
    #[arg(long, required_unless_present = "same", conflicts_with = "same")]
    component: Option<PathBuf>,
    /// The component that serves already, anew: its linear memory, which only grows, begins small.
    #[arg(long)]
    same: bool,
    /// Only this pchannel.
    #[arg(long, conflicts_with = "all")]
    pchannel: Option<String>,
    /// Every pchannel of the node, which is the default; the first failure ends it.
    #[arg(long)]
    all: bool,
    /// Also a component that failed before, or that the rehearsal refuses; without the self-test.
    #[arg(long)]
    force: bool,
}

/// Has the component before serve again.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Rollback {
    /// Only this pchannel.
    #[arg(long)]
    pchannel: Option<String>,
}

impl Swap {
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.component.as_mut().map_or(Ok(()), absolute)
    }

    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let wanted = match &self.component {
            Some(file) => Wanted::Component(component::read(file)?),
            None => Wanted::Same,
        };
        let options = SwapOptions { pchannel: self.pchannel.clone(), force: self.force };
        run(node, &wanted, &options, sink)
    }
}

impl Rollback {
    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        // Whoever goes back knows what is wrong with the version that serves.
        let options = SwapOptions { pchannel: self.pchannel.clone(), force: true };
        run(node, &Wanted::Previous, &options, sink)
    }
}

fn run(node: &Node, wanted: &Wanted, options: &SwapOptions, sink: &mut dyn Sink) -> anyhow::Result<Value> {
    let mut done = 0;
    let report = node.swap(wanted, options, &mut |what| {
        done += 1;
        // Nobody may listen any more: the swap is carried out all the same, and its log says how it ended.
        let _gone = sink.progress(Progress { what: what.to_owned(), done, of: 0 });
    })?;
    serde_json::to_value(report).context("a report is JSON")
}

pub(super) fn render(done: &Value) -> String {
    match serde_json::from_value::<SwapReport>(done.clone()) {
        Ok(report) => {
            let mut out = String::new();
            for Rehearsed { pchannel, rehearsal } in &report.rehearsals {
                let said = match (&rehearsal.verdict, &rehearsal.report) {
                    (Verdict::NotJudged(why), _) => format!("not judged: {why}"),
                    (Verdict::Refused(why), _) => format!("refused, and forced: {why}"),
                    (Verdict::Passed, report) => report.as_ref().map(ToString::to_string).unwrap_or_default(),
                };
                // Writing to a string does not fail.
                let _infallible = writeln!(out, "rehearsal on {} turns of {pchannel}: {said}", rehearsal.turns);
            }
            report.steps.iter().for_each(|line| put_line(&mut out, line));
            out.trim_end().to_owned()
        }
        Err(_) => done.to_string(),
    }
}

/// One step of a swap, in a line.
pub(super) fn put_line(out: &mut String, line: &SwapLine) {
    let short = |digest: &str| digest.get(..12).unwrap_or(digest).to_owned();
    let what = match line.step {
        SwapLineStep::BuiltIn => format!("this program brings component {}", short(&line.to)),
        SwapLineStep::Prepared => format!("component {} passed its checks", short(&line.to)),
        SwapLineStep::Refused => format!("component {} is refused", short(&line.to)),
        SwapLineStep::Begun => format!("swap {} to {} begins", line.swap, short(&line.to)),
        SwapLineStep::Committed => format!("{} follows {}", short(&line.to), short(&line.from)),
        SwapLineStep::Recovers => format!("{} follows {} and recovers from the log", short(&line.to), short(&line.from)),
        SwapLineStep::Stayed => format!("{} stays, {} could not follow", short(&line.from), short(&line.to)),
        SwapLineStep::NotNow => format!("{} stays, nothing was tried", short(&line.from)),
        SwapLineStep::RolledBack => format!("{} is rolled back, {} serves again", short(&line.from), short(&line.to)),
        SwapLineStep::Good => format!("{} is past its probation", short(&line.to)),
        SwapLineStep::Ended => format!("swap {} is over", line.swap),
        SwapLineStep::Opened => format!("{} serves from here on", short(&line.to)),
    };
    let at = format!("{}.{:03}", line.at_ms / 1_000, line.at_ms % 1_000);
    let pchannel = if line.pchannel.is_empty() { String::new() } else { format!("{}: ", line.pchannel) };
    let state = line.state_bytes.map(|bytes| format!(", {bytes} bytes of state")).unwrap_or_default();
    let pause = match (line.pause_us, line.pause_parts_us) {
        (Some(us), Some([snapshot, start, accounts])) => {
            format!(", stood still for {us} µs (snapshot {snapshot}, start {start}, accounts {accounts})")
        }
        _ => String::new(),
    };
    let verdict = if line.verdict.is_empty() { String::new() } else { format!(": {}", line.verdict) };
    // Writing to a string does not fail.
    let _infallible = writeln!(out, "{at}  {pchannel}{what}{state}{pause}{verdict}");
}
