//! Activation functions, forward and backward, over slices.
//!
//! An activation is a struct that implements [`Pointwise`]: the function of one vector, and below it the product of its derivative with
//! the incoming gradient. [`Activation`] names them all as data, for layers that are configured and for epilogues of
//! the matrix product, and the kernels here run any of them.
//!
//! What backward needs ([`Saved`]): ReLU, leaky ReLU, ELU, sigmoid and tanh are differentiated from their *output*, so their input need
//! not be kept; GELU, its tanh form, SiLU and softplus need their *input*.
//!
//! NaN: every function passes it on. Where the saved value is NaN the (leaky) ReLU's and ELU's gradient passes unchanged,
//! as in PyTorch.

mod array;

pub use array::*;

use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{Binary, Unary, map_binary, map_in_place, map_unary};
use crate::math;

/// What the backward pass of an activation is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The argument of the forward pass.
    Input,
    /// The result of the forward pass.
    Output,
}

/// An activation function of one vector.
pub trait Pointwise: Copy {
    /// What [`Pointwise::backward`] is given.
    const SAVED: Saved;
    /// The function; must be `#[inline(always)]`.
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R>;
    /// The derivative times `dy`; must be `#[inline(always)]`.
    fn backward<S: Isa, R: SimdReal>(self, saved: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R>;
}

/// Every activation function, as data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x` where positive, `slope x` elsewhere; `slope > 0`.
    LeakyRelu {
        /// The slope on the left.
        slope: f64,
    },
    /// `x` where positive, `alpha (e^x - 1)` elsewhere; `alpha > 0`.
    Elu {
        /// Minus the limit on the left.
        alpha: f64,
    },
    /// `x Phi(x)`
    Gelu,
    /// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x / (1 + e^-x)`
    Silu,
    /// `1 / (1 + e^-x)`
    Sigmoid,
    /// `tanh x`
    Tanh,
    /// `log(1 + e^x)`
    Softplus,
}

impl Activation {
    /// One of each, with the customary parameters; for tests and benchmarks that must cover all.
    pub const ALL: [Self; 10] = [
        Self::Identity,
        Self::Relu,
        Self::LeakyRelu { slope: 0.01 },
        Self::Elu { alpha: 1.0 },
        Self::Gelu,
        Self::GeluTanh,
        Self::Silu,
        Self::Sigmoid,
        Self::Tanh,
        Self::Softplus,
    ];

    /// What the backward pass needs.
    #[must_use]
    pub fn saved(self) -> Saved {
        struct Ask;
        impl Visitor for Ask {
            type Output = Saved;
            #[inline(always)]
            fn visit<P: Pointwise>(self, _: P) -> Saved {
                P::SAVED
            }
        }
        self.visit(Ask)
    }

    /// Hands the activation's struct to a visitor, which is compiled for each.
    #[inline(always)]
    pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
        match self {
            Self::Identity => visitor.visit(Identity),
            Self::Relu => visitor.visit(Relu),
            Self::LeakyRelu { slope } => visitor.visit(LeakyRelu { slope }),
            Self::Elu { alpha } => visitor.visit(Elu { alpha }),
            Self::Gelu => visitor.visit(Gelu),
            Self::GeluTanh => visitor.visit(GeluTanh),
            Self::Silu => visitor.visit(Silu),
            Self::Sigmoid => visitor.visit(Sigmoid),
            Self::Tanh => visitor.visit(Tanh),
            Self::Softplus => visitor.visit(Softplus),
        }
    }
}

/// Code that is compiled for each activation.
pub trait Visitor {
    /// What it returns.
    type Output;
    /// The code; must be `#[inline(always)]`.
    fn visit<P: Pointwise>(self, activation: P) -> Self::Output;
}

/// `x`
#[derive(Clone, Copy, Debug)]
pub struct Identity;

impl Pointwise for Identity {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, _: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy
    }
}

/// `max(x, 0)`
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl Pointwise for Relu {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        // The second operand comes back when it is NaN.
        x.constant(R::ZERO).larger_of(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        (!y.less_or_equal(y.constant(R::ZERO))).or_zero(dy)
    }
}

/// `x` where positive, `slope x` elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// The slope on the left, positive.
    pub slope: f64,
}

impl Pointwise for LeakyRelu {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x.less_than(x.constant(R::ZERO))
            .select(x * R::from_f64(self.slope), x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        y.less_or_equal(y.constant(R::ZERO))
            .select(dy * R::from_f64(self.slope), dy)
    }
}

/// `x` where positive, `alpha (e^x - 1)` elsewhere (Clevert, Unterthiner and Hochreiter 2016).
#[derive(Clone, Copy, Debug)]
pub struct Elu {
    /// Minus the limit on the left, positive.
    pub alpha: f64,
}

impl Pointwise for Elu {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        let left = math::expm1_nonpositive(x) * R::from_f64(self.alpha);
        x.less_than(x.constant(R::ZERO)).select(left, x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        // alpha e^x = y + alpha
        let left = dy * (y + R::from_f64(self.alpha));
        y.less_or_equal(y.constant(R::ZERO)).select(left, dy)
    }
}

