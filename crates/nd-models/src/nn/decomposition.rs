//! The weight of a linear layer on a decomposed series.
//!
//! The simple version: split a window `x` into its moving average `A x` (the ends of the window repeated) and the rest
//! `x - A x`, multiply each with a weight of its own, and add. Both steps are linear in `x`, so
//!
//! ```text
//! Wt' A x + Ws' (x - A x) = W' x    with    W = Ws + A' (Wt - Ws)
//! ```
//!
//! (a prime transposes). So the average is taken over the columns of one weight instead of over every window of the batch,
//! and one product does the work of two. The backward pass is the same identity read backwards: `dWt = A dW`,
//! `dWs = dW - A dW`.
//!
//! Known weakness: every tape of a step computes `W` anew, which costs as much as averaging `h Q` windows.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_simd::SimdReal;
use nd_simd::moving_average::{moving_average_backward, moving_average_forward};
use nd_simd::pool::Axis;

/// The weight `W = Ws + A' (Wt - Ws)`, shape `[L, C]`, that acts on the window itself; see the module.
///
/// `A` averages over `window` neighbours, an odd number.
///
/// # Panics
/// The weights are not two matrices of one shape, or `window` is even.
#[track_caller]
pub fn decomposition_weight<'t, R: SimdReal>(
    trend: Var<'t, R>,
    season: Var<'t, R>,
    window: usize,
) -> Var<'t, R> {
    let shape = trend.shape();
    assert_eq!(shape, season.shape(), "weights of trend and season");
    assert!(shape.len() == 2, "a weight [L, C], found {shape}");
    let tape = trend.tape();
    let (trend_value, season_value) = (trend.value(), season.value());
    let mut difference = tape.scratch(shape.numel());
    let pairs = trend_value.iter().zip(season_value.iter());
    for (slot, (&trend, &season)) in difference.iter_mut().zip(pairs) {
        *slot = trend - season;
    }
    let mut weight = tape.pool().take_copy(&season_value);
    let (level, steps) = (tape.options().simd, Axis::of(&shape, 0));
    let add = Accumulate::Add;
    moving_average_backward(level, window, steps, &difference, &mut weight, add);
    tape.record(shape, weight, &[trend, season], || DecompositionWeight {
        trend: trend.id(),
        season: season.id(),
        window,
    })
}

struct DecompositionWeight {
    trend: NodeId,
    season: NodeId,
    window: usize,
}

impl<R: SimdReal> Op<R> for DecompositionWeight {
    fn name(&self) -> &'static str {
        "decomposition_weight"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let dy = step.dy();
        let mut average = step.scratch(dy.len());
        let (level, steps) = (step.options().simd, Axis::of(&step.shape(self.trend), 0));
        moving_average_forward(level, self.window, steps, dy, &mut average);
        if let Some(mut grad) = step.grad(self.trend) {
            let accumulate = grad.accumulate;
            for (slot, &average) in grad.iter_mut().zip(average.iter()) {
                accumulate.store(slot, average);
            }
        }
        if let Some(mut grad) = step.grad(self.season) {
            let accumulate = grad.accumulate;
            for (slot, (&dy, &average)) in grad.iter_mut().zip(dy.iter().zip(average.iter())) {
                accumulate.store(slot, dy - average);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_core::autograd::{StepContext, Tape};
    use nd_simd::activations::Activation;
    use nd_simd::ops::prelude::{ArithmeticExt, LinearExt, MovingAverageExt};
    use nd_testing::cases::normals;
    use nd_testing::{GradInput, assert_close, gradcheck};

    #[test]
    fn one_weight_does_what_two_do_on_the_parts() {
        for length in [1usize, 2, 3, 7, 24, 60] {
            for window in [1usize, 3, 5, 25, 81] {
                let mut tape = Tape::<f64>::default();
                tape.begin(StepContext::new(None));
                let x = tape.input([4, length], &normals(1, 4 * length));
                let trend = tape.input([length, 3], &normals(2, length * 3));
                let season = tape.input([length, 3], &normals(3, length * 3));
                let (slow, rest) = x.decompose(1, window);
                let want = slow
                    .linear(trend, None, Activation::Identity)
                    .add(rest.linear(season, None, Activation::Identity));
                let weight = decomposition_weight(trend, season, window);
                let got = x.linear(weight, None, Activation::Identity);
                let what = format!("{length} steps, window {window}");
                assert_close(&what, &got.value(), &want.value(), 1e-12, 1e-12);
            }
        }
    }

    #[test]
    fn gradients() {
        for (length, window) in [(1, 3), (5, 3), (4, 25), (6, 1)] {
            let inputs = [
                GradInput::normal(1, &[length, 2]).param(),
                GradInput::normal(2, &[length, 2]),
            ];
            gradcheck("decomposition_weight", &inputs, |_, v| {
                decomposition_weight(v[0], v[1], window)
            });
        }
    }
}
