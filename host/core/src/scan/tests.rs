use tidegate_message::columns::PrimaryKey;
use tidegate_message::{Outgoing, build};

use super::*;

const SECOND: i64 = 1000;

/// A plain message.
pub(super) fn message(id: i64, tick: u64) -> Message {
    Message::decode(record(id, tick, build::flush("ch_1v0", 1, 2, id))).unwrap()
}

fn record(id: i64, tick: u64, outgoing: Outgoing) -> Record {
    let id = MessageId::RocksMq(id);
    let (payload, properties) = outgoing.stamp(tick, &id, 1);
    Record { id, payload, properties }
}

fn at_ms(ms: u64) -> u64 {
    ms << 18
}

/// A scan whose records get consecutive ids.
struct Scan {
    scanner: Scanner,
    next: i64,
    out: Vec<Scanned>,
}

impl Scan {
    fn new() -> Self {
        Scan { scanner: Scanner::new(ScanLimits::default()), next: 0, out: Vec::new() }
    }

    fn push(&mut self, tick: u64, outgoing: Outgoing) -> &mut Self {
        self.next += 1;
        self.scanner.push(record(self.next, tick, outgoing), &mut self.out);
        self
    }

    fn plain(&mut self, tick: u64) -> &mut Self {
        self.push(tick, build::flush("ch_1v0", 1, 2, 3))
    }

    fn begin(&mut self, tick: u64, txn: TxnContext) -> &mut Self {
        self.push(tick, build::with_txn(build::begin_txn("ch_1v0", txn.keepalive_ms), &txn))
    }

    fn body(&mut self, tick: u64, txn: TxnContext) -> &mut Self {
        self.push(tick, build::with_txn(build::flush("ch_1v0", 1, 2, 3), &txn))
    }

    fn broken_body(&mut self, tick: u64, txn: TxnContext) -> &mut Self {
        let mut outgoing = build::with_txn(build::flush("ch_1v0", 1, 2, 3), &txn);
        outgoing.properties.insert(properties::HEADER.to_owned(), "not base64".to_owned());
        self.push(tick, outgoing)
    }

    fn commit(&mut self, tick: u64, txn: TxnContext) -> &mut Self {
        self.push(tick, build::commit_txn("ch_1v0", &txn))
    }

    fn tick(&mut self, tick: u64) -> &mut Self {
        self.push(tick, build::time_tick())
    }

    fn idle(&mut self, tick: u64) -> &mut Self {
        self.scanner.idle_tick(tick, MessageId::RocksMq(self.next), &mut self.out);
        self
    }

    /// What came out since the last call: id, tick, group end of messages; the rest by name.
    fn taken(&mut self) -> Vec<(String, u64, bool)> {
        self.out
            .drain(..)
            .map(|scanned| match scanned {
                Scanned::Message(m, end) if m.kind == MessageType::TIME_TICK => ("tick".to_owned(), m.tick, end),
                Scanned::Message(m, end) => (m.id.to_string(), m.tick, end),
                Scanned::Violation { message, .. } => (format!("late {}", message.id), message.tick, false),
                Scanned::Malformed(bad) => (format!("bad {}", bad.malformed.record.id), bad.tick.unwrap_or_default(), false),
                Scanned::Quarantined { message, .. } => (format!("quarantined {}", message.id), message.tick, false),
                Scanned::Parked(inner) => match *inner {
                    Scanned::Message(m, end) => (format!("parked {}", m.id), m.tick, end),
                    Scanned::Quarantined { message, .. } => (format!("parked quarantined {}", message.id), message.tick, false),
                    other => panic!("{other:?}"),
                },
            })
            .collect()
    }
}

fn txn(txn_id: i64, keepalive_ms: i64) -> TxnContext {
    TxnContext { txn_id, keepalive_ms }
}

fn expect(items: &[(&str, u64, bool)]) -> Vec<(String, u64, bool)> {
    items.iter().map(|(name, tick, end)| ((*name).to_owned(), *tick, *end)).collect()
}

#[test]
fn messages_come_in_tick_order_before_the_time_tick_that_released_them() {
    let mut scan = Scan::new();
    scan.plain(30).plain(10).plain(20);
    assert_eq!(scan.taken(), vec![]);
    assert!(scan.scanner.held_bytes() > 0);
    scan.tick(20);
    assert_eq!(scan.taken(), expect(&[("2", 10, true), ("3", 20, false), ("tick", 20, true)]));
    scan.idle(40);
    assert_eq!(scan.taken(), expect(&[("1", 30, true), ("tick", 40, true)]));
    assert_eq!(scan.scanner.held_bytes(), 0);
}

