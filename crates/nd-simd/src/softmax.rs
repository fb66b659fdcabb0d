//! Softmax over the rows of a matrix, forward and backward.
//!
//! The simple version: subtract the row's maximum, exponentiate, divide by the sum. Three passes over a row that stays in
//! cache. Up to sixteen short rows take each pass together, because each pass waits for the result of the one before.
//!
//! Masked entries are `-inf`: they get probability zero. A row of nothing but `-inf` becomes zeros (not NaN), and its gradient is
//! zero. NaN anywhere in a row makes the row NaN, and so does `+inf`.

mod array;
mod log;

pub use array::{
    log_softmax, log_softmax_axis, log_softmax_gradient, softmax, softmax_axis, softmax_gradient,
};
pub use log::{log_softmax_backward, log_softmax_forward};

use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::elementwise::whole_rows;
use crate::lanes::{LaneMask, Lanes, SimdReal};
use crate::math;
use crate::reduce::CHAIN;

struct Forward<'a, R> {
    x: &'a [R],
    cols: usize,
    y: &'a mut [R],
}

/// Rows that take each step together: a row's maximum, sum and quotient wait for each other, those of different rows do not.
const GROUP: usize = 16;

/// Elements of a group of several rows: what the first cache level holds beside its results.
const GROUP_ELEMENTS: usize = 4096;

/// The rows of a group.
#[inline(always)]
fn group(cols: usize) -> usize {
    (GROUP_ELEMENTS / cols).clamp(1, GROUP)
}

impl<R: SimdReal> Kernel for Forward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { x, cols, y } = self;
        let size = group(cols) * cols;
        if cols <= Lanes::<S, R>::LEN && !S::IS_SCALAR {
            for (x, y) in x.chunks(size).zip(y.chunks_mut(size)) {
                forward_group(simd, ShortRow, cols, x, y);
            }
        } else {
            for (x, y) in x.chunks(size).zip(y.chunks_mut(size)) {
                forward_group(simd, LongRow, cols, x, y);
            }
        }
    }
}

/// The steps of a softmax over one row.
trait Steps: Copy {
    /// The largest element, NaN put aside.
    fn largest<S: Isa, R: SimdReal>(self, simd: S, x: &[R]) -> R;
    /// `y = e^(x - largest)`, whose sum is returned; a NaN of `x` comes back here.
    fn exponentials<S: Isa, R: SimdReal>(self, simd: S, x: &[R], largest: R, y: &mut [R]) -> R;
    /// `y = y share`
    fn scale<S: Isa, R: SimdReal>(self, share: Lanes<S, R>, y: &mut [R]);
}

#[inline(always)]
fn forward_group<S: Isa, R: SimdReal>(
    simd: S,
    steps: impl Steps,
    cols: usize,
    x: &[R],
    y: &mut [R],
) {
    let negative_infinity = R::from_f64(f64::NEG_INFINITY);
    let mut largest = [negative_infinity; GROUP];
    let mut sums = [R::ONE; GROUP];
    for (x, largest) in x.chunks_exact(cols).zip(&mut largest) {
        *largest = steps.largest(simd, x);
    }
    let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
    for ((x, y), (&largest, sum)) in rows.zip(largest.iter().zip(&mut sums)) {
        if largest == negative_infinity {
            // Nothing but masked entries, or NaN.
            let nothing = !x.iter().any(|x| x.is_nan());
            y.fill(if nothing {
                R::ZERO
            } else {
                R::from_f64(f64::NAN)
            });
        } else {
            *sum = steps.exponentials(simd, x, largest, y);
        }
    }
    for sums in sums.chunks_mut(Lanes::<S, R>::LEN) {
        (Lanes::splat(simd, R::ONE) / Lanes::load_partial(simd, sums)).store_partial(sums);
    }
    for (y, &share) in y.chunks_exact_mut(cols).zip(&sums) {
        steps.scale(Lanes::<S, R>::splat(simd, share), y);
    }
}

/// A row of one vector at most.
#[derive(Clone, Copy)]
struct ShortRow;

impl Steps for ShortRow {
    #[inline(always)]
    fn largest<S: Isa, R: SimdReal>(self, simd: S, x: &[R]) -> R {
        let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
        let inside = LaneMask::first(simd, x.len());
        let x = inside.select(Lanes::load_partial(simd, x), lowest);
        x.larger_of(lowest).largest_lane()
    }

    #[inline(always)]
    fn exponentials<S: Isa, R: SimdReal>(self, simd: S, x: &[R], largest: R, y: &mut [R]) -> R {
        let inside = LaneMask::first(simd, x.len());
        let x = Lanes::load_partial(simd, x) - Lanes::<S, R>::splat(simd, largest);
        let e = inside.or_zero(math::exp(x));
        e.store_partial(y);
        e.sum()
    }

    #[inline(always)]
    fn scale<S: Isa, R: SimdReal>(self, share: Lanes<S, R>, y: &mut [R]) {
        (Lanes::load_partial(share.simd(), y) * share).store_partial(y);
    }
}

/// A row of any length.
#[derive(Clone, Copy)]
struct LongRow;

