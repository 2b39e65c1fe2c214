//! The component that the host embeds: [`tidegate_flusher::Flusher`] behind `tidegate:flusher/logic`.

#[cfg(target_family = "wasm")]
mod exports;
