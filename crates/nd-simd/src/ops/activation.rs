//! Activation functions on the tape.
//!
//! After a dense layer, prefer the activation of [`super::linear::LinearExt::linear`], which saves a pass over memory.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, StoredRef, Var};
use nd_core::threads;

use super::BLOCK;
use crate::activations::{Activation, Saved, activation_backward, activation_forward};
use crate::autocast;
use crate::lanes::SimdReal;

/// Activation functions.
pub trait ActivationExt: Sized {
    /// `y = activation(x)`, element by element.
    #[must_use]
    #[track_caller]
    fn activation(self, activation: Activation) -> Self;

    /// `max(x, 0)`
    #[must_use]
    #[track_caller]
    fn relu(self) -> Self {
        self.activation(Activation::Relu)
    }

    /// `x Phi(x)`
    #[must_use]
    #[track_caller]
    fn gelu(self) -> Self {
        self.activation(Activation::Gelu)
    }

    /// `x / (1 + e^-x)`
    #[must_use]
    #[track_caller]
    fn silu(self) -> Self {
        self.activation(Activation::Silu)
    }

    /// `1 / (1 + e^-x)`
    #[must_use]
    #[track_caller]
    fn sigmoid(self) -> Self {
        self.activation(Activation::Sigmoid)
    }

    /// `tanh x`
    #[must_use]
    #[track_caller]
    fn tanh(self) -> Self {
        self.activation(Activation::Tanh)
    }

    /// `log(1 + e^x)`
    #[must_use]
    #[track_caller]
    fn softplus(self) -> Self {
        self.activation(Activation::Softplus)
    }
}

impl<R: SimdReal> ActivationExt for Var<'_, R> {
    fn activation(self, activation: Activation) -> Self {
        if activation == Activation::Identity {
            return self;
        }
        let tape = self.tape();
        let level = tape.options().simd;
        let stored = self.stored();
        if autocast::is_half(stored) {
            let (precision, len) = (stored.precision(), self.shape().numel());
            let y = autocast::map_stored(tape, precision, len, |part, y, rooms| {
                let x = autocast::read(level, stored, part, &mut rooms.a);
                activation_forward(level, activation, x, y);
            });
            return tape.record_stored(self.shape(), y, &[self], || ActivationOp {
                x: self.id(),
                activation,
            });
        }
        let value = self.value();
        let x: &[R] = &value;
        let mut y = tape.scratch(x.len());
        threads::for_each_chunk(tape.parallel(), &mut y, BLOCK, |i, y| {
            activation_forward(level, activation, &x[i * BLOCK..][..y.len()], y);
        });
        tape.record(self.shape(), y, &[self], || ActivationOp {
            x: self.id(),
            activation,
        })
    }
}

struct ActivationOp {
    x: NodeId,
    activation: Activation,
}

impl<R: SimdReal> Op<R> for ActivationOp {
    fn name(&self) -> &'static str {
        match self.activation {
            Activation::Identity => "identity",
            Activation::Relu => "relu",
            Activation::LeakyRelu { .. } => "leaky_relu",
            Activation::Elu { .. } => "elu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_tanh",
            Activation::Silu => "silu",
            Activation::Sigmoid => "sigmoid",
            Activation::Tanh => "tanh",
            Activation::Softplus => "softplus",
        }
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let level = step.options().simd;
        let saved = match self.activation.saved() {
            Saved::Input => step.stored(self.x),
            Saved::Output => step.stored_y(),
        };
        if let Some(precision) = step.takes_half(self.x) {
            let (dy, len) = (step.stored_dy(), step.shape(self.x).numel());
            let write = Accumulate::Write;
            let dx = autocast::map_stored(step.tape(), precision, len, |part, dx, rooms| {
                let saved = autocast::read(level, saved, part.clone(), &mut rooms.a);
                let dy = autocast::read(level, dy, part, &mut rooms.b);
                activation_backward(level, self.activation, saved, dy, dx, write);
            });
            step.give(self.x, dx);
            return;
        }
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let dy = step.dy();
        let accumulate: Accumulate = dx.accumulate;
        let StoredRef::Full(saved) = saved else {
            autocast::for_each_part(step.parallel(), &mut dx, |part, dx, rooms| {
                let saved = autocast::read(level, saved, part.clone(), &mut rooms.a);
                activation_backward(level, self.activation, saved, &dy[part], dx, accumulate);
            });
            return;
        };
        threads::for_each_chunk(step.parallel(), &mut dx, BLOCK, |i, dx| {
            let part = i * BLOCK..i * BLOCK + dx.len();
            let (saved, dy) = (&saved[part.clone()], &dy[part]);
            activation_backward(level, self.activation, saved, dy, dx, accumulate);
        });
    }
}
