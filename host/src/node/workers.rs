//! Threads that do what the core wants done: calls, segment writes, appends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::calls::{CallError, Caller};
use tidegate_core::pchannel::{Event, Outcome, Work, WriteJob, Written};
use tidegate_core::retry::CallId;
use tidegate_message::build;

use super::Syncs;
use crate::coordinator::CoordinatorClient;
use crate::stop::{Stop, join_within, panic_text};
use crate::storage::{Body, ChunkStore, DeleteJob, RowBatchJob, StorageError, WriteOutcome, write_deletes, write_rows};
use crate::wal::{Log, LogError};

/// Calls made at the same time, a pchannel: each is short, and some wait for an fsync.
const CALLERS: usize = 2;

/// What a pchannel works with.
#[derive(Clone)]
pub(super) struct Peers {
    pub log: Arc<dyn Log>,
    pub coordinator: Arc<dyn CoordinatorClient>,
    pub chunks: Arc<ChunkStore>,
    /// Which bloom filter statistics get.
    pub filter: FilterKind,
    /// Which form delta logs are written in.
    pub delta_form: DeltaForm,
}

/// How long a stop waits for what workers are doing: a peer of another kind than the embedded ones may hang.
const END_MAX: Duration = Duration::from_millis(1_500);

/// A piece of work and when it began.
type Queued = (CallId, Work, Instant);

/// The threads of one pchannel. Dropping them stops them: what they are doing is waited for, what is queued is not begun.
pub(super) struct Workers {
    stop: Stop,
    calls: Option<Sender<Queued>>,
    writes: Option<Sender<Queued>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    pub fn start(
        peers: &Peers,
        caller: &Caller,
        writers: usize,
        events: &Sender<Event>,
        stop: &Stop,
        syncs: &Arc<Mutex<Syncs>>,
    ) -> std::io::Result<Self> {
        let (calls, call_queue) = unbounded();
        let (writes, write_queue) = unbounded();
        let mut threads = Vec::new();
        for (name, count, queue) in [("calls", CALLERS, call_queue), ("writes", writers, write_queue)] {
            for _ in 0..count {
                let (peers, caller, queue, events) = (peers.clone(), caller.clone(), queue.clone(), events.clone());
                let (stop, syncs) = (stop.clone(), syncs.clone());
                let run = move || work_off(&peers, &caller, &queue, &events, &stop, &syncs);
                threads.push(thread::Builder::new().name(name.into()).spawn(run)?);
            }
        }
        Ok(Self { stop: stop.clone(), calls: Some(calls), writes: Some(writes), threads })
    }

    pub fn begin(&self, id: CallId, work: Work) {
        let queue = if matches!(work, Work::Write(_)) { &self.writes } else { &self.calls };
        if let Some(queue) = queue {
            // The queue is open as long as this is alive.
            let _sent = queue.send((id, work, Instant::now()));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.set();
        self.calls = None;
        self.writes = None;
        join_within(self.threads.drain(..), END_MAX);
    }
}

fn work_off(peers: &Peers, caller: &Caller, queue: &Receiver<Queued>, events: &Sender<Event>, stop: &Stop, syncs: &Mutex<Syncs>) {
    for (id, work, queued) in queue {
        if stop.is_set() {
            return;
        }
        let began = Instant::now();
        // A call whose thread is gone would be in flight for ever.
        let result = catch_unwind(AssertUnwindSafe(|| perform(peers, caller, &work)));
        let result = result.unwrap_or_else(|panic| Err(CallError::Transient(format!("its thread panicked: {}", panic_text(&*panic)))));
        if Syncs::include(&work) {
            let mut syncs = syncs.lock().unwrap_or_else(PoisonError::into_inner);
            syncs.queued.observe(began.duration_since(queued));
            syncs.executed.observe(began.elapsed());
        }
        if events.send(Event::Ended { id, result }).is_err() {
            return;
        }
    }
}

fn perform(peers: &Peers, caller: &Caller, work: &Work) -> Result<Outcome, CallError> {
    match work {
        Work::Call(call) => peers.coordinator.call(caller, call).map(Outcome::Reply),
        Work::Write(job) => write(peers, job),
        Work::AppendFlush { vchannel, collection, partition, segment } => {
            let message = build::flush(vchannel, *collection, *partition, *segment);
            peers.log.append(vec![message]).map(|_| Outcome::Appended).map_err(of_log)
        }
        Work::OpenScan { .. } | Work::OpenCatchUp { .. } => Err(CallError::Permanent("a scan is not opened by a worker".to_owned())),
    }
}

fn write(peers: &Peers, job: &WriteJob) -> Result<Outcome, CallError> {
    let ids = |count: u32| peers.coordinator.alloc_ids(count);
    let bodies =
        job.bodies.iter().map(|(ordinal, tick, payload)| Body { ordinal: *ordinal, tick: *tick, payload: payload.clone() }).collect();
    let (collection, partition) = (job.collection, job.partition);
    let (segment, outcome) = if job.deletes {
        let segment = ids(1)?;
        let primary_key = job.schema.primary().map_or(0, |f| f.id);
        let job = DeleteJob { collection, partition, segment, primary_key, bodies, form: peers.delta_form };
        (segment, write_deletes(&*peers.chunks, &ids, &job))
    } else {
        let segment = job.segment;
        let job = RowBatchJob {
            collection,
            partition,
            segment,
            schema: job.schema.clone(),
            bodies,
            earlier_statistics: job.earlier_statistics.clone(),
            flush: job.flush,
            layout: job.layout.clone(),
            filter: peers.filter,
        };
        (segment, write_rows(&*peers.chunks, &ids, &job))
    };
    match outcome.map_err(of_storage)? {
        WriteOutcome::Written { files, rows, .. } => Ok(Outcome::Written(Written { segment, files, rows })),
        WriteOutcome::BadRows(bad) => Ok(Outcome::BadRows(bad)),
    }
}

fn of_log(error: LogError) -> CallError {
    match error {
        LogError::Fenced { .. } => CallError::Fenced(error.to_string()),
        _ => CallError::Permanent(error.to_string()),
    }
}

fn of_storage(error: StorageError) -> CallError {
    match error {
        StorageError::Transient { .. } => CallError::Transient(error.to_string()),
        StorageError::NotFound { .. } | StorageError::Permanent { .. } => CallError::Permanent(error.to_string()),
    }
}
