//! The side of a connection that asks.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Line, address};
use crate::cli::{Request, Sink};

/// A connection to the node that holds a directory.
pub(crate) struct Connection(UnixStream);

/// Connects to the node that serves a directory, if one does.
pub(crate) fn connect(dir: &Path) -> Option<Connection> {
    let (address, _folder) = address(dir).ok()?;
    UnixStream::connect(address).ok().map(Connection)
}

impl Connection {
    /// Sends a request and returns its result; what comes before it goes to `sink`.
    ///
    /// # Errors
    /// The node's own failure as [`super::Answered`], or the connection's.
    pub fn ask(mut self, request: &Request, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.0.write_all(&line).context("the node cannot be asked")?;
        for line in BufReader::new(self.0).lines() {
            let line = line.context("the node's answer cannot be read")?;
            match serde_json::from_str(&line).with_context(|| format!("the node answers what this version does not know: {line}"))? {
                Line::Progress(progress) => sink.progress(progress)?,
                Line::Out(line) => sink.line(line)?,
                Line::Done(done) => return Ok(done),
                Line::Error(answered) => return Err(answered.into()),
            }
        }
        bail!("the node ended the connection before it was done; look at its log, then run the command again")
    }
}
