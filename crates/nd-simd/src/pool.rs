//! Pooling along time: the largest or the mean value of each window.
//!
//! The simple version walks each window. Values are `[outer, len, inner]`: `inner = 1` pools the last axis, a wider `inner` pools
//! time steps of feature vectors, and then a window is walked for all features at once, which the compiler vectorises.
//! Windows follow PyTorch: `stride` apart, padded on both ends by values that never win (maximum) or by zeros (mean), and with
//! `ceil_mode` a last window may hang over the end, as long as it begins inside.
//!
//! Nothing is saved for the backward pass of the maximum: its place is found again in the input, which the tape keeps anyway.
//! Of equal maxima the first takes the gradient; NaN wins over everything, and the last NaN takes the gradient, as in PyTorch.
//!
//! Known weakness: with `inner = 1` the windows are walked one by one.

mod array;

pub use array::{avg_pool, avg_pool_gradient, max_pool, max_pool_gradient};

use std::ops::Range;

use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::SimdReal;

/// The windows of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The length of a window.
    pub kernel: usize,
    /// The distance between windows.
    pub stride: usize,
    /// How far the input is extended at each end; at most half a window.
    pub padding: usize,
    /// Whether the last window may hang over the end.
    pub ceil_mode: bool,
}

impl Windows {
    /// Windows side by side, the last one perhaps incomplete (`stride = kernel`, `ceil_mode`).
    #[must_use]
    pub const fn tiles(kernel: usize) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: 0,
            ceil_mode: true,
        }
    }

    /// The number of windows over `len` values.
    ///
    /// # Panics
    /// A window or stride of zero, a padding of more than half a window, or no window that fits.
    #[must_use]
    #[track_caller]
    pub fn count(&self, len: usize) -> usize {
        let Self {
            kernel,
            stride,
            padding,
            ceil_mode,
        } = *self;
        assert!(
            kernel > 0 && stride > 0 && 2 * padding <= kernel,
            "pooling needs a window, a stride and at most half a window of padding, found {self:?}"
        );
        let padded = len + 2 * padding;
        assert!(
            padded >= kernel || (ceil_mode && len > 0),
            "a window of {kernel} does not fit into {len} values padded by {padding}"
        );
        let rest = padded.saturating_sub(kernel);
        let count = if ceil_mode {
            rest.div_ceil(stride)
        } else {
            rest / stride
        } + 1;
        // The last window has to begin inside the input or its left padding.
        if ceil_mode && (count - 1) * stride >= len + padding {
            count - 1
        } else {
            count
        }
    }

    /// The part of window `index` that lies inside the input, and the number of places it has with the padding.
    fn window(&self, index: usize, len: usize) -> (Range<usize>, usize) {
        let start = index * self.stride;
        let end = (start + self.kernel).min(len + 2 * self.padding);
        let inside = start.saturating_sub(self.padding)..(end - self.padding.min(end)).min(len);
        (inside, end - start)
    }
}

/// The sizes of a pooling's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// The product of the dimensions before the one that is pooled.
    pub outer: usize,
    /// The dimension that is pooled.
    pub len: usize,
    /// The product of the dimensions after it.
    pub inner: usize,
}

impl Axis {
    /// The last of two dimensions.
    #[must_use]
    pub const fn last(rows: usize, len: usize) -> Self {
        Self {
            outer: rows,
            len,
            inner: 1,
        }
    }

    /// Axis `axis` of a tensor of these dimensions.
    ///
    /// # Panics
    /// There is no such axis.
    #[must_use]
    #[track_caller]
    pub fn of(dims: &[usize], axis: usize) -> Self {
        assert!(axis < dims.len(), "axis {axis} of a tensor {dims:?}");
        Self {
            outer: dims[..axis].iter().product(),
            len: dims[axis],
            inner: dims[axis + 1..].iter().product(),
        }
    }

    /// The number of elements.
    #[must_use]
    pub const fn numel(&self) -> usize {
        self.outer * self.len * self.inner
    }

    #[track_caller]
    pub(crate) fn check(&self, what: &str, len: usize) {
        let Self {
            outer,
            len: axis,
            inner,
        } = self;
        assert_eq!(
            len,
            self.numel(),
            "elements of {what} [{outer}, {axis}, {inner}]"
        );
    }

    /// The same axis with another length.
    #[must_use]
    pub const fn with_len(self, len: usize) -> Self {
        Self { len, ..self }
    }
}

#[track_caller]
fn check_pair(windows: Windows, axis: Axis, x: (&str, usize), y: (&str, usize)) {
    axis.check(x.0, x.1);
    axis.with_len(windows.count(axis.len)).check(y.0, y.1);
}

instantiate! {
    /// `y = max over each window of x`: x `[outer, len, inner]`, y `[outer, windows, inner]`.
    ///
    /// # Panics
    /// A slice has another size, or the windows are impossible ([`Windows::count`]).
    pub fn max_pool_forward<R>(level: SimdLevel, windows: Windows, axis: Axis, x: &[R], y: &mut [R])
    { check_pair(windows, axis, ("x", x.len()), ("y", y.len())); }
    then { dispatch(level, MaxForward { windows, axis, x, y }); }
}

