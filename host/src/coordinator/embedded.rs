//! The coordinator of a self-contained node: the rules of [`tidegate_core::coordinator`] over a fjall database.
//!
//! A call is: change the state in memory, commit its writes as one batch whose fsync returns before they are visible, answer. All calls
//! of the rules take turns; ids and ticks have a lock of their own, so an append to the log does not wait for the fsync of a call.
//! A failed commit leaves the memory ahead of the disk: from then on nothing is accepted and nothing is answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tidegate_core::calls::{Call, CallError, Caller, Position, Reply};
use tidegate_core::coordinator::{CollectionInfo, Coordinator, LoadError, NewCollection, Windows, Write};

use super::CoordinatorClient;
use crate::wal::{LogError, TickSource};

/// Bytes of a keyspace's table in memory; the state itself is in memory already, so this only batches writes.
const MEMTABLE_BYTES: u64 = 1 << 20;
/// Bytes of the block cache; blocks are read at open only.
const CACHE_BYTES: u64 = 1 << 20;
/// Bytes of journal on disk before tables are written out; fjall takes no less.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Why the coordinator's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the database open.
    #[error("metadata in {}: another process has it open", dir.display())]
    Held {
        /// The folder.
        dir: PathBuf,
    },
    /// The database does not open or read.
    #[error("metadata in {}: {reason}", dir.display())]
    Database {
        /// The folder.
        dir: PathBuf,
        /// What fjall says.
        reason: fjall::Error,
    },
    /// The database opens, its contents are not ours.
    #[error("metadata in {}: {reason}", dir.display())]
    Load {
        /// The folder.
        dir: PathBuf,
        /// The entry and the reason.
        reason: LoadError,
    },
}

/// A coordinator whose state is one folder.
pub struct EmbeddedCoordinator {
    rules: Mutex<Coordinator>,
    windows: Mutex<Windows>,
    store: Store,
}

struct Store {
    database: Database,
    state: Keyspace,
    windows: Keyspace,
    /// Set once, by the first failed commit.
    failure: OnceLock<String>,
}

impl EmbeddedCoordinator {
    /// Opens the coordinator in `dir`, which is created if needed. The caller holds the node's directory lock.
    ///
    /// # Errors
    ///
    /// The folder cannot be read, or holds what this version does not understand.
    pub fn open(dir: &Path) -> Result<EmbeddedCoordinator, OpenError> {
        let database_error = |reason| match reason {
            fjall::Error::Locked => OpenError::Held { dir: dir.to_owned() },
            reason => OpenError::Database { dir: dir.to_owned(), reason },
        };
        let load_error = |reason| OpenError::Load { dir: dir.to_owned(), reason };
        let store = Store::open(dir).map_err(database_error)?;
        let state = entries(&store.state).map_err(database_error)?;
        let windows = entries(&store.windows).map_err(database_error)?;
        Ok(EmbeddedCoordinator {
            rules: Mutex::new(Coordinator::load(state).map_err(load_error)?),
            windows: Mutex::new(Windows::load(windows).map_err(load_error)?),
            store,
        })
    }

    /// Reads the state, for status and for what a crash left [unfinished](Coordinator::unfinished). Calls wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] after a failed commit.
    pub fn read<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> Result<T, CallError> {
        self.store.lock(&self.rules).map(|rules| look(&rules))
    }

    /// See [`Coordinator::acquire_term`].
    ///
    /// # Errors
    ///
    /// As there, and [`CallError::Permanent`] after a failed commit.
    pub fn acquire_term(&self, pchannel: &str) -> Result<i64, CallError> {
        self.change(|rules| rules.acquire_term(pchannel))
    }

    /// See [`Coordinator::create_collection`]; the ids are allocated here.
    ///
    /// # Errors
    ///
    /// As there, and [`CallError::Permanent`] after a failed commit.
    pub fn create_collection(&self, new: &NewCollection, pchannels: &[String]) -> Result<CollectionInfo, CallError> {
        let first_id = self.alloc_ids(new.id_count())?;
        self.change(|rules| rules.create_collection(new, first_id, pchannels))
    }

