//! A recurrent network step by step gives what it gives over the whole window.

use std::sync::Arc;

use nd_core::autograd::{Mode, Params, StepContext, Tape};
use nd_core::{Batch, Network, RecurrentNetwork};
use nd_models::ModelDims;
use nd_models::models::{Lstm, LstmConfig};
use nd_testing::assert_close;

#[test]
fn an_lstm_stepped_through_a_window_ends_with_its_forecast() {
    let (rows, input_size, horizon) = (5, 9, 4);
    let dims = ModelDims::univariate(input_size, horizon).with_outputs(2);
    let config = LstmConfig {
        encoder_hidden_size: 6,
        decoder_hidden_size: 3,
        ..LstmConfig::default()
    };
    let network = Lstm::new(&config, &dims).expect("a network");
    let layout = Network::<f64>::layout(&network);
    let params = Arc::new(Params::<f64>::init(layout, 3));
    let mut batch = Batch::<f64>::new(dims.layout());
    batch.resize(rows);
    batch.insample_y = nd_testing::cases::normals(1, rows * input_size);
    let mut tape = Tape::default();
    tape.begin(StepContext {
        mode: Mode::Infer,
        ..StepContext::new(Some(params))
    });
    let whole = network.forward(&tape, &batch.all()); // [B, h, Q]

    let mut state = network.init_state(&tape, rows);
    for t in 0..input_size {
        let now: Vec<f64> = (0..rows)
            .map(|row| batch.insample_y[row * input_size + t])
            .collect();
        let (output, next) = network.step(tape.input([rows, 1], &now), state);
        state = next;
        let Some(step) = (t + horizon).checked_sub(input_size) else {
            continue;
        };
        for row in 0..rows {
            let expected = &whole.value()[(row * horizon + step) * 2..][..2];
            assert_close(
                "output",
                &output.value()[row * 2..][..2],
                expected,
                1e-12,
                1e-12,
            );
        }
    }
}
