//! The border: what the versions below `wit/` say, between a component's instance and the core's plain data.
//!
//! Imports never block. They read what the turn's input has ready or record an intent; nothing has an effect before the turn returns.

mod convert;
mod log;
pub(crate) mod served;

use tidegate_core::turn::{Intent, Page, Ticket, TurnInput, TurnOutput, TurnReport};
use wasmtime::ResourceLimiter;

use crate::stop::Stop;

/// One module a version.
pub(crate) mod bindings {
    pub(crate) mod v0_1 {
        wasmtime::component::bindgen!({
            path: "../wit/0.1.0",
            world: "flusher",
            imports: { default: trappable },
            with: { "tidegate:flusher/types@0.1.0": super::v0_2::tidegate::flusher::types },
        });
    }

    pub(crate) mod v0_2 {
        wasmtime::component::bindgen!({ path: "../wit/0.2.0", world: "flusher", imports: { default: trappable } });
    }
}

pub(crate) use convert::completion;

/// Linear memory that an instance may have, in bytes: some 100,000 segments take a tenth of it.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Bytes of a snapshot: 10,000 channels with a segment each take 2 MB.
pub const SNAPSHOT_BYTES_MAX: usize = 64 << 20;
/// Elements a table may have: a component's own function table has a few hundred.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Bytes of one logged event, beyond which it is cut.
pub const EVENT_BYTES_MAX: usize = 4 << 10;
/// Events that one call may log, beyond which they are only counted: a turn has a few.
pub const EVENTS_MAX: usize = 64;
/// Bytes that the events of one call may have, likewise.
pub const EVENTS_BYTES_MAX: usize = 16 << 10;

/// The store's data: one turn's input and what the instance recorded so far.
pub(crate) struct HostState {
    pchannel: String,
    /// Whether imports other than `log` may be called.
    in_turn: bool,
    page: Page,
    taken: usize,
    intents: Vec<Intent>,
    first_ticket: Ticket,
    /// The limit that was hit, in words.
    pub(crate) over_limit: Option<String>,
    /// The last error that the instance logged: the text of its panic.
    pub(crate) last_error: Option<String>,
    /// Events that the call logged, and their bytes.
    events: usize,
    event_bytes: usize,
    /// Events that were not kept, since somebody asked.
    pub(crate) events_dropped: u64,
    /// Epochs that the call may still take.
    pub(crate) epochs_left: u64,
    /// Ends the call before.
    pub(crate) stop: Stop,
    /// Time is counted in fuel instead of epochs, and so much of it was given to the call.
    pub(crate) counts_fuel: bool,
    /// See `counts_fuel`.
    pub(crate) fuel_given: u64,
}

impl HostState {
    pub(crate) fn new(pchannel: String, stop: Stop) -> Self {
        Self {
            pchannel,
            in_turn: false,
            page: Page::default(),
            taken: 0,
            intents: Vec::new(),
            first_ticket: 1,
            over_limit: None,
            last_error: None,
            events: 0,
            event_bytes: 0,
            events_dropped: 0,
            epochs_left: 0,
            stop,
            counts_fuel: false,
            fuel_given: 0,
        }
    }

    /// Begins any call.
    pub(crate) fn begin_call(&mut self) {
        (self.events, self.event_bytes) = (0, 0);
    }

    pub(crate) fn begin_turn(&mut self, input: &TurnInput) {
        self.in_turn = true;
        self.page = input.page.clone();
        self.taken = 0;
        self.intents.clear();
        self.first_ticket = input.first_ticket;
    }

    pub(crate) fn end_turn(&mut self, report: TurnReport) -> TurnOutput {
        self.in_turn = false;
        TurnOutput { intents: std::mem::take(&mut self.intents), taken: self.taken, report }
    }

    /// Hands the next messages out.
    fn next_page(&mut self, max: u32) -> wasmtime::Result<Page> {
        self.only_in_a_turn()?;
        let page = if self.page.len() > max as usize { self.page.take_groups(max as usize) } else { std::mem::take(&mut self.page) };
        self.taken += page.len();
        Ok(page)
    }

    fn record(&mut self, intent: Intent) -> wasmtime::Result<Ticket> {
        self.only_in_a_turn()?;
        let ticket = self.first_ticket + self.intents.len() as Ticket;
        self.intents.push(intent);
        Ok(ticket)
    }

    fn only_in_a_turn(&self) -> wasmtime::Result<()> {
        if self.in_turn { Ok(()) } else { Err(wasmtime::Error::msg("only log may be called outside a turn")) }
    }
}

impl bindings::v0_2::tidegate::flusher::types::Host for HostState {}

impl ResourceLimiter for HostState {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MEMORY_BYTES_MAX {
            self.over_limit = Some(format!("{desired} bytes of linear memory wanted, {MEMORY_BYTES_MAX} allowed"));
        }
        Ok(desired <= MEMORY_BYTES_MAX)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.over_limit = Some(format!("{desired} table elements wanted, {TABLE_ELEMENTS_MAX} allowed"));
        }
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
