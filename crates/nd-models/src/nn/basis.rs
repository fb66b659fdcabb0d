//! The bases of NBEATS: functions of time, tabulated once and frozen.
//!
//! A basis is a matrix `[P, T]`: row `p` is a function on `T` steps. A trend is a few smooth functions on `[0, 1]` or `[-1, 1]`, a
//! seasonality is cosines and sines whose periods divide the horizon.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};

/// The functions that a trend is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrendBasis {
    /// Powers of `t / T`.
    #[default]
    Polynomial,
    /// Legendre polynomials on `[-1, 1]`.
    Legendre,
    /// Chebyshev polynomials of the first kind on `[-1, 1]`.
    Chebyshev,
    /// `max(0, t - c)` for equally spaced change points `c` on `[0, 1]`.
    Changepoint,
    /// Triangles between equally spaced knots on `[0, 1]`; the first function is zero.
    PiecewiseLinear,
    /// Triangles centred on equally spaced points of `[0, 1]`, the ends included.
    LinearHat,
    /// Cubic B-splines on equally spaced knots with fourfold ends; at least four functions.
    Spline,
}

/// Step `t` of `steps` equally spaced points from `low` to `high`.
fn spaced(low: f64, high: f64, t: usize, steps: usize) -> f64 {
    if steps < 2 {
        return low;
    }
    if t + 1 == steps {
        return high;
    }
    low + t as f64 * ((high - low) / (steps - 1) as f64)
}

impl TrendBasis {
    /// `count` functions on `steps` steps, row-major `[count, steps]`.
    pub(crate) fn table(self, count: usize, steps: usize) -> Vec<f64> {
        let function = |p: usize, t: usize| -> f64 {
            let unit = spaced(0.0, 1.0, t, steps);
            let signed = spaced(-1.0, 1.0, t, steps);
            match self {
                Self::Polynomial => (t as f64 / steps as f64).powi(p as i32),
                Self::Legendre => recurrence(p, signed, |n, x, last, before| {
                    ((2.0 * n + 1.0) * x * last - n * before) / (n + 1.0)
                }),
                Self::Chebyshev => {
                    recurrence(p, signed, |_, x, last, before| 2.0 * x * last - before)
                }
                Self::Changepoint => (unit - spaced(0.0, 1.0, p + 1, count + 1)).max(0.0),
                Self::PiecewiseLinear => {
                    if p == 0 {
                        return 0.0;
                    }
                    let knot = |i| spaced(0.0, 1.0, i, count + 1);
                    let (left, centre, right) = (knot(p - 1), knot(p), knot(p + 1));
                    ((unit - left) / (centre - left))
                        .min((right - unit) / (right - centre))
                        .max(0.0)
                }
                Self::LinearHat => {
                    let width = 1.0 / (count - 1) as f64;
                    (1.0 - (unit - spaced(0.0, 1.0, p, count)).abs() / width).max(0.0)
                }
                Self::Spline => {
                    let inner = count - 2;
                    // The knots: three more at each end than the equally spaced ones.
                    let knot = |i: usize| match i {
                        0..3 => 0.0,
                        _ if i < 3 + inner => spaced(0.0, 1.0, i - 3, inner),
                        _ => 1.0,
                    };
                    b_spline(p, 3, unit, &knot, count)
                }
            }
        };
        (0..count)
            .flat_map(|p| (0..steps).map(move |t| (p, t)))
            .map(|(p, t)| function(p, t))
            .collect()
    }

    /// The smallest `n_basis` (one less than the number of functions) that makes sense.
    pub(crate) fn smallest(self) -> usize {
        match self {
            Self::LinearHat => 1,
            Self::Spline => 3,
            _ => 0,
        }
    }
}

/// Polynomials `P_0 = 1`, `P_1 = x`, `P_{n+1} = next(n, x, P_n, P_{n-1})`.
fn recurrence(p: usize, x: f64, next: impl Fn(f64, f64, f64, f64) -> f64) -> f64 {
    let (mut before, mut last) = (1.0, x);
    for n in 1..=p {
        (before, last) = (last, next(n as f64, x, last, before));
    }
    before
}

/// The B-spline of a degree by the recursion of Cox and de Boor; the last interval includes its right end.
fn b_spline(i: usize, degree: usize, x: f64, knot: &impl Fn(usize) -> f64, count: usize) -> f64 {
    if degree == 0 {
        let at_the_end = x >= 1.0 && i + 1 == count;
        let inside = knot(i) <= x && x < knot(i + 1);
        return f64::from(u8::from(inside || at_the_end));
    }
    let part = |numerator: f64, width: f64, j: usize| {
        if width == 0.0 {
            0.0
        } else {
            numerator / width * b_spline(j, degree - 1, x, knot, count)
        }
    };
    part(x - knot(i), knot(i + degree) - knot(i), i)
        + part(
            knot(i + degree + 1) - x,
            knot(i + degree + 1) - knot(i + 1),
            i + 1,
        )
}

/// Cosines and sines for a season: `[P, L]` backwards over the input and `[P, h]` over the horizon.
pub(crate) struct SeasonalityBasis {
    /// Functions, `P`.
    pub(crate) functions: usize,
    pub(crate) backcast: Vec<f64>,
    pub(crate) forecast: Vec<f64>,
}

