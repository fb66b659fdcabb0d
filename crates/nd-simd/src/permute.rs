//! Rearrangements: transposes, exchanged axes, reversal in time.
//!
//! The simple version is an index formula per element. A transpose reads 8 x 8 blocks (4 x 4 for f64) into registers,
//! exchanges them there and writes whole rows, so that neither side is walked with a stride of one element; exchanged
//! middle axes are copies of contiguous rows.
//!
//! Known weakness: rows that lie a multiple of 4 KiB apart share a few places of the caches; such transposes run at a fraction
//! of the speed of others.

mod array;

pub use array::{permuted, to_standard};

#[cfg(target_arch = "x86_64")]
use nd_core::DType;
use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::gather::move_values;
use crate::lanes::SimdReal;

/// Copies the transpose of `rows x cols` elements of `source` to `target` (`cols x rows`).
///
/// # Safety
/// `source` may be read at `i * source_stride + j`, `target` written at `j * target_stride + i`, for `i < rows`, `j < cols`.
#[inline(always)]
pub(crate) unsafe fn transpose_strided<S: Isa, R: SimdReal>(
    _: S,
    source: *const R,
    source_stride: usize,
    (rows, cols): (usize, usize),
    target: *mut R,
    target_stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if const { matches!(S::LEVEL, SimdLevel::Avx2 | SimdLevel::Avx512) } {
        let block = if R::DTYPE == DType::F32 { 8 } else { 4 };
        if rows >= block && cols >= block {
            // Two blocks each way are a cache line each way: every line is read and written while it is in L1, even where
            // a power of two between the rows maps all of them to the same few places.
            let tile = 2 * block;
            for i_tile in (0..rows).step_by(tile) {
                for j_tile in (0..cols).step_by(tile) {
                    let mut j = j_tile;
                    while j < cols.min(j_tile + tile) {
                        // The last block begins early enough to be whole; it writes some elements again.
                        let from_j = j.min(cols - block);
                        let mut i = i_tile;
                        while i < rows.min(i_tile + tile) {
                            let wide = matches!(S::LEVEL, SimdLevel::Avx512)
                                && R::DTYPE == DType::F32
                                && rows - i >= tile;
                            let from_i = if wide { i } else { i.min(rows - block) };
                            let from = source.wrapping_add(from_i * source_stride + from_j);
                            let to = target.wrapping_add(from_j * target_stride + from_i);
                            // SAFETY: a whole block on both sides; `S` proves the instructions; `R` is the type tested.
                            unsafe {
                                if wide {
                                    x86::transpose_f32x16x8(
                                        from.cast(),
                                        source_stride,
                                        to.cast(),
                                        target_stride,
                                    );
                                } else if R::DTYPE == DType::F32 {
                                    x86::transpose_f32x8(
                                        from.cast(),
                                        source_stride,
                                        to.cast(),
                                        target_stride,
                                    );
                                } else {
                                    x86::transpose_f64x4(
                                        from.cast(),
                                        source_stride,
                                        to.cast(),
                                        target_stride,
                                    );
                                }
                            }
                            i += if wide { tile } else { block };
                        }
                        j += block;
                    }
                }
            }
            return;
        }
    }
    for j in 0..cols {
        for i in 0..rows {
            // SAFETY: the caller's contract.
            unsafe { *target.add(j * target_stride + i) = *source.add(i * source_stride + j) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, _mm256_castpd_ps, _mm256_castps_pd, _mm256_loadu_pd, _mm256_loadu_ps,
        _mm256_permute2f128_pd, _mm256_permute2f128_ps, _mm256_setzero_ps, _mm256_storeu_pd,
        _mm256_storeu_ps, _mm256_unpackhi_pd, _mm256_unpackhi_ps, _mm256_unpacklo_pd,
        _mm256_unpacklo_ps, _mm512_castps256_ps512, _mm512_insertf32x8, _mm512_storeu_ps,
    };

    /// The columns of 8 x 8 numbers.
    ///
    /// # Safety
    /// The machine has AVX2, and the block is valid.
    #[inline(always)]
    unsafe fn columns_f32x8(source: *const f32, source_stride: usize) -> [__m256; 8] {
        // SAFETY: the caller's contract. (No closures: they would be compiled without AVX2.)
        unsafe {
            let mut halves = [[_mm256_setzero_ps(); 4]; 2];
            for (half, quads) in halves.iter_mut().enumerate() {
                let first = source.add(4 * half * source_stride);
                let a = _mm256_loadu_ps(first);
                let b = _mm256_loadu_ps(first.add(source_stride));
                let c = _mm256_loadu_ps(first.add(2 * source_stride));
                let d = _mm256_loadu_ps(first.add(3 * source_stride));
                // Rows interleaved by element, then by pairs of elements; each 128-bit half on its own.
                let low_ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                let high_ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
                let low_cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
                let high_cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
                quads[0] = _mm256_castpd_ps(_mm256_unpacklo_pd(low_ab, low_cd));
                quads[1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low_ab, low_cd));
                quads[2] = _mm256_castpd_ps(_mm256_unpacklo_pd(high_ab, high_cd));
                quads[3] = _mm256_castpd_ps(_mm256_unpackhi_pd(high_ab, high_cd));
            }
            let [top, bottom] = halves;
            let mut columns = [_mm256_setzero_ps(); 8];
            for j in 0..4 {
                columns[j] = _mm256_permute2f128_ps::<0x20>(top[j], bottom[j]);
                columns[j + 4] = _mm256_permute2f128_ps::<0x31>(top[j], bottom[j]);
            }
            columns
        }
    }

    /// Transposes 8 x 8 numbers.
    ///
    /// # Safety
    /// The machine has AVX2, and both blocks are valid.
    #[inline(always)]
    pub(super) unsafe fn transpose_f32x8(
        source: *const f32,
        source_stride: usize,
        target: *mut f32,
        target_stride: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let columns = columns_f32x8(source, source_stride);
            for (j, &column) in columns.iter().enumerate() {
                _mm256_storeu_ps(target.add(j * target_stride), column);
            }
        }
    }

    /// Transposes 16 rows of 8 numbers: each store is a whole cache line where the target is aligned.
    ///
    /// # Safety
    /// The machine has AVX-512, and both blocks are valid.
    #[inline(always)]
    pub(super) unsafe fn transpose_f32x16x8(
        source: *const f32,
        source_stride: usize,
        target: *mut f32,
        target_stride: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let left = columns_f32x8(source, source_stride);
            let right = columns_f32x8(source.add(8 * source_stride), source_stride);
            for j in 0..8 {
                let both = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(left[j]), right[j]);
                _mm512_storeu_ps(target.add(j * target_stride), both);
            }
        }
    }

    /// Transposes 4 x 4 numbers.
    ///
    /// # Safety
    /// The machine has AVX2, and both blocks are valid.
    #[inline(always)]
    pub(super) unsafe fn transpose_f64x4(
        source: *const f64,
        source_stride: usize,
        target: *mut f64,
        target_stride: usize,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            let a = _mm256_loadu_pd(source);
            let b = _mm256_loadu_pd(source.add(source_stride));
            let c = _mm256_loadu_pd(source.add(2 * source_stride));
            let d = _mm256_loadu_pd(source.add(3 * source_stride));
            let (low_ab, high_ab) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
            let (low_cd, high_cd) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
            _mm256_storeu_pd(target, _mm256_permute2f128_pd::<0x20>(low_ab, low_cd));
            _mm256_storeu_pd(
                target.add(target_stride),
                _mm256_permute2f128_pd::<0x20>(high_ab, high_cd),
            );
            _mm256_storeu_pd(
                target.add(2 * target_stride),
                _mm256_permute2f128_pd::<0x31>(low_ab, low_cd),
            );
            _mm256_storeu_pd(
                target.add(3 * target_stride),
                _mm256_permute2f128_pd::<0x31>(high_ab, high_cd),
            );
        }
    }
}

