//! Sums and their kin: over a slice, over each row, over each column.
//!
//! The simple version of a sum is a loop. Here a slice is cut into blocks of 4096 elements (fewer where vectors are short); a block is
//! summed in eight vectors side by side, at most `CHAIN` additions each, and the blocks' sums, as f64, are added in a fixed binary tree. So the result does not depend on
//! alignment or threads, and its error is bounded whatever the length:
//! [`SUM_ERROR`] times the unit roundoff of the element type times the sum of the absolute terms.
//!
//! Sums over columns run down 128 rows at a time and keep what rounding takes from the running total
//! (Knuth's two-sum), under the same bound.
//!
//! NaN: every function here propagates it, [`max_slice`] included. An empty sum is zero, an empty maximum `-inf`.
//!
//! Known weakness: the bits differ between SIMD levels, because the number of lanes shapes a block's sum.

mod array;

pub use array::{
    all_finite, dot, l2_norm, max, max_axis, mean, mean_axis, sum, sum_axis, variance,
    variance_axis,
};

use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::elementwise::whole_rows;
use crate::lanes::{Lanes, SimdReal};
use crate::tree;

/// Additions that one running sum takes before it joins a wider one: they err by at most `2^-17 = 7.6e-6` of the sum of the
/// absolute terms in f32.
pub(crate) const CHAIN: usize = 128;

/// The largest block, in elements.
const BLOCK: usize = 1024;

/// The largest block of a plain sum: what happens between blocks should not count.
const SUM_BLOCK: usize = 4096;

/// Elements that `chains` running sums of vectors take in [`CHAIN`] additions each.
#[inline(always)]
pub(crate) fn chain_block<S: Isa, R: SimdReal>(chains: usize) -> usize {
    CHAIN * chains * Lanes::<S, R>::LEN
}

/// The error of every sum here is at most this many unit roundoffs (`2^-24` or `2^-53`) of the sum of the absolute terms.
///
/// A block adds at most 128 terms to each of its running sums, a column too; what joins them adds a few more roundings.
pub const SUM_ERROR: f64 = 136.0;

/// A term of a sum, computed from one or two elements.
trait Term: Copy + Send + Sync {
    fn term<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        b: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> Lanes<S, R>;
}

#[derive(Clone, Copy)]
struct Plain;

impl Term for Plain {
    #[inline(always)]
    fn term<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        _: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> Lanes<S, R> {
        sum + a
    }
}

#[derive(Clone, Copy)]
struct Product;

impl Term for Product {
    #[inline(always)]
    fn term<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        b: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> Lanes<S, R> {
        a.mul_add(b, sum)
    }
}

#[derive(Clone, Copy)]
struct Square;

impl Term for Square {
    #[inline(always)]
    fn term<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        _: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> Lanes<S, R> {
        a.mul_add(a, sum)
    }
}

/// `0 x`: zero where finite, NaN where not.
#[derive(Clone, Copy)]
struct NotFinite;

impl Term for NotFinite {
    #[inline(always)]
    fn term<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        _: Lanes<S, R>,
        sum: Lanes<S, R>,
    ) -> Lanes<S, R> {
        a.mul_add(a.constant(R::ZERO), sum)
    }
}

/// Running sums of a block: additions wait for each other, loads do not.
const SUMS: usize = 8;

/// The sum of a block in [`SUMS`] vectors; the masked rest loads zeros, which add nothing.
#[inline(always)]
fn block_sum<S: Isa, R: SimdReal>(simd: S, term: impl Term, a: &[R], b: &[R]) -> R {
    let (a_full, a_rest) = R::split::<S>(a);
    let (b_full, b_rest) = R::split::<S>(b);
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let mut sums = [Lanes::<S, R>::zero(simd); SUMS];
    let (a_groups, a_singles) = a_full.as_chunks::<SUMS>();
    let (b_groups, b_singles) = b_full.as_chunks::<SUMS>();
    for (a, b) in a_groups.iter().zip(b_groups) {
        for i in 0..SUMS {
            sums[i] = term.term(lane(a[i]), lane(b[i]), sums[i]);
        }
    }
    for (i, (&a, &b)) in a_singles.iter().zip(b_singles).enumerate() {
        sums[i] = term.term(lane(a), lane(b), sums[i]);
    }
    if !a_rest.is_empty() {
        let (a, b) = (
            Lanes::load_partial(simd, a_rest),
            Lanes::load_partial(simd, b_rest),
        );
        sums[SUMS - 1] = term.term(a, b, sums[SUMS - 1]);
    }
    let half: [_; SUMS / 2] = std::array::from_fn(|i| sums[i] + sums[i + SUMS / 2]);
    ((half[0] + half[1]) + (half[2] + half[3])).sum()
}

