//! Dense layers in sixteen bits: weights are rounded once, outputs on their way out of the product.

use nd_core::autograd::{Accumulate, Stored, StoredRef};
use nd_core::{Buffer, MemoryPool, Precision, bf16, f16};

use super::argument::Argument;
use super::blocks::{BLOCK, Format, HalfMut};
use super::sums::column_sums_of;
use super::widened;
use crate::activations::Activation;
use crate::dispatch::SimdLevel;
use crate::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, Prepared, multiply_half, multiply_half_parallel,
    multiply_prepared,
};

/// Blocks of a task: several where there are many, for each task takes room from the pool first.
pub(super) fn task_blocks(rows: usize, block: usize) -> usize {
    (rows / block / 16).clamp(1, 8)
}

/// Where and how a layer runs.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) level: SimdLevel,
    pub(crate) parallel: bool,
    pub(crate) pool: &'a MemoryPool,
}

/// `y = activation(x w + b)` and, where asked for, the argument of the activation, both rounded to the format.
pub(crate) fn linear_forward(
    place: Place<'_>,
    precision: Precision,
    x: StoredRef<'_, f32>,
    w: Prepared<'_>,
    sizes: [usize; 3],
    bias: Option<&[f32]>,
    activation: Activation,
    keeps_argument: bool,
) -> (Stored<f32>, Option<Stored<f32>>) {
    match (precision, x) {
        (Precision::F16, StoredRef::F16(x)) => {
            forward::<f16, _>(place, x, w, sizes, bias, activation, keeps_argument)
        }
        (Precision::F16, StoredRef::Full(x)) => {
            forward::<f16, _>(place, x, w, sizes, bias, activation, keeps_argument)
        }
        (_, StoredRef::Bf16(x)) => {
            forward::<bf16, _>(place, x, w, sizes, bias, activation, keeps_argument)
        }
        (_, StoredRef::Full(x)) => {
            forward::<bf16, _>(place, x, w, sizes, bias, activation, keeps_argument)
        }
        _ => unreachable!("a run has one format"),
    }
}

fn forward<H: Format, A: Operand>(
    place: Place<'_>,
    x: &[A],
    w: Prepared<'_>,
    sizes: [usize; 3],
    bias: Option<&[f32]>,
    activation: Activation,
    keeps_argument: bool,
) -> (Stored<f32>, Option<Stored<f32>>) {
    let len = sizes[0] * sizes[2];
    let mut y: Buffer<H> = place.pool.take(len);
    let mut z: Option<Buffer<H>> = keeps_argument.then(|| place.pool.take(len));
    let [rows, inputs, outputs] = sizes;
    multiply_prepared(
        place.level,
        place.parallel,
        1.0,
        MatRef::row_major(x, rows, inputs),
        w,
        0.0,
        MatMut::row_major(&mut y, rows, outputs),
        z.as_mut().map(|z| MatMut::row_major(z, rows, outputs)),
        Epilogue { bias, activation },
    );
    (H::keep(y), z.map(H::keep))
}

/// A gradient's place, and whether to write or to add.
pub(crate) struct Gradient<'a> {
    pub(crate) values: &'a mut [f32],
    pub(crate) accumulate: Accumulate,
}

/// What the gradients of a dense layer are made of.
pub(crate) struct LayerGradients<'a> {
    pub(crate) x: StoredRef<'a, f32>,
    /// The transpose of the weight, `[outputs, inputs]`; for `dx`.
    pub(crate) w_t: Option<Prepared<'a>>,
    pub(crate) argument: Argument<'a>,
    pub(crate) db: Option<Gradient<'a>>,
    pub(crate) dw: Option<Gradient<'a>>,
    pub(crate) dx: InputGradient<'a>,
}

