//! Snapshots of a state that has one of everything.

use std::collections::BTreeSet;

use super::*;
use crate::channel::{Channel, Message, Segment, Service};
use crate::contract::{ControlBody, Counts, FilterReason, SegmentState, flag, kind};
use crate::flusher::{Stage, Timer};
use crate::rejoin::Behind;

fn config() -> Config {
    Config {
        pchannel: "p_0".into(),
        term: 3,
        insert_bytes_max: 1,
        delete_bytes_max: 1,
        sync_period_ms: 1,
        report_period_ms: 1,
        reports_max: 1,
        idle_tick_ms: 1,
        page_max: 1,
    }
}

/// A flusher whose state has a value in each field, in several forms. `fixtures/schema_1.snapshot` was made of it, but for channels that are
/// behind: there were none.
fn one_of_everything() -> Flusher {
    let mut flusher = Flusher::new(config());
    let mut attached = Channel::new(0, "p_0_100v0".into());
    attached.service = Service::Attached;
    (attached.collection, attached.seek_tick, attached.replay_until) = (100, 7, 9);
    (attached.stored, attached.reporting, attached.report_due, attached.flush_wait) = (3, Some(5), 77, Some(6));
    for (id, state) in [(-4, SegmentState::Growing), (11, SegmentState::Flushed), (12, SegmentState::Dropped)] {
        let mut segment = Segment { state, sealed: id == 11, dml_tick: 5, ..Segment::growing(20) };
        segment.buffer.append(4, 40, 1, 100);
        segment.buffer.append(5, 50, 2, u64::from(u32::MAX) + 1);
        segment.buffer.cut(None);
        segment.buffer.cut(Some(6));
        segment.buffer.append(7, 70, 3, 300);
        attached.segments.insert(id, segment);
    }
    attached.segments.insert(i64::MAX, Segment::growing(21));
    attached.deletes.entry(-1).or_default().append(8, 80, 4, 400);
    attached.deletes.entry(20).or_default().cut(Some(9));
    attached.dropped_partitions.extend([22, 23]);
    attached.await_call(6);
    attached.await_call(6);
    attached.await_call(9);
    attached.extend_filter(9, FilterReason::Repeated);
    let mut asking = Channel::new(1, "p_0_101v0".into());
    let message = Message {
        ordinal: 8,
        kind: kind::CREATE_COLLECTION,
        flags: flag::PERSISTED,
        collection: 101,
        partition: 1,
        segment: 2,
        rows: 3,
        bytes: 4,
        tick: 80,
        body: Some(ControlBody::CreateCollection(vec![1], Some("a field".into()))),
    };
    asking.service = Service::Asking(vec![message.clone(), Message { ordinal: 9, kind: kind::INSERT, body: None, ..message }]);
    let mut others = [
        (Service::Dropping(4), "p_0_102v0"),
        (Service::Detached("a reason".into()), ""),
        (Service::Gone(FilterReason::UnknownChannel), "p_0_104v0"),
    ]
    .into_iter()
    .zip(2..)
    .map(|((service, name), index)| {
        let mut channel = Channel::new(index, name.into());
        channel.service = service;
        channel
    });
    let state = &mut flusher.state;
    state.channels = [attached, asking].into_iter().chain(&mut others).map(|c| (c.index, c)).collect();
    state.stage = Stage::Sealing(10);
    state.unarmed.insert(1);
    state.timers = BTreeSet::from([(70, 0, Timer::Segment(-4)), (71, 0, Timer::Deletes(-1)), (77, 0, Timer::Report)]);
    state.stored = BTreeSet::from([(0, 1), (0, 2), (0, 3), (3, 0)]);
    (state.reports, state.flush_waits, state.filter_runs) = ([0].into(), [0].into(), [0].into());
    state.full = [(0, Timer::Segment(-4)), (0, Timer::Deletes(-1))].into();
    state.detached.insert(3);
    let behind = Behind { tick: 60, timers: [(61, Timer::Segment(2)), (62, Timer::Report)].into(), joined: Some(8) };
    state.behind = [(1, behind), (2, Behind::default())].into();
    (state.group_end, state.tick, state.consumed, state.consuming, state.consume_refused) = (9, 90, 1, Some(2), 3);
    state.counts = Counts { idle_ticks_filtered: 1, unknown_types: 2, pressure_cuts: 3 };
    flusher.foreign_sections.push(Section { id: 900, base: 4, bytes: vec![1, 2, 3] });
    flusher
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let snapshot = one_of_everything().snapshot();
    for at in 0..snapshot.len() {
        for bit in 0..8 {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 1 << bit;
            assert!(Flusher::restore(config(), &damaged).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_snapshot_that_is_cut_short_or_goes_on_is_refused() {
    let mut snapshot = one_of_everything().snapshot();
    for end in 0..snapshot.len() {
        assert!(Flusher::restore(config(), &snapshot[..end]).is_err(), "{end} bytes");
    }
    snapshot.push(0);
    assert!(Flusher::restore(config(), &snapshot).is_err());
}

#[test]
fn a_state_with_one_of_everything_comes_back() {
    let flusher = one_of_everything();
    let snapshot = flusher.snapshot();
    let back = Flusher::restore(config(), &snapshot).unwrap();
    assert_eq!(back, flusher);
    assert_eq!(back.snapshot(), snapshot, "what a snapshot gave back gives it back");
}

#[test]
fn a_snapshot_of_another_term_is_refused_by_name() {
    let snapshot = Flusher::new(config()).snapshot();
    let refusal = Flusher::restore(Config { term: 4, ..config() }, &snapshot).unwrap_err();
    assert_eq!(refusal, SnapshotError::Misplaced { pchannel: "p_0".into(), term: 3 });
}

#[test]
fn a_newer_versions_section_survives_verbatim() {
    let mut flusher = Flusher::new(config());
    flusher.foreign_sections.push(Section { id: 900, base: 4, bytes: vec![1, 2, 3] });
    let back = Flusher::restore(config(), &flusher.snapshot()).unwrap();
    assert_eq!(back, flusher);
}

#[test]
fn a_snapshot_of_schema_1_is_read() {
    let snapshot = include_bytes!("fixtures/schema_1.snapshot");
    let mut wanted = one_of_everything();
    wanted.state.behind.clear();
    assert_eq!(Flusher::restore(config(), snapshot).unwrap(), wanted);
}

/// A snapshot of these sections, with a digest that fits.
fn signed(sections: Vec<Section>) -> Vec<u8> {
    let flusher = Flusher { foreign_sections: sections, ..Flusher::new(config()) };
    let own = tables::write(&flusher.state);
    // The own sections of an empty flusher come first: cut them out of the snapshot, and count the others alone.
    let mut snapshot = flusher.snapshot();
    let count_at = 4 + 8 + 8 + 4 + config().pchannel.len();
    let heads_at = count_at + 4;
    let foreign = flusher.foreign_sections.len();
    snapshot[count_at..heads_at].copy_from_slice(&(foreign as u32).to_le_bytes());
    let bodies_at = heads_at + (own.len() + foreign) * 14;
    let own_bytes: usize = own.iter().map(|(_, bytes)| bytes.len()).sum();
    snapshot.drain(bodies_at..bodies_at + own_bytes);
    snapshot.drain(heads_at..heads_at + own.len() * 14);
    sign(&mut snapshot);
    snapshot
}

fn sign(snapshot: &mut [u8]) {
    let digest = digest::of(&snapshot[12..]);
    snapshot[4..12].copy_from_slice(&digest.to_le_bytes());
}

#[test]
fn sections_that_do_not_fit_each_other_are_refused_whatever_they_claim() {
    let sections = || tables::write(&one_of_everything().state).map(|(id, bytes)| Section { id, base: 9, bytes }).to_vec();
    let mut longer = signed(sections());
    assert!(Flusher::restore(config(), &longer).is_ok());
    longer.push(0);
    sign(&mut longer);
    assert_eq!(Flusher::restore(config(), &longer), Err(SnapshotError::Damaged));
    for at in 0..sections().len() {
        let mut without = sections();
        without.remove(at);
        assert!(matches!(Flusher::restore(config(), &signed(without)), Err(SnapshotError::Unreadable(_))), "without section {at}");
        for byte in 0..sections()[at].bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = sections();
                changed[at].bytes[byte] = value;
                // It may still be a state, but neither panics nor takes memory that it does not have.
                drop(Flusher::restore(config(), &signed(changed)));
            }
        }
    }
}

#[test]
fn entries_of_channels_that_do_not_exist_are_dropped() {
    let mut flusher = one_of_everything();
    let left = flusher.clone();
    let state = &mut flusher.state;
    state.stored.insert((0, 77));
    for set in [&mut state.unarmed, &mut state.reports, &mut state.flush_waits, &mut state.filter_runs] {
        set.insert(77);
    }
    state.full.insert((77, Timer::Report));
    state.behind.insert(77, Behind::default());
    assert_eq!(Flusher::restore(config(), &flusher.snapshot()).unwrap(), left);
}
