//! The slice kernels against the specification: every level, both precisions, both layouts.

mod common;

use common::{Case, TOLERANCE_F64, shape};
use nd_attention::{Dropout, ForwardOutputs, ScoreLayout, StandardAttention, Tokens};
use nd_core::rng::Key;
use nd_core::{SimdLevel, Threads};
use nd_testing::{assert_close, cases::normals};

#[test]
fn every_length_up_to_two_vectors_and_one() {
    for tokens in 1..=33 {
        for dim in [1, 3, 8] {
            let heads = 1 + tokens % 4;
            let mut case = Case::random(
                shape(2, heads, (tokens, tokens), (dim, dim)),
                tokens % 2 == 0,
            );
            case.causal = tokens % 3 == 0;
            case.check();
        }
    }
}

#[test]
fn larger_heads() {
    for tokens in [1, 2, 7, 12, 16, 17, 31, 33] {
        for dim in [16, 64] {
            for heads in [1, 2, 3, 4] {
                let residual = (tokens + heads) % 2 == 0;
                let mut case =
                    Case::random(shape(2, heads, (tokens, tokens), (dim, dim)), residual);
                case.causal = heads == 2;
                case.check();
            }
        }
    }
}

#[test]
fn both_layouts_are_tested() {
    let layout =
        |tokens: usize, dim: usize| shape(2, 2, (tokens, tokens), (dim, dim)).score_layout();
    assert_eq!(layout(12, 8), ScoreLayout::Interleaved);
    assert_eq!(layout(33, 64), ScoreLayout::Plain);
}

#[test]
fn queries_and_keys_of_different_lengths_and_channels() {
    for (queries, keys) in [
        (1, 9),
        (9, 1),
        (5, 24),
        (24, 5),
        (13, 12),
        (40, 70),
        (70, 40),
    ] {
        for (head_dim, value_dim) in [(4, 8), (8, 3), (64, 32)] {
            for causal in [false, true] {
                let mut case =
                    Case::random(shape(2, 3, (queries, keys), (head_dim, value_dim)), causal);
                case.causal = causal;
                case.check();
            }
        }
    }
}

#[test]
fn patchtst_with_whole_and_broken_groups() {
    for (batch, heads) in [(3, 16), (5, 8), (7, 4), (4, 5), (1, 1), (33, 1), (2, 24)] {
        Case::random(shape(batch, heads, (12, 12), (8, 8)), true).check();
    }
}

#[test]
fn long_sequences() {
    for (tokens, dim) in [(64, 8), (96, 32), (130, 16)] {
        let mut case = Case::random(shape(1, 2, (tokens, tokens), (dim, dim)), true);
        case.check();
        case.causal = true;
        case.check();
    }
}

#[test]
fn nothing_to_do() {
    for (batch, queries, keys) in [(0, 3, 3), (2, 0, 3), (2, 3, 0)] {
        Case::random(shape(batch, 2, (queries, keys), (4, 4)), false).check();
        Case::random(shape(batch, 2, (queries, keys), (2000, 4)), false).check();
    }
}

