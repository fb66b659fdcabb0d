//! Long attention on a tape in bf16, beside the same in f32 from the same rounded inputs.

use nd_attention::{AttentionExt, AttentionOptions};
use nd_core::autograd::{StepContext, StoredRef, Tape};
use nd_core::rng::Key;
use nd_core::{Precision, Threads, bf16};
use nd_testing::cases::normals;

use crate::common::rounded::rounded;

/// The largest difference from f32, in units of the largest number of a tensor: a few roundings to bf16, 2^-9 each.
const NEAR: f32 = 0.02;

const BATCH: usize = 2;
const TOKENS: usize = 530;
const HEADS: usize = 3;
const WIDTH: usize = HEADS * 8;
const LEN: usize = BATCH * TOKENS * WIDTH;

/// Output and gradients of q, k and v, or of the one value that all three are; whether the output was kept in bf16.
fn run(
    precision: Precision,
    parallel: bool,
    options: &AttentionOptions,
    one_value: bool,
) -> (Vec<Vec<f32>>, bool) {
    let mut context = StepContext::new(None);
    context.parallel = parallel;
    context.key = Key::new(5);
    context.options.precision = precision;
    let mut tape = Tape::<f32>::default();
    tape.begin(context);
    let (root, inputs, y, is_half) = {
        let inputs: Vec<_> = (1..=if one_value { 1 } else { 3 })
            .map(|seed| {
                let mut values = tape.pool().take_copy(&normals::<f32>(seed, LEN));
                for x in values.iter_mut() {
                    *x = bf16::from_f32(*x).to_f32();
                }
                tape.variable([BATCH, TOKENS, WIDTH], values)
            })
            .collect();
        let [q, k, v] = [0, 1, 2].map(|i| rounded(inputs[i.min(inputs.len() - 1)]));
        let [q, k, v] = if one_value { [q; 3] } else { [q, k, v] };
        let (y, _) = q.attention(k, v, options, None);
        let is_half = matches!(y.stored(), StoredRef::Bf16(_));
        let ids: Vec<_> = inputs.iter().map(|x| x.id()).collect();
        (y.id(), ids, y.value().to_vec(), is_half)
    };
    let dy = tape.pool().take_copy(&normals::<f32>(9, LEN));
    tape.backward(root, dy, None);
    let gradient = |id| tape.gradient(id).map_or(Vec::new(), |x| x.to_vec());
    let mut found = vec![y];
    found.extend(inputs.into_iter().map(gradient));
    (found, is_half)
}

#[test]
fn output_and_gradients_are_those_of_f32() {
    let plain = AttentionOptions::new(HEADS);
    for options in [plain, plain.causal().scale(0.2), plain.dropout(0.3)] {
        for one_value in [false, true] {
            let (expected, _) = run(Precision::F32, false, &options, one_value);
            let (found, is_half) = run(Precision::Bf16, false, &options, one_value);
            assert!(is_half);
            let names = ["output", "dq", "dk", "dv"];
            for ((name, found), expected) in names.into_iter().zip(&found).zip(&expected) {
                assert_eq!(found.len(), LEN, "{name}");
                let largest = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (i, (a, b)) in found.iter().zip(expected).enumerate() {
                    let near = (a - b).abs() <= NEAR * largest;
                    assert!(near, "{options:?} {name} {i}: {a} for {b} of {largest}");
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let options = AttentionOptions::new(HEADS).dropout(0.1);
    let expected = run(Precision::Bf16, false, &options, false);
    for count in [1, 2, 3] {
        let threads = Threads::new(Some(count)).expect("threads");
        let found = threads.install(|| run(Precision::Bf16, true, &options, false));
        assert!(found == expected, "{count} threads");
    }
}
