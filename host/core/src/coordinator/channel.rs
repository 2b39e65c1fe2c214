//! Channels: checkpoints, where a recovery starts, schemas over time, the end of a channel.
//!
//! ```text
//! | stored checkpoint | reported                    | stored afterwards |
//! | none              | any                         | reported          |
//! | tick t            | tick > t                    | reported          |
//! | tick t, id i      | tick = t, id ≠ i            | reported          |
//! | tick t            | tick < t, or the same place | unchanged         |
//! | dropped           | any                         | dropped           |
//! ```

use serde::{Deserialize, Serialize};
use tidegate_message::schema::Schema;

use super::collection::{CollectionInfo, CollectionState, pchannel_of};
use super::record::{Changes, Key};
use super::{Coordinator, is_forward};
use crate::calls::{CallError, Level, Position, RecoveryInfo, Reply, SegmentInfo, SegmentState};
use crate::mutants::{Mutant, is_mutated};
use crate::switches::{Switch, is_on};

/// How far below the channel checkpoint schemas are kept, in ticks: 24 hours, Milvus' retention of schema versions.
const SCHEMA_RETENTION: u64 = (24 * 60 * 60 * 1000) << 18;

/// What is stored as a channel's checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelCheckpoint {
    /// Everything before is durable.
    At(Position),
    /// The channel is gone; never overwritten (Milvus' position without id and with tick 2^64−1).
    Dropped,
}

impl Coordinator {
    /// The channels a flusher recovers. One of a collection that is still being created has nothing to recover until it has a checkpoint.
    pub(super) fn vchannels(&self, pchannel: &str) -> Vec<String> {
        let live = |vchannel: &str, collection: i64| match self.checkpoints.get(vchannel) {
            Some(ChannelCheckpoint::Dropped) => false,
            Some(ChannelCheckpoint::At(_)) => true,
            None => self.collections.get(&collection).is_some_and(|c| c.state != CollectionState::Creating),
        };
        let on_it =
            self.collection_of.iter().filter(|(vchannel, collection)| pchannel_of(vchannel) == pchannel && live(vchannel, **collection));
        on_it.map(|(vchannel, _)| vchannel.clone()).collect()
    }

    /// The collection of a channel that is known and not dropped.
    pub(super) fn live(&self, vchannel: &str) -> Result<&CollectionInfo, CallError> {
        if self.checkpoints.get(vchannel) == Some(&ChannelCheckpoint::Dropped) {
            return Err(CallError::Dropped(format!("vchannel `{vchannel}`")));
        }
        let collection = self.collection_of.get(vchannel).and_then(|id| self.collections.get(id));
        collection.ok_or_else(|| CallError::NotFound(format!("vchannel `{vchannel}`")))
    }

    pub(super) fn recovery_info(&self, vchannel: &str) -> Result<RecoveryInfo, CallError> {
        let collection = self.live(vchannel)?;
        let seek = self.seek_position(vchannel, collection)?;
        let may_be_met = |segment: &&SegmentInfo| match segment.state {
            SegmentState::Growing => true,
            // Every row has a tick at or below the dml position's, and the replay starts at the seek position's.
            SegmentState::Flushed | SegmentState::Dropped => {
                !is_mutated(Mutant::FlushedNotListed)
                    && segment.level == Level::L1
                    && segment.dml.as_ref().is_none_or(|dml| dml.tick >= seek.tick)
            }
        };
        Ok(RecoveryInfo {
            vchannel: vchannel.to_owned(),
            collection: collection.id,
            segments: self.segments_on(vchannel).filter(may_be_met).cloned().collect(),
            schemas: self.schemas_of(vchannel),
            seek: Some(seek),
        })
    }

    /// The stored checkpoint, else the collection's start, else the earliest position of a growing segment.
    ///
    /// Milvus asks the segments before the collection. Without a checkpoint that may start behind rows of a segment that was never
    /// synced, or behind deletes that were in memory (FL-2), so here the segments are asked only when nothing earlier is known.
    fn seek_position(&self, vchannel: &str, collection: &CollectionInfo) -> Result<Position, CallError> {
        if let Some(ChannelCheckpoint::At(position)) = self.checkpoints.get(vchannel) {
            return Ok(position.clone());
        }
        let start = collection.shards.iter().find(|shard| shard.vchannel == vchannel).and_then(|shard| shard.start.clone());
        let growing = self.segments_on(vchannel).filter(|segment| segment.state == SegmentState::Growing);
        let earliest = || growing.filter_map(|s| s.dml.iter().chain(&s.start).min_by_key(|p| p.tick)).min_by_key(|p| p.tick).cloned();
        let asked = if is_mutated(Mutant::SeekFromSegments) { earliest().or(start) } else { start.or_else(earliest) };
        asked.ok_or_else(|| CallError::NotAvailable(format!("vchannel `{vchannel}` has no position yet")))
    }

