//! Collections: creating and dropping, each recorded first so that a crash in between is finished at the next open.
//!
//! ```text
//! create_collection → Creating ─ CreateCollection in every vchannel's log ─ finish_create → Created
//! begin_drop        → Dropping ─ DropCollection in every vchannel's log   ─ finish_drop   → Dropped ─ last channel dropped → gone
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_message::schema::Schema;

use super::Coordinator;
use super::channel::ChannelCheckpoint;
use super::record::{Changes, Key, Write};
use crate::calls::{CallError, Position};

/// Most shards of one collection, Milvus' `rootCoord.maxShardNum` default.
const SHARDS_MAX: usize = 16;
/// The partition of a collection that names none.
const DEFAULT_PARTITION: &str = "_default";

/// How far a collection's creation or end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CollectionState {
    /// Recorded; its messages may not all be in the log.
    Creating,
    /// Usable.
    Created,
    /// To be dropped; the messages that say so may not all be in the log.
    Dropping,
    /// Its end is in the log of every channel; the name is free. The record goes with its last channel.
    Dropped,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Partition id.
    pub id: i64,
    /// Name, unique in its collection.
    pub name: String,
}

/// One shard of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// `<pchannel>_<collection>v<number>`.
    pub vchannel: String,
    /// Position of its CreateCollection message, once that is in the log.
    pub start: Option<Position>,
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionInfo {
    /// Collection id.
    pub id: i64,
    /// Name, unique among collections that are not dropped.
    pub name: String,
    /// State.
    pub state: CollectionState,
    /// The newest schema.
    pub schema: Schema,
    /// In the order they were named.
    pub partitions: Vec<Partition>,
    /// In shard order.
    pub shards: Vec<Shard>,
}

/// A collection to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCollection {
    /// Schema; its name becomes the collection's.
    pub schema: Schema,
    /// How many vchannels: 1 to 16.
    pub shards: usize,
    /// Names; empty for `_default` alone.
    pub partitions: Vec<String>,
}

impl NewCollection {
    /// Returns how many ids the creation uses: one for the collection and one a partition.
    pub fn id_count(&self) -> u32 {
        u32::try_from(self.partitions.len().max(1)).unwrap_or(u32::MAX).saturating_add(1)
    }
}

/// Returns a vchannel's pchannel: what stands before its last `_`, or all of it if there is none.
pub fn pchannel_of(vchannel: &str) -> &str {
    vchannel.rsplit_once('_').map_or(vchannel, |(pchannel, _)| pchannel)
}

