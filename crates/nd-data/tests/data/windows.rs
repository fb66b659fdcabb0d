//! Windows against a reference that pads, slices and filters a dense copy of the panel.

use nd_core::{Batch, WindowSource};
use nd_data::window::Starts;
use nd_data::{
    DataError, Exogenous, Panel, PanelBuilder, PanelWindows, Series, WindowConfig, WindowScaler,
    WindowSet, Windows,
};
use proptest::prelude::*;

/// A value that names its series, column and row.
fn value(series: usize, column: usize, row: usize) -> f64 {
    (series * 100_000 + column * 10_000 + row + 1) as f64 * if column == 1 { 0.5 } else { 1.0 }
}

fn panel(lengths: &[usize], masks: Option<&[Vec<bool>]>) -> Panel<f64> {
    let mut builder = PanelBuilder::new();
    for (s, &length) in lengths.iter().enumerate() {
        let column = |c| (0..length).map(|t| value(s, c, t)).collect::<Vec<f64>>();
        // Numbers that end together, so that the rows after them are the same for all.
        let ds = (0..length).map(|t| (t + 1000 - length) as i64).collect();
        let mut series = Series::new(format!("s{s}"), ds, column(0))
            .historic("hist", column(1))
            .future("futr", column(2))
            .constant("stat", s as f64 + 0.25);
        if let Some(masks) = masks {
            series = series.available_mask(masks[s].clone());
        }
        builder = builder.series(series);
    }
    builder.build().unwrap()
}

