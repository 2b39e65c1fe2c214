//! `tidegate bench`.

use std::fmt::Display;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::screen::Screen;
use crate::bench::{dispatch, flush, idle, swap};

/// Measures on this machine.
#[derive(Debug, Args)]
pub struct Bench {
    /// Print one JSON object as the last line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure the component alone: a message, a time tick, a turn, a report, a snapshot.
    Dispatch(dispatch::Options),
    /// Measure a node from rows in memory to flushed segments, next to a plain file of the same bytes.
    Flush(flush::Options),
    /// Measure a node that has nothing to do.
    Idle(idle::Options),
    /// Measure the pause of a swap, and what each part of it takes.
    Swap(swap::Options),
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match &self.what {
            What::Dispatch(options) => self.show(&dispatch::run(options)?),
            What::Flush(options) => self.show(&flush::run(options)?),
            What::Idle(options) => self.show(&idle::run(options)?),
            What::Swap(options) => self.show(&swap::run(options)?),
        }
    }

    fn show(&self, report: &(impl Serialize + Display)) -> anyhow::Result<()> {
        Screen::new(self.json).finish(&serde_json::to_value(report)?, |_| report.to_string())
    }
}
