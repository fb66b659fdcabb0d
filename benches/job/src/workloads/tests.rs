use nd_data::DataError;

use super::file::explain;
use super::*;

fn file(name: &str, text: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("nd-bench-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

fn hours(series: &[&str], rows: usize) -> String {
    let mut text = format!("date,{}\n", series.join(","));
    for row in 0..rows {
        let values: Vec<String> = series.iter().map(|_| (row % 24).to_string()).collect();
        text += &format!(
            "2020-01-{:02} {:02}:00:00,{}\n",
            1 + row / 24,
            row % 24,
            values.join(",")
        );
    }
    text
}

#[test]
fn embedded_data_sets_have_room_for_training_and_testing() {
    for set in data_sets(&Request::default()).unwrap() {
        let train = set.until(set.test_rows());
        assert!(
            train.longest() >= set.input_size + set.horizon,
            "{}",
            set.name
        );
        assert!(set.naive_error() > 0.0, "{}", set.name);
    }
}

#[test]
fn a_wide_file_is_split_at_its_end() {
    let path = file("wide.csv", &hours(&["a", "b"], 240));
    let request = Request {
        csv: Some(path.clone()),
        horizon: Some(6),
        ds_column: Some("date".to_owned()),
        wide: true,
        ..Request::default()
    };
    let set = data_sets(&request).unwrap().remove(0);
    assert_eq!(
        (set.panel.n_series(), set.season, set.test_windows),
        (2, 24, 8)
    );
    assert_eq!(set.target_rows(0, 7), 234..240);
    assert_eq!(set.target_rows(1, 0), 192..198);
    // The series repeats every day, so the naive forecast is right.
    assert_eq!(set.naive_error(), 0.0);
    let example = set.example(1, &[1.0; 6]);
    assert_eq!((example.actual.len(), example.naive.len()), (18, 6));
    assert_eq!(example.ds.last().unwrap(), "2020-01-10 23:00:00");
    let zero = set.test_error(|_, _| vec![0.0; 6]);
    assert_eq!(zero, 11.5, "the mean of 0 to 23");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn numbered_series_get_the_season_that_fits_best() {
    let mut text = "unique_id,ds,y\n".to_owned();
    for row in 0..200_u32 {
        // Neighbours are close, so that one step ahead the last value would be the better forecast.
        let angle = f64::from(row) * std::f64::consts::TAU / 24.0;
        let noise = f64::from(row.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24);
        text += &format!("x,{row},{}\n", 10.0 + 2.0 * angle.sin() + noise);
    }
    let path = file("numbered.csv", &text);
    let request = Request {
        csv: Some(path.clone()),
        horizon: Some(24),
        ..Request::default()
    };
    assert_eq!(data_sets(&request).unwrap()[0].season, 24);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn mistakes_are_one_clear_message() {
    let path = file("short.csv", "unique_id,ds,y\nx,1,1\nx,2,2\nx,3,3\n");
    let request = Request {
        csv: Some(path.clone()),
        horizon: Some(4),
        ..Request::default()
    };
    let error = data_sets(&request).unwrap_err();
    assert!(
        error.contains("`x`, has 3 rows") && error.contains("--horizon"),
        "{error}"
    );
    let error = data_sets(&Request {
        y_column: Some("z".into()),
        ..request.clone()
    })
    .unwrap_err();
    assert!(
        error.contains("`z`") && error.contains("--y-col"),
        "{error}"
    );
    let error = data_sets(&Request {
        freq: Some("fortnight".into()),
        ..request.clone()
    })
    .unwrap_err();
    assert!(error.contains("fortnight"), "{error}");
    let wide = Request {
        wide: true,
        y_column: Some("y".into()),
        ..request.clone()
    };
    assert!(data_sets(&wide).unwrap_err().contains("--wide"));
    std::fs::remove_file(path).unwrap();
    let error = data_sets(&request).unwrap_err();
    assert!(error.contains("short.csv"), "{error}");
}

/// A file of days: `value(series, day)` is a field.
fn days(series: &[&str], rows: usize, value: impl Fn(usize, usize) -> Option<String>) -> String {
    let mut text = "unique_id,ds,y\n".to_owned();
    for (s, id) in series.iter().enumerate() {
        for row in 0..rows {
            let Some(value) = value(s, row) else { continue };
            let day = jiff::civil::date(2020, 1, 1) + jiff::Span::new().days(row as i64);
            text += &format!("{id},{day},{value}\n");
        }
    }
    text
}

/// A weekly pattern and noise that depends on series and day alone.
fn weekly(series: usize, row: usize) -> f64 {
    let hash = ((series * 10_007 + row) as u32).wrapping_mul(2_654_435_761) >> 8;
    let noise = f64::from(hash) / f64::from(1 << 24) - 0.5;
    100.0 + 10.0 * (row as f64 * std::f64::consts::TAU / 7.0).sin() + 2.0 * noise
}

fn read(name: &str, text: &str, change: impl Fn(&mut Request)) -> Result<DataSet, String> {
    let path = file(name, text);
    let mut request = Request {
        csv: Some(path.clone()),
        horizon: Some(10),
        ..Request::default()
    };
    change(&mut request);
    let sets = data_sets(&request);
    std::fs::remove_file(path).unwrap();
    Ok(sets?.remove(0))
}

#[test]
fn holes_leave_the_naive_error_nearly_as_it_is() {
    let whole = |s, row| Some(weekly(s, row).to_string());
    let hole = |s: usize, row: usize| (s + 3 * row).is_multiple_of(11);
    let gaps = |s, row| (!hole(s, row)).then(|| weekly(s, row).to_string());
    let missing = |s, row| {
        Some(if hole(s, row) {
            String::new()
        } else {
            weekly(s, row).to_string()
        })
    };
    let error = |name: &str, text: String| {
        let set = read(name, &text, |_| {}).unwrap();
        assert_eq!(set.season, 7, "{name}");
        set.naive_error()
    };
    let names = ["a", "b", "c"];
    let plain = error("whole.csv", days(&names, 300, whole));
    for (name, text) in [
        ("gaps.csv", days(&names, 300, gaps)),
        ("missing.csv", days(&names, 300, missing)),
    ] {
        let holed = error(name, text);
        assert!(
            (holed / plain - 1.0).abs() < 0.1,
            "{name}: {holed} for {plain}"
        );
    }
}

#[test]
fn the_season_does_not_depend_on_holes_or_on_test_rows() {
    let value = |row: usize| {
        let hash = (row as u32).wrapping_mul(2_654_435_761) >> 8;
        10.0 + 0.02 * row as f64
            + 3.0 * (row as f64 * std::f64::consts::TAU / 24.0).sin()
            + f64::from(hash) / f64::from(1 << 24)
    };
    let numbered = |value: &dyn Fn(usize) -> String| {
        let rows: String = (0..400)
            .map(|row| format!("x,{row},{}\n", value(row)))
            .collect();
        format!("unique_id,ds,y\n{rows}")
    };
    let season = |name: &str, value: &dyn Fn(usize) -> String| {
        let set = read(name, &numbered(value), |request| request.horizon = Some(24)).unwrap();
        set.season
    };
    assert_eq!(season("s.csv", &|row| value(row).to_string()), 24);
    // Every fifth value missing: pairs with a hole say nothing about the season.
    let holed = |row: usize| {
        if row % 5 == 2 {
            String::new()
        } else {
            value(row).to_string()
        }
    };
    assert_eq!(season("holes.csv", &holed), 24);
    // The last fifth repeats after seven rows, and no model may know.
    let changed = |row: usize| {
        if row < 330 {
            value(row)
        } else {
            50.0 * (row % 7) as f64
        }
    };
    assert_eq!(season("changed.csv", &|row| changed(row).to_string()), 24);
}

#[test]
fn short_and_empty_series_are_left_out_by_name() {
    let text = days(&["a", "b", "empty"], 200, |s, row| {
        Some(if s == 2 {
            String::new()
        } else {
            weekly(s, row).to_string()
        })
    }) + "Z,2020-01-01,1\nZ,2020-01-02,2\n";
    let set = read("short-one.csv", &text, |_| {}).unwrap();
    assert_eq!(set.panel.unique_ids().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(set.notices.len(), 2, "{:?}", set.notices);
    assert!(
        set.notices[0].contains("1 series (`empty`) left out"),
        "{}",
        set.notices[0]
    );
    let short = &set.notices[1];
    assert!(
        short.contains("1 series (`Z`) left out") && short.contains("30 rows"),
        "{short}"
    );
}

#[test]
fn a_test_without_an_observed_value_is_refused_before_training() {
    let until = |end: [usize; 2]| {
        days(&["a", "b"], 200, move |s, row| {
            Some(if row < end[s] {
                weekly(s, row).to_string()
            } else {
                String::new()
            })
        })
    };
    let error = read("no-test.csv", &until([150, 150]), |_| {}).unwrap_err();
    assert!(
        error.contains("no-test.csv") && error.contains("last 40 rows") && error.contains("`b`"),
        "{error}"
    );
    // One of two: it is said, and the error is that of the other.
    let set = read("half-test.csv", &until([150, 200]), |_| {}).unwrap();
    assert!(set.notices[0].contains("`a`") && set.notices[0].contains("not tested"));
    assert_eq!(set.shown_series(), 1);
    assert!(set.naive_error() > 0.0);
    let error = read("nothing.csv", &until([0, 0]), |_| {}).unwrap_err();
    assert!(
        error.contains("nothing.csv")
            && error.contains("all are missing")
            && error.contains("--y-col"),
        "{error}"
    );
    let error = read(
        "no-training.csv",
        &days(&["a"], 200, |_, row| {
            Some(if row < 170 {
                String::new()
            } else {
                "1".to_owned()
            })
        }),
        |_| {},
    )
    .unwrap_err();
    assert!(
        error.contains("0 of 160 training rows are observed") && !error.contains("shorten"),
        "{error}"
    );
}

#[test]
fn rows_that_are_filled_in_are_counted_and_most_are_never_invented() {
    let whole = days(&["a", "b"], 200, |s, row| Some(weekly(s, row).to_string()));
    let text = whole.replace("a,2020-02-01", "a,2020-13-01");
    assert!(read("typo.csv", &text, |_| {}).is_err());
    let text: String = whole
        .split_inclusive('\n')
        .filter(|line| !line.contains("2020-02-0"))
        .collect();
    let set = read("filled.csv", &text, |_| {}).unwrap();
    assert!(
        set.notices[0].starts_with("18 of 400 rows"),
        "{:?}",
        set.notices
    );
    let text = whole.replace("a,2020-07-18", "a,2200-07-18");
    let error = read("year.csv", &text, |_| {}).unwrap_err();
    assert!(
        error.contains("year.csv, line") && error.contains("mistyped year"),
        "{error}"
    );
}

#[test]
fn sizes_beyond_the_file_are_messages() {
    let text = days(&["a"], 200, |s, row| Some(weekly(s, row).to_string()));
    for horizon in [67, 1 << 31, 1 << 63, usize::MAX] {
        let error = read("far.csv", &text, |request| request.horizon = Some(horizon)).unwrap_err();
        assert!(
            error.contains("--horizon") && error.contains("`a`"),
            "{error}"
        );
    }
    for input_size in [200, u32::MAX as usize, 1 << 63, usize::MAX] {
        let ask = |request: &mut Request| request.input_size = Some(input_size);
        let error = read("wide-eyed.csv", &text, ask).unwrap_err();
        assert!(
            error.contains("wide-eyed.csv") && error.contains("input_size"),
            "{error}"
        );
    }
    let error = read("unnamed.csv", &text, |request| {
        request.csv = Some("".into())
    })
    .unwrap_err();
    assert!(error.contains("--csv"), "{error}");
}

#[test]
fn the_options_of_the_file_are_followed() {
    let text = days(&["a"], 200, |s, row| Some(weekly(s, row).to_string()));
    let plain = read("plain.csv", &text, |_| {}).unwrap().panel;
    let semicolons = text
        .replace(',', ";")
        .replace('.', ",")
        .replace("unique_id;ds;y", "unique_id;ds;y;");
    let semicolons = semicolons.replace('\n', ";\n").replace("y;;", "y;");
    let panel = read("semicolons.csv", &semicolons, |request| {
        request.delimiter = Some(";".into());
        request.decimal = Some("comma".into());
    });
    assert_eq!(panel.unwrap().panel, plain);
    let twice = format!("{text}a,2020-01-01,-1\n");
    let set = read("twice.csv", &twice, |request| {
        request.duplicates = Some("first".into())
    });
    assert_eq!(set.unwrap().panel, plain);
    let named = text.replace("\na,", "\nK\u{f6}ln,");
    let latin: Vec<u8> = named.chars().map(|c| c as u8).collect();
    let path = file("latin.csv", "");
    std::fs::write(&path, latin).unwrap();
    let mut request = Request {
        csv: Some(path.clone()),
        horizon: Some(10),
        ..Request::default()
    };
    assert!(
        data_sets(&request)
            .unwrap_err()
            .contains("--encoding latin-1")
    );
    request.encoding = Some("latin-1".into());
    assert_eq!(
        data_sets(&request).unwrap()[0].panel.unique_id(0),
        "K\u{f6}ln"
    );
    std::fs::remove_file(path).unwrap();
    for (name, value) in [
        ("delimiter", "x"),
        ("gaps", "zero"),
        ("missing", "linear"),
        ("duplicates", "any"),
    ] {
        let error = read("names.csv", &text, |request| {
            let option = match name {
                "delimiter" => &mut request.delimiter,
                "gaps" => &mut request.gaps,
                "missing" => &mut request.missing,
                _ => &mut request.duplicates,
            };
            *option = Some(value.into());
        });
        let error = error.unwrap_err();
        assert!(
            error.starts_with(&format!("--{name}: ")) && error.contains(value),
            "{error}"
        );
    }
}

#[test]
fn advice_names_options_that_exist() {
    let flags = include_str!("../../../../xtask/src/flags/bench.rs");
    let broken = [
        ("unique_id;ds;y\na;1;2\n", "--delimiter semicolon"),
        ("unique_id,ds,y\na,1,2\na,1,3\n", "--duplicates first"),
        ("unique_id,ds,y\na,1,\"2,5\"\n", "--decimal comma"),
        ("unique_id,ds,y\na,2020-01-01,1\n", "--freq"),
        ("unique_id,ds,y,y\na,1,1,1\n", "--ignore"),
        ("unique_id,ds,y\na,1,1,1\n", "--delimiter"),
        ("unique_id,ds,y\na,1,inf\n", "--missing"),
        ("unique_id,ds,y\n,1,1\n", "--id-col"),
        ("unique_id,time,y\na,1,1\n", "--ds-col"),
        ("unique_id,ds,y\na,1,1\na,2,1\na,99999,1\n", "--gaps keep"),
    ];
    for (text, wanted) in broken {
        let error = read("broken.csv", text, |_| {}).unwrap_err();
        assert!(
            error.contains(wanted) && error.contains("broken.csv"),
            "{error}"
        );
        let named = error.split("--").skip(1);
        for name in named.map(|rest| {
            rest.split(|c: char| !c.is_alphabetic() && c != '-')
                .next()
                .unwrap_or("")
        }) {
            assert!(
                flags.contains(&format!("\"{name}\"")),
                "--{name} in: {error}"
            );
        }
    }
    let short = DataError::NoWindows {
        input_size: 4,
        horizon: 2,
        reason: String::new(),
    };
    assert!(explain(&short).contains("--input-size"));
}
