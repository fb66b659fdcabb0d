//! Products of two values of the tape: `a b`, matrix by matrix.
//!
//! The leading dimensions of both must agree; or one of the two is a single matrix, which multiplies every matrix of the
//! other. For a weight on the right, [`super::linear`] does the same with a bias and an activation.

use nd_core::Precision;
use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Var};
use nd_core::shape::Shape;

use crate::autocast;
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::matmul::{
    Epilogue, MatMut, MatRef, StackMut, StackRef, multiply_half, multiply_half_parallel,
    multiply_parallel, multiply_stack, multiply_stack_parallel,
};

/// Matrix products on the tape.
pub trait MatmulExt: Sized {
    /// `a b`: a `[.., m, k]` or `[m, k]`, b `[.., k, n]` or `[k, n]`; the result has the leading dimensions of either.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn matmul(self, b: Self) -> Self;

    /// `a b^T`: b `[.., n, k]` or `[n, k]`, as in the scores `q k^T`.
    ///
    /// # Panics
    /// The shapes do not fit.
    #[must_use]
    #[track_caller]
    fn matmul_transposed(self, b: Self) -> Self;
}

impl<R: SimdReal> MatmulExt for Var<'_, R> {
    fn matmul(self, b: Self) -> Self {
        multiply(self, b, false)
    }

    fn matmul_transposed(self, b: Self) -> Self {
        multiply(self, b, true)
    }
}

/// The sizes of the products.
#[derive(Clone, Copy)]
struct Plan {
    count: usize,
    m: usize,
    k: usize,
    n: usize,
    /// Whether one left matrix multiplies all right ones.
    a_single: bool,
    b_transposed: bool,
}

#[track_caller]
fn multiply<'t, R: SimdReal>(a: Var<'t, R>, b: Var<'t, R>, b_transposed: bool) -> Var<'t, R> {
    let (plan, shape) = plan(a.shape(), b.shape(), b_transposed);
    let tape = a.tape();
    let Plan { count, m, n, .. } = plan;
    let mut y = tape.scratch(shape.numel());
    let (av, bv) = (a.value(), b.value());
    let run = Run {
        level: tape.options().simd,
        parallel: tape.parallel(),
        precision: autocast::precision(tape),
    };
    let c = StackMut::contiguous(&mut y, count, m, n);
    run.products(plan.a(&av), plan.b(&bv), Accumulate::Write, c);
    let y = autocast::narrow_all(tape, run.precision, y);
    tape.record_stored(shape, y, &[a, b], || Matmul {
        a: a.id(),
        b: b.id(),
        plan,
    })
}

#[track_caller]
fn plan(a: Shape, b: Shape, b_transposed: bool) -> (Plan, Shape) {
    assert!(
        a.len() >= 2 && b.len() >= 2,
        "the product of {a} and {b}: both need two dimensions"
    );
    let (a_lead, a_matrix) = a.split_at(a.len() - 2);
    let (b_lead, b_matrix) = b.split_at(b.len() - 2);
    let (m, k) = (a_matrix[0], a_matrix[1]);
    let (b_k, n) = if b_transposed {
        (b_matrix[1], b_matrix[0])
    } else {
        (b_matrix[0], b_matrix[1])
    };
    assert!(
        k == b_k && (a_lead == b_lead || a_lead.is_empty() || b_lead.is_empty()),
        "the product of {a} and {}{b}: the shapes do not fit",
        if b_transposed {
            "the transpose of "
        } else {
            ""
        }
    );
    let longer = if b_lead.is_empty() { a } else { b };
    let lead = longer.len() - 2;
    let mut dims = [0; nd_core::shape::MAX_RANK];
    dims[..lead].copy_from_slice(&longer[..lead]);
    (dims[lead], dims[lead + 1]) = (m, n);
    let count: usize = dims[..lead].iter().product();
    let a_single = a_lead.is_empty() && lead > 0;
    // Rows of all matrices that meet the same right side are one tall product.
    let (count, m) = if b_lead.is_empty() {
        (1, count * m)
    } else {
        (count, m)
    };
    (
        Plan {
            count,
            m,
            k,
            n,
            a_single,
            b_transposed,
        },
        Shape::new(&dims[..lead + 2]),
    )
}

