//! Matrix products: `C = alpha A B + beta C`, with any strides, optional bias and activation, on one thread or many.
//!
//! The simple version is three nested loops, [`crate::reference::matmul`]. What makes it fast, each in its file:
//! * `kernel`: a block of 6 x 4 vectors of C (8 x 3, 12 x 2) stays in registers while k runs;
//! * `fetch`: while a product computes, memory that the next one reads is on its way;
//! * `blocking`: the loops around it, so that a panel of B is read from L2 and A streams past; `cut`: which rows and columns pass together;
//! * `pack`: panels of B are copied only where that pays, which for row-major operands is rare;
//! * `gemv`: dot products when there is one column, whole rows of B when there are one or two rows;
//! * `parallel`: fixed blocks of rows or columns over the threads of the current pool.
//!
//! What has run before allocates nothing: rooms come from a pool that keeps them, for a large product on one thread up to 4 MiB of panels and a
//! quarter of a MiB of A, for each product that runs at the same time. Each element of C is the sum, in the order of k, of chains of 128
//! fused multiply-adds, so its bits depend neither on
//! the shape of the blocks nor on how many rows or columns are computed in one call, nor on the number of threads.
//! (Single columns are dot products: their bits depend on the instruction set, but on nothing else.)
//!
//! Known weakness: a column-major B is transposed panel by panel for every call; weights that are used often should be
//! kept transposed ([`crate::permute::transpose`]). One or two columns of a column-major product use few lanes.

mod array;
mod blocking;
mod cut;
mod fetch;
mod gemv;
mod half;
mod kernel;
mod pack;
mod parallel;
mod prepacked;
mod stack;
mod view;

pub use array::{gemm, gemm_into, gemv, gemv_into};
pub use fetch::Fetch;
use fetch::Stream;
pub use half::{
    BF16_ENV, Bf16Engine, HALF_PRODUCT_ERROR, Operand, PackedBf16, UnknownBf16Engine,
    multiply_half, multiply_half_parallel, multiply_packed, multiply_packed_parallel, pack_bf16,
    packed_bf16_len,
};
pub(crate) use half::{Prepared, multiply_prepared, pack_bf16_on};
pub(crate) use kernel::PIECE;
pub(crate) use parallel::multiply_on;
pub use parallel::{multiply_fused_parallel, multiply_parallel, multiply_stack_parallel};
pub use prepacked::Packed;
pub use stack::{StackMut, StackRef};
pub use view::{MatMut, MatRef};

use crate::activations::Activation;
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use blocking::{Batch, Problem, execute};
use kernel::Finish;

/// What happens to C in the same pass that stores it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a, R> {
    /// Added to each row, `[n]`.
    pub bias: Option<&'a [R]>,
    /// What follows the bias. Identity and ReLU cost nothing; the others are applied to each block while it is in the first
    /// cache level.
    pub activation: Activation,
}

impl<R> Epilogue<'_, R> {
    /// Whether nothing happens.
    fn is_plain(&self) -> bool {
        self.bias.is_none() && self.activation == Activation::Identity
    }

    /// The same as pointers.
    fn finish(&self) -> Finish<R> {
        Finish {
            bias: self.bias.map_or(std::ptr::null(), <[R]>::as_ptr),
            activation: self.activation,
        }
    }
}

/// `C = alpha A B + beta C`. With `beta = 0`, C is not read and may hold anything.
///
/// Shapes: A `[m, k]`, B `[k, n]`, C `[m, n]`, each with any strides. At [`SimdLevel::Scalar`] this is the textbook loop.
///
/// # Panics
/// The shapes do not fit, or the machine lacks the level.
#[track_caller]
pub fn multiply<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
) {
    multiply_fused(level, alpha, a, b, beta, c, Epilogue::default());
}

/// [`multiply`] followed by a bias and an activation, without a second pass over C.
///
/// # Panics
/// As [`multiply`]; or the bias does not have `n` elements; or there is an epilogue and the columns of C are not
/// neighbours (column stride 1).
#[track_caller]
pub fn multiply_fused<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
    epilogue: Epilogue<'_, R>,
) {
    multiply_streaming(level, alpha, a, b, beta, c, epilogue, None);
}

/// [`multiply_fused`], which asks for what the stream says.
#[track_caller]
fn multiply_streaming<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
    epilogue: Epilogue<'_, R>,
    stream: Option<&Stream>,
) {
    let batch = Batch {
        stream: stream.map_or(std::ptr::null(), std::ptr::from_ref),
        ..plan(alpha, a, b, beta, c, epilogue).batch()
    };
    // SAFETY: `plan` checked the operands; the borrows of C and of the stream last until here.
    unsafe { execute(level, &batch) };
}

/// [`multiply`], which meanwhile asks the caches for what is read after it, as far as it has steps to do so: memory that is far away then
/// costs little. The bits are those of [`multiply`].
///
/// ```
/// use nd_simd::SimdLevel;
/// use nd_simd::matmul::{Fetch, MatMut, MatRef, multiply_fetching};
///
/// let (a, b, next) = ([1.0f32; 12], [2.0f32; 12], [0.0f32; 1000]);
/// let mut c = [0.0f32; 16];
/// let soon = Fetch::of(MatRef::row_major(&next, 10, 100));
/// let (a, b) = (MatRef::row_major(&a, 4, 3), MatRef::row_major(&b, 3, 4));
/// multiply_fetching(SimdLevel::current(), 1.0, a, b, 0.0, MatMut::row_major(&mut c, 4, 4), soon);
/// assert_eq!(c, [6.0; 16]);
/// ```
///
/// # Panics
/// As [`multiply`].
#[track_caller]
pub fn multiply_fetching<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
    fetch: Fetch,
) {
    let stream = fetch.stream();
    let epilogue = Epilogue::default();
    multiply_streaming(level, alpha, a, b, beta, c, epilogue, stream.as_ref());
}

