//! The turns of a journal, run again: against the component that they were recorded with (DT-1), or against another one, to see before it
//! serves what it would do differently.
//!
//! Deadlines are counted in fuel, so that a replay ends the same on any machine.

mod report;
mod shadow;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_core::journal::{Replay, Turn};
use tidegate_core::turn::{Fault, Intent, TurnOutput};

pub use self::report::{CheckpointDifference, Decisions, Divergence, Report};

use self::shadow::Shadow;
use crate::engine::{GuestConfig, Loaded};

/// What a component gave.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The outcomes of the turns that ended.
    pub outputs: Vec<TurnOutput>,
    /// The first thing that the guard would refuse.
    pub refused: Option<String>,
    /// Why it ended before the journal did.
    pub ended: Option<Ended>,
    /// Fuel that it used.
    pub fuel: u64,
}

/// Why a replay ended before its journal did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what", content = "why")]
pub enum Ended {
    /// It did not start from the journal's snapshot: in a swap it would recover from the log.
    NotStarted(String),
    /// It failed in a turn.
    Failed(String),
    /// It left messages of a page: what follows cannot be handed out.
    LeftMessages(String),
}

/// Runs a component over a journal. It must be loaded by an engine that counts fuel.
pub fn run(component: &Loaded, config: &GuestConfig, base: Option<&[u8]>, turns: &[Turn]) -> Run {
    let mut run = Run::default();
    let mut instance = match component.start(config, base) {
        Ok(instance) => instance,
        Err(Fault::Start(why)) => {
            run.ended = Some(Ended::NotStarted(why));
            return run;
        }
        Err(fault) => {
            run.ended = Some(Ended::Failed(format!("it failed to start: {fault}")));
            return run;
        }
    };
    let mut shadow = Shadow::new(turns);
    for (nth, turn) in turns.iter().enumerate() {
        let outcome = instance.turn(&turn.input);
        run.fuel += instance.fuel_used();
        let output = match outcome {
            Ok(output) => output,
            Err(fault) => {
                run.ended = Some(Ended::Failed(format!("turn {nth}: {fault}")));
                return run;
            }
        };
        shadow.hand_out(&turn.input.completions, &turn.input.page, output.taken);
        for intent in &output.intents {
            if let Err(why) = shadow.judge(intent) {
                run.refused.get_or_insert(format!("turn {nth}: {why}"));
            }
        }
        let left = output.taken < turn.output.taken;
        if left {
            let text = format!("turn {nth}: it took {} of {} messages", output.taken, turn.output.taken);
            run.ended = Some(Ended::LeftMessages(text));
        }
        run.outputs.push(output);
        if left {
            return run;
        }
    }
    run
}

/// Judges one more intent at the end of a journal's turn, after those that were recorded.
///
/// # Errors
/// Why the guard would refuse it.
pub fn judge(turns: &[Turn], nth: usize, intent: &Intent) -> Result<(), String> {
    let mut shadow = Shadow::new(turns);
    for turn in turns.iter().take(nth + 1) {
        shadow.hand_out(&turn.input.completions, &turn.input.page, turn.output.taken);
        turn.output.intents.iter().try_for_each(|recorded| shadow.judge(recorded))?;
    }
    shadow.judge(intent)
}

/// What a rehearsal says of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// It went through the recorded turns.
    Passed,
    /// It failed, or wanted what the guard would refuse.
    Refused(String),
    /// The recorded turns cannot judge it: the serving component itself does otherwise over them, or it reads no such state.
    NotJudged(String),
}

/// A rehearsal over the last turns of a pchannel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    /// Turns in the journal.
    pub turns: usize,
    /// What came of it.
    pub verdict: Verdict,
    /// How the component differs, if it came so far.
    pub report: Option<Report>,
}

/// Has a candidate run the last turns of a pchannel. The serving component runs them first: a candidate is not blamed for what that one
/// cannot do either.
pub fn rehearse(current: &Arc<Loaded>, candidate: &Arc<Loaded>, config: &GuestConfig, journal: &Replay) -> Rehearsal {
    let turns = journal.turns.len();
    let base = journal.base.as_deref().map(Vec::as_slice);
    let not_judged = |why: String| Rehearsal { turns, verdict: Verdict::NotJudged(why), report: None };
    let control = run(current, config, base, &journal.turns);
    if let Some(ended) = control.ended {
        return not_judged(format!("the serving component does not get through its own turns: {ended:?}"));
    }
    if let Some(first) = Report::new(&journal.turns, &control.outputs).first {
        return not_judged(format!("the serving component does otherwise over its own turns: {first:?}"));
    }
    if let Some(refused) = control.refused {
        return not_judged(format!("the serving component itself would be refused: {refused}"));
    }
    let tried = run(candidate, config, base, &journal.turns);
    let report = Report::new(&journal.turns, &tried.outputs);
    let verdict = match (tried.ended, tried.refused) {
        (Some(Ended::NotStarted(why)), _) => {
            return not_judged(format!("it does not go on from the state of the serving one and would recover from the log: {why}"));
        }
        (Some(Ended::Failed(why)), _) => Verdict::Refused(why),
        (_, Some(why)) => Verdict::Refused(format!("the guard would refuse it: {why}")),
        (Some(Ended::LeftMessages(why)), None) => Verdict::NotJudged(why),
        (None, None) => Verdict::Passed,
    };
    Rehearsal { turns, verdict, report: Some(report) }
}
