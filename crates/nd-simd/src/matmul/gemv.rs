//! Matrix times vector and vector times matrix, for a matrix whose rows are contiguous.
//!
//! Both are as fast as the matrix can be read, so both read it as it lies. For a column on the right the block kernel would use
//! one lane of each register; a dot product uses them all, at the price of a sum over lanes at the end. For a row on the
//! left the block kernel would read narrow pieces of many rows; here a few whole rows at a time are added to C, which stays in the
//! first cache level. (An element of C is the same chain of sums either way.)

use super::blocking::Problem;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// Rows that are computed together.
const ROWS: usize = 8;

/// Fewer multiplications than this are left to the block kernel: two vectors of f32 at 512 bits.
const SHORTEST: usize = 32;

impl<R: SimdReal> Problem<R> {
    /// Whether this is a product of contiguous rows and one contiguous column.
    #[inline(always)]
    pub(super) fn is_gemv(&self) -> bool {
        self.single_column && self.a_strides.1 == 1 && self.b_strides.0 == 1 && self.k >= SHORTEST
    }
}

/// Rows of B that are added to C together: as many streams as the processor's prefetching follows with ease.
const STREAMS: usize = 8;

/// Columns of C that stay in the first cache level meanwhile.
const ROW_PIECE: usize = 4096;

impl<R: SimdReal> Problem<R> {
    /// Whether this is a product of one row and contiguous rows, long enough to be worth a pass over C for every few rows.
    #[inline(always)]
    pub(super) fn is_row_times_matrix(&self) -> bool {
        let chained = self.alpha == R::ONE && (self.beta == R::ZERO || self.beta == R::ONE);
        self.m == 1 && self.b_strides.1 == 1 && self.n >= SHORTEST && self.k > 0 && chained
    }
}

/// `c += sum of a[i] b[i]` over `N` rows of one piece of columns; from zero instead of `c` when `FRESH`.
///
/// # Safety
/// The rows may be read and the piece of C written.
#[inline(always)]
unsafe fn add_rows<S: Isa, R: SimdReal, const N: usize, const FRESH: bool>(
    simd: S,
    a: *const R,
    a_stride: usize,
    b: *const R,
    b_stride: usize,
    c: *mut R,
    cols: usize,
) {
    let lanes = Lanes::<S, R>::LEN;
    let mut factors = [Lanes::<S, R>::zero(simd); N];
    for i in 0..N {
        // SAFETY: `N` elements of A.
        factors[i] = Lanes::splat(simd, unsafe { *a.wrapping_add(i * a_stride) });
    }
    let mut j = 0;
    while j + lanes <= cols {
        // SAFETY: whole vectors inside the piece.
        unsafe {
            let mut sum = if FRESH {
                Lanes::zero(simd)
            } else {
                Lanes::load_ptr(simd, c.add(j))
            };
            for i in 0..N {
                let x = Lanes::load_ptr(simd, b.wrapping_add(i * b_stride + j));
                sum = factors[i].mul_add(x, sum);
            }
            sum.store_ptr(c.add(j));
        }
        j += lanes;
    }
    if j < cols {
        let mask = R::first_lanes(simd, cols - j);
        // SAFETY: the mask keeps to the columns that are left.
        unsafe {
            let mut sum = if FRESH {
                Lanes::zero(simd)
            } else {
                Lanes::from_raw(simd, R::load_masked(simd, mask, c.add(j)))
            };
            for i in 0..N {
                let x = R::load_masked(simd, mask, b.wrapping_add(i * b_stride + j));
                sum = factors[i].mul_add(Lanes::from_raw(simd, x), sum);
            }
            R::store_masked(simd, mask, c.add(j), sum.raw());
        }
    }
}

