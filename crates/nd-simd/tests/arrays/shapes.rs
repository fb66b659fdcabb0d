//! Shapes that do not fit panic with both shapes and the caller's place.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use nd_simd::activations as act;
use nd_simd::conv::{Conv1d, conv1d, conv1d_gradient};
use nd_simd::interpolate::{Interpolation, interpolate};
use nd_simd::losses::{self, LossOptions};
use nd_simd::pool::{self, Windows};
use nd_simd::recurrent::{RecurrentArrays, RnnActivation, gru, lstm, rnn};
use nd_simd::{gather, matmul, moving_average, norm, optim, permute, reduce};
use ndarray::{Array0, Array1, Array2, Array3, Axis, array};

thread_local! {
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
    static EXPECTED: RefCell<bool> = const { RefCell::new(false) };
}

/// The message of a panic and the file that it names.
fn panic_of(work: impl FnOnce()) -> (String, String) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if EXPECTED.with(|expected| *expected.borrow()) {
                let message = info.payload_as_str().unwrap_or_default().to_owned();
                let file = info
                    .location()
                    .map(|at| at.file().to_owned())
                    .unwrap_or_default();
                LAST.with(|last| *last.borrow_mut() = Some((message, file)));
            } else {
                before(info);
            }
        }));
    });
    EXPECTED.with(|expected| *expected.borrow_mut() = true);
    let result = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.with(|expected| *expected.borrow_mut() = false);
    assert!(result.is_err(), "this should have panicked");
    LAST.with(|last| last.borrow_mut().take()).unwrap()
}

/// Checks that each call panics here, with all the given words in the message.
macro_rules! refused {
    ($($call:expr => $($words:literal),+;)*) => {
        $(
            let (message, file) = panic_of(|| { let _ = $call; });
            let call = stringify!($call);
            assert_eq!(file, file!(), "{call}: {message}");
            $(assert!(message.contains($words), "{call}: {message} without {}", $words);)+
        )*
    };
}

#[test]
fn of_elementwise_functions_and_losses() {
    let (a, b) = (Array2::<f32>::zeros((2, 3)), Array2::<f32>::zeros((3, 2)));
    let v = Array1::<f32>::zeros(4);
    let none = LossOptions::default();
    let mask = LossOptions {
        mask: Some(b.view()),
        ..LossOptions::default()
    };
    let horizon = LossOptions {
        horizon_weight: Some(v.view()),
        ..LossOptions::default()
    };
    let cube = Array3::<f32>::zeros((2, 3, 4));
    refused! {
        act::relu_gradient(&a, &b) => "`y`", "[2, 3]", "`dy`", "[3, 2]";
        act::gelu_gradient(&a, &b) => "`x`", "[2, 3]", "`dy`", "[3, 2]";
        act::activate_gradient(&a, &b, act::Activation::Tanh) => "[2, 3]", "[3, 2]";
        act::softmax_gradient(&a, &b) => "[2, 3]", "[3, 2]";
        act::log_softmax_gradient(&a, &b) => "[2, 3]", "[3, 2]";
        act::softmax_axis(&a, Axis(2)) => "[2, 3]", "axis 2";
        act::log_softmax_axis(&a, Axis(2)) => "[2, 3]", "axis 2";
        losses::mse(&a, &b) => "`pred`", "[2, 3]", "`target`", "[3, 2]";
        losses::mse_gradient(&a, &b) => "[2, 3]", "[3, 2]";
        losses::mse_with_gradient(&a, &b, &none) => "[2, 3]", "[3, 2]";
        losses::loss_terms(losses::PointLoss::Squared, &a, &b) => "[2, 3]", "[3, 2]";
        losses::huber(&a, &b, 1.0) => "[2, 3]", "[3, 2]";
        losses::rmse(&a, &b) => "[2, 3]", "[3, 2]";
        losses::rmse_gradient(&a, &b) => "[2, 3]", "[3, 2]";
        losses::mae_with_gradient(&a, &a, &mask) => "`mask`", "[3, 2]", "[2, 3]";
        losses::mae_with_gradient(&a, &a, &horizon) => "`horizon_weight`", "[4]", "[3]", "[2, 3]";
        losses::multi_quantile(&cube, &a, &[0.5]) => "[2, 3, 4]", "[2, 3, 1]";
        losses::multi_quantile(&cube, &a, &[]) => "at least one quantile";
        losses::mase(&a, &a, &v) => "`scale`", "[4]", "[2]";
        losses::mase_gradient(&a, &b, &v) => "[2, 3]", "[3, 2]";
        reduce::dot(&a, &b) => "[2, 3]", "[3, 2]";
        reduce::sum_axis(&a, Axis(2)) => "[2, 3]", "axis 2";
        reduce::mean_axis(&a, Axis(2)) => "[2, 3]", "axis 2";
        reduce::variance_axis(&a, Axis(2), 0.0) => "[2, 3]", "axis 2";
        reduce::max_axis(&a, Axis(2)) => "[2, 3]", "axis 2";
    }
}

