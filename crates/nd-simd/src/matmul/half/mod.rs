//! Products of sixteen-bit operands: A and B are f32, bf16 or f16, each as it comes; sums and C are f32.
//!
//! The simple version: round both operands to the format of the product, widen them to f32, multiply. That is also what happens
//! wherever the processor cannot do better. At [`SimdLevel::Avx512`], a bf16 product runs on tiles (AMX, `tdpbf16ps`) where the processor
//! has them, at sixteen times the arithmetic rate of f32, or else on the dot product of pairs (`vdpbf16ps`), at up to twice that rate.
//!
//! * `choice`: [`Bf16Engine`], which of these it is;
//! * `pack`: what a packed operand looks like, and [`PackedBf16`], a right operand that is packed once and used often;
//! * `amx`: tiles;
//! * `dot`: packing and micro-kernel of the pair dot product; `engine`, `blocking`, `scratch`: the loops around it;
//! * `widen`: operands as f32, for [`super::multiply_fused`];
//! * `task`: a product, and which of these computes it.
//!
//! Numbers: an operand that is f32 (or the other sixteen-bit format) is rounded to nearest, ties to even. Products of two bf16 are exact in
//! f32, sums are rounded in f32; with pairs and tiles, in the order of the processor, which also takes denormal operands for
//! zero and flushes denormal sums. Bits depend on the engine, but neither on blocking nor on threads.
//!
//! Known weakness: one or two rows of A use each packed value of B so seldom that packing costs more than the product;
//! pack such a B once.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod blocking;
mod choice;
#[cfg(target_arch = "x86_64")]
mod dot;
#[cfg(target_arch = "x86_64")]
mod engine;
mod pack;
#[cfg(target_arch = "x86_64")]
mod scratch;
mod task;
mod widen;

use nd_core::options::Precision;
use nd_core::{Element, bf16, f16};

pub use choice::{BF16_ENV, Bf16Engine, UnknownBf16Engine};
pub(crate) use pack::pack_bf16_on;
pub use pack::{PackedBf16, pack_bf16, packed_bf16_len};

use super::Epilogue;
use super::view::{MatMut, MatRef};
use crate::dispatch::SimdLevel;
use task::{Right, Task};

/// The error of a product of rounded operands, in unit roundoffs of f32 of `|A| |B|`, is at most this for k up to 20,000 and
/// grows no faster than k beyond.
///
/// The rounding of the operands comes before: each contributes up to 2^-9 of itself in bf16 and 2^-12 in f16.
pub const HALF_PRODUCT_ERROR: f64 = 16.0;

/// An operand of these products: f32, bf16 or f16.
pub trait Operand: Element + sealed::Sealed {
    /// The same number as f32; exact.
    fn widen(self) -> f32;
}

mod sealed {
    use super::{MatRef, Precision, SimdLevel};

