//! A dense layer: `y = activation(x w + b)`.
//!
//! In its simple form: a matrix product, a bias and an activation, and three products backward. The tricks: bias and ReLU
//! are applied while the product is in registers; other activations in blocks of rows while these are in cache; the gradient
//! of the activation is computed once and shared by `dx`, `dw` and `db`; `dx` multiplies by a transposed copy of the
//! weight that all shards share, or that all threads make; `dw` and `db` go straight into the flat gradients.
//! Weights are stored `[in, out]`, so that the forward product reads both operands row by row.

use nd_core::autograd::{Accumulate, Backward, Grad, NodeId, Op, Orientation, Stored, Var};
use nd_core::{Buffer, Precision, threads};

use super::bias_gradient::bias_gradient;
use crate::activations::{Activation, Saved, activation_backward, activation_forward};
use crate::autocast::{self, Argument, Gradient, InputSlot, LayerGradients, Place};
use crate::lanes::SimdReal;
use crate::matmul::{Epilogue, MatMut, MatRef, multiply_on};
use crate::permute::{transpose, transpose_parallel};

/// Elements of an activation that one task handles.
const BLOCK: usize = 16 * 1024;

/// Dense layers on the tape.
pub trait LinearExt<'t, R: SimdReal>: Sized {
    /// `y = activation(x w + b)`
    ///
    /// Shapes: x `[.., in]`, w `[in, out]`, b `[out]`, y `[.., out]`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn linear(self, w: Var<'t, R>, b: Option<Var<'t, R>>, activation: Activation) -> Var<'t, R>;
}

impl<'t, R: SimdReal> LinearExt<'t, R> for Var<'t, R> {
    fn linear(self, w: Var<'t, R>, b: Option<Var<'t, R>>, activation: Activation) -> Var<'t, R> {
        let (x, tape) = (self, self.tape());
        let (rows, inputs) = (x.shape().rows(), x.shape().cols());
        let outputs = w.shape().cols();
        assert!(
            w.shape().len() == 2 && w.shape().rows() == inputs,
            "a linear layer of x {} needs a weight [{inputs}, out], found {}",
            x.shape(),
            w.shape()
        );
        if let Some(b) = b {
            assert_eq!(
                b.shape().numel(),
                outputs,
                "the bias {} of a weight {}",
                b.shape(),
                w.shape()
            );
        }
        if autocast::precision(tape) != Precision::F32 {
            return in_half(x, w, b, activation);
        }
        let level = tape.options().simd;
        let (xv, wv, bv) = (x.value(), w.value(), b.map(Var::value));
        let mut y = tape.scratch(rows * outputs);
        // Where the gradient needs the argument, it is kept, and the activation is a pass of its own.
        let keeps_argument = activation.saved() == Saved::Input && tape.is_recording();
        multiply_on(
            level,
            tape.parallel(),
            MatRef::row_major(&xv, rows, inputs),
            MatRef::row_major(&wv, inputs, outputs),
            R::ZERO,
            MatMut::row_major(&mut y, rows, outputs),
            Epilogue {
                bias: bv.as_deref(),
                activation: if keeps_argument {
                    Activation::Identity
                } else {
                    activation
                },
            },
        );
        let mut saved = None;
        if keeps_argument {
            let z = y;
            y = tape.scratch(rows * outputs);
            threads::for_each_chunk(tape.parallel(), &mut y, BLOCK, |i, y| {
                activation_forward(level, activation, &z[i * BLOCK..i * BLOCK + y.len()], y);
            });
            saved = Some(z);
        }
        let shape = x.shape().with_cols(outputs);
        let op = || Linear {
            x: x.id(),
            w: w.id(),
            b: b.map(Var::id),
            activation,
            saved: saved.map(Stored::Full),
        };
        match b {
            Some(b) => tape.record(shape, y, &[x, w, b], op),
            None => tape.record(shape, y, &[x, w], op),
        }
    }
}

/// The layer in the format of the run.
#[track_caller]
fn in_half<'t, R: SimdReal>(
    x: Var<'t, R>,
    w: Var<'t, R>,
    b: Option<Var<'t, R>>,
    activation: Activation,
) -> Var<'t, R> {
    let tape = x.tape();
    let (precision, level) = (autocast::precision(tape), tape.options().simd);
    let (inputs, outputs) = (w.shape().rows(), w.shape().cols());
    let sizes = [x.shape().rows(), inputs, outputs];
    let bias = b.map(Var::value);
    let copy = autocast::weight_copy(
        tape,
        precision,
        Orientation::AsStored,
        w.param_id(),
        w.stored(),
        [inputs, outputs],
    );
    let keeps_argument = activation.saved() == Saved::Input && tape.is_recording();
    let (y, saved) = autocast::linear_forward(
        Place {
            level,
            parallel: tape.parallel(),
            pool: tape.pool(),
        },
        precision,
        autocast::stored_f32(x.stored()),
        copy.view(inputs, outputs),
        sizes,
        bias.as_deref().and_then(autocast::as_f32),
        activation,
        keeps_argument,
    );
    let shape = x.shape().with_cols(outputs);
    let op = || Linear {
        x: x.id(),
        w: w.id(),
        b: b.map(Var::id),
        activation,
        saved: saved.map(autocast::from_f32),
    };
    let y = autocast::from_f32(y);
    match b {
        Some(b) => tape.record_stored(shape, y, &[x, w, b], op),
        None => tape.record_stored(shape, y, &[x, w], op),
    }
}

