//! Recurrent layers against one-number-at-a-time references, and their gradients against difference quotients.

use nd_core::autograd::Accumulate;
use nd_core::{Real, SimdLevel};
use nd_simd::SimdReal;
use nd_simd::permute::transpose;
use nd_simd::recurrent::{
    GradTarget, GruGradients, GruSaved, GruWeights, LstmGradients, LstmSaved, LstmState,
    LstmWeights, RnnActivation, RnnGradients, RnnWeights, Sequence, gru_backward, gru_forward,
    lstm_backward, lstm_forward, rnn_backward, rnn_forward,
};
use nd_simd::reference::recurrent as reference;

/// Numbers in (-1, 1).
fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        2.0 * f64::unit_from_bits(state.rotate_left(17)) - 1.0
    };
    (0..len).map(|_| next()).collect()
}

fn narrow<R: Real>(x: &[f64]) -> Vec<R> {
    x.iter().map(|&x| R::from_f64(x)).collect()
}

#[track_caller]
fn assert_close<R: Real>(found: &[R], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (x, y)) in found.iter().zip(expected).enumerate() {
        let error = (x.to_f64() - y).abs();
        assert!(
            error <= tolerance * y.abs().max(1.0),
            "{what}: element {i} is {x}, not {y}"
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    Tanh,
    Relu,
}

const CELLS: [Cell; 4] = [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu];

impl Cell {
    /// Blocks of columns of `w_ih` and `w_hh`, of the bias, and of what is saved.
    fn blocks(self) -> (usize, usize, usize) {
        match self {
            Self::Lstm => (4, 4, 4),
            Self::Gru => (3, 4, 4),
            Self::Tanh | Self::Relu => (1, 1, 0),
        }
    }

    fn activation(self) -> RnnActivation {
        if self == Self::Relu {
            RnnActivation::Relu
        } else {
            RnnActivation::Tanh
        }
    }
}

/// A layer's operands: `x, w_ih, w_hh, bias, h0, c0`.
struct Layer<R> {
    cell: Cell,
    sequence: Sequence,
    operands: [Vec<R>; 6],
    with_state: bool,
}

/// What the forward pass made.
struct Run<R> {
    y: Vec<R>,
    gates: Vec<R>,
    cells: Vec<R>,
}

impl<R: SimdReal> Layer<R> {
    fn new(cell: Cell, sequence: Sequence, with_state: bool) -> Self {
        let Sequence {
            steps,
            rows,
            input,
            hidden,
        } = sequence;
        let (weights, biases, _) = cell.blocks();
        let operands = [
            steps * rows * input,
            input * weights * hidden,
            hidden * weights * hidden,
            biases * hidden,
            rows * hidden,
            rows * hidden,
        ];
        let mut seed = 0;
        let operands = operands.map(|len| {
            seed += 1;
            narrow(&noise(len, seed))
        });
        Self {
            cell,
            sequence,
            operands,
            with_state,
        }
    }

    fn forward(&self, level: SimdLevel, parallel: bool) -> Run<R> {
        let Sequence {
            steps,
            rows,
            hidden,
            ..
        } = self.sequence;
        let [x, w_ih, w_hh, bias, h, c] = &self.operands;
        let bias = Some(&bias[..]);
        let nan = R::from_f64(f64::NAN);
        let mut y = vec![nan; steps * rows * hidden];
        let mut gates = vec![nan; steps * rows * self.cell.blocks().2 * hidden];
        let mut cells = vec![nan; if self.cell == Cell::Lstm { y.len() } else { 0 }];
        let h0 = self.with_state.then_some(&h[..]);
        match self.cell {
            Cell::Lstm => lstm_forward(
                level,
                self.sequence,
                &LstmWeights { w_ih, w_hh, bias },
                x,
                h0.map(|h| LstmState { h, c }),
                LstmSaved {
                    gates: &mut gates,
                    cells: &mut cells,
                },
                &mut y,
                parallel,
            ),
            Cell::Gru => gru_forward(
                level,
                self.sequence,
                &GruWeights { w_ih, w_hh, bias },
                x,
                h0,
                GruSaved { blocks: &mut gates },
                &mut y,
                parallel,
            ),
            Cell::Tanh | Cell::Relu => {
                let weights = RnnWeights {
                    w_ih,
                    w_hh,
                    bias,
                    activation: self.cell.activation(),
                };
                rnn_forward(level, self.sequence, &weights, x, h0, &mut y, parallel);
            }
        }
        Run { y, gates, cells }
    }

    /// The gradients of all operands, added to `start`.
    fn backward(
        &self,
        level: SimdLevel,
        mut run: Run<R>,
        (dy, dc): (&[R], &[R]),
        accumulate: Accumulate,
        start: R,
        parallel: bool,
    ) -> [Vec<R>; 6] {
        let Sequence {
            steps,
            rows,
            hidden,
            ..
        } = self.sequence;
        let [x, w_ih, w_hh, bias, h, c] = &self.operands;
        let bias = Some(&bias[..]);
        let mut gradients = [0, 1, 2, 3, 4, 5].map(|i| vec![start; self.operands[i].len()]);
        let [dx, dw_ih, dw_hh, db, dh0, dc0] = &mut gradients;
        let target = |values| Some(GradTarget { values, accumulate });
        let width = self.cell.blocks().0 * hidden;
        let mut w_hh_t = vec![R::ZERO; w_hh.len()];
        transpose(level, w_hh, hidden, width, &mut w_hh_t);
        let h0 = self.with_state.then_some(&h[..]);
        let mut scratch = vec![R::from_f64(f64::NAN); (steps + 1).max(2) * rows * hidden];
        match self.cell {
            Cell::Lstm => lstm_backward(
                level,
                self.sequence,
                &LstmWeights { w_ih, w_hh, bias },
                &w_hh_t,
                x,
                h0.map(|h| LstmState { h, c }),
                LstmSaved {
                    gates: &mut run.gates,
                    cells: &mut run.cells,
                },
                &run.y,
                dy,
                Some(dc),
                LstmGradients {
                    x: target(dx),
                    w_ih: target(dw_ih),
                    w_hh: target(dw_hh),
                    bias: target(db),
                    h0: target(dh0),
                    c0: target(dc0),
                },
                &mut scratch[..2 * rows * hidden],
                parallel,
            ),
            Cell::Gru => gru_backward(
                level,
                self.sequence,
                &GruWeights { w_ih, w_hh, bias },
                &w_hh_t,
                x,
                h0,
                GruSaved {
                    blocks: &mut run.gates,
                },
                &run.y,
                dy,
                GruGradients {
                    x: target(dx),
                    w_ih: target(dw_ih),
                    w_hh: target(dw_hh),
                    bias: target(db),
                    h0: target(dh0),
                },
                &mut scratch[..rows * hidden],
                parallel,
            ),
            Cell::Tanh | Cell::Relu => rnn_backward(
                level,
                self.sequence,
                &RnnWeights {
                    w_ih,
                    w_hh,
                    bias,
                    activation: self.cell.activation(),
                },
                &w_hh_t,
                x,
                h0,
                &run.y,
                dy,
                RnnGradients {
                    x: target(dx),
                    w_ih: target(dw_ih),
                    w_hh: target(dw_hh),
                    bias: target(db),
                    h0: target(dh0),
                },
                &mut scratch[..(steps + 1) * rows * hidden],
                parallel,
            ),
        }
        gradients
    }

    fn expected(&self) -> (Vec<f64>, Vec<f64>) {
        let Sequence {
            rows,
            input,
            hidden,
            ..
        } = self.sequence;
        let wide = self
            .operands
            .each_ref()
            .map(|x| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>());
        let [x, w_ih, w_hh, bias, h, c] = &wide;
        let zeros = vec![0.0; rows * hidden];
        let (h, c) = if self.with_state {
            (h, c)
        } else {
            (&zeros, &zeros)
        };
        let sizes = (rows, input, hidden);
        let weights = (&w_ih[..], &w_hh[..], &bias[..]);
        match self.cell {
            Cell::Lstm => reference::lstm(x, sizes, weights, (h, c)),
            Cell::Gru => (reference::gru(x, sizes, weights, h), Vec::new()),
            Cell::Tanh => (reference::rnn(x, sizes, weights, h, f64::tanh), Vec::new()),
            Cell::Relu => (
                reference::rnn(x, sizes, weights, h, |x| x.max(0.0)),
                Vec::new(),
            ),
        }
    }
}

fn sequences() -> Vec<Sequence> {
    let mut all = Vec::new();
    for (steps, rows, input, hidden) in [
        (1, 1, 1, 1),
        (4, 3, 2, 5),
        (3, 17, 1, 16),
        (2, 5, 33, 37),
        (5, 2, 4, 8),
        (0, 3, 2, 4),
    ] {
        all.push(Sequence {
            steps,
            rows,
            input,
            hidden,
        });
    }
    all
}

/// Errors grow with the number of steps; weights of size one make the layers chaotic rather than contracting.
const TOLERANCE_F32: f64 = 2e-4;
const TOLERANCE_F64: f64 = 1e-12;

fn check_forward<R: SimdReal>(tolerance: f64) {
    for level in nd_testing::levels() {
        for cell in CELLS {
            for sequence in sequences() {
                for with_state in [false, true] {
                    let layer = Layer::<R>::new(cell, sequence, with_state);
                    let run = layer.forward(level, false);
                    let (y, cells) = layer.expected();
                    let what = format!("{level} {} {cell:?} {sequence:?} {with_state}", R::DTYPE);
                    assert_close(&run.y, &y, tolerance, &what);
                    assert_close(&run.cells, &cells, tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn outputs_are_those_of_the_reference() {
    check_forward::<f32>(TOLERANCE_F32);
    check_forward::<f64>(TOLERANCE_F64);
}

/// The step of the central differences, and what they leave.
const STEP: f64 = 1e-5;
const GRADIENT_TOLERANCE: f64 = 1e-8;

#[test]
fn gradients_are_those_of_difference_quotients() {
    for level in [SimdLevel::Scalar, SimdLevel::best()] {
        for cell in CELLS {
            for (steps, rows, input, hidden) in [(1, 2, 1, 3), (4, 3, 2, 9)] {
                for with_state in [false, true] {
                    let sequence = Sequence {
                        steps,
                        rows,
                        input,
                        hidden,
                    };
                    let mut layer = Layer::<f64>::new(cell, sequence, with_state);
                    let dy = noise(steps * rows * hidden, 77);
                    let dc = noise(rows * hidden, 78);
                    let value = |layer: &Layer<f64>| -> f64 {
                        let run = layer.forward(level, false);
                        let last = run.cells.len().saturating_sub(rows * hidden);
                        run.y.iter().zip(&dy).map(|(y, d)| y * d).sum::<f64>()
                            + run.cells[last..]
                                .iter()
                                .zip(&dc)
                                .map(|(c, d)| c * d)
                                .sum::<f64>()
                    };
                    let run = layer.forward(level, false);
                    let found = layer.backward(level, run, (&dy, &dc), Accumulate::Add, 1.5, false);
                    let run = layer.forward(level, false);
                    let written =
                        layer.backward(level, run, (&dy, &dc), Accumulate::Write, f64::NAN, false);
                    for operand in 0..6 {
                        if cell != Cell::Lstm && operand == 5 {
                            continue;
                        }
                        for i in 0..layer.operands[operand].len() {
                            let x = layer.operands[operand][i];
                            layer.operands[operand][i] = x + STEP;
                            let above = value(&layer);
                            layer.operands[operand][i] = x - STEP;
                            let below = value(&layer);
                            layer.operands[operand][i] = x;
                            let mut expected = (above - below) / (2.0 * STEP);
                            if !with_state && operand >= 4 {
                                // The state was not read, but its gradient exists: it is checked with a state of zeros.
                                expected = written[operand][i];
                            }
                            for found in [found[operand][i] - 1.5, written[operand][i]] {
                                assert!(
                                    (found - expected).abs()
                                        <= GRADIENT_TOLERANCE * expected.abs().max(1.0),
                                    "{level} {cell:?} {sequence:?} {with_state} operand {operand}, \
                                     {i}: {found} instead of {expected}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn no_state_is_a_state_of_zeros() {
    let level = SimdLevel::best();
    for cell in CELLS {
        let sequence = Sequence {
            steps: 3,
            rows: 4,
            input: 2,
            hidden: 9,
        };
        let dy = noise(3 * 4 * 9, 5);
        let dc = noise(4 * 9, 6);
        let mut results = Vec::new();
        for with_state in [false, true] {
            let mut layer = Layer::<f64>::new(cell, sequence, with_state);
            layer.operands[4].fill(0.0);
            layer.operands[5].fill(0.0);
            let run = layer.forward(level, false);
            let y = run.y.clone();
            let gradients = layer.backward(level, run, (&dy, &dc), Accumulate::Write, 0.0, false);
            results.push((y, gradients));
        }
        for (a, b) in results[0].1.iter().zip(&results[1].1) {
            assert_close(a, b, 1e-14, &format!("{cell:?}"));
        }
        assert_close(&results[0].0, &results[1].0, 1e-14, &format!("{cell:?}"));
    }
}

#[test]
fn a_sequence_can_be_run_step_by_step() {
    let level = SimdLevel::best();
    let sequence = Sequence {
        steps: 5,
        rows: 3,
        input: 2,
        hidden: 7,
    };
    let layer = Layer::<f32>::new(Cell::Lstm, sequence, true);
    let whole = layer.forward(level, false);
    let [x, w_ih, w_hh, bias, h, c] = &layer.operands;
    let (mut h, mut c) = (h.clone(), c.clone());
    let mut gates = vec![0.0; 3 * 4 * 7];
    for t in 0..5 {
        let (mut next, mut cell) = (vec![0.0; 21], vec![0.0; 21]);
        lstm_forward(
            level,
            Sequence {
                steps: 1,
                ..sequence
            },
            &LstmWeights {
                w_ih,
                w_hh,
                bias: Some(bias),
            },
            &x[t * 6..][..6],
            Some(LstmState { h: &h, c: &c }),
            LstmSaved {
                gates: &mut gates,
                cells: &mut cell,
            },
            &mut next,
            false,
        );
        (h, c) = (next, cell);
        assert_eq!(h, whole.y[t * 21..][..21], "step {t}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let level = SimdLevel::best();
    for cell in CELLS {
        let sequence = Sequence {
            steps: 3,
            rows: 70,
            input: 40,
            hidden: 130,
        };
        let layer = Layer::<f32>::new(cell, sequence, true);
        let dy = narrow::<f32>(&noise(3 * 70 * 130, 5));
        let dc = narrow::<f32>(&noise(70 * 130, 6));
        let all = |parallel| {
            let run = layer.forward(level, parallel);
            let y = run.y.clone();
            (
                y,
                layer.backward(level, run, (&dy, &dc), Accumulate::Write, 0.5, parallel),
            )
        };
        let serial = all(false);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let parallel = pool.install(|| all(true));
            assert!(parallel == serial, "{cell:?} on {threads} threads");
        }
    }
}

#[test]
fn nan_stays_in_its_row() {
    for level in nd_testing::levels() {
        for cell in CELLS {
            let sequence = Sequence {
                steps: 3,
                rows: 4,
                input: 2,
                hidden: 5,
            };
            let mut layer = Layer::<f32>::new(cell, sequence, false);
            // Row 2 of the second step.
            layer.operands[0][(4 + 2) * 2] = f32::NAN;
            let y = layer.forward(level, false).y;
            for (i, y) in y.iter().enumerate() {
                let (step, row) = (i / 20, i / 5 % 4);
                assert_eq!(
                    y.is_nan(),
                    row == 2 && step >= 1,
                    "{level} {cell:?} element {i}"
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "elements of w_hh [7, 28]")]
fn a_weight_of_another_size_is_named() {
    let sequence = Sequence {
        steps: 1,
        rows: 3,
        input: 2,
        hidden: 7,
    };
    let mut layer = Layer::<f32>::new(Cell::Lstm, sequence, false);
    layer.operands[2].pop();
    let _ = layer.forward(SimdLevel::Scalar, false);
}
