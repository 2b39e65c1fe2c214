//! `tidegate:flusher/log`: a component's words, as events of the host.

use tracing::{debug, error, info, trace, warn};

use super::bindings::tidegate::flusher::log::{Host, Level};
use super::bindings::tidegate::flusher::types;
use super::{EVENT_BYTES_MAX, HostState};

impl Host for HostState {
    fn enabled(&mut self, level: Level) -> wasmtime::Result<bool> {
        Ok(match level {
            Level::Error => tracing::enabled!(tracing::Level::ERROR),
            Level::Warn => tracing::enabled!(tracing::Level::WARN),
            Level::Info => tracing::enabled!(tracing::Level::INFO),
            Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Level::Trace => tracing::enabled!(tracing::Level::TRACE),
        })
    }

    fn event(&mut self, level: Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let mut text = message;
        for (key, value) in fields {
            text.push_str(&format!(" {key}={value:?}"));
        }
        if text.len() > EVENT_BYTES_MAX {
            let mut end = EVENT_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push('…');
        }
        let pchannel = &self.pchannel;
        match level {
            Level::Error => error!(pchannel, "component: {text}"),
            Level::Warn => warn!(pchannel, "component: {text}"),
            Level::Info => info!(pchannel, "component: {text}"),
            Level::Debug => debug!(pchannel, "component: {text}"),
            Level::Trace => trace!(pchannel, "component: {text}"),
        }
        if matches!(level, Level::Error) {
            self.last_error = Some(text);
        }
        Ok(())
    }
}

impl types::Host for HostState {}
