//! FreDF: squared errors in time plus the size of the errors' Fourier coefficients.
//!
//! The Fourier transform is linear, so the coefficients of the error are wanted, not those of truth and forecast. They are
//! sums with tabulated cosines and sines, `h (h / 2 + 1)` pairs: a fast transform would pay above a few hundred
//! steps.
//!
//! The squares are a mean over the observed entries, the coefficients a mean over all. A fixed ratio of both needs the
//! weight of the whole batch, so this loss couples its rows.
//!
//! A masked truth takes part in the coefficients, as in NeuralForecast, unless it is no number: then its error counts
//! as zero.

use nd_core::{BatchView, Loss, RowCoupling, SimdLevel};
use nd_simd::{Isa, Kernel, SimdReal, dispatch};

use super::masked::MaskedLoss;

#[derive(Debug)]
pub(super) struct FreDf<R> {
    alpha: f64,
    horizon: usize,
    /// Cosines, then sines of each frequency: `[h / 2 + 1, 2, h]`.
    waves: Vec<R>,
    time: MaskedLoss<R>,
}

impl<R: SimdReal> FreDf<R> {
    pub(super) fn new(alpha: f64, horizon: usize, time: MaskedLoss<R>) -> Self {
        let angle = |k: usize, t: usize| {
            // The product is reduced first: cosines of large angles lose digits.
            std::f64::consts::TAU * ((k * t) % horizon) as f64 / horizon as f64
        };
        let wave = |function: fn(f64) -> f64, k: usize| {
            (0..horizon).map(move |t| R::from_f64(function(angle(k, t))))
        };
        let waves = (0..=horizon / 2)
            .flat_map(|k| wave(f64::cos, k).chain(wave(f64::sin, k)))
            .collect();
        Self {
            alpha,
            horizon,
            waves,
            time,
        }
    }

    fn run(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        scale: f64,
        mut grad: Option<&mut [R]>,
    ) -> f64 {
        let layout = batch.layout();
        assert_eq!(
            layout.horizon, self.horizon,
            "the horizon that FreDF was built for"
        );
        let entries = batch.outsample_y.len() as f64;
        let weight = self.time.total_weight(batch);
        let share = if weight == 0.0 {
            0.0
        } else {
            (1.0 - self.alpha) * entries / weight
        };
        let squares = match grad.as_deref_mut() {
            Some(grad) => {
                let scale = R::from_f64(scale * share);
                self.time.backward(simd, raw, batch, scale, grad)
            }
            None => self.time.forward(simd, raw, batch),
        };
        let n = layout.n_series;
        let coefficients = batch.rows() * (self.horizon / 2 + 1) * n;
        let frequency_share = self.alpha * entries / (coefficients as f64).max(1.0);
        let mut sizes = 0.0;
        if frequency_share > 0.0 {
            for row in 0..batch.rows() {
                for series in 0..n {
                    let first = row * self.horizon * n + series;
                    let column = first..(first + (self.horizon - 1) * n + 1);
                    sizes += dispatch(
                        simd,
                        Coefficients {
                            waves: &self.waves,
                            horizon: self.horizon,
                            stride: n,
                            y: &batch.outsample_y[column.clone()],
                            mask: &batch.outsample_mask[column.clone()],
                            y_hat: &raw[column.clone()],
                            grad: grad.as_deref_mut().map(|grad| &mut grad[column]),
                            scale: R::from_f64(scale * frequency_share),
                        },
                    );
                }
            }
        }
        squares * share + sizes * frequency_share
    }
}

impl<R: SimdReal> Loss<R> for FreDf<R> {
    fn name(&self) -> String {
        "FreDF".to_owned()
    }

    fn outputs_per_step(&self) -> usize {
        1
    }

    fn output_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn coupling(&self) -> RowCoupling {
        RowCoupling::BatchWide
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        batch.outsample_y.len() as f64
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
}

/// Partial sums of a dot product, so that it need not wait for itself.
const LANES: usize = 16;

/// The sum of the sizes of one series' coefficients; its gradient is added.
struct Coefficients<'a, R> {
    waves: &'a [R],
    horizon: usize,
    stride: usize,
    y: &'a [R],
    mask: &'a [R],
    y_hat: &'a [R],
    grad: Option<&'a mut [R]>,
    scale: R,
}

impl<R: SimdReal> Coefficients<'_, R> {
    /// The error at a step; nothing where it is masked and no number.
    #[inline(always)]
    fn error(&self, t: usize) -> Option<R> {
        let at = t * self.stride;
        let e = self.y_hat[at] - self.y[at];
        (self.mask[at] != R::ZERO || e.is_finite()).then_some(e)
    }
}

impl<R: SimdReal> Kernel for Coefficients<'_, R> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Isa>(mut self, _: S) -> f64 {
        let mut sum = 0.0;
        let waves = self.waves;
        for pair in waves.chunks_exact(2 * self.horizon) {
            let (cosines, sines) = pair.split_at(self.horizon);
            let mut real = [R::ZERO; LANES];
            let mut imaginary = [R::ZERO; LANES];
            for first in (0..self.horizon).step_by(LANES) {
                for t in first..self.horizon.min(first + LANES) {
                    let e = self.error(t).unwrap_or(R::ZERO);
                    real[t - first] += e * cosines[t];
                    imaginary[t - first] += e * sines[t];
                }
            }
            let real: f64 = real.iter().map(|x| x.to_f64()).sum();
            let imaginary: f64 = imaginary.iter().map(|x| x.to_f64()).sum();
            let size = real.hypot(imaginary);
            sum += size;
            if size == 0.0 {
                continue;
            }
            let along = R::from_f64(real / size) * self.scale;
            let across = R::from_f64(imaginary / size) * self.scale;
            let stride = self.stride;
            for t in 0..self.horizon {
                if self.error(t).is_some()
                    && let Some(grad) = self.grad.as_deref_mut()
                {
                    grad[t * stride] += along * cosines[t] + across * sines[t];
                }
            }
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

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for n_series in [1, 2] {
            let mut batch = Batch::<f64>::new(BatchLayout {
                n_series,
                ..BatchLayout::univariate(3, 20)
            });
            batch.resize(3);
            let entries = batch.outsample_y.len();
            batch.outsample_y = normals(1, entries);
            batch.outsample_mask = (0..entries)
                .map(|i| f64::from(u8::from(i % 4 != 1)))
                .collect();
            // A masked truth that is no number.
            batch.outsample_y[n_series] = f64::NAN;
            batch.outsample_mask[n_series] = 0.0;
            let raw: Vec<f64> = normals(2, entries);
            let config = LossConfig::from(LossKind::FreDf { alpha: 0.3 });
            let loss = config.build::<f64>(20).unwrap();
            for level in SimdLevel::supported() {
                let weight = loss.total_weight(&batch.all());
                let mut grad = vec![f64::NAN; entries];
                loss.backward(level, &raw, &batch.all(), 1.0 / weight, &mut grad);
                for at in 0..entries {
                    let value = |step: f64| {
                        let mut raw = raw.clone();
                        raw[at] += step;
                        loss.forward(level, &raw, &batch.all()) / weight
                    };
                    let wanted = (value(1e-6) - value(-1e-6)) / 2e-6;
                    assert_close(
                        &format!("{level} [{at}]"),
                        &[grad[at]],
                        &[wanted],
                        1e-8,
                        1e-6,
                    );
                }
            }
        }
    }
}
