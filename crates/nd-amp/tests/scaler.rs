//! The loss scaler, and a training loop written by hand around it.

use nd_amp::{GradScaler, Gradients, MixedPrecisionConfig, Optimizer, StepError};
use nd_core::Buffer;
use nd_core::autograd::{Init, ParamGrads, Params, ParamsBuilder};

#[test]
fn the_scale_moves_as_pytorchs_does() {
    let mut scaler = GradScaler::new(8.0, 2.0, 0.5, 3);
    // Growth only after three clean steps in a row; an overflow forgets those before it.
    let overflows = [
        false, false, true, false, false, false, false, false, false, true, true,
    ];
    let scales = [8.0, 8.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0, 16.0, 8.0, 4.0];
    for (step, (&overflow, &scale)) in overflows.iter().zip(&scales).enumerate() {
        scaler.update(overflow);
        assert_eq!(scaler.get_scale(), scale, "after step {step}");
    }
    assert_eq!((scaler.scale_updates(), scaler.overflow_count()), (5, 3));
    assert_eq!(scaler.state().skipped_in_row, 2);
}

#[test]
fn the_scale_stays_within_its_limits() {
    let config = MixedPrecisionConfig {
        initial_scale: 4.0,
        growth_interval: 1,
        min_scale: 2.0,
        max_scale: 6.0,
        ..MixedPrecisionConfig::default()
    };
    let mut scaler = GradScaler::from_config(config);
    scaler.update(false);
    assert_eq!(scaler.get_scale(), 6.0);
    for scale in [3.0, 2.0, 2.0] {
        scaler.update(true);
        assert_eq!(scaler.get_scale(), scale);
    }
    assert_eq!(scaler.scale_updates(), 3);
    // One that resumes goes on as if it had never stopped.
    let again = GradScaler::resume(config, scaler.state());
    assert_eq!(again.state(), scaler.state());
}

#[test]
fn a_scaler_that_is_off_stays_at_one() {
    let config = MixedPrecisionConfig {
        enabled: false,
        growth_interval: 1,
        ..MixedPrecisionConfig::default()
    };
    let mut scaler = GradScaler::from_config(config);
    for overflow in [false, true, false] {
        scaler.update(overflow);
        assert_eq!(scaler.get_scale(), 1.0);
    }
}

#[test]
fn unscaling_copies_or_works_in_place() {
    let scaler = GradScaler::new(1024.0, 2.0, 0.5, 10);
    for n in [0usize, 1, 15, 16, 17, 1000, 70_000] {
        let grads: Vec<f32> = (0..n).map(|i| (i as f32 - 7.0) * 64.0).collect();
        let unscaled: Vec<f32> = scaler.unscale(&grads);
        let expected: Vec<f32> = grads.iter().map(|g| g / 1024.0).collect();
        assert_eq!(unscaled, expected);
        let mut in_place = grads.clone();
        let found = scaler.unscale_in_place(&mut in_place);
        assert_eq!(in_place, expected);
        assert!(found.is_finite && !scaler.has_overflow(&grads));
        let norm: f64 = expected.iter().map(|&g| f64::from(g).powi(2)).sum();
        assert!((found.norm_squared - norm).abs() <= 1e-5 * norm);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, n / 2, n.saturating_sub(1)] {
                let mut grads = grads.clone();
                let Some(slot) = grads.get_mut(at) else {
                    continue;
                };
                *slot = bad;
                assert!(scaler.has_overflow(&grads), "{bad} at {at} of {n}");
                assert!(!scaler.unscale_in_place(&mut grads).is_finite);
            }
        }
    }
    let buffer = Buffer::from_slice(&[2048.0f64]);
    assert_eq!(scaler.unscale(&buffer)[0], 2.0);
    assert_eq!(scaler.unscale(&[1024.0f32, 0.0]), [1.0, 0.0]);
    // A gradient at the edge of the range is finite, though its square is not.
    assert!(!scaler.has_overflow(&[f32::MAX; 40]));
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let good = MixedPrecisionConfig::default();
    let bad = [
        (
            "initial_scale",
            MixedPrecisionConfig {
                initial_scale: 0.5,
                ..good
            },
        ),
        (
            "initial_scale",
            MixedPrecisionConfig {
                initial_scale: f64::NAN,
                ..good
            },
        ),
        (
            "growth_factor",
            MixedPrecisionConfig {
                growth_factor: 1.0,
                ..good
            },
        ),
        (
            "backoff_factor",
            MixedPrecisionConfig {
                backoff_factor: 1.0,
                ..good
            },
        ),
        (
            "growth_interval",
            MixedPrecisionConfig {
                growth_interval: 0,
                ..good
            },
        ),
        (
            "min_scale",
            MixedPrecisionConfig {
                min_scale: 0.0,
                ..good
            },
        ),
        (
            "max_scale",
            MixedPrecisionConfig {
                max_scale: 0.5,
                ..good
            },
        ),
    ];
    for (name, config) in bad {
        match config.validate() {
            Err(StepError::Config { field, .. }) => assert_eq!(field, name),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(good.validate().is_ok());
}

/// Minimises `(w x - y)^2` by the loop of the quick reference; the gradients overflow at first.
#[test]
fn a_loop_by_hand_learns_through_overflows() {
    let mut b = ParamsBuilder::new();
    let w = b.trainable("w", [1], Init::Constant(0.0));
    let layout = b.build();
    let mut optimizer = Optimizer::sgd().bind(Params::<f32>::init(&layout, 1), 0.05);
    let mut scaler = GradScaler::new(
        2.0f64.powi(40), // initial_scale
        2.0,             // growth_factor
        0.5,             // backoff_factor
        2000,            // growth_interval
    );
    let (x, y) = (2.0f32, 3.0f32);
    let compute_gradients = |scaled: f32, factor: f32| {
        let mut grads = ParamGrads::<f32>::new(&layout);
        // What f16 does to a number that is too large.
        let gradient = scaled * factor;
        let rounded = nd_core::f16::from_f32(gradient).to_f32();
        grads.flat_mut()[layout.range(w)].fill(rounded);
        grads
    };
    let mut skipped = 0;
    for _ in 0..200 {
        let error = optimizer.params().get(w)[0] * x - y;
        let scaled_loss = scaler.scale(1.0f32);
        let gradients = compute_gradients(scaled_loss, 2.0 * error * x);
        if scaler.has_overflow(&gradients) {
            scaler.update(true);
            skipped += 1;
            continue;
        } else {
            let unscaled_grads = scaler.unscale(&gradients);
            optimizer.step(&unscaled_grads);
            scaler.update(false);
        }
    }
    assert!(skipped > 10 && skipped < 40, "{skipped} steps were skipped");
    assert_eq!(optimizer.steps(), 200 - skipped);
    assert!((optimizer.params().get(w)[0] - 1.5).abs() < 1e-3);
    assert_eq!(
        compute_gradients(1.0, 1.0).values().len(),
        layout.trainable_len()
    );
}
