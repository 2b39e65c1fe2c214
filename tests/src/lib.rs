//! What the tests share: collections, rows, nodes in temporary folders.

pub mod harness;
pub mod rows;
