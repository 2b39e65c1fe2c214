//! Turns the records of one log into the messages that dispatch sees.
//!
//! [`Scanner`] is fed records in log order. It decodes them, holds them until a time tick says that nothing earlier follows, assembles
//! transactions, and gives out messages by non-decreasing tick, each time tick after everything that it released. Whatever cannot be
//! given out is reported, never dropped in silence: a record that is no message, a message that comes after its tick was passed, the rows
//! of a transaction that lost one of its records. What every writer may cause by retrying (duplicates, orphans, expired transactions) is
//! counted.
//!
//! ME-1: what waits for its tick or for the end of its transaction is held with its rows as long as there is room. Beyond it the rows of
//! inserts and deletes are let go as they come and only the headers are held; such a message comes out as [`Scanned::Parked`], and whoever
//! reads the log reads its rows again.

mod reorder;
mod txn;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_message::{Header, Malformed, Message, MessageId, MessageType, Properties, Record, TxnContext, properties};

use crate::mutants::{Mutant, is_mutated};
use reorder::{Held, Reorder};
use txn::{Body, Transactions};

/// What a scan may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Bytes of one transaction's bodies. A larger one is quarantined, since its bodies are delivered together. Default 256 MiB: four
    /// times what the embedded log takes.
    pub transaction_bytes_max: usize,
    /// Bytes held with their rows; the rows of what comes beyond stay in the log until it comes out. Default 64 MiB.
    pub held_bytes_max: usize,
}

impl Default for ScanLimits {
    fn default() -> Self {
        ScanLimits { transaction_bytes_max: 256 << 20, held_bytes_max: 64 << 20 }
    }
}

/// What comes out of a scan.
#[derive(Clone, Debug, PartialEq)]
pub enum Scanned {
    /// A message, and whether it is the last of its tick. A transaction's bodies come one by one with the Commit's tick and last
    /// confirmed id, and their own ids and vchannels.
    Message(Box<Message>, bool),
    /// A message that was not read before, with a tick below the last released one: a dead letter.
    Violation {
        /// The message.
        message: Box<Message>,
        /// The tick that it came too late for.
        last_released: u64,
    },
    /// A record that is no message. If it belongs to a transaction, the rest of that follows as [`Scanned::Quarantined`].
    Malformed(Box<BadRecord>),
    /// A good message of a transaction that lost a record.
    Quarantined {
        /// The message, with its own tick.
        message: Box<Message>,
        /// What happened to its transaction.
        reason: String,
    },
    /// Any of them with a message whose payload was let go: to be completed by [`Scanned::unpark`] before it is delivered.
    Parked(Box<Scanned>),
}

impl Scanned {
    /// The message, if it is one.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message, _) | Self::Violation { message, .. } | Self::Quarantined { message, .. } => Some(message),
            Self::Malformed(_) => None,
            Self::Parked(inner) => inner.message(),
        }
    }

    /// Whether it matters to a scan for one vchannel: it is that vchannel's, or the pchannel's, or moves time.
    pub fn concerns(&self, vchannel: &str) -> bool {
        match self {
            Self::Message(message, _) | Self::Violation { message, .. } | Self::Quarantined { message, .. } => {
                message.vchannel == vchannel || message.vchannel.is_empty() || message.pchannel_level
            }
            Self::Malformed(bad) => bad.vchannel == vchannel || bad.vchannel.is_empty(),
            Self::Parked(inner) => inner.concerns(vchannel),
        }
    }

    /// Gives a parked message its payload back, as it was read again from the log by the message's id.
    pub fn unpark(self, payload: Bytes) -> Scanned {
        let Self::Parked(mut inner) = self else { return self };
        if let Self::Message(message, _) | Self::Violation { message, .. } | Self::Quarantined { message, .. } = &mut *inner {
            message.payload = payload;
        }
        *inner
    }
}

/// A record that is no message, with what can be read of it nevertheless: enough to detach its channel.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRecord {
    /// The record and what is wrong with it.
    pub malformed: Malformed,
    /// Its type.
    pub kind: Option<MessageType>,
    /// Its vchannel; empty for every vchannel of the pchannel, also if the record does not say.
    pub vchannel: String,
    /// Its time tick.
    pub tick: Option<u64>,
    /// Its last confirmed id.
    pub last_confirmed: Option<MessageId>,
    /// Its transaction.
    pub txn: Option<TxnContext>,
}

