//! The transactions that are open on a log.

use std::collections::BTreeMap;

use tidegate_message::{Message, MessageType, TxnContext};

use super::LogLimits;
use crate::wal::LogError;

/// Bits of a time tick below its milliseconds.
const LOGICAL_BITS: u32 = 18;

/// One open transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenTxn {
    /// Id of its Begin.
    pub begin: i64,
    /// Its lease; negative for ever.
    pub keepalive_ms: i64,
    /// Its vchannel.
    pub vchannel: String,
    /// Tick of its last message.
    refreshed: u64,
    /// Size of its bodies.
    bytes: usize,
}

impl OpenTxn {
    fn expired_at(&self, tick: u64) -> bool {
        u64::try_from(self.keepalive_ms)
            .is_ok_and(|keepalive| self.refreshed.saturating_add(keepalive.saturating_mul(1 << LOGICAL_BITS)) <= tick)
    }

    /// Returns the form in the transaction table: begin, lease, vchannel.
    pub fn encode(&self) -> Vec<u8> {
        [&self.begin.to_be_bytes()[..], &self.keepalive_ms.to_be_bytes(), self.vchannel.as_bytes()].concat()
    }

    /// Reads what [`OpenTxn::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Option<OpenTxn> {
        let (begin, rest) = bytes.split_first_chunk()?;
        let (keepalive, vchannel) = rest.split_first_chunk()?;
        Some(OpenTxn {
            begin: i64::from_be_bytes(*begin),
            keepalive_ms: i64::from_be_bytes(*keepalive),
            vchannel: String::from_utf8(vchannel.to_vec()).ok()?,
            refreshed: 0,
            bytes: 0,
        })
    }
}

/// The open transactions, by id.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenTxns(pub BTreeMap<i64, OpenTxn>);

impl OpenTxns {
    /// Returns the id of the oldest Begin: nothing from there on may be skipped.
    pub fn oldest_begin(&self) -> Option<i64> {
        self.0.values().map(|txn| txn.begin).min()
    }

    /// Judges a message that is about to be written at `id`, and takes note of it. A transaction that the message's tick finds expired
    /// stays; the caller discards it.
    ///
    /// # Errors
    /// [`LogError::NotOpen`], or [`LogError::Invalid`] for another vchannel than the Begin's or too many bytes.
    pub fn admit(&mut self, id: i64, message: &Message, limits: &LogLimits) -> Result<(), LogError> {
        let Some(TxnContext { txn_id, keepalive_ms }) = message.txn else { return Ok(()) };
        if message.kind == MessageType::BEGIN_TXN {
            if self.0.len() >= limits.txns_max {
                return Err(LogError::Invalid(format!("{} transactions are open, the most that one log takes", limits.txns_max)));
            }
            let vchannel = message.vchannel.clone();
            self.0.insert(txn_id, OpenTxn { begin: id, keepalive_ms, vchannel, refreshed: message.tick, bytes: 0 });
            return Ok(());
        }
        let txn = self.0.get_mut(&txn_id).ok_or(LogError::NotOpen { txn_id })?;
        if message.kind == MessageType::ROLLBACK_TXN {
            self.0.remove(&txn_id);
            return Ok(());
        }
        if txn.expired_at(message.tick) {
            return Err(LogError::NotOpen { txn_id });
        }
        if txn.vchannel != message.vchannel {
            return Err(LogError::Invalid(format!(
                "a message for {} in transaction {txn_id}, which is of {}",
                message.vchannel, txn.vchannel
            )));
        }
        if message.kind == MessageType::COMMIT_TXN {
            self.0.remove(&txn_id);
            return Ok(());
        }
        txn.bytes = txn.bytes.saturating_add(message.size());
        if txn.bytes > limits.txn_bytes_max {
            return Err(LogError::Invalid(format!("transaction {txn_id} would exceed {} bytes", limits.txn_bytes_max)));
        }
        txn.refreshed = message.tick;
        Ok(())
    }

    /// Discards what expired by `tick`.
    pub fn expire(&mut self, tick: u64) {
        self.0.retain(|_, txn| !txn.expired_at(tick));
    }

    /// Returns the transactions that a message ends because it changes their channel, as Milvus does for messages that are appended
    /// exclusively: definitions, manual flushes, changes of the log itself.
    pub fn ended_by(&self, message: &Message) -> Vec<(String, TxnContext)> {
        let exclusive = matches!(
            message.kind,
            MessageType::CREATE_COLLECTION
                | MessageType::DROP_COLLECTION
                | MessageType::CREATE_PARTITION
                | MessageType::DROP_PARTITION
                | MessageType::MANUAL_FLUSH
                | MessageType::SCHEMA_CHANGE
                | MessageType::ALTER_COLLECTION
                | MessageType::FLUSH_ALL
                | MessageType::ALTER_WAL
                | MessageType::ALTER_REPLICATE_CONFIG
        );
        let everywhere = message.pchannel_level || message.vchannel.is_empty();
        self.contexts().filter(|(vchannel, _)| exclusive && (everywhere || *vchannel == message.vchannel)).collect()
    }

    /// Returns each transaction with its vchannel.
    pub fn contexts(&self) -> impl Iterator<Item = (String, TxnContext)> {
        self.0.iter().map(|(&txn_id, txn)| (txn.vchannel.clone(), TxnContext { txn_id, keepalive_ms: txn.keepalive_ms }))
    }
}
