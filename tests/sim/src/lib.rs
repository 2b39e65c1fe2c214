//! A deterministic world around Tidegate's state machines: one thread, one seed, virtual time.
//!
//! ```text
//! seed → scenario (settings, operations, faults) → world → tally, or the first broken promise
//! ```
//!
//! Real are the guest's logic (natively, or as the built component), the host's core, the scanner and the coordinator's rules. Simulated are
//! the log, storage, the disk of the coordinator, the network and the clock. Segment files are lists of keys here: their form is tested
//! elsewhere.
//!
//! | file | idea |
//! |---|---|
//! | [`rng`], [`trace`] | chance; what happened |
//! | [`scenario`], [`generate`], [`recipes`] | what is to happen; from a seed |
//! | [`golden`], [`stories`], [`shrink`] | scenarios made by hand; a failing one made small |
//! | [`run`] | many seeds, on several threads |
//! | [`faults`], [`tally`] | faults by id; counts |
//! | [`log`], [`storage`] | the peers |
//! | [`native`] | the guest without its component |
//! | [`world`] | the queue of events, the coordinator as a service, the end |
//! | `reading` | how a process reads the log |
//! | `process` | a flusher's process |
//! | `versions` | versions of the component, and the swap log of a node |
//! | `swap`, `swap_judge` | hand-overs; what must hold of them |
//! | `workload` | what users and operators do |
//! | [`judge`] | which rows must exist, and what is forbidden at every step |
//! | `moments` | what meets |
//! | `under_way` | what a flusher may not do while calls are under way |
//! | `honest` | what an honest component is never refused, nor a channel given up for |

pub mod faults;
pub mod generate;
pub mod golden;
mod honest;
pub mod judge;
pub mod log;
mod moments;
pub mod native;
mod process;
mod reading;
pub mod recipes;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod storage;
pub mod stories;
mod swap;
mod swap_judge;
pub mod tally;
pub mod trace;
mod under_way;
mod versions;
mod workload;
pub mod world;

/// Worlds are made of small things: this takes a third less time than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
