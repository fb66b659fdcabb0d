//! Pooling, interpolation, moving averages, patches and ranges: forward against references, backward as adjoints.

use nd_core::autograd::Accumulate;
use nd_core::{Real, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::gather::{gather_rows_backward, gather_rows_forward, read_range, write_range};
use nd_simd::interpolate::{Interpolation, interpolate_backward, interpolate_forward};
use nd_simd::moving_average::{moving_average_backward, moving_average_forward};
use nd_simd::patches::{Patches, patches_backward, patches_forward};
use nd_simd::pool::{
    Axis, Windows, avg_pool_backward, avg_pool_forward, max_pool_backward, max_pool_forward,
};
use nd_simd::reference::temporal as reference;

fn noise<R: Real>(len: usize, seed: u64) -> Vec<R> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        R::from_f64(2.0 * f64::unit_from_bits(state.rotate_left(17)) - 1.0)
    };
    (0..len).map(|_| next()).collect()
}

/// Series `(outer, inner)` of values `[outer, len, inner]`.
fn series<R: Real>(axis: Axis, x: &[R], outer: usize, inner: usize) -> Vec<f64> {
    (0..axis.len)
        .map(|t| x[(outer * axis.len + t) * axis.inner + inner].to_f64())
        .collect()
}

fn dot<R: Real>(a: &[R], b: &[R]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

/// `|found - expected|` in units of the element type's rounding, for values of size one and sums of a few dozen.
const ROUNDINGS: f64 = 64.0;

#[track_caller]
fn assert_series<R: Real>(
    axis: Axis,
    y: &[R],
    expected: impl Fn(usize, usize) -> Vec<f64>,
    what: &str,
) {
    for outer in 0..axis.outer {
        for inner in 0..axis.inner {
            for (t, (y, e)) in series(axis, y, outer, inner)
                .iter()
                .zip(expected(outer, inner))
                .enumerate()
            {
                let close = (y - e).abs() <= ROUNDINGS * R::EPSILON.to_f64() * e.abs().max(1.0);
                assert!(
                    close || *y == e || (y.is_nan() && e.is_nan()),
                    "{what} ({outer}, {t}, {inner}): {y}, not {e}"
                );
            }
        }
    }
}

/// `<A x, dy> = <x, A^T dy>`, for both ways to accumulate.
#[track_caller]
fn assert_adjoint<R: Real>(
    x: &[R],
    y: &[R],
    what: &str,
    backward: impl Fn(&[R], &mut [R], Accumulate),
) {
    let dy = noise::<R>(y.len(), 99);
    let mut dx = vec![R::from_f64(f64::NAN); x.len()];
    backward(&dy, &mut dx, Accumulate::Write);
    let (forward, adjoint) = (dot(y, &dy), dot(x, &dx));
    let bound = ROUNDINGS * R::EPSILON.to_f64() * (1.0 + (x.len() + y.len()) as f64);
    assert!(
        (forward - adjoint).abs() <= bound,
        "{what}: {forward} and {adjoint}"
    );
    let mut added = vec![R::ONE; x.len()];
    backward(&dy, &mut added, Accumulate::Add);
    for (i, (&added, &dx)) in added.iter().zip(&dx).enumerate() {
        let error = (added - R::ONE - dx).abs().to_f64();
        assert!(
            error <= ROUNDINGS * R::EPSILON.to_f64() * dx.abs().to_f64().max(1.0),
            "{what}: {i}"
        );
    }
}

fn axes() -> Vec<Axis> {
    let mut axes = Vec::new();
    for len in [1, 2, 3, 5, 16, 25, 26, 49, 96, 130] {
        for (outer, inner) in [(1, 1), (3, 1), (2, 3), (1, 16), (2, 33)] {
            axes.push(Axis { outer, len, inner });
        }
    }
    axes
}

fn check_pooling<R: SimdReal>() {
    for level in nd_testing::levels() {
        for axis in axes() {
            for (kernel, stride, padding, ceil_mode) in [
                (1, 1, 0, true),
                (2, 2, 0, true),
                (4, 4, 0, true),
                (3, 2, 1, false),
                (3, 2, 1, true),
                (2, 3, 0, false),
            ] {
                let windows = Windows {
                    kernel,
                    stride,
                    padding,
                    ceil_mode,
                };
                if !ceil_mode && axis.len + 2 * padding < kernel {
                    continue;
                }
                let count = windows.count(axis.len);
                let out = Axis { len: count, ..axis };
                let what = format!("{level} {} {axis:?} {windows:?}", R::DTYPE);
                let mut x = noise::<R>(axis.numel(), 1);
                let mut y = vec![R::from_f64(f64::NAN); out.numel()];
                avg_pool_forward(level, windows, axis, &x, &mut y);
                assert_series(
                    out,
                    &y,
                    |o, i| {
                        reference::avg_pool(&series(axis, &x, o, i), kernel, stride, padding, count)
                    },
                    &what,
                );
                assert_adjoint(&x, &y, &what, |dy, dx, acc| {
                    avg_pool_backward(level, windows, axis, dy, dx, acc);
                });
                // The maximum is linear as long as no place of a maximum changes.
                max_pool_forward(level, windows, axis, &x, &mut y);
                assert_adjoint(&x, &y, &what, |dy, dx, acc| {
                    max_pool_backward(level, windows, axis, &x, dy, dx, acc);
                });
                x[axis.numel() / 2] = R::from_f64(f64::NAN);
                x[axis.numel() / 3] = R::from_f64(f64::NEG_INFINITY);
                max_pool_forward(level, windows, axis, &x, &mut y);
                assert_series(
                    out,
                    &y,
                    |o, i| {
                        reference::max_pool(&series(axis, &x, o, i), kernel, stride, padding, count)
                    },
                    &what,
                );
            }
        }
    }
}

#[test]
fn pooling_is_that_of_the_reference() {
    check_pooling::<f32>();
    check_pooling::<f64>();
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient_and_nan_before_all() {
    for level in nd_testing::levels() {
        let axis = Axis::last(1, 7);
        let x = [2.0_f32, 2.0, 1.0, f32::NAN, 5.0, 4.0, 3.0];
        let mut y = [0.0; 4];
        max_pool_forward(level, Windows::tiles(2), axis, &x, &mut y);
        assert!(
            y[0] == 2.0 && y[1].is_nan() && y[2..] == [5.0, 3.0],
            "{y:?}"
        );
        let mut dx = [f32::NAN; 7];
        let dy = [1.0, 2.0, 3.0, 4.0];
        max_pool_backward(
            level,
            Windows::tiles(2),
            axis,
            &x,
            &dy,
            &mut dx,
            Accumulate::Write,
        );
        assert_eq!(dx, [1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 4.0]);
    }
}

#[test]
fn window_counts_are_those_of_pytorch() {
    let count = |kernel, stride, padding, ceil_mode, len| {
        Windows {
            kernel,
            stride,
            padding,
            ceil_mode,
        }
        .count(len)
    };
    assert_eq!(count(2, 2, 0, true, 97), 49);
    assert_eq!(count(2, 2, 0, false, 97), 48);
    assert_eq!(count(3, 2, 1, false, 96), 48);
    // The fourth window would begin in the right padding.
    assert_eq!(count(2, 2, 1, true, 5), 3);
    assert_eq!(count(8, 8, 0, true, 3), 1);
}

/// The values of a row of knots at so many places.
type InterpolationReference = fn(&[f64], usize) -> Vec<f64>;

fn check_interpolation<R: SimdReal>() {
    let modes: [(Interpolation, InterpolationReference); 3] = [
        (Interpolation::Nearest, reference::interpolate_nearest),
        (Interpolation::Linear, reference::interpolate_linear),
        (Interpolation::Cubic, reference::interpolate_cubic),
    ];
    for level in nd_testing::levels() {
        for (mode, expected) in modes {
            for (knots, size) in [
                (1, 1),
                (1, 7),
                (2, 24),
                (6, 24),
                (12, 24),
                (24, 24),
                (5, 3),
                (45, 720),
                (9, 130),
            ] {
                for rows in [0, 1, 5] {
                    let what = format!("{level} {} {mode:?} {rows} x {knots} -> {size}", R::DTYPE);
                    let x = noise::<R>(rows * knots, 1);
                    let mut y = vec![R::from_f64(f64::NAN); rows * size];
                    interpolate_forward(level, mode, knots, size, &x, &mut y);
                    assert_series(
                        Axis::last(rows, size),
                        &y,
                        |row, _| expected(&series(Axis::last(rows, knots), &x, row, 0), size),
                        &what,
                    );
                    assert_adjoint(&x, &y, &what, |dy, dx, acc| {
                        interpolate_backward(level, mode, knots, size, dy, dx, acc);
                    });
                }
            }
        }
    }
}

#[test]
fn interpolation_is_that_of_the_reference() {
    check_interpolation::<f32>();
    check_interpolation::<f64>();
}

fn check_moving_average<R: SimdReal>() {
    for level in nd_testing::levels() {
        for axis in axes() {
            for window in [1, 3, 25, 51] {
                let what = format!("{level} {} {axis:?} window {window}", R::DTYPE);
                let x = noise::<R>(axis.numel(), 1);
                let mut y = vec![R::from_f64(f64::NAN); axis.numel()];
                moving_average_forward(level, window, axis, &x, &mut y);
                assert_series(
                    axis,
                    &y,
                    |o, i| reference::moving_average(&series(axis, &x, o, i), window),
                    &what,
                );
                assert_adjoint(&x, &y, &what, |dy, dx, acc| {
                    moving_average_backward(level, window, axis, dy, dx, acc);
                });
            }
        }
    }
}

#[test]
fn moving_averages_are_those_of_the_reference() {
    check_moving_average::<f32>();
    check_moving_average::<f64>();
}

#[test]
fn nan_reaches_only_the_windows_that_hold_it() {
    for level in nd_testing::levels() {
        for place in [0, 3, 40, 63] {
            let axis = Axis::last(2, 64);
            let mut x = noise::<f32>(128, 1);
            x[place] = f32::NAN;
            let mut y = vec![0.0; 128];
            moving_average_forward(level, 9, axis, &x, &mut y);
            for (t, y) in y.iter().enumerate() {
                assert_eq!(
                    y.is_nan(),
                    t < 64 && t.abs_diff(place) <= 4,
                    "{level} NaN at {place}, t {t}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "odd window to be centred, found 24")]
fn even_windows_are_refused() {
    let axis = Axis::last(1, 3);
    moving_average_forward(SimdLevel::Scalar, 24, axis, &[0.0_f32; 3], &mut [0.0; 3]);
}

#[test]
fn patches_are_those_of_the_reference() {
    for (len, patch, stride, padding) in [
        (96, 16, 8, 8),
        (97, 16, 8, 8),
        (5, 3, 2, 0),
        (5, 3, 1, 4),
        (1, 4, 1, 5),
        (10, 2, 5, 0),
    ] {
        let patches = Patches {
            patch,
            stride,
            padding,
        };
        let count = patches.count(len);
        for rows in [1, 3] {
            let x = noise::<f32>(rows * len, 1);
            let mut y = vec![f32::NAN; rows * count * patch];
            patches_forward(patches, rows, len, &x, &mut y);
            let (axis, out) = (Axis::last(rows, len), Axis::last(rows, count * patch));
            let expected =
                |row, _| reference::patches(&series(axis, &x, row, 0), patch, stride, padding);
            assert_series(out, &y, expected, &format!("{patches:?}"));
            assert_adjoint(&x, &y, &format!("{patches:?}"), |dy, dx, acc| {
                patches_backward(patches, rows, len, dy, dx, acc);
            });
        }
    }
    assert_eq!(
        Patches {
            patch: 16,
            stride: 8,
            padding: 8
        }
        .count(96),
        12,
        "PatchTST's default"
    );
}

#[test]
fn rows_are_gathered_and_scattered() {
    let table = noise::<f32>(5 * 3, 1);
    let ids = [4_usize, 0, 4, 2];
    let mut y = vec![f32::NAN; 12];
    gather_rows_forward(3, &table, ids.into_iter(), &mut y);
    for (i, &id) in ids.iter().enumerate() {
        assert_eq!(y[i * 3..][..3], table[id * 3..][..3]);
    }
    assert_adjoint(&table, &y, "gather", |dy, dtable, acc| {
        gather_rows_backward(3, ids.into_iter(), dy, dtable, acc);
    });
}

#[test]
#[should_panic(expected = "row 5 of a table of 5 rows")]
fn a_row_that_is_not_there_is_named() {
    gather_rows_forward(1, &[0.0_f32; 5], [0, 5].into_iter(), &mut [0.0; 2]);
}

#[test]
fn ranges_are_read_and_written_back() {
    for axis in [
        Axis::last(3, 7),
        Axis {
            outer: 2,
            len: 5,
            inner: 4,
        },
        Axis {
            outer: 1,
            len: 3,
            inner: 2,
        },
    ] {
        for range in [0..axis.len, 1..3, 2..2] {
            let part_axis = Axis {
                len: range.len(),
                ..axis
            };
            let whole = noise::<f32>(axis.numel(), 1);
            let mut part = vec![f32::NAN; part_axis.numel()];
            read_range(axis, range.clone(), &whole, &mut part, Accumulate::Write);
            for o in 0..axis.outer {
                for i in 0..axis.inner {
                    let expected = &series(axis, &whole, o, i)[range.clone()];
                    assert_eq!(series(part_axis, &part, o, i), expected);
                }
            }
            let mut back = vec![0.0; axis.numel()];
            write_range(axis, range.clone(), &part, &mut back, Accumulate::Write);
            write_range(axis, range.clone(), &part, &mut back, Accumulate::Add);
            let (x, y) = (dot(&whole, &back), 2.0 * dot(&part, &part));
            assert!((x - y).abs() <= 1e-5 * y.max(1.0), "{axis:?} {range:?}");
        }
    }
}
