//! The judge: a small model that knows which rows must exist, and what the promises forbid at every step.
//!
//! It sees what became durable in the log, and what the coordinator committed. It never looks into a flusher to learn what is true.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::calls::{Call, CallError, Caller, Level, Position, Reply, SaveBinlogPaths, SegmentInfo, SegmentState};
use tidegate_core::coordinator::{ChannelCheckpoint, CollectionState, Coordinator, pchannel_of};

use crate::log::{Effect, Entry, raw};
use crate::storage::Storage;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise, as `docs/promises.md` names it, or `liveness`, `panic`.
    pub promise: &'static str,
    /// What happened.
    pub text: String,
}

impl Violation {
    /// The same, with what was said then.
    pub fn with(mut self, said: String) -> Self {
        if !said.is_empty() {
            self.text += ": ";
            self.text += &said;
        }
        self
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.promise, self.text)
    }
}

/// A verdict.
pub type Verdict = Result<(), Violation>;

/// Says that a promise is broken.
pub fn broken<T>(promise: &'static str, text: String) -> Result<T, Violation> {
    Err(Violation { promise, text })
}

/// A message that has to come to something.
#[derive(Clone, Debug)]
struct Msg {
    id: i64,
    /// Where reading must begin to meet it.
    first_id: i64,
    tick: u64,
    what: What,
    /// It may be set aside: late, or of a transaction that lost a record.
    may_be_lost: bool,
}

#[derive(Clone, Debug)]
enum What {
    Rows { segment: i64, partition: i64, start: u64, count: u64 },
    Deletes { partition: i64, keys: Vec<i64> },
    Create { segment: i64, partition: i64 },
    Seal { segments: Vec<i64> },
    DropPartition { partition: i64 },
    Schema,
}

#[derive(Debug, Default)]
struct Channel {
    /// Ticks of schemas that the coordinator has recorded.
    recorded: BTreeSet<u64>,
    /// Rows in files that the coordinator has, or had.
    saved: u64,
    /// Ascending by tick.
    msgs: Vec<Msg>,
    /// So many messages from the first on lie before the checkpoint, and were found finished.
    verified: usize,
    checkpoint: u64,
    /// The DropCollection is durable.
    dropped: bool,
    /// Partitions whose drop is durable.
    dropped_partitions: BTreeSet<i64>,
    /// Deletes in files that the coordinator has.
    deletes: BTreeSet<(u64, i64)>,
    /// Ticks and versions of schemas.
    schemas: Vec<(u64, i32)>,
    /// A message that cannot be flushed stands in it.
    hazard: bool,
}

#[derive(Debug, Default)]
struct Segment {
    files: Vec<String>,
    msgs: Vec<(u64, u64, u64)>,
}

#[derive(Debug, Default)]
struct Txn {
    begin: i64,
    bodies: Vec<(Msg, String)>,
    bad: bool,
}

/// What the judge knows.
#[derive(Debug, Default)]
pub struct Judge {
    channels: BTreeMap<String, Channel>,
    segments: BTreeMap<i64, Segment>,
    /// The segment of each key that the coordinator has files for; 0 for none.
    home: Vec<i64>,
    /// Whether the coordinator ever had a file with the key.
    ever_saved: Vec<bool>,
    txns: BTreeMap<(String, i64), Txn>,
    /// Ids of messages that may be set aside, by pchannel.
    may_be_set_aside: BTreeSet<(String, i64)>,
    /// Terms that were given out.
    terms: BTreeMap<String, i64>,
    /// The consume checkpoint.
    consumed: BTreeMap<String, u64>,
    /// Keys that may be nowhere.
    lost_keys: BTreeSet<u64>,
    /// Keys that must be nowhere.
    forbidden: BTreeSet<u64>,
    /// Segments of the old architecture: their flush is asked for at a recovery, if that is told of them.
    pub old: BTreeSet<i64>,
    /// Those whose flush the log did not take.
    pub unsealable: BTreeSet<i64>,
    /// Rows that must be somewhere at the end.
    pub rows: u64,
}

impl Judge {
    /// A term was given out: older ones may change nothing from here on.
    pub fn term(&mut self, pchannel: &str, term: i64) {
        self.terms.insert(pchannel.to_owned(), term);
    }

