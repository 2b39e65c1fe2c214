//! The scripted log: collections of one key field, segments, rows and deletes, as messages of a proxy and a streaming node.

use std::collections::BTreeMap;
use std::ops::Range;

use tidegate_core::calls::{CallError, Position};
use tidegate_core::coordinator::{CollectionInfo, NewCollection};
use tidegate_message::build::{self, InsertAssignment};
use tidegate_message::columns::{Columns, DataType, PrimaryKey, TIMESTAMP_FIELD, Values};
use tidegate_message::schema::{Field, Schema};
use tidegate_message::{CreateSegment, MessageId, Outgoing, Record};

use super::Failure;
use super::world::{LOGICAL_BITS, PCHANNEL, World};

/// Size that an insert's header gives a row.
const ROW_BYTES: u64 = 64;
/// Level of a segment of rows, as Milvus counts.
const LEVEL_ROWS: i32 = 2;

/// A segment and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub id: i64,
    pub vchannel: String,
    pub collection: i64,
    pub partition: i64,
}

impl World<'_> {
    /// Creates a collection of Int64 keys with two partitions.
    pub fn collection(&mut self, name: &str, shards: usize) -> Result<CollectionInfo, Failure> {
        let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
        let schema = Schema { name: name.to_owned(), fields: vec![key], enable_dynamic_field: false, version: 0 };
        let new = NewCollection { schema: schema.clone(), shards, partitions: vec!["first".to_owned(), "second".to_owned()] };
        let first_id = self.ids(i64::from(new.id_count()));
        let refused = |e: CallError| Failure::Outcome(format!("the scenario's own collection: {e}"));
        let planned = self.coordinator.create_collection(&new, first_id, &[PCHANNEL.to_owned()]).map_err(refused)?.0;
        let partitions: Vec<i64> = planned.partitions.iter().map(|p| p.id).collect();
        let mut starts = BTreeMap::new();
        for shard in &planned.shards {
            let last_confirmed = self.next_log_id();
            let tick = self.append(build::create_collection(&shard.vchannel, "default", planned.id, &partitions, &schema));
            starts.insert(shard.vchannel.clone(), Position { last_confirmed, tick });
        }
        self.coordinator.finish_create(planned.id, &starts).map_err(refused)?;
        Ok(planned)
    }

    /// Opens a segment.
    pub fn segment(&mut self, collection: &CollectionInfo, shard: usize, partition: usize) -> Segment {
        let id = self.ids(1);
        let (vchannel, partition) = (collection.shards[shard].vchannel.clone(), collection.partitions[partition].id);
        let created = CreateSegment { partition, segment: id, storage_version: 0, level: LEVEL_ROWS, max_rows: 0, max_bytes: 0 };
        self.append(build::create_segment(&vchannel, collection.id, &created));
        Segment { id, vchannel, collection: collection.id, partition }
    }

    /// Appends rows with these keys; returns their number.
    pub fn rows(&mut self, segment: &Segment, keys: Range<i64>) -> u64 {
        let message = insert(segment, &keys);
        self.append(message);
        keys.end.abs_diff(keys.start)
    }

    /// Appends a delete of these keys in the segment's partition.
    pub fn deletes(&mut self, segment: &Segment, keys: Range<i64>) {
        let keys: Vec<_> = keys.map(PrimaryKey::Int64).collect();
        self.append(build::delete(&segment.vchannel, segment.collection, segment.partition, &keys));
    }

    /// Appends a ManualFlush of segments of one channel.
    pub fn flush(&mut self, segments: &[&Segment]) {
        if let Some(first) = segments.first() {
            let ids: Vec<i64> = segments.iter().map(|s| s.id).collect();
            self.append(build::manual_flush(&first.vchannel, first.collection, 0, &ids));
        }
    }

    /// Appends a persisted time tick and runs until nothing is left to do.
    pub fn tick(&mut self) -> Result<(), Failure> {
        self.append(build::time_tick());
        self.run()
    }

    /// Lets event time pass.
    pub fn pass_ms(&mut self, ms: u64) {
        self.tick = ((self.tick >> LOGICAL_BITS) + ms) << LOGICAL_BITS;
    }

    /// Appends a message with the next tick; returns the tick.
    pub fn append(&mut self, message: Outgoing) -> u64 {
        self.tick += 1;
        let id = self.next_log_id();
        let (payload, properties) = message.stamp(self.tick, &id, 1);
        self.log.push(Record { id, payload, properties });
        self.tick
    }

    fn next_log_id(&self) -> MessageId {
        MessageId::RocksMq(self.log.len() as i64)
    }

    /// Allots ids; returns the first.
    fn ids(&mut self, count: i64) -> i64 {
        self.next_id += count;
        self.next_id - count
    }
}

/// An insert of rows with these keys.
pub(super) fn insert(segment: &Segment, keys: &Range<i64>) -> Outgoing {
    let rows = keys.end.abs_diff(keys.start);
    let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
    let mut columns = Columns::new(&Schema { name: String::new(), fields: vec![key], enable_dynamic_field: false, version: 0 });
    columns.fields.retain(|column| column.field_id > TIMESTAMP_FIELD);
    for column in &mut columns.fields {
        column.values = Values::Int64(keys.clone().collect());
    }
    let row_ids: Vec<i64> = keys.clone().collect();
    let Segment { id, vchannel, collection, partition } = segment;
    let to = InsertAssignment { collection: *collection, partition: *partition, segment: *id, rows, bytes: ROW_BYTES * rows };
    build::insert(vchannel, &to, &columns.fields, &row_ids)
}
