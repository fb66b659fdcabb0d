//! Every function on every level against std or libm in f64: all exponents, special values; `tests/accuracy.rs` has all floats.

use super::*;
use crate::dispatch::{Kernel, SimdLevel, dispatch};
use crate::map::{Unary, map_unary};
use crate::reference;

macro_rules! functions {
    ($($name:ident $f:path),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Function { $($name),* }
        $(
            #[derive(Clone, Copy)]
            struct $name;
            impl Unary for $name {
                #[inline(always)]
                fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
                    $f(x)
                }
            }
        )*
        struct Evaluate<'a, R> { function: Function, x: &'a [R], y: &'a mut [R] }
        impl<R: SimdReal> Kernel for Evaluate<'_, R> {
            type Output = ();
            #[inline(always)]
            fn run<S: Isa>(self, simd: S) {
                match self.function {
                    $(Function::$name => map_unary::<false, _, _>(simd, $name, self.x, self.y)),*
                }
            }
        }
    };
}

functions!(
    GeluTanh gelu_tanh, GeluTanhDerivative gelu_tanh_derivative, SiluDerivative silu_derivative, Exp exp, Expm1 expm1_nonpositive, Log log, Tanh tanh, Sigmoid sigmoid, Silu silu, Softplus softplus,
    NormalCdf normal_cdf, Gelu gelu, GeluDerivative gelu_derivative, Erf erf,
);

impl Function {
    /// Whether errors are stated in ULP of one: derivatives cross zero.
    fn is_derivative(self) -> bool {
        matches!(
            self,
            Self::GeluDerivative | Self::GeluTanhDerivative | Self::SiluDerivative
        )
    }
}

/// The function, its f64 reference, and the bound in ULP.
type Row = (Function, fn(f64) -> f64, f64);

const TABLE: [Row; 14] = [
    // In ULP of one.
    (
        Function::GeluTanhDerivative,
        reference::activations::gelu_tanh_derivative,
        4.0,
    ),
    (
        Function::SiluDerivative,
        reference::activations::silu_derivative,
        4.0,
    ),
    (
        Function::GeluTanh,
        reference::activations::gelu_tanh,
        GELU_TANH_MAX_ULP,
    ),
    (Function::Exp, f64::exp, EXP_MAX_ULP),
    (
        Function::Expm1,
        |x| if x > 0.0 { 0.0 } else { x.exp_m1() },
        3.0,
    ),
    (Function::Log, f64::ln, LOG_MAX_ULP),
    (Function::Tanh, f64::tanh, TANH_MAX_ULP),
    (
        Function::Sigmoid,
        reference::activations::sigmoid,
        SIGMOID_MAX_ULP,
    ),
    (
        Function::Silu,
        reference::activations::silu,
        SIGMOID_MAX_ULP,
    ),
    (
        Function::Softplus,
        reference::activations::softplus,
        SOFTPLUS_MAX_ULP,
    ),
    (
        Function::NormalCdf,
        reference::activations::normal_cdf,
        GELU_MAX_ULP,
    ),
    (Function::Gelu, reference::activations::gelu, GELU_MAX_ULP),
    // In ULP of one.
    (
        Function::GeluDerivative,
        reference::activations::gelu_derivative,
        4.0,
    ),
    (Function::Erf, libm::erf, ERF_MAX_ULP),
];

