//! A channel that was detached comes back under a new index. Until it has caught up its messages are older than those of its neighbours:
//! they move a time of its own, at which its batches end as they would have in the others' company (FL-3), and its ordinals say nothing of
//! where the pchannel may be (CK-3). A time tick on the channel itself says that it has caught up.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::contract::{ChannelIndex, Ordinal, flag};
use crate::flusher::{Flusher, Timer};

/// A channel whose checkpoint is not past the place where it joined the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Behind {
    /// Tick of its last message.
    pub tick: u64,
    /// Its own event times at which something is to be done.
    pub timers: BTreeSet<(u64, Timer)>,
    /// The message at which it joined the others.
    pub joined: Option<Ordinal>,
}

impl Flusher {
    /// Whether the channel's messages are older than those of its neighbours.
    pub(crate) fn is_behind(&self, index: ChannelIndex) -> bool {
        self.state.behind.get(&index).is_some_and(|behind| behind.joined.is_none())
    }

    /// The channel's event time.
    pub(crate) fn clock(&self, index: ChannelIndex) -> u64 {
        match self.state.behind.get(&index) {
            Some(behind) if behind.joined.is_none() => behind.tick,
            _ => self.state.tick,
        }
    }

    /// Sets when something is to be done for a channel, in that channel's time.
    pub(crate) fn set_timer(&mut self, due: u64, index: ChannelIndex, timer: Timer) {
        match self.state.behind.get_mut(&index) {
            Some(behind) if behind.joined.is_none() => behind.timers.insert((due, timer)),
            _ => self.state.timers.insert((due, index, timer)),
        };
    }

    /// Whether a message of a channel comes from its own scan: the main one passes over what that will read, and says so.
    pub(crate) fn is_read_again(&self, index: ChannelIndex, flags: u8, tick: u64) -> bool {
        self.is_behind(index) && (flags & flag::SETTLED == 0 || tick < self.state.tick)
    }

    /// Takes the first thing that is due: in the time of a channel that is behind, or in that of all the others.
    pub(crate) fn pop_timer(&mut self, behind: Option<ChannelIndex>) -> Option<(u64, ChannelIndex, Timer)> {
        match behind {
            Some(index) => {
                let behind = self.state.behind.get_mut(&index)?;
                behind.timers.first().filter(|(due, _)| *due <= behind.tick)?;
                behind.timers.pop_first().map(|(due, timer)| (due, index, timer))
            }
            None => {
                self.state.timers.first().filter(|(due, ..)| *due <= self.state.tick)?;
                self.state.timers.pop_first()
            }
        }
    }

    /// A new index: it is behind if its name was detached under another one, or if its first message is older than the last one. Returns
    /// whether it is.
    pub(crate) fn come_back(&mut self, index: ChannelIndex, name: &str, tick: u64) -> bool {
        let named = |old: &&ChannelIndex| self.state.channels.get(old).is_some_and(|c| c.name == name);
        let old = self.state.detached.iter().find(named).copied().filter(|&old| old != index);
        if let Some(old) = old {
            // Its checkpoint is the new one's to hold.
            self.forget(old);
            self.state.channels.remove(&old);
        }
        if !self.state.channels.contains_key(&index) && (old.is_some() || tick < self.state.tick) {
            self.state.behind.insert(index, Behind::default());
        }
        self.is_behind(index)
    }

    /// The channel has read all that the others have: from here on their time is its own.
    pub(crate) fn join(&mut self, index: ChannelIndex, at: Ordinal) {
        let Some(behind) = self.state.behind.get_mut(&index) else { return };
        behind.joined = Some(at);
        let timers = std::mem::take(&mut behind.timers);
        self.state.timers.extend(timers.into_iter().map(|(due, timer)| (due, index, timer)));
    }

    /// CK-3: a stored checkpoint holds the consume checkpoint; one from before the join holds it before everything.
    pub(crate) fn checkpoint_stored(&mut self, index: ChannelIndex, before: Ordinal, at: Ordinal) {
        let held = match self.state.behind.get(&index) {
            Some(behind) if behind.joined.is_none_or(|joined| at < joined) => return,
            Some(_) => 0,
            None => before,
        };
        self.state.behind.remove(&index);
        self.state.stored.remove(&(held, index));
        self.state.stored.insert((at, index));
    }
}
