//! The search for a message on which every instance faults.
//!
//! A turn that faulted twice, on an instance rebuilt from the journal, is taken apart:
//!
//! ```text
//! completions alone ─► halves of the page, by whole groups ─► one group ─► trials: the group with messages settled
//!  fault: no culprit    a turn each, applied as any other      twice       outputs discarded, halves again, the last one twice
//! ```
//!
//! | culprit | what happens |
//! |---|---|
//! | an insert or a delete | stored as a dead letter with its transaction, counted as quarantined, settled; the scan goes on |
//! | more than [`POISON_MAX`] of those on one channel | the channel is detached |
//! | a control message of a channel | the channel is detached |
//! | none, or a message of the whole pchannel | another version, if there is one; else a new instance recovers, and after [`LOSSES_MAX`] in a row the pchannel stops |
//!
//! Smaller pages change no decision (DT-2), and nothing is snapshotted meanwhile: each try starts from the journal's end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_message::{MessageId, MessageType};

use super::{Action, FAULTS_APART_MS, Instance, Pchannel, Phase, Weight};
use crate::account::Standing;
use crate::turn::{ChannelIndex, EVERY_CHANNEL, Fault, FilterReason, Ordinal, Page, TurnInput, flag};

/// Poisoned messages of one channel in a scan; with one more the channel is detached: its writer makes nothing else, and each costs a
/// search.
const POISON_MAX: u32 = 16;
/// Instances lost in a row with no message to blame, after which the pchannel stops. The first ones may be a lack of memory that passes:
/// their backoffs and searches are seconds.
const LOSSES_MAX: u32 = 5;

/// Names of messages: tick, id and channel.
#[derive(Clone, Debug, Default)]
pub struct MessageNames(BTreeMap<u64, Vec<(MessageId, String)>>);

impl MessageNames {
    /// Adds a message.
    pub fn insert(&mut self, id: MessageId, vchannel: String, tick: u64) {
        if !self.contains(&id, &vchannel, tick) {
            self.0.entry(tick).or_default().push((id, vchannel));
        }
    }

    /// Whether a message is among them.
    pub fn contains(&self, id: &MessageId, vchannel: &str, tick: u64) -> bool {
        self.0.get(&tick).is_some_and(|names| names.iter().any(|(i, v)| i == id && v == vchannel))
    }
}

/// What a pchannel knows of messages that its component cannot take.
#[derive(Debug, Default)]
pub(super) struct Poison {
    search: Option<Search>,
    /// Messages that are settled when they are met again: a search found them, in this process or before, or they were appended again.
    pub known: MessageNames,
    /// Control messages that an operator gave up.
    pub skipped: MessageNames,
    /// Messages found in this scan, by channel.
    found: BTreeMap<ChannelIndex, u32>,
    /// Instances lost in a row with no message to blame.
    losses: u32,
    /// When the last one was lost, in milliseconds.
    lost_ms: u64,
    /// When the turn that is looked into faulted first, in milliseconds.
    faulted_ms: u64,
}

impl Poison {
    pub fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Whether the turn that runs is a trial, whose output is of no interest.
    pub fn is_trying(&self) -> bool {
        self.search.as_ref().is_some_and(|s| s.trial.is_some())
    }

    /// A turn faulted for the first time.
    pub fn faulted(&mut self, now_ms: u64) {
        self.faulted_ms = now_ms;
    }

    /// The instance is given up.
    pub fn end_search(&mut self) {
        self.search = None;
    }

    /// A new scan begins.
    pub fn forget_scan(&mut self) {
        self.search = None;
        self.found.clear();
    }
}

/// A search that runs.
#[derive(Debug)]
struct Search {
    /// The last message of the smallest page that is known to fault.
    last: Ordinal,
    /// The completions were handed out alone.
    began: bool,
    /// The turn faulted once by itself, and is handed out again.
    again: bool,
    trial: Option<Trial>,
}

/// A group that faulted twice, alone, from one state: which of its messages is it?
#[derive(Debug)]
struct Trial {
    input: Arc<TurnInput>,
    fault: Fault,
    /// Places in the page: the culprit is one of them, if it is one message.
    suspects: Vec<usize>,
    stage: Stage,
}

/// Which suspects a trial leaves as they are; every other message is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    None,
    FirstHalf,
    SecondHalf,
    /// The only one, for the second time.
    Again,
}

