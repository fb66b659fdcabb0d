//! Exact attention and its backward pass for CPUs.
//!
//! Multi-head scaled dot-product attention (Vaswani et al., "Attention is all you need", 2017) over
//! `q [B, N_q, H d]`, `k [B, N_k, H d]`, `v [B, N_k, H d_v]`, the natural outputs of linear layers:
//!
//! ```text
//! scores = scale q k^T + residual      [N_q, N_k] for each of B H problems
//! output = softmax(scores) v           [B, N_q, H d_v]
//! ```
//!
//! with optional scores of an earlier layer as `residual` (He et al., "RealFormer: transformer likes residual
//! attention", 2021), a causal mask, and dropout of probabilities. Models use it on a tape through [`AttentionExt`];
//! the slice kernels behind it are [`StandardAttention`] and [`flash::FlashPlan`], and [`reference`](mod@reference) is their specification.
//!
//! Two kinds compute the same ([`nd_core::AttentionKind`]):
//! * *flash* attention ([`flash`]) goes over blocks of scores and keeps none; it also knows windows, padded keys, blocks that
//!   are left out, biases, and heads of keys that several heads of queries share;
//!   Queries, keys and values may be f32, f64, or bf16 and f16 with sums in f32; [`FlashAttention`] takes arrays;
//! * *standard* attention has all scores in memory. It serves short sequences, where it is faster, and scores that a next layer
//!   reads; [`AttentionKind::Standard`](nd_core::AttentionKind::Standard) asks for it always.
//!
//! On its own, without a tape, the crate serves arrays; [`flash`] says what else there is:
//!
//! ```
//! use nd_attention::{FlashAttention, FlashAttentionConfig};
//! use ndarray::Array4;
//!
//! let x = Array4::<f32>::from_shape_fn((1, 2, 300, 16), |(_, h, n, c)| ((h + n * c) % 5) as f32 * 0.1);
//! let flash = FlashAttention::new(FlashAttentionConfig { causal: true, ..FlashAttentionConfig::auto(16) });
//! let saved = flash.forward_saving(&x, &x, &x); // [B, H, N, d]
//! let [dq, dk, dv] = flash.backward(&x, &x, &x, &saved, &saved.output);
//! assert_eq!(dq.dim(), x.dim());
//! # drop((dk, dv));
//! ```
//!
//! Two arrangements serve standard attention, chosen by shape alone:
//! * short sequences with few channels (twelve patches of eight channels, say), where a matrix product per head would be
//!   all overhead, are computed for sixteen (row, head) pairs side by side, one pair per lane ([`ScoreLayout::Interleaved`]);
//! * everything else runs matrix products head by head ([`ScoreLayout::Plain`]).
//!
//! ```
//! use nd_attention::{AttentionExt, AttentionOptions};
//! use nd_core::autograd::{StepContext, Tape};
//!
//! let mut tape = Tape::<f32>::default();
//! tape.begin(StepContext::new(None));
//! let x = tape.input([2, 3, 8], &[0.5; 48]); // [B, N, H d] with two heads of four channels
//! let (y, scores) = x.attention(x, x, &AttentionOptions::new(2), None);
//! assert_eq!(*y.shape(), [2, 3, 8]);
//! assert!((y.value()[0] - 0.5).abs() < 1e-6);
//! assert!(scores.is_none());
//! ```

mod dropout;
pub mod flash;
mod interleaved;
mod op;
mod op_rounded;
mod options;
mod prefetch;
pub mod reference;
mod rounded_rows;
mod rows;
mod scratch;
mod shape;
mod stacked;
mod standard;

pub use dropout::Dropout;
pub use flash::{FlashAttention, FlashAttentionConfig};
pub use op::AttentionExt;
pub use options::AttentionOptions;
pub use shape::{AttentionShape, GROUP, ScoreLayout};
pub use standard::{ForwardOutputs, GradMut, StandardAttention, Tokens, ValueGradients};

/// The array types that functions here take and return.
pub use ndarray;
