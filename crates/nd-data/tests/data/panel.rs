//! Panels from vectors and files: grouping, repairs, columns, time stamps.

use nd_data::csv::{
    CsvOptions, DecimalMark, Delimiter, Encoding, Layout, OtherColumns, read_csv_from,
};
use nd_data::{
    DataError, DuplicatePolicy, Frequency, GapPolicy, LocalScaler, LocalScalerKind, MissingPolicy,
    OrderPolicy, Panel, PanelBuilder, Repair, Role, Series, TimeStyle,
};

fn read(text: &str, options: &CsvOptions) -> Panel<f64> {
    match read_csv_from(text.as_bytes(), "file.csv", options) {
        Ok(panel) => panel,
        Err(error) => panic!("{error}\n{text}"),
    }
}

fn repaired(text: &str, repair: Repair) -> Panel<f64> {
    read(text, &CsvOptions::default().with_repair(repair))
}

#[test]
fn the_long_layout_in_any_order_of_columns_and_rows() {
    let straight = read(
        "unique_id,ds,y\na,1,10\na,2,11\nb,5,20\nb,6,21\n",
        &CsvOptions::default(),
    );
    assert_eq!(straight.unique_ids().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        (straight.series_y(0), straight.series_y(1)),
        (&[10.0, 11.0][..], &[20.0, 21.0][..])
    );
    assert_eq!((straight.ds(0), straight.ds(1)), (vec![1, 2], vec![5, 6]));
    // Interleaved rows need no sorting within the series; blanks, line ends and column order do not matter.
    for text in [
        "unique_id,ds,y\na,1,10\nb,5,20\na,2,11\nb,6,21\n",
        "\u{feff}y, ds ,unique_id\r\n10,1,a\r\n20 ,5, b\r\n\r\n11,2,a\r\n21,6,b",
        "unique_id,ds,y\n\"a\",\"1\",\"10\"\nb,5,2e1\na,2,+11\nb,6,21.0\n",
        "unique_id,ds,y\ra,1,10\rb,5,20\ra,2,11\rb,6,21\r",
    ] {
        assert_eq!(read(text, &CsvOptions::default()), straight, "{text}");
    }
    let semicolon = CsvOptions {
        delimiter: Delimiter::Semicolon,
        decimal: DecimalMark::Comma,
        ..CsvOptions::default()
    };
    let text = "unique_id;ds;y\na;1;10,0\na;2;1,1e1\nb;5;20\nb;6;21,\n";
    assert_eq!(read(text, &semicolon), straight);
    let sorted = "unique_id,ds,y\nb,6,21\na,2,11\nb,5,20\na,1,10\n";
    let panel = repaired(
        sorted,
        Repair {
            order: OrderPolicy::Sort,
            ..Repair::default()
        },
    );
    assert_eq!(panel.unique_ids().collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(panel.y(), [20.0, 21.0, 10.0, 11.0]);
}

#[test]
fn a_file_without_identifiers_is_one_series() {
    let panel = read("ds,y\n1,2\n2,3\n", &CsvOptions::default());
    assert_eq!(panel.unique_ids().collect::<Vec<_>>(), ["y"]);
    let air = read(
        "Month,#Passengers\n1949-01,112\n1949-02,118\n",
        &CsvOptions::single("Month", "#Passengers"),
    );
    assert_eq!(air.unique_id(0), "#Passengers");
    assert_eq!(air.frequency(), Some(Frequency::MONTH_START));
    let mut named = CsvOptions {
        ds: "t".into(),
        ..CsvOptions::default()
    };
    if let Layout::Long {
        unique_id,
        y,
        others,
        ..
    } = &mut named.layout
    {
        (*unique_id, *y, *others) = (Some("who".into()), Some("v".into()), OtherColumns::Ignore);
    }
    let panel = read("who,t,v,comment\nx,1,5,words\n", &named);
    assert_eq!((panel.unique_id(0), panel.y()), ("x", &[5.0][..]));
}

#[test]
fn the_wide_layout_and_chosen_columns() {
    let text = "date,a,b,c\n2020-01-01,1,2,3\n2020-01-02,4,5,6\n";
    let panel = read(text, &CsvOptions::wide("date"));
    assert_eq!(panel.y(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(panel.ds(2), panel.ds(0));
    let options = CsvOptions {
        layout: Layout::Wide {
            series: vec!["c".into(), "a".into()],
        },
        ..CsvOptions::wide("date")
    };
    assert_eq!(read(text, &options).y(), [3.0, 6.0, 1.0, 4.0]);
    let options = CsvOptions {
        ignore: vec!["b".into()],
        ..CsvOptions::wide("date")
    };
    assert_eq!(
        read(text, &options).unique_ids().collect::<Vec<_>>(),
        ["a", "c"]
    );
    // An exported index column without a name.
    let options = CsvOptions {
        ignore: vec![String::new()],
        ..CsvOptions::wide("date")
    };
    assert_eq!(read(",date,a\n0,1,5\n1,2,6\n", &options).y(), [5.0, 6.0]);
    // Repairs act on every channel.
    let repair = Repair {
        order: OrderPolicy::Sort,
        duplicates: DuplicatePolicy::Mean,
        gaps: GapPolicy::Mask,
        missing: MissingPolicy::Mask,
        ..Repair::default()
    };
    let text = "date,a,b\n3,30,\n1,10,11\n1,12,\n2,20,21\n6,60,61\n";
    let panel = read(text, &CsvOptions::wide("date").with_repair(repair));
    assert_eq!(
        panel.y(),
        [
            11.0, 20.0, 30.0, 30.0, 30.0, 60.0, 11.0, 21.0, 21.0, 21.0, 21.0, 61.0
        ]
    );
    let mask = panel.available_mask().unwrap();
    let seen = [
        true, true, true, false, false, true, true, true, false, false, false, true,
    ];
    assert_eq!(mask, seen);
    // Irregular stamps are kept once for all channels.
    let keep = CsvOptions::wide("date").with_repair(Repair {
        gaps: GapPolicy::Keep,
        ..Repair::default()
    });
    let panel = read("date,a,b\n1,1,2\n4,3,4\n9,5,6\n", &keep);
    assert_eq!((panel.ds(1), panel.frequency()), (vec![1, 4, 9], None));
    assert!(matches!(
        panel.future_ds(0, 1),
        Err(DataError::NoFuture { .. })
    ));
}

#[test]
fn unnamed_columns_are_skipped_where_others_are_ignored() {
    for text in [
        ",unique_id,ds,y,\n0,a,1,5,\n1,a,2,6,\n",
        "unique_id,ds,,y\na,1,x,5\na,2,,6\n",
    ] {
        assert_eq!(read(text, &CsvOptions::single("ds", "y")).y(), [5.0, 6.0]);
        let every = read_csv_from::<f64>(text.as_bytes(), "file.csv", &CsvOptions::default());
        assert!(matches!(every, Err(DataError::UnnamedColumn { .. })));
    }
}

#[test]
fn options_have_names() {
    let delimiters = [
        (",", Delimiter::Comma),
        ("Semicolon", Delimiter::Semicolon),
        ("\t", Delimiter::Tab),
        ("|", Delimiter::Pipe),
    ];
    for (text, delimiter) in delimiters {
        assert_eq!(text.parse::<Delimiter>().unwrap(), delimiter);
    }
    assert_eq!("comma".parse::<DecimalMark>().unwrap(), DecimalMark::Comma);
    assert_eq!("Latin-1".parse::<Encoding>().unwrap(), Encoding::Latin1);
    assert_eq!(
        "last".parse::<DuplicatePolicy>().unwrap(),
        DuplicatePolicy::KeepLast
    );
    assert_eq!("linear".parse::<GapPolicy>().unwrap(), GapPolicy::Linear);
    assert_eq!(
        "ffill".parse::<MissingPolicy>().unwrap(),
        MissingPolicy::ForwardFill
    );
    let error = "interpolate".parse::<GapPolicy>().unwrap_err().to_string();
    assert!(
        error.contains("`gaps`") && error.contains("linear") && error.contains("`interpolate`"),
        "{error}"
    );
}

#[test]
fn duplicates() {
    let text = "unique_id,ds,y,x\na,1,1,5\na,1,3,\na,2,7,8\nb,1,9,9\n";
    let with = |duplicates| {
        let repair = Repair {
            duplicates,
            missing: MissingPolicy::Zero,
            ..Repair::default()
        };
        let panel = repaired(text, repair);
        (
            panel.y().to_vec(),
            panel.column("x").unwrap().values().to_vec(),
        )
    };
    assert_eq!(
        with(DuplicatePolicy::KeepFirst),
        (vec![1.0, 7.0, 9.0], vec![5.0, 8.0, 9.0])
    );
    assert_eq!(
        with(DuplicatePolicy::KeepLast),
        (vec![3.0, 7.0, 9.0], vec![0.0, 8.0, 9.0])
    );
    assert_eq!(
        with(DuplicatePolicy::Mean),
        (vec![2.0, 7.0, 9.0], vec![5.0, 8.0, 9.0])
    );
    // After sorting, first and last speak of the order of the input.
    let text = "unique_id,ds,y\na,2,1\na,1,2\na,2,3\na,1,4\n";
    let with = |duplicates| {
        repaired(
            text,
            Repair {
                duplicates,
                order: OrderPolicy::Sort,
                ..Repair::default()
            },
        )
        .y()
        .to_vec()
    };
    assert_eq!(with(DuplicatePolicy::KeepFirst), [2.0, 1.0]);
    assert_eq!(with(DuplicatePolicy::KeepLast), [4.0, 3.0]);
    // Masked rows do not take part in a mean, and a group is observed if one of its rows is.
    let text = "unique_id,ds,y,available_mask\na,1,5,0\na,1,7,1\na,2,1,0\na,2,1,0\na,3,1,1\n";
    let panel = repaired(
        text,
        Repair {
            duplicates: DuplicatePolicy::Mean,
            ..Repair::default()
        },
    );
    assert_eq!(panel.y()[0], 7.0);
    assert_eq!(panel.available_mask(), Some(&[true, false, true][..]));
}

#[test]
fn missing_values() {
    let text = "unique_id,ds,y,x\na,1,1,5\na,2,,6\na,3,NaN,\na,4,4,8\n";
    let with = |missing| {
        let panel = repaired(
            text,
            Repair {
                missing,
                ..Repair::default()
            },
        );
        let x = panel.column("x").unwrap().values().to_vec();
        (
            panel.y().to_vec(),
            x,
            panel.available_mask().map(<[bool]>::to_vec),
        )
    };
    let masked = Some(vec![true, false, false, true]);
    assert_eq!(
        with(MissingPolicy::Mask),
        (vec![1.0, 1.0, 1.0, 4.0], vec![5.0, 6.0, 6.0, 8.0], masked)
    );
    assert_eq!(
        with(MissingPolicy::ForwardFill),
        (vec![1.0, 1.0, 1.0, 4.0], vec![5.0, 6.0, 6.0, 8.0], None)
    );
    assert_eq!(
        with(MissingPolicy::Zero),
        (vec![1.0, 0.0, 0.0, 4.0], vec![5.0, 6.0, 0.0, 8.0], None)
    );
    // A row that the file itself marks as missing owes no value, and a mask of ones is no mask.
    let panel = read(
        "unique_id,ds,y,available_mask\na,1,5,1\na,2,,0\na,3,7,1.0\n",
        &CsvOptions::default(),
    );
    assert_eq!(
        (panel.y(), panel.series_mask(0)),
        (&[5.0, 5.0, 7.0][..], Some(&[true, false, true][..]))
    );
    let panel = read(
        "unique_id,ds,y,available_mask\na,1,5,1\na,2,6,true\n",
        &CsvOptions::default(),
    );
    assert!(panel.available_mask().is_none());
    // Other texts can mean "missing".
    let options = CsvOptions {
        missing_texts: vec!["-999".into(), "?".into()],
        ..CsvOptions::default().with_repair(Repair {
            missing: MissingPolicy::Zero,
            ..Repair::default()
        })
    };
    assert_eq!(read("ds,y\n1,?\n2,5\n", &options).y(), [0.0, 5.0]);
}

#[test]
fn gaps() {
    let text = "unique_id,ds,y,x,s\na,2020-01-01,1,10,7\na,2020-01-02,2,20,7\na,2020-01-05,8,50,7\nb,2020-01-01,5,5,9\nb,2020-01-02,6,6,9\n";
    let with = |gaps| {
        let options = CsvOptions::default()
            .with_static(&["s"])
            .with_repair(Repair {
                gaps,
                ..Repair::default()
            });
        read(text, &options)
    };
    let panel = with(GapPolicy::Mask);
    assert_eq!(panel.series_y(0), [1.0, 2.0, 2.0, 2.0, 8.0]);
    assert_eq!(panel.inserted_rows(), 2);
    assert_eq!(
        panel.column("x").unwrap().values()[..5],
        [10.0, 20.0, 20.0, 20.0, 50.0]
    );
    assert_eq!(
        panel.series_mask(0).unwrap(),
        [true, true, false, false, true]
    );
    assert_eq!(panel.series_mask(1).unwrap(), [true, true]);
    assert_eq!(panel.column("s").unwrap().values(), [7.0, 9.0]);
    assert_eq!(panel.format_ds(panel.ds_at(0, 3)), "2020-01-04");
    let panel = with(GapPolicy::ForwardFill);
    assert_eq!(
        (panel.series_y(0), panel.available_mask()),
        (&[1.0, 2.0, 2.0, 2.0, 8.0][..], None)
    );
    assert_eq!(
        panel.column("x").unwrap().values()[..5],
        [10.0, 20.0, 20.0, 20.0, 50.0]
    );
    let panel = with(GapPolicy::Linear);
    assert_eq!(
        (panel.series_y(0), panel.available_mask()),
        (&[1.0, 2.0, 4.0, 6.0, 8.0][..], None)
    );
    let panel = with(GapPolicy::Keep);
    assert_eq!(panel.series_y(0), [1.0, 2.0, 8.0]);
    assert_eq!(panel.format_ds(panel.ds_at(0, 2)), "2020-01-05");
    assert_eq!(panel.frequency(), Some(Frequency::DAY));
    assert_eq!(
        panel.format_ds(panel.future_ds(0, 1).unwrap()[0]),
        "2020-01-06"
    );
    // A straight line needs two observed ends.
    let text = "ds,y\n1,1\n2,\n5,5\n6,6\n7,7\n9,9\n";
    let repair = Repair {
        gaps: GapPolicy::Linear,
        missing: MissingPolicy::Mask,
        ..Repair::default()
    };
    let panel = repaired(text, repair);
    assert_eq!(panel.y(), [1.0, 1.0, 1.0, 1.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let seen = [true, false, false, false, true, true, true, true, true];
    assert_eq!(panel.available_mask(), Some(&seen[..]));
    // Gaps of business days are holidays, not weekends.
    let text = "ds,y\n2024-03-27,1\n2024-03-28,2\n2024-04-02,3\n2024-04-03,4\n2024-04-04,4\n2024-04-05,4\n2024-04-08,4\n";
    let panel = repaired(
        text,
        Repair {
            gaps: GapPolicy::Mask,
            ..Repair::default()
        },
    );
    assert_eq!(panel.frequency(), Some(Frequency::BUSINESS_DAY));
    assert_eq!(panel.y(), [1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]);
}

#[test]
fn masked_rows_hold_what_was_observed_and_never_a_flag_for_it() {
    let repair = Repair {
        gaps: GapPolicy::Mask,
        missing: MissingPolicy::Mask,
        ..Repair::default()
    };
    // Before the first observation stands the first one; `b` has none at all.
    let text = "unique_id,ds,y,x\na,1,,\na,2,,6\na,3,7,\na,4,8,9\na,7,5,1\nb,1,,3\nb,2,,\n";
    let panel = repaired(text, repair);
    assert_eq!(panel.series_y(0), [7.0, 7.0, 7.0, 8.0, 8.0, 8.0, 5.0]);
    assert_eq!(panel.series_y(1), [0.0, 0.0]);
    assert_eq!(
        panel.column("x").unwrap().values(),
        [6.0, 6.0, 6.0, 9.0, 9.0, 9.0, 1.0, 3.0, 3.0]
    );
    let seen = [false, false, false, true, false, false, true];
    assert_eq!(panel.series_mask(0), Some(&seen[..]));
    // Zeros that the file itself marks as not observed stay as they are, but nothing repeats them.
    let text = "ds,y,available_mask\n1,5,1\n2,0,0\n3,,0\n5,6,1\n6,7,1\n7,8,1\n8,9,1\n";
    let panel = repaired(text, repair);
    assert_eq!(panel.y(), [5.0, 0.0, 5.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    let seen = [true, false, false, false, true, true, true, true];
    assert_eq!(panel.available_mask(), Some(&seen[..]));
}

#[test]
fn most_rows_are_never_invented() {
    let days = |n: i64| (1..=n).map(|t| format!("a,{t},1\n")).collect::<String>();
    let fill = |text: &str, frequency: Option<Frequency>| -> Result<Panel<f64>, DataError> {
        let repair = Repair {
            gaps: GapPolicy::Mask,
            frequency,
            ..Repair::default()
        };
        let options = CsvOptions::default().with_repair(repair);
        read_csv_from(text.as_bytes(), "file.csv", &options)
    };
    let head = "unique_id,ds,y\n";
    // Half of the rows may be holes.
    let panel = fill(&format!("{head}{}a,500,1\n", days(250)), None).unwrap();
    assert_eq!((panel.n_rows(), panel.inserted_rows()), (500, 249));
    let refused = |text: &str, frequency, parts: &[&str]| {
        let error = fill(text, frequency).unwrap_err();
        assert!(matches!(error, DataError::GapTooLarge { .. }), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let text = format!("{head}{}a,700,1\n", days(250));
    refused(&text, None, &["449 rows", "251 of all series", "mistyped"]);
    // A frequency that the user names may be of sparse data, up to a single gap longer than the series.
    let one = "1".parse().unwrap();
    assert_eq!(fill(&text, Some(one)).unwrap().n_rows(), 700);
    let text = format!("{head}{}a,20000,1\n", days(1200));
    refused(&text, Some(one), &["line 1202", "1201 of the series"]);
    // ... nor one mistyped year among many long series.
    let mut text = format!("{head}{}a,6000,1\n", days(1200));
    for series in 0..50 {
        text += &days(1200).replace('a', &format!("s{series}"));
    }
    refused(&text, None, &["4799 rows", "`a`"]);
}

#[test]
fn series_of_different_places_and_a_named_frequency() {
    // Each single, together irregular: a frequency makes one of three stamps a year of months.
    let text = "unique_id,ds,y\na,2020-01-01,1\nb,2020-02-01,1\nb,2020-05-01,2\n";
    let repair = Repair {
        frequency: Some(Frequency::MONTH_START),
        gaps: GapPolicy::ForwardFill,
        ..Repair::default()
    };
    let panel = repaired(text, repair);
    assert_eq!(panel.series_y(1), [1.0, 1.0, 1.0, 2.0]);
    assert_eq!(
        panel.format_ds(panel.future_ds(0, 1).unwrap()[0]),
        "2020-02-01"
    );
}

#[test]
fn latin_and_other_characters() {
    let latin = CsvOptions {
        encoding: Encoding::Latin1,
        ..CsvOptions::default()
    };
    let bytes = b"unique_id,ds,y,\xE9t\xE9\r\nM\xFCnchen,1,5,6\r\nM\xFCnchen,2,7,8\r\n";
    let panel: Panel = read_csv_from(&bytes[..], "file.csv", &latin).unwrap();
    assert_eq!(panel.unique_id(0), "München");
    assert_eq!(panel.column_names(Role::Historic), ["été"]);
    let panel = read(
        "unique_id,ds,y\n\"a, \"\"b\"\"\",1,5\n",
        &CsvOptions::default(),
    );
    assert_eq!(panel.unique_id(0), "a, \"b\"");
}

#[test]
fn columns_have_the_roles_they_are_given() {
    let text = "unique_id,ds,y,p,q,r\na,1,1,2,3,4\na,2,1,2,3,4\n";
    let options = CsvOptions::default()
        .with_future(&["q"])
        .with_static(&["r"]);
    let panel = read(text, &options);
    assert_eq!(panel.column_names(Role::Historic), ["p"]);
    assert_eq!(panel.column_names(Role::Future), ["q"]);
    assert_eq!(panel.column_names(Role::Static), ["r"]);
    assert_eq!(panel.static_columns()[0].values(), [4.0]);
    let error = panel.column("z").unwrap_err();
    assert_eq!(error.to_string(), "no column `z`; there are: `p`, `q`, `r`");
    assert_eq!(
        panel.series_index("b").unwrap_err().to_string(),
        "no series `b`; there are: `a`"
    );
    let panel = panel.with_static("size", vec![3.0]).unwrap();
    assert!(matches!(
        panel.clone().with_static("size", vec![3.0]),
        Err(DataError::DuplicateColumn { .. })
    ));
    assert!(matches!(
        panel.clone().with_static("u", vec![3.0; 2]),
        Err(DataError::Length { .. })
    ));
    assert!(matches!(
        panel.with_static("u", vec![f64::NAN]),
        Err(DataError::NotFinite { .. })
    ));
}

#[test]
fn the_builder_checks_what_a_file_would() {
    let good = || Series::numbered("a", vec![1.0, 2.0]).future("x", vec![1.0, 2.0]);
    let build = |series: Vec<Series<f64>>| {
        let builder = series
            .into_iter()
            .fold(PanelBuilder::new(), PanelBuilder::series);
        builder.build()
    };
    assert!(build(vec![good()]).is_ok());
    let expect = |series: Vec<Series<f64>>, parts: &[&str]| {
        let message = build(series).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "no {part:?} in {message}");
        }
    };
    expect(vec![], &["no row"]);
    expect(
        vec![Series::numbered("", vec![1.0])],
        &["identifier is empty"],
    );
    expect(vec![Series::numbered("a", vec![])], &["no row"]);
    expect(
        vec![good(), Series::numbered("b", vec![]).future("x", vec![])],
        &["no row", "`b`"],
    );
    expect(
        vec![good().historic("z", vec![1.0])],
        &["column `z`", "series `a`", "expected 2 values, found 1"],
    );
    expect(
        vec![good().available_mask(vec![true])],
        &["available_mask", "expected 2"],
    );
    expect(
        vec![good().historic("x", vec![1.0, 2.0])],
        &["`x` appears twice"],
    );
    expect(
        vec![Series::numbered("a", vec![1.0, f64::INFINITY])],
        &["column `y`", "row 1", "inf"],
    );
    expect(
        vec![Series::numbered("a", vec![1.0, f64::NAN])],
        &["column `y`", "series `a`", "row 1", "missing"],
    );
    expect(
        vec![good(), Series::numbered("b", vec![1.0])],
        &["series `b`", "`x`", "same columns"],
    );
    expect(
        vec![Series::numbered("b", vec![1.0]), good()],
        &["no column in the first series `x`"],
    );
    expect(
        vec![
            good(),
            Series::numbered("b", vec![1.0]).historic("x", vec![1.0]),
        ],
        &["`x`", "future"],
    );
    expect(
        vec![
            good(),
            Series::without_target("b", vec![1]).future("x", vec![1.0]),
        ],
        &["series `b`", "`y`"],
    );
    expect(vec![good(), good()], &["series `a` was added twice"]);
}

#[test]
fn selecting_rows_keeps_stamps_and_columns_together() {
    let text = "unique_id,ds,y,x,s\na,2020-01-31,1,10,7\na,2020-02-29,2,20,7\na,2020-03-31,3,30,7\nb,2020-01-31,5,50,9\n";
    let panel = read(text, &CsvOptions::default().with_static(&["s"]));
    let last = panel.last(2);
    assert_eq!(last.y(), [2.0, 3.0, 5.0]);
    assert_eq!(last.format_ds(last.ds_at(0, 0)), "2020-02-29");
    assert_eq!(last.column("x").unwrap().values(), [20.0, 30.0, 50.0]);
    let head = panel.without_last(1);
    assert_eq!(head.unique_ids().collect::<Vec<_>>(), ["a"]);
    assert_eq!(
        (head.y(), head.column("s").unwrap().values()),
        (&[1.0, 2.0][..], &[7.0][..])
    );
    assert_eq!(head.ds_after(0, 1, 3).unwrap().len(), 3);
    assert_eq!(
        head.format_ds(head.ds_after(0, 1, 3).unwrap()[2]),
        "2020-04-30"
    );
    // Listed stamps are cut too, and a mask without a masked row is dropped.
    let builder = PanelBuilder::new()
        .repair(Repair {
            gaps: GapPolicy::Keep,
            ..Repair::default()
        })
        .time_style(TimeStyle::INTEGER)
        .series(
            Series::new("a", vec![1, 3, 4, 9], vec![1.0_f64; 4])
                .available_mask(vec![false, true, true, true]),
        );
    let panel = builder.build().unwrap();
    let last = panel.last(3);
    assert_eq!((last.ds(0), last.available_mask()), (vec![3, 4, 9], None));
}

#[test]
fn local_scalers_by_hand_and_back() {
    let series = |name: &str, y: Vec<f64>| {
        let x = y.iter().map(|y| 3.0 * y + 1.0).collect();
        Series::numbered(name, y).future("x", x)
    };
    let original = PanelBuilder::new()
        .series(
            series("a", vec![1.0, 2.0, 3.0, 10.0, 99.0])
                .available_mask(vec![true, true, true, true, false]),
        )
        .series(series("flat", vec![5.0, 5.0, 5.0]))
        .build()
        .unwrap();
    for (kind, shift, scale) in [
        (LocalScalerKind::Standard, 4.0, 12.5_f64.sqrt()),
        (LocalScalerKind::MinMax, 1.0, 9.0),
        (LocalScalerKind::Robust, 2.5, 1.0),
    ] {
        let mut panel = original.clone();
        let scaler = LocalScaler::fit(&panel, kind);
        scaler.transform(&mut panel).unwrap();
        for (z, y) in panel.series_y(0).iter().zip([1.0, 2.0, 3.0, 10.0]) {
            assert!(
                (z - (y - shift) / scale).abs() < 1e-12,
                "{kind:?}: {z} for {y}"
            );
        }
        let masked = panel.series_y(0)[4];
        assert!(
            (masked - (99.0 - shift) / scale).abs() < 1e-12,
            "{kind:?}: a masked value takes no part in the statistics and stays beside its neighbours"
        );
        assert_eq!(
            panel.series_y(1),
            [0.0; 3],
            "{kind:?}: a spread of zero counts as one"
        );
        for (x, z) in panel
            .column("x")
            .unwrap()
            .values()
            .iter()
            .zip(panel.y())
            .take(4)
        {
            assert!((x - z).abs() < 1e-12, "scaling forgets an affine map");
        }
        let mut z = panel.series_y(0)[..4].to_vec();
        scaler.inverse("a", &mut z).unwrap();
        assert!(
            z.iter()
                .zip([1.0, 2.0, 3.0, 10.0])
                .all(|(z, y)| (z - y).abs() < 1e-12)
        );
        scaler.inverse_transform(&mut panel).unwrap();
        let pairs = panel.y().iter().zip(original.y());
        assert!(pairs.into_iter().all(|(a, b)| (a - b).abs() < 1e-12));
        // Series are found by name, not by place.
        let mut flat = original.select_rows(|series, len| if series == 1 { 0..len } else { 0..0 });
        scaler.transform(&mut flat).unwrap();
        assert_eq!(flat.series_y(0), [0.0; 3]);
        assert!(scaler.inverse("z", &mut z).is_err());
        let mut other = PanelBuilder::new()
            .series(series("new", vec![1.0]))
            .build()
            .unwrap();
        assert!(matches!(
            scaler.transform(&mut other),
            Err(DataError::NotFound { .. })
        ));
    }
}