/// What a trial leads to.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    NextTrial,
    Culprit(usize),
    NoMessage(&'static str),
}

impl Trial {
    fn new(input: Arc<TurnInput>, fault: Fault) -> Self {
        let suspects = (0..input.page.len()).filter(|&at| input.page.flags[at] & flag::SETTLED == 0).collect();
        Self { input, fault, suspects, stage: Stage::None }
    }

    fn left(&self) -> &[usize] {
        let half = self.suspects.len() / 2;
        match self.stage {
            Stage::None => &[],
            Stage::FirstHalf => &self.suspects[..half],
            Stage::SecondHalf => &self.suspects[half..],
            Stage::Again => &self.suspects,
        }
    }

    fn turn(&self) -> TurnInput {
        let mut input = (*self.input).clone();
        let left: BTreeSet<usize> = self.left().iter().copied().collect();
        let flags = input.page.flags.iter_mut().enumerate();
        flags.filter(|(at, _)| !left.contains(at)).for_each(|(_, flags)| *flags |= flag::SETTLED);
        input
    }

    fn ended(&mut self, faulted: bool) -> Finding {
        match (self.stage, faulted) {
            (Stage::None, true) => return Finding::NoMessage("it faults on the tick of the group, whatever its messages are"),
            (Stage::None, false) => match self.suspects[..] {
                [] => return Finding::NoMessage("the fault did not repeat"),
                [only] => return Finding::Culprit(only),
                _ => self.stage = Stage::FirstHalf,
            },
            (Stage::FirstHalf | Stage::SecondHalf, true) => {
                self.suspects = self.left().to_vec();
                self.stage = if self.suspects.len() == 1 { Stage::Again } else { Stage::FirstHalf };
            }
            (Stage::FirstHalf, false) => self.stage = Stage::SecondHalf,
            (Stage::SecondHalf, false) => return Finding::NoMessage("it faults only on several messages together"),
            (Stage::Again, true) => return Finding::Culprit(self.suspects[0]),
            (Stage::Again, false) => return Finding::NoMessage("the fault did not repeat"),
        }
        Finding::NextTrial
    }
}

impl Pchannel {
    /// Tells what earlier processes found: messages that are settled when they are met again, and control messages that an operator gave up.
    pub fn remember(&mut self, settled: MessageNames, skipped: MessageNames) {
        self.poison.known = settled;
        self.poison.skipped = skipped;
    }

    /// A turn faulted twice: takes it apart.
    pub(super) fn search_poison(&mut self, fault: &Fault) {
        let Some(input) = self.turn.take() else { return self.lose_instance(fault) };
        let page_is_empty = input.page.is_empty();
        let last = input.page.last();
        self.put_back(&input);
        if page_is_empty {
            return self.no_culprit(fault, "it faults without any message");
        }
        self.poison.search = Some(Search { last, began: false, again: false, trial: None });
        let text =
            format!("pchannel {}: the component failed again: {fault}; the message that does it is looked for", self.caller.pchannel);
        self.out.push(Action::Notice(Weight::Error, text));
        self.rebuild(fault);
    }

    /// Returns the next turn of the search that runs; `None` when nothing is left of what faulted.
    pub(super) fn next_search_turn(&mut self, pressure: u64) -> Option<Arc<TurnInput>> {
        let search = self.poison.search.as_mut()?;
        if let Some(trial) = &search.trial {
            return Some(Arc::new(trial.turn()));
        }
        let page = if search.began && self.completions.is_empty() {
            match self.ready.front_mut().filter(|page| page.first <= search.last) {
                Some(front) => {
                    let page = front.take_groups(front.half_until(search.last));
                    if front.is_empty() {
                        self.ready.pop_front();
                    }
                    page
                }
                None => {
                    self.poison.search = None;
                    return None;
                }
            }
        } else {
            search.began = true;
            Page::default()
        };
        let completions = if page.is_empty() { std::mem::take(&mut self.completions) } else { Vec::new() };
        Some(Arc::new(TurnInput { completions, page, pressure, first_ticket: self.next_ticket }))
    }

    /// A turn of the search went well, and was applied.
    pub(super) fn search_passed(&mut self) {
        let Some(search) = &mut self.poison.search else { return };
        search.again = false;
        // A component that takes nothing is not made to.
        if self.declined || self.handed >= search.last {
            self.poison.search = None;
            let text = "the fault did not repeat in smaller pages: nothing is set aside".to_owned();
            self.out.push(Action::Notice(Weight::Warn, format!("pchannel {}: {text}", self.caller.pchannel)));
        }
    }

