use super::*;
use crate::dispatch::{Kernel, dispatch};
use nd_core::Real;
use std::marker::PhantomData;

/// Runs every operation on the same lanes and compares with the scalar meaning.
struct Vocabulary<R>(PhantomData<R>);

fn same<R: SimdReal>(got: R, expected: R) {
    assert!(
        got == expected || (got.is_nan() && expected.is_nan()),
        "got {got}, expected {expected}"
    );
}

impl<R: SimdReal> Kernel for Vocabulary<R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let n = Lanes::<S, R>::LEN;
        let nan = R::from_f64(f64::NAN);
        let pool = [
            0.0,
            -0.0,
            1.5,
            -2.5,
            0.5,
            3.5,
            1e9,
            -7.25,
            f64::INFINITY,
            f64::NAN,
            2.0,
        ];
        let a: Vec<R> = (0..n).map(|i| R::from_f64(pool[i % pool.len()])).collect();
        for shift in 0..pool.len() {
            let b: Vec<R> = (0..n)
                .map(|i| R::from_f64(pool[(i + shift) % pool.len()]))
                .collect();
            let (x, y) = (Lanes::load(simd, &a), Lanes::load(simd, &b));
            let check = |result: Lanes<S, R>, expected: &dyn Fn(R, R) -> R| {
                for ((&got, &a), &b) in result.as_slice().iter().zip(&a).zip(&b) {
                    same(got, expected(a, b));
                }
            };
            check(x + y, &|a, b| a + b);
            check(x - y, &|a, b| a - b);
            check(x * y, &|a, b| a * b);
            check(x / y, &|a, b| a / b);
            check(-x, &|a, _| -a);
            check(x.abs(), &|a, _| Real::abs(a));
            check(x.sqrt(), &|a, _| Real::sqrt(a));
            check(x.mul_add(x, y), &|a, b| a * a + b);
            check(x.round(), &|a, _| R::from_f64(a.to_f64().round_ties_even()));
            check(x.larger_of(y), &|a, b| if a > b { a } else { b });
            check(x.smaller_of(y), &|a, b| if a < b { a } else { b });
            let propagate = |a: R, b: R, pick: R| if a.is_nan() || b.is_nan() { nan } else { pick };
            check(x.max(y), &|a, b| propagate(a, b, if a > b { a } else { b }));
            check(x.min(y), &|a, b| propagate(a, b, if a < b { a } else { b }));
            check(x.less_than(y).select(x, y), &|a, b| {
                if a < b { a } else { b }
            });
            check(x.less_or_equal(y).or_zero(x), &|a, b| {
                if a <= b { a } else { R::ZERO }
            });
            check(x.equal(y).or_zero(x), &|a, b| {
                if a == b { a } else { R::ZERO }
            });
            check((!x.is_nan()).or_zero(x), &|a, _| {
                if a.is_nan() { R::ZERO } else { a }
            });
            check(x.copy_sign(y), &|a, b| {
                let size = Real::abs(a);
                if b.to_f64().is_sign_negative() {
                    -size
                } else {
                    size
                }
            });
            assert_eq!(x.is_nan().any(), a.iter().any(|a| a.is_nan()));
        }
        let ones = Lanes::<S, R>::splat(simd, R::ONE);
        same(ones.sum(), R::from_usize(n));
        let ramp: Vec<R> = (0..n).map(R::from_usize).collect();
        let ramp = Lanes::load(simd, &ramp);
        same(ramp.largest_lane(), R::from_usize(n - 1));
        same(ramp.smallest_lane(), R::ZERO);
        for (i, &x) in ramp.map(|x| x + R::ONE).as_slice().iter().enumerate() {
            same(x, R::from_usize(i + 1));
        }
        let exponent = ones.bits_shift_right(R::MANTISSA_BITS);
        assert_eq!(
            exponent.as_slice()[0].to_bits_u64(),
            if R::MANTISSA_BITS == 23 { 127 } else { 1023 }
        );
        same(
            exponent.bits_shift_left(R::MANTISSA_BITS).as_slice()[0],
            R::ONE,
        );
        let eps = ones.bits_add(Lanes::splat_bits(simd, 1)) - ones;
        same(eps.as_slice()[n - 1], R::EPSILON);
        // Scaling by powers of two, into the denormals and back out of range.
        let (lowest, highest) = if R::MANTISSA_BITS == 23 {
            (-149, 127)
        } else {
            (-1074, 1023)
        };
        for power in [
            lowest - 1,
            lowest,
            lowest + 20,
            -1,
            0,
            1,
            highest,
            highest + 1,
        ] {
            let scaled = Lanes::splat(simd, R::from_f64(1.25))
                .scale_by_power(Lanes::splat(simd, R::from_f64(f64::from(power))));
            // In f64 the product is exact for f32; for f64 two factors keep it in range.
            let half = f64::from(power / 2).exp2();
            let expected = 1.25 * half * f64::from(power - power / 2).exp2();
            same(scaled.as_slice()[0], R::from_f64(expected));
        }
    }
}

#[test]
fn operations_mean_what_they_say_on_every_level() {
    for level in nd_testing::levels() {
        dispatch(level, Vocabulary::<f32>(PhantomData));
        dispatch(level, Vocabulary::<f64>(PhantomData));
    }
}

struct Partial<R>(PhantomData<R>);

impl<R: SimdReal> Kernel for Partial<R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let n = Lanes::<S, R>::LEN;
        for len in 0..=n + 2 {
            let x: Vec<R> = (1..=len).map(R::from_usize).collect();
            let loaded = Lanes::load_partial(simd, &x);
            for (i, &lane) in loaded.as_slice().iter().enumerate() {
                same(
                    lane,
                    if i < len {
                        R::from_usize(i + 1)
                    } else {
                        R::ZERO
                    },
                );
            }
            let mut y = vec![R::ZERO; n + 3];
            (loaded + R::ONE).store_partial(&mut y[..len]);
            for (i, &slot) in y.iter().enumerate() {
                let written = i < len.min(n);
                same(
                    slot,
                    if written {
                        R::from_usize(i + 2)
                    } else {
                        R::ZERO
                    },
                );
            }
            for (i, &lane) in LaneMask::first(simd, len)
                .or_zero(Lanes::splat(simd, R::ONE))
                .as_slice()
                .iter()
                .enumerate()
            {
                same(lane, if i < len { R::ONE } else { R::ZERO });
            }
        }
    }
}

#[test]
fn partial_loads_and_stores_stay_inside() {
    for level in nd_testing::levels() {
        dispatch(level, Partial::<f32>(PhantomData));
        dispatch(level, Partial::<f64>(PhantomData));
    }
}
