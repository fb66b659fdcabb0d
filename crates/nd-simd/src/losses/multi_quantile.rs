//! The loss of several quantiles at once.

use super::point::{BLOCK, pinball};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};
use crate::reduce::chain_block;

struct MultiQuantile<'a, R> {
    quantiles: &'a [R],
    y: &'a [R],
    y_hat: &'a [R],
    weight: &'a [R],
    grad: Option<&'a mut [R]>,
    grad_scale: R,
}

impl<R: SimdReal> Kernel for MultiQuantile<'_, R> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Isa>(mut self, simd: S) -> f64 {
        // Targets, weights and quantiles are repeated on the stack so that all run side by side with the predictions.
        let count = self.quantiles.len();
        let mut repeated = [[R::ZERO; BLOCK]; 3];
        let share = R::ONE / R::from_usize(count);
        let per_block = (BLOCK / count).max(1);
        let mut total = 0.0;
        for start in (0..self.y.len()).step_by(per_block) {
            let end = self.y.len().min(start + per_block);
            // More quantiles than fit a block are taken in several pieces.
            for first in (0..count).step_by(BLOCK) {
                let quantiles = &self.quantiles[first..count.min(first + BLOCK)];
                let len = (end - start) * quantiles.len();
                let [y, weight, q] = &mut repeated;
                for (i, at) in (start..end).enumerate() {
                    let place = i * quantiles.len()..(i + 1) * quantiles.len();
                    y[place.clone()].fill(self.y[at]);
                    weight[place.clone()].fill(self.weight[at] * share);
                    q[place].copy_from_slice(quantiles);
                }
                let outputs = start * count + first..start * count + first + len;
                let grad = self.grad.as_mut().map(|grad| &mut grad[outputs.clone()]);
                total += quantile_block(
                    simd,
                    &y[..len],
                    &self.y_hat[outputs],
                    &weight[..len],
                    &q[..len],
                    grad,
                    self.grad_scale,
                )
                .to_f64();
            }
        }
        total
    }
}

#[inline(always)]
fn quantile_block<S: Isa, R: SimdReal>(
    simd: S,
    y: &[R],
    y_hat: &[R],
    weight: &[R],
    q: &[R],
    mut grad: Option<&mut [R]>,
    grad_scale: R,
) -> R {
    let lanes = Lanes::<S, R>::LEN;
    let mut total = R::ZERO;
    let mut sum = Lanes::<S, R>::zero(simd);
    for start in (0..y.len()).step_by(lanes) {
        if start % chain_block::<S, R>(1) == 0 {
            total += sum.sum();
            sum = Lanes::zero(simd);
        }
        let piece = start..y.len().min(start + lanes);
        let load = |x: &[R]| Lanes::<S, R>::load_partial(simd, &x[piece.clone()]);
        let weight = load(weight);
        let counts = !weight.equal(Lanes::zero(simd));
        let (loss, slope) = pinball(load(y_hat) - load(y), load(q));
        sum += counts.or_zero(loss * weight);
        if let Some(grad) = &mut grad {
            counts
                .or_zero(slope * weight * grad_scale)
                .store_partial(&mut grad[piece]);
        }
    }
    total + sum.sum()
}

instantiate! {
    /// `sum_i w_i 1/Q sum_q (q max(-e, 0) + (1 - q) max(e, 0))` with `e = y_hat[i, q] - y[i]`, for `y_hat` of `[y.len(), Q]`.
    ///
    /// Writes `grad_scale` times the derivative in `y_hat` to `grad` when given.
    ///
    /// # Panics
    /// The lengths do not fit, there is no quantile, or the machine lacks the level.
    pub fn multi_quantile_loss<R>(
        level: SimdLevel,
        quantiles: &[R],
        y: &[R],
        y_hat: &[R],
        weight: &[R],
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    {
        assert!(!quantiles.is_empty(), "a multi-quantile loss needs at least one quantile");
        same_length("y_hat", y_hat.len(), "y x quantiles", y.len() * quantiles.len());
        same_length("y", y.len(), "weight", weight.len());
        if let Some(grad) = &grad {
            same_length("y_hat", y_hat.len(), "grad", grad.len());
        }
    }
    then {
        let grad_scale = R::from_f64(grad_scale);
        dispatch(level, MultiQuantile { quantiles, y, y_hat, weight, grad, grad_scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::losses::quantile;
    use crate::testing::{Noise, assert_close, poisoned};

    fn agrees<R: SimdReal>(tolerance: f64) {
        let mut noise = Noise::new(17);
        for level in nd_testing::levels() {
            for count in [1, 2, 5, 9, 99, 1100] {
                for len in [0, 1, 3, 24, 300] {
                    if count * len > 60_000 {
                        continue;
                    }
                    let what = format!("{level} {count} quantiles of {len}");
                    let quantiles: Vec<R> = (0..count)
                        .map(|i| R::from_f64((i as f64 + 0.5) / count as f64))
                        .collect();
                    let mut y: Vec<R> = noise.vec(len, 2.0);
                    let y_hat: Vec<R> = noise.vec(len * count, 2.0);
                    let mut weight: Vec<R> = vec![R::from_f64(0.75); len];
                    if len > 2 {
                        weight[1] = R::ZERO;
                        y[1] = R::from_f64(f64::NAN);
                    }
                    let mut grad = poisoned(len * count);
                    let found = multi_quantile_loss(
                        level,
                        &quantiles,
                        &y,
                        &y_hat,
                        &weight,
                        Some(&mut grad),
                        2.0,
                    );
                    let mut sum = 0.0;
                    for i in 0..len * count {
                        let (at, q) = (i / count, quantiles[i % count].to_f64());
                        let (l, d) = quantile(q, y[at].to_f64(), y_hat[i].to_f64());
                        let w = weight[at].to_f64() / count as f64;
                        let (l, d) = if w == 0.0 {
                            (0.0, 0.0)
                        } else {
                            (w * l, 2.0 * w * d)
                        };
                        sum += l;
                        assert_close(grad[i], d, 10.0 * tolerance, || {
                            format!("{what}: gradient {i}")
                        });
                    }
                    assert_close(found, sum, tolerance * (1.0 + sum), || what.clone());
                    let alone =
                        multi_quantile_loss(level, &quantiles, &y, &y_hat, &weight, None, 2.0);
                    assert_eq!(found, alone, "{what}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_reference() {
        agrees::<f32>(1e-6);
        agrees::<f64>(1e-14);
    }
}
