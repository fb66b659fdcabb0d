//! Sequences that lie step by step, `[T, B, H]`: maps over time, dropout, and the future variables of each step.
//!
//! A linear map over time is one product from the left, `[h, T] [T, B H]`, without any transposition.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::rng::{self, Key};
use nd_core::{BatchView, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::dropout::dropout_with_words;
use nd_simd::matmul::{MatMut, MatRef, multiply, multiply_parallel};
use nd_simd::ops::prelude::concat;

use super::dims::ModelDims;

/// Three dimensions of a sequence.
#[track_caller]
fn three<R: SimdReal>(x: Var<'_, R>) -> [usize; 3] {
    let shape = x.shape();
    (*shape)
        .try_into()
        .unwrap_or_else(|_| panic!("a sequence has the shape [T, B, H], found {shape}"))
}

/// A linear map over time: `y[s] = sum over t of weight[t, s] x[t] + bias[s]`, `[T, B, H]` to `[S, B, H]`.
///
/// # Panics
/// The weight is not `[T, S]` or the bias not `[S]`.
#[track_caller]
pub(crate) fn mix_steps<'t, R: SimdReal>(
    x: Var<'t, R>,
    weight: Var<'t, R>,
    bias: Var<'t, R>,
) -> Var<'t, R> {
    let tape = x.tape();
    let [length, rows, width] = three(x);
    let steps = bias.shape().numel();
    assert_eq!(
        &*weight.shape(),
        &[length, steps],
        "the weight over time of {length} steps to {steps}"
    );
    let cols = rows * width;
    let mut y = tape.scratch(steps * cols);
    for (y, &bias) in y.chunks_exact_mut(cols.max(1)).zip(bias.value().iter()) {
        y.fill(bias);
    }
    let (simd, parallel) = (tape.options().simd, tape.parallel());
    product(
        simd,
        parallel,
        MatRef::row_major(&weight.value(), length, steps).t(),
        MatRef::row_major(&x.value(), length, cols),
        R::ONE,
        MatMut::row_major(&mut y, steps, cols),
    );
    tape.record([steps, rows, width], y, &[x, weight, bias], || MixSteps {
        x: x.id(),
        weight: weight.id(),
        bias: bias.id(),
    })
}

fn product<R: SimdReal>(
    simd: SimdLevel,
    parallel: bool,
    a: MatRef<'_, R>,
    b: MatRef<'_, R>,
    beta: R,
    c: MatMut<'_, R>,
) {
    if parallel {
        multiply_parallel(simd, R::ONE, a, b, beta, c);
    } else {
        multiply(simd, R::ONE, a, b, beta, c);
    }
}

struct MixSteps {
    x: NodeId,
    weight: NodeId,
    bias: NodeId,
}

impl<R: SimdReal> Op<R> for MixSteps {
    fn name(&self) -> &'static str {
        "mix_steps"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let weight = step.shape(self.weight);
        let (length, steps) = (weight[0], weight[1]);
        let dy = step.dy();
        let cols = dy.len() / steps;
        let (simd, parallel) = (step.options().simd, step.parallel());
        let dy_matrix = MatRef::row_major(dy, steps, cols);
        if let Some(mut grad) = step.grad(self.x) {
            let beta = grad.accumulate.beta();
            let weight = step.value(self.weight);
            product(
                simd,
                parallel,
                MatRef::row_major(&weight, length, steps),
                dy_matrix,
                beta,
                MatMut::row_major(&mut grad, length, cols),
            );
        }
        if let Some(mut grad) = step.grad(self.weight) {
            let beta = grad.accumulate.beta();
            let x = step.value(self.x);
            product(
                simd,
                parallel,
                MatRef::row_major(&x, length, cols),
                dy_matrix.t(),
                beta,
                MatMut::row_major(&mut grad, length, steps),
            );
        }
        if let Some(mut grad) = step.grad(self.bias) {
            let accumulate = grad.accumulate;
            for (slot, dy) in grad.iter_mut().zip(dy.chunks_exact(cols.max(1))) {
                accumulate.store(slot, dy.iter().copied().sum());
            }
        }
    }
}