    /// Rows of a channel in files that the coordinator has, or had.
    pub fn saved_rows(&self, vchannel: &str) -> u64 {
        self.channels.get(vchannel).map_or(0, |c| c.saved)
    }

    /// Whether a channel is to end, or can never go on.
    pub fn is_excused(&self, vchannel: &str) -> bool {
        self.channels.get(vchannel).is_some_and(|c| c.dropped || c.hazard)
    }

    /// Whether a partition is to end.
    pub fn is_dropped_partition(&self, vchannel: &str, partition: i64) -> bool {
        self.channels.get(vchannel).is_some_and(|c| c.dropped || c.dropped_partitions.contains(&partition))
    }

    /// A record became durable.
    pub fn durable(&mut self, pchannel: &str, entry: &Entry) {
        let Some(append) = &entry.append else { return };
        let id = raw(&entry.record.id);
        let msg = |what| Msg { id, first_id: id, tick: entry.tick, what, may_be_lost: append.late };
        if append.late || append.effect == Effect::Bad {
            self.may_be_set_aside.insert((pchannel.to_owned(), id));
        }
        let (msg, vchannel) = match &append.effect {
            Effect::Rows { vchannel, partition, segment, start, count } => {
                (msg(What::Rows { segment: *segment, partition: *partition, start: *start, count: *count }), vchannel)
            }
            Effect::Deletes { vchannel, partition, keys } => (msg(What::Deletes { partition: *partition, keys: keys.clone() }), vchannel),
            Effect::CreateSegment { vchannel, partition, segment } => {
                (msg(What::Create { segment: *segment, partition: *partition }), vchannel)
            }
            Effect::Seal { vchannel, segments } => (msg(What::Seal { segments: segments.clone() }), vchannel),
            Effect::SealAll { segments, .. } => {
                for (vchannel, segments) in segments {
                    self.add(vchannel, msg(What::Seal { segments: segments.clone() }));
                }
                return;
            }
            Effect::DropPartition { vchannel, partition } => {
                self.channels.entry(vchannel.clone()).or_default().dropped_partitions.insert(*partition);
                (msg(What::DropPartition { partition: *partition }), vchannel)
            }
            Effect::Schema { vchannel, version, segments } => {
                let channel = self.channels.entry(vchannel.clone()).or_default();
                channel.schemas.push((entry.tick, *version));
                let seal = msg(What::Seal { segments: segments.clone() });
                self.add(vchannel, seal);
                (msg(What::Schema), vchannel)
            }
            Effect::DropCollection { vchannel, .. } => {
                self.channels.entry(vchannel.clone()).or_default().dropped = true;
                return;
            }
            Effect::CreateCollection { vchannel, .. } => {
                let channel = self.channels.entry(vchannel.clone()).or_default();
                if channel.schemas.is_empty() {
                    channel.schemas.push((entry.tick, 0));
                }
                return;
            }
            Effect::Hazard { vchannel } => {
                self.channels.entry(vchannel.clone()).or_default().hazard = true;
                return;
            }
            Effect::Begin { .. } => {
                if let Some(txn) = append.txn {
                    self.txns.insert((pchannel.to_owned(), txn.txn_id), Txn { begin: id, ..Txn::default() });
                }
                return;
            }
            Effect::Commit | Effect::Rollback => {
                let key = append.txn.map(|t| (pchannel.to_owned(), t.txn_id)).unwrap_or_default();
                let Some(txn) = self.txns.remove(&key) else { return };
                if append.effect == Effect::Commit {
                    for (mut body, vchannel) in txn.bodies {
                        if txn.bad {
                            self.may_be_set_aside.insert((pchannel.to_owned(), body.id));
                        }
                        body.tick = entry.tick;
                        body.first_id = txn.begin;
                        body.may_be_lost |= txn.bad;
                        if let (true, What::Rows { start, count, .. }) = (txn.bad, &body.what) {
                            self.forbidden.extend(*start..start + count);
                        }
                        self.add(&vchannel, body);
                    }
                }
                return;
            }
            Effect::Bad => {
                if let Some(txn) = append.txn.and_then(|t| self.txns.get_mut(&(pchannel.to_owned(), t.txn_id))) {
                    txn.bad = true;
                }
                return;
            }
            Effect::None => return,
        };
        match append.txn {
            Some(txn) => {
                if let Some(open) = self.txns.get_mut(&(pchannel.to_owned(), txn.txn_id)) {
                    open.bodies.push((msg, vchannel.clone()));
                }
            }
            None => self.add(vchannel, msg),
        }
    }

