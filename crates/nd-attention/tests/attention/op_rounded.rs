//! Attention over few keys on a tape in sixteen bits, beside the same in f32 from the same rounded inputs: two layers, of which the second
//! adds the scores of the first to its own.

use nd_attention::{AttentionExt, AttentionOptions, AttentionShape, ScoreLayout};
use nd_core::autograd::{StepContext, Tape};
use nd_core::rng::Key;
use nd_core::{Precision, SimdLevel, Threads, bf16, f16};
use nd_simd::ops::prelude::*;
use nd_testing::cases::normals;

use crate::common::rounded::rounded;

fn round(precision: Precision, x: f32) -> f32 {
    match precision {
        Precision::F32 => x,
        Precision::Bf16 => bf16::from_f32(x).to_f32(),
        Precision::F16 => f16::from_f32(x).to_f32(),
    }
}

#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    tokens: usize,
    heads: usize,
    head_dim: usize,
}

impl Case {
    fn len(self) -> usize {
        self.batch * self.tokens * self.heads * self.head_dim
    }
}

struct Found {
    /// Scores of the first layer and output of the second.
    scores: Vec<f32>,
    y: Vec<f32>,
    first: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    format: Precision,
}

/// `y = attention(a, b, c, scores of attention(a, b, c))` plus the first layer's output as queries of nothing else; the inputs are numbers of
/// `inputs`, the tape is in `precision`.
fn run(
    case: Case,
    inputs: Precision,
    precision: Precision,
    level: SimdLevel,
    parallel: bool,
    options: &AttentionOptions,
) -> Found {
    let mut context = StepContext::new(None);
    context.parallel = parallel;
    context.first_row = 2;
    context.key = Key::new(5);
    context.options.precision = precision;
    context.options.simd = level;
    let mut tape = Tape::<f32>::default();
    tape.begin(context);
    let width = case.heads * case.head_dim;
    let (mut found, root, ids) = {
        let ids: Vec<_> = (1..=3)
            .map(|seed| {
                let mut values = tape.pool().take_copy(&normals::<f32>(seed, case.len()));
                for x in values.iter_mut() {
                    *x = round(inputs, *x);
                }
                tape.variable([case.batch, case.tokens, width], values)
            })
            .collect();
        let [q, k, v] = [0, 1, 2].map(|i| rounded(ids[i]));
        let with_scores = options.with_scores();
        let (first, scores) = q.attention(k, v, &with_scores, None);
        // The first layer's output is the second's values, so that its gradient comes from there and the scores' from both.
        let (y, _) = q.attention(k, first, options, scores);
        let scores = scores.expect("asked for").value().to_vec();
        let found = Found {
            scores,
            y: y.value().to_vec(),
            first: first.value().to_vec(),
            gradients: Vec::new(),
            format: y.stored().precision(),
        };
        let ids: Vec<_> = ids.iter().map(|x| x.id()).collect();
        (found, y.id(), ids)
    };
    let dy = tape.pool().take_copy(&normals::<f32>(9, case.len()));
    tape.backward(root, dy, None);
    found.gradients = ids
        .into_iter()
        .map(|id| tape.gradient(id).expect("a gradient").to_vec())
        .collect();
    found
}

/// The length of the difference over that of the exact numbers, or of numbers of a tenth where these are smaller: scores and outputs of the first layer are rounded, and each gradient once or
/// twice on its way.
fn distance(found: &[f32], exact: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    norm(&mut found.iter().zip(exact).map(|(a, b)| a - b))
        / norm(&mut exact.iter().copied()).max(0.1 * (exact.len() as f64).sqrt())
}

/// Rows that fill no group, groups that span rows, a last block that is not whole.
const CASES: [Case; 4] = [
    Case {
        batch: 29,
        tokens: 12,
        heads: 16,
        head_dim: 8,
    },
    Case {
        batch: 37,
        tokens: 5,
        heads: 3,
        head_dim: 4,
    },
    Case {
        batch: 3,
        tokens: 9,
        heads: 2,
        head_dim: 6,
    },
    Case {
        batch: 170,
        tokens: 4,
        heads: 4,
        head_dim: 8,
    },
];

