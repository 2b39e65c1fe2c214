use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tidegate_core::journal::Turn;
use tidegate_core::turn::{
    Answer, Completion, Control, ControlBody, Filtered, GuestPhase, Intent, IntentKind, Page, RecoveredChannel, Refusal, RefusalKind, Row,
    TurnInput, TurnOutput, TurnReport, flag,
};

use super::format::{Kind, PREFIX_BYTES, frame};
use super::*;

fn header() -> Header {
    let config = GuestConfig {
        pchannel: "p_0".into(),
        term: 7,
        insert_bytes_max: 16 << 20,
        delete_bytes_max: 8 << 20,
        sync_period_ms: 600_000,
        report_period_ms: 60_000,
        reports_max: 64,
        idle_tick_ms: 10_000,
        page_max: 256,
    };
    Header { pchannel: "p_0".into(), term: 7, config, component: "ab".repeat(32), started_ms: 1_700_000_000_000 }
}

fn a_turn(nth: u64) -> Turn {
    let mut page = Page { first: 1 + nth, ..Page::default() };
    let row = Row { kind: 2, flags: flag::PERSISTED | flag::GROUP_END, channel: 1, rows: 3, bytes: 99, tick: 1 << 60, ..Row::default() };
    page.push(row);
    page.controls.push(Control { ordinal: 1 + nth, body: ControlBody::Intern("p_0_1v0".into()) });
    let recovered = RecoveredChannel { collection: 1, seek_tick: 5, segments: Vec::new(), hazard: None };
    let completion = |ticket, outcome| Completion { ticket, kind: IntentKind::RecoveryInfo, channel: 1, segment: 0, up_to: 0, outcome };
    let completions =
        vec![completion(1, Ok(Answer::Recovered(recovered))), completion(2, Err(Refusal::new(RefusalKind::NotFound, "no such channel")))];
    let reason = tidegate_core::turn::FilterReason::Duplicate;
    let intents = vec![
        Intent::Sync { channel: 1, segment: -4, up_to: 1 + nth, flush: true },
        Intent::Filter(vec![Filtered { channel: 1, first: 1, last: 1 + nth, reason }]),
    ];
    let report = TurnReport { phase: GuestPhase::Working, more: true, ..TurnReport::default() };
    Turn {
        input: Arc::new(TurnInput { completions, page, pressure: 3, first_ticket: 9 }),
        output: Arc::new(TurnOutput { intents, taken: 1, report }),
    }
}

fn written(dir: &Path, base: Option<&[u8]>, turns: u64) -> PathBuf {
    let path = dir.join("a.trace");
    let mut writer = TraceWriter::create(&path, &header(), base, BYTES_MAX).unwrap();
    (0..turns).for_each(|nth| assert!(writer.turn(&a_turn(nth)).unwrap()));
    let finished = writer.finish("10 s are over").unwrap();
    assert_eq!(finished, Finished { turns, bytes: path.metadata().unwrap().len() });
    path
}

fn read(bytes: &[u8]) -> Result<Trace, TraceError> {
    Trace::read_from(bytes, bytes.len() as u64)
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Where and why a trace is refused.
fn refusal(bytes: &[u8]) -> (u64, String) {
    match read(bytes) {
        Err(TraceError::Damaged { offset, problem }) => (offset, problem),
        other => panic!("not refused as damaged: {other:?}"),
    }
}

/// A trace of frames that the writer would not write.
fn forged(frames: &[Vec<u8>]) -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let mut bytes = std::fs::read(written(dir.path(), None, 0)).unwrap();
    bytes.truncate(PREFIX_BYTES);
    bytes.extend(frames.concat());
    bytes
}

#[test]
fn what_was_recorded_is_read_back() {
    for base in [None, Some(&b"a state"[..])] {
        let dir = TempDir::new().unwrap();
        let trace = Trace::read(&written(dir.path(), base, 3)).unwrap();
        let turns = (0..3).map(a_turn).collect();
        assert_eq!(trace, Trace { header: header(), base: base.map(<[u8]>::to_vec), turns, end: "10 s are over".into() });
        assert_eq!(names(dir.path()), ["a.trace"]);
    }
}

#[test]
fn a_trace_cut_anywhere_names_its_offset() {
    let dir = TempDir::new().unwrap();
    let bytes = std::fs::read(written(dir.path(), Some(b"a state"), 2)).unwrap();
    for len in 0..bytes.len() {
        let (offset, problem) = refusal(&bytes[..len]);
        assert!(offset <= len as u64 && problem.contains("cut"), "{len}: {offset}: {problem}");
    }
}

#[test]
fn a_cut_before_the_end_frame_is_refused_there() {
    let dir = TempDir::new().unwrap();
    let bytes = std::fs::read(written(dir.path(), None, 2)).unwrap();
    let whole = read(&bytes).unwrap();
    let end = format::End { turns: 2, bytes: 0, why: whole.end };
    let at = (0..bytes.len()).rev().find(|&at| {
        let end = format::End { bytes: at as u64, ..end.clone() };
        bytes[at..] == frame(Kind::End, &end).unwrap()
    });
    let at = at.unwrap();
    assert_eq!(refusal(&bytes[..at]), (at as u64, "cut before its end: turn or end is missing".to_owned()));
}