/// The value of a dense, padded copy: zero outside `0..end`.
fn dense(series: usize, column: usize, row: i64, end: usize) -> f64 {
    if (0..end as i64).contains(&row) {
        value(series, column, row as usize)
    } else {
        0.0
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn training_windows_are_those_that_a_dense_copy_has(
        lengths in prop::collection::vec(1_usize..30, 1..5),
        seed in any::<u64>(),
        masked in any::<bool>(),
        l in 1_usize..8,
        h in 1_usize..5,
        step in 1_usize..4,
        val in 0_usize..6,
        test in 0_usize..6,
        padding in any::<bool>(),
        shares in (0.0..1.0_f64, 0.0..1.0_f64),
        multivariate in any::<bool>(),
    ) {
        let mut state = seed;
        let mut bit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 62 != 0
        };
        let masks: Vec<Vec<bool>> =
            lengths.iter().map(|&n| (0..n).map(|_| !masked || bit()).collect()).collect();
        let panel = panel(&lengths, Some(&masks));
        let config = WindowConfig {
            step_size: step,
            val_size: val,
            test_size: test,
            start_padding: padding,
            input_availability: shares.0,
            target_availability: shares.1,
            multivariate,
            ..WindowConfig::new(l, h)
        };
        // Dense reference: pad left to the longest (and L - 1), cut right, pad h, slide, filter.
        let longest = *lengths.iter().max().unwrap() as i64;
        let left = if padding { l as i64 - 1 } else { 0 };
        let visible = longest - (val + test) as i64;
        let seen = |s: usize, position: i64| {
            let row = position - left - (longest - lengths[s] as i64);
            position - left < visible
                && row >= 0
                && (row as usize) < lengths[s]
                && masks[s][row as usize]
        };
        let groups: Vec<Vec<usize>> = if multivariate {
            vec![(0..lengths.len()).collect()]
        } else {
            (0..lengths.len()).map(|s| vec![s]).collect()
        };
        let mut expected = Vec::new();
        for group in &groups {
            let n = group.len() as f64;
            let least_in = ((l as f64 * shares.0 * n) as usize).max(1);
            let least_out = ((h as f64 * shares.1 * n) as usize).max(1);
            let mut starts = Vec::new();
            let mut position = 0;
            while position + (l + h) as i64 <= visible + left + h as i64 {
                let count = |from: i64, to: i64| {
                    group.iter().map(|&s| (from..to).filter(|&p| seen(s, p)).count()).sum::<usize>()
                };
                let middle = position + l as i64;
                if count(position, middle) >= least_in && count(middle, middle + h as i64) >= least_out {
                    let shift = if multivariate { 0 } else { longest - lengths[group[0]] as i64 };
                    starts.push(position - left - shift);
                }
                position += step as i64;
            }
            expected.push(starts);
        }
        match Windows::new(&panel, &config, WindowSet::Train) {
            Err(DataError::NoWindows { .. } | DataError::NoObservedWindows { .. }) => {
                prop_assert!(expected.iter().all(Vec::is_empty), "{expected:?}");
            }
            Err(other) => prop_assert!(false, "{other}"),
            Ok(windows) => {
                let got: Vec<Vec<i64>> = windows
                    .groups()
                    .iter()
                    .map(|starts| (0..starts.len()).map(|k| starts.get(k)).collect())
                    .collect();
                prop_assert_eq!(got, expected);
            }
        }
    }

    #[test]
    fn gathered_values_are_those_of_a_dense_copy(
        lengths in prop::collection::vec(3_usize..25, 1..4),
        l in 1_usize..7,
        h in 1_usize..4,
        multivariate in any::<bool>(),
        set in 0..3_usize,
        masked in any::<bool>(),
    ) {
        let masks: Vec<Vec<bool>> =
            lengths.iter().map(|&n| (0..n).map(|t| !masked || t % 3 != 1).collect()).collect();
        let panel = panel(&lengths, Some(&masks));
        let sets = [WindowSet::Train, WindowSet::Test, WindowSet::Predict];
        let test = if set == 1 { h } else { 0 };
        let config = WindowConfig { multivariate, test_size: test, ..WindowConfig::new(l, h) };
        let Ok(source) = PanelWindows::new(&panel, &config, sets[set], &Exogenous::all(&panel)) else {
            return Ok(());
        };
        let n = if multivariate { lengths.len() } else { 1 };
        let mut batch = Batch::new(source.layout());
        batch.resize(1);
        for group in 0..source.groups() {
            for window in 0..source.windows(group) {
                // Rubbish must be overwritten everywhere.
                let mut all = batch.view_mut();
                for field in [
                    &mut all.insample_y, &mut all.insample_mask, &mut all.outsample_y,
                    &mut all.outsample_mask, &mut all.outsample_original, &mut all.hist_exog,
                    &mut all.futr_exog, &mut all.stat_exog, &mut all.loc, &mut all.scale,
                ] {
                    field.fill(f64::NAN);
                }
                source.gather(group, window, batch.view_mut().row(0));
                for i in 0..n {
                    let s = if multivariate { i } else { group };
                    let start = source.indices().first_row(group, window, s);
                    let end = source.indices().end(s);
                    let observed = |row: i64| {
                        let inside = (0..end as i64).contains(&row) && masks[s][row as usize];
                        if inside { 1.0 } else { 0.0 }
                    };
                    for t in 0..l + h {
                        let row = start + t as i64;
                        let y = dense(s, 0, row, end);
                        if t < l {
                            prop_assert_eq!(batch.insample_y[t * n + i], y);
                            prop_assert_eq!(batch.insample_mask[t * n + i], observed(row));
                            let at = if multivariate { t * n + i } else { t };
                            prop_assert_eq!(batch.hist_exog[at], dense(s, 1, row, end));
                        } else {
                            prop_assert_eq!(batch.outsample_y[(t - l) * n + i], y);
                            prop_assert_eq!(batch.outsample_original[(t - l) * n + i], y);
                            prop_assert_eq!(batch.outsample_mask[(t - l) * n + i], observed(row));
                        }
                        let at = if multivariate { t * n + i } else { t };
                        prop_assert_eq!(batch.futr_exog[at], dense(s, 2, row, end));
                    }
                    prop_assert_eq!(batch.stat_exog[i], s as f64 + 0.25);
                    prop_assert_eq!((batch.loc[i], batch.scale[i]), (0.0, 1.0));
                }
            }
        }
    }
}

