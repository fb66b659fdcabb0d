//! What queries, keys and values may be made of, and the block products of each kind.
//!
//! f32 and f64 are multiplied as they are. Sixteen-bit numbers are read where they lie, and summed in f32:
//! * bf16 goes to the products of nd-simd for bf16 operands, which use tiles or dot products of pairs where the processor
//!   has them; probabilities and gradients of scores are rounded to bf16 on their way into the second product of a block, as is customary;
//! * f16 is widened block by block, and nothing else is rounded.
//!
//! Nowhere is there a copy of a whole tensor in f32.

use nd_core::autograd::Accumulate;
use nd_core::options::Precision;
use nd_core::{Element, SimdLevel, bf16, f16};
use nd_simd::SimdReal;
use nd_simd::convert::{f32_to_bf16, f32_to_f16};
use nd_simd::elementwise::accumulate;
use nd_simd::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, PackedBf16, multiply, multiply_half,
    multiply_packed, pack_bf16, packed_bf16_len,
};

use super::turn::turn;

/// An element of queries, keys and values: f32, f64, bf16, f16.
pub trait AttentionElement: Element {
    /// What scores, sums and logarithms are: f32, or f64 for f64.
    type Sum: SimdReal;
    /// How blocks of it are multiplied.
    #[doc(hidden)]
    type Kind: Blocks<Element = Self, Sum = Self::Sum>;
}

impl AttentionElement for f32 {
    type Sum = f32;
    type Kind = Full<f32>;
}
impl AttentionElement for f64 {
    type Sum = f64;
    type Kind = Full<f64>;
}
impl AttentionElement for bf16 {
    type Sum = f32;
    type Kind = Bf16;
}
impl AttentionElement for f16 {
    type Sum = f32;
    type Kind = F16;
}

/// Numbers that are computed with as they are.
#[derive(Clone, Copy, Debug)]
pub struct Full<R>(std::marker::PhantomData<R>);

/// bf16, summed in f32.
#[derive(Clone, Copy, Debug)]
pub struct Bf16;

/// f16, summed in f32.
#[derive(Clone, Copy, Debug)]
pub struct F16;

/// The block products of a kind of number.
pub trait Blocks: 'static {
    /// What queries, keys and values are.
    type Element: Element;
    /// What scores, sums and logarithms are.
    type Sum: SimdReal;
    /// What the right operand of a product of scores is made of.
    type Packed: Element;

    /// The engine of the calling thread, if products of this kind ask for one: whoever hands work to other threads takes it along.
    fn engine(_: SimdLevel) -> Option<Bf16Engine> {
        None
    }

    /// Elements of a right operand made of `width` tokens of so many channels.
    fn packed_len(channels: usize, width: usize) -> usize;

    /// `scale tokens^T` as a right operand; zeros beyond the tokens, up to `width`. The scale may be left to
    /// [`Blocks::scores`].
    fn pack(
        level: SimdLevel,
        tokens: MatRef<'_, Self::Element>,
        scale: Self::Sum,
        packed: &mut [Self::Packed],
        width: usize,
    );

    /// `tile [keys, width] = keys packed`, with what [`Blocks::pack`] left of the scale.
    fn scores(
        level: SimdLevel,
        scale: Self::Sum,
        keys: MatRef<'_, Self::Element>,
        packed: &[Self::Packed],
        width: usize,
        tile: &mut [Self::Sum],
    );

    /// `to = alpha weights tokens + beta to`
    fn weigh(
        level: SimdLevel,
        alpha: Self::Sum,
        weights: MatRef<'_, Self::Sum>,
        tokens: MatRef<'_, Self::Element>,
        beta: Self::Sum,
        to: MatMut<'_, Self::Sum>,
    );

    /// The scalar product of two tokens.
    fn dot(level: SimdLevel, a: &[Self::Element], b: &[Self::Element]) -> Self::Sum;

    /// `to = from`, or `+=`, rounded.
    fn deliver(level: SimdLevel, from: &[Self::Sum], how: Accumulate, to: &mut [Self::Element]);

    /// The target itself as memory for sums, where that is what it is made of: nothing is left to deliver then.
    fn as_sums(_: &mut [Self::Element]) -> Option<&mut [Self::Sum]> {
        None
    }
}

