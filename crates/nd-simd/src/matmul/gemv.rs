//! Matrix times vector, for a matrix whose rows are contiguous.
//!
//! The block kernel would use one lane of each register here. A dot product uses them all, at the price of a sum over
//! lanes at the end; four rows at a time share the loads of the vector and hide each other's latency.

use super::blocking::Problem;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// Rows that are computed together.
const ROWS: usize = 4;

/// Fewer multiplications than this are left to the block kernel: two vectors of f32 at 512 bits.
const SHORTEST: usize = 32;

impl<R: SimdReal> Problem<R> {
    /// Whether this is a product of contiguous rows and one contiguous column.
    #[inline(always)]
    pub(super) fn is_gemv(&self) -> bool {
        self.single_column && self.a_strides.1 == 1 && self.b_strides.0 == 1 && self.k >= SHORTEST
    }
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
    let mut even = [Lanes::<S, R>::zero(simd); N];
    let mut odd = [Lanes::<S, R>::zero(simd); N];
    let mut p = 0;
    // SAFETY (all blocks below): `p + lanes <= k`, and the mask covers what is left.
    while p + 2 * lanes <= k {
        // SAFETY: see above.
        unsafe {
            let x0 = Lanes::load_ptr(simd, x.add(p));
            let x1 = Lanes::load_ptr(simd, x.add(p + lanes));
            for i in 0..N {
                let row = a.add(i * row_stride + p);
                even[i] = Lanes::load_ptr(simd, row).mul_add(x0, even[i]);
                odd[i] = Lanes::load_ptr(simd, row.add(lanes)).mul_add(x1, odd[i]);
            }
        }
        p += 2 * lanes;
    }
    while p < k {
        let mask = R::first_lanes(simd, (k - p).min(lanes));
        // SAFETY: see above.
        unsafe {
            let x0 = Lanes::from_raw(simd, R::load_masked(simd, mask, x.add(p)));
            for i in 0..N {
                let row = R::load_masked(simd, mask, a.add(i * row_stride + p));
                even[i] = Lanes::from_raw(simd, row).mul_add(x0, even[i]);
            }
        }
        p += lanes;
    }
    let mut sums = [R::ZERO; N];
    for i in 0..N {
        sums[i] = (even[i] + odd[i]).sum();
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