struct SumKernel<'a, T, R> {
    term: T,
    a: &'a [R],
    b: &'a [R],
}

impl<T: Term, R: SimdReal> Kernel for SumKernel<'_, T, R> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> f64 {
        let block = SUM_BLOCK.min(chain_block::<S, R>(SUMS));
        if self.a.len() <= block {
            return block_sum(simd, self.term, self.a, self.b).to_f64();
        }
        // A binary counter: `partial[k]` holds the sum of 2^k blocks. The same tree as `tree::reduce`, without recursion.
        let mut partial = [0.0; usize::BITS as usize];
        let mut count = 0usize;
        for (a, b) in self.a.chunks(block).zip(self.b.chunks(block)) {
            let mut sum = block_sum(simd, self.term, a, b).to_f64();
            let mut k = 0;
            while count >> k & 1 == 1 {
                sum += partial[k];
                k += 1;
            }
            partial[k] = sum;
            count += 1;
        }
        let (mut total, mut left) = (0.0, count);
        while left != 0 {
            total += partial[left.trailing_zeros() as usize];
            left &= left - 1;
        }
        total
    }
}

instantiate! {
    /// The sum; error at most [`SUM_ERROR`].
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn sum_slice<R>(level: SimdLevel, x: &[R]) -> f64
    {}
    then { dispatch(level, SumKernel { term: Plain, a: x, b: x }) }
}

instantiate! {
    /// `sum a_i b_i`; error at most [`SUM_ERROR`].
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn dot_slice<R>(level: SimdLevel, a: &[R], b: &[R]) -> f64
    { same_length("a", a.len(), "b", b.len()); }
    then { dispatch(level, SumKernel { term: Product, a, b }) }
}

instantiate! {
    /// `sum x_i^2`; error at most [`SUM_ERROR`].
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn squared_norm<R>(level: SimdLevel, x: &[R]) -> f64
    {}
    then { dispatch(level, SumKernel { term: Square, a: x, b: x }) }
}

instantiate! {
    /// Whether no element is infinite or NaN.
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn all_finite_slice<R>(level: SimdLevel, x: &[R]) -> bool
    {}
    then { dispatch(level, SumKernel { term: NotFinite, a: x, b: x }) == 0.0 }
}

/// The arithmetic mean; NaN of an empty slice.
///
/// # Panics
/// The machine lacks the level.
#[must_use]
#[track_caller]
pub fn mean_slice<R: SimdReal>(level: SimdLevel, x: &[R]) -> f64 {
    sum_slice(level, x) / x.len() as f64
}

/// How many numbers there are, their mean, and the sum of their squared deviations from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// The number of terms.
    pub count: f64,
    /// Their mean.
    pub mean: f64,
    /// `sum (x_i - mean)^2`
    pub squared_deviations: f64,
}

impl Moments {
    /// Of nothing.
    pub const EMPTY: Self = Self {
        count: 0.0,
        mean: 0.0,
        squared_deviations: 0.0,
    };

    /// The moments of both samples together (Chan, Golub and LeVeque 1979).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        if count == 0.0 {
            return Self::EMPTY;
        }
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            squared_deviations: self.squared_deviations
                + other.squared_deviations
                + delta * delta * self.count * share,
        }
    }

    /// The mean of the squared deviations.
    #[must_use]
    pub fn population_variance(self) -> f64 {
        self.squared_deviations / self.count
    }

    /// The squared deviations over `count - 1`.
    #[must_use]
    pub fn sample_variance(self) -> f64 {
        self.squared_deviations / (self.count - 1.0)
    }
}

struct MomentsKernel<'a, R>(&'a [R]);

impl<R: SimdReal> Kernel for MomentsKernel<'_, R> {
    type Output = Moments;
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> Moments {
        block_moments(simd, self.0)
    }
}

