//! Test support of this crate: lengths that reach every tail, noise, and comparisons that name the place.

use crate::lanes::SimdReal;

/// Every tail of every vector length (16 lanes at most), and some long ones.
pub(crate) const LENGTHS: &[usize] = &[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    26, 27, 28, 29, 30, 31, 32, 33, 64, 65, 257, 1031,
];

/// Repeatable numbers without a pattern (SplitMix64).
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[-size, size)`.
    pub(crate) fn number(&mut self, size: f64) -> f64 {
        ((self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * size
    }

    pub(crate) fn vec<R: SimdReal>(&mut self, len: usize, size: f64) -> Vec<R> {
        (0..len).map(|_| R::from_f64(self.number(size))).collect()
    }
}

/// A buffer that a kernel told to write must not read.
pub(crate) fn poisoned<R: SimdReal>(len: usize) -> Vec<R> {
    vec![R::from_f64(f64::NAN); len]
}

/// Equal, both NaN, or within the tolerance.
#[track_caller]
pub(crate) fn assert_close<R: SimdReal>(
    got: R,
    expected: f64,
    tolerance: f64,
    place: impl FnOnce() -> String,
) {
    let value = got.to_f64();
    let fine = value == expected
        || (value.is_nan() && expected.is_nan())
        || (value - expected).abs() <= tolerance;
    assert!(
        fine,
        "{}: got {value:e}, expected {expected:e} within {tolerance:e}",
        place()
    );
}

pub(crate) fn to_f64<R: SimdReal>(x: &[R]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

#[track_caller]
pub(crate) fn assert_all_close<R: SimdReal>(
    got: &[R],
    expected: &[f64],
    tolerance: f64,
    what: &str,
) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert_close(got, expected, tolerance, || format!("{what}, element {i}"));
    }
}