#[test]
fn output_and_gradients_are_those_of_f32() {
    for case in CASES {
        let plain = AttentionOptions::new(case.heads);
        for options in [plain, plain.causal().scale(0.2), plain.dropout(0.3)] {
            for (half, near) in [(Precision::Bf16, 0.02), (Precision::F16, 0.0025)] {
                for level in nd_testing::levels() {
                    let exact = run(case, half, Precision::F32, level, false, &options);
                    let found = run(case, half, half, level, false, &options);
                    assert_eq!(found.format, half);
                    // Nothing is rounded before the first layer's results are: they have the bits of f32, rounded.
                    let firsts = [
                        ("scores", &found.scores, &exact.scores),
                        ("first output", &found.first, &exact.first),
                    ];
                    for (name, found, exact) in firsts {
                        let rounded: Vec<_> = exact.iter().map(|&x| round(half, x)).collect();
                        assert!(*found == rounded, "{name} in {half} at {level}");
                    }
                    let names = ["output", "dq", "dk", "dv"];
                    let all = std::iter::once(&found.y).chain(&found.gradients);
                    let exact = std::iter::once(&exact.y).chain(&exact.gradients);
                    for ((name, found), exact) in names.into_iter().zip(all).zip(exact) {
                        assert_eq!(found.len(), case.len(), "{name}");
                        let off = distance(found, exact);
                        assert!(off <= near, "{half} {level} {name}: {off:e}, {options:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in CASES {
        let options = AttentionOptions::new(case.heads).dropout(0.1);
        for half in [Precision::Bf16, Precision::F16] {
            let level = SimdLevel::best();
            let expected = run(case, half, half, level, false, &options);
            for count in [1, 2, 3] {
                let threads = Threads::new(Some(count)).expect("threads");
                let found = threads.install(|| run(case, half, half, level, true, &options));
                assert!(found.y == expected.y, "{count} threads");
                assert!(found.gradients == expected.gradients, "{count} threads");
            }
        }
    }
}

#[test]
fn the_cases_are_of_few_keys() {
    for case in CASES {
        let shape = AttentionShape {
            batch: case.batch,
            heads: case.heads,
            queries: case.tokens,
            keys: case.tokens,
            head_dim: case.head_dim,
            value_dim: case.head_dim,
        };
        assert_eq!(shape.score_layout(), ScoreLayout::Interleaved);
    }
}

/// Queries and keys of different numbers, values of another width than keys.
const CROSS: AttentionShape = AttentionShape {
    batch: 21,
    heads: 3,
    queries: 6,
    keys: 9,
    head_dim: 4,
    value_dim: 5,
};

/// What else becomes of the queries.
#[derive(Clone, Copy, PartialEq)]
enum Queries {
    /// Nothing.
    Alone,
    /// An op that gives gradients in f32 reads them first in the backward pass.
    Shared,
}

/// Output and gradients of q, k and v; the one that is `constant` has none. `dy` is scaled.
fn cross(
    precision: Precision,
    half: Precision,
    value_dim: usize,
    constant: Option<usize>,
    queries: Queries,
    scale: f32,
) -> (Vec<f32>, [Option<Vec<f32>>; 3]) {
    let shape = AttentionShape { value_dim, ..CROSS };
    assert_eq!(shape.score_layout(), ScoreLayout::Interleaved);
    let mut context = StepContext::new(None);
    context.options.precision = precision;
    let mut tape = Tape::<f32>::default();
    tape.begin(context);
    let (root, ids, y) = {
        let sizes = [
            (shape.queries, shape.head_dim),
            (shape.keys, shape.head_dim),
            (shape.keys, shape.value_dim),
        ];
        let inputs = [0, 1, 2].map(|i| {
            let dims = [shape.batch, sizes[i].0, shape.heads * sizes[i].1];
            let mut values = tape
                .pool()
                .take_copy(&normals::<f32>(i as u64 + 1, dims.iter().product()));
            for x in values.iter_mut() {
                *x = round(half, *x);
            }
            if constant == Some(i) {
                tape.constant(dims, values)
            } else {
                tape.variable(dims, values)
            }
        });
        let [q, k, v] = inputs.map(rounded);
        let (y, _) = q.attention(k, v, &AttentionOptions::new(shape.heads), None);
        let y = match queries {
            Queries::Alone => y,
            Queries::Shared => y.add_dropout(q.softmax(), 0.0),
        };
        (y.id(), inputs.map(|x| x.id()), y.value().to_vec())
    };
    let mut dy = tape.pool().take_copy(&normals::<f32>(9, y.len()));
    dy.iter_mut().for_each(|x| *x *= scale);
    tape.backward(root, dy, None);
    let gradients = ids.map(|id| tape.gradient(id).map(|x| x.to_vec()));
    (y, gradients)
}

#[test]
fn any_lengths_and_widths_and_inputs_without_gradients() {
    for (half, near) in [(Precision::Bf16, 0.02), (Precision::F16, 0.0025)] {
        let cases = [None, Some(0), Some(1), Some(2)]
            .map(|constant| (5, constant, Queries::Alone))
            .into_iter()
            .chain([(4, None, Queries::Shared), (4, Some(1), Queries::Shared)]);
        for (value_dim, constant, queries) in cases {
            let run = |precision| cross(precision, half, value_dim, constant, queries, 1.0);
            let ((y, gradients), (exact_y, exact)) = (run(half), run(Precision::F32));
            assert!(distance(&y, &exact_y) <= near);
            for (i, (found, exact)) in gradients.iter().zip(&exact).enumerate() {
                assert_eq!(found.is_none(), constant == Some(i));
                assert_eq!(found.is_none(), exact.is_none());
                if let (Some(found), Some(exact)) = (found, exact) {
                    let off = distance(found, exact);
                    assert!(off <= near, "{half}, input {i}, {constant:?}: {off:e}");
                }
            }
        }
    }
}

/// What the check of the loss scale looks for: a gradient that f16 cannot hold becomes infinite, not a large number.
#[test]
fn gradients_beyond_f16_are_not_finite() {
    let run = |precision| cross(precision, Precision::F16, 5, None, Queries::Alone, 3e4);
    let ((_, found), (_, exact)) = (run(Precision::F16), run(Precision::F32));
    let [_, _, Some(found)] = found else {
        panic!("v takes a gradient")
    };
    let [_, _, Some(exact)] = exact else {
        panic!("v takes a gradient")
    };
    let beyond = |x: &f32| x.abs() > 70_000.0;
    assert!(exact.iter().any(beyond), "the case overflows");
    for (found, exact) in found.iter().zip(&exact) {
        assert!(!beyond(exact) || !found.is_finite(), "{found} for {exact}");
    }
}
