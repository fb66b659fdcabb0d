//! From the sums of a block to a C of bf16: rounded while they are in the first cache level.

use std::arch::x86_64::*;

use nd_core::bf16;

use super::Tiles;
use super::blocking::chain_depth;
use super::config::TILE;
use super::finish::{Room, WIDE, finish, sums};
use super::kernel::{Ahead, STEP, Strips, two_by_two_rounding};
use crate::activations::{Activation, activate_rows};
use crate::convert::narrow_bf16;
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
    /// Its target may be written and its bias be read.
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
            // SAFETY: the caller's; the room holds the sums of tiles.
            unsafe {
                let sums = wide.wrapping_add(stored * WIDE);
                round::<false>(sums, rows, cols, last, target, stride);
            }
            self.waiting.rows = 0;
        }
    }

    /// Whether a kernel may round what waits while it computes: a whole block, and nothing about it is rare.
    ///
    /// # Safety
    /// As [`Rounder::finish`]; tiles prove that the processor has the instructions.
    #[inline(always)]
    unsafe fn is_common(&self) -> bool {
        let Waiting {
            rows, cols, last, ..
        } = &self.waiting;
        // SAFETY: the caller's: a whole block has as many columns.
        *rows == 2 * TILE && *cols == WIDE && unsafe { !last.may_make_denormal([!0; 2]) }
    }
}

/// What is done to sums on their way.
#[derive(Clone, Copy)]
pub(super) struct Last {
    /// One value for each column, or null.
    bias: *const f32,
    relu: bool,
}

impl Last {
    const NOTHING: Self = Self {
        bias: std::ptr::null(),
        relu: false,
    };

    /// What is added to each row: nothing changes if there is no bias.
    ///
    /// # Safety
    /// The bias may be read at the columns of the masks.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn bias(&self, masks: [__mmask16; 2]) -> [__m512; 2] {
        if self.bias.is_null() {
            return [_mm512_set1_ps(-0.0); 2];
        }
        // SAFETY: the caller's.
        [0, 1].map(|j| unsafe { _mm512_maskz_loadu_ps(masks[j], self.bias.wrapping_add(j * TILE)) })
    }

    /// The least that a result can be.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) fn least(&self) -> __m512 {
        _mm512_set1_ps(if self.relu { 0.0 } else { f32::NEG_INFINITY })
    }

    /// Whether sums of tiles, which are not denormal, may become so by the bias, because it is as small as they are: a sum of two numbers
    /// is zero or at least the last place of the smaller.
    ///
    /// # Safety
    /// As [`Last::bias`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    unsafe fn may_make_denormal(&self, masks: [__mmask16; 2]) -> bool {
        /// 24 binary places above the smallest normal number.
        const SMALL: f32 = f32::MIN_POSITIVE * (1 << 24) as f32;
        let mut small = 0;
        // SAFETY: the caller's.
        for bias in unsafe { self.bias(masks) } {
            let size = _mm512_abs_ps(bias);
            let bits = _mm512_castps_si512(size);
            small |= _mm512_cmp_ps_mask::<_CMP_LT_OQ>(size, _mm512_set1_ps(SMALL))
                & _mm512_test_epi32_mask(bits, bits);
        }
        small != 0
    }
}

impl<A: Operand, B: Operand> RoundedPart<'_, '_, A, B> {
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
        let Self {
            task,
            to,
            row,
            rows,
            stored,
            column,
            cols,
        } = *self;
        strips.c = rounder.rooms[rounder.next].as_mut_ptr();
        strips.c_row_bytes = WIDE * size_of::<f32>();
        if !rounder.is_plain {
            // SAFETY: the caller's.
            return unsafe { self.compute_whole(tiles, strips, ahead) };
        }
        let (bias, relu) = task.finish.in_registers(true, column);
        let target = to.c(row + stored, column);
        // SAFETY: the caller's; the kernel writes all rows of as many tiles as `cols` needs.
        unsafe {
            if rows > TILE && cols > TILE && rounder.is_common() {
                let sums = rounder.rooms[1 - rounder.next].as_mut_ptr();
                two_by_two_rounding(&strips, sums, &rounder.waiting, target);
            } else {
                sums(rows, cols, &strips, ahead);
                rounder.finish();
            }
        }
        rounder.next = 1 - rounder.next;
        rounder.waiting = Waiting {
            target,
            stride: to.c_row_stride(),
            stored,
            rows: rows - stored,
            cols,
            last: Last { bias, relu },
        };
    }

    /// [`RoundedPart::compute`] where more happens to the sums than a bias and a ReLU, or they are those of several chains.
    ///
    /// # Safety
    /// As [`RoundedPart::compute`]; `strips.c` has room for a block.
    #[inline(never)]
    unsafe fn compute_whole(&self, tiles: Tiles, strips: Strips, ahead: Option<&Ahead>) {
        let Self {
            task,
            to,
            row,
            rows,
            stored,
            column,
            cols,
        } = *self;
        let argument = to.argument(row + stored, column);
        let (bias, relu) = task.finish.in_registers(true, column);
        let relu = relu && argument.is_none();
        let mut whole = Room::new();
        let whole = whole.as_mut_ptr();
        let ours = whole.wrapping_add(stored * WIDE);
        let rows = rows - stored;
        // SAFETY: the caller's.
        unsafe {
            self.add_up(tiles, strips, ahead, Last { bias, relu }, whole);
            if let Some(z) = argument {
                round::<true>(ours, rows, cols, Last::NOTHING, z, to.argument_row_stride());
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
            let c = to.c(row + stored, column);
            round::<true>(ours, rows, cols, Last::NOTHING, c, to.c_row_stride());
        }
    }

    /// The sums of all chains and C's share, in f32, to `whole`.
    ///
    /// # Safety
    /// As [`RoundedPart::compute_whole`]; there is room for a block.
    #[inline(always)]
    unsafe fn add_up(
        &self,
        tiles: Tiles,
        strips: Strips,
        ahead: Option<&Ahead>,
        last: Last,
        whole: *mut f32,
    ) {
        let Self {
            task,
            to,
            row,
            rows,
            stored,
            column,
            cols,
        } = *self;
        let ours = stored * WIDE;
        if task.beta != 0.0 {
            let c = to.c(row + stored, column);
            // SAFETY: these rows of C are ours, and there is room for them.
            unsafe {
                widen(
                    c,
                    to.c_row_stride(),
                    rows - stored,
                    cols,
                    whole.wrapping_add(ours),
                );
            }
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
            let output = Output {
                c: whole.wrapping_add(ours),
                c_row_stride: WIDE,
                store,
                bias: if is_last { last.bias } else { std::ptr::null() },
                relu: is_last && last.relu,
            };
            // SAFETY: the caller's; the kernel writes all rows of as many tiles as `cols` needs.
            unsafe {
                sums(rows, cols, &chain, ahead);
                let sums = chain.c.wrapping_add(ours);
                finish(tiles.simd, sums, rows - stored, cols, output);
            }
            store = store.next();
        }
    }
}