    /// See [`Coordinator::finish_create`].
    ///
    /// # Errors
    ///
    /// As there, and [`CallError::Permanent`] after a failed commit.
    pub fn finish_create(&self, collection: i64, starts: &BTreeMap<String, Position>) -> Result<(), CallError> {
        self.change(|rules| rules.finish_create(collection, starts).map(|writes| ((), writes)))
    }

    /// See [`Coordinator::begin_drop`].
    ///
    /// # Errors
    ///
    /// As there, and [`CallError::Permanent`] after a failed commit.
    pub fn begin_drop(&self, collection: i64) -> Result<CollectionInfo, CallError> {
        self.change(|rules| rules.begin_drop(collection))
    }

    /// See [`Coordinator::finish_drop`].
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] after a failed commit.
    pub fn finish_drop(&self, collection: i64) -> Result<(), CallError> {
        self.change(|rules| Ok(rules.finish_drop(collection)))
    }

    /// Allocates `count` consecutive time ticks, at or above the wall clock's and above all earlier ones, and returns the first.
    ///
    /// # Errors
    ///
    /// As [`Windows::alloc_ticks`], and [`CallError::Permanent`] after a failed commit.
    pub fn alloc_ticks(&self, count: u32) -> Result<u64, CallError> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        self.allocate(|windows| windows.alloc_ticks(now_ms, count))
    }

    fn change<T>(&self, step: impl FnOnce(&mut Coordinator) -> Result<(T, Vec<Write>), CallError>) -> Result<T, CallError> {
        let mut rules = self.store.lock(&self.rules)?;
        let (answer, writes) = step(&mut rules)?;
        self.store.commit(&self.store.state, writes)?;
        Ok(answer)
    }

    fn allocate<T>(&self, step: impl FnOnce(&mut Windows) -> Result<(T, Option<Write>), CallError>) -> Result<T, CallError> {
        let mut windows = self.store.lock(&self.windows)?;
        let (first, write) = step(&mut windows)?;
        self.store.commit(&self.store.windows, write)?;
        Ok(first)
    }
}

impl CoordinatorClient for EmbeddedCoordinator {
    fn call(&self, caller: &Caller, call: &Call) -> Result<Reply, CallError> {
        let mut rules = self.store.lock(&self.rules)?;
        let (reply, writes) = rules.call(caller, call);
        self.store.commit(&self.store.state, writes)?;
        reply
    }

    fn alloc_ids(&self, count: u32) -> Result<i64, CallError> {
        self.allocate(|windows| windows.alloc_ids(count))
    }
}

impl TickSource for EmbeddedCoordinator {
    fn next_ticks(&self, count: u32) -> Result<u64, LogError> {
        self.alloc_ticks(count).map_err(|error| LogError::Storage(error.to_string()))
    }

    fn next_ids(&self, count: u32) -> Result<i64, LogError> {
        self.alloc_ids(count).map_err(|error| LogError::Storage(error.to_string()))
    }
}

impl Store {
    fn open(dir: &Path) -> fjall::Result<Store> {
        let database = Database::builder(dir).cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES).worker_threads(1).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let state = database.keyspace("state", options)?;
        let windows = database.keyspace("windows", options)?;
        Ok(Store { database, state, windows, failure: OnceLock::new() })
    }

    /// Locks a part of the state, unless it is ahead of the disk.
    fn lock<'a, T>(&self, part: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, CallError> {
        let guard = part.lock().map_err(|_| self.fail("a thread panicked in the middle of a change".to_owned()))?;
        match self.failure.get() {
            None => Ok(guard),
            Some(failure) => Err(stopped(failure)),
        }
    }

    /// Makes writes durable, all or none; without any it costs nothing.
    fn commit(&self, keyspace: &Keyspace, writes: impl IntoIterator<Item = Write>) -> Result<(), CallError> {
        // Not a buffered commit followed by `persist`: that would be visible before it is durable.
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for Write { key, value } in writes {
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit().map_err(|error| self.fail(format!("a commit failed: {error}")))
    }

    fn fail(&self, failure: String) -> CallError {
        stopped(self.failure.get_or_init(|| failure))
    }
}

