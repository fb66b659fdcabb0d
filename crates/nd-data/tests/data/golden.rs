//! Window scalers, metrics and window rules against NeuralForecast's and utilsforecast's own results.

use nd_data::metrics::{self, ZeroTarget};
use nd_data::{
    PanelBuilder, Series, WindowConfig, WindowScaler, WindowSet, WindowStatistics, Windows,
};
use nd_testing::close::assert_close;
use nd_testing::golden::Golden;

/// Both sides compute in f64; sums run in another order.
const RELATIVE: f64 = 1e-12;
/// For values that are differences of larger ones, such as a scaled value near zero.
const ABSOLUTE: f64 = 1e-12;

fn golden(name: &str) -> Golden {
    Golden::read(format!(
        "{}/tests/golden/{name}",
        env!("CARGO_MANIFEST_DIR")
    ))
}

#[test]
fn window_scalers_are_those_of_neuralforecast() {
    let golden = golden("scalers.safetensors");
    let mut compared = 0;
    for (group, l) in [("even", 24), ("odd", 23), ("empty", 24)] {
        let shape = golden.shape(&format!("{group}.x")).to_vec();
        let [b, t, c] = shape[..] else {
            panic!("shape {shape:?}")
        };
        let x = golden.values(&format!("{group}.x"));
        let mask = golden.values(&format!("{group}.mask"));
        for scaler in WindowScaler::ALL {
            let value = |what: &str| format!("{group}.{scaler}.{what}");
            if !golden.has(&value("shift")) {
                assert_eq!(group, "empty", "{scaler} is missing from {group}");
                continue;
            }
            for window in 0..b {
                for channel in 0..c {
                    let at = |step: usize| (window * t + step) * c + channel;
                    let column = |values: &[f64]| (0..t).map(|s| values[at(s)]).collect::<Vec<_>>();
                    let what = format!("{group}.{scaler} window {window} channel {channel}");
                    let mut z = column(x);
                    let seen: Vec<f64> = (0..l).map(|s| mask[window * t + s]).collect();
                    let mut scratch = vec![f64::NAN; l];
                    let own = scaler.masked_statistics(&z[..l], &seen, &mut scratch);
                    // The parameters of revin act on the inverse only.
                    let (mut shift, mut scale) = (own.shift, own.scale);
                    if scaler == WindowScaler::RevIn {
                        shift += golden.values(&value("bias"))[channel];
                        let weight = golden.values(&value("weight"))[channel];
                        scale *= weight.max(0.0) + nd_data::scaler::SCALE_EPSILON;
                    }
                    let place = window * c + channel;
                    let expected = |what: &str| golden.values(&value(what))[place];
                    // The spread of a large level loses the digits of the level, on both sides.
                    let level = z[..l].iter().fold(1.0, |a: f64, x| a.max(x.abs()));
                    let close = |what: &str, got: &[f64], want: &[f64]| {
                        assert_close(what, got, want, ABSOLUTE * level, RELATIVE);
                    };
                    close(&format!("{what} shift"), &[shift], &[expected("shift")]);
                    close(&format!("{what} scale"), &[scale], &[expected("scale")]);
                    scaler.transform(own, &mut z);
                    let want = column(golden.values(&value("transformed")));
                    close(&format!("{what} transformed"), &z, &want);
                    // The inverse from the golden transformed values and, for revin, its parameters.
                    let mut back = want;
                    let inverse = WindowStatistics { shift, scale };
                    if scaler == WindowScaler::RevIn {
                        WindowScaler::Standard.inverse(inverse.shift, inverse.scale, &mut back);
                    } else {
                        let (loc, scale) = scaler.loc_scale(inverse);
                        scaler.inverse(loc, scale, &mut back);
                    }
                    let want = column(golden.values(&value("inverse")));
                    close(&format!("{what} inverse"), &back, &want);
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 2 * 7 * 7 * 2 + 5 * 2, "cases compared");
}

#[test]
fn metrics_are_those_of_utilsforecast() {
    let golden = golden("metrics.safetensors");
    let (season, q) = (
        golden.metadata("seasonality").parse().unwrap(),
        golden.metadata("q").parse().unwrap(),
    );
    let shape = golden.shape("uf.y").to_vec();
    let (s, h) = (shape[0], shape[1]);
    let quantiles = golden.values("uf.quantiles").to_vec();
    let row = |name: &str, series: usize, width: usize| -> Vec<f64> {
        golden.values(name)[series * width..(series + 1) * width].to_vec()
    };
    let train = golden.shape("uf.y_train")[1];
    for series in 0..s {
        let (y, f) = (row("uf.y", series, h), row("uf.y_hat", series, h));
        let (lo, hi) = (row("uf.lo", series, h), row("uf.hi", series, h));
        let insample = row("uf.y_train", series, train);
        let fan = row("uf.quantile_hat", series, h * quantiles.len());
        let got = [
            ("mae", metrics::mae(&y, &f, None)),
            ("mse", metrics::mse(&y, &f, None)),
            ("rmse", metrics::rmse(&y, &f, None)),
            ("bias", metrics::bias(&y, &f, None)),
            ("mape", metrics::mape(&y, &f, None, ZeroTarget::Skip)),
            ("smape", metrics::smape(&y, &f, None) / 2.0),
            ("nd", metrics::nd(&y, &f, None)),
            ("mase", metrics::mase(&y, &f, &insample, season, None)),
            ("coverage", metrics::coverage(&y, &lo, &hi, None)),
            ("quantile_loss", metrics::quantile_loss(&y, &lo, q, None)),
            ("mqloss", metrics::mqloss(&y, &fan, &quantiles, None)),
            ("scaled_crps", metrics::scaled_crps(&y, &fan, &quantiles)),
        ];
        for (name, got) in got {
            let want = golden.values(&format!("uf.{name}"))[series];
            assert_close(
                &format!("{name} of series {series}"),
                &[got],
                &[want],
                1e-15,
                RELATIVE,
            );
        }
    }
}

#[test]
fn weighted_metrics_are_those_of_neuralforecast() {
    let golden = golden("metrics.safetensors");
    let (season, q): (usize, f64) = (
        golden.metadata("seasonality").parse().unwrap(),
        golden.metadata("q").parse().unwrap(),
    );
    let (y, f) = (golden.values("np.y"), golden.values("np.y_hat"));
    let weights = golden.values("np.weights");
    let quantiles = golden.values("uf.quantiles");
    let fan = golden.values("np.quantile_hat");
    let h = golden.shape("np.y")[1];
    let lo: Vec<f64> = fan.iter().step_by(quantiles.len()).copied().collect();
    for (suffix, w) in [("", None), ("_weighted", Some(weights))] {
        let got = [
            ("mae", metrics::mae(y, f, w)),
            ("mse", metrics::mse(y, f, w)),
            ("rmse", metrics::rmse(y, f, w)),
            ("mape", metrics::mape(y, f, w, ZeroTarget::CountAsZero)),
            ("smape", metrics::smape(y, f, w)),
            ("quantile_loss", metrics::quantile_loss(y, &lo, q, w)),
            ("mqloss", metrics::mqloss(y, fan, quantiles, w)),
        ];
        for (name, got) in got {
            let want = golden.values(&format!("np.{name}{suffix}"))[0];
            assert_close(&format!("{name}{suffix}"), &[got], &[want], 1e-15, RELATIVE);
        }
    }
    let got = metrics::mase(&y[..h], &f[..h], golden.values("np.y_train"), season, None);
    assert_close("mase", &[got], golden.values("np.mase"), 1e-15, RELATIVE);
}

/// One line of `windows.tsv` (made by tools/golden/window_cases.py).
struct WindowCase<'a> {
    set: WindowSet,
    config: WindowConfig,
    lengths: Vec<usize>,
    masks: Vec<Vec<bool>>,
    windows: &'a str,
}

fn window_case(line: &str) -> WindowCase<'_> {
    let columns: Vec<&str> = line.split('\t').collect();
    let number = |i: usize| columns[i].parse::<usize>().unwrap();
    let share = |i: usize| columns[i].parse::<f64>().unwrap();
    let set = match columns[1] {
        "train" => WindowSet::Train,
        "val" => WindowSet::Validation,
        "test" => WindowSet::Test,
        "predict" => WindowSet::Predict,
        other => panic!("{other}"),
    };
    let config = WindowConfig {
        step_size: number(4),
        val_size: number(5),
        test_size: number(6),
        start_padding: number(7) == 1,
        input_availability: share(8),
        target_availability: share(9),
        multivariate: number(0) == 1,
        ..WindowConfig::new(number(2), number(3))
    };
    let lengths = columns[10].split(',').map(|n| n.parse().unwrap()).collect();
    let masks = match columns[11] {
        "-" => Vec::new(),
        masks => masks
            .split(',')
            .map(|m| m.bytes().map(|b| b == b'1').collect())
            .collect(),
    };
    WindowCase {
        set,
        config,
        lengths,
        masks,
        windows: columns[12],
    }
}

#[test]
fn windows_are_those_of_neuralforecast() {
    let table = include_str!("../golden/windows.tsv");
    let mut compared = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let case = window_case(line);
        let mut builder = PanelBuilder::new();
        for (series, &length) in case.lengths.iter().enumerate() {
            let y = (0..length)
                .map(|t| (1000 * (series + 1) + t + 1) as f64)
                .collect();
            let mut input = Series::numbered(format!("s{series}"), y);
            if let Some(mask) = case.masks.get(series) {
                input = input.available_mask(mask.clone());
            }
            builder = builder.series(input);
        }
        let panel = builder.build().unwrap();
        let windows = match Windows::new(&panel, &case.config, case.set) {
            Ok(windows) => windows,
            Err(error) => {
                assert!(case.windows.starts_with('!'), "{line}\n{error}");
                continue;
            }
        };
        let mut got = Vec::new();
        for (group, starts) in windows.groups().iter().enumerate() {
            for window in 0..starts.len() {
                let series = if case.config.multivariate {
                    0..case.lengths.len()
                } else {
                    group..group + 1
                };
                let first: Vec<i64> = series
                    .map(|s| windows.first_row(group, window, s))
                    .collect();
                got.push((group, first));
            }
        }
        let want: Vec<&str> = case.windows.split(' ').collect();
        assert_eq!(
            got.len(),
            want.len(),
            "number of windows of\n{line}\ngot {got:?}"
        );
        for ((group, first), want) in got.iter().zip(want) {
            let (want_group, want_first) = want.split_once(':').unwrap();
            assert_eq!(group.to_string(), want_group, "{line}");
            for (first, want) in first.iter().zip(want_first.split(',')) {
                // A part that shows no row at all names no row.
                assert!(
                    want == "?" || want == first.to_string(),
                    "{first} for {want} in\n{line}"
                );
            }
        }
        compared += 1;
    }
    assert!(compared > 600, "{compared} cases");
}