/// A mask of the first `n` of 16 lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    ((1_u32 << n.min(16)) - 1) as __mmask16
}

/// Rounds rows of f32, [`WIDE`] apart, after bias and ReLU: of `ANY` numbers, or of sums as they come from tiles.
///
/// # Safety
/// The numbers and the bias may be read, the target be written; tiles prove that the processor has the instructions.
#[inline(always)]
unsafe fn round<const ANY: bool>(
    wide: *const f32,
    rows: usize,
    cols: usize,
    last: Last,
    target: *mut bf16,
    stride: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let normal = if cols == WIDE {
            round_rows::<ANY, true>(wide, rows, cols, last, target, stride)
        } else {
            round_rows::<ANY, false>(wide, rows, cols, last, target, stride)
        };
        if !normal {
            round_exactly(wide, rows, cols, last, target, stride);
        }
    }
}

/// [`round`] with the processor's own rounding; `false` if one of the numbers is or might be denormal, for which it puts zero.
///
/// # Safety
/// As [`round`]; there are [`WIDE`] columns if `WHOLE`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn round_rows<const ANY: bool, const WHOLE: bool>(
    wide: *const f32,
    rows: usize,
    cols: usize,
    last: Last,
    target: *mut bf16,
    stride: usize,
) -> bool {
    const DENORMAL: i32 = 0x20;
    let masks = [first(cols), first(cols.saturating_sub(TILE))];
    let both = u32::from(masks[0]) | u32::from(masks[1]) << 16;
    // SAFETY: the caller's.
    let (bias, least) = unsafe { (last.bias(masks), last.least()) };
    let mut denormal = 0;
    for i in 0..rows {
        let [low, high] = [0, 1].map(|j| {
            let from = wide.wrapping_add(i * WIDE + j * TILE);
            let x = if WHOLE {
                // SAFETY: the caller's.
                unsafe { _mm512_loadu_ps(from) }
            } else {
                // SAFETY: the caller's: columns of the mask.
                unsafe { _mm512_maskz_loadu_ps(masks[j], from) }
            };
            // The second operand when either is NaN, so NaN stays.
            let x = _mm512_max_ps(least, _mm512_add_ps(x, bias[j]));
            if ANY {
                denormal |= _mm512_fpclass_ps_mask::<DENORMAL>(x);
            }
            x
        });
        let to = target.wrapping_add(i * stride);
        // SAFETY: both are 64 bytes of plain data; the caller's columns of a row.
        unsafe {
            let rounded = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            if WHOLE {
                _mm512_storeu_si512(to.cast(), rounded);
            } else {
                _mm512_mask_storeu_epi16(to.cast(), both, rounded);
            }
        }
    }
    // SAFETY: the caller's.
    denormal == 0 && (ANY || unsafe { !last.may_make_denormal(masks) })
}

/// [`round_rows`], number by number and right for denormals.
///
/// # Safety
/// As [`round_rows`].
#[cold]
#[inline(never)]
unsafe fn round_exactly(
    wide: *const f32,
    rows: usize,
    cols: usize,
    last: Last,
    target: *mut bf16,
    stride: usize,
) {
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the caller's.
            unsafe {
                let mut x = *wide.add(i * WIDE + j);
                if !last.bias.is_null() {
                    x += *last.bias.add(j);
                }
                // A NaN is not less than zero, and stays.
                if last.relu && x < 0.0 {
                    x = 0.0;
                }
                *target.add(i * stride + j) = bf16::from_bits(narrow_bf16(x));
            }
        }
    }
}

/// Rows of bf16 as f32, [`WIDE`] apart.
///
/// # Safety
/// The rows may be read, the target be written.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn widen(source: *const bf16, stride: usize, rows: usize, cols: usize, target: *mut f32) {
    let masks = [first(cols), first(cols.saturating_sub(TILE))];
    for i in 0..rows {
        for (j, &mask) in masks.iter().enumerate() {
            let from = source.wrapping_add(i * stride + j * TILE);
            let to = target.wrapping_add(i * WIDE + j * TILE);
            // SAFETY: the caller's: columns of the mask.
            unsafe {
                let half = _mm256_maskz_loadu_epi16(mask, from.cast());
                let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half));
                _mm512_mask_storeu_ps(to, mask, _mm512_castsi512_ps(wide));
            }
        }
    }
}
