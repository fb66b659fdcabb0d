//! Flash attention on arrays.

use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel};
use nd_simd::SimdReal;
use ndarray::{Array, ArrayRef, CowArray, Dimension, Ix2, Ix3, Ix4};

use super::memory::total;
use super::plan::Dims;
use super::{Bias, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask};
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
/// and values may have another width. Work is split over the threads of the current rayon pool; the bits are the same for
/// any number.
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
pub struct FlashForward<R: SimdReal, D: Dimension> {
    /// The attention's output.
    pub output: Array<R, D>,
    /// The logarithm of each softmax's sum, `[B, H, N_q]`; `-inf` where a query sees nothing.
    pub lse: Vec<R>,
}

/// Arrays that attention takes: two, three or four dimensions.
pub trait AttentionDimension: Dimension {
    /// Batch, heads, tokens and channels of a shape, and the strides of the first three.
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]);
}

impl AttentionDimension for Ix2 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        ([1, 1, shape[0], shape[1]], [0, 0, strides[0]])
    }
}

impl AttentionDimension for Ix3 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        (
            [shape[0], 1, shape[1], shape[2]],
            [strides[0], 0, strides[1]],
        )
    }
}

impl AttentionDimension for Ix4 {
    fn parts(shape: &[usize], strides: &[isize]) -> ([usize; 4], [isize; 3]) {
        (
            [shape[0], shape[1], shape[2], shape[3]],
            [strides[0], strides[1], strides[2]],
        )
    }
}

/// An array whose channels are side by side and whose strides are not negative: itself, or a copy.
fn readable<R: SimdReal, D: AttentionDimension>(x: &ArrayRef<R, D>) -> CowArray<'_, R, D> {
    let strides = x.strides();
    let beside = x.shape()[strides.len() - 1] <= 1 || strides[strides.len() - 1] == 1;
    if beside && strides.iter().all(|&stride| stride >= 0) {
        x.view().into()
    } else {
        x.as_standard_layout().into_owned().into()
    }
}

fn layout<R, D: AttentionDimension>(x: &ArrayRef<R, D>) -> HeadLayout {
    let ([batch, heads, tokens, channels], strides) = D::parts(x.shape(), x.strides());
    HeadLayout {
        batch,
        heads,
        tokens,
        channels,
        strides: strides.map(isize::unsigned_abs),
    }
}

/// The elements of an array that [`readable`] returned, from the first one on.
fn heads<'a, R: SimdReal, D: AttentionDimension>(x: &'a CowArray<'_, R, D>) -> HeadsRef<'a, R> {
    let layout = layout(x);
    let span = if x.is_empty() {
        0
    } else {
        let last: usize = x
            .shape()
            .iter()
            .zip(x.strides())
            .map(|(&len, &stride)| (len - 1) * stride.unsigned_abs())
            .sum();
        last + 1
    };
    // SAFETY: strides are not negative, so the array's elements are inside the `span` places from its first one on, which all
    // belong to its one allocation; it is borrowed for as long as the slice. Elements between may belong to other views, which read
    // them too.
    let data = unsafe { std::slice::from_raw_parts(x.as_ptr(), span) };
    HeadsRef::new(data, layout)
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
            parallel: self.parallel,
        }
    }

    /// `softmax(scale q k^T) v`.
    ///
    /// # Panics
    /// The shapes do not fit each other, there are no keys or no channels, or the scale is not finite.
    #[must_use]
    #[track_caller]
    pub fn forward<R: SimdReal, D: AttentionDimension>(
        &self,
        q: &ArrayRef<R, D>,
        k: &ArrayRef<R, D>,
        v: &ArrayRef<R, D>,
    ) -> Array<R, D> {
        self.forward_saving(q, k, v).output
    }

    /// [`FlashAttention::forward`], keeping what the backward pass needs.
    ///
    /// # Panics
    /// As [`FlashAttention::forward`].
    #[must_use]
    #[track_caller]
    pub fn forward_saving<R: SimdReal, D: AttentionDimension>(
        &self,
        q: &ArrayRef<R, D>,
        k: &ArrayRef<R, D>,
        v: &ArrayRef<R, D>,
    ) -> FlashForward<R, D> {
        let (q, k, v) = (readable(q), readable(k), readable(v));
        let mut shape = q.raw_dim();
        shape[D::NDIM.unwrap_or(2) - 1] = v.shape()[v.ndim() - 1];
        let mut output = Array::from_elem(shape, R::ZERO);
        let y_layout = layout(&output);
        let mut lse = vec![R::ZERO; y_layout.count()];
        let slots = output.as_slice_mut().unwrap_or_default();
        let to = HeadsMut::new(slots, y_layout);
        // No closure: it would hide the caller's line from a panic.
        let slopes = self.slopes();
        self.plan(&slopes)
            .forward(heads(&q), heads(&k), heads(&v), to, &mut lse);
        FlashForward { output, lse }
    }

    /// The gradients of q, k and v from `dy`, the gradient of the output.
    ///
    /// # Panics
    /// As [`FlashAttention::forward`]; or `saved` or `dy` are of another shape.
    #[must_use]
    #[track_caller]
    pub fn backward<R: SimdReal, D: AttentionDimension>(
        &self,
        q: &ArrayRef<R, D>,
        k: &ArrayRef<R, D>,
        v: &ArrayRef<R, D>,
        saved: &FlashForward<R, D>,
        dy: &ArrayRef<R, D>,
    ) -> [Array<R, D>; 3] {
        let (q, k, v, dy) = (readable(q), readable(k), readable(v), readable(dy));
        let y = readable(&saved.output);
        let mut grads = [&q, &k, &v].map(|x| Array::from_elem(x.raw_dim(), R::ZERO));
        let [dq, dk, dv] = &mut grads;
        let layouts = [layout(dq), layout(dk), layout(dv)];
        let write = |slots, layout| Some((HeadsMut::new(slots, layout), Accumulate::Write));
        let to = FlashGradients {
            dq: write(dq.as_slice_mut().unwrap_or_default(), layouts[0]),
            dk: write(dk.as_slice_mut().unwrap_or_default(), layouts[1]),
            dv: write(dv.as_slice_mut().unwrap_or_default(), layouts[2]),
        };
        let slopes = self.slopes();
        self.plan(&slopes).backward(
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

    /// How many times less working memory the forward pass of one head on one thread takes than [`StandardAttention`]'s, in f32, for
    /// `seq_len` queries and keys; the output and the logarithms of sums, which both kinds return, are not counted.
    #[must_use]
    pub fn memory_savings_ratio(&self, seq_len: usize) -> f64 {
        let dims = Dims {
            batch: 1,
            heads: 1,
            kv_heads: 1,
            queries: seq_len,
            keys: seq_len,
            head_dim: self.head_dim,
            value_dim: self.head_dim,
        };
        let lengths = self.plan::<f32>(&[]).forward_memory(&dims);
        let flash = MemoryPool::bytes_for::<f32>(total(&lengths));
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
