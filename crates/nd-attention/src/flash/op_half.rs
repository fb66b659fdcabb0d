//! Flash attention on a tape in bf16: queries, keys and values are read as they are kept, output and gradients are rounded where they are
//! written, and no whole tensor is ever widened.
//!
//! For processors that multiply bf16; without that arithmetic, and in f16, the op of f32 on widened inputs is faster.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Stored, StoredRef, Var};
use nd_core::{Buffer, DType, SimdLevel, bf16, threads};
use nd_simd::SimdReal;
use nd_simd::matmul::Bf16Engine;

use super::op::{Choices, Layouts};
use super::{FlashGradients, HeadsMut, HeadsRef};
use crate::AttentionShape;

/// Numbers that one thread rounds or adds at a time.
const PART: usize = 1 << 14;

/// Values in bf16, if that is what they are kept in.
fn halves<R: SimdReal>(x: StoredRef<'_, R>) -> Option<&[bf16]> {
    match x {
        StoredRef::Bf16(x) => Some(x),
        _ => None,
    }
}

/// Whether an attention of these inputs is computed here.
pub(super) fn serves<R: SimdReal>(inputs: [Var<'_, R>; 3], level: SimdLevel) -> bool {
    R::DTYPE == DType::F32
        && level == SimdLevel::Avx512
        && Bf16Engine::current() != Bf16Engine::Widen
        && inputs.iter().all(|x| halves(x.stored()).is_some())
}

/// A slice of the one type that `R` is on such a tape.
pub(crate) fn as_f32<R: SimdReal>(x: &[R]) -> &[f32] {
    assert_eq!(
        R::DTYPE,
        DType::F32,
        "attention in sixteen bits is for f32 tapes"
    );
    // SAFETY: `Real` is sealed, and its implementor with this constant is f32: the types are the same.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), x.len()) }
}

/// As [`as_f32`], to be written.
pub(crate) fn as_f32_mut<R: SimdReal>(x: &mut [R]) -> &mut [f32] {
    assert_eq!(
        R::DTYPE,
        DType::F32,
        "attention in sixteen bits is for f32 tapes"
    );
    // SAFETY: as in `as_f32`; the borrow is handed on.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), x.len()) }
}

/// As [`super::op::attention`], for inputs that [`serves`] approves of.
pub(super) fn attention<'t, R: SimdReal>(
    [q, k, v]: [Var<'t, R>; 3],
    residual: Option<Var<'t, R>>,
    shape: AttentionShape,
    choices: Choices,
) -> Var<'t, R> {
    let tape = q.tape();
    let layouts = Layouts::new(&shape, &choices);
    let mut output: Buffer<bf16> = tape.pool().take(layouts.y.count() * shape.value_dim);
    let mut lse: Buffer<f32> = tape.pool().take(layouts.q.count());
    {
        let scores = residual.map(Var::value);
        let scores = scores.as_deref().map(as_f32);
        let (level, parallel) = (tape.options().simd, tape.parallel());
        let plan = choices.plan(&shape, scores, tape.pool(), level, parallel);
        let [Some(q), Some(k), Some(v)] = [q, k, v].map(|x| halves(x.stored())) else {
            unreachable!("the inputs are kept in bf16")
        };
        plan.forward_half(
            HeadsRef::new(q, layouts.q),
            HeadsRef::new(k, layouts.k),
            HeadsRef::new(v, layouts.v),
            HeadsMut::new(&mut output, layouts.y),
            &mut lse,
        );
    }
    let output_shape = q.shape().with_cols(shape.heads * shape.value_dim);
    let op = || HalfFlashOp {
        shape,
        choices,
        q: q.id(),
        k: k.id(),
        v: v.id(),
        residual: residual.map(Var::id),
        lse,
    };
    let output = Stored::Bf16(output);
    match residual {
        Some(residual) => tape.record_stored(output_shape, output, &[q, k, v, residual], op),
        None => tape.record_stored(output_shape, output, &[q, k, v], op),
    }
}