    fn add(&mut self, vchannel: &str, msg: Msg) {
        if let What::Rows { segment, start, count, .. } = msg.what {
            let end = (start + count) as usize;
            if self.home.len() < end {
                self.home.resize(end, 0);
                self.ever_saved.resize(end, false);
            }
            if msg.may_be_lost {
                self.lost_keys.extend(start..start + count);
            }
            if !msg.may_be_lost {
                self.segments.entry(segment).or_default().msgs.push((msg.tick, start, count));
            }
            self.rows += count;
        }
        let channel = self.channels.entry(vchannel.to_owned()).or_default();
        let at = channel.msgs.partition_point(|m| m.tick <= msg.tick);
        // One that comes too late lies before what is verified.
        channel.verified += usize::from(at < channel.verified);
        channel.msgs.insert(at, msg);
    }

    /// Whether a message came to something that lasts.
    fn is_finished(&self, vchannel: &str, channel: &Channel, msg: &Msg, rules: &Coordinator) -> bool {
        if channel.dropped || msg.may_be_lost {
            return true;
        }
        let gone = |partition: &i64| channel.dropped_partitions.contains(partition);
        let complete = |segment: &i64| rules.segment(*segment).is_none_or(|s| s.state != SegmentState::Growing);
        match &msg.what {
            What::Rows { partition, start, count, .. } => {
                gone(partition) || (*start..start + count).all(|key| self.home.get(key as usize).is_some_and(|&s| s != 0))
            }
            What::Deletes { partition, keys } => gone(partition) || keys.iter().all(|&key| channel.deletes.contains(&(msg.tick, key))),
            What::Create { segment, partition } => gone(partition) || rules.segment(*segment).is_some(),
            // Of a segment without rows it cannot be told whether it is older than a replayed FlushAll: it may stay.
            What::Seal { segments } => segments.iter().all(|s| complete(s) || !self.has_rows(s)),
            What::DropPartition { partition } => {
                let of_it = |s: &&SegmentInfo| s.partition == *partition && s.vchannel == vchannel && s.level == Level::L1;
                rules.every_segment().filter(of_it).all(|s| complete(&s.segment))
            }
            What::Schema => channel.recorded.contains(&msg.tick),
        }
    }

    /// Whether a segment has rows that were not set aside.
    pub fn has_rows(&self, segment: &i64) -> bool {
        let rows = self.segments.get(segment).into_iter().flat_map(|s| &s.msgs);
        rows.flat_map(|&(_, start, count)| start..start + count).any(|key| !self.lost_keys.contains(&key))
    }

    /// A call is about to be applied. FL-1: files exist before the coordinator hears of them.
    pub fn before_call(&self, call: &Call, storage: &Storage) -> Verdict {
        if let Call::SaveBinlogPaths(save) = call {
            for file in save.files.iter() {
                if storage.rows(&file.path).is_none() {
                    return broken("FL-1", format!("{} is saved and does not exist", file.path));
                }
            }
        }
        Ok(())
    }

    /// A call was applied. FE-1: not for an older term.
    pub fn applied(&self, caller: &Caller, call: &Call, reply: &Result<Reply, CallError>) -> Verdict {
        let newest = self.terms.get(&caller.pchannel).copied().unwrap_or_default();
        if call.is_mutating() && caller.term < newest && !matches!(reply, Err(CallError::Fenced(_))) {
            return broken("FE-1", format!("{} of term {} was answered with {reply:?} while term {newest} owns", call.name(), caller.term));
        }
        Ok(())
    }

    /// A call was committed.
    pub fn committed(&mut self, call: &Call, reply: &Result<Reply, CallError>, rules: &Coordinator, storage: &Storage) -> Verdict {
        match (call, reply) {
            (Call::SaveBinlogPaths(save), Ok(Reply::Done)) => self.saved(save, rules, storage),
            (Call::ReportCheckpoints(entries), Ok(_)) => entries.iter().try_for_each(|(v, _)| self.reported(v, rules)),
            (Call::SaveConsume(_), Ok(Reply::Done)) => Ok(()),
            (Call::SaveSchema { vchannel, tick, .. }, Ok(_)) => {
                self.channels.entry(vchannel.clone()).or_default().recorded.insert(*tick);
                Ok(())
            }
            (Call::DropChannel { vchannel }, Ok(_)) if !self.channels.get(vchannel).is_some_and(|c| c.dropped) => {
                broken("FL-2", format!("channel {vchannel} was dropped, its collection was not"))
            }
            _ => Ok(()),
        }
    }