    /// A turn of the search faulted.
    pub(super) fn search_faulted(&mut self, fault: &Fault) {
        if self.poison.is_trying() {
            return self.trial_ended(true);
        }
        let (Some(search), Some(input)) = (&mut self.poison.search, self.turn.take()) else { return self.lose_instance(fault) };
        if input.page.groups() > 1 {
            search.last = input.page.last();
            search.again = false;
            self.put_back(&input);
        } else if !search.again {
            search.again = true;
            self.turn = Some(input);
        } else if input.page.is_empty() {
            self.put_back(&input);
            return self.no_culprit(fault, "it faults without any message");
        } else {
            search.trial = Some(Trial::new(input, fault.clone()));
        }
        self.rebuild(fault);
    }

    /// A trial ended, well or not; what it gave is forgotten, and so is the instance.
    pub(super) fn trial_ended(&mut self, faulted: bool) {
        self.turn = None;
        let Some(Search { trial: Some(trial), .. }) = &mut self.poison.search else { return };
        let (finding, fault, input) = (trial.ended(faulted), trial.fault.clone(), trial.input.clone());
        if finding == Finding::NextTrial {
            return self.rebuild(&fault);
        }
        self.poison.search = None;
        self.put_back(&input);
        match finding {
            Finding::Culprit(at) if input.page.channels[at] != EVERY_CHANNEL => {
                self.convict(&input.page, at, &fault);
                self.retried = false;
                self.rebuild(&fault);
            }
            Finding::Culprit(_) => self.no_culprit(&fault, "it faults on a message of the whole pchannel"),
            Finding::NoMessage(why) => self.no_culprit(&fault, why),
            Finding::NextTrial => {}
        }
    }

    /// What was to be a turn waits again, in front of what came since.
    fn put_back(&mut self, input: &TurnInput) {
        if !input.page.is_empty() {
            self.ready.push_front(input.page.clone());
        }
        self.completions.splice(0..0, input.completions.iter().cloned());
    }

    /// Makes an instance that stands where the journal ends.
    fn rebuild(&mut self, fault: &Fault) {
        match self.journal.replay() {
            Some(replay) => {
                self.instance = Instance::Building;
                self.out.push(Action::Build { version: self.version().clone(), resume: replay.base, replay: replay.turns });
            }
            None => self.lose_instance(fault),
        }
    }

    /// Sets the culprit aside, or detaches its channel.
    fn convict(&mut self, page: &Page, at: usize, fault: &Fault) {
        let (ordinal, channel) = (page.first + at as Ordinal, page.channels[at]);
        let kind = MessageType(i32::from(page.kinds[at]));
        let is_rows = matches!(kind, MessageType::INSERT | MessageType::DELETE);
        let found = self.poison.found.entry(channel).or_default();
        *found += u32::from(is_rows);
        let reason = if !is_rows {
            format!("the component faults on message {ordinal}, a {}: {fault}", kind.name())
        } else if *found > POISON_MAX {
            format!(
                "poison beyond a bound: the component faults on more than {POISON_MAX} of its messages, the last one is {ordinal}: {fault}"
            )
        } else {
            return self.quarantine(channel, ordinal, fault);
        };
        match self.channels.get_mut(&channel) {
            Some(account) if account.is_live() && is_rows => self.detach_and_tell(channel, reason),
            // Each try would meet it again, and cost the neighbours a search; rows that were found are known to the next one.
            Some(account) if account.is_live() => self.detach_unreadable(channel, reason),
            // Nothing is to be given up, and nobody filters what waits: it ends here, or it would keep its place in the budget.
            Some(account) => match account.standing {
                Standing::Dropped => account.end_all(FilterReason::DroppedChannel),
                Standing::NotFound => account.end_all(FilterReason::UnknownChannel),
                _ => {}
            },
            None => {}
        }
        self.settle_waiting(|o, c| c == channel || o == ordinal);
    }