struct HalfFlashOp {
    shape: AttentionShape,
    choices: Choices,
    q: NodeId,
    k: NodeId,
    v: NodeId,
    residual: Option<NodeId>,
    lse: Buffer<f32>,
}

/// `dy` as it is kept, or rounded.
fn rounded<'a, R: SimdReal>(step: &'a Backward<'_, R>, room: &'a mut Buffer<bf16>) -> &'a [bf16] {
    if let Some(dy) = halves(step.stored_dy()) {
        return dy;
    }
    let dy = step.dy();
    *room = step.pool().take(dy.len());
    threads::for_each_chunk(step.parallel(), room, PART, |i, to| {
        R::narrow_bf16(&dy[i * PART..][..to.len()], to);
    });
    room
}

/// Brings the gradient of an input to it: as it is where it is the first, else added in the tape's own type.
fn deliver<R: SimdReal>(step: &Backward<'_, R>, id: NodeId, gradient: Buffer<bf16>) {
    if step.takes_half(id).is_some() {
        step.give(id, Stored::Bf16(gradient));
        return;
    }
    let Some(mut grad) = step.grad(id) else {
        return;
    };
    let how = grad.accumulate;
    threads::for_each_chunk(step.parallel(), &mut grad, PART, |i, to| {
        let from = &gradient[i * PART..][..to.len()];
        match how {
            Accumulate::Write => R::widen_bf16(from, to),
            Accumulate::Add => {
                for (to, from) in to.iter_mut().zip(from) {
                    *to += R::from_f64(from.to_f64());
                }
            }
        }
    });
}

impl<R: SimdReal> Op<R> for HalfFlashOp {
    fn name(&self) -> &'static str {
        "flash attention"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let layouts = Layouts::new(&self.shape, &self.choices);
        let ids = [self.q, self.k, self.v];
        let [Some(q), Some(k), Some(v)] = ids.map(|id| halves(step.stored(id))) else {
            unreachable!("the inputs are kept in bf16")
        };
        let Some(y) = halves(step.stored_y()) else {
            unreachable!("the output is kept in bf16")
        };
        let mut room = step.pool().take(0);
        let dy = rounded(step, &mut room);
        let scores = self.residual.map(|id| step.value(id));
        let scores = scores.as_deref().map(as_f32);
        let (level, parallel) = (step.options().simd, step.parallel());
        let plan = self
            .choices
            .plan(&self.shape, scores, step.pool(), level, parallel);
        let inputs = [layouts.q, layouts.k, layouts.v];
        let mut sums: [Option<Buffer<bf16>>; 3] = std::array::from_fn(|i| {
            let len = inputs[i].count() * inputs[i].channels;
            step.wants(ids[i]).then(|| step.pool().take(len))
        });
        {
            let mut dresidual = self.residual.and_then(|id| step.grad(id));
            let dbias = dresidual.as_mut().map(|grad| {
                let how = grad.accumulate;
                (as_f32_mut(&mut grad[..]), how)
            });
            let mut to = sums.iter_mut().zip(inputs).map(|(sum, layout)| {
                let sum = sum.as_mut()?;
                Some((HeadsMut::new(sum, layout), Accumulate::Write))
            });
            let mut next = || to.next().flatten();
            let to = FlashGradients {
                dq: next(),
                dk: next(),
                dv: next(),
                dbias,
            };
            plan.backward_half(
                HeadsRef::new(q, layouts.q),
                HeadsRef::new(k, layouts.k),
                HeadsRef::new(v, layouts.v),
                HeadsRef::new(y, layouts.y),
                &self.lse,
                HeadsRef::new(dy, layouts.y),
                to,
            );
        }
        // One after the other: two of them may be one value.
        for (id, sum) in ids.into_iter().zip(sums) {
            if let Some(sum) = sum {
                deliver(step, id, sum);
            }
        }
    }
}
