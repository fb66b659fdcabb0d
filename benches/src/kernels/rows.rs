//! Kernels over the rows or columns of a matrix: softmax, norms, sums over columns, biases, and those of series: pooling,
//! moving averages, interpolation, patches, transposes.

use nd_core::Buffer;
use nd_core::autograd::Accumulate::Write;
use nd_simd::elementwise::bias_forward;
use nd_simd::interpolate::{Interpolation, interpolate_forward};
use nd_simd::moving_average::moving_average_forward;
use nd_simd::norm::{
    BatchNormSaved, batch_moments, batch_norm_apply, batch_norm_backward, batch_norm_scratch,
    layer_norm_backward, layer_norm_forward, layer_norm_scratch, rms_norm_forward,
};
use nd_simd::patches::{Patches, patches_forward};
use nd_simd::permute::transpose;
use nd_simd::pool::{Axis, Windows, avg_pool_forward, max_pool_forward};
use nd_simd::reduce::column_sums;
use nd_simd::softmax::{softmax_backward, softmax_forward};

use super::{Case, Run, Work, numbers, zeros};

const SHAPES: [(usize, usize); 4] = [(1024, 12), (1024, 64), (1024, 1024), (12_288, 128)];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols) in SHAPES {
        softmax_and_norms(&mut cases, rows, cols);
        batch_norm(&mut cases, rows, cols);
        columns(&mut cases, rows, cols);
    }
    series(&mut cases);
    cases
}

fn softmax_and_norms(cases: &mut Vec<Case>, rows: usize, cols: usize) {
    let len = rows * cols;
    let shape = format!("{rows} x {cols}");
    cases.push(Case::new(
        format!("softmax {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, mut y) = (numbers(len), zeros(len));
            Run::of(move |level| softmax_forward(level, cols, &x[..], &mut y))
        },
    ));
    let work = Work::elements(len, 3);
    cases.push(Case::new(
        format!("softmax backward {shape}"),
        work,
        move || {
            let (y, dy, mut dx) = (numbers(len), numbers(len), zeros(len));
            Run::of(move |level| softmax_backward(level, cols, &y[..], &dy, &mut dx, Write))
        },
    ));
    cases.push(Case::new(
        format!("layer norm {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, gain, mut y) = (numbers(len), numbers(cols), zeros(len));
            let (mut mean, mut rstd) = (zeros(rows), zeros(rows));
            Run::of(move |level| {
                layer_norm_forward(
                    level,
                    1e-5,
                    &x[..],
                    &gain,
                    &gain,
                    &mut y,
                    &mut mean,
                    &mut rstd,
                );
            })
        },
    ));
    cases.push(Case::new(
        format!("layer norm backward {shape}"),
        work,
        move || {
            let (x, gain, dy) = (numbers(len), numbers(cols), numbers(len));
            let (mean, rstd) = (zeros(rows), Buffer::from_slice(&vec![1.0f32; rows]));
            let (mut dx, mut dg, mut db) = (zeros(len), zeros(cols), zeros(cols));
            let mut scratch = zeros(layer_norm_scratch(rows, cols));
            Run::of(move |level| {
                let dx = Some((&mut dx[..], Write));
                let (dg, db) = (Some((&mut dg[..], Write)), Some((&mut db[..], Write)));
                layer_norm_backward(
                    level,
                    false,
                    &x,
                    &gain,
                    &mean,
                    &rstd,
                    &dy,
                    dx,
                    dg,
                    db,
                    &mut scratch,
                );
            })
        },
    ));
    cases.push(Case::new(
        format!("rms norm {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, gain, mut y, mut rstd) = (numbers(len), numbers(cols), zeros(len), zeros(rows));
            Run::of(move |level| rms_norm_forward(level, 1e-5, &x[..], &gain, &mut y, &mut rstd))
        },
    ));
}

