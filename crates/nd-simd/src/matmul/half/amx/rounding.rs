//! From the sums of a block to a C of bf16: rounded while they are in the first cache level.

use nd_core::bf16;

use super::Tiles;
use super::blocking::chain_depth;
use super::config::TILE;
use super::finish::{Room, WIDE, finish, sums};
use super::kernel::{Ahead, STEP, Strips, two_by_two_rounding};
use super::rows::{Last, Rows, widen_rows};
use crate::activations::{Activation, activate_rows};
use crate::matmul::half::Operand;
use crate::matmul::half::rounded::Rounded;
use crate::matmul::half::task::Task;
use crate::matmul::kernel::{Output, Store};

/// A block of C: all rows of the tiles, of which the first `stored` are not ours.
pub(super) struct RoundedPart<'p, 't, A, B> {
    pub(super) task: &'p Task<'t, A, B>,
    pub(super) to: &'p Rounded<bf16>,
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) stored: usize,
    pub(super) column: usize,
    pub(super) cols: usize,
}

/// Sums on their way to C. Those of one block are rounded while the next ones are computed: reading them at once would mean to wait for the
/// last tile products, and the next ones with it.
pub(super) struct Rounder {
    rooms: [Room; 2],
    /// Whether sums are those of one chain, and nothing happens to them but a bias and a ReLU.
    is_plain: bool,
    /// The room that the next block gets.
    next: usize,
    /// What the other room holds.
    waiting: Waiting,
}

/// A block of sums that waits.
pub(super) struct Waiting {
    pub(super) target: *mut bf16,
    pub(super) stride: usize,
    /// The first of its rows that is ours.
    stored: usize,
    /// How many are; none when nothing waits.
    rows: usize,
    cols: usize,
    pub(super) last: Last,
}

impl Rounder {
    #[inline(always)]
    pub(super) fn new<A: Operand, B: Operand>(task: &Task<'_, A, B>) -> Self {
        let k = task.a.cols();
        let is_plain = task.rounded.is_some_and(|to| to.argument(0, 0).is_none())
            && matches!(Store::first(task.alpha, task.beta), Store::Write)
            && matches!(
                task.finish.activation,
                Activation::Identity | Activation::Relu
            )
            && k <= chain_depth(k);
        Self {
            rooms: [Room::new(), Room::new()],
            is_plain,
            next: 0,
            waiting: Waiting {
                target: std::ptr::null_mut(),
                stride: 0,
                stored: 0,
                rows: 0,
                cols: 0,
                last: Last::NOTHING,
            },
        }
    }

    /// Rounds what waits.
    ///
    /// # Safety
    /// Its target may be written and its bias be read; what waits came from tiles, so the processor has the instructions.
    #[inline(always)]
    pub(super) unsafe fn finish(&mut self) {
        let wide = self.rooms[1 - self.next].as_mut_ptr();
        let &Waiting {
            target,
            stride,
            stored,
            rows,
            cols,
            last,
        } = &self.waiting;
        if rows > 0 {
            let block = Rows {
                wide: wide.wrapping_add(stored * WIDE),
                rows,
                cols,
                last,
                target,
                stride,
            };
            // SAFETY: the caller's; the room holds the sums of tiles.
            unsafe { block.round::<false>() };
            self.waiting.rows = 0;
        }
    }

    /// Whether a kernel may round what waits while it computes: a whole block, and nothing about it is rare.
    ///
    /// # Safety
    /// As [`Rounder::finish`].
    #[inline(always)]
    unsafe fn is_common(&self) -> bool {
        let Waiting {
            rows, cols, last, ..
        } = &self.waiting;
        // SAFETY: the caller's: a whole block has as many columns.
        *rows == 2 * TILE
            && *cols == WIDE
            && (last.bias.is_null() || unsafe { !last.may_make_denormal([!0; 2]) })
    }
}

impl<A: Operand, B: Operand> RoundedPart<'_, '_, A, B> {
    /// The rows that are ours.
    #[inline(always)]
    fn own_rows(&self) -> usize {
        self.rows - self.stored
    }

    /// The place of the first of them in C.
    #[inline(always)]
    fn target(&self) -> *mut bf16 {
        self.to.c(self.row + self.stored, self.column)
    }

