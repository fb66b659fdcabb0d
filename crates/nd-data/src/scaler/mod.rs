//! Scaling a window by its own statistics, and a series by its own.
//!
//! The simple version: take the observed inputs of a window, compute a shift and a scale from them, and map every value
//! of the window (inputs and targets) to `(x - shift) / scale`; a forecast is mapped back. Because the statistics come
//! from the inputs alone, nothing of the future leaks in. [`WindowScaler`] names the statistics; they are those of
//! NeuralForecast's `TemporalNorm`, so that trained behaviour can be compared.
//!
//! The tricks: statistics run over the *observed* values gathered into a scratch slice, so masks cost nothing
//! afterwards; sums are `f64` in eight fixed lanes, which is exact enough for long windows and the same on every
//! machine; medians select in place. No call allocates.
//!
//! Known weakness: a median costs a selection per window and channel (about a microsecond for a hundred inputs).

mod local;
mod statistics;

use nd_core::Real;

pub use local::{LocalScaler, LocalScalerKind};
use statistics::{lower_median, mean, population_std};

/// What is added to every scale, as in NeuralForecast, so that none is zero.
pub const SCALE_EPSILON: f64 = 1e-6;

/// The standard deviation of a normal distribution times this is its median absolute deviation: the 0.75 quantile of the
/// standard normal distribution.
const MAD_OF_STD: f64 = 0.674_489_750_196_081_7;

/// How a window is scaled by the statistics of its observed inputs.
///
/// `eps` is [`SCALE_EPSILON`]. A spread of zero counts as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WindowScaler {
    /// Leaves values as they are.
    #[default]
    Identity,
    /// `(x - mean) / (std + eps)` with the population standard deviation.
    Standard,
    /// As [`Standard`](Self::Standard); the inverse multiplies by `(std + eps) (relu(w) + eps)` and adds `mean + b`,
    /// with `w = 1` and `b = 0`, which is where NeuralForecast's parameters stay because its point losses act on scaled
    /// values and give them no gradient. (Kim et al., "Reversible instance normalization", ICLR 2022.)
    RevIn,
    /// `(x - median) / (mad + eps)`; the median is the lower of the two middle values, `mad` is the median of
    /// `|x - median|`, or `0.6745 std` if that is zero.
    Robust,
    /// `(x - min) / (max - min + eps)`.
    MinMax,
    /// `2 (x - min) / (max - min + eps) - 1`.
    MinMax1,
    /// `arcsinh((x - median) / (mad + eps))` with the statistics of [`Robust`](Self::Robust); the inverse takes `sinh`.
    Invariant,
}

/// The statistics of one window and channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowStatistics<R> {
    /// What is subtracted.
    pub shift: R,
    /// What is divided by; never zero.
    pub scale: R,
}