/// The moments of at most a few thousand numbers: the mean, then deviations from it and what the rounded mean left over.
#[inline(always)]
pub(crate) fn block_moments<S: Isa, R: SimdReal>(simd: S, x: &[R]) -> Moments {
    if x.is_empty() {
        return Moments::EMPTY;
    }
    let n = x.len() as f64;
    let center = R::from_f64(block_sum(simd, Plain, x, x).to_f64() / n);
    let (deviation, squares) = deviations(simd, x, center);
    Moments {
        count: n,
        mean: center.to_f64() + deviation / n,
        squared_deviations: (squares - deviation * deviation / n).max(0.0) + 0.0 * squares,
    }
}

/// The sum of all lanes of four vectors.
#[inline(always)]
fn joined<S: Isa, R: SimdReal>(x: [Lanes<S, R>; 4]) -> R {
    ((x[0] + x[1]) + (x[2] + x[3])).sum()
}

/// `sum (x_i - center)` and `sum (x_i - center)^2`
#[inline(always)]
fn deviations<S: Isa, R: SimdReal>(simd: S, x: &[R], center: R) -> (f64, f64) {
    let center = Lanes::<S, R>::splat(simd, center);
    let (full, rest) = R::split::<S>(x);
    let mut sums = [Lanes::<S, R>::zero(simd); 4];
    let mut squares = [Lanes::<S, R>::zero(simd); 4];
    let (groups, singles) = full.as_chunks::<4>();
    for group in groups {
        for i in 0..4 {
            let d = Lanes::from_raw(simd, group[i]) - center;
            sums[i] += d;
            squares[i] = d.mul_add(d, squares[i]);
        }
    }
    for &x in singles {
        let d = Lanes::from_raw(simd, x) - center;
        sums[0] += d;
        squares[0] = d.mul_add(d, squares[0]);
    }
    if !rest.is_empty() {
        let mask = crate::lanes::LaneMask::first(simd, rest.len());
        let d = mask.or_zero(Lanes::load_partial(simd, rest) - center);
        sums[1] += d;
        squares[1] = d.mul_add(d, squares[1]);
    }
    (joined(sums).to_f64(), joined(squares).to_f64())
}

instantiate! {
    /// Count, mean and squared deviations, accurate also where the mean is large beside the spread.
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn moments<R>(level: SimdLevel, x: &[R]) -> Moments
    {}
    then {
        let leaf = |block: std::ops::Range<usize>| dispatch(level, MomentsKernel(&x[block]));
        tree::reduce(x.len(), BLOCK, false, &leaf, &Moments::merge).unwrap_or(Moments::EMPTY)
    }
}

struct MaxKernel<'a, R>(&'a [R]);

impl<R: SimdReal> Kernel for MaxKernel<'_, R> {
    type Output = R;
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> R {
        row_max(simd, self.0)
    }
}

/// The largest element; NaN when one is NaN, `-inf` when there is none.
#[inline(always)]
pub(crate) fn row_max<S: Isa, R: SimdReal>(simd: S, x: &[R]) -> R {
    let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
    let (full, rest) = R::split::<S>(x);
    let mut best = [lowest; 4];
    let (groups, singles) = full.as_chunks::<4>();
    // What is new comes first: then only one instruction waits for the maximum so far.
    for group in groups {
        for i in 0..4 {
            best[i] = Lanes::from_raw(simd, group[i]).max(best[i]);
        }
    }
    for &x in singles {
        best[0] = Lanes::from_raw(simd, x).max(best[0]);
    }
    if !rest.is_empty() {
        let mask = crate::lanes::LaneMask::first(simd, rest.len());
        best[1] = mask
            .select(Lanes::load_partial(simd, rest), lowest)
            .max(best[1]);
    }
    let best = (best[0].max(best[1])).max(best[2].max(best[3]));
    if best.is_nan().any() {
        R::from_f64(f64::NAN)
    } else {
        best.largest_lane()
    }
}

instantiate! {
    /// The largest element; NaN when one is NaN, `-inf` when there is none.
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn max_slice<R>(level: SimdLevel, x: &[R]) -> R
    {}
    then { dispatch(level, MaxKernel(x)) }
}

struct RowSumsKernel<'a, R> {
    x: &'a [R],
    cols: usize,
    scale: f64,
    out: &'a mut [R],
}