struct Transpose<'a, R> {
    source: &'a [R],
    /// Elements from one row of the source to the next.
    stride: usize,
    rows: usize,
    cols: usize,
    target: &'a mut [R],
}

impl<R: SimdReal> Kernel for Transpose<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            source,
            stride,
            rows,
            cols,
            target,
        } = self;
        transpose_block(simd, source, stride, (rows, cols), target, rows);
    }
}

instantiate! {
    /// `target[j, i] = source[i, j]`: source `[rows, cols]`, target `[cols, rows]`.
    ///
    /// # Panics
    /// A slice does not have `rows * cols` elements.
    pub fn transpose<R>(level: SimdLevel, source: &[R], rows: usize, cols: usize, target: &mut [R])
    {
        assert_eq!(source.len(), rows * cols, "the source of a {rows} x {cols} transpose");
        assert_eq!(target.len(), rows * cols, "the target of a {rows} x {cols} transpose");
    }
    then { dispatch(level, Transpose { source, stride: cols, rows, cols, target }); }
}

/// Rows of a transposed matrix that one task writes hold so many elements: some ten microseconds.
const TASK: usize = 16 * 1024;

/// [`transpose`] on all threads of the current rayon pool when `parallel`.
///
/// # Panics
/// As [`transpose`].
#[track_caller]
pub(crate) fn transpose_parallel<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    source: &[R],
    rows: usize,
    cols: usize,
    target: &mut [R],
) {
    if !parallel || rows == 0 {
        return transpose(level, source, rows, cols, target);
    }
    transpose_then(level, parallel, source, [rows, cols], target, |_| {});
}

