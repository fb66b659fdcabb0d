//! Ops along time and rearrangements: gradients against finite differences, and shapes.

use nd_core::Threads;
use nd_core::autograd::{StepContext, Tape};
use nd_simd::interpolate::Interpolation;
use nd_simd::ops::prelude::*;
use nd_simd::patches::Patches;
use nd_simd::pool::Windows;
use nd_testing::cases::normals;
use nd_testing::{GradInput, gradcheck};

#[test]
fn pooling() {
    let x = [GradInput::normal(1, &[2, 3, 7])];
    for axis in 0..3 {
        for windows in [
            Windows::tiles(2),
            Windows {
                kernel: 3,
                stride: 2,
                padding: 1,
                ceil_mode: false,
            },
        ] {
            gradcheck("max_pool", &x, |_, v| v[0].max_pool(axis, windows));
            gradcheck("avg_pool", &x, |_, v| v[0].avg_pool(axis, windows));
        }
    }
}

#[test]
fn interpolation() {
    let x = [GradInput::normal(1, &[2, 3, 5])];
    for mode in [
        Interpolation::Nearest,
        Interpolation::Linear,
        Interpolation::Cubic,
    ] {
        for size in [3, 5, 12] {
            gradcheck("interpolate", &x, |_, v| v[0].interpolate(size, mode));
        }
    }
}

#[test]
fn moving_average() {
    let x = [GradInput::normal(1, &[2, 9, 3])];
    for axis in 0..3 {
        gradcheck("moving_average", &x, |_, v| v[0].moving_average(axis, 5));
        gradcheck("decompose", &x, |_, v| {
            let (trend, remainder) = v[0].decompose(axis, 3);
            trend.mul(remainder)
        });
    }
}

#[test]
fn rearrangements() {
    let x = [GradInput::normal(1, &[2, 3, 4, 2])];
    gradcheck("permute", &x, |_, v| v[0].permute(&[2, 0, 3, 1]));
    gradcheck("swap_axes", &x, |_, v| v[0].swap_axes(1, 2));
    gradcheck("swap_axes of the last", &x, |_, v| v[0].swap_axes(2, 3));
    gradcheck("reverse", &x, |_, v| v[0].reverse());
    let x = [GradInput::normal(1, &[2, 9])];
    let patches = Patches {
        patch: 4,
        stride: 2,
        padding: 3,
    };
    gradcheck("patches", &x, |_, v| v[0].patches(patches));
}

#[test]
fn ranges_and_rows() {
    let inputs = [
        GradInput::normal(1, &[2, 5, 3]),
        GradInput::normal(2, &[2, 2, 3]),
    ];
    for axis in 0..3 {
        gradcheck("narrow", &inputs, |_, v| v[0].narrow(axis, 1..2));
    }
    gradcheck("two ranges", &inputs, |_, v| {
        v[0].narrow(1, 0..2).mul(v[0].narrow(1, 3..5))
    });
    gradcheck("concat", &inputs, |_, v| concat(&[v[0], v[1], v[0]], 1));
    let table = GradInput::normal(1, &[4, 3]);
    for table in [table.clone(), table.param()] {
        gradcheck("gather_rows", &[table], |_, v| v[0].gather_rows(&[3, 0, 3]));
    }
}

#[test]
fn shapes() {
    let tape = Tape::<f32>::default();
    let x = tape.input([2, 3, 8], &normals::<f32>(1, 48));
    assert_eq!(&x.permute(&[2, 0, 1]).shape()[..], &[8, 2, 3]);
    assert_eq!(&x.max_pool(2, Windows::tiles(3)).shape()[..], &[2, 3, 3]);
    assert_eq!(
        &x.interpolate(5, Interpolation::Linear).shape()[..],
        &[2, 3, 5]
    );
    assert_eq!(&x.narrow(1, 1..3).shape()[..], &[2, 2, 8]);
    assert_eq!(&concat(&[x, x], 0).shape()[..], &[4, 3, 8]);
    let patches = Patches {
        patch: 4,
        stride: 2,
        padding: 2,
    };
    assert_eq!(&x.patches(patches).shape()[..], &[2, 3, 4, 4]);
}

/// Enough rows that every op is cut into several blocks.
#[test]
fn threads_change_no_bit() {
    let values = normals::<f32>(1, 700 * 96);
    let run = |parallel: bool| {
        let mut tape = Tape::<f32>::default();
        let mut context = StepContext::new(None);
        context.parallel = parallel;
        tape.begin(context);
        let copy = tape.pool().take_copy(&values);
        let x = tape.variable([700, 96], copy);
        let pooled = x
            .max_pool(1, Windows::tiles(2))
            .avg_pool(1, Windows::tiles(3));
        let (trend, remainder) = x.decompose(1, 25);
        let y = concat(&[pooled, trend, remainder], 1);
        let (x, y, value) = (x.id(), y.id(), y.value().to_vec());
        let dy = tape.pool().take_copy(&value);
        tape.backward(y, dy, None);
        (value, tape.gradient(x).map(|dx| dx.to_vec()))
    };
    let serial = run(false);
    for count in [1, 2, 3] {
        let threads = Threads::new(Some(count)).unwrap();
        assert!(threads.install(|| run(true)) == serial, "{count} threads");
    }
}