    fn saved(&mut self, save: &SaveBinlogPaths, rules: &Coordinator, storage: &Storage) -> Verdict {
        if save.level == Level::L0 {
            let channel = self.channels.entry(save.vchannel.clone()).or_default();
            for file in save.files.delta.iter().flat_map(|f| &f.binlogs) {
                channel.deletes.extend(storage.rows(&file.path).into_iter().flatten().map(|&(key, tick)| (tick, key)));
            }
            return Ok(());
        }
        let Some(stored) = rules.segment(save.segment) else {
            return broken("FL-2", format!("segment {} was saved and is not there", save.segment));
        };
        let files: Vec<&str> = stored.files.insert.iter().flat_map(|f| &f.binlogs).map(|b| b.path.as_str()).collect();
        let segment = self.segments.entry(save.segment).or_default();
        let mut saved = 0;
        let known = segment.files.len();
        let grows = files.len() >= known && segment.files.iter().zip(&files).all(|(a, b)| a == b);
        if !grows {
            // Another list: begin anew.
            for path in std::mem::take(&mut segment.files) {
                for &(key, _) in storage.rows(&path).into_iter().flatten() {
                    if let Some(home) = self.home.get_mut(key as usize) {
                        *home = 0;
                    }
                }
            }
        }
        for path in &files[segment.files.len()..] {
            let mut before = 0;
            for &(key, tick) in storage.rows(path).into_iter().flatten() {
                let Some(home) = self.home.get_mut(key as usize) else {
                    return broken("FL-2", format!("key {key} in {path} was never committed"));
                };
                if *home != 0 {
                    return broken("FL-2", format!("key {key} is in segment {home}, and again in {path}"));
                }
                if tick < before {
                    return broken("FL-3", format!("{path} is not in the order of the log: tick {tick} after {before}"));
                }
                if self.forbidden.contains(&(key as u64)) {
                    return broken("FL-2", format!("key {key} in {path} is of a transaction with a body that nobody can read"));
                }
                before = tick;
                *home = save.segment;
                saved += u64::from(!std::mem::replace(&mut self.ever_saved[key as usize], true));
            }
            segment.files.push((*path).to_owned());
        }
        let channel = self.channels.entry(save.vchannel.clone()).or_default();
        channel.saved += saved;
        let excused = self.is_dropped_partition(&save.vchannel, save.partition);
        let segment = &self.segments[&save.segment];
        let dml = stored.dml.as_ref().map_or(0, |p| p.tick);
        for &(tick, start, count) in &segment.msgs {
            for key in start..start + count {
                let is_there = self.home[key as usize] == save.segment;
                if is_there || excused || self.lost_keys.contains(&key) {
                    continue;
                }
                if stored.state != SegmentState::Growing {
                    let (state, id) = (stored.state, save.segment);
                    return broken("FL-2", format!("segment {id} of {} is {state:?} without key {key} (tick {tick})", save.vchannel));
                }
                if tick <= dml {
                    let id = save.segment;
                    return broken("FL-2", format!("segment {id} has dml position {dml} and not key {key} (tick {tick})"));
                }
            }
        }
        Ok(())
    }

