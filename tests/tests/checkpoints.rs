//! What holds a checkpoint, when it is reported, and what the consume checkpoint waits for.

use tidegate::engine::GuestConfig;
use tidegate_core::calls::{Call, CallError, Reply};
use tidegate_core::coordinator::CollectionInfo;
use tidegate_core::pchannel::{Limits, Work};
use tidegate_message::build;
use tidegate_message::columns::PrimaryKey;
use tidegate_tests::harness::{Harness, PCHANNEL, Verdict, config};
use tidegate_tests::rows::schema;

fn started_with(config: GuestConfig) -> (Harness, CollectionInfo, String) {
    let mut h = Harness::new(config, Limits { not_found_tolerance: 0, ..Limits::default() });
    let c = h.create_collection(&schema("c"), 1);
    h.start();
    let v = c.shards[0].vchannel.clone();
    (h, c, v)
}

fn started() -> (Harness, CollectionInfo, String) {
    started_with(config())
}

fn pair() -> (Harness, CollectionInfo, CollectionInfo) {
    let mut h = Harness::default();
    let (c, d) = (h.create_collection(&schema("c"), 1), h.create_collection(&schema("d"), 1));
    h.start();
    (h, c, d)
}

/// Lets several report periods pass.
fn pass_periods(h: &mut Harness) -> u64 {
    for _ in 0..3 {
        h.pass_ms(1_100);
        h.tick();
    }
    h.tick()
}

/// Holds the work that a test names.
fn hold(h: &mut Harness, which: impl Fn(&Work) -> bool + 'static) {
    h.verdict = Box::new(move |work| if which(work) { Verdict::Hold } else { Verdict::Do });
}

fn permanent() -> CallError {
    CallError::Permanent("no".into())
}

#[test]
fn buffered_rows_hold_the_checkpoint_at_the_first_of_them() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    let first = h.append_insert(&c, 0, segment, 0..10);
    h.append_insert(&c, 0, segment, 10..20);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(first));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick == first));
    let reason = h.explain(&v);
    assert!(reason.contains(&segment.to_string()), "{reason}");
}

#[test]
fn buffered_deletes_hold_it_too() {
    let (mut h, c, v) = started();
    let first = h.append(build::delete(&v, c.id, -1, &[PrimaryKey::Int64(1)]));
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(first));
}

#[test]
fn a_sync_in_flight_holds_the_checkpoint_until_the_coordinator_has_its_files() {
    for what in ["segment write", "save"] {
        let (mut h, c, v) = started();
        let segment = h.create_segment(&c, 0);
        let first = h.append_insert(&c, 0, segment, 0..10);
        hold(&mut h, move |work| match work {
            Work::Write(_) => what == "segment write",
            Work::Call(Call::SaveBinlogPaths(_)) => what == "save",
            _ => false,
        });
        let tick = h.flush(&c, 0, &[segment]);
        pass_periods(&mut h);
        assert_eq!((h.checkpoint(&v), h.held()), (Some(first), 1), "{what}");
        h.release();
        assert!(h.checkpoint(&v) >= Some(tick), "{what}: reported at once, since a flush waits");
    }
}

#[test]
fn of_a_sync_in_flight_and_a_younger_buffer_the_sync_holds_it() {
    let (mut h, c, v) = started();
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&c, 0));
    let oldest = h.append_insert(&c, 0, s, 0..10);
    hold(&mut h, |work| matches!(work, Work::Write(_)));
    h.append(build::flush(&v, c.id, c.partitions[0].id, s));
    h.tick();
    let younger = h.append_insert(&c, 0, t, 10..20);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(oldest));
    h.release();
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(younger));
}

#[test]
fn a_registration_that_is_not_acknowledged_holds_the_checkpoint_at_its_message() {
    let (mut h, c, v) = started();
    let before = h.tick();
    hold(&mut h, |work| matches!(work, Work::Call(Call::AllocSegment(_))));
    h.create_segment(&c, 0);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(before + 1));
    h.release();
    let tick = pass_periods(&mut h);
    assert!(h.checkpoint(&v) > Some(tick - (2_000 << 18)), "{:#?}", h.core.status());
}