/// [`transpose`] that hands on rows of the target as soon as they are there, while they are in the second cache level.
///
/// # Panics
/// As [`transpose`].
#[track_caller]
pub(crate) fn transpose_then<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    source: &[R],
    [rows, cols]: [usize; 2],
    target: &mut [R],
    then: impl Fn(&mut [R]) + Sync,
) {
    if rows == 0 {
        return transpose(level, source, rows, cols, target);
    }
    // Every task reads a strip of columns: whole cache lines of the source.
    let strip = (TASK / rows).next_multiple_of(16).max(16);
    nd_core::threads::for_each_chunk(parallel, target, strip * rows, |i, target| {
        let first = i * strip;
        transpose_columns(level, source, rows, cols, first, target);
        then(target);
    });
}

instantiate! {
    /// Columns of the source from `first` on, as rows of the target, which says how many.
    fn transpose_columns<R>(
        level: SimdLevel,
        source: &[R],
        rows: usize,
        cols: usize,
        first: usize,
        target: &mut [R],
    )
    {
        assert_eq!(source.len(), rows * cols, "the source of a {rows} x {cols} transpose");
        let count = target.len() / rows;
        assert!(
            first + count <= cols && target.len() == count * rows,
            "columns {first}..{first}+{count} of a {rows} x {cols} transpose"
        );
    }
    then {
        let count = target.len() / rows;
        let source = &source[first..];
        dispatch(level, Transpose { source, stride: cols, rows, cols: count, target });
    }
}

/// Transposes a block from within a kernel: `target[j * target_stride + i] = source[i * source_stride + j]` for
/// `i < rows`, `j < cols`.
///
/// # Panics
/// The block leaves one of the slices.
#[inline(always)]
pub fn transpose_block<S: Isa, R: SimdReal>(
    simd: S,
    source: &[R],
    source_stride: usize,
    (rows, cols): (usize, usize),
    target: &mut [R],
    target_stride: usize,
) {
    if rows == 0 || cols == 0 {
        return;
    }
    assert!(
        (rows - 1) * source_stride + cols <= source.len()
            && (cols - 1) * target_stride + rows <= target.len(),
        "a {rows} x {cols} block leaves its slices"
    );
    // SAFETY: the largest index of either side is inside its slice, as just checked.
    unsafe {
        transpose_strided(
            simd,
            source.as_ptr(),
            source_stride,
            (rows, cols),
            target.as_mut_ptr(),
            target_stride,
        );
    }
}

/// The largest number of axes.
const MAX_AXES: usize = nd_core::shape::MAX_RANK;

/// Checks that `axes` is an order of `dims`.
#[track_caller]
fn check_axes(dims: &[usize], axes: &[usize], source: usize, target: usize) {
    let mut seen = [false; MAX_AXES];
    let ordered = dims.len() == axes.len()
        && dims.len() <= MAX_AXES
        && axes
            .iter()
            .all(|&axis| axis < dims.len() && !std::mem::replace(&mut seen[axis], true));
    assert!(ordered, "{axes:?} is no order of the axes of {dims:?}");
    let numel: usize = dims.iter().product();
    assert_eq!(source, numel, "elements of {dims:?}");
    assert_eq!(
        target, numel,
        "elements of {dims:?} with its axes in the order {axes:?}"
    );
}

instantiate! {
    /// Copies (or adds) `source` with its axes in another order: axis `i` of the target is axis `axes[i]` of the source, whose
    /// dimensions are `dims`.
    ///
    /// # Panics
    /// `axes` is not an order of all axes, there are more than six, or a slice has another size.
    pub fn permute_axes<R>(
        level: SimdLevel,
        dims: &[usize],
        axes: &[usize],
        source: &[R],
        target: &mut [R],
        acc: Accumulate,
    )
    { check_axes(dims, axes, source.len(), target.len()); }
    then { dispatch(level, PermuteAxes { dims, axes, source, target, acc }); }
}