    fn reported(&mut self, vchannel: &str, rules: &Coordinator) -> Verdict {
        let found = rules.checkpoints().find(|(v, _)| *v == vchannel).map(|(_, c)| c.clone());
        let Some(ChannelCheckpoint::At(position)) = found else { return Ok(()) };
        let Some(channel) = self.channels.get(vchannel) else { return Ok(()) };
        if position.tick < channel.checkpoint {
            let before = channel.checkpoint;
            return broken("CK-1", format!("the checkpoint of {vchannel} moved from {before} back to {}", position.tick));
        }
        let end = channel.msgs.partition_point(|m| m.tick < position.tick);
        let from = channel.verified.min(end);
        if let Some(msg) = channel.msgs[from..end].iter().find(|m| !self.is_finished(vchannel, channel, m, rules)) {
            return broken("CK-2", format!("the checkpoint of {vchannel} is at {}, past {msg:?}", position.tick));
        }
        let read_from = raw(&position.last_confirmed);
        let unmet = |m: &&Msg| m.first_id < read_from && !self.is_finished(vchannel, channel, m, rules);
        if let Some(msg) = channel.msgs[end..].iter().find(unmet) {
            return broken("CK-4", format!("from id {read_from} of the checkpoint of {vchannel}, {msg:?} is not met again"));
        }
        let pchannel = pchannel_of(vchannel);
        let open = |((p, _), txn): &(&(String, i64), &Txn)| {
            p == pchannel && txn.begin < read_from && txn.bodies.iter().any(|(_, v)| v == vchannel)
        };
        if let Some((id, txn)) = self.txns.iter().find(open) {
            return broken(
                "CK-4",
                format!("the checkpoint of {vchannel} reads from {read_from}, within transaction {id:?} of {}", txn.begin),
            );
        }
        if let Some(channel) = self.channels.get_mut(vchannel) {
            channel.checkpoint = position.tick;
            channel.verified = end;
        }
        Ok(())
    }

    /// The consume checkpoint was stored. CK-3: not past a live channel.
    pub fn consumed(&mut self, pchannel: &str, position: &Position, rules: &Coordinator) -> Verdict {
        let live = rules.collections().filter(|c| matches!(c.state, CollectionState::Created | CollectionState::Dropping));
        for shard in live.flat_map(|c| &c.shards).filter(|s| pchannel_of(&s.vchannel) == pchannel) {
            let reported = rules.checkpoint_tick(&shard.vchannel);
            // One whose creation ended after the flusher had listed the channels is met with its first message after that.
            let is_met = |m: &Msg| m.tick < position.tick;
            if reported.is_none() && !self.channels.get(&shard.vchannel).is_some_and(|c| c.msgs.iter().any(is_met)) {
                continue;
            }
            let stored = reported.or(shard.start.as_ref().map(|p| p.tick));
            if stored.is_some_and(|stored| position.tick > stored) {
                let text = format!("consume checkpoint {} is past {} of {}", position.tick, stored.unwrap_or_default(), shard.vchannel);
                return broken("CK-3", text);
            }
        }
        let before = self.consumed.insert(pchannel.to_owned(), position.tick).unwrap_or_default();
        if position.tick < before {
            return broken("CK-1", format!("the consume checkpoint of {pchannel} moved from {before} back to {}", position.tick));
        }
        self.must_remain(pchannel, raw(&position.last_confirmed), rules)
    }

    /// The tick of the stored consume checkpoint.
    pub fn consumed_at(&self, pchannel: &str) -> u64 {
        self.consumed.get(pchannel).copied().unwrap_or_default()
    }

    /// Records before an id are needed no more, says a flusher.
    pub fn must_remain(&self, pchannel: &str, up_to: i64, rules: &Coordinator) -> Verdict {
        for (vchannel, channel) in self.channels.iter().filter(|(v, _)| pchannel_of(v) == pchannel) {
            let needed = |m: &&Msg| m.first_id < up_to && !self.is_finished(vchannel, channel, m, rules);
            if let Some(msg) = channel.msgs[channel.verified.min(channel.msgs.len())..].iter().find(needed) {
                return broken("CK-3", format!("records before {up_to} are let go, and {vchannel} still needs {msg:?}"));
            }
        }
        let open = self.txns.iter().find(|((p, _), txn)| p == pchannel && txn.begin < up_to && !txn.bodies.is_empty());
        match open {
            Some((id, txn)) => broken("CK-4", format!("records before {up_to} are let go, transaction {id:?} began at {}", txn.begin)),
            None => Ok(()),
        }
    }

    /// Somebody else let go of the records before an id: what they had, and was not flushed, may be lost.
    pub fn lose_records(&mut self, pchannel: &str, up_to: i64) {
        self.txns.retain(|(p, _), txn| p != pchannel || txn.begin >= up_to);
        for (_, channel) in self.channels.iter_mut().filter(|(v, _)| pchannel_of(v) == pchannel) {
            for msg in channel.msgs.iter_mut().filter(|m| m.first_id < up_to) {
                msg.may_be_lost = true;
                if let What::Rows { start, count, .. } = msg.what {
                    self.lost_keys.extend(start..start + count);
                }
            }
        }
    }

