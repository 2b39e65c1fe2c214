//! The flusher's thread, between scripted peers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_binlog::{DeltaForm, FilterKind};
use tidegate_core::turn::{Fault, Intent, TurnInput, TurnOutput, TurnReport};
use tidegate_message::build;

use super::Settings;
use super::dead_letters::DeadLetters;
use super::driver::Driver;
use super::scripted::{ScriptedGuests, ScriptedLog};
use super::workers::Peers;
use crate::coordinator::EmbeddedCoordinator;
use crate::storage::ChunkStore;

/// Peers in a temporary folder, with a log of these messages.
fn peers(dir: &std::path::Path, log: ScriptedLog) -> Peers {
    Peers {
        log: Arc::new(log),
        coordinator: Arc::new(EmbeddedCoordinator::open(&dir.join("meta")).unwrap()),
        chunks: Arc::new(ChunkStore::open(&dir.join("chunks")).unwrap()),
        filter: FilterKind::Basic,
        delta_form: DeltaForm::Json,
    }
}

fn start<F>(peers: Peers, dir: &std::path::Path, turn: F) -> Driver
where
    F: Fn(u64, &TurnInput) -> Result<TurnOutput, Fault> + Send + Sync + 'static,
{
    let letters = DeadLetters::open(&dir.join("letters.jsonl")).unwrap();
    Driver::start(peers, letters, Arc::new(ScriptedGuests(Arc::new(turn))), &Settings::default()).unwrap()
}

/// Waits for something that another thread does.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}: not after 20 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_component_that_always_wants_another_turn_starves_neither_completions_nor_questions_nor_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let completions = Arc::new(AtomicU64::new(0));
    let seen = completions.clone();
    let driver = start(peers(dir.path(), ScriptedLog::new(vec![build::time_tick()])), dir.path(), move |turn, input| {
        seen.fetch_add(input.completions.len() as u64, Ordering::Relaxed);
        // Without any intent it would not be believed.
        let intents = vec![if turn == 1 { Intent::VChannels } else { Intent::Filter(Vec::new()) }];
        Ok(TurnOutput { intents, taken: 0, report: TurnReport { more: true, ..TurnReport::default() } })
    });
    eventually("the answer of its call", || completions.load(Ordering::Relaxed) == 1);
    let asked = Instant::now();
    let status = driver.status().expect("an answer");
    assert!(status.turns > 0 && asked.elapsed() < Duration::from_secs(1), "{status:?}");
    let stopped = Instant::now();
    drop(driver);
    assert!(stopped.elapsed() < Duration::from_secs(3), "the stop took {:?}", stopped.elapsed());
}