#[test]
fn dropout_is_the_same_forward_and_backward() {
    for (tokens, dim, heads) in [(12, 8, 16), (5, 3, 3), (40, 64, 2), (20, 2, 1)] {
        for rate in [0.1, 0.75] {
            let mut case = Case::random(shape(3, heads, (tokens, tokens), (dim, dim)), true);
            case.dropout = Some(Dropout {
                rate,
                key: Key {
                    seed: 11,
                    step: 3,
                    op: 2,
                },
                first_row: 5,
            });
            case.check();
            case.causal = true;
            case.check();
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    for (batch, tokens, dim, heads) in [
        (300, 12, 8, 16),
        (70, 12, 8, 3),
        (20, 40, 64, 2),
        (2, 150, 64, 3),
    ] {
        let mut case = Case::random(shape(batch, heads, (tokens, tokens), (dim, dim)), true);
        case.dropout = Some(Dropout {
            rate: 0.2,
            key: Key::new(1),
            first_row: 0,
        });
        let level = SimdLevel::best();
        let alone = case.run::<f32>(level, false, false);
        for count in [1, 2, 3] {
            let threads = Threads::new(Some(count)).expect("threads");
            let found = threads.install(|| case.run::<f32>(level, true, false));
            let same = |a: &[f64], b: &[f64]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            };
            assert!(same(&found.scores, &alone.scores), "{count} threads");
            assert!(same(&found.output, &alone.output), "{count} threads");
            assert!(same(&found.dscores, &alone.dscores), "{count} threads");
            assert!(same(&found.dq, &alone.dq), "{count} threads");
            assert!(same(&found.dk, &alone.dk), "{count} threads");
            assert!(same(&found.dv, &alone.dv), "{count} threads");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let case = Case::random(shape(9, 4, (12, 12), (8, 8)), false);
    let level = SimdLevel::best();
    let whole = case.run::<f32>(level, false, false);
    for b in [0, 4, 8] {
        let mut one = Case::random(shape(1, 4, (12, 12), (8, 8)), false);
        let of_row = b * 12 * 32..(b + 1) * 12 * 32;
        one.q = case.q[of_row.clone()].to_vec();
        one.k = case.k[of_row.clone()].to_vec();
        one.v = case.v[of_row.clone()].to_vec();
        let found = one.run::<f32>(level, false, false);
        assert_eq!(found.output, whole.output[of_row], "row {b}");
    }
}

/// Scores of a residual: the rows of PatchTST's and of a large layout.
fn layouts() -> [nd_attention::AttentionShape; 2] {
    [shape(2, 3, (5, 5), (4, 4)), shape(2, 3, (40, 40), (64, 64))]
}

#[test]
fn a_row_of_minus_infinities_gives_zeros() {
    for shape in layouts() {
        let mut case = Case::random(shape, true);
        let residual = case.residual.as_mut().expect("it has one");
        residual[shape.keys..2 * shape.keys].fill(f64::NEG_INFINITY);
        residual[3 * shape.keys] = f64::NEG_INFINITY;
        for level in nd_testing::levels() {
            let (values, gradients) = case.reference();
            let found = case.run::<f64>(level, false, false);
            assert!(found.output.iter().all(|x| x.is_finite()), "{level}");
            let channels = shape.heads * shape.value_dim;
            let row = &found.output[channels..channels + shape.value_dim];
            assert!(row.iter().all(|&x| x == 0.0), "{level}: {row:?}");
            let close = |what: &str, found: &[f64], expected: &[f64]| {
                assert_close(what, found, expected, TOLERANCE_F64, TOLERANCE_F64);
            };
            close("output", &found.output, &values.output);
            close("dv", &found.dv, &gradients.dv);
            close("dscores", &found.dscores, &gradients.dscores);
        }
    }
}

#[test]
fn nan_spreads_over_its_row_and_no_further() {
    for shape in layouts() {
        for (at, poison) in [
            (2, f64::NAN),
            (0, f64::INFINITY),
            (shape.keys - 1, f64::NAN),
        ] {
            let mut case = Case::random(shape, true);
            case.from_above = None;
            // Query 1 of head 0 of row 0.
            case.residual.as_mut().expect("it has one")[shape.keys + at] = poison;
            for level in nd_testing::levels() {
                let found = case.run::<f32>(level, false, false);
                let channels = shape.heads * shape.value_dim;
                for (i, &y) in found.output.iter().enumerate() {
                    let hit = i / channels == 1 && i % channels < shape.value_dim;
                    assert_eq!(y.is_nan(), hit, "{level}: output {i} with {poison} at {at}");
                }
                for (i, &ds) in found.dscores.iter().enumerate() {
                    let hit = i / shape.keys == 1;
                    assert_eq!(
                        ds.is_nan(),
                        hit,
                        "{level}: dscores {i} with {poison} at {at}"
                    );
                }
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for shape in layouts() {
        let mut case = Case::random(shape, true);
        for x in case.residual.as_mut().expect("it has one") {
            *x *= 1e4;
        }
        for level in nd_testing::levels() {
            let (values, _) = case.reference();
            let found = case.run::<f64>(level, false, false);
            assert_close("output", &found.output, &values.output, 1e-11, 1e-11);
            let narrow = case.run::<f32>(level, false, false);
            assert!(narrow.output.iter().all(|x| x.is_finite()), "{level}");
            assert!(narrow.dq.iter().all(|x| x.is_finite()), "{level}");
        }
    }
}

#[test]
fn tokens_may_lie_with_gaps() {
    for (tokens, dim) in [(12, 8), (40, 64)] {
        let shape = shape(3, 2, (tokens, tokens), (dim, dim));
        let case = Case::random(shape, false);
        let expected = case.run::<f64>(SimdLevel::best(), false, false);
        // q, k and v side by side, as one linear layer would give them.
        let channels = 2 * dim;
        let mut packed = normals::<f64>(1, 3 * tokens * 3 * channels);
        for token in 0..3 * tokens {
            let at = token * 3 * channels;
            for (part, from) in [&case.q, &case.k, &case.v].into_iter().enumerate() {
                packed[at + part * channels..at + (part + 1) * channels]
                    .copy_from_slice(&from[token * channels..(token + 1) * channels]);
            }
        }
        let plan = StandardAttention {
            shape,
            scale: case.scale,
            causal: false,
            dropout: None,
            level: SimdLevel::best(),
            parallel: false,
        };
        let part = |i: usize| Tokens {
            data: &packed[i * channels..],
            stride: 3 * channels,
        };
        let mut output = vec![0.0; expected.output.len()];
        plan.forward(
            part(0),
            part(1),
            part(2),
            None,
            ForwardOutputs {
                scores: &mut vec![0.0; shape.scores_len()],
                stats: &mut vec![0.0; shape.stats_len()],
                output: &mut output,
                work: &mut vec![0.0; plan.forward_work_len()],
            },
        );
        assert_eq!(output, expected.output);
    }
}

#[test]
#[should_panic(expected = "k: 6 tokens of 8 channels with the stride 8 do not fit in 47 elements")]
fn a_short_slice_is_refused() {
    let shape = shape(2, 2, (3, 3), (4, 4));
    let plan = StandardAttention {
        shape,
        scale: 1.0f32,
        causal: false,
        dropout: None,
        level: SimdLevel::best(),
        parallel: false,
    };
    let x = [0.0; 48];
    plan.forward(
        Tokens::contiguous(&x, 8),
        Tokens::contiguous(&x[..47], 8),
        Tokens::contiguous(&x, 8),
        None,
        ForwardOutputs {
            scores: &mut vec![0.0; shape.scores_len()],
            stats: &mut vec![0.0; shape.stats_len()],
            output: &mut [0.0; 48],
            work: &mut [],
        },
    );
}