#[test]
fn of_products_and_layers() {
    let (a, b) = (Array2::<f64>::zeros((2, 3)), Array2::<f64>::zeros((4, 2)));
    let (v, w) = (Array1::<f64>::zeros(3), Array1::<f64>::zeros(5));
    let x = Array3::<f64>::zeros((7, 2, 3));
    let weights = |w_ih: &'static Array2<f64>, w_hh: &'static Array2<f64>| RecurrentArrays {
        w_ih: w_ih.view(),
        w_hh: w_hh.view(),
        bias: None,
    };
    let leak = |dim| -> &'static Array2<f64> { Box::leak(Box::new(Array2::zeros(dim))) };
    let wrong = weights(leak((3, 9)), leak((2, 8)));
    let fine = weights(leak((3, 8)), leak((2, 8)));
    let conv = Conv1d::causal(2, 1);
    let taps = Array3::<f64>::zeros((4, 3, 2));
    refused! {
        matmul::gemm(&a, &b) => "[2, 3]", "[4, 2]";
        matmul::gemm_into(1.0, &a, &b, 0.0, &mut a.clone()) => "[2, 3]", "[4, 2]";
        matmul::gemm_into(1.0, &a, &a.t(), 0.0, &mut a.clone()) => "`c`", "[2, 3]", "[2, 2]", "[3, 2]";
        matmul::gemv(&a, &w) => "`x`", "[5]", "[3]", "[2, 3]";
        matmul::gemv_into(1.0, &a, &v, 0.0, &mut w.clone()) => "`y`", "[5]", "[2]";
        norm::layer_norm(&a, &v, &w, 0.0) => "`bias`", "[5]", "[3]", "[2, 3]";
        norm::layer_norm_gradient(&a, &v, 0.0, &b) => "[4, 2]", "[2, 3]";
        norm::rms_norm(&a, &w, 0.0) => "`gain`", "[5]", "[3]";
        norm::rms_norm_gradient(&a, &v, 0.0, &b) => "[4, 2]", "[2, 3]";
        norm::batch_norm(&a, &v, &w, 0.0) => "`bias`", "[5]", "[3]";
        norm::batch_norm_gradient(&a, &v, 0.0, &b) => "[4, 2]", "[2, 3]";
        norm::batch_norm_inference(&a, &v, &v, &v, &w, 0.0) => "`variance`", "[5]", "[3]";
        lstm(&x, &wrong, None) => "`w_ih`", "[3, 9]", "[3, 8]", "[7, 2, 3]";
        lstm(&x, &fine, Some((&a, &a))) => "`h`", "[2, 3]", "[2, 2]";
        gru(&x, &fine, None) => "`w_ih`", "[3, 8]", "[3, 6]";
        rnn(&x, &fine, RnnActivation::Tanh, None) => "`w_ih`", "[3, 8]", "[3, 2]";
        conv1d(&x, &Array3::zeros((4, 5, 2)), None, &conv) => "`w`", "[4, 5, 2]", "[4, 3, 2]", "[7, 2, 3]";
        conv1d(&x, &taps, Some(&w), &conv) => "`bias`", "[5]", "[4]";
        conv1d(&x, &taps, None, &Conv1d::valid(2, 9)) => "reaches over 10 steps", "has 2";
        conv1d_gradient(&x, &taps, &x, &conv) => "`dy`", "[7, 2, 3]", "[7, 2, 4]";
        Conv1d::causal(0, 1) => "at least one";
    }
}

#[test]
fn of_windows_numbers_and_optimizers() {
    let (a, b) = (Array2::<f32>::zeros((2, 3)), Array2::<f32>::zeros((3, 2)));
    let point = Array0::<f32>::zeros(());
    let tiles = Windows::tiles(2);
    let adam = optim::Adam::default();
    let sgd = optim::Sgd {
        lr: 0.1,
        momentum: 0.0,
        weight_decay: 0.0,
        nesterov: false,
    };
    let rmsprop = optim::RmsProp {
        lr: 0.1,
        alpha: 0.9,
        eps: 0.0,
        weight_decay: 0.0,
    };
    let two = || (a.clone(), b.clone());
    refused! {
        pool::max_pool(&a, Axis(2), tiles) => "[2, 3]", "axis 2";
        pool::avg_pool(&a, Axis(0), Windows { ceil_mode: false, ..Windows::tiles(5) }) => "window of 5", "2 values";
        pool::max_pool_gradient(&a, &b, Axis(1), tiles) => "[3, 2]", "[2, 2]", "[2, 3]";
        pool::avg_pool_gradient(&a, Axis(1), tiles, 3) => "[2, 3]", "[2, 2]";
        interpolate(&Array2::<f32>::zeros((2, 0)), 3, Interpolation::Linear) => "no knots", "[2, 0]";
        interpolate(&point, 3, Interpolation::Linear) => "[]", "axis";
        moving_average::moving_average(&a, Axis(1), 4) => "odd", "4", "[2, 3]";
        moving_average::moving_average_gradient(&a, Axis(3), 3) => "axis 3", "[2, 3]";
        permute::permuted(&a, &[0, 0]) => "[0, 0]", "[2, 3]";
        gather::embedding(&a, &array![1, 2]) => "is 2", "2 rows";
        gather::embedding_gradient(2, &array![1, 0], &b) => "[3, 2]", "[2, 2]";
        gather::take_along(&a, &array![[0, 1, 2]], Axis(1)) => "[1, 3]", "[2, 3]";
        gather::take_along(&a, &array![[0], [3]], Axis(1)) => "is 3", "3 elements";
        gather::take_along_gradient(&a, &array![[0], [3]], Axis(1), 3) => "[2, 3]", "[2, 1]";
        optim::adam(adam, &a, &mut two().0, &mut two().0, &mut two().1) => "`square`", "[3, 2]", "[2, 3]";
        optim::sgd(sgd, &a, &mut two().1, &mut two().0) => "`weight`", "[3, 2]", "[2, 3]";
        optim::rmsprop(rmsprop, &a, &mut two().0, &mut two().1) => "`square`", "[3, 2]", "[2, 3]";
    }
}