    pub(super) fn report_checkpoint(
        &mut self,
        vchannel: &str,
        position: &Position,
        changes: &mut Changes,
    ) -> Result<Option<Position>, CallError> {
        self.live(vchannel)?;
        if position.tick == u64::MAX {
            return Err(CallError::Permanent(format!("tick 2^64-1 as the checkpoint of `{vchannel}` means dropped")));
        }
        match self.checkpoints.get(vchannel) {
            Some(ChannelCheckpoint::At(stored)) if !is_forward(stored, position) && !is_on(Switch::CheckpointsMoveBack) => {
                return Ok(Some(stored.clone()));
            }
            _ => {}
        }
        let checkpoint = ChannelCheckpoint::At(position.clone());
        changes.put(Key::Checkpoint(vchannel.to_owned()), &checkpoint);
        self.checkpoints.insert(vchannel.to_owned(), checkpoint);
        self.forget_old_schemas(vchannel, changes);
        Ok(Some(position.clone()))
    }

    pub(super) fn save_schema(&mut self, vchannel: &str, tick: u64, schema: &Schema, changes: &mut Changes) -> Result<Reply, CallError> {
        let collection = self.live(vchannel)?;
        if schema.version > collection.schema.version {
            let newer = CollectionInfo { schema: schema.clone(), ..collection.clone() };
            self.put_collection(newer, changes);
        }
        self.put_schema(vchannel, tick, schema, changes);
        self.forget_old_schemas(vchannel, changes);
        Ok(Reply::Done)
    }

    pub(super) fn put_schema(&mut self, vchannel: &str, tick: u64, schema: &Schema, changes: &mut Changes) {
        let schemas = self.schemas.entry(vchannel.to_owned()).or_default();
        if schemas.get(&tick) != Some(schema) {
            changes.put(Key::Schema(vchannel.to_owned(), tick), schema);
            schemas.insert(tick, schema.clone());
        }
    }

    fn schemas_of(&self, vchannel: &str) -> Vec<(u64, Schema)> {
        let all = self.schemas.get(vchannel);
        let forgotten = all.map_or(0, |s| s.len().saturating_sub(1)) * usize::from(is_mutated(Mutant::SchemasForgotten));
        all.into_iter().flatten().skip(forgotten).map(|(tick, schema)| (*tick, schema.clone())).collect()
    }

    /// Removes the schemas that no row above the retention needs: all below the newest one at or below it.
    fn forget_old_schemas(&mut self, vchannel: &str, changes: &mut Changes) {
        let (Some(ChannelCheckpoint::At(checkpoint)), Some(schemas)) = (self.checkpoints.get(vchannel), self.schemas.get_mut(vchannel))
        else {
            return;
        };
        let oldest_needed = checkpoint.tick.saturating_sub(SCHEMA_RETENTION);
        let Some(keep) = schemas.range(..=oldest_needed).next_back().map(|(tick, _)| *tick) else { return };
        let kept = schemas.split_off(&keep);
        for tick in std::mem::replace(schemas, kept).into_keys() {
            changes.remove(Key::Schema(vchannel.to_owned(), tick));
        }
    }

    /// Ends a channel, known or not: its segments are dropped, its schemas go, its collection goes with its last channel.
    pub(super) fn drop_channel(&mut self, vchannel: &str, changes: &mut Changes) {
        if self.checkpoints.get(vchannel) == Some(&ChannelCheckpoint::Dropped) {
            return;
        }
        let alive: Vec<SegmentInfo> = self.segments_on(vchannel).filter(|s| s.state != SegmentState::Dropped).cloned().collect();
        for segment in alive {
            self.put_segment(SegmentInfo { state: SegmentState::Dropped, ..segment }, changes);
        }
        for tick in self.schemas.remove(vchannel).unwrap_or_default().into_keys() {
            changes.remove(Key::Schema(vchannel.to_owned(), tick));
        }
        changes.put(Key::Checkpoint(vchannel.to_owned()), &ChannelCheckpoint::Dropped);
        self.checkpoints.insert(vchannel.to_owned(), ChannelCheckpoint::Dropped);
        if let Some(&collection) = self.collection_of.get(vchannel) {
            self.remove_collection_without_channels(collection, changes);
        }
    }

    /// Returns the tick of a channel's stored checkpoint; for a dropped channel, the end of time.
    pub fn checkpoint_tick(&self, vchannel: &str) -> Option<u64> {
        self.checkpoints.get(vchannel).map(|checkpoint| match checkpoint {
            ChannelCheckpoint::At(position) => position.tick,
            ChannelCheckpoint::Dropped => u64::MAX,
        })
    }

    /// Lists the stored channel checkpoints, the dropped channels' included, ascending by name.
    pub fn checkpoints(&self) -> impl Iterator<Item = (&str, &ChannelCheckpoint)> {
        self.checkpoints.iter().map(|(vchannel, checkpoint)| (vchannel.as_str(), checkpoint))
    }
}
