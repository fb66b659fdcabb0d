//! Whatever the bytes, reading ends with a panel that keeps its promises or with an error, and never panics.

use nd_data::csv::{
    CsvOptions, DecimalMark, Delimiter, Encoding, Layout, OtherColumns, read_csv_from,
};
use nd_data::{DuplicatePolicy, GapPolicy, MissingPolicy, OrderPolicy, Panel, Repair};
use proptest::prelude::*;

fn options() -> impl Strategy<Value = CsvOptions> {
    let repair =
        (0..4_usize, any::<bool>(), 0..5_usize, 0..4_usize).prop_map(|(d, sort, g, m)| Repair {
            duplicates: [
                DuplicatePolicy::Error,
                DuplicatePolicy::KeepFirst,
                DuplicatePolicy::KeepLast,
                DuplicatePolicy::Mean,
            ][d],
            order: if sort {
                OrderPolicy::Sort
            } else {
                OrderPolicy::Error
            },
            gaps: [
                GapPolicy::Error,
                GapPolicy::Mask,
                GapPolicy::ForwardFill,
                GapPolicy::Linear,
                GapPolicy::Keep,
            ][g],
            missing: [
                MissingPolicy::Error,
                MissingPolicy::Mask,
                MissingPolicy::ForwardFill,
                MissingPolicy::Zero,
            ][m],
            frequency: None,
        });
    let flags = (
        any::<bool>(),
        0..4_usize,
        any::<bool>(),
        any::<bool>(),
        0..4_usize,
    );
    (repair, flags).prop_map(|(repair, (wide, delimiter, comma, latin, other))| {
        let mut options = if wide {
            CsvOptions::wide("ds")
        } else {
            CsvOptions::default()
        };
        if let Layout::Long { others, .. } = &mut options.layout {
            *others = [
                OtherColumns::Historic,
                OtherColumns::Future,
                OtherColumns::Ignore,
                OtherColumns::Error,
            ][other];
        }
        options.delimiter = [
            Delimiter::Comma,
            Delimiter::Semicolon,
            Delimiter::Tab,
            Delimiter::Pipe,
        ][delimiter];
        options.decimal = if comma {
            DecimalMark::Comma
        } else {
            DecimalMark::Point
        };
        options.encoding = if latin {
            Encoding::Latin1
        } else {
            Encoding::Utf8
        };
        options.repair = repair;
        options
    })
}

/// Fields that come near to being right.
fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (-3_i64..40).prop_map(|n| n.to_string()),
        2 => (1990_u32..2030, 0_u32..14, 0_u32..33).prop_map(|(y, m, d)| format!("{y}-{m:02}-{d:02}")),
        2 => (0_u32..26, 0_u32..62).prop_map(|(h, m)| format!("2020-02-28 {h:02}:{m:02}:00")),
        1 => any::<f32>().prop_map(|x| x.to_string()),
        1 => any::<i64>().prop_map(|x| x.to_string()),
        1 => Just(String::new()),
        1 => prop::sample::select(vec!["NaN", "inf", "a", "b", "\"", "\"x\ny\"", "0", "1", "é", "9999-12-31", "0000-01-01", "2020-01-01T00:00:00+02:00", "2020-01-01T00:00:00Z"]).prop_map(str::to_string),
        1 => ".{0,6}",
    ]
}

/// Tables that are right but for disorder, repetitions, holes and, in half of them, one field; and options that fit.
fn table() -> impl Strategy<Value = (String, CsvOptions)> {
    let header = prop::sample::select(vec![
        "unique_id,ds,y",
        "ds,y",
        "ds,a,b",
        "unique_id,ds,y,x",
        "unique_id,ds,y,available_mask",
        "y,ds,unique_id",
    ]);
    let row = (0..2_usize, 0..12_i64, -50..50_i32, 0..8_u8);
    let rows = prop::collection::vec(row, 0..14);
    let odd = prop::option::of((any::<prop::sample::Index>(), 0..4_usize, field()));
    let end = prop::sample::select(vec!["\n", "\r\n", "\r", "\n\n"]);
    (header, rows, any::<bool>(), 0..3_usize, odd, end, options()).prop_map(
        |(header, mut rows, ordered, stamps, odd, end, mut options)| {
            if ordered {
                rows.sort_by_key(|row| (row.0, row.1));
                rows.dedup_by_key(|row| (row.0, row.1));
            }
            let wide = header == "ds,a,b";
            let fitting = if wide {
                CsvOptions::wide("ds").layout
            } else {
                CsvOptions::default().layout
            };
            if matches!(options.layout, Layout::Wide { .. }) != wide {
                options.layout = fitting;
            }
            let delimiter = match options.delimiter {
                Delimiter::Semicolon => ";",
                Delimiter::Tab => "\t",
                Delimiter::Pipe => "|",
                _ => ",",
            };
            let mut text = header.replace(',', delimiter) + end;
            let odd =
                odd.map(|(index, column, field)| (index.index(rows.len().max(1)), column, field));
            for (number, (id, t, value, kind)) in rows.into_iter().enumerate() {
                let ds = match stamps {
                    0 => t.to_string(),
                    1 => format!("2024-02-{:02}", t + 20 - t / 10 * 10),
                    _ => format!("2023-12-31 {t:02}:00:00"),
                };
                let number_text = match kind {
                    0 => String::new(),
                    1 => "NaN".into(),
                    _ => value.to_string(),
                };
                let mut fields: Vec<String> = header
                    .split(',')
                    .map(|name| match name {
                        "unique_id" => ["a", "b"][id].to_string(),
                        "ds" => ds.clone(),
                        "available_mask" => u8::from(kind > 1).to_string(),
                        _ => number_text.clone(),
                    })
                    .collect();
                if let Some((_, column, odd)) = odd.as_ref().filter(|odd| odd.0 == number) {
                    let column = column % fields.len();
                    fields[column] = odd.clone();
                }
                text += &(fields.join(delimiter) + end);
            }
            (text, options)
        },
    )
}

