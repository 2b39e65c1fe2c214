//! Calls in flight: tried again with backoff until they end.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

use crate::mutants::{Mutant, is_mutated};

/// Names a call between an action and its event.
pub type CallId = u64;
/// Whom a call changes something for, such as a channel.
pub type Owner = u32;

/// First wait before a call is tried again, in milliseconds: short, since most faults are a restart.
pub const BACKOFF_FIRST_MS: u64 = 100;
/// Longest wait, in milliseconds: an operator who mends the peer should not wait longer.
pub const BACKOFF_MAX_MS: u64 = 10_000;

/// How long a peer may leave a call without an answer, in milliseconds, before it is made again: longer than any peer's own time limit.
pub const DEADLINE_MS: u64 = 120_000;

/// The wait after so many failures.
pub fn backoff_ms(failures: u32) -> u64 {
    doubled_ms(failures, BACKOFF_FIRST_MS, BACKOFF_MAX_MS)
}

/// The wait after so many failures, when the first one is `first_ms`, each one doubles, and none is longer than `max_ms`.
pub fn doubled_ms(failures: u32, first_ms: u64, max_ms: u64) -> u64 {
    let doublings = failures.saturating_sub(1);
    // What no longer fits is longer than any limit.
    if doublings > first_ms.leading_zeros() { max_ms } else { (first_ms << doublings.min(63)).min(max_ms) }
}

/// One call.
#[derive(Clone, Debug)]
pub struct InFlight<T> {
    /// What is called, and for whom.
    pub what: T,
    /// Failures so far.
    pub failures: u32,
    /// Those of them that were answers which were not believed: "not found", or a state of the past.
    pub disbelieved: u32,
    /// The last failure.
    pub last_error: Option<String>,
    /// When the call was first made, in milliseconds.
    pub since_ms: u64,
    /// When the attempt that a peer works on is given up, in milliseconds; `None` while there is none, or it may take its time.
    deadline_ms: Option<u64>,
    /// When it is made again, in milliseconds; `None` while it does not wait for that.
    due_ms: Option<u64>,
}

/// The table of calls in flight.
#[derive(Clone, Debug)]
pub struct Calls<T> {
    next: CallId,
    in_flight: BTreeMap<CallId, InFlight<T>>,
    due: BTreeSet<(u64, CallId)>,
    parked: BTreeSet<CallId>,
    deadlines: BTreeSet<(u64, CallId)>,
    /// Attempts that peers have not answered, those included whose call was made again since, or is over.
    unanswered: BTreeMap<CallId, Attempts>,
    /// The same, counted by owner.
    owned: BTreeMap<Owner, usize>,
    /// Attempts whose deadline has passed: when they stop to count, in milliseconds. A peer that has not worked on one for as long again
    /// will not do so any more.
    abandoned: BTreeSet<(u64, CallId)>,
}

/// Attempts of one call that are not answered.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    count: usize,
    owner: Option<Owner>,
}

impl<T> Default for Calls<T> {
    fn default() -> Self {
        Self {
            next: 1,
            in_flight: BTreeMap::new(),
            due: BTreeSet::new(),
            parked: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            owned: BTreeMap::new(),
            abandoned: BTreeSet::new(),
        }
    }
}

impl<T: Clone> Calls<T> {
    /// Begins a call.
    pub fn begin(&mut self, what: T, now_ms: u64) -> CallId {
        let id = self.next;
        self.next += 1;
        let call = InFlight { what, failures: 0, disbelieved: 0, last_error: None, since_ms: now_ms, deadline_ms: None, due_ms: None };
        self.in_flight.insert(id, call);
        id
    }

    /// Notes that a call goes to its peer, which has until `deadline_ms` to answer, or for ever. `owner` is whom it changes something for.
    pub fn sent(&mut self, id: CallId, owner: Option<Owner>, deadline_ms: Option<u64>) {
        let attempts = self.unanswered.entry(id).or_default();
        attempts.count += 1;
        attempts.owner = owner;
        if let Some(owner) = owner {
            *self.owned.entry(owner).or_default() += 1;
        }
        if let Some(call) = self.in_flight.get_mut(&id) {
            call.deadline_ms = deadline_ms;
            self.deadlines.extend(deadline_ms.map(|at| (at, id)));
        }
    }

    /// Ends a call whose peer answered, and returns what it was; `None` for one that was forgotten, or that another attempt ended.
    pub fn end(&mut self, id: CallId) -> Option<InFlight<T>> {
        self.one_less(id);
        let call = self.take(id);
        if call.is_none()
            && let Some(&abandoned) = self.abandoned.iter().find(|(_, of)| *of == id)
        {
            self.abandoned.remove(&abandoned);
        }
        call
    }

