//! Matrix times vector and vector times matrix, for a matrix whose rows are contiguous.
//!
//! Both are as fast as the matrix can be read, so both read it as it lies. For a column on the right the block kernel would use
//! one lane of each register; a dot product uses them all, at the price of a sum over lanes at the end. For one or two rows on
//! the left the block kernel would read narrow pieces of many rows; here a few whole rows at a time are added to a strip of sums in the
//! first cache level. (An element of C is the same sum of chains either way.)

use std::mem::MaybeUninit;

use super::blocking::Problem;
use super::kernel::{Output, PIECE, Store};
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

/// Rows of B that are read together: as many streams as the processor's prefetching follows with ease.
const STREAMS: usize = 8;

/// Columns whose sums stay in the first cache level meanwhile.
const STRIP: usize = 2048;

impl<R: SimdReal> Problem<R> {
    /// Whether this is a product of one or two rows and contiguous rows, long and many enough to be worth a pass over a strip of sums for
    /// every few rows.
    #[inline(always)]
    pub(super) fn is_few_rows(&self) -> bool {
        (1..=2).contains(&self.m)
            && self.b_strides.1 == 1
            && self.n >= SHORTEST
            && self.k >= STREAMS
    }
}

/// `sums[i] (+)= sum of a[i, p] b[p]` over `N` rows of B, for `M` rows of A; written when `FRESH`.
///
/// # Safety
/// The rows may be read at `cols` columns; each of the `M` strips, [`STRIP`] apart, has room for that many,
/// rounded up to whole vectors.
#[inline(always)]
unsafe fn add_rows<S: Isa, R: SimdReal, const M: usize, const N: usize, const FRESH: bool>(
    simd: S,
    (a, a_row_stride, a_stride): (*const R, usize, usize),
    (b, b_stride): (*const R, usize),
    sums: *mut R,
    cols: usize,
) {
    let lanes = Lanes::<S, R>::LEN;
    let mut factors = [[Lanes::<S, R>::zero(simd); N]; M];
    for i in 0..M {
        for p in 0..N {
            let a = a.wrapping_add(i * a_row_stride + p * a_stride);
            // SAFETY: `M x N` elements of A.
            factors[i][p] = Lanes::splat(simd, unsafe { *a });
        }
    }
    for j in (0..cols).step_by(lanes) {
        let whole = j + lanes <= cols;
        let mut sum = [Lanes::<S, R>::zero(simd); M];
        // SAFETY: the strips have whole vectors; of the last one of B, the mask keeps to the columns there are.
        unsafe {
            if !FRESH {
                for i in 0..M {
                    sum[i] = Lanes::load_ptr(simd, sums.add(i * STRIP + j));
                }
            }
            for p in 0..N {
                let x = b.wrapping_add(p * b_stride + j);
                let x = if whole {
                    Lanes::load_ptr(simd, x)
                } else {
                    Lanes::from_raw(
                        simd,
                        R::load_masked(simd, R::first_lanes(simd, cols - j), x),
                    )
                };
                for i in 0..M {
                    sum[i] = factors[i][p].mul_add(x, sum[i]);
                }
            }
            for i in 0..M {
                sum[i].store_ptr(sums.add(i * STRIP + j));
            }
        }
    }
}

/// Sums of up to two rows of [`STRIP`] columns of f64.
#[repr(C, align(64))]
struct Strips(MaybeUninit<[u64; 2 * STRIP]>);

/// Computes a product of `M` rows for which [`Problem::is_few_rows`] holds.
///
/// # Safety
/// As [`super::blocking::execute`].
#[inline(always)]
unsafe fn few_rows<S: Isa, R: SimdReal, const M: usize>(simd: S, problem: &Problem<R>) {
    let &Problem {
        n,
        k,
        alpha,
        beta,
        a_strides: (a_row_stride, a_stride),
        b_strides: (b_stride, _),
        c_row_stride,
        ..
    } = problem;
    let lanes = Lanes::<S, R>::LEN;
    let mut strips = Strips(MaybeUninit::uninit());
    let sums: *mut R = strips.0.as_mut_ptr().cast();
    for column in (0..n).step_by(STRIP) {
        let cols = STRIP.min(n - column);
        let mut store = Store::first(alpha, beta);
        for start in (0..k).step_by(PIECE) {
            let end = k.min(start + PIECE);
            let mut p = start;
            macro_rules! rows {
                ($count:expr, $fresh:expr) => {{
                    let a = problem.a.wrapping_add(p * a_stride);
                    let b = problem.b.wrapping_add(p * b_stride + column);
                    // SAFETY: rows `p..p + count` of B, and those columns of A.
                    unsafe {
                        add_rows::<S, R, M, { $count }, { $fresh }>(
                            simd,
                            (a, a_row_stride, a_stride),
                            (b, b_stride),
                            sums,
                            cols,
                        );
                    }
                    p += $count;
                }};
            }
            if end - p >= STREAMS {
                rows!(STREAMS, true);
            } else {
                rows!(1, true);
            }
            while p + STREAMS <= end {
                rows!(STREAMS, false);
            }
            while p < end {
                rows!(1, false);
            }
            let (bias, relu) = problem.finish.in_registers(end == k, column);
            for i in 0..M {
                for j in (0..cols).step_by(lanes) {
                    let output = Output {
                        c: problem.c.wrapping_add(i * c_row_stride + column + j),
                        c_row_stride,
                        store,
                        bias: if bias.is_null() {
                            bias
                        } else {
                            bias.wrapping_add(j)
                        },
                        relu,
                    };
                    // SAFETY: a vector of the strip; its columns of C and of the bias.
                    unsafe {
                        let sum = [[Lanes::load_ptr(simd, sums.add(i * STRIP + j))]];
                        if j + lanes <= cols {
                            output.finish::<S, 1, 1, false>(simd, lanes, sum);
                        } else {
                            output.finish::<S, 1, 1, true>(simd, cols - j, sum);
                        }
                    }
                }
            }
            store = store.next();
        }
    }
    // SAFETY: the rows of C.
    unsafe { problem.finish.rest(S::LEVEL, problem.c, M, n, c_row_stride) };
}

/// Computes a product for which [`Problem::is_few_rows`] holds.
///
/// # Safety
/// As [`super::blocking::execute`].
#[inline(always)]
pub(super) unsafe fn rows_times_matrix<S: Isa, R: SimdReal>(simd: S, problem: &Problem<R>) {
    // SAFETY: the caller's.
    unsafe {
        match problem.m {
            1 => few_rows::<S, R, 1>(simd, problem),
            _ => few_rows::<S, R, 2>(simd, problem),
        }
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
    let mut total = [Lanes::<S, R>::zero(simd); N];
    for start in (0..k).step_by(PIECE * lanes) {
        let end = k.min(start + PIECE * lanes);
        let mut partial = [Lanes::<S, R>::zero(simd); N];
        let mut p = start;
        while p + lanes <= end {
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
        if p < end {
            let mask = R::first_lanes(simd, end - p);
            // SAFETY: the mask covers what is left.
            unsafe {
                let x = Lanes::from_raw(simd, R::load_masked(simd, mask, x.add(p)));
                for i in 0..N {
                    let row = R::load_masked(simd, mask, a.add(i * row_stride + p));
                    partial[i] = Lanes::from_raw(simd, row).mul_add(x, partial[i]);
                }
            }
        }
        for i in 0..N {
            total[i] += partial[i];
        }
    }
    let mut sums = [R::ZERO; N];
    for i in 0..N {
        sums[i] = total[i].sum();
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
