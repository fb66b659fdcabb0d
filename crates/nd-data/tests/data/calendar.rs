//! The calendar against a day-by-day walk, and frequencies found in stamps that they made.

use nd_data::calendar::{infer_frequency, timestamp};
use nd_data::{Frequency, FrequencyUnit, Month, TimeKind, TimeStyle, Weekday};
use proptest::prelude::*;
use std::num::NonZeroU32;

const DAY: i64 = 86_400_000_000;

fn date(year: i16, month: u8, day: u8) -> i64 {
    timestamp(year, month, day, 0, 0, 0).unwrap()
}

/// The rule of leap years, written down once more.
fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Every day from 1890 to 2110 as (stamp, year, month, day, day of week with Monday 0), by counting.
fn walk() -> Vec<(i64, i64, i64, i64, i64)> {
    let mut days = Vec::new();
    // 1890-01-01 was a Wednesday, 29,219 days before 1970-01-01.
    let (mut year, mut month, mut day) = (1890, 1, 1);
    for n in 0..80_500 {
        days.push(((n - 29_219) * DAY, year, month, day, (n + 2) % 7));
        day += 1;
        if day > days_of_month(year, month) {
            (day, month) = (1, month + 1);
        }
        if month > 12 {
            (month, year) = (1, year + 1);
        }
    }
    days
}

#[test]
fn every_day_of_two_centuries_has_its_date() {
    for (ts, year, month, day, _) in walk() {
        assert_eq!(
            timestamp(year as i16, month as u8, day as u8, 0, 0, 0),
            Some(ts)
        );
        assert_eq!(
            TimeStyle::DATE.format(ts),
            format!("{year:04}-{month:02}-{day:02}")
        );
    }
    for (year, leap) in [
        (1900, false),
        (2000, true),
        (2023, false),
        (2024, true),
        (2100, false),
    ] {
        assert_eq!(timestamp(year, 2, 29, 0, 0, 0).is_some(), leap, "{year}");
    }
    assert_eq!(timestamp(2024, 4, 31, 0, 0, 0), None);
    assert_eq!(timestamp(2024, 13, 1, 0, 0, 0), None);
    assert_eq!(timestamp(2024, 1, 1, 24, 0, 0), None);
}

/// Whether a (year, month, day, day of week) belongs to a frequency.
type Belongs = Box<dyn Fn(i64, i64, i64, i64) -> bool>;

/// Anchored frequencies with the days they name, by the walk.
fn anchored() -> Vec<(Frequency, Belongs)> {
    let mut all: Vec<(Frequency, Belongs)> = vec![
        (Frequency::DAY, Box::new(|_, _, _, _| true)),
        (
            Frequency::BUSINESS_DAY,
            Box::new(|_, _, _, weekday| weekday < 5),
        ),
        (Frequency::MONTH_START, Box::new(|_, _, day, _| day == 1)),
        (
            Frequency::MONTH_END,
            Box::new(|year, month, day, _| day == days_of_month(year, month)),
        ),
    ];
    let one = |unit| Frequency::new(NonZeroU32::MIN, unit);
    for (index, weekday) in Weekday::ALL.into_iter().enumerate() {
        all.push((
            Frequency::weekly(weekday),
            Box::new(move |_, _, _, w| w == index as i64),
        ));
    }
    for (index, name) in Month::ALL.into_iter().enumerate() {
        let anchor = index as i64 + 1;
        let end = |year, month, day| day == days_of_month(year, month);
        all.push((
            one(FrequencyUnit::QuarterStart(name)),
            Box::new(move |_, m, d, _| d == 1 && (m - anchor) % 3 == 0),
        ));
        all.push((
            one(FrequencyUnit::QuarterEnd(name)),
            Box::new(move |y, m, d, _| end(y, m, d) && (m - anchor) % 3 == 0),
        ));
        all.push((
            one(FrequencyUnit::YearStart(name)),
            Box::new(move |_, m, d, _| d == 1 && m == anchor),
        ));
        all.push((
            one(FrequencyUnit::YearEnd(name)),
            Box::new(move |y, m, d, _| end(y, m, d) && m == anchor),
        ));
    }
    all
}

