//! How another component differs over the same journal: the first divergence, then a summary by kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_core::journal::Turn;
use tidegate_core::turn::{ChannelIndex, Intent, Ordinal, TurnOutput};
use tidegate_message::MessageType;

/// What differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The first difference; `None` when there is none.
    pub first: Option<Divergence>,
    /// Turns whose outcome differs.
    pub turns_differing: usize,
    /// Segments (and partitions' deletes) whose batches end elsewhere.
    pub cut_differently: usize,
    /// The recorded component's decisions, and the other one's.
    pub recorded: Decisions,
    /// See `recorded`.
    pub replayed: Decisions,
    /// Channels whose last checkpoint differs, and by how much.
    pub checkpoints: Vec<CheckpointDifference>,
}

/// The first difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Divergence {
    /// The turn, counted from 0.
    pub turn: usize,
    /// The messages that it handed out: first and last ordinal; `None` for none.
    pub messages: Option<(Ordinal, Ordinal)>,
    /// Tick of the last of them.
    pub tick: Option<u64>,
    /// What the recorded component wanted, and the other one did not: the first such intent.
    pub recorded: String,
    /// What the other one wanted instead.
    pub replayed: String,
}

/// Decisions of a component, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Batches that were to be written: each a set of files.
    pub syncs: usize,
    /// Those that complete a segment.
    pub flushes: usize,
    /// Rows a batch: smallest, median, largest, of messages within the journal.
    pub batch_rows: [u64; 3],
    /// Bytes a batch, likewise.
    pub batch_bytes: [u64; 3],
    /// Checkpoints that were reported.
    pub reports: usize,
    /// Consume checkpoints.
    pub consume_saves: usize,
    /// Messages filtered.
    pub filtered: u64,
    /// Segments registered.
    pub allocated: usize,
    /// Segments and channels dropped.
    pub dropped: usize,
    /// Channels given up.
    pub detached: usize,
}

/// How a channel's last checkpoint differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointDifference {
    /// The channel's index.
    pub channel: ChannelIndex,
    /// The last ordinal that the recorded component reported, 0 for none.
    pub recorded: Ordinal,
    /// The last one that the other component reported.
    pub replayed: Ordinal,
    /// Event time by which the other one is later (or, below 0, earlier), in milliseconds.
    pub later_ms: i64,
}

/// A target of syncs: channel, deletes, segment or partition.
type Target = (ChannelIndex, bool, i64);

/// The messages of a journal, by what writes them.
struct Messages {
    rows: BTreeMap<Target, Vec<(Ordinal, u64, u64)>>,
    ticks: BTreeMap<Ordinal, u64>,
}

impl Messages {
    fn of(turns: &[Turn]) -> Self {
        let mut messages = Self { rows: BTreeMap::new(), ticks: BTreeMap::new() };
        for turn in turns {
            let page = &turn.input.page;
            for at in 0..page.len().min(turn.output.taken) {
                let ordinal = page.first + at as Ordinal;
                messages.ticks.insert(ordinal, page.ticks[at]);
                let target = match MessageType(i32::from(page.kinds[at])) {
                    MessageType::INSERT => (page.channels[at], false, page.segments[at]),
                    MessageType::DELETE => (page.channels[at], true, page.partitions[at]),
                    _ => continue,
                };
                messages.rows.entry(target).or_default().push((ordinal, u64::from(page.rows[at]), page.bytes[at]));
            }
        }
        messages
    }

    fn between(&self, target: &Target, after: Ordinal, up_to: Ordinal) -> (u64, u64) {
        let rows = self.rows.get(target).map(Vec::as_slice).unwrap_or_default();
        let within = rows.iter().filter(|(o, ..)| (after + 1..=up_to).contains(o));
        within.fold((0, 0), |sum, (_, rows, bytes)| (sum.0 + rows, sum.1 + bytes))
    }
}

/// What one side decided, in full.
#[derive(Default)]
struct Side {
    decisions: Decisions,
    cuts: BTreeMap<Target, Vec<(Ordinal, bool)>>,
    checkpoints: BTreeMap<ChannelIndex, Ordinal>,
}

impl Side {
    fn of<'a>(outputs: impl Iterator<Item = &'a TurnOutput>, messages: &Messages) -> Self {
        let mut side = Self::default();
        let d = &mut side.decisions;
        for intent in outputs.flat_map(|output| &output.intents) {
            match intent {
                Intent::Sync { channel, segment, up_to, flush } => {
                    d.syncs += 1;
                    d.flushes += usize::from(*flush);
                    side.cuts.entry((*channel, false, *segment)).or_default().push((*up_to, *flush));
                }
                Intent::SyncDeletes { channel, partition, up_to } => {
                    d.syncs += 1;
                    side.cuts.entry((*channel, true, *partition)).or_default().push((*up_to, false));
                }
                Intent::Report(checkpoints) => {
                    d.reports += checkpoints.len();
                    side.checkpoints.extend(checkpoints.iter().copied());
                }
                Intent::SaveCheckpoint(_) => d.consume_saves += 1,
                Intent::Filter(runs) => d.filtered += runs.iter().map(|run| run.last.saturating_sub(run.first) + 1).sum::<u64>(),
                Intent::AllocSegment { .. } => d.allocated += 1,
                Intent::DropSegment { .. } | Intent::DropChannel { .. } => d.dropped += 1,
                Intent::Detach { .. } => d.detached += 1,
                Intent::VChannels | Intent::RecoveryInfo(_) | Intent::AppendFlush { .. } | Intent::Open(_) => {}
            }
        }
        let (mut rows, mut bytes) = (Vec::new(), Vec::new());
        for (target, cuts) in &side.cuts {
            let mut after = 0;
            for &(up_to, _) in cuts {
                let (r, b) = messages.between(target, after, up_to);
                rows.push(r);
                bytes.push(b);
                after = up_to;
            }
        }
        (side.decisions.batch_rows, side.decisions.batch_bytes) = (spread(rows), spread(bytes));
        side
    }
}

