//! Which windows a panel has.

use nd_core::Real;

use crate::error::DataError;
use crate::panel::Panel;

/// The windows that a model and its training ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowConfig {
    /// Inputs of a window, `L`.
    pub input_size: usize,
    /// Targets of a window, `h`.
    pub horizon: usize,
    /// Rows from one window to the next.
    pub step_size: usize,
    /// Rows at the end that are kept for validation.
    pub val_size: usize,
    /// Rows behind them that are kept for testing.
    pub test_size: usize,
    /// Whether training windows may begin up to `L - 1` rows before the longest series does.
    pub start_padding: bool,
    /// The share of the inputs that must be observed for a training window; at least one always must.
    pub input_availability: f64,
    /// The share of the targets that must be observed for a training window; at least one always must.
    pub target_availability: f64,
    /// Whether a window is one time slice of all series instead of one series.
    pub multivariate: bool,
}

impl WindowConfig {
    /// Windows of one series, one row apart, with nothing kept for validation or testing.
    #[must_use]
    pub fn new(input_size: usize, horizon: usize) -> Self {
        Self {
            input_size,
            horizon,
            step_size: 1,
            val_size: 0,
            test_size: 0,
            start_padding: false,
            input_availability: 0.0,
            target_availability: 0.0,
            multivariate: false,
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let positive = [
            ("input_size", self.input_size),
            ("horizon", self.horizon),
            ("step_size", self.step_size),
        ];
        for (option, value) in positive {
            // The upper bound keeps every sum of sizes within the integers.
            if value == 0 || value > u32::MAX as usize {
                let expected = "a number from 1 to 4294967295".into();
                return Err(DataError::InvalidOption {
                    option,
                    expected,
                    found: value.to_string(),
                });
            }
        }
        for (option, value) in [("val_size", self.val_size), ("test_size", self.test_size)] {
            if value > u32::MAX as usize {
                let expected = "a number up to 4294967295".into();
                return Err(DataError::InvalidOption {
                    option,
                    expected,
                    found: value.to_string(),
                });
            }
        }
        let shares = [
            ("input_availability", self.input_availability),
            ("target_availability", self.target_availability),
        ];
        for (option, value) in shares {
            if !(0.0..=1.0).contains(&value) {
                let expected = "a share from 0 to 1".into();
                return Err(DataError::InvalidOption {
                    option,
                    expected,
                    found: value.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Which windows of a panel are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowSet {
    /// Windows before the validation and test rows, to learn from.
    Train,
    /// Windows whose targets are the validation rows.
    Validation,
    /// Windows whose targets are the test rows.
    Test,
    /// The last window of each series (or of all), whose targets are the future.
    Predict,
    /// Windows whose targets cover the training rows, the last one ending with them; inputs before the first row are
    /// masked.
    Insample,
}

/// The first rows of the windows of one group: rows of a series, negative in the padding on its left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Starts {
    /// `first`, `first + step`, ... : `count` of them.
    Range {
        /// The first row of the first window.
        first: i64,
        /// Rows from one window to the next.
        step: i64,
        /// The number of windows.
        count: usize,
    },
    /// An explicit list.
    List(Vec<i64>),
}

impl Starts {
    /// The number of windows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(starts) => starts.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first row of a window.
    ///
    /// # Panics
    /// If there is no such window.
    #[must_use]
    #[track_caller]
    pub fn get(&self, window: usize) -> i64 {
        assert!(window < self.len(), "window {window} of {}", self.len());
        match self {
            Self::Range { first, step, .. } => first + step * window as i64,
            Self::List(starts) => starts[window],
        }
    }

    /// A list, as a range if it is one.
    fn from_list(starts: Vec<i64>, step: i64) -> Self {
        match starts.first() {
            None => Self::Range {
                first: 0,
                step,
                count: 0,
            },
            Some(&first) if starts.iter().zip(0..).all(|(&s, k)| s == first + k * step) => {
                Self::Range {
                    first,
                    step,
                    count: starts.len(),
                }
            }
            Some(_) => Self::List(starts),
        }
    }
}

/// The windows of a panel: indices only.
///
/// Windows are in groups: one per series, or a single one for multivariate windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    input_size: usize,
    horizon: usize,
    multivariate: bool,
    groups: Vec<Starts>,
    /// For each series, the row from which on nothing may be seen.
    ends: Vec<usize>,
    /// For each series, what to subtract from a start to get its row (zero unless multivariate).
    shifts: Vec<i64>,
}

impl Windows {
    /// Lists the windows of a panel.
    ///
    /// # Errors
    /// [`DataError::InvalidOption`] for sizes that make no sense, [`DataError::NoWindows`] if there is no window,
    /// [`DataError::NoObservedWindows`] if none of those that fit has enough observed values.
    pub fn new<R: Real>(
        panel: &Panel<R>,
        config: &WindowConfig,
        set: WindowSet,
    ) -> Result<Self, DataError> {
        config.check()?;
        let (l, h) = (config.input_size as i64, config.horizon as i64);
        let step = config.step_size as i64;
        let longest = panel.longest() as i64;
        let lengths: Vec<i64> = (0..panel.n_series())
            .map(|s| panel.series_len(s) as i64)
            .collect();
        let (val, test) = (config.val_size as i64, config.test_size as i64);
        let cut = match set {
            WindowSet::Train | WindowSet::Insample => val + test,
            WindowSet::Validation => test,
            WindowSet::Test | WindowSet::Predict => 0,
        };
        // The first start and the number of windows, in rows of the longest series.
        let end = longest - cut;
        let (first, count) = match set {
            WindowSet::Train => {
                let padding = if config.start_padding { l - 1 } else { 0 };
                (-padding, (end + padding - l).div_euclid(step) + 1)
            }
            WindowSet::Validation => scored(end, l, h, step, val, "val_size")
                .map(|all| from_first_row(all, end, l, h, step, val))?,
            WindowSet::Test => scored(end, l, h, step, test, "test_size")?,
            WindowSet::Predict => (end - l, 1),
            WindowSet::Insample => {
                let count = (end - h).div_euclid(step) + 1;
                (end - h - l - (count - 1) * step, count)
            }
        };
        let count = count.max(0);
        let mut windows = Self {
            input_size: config.input_size,
            horizon: config.horizon,
            multivariate: config.multivariate,
            groups: Vec::new(),
            ends: lengths
                .iter()
                .map(|&len| (len - cut).max(0) as usize)
                .collect(),
            shifts: Vec::new(),
        };
        let shifts: Vec<i64> = lengths.iter().map(|len| longest - len).collect();
        let train = set == WindowSet::Train;
        if config.multivariate {
            let starts = if train {
                let starts = (0..count).map(|k| first + k * step);
                Starts::from_list(windows.valid_slices(panel, config, &shifts, starts), step)
            } else {
                Starts::Range {
                    first,
                    step,
                    count: count as usize,
                }
            };
            windows.groups.push(starts);
            windows.shifts = shifts;
        } else {
            for series in 0..panel.n_series() {
                let own = Starts::Range {
                    first: first - shifts[series],
                    step,
                    count: count as usize,
                };
                windows
                    .groups
                    .push(match (train, set == WindowSet::Insample) {
                        (true, _) => windows.valid(panel, config, series, &own),
                        // Targets before a shorter series begins would be padding only.
                        (_, true) => within(&own, -l),
                        _ => own,
                    });
            }
            windows.shifts = vec![0; panel.n_series()];
        }
        if windows.is_empty() {
            let fits = if config.multivariate {
                count > 0
            } else {
                lengths.iter().enumerate().any(|(series, len)| {
                    let first = first - (longest - len);
                    let count = count as usize;
                    let own = Starts::Range { first, step, count };
                    !windows.of_length(config, series, &own).is_empty()
                })
            };
            if let (true, true, Some(mask)) = (train, fits, panel.available_mask()) {
                let visible =
                    || (0..panel.n_series()).map(|s| (panel.rows_of(s).start, windows.ends[s]));
                let rows: usize = visible().map(|(_, end)| end).sum();
                let observed = visible()
                    .map(|(start, end)| {
                        mask[start..start + end]
                            .iter()
                            .filter(|&&seen| seen)
                            .count()
                    })
                    .sum::<usize>();
                return Err(DataError::NoObservedWindows {
                    input_size: config.input_size,
                    horizon: config.horizon,
                    observed,
                    rows,
                });
            }
            let which = match set {
                WindowSet::Train | WindowSet::Insample => "training",
                WindowSet::Validation => "validation",
                WindowSet::Test => "test",
                WindowSet::Predict => "prediction",
            };
            return Err(DataError::NoWindows {
                input_size: config.input_size,
                horizon: config.horizon,
                reason: format!(
                    "the longest of {} series has {longest} rows, of which {} remain for {which} windows",
                    panel.n_series(),
                    end.max(0)
                ),
            });
        }
        Ok(windows)
    }

    /// The training windows of one series that have enough observed values.
    fn valid<R: Real>(
        &self,
        panel: &Panel<R>,
        config: &WindowConfig,
        series: usize,
        all: &Starts,
    ) -> Starts {
        let range = self.of_length(config, series, all);
        let (Some(mask), &Starts::Range { first, step, count }) =
            (panel.series_mask(series), &range)
        else {
            return range;
        };
        let (l, h) = (self.input_size as i64, self.horizon as i64);
        let (least_inputs, least_targets) = self.least(config);
        let seen = Observed::new(&mask[..self.ends[series]]);
        let starts = (0..count as i64)
            .map(|k| first + k * step)
            .filter(|&s| {
                seen.within(s, s + l) >= least_inputs
                    && seen.within(s + l, s + l + h) >= least_targets
            })
            .collect();
        Starts::from_list(starts, step)
    }

    /// How many inputs and how many targets of a training window of one series must be observed.
    fn least(&self, config: &WindowConfig) -> (i64, i64) {
        (
            at_least(self.input_size, 1, config.input_availability),
            at_least(self.horizon, 1, config.target_availability),
        )
    }

    /// The training windows of one series that have enough rows, observed or not.
    fn of_length(&self, config: &WindowConfig, series: usize, all: &Starts) -> Starts {
        let Starts::Range { first, step, count } = *all else {
            return all.clone();
        };
        let (l, h) = (self.input_size as i64, self.horizon as i64);
        let (least_inputs, least_targets) = self.least(config);
        let end = self.ends[series] as i64;
        // `least` of `n` rows from `s` on lie within [0, end) iff least - n <= s <= end - least.
        if least_inputs.max(least_targets) > end || count == 0 {
            return Starts::Range {
                first,
                step,
                count: 0,
            };
        }
        let low = (least_inputs - l).max(least_targets - h - l);
        let high = (end - least_inputs).min(end - least_targets - l);
        let last = first + (count as i64 - 1) * step;
        let from = first + (low - first).max(0).div_euclid(step) * step;
        let from = if from < low { from + step } else { from };
        let to = high.min(last);
        let count = if to < from { 0 } else { (to - from) / step + 1 };
        Starts::Range {
            first: from,
            step,
            count: count as usize,
        }
    }

    /// The time slices of all series that have enough observed values together.
    fn valid_slices<R: Real>(
        &self,
        panel: &Panel<R>,
        config: &WindowConfig,
        shifts: &[i64],
        starts: impl Iterator<Item = i64>,
    ) -> Vec<i64> {
        let (l, h) = (self.input_size as i64, self.horizon as i64);
        let n = shifts.len();
        let least_inputs = at_least(self.input_size, n, config.input_availability);
        let least_targets = at_least(self.horizon, n, config.target_availability);
        let seen: Vec<Observed> = (0..n)
            .map(|series| match panel.series_mask(series) {
                Some(mask) => Observed::new(&mask[..self.ends[series]]),
                None => Observed::All(self.ends[series] as i64),
            })
            .collect();
        let count = |from: i64, to: i64| -> i64 {
            seen.iter()
                .zip(shifts)
                .map(|(seen, shift)| seen.within(from - shift, to - shift))
                .sum()
        };
        starts
            .filter(|&s| {
                count(s, s + l) >= least_inputs && count(s + l, s + l + h) >= least_targets
            })
            .collect()
    }

    /// The number of windows of all groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(Starts::len).sum()
    }

    /// Whether there are none; [`Windows::new`] refuses that.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The windows of each group: of each series, or of all together if multivariate.
    #[must_use]
    pub fn groups(&self) -> &[Starts] {
        &self.groups
    }

    /// Whether a window is a time slice of all series.
    #[must_use]
    pub fn is_multivariate(&self) -> bool {
        self.multivariate
    }

    /// Inputs of a window, `L`.
    #[must_use]
    pub fn input_size(&self) -> usize {
        self.input_size
    }

    /// Targets of a window, `h`.
    #[must_use]
    pub fn horizon(&self) -> usize {
        self.horizon
    }

    /// The row of a series at which a window begins (negative in the padding before it).
    ///
    /// `group` is the series itself, or 0 for multivariate windows.
    ///
    /// # Panics
    /// If there is no such group, window or series.
    #[must_use]
    #[track_caller]
    pub fn first_row(&self, group: usize, window: usize, series: usize) -> i64 {
        self.groups[group].get(window) - self.shifts[series]
    }

    /// The row of a series from which on these windows see nothing but known future values.
    ///
    /// # Panics
    /// If there is no such series.
    #[must_use]
    #[track_caller]
    pub fn end(&self, series: usize) -> usize {
        self.ends[series]
    }

    /// The group and the window within it of a running number over all groups.
    ///
    /// # Panics
    /// If there is no such window.
    #[must_use]
    #[track_caller]
    pub fn locate(&self, mut index: usize) -> (usize, usize) {
        for (group, starts) in self.groups.iter().enumerate() {
            if index < starts.len() {
                return (group, index);
            }
            index -= starts.len();
        }
        panic!("a window number beyond the {} there are", self.len());
    }
}

/// First start and number of the windows whose targets lie within the last `size` rows.
fn scored(
    end: i64,
    l: i64,
    h: i64,
    step: i64,
    size: i64,
    option: &'static str,
) -> Result<(i64, i64), DataError> {
    if size < h {
        return Err(DataError::InvalidOption {
            option,
            expected: format!("at least the horizon, {h}"),
            found: size.to_string(),
        });
    }
    Ok((end - size - l, (size - h) / step + 1))
}

/// Validation windows do not begin before the longest series, unless no window would be left (NeuralForecast slices the
/// last `L + val_size` rows, and pads them only if they are fewer than a window).
fn from_first_row(all: (i64, i64), end: i64, l: i64, h: i64, step: i64, val: i64) -> (i64, i64) {
    let rows = (l + val).min(end);
    if rows < l + h {
        all
    } else {
        (end - rows, (rows - l - h) / step + 1)
    }
}

/// The windows of a range that begin at `low` or later.
fn within(starts: &Starts, low: i64) -> Starts {
    let kept: Vec<i64> = (0..starts.len())
        .map(|k| starts.get(k))
        .filter(|&s| s >= low)
        .collect();
    let step = match starts {
        Starts::Range { step, .. } => *step,
        Starts::List(_) => 1,
    };
    Starts::from_list(kept, step)
}

/// The number of values out of `size` rows of `n_series` series that a share demands: at least one.
fn at_least(size: usize, n_series: usize, share: f64) -> i64 {
    ((size as f64 * share * n_series as f64) as i64).max(1)
}

/// Counts observed rows of ranges of a series.
enum Observed {
    /// Every row before this one.
    All(i64),
    /// The number of observed rows before each row.
    Before(Vec<u32>),
}

impl Observed {
    fn new(mask: &[bool]) -> Self {
        let mut before = Vec::with_capacity(mask.len() + 1);
        let mut count = 0;
        before.push(0);
        for &observed in mask {
            count += u32::from(observed);
            before.push(count);
        }
        Self::Before(before)
    }

    /// The observed rows from `from` to before `to`.
    fn within(&self, from: i64, to: i64) -> i64 {
        match self {
            Self::All(end) => (to.clamp(0, *end) - from.clamp(0, *end)).max(0),
            Self::Before(before) => {
                let end = before.len() as i64 - 1;
                let at = |row: i64| i64::from(before[row.clamp(0, end) as usize]);
                at(to) - at(from)
            }
        }
    }
}