    /// One attempt of a call counts no more.
    fn one_less(&mut self, id: CallId) {
        if let Entry::Occupied(mut attempts) = self.unanswered.entry(id) {
            let owner = attempts.get().owner;
            attempts.get_mut().count -= 1;
            if attempts.get().count == 0 {
                attempts.remove();
            }
            if let Some(Entry::Occupied(mut owned)) = owner.map(|owner| self.owned.entry(owner)) {
                *owned.get_mut() -= 1;
                if *owned.get() == 0 {
                    owned.remove();
                }
            }
        }
    }

    fn take(&mut self, id: CallId) -> Option<InFlight<T>> {
        let call = self.in_flight.remove(&id)?;
        self.deadlines.remove(&(call.deadline_ms.unwrap_or_default(), id));
        // A late answer may end one that waits to be made again.
        self.due.remove(&(call.due_ms.unwrap_or_default(), id));
        Some(call)
    }

    /// Takes the calls whose peers did not answer in time; an answer that still comes ends nothing.
    pub fn overdue(&mut self, now_ms: u64) -> Vec<(CallId, InFlight<T>)> {
        let mut overdue = Vec::new();
        while let Some(&(at, id)) = self.abandoned.first().filter(|(at, _)| *at <= now_ms) {
            self.abandoned.remove(&(at, id));
            self.one_less(id);
        }
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now_ms) {
            self.deadlines.remove(&(at, id));
            if is_mutated(Mutant::OverdueForgotten) {
                self.one_less(id);
            } else if !is_mutated(Mutant::AttemptsCountForEver) {
                self.abandoned.insert((now_ms.saturating_add(DEADLINE_MS), id));
            }
            overdue.extend(self.take(id).map(|call| (id, call)));
        }
        overdue
    }

    /// Puts a failed call back, to be made again after its backoff.
    pub fn fail(&mut self, id: CallId, mut call: InFlight<T>, error: String, now_ms: u64) {
        call.failures = call.failures.saturating_add(1);
        call.last_error = Some(error);
        call.deadline_ms = None;
        let wait = if is_mutated(Mutant::NoBackoff) { 1 } else { backoff_ms(call.failures) };
        let due_ms = now_ms.saturating_add(wait);
        call.due_ms = Some(due_ms);
        self.due.insert((due_ms, id));
        self.in_flight.insert(id, call);
    }

    /// Puts a call back whose answer is not believed.
    pub fn disbelieve(&mut self, id: CallId, mut call: InFlight<T>, why: String, now_ms: u64) {
        call.disbelieved = call.disbelieved.saturating_add(1);
        self.fail(id, call, why, now_ms);
    }

    /// Takes the calls whose backoff has passed.
    pub fn due(&mut self, now_ms: u64) -> Vec<(CallId, T)> {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.due.first() {
            if at > now_ms {
                break;
            }
            self.due.pop_first();
            due.extend(self.in_flight.get_mut(&id).map(|call| {
                call.due_ms = None;
                (id, call.what.clone())
            }));
        }
        due
    }

    /// Holds a call back that was not made yet.
    pub fn park(&mut self, id: CallId) {
        self.parked.insert(id);
    }

    /// Releases a call that was held back.
    pub fn unpark(&mut self, id: CallId) -> Option<T> {
        self.parked.remove(&id);
        self.in_flight.get(&id).map(|c| c.what.clone())
    }

    /// Whether a call is held back.
    pub fn is_parked(&self, id: CallId) -> bool {
        self.parked.contains(&id)
    }

    /// When the next backoff or deadline passes, or an attempt stops to count, in milliseconds.
    pub fn next_due(&self) -> Option<u64> {
        [self.due.first(), self.deadlines.first(), self.abandoned.first()].into_iter().flatten().map(|&(at, _)| at).min()
    }

    /// Iterates over the calls in flight.
    pub fn iter(&self) -> impl Iterator<Item = &InFlight<T>> {
        self.in_flight.values()
    }

    /// Number of calls in flight, those that wait for their backoff included.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether none is in flight.
    pub fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Number of attempts that peers may still be working on.
    pub fn at_peer(&self) -> usize {
        self.unanswered.values().map(|attempts| attempts.count).sum()
    }

    /// Number of attempts that peers may still be working on for an owner.
    pub fn at_peer_of(&self, owner: Owner) -> usize {
        self.owned.get(&owner).copied().unwrap_or_default()
    }

    /// Returns a call in flight.
    pub fn get(&self, id: CallId) -> Option<&InFlight<T>> {
        self.in_flight.get(&id)
    }

    /// Forgets the calls that are not at a peer; the others still end.
    pub fn forget_waiting(&mut self) {
        self.forget_waiting_where(|_| true);
    }

    /// Forgets those of the calls that are not at a peer for which `gone` holds, and returns them.
    pub fn forget_waiting_where(&mut self, gone: impl Fn(&T) -> bool) -> Vec<T> {
        let in_flight = &mut self.in_flight;
        let mut forgotten = Vec::new();
        let mut keep = |id: &CallId| {
            let keep = in_flight.get(id).is_some_and(|call| !gone(&call.what));
            if !keep {
                forgotten.extend(in_flight.remove(id).map(|call| call.what));
            }
            keep
        };
        self.due.retain(|(_, id)| keep(id));
        self.parked.retain(|id| keep(id));
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_stays_within_its_bounds() {
        let waits: Vec<u64> = (1..=9).map(backoff_ms).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff_ms(u32::MAX), BACKOFF_MAX_MS);
    }

    #[test]
    fn a_failed_call_is_due_after_its_backoff_and_not_before() {
        let mut calls = Calls::default();
        let id = calls.begin("save", 0);
        calls.sent(id, None, None);
        let call = calls.end(id).unwrap();
        calls.fail(id, call, "slow".into(), 1_000);
        assert_eq!(calls.at_peer(), 0);
        assert!(calls.due(1_099).is_empty());
        assert_eq!(calls.due(1_100), [(id, "save")]);
    }

    #[test]
    fn a_call_that_is_not_answered_in_time_is_made_again_and_its_first_attempt_is_still_out() {
        let mut calls = Calls::default();
        let id = calls.begin("save", 0);
        calls.sent(id, Some(7), Some(DEADLINE_MS));
        assert!(calls.overdue(DEADLINE_MS - 1).is_empty());
        let [(again, call)] = <[_; 1]>::try_from(calls.overdue(DEADLINE_MS)).unwrap();
        calls.fail(again, call, "no answer".into(), DEADLINE_MS);
        assert_eq!(calls.due(2 * DEADLINE_MS), [(id, "save")]);
        calls.sent(id, Some(7), Some(3 * DEADLINE_MS));
        assert_eq!((calls.at_peer(), calls.at_peer_of(7), calls.at_peer_of(8)), (2, 2, 0));
        assert!(calls.end(id).is_some(), "the first answer ends it");
        assert_eq!((calls.at_peer(), calls.end(id).is_none(), calls.at_peer()), (1, true, 0));
        assert_eq!((calls.next_due(), calls.is_empty(), calls.at_peer_of(7)), (None, true, 0));
    }

    #[test]
    fn a_late_answer_that_is_no_good_leaves_one_attempt_to_be_made() {
        let mut calls = Calls::default();
        let id = calls.begin("ask", 0);
        calls.sent(id, None, Some(DEADLINE_MS));
        let (again, call) = calls.overdue(DEADLINE_MS).pop().unwrap();
        calls.fail(again, call, "no answer".into(), DEADLINE_MS);
        let call = calls.end(id).unwrap();
        calls.disbelieve(id, call, "not found".into(), DEADLINE_MS + 1);
        assert!(calls.due(DEADLINE_MS + BACKOFF_FIRST_MS).is_empty(), "the wait of the attempt before is over with it");
        assert_eq!(calls.due(DEADLINE_MS + 1 + 2 * BACKOFF_FIRST_MS), [(id, "ask")]);
    }

    #[test]
    fn an_attempt_that_is_never_answered_stops_to_count_after_twice_its_time() {
        let mut calls = Calls::default();
        let id = calls.begin("save", 0);
        calls.sent(id, None, Some(DEADLINE_MS));
        let (again, call) = calls.overdue(DEADLINE_MS).pop().unwrap();
        calls.fail(again, call, "no answer".into(), DEADLINE_MS);
        calls.forget_waiting();
        assert_eq!((calls.at_peer(), calls.next_due()), (1, Some(2 * DEADLINE_MS)));
        assert!(calls.overdue(2 * DEADLINE_MS).is_empty());
        assert_eq!((calls.at_peer(), calls.next_due()), (0, None));
        calls.sent(9, None, None);
        assert!(calls.end(id).is_none(), "its answer comes after all");
        assert_eq!(calls.at_peer(), 1, "and is not taken for another's");
    }
}
