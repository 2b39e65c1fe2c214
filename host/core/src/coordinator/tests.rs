//! The rules as sentences, and one random walk: what the writes leave behind is the state.

use proptest::prelude::*;
use tidegate_message::MessageId;
use tidegate_message::columns::DataType;
use tidegate_message::schema::Field;

use super::*;
use crate::calls::{AllocSegment, Binlog, FieldBinlogs, Level, RecoveryInfo, SaveBinlogPaths, SegmentFiles, SegmentState};

const PCHANNEL: &str = "by-dev-dml_0";
const VCHANNEL: &str = "by-dev-dml_0_1000v0";
const PARTITION: i64 = 1001;
const DAY: u64 = (24 * 60 * 60 * 1000) << 18;

fn at(tick: u64) -> Position {
    Position { last_confirmed: MessageId::Test(tick as i64), tick }
}

fn of_term(term: i64) -> Caller {
    Caller { node_id: 1, pchannel: PCHANNEL.into(), term }
}

fn schema(version: i32) -> Schema {
    let key = Field { is_primary: true, ..Field::new(100, "id", DataType::Int64) };
    Schema { name: "rows".into(), fields: vec![key], enable_dynamic_field: false, version }
}

fn file(path: String, entries: i64) -> Binlog {
    let log_id = path.rsplit_once('/').unwrap().1.parse().unwrap_or(7);
    Binlog { path, log_id, entries, tick_from: 0, tick_to: 0, log_size: 1, memory_size: 1 }
}

fn rows_of(segment: i64, counts: &[i64]) -> SegmentFiles {
    let list = |root: &str, field: i64| FieldBinlogs {
        field,
        child_fields: vec![],
        binlogs: counts
            .iter()
            .zip(5000 + field * 100..)
            .map(|(n, id)| file(format!("{root}/1000/{PARTITION}/{segment}/{field}/{id}"), *n))
            .collect(),
    };
    SegmentFiles { insert: vec![list("insert_log", 0), list("insert_log", 100)], stats: vec![list("stats_log", 100)], delta: vec![] }
}

fn save(segment: i64, dml: u64, counts: &[i64]) -> SaveBinlogPaths {
    SaveBinlogPaths {
        segment,
        collection: 1000,
        partition: PARTITION,
        vchannel: VCHANNEL.into(),
        level: Level::L1,
        storage_version: 0,
        files: rows_of(segment, counts),
        dml: at(dml),
        start: None,
        rows: 0,
        flushed: false,
        dropped: false,
    }
}

fn deletes(segment: i64, dml: u64) -> SaveBinlogPaths {
    let binlogs = vec![file(format!("delta_log/1000/-1/{segment}/5000"), 3)];
    let files = SegmentFiles { delta: vec![FieldBinlogs { field: 100, child_fields: vec![], binlogs }], ..SegmentFiles::default() };
    SaveBinlogPaths { level: Level::L0, partition: -1, flushed: true, files, ..save(segment, dml, &[]) }
}

fn alloc(segment: i64) -> Call {
    Call::AllocSegment(AllocSegment { collection: 1000, partition: PARTITION, segment, vchannel: VCHANNEL.into(), storage_version: 0 })
}

