//! Overlapping patches of a series, the tokens of PatchTST (Nie et al. 2023).
//!
//! The last value is repeated `padding` times, then every `stride`-th run of `patch` values is copied. The backward pass adds
//! each patch to where it came from.

use nd_core::Real;
use nd_core::autograd::Accumulate;

/// How a series is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// The length of a patch.
    pub patch: usize,
    /// The distance between patches.
    pub stride: usize,
    /// How often the last value is repeated first.
    pub padding: usize,
}

impl Patches {
    /// The number of patches of a series of `len` values.
    ///
    /// # Panics
    /// A stride of zero, or a patch that does not fit.
    #[must_use]
    #[track_caller]
    pub fn count(&self, len: usize) -> usize {
        assert!(
            self.stride > 0 && self.patch > 0 && len > 0 && len + self.padding >= self.patch,
            "a series of {len} values cannot be cut into {self:?}"
        );
        (len + self.padding - self.patch) / self.stride + 1
    }
}

#[track_caller]
fn check(patches: Patches, rows: usize, len: usize, x: usize, y: usize) {
    assert_eq!(x, rows * len, "values of {rows} series of {len}");
    let count = patches.count(len);
    assert_eq!(
        y,
        rows * count * patches.patch,
        "values of {rows} x {count} patches of {}",
        patches.patch
    );
}

/// `y [rows, patches, patch]` from `x [rows, len]`.
///
/// # Panics
/// A slice has another size, or the series cannot be cut so.
#[track_caller]
pub fn patches_forward<R: Real>(patches: Patches, rows: usize, len: usize, x: &[R], y: &mut [R]) {
    check(patches, rows, len, x.len(), y.len());
    let Patches { patch, stride, .. } = patches;
    let count = patches.count(len);
    for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(count * patch)) {
        for (p, y) in y.chunks_exact_mut(patch).enumerate() {
            let start = (p * stride).min(len);
            let inside = patch.min(len - start);
            let (copied, repeated) = y.split_at_mut(inside);
            copied.copy_from_slice(&x[start..start + inside]);
            repeated.fill(x[len - 1]);
        }
    }
}

/// The gradient of [`patches_forward`].
///
/// # Panics
/// As [`patches_forward`].
#[track_caller]
pub fn patches_backward<R: Real>(
    patches: Patches,
    rows: usize,
    len: usize,
    dy: &[R],
    dx: &mut [R],
    acc: Accumulate,
) {
    check(patches, rows, len, dx.len(), dy.len());
    let Patches { patch, stride, .. } = patches;
    let count = patches.count(len);
    if acc == Accumulate::Write {
        dx.fill(R::ZERO);
    }
    for (dx, dy) in dx.chunks_exact_mut(len).zip(dy.chunks_exact(count * patch)) {
        for (p, dy) in dy.chunks_exact(patch).enumerate() {
            let start = (p * stride).min(len);
            let (copied, repeated) = dy.split_at(patch.min(len - start));
            for (dx, &dy) in dx[start..].iter_mut().zip(copied) {
                *dx += dy;
            }
            dx[len - 1] += repeated.iter().copied().sum();
        }
    }
}
