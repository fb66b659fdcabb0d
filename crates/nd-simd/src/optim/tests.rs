use super::*;
use crate::dispatch::SimdLevel;
use crate::reference::optim as reference;
use crate::testing::{LENGTHS, Noise, assert_all_close, to_f64};

/// Four operands of random numbers: gradient, weight, and two moments, the last not negative.
fn operands<R: SimdReal>(len: usize) -> [Vec<R>; 4] {
    let mut noise = Noise::new(len as u64 + 1);
    let square = noise.vec::<R>(len, 1.0).iter().map(|&x| x * x).collect();
    [
        noise.vec(len, 2.0),
        noise.vec(len, 1.0),
        noise.vec(len, 1.0),
        square,
    ]
}

fn adam_agrees<R: SimdReal>(tolerance: f64) {
    let plain = Adam {
        step: 3,
        ..Adam::default()
    };
    let cases = [
        plain,
        Adam {
            coupled_decay: 0.1,
            step: 1,
            ..plain
        },
        Adam {
            decoupled_decay: 0.5,
            lr: 0.1,
            step: 1000,
            ..plain
        },
    ];
    for level in nd_testing::levels() {
        for &len in LENGTHS {
            for adam in cases {
                let [grad, weight, mean, square] = operands::<R>(len);
                let mut expected = [to_f64(&weight), to_f64(&mean), to_f64(&square)];
                reference::adam(
                    [adam.lr, adam.eps],
                    [adam.beta1, adam.beta2],
                    [adam.coupled_decay, adam.decoupled_decay],
                    adam.step as f64,
                    0.5,
                    &to_f64(&grad),
                    &mut expected,
                );
                let (mut w, mut m, mut v) = (weight, mean, square);
                adam_step(level, false, adam, 0.5, &grad, &mut w, &mut m, &mut v);
                for (got, expected) in [&w, &m, &v].into_iter().zip(&expected) {
                    assert_all_close(got, expected, tolerance, &format!("{level} {adam:?} {len}"));
                }
            }
        }
    }
}

#[test]
fn adam_is_the_formula() {
    adam_agrees::<f32>(1e-5);
    adam_agrees::<f64>(1e-13);
}

#[test]
fn sgd_and_rmsprop_are_the_formulas() {
    for level in nd_testing::levels() {
        for &len in LENGTHS {
            let [grad, weight, velocity, square] = operands::<f64>(len);
            for nesterov in [false, true] {
                let sgd = Sgd {
                    lr: 0.1,
                    momentum: 0.9,
                    weight_decay: 0.01,
                    nesterov,
                };
                let mut expected = [weight.clone(), velocity.clone()];
                let rates = [sgd.lr, sgd.momentum, sgd.weight_decay];
                reference::sgd(rates, nesterov, 2.0, &grad, &mut expected);
                let (mut w, mut u) = (weight.clone(), velocity.clone());
                sgd_step(level, false, sgd, 2.0, &grad, &mut w, &mut u);
                assert_all_close(&w, &expected[0], 1e-14, "weight");
                assert_all_close(&u, &expected[1], 1e-14, "velocity");
            }
            let rmsprop = RmsProp {
                lr: 0.01,
                alpha: 0.99,
                eps: 1e-8,
                weight_decay: 0.01,
            };
            let mut expected = [weight.clone(), square.clone()];
            let RmsProp {
                lr,
                alpha,
                eps,
                weight_decay,
            } = rmsprop;
            reference::rmsprop([lr, alpha, eps, weight_decay], 2.0, &grad, &mut expected);
            let (mut w, mut v) = (weight, square);
            rmsprop_step(level, false, rmsprop, 2.0, &grad, &mut w, &mut v);
            assert_all_close(&w, &expected[0], 1e-13, "weight");
            assert_all_close(&v, &expected[1], 1e-13, "square");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let len = 3 * TASK + 5;
    let level = SimdLevel::best();
    let [mut grad, weight, mean, square] = operands::<f32>(len);
    let run = |threads: usize| {
        let (mut w, mut m, mut v) = (weight.clone(), mean.clone(), square.clone());
        let check = nd_core::Threads::new(Some(threads)).unwrap().install(|| {
            adam_step(
                level,
                true,
                Adam::default(),
                1.0,
                &grad,
                &mut w,
                &mut m,
                &mut v,
            );
            check_norm(level, true, &grad)
        });
        (w, m, v, check.norm_squared.to_bits())
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
    let whole = grad.clone();
    let serial = unscale_check_norm(level, false, 0.5, &mut grad);
    assert_eq!(grad[len - 1], whole[len - 1] * 0.5);
    assert!((serial.norm_squared * 4.0 / f64::from_bits(one.3) - 1.0).abs() < 1e-6);
}

#[test]
fn the_norm_is_exact_enough_and_every_bad_element_is_found() {
    for level in nd_testing::levels() {
        for &len in LENGTHS.iter().chain(&[10_000]) {
            let [mut grad, ..] = operands::<f32>(len);
            let expected: f64 = grad.iter().map(|&x| f64::from(x).powi(2)).sum();
            let found = check_norm(level, false, &grad);
            assert!(found.is_finite && (found.norm_squared - expected).abs() <= 1e-5 * expected);
            assert_eq!(found.norm(), found.norm_squared.sqrt());
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, len / 2, len.saturating_sub(1)] {
                    if at >= len {
                        continue;
                    }
                    let good = std::mem::replace(&mut grad[at], bad);
                    assert!(
                        !check_norm(level, false, &grad).is_finite,
                        "{level} {len} {at}"
                    );
                    let mut copy = grad.clone();
                    assert!(!unscale_check_norm(level, false, 0.5, &mut copy).is_finite);
                    grad[at] = good;
                }
            }
        }
        // Squares beyond the range of f32 are not a bad gradient.
        let large = check_norm(level, false, &[1e30f32; 40]);
        assert!(large.is_finite && large.norm_squared.is_infinite());
    }
}

#[test]
#[should_panic(expected = "`mean` has 2 elements but `grad` has 3")]
fn lengths_must_agree() {
    let (level, adam) = (SimdLevel::Scalar, Adam::default());
    adam_step(
        level,
        false,
        adam,
        1.0,
        &[0.0f32; 3],
        &mut [0.0; 3],
        &mut [0.0; 2],
        &mut [0.0; 3],
    );
}
