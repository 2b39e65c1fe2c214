use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use tidegate_message::{Message, MessageType, Record};

use super::*;
use crate::wal::LogItem;

const CHANNEL: &str = "by-dev-dml_0_1v0";

/// Ticks from a clock that the test moves.
#[derive(Default)]
struct Ticks {
    tick: AtomicU64,
    id: AtomicI64,
}

impl Ticks {
    fn advance_to_ms(&self, ms: u64) {
        self.tick.fetch_max(ms << 18, Ordering::SeqCst);
    }
}

impl TickSource for Ticks {
    fn next_ticks(&self, count: u32) -> Result<u64, LogError> {
        Ok(self.tick.fetch_add(u64::from(count), Ordering::SeqCst) + 1)
    }

    fn next_ids(&self, count: u32) -> Result<i64, LogError> {
        Ok(self.id.fetch_add(i64::from(count), Ordering::SeqCst) + 1)
    }
}

struct Setup {
    dir: TempDir,
    ticks: Arc<Ticks>,
    limits: LogLimits,
}

impl Setup {
    fn new() -> Self {
        // A log that ticks only in the test that asks for it.
        let limits = LogLimits { tick_interval: Duration::from_secs(3600), ..LogLimits::default() };
        Setup { dir: TempDir::new().unwrap(), ticks: Arc::default(), limits }
    }

    fn logs(&self) -> EmbeddedLogs {
        EmbeddedLogs::open(self.dir.path(), self.limits.clone()).unwrap()
    }

    fn open(&self, logs: &EmbeddedLogs, term: i64) -> Arc<EmbeddedLog> {
        logs.open_pchannel("by-dev-dml_0", term, self.ticks.clone()).unwrap()
    }
}

fn flush(segment: i64) -> Outgoing {
    build::flush(CHANNEL, 1, 2, segment)
}

fn read(log: &EmbeddedLog, from: ReadFrom) -> Vec<Record> {
    let mut reader = log.open(from).unwrap();
    let mut records = Vec::new();
    while let Some(item) = reader.next(Duration::ZERO).unwrap() {
        if let LogItem::Record(record) = item {
            records.push(record);
        }
    }
    records
}

fn kinds(records: &[Record]) -> Vec<MessageType> {
    records.iter().map(|record| Message::decode(record.clone()).unwrap().kind).collect()
}

fn ids(records: &[Record]) -> Vec<i64> {
    records.iter().map(|record| numeric(&record.id).unwrap()).collect()
}

const fn id(id: i64) -> MessageId {
    MessageId::RocksMq(id)
}

#[test]
fn a_log_keeps_exactly_what_was_appended_and_goes_on_above_it_when_it_is_opened_again() {
    let setup = Setup::new();
    let before = {
        let logs = setup.logs();
        let log = setup.open(&logs, 1);
        log.append(vec![flush(1), flush(2)]).unwrap();
        log.append(vec![flush(3)]).unwrap();
        read(&log, ReadFrom::Earliest)
    };
    use MessageType as T;
    assert_eq!(kinds(&before), [T::TIME_TICK, T::FLUSH, T::FLUSH, T::TIME_TICK, T::FLUSH, T::TIME_TICK]);
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let after = read(&log, ReadFrom::Earliest);
    assert_eq!(after[..before.len()], before);
    assert_eq!(ids(&after), (0..7).collect::<Vec<_>>());
    let ticks: Vec<u64> = after.into_iter().map(|record| Message::decode(record).unwrap().tick).collect();
    assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
}

#[test]
fn a_tick_source_that_goes_back_is_refused() {
    let setup = Setup::new();
    setup.ticks.advance_to_ms(10);
    drop(setup.open(&setup.logs(), 1));
    let error = setup.logs().open_pchannel("by-dev-dml_0", 1, Arc::new(Ticks::default())).err();
    assert!(matches!(error, Some(LogError::Invalid(_))), "{error:?}");
}

