//! Tidegate's host: it embeds wasmtime, gives a flusher component the log, the coordinator and the storage, and does what the component
//! decides once it has checked it.
//!
//! | module | idea |
//! |---|---|
//! | [`node`] | a self-contained node: its directory, its pchannels, its write path |
//! | [`engine`], `border` | components and what crosses to them |
//! | [`selftest`] | what a component must pass before it is trusted with a log |
//! | [`wal`], [`coordinator`], [`storage`] | the peers: a trait and its implementations each |
//! | [`cli`], [`admin`], [`tables`] | the command line, the socket and HTTP, files of rows |
//! | [`trace`], [`replay`] | recorded turns in a file, and run again |
//! | [`mod@bench`] | what it costs, measured here |

pub mod admin;
pub mod bench;
mod border;
pub mod cli;
pub mod coordinator;
pub mod engine;
pub mod node;
mod pause;
pub mod replay;
pub mod selftest;
mod stop;
pub mod storage;
pub mod tables;
pub mod trace;
pub mod wal;
