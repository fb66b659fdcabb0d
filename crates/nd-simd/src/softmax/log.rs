//! The logarithm of the softmax over the rows of a matrix, forward and backward.
//!
//! The simple version takes the logarithm of the softmax, and loses all digits of an entry whose share is below the smallest
//! number: there the answer would be `-inf` instead of, say, -200. Here the logarithm of the sum is subtracted instead.
//!
//! Masked entries are `-inf` and stay so. A row of nothing but `-inf` stays as it is, and its gradient is zero, as in the
//! softmax. NaN anywhere in a row makes the row NaN, and so does `+inf`.

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
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            forward_row(simd, x, y);
        }
    }
}

#[inline(always)]
fn forward_row<S: Isa, R: SimdReal>(simd: S, x: &[R], y: &mut [R]) {
    let negative_infinity = R::from_f64(f64::NEG_INFINITY);
    let lowest = Lanes::<S, R>::splat(simd, negative_infinity);
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let (full, rest) = R::split::<S>(x);
    let rest_mask = LaneMask::first(simd, rest.len());
    let mut best = lowest;
    for &x in full {
        // NaN is dropped here; it comes back through the exponential.
        best = lane(x).larger_of(best);
    }
    if !rest.is_empty() {
        best = rest_mask
            .select(Lanes::load_partial(simd, rest), lowest)
            .larger_of(best);
    }
    let best = best.largest_lane();
    if best == negative_infinity {
        let is_nan = x.iter().any(|x| x.is_nan());
        y.fill(if is_nan {
            R::from_f64(f64::NAN)
        } else {
            negative_infinity
        });
        return;
    }
    let best = Lanes::splat(simd, best);
    let mut sum = Lanes::<S, R>::zero(simd);
    let mut total = 0.0;
    // A long row's running sum is put aside from time to time, so that its rounding errors stay small.
    for x in full.chunks(CHAIN) {
        for &x in x {
            sum += math::exp(lane(x) - best);
        }
        total += sum.sum().to_f64();
        sum = Lanes::zero(simd);
    }
    if !rest.is_empty() {
        let e = rest_mask.or_zero(math::exp(Lanes::load_partial(simd, rest) - best));
        total += e.sum().to_f64();
    }
    // Two numbers, subtracted one after the other: their sum would round at the size of the maximum.
    let log_sum = math::log(Lanes::splat(simd, R::from_f64(total)));
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for (&x, y) in full.iter().zip(y_full) {
        *y = (lane(x) - best - log_sum).raw();
    }
    if !rest.is_empty() {
        (Lanes::load_partial(simd, rest) - best - log_sum).store_partial(y_rest);
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

/// `dx (+)= dy - e^y sum dy`
#[inline(always)]
fn backward_row<const ADD: bool, S: Isa, R: SimdReal>(simd: S, y: &[R], dy: &[R], dx: &mut [R]) {
    let lane = |x| Lanes::<S, R>::from_raw(simd, x);
    let negative_infinity = R::from_f64(f64::NEG_INFINITY);
    if y.iter().all(|&y| y == negative_infinity) {
        if !ADD {
            dx.fill(R::ZERO);
        }
        return;
    }
    let (y_full, y_rest) = R::split::<S>(y);
    let (dy_full, dy_rest) = R::split::<S>(dy);
    let mut sum = Lanes::<S, R>::zero(simd);
    let mut total = 0.0;
    for dy in dy_full.chunks(CHAIN) {
        for &dy in dy {
            sum += lane(dy);
        }
        total += sum.sum().to_f64();
        sum = Lanes::zero(simd);
    }
    if !dy_rest.is_empty() {
        total += Lanes::<S, R>::load_partial(simd, dy_rest).sum().to_f64();
    }
    let total = Lanes::splat(simd, R::from_f64(total));
    let (dx_full, dx_rest) = R::split_mut::<S>(dx);
    for ((&y, &dy), dx) in y_full.iter().zip(dy_full).zip(dx_full) {
        let value = (-math::exp(lane(y))).mul_add(total, lane(dy));
        *dx = if ADD { lane(*dx) + value } else { value }.raw();
    }
    if !dx_rest.is_empty() {
        let share = math::exp(Lanes::load_partial(simd, y_rest));
        let value = (-share).mul_add(total, Lanes::load_partial(simd, dy_rest));
        let value = if ADD {
            Lanes::load_partial(simd, dx_rest) + value
        } else {
            value
        };
        value.store_partial(dx_rest);
    }
}

instantiate! {
    /// `y[r, c] = x[r, c] - log sum_k e^x[r, k]` for `x` and `y` of `[rows, cols]`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn log_softmax_forward<R>(level: SimdLevel, cols: usize, x: &[R], y: &mut [R])
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
    /// `dx (+)= dy - e^y sum dy` over each row, from the output of the forward pass.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn log_softmax_backward<R>(
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
    use crate::reference::log_softmax::{log_softmax, log_softmax_gradient};
    use crate::testing::{Noise, assert_all_close, poisoned, to_f64};

    fn agrees<R: SimdReal>(tolerance: f64) {
        let mut noise = Noise::new(13);
        for level in nd_testing::levels() {
            for cols in (1..36).chain([64, 65, 130, 336, 1500]) {
                let rows = 5;
                let what = format!("{level} [{rows}, {cols}]");
                let mut x: Vec<R> = noise.vec(rows * cols, 8.0);
                // Row 1 loses entries, row 2 loses all, row 3 has small shares, row 4 is far from zero.
                for c in 0..cols {
                    if c % 3 == 1 {
                        x[cols + c] = R::from_f64(f64::NEG_INFINITY);
                    }
                    x[2 * cols + c] = R::from_f64(f64::NEG_INFINITY);
                    x[3 * cols + c] *= R::from_f64(50.0);
                    x[4 * cols + c] += R::from_f64(1000.0);
                }
                let mut y = poisoned(rows * cols);
                log_softmax_forward(level, cols, &x, &mut y);
                let exact = log_softmax(cols, &to_f64(&x));
                for (i, (&y, &exact)) in y.iter().zip(&exact).enumerate() {
                    let bound = tolerance * (1.0 + exact.abs());
                    let place = || format!("{what}, element {i}");
                    crate::testing::assert_close(y, exact, bound, place);
                }
                let dy: Vec<R> = noise.vec(rows * cols, 1.0);
                let exact = log_softmax_gradient(cols, &to_f64(&y), &to_f64(&dy));
                let mut dx = poisoned(rows * cols);
                log_softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Write);
                let bound = 10.0 * tolerance * (cols as f64).sqrt();
                assert_all_close(&dx, &exact, bound, &what);
                let mut dx = vec![R::ONE; rows * cols];
                log_softmax_backward(level, cols, &y, &dy, &mut dx, Accumulate::Add);
                let exact: Vec<f64> = exact.iter().map(|dx| dx + 1.0).collect();
                assert_all_close(&dx, &exact, bound, &what);
            }
            log_softmax_forward::<R>(level, 5, &[], &mut []);
            log_softmax_backward::<R>(level, 5, &[], &[], &mut [], Accumulate::Write);
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
                        for bad in [f32::NAN, f32::INFINITY] {
                            let mut x = vec![other; 3 * cols];
                            x[cols + at] = bad;
                            let mut y = vec![0.0; 3 * cols];
                            log_softmax_forward(level, cols, &x, &mut y);
                            for (i, y) in y.iter().enumerate() {
                                let what = format!("{level} {cols} {at} {other} {bad}");
                                assert_eq!(y.is_nan(), i / cols == 1, "{what}");
                            }
                        }
                    }
                }
            }
        }
    }
}
