//! `tidegate:flusher/coordinator`.

use tidegate_core::turn::Intent;

use super::HostState;
use super::bindings::tidegate::flusher::coordinator::Host;

impl Host for HostState {
    fn vchannels(&mut self) -> wasmtime::Result<u64> {
        self.record(Intent::VChannels)
    }

    fn recovery_info(&mut self, channel: u32) -> wasmtime::Result<u64> {
        self.record(Intent::RecoveryInfo(channel))
    }

    fn alloc_segment(&mut self, channel: u32, at: u64) -> wasmtime::Result<u64> {
        self.record(Intent::AllocSegment { channel, at })
    }

    fn report(&mut self, checkpoints: Vec<(u32, u64)>) -> wasmtime::Result<u64> {
        self.record(Intent::Report(checkpoints))
    }

    fn drop_channel(&mut self, channel: u32, at: u64) -> wasmtime::Result<u64> {
        self.record(Intent::DropChannel { channel, at })
    }
}
