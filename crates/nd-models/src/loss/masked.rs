//! Weighted means of a loss of each entry: mask times the weight of the step.

use nd_core::{BatchView, Loss, LossValue, SimdLevel};
use nd_simd::losses::{PointLoss, multi_quantile_loss, point_loss, row_scaled_loss};
use nd_simd::{Isa, Kernel, SimdReal, dispatch};

/// Entries whose weights are multiplied at a time, on the stack.
const BLOCK: usize = 1024;

/// The loss of an entry.
#[derive(Clone, Debug)]
pub(super) enum Term<R> {
    /// One output, one target.
    Point(PointLoss),
    /// Squares, and the root of their mean.
    RootOfSquares,
    /// Absolute errors over the mean seasonal difference of the input.
    Scaled {
        /// Steps of a season.
        seasonality: usize,
    },
    /// An output for each quantile.
    MultiQuantile {
        /// In the order of the outputs.
        quantiles: Vec<R>,
    },
    /// The same with a parabola around zero.
    HuberMultiQuantile {
        /// In the order of the outputs.
        quantiles: Vec<R>,
        /// Where the parabola ends.
        delta: R,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct MaskedLoss<R> {
    name: &'static str,
    term: Term<R>,
    output_names: Vec<String>,
    /// Empty for equal weights.
    horizon_weight: Vec<R>,
}

impl<R: SimdReal> MaskedLoss<R> {
    pub(super) fn new(
        name: &'static str,
        term: Term<R>,
        output_names: Vec<String>,
        horizon_weight: &[f64],
    ) -> Self {
        Self {
            name,
            term,
            output_names,
            horizon_weight: horizon_weight.iter().map(|&w| R::from_f64(w)).collect(),
        }
    }

    /// Outputs of an entry, `Q`.
    pub(super) fn outputs(&self) -> usize {
        self.output_names.len()
    }

    /// The weight of the step that an entry belongs to.
    fn step_weight(&self, batch: &BatchView<'_, R>, entry: usize) -> R {
        let layout = batch.layout();
        self.horizon_weight[entry / layout.n_series % layout.horizon]
    }

    /// Calls `visit` with ranges of entries and their weights, in order, and adds up what it returns.
    pub(super) fn blocks(
        &self,
        batch: &BatchView<'_, R>,
        mut visit: impl FnMut(std::ops::Range<usize>, &[R]) -> f64,
    ) -> f64 {
        let mask = batch.outsample_mask;
        if self.horizon_weight.is_empty() {
            return visit(0..mask.len(), mask);
        }
        let mut weights = [R::ZERO; BLOCK];
        let mut sum = 0.0;
        for (block, mask) in mask.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let weights = &mut weights[..mask.len()];
            for (i, (weight, &mask)) in weights.iter_mut().zip(mask).enumerate() {
                *weight = mask * self.step_weight(batch, first + i);
            }
            sum += visit(first..first + mask.len(), weights);
        }
        sum
    }

    /// The sum, and the gradient where there is memory for it.
    fn run(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        scale: f64,
        mut grad: Option<&mut [R]>,
    ) -> f64 {
        let (layout, outputs) = (batch.layout(), self.outputs());
        let entries = batch.outsample_y.len();
        assert_eq!(
            raw.len(),
            entries * outputs,
            "outputs for {} windows of {} steps, {} series and {outputs} outputs a step",
            batch.rows(),
            layout.horizon,
            layout.n_series,
        );
        self.blocks(batch, |range, weights| {
            let y = &batch.outsample_y[range.clone()];
            let places = range.start * outputs..range.end * outputs;
            let y_hat = &raw[places.clone()];
            let grad = grad.as_deref_mut().map(|grad| &mut grad[places]);
            match &self.term {
                Term::Point(loss) => point_loss(simd, *loss, y, y_hat, Some(weights), grad, scale),
                Term::RootOfSquares => point_loss(
                    simd,
                    PointLoss::Squared,
                    y,
                    y_hat,
                    Some(weights),
                    grad,
                    scale,
                ),
                Term::Scaled { seasonality } => scaled_loss(
                    simd,
                    *seasonality,
                    batch,
                    range,
                    y_hat,
                    weights,
                    grad,
                    scale,
                ),
                Term::MultiQuantile { quantiles } => {
                    // The kernel takes the mean over the quantiles.
                    let count = quantiles.len() as f64;
                    let scale = scale * count;
                    let weights = Some(weights);
                    count * multi_quantile_loss(simd, quantiles, y, y_hat, weights, grad, scale)
                }
                Term::HuberMultiQuantile { quantiles, delta } => dispatch(
                    simd,
                    HuberMultiQuantile {
                        quantiles,
                        delta: *delta,
                        y,
                        y_hat,
                        weights,
                        grad,
                        scale: R::from_f64(scale),
                    },
                ),
            }
        })
    }
}

impl<R: SimdReal> Loss<R> for MaskedLoss<R> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn outputs_per_step(&self) -> usize {
        self.outputs()
    }

