//! Working memory on the stack: a kernel needs it for microseconds, on whatever thread it runs.

use std::mem::MaybeUninit;

use nd_core::Real;

use crate::shape::SCRATCH_VECTORS;

/// A vector of the widest instruction set.
type Line = [u64; 8];

/// Memory for [`SCRATCH_VECTORS`] vectors, aligned to a cache line.
#[repr(align(64))]
pub(crate) struct Scratch {
    memory: [MaybeUninit<Line>; SCRATCH_VECTORS],
}

impl Scratch {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self {
            memory: [const { MaybeUninit::uninit() }; SCRATCH_VECTORS],
        }
    }

    /// The first `len` numbers, set to zero.
    ///
    /// # Panics
    /// They do not fit.
    #[inline(always)]
    pub(crate) fn zeroed<R: Real>(&mut self, len: usize) -> &mut [R] {
        assert!(
            len * size_of::<R>() <= size_of_val(&self.memory),
            "{len} numbers of scratch"
        );
        let start = self.memory.as_mut_ptr().cast::<R>();
        // SAFETY: `start` is aligned to 64 bytes, `len` numbers fit as just checked, all-zero bytes are the number zero of
        // every `Real`, and the slice borrows `self` mutably.
        unsafe {
            start.write_bytes(0, len);
            std::slice::from_raw_parts_mut(start, len)
        }
    }
}