/// `x Phi(x)` (Hendrycks and Gimpel 2016).
#[derive(Clone, Copy, Debug)]
pub struct Gelu;

impl Pointwise for Gelu {
    const SAVED: Saved = Saved::Input;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::gelu(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * math::gelu_derivative(x)
    }
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, which is `x sigmoid(sqrt(8/pi) (x + 0.044715 x^3))`.
#[derive(Clone, Copy, Debug)]
pub struct GeluTanh;

impl Pointwise for GeluTanh {
    const SAVED: Saved = Saved::Input;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::gelu_tanh(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * math::gelu_tanh_derivative(x)
    }
}

/// `x / (1 + e^-x)` (Elfwing, Uchibe and Doya 2018).
#[derive(Clone, Copy, Debug)]
pub struct Silu;

impl Pointwise for Silu {
    const SAVED: Saved = Saved::Input;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::silu(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * math::silu_derivative(x)
    }
}

/// `1 / (1 + e^-x)`
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;

impl Pointwise for Sigmoid {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::sigmoid(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * y * (y.constant(R::ONE) - y)
    }
}

/// `tanh x`
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

impl Pointwise for Tanh {
    const SAVED: Saved = Saved::Output;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::tanh(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, y: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * (-y).mul_add(y, y.constant(R::ONE))
    }
}

/// `log(1 + e^x)`
#[derive(Clone, Copy, Debug)]
pub struct Softplus;

impl Pointwise for Softplus {
    const SAVED: Saved = Saved::Input;
    #[inline(always)]
    fn forward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::softplus(x)
    }
    #[inline(always)]
    fn backward<S: Isa, R: SimdReal>(self, x: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        dy * math::sigmoid(x)
    }
}

#[derive(Clone, Copy)]
struct Forward<P>(P);

impl<P: Pointwise> Unary for Forward<P> {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        self.0.forward(x)
    }
}

#[derive(Clone, Copy)]
struct Backward<P>(P);

impl<P: Pointwise> Binary for Backward<P> {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, saved: Lanes<S, R>, dy: Lanes<S, R>) -> Lanes<S, R> {
        self.0.backward(saved, dy)
    }
}

struct ForwardKernel<'a, P, R> {
    activation: P,
    x: &'a [R],
    y: &'a mut [R],
}

impl<P: Pointwise, R: SimdReal> Kernel for ForwardKernel<'_, P, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        map_unary::<false, S, R>(simd, Forward(self.activation), self.x, self.y);
    }
}

struct InPlaceKernel<'a, P, R> {
    activation: P,
    x: &'a mut [R],
}

impl<P: Pointwise, R: SimdReal> Kernel for InPlaceKernel<'_, P, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        map_in_place(simd, Forward(self.activation), self.x);
    }
}

struct BackwardKernel<'a, P, R> {
    activation: P,
    saved: &'a [R],
    dy: &'a [R],
    dx: &'a mut [R],
    acc: Accumulate,
}

impl<P: Pointwise, R: SimdReal> Kernel for BackwardKernel<'_, P, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let f = Backward(self.activation);
        match self.acc {
            Accumulate::Write => map_binary::<false, S, R>(simd, f, self.saved, self.dy, self.dx),
            Accumulate::Add => map_binary::<true, S, R>(simd, f, self.saved, self.dy, self.dx),
        }
    }
}

macro_rules! slices {
    ($(
        $name:literal $activation:ident ($($parameter:ident),*) $saved:ident,
        $forward:ident $backward:ident
    );* $(;)?) => {
        $(
            instantiate! {
                #[doc = concat!("`y = ", $name, "(x)`: see [`", stringify!($activation), "`].")]
                ///
                /// # Panics
                /// The lengths differ, or the machine lacks the level.
                pub fn $forward<R>(level: SimdLevel, $($parameter: f64,)* x: &[R], y: &mut [R])
                { same_length("x", x.len(), "y", y.len()); }
                then { dispatch(level, ForwardKernel { activation: $activation { $($parameter),* }, x, y }) }
            }
            instantiate! {
                #[doc = concat!("The gradient of ", $name, " from its saved ", stringify!($saved), ".")]
                ///
                /// # Panics
                /// The lengths differ, or the machine lacks the level.
                pub fn $backward<R>(
                    level: SimdLevel,
                    $($parameter: f64,)*
                    $saved: &[R],
                    dy: &[R],
                    dx: &mut [R],
                    acc: Accumulate,
                )
                {
                    same_length("dy", dy.len(), stringify!($saved), $saved.len());
                    same_length("dy", dy.len(), "dx", dx.len());
                }
                then {
                    let activation = $activation { $($parameter),* };
                    dispatch(level, BackwardKernel { activation, saved: $saved, dy, dx, acc })
                }
            }
        )*
    };
}

