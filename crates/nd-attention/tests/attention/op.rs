//! Attention on a tape: gradients, options, threads.

use crate::common::{Case, shape};
use nd_attention::{AttentionExt, AttentionOptions, AttentionShape};
use nd_core::autograd::{Mode, StepContext, Tape};
use nd_core::rng::Key;
use nd_core::{AttentionKind, Threads};
use nd_testing::{GradInput, assert_close, cases::normals, gradcheck};

fn inputs(shape: &AttentionShape) -> [GradInput; 3] {
    let s = shape;
    [
        GradInput::normal(1, &[s.batch, s.queries, s.heads * s.head_dim]),
        GradInput::normal(2, &[s.batch, s.keys, s.heads * s.head_dim]),
        GradInput::normal(3, &[s.batch, s.keys, s.heads * s.value_dim]),
    ]
}

/// Small shapes of both layouts.
fn shapes() -> [AttentionShape; 3] {
    let interleaved = shape(2, 2, (3, 4), (2, 3));
    let groups = shape(5, 4, (2, 2), (1, 1));
    // Heads of two thousand channels would take minutes; long keys with one channel reach the other layout as well.
    let plain = shape(1, 2, (1, 110), (1, 1));
    assert_ne!(interleaved.score_layout(), plain.score_layout());
    [interleaved, groups, plain]
}

#[test]
fn gradients_of_q_k_and_v() {
    for shape in shapes() {
        let options = AttentionOptions::new(shape.heads);
        gradcheck("attention", &inputs(&shape), |_, vars| {
            vars[0].attention(vars[1], vars[2], &options, None).0
        });
        gradcheck("causal attention", &inputs(&shape), |_, vars| {
            let options = options.causal().scale(0.3);
            vars[0].attention(vars[1], vars[2], &options, None).0
        });
    }
}

#[test]
fn gradients_of_one_value_in_three_places() {
    let x = [GradInput::normal(1, &[2, 3, 4])];
    gradcheck("self-attention", &x, |_, vars| {
        let x = vars[0];
        let again = x.reshape([2, 3, 4]);
        x.attention(again, x, &AttentionOptions::new(2), None).0
    });
}

#[test]
fn gradients_of_residual_scores() {
    for shape in shapes() {
        let [q, k, v] = inputs(&shape);
        let scores = GradInput::normal(4, &shape.scores_shape());
        let options = AttentionOptions::new(shape.heads).with_scores();
        gradcheck("residual attention", &[q, k, v, scores], |_, vars| {
            let &[q, k, v, residual] = vars else {
                unreachable!("four inputs were given")
            };
            let (_, scores) = q.attention(k, v, &options, Some(residual));
            // A second layer, so that the scores' gradient comes from two sides, and a third that adds to them.
            let (_, scores) = q.attention(k, v, &options.causal(), scores);
            q.attention(k, v, &options, scores).0
        });
    }
}

#[test]
fn gradients_where_only_some_inputs_take_one() {
    let shape = shape(2, 2, (3, 3), (4, 4));
    let fixed = normals::<f64>(7, 2 * 3 * 8);
    for wanted in 0..3 {
        let input = [GradInput::normal(1, &[2, 3, 8])];
        gradcheck("attention of one variable", &input, |tape, vars| {
            let constant = tape.input([2, 3, 8], &fixed);
            let mut all = [constant; 3];
            all[wanted] = vars[0];
            let options = AttentionOptions::new(shape.heads);
            all[0].attention(all[1], all[2], &options, None).0
        });
    }
}

#[test]
fn gradients_with_dropout() {
    for shape in shapes() {
        let options = AttentionOptions::new(shape.heads).dropout(0.4);
        gradcheck("attention with dropout", &inputs(&shape), |_, vars| {
            vars[0].attention(vars[1], vars[2], &options, None).0
        });
    }
}

