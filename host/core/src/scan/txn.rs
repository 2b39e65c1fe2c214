//! Assembles transactions out of messages in tick order.

use std::collections::BTreeMap;

use tidegate_message::{Header, Message, MessageType, TxnContext};

use super::{ScanCounters, ScanLimits, Scanned};
use crate::mutants::{Mutant, is_mutated};

/// Bits of a time tick below its milliseconds.
const LOGICAL_BITS: u32 = 18;

/// A message on its way through the transactions.
pub(super) struct Body {
    /// The message.
    pub message: Message,
    /// Bytes of its payload that were let go, to be read again.
    pub let_go: usize,
}

impl Body {
    /// What comes out for it.
    fn out(self, scanned: impl FnOnce(Box<Message>) -> Scanned) -> Scanned {
        let scanned = scanned(Box::new(self.message));
        if self.let_go > 0 { Scanned::Parked(Box::new(scanned)) } else { scanned }
    }
}

/// One transaction whose end was not yet read.
#[derive(Default)]
struct Open {
    /// Negative: never expires.
    keepalive_ms: i64,
    /// Tick of the last body, or of Begin.
    refreshed: u64,
    bodies: Vec<Body>,
    bytes: usize,
    /// Bytes of the bodies that were let go.
    let_go: usize,
    /// Why none of its rows may be used.
    spoiled: Option<String>,
}

impl Open {
    fn expires_at(&self) -> Option<u64> {
        let keepalive = u64::try_from(self.keepalive_ms).ok()?;
        Some(self.refreshed.saturating_add(keepalive.saturating_mul(1 << LOGICAL_BITS)))
    }

    /// Marks the transaction; the first reason stays.
    fn spoil(&mut self, reason: String) {
        self.spoiled.get_or_insert(reason);
    }
}

/// The open transactions of a scan.
///
/// | message                                | outcome                                                                     |
/// |----------------------------------------|-----------------------------------------------------------------------------|
/// | force-promote `AlterReplicateConfig`   | rolls back every open transaction, then passes                              |
/// | outside a transaction                  | passes at once, also ahead of a transaction that is open                    |
/// | Begin                                  | opens; an open one of the same id is discarded (replication may resend it)  |
/// | body                                   | kept; refreshes the lease; of an unknown id: counted, ignored               |
/// | Commit                                 | its bodies pass, at its tick and last confirmed; unknown: counted, ignored  |
/// | Rollback                               | discards                                                                    |
/// | a bad record of a transaction          | spoils it: its bodies are quarantined when its Commit is met                |
/// | nothing until tick ≥ last tick + lease | discards, judged after the whole batch that a tick released                 |
#[derive(Default)]
pub(super) struct Transactions {
    open: BTreeMap<i64, Open>,
    bytes: usize,
}

impl Transactions {
    /// Returns the size of the bodies held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Takes one message in tick order.
    pub fn take(&mut self, body: Body, limits: &ScanLimits, counters: &mut ScanCounters, out: &mut Vec<Scanned>) {
        let message = &body.message;
        if let Header::AlterReplicateConfig { force_promote: true, ignore: false } = message.header {
            counters.rolled_back += self.open.len() as u64;
            self.open.clear();
            self.bytes = 0;
        }
        let Some(txn) = message.txn else {
            out.push(body.out(|message| Scanned::Message(message, false)));
            return;
        };
        match message.kind {
            MessageType::BEGIN_TXN => self.begin(txn.txn_id, txn.keepalive_ms, message.tick, counters),
            MessageType::COMMIT_TXN => match self.close(txn.txn_id) {
                Some(open) => commit(open, message, counters, out),
                None => counters.orphans += 1,
            },
            MessageType::ROLLBACK_TXN => match self.close(txn.txn_id) {
                Some(open) if is_mutated(Mutant::RollbackCommits) => commit(open, message, counters, out),
                Some(_) => counters.rolled_back += 1,
                None => counters.orphans += 1,
            },
            _ => self.body(txn.txn_id, body, limits, counters),
        }
    }