fn keeps_its_promises(panel: &Panel<f32>) {
    assert!(panel.n_series() > 0);
    let rows: usize = (0..panel.n_series()).map(|s| panel.series_len(s)).sum();
    assert_eq!(rows, panel.n_rows());
    assert!(!panel.has_target() || panel.y().len() == rows);
    assert!(panel.y().iter().all(|y| y.is_finite()));
    assert!(
        panel
            .available_mask()
            .is_none_or(|mask| mask.len() == rows && mask.contains(&false))
    );
    for column in panel.columns() {
        assert_eq!(column.values().len(), rows);
        assert!(column.values().iter().all(|x| x.is_finite()));
    }
    for series in 0..panel.n_series() {
        assert!(panel.series_len(series) > 0);
        let ds = panel.ds(series);
        assert!(ds.windows(2).all(|w| w[0] < w[1]), "{ds:?}");
        for &ts in &ds {
            assert!(!panel.format_ds(ts).is_empty());
        }
        if let Ok(future) = panel.future_ds(series, 3) {
            assert!(future[0] > ds[ds.len() - 1] && future[2] > future[1]);
        }
    }
}

/// A few thousand cases; `ND_FUZZ_CASES` asks for more.
fn config() -> ProptestConfig {
    let cases = std::env::var("ND_FUZZ_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3000);
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), options in options()) {
        if let Ok(panel) = read_csv_from::<f32>(&bytes[..], "fuzz", &options) {
            keeps_its_promises(&panel);
        }
    }

    #[test]
    fn arbitrary_text(text in "[-unique_idsy,;.\"\n\r\t0-9aTZ:+ é]{0,120}", options in options()) {
        if let Ok(panel) = read_csv_from::<f32>(text.as_bytes(), "fuzz", &options) {
            keeps_its_promises(&panel);
        }
    }

    #[test]
    fn tables_that_are_nearly_right((text, options) in table()) {
        if let Ok(panel) = read_csv_from::<f32>(text.as_bytes(), "fuzz", &options) {
            keeps_its_promises(&panel);
        }
    }

    #[test]
    fn damaged_tables((text, options) in table(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = text.into_bytes();
        let place = at.index(bytes.len());
        bytes[place] = byte;
        if let Ok(panel) = read_csv_from::<f32>(&bytes[..], "fuzz", &options) {
            keeps_its_promises(&panel);
        }
    }
}

/// A source that hands out its bytes in pieces of a given size.
struct Pieces<'a>(&'a [u8], usize);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

/// Characters, line ends and byte order marks that a chunk border cuts are read as if it did not.
#[test]
fn the_size_of_chunks_does_not_matter() {
    let mut text = String::from("\u{feff}unique_id,ds,y\r\n");
    for series in ["é", "日本", "😀😀😀"] {
        for t in 0..4000 {
            text += &format!("{series},{t},{}\r\n", t % 7);
        }
    }
    let options = CsvOptions::default();
    let whole: Panel = read_csv_from(text.as_bytes(), "whole", &options).unwrap();
    assert_eq!(
        whole.unique_ids().collect::<Vec<_>>(),
        ["é", "日本", "😀😀😀"]
    );
    for piece in [1, 2, 3, 5, 1000, 32 * 1024 - 1] {
        let panel: Panel =
            read_csv_from(Pieces(text.as_bytes(), piece), "pieces", &options).unwrap();
        assert_eq!(panel, whole, "pieces of {piece}");
    }
}

/// The tables above are not all refused, or the promises would never be looked at.
#[test]
fn enough_of_the_generated_tables_can_be_read() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut read = 0;
    for _ in 0..2000 {
        let (text, options) = table().new_tree(&mut runner).unwrap().current();
        read += usize::from(read_csv_from::<f32>(text.as_bytes(), "fuzz", &options).is_ok());
    }
    assert!(read >= 300, "{read} of 2000 tables were read");
}