#[test]
fn anchored_frequencies_step_over_exactly_the_days_they_name() {
    let days = walk();
    for (frequency, belongs) in anchored() {
        let stops: Vec<i64> = days
            .iter()
            .filter(|(_, y, m, d, w)| belongs(*y, *m, *d, *w))
            .map(|&(ts, ..)| ts)
            .collect();
        let mut next_stop = 0;
        for &(ts, y, m, d, w) in &days[400..days.len() - 1200] {
            assert_eq!(
                frequency.is_on(ts),
                belongs(y, m, d, w),
                "{frequency} {y}-{m}-{d}"
            );
            while stops[next_stop] < ts {
                next_stop += 1;
            }
            let on = stops[next_stop] == ts;
            // Of a day between two stops, forward counts from the earlier, backward from the later one.
            let after = if on { next_stop + 1 } else { next_stop };
            for k in 1..=3 {
                // A time of day stays as it is.
                let time = 3_600_000_000 * (d % 24);
                let forward = frequency.next(ts + time, k);
                assert_eq!(
                    forward,
                    Some(stops[after + k as usize - 1] + time),
                    "{frequency} {y}-{m}-{d} + {k}"
                );
                let backward = next_stop.checked_sub(k as usize).map(|i| stops[i] + time);
                if let Some(backward) = backward {
                    assert_eq!(
                        frequency.next(ts + time, -k),
                        Some(backward),
                        "{frequency} {y}-{m}-{d} - {k}"
                    );
                }
            }
            assert_eq!(frequency.next(ts, 0), Some(ts));
        }
        // Distances, also over many steps.
        for (i, step) in [(0, 1), (3, 7), (1, 11), (10, 9)] {
            if i + step < stops.len() {
                let (a, b) = (stops[i], stops[i + step]);
                assert_eq!(
                    frequency.steps_between(a, b),
                    Some(step as i64),
                    "{frequency}"
                );
                assert_eq!(
                    frequency.steps_between(b, a),
                    Some(-(step as i64)),
                    "{frequency}"
                );
                assert_eq!(frequency.next(a, step as i64), Some(b), "{frequency}");
                if frequency != Frequency::DAY {
                    assert_eq!(frequency.steps_between(a, b + 1), None);
                }
            }
        }
    }
}

#[test]
fn month_ends_and_business_days_by_hand() {
    let me = Frequency::MONTH_END;
    let january = date(2024, 1, 31);
    let expected = [(2, 29), (3, 31), (4, 30), (5, 31), (6, 30)];
    for (k, (month, day)) in expected.into_iter().enumerate() {
        assert_eq!(me.next(january, k as i64 + 1), Some(date(2024, month, day)));
    }
    assert_eq!(me.next(date(2023, 1, 31), 1), Some(date(2023, 2, 28)));
    let friday = date(2024, 3, 1);
    let b = Frequency::BUSINESS_DAY;
    assert_eq!(b.next(friday, 1), Some(date(2024, 3, 4)));
    assert_eq!(b.next(friday, 5), Some(date(2024, 3, 8)));
    assert_eq!(
        b.next(date(2024, 3, 2), 1),
        Some(date(2024, 3, 4)),
        "from a Saturday"
    );
    assert_eq!(b.next(date(2024, 3, 3), -1), Some(friday), "from a Sunday");
    assert_eq!(b.steps_between(friday, date(2024, 3, 4)), Some(1));
    assert_eq!(b.steps_between(friday, date(2024, 3, 3)), None, "a Sunday");
    // 31 March 2024: clocks change in Europe; a civil day still has 24 hours.
    let night = timestamp(2024, 3, 31, 0, 0, 0).unwrap();
    let hours = Frequency::HOUR.range(night, 25).unwrap();
    assert_eq!(TimeStyle::DATE_TIME.format(hours[2]), "2024-03-31 02:00:00");
    assert_eq!(
        TimeStyle::DATE_TIME.format(hours[24]),
        "2024-04-01 00:00:00"
    );
    // A leap day has no anniversary, but its month has an end.
    let feb: Frequency = "YE-FEB".parse().unwrap();
    assert_eq!(feb.next(date(2024, 2, 29), 1), Some(date(2025, 2, 28)));
    assert_eq!(feb.next(date(2025, 2, 28), 3), Some(date(2028, 2, 29)));
}

