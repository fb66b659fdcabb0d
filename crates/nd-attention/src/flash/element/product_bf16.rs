//! bf16: products with sums in f32, and what is laid out or rounded for them.

use nd_core::autograd::Accumulate;
use nd_core::options::Precision;
use nd_core::{SimdLevel, bf16};
use nd_simd::convert::f32_to_bf16;
use nd_simd::matmul::{
    Bf16Engine, Epilogue, Fetch, MatMut, MatRef, Operand, PackedBf16, multiply_half,
    multiply_packed, pack_bf16, packed_bf16_len,
};

use super::super::softmax_again::{SoftmaxAgain, softmax_again_rounded};
use super::{Bf16, Blocks, Entries, WeightBlock, add_rounded, dot_widened};

/// `to = alpha weights tokens + beta to` of numbers that are rounded to bf16, or are that.
fn product<A: Operand>(
    level: SimdLevel,
    alpha: f32,
    weights: MatRef<'_, A>,
    tokens: MatRef<'_, bf16>,
    beta: f32,
    to: MatMut<'_, f32>,
) {
    let (bf16, plain) = (Precision::Bf16, Epilogue::default());
    multiply_half(level, bf16, alpha, weights, tokens, beta, to, plain);
}

/// The same with a right operand that was laid out before.
fn packed_product<A: Operand>(
    level: SimdLevel,
    alpha: f32,
    left: MatRef<'_, A>,
    right: PackedBf16<'_>,
    beta: f32,
    to: MatMut<'_, f32>,
) {
    multiply_packed(level, alpha, left, right, beta, to, Epilogue::default());
}

impl Bf16 {
    /// Whether products of the calling thread read right operands in pairs of rows, so that laying one out beforehand saves work. Rooms
    /// are as large as this says: they are made where the products are, with the engine of the pass in force.
    fn multiplies_pairs(level: SimdLevel) -> bool {
        level == SimdLevel::Avx512 && Bf16Engine::current() != Bf16Engine::Widen
    }
}

impl Blocks for Bf16 {
    type Element = bf16;
    type Sum = f32;
    type Packed = bf16;

    fn engine(level: SimdLevel) -> Option<Bf16Engine> {
        // Every other level widens, whatever is asked for.
        (level == SimdLevel::Avx512).then(Bf16Engine::current)
    }

    fn packed_len(channels: usize, width: usize) -> usize {
        packed_bf16_len(channels, width)
    }

    fn pack(level: SimdLevel, tokens: MatRef<'_, bf16>, _: f32, packed: &mut [bf16], width: usize) {
        // Columns beyond the tokens, up to the next multiple of 16, are packed as zeros; `width` is that multiple.
        debug_assert_eq!(tokens.rows().next_multiple_of(16), width);
        let len = packed_bf16_len(tokens.cols(), tokens.rows());
        pack_bf16(level, tokens.t(), &mut packed[..len]);
    }

    fn scores(
        level: SimdLevel,
        scale: f32,
        keys: MatRef<'_, bf16>,
        packed: &[bf16],
        width: usize,
        tile: &mut [f32],
        _: Fetch,
    ) {
        let (rows, channels) = (keys.rows(), keys.cols());
        let packed = PackedBf16::new(packed, channels, width);
        let tile = MatMut::row_major(tile, rows, width);
        packed_product(level, scale, keys, packed, 0.0, tile);
    }

    fn weigh(
        level: SimdLevel,
        alpha: f32,
        weights: MatRef<'_, f32>,
        tokens: MatRef<'_, bf16>,
        beta: f32,
        to: MatMut<'_, f32>,
        _: Fetch,
    ) {
        product(level, alpha, weights, tokens, beta, to);
    }

    /// Weights as they lie are nearly a right operand: rows side by side in pairs. As a left one they have to be transposed, for which few
    /// channels of tokens are less to transpose.
    fn gathers_across(level: SimdLevel, channels: usize, width: usize) -> bool {
        Self::multiplies_pairs(level) && (1..=width / 2).contains(&channels)
    }

