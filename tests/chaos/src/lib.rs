//! What the chaos tests share: the node as a process that can be signalled, what was acknowledged, an object store that fails, a small disk.
//!
//! ```text
//! Written: what the test knows was acknowledged ◄── lines of `tidegate ingest`
//!     └── compared with ◄── `tidegate flush`, `tidegate scan`, row by row
//! ```

pub mod disk;
pub mod memory;
pub mod node;
pub mod random;
pub mod s3;
pub mod written;
