//! For tests: a log whose readers give given records and fail where they are told to, a component whose turns are a function.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_core::pchannel::Told;
use tidegate_core::turn::{ChannelIndex, Fault, TurnInput, TurnOutput};
use tidegate_message::{MessageId, Outgoing, Record, WalName, build};

use super::guest::{Guest, Guests};
use crate::engine::GuestConfig;
use crate::stop::Stop;
use crate::wal::{Appended, Log, LogError, LogItem, LogReader, ReadFrom};

/// A log of given records.
pub(super) struct ScriptedLog {
    pub records: Vec<Record>,
    pub script: Arc<Mutex<Script>>,
}

/// What becomes of reading.
#[derive(Default)]
pub(super) struct Script {
    /// Readers fail in front of each of these records, once.
    pub fails_at: BTreeSet<usize>,
    /// Nothing can be read.
    pub broken: bool,
    /// Records before this one are truncated.
    pub first: usize,
}

impl Script {
    fn check(&self, next: usize) -> Result<(), LogError> {
        if self.broken {
            return Err(LogError::Storage("the disk is gone".to_owned()));
        }
        if next < self.first {
            let [asked, first] = [next, self.first].map(|nth| MessageId::RocksMq(nth as i64));
            return Err(LogError::Truncated { asked, first });
        }
        Ok(())
    }
}

struct ScriptedReader {
    records: Vec<Record>,
    next: usize,
    script: Arc<Mutex<Script>>,
}

impl ScriptedLog {
    /// Records of these messages, each with a tick of its own, and a time tick at the end.
    pub fn new(messages: Vec<Outgoing>) -> Self {
        let messages = messages.into_iter().chain([build::time_tick()]).enumerate();
        let records = messages.map(|(nth, message)| {
            let id = MessageId::RocksMq(nth as i64);
            let (payload, properties) = message.stamp(nth as u64 + 1, &id, 1);
            Record { id, payload, properties }
        });
        Self { records: records.collect(), script: Arc::default() }
    }
}

impl Log for ScriptedLog {
    fn pchannel(&self) -> &str {
        "p_0"
    }

    fn wal(&self) -> WalName {
        WalName::RocksMq
    }

    fn term(&self) -> i64 {
        1
    }

    fn append(&self, _: Vec<Outgoing>) -> Result<Vec<Appended>, LogError> {
        Err(LogError::Closed)
    }

    fn open(&self, from: ReadFrom) -> Result<Box<dyn LogReader>, LogError> {
        let at = |id: &MessageId| self.records.iter().position(|r| r.id == *id).unwrap_or_default();
        let next = match &from {
            ReadFrom::At(id) => at(id),
            ReadFrom::After(id) => at(id) + 1,
            ReadFrom::Earliest | ReadFrom::Latest => self.script.lock().unwrap().first,
        };
        self.script.lock().unwrap().check(next)?;
        Ok(Box::new(ScriptedReader { records: self.records.clone(), next, script: self.script.clone() }))
    }

    fn truncate(&self, _: &MessageId) -> Result<(), LogError> {
        Ok(())
    }
}

impl LogReader for ScriptedReader {
    fn next(&mut self, wait: Duration) -> Result<Option<LogItem>, LogError> {
        self.script.lock().unwrap().check(self.next)?;
        if self.script.lock().unwrap().fails_at.remove(&self.next) {
            return Err(LogError::Storage(format!("scripted, in front of {}", self.next)));
        }
        let Some(record) = self.records.get(self.next).cloned() else {
            thread::sleep(wait);
            return Ok(None);
        };
        self.next += 1;
        Ok(Some(LogItem::Record(record)))
    }
}

/// A component whose turns are a function: of the number of the turn (from 1), its input, and the stop that ends a real one's calls.
pub(super) struct ScriptedGuests<F>(pub Arc<F>);

struct ScriptedGuest<F> {
    turns: u64,
    turn: Arc<F>,
    stop: Stop,
}

impl<F: Fn(u64, &TurnInput, &Stop) -> Result<TurnOutput, Fault> + Send + Sync + 'static> Guests for ScriptedGuests<F> {
    fn start(&self, _: &GuestConfig, _: Option<&[u8]>, stop: &Stop) -> Result<Box<dyn Guest>, Fault> {
        Ok(Box::new(ScriptedGuest { turns: 0, turn: self.0.clone(), stop: stop.clone() }))
    }
}

impl<F: Fn(u64, &TurnInput, &Stop) -> Result<TurnOutput, Fault> + Send + Sync + 'static> Guest for ScriptedGuest<F> {
    fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        self.turns += 1;
        (self.turn)(self.turns, input, &self.stop)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        Ok(Vec::new())
    }

    fn told(&mut self, _: &[u8]) -> Result<Told, Fault> {
        Ok(Told::Echo(true))
    }

    fn explain(&mut self, _: ChannelIndex) -> Result<String, Fault> {
        Ok("scripted".to_owned())
    }

    fn take_dropped_events(&mut self) -> u64 {
        0
    }
}

/// Waits for something that another thread does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not after 20 s");
        thread::sleep(Duration::from_millis(10));
    }
}
