//! Traces: recorded turns of one component in a file, to be run again elsewhere. They have headers and completions, never a row.
//!
//! ```text
//! magic (8 bytes) · version (u32) · frame …
//! frame: kind (u8) · bytes of the body (u32) · CRC-32 of kind, bytes and body (u32) · body (postcard)
//!
//! | kind | body                                            | how many         |
//! | 1    | the header                                      | one, first       |
//! | 2    | the base snapshot, none for the state at start  | one, second      |
//! | 3    | a turn: what went in, what came out             | any              |
//! | 4    | the end: turns, bytes before it, why it ended   | one, last        |
//! ```
//!
//! Numbers are little-endian. While it is written a trace has `.partial` behind its name; it gets its name when it is whole and durable. A
//! trace that is cut or damaged is refused as a whole: a replay of half of one says nothing about the rest.

mod format;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io;

use serde::{Deserialize, Serialize};
use tidegate_core::journal::Turn;

pub use self::format::{BYTES_MAX, VERSION};
pub use self::write::{Finished, TraceWriter};

use crate::engine::GuestConfig;

/// What a trace is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The pchannel.
    pub pchannel: String,
    /// Its term.
    pub term: i64,
    /// What the component was started with.
    pub config: GuestConfig,
    /// SHA-256 of the component, in hexadecimal.
    pub component: String,
    /// Wall clock when the recording began, in milliseconds since 1970.
    pub started_ms: u64,
}

/// A whole trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What it is of.
    pub header: Header,
    /// The snapshot that the turns follow; `None` is the state at start.
    pub base: Option<Vec<u8>>,
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// Why the recording ended.
    pub end: String,
}

/// Why a trace cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is no trace, or not a whole one: record it again, or copy it again from where it is whole.
    #[error("byte {offset}: {problem}")]
    Damaged {
        /// Where the damage was met: the beginning of the frame that it is in.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// The recording has no room for its beginning.
    #[error("the state that the recording begins with takes {bytes} bytes, and {max} are allowed: allow more")]
    NoRoom {
        /// What the beginning takes.
        bytes: u64,
        /// What is allowed.
        max: u64,
    },
}
