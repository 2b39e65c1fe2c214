//! The rules of the embedded coordinator: what Milvus' `DataCoord` and `RootCoord` do with a flusher's calls, without disk, clock or threads.
//!
//! ```text
//! (state, call) → (reply, writes)      writes are committed together before the reply is given
//! load(what the writes left) → state
//! ```
//!
//! | rules | file |
//! |---|---|
//! | terms, dispatch of a call, loading | this one |
//! | channel checkpoints, recovery information, schemas, dropping a channel | `channel` |
//! | registering segments, saving their files | `segment` |
//! | creating and dropping collections | `collection` |
//! | ids and time ticks | `window` (apart, since every append to the log asks for them) |
//! | keys and values on disk | `record` |

mod channel;
mod collection;
mod record;
mod segment;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use tidegate_message::schema::Schema;

pub use self::channel::ChannelCheckpoint;
pub use self::collection::{CollectionInfo, CollectionState, NewCollection, Partition, Shard, pchannel_of};
use self::record::{Changes, Key};
pub use self::record::{LoadError, Write};
pub use self::window::{TICK_WINDOW_MS, Windows};
use crate::calls::{Call, CallError, Caller, Position, Reply, SegmentInfo};
use crate::mutants::{Mutant, is_mutated};
use crate::switches::{Switch, is_on};

/// The coordinator's whole state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coordinator {
    terms: BTreeMap<String, i64>,
    consume: BTreeMap<String, Position>,
    collections: BTreeMap<i64, CollectionInfo>,
    checkpoints: BTreeMap<String, ChannelCheckpoint>,
    schemas: BTreeMap<String, BTreeMap<u64, Schema>>,
    segments: BTreeMap<i64, SegmentInfo>,
    /// Derived from `collections`: the collection of each vchannel.
    collection_of: BTreeMap<String, i64>,
    /// Derived from `segments`: the segments of each vchannel.
    segments_of: BTreeMap<String, BTreeSet<i64>>,
}

