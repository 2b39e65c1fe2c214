//! The store of segment files: `object_store` on a local folder, blocking, durable when `put` returns.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload, path::Path as Key};

use super::StorageError;

/// Objects below one folder. Call it from threads of your own: outside a runtime, local storage does its work on the calling thread.
#[derive(Debug)]
pub struct ChunkStore {
    objects: LocalFileSystem,
}

impl ChunkStore {
    /// Opens the store in `dir`, which is created if needed, and removes what a crash left of unfinished writes.
    /// The caller holds the node's directory lock, so nobody else is writing.
    ///
    /// # Errors
    ///
    /// [`StorageError::Permanent`] when the folder cannot be read or written.
    pub fn open(dir: &Path) -> Result<ChunkStore, StorageError> {
        let name = dir.display().to_string();
        let unusable = |error: io::Error| StorageError::permanent(&name, error);
        fs::create_dir_all(dir).map_err(unusable)?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(unusable)?;
        }
        remove_orphans(dir).map_err(unusable)?;
        // Off by default; with it a put syncs the file, its folder and every folder that it makes.
        let objects = LocalFileSystem::new_with_prefix(dir).map_err(|error| StorageError::permanent(&name, error))?.with_fsync(true);
        Ok(ChunkStore { objects })
    }

    /// Stores an object, replacing one of that name. It appears whole or not at all, and is durable on return.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        let path = parse(key)?;
        block_on(self.objects.put(&path, PutPayload::from_bytes(object))).map_err(|error| classify(key, error))?;
        Ok(())
    }

    /// Returns an object.
    ///
    /// # Errors
    ///
    /// Any [`StorageError`], naming the key.
    pub fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        let path = parse(key)?;
        block_on(async { self.objects.get(&path).await?.bytes().await }).map_err(|error| classify(key, error))
    }

    /// Returns whether there is such an object.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn exists(&self, key: &str) -> Result<bool, StorageError> {
        match block_on(self.objects.head(&parse(key)?)).map_err(|error| classify(key, error)) {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    ///
    /// Any [`StorageError`], naming the key.
    pub fn remove(&self, key: &str) -> Result<(), StorageError> {
        block_on(self.objects.delete(&parse(key)?)).map_err(|error| classify(key, error))
    }

    /// Gives an object a second name, a path outside of the store: a hard link, or a copy where the file system cannot link. Objects never
    /// change, so neither does what the path names.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn link(&self, key: &str, to: &Path) -> Result<(), StorageError> {
        let object = self.objects.path_to_filesystem(&parse(key)?).map_err(|error| classify(key, error))?;
        let copy = |_| fs::copy(&object, to).and_then(|_| File::open(to)?.sync_all());
        fs::hard_link(&object, to).or_else(copy).map_err(|error| StorageError::permanent(key, format!("{}: {error}", to.display())))
    }

    /// Lists keys and sizes in bytes of all objects below a folder, ascending by key; empty for everything.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the folder.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let path = parse(folder)?;
        let objects = self.objects.list(Some(&path)).map_ok(|object| (object.location.to_string(), object.size));
        let mut found: Vec<(String, u64)> = block_on(objects.try_collect()).map_err(|error| classify(folder, error))?;
        found.sort();
        Ok(found)
    }
}

/// Drives a future on this thread. Outside a runtime those of local storage are ready at the first poll.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn parse(key: &str) -> Result<Key, StorageError> {
    Key::parse(key).map_err(|error| StorageError::permanent(key, error))
}

fn classify(key: &str, error: object_store::Error) -> StorageError {
    use object_store::Error as E;
    let (key, reason) = (key.to_owned(), error.to_string());
    match &error {
        E::NotFound { .. } => StorageError::NotFound { key },
        E::Generic { .. } if !is_hopeless(&error) => StorageError::Transient { key, reason },
        E::JoinError { .. } => StorageError::Transient { key, reason },
        _ => StorageError::Permanent { key, reason },
    }
}

/// Whether the operating system refused for a reason that does not pass by itself.
fn is_hopeless(error: &object_store::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn Error + 'static)), |error: &&(dyn Error + 'static)| (*error).source());
    let mut kinds = causes.filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    kinds.any(|kind| {
        matches!(kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
    })
}

/// Removes `name#N`, the temporary names of the local store, which its listings hide.
fn remove_orphans(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_orphans(&entry.path())?;
        } else if is_temporary(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_temporary(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_listed_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(&dir.path().join("chunks")).unwrap();
        store.put("insert_log/1/2/3/100/5", Bytes::from_static(b"one")).unwrap();
        store.put("insert_log/1/2/3/0/4", Bytes::from_static(b"three")).unwrap();
        store.put("insert_log/1/2/3/0/4", Bytes::from_static(b"two")).unwrap();
        store.put("delta_log/1/-1/3/6", Bytes::new()).unwrap();
        assert_eq!(store.get("insert_log/1/2/3/0/4").unwrap(), "two");
        assert_eq!(store.list("insert_log").unwrap(), [("insert_log/1/2/3/0/4".to_owned(), 3), ("insert_log/1/2/3/100/5".to_owned(), 3)]);
        assert_eq!(store.list("").unwrap().len(), 3);
        assert!(store.exists("delta_log/1/-1/3/6").unwrap() && !store.exists("delta_log/1/-1/3/7").unwrap());
    }

    #[test]
    fn errors_name_the_key_and_say_whether_trying_again_helps() {
        let dir = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(dir.path()).unwrap();
        assert_eq!(store.get("insert_log/9"), Err(StorageError::NotFound { key: "insert_log/9".into() }));
        assert!(matches!(store.put("insert_log//9", Bytes::new()), Err(StorageError::Permanent { key, .. }) if key == "insert_log//9"));
        store.put("insert_log/9", Bytes::new()).unwrap();
        assert!(matches!(store.put("insert_log/9/1", Bytes::new()), Err(StorageError::Permanent { .. })));
    }

    #[test]
    fn what_a_crash_left_is_removed_at_open_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("insert_log/1/2/3/100");
        fs::create_dir_all(&folder).unwrap();
        for name in ["5", "5#1", "6#12", "#", "7#x"] {
            fs::write(folder.join(name), "x").unwrap();
        }
        ChunkStore::open(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["#", "5", "7#x"]);
    }

    #[test]
    fn it_also_works_inside_a_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let store = ChunkStore::open(dir.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { store.put("a/1", Bytes::from_static(b"x")).unwrap() });
        assert_eq!(store.get("a/1").unwrap(), "x");
    }
}