/// Two variables of each kind: the second must not land where the first is.
#[test]
fn several_exogenous_columns_keep_their_places() {
    let column = |c: usize| (0..9).map(|t| (c * 100 + t) as f32).collect::<Vec<f32>>();
    let series = |name: &str, add: f32| {
        let column = |c| column(c).into_iter().map(|x| x + add).collect::<Vec<f32>>();
        Series::numbered(name, column(0))
            .historic("h0", column(1))
            .historic("h1", column(2))
            .future("f0", column(3))
            .future("f1", column(4))
            .constant("s0", 5.0 + add)
            .constant("s1", 6.0 + add)
    };
    let panel = PanelBuilder::new()
        .series(series("a", 0.0))
        .series(series("b", 1000.0))
        .build()
        .unwrap();
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    // A future column is known in the past, too, and the model's order need not be the panel's.
    let exogenous = Exogenous {
        historic: names(&["h1", "f0"]),
        future: names(&["f1", "f0"]),
        statics: names(&["s1", "s0"]),
    };
    let (l, h) = (3, 2);
    for multivariate in [false, true] {
        let config = WindowConfig {
            multivariate,
            ..WindowConfig::new(l, h)
        };
        let source = PanelWindows::new(&panel, &config, WindowSet::Train, &exogenous).unwrap();
        let mut batch = Batch::new(source.layout());
        batch.resize(1);
        let group = if multivariate { 0 } else { 1 };
        source.gather(group, 2, batch.view_mut().row(0));
        let n = if multivariate { 2 } else { 1 };
        for i in 0..n {
            let add = if multivariate && i == 0 { 0.0 } else { 1000.0 };
            let expect = |c: usize, t: usize| (c * 100 + t + 2) as f32 + add;
            for t in 0..l + h {
                for (v, hist, futr) in [(0, 2, 4), (1, 3, 3)] {
                    let at = |len: usize| {
                        if multivariate {
                            (v * len + t) * n + i
                        } else {
                            t * 2 + v
                        }
                    };
                    if t < l {
                        assert_eq!(batch.hist_exog[at(l)], expect(hist, t));
                    }
                    assert_eq!(batch.futr_exog[at(l + h)], expect(futr, t));
                }
            }
            assert_eq!(batch.stat_exog[i * 2..i * 2 + 2], [6.0 + add, 5.0 + add]);
        }
    }
}

/// Scaled windows undo to the unscaled ones, statistics come from the observed inputs only, and padding is scaled like
/// every other zero.
#[test]
fn scaling_uses_observed_inputs_only_and_can_be_undone() {
    let masks: Vec<Vec<bool>> = vec![
        (0..24).map(|t| t % 5 != 2).collect(),
        (0..13).map(|t| t % 4 != 1).collect(),
    ];
    let panel = panel(&[24, 13], Some(&masks));
    let (l, h) = (6, 3);
    for multivariate in [false, true] {
        let config = WindowConfig {
            multivariate,
            ..WindowConfig::new(l, h)
        };
        let all = Exogenous::all(&panel);
        for scaler in WindowScaler::ALL {
            let source = PanelWindows::new(&panel, &config, WindowSet::Train, &all).unwrap();
            let plain = source.clone();
            let source = source.with_scaler(scaler);
            let (mut scaled, mut raw) = (Batch::new(source.layout()), Batch::new(source.layout()));
            scaled.resize(1);
            raw.resize(1);
            let n = if multivariate { 2 } else { 1 };
            for group in 0..source.groups() {
                for window in 0..source.windows(group) {
                    source.gather(group, window, scaled.view_mut().row(0));
                    plain.gather(group, window, raw.view_mut().row(0));
                    assert_eq!(scaled.insample_mask, raw.insample_mask);
                    assert_eq!(scaled.outsample_mask, raw.outsample_mask);
                    assert_eq!(scaled.outsample_original, raw.outsample_original);
                    assert_eq!(scaled.stat_exog, raw.stat_exog);
                    for i in 0..n {
                        let of = |field: &[f64]| {
                            field[i..].iter().step_by(n).copied().collect::<Vec<_>>()
                        };
                        let (x, mask) = (of(&raw.insample_y), of(&raw.insample_mask));
                        let statistics = scaler.masked_statistics(&x, &mask, &mut vec![0.0; l]);
                        assert_eq!(
                            (scaled.loc[i], scaled.scale[i]),
                            scaler.loc_scale(statistics)
                        );
                        for (field, raw) in [
                            (of(&scaled.insample_y), x),
                            (of(&scaled.outsample_y), of(&raw.outsample_y)),
                        ] {
                            let mut expected = raw.clone();
                            scaler.transform(statistics, &mut expected);
                            assert_eq!(field, expected, "{scaler}");
                            let mut back = field;
                            scaler.inverse(scaled.loc[i], scaled.scale[i], &mut back);
                            for (back, raw) in back.iter().zip(&raw) {
                                // revin's inverse is off by its epsilon, as it is in NeuralForecast.
                                let tolerance = if scaler == WindowScaler::RevIn {
                                    3e-6
                                } else {
                                    1e-9
                                };
                                let size = raw.abs().max(scaled.loc[i].abs()).max(1.0);
                                assert!(
                                    (back - raw).abs() <= tolerance * size,
                                    "{scaler}: {back} for {raw}"
                                );
                            }
                        }
                        // The exogenous channels have statistics of their own.
                        let of = |field: &[f64], len: usize| {
                            field[i..]
                                .iter()
                                .step_by(n)
                                .take(len)
                                .copied()
                                .collect::<Vec<_>>()
                        };
                        let hist = of(&raw.hist_exog, l);
                        let own = scaler.masked_statistics(&hist, &mask, &mut vec![0.0; l]);
                        let mut expected = hist;
                        scaler.transform(own, &mut expected);
                        assert_eq!(of(&scaled.hist_exog, l), expected, "{scaler}");
                        let futr = of(&raw.futr_exog, l + h);
                        let own = scaler.masked_statistics(&futr[..l], &mask, &mut vec![0.0; l]);
                        let mut expected = futr;
                        scaler.transform(own, &mut expected);
                        assert_eq!(of(&scaled.futr_exog, l + h), expected, "{scaler}");
                    }
                }
            }
        }
    }
}