impl Coordinator {
    /// Rebuilds the state from what its writes left behind, in any order.
    ///
    /// # Errors
    ///
    /// An entry that this version does not understand; nothing is skipped.
    pub fn load(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Coordinator, LoadError> {
        let mut state = Coordinator::default();
        for (key, value) in entries {
            match Key::parse(&key)? {
                Key::Term(pchannel) => drop(state.terms.insert(pchannel, record::decode(&key, &value)?)),
                Key::Consume(pchannel) => drop(state.consume.insert(pchannel, record::decode(&key, &value)?)),
                Key::Checkpoint(vchannel) => drop(state.checkpoints.insert(vchannel, record::decode(&key, &value)?)),
                Key::Schema(vchannel, tick) => {
                    state.schemas.entry(vchannel).or_default().insert(tick, record::decode(&key, &value)?);
                }
                Key::Collection(id) => state.keep_collection(CollectionInfo { id, ..record::decode(&key, &value)? }),
                Key::Segment(id) => state.keep_segment(SegmentInfo { segment: id, ..record::decode(&key, &value)? }),
            }
        }
        Ok(state)
    }

    /// Applies one call. The writes must be durable before anyone sees the reply; an error may come with writes (a newer term).
    pub fn call(&mut self, caller: &Caller, call: &Call) -> (Result<Reply, CallError>, Vec<Write>) {
        let mut changes = Changes::default();
        let reply = self.apply(caller, call, &mut changes);
        (reply, changes.into_writes())
    }

    fn apply(&mut self, caller: &Caller, call: &Call, changes: &mut Changes) -> Result<Reply, CallError> {
        let exempt = is_mutated(Mutant::SaveOfAnyTerm) && matches!(call, Call::SaveBinlogPaths(_));
        if call.is_mutating() && !exempt {
            self.admit(caller, changes)?;
        }
        match call {
            Call::VChannels => Ok(Reply::VChannels(self.vchannels(&caller.pchannel))),
            Call::RecoveryInfo { vchannel } => {
                own(caller, vchannel)?;
                self.recovery_info(vchannel).map(|info| Reply::Recovery(Box::new(info)))
            }
            Call::AllocSegment(alloc) => {
                own(caller, &alloc.vchannel)?;
                self.alloc_segment(alloc, changes)
            }
            Call::SaveBinlogPaths(save) => {
                own(caller, &save.vchannel)?;
                self.save_binlog_paths(save, changes)
            }
            Call::Segment { segment } => Ok(Reply::Segment(self.segments.get(segment).cloned().map(Box::new))),
            Call::ReportCheckpoints(entries) => {
                let report = |(vchannel, position): &(String, Position)| {
                    own(caller, vchannel)?;
                    self.report_checkpoint(vchannel, position, changes)
                };
                Ok(Reply::Checkpoints(entries.iter().map(report).collect()))
            }
            Call::DropChannel { vchannel } => {
                own(caller, vchannel)?;
                self.drop_channel(vchannel, changes);
                Ok(Reply::Done)
            }
            Call::SaveSchema { vchannel, tick, schema } => {
                own(caller, vchannel)?;
                self.save_schema(vchannel, *tick, schema, changes)
            }
            Call::LoadConsume => Ok(Reply::Consume(self.consume.get(&caller.pchannel).cloned())),
            Call::SaveConsume(position) => {
                if self
                    .consume
                    .get(&caller.pchannel)
                    .is_none_or(|stored| is_forward(stored, position) || is_mutated(Mutant::ConsumeMovesBack))
                {
                    changes.put(Key::Consume(caller.pchannel.clone()), position);
                    self.consume.insert(caller.pchannel.clone(), position.clone());
                }
                Ok(Reply::Done)
            }
        }
    }

    /// Refuses a caller of an older term and remembers a newer one (FE-1).
    fn admit(&mut self, caller: &Caller, changes: &mut Changes) -> Result<(), CallError> {
        match self.terms.get(&caller.pchannel) {
            Some(&term) if caller.term < term && !is_on(Switch::IgnoreTerms) => Err(CallError::Fenced(format!(
                "{} is at term {term}, the call of node {} is of term {}",
                caller.pchannel, caller.node_id, caller.term
            ))),
            Some(&term) if caller.term == term => Ok(()),
            _ => {
                changes.put(Key::Term(caller.pchannel.clone()), &caller.term);
                self.terms.insert(caller.pchannel.clone(), caller.term);
                Ok(())
            }
        }
    }

    /// Takes a pchannel over: returns a term above every earlier one and fences those.
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] when terms are used up.
    pub fn acquire_term(&mut self, pchannel: &str) -> Result<(i64, Vec<Write>), CallError> {
        let last = self.terms.get(pchannel).copied().unwrap_or(0);
        let term = last.checked_add(1).ok_or_else(|| CallError::Permanent(format!("no term above {last} for {pchannel}")))?;
        let mut changes = Changes::default();
        changes.put(Key::Term(pchannel.to_owned()), &term);
        self.terms.insert(pchannel.to_owned(), term);
        Ok((term, changes.into_writes()))
    }
}

/// Refuses a vchannel that does not lie on the caller's pchannel.
fn own(caller: &Caller, vchannel: &str) -> Result<(), CallError> {
    if pchannel_of(vchannel) == caller.pchannel {
        return Ok(());
    }
    Err(CallError::Permanent(format!("vchannel `{vchannel}` is not on pchannel `{}` of the caller", caller.pchannel)))
}

/// Whether a stored position gives way to a new one: a later tick, or the same tick under another id (CK-1). Ids are never ordered here (CK-4).
fn is_forward(stored: &Position, new: &Position) -> bool {
    new.tick > stored.tick || (new.tick == stored.tick && new.last_confirmed != stored.last_confirmed)
}

#[cfg(test)]
mod tests;