/// A coordinator and its disk.
#[derive(Default)]
struct Peer {
    rules: Coordinator,
    disk: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Peer {
    /// With one collection of one shard whose start position is at tick 10.
    fn new() -> Peer {
        let mut peer = Peer::default();
        peer.creating();
        let writes = peer.rules.finish_create(1000, &BTreeMap::from([(VCHANNEL.to_owned(), at(10))])).unwrap();
        peer.commit(writes);
        peer
    }

    fn creating(&mut self) {
        let new = NewCollection { schema: schema(0), shards: 1, partitions: vec![] };
        let (_, writes) = self.rules.create_collection(&new, 1000, &[PCHANNEL.to_owned()]).unwrap();
        self.commit(writes);
    }

    fn commit(&mut self, writes: Vec<Write>) {
        for Write { key, value } in writes {
            match value {
                Some(value) => drop(self.disk.insert(key, value)),
                None => drop(self.disk.remove(&key)),
            }
        }
    }

    fn call_as(&mut self, caller: &Caller, call: &Call) -> Result<Reply, CallError> {
        let (reply, writes) = self.rules.call(caller, call);
        assert!(call.is_mutating() || writes.is_empty(), "{} writes", call.name());
        self.commit(writes);
        reply
    }

    fn call(&mut self, call: &Call) -> Result<Reply, CallError> {
        self.call_as(&of_term(1), call)
    }

    fn save(&mut self, save: SaveBinlogPaths) -> Result<Reply, CallError> {
        self.call(&Call::SaveBinlogPaths(Box::new(save)))
    }

    fn report(&mut self, vchannel: &str, position: Position) -> Result<Option<Position>, CallError> {
        match self.call(&Call::ReportCheckpoints(vec![(vchannel.into(), position)])) {
            Ok(Reply::Checkpoints(mut answers)) if answers.len() == 1 => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn recover(&mut self) -> Result<RecoveryInfo, CallError> {
        self.call(&Call::RecoveryInfo { vchannel: VCHANNEL.into() }).map(|reply| match reply {
            Reply::Recovery(info) => *info,
            other => panic!("{other:?}"),
        })
    }

    fn segment(&self, segment: i64) -> &SegmentInfo {
        &self.rules.segments[&segment]
    }
}

#[test]
fn a_call_of_an_older_term_is_fenced_and_a_newer_one_is_remembered() {
    let mut peer = Peer::new();
    let (term, writes) = peer.rules.acquire_term(PCHANNEL).unwrap();
    peer.commit(writes);
    assert_eq!(peer.call_as(&of_term(term), &alloc(1)), Ok(Reply::Done));
    assert_eq!(peer.call_as(&of_term(term + 5), &alloc(1)), Ok(Reply::Done));
    assert!(matches!(peer.call_as(&of_term(term), &alloc(1)), Err(CallError::Fenced(_))));
    assert_eq!(peer.rules.acquire_term(PCHANNEL).unwrap().0, term + 6);
    assert!(peer.call_as(&of_term(term), &Call::LoadConsume).is_ok());
}

#[test]
fn a_failed_call_of_a_newer_term_still_fences_the_older_one_after_a_restart() {
    let mut peer = Peer::new();
    assert!(matches!(peer.call_as(&of_term(9), &Call::SaveBinlogPaths(Box::new(save(77, 20, &[1])))), Err(CallError::NotFound(_))));
    peer.rules = Coordinator::load(peer.disk.clone()).unwrap();
    assert!(matches!(peer.call_as(&of_term(8), &alloc(1)), Err(CallError::Fenced(_))));
}

#[test]
fn a_vchannel_of_another_pchannel_is_refused_and_spoils_only_its_own_entry() {
    let mut peer = Peer::new();
    assert!(matches!(peer.report("by-dev-dml_1_1000v0", at(20)), Err(CallError::Permanent(_))));
    let both = Call::ReportCheckpoints(vec![("by-dev-dml_0_9v0".into(), at(20)), (VCHANNEL.into(), at(20))]);
    let Ok(Reply::Checkpoints(answers)) = peer.call(&both) else { panic!() };
    assert!(matches!(answers[0], Err(CallError::NotFound(_))));
    assert_eq!(answers[1], Ok(Some(at(20))));
}

#[test]
fn a_segment_is_registered_once_and_never_on_two_channels() {
    let mut peer = Peer::new();
    assert_eq!(peer.call(&alloc(1)), Ok(Reply::Done));
    assert_eq!(peer.rules.call(&of_term(1), &alloc(1)), (Ok(Reply::Done), vec![]));
    assert!(matches!(peer.call(&alloc(0)), Err(CallError::Permanent(_))));
    let other = AllocSegment { collection: 1000, partition: 5, segment: 1, vchannel: VCHANNEL.into(), storage_version: 0 };
    assert!(matches!(peer.call(&Call::AllocSegment(other)), Err(CallError::Permanent(_))));
}

#[test]
fn a_save_replaces_the_lists_and_counts_the_rows_itself() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    assert_eq!(peer.save(SaveBinlogPaths { start: Some(at(11)), rows: 99, ..save(1, 20, &[3]) }), Ok(Reply::Done));
    assert_eq!(peer.save(save(1, 30, &[3, 4])), Ok(Reply::Done));
    let stored = peer.segment(1);
    assert_eq!((stored.rows, stored.state, &stored.start, &stored.dml), (7, SegmentState::Growing, &Some(at(11)), &Some(at(30))));
    assert_eq!(stored.files, rows_of(1, &[3, 4]));
}

#[test]
fn a_save_of_an_unknown_segment_is_not_found_unless_it_is_of_deletes() {
    let mut peer = Peer::new();
    assert!(matches!(peer.save(save(1, 20, &[3])), Err(CallError::NotFound(_))));
    assert_eq!(peer.save(deletes(2, 20)), Ok(Reply::Done));
    assert_eq!((peer.segment(2).state, peer.segment(2).rows), (SegmentState::Flushed, 3));
    assert!(matches!(peer.save(deletes(2, 20)), Ok(Reply::Ignored(_))));
}

#[test]
fn a_flushed_segment_changes_only_by_a_drop_and_a_dropped_one_never() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    assert_eq!(peer.save(SaveBinlogPaths { flushed: true, ..save(1, 20, &[3]) }), Ok(Reply::Done));
    assert!(matches!(peer.save(save(1, 30, &[3, 4])), Ok(Reply::Ignored(_))));
    assert_eq!(peer.segment(1).state, SegmentState::Flushed);
    assert_eq!(peer.save(SaveBinlogPaths { dropped: true, ..save(1, 30, &[3]) }), Ok(Reply::Done));
    assert_eq!(peer.segment(1).state, SegmentState::Dropped);
    assert!(matches!(peer.save(SaveBinlogPaths { flushed: true, ..save(1, 40, &[3]) }), Ok(Reply::Ignored(_))));
}

#[test]
fn a_save_behind_the_stored_dml_position_is_ignored() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    peer.save(save(1, 20, &[3, 4])).unwrap();
    assert!(matches!(peer.save(save(1, 19, &[3])), Ok(Reply::Ignored(_))));
    assert_eq!(peer.segment(1).rows, 7);
}

