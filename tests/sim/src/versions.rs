//! Versions of the component: what distinguishes them, instances of them, and what the swap log of a node's directory says.

use std::collections::VecDeque;

use tidegate_core::pchannel::{Told, Version};
use tidegate_core::turn::{Fault, Page, TurnInput, TurnOutput};
use tidegate_core::versions::{Line, Step, Versions};
use tidegate_flusher::contract::Config;

use crate::judge::{Verdict, broken};
use crate::native::{Guest, Guests};

/// Versions that do nothing wrong: each has a policy of its own. The first is what a program brings.
pub(crate) const GOOD: [&str; 3] = ["good-1", "good-2", "good-3"];
/// A version of the contract before: it cannot say what it holds, and reads no snapshot but its own, which later versions convert.
pub(crate) const OLD: &str = "old";
/// Bytes before the component's own in a snapshot: its form, and the last message that its instance took.
const HEAD_BYTES: usize = 9;

/// A version's policy.
fn config_of(version: &str, config: &Config) -> Config {
    let mut config = config.clone();
    match version {
        "good-2" => (config.insert_bytes_max, config.report_period_ms) = (config.insert_bytes_max / 2 + 1, config.report_period_ms * 2),
        "good-3" => (config.sync_period_ms, config.delete_bytes_max) = (config.sync_period_ms / 2 + 1, config.delete_bytes_max * 2),
        _ => {}
    }
    config
}

/// One running instance of a version.
pub(crate) struct Instance {
    guest: Box<dyn Guest>,
    version: Version,
    /// The last message of its scan that it took, or those before it that handed their state over.
    taken: u64,
}

impl Instance {
    /// Starts an instance, from nothing or from a snapshot.
    pub fn start(guests: &dyn Guests, version: &Version, config: &Config, resume: Option<&[u8]>) -> Result<Self, Fault> {
        let (mut taken, mut own) = (0, None);
        if let Some(snapshot) = resume {
            let (head, rest) = snapshot.split_at_checked(HEAD_BYTES).ok_or_else(|| Fault::Start("no snapshot".into()))?;
            if &**version == OLD && head[0] != form(OLD) {
                return Err(Fault::Start(format!("snapshot of schema version {}; this component reads version 1", head[0])));
            }
            taken = head[1..].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
            own = Some(rest);
        }
        let guest = guests.start(&config_of(version, config), own)?;
        Ok(Self { guest, version: version.clone(), taken })
    }

    /// SW-1: a page begins where the one before it ended, whoever took that one.
    pub fn check_page(&self, page: &Page) -> Verdict {
        if page.is_empty() || page.first == self.taken + 1 {
            return Ok(());
        }
        broken("SW-1", format!("a page begins with message {}, the last one taken was {}", page.first, self.taken))
    }

    /// Runs a turn.
    pub fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        let output = self.guest.turn(input)?;
        if output.taken > 0 {
            self.taken = input.page.first + output.taken as u64 - 1;
        }
        Ok(output)
    }

    /// Takes a snapshot.
    pub fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        let own = self.guest.snapshot()?;
        let mut snapshot = vec![form(&self.version)];
        snapshot.extend(self.taken.to_le_bytes());
        snapshot.extend(own);
        Ok(snapshot)
    }

    /// Says what it holds; one of the contract before gives back what it was started from.
    pub fn told(&mut self, resume: &[u8]) -> Result<Told, Fault> {
        if &*self.version == OLD {
            return Ok(Told::Echo(self.snapshot()? == resume));
        }
        self.guest.accounts().map(Told::Holdings)
    }
}

/// The form in which a version writes snapshots.
fn form(version: &str) -> u8 {
    if version == OLD { 1 } else { 2 }
}

/// Whether a snapshot has the form of the contract before.
pub(crate) fn is_old_form(snapshot: &[u8]) -> bool {
    snapshot.first() == Some(&form(OLD))
}

/// Puts the state of another snapshot into one.
pub(crate) fn with_state_of(snapshot: &[u8], other: &[u8]) -> Vec<u8> {
    let head = snapshot.iter().take(HEAD_BYTES);
    head.chain(other.iter().skip(HEAD_BYTES)).copied().collect()
}

/// A swap that an operator waits for.
#[derive(Debug)]
pub(crate) struct Open {
    pub swap: u64,
    pub to: String,
    pub since_ms: u64,
    pub turns: u64,
    /// Its verdict is written.
    pub decided: bool,
}

/// A node's directory: its swap log.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    written: Versions,
    /// Lines that are being written, and when they are durable.
    waiting: VecDeque<(u64, Line)>,
    pub open: Option<Open>,
}

impl Directory {
    /// What the log says now.
    pub fn versions(&mut self, now_ms: u64) -> &Versions {
        while let Some((_, line)) = self.waiting.pop_front_if(|(at, _)| *at <= now_ms) {
            self.written.take(&line);
        }
        &self.written
    }

    /// What it will say when everything is written.
    pub fn to_be(&self) -> Versions {
        let mut versions = self.written.clone();
        self.waiting.iter().for_each(|(_, line)| versions.take(line));
        versions
    }

    /// Writes a line, durable at a time; lines keep their order.
    pub fn write(&mut self, at_ms: u64, line: Line) {
        let at = self.waiting.back().map_or(at_ms, |(before, _)| at_ms.max(*before));
        self.waiting.push_back((at, line));
    }

    /// Its process ends: what is not written is not.
    pub fn lose(&mut self, now_ms: u64) {
        self.versions(now_ms);
        self.waiting.clear();
        self.open = None;
    }

    /// Opens it, as a program that brings a component does; whether a swap was undone.
    pub fn open(&mut self, built_in: &str, now_ms: u64) -> bool {
        self.lose(now_ms);
        let lines = self.written.settle(built_in);
        lines.iter().for_each(|line| self.written.take(line));
        lines.iter().any(|line| line.step == Step::Opened)
    }
}
