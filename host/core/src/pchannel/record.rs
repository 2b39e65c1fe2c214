//! A recording: each turn as it ends, while somebody wants them. It is of one instance, or of others that go on from its journal; what
//! forgets the journal, or follows with another version, ends it.

use std::sync::Arc;

use super::{Action, Instance, Pchannel};
use crate::journal::{Replay, Turn};
use crate::turn::{TurnInput, TurnOutput};

impl Pchannel {
    /// Returns what a recording begins with, before it is turned on: the turns so far, and the state that they follow.
    ///
    /// # Errors
    /// Why there is nothing to begin with.
    pub fn recordable(&self) -> Result<Replay, String> {
        if self.is_over() || matches!(self.instance, Instance::Absent(_)) {
            return Err(format!("no instance runs, the pchannel is in state {:?}", self.status().state));
        }
        let lost = "its last turns are not known, no snapshot could be taken for too many of them; run the command again later";
        self.journal.replay().ok_or_else(|| lost.to_owned())
    }

    /// Begins or ends a recording on request.
    pub(super) fn record(&mut self, on: bool) {
        self.recording = on;
    }

    pub(super) fn record_turn(&mut self, input: &Arc<TurnInput>, output: &Arc<TurnOutput>) {
        if self.recording {
            self.out.push(Action::Recorded(Turn { input: input.clone(), output: output.clone() }));
        }
    }

    /// Ends a recording, if there is one: later turns do not follow from what it has.
    pub(super) fn end_recording(&mut self, why: impl FnOnce(&Self) -> String) {
        if std::mem::take(&mut self.recording) {
            let why = why(self);
            self.out.push(Action::RecordingEnds(why));
        }
    }
}