/// Computes a product for which [`Problem::is_row_times_matrix`] holds.
///
/// # Safety
/// As [`super::blocking::execute`].
#[inline(always)]
pub(super) unsafe fn row_times_matrix<S: Isa, R: SimdReal>(simd: S, problem: &Problem<R>) {
    let &Problem {
        n,
        k,
        a,
        a_strides: (_, a_stride),
        b,
        b_strides: (b_stride, _),
        c,
        ..
    } = problem;
    for start in (0..n).step_by(ROW_PIECE) {
        let cols = ROW_PIECE.min(n - start);
        let c = c.wrapping_add(start);
        let mut p = 0;
        let mut fresh = problem.beta == R::ZERO;
        macro_rules! rows {
            ($count:expr) => {{
                let a = a.wrapping_add(p * a_stride);
                let b = b.wrapping_add(p * b_stride + start);
                // SAFETY: rows `p..p + count` of B, and the same elements of A.
                unsafe {
                    if fresh {
                        add_rows::<S, R, { $count }, true>(simd, a, a_stride, b, b_stride, c, cols);
                    } else {
                        add_rows::<S, R, { $count }, false>(
                            simd, a, a_stride, b, b_stride, c, cols,
                        );
                    }
                }
                p += $count;
                fresh = false;
            }};
        }
        while p + STREAMS <= k {
            rows!(STREAMS);
        }
        while p < k {
            rows!(1);
        }
        let _ = fresh;
        for j in 0..cols {
            // SAFETY: inside C.
            unsafe { *c.add(j) = problem.finish.element(*c.add(j), start + j) };
        }
    }
    // SAFETY: the row of C.
    unsafe { problem.finish.rest(S::LEVEL, c, 1, n, 0) };
}

/// The dot products of `N` rows of `a` with `x`.
///
/// # Safety
/// The rows and `x` may be read.
#[inline(always)]
unsafe fn dots<S: Isa, R: SimdReal, const N: usize>(
    simd: S,
    k: usize,
    a: *const R,
    row_stride: usize,
    x: *const R,
) -> [R; N] {
    let lanes = Lanes::<S, R>::LEN;
    let mut partial = [Lanes::<S, R>::zero(simd); N];
    let mut p = 0;
    while p + lanes <= k {
        // SAFETY: `p + lanes <= k`.
        unsafe {
            let x = Lanes::load_ptr(simd, x.add(p));
            for i in 0..N {
                let row = a.add(i * row_stride + p);
                partial[i] = Lanes::load_ptr(simd, row).mul_add(x, partial[i]);
            }
        }
        p += lanes;
    }
    if p < k {
        let mask = R::first_lanes(simd, k - p);
        // SAFETY: the mask covers what is left.
        unsafe {
            let x0 = Lanes::from_raw(simd, R::load_masked(simd, mask, x.add(p)));
            for i in 0..N {
                let row = R::load_masked(simd, mask, a.add(i * row_stride + p));
                partial[i] = Lanes::from_raw(simd, row).mul_add(x0, partial[i]);
            }
        }
    }
    let mut sums = [R::ZERO; N];
    for i in 0..N {
        sums[i] = partial[i].sum();
    }
    sums
}

/// Computes a product for which [`Problem::is_gemv`] holds.
///
/// # Safety
/// As [`super::blocking::blocked`].
#[inline(always)]
pub(super) unsafe fn dot_rows<S: Isa, R: SimdReal>(simd: S, problem: &Problem<R>) {
    let &Problem {
        m,
        k,
        a,
        b,
        a_strides: (row_stride, _),
        ..
    } = problem;
    let finish = |i: usize, sum: R| {
        let mut value = problem.alpha * sum;
        // SAFETY: row `i` of C, and the one value of the bias.
        unsafe {
            let slot = problem.c.add(i * problem.c_row_stride);
            if problem.beta != R::ZERO {
                value = problem.beta.mul_add(*slot, value);
            }
            *slot = problem.finish.element(value, 0);
        }
    };
    let mut i = 0;
    while i + ROWS <= m {
        // SAFETY: rows `i..i + ROWS` of A.
        let sums: [R; ROWS] =
            unsafe { dots(simd, k, a.wrapping_add(i * row_stride), row_stride, b) };
        for (offset, sum) in sums.into_iter().enumerate() {
            finish(i + offset, sum);
        }
        i += ROWS;
    }
    if i + ROWS / 2 <= m {
        // SAFETY: rows `i..i + ROWS / 2` of A.
        let sums: [R; ROWS / 2] =
            unsafe { dots(simd, k, a.wrapping_add(i * row_stride), row_stride, b) };
        for (offset, sum) in sums.into_iter().enumerate() {
            finish(i + offset, sum);
        }
        i += ROWS / 2;
    }
    while i < m {
        // SAFETY: row `i` of A.
        let [sum] = unsafe { dots(simd, k, a.wrapping_add(i * row_stride), row_stride, b) };
        finish(i, sum);
        i += 1;
    }
    // SAFETY: the column of C.
    unsafe {
        problem
            .finish
            .rest(S::LEVEL, problem.c, m, 1, problem.c_row_stride)
    };
}
