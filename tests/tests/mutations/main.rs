//! Mutated input: what is read from a log or from storage may be damaged in any way and must never panic, hang, or take memory that
//! its size does not justify.
//!
//! ```text
//! corpus (fixtures of a real server, files and messages of our own) ─► mutation n ─► decoder ─► no panic · memory ≤ limit · time ≤ limit
//! ```
//!
//! Mutation `n` of a target is a function of the seed and of `n` alone. The run prints its seed first; a failure prints the one line that
//! repeats it, and so does a hang or a memory limit that is passed, before the process ends.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `TIDEGATE_MUTATIONS` | how many, over all targets | 200,000 |
//! | `TIDEGATE_SEED` | another sequence | a constant |
//! | `TIDEGATE_MUTATION` | this one alone | – |

mod bombs;
mod corpus;
mod engine;
mod memory;
mod targets;

use targets::{binlog_reader, message_codec, rows_decoder, statistics_reader};

#[test]
fn the_binlog_reader_takes_any_bytes() {
    engine::run(&binlog_reader());
}

#[test]
fn the_statistics_reader_takes_any_bytes() {
    engine::run(&statistics_reader());
}

#[test]
fn the_decoder_of_rows_takes_any_bytes() {
    engine::run(&rows_decoder());
}

#[test]
fn the_message_codec_takes_any_record() {
    engine::run(&message_codec());
}
