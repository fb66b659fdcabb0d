//! Activations and softmax.

use nd_simd::activations::{self, Activation};
use nd_simd::{SimdReal, reference};
use nd_testing::cases::normals;
use ndarray::{Array1, Array3, ArrayRef, Axis};

use crate::support::{SHAPES, both, close, each_type, layouts, to_f64};

#[test]
fn activations_of_every_layout() {
    fn check<R: SimdReal>(tolerance: f64) {
        for shape in SHAPES {
            layouts::<R>(shape, |name, x| {
                for activation in Activation::ALL {
                    let what = format!("{activation:?} {shape:?} {name}");
                    let y = activations::activate(&x, activation);
                    assert_eq!(y.shape(), x.shape(), "{what}");
                    let function = |x: f64| match activation {
                        Activation::Identity => x,
                        Activation::Relu => reference::activations::relu(x),
                        Activation::LeakyRelu { slope } => {
                            reference::activations::leaky_relu(x, slope)
                        }
                        Activation::Elu { alpha } => reference::activations::elu(x, alpha),
                        Activation::Gelu => reference::activations::gelu(x),
                        Activation::GeluTanh => reference::activations::gelu_tanh(x),
                        Activation::Silu => reference::activations::silu(x),
                        Activation::Sigmoid => reference::activations::sigmoid(x),
                        Activation::Tanh => x.tanh(),
                        Activation::Softplus => reference::activations::softplus(x),
                        other => panic!("{other:?} has no reference here"),
                    };
                    let expected: Vec<f64> = to_f64(&x).into_iter().map(function).collect();
                    close(&y, &expected, tolerance, &what);
                    let mut in_place = x.to_owned();
                    activations::activate_in_place(&mut in_place, activation);
                    assert_eq!(in_place, y, "{what}");
                    // Elements without gaps keep their order in memory.
                    if x.as_slice_memory_order().is_some() && !x.is_empty() {
                        assert!(y.as_slice_memory_order().is_some(), "{what}");
                        let axes = 0..3;
                        assert!(
                            axes.into_iter()
                                .all(|i| shape[i] == 1 || x.strides()[i] == y.strides()[i]),
                            "{what}"
                        );
                    } else {
                        assert!(y.is_standard_layout(), "{what}");
                    }
                }
            });
        }
    }
    both!(check, 2e-6);
}

#[test]
fn named_activations_are_those_of_the_list() {
    let x = Array1::from_vec(normals::<f64>(3, 40));
    let dy = Array1::from_vec(normals::<f64>(4, 40));
    type Forward = fn(&ArrayRef<f64, ndarray::Ix1>) -> Array1<f64>;
    type Gradient = fn(&ArrayRef<f64, ndarray::Ix1>, &ArrayRef<f64, ndarray::Ix1>) -> Array1<f64>;
    let named: [(Activation, Forward, Gradient); 9] = [
        (
            Activation::Relu,
            activations::relu,
            activations::relu_gradient,
        ),
        (
            Activation::LeakyRelu { slope: 0.1 },
            |x| activations::leaky_relu(x, 0.1),
            |y, dy| activations::leaky_relu_gradient(y, dy, 0.1),
        ),
        (
            Activation::Elu { alpha: 0.7 },
            |x| activations::elu(x, 0.7),
            |y, dy| activations::elu_gradient(y, dy, 0.7),
        ),
        (
            Activation::Gelu,
            activations::gelu,
            activations::gelu_gradient,
        ),
        (
            Activation::GeluTanh,
            activations::gelu_tanh,
            activations::gelu_tanh_gradient,
        ),
        (
            Activation::Silu,
            activations::silu,
            activations::silu_gradient,
        ),
        (
            Activation::Sigmoid,
            activations::sigmoid,
            activations::sigmoid_gradient,
        ),
        (
            Activation::Tanh,
            activations::tanh,
            activations::tanh_gradient,
        ),
        (
            Activation::Softplus,
            activations::softplus,
            activations::softplus_gradient,
        ),
    ];
    for (activation, forward, gradient) in named {
        let y = forward(&x);
        assert_eq!(y, activations::activate(&x, activation));
        let saved = match activation.saved() {
            activations::Saved::Input => &x,
            activations::Saved::Output => &y,
        };
        let dx = gradient(saved, &dy);
        // Central differences of the function itself.
        let step = 1e-6;
        let slope = (forward(&(&x + step)) - forward(&(&x - step))) / (2.0 * step);
        close(
            &dx,
            &to_f64(&(slope * &dy)),
            1e-8,
            &format!("{activation:?}"),
        );
    }
}

