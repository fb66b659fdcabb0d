//! Flash attention on arrays of every dimension and layout.

use nd_attention::flash::{FlashAttention, FlashAttentionConfig, Mask};
use ndarray::{Array2, Array3, Array4, Axis, s};

fn values(seed: usize, shape: (usize, usize, usize, usize)) -> Array4<f64> {
    Array4::from_shape_fn(shape, |(b, h, n, c)| {
        let mixed = (seed * 131 + b * 71 + h * 53 + n * 37 + c * 11) % 97;
        mixed as f64 / 48.0 - 1.0
    })
}

/// Attention of one head, by definition.
fn naive(
    q: &Array2<f64>,
    k: &Array2<f64>,
    v: &Array2<f64>,
    scale: f64,
    causal: bool,
) -> Array2<f64> {
    let mut scores = q.dot(&k.t()) * scale;
    for ((i, j), x) in scores.indexed_iter_mut() {
        if causal && j > i {
            *x = f64::NEG_INFINITY;
        }
    }
    for mut row in scores.rows_mut() {
        let largest = row.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
    scores.dot(v)
}

fn close(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) {
    for (a, b) in a.into_iter().zip(b) {
        assert!((a - b).abs() < 1e-12, "{a} and {b}");
    }
}

#[test]
fn two_three_and_four_dimensions_are_the_same_attention() {
    let (q, k, v) = (
        values(1, (2, 3, 20, 8)),
        values(2, (2, 3, 30, 8)),
        values(3, (2, 3, 30, 5)),
    );
    for causal in [false, true] {
        let config = FlashAttentionConfig {
            block_size: 16,
            use_simd: true,
            scale: 0.4,
            causal,
        };
        let flash = FlashAttention::new(config);
        let four = flash.forward(&q, &k, &v);
        assert_eq!(four.dim(), (2, 3, 20, 5));
        for b in 0..2 {
            let batch = |x: &Array4<f64>| -> Array3<f64> { x.index_axis(Axis(0), b).to_owned() };
            // Here the heads are rows of a batch.
            let three = flash.forward(&batch(&q), &batch(&k), &batch(&v));
            for h in 0..3 {
                let head =
                    |x: &Array4<f64>| -> Array2<f64> { x.slice(s![b, h, .., ..]).to_owned() };
                let expected = naive(&head(&q), &head(&k), &head(&v), 0.4, causal);
                let two = flash.forward(&head(&q), &head(&k), &head(&v));
                close(two.iter().copied(), expected.iter().copied());
                close(
                    three.index_axis(Axis(0), h).iter().copied(),
                    expected.iter().copied(),
                );
                close(
                    four.slice(s![b, h, .., ..]).iter().copied(),
                    expected.iter().copied(),
                );
            }
        }
    }
}

#[test]
fn every_layout_gives_the_same() {
    let (q, k, v) = (
        values(1, (2, 3, 20, 8)),
        values(2, (2, 3, 20, 8)),
        values(3, (2, 3, 20, 8)),
    );
    let flash = FlashAttention::new(FlashAttentionConfig::auto(8));
    let expected = flash.forward(&q, &k, &v);
    // Tokens before heads, as a linear layer leaves them; reversed; every other channel of a wider array.
    let turned = q
        .view()
        .permuted_axes([0, 2, 1, 3])
        .as_standard_layout()
        .into_owned();
    let tokens = turned.view().permuted_axes([0, 2, 1, 3]);
    assert_eq!(flash.forward(&tokens, &k, &v), expected);
    let backwards = q
        .slice(s![.., .., ..;-1, ..])
        .as_standard_layout()
        .into_owned();
    assert_eq!(
        flash.forward(&backwards.slice(s![.., .., ..;-1, ..]), &k, &v),
        expected
    );
    let mut wide = Array4::zeros((2, 3, 20, 16));
    wide.slice_mut(s![.., .., .., ..;2]).assign(&q);
    assert_eq!(
        flash.forward(&wide.slice(s![.., .., .., ..;2]), &k, &v),
        expected
    );
}

#[test]
fn gradients_agree_with_differences() {
    let (q, k, v) = (
        values(1, (1, 2, 5, 3)),
        values(2, (1, 1, 6, 3)),
        values(3, (1, 1, 6, 2)),
    );
    let dy = values(4, (1, 2, 5, 2));
    let flash = FlashAttention::new(FlashAttentionConfig::auto(3)).alibi(&[0.1, 0.2]);
    let loss =
        |q: &Array4<f64>, k: &Array4<f64>, v: &Array4<f64>| (flash.forward(q, k, v) * &dy).sum();
    let saved = flash.forward_saving(&q, &k, &v);
    let gradients = flash.backward(&q, &k, &v, &saved, &dy);
    let inputs = [q, k, v];
    for (which, gradient) in gradients.iter().enumerate() {
        for at in 0..inputs[which].len() {
            let moved = |step: f64| {
                let mut inputs = inputs.clone();
                inputs[which].as_slice_mut().expect("contiguous")[at] += step;
                loss(&inputs[0], &inputs[1], &inputs[2])
            };
            let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let found = gradient.as_slice().expect("contiguous")[at];
            assert!(
                (found - difference).abs() < 1e-7,
                "input {which}, element {at}: {found} and {difference}"
            );
        }
    }
}

#[test]
fn plain_loops_compute_the_same() {
    let (q, k) = (values(1, (1, 2, 40, 8)), values(2, (1, 2, 50, 8)));
    let config = FlashAttentionConfig {
        causal: true,
        ..FlashAttentionConfig::auto(8)
    };
    let plain = FlashAttentionConfig {
        use_simd: false,
        ..config
    };
    let (fast, plain) = (
        FlashAttention::new(config),
        FlashAttention::new(plain).single_threaded(),
    );
    close(fast.forward(&q, &k, &k), plain.forward(&q, &k, &k));
}

#[test]
fn misuse_says_what_was_found() {
    let message = |run: &(dyn Fn() + std::panic::RefUnwindSafe)| -> String {
        let error = std::panic::catch_unwind(run).expect_err("a panic");
        match error.downcast::<String>() {
            Ok(text) => *text,
            Err(error) => error
                .downcast_ref::<&str>()
                .map_or(String::new(), |&text| text.to_owned()),
        }
    };
    let config = FlashAttentionConfig::auto(4);
    let x = |n: usize, d: usize| Array2::<f32>::zeros((n, d));
    let shapes =
        message(&|| drop(FlashAttention::new(config).forward(&x(3, 4), &x(3, 5), &x(3, 4))));
    assert!(
        shapes.contains("q [1, 1, 3, 4], k [1, 1, 3, 5]"),
        "{shapes}"
    );
    let empty =
        message(&|| drop(FlashAttention::new(config).forward(&x(3, 4), &x(0, 4), &x(0, 4))));
    assert!(empty.contains("zero keys"), "{empty}");
    let narrow =
        message(&|| drop(FlashAttention::new(config).forward(&x(3, 0), &x(3, 0), &x(3, 4))));
    assert!(narrow.contains("d = 0"), "{narrow}");
    let config = FlashAttentionConfig {
        scale: f64::NAN,
        ..config
    };
    let scale =
        message(&|| drop(FlashAttention::new(config).forward(&x(3, 4), &x(3, 4), &x(3, 4))));
    assert!(scale.contains("scale") && scale.contains("NaN"), "{scale}");
    let mask = Mask {
        key_lengths: Some(vec![4]),
        ..Mask::default()
    };
    let flash = FlashAttention::new(FlashAttentionConfig::auto(4)).mask(mask);
    let lengths = message(&|| drop(flash.forward(&x(3, 4), &x(3, 4), &x(3, 4))));
    assert!(lengths.contains("4 keys, but there are 3"), "{lengths}");
}
