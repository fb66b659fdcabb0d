//! Flash attention on arrays.

use nd_core::autograd::Accumulate;
use nd_core::{Element, MemoryPool, SimdLevel, threads};
use nd_simd::SimdReal;
use ndarray::{Array, ArrayRef, Dimension};

use super::arrays::{AttentionDimension, heads, layout, readable};
use super::element::{AttentionElement, Blocks, Full};
use super::memory::total;
use super::plan::{Dims, LANE_GRAIN};
use super::{
    Bias, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask, WeightsOf,
};
use crate::shape::AttentionShape;
use crate::{Dropout, StandardAttention};

/// The choices that every flash attention has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlashAttentionConfig {
    /// Queries of a block, and keys unless [`FlashAttention::key_block`] says otherwise; zero chooses both from the cache sizes.
    pub block_size: usize,
    /// Whether to use vector instructions; without, the same blocks are computed by plain loops.
    pub use_simd: bool,
    /// The factor of the scores, usually `1 / sqrt(d)`.
    pub scale: f64,
    /// Whether query `i` sees keys `0..=i` only.
    pub causal: bool,
}

impl FlashAttentionConfig {
    /// Blocks chosen from the cache sizes, vector instructions, scale `1 / sqrt(head_dim)`, no mask.
    #[must_use]
    pub fn auto(head_dim: usize) -> Self {
        Self {
            block_size: 0,
            use_simd: true,
            scale: 1.0 / (head_dim.max(1) as f64).sqrt(),
            causal: false,
        }
    }
}

/// Exact attention that never holds the matrix of scores, on arrays `[N, d]`, `[B, N, d]` or `[B, H, N, d]`.
///
/// Arrays may have any layout; one whose channels are not side by side is copied once. Heads of keys may be fewer than heads of queries,
/// and values may have another width. Work is split over the threads of the rayon pool that a method is called in
/// ([`nd_core::Threads::install`]), outside of any it stays on the calling thread; the bits are the same for any number.
///
/// ```
/// use nd_attention::flash::{FlashAttention, FlashAttentionConfig};
/// use ndarray::Array2;
///
/// let q = Array2::<f32>::from_shape_fn((100, 64), |(i, c)| ((i * c) % 7) as f32 * 0.1);
/// let config = FlashAttentionConfig {
///     block_size: 64,
///     use_simd: true,
///     scale: 1.0 / 64f64.sqrt(),
///     causal: false,
/// };
/// let flash = FlashAttention::new(config);
/// let output = flash.forward(&q, &q, &q);
/// assert_eq!(output.dim(), (100, 64));
/// println!("Memory savings: {}x", flash.memory_savings_ratio(16_384));
/// ```
#[derive(Clone, Debug)]
pub struct FlashAttention {
    config: FlashAttentionConfig,
    key_block: usize,
    mask: Mask,
    alibi: Vec<f64>,
    dropout: Option<Dropout>,
    parallel: bool,
    head_dim: usize,
    pool: MemoryPool,
}

/// What [`FlashAttention::forward_saving`] returns, for the backward pass.
#[derive(Clone, Debug)]
pub struct FlashForward<E: AttentionElement, D: Dimension> {
    /// The attention's output.
    pub output: Array<E, D>,
    /// The logarithm of each softmax's sum, `[B, H, N_q]`; `-inf` where a query sees nothing.
    pub lse: Vec<E::Sum>,
}

impl FlashAttention {
    /// An attention with these choices, every key visible to all unless the configuration is causal, no dropout.
    #[must_use]
    pub fn new(config: FlashAttentionConfig) -> Self {
        Self {
            config,
            key_block: 0,
            mask: Mask {
                causal: config.causal.then_some(Causal::UpperLeft),
                ..Mask::default()
            },
            alibi: Vec::new(),
            dropout: None,
            parallel: true,
            head_dim: 64,
            pool: MemoryPool::new(),
        }
    }

    /// The same with another number of keys in a block.
    #[must_use]
    pub fn key_block(self, keys: usize) -> Self {
        Self {
            key_block: keys,
            ..self
        }
    }

