//! `tidegate:flusher/log`: a component's words, as events of the host.

use tracing::{debug, error, info, trace, warn};

use super::{EVENT_BYTES_MAX, HostState};

/// Weight of an event, in any version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub(super) fn is_enabled(self) -> bool {
        match self {
            Self::Error => tracing::enabled!(tracing::Level::ERROR),
            Self::Warn => tracing::enabled!(tracing::Level::WARN),
            Self::Info => tracing::enabled!(tracing::Level::INFO),
            Self::Debug => tracing::enabled!(tracing::Level::DEBUG),
            Self::Trace => tracing::enabled!(tracing::Level::TRACE),
        }
    }
}

impl HostState {
    /// Passes an event on.
    pub(super) fn log(&mut self, level: Level, message: String, fields: &[(String, String)]) {
        let mut text = message;
        for (key, value) in fields {
            text.push_str(&format!(" {key}={value:?}"));
        }
        if text.len() > EVENT_BYTES_MAX {
            text.truncate(text.floor_char_boundary(EVENT_BYTES_MAX));
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
        if level == Level::Error {
            self.last_error = Some(text);
        }
    }
}