impl<R: SimdReal> Kernel for RowSumsKernel<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            x,
            cols,
            scale,
            out,
        } = self;
        for (r, out) in out.iter_mut().enumerate() {
            let row = &x[r * cols..][..cols];
            let mut total = 0.0;
            for block in row.chunks(SUM_BLOCK.min(chain_block::<S, R>(SUMS))) {
                total += block_sum(simd, Plain, block, block).to_f64();
            }
            *out = R::from_f64(total * scale);
        }
    }
}

instantiate! {
    /// `out[r] = scale * sum_c x[r, c]` for `x` of `[out.len(), cols]`; scale `1 / cols` for means.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn row_sums<R>(level: SimdLevel, x: &[R], cols: usize, scale: f64, out: &mut [R])
    { same_length("x", x.len(), "rows x cols", out.len() * cols); }
    then { dispatch(level, RowSumsKernel { x, cols, scale, out }) }
}

/// Rows that a column is summed over before rounding is accounted for.
const ROW_BLOCK: usize = CHAIN;

/// Vectors side by side in a strip of columns.
const STRIP: usize = 4;

struct ColumnSumsKernel<'a, R> {
    x: &'a [R],
    out: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for ColumnSumsKernel<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { x, out, acc } = self;
        let cols = out.len();
        let lanes = Lanes::<S, R>::LEN;
        let mut c = 0;
        while c + STRIP * lanes <= cols {
            let sums = strip_sums::<STRIP, S, R>(simd, x, cols, c);
            for (i, sum) in sums.into_iter().enumerate() {
                store_sum(simd, sum, &mut out[c + i * lanes..][..lanes], acc);
            }
            c += STRIP * lanes;
        }
        while c < cols {
            let width = lanes.min(cols - c);
            let [sum] = strip_sums::<1, S, R>(simd, x, cols, c);
            store_sum(simd, sum, &mut out[c..c + width], acc);
            c += width;
        }
    }
}

#[inline(always)]
fn store_sum<S: Isa, R: SimdReal>(simd: S, sum: Lanes<S, R>, out: &mut [R], acc: Accumulate) {
    match acc {
        Accumulate::Write => sum.store_partial(out),
        Accumulate::Add => (Lanes::load_partial(simd, out) + sum).store_partial(out),
    }
}

/// The sums of `W` vectors of columns from column `c`; lanes beyond the last column are zero.
#[inline(always)]
fn strip_sums<const W: usize, S: Isa, R: SimdReal>(
    simd: S,
    x: &[R],
    cols: usize,
    c: usize,
) -> [Lanes<S, R>; W] {
    let lanes = Lanes::<S, R>::LEN;
    let width = (cols - c).min(W * lanes);
    let mut total = [Lanes::<S, R>::zero(simd); W];
    let mut lost = [Lanes::<S, R>::zero(simd); W];
    for block in x.chunks(ROW_BLOCK * cols) {
        let mut sum = [Lanes::<S, R>::zero(simd); W];
        if width == W * lanes {
            for row in block.chunks_exact(cols) {
                let (vectors, _) = R::split::<S>(&row[c..c + W * lanes]);
                for i in 0..W {
                    sum[i] += Lanes::from_raw(simd, vectors[i]);
                }
            }
        } else {
            for row in block.chunks_exact(cols) {
                sum[0] += Lanes::load_partial(simd, &row[c..c + width]);
            }
        }
        for i in 0..W {
            // Two-sum: what the addition rounds away is kept.
            let new = total[i] + sum[i];
            let part = new - total[i];
            lost[i] += (total[i] - (new - part)) + (sum[i] - part);
            total[i] = new;
        }
    }
    for i in 0..W {
        total[i] += lost[i];
    }
    total
}

instantiate! {
    /// `out[c] (+)= sum_r x[r, c]` for `x` of `[rows, out.len()]`: the gradient of a bias. Error at most [`SUM_ERROR`].
    ///
    /// An infinite or NaN element makes its column's sum NaN.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn column_sums<R>(level: SimdLevel, x: &[R], out: &mut [R], acc: Accumulate)
    { whole_rows("x", x.len(), "out", out.len()); }
    then {
        if let [out] = out {
            acc.store(out, R::from_f64(dispatch(level, SumKernel { term: Plain, a: x, b: x })));
        } else {
            dispatch(level, ColumnSumsKernel { x, out, acc });
        }
    }
}

#[cfg(test)]
mod tests;
