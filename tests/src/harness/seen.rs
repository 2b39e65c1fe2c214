//! What came of it: files, segments, checkpoints, ledgers, as a test reads them.

use tidegate::storage::{read_deltas, read_segment};
use tidegate_core::account::Standing;
use tidegate_core::calls::{Call, Level, Position, Reply, SegmentInfo, SegmentState};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::ledger::Ledger;
use tidegate_core::pchannel::Work;
use tidegate_core::turn::FilterReason;
use tidegate_message::columns::PrimaryKey;

use super::Harness;
use crate::rows::keys;

impl Harness {
    /// The segment as the coordinator has it.
    pub fn segment(&self, segment: i64) -> Option<&SegmentInfo> {
        self.coordinator.segment(segment)
    }

    /// Keys of the rows in flushed segments of a collection, each as often as it is stored, deletes not applied.
    pub fn flushed_keys(&self, collection: &CollectionInfo) -> Vec<i64> {
        self.stored_keys(collection, |s| s.state == SegmentState::Flushed)
    }

    /// Keys of the rows in segments that pass a test.
    pub fn stored_keys(&self, collection: &CollectionInfo, which: impl Fn(&SegmentInfo) -> bool) -> Vec<i64> {
        let mut found = Vec::new();
        for s in self.coordinator.segments(collection.id).filter(|s| s.level == Level::L1 && which(s)) {
            let columns = read_segment(&self.chunks, &s.files, &collection.schema).expect("saved files can be read");
            found.extend(keys(&columns));
        }
        found.sort_unstable();
        found
    }

    /// Keys and ticks of the stored deletes.
    pub fn stored_deletes(&self, collection: &CollectionInfo) -> Vec<(PrimaryKey, u64)> {
        let level_zero = self.coordinator.segments(collection.id).filter(|s| s.level == Level::L0);
        let files: Vec<_> = level_zero.flat_map(|s| s.files.delta.iter().flat_map(|f| f.binlogs.clone())).collect();
        let read = read_deltas(&self.chunks, files.iter()).expect("saved files can be read");
        read.keys.into_iter().zip(read.ticks).collect()
    }

    /// Tick of a channel's stored checkpoint.
    pub fn checkpoint(&self, vchannel: &str) -> Option<u64> {
        self.coordinator.checkpoint_tick(vchannel)
    }

    /// The stored consume checkpoint.
    pub fn consume_checkpoint(&mut self) -> Option<Position> {
        match self.coordinator.call(&self.caller, &Call::LoadConsume).0 {
            Ok(Reply::Consume(stored)) => stored,
            other => panic!("consume checkpoint: {other:?}"),
        }
    }

    /// The component's reason for a channel's checkpoint.
    pub fn explain(&mut self, vchannel: &str) -> String {
        let index = self.core.channel_index(vchannel).expect("a known channel");
        self.instance.as_mut().expect("an instance").explain(index).expect("an answer")
    }

    /// A snapshot of the running instance.
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.instance.as_mut().expect("an instance").snapshot().expect("a snapshot")
    }

    /// A segment's state as the coordinator has it.
    pub fn state(&self, segment: i64) -> Option<SegmentState> {
        self.segment(segment).map(|s| s.state)
    }

    /// A channel's ledger.
    pub fn ledger(&self, vchannel: &str) -> Ledger {
        self.core.accounts().find(|c| c.name == vchannel).map(|c| c.ledger.clone()).unwrap_or_default()
    }

    /// Inserted rows of a channel that were filtered for a reason.
    pub fn filtered(&self, vchannel: &str, reason: FilterReason) -> u64 {
        self.ledger(vchannel).inserts.filtered.get(&reason).copied().unwrap_or_default()
    }

    /// Whether a channel was given up.
    pub fn is_detached(&self, vchannel: &str) -> bool {
        self.core.accounts().any(|c| c.name == vchannel && matches!(c.standing, Standing::Detached { .. }))
    }

    /// Contents of a segment's files: by root and field, in the order of their syncs.
    pub fn contents(&self, segment: i64) -> Vec<(&'static str, i64, Vec<u8>)> {
        let Some(info) = self.segment(segment) else { return Vec::new() };
        let roots = [("insert", &info.files.insert), ("stats", &info.files.stats), ("delta", &info.files.delta)];
        let lists = roots.into_iter().flat_map(|(root, lists)| lists.iter().map(move |list| (root, list)));
        let files = lists.flat_map(|(root, list)| list.binlogs.iter().map(move |file| (root, list.field, &file.path)));
        files.map(|(root, field, path)| (root, field, self.chunks.get(path).expect("saved files exist").to_vec())).collect()
    }

    /// Whether every ledger closes.
    pub fn ledger_closed(&self) -> bool {
        self.core.accounts().all(|c| c.ledger.is_closed())
    }

    /// Calls done, by name.
    pub fn count(&self, name: &str) -> usize {
        self.done.iter().filter(|w| matches!(w, Work::Call(call) if call.name() == name)).count()
    }
}