fn context(parallel: bool) -> StepContext<f32> {
    let mut context = StepContext::new(None);
    context.parallel = parallel;
    context.key = Key::new(5);
    context
}

/// Three layers on a tape; returns the output and the gradients of the inputs.
fn three_layers(
    context: StepContext<f32>,
    (batch, heads): (usize, usize),
    dropout: f64,
) -> [Vec<f32>; 4] {
    let mut tape = Tape::<f32>::default();
    tape.begin(context);
    let len = batch * 12 * heads * 8;
    let (root, inputs, y, dy) = {
        let [q, k, v] = [1, 2, 3].map(|seed| {
            let values = tape.pool().take_copy(&normals::<f32>(seed, len));
            tape.variable([batch, 12, heads * 8], values)
        });
        let options = AttentionOptions::new(heads).dropout(dropout).with_scores();
        let (x, scores) = q.attention(k, v, &options, None);
        let (x, scores) = x.attention(k, v, &options, scores);
        let (x, _) = x.attention(k, v, &options, scores);
        let dy = tape.pool().take_copy(&normals::<f32>(9, len));
        (x.id(), [q.id(), k.id(), v.id()], x.value().to_vec(), dy)
    };
    tape.backward(root, dy, None);
    let gradient = |id| tape.gradient(id).map_or(Vec::new(), |x| x.to_vec());
    let [dq, dk, dv] = inputs.map(gradient);
    [y, dq, dk, dv]
}

#[test]
fn threads_and_kinds_do_not_change_bits() {
    let expected = three_layers(context(false), (70, 16), 0.1);
    for count in [1, 2, 3] {
        let threads = Threads::new(Some(count)).expect("threads");
        let found = threads.install(|| three_layers(context(true), (70, 16), 0.1));
        assert!(found == expected, "{count} threads");
    }
    for kind in [AttentionKind::Flash, AttentionKind::Standard] {
        let mut context = context(false);
        context.options.attention = kind;
        assert!(
            three_layers(context, (70, 16), 0.1) == expected,
            "both kinds run standard attention"
        );
    }
}

#[test]
fn a_shard_drops_what_the_whole_batch_would() {
    let tape_output = |first_row: usize, values: &[f32], batch: usize| {
        let mut context = context(false);
        context.first_row = first_row;
        let mut tape = Tape::<f32>::default();
        tape.begin(context);
        let x = tape.input([batch, 4, 6], values);
        let options = AttentionOptions::new(3).dropout(0.5);
        x.attention(x, x, &options, None).0.value().to_vec()
    };
    let values = normals::<f32>(1, 9 * 24);
    let whole = tape_output(0, &values, 9);
    let shard = tape_output(4, &values[4 * 24..], 5);
    assert_eq!(whole[4 * 24..], shard);
}

#[test]
fn inference_does_not_drop() {
    let case = Case::random(shape(2, 2, (5, 5), (4, 4)), false);
    let mut tape = Tape::<f64>::default();
    let mut context = StepContext::new(None);
    context.mode = Mode::Infer;
    tape.begin(context);
    let [q, k, v] = [&case.q, &case.k, &case.v].map(|x| tape.input([2, 5, 8], x));
    let (y, _) = q.attention(k, v, &AttentionOptions::new(2).dropout(0.5), None);
    assert_close(
        "output",
        &y.value(),
        &case.reference().0.output,
        1e-12,
        1e-12,
    );
}

#[test]
#[should_panic(expected = "attention with 3 heads cannot divide the channels of q [2, 5, 8]")]
fn heads_must_divide_the_channels() {
    let tape = Tape::<f32>::default();
    let x = tape.input([2, 5, 8], &[0.0; 80]);
    let _ = x.attention(x, x, &AttentionOptions::new(3), None);
}

#[test]
#[should_panic(expected = "expected [B, N_q, H d], [B, N_k, H d], [B, N_k, H d_v]")]
fn keys_and_values_must_be_as_many() {
    let tape = Tape::<f32>::default();
    let x = tape.input([2, 5, 8], &[0.0; 80]);
    let v = tape.input([2, 4, 8], &[0.0; 64]);
    let _ = x.attention(x, v, &AttentionOptions::new(2), None);
}

