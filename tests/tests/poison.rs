//! Messages on which the component faults: the host finds them, sets them aside by name, and goes on.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::journal::TURNS_MAX;
use tidegate_core::pchannel::{Phase, SwapStep, Verdict};
use tidegate_core::turn::{Fault, IntentKind, Page};
use tidegate_message::columns::PrimaryKey;
use tidegate_message::{TxnContext, build, properties};
use tidegate_tests::harness::{Harness, PCHANNEL, traps_on, twin};
use tidegate_tests::rows::schema;

const TXN: TxnContext = TxnContext { txn_id: 7, keepalive_ms: 10_000 };
const TIME_TICK: u16 = 1;
const DELETE: u16 = 3;
const MANUAL_FLUSH: u16 = 9;

/// Two collections of a shard each, with a segment each.
fn pair() -> (Harness, [CollectionInfo; 2], [i64; 2]) {
    let mut h = Harness::default();
    let c = [h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1)];
    h.start();
    let segments = [h.create_segment(&c[0], 0), h.create_segment(&c[1], 0)];
    h.tick();
    (h, c, segments)
}

fn vchannel(c: &CollectionInfo) -> String {
    c.shards[0].vchannel.clone()
}

fn keys(range: Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Inserts ten rows a message, each in a group of its own; returns the ticks.
fn fill(h: &mut Harness, c: &CollectionInfo, segment: i64, messages: Range<i64>) -> Vec<u64> {
    messages.map(|n| h.append_insert(c, 0, segment, n * 10..n * 10 + 10)).collect()
}

/// Ticks and row counts of what was set aside, each once.
fn letters(h: &Harness) -> Vec<u64> {
    let mut ticks: Vec<u64> = h.dead_letters.iter().map(|letter| letter.tick).collect();
    ticks.dedup();
    ticks
}

fn on_ticks(ticks: Vec<u64>) -> impl FnMut(&Page, usize) -> bool {
    move |page, at| ticks.contains(&page.ticks[at])
}

#[test]
fn of_thousands_of_inserts_the_one_that_traps_is_set_aside_and_no_other() {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..3_000);
    let neighbour = h.append_insert(&c[1], 0, s[1], 0..10);
    h.weakness = traps_on(on_ticks(vec![ticks[1_234]]));
    let turns = h.turns;
    h.flush(&c[0], 0, &s[..1]);
    assert!(h.turns - turns < 100, "{} turns", h.turns - turns);
    assert_eq!(letters(&h), [ticks[1_234]], "{:?}", h.notices);
    let letter = &h.dead_letters[0];
    assert!(letter.poison && letter.reason.contains("alone and twice: trap: scripted"), "{}", letter.reason);
    assert!(!letter.payload.is_empty() && letter.properties.contains_key("_h"));
    let expected: Vec<i64> = (0..30_000).filter(|k| k / 10 != 1_234).collect();
    assert_eq!(h.flushed_keys(&c[0]), expected);
    let inserts = h.ledger(&vchannel(&c[0])).inserts;
    assert_eq!((inserts.quarantined, inserts.is_closed()), (10, true), "{inserts:?}");
    let last = h.flush(&c[1], 0, &s[1..]);
    assert!(h.checkpoint(&vchannel(&c[1])) >= Some(neighbour) && h.checkpoint(&vchannel(&c[0])) >= Some(ticks[2_999]));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick > ticks[1_234] && p.tick <= last), "the checkpoints pass what is set aside");
    assert_eq!((h.core.counters().guard_refusals, h.core.phase()), (0, &Phase::Working));
}

#[test]
fn a_message_that_was_found_is_known_when_it_is_met_again() {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..50);
    h.weakness = traps_on(on_ticks(vec![ticks[20]]));
    h.tick();
    let faults = h.core.counters().faults;
    assert!(faults > 2, "{faults}");
    // The rows are not durable yet: another process meets all of them again, and this one after it lost its instance as well.
    h.crash();
    assert_eq!(h.core.counters().faults, 0, "{:?}", h.notices);
    h.traps = vec![h.turns + 1, h.turns + 2, h.turns + 3];
    h.crash();
    h.flush(&c[0], 0, &s[..1]);
    let expected: Vec<i64> = (0..500).filter(|k| k / 10 != 20).collect();
    assert_eq!((h.flushed_keys(&c[0]), letters(&h)), (expected, vec![ticks[20]]));
    let inserts = h.ledger(&vchannel(&c[0])).inserts;
    assert_eq!((inserts.quarantined, h.ledger_closed()), (10, true), "{inserts:?}");
}

