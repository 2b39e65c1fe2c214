//! `tidegate binlog`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::BadInput;
use super::screen::Screen;

/// Shows what is in a segment file.
#[derive(Debug, Args)]
pub struct Binlog {
    /// A file below chunks/: insert log, packed file, delta log or statistics.
    file: PathBuf,
    /// Rows to show.
    #[arg(long, default_value_t = 10)]
    rows: usize,
    /// Print one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

impl Binlog {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let refused = |problem: &dyn std::fmt::Display| BadInput(format!("{}: {problem}", self.file.display()));
        let bytes = std::fs::read(&self.file).map_err(|e| refused(&e))?;
        let description = tidegate_binlog::describe(&bytes, self.rows).map_err(|e| refused(&e))?;
        let done = json!({ "file": self.file, "bytes": bytes.len(), "description": description });
        Screen::new(self.json).finish(&done, |_| description.trim_end().to_owned())
    }
}
