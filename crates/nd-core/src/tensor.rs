//! A contiguous row-major tensor.

use ndarray::{ArrayView, ArrayViewMut, Dimension, IntoDimension};

use crate::buffer::Buffer;
use crate::element::Element;
use crate::pool::MemoryPool;
use crate::shape::Shape;

/// Contiguous, row-major, 64-byte aligned values with a shape.
///
/// A tensor lends ndarray views at no cost ([`Tensor::view`]); the way back copies ([`Tensor::from_view`]).
#[derive(Clone)]
pub struct Tensor<E: Element> {
    buffer: Buffer<E>,
    shape: Shape,
}

impl<E: Element> Tensor<E> {
    /// Zeros.
    #[must_use]
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self {
            buffer: Buffer::zeroed(shape.numel()),
            shape,
        }
    }

    /// A copy of row-major values.
    ///
    /// # Panics
    /// The number of values is not that of the shape.
    #[must_use]
    #[track_caller]
    pub fn from_slice(shape: impl Into<Shape>, values: &[E]) -> Self {
        Self::from_buffer(shape, Buffer::from_slice(values))
    }

    /// A tensor over a buffer, without a copy.
    ///
    /// # Panics
    /// The number of values is not that of the shape.
    #[must_use]
    #[track_caller]
    pub fn from_buffer(shape: impl Into<Shape>, buffer: Buffer<E>) -> Self {
        let shape = shape.into();
        assert_eq!(
            shape.numel(),
            buffer.len(),
            "the shape {shape} has {} elements, the values are {}",
            shape.numel(),
            buffer.len()
        );
        Self { buffer, shape }
    }

    /// A tensor from a pool, with whatever contents the memory has.
    #[must_use]
    #[track_caller]
    pub fn take(pool: &MemoryPool, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self {
            buffer: pool.take(shape.numel()),
            shape,
        }
    }

    /// A row-major copy of a view of any layout.
    ///
    /// # Panics
    /// The view has more than [`crate::shape::MAX_RANK`] dimensions.
    #[must_use]
    #[track_caller]
    pub fn from_view<D: Dimension>(view: &ArrayView<'_, E, D>) -> Self {
        let mut out = Self::zeros(view.shape());
        for (slot, &value) in out.buffer.iter_mut().zip(view.iter()) {
            *slot = value;
        }
        out
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The values, row-major.
    #[must_use]
    pub fn as_slice(&self) -> &[E] {
        &self.buffer
    }

    /// The values, row-major.
    pub fn as_mut_slice(&mut self) -> &mut [E] {
        &mut self.buffer
    }

    /// The memory without its shape.
    #[must_use]
    pub fn into_buffer(self) -> Buffer<E> {
        self.buffer
    }

    /// The same values under another shape.
    ///
    /// # Panics
    /// The shapes differ in their number of elements.
    #[must_use]
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Self {
        Self::from_buffer(shape, self.buffer)
    }

    /// An ndarray view with `N` dimensions, without a copy.
    ///
    /// # Panics
    /// The tensor has not `N` dimensions.
    #[must_use]
    #[track_caller]
    pub fn view<const N: usize>(&self) -> ArrayView<'_, E, <[usize; N] as IntoDimension>::Dim>
    where
        [usize; N]: IntoDimension,
    {
        let dims = self.dims::<N>().into_dimension();
        ArrayView::from_shape(dims, &self.buffer).expect("a tensor's shape fits its buffer")
    }

    /// A mutable ndarray view with `N` dimensions, without a copy.
    ///
    /// # Panics
    /// The tensor has not `N` dimensions.
    #[must_use]
    #[track_caller]
    pub fn view_mut<const N: usize>(
        &mut self,
    ) -> ArrayViewMut<'_, E, <[usize; N] as IntoDimension>::Dim>
    where
        [usize; N]: IntoDimension,
    {
        let dims = self.dims::<N>().into_dimension();
        ArrayViewMut::from_shape(dims, &mut self.buffer).expect("a tensor's shape fits its buffer")
    }

    #[track_caller]
    fn dims<const N: usize>(&self) -> [usize; N] {
        let found = &*self.shape;
        found.try_into().unwrap_or_else(|_| {
            panic!(
                "a view of {N} dimensions was asked of a tensor of shape {}",
                self.shape
            )
        })
    }

    /// The values rounded to another element type.
    #[must_use]
    pub fn convert<F: Element>(&self) -> Tensor<F> {
        let mut out = Tensor::zeros(self.shape);
        for (slot, &value) in out.buffer.iter_mut().zip(self.buffer.iter()) {
            *slot = F::from_f64(value.to_f64());
        }
        out
    }
}

impl<E: Element> std::fmt::Debug for Tensor<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor<{}> {} {:?}", E::DTYPE, self.shape, self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{bf16, f16};
    use ndarray::{array, s};

    #[test]
    fn views_share_memory_and_any_layout_comes_back_row_major() {
        let mut tensor = Tensor::from_slice([2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        tensor.view_mut::<2>()[[1, 0]] = 9.0;
        assert_eq!(tensor.view::<2>(), array![[1.0, 2.0, 3.0], [9.0, 5.0, 6.0]]);
        let reversed = tensor.view::<2>();
        let reversed = reversed.slice(s![..;-1, ..]);
        let copy = Tensor::from_view(&reversed.t());
        assert_eq!(copy.shape(), Shape::from([3, 2]));
        assert_eq!(copy.as_slice(), &[9.0, 1.0, 5.0, 2.0, 6.0, 3.0]);
    }

    #[test]
    fn half_tensors_round_to_nearest_even() {
        let wide = Tensor::from_slice([3], &[1.0f32, 1.0 + 1.0 / 256.0, 70000.0]);
        let narrow = wide.convert::<bf16>();
        assert_eq!(narrow.as_slice()[1], bf16::from_f32(1.0));
        assert!(wide.convert::<f16>().as_slice()[2].is_infinite());
        assert_eq!(narrow.convert::<f64>().as_slice()[0], 1.0);
    }

    #[test]
    #[should_panic(expected = "a view of 3 dimensions was asked of a tensor of shape [2, 3]")]
    fn a_view_of_the_wrong_rank_is_refused() {
        let _ = Tensor::<f32>::zeros([2, 3]).view::<3>();
    }

    #[test]
    #[should_panic(expected = "the shape [2, 2] has 4 elements, the values are 3")]
    fn too_few_values_are_refused() {
        let _ = Tensor::from_slice([2, 2], &[1.0f32; 3]);
    }
}
