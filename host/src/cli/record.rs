//! `tidegate record` and `tidegate replay`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::BadInput;
use super::request::{Progress, Sink, absolute};
use super::screen::Screen;
use crate::engine::{BUILT_IN, Engine};
use crate::node::{Node, RecordOptions};
use crate::replay::{Report, run};
use crate::trace::{BYTES_MAX, Trace, TraceError};

/// Writes the turns of a pchannel, those of its ring and those that follow, to a file: headers and completions, never a row.
///
/// The recording also ends with Ctrl-C where a running node serves the command, when the node stops, and when another component or a new
/// instance takes over: what was recorded until then is kept.
#[derive(Debug, Args, Serialize, Deserialize)]
pub struct Record {
    /// The pchannel; needed where there are several.
    #[arg(long)]
    pchannel: Option<String>,
    /// The file; by default one in DIR/traces.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Ends after so many seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Ends after so many turns, those of the ring included.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    turns: Option<u64>,
    /// Ends at so many bytes.
    #[arg(long, default_value_t = BYTES_MAX)]
    max_bytes: u64,
}

impl Record {
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.out.as_mut().map_or(Ok(()), absolute)
    }

    pub(super) fn run(&self, node: &Node, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let options = RecordOptions {
            pchannel: self.pchannel.clone(),
            out: self.out.clone(),
            time: Duration::from_secs(self.seconds),
            turns: self.turns,
            bytes_max: self.max_bytes,
        };
        let of = self.turns.unwrap_or_default();
        let recorded = node.record(&options, &mut |turns| sink.progress(Progress { what: "turns".to_owned(), done: turns, of }))?;
        serde_json::to_value(recorded).context("a recording is JSON")
    }
}

/// Runs a component over the turns of a trace, its time counted in fuel: the one that was recorded must give the same intents, byte for byte;
/// another one gets a report of what it would have done differently.
#[derive(Debug, Args)]
pub struct Replay {
    /// The trace.
    #[arg(long)]
    trace: PathBuf,
    /// The component; by default the one that this program brings.
    #[arg(long)]
    component: Option<PathBuf>,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let bad = |what: &std::path::Path, e: &dyn std::fmt::Display| BadInput(format!("{}: {e}", what.display()));
        let trace = Trace::read(&self.trace).map_err(|e| match e {
            TraceError::Io(_) | TraceError::Damaged { .. } | TraceError::NoRoom { .. } => bad(&self.trace, &e),
        })?;
        let bytes = match &self.component {
            Some(file) => super::component::read(file)?,
            None => BUILT_IN.to_vec(),
        };
        let named = self.component.clone().unwrap_or_else(|| "the built-in component".into());
        let component = Engine::for_replay()?.load(&bytes, None).map_err(|e| bad(&named, &e))?;
        let same = component.digest == trace.header.component;
        let replayed = run(&component, &trace.header.config, trace.base.as_deref(), &trace.turns);
        let report = Report::new(&trace.turns, &replayed.outputs);
        let identical = report.is_identical() && replayed.ended.is_none() && replayed.outputs.len() == trace.turns.len();
        let done = json!({
            "trace": self.trace, "turns": trace.turns.len(), "recorded_with": trace.header.component, "replayed_with": component.digest,
            "identical": identical, "ended": replayed.ended, "refused": replayed.refused, "fuel": replayed.fuel, "report": report,
        });
        Screen::new(self.json).finish(&done, |_| {
            let (of, recorded) = (&trace.header.pchannel, &trace.header.component);
            let is_same = if same { ", the same" } else { "" };
            let ended = replayed.ended.as_ref().map(|ended| format!("\nended after {} turns: {ended:?}", replayed.outputs.len()));
            let refused = replayed.refused.as_ref().map(|why| format!("\nthe guard would refuse: {why}"));
            format!(
                "{} turns of {of}, recorded with component {recorded}\nreplayed with component {}{is_same}\n{report}{}{}",
                trace.turns.len(),
                component.digest,
                ended.unwrap_or_default(),
                refused.unwrap_or_default()
            )
        })?;
        anyhow::ensure!(!same || identical, "the component gives other intents than when it was recorded: it is not deterministic (DT-1)");
        Ok(())
    }
}