#[test]
fn values_behind_the_cut_never_reach_a_training_batch() {
    let mut panel = panel(&[20, 15], None);
    let config = WindowConfig {
        val_size: 3,
        test_size: 4,
        ..WindowConfig::new(5, 3)
    };
    for series in 0..2 {
        let rows = panel.rows_of(series);
        panel.y_mut()[rows.end - 7..rows.end].fill(f64::NAN);
    }
    for set in [WindowSet::Train, WindowSet::Insample] {
        let source = PanelWindows::new(&panel, &config, set, &Exogenous::default())
            .unwrap()
            .with_scaler(WindowScaler::Robust);
        let mut batch = Batch::new(source.layout());
        batch.resize(1);
        for group in 0..2 {
            for window in 0..source.windows(group) {
                source.gather(group, window, batch.view_mut().row(0));
                for field in [
                    &batch.insample_y,
                    &batch.outsample_y,
                    &batch.outsample_original,
                ] {
                    assert!(
                        field.iter().all(|x| x.is_finite()),
                        "{set:?} {group} {window}"
                    );
                }
            }
        }
    }
}

#[test]
fn future_values_continue_each_series() {
    let panel = panel(&[12, 9], None);
    let (l, h) = (4, 3);
    let config = WindowConfig::new(l, h);
    let exogenous = Exogenous {
        future: vec!["futr".into()],
        ..Exogenous::default()
    };
    let source = PanelWindows::new(&panel, &config, WindowSet::Predict, &exogenous).unwrap();
    assert!(!source.has_future());
    let table = |from: i64, rows: i64, ids: [&str; 2]| {
        let mut builder = PanelBuilder::new();
        for id in ids {
            let ds: Vec<i64> = (from..from + rows).collect();
            let futr = ds.iter().map(|&t| t as f64).collect();
            builder = builder.series(Series::without_target(id, ds).future("futr", futr));
        }
        builder.build().unwrap()
    };
    // Series end at 999; other series, earlier and later rows are ignored; the order of series does not matter.
    let future = table(995, 20, ["s1", "s0"]);
    let with = source.clone().with_future(&future).unwrap();
    assert!(with.has_future());
    let mut batch = Batch::new(with.layout());
    batch.resize(1);
    for group in 0..2 {
        with.gather(group, 0, batch.view_mut().row(0));
        assert_eq!(batch.futr_exog[l..], [1000.0, 1001.0, 1002.0]);
        assert_eq!(batch.futr_exog[l - 1], value(group, 2, [11, 8][group]));
        assert_eq!(batch.outsample_mask, [0.0; 3]);
    }
    // Windows that end before the panel does must not look into the future behind it.
    let cut = WindowConfig {
        val_size: 2,
        ..config.clone()
    };
    let train = PanelWindows::new(&panel, &cut, WindowSet::Train, &exogenous).unwrap();
    let train = train.with_future(&future).unwrap();
    let last = train.windows(0) - 1;
    train.gather(0, last, batch.view_mut().row(0));
    assert_eq!(batch.outsample_mask, [1.0, 0.0, 0.0]);
    assert_eq!(batch.futr_exog[l..], [value(0, 2, 9), 0.0, 0.0]);
    for (from, rows, ids, message) in [
        (1001, 20, ["s0", "s1"], "must begin at 1000"),
        (1000, 2, ["s0", "s1"], "future values of 1002 are missing"),
        (1000, 3, ["s0", "x"], "no row of it"),
    ] {
        let future = table(from, rows, ids);
        let error = source.clone().with_future(&future).unwrap_err();
        assert!(matches!(error, DataError::FutureValues { .. }));
        assert!(error.to_string().contains(message), "{error}");
    }
    let missing = Exogenous {
        future: vec!["hist".into()],
        ..Exogenous::default()
    };
    let error = PanelWindows::new(&panel, &config, WindowSet::Predict, &missing).unwrap_err();
    assert!(matches!(error, DataError::NotFound { .. }), "{error}");
    assert!(PanelWindows::new(&future, &config, WindowSet::Predict, &exogenous).is_err());
}

