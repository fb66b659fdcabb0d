//! Dropout on the tape.
//!
//! The mask is a function of the step's key, the op's number, the window and the element, and nothing of it is stored.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::rng::Key;
use nd_core::threads;

use super::row_chunk;
use crate::dropout::dropout;
use crate::elementwise::add_forward;
use crate::lanes::SimdReal;

/// Dropout.
///
/// The first dimension of a value is that of the windows: row `i` belongs to window `first_row + i` of the batch.
pub trait DropoutExt: Sized {
    /// Zeroes each element with probability `p` and scales the others by `1 / (1 - p)`; the value itself when the tape does not drop.
    ///
    /// # Panics
    /// `p` is not in `[0, 1)`.
    #[must_use]
    #[track_caller]
    fn dropout(self, p: f64) -> Self;

    /// `self + dropout(branch)`: the end of a residual branch, in one value less.
    ///
    /// # Panics
    /// The shapes differ, or `p` is not in `[0, 1)`.
    #[must_use]
    #[track_caller]
    fn add_dropout(self, branch: Self, p: f64) -> Self;
}

#[track_caller]
fn check(p: f64) {
    assert!(
        (0.0..1.0).contains(&p),
        "dropout with probability {p}: expected 0 <= p < 1"
    );
}

impl<R: SimdReal> DropoutExt for Var<'_, R> {
    fn dropout(self, p: f64) -> Self {
        check(p);
        let tape = self.tape();
        if p == 0.0 || !tape.drops() {
            return self;
        }
        let mask = Mask::new(self, p, tape.next_key());
        let mut y = tape.scratch(self.shape().numel());
        let value = self.value();
        mask.apply(
            tape.options().simd,
            tape.parallel(),
            &value,
            &mut y,
            Accumulate::Write,
        );
        tape.record(self.shape(), y, &[self], || Dropout { x: self.id(), mask })
    }

    fn add_dropout(self, branch: Self, p: f64) -> Self {
        check(p);
        let (shape, other) = (self.shape(), branch.shape());
        assert!(
            shape == other,
            "a branch of shape {other} joins {shape}: they must be equal"
        );
        let tape = self.tape();
        let level = tape.options().simd;
        let (value, branch_value) = (self.value(), branch.value());
        let mut y;
        let mask = if p == 0.0 || !tape.drops() {
            y = tape.scratch(shape.numel());
            let (a, b): (&[R], &[R]) = (&value, &branch_value);
            threads::for_each_chunk(tape.parallel(), &mut y, super::BLOCK, |i, y| {
                let part = i * super::BLOCK..i * super::BLOCK + y.len();
                add_forward(level, &a[part.clone()], &b[part], y);
            });
            None
        } else {
            let mask = Mask::new(branch, p, tape.next_key());
            y = tape.scratch(shape.numel());
            mask.add(level, tape.parallel(), &value, &branch_value, &mut y);
            Some(mask)
        };
        tape.record(shape, y, &[self, branch], || AddDropout {
            x: self.id(),
            branch: branch.id(),
            mask,
        })
    }
}

/// Everything that a mask is a function of.
#[derive(Clone, Copy)]
struct Mask {
    key: Key,
    p: f64,
    first_window: u64,
    cols: usize,
}

impl Mask {
    fn new<R: SimdReal>(x: Var<'_, R>, p: f64, key: Key) -> Self {
        let windows = x.shape().first().copied().unwrap_or(1).max(1);
        Self {
            key,
            p,
            first_window: x.tape().context().first_row as u64,
            cols: x.shape().numel() / windows,
        }
    }

    /// `y (+)= x mask`
    fn apply<R: SimdReal>(
        &self,
        level: nd_core::SimdLevel,
        parallel: bool,
        x: &[R],
        y: &mut [R],
        acc: Accumulate,
    ) {
        let chunk = row_chunk(self.cols);
        threads::for_each_chunk(parallel, y, chunk, |i, y| {
            let window = self.first_window + (i * chunk / self.cols.max(1)) as u64;
            let x = &x[i * chunk..][..y.len()];
            dropout(level, self.key, self.p, window, self.cols, x, y, acc);
        });
    }

    /// `y = a + b mask`
    fn add<R: SimdReal>(
        &self,
        level: nd_core::SimdLevel,
        parallel: bool,
        a: &[R],
        b: &[R],
        y: &mut [R],
    ) {
        let chunk = row_chunk(self.cols);
        threads::for_each_chunk(parallel, y, chunk, |i, y| {
            let window = self.first_window + (i * chunk / self.cols.max(1)) as u64;
            let part = i * chunk..i * chunk + y.len();
            y.copy_from_slice(&a[part.clone()]);
            dropout(
                level,
                self.key,
                self.p,
                window,
                self.cols,
                &b[part],
                y,
                Accumulate::Add,
            );
        });
    }
}

struct Dropout {
    x: NodeId,
    mask: Mask,
}

impl<R: SimdReal> Op<R> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(mut dx) = step.grad(self.x) {
            let accumulate = dx.accumulate;
            self.mask.apply(
                step.options().simd,
                step.parallel(),
                step.dy(),
                &mut dx,
                accumulate,
            );
        }
    }
}

struct AddDropout {
    x: NodeId,
    branch: NodeId,
    mask: Option<Mask>,
}

impl<R: SimdReal> Op<R> for AddDropout {
    fn name(&self) -> &'static str {
        "add_dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(mut branch) = step.grad(self.branch) {
            let (level, accumulate) = (step.options().simd, branch.accumulate);
            match &self.mask {
                Some(mask) => {
                    mask.apply(level, step.parallel(), step.dy(), &mut branch, accumulate);
                }
                None => {
                    crate::elementwise::accumulate(level, step.dy(), &mut branch, accumulate);
                }
            }
        }
        step.pass(self.x);
    }
}
