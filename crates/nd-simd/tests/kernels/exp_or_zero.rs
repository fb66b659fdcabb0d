//! The exponential of softmaxes: that of `exp`, without denormal results.

use nd_simd::math::{EXP_MAX_ULP, exp_or_zero};
use nd_simd::{Isa, Kernel, Lanes, SimdReal, dispatch};

struct Apply<'a, R>(&'a mut [R]);

impl<R: SimdReal> Kernel for Apply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for part in self.0.chunks_mut(Lanes::<S, R>::LEN) {
            exp_or_zero(Lanes::<S, R>::load_partial(simd, part)).store_partial(part);
        }
    }
}

fn check<R: SimdReal>(lowest: f64) {
    let special = [
        0.0,
        -0.0,
        f64::NEG_INFINITY,
        f64::NAN,
        -1e30,
        -700.0,
        -100.0,
        -1e-40,
    ];
    let dense = (0..200_000).map(|i| f64::from(i) * (lowest * 1.3 / 200_000.0));
    let near = (-50..50).map(|i| lowest + f64::from(i) * 1e-3);
    let x: Vec<R> = special
        .into_iter()
        .chain(dense)
        .chain(near)
        .chain([1.0, 40.0, 80.0])
        .map(R::from_f64)
        .collect();
    for level in nd_testing::levels() {
        let mut y = x.clone();
        dispatch(level, Apply(&mut y));
        for (x, y) in x.iter().zip(&y) {
            let (exact, found) = (x.to_f64().exp(), y.to_f64());
            if x.is_nan() {
                assert!(found.is_nan(), "{level}: exp(NaN) is {found}");
            } else if *x < R::from_f64(lowest) {
                assert_eq!(found, 0.0, "{level}: exp({x})");
            } else {
                // The f64 reference is itself rounded.
                let ulp = exact * R::EPSILON.to_f64();
                let bound = if R::MANTISSA_BITS > 23 {
                    4.0
                } else {
                    EXP_MAX_ULP
                };
                assert!(
                    (found - exact).abs() <= bound * ulp,
                    "{level}: exp({x}) is {found:e}, expected {exact:e}"
                );
                assert!(
                    found
                        >= if R::MANTISSA_BITS > 23 {
                            f64::MIN_POSITIVE
                        } else {
                            f64::from(f32::MIN_POSITIVE)
                        }
                );
            }
        }
    }
}

#[test]
fn results_are_normal_numbers_or_zero() {
    check::<f32>(-87.3);
    check::<f64>(-708.3);
}
