//! How a process reads the log: page by page, as far as its core wants to, and a second time for a channel that rejoins.

use std::collections::VecDeque;

use tidegate_core::account::PIN_BYTES;
use tidegate_core::pchannel::{Event, Phase};
use tidegate_core::scan::{Scanned, Scanner};

use crate::judge::Verdict;
use crate::log::raw;
use crate::scenario::Trouble;
use crate::world::{Ev, World};

pub(crate) struct Scan {
    pub id: u64,
    pub next: i64,
    pub scanner: Scanner,
    pub ready: VecDeque<Scanned>,
}

/// The most that was read without a look at the budget, in bytes: a group that has begun is read to its end, so with the deliveries in which it
/// begins and ends (ME-1).
#[derive(Debug, Default)]
pub(crate) struct Largest {
    pub bytes: usize,
    /// Since the last look at the budget.
    read: usize,
    has_begun: bool,
}

impl Largest {
    /// Of messages for so many channels: what concerns the whole pchannel is pinned on each.
    fn deliver(&mut self, messages: &[Scanned], channels: usize) {
        if !self.has_begun {
            self.read = 0;
        }
        for message in messages.iter().filter_map(Scanned::message) {
            self.read += message.size() + PIN_BYTES * if message.pchannel_level { channels.max(1) } else { 1 };
        }
        // What is set aside is of no group.
        let of_a_group = messages.iter().rev().find_map(|scanned| match scanned {
            Scanned::Message(_, is_last) => Some(!is_last),
            _ => None,
        });
        self.has_begun = of_a_group.unwrap_or(self.has_begun);
        self.bytes = self.bytes.max(self.read);
    }
}

impl World<'_> {
    pub(crate) fn pump_soon(&mut self, process: usize) {
        let here = &mut self.processes[process];
        let (Some(core), Some(scan)) = (&here.core, &here.scan) else { return };
        let end = self.logs[here.pchannel].durable();
        let behind = here.catch_up.as_ref().is_some_and(|(scan, _)| !scan.ready.is_empty() || scan.next <= end);
        if behind && !here.pumping && !here.paused && core.wants_catch_up() {
            here.pumping = true;
            return self.after(1, Ev::Pump(process));
        }
        let more = !scan.ready.is_empty() || scan.next <= self.logs[here.pchannel].durable();
        if more && !here.pumping && !here.paused {
            if core.wants_messages() {
                here.pumping = true;
                self.after(1, Ev::Pump(process));
            } else if *core.phase() == Phase::Working {
                self.tally.count("S-14");
            }
        }
    }

    /// Reads the log a second time, for a channel that rejoins.
    fn pump_again(&mut self, process: usize) -> Verdict {
        let here = &mut self.processes[process];
        let log = &self.logs[here.pchannel];
        let (Some(core), Some((scan, vchannel))) = (&here.core, &mut here.catch_up) else { return Ok(()) };
        if here.paused || !core.wants_catch_up() {
            return Ok(());
        }
        let before = scan.next;
        let mut out = Vec::new();
        while log.term == here.caller.term && out.len() + scan.ready.len() < self.settings.delivery_max {
            scan.next = scan.next.max(log.first());
            let Some(entry) = log.get(scan.next) else { break };
            scan.scanner.push(entry.record.clone(), &mut out);
            out.retain(|scanned| scanned.concerns(vchannel));
            scan.next += 1;
        }
        scan.ready.extend(out);
        let count = self.settings.delivery_max.min(scan.ready.len());
        let mut messages: Vec<Scanned> = scan.ready.drain(..count).collect();
        for scanned in &mut messages {
            let id = scanned.message().filter(|_| matches!(scanned, Scanned::Parked(_))).map(|m| raw(&m.id));
            if let Some(entry) = id.and_then(|id| log.get(id)) {
                *scanned = scanned.clone().unpark(entry.record.payload.clone());
            }
        }
        let (id, read) = (scan.id, scan.next > before);
        self.trace.mix(&[10, self.now, process as u64, messages.len() as u64]);
        if messages.is_empty() {
            // Nothing of it concerned the channel: it is read on. At the log's end the next record does that.
            if read {
                self.pump_soon(process);
            }
            return Ok(());
        }
        self.tally.count("S-18");
        self.processes[process].largest_again.deliver(&messages, 1);
        self.feed(process, Event::CaughtUp { scan: id, messages })
    }

    /// Reads the log and hands messages to the process.
    pub(crate) fn pump(&mut self, process: usize) -> Verdict {
        self.processes[process].pumping = false;
        self.pump_again(process)?;
        if self.strikes(Trouble::LogStalls) {
            self.processes[process].pumping = true;
            self.after(700, Ev::Pump(process));
            return Ok(());
        }
        let twice = self.strikes(Trouble::LogTwice);
        let here = &mut self.processes[process];
        let p = here.pchannel;
        let log = &self.logs[p];
        let (Some(core), Some(scan)) = (&here.core, &mut here.scan) else { return Ok(()) };
        if here.paused || !core.wants_messages() {
            return Ok(());
        }
        let mut out = Vec::new();
        // A log that a newer term owns gives its older readers nothing.
        while log.term == here.caller.term && out.len() + scan.ready.len() < self.settings.delivery_max {
            scan.next = scan.next.max(log.first());
            let Some(entry) = log.get(scan.next) else { break };
            scan.scanner.push(entry.record.clone(), &mut out);
            if twice {
                scan.scanner.push(entry.record.clone(), &mut out);
            }
            scan.next += 1;
        }
        scan.ready.extend(out);
        let count = self.settings.delivery_max.min(scan.ready.len());
        let mut messages: Vec<Scanned> = scan.ready.drain(..count).collect();
        let mut parked = 0;
        for scanned in &mut messages {
            let id = scanned.message().filter(|_| matches!(scanned, Scanned::Parked(_))).map(|m| raw(&m.id));
            if let Some(entry) = id.and_then(|id| log.get(id)) {
                *scanned = scanned.clone().unpark(entry.record.payload.clone());
                parked += 1;
            }
        }
        here.largest.deliver(&messages, core.accounts().count());
        let id = scan.id;
        (0..parked).for_each(|_| self.tally.count("S-09"));
        self.trace.mix(&[4, self.now, process as u64, messages.len() as u64]);
        if messages.iter().any(|m| m.message().is_some_and(|m| m.txn.is_some())) {
            self.tally.count("S-10");
        }
        if messages.is_empty() {
            return Ok(());
        }
        self.feed(process, Event::Delivered { scan: id, messages })
    }
}