#[test]
fn a_flushed_segment_without_rows_is_dropped() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    peer.save(SaveBinlogPaths { flushed: true, ..save(1, 20, &[]) }).unwrap();
    assert_eq!(peer.segment(1).state, SegmentState::Dropped);
}

#[test]
fn a_file_that_does_not_lie_where_its_ids_say_is_refused() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    for path in ["insert_log/1000/1001/1/0/x", "insert_log/1000/1001/2/0/5000", "stats_log/1000/1001/1/0/5000", "5000"] {
        let mut save = save(1, 20, &[3]);
        save.files.insert[0].binlogs[0].path = path.into();
        assert!(matches!(peer.save(save), Err(CallError::Permanent(_))), "{path}");
    }
    let mut save = save(1, 20, &[3]);
    save.files.insert[0].binlogs[0].log_id = 4;
    assert!(matches!(peer.save(save), Err(CallError::Permanent(_))));
}

#[test]
fn a_checkpoint_moves_forward_only_and_the_answer_is_what_is_stored() {
    let mut peer = Peer::new();
    assert_eq!(peer.report(VCHANNEL, at(20)), Ok(Some(at(20))));
    assert_eq!(peer.report(VCHANNEL, at(15)), Ok(Some(at(20))));
    let same_tick = Position { last_confirmed: MessageId::Test(3), tick: 20 };
    assert_eq!(peer.report(VCHANNEL, same_tick.clone()), Ok(Some(same_tick)));
    assert!(matches!(peer.report(VCHANNEL, at(u64::MAX)), Err(CallError::Permanent(_))));
}

#[test]
fn a_consume_checkpoint_moves_forward_only() {
    let mut peer = Peer::new();
    assert_eq!(peer.call(&Call::LoadConsume), Ok(Reply::Consume(None)));
    for tick in [20, 30, 25] {
        assert_eq!(peer.call(&Call::SaveConsume(at(tick))), Ok(Reply::Done));
    }
    assert_eq!(peer.call(&Call::LoadConsume), Ok(Reply::Consume(Some(at(30)))));
}

#[test]
fn recovery_starts_at_the_checkpoint_else_at_the_collections_start_else_at_the_earliest_segment() {
    let mut peer = Peer::default();
    peer.creating();
    assert!(matches!(peer.recover(), Err(CallError::NotAvailable(_))));
    for (segment, start, dml) in [(1, 14, 20), (2, 12, 25)] {
        peer.call(&alloc(segment)).unwrap();
        peer.save(SaveBinlogPaths { start: Some(at(start)), ..save(segment, dml, &[3]) }).unwrap();
    }
    assert_eq!(peer.recover().unwrap().seek, Some(at(12)));
    let writes = peer.rules.finish_create(1000, &BTreeMap::from([(VCHANNEL.to_owned(), at(10))])).unwrap();
    peer.commit(writes);
    assert_eq!(peer.recover().unwrap().seek, Some(at(10)));
    peer.report(VCHANNEL, at(22)).unwrap();
    assert_eq!(peer.recover().unwrap().seek, Some(at(22)));
}

