//! Reversible normalisation of windows (Kim et al., ICLR 2022).
//!
//! Each window is shifted by its mean (or last value) and divided by its deviation, and forecasts are mapped back. Both are
//! data: no gradient flows through them. A learnt weight and bias, one for all windows, may follow.

use nd_core::Buffer;
use nd_core::autograd::{Backward, Init, NodeId, Op, ParamId, ParamsBuilder, Tape, Var};
use nd_simd::SimdReal;

/// What a reversible normalisation can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevInConfig {
    /// Whether there is a learnt weight and bias.
    pub(crate) affine: bool,
    /// Whether the last value is subtracted, rather than the mean.
    pub(crate) subtract_last: bool,
}

/// Added to the variance of a window.
const REVIN_EPS: f64 = 1e-5;

/// Reversible normalisation of windows, with a learnt weight and bias where asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RevIn {
    subtract_last: bool,
    affine: Option<(ParamId, ParamId)>,
}

impl RevIn {
    pub(crate) fn new(b: &mut ParamsBuilder, config: RevInConfig) -> Self {
        Self {
            subtract_last: config.subtract_last,
            affine: config.affine.then(|| {
                (
                    b.trainable("affine_weight", [1], Init::Constant(1.0)),
                    b.trainable("affine_bias", [1], Init::Constant(0.0)),
                )
            }),
        }
    }

    /// What is subtracted and the deviation that is divided by.
    fn statistics<R: SimdReal>(&self, window: &[R]) -> (R, R) {
        let count = window.len() as f64;
        let mean = window.iter().map(|x| x.to_f64()).sum::<f64>() / count;
        let variance = window
            .iter()
            .map(|x| (x.to_f64() - mean).powi(2))
            .sum::<f64>()
            / count;
        let level = if self.subtract_last {
            window[window.len() - 1]
        } else {
            R::from_f64(mean)
        };
        (level, R::from_f64((variance + REVIN_EPS).sqrt()))
    }

    /// `x w + b`
    pub(crate) fn apply_affine<'t, R: SimdReal>(&self, x: Var<'t, R>) -> Var<'t, R> {
        self.map(x, Direction::Apply)
    }

    /// `(x - b) / (w + eps^2)`
    pub(crate) fn undo_affine<'t, R: SimdReal>(&self, x: Var<'t, R>) -> Var<'t, R> {
        self.map(x, Direction::Undo)
    }

    fn map<'t, R: SimdReal>(&self, x: Var<'t, R>, direction: Direction) -> Var<'t, R> {
        let Some((weight, bias)) = self.affine else {
            return x;
        };
        scalar_affine(x, x.tape().param(weight), x.tape().param(bias), direction)
    }
}

/// What windows were normalised with, one number of each for a window.
pub(crate) struct Statistics<R: SimdReal> {
    /// What was divided by.
    pub(crate) deviations: Buffer<R>,
    /// What was subtracted.
    pub(crate) levels: Buffer<R>,
}

/// Windows normalised by themselves, `[B, L]`, and what with.
pub(crate) fn normalized_windows<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    windows: &[R],
    length: usize,
    revin: Option<&RevIn>,
) -> (Var<'t, R>, Option<Statistics<R>>) {
    let rows = windows.len() / length;
    let Some(revin) = revin else {
        return (tape.input([rows, length], windows), None);
    };
    let (mut deviations, mut levels) = (tape.scratch(rows), tape.scratch(rows));
    let mut out = tape.scratch(windows.len());
    for (row, (out, window)) in out
        .chunks_exact_mut(length)
        .zip(windows.chunks_exact(length))
        .enumerate()
    {
        let (level, deviation) = revin.statistics(window);
        (deviations[row], levels[row]) = (deviation, level);
        for (slot, &x) in out.iter_mut().zip(window) {
            *slot = (x - level) / deviation;
        }
    }
    let windows = tape.constant([rows, length], out);
    (windows, Some(Statistics { deviations, levels }))
}

#[derive(Clone, Copy)]
enum Direction {
    Apply,
    Undo,
}

