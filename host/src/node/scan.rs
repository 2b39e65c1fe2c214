//! The thread that reads a log for a pchannel. A reader that ends without our stop is opened again, after the last record read; at the
//! earliest record, if that place is not in the log any more (filters make the replay safe).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use crossbeam_channel::{SendTimeoutError, Sender};
use tidegate_core::calls::Position;
use tidegate_core::retry::backoff_ms;
use tidegate_core::scan::{ReadFailure, ScanLimits, ScanStatus, Scanned, Scanner};
use tidegate_message::MessageId;

use crate::stop::{STOP_GRAIN, Stop, join_within, panic_text};
use crate::wal::{Log, LogError, LogItem, LogReader, ReadFrom};

/// Messages of one batch, as the flusher takes them.
const BATCH_MESSAGES: usize = 512;
/// Payload bytes of one batch, one message at least.
const BATCH_BYTES: usize = 1 << 20;
/// How long the end of a scan is waited for: a log of another kind than the embedded one may hang.
const END_MAX: Duration = Duration::from_millis(500);

/// A scan that runs. Dropping it ends the thread.
pub(super) struct Scan {
    stop: Stop,
    status: Arc<Mutex<ScanStatus>>,
    thread: Option<JoinHandle<()>>,
}

/// A batch and the scan that it belongs to.
pub(super) type Batch = (u64, Vec<Scanned>);

impl Scan {
    pub fn start(log: Arc<dyn Log>, scan: u64, from: Option<Position>, limits: ScanLimits, out: Sender<Batch>) -> std::io::Result<Self> {
        Self::start_for(None, log, scan, from, limits, out)
    }

    /// A scan that hands on only what concerns one vchannel, if one is given.
    pub fn start_for(
        vchannel: Option<String>,
        log: Arc<dyn Log>,
        scan: u64,
        from: Option<Position>,
        limits: ScanLimits,
        out: Sender<Batch>,
    ) -> std::io::Result<Self> {
        let stop = Stop::default();
        let status = Arc::new(Mutex::new(ScanStatus::default()));
        let mut reading = Reading {
            scan,
            vchannel,
            out,
            stop: stop.clone(),
            status: status.clone(),
            scanner: Scanner::new(limits),
            again: ReadAgain { log: log.clone(), reader: None },
            log,
            noted: Instant::now(),
            pending_bytes: 0,
            failing: None,
            gaps: 0,
            last_gap: None,
        };
        let first = from.map_or(ReadFrom::Earliest, |p| ReadFrom::At(p.last_confirmed));
        let thread = thread::Builder::new().name("scan".into()).spawn(move || reading.run_to_the_end(first))?;
        Ok(Self { stop, status, thread: Some(thread) })
    }

    pub fn status(&self) -> ScanStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.set();
        join_within(self.thread.take(), END_MAX);
    }
}

struct Reading {
    log: Arc<dyn Log>,
    scan: u64,
    /// What does not concern it is not handed on.
    vchannel: Option<String>,
    out: Sender<Batch>,
    stop: Stop,
    status: Arc<Mutex<ScanStatus>>,
    scanner: Scanner,
    again: ReadAgain,
    /// When the status was told last.
    noted: Instant,
    /// Bytes of messages that wait for the flusher.
    pending_bytes: usize,
    failing: Option<ReadFailure>,
    gaps: u64,
    last_gap: Option<String>,
}

