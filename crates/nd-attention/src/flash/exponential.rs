//! The exponential of a softmax: what a score weighs beside the largest.
//!
//! Sixteen scores cost the matrix products of a block 64 cycles and [`math::exp_or_zero`] about ten: it is the largest thing beside the
//! products. A softmax needs less than its one unit in the last place: weights far below the largest hardly count, so an error may grow
//! with the distance from it. That saves a quarter of the instructions:
//! * `x log2(e)` is rounded to a whole number by adding and subtracting a number whose last place is one, and the same product less
//!   that whole number is exact but for the last place of `log2(e)`, an error of `2^-25 |x|`, at most `e^-1 2^-25` of the largest weight;
//! * `2^f` for `|f| <= 1/2` is a polynomial of degree five, exactly one at zero, fitted to the smallest relative error (2^-23.4).
//!
//! Known weakness: f64 and plain loops take [`math::exp_or_zero`].

use nd_simd::{Isa, Lanes, SimdReal, math};

/// `2^f = 1 + f (..)` on `|f| <= 1/2`, from the highest power down.
const POLYNOMIAL: [f64; 5] = [
    0.001_326_472_719_78,
    0.009_671_512_639_61,
    0.055_507_337_432_5,
    0.240_222_420_854,
    0.693_146_977_599,
];

/// Less than this weighs nothing: `e^x` would hardly be a normal number, and denormal numbers are slow.
const LOWEST: f64 = -87.3;

/// `1.5 2^23`: the last place of a sum with it is one.
const ROUNDING: f64 = 12_582_912.0;

/// `e^x` for `x` of at most 80, zero below [`LOWEST`]; NaN stays. In f32 the relative error is at most `2^-22 + 2^-24 |x|`.
#[inline(always)]
pub(super) fn weight<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if const { S::IS_SCALAR || size_of::<R>() != size_of::<f32>() } {
        return math::exp_or_zero(x);
    }
    let number = |value: f64| x.constant(R::from_f64(value));
    let (lowest, rounding) = (number(LOWEST), number(ROUNDING));
    let log2_e = number(std::f64::consts::LOG2_E);
    let n = x.mul_add(log2_e, rounding) - rounding;
    let f = x.mul_add(log2_e, -n);
    let mut sum = number(POLYNOMIAL[0]);
    for &coefficient in &POLYNOMIAL[1..] {
        sum = sum.mul_add(f, number(coefficient));
    }
    let power = sum.mul_add(f, x.constant(R::ONE)).scale_by_power(n);
    // What is computed far below is anything, and dropped here. NaN is not less, and stays.
    (!x.less_than(lowest)).or_zero(power)
}

#[cfg(test)]
mod tests {
    use nd_simd::{Kernel, dispatch};

    use super::*;

    struct Weights<'a>(&'a mut [f32]);

    impl Kernel for Weights<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Isa>(self, simd: S) {
            for part in self.0.chunks_mut(Lanes::<S, f32>::LEN) {
                weight(Lanes::<S, f32>::load_partial(simd, part)).store_partial(part);
            }
        }
    }

    #[test]
    fn the_error_grows_with_the_distance_from_the_largest() {
        let arguments: Vec<f32> = (0..4_000_000).map(|i| i as f32 * -2.2e-5 + 0.5).collect();
        for level in nd_testing::levels() {
            let mut found = arguments.clone();
            dispatch(level, Weights(&mut found));
            for (&x, &weight) in arguments.iter().zip(&found) {
                if f64::from(x) < LOWEST {
                    assert!(weight == 0.0, "{level}: e^{x} is {weight}");
                    continue;
                }
                let exact = f64::from(x).exp();
                let error = (f64::from(weight) / exact - 1.0).abs();
                let bound = 2f64.powi(-22) + 2f64.powi(-24) * f64::from(x).abs();
                assert!(error <= bound, "{level}: e^{x} is {weight}, not {exact}");
            }
        }
    }

    #[test]
    fn what_is_special() {
        let payload = f32::from_bits(0x7fc0_0155);
        for level in nd_testing::levels() {
            let mut x = [
                0.0,
                -0.0,
                f32::NEG_INFINITY,
                f32::NAN,
                payload,
                -1e30,
                -87.31,
                8.0,
            ];
            dispatch(level, Weights(&mut x));
            assert_eq!(x[..3], [1.0, 1.0, 0.0], "{level}");
            assert!(x[3].is_nan() && x[4].is_nan(), "{level}: {x:?}");
            assert_eq!(x[5..7], [0.0; 2], "{level}");
            assert!((x[7] / 2_980.958 - 1.0).abs() < 1e-6, "{level}: {x:?}");
        }
    }
}
