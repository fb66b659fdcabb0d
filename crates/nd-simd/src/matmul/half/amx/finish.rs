//! From the sums of a block to C: directly where nothing else happens to them, else through a buffer in the first cache level and the stores of
//! the vector kernels.

use std::mem::MaybeUninit;

use pulp::x86::V4;

use super::Tiles;
use super::config::TILE;
use super::kernel::{self, Ahead, Strips};
use crate::lanes::Lanes;
use crate::matmul::kernel::{Output, Store, Sums};

/// Columns of C that are computed together.
pub(super) const WIDE: usize = 2 * TILE;

/// Sums on their way to C.
#[repr(C, align(64))]
pub(super) struct Room(MaybeUninit<[f32; 2 * TILE * WIDE]>);

impl Room {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self(MaybeUninit::uninit())
    }

    #[inline(always)]
    pub(super) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

impl Tiles {
    /// A block of C of `rows` rows and `cols` columns, without its first `stored` rows; `output.c` is the first of all rows.
    ///
    /// # Safety
    /// As [`kernel::two_by_two`], for as many tiles as `rows` and `cols` need; the output is valid for the rows that are stored.
    #[inline(always)]
    pub(super) unsafe fn compute(
        self,
        mut strips: Strips,
        rows: usize,
        stored: usize,
        cols: usize,
        mut output: Output<f32>,
        ahead: Option<&Ahead>,
    ) {
        let plain = matches!(output.store, Store::Write) && output.bias.is_null() && !output.relu;
        if plain && stored == 0 && cols.is_multiple_of(TILE) {
            strips.c = output.c;
            strips.c_row_bytes = output.c_row_stride.wrapping_mul(size_of::<f32>());
            // SAFETY: the caller's; all rows of C are ours, whole tiles wide.
            return unsafe { sums(rows, cols, &strips, ahead) };
        }
        let mut room = Room::new();
        strips.c = room.as_mut_ptr();
        strips.c_row_bytes = WIDE * size_of::<f32>();
        output.c = output.c.wrapping_add(stored * output.c_row_stride);
        // SAFETY: the caller's; the kernel wrote `rows` rows of as many tiles as `cols` needs.
        unsafe {
            sums(rows, cols, &strips, ahead);
            let sums = strips.c.wrapping_add(stored * WIDE);
            finish(self.simd, sums, rows - stored, cols, output);
        }
    }
}

/// Sums of one block, to `strips.c`; whole blocks ask for what comes next.
///
/// # Safety
/// As [`kernel::two_by_two`], for as many tiles as `rows` and `cols` need.
#[inline(always)]
pub(super) unsafe fn sums(rows: usize, cols: usize, strips: &Strips, ahead: Option<&Ahead>) {
    // SAFETY: the caller's.
    unsafe {
        match (rows > TILE, cols > TILE) {
            (true, true) => match ahead {
                Some(ahead) => kernel::two_by_two_ahead(strips, ahead),
                None => kernel::two_by_two(strips),
            },
            (true, false) => kernel::two_by_one(strips),
            (false, true) => kernel::one_by_two(strips),
            (false, false) => kernel::one_by_one(strips),
        }
    }
}

/// Brings `rows` rows of sums to C.
///
/// # Safety
/// The sums may be read in whole vectors; the output is valid for `rows` rows and `cols` columns.
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
pub(super) unsafe fn finish(
    simd: V4,
    sums: *const f32,
    rows: usize,
    cols: usize,
    output: Output<f32>,
) {
    let mut row = 0;
    // SAFETY: the caller's.
    unsafe {
        while row + 4 <= rows {
            finish_rows::<4>(simd, sums, row, cols, output);
            row += 4;
        }
        while row < rows {
            finish_rows::<1>(simd, sums, row, cols, output);
            row += 1;
        }
    }
}

/// [`finish`] for some rows.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_rows<const ROWS: usize>(
    simd: V4,
    sums: *const f32,
    row: usize,
    cols: usize,
    mut output: Output<f32>,
) {
    output.c = output.c.wrapping_add(row * output.c_row_stride);
    let sums = sums.wrapping_add(row * WIDE);
    let last = cols - (cols - 1) / TILE * TILE;
    // SAFETY: the caller's.
    unsafe {
        if cols > TILE {
            let acc = load::<ROWS, 2>(simd, sums);
            if last == TILE {
                output.finish::<V4, ROWS, 2, false>(simd, last, acc);
            } else {
                output.finish::<V4, ROWS, 2, true>(simd, last, acc);
            }
        } else {
            let acc = load::<ROWS, 1>(simd, sums);
            if last == TILE {
                output.finish::<V4, ROWS, 1, false>(simd, last, acc);
            } else {
                output.finish::<V4, ROWS, 1, true>(simd, last, acc);
            }
        }
    }
}

/// Sums in registers.
///
/// # Safety
/// They may be read.
#[inline(always)]
unsafe fn load<const ROWS: usize, const VECS: usize>(
    simd: V4,
    sums: *const f32,
) -> Sums<V4, f32, ROWS, VECS> {
    let mut acc = [[Lanes::zero(simd); VECS]; ROWS];
    for i in 0..ROWS {
        for j in 0..VECS {
            // SAFETY: the caller's.
            acc[i][j] = unsafe { Lanes::load_ptr(simd, sums.wrapping_add(i * WIDE + j * TILE)) };
        }
    }
    acc
}
