//! `tidegate:flusher/checkpoint`.

use tidegate_core::turn::Intent;

use super::HostState;
use super::bindings::tidegate::flusher::checkpoint::Host;

impl Host for HostState {
    fn save(&mut self, at: u64) -> wasmtime::Result<u64> {
        self.record(Intent::SaveCheckpoint(at))
    }
}
