//! Moments at which two things meet: counted, since what never meets proves nothing.

use std::collections::BTreeSet;

use tidegate_core::pchannel::Phase;

use crate::world::World;

impl World<'_> {
    fn catches_up(&self, process: usize) -> bool {
        self.processes[process].catch_up.is_some()
    }

    /// A process is about to die.
    pub(crate) fn met_by_death(&mut self, process: usize, by_power: bool) {
        if self.processes[process].core.is_none() {
            return;
        }
        if self.catches_up(process) {
            self.tally.count(if by_power { "S-41" } else { "S-40" });
        }
        if self.under_way.has_saves(process) {
            self.tally.count("S-45");
        }
        if self.processes[process].writing > 0 {
            self.tally.count("S-50");
        }
    }

    /// A channel is detached.
    pub(crate) fn met_by_detach(&mut self, process: usize) {
        if self.processes[process].core.as_ref().is_some_and(|core| *core.phase() == Phase::InRecovery) {
            self.tally.count("S-42");
        }
    }

    /// A component is asked to write soon.
    pub(crate) fn met_by_pressure(&mut self, process: usize) {
        if self.catches_up(process) {
            self.tally.count("S-43");
        }
    }

    /// A newer term is met.
    pub(crate) fn met_by_fence(&mut self, process: usize) {
        if self.processes[process].writing > 0 {
            self.tally.count("S-44");
        }
    }

    /// Records are let go.
    pub(crate) fn met_by_truncation(&mut self, process: usize) {
        if self.catches_up(process) {
            self.tally.count("S-46");
        }
    }

    /// A collection is dropped.
    pub(crate) fn met_by_drop(&mut self, vchannels: &BTreeSet<String>) {
        if self.processes.iter().filter_map(|p| p.catch_up.as_ref()).any(|(_, vchannel)| vchannels.contains(vchannel)) {
            self.tally.count("S-48");
        }
    }

    /// The coordinator restarts.
    pub(crate) fn met_by_restart(&mut self) {
        if self.processes.iter().filter_map(|p| p.core.as_ref()).any(|core| *core.phase() == Phase::InRecovery) {
            self.tally.count("S-49");
        }
    }
}
