//! The store of segment files: `object_store` on a local folder or a bucket, blocking, durable when `put` returns.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::aws::AmazonS3;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload, path::Path as Key};
use tokio::runtime::{Builder, Runtime};

use super::{Bucket, StorageError};

/// Objects below one folder, or below one prefix of a bucket. Call it from threads of your own: each call waits for its end.
#[derive(Debug)]
pub struct ChunkStore {
    objects: Objects,
}

#[derive(Debug)]
enum Objects {
    /// Outside a runtime, local storage does its work on the calling thread.
    Folder(LocalFileSystem),
    Bucket(Remote),
}

/// A client and what drives its connections.
#[derive(Debug)]
struct Remote {
    objects: PrefixStore<AmazonS3>,
    /// There until it is dropped.
    runtime: Option<Runtime>,
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
        Ok(ChunkStore { objects: Objects::Folder(objects) })
    }

    /// Opens the store in a bucket. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// [`StorageError::Permanent`] when the environment's settings for it make no sense.
    pub fn connect(bucket: &Bucket) -> Result<ChunkStore, StorageError> {
        let objects = bucket.connect()?;
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("storage").enable_all().build();
        let runtime = runtime.map_err(|error| StorageError::permanent(&bucket.to_string(), error))?;
        Ok(ChunkStore { objects: Objects::Bucket(Remote { objects, runtime: Some(runtime) }) })
    }

    /// Stores an object unless there is one of that name; returns whether it was stored. It is durable on return.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn put_new(&self, key: &str, object: Bytes) -> Result<bool, StorageError> {
        let path = parse(key)?;
        match self.wait(self.store().put_opts(&path, PutPayload::from_bytes(object), PutMode::Create.into())) {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(classify(key, error)),
        }
    }

    /// Stores an object, replacing one of that name. It appears whole or not at all, and is durable on return.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn put(&self, key: &str, object: Bytes) -> Result<(), StorageError> {
        let path = parse(key)?;
        self.wait(self.store().put(&path, PutPayload::from_bytes(object))).map_err(|error| classify(key, error))?;
        Ok(())
    }

    /// Returns an object.
    ///
    /// # Errors
    ///
    /// Any [`StorageError`], naming the key.
    pub fn get(&self, key: &str) -> Result<Bytes, StorageError> {
        let path = parse(key)?;
        self.wait(async { self.store().get(&path).await?.bytes().await }).map_err(|error| classify(key, error))
    }

    /// Returns whether there is such an object.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn exists(&self, key: &str) -> Result<bool, StorageError> {
        match self.wait(self.store().head(&parse(key)?)).map_err(|error| classify(key, error)) {
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
        self.wait(self.store().delete(&parse(key)?)).map_err(|error| classify(key, error))
    }

    /// Gives an object a second name, a path outside of the store: a hard link, or a copy where the file system cannot link or the object is
    /// in a bucket. Objects never change, so neither does what the path names.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the key.
    pub fn link(&self, key: &str, to: &Path) -> Result<(), StorageError> {
        let linked = match &self.objects {
            Objects::Folder(folder) => {
                let object = folder.path_to_filesystem(&parse(key)?).map_err(|error| classify(key, error))?;
                let copy = |_| fs::copy(&object, to).and_then(|_| File::open(to)?.sync_all());
                fs::hard_link(&object, to).or_else(copy)
            }
            Objects::Bucket(_) => {
                let object = self.get(key)?;
                File::create_new(to).and_then(|mut file| {
                    file.write_all(&object)?;
                    file.sync_all()
                })
            }
        };
        linked.map_err(|error| StorageError::permanent(key, format!("{}: {error}", to.display())))
    }

    /// Lists keys and sizes in bytes of all objects below a folder, ascending by key; empty for everything.
    ///
    /// # Errors
    ///
    /// [`StorageError::Transient`] or [`StorageError::Permanent`], naming the folder.
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, StorageError> {
        let path = parse(folder)?;
        let objects = self.store().list(Some(&path)).map_ok(|object| (object.location.to_string(), object.size));
        let mut found: Vec<(String, u64)> = self.wait(objects.try_collect()).map_err(|error| classify(folder, error))?;
        found.sort();
        Ok(found)
    }

    fn store(&self) -> &dyn ObjectStore {
        match &self.objects {
            Objects::Folder(folder) => folder,
            Objects::Bucket(remote) => &remote.objects,
        }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let _entered = match &self.objects {
            Objects::Folder(_) => None,
            Objects::Bucket(remote) => remote.runtime.as_ref().map(Runtime::enter),
        };
        block_on(future)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Not waited for: whoever drops the store may be in a runtime, and a request that hangs is nobody's any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Drives a future on this thread. Outside a runtime those of local storage are ready at the first poll; those of a bucket are woken by the
/// runtime that has its connections.
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
    let (key, reason) = (key.to_owned(), with_causes(&error));
    match &error {
        E::NotFound { .. } => StorageError::NotFound { key },
        E::Generic { .. } if !is_hopeless(&error) => StorageError::Transient { key, reason },
        E::JoinError { .. } => StorageError::Transient { key, reason },
        _ => StorageError::Permanent { key, reason },
    }
}

/// An error and its causes in one line; a cause that the line has already is not repeated.
fn with_causes(error: &object_store::Error) -> String {
    let mut line = String::new();
    for cause in causes(error).map(ToString::to_string) {
        let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
        if !line.contains(&cause) {
            let joint = if line.is_empty() { "" } else { ": " };
            line = format!("{line}{joint}{cause}");
        }
    }
    line
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error: &&(dyn Error + 'static)| (*error).source())
}

/// Whether the operating system refused for a reason that does not pass by itself.
fn is_hopeless(error: &object_store::Error) -> bool {
    let mut kinds = causes(error).filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
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
