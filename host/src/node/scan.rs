//! The thread that reads a log for a pchannel. A reader that ends without our stop is opened again, after the last record read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};
use tidegate_core::calls::Position;
use tidegate_core::retry::backoff_ms;
use tidegate_core::scan::{ScanLimits, Scanned, Scanner};

use crate::wal::embedded::EmbeddedLog;
use crate::wal::{Log, LogItem, LogReader, ReadFrom};

/// Messages of one batch, as the flusher takes them.
const BATCH_MESSAGES: usize = 512;
/// Payload bytes of one batch, one message at least.
const BATCH_BYTES: usize = 1 << 20;
/// How long a stop may go unnoticed.
const STOP_GRAIN: Duration = Duration::from_millis(100);

/// A scan that runs. Dropping it ends the thread.
pub(super) struct Scan {
    stop: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A batch and the scan that it belongs to.
pub(super) type Batch = (u64, Vec<Scanned>);

impl Scan {
    pub fn start(log: Arc<EmbeddedLog>, scan: u64, from: Option<Position>, out: Sender<Batch>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let held = Arc::new(AtomicUsize::new(0));
        let mut reading = Reading { log, scan, out, stop: stop.clone(), held: held.clone(), scanner: Scanner::new(ScanLimits::default()) };
        let first = from.map_or(ReadFrom::Earliest, |p| ReadFrom::At(p.last_confirmed));
        let thread = thread::Builder::new().name("scan".into()).spawn(move || reading.run(first))?;
        Ok(Self { stop, held, thread: Some(thread) })
    }

    /// Bytes that wait for their tick or their transaction's end.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the scan thread panicked");
        }
    }
}

struct Reading {
    log: Arc<EmbeddedLog>,
    scan: u64,
    out: Sender<Batch>,
    stop: Arc<AtomicBool>,
    held: Arc<AtomicUsize>,
    scanner: Scanner,
}

impl Reading {
    fn run(&mut self, mut from: ReadFrom) {
        let mut failures = 0;
        while !self.stopped() {
            let ended = match self.log.open(from.clone()) {
                Ok(mut reader) => self.drain(&mut *reader, &mut from, &mut failures),
                Err(error) => Err(error),
            };
            if self.stopped() {
                return;
            }
            failures += 1;
            let wait = Duration::from_millis(backoff_ms(failures));
            let reason = ended.map_or_else(|e| e.to_string(), |()| "it ended".to_owned());
            tracing::warn!(pchannel = self.log.pchannel(), "the scan stopped: {reason}; it is opened again in {wait:?}");
            let mut waited = Duration::ZERO;
            while waited < wait && !self.stopped() {
                thread::sleep(STOP_GRAIN.min(wait - waited));
                waited += STOP_GRAIN;
            }
        }
    }

    fn drain(&mut self, reader: &mut dyn LogReader, from: &mut ReadFrom, failures: &mut u32) -> Result<(), crate::wal::LogError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while !self.stopped() {
            // What is read is handed on as soon as nothing more is at hand.
            let wait = if batch.is_empty() { STOP_GRAIN } else { Duration::ZERO };
            let item = reader.next(wait)?;
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
            self.held.store(self.scanner.held_bytes(), Ordering::Relaxed);
            if !batch.is_empty() && (idle || batch.len() >= BATCH_MESSAGES || bytes >= BATCH_BYTES) {
                self.hand_on(std::mem::take(&mut batch));
                bytes = 0;
            }
        }
        Ok(())
    }

    fn hand_on(&self, batch: Vec<Scanned>) {
        let mut batch = (self.scan, batch);
        while !self.stopped() {
            match self.out.send_timeout(batch, STOP_GRAIN) {
                Ok(()) | Err(SendTimeoutError::Disconnected(_)) => return,
                Err(SendTimeoutError::Timeout(back)) => batch = back,
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
