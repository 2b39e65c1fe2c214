//! A folder that comes into being as a whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::NodeError;
use crate::storage::{ChunkStore, StorageError};

/// A folder in the making, beside the one that it becomes. Dropped unfinished, it leaves nothing.
pub(super) struct NewFolder {
    path: PathBuf,
    partial: PathBuf,
}

impl NewFolder {
    /// Begins a folder.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] when there is something in it already, or it cannot be made.
    pub fn begin(path: &Path) -> Result<Self, NodeError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let refuse = |path: &Path, problem: &str| Err(NodeError::Invalid(format!("{} {problem}", path.display())));
        match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return refuse(path, "is not empty; name a new folder"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return refuse(path, &format!("cannot become a folder: {error}")),
        }
        if partial.exists() {
            return refuse(
                &partial,
                "was left by an export that did not end, or is made by one that runs; remove it, or name another folder",
            );
        }
        fs::create_dir_all(&partial).map_err(|error| NodeError::Invalid(format!("{}: {error}", partial.display())))?;
        Ok(Self { path: path.to_owned(), partial })
    }

    /// Adds a stored object under a name.
    pub fn add(&self, chunks: &ChunkStore, key: &str, name: &str) -> Result<(), StorageError> {
        chunks.link(key, &self.place(name)?)
    }

    /// Adds a file.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        let place = self.place(name)?;
        let written = File::create_new(&place).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|error| unusable(&place, &error))
    }

    /// Gives the folder its name, durably.
    pub fn finish(self) -> Result<(), StorageError> {
        sync_folders(&self.partial).map_err(|error| unusable(&self.partial, &error))?;
        fs::rename(&self.partial, &self.path).map_err(|error| unusable(&self.path, &error))?;
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| unusable(parent, &error))
    }

    /// Where a name lies; the folders to it are made.
    fn place(&self, name: &str) -> Result<PathBuf, StorageError> {
        let place = self.partial.join(name);
        match place.parent().map_or(Ok(()), fs::create_dir_all) {
            Ok(()) => Ok(place),
            Err(error) => Err(unusable(&place, &error)),
        }
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // Not there once it has its name.
        let _gone_or_left_behind = fs::remove_dir_all(&self.partial);
    }
}

/// Makes the entries of a folder and of those below it durable.
fn sync_folders(folder: &Path) -> io::Result<()> {
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            }
        }
        File::open(&folder)?.sync_all()?;
    }
    Ok(())
}

fn unusable(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Permanent { key: path.display().to_string(), reason: error.to_string() }
}
