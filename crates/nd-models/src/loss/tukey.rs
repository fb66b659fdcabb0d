//! NeuralForecast's Tukey loss, for comparison with it.
//!
//! It averages over all entries rather than over the observed ones, and is largest where the error is zero; so
//! [`super::LossKind::Tukey`] is the one to train with.

use nd_core::{BatchView, Loss, SimdLevel};
use nd_simd::SimdReal;

/// Added to the deviation that errors are divided by.
const DEVIATION_EPS: f64 = 1e-2;

#[derive(Debug)]
pub(super) struct NeuralForecastTukey {
    pub(super) c: f64,
    pub(super) normalize: bool,
}

impl NeuralForecastTukey {
    /// The deviation of the observed series of one step, plus a guard.
    fn deviation<R: SimdReal>(&self, y: &[R], mask: &[R]) -> f64 {
        if !self.normalize {
            return 1.0;
        }
        let observed = || {
            let pairs = y.iter().zip(mask).filter(|(_, mask)| **mask >= R::ONE);
            pairs.map(|(y, _)| y.to_f64())
        };
        let mean = |values: &mut dyn Iterator<Item = f64>| {
            let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
            if count == 0.0 { 0.0 } else { sum / count }
        };
        let centre = mean(&mut observed());
        mean(&mut observed().map(|y| (y - centre).powi(2))).sqrt() + DEVIATION_EPS
    }

    fn run<R: SimdReal>(
        &self,
        raw: &[R],
        batch: &BatchView<'_, R>,
        scale: f64,
        mut grad: Option<&mut [R]>,
    ) -> f64 {
        let (y, mask) = (batch.outsample_y, batch.outsample_mask);
        assert_eq!(raw.len(), y.len(), "outputs for targets");
        let n = batch.layout().n_series;
        let height = self.c * self.c / 6.0;
        let mut sum = 0.0;
        for first in (0..y.len()).step_by(n) {
            let step = first..first + n;
            let deviation = self.deviation(&y[step.clone()], &mask[step.clone()]);
            for i in step {
                let e = (raw[i].to_f64() - y[i].to_f64()) / deviation;
                let (t, weight) = (e / self.c, mask[i].to_f64());
                // Beyond c the mask does not count either, except for what is no number.
                let (loss, slope) = if weight == 0.0 && !e.is_finite() {
                    (0.0, 0.0)
                } else if t.abs() > 1.0 {
                    (height, 0.0)
                } else {
                    let rest = 1.0 - t * t;
                    let slope = -6.0 * t * rest * rest / (self.c * deviation);
                    (height * weight * rest.powi(3), height * weight * slope)
                };
                sum += loss;
                if let Some(grad) = grad.as_deref_mut() {
                    grad[i] = R::from_f64(slope * scale);
                }
            }
        }
        sum
    }
}

impl<R: SimdReal> Loss<R> for NeuralForecastTukey {
    fn name(&self) -> String {
        "TukeyLoss".to_owned()
    }

    fn outputs_per_step(&self) -> usize {
        1
    }

    fn output_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        batch.outsample_y.len() as f64
    }

    fn forward(&self, _: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64 {
        self.run(raw, batch, 0.0, None)
    }

    fn backward(
        &self,
        _: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        gradient_scale: R,
        draw: &mut [R],
    ) -> f64 {
        self.run(raw, batch, gradient_scale.to_f64(), Some(draw))
    }
}
