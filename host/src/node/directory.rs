//! A node's directory: who holds it, and whether it is one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::NodeError;
use super::dead_letters::DeadLetters;

/// What a new directory's settings file says.
const SETTINGS_FILE: &str = "# Settings of this node; what is not here has its default. `tidegate node --help` lists the keys.\n";

/// A directory that this process holds.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub fn lock(path: &Path, create: bool) -> Result<Self, NodeError> {
        let io = |e: std::io::Error| NodeError::Setup(format!("{}: {e}", path.display()));
        let foreign = |reason: &str| NodeError::Foreign { dir: path.to_owned(), reason: reason.to_owned() };
        let settings = path.join("tidegate.toml");
        if !settings.is_file() {
            if path.exists() && !path.is_dir() {
                return Err(foreign("it is a file"));
            }
            if path.is_dir() {
                let mut entries = fs::read_dir(path).map_err(io)?;
                // A crash may have left the lock alone.
                if entries.any(|e| e.is_ok_and(|e| e.file_name() != "LOCK")) {
                    return Err(foreign("it holds other files and no tidegate.toml"));
                }
            }
            if !create {
                return Err(NodeError::Missing { dir: path.to_owned() });
            }
            fs::create_dir_all(path).map_err(io)?;
        }
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path.join("LOCK")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unreadable_is_unnamed = lock.read_to_string(&mut holder);
                return Err(NodeError::Held { dir: path.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(e)) => return Err(io(e)),
        }
        lock.set_len(0).map_err(io)?;
        lock.write_all(std::process::id().to_string().as_bytes()).map_err(io)?;
        if !settings.is_file() {
            fs::write(&settings, SETTINGS_FILE).map_err(io)?;
        }
        for folder in ["wal", "meta", "chunks", "components", "traces", "dead_letters"] {
            fs::create_dir_all(path.join(folder)).map_err(io)?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn dead_letters(&self, pchannel: &str) -> Result<DeadLetters, NodeError> {
        let file = self.path.join("dead_letters").join(format!("{pchannel}.jsonl"));
        DeadLetters::open(&file).map_err(|e| NodeError::Setup(format!("{}: {e}", file.display())))
    }
}
