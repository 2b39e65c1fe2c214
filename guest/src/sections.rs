//! What a variant adds: sections of its own in the snapshot, and a look at what exists, so that it can drop what no longer does.

use crate::channel::Channel;
use crate::contract::ChannelIndex;
use crate::flusher::Flusher;
use crate::snapshot::Section;

impl Flusher {
    /// Returns a section that is not of the base state: a snapshot carried it here.
    pub fn section(&self, id: u16) -> Option<&[u8]> {
        self.foreign_sections.iter().find(|s| s.id == id).map(|s| s.bytes.as_slice())
    }

    /// Sets such a section for the next snapshot. Versions that do not know it carry it on verbatim.
    pub fn set_section(&mut self, id: u16, bytes: Vec<u8>) {
        self.foreign_sections.retain(|s| s.id != id);
        self.foreign_sections.push(Section { id, base: self.state.group_end, bytes });
    }

    /// Returns a channel that is known.
    pub fn channel(&self, index: ChannelIndex) -> Option<&Channel> {
        self.state.channels.get(&index)
    }
}