    fn output_names(&self) -> Vec<String> {
        self.output_names.clone()
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        self.blocks(batch, |_, weights| weights.iter().map(|w| w.to_f64()).sum())
    }

    fn forward(&self, simd: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64 {
        self.run(simd, raw, batch, 0.0, None)
    }

    fn backward(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        gradient_scale: R,
        draw: &mut [R],
    ) -> f64 {
        self.run(simd, raw, batch, gradient_scale.to_f64(), Some(draw))
    }

    fn finish(&self, sum: f64, weight: f64) -> LossValue {
        let mean = if weight == 0.0 { 0.0 } else { sum / weight };
        match self.term {
            Term::RootOfSquares => {
                let root = mean.sqrt();
                // Where every error is zero, so is every gradient.
                let gradient_factor = if root == 0.0 { 0.0 } else { 0.5 / root };
                LossValue {
                    value: root,
                    gradient_factor,
                }
            }
            _ => LossValue {
                value: mean,
                gradient_factor: 1.0,
            },
        }
    }
}

/// Absolute errors, each over the mean seasonal difference of its window (and series).
fn scaled_loss<R: SimdReal>(
    simd: SimdLevel,
    seasonality: usize,
    batch: &BatchView<'_, R>,
    range: std::ops::Range<usize>,
    y_hat: &[R],
    weights: &[R],
    mut grad: Option<&mut [R]>,
    scale: f64,
) -> f64 {
    let layout = batch.layout();
    let n = layout.n_series;
    let mut sum = 0.0;
    let mut at = range.start;
    // Pieces that share a factor: a window of a single series, or a single entry of several.
    while at < range.end {
        let row = at / (layout.horizon * n);
        let piece = if n == 1 {
            at..range.end.min((row + 1) * layout.horizon)
        } else {
            at..at + 1
        };
        let window = &batch.insample_y[row * layout.input_size * n..][..layout.input_size * n];
        let factor = R::ONE / seasonal_difference(window, n, at % n, seasonality);
        let here = piece.start - range.start..piece.end - range.start;
        sum += row_scaled_loss(
            simd,
            PointLoss::Absolute,
            &[factor],
            &batch.outsample_y[piece.clone()],
            &y_hat[here.clone()],
            Some(&weights[here.clone()]),
            grad.as_deref_mut().map(|grad| &mut grad[here]),
            scale,
        );
        at = piece.end;
    }
    sum
}

/// The mean of `|y_t - y_{t - s}|` of one of `n` series; NaN where the window is no longer than a season.
fn seasonal_difference<R: SimdReal>(window: &[R], n: usize, series: usize, s: usize) -> R {
    let steps = window.len() / n;
    let count = steps.saturating_sub(s);
    let sum: f64 = (s..steps)
        .map(|t| {
            (window[t * n + series] - window[(t - s) * n + series])
                .abs()
                .to_f64()
        })
        .sum();
    R::from_f64(sum / count as f64)
}

struct HuberMultiQuantile<'a, R> {
    quantiles: &'a [R],
    delta: R,
    y: &'a [R],
    y_hat: &'a [R],
    weights: &'a [R],
    grad: Option<&'a mut [R]>,
    scale: R,
}

