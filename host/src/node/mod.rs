//! A self-contained node: one directory with its logs, its coordinator and its segment files, and a flusher for each pchannel.
//!
//! ```text
//! DIR/tidegate.toml    settings
//! DIR/LOCK             held by the process that owns the directory
//! DIR/wal/  meta/      logs; coordinator
//! DIR/chunks/          segment files, by Milvus' keys, unless they are in a bucket
//! DIR/STORAGE          which bucket that is
//! DIR/components/      components that served or serve, compiled, and the log of swaps
//! DIR/traces/          recorded turns
//! DIR/dead_letters/    messages that cannot be flushed, one file a pchannel
//! ```

mod binding;
mod dead_letters;
mod deletes;
mod directory;
mod driver;
mod export;
mod folder;
mod guest;
mod orphans;
mod pieces;
mod place;
mod quarantine;
mod read;
mod record;
mod scan;
#[cfg(test)]
mod scripted;
mod settings;
mod shard;
mod swaps;
mod syncs;
#[cfg(test)]
mod tests;
mod wait;
mod workers;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tidegate_core::calls::{CallError, SegmentInfo};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::Status;

pub use self::dead_letters::Again;
pub use self::export::{Exported, ExportedPartition};
pub use self::place::{KEY_PARTITIONS, key_partitions};
pub use self::quarantine::{Quarantined, Retried};
pub use self::record::{RecordOptions, Recorded};
#[cfg(test)]
pub(crate) use self::scripted::eventually;
pub use self::settings::Settings;
pub use self::swaps::{Line as SwapLine, Rehearsed, Step as SwapLineStep, SwapOptions, SwapReport, Wanted};
pub use self::syncs::{Durations, Syncs};
pub use self::write::FlushProgress;

use self::binding::open_chunks;
use self::dead_letters::DeadLetters;
use self::directory::Directory;
use self::driver::Driver;
use self::orphans::remove_orphans;
use self::swaps::Swaps;
use self::write::Assignments;
use crate::coordinator::{EmbeddedCoordinator, OpenError};
use crate::engine::{BUILT_IN, Engine, EngineError, hex_digest};
use crate::storage::{ChunkStore, StorageError};
use crate::wal::embedded::{EmbeddedLog, EmbeddedLogs, LogLimits};
use crate::wal::{Log, LogError};

/// The id of the one node of a directory.
pub const NODE_ID: i64 = 1;

