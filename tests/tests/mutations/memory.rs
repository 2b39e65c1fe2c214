//! Live bytes of the calling thread, and their peak. An allocation past the thread's limit ends the process with the line that repeats it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
    /// What to print when the limit is passed: the allocator itself must not allocate.
    static LINE: Cell<([u8; 256], usize)> = const { Cell::new(([0; 256], 0)) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts an allocation, or ends the process.
fn grow(bytes: usize) {
    let live = LIVE.get().saturating_add_unsigned(bytes);
    LIVE.set(live);
    if live > PEAK.get() {
        PEAK.set(live);
    }
    if live > LIMIT.get() {
        LIMIT.set(isize::MAX);
        let (line, length) = LINE.get();
        let mut message = [0; 320];
        let mut rest = message.as_mut_slice();
        let _fits = write!(rest, "an allocation of {bytes} bytes makes {live} live ones, over the limit; ")
            .and_then(|()| rest.write_all(&line[..length]));
        let left = rest.len();
        let _shown = std::io::stderr().write_all(&message[..320 - left]);
        std::process::abort();
    }
}

fn shrink(bytes: usize) {
    LIVE.set(LIVE.get().saturating_sub_unsigned(bytes));
}

// SAFETY: every call is the system allocator's with the same arguments; the counters are plain cells without destructors.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both blocks exist while the values are copied.
        grow(bytes);
        shrink(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Runs `call` and returns what it returns, and the most bytes that it had allocated at a time. Past `limit` the process ends with `line`.
pub fn measured<T>(limit: usize, line: &str, call: impl FnOnce() -> T) -> (T, usize) {
    let mut text = [0; 256];
    let length = line.len().min(text.len());
    text[..length].copy_from_slice(&line.as_bytes()[..length]);
    LINE.set((text, length));
    let before = LIVE.get();
    PEAK.set(before);
    LIMIT.set(before.saturating_add_unsigned(limit));
    let result = call();
    LIMIT.set(isize::MAX);
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

#[test]
fn the_peak_of_a_call_is_counted() {
    let (_, peak) = measured(1 << 20, "", || {
        drop(vec![0_u8; 100_000]);
        vec![0_u8; 1_000]
    });
    assert!((100_000..101_000).contains(&peak), "{peak}");
}