struct PermuteAxes<'a, R> {
    dims: &'a [usize],
    axes: &'a [usize],
    source: &'a [R],
    target: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for PermuteAxes<'_, R> {
    type Output = ();

    /// The last axes that stay last move as one run. Else the last axis of the source and that of the target make a
    /// transpose, one for each combination of the other indices.
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            dims,
            axes,
            source,
            target,
            acc,
        } = self;
        let rank = dims.len();
        if source.is_empty() {
            return;
        }
        let kept = (0..rank).rev().take_while(|&i| axes[i] == i).count();
        let run: usize = dims[rank - kept..].iter().product();
        // By axes of the target: size, and distance in the source.
        let (mut sizes, mut steps) = ([1; MAX_AXES], [0; MAX_AXES]);
        for (i, &axis) in axes.iter().enumerate() {
            sizes[i] = dims[axis];
            steps[i] = dims[axis + 1..].iter().product();
        }
        let moved = rank - kept;
        if moved == 0 {
            move_values(source, target, acc);
            return;
        }
        if kept > 0 {
            let mut index = [0; MAX_AXES];
            for target in target.chunks_exact_mut(run) {
                let from: usize = index
                    .iter()
                    .zip(steps)
                    .take(moved)
                    .map(|(i, step)| i * step)
                    .sum();
                move_values(&source[from..from + run], target, acc);
                advance(&mut index[..moved], &sizes);
            }
            return;
        }
        // The target's last axis runs over `rows` of the source, the source's last axis is the target's axis `turned`.
        let last = rank - 1;
        let turned = axes.iter().position(|&axis| axis == last).unwrap_or(last);
        let (rows, row_step, cols) = (sizes[last], steps[last], sizes[turned]);
        let target_step: usize = sizes[turned + 1..rank].iter().product();
        let blocks = source.len() / (rows * cols);
        let mut index = [0; MAX_AXES];
        let mut block_sizes = sizes;
        (block_sizes[last], block_sizes[turned]) = (1, 1);
        for _ in 0..blocks {
            let mut from = 0;
            let mut to = 0;
            for i in 0..rank {
                from += index[i] * steps[i];
                to = to * sizes[i] + index[i];
            }
            match acc {
                // SAFETY: the indices run over all elements of both slices once, as `check_axes` found them.
                Accumulate::Write => unsafe {
                    transpose_strided(
                        simd,
                        source.as_ptr().wrapping_add(from),
                        row_step,
                        (rows, cols),
                        target.as_mut_ptr().wrapping_add(to),
                        target_step,
                    );
                },
                Accumulate::Add => {
                    for j in 0..cols {
                        for i in 0..rows {
                            target[to + j * target_step + i] += source[from + i * row_step + j];
                        }
                    }
                }
            }
            advance(&mut index[..rank], &block_sizes);
        }
    }
}

/// The next index in row-major order.
#[inline(always)]
fn advance(index: &mut [usize], sizes: &[usize; MAX_AXES]) {
    for (index, &size) in index.iter_mut().zip(sizes).rev() {
        *index += 1;
        if *index < size {
            return;
        }
        *index = 0;
    }
}

instantiate! {
    /// Copies (or adds) each row of `cols` elements backwards.
    ///
    /// # Panics
    /// The lengths differ, or are no multiple of `cols`.
    pub fn reverse_rows<R>(
        level: SimdLevel,
        cols: usize,
        source: &[R],
        target: &mut [R],
        acc: Accumulate,
    )
    {
        assert!(
            source.len() == target.len() && source.len().is_multiple_of(cols.max(1)),
            "rows of {cols} from {} elements to {}",
            source.len(),
            target.len()
        );
    }
    then { dispatch(level, ReverseRows { cols, source, target, acc }); }
}

struct ReverseRows<'a, R> {
    cols: usize,
    source: &'a [R],
    target: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for ReverseRows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            cols,
            source,
            target,
            acc,
        } = self;
        for (source, target) in source
            .chunks_exact(cols.max(1))
            .zip(target.chunks_exact_mut(cols.max(1)))
        {
            for (target, &source) in target.iter_mut().zip(source.iter().rev()) {
                acc.store(target, source);
            }
        }
    }
}
