//! One-dimensional interpolation from `knots` values to `size` values, as in PyTorch with `align_corners=False`.
//!
//! Output `j` lies at `(j + 1/2) knots / size - 1/2` between the knots. Every mode is a few taps, knots with weights: one
//! (nearest), two (linear), four (cubic convolution of Keys 1981 with a = -3/4, what PyTorch calls bicubic, of one row). The taps depend
//! on `j` alone, so they are worked out once for a few dozen outputs and used for all rows.
//!
//! Known weakness: rows are not vectorised; a row has few values.

mod array;

pub use array::{interpolate, interpolate_gradient};

use nd_core::Real;
use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate};
use crate::lanes::SimdReal;

/// How values between knots come about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interpolation {
    /// The knot at `floor(j knots / size)`.
    Nearest,
    /// A straight line between neighbours, constant beyond the first and the last.
    #[default]
    Linear,
    /// A cubic through four neighbours; the first and the last knot are repeated beyond the ends.
    Cubic,
}

/// The knots and weights of one output.
#[derive(Clone, Copy, Debug)]
struct Taps<R> {
    places: [usize; 4],
    weights: [R; 4],
}

impl Interpolation {
    /// How many taps an output has.
    const fn taps(self) -> usize {
        match self {
            Self::Nearest => 1,
            Self::Linear => 2,
            Self::Cubic => 4,
        }
    }

    /// The taps of output `j`; weights are computed in f64 and rounded.
    fn at<R: Real>(self, j: usize, knots: usize, size: usize) -> Taps<R> {
        let last = knots - 1;
        if self == Self::Nearest {
            // Whole numbers, so that no rounding can move an output to another knot.
            let place = (j * knots / size).min(last);
            return Taps {
                places: [place; 4],
                weights: [R::ONE; 4],
            };
        }
        let position = (j as f64 + 0.5) * (knots as f64 / size as f64) - 0.5;
        if self == Self::Linear {
            let position = position.max(0.0);
            let place = (position as usize).min(last);
            let share = R::from_f64(position - place as f64);
            let next = (place + 1).min(last);
            return Taps {
                places: [place, next, next, next],
                weights: [R::ONE - share, share, R::ZERO, R::ZERO],
            };
        }
        const A: f64 = -0.75;
        let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
        let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
        let floor = position.floor();
        let t = position - floor;
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        let place = |offset: f64| (floor + offset).clamp(0.0, last as f64) as usize;
        Taps {
            places: [place(-1.0), place(0.0), place(1.0), place(2.0)],
            weights: weights.map(R::from_f64),
        }
    }
}

/// Outputs whose taps are kept at a time.
const CHUNK: usize = 64;

#[track_caller]
fn check((knots, x): (usize, usize), (size, y): (usize, usize)) {
    assert!(
        x.is_multiple_of(knots.max(1)) && x / knots.max(1) * size == y,
        "{x} values are not as many rows of {knots} knots as {y} values are rows of {size}"
    );
    assert!(
        knots > 0 || size == 0,
        "{size} values cannot be interpolated from no knots"
    );
}

instantiate! {
    /// `y [rows, size]` interpolated from `x [rows, knots]`.
    ///
    /// # Panics
    /// A slice has another size, or there are no knots.
    pub fn interpolate_forward<R>(
        level: SimdLevel,
        mode: Interpolation,
        knots: usize,
        size: usize,
        x: &[R],
        y: &mut [R],
    )
    { check((knots, x.len()), (size, y.len())); }
    then { dispatch(level, Forward { mode, knots, size, x, y }); }
}

struct Forward<'a, R> {
    mode: Interpolation,
    knots: usize,
    size: usize,
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for Forward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            mode,
            knots,
            size,
            x,
            y,
        } = self;
        if y.is_empty() {
            return;
        }
        let mut taps = [Taps {
            places: [0; 4],
            weights: [R::ZERO; 4],
        }; CHUNK];
        for start in (0..size).step_by(CHUNK) {
            let taps = &mut taps[..CHUNK.min(size - start)];
            for (j, taps) in taps.iter_mut().enumerate() {
                *taps = mode.at(start + j, knots, size);
            }
            for (x, y) in x.chunks_exact(knots).zip(y.chunks_exact_mut(size)) {
                for (taps, y) in taps.iter().zip(&mut y[start..]) {
                    *y = match mode {
                        Interpolation::Nearest => x[taps.places[0]],
                        Interpolation::Linear => {
                            taps.weights[0] * x[taps.places[0]]
                                + taps.weights[1] * x[taps.places[1]]
                        }
                        Interpolation::Cubic => {
                            let pairs = taps.weights.iter().zip(taps.places);
                            pairs.map(|(&w, place)| w * x[place]).sum()
                        }
                    };
                }
            }
        }
    }
}

instantiate! {
    /// The gradient of [`interpolate_forward`]: each `dy` goes to its knots by their weights.
    ///
    /// # Panics
    /// As [`interpolate_forward`].
    pub fn interpolate_backward<R>(
        level: SimdLevel,
        mode: Interpolation,
        knots: usize,
        size: usize,
        dy: &[R],
        dx: &mut [R],
        acc: Accumulate,
    )
    { check((knots, dx.len()), (size, dy.len())); }
    then { dispatch(level, Backward { mode, knots, size, dy, dx, acc }); }
}

struct Backward<'a, R> {
    mode: Interpolation,
    knots: usize,
    size: usize,
    dy: &'a [R],
    dx: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for Backward<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, _: S) {
        let Self {
            mode,
            knots,
            size,
            dy,
            dx,
            acc,
        } = self;
        if acc == Accumulate::Write {
            dx.fill(R::ZERO);
        }
        if dy.is_empty() {
            return;
        }
        let mut taps = [Taps {
            places: [0; 4],
            weights: [R::ZERO; 4],
        }; CHUNK];
        for start in (0..size).step_by(CHUNK) {
            let taps = &mut taps[..CHUNK.min(size - start)];
            for (j, taps) in taps.iter_mut().enumerate() {
                *taps = mode.at(start + j, knots, size);
            }
            for (dx, dy) in dx.chunks_exact_mut(knots).zip(dy.chunks_exact(size)) {
                for (taps, &dy) in taps.iter().zip(&dy[start..]) {
                    for tap in 0..mode.taps() {
                        dx[taps.places[tap]] += taps.weights[tap] * dy;
                    }
                }
            }
        }
    }
}
