//! Products whose results are rounded to sixteen bits on their way out.
//!
//! Where tiles multiply and C is bf16, each block of sums is rounded while it is in the first cache level (`amx::rounding`). Everywhere else:
//!
//! ```text
//! pack or widen B once, if several blocks of rows read it
//! for each block of rows, so few that their results stay in the second cache level, if columns are few       (over the threads)
//!     the product in f32, to room of its own
//!     round it
//! ```
//!
//! Numbers: what the product with an f32 C has, bit for bit, rounded once.

use nd_core::{Buffer, bf16, threads};

use super::Operand;
use super::pack::{PackedBf16, pack_bf16_on, packed_bf16_len};
use super::task::{Chosen, Right, Task};
use super::widen::{blocks, fetch, lent, unpack, wide_len, widen};
use crate::activations::{Activation, activation_in_place};
use crate::dispatch::SimdLevel;
use crate::matmul::kernel::WHOLE_ROWS;
use crate::matmul::pack::take;
use crate::matmul::parallel::for_each_block;
use crate::matmul::view::MatMut;
use crate::matmul::{Epilogue, Fetch};

/// f32 results of a block of rows that wait to be rounded: 128 KiB, where rows are short.
const BLOCK: usize = 32 * 1024;

/// Rows of a block at most.
const MOST_ROWS: usize = 256;

/// Rows of a block at least: with fewer, a product would read its right operand for nothing.
const FEWEST_ROWS: usize = 64;

/// Numbers that one thread rounds at a time.
const PART: usize = 1 << 14;

/// Rows that are computed and rounded together, when there are many: whole blocks of the engine's kernels.
fn block_rows(engine: Chosen, cols: usize) -> usize {
    let rows = (BLOCK / cols).clamp(FEWEST_ROWS, MOST_ROWS);
    match engine {
        Chosen::Widening => rows.next_multiple_of(WHOLE_ROWS),
        #[cfg(target_arch = "x86_64")]
        _ => rows / 16 * 16,
    }
}

/// Where rounded results go.
///
/// Pointers, because threads write disjoint blocks of the matrices.
#[derive(Clone, Copy)]
pub(super) struct Rounded<H> {
    c: *mut H,
    c_row_stride: usize,
    /// What the activation is applied to; null if nobody wants it.
    argument: *mut H,
    argument_row_stride: usize,
}

// SAFETY: whoever uses the pointers promises that the places are borrowed and that no two threads write one of them.
unsafe impl<H: Send> Send for Rounded<H> {}
// SAFETY: as above.
unsafe impl<H: Send> Sync for Rounded<H> {}

impl<H: Operand> Rounded<H> {
    /// The places of `c` and of a matrix of the same shape for the argument of the activation. The columns of both are neighbours.
    pub(super) fn new(c: &mut MatMut<'_, H>, argument: Option<&mut MatMut<'_, H>>) -> Self {
        let (argument, argument_row_stride) = argument.map_or((std::ptr::null_mut(), 0), |z| {
            debug_assert_eq!((z.rows(), z.cols()), (c.rows(), c.cols()));
            (z.data_mut().as_mut_ptr(), z.row_stride())
        });
        Self {
            c: c.data_mut().as_mut_ptr(),
            c_row_stride: c.row_stride(),
            argument,
            argument_row_stride,
        }
    }

    /// The same, where the format is bf16.
    #[cfg(target_arch = "x86_64")]
    fn of_bf16(self) -> Option<Rounded<bf16>> {
        (H::DTYPE == nd_core::DType::Bf16).then(|| Rounded {
            c: self.c.cast(),
            c_row_stride: self.c_row_stride,
            argument: self.argument.cast(),
            argument_row_stride: self.argument_row_stride,
        })
    }

