//! Segment files that a crash left between their write and the save of their paths: nobody will ever read them.

use std::collections::BTreeSet;

use super::NodeError;
use crate::coordinator::{CoordinatorClient, EmbeddedCoordinator};
use crate::storage::{ChunkStore, keys};

/// Removes files that no segment of the coordinator names, and returns how many there were. The caller holds the directory and writes
/// nothing yet: no file waits for its save. Files of a collection that the coordinator does not know are left alone and said: whoever lost
/// the coordinator's folder has not lost their rows as well.
///
/// # Errors
/// The coordinator does not answer, or the folders cannot be read.
pub(super) fn remove_orphans(coordinator: &EmbeddedCoordinator, chunks: &ChunkStore) -> Result<usize, NodeError> {
    let (collections, named) = coordinator.read(|c| {
        let collections: BTreeSet<i64> = c.collections().map(|info| info.id).chain(c.every_segment().map(|s| s.collection)).collect();
        let named: BTreeSet<String> = c.every_segment().flat_map(|s| s.files.iter().map(|f| f.path.clone())).collect();
        (collections, named)
    })?;
    // Ids are durable before they are used: a crash's files have ids below the next one. One above it is of a later coordinator than
    // this one, whose folder was put back: what it does not name may be the only copy of rows.
    let next = coordinator.alloc_ids(1)?;
    let log_id = |key: &str| key.rsplit('/').next().and_then(|id| id.parse::<i64>().ok());
    let mut files = Vec::new();
    for folder in keys::FOLDERS {
        files.extend(chunks.list(folder)?.into_iter().map(|(key, _)| key));
    }
    if let Some(newer) = files.iter().find(|key| log_id(key).is_none_or(|id| id >= next)) {
        tracing::error!(
            "{newer} is newer than meta/, or no segment file: no unnamed file is removed; put the meta/ back that belongs to these files"
        );
        return Ok(0);
    }
    let (mut removed, mut foreign) = (0, 0);
    for key in files {
        let collection = key.split('/').nth(1).and_then(|id| id.parse().ok());
        if !collection.is_some_and(|id| collections.contains(&id)) {
            foreign += 1;
        } else if !named.contains(&key) {
            chunks.remove(&key)?;
            removed += 1;
        }
    }
    if removed > 0 {
        tracing::info!("{removed} segment files were removed that a crash had left before they were saved");
    }
    if foreign > 0 {
        tracing::warn!("{foreign} segment files are of collections that the coordinator does not know; they are left alone");
    }
    Ok(removed)
}
