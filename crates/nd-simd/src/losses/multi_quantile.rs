//! The loss of several quantiles at once.
//!
//! The simple version is two loops: over the targets, over the quantiles. With a handful of quantiles the inner one is
//! shorter than a vector; so targets and weights are repeated on the stack, once for each quantile, and one loop runs over all
//! predictions of a block. The quantiles are repeated once for all blocks.

use super::point::{pinball, weigh};
use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{LaneMask, Lanes, SimdReal};
use crate::reduce::chain_block;

/// Predictions of a block.
const BLOCK: usize = 1024;

/// Room for the longest vector beyond a block, where the last repetition may spill over.
const SPILL: usize = 16;

/// Running sums of a block: additions wait for each other, loads do not.
const SUMS: usize = 4;

struct MultiQuantile<'a, R> {
    quantiles: &'a [R],
    y: &'a [R],
    y_hat: &'a [R],
    weight: Option<&'a [R]>,
    grad: Option<&'a mut [R]>,
    grad_scale: R,
}

impl<R: SimdReal> Kernel for MultiQuantile<'_, R> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> f64 {
        match (self.weight, &self.grad) {
            (None, None) => self.pass::<false, false, S>(simd),
            (None, Some(_)) => self.pass::<false, true, S>(simd),
            (Some(_), None) => self.pass::<true, false, S>(simd),
            (Some(_), Some(_)) => self.pass::<true, true, S>(simd),
        }
    }
}

impl<R: SimdReal> MultiQuantile<'_, R> {
    #[inline(always)]
    fn pass<const WEIGHTED: bool, const GRAD: bool, S: Isa>(self, simd: S) -> f64 {
        let count = self.quantiles.len();
        let weight = self.weight.unwrap_or(&[]);
        let grad = self.grad.unwrap_or(&mut []);
        let mut repeated = [[R::ZERO; BLOCK + SPILL]; 3];
        let [y, w, q] = &mut repeated;
        let most = BLOCK.min(chain_block::<S, R>(SUMS));
        let per_block = (most / count).max(1);
        let mut total = 0.0;
        // More quantiles than fit a block are taken in several pieces.
        for first in (0..count).step_by(most) {
            let quantiles = &self.quantiles[first..count.min(first + most)];
            let width = quantiles.len();
            for place in q[..per_block * width].chunks_exact_mut(width) {
                place.copy_from_slice(quantiles);
            }
            for start in (0..self.y.len()).step_by(per_block) {
                let end = self.y.len().min(start + per_block);
                let len = (end - start) * width;
                repeat::<S, R>(simd, &self.y[start..end], width, y);
                if WEIGHTED {
                    repeat::<S, R>(simd, &weight[start..end], width, w);
                }
                let outputs = start * count + first..start * count + first + len;
                let grad = if GRAD {
                    &mut grad[outputs.clone()]
                } else {
                    &mut []
                };
                let y_hat = &self.y_hat[outputs];
                let (y, w, q) = (&y[..len], &w[..len], &q[..len]);
                let sum = block::<WEIGHTED, GRAD, S, R>(
                    simd,
                    y,
                    y_hat,
                    w,
                    q,
                    grad,
                    self.grad_scale / R::from_usize(count),
                );
                total += sum.to_f64();
            }
        }
        total / count as f64
    }
}

/// Each of `x` `count` times, one after the other. Whole vectors are written, the next number over what was too much.
#[inline(always)]
fn repeat<S: Isa, R: SimdReal>(simd: S, x: &[R], count: usize, out: &mut [R; BLOCK + SPILL]) {
    let lanes = Lanes::<S, R>::LEN;
    debug_assert!(lanes <= SPILL && x.len() * count <= BLOCK);
    for (i, &x) in x.iter().enumerate() {
        let x = Lanes::<S, R>::splat(simd, x);
        for at in (i * count..(i + 1) * count).step_by(lanes) {
            x.store(&mut out[at..]);
        }
    }
}

#[inline(always)]
fn block<const WEIGHTED: bool, const GRAD: bool, S: Isa, R: SimdReal>(
    simd: S,
    y: &[R],
    y_hat: &[R],
    weight: &[R],
    q: &[R],
    grad: &mut [R],
    grad_scale: R,
) -> R {
    let lanes = Lanes::<S, R>::LEN;
    let grad_scale = Lanes::<S, R>::splat(simd, grad_scale);
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    macro_rules! add {
        ($at:expr, $end:expr, $sum:expr, $load:ident, $store:ident) => {{
            let piece = $at..$end;
            let load = |x: &[R]| Lanes::<S, R>::$load(simd, &x[piece.clone()]);
            let terms = pinball(load(y_hat) - load(y), load(q));
            let (sum, slope) = if WEIGHTED {
                weigh(terms, load(weight), grad_scale, $sum)
            } else {
                (
                    terms.factor.mul_add(terms.rest, $sum),
                    terms.slope * grad_scale,
                )
            };
            if GRAD {
                slope.$store(&mut grad[piece]);
            }
            sum
        }};
    }
    let mut at = 0;
    while at + SUMS * lanes <= y.len() {
        for j in 0..SUMS {
            let start = at + j * lanes;
            sums[j] = add!(start, start + lanes, sums[j], load, store);
        }
        at += SUMS * lanes;
    }
    let mut j = 0;
    while at + lanes <= y.len() {
        sums[j] = add!(at, at + lanes, sums[j], load, store);
        (at, j) = (at + lanes, j + 1);
    }
    if at < y.len() {
        let sum = add!(at, y.len(), sums[j], load_partial, store_partial);
        sums[j] = LaneMask::first(simd, y.len() - at).select(sum, sums[j]);
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
}

instantiate! {
    /// `sum_i w_i 1/Q sum_q (q max(-e, 0) + (1 - q) max(e, 0))` with `e = y_hat[i, q] - y[i]`, for `y_hat` of `[y.len(), Q]`.
    ///
    /// Writes `grad_scale` times the derivative in `y_hat` to `grad` when given. Without weights all are one.
    ///
    /// # Panics
    /// The lengths do not fit, there is no quantile, or the machine lacks the level.
    pub fn multi_quantile_loss<R>(
        level: SimdLevel,
        quantiles: &[R],
        y: &[R],
        y_hat: &[R],
        weight: Option<&[R]>,
        grad: Option<&mut [R]>,
        grad_scale: f64,
    ) -> f64
    {
        assert!(!quantiles.is_empty(), "a multi-quantile loss needs at least one quantile");
        same_length("y_hat", y_hat.len(), "y x quantiles", y.len() * quantiles.len());
        if let Some(weight) = weight {
            same_length("y", y.len(), "weight", weight.len());
        }
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
                        Some(&weight),
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
                    let run = |weight: Option<&[R]>, grad: Option<&mut [R]>| {
                        multi_quantile_loss(level, &quantiles, &y, &y_hat, weight, grad, 2.0)
                    };
                    assert_eq!(found, run(Some(&weight), None), "{what}");
                    if len > 2 {
                        y[1] = R::ONE;
                    }
                    let run = |weight: Option<&[R]>, grad: Option<&mut [R]>| {
                        multi_quantile_loss(level, &quantiles, &y, &y_hat, weight, grad, 2.0)
                    };
                    let (ones, mut with_ones) = (vec![R::ONE; len], poisoned(len * count));
                    let weighted = run(Some(&ones), Some(&mut with_ones));
                    assert_eq!(run(None, Some(&mut grad)), weighted, "{what}");
                    assert_eq!(run(None, None), weighted, "{what}");
                    assert_eq!(grad, with_ones, "{what}");
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