    /// The results' place in a row.
    pub(super) fn c(&self, row: usize, column: usize) -> *mut H {
        self.c.wrapping_add(row * self.c_row_stride + column)
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn c_row_stride(&self) -> usize {
        self.c_row_stride
    }

    /// The place of the argument; `None` if nobody wants it.
    pub(super) fn argument(&self, row: usize, column: usize) -> Option<*mut H> {
        let at = row * self.argument_row_stride + column;
        (!self.argument.is_null()).then(|| self.argument.wrapping_add(at))
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) fn argument_row_stride(&self) -> usize {
        self.argument_row_stride
    }

    /// Where rows of so many columns are going to be written.
    fn fetch(&self, first: usize, rows: usize, cols: usize) -> Fetch {
        let rows_of = |start: *mut H, stride: usize| {
            Fetch::default().then_rows(start.cast_const(), rows, cols, stride)
        };
        let c = rows_of(self.c(first, 0), self.c_row_stride);
        match self.argument(first, 0) {
            Some(z) => c.and(rows_of(z, self.argument_row_stride)),
            None => c,
        }
    }

    /// Rounds f32 rows from `first` on; where the argument is wanted, the activation is still to be applied to them.
    ///
    /// # Safety
    /// The rows exist, and are ours.
    unsafe fn round(
        &self,
        level: SimdLevel,
        activation: Activation,
        cols: usize,
        first: usize,
        wide: &mut [f32],
    ) {
        let dense = self.c_row_stride == cols
            && (self.argument.is_null() || self.argument_row_stride == cols);
        let len = if dense { wide.len() } else { cols };
        for (i, wide) in wide.chunks_mut(len).enumerate() {
            let row = first + i;
            // SAFETY: the caller's; `len` is a row, or there are no gaps between rows.
            unsafe {
                if let Some(z) = self.argument(row, 0) {
                    H::narrow_slice(level, wide, std::slice::from_raw_parts_mut(z, len));
                    activation_in_place(level, activation, wide);
                }
                let c = std::slice::from_raw_parts_mut(self.c(row, 0), len);
                H::narrow_slice(level, wide, c);
            }
        }
    }
}

impl<A: Operand, B: Operand> Task<'_, A, B> {
    /// Computes all of C, which is sixteen bits wide.
    ///
    /// # Safety
    /// The places are borrowed, of the shape of C, and nobody else touches them.
    pub(super) unsafe fn run_rounded<H: Operand>(self, to: Rounded<H>, parallel: bool) {
        if self.a.rows() == 0 || self.b.cols() == 0 {
            return;
        }
        #[cfg(target_arch = "x86_64")]
        if let (Chosen::Tiles(_), Some(to)) = (self.engine, to.of_bf16()) {
            let rounded = Some(to);
            return Task { rounded, ..self }.run_engine(parallel);
        }
        // SAFETY: the caller's.
        unsafe { self.run_in_blocks(to, parallel) };
    }

    /// [`Task::run_rounded`] by way of f32.
    ///
    /// # Safety
    /// As [`Task::run_rounded`].
    unsafe fn run_in_blocks<H: Operand>(self, to: Rounded<H>, parallel: bool) {
        let (m, k, n) = (self.a.rows(), self.a.cols(), self.b.cols());
        let height = block_rows(self.engine, n);
        // A block is for one thread; with fewer than threads, these share the product instead. (One thread alone does not ask for their
        // number: outside of a pool that would start rayon's global one.)
        if m <= height || (parallel && m < rayon::current_num_threads().max(2) * height) {
            // SAFETY: the caller's.
            return unsafe { self.round_rows(to, 0, m, &mut take(m * n), parallel, self.soon) };
        }
        let (packed, mut wide): (Buffer<bf16>, Buffer<f32>);
        let (level, precision) = (self.level, self.precision);
        let b = match (self.engine, self.b) {
            // Sums of a single column end where its product cuts k: it is left to do that.
            _ if level == SimdLevel::Scalar || n == 1 => self.b,
            (Chosen::Widening, Right::Plain(b)) if lent(precision, b).is_none() => {
                wide = take(wide_len(k, n));
                Right::Wide(widen(level, precision, parallel, b, &mut wide))
            }
            (Chosen::Widening, Right::Packed(b)) => {
                wide = take(wide_len(k, n));
                Right::Wide(unpack(level, b, 0, k, &mut wide))
            }
            (engine, Right::Plain(b)) if !matches!(engine, Chosen::Widening) => {
                let mut room = take(packed_bf16_len(k, n));
                pack_bf16_on(level, parallel, b, &mut room);
                packed = room;
                Right::Packed(PackedBf16::new(&packed, k, n))
            }
            (_, b) => b,
        };
        let task = Task { b, ..self };
        // Several blocks for each task where there are many: it takes its room from a pool first.
        let tasks = if parallel {
            m.div_ceil(height * (m / height / 16).clamp(1, 8))
        } else {
            1
        };
        for_each_block(0, tasks, &|index| {
            let (first, end) = (index * m / tasks, (index + 1) * m / tasks);
            let mut room = take(height.min(m) * n);
            for (row, rows) in blocks(end - first, height) {
                let row = first + row;
                let below = row + rows;
                let next = task.a.row_block(below, height.min(end - below));
                let soon = to.fetch(row, rows, n).and(fetch(next));
                // SAFETY: the caller's; rows are those of one task alone.
                unsafe { task.round_rows(to, row, rows, &mut room, false, soon) };
            }
        });
    }

