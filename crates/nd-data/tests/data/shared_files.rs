//! Real files: ETT, the hourly part of M4, electricity prices.
//!
//! They lie beside the workspace, in `../shared/data`, because not all may be copied. Without them these tests say so and
//! pass, unless `ND_REQUIRE_SHARED` is set.

use std::path::PathBuf;
use std::time::Instant;

use nd_core::{Batch, WindowSource};
use nd_data::baseline::{naive2, seasonal_naive};
use nd_data::csv::{CsvOptions, OtherColumns, read_csv};
use nd_data::metrics;
use nd_data::split::{Borders, complete_batches};
use nd_data::{Exogenous, Frequency, Panel, PanelWindows, Role, WindowConfig, WindowSet};

fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data")
        .join(name);
    if path.exists() {
        return Some(path);
    }
    assert!(
        std::env::var_os("ND_REQUIRE_SHARED").is_none(),
        "{} is missing and ND_REQUIRE_SHARED is set",
        path.display()
    );
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn read(name: &str, options: &CsvOptions) -> Option<Panel<f32>> {
    let path = shared(name)?;
    let started = Instant::now();
    let panel = read_csv(&path, options).unwrap();
    let megabytes = path.metadata().unwrap().len() as f64 / 1e6;
    let seconds = started.elapsed().as_secs_f64();
    eprintln!(
        "{name}: {:.0} MB/s ({:.1} ms)",
        megabytes / seconds,
        seconds * 1e3
    );
    Some(panel)
}

#[test]
fn ett_is_seven_regular_series() {
    let options = CsvOptions::wide("date");
    let Some(panel) = read("ETTh1.csv", &options) else {
        return;
    };
    assert_eq!(
        panel.unique_ids().collect::<Vec<_>>(),
        ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    );
    assert_eq!((panel.n_series(), panel.n_rows()), (7, 7 * 17_420));
    assert_eq!(panel.frequency(), Some(Frequency::HOUR));
    assert!(panel.available_mask().is_none());
    assert_eq!(panel.series_y(0)[0], 5.827);
    assert_eq!(*panel.series_y(6).last().unwrap(), 9.567);
    assert_eq!(
        panel.format_ds(panel.ds_at(3, 17_419)),
        "2018-06-26 19:00:00"
    );
    assert_eq!(
        panel.format_ds(panel.future_ds(0, 5).unwrap()[4]),
        "2018-06-27 00:00:00"
    );
    let Some(panel) = read("ETTm1.csv", &options) else {
        return;
    };
    assert_eq!(panel.n_rows(), 7 * 69_680);
    assert_eq!(panel.frequency(), Some(Frequency::minutes(15)));
    assert_eq!(
        panel.format_ds(panel.ds_at(0, 69_679)),
        "2018-06-26 19:45:00"
    );
}

#[test]
fn electricity_has_future_values_for_every_market() {
    let options = CsvOptions::default().with_future(&[
        "Exogenous1",
        "Exogenous2",
        "day_0",
        "day_1",
        "day_2",
        "day_3",
        "day_4",
        "day_5",
        "day_6",
    ]);
    let Some(panel) = read("electricity-short-with-ex-vars.csv", &options) else {
        return;
    };
    assert_eq!(
        panel.unique_ids().collect::<Vec<_>>(),
        ["BE", "DE", "FR", "NP"]
    );
    assert_eq!(panel.n_rows(), 6720);
    assert_eq!(panel.columns().len(), 9);
    assert_eq!(panel.column("Exogenous2").unwrap().values()[1], 46_073.0);
    let future = CsvOptions::future_values();
    let Some(future) = read("electricity-short-future-ex-vars.csv", &future) else {
        return;
    };
    assert!(!future.has_target());
    let exogenous = Exogenous {
        future: panel
            .column_names(Role::Future)
            .into_iter()
            .map(str::to_string)
            .collect(),
        ..Exogenous::default()
    };
    let config = WindowConfig::new(48, 24);
    let source = PanelWindows::new(&panel, &config, WindowSet::Predict, &exogenous)
        .unwrap()
        .with_future(&future)
        .unwrap();
    let mut batch = Batch::new(source.layout());
    batch.resize(1);
    source.gather(0, 0, batch.view_mut().row(0));
    // The first row of the table of future values follows the last of the panel.
    assert_eq!(batch.futr_exog[48 * 9..48 * 9 + 2], [70_318.0, 64_108.0]);
    // Everything else ignored: only the target is left.
    let mut options = CsvOptions::default();
    if let nd_data::csv::Layout::Long { others, .. } = &mut options.layout {
        *others = OtherColumns::Ignore;
    }
    let Some(panel) = read("electricity-short-with-ex-vars.csv", &options) else {
        return;
    };
    assert!(panel.columns().is_empty());
}