#[test]
fn a_checkpoint_is_reported_at_once_when_a_flush_waits_and_else_once_a_period() {
    let (mut h, c, v) = started_with(GuestConfig { insert_bytes_max: 1, ..config() });
    h.tick();
    let segment = h.create_segment(&c, 0);
    let (stored, reports) = (h.checkpoint(&v), h.count("report-checkpoints"));
    for n in 0..20 {
        h.append_insert(&c, 0, segment, n..n + 1);
        h.tick();
    }
    assert_eq!((h.checkpoint(&v), h.count("report-checkpoints")), (stored, reports), "nothing waits, no period passed");
    h.pass_ms(1_100);
    let tick = h.tick();
    assert_eq!(h.count("report-checkpoints"), reports + 1);
    assert!(h.checkpoint(&v) > stored);
    let flushed = h.flush(&c, 0, &[segment]);
    assert!(h.checkpoint(&v) >= Some(flushed) && flushed < tick + 10, "at once");
}

#[test]
fn the_consume_checkpoint_is_the_smallest_stored_channel_checkpoint() {
    let (mut h, c, d) = pair();
    let (v, w) = (c.shards[0].vchannel.clone(), d.shards[0].vchannel.clone());
    let (s, t) = (h.create_segment(&c, 0), h.create_segment(&d, 0));
    let held = h.append_insert(&c, 0, s, 0..10);
    h.append_insert(&d, 0, t, 0..10);
    let tick = h.flush(&d, 0, &[t]);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(held));
    assert!(h.checkpoint(&w) >= Some(tick));
    assert_eq!(h.consume_checkpoint().map(|p| p.tick), Some(held));
    let tick = h.flush(&c, 0, &[s]);
    pass_periods(&mut h);
    let smallest = h.checkpoint(&v).min(h.checkpoint(&w));
    assert_eq!(h.consume_checkpoint().map(|p| p.tick), smallest);
    assert!(smallest >= Some(tick));
}

#[test]
fn a_report_that_the_coordinator_drops_silently_moves_nothing_and_is_made_again_with_the_period() {
    for answer in ["nothing stored", "not found", "refused whole"] {
        let (mut h, c, v) = started();
        let stored = h.tick();
        let consumed = h.consume_checkpoint();
        h.verdict = Box::new(move |work| match work {
            Work::Call(Call::ReportCheckpoints(entries)) => match answer {
                "nothing stored" => Verdict::Answer(Reply::Checkpoints(entries.iter().map(|_| Ok(None)).collect())),
                "not found" => Verdict::Answer(Reply::Checkpoints(entries.iter().map(|_| Err(CallError::NotFound("?".into()))).collect())),
                _ => Verdict::Fail(permanent()),
            },
            _ => Verdict::Do,
        });
        let segment = h.create_segment(&c, 0);
        h.append_insert(&c, 0, segment, 0..10);
        let before = h.count("report-checkpoints");
        let tick = h.flush(&c, 0, &[segment]);
        assert!(h.checkpoint(&v) <= Some(stored), "{answer}");
        assert_eq!(h.consume_checkpoint(), consumed, "CK-3, {answer}");
        let tries = h.count("report-checkpoints") - before;
        assert!((1..=3).contains(&tries), "{answer}: {tries} tries at once");
        h.verdict = Box::new(|_| Verdict::Do);
        pass_periods(&mut h);
        assert!(h.checkpoint(&v) >= Some(tick), "{answer}");
        assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick), "{answer}");
    }
}

