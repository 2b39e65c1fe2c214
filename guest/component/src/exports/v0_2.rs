//! What contract 0.2.0 adds: the accounts, one list a field.

use tidegate_flusher::contract::Logic;

use super::exports::tidegate::flusher::logic;
use super::glue;

/// Returns what the version holds.
pub(super) fn accounts() -> logic::Holdings {
    let held = glue::with(|version| Logic::accounts(version));
    logic::Holdings {
        channels: held.iter().map(|h| h.channel).collect(),
        deletes: held.iter().map(|h| h.deletes).collect(),
        ids: held.iter().map(|h| h.id).collect(),
        first: held.iter().map(|h| h.first).collect(),
        last: held.iter().map(|h| h.last).collect(),
        rows: held.iter().map(|h| h.rows).collect(),
        bytes: held.iter().map(|h| h.bytes).collect(),
    }
}