    /// Computes the block; what `rounder` then holds of it reaches C with the next block or [`Rounder::finish`].
    ///
    /// # Safety
    /// As [`super::kernel::two_by_two`], for as many tiles as `rows` and `cols` need and for all of k; nobody else touches the block until it has
    /// reached C.
    #[inline(always)]
    pub(super) unsafe fn compute(
        &self,
        tiles: Tiles,
        mut strips: Strips,
        ahead: Option<&Ahead>,
        rounder: &mut Rounder,
    ) {
        let (task, to) = (self.task, self.to);
        strips.c = rounder.rooms[rounder.next].as_mut_ptr();
        strips.c_row_bytes = WIDE * size_of::<f32>();
        if !rounder.is_plain {
            // SAFETY: the caller's.
            return unsafe { self.compute_whole(tiles, strips, ahead) };
        }
        let (bias, relu) = task.finish.in_registers(true, self.column);
        let target = self.target();
        // SAFETY: the caller's; the kernel writes all rows of as many tiles as `cols` needs.
        unsafe {
            if self.rows > TILE && self.cols > TILE && rounder.is_common() {
                let before = rounder.rooms[1 - rounder.next].as_mut_ptr();
                let a = ahead.map_or(strips.a, |ahead| ahead.a);
                two_by_two_rounding(&strips, before, &rounder.waiting, target, a);
            } else {
                sums(self.rows, self.cols, &strips, ahead);
                rounder.finish();
            }
        }
        rounder.next = 1 - rounder.next;
        rounder.waiting = Waiting {
            target,
            stride: to.c_row_stride(),
            stored: self.stored,
            rows: self.own_rows(),
            cols: self.cols,
            last: Last { bias, relu },
        };
    }

    /// [`RoundedPart::compute`] where more happens to the sums than a bias and a ReLU, or they are those of several chains.
    ///
    /// # Safety
    /// As [`RoundedPart::compute`]; `strips.c` has room for a block.
    #[inline(never)]
    unsafe fn compute_whole(&self, tiles: Tiles, strips: Strips, ahead: Option<&Ahead>) {
        let (task, to) = (self.task, self.to);
        let (rows, cols) = (self.own_rows(), self.cols);
        let argument = to.argument(self.row + self.stored, self.column);
        let (bias, relu) = task.finish.in_registers(true, self.column);
        let relu = relu && argument.is_none();
        let mut whole = Room::new();
        let whole = whole.as_mut_ptr();
        let ours = whole.wrapping_add(self.stored * WIDE);
        // SAFETY: the caller's.
        unsafe {
            self.add_up(tiles, strips, ahead, Last { bias, relu }, ours);
            let rounded = |target, stride| Rows {
                wide: ours,
                rows,
                cols,
                last: Last::NOTHING,
                target,
                stride,
            };
            if let Some(z) = argument {
                rounded(z, to.argument_row_stride()).round::<true>();
            }
            if !relu && task.finish.activation != Activation::Identity {
                // Rows without gaps as one.
                let (count, len) = if cols == WIDE {
                    (1, rows * cols)
                } else {
                    (rows, cols)
                };
                activate_rows(task.level, task.finish.activation, ours, count, len, WIDE);
            }
            rounded(self.target(), to.c_row_stride()).round::<true>();
        }
    }

