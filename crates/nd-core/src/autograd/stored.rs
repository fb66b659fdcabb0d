//! Values kept for the backward pass, in full or in sixteen bits.

use std::ops::Deref;

use crate::buffer::Buffer;
use crate::element::{Real, bf16, f16};
use crate::options::Precision;
use crate::pool::MemoryPool;
use crate::threads;

/// Values that one thread converts or adds at a time.
pub(super) const PART: usize = 1 << 15;

/// Converts parts of `from`, on all threads of the current pool if `parallel`.
fn convert<A: Sync, B: Send>(
    parallel: bool,
    from: &[A],
    to: &mut [B],
    run: impl Fn(&[A], &mut [B]) + Sync,
) {
    threads::for_each_chunk(parallel, to, PART, |i, to| {
        run(&from[i * PART..][..to.len()], to);
    });
}

/// Values in the format they are kept in.
#[derive(Debug)]
pub enum Stored<R: Real> {
    /// In the tape's own type.
    Full(Buffer<R>),
    /// Rounded to bf16.
    Bf16(Buffer<bf16>),
    /// Rounded to f16.
    F16(Buffer<f16>),
}

impl<R: Real> Stored<R> {
    /// Keeps `values` in `precision`; the wide buffer goes back to its pool when it is narrowed.
    #[must_use]
    pub fn new(pool: &MemoryPool, values: Buffer<R>, precision: Precision) -> Self {
        Self::new_on(false, pool, values, precision)
    }

    /// [`Stored::new`], on all threads of the current pool if `parallel`.
    pub(super) fn new_on(
        parallel: bool,
        pool: &MemoryPool,
        values: Buffer<R>,
        precision: Precision,
    ) -> Self {
        match precision {
            Precision::F32 => Self::Full(values),
            Precision::Bf16 => {
                let mut narrow = pool.take(values.len());
                convert(parallel, &values, &mut narrow, R::narrow_bf16);
                Self::Bf16(narrow)
            }
            Precision::F16 => {
                let mut narrow = pool.take(values.len());
                convert(parallel, &values, &mut narrow, R::narrow_f16);
                Self::F16(narrow)
            }
        }
    }

    /// The values as they are kept, without a copy.
    #[must_use]
    pub fn view(&self) -> StoredRef<'_, R> {
        match self {
            Self::Full(values) => StoredRef::Full(values),
            Self::Bf16(values) => StoredRef::Bf16(values),
            Self::F16(values) => StoredRef::F16(values),
        }
    }

    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Full(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values in the tape's own type: lent when they are kept so, widened into memory of the pool otherwise.
    #[must_use]
    pub fn load(&self, pool: &MemoryPool) -> Value<'_, R> {
        self.load_on(false, pool)
    }

    /// [`Stored::load`], on all threads of the current pool if `parallel`.
    pub(super) fn load_on(&self, parallel: bool, pool: &MemoryPool) -> Value<'_, R> {
        match self {
            Self::Full(values) => Value::Lent(values),
            Self::Bf16(values) => {
                let mut wide = pool.take(values.len());
                convert(parallel, values, &mut wide, R::widen_bf16);
                Value::Widened(wide)
            }
            Self::F16(values) => {
                let mut wide = pool.take(values.len());
                convert(parallel, values, &mut wide, R::widen_f16);
                Value::Widened(wide)
            }
        }
    }
}

/// Values in the format they are kept in, lent: what an op reads that works on sixteen bits directly.
#[derive(Clone, Copy, Debug)]
pub enum StoredRef<'a, R: Real> {
    /// In the tape's own type.
    Full(&'a [R]),
    /// Rounded to bf16.
    Bf16(&'a [bf16]),
    /// Rounded to f16.
    F16(&'a [f16]),
}

impl<R: Real> StoredRef<'_, R> {
    /// The format: [`Precision::F32`] stands for the tape's own type.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self {
            Self::Full(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
            Self::F16(_) => Precision::F16,
        }
    }
}

/// Values in the tape's own type; dereferences to `[R]`.
#[derive(Debug)]
pub enum Value<'a, R: Real> {
    /// The very memory they are kept in.
    Lent(&'a [R]),
    /// A copy of values that are kept in sixteen bits.
    Widened(Buffer<R>),
}

impl<R: Real> Deref for Value<'_, R> {
    type Target = [R];

    #[inline]
    fn deref(&self) -> &[R] {
        match self {
            Self::Lent(values) => values,
            Self::Widened(values) => values,
        }
    }
}