#[test]
fn the_calendar_ends_without_a_panic() {
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX];
    for (frequency, _) in anchored() {
        for ts in extremes {
            for k in extremes {
                if let Some(next) = frequency.next(ts, k).filter(|_| k != 0) {
                    assert!(
                        TimeStyle::DATE.format(next).len() >= 10,
                        "{frequency} {ts} {k}"
                    );
                }
                let _ = frequency.steps_between(ts, k);
                let _ = frequency.is_on(ts);
            }
            let _ = TimeStyle::DATE_TIME.format(ts);
        }
    }
    let last = date(9999, 12, 31);
    assert_eq!(Frequency::DAY.next(last, 1), None);
    assert_eq!(Frequency::MONTH_START.next(last, 1), None);
    assert_eq!(Frequency::BUSINESS_DAY.next(last, 1), None);
    assert_eq!(Frequency::HOUR.next(last, 23), Some(last + 23 * DAY / 24));
    assert_eq!(Frequency::HOUR.next(last, 24), None);
    assert_eq!(Frequency::HOUR.next(date(-9999, 1, 1), -1), None);
    assert_eq!(
        Frequency::DAY.range(last - DAY, 2).map(|r| r.len()),
        Some(2)
    );
    assert_eq!(Frequency::DAY.range(last - DAY, 3), None);
    assert_eq!(Frequency::integer(7).next(i64::MAX - 3, 1), None);
    assert_eq!(Frequency::DAY.range(last, 0), Some(Vec::new()));
}

#[test]
fn aliases_are_those_of_pandas() {
    let same = [
        "ms",
        "s",
        "30s",
        "min",
        "15min",
        "h",
        "2h",
        "D",
        "3D",
        "B",
        "W-MON",
        "W-SUN",
        "2W-FRI",
        "MS",
        "6MS",
        "ME",
        "QS-JAN",
        "QS-FEB",
        "QE-DEC",
        "YS-JAN",
        "YS-APR",
        "YE-DEC",
        "1",
        "7",
        "4294967295",
    ];
    for alias in same {
        assert_eq!(alias.parse::<Frequency>().unwrap().to_string(), alias);
    }
    let other = [
        ("W", "W-SUN"),
        ("QS", "QS-JAN"),
        ("QE", "QE-DEC"),
        ("Q", "QE-DEC"),
        ("YS", "YS-JAN"),
        ("YE", "YE-DEC"),
        ("A", "YE-DEC"),
        ("AS", "YS-JAN"),
        ("Y", "YE-DEC"),
        ("M", "ME"),
        ("H", "h"),
        ("T", "min"),
        ("5T", "5min"),
        ("S", "s"),
        ("L", "ms"),
        ("1h", "h"),
        (" h ", "h"),
        ("W-sun", "W-SUN"),
        ("d", "D"),
        ("01", "1"),
    ];
    for (alias, shown) in other {
        assert_eq!(
            alias.parse::<Frequency>().unwrap().to_string(),
            shown,
            "{alias}"
        );
    }
    for alias in [
        "",
        " ",
        "0",
        "0h",
        "-1h",
        "1.5h",
        "hourly",
        "x",
        "W-",
        "W-XYZ",
        "QS-13",
        "h-MON",
        "4294967296",
        "99999999999D",
        "D2",
        "é",
        "2 h",
        "MS-JAN",
    ] {
        let error = alias.parse::<Frequency>().unwrap_err();
        assert!(
            error.to_string().contains("expected a frequency"),
            "{alias}: {error}"
        );
    }
}