    /// The sums of all chains and C's share, in f32, for our rows, to `target`.
    ///
    /// # Safety
    /// As [`RoundedPart::compute_whole`]; there is room for the rows.
    #[inline(always)]
    unsafe fn add_up(
        &self,
        tiles: Tiles,
        strips: Strips,
        ahead: Option<&Ahead>,
        last: Last,
        target: *mut f32,
    ) {
        let (task, rows, cols) = (self.task, self.own_rows(), self.cols);
        if task.beta != 0.0 {
            let (c, stride) = (self.target(), self.to.c_row_stride());
            // SAFETY: these rows of C are ours, and there is room for them.
            unsafe { widen_rows(c, stride, rows, cols, target) };
        }
        let k = task.a.cols();
        let depth = chain_depth(k);
        let mut store = Store::first(task.alpha, task.beta);
        for start in (0..k).step_by(depth) {
            let len = depth.min(k - start);
            let chain = Strips {
                a: strips.a.wrapping_add(start * size_of::<bf16>()),
                b: strips.b.wrapping_add(start / 2 * strips.b_pair_bytes),
                steps: len.div_ceil(STEP),
                ..strips
            };
            let is_last = start + len == k;
            let ahead = ahead.map(|ahead| Ahead {
                a: ahead.a.wrapping_add(start * size_of::<bf16>()),
                ..*ahead
            });
            let output = Output {
                c: target,
                c_row_stride: WIDE,
                store,
                bias: if is_last { last.bias } else { std::ptr::null() },
                relu: is_last && last.relu,
            };
            // SAFETY: the caller's; the kernel writes all rows of as many tiles as `cols` needs.
            unsafe {
                sums(self.rows, cols, &chain, ahead.as_ref());
                let added = chain.c.wrapping_add(self.stored * WIDE);
                finish(tiles.simd, added, rows, cols, output);
            }
            store = store.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::TileGuard;
    use super::super::kernel::two_by_two;
    use super::*;

    /// Sums of tiles as they may be: no denormals.
    const SUMS: [f32; 12] = [
        0.0,
        -0.0,
        1.0,
        // Half-way between two bf16, down and up.
        257.0 / 256.0,
        259.0 / 256.0,
        -2.7,
        f32::MIN_POSITIVE,
        -1e-30,
        3.4e38,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ];

    #[test]
    fn kernels_round_the_block_before_and_compute_their_own() {
        if Tiles::new().is_none() {
            return;
        }
        const STRIDE: usize = WIDE + 9;
        let before: Vec<f32> = (0..2 * TILE * WIDE)
            .map(|i| SUMS[(i * 7 + i / WIDE) % SUMS.len()])
            .collect();
        let with_specials: Vec<f32> = (0..WIDE)
            .map(|j| [0.5, -0.0, 0.0, -1e30, f32::NEG_INFINITY, -1.0, f32::NAN][j % 7])
            .collect();
        let whole = |i: usize| bf16::from_f32((i * 7919 % 17) as f32 - 8.0);
        for (top, bottom) in [(16, 16), (16, 3), (9, 9)] {
            // SAFETY: there are tiles, their rows are from 1 to 16, and this is the only guard.
            let _guard = unsafe { TileGuard::new(top, bottom) };
            for steps in 1..=70 {
                let depth = steps * STEP;
                let a: Vec<bf16> = (0..(top + bottom) * depth).map(whole).collect();
                let b: Vec<bf16> = (0..depth * WIDE).map(|i| whole(i + 5)).collect();
                let (bias, relu) = (steps % 2 == 0, steps % 3 == 0);
                let last = Last {
                    bias: if bias {
                        with_specials.as_ptr()
                    } else {
                        std::ptr::null()
                    },
                    relu,
                };
                let border = bf16::from_f32(77.0);
                let mut rounded = vec![border; 2 * TILE * STRIDE];
                let waiting = Waiting {
                    target: rounded.as_mut_ptr(),
                    stride: STRIDE,
                    stored: 0,
                    rows: 2 * TILE,
                    cols: WIDE,
                    last,
                };
                let [mut got, mut want] = [0, 1].map(|_| vec![f32::NAN; (top + bottom) * WIDE]);
                let strips = |c: &mut Vec<f32>| Strips {
                    a: a.as_ptr().cast(),
                    a_row_bytes: 2 * depth,
                    top,
                    b: b.as_ptr().cast(),
                    b_pair_bytes: 4 * WIDE,
                    steps,
                    c: c.as_mut_ptr(),
                    c_row_bytes: 4 * WIDE,
                };
                let nothing: *const u8 = std::ptr::null();
                // SAFETY: the guard is alive; A has `depth` numbers in each row, B as many rows in pairs, C all rows; the block before and
                // its target are whole. What is asked for may be nothing.
                unsafe {
                    assert!(bias || !last.may_make_denormal([!0; 2]));
                    two_by_two(&strips(&mut want));
                    let (before, next) = (before.as_ptr(), rounded.as_ptr());
                    two_by_two_rounding(&strips(&mut got), before, &waiting, next, nothing);
                }
                assert_eq!(got, want, "{top} + {bottom} rows, {steps} steps");
                for (at, got) in rounded.iter().enumerate() {
                    let (i, j) = (at / STRIDE, at % STRIDE);
                    if j >= WIDE {
                        assert_eq!(*got, border, "{i}, {j}");
                        continue;
                    }
                    let mut x = before[i * WIDE + j];
                    if bias {
                        x += with_specials[j];
                    }
                    if relu && x < 0.0 {
                        x = 0.0;
                    }
                    let want = bf16::from_f32_const(x);
                    let same = got.to_bits() == want.to_bits()
                        || got.is_nan() && want.is_nan()
                        || relu && x == 0.0 && got.to_bits() << 1 == 0;
                    assert!(
                        same,
                        "{steps} steps, {i}, {j}: {got} instead of {want} of {x}"
                    );
                }
            }
        }
    }
}