    /// Takes note of a record of a transaction that cannot be used: a bad body or Begin spoils it, a bad Commit ends it spoiled.
    pub fn spoil_by(
        &mut self,
        kind: MessageType,
        txn: TxnContext,
        tick: u64,
        reason: &str,
        counters: &mut ScanCounters,
        out: &mut Vec<Scanned>,
    ) {
        let reason = format!("its transaction {} lost a record: {reason}", txn.txn_id);
        if kind == MessageType::BEGIN_TXN {
            self.begin(txn.txn_id, txn.keepalive_ms, tick, counters);
        }
        let Some(open) = self.open.get_mut(&txn.txn_id) else { return };
        open.spoil(reason);
        open.refreshed = open.refreshed.max(tick);
        if kind == MessageType::COMMIT_TXN
            && let Some(open) = self.close(txn.txn_id)
        {
            quarantine(open, counters, out);
        }
    }

    /// Discards what expired by `tick`.
    pub fn expire(&mut self, tick: u64, counters: &mut ScanCounters) {
        let bytes = &mut self.bytes;
        self.open.retain(|_, open| {
            let expired = open.expires_at().is_some_and(|at| at <= tick);
            if expired {
                counters.expired += 1;
                *bytes -= open.bytes;
            }
            !expired
        });
    }

    fn begin(&mut self, id: i64, keepalive_ms: i64, tick: u64, counters: &mut ScanCounters) {
        if self.close(id).is_some() {
            counters.replaced += 1;
        }
        self.open.insert(id, Open { keepalive_ms, refreshed: tick, ..Open::default() });
    }

    fn body(&mut self, id: i64, mut body: Body, limits: &ScanLimits, counters: &mut ScanCounters) {
        let Some(open) = self.open.get_mut(&id) else {
            counters.orphans += 1;
            return;
        };
        open.refreshed = body.message.tick;
        let size = body.message.size();
        open.let_go = open.let_go.saturating_add(body.let_go);
        if open.bytes.saturating_add(open.let_go).saturating_add(size) > limits.transaction_bytes_max {
            open.spoil(format!("its transaction {id} is larger than {} bytes", limits.transaction_bytes_max));
            // Nothing of it is written, so nothing of it need be held; each payload is read again for its dead letter.
            for body in open.bodies.iter_mut().chain([&mut body]) {
                body.let_go += std::mem::take(&mut body.message.payload).len();
            }
            self.bytes -= std::mem::replace(&mut open.bytes, open.bodies.iter().map(|b| b.message.size()).sum());
            self.bytes += open.bytes;
        }
        let size = body.message.size();
        open.bytes += size;
        self.bytes += size;
        open.bodies.push(body);
    }

    fn close(&mut self, id: i64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.bytes -= open.bytes;
        Some(open)
    }
}

/// Lets the bodies of a committed transaction pass, as of its Commit.
fn commit(open: Open, commit: &Message, counters: &mut ScanCounters, out: &mut Vec<Scanned>) {
    if open.spoiled.is_some() {
        return quarantine(open, counters, out);
    }
    counters.committed += 1;
    out.extend(open.bodies.into_iter().map(|mut body| {
        if !is_mutated(Mutant::BodiesAtOwnTick) {
            body.message.tick = commit.tick;
        }
        body.message.last_confirmed =
            if is_mutated(Mutant::BodiesAtOwnPlace) { body.message.id.clone() } else { commit.last_confirmed.clone() };
        body.out(|message| Scanned::Message(message, false))
    }));
}

/// Gives out the bodies of a spoiled transaction for what they are.
fn quarantine(open: Open, counters: &mut ScanCounters, out: &mut Vec<Scanned>) {
    let reason = open.spoiled.unwrap_or_default();
    counters.quarantined += open.bodies.len() as u64;
    out.extend(open.bodies.into_iter().map(|body| body.out(|message| Scanned::Quarantined { message, reason: reason.clone() })));
}
