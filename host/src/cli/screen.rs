//! The output of one command: lines and the result on stdout, progress on stderr when that is a terminal.

use std::io::{Write, stdout};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::{Progress, Sink};

/// Stdout and stderr of this process.
pub(super) struct Screen {
    json: bool,
    bar: Option<ProgressBar>,
}

impl Screen {
    pub fn new(json: bool) -> Self {
        Self { json, bar: None }
    }

    /// Prints the result, last.
    pub fn finish(&mut self, done: &Value, in_words: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let text = if self.json { done.to_string() } else { in_words(done) };
        print(&text)
    }

    /// Prints a line for people.
    pub fn say(&self, line: &str) -> anyhow::Result<()> {
        if self.json { Ok(()) } else { print(line) }
    }
}

impl Sink for Screen {
    fn line(&mut self, line: Value) -> anyhow::Result<()> {
        if self.json { print(&line.to_string()) } else { Ok(()) }
    }

    fn progress(&mut self, progress: Progress) -> anyhow::Result<()> {
        let bar = self.bar.get_or_insert_with(|| {
            // Drawn on a terminal only.
            let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos} of {human_len}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_message(progress.what);
        bar.set_length(progress.of);
        bar.set_position(progress.done);
        Ok(())
    }
}

/// Prints a line at once: a script may wait for it.
fn print(line: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| anyhow::anyhow!("standard output cannot be written: {e}"))
}