    /// Some rows of C, by way of `room`; what comes `soon` is asked for.
    ///
    /// # Safety
    /// As [`Task::run_rounded`], for these rows.
    unsafe fn round_rows<H: Operand>(
        &self,
        to: Rounded<H>,
        first: usize,
        rows: usize,
        room: &mut [f32],
        parallel: bool,
        soon: Fetch,
    ) {
        let (level, n) = (self.level, self.b.cols());
        let wide = &mut room[..rows * n];
        let at_once = (PART / n).max(1);
        if self.beta != 0.0 {
            for (i, wide) in wide.chunks_exact_mut(n).enumerate() {
                // SAFETY: the caller's: a row of C.
                let c = unsafe { std::slice::from_raw_parts(to.c(first + i, 0), n) };
                H::widen_slice(level, c, wide);
            }
        }
        let Epilogue { bias, activation } = self.epilogue;
        let epilogue = Epilogue {
            bias,
            activation: match to.argument(first, 0) {
                Some(_) => Activation::Identity,
                None => activation,
            },
        };
        let part = Task {
            a: self.a.row_block(first, rows),
            epilogue,
            finish: epilogue.finish(),
            soon,
            ..*self
        };
        part.run(&mut MatMut::row_major(wide, rows, n), parallel);
        threads::for_each_chunk(parallel, wide, at_once * n, |i, wide| {
            // SAFETY: the caller's; chunks are whole rows.
            unsafe { to.round(level, activation, n, first + i * at_once, wide) };
        });
    }
}

#[cfg(test)]
mod tests {
    use nd_core::{bf16, f16};

    use crate::activations::Activation;
    use crate::dispatch::SimdLevel;
    use crate::matmul::{
        Bf16Engine, Epilogue, MatMut, MatRef, Operand, PackedBf16, Prepared, multiply_prepared,
        pack_bf16, packed_bf16_len,
    };

    /// Both results of a product, and what the one with an f32 C has.
    fn check<H: Operand>(
        level: SimdLevel,
        [m, k, n]: [usize; 3],
        b: Prepared<'_>,
        parallel: bool,
        round: fn(f32) -> H,
    ) {
        let a: Vec<f32> = (0..m * k).map(|i| (i % 13) as f32 / 8.0 - 0.7).collect();
        let bias: Vec<f32> = (0..n).map(|j| (j % 7) as f32 / 3.0 - 1.0).collect();
        let a = MatRef::row_major(&a, m, k);
        for activation in [Activation::Gelu, Activation::Relu, Activation::Silu] {
            let epilogue = |activation| Epilogue {
                bias: Some(&bias[..]),
                activation,
            };
            let wide = |activation| {
                let mut c = vec![0.0_f32; m * n];
                let to = MatMut::row_major(&mut c, m, n);
                b.multiply(level, false, a, 0.0, to, epilogue(activation));
                c
            };
            let (mut y, mut z) = (vec![H::ZERO; m * n], vec![H::ZERO; m * n]);
            multiply_prepared(
                level,
                parallel,
                1.0,
                a,
                b,
                0.0,
                MatMut::row_major(&mut y, m, n),
                Some(MatMut::row_major(&mut z, m, n)),
                epilogue(activation),
            );
            for (got, want) in [(y, wide(activation)), (z, wide(Activation::Identity))] {
                for (i, (got, want)) in got.iter().zip(want).enumerate() {
                    let want = round(want).widen();
                    let got = got.widen();
                    assert_eq!(
                        got.to_bits(),
                        want.to_bits(),
                        "{level} {activation:?} {m} x {k} x {n}, {i}: {got} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_argument_of_an_activation_comes_with_its_value() {
        for level in nd_testing::levels() {
            for sizes @ [_, k, n] in [[1, 3, 5], [45, 1100, 33], [600, 70, 64]] {
                let b: Vec<f32> = (0..k * n).map(|i| (i % 11) as f32 / 8.0 - 0.5).collect();
                let b = MatRef::row_major(&b, k, n);
                let mut packed = vec![bf16::ZERO; packed_bf16_len(k, n)];
                pack_bf16(level, b, &mut packed);
                let packed = Prepared::Packed(PackedBf16::new(&packed, k, n));
                let wide = Prepared::Wide(nd_core::Precision::F32, b);
                for engine in Bf16Engine::supported() {
                    for parallel in [false, true] {
                        engine.scope(|| {
                            check(level, sizes, packed, parallel, bf16::from_f32_const);
                            check(level, sizes, wide, parallel, bf16::from_f32_const);
                            check(level, sizes, wide, parallel, f16::from_f32_const);
                        });
                    }
                }
            }
        }
    }
}
