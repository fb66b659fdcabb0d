//! The season of the naive forecast.

use nd_data::{FrequencyUnit, Panel};

/// Seasons that integer-numbered series may have; they carry no unit to derive one from.
const SEASONS: [usize; 9] = [1, 4, 7, 12, 24, 48, 52, 96, 168];
/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The rows of a season: from the calendar, or, for series without one, the season whose naive forecast over the horizon is
/// best on the values themselves. The panel is that of the training rows: test rows must not choose what they are measured by.
pub(super) fn season(panel: &Panel<f32>, horizon: usize) -> usize {
    let Some(frequency) = panel.frequency() else {
        return best_season(panel, horizon);
    };
    let count = frequency.count() as usize;
    let per = |rows: usize| (rows / count).max(1);
    let per_day = |seconds: f64| ((DAY / seconds) as usize / count).max(1);
    match frequency.unit() {
        FrequencyUnit::Second => per_day(1.0),
        FrequencyUnit::Minute => per_day(60.0),
        FrequencyUnit::Hour => per(24),
        FrequencyUnit::Day => per(7),
        FrequencyUnit::BusinessDay => per(5),
        FrequencyUnit::Week(_) => per(52),
        FrequencyUnit::MonthStart | FrequencyUnit::MonthEnd => per(12),
        FrequencyUnit::QuarterStart(_) | FrequencyUnit::QuarterEnd(_) => per(4),
        FrequencyUnit::YearStart(_) | FrequencyUnit::YearEnd(_) => 1,
        _ => best_season(panel, horizon),
    }
}

fn best_season(panel: &Panel<f32>, horizon: usize) -> usize {
    // The seasonal naive forecast of step k repeats the value a whole number of seasons before it.
    let error = |season: usize| -> f64 {
        let lags = (1..=horizon).map(|step| step.div_ceil(season) * season);
        lags.map(|lag| change_over(panel, lag)).sum::<f64>() / horizon as f64
    };
    let candidates = SEASONS.into_iter().map(|season| (error(season), season));
    let best = candidates
        .filter(|(error, _)| error.is_finite())
        .min_by(|a, b| a.0.total_cmp(&b.0));
    best.map_or(1, |(_, season)| season)
}

/// The mean change of a value over `lag` rows, relative to the size of its series, so that no series outweighs the others.
/// Rows that were not observed do not count.
fn change_over(panel: &Panel<f32>, lag: usize) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for series in 0..panel.n_series() {
        let (y, mask) = (panel.series_y(series), panel.series_mask(series));
        let value = |row: usize| {
            let seen = mask.is_none_or(|mask| mask[row]);
            seen.then(|| f64::from(y[row]))
        };
        let (total, seen) = (0..y.len())
            .filter_map(value)
            .fold((0.0, 0usize), |(sum, n), y| (sum + y.abs(), n + 1));
        let size = total / seen as f64;
        if size > 0.0 {
            let pairs = (lag..y.len()).filter_map(|row| value(row - lag).zip(value(row)));
            for (a, b) in pairs {
                sum += (b - a).abs() / size;
                count += 1;
            }
        }
    }
    sum / count as f64
}
