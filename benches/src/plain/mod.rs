//! The networks of the training workloads a second time, as a Rust programmer would write them without this library.
//!
//! In its simple form: arrays of ndarray, a forward pass that keeps what the backward pass needs, a backward pass written by hand, and
//! Adam as a loop. What a step costs is decided by its matrix products, so these can be chosen ([`Products`]): textbook
//! loops, the same loops in the order that the compiler vectorises, or ndarray's `dot`. Everything else is the same in all
//! three: `mapv`, sums along axes, loops over slices, and the scalar functions of std and libm, on one thread. Nothing is
//! slow on purpose: products of whole sequences are one product, gradients that nobody reads are not computed, a layer's
//! memory is changed in place where it can be.
//!
//! Only three things come from the library, because both sides must do the same work: the windows of a step, the weights
//! to begin with and the masks of dropout. None of them takes time that matters, and each runs at the library's best level.
//! A test holds loss and gradient of the first steps against those of the library.
//!
//! Known weakness: arrays are allocated anew in every step, as `dot` and `mapv` do; the allocator keeps most of them.

mod layers;
mod lstm;
mod nhits;
mod patchtst;
mod products;
mod weights;

pub use products::Products;

use std::ops::Range;
use std::time::Instant;

use nd_core::rng::Key;
use nd_core::train_state::SamplerState;
use nd_core::{Batch, TrainState, WindowSource};
use nd_data::PanelWindows;
use nd_models::ModelConfig;
use nd_models::models::PatchTstConfig;
use nd_models::train::gather::gather;
use nd_models::train::sampler::Sampler;
use nd_models::train::schedule::learning_rate;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};

use crate::workloads::training::Prepared;
use weights::{Adam, Weights};

/// What a network's pass over a batch is told.
struct Pass<'a> {
    products: Products,
    weights: &'a Weights,
    gradients: &'a mut Weights,
    /// The seed and step of the masks of dropout.
    key: Key,
}

/// Trains one workload in plain code.
pub struct PlainTrainer<'a> {
    prepared: &'a Prepared,
    source: &'a PanelWindows<'a, f32>,
    products: Products,
    network: PlainNetwork,
    weights: Weights,
    gradients: Weights,
    adam: Adam,
    sampler: Sampler,
    sampler_state: SamplerState,
    batch: Batch<f32>,
}

enum PlainNetwork {
    Nhits,
    Lstm,
    PatchTst(PatchTstConfig),
}

impl<'a> PlainTrainer<'a> {
    /// A trainer that begins with the weights that the library's begins with, and sees the same windows.
    ///
    /// # Errors
    /// There is no plain version of the network.
    pub fn new(
        prepared: &'a Prepared,
        source: &'a PanelWindows<'a, f32>,
        products: Products,
    ) -> Result<Self, String> {
        let network = match &prepared.config {
            ModelConfig::Nhits(_) => PlainNetwork::Nhits,
            ModelConfig::Lstm(_) => PlainNetwork::Lstm,
            ModelConfig::PatchTst(config) => PlainNetwork::PatchTst(config.clone()),
            other => return Err(format!("{} has not been written plainly", other.name())),
        };
        let layout = prepared.network().layout();
        let train = &prepared.train;
        let state = TrainState::<f32>::new(layout, train.seed, train.optimizer.moments());
        let weights = Weights::initial(layout, train.seed);
        Ok(Self {
            prepared,
            source,
            products,
            network,
            gradients: weights.zeros(),
            adam: Adam::new(layout.trainable_len()),
            weights,
            sampler: Sampler::default(),
            sampler_state: state.sampler,
            batch: Batch::new(source.layout()),
        })
    }