/// Why a node does not do what was asked; each says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Another process owns the directory.
    #[error("{} is held by another process{}; stop it, or let it serve the command through its socket", dir.display(), pid.map(|p| format!(" ({p})")).unwrap_or_default())]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it.
        pid: Option<u32>,
    },
    /// The directory is something else's.
    #[error("{} is not a node's directory: {reason}; name another one", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such directory.
    #[error("{} does not exist; `tidegate collection create --dir {}` makes it", dir.display(), dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
    },
    /// No collection of that name.
    #[error("there is no collection {name:?}; there are {known:?}")]
    UnknownCollection {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No partition of that name.
    #[error("collection {collection:?} has no partition {name:?}; it has {known:?}, name one with --partition")]
    UnknownPartition {
        /// The collection.
        collection: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The request makes no sense as it is.
    #[error("{0}")]
    Invalid(String),
    /// Rows or deletes that no flushed segment has.
    #[error("collection {collection:?} is not flushed: {what}; run `tidegate flush --dir {} --collection {collection}` first", dir.display())]
    Unflushed {
        /// The collection.
        collection: String,
        /// What is not flushed.
        what: String,
        /// The node's directory.
        dir: PathBuf,
    },
    /// A channel cannot go on by itself.
    #[error("channel {channel} cannot go on: {why}")]
    Stuck {
        /// The channel.
        channel: String,
        /// What holds it, and what to do.
        why: String,
    },
    /// The log refused.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// The coordinator refused.
    #[error("coordinator: {0}")]
    Call(#[from] CallError),
    /// The storage refused.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// The component cannot be used.
    #[error("component: {0}")]
    Engine(#[from] EngineError),
    /// A component was not taken over.
    #[error("{0}")]
    Swap(String),
    /// Turns were not recorded.
    #[error("{0}")]
    Trace(String),
    /// The node could not be set up.
    #[error("{0}")]
    Setup(String),
}

/// The state of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its directory.
    pub dir: PathBuf,
    /// SHA-256 of the component that the program brings.
    pub component_digest: String,
    /// Bytes of that component.
    pub component_bytes: usize,
    /// The last steps of swaps.
    #[serde(default)]
    pub swaps: Vec<SwapLine>,
    /// Bytes that the messages of all pchannels may hold.
    pub budget_bytes: usize,
    /// The kind of its logs, as Milvus names it.
    #[serde(default)]
    pub wal_name: String,
    /// What its workers did for syncs.
    #[serde(default)]
    pub syncs: Syncs,
    /// Its pchannels.
    pub pchannels: Vec<Status>,
}

/// Why a channel's checkpoint is where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The channel.
    pub vchannel: String,
    /// What holds it, by the host's own account.
    pub pin: String,
    /// The component's reason.
    pub component: String,
}

/// A running node.
pub struct Node {
    settings: Settings,
    // Ended in this order: flushers before what they use, the directory's lock last.
    drivers: Vec<Driver>,
    swaps: Swaps,
    assignments: Assignments,
    logs: BTreeMap<String, Arc<EmbeddedLog>>,
    /// By pchannel.
    letters: BTreeMap<String, DeadLetters>,
    /// Held while dead letters are appended again.
    retries: Mutex<()>,
    coordinator: Arc<EmbeddedCoordinator>,
    chunks: Arc<ChunkStore>,
    directory: Directory,
}

impl Node {
    /// Opens a node's directory, finishes what a crash left unfinished, and starts its flushers. `create` makes the directory if it is
    /// not there.
    ///
    /// # Errors
    /// Says what is wrong with the directory; nothing was written unless it is a node's.
    pub fn open(dir: &Path, settings: Settings, create: bool) -> Result<Node, NodeError> {
        let directory = Directory::lock(dir, create)?;
        let swaps = Swaps::open(Engine::new()?, &dir.join("components"))?;
        let setup = |e: &dyn std::fmt::Display| NodeError::Setup(format!("{}: {e}", dir.display()));
        let coordinator = EmbeddedCoordinator::open(&dir.join("meta")).map_err(|e| match e {
            // Its LOCK was removed, and it runs all the same.
            OpenError::Held { .. } => NodeError::Held { dir: dir.to_owned(), pid: None },
            e => setup(&e),
        });
        let coordinator = Arc::new(coordinator?);
        let bucket = settings.bucket().map_err(NodeError::Invalid)?;
        let chunks = Arc::new(open_chunks(dir, bucket.as_ref())?);
        remove_orphans(&coordinator, &chunks)?;
        let stores = EmbeddedLogs::open(&dir.join("wal"), LogLimits::default())?;
        let mut logs = BTreeMap::new();
        for name in settings.pchannel_names() {
            let term = coordinator.acquire_term(&name)?;
            logs.insert(name.clone(), stores.open_pchannel(&name, term, coordinator.clone())?);
        }
        let assignments = Assignments::load(&logs)?;
        let letters = logs.keys().map(|name| Ok((name.clone(), directory.dead_letters(name)?)));
        let letters = letters.collect::<Result<_, NodeError>>()?;
        let (drivers, retries) = (Vec::new(), Mutex::new(()));
        let mut node = Node { settings, swaps, drivers, assignments, logs, letters, retries, coordinator, chunks, directory };
        node.finish_ddl()?;
        for (name, letters) in &node.letters {
            let log = node.log_named(name)?;
            let peers = workers::Peers {
                log: log.clone(),
                coordinator: node.coordinator.clone(),
                chunks: node.chunks.clone(),
                filter: node.settings.bloom_filter,
                delta_form: node.settings.delta_log,
            };
            let components = node.swaps.components(name)?;
            node.drivers.push(Driver::start(peers, letters.clone(), components, &node.settings).map_err(|e| setup(&e))?);
        }
        Ok(node)
    }

    /// Returns its directory.
    pub fn dir(&self) -> &Path {
        self.directory.path()
    }

    /// Returns its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns its segment files.
    pub fn chunks(&self) -> &ChunkStore {
        &self.chunks
    }

    /// Returns a collection by name.
    ///
    /// # Errors
    /// [`NodeError::UnknownCollection`] with the names there are.
    pub fn collection(&self, name: &str) -> Result<CollectionInfo, NodeError> {
        let found = self.coordinator.read(|c| c.collection_named(name).cloned())?;
        match found {
            Some(found) => Ok(found),
            None => {
                let known = self.collections()?.into_iter().map(|c| c.name).collect();
                Err(NodeError::UnknownCollection { name: name.to_owned(), known })
            }
        }
    }

    /// Lists the collections.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn collections(&self) -> Result<Vec<CollectionInfo>, NodeError> {
        Ok(self.coordinator.read(|c| c.collections().cloned().collect())?)
    }

    /// Lists the segments of a collection, or of all.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn segments(&self, collection: Option<i64>) -> Result<Vec<SegmentInfo>, NodeError> {
        let of = match collection {
            Some(id) => vec![id],
            None => self.collections()?.iter().map(|c| c.id).collect(),
        };
        Ok(self.coordinator.read(|c| of.iter().flat_map(|&id| c.segments(id)).cloned().collect())?)
    }

    /// Returns the state of every pchannel.
    pub fn status(&self) -> NodeStatus {
        let mut syncs = Syncs::default();
        self.drivers.iter().for_each(|d| syncs.add(&d.syncs()));
        NodeStatus {
            wal_name: self.logs.values().next().map(|log| log.wal().to_string()).unwrap_or_default(),
            syncs,
            dir: self.dir().to_owned(),
            component_digest: hex_digest(BUILT_IN),
            component_bytes: BUILT_IN.len(),
            swaps: self.swaps.recent(),
            budget_bytes: self.settings.budget_bytes,
            pchannels: self.drivers.iter().map(Driver::status).collect(),
        }
    }

    /// Says why a channel's checkpoint is where it is: the host's account, which also answers when the component is dead, and the
    /// component's reason.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] when no pchannel serves the channel.
    pub fn explain(&self, vchannel: &str) -> Result<Explanation, NodeError> {
        let known = self.drivers.iter().find_map(|d| d.explain(vchannel));
        known
            .ok_or_else(|| NodeError::Invalid(format!("no pchannel of this node knows channel {vchannel:?}; `tidegate status` lists them")))
    }

    /// Whether every delivered row has ended (LD-1).
    pub fn ledger_closed(&self) -> bool {
        self.status().pchannels.iter().flat_map(|p| &p.channels).all(|c| c.ledger.is_closed())
    }

    /// Tells the flushers to stop, and does not wait for it: those that wait for a flush get an error.
    pub fn stop(&self) {
        self.drivers.iter().for_each(Driver::stop);
    }

    /// Stops the flushers and waits for their end, which comes within 3 s; what was not flushed is read from the log again.
    pub fn shutdown(self) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        // All at once: each is waited for when it is dropped.
        self.stop();
    }
}