impl<R: SimdReal> Kernel for HuberMultiQuantile<'_, R> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Isa>(mut self, _: S) -> f64 {
        let count = self.quantiles.len();
        let half = R::from_f64(0.5);
        let mut sum = 0.0;
        let entries = self.y.iter().zip(self.weights);
        for (i, ((&y, &weight), y_hat)) in entries.zip(self.y_hat.chunks_exact(count)).enumerate() {
            let grad = self.grad.as_deref_mut();
            let mut grad = grad.map(|grad| &mut grad[i * count..][..count]);
            if weight == R::ZERO {
                if let Some(grad) = grad {
                    grad.fill(R::ZERO);
                }
                continue;
            }
            let mut entry = R::ZERO;
            for (j, (&y_hat, &q)) in y_hat.iter().zip(self.quantiles).enumerate() {
                let e = y_hat - y;
                let side = if e < R::ZERO { q } else { R::ONE - q };
                let size = (e * side).abs();
                // NaN is not above delta and stays.
                let clipped = if size > self.delta { self.delta } else { size };
                entry += clipped * (size - half * clipped);
                if let Some(grad) = &mut grad {
                    let slope = if e < R::ZERO { -clipped } else { clipped };
                    grad[j] = slope * side * weight * self.scale;
                }
            }
            sum += (entry * weight).to_f64();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use crate::loss::{LossConfig, LossKind};
    use nd_core::{Batch, BatchLayout, SimdLevel};
    use nd_testing::assert_close;
    use nd_testing::cases::normals;

    fn batch(rows: usize, horizon: usize, n_series: usize) -> Batch<f64> {
        let layout = BatchLayout {
            n_series,
            ..BatchLayout::univariate(9, horizon)
        };
        let mut batch = Batch::new(layout);
        batch.resize(rows);
        batch.insample_y = normals(1, rows * 9 * n_series);
        batch.outsample_y = normals(2, rows * horizon * n_series);
        for (i, m) in batch.outsample_mask.iter_mut().enumerate() {
            *m = [1.0, 0.0, 2.0][i % 3];
        }
        batch
    }

    fn kinds() -> Vec<LossKind> {
        vec![
            LossKind::Mae,
            LossKind::Mse,
            LossKind::Rmse,
            LossKind::Mape,
            LossKind::Smape,
            LossKind::Mase { seasonality: 2 },
            LossKind::Huber { delta: 0.5 },
            LossKind::Tukey { c: 1.5 },
            LossKind::Quantile { q: 0.3 },
            LossKind::multi_quantile(&[80.0]),
            LossKind::HuberQuantile { q: 0.3, delta: 0.4 },
            LossKind::HuberMultiQuantile {
                quantiles: crate::loss::Quantiles::default(),
                delta: 0.2,
            },
        ]
    }

    /// Many rows, so that weights are multiplied in several blocks; several series; every level.
    #[test]
    fn gradients_are_those_of_finite_differences_and_nothing_masked_counts() {
        for kind in kinds() {
            for (rows, n) in [(300, 1), (3, 2)] {
                let mut batch = batch(rows, 4, n);
                let config = LossConfig {
                    kind: kind.clone(),
                    horizon_weight: vec![1.0, 0.5, 0.0, 2.0],
                };
                let loss = config.build::<f64>(4).unwrap();
                let outputs = loss.outputs_per_step();
                let mut raw: Vec<f64> = normals(3, rows * 4 * n * outputs);
                let weight = loss.total_weight(&batch.all());
                for level in SimdLevel::supported() {
                    let mut grad = vec![f64::NAN; raw.len()];
                    let sum = loss.backward(level, &raw, &batch.all(), 1.0 / weight, &mut grad);
                    assert_eq!(sum, loss.forward(level, &raw, &batch.all()));
                    let factor = loss.finish(sum, weight).gradient_factor;
                    for at in (0..raw.len()).step_by(1 + raw.len() / 40) {
                        let mut value = |moved: f64| {
                            let kept = std::mem::replace(&mut raw[at], moved);
                            let sum = loss.forward(level, &raw, &batch.all());
                            raw[at] = kept;
                            loss.finish(sum, weight).value
                        };
                        let x = normals::<f64>(3, at + 1)[at];
                        let wanted = (value(x + 1e-6) - value(x - 1e-6)) / 2e-6;
                        let what = format!("{} {level} [{at}]", loss.name());
                        assert_close(&what, &[grad[at] * factor], &[wanted], 1e-8, 1e-6);
                    }
                }
                // What is masked may be anything.
                let before = loss.forward(SimdLevel::best(), &raw, &batch.all());
                for i in 0..batch.outsample_y.len() {
                    if batch.outsample_mask[i] == 0.0 || i / n % 4 == 2 {
                        batch.outsample_y[i] = f64::NAN;
                    }
                }
                let mut grad = vec![f64::NAN; raw.len()];
                let after = loss.backward(SimdLevel::best(), &raw, &batch.all(), 1.0, &mut grad);
                assert_eq!(before, after, "{}", loss.name());
                for (i, mask) in batch.outsample_mask.iter().enumerate() {
                    if *mask == 0.0 {
                        let own = &grad[i * outputs..][..outputs];
                        assert!(own.iter().all(|&g| g == 0.0), "{} {own:?}", loss.name());
                    }
                }
            }
        }
    }

    #[test]
    fn a_nan_that_counts_comes_through() {
        for kind in kinds() {
            let mut batch = batch(2, 4, 1);
            batch.outsample_y[0] = f64::NAN;
            let loss = LossConfig::from(kind).build::<f64>(4).unwrap();
            let raw = vec![0.5; 8 * loss.outputs_per_step()];
            let sum = loss.forward(SimdLevel::best(), &raw, &batch.all());
            assert!(sum.is_nan(), "{}", loss.name());
        }
    }
}
