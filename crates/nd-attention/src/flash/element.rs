//! What queries, keys and values may be made of, and the block products of each kind.
//!
//! f32 and f64 are multiplied as they are. Sixteen-bit numbers are read where they lie, and summed in f32:
//! * bf16 goes to the products of nd-simd for bf16 operands, which use tiles or dot products of pairs where the processor
//!   has them; probabilities and gradients of scores are rounded to bf16 on their way into the second product of a block, as is customary;
//! * f16 is widened block by block, and nothing else is rounded.
//!
//! The files beside this one have the products of bf16 and f16. Nowhere is there a copy of a whole tensor in f32.

use nd_core::autograd::Accumulate;
use nd_core::{Element, SimdLevel, bf16, f16};
use nd_simd::SimdReal;
use nd_simd::elementwise::accumulate;
use nd_simd::matmul::{Bf16Engine, Fetch, MatMut, MatRef, Operand, multiply_fetching};

use super::softmax_again::SoftmaxAgain;
use super::turn::turn;

mod product_bf16;
mod product_f16;

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

/// The numbers of a block of weights, or of gradients of scores.
#[derive(Debug)]
pub(super) enum Entries<'a, E: Blocks + ?Sized> {
    /// As they were computed.
    Full(&'a [E::Sum]),
    /// As the products want them: of [`Blocks::softmax_rounded`].
    Rounded(&'a [E::Packed]),
}

impl<E: Blocks + ?Sized> Clone for Entries<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Blocks + ?Sized> Copy for Entries<'_, E> {}

/// A block of weights, `[keys, width]` with the queries across; columns from `count` on belong to no query.
#[derive(Debug)]
pub struct WeightBlock<'a, E: Blocks + ?Sized> {
    pub(super) entries: Entries<'a, E>,
    pub(super) keys: usize,
    pub(super) count: usize,
    pub(super) width: usize,
}

impl<'a, E: Blocks + ?Sized> WeightBlock<'a, E> {
    /// `[keys, queries]`
    fn matrix<T: Element>(&self, entries: &'a [T]) -> MatRef<'a, T> {
        MatRef::strided(entries, self.keys, self.count, self.width, 1)
    }

    /// `[keys, queries]` where [`Blocks::rounded_len`] is zero: nothing has been rounded then.
    fn full(&self) -> MatRef<'a, E::Sum> {
        match self.entries {
            Entries::Full(entries) => self.matrix(entries),
            Entries::Rounded(_) => unreachable!("this kind of number does not round weights"),
        }
    }
}

/// The block products of a kind of number.
pub trait Blocks: 'static {
    /// What queries, keys and values are.
    type Element: Element;
    /// What scores, sums and logarithms are.
    type Sum: SimdReal;
    /// What operands are made of that were laid out for a product, or rounded for it.
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

    /// `tile [keys, width] = keys packed`, with what [`Blocks::pack`] left of the scale. What is read `soon` may be asked for meanwhile, in this
    /// product as in the others.
    fn scores(
        level: SimdLevel,
        scale: Self::Sum,
        keys: MatRef<'_, Self::Element>,
        packed: &[Self::Packed],
        width: usize,
        tile: &mut [Self::Sum],
        soon: Fetch,
    );

    /// `to = alpha weights tokens + beta to`
    fn weigh(
        level: SimdLevel,
        alpha: Self::Sum,
        weights: MatRef<'_, Self::Sum>,
        tokens: MatRef<'_, Self::Element>,
        beta: Self::Sum,
        to: MatMut<'_, Self::Sum>,
        soon: Fetch,
    );

    /// Whether [`Blocks::gather`] is asked for its sums channel by channel, when there are so many and blocks of queries are `width` wide.
    fn gathers_across(_level: SimdLevel, _channels: usize, _width: usize) -> bool {
        false
    }

    /// Elements of the room that [`Blocks::gather`] needs for sums across, of so many keys and queries.
    fn gather_len(_keys: usize, _width: usize) -> usize {
        0
    }

    /// `sums = alpha weights^T tokens + beta sums`, for each query a sum over the keys: `[queries, channels]`, or `[channels, width]` when
    /// `across`, which only kinds are asked for that say [`Blocks::gathers_across`].
    fn gather(
        level: SimdLevel,
        across: bool,
        alpha: Self::Sum,
        weights: WeightBlock<'_, Self>,
        tokens: MatRef<'_, Self::Element>,
        beta: Self::Sum,
        sums: &mut [Self::Sum],
        _room: &mut [Self::Packed],
        soon: Fetch,
    ) {
        debug_assert!(!across, "this kind of number sums query by query");
        let sums = MatMut::row_major(sums, weights.count, tokens.cols());
        Self::weigh(level, alpha, weights.full().t(), tokens, beta, sums, soon);
    }

    /// Elements that [`Blocks::keep`] writes at most.
    fn kept_len(_level: SimdLevel, _tokens: usize, _channels: usize) -> usize {
        0
    }

    /// Lays out tokens that several products of [`Blocks::weigh_kept`] will read.
    fn keep(_level: SimdLevel, _tokens: MatRef<'_, Self::Element>, _kept: &mut [Self::Packed]) {}

    /// `to = alpha weights tokens + beta to`, `[keys, channels]`, with tokens of which [`Blocks::keep`] has written the layout.
    fn weigh_kept(
        level: SimdLevel,
        alpha: Self::Sum,
        weights: WeightBlock<'_, Self>,
        tokens: MatRef<'_, Self::Element>,
        _kept: &[Self::Packed],
        beta: Self::Sum,
        to: MatMut<'_, Self::Sum>,
        soon: Fetch,
    ) {
        Self::weigh(level, alpha, weights.full(), tokens, beta, to, soon);
    }

    /// Elements that [`Blocks::softmax_rounded`] writes for a block of scores, where it does.
    fn rounded_len(_level: SimdLevel, _scores: usize) -> usize {
        0
    }

    /// From scores and gradients of probabilities to probabilities and gradients of scores, rounded as the products that follow want them;
    /// `None` where that is not done, and then nothing has been.
    fn softmax_rounded<'a>(
        _level: SimdLevel,
        _again: &SoftmaxAgain<'_, Self::Sum>,
        _rounded: &'a mut [Self::Packed],
    ) -> Option<[&'a [Self::Packed]; 2]> {
        None
    }

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
        soon: Fetch,
    ) {
        let (rows, channels) = (keys.rows(), keys.cols());
        let right = MatRef::row_major(packed, channels, width);
        let tile = MatMut::row_major(tile, rows, width);
        multiply_fetching(level, R::ONE, keys, right, R::ZERO, tile, soon);
    }

    fn weigh(
        level: SimdLevel,
        alpha: R,
        weights: MatRef<'_, R>,
        tokens: MatRef<'_, R>,
        beta: R,
        to: MatMut<'_, R>,
        soon: Fetch,
    ) {
        multiply_fetching(level, alpha, weights, tokens, beta, to, soon);
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
