//! The logic of a flusher: recovery, dispatch, policies, checkpoints. Pure and deterministic: it lives on time ticks and has no clock, no
//! randomness and no I/O; the host holds the rows.
//!
//! `guest/component` makes a WebAssembly component of it, which exports `tidegate:flusher/logic`; the variants in `tests/guests` make others.
//!
//! | file | idea |
//! |---|---|
//! | [`contract`] | the border in plain Rust |
//! | [`buffer`] | rows that wait for a sync |
//! | [`channel`] | one virtual channel |
//! | `flusher` | a turn: completions, a page, the ends of groups |
//! | `recovery` | from nothing to an open scan |
//! | `dispatch` | what each kind of message does |
//! | `policy` | when a batch ends |
//! | `checkpoint` | what may be reported, and when |
//! | `accounts` | what is held, for the host to compare |
//! | `explain` | why a checkpoint is where it is |
//! | `snapshot` | the state for a successor |
//! | `sections` | what a variant adds to the state |

mod accounts;
pub mod buffer;
pub mod channel;
mod checkpoint;
pub mod contract;
mod dispatch;
mod explain;
mod flusher;
#[cfg(not(feature = "switches"))]
mod mutants;
#[cfg(feature = "switches")]
pub mod mutants;
mod policy;
mod recovery;
mod rejoin;
mod sections;
mod snapshot;

pub use flusher::Flusher;
pub use policy::Policy;
pub use snapshot::SnapshotError;
