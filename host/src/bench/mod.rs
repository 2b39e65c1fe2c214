//! What Tidegate costs, measured on this machine and printed again by anyone: each figure is a median of rounds, with its least and its
//! greatest, and stands next to a figure of the same run that it can be compared with. Ratios travel between machines, times do not.
//!
//! | file | what |
//! |---|---|
//! | [`dispatch`] | the component: a message, a time tick, a turn, a report, a snapshot |
//! | [`flush`] | a node: from rows in memory to flushed segments |
//! | [`idle`] | a node that has nothing to do |
//! | [`swap`] | the pause of a swap, part by part |
//! | [`figures`] | medians, and what the process used |
//! | [`rows`] | the rows that are ingested |

pub mod dispatch;
pub mod figures;
pub mod flush;
pub mod idle;
pub mod rows;
mod scratch;
pub mod swap;

/// How this binary was compiled: only figures of a release build are worth quoting.
pub const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