#[test]
fn readers_begin_where_they_are_told() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    log.append(vec![flush(1), flush(2)]).unwrap();
    assert_eq!(ids(&read(&log, ReadFrom::Earliest)), [0, 1, 2, 3]);
    assert_eq!(ids(&read(&log, ReadFrom::At(id(-1)))), [0, 1, 2, 3]);
    assert_eq!(ids(&read(&log, ReadFrom::At(id(2)))), [2, 3]);
    assert_eq!(ids(&read(&log, ReadFrom::After(id(2)))), [3]);
    assert_eq!(ids(&read(&log, ReadFrom::Latest)), [0i64; 0]);
    assert!(matches!(log.open(ReadFrom::At(MessageId::Kafka(1))).err(), Some(LogError::Invalid(_))));

    let mut latest = log.open(ReadFrom::Latest).unwrap();
    let mut at_next = log.open(ReadFrom::At(id(4))).unwrap();
    let appended = log.append(vec![flush(3)]).unwrap();
    for reader in [&mut latest, &mut at_next] {
        let Some(LogItem::Record(record)) = reader.next(Duration::ZERO).unwrap() else { panic!("a record is durable") };
        assert_eq!((&record.id, record.id.clone()), (&appended[0].id, id(4)));
    }
}

#[test]
fn a_waiting_reader_wakes_for_a_record() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let mut reader = log.open(ReadFrom::Latest).unwrap();
    assert_eq!(reader.next(Duration::from_millis(5)).unwrap(), None);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.next(Duration::from_secs(60)).unwrap());
        log.append(vec![flush(1)]).unwrap();
        assert!(matches!(waiting.join().unwrap(), Some(LogItem::Record(_))));
    });
}

#[test]
fn an_idle_log_ticks_for_its_readers_and_stores_nothing() {
    let mut setup = Setup::new();
    setup.limits.tick_interval = Duration::from_millis(1);
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let appended = log.append(vec![flush(1)]).unwrap();
    let mut reader = log.open(ReadFrom::After(appended[0].id.clone())).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(reader.next(Duration::from_secs(60)).unwrap().unwrap());
    }
    assert!(matches!(&seen[0], LogItem::Record(closing) if closing.id == id(2)), "{seen:?}");
    let [_, LogItem::IdleTick { tick: first, last_confirmed }, LogItem::IdleTick { tick: second, .. }] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert!(appended[0].tick < *first && first < second);
    assert_eq!(*last_confirmed, id(2));
    let later = log.append(vec![flush(2)]).unwrap();
    assert_eq!(later[0].id, id(3), "idle ticks take no ids");
    assert!(later[0].tick > *second);
}

#[test]
fn truncation_drops_whole_chunks_below_and_keeps_what_was_named_readable() {
    let mut setup = Setup::new();
    setup.limits.chunk_records = 4;
    let appended: Vec<i64> = {
        let logs = setup.logs();
        let log = setup.open(&logs, 1);
        let appended = (0..10).map(|n| numeric(&log.append(vec![flush(n)]).unwrap()[0].id).unwrap()).collect::<Vec<_>>();
        let mut behind = log.open(ReadFrom::Earliest).unwrap();
        log.truncate(&id(appended[5])).unwrap();
        let left = ids(&read(&log, ReadFrom::Earliest));
        assert!(left[0] > 0 && left[0] <= appended[5], "{left:?}");
        assert_eq!(left, (left[0]..=20).collect::<Vec<_>>());
        assert!(matches!(log.open(ReadFrom::At(id(0))).err(), Some(LogError::Truncated { .. })));
        assert!(matches!(behind.next(Duration::ZERO), Err(LogError::Truncated { .. })));
        appended
    };
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    assert!(read(&log, ReadFrom::Earliest).iter().any(|record| record.id == id(appended[5])));
    log.truncate(&id(i64::MAX)).unwrap();
    assert!(!read(&log, ReadFrom::Earliest).is_empty(), "the last record stays: ids go on above it");
}