impl<R: SimdReal> Blocks for Full<R> {
    type Element = R;
    type Sum = R;
    type Packed = R;

    fn packed_len(channels: usize, width: usize) -> usize {
        channels * width
    }

    fn pack(level: SimdLevel, tokens: MatRef<'_, R>, scale: R, packed: &mut [R], width: usize) {
        turn(level, tokens, scale, packed, width);
    }

    fn scores(
        level: SimdLevel,
        _: R,
        keys: MatRef<'_, R>,
        packed: &[R],
        width: usize,
        tile: &mut [R],
    ) {
        let (rows, channels) = (keys.rows(), keys.cols());
        let right = MatRef::row_major(packed, channels, width);
        multiply(
            level,
            R::ONE,
            keys,
            right,
            R::ZERO,
            MatMut::row_major(tile, rows, width),
        );
    }

    fn weigh(
        level: SimdLevel,
        alpha: R,
        weights: MatRef<'_, R>,
        tokens: MatRef<'_, R>,
        beta: R,
        to: MatMut<'_, R>,
    ) {
        multiply(level, alpha, weights, tokens, beta, to);
    }

    fn dot(level: SimdLevel, a: &[R], b: &[R]) -> R {
        R::from_f64(nd_simd::reduce::dot_slice(level, a, b))
    }

    fn deliver(level: SimdLevel, from: &[R], how: Accumulate, to: &mut [R]) {
        match how {
            Accumulate::Write => to.copy_from_slice(from),
            Accumulate::Add => accumulate(level, from, to, how),
        }
    }

    fn as_sums(target: &mut [R]) -> Option<&mut [R]> {
        Some(target)
    }
}

/// Calls `work` with the engine that [`Blocks::engine`] found where the pass began.
pub(super) fn with_engine<T>(engine: Option<Bf16Engine>, work: impl FnOnce() -> T) -> T {
    match engine {
        Some(engine) => engine.scope(work),
        None => work(),
    }
}

/// The scalar product of two tokens of sixteen-bit numbers.
fn dot_widened<E: Operand>(a: &[E], b: &[E]) -> f32 {
    const CHAINS: usize = 16;
    let (a, a_rest) = a.as_chunks::<CHAINS>();
    let (b, b_rest) = b.as_chunks::<CHAINS>();
    let mut sums = [0.0_f32; CHAINS];
    for (a, b) in a.iter().zip(b) {
        for c in 0..CHAINS {
            sums[c] += a[c].widen() * b[c].widen();
        }
    }
    let rest: f32 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(a, b)| a.widen() * b.widen())
        .sum();
    sums.iter().sum::<f32>() + rest
}

/// `to += from`, with a rounding.
fn add_rounded<E: Operand>(from: &[f32], to: &mut [E], round: impl Fn(f32) -> E) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = round(to.widen() + from);
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
    ) {
        let (rows, channels) = (keys.rows(), keys.cols());
        multiply_packed(
            level,
            scale,
            keys,
            PackedBf16::new(packed, channels, width),
            0.0,
            MatMut::row_major(tile, rows, width),
            Epilogue::default(),
        );
    }

    fn weigh(
        level: SimdLevel,
        alpha: f32,
        weights: MatRef<'_, f32>,
        tokens: MatRef<'_, bf16>,
        beta: f32,
        to: MatMut<'_, f32>,
    ) {
        let (bf16, plain) = (Precision::Bf16, Epilogue::default());
        multiply_half(level, bf16, alpha, weights, tokens, beta, to, plain);
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