fn stopped(failure: &str) -> CallError {
    CallError::Permanent(format!(
        "the coordinator stopped, its memory may be ahead of its disk: {failure}. Check the disk, then restart the node"
    ))
}

fn entries(keyspace: &Keyspace) -> fjall::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    keyspace.iter().map(|entry| entry.into_inner().map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
}

#[cfg(test)]
mod tests {
    use tidegate_core::calls::AllocSegment;
    use tidegate_message::MessageId;
    use tidegate_message::columns::DataType;
    use tidegate_message::schema::{Field, Schema};

    use super::*;

    fn new_collection() -> NewCollection {
        let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
        let schema = Schema { name: "rows".into(), fields: vec![key], enable_dynamic_field: false, version: 0 };
        NewCollection { schema, shards: 1, partitions: vec![] }
    }

    #[test]
    fn everything_answered_is_there_after_a_reopen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |tick| Position { last_confirmed: MessageId::Test(1), tick };
        let (id, tick, segments, term) = {
            let coordinator = EmbeddedCoordinator::open(dir.path()).unwrap();
            let info = coordinator.create_collection(&new_collection(), &["p_0".to_owned()]).unwrap();
            let vchannel = info.shards[0].vchannel.clone();
            coordinator.finish_create(info.id, &BTreeMap::from([(vchannel.clone(), at(5))])).unwrap();
            let caller = Caller { node_id: 1, pchannel: "p_0".into(), term: coordinator.acquire_term("p_0").unwrap() };
            let segment = coordinator.alloc_ids(1).unwrap();
            let alloc = AllocSegment {
                collection: info.id,
                partition: info.partitions[0].id,
                segment,
                vchannel: vchannel.clone(),
                storage_version: 0,
            };
            assert_eq!(coordinator.call(&caller, &Call::AllocSegment(alloc)), Ok(Reply::Done));
            coordinator.call(&caller, &Call::ReportCheckpoints(vec![(vchannel, at(7))])).unwrap();
            let segments = coordinator.read(|state| state.segments(info.id).cloned().collect::<Vec<_>>()).unwrap();
            (segment, coordinator.alloc_ticks(10).unwrap(), segments, caller.term)
        };
        let coordinator = EmbeddedCoordinator::open(dir.path()).unwrap();
        assert_eq!(segments.len(), 1);
        assert_eq!(coordinator.read(|state| state.segments(segments[0].collection).cloned().collect::<Vec<_>>()), Ok(segments));
        assert_eq!(coordinator.read(|state| state.unfinished().count()), Ok(0));
        assert!(coordinator.alloc_ids(1).unwrap() > id);
        assert!(coordinator.alloc_ticks(1).unwrap() >= tick + 10);
        assert_eq!(coordinator.acquire_term("p_0"), Ok(term + 1));
    }

    #[test]
    fn a_folder_that_is_open_already_is_held_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let _open = EmbeddedCoordinator::open(dir.path()).unwrap();
        assert!(matches!(EmbeddedCoordinator::open(dir.path()), Err(OpenError::Held { .. })));
    }

    #[test]
    fn after_a_failed_commit_nothing_is_accepted_and_the_reason_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let coordinator = EmbeddedCoordinator::open(dir.path()).unwrap();
        coordinator.store.fail("the disk is gone".into());
        let caller = Caller { node_id: 1, pchannel: "p_0".into(), term: 1 };
        let refused = coordinator.call(&caller, &Call::VChannels).unwrap_err();
        assert!(refused.to_string().contains("the disk is gone"), "{refused}");
        assert!(coordinator.alloc_ticks(1).is_err() && coordinator.alloc_ids(1).is_err() && coordinator.acquire_term("p_0").is_err());
    }
}