/// The benchmarks of the M4 competition, as its paper prints them for the 414 hourly series.
#[test]
fn m4_hourly_benchmarks_have_their_published_errors() {
    let options = CsvOptions::default();
    let Some(train) = read("m4-hourly-train.csv", &options) else {
        return;
    };
    let Some(test) = read("m4-hourly-test.csv", &options) else {
        return;
    };
    assert_eq!((train.n_series(), train.n_rows()), (414, 353_500));
    assert_eq!((train.longest(), test.longest()), (960, 48));
    assert_eq!(train.frequency(), Some(Frequency::integer(1)));
    let mut errors = [[0.0; 2]; 3];
    for series in 0..train.n_series() {
        let y = train.series_y(series);
        let other = test.series_index(train.unique_id(series)).unwrap();
        assert_eq!(train.future_ds(series, 48).unwrap(), test.ds(other));
        let forecasts = [
            seasonal_naive(y, 1, 48),
            seasonal_naive(y, 24, 48),
            naive2(y, 24, 48),
        ];
        for (error, forecast) in errors.iter_mut().zip(&forecasts) {
            error[0] += 100.0 * metrics::smape(test.series_y(other), forecast, None) / 414.0;
            error[1] += metrics::mase(test.series_y(other), forecast, y, 24, None) / 414.0;
        }
    }
    // Makridakis, Spiliotis and Assimakopoulos 2020, hourly column: Naive, sNaive, Naive2.
    let published = [[43.003, 11.608], [13.912, 1.193], [18.383, 2.395]];
    for (got, want) in errors.iter().zip(published) {
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 6e-4, "{errors:?} for {published:?}");
        }
    }
    assert_eq!(
        metrics::owa(errors[2][0], errors[2][1], errors[2][0], errors[2][1]),
        1.0
    );
}

/// Mean squared and absolute error of repeating the last value over the first `windows` test windows of every channel.
fn repeat_last(source: &PanelWindows<'_, f32>, windows: usize) -> (f64, f64) {
    let mut batch = Batch::new(source.layout());
    batch.resize(1);
    let (mut squared, mut absolute, mut count) = (0.0, 0.0, 0);
    for group in 0..source.groups() {
        for window in 0..windows {
            source.gather(group, window, batch.view_mut().row(0));
            let last = f64::from(*batch.insample_y.last().unwrap());
            for &y in &batch.outsample_y {
                let error = f64::from(y) - last;
                squared += error * error;
                absolute += error.abs();
            }
            count += batch.outsample_y.len();
        }
    }
    (squared / count as f64, absolute / count as f64)
}

/// Horizon, all windows (MSE, MAE), without the last incomplete batch of 32 (MSE, MAE).
type RepeatRow = (usize, [f64; 2], [f64; 2]);

fn check_repeat(name: &str, borders: Borders, counts: [usize; 4], rows: [RepeatRow; 4]) {
    let Some(panel) = read(name, &CsvOptions::wide("date")) else {
        return;
    };
    let (panel, _) = borders.scaled(&panel).unwrap();
    for ((horizon, all, dropped), expected_count) in rows.into_iter().zip(counts) {
        for input_size in [1, 96] {
            let config = WindowConfig {
                val_size: borders.val_size(),
                test_size: borders.test_size(),
                ..WindowConfig::new(input_size, horizon)
            };
            let source =
                PanelWindows::new(&panel, &config, WindowSet::Test, &Exogenous::default()).unwrap();
            // The number of windows does not depend on the input size.
            let count = source.windows(0);
            assert_eq!(count, expected_count);
            if input_size > 1 {
                continue;
            }
            for (windows, [mse, mae]) in [(count, all), (complete_batches(count, 32), dropped)] {
                let got = repeat_last(&source, windows);
                assert!(
                    (got.0 - mse).abs() < 6e-5 && (got.1 - mae).abs() < 6e-5,
                    "{name}, horizon {horizon}, {windows} windows: {got:?} for {mse} / {mae}"
                );
            }
        }
    }
}

/// The row "Repeat" of the LTSF-Linear paper (arXiv 2205.13504, table 2), which drops the last batch, and the same over all
/// windows. It needs no training, so it checks split, scaling, windows and metrics.
#[test]
fn repeating_the_last_value_has_its_published_error_on_ett() {
    check_repeat(
        "ETTh1.csv",
        Borders::ETT_HOURLY,
        [2785, 2689, 2545, 2161],
        [
            (96, [1.2944, 0.7132], [1.2946, 0.7133]),
            (192, [1.3249, 0.7331], [1.3251, 0.7332]),
            (336, [1.3299, 0.7460], [1.3233, 0.7443]),
            (720, [1.3351, 0.7550], [1.3386, 0.7559]),
        ],
    );
    check_repeat(
        "ETTm1.csv",
        Borders::ETT_QUARTER_HOURLY,
        [11_425, 11_329, 11_185, 10_801],
        [
            (96, [1.2139, 0.6648], [1.2140, 0.6648]),
            (192, [1.2612, 0.6904], [1.2613, 0.6904]),
            (336, [1.2866, 0.7072], [1.2834, 0.7067]),
            (720, [1.3223, 0.7295], [1.3192, 0.7289]),
        ],
    );
}
