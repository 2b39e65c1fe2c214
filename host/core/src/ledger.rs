//! LD-1: every delivered row ends as exactly one of durable, duplicate, filtered, quarantined, or is pending.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::turn::FilterReason;

/// One channel's rows of one kind since the scan was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Rows that the scanner delivered.
    pub delivered: u64,
    /// Rows in files that the coordinator has.
    pub durable: u64,
    /// Rows that were durable before the scan met them.
    pub duplicate: u64,
    /// Rows that are not stored, by reason.
    pub filtered: BTreeMap<FilterReason, u64>,
    /// Rows in the dead-letter file.
    pub quarantined: u64,
    /// Rows that wait.
    pub pending: u64,
}

/// How a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In a file that the coordinator has.
    Durable,
    /// Not stored, for a reason.
    Filtered(FilterReason),
    /// In the dead-letter file.
    Quarantined,
}

impl Account {
    /// Counts rows that arrive: they are pending.
    pub fn deliver(&mut self, rows: u64) {
        self.delivered += rows;
        self.pending += rows;
    }

    /// Ends pending rows.
    pub fn end(&mut self, rows: u64, end: End) {
        debug_assert!(self.pending >= rows, "LD-1: {rows} rows end, {} are pending", self.pending);
        self.pending = self.pending.saturating_sub(rows);
        match end {
            End::Durable => self.durable += rows,
            End::Filtered(FilterReason::Duplicate) => self.duplicate += rows,
            End::Filtered(reason) => *self.filtered.entry(reason).or_default() += rows,
            End::Quarantined => self.quarantined += rows,
        }
    }

    /// Whether every delivered row is accounted for once.
    pub fn balances(&self) -> bool {
        let filtered: u64 = self.filtered.values().sum();
        self.delivered == self.durable + self.duplicate + filtered + self.quarantined + self.pending
    }

    /// Whether it balances and nothing is pending.
    pub fn is_closed(&self) -> bool {
        self.balances() && self.pending == 0
    }

    /// Returns the account of the rows that have ended: those that wait will be met again.
    pub fn ended(&self) -> Account {
        Account { delivered: self.delivered - self.pending, pending: 0, ..self.clone() }
    }

    /// Adds another account, for totals.
    pub fn add(&mut self, other: &Account) {
        self.delivered += other.delivered;
        self.durable += other.durable;
        self.duplicate += other.duplicate;
        self.quarantined += other.quarantined;
        self.pending += other.pending;
        for (&reason, rows) in &other.filtered {
            *self.filtered.entry(reason).or_default() += rows;
        }
    }
}

/// One channel's ledger: inserts and deletes apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Inserted rows.
    pub inserts: Account,
    /// Deleted keys.
    pub deletes: Account,
}

impl Ledger {
    /// Returns the ledger of the rows that have ended: those that wait will be met again.
    pub fn ended(&self) -> Ledger {
        Ledger { inserts: self.inserts.ended(), deletes: self.deletes.ended() }
    }

    /// Whether both accounts balance and nothing is pending.
    pub fn is_closed(&self) -> bool {
        self.inserts.is_closed() && self.deletes.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_end_once_and_the_account_closes() {
        let mut account = Account::default();
        account.deliver(10);
        account.end(4, End::Durable);
        account.end(1, End::Filtered(FilterReason::Duplicate));
        account.end(2, End::Filtered(FilterReason::DroppedPartition));
        assert!(account.balances() && !account.is_closed());
        account.end(3, End::Quarantined);
        assert!(account.is_closed());
        assert_eq!(account.filtered[&FilterReason::DroppedPartition], 2);
    }
}