struct MaxForward<'a, R> {
    windows: Windows,
    axis: Axis,
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for MaxForward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            windows,
            axis: Axis { len, inner, .. },
            x,
            y,
        } = self;
        if x.is_empty() || y.is_empty() {
            return;
        }
        let out_len = windows.count(len);
        for (x, y) in x
            .chunks_exact(len * inner)
            .zip(y.chunks_exact_mut(out_len * inner))
        {
            for (index, y) in y.chunks_exact_mut(inner).enumerate() {
                let (window, _) = windows.window(index, len);
                y.copy_from_slice(&x[window.start * inner..][..inner]);
                for t in window.start + 1..window.end {
                    for (y, &x) in y.iter_mut().zip(&x[t * inner..][..inner]) {
                        // Not `x <= y`: NaN has to win.
                        *y = if x > *y || x.is_nan() { x } else { *y };
                    }
                }
            }
        }
    }
}

instantiate! {
    /// The gradient of [`max_pool_forward`]: `dx` gets each `dy` where the maximum of its window was.
    ///
    /// # Panics
    /// As [`max_pool_forward`].
    pub fn max_pool_backward<R>(
        level: SimdLevel,
        windows: Windows,
        axis: Axis,
        x: &[R],
        dy: &[R],
        dx: &mut [R],
        acc: Accumulate,
    )
    {
        check_pair(windows, axis, ("x", x.len()), ("dy", dy.len()));
        axis.check("dx", dx.len());
    }
    then { dispatch(level, MaxBackward { windows, axis, x, dy, dx, acc }); }
}

struct MaxBackward<'a, R> {
    windows: Windows,
    axis: Axis,
    x: &'a [R],
    dy: &'a [R],
    dx: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for MaxBackward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            windows,
            axis: Axis { len, inner, .. },
            x,
            dy,
            dx,
            acc,
        } = self;
        if acc == Accumulate::Write {
            dx.fill(R::ZERO);
        }
        if x.is_empty() || dy.is_empty() {
            return;
        }
        let out_len = windows.count(len);
        let rows = x
            .chunks_exact(len * inner)
            .zip(dx.chunks_exact_mut(len * inner));
        for ((x, dx), dy) in rows.zip(dy.chunks_exact(out_len * inner)) {
            for (index, dy) in dy.chunks_exact(inner).enumerate() {
                let (window, _) = windows.window(index, len);
                for (feature, &dy) in dy.iter().enumerate() {
                    let mut place = window.start * inner + feature;
                    for t in window.start + 1..window.end {
                        let at = t * inner + feature;
                        if x[at] > x[place] || x[at].is_nan() {
                            place = at;
                        }
                    }
                    dx[place] += dy;
                }
            }
        }
    }
}

instantiate! {
    /// `y = mean over each window of x`, the padding counted as zeros: x `[outer, len, inner]`, y `[outer, windows, inner]`.
    ///
    /// # Panics
    /// A slice has another size, or the windows are impossible ([`Windows::count`]).
    pub fn avg_pool_forward<R>(level: SimdLevel, windows: Windows, axis: Axis, x: &[R], y: &mut [R])
    { check_pair(windows, axis, ("x", x.len()), ("y", y.len())); }
    then { dispatch(level, AvgForward { windows, axis, x, y }); }
}

struct AvgForward<'a, R> {
    windows: Windows,
    axis: Axis,
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for AvgForward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            windows,
            axis: Axis { len, inner, .. },
            x,
            y,
        } = self;
        if x.is_empty() || y.is_empty() {
            return;
        }
        let out_len = windows.count(len);
        for (x, y) in x
            .chunks_exact(len * inner)
            .zip(y.chunks_exact_mut(out_len * inner))
        {
            for (index, y) in y.chunks_exact_mut(inner).enumerate() {
                let (window, places) = windows.window(index, len);
                let places = R::from_usize(places);
                y.copy_from_slice(&x[window.start * inner..][..inner]);
                for t in window.start + 1..window.end {
                    for (y, &x) in y.iter_mut().zip(&x[t * inner..][..inner]) {
                        *y += x;
                    }
                }
                for y in y {
                    *y /= places;
                }
            }
        }
    }
}

instantiate! {
    /// The gradient of [`avg_pool_forward`].
    ///
    /// # Panics
    /// As [`avg_pool_forward`].
    pub fn avg_pool_backward<R>(
        level: SimdLevel,
        windows: Windows,
        axis: Axis,
        dy: &[R],
        dx: &mut [R],
        acc: Accumulate,
    )
    { check_pair(windows, axis, ("dx", dx.len()), ("dy", dy.len())); }
    then { dispatch(level, AvgBackward { windows, axis, dy, dx, acc }); }
}

struct AvgBackward<'a, R> {
    windows: Windows,
    axis: Axis,
    dy: &'a [R],
    dx: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for AvgBackward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            windows,
            axis: Axis { len, inner, .. },
            dy,
            dx,
            acc,
        } = self;
        if acc == Accumulate::Write {
            dx.fill(R::ZERO);
        }
        if dx.is_empty() || dy.is_empty() {
            return;
        }
        let out_len = windows.count(len);
        for (dx, dy) in dx
            .chunks_exact_mut(len * inner)
            .zip(dy.chunks_exact(out_len * inner))
        {
            for (index, dy) in dy.chunks_exact(inner).enumerate() {
                let (window, places) = windows.window(index, len);
                let places = R::from_usize(places);
                for t in window {
                    for (dx, &dy) in dx[t * inner..][..inner].iter_mut().zip(dy) {
                        *dx += dy / places;
                    }
                }
            }
        }
    }
}
