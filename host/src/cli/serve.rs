//! `tidegate node`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::screen::Screen;
use super::{HELD_POLL, Sink, settings};
use crate::admin::{Socket, routes};
use crate::node::Node;

/// How long requests under way may take to end when the node stops; the flushers end meanwhile.
const REQUESTS_END: Duration = Duration::from_millis(1_000);

/// Runs a node.
#[derive(Debug, Args)]
#[command(after_long_help = SETTINGS)]
pub struct Serve {
    /// Directory of the node; made if it is not there.
    #[arg(long)]
    dir: PathBuf,
    /// Serve /metrics, /healthz and /status here, for example 127.0.0.1:9091; loopback only, off by default.
    #[arg(long, value_parser = loopback)]
    http: Option<SocketAddr>,
    /// Print {"ready": …} once the node serves, and one JSON object as the last line.
    #[arg(long)]
    json: bool,
}

const SETTINGS: &str = "\
Settings: DIR/tidegate.toml, overridden by TIDEGATE_<KEY> in the environment.
  pchannels            physical channels, each with a log and a flusher (2)
  budget_bytes         bytes that messages may hold between log and files (256 MiB)
  insert_buffer_bytes  bytes at which a segment's rows are synced (16 MiB)
  delete_buffer_bytes  bytes at which a partition's deletes are synced (16 MiB)
  sync_period_s        seconds that a batch spans at most (600)
  report_period_s      seconds between two reports of a channel's checkpoint (60)
  reports_max          checkpoints reported in a turn (128)
  idle_tick_ms         milliseconds within which idle ticks are passed over (1000)
  page_max             messages a page (256)
  segment_bytes        bytes at which a segment is complete (128 MiB)
  message_bytes        bytes of one insert message (2 MiB)
  storage              where segment files are, s3://bucket/prefix; a directory keeps it (its folder chunks)
  storage_endpoint     URL of an object store that is not Amazon's; keys, region and token as AWS_* in the environment
  writers              threads that write segment files, a pchannel (1)
  probation_turns      turns that a new component is on probation at least (1000)
  probation_s          seconds of event time that it is on probation at least (60)
  probation_lag_s      by how much the largest checkpoint lag may grow meanwhile (1800)
  http                 as --http";

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|e| format!("{e}; an address and a port, such as 127.0.0.1:9091"))?;
    if address.ip().is_loopback() { Ok(address) } else { Err("loopback only, such as 127.0.0.1:9091".to_owned()) }
}

impl Serve {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let mut settings = settings(&self.dir)?;
        settings.http = self.http.or(settings.http);
        let node = Arc::new(Node::open(&self.dir, settings, true)?);
        let socket = Socket::serve(node.clone()).with_context(|| format!("the socket in {} cannot be made", node.dir().display()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut screen = Screen::new(self.json);
        let served = runtime.block_on(serve(&node, &mut screen));
        tracing::info!("stopping");
        let began = Instant::now();
        node.stop();
        socket.stop();
        runtime.shutdown_timeout(REQUESTS_END);
        end(node, began);
        served?;
        screen.finish(&json!({ "stopped": true }), |_| "stopped".to_owned())
    }
}

/// Serves HTTP, if it is asked for, until a signal comes.
async fn serve(node: &Arc<Node>, screen: &mut Screen) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = match node.settings().http {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("http = {address}"))?),
        None => None,
    };
    let http = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    screen.line(json!({ "ready": { "dir": node.dir(), "http": http } }))?;
    screen.say(&format!("serving {}{}", node.dir().display(), http.map(|a| format!(", http://{a}/metrics")).unwrap_or_default()))?;
    let web = async {
        match listener {
            Some(listener) => axum::serve(listener, routes(node.clone())).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = web => ended.context("http"),
    }
}

/// Ends the node once nothing uses it. A request that does not end in time is cut off with the process, which loses nothing: what was
/// acknowledged is in the log.
fn end(mut node: Arc<Node>, began: Instant) {
    loop {
        match Arc::try_unwrap(node) {
            Ok(node) => return node.shutdown(),
            Err(_) if began.elapsed() > REQUESTS_END => return tracing::warn!("a request under way is cut off"),
            Err(used) => node = used,
        }
        thread::sleep(HELD_POLL);
    }
}
