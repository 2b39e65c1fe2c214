//! The log of a pchannel: groups of records that become durable together, the transactions that are open, and what a power loss leaves.

use std::collections::{BTreeMap, VecDeque};

use tidegate_message::{MessageId, Outgoing, Record, TxnContext, build};

use crate::rng::Rng;

/// Low bits of a time tick that count within a millisecond.
pub const LOGICAL_BITS: u32 = 18;

/// What a record means to those who know the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Rows of a segment, with keys from `start` on.
    Rows {
        /// Channel.
        vchannel: String,
        /// Partition.
        partition: i64,
        /// Segment.
        segment: i64,
        /// First key.
        start: u64,
        /// Number of keys.
        count: u64,
    },
    /// Keys deleted in a partition.
    Deletes {
        /// Channel.
        vchannel: String,
        /// Partition, −1 for every one.
        partition: i64,
        /// Keys.
        keys: Vec<i64>,
    },
    /// A channel begins.
    CreateCollection {
        /// Channel.
        vchannel: String,
        /// Collection.
        collection: i64,
    },
    /// A channel ends.
    DropCollection {
        /// Channel.
        vchannel: String,
        /// Collection.
        collection: i64,
    },
    /// A segment begins.
    CreateSegment {
        /// Channel.
        vchannel: String,
        /// Partition.
        partition: i64,
        /// Segment.
        segment: i64,
    },
    /// Segments end.
    Seal {
        /// Channel.
        vchannel: String,
        /// Segments.
        segments: Vec<i64>,
    },
    /// Every segment of the pchannel ends.
    SealAll {
        /// Segments by channel.
        segments: Vec<(String, Vec<i64>)>,
        /// Nothing comes after it: the log is moved.
        moves: bool,
    },
    /// A partition ends.
    DropPartition {
        /// Channel.
        vchannel: String,
        /// Partition.
        partition: i64,
    },
    /// A schema begins, and segments end.
    Schema {
        /// Channel.
        vchannel: String,
        /// Its version.
        version: i32,
        /// Segments.
        segments: Vec<i64>,
    },
    /// A transaction begins.
    Begin {
        /// Channel.
        vchannel: String,
    },
    /// A transaction's bodies count.
    Commit,
    /// A transaction's bodies do not count.
    Rollback,
    /// A message that makes its channel be given up for good.
    Hazard {
        /// Channel.
        vchannel: String,
    },
    /// Nobody can read it: its transaction is set aside with it.
    Bad,
}

/// One append.
#[derive(Clone, Debug)]
pub struct Append {
    /// The message.
    pub message: Outgoing,
    /// What it means.
    pub effect: Effect,
    /// Its transaction.
    pub txn: Option<TxnContext>,
    /// Who waits for it: an incarnation and its call.
    pub waits: Option<(usize, u64)>,
    /// A tick of the past instead of the next one: it comes too late.
    pub late: bool,
}

impl Append {
    /// A message outside of a transaction.
    pub fn new(message: Outgoing, effect: Effect) -> Self {
        Self { message, effect, txn: None, waits: None, late: false }
    }
}

/// A record in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record.
    pub record: Record,
    /// Its tick.
    pub tick: u64,
    /// The append; a time tick has none.
    pub append: Option<Append>,
    /// Its last confirmed id.
    pub last_confirmed: i64,
}

#[derive(Clone, Debug)]
struct OpenTxn {
    begin: i64,
    keepalive_ms: i64,
    refreshed: u64,
    vchannel: String,
}

impl OpenTxn {
    fn expired_at(&self, tick: u64) -> bool {
        u64::try_from(self.keepalive_ms).is_ok_and(|k| self.refreshed.saturating_add(k << LOGICAL_BITS) <= tick)
    }
}

/// The log of one pchannel.
#[derive(Debug)]
pub struct Log {
    /// The pchannel's name.
    pub name: String,
    /// The term that may append.
    pub term: i64,
    /// It takes no messages of flushers, and does or does not say so.
    pub refuses: Option<bool>,
    entries: VecDeque<Entry>,
    first: i64,
    durable: i64,
    queue: Vec<Append>,
    txns: BTreeMap<i64, OpenTxn>,
    /// The transactions as of the last durable group.
    txns_durable: BTreeMap<i64, OpenTxn>,
    last_tick: u64,
}

impl Log {
    /// A log without records.
    pub fn new(name: String) -> Self {
        Self {
            name,
            term: 0,
            refuses: None,
            entries: VecDeque::new(),
            first: 0,
            durable: -1,
            queue: Vec::new(),
            txns: BTreeMap::new(),
            txns_durable: BTreeMap::new(),
            last_tick: 0,
        }
    }

    /// Queues appends that are to be durable together.
    pub fn submit(&mut self, appends: Vec<Append>) {
        self.queue.extend(appends);
    }

    /// Whether something waits to be written.
    pub fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The first id that is left.
    pub fn first(&self) -> i64 {
        self.first
    }

    /// The last durable id.
    pub fn durable(&self) -> i64 {
        self.durable
    }

    /// The tick of the last group or idle tick.
    pub fn last_tick(&self) -> u64 {
        self.last_tick
    }

    /// Transactions that are open on a channel, or on all of them.
    pub fn open_on(&self, vchannel: Option<&str>) -> Vec<(String, TxnContext)> {
        let wanted = |t: &&OpenTxn| vchannel.is_none_or(|v| v == t.vchannel);
        let context = |(&txn_id, t): (&i64, &OpenTxn)| (t.vchannel.clone(), TxnContext { txn_id, keepalive_ms: t.keepalive_ms });
        self.txns.iter().filter(|(_, t)| wanted(t)).map(context).collect()
    }