    fn gather_len(keys: usize, width: usize) -> usize {
        packed_bf16_len(keys, width)
    }

    fn gather(
        level: SimdLevel,
        across: bool,
        alpha: f32,
        weights: WeightBlock<'_, Self>,
        tokens: MatRef<'_, bf16>,
        beta: f32,
        sums: &mut [f32],
        room: &mut [bf16],
        _: Fetch,
    ) {
        let (keys, channels, width) = (weights.keys, tokens.cols(), weights.width);
        if across {
            let room = &mut room[..packed_bf16_len(keys, width)];
            match weights.entries {
                Entries::Full(entries) => {
                    pack_bf16(level, MatRef::row_major(entries, keys, width), room);
                }
                Entries::Rounded(entries) => {
                    pack_bf16(level, MatRef::row_major(entries, keys, width), room);
                }
            }
            let packed = PackedBf16::new(room, keys, width);
            let sums = MatMut::row_major(sums, channels, width);
            packed_product(level, alpha, tokens.t(), packed, beta, sums);
        } else {
            let sums = MatMut::row_major(sums, weights.count, channels);
            match weights.entries {
                Entries::Full(entries) => {
                    let turned = weights.matrix(entries).t();
                    product(level, alpha, turned, tokens, beta, sums);
                }
                Entries::Rounded(entries) => {
                    let turned = weights.matrix(entries).t();
                    product(level, alpha, turned, tokens, beta, sums);
                }
            }
        }
    }

    fn kept_len(level: SimdLevel, tokens: usize, channels: usize) -> usize {
        if Self::multiplies_pairs(level) {
            packed_bf16_len(tokens, channels)
        } else {
            0
        }
    }

    fn keep(level: SimdLevel, tokens: MatRef<'_, bf16>, kept: &mut [bf16]) {
        if Self::multiplies_pairs(level) {
            let len = packed_bf16_len(tokens.rows(), tokens.cols());
            pack_bf16(level, tokens, &mut kept[..len]);
        }
    }

    fn weigh_kept(
        level: SimdLevel,
        alpha: f32,
        weights: WeightBlock<'_, Self>,
        tokens: MatRef<'_, bf16>,
        kept: &[bf16],
        beta: f32,
        to: MatMut<'_, f32>,
        _: Fetch,
    ) {
        if !Self::multiplies_pairs(level) {
            return product(level, alpha, weights.full(), tokens, beta, to);
        }
        let (rows, cols) = (tokens.rows(), tokens.cols());
        let kept = PackedBf16::new(&kept[..packed_bf16_len(rows, cols)], rows, cols);
        match weights.entries {
            Entries::Full(entries) => {
                packed_product(level, alpha, weights.matrix(entries), kept, beta, to);
            }
            Entries::Rounded(entries) => {
                packed_product(level, alpha, weights.matrix(entries), kept, beta, to);
            }
        }
    }

    fn rounded_len(level: SimdLevel, scores: usize) -> usize {
        if Self::multiplies_pairs(level) {
            2 * scores
        } else {
            0
        }
    }

    fn softmax_rounded<'a>(
        level: SimdLevel,
        again: &SoftmaxAgain<'_, f32>,
        rounded: &'a mut [bf16],
    ) -> Option<[&'a [bf16]; 2]> {
        let len = again.scores.len();
        let rounded = &mut rounded[..Self::rounded_len(level, len)];
        if rounded.is_empty() {
            return None;
        }
        let (probabilities, dscores) = rounded.split_at_mut(len);
        softmax_again_rounded(level, again, probabilities, dscores)
            .then_some([&*probabilities, &*dscores])
    }

    fn dot(_: SimdLevel, a: &[bf16], b: &[bf16]) -> f32 {
        dot_widened(a, b)
    }

    fn deliver(level: SimdLevel, from: &[f32], how: Accumulate, to: &mut [bf16]) {
        match how {
            Accumulate::Write => f32_to_bf16(level, from, to),
            Accumulate::Add => add_rounded(from, to, bf16::from_f32),
        }
    }
}
