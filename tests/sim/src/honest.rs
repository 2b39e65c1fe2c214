//! A component that does not lie is never refused by the guard, and no channel is given up without a trouble that explains it.
//!
//! The world hears both as an operator does: from what the flusher says.

use crate::judge::{Verdict, broken};
use crate::scenario::Trouble;
use crate::world::{World, clip};

/// How long a trouble explains what a channel is given up for, in milliseconds of virtual time: backoffs, and calls that are never answered,
/// take their time.
const EXPLAINS_MS: u64 = 900_000;

/// Troubles of calls and files: work that keeps failing.
const FAILING: [Trouble; 11] = [
    Trouble::CallLost,
    Trouble::AnswerLost,
    Trouble::CallSilent,
    Trouble::CallSlow,
    Trouble::NotFound,
    Trouble::StorageDown,
    Trouble::StorageSlow,
    Trouble::StorageReset,
    Trouble::StoragePartial,
    Trouble::DiskFull,
    Trouble::SaveIgnored,
];

/// Troubles of instances.
const FAULTING: [Trouble; 8] = [
    Trouble::Trap,
    Trouble::TurnLimit,
    Trouble::SnapshotTrap,
    Trouble::SnapshotLimit,
    Trouble::SnapshotGarbage,
    Trouble::RestoreFaults,
    Trouble::AccountsFault,
    Trouble::BuildFails,
];

/// What a channel is given up for, and the troubles one of which must have struck.
const REASONS: [(&str, &[Trouble]); 12] = [
    ("and its work keeps failing: ", &FAILING),
    ("its work keeps failing while it catches up: ", &FAILING),
    ("it cannot be recovered, and the others do not wait for it: ", &FAILING),
    ("refused: a file that is read back is damaged", &[Trouble::BitsFlip]),
    ("the component faults on message ", &FAULTING),
    ("the coordinator has forgotten a segment: ", &[Trouble::NotFound, Trouble::StaleAnswer]),
    ("no such thing, says a replica", &[Trouble::NotFound]),
    ("a control message was set aside: ", &FAULTING),
    ("is not shown as it was said to be", &[Trouble::StaleAnswer, Trouble::SaveIgnored]),
    ("and does not show it", &[Trouble::StaleAnswer, Trouble::SaveIgnored]),
    (" is not known", &[Trouble::NotFound, Trouble::StaleAnswer, Trouble::SaveIgnored]),
    ("at the coordinator with ", &[Trouble::CallTwice, Trouble::CallSilent, Trouble::CallSlow, Trouble::StaleAnswer, Trouble::SaveIgnored]),
];

impl World<'_> {
    /// A process says something to its operator.
    pub(crate) fn heard(&mut self, process: usize, text: &str) -> Verdict {
        self.trace.say(self.now, || format!("#{process} says: {}", clip(text)));
        if text.starts_with("channel ") && text.contains(" is detached: ") {
            self.met_by_detach(process);
        }
        if self.processes[process].lied {
            return Ok(());
        }
        if text.starts_with("the guard refuses ") {
            return broken("guard", format!("#{process} does not lie: {}", clip(text)));
        }
        match text.strip_prefix("channel ").and_then(|rest| rest.split_once(" is detached: ")) {
            Some((vchannel, reason)) if !self.is_explained(process, vchannel, reason) => {
                broken("IS-1", format!("nothing explains that channel {vchannel} is detached: {}", clip(reason)))
            }
            _ => Ok(()),
        }
    }

    fn is_explained(&self, process: usize, vchannel: &str, reason: &str) -> bool {
        let recent = |trouble: &Trouble| self.struck.get(trouble).is_some_and(|at| self.now <= at + EXPLAINS_MS);
        let known = |(words, troubles): &(&str, &[Trouble])| reason.contains(words) && troubles.iter().any(recent);
        // One that was not listed, and is met after the scan began, reads what lies before.
        let late = reason == "it stands before the start of this scan";
        // The log's owner of a newer term may let go what one of an older term has not read.
        let outrun = reason.ends_with(" without its rows") && self.is_zombie(process);
        late || outrun || self.judge.is_excused(vchannel) || REASONS.iter().any(known)
    }
}
