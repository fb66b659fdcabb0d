//! Whether a gradient is the first to arrive.

use crate::element::Real;

/// How a backward kernel stores its result.
///
/// The first gradient of a buffer *writes*, later ones *add*; so no buffer is ever filled with zeros first, and a
/// kernel told to write must not read what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accumulate {
    /// Replace whatever the buffer holds; it may be uninitialised noise, NaN included.
    Write,
    /// Add to the buffer.
    Add,
}

impl Accumulate {
    /// The `beta` of `c = alpha a b + beta c`: zero or one. A matrix product with `beta = 0` must not read `c`.
    #[must_use]
    pub fn beta<R: Real>(self) -> R {
        match self {
            Self::Write => R::ZERO,
            Self::Add => R::ONE,
        }
    }

    /// Stores one value.
    #[inline]
    pub fn store<R: Real>(self, slot: &mut R, value: R) {
        match self {
            Self::Write => *slot = value,
            Self::Add => *slot += value,
        }
    }
}