/// Vectors of a row that are worked on side by side.
const SIDE_BY_SIDE: usize = 4;

impl Steps for LongRow {
    #[inline(always)]
    fn largest<S: Isa, R: SimdReal>(self, simd: S, x: &[R]) -> R {
        let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let (full, rest) = R::split::<S>(x);
        let mut best = [lowest; SIDE_BY_SIDE];
        let (groups, singles) = full.as_chunks::<SIDE_BY_SIDE>();
        for group in groups {
            for i in 0..SIDE_BY_SIDE {
                best[i] = lane(group[i]).larger_of(best[i]);
            }
        }
        for &x in singles {
            best[0] = lane(x).larger_of(best[0]);
        }
        if !rest.is_empty() {
            let x = Lanes::load_partial(simd, rest);
            let x = LaneMask::first(simd, rest.len()).select(x, lowest);
            best[1] = x.larger_of(best[1]);
        }
        let best = best[0]
            .larger_of(best[1])
            .larger_of(best[2].larger_of(best[3]));
        best.largest_lane()
    }

    #[inline(always)]
    fn exponentials<S: Isa, R: SimdReal>(self, simd: S, x: &[R], largest: R, y: &mut [R]) -> R {
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let best = Lanes::<S, R>::splat(simd, largest);
        let (x_full, x_rest) = R::split::<S>(x);
        let (y_full, y_rest) = R::split_mut::<S>(y);
        let zero = Lanes::<S, R>::zero(simd);
        let mut last = zero;
        if !x_rest.is_empty() {
            let e = math::exp(Lanes::load_partial(simd, x_rest) - best);
            last = LaneMask::first(simd, x_rest.len()).or_zero(e);
            last.store_partial(y_rest);
        }
        let mut total = 0.0;
        // A long row's running sums are added up from time to time, so that their rounding errors stay small.
        const PIECE: usize = SIDE_BY_SIDE * CHAIN;
        for (x, y) in x_full.chunks(PIECE).zip(y_full.chunks_mut(PIECE)) {
            let mut sums = [zero; SIDE_BY_SIDE];
            let (x_groups, x_singles) = x.as_chunks::<SIDE_BY_SIDE>();
            let (y_groups, y_singles) = y.as_chunks_mut::<SIDE_BY_SIDE>();
            for (x, y) in x_groups.iter().zip(y_groups) {
                for i in 0..SIDE_BY_SIDE {
                    let e = math::exp(lane(x[i]) - best);
                    sums[i] += e;
                    y[i] = e.raw();
                }
            }
            for (&x, y) in x_singles.iter().zip(y_singles) {
                let e = math::exp(lane(x) - best);
                sums[0] += e;
                *y = e.raw();
            }
            let sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
            total += sum.sum().to_f64();
        }
        R::from_f64(total + last.sum().to_f64())
    }

    #[inline(always)]
    fn scale<S: Isa, R: SimdReal>(self, share: Lanes<S, R>, y: &mut [R]) {
        let (full, rest) = R::split_mut::<S>(y);
        for y in full {
            *y = (Lanes::from_raw(share.simd(), *y) * share).raw();
        }
        if !rest.is_empty() {
            (Lanes::load_partial(share.simd(), rest) * share).store_partial(rest);
        }
    }
}

struct Backward<'a, R> {
    y: &'a [R],
    cols: usize,
    dy: &'a [R],
    dx: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for Backward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            y,
            cols,
            dy,
            dx,
            acc,
        } = self;
        let size = group(cols) * cols;
        let groups = y.chunks(size).zip(dy.chunks(size));
        for ((y, dy), dx) in groups.zip(dx.chunks_mut(size)) {
            let mut dots = [R::ZERO; GROUP];
            let rows = || y.chunks_exact(cols).zip(dy.chunks_exact(cols));
            for ((y, dy), dot) in rows().zip(&mut dots) {
                *dot = row_dot(simd, y, dy);
            }
            for (((y, dy), &dot), dx) in rows().zip(&dots).zip(dx.chunks_exact_mut(cols)) {
                match acc {
                    Accumulate::Write => row_gradient::<false, S, R>(simd, y, dy, dot, dx),
                    Accumulate::Add => row_gradient::<true, S, R>(simd, y, dy, dot, dx),
                }
            }
        }
    }
}

/// `sum y dy`
#[inline(always)]
fn row_dot<S: Isa, R: SimdReal>(simd: S, y: &[R], dy: &[R]) -> R {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (y_full, y_rest) = R::split::<S>(y);
    let (dy_full, dy_rest) = R::split::<S>(dy);
    let mut sum = Lanes::<S, R>::zero(simd);
    if !y_rest.is_empty() {
        sum = Lanes::load_partial(simd, y_rest) * Lanes::load_partial(simd, dy_rest);
    }
    let mut total = 0.0;
    for (y, dy) in y_full.chunks(CHAIN).zip(dy_full.chunks(CHAIN)) {
        total += sum.sum().to_f64();
        sum = Lanes::zero(simd);
        for (&y, &dy) in y.iter().zip(dy) {
            sum = lane(y).mul_add(lane(dy), sum);
        }
    }
    R::from_f64(total + sum.sum().to_f64())
}