/// `y = alpha A x + beta y`. With `beta = 0`, y is not read.
///
/// # Panics
/// `x` does not have as many elements as A has columns, or `y` as it has rows.
#[track_caller]
pub fn multiply_vector<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: MatRef<'_, R>,
    x: &[R],
    beta: R,
    y: &mut [R],
) {
    let x = MatRef::row_major(x, x.len(), 1);
    let rows = y.len();
    multiply(level, alpha, a, x, beta, MatMut::row_major(y, rows, 1));
}

/// `C_i = alpha A_i B_i + beta C_i` for each matrix of three stacks; made for many small products, as in attention.
///
/// # Panics
/// The stacks differ in number, or their matrices do not fit.
#[track_caller]
pub fn multiply_stack<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: StackRef<'_, R>,
    b: StackRef<'_, R>,
    beta: R,
    c: StackMut<'_, R>,
) {
    let Some(batch) = plan_stack(level, alpha, a, b, beta, c) else {
        return;
    };
    // SAFETY: `plan_stack` checked the operands; the borrow of C lasts until here.
    unsafe { execute(level, &batch) };
}

/// A checked product.
#[derive(Clone, Copy)]
struct Plan<R> {
    problem: Problem<R>,
    /// Whether A and B have exchanged their roles.
    turned: bool,
    /// The columns of C as products of their own, for the rare C that has no unit stride at all; else one.
    columns: usize,
    b_step: usize,
    c_step: usize,
}

impl<R: SimdReal> Plan<R> {
    fn batch(self) -> Batch<R> {
        let Self {
            problem,
            columns: count,
            b_step,
            c_step,
            ..
        } = self;
        Batch {
            problem,
            count,
            a_step: 0,
            b_step,
            c_step,
            stream: std::ptr::null(),
        }
    }
}

/// Checks a product and turns it so that the columns of C are neighbours.
#[track_caller]
fn plan<R: SimdReal>(
    alpha: R,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    mut c: MatMut<'_, R>,
    epilogue: Epilogue<'_, R>,
) -> Plan<R> {
    let (m, k, n) = (a.rows(), a.cols(), b.cols());
    assert!(
        b.rows() == k && c.rows() == m && c.cols() == n,
        "C [{}, {}] = A [{m}, {k}] B [{}, {n}]: the shapes do not fit",
        c.rows(),
        c.cols(),
        b.rows()
    );
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), n, "the bias of a product with {n} columns");
    }
    let plain = epilogue.is_plain();
    assert!(
        plain || c.col_stride() == 1 || n <= 1,
        "an epilogue needs neighbouring columns, found the strides ({}, {}) of C [{m}, {n}]",
        c.row_stride(),
        c.col_stride()
    );
    // C^T = B^T A^T where that makes the columns of C neighbours, and for a single row or column also where it makes
    // the other operand row-major.
    let turned = plain
        && if n == 1 {
            m > 1 && a.col_stride() != 1 && c.row_stride() == 1
        } else if m == 1 {
            b.col_stride() != 1 || c.col_stride() != 1
        } else {
            c.col_stride() != 1
        };
    let (a, b, mut c) = if turned {
        (b.t(), a.t(), c.t())
    } else {
        (a, b, c.reborrow())
    };
    let (m, n) = (c.rows(), c.cols());
    let unit = c.col_stride() == 1 || n <= 1;
    let problem = Problem {
        m,
        n: if unit { n } else { 1 },
        k,
        alpha,
        a: a.data().as_ptr(),
        a_strides: (a.row_stride(), a.col_stride()),
        b: b.data().as_ptr(),
        b_strides: (b.row_stride(), b.col_stride()),
        beta,
        c_row_stride: c.row_stride(),
        finish: epilogue.finish(),
        single_column: n == 1,
        c: c.data_mut().as_mut_ptr(),
    };
    Plan {
        problem,
        turned,
        columns: if unit { 1 } else { n },
        b_step: b.col_stride(),
        c_step: c.col_stride(),
    }
}

/// Checks a stack of products; `None` when there is nothing to do, or when it has been done.
#[track_caller]
fn plan_stack<R: SimdReal>(
    level: SimdLevel,
    alpha: R,
    a: StackRef<'_, R>,
    b: StackRef<'_, R>,
    beta: R,
    mut c: StackMut<'_, R>,
) -> Option<Batch<R>> {
    let count = c.count;
    assert!(
        a.count == count && b.count == count,
        "stacks of {} and {} matrices for {count} products",
        a.count,
        b.count
    );
    if count == 0 {
        return None;
    }
    let epilogue = Epilogue::default();
    let plan = plan(alpha, a.first, b.first, beta, c.first.reborrow(), epilogue);
    let (a_step, b_step) = if plan.turned {
        (b.step, a.step)
    } else {
        (a.step, b.step)
    };
    let problem = plan.problem;
    if plan.columns == 1 {
        return Some(Batch {
            problem,
            count,
            a_step,
            b_step,
            c_step: c.step,
            stream: std::ptr::null(),
        });
    }
    for index in 0..count {
        let mut problem = problem;
        problem.a = problem.a.wrapping_add(index * a_step);
        problem.b = problem.b.wrapping_add(index * b_step);
        problem.c = problem.c.wrapping_add(index * c.step);
        let batch = Plan { problem, ..plan }.batch();
        // SAFETY: `plan` checked the first matrices, the stacks' constructors that the others fit.
        unsafe { execute(level, &batch) };
    }
    None
}