    /// The same with a mask. A causal configuration stays causal.
    #[must_use]
    pub fn mask(self, mask: Mask) -> Self {
        let causal = mask.causal.or(self.mask.causal);
        Self {
            mask: Mask { causal, ..mask },
            ..self
        }
    }

    /// The same with `-slope[h] |distance|` added to the scores of head `h`.
    #[must_use]
    pub fn alibi(self, slopes: &[f64]) -> Self {
        Self {
            alibi: slopes.to_vec(),
            ..self
        }
    }

    /// The same with dropout of probabilities, as in training.
    #[must_use]
    pub fn dropout(self, dropout: Dropout) -> Self {
        Self {
            dropout: Some(dropout),
            ..self
        }
    }

    /// The same on the calling thread alone.
    #[must_use]
    pub fn single_threaded(self) -> Self {
        Self {
            parallel: false,
            ..self
        }
    }

    /// The same, with the head width that [`FlashAttention::memory_savings_ratio`] assumes; 64 unless said.
    #[must_use]
    pub fn head_dim(self, head_dim: usize) -> Self {
        Self { head_dim, ..self }
    }

    fn level(&self) -> SimdLevel {
        if self.config.use_simd {
            SimdLevel::current()
        } else {
            SimdLevel::Scalar
        }
    }

    fn slopes<R: SimdReal>(&self) -> Vec<R> {
        self.alibi.iter().map(|&slope| R::from_f64(slope)).collect()
    }

    fn plan<'a, R: SimdReal>(&'a self, slopes: &'a [R]) -> FlashPlan<'a, R> {
        FlashPlan {
            scale: R::from_f64(self.config.scale),
            mask: &self.mask,
            bias: (!slopes.is_empty()).then_some(Bias::Alibi { slopes }),
            dropout: self.dropout,
            pool: &self.pool,
            block_q: self.config.block_size,
            block_k: if self.key_block == 0 {
                self.config.block_size
            } else {
                self.key_block
            },
            level: self.level(),
            // Outside of any pool rayon would start its global one.
            parallel: self.parallel && threads::parallel(),
        }
    }

    /// `softmax(scale q k^T) v`.
    ///
    /// # Panics
    /// The shapes do not fit each other, there are no keys or no channels, the scale is not finite, or the dropout rate is not in
    /// `[0, 1)`.
    #[must_use]
    #[track_caller]
    pub fn forward<E: AttentionElement, D: AttentionDimension>(
        &self,
        q: &ArrayRef<E, D>,
        k: &ArrayRef<E, D>,
        v: &ArrayRef<E, D>,
    ) -> Array<E, D> {
        self.forward_saving(q, k, v).output
    }

    /// [`FlashAttention::forward`], keeping what the backward pass needs.
    ///
    /// # Panics
    /// As [`FlashAttention::forward`].
    #[must_use]
    #[track_caller]
    pub fn forward_saving<E: AttentionElement, D: AttentionDimension>(
        &self,
        q: &ArrayRef<E, D>,
        k: &ArrayRef<E, D>,
        v: &ArrayRef<E, D>,
    ) -> FlashForward<E, D> {
        let (q, k, v) = (readable(q), readable(k), readable(v));
        let mut shape = q.raw_dim();
        shape[D::NDIM.unwrap_or(2) - 1] = v.shape()[v.ndim() - 1];
        let mut output = Array::from_elem(shape, E::ZERO);
        let y_layout = layout(&output);
        let mut lse = vec![E::Sum::ZERO; y_layout.count()];
        let slots = output.as_slice_mut().unwrap_or_default();
        let to = HeadsMut::new(slots, y_layout);
        // No closure: it would hide the caller's line from a panic.
        let slopes = self.slopes();
        self.plan(&slopes)
            .forward_of::<E::Kind>(heads(&q), heads(&k), heads(&v), to, &mut lse);
        FlashForward { output, lse }
    }