#[test]
fn a_batch_of_reports_with_a_bad_entry_is_split_until_that_entry_stands_alone() {
    let mut h = Harness::default();
    let collections: Vec<CollectionInfo> = (0..5).map(|n| h.create_collection(&schema(&format!("c{n}")), 1)).collect();
    h.start();
    let bad = collections[3].shards[0].vchannel.clone();
    let stored = h.tick();
    h.verdict = Box::new(move |work| match work {
        Work::Call(Call::ReportCheckpoints(entries)) if entries.iter().any(|(v, _)| *v == bad) => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    let tick = h.append(build::flush_all(PCHANNEL));
    h.tick();
    for (n, c) in collections.iter().enumerate() {
        let at = h.checkpoint(&c.shards[0].vchannel);
        assert_eq!(at >= Some(tick), n != 3, "collection {n}: {at:?}, {tick}");
    }
    assert!(h.consume_checkpoint().is_none_or(|p| p.tick <= stored), "CK-3");
    assert!(!h.is_detached(&collections[3].shards[0].vchannel), "only its checkpoint waits");
}

#[test]
fn the_log_is_truncated_after_the_consume_checkpoint_and_no_further() {
    let (mut h, c, _) = started();
    for n in 0..5 {
        let segment = h.create_segment(&c, 0);
        h.append_insert(&c, 0, segment, n * 10..n * 10 + 10);
        h.flush(&c, 0, &[segment]);
        let consumed = h.consume_checkpoint().map(|p| p.last_confirmed);
        assert_eq!(h.truncated.last(), consumed.as_ref());
    }
    assert!(h.truncated.len() > 3);
    assert!(h.truncated.windows(2).all(|w| w[0].compare(&w[1]).is_ok_and(|o| o.is_le())));
}

#[test]
fn a_consume_checkpoint_that_is_refused_truncates_nothing_and_is_not_hammered() {
    let (mut h, c, _) = started();
    h.verdict = Box::new(|work| match work {
        Work::Call(Call::SaveConsume(_)) => Verdict::Fail(permanent()),
        _ => Verdict::Do,
    });
    let segment = h.create_segment(&c, 0);
    h.append_insert(&c, 0, segment, 0..10);
    let tick = h.flush(&c, 0, &[segment]);
    assert!(h.truncated.is_empty());
    assert!((1..10).contains(&h.count("save-consume-checkpoint")), "{} tries", h.count("save-consume-checkpoint"));
    h.verdict = Box::new(|_| Verdict::Do);
    pass_periods(&mut h);
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick));
}

#[test]
fn a_checkpoint_resumes_at_the_last_confirmed_id_of_its_message() {
    let (mut h, c, v) = started();
    let segment = h.create_segment(&c, 0);
    let confirmed = h.log[h.log.len() - 1].id.clone();
    let message = h.insert(&c, 0, segment, 0..10);
    h.append(build::time_tick()); // between the last confirmed record and the rows
    let first = h.append_confirmed(message, &confirmed);
    pass_periods(&mut h);
    assert_eq!(h.checkpoint(&v), Some(first));
    assert_eq!(h.consume_checkpoint().map(|p| p.last_confirmed), Some(confirmed), "CK-4");
    h.crash();
    h.flush(&c, 0, &[segment]);
    assert_eq!(h.flushed_keys(&c), (0..10).collect::<Vec<_>>());
}

#[test]
fn two_hundred_channels_report_each_in_batches_and_none_is_left_behind() {
    let limits = Limits { not_found_tolerance: 0, ..Limits::default() };
    let mut h = Harness::new(GuestConfig { reports_max: 16, ..config() }, limits);
    let collections: Vec<CollectionInfo> = (0..200).map(|n| h.create_collection(&schema(&format!("c{n}")), 1)).collect();
    h.start();
    let before = h.count("report-checkpoints");
    let tick = h.append(build::flush_all(PCHANNEL));
    h.tick();
    assert!(collections.iter().all(|c| h.checkpoint(&c.shards[0].vchannel) >= Some(tick)));
    assert!(h.count("report-checkpoints") - before < 40, "{}", h.count("report-checkpoints"));
    assert!(h.consume_checkpoint().is_some_and(|p| p.tick >= tick));
}
