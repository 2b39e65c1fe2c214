//! Other versions of the component, built by the test run, and what misbehaves.

use std::sync::Arc;

use tidegate::engine::{EngineError, Loaded};

use crate::harness::engine;

/// Another policy and a section of its own.
pub const NEXT: &[u8] = include_bytes!(env!("TIDEGATE_NEXT"));
/// The same logic behind the contract before.
pub const PREVIOUS: &[u8] = include_bytes!(env!("TIDEGATE_PREVIOUS"));
/// Misbehaves as its marker says: see [`bad`].
const BAD: &[u8] = include_bytes!(env!("TIDEGATE_BAD"));
/// Where the marker's words begin, and how many bytes they have.
const MARKER: (&[u8], usize) = (b"tidegate-bad: ", 18);

/// A component that misbehaves in one way; `tests/guests/bad` lists them. Each has a digest of its own.
pub fn bad(how: &str) -> Vec<u8> {
    let (prefix, words) = MARKER;
    let unset = [prefix, ".".repeat(words).as_bytes()].concat();
    let at = BAD.windows(unset.len()).position(|bytes| bytes == unset).expect("the marker is in the file") + prefix.len();
    let mut patched = BAD.to_vec();
    patched[at..at + how.len()].copy_from_slice(how.as_bytes());
    patched
}

/// A component that asks for files, which no flusher gets.
pub fn wants_files() -> Vec<u8> {
    wat::parse_str(r#"(component (import "wasi:filesystem/preopens@0.2.0" (instance (export "get-directories" (func)))))"#)
        .expect("a component in text")
}

/// A component that exports nothing.
pub fn exports_too_little() -> Vec<u8> {
    wat::parse_str("(component)").expect("a component in text")
}

/// Loads a component as a node does; what was compiled before is taken from beside the tests.
///
/// # Errors
/// Why it cannot be used.
pub fn load(bytes: &[u8]) -> Result<Arc<Loaded>, EngineError> {
    let artifacts = std::env::current_exe().expect("a test has a file").with_file_name("components");
    engine().load(bytes, Some(&artifacts))
}
