//! The built component as a guest of the world.

use std::sync::Arc;

use tidegate::engine::{BUILT_IN, Engine, GuestConfig, Instance, Loaded};
use tidegate_core::turn::{Fault, Holding, TurnInput, TurnOutput};
use tidegate_flusher::contract::Config;
use tidegate_sim::native::{Guest, Guests};

/// Makes instances of the built-in component.
pub struct Built(Arc<Loaded>);

impl Built {
    /// Loads it, compiled once a build.
    pub fn load() -> Self {
        let artifacts = std::env::current_exe().expect("a test has a file").with_file_name("components");
        let loaded = Engine::new().and_then(|engine| engine.load(BUILT_IN, Some(&artifacts)));
        Self(loaded.expect("the built-in component loads"))
    }
}

impl Guests for Built {
    fn start(&self, config: &Config, resume: Option<&[u8]>) -> Result<Box<dyn Guest>, Fault> {
        let config = GuestConfig {
            pchannel: config.pchannel.clone(),
            term: config.term,
            insert_bytes_max: config.insert_bytes_max,
            delete_bytes_max: config.delete_bytes_max,
            sync_period_ms: config.sync_period_ms,
            report_period_ms: config.report_period_ms,
            reports_max: config.reports_max,
            idle_tick_ms: config.idle_tick_ms,
            page_max: config.page_max,
        };
        Ok(Box::new(Running(self.0.start(&config, resume)?)))
    }
}

struct Running(Instance);

impl Guest for Running {
    fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        self.0.turn(input)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        self.0.snapshot()
    }

    fn accounts(&mut self) -> Result<Vec<Holding>, Fault> {
        self.0.accounts()?.ok_or_else(|| Fault::Answer("the built-in component says what it holds".into()))
    }
}