/// Every try of a search begins in one state.
#[test]
fn no_snapshot_is_taken_in_the_middle_of_a_search() {
    let (mut h, c, s) = pair();
    // The journal is about to be full: the turns of the search that go well fill it.
    while h.core.counters().turns < TURNS_MAX as u64 - 3 {
        h.pass_ms(1);
        h.tick();
    }
    assert!(h.snapshots.is_empty());
    let ticks = fill(&mut h, &c[0], s[0], 0..64);
    h.weakness = traps_on(on_ticks(vec![ticks[60]]));
    h.flush(&c[0], 0, &s[..1]);
    let faults = h.core.counters().faults;
    assert_eq!((letters(&h), h.snapshots.clone()), (vec![ticks[60]], vec![faults]), "one, after the search");
    assert_eq!(h.flushed_keys(&c[0]).len(), 630);
}

#[test]
fn two_poisoned_messages_of_one_page_are_both_found() {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..200);
    h.weakness = traps_on(on_ticks(vec![ticks[3], ticks[150]]));
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!(letters(&h), [ticks[3], ticks[150]]);
    let expected: Vec<i64> = (0..2_000).filter(|k| ![3, 150].contains(&(k / 10))).collect();
    assert_eq!(h.flushed_keys(&c[0]), expected);
    assert!(h.ledger_closed());
}

#[test]
fn a_message_of_a_transaction_takes_the_others_along_and_no_more() {
    let (mut h, c, s) = pair();
    let before = h.append_insert(&c[0], 0, s[0], 0..10);
    h.append(build::with_txn(build::begin_txn(&vchannel(&c[0]), TXN.keepalive_ms), &TXN));
    for (n, rows) in [(0, 3), (1, 4), (2, 5), (3, 6), (4, 7)] {
        let message = h.insert(&c[0], 0, s[0], 100 * (n + 1)..100 * (n + 1) + rows);
        h.append(build::with_txn(message, &TXN));
    }
    let commit = h.append(build::commit_txn(&vchannel(&c[0]), &TXN));
    h.append_insert(&c[0], 0, s[0], 10..20);
    h.weakness = traps_on(|page, at| page.rows[at] == 6);
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!(h.flushed_keys(&c[0]), keys(0..20), "{:?}", h.notices);
    assert_eq!((h.dead_letters.len(), letters(&h)), (5, vec![commit]));
    let alone = h.dead_letters.iter().filter(|letter| letter.reason.contains("alone and twice")).count();
    let siblings = h.dead_letters.iter().filter(|letter| letter.reason.contains("another message of transaction 7")).count();
    assert_eq!((alone, siblings), (1, 4));
    let inserts = h.ledger(&vchannel(&c[0])).inserts;
    assert_eq!((inserts.quarantined, inserts.is_closed()), (25, true), "{inserts:?}");
    assert!(h.checkpoint(&vchannel(&c[0])) > Some(before));
}

#[test]
fn a_delete_that_traps_is_set_aside() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..5);
    let gone: Vec<u64> =
        [1, 2, 3].map(|key| h.append(build::delete(&vchannel(&c[0]), c[0].id, c[0].partitions[0].id, &[PrimaryKey::Int64(key)]))).to_vec();
    let poison = gone[1];
    h.weakness = traps_on(move |page, at| page.kinds[at] == DELETE && page.ticks[at] == poison);
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!(letters(&h), [poison]);
    let stored: Vec<PrimaryKey> = h.stored_deletes(&c[0]).into_iter().map(|(key, _)| key).collect();
    assert_eq!(stored, [PrimaryKey::Int64(1), PrimaryKey::Int64(3)]);
    let deletes = h.ledger(&vchannel(&c[0])).deletes;
    assert_eq!((deletes.quarantined, deletes.durable, deletes.is_closed()), (1, 2, true));
}

#[test]
fn a_control_message_is_never_set_aside_its_channel_is_detached_and_the_neighbour_goes_on() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..20);
    fill(&mut h, &c[1], s[1], 0..20);
    let own = vchannel(&c[0]);
    let index = h.core.channel_index(&own).expect("a channel");
    h.weakness = traps_on(move |page, at| page.kinds[at] == MANUAL_FLUSH && page.channels[at] == index);
    h.append(build::manual_flush(&own, c[0].id, 0, &s[..1]));
    let later = h.create_segment(&c[0], 0);
    fill(&mut h, &c[0], later, 20..30);
    let tick = h.flush(&c[1], 0, &s[1..]);
    assert!(h.is_detached(&own) && h.dead_letters.is_empty(), "{:?}", h.notices);
    let pin = &h.core.status().channels.into_iter().find(|c| c.vchannel == own).expect("a channel").pin;
    assert!(pin.contains("a ManualFlush") && pin.contains("trap: scripted"), "{pin}");
    assert_eq!(h.flushed_keys(&c[1]), keys(0..200));
    assert!(h.checkpoint(&vchannel(&c[1])) >= Some(tick), "IS-1");
    // A component that can take it finds everything.
    h.weakness = None;
    h.crash();
    h.flush(&c[0], 0, &[later]);
    assert_eq!(h.flushed_keys(&c[0]), keys(0..300), "FL-2");
    assert!(h.ledger_closed());
}

