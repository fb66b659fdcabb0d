//! An allocator that counts, over all threads but that of the test harness.
//!
//! A test binary of its own declares `#[global_allocator] static ALLOC: CountingAllocator = CountingAllocator;` and
//! brackets what it measures with [`measure`]. Other tests of the same binary would be counted too: keep it to one test.
//!
//! The harness starts a test on a thread of its own and then allocates to remember it, on a busy machine much later: what the main
//! thread asks for counts only where it is the one that measures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// When set, an allocation of at least this many bytes counts as large; see [`measure_large`].
static THRESHOLD: AtomicUsize = AtomicUsize::new(usize::MAX);
static LARGE: AtomicUsize = AtomicUsize::new(0);
/// [`here`] on the main thread: that of the first allocation, when there are no others.
static MAIN: AtomicUsize = AtomicUsize::new(0);
/// Whether what the main thread allocates counts.
static MAIN_COUNTS: AtomicBool = AtomicBool::new(false);

/// A number that names this thread among the living.
fn here() -> usize {
    thread_local! {
        // Without a lazy start and a destructor, so that an allocator may read it at any time: on systems with thread-locals of their
        // own, which all those are that tests run on.
        static PLACE: Cell<u8> = const { Cell::new(0) };
    }
    PLACE.with(|place| std::ptr::from_ref(place).addr())
}

/// Whether this is the main thread.
fn is_main() -> bool {
    let here = here();
    MAIN.compare_exchange(0, here, Relaxed, Relaxed)
        .map_or_else(|main| main == here, |_| true)
}

/// The system allocator with counters.
#[derive(Debug)]
pub struct CountingAllocator;

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    if is_main() && !MAIN_COUNTS.load(Relaxed) {
        return;
    }
    COUNT.fetch_add(1, Relaxed);
    if bytes >= THRESHOLD.load(Relaxed) {
        LARGE.fetch_add(1, Relaxed);
    }
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: every call goes to the system allocator unchanged; counting touches only atomics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise about the layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `memory` came from this allocator, that is from the system's, with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), Relaxed);
        grown(size);
        // SAFETY: as in `dealloc`; the new size is the caller's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// What was allocated during a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocations {
    /// Calls for memory, reallocations included.
    pub count: usize,
    /// Of these, calls for at least the threshold of [`measure_large`].
    pub large: usize,
    /// The highest number of live bytes above that at the start, when something was counted; with what the harness holds.
    pub peak_bytes: usize,
}

/// Runs `work` and counts what all threads but the harness's allocate meanwhile.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Allocations) {
    measure_large(usize::MAX, work)
}

/// As [`measure`], counting also the allocations of at least `threshold` bytes.
pub fn measure_large<T>(threshold: usize, work: impl FnOnce() -> T) -> (T, Allocations) {
    THRESHOLD.store(threshold, Relaxed);
    MAIN_COUNTS.store(is_main(), Relaxed);
    let (count, large, live) = (COUNT.load(Relaxed), LARGE.load(Relaxed), LIVE.load(Relaxed));
    PEAK.store(live, Relaxed);
    let out = work();
    let used = Allocations {
        count: COUNT.load(Relaxed) - count,
        large: LARGE.load(Relaxed) - large,
        peak_bytes: PEAK.load(Relaxed).saturating_sub(live),
    };
    THRESHOLD.store(usize::MAX, Relaxed);
    MAIN_COUNTS.store(false, Relaxed);
    (out, used)
}