#[test]
#[should_panic(expected = "residual scores of an attention of")]
fn residual_scores_of_another_shape_are_refused() {
    let tape = Tape::<f32>::default();
    let x = tape.input([2, 5, 8], &[0.0; 80]);
    let y = tape.input([2, 4, 8], &[0.0; 64]);
    let options = AttentionOptions::new(2).with_scores();
    let (_, scores) = x.attention(x, x, &options, None);
    let _ = y.attention(y, y, &options, scores);
}

/// Long enough for flash attention; narrow, so that differences are cheap.
fn long(causal: bool) -> AttentionShape {
    shape(1, 1, (2, if causal { 96 } else { 512 }), (1, 1))
}

#[test]
fn gradients_of_flash_attention() {
    for causal in [false, true] {
        let mut options = AttentionOptions::new(1);
        options.causal = causal;
        gradcheck("flash attention", &inputs(&long(causal)), |_, vars| {
            vars[0].attention(vars[1], vars[2], &options, None).0
        });
        if !causal {
            continue;
        }
        let dropping = options.dropout(0.4);
        gradcheck(
            "flash attention with dropout",
            &inputs(&long(causal)),
            |_, vars| vars[0].attention(vars[1], vars[2], &dropping, None).0,
        );
    }
    let x = [GradInput::normal(1, &[1, 100, 2])];
    gradcheck("flash self-attention", &x, |_, vars| {
        let x = vars[0];
        let again = x.reshape([1, 100, 2]);
        x.attention(again, x, &AttentionOptions::new(1).causal(), None)
            .0
    });
}

/// Output and gradients of self-attention of three values of 520 tokens.
fn attention_of_kind(kind: AttentionKind, causal: bool, dropout: f64) -> [Vec<f32>; 4] {
    let mut tape = Tape::<f32>::default();
    let mut context = context(false);
    context.options.attention = kind;
    tape.begin(context);
    let (root, inputs, y, dy) = {
        let [q, k, v] = [1, 2, 3].map(|seed| {
            let values = tape.pool().take_copy(&normals::<f32>(seed, 2 * 520 * 32));
            tape.variable([2, 520, 32], values)
        });
        let mut options = AttentionOptions::new(4).dropout(dropout);
        options.causal = causal;
        let (y, _) = q.attention(k, v, &options, None);
        let dy = tape.pool().take_copy(&normals::<f32>(4, y.shape().numel()));
        (y.id(), [q.id(), k.id(), v.id()], y.value().to_vec(), dy)
    };
    tape.backward(root, dy, None);
    let gradient = |id| tape.gradient(id).expect("a gradient").to_vec();
    [
        y,
        gradient(inputs[0]),
        gradient(inputs[1]),
        gradient(inputs[2]),
    ]
}

#[test]
fn both_kinds_agree_on_long_sequences() {
    for causal in [false, true] {
        for dropout in [0.0, 0.3] {
            let flash = attention_of_kind(AttentionKind::Flash, causal, dropout);
            let standard = attention_of_kind(AttentionKind::Standard, causal, dropout);
            for (what, (a, b)) in ["y", "dq", "dk", "dv"]
                .iter()
                .zip(flash.iter().zip(&standard))
            {
                assert!(
                    a != b,
                    "{what}: both kinds gave the same bits, so one of them ran twice"
                );
                for (&a, &b) in a.iter().zip(b) {
                    assert!((a - b).abs() <= 2e-5, "{what}: {a} and {b}");
                }
            }
        }
    }
}

