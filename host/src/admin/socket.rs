//! The side of a connection that answers: a thread that accepts, and one for each connection.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::ensure;
use serde_json::Value;

use super::{ALIVE_EVERY, Answered, Line, REQUEST_BYTES_MAX, address};
use crate::cli::{Progress, Request, Sink, exit_code, sentence};
use crate::node::Node;

/// The socket of a running node.
pub(crate) struct Socket {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl Socket {
    /// Serves a node, whose directory this process holds: a socket that is there already is a dead process'.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn serve(node: Arc<Node>) -> io::Result<Self> {
        let path = node.dir().join("admin.sock");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (address, _folder) = address(node.dir())?;
        let listener = UnixListener::bind(address)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let acceptor = thread::Builder::new().name("admin".into()).spawn(move || accept(&listener, &node, &stop))?;
        Ok(Self { path, stopping, acceptor })
    }

    /// Accepts no more connections; requests under way end at their next line.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The acceptor looks up when somebody connects.
        if super::connect(self.path.parent().unwrap_or(&self.path)).is_some() && self.acceptor.join().is_err() {
            tracing::error!("the thread that accepts connections panicked");
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket is left behind");
        }
    }
}

fn accept(listener: &UnixListener, node: &Arc<Node>, stopping: &Arc<AtomicBool>) {
    for connection in listener.incoming() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let (node, stopping) = (node.clone(), stopping.clone());
        let served = connection.and_then(|c| thread::Builder::new().name("admin".into()).spawn(move || serve(&c, &node, stopping)));
        if let Err(error) = served {
            tracing::warn!(%error, "a connection was not served");
        }
    }
}

fn serve(connection: &UnixStream, node: &Node, stopping: Arc<AtomicBool>) {
    let writing = &Mutex::new(());
    let mut peer = Peer { connection, writing, stopping };
    let (ended, end) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let alive = move || {
            while end.recv_timeout(ALIVE_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Who does not listen any more is met at the next line of the request itself.
                let _heard = send(connection, writing, &Line::Alive);
            }
        };
        if let Err(error) = thread::Builder::new().name("admin".into()).spawn_scoped(scope, alive) {
            tracing::warn!(%error, "a request is served without signs of life");
        }
        let last = match answer(connection, node, &mut peer) {
            Ok(done) => Line::Done(done),
            Err(error) => Line::Error(Answered { message: sentence(&error), code: exit_code(&error) }),
        };
        drop(ended);
        if let Err(error) = peer.send(&last) {
            tracing::info!(%error, "nobody waited for the end of a request");
        }
    });
}

fn send(mut connection: &UnixStream, writing: &Mutex<()>, line: &Line) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let _whole_lines = writing.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(connection.write_all(&text)?)
}

fn answer(connection: &UnixStream, node: &Node, peer: &mut Peer) -> anyhow::Result<Value> {
    let mut line = String::new();
    BufReader::new(connection.take(REQUEST_BYTES_MAX)).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    tracing::debug!(?request, "serving");
    request.run(node, peer)
}

/// The process at the other end.
struct Peer<'a> {
    connection: &'a UnixStream,
    writing: &'a Mutex<()>,
    stopping: Arc<AtomicBool>,
}

impl Peer<'_> {
    fn send(&mut self, line: &Line) -> anyhow::Result<()> {
        send(self.connection, self.writing, line)
    }

    fn send_on(&mut self, line: &Line) -> anyhow::Result<()> {
        self.send(line)?;
        ensure!(!self.stopping.load(Ordering::Relaxed), "the node is stopping; run the command again when it is back");
        Ok(())
    }
}

impl Sink for Peer<'_> {
    fn line(&mut self, line: Value) -> anyhow::Result<()> {
        self.send_on(&Line::Out(line))
    }

    fn progress(&mut self, progress: Progress) -> anyhow::Result<()> {
        self.send_on(&Line::Progress(progress))
    }
}
