//! A pool that recycles aligned buffers, so that a steady training step asks the system for no memory.
//!
//! In its simple form a pool is one free list per buffer size. The trick is that sizes are rounded up to eight classes
//! per power of two (at most an eighth is wasted), because some ops have shapes that depend on the data and would never hit
//! an exact size, and that a request whose own list is empty takes an idle buffer up to half as large again before it asks the system:
//! temporaries of a later part of a network live where those of an earlier one were. Taking and giving back are one short lock; tapes have a pool each, so the lock is not contended.
//! Known weakness: a pool keeps its peak until [`MemoryPool::trim`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::{Buffer, RawBuffer, byte_len};
use crate::element::Element;

/// The smallest buffer handed out, in bytes.
const MIN_BYTES: usize = 256;
/// Classes per power of two.
const STEPS: usize = 8;
/// How many classes above its own may serve a request: half as much again. Not twice as much, or values in sixteen bits would take the
/// place that the next ones in 32 need.
const REACH: usize = STEPS / 2;
/// Enough classes for every size that fits in memory, and those above the last of them.
const CLASSES: usize = (usize::BITS as usize) * STEPS + REACH;

/// What a pool has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Bytes in buffers that are in use.
    pub live_bytes: usize,
    /// The largest `live_bytes` since the pool was made or [`MemoryPool::reset_peak`].
    pub peak_bytes: usize,
    /// Bytes waiting to be used again.
    pub idle_bytes: usize,
    /// Requests served from the free lists.
    pub hits: u64,
    /// Requests that went to the system.
    pub misses: u64,
}

struct State {
    free: Vec<Vec<RawBuffer>>,
    stats: PoolStats,
}

/// A shared, thread-safe pool of aligned buffers; clones are handles to the same pool.
#[derive(Clone)]
pub struct MemoryPool {
    state: Arc<Mutex<State>>,
}

impl Default for MemoryPool {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryPool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        let free = (0..CLASSES).map(|_| Vec::new()).collect();
        Self {
            state: Arc::new(Mutex::new(State {
                free,
                stats: PoolStats::default(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` elements whose contents are whatever its last owner left.
    #[must_use]
    pub fn take<E: Element>(&self, len: usize) -> Buffer<E> {
        let (class, bytes) = size_class(byte_len::<E>(len));
        let recycled = {
            let mut state = self.state();
            let recycled = (class..=class + REACH).find_map(|class| state.free[class].pop());
            let bytes = recycled.as_ref().map_or(bytes, RawBuffer::bytes);
            match recycled {
                Some(_) => {
                    state.stats.hits += 1;
                    state.stats.idle_bytes -= bytes;
                }
                None => state.stats.misses += 1,
            }
            state.stats.live_bytes += bytes;
            state.stats.peak_bytes = state.stats.peak_bytes.max(state.stats.live_bytes);
            recycled
        };
        let raw = recycled.unwrap_or_else(|| RawBuffer::zeroed(bytes));
        Buffer::from_pool(raw, len, self.clone())
    }

    /// The bytes that a buffer of `len` elements takes from the system.
    #[must_use]
    pub fn bytes_for<E: Element>(len: usize) -> usize {
        size_class(byte_len::<E>(len)).1
    }

    /// A buffer of `len` zeros.
    #[must_use]
    pub fn take_zeroed<E: Element>(&self, len: usize) -> Buffer<E> {
        let mut buffer = self.take(len);
        buffer.fill(E::ZERO);
        buffer
    }

    /// A buffer that holds a copy of `values`.
    #[must_use]
    pub fn take_copy<E: Element>(&self, values: &[E]) -> Buffer<E> {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    pub(crate) fn give_back(&self, raw: RawBuffer) {
        let (class, bytes) = size_class(raw.bytes());
        let mut state = self.state();
        state.stats.live_bytes -= bytes;
        state.stats.idle_bytes += bytes;
        state.free[class].push(raw);
    }

    /// The statistics so far.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.state().stats
    }

    /// Starts a new measurement of the peak.
    pub fn reset_peak(&self) {
        let mut state = self.state();
        state.stats.peak_bytes = state.stats.live_bytes;
    }

    /// Gives every idle buffer back to the system.
    pub fn trim(&self) {
        let mut state = self.state();
        for list in &mut state.free {
            list.clear();
        }
        state.stats.idle_bytes = 0;
    }
}

impl std::fmt::Debug for MemoryPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryPool")
            .field("stats", &self.stats())
            .finish()
    }
}

/// The class of a request and the bytes that its buffers have; a fixed point for its own sizes.
fn size_class(bytes: usize) -> (usize, usize) {
    let wanted = bytes.max(MIN_BYTES);
    let octave = wanted.ilog2() as usize;
    let step = (1usize << octave) / STEPS;
    let steps = (wanted - (1 << octave)).div_ceil(step);
    (octave * STEPS + steps, (1 << octave) + steps * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_was_asked_and_are_fixed_points() {
        for bytes in (0..5000).chain([65_535, 65_536, 65_537, 1 << 30, (1 << 30) + 1]) {
            let (class, size) = size_class(bytes);
            assert!(size >= bytes);
            assert!(
                size <= (bytes + bytes / 8).max(MIN_BYTES),
                "{bytes} -> {size}"
            );
            assert_eq!(size_class(size), (class, size));
        }
    }

    #[test]
    fn an_idle_buffer_half_as_large_again_serves_too() {
        let pool = MemoryPool::new();
        let large = pool.take::<f32>(3 << 17);
        let address = large.as_ptr();
        drop(large);
        let small = pool.take::<f32>(1 << 18);
        assert_eq!(small.as_ptr(), address);
        let live = pool.stats().live_bytes;
        assert_eq!(live, 4 * (3 << 17), "what it takes, not what was asked for");
        drop(small);
        let smaller = pool.take::<f32>((1 << 18) - (1 << 14));
        assert_ne!(smaller.as_ptr(), address, "less than two thirds");
        let stats = pool.stats();
        assert_eq!((stats.hits, stats.misses), (1, 2));
        let again = pool.take::<f32>(3 << 17);
        assert_eq!(
            again.as_ptr(),
            address,
            "it went back to the list of its own size"
        );
    }

    #[test]
    fn memory_comes_back() {
        let pool = MemoryPool::new();
        let first = pool.take::<f32>(1000);
        let address = first.as_ptr();
        drop(first);
        let second = pool.take::<f32>(990);
        assert_eq!(
            second.as_ptr(),
            address,
            "the same memory serves the next request"
        );
        let stats = pool.stats();
        assert_eq!((stats.hits, stats.misses), (1, 1));
        assert_eq!(stats.live_bytes, stats.peak_bytes);
        assert_eq!(stats.idle_bytes, 0);
        drop(second);
        pool.trim();
        assert_eq!(pool.stats().idle_bytes, 0);
        assert_eq!(pool.stats().live_bytes, 0);
    }

    #[test]
    fn threads_share_one_pool() {
        let pool = MemoryPool::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 1..200 {
                        let mut buffer = pool.take::<f64>(n);
                        buffer.fill(n as f64);
                        assert!(buffer.iter().all(|&x| x == n as f64));
                    }
                });
            }
        });
        assert_eq!(pool.stats().live_bytes, 0);
    }
}
