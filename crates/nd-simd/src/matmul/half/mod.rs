//! Products of sixteen-bit matrices: A, B and C are f32, bf16 or f16, each as it comes; sums are f32.
//!
//! The simple version: round both operands to the format of the product, widen them to f32, multiply. That is also what happens
//! wherever the processor cannot do better. At [`SimdLevel::Avx512`], a bf16 product runs on tiles (AMX, `tdpbf16ps`) where the processor
//! has them, at sixteen times the arithmetic rate of f32, or else on the dot product of pairs (`vdpbf16ps`), at up to twice that rate.
//!
//! * `choice`: [`Bf16Engine`], which of these it is;
//! * `pack`: what a packed operand looks like, and [`PackedBf16`], a right operand that is packed once and used often;
//! * `amx`: tiles;
//! * `dot`: packing and micro-kernel of the pair dot product; `engine`, `blocking`, `scratch`: the loops around it;
//! * `rounded`: results that are rounded to sixteen bits on their way out;
//! * `widen`: operands as f32, for [`super::multiply_fused`];
//! * `task`: a product, and which of these computes it.
//!
//! Numbers: results that are sixteen bits wide are those of an f32 C, rounded once. An operand that is f32 (or the other sixteen-bit
//! format) is rounded to nearest, ties to even. Products of two bf16 are exact in
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
mod rounded;
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
use rounded::Rounded;
use task::{Right, Task};

/// The error of a product of rounded operands, in unit roundoffs of f32 of `|A| |B|`, is at most this for k up to 20,000 and
/// grows no faster than k beyond.
///
/// The rounding of the operands comes before: each contributes up to 2^-9 of itself in bf16 and 2^-12 in f16.
pub const HALF_PRODUCT_ERROR: f64 = 16.0;

/// A number of the matrices of these products: f32, bf16 or f16.
pub trait Operand: Element + sealed::Sealed {
    /// The same number as f32; exact.
    fn widen(self) -> f32;
}

mod sealed {
    use super::{MatMut, MatRef, Precision, SimdLevel};