impl Plan {
    fn a<'a, R: SimdReal>(&self, data: &'a [R]) -> StackRef<'a, R> {
        if self.a_single && self.count > 0 {
            StackRef::new(MatRef::row_major(data, self.m, self.k), self.count, 0)
        } else {
            StackRef::contiguous(data, self.count, self.m, self.k)
        }
    }

    /// The right side as `[k, n]`, whatever its order in memory.
    fn b<'a, R: SimdReal>(&self, data: &'a [R]) -> StackRef<'a, R> {
        if self.b_transposed {
            StackRef::contiguous(data, self.count, self.n, self.k).t()
        } else {
            StackRef::contiguous(data, self.count, self.k, self.n)
        }
    }
}

#[derive(Clone, Copy)]
struct Run {
    level: SimdLevel,
    parallel: bool,
    precision: Precision,
}

impl Run {
    fn products<R: SimdReal>(
        self,
        a: StackRef<'_, R>,
        b: StackRef<'_, R>,
        accumulate: Accumulate,
        c: StackMut<'_, R>,
    ) {
        if self.precision != Precision::F32 {
            let mut c = c;
            for i in 0..a.count() {
                self.product(a.get(i), b.get(i), accumulate, c.get_mut(i));
            }
            return;
        }
        let run = if self.parallel {
            multiply_stack_parallel
        } else {
            multiply_stack
        };
        run(self.level, R::ONE, a, b, accumulate.beta(), c);
    }

    /// One product in the format of the run.
    fn product<R: SimdReal>(
        self,
        a: MatRef<'_, R>,
        b: MatRef<'_, R>,
        accumulate: Accumulate,
        c: MatMut<'_, R>,
    ) {
        if let (Some(a), Some(b), Some(c)) = (a.into_f32(), b.into_f32(), c.into_f32())
            && self.precision != Precision::F32
        {
            let run = if self.parallel {
                multiply_half_parallel
            } else {
                multiply_half
            };
            let (beta, end) = (accumulate.beta(), Epilogue::default());
            return run(self.level, self.precision, 1.0, a, b, beta, c, end);
        }
        unreachable!("sixteen bits are for f32 tapes");
    }

    /// The sum of all products, one after the other.
    fn sum_of_products<'a, R: SimdReal>(
        self,
        products: impl Iterator<Item = (MatRef<'a, R>, MatRef<'a, R>)>,
        mut accumulate: Accumulate,
        mut c: MatMut<'_, R>,
    ) {
        let run = if self.parallel {
            multiply_parallel
        } else {
            crate::matmul::multiply
        };
        let mut empty = true;
        for (a, b) in products {
            if self.precision != Precision::F32 {
                self.product(a, b, accumulate, c.reborrow());
                accumulate = Accumulate::Add;
                empty = false;
                continue;
            }
            run(self.level, R::ONE, a, b, accumulate.beta(), c.reborrow());
            accumulate = Accumulate::Add;
            empty = false;
        }
        if empty && accumulate == Accumulate::Write {
            c.data_mut().fill(R::ZERO);
        }
    }
}

struct Matmul {
    a: NodeId,
    b: NodeId,
    plan: Plan,
}

impl<R: SimdReal> Op<R> for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let plan = self.plan;
        let Plan { count, m, k, n, .. } = plan;
        let run = Run {
            level: step.options().simd,
            parallel: step.parallel(),
            precision: autocast::precision(step.tape()),
        };
        let dy = StackRef::contiguous(step.dy(), count, m, n);
        if let Some(mut da) = step.grad(self.a) {
            let (b, accumulate) = (step.value(self.b), da.accumulate);
            let b = &b[..];
            if plan.a_single {
                let (dy, step_b) = (step.dy(), k * n);
                let products = (0..count).map(|i| {
                    let b = MatRef::row_major(
                        &b[i * step_b..][..step_b],
                        if plan.b_transposed { n } else { k },
                        if plan.b_transposed { k } else { n },
                    );
                    let b_t = if plan.b_transposed { b } else { b.t() };
                    (MatRef::row_major(&dy[i * m * n..][..m * n], m, n), b_t)
                });
                run.sum_of_products(products, accumulate, MatMut::row_major(&mut da, m, k));
            } else {
                let da = StackMut::contiguous(&mut da, count, m, k);
                run.products(dy, plan.b(b).t(), accumulate, da);
            }
        }
        if let Some(mut db) = step.grad(self.b) {
            let (a, accumulate) = (step.value(self.a), db.accumulate);
            if plan.b_transposed {
                // b^T = [k, n] gets a^T dy, so b gets dy^T a.
                let db = StackMut::contiguous(&mut db, count, n, k);
                run.products(dy.t(), plan.a(&a), accumulate, db);
            } else {
                let db = StackMut::contiguous(&mut db, count, k, n);
                run.products(plan.a(&a).t(), dy, accumulate, db);
            }
        }
    }
}
