//! Aligned memory that goes back to its pool.
//!
//! A [`Buffer`] is a fixed number of elements at a 64-byte boundary (a cache line, and the widest vector). Fresh memory
//! is zeroed, recycled memory keeps what its last owner wrote: so every byte is always initialised, and a kernel that
//! reads before it writes gets old numbers, never undefined behaviour.
//! Known weakness: fresh memory is touched once more than it need be; the pool makes that a cost of warm-up only.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::element::Element;
use crate::pool::MemoryPool;

/// The alignment of every buffer, in bytes.
pub const ALIGNMENT: usize = 64;

/// Untyped aligned memory; every byte initialised.
pub(crate) struct RawBuffer {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory is owned by this value alone and is plain bytes.
unsafe impl Send for RawBuffer {}
// SAFETY: shared references give no access to the memory.
unsafe impl Sync for RawBuffer {}

impl RawBuffer {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGNMENT).expect("a buffer's size fits in isize")
    }

    pub(crate) fn zeroed(bytes: usize) -> Self {
        if bytes == 0 {
            // A dangling pointer still has to be aligned for the widest element and for SIMD loads of length zero.
            return Self {
                start: NonNull::<Line>::dangling().cast(),
                bytes,
            };
        }
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, bytes }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// One aligned line; only its alignment is used.
#[repr(align(64))]
struct Line;

impl Drop for RawBuffer {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: allocated in `zeroed` with this very layout and freed once.
            unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
        }
    }
}

/// A fixed number of elements at a 64-byte boundary; returns to its pool when dropped.
pub struct Buffer<E: Element> {
    raw: Option<RawBuffer>,
    len: usize,
    home: Option<MemoryPool>,
    element: PhantomData<E>,
}

impl<E: Element> Buffer<E> {
    /// Zeroed memory that belongs to no pool.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let raw = RawBuffer::zeroed(byte_len::<E>(len));
        Self {
            raw: Some(raw),
            len,
            home: None,
            element: PhantomData,
        }
    }

    /// A copy of a slice that belongs to no pool.
    #[must_use]
    pub fn from_slice(values: &[E]) -> Self {
        let mut out = Self::zeroed(values.len());
        out.copy_from_slice(values);
        out
    }

    pub(crate) fn from_pool(raw: RawBuffer, len: usize, home: MemoryPool) -> Self {
        debug_assert!(raw.bytes() >= byte_len::<E>(len));
        Self {
            raw: Some(raw),
            len,
            home: Some(home),
            element: PhantomData,
        }
    }

    fn start(&self) -> *mut E {
        // `raw` is taken only by `drop`.
        self.raw
            .as_ref()
            .map_or(NonNull::dangling(), |raw| raw.start.cast::<E>())
            .as_ptr()
    }
}

/// Bytes of `len` elements.
///
/// # Panics
/// When that number cannot be counted.
pub(crate) fn byte_len<E: Element>(len: usize) -> usize {
    len.checked_mul(size_of::<E>())
        .expect("a buffer's size in bytes fits in usize")
}

impl<E: Element> Deref for Buffer<E> {
    type Target = [E];

    #[inline]
    fn deref(&self) -> &[E] {
        // SAFETY: at least `len` elements, initialised (zeroed or written by a former owner; elements are plain data,
        // any bytes are a value), aligned to 64, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<E: Element> DerefMut for Buffer<E> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl<E: Element> Clone for Buffer<E> {
    /// A copy from the same pool.
    fn clone(&self) -> Self {
        let mut out = match &self.home {
            Some(pool) => pool.take(self.len),
            None => Self::zeroed(self.len),
        };
        out.copy_from_slice(self);
        out
    }
}

impl<E: Element> Drop for Buffer<E> {
    fn drop(&mut self) {
        if let (Some(raw), Some(home)) = (self.raw.take(), self.home.take()) {
            home.give_back(raw);
        }
    }
}

impl<E: Element> std::fmt::Debug for Buffer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::bf16;

    #[test]
    fn buffers_are_aligned_and_zero() {
        for len in [0, 1, 3, 64, 1000] {
            let buffer = Buffer::<f32>::zeroed(len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&x| x == 0.0));
        }
        assert_eq!(Buffer::<bf16>::zeroed(5).as_ptr() as usize % ALIGNMENT, 0);
    }

    #[test]
    fn a_clone_is_another_memory() {
        let mut a = Buffer::from_slice(&[1.0f64, 2.0]);
        let b = a.clone();
        a[0] = 5.0;
        assert_eq!(&*b, &[1.0, 2.0]);
    }

    #[test]
    #[should_panic(expected = "fits in usize")]
    fn an_impossible_length_is_refused() {
        let _ = Buffer::<f64>::zeroed(usize::MAX / 4);
    }
}
