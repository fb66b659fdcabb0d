//! Attention without the matrix of scores, forward and backward (Dao et al., "FlashAttention: fast and memory-efficient exact
//! attention with IO-awareness", 2022; Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).
//!
//! The simple version: for a block of queries, go over the keys block by block; keep, for each query, the largest score so
//! far, the sum of exponentials relative to it, and the output relative to it; when the largest score grows, scale what
//! there is down. Only one block of scores exists at a time.
//!
//! What makes it fast on a CPU is the direction of the tile: scores are computed as `K Q^T`, keys down and queries across.
//! * Both products of f32 and f64 read K and V where they lie; only a block of queries is transposed, once.
//! * A query is a lane. Its maximum and its sum run down the tile, vector by vector, and no vector is ever summed across.
//! * The probabilities come out as the transpose that the product with V wants: its left operand may have any strides. Where bf16 is
//!   multiplied in pairs of rows and a head has at most half as many channels as a block has queries, they are a right operand instead:
//!   the values are transposed, and the output is summed across, channel by channel (`gathered`).
//! * Each product of f32 and f64 asks the caches for what is read after it: values, the next keys, sums, the next queries. Where these came
//!   from memory when they were read, passes over short sequences took a tenth longer.
//! * The output so far is scaled down only when the largest score has grown by much: until then the old one is as good a base.
//! * Output and gradients of f32 and f64 are summed where they go, if the tokens of a head lie side by side (`[B, H, N, d]`): short
//!   sequences spent an eighth of their time copying them. (Tokens of other heads in between would be shared with other threads.)
//!
//! Backward computes each block of scores again from the saved logarithm of its sum, and from it all gradients.
//!
//! Bits do not depend on threads: each block of queries is one task of the forward pass; in the backward pass, the
//! gradients of keys and values are summed by tasks whose number depends on the shape alone, in a fixed order.
//!
//! Known weakness: very short sequences are nothing but edges; standard attention serves those.

mod arrays;
mod attention;
mod backward;
mod bias;
mod element;
mod exponential;
mod forward;
mod gathered;
mod mask;
mod memory;
pub(crate) mod op;
pub(crate) mod op_half;
mod plan;
mod softmax_again;
mod sums;
mod tasks;
mod tile;
mod turn;
mod views;
mod weights;

pub use arrays::AttentionDimension;
pub use attention::{FlashAttention, FlashAttentionConfig, FlashForward};
pub use bias::Bias;
pub use element::AttentionElement;
pub use mask::{BlockMask, Causal, Mask, Window};
pub use plan::{FlashGradients, FlashPlan};
pub use views::{HeadLayout, HeadsMut, HeadsRef};
pub use weights::WeightsOf;