#[test]
fn an_id_that_is_not_above_the_highest_one_read_is_a_duplicate_before_and_after_its_release() {
    let mut scan = Scan::new();
    scan.plain(10).plain(20);
    scan.next = 0;
    scan.plain(10).plain(20).plain(20).tick(20);
    assert_eq!(scan.taken(), expect(&[("1", 10, true), ("2", 20, false), ("3", 20, false), ("tick", 20, true)]));
    scan.next = 2;
    scan.plain(20).tick(20).tick(30);
    assert_eq!(scan.taken(), expect(&[("tick", 30, true)]));
    assert_eq!(scan.scanner.counters().duplicates, 4);
}

#[test]
fn a_new_id_below_the_last_released_tick_is_a_dead_letter_and_an_equal_tick_is_not() {
    let mut scan = Scan::new();
    scan.tick(20).taken();
    scan.plain(19).plain(20).tick(10).tick(20);
    assert_eq!(scan.taken(), expect(&[("late 2", 19, false), ("3", 20, false), ("tick", 20, true)]));
    assert_eq!((scan.scanner.counters().violations, scan.scanner.counters().stale_ticks), (1, 1));
}

#[test]
fn a_committed_transaction_comes_at_its_commits_tick_and_last_confirmed_whatever_batches_it_was_read_in() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.begin(1, t).body(2, t).tick(2).taken();
    scan.plain(3).tick(3);
    assert_eq!(scan.taken(), expect(&[("4", 3, false), ("tick", 3, true)]), "a plain message does not wait for a transaction");
    scan.body(4, t).commit(6, t).tick(6);
    let Some(Scanned::Message(first, _)) = scan.out.first() else { panic!("a body comes first") };
    assert_eq!(first.last_confirmed, MessageId::RocksMq(7), "the commit's");
    assert_eq!(scan.taken(), expect(&[("2", 6, false), ("6", 6, false), ("tick", 6, true)]));
    assert_eq!((scan.scanner.held_bytes(), scan.scanner.open_transactions()), (0, 0));
}

#[test]
fn orphans_of_a_transaction_are_counted_and_ignored() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.body(1, t).commit(2, t).push(3, build::rollback_txn("ch_1v0", &t)).tick(3);
    assert_eq!(scan.taken(), expect(&[("tick", 3, true)]));
    assert_eq!(scan.scanner.counters().orphans, 3);
}

#[test]
fn a_rolled_back_transaction_delivers_nothing() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.begin(1, t).body(2, t).push(3, build::rollback_txn("ch_1v0", &t)).tick(3);
    assert_eq!(scan.taken(), expect(&[("tick", 3, true)]));
    assert_eq!((scan.scanner.counters().rolled_back, scan.scanner.held_bytes()), (1, 0));
}

#[test]
fn a_lease_is_refreshed_by_each_body_and_ends_at_its_exact_tick() {
    for (last, open) in [(500, 1), (501, 0)] {
        let t = txn(7, 201);
        let mut scan = Scan::new();
        scan.begin(0, t).body(at_ms(100), t).tick(at_ms(200)).body(at_ms(300), t).tick(at_ms(400)).idle(at_ms(last));
        assert_eq!(scan.scanner.open_transactions(), open, "at {last} ms");
        assert_eq!(scan.scanner.counters().expired, 1 - u64::try_from(open).unwrap());
    }
}

#[test]
fn a_commit_is_judged_before_the_expiry_of_its_batch() {
    let t = txn(7, 201);
    let mut scan = Scan::new();
    scan.begin(0, t).body(at_ms(300), t).commit(at_ms(500), t).tick(at_ms(600));
    assert_eq!(scan.taken(), expect(&[("2", at_ms(500), true), ("tick", at_ms(600), true)]));
}

#[test]
fn a_transaction_with_a_negative_lease_never_expires() {
    let t = txn(7, -1000);
    let mut scan = Scan::new();
    scan.begin(0, t).idle(u64::MAX);
    assert_eq!(scan.scanner.open_transactions(), 1);
}