#[test]
fn a_higher_term_fences_an_open_handle_and_its_readers() {
    let setup = Setup::new();
    let logs = setup.logs();
    let old = setup.open(&logs, 1);
    let mut reader = old.open(ReadFrom::Latest).unwrap();
    let fenced = |term, by| LogError::Fenced { pchannel: "by-dev-dml_0".to_owned(), term, by };
    assert_eq!(logs.open_pchannel("by-dev-dml_0", 1, setup.ticks.clone()).err(), Some(fenced(1, 1)));
    let new = setup.open(&logs, 3);
    assert_eq!(old.append(vec![flush(1)]), Err(fenced(1, 3)));
    assert_eq!(reader.next(Duration::ZERO), Err(fenced(1, 3)));
    new.append(vec![flush(2)]).unwrap();
    drop(new);
    assert_eq!(logs.open_pchannel("by-dev-dml_0", 2, setup.ticks.clone()).err(), Some(fenced(2, 3)), "the stored term counts");
    setup.open(&logs, 3);
}

#[test]
fn four_threads_append_and_every_record_is_there_once_with_ticks_ascending_by_id() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let mut reader = log.open(ReadFrom::Earliest).unwrap();
    let mut appended: Vec<(MessageId, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let log = &log;
                scope.spawn(move || (0..25).flat_map(|n| log.append(vec![flush(thread * 100 + n), flush(0)]).unwrap()).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).map(|a| (a.id, a.tick)).collect()
    });
    appended.sort_by_key(|(_, tick)| *tick);
    let mut read = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut last = (-1, 0);
    while read.len() < appended.len() && Instant::now() < deadline {
        if let Some(LogItem::Record(record)) = reader.next(Duration::from_secs(1)).unwrap() {
            let message = Message::decode(record).unwrap();
            let at = (numeric(&message.id).unwrap(), message.tick);
            assert!(at.0 == last.0 + 1 && at.1 > last.1, "{at:?} after {last:?}");
            last = at;
            if message.kind == MessageType::FLUSH {
                read.push((message.id, message.tick));
            }
        }
    }
    assert_eq!(read, appended);
}

#[test]
fn nothing_of_a_refused_append_is_in_the_log() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let mut unreadable = flush(2);
    unreadable.properties.remove(properties::VERSION);
    let key = || vec![(b"k".to_vec(), Some(b"v".to_vec()))];
    assert!(matches!(log.append_with(vec![flush(1), unreadable], key()), Err(LogError::Invalid(_))));
    assert!(matches!(log.append(vec![build::time_tick()]), Err(LogError::Invalid(_))));
    assert!(matches!(log.append_with(vec![flush(1)], vec![(vec![0; 17 << 20], None)]), Err(LogError::Invalid(_))));
    assert!(kinds(&read(&log, ReadFrom::Earliest)).iter().all(|kind| *kind == MessageType::TIME_TICK));
    assert_eq!(log.meta_get(b"k").unwrap(), None);
}

#[test]
fn the_owners_keys_change_with_the_append_and_survive() {
    let setup = Setup::new();
    {
        let logs = setup.logs();
        let log = setup.open(&logs, 1);
        let put = |key: &[u8], value: &[u8]| (key.to_vec(), Some(value.to_vec()));
        log.append_with(vec![flush(1)], vec![put(b"seg/1", b"a"), put(b"seg/2", b"b"), put(b"other", b"c")]).unwrap();
        log.append_with(vec![], vec![(b"seg/1".to_vec(), None)]).unwrap();
    }
    let logs = setup.logs();
    let log = setup.open(&logs, 2);
    assert_eq!(log.meta_scan(b"seg/").unwrap(), [(b"seg/2".to_vec(), b"b".to_vec())]);
    assert_eq!(log.meta_get(b"other").unwrap(), Some(b"c".to_vec()));
}

