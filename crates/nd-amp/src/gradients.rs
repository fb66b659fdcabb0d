//! What a loss scaler and an optimizer accept as gradients.

use nd_core::Buffer;
use nd_core::autograd::ParamGrads;
use nd_simd::SimdReal;

/// Gradients in one piece of memory: a slice, a vector, a buffer, or the [`ParamGrads`] of a network.
pub trait Gradients {
    /// The type of a number.
    type Real: SimdReal;
    /// What a copy is.
    type Owned;

    /// Every number.
    fn values(&self) -> &[Self::Real];

    /// Every number, to be changed.
    fn values_mut(&mut self) -> &mut [Self::Real];

    /// A copy whose numbers `change` has passed over.
    fn copied(&self, change: impl FnOnce(&mut [Self::Real])) -> Self::Owned;
}

impl<R: SimdReal> Gradients for [R] {
    type Real = R;
    type Owned = Vec<R>;

    fn values(&self) -> &[R] {
        self
    }

    fn values_mut(&mut self) -> &mut [R] {
        self
    }

    fn copied(&self, change: impl FnOnce(&mut [R])) -> Vec<R> {
        let mut copy = self.to_vec();
        change(&mut copy);
        copy
    }
}

impl<R: SimdReal, const N: usize> Gradients for [R; N] {
    type Real = R;
    type Owned = Self;

    fn values(&self) -> &[R] {
        self
    }

    fn values_mut(&mut self) -> &mut [R] {
        self
    }

    fn copied(&self, change: impl FnOnce(&mut [R])) -> Self {
        let mut copy = *self;
        change(&mut copy);
        copy
    }
}

impl<R: SimdReal> Gradients for Vec<R> {
    type Real = R;
    type Owned = Self;

    fn values(&self) -> &[R] {
        self
    }

    fn values_mut(&mut self) -> &mut [R] {
        self
    }

    fn copied(&self, change: impl FnOnce(&mut [R])) -> Self {
        self.as_slice().copied(change)
    }
}

impl<R: SimdReal> Gradients for Buffer<R> {
    type Real = R;
    type Owned = Self;

    fn values(&self) -> &[R] {
        self
    }

    fn values_mut(&mut self) -> &mut [R] {
        self
    }

    fn copied(&self, change: impl FnOnce(&mut [R])) -> Self {
        let mut copy = self.clone();
        change(&mut copy);
        copy
    }
}

impl<R: SimdReal> Gradients for ParamGrads<R> {
    type Real = R;
    type Owned = Self;

    fn values(&self) -> &[R] {
        self.flat()
    }

    fn values_mut(&mut self) -> &mut [R] {
        self.flat_mut()
    }

    fn copied(&self, change: impl FnOnce(&mut [R])) -> Self {
        let mut copy = self.clone();
        change(copy.flat_mut());
        copy
    }
}