/// Smallest, median, largest.
fn spread(mut values: Vec<u64>) -> [u64; 3] {
    values.sort_unstable();
    match values.as_slice() {
        [] => [0; 3],
        [first, ..] => [*first, values[values.len() / 2], values[values.len() - 1]],
    }
}

impl Report {
    /// Compares what a component gave, turn by turn, with what was recorded.
    pub fn new(turns: &[Turn], replayed: &[TurnOutput]) -> Self {
        let recorded = || turns.iter().map(|turn| &*turn.output).take(replayed.len());
        let differing: Vec<usize> = recorded().zip(replayed).enumerate().filter(|(_, (a, b))| a != b).map(|(nth, _)| nth).collect();
        let first = differing.first().map(|&turn| divergence(turn, &turns[turn], &replayed[turn]));
        let messages = Messages::of(turns);
        let (a, b) = (Side::of(recorded(), &messages), Side::of(replayed.iter(), &messages));
        let targets: BTreeSet<&Target> = a.cuts.keys().chain(b.cuts.keys()).collect();
        let cut_differently = targets.into_iter().filter(|target| a.cuts.get(target) != b.cuts.get(target)).count();
        let channels: BTreeSet<ChannelIndex> = a.checkpoints.keys().chain(b.checkpoints.keys()).copied().collect();
        let ms = |at: Ordinal| messages.ticks.get(&at).map(|tick| i64::try_from(tick >> 18).unwrap_or(i64::MAX));
        let checkpoints = channels.into_iter().filter_map(|channel| {
            let last = |side: &Side| side.checkpoints.get(&channel).copied().unwrap_or_default();
            let (recorded, replayed) = (last(&a), last(&b));
            let later_ms = ms(replayed).zip(ms(recorded)).map_or(0, |(b, a)| b - a);
            (recorded != replayed).then_some(CheckpointDifference { channel, recorded, replayed, later_ms })
        });
        let checkpoints = checkpoints.collect();
        Self { first, turns_differing: differing.len(), cut_differently, recorded: a.decisions, replayed: b.decisions, checkpoints }
    }

    /// Whether nothing differs.
    pub fn is_identical(&self) -> bool {
        self.first.is_none()
    }
}

fn divergence(turn: usize, recorded: &Turn, replayed: &TurnOutput) -> Divergence {
    let page = &recorded.input.page;
    let (a, b) = (&recorded.output.intents, &replayed.intents);
    let at = a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
    let rest = |output: &TurnOutput, other: &TurnOutput| match output.intents.get(at) {
        Some(intent) => format!("{intent:?}"),
        None if output.taken != other.taken => format!("to take {} messages", output.taken),
        None if output.report != other.report => format!("to report {:?}", output.report),
        None => "nothing".to_owned(),
    };
    Divergence {
        turn,
        messages: (!page.is_empty()).then(|| (page.first, page.first + page.len() as Ordinal - 1)),
        tick: page.ticks.last().copied(),
        recorded: rest(&recorded.output, replayed),
        replayed: rest(replayed, &recorded.output),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = &self.first else { return write!(f, "every turn gives the same intents") };
        let messages = first.messages.map(|(a, b)| format!(", messages {a} to {b}")).unwrap_or_default();
        let tick = first.tick.map(|tick| format!(", tick {tick}")).unwrap_or_default();
        writeln!(f, "first difference: turn {}{messages}{tick}", first.turn)?;
        writeln!(f, "  recorded  {}", first.recorded)?;
        writeln!(f, "  replayed  {}", first.replayed)?;
        writeln!(f, "{} turns differ, {} segments or partitions are cut differently", self.turns_differing, self.cut_differently)?;
        writeln!(f, "{:<28}{:>22}{:>22}", "", "recorded", "replayed")?;
        let (a, b) = (&self.recorded, &self.replayed);
        let spread = |s: [u64; 3]| format!("{}/{}/{}", s[0], s[1], s[2]);
        for (what, a, b) in [
            ("batches written", a.syncs.to_string(), b.syncs.to_string()),
            ("  that complete a segment", a.flushes.to_string(), b.flushes.to_string()),
            ("rows a batch (min/med/max)", spread(a.batch_rows), spread(b.batch_rows)),
            ("bytes a batch", spread(a.batch_bytes), spread(b.batch_bytes)),
            ("checkpoints reported", a.reports.to_string(), b.reports.to_string()),
            ("consume checkpoints", a.consume_saves.to_string(), b.consume_saves.to_string()),
            ("messages filtered", a.filtered.to_string(), b.filtered.to_string()),
            ("segments registered", a.allocated.to_string(), b.allocated.to_string()),
            ("segments, channels dropped", a.dropped.to_string(), b.dropped.to_string()),
            ("channels given up", a.detached.to_string(), b.detached.to_string()),
        ] {
            writeln!(f, "{what:<28}{a:>22}{b:>22}")?;
        }
        let later = self.checkpoints.iter().filter(|c| c.replayed > c.recorded).count();
        write!(f, "last checkpoints: {later} channels further, {} less far", self.checkpoints.len() - later)?;
        if let Some(most) = self.checkpoints.iter().max_by_key(|c| c.later_ms.unsigned_abs()) {
            write!(f, "; most for channel {}: message {} instead of {}", most.channel, most.replayed, most.recorded)?;
            write!(f, ", {} ms of event time", most.later_ms)?;
        }
        Ok(())
    }
}
