//! What the tests share: collections, rows, nodes in temporary folders.

pub mod harness;
pub mod process;
pub mod rows;