/// Runs until the pchannel stops; returns why.
fn stopped(h: &mut Harness) -> String {
    h.run();
    assert_eq!(h.core.status().state, "stopped", "{:#?}", h.core.status());
    assert!(h.dead_letters.is_empty(), "nothing is set aside");
    h.core.status().reason.unwrap_or_default()
}

#[test]
fn a_tick_that_traps_stops_the_pchannel_with_the_reason_and_nothing_is_lost() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..20);
    let poison = h.append(build::time_tick());
    fill(&mut h, &c[0], s[0], 20..30);
    h.append(build::time_tick());
    h.weakness = traps_on(move |page, at| page.kinds[at] == TIME_TICK && page.ticks[at] == poison);
    let why = stopped(&mut h);
    assert!(why.contains("5 times in a row") && why.contains("whole pchannel") && why.contains("trap: scripted"), "{why}");
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick < poison) && h.truncated.is_empty());
    h.weakness = None;
    h.crash();
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!(h.flushed_keys(&c[0]), keys(0..300));
    assert!(h.ledger_closed());
}

#[test]
fn a_pchannel_that_stopped_is_started_again_by_another_component() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..20);
    let poison = h.append(build::time_tick());
    h.weakness = traps_on(move |page, at| page.kinds[at] == TIME_TICK && page.ticks[at] == poison);
    stopped(&mut h);
    h.weakness = None;
    h.swap(&twin(b'p'));
    assert!(matches!(h.swapped[..], [SwapStep { verdict: Verdict::Recovers(_), .. }]), "{:?}", h.swapped);
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!((h.core.phase(), h.flushed_keys(&c[0])), (&Phase::Working, keys(0..200)));
    assert!(h.ledger_closed());
}

/// Where no message is to blame, the version is: the one before takes over, also after its probation.
#[test]
fn a_version_that_no_message_makes_fail_gives_way_to_the_one_before() {
    let (mut h, c, s) = pair();
    let before = h.core.version().clone();
    h.swap(&twin(b'q'));
    while h.core.status().probation.is_some() {
        h.pass_ms(1_000);
        h.tick();
    }
    fill(&mut h, &c[0], s[0], 0..20);
    h.traps = (1..=4).map(|n| h.turns + n).collect();
    h.tick();
    let last = h.swapped.last().expect("a step");
    assert!(matches!(&last.verdict, Verdict::RolledBack(why) if why.contains("no message is the culprit")), "{last:?}");
    assert_eq!(h.core.version(), &before);
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!((h.flushed_keys(&c[0]), h.dead_letters.len()), (keys(0..200), 0));
    assert!(h.ledger_closed());
}

#[test]
fn completions_that_trap_are_no_messages_fault() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..20);
    h.weakness = Some(Box::new(|input| {
        let opened = input.completions.iter().any(|c| c.kind == IntentKind::Open);
        opened.then(|| Fault::Memory("scripted".into()))
    }));
    h.append(build::manual_flush(&vchannel(&c[0]), c[0].id, 0, &s[..1]));
    h.append(build::time_tick());
    h.crash();
    let why = stopped(&mut h);
    assert!(why.contains("5 times in a row") && why.contains("without any message") && why.contains("memory limit: scripted"), "{why}");
    h.weakness = None;
    h.crash();
    h.run();
    assert_eq!(h.flushed_keys(&c[0]), keys(0..200));
    assert!(h.ledger_closed());
}

