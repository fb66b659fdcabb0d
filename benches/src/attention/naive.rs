//! Attention as a user of ndarray writes it: `dot`, a softmax by `mapv_inplace`, `dot`, head by head.

use std::sync::{Arc, Mutex};

use ndarray::{Array2, ArrayView2};

use super::{Contestant, Inputs};

fn head(
    q: ArrayView2<'_, f32>,
    k: ArrayView2<'_, f32>,
    v: ArrayView2<'_, f32>,
    scale: f32,
    causal: bool,
) -> Array2<f32> {
    let mut scores = q.dot(&k.t()) * scale;
    if causal {
        for ((i, j), score) in scores.indexed_iter_mut() {
            if j > i {
                *score = f32::NEG_INFINITY;
            }
        }
    }
    for mut row in scores.rows_mut() {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    scores.dot(&v)
}

/// The forward pass on one thread.
#[must_use]
pub fn naive_forward(causal: bool, inputs: &Arc<Inputs>) -> Contestant {
    let outputs = Arc::new(Mutex::new(vec![0.0f32; inputs.size.numel()]));
    let (inputs, to) = (Arc::clone(inputs), Arc::clone(&outputs));
    let run = move || {
        let (n, d) = (inputs.size.tokens, inputs.size.dim);
        let mut to = to.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (h, to) in to.chunks_exact_mut(n * d).enumerate() {
            let of = |x: &[f32]| -> Array2<f32> {
                Array2::from_shape_vec((n, d), x[h * n * d..(h + 1) * n * d].to_vec())
                    .unwrap_or_default()
            };
            let (q, k, v) = (of(&inputs.q), of(&inputs.k), of(&inputs.v));
            let y = head(q.view(), k.view(), v.view(), inputs.scale(), causal);
            for (to, &from) in to.iter_mut().zip(&y) {
                *to = from;
            }
        }
    };
    Contestant {
        name: "ndarray",
        run: Box::new(run),
        result: Box::new(move || {
            outputs
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .clone()
        }),
    }
}
