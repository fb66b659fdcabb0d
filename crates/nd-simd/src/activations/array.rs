//! Activation functions of arrays: any layout, any number of dimensions.

use nd_core::autograd::Accumulate;
use ndarray::{Array, ArrayRef, Dimension};

use super::{Activation, activation_backward, activation_forward, activation_in_place};
use crate::lanes::SimdReal;
use crate::layout::{level, map, same_shape};

pub use crate::softmax::{
    log_softmax, log_softmax_axis, log_softmax_gradient, softmax, softmax_axis, softmax_gradient,
};

/// Any activation function, element by element.
///
/// Where the elements of `x` lie without gaps, the result has the same memory order; else it is in standard layout.
///
/// ```
/// use nd_simd::activations::{Activation, activate};
/// let y = activate(&ndarray::arr1(&[-1.0f32, 2.0]), Activation::LeakyRelu { slope: 0.5 });
/// assert_eq!(y, ndarray::arr1(&[-0.5, 2.0]));
/// ```
#[must_use]
pub fn activate<R: SimdReal, D: Dimension>(
    x: &ArrayRef<R, D>,
    activation: Activation,
) -> Array<R, D> {
    let level = level();
    map([x], |[x], y| activation_forward(level, activation, x, y))
}

/// Any activation function in place.
pub fn activate_in_place<R: SimdReal, D: Dimension>(
    x: &mut ArrayRef<R, D>,
    activation: Activation,
) {
    let level = level();
    if let Some(x) = x.as_slice_memory_order_mut() {
        activation_in_place(level, activation, x);
        return;
    }
    let y = activate(&*x, activation);
    x.assign(&y);
}

/// The derivative of an activation function times `dy`; `saved` is its argument or its value, as
/// [`Activation::saved`] says.
///
/// # Panics
/// The shapes differ.
#[must_use]
#[track_caller]
pub fn activate_gradient<R: SimdReal, D: Dimension>(
    saved: &ArrayRef<R, D>,
    dy: &ArrayRef<R, D>,
    activation: Activation,
) -> Array<R, D> {
    same_shape("saved", saved.shape(), "dy", dy.shape());
    let level = level();
    map([saved, dy], |[saved, dy], dx| {
        activation_backward(level, activation, saved, dy, dx, Accumulate::Write);
    })
}

macro_rules! functions {
    ($(
        $formula:literal, $variant:ident ($($parameter:ident),*),
        $forward:ident $gradient:ident of $saved:ident: $derivative:literal;
    )*) => {
        $(
            #[doc = concat!("`", $formula, "`, element by element; see [`Activation::", stringify!($variant), "`].")]
            #[must_use]
            pub fn $forward<R: SimdReal, D: Dimension>(
                x: &ArrayRef<R, D>,
                $($parameter: f64,)*
            ) -> Array<R, D> {
                activate(x, Activation::$variant { $($parameter),* })
            }

            #[doc = concat!(
                "The gradient of [`", stringify!($forward), "()`]: `dx = ", $derivative, " dy`, from its ",
                functions!(@saved $saved), "."
            )]
            ///
            /// # Panics
            /// The shapes differ.
            #[must_use]
            #[track_caller]
            pub fn $gradient<R: SimdReal, D: Dimension>(
                $saved: &ArrayRef<R, D>,
                dy: &ArrayRef<R, D>,
                $($parameter: f64,)*
            ) -> Array<R, D> {
                same_shape(stringify!($saved), $saved.shape(), "dy", dy.shape());
                activate_gradient($saved, dy, Activation::$variant { $($parameter),* })
            }
        )*
    };
    (@saved x) => { "argument `x`" };
    (@saved y) => { "value `y`" };
}

functions! {
    "max(x, 0)", Relu (), relu relu_gradient of y: "[y > 0]";
    "x where positive, slope x elsewhere", LeakyRelu (slope),
        leaky_relu leaky_relu_gradient of y: "(1 where y > 0, slope elsewhere)";
    "x where positive, alpha (e^x - 1) elsewhere", Elu (alpha),
        elu elu_gradient of y: "(1 where y > 0, y + alpha elsewhere)";
    "x Phi(x)", Gelu (), gelu gelu_gradient of x: "(Phi(x) + x phi(x))";
    "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))", GeluTanh (),
        gelu_tanh gelu_tanh_gradient of x: "d/dx gelu_tanh(x)";
    "x / (1 + e^-x)", Silu (), silu silu_gradient of x: "s (1 + x (1 - s)) with s = sigmoid(x), times";
    "1 / (1 + e^-x)", Sigmoid (), sigmoid sigmoid_gradient of y: "y (1 - y)";
    "tanh x", Tanh (), tanh tanh_gradient of y: "(1 - y^2)";
    "log(1 + e^x)", Softplus (), softplus softplus_gradient of x: "sigmoid(x)";
}