    /// Takes the next step; the seconds it took and the loss before it.
    pub fn step(&mut self, windows: usize) -> (f64, f64) {
        let train = &self.prepared.train;
        let start = Instant::now();
        let state = &mut self.sampler_state;
        let drawn = self
            .sampler
            .draw(self.source, state, train.batch_size, Some(windows));
        gather(self.source, drawn, &mut self.batch, false);
        let (rows, workload) = (self.batch.rows(), &self.prepared.workload);
        let batch = self.batch.all();
        let inputs = matrix(batch.insample_y, rows, workload.input_size);
        let targets = matrix(batch.outsample_y, rows, workload.horizon);
        let mut loss = 0.0;
        // Windows at the end of a series have targets that do not exist; they count nothing.
        let seen = matrix(batch.outsample_mask, rows, workload.horizon);
        let mut mae = |forecast: &Array2<f32>| {
            let difference = (forecast - &targets) * seen;
            let count = seen.sum();
            loss = difference.iter().map(|x| f64::from(x.abs())).sum::<f64>() / f64::from(count);
            difference.mapv_into(|x| if x == 0.0 { 0.0 } else { x.signum() / count })
        };
        let pass = Pass {
            products: self.products,
            weights: &self.weights,
            gradients: &mut self.gradients,
            key: Key {
                seed: train.seed,
                step: self.adam.steps(),
                op: 0,
            },
        };
        match &self.network {
            PlainNetwork::Nhits => nhits::pass(pass, inputs, &mut mae),
            PlainNetwork::Lstm => lstm::pass(pass, inputs, workload.horizon, &mut mae),
            PlainNetwork::PatchTst(config) => patchtst::pass(pass, config, inputs, &mut mae),
        }
        let lr = learning_rate(train, u64::from(self.adam.steps()));
        self.adam
            .step(lr as f32, self.gradients.flat(), self.weights.flat_mut());
        (start.elapsed().as_secs_f64(), loss)
    }

    /// The gradient of the last step, in the order of the library's.
    #[must_use]
    pub fn gradients(&self) -> &[f32] {
        self.gradients.flat()
    }
}

/// The rows of a matrix in a range. (ndarray's macro for slices allows itself unsafe code, which this crate forbids.)
fn rows_of(x: &Array2<f32>, rows: Range<usize>) -> ArrayView2<'_, f32> {
    x.slice_axis(Axis(0), Slice::from(rows))
}

fn rows_of_mut(x: &mut Array2<f32>, rows: Range<usize>) -> ArrayViewMut2<'_, f32> {
    x.slice_axis_mut(Axis(0), Slice::from(rows))
}

fn cols_of(x: &Array2<f32>, cols: Range<usize>) -> ArrayView2<'_, f32> {
    x.slice_axis(Axis(1), Slice::from(cols))
}

fn cols_of_mut(x: &mut Array2<f32>, cols: Range<usize>) -> ArrayViewMut2<'_, f32> {
    x.slice_axis_mut(Axis(1), Slice::from(cols))
}

/// Rows of a slice.
fn matrix(values: &[f32], rows: usize, cols: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, cols), values)
        .unwrap_or_else(|_| panic!("{} values are not {rows} rows of {cols}", values.len()))
}

#[cfg(test)]
mod tests {
    use nd_core::{AttentionKind, RunOptions, SimdLevel};

    use super::*;
    use crate::workloads::training::TRAINING;

    /// Of the largest gradient; sums of thousands of f32 in another order differ by less.
    const GRADIENT: f32 = 2e-4;

    #[test]
    fn plain_code_computes_what_the_library_computes() {
        for workload in TRAINING {
            let prepared = workload.prepare().unwrap();
            let source = prepared.source().unwrap();
            let long = workload.input_size > 1000;
            let (windows, steps) = if long { (1, 1) } else { (9, 3) };
            let options = RunOptions {
                simd: SimdLevel::best(),
                attention: AttentionKind::Standard,
                threads: Some(1),
                ..RunOptions::default()
            };
            for products in Products::ALL {
                let mut library = prepared.trainer(&source, options).unwrap();
                let mut plain = PlainTrainer::new(&prepared, &source, products).unwrap();
                for step in 0..steps {
                    let wanted = library.step(windows).unwrap().report.loss;
                    let (_, loss) = plain.step(windows);
                    let name = format!("{} with {products}, step {step}", workload.name);
                    let error = (loss - wanted).abs() / wanted.abs();
                    assert!(error < 1e-4, "{name}: loss {loss}, expected {wanted}");
                    if step == 0 {
                        close(&name, plain.gradients(), library.gradients());
                    }
                }
            }
        }
    }

    /// The library's gradient is not yet divided by the number of targets.
    fn close(name: &str, plain: &[f32], library: &[f32]) {
        let size = |g: &[f32]| g.iter().map(|x| x * x).sum::<f32>().sqrt();
        let factor = size(&plain[..library.len()]) / size(library);
        let largest = library.iter().fold(0f32, |a, x| a.max(x.abs())) * factor;
        for (i, (&a, &b)) in plain.iter().zip(library).enumerate() {
            let error = (a - b * factor).abs();
            assert!(
                error < GRADIENT * largest,
                "{name}: gradient {i} is {a}, expected {}, the largest is {largest}",
                b * factor
            );
        }
    }
}
