//! Ids and time ticks from windows that are durable before use: neither a restart nor a clock that steps back issues one twice.
//!
//! ```text
//! issued │ free, already recorded as used │ …
//!      next                             limit      after a restart next = limit
//! ```

use super::record::{self, LoadError, Write};
use crate::calls::CallError;

/// Ticks of how many milliseconds are recorded as used at once: Milvus' TSO saves 3 s ahead. A busy log pays one fsync each.
pub const TICK_WINDOW_MS: u64 = 3_000;
/// Ids recorded as used at once: a restart skips at most so many.
const ID_WINDOW: i64 = 10_000;
/// The first id. Log id 1 means merged statistics, 0 means none, and field ids start at 100.
const FIRST_ID: i64 = 1_000;
/// A tick is milliseconds since 1970 above this many bits of counter.
const COUNTER_BITS: u32 = 18;

const IDS: &[u8] = b"window/ids";
const TICKS: &[u8] = b"window/ticks";

/// The allocators of ids and ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    next_id: i64,
    id_limit: i64,
    next_tick: u64,
    tick_limit: u64,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows { next_id: FIRST_ID, id_limit: FIRST_ID, next_tick: 1, tick_limit: 1 }
    }
}

impl Windows {
    /// Rebuilds the allocators from what their writes left behind.
    ///
    /// # Errors
    ///
    /// An entry that this version does not understand.
    pub fn load(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Result<Windows, LoadError> {
        let mut windows = Windows::default();
        for (key, value) in entries {
            match key.as_slice() {
                IDS => windows.id_limit = record::decode(&key, &value)?,
                TICKS => windows.tick_limit = record::decode(&key, &value)?,
                _ => return Err(LoadError::Key(String::from_utf8_lossy(&key).into_owned())),
            }
        }
        Ok(Windows { next_id: windows.id_limit, next_tick: windows.tick_limit, ..windows })
    }

    /// Allocates `count` consecutive ids and returns the first. The write, if there is one, must be durable before an id is used.
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] when ids are used up.
    pub fn alloc_ids(&mut self, count: u32) -> Result<(i64, Option<Write>), CallError> {
        let used_up = || CallError::Permanent(format!("no {count} ids above {}", self.next_id));
        let first = self.next_id;
        let next = first.checked_add(i64::from(count)).ok_or_else(used_up)?;
        let limit = if next > self.id_limit { next.checked_add(ID_WINDOW).ok_or_else(used_up)? } else { self.id_limit };
        let write = (limit != self.id_limit).then(|| Write { key: IDS.to_vec(), value: Some(record::encode(&limit)) });
        (self.next_id, self.id_limit) = (next, limit);
        Ok((first, write))
    }

    /// Allocates `count` consecutive ticks, at or above the clock's and above all earlier ones, and returns the first.
    /// The write, if there is one, must be durable before a tick is used.
    ///
    /// # Errors
    ///
    /// [`CallError::Permanent`] when the clock is beyond what a tick holds (46 bits of milliseconds).
    pub fn alloc_ticks(&mut self, now_ms: u64, count: u32) -> Result<(u64, Option<Write>), CallError> {
        let beyond = || CallError::Permanent(format!("no {count} ticks above {} at {now_ms} ms", self.next_tick));
        let clock = now_ms.checked_mul(1 << COUNTER_BITS).ok_or_else(beyond)?;
        let first = self.next_tick.max(clock);
        let next = first.checked_add(u64::from(count)).ok_or_else(beyond)?;
        let ahead = || next.checked_add(TICK_WINDOW_MS << COUNTER_BITS).filter(|limit| *limit < u64::MAX).ok_or_else(beyond);
        let limit = if next > self.tick_limit { ahead()? } else { self.tick_limit };
        let write = (limit != self.tick_limit).then(|| Write { key: TICKS.to_vec(), value: Some(record::encode(&limit)) });
        (self.next_tick, self.tick_limit) = (next, limit);
        Ok((first, write))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_busy_log_writes_a_tick_window_once_in_three_seconds() {
        let mut windows = Windows::default();
        let writes = (0..6_000).filter(|ms| windows.alloc_ticks(1_700_000_000_000 + ms, 5).unwrap().1.is_some());
        assert_eq!(writes.count(), 2);
    }

    #[test]
    fn a_clock_beyond_the_ticks_is_refused() {
        assert!(matches!(Windows::default().alloc_ticks(1 << 46, 1), Err(CallError::Permanent(_))));
        assert!(matches!(Windows::default().alloc_ticks((1 << 46) - 1, 1), Err(CallError::Permanent(_))));
    }

    proptest! {
        #[test]
        fn ids_and_ticks_only_grow_whatever_the_clock_does_and_whenever_it_restarts(
            steps in proptest::collection::vec((0u64..20_000, 0u32..30_000, prop::bool::weighted(0.1)), 1..200),
        ) {
            let mut disk = std::collections::BTreeMap::new();
            let mut windows = Windows::default();
            let (mut id_above, mut tick_above) = (0, 0);
            for (ms, count, restart) in steps {
                if restart {
                    windows = Windows::load(disk.clone()).unwrap();
                }
                let (id, ids) = windows.alloc_ids(count).unwrap();
                let (tick, ticks) = windows.alloc_ticks(ms, count).unwrap();
                disk.extend(ids.into_iter().chain(ticks).map(|write| (write.key, write.value.unwrap())));
                prop_assert!(id >= id_above && tick >= tick_above && tick >= ms << 18);
                (id_above, tick_above) = (id + i64::from(count), tick + u64::from(count));
            }
        }
    }
}