fn batch_norm(cases: &mut Vec<Case>, rows: usize, cols: usize) {
    let len = rows * cols;
    let shape = format!("{rows} x {cols}");
    cases.push(Case::new(
        format!("batch norm {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, gain, mut y) = (numbers(len), numbers(cols), zeros(len));
            let (mut mean, mut variance) = (zeros(cols), zeros(cols));
            let mut scratch = zeros(batch_norm_scratch(rows, cols));
            Run::of(move |level| {
                batch_moments(level, false, &x[..], &mut mean, &mut variance, &mut scratch);
                let saved = BatchNormSaved {
                    eps: 1e-5,
                    mean: &mean[..],
                    variance: &variance,
                    gain: &gain,
                };
                batch_norm_apply(level, false, saved, &gain, &x, &mut y);
            })
        },
    ));
    let work = Work::elements(len, 3);
    cases.push(Case::new(
        format!("batch norm backward {shape}"),
        work,
        move || {
            let (x, gain, dy) = (numbers(len), numbers(cols), numbers(len));
            let (mean, variance) = (zeros(cols), Buffer::from_slice(&vec![1.0f32; cols]));
            let (mut dx, mut dg, mut db) = (zeros(len), zeros(cols), zeros(cols));
            let mut scratch = zeros(batch_norm_scratch(rows, cols));
            Run::of(move |level| {
                let saved = BatchNormSaved {
                    eps: 1e-5,
                    mean: &mean[..],
                    variance: &variance,
                    gain: &gain,
                };
                let dx = Some((&mut dx[..], Write));
                let (dg, db) = (Some((&mut dg[..], Write)), Some((&mut db[..], Write)));
                batch_norm_backward(level, false, saved, &x, &dy, dx, dg, db, &mut scratch);
            })
        },
    ));
}

fn columns(cases: &mut Vec<Case>, rows: usize, cols: usize) {
    let len = rows * cols;
    let shape = format!("{rows} x {cols}");
    cases.push(Case::new(
        format!("column sums {shape}"),
        Work::elements(len, 1),
        move || {
            let (x, mut out) = (numbers(len), zeros(cols));
            Run::of(move |level| column_sums(level, &x[..], &mut out, Write))
        },
    ));
    cases.push(Case::new(
        format!("bias {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, bias, mut y) = (numbers(len), numbers(cols), zeros(len));
            Run::of(move |level| bias_forward(level, &x[..], &bias, &mut y))
        },
    ));
    cases.push(Case::new(
        format!("transpose {shape}"),
        Work::elements(len, 2),
        move || {
            let (x, mut y) = (numbers(len), zeros(len));
            Run::of(move |level| transpose(level, &x[..], rows, cols, &mut y))
        },
    ));
}

/// 1024 series of 96 values.
fn series(cases: &mut Vec<Case>) {
    let (rows, len) = (1024, 96);
    let count = rows * len;
    let axis = Axis::last(rows, len);
    cases.push(Case::new(
        "moving average of 25, 1024 x 96",
        Work::elements(count, 2),
        move || {
            let (x, mut y) = (numbers(count), zeros(count));
            Run::of(move |level| moving_average_forward(level, 25, axis, &x[..], &mut y))
        },
    ));
    let windows = Windows::tiles(2);
    let pooled = rows * windows.count(len);
    cases.push(Case::new(
        "max pool of 2, 1024 x 96",
        Work::elements(count, 2),
        move || {
            let (x, mut y) = (numbers(count), zeros(pooled));
            Run::of(move |level| max_pool_forward(level, windows, axis, &x[..], &mut y))
        },
    ));
    cases.push(Case::new(
        "average pool of 2, 1024 x 96",
        Work::elements(count, 2),
        move || {
            let (x, mut y) = (numbers(count), zeros(pooled));
            Run::of(move |level| avg_pool_forward(level, windows, axis, &x[..], &mut y))
        },
    ));
    cases.push(Case::new(
        "interpolate 12 to 96, 1024 rows",
        Work::elements(count, 1),
        move || {
            let (x, mut y) = (numbers(rows * 12), zeros(count));
            let mode = Interpolation::Linear;
            Run::of(move |level| interpolate_forward(level, mode, 12, len, &x[..], &mut y))
        },
    ));
    let patches = Patches {
        patch: 16,
        stride: 8,
        padding: 8,
    };
    let cut = rows * patches.count(len) * patches.patch;
    cases.push(Case::new(
        "patches of 16, 1024 x 96",
        Work::elements(cut, 1),
        move || {
            let (x, mut y) = (numbers(count), zeros(cut));
            // Copies of rows: the same at every level.
            Run::of(move |_| patches_forward(patches, rows, len, &x[..], &mut y))
        },
    ));
}