    /// The gradients of q, k and v from `dy`, the gradient of the output.
    ///
    /// # Panics
    /// As [`FlashAttention::forward`]; or `saved` or `dy` are of another shape.
    #[must_use]
    #[track_caller]
    pub fn backward<E: AttentionElement, D: AttentionDimension>(
        &self,
        q: &ArrayRef<E, D>,
        k: &ArrayRef<E, D>,
        v: &ArrayRef<E, D>,
        saved: &FlashForward<E, D>,
        dy: &ArrayRef<E, D>,
    ) -> [Array<E, D>; 3] {
        let (q, k, v, dy) = (readable(q), readable(k), readable(v), readable(dy));
        let y = readable(&saved.output);
        let mut grads = [&q, &k, &v].map(|x| Array::from_elem(x.raw_dim(), E::ZERO));
        let [dq, dk, dv] = &mut grads;
        let layouts = [layout(dq), layout(dk), layout(dv)];
        let write = |slots, layout| Some((HeadsMut::new(slots, layout), Accumulate::Write));
        let to = FlashGradients {
            dq: write(dq.as_slice_mut().unwrap_or_default(), layouts[0]),
            dk: write(dk.as_slice_mut().unwrap_or_default(), layouts[1]),
            dv: write(dv.as_slice_mut().unwrap_or_default(), layouts[2]),
            dbias: None,
        };
        let slopes = self.slopes();
        self.plan(&slopes).backward_of::<E::Kind>(
            heads(&q),
            heads(&k),
            heads(&v),
            heads(&y),
            &saved.lse,
            heads(&dy),
            to,
        );
        grads
    }

    /// The attention weights `softmax(scale q k^T)`, `[.., N_q, N_k]`, for those who want to look at them; zeros where the mask
    /// hides, and before dropout.
    ///
    /// This is the only method whose result has a number for each pair of a query and a key; it holds no second copy of it.
    ///
    /// # Panics
    /// As [`FlashAttention::forward`].
    #[must_use]
    #[track_caller]
    pub fn weights<E: AttentionElement, D: AttentionDimension>(
        &self,
        q: &ArrayRef<E, D>,
        k: &ArrayRef<E, D>,
    ) -> Array<E::Sum, D> {
        let (q, k) = (readable(q), readable(k));
        let mut shape = q.raw_dim();
        shape[q.ndim() - 1] = k.shape()[k.ndim() - 2];
        let mut weights = Array::from_elem(shape, E::Sum::ZERO);
        // The logarithms of the sums are those of values without channels.
        let none = |layout: HeadLayout| HeadLayout {
            channels: 0,
            ..layout
        };
        let (q_layout, k_layout) = (layout(&q), layout(&k));
        let mut lse = vec![E::Sum::ZERO; q_layout.count()];
        let slopes = self.slopes();
        let plan = self.plan(&slopes);
        let values = HeadsRef::new(&[], none(k_layout));
        let output = HeadsMut::new(&mut [], none(q_layout));
        plan.forward_of::<E::Kind>(heads(&q), heads(&k), values, output, &mut lse);
        let to = weights.as_slice_mut().unwrap_or_default();
        plan.weights_of::<E::Kind>(heads(&q), heads(&k), &lse, WeightsOf::EachHead, to);
        weights
    }

    /// How many times less working memory the forward pass of one head on one thread takes than [`StandardAttention`]'s, in f32, for
    /// `seq_len` queries and keys; the output and the logarithms of sums, which both kinds return, are not counted.
    #[must_use]
    pub fn memory_savings_ratio(&self, seq_len: usize) -> f64 {
        let dims = Dims {
            batch: 1,
            heads: 1,
            key_heads: 1,
            value_heads: 1,
            queries: seq_len,
            keys: seq_len,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
        };
        let plan = self.plan::<f32>(&[]);
        let width = plan
            .blocks(&dims)
            .0
            .min(seq_len.next_multiple_of(LANE_GRAIN));
        let flash = MemoryPool::bytes_for::<f32>(total(&plan.forward_memory(&dims, true)))
            + MemoryPool::bytes_for::<f32>(Full::<f32>::packed_len(self.head_dim, width));
        let shape = AttentionShape {
            batch: 1,
            heads: 1,
            queries: seq_len,
            keys: seq_len,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
        };
        let standard = StandardAttention {
            shape,
            scale: 1.0_f32,
            causal: false,
            dropout: None,
            level: self.level(),
            parallel: false,
        };
        let numbers = shape.scores_len() + shape.stats_len() + standard.forward_work_len();
        (numbers * size_of::<f32>()) as f64 / flash as f64
    }
}