/// Sixty-four inserts, one of which is poisoned for so many turns; returns the faults there were, how many of them it had alone, and how
/// many messages were set aside.
fn poisoned_for(turns: u64) -> (u64, u64, usize) {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..64);
    let mut left = turns;
    let alone = Rc::new(Cell::new(0));
    let counted = alone.clone();
    h.weakness = traps_on(move |page, at| {
        let traps = page.ticks[at] == ticks[33] && left > 0;
        left -= u64::from(traps);
        counted.set(counted.get() + u64::from(traps && page.len() == 1));
        traps
    });
    h.flush(&c[0], 0, &s[..1]);
    let aside = letters(&h).len();
    assert_eq!(h.flushed_keys(&c[0]).len(), 640 - 10 * aside, "{:?}", h.notices);
    assert!(h.ledger_closed());
    (h.core.counters().faults, alone.get(), aside)
}

#[test]
fn a_fault_that_does_not_repeat_names_nobody() {
    let (needed, alone, aside) = poisoned_for(u64::MAX);
    assert_eq!((alone, aside), (2, 1), "it is named after it faulted twice, alone");
    for turns in 1..needed {
        let (faults, _, aside) = poisoned_for(turns);
        assert_eq!((faults, aside), (turns, 0), "the message did not trap twice alone");
    }
    assert_eq!(poisoned_for(needed), (needed, 2, 1));
}

#[test]
fn a_fault_of_smaller_pages_that_went_away_is_said_and_forgotten() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..64);
    // Too much at once: a page of more than twenty messages.
    h.weakness = Some(Box::new(|input| (input.page.len() > 20).then(|| Fault::Deadline("scripted".into()))));
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!((h.flushed_keys(&c[0]), h.dead_letters.len()), (keys(0..640), 0));
    assert!(h.notices.iter().any(|n| n.contains("did not repeat")), "{:?}", h.notices);
    assert_eq!(h.core.phase(), &Phase::Working);
}

#[test]
fn beyond_the_bound_the_channel_is_detached_and_its_neighbour_goes_on() {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..60);
    fill(&mut h, &c[1], s[1], 0..5);
    h.weakness = traps_on(on_ticks(ticks[20..50].to_vec()));
    let tick = h.flush(&c[1], 0, &s[1..]);
    assert!(h.is_detached(&vchannel(&c[0])), "{:?}", h.notices);
    assert_eq!(letters(&h), ticks[20..36]);
    let status = h.core.status().channels.into_iter().find(|s| s.vchannel == vchannel(&c[0])).expect("a channel");
    assert!(status.pin.contains("poison beyond a bound"), "{}", status.pin);
    assert_eq!(h.flushed_keys(&c[1]), keys(0..50));
    assert!(h.checkpoint(&vchannel(&c[1])) >= Some(tick), "IS-1");
    // A recovery knows the first ones, and what it finds is counted anew.
    h.crash();
    h.flush(&c[0], 0, &s[..1]);
    assert_eq!(letters(&h).iter().filter(|&&t| t >= ticks[20] && t <= ticks[49]).collect::<std::collections::BTreeSet<_>>().len(), 30);
    let expected: Vec<i64> = (0..600).filter(|k| !(20..50).contains(&(k / 10))).collect();
    assert_eq!(h.flushed_keys(&c[0]), expected);
}

/// A process that dies at any action of a search leaves a log from which the next one makes the same.
#[test]
fn a_crash_at_any_action_of_a_search_loses_no_row_and_doubles_none() {
    let run = |dies_at: Option<u64>| {
        let (mut h, c, s) = pair();
        let ticks = fill(&mut h, &c[0], s[0], 0..20);
        h.append(build::with_txn(build::begin_txn(&vchannel(&c[0]), TXN.keepalive_ms), &TXN));
        for n in [100, 200] {
            let message = h.insert(&c[0], 0, s[0], n * 10..n * 10 + 7);
            h.append(build::with_txn(message, &TXN));
        }
        let commit = h.append(build::commit_txn(&vchannel(&c[0]), &TXN));
        fill(&mut h, &c[1], s[1], 0..5);
        let segment = s[0];
        let first = ticks[5];
        h.weakness =
            traps_on(move |page, at| page.ticks[at] == first || (page.ticks[at] == commit && page.segments[at] == segment && at % 2 == 0));
        h.actions = 0;
        h.dies_at = dies_at;
        h.flush(&c[0], 0, &s[..1]);
        let died = h.is_dead();
        let actions = h.actions;
        if died {
            h.crash();
        }
        h.run();
        let tick = h.flush(&c[1], 0, &s[1..]);
        let expected: Vec<i64> = (0..200).filter(|k| k / 10 != 5).collect();
        assert_eq!(h.flushed_keys(&c[0]), expected, "{dies_at:?}: {:?}", h.notices);
        assert_eq!(h.flushed_keys(&c[1]), keys(0..50));
        let mut aside: Vec<u64> = letters(&h);
        aside.sort_unstable();
        aside.dedup();
        assert_eq!(aside, [ticks[5], commit], "{dies_at:?}");
        assert!(h.ledger_closed(), "{dies_at:?}: {:#?}", h.core.status());
        assert!(h.checkpoint(&vchannel(&c[1])) >= Some(tick), "IS-1 {dies_at:?}");
        (died, actions)
    };
    let (_, actions) = run(None);
    assert!(actions > 40, "{actions}");
    for at in 0..actions {
        assert!(run(Some(at)).0, "{at} of {actions}");
    }
}

