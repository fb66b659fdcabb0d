//! f16: widened block by block, with sums in f32.

use nd_core::autograd::Accumulate;
use nd_core::options::Precision;
use nd_core::{SimdLevel, f16};
use nd_simd::convert::f32_to_f16;
use nd_simd::matmul::{Epilogue, Fetch, MatMut, MatRef, Operand, multiply_half};

use super::{Blocks, F16, add_rounded, dot_widened};

impl Blocks for F16 {
    type Element = f16;
    type Sum = f32;
    type Packed = f32;

    fn packed_len(channels: usize, width: usize) -> usize {
        channels * width
    }

    fn pack(_: SimdLevel, tokens: MatRef<'_, f16>, scale: f32, packed: &mut [f32], width: usize) {
        for (c, row) in packed.chunks_exact_mut(width).enumerate() {
            let (filled, rest) = row.split_at_mut(tokens.rows());
            for (i, x) in filled.iter_mut().enumerate() {
                *x = scale * tokens.at(i, c).widen();
            }
            rest.fill(0.0);
        }
    }

    fn scores(
        level: SimdLevel,
        _: f32,
        keys: MatRef<'_, f16>,
        packed: &[f32],
        width: usize,
        tile: &mut [f32],
        _: Fetch,
    ) {
        let (rows, channels) = (keys.rows(), keys.cols());
        multiply_half(
            level,
            Precision::F32,
            1.0,
            keys,
            MatRef::row_major(packed, channels, width),
            0.0,
            MatMut::row_major(tile, rows, width),
            Epilogue::default(),
        );
    }

    fn weigh(
        level: SimdLevel,
        alpha: f32,
        weights: MatRef<'_, f32>,
        tokens: MatRef<'_, f16>,
        beta: f32,
        to: MatMut<'_, f32>,
        _: Fetch,
    ) {
        let (exact, plain) = (Precision::F32, Epilogue::default());
        multiply_half(level, exact, alpha, weights, tokens, beta, to, plain);
    }

    fn dot(_: SimdLevel, a: &[f16], b: &[f16]) -> f32 {
        dot_widened(a, b)
    }

    fn deliver(level: SimdLevel, from: &[f32], how: Accumulate, to: &mut [f16]) {
        match how {
            Accumulate::Write => f32_to_f16(level, from, to),
            Accumulate::Add => add_rounded(from, to, f16::from_f32),
        }
    }
}
