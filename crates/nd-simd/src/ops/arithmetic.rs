//! Sums, differences, products and quotients of values of the same shape, and with numbers.

use nd_core::autograd::{Backward, NodeId, Op, Var};
use nd_core::threads;

use super::BLOCK;
use crate::dispatch::SimdLevel;
use crate::elementwise::{
    accumulate_product, accumulate_scaled, add_forward, affine_forward, div_backward, div_forward,
    mul_forward, sub_forward,
};
use crate::lanes::SimdReal;

/// Arithmetic, element by element.
pub trait ArithmeticExt: Sized {
    /// `a + b`
    ///
    /// # Panics
    /// The shapes differ.
    #[must_use]
    #[track_caller]
    fn add(self, other: Self) -> Self;

    /// `a - b`
    ///
    /// # Panics
    /// The shapes differ.
    #[must_use]
    #[track_caller]
    fn sub(self, other: Self) -> Self;

    /// `a b`
    ///
    /// # Panics
    /// The shapes differ.
    #[must_use]
    #[track_caller]
    fn mul(self, other: Self) -> Self;

    /// `a / b`
    ///
    /// # Panics
    /// The shapes differ.
    #[must_use]
    #[track_caller]
    fn div(self, other: Self) -> Self;

    /// `scale x + shift`
    #[must_use]
    #[track_caller]
    fn affine(self, scale: f64, shift: f64) -> Self;

    /// `factor x`
    #[must_use]
    #[track_caller]
    fn scale(self, factor: f64) -> Self {
        self.affine(factor, 0.0)
    }
}

impl<R: SimdReal> ArithmeticExt for Var<'_, R> {
    fn add(self, other: Self) -> Self {
        let y = combine(self, other, add_forward);
        self.tape().record(self.shape(), y, &[self, other], || Add {
            a: self.id(),
            b: other.id(),
        })
    }

    fn sub(self, other: Self) -> Self {
        let y = combine(self, other, sub_forward);
        self.tape().record(self.shape(), y, &[self, other], || Sub {
            a: self.id(),
            b: other.id(),
        })
    }

    fn mul(self, other: Self) -> Self {
        let y = combine(self, other, mul_forward);
        self.tape().record(self.shape(), y, &[self, other], || Mul {
            a: self.id(),
            b: other.id(),
        })
    }

    fn div(self, other: Self) -> Self {
        let y = combine(self, other, div_forward);
        self.tape().record(self.shape(), y, &[self, other], || Div {
            a: self.id(),
            b: other.id(),
        })
    }

    fn affine(self, scale: f64, shift: f64) -> Self {
        let tape = self.tape();
        let (level, value) = (tape.options().simd, self.value());
        let x: &[R] = &value;
        let mut y = tape.scratch(x.len());
        threads::for_each_chunk(tape.parallel(), &mut y, BLOCK, |i, y| {
            affine_forward(level, scale, shift, &x[i * BLOCK..][..y.len()], y);
        });
        tape.record(self.shape(), y, &[self], || Affine {
            x: self.id(),
            scale,
        })
    }
}

/// Runs a kernel of two inputs, split over threads when asked.
#[track_caller]
fn combine<R: SimdReal>(
    a: Var<'_, R>,
    b: Var<'_, R>,
    kernel: impl Fn(SimdLevel, &[R], &[R], &mut [R]) + Sync,
) -> nd_core::Buffer<R> {
    assert!(
        a.shape() == b.shape(),
        "arithmetic between the shapes {} and {}: they must be equal",
        a.shape(),
        b.shape()
    );
    let tape = a.tape();
    let (level, a, b) = (tape.options().simd, a.value(), b.value());
    let (a, b): (&[R], &[R]) = (&a, &b);
    let mut y = tape.scratch(a.len());
    threads::for_each_chunk(tape.parallel(), &mut y, BLOCK, |i, y| {
        let part = i * BLOCK..i * BLOCK + y.len();
        kernel(level, &a[part.clone()], &b[part], y);
    });
    y
}

/// `dx (+)= factor dy`
fn pass_scaled<R: SimdReal>(step: &Backward<'_, R>, to: NodeId, factor: f64) {
    let Some(mut dx) = step.grad(to) else { return };
    let (level, dy, accumulate) = (step.options().simd, step.dy(), dx.accumulate);
    threads::for_each_chunk(step.parallel(), &mut dx, BLOCK, |i, dx| {
        accumulate_scaled(level, factor, &dy[i * BLOCK..][..dx.len()], dx, accumulate);
    });
}

/// `dx (+)= dy other`
fn pass_times<R: SimdReal>(step: &Backward<'_, R>, to: NodeId, other: NodeId) {
    let Some(mut dx) = step.grad(to) else { return };
    let value = step.value(other);
    let (level, other, dy): (_, &[R], _) = (step.options().simd, &value, step.dy());
    let accumulate = dx.accumulate;
    threads::for_each_chunk(step.parallel(), &mut dx, BLOCK, |i, dx| {
        let part = i * BLOCK..i * BLOCK + dx.len();
        accumulate_product(level, &dy[part.clone()], &other[part], dx, accumulate);
    });
}

struct Add {
    a: NodeId,
    b: NodeId,
}

impl<R: SimdReal> Op<R> for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        // The second takes dy itself when it can; the first gets a copy before.
        if self.a == self.b {
            return pass_scaled(step, self.a, 2.0);
        }
        pass_scaled(step, self.a, 1.0);
        step.pass(self.b);
    }
}

struct Sub {
    a: NodeId,
    b: NodeId,
}

impl<R: SimdReal> Op<R> for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        pass_scaled(step, self.b, -1.0);
        step.pass(self.a);
    }
}

struct Mul {
    a: NodeId,
    b: NodeId,
}

impl<R: SimdReal> Op<R> for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        pass_times(step, self.a, self.b);
        pass_times(step, self.b, self.a);
    }
}

struct Div {
    a: NodeId,
    b: NodeId,
}

impl<R: SimdReal> Op<R> for Div {
    fn name(&self) -> &'static str {
        "div"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (level, dy, len) = (step.options().simd, step.dy(), step.dy().len());
        let (b, y) = (step.value(self.b), step.y());
        let mut da = step.scratch(len); // dy / b
        match step.grad(self.b) {
            Some(mut db) => {
                let accumulate = db.accumulate;
                div_backward(level, &b, &y, dy, &mut da, &mut db, accumulate);
            }
            None => div_forward(level, dy, &b, &mut da),
        }
        if let Some(mut grad) = step.grad(self.a) {
            let accumulate = grad.accumulate;
            crate::elementwise::accumulate(level, &da, &mut grad, accumulate);
        }
    }
}

struct Affine {
    x: NodeId,
    scale: f64,
}

impl<R: SimdReal> Op<R> for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if self.scale == 1.0 {
            step.pass(self.x);
        } else {
            pass_scaled(step, self.x, self.scale);
        }
    }
}
