//! Working memory of a task, given back when the task ends, so that the next one finds it.

use std::sync::LazyLock;

use nd_core::{Buffer, MemoryPool, Real};

/// A buffer with any contents.
pub(super) fn take<R: Real>(len: usize) -> Buffer<R> {
    static POOL: LazyLock<MemoryPool> = LazyLock::new(MemoryPool::new);
    POOL.take(len)
}
