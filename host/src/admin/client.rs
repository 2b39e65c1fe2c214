//! The side of a connection that asks.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Line, SILENCE_MAX, address};
use crate::cli::{Request, Sink};

/// A connection to the node that holds a directory.
pub(crate) struct Connection {
    stream: UnixStream,
    dir: PathBuf,
}

/// Connects to the node that serves a directory, if one does.
pub(crate) fn connect(dir: &Path) -> Option<Connection> {
    let (address, _folder) = address(dir).ok()?;
    UnixStream::connect(address).ok().map(|stream| Connection { stream, dir: dir.to_owned() })
}

impl Connection {
    /// Sends a request and returns its result; what comes before it goes to `sink`.
    ///
    /// # Errors
    /// The node's own failure as [`super::Answered`], or the connection's; a node that is silent for [`SILENCE_MAX`] is stopped or hangs.
    pub fn ask(self, request: &Request, sink: &mut dyn Sink) -> anyhow::Result<Value> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.stream.set_read_timeout(Some(SILENCE_MAX)).and_then(|()| self.stream.set_write_timeout(Some(SILENCE_MAX)))?;
        let (mut stream, dir) = (&self.stream, &self.dir);
        stream.write_all(&line).map_err(|error| silent(dir, error)).context("the node cannot be asked")?;
        for line in BufReader::new(stream).lines() {
            let line = line.map_err(|error| silent(dir, error)).context("the node's answer cannot be read")?;
            match serde_json::from_str(&line).with_context(|| format!("the node answers what this version does not know: {line}"))? {
                Line::Alive => {}
                Line::Progress(progress) => sink.progress(progress)?,
                Line::Out(line) => sink.line(line)?,
                Line::Done(done) => return Ok(done),
                Line::Error(answered) => return Err(answered.into()),
            }
        }
        bail!("the node ended the connection before it was done; look at its log, then run the command again")
    }
}

/// Says which process does not answer, and what to do about it.
fn silent(dir: &Path, error: io::Error) -> anyhow::Error {
    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return error.into();
    }
    let pid = std::fs::read_to_string(dir.join("LOCK")).unwrap_or_default();
    anyhow::anyhow!(
        "process {} holds {} and has been silent for {} s: it is stopped (`kill -CONT` lets it go on) or hangs (end it, nothing acknowledged is \
         lost); whether it did what was asked is not known",
        pid.trim(),
        dir.display(),
        SILENCE_MAX.as_secs()
    )
}
