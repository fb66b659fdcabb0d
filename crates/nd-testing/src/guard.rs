//! Memory between two pages that nobody may touch.
//!
//! A kernel that reads one element beyond its slice reads, in ordinary memory, something harmless; its test passes. Here
//! the element before the first or after the last one lies on a page without permission, so that the same read ends the
//! test process with SIGSEGV.

use std::ops::{Deref, DerefMut};
use std::ptr;

/// Which end of the values lies against a forbidden page. The other one is at most a page away from the other
/// forbidden page, and the rest of the memory between them is filled with ones (as bits: NaN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Nothing can be read before the first value.
    Start,
    /// Nothing can be read after the last value.
    End,
}

impl Edge {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Start, Self::End];
}

/// Numbers, of which any pattern of bits is one.
pub trait Plain: Copy {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for u32 {}
impl Plain for u16 {}
impl Plain for nd_core::bf16 {}
impl Plain for nd_core::f16 {}

/// Values against a forbidden page.
#[derive(Debug)]
pub struct Guarded<T: Plain> {
    mapping: *mut u8,
    mapped: usize,
    values: *mut T,
    len: usize,
}

impl<T: Plain> Guarded<T> {
    /// A copy of `values` with its `edge` against a forbidden page.
    ///
    /// # Panics
    /// The system gives no memory.
    #[must_use]
    #[track_caller]
    pub fn new(edge: Edge, values: &[T]) -> Self {
        // SAFETY: asking for a constant of the system has no preconditions.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .expect("the system knows its page size");
        let bytes = size_of_val(values);
        let inside = bytes.next_multiple_of(page).max(page);
        let mapped = inside + 2 * page;
        // SAFETY: a fresh private mapping of memory that belongs to nobody else.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        assert!(
            mapping != libc::MAP_FAILED,
            "{mapped} bytes cannot be mapped"
        );
        let mapping = mapping.cast::<u8>();
        // SAFETY: the pages between the first and the last one of the mapping above, which nobody uses so far.
        let (open, start) = unsafe {
            let start = mapping.add(page);
            let access = libc::PROT_READ | libc::PROT_WRITE;
            (libc::mprotect(start.cast(), inside, access), start)
        };
        assert_eq!(open, 0, "{inside} bytes cannot be made accessible");
        let offset = match edge {
            Edge::Start => 0,
            Edge::End => inside - bytes,
        };
        // SAFETY: `inside` bytes from `start` on are accessible, `offset + bytes` is at most that, and the size of a
        // type is a multiple of its alignment, so that both ends of a page are aligned.
        let values_at = unsafe {
            start.write_bytes(0xff, inside);
            let at = start.add(offset).cast::<T>();
            ptr::copy_nonoverlapping(values.as_ptr(), at, values.len());
            at
        };
        Self {
            mapping,
            mapped,
            values: values_at,
            len: values.len(),
        }
    }
}

impl<T: Plain> Deref for Guarded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `new` wrote `len` values there, and the mapping lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.values, self.len) }
    }
}

impl<T: Plain> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.values, self.len) }
    }
}

impl<T: Plain> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which nothing can refer to any more.
        unsafe { libc::munmap(self.mapping.cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Set in the child process that is to die.
    const CHILD: &str = "ND_TESTING_READ_BEYOND";

    #[test]
    fn values_come_back() {
        for edge in Edge::BOTH {
            for len in [0, 1, 5, 1024, 5000] {
                let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let mut guarded = Guarded::new(edge, &values);
                assert_eq!(*guarded, values[..]);
                guarded.iter_mut().for_each(|x| *x += 1.0);
                assert!(guarded.iter().zip(&values).all(|(a, b)| *a == b + 1.0));
            }
        }
    }

    /// Reads one value beyond the edge that the environment names, if it names one.
    #[test]
    fn child_reads_beyond() {
        let Ok(edge) = std::env::var(CHILD) else {
            return;
        };
        let (edge, step) = if edge == "start" {
            (Edge::Start, -1)
        } else {
            (Edge::End, 3)
        };
        let guarded = Guarded::new(edge, &[1.0f32, 2.0, 3.0]);
        // SAFETY: none: this process is here to be killed by the read.
        let beyond = unsafe { guarded.as_ptr().offset(step).read_volatile() };
        panic!("{beyond} could be read beyond the {edge:?}");
    }

    #[test]
    fn a_read_beyond_either_end_kills_the_process() {
        for edge in ["start", "end"] {
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["guard::tests::child_reads_beyond", "--exact"])
                .env(CHILD, edge)
                .output()
                .unwrap()
                .status;
            assert_eq!(status.signal(), Some(libc::SIGSEGV), "{edge}: {status}");
        }
    }
}
