//! What becomes of each kind of message.

use tidegate_core::calls::SegmentState;
use tidegate_message::build;
use tidegate_message::columns::PrimaryKey;
use tidegate_tests::harness::Harness;
use tidegate_tests::rows::schema;

#[test]
fn a_flushed_segment_has_every_row_once_and_the_checkpoints_pass() {
    let mut h = Harness::default();
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let segment = h.create_segment(&c, 0);
    for n in 0..5 {
        h.append_insert(&c, 0, segment, n * 10..n * 10 + 10);
    }
    let tick = h.flush(&c, 0, &[segment]);
    assert_eq!(h.segment(segment).map(|s| s.state), Some(SegmentState::Flushed));
    assert_eq!(h.flushed_keys(&c), (0..50).collect::<Vec<_>>());
    assert!(h.checkpoint(&c.shards[0].vchannel) >= Some(tick));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick), "{:#?} {:?}", h.core.status(), h.notices);
    assert!(h.ledger_closed());
    assert_eq!(h.core.counters().guard_refusals, 0, "{:?}", h.notices);
}

#[test]
fn deletes_go_to_a_level_zero_segment_of_their_own() {
    let mut h = Harness::default();
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let tick = h.append(build::delete(&c.shards[0].vchannel, c.id, -1, &[PrimaryKey::Int64(7)]));
    h.flush(&c, 0, &[]);
    assert_eq!(h.stored_deletes(&c), [(PrimaryKey::Int64(7), tick)]);
    assert!(h.ledger_closed());
}