    /// Sets a message aside with its transaction; the component meets them as settled ones.
    fn quarantine(&mut self, channel: ChannelIndex, ordinal: Ordinal, fault: &Fault) {
        if let Some(account) = self.channels.get(&channel)
            && let Some(pin) = account.pins.get(&ordinal)
        {
            self.poison.known.insert(pin.id.clone(), account.name.clone(), pin.position.tick);
        }
        let reason = format!("the component faults on it, alone and twice: {fault}");
        let mut settled = self.set_pinned_aside(channel, None, vec![(ordinal, reason)], true);
        // Also one that nothing waits for any more.
        settled.insert(ordinal);
        self.settle_waiting(|o, _| settled.contains(&o));
    }

    fn settle_waiting(&mut self, is_settled: impl Fn(Ordinal, ChannelIndex) -> bool) {
        for page in &mut self.ready {
            for (at, flags) in page.flags.iter_mut().enumerate() {
                if is_settled(page.first + at as Ordinal, page.channels[at]) {
                    *flags |= flag::SETTLED;
                }
            }
        }
    }

    /// No message is to blame: the version is, or what it runs in.
    fn no_culprit(&mut self, fault: &Fault, why: &str) {
        self.poison.search = None;
        if self.roll_back(&format!("it fails, and no message is the culprit ({why}): {fault}")) {
            self.poison.losses = 0;
            return;
        }
        let in_a_row = self.poison.losses > 0 && self.poison.faulted_ms.saturating_sub(self.poison.lost_ms) < FAULTS_APART_MS;
        self.poison.losses = if in_a_row { self.poison.losses + 1 } else { 1 };
        self.poison.lost_ms = self.now_ms;
        // Another version that is on its way takes over instead.
        if self.poison.losses < LOSSES_MAX || self.is_swapping() {
            return self.lose_instance(fault);
        }
        let reason = format!(
            "the component failed {LOSSES_MAX} times in a row, and no message is the culprit ({why}): {fault}. Nothing is lost: the log \
             is kept. Give the node another component, or restart it"
        );
        self.stop(reason);
    }

    /// Nothing more is done before an operator acts; everything that is pinned stays so, and the log is kept.
    fn stop(&mut self, reason: String) {
        self.retried = false;
        self.instance = Instance::Absent(self.now_ms);
        self.calls.forget_waiting();
        self.out.push(Action::CloseScan);
        self.out.push(Action::Notice(Weight::Error, format!("pchannel {} stops: {reason}", self.caller.pchannel)));
        self.phase = Phase::Stopped(reason);
    }

    /// An operator gives a pchannel that stopped another component, or the same one anew.
    pub(super) fn start_again(&mut self) {
        self.poison.losses = 0;
        self.recover_at(self.now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::Row;

    /// Runs trials over a group of `len` messages until there is a finding; also how many there were.
    fn finding(len: usize, faults: impl Fn(&[usize]) -> bool) -> (Finding, usize) {
        let mut page = Page { first: 1, ..Page::default() };
        (0..len).for_each(|_| page.push(Row::default()));
        let input = Arc::new(TurnInput { page, ..TurnInput::default() });
        let mut trial = Trial::new(input, Fault::Trap("scripted".into()));
        for trials in 1.. {
            let turn = trial.turn();
            let left: Vec<usize> = (0..len).filter(|&at| turn.page.flags[at] & flag::SETTLED == 0).collect();
            match trial.ended(faults(&left)) {
                Finding::NextTrial => {}
                finding => return (finding, trials),
            }
        }
        unreachable!("a search ends")
    }

    #[test]
    fn trials_find_each_message_of_a_group_in_few_tries() {
        for culprit in 0..1_000 {
            let (found, trials) = finding(1_000, |left| left.contains(&culprit));
            assert_eq!(found, Finding::Culprit(culprit));
            assert!(trials <= 2 + 2 * 10, "{trials} trials");
        }
        assert_eq!(finding(1, |left| !left.is_empty()), (Finding::Culprit(0), 1));
    }

    #[test]
    fn of_two_culprits_one_is_found_and_what_is_no_single_message_is_none() {
        assert_eq!(finding(10, |left| left.contains(&2) || left.contains(&7)).0, Finding::Culprit(2));
        assert!(matches!(finding(10, |left| left.contains(&2) && left.contains(&7)).0, Finding::NoMessage(_)));
        assert!(matches!(finding(10, |_| true).0, Finding::NoMessage(_)));
        let once = std::cell::Cell::new(0);
        let (found, _) = finding(2, |left| left == [0] && once.replace(once.get() + 1) == 0);
        assert!(matches!(found, Finding::NoMessage(_)), "a fault that does not repeat names nobody: {found:?}");
    }
}
