//! Overlapping patches of the last axis.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::shape::{MAX_RANK, Shape};

use crate::lanes::SimdReal;
use crate::patches::{Patches, patches_backward, patches_forward};

/// Patches on the tape.
pub trait PatchesExt: Sized {
    /// `[.., len]` to `[.., patches, patch]`.
    ///
    /// # Panics
    /// The series cannot be cut so ([`Patches::count`]), or the result has too many dimensions.
    #[must_use]
    #[track_caller]
    fn patches(self, patches: Patches) -> Self;
}

impl<R: SimdReal> PatchesExt for Var<'_, R> {
    fn patches(self, patches: Patches) -> Self {
        let tape = self.tape();
        let shape = self.shape();
        let (rows, len, rank) = (shape.rows(), shape.cols(), shape.len());
        assert!(
            (1..MAX_RANK).contains(&rank),
            "patches add a dimension to at most {}, found {shape}",
            MAX_RANK - 1
        );
        let mut dims = [0; MAX_RANK];
        dims[..rank].copy_from_slice(&shape);
        (dims[rank - 1], dims[rank]) = (patches.count(len), patches.patch);
        let shape = Shape::new(&dims[..=rank]);
        let mut y = tape.scratch(shape.numel());
        patches_forward(patches, rows, len, &self.value(), &mut y);
        tape.record(shape, y, &[self], || CutPatches {
            x: self.id(),
            patches,
        })
    }
}

struct CutPatches {
    x: NodeId,
    patches: Patches,
}

impl<R: SimdReal> Op<R> for CutPatches {
    fn name(&self) -> &'static str {
        "patches"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (shape, accumulate) = (step.shape(self.x), dx.accumulate);
        let (rows, len) = (shape.rows(), shape.cols());
        patches_backward(self.patches, rows, len, step.dy(), &mut dx, accumulate);
    }
}
