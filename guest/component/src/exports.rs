//! The exports and imports.

use tidegate_flusher::Flusher as Version;

wit_bindgen::generate!({ path: "../../wit/0.2.0", world: "flusher" });

use exports::tidegate::flusher::logic;
use tidegate::flusher::types;

mod glue;
mod holdings;

struct Component;

export!(Component);

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
        holdings::accounts()
    }

    fn explain(channel: u32) -> String {
        glue::explain(channel)
    }
}
