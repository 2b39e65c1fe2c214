//! The versions of the contract that are served, side by side.
//!
//! Versions share what they have in common: the interface `types` is that of the newest, and what an import does is one function of
//! [`HostState`]. Per version there is only the glue below, and what a version has that others have not.

use tidegate_core::turn::{ChannelIndex, Filtered, Holding, Intent, Ticket, TurnReport};
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Result, Store};

use super::log::Level;
use super::{HostState, bindings, convert};
use crate::engine::GuestConfig;

/// A component's completions: the same in each version.
pub(crate) type Completion = bindings::v0_2::tidegate::flusher::types::Completion;

/// A component whose imports are linked, of any version.
pub(crate) trait Linked: Send + Sync {
    fn instantiate(&self, store: &mut Store<HostState>) -> Result<Box<dyn Logic>>;
}

/// The exports of an instance, of any version.
pub(crate) trait Logic: Send {
    fn start(&self, store: &mut Store<HostState>, config: &GuestConfig, resume: Option<&[u8]>) -> Result<Result<(), String>>;

    fn turn(&self, store: &mut Store<HostState>, completions: &[Completion], pressure: u64) -> Result<TurnReport>;

    fn snapshot(&self, store: &mut Store<HostState>) -> Result<Vec<u8>>;

    fn explain(&self, store: &mut Store<HostState>, channel: ChannelIndex) -> Result<String>;

    /// What it holds; `None` in versions without `accounts`, an error in words if the lists make no table.
    fn accounts(&self, _store: &mut Store<HostState>) -> Result<Option<Result<Vec<Holding>, String>>> {
        Ok(None)
    }
}

/// Links a component to a version's imports, and gives everything else that it imports a trap.
pub(crate) fn link_0_1(linker: Linker<HostState>, component: &Component) -> Result<Box<dyn Linked>> {
    v0_1::link(linker, component)
}

/// See [`link_0_1`].
pub(crate) fn link_0_2(linker: Linker<HostState>, component: &Component) -> Result<Box<dyn Linked>> {
    v0_2::link(linker, component)
}

/// The glue of one version. The block has what its exports have beyond those of 0.1.0.
macro_rules! serve {
    ($version:ident { $($beyond:tt)* }) => {
        mod $version {
            use super::*;
            use super::bindings::$version::exports::tidegate::flusher::logic;
            use super::bindings::$version::tidegate::flusher::{checkpoint, chunk_storage, coordinator, log, wal};
            use super::bindings::$version::{Flusher, FlusherPre};

            pub(super) fn link(mut linker: Linker<HostState>, component: &Component) -> Result<Box<dyn Linked>> {
                Flusher::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
                linker.define_unknown_imports_as_traps(component)?;
                Ok(Box::new(FlusherPre::new(linker.instantiate_pre(component)?)?))
            }

            impl Linked for FlusherPre<HostState> {
                fn instantiate(&self, store: &mut Store<HostState>) -> Result<Box<dyn Logic>> {
                    Ok(Box::new(FlusherPre::instantiate(self, store)?))
                }
            }

            impl Logic for Flusher {
                fn start(&self, store: &mut Store<HostState>, config: &GuestConfig, resume: Option<&[u8]>) -> Result<Result<(), String>> {
                    let config = logic::Config {
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
                    self.tidegate_flusher_logic().call_start(store, &config, resume)
                }

                fn turn(&self, store: &mut Store<HostState>, completions: &[Completion], pressure: u64) -> Result<TurnReport> {
                    Ok(convert::report!(logic, self.tidegate_flusher_logic().call_turn(store, completions, pressure)?))
                }

                fn snapshot(&self, store: &mut Store<HostState>) -> Result<Vec<u8>> {
                    self.tidegate_flusher_logic().call_snapshot(store)
                }

                fn explain(&self, store: &mut Store<HostState>, channel: ChannelIndex) -> Result<String> {
                    self.tidegate_flusher_logic().call_explain(store, channel)
                }

                $($beyond)*
            }

            impl wal::Host for HostState {
                fn open(&mut self, channels: Vec<ChannelIndex>) -> Result<Ticket> {
                    self.record(Intent::Open(channels))
                }

                fn next(&mut self, max: u32) -> Result<wal::Page> {
                    Ok(convert::page!(wal, self.next_page(max)?))
                }

                fn append_flush(&mut self, channel: ChannelIndex, partition: i64, segment: i64) -> Result<Ticket> {
                    self.record(Intent::AppendFlush { channel, partition, segment })
                }
            }

            impl coordinator::Host for HostState {
                fn vchannels(&mut self) -> Result<Ticket> {
                    self.record(Intent::VChannels)
                }

                fn recovery_info(&mut self, channel: ChannelIndex) -> Result<Ticket> {
                    self.record(Intent::RecoveryInfo(channel))
                }

                fn alloc_segment(&mut self, channel: ChannelIndex, at: u64) -> Result<Ticket> {
                    self.record(Intent::AllocSegment { channel, at })
                }

                fn report(&mut self, checkpoints: Vec<(ChannelIndex, u64)>) -> Result<Ticket> {
                    self.record(Intent::Report(checkpoints))
                }

                fn drop_channel(&mut self, channel: ChannelIndex, at: u64) -> Result<Ticket> {
                    self.record(Intent::DropChannel { channel, at })
                }
            }

            impl chunk_storage::Host for HostState {
                fn sync(&mut self, channel: ChannelIndex, segment: i64, up_to: u64, flush: bool) -> Result<Ticket> {
                    self.record(Intent::Sync { channel, segment, up_to, flush })
                }

                fn sync_deletes(&mut self, channel: ChannelIndex, partition: i64, up_to: u64) -> Result<Ticket> {
                    self.record(Intent::SyncDeletes { channel, partition, up_to })
                }

                fn drop_segment(&mut self, channel: ChannelIndex, segment: i64, at: u64) -> Result<Ticket> {
                    self.record(Intent::DropSegment { channel, segment, at })
                }

                fn filter(&mut self, messages: Vec<chunk_storage::Filtered>) -> Result<()> {
                    let messages: Vec<Filtered> = messages.into_iter().map(convert::filtered).collect();
                    self.record(Intent::Filter(messages)).map(drop)
                }

                fn detach(&mut self, channel: ChannelIndex, reason: String) -> Result<()> {
                    self.record(Intent::Detach { channel, reason }).map(drop)
                }
            }

            impl checkpoint::Host for HostState {
                fn save(&mut self, at: u64) -> Result<Ticket> {
                    self.record(Intent::SaveCheckpoint(at))
                }
            }

            impl log::Host for HostState {
                fn enabled(&mut self, level: log::Level) -> Result<bool> {
                    Ok(Level::from(level).is_enabled())
                }

                fn event(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> Result<()> {
                    self.log(level.into(), message, &fields);
                    Ok(())
                }
            }

            impl From<log::Level> for Level {
                fn from(level: log::Level) -> Self {
                    match level {
                        log::Level::Error => Self::Error,
                        log::Level::Warn => Self::Warn,
                        log::Level::Info => Self::Info,
                        log::Level::Debug => Self::Debug,
                        log::Level::Trace => Self::Trace,
                    }
                }
            }
        }
    };
}

serve!(v0_1 {});

serve!(v0_2 {
    fn accounts(&self, store: &mut Store<HostState>) -> Result<Option<Result<Vec<Holding>, String>>> {
        Ok(Some(convert::holdings(&self.tidegate_flusher_logic().call_accounts(store)?)))
    }
});