impl Reading {
    /// Reads until the stop; a panic is told as a failure that lasts.
    fn run_to_the_end(&mut self, from: ReadFrom) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run(from))) {
            let text = panic_text(&*panic);
            tracing::error!(pchannel = self.log.pchannel(), "the thread that reads the log panicked: {text}");
            self.fail(format!("the thread that reads it panicked, restart the node: {text}"));
        }
    }

    fn run(&mut self, mut from: ReadFrom) {
        let mut failures = 0;
        while !self.stop.is_set() {
            let ended = match self.log.open(from.clone()) {
                Ok(mut reader) => self.drain(&mut *reader, &mut from, &mut failures),
                Err(error) => Err(error),
            };
            if self.stop.is_set() {
                return;
            }
            match ended {
                Err(error @ LogError::Truncated { .. }) if from != ReadFrom::Earliest => {
                    self.gaps += 1;
                    let text = format!("records that were to be read are not in the log any more: {error}; the scan goes on there");
                    tracing::error!(pchannel = self.log.pchannel(), "{text}");
                    self.last_gap = Some(text);
                    self.note();
                    from = ReadFrom::Earliest;
                }
                ended => {
                    failures += 1;
                    let wait = Duration::from_millis(backoff_ms(failures));
                    let reason = ended.map_or_else(|e| e.to_string(), |()| "the reader ended".to_owned());
                    tracing::warn!(pchannel = self.log.pchannel(), "the scan stopped: {reason}; it is opened again in {wait:?}");
                    self.fail(reason);
                    self.stop.pause(wait);
                }
            }
        }
    }

    /// Tells that the log cannot be read.
    fn fail(&mut self, reason: String) {
        let (times, since_ms) = self.failing.as_ref().map_or_else(|| (0, now_ms()), |f| (f.times, f.since_ms));
        self.failing = Some(ReadFailure { reason, times: times.saturating_add(1), since_ms });
        self.note();
    }

    /// Tells that it can be read again.
    fn recover(&mut self) {
        if self.failing.take().is_some() {
            tracing::info!(pchannel = self.log.pchannel(), "the log is read again");
            self.note();
        }
    }

    fn drain(&mut self, reader: &mut dyn LogReader, from: &mut ReadFrom, failures: &mut u32) -> Result<(), LogError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while !self.stop.is_set() {
            // What is read is handed on as soon as nothing more is at hand.
            let wait = if batch.is_empty() { STOP_GRAIN } else { Duration::ZERO };
            let item = match reader.next(wait) {
                Ok(item) => item,
                Err(error) => {
                    // The next reader begins behind what is here already.
                    self.hand_on(batch);
                    return Err(error);
                }
            };
            self.recover();
            let idle = item.is_none();
            match item {
                Some(LogItem::Record(record)) => {
                    *from = ReadFrom::After(record.id.clone());
                    *failures = 0;
                    bytes += record.size();
                    self.scanner.push(record, &mut batch);
                }
                Some(LogItem::IdleTick { tick, last_confirmed }) => self.scanner.idle_tick(tick, last_confirmed, &mut batch),
                None => {}
            }
            self.pending_bytes = if batch.is_empty() { 0 } else { bytes };
            if !batch.is_empty() && (idle || batch.len() >= BATCH_MESSAGES || bytes >= BATCH_BYTES) {
                self.note();
                self.hand_on(std::mem::take(&mut batch));
                bytes = 0;
            } else if self.noted.elapsed() >= STOP_GRAIN {
                self.note();
            }
        }
        Ok(())
    }

    /// Tells where the scan stands: with each batch, and often enough without one; each record would be too often.
    fn note(&mut self) {
        let status = ScanStatus {
            pending_bytes: self.pending_bytes,
            failing: self.failing.clone(),
            gaps: self.gaps,
            last_gap: self.last_gap.clone(),
            ..self.scanner.status()
        };
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.noted = Instant::now();
    }

    /// Hands messages on, those that were parked with their rows again: so many at a time that their bytes are bounded (ME-1).
    fn hand_on(&mut self, released: Vec<Scanned>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let wanted = |scanned: &Scanned| self.vchannel.as_ref().is_none_or(|vchannel| scanned.concerns(vchannel));
        let released: Vec<Scanned> = released.into_iter().filter(wanted).collect();
        for mut scanned in released {
            if let Some(id) = scanned.message().filter(|_| matches!(scanned, Scanned::Parked(_))).map(|m| m.id.clone()) {
                match self.read_again(&id) {
                    Reread::Payload(payload) => {
                        bytes += payload.len();
                        scanned = scanned.unpark(payload);
                    }
                    // The flusher takes no message without its rows: it recovers, and begins at the earliest record.
                    Reread::Gone => {}
                    Reread::Stopped => return,
                }
            }
            batch.push(scanned);
            if bytes >= BATCH_BYTES {
                self.send(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
        self.send(batch);
    }

    /// Reads a payload again, as often as it takes.
    fn read_again(&mut self, id: &MessageId) -> Reread {
        let mut failures = 0;
        while !self.stop.is_set() {
            match self.again.payload(id) {
                Ok(payload) => {
                    self.recover();
                    return Reread::Payload(payload);
                }
                Err(error @ LogError::Truncated { .. }) => {
                    tracing::error!(
                        pchannel = self.log.pchannel(),
                        "record {id}, whose rows were let go, is not in the log any more: {error}"
                    );
                    return Reread::Gone;
                }
                Err(error) => {
                    failures += 1;
                    let wait = Duration::from_millis(backoff_ms(failures));
                    let reason = format!("record {id} was not read again: {error}");
                    tracing::warn!(pchannel = self.log.pchannel(), "{reason}; tried again in {wait:?}");
                    self.fail(reason);
                    self.stop.pause(wait);
                }
            }
        }
        Reread::Stopped
    }

    fn send(&self, batch: Vec<Scanned>) {
        let mut batch = (self.scan, batch);
        while !self.stop.is_set() {
            match self.out.send_timeout(batch, STOP_GRAIN) {
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
                Err(SendTimeoutError::Timeout(back)) => batch = back,
            }
        }
    }
}

/// What reading a payload a second time came to.
enum Reread {
    Payload(Bytes),
    /// It was truncated.
    Gone,
    Stopped,
}

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// Reads records a second time. They are asked for in about the order of the log, so one reader that goes forward serves most of them.
struct ReadAgain {
    log: Arc<dyn Log>,
    /// A reader, and the record it gave last.
    reader: Option<(Box<dyn LogReader>, MessageId)>,
}

impl ReadAgain {
    fn payload(&mut self, id: &MessageId) -> Result<Bytes, LogError> {
        let ahead = |last: &MessageId| last.compare(id).is_ok_and(std::cmp::Ordering::is_lt);
        let mut reader = match self.reader.take() {
            Some((reader, last)) if ahead(&last) => reader,
            _ => self.log.open(ReadFrom::At(id.clone()))?,
        };
        loop {
            match reader.next(STOP_GRAIN)? {
                Some(LogItem::Record(record)) if record.id == *id => {
                    self.reader = Some((reader, record.id));
                    return Ok(record.payload);
                }
                Some(LogItem::Record(record)) if ahead(&record.id) => {}
                _ => return Err(LogError::Storage(format!("record {id} was read before and is not there now"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};
    use tidegate_message::columns::PrimaryKey;
    use tidegate_message::{MessageType, Outgoing, build};

    use super::*;
    use crate::node::scripted::{ScriptedLog, eventually};
    use crate::wal::TickSource;
    use crate::wal::embedded::{EmbeddedLogs, LogLimits};

    /// Ticks and ids that ascend.
    struct Counter(Mutex<u64>);

    impl TickSource for Counter {
        fn next_ticks(&self, count: u32) -> Result<u64, LogError> {
            let mut next = self.0.lock().unwrap();
            *next += u64::from(count);
            Ok(*next - u64::from(count))
        }

        fn next_ids(&self, count: u32) -> Result<i64, LogError> {
            self.next_ticks(count).map(|first| first as i64)
        }
    }

    fn deletes(count: usize) -> Vec<Outgoing> {
        (0..count).map(|n| build::delete("p_0_1v0", 1, 2, &[PrimaryKey::VarChar(format!("{n} {}", "k".repeat(100)))])).collect()
    }

    /// The ids of the messages that carry rows, as they come out, each with whether its rows are there.
    fn delivered(batches: &Receiver<Batch>, count: usize) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        while found.len() < count {
            let (_, batch) = batches.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| panic!("only {found:?}"));
            let rows = batch.iter().filter_map(Scanned::message).filter(|m| m.kind == MessageType::DELETE);
            found.extend(rows.map(|m| (m.id.to_string(), !m.payload.is_empty())));
        }
        found
    }

    #[test]
    fn what_was_read_before_a_reader_failed_is_delivered_once() {
        // Without room every message is parked, and read again through a reader that fails as well.
        for held_bytes_max in [1 << 20, 0] {
            let log = ScriptedLog::new(deletes(6).into_iter().flat_map(|delete| [delete, build::time_tick()]).collect());
            let expected: Vec<_> = log.records.iter().step_by(2).take(6).map(|r| (r.id.to_string(), true)).collect();
            log.script.lock().unwrap().fails_at = [2, 5].into();
            let (out, batches) = unbounded();
            let _scan = Scan::start(Arc::new(log), 1, None, ScanLimits { held_bytes_max, ..ScanLimits::default() }, out).unwrap();
            assert_eq!(delivered(&batches, 6), expected, "with {held_bytes_max} bytes of room");
        }
    }

    #[test]
    fn a_log_that_cannot_be_read_shows_until_it_is_read_again() {
        let log = ScriptedLog::new(deletes(3));
        let script = log.script.clone();
        script.lock().unwrap().broken = true;
        let (out, batches) = unbounded();
        let scan = Scan::start(Arc::new(log), 1, None, ScanLimits::default(), out).unwrap();
        eventually("a failure", || scan.status().failing.is_some_and(|f| f.reason.contains("the disk is gone") && f.times > 1));
        script.lock().unwrap().broken = false;
        assert_eq!(delivered(&batches, 3).len(), 3);
        eventually("health", || scan.status().failing.is_none());
    }

    #[test]
    fn a_scan_whose_start_was_truncated_begins_at_the_earliest_record_and_says_so() {
        let log = ScriptedLog::new(deletes(6));
        log.script.lock().unwrap().first = 4;
        let from = Position { last_confirmed: MessageId::RocksMq(1), tick: 2 };
        let (out, batches) = unbounded();
        let scan = Scan::start(Arc::new(log), 1, Some(from), ScanLimits::default(), out).unwrap();
        assert_eq!(delivered(&batches, 2), [("4".to_owned(), true), ("5".to_owned(), true)]);
        let status = scan.status();
        assert_eq!((status.gaps, status.failing), (1, None));
        assert!(status.last_gap.is_some_and(|gap| gap.contains("begins at 4")));
    }

    #[test]
    fn rows_that_were_let_go_and_truncated_are_not_waited_for() {
        let mut messages = deletes(2);
        messages.push(build::time_tick());
        let log = ScriptedLog::new(messages);
        // The first reader fails in front of the tick; what it read is truncated before the next one goes on.
        log.script.lock().unwrap().fails_at = [2].into();
        let script = log.script.clone();
        let (out, batches) = unbounded();
        let _scan = Scan::start(Arc::new(log), 1, None, ScanLimits { held_bytes_max: 0, ..ScanLimits::default() }, out).unwrap();
        eventually("the first reader's end", || script.lock().unwrap().fails_at.is_empty());
        script.lock().unwrap().first = 2;
        // The flusher recovers when it gets one without rows.
        assert_eq!(delivered(&batches, 2), [("0".to_owned(), false), ("1".to_owned(), false)]);
    }

    #[test]
    fn a_second_reading_that_fails_is_begun_again() {
        let log = ScriptedLog::new(deletes(6));
        let expected: Vec<_> = log.records.iter().take(6).map(|r| (r.id.to_string(), true)).collect();
        let script = log.script.clone();
        let mut again = ReadAgain { log: Arc::new(log), reader: None };
        let mut found = Vec::new();
        for nth in 0..6 {
            script.lock().unwrap().fails_at.insert(nth);
            let id = MessageId::RocksMq(nth as i64);
            assert!(again.payload(&id).is_err());
            found.push((id.to_string(), again.payload(&id).is_ok_and(|payload| !payload.is_empty())));
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn rows_that_were_let_go_are_read_again_and_delivered_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let logs = EmbeddedLogs::open(dir.path(), LogLimits::default()).unwrap();
        let log = logs.open_pchannel("p_0", 1, Arc::new(Counter(Mutex::new(1 << 40)))).unwrap();
        let body = |key: String| build::delete("p_0_1v0", 1, 2, &[PrimaryKey::VarChar(key)]);
        // Two transactions whose bodies interleave, and are committed in the order in which they did not begin.
        let first = log.begin_txn("p_0_1v0", -1).unwrap();
        let second = log.begin_txn("p_0_1v0", -1).unwrap();
        for nth in 0..20 {
            for (name, txn) in [("first", &first), ("second", &second)] {
                log.append(vec![build::with_txn(body(format!("{name} {nth}")), txn)]).unwrap();
            }
        }
        log.commit_txn("p_0_1v0", &second).unwrap();
        log.commit_txn("p_0_1v0", &first).unwrap();

        let (out, batches) = unbounded();
        let limits = ScanLimits { held_bytes_max: 1_000, ..ScanLimits::default() };
        let scan = Scan::start(log, 1, None, limits, out).unwrap();
        let mut rows = Vec::new();
        while rows.len() < 40 {
            let (_, batch) = batches.recv_timeout(Duration::from_secs(20)).expect("40 bodies come");
            for scanned in batch {
                let Scanned::Message(message, _) = scanned else { panic!("{scanned:?}") };
                rows.extend(message.txn.map(|_| message.payload.clone()));
            }
        }
        let expected = ["second", "first"].iter().flat_map(|name| (0..20).map(move |nth| body(format!("{name} {nth}")).payload));
        assert_eq!(rows, expected.collect::<Vec<_>>());
        assert!(scan.status().counters.parked > 30, "{:?}", scan.status());
    }
}
