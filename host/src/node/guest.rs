//! Instances of a component, as the thread of a pchannel uses them.

use tidegate_core::pchannel::Told;
use tidegate_core::turn::{ChannelIndex, Fault, TurnInput, TurnOutput};

use crate::engine::{GuestConfig, Instance, Loaded};
use crate::stop::Stop;

/// What instances are made from.
pub(super) trait Guests: Send + Sync {
    /// See [`Loaded::start`]; a stop ends the instance's calls, this one as well.
    fn start(&self, config: &GuestConfig, resume: Option<&[u8]>, stop: &Stop) -> Result<Box<dyn Guest>, Fault>;
}

/// One running instance. After a fault it is of no use any more.
pub(super) trait Guest: Send {
    /// See [`Instance::turn`].
    fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault>;

    /// See [`Instance::snapshot`].
    fn snapshot(&mut self) -> Result<Vec<u8>, Fault>;

    /// See [`Instance::told`].
    fn told(&mut self, resume: &[u8]) -> Result<Told, Fault>;

    /// See [`Instance::explain`].
    fn explain(&mut self, channel: ChannelIndex) -> Result<String, Fault>;

    /// See [`Instance::take_dropped_events`].
    fn take_dropped_events(&mut self) -> u64;
}

impl Guests for Loaded {
    fn start(&self, config: &GuestConfig, resume: Option<&[u8]>, stop: &Stop) -> Result<Box<dyn Guest>, Fault> {
        Ok(Box::new(self.start_until(config, resume, stop)?))
    }
}

impl Guest for Instance {
    fn turn(&mut self, input: &TurnInput) -> Result<TurnOutput, Fault> {
        Instance::turn(self, input)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        Instance::snapshot(self)
    }

    fn told(&mut self, resume: &[u8]) -> Result<Told, Fault> {
        Instance::told(self, resume)
    }

    fn explain(&mut self, channel: ChannelIndex) -> Result<String, Fault> {
        Instance::explain(self, channel)
    }

    fn take_dropped_events(&mut self) -> u64 {
        Instance::take_dropped_events(self)
    }
}