fn any_frequency() -> impl Strategy<Value = Frequency> {
    let unit = prop_oneof![
        Just(FrequencyUnit::Millisecond),
        Just(FrequencyUnit::Second),
        Just(FrequencyUnit::Minute),
        Just(FrequencyUnit::Hour),
        Just(FrequencyUnit::Day),
        Just(FrequencyUnit::BusinessDay),
        (0..7_usize).prop_map(|i| FrequencyUnit::Week(Weekday::ALL[i])),
        Just(FrequencyUnit::MonthStart),
        Just(FrequencyUnit::MonthEnd),
        (0..12_usize).prop_map(|i| FrequencyUnit::QuarterStart(Month::ALL[i])),
        (0..12_usize).prop_map(|i| FrequencyUnit::QuarterEnd(Month::ALL[i])),
        (0..12_usize).prop_map(|i| FrequencyUnit::YearStart(Month::ALL[i])),
        (0..12_usize).prop_map(|i| FrequencyUnit::YearEnd(Month::ALL[i])),
    ];
    (1_u32..5, unit).prop_map(|(n, unit)| Frequency::new(NonZeroU32::new(n).unwrap(), unit))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stamps_of_a_frequency_continue_as_it_does(
        frequency in any_frequency(),
        start in date(1900, 1, 1) / DAY..date(2080, 1, 1) / DAY,
        hour in 0..24_i64,
        holes in prop::collection::vec(any::<bool>(), 40),
    ) {
        // The first stop after any stamp.
        let start = frequency.next(start * DAY + hour * DAY / 24, 1).unwrap();
        let stamps = frequency.range(start, 40).unwrap();
        prop_assert!(stamps.windows(2).all(|w| frequency.steps_between(w[0], w[1]) == Some(1)));
        prop_assert!(frequency.is_on(stamps[39]));
        if frequency.unit() == FrequencyUnit::BusinessDay && frequency.count() > 1 {
            return Ok(());
        }
        // Found again: not always under the same name (7 days is a week), but with the same continuation.
        let found = infer_frequency([&stamps[..]], TimeKind::DateTime).unwrap();
        for k in 1..20 {
            prop_assert_eq!(found.next(stamps[39], k), frequency.next(stamps[39], k), "{} for {}", found, frequency);
        }
        // Also with holes, as long as most steps are there.
        let mut kept: Vec<i64> = Vec::new();
        for (i, &ts) in stamps.iter().enumerate() {
            if i % 8 != 5 || holes[i] {
                kept.push(ts);
            }
        }
        let with_holes = infer_frequency([&kept[..]], TimeKind::DateTime).unwrap();
        prop_assert_eq!(with_holes.next(stamps[39], 1), frequency.next(stamps[39], 1), "{} for {}", with_holes, frequency);
        prop_assert_eq!(frequency.to_string().parse::<Frequency>().unwrap(), frequency);
    }

    #[test]
    fn any_stamp_survives_being_written(ts in -377_705_116_800_000_000..253_402_300_799_999_999_i64) {
        let text = TimeStyle::DATE_TIME.format(ts);
        if ts >= date(0, 1, 1) {
            let csv = format!("unique_id,ds,y\na,{text},1\n");
            let repair = nd_data::Repair { gaps: nd_data::GapPolicy::Keep, ..Default::default() };
            let options = nd_data::csv::CsvOptions::default().with_repair(repair);
            let panel: nd_data::Panel = nd_data::csv::read_csv_from(csv.as_bytes(), "x", &options).unwrap();
            prop_assert_eq!(panel.ds_at(0, 0), ts);
            prop_assert_eq!(panel.format_ds(ts), text);
        }
    }
}

