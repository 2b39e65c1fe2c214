//! The `tidegate` program; see [`tidegate::cli`].

use std::process::ExitCode;

/// The system's allocator keeps an arena a thread, and what a node's threads hand to each other stays in all of them: its peak was twice
/// this one's (ME-1).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds for which mimalloc keeps freed memory: its option `purge_delay`, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // A batch is freed as a whole and the next one grows elsewhere: kept memory added half to the peak (ME-1).
    // SAFETY: the call stores a number in a table of mimalloc's that has more options than this.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) };
    // The first touch of a huge page has the kernel clear all of it: up to 5 ms, ten times the pause of a swap. Where the kernel does not
    // know of huge pages there are none.
    #[cfg(target_os = "linux")]
    let _without_huge_pages = rustix::thread::disable_transparent_huge_pages(true);
    tidegate::cli::main()
}
