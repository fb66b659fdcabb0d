//! Losses with their gradients, in one pass.
//!
//! Every function returns `sum w loss(y, y_hat)` and, when a buffer is given, writes `grad_scale w dloss/dy_hat` there. The
//! weights `w` are the mask times whatever else weighs an entry; without a slice of weights all are one, and none is read. The
//! caller divides by their sum (through `grad_scale`, when it is known before the pass). An entry with `w = 0` adds exactly
//! zero to both, also when `y` or `y_hat` is NaN; NaN under any other weight comes through.
//!
//! Terms are computed in the element type, summed over blocks of at most 4096 entries, and the blocks added in f64.

mod array;
mod multi_quantile;
mod point;

pub use array::*;
pub use multi_quantile::multi_quantile_loss;
pub use point::{
    PointLoss, absolute_loss, huber_loss, huber_quantile_loss, mape_loss, point_loss,
    point_loss_terms, quantile_loss, row_scaled_loss, smape_loss, squared_loss, tukey_loss,
};
