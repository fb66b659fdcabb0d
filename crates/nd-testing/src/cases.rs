//! Values and lengths that are worth trying.

use nd_core::Real;
use nd_core::rng::{Key, Stream};

/// Lengths around every multiple of a vector up to two, and some long ones: `0 ..= 2 * lanes + 1`, 100, 1000.
pub fn lengths(lanes: usize) -> impl Iterator<Item = usize> {
    (0..=2 * lanes + 1).chain([100, 1000])
}

/// Reproducible standard normal values.
#[must_use]
pub fn normals<R: Real>(seed: u64, len: usize) -> Vec<R> {
    let mut stream = Stream::new(Key::new(seed));
    (0..len).map(|_| R::from_f64(stream.normal())).collect()
}

/// Reproducible values uniform in `[low, high)`.
#[must_use]
pub fn uniforms<R: Real>(seed: u64, len: usize, low: f64, high: f64) -> Vec<R> {
    let mut stream = Stream::new(Key::new(seed));
    (0..len)
        .map(|_| R::from_f64(low + (high - low) * stream.uniform::<f64>()))
        .collect()
}

/// Zeros, denormals, the ends of the range, infinities and NaN, of both signs.
#[must_use]
pub fn special_values<R: Real>() -> Vec<R> {
    let positive = [
        0.0,
        f64::from_bits(1),
        f64::from(f32::from_bits(1)),
        f64::from(f32::MIN_POSITIVE),
        f64::MIN_POSITIVE,
        1e-5,
        0.5,
        1.0,
        std::f64::consts::LN_2,
        2.0,
        10.0,
        87.0,
        88.5,
        89.0,
        103.0,
        709.0,
        710.0,
        1e4,
        1e30,
        f64::from(f32::MAX),
        f64::MAX,
        f64::INFINITY,
        f64::NAN,
    ];
    positive
        .iter()
        .flat_map(|&x| [R::from_f64(x), R::from_f64(-x)])
        .collect()
}
