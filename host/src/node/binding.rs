//! Which storage a directory's segment files are in. It is chosen once: files elsewhere would not be found again, and two directories give
//! out the same ids, so that in one bucket each would write over the other's files.
//!
//! ```text
//! DIR/STORAGE                 {"bucket": "s3://files/mine", "id": "…", "claimed": true}; missing: files are in DIR/chunks
//! s3://files/mine/tidegate.owner   {"id": "…"}, written once, only if it is not there
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NodeError;
use crate::storage::{Bucket, ChunkStore, StorageError, keys};

/// The file that says where segment files are.
const FILE: &str = "STORAGE";
/// The object that says whose a bucket is.
const OWNER: &str = "tidegate.owner";

/// What a directory knows of its bucket.
#[derive(Serialize, Deserialize)]
struct Binding {
    /// Without the endpoint: a store may move.
    bucket: String,
    /// The directory's own name, of chance.
    id: String,
    /// The bucket is known to say so too.
    claimed: bool,
}

/// What a bucket knows of its directory.
#[derive(Serialize, Deserialize)]
struct Owner {
    id: String,
}

/// Opens the storage of a directory's segment files; a bucket is claimed the first time. The caller holds the directory.
///
/// # Errors
/// [`NodeError::Invalid`]: the settings name another storage than the one that has the files, or a bucket that is somebody else's.
/// [`NodeError::Storage`]: the storage cannot be asked.
pub(super) fn open_chunks(dir: &Path, bucket: Option<&Bucket>) -> Result<ChunkStore, NodeError> {
    let io = |e: io::Error| NodeError::Setup(format!("{}: {e}", dir.join(FILE).display()));
    let bound = match fs::read(dir.join(FILE)) {
        Ok(text) => Some(serde_json::from_slice::<Binding>(&text).map_err(|e| io(e.into()))?),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(io(error)),
    };
    let invalid = |reason: String| Err(NodeError::Invalid(format!("{}: {reason}", dir.display())));
    let Some(bucket) = bucket else {
        return match bound {
            None => Ok(ChunkStore::open(&dir.join("chunks"))?),
            Some(b) => invalid(format!("its segment files are in {0}; say storage = \"{0}\" in its tidegate.toml", b.bucket)),
        };
    };
    let mut bound = match bound {
        Some(b) if b.bucket == bucket.url() => b,
        Some(b) => {
            return invalid(format!("its segment files are in {}, not in {}; a directory keeps its storage", b.bucket, bucket.url()));
        }
        None if has_files(&dir.join("chunks")).map_err(io)? => {
            return invalid(format!("its segment files are in its folder chunks, not in {bucket}; a directory keeps its storage"));
        }
        None => {
            let bound = Binding { bucket: bucket.url(), id: chance().map_err(io)?, claimed: false };
            save(dir, &bound).map_err(io)?;
            bound
        }
    };
    let chunks = ChunkStore::connect(bucket)?;
    match owner(&chunks)? {
        Some(owner) if owner.id == bound.id => {}
        Some(_) => return invalid(format!("{bucket} belongs to the node of another directory; name another prefix")),
        None if bound.claimed => {
            return invalid(format!("{bucket} has lost its {OWNER}, or is not the store that has this node's segment files"));
        }
        None => {
            for folder in keys::FOLDERS {
                if let Some((key, _)) = chunks.list(folder)?.first() {
                    return invalid(format!("{bucket} has segment files of somebody else, such as {key}; name another prefix"));
                }
            }
            let owner = serde_json::to_vec(&Owner { id: bound.id.clone() }).map_err(|e| io(e.into()))?;
            // Refused, it may still be our own: an answer that was lost, and a second try.
            if !chunks.put_new(OWNER, Bytes::from(owner))? && self::owner(&chunks)?.is_none_or(|o| o.id != bound.id) {
                return invalid(format!("{bucket} belongs to the node of another directory; name another prefix"));
            }
        }
    }
    if !bound.claimed {
        bound.claimed = true;
        save(dir, &bound).map_err(io)?;
    }
    Ok(chunks)
}

fn owner(chunks: &ChunkStore) -> Result<Option<Owner>, NodeError> {
    let text = match chunks.get(OWNER) {
        Ok(text) => text,
        Err(StorageError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let owner = serde_json::from_slice(&text);
    owner.map(Some).map_err(|e| StorageError::Permanent { key: OWNER.to_owned(), reason: e.to_string() }.into())
}

/// Writes the file as a whole, durably.
fn save(dir: &Path, binding: &Binding) -> io::Result<()> {
    let partial = dir.join(format!("{FILE}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(&serde_json::to_vec(binding)?)?;
    file.sync_all()?;
    fs::rename(&partial, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

fn chance() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Whether there is a file anywhere below a folder.
fn has_files(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || has_files(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}
