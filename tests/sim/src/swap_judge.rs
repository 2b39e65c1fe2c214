//! What must hold of hand-overs: SW-1, SW-2, SW-3, seen from outside of the core.

use std::collections::BTreeMap;

use tidegate_core::account::Standing;
use tidegate_core::ledger::Ledger;
use tidegate_core::pchannel::{Action, Counters, Event, Pchannel, SwapStep, Told, Verdict as Became, Version};

use crate::judge::{Verdict, broken};
use crate::swap::PROBATION;

/// Turns beyond its probation after which a version must be past it: lags are looked at now and then only, and so is event time.
const SLACK_TURNS: u64 = 40;

/// What is known of a process' versions.
#[derive(Debug)]
pub(crate) struct Model {
    /// What serves.
    pub current: Version,
    good: Option<Version>,
    /// Turns of the process when probation began.
    watch: Option<u64>,
    /// Orders without an answer.
    orders: BTreeMap<u64, Version>,
    /// The snapshot that is taken is for a successor.
    handing_over: bool,
    /// The snapshot was none.
    snapshot_is_bad: bool,
    /// The successor did something wrong: the old one may stay.
    successor_failed: bool,
    /// It said that it holds what it does not, and the host can know.
    accounts_lied: bool,
    /// Nobody can know who is right: the successor may recover.
    may_recover: bool,
}

/// A core before a step.
pub(crate) struct Before {
    counters: Counters,
    what: What,
    /// Ledgers of the channels that are served, and what is staged.
    books: Vec<(String, Ledger, usize, usize)>,
}

#[derive(PartialEq, Eq)]
enum What {
    NotBuilt,
    NoSnapshot,
    Turned,
    Told,
    Else,
}

fn books(core: &Pchannel) -> Vec<(String, Ledger, usize, usize)> {
    let served = core.accounts().filter(|c| c.standing == Standing::Served && c.rejoin.is_none());
    let staged = |c: &tidegate_core::account::ChannelAccount| {
        let rows = c.segments.values().map(|s| s.staged.len() + s.jobs.iter().map(|j| j.batch.len()).sum::<usize>());
        let deletes = c.deletes.values().map(|d| d.staged.len() + d.jobs.iter().map(|j| j.batch.len()).sum::<usize>());
        rows.chain(deletes).sum()
    };
    served.map(|c| (c.name.clone(), c.ledger.clone(), c.pins.len(), staged(c))).collect()
}

/// What the guard says in a step.
fn refusals(actions: &[Action]) -> String {
    let said = actions.iter().filter_map(|action| match action {
        Action::Notice(_, text) if text.starts_with("the guard refuses ") => Some(text.as_str()),
        _ => None,
    });
    said.collect::<Vec<_>>().join("; ")
}

impl Before {
    pub fn of(core: &Pchannel, event: &Event) -> Self {
        let what = match event {
            Event::Built(Err(_)) => What::NotBuilt,
            Event::Snapshot(Err(_)) => What::NoSnapshot,
            Event::Turned(Ok(_)) => What::Turned,
            Event::Stood(_) | Event::OldTold(_) => What::Told,
            _ => What::Else,
        };
        let books = if what == What::Told { books(core) } else { Vec::new() };
        Self { counters: core.counters(), what, books }
    }
}

impl Model {
    pub fn new(current: Version, good: Option<Version>, on_probation: bool) -> Self {
        Self {
            current,
            good,
            watch: on_probation.then_some(0),
            orders: BTreeMap::new(),
            handing_over: false,
            snapshot_is_bad: false,
            successor_failed: false,
            accounts_lied: false,
            may_recover: false,
        }
    }

    pub fn ordered(&mut self, id: u64, version: Version) {
        self.orders.insert(id, version);
    }

    pub fn snapshot_is_taken(&mut self, handing_over: bool) {
        self.handing_over = handing_over;
        (self.snapshot_is_bad, self.successor_failed, self.accounts_lied, self.may_recover) = (false, false, false, false);
    }

    pub fn snapshot_is_bad(&mut self) {
        self.snapshot_is_bad = true;
    }

    pub fn successor_fails(&mut self) {
        self.successor_failed = true;
    }

    pub fn may_recover(&mut self) {
        self.may_recover = true;
    }

    /// The successor is going to say something else than this.
    pub fn accounts_lie(&mut self, told: &Told, core: Option<&Pchannel>) {
        self.successor_failed = true;
        let Told::Holdings(holdings) = told else { return };
        let known = core.into_iter().flat_map(Pchannel::accounts).filter(|c| c.standing == Standing::Served && c.drop_message.is_none());
        let mut known = known.flat_map(|c| c.holdings(u64::MAX));
        self.accounts_lied |=
            known.any(|own| holdings.iter().any(|h| h.rows > 0 && (h.channel, h.deletes, h.id) == (own.channel, own.deletes, own.id)));
    }

