//! `tidegate:flusher/chunk-storage`.

use tidegate_core::turn::Intent;

use super::bindings::tidegate::flusher::chunk_storage::{Filtered, Host};
use super::{HostState, convert};

impl Host for HostState {
    fn sync(&mut self, channel: u32, segment: i64, up_to: u64, flush: bool) -> wasmtime::Result<u64> {
        self.record(Intent::Sync { channel, segment, up_to, flush })
    }

    fn sync_deletes(&mut self, channel: u32, partition: i64, up_to: u64) -> wasmtime::Result<u64> {
        self.record(Intent::SyncDeletes { channel, partition, up_to })
    }

    fn drop_segment(&mut self, channel: u32, segment: i64, at: u64) -> wasmtime::Result<u64> {
        self.record(Intent::DropSegment { channel, segment, at })
    }

    fn filter(&mut self, messages: Vec<Filtered>) -> wasmtime::Result<()> {
        self.record(Intent::Filter(messages.into_iter().map(convert::filtered).collect())).map(drop)
    }

    fn detach(&mut self, channel: u32, reason: String) -> wasmtime::Result<()> {
        self.record(Intent::Detach { channel, reason }).map(drop)
    }
}