#[test]
fn every_damaged_bit_is_refused_with_its_offset() {
    let dir = TempDir::new().unwrap();
    let bytes = std::fs::read(written(dir.path(), Some(b"a state"), 2)).unwrap();
    for at in 0..bytes.len() {
        for bits in (0..8).map(|bit| 1 << bit).chain([0xff]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= bits;
            let (offset, problem) = refusal(&damaged);
            assert!(offset <= at as u64 && !problem.is_empty(), "byte {at} ^ {bits}: {offset}: {problem}");
        }
    }
}

#[test]
fn frames_that_are_missing_doubled_or_misplaced_are_refused() {
    let header = frame(Kind::Header, &header()).unwrap();
    let base = frame(Kind::Base, &None::<&[u8]>).unwrap();
    let turn = frame(Kind::Turn, &(&*a_turn(0).input, &*a_turn(0).output)).unwrap();
    let end = |turns, before: &[&Vec<u8>]| {
        let bytes = (PREFIX_BYTES + before.iter().map(|f| f.len()).sum::<usize>()) as u64;
        frame(Kind::End, &format::End { turns, bytes, why: "told".into() }).unwrap()
    };
    let good = end(1, &[&header, &base, &turn]);
    assert_eq!(read(&forged(&[header.clone(), base.clone(), turn.clone(), good.clone()])).unwrap().turns.len(), 1);
    let said = |frames: &[&Vec<u8>]| refusal(&forged(&frames.iter().map(|f| (*f).clone()).collect::<Vec<_>>())).1;
    assert!(said(&[&header, &base, &good]).contains("some are missing"));
    assert!(said(&[&header, &base, &turn, &turn, &good]).contains("the end counts 1 turns"));
    assert!(said(&[&base, &header]).contains("where header belongs"));
    assert!(said(&[&header, &turn]).contains("where base belongs"));
    assert!(said(&[&header, &base, &turn, &header]).contains("where turn or end belongs"));
    assert!(said(&[&header, &base, &turn, &good, &good]).contains("bytes after the end"));
}

#[test]
fn a_turn_that_no_host_ran_is_refused() {
    let mut page = a_turn(0).input.page.clone();
    page.kinds.push(1);
    assert!(misfit(page, 1).contains("differ in length"));
    let mut page = a_turn(0).input.page.clone();
    page.controls[0].ordinal = 2;
    assert!(misfit(page, 1).contains("a control is of no message"));
    let mut page = a_turn(0).input.page.clone();
    page.first = u64::MAX;
    assert!(misfit(page, 1).contains("a control is of no message"));
    assert!(misfit(a_turn(0).input.page.clone(), 2).contains("more messages were taken"));
}

/// Why a turn with a page is refused.
fn misfit(page: Page, taken: usize) -> String {
    let header = frame(Kind::Header, &header()).unwrap();
    let base = frame(Kind::Base, &None::<&[u8]>).unwrap();
    let turn = a_turn(0);
    let (input, output) = (TurnInput { page, ..(*turn.input).clone() }, TurnOutput { taken, ..(*turn.output).clone() });
    refusal(&forged(&[header, base, frame(Kind::Turn, &(&input, &output)).unwrap()])).1
}

#[test]
fn a_length_that_the_file_does_not_have_allocates_nothing() {
    let mut frame = frame(Kind::Header, &header()).unwrap();
    frame[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    let (offset, problem) = refusal(&forged(&[frame]));
    assert!(offset == PREFIX_BYTES as u64 && problem.contains("4294967295 bytes"), "{offset}: {problem}");
    // A vector within a frame that says to be longer than it.
    let body: &[u8] = &[1, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let base = frame_of(Kind::Base, body);
    let (_, problem) = refusal(&forged(&[super::format::frame(Kind::Header, &header()).unwrap(), base]));
    assert!(problem.contains("base"), "{problem}");
}

/// A frame with a body as it is.
fn frame_of(kind: Kind, body: &[u8]) -> Vec<u8> {
    let bytes = u32::try_from(body.len()).unwrap();
    let checksum = format::checksum(kind as u8, bytes, body);
    [&[kind as u8][..], &bytes.to_le_bytes(), &checksum.to_le_bytes(), body].concat()
}

#[test]
fn a_trace_ends_before_its_bound_and_has_room_for_its_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.trace");
    let mut writer = TraceWriter::create(&path, &header(), None, 4_000).unwrap();
    let turns = (0..).take_while(|&nth| writer.turn(&a_turn(nth)).unwrap()).count();
    // The longest reason, cut within a letter of two bytes.
    let finished = writer.finish(&format!("x{}", "ä".repeat(1_000))).unwrap();
    assert!(turns > 5 && finished.bytes <= 4_000, "{turns} turns, {finished:?}");
    assert_eq!(Trace::read(&path).unwrap().turns.len(), turns);
}

#[test]
fn a_state_without_room_is_refused_before_a_file_is_made() {
    let dir = TempDir::new().unwrap();
    let refused = TraceWriter::create(&dir.path().join("a.trace"), &header(), Some(&[0; 5_000]), 5_000).unwrap_err();
    assert!(matches!(refused, TraceError::NoRoom { bytes: 5_001.., max: 5_000 }), "{refused}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_recording_without_an_end_leaves_nothing_and_two_do_not_write_one_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("a.trace");
    let writer = TraceWriter::create(&path, &header(), None, BYTES_MAX).unwrap();
    assert_eq!(names(dir.path()), ["a.trace.partial"]);
    let second = TraceWriter::create(&path, &header(), None, BYTES_MAX).unwrap_err();
    assert!(second.to_string().contains("a.trace.partial exists"), "{second}");
    drop(writer);
    assert!(names(dir.path()).is_empty());
}
