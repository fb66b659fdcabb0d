//! What a caller does wrong is answered with what was expected and what was found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nd_attention::Dropout;
use nd_attention::flash::{BlockMask, FlashAttention, FlashAttentionConfig, Mask};
use nd_core::rng::Key;
use ndarray::{Array2, Array3, Array4};

/// The message of the panic of `work`.
fn refusal<T>(work: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(_) => "nothing was refused".to_owned(),
        Err(panic) => match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic.downcast::<&str>().expect("a message").to_string(),
        },
    }
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

fn flash() -> FlashAttention {
    FlashAttention::new(FlashAttentionConfig::auto(4))
}

fn ones(tokens: usize, channels: usize) -> Array2<f32> {
    Array2::ones((tokens, channels))
}

#[test]
fn shapes_that_do_not_fit() {
    let x = ones(5, 4);
    let channels = refusal(|| flash().forward(&x, &ones(5, 3), &x));
    says(
        &channels,
        &[
            "q [1, 1, 5, 4]",
            "k [1, 1, 5, 3]",
            "expected q [B, H, N_q, d]",
            "one d",
        ],
    );
    let tokens = refusal(|| flash().forward(&x, &x, &ones(6, 4)));
    says(&tokens, &["k [1, 1, 5, 4]", "v [1, 1, 6, 4]", "one N_k"]);
    let (two, three) = (Array3::<f32>::ones((2, 5, 4)), Array3::ones((3, 5, 4)));
    says(
        &refusal(|| flash().forward(&two, &three, &three)),
        &["q [2, 1, 5, 4]", "one B"],
    );
    let (heads, shared) = (
        Array4::<f32>::ones((1, 4, 5, 4)),
        Array4::ones((1, 3, 5, 4)),
    );
    says(
        &refusal(|| flash().forward(&heads, &shared, &shared)),
        &["4 heads of queries", "3 heads of keys"],
    );
    let saved = flash().forward_saving(&x, &x, &x);
    says(
        &refusal(|| flash().backward(&x, &x, &x, &saved, &ones(4, 4))),
        &["gradient [1, 1, 4, 4]"],
    );
}

#[test]
fn nothing_to_attend_to() {
    let none = ones(5, 0);
    says(
        &refusal(|| flash().forward(&none, &none, &none)),
        &["d = 0", "[1, 1, 5, 0]", "expected"],
    );
    let empty = ones(0, 4);
    says(
        &refusal(|| flash().forward(&ones(5, 4), &empty, &empty)),
        &["zero keys", "[1, 1, 0, 4]", "key_lengths"],
    );
    // No queries and no channels of values are nothing to do.
    assert_eq!(
        flash().forward(&empty, &ones(5, 4), &ones(5, 4)).dim(),
        (0, 4)
    );
    assert_eq!(
        flash().forward(&ones(5, 4), &ones(5, 4), &none).dim(),
        (5, 0)
    );
}

#[test]
fn numbers_that_are_none() {
    for scale in [f64::NAN, f64::INFINITY, 1e300] {
        let config = FlashAttentionConfig {
            scale,
            ..FlashAttentionConfig::auto(4)
        };
        let message =
            refusal(|| FlashAttention::new(config).forward(&ones(3, 4), &ones(3, 4), &ones(3, 4)));
        says(&message, &["the scale of attention", "finite"]);
    }
    for rate in [1.0, 1.5, -0.1, f64::NAN] {
        let dropout = Dropout {
            rate,
            key: Key::new(1),
            first_row: 0,
        };
        let message = refusal(|| {
            flash()
                .dropout(dropout)
                .forward(&ones(3, 4), &ones(3, 4), &ones(3, 4))
        });
        says(&message, &[&rate.to_string(), "[0, 1)"]);
    }
    // One of the inputs is the data's fault, and is not hidden: the rows that see it are NaN, no others.
    let mut k = ones(3, 4);
    k[[2, 1]] = f32::NAN;
    let config = FlashAttentionConfig {
        causal: true,
        ..FlashAttentionConfig::auto(4)
    };
    let y = FlashAttention::new(config).forward(&ones(3, 4), &k, &ones(3, 4));
    for (i, row) in y.rows().into_iter().enumerate() {
        assert!(row.iter().all(|y| y.is_nan() == (i == 2)), "row {i}: {row}");
    }
}

#[test]
fn masks_and_biases_of_another_size() {
    let x = Array3::<f32>::ones((2, 5, 4));
    let refused = |mask: Mask| refusal(|| flash().mask(mask).forward(&x, &x, &x));
    let lengths = |lengths: &[usize]| Mask {
        key_lengths: Some(lengths.to_vec()),
        ..Mask::default()
    };
    says(
        &refused(lengths(&[5, 5, 5])),
        &["key lengths", "expected one for each of 2 rows", "found 3"],
    );
    says(
        &refused(lengths(&[5, 6])),
        &["row 1", "6 keys", "there are 5"],
    );
    let grid = |blocks: BlockMask| Mask {
        blocks: Some(blocks),
        ..Mask::default()
    };
    says(
        &refused(grid(BlockMask::new(2, 2, 2, vec![true; 4]))),
        &["2 x 2 blocks of 2 x 2", "does not cover 5 x 5"],
    );
    says(
        &refusal(|| BlockMask::new(0, 2, 1, vec![true])),
        &["0 queries", "positive"],
    );
    says(
        &refusal(|| BlockMask::new(2, 2, 2, vec![true])),
        &["1 blocks", "whole rows of 2"],
    );
    says(
        &refusal(|| flash().alibi(&[0.5, 0.25]).forward(&x, &x, &x)),
        &["slopes", "each of 1 heads", "found 2"],
    );
}

#[test]
fn blocks_larger_than_the_sequence_are_cut() {
    let x = Array2::from_shape_fn((7, 4), |(i, c)| ((i * 4 + c) % 5) as f32 - 2.0);
    let of = |block_size| {
        let config = FlashAttentionConfig {
            block_size,
            ..FlashAttentionConfig::auto(4)
        };
        FlashAttention::new(config).forward(&x, &x, &x)
    };
    assert_eq!(of(1 << 20), of(16));
    assert_eq!(of(usize::MAX / 2), of(16));
}