#[test]
fn a_second_begin_with_the_same_id_discards_the_first() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.begin(1, t).body(2, t).begin(3, t).body(4, t).commit(5, t).tick(5);
    assert_eq!(scan.taken(), expect(&[("4", 5, false), ("tick", 5, true)]));
    assert_eq!(scan.scanner.counters().replaced, 1);
}

#[test]
fn only_a_forced_promotion_that_is_not_ignored_rolls_back_what_is_open() {
    for (force_promote, ignore, open) in [(true, false, 0), (true, true, 1), (false, false, 1)] {
        let t = txn(7, SECOND);
        let mut scan = Scan::new();
        scan.begin(1, t).body(2, t).tick(2);
        let mut alter = message(50, 3);
        alter.kind = MessageType::ALTER_REPLICATE_CONFIG;
        alter.header = Header::AlterReplicateConfig { force_promote, ignore };
        let Scanner { transactions, limits, counters, .. } = &mut scan.scanner;
        transactions.take(Body { message: alter, let_go: 0 }, limits, counters, &mut scan.out);
        assert_eq!(scan.scanner.open_transactions(), open, "force {force_promote}, ignore {ignore}");
        assert_eq!(scan.taken().last().unwrap().0, "50");
    }
}

#[test]
fn one_bad_body_quarantines_its_whole_transaction_when_the_commit_comes() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.begin(1, t).body(2, t).broken_body(3, t).body(4, t).tick(4);
    let Some(Scanned::Malformed(bad)) = scan.out.first() else { panic!("the bad record comes at its tick") };
    assert_eq!((bad.kind, bad.vchannel.as_str(), bad.tick, bad.txn), (Some(MessageType::FLUSH), "ch_1v0", Some(3), Some(t)));
    assert_eq!(bad.last_confirmed, Some(MessageId::RocksMq(3)));
    assert_eq!(scan.taken(), expect(&[("bad 3", 3, false), ("tick", 4, true)]));
    scan.commit(5, t).tick(5);
    assert_eq!(scan.taken(), expect(&[("quarantined 2", 2, false), ("quarantined 4", 4, false), ("tick", 5, true)]));
    assert_eq!(scan.scanner.held_bytes(), 0);
}

#[test]
fn a_late_body_quarantines_the_rest_of_its_transaction() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.begin(1, t).body(2, t).tick(10).body(9, t).commit(11, t).tick(11);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["tick", "late 4", "quarantined 2", "tick"]);
}

#[test]
fn a_transaction_whose_begin_or_commit_is_bad_reports_its_bodies() {
    let t = txn(7, SECOND);
    let mut broken_begin = build::with_txn(build::begin_txn("ch_1v0", SECOND), &t);
    broken_begin.properties.insert(properties::HEADER.to_owned(), "not base64".to_owned());
    let mut scan = Scan::new();
    scan.push(1, broken_begin).body(2, t).commit(3, t).tick(3);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["bad 1", "quarantined 2", "tick"]);

    let mut broken_commit = build::commit_txn("ch_1v0", &t);
    broken_commit.properties.insert(properties::VERSION.to_owned(), "9".to_owned());
    scan.begin(4, t).body(5, t).push(6, broken_commit).tick(6);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["quarantined 6", "bad 7", "tick"]);
}

#[test]
fn a_record_without_a_readable_tick_is_reported_at_once() {
    let mut scan = Scan::new();
    let mut outgoing = build::flush("ch_1v0", 1, 2, 3);
    outgoing.properties.remove(properties::VERSION);
    let mut legacy = record(1, 5, outgoing);
    legacy.properties.remove(properties::TIME_TICK);
    scan.scanner.push(legacy, &mut scan.out);
    assert_eq!(scan.taken(), expect(&[("bad 1", 0, false)]));
}

#[test]
fn a_record_of_another_log_is_reported_and_never_compared() {
    let mut scan = Scan::new();
    scan.plain(1);
    let mut foreign = record(9, 2, build::flush("ch_1v0", 1, 2, 3));
    foreign.id = MessageId::Kafka(9);
    scan.scanner.push(foreign, &mut scan.out);
    scan.tick(3);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["1", "bad 9", "tick"]);
}

