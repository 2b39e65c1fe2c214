//! How a running node is reached: a Unix socket in its directory for commands, HTTP on loopback for metrics, health and status.
//!
//! A connection to the socket carries one request:
//!
//! ```text
//! → {"command": "ingest", "collection": "digits", …}
//! ← {"progress": {"what": "ingesting", "done": 4096, "of": 9000}}      any number, in any order with
//! ← {"out": {"acknowledged": [0, 4095]}}                               lines that scripts read
//! ← "alive"                                                           each second without another line
//! ← {"done": {"rows": 9000, …}}                                        or {"error": {"message": "…", "code": 2}}; always the last
//! ```

mod client;
mod http;
mod metrics;
mod socket;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use self::client::connect;
pub(crate) use self::http::routes;
pub(crate) use self::socket::Socket;

use crate::cli::Progress;

/// How often a node says that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// How long a node may be silent. Well above [`ALIVE_EVERY`]: its machine may be busy.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Longest request line, in bytes.
const REQUEST_BYTES_MAX: u64 = 1 << 20;
/// Longest path that a socket's address has room for.
const ADDRESS_BYTES_MAX: usize = 107;

/// A line from the node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// The process runs, whatever the request waits for.
    Alive,
    Progress(Progress),
    Out(Value),
    Done(Value),
    Error(Answered),
}

/// The failure that a node answered with.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub(crate) struct Answered {
    /// One sentence.
    pub message: String,
    /// The exit code of the command.
    pub code: u8,
}

/// A socket's address; one that is too long is named through its folder's descriptor, which must stay open meanwhile.
fn address(dir: &Path) -> std::io::Result<(PathBuf, Option<File>)> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    let path = dir.join("admin.sock");
    if path.as_os_str().as_bytes().len() <= ADDRESS_BYTES_MAX {
        return Ok((path, None));
    }
    let folder = File::open(dir)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/admin.sock", folder.as_raw_fd())), Some(folder)))
}

#[cfg(test)]
mod tests;
