use super::*;
use crate::reference::activations as reference;
use crate::testing::{LENGTHS, Noise, assert_close, poisoned};

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => reference::relu(x),
        Activation::LeakyRelu { slope } => reference::leaky_relu(x, slope),
        Activation::Elu { alpha } => reference::elu(x, alpha),
        Activation::Gelu => reference::gelu(x),
        Activation::GeluTanh => reference::gelu_tanh(x),
        Activation::Silu => reference::silu(x),
        Activation::Sigmoid => reference::sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Softplus => reference::softplus(x),
    }
}

fn exact_derivative(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(x > 0.0),
        Activation::LeakyRelu { slope } => {
            if x > 0.0 {
                1.0
            } else {
                slope
            }
        }
        Activation::Elu { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                alpha * x.exp()
            }
        }
        Activation::Gelu => reference::gelu_derivative(x),
        Activation::GeluTanh => reference::gelu_tanh_derivative(x),
        Activation::Silu => reference::silu_derivative(x),
        Activation::Sigmoid => reference::sigmoid(x) * reference::sigmoid(-x),
        Activation::Tanh => 1.0 - x.tanh() * x.tanh(),
        Activation::Softplus => reference::sigmoid(x),
    }
}

fn agrees<R: SimdReal>(tolerance: f64) {
    let mut noise = Noise::new(1);
    for level in nd_testing::levels() {
        for activation in Activation::ALL {
            for &len in LENGTHS {
                let x: Vec<R> = noise.vec(len, 6.0);
                let mut y: Vec<R> = poisoned(len);
                activation_forward(level, activation, &x, &mut y);
                let mut in_place = x.clone();
                activation_in_place(level, activation, &mut in_place);
                assert_eq!(y, in_place);
                for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
                    let expected = exact(activation, x.to_f64());
                    assert_close(y, expected, tolerance * (expected.abs() + 0.01), || {
                        format!("{level} {activation:?} element {i} of {len}, x = {x}")
                    });
                }
                let dy: Vec<R> = noise.vec(len, 2.0);
                let saved = match activation.saved() {
                    Saved::Input => &x,
                    Saved::Output => &y,
                };
                let mut dx: Vec<R> = poisoned(len);
                activation_backward(level, activation, saved, &dy, &mut dx, Accumulate::Write);
                let before: Vec<R> = noise.vec(len, 1.0);
                let mut added = before.clone();
                activation_backward(level, activation, saved, &dy, &mut added, Accumulate::Add);
                for i in 0..len {
                    let expected = exact_derivative(activation, x[i].to_f64()) * dy[i].to_f64();
                    let scale = tolerance * (dy[i].to_f64().abs() * 2.0);
                    let place = || format!("{level} {activation:?} gradient {i} of {len}");
                    assert_close(dx[i], expected, scale, place);
                    let expected = expected + before[i].to_f64();
                    assert_close(added[i], expected, scale + tolerance, place);
                }
            }
        }
    }
}

#[test]
fn f32_agrees_with_the_reference() {
    agrees::<f32>(2e-6);
}

#[test]
fn f64_agrees_with_the_reference() {
    agrees::<f64>(1e-14);
}

#[test]
fn nan_and_infinities_come_out_right() {
    let x = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1e30,
        -1e30,
        0.0,
        -0.0,
    ];
    for level in nd_testing::levels() {
        for activation in Activation::ALL {
            let mut y = [0.0; 7];
            activation_forward(level, activation, &x, &mut y);
            assert!(y[0].is_nan(), "{level} {activation:?}");
            let saved = match activation.saved() {
                Saved::Input => &x,
                Saved::Output => &y,
            };
            let mut dx = [0.0; 7];
            activation_backward(
                level,
                activation,
                saved,
                &[1.0; 7],
                &mut dx,
                Accumulate::Write,
            );
            for i in 1..7 {
                let expected = exact(activation, f64::from(x[i]));
                assert_close(y[i], expected, 1e-6 * expected.abs(), || {
                    format!("{level} {activation:?}({})", x[i])
                });
                let expected = exact_derivative(activation, f64::from(x[i]));
                assert_close(dx[i], expected, 1e-6, || {
                    format!("{level} derivative of {activation:?} at {}", x[i])
                });
            }
        }
    }
}

#[test]
#[should_panic(expected = "`x` has 3 elements but `y` has 2")]
fn lengths_must_agree() {
    relu_forward(SimdLevel::Scalar, &[0.0f32; 3], &mut [0.0; 2]);
}
