//! The micro-kernel: a `ROWS x VECS` block of vectors of C held in registers while k runs.
//!
//! ```text
//! for p in 0..k {
//!     b[j] = VECS vectors of row p of B            (unit stride, maybe masked at the right edge)
//!     for i in 0..ROWS { acc[i][j] += splat(A[i, p]) * b[j] }
//! }
//! ```
//!
//! A is read one element at a time, so its strides do not matter: `A^T B` needs no packing. Every element of C is one
//! chain of fused multiply-adds in the order of k, whatever the block it falls into; so the same bits come out for any
//! vector width, any block shape and any split of the rows and columns over threads.

use pulp::{Simd, WithSimd};

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// One block of C and the strips of A and B that make it.
///
/// Pointers, because the block of C is one of many disjoint blocks of one matrix.
#[derive(Clone, Copy)]
pub(super) struct Block<R> {
    pub(super) k: usize,
    pub(super) a: *const R,
    pub(super) a_row_stride: usize,
    pub(super) a_col_stride: usize,
    pub(super) b: *const R,
    pub(super) b_row_stride: usize,
    pub(super) c: *mut R,
    pub(super) c_row_stride: usize,
    pub(super) alpha: R,
    /// Zero means that C is not read.
    pub(super) beta: R,
    /// One value for each column, or null.
    pub(super) bias: *const R,
    pub(super) relu: bool,
}

/// The token travels in the struct, because pulp's trait hands out one that is not known to be an [`Isa`].
struct Micro<S, R, const ROWS: usize, const VECS: usize, const MASKED: bool> {
    simd: S,
    block: Block<R>,
    /// The width of the last vector when `MASKED`.
    last: usize,
}

impl<S: Isa, R: SimdReal, const ROWS: usize, const VECS: usize, const MASKED: bool> WithSimd
    for Micro<S, R, ROWS, VECS, MASKED>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self { simd, block, last } = self;
        let lanes = Lanes::<S, R>::LEN;
        let mask = R::first_lanes(simd, last);
        let mut a = block.a;
        let mut b = block.b;
        let mut acc = [[Lanes::<S, R>::zero(simd); VECS]; ROWS];

        macro_rules! load {
            ($pointer:expr, $j:expr) => {{
                let pointer = $pointer.wrapping_add($j * lanes);
                // SAFETY: `run` promises `VECS` vectors here, the last one `last` lanes wide when masked.
                unsafe {
                    if MASKED && $j + 1 == VECS {
                        Lanes::from_raw(simd, R::load_masked(simd, mask, pointer))
                    } else {
                        Lanes::load_ptr(simd, pointer)
                    }
                }
            }};
        }
        // Index loops over constant bounds: they unroll completely, so that `acc` lives in registers.
        macro_rules! step {
            ($a:expr, $b:expr) => {{
                let mut row = [Lanes::<S, R>::zero(simd); VECS];
                for j in 0..VECS {
                    row[j] = load!($b, j);
                }
                for i in 0..ROWS {
                    // SAFETY: `run` promises `ROWS` rows of A.
                    let x = Lanes::splat(simd, unsafe { *$a.wrapping_add(i * block.a_row_stride) });
                    for j in 0..VECS {
                        acc[i][j] = x.mul_add(row[j], acc[i][j]);
                    }
                }
            }};
        }
        for _ in 0..block.k / 2 {
            step!(a, b);
            step!(a.wrapping_add(block.a_col_stride), b.wrapping_add(block.b_row_stride));
            a = a.wrapping_add(2 * block.a_col_stride);
            b = b.wrapping_add(2 * block.b_row_stride);
        }
        if block.k % 2 == 1 {
            step!(a, b);
        }

        for i in 0..ROWS {
            let c = block.c.wrapping_add(i * block.c_row_stride);
            for j in 0..VECS {
                let mut value = acc[i][j] * block.alpha;
                if block.beta != R::ZERO {
                    value = Lanes::splat(simd, block.beta).mul_add(load!(c.cast_const(), j), value);
                }
                if !block.bias.is_null() {
                    value += load!(block.bias, j);
                }
                if block.relu {
                    // A comparison with NaN is false, so NaN stays.
                    let zero = Lanes::zero(simd);
                    value = value.less_than(zero).select(zero, value);
                }
                let target = c.wrapping_add(j * lanes);
                // SAFETY: `run` promises that the block may be written, the last vector `last` lanes wide.
                unsafe {
                    if MASKED && j + 1 == VECS {
                        R::store_masked(simd, mask, target, value.raw());
                    } else {
                        value.store_ptr(target);
                    }
                }
            }
        }
    }
}

/// How many vectors wide a block is: as many as leave room for at least six rows.
#[inline(always)]
pub(super) fn widest<S: Isa>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// The number of rows of the next block when `left` rows are left and a block is `vecs` vectors wide.
///
/// Blocks are made nearly equal, because a last block of one row would read all of B for little work.
#[inline(always)]
pub(super) fn block_rows<S: Isa>(vecs: usize, left: usize) -> usize {
    let most = match (S::REGISTER_COUNT >= 32, vecs) {
        (true, 4) | (false, 2) => 6,
        (true, 3) | (false, 1) => 8,
        _ => 12,
    };
    let rows = left.div_ceil(left.div_ceil(most));
    match rows {
        0..=6 => rows,
        7 | 8 if left >= 8 => 8,
        9..=12 if left >= 12 => 12,
        // Two blocks of at most six rows.
        _ => left.div_ceil(2),
    }
}

/// Computes one block of `rows` rows and `vecs` vectors, the last of them `last` lanes wide.
///
/// # Safety
/// The strips of A (`rows x k`) and B (`k x` that width) may be read, the block of C read and written, and the bias, if
/// any, read; nobody else touches the block meanwhile. `rows` comes from [`block_rows`] for these `vecs`.
#[inline(always)]
pub(super) unsafe fn run<S: Isa, R: SimdReal>(
    simd: S,
    rows: usize,
    vecs: usize,
    last: usize,
    block: Block<R>,
) {
    macro_rules! dispatch {
        ($vecs:literal: $($rows:literal)*) => {{
            if last == Lanes::<S, R>::LEN {
                match rows {
                    $($rows => simd.vectorize(Micro::<S, R, $rows, $vecs, false> { simd, block, last }),)*
                    _ => unreachable!("a block of {rows} rows and {vecs} vectors"),
                }
            } else {
                match rows {
                    $($rows => simd.vectorize(Micro::<S, R, $rows, $vecs, true> { simd, block, last }),)*
                    _ => unreachable!("a block of {rows} rows and {vecs} vectors"),
                }
            }
        }};
    }
    if S::REGISTER_COUNT >= 32 {
        match vecs {
            1 => dispatch!(1: 1 2 3 4 5 6 8 12),
            2 => dispatch!(2: 1 2 3 4 5 6 8 12),
            3 => dispatch!(3: 1 2 3 4 5 6 8),
            _ => dispatch!(4: 1 2 3 4 5 6),
        }
    } else {
        match vecs {
            1 => dispatch!(1: 1 2 3 4 5 6 8),
            _ => dispatch!(2: 1 2 3 4 5 6),
        }
    }
}