    /// What only this module needs to know of an operand.
    pub trait Sealed: Sized {
        /// The format: what is of the product's format needs no rounding.
        const FORMAT: Precision;
        /// Each number as f32; exact.
        fn widen_slice(level: SimdLevel, from: &[Self], to: &mut [f32]);
        /// Each number rounded to nearest.
        fn narrow_slice(level: SimdLevel, from: &[f32], to: &mut [Self]);
        /// The matrix itself, if it is f32.
        fn as_f32(x: MatRef<'_, Self>) -> Option<MatRef<'_, f32>>;
        /// The matrix itself, by its width.
        fn by_width(x: MatMut<'_, Self>) -> ByWidth<'_, Self>;
    }

    /// A matrix to be written.
    pub enum ByWidth<'a, T> {
        /// Of f32.
        Wide(MatMut<'a, f32>),
        /// Of sixteen bits.
        Half(MatMut<'a, T>),
    }
}
use sealed::ByWidth;

impl sealed::Sealed for f32 {
    const FORMAT: Precision = Precision::F32;
    fn widen_slice(_: SimdLevel, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn narrow_slice(_: SimdLevel, from: &[f32], to: &mut [f32]) {
        to.copy_from_slice(from);
    }
    fn as_f32(x: MatRef<'_, f32>) -> Option<MatRef<'_, f32>> {
        Some(x)
    }
    fn by_width(x: MatMut<'_, f32>) -> ByWidth<'_, f32> {
        ByWidth::Wide(x)
    }
}

impl sealed::Sealed for bf16 {
    const FORMAT: Precision = Precision::Bf16;
    fn widen_slice(level: SimdLevel, from: &[bf16], to: &mut [f32]) {
        crate::convert::bf16_to_f32(level, from, to);
    }
    fn narrow_slice(level: SimdLevel, from: &[f32], to: &mut [bf16]) {
        crate::convert::f32_to_bf16(level, from, to);
    }
    fn as_f32(_: MatRef<'_, bf16>) -> Option<MatRef<'_, f32>> {
        None
    }
    fn by_width(x: MatMut<'_, bf16>) -> ByWidth<'_, bf16> {
        ByWidth::Half(x)
    }
}

impl sealed::Sealed for f16 {
    const FORMAT: Precision = Precision::F16;
    fn widen_slice(level: SimdLevel, from: &[f16], to: &mut [f32]) {
        crate::convert::f16_to_f32(level, from, to);
    }
    fn narrow_slice(level: SimdLevel, from: &[f32], to: &mut [f16]) {
        crate::convert::f32_to_f16(level, from, to);
    }
    fn as_f32(_: MatRef<'_, f16>) -> Option<MatRef<'_, f32>> {
        None
    }
    fn by_width(x: MatMut<'_, f16>) -> ByWidth<'_, f16> {
        ByWidth::Half(x)
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

/// `C = alpha A B + beta C` with matrices of any width; A and B are rounded to the format of `precision` first.
///
/// Shapes, strides, `beta = 0` and epilogue: as [`super::multiply_fused`]. With [`Precision::F32`] no operand is rounded. A C of sixteen bits
/// takes half the memory traffic: sums, `beta C`, bias and activation are f32 all the same, and the result is rounded once.
///
/// ```
/// use nd_core::bf16;
/// use nd_core::options::Precision;
/// use nd_simd::SimdLevel;
/// use nd_simd::matmul::{Epilogue, MatMut, MatRef, multiply_half};
///
/// let weights = [1.0, 2.0, 3.0, 4.0].map(bf16::from_f32);
/// let x = [1.0f32, 1.0, 0.5, 0.0];
/// let mut y = [bf16::ZERO; 4];
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
/// assert_eq!(y.map(bf16::to_f32), [4.0, 6.0, 0.5, 1.0]);
/// ```
///
/// # Panics
/// As [`super::multiply_fused`]; or no stride of C is one.
#[track_caller]
pub fn multiply_half<A: Operand, B: Operand, C: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    c: MatMut<'_, C>,
    epilogue: Epilogue<'_, f32>,
) {
    run(level, precision, alpha, a, b, beta, c, epilogue, false);
}

/// [`multiply_half`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`multiply_half`].
#[track_caller]
pub fn multiply_half_parallel<A: Operand, B: Operand, C: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    c: MatMut<'_, C>,
    epilogue: Epilogue<'_, f32>,
) {
    run(level, precision, alpha, a, b, beta, c, epilogue, true);
}

/// `C = alpha A B + beta C` in bf16 with a B that was packed before; C as for [`multiply_half`].
///
/// # Panics
/// The shapes do not fit, the columns of C are not neighbours, the bias has another length, or the machine lacks the
/// level.
#[track_caller]
pub fn multiply_packed<A: Operand, C: Operand>(
    level: SimdLevel,
    alpha: f32,
    a: MatRef<'_, A>,
    b: PackedBf16<'_>,
    beta: f32,
    c: MatMut<'_, C>,
    epilogue: Epilogue<'_, f32>,
) {
    multiply_prepared(level, false, alpha, a, b.into(), beta, c, None, epilogue);
}

/// [`multiply_packed`] on all threads of the current pool; the same bits.
///
/// # Panics
/// As [`multiply_packed`].
#[track_caller]
pub fn multiply_packed_parallel<A: Operand, C: Operand>(
    level: SimdLevel,
    alpha: f32,
    a: MatRef<'_, A>,
    b: PackedBf16<'_>,
    beta: f32,
    c: MatMut<'_, C>,
    epilogue: Epilogue<'_, f32>,
) {
    multiply_prepared(level, true, alpha, a, b.into(), beta, c, None, epilogue);
}

/// A right operand that is there in its final form.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prepared<'a> {
    /// Packed for the arithmetic of bf16.
    Packed(PackedBf16<'a>),
    /// Numbers of the format, widened; A is rounded to it.
    Wide(Precision, MatRef<'a, f32>),
}

impl<'a> From<PackedBf16<'a>> for Prepared<'a> {
    fn from(b: PackedBf16<'a>) -> Self {
        Self::Packed(b)
    }
}

impl Prepared<'_> {
    /// `C = A B + beta C`, bias and activation, on all threads of the current pool if `parallel`.
    #[track_caller]
    pub(crate) fn multiply<A: Operand, C: Operand>(
        self,
        level: SimdLevel,
        parallel: bool,
        a: MatRef<'_, A>,
        beta: f32,
        c: MatMut<'_, C>,
        epilogue: Epilogue<'_, f32>,
    ) {
        multiply_prepared(level, parallel, 1.0, a, self, beta, c, None, epilogue);
    }
}

/// `C = alpha A B + beta C`, on all threads of the current pool if `parallel`; if C is sixteen bits wide, also what its activation is applied
/// to, rounded, where somebody wants that.
///
/// # Panics
/// As [`multiply_packed`]; or the argument is wanted and has another shape, or C is f32.
#[track_caller]
pub(crate) fn multiply_prepared<A: Operand, C: Operand>(
    level: SimdLevel,
    parallel: bool,
    alpha: f32,
    a: MatRef<'_, A>,
    b: Prepared<'_>,
    beta: f32,
    c: MatMut<'_, C>,
    argument: Option<MatMut<'_, C>>,
    epilogue: Epilogue<'_, f32>,
) {
    let (precision, right, rows, cols) = match b {
        Prepared::Packed(b) => (Precision::Bf16, Right::Packed(b), b.rows(), b.cols()),
        Prepared::Wide(precision, b) => (precision, Right::Wide(b), b.rows(), b.cols()),
    };
    assert!(
        rows == a.cols() && c.rows() == a.rows() && c.cols() == cols,
        "C [{}, {}] = A [{}, {}] prepared B [{rows}, {cols}]: the shapes do not fit",
        c.rows(),
        c.cols(),
        a.rows(),
        a.cols(),
    );
    check_epilogue(&c, epilogue);
    assert!(
        c.col_stride() == 1 || c.cols() <= 1,
        "a product with a prepared operand needs neighbouring columns, found the strides ({}, {}) of C",
        c.row_stride(),
        c.col_stride()
    );
    if let Some(z) = &argument {
        assert!(
            (z.rows(), z.cols()) == (c.rows(), c.cols()) && (z.col_stride() == 1 || z.cols() <= 1),
            "the argument [{}, {}] of the results [{}, {}], strides ({}, {})",
            z.rows(),
            z.cols(),
            c.rows(),
            c.cols(),
            z.row_stride(),
            z.col_stride()
        );
    }
    let task = Task::<A, bf16>::new(level, precision, alpha, a, right, beta, epilogue);
    compute(task, c, argument, parallel);
}

/// Computes a checked product; the columns of C are neighbours.
#[track_caller]
fn compute<A: Operand, B: Operand, C: Operand>(
    task: Task<'_, A, B>,
    c: MatMut<'_, C>,
    argument: Option<MatMut<'_, C>>,
    parallel: bool,
) {
    match C::by_width(c) {
        ByWidth::Wide(mut c) => {
            assert!(argument.is_none(), "an argument of f32 results");
            task.run(&mut c, parallel);
        }
        ByWidth::Half(mut c) => {
            let mut argument = argument;
            let to = Rounded::new(&mut c, argument.as_mut());
            // SAFETY: both are borrowed here alone until it is done, and have the shape of C, as has been checked.
            unsafe { task.run_rounded(to, parallel) };
        }
    }
}

#[track_caller]
fn run<A: Operand, B: Operand, C: Operand>(
    level: SimdLevel,
    precision: Precision,
    alpha: f32,
    a: MatRef<'_, A>,
    b: MatRef<'_, B>,
    beta: f32,
    c: MatMut<'_, C>,
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
        let b = Right::Plain(b);
        let task = Task::new(level, precision, alpha, a, b, beta, epilogue);
        compute(task, c, None, parallel);
    } else {
        let (a, b, c) = (b.t(), Right::Plain(a.t()), c.t());
        assert!(
            c.col_stride() == 1 || c.cols() <= 1,
            "rows or columns of C must have neighbouring elements, found the strides ({}, {})",
            c.col_stride(),
            c.row_stride()
        );
        let task = Task::new(level, precision, alpha, a, b, beta, epilogue);
        compute(task, c, None, parallel);
    }
}

#[track_caller]
fn check_epilogue<C>(c: &MatMut<'_, C>, epilogue: Epilogue<'_, f32>) {
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