#[test]
fn inferred_names_are_the_usual_ones() {
    let cases: [(&[i64], TimeKind, &str); 14] = [
        (&[0, 1, 2, 5], TimeKind::Integer, "1"),
        (&[10, 20, 40], TimeKind::Integer, "10"),
        (&[7], TimeKind::Integer, "1"),
        (&[0, DAY / 24, DAY / 12], TimeKind::DateTime, "h"),
        (&[0, DAY / 96, DAY / 48], TimeKind::DateTime, "15min"),
        (&[0, DAY, 2 * DAY], TimeKind::Date, "D"),
        (
            &[date(2024, 2, 29), date(2024, 3, 1), date(2024, 3, 4)],
            TimeKind::Date,
            "B",
        ),
        (
            &[date(2024, 3, 3), date(2024, 3, 10), date(2024, 3, 17)],
            TimeKind::Date,
            "W-SUN",
        ),
        (
            &[date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)],
            TimeKind::Month,
            "MS",
        ),
        (
            &[date(2024, 1, 31), date(2024, 2, 29), date(2024, 3, 31)],
            TimeKind::Date,
            "ME",
        ),
        (
            &[date(2024, 1, 1), date(2024, 4, 1), date(2024, 7, 1)],
            TimeKind::Date,
            "QS-JAN",
        ),
        (
            &[date(2024, 2, 29), date(2024, 5, 31), date(2024, 8, 31)],
            TimeKind::Date,
            "QE-NOV",
        ),
        (
            &[date(2020, 1, 1), date(2021, 1, 1), date(2022, 1, 1)],
            TimeKind::Date,
            "YS-JAN",
        ),
        (
            &[date(2020, 12, 31), date(2021, 12, 31), date(2022, 12, 31)],
            TimeKind::Date,
            "YE-DEC",
        ),
    ];
    for (stamps, kind, expected) in cases {
        assert_eq!(
            infer_frequency([stamps], kind).unwrap().to_string(),
            expected
        );
    }
    // Series that say nothing alone: a single stamp, five days of one week.
    let week: Vec<i64> = (4..9).map(|d| date(2024, 3, d)).collect();
    let over: Vec<i64> = vec![date(2024, 3, 7), date(2024, 3, 8), date(2024, 3, 11)];
    let single = [date(2024, 3, 5)];
    let found = infer_frequency([&single[..], &week[..], &over[..]], TimeKind::Date).unwrap();
    assert_eq!(found, Frequency::BUSINESS_DAY);
    assert_eq!(
        infer_frequency([&week[..]], TimeKind::Date).unwrap(),
        Frequency::DAY
    );
    for (stamps, kind) in [
        (&[0, 3, 7][..], TimeKind::Integer),
        (&[5 * DAY][..], TimeKind::Date),
        (&[0, 0][..], TimeKind::Integer),
    ] {
        assert!(infer_frequency([stamps], kind).is_err(), "{stamps:?}");
    }
}

#[test]
fn stamps_are_written_as_they_were_read() {
    let read = |first: &str, second: &str| {
        let csv = format!("unique_id,ds,y\na,{first},1\na,{second},2\n");
        nd_data::csv::read_csv_from::<f32>(csv.as_bytes(), "x", &Default::default()).unwrap()
    };
    for (first, second, next) in [
        ("1", "2", "3"),
        ("-4", "+0", "4"),
        ("1949-11", "1949-12", "1950-01"),
        ("2024-02-28", "2024-02-29", "2024-03-01"),
        ("2024/02/28", "2024/02/29", "2024/03/01"),
        (
            "2024-12-31 22:00:00",
            "2024-12-31 23:00:00",
            "2025-01-01 00:00:00",
        ),
        ("2024-12-31T22:00", "2024-12-31T23:00", "2025-01-01T00:00"),
        (
            "2024-12-31T22:00:00Z",
            "2024-12-31T23:00:00Z",
            "2025-01-01T00:00:00Z",
        ),
        (
            "2024-12-31 22:00:00-05:30",
            "2024-12-31 23:00:00-05:30",
            "2025-01-01 00:00:00-05:30",
        ),
        (
            "2024-01-01 00:00:00.000",
            "2024-01-01 00:00:00.250",
            "2024-01-01 00:00:00.500",
        ),
        // A bare date among date-times is its midnight.
        ("2024-01-01", "2024-01-01 01:00", "2024-01-01 02:00"),
        ("2024-01-01 00:00", "2024-01-02", "2024-01-03 00:00"),
        // Another offset is the same instant in the offset of the first.
        (
            "2024-03-31T01:00:00+01:00",
            "2024-03-31T03:00:00+02:00",
            "2024-03-31T03:00:00+01:00",
        ),
        // What the style leaves out but the stamp has is written all the same.
        ("2024-01", "2024-01-15", "2024-01-29"),
    ] {
        let panel = read(first, second);
        assert_eq!(
            panel.format_ds(panel.future_ds(0, 1).unwrap()[0]),
            next,
            "{first}, {second}"
        );
    }
    let midday = date(2024, 1, 1) + DAY / 2;
    assert_eq!(TimeStyle::DATE.format(midday), "2024-01-01 12:00:00");
    assert_eq!(TimeStyle::MONTH.format(midday), "2024-01-01 12:00:00");
    assert_eq!(TimeStyle::MONTH.format(date(2024, 1, 2)), "2024-01-02");
    assert_eq!(
        TimeStyle::DATE_TIME.format(midday + 5),
        "2024-01-01 12:00:00.000005"
    );
    assert_eq!(TimeStyle::DATE.format(i64::MAX), i64::MAX.to_string());
}
