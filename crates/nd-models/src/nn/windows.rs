//! From the fields of a batch to the inputs of a network: constants of the tape, written in one pass.

use nd_core::autograd::{Tape, Var};
use nd_core::{BatchView, Buffer};
use nd_simd::SimdReal;

use super::dims::ModelDims;

/// Everything known about a window in one row, `[B, L + L X + (L + h) F + S]`: the target, then historic, future and static
/// variables as they lie in the batch.
pub(crate) fn flat_windows<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    batch: &BatchView<'_, R>,
    dims: &ModelDims,
) -> Var<'t, R> {
    let (rows, length) = (batch.rows(), dims.input_size);
    let cols = length + dims.exogenous_values();
    if cols == length {
        return tape.input([rows, length], batch.insample_y);
    }
    let mut out = tape.scratch(rows * cols);
    for (row, out) in out.chunks_exact_mut(cols).enumerate() {
        let row = batch.view(row..row + 1);
        let mut out = out;
        for part in [row.insample_y, row.hist_exog, row.futr_exog, row.stat_exog] {
            let (here, rest) = out.split_at_mut(part.len());
            here.copy_from_slice(part);
            out = rest;
        }
    }
    tape.constant([rows, cols], out)
}

/// What is known at each step of the input, step by step: `[L, B, 1 + X + S + F]` with the target, historic, static and future
/// variables.
pub(crate) fn sequence_inputs<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    batch: &BatchView<'_, R>,
    dims: &ModelDims,
) -> Var<'t, R> {
    let (rows, length) = (batch.rows(), dims.input_size);
    let (hist, futr, stat) = (dims.hist_exog, dims.futr_exog, dims.stat_exog);
    let cols = 1 + hist + stat + futr;
    let mut out = tape.scratch(length * rows * cols);
    for (t, out) in out.chunks_exact_mut((rows * cols).max(1)).enumerate() {
        for (row, out) in out.chunks_exact_mut(cols).enumerate() {
            let at = row * length + t;
            out[0] = batch.insample_y[at];
            let (own, rest) = out[1..].split_at_mut(hist);
            let (fixed, future) = rest.split_at_mut(stat);
            own.copy_from_slice(&batch.hist_exog[at * hist..][..hist]);
            fixed.copy_from_slice(&batch.stat_exog[row * stat..][..stat]);
            let at = row * (length + dims.horizon) + t;
            future.copy_from_slice(&batch.futr_exog[at * futr..][..futr]);
        }
    }
    tape.constant([length, rows, cols], out)
}

/// Windows with their last value subtracted, `[B, L]`, and those last values, `[B]`.
pub(crate) fn centered_windows<'t, R: SimdReal>(
    tape: &'t Tape<R>,
    insample_y: &[R],
    length: usize,
) -> (Var<'t, R>, Buffer<R>) {
    let rows = insample_y.len() / length;
    let mut centered = tape.scratch(insample_y.len());
    let mut levels = tape.scratch(rows);
    for ((centered, level), window) in centered
        .chunks_exact_mut(length)
        .zip(levels.iter_mut())
        .zip(insample_y.chunks_exact(length))
    {
        let last = window[length - 1];
        *level = last;
        for (slot, &x) in centered.iter_mut().zip(window) {
            *slot = x - last;
        }
    }
    (tape.constant([rows, length], centered), levels)
}
