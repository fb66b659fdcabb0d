//! Flash attention of bf16 inputs, summed in f32.

use std::sync::{Arc, Mutex};

use nd_attention::flash::{FlashGradients, FlashPlan, HeadsMut, HeadsRef};
use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel, bf16};

use super::ours::{layout, lock, mask};
use super::{Case, Contestant, Inputs, Pass, Threading};

/// What flash attention writes.
struct Outputs {
    y: Vec<bf16>,
    lse: Vec<f32>,
    grads: [Vec<bf16>; 3],
}

/// Flash attention of the inputs rounded to bf16.
#[must_use]
pub fn flash_half(case: Case, inputs: &Arc<Inputs>, threading: Threading) -> Contestant {
    let size = case.size;
    let numel = size.numel();
    let gradients = if case.pass == Pass::Both { numel } else { 0 };
    let round = |x: &[f32]| -> Vec<bf16> { x.iter().map(|&x| bf16::from_f32(x)).collect() };
    let [q, k, v, dy] = [&inputs.q, &inputs.k, &inputs.v, &inputs.dy].map(|x| round(x));
    let outputs = Arc::new(Mutex::new(Outputs {
        y: vec![bf16::ZERO; numel],
        lse: vec![0.0; numel / size.dim],
        grads: [(); 3].map(|()| vec![bf16::ZERO; gradients]),
    }));
    let (shared, pool, scale) = (Arc::clone(&outputs), MemoryPool::new(), inputs.scale());
    let mask = mask(case);
    let run = move || {
        let mut shared = lock(&shared);
        let Outputs { y, lse, grads } = &mut *shared;
        let plan = FlashPlan {
            scale,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 0,
            block_k: 0,
            level: SimdLevel::current(),
            parallel: threading.parallel(),
        };
        let layout = layout(size);
        threading.install(|| {
            let (q, k) = (HeadsRef::new(&q, layout), HeadsRef::new(&k, layout));
            let v = HeadsRef::new(&v, layout);
            plan.forward_half(q, k, v, HeadsMut::new(y, layout), lse);
            if case.pass == Pass::Forward {
                return;
            }
            let [dq, dk, dv] = grads;
            let write = |x| Some((HeadsMut::new(x, layout), Accumulate::Write));
            let to = FlashGradients {
                dq: write(dq),
                dk: write(dk),
                dv: write(dv),
                dbias: None,
            };
            let (y, dy) = (HeadsRef::new(y, layout), HeadsRef::new(&dy, layout));
            plan.backward_half(q, k, v, y, lse, dy, to);
        });
    };
    Contestant {
        name: "flash, bf16",
        run: Box::new(run),
        result: Box::new(move || {
            let outputs = lock(&outputs);
            let of = match case.pass {
                Pass::Forward => &outputs.y,
                Pass::Both => &outputs.grads[0],
            };
            of.iter().map(|x| x.to_f32()).collect()
        }),
    }
}
