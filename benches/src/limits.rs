//! What a core can do at best: fused multiply-adds and copies, probed between the measurements they are the limit of.
//!
//! In its simple form: chains of multiply-adds that touch no memory, and `copy_from_slice`. Clocks change with temperature and
//! neighbours, so a limit is only worth something when it was measured in the same rounds as what is held against it.

use std::hint::black_box;

use nd_core::SimdLevel;
use nd_simd::{Isa, Kernel, Lanes, dispatch};

/// Independent chains: twelve hide a latency of four to six cycles at two instructions a cycle.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one call.
const LENGTH: usize = 4096;

struct Chains;

impl Kernel for Chains {
    type Output = (f32, usize);

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> (f32, usize) {
        let x = Lanes::<S, f32>::splat(simd, black_box(0.999));
        let mut sums = [Lanes::<S, f32>::splat(simd, black_box(1.0)); CHAINS];
        for _ in 0..LENGTH {
            for sum in &mut sums {
                *sum = sum.mul_add(x, x);
            }
        }
        let total = sums.into_iter().fold(Lanes::zero(simd), |a, b| a + b).sum();
        (total, Lanes::<S, f32>::LEN)
    }
}

/// Keeps one core busy with f32 multiply-adds; returns how many floating-point operations that were.
pub fn multiply_adds(level: SimdLevel) -> f64 {
    let (total, lanes) = dispatch(level, Chains);
    black_box(total);
    (2 * CHAINS * LENGTH * lanes) as f64
}

/// Copies a slice; returns the bytes read and written.
pub fn copy(from: &[f32], to: &mut [f32]) -> f64 {
    to.copy_from_slice(black_box(from));
    black_box(to);
    2.0 * size_of_val(from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_vectors_do_more_operations_in_a_call() {
        let operations: Vec<f64> = SimdLevel::supported().map(multiply_adds).collect();
        assert!(operations.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(copy(&[1.0; 8], &mut [0.0; 8]), 64.0);
    }
}