impl Coordinator {
    /// Records a collection that is to be created, with ids from `first_id` on ([`NewCollection::id_count`] of them) and its vchannels spread
    /// over `pchannels`, going on where the last collection ended.
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] with the reason: the name is taken, or the request makes no sense.
    pub fn create_collection(
        &mut self,
        new: &NewCollection,
        first_id: i64,
        pchannels: &[String],
    ) -> Result<(CollectionInfo, Vec<Write>), CallError> {
        let refuse = |reason: String| Err(CallError::Permanent(format!("collection `{}`: {reason}", new.schema.name)));
        if let Some(other) = self.collection_named(&new.schema.name) {
            return refuse(format!("the name is taken by collection {} ({:?})", other.id, other.state));
        }
        if new.schema.name.is_empty() || new.schema.primary().is_none() {
            return refuse("it needs a name and a primary key".to_owned());
        }
        if !(1..=SHARDS_MAX).contains(&new.shards) || pchannels.is_empty() {
            return refuse(format!(
                "{} shards on {} pchannels; 1 to {SHARDS_MAX} on at least one are possible",
                new.shards,
                pchannels.len()
            ));
        }
        let names = if new.partitions.is_empty() { vec![DEFAULT_PARTITION.to_owned()] } else { new.partitions.clone() };
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| name.is_empty() || names[..*i].contains(name)) {
            return refuse(format!("partition name `{}` is empty or occurs twice", twice.1));
        }
        let Some(vchannel_offset) = (first_id > 0).then_some(self.collection_of.len()) else {
            return refuse(format!("{first_id} is no id"));
        };
        let pchannels = pchannels.iter().cycle().skip(vchannel_offset % pchannels.len());
        let info = CollectionInfo {
            id: first_id,
            name: new.schema.name.clone(),
            state: CollectionState::Creating,
            schema: new.schema.clone(),
            partitions: names.into_iter().zip(first_id + 1..).map(|(name, id)| Partition { id, name }).collect(),
            shards: (0..new.shards).zip(pchannels).map(|(i, p)| Shard { vchannel: format!("{p}_{first_id}v{i}"), start: None }).collect(),
        };
        let mut changes = Changes::default();
        self.put_collection(info.clone(), &mut changes);
        Ok((info, changes.into_writes()))
    }

    /// Makes a collection usable once its CreateCollection message is in the log of every vchannel. Repeating it changes nothing.
    ///
    /// # Errors
    ///
    /// [`CallError::NotFound`] for an unknown collection, [`CallError::Permanent`] when a vchannel's position is missing or the collection is being dropped.
    pub fn finish_create(&mut self, collection: i64, starts: &BTreeMap<String, Position>) -> Result<Vec<Write>, CallError> {
        let mut info = self.known(collection)?.clone();
        match info.state {
            CollectionState::Creating => {}
            CollectionState::Created => return Ok(Vec::new()),
            state => return Err(CallError::Permanent(format!("collection {collection} cannot be finished, it is {state:?}"))),
        }
        let mut changes = Changes::default();
        for shard in &mut info.shards {
            let Some(start) = starts.get(&shard.vchannel) else {
                return Err(CallError::Permanent(format!("start position of `{}` is missing", shard.vchannel)));
            };
            shard.start = Some(start.clone());
        }
        for Shard { vchannel, start } in &info.shards {
            if let Some(start) = start {
                self.put_schema(vchannel, start.tick, &info.schema, &mut changes);
            }
        }
        info.state = CollectionState::Created;
        self.put_collection(info, &mut changes);
        Ok(changes.into_writes())
    }

    /// Records that a collection is to be dropped. Repeating it changes nothing.
    ///
    /// # Errors
    ///
    /// [`CallError::NotFound`] for an unknown collection.
    pub fn begin_drop(&mut self, collection: i64) -> Result<(CollectionInfo, Vec<Write>), CallError> {
        self.end(collection, CollectionState::Dropping)
    }

    /// Records that the DropCollection message is in the log of every vchannel: the name is free.
    ///
    /// Repeating it changes nothing, and neither does it for a collection that is unknown by now: its flushers may have dropped the
    /// last channel as soon as they read the message, and ids are not used twice.
    pub fn finish_drop(&mut self, collection: i64) -> ((), Vec<Write>) {
        let writes = self.end(collection, CollectionState::Dropped).map_or_else(|_| Vec::new(), |(_, writes)| writes);
        ((), writes)
    }

    fn end(&mut self, collection: i64, state: CollectionState) -> Result<(CollectionInfo, Vec<Write>), CallError> {
        let info = self.known(collection)?.clone();
        if info.state == CollectionState::Dropped || info.state == state {
            return Ok((info, Vec::new()));
        }
        let info = CollectionInfo { state, ..info };
        let mut changes = Changes::default();
        self.put_collection(info.clone(), &mut changes);
        Ok((info, changes.into_writes()))
    }

    /// Lists what a crash interrupted: collections whose messages may not all be in the log (Creating, Dropping).
    pub fn unfinished(&self) -> impl Iterator<Item = &CollectionInfo> {
        self.collections.values().filter(|c| matches!(c.state, CollectionState::Creating | CollectionState::Dropping))
    }

    /// Lists the collections, ascending by id, in whatever state.
    pub fn collections(&self) -> impl Iterator<Item = &CollectionInfo> {
        self.collections.values()
    }

    /// Returns the collection that holds a name.
    pub fn collection_named(&self, name: &str) -> Option<&CollectionInfo> {
        self.collections.values().find(|c| c.name == name && c.state != CollectionState::Dropped)
    }

    fn known(&self, collection: i64) -> Result<&CollectionInfo, CallError> {
        self.collections.get(&collection).ok_or_else(|| CallError::NotFound(format!("collection {collection}")))
    }

    pub(super) fn put_collection(&mut self, info: CollectionInfo, changes: &mut Changes) {
        changes.put(Key::Collection(info.id), &info);
        self.keep_collection(info);
    }

    pub(super) fn keep_collection(&mut self, info: CollectionInfo) {
        self.collection_of.extend(info.shards.iter().map(|shard| (shard.vchannel.clone(), info.id)));
        self.collections.insert(info.id, info);
    }

    pub(super) fn remove_collection_without_channels(&mut self, collection: i64, changes: &mut Changes) {
        let gone = |shard: &Shard| self.checkpoints.get(&shard.vchannel) == Some(&ChannelCheckpoint::Dropped);
        if !self.collections.get(&collection).is_some_and(|info| info.shards.iter().all(gone)) {
            return;
        }
        self.collections.remove(&collection);
        self.collection_of.retain(|_, of| *of != collection);
        changes.remove(Key::Collection(collection));
    }
}
