//! `tidegate:flusher/wal`.

use tidegate_core::turn::Intent;

use super::bindings::tidegate::flusher::wal::{Host, Page};
use super::{HostState, convert};

impl Host for HostState {
    fn open(&mut self, channels: Vec<u32>) -> wasmtime::Result<u64> {
        self.record(Intent::Open(channels))
    }

    fn next(&mut self, max: u32) -> wasmtime::Result<Page> {
        self.only_in_a_turn()?;
        let page = if self.page.len() > max as usize { self.page.take_groups(max as usize) } else { std::mem::take(&mut self.page) };
        self.taken += page.len();
        Ok(convert::page(page))
    }

    fn append_flush(&mut self, channel: u32, partition: i64, segment: i64) -> wasmtime::Result<u64> {
        self.record(Intent::AppendFlush { channel, partition, segment })
    }
}
