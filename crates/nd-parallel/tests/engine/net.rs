//! A network and a loss in plain loops, and a batch with masks.

use std::sync::Arc;

use nd_core::autograd::{Init, Mode, ParamId, ParamLayout, Params, ParamsBuilder, Tape, Var};
use nd_core::rng::Key;
use nd_core::{
    Batch, BatchLayout, BatchView, Loss, LossValue, Network, Objective, Real, RowCoupling,
    RunOptions, SimdLevel,
};
use nd_parallel::{GradientEngine, GradientError, StepOptions};
use nd_testing::ops::{center, dense, dropout, square};

pub(crate) struct Net {
    pub(crate) layout: Arc<ParamLayout>,
    pub(crate) w: [ParamId; 2],
    drop: f64,
    coupled: bool,
}

impl Net {
    pub(crate) fn new(drop: f64, coupled: bool) -> Self {
        let mut b = ParamsBuilder::new();
        let w1 = b.trainable("w1", [6, 5], Init::Uniform(0.5));
        let w2 = b.trainable("w2", [5, 3], Init::Uniform(0.5));
        Self {
            layout: b.build(),
            w: [w1, w2],
            drop,
            coupled,
        }
    }
}

impl<R: Real> Network<R> for Net {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn coupling(&self) -> RowCoupling {
        if self.coupled {
            RowCoupling::BatchWide
        } else {
            RowCoupling::RowLocal
        }
    }

    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R> {
        let x = tape.input([batch.rows(), 6], batch.insample_y);
        let mut x = square(dense(x, tape.param(self.w[0])));
        if self.coupled {
            x = center(x);
        }
        dense(dropout(x, self.drop), tape.param(self.w[1]))
    }
}

fn residuals<R: Real>(raw: &[R], batch: &BatchView<'_, R>) -> Vec<f64> {
    let entries = raw.iter().zip(batch.outsample_y).zip(batch.outsample_mask);
    entries
        .map(|((f, y), m)| {
            if *m == R::ZERO {
                0.0
            } else {
                (*f - *y).to_f64()
            }
        })
        .collect()
}

/// The masked mean of squares, or its root: the root is not additive over shards.
pub(crate) struct Squares {
    pub(crate) root: bool,
}

impl<R: Real> Loss<R> for Squares {
    fn name(&self) -> String {
        "squares".into()
    }

    fn outputs_per_step(&self) -> usize {
        1
    }

    fn output_names(&self) -> Vec<String> {
        vec![String::new()]
    }

    fn domain_map(&self, _: &mut [R], _: &BatchView<'_, R>) {}

    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64 {
        batch.outsample_mask.iter().map(|m| m.to_f64()).sum()
    }

    fn forward(&self, _: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64 {
        residuals(raw, batch).iter().map(|e| e * e).sum()
    }

    fn backward(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        scale: R,
        draw: &mut [R],
    ) -> f64 {
        for (d, e) in draw.iter_mut().zip(residuals(raw, batch)) {
            *d = R::from_f64(2.0 * e * scale.to_f64());
        }
        self.forward(simd, raw, batch)
    }

    fn finish(&self, sum: f64, weight: f64) -> LossValue {
        if weight == 0.0 {
            return LossValue {
                value: 0.0,
                gradient_factor: 1.0,
            };
        }
        let mean = sum / weight;
        if self.root {
            LossValue {
                value: mean.sqrt(),
                gradient_factor: 0.5 / mean.sqrt(),
            }
        } else {
            LossValue {
                value: mean,
                gradient_factor: 1.0,
            }
        }
    }
}

pub(crate) fn batch(rows: usize) -> Batch<f64> {
    let mut batch = Batch::new(BatchLayout::univariate(6, 3));
    batch.resize(rows);
    batch.insample_y = nd_testing::cases::normals(1, rows * 6);
    batch.outsample_y = nd_testing::cases::normals(2, rows * 3);
    for (i, mask) in batch.outsample_mask.iter_mut().enumerate() {
        *mask = f64::from(u8::from(i % 5 != 0));
        if i % 5 == 0 {
            batch.outsample_y[i] = f64::NAN;
        }
    }
    batch
}

pub(crate) fn step(mode: Mode) -> StepOptions {
    let key = Key {
        seed: 3,
        step: 1,
        op: 0,
    };
    StepOptions {
        options: RunOptions::default(),
        key,
        mode,
        loss_scale: 1.0,
        first_row: 0,
    }
}

/// Descent along the gradient for some steps: the last loss and the weights.
pub(crate) fn descend(
    engine: &mut GradientEngine<f64>,
    net: &dyn Network<f64>,
    batch: &Batch<f64>,
    first_row: usize,
    steps: u32,
) -> Result<(f64, Vec<f64>), GradientError> {
    let mut params = Arc::new(Params::<f64>::init(net.layout(), 4));
    let objective = Objective {
        network: net,
        loss: &Squares { root: true },
    };
    let mut loss = f64::NAN;
    for number in 0..steps {
        let mut options = step(Mode::Train);
        options.key.step = number;
        options.first_row = first_row;
        let found = engine.compute(objective, &params, batch, options)?;
        loss = found.loss;
        let weights = Arc::make_mut(&mut params).trainable_mut();
        for (w, g) in weights.iter_mut().zip(engine.gradients().flat()) {
            *w -= 0.02 * found.factor * g;
        }
    }
    Ok((loss, params.flat().to_vec()))
}