impl BadRecord {
    /// Reads what can be read, by decoding the envelope without the parts that may be wrong.
    fn salvage(malformed: Malformed) -> BadRecord {
        let of = &malformed.record.properties;
        let kind = of.get(properties::TYPE).and_then(|text| text.parse().ok()).map(MessageType);
        let vchannel = of.get(properties::VCHANNEL).cloned().unwrap_or_default();
        let bare = |keys: &[&str]| {
            let mut kept = Properties::from([
                (properties::VERSION.to_owned(), "2".to_owned()),
                (properties::TYPE.to_owned(), MessageType::COMMIT_TXN.0.to_string()),
                (properties::HEADER.to_owned(), String::new()),
                (properties::TIME_TICK.to_owned(), "0".to_owned()),
                (properties::LAST_CONFIRMED_SELF.to_owned(), String::new()),
            ]);
            for &key in keys {
                let value = of.get(key)?;
                if key == properties::LAST_CONFIRMED {
                    kept.remove(properties::LAST_CONFIRMED_SELF);
                }
                kept.insert(key.to_owned(), value.clone());
            }
            Message::decode(Record { id: malformed.record.id.clone(), payload: Default::default(), properties: kept }).ok()
        };
        let tick = bare(&[properties::TIME_TICK]).map(|bare| bare.tick);
        let own_id = of.get(properties::LAST_CONFIRMED_SELF).map(|_| malformed.record.id.clone());
        let last_confirmed = own_id.or_else(|| bare(&[properties::LAST_CONFIRMED]).map(|bare| bare.last_confirmed));
        let txn = bare(&[properties::TXN]).and_then(|bare| bare.txn);
        BadRecord { malformed, kind, vchannel, tick, last_confirmed, txn }
    }
}

/// Where a scan stands, for `status` and metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanStatus {
    /// What it met.
    pub counters: ScanCounters,
    /// Messages read, by type.
    pub messages: BTreeMap<MessageType, u64>,
    /// Bytes that wait for their tick.
    pub reorder_bytes: usize,
    /// Bytes of the bodies of open transactions.
    pub transaction_bytes: usize,
    /// Bytes that wait to be taken by the flusher.
    pub pending_bytes: usize,
    /// Open transactions.
    pub open_transactions: usize,
    /// Why the log cannot be read now, if it cannot.
    #[serde(default)]
    pub failing: Option<ReadFailure>,
    /// Times that the record to go on from was not in the log any more: the scan went on at the earliest one.
    #[serde(default)]
    pub gaps: u64,
    /// The last of them, in one sentence.
    #[serde(default)]
    pub last_gap: Option<String>,
}

/// A log that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFailure {
    /// What the log says.
    pub reason: String,
    /// Tries that failed, in a row.
    pub times: u32,
    /// When the first one did, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What a scan met, since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanCounters {
    /// Records whose id is not above the highest id read before: a reader that reopened, or a writer's retry.
    pub duplicates: u64,
    /// Persisted time ticks below the last released one.
    pub stale_ticks: u64,
    /// Messages below the last released tick.
    pub violations: u64,
    /// Records that are no message.
    pub malformed: u64,
    /// Good messages of spoiled transactions.
    pub quarantined: u64,
    /// Transactions whose bodies were given out.
    pub committed: u64,
    /// Transactions rolled back, by their writer or by a forced promotion.
    pub rolled_back: u64,
    /// Transactions that outlived their lease.
    pub expired: u64,
    /// Open transactions replaced by a Begin with the same id.
    pub replaced: u64,
    /// Bodies, Commits and Rollbacks of a transaction that is not open.
    pub orphans: u64,
    /// Messages whose rows were let go, and read again when they came out.
    pub parked: u64,
}

/// The state of one scan of one log.
pub struct Scanner {
    limits: ScanLimits,
    highest: Option<MessageId>,
    reorder: Reorder,
    transactions: Transactions,
    counters: ScanCounters,
    messages: BTreeMap<MessageType, u64>,
}

impl Scanner {
    /// Returns a scan that has read nothing.
    pub fn new(limits: ScanLimits) -> Self {
        Scanner {
            limits,
            highest: None,
            reorder: Reorder::default(),
            transactions: Transactions::default(),
            counters: ScanCounters::default(),
            messages: BTreeMap::new(),
        }
    }

    /// Takes the next record of the log and appends to `out` what it lets out.
    pub fn push(&mut self, record: Record, out: &mut Vec<Scanned>) {
        if let Some(highest) = &self.highest {
            match record.id.compare(highest) {
                Ok(Ordering::Greater) => {}
                Ok(Ordering::Less | Ordering::Equal) if is_mutated(Mutant::TwiceDelivered) => {}
                Ok(Ordering::Less | Ordering::Equal) => {
                    self.counters.duplicates += 1;
                    return;
                }
                // A record of another log: no order of the two exists (CK-4).
                Err(error) => return self.reject(Malformed { record, error: error.into() }, out),
            }
        }
        self.highest = Some(record.id.clone());
        let decoded = Message::decode(record);
        if let Ok(message) = &decoded {
            *self.messages.entry(message.kind).or_default() += 1;
        }
        match decoded {
            Ok(message) if message.kind == MessageType::TIME_TICK => self.time_tick(message, out),
            Ok(message) if self.reorder.is_late(message.tick) && !is_mutated(Mutant::LateDelivered) => self.violate(message, out),
            Ok(message) => self.hold(message),
            Err(malformed) => self.reject(*malformed, out),
        }
    }

