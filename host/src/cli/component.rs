//! `tidegate component inspect` and `tidegate component check`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use tidegate_core::turn::TurnInput;

use super::screen::Screen;
use super::{BadInput, failure};
use crate::engine::{Engine, Inspected, Instance, Interface, Loaded, inspect};
use crate::node::Settings;
use crate::selftest::{self, Passed};

/// Bytes of a component's file: some forty times the built-in one.
const COMPONENT_BYTES_MAX: u64 = 16 << 20;

/// What can be done with a component's file, without a node.
#[derive(Debug, Subcommand)]
pub enum Component {
    /// Show what a component says of itself; it is not compiled.
    Inspect(File),
    /// Judge a component, compile it and try it.
    Check(File),
}

/// A component's file.
#[derive(Debug, Args)]
pub struct File {
    /// The component, a .wasm file.
    file: PathBuf,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

/// A check that a component passed.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    ms: f64,
}

impl Component {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(file) => file.inspect(),
            Self::Check(file) => file.check(),
        }
    }
}

impl File {
    fn inspect(&self) -> anyhow::Result<()> {
        let inspected = inspect(&read(&self.file)?).map_err(|e| self.refused(e))?;
        let verdict = inspected.judge().map_or_else(|e| e.to_string(), |contract| format!("fits contract {contract}"));
        let done = json!({ "file": self.file, "component": inspected, "verdict": verdict });
        Screen::new(self.json).finish(&done, |_| in_words(&inspected, &verdict))
    }

    fn check(&self) -> anyhow::Result<()> {
        let bytes = read(&self.file)?;
        let engine = Engine::new()?;
        let mut checks = Vec::new();
        let inspected = passes(&mut checks, "fits its contract", || {
            let inspected = inspect(&bytes)?;
            inspected.judge().map(|contract| (inspected, contract))
        });
        let (inspected, contract) = inspected.map_err(|e| self.refused(e))?;
        let loaded = passes(&mut checks, "compiles", || engine.load(&bytes, None)).map_err(|e| self.refused(e))?;
        let scenarios = self.run_checks(&loaded, &mut checks)?;
        let done = json!({
            "file": self.file,
            "digest": inspected.digest,
            "bytes": bytes.len(),
            "contract": contract,
            "checks": checks,
            "scenarios": scenarios,
        });
        Screen::new(self.json).finish(&done, |_| {
            let mut out = format!("component {} ({} bytes), contract {contract}", inspected.digest, bytes.len());
            for Check { check, ms } in &checks {
                // Writing to a string does not fail.
                let _infallible = write!(out, "\n  {check}: {ms:.1} ms");
            }
            for passed in &scenarios {
                let _infallible = write!(out, "\n    {passed}");
            }
            out
        })
    }

    /// Runs the component by itself, then through the golden scenarios, which are returned.
    fn run_checks(&self, loaded: &Loaded, checks: &mut Vec<Check>) -> anyhow::Result<Vec<Passed>> {
        let config = Settings::default().guest("check", 1);
        let start = |resume: Option<&[u8]>| loaded.start(&config, resume);
        let mut instance = passes(checks, "starts", || start(None)).map_err(|e| self.refused(e))?;
        let turn = |instance: &mut Instance| instance.turn(&TurnInput { first_ticket: 1, ..TurnInput::default() });
        passes(checks, "ends a turn", || turn(&mut instance)).map_err(|e| self.refused(e))?;
        let snapshot = passes(checks, "gives a snapshot", || instance.snapshot()).map_err(|e| self.refused(e))?;
        let mut successor = passes(checks, "starts from its snapshot", || start(Some(&snapshot))).map_err(|e| self.refused(e))?;
        passes(checks, "goes on from it", || turn(&mut successor)).map_err(|e| self.refused(e))?;
        passes(checks, "passes the self-test", || selftest::run(loaded)).map_err(|e| self.refused(e))
    }

    fn refused(&self, problem: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
        BadInput(format!("{}: {}", self.file.display(), failure::sentence(&problem.into()))).into()
    }
}

/// Notes a check, and how long it took, if it passes.
fn passes<T, E>(checks: &mut Vec<Check>, check: &'static str, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let began = Instant::now();
    let passed = run()?;
    checks.push(Check { check, ms: began.elapsed().as_secs_f64() * 1e3 });
    Ok(passed)
}

fn in_words(inspected: &Inspected, verdict: &str) -> String {
    let Inspected { digest, bytes, contract, imports, exports } = inspected;
    let mut out = format!("component  {digest} ({bytes} bytes)\n");
    out.push_str(&format!("contract   {}\n", contract.as_deref().unwrap_or("none named")));
    for (what, interfaces) in [("imports", imports), ("exports", exports)] {
        for (nth, Interface { name, functions }) in interfaces.iter().enumerate() {
            let what = if nth == 0 { what } else { "" };
            let functions = if functions.is_empty() { String::new() } else { format!(": {}", functions.join(", ")) };
            out.push_str(&format!("{what:<9}  {name}{functions}\n"));
        }
    }
    out + &format!("verdict    {verdict}")
}

/// Reads a component's file.
///
/// # Errors
/// [`BadInput`] when it cannot be read, or is larger than any component.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bad = |e: std::io::Error| BadInput(format!("{}: {e}", file.display()));
    let bytes = fs::metadata(file).map_err(bad)?.len();
    if bytes > COMPONENT_BYTES_MAX {
        return Err(BadInput(format!("{}: {bytes} bytes; a component has at most {COMPONENT_BYTES_MAX}", file.display())).into());
    }
    Ok(fs::read(file).map_err(bad)?)
}
