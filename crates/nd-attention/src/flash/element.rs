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

use super::again::{Again, softmax_again_rounded};
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

/// Weights of a block, or gradients of scores.
#[derive(Debug)]
pub(super) enum Weights<'a, E: Blocks + ?Sized> {
    /// As they were computed.
    Full(&'a [E::Sum]),
    /// As the products want them: of [`Blocks::softmax_again`].
    Rounded(&'a [E::Packed]),
}

impl<E: Blocks + ?Sized> Clone for Weights<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E: Blocks + ?Sized> Copy for Weights<'_, E> {}

/// A block of weights, `[keys, width]` with the queries across; those from `count` on belong to none.
#[derive(Debug)]
pub struct Across<'a, E: Blocks + ?Sized> {
    pub(super) weights: Weights<'a, E>,
    pub(super) keys: usize,
    pub(super) count: usize,
    pub(super) width: usize,
}

impl<'a, E: Blocks + ?Sized> Across<'a, E> {
    /// `[keys, queries]`
    fn plain<T: Element>(&self, weights: &'a [T]) -> MatRef<'a, T> {
        MatRef::strided(weights, self.keys, self.count, self.width, 1)
    }

    /// `[keys, queries]` of a kind that rounds none.
    fn full(&self) -> MatRef<'a, E::Sum> {
        match self.weights {
            Weights::Full(weights) => self.plain(weights),
            Weights::Rounded(_) => unreachable!("this kind of number does not round weights"),
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

    /// Whether [`Blocks::gather`] has its sums channel by channel, when there are so many and blocks of queries are `width` wide.
    fn gathers_across(_level: SimdLevel, _channels: usize, _width: usize) -> bool {
        false
    }

    /// Elements of the room that [`Blocks::gather`] needs for blocks of so many keys and queries.
    fn gather_len(_level: SimdLevel, _channels: usize, _keys: usize, _width: usize) -> usize {
        0
    }

    /// `sums = alpha weights^T tokens + beta sums`, for each query a sum over the keys: `[queries, channels]`, or
    /// `[channels, width]` where [`Blocks::gathers_across`].
    fn gather(
        level: SimdLevel,
        alpha: Self::Sum,
        across: Across<'_, Self>,
        tokens: MatRef<'_, Self::Element>,
        beta: Self::Sum,
        sums: &mut [Self::Sum],
        _room: &mut [Self::Packed],
    ) {
        let sums = MatMut::row_major(sums, across.count, tokens.cols());
        Self::weigh(level, alpha, across.full().t(), tokens, beta, sums);
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
        across: Across<'_, Self>,
        tokens: MatRef<'_, Self::Element>,
        _kept: &[Self::Packed],
        beta: Self::Sum,
        to: MatMut<'_, Self::Sum>,
    ) {
        Self::weigh(level, alpha, across.full(), tokens, beta, to);
    }

    /// Elements that [`Blocks::softmax_again`] writes for a block of scores, where it does.
    fn rounded_len(_level: SimdLevel, _scores: usize) -> usize {
        0
    }

    /// From scores and gradients of probabilities to probabilities and gradients of scores, rounded as the products that follow want them;
    /// `None` where that is not done, and then nothing has been.
    fn softmax_again<'a>(
        _level: SimdLevel,
        _again: &Again<'_, Self::Sum>,
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

/// `to = alpha weights tokens + beta to` of numbers that are rounded to bf16, or are that.
fn rounded_product<A: Operand>(
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
        rounded_product(level, alpha, weights, tokens, beta, to);
    }

    /// Weights as they lie are nearly a right operand: rows side by side in pairs. As a left one they have to be transposed, for which few
    /// channels of tokens are less to transpose.
    fn gathers_across(level: SimdLevel, channels: usize, width: usize) -> bool {
        Self::multiplies_pairs(level) && (1..=width / 2).contains(&channels)
    }

    fn gather_len(level: SimdLevel, channels: usize, keys: usize, width: usize) -> usize {
        if Self::gathers_across(level, channels, width) {
            packed_bf16_len(keys, width)
        } else {
            0
        }
    }

    fn gather(
        level: SimdLevel,
        alpha: f32,
        across: Across<'_, Self>,
        tokens: MatRef<'_, bf16>,
        beta: f32,
        sums: &mut [f32],
        room: &mut [bf16],
    ) {
        let (keys, channels, width) = (across.keys, tokens.cols(), across.width);
        if !Self::gathers_across(level, channels, width) {
            let sums = MatMut::row_major(sums, across.count, channels);
            match across.weights {
                Weights::Full(weights) => {
                    let weights = across.plain(weights).t();
                    Self::weigh(level, alpha, weights, tokens, beta, sums);
                }
                Weights::Rounded(weights) => {
                    let weights = across.plain(weights).t();
                    rounded_product(level, alpha, weights, tokens, beta, sums);
                }
            }
            return;
        }
        let room = &mut room[..packed_bf16_len(keys, width)];
        match across.weights {
            Weights::Full(weights) => {
                pack_bf16(level, MatRef::row_major(weights, keys, width), room);
            }
            Weights::Rounded(weights) => {
                pack_bf16(level, MatRef::row_major(weights, keys, width), room);
            }
        }
        let (packed, plain) = (PackedBf16::new(room, keys, width), Epilogue::default());
        let sums = MatMut::row_major(sums, channels, width);
        multiply_packed(level, alpha, tokens.t(), packed, beta, sums, plain);
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
            let len = Self::kept_len(level, tokens.rows(), tokens.cols());
            pack_bf16(level, tokens, &mut kept[..len]);
        }
    }

    fn weigh_kept(
        level: SimdLevel,
        alpha: f32,
        across: Across<'_, Self>,
        tokens: MatRef<'_, bf16>,
        kept: &[bf16],
        beta: f32,
        to: MatMut<'_, f32>,
    ) {
        if !Self::multiplies_pairs(level) {
            return Self::weigh(level, alpha, across.full(), tokens, beta, to);
        }
        let (rows, cols) = (tokens.rows(), tokens.cols());
        let len = Self::kept_len(level, rows, cols);
        let (kept, plain) = (
            PackedBf16::new(&kept[..len], rows, cols),
            Epilogue::default(),
        );
        match across.weights {
            Weights::Full(weights) => {
                multiply_packed(level, alpha, across.plain(weights), kept, beta, to, plain);
            }
            Weights::Rounded(weights) => {
                multiply_packed(level, alpha, across.plain(weights), kept, beta, to, plain);
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

    fn softmax_again<'a>(
        level: SimdLevel,
        again: &Again<'_, f32>,
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
