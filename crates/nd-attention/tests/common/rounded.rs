//! A value on the tape as an autocast op leaves it.

use nd_core::autograd::{Backward, NodeId, Op, Var};

/// What an autocast op does to its output.
struct Round(NodeId);

impl Op<f32> for Round {
    fn name(&self) -> &'static str {
        "round"
    }
    fn backward(&self, step: &Backward<'_, f32>) {
        if let Some(mut dx) = step.grad(self.0) {
            let how = dx.accumulate;
            for (dx, &dy) in dx.iter_mut().zip(step.dy()) {
                how.store(dx, dy);
            }
        }
    }
}

/// The value in the format of the tape.
pub(crate) fn rounded(x: Var<'_, f32>) -> Var<'_, f32> {
    let tape = x.tape();
    let values = tape.pool().take_copy(&x.value());
    tape.record_autocast(x.shape(), values, &[x], || Round(x.id()))
}
