//! Arrays of sixteen-bit storage formats.

use nd_core::{bf16, f16};
use ndarray::{Array, ArrayRef, Dimension};

use super::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::layout::{level, map};

/// Elements that pass through f32 at a time.
const BLOCK: usize = 1024;

/// Rounds to odd: of the two f32 neighbours the one whose last bit is set, unless `x` is an f32.
///
/// Rounding the result to a format with at least two bits less gives what rounding `x` itself would (Boldo and Melquiond 2008),
/// where rounding twice to nearest would not.
#[inline(always)]
fn round_to_odd(x: f64) -> f32 {
    let nearest = x as f32;
    let wide = f64::from(nearest);
    if wide == x || nearest.is_nan() {
        return nearest;
    }
    let toward_zero = nearest.to_bits() - u32::from(wide.abs() > x.abs());
    f32::from_bits(toward_zero | 1)
}

/// Calls a conversion from f32 with blocks of any real numbers.
fn narrow<R: SimdReal, T>(x: &[R], y: &mut [T], convert: impl Fn(&[f32], &mut [T])) {
    let mut block = [0.0; BLOCK];
    for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
        let block = &mut block[..x.len()];
        for (block, x) in block.iter_mut().zip(x) {
            *block = round_to_odd(x.to_f64());
        }
        convert(block, y);
    }
}

/// Calls a conversion to f32 with blocks of any real numbers.
fn widen<R: SimdReal, T>(x: &[T], y: &mut [R], convert: impl Fn(&[T], &mut [f32])) {
    let mut block = [0.0; BLOCK];
    for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
        let block = &mut block[..x.len()];
        convert(x, block);
        for (y, &block) in y.iter_mut().zip(&*block) {
            *y = R::from_f32(block);
        }
    }
}

/// Rounds each element to the nearest bf16, ties to even.
///
/// ```
/// let x = ndarray::arr1(&[1.0f32, 3.14159]);
/// let narrow = nd_simd::convert::to_bf16(&x);
/// let wide: ndarray::Array1<f32> = nd_simd::convert::from_bf16(&narrow);
/// assert_eq!(wide, ndarray::arr1(&[1.0, 3.140625]));
/// ```
#[must_use]
pub fn to_bf16<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Array<bf16, D> {
    convert_to(x, f32_to_bf16)
}

/// Rounds each element to the nearest f16, ties to even; what is beyond 65519 becomes infinite.
#[must_use]
pub fn to_f16<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Array<f16, D> {
    convert_to(x, f32_to_f16)
}

fn convert_to<R: SimdReal, T: nd_core::Element, D: Dimension>(
    x: &ArrayRef<R, D>,
    convert: fn(SimdLevel, &[f32], &mut [T]),
) -> Array<T, D> {
    let level = level();
    map([x], |[x], y| narrow(x, y, |x, y| convert(level, x, y)))
}

/// Widens each element; exact.
#[must_use]
pub fn from_bf16<R: SimdReal, D: Dimension>(x: &ArrayRef<bf16, D>) -> Array<R, D> {
    let level = level();
    map([x], |[x], y| widen(x, y, |x, y| bf16_to_f32(level, x, y)))
}

/// Widens each element; exact.
#[must_use]
pub fn from_f16<R: SimdReal, D: Dimension>(x: &ArrayRef<f16, D>) -> Array<R, D> {
    let level = level();
    map([x], |[x], y| widen(x, y, |x, y| f16_to_f32(level, x, y)))
}