#[test]
fn gradients_of_residual_scores_through_flash_attention() {
    for causal in [false, true] {
        // Wide enough for scores in `[B, H, N_q, N_k]`, which a bias may be.
        let keys = if causal { 96 } else { 512 };
        let shape = shape(1, 1, (2, keys), (9, 2));
        if shape.score_layout() != nd_attention::ScoreLayout::Plain {
            continue;
        }
        let mut options = AttentionOptions::new(1);
        options.causal = causal;
        let [q, k, v] = [1, 2, 3].map(|seed| {
            let (tokens, channels) = [(2, 9), (keys, 9), (keys, 2)][seed as usize - 1];
            normals::<f64>(seed, tokens * channels)
        });
        let scores = GradInput::normal(4, &shape.scores_shape());
        gradcheck(
            "flash attention of residual scores",
            &[scores],
            |tape, vars| {
                let q = tape.input([1, 2, 9], &q);
                let k = tape.input([1, keys, 9], &k);
                let v = tape.input([1, keys, 2], &v);
                q.attention(k, v, &options, Some(vars[0])).0
            },
        );
    }
}

/// Output and all gradients of two layers with residual scores, the second without scores of its own.
fn residual_layers(kind: AttentionKind, shared: bool) -> Vec<Vec<f32>> {
    let (n, heads, dim) = (520, 2, 32);
    let mut tape = Tape::<f32>::default();
    let mut context = context(false);
    context.options.attention = kind;
    tape.begin(context);
    let (root, inputs, y, dy) = {
        let value_channels = if shared { dim } else { heads * dim };
        let [q, k, v] =
            [(1, heads * dim), (2, heads * dim), (3, value_channels)].map(|(seed, channels)| {
                let values = tape.pool().take_copy(&normals::<f32>(seed, n * channels));
                tape.variable([1, n, channels], values)
            });
        let mut options = AttentionOptions::new(heads);
        options.shared_values = shared;
        let (x, scores) = q.attention(k, v, &options.with_scores(), None);
        let (y, none) = x.attention(k, v, &options, scores);
        assert!(none.is_none());
        let dy = tape.pool().take_copy(&normals::<f32>(9, y.shape().numel()));
        (y.id(), [q.id(), k.id(), v.id()], y.value().to_vec(), dy)
    };
    tape.backward(root, dy, None);
    let mut found = vec![y];
    found.extend(inputs.map(|id| tape.gradient(id).expect("a gradient").to_vec()));
    found
}

#[test]
fn both_kinds_agree_on_residual_scores_and_shared_values() {
    for shared in [false, true] {
        let flash = residual_layers(AttentionKind::Flash, shared);
        let standard = residual_layers(AttentionKind::Standard, shared);
        assert!(flash[0] != standard[0], "one kind ran twice");
        for (what, (a, b)) in ["y", "dq", "dk", "dv"]
            .iter()
            .zip(flash.iter().zip(&standard))
        {
            let size = b.iter().fold(1.0_f32, |size, x| size.max(x.abs()));
            for (&a, &b) in a.iter().zip(b) {
                assert!((a - b).abs() <= 3e-5 * size, "{what}: {a} and {b}");
            }
        }
    }
}

#[test]
fn gradients_of_shared_values() {
    for causal in [false, true] {
        let inputs = [
            GradInput::normal(1, &[2, 3, 4]),
            GradInput::normal(2, &[2, 5, 4]),
            GradInput::normal(3, &[2, 5, 3]),
        ];
        let mut options = AttentionOptions::new(2).shared_values();
        options.causal = causal;
        gradcheck("attention with shared values", &inputs, |_, vars| {
            vars[0].attention(vars[1], vars[2], &options, None).0
        });
    }
    let long = [
        GradInput::normal(1, &[1, 2, 2]),
        GradInput::normal(2, &[1, 100, 2]),
        GradInput::normal(3, &[1, 100, 1]),
    ];
    let options = AttentionOptions::new(2).shared_values().causal();
    gradcheck("flash attention with shared values", &long, |_, vars| {
        vars[0].attention(vars[1], vars[2], &options, None).0
    });
}
