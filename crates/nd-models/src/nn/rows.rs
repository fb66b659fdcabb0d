//! Undoing a normalisation of windows: every row of an output times its scale plus its level.

use nd_core::Buffer;
use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_simd::SimdReal;

/// `y[row, :] = x[row, :] * scale[row] + level[row]`; without a scale, one.
///
/// Scales and levels are data, so only `x` has a gradient.
///
/// # Panics
/// There is not one level (and scale) for each row of the first dimension.
#[track_caller]
pub(crate) fn denormalize_rows<'t, R: SimdReal>(
    x: Var<'t, R>,
    scale: Option<Buffer<R>>,
    level: &[R],
) -> Var<'t, R> {
    let tape = x.tape();
    let (shape, rows) = (x.shape(), level.len());
    assert!(
        shape.first() == Some(&rows) && scale.as_ref().is_none_or(|scale| scale.len() == rows),
        "{rows} levels for rows of {shape}"
    );
    let cols = shape.numel() / rows.max(1);
    let mut y = tape.scratch(shape.numel());
    let value = x.value();
    for (row, (y, x)) in y
        .chunks_exact_mut(cols.max(1))
        .zip(value.chunks_exact(cols.max(1)))
        .enumerate()
    {
        let level = level[row];
        match &scale {
            None => {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x + level;
                }
            }
            Some(scale) => {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = x * scale[row] + level;
                }
            }
        }
    }
    tape.record(shape, y, &[x], || DenormalizeRows { x: x.id(), scale })
}

struct DenormalizeRows<R: SimdReal> {
    x: NodeId,
    scale: Option<Buffer<R>>,
}

impl<R: SimdReal> Op<R> for DenormalizeRows<R> {
    fn name(&self) -> &'static str {
        "denormalize_rows"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(scale) = &self.scale else {
            step.pass(self.x);
            return;
        };
        let Some(mut grad) = step.grad(self.x) else {
            return;
        };
        let accumulate = grad.accumulate;
        let cols = (step.dy().len() / scale.len().max(1)).max(1);
        for ((slots, dy), &scale) in grad
            .chunks_exact_mut(cols)
            .zip(step.dy().chunks_exact(cols))
            .zip(scale.iter())
        {
            for (slot, &dy) in slots.iter_mut().zip(dy) {
                accumulate.store(slot, dy * scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_testing::{GradInput, gradcheck};

    #[test]
    fn gradients() {
        let inputs = [GradInput::normal(1, &[3, 2, 2])];
        gradcheck("denormalize_rows", &inputs, |tape, v| {
            let scale = tape.pool().take_copy(&[2.0, -1.0, 0.5]);
            denormalize_rows(v[0], Some(scale), &[1.0, 2.0, 3.0])
        });
        gradcheck("shifted rows", &inputs, |_, v| {
            denormalize_rows(v[0], None, &[1.0, 2.0, 3.0])
        });
    }
}