#[test]
fn threads_change_no_bit() {
    let x = Array3::from_shape_vec([3, 50, 1000], normals::<f32>(1, 150_000)).unwrap();
    let all = || {
        let y = activations::gelu(&x);
        let dx = activations::gelu_gradient(&x.t(), &y.t());
        (activations::softmax(&y), dx, y)
    };
    let alone = all();
    for count in [1, 2, 3] {
        let threads = nd_core::Threads::new(Some(count)).unwrap();
        assert!(threads.install(all) == alone, "{count} threads");
    }
}

/// Two operands whose layouts need not agree.
#[test]
fn gradients_of_mixed_layouts() {
    for shape in SHAPES {
        let saved = Array3::from_shape_vec(shape, normals::<f32>(9, shape.iter().product()));
        let saved = saved.unwrap();
        layouts::<f32>(shape, |name, dy| {
            let dx = activations::sigmoid_gradient(&saved, &dy);
            let expected: Vec<f64> = saved
                .iter()
                .zip(&dy)
                .map(|(&y, &dy)| f64::from(dy) * f64::from(y) * (1.0 - f64::from(y)))
                .collect();
            close(&dx, &expected, 1e-6, &format!("{shape:?} {name}"));
        });
    }
}

#[test]
fn softmax_over_every_axis() {
    fn check<R: SimdReal>(tolerance: f64) {
        for shape in SHAPES {
            layouts::<R>(shape, |name, x| {
                for axis in 0..3 {
                    let what = format!("{shape:?} {name} axis {axis}");
                    let y = activations::softmax_axis(&x, Axis(axis));
                    let log = activations::log_softmax_axis(&x, Axis(axis));
                    assert!(y.is_standard_layout() && log.is_standard_layout());
                    for ((x, y), log) in x
                        .lanes(Axis(axis))
                        .into_iter()
                        .zip(y.lanes(Axis(axis)))
                        .zip(log.lanes(Axis(axis)))
                    {
                        let len = x.len().max(1);
                        close(
                            &y,
                            &reference::softmax::softmax(len, &to_f64(&x)),
                            tolerance,
                            &what,
                        );
                        let exact = reference::log_softmax::log_softmax(len, &to_f64(&x));
                        close(&log, &exact, tolerance, &what);
                    }
                }
                let y = activations::softmax(&x);
                assert_eq!(y, activations::softmax_axis(&x, Axis(2)));
                assert_eq!(
                    activations::log_softmax(&x),
                    activations::log_softmax_axis(&x, Axis(2))
                );
                let cols = shape[2].max(1);
                let dx = activations::softmax_gradient(&y, &x);
                let exact = reference::softmax::softmax_gradient(cols, &to_f64(&y), &to_f64(&x));
                close(&dx, &exact, 20.0 * tolerance, name);
                let y = activations::log_softmax(&x);
                let dx = activations::log_softmax_gradient(&y, &x);
                let exact =
                    reference::log_softmax::log_softmax_gradient(cols, &to_f64(&y), &to_f64(&x));
                close(&dx, &exact, 100.0 * tolerance, name);
            });
        }
        let one = ndarray::arr0(R::from_f64(3.0));
        assert_eq!(activations::softmax(&one), ndarray::arr0(R::ONE));
        assert_eq!(activations::relu(&one), one);
    }
    both!(check, 2e-6);
}