impl WindowScaler {
    /// Every scaler, for tables and tests.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Standard,
        Self::RevIn,
        Self::Robust,
        Self::MinMax,
        Self::MinMax1,
        Self::Invariant,
    ];

    /// The name in configurations: NeuralForecast's `scaler_type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Standard => "standard",
            Self::RevIn => "revin",
            Self::Robust => "robust",
            Self::MinMax => "minmax",
            Self::MinMax1 => "minmax1",
            Self::Invariant => "invariant",
        }
    }

    /// The statistics of the observed values of a window, whose order is destroyed.
    ///
    /// A window without an observed value has shift 0 and scale `1 + eps` (1 for the identity). NaN among the values
    /// makes the statistics NaN.
    #[must_use]
    pub fn statistics<R: Real>(self, observed: &mut [R]) -> WindowStatistics<R> {
        if self == Self::Identity {
            return WindowStatistics {
                shift: R::ZERO,
                scale: R::ONE,
            };
        }
        let (shift, spread) = match self {
            _ if observed.is_empty() => (0.0, 0.0),
            Self::Identity => (0.0, 1.0),
            Self::Standard | Self::RevIn => {
                let mean = mean(observed);
                (mean, population_std(observed, mean))
            }
            Self::Robust | Self::Invariant => robust(observed),
            Self::MinMax | Self::MinMax1 => {
                let (low, high) = statistics::extremes(observed);
                (low.to_f64(), (high - low).to_f64())
            }
        };
        let scale = if spread == 0.0 { 1.0 } else { spread } + SCALE_EPSILON;
        WindowStatistics {
            shift: R::from_f64(shift),
            scale: R::from_f64(scale),
        }
    }

    /// The statistics of a window of which `mask` (1 or 0) says what is observed; `scratch` has the window's length.
    ///
    /// # Panics
    /// If the three lengths differ.
    #[track_caller]
    #[must_use]
    pub fn masked_statistics<R: Real>(
        self,
        x: &[R],
        mask: &[R],
        scratch: &mut [R],
    ) -> WindowStatistics<R> {
        assert!(
            x.len() == mask.len() && x.len() == scratch.len(),
            "a window of {} values with a mask of {} and a scratch of {}",
            x.len(),
            mask.len(),
            scratch.len()
        );
        let mut count = 0;
        for (&value, &observed) in x.iter().zip(mask) {
            if observed != R::ZERO {
                scratch[count] = value;
                count += 1;
            }
        }
        self.statistics(&mut scratch[..count])
    }

    /// Scales values in place.
    pub fn transform<R: Real>(self, statistics: WindowStatistics<R>, x: &mut [R]) {
        self.transform_each(statistics, x.iter_mut());
    }

    /// Scales values that need not be neighbours.
    #[inline]
    pub(crate) fn transform_each<'x, R: Real>(
        self,
        statistics: WindowStatistics<R>,
        values: impl Iterator<Item = &'x mut R>,
    ) {
        let WindowStatistics { shift, scale } = statistics;
        // The choice is made once, so that each loop can be vectorised.
        match self {
            Self::Identity => {}
            Self::Standard | Self::RevIn | Self::Robust | Self::MinMax => {
                values.for_each(|x| *x = (*x - shift) / scale);
            }
            Self::MinMax1 => values.for_each(|x| {
                let z = (*x - shift) / scale;
                *x = z + z - R::ONE;
            }),
            Self::Invariant => values.for_each(|x| {
                *x = R::from_f64(((*x - shift) / scale).to_f64().asinh());
            }),
        }
    }

    /// What a batch carries, such that `x = z * scale + loc` undoes [`transform`](Self::transform) (for
    /// [`Invariant`](Self::Invariant) with `sinh(z)` for `z`).
    #[must_use]
    pub fn loc_scale<R: Real>(self, statistics: WindowStatistics<R>) -> (R, R) {
        let WindowStatistics { shift, scale } = statistics;
        match self {
            Self::RevIn => (shift, scale * R::from_f64(1.0 + SCALE_EPSILON)),
            Self::MinMax1 => {
                let half = scale / (R::ONE + R::ONE);
                (shift + half, half)
            }
            _ => (shift, scale),
        }
    }

    /// Undoes [`transform`](Self::transform) in place, from what a batch carries.
    pub fn inverse<R: Real>(self, loc: R, scale: R, z: &mut [R]) {
        match self {
            Self::Identity => {}
            Self::Invariant => {
                for z in z {
                    *z = R::from_f64(z.to_f64().sinh()) * scale + loc;
                }
            }
            _ => {
                for z in z {
                    *z = *z * scale + loc;
                }
            }
        }
    }
}

impl std::str::FromStr for WindowScaler {
    type Err = crate::error::DataError;

    /// Reads the name of a scaler; `none` is the identity.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim();
        if name.eq_ignore_ascii_case("none") {
            return Ok(Self::Identity);
        }
        Self::ALL
            .into_iter()
            .find(|s| s.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.into_iter().map(Self::name).collect();
                crate::error::DataError::InvalidOption {
                    option: "scaler_type",
                    expected: names.join(", "),
                    found: format!("`{}`", crate::error::excerpt(text)),
                }
            })
    }
}

impl std::fmt::Display for WindowScaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The lower median and the median absolute deviation, with NeuralForecast's fallback for a deviation of zero.
fn robust<R: Real>(observed: &mut [R]) -> (f64, f64) {
    let mean = mean(observed);
    if mean.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    let std = population_std(observed, mean);
    let median = lower_median(observed);
    for x in observed.iter_mut() {
        *x = (*x - median).abs();
    }
    let mad = lower_median(observed).to_f64();
    (
        median.to_f64(),
        if mad == 0.0 { std * MAD_OF_STD } else { mad },
    )
}