slices! {
    "identity" Identity () y, identity_forward identity_backward;
    "relu" Relu () y, relu_forward relu_backward;
    "leaky_relu" LeakyRelu (slope) y, leaky_relu_forward leaky_relu_backward;
    "elu" Elu (alpha) y, elu_forward elu_backward;
    "gelu" Gelu () x, gelu_forward gelu_backward;
    "gelu_tanh" GeluTanh () x, gelu_tanh_forward gelu_tanh_backward;
    "silu" Silu () x, silu_forward silu_backward;
    "sigmoid" Sigmoid () y, sigmoid_forward sigmoid_backward;
    "tanh" Tanh () y, tanh_forward tanh_backward;
    "softplus" Softplus () x, softplus_forward softplus_backward;
}

instantiate! {
    /// `x = activation(x)`, without a second buffer; for inference, and where only the output is saved.
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn activation_in_place<R>(level: SimdLevel, activation: Activation, x: &mut [R])
    {}
    then {
        struct Run<'a, R>(SimdLevel, &'a mut [R]);
        impl<R: SimdReal> Visitor for Run<'_, R> {
            type Output = ();
            #[inline(always)]
            fn visit<P: Pointwise>(self, activation: P) {
                dispatch(self.0, InPlaceKernel { activation, x: self.1 });
            }
        }
        activation.visit(Run(level, x))
    }
}

struct RowsKernel<P, R> {
    activation: P,
    x: *mut R,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<P: Pointwise, R: SimdReal> Kernel for RowsKernel<P, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for i in 0..self.rows {
            let start = self.x.wrapping_add(i * self.stride);
            // SAFETY: `activate_rows` promises the rows to us alone.
            let row = unsafe { std::slice::from_raw_parts_mut(start, self.cols) };
            map_in_place(simd, Forward(self.activation), row);
        }
    }
}

/// `x = activation(x)` for `rows` rows of `cols` elements that lie `stride` apart.
///
/// # Safety
/// The rows may be read and written, and nobody else touches them meanwhile. (What lies between them may be others'.)
pub(crate) unsafe fn activate_rows<R: SimdReal>(
    level: SimdLevel,
    activation: Activation,
    x: *mut R,
    rows: usize,
    cols: usize,
    stride: usize,
) {
    struct Run<R> {
        level: SimdLevel,
        x: *mut R,
        rows: usize,
        cols: usize,
        stride: usize,
    }
    impl<R: SimdReal> Visitor for Run<R> {
        type Output = ();
        #[inline(always)]
        fn visit<P: Pointwise>(self, activation: P) {
            let Self {
                level,
                x,
                rows,
                cols,
                stride,
            } = self;
            dispatch(
                level,
                RowsKernel {
                    activation,
                    x,
                    rows,
                    cols,
                    stride,
                },
            );
        }
    }
    activation.visit(Run {
        level,
        x,
        rows,
        cols,
        stride,
    });
}

/// `y = activation(x)`
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn activation_forward<R: SimdReal>(
    level: SimdLevel,
    activation: Activation,
    x: &[R],
    y: &mut [R],
) {
    match activation {
        Activation::Identity => identity_forward(level, x, y),
        Activation::Relu => relu_forward(level, x, y),
        Activation::LeakyRelu { slope } => leaky_relu_forward(level, slope, x, y),
        Activation::Elu { alpha } => elu_forward(level, alpha, x, y),
        Activation::Gelu => gelu_forward(level, x, y),
        Activation::GeluTanh => gelu_tanh_forward(level, x, y),
        Activation::Silu => silu_forward(level, x, y),
        Activation::Sigmoid => sigmoid_forward(level, x, y),
        Activation::Tanh => tanh_forward(level, x, y),
        Activation::Softplus => softplus_forward(level, x, y),
    }
}

/// The gradient of an activation; `saved` is what [`Activation::saved`] asks for.
///
/// # Panics
/// The lengths differ, or the machine lacks the level.
#[track_caller]
pub fn activation_backward<R: SimdReal>(
    level: SimdLevel,
    activation: Activation,
    saved: &[R],
    dy: &[R],
    dx: &mut [R],
    acc: Accumulate,
) {
    match activation {
        Activation::Identity => identity_backward(level, saved, dy, dx, acc),
        Activation::Relu => relu_backward(level, saved, dy, dx, acc),
        Activation::LeakyRelu { slope } => leaky_relu_backward(level, slope, saved, dy, dx, acc),
        Activation::Elu { alpha } => elu_backward(level, alpha, saved, dy, dx, acc),
        Activation::Gelu => gelu_backward(level, saved, dy, dx, acc),
        Activation::GeluTanh => gelu_tanh_backward(level, saved, dy, dx, acc),
        Activation::Silu => silu_backward(level, saved, dy, dx, acc),
        Activation::Sigmoid => sigmoid_backward(level, saved, dy, dx, acc),
        Activation::Tanh => tanh_backward(level, saved, dy, dx, acc),
        Activation::Softplus => softplus_backward(level, saved, dy, dx, acc),
    }
}

#[cfg(test)]
mod tests;
