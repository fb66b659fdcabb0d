//! Values that are the same for every row: biases, positions, gains.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::threads;

use super::bias_gradient::bias_gradient;
use super::{BLOCK, row_chunk};
use crate::autocast;
use crate::elementwise::{accumulate_product, bias_forward, mul_forward};
use crate::lanes::SimdReal;

/// A bias or a gain over rows.
///
/// The row is as long as the bias: `[C]` for the last dimension of `[.., C]`, `[N, d]` for positions of `[B, N, d]`.
pub trait BiasExt: Sized {
    /// `y[r, ..] = x[r, ..] + bias[..]`
    ///
    /// # Panics
    /// The last dimensions of `x` are not those of the bias.
    #[must_use]
    #[track_caller]
    fn add_bias(self, bias: Self) -> Self;

    /// `y[r, ..] = x[r, ..] gain[..]`
    ///
    /// # Panics
    /// The last dimensions of `x` are not those of the gain.
    #[must_use]
    #[track_caller]
    fn mul_gain(self, gain: Self) -> Self;
}

#[track_caller]
fn check<R: SimdReal>(x: Var<'_, R>, row: Var<'_, R>, name: &str) {
    let (found, wanted) = (x.shape(), row.shape());
    assert!(
        found.ends_with(&wanted),
        "a {name} of shape {wanted} over rows of {found}: the last dimensions must be equal"
    );
}

impl<R: SimdReal> BiasExt for Var<'_, R> {
    fn add_bias(self, bias: Self) -> Self {
        check(self, bias, "bias");
        let tape = self.tape();
        let stored = self.stored();
        if autocast::is_half(stored) {
            let (level, b) = (tape.options().simd, bias.value());
            let (precision, len) = (stored.precision(), self.shape().numel());
            let b: &[R] = &b;
            let y = autocast::map_stored(tape, precision, len, |part, y, rooms| {
                let x = autocast::read(level, stored, part.clone(), &mut rooms.a);
                // The part may begin and end inside a row.
                let mut done = 0;
                while done < y.len() {
                    let column = (part.start + done) % b.len();
                    let count = (b.len() - column).min(y.len() - done);
                    let place = done..done + count;
                    let b = &b[column..column + count];
                    bias_forward(level, &x[place.clone()], b, &mut y[place]);
                    done += count;
                }
            });
            return tape.record_stored(self.shape(), y, &[self, bias], || AddBias {
                x: self.id(),
                bias: bias.id(),
            });
        }
        let (level, x, b) = (tape.options().simd, self.value(), bias.value());
        let (x, b): (&[R], &[R]) = (&x, &b);
        let mut y = tape.scratch(x.len());
        let chunk = row_chunk(b.len());
        threads::for_each_chunk(tape.parallel(), &mut y, chunk, |i, y| {
            bias_forward(level, &x[i * chunk..][..y.len()], b, y);
        });
        tape.record(self.shape(), y, &[self, bias], || AddBias {
            x: self.id(),
            bias: bias.id(),
        })
    }

    fn mul_gain(self, gain: Self) -> Self {
        check(self, gain, "gain");
        let tape = self.tape();
        let (level, x, g) = (tape.options().simd, self.value(), gain.value());
        let (x, g): (&[R], &[R]) = (&x, &g);
        let mut y = tape.scratch(x.len());
        let chunk = row_chunk(g.len());
        threads::for_each_chunk(tape.parallel(), &mut y, chunk, |i, y| {
            let x = &x[i * chunk..][..y.len()];
            for (x, y) in x.chunks_exact(g.len()).zip(y.chunks_exact_mut(g.len())) {
                mul_forward(level, x, g, y);
            }
        });
        tape.record(self.shape(), y, &[self, gain], || MulGain {
            x: self.id(),
            gain: gain.id(),
        })
    }
}

struct AddBias {
    x: NodeId,
    bias: NodeId,
}

impl<R: SimdReal> Op<R> for AddBias {
    fn name(&self) -> &'static str {
        "add_bias"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(mut db) = step.grad(self.bias) {
            bias_gradient(step, step.dy(), &mut db);
        }
        step.pass(self.x);
    }
}

struct MulGain {
    x: NodeId,
    gain: NodeId,
}

impl<R: SimdReal> Op<R> for MulGain {
    fn name(&self) -> &'static str {
        "mul_gain"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (level, dy) = (step.options().simd, step.dy());
        let gain = step.value(self.gain);
        if let Some(mut dgain) = step.grad(self.gain) {
            let x = step.value(self.x);
            let mut product = step.scratch(dy.len());
            let x: &[R] = &x;
            threads::for_each_chunk(step.parallel(), &mut product, BLOCK, |i, product| {
                let part = i * BLOCK..i * BLOCK + product.len();
                mul_forward(level, &dy[part.clone()], &x[part], product);
            });
            bias_gradient(step, &product, &mut dgain);
        }
        if let Some(mut dx) = step.grad(self.x) {
            let accumulate: Accumulate = dx.accumulate;
            let gain: &[R] = &gain;
            let chunk = row_chunk(gain.len());
            threads::for_each_chunk(step.parallel(), &mut dx, chunk, |i, dx| {
                let dy = &dy[i * chunk..][..dx.len()];
                for (dy, dx) in dy
                    .chunks_exact(gain.len())
                    .zip(dx.chunks_exact_mut(gain.len()))
                {
                    accumulate_product(level, dy, gain, dx, accumulate);
                }
            });
        }
    }
}