impl SeasonalityBasis {
    /// A cosine and a sine of frequency zero, and of each of 1, 1 + 1/n, 1 + 2/n, ... below h / 2.
    pub(crate) fn functions(harmonics: usize, horizon: usize) -> usize {
        let n = harmonics as f64;
        let count = (n / 2.0 * horizon as f64 - n).ceil();
        (count as usize).saturating_add(1).saturating_mul(2)
    }

    /// Frequencies 0, 1, 1 + 1/n, 1 + 2/n, ... below h / 2 for n `harmonics` and a horizon of at least two steps.
    pub(crate) fn new(harmonics: usize, input_size: usize, horizon: usize) -> Self {
        let n = harmonics as f64;
        let functions = Self::functions(harmonics, horizon);
        let frequencies: Vec<f64> = std::iter::once(0.0)
            .chain((0..functions / 2 - 1).map(|i| (n + i as f64) / n))
            .collect();
        let table = |steps: usize, sign: f64| -> Vec<f64> {
            let angle =
                |t: usize, frequency: f64| sign * TAU * (t as f64 / horizon as f64) * frequency;
            let row = |function: fn(f64) -> f64, frequency: f64| {
                (0..steps).map(move |t| function(angle(t, frequency)))
            };
            let cosines = frequencies.iter().flat_map(|&f| row(f64::cos, f));
            let sines = frequencies.iter().flat_map(|&f| row(f64::sin, f));
            cosines.chain(sines).collect()
        };
        Self {
            functions,
            backcast: table(input_size, -1.0),
            forecast: table(horizon, 1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_testing::assert_close;

    /// Row `p` of five functions on seven steps.
    fn row(basis: TrendBasis, p: usize) -> Vec<f64> {
        basis.table(5, 7)[p * 7..][..7].to_vec()
    }

    /// Values of NeuralForecast 3.3.0's `get_basis(7, 4, name)`, to fifteen digits.
    #[test]
    fn functions_are_those_of_neuralforecast() {
        let third = 1.0 / 3.0;
        let cases: [(TrendBasis, usize, [f64; 7]); 7] = [
            (
                TrendBasis::Polynomial,
                3,
                [
                    0.0,
                    0.002_915_451_895_044,
                    0.023_323_615_160_35,
                    0.078_717_201_166_181,
                    0.186_588_921_282_799,
                    0.364_431_486_880_467,
                    0.629_737_609_329_446,
                ],
            ),
            (
                TrendBasis::Legendre,
                4,
                [
                    1.0,
                    -0.427_469_135_802_469,
                    0.012_345_679_012_346,
                    0.375,
                    0.012_345_679_012_346,
                    -0.427_469_135_802_469,
                    1.0,
                ],
            ),
            (
                TrendBasis::Chebyshev,
                3,
                [
                    -1.0,
                    0.814_814_814_814_815,
                    0.851_851_851_851_852,
                    0.0,
                    -0.851_851_851_851_852,
                    -0.814_814_814_814_815,
                    1.0,
                ],
            ),
            (
                TrendBasis::Changepoint,
                1,
                [0.0, 0.0, 0.0, 0.1, 0.8 * third, 1.3 * third, 0.6],
            ),
            (
                TrendBasis::PiecewiseLinear,
                2,
                [0.0, 0.0, 2.0 * third, 0.5, 0.0, 0.0, 0.0],
            ),
            (
                TrendBasis::LinearHat,
                1,
                [0.0, 2.0 * third, 2.0 * third, 0.0, 0.0, 0.0, 0.0],
            ),
            (
                TrendBasis::Spline,
                1,
                [
                    0.0,
                    0.564_814_814_814_815,
                    0.518_518_518_518_519,
                    0.25,
                    0.074_074_074_074_074,
                    0.009_259_259_259_259,
                    0.0,
                ],
            ),
        ];
        for (basis, p, want) in cases {
            assert_close(&format!("{basis:?}"), &row(basis, p), &want, 1e-14, 0.0);
        }
        assert_eq!(row(TrendBasis::PiecewiseLinear, 0), [0.0; 7]);
        let ends = [row(TrendBasis::Spline, 0)[0], row(TrendBasis::Spline, 4)[6]];
        assert_eq!(ends, [1.0, 1.0]);
        // Six splines have knots inside the interval that the recursion must pass: their sum is one everywhere.
        let table = TrendBasis::Spline.table(6, 11);
        for t in 0..11 {
            let sum: f64 = (0..6).map(|p| table[p * 11 + t]).sum();
            assert!((sum - 1.0).abs() < 1e-14, "step {t}: {sum}");
        }
    }

    #[test]
    fn seasons_repeat_with_the_horizon() {
        let basis = SeasonalityBasis::new(2, 12, 8);
        assert_eq!(basis.functions, 14);
        let row = |p: usize| &basis.backcast[p * 12..][..12];
        for p in 0..14 {
            let doubled_period = p % 7 > 1 && p % 2 == 0;
            if !doubled_period {
                continue;
            }
            // Whole frequencies have the horizon as a period; the cosine does not see the sign of time.
            let own = &basis.forecast[p * 8..][..8];
            if p < 7 {
                assert_close("backwards", &row(p)[..8], own, 1e-12, 0.0);
            }
        }
        // Two steps are the shortest horizon: the constant, and the sine of nothing.
        assert_eq!(SeasonalityBasis::new(2, 3, 2).functions, 2);
    }
}