#[test]
fn without_observed_rows_the_mask_is_to_blame_and_not_the_lengths() {
    for multivariate in [false, true] {
        let config = WindowConfig {
            test_size: 2,
            multivariate,
            ..WindowConfig::new(4, 2)
        };
        let mut mask = vec![false; 20];
        mask[1] = true;
        let panel = panel(&[20], Some(&[mask]));
        let error = Windows::new(&panel, &config, WindowSet::Train).unwrap_err();
        assert!(
            matches!(
                error,
                DataError::NoObservedWindows {
                    observed: 1,
                    rows: 18,
                    ..
                }
            ),
            "{error}"
        );
        let short = self::panel(&[1], None);
        let error = Windows::new(&short, &config, WindowSet::Train).unwrap_err();
        assert!(matches!(error, DataError::NoWindows { .. }), "{error}");
    }
}

#[test]
fn a_hole_is_no_outlier_in_its_window() {
    // Values around 1000 with a spread of 2: a zero in a hole would be 500 deviations away.
    let text: String = (0..40)
        .filter(|t| t % 5 != 3)
        .map(|t| format!("{t},{}\n", 1000 + 2 * (t % 3)))
        .collect();
    let options = nd_data::csv::CsvOptions::default().with_repair(nd_data::Repair {
        gaps: nd_data::GapPolicy::Mask,
        ..nd_data::Repair::default()
    });
    let text = format!("ds,y\n{text}");
    let panel: Panel<f64> =
        nd_data::csv::read_csv_from(text.as_bytes(), "file.csv", &options).unwrap();
    let config = WindowConfig::new(10, 2);
    for scaler in WindowScaler::ALL {
        let source = PanelWindows::new(&panel, &config, WindowSet::Train, &Exogenous::default())
            .unwrap()
            .with_scaler(scaler);
        let mut batch = Batch::new(source.layout());
        batch.resize(1);
        for window in 0..source.windows(0) {
            source.gather(0, window, batch.view_mut().row(0));
            let far = batch.insample_y.iter().any(|z| z.abs() > 5.0);
            assert!(
                scaler == WindowScaler::Identity || !far,
                "{scaler}: {:?}",
                batch.insample_y
            );
        }
    }
}

