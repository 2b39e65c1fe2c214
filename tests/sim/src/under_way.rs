//! Calls under way: what a flusher may not do while they are, and how soon it may try again.

use std::collections::BTreeMap;

use tidegate_core::calls::{Call, CallError};
use tidegate_core::retry::{BACKOFF_FIRST_MS, CallId, DEADLINE_MS};

use crate::judge::{Verdict, broken};

/// An attempt without an answer does not count any more after this time, in milliseconds: its peer is lost.
const LOST_MS: u64 = (2 * DEADLINE_MS) / 100 * PACE_LEAST;
/// A process's clock is no slower and no faster than the world's by more, in percent.
const PACE_LEAST: u64 = 80;

/// Attempts of one call.
#[derive(Debug, Default)]
struct Attempts {
    /// The last one was made, or its answer heard, at this time.
    at: u64,
    /// When those were made that have no answer.
    pending: Vec<u64>,
    /// One of them arrived twice, and so do answers: what its caller makes of them is not followed.
    twice: bool,
    /// An answer said that a newer term owns the pchannel.
    fenced: bool,
    /// The channel for which the call changes something.
    changes: Option<String>,
}

/// Every call of every process.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    calls: BTreeMap<(usize, CallId), Attempts>,
}

impl UnderWay {
    /// A process makes a call, or makes it again.
    pub fn sent(&mut self, process: usize, id: CallId, call: &Call, now: u64) -> Verdict {
        if let Call::RecoveryInfo { vchannel } = call {
            let of_it = |a: &Attempts| !a.twice && a.changes.as_ref() == Some(vchannel) && a.pending.iter().any(|at| now < at + LOST_MS);
            if let Some(((_, before), _)) = self.calls.range((process, 0)..=(process, id)).find(|(_, a)| of_it(a)) {
                let text = format!("#{process} asks where {vchannel} stands while its call {before} may still change that");
                return broken("CK-2", text);
            }
        }
        if self.calls.len() > 4_096 {
            self.calls.retain(|_, a| now < a.at + LOST_MS);
        }
        let again = self.calls.contains_key(&(process, id));
        let attempts = self.calls.entry((process, id)).or_default();
        if attempts.fenced {
            return broken("FE-1", format!("#{process} makes call {id} again, which was answered as fenced"));
        }
        if again && !attempts.twice && now < attempts.at + BACKOFF_FIRST_MS / 100 * PACE_LEAST {
            return broken("liveness", format!("#{process} makes call {id} again {} ms after it failed", now - attempts.at));
        }
        attempts.at = now;
        attempts.pending.push(now);
        attempts.changes = changes(call);
        Ok(())
    }

    /// Whether saves of a process are under way.
    pub fn has_saves(&self, process: usize) -> bool {
        self.calls.range((process, 0)..=(process, CallId::MAX)).any(|(_, a)| a.changes.is_some() && !a.pending.is_empty())
    }

    /// A call arrives a second time.
    pub fn arrives_twice(&mut self, process: usize, id: CallId) {
        self.calls.entry((process, id)).or_default().twice = true;
    }

    /// A process hears an answer.
    pub fn answered<T>(&mut self, process: usize, id: CallId, result: &Result<T, CallError>, now: u64) {
        if let Some(attempts) = self.calls.get_mut(&(process, id)) {
            attempts.at = now;
            attempts.pending.pop();
            attempts.fenced |= matches!(result, Err(CallError::Fenced(_)));
        }
    }
}

/// The channel whose recovery information a call changes. A schema is met, and recorded, before its channel is asked for.
fn changes(call: &Call) -> Option<String> {
    match call {
        Call::AllocSegment(alloc) => Some(alloc.vchannel.clone()),
        Call::SaveBinlogPaths(save) => Some(save.vchannel.clone()),
        Call::DropChannel { vchannel } => Some(vchannel.clone()),
        _ => None,
    }
}