    /// Looks at what a step did.
    pub fn look(&mut self, before: Before, core: &Pchannel, lied: bool, actions: &[Action]) -> Verdict {
        let could_go_back = self.watch.is_some() && self.good.is_some();
        let (mut recovers, mut rolled_back) = (false, false);
        for action in actions {
            match action {
                Action::Build { version, .. } if *version != self.current => {
                    return broken("SW-3", format!("an instance of {version} is made, {} serves", self.current));
                }
                Action::Stand { version, .. } if !self.orders.values().any(|ordered| ordered == version) => {
                    return broken("SW-1", format!("{version} is started, which nobody ordered"));
                }
                Action::Swapped(step) => {
                    recovers |= matches!(step.verdict, Became::Recovers(_));
                    rolled_back |= matches!(step.verdict, Became::RolledBack(_));
                    self.step(step, &before, core, lied).map_err(|violation| violation.with(refusals(actions)))?;
                }
                _ => {}
            }
        }
        if before.what == What::NoSnapshot && std::mem::take(&mut self.handing_over) && !recovers && core.is_handing_over() {
            return broken("SW-2", "without a snapshot the new version does not recover".to_owned());
        }
        let now = core.counters();
        let refused = before.what == What::Turned && now.guard_refusals > before.counters.guard_refusals;
        let failed = now.faults > before.counters.faults || before.what == What::NotBuilt || refused;
        if failed && could_go_back && !rolled_back {
            return broken("SW-3", format!("{} failed on probation, and stays", self.current));
        }
        Ok(())
    }

    fn step(&mut self, step: &SwapStep, before: &Before, core: &Pchannel, lied: bool) -> Verdict {
        if let Some(order) = step.order
            && self.orders.remove(&order).is_none()
        {
            return broken("SW-1", format!("order {order} is answered twice: {:?}", step.verdict));
        }
        let turns = core.counters().turns;
        match &step.verdict {
            Became::Committed => {
                if (self.snapshot_is_bad || self.accounts_lied) && !lied {
                    return broken("SW-1", format!("{} follows, and does not hold what the ledger has", step.to));
                }
                let after = books(core);
                let changed = before.books.iter().find(|book| after.iter().any(|b| b.0 == book.0 && b != *book));
                if let Some(book) = changed {
                    return broken("SW-1", format!("a swap changed the books of {}: before it they had {book:?}", book.0));
                }
                self.follow(&step.to, turns);
            }
            Became::Recovers(why) => {
                let may = self.may_recover || self.snapshot_is_bad || before.what == What::NoSnapshot || why.contains("no instance");
                if !may && !lied {
                    return broken("SW-1", format!("{} recovers, though nothing was wrong: {why}", step.to));
                }
                self.follow(&step.to, turns);
            }
            Became::Stayed(why) => {
                if before.what == What::NoSnapshot || (self.snapshot_is_bad && !lied) {
                    return broken("SW-2", format!("{} stays, which gave no good snapshot: {why}", step.from));
                }
                if !self.successor_failed && !lied {
                    return broken("SW-1", format!("{} stays, though {} did nothing wrong: {why}", step.from, step.to));
                }
            }
            Became::NotNow(_) => {}
            Became::RolledBack(why) => {
                if self.good.take().is_none_or(|good| good != step.to) || self.current != step.from {
                    return broken("SW-3", format!("{} goes back to {}: {why}", step.from, step.to));
                }
                if why.contains("the guard refused") && !lied {
                    return broken("SW-3", format!("{} is rolled back, and claimed nothing that is not so", step.from));
                }
                self.current = step.to.clone();
                self.watch = None;
            }
            Became::Good => {
                let Some(began) = self.watch.take() else { return broken("SW-3", format!("{} was on no probation", step.to)) };
                if turns - began < PROBATION.turns {
                    return broken("SW-3", format!("probation of {} ended after {} turns", step.to, turns - began));
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, to: &Version, turns: u64) {
        if *to != self.current {
            let before = std::mem::replace(&mut self.current, to.clone());
            let proven = self.good.take().filter(|good| self.watch.is_some() && good != to);
            self.good = Some(proven.unwrap_or(before));
            self.watch = Some(turns);
        }
    }

    /// What has not come to its end, in words.
    pub fn missing(&self, core: &Pchannel) -> Option<String> {
        if let Some((order, version)) = self.orders.first_key_value() {
            return Some(format!("order {order} of {version} was never answered"));
        }
        let turns = core.counters().turns;
        let lasts = self.watch.is_some_and(|began| turns - began > PROBATION.turns + SLACK_TURNS);
        lasts.then(|| format!("SW-3: the probation of {} lasts after {turns} turns", self.current))
    }
}