#[test]
fn an_open_transaction_holds_last_confirmed_at_its_begin_until_it_ends() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let txn = log.begin_txn(CHANNEL, 0).unwrap();
    assert_eq!(txn.keepalive_ms, DEFAULT_KEEPALIVE_MS);
    let begin = id(1);
    let body = log.append(vec![build::with_txn(flush(1), &txn)]).unwrap();
    let plain = log.append(vec![flush(2)]).unwrap();
    let commit = log.commit_txn(CHANNEL, &txn).unwrap();
    for appended in [&body[0], &plain[0], &commit] {
        assert_eq!(appended.last_confirmed, begin);
    }
    let after = log.append(vec![flush(3)]).unwrap();
    assert_eq!(after[0].last_confirmed, after[0].id);
    assert_eq!(log.append(vec![build::with_txn(flush(4), &txn)]), Err(LogError::NotOpen { txn_id: txn.txn_id }));
    assert_eq!(log.rollback_txn(CHANNEL, &txn), Err(LogError::NotOpen { txn_id: txn.txn_id }));
    let other = log.begin_txn(CHANNEL, 0).unwrap();
    assert!(matches!(log.append(vec![build::with_txn(build::flush("another_1v0", 1, 2, 3), &other)]), Err(LogError::Invalid(_))));
    log.rollback_txn(CHANNEL, &other).unwrap();
}

#[test]
fn a_transaction_expires_by_ticks_and_stays_expired() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let txn = log.begin_txn(CHANNEL, 1000).unwrap();
    setup.ticks.advance_to_ms(900);
    log.append(vec![build::with_txn(flush(1), &txn)]).unwrap();
    setup.ticks.advance_to_ms(1899);
    log.append(vec![flush(2)]).unwrap();
    setup.ticks.advance_to_ms(1901);
    let not_open = LogError::NotOpen { txn_id: txn.txn_id };
    assert_eq!(log.commit_txn(CHANNEL, &txn), Err(not_open.clone()));
    assert_eq!(log.append(vec![build::with_txn(flush(3), &txn)]), Err(not_open));
    let after = log.append(vec![flush(4)]).unwrap();
    assert_eq!(after[0].last_confirmed, after[0].id, "it holds nothing back any more");
}

#[test]
fn opening_a_log_rolls_back_what_was_left_open() {
    let setup = Setup::new();
    let txn = {
        let logs = setup.logs();
        let log = setup.open(&logs, 1);
        log.begin_txn(CHANNEL, -1).unwrap()
    };
    for term in 2..4 {
        let logs = setup.logs();
        let log = setup.open(&logs, term);
        let records = read(&log, ReadFrom::Earliest);
        let rolled_back = records.iter().filter(|r| kinds(&[(*r).clone()]) == [MessageType::ROLLBACK_TXN]).count();
        assert_eq!(rolled_back, 1, "once, at term {term}");
        assert_eq!(log.commit_txn(CHANNEL, &txn), Err(LogError::NotOpen { txn_id: txn.txn_id }));
    }
}

#[test]
fn a_change_of_a_channel_ends_its_transactions() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let (here, there) = (log.begin_txn(CHANNEL, 0).unwrap(), log.begin_txn("another_1v0", 0).unwrap());
    log.append(vec![build::drop_collection(CHANNEL, 1)]).unwrap();
    assert_eq!(log.commit_txn(CHANNEL, &here), Err(LogError::NotOpen { txn_id: here.txn_id }));
    log.commit_txn("another_1v0", &there).unwrap();
}

#[test]
fn a_dropped_log_refuses_its_readers() {
    let setup = Setup::new();
    let logs = setup.logs();
    let log = setup.open(&logs, 1);
    let mut reader = log.open(ReadFrom::Earliest).unwrap();
    drop(log);
    assert_eq!(reader.next(Duration::from_secs(60)), Err(LogError::Closed));
}
