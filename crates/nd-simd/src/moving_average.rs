//! The moving average of a series whose first and last value are repeated beyond its ends.
//!
//! `y[t] = 1/k sum over |d| <= (k-1)/2 of x[clamp(t + d)]`: the trend of DLinear and Autoformer.
//!
//! The simple version sums each window. Inside the series that is also the fast version: a vector holds neighbouring windows, so
//! `k` additions make a whole vector of outputs, with no scratch memory. A running sum would need fewer additions, but
//! its rounding errors pile up, and one NaN would reach every later window instead of `k` of them. In the `(k-1)/2` windows at
//! each end, which reach over it, the sum grows by one value per step.
//!
//! Values are `[outer, len, inner]`; features of a step lie beside each other and are treated like neighbours in time, only
//! `inner` apart.
//!
//! Known weakness: very wide windows (hundreds) cost `k` additions per vector.

mod array;

pub use array::{moving_average, moving_average_gradient};

use nd_core::Real;
use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::{Lanes, SimdReal};
use crate::pool::Axis;

#[track_caller]
fn check(window: usize, axis: Axis, x: (&str, usize), y: (&str, usize)) {
    assert!(
        window % 2 == 1,
        "a moving average needs an odd window to be centred, found {window}"
    );
    axis.check(x.0, x.1);
    axis.check(y.0, y.1);
}

instantiate! {
    /// `y = moving average of x`, both `[outer, len, inner]`, over `window` steps.
    ///
    /// # Panics
    /// An even window, or a slice of another size.
    pub fn moving_average_forward<R>(
        level: SimdLevel,
        window: usize,
        axis: Axis,
        x: &[R],
        y: &mut [R],
    )
    { check(window, axis, ("x", x.len()), ("y", y.len())); }
    then { dispatch(level, Average { half: window / 2, axis, x, y, ends: Ends::Repeated, acc: Accumulate::Write }); }
}

instantiate! {
    /// The gradient of [`moving_average_forward`], its exact adjoint: `dx [outer, len, inner]` of `dy`.
    ///
    /// # Panics
    /// As [`moving_average_forward`].
    pub fn moving_average_backward<R>(
        level: SimdLevel,
        window: usize,
        axis: Axis,
        dy: &[R],
        dx: &mut [R],
        acc: Accumulate,
    )
    { check(window, axis, ("dy", dy.len()), ("dx", dx.len())); }
    then {
        // Within the series the adjoint is the same sum, of windows that stop at the ends ...
        dispatch(level, Average { half: window / 2, axis, x: dy, y: dx, ends: Ends::Cut, acc });
        // ... and the first and the last value have also been read for the places beyond.
        add_repeated_ends(window / 2, axis, dy, dx);
    }
}

/// What a window holds beyond the ends of the series.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The first or the last value, again and again.
    Repeated,
    /// Nothing.
    Cut,
}

struct Average<'a, R> {
    half: usize,
    axis: Axis,
    x: &'a [R],
    y: &'a mut [R],
    ends: Ends,
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for Average<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self {
            half,
            axis: Axis { len, inner, .. },
            x,
            y,
            ends,
            acc,
        } = self;
        if x.is_empty() {
            return;
        }
        let scale = R::ONE / R::from_usize(2 * half + 1);
        for (x, y) in x
            .chunks_exact(len * inner)
            .zip(y.chunks_exact_mut(len * inner))
        {
            if 2 * half < len {
                let inside = half * inner..(len - half) * inner;
                windows_inside(simd, 2 * half + 1, inner, scale, x, &mut y[inside], acc);
                for feature in 0..inner {
                    let at = |t: usize| t * inner + feature;
                    let mut sum: R = (0..half).map(|t| x[at(t)]).sum();
                    for t in 0..half {
                        sum += x[at(t + half)];
                        let beyond = repeated(ends, half - t, x[at(0)]);
                        acc.store(&mut y[at(t)], (sum + beyond) * scale);
                    }
                    let mut sum: R = (len - half..len).rev().map(|t| x[at(t)]).sum();
                    for t in (len - half..len).rev() {
                        sum += x[at(t - half)];
                        let beyond = repeated(ends, t + half + 1 - len, x[at(len - 1)]);
                        acc.store(&mut y[at(t)], (sum + beyond) * scale);
                    }
                }
            } else {
                // Short series: a window may reach over both ends.
                for feature in 0..inner {
                    let at = |t: usize| t * inner + feature;
                    for t in 0..len {
                        let (from, to) = (t.saturating_sub(half), (t + half).min(len - 1));
                        let mut sum: R = (from..=to).map(|t| x[at(t)]).sum();
                        sum += repeated(ends, half.saturating_sub(t), x[at(0)]);
                        sum += repeated(ends, (t + half + 1).saturating_sub(len), x[at(len - 1)]);
                        acc.store(&mut y[at(t)], sum * scale);
                    }
                }
            }
        }
    }
}

/// `count` times a value, or nothing.
#[inline(always)]
fn repeated<R: Real>(ends: Ends, count: usize, value: R) -> R {
    // Zero times NaN would be NaN.
    if ends == Ends::Cut || count == 0 {
        R::ZERO
    } else {
        R::from_usize(count) * value
    }
}

/// `y[i] = scale (x[i] + x[i + step] + ...)`, `window` terms.
#[inline(always)]
fn windows_inside<S: Isa, R: SimdReal>(
    simd: S,
    window: usize,
    step: usize,
    scale: R,
    x: &[R],
    y: &mut [R],
    acc: Accumulate,
) {
    let lanes = Lanes::<S, R>::LEN;
    let scale = Lanes::<S, R>::splat(simd, scale);
    let mut i = 0;
    // Four vectors at a time hide the latency of the additions.
    while i + 4 * lanes <= y.len() {
        let mut sums = [Lanes::<S, R>::zero(simd); 4];
        for d in 0..window {
            let x = &x[i + d * step..][..4 * lanes];
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum += Lanes::load(simd, &x[v * lanes..]);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            put(sum * scale, &mut y[i + v * lanes..][..lanes], acc);
        }
        i += 4 * lanes;
    }
    while i < y.len() {
        let width = lanes.min(y.len() - i);
        let mut sum = Lanes::<S, R>::zero(simd);
        for d in 0..window {
            sum += Lanes::load_partial(simd, &x[i + d * step..][..width]);
        }
        put(sum * scale, &mut y[i..i + width], acc);
        i += width;
    }
}

#[inline(always)]
fn put<S: Isa, R: SimdReal>(value: Lanes<S, R>, y: &mut [R], acc: Accumulate) {
    let value = match acc {
        Accumulate::Write => value,
        Accumulate::Add => value + Lanes::load_partial(value.simd(), y),
    };
    value.store_partial(y);
}

/// Adds to the first and the last value what windows read of them beyond the ends.
fn add_repeated_ends<R: Real>(half: usize, Axis { len, inner, .. }: Axis, dy: &[R], dx: &mut [R]) {
    if dy.is_empty() {
        return;
    }
    let scale = R::ONE / R::from_usize(2 * half + 1);
    for (dy, dx) in dy
        .chunks_exact(len * inner)
        .zip(dx.chunks_exact_mut(len * inner))
    {
        for feature in 0..inner {
            let at = |t: usize| t * inner + feature;
            let reach = half.min(len);
            let first: R = (0..reach)
                .map(|t| R::from_usize(half - t) * dy[at(t)])
                .sum();
            let last: R = (0..reach)
                .map(|t| R::from_usize(half - t) * dy[at(len - 1 - t)])
                .sum();
            dx[at(0)] += first * scale;
            dx[at(len - 1)] += last * scale;
        }
    }
}
