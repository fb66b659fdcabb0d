//! Times a two-layer LSTM and GRU, forward and backward, at the sizes of the default models.
//!
//! `cargo run --release -p nd-simd --example recurrent_speed [seconds per row]`. GFLOP/s count the matrix products only, of which a
//! forward pass has `2 T B (I + H) G H` floating-point operations (G = 4 or 3 gates) and a backward pass twice as many.

use std::time::Instant;

use nd_core::autograd::Accumulate;
use nd_simd::SimdLevel;
use nd_simd::permute::transpose;
use nd_simd::recurrent::{
    GradTarget, GruGradients, GruSaved, GruWeights, LstmGradients, LstmSaved, LstmWeights,
    Sequence, gru_backward, gru_forward, lstm_backward, lstm_forward,
};

fn fill(len: usize) -> Vec<f32> {
    (0..len)
        .map(|i| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.2)
        .collect()
}

fn median_seconds(budget: f64, mut body: impl FnMut()) -> f64 {
    body();
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < budget || times.len() < 5 {
        let start = Instant::now();
        body();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn target(values: &mut [f32]) -> Option<GradTarget<'_, f32>> {
    Some(GradTarget {
        values,
        accumulate: Accumulate::Write,
    })
}

fn main() {
    let budget = std::env::args()
        .nth(1)
        .map_or(0.5, |x| x.parse().expect("seconds per row"));
    let level = SimdLevel::current();
    println!("level {level}; one layer with I = H");
    println!(
        "{:6} {:>5} {:>4} {:>5} {:>12} {:>9} {:>12} {:>9}",
        "cell", "T", "B", "H", "forward ms", "GFLOP/s", "backward ms", "GFLOP/s"
    );
    for (gates, steps, rows, hidden) in [
        (4, 96, 128, 128),
        (4, 96, 64, 128),
        (4, 96, 32, 128),
        (4, 96, 16, 128),
        (4, 96, 8, 128),
        (3, 96, 128, 200),
        (3, 96, 16, 200),
    ] {
        let sequence = Sequence {
            steps,
            rows,
            input: hidden,
            hidden,
        };
        let state = steps * rows * hidden;
        let (x, dy) = (fill(state), fill(state));
        let (w_ih, w_hh) = (fill(hidden * gates * hidden), fill(hidden * gates * hidden));
        let mut w_hh_t = w_hh.clone();
        transpose(level, &w_hh, hidden, gates * hidden, &mut w_hh_t);
        let bias = fill(4 * hidden);
        let (mut y, mut kept, mut cells) =
            (vec![0.0; state], vec![0.0; 4 * state], vec![0.0; state]);
        let (mut dx, mut dw_ih, mut dw_hh) = (vec![0.0; state], w_ih.clone(), w_hh.clone());
        let mut db = bias.clone();
        let mut scratch = vec![0.0; 2 * rows * hidden];
        let forward = median_seconds(budget, || {
            let bias = Some(&bias[..]);
            if gates == 4 {
                let weights = LstmWeights {
                    w_ih: &w_ih,
                    w_hh: &w_hh,
                    bias,
                };
                let saved = LstmSaved {
                    gates: &mut kept,
                    cells: &mut cells,
                };
                lstm_forward(level, sequence, &weights, &x, None, saved, &mut y, false);
            } else {
                let weights = GruWeights {
                    w_ih: &w_ih,
                    w_hh: &w_hh,
                    bias,
                };
                let saved = GruSaved { blocks: &mut kept };
                gru_forward(level, sequence, &weights, &x, None, saved, &mut y, false);
            }
        });
        let fresh = kept.clone();
        let copy = median_seconds(budget / 4.0, || kept.copy_from_slice(&fresh));
        let backward = median_seconds(budget, || {
            // The backward pass uses the gates up.
            kept.copy_from_slice(&fresh);
            let bias = Some(&bias[..]);
            if gates == 4 {
                let weights = LstmWeights {
                    w_ih: &w_ih,
                    w_hh: &w_hh,
                    bias,
                };
                let saved = LstmSaved {
                    gates: &mut kept,
                    cells: &mut cells,
                };
                let gradients = LstmGradients {
                    x: target(&mut dx),
                    w_ih: target(&mut dw_ih),
                    w_hh: target(&mut dw_hh),
                    bias: target(&mut db),
                    ..LstmGradients::default()
                };
                lstm_backward(
                    level,
                    sequence,
                    &weights,
                    &w_hh_t,
                    &x,
                    None,
                    saved,
                    &y,
                    &dy,
                    None,
                    gradients,
                    &mut scratch,
                    false,
                );
            } else {
                let weights = GruWeights {
                    w_ih: &w_ih,
                    w_hh: &w_hh,
                    bias,
                };
                let gradients = GruGradients {
                    x: target(&mut dx),
                    w_ih: target(&mut dw_ih),
                    w_hh: target(&mut dw_hh),
                    bias: target(&mut db),
                    ..GruGradients::default()
                };
                gru_backward(
                    level,
                    sequence,
                    &weights,
                    &w_hh_t,
                    &x,
                    None,
                    GruSaved { blocks: &mut kept },
                    &y,
                    &dy,
                    gradients,
                    &mut scratch[..rows * hidden],
                    false,
                );
            }
        }) - copy;
        let flops = (2 * steps * rows * 2 * hidden * gates * hidden) as f64 * 1e-9;
        println!(
            "{:6} {steps:5} {rows:4} {hidden:5} {:12.2} {:9.1} {:12.2} {:9.1}",
            if gates == 4 { "lstm" } else { "gru" },
            forward * 1e3,
            flops / forward,
            backward * 1e3,
            2.0 * flops / backward
        );
    }
}
