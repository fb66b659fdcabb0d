//! Matrix products on the tape: against the plain product, and gradients against finite differences.

use nd_core::autograd::Tape;
use nd_simd::ops::prelude::*;
use nd_testing::cases::normals;
use nd_testing::{GradInput, assert_close, gradcheck};

/// Left, right, whether the right is transposed, and the result.
type Case = (&'static [usize], &'static [usize], bool, &'static [usize]);

const SHAPES: [Case; 8] = [
    (&[3, 4], &[4, 2], false, &[3, 2]),
    (&[3, 4], &[2, 4], true, &[3, 2]),
    (&[2, 3, 4], &[2, 4, 5], false, &[2, 3, 5]),
    (&[2, 2, 3, 4], &[2, 2, 5, 4], true, &[2, 2, 3, 5]),
    (&[2, 3, 4], &[4, 5], false, &[2, 3, 5]),
    (&[2, 3, 4], &[5, 4], true, &[2, 3, 5]),
    (&[3, 4], &[2, 4, 5], false, &[2, 3, 5]),
    (&[3, 4], &[2, 5, 4], true, &[2, 3, 5]),
];

#[test]
fn products_are_those_of_the_definition() {
    for (a_shape, b_shape, transposed, y_shape) in SHAPES {
        let tape = Tape::<f64>::default();
        let (a, b) = (
            normals::<f64>(1, a_shape.iter().product()),
            normals::<f64>(2, b_shape.iter().product()),
        );
        let (av, bv) = (tape.input(a_shape, &a), tape.input(b_shape, &b));
        let y = if transposed {
            av.matmul_transposed(bv)
        } else {
            av.matmul(bv)
        };
        assert_eq!(&y.shape()[..], y_shape);
        let (m, n) = (y_shape[y_shape.len() - 2], y_shape[y_shape.len() - 1]);
        let k = a_shape[a_shape.len() - 1];
        let count: usize = y_shape[..y_shape.len() - 2].iter().product();
        let mut expected = Vec::new();
        for i in 0..count {
            let a = &a[if a.len() == m * k { 0 } else { i * m * k }..][..m * k];
            let b = &b[if b.len() == k * n { 0 } else { i * k * n }..][..k * n];
            for row in 0..m {
                for col in 0..n {
                    let right = |p: usize| {
                        if transposed {
                            b[col * k + p]
                        } else {
                            b[p * n + col]
                        }
                    };
                    expected.push((0..k).map(|p| a[row * k + p] * right(p)).sum::<f64>());
                }
            }
        }
        assert_close("y", &y.value(), &expected, 1e-14, 1e-14);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (a, b, transposed, _) in SHAPES {
        let (a, b) = (GradInput::normal(1, a), GradInput::normal(2, b));
        for inputs in [[a.clone(), b.clone()], [a.clone(), b.clone().param()]] {
            gradcheck("matmul", &inputs, |_, v| {
                if transposed {
                    v[0].matmul_transposed(v[1])
                } else {
                    v[0].matmul(v[1])
                }
            });
        }
    }
}

#[test]
#[should_panic(expected = "the product of [2, 3] and [2, 3]: the shapes do not fit")]
fn shapes_that_do_not_fit_are_named() {
    let tape = Tape::<f64>::default();
    let a = tape.input([2, 3], &[0.0; 6]);
    let _ = a.matmul(a);
}