/// `dx (+)= y (dy - dot)`
#[inline(always)]
fn row_gradient<const ADD: bool, S: Isa, R: SimdReal>(
    simd: S,
    y: &[R],
    dy: &[R],
    dot: R,
    dx: &mut [R],
) {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (y_full, y_rest) = R::split::<S>(y);
    let (dy_full, dy_rest) = R::split::<S>(dy);
    let (dx_full, dx_rest) = R::split_mut::<S>(dx);
    let dot = Lanes::splat(simd, dot);
    for ((&y, &dy), dx) in y_full.iter().zip(dy_full).zip(dx_full) {
        let value = lane(y) * (lane(dy) - dot);
        *dx = if ADD { lane(*dx) + value } else { value }.raw();
    }
    if !dx_rest.is_empty() {
        let (y, dy) = (
            Lanes::load_partial(simd, y_rest),
            Lanes::load_partial(simd, dy_rest),
        );
        let value = y * (dy - dot);
        let value = if ADD {
            Lanes::load_partial(simd, dx_rest) + value
        } else {
            value
        };
        value.store_partial(dx_rest);
    }
}

instantiate! {
    /// `y[r, c] = e^x[r, c] / sum_k e^x[r, k]` for `x` and `y` of `[rows, cols]`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn softmax_forward<R>(level: SimdLevel, cols: usize, x: &[R], y: &mut [R])
    {
        same_length("x", x.len(), "y", y.len());
        whole_rows("x", x.len(), "a row", cols);
    }
    then {
        if !x.is_empty() {
            dispatch(level, Forward { x, cols, y });
        }
    }
}

instantiate! {
    /// `dx (+)= y (dy - sum y dy)` over each row, from the output of the forward pass.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn softmax_backward<R>(
        level: SimdLevel,
        cols: usize,
        y: &[R],
        dy: &[R],
        dx: &mut [R],
        acc: Accumulate,
    )
    {
        same_length("y", y.len(), "dy", dy.len());
        same_length("y", y.len(), "dx", dx.len());
        whole_rows("y", y.len(), "a row", cols);
    }
    then {
        if !y.is_empty() {
            dispatch(level, Backward { y, cols, dy, dx, acc });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::softmax::{softmax, softmax_gradient};
    use crate::testing::{Noise, assert_all_close, poisoned, to_f64};

    fn agrees<R: SimdReal>(tolerance: f64) {
        let mut noise = Noise::new(12);
        for level in nd_testing::levels() {
            for cols in (1..36).chain([64, 65, 130, 336]) {
                let rows = 6;
                let what = format!("{level} [{rows}, {cols}]");
                let mut x: Vec<R> = noise.vec(rows * cols, 8.0);
                // Row 1 loses entries, row 2 loses all, row 3 has large values.
                for c in 0..cols {
                    if c % 3 == 1 {
                        x[cols + c] = R::from_f64(f64::NEG_INFINITY);
                    }
                    x[2 * cols + c] = R::from_f64(f64::NEG_INFINITY);
                    x[3 * cols + c] *= R::from_f64(1e3);
                }
                let mut y = poisoned(rows * cols);
                softmax_forward(level, cols, &x, &mut y);
                let exact = softmax(cols, &to_f64(&x));
                assert_all_close(&y, &exact, tolerance, &what);
                assert!(y[2 * cols..3 * cols].iter().all(|&y| y == R::ZERO));
                let dy: Vec<R> = noise.vec(rows * cols, 1.0);
                let exact = softmax_gradient(cols, &exact, &to_f64(&dy));
                let mut dx = poisoned(rows * cols);
                softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Write);
                assert_all_close(&dx, &exact, 4.0 * tolerance, &what);
                let mut dx = vec![R::ONE; rows * cols];
                softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Add);
                let exact: Vec<f64> = exact.iter().map(|dx| dx + 1.0).collect();
                assert_all_close(&dx, &exact, 8.0 * tolerance, &what);
            }
            softmax_forward::<R>(level, 5, &[], &mut []);
        }
    }

    #[test]
    fn f32_agrees_with_the_reference() {
        agrees::<f32>(5e-7);
    }

    #[test]
    fn f64_agrees_with_the_reference() {
        agrees::<f64>(1e-15);
    }

    #[test]
    fn nan_is_never_swallowed() {
        for level in nd_testing::levels() {
            for cols in [1, 3, 16, 17, 50] {
                for at in [0, cols / 2, cols - 1] {
                    for other in [0.0f32, f32::NEG_INFINITY] {
                        let mut x = vec![other; 3 * cols];
                        x[cols + at] = f32::NAN;
                        let mut y = vec![0.0; 3 * cols];
                        softmax_forward(level, cols, &x, &mut y);
                        for (i, y) in y.iter().enumerate() {
                            assert_eq!(y.is_nan(), i / cols == 1, "{level} {cols} {at} {other}");
                        }
                    }
                }
            }
        }
    }
}