/// A gradient of an f32 tape, where it is wanted.
fn gradient<'a, R: SimdReal>(grad: &'a mut Option<Grad<'_, R>>) -> Option<Gradient<'a>> {
    let grad = grad.as_mut()?;
    let accumulate = grad.accumulate;
    autocast::as_f32_mut(&mut grad[..]).map(|values| Gradient { values, accumulate })
}

struct Linear<R: SimdReal> {
    x: NodeId,
    w: NodeId,
    b: Option<NodeId>,
    activation: Activation,
    /// The argument of the activation, where its gradient needs that.
    saved: Option<Stored<R>>,
}

impl<R: SimdReal> Op<R> for Linear<R> {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if autocast::precision(step.tape()) != Precision::F32 {
            return self.backward_in_half(step);
        }
        let (level, parallel) = (step.options().simd, step.parallel());
        let inputs = step.shape(self.x).cols();
        let outputs = step.shape(self.w).cols();
        let rows = step.dy().len() / outputs.max(1);
        let through_activation = self.activation_gradient(step);
        let dz = through_activation.as_deref().unwrap_or(step.dy());
        if let Some(mut db) = self.b.and_then(|b| step.grad(b)) {
            bias_gradient(step, dz, &mut db);
        }
        if let Some(mut dw) = step.grad(self.w) {
            let x = step.value(self.x);
            let beta = dw.accumulate.beta();
            multiply_on(
                level,
                parallel,
                MatRef::row_major(&x, rows, inputs).t(),
                MatRef::row_major(dz, rows, outputs),
                beta,
                MatMut::row_major(&mut dw, inputs, outputs),
                Epilogue::default(),
            );
        }
        if let Some(mut dx) = step.grad(self.x) {
            let beta = dx.accumulate.beta();
            let w = step.value(self.w);
            let dz = MatRef::row_major(dz, rows, outputs);
            let dx = MatMut::row_major(&mut dx, rows, inputs);
            let epilogue = Epilogue::default();
            match step.param_id(self.w) {
                // One tape has the whole batch: nobody shares the copy, and all threads make it.
                Some(_) if parallel => {
                    let mut wt = step.scratch(w.len());
                    transpose_parallel(level, parallel, &w, inputs, outputs, &mut wt);
                    let wt = MatRef::row_major(&wt, outputs, inputs);
                    multiply_on(level, parallel, dz, wt, beta, dx, epilogue);
                }
                Some(id) => {
                    let packs = step.tape().params().packs();
                    let wt = packs.full(id, Orientation::Transposed, w.len(), |out| {
                        transpose(level, &w, inputs, outputs, out);
                    });
                    let wt = MatRef::row_major(wt, outputs, inputs);
                    multiply_on(level, parallel, dz, wt, beta, dx, epilogue);
                }
                None => {
                    let wt = MatRef::row_major(&w, inputs, outputs).t();
                    multiply_on(level, parallel, dz, wt, beta, dx, epilogue);
                }
            }
        }
    }
}

impl<R: SimdReal> Linear<R> {
    fn backward_in_half(&self, step: &Backward<'_, R>) {
        let (tape, level) = (step.tape(), step.options().simd);
        let precision = autocast::precision(tape);
        let (inputs, outputs) = (step.shape(self.w).rows(), step.shape(self.w).cols());
        let rows = step.shape(self.x).rows();
        let mut db = self.b.and_then(|b| step.grad(b));
        let copy = step.wants(self.x).then(|| {
            autocast::weight_copy(
                tape,
                precision,
                Orientation::Transposed,
                step.param_id(self.w),
                step.stored(self.w),
                [inputs, outputs],
            )
        });
        let saved = match &self.saved {
            Some(saved) => saved.view(),
            None => step.stored_y(),
        };
        let layer = |dw, dx, db| LayerGradients {
            x: autocast::stored_f32(step.stored(self.x)),
            w_t: copy.as_ref().map(|copy| copy.view(outputs, inputs)),
            argument: Argument {
                activation: self.activation,
                saved: autocast::stored_f32(saved),
                dy: autocast::stored_f32(step.stored_dy()),
            },
            db,
            dw,
            dx,
        };
        let place = Place {
            level,
            parallel: step.parallel(),
            pool: step.pool(),
        };
        let sizes = [rows, inputs, outputs];
        let mut dw = step.grad(self.w);
        let mut dx = InputSlot::of(step, self.x);
        let layer = layer(gradient(&mut dw), dx.gradient(), gradient(&mut db));
        if let Some(dx) = autocast::linear_backward(place, precision, sizes, layer) {
            step.give(self.x, autocast::from_f32(dx));
        }
    }

    /// The gradient of the activation's argument; `None` where it is that of the output.
    fn activation_gradient(&self, step: &Backward<'_, R>) -> Option<Buffer<R>> {
        if self.activation == Activation::Identity {
            return None;
        }
        let saved = match &self.saved {
            Some(saved) => saved.load(step.pool()),
            None => step.y(),
        };
        let mut dz = step.scratch(step.dy().len());
        let (level, dy) = (step.options().simd, step.dy());
        threads::for_each_chunk(step.parallel(), &mut dz, BLOCK, |i, dz| {
            let part = i * BLOCK..i * BLOCK + dz.len();
            let (saved, dy) = (&saved[part.clone()], &dy[part]);
            activation_backward(level, self.activation, saved, dy, dz, Accumulate::Write);
        });
        Some(dz)
    }
}