    /// A transaction is over without an end in the log: its lease ran out.
    pub fn expired(&mut self, pchannel: &str, open: &BTreeSet<i64>) {
        self.txns.retain(|(p, id), _| p != pchannel || open.contains(id));
    }

    /// A message was set aside. LD-1: only what cannot be flushed.
    /// A message that made every instance trap is quarantined by name: by chance, that may hit any.
    pub fn set_aside(&mut self, pchannel: &str, id: i64, reason: &str) -> Verdict {
        if reason.contains("the component faults on it") || reason.contains("it was set aside before") {
            let channels = || self.channels.iter().filter(|(v, _)| pchannel_of(v) == pchannel);
            // Of a transaction, all messages go: they are met from its begin on.
            let begin = channels().flat_map(|(_, c)| &c.msgs).find(|m| m.id == id).map(|m| m.first_id).filter(|&begin| begin < id);
            for (_, channel) in self.channels.iter_mut().filter(|(v, _)| pchannel_of(v) == pchannel) {
                for msg in channel.msgs.iter_mut().filter(|m| m.id == id || Some(m.first_id) == begin) {
                    self.may_be_set_aside.insert((pchannel.to_owned(), msg.id));
                    msg.may_be_lost = true;
                    if let What::Rows { start, count, .. } = msg.what {
                        self.lost_keys.extend(start..start + count);
                    }
                }
            }
            return Ok(());
        }
        if self.may_be_set_aside.contains(&(pchannel.to_owned(), id)) {
            return Ok(());
        }
        broken("LD-1", format!("message {id} of {pchannel} can be flushed and was set aside: {reason}"))
    }

    /// The version of the schema that rows of a tick have.
    pub fn schema_version(&self, vchannel: &str, tick: u64) -> Option<i32> {
        let schemas = &self.channels.get(vchannel)?.schemas;
        schemas.iter().filter(|(from, _)| *from <= tick).max_by_key(|(from, _)| *from).map(|(_, version)| *version)
    }

    /// The end. FL-2: every row is in exactly one flushed segment, every delete in a file. `skip` names channels that are not looked at.
    pub fn end(&self, rules: &Coordinator, skip: &BTreeSet<String>) -> Verdict {
        for (vchannel, channel) in self.channels.iter().filter(|(v, c)| !c.dropped && !c.hazard && !skip.contains(*v)) {
            for msg in &channel.msgs {
                if !self.is_finished(vchannel, channel, msg, rules) {
                    return broken("FL-2", format!("{vchannel} has lost {msg:?}"));
                }
                let What::Rows { segment, partition, .. } = msg.what else { continue };
                let state = rules.segment(segment).map(|s| s.state);
                if state == Some(SegmentState::Growing)
                    && self.old.contains(&segment)
                    && !self.unsealable.contains(&segment)
                    && !channel.dropped_partitions.contains(&partition)
                {
                    return broken("FL-2", format!("segment {segment} of the old architecture is open after {vchannel} was recovered"));
                }
                if state != Some(SegmentState::Flushed)
                    && !self.old.contains(&segment)
                    && !msg.may_be_lost
                    && !channel.dropped_partitions.contains(&partition)
                {
                    return broken("FL-2", format!("{vchannel} has rows in segment {segment}, which is {state:?}"));
                }
            }
        }
        Ok(())
    }

    /// The rows of every flushed segment, by segment and in order, without dropped channels and partitions: what two runs of one log have
    /// in common.
    pub fn rows_of_segments(&self, rules: &Coordinator, storage: &Storage) -> BTreeMap<i64, Vec<i64>> {
        let flushed = rules.every_segment().filter(|s| s.state == SegmentState::Flushed && s.level == Level::L1);
        let kept = flushed.filter(|s| !self.is_dropped_partition(&s.vchannel, s.partition));
        kept.map(|s| {
            let files = s.files.insert.iter().flat_map(|f| &f.binlogs);
            let rows = files.flat_map(|b| storage.rows(&b.path).into_iter().flatten());
            (s.segment, rows.map(|r| r.0).collect())
        })
        .collect()
    }
}
