//! Softmax over the rows of a matrix, forward and backward.
//!
//! The simple version: subtract the row's maximum, exponentiate, divide by the sum. Three passes over a row that stays in
//! cache; a row that fits one vector is done in registers.
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

impl<R: SimdReal> Kernel for Forward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { x, cols, y } = self;
        if cols <= Lanes::<S, R>::LEN && !S::IS_SCALAR {
            for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
                short_row(simd, x, y);
            }
        } else {
            for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
                long_row(simd, x, y);
            }
        }
    }
}

/// A row of one vector at most.
#[inline(always)]
fn short_row<S: Isa, R: SimdReal>(simd: S, x: &[R], y: &mut [R]) {
    let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
    let inside = LaneMask::first(simd, x.len());
    let x = inside.select(Lanes::load_partial(simd, x), lowest);
    let is_nan = x.is_nan();
    // A NaN is put aside for the maximum; it comes back through the exponential.
    let best = is_nan.select(lowest, x).largest_lane();
    if best == R::from_f64(f64::NEG_INFINITY) {
        is_nan.or_zero(x).store_partial(y);
        if is_nan.any() {
            y.fill(R::from_f64(f64::NAN));
        }
        return;
    }
    let e = inside.or_zero(math::exp(x - Lanes::splat(simd, best)));
    (e * (R::ONE / e.sum())).store_partial(y);
}

/// A row of any length.
#[inline(always)]
fn long_row<S: Isa, R: SimdReal>(simd: S, x: &[R], y: &mut [R]) {
    let negative_infinity = R::from_f64(f64::NEG_INFINITY);
    let lowest = Lanes::<S, R>::splat(simd, negative_infinity);
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (full, rest) = R::split::<S>(x);
    let rest_mask = LaneMask::first(simd, rest.len());
    let mut best = [lowest; 2];
    let (pairs, single) = full.as_chunks::<2>();
    for pair in pairs {
        // NaN is dropped here; it comes back through the exponential.
        best[0] = lane(pair[0]).larger_of(best[0]);
        best[1] = lane(pair[1]).larger_of(best[1]);
    }
    for &x in single {
        best[0] = lane(x).larger_of(best[0]);
    }
    if !rest.is_empty() {
        let x = rest_mask.select(Lanes::load_partial(simd, rest), lowest);
        best[1] = x.larger_of(best[1]);
    }
    let best = best[0].larger_of(best[1]).largest_lane();
    if best == negative_infinity {
        let fill = if x.iter().any(|x| x.is_nan()) {
            R::from_f64(f64::NAN)
        } else {
            R::ZERO
        };
        y.fill(fill);
        return;
    }
    let best = Lanes::splat(simd, best);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    let zero = Lanes::<S, R>::zero(simd);
    let mut sum = [zero; 2];
    let mut which = 0;
    let mut total = 0.0;
    // A long row's running sums are added up from time to time, so that their rounding errors stay small.
    for (x, y) in full.chunks(2 * CHAIN).zip(y_full.chunks_mut(2 * CHAIN)) {
        total += (sum[0] + sum[1]).sum().to_f64();
        sum = [zero; 2];
        for (&x, y) in x.iter().zip(y) {
            let e = math::exp(lane(x) - best);
            sum[which] += e;
            which ^= 1;
            *y = e.raw();
        }
    }
    if !rest.is_empty() {
        let e = rest_mask.or_zero(math::exp(Lanes::load_partial(simd, rest) - best));
        sum[1] += e;
        e.store_partial(y_rest);
    }
    total += (sum[0] + sum[1]).sum().to_f64();
    let share = Lanes::splat(simd, R::ONE / R::from_f64(total));
    for y in y_full {
        *y = (lane(*y) * share).raw();
    }
    if !y_rest.is_empty() {
        (Lanes::load_partial(simd, y_rest) * share).store_partial(y_rest);
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
        let rows = y.chunks_exact(cols).zip(dy.chunks_exact(cols));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(cols)) {
            match acc {
                Accumulate::Write => backward_row::<false, S, R>(simd, y, dy, dx),
                Accumulate::Add => backward_row::<true, S, R>(simd, y, dy, dx),
            }
        }
    }
}

/// `dx (+)= y (dy - sum y dy)`
#[inline(always)]
fn backward_row<const ADD: bool, S: Isa, R: SimdReal>(simd: S, y: &[R], dy: &[R], dx: &mut [R]) {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (y_full, y_rest) = R::split::<S>(y);
    let (dy_full, dy_rest) = R::split::<S>(dy);
    let mut sum = Lanes::<S, R>::zero(simd);
    let mut total = 0.0;
    for (y, dy) in y_full.chunks(CHAIN).zip(dy_full.chunks(CHAIN)) {
        total += sum.sum().to_f64();
        sum = Lanes::zero(simd);
        for (&y, &dy) in y.iter().zip(dy) {
            sum = lane(y).mul_add(lane(dy), sum);
        }
    }
    let (y_last, dy_last) = if y_rest.is_empty() {
        (Lanes::zero(simd), Lanes::zero(simd))
    } else {
        (
            Lanes::load_partial(simd, y_rest),
            Lanes::load_partial(simd, dy_rest),
        )
    };
    sum = y_last.mul_add(dy_last, sum);
    let dot = Lanes::splat(simd, R::from_f64(total + sum.sum().to_f64()));
    let (dx_full, dx_rest) = R::split_mut::<S>(dx);
    for ((&y, &dy), dx) in y_full.iter().zip(dy_full).zip(dx_full) {
        let value = lane(y) * (lane(dy) - dot);
        *dx = if ADD { lane(*dx) + value } else { value }.raw();
    }
    if !dx_rest.is_empty() {
        let value = y_last * (dy_last - dot);
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