    /// What only this module needs to know of an operand.
    pub trait Sealed: Sized {
        /// The format: what is of the product's format needs no rounding.
        const FORMAT: Precision;
        /// Each number as f32; exact.
        fn widen_slice(level: SimdLevel, from: &[Self], to: &mut [f32]);
        /// The matrix itself, if it is f32.
        fn as_f32(x: MatRef<'_, Self>) -> Option<MatRef<'_, f32>>;
    }
}

impl sealed::Sealed for f32 {
    const FORMAT: Precision = Precision::F32;
    fn widen_slice(_: SimdLevel, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn as_f32(x: MatRef<'_, f32>) -> Option<MatRef<'_, f32>> {
        Some(x)
    }
}

impl sealed::Sealed for bf16 {
    const FORMAT: Precision = Precision::Bf16;
    fn widen_slice(level: SimdLevel, from: &[bf16], to: &mut [f32]) {
        crate::convert::bf16_to_f32(level, from, to);
    }
    fn as_f32(_: MatRef<'_, bf16>) -> Option<MatRef<'_, f32>> {
        None
    }
}

impl sealed::Sealed for f16 {
    const FORMAT: Precision = Precision::F16;
    fn widen_slice(level: SimdLevel, from: &[f16], to: &mut [f32]) {
        crate::convert::f16_to_f32(level, from, to);
    }
    fn as_f32(_: MatRef<'_, f16>) -> Option<MatRef<'_, f32>> {
        None
    }
}

impl Operand for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Operand for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Operand for f16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        crate::convert::widen_f16(self.to_bits())
    }
}

/// `C = alpha A B + beta C` with operands of any width, rounded to the format of `precision` first.
///
/// Shapes, strides, `beta = 0` and epilogue: as [`super::multiply_fused`]. With [`Precision::F32`] nothing is rounded.
///
/// ```
/// use nd_core::bf16;
/// use nd_core::options::Precision;
/// use nd_simd::SimdLevel;
/// use nd_simd::matmul::{Epilogue, MatMut, MatRef, multiply_half};
///
/// let weights = [1.0, 2.0, 3.0, 4.0].map(bf16::from_f32);
/// let x = [1.0f32, 1.0, 0.5, 0.0];
/// let mut y = [0.0f32; 4];
/// multiply_half(
///     SimdLevel::current(),
///     Precision::Bf16,
///     1.0,
///     MatRef::row_major(&x, 2, 2),
///     MatRef::row_major(&weights, 2, 2),
///     0.0,
///     MatMut::row_major(&mut y, 2, 2),
///     Epilogue::default(),
/// );
/// assert_eq!(y, [4.0, 6.0, 0.5, 1.0]);
/// ```
///
/// # Panics
/// As [`super::multiply_fused`]; or no stride of C is one.
#[track_caller]
pub fn multiply_half<A: Operand, B: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
) {
    run(level, precision, alpha, a, b, beta, c, epilogue, false);
}

/// [`multiply_half`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`multiply_half`].
#[track_caller]
pub fn multiply_half_parallel<A: Operand, B: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
) {
    run(level, precision, alpha, a, b, beta, c, epilogue, true);
}

/// `C = alpha A B + beta C` in bf16 with a B that was packed before.
///
/// # Panics
/// The shapes do not fit, the columns of C are not neighbours, the bias has another length, or the machine lacks the
/// level.
#[track_caller]
pub fn multiply_packed<A: Operand>(
    level: SimdLevel,
    alpha: f32,
    a: MatRef<'_, A>,
    b: PackedBf16<'_>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
) {
    run_packed(level, alpha, a, b, beta, c, epilogue, false);
}

/// [`multiply_packed`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`multiply_packed`].
#[track_caller]
pub fn multiply_packed_parallel<A: Operand>(
    level: SimdLevel,
    alpha: f32,
    a: MatRef<'_, A>,
    b: PackedBf16<'_>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
) {
    run_packed(level, alpha, a, b, beta, c, epilogue, true);
}

/// `C = A B + beta C` with a B whose numbers are those of the format already; A is rounded.
///
/// # Panics
/// As [`multiply_packed`].
#[track_caller]
pub(crate) fn multiply_wide<A: Operand>(
    level: SimdLevel,
    precision: Precision,
    parallel: bool,
    a: MatRef<'_, A>,
    b: MatRef<'_, f32>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
) {
    let (right, shape) = (Right::<f32>::Wide(b), [b.rows(), b.cols()]);
    run_prepared(
        level, precision, 1.0, a, right, shape, beta, c, epilogue, parallel,
    );
}

#[track_caller]
fn run<A: Operand, B: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    mut c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
    parallel: bool,
) {
    assert!(
        b.rows() == a.cols() && c.rows() == a.rows() && c.cols() == b.cols(),
        "C [{}, {}] = A [{}, {}] B [{}, {}]: the shapes do not fit",
        c.rows(),
        c.cols(),
        a.rows(),
        a.cols(),
        b.rows(),
        b.cols(),
    );
    check_epilogue(&c, epilogue);
    if c.col_stride() == 1 || c.cols() <= 1 {
        let task = Task::new(
            level,
            precision,
            alpha,
            a,
            Right::Plain(b),
            beta,
            &mut c,
            epilogue,
        );
        task.run(parallel);
    } else {
        let (a, b, mut c) = (b.t(), a.t(), c.t());
        assert!(
            c.col_stride() == 1 || c.cols() <= 1,
            "rows or columns of C must have neighbouring elements, found the strides ({}, {})",
            c.col_stride(),
            c.row_stride()
        );
        let task = Task::new(
            level,
            precision,
            alpha,
            a,
            Right::Plain(b),
            beta,
            &mut c,
            epilogue,
        );
        task.run(parallel);
    }
}

#[track_caller]
fn run_packed<A: Operand>(
    level: SimdLevel,
    alpha: f32,
    a: MatRef<'_, A>,
    b: PackedBf16<'_>,
    beta: f32,
    c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
    parallel: bool,
) {
    let (right, shape) = (Right::<bf16>::Packed(b), [b.rows(), b.cols()]);
    let precision = Precision::Bf16;
    run_prepared(
        level, precision, alpha, a, right, shape, beta, c, epilogue, parallel,
    );
}

/// A product with a right operand of some shape that is there in its final form.
#[track_caller]
fn run_prepared<A: Operand, B: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    right: Right<'_, B>,
    [rows, cols]: [usize; 2],
    beta: f32,
    mut c: MatMut<'_, f32>,
    epilogue: Epilogue<'_, f32>,
    parallel: bool,
) {
    assert!(
        rows == a.cols() && c.rows() == a.rows() && c.cols() == cols,
        "C [{}, {}] = A [{}, {}] packed B [{rows}, {cols}]: the shapes do not fit",
        c.rows(),
        c.cols(),
        a.rows(),
        a.cols(),
    );
    check_epilogue(&c, epilogue);
    assert!(
        c.col_stride() == 1 || c.cols() <= 1,
        "a product with a packed operand needs neighbouring columns, found the strides ({}, {}) of C",
        c.row_stride(),
        c.col_stride()
    );
    let task = Task::new(level, precision, alpha, a, right, beta, &mut c, epilogue);
    task.run(parallel);
}

#[track_caller]
fn check_epilogue(c: &MatMut<'_, f32>, epilogue: Epilogue<'_, f32>) {
    if let Some(bias) = epilogue.bias {
        assert_eq!(
            bias.len(),
            c.cols(),
            "the bias of a product with {} columns",
            c.cols()
        );
    }
    assert!(
        epilogue.is_plain() || c.col_stride() == 1 || c.cols() <= 1,
        "an epilogue needs neighbouring columns, found the strides ({}, {}) of C [{}, {}]",
        c.row_stride(),
        c.col_stride(),
        c.rows(),
        c.cols()
    );
}
