//! The norm and the finiteness of a gradient, in one pass.

use super::TASK;
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::{Lanes, SimdReal};
use crate::reduce::chain_block;

/// The most elements whose squares are added in the type of the gradient before they join the f64 sum; fewer where
/// vectors are short, so that no running sum takes more than [`CHAIN`](crate::reduce::CHAIN) of them.
const BLOCK: usize = 4096;

/// What one pass over a gradient found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientCheck {
    /// The sum of the squares; may be infinite for large finite gradients.
    pub norm_squared: f64,
    /// Whether every element is finite.
    pub is_finite: bool,
}

/// Bytes ahead of the reading that a line is asked for: the processor's own prefetching leaves a third of the bandwidth of two cores unused where
/// nothing is written.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// Asks for the line that will be read some time after `x`, into the second cache level; a hint without effect on results.
#[inline(always)]
fn fetch_ahead<T>(x: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let address = std::ptr::from_ref(x).wrapping_byte_add(AHEAD);
        // SAFETY: every x86-64 processor has SSE, and a prefetch accesses nothing, wherever the address points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x;
}

impl GradientCheck {
    const EMPTY: Self = Self {
        norm_squared: 0.0,
        is_finite: true,
    };

    fn and(self, other: Self) -> Self {
        Self {
            norm_squared: self.norm_squared + other.norm_squared,
            is_finite: self.is_finite && other.is_finite,
        }
    }

    /// The Euclidean norm.
    #[must_use]
    pub fn norm(self) -> f64 {
        self.norm_squared.sqrt()
    }
}

/// `x * 0` is zero for finite numbers and NaN otherwise; sums of it stay NaN once one is.
#[inline(always)]
fn add<S: Isa, R: SimdReal>(x: Lanes<S, R>, sums: &mut (Lanes<S, R>, Lanes<S, R>)) {
    sums.0 = x.mul_add(x, sums.0);
    sums.1 = x.mul_add(x.constant(R::ZERO), sums.1);
}

#[inline(always)]
fn finish<S: Isa, R: SimdReal>(sums: (Lanes<S, R>, Lanes<S, R>)) -> GradientCheck {
    GradientCheck {
        norm_squared: sums.0.sum().to_f64(),
        is_finite: !sums.1.sum().is_nan(),
    }
}

struct Read<'a, R>(&'a [R]);

impl<R: SimdReal> Kernel for Read<'_, R> {
    type Output = GradientCheck;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> GradientCheck {
        let zero = Lanes::<S, R>::zero(simd);
        let mut found = GradientCheck::EMPTY;
        for block in self.0.chunks(BLOCK.min(chain_block::<S, R>(2))) {
            // Two chains of additions, so that one's latency hides behind the other.
            let mut sums = [(zero, zero); 2];
            let (full, rest) = R::split::<S>(block);
            let (pairs, odd) = full.as_chunks::<2>();
            for pair in pairs {
                fetch_ahead(&pair[0]);
                fetch_ahead(&pair[1]);
                add(Lanes::from_raw(simd, pair[0]), &mut sums[0]);
                add(Lanes::from_raw(simd, pair[1]), &mut sums[1]);
            }
            for &x in odd {
                add(Lanes::from_raw(simd, x), &mut sums[0]);
            }
            if !rest.is_empty() {
                add(Lanes::load_partial(simd, rest), &mut sums[1]);
            }
            found = found.and(finish(sums[0]).and(finish(sums[1])));
        }
        found
    }
}

struct Unscale<'a, R> {
    values: &'a mut [R],
    factor: R,
}

impl<R: SimdReal> Kernel for Unscale<'_, R> {
    type Output = GradientCheck;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> GradientCheck {
        let zero = Lanes::<S, R>::zero(simd);
        let factor = Lanes::splat(simd, self.factor);
        let mut found = GradientCheck::EMPTY;
        for block in self.values.chunks_mut(BLOCK.min(chain_block::<S, R>(1))) {
            let mut sums = (zero, zero);
            let (full, rest) = R::split_mut::<S>(block);
            for x in full {
                let scaled = Lanes::from_raw(simd, *x) * factor;
                add(scaled, &mut sums);
                *x = scaled.raw();
            }
            if !rest.is_empty() {
                let scaled = Lanes::load_partial(simd, rest) * factor;
                add(scaled, &mut sums);
                scaled.store_partial(rest);
            }
            found = found.and(finish(sums));
        }
        found
    }
}

fn read<R: SimdReal>(level: SimdLevel, parallel: bool, grad: &[R]) -> GradientCheck {
    if grad.len() <= TASK {
        return dispatch(level, Read(grad));
    }
    let middle = grad.len().div_ceil(TASK) / 2 * TASK;
    let (left, right) = grad.split_at(middle);
    let (left, right) = if parallel {
        rayon::join(|| read(level, true, left), || read(level, true, right))
    } else {
        (read(level, false, left), read(level, false, right))
    };
    left.and(right)
}

fn unscale<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    factor: R,
    grad: &mut [R],
) -> GradientCheck {
    if grad.len() <= TASK {
        return dispatch(
            level,
            Unscale {
                values: grad,
                factor,
            },
        );
    }
    let middle = grad.len().div_ceil(TASK) / 2 * TASK;
    let (left, right) = grad.split_at_mut(middle);
    let (left, right) = if parallel {
        rayon::join(
            || unscale(level, true, factor, left),
            || unscale(level, true, factor, right),
        )
    } else {
        (
            unscale(level, false, factor, left),
            unscale(level, false, factor, right),
        )
    };
    left.and(right)
}

instantiate! {
    /// The squared norm of a gradient and whether all of it is finite, in one reading pass.
    ///
    /// Squares are added in lanes within blocks of at most 4096 elements and then in f64 in a fixed order; the error is that of
    /// [`crate::reduce::SUM_ERROR`].
    pub fn check_norm<R>(level: SimdLevel, parallel: bool, grad: &[R]) -> GradientCheck {}
    then { read(level, parallel, grad) }
}

instantiate! {
    /// Multiplies a gradient by `factor` in place; in the same pass its squared norm afterwards and whether all of it is
    /// finite.
    pub fn unscale_check_norm<R>(
        level: SimdLevel,
        parallel: bool,
        factor: R,
        grad: &mut [R],
    ) -> GradientCheck {}
    then { unscale(level, parallel, factor, grad) }
}
