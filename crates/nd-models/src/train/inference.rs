//! Forward passes over many windows: forecasts in the units of the data, and validation losses.
//!
//! Windows are handled in chunks on tapes that record nothing; a chunk gathers its windows, runs the network, maps the outputs through the loss
//! and undoes the window scaler, which is the one place where that happens. The chunks depend on the number of windows
//! alone, so results do not depend on threads.

use std::sync::{Arc, Mutex, PoisonError};

use nd_core::autograd::{Mode, Params, StepContext, Tape};
use nd_core::rng::Key;
use nd_core::{Batch, Objective, Real, RunOptions, WindowSource, threads};
use nd_data::WindowScaler;

use super::gather::gather;
use super::sampler::WindowIndex;

/// Chunks are not smaller than this unless there are fewer windows, so that many are one chunk on one thread.
pub const ONE_CHUNK: usize = 32;
/// As many chunks as an ordinary machine has cores, when there are enough windows.
const CHUNKS: usize = 16;

/// What a forward pass over windows needs to know.
pub struct Forward<'a, R: Real> {
    /// The network, and the loss that gives its outputs their meaning.
    pub objective: Objective<'a, R>,
    /// The parameters.
    pub params: &'a Arc<Params<R>>,
    /// Where the windows come from, already scaled.
    pub source: &'a dyn WindowSource<R>,
    /// How they were scaled.
    pub scaler: WindowScaler,
    /// The choices of the run.
    pub options: RunOptions,
    /// [`Mode::Infer`], or [`Mode::InferWithDropout`] for Monte Carlo dropout.
    pub mode: Mode,
    /// The key of Monte Carlo dropout.
    pub key: Key,
    /// The place of the first window among all that are forecast with this key; only dropout looks at it.
    pub first_row: usize,
    /// The largest number of windows on one tape.
    pub max_chunk: usize,
}

struct Slot<R: Real> {
    tape: Tape<R>,
    batch: Batch<R>,
    insample: Vec<R>,
}

/// Runs forward passes; keeps tapes and batches between calls.
pub struct Inference<R: Real = f32> {
    spare: Mutex<Vec<Slot<R>>>,
}

impl<R: Real> Default for Inference<R> {
    fn default() -> Self {
        Self {
            spare: Mutex::new(Vec::new()),
        }
    }
}

impl<R: Real> std::fmt::Debug for Inference<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inference").finish_non_exhaustive()
    }
}

/// The sums of a validation loss over some windows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    loss: f64,
    weight: f64,
}

impl<R: Real> Forward<'_, R> {
    /// The number of values that one window's forecast has: `h * Q`, or `h * n * Q` for multivariate networks.
    #[must_use]
    pub fn forecast_len(&self) -> usize {
        let layout = self.source.layout();
        layout.horizon * layout.n_series * self.objective.loss.outputs_per_step()
    }

    fn chunk(&self, windows: usize) -> usize {
        windows
            .div_ceil(CHUNKS)
            .max(ONE_CHUNK)
            .min(self.max_chunk.max(1))
    }

    /// Undoes the window scaler on the forecasts of a batch.
    fn unscale(&self, batch: &Batch<R>, forecasts: &mut [R]) {
        let n = batch.layout().n_series;
        let outputs = self.objective.loss.outputs_per_step();
        let statistics = batch.loc.chunks(n).zip(batch.scale.chunks(n));
        for (row, (loc, scale)) in forecasts.chunks_mut(self.forecast_len()).zip(statistics) {
            if n == 1 {
                self.scaler.inverse(loc[0], scale[0], row);
                continue;
            }
            for (i, values) in row.chunks_mut(outputs).enumerate() {
                self.scaler.inverse(loc[i % n], scale[i % n], values);
            }
        }
    }
}

