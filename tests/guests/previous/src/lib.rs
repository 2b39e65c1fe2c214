//! The logic behind contract 0.1.0: what ran before the host offered a newer one.

#[cfg(target_family = "wasm")]
mod exports;