#[test]
fn recovery_lists_the_segments_that_a_replay_may_meet() {
    let mut peer = Peer::new();
    for segment in 1..=4 {
        peer.call(&alloc(segment)).unwrap();
    }
    peer.save(SaveBinlogPaths { flushed: true, ..save(2, 20, &[3]) }).unwrap();
    peer.save(SaveBinlogPaths { flushed: true, ..save(3, 30, &[3]) }).unwrap();
    peer.save(SaveBinlogPaths { dropped: true, ..save(4, 30, &[3]) }).unwrap();
    peer.save(deletes(5, 30)).unwrap();
    peer.report(VCHANNEL, at(21)).unwrap();
    let info = peer.recover().unwrap();
    assert_eq!(info.segments.iter().map(|s| s.segment).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(info.schemas, [(10, schema(0))]);
}

#[test]
fn an_unknown_channel_is_not_found_and_a_dropped_one_says_so_for_ever() {
    let mut peer = Peer::new();
    peer.call(&alloc(1)).unwrap();
    let unknown = Call::RecoveryInfo { vchannel: "by-dev-dml_0_9v0".into() };
    assert!(matches!(peer.call(&unknown), Err(CallError::NotFound(_))));
    for _ in 0..2 {
        assert_eq!(peer.call(&Call::DropChannel { vchannel: VCHANNEL.into() }), Ok(Reply::Done));
    }
    assert_eq!(peer.segment(1).state, SegmentState::Dropped);
    assert!(matches!(peer.recover(), Err(CallError::Dropped(_))));
    assert!(matches!(peer.report(VCHANNEL, at(1 << 60)), Err(CallError::Dropped(_))));
    assert!(matches!(peer.call(&alloc(2)), Err(CallError::Dropped(_))));
    assert!(matches!(peer.save(deletes(3, 20)), Ok(Reply::Ignored(_))));
    assert_eq!(peer.call(&Call::VChannels), Ok(Reply::VChannels(vec![])));
    assert_eq!(peer.rules.collections().count(), 0);
}

#[test]
fn a_collection_goes_with_its_last_channel_and_its_name_before_that() {
    let mut rules = Coordinator::default();
    let new = NewCollection { schema: schema(0), shards: 2, partitions: vec!["a".into(), "b".into()] };
    let pchannels = ["p_0".to_owned(), "p_1".to_owned(), "p_2".to_owned()];
    let (first, _) = rules.create_collection(&new, 1000, &pchannels).unwrap();
    assert_eq!(first.partitions.iter().map(|p| p.id).collect::<Vec<_>>(), [1001, 1002]);
    assert_eq!(first.shards.iter().map(|s| s.vchannel.as_str()).collect::<Vec<_>>(), ["p_0_1000v0", "p_1_1000v1"]);
    assert!(matches!(rules.create_collection(&new, 2000, &pchannels), Err(CallError::Permanent(_))));
    assert_eq!(rules.unfinished().count(), 1);
    rules.begin_drop(1000).unwrap();
    assert!(matches!(rules.create_collection(&new, 2000, &pchannels), Err(CallError::Permanent(_))));
    rules.finish_drop(1000);
    assert_eq!(rules.unfinished().count(), 0);
    let (second, _) = rules.create_collection(&new, 2000, &pchannels).unwrap();
    assert_eq!(second.shards[0].vchannel, "p_2_2000v0");
    for (pchannel, left) in [("p_0", 2), ("p_1", 1)] {
        let caller = Caller { node_id: 1, pchannel: pchannel.into(), term: 1 };
        let vchannel = first.shards.iter().find(|s| pchannel_of(&s.vchannel) == pchannel).unwrap().vchannel.clone();
        rules.call(&caller, &Call::DropChannel { vchannel }).0.unwrap();
        assert_eq!(rules.collections().count(), left);
    }
    assert_eq!(rules.finish_drop(1000).1, []);
}

#[test]
fn a_collection_that_makes_no_sense_is_refused_with_the_reason() {
    let new = |shards, partitions: &[&str]| NewCollection {
        schema: schema(0),
        shards,
        partitions: partitions.iter().map(|&p| p.to_owned()).collect(),
    };
    for (new, says) in [(new(0, &[]), "0 shards"), (new(17, &[]), "17 shards"), (new(1, &["a", "a"]), "`a`"), (new(1, &[""]), "``")] {
        let error = Coordinator::default().create_collection(&new, 1000, &[PCHANNEL.to_owned()]).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn schemas_are_kept_a_day_below_the_checkpoint_and_always_one() {
    let mut peer = Peer::new();
    for (tick, version) in [(100, 1), (200, 2), (DAY, 3)] {
        let call = Call::SaveSchema { vchannel: VCHANNEL.into(), tick, schema: Box::new(schema(version)) };
        assert_eq!(peer.call(&call), Ok(Reply::Done));
    }
    assert_eq!(peer.rules.collection_named("rows").unwrap().schema.version, 3);
    peer.report(VCHANNEL, at(DAY + 150)).unwrap();
    assert_eq!(peer.recover().unwrap().schemas.iter().map(|(tick, _)| *tick).collect::<Vec<_>>(), [100, 200, DAY]);
    peer.report(VCHANNEL, at(3 * DAY)).unwrap();
    assert_eq!(peer.recover().unwrap().schemas, [(DAY, schema(3))]);
}

fn any_call() -> impl Strategy<Value = Call> {
    let vchannel = || prop::sample::select(vec![VCHANNEL.to_owned(), "by-dev-dml_0_2000v0".to_owned(), "other_0_1v0".to_owned()]);
    let save_of = (1i64..4, 10u64..60, prop::collection::vec(0i64..5, 0..3), any::<(bool, bool)>(), prop::bool::weighted(0.2)).prop_map(
        |(segment, dml, counts, (flushed, started), dropped)| {
            let start = started.then(|| at(dml - 5));
            Call::SaveBinlogPaths(Box::new(SaveBinlogPaths { flushed, dropped, start, ..save(segment, dml, &counts) }))
        },
    );
    prop_oneof![
        3 => (1i64..4).prop_map(alloc),
        4 => save_of,
        1 => (4i64..6, 10u64..60).prop_map(|(segment, dml)| Call::SaveBinlogPaths(Box::new(deletes(segment, dml)))),
        2 => prop::collection::vec((vchannel(), (0u64..60).prop_map(at)), 1..3).prop_map(Call::ReportCheckpoints),
        1 => (vchannel(), 0u64..4).prop_map(|(v, days)| Call::ReportCheckpoints(vec![(v, at(days * DAY))])),
        2 => (vchannel(), 0u64..4, 0i32..4).prop_map(|(vchannel, days, version)| Call::SaveSchema { vchannel, tick: days * DAY / 2, schema: Box::new(schema(version)) }),
        1 => (10u64..60).prop_map(|tick| Call::SaveConsume(at(tick))),
        1 => vchannel().prop_map(|vchannel| Call::RecoveryInfo { vchannel }),
    ]
}

proptest! {
    #[test]
    fn what_the_writes_leave_behind_is_the_state_and_nothing_moves_back(
        steps in prop::collection::vec((1i64..4, any_call()), 0..60),
        drop_after in prop::option::of(0usize..60),
    ) {
        let mut peer = Peer::new();
        for (i, (term, call)) in steps.iter().enumerate() {
            let before = peer.rules.clone();
            let reply = peer.call_as(&of_term(*term), call);
            if drop_after == Some(i) {
                peer.call_as(&of_term(4), &Call::DropChannel { vchannel: VCHANNEL.into() }).unwrap();
            }
            if let (Ok(Reply::Ignored(_)), None) = (&reply, drop_after) {
                prop_assert_eq!(&before.segments, &peer.rules.segments);
            }
            prop_assert!(before.terms.iter().all(|(p, term)| peer.rules.terms[p] >= *term));
            for (vchannel, old) in &before.checkpoints {
                let forward = match (old, &peer.rules.checkpoints[vchannel]) {
                    (ChannelCheckpoint::At(old), ChannelCheckpoint::At(new)) => old.tick <= new.tick,
                    (_, new) => *new == ChannelCheckpoint::Dropped,
                };
                prop_assert!(forward); // CK-1
            }
            prop_assert_eq!(&Coordinator::load(peer.disk.clone()).unwrap(), &peer.rules);
        }
    }
}
