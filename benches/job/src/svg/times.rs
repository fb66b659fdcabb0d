//! Which rows of a panel have their time stamp beneath, and how much of it.
//!
//! In its simple form: the first row, the first forecast and the last row. Widths are estimated from the text, and labels that
//! would touch each other are shortened (the time of day goes, then what the last shares with the first) or left out, the
//! one in the middle first.

/// The width of a character of a label on average: digits of an 11 px sans-serif font take 0.56 em, dashes and colons less.
const CHARACTER: f64 = 6.2;
/// Between two labels, at least.
const SPACE: f64 = 10.0;

/// A label beneath a panel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TimeLabel {
    /// The row it stands for.
    pub(super) index: usize,
    /// Which part of the text is at the row.
    pub(super) anchor: &'static str,
    /// The text.
    pub(super) words: String,
}

impl TimeLabel {
    /// Where the text begins and ends when its row is at `x`.
    fn span(&self, x: f64) -> (f64, f64) {
        let width = label_width(&self.words);
        match self.anchor {
            "start" => (x, x + width),
            "middle" => (x - width / 2.0, x + width / 2.0),
            _ => (x - width, x),
        }
    }
}

/// The width of a text, about.
pub(super) fn label_width(words: &str) -> f64 {
    CHARACTER * words.chars().count() as f64
}

/// The labels of a panel `width` wide whose first forecast is row `cut`; `x` is the place of a row.
pub(super) fn time_labels(
    ds: &[String],
    cut: usize,
    x: impl Fn(usize) -> f64,
    width: f64,
) -> Vec<TimeLabel> {
    let Some(last) = ds.len().checked_sub(1) else {
        return Vec::new();
    };
    let label = |index: usize, anchor, words: &str| TimeLabel {
        index,
        anchor,
        words: words.to_owned(),
    };
    let fits = |labels: &[TimeLabel]| {
        let spans: Vec<_> = labels
            .iter()
            .map(|label| label.span(x(label.index)))
            .collect();
        let apart = spans.windows(2).all(|pair| pair[0].1 + SPACE <= pair[1].0);
        apart
            && spans
                .iter()
                .all(|span| span.0 >= -1.0 && span.1 <= width + 1.0)
    };
    let texts = [short_times(ds), days(ds)];
    // All three, with as much of the stamps as has room; else the two ends; else the first alone.
    for words in &texts {
        let three = [
            label(0, "start", &words[0]),
            label(cut.min(last), "middle", &words[cut.min(last)]),
            label(last, "end", &words[last]),
        ];
        if fits(&three) {
            return three.into();
        }
        let time = time_of_day(&words[0], &words[cut.min(last)]);
        let shorter = [
            three[0].clone(),
            label(cut.min(last), "middle", time),
            three[2].clone(),
        ];
        if fits(&shorter) {
            return shorter.into();
        }
        let ends = [three[0].clone(), three[2].clone()];
        if fits(&ends) {
            return ends.into();
        }
    }
    let words = &texts[1];
    let ends = [
        label(0, "start", &words[0]),
        label(last, "end", time_of_day(&words[0], &words[last])),
    ];
    if last > 0 && fits(&ends) {
        return ends.into();
    }
    vec![label(0, "start", &words[0])]
}

/// Time stamps without the part that all of them end in (` 00:00:00` of days, `:00` of seconds).
fn short_times(ds: &[String]) -> Vec<String> {
    let common = ["T00:00:00", " 00:00:00", ":00"];
    let suffix = common
        .into_iter()
        .find(|suffix| ds.iter().all(|stamp| stamp.ends_with(suffix)));
    let short = |stamp: &String| {
        stamp
            .strip_suffix(suffix.unwrap_or(""))
            .unwrap_or(stamp)
            .to_owned()
    };
    ds.iter().map(short).collect()
}

/// The dates of time stamps; whole stamps where they have no time of day.
fn days(ds: &[String]) -> Vec<String> {
    let day = |stamp: &String| stamp.split(['T', ' ']).next().unwrap_or("").to_owned();
    ds.iter().map(day).collect()
}

/// The time of day of a stamp of the same day as another; else the whole stamp.
fn time_of_day<'a>(first: &str, stamp: &'a str) -> &'a str {
    let split = |stamp: &'a str| stamp.split_once(['T', ' ']);
    match (first.split_once(['T', ' ']), split(stamp)) {
        (Some((day, _)), Some((same, time))) if day == same => time,
        _ => stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamps(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn time_stamps_lose_what_all_have_in_common() {
        let shown = |texts: &[&str], index: usize| short_times(&stamps(texts))[index].clone();
        assert_eq!(
            shown(&["2020-01-01 00:00:00", "2020-01-02 00:00:00"], 1),
            "2020-01-02"
        );
        assert_eq!(
            shown(&["2020-01-01 00:00:00", "2020-01-01 01:00:00"], 1),
            "2020-01-01 01:00"
        );
        assert_eq!(shown(&["7", "8"], 0), "7");
        assert_eq!(
            shown(&["2020-01-01T00:00:00", "2020-01-02T00:00:00"], 1),
            "2020-01-02"
        );
    }

    #[test]
    fn labels_never_touch_each_other_or_leave_the_panel() {
        let kinds: [fn(usize) -> String; 4] = [
            |t: usize| format!("{}", t + 1),
            |t: usize| format!("2020-01-{:02}", 1 + t),
            |t: usize| format!("2021-03-27 {:02}:15:30", t),
            |t: usize| format!("2021-03-{:02}T07:15:00+02:00", 1 + t),
        ];
        for kind in kinds {
            for points in 1..=24 {
                let ds: Vec<String> = (0..points).map(kind).collect();
                for cut in 0..points {
                    for width in [60.0, 216.0, 300.0, 930.0] {
                        let x = |i: usize| width * i as f64 / (points.max(2) - 1) as f64;
                        let labels = time_labels(&ds, cut, x, width);
                        assert_eq!((labels[0].index, labels[0].anchor), (0, "start"));
                        let spans: Vec<_> = labels.iter().map(|l| l.span(x(l.index))).collect();
                        let apart = spans.windows(2).all(|pair| pair[0].1 < pair[1].0);
                        assert!(apart, "{labels:?} at width {width}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_wide_panel_has_all_three_and_a_narrow_one_shortens_the_middle() {
        let ds: Vec<String> = (0..24)
            .map(|hour| format!("2021-03-27 {hour:02}:00:00"))
            .collect();
        let at = |width: f64| {
            let labels = time_labels(&ds, 16, |i| width * i as f64 / 23.0, width);
            labels
                .into_iter()
                .map(|label| label.words)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            at(930.0),
            ["2021-03-27 00:00", "2021-03-27 16:00", "2021-03-27 23:00"]
        );
        assert_eq!(at(480.0), ["2021-03-27 00:00", "16:00", "2021-03-27 23:00"]);
        assert_eq!(at(216.0), ["2021-03-27 00:00", "2021-03-27 23:00"]);
        assert_eq!(at(100.0), ["2021-03-27"]);
    }
}
