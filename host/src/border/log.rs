//! `tidegate:flusher/log`: a component's words, as events of the host.

use tracing::{debug, error, info, trace, warn};

use super::{EVENT_BYTES_MAX, EVENTS_BYTES_MAX, EVENTS_MAX, HostState};

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
    /// Passes an event on, or counts it when the call has logged enough.
    pub(super) fn log(&mut self, level: Level, message: String, fields: &[(String, String)]) {
        let enough = self.events >= EVENTS_MAX || self.event_bytes >= EVENTS_BYTES_MAX;
        if enough {
            if self.events != usize::MAX {
                warn!(pchannel = self.pchannel, "component: further events of this call are counted and not kept");
                self.events = usize::MAX;
            }
            self.events_dropped += 1;
            if level != Level::Error {
                return;
            }
        }
        let text = line(message, fields);
        let pchannel = &self.pchannel;
        if !enough {
            match level {
                Level::Error => error!(pchannel, "component: {text}"),
                Level::Warn => warn!(pchannel, "component: {text}"),
                Level::Info => info!(pchannel, "component: {text}"),
                Level::Debug => debug!(pchannel, "component: {text}"),
                Level::Trace => trace!(pchannel, "component: {text}"),
            }
            self.events += 1;
            self.event_bytes += text.len();
        }
        // Also one that is not kept: it may be the text of the panic that follows.
        if level == Level::Error {
            self.last_error = Some(text);
        }
    }
}

/// An event in a line, cut where it is too long.
fn line(message: String, fields: &[(String, String)]) -> String {
    let mut text = message;
    for (key, value) in fields {
        if text.len() > EVENT_BYTES_MAX {
            break;
        }
        text.push_str(&format!(" {key}={value:?}"));
    }
    if text.len() > EVENT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(EVENT_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::Stop;

    #[test]
    fn a_call_keeps_so_many_events_and_counts_the_rest() {
        let mut state = HostState::new("p_0".into(), Stop::default());
        (0..EVENTS_MAX + 10).for_each(|_| state.log(Level::Info, "again".into(), &[]));
        assert_eq!(state.events_dropped, 10);
        state.log(Level::Error, "a panic".into(), &[]);
        assert_eq!((state.events_dropped, state.last_error.as_deref()), (11, Some("a panic")), "the last error is known all the same");
        state.begin_call();
        let long = || "é".repeat(EVENT_BYTES_MAX);
        (0..10).for_each(|_| state.log(Level::Error, long(), &[("key".into(), long())]));
        assert_eq!(state.events_dropped, 11 + 10 - (EVENTS_BYTES_MAX / EVENT_BYTES_MAX) as u64);
        let said = state.last_error.unwrap();
        assert!(said.len() <= EVENT_BYTES_MAX + '…'.len_utf8() && said.ends_with('…'), "{} bytes", said.len());
    }
}
