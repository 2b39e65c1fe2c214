//! The exports of contract 0.2.0.
//!
//! Variants take this file in beside the glue: `super` has the bindings and the `Component`.

use tidegate_flusher::contract::Logic;

use super::exports::tidegate::flusher::logic;
use super::tidegate::flusher::types;
use super::{Component, glue};

impl logic::Guest for Component {
    fn start(config: logic::Config, resume: Option<Vec<u8>>) -> Result<(), String> {
        glue::start(config, resume.as_deref())
    }

    fn turn(completions: Vec<types::Completion>, pressure: u64) -> logic::Report {
        glue::turn(completions, pressure)
    }

    fn snapshot() -> Vec<u8> {
        glue::snapshot()
    }

    fn accounts() -> logic::Holdings {
        let held = glue::with(|version| Logic::accounts(version));
        logic::Holdings {
            channels: held.iter().map(|h| h.channel).collect(),
            deletes: held.iter().map(|h| h.deletes).collect(),
            ids: held.iter().map(|h| h.id).collect(),
            first: held.iter().map(|h| h.first).collect(),
            last: held.iter().map(|h| h.last).collect(),
            rows: held.iter().map(|h| h.rows).collect(),
            bytes: held.iter().map(|h| h.bytes).collect(),
        }
    }

    fn explain(channel: u32) -> String {
        glue::explain(channel)
    }
}