/// One weight and one bias for all of `x`, applied or undone.
fn scalar_affine<'t, R: SimdReal>(
    x: Var<'t, R>,
    weight: Var<'t, R>,
    bias: Var<'t, R>,
    direction: Direction,
) -> Var<'t, R> {
    let tape = x.tape();
    let (w, b) = (weight.value()[0], bias.value()[0]);
    let mut y = tape.scratch(x.shape().numel());
    let value = x.value();
    match direction {
        Direction::Apply => {
            for (y, &x) in y.iter_mut().zip(value.iter()) {
                *y = x * w + b;
            }
        }
        Direction::Undo => {
            let w = w + guard();
            for (y, &x) in y.iter_mut().zip(value.iter()) {
                *y = (x - b) / w;
            }
        }
    }
    tape.record(x.shape(), y, &[x, weight, bias], || ScalarAffine {
        x: x.id(),
        weight: weight.id(),
        bias: bias.id(),
        direction,
    })
}

/// What keeps the inverse from dividing by zero.
fn guard<R: SimdReal>() -> R {
    R::from_f64(REVIN_EPS * REVIN_EPS)
}

struct ScalarAffine {
    x: NodeId,
    weight: NodeId,
    bias: NodeId,
    direction: Direction,
}

impl<R: SimdReal> Op<R> for ScalarAffine {
    fn name(&self) -> &'static str {
        "scalar_affine"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let dy = step.dy();
        let w = step.value(self.weight)[0];
        // y = x slope + (a constant): the slope, and the derivatives of y by weight and bias.
        let (slope, dbias) = match self.direction {
            Direction::Apply => (w, R::ONE),
            Direction::Undo => {
                let slope = R::ONE / (w + guard());
                (slope, -slope)
            }
        };
        if let Some(mut grad) = step.grad(self.weight) {
            let sum: f64 = match self.direction {
                Direction::Apply => products(dy, &step.value(self.x)),
                // d/dw (x - b) / w = -y / w
                Direction::Undo => -products(dy, &step.y()) * slope.to_f64(),
            };
            let accumulate = grad.accumulate;
            accumulate.store(&mut grad[0], R::from_f64(sum));
        }
        if let Some(mut grad) = step.grad(self.bias) {
            let sum: f64 = dy.iter().map(|dy| dy.to_f64()).sum();
            let accumulate = grad.accumulate;
            accumulate.store(&mut grad[0], R::from_f64(sum) * dbias);
        }
        if let Some(mut grad) = step.grad(self.x) {
            let accumulate = grad.accumulate;
            for (slot, &dy) in grad.iter_mut().zip(dy) {
                accumulate.store(slot, dy * slope);
            }
        }
    }
}

fn products<R: SimdReal>(a: &[R], b: &[R]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_testing::{GradInput, assert_close, gradcheck};

    #[test]
    fn gradients() {
        let x = GradInput::normal(1, &[3, 4, 2]);
        for direction in [Direction::Apply, Direction::Undo] {
            let one = |value| GradInput::values(&[1], vec![value]);
            let inputs = [x.clone(), one(1.3).param(), one(-0.4)];
            gradcheck("scalar_affine", &inputs, move |_, v| {
                scalar_affine(v[0], v[1], v[2], direction)
            });
        }
    }

    #[test]
    fn windows_are_shifted_and_scaled_by_themselves() {
        let mut tape = Tape::<f64>::default();
        tape.begin(nd_core::autograd::StepContext::new(None));
        let window = [1.0, 2.0, 3.0, 4.0, 6.0];
        let deviation = (2.96f64 + 1e-5).sqrt();
        for (subtract_last, level) in [(false, 3.2), (true, 6.0)] {
            let revin = RevIn {
                subtract_last,
                affine: None,
            };
            let (x, statistics) = normalized_windows(&tape, &window, 5, Some(&revin));
            let Statistics { deviations, levels } = statistics.unwrap();
            assert_close("level", &levels, &[level], 1e-15, 0.0);
            assert_close("deviation", &deviations, &[deviation], 1e-15, 0.0);
            let want = window.map(|x| (x - level) / deviation);
            assert_close("window", &x.value(), &want, 1e-15, 1e-15);
        }
    }
}