#[test]
fn a_flush_of_everything_that_cannot_be_read_detaches_every_channel_until_an_operator_gives_it_up() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..5);
    let mut broken = build::flush_all(PCHANNEL);
    broken.properties.insert(properties::TXN.to_owned(), "!!".to_owned());
    h.append(broken);
    h.tick();
    for _ in 0..2 {
        assert!(c.iter().all(|c| h.is_detached(&vchannel(c))), "{:?}", h.notices);
        h.crash();
    }
    let letter = h.dead_letters[0].clone();
    h.skipped.insert(letter.id, letter.vchannel, letter.tick);
    h.crash();
    let tick = h.flush(&c[0], 0, &s[..1]);
    assert_eq!(h.flushed_keys(&c[0]), keys(0..50), "{:?}", h.notices);
    assert!(h.checkpoint(&vchannel(&c[0])) >= Some(tick) && !h.is_detached(&vchannel(&c[1])));
}

/// The tries know what the ones before found.
#[test]
fn a_channel_that_poison_beyond_the_bound_detached_comes_back_without_a_restart() {
    let (mut h, c, s) = pair();
    let ticks = fill(&mut h, &c[0], s[0], 0..60);
    h.weakness = traps_on(on_ticks(ticks[20..50].to_vec()));
    h.tick();
    for _ in 0..20 {
        h.wake();
        h.run();
        h.pass_ms(1_000);
        h.tick();
    }
    assert!(!h.is_detached(&vchannel(&c[0])), "{:#?} {:?}", h.core.status(), h.notices);
    h.flush(&c[0], 0, &s[..1]);
    let expected: Vec<i64> = (0..600).filter(|k| !(20..50).contains(&(k / 10))).collect();
    assert_eq!(h.flushed_keys(&c[0]), expected);
    assert_eq!(h.opened.len(), 1, "the main scan goes on");
    assert!(h.ledger_closed(), "{:#?}", h.core.status());
}

#[test]
fn a_channel_whose_control_message_traps_costs_its_neighbours_one_search() {
    let (mut h, c, s) = pair();
    fill(&mut h, &c[0], s[0], 0..20);
    h.weakness = traps_on(|page, at| page.kinds[at] == MANUAL_FLUSH);
    h.append(build::manual_flush(&vchannel(&c[0]), c[0].id, 0, &s[..1]));
    h.tick();
    let faults = h.core.counters().faults;
    assert!(h.is_detached(&vchannel(&c[0])) && faults > 0);
    for _ in 0..20 {
        h.wake();
        h.run();
        h.pass_ms(1_000);
        h.tick();
    }
    assert_eq!(h.core.counters().faults, faults, "it is not tried again: {:?}", h.notices);
    // Another component that can take it is reason for a try.
    h.weakness = None;
    h.swap(&twin(b'r'));
    h.wake();
    h.run();
    h.tick();
    assert_eq!((h.is_detached(&vchannel(&c[0])), h.flushed_keys(&c[0])), (false, keys(0..200)), "{:#?}", h.core.status());
}

/// What waits of a dropped channel is nobody's: it may not keep its place in the budget (IS-1, ME-1).
#[test]
fn a_control_message_of_a_dropped_channel_that_traps_leaves_nothing_of_it_in_memory() {
    let (mut h, c, s) = pair();
    h.append(build::drop_collection(&vchannel(&c[0]), c[0].id));
    h.tick();
    let rows = |h: &mut Harness, from: i64| (from..from + 5).for_each(|n| drop(fill(h, &c[0], s[0], n..n + 1)));
    rows(&mut h, 0);
    let flush = h.append(build::manual_flush(&vchannel(&c[0]), c[0].id, 0, &s[..1]));
    rows(&mut h, 5);
    h.weakness = traps_on(on_ticks(vec![flush]));
    h.flush(&c[1], 0, &s[1..]);
    assert_eq!((h.core.held_bytes(), h.ledger_closed(), h.core.phase()), (0, true, &Phase::Working), "{:?}", h.notices);
}