    fn oldest_begin(&self) -> Option<i64> {
        self.txns.values().map(|t| t.begin).min()
    }

    /// Writes what is queued, closed by a time tick, as records that are not durable yet. Ticks ascend in the order of the appends; where
    /// `shuffle` says so, the records themselves lie in another order, as those of concurrent writers do.
    pub fn write(&mut self, tso: &mut u64, now_ms: u64, shuffle: bool, rng: &mut Rng) {
        let mut queue = std::mem::take(&mut self.queue);
        let mut next_tick = || {
            *tso = (*tso + 1).max(now_ms << LOGICAL_BITS);
            *tso
        };
        // Ends of transactions that are over are not written, nor are their bodies.
        let mut open: std::collections::BTreeSet<i64> = self.txns.keys().copied().collect();
        queue.retain(|a| match (&a.effect, a.txn) {
            (_, None) => true,
            (Effect::Begin { .. }, Some(t)) => open.insert(t.txn_id),
            (Effect::Commit | Effect::Rollback, Some(t)) => open.remove(&t.txn_id),
            (_, Some(t)) => open.contains(&t.txn_id),
        });
        let group_first = self.durable + 1;
        // Ends of transactions lie behind their bodies.
        let shuffle = shuffle && queue.iter().all(|a| a.txn.is_none());
        let mut written: Vec<Entry> = Vec::with_capacity(queue.len());
        for append in queue {
            let tick = if append.late { self.last_tick.saturating_sub(1 << LOGICAL_BITS) } else { next_tick() };
            let id = group_first + written.len() as i64;
            let oldest = self.oldest_begin().unwrap_or(i64::MAX).min(if shuffle { group_first } else { id });
            let mut meets = id;
            if let Some(txn) = append.txn {
                match &append.effect {
                    Effect::Begin { vchannel } => {
                        let open = OpenTxn { begin: id, keepalive_ms: txn.keepalive_ms, refreshed: tick, vchannel: vchannel.clone() };
                        self.txns.insert(txn.txn_id, open);
                    }
                    Effect::Commit | Effect::Rollback => {
                        let Some(open) = self.txns.remove(&txn.txn_id) else { continue };
                        meets = open.begin;
                        if append.effect == Effect::Commit && open.expired_at(tick) {
                            continue;
                        }
                    }
                    _ => match self.txns.get_mut(&txn.txn_id).filter(|t| !t.expired_at(tick)) {
                        Some(open) => open.refreshed = tick,
                        None => continue,
                    },
                }
            }
            // A log whose record comes too late has confirmed nothing: everything must be read again to meet what follows its tick.
            let last_confirmed = if append.late { self.first } else { oldest.min(meets) };
            let (payload, properties) = append.message.clone().stamp(tick, &MessageId::RocksMq(last_confirmed), self.term);
            let record = Record { id: MessageId::RocksMq(id), payload, properties };
            written.push(Entry { record, tick, append: Some(append), last_confirmed });
        }
        if shuffle {
            for at in (1..written.len()).rev() {
                written.swap(at, rng.below(at as u64 + 1) as usize);
            }
            for (at, entry) in written.iter_mut().enumerate() {
                entry.record.id = MessageId::RocksMq(group_first + at as i64);
            }
        }
        self.entries.extend(written);
        let (id, tick) = (self.first + self.entries.len() as i64, next_tick());
        let lc = self.oldest_begin().unwrap_or(i64::MAX).min(id);
        let (payload, properties) = build::time_tick().stamp(tick, &MessageId::RocksMq(lc), self.term);
        let record = Record { id: MessageId::RocksMq(id), payload, properties };
        self.entries.push_back(Entry { record, tick, append: None, last_confirmed: lc });
        self.last_tick = tick;
        self.txns.retain(|_, t| !t.expired_at(tick));
    }

    /// Makes what was written durable; returns the first of it.
    pub fn sync(&mut self) -> i64 {
        let from = self.durable + 1;
        self.durable = self.first + self.entries.len() as i64 - 1;
        self.txns_durable = self.txns.clone();
        from
    }

    /// The power is gone: what is not durable vanishes, and so does what is queued. Returns what was lost.
    pub fn lose_power(&mut self) -> Vec<Append> {
        let keep = (self.durable + 1 - self.first) as usize;
        let mut lost: Vec<Append> = self.entries.split_off(keep.min(self.entries.len())).into_iter().filter_map(|e| e.append).collect();
        lost.append(&mut self.queue);
        self.txns = self.txns_durable.clone();
        lost
    }

    /// A record by its id, if it is there and durable.
    pub fn get(&self, id: i64) -> Option<&Entry> {
        (id <= self.durable).then(|| self.entries.get(usize::try_from(id - self.first).ok()?)).flatten()
    }

    /// Lets go of the records before an id.
    pub fn truncate(&mut self, up_to: i64) {
        while self.first < up_to.min(self.durable) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// Time goes on and nothing is written: the tick and the last confirmed id that readers hear of.
    pub fn idle(&mut self, tso: &mut u64, now_ms: u64) -> (u64, i64) {
        *tso = (*tso + 1).max(now_ms << LOGICAL_BITS);
        self.last_tick = *tso;
        let tick = *tso;
        self.txns.retain(|_, t| !t.expired_at(tick));
        self.txns_durable.retain(|_, t| !t.expired_at(tick));
        (tick, self.oldest_begin().unwrap_or(i64::MAX).min(self.durable))
    }
}

/// Reads the id of the simulated log.
pub fn raw(id: &MessageId) -> i64 {
    match id {
        MessageId::RocksMq(id) => *id,
        _ => -1,
    }
}