#[test]
fn a_transaction_over_the_limit_is_quarantined_and_its_payloads_leave_memory() {
    let t = txn(7, SECOND);
    let mut scan = Scan::new();
    scan.scanner = Scanner::new(ScanLimits { transaction_bytes_max: message(1, 1).size() + 50, ..ScanLimits::default() });
    scan.begin(1, t).body(2, t).body(3, t).body(4, t).commit(5, t).tick(5);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["quarantined 2", "quarantined 3", "quarantined 4", "tick"]);
    assert_eq!(scan.scanner.held_bytes(), 0);
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_record_comes_out_once_in_tick_order_however_often_the_reader_reopens(
            ticks in prop::collection::vec(1u64..50, 1..60),
            reopen_at in prop::collection::vec((0usize..60, 0usize..60), 0..4),
        ) {
            let mut out = Vec::new();
            let mut scanner = Scanner::new(ScanLimits::default());
            let mut read = |to: usize, from: usize| for (index, &tick) in ticks.iter().enumerate().take(to).skip(from) {
                scanner.push(record(index as i64, tick, build::flush("ch_1v0", 1, 2, 3)), &mut out);
            };
            let mut reached = 0;
            for (to, back) in reopen_at {
                read(to, reached.min(back));
                reached = reached.max(to);
            }
            read(ticks.len(), 0);
            let last = ticks.len() as i64;
            scanner.push(record(last, 50, build::time_tick()), &mut out);
            let got: Vec<(u64, String)> = out.iter().filter_map(|scanned| match scanned {
                Scanned::Message(m, _) if m.kind != MessageType::TIME_TICK => Some((m.tick, m.id.to_string())),
                _ => None,
            }).collect();
            prop_assert_eq!(got.len(), ticks.len());
            prop_assert!(got.is_sorted_by_key(|(tick, _)| *tick));
        }
    }
}

/// A message with a payload of a little more than so many bytes.
fn delete(bytes: usize) -> Outgoing {
    build::delete("ch_1v0", 1, 2, &[PrimaryKey::VarChar("k".repeat(bytes))])
}

#[test]
fn beyond_the_limit_only_headers_are_held_and_what_was_let_go_comes_out_parked_in_its_place() {
    let mut scan = Scan::new();
    scan.scanner = Scanner::new(ScanLimits { held_bytes_max: 4_000, ..ScanLimits::default() });
    for nth in 1..=8 {
        scan.push(nth, delete(1_000));
    }
    assert!(scan.scanner.held_bytes() < 4_000 + 8 * 500, "{}", scan.scanner.held_bytes());
    scan.push(9, build::flush("ch_1v0", 1, 2, 3)).tick(9);
    let names: Vec<String> = scan.out.iter().map(|s| if matches!(s, Scanned::Parked(_)) { "parked" } else { "whole" }.to_owned()).collect();
    assert_eq!(names[..3], ["whole", "whole", "whole"]);
    assert_eq!(names[3..8], ["parked"; 5], "an insert that came beyond the limit has no rows");
    assert_eq!(names[8..], ["whole", "whole"], "a message without rows is never parked");
    assert_eq!((scan.scanner.counters().parked, scan.scanner.held_bytes()), (5, 0));
    let parked = scan.out.remove(3);
    assert!(parked.message().is_some_and(|m| m.payload.is_empty() && m.id == MessageId::RocksMq(4)));
    let Scanned::Message(whole, true) = parked.unpark("rows".into()) else { panic!("a message that ends its group") };
    assert_eq!(whole.payload, "rows");
}

#[test]
fn bodies_that_were_let_go_count_for_their_transactions_size_and_come_out_parked_at_its_commit() {
    let mut scan = Scan::new();
    let limits = ScanLimits { held_bytes_max: 1, transaction_bytes_max: 3_500 };
    scan.scanner = Scanner::new(limits.clone());
    let small = txn(1, SECOND);
    scan.begin(1, small).push(2, build::with_txn(delete(1_000), &small)).commit(3, small).tick(3);
    assert_eq!(scan.taken(), expect(&[("parked 2", 3, false), ("tick", 3, true)]));
    let large = txn(2, SECOND);
    scan.begin(4, large);
    for tick in 5..=8 {
        scan.push(tick, build::with_txn(delete(1_000), &large));
    }
    scan.commit(9, large).tick(9);
    let names: Vec<String> = scan.taken().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["parked quarantined 6", "parked quarantined 7", "parked quarantined 8", "parked quarantined 9", "tick"]);
}