impl<R: Real> Inference<R> {
    /// Forecasts in the units of the data, `[windows, h, Q]` (multivariate: `[windows, h, n, Q]`), written to `out`.
    ///
    /// Call it inside [`nd_core::Threads::install`], unless there are at most [`ONE_CHUNK`] windows.
    ///
    /// # Panics
    /// `out` has not [`Forward::forecast_len`] values for each window.
    #[track_caller]
    pub fn forecast(&self, forward: &Forward<'_, R>, windows: &[WindowIndex], out: &mut [R]) {
        let per_window = forward.forecast_len();
        assert_eq!(
            out.len(),
            windows.len() * per_window,
            "values for {} windows",
            windows.len()
        );
        if windows.is_empty() || per_window == 0 {
            return;
        }
        let chunk = forward.chunk(windows.len());
        threads::for_each_chunk(threads::parallel(), out, chunk * per_window, |i, out| {
            let rows = &windows[i * chunk..i * chunk + out.len() / per_window];
            self.with_slot(forward, |slot| {
                run(forward, i * chunk, rows, slot, |values, batch| {
                    out.copy_from_slice(values);
                    forward.objective.loss.domain_map(out, &batch.all());
                    forward.unscale(batch, out);
                });
            });
        });
    }

    /// The loss over windows, between forecasts and targets in the units of the data; `None` without observed targets.
    ///
    /// Call it inside [`nd_core::Threads::install`].
    pub fn evaluate(&self, forward: &Forward<'_, R>, windows: &[WindowIndex]) -> Option<f64> {
        let chunk = forward.chunk(windows.len());
        let mut sums = vec![Sums::default(); windows.len().div_ceil(chunk)];
        threads::for_each_chunk(threads::parallel(), &mut sums, 1, |i, sums| {
            let rows = &windows[i * chunk..windows.len().min((i + 1) * chunk)];
            self.with_slot(forward, |slot| {
                sums[0] = evaluate_rows(forward, i * chunk, rows, slot)
            });
        });
        let total = sums.iter().fold(Sums::default(), |a, b| Sums {
            loss: a.loss + b.loss,
            weight: a.weight + b.weight,
        });
        let loss = forward.objective.loss;
        (total.weight != 0.0).then(|| loss.finish(total.loss, total.weight).value)
    }

    fn with_slot(&self, forward: &Forward<'_, R>, work: impl FnOnce(&mut Slot<R>)) {
        let spare = self
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut slot = spare.unwrap_or_else(|| Slot {
            tape: Tape::default(),
            batch: Batch::new(forward.source.layout()),
            insample: Vec::new(),
        });
        work(&mut slot);
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(slot);
    }
}

/// Gathers windows, runs the network, and hands the raw outputs and the batch to `finish`.
fn run<R: Real>(
    forward: &Forward<'_, R>,
    first_row: usize,
    windows: &[WindowIndex],
    slot: &mut Slot<R>,
    finish: impl FnOnce(&[R], &Batch<R>),
) {
    gather(forward.source, windows, &mut slot.batch, false);
    slot.tape.begin(StepContext {
        params: Some(Arc::clone(forward.params)),
        options: forward.options,
        mode: forward.mode,
        key: forward.key,
        first_row: forward.first_row + first_row,
        parallel: false,
    });
    let raw = forward
        .objective
        .network
        .forward(&slot.tape, &slot.batch.all());
    finish(&raw.value(), &slot.batch);
    slot.tape.reset();
}

fn evaluate_rows<R: Real>(
    forward: &Forward<'_, R>,
    first_row: usize,
    windows: &[WindowIndex],
    slot: &mut Slot<R>,
) -> Sums {
    let mut sums = Sums::default();
    let mut insample = std::mem::take(&mut slot.insample);
    run(forward, first_row, windows, slot, |values, batch| {
        let loss = forward.objective.loss;
        let mut forecasts = values.to_vec();
        loss.domain_map(&mut forecasts, &batch.all());
        forward.unscale(batch, &mut forecasts);
        insample.clear();
        insample.extend_from_slice(&batch.insample_y);
        let n = batch.layout().n_series;
        for (i, x) in insample.iter_mut().enumerate() {
            let statistics = i / (batch.layout().input_size * n) * n + i % n;
            let (loc, scale) = (batch.loc[statistics], batch.scale[statistics]);
            forward.scaler.inverse(loc, scale, std::slice::from_mut(x));
        }
        let mut view = batch.all();
        view.outsample_y = view.outsample_original;
        view.insample_y = &insample;
        sums.loss = loss.forward(forward.options.simd, &forecasts, &view);
        sums.weight = loss.total_weight(&view);
    });
    slot.insample = insample;
    sums
}