#[test]
fn targets_have_their_time_stamps() {
    let panel = panel(&[12, 9], None);
    let config = WindowConfig {
        test_size: 5,
        step_size: 2,
        ..WindowConfig::new(4, 3)
    };
    let ds = |set, group, window, series, multivariate| {
        let config = WindowConfig {
            multivariate,
            ..config.clone()
        };
        let source = PanelWindows::new(&panel, &config, set, &Exogenous::default()).unwrap();
        source.target_ds(group, window, series).unwrap()
    };
    // Both series end with the stamp 999.
    assert_eq!(ds(WindowSet::Test, 1, 0, 1, false), [995, 996, 997]);
    assert_eq!(ds(WindowSet::Test, 0, 1, 0, false), [997, 998, 999]);
    assert_eq!(ds(WindowSet::Test, 0, 1, 1, true), [997, 998, 999]);
    assert_eq!(ds(WindowSet::Predict, 1, 0, 1, false), [1000, 1001, 1002]);
    // The last training window reaches beyond the cut.
    assert_eq!(ds(WindowSet::Train, 0, 1, 0, false), [994, 995, 996]);
}

#[test]
fn insample_windows_cover_the_training_rows_once() {
    let panel = panel(&[17, 8], None);
    let config = WindowConfig {
        step_size: 3,
        val_size: 2,
        ..WindowConfig::new(5, 3)
    };
    let windows = Windows::new(&panel, &config, WindowSet::Insample).unwrap();
    // 15 rows: targets 0..3, 3..6, ..., 12..15; the shorter series has 6.
    assert_eq!(
        windows.groups()[0],
        Starts::Range {
            first: -5,
            step: 3,
            count: 5
        }
    );
    assert_eq!(
        windows.groups()[1],
        Starts::Range {
            first: -5,
            step: 3,
            count: 2
        }
    );
}

#[test]
fn impossible_sizes_are_named() {
    let panel = panel(&[10], None);
    let good = WindowConfig::new(4, 2);
    let cases = [
        (
            WindowConfig {
                input_size: 0,
                ..good.clone()
            },
            WindowSet::Train,
            "input_size",
        ),
        (
            WindowConfig {
                horizon: 0,
                ..good.clone()
            },
            WindowSet::Train,
            "horizon",
        ),
        (
            WindowConfig {
                step_size: 0,
                ..good.clone()
            },
            WindowSet::Train,
            "step_size",
        ),
        (
            WindowConfig {
                input_availability: 1.5,
                ..good.clone()
            },
            WindowSet::Train,
            "input_availability",
        ),
        (
            WindowConfig {
                target_availability: f64::NAN,
                ..good.clone()
            },
            WindowSet::Train,
            "target_availability",
        ),
        (
            WindowConfig {
                val_size: 1,
                ..good.clone()
            },
            WindowSet::Validation,
            "val_size",
        ),
        (
            WindowConfig {
                test_size: 1,
                ..good.clone()
            },
            WindowSet::Test,
            "test_size",
        ),
        (
            WindowConfig {
                input_size: usize::MAX,
                ..good.clone()
            },
            WindowSet::Train,
            "input_size",
        ),
        (
            WindowConfig {
                test_size: usize::MAX,
                ..good.clone()
            },
            WindowSet::Test,
            "test_size",
        ),
    ];
    for (config, set, option) in cases {
        match Windows::new(&panel, &config, set) {
            Err(DataError::InvalidOption { option: found, .. }) => assert_eq!(found, option),
            other => panic!("{option}: {other:?}"),
        }
    }
    for config in [
        WindowConfig::new(10, 2),
        WindowConfig {
            val_size: 50,
            ..good.clone()
        },
        WindowConfig {
            input_size: u32::MAX as usize,
            ..good
        },
    ] {
        let error = Windows::new(&panel, &config, WindowSet::Train).unwrap_err();
        assert!(matches!(error, DataError::NoWindows { .. }), "{error}");
        assert!(error.to_string().contains("has 10 rows"), "{error}");
    }
}

#[test]
fn a_running_number_finds_its_group() {
    let panel = panel(&[9, 3, 12], None);
    let windows = Windows::new(&panel, &WindowConfig::new(4, 2), WindowSet::Train).unwrap();
    let mut index = 0;
    for (group, starts) in windows.groups().iter().enumerate() {
        for window in 0..starts.len() {
            assert_eq!(windows.locate(index), (group, window));
            index += 1;
        }
    }
    assert_eq!(index, windows.len());
}