/// What becomes of the gradient of the input.
pub(crate) enum InputGradient<'a> {
    /// Nobody wants it.
    None,
    /// It is written or added to f32.
    Into(Gradient<'a>),
    /// It is new, and rounded.
    Rounded,
    /// It is added to a rounded one, and the sum is rounded.
    AddRounded(HalfMut<'a>),
}

/// The gradients of [`linear_forward`]; `sizes` are rows, inputs and outputs. The gradient of the input is returned when it is rounded.
pub(crate) fn linear_backward(
    place: Place<'_>,
    precision: Precision,
    sizes: [usize; 3],
    layer: LayerGradients<'_>,
) -> Option<Stored<f32>> {
    let is_widened =
        precision == Precision::F16 || Bf16Engine::at(place.level) == Bf16Engine::Widen;
    // Rows that fit no block are rare, and computed part by part.
    match (precision, is_widened && sizes[2] <= BLOCK) {
        (Precision::F16, true) => widened::backward::<f16>(place, sizes, layer),
        (Precision::F16, false) => backward::<f16>(place, precision, sizes, layer),
        (_, true) => widened::backward::<bf16>(place, sizes, layer),
        (_, false) => backward::<bf16>(place, precision, sizes, layer),
    }
}

fn backward<H: Format>(
    place: Place<'_>,
    precision: Precision,
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
        dw,
        dx,
    } = layer;
    // Without an activation a rounded gradient is what the products read.
    let computed;
    let dz: &[H] = match argument.given::<H>() {
        Some(dy) => {
            if let Some(db) = db {
                column_sums_of(level, parallel, pool, dy, db.values, db.accumulate);
            }
            dy
        }
        _ => {
            computed = argument.rounded::<H>(place, [rows, outputs], db);
            &computed
        }
    };
    if let Some(dw) = dw {
        let dz = MatRef::row_major(dz, rows, outputs);
        let to = MatMut::row_major(dw.values, inputs, outputs);
        let beta = dw.accumulate.beta();
        let end = Epilogue::default();
        let multiply = |x: StoredRef<'_, f32>| match (H::of(x), x) {
            (Some(x), _) => {
                let x = MatRef::row_major(x, rows, inputs).t();
                if parallel {
                    multiply_half_parallel(level, precision, 1.0, x, dz, beta, to, end);
                } else {
                    multiply_half(level, precision, 1.0, x, dz, beta, to, end);
                }
            }
            (None, StoredRef::Full(x)) => {
                let x = MatRef::row_major(x, rows, inputs).t();
                if parallel {
                    multiply_half_parallel(level, precision, 1.0, x, dz, beta, to, end);
                } else {
                    multiply_half(level, precision, 1.0, x, dz, beta, to, end);
                }
            }
            _ => unreachable!("a run has one format"),
        };
        multiply(x);
    }
    let w_t = w_t?;
    match dx {
        InputGradient::None => None,
        InputGradient::Into(dx) => {
            let to = MatMut::row_major(dx.values, rows, inputs);
            let dz = MatRef::row_major(dz, rows, outputs);
            let beta = dx.accumulate.beta();
            w_t.multiply(level, parallel, dz, beta, to, Epilogue::default());
            None
        }
        InputGradient::Rounded => Some(rounded_product(place, dz, w_t, [rows, outputs, inputs])),
        InputGradient::AddRounded(dx) => {
            add_rounded_product(place, dz, w_t, [rows, outputs, inputs], dx);
            None
        }
    }
}

/// `x w`, rounded; `sizes` are the rows of `x` and those and the columns of `w`.
pub(crate) fn rounded_product<H: Format>(
    place: Place<'_>,
    x: &[H],
    w: Prepared<'_>,
    sizes: [usize; 3],
) -> Stored<f32> {
    forward::<H, H>(place, x, w, sizes, None, Activation::Identity, false).0
}

/// `y += x w` in f32, rounded again; `sizes` as for [`rounded_product`].
pub(crate) fn add_rounded_product<H: Format>(
    place: Place<'_>,
    x: &[H],
    w: Prepared<'_>,
    sizes: [usize; 3],
    y: HalfMut<'_>,
) {
    let Some(y) = H::of_half(y) else {
        unreachable!("a run has one format");
    };
    round_product_into(place, x, w, sizes, Accumulate::Add, y);
}

/// `x w`, or `y + x w` in f32, rounded into `y`; `sizes` as for [`rounded_product`].
pub(super) fn round_product_into<A: Operand, H: Format>(
    place: Place<'_>,
    x: &[A],
    w: Prepared<'_>,
    sizes: [usize; 3],
    accumulate: Accumulate,
    y: &mut [H],
) {
    let [rows, inputs, outputs] = sizes;
    w.multiply(
        place.level,
        place.parallel,
        MatRef::row_major(x, rows, inputs),
        accumulate.beta(),
        MatMut::row_major(y, rows, outputs),
        Epilogue::default(),
    );
}
