//! One group commit in the making: pure, until the appender writes it.

use tidegate_message::{Malformed, Message, MessageId, MessageType, Outgoing, Record, build, encode_record};

use super::LogLimits;
use super::txns::OpenTxns;
use crate::wal::{Appended, LogError};

/// Messages on their way into the log, with the ids and ticks that they will have.
///
/// The writer is serial, so ticks ascend with ids, and a message's last confirmed id is the smaller of its own id and the Begin of the
/// oldest open transaction. A Commit counts its own transaction as open: resuming at the Commit meets its bodies again.
pub(super) struct Group<'a> {
    limits: &'a LogLimits,
    term: i64,
    next_id: i64,
    next_tick: u64,
    /// The open transactions after the group.
    pub txns: OpenTxns,
    /// Ids and stored bytes.
    pub entries: Vec<(i64, Vec<u8>)>,
}

impl<'a> Group<'a> {
    /// Begins a group of records from `next_id` on, at ticks from `next_tick` on.
    pub fn new(limits: &'a LogLimits, term: i64, next_id: i64, next_tick: u64, txns: OpenTxns) -> Self {
        Group { limits, term, next_id, next_tick, txns, entries: Vec::new() }
    }

    /// Returns how many ticks a group of `messages` messages may take: each may also have to roll back a transaction that is open, or
    /// that the group opens, and the closing time tick takes one.
    pub fn ticks_for(messages: usize, txns: &OpenTxns) -> Result<u32, LogError> {
        u32::try_from(messages.saturating_mul(2).saturating_add(txns.0.len()).saturating_add(1))
            .map_err(|_| LogError::Invalid(format!("{messages} messages are too many for one append")))
    }

    /// Adds the messages of one request, all or none.
    ///
    /// # Errors
    /// [`LogError::Invalid`] for a message that no reader could read, [`LogError::NotOpen`] for one of a transaction that is over.
    pub fn add(&mut self, batch: Vec<Outgoing>) -> Result<Vec<Appended>, LogError> {
        let (entries, next_id, next_tick, txns) = (self.entries.len(), self.next_id, self.next_tick, self.txns.clone());
        let added = batch.into_iter().map(|outgoing| self.add_one(outgoing)).collect();
        if let Err(error) = &added {
            self.entries.truncate(entries);
            (self.next_id, self.next_tick, self.txns) = (next_id, next_tick, txns);
            if let LogError::NotOpen { txn_id } = error {
                // Once found expired, it stays expired, whatever the next tick is.
                self.txns.0.remove(txn_id);
            }
        }
        added
    }

    /// Closes the group with a time tick above everything in it, and returns that tick.
    ///
    /// # Errors
    /// [`LogError::Invalid`] if the time tick cannot be built.
    pub fn finish(&mut self) -> Result<u64, LogError> {
        let tick = self.write(build::time_tick())?.0.tick;
        self.txns.expire(tick);
        Ok(tick)
    }

    fn add_one(&mut self, outgoing: Outgoing) -> Result<Appended, LogError> {
        let (appended, message) = self.write(outgoing)?;
        for (vchannel, txn) in self.txns.ended_by(&message) {
            self.write(build::rollback_txn(&vchannel, &txn))?;
        }
        Ok(appended)
    }

    fn write(&mut self, outgoing: Outgoing) -> Result<(Appended, Message), LogError> {
        let (raw_id, tick) = (self.next_id, self.next_tick);
        let id = MessageId::RocksMq(raw_id);
        let last_confirmed = MessageId::RocksMq(self.txns.oldest_begin().map_or(raw_id, |begin| begin.min(raw_id)));
        let (payload, properties) = outgoing.stamp(tick, &last_confirmed, self.term);
        let message = Message::decode(Record { id: id.clone(), payload, properties })
            .map_err(|malformed: Box<Malformed>| LogError::Invalid(malformed.to_string()))?;
        if !message.persisted {
            return Err(LogError::Invalid("a time tick that says that it is not persisted".to_owned()));
        }
        self.txns.admit(raw_id, &message, self.limits)?;
        self.entries.push((raw_id, encode_record(message.payload.clone(), &message.properties)));
        self.next_id = raw_id.checked_add(1).ok_or_else(|| LogError::Invalid("the log's ids are used up".to_owned()))?;
        self.next_tick = tick.checked_add(1).ok_or_else(|| LogError::Invalid("the log's ticks are used up".to_owned()))?;
        Ok((Appended { id, tick, last_confirmed }, message))
    }
}

/// Whether only the log itself writes messages of this type.
pub(super) fn is_reserved(kind: &str) -> bool {
    kind.parse().is_ok_and(|kind| {
        [MessageType::TIME_TICK, MessageType::BEGIN_TXN, MessageType::COMMIT_TXN, MessageType::ROLLBACK_TXN, MessageType::TXN]
            .contains(&MessageType(kind))
    })
}
