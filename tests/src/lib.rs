//! What the tests share: collections, rows, nodes in temporary folders.

pub mod every_type;
pub mod guests;
pub mod harness;
pub mod milvus;
pub mod process;
pub mod rows;
