//! Dense layers in sixteen bits: weights rounded once, outputs rounded block by block.

use nd_core::autograd::{Accumulate, Stored, StoredRef};
use nd_core::{Buffer, MemoryPool, Precision, bf16, f16};

use super::argument::Argument;
use super::blocks::{BLOCK, Format, HalfMut};
use super::sums::column_sums_of;
use super::weights::HalfWeight;
use super::widened;
use crate::activations::{Activation, activation_in_place};
use crate::dispatch::SimdLevel;
use crate::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, multiply_half, multiply_half_parallel,
};
use crate::tree::for_each_block;

/// Rows of such a block at most; fewer where rows are long.
const BLOCK_ROWS: usize = 256;

/// Rows of a block below which products are computed as a whole first.
const FEWEST_ROWS: usize = 16;

/// How many rows of `cols` are computed and rounded together; `None` when so few fit that a product would pack its operand for
/// nothing.
fn block_rows(cols: usize) -> Option<usize> {
    let rows = (BLOCK / cols.max(1)).min(BLOCK_ROWS);
    let whole = rows / FEWEST_ROWS * FEWEST_ROWS;
    (whole > 0).then_some(whole)
}

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
    w: HalfWeight<'_>,
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
    w: HalfWeight<'_>,
    sizes: [usize; 3],
    bias: Option<&[f32]>,
    activation: Activation,
    keeps_argument: bool,
) -> (Stored<f32>, Option<Stored<f32>>) {
    let len = sizes[0] * sizes[2];
    let mut y: Buffer<H> = place.pool.take(len);
    let mut z: Buffer<H> = place.pool.take(if keeps_argument { len } else { 0 });
    let product = Product {
        x,
        w,
        sizes,
        bias,
        activation,
        keeps_argument,
        accumulate: Accumulate::Write,
    };
    product.run(place, &mut y, &mut z);
    (H::keep(y), keeps_argument.then(|| H::keep(z)))
}

/// A product whose results are rounded on their way out.
struct Product<'a, A> {
    x: &'a [A],
    w: HalfWeight<'a>,
    /// The rows of `x`, and those and the columns of `w`.
    sizes: [usize; 3],
    bias: Option<&'a [f32]>,
    activation: Activation,
    /// Whether the argument of the activation is wanted, too.
    keeps_argument: bool,
    accumulate: Accumulate,
}

impl<A: Operand> Product<'_, A> {
    /// Writes or adds to `y`, and writes the argument of the activation to `z`, which is empty if nobody wants it.
    fn run<H: Format>(self, place: Place<'_>, y: &mut [H], z: &mut [H]) {
        let Place {
            level,
            parallel,
            pool,
        } = place;
        let Self {
            x,
            w,
            sizes: [rows, inputs, outputs],
            bias,
            activation,
            keeps_argument,
            accumulate,
        } = self;
        let x = MatRef::row_major(x, rows, inputs);
        let in_product = Epilogue {
            bias,
            activation: if keeps_argument {
                Activation::Identity
            } else {
                activation
            },
        };
        let beta = accumulate.beta();
        // What is there already, to be added to.
        let begin = |y: &[H], wide: &mut [f32]| {
            if accumulate == Accumulate::Add {
                H::widen_all(level, y, wide);
            }
        };
        // One block of f32 results to their rounded places.
        let finish = |wide: &mut [f32], y: &mut [H], z: &mut [H]| {
            if keeps_argument {
                H::narrow_all(level, wide, z);
                activation_in_place(level, activation, wide);
            }
            H::narrow_all(level, wide, y);
        };
        let cut = block_rows(outputs).filter(|&block| !parallel || rows >= 2 * block || rows <= 64);
        let Some(block) = cut else {
            let mut wide: Buffer<f32> = pool.take(rows * outputs);
            begin(y, &mut wide);
            let c = MatMut::row_major(&mut wide, rows, outputs);
            w.multiply(level, parallel, x, beta, c, in_product);
            let all = Whole {
                wide: &mut wide,
                y,
                z,
            };
            let total = rows * outputs;
            for_each_block(
                all,
                total,
                BLOCK,
                parallel,
                &Whole::split,
                &|piece: Whole<'_, H>| {
                    finish(piece.wide, piece.y, piece.z);
                },
            );
            return;
        };
        let engine = Bf16Engine::current();
        let all = Rows {
            first: 0,
            cols: outputs,
            y,
            z,
        };
        let task = block * task_blocks(rows, block);
        for_each_block(all, rows, task, parallel, &Rows::split, &|piece: Rows<
            '_,
            H,
        >| {
            let (mut first, mut z) = (piece.first, piece.z);
            let mut room: Buffer<f32> = pool.take(BLOCK);
            // The choice of the thread that asked holds for those that help.
            engine.scope(|| {
                for y in piece.y.chunks_mut((block * outputs).max(1)) {
                    let count = y.len() / outputs.max(1);
                    let (here, rest) = z.split_at_mut(if keeps_argument { y.len() } else { 0 });
                    let wide = &mut room[..y.len()];
                    begin(y, wide);
                    let c = MatMut::row_major(wide, count, outputs);
                    w.multiply(level, false, x.row_block(first, count), beta, c, in_product);
                    finish(wide, y, here);
                    z = rest;
                    first += count;
                }
            });
        });
    }
}

/// Results that are rounded once all are there; `z` may be empty.
struct Whole<'a, H> {
    wide: &'a mut [f32],
    y: &'a mut [H],
    z: &'a mut [H],
}

impl<H> Whole<'_, H> {
    fn split(self, at: usize) -> (Self, Self) {
        let at_z = at.min(self.z.len());
        let (wide, wide_right) = self.wide.split_at_mut(at);
        let (y, y_right) = self.y.split_at_mut(at);
        let (z, z_right) = self.z.split_at_mut(at_z);
        (
            Self { wide, y, z },
            Self {
                wide: wide_right,
                y: y_right,
                z: z_right,
            },
        )
    }
}

/// Rows of results; `z` may be empty.
struct Rows<'a, H> {
    first: usize,
    cols: usize,
    y: &'a mut [H],
    z: &'a mut [H],
}

impl<H> Rows<'_, H> {
    fn split(self, rows: usize) -> (Self, Self) {
        let Self { first, cols, .. } = self;
        let at = rows * cols;
        let at_z = at.min(self.z.len());
        let (y, y_right) = self.y.split_at_mut(at);
        let (z, z_right) = self.z.split_at_mut(at_z);
        (
            Self { first, cols, y, z },
            Self {
                first: first + rows,
                cols,
                y: y_right,
                z: z_right,
            },
        )
    }
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
    pub(crate) w_t: Option<HalfWeight<'a>>,
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
    w: HalfWeight<'_>,
    sizes: [usize; 3],
) -> Stored<f32> {
    forward::<H, H>(place, x, w, sizes, None, Activation::Identity, false).0
}

/// `y += x w` in f32, rounded again; `sizes` as for [`rounded_product`].
pub(crate) fn add_rounded_product<H: Format>(
    place: Place<'_>,
    x: &[H],
    w: HalfWeight<'_>,
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
    w: HalfWeight<'_>,
    sizes: [usize; 3],
    accumulate: Accumulate,
    y: &mut [H],
) {
    let product = Product {
        x,
        w,
        sizes,
        bias: None,
        activation: Activation::Identity,
        keeps_argument: false,
        accumulate,
    };
    product.run(place, y, &mut []);
}