    /// Takes a time tick that its writer did not persist, once everything durable was pushed. It is given out as a time-tick message that
    /// borrows `last_confirmed` as its id; one below the last released tick is ignored.
    pub fn idle_tick(&mut self, tick: u64, last_confirmed: MessageId, out: &mut Vec<Scanned>) {
        let message = Message {
            id: last_confirmed.clone(),
            kind: MessageType::TIME_TICK,
            tick,
            last_confirmed,
            vchannel: String::new(),
            persisted: false,
            pchannel_level: false,
            txn: None,
            term: None,
            header: Header::TimeTick,
            payload: Default::default(),
            properties: Properties::from([(properties::NOT_PERSISTED.to_owned(), String::new())]),
        };
        self.time_tick(message, out);
    }

    /// Returns the bytes held: what waits for its tick, and the bodies of open transactions.
    pub fn held_bytes(&self) -> usize {
        self.reorder.bytes() + self.transactions.bytes()
    }

    /// Returns where the scan stands; how its reader does, and what waits to be taken, is not known here.
    pub fn status(&self) -> ScanStatus {
        ScanStatus {
            counters: self.counters.clone(),
            messages: self.messages.clone(),
            reorder_bytes: self.reorder.bytes(),
            transaction_bytes: self.transactions.bytes(),
            open_transactions: self.transactions.len(),
            ..ScanStatus::default()
        }
    }

    /// Returns how many transactions are open.
    pub fn open_transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Returns the tick of the last release: everything up to it was given out.
    pub fn last_released(&self) -> u64 {
        self.reorder.released()
    }

    /// Returns what was met since the scan began.
    pub fn counters(&self) -> &ScanCounters {
        &self.counters
    }

    /// Holds a message until its tick, without its rows when there is no room for them (ME-1).
    fn hold(&mut self, mut message: Message) {
        let has_rows = matches!(message.kind, MessageType::INSERT | MessageType::DELETE);
        let full = self.held_bytes().saturating_add(message.size()) > self.limits.held_bytes_max;
        let mut let_go = 0;
        if has_rows && full {
            self.counters.parked += 1;
            let_go = std::mem::take(&mut message.payload).len();
        }
        self.reorder.hold(message.tick, Held::Message(Box::new(message), let_go));
    }

    /// Releases everything up to a time tick, then the tick itself.
    fn time_tick(&mut self, message: Message, out: &mut Vec<Scanned>) {
        let tick = message.tick;
        if self.reorder.is_late(tick) {
            self.counters.stale_ticks += u64::from(message.persisted);
            return;
        }
        let start = out.len();
        for held in self.reorder.release(tick) {
            match held {
                Held::Message(message, let_go) => {
                    self.transactions.take(Body { message: *message, let_go }, &self.limits, &mut self.counters, out);
                }
                Held::Bad(bad) => self.report(bad, out),
            }
        }
        self.transactions.expire(tick, &mut self.counters);
        out.push(Scanned::Message(Box::new(message), false));
        mark_group_ends(&mut out[start..]);
    }

    /// Reports a message that comes too late; its transaction cannot be whole any more.
    fn violate(&mut self, message: Message, out: &mut Vec<Scanned>) {
        self.counters.violations += 1;
        if let Some(txn) = message.txn {
            let reason = format!("the one at {} came too late for its tick", message.id);
            self.transactions.spoil_by(message.kind, txn, message.tick, &reason, &mut self.counters, out);
        }
        out.push(Scanned::Violation { message: Box::new(message), last_released: self.reorder.released() });
    }

    /// Holds a bad record until its tick, if it has one that is not passed yet, and reports it at once otherwise.
    fn reject(&mut self, malformed: Malformed, out: &mut Vec<Scanned>) {
        self.counters.malformed += 1;
        let bad = Box::new(BadRecord::salvage(malformed));
        match bad.tick {
            Some(tick) if !self.reorder.is_late(tick) => self.reorder.hold(tick, Held::Bad(bad)),
            _ => self.report(bad, out),
        }
    }

    fn report(&mut self, bad: Box<BadRecord>, out: &mut Vec<Scanned>) {
        if let (Some(kind), Some(txn)) = (bad.kind, bad.txn) {
            let reason = bad.malformed.to_string();
            self.transactions.spoil_by(kind, txn, bad.tick.unwrap_or_default(), &reason, &mut self.counters, out);
        }
        out.push(Scanned::Malformed(bad));
    }
}

/// Flags each message that the next message, or nothing, of another tick follows.
fn mark_group_ends(released: &mut [Scanned]) {
    let mut next = None;
    for scanned in released.iter_mut().rev() {
        let scanned = match scanned {
            Scanned::Parked(inner) => &mut **inner,
            whole => whole,
        };
        if let Scanned::Message(message, group_end) = scanned {
            *group_end = next != Some(message.tick);
            next = Some(message.tick);
        }
    }
}
