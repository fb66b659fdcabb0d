//! Views of every layout, and comparisons.

use nd_simd::SimdReal;
use nd_testing::cases::normals;
use ndarray::{Array3, ArrayRef, ArrayView3, Axis, Dimension, ShapeBuilder, s};

/// Shapes with empty axes, axes of one element, rows of all lengths, and more elements than are read at a time.
pub(crate) const SHAPES: [[usize; 3]; 8] = [
    [3, 4, 5],
    [2, 3, 17],
    [1, 1, 1],
    [5, 1, 33],
    [0, 4, 5],
    [3, 0, 5],
    [3, 4, 0],
    [2, 3, 1500],
];

/// Calls `visit` with views of one shape in every kind of layout. Their contents differ.
pub(crate) fn layouts<R: SimdReal>(
    shape: [usize; 3],
    mut visit: impl FnMut(&str, ArrayView3<'_, R>),
) {
    let [a, b, c] = shape;
    let noise = |dim: [usize; 3]| {
        let values = normals::<R>((a * 100 + b * 10 + c) as u64, dim.iter().product());
        Array3::from_shape_vec(dim, values).unwrap()
    };
    visit("row-major", noise(shape).view());
    let x = Array3::from_shape_vec(shape.f(), noise(shape).into_raw_vec_and_offset().0).unwrap();
    visit("column-major", x.view());
    let mut reversed = x.view();
    reversed.invert_axis(Axis(2));
    reversed.invert_axis(Axis(0));
    visit("column-major, reversed", reversed);
    visit("permuted", noise([c, a, b]).view().permuted_axes([1, 2, 0]));
    let x = noise(shape);
    visit("reversed", x.slice(s![..;-1, ..;-1, ..;-1]));
    visit("reversed rows", x.slice(s![.., ..;-1, ..]));
    let x = noise([a, b, c + 3]);
    visit("a range of columns", x.slice(s![.., .., 2..2 + c]));
    let x = noise([2 * a, b, 3 * c]);
    visit("with steps", x.slice(s![..;2, .., ..;3]));
    visit("with steps backwards", x.slice(s![..;-2, ..;-1, ..;-3]));
    let x = noise([1, b, 1]);
    visit("broadcast", x.broadcast(shape).unwrap());
}

pub(crate) fn to_f64<R: SimdReal, D: Dimension>(x: &ArrayRef<R, D>) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

#[track_caller]
pub(crate) fn close<R: SimdReal, D: Dimension>(
    got: &ArrayRef<R, D>,
    expected: &[f64],
    tolerance: f64,
    what: &str,
) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for ((at, got), &expected) in got.indexed_iter().zip(expected) {
        let got = got.to_f64();
        let fine = got == expected
            || (got.is_nan() && expected.is_nan())
            || (got - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(fine, "{what} at {at:?}: got {got:e}, expected {expected:e}");
    }
}

pub(crate) fn each_type(f32_tolerance: f64, single: impl Fn(f64), double: impl Fn(f64)) {
    single(f32_tolerance);
    double(f32_tolerance * 1e-8);
}

/// Runs a generic test for f32 and f64.
macro_rules! both {
    ($test:ident, $tolerance:expr) => {
        each_type($tolerance, $test::<f32>, $test::<f64>)
    };
}
pub(crate) use both;
