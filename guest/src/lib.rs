//! The logic of a flusher: recovery, dispatch, policies, checkpoints. Pure and deterministic: it lives on time ticks and has no clock, no
//! randomness and no I/O; the host holds the rows.
//!
//! Built as a WebAssembly component it exports `tidegate:flusher/logic`; natively it is this library.
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
//! | `explain` | why a checkpoint is where it is |
//! | `snapshot` | the state for a successor |

pub mod buffer;
pub mod channel;
mod checkpoint;
pub mod contract;
mod dispatch;
mod explain;
mod flusher;
mod policy;
mod recovery;
mod rejoin;
mod snapshot;
#[cfg(target_family = "wasm")]
mod wasm;

pub use flusher::Flusher;
pub use snapshot::SnapshotError;
