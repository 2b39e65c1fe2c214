//! The `tidegate` program; see [`tidegate::cli`].

use std::process::ExitCode;

/// The system's allocator keeps an arena a thread, and what a node's threads hand to each other stays in all of them: its peak was twice
/// this one's (ME-1).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