/// Dropout on a sequence `[T, B, H]`: which elements of a window are dropped depends on its place in the whole batch, not
/// on the shard that it is in.
///
/// # Panics
/// `p` is not in `[0, 1)`.
#[track_caller]
pub(crate) fn step_dropout<R: SimdReal>(x: Var<'_, R>, p: f64) -> Var<'_, R> {
    let tape = x.tape();
    if p == 0.0 || !tape.drops() {
        return x;
    }
    let mask = StepMask {
        p,
        key: tape.next_key(),
        first_row: tape.context().first_row,
        shape: three(x),
    };
    let mut y = tape.scratch(x.shape().numel());
    mask.apply(tape.options().simd, &x.value(), &mut y, Accumulate::Write);
    tape.record(x.shape(), y, &[x], || StepDropout { x: x.id(), mask })
}

/// Everything that the dropped elements of a sequence are a function of.
struct StepMask {
    p: f64,
    key: Key,
    first_row: usize,
    shape: [usize; 3],
}

impl StepMask {
    /// `y (+)= x mask`
    fn apply<R: SimdReal>(&self, simd: SimdLevel, x: &[R], y: &mut [R], accumulate: Accumulate) {
        let [_, rows, width] = self.shape;
        let pairs = x.chunks(width).zip(y.chunks_mut(width)).enumerate();
        let mut words = [0; 256];
        for (at, (x, y)) in pairs {
            let (step, row) = (at / rows, at % rows);
            let window = (self.first_row + row) as u64;
            let parts = x.chunks(words.len()).zip(y.chunks_mut(words.len()));
            for (part, (x, y)) in parts.enumerate() {
                let words = &mut words[..x.len()];
                rng::fill(simd, self.key, window, step * width + part * 256, words);
                dropout_with_words(simd, self.p, words, x, y, accumulate);
            }
        }
    }
}

struct StepDropout {
    x: NodeId,
    mask: StepMask,
}

impl<R: SimdReal> Op<R> for StepDropout {
    fn name(&self) -> &'static str {
        "step_dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(mut grad) = step.grad(self.x) {
            let accumulate = grad.accumulate;
            self.mask
                .apply(step.options().simd, step.dy(), &mut grad, accumulate);
        }
    }
}

/// States of the horizon with the future variables of each step behind them: `[h, B, H + F]`.
pub(crate) fn append_future<'t, R: SimdReal>(
    x: Var<'t, R>,
    batch: &BatchView<'_, R>,
    dims: &ModelDims,
) -> Var<'t, R> {
    let (variables, rows, steps) = (dims.futr_exog, batch.rows(), dims.horizon);
    if variables == 0 {
        return x;
    }
    let tape = x.tape();
    let mut future = tape.scratch(steps * rows * variables);
    for (at, slots) in future.chunks_exact_mut(variables).enumerate() {
        let (t, row) = (at / rows, at % rows);
        let place = (row * (dims.input_size + steps) + dims.input_size + t) * variables;
        slots.copy_from_slice(&batch.futr_exog[place..][..variables]);
    }
    let future = tape.constant([steps, rows, variables], future);
    concat(&[x, future], 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nd_core::Batch;
    use nd_core::autograd::{StepContext, Tape};
    use nd_testing::{GradInput, gradcheck};

    #[test]
    fn gradients() {
        let x = GradInput::normal(1, &[4, 2, 3]);
        let weights = [
            x.clone(),
            GradInput::normal(2, &[4, 5]).param(),
            GradInput::normal(3, &[5]).param(),
        ];
        gradcheck("mix_steps", &weights, |_, v| mix_steps(v[0], v[1], v[2]));
        gradcheck("step_dropout", std::slice::from_ref(&x), |_, v| {
            step_dropout(v[0], 0.4)
        });
        let dims = ModelDims {
            futr_exog: 2,
            ..ModelDims::univariate(3, 4)
        };
        let mut batch = Batch::<f64>::new(dims.layout());
        batch.resize(2);
        for (i, x) in batch.futr_exog.iter_mut().enumerate() {
            *x = i as f64;
        }
        gradcheck("append_future", &[x], |_, v| {
            let y = append_future(v[0], &batch.all(), &dims);
            // Step 1 of window 1: its futures begin at 14, the horizon 6 later, step 1 another 2.
            assert_eq!(&y.value()[(2 + 1) * 5 + 3..][..2], &[22.0, 23.0]);
            y
        });
    }

    #[test]
    fn dropout_does_not_depend_on_the_shard() {
        let mut tape = Tape::<f64>::default();
        let (steps, rows, width) = (3, 5, 300);
        let mut dropped = |first: usize, rows: usize| {
            tape.begin(StepContext {
                first_row: first,
                ..StepContext::new(None)
            });
            let ones = vec![1.0; steps * rows * width];
            let y = step_dropout(tape.input([steps, rows, width], &ones), 0.5);
            y.value().to_vec()
        };
        let whole = dropped(0, rows);
        let part = dropped(2, 2);
        for step in 0..steps {
            let from = (step * rows + 2) * width;
            assert_eq!(
                part[step * 2 * width..][..2 * width],
                whole[from..][..2 * width]
            );
        }
        let kept = whole.iter().filter(|&&x| x == 2.0).count() as f64 / whole.len() as f64;
        assert!((kept - 0.5).abs() < 0.03, "{kept}");
        assert_ne!(
            whole[..width],
            whole[rows * width..][..width],
            "steps differ"
        );
    }
}
