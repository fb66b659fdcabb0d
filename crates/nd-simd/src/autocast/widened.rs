//! The gradients of a dense layer where a format has no arithmetic and products are those of f32.
//!
//! ```text
//! for so few rows, but whole chains of a product, that all of this stays in the second cache level
//!     dz = the gradient of the activation's argument, widened or rounded; its column sums
//!     x widened;  dw += x^T dz;  dx = dz w^T, rounded
//! ```
//!
//! A gradient that is kept in sixteen bits is read and widened once, not once for each product, and one that is computed never is sixteen bits.
//! Rows are cut where chains of the f32 product end, and column sums have blocks of their own: bits depend on neither the cuts nor threads.

use nd_core::autograd::{Accumulate, Stored, StoredRef};
use nd_core::{Buffer, Precision, threads};

use super::argument::BlockSums;
use super::blocks::Format;
use super::products::{InputGradient, LayerGradients, Place, round_product_into};
use crate::dispatch::SimdLevel;
use crate::matmul::{Epilogue, MatMut, MatRef, PIECE, Prepared, multiply_on};

/// Numbers of the rows of x and of dz that one thread widens together: 256 KiB. (Twice as many were no faster.)
const ROOM: usize = 1 << 16;

/// The same for all threads together.
const ROOM_PARALLEL: usize = 1 << 20;

/// Numbers of x that one task widens.
const TASK: usize = 1 << 14;

/// The rows that are taken together: whole chains of the product over them. All, where scalars add these up before they touch the result, and of a
/// layer from one number to one, whose weight's gradient is a dot product with sums of its own.
fn height(level: SimdLevel, rows: usize, cols: usize, parallel: bool) -> usize {
    if level == SimdLevel::Scalar || cols == 2 {
        return rows;
    }
    let room = if parallel { ROOM_PARALLEL } else { ROOM };
    let whole = room / cols.max(1) / PIECE * PIECE;
    whole.max(PIECE).min(rows)
}

/// As [`super::linear_backward`]; of at most [`super::blocks::BLOCK`] outputs.
pub(super) fn backward<H: Format>(
    place: Place<'_>,
    [rows, inputs, outputs]: [usize; 3],
    layer: LayerGradients<'_>,
) -> Option<Stored<f32>> {
    let Place {
        level,
        parallel,
        pool,
    } = place;
    let LayerGradients {
        x,
        w_t,
        argument,
        db,
        mut dw,
        mut dx,
    } = layer;
    let height = height(level, rows, inputs + outputs, parallel);
    let mut dz_room: Buffer<f32> = pool.take(height * outputs);
    let mut x_room: Buffer<f32> = pool.take(if dw.is_some() { height * inputs } else { 0 });
    let mut sums = BlockSums::new(place, [rows, outputs], db.is_some());
    let w_t = w_t.map(|w_t| match w_t {
        // Its numbers and those of dz are rounded: nothing is left to do to them.
        Prepared::Wide(_, w_t) => w_t,
        Prepared::Packed(_) => unreachable!("weights are packed where bf16 is multiplied"),
    });
    let is_new = w_t.is_some() && matches!(dx, InputGradient::Rounded);
    let mut new: Buffer<H> = pool.take(if is_new { rows * inputs } else { 0 });
    let mut first = 0;
    // Once at least: no rows give gradients of zero.
    loop {
        let count = height.min(rows - first);
        let here = first * inputs..(first + count) * inputs;
        let dz = &mut dz_room[..count * outputs];
        argument.widened::<H>(place, first, dz, &mut sums);
        let dz = MatRef::row_major(dz, count, outputs);
        if let Some(dw) = &mut dw {
            let wide = &mut x_room[..count * inputs];
            threads::for_each_chunk(parallel, wide, TASK, |i, wide| {
                let start = here.start + i * TASK;
                match (H::of(x), x) {
                    (Some(x), _) => H::widen_all(level, &x[start..start + wide.len()], wide),
                    (None, StoredRef::Full(x)) => {
                        wide.copy_from_slice(&x[start..start + wide.len()]);
                        H::round_all(level, wide);
                    }
                    _ => unreachable!("a run has one format"),
                }
            });
            let x = MatRef::row_major(wide, count, inputs).t();
            let beta = if first == 0 {
                dw.accumulate.beta()
            } else {
                1.0
            };
            let to = MatMut::row_major(dw.values, inputs, outputs);
            multiply_on(level, parallel, x, dz, beta, to, Epilogue::default());
        }
        if let Some(w_t) = w_t {
            let w_t = Prepared::Wide(Precision::F32, w_t);
            let (dz, sizes) = (dz.data(), [count, outputs, inputs]);
            match &mut dx {
                InputGradient::None => {}
                InputGradient::Into(dx) => {
                    let to = MatMut::row_major(&mut dx.values[here], count, inputs);
                    let (beta, plain) = (dx.accumulate.beta(), Epilogue::default());
                    let dz = MatRef::row_major(dz, count, outputs);
                    w_t.multiply(level, parallel, dz, beta, to, plain);
                }
                InputGradient::Rounded => {
                    let (to, how) = (&mut new[here], Accumulate::Write);
                    round_product_into(place, dz, w_t, sizes, how, to);
                }
                InputGradient::AddRounded(dx) => {
                    let Some(dx) = H::of_half(dx.reborrow()) else {
                        unreachable!("a run has one format");
                    };
                    round_product_into(place, dz, w_t, sizes, Accumulate::Add, &mut dx[here]);
                }
            }
        }
        first += count;
        if first == rows {
            break;
        }
    }
    if let Some(db) = db {
        sums.finish(level, db);
    }
    is_new.then(|| H::keep(new))
}