/// `|got - exact|` in units of the last place of an f32 of the size of `exact`.
fn ulp_f32(got: f32, exact: f64) -> f64 {
    if exact.is_nan() || got.is_nan() {
        return if exact.is_nan() && got.is_nan() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    if got.is_infinite() || exact.is_infinite() {
        // Values above the largest finite number by less than half a place may round either way.
        let limit = 2f64.powi(128) * (1.0 - 2f64.powi(-25));
        let overflow = exact.abs() >= limit * (1.0 - 2f64.powi(-22));
        return if overflow && got.abs() >= f32::MAX && exact.signum() == f64::from(got).signum() {
            0.0
        } else {
            f64::INFINITY
        };
    }
    let exponent = if exact == 0.0 {
        -149
    } else {
        exact.abs().log2().floor() as i32 - 23
    };
    (f64::from(got) - exact).abs() / 2f64.powi(exponent.max(-149))
}

/// The largest error of a function over `x` and where it is; `exact` are the reference's values.
fn worst_f32(level: SimdLevel, function: Function, exact: &[f64], x: &[f32]) -> (f64, f32) {
    let mut y = vec![0.0; x.len()];
    dispatch(
        level,
        Evaluate {
            function,
            x,
            y: &mut y,
        },
    );
    let mut worst = (0.0, 0.0);
    for ((&x, &y), &exact) in x.iter().zip(&y).zip(exact) {
        let mut error = ulp_f32(y, exact);
        if function.is_derivative() && !x.is_nan() {
            error = (f64::from(y) - exact).abs() / f64::from(f32::EPSILON);
        }
        if error > worst.0 {
            worst = (error, x);
        }
    }
    worst
}

fn special_values() -> Vec<f32> {
    let mut values = vec![
        0.0,
        1.0,
        0.5,
        2.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::from_bits(0x007f_ffff),
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        88.722_83,
        88.722_84,
        87.336_54,
        103.278_93,
        103.972_08,
        103.972_09,
        std::f32::consts::LN_2,
        std::f32::consts::LN_2 / 2.0,
        std::f32::consts::SQRT_2,
        0.625,
        9.0,
        9.02,
        10.0,
        14.5,
        15.0,
        16.0,
    ];
    values.extend(values.clone().iter().map(|x| -x));
    for i in 0..2000 {
        values.push(i as f32 * 0.01 - 10.0);
    }
    values
}

#[test]
fn f32_stays_within_its_bounds_on_every_level() {
    let mut x = special_values();
    for high in 0..=0xffffu32 {
        // Every sign, exponent and upper mantissa, with two scrambled lower halves each.
        x.push(f32::from_bits(
            high << 16 | (high.wrapping_mul(0x9e37) & 0xffff),
        ));
        x.push(f32::from_bits(
            high << 16 | (high.wrapping_mul(0x85eb) >> 3 & 0xffff),
        ));
    }
    for (function, reference, bound) in TABLE {
        let exact: Vec<f64> = x.iter().map(|&x| reference(f64::from(x))).collect();
        for level in nd_testing::levels() {
            let (worst, at) = worst_f32(level, function, &exact, &x);
            assert!(
                worst <= bound,
                "{level} {function:?}({at:e}): {worst:.2} ULP, bound {bound}"
            );
        }
    }
}

/// Of the references themselves: std, libm and their compositions are good to about this.
const F64_MAX_ULP: f64 = 9.0;

#[test]
fn f64_agrees_with_std_on_every_level() {
    let mut x: Vec<f64> = special_values().into_iter().map(f64::from).collect();
    x.extend([
        -745.0, -745.2, -708.5, 709.78, 709.79, 710.0, 36.0, 37.5, 38.4, -38.4, 1e-300, 1e300,
    ]);
    for i in 0..40_000u64 {
        let exponent = i % 120; // 2^-60 to 2^59
        let mantissa = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
        let bits = (963 + exponent) << 52 | mantissa | (i / 120 % 2) << 63;
        x.push(f64::from_bits(bits));
    }
    for i in 0..4000 {
        x.push(f64::from(i) * 0.02 - 40.0);
    }
    for level in nd_testing::levels() {
        for (function, reference, _) in TABLE {
            let mut y = vec![0.0; x.len()];
            dispatch(
                level,
                Evaluate {
                    function,
                    x: &x,
                    y: &mut y,
                },
            );
            for (&x, &y) in x.iter().zip(&y) {
                let exact = reference(x);
                let mut allowed = F64_MAX_ULP;
                if function == Function::GeluTanh && x < 0.0 {
                    // The reference rounds its cubic argument, and the exponential magnifies that.
                    allowed += 4.0
                        * reference::activations::gelu_tanh_argument(x)
                            .abs()
                            .min(800.0);
                }
                let unit = if function.is_derivative() {
                    1.0
                } else {
                    exact.abs()
                };
                // The references multiply and divide denormal numbers, which have few places.
                let denormal = if exact.abs() < 1e-300 {
                    1e-11 * exact.abs()
                } else {
                    0.0
                };
                let tolerance = allowed * unit * f64::EPSILON + denormal + 40.0 * f64::from_bits(1);
                assert!(
                    y == exact || (y - exact).abs() <= tolerance || (y.is_nan() && exact.is_nan()),
                    "{level} {function:?}({x:e}) = {y:e}, expected {exact:e}"
                );
            }
        }
    }
}

#[test]
fn infinities_and_zeros_have_their_limits() {
    let inf = f32::INFINITY;
    let cases: [(Function, f32, f32); 31] = [
        (Function::Exp, f32::from_bits(1), 1.0),
        (Function::Exp, -f32::from_bits(1), 1.0),
        (Function::Log, f32::from_bits(1), -103.278_93),
        (Function::Log, f32::from_bits(0x007f_ffff), -87.336_55),
        (Function::Log, -f32::from_bits(1), f32::NAN),
        (Function::Log, -inf, f32::NAN),
        (Function::Tanh, f32::from_bits(1), f32::from_bits(1)),
        (Function::Erf, inf, 1.0),
        (Function::Erf, -0.0, -0.0),
        (Function::GeluTanh, inf, inf),
        (Function::GeluTanh, -inf, -0.0),
        (Function::NormalCdf, inf, 1.0),
        (Function::NormalCdf, -inf, 0.0),
        (Function::Exp, inf, inf),
        (Function::Exp, -inf, 0.0),
        (Function::Log, 0.0, -inf),
        (Function::Log, -0.0, -inf),
        (Function::Log, inf, inf),
        (Function::Log, -1.0, f32::NAN),
        (Function::Tanh, inf, 1.0),
        (Function::Tanh, -inf, -1.0),
        (Function::Tanh, -0.0, -0.0),
        (Function::Sigmoid, inf, 1.0),
        (Function::Sigmoid, -inf, 0.0),
        (Function::Silu, -inf, -0.0),
        (Function::Silu, inf, inf),
        (Function::Gelu, inf, inf),
        (Function::Gelu, -inf, -0.0),
        (Function::Softplus, -inf, 0.0),
        (Function::Softplus, inf, inf),
        (Function::Erf, -inf, -1.0),
    ];
    for level in nd_testing::levels() {
        for (function, x, expected) in cases {
            let mut y = [0.5f32];
            dispatch(
                level,
                Evaluate {
                    function,
                    x: &[x],
                    y: &mut y,
                },
            );
            assert!(
                y[0].to_bits() == expected.to_bits() || (y[0].is_nan() && expected.is_nan()),
                "{level} {function:?}({x}) = {}, expected {expected}",
                y[0]
            );
            let mut y = [0.5f32];
            dispatch(
                level,
                Evaluate {
                    function,
                    x: &[f32::NAN],
                    y: &mut y,
                },
            );
            assert!(y[0].is_nan(), "{level} {function:?}(NaN) = {}", y[0]);
        }
    }
}
