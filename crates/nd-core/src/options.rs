//! What a run may choose: instruction set, attention, precision, threads.
//!
//! [`RunOptions`] travels with the tape, so each optimization can be switched on and off at run time and its share
//! measured within one process. Nothing here is a cargo feature.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::error::CoreError;

/// The environment variable that forces a SIMD level: `scalar`, `avx2`, `avx512`, `neon` or `auto`.
pub const SIMD_ENV: &str = "ND_SIMD";

/// The instruction set that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SimdLevel {
    /// Textbook loops and std's scalar functions; the baseline of every measured ratio.
    Scalar,
    /// aarch64, 128 bits.
    Neon,
    /// x86-64 with AVX2 and FMA, 256 bits.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL, 512 bits.
    Avx512,
}

impl SimdLevel {
    /// Every level, slowest first.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512];

    /// Whether this machine can run the level.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The levels this machine can run, slowest first.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|level| level.is_supported())
    }

    /// The fastest level of this machine, whatever the environment says.
    #[must_use]
    pub fn best() -> Self {
        Self::supported().last().unwrap_or(Self::Scalar)
    }

    /// The level that [`SIMD_ENV`] asks for.
    ///
    /// # Errors
    /// The variable names no level, or one that this machine cannot run.
    pub fn from_env() -> Result<Option<Self>, CoreError> {
        match std::env::var(SIMD_ENV) {
            Ok(name) if name.is_empty() || name == "auto" => Ok(None),
            Ok(name) => name.parse::<Self>()?.require().map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The level in force unless an option says otherwise: [`SIMD_ENV`], else [`SimdLevel::best`]. Read once.
    ///
    /// # Panics
    /// The environment names a level that does not exist or that this machine lacks. Going on with another one would
    /// make every measurement of that run a lie.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        static CURRENT: OnceLock<SimdLevel> = OnceLock::new();
        *CURRENT.get_or_init(|| match Self::from_env() {
            Ok(level) => level.unwrap_or_else(Self::best),
            Err(error) => panic!("{error}"),
        })
    }

    /// The level itself when this machine can run it.
    ///
    /// # Errors
    /// [`CoreError::UnsupportedSimd`].
    pub fn require(self) -> Result<Self, CoreError> {
        if self.is_supported() {
            Ok(self)
        } else {
            Err(CoreError::UnsupportedSimd {
                wanted: self,
                best: Self::best(),
            })
        }
    }
}

impl Default for SimdLevel {
    fn default() -> Self {
        Self::current()
    }
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        })
    }
}

impl FromStr for SimdLevel {
    type Err = CoreError;

    fn from_str(name: &str) -> Result<Self, CoreError> {
        Self::ALL
            .into_iter()
            .find(|level| level.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| CoreError::UnknownSimd {
                found: name.to_owned(),
            })
    }
}

/// Which attention a network uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum AttentionKind {
    /// Tiled, with an online softmax; the `N x N` matrix is never stored.
    #[default]
    Flash,
    /// The `N x N` reference.
    Standard,
}

/// The number format of matrix products, attention and saved activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Everything in the tape's own type.
    #[default]
    F32,
    /// Brain float: the range of f32 with 8 bits of precision.
    Bf16,
    /// IEEE half: 11 bits of precision, values up to 65504.
    F16,
}

impl Precision {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The format to train in on this machine: bf16 where kernels run at [`SimdLevel::Avx512`] and the processor multiplies bf16,
    /// f32 elsewhere.
    ///
    /// Without products of its own bf16 would be smaller too, but a step takes longer than in f32 (docs/performance.md); who needs
    /// the memory more than the time asks for it by name. f16 is never the answer: it has no arithmetic here.
    #[must_use]
    pub fn auto() -> Self {
        #[cfg(target_arch = "x86_64")]
        if SimdLevel::current() == SimdLevel::Avx512
            && std::arch::is_x86_feature_detected!("avx512bf16")
        {
            return Self::Bf16;
        }
        Self::F32
    }
}

impl FromStr for Precision {
    type Err = CoreError;

    fn from_str(name: &str) -> Result<Self, CoreError> {
        if name.eq_ignore_ascii_case("auto") {
            return Ok(Self::auto());
        }
        Self::ALL
            .into_iter()
            .find(|precision| precision.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| CoreError::UnknownPrecision {
                found: name.to_owned(),
            })
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

/// The choices of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RunOptions {
    /// The instruction set of every kernel.
    pub simd: SimdLevel,
    /// Flash or standard attention.
    pub attention: AttentionKind,
    /// The format autocast ops obey.
    pub precision: Precision,
    /// How many threads may work; `None` is all that the machine offers. Within a rayon pool a run has the threads of the pool, but one
    /// means one there too.
    pub threads: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for level in SimdLevel::ALL {
            assert_eq!(level.to_string().parse::<SimdLevel>().unwrap(), level);
        }
        let error = "sse9".parse::<SimdLevel>().unwrap_err().to_string();
        assert!(
            error.contains("sse9") && error.contains("avx512"),
            "{error}"
        );
    }

    #[test]
    fn names_of_formats_round_trip() {
        for precision in Precision::ALL {
            let again = precision.to_string().parse::<Precision>().unwrap();
            assert_eq!(again, precision);
        }
        assert_eq!("auto".parse::<Precision>().unwrap(), Precision::auto());
        let error = "f8".parse::<Precision>().unwrap_err().to_string();
        assert!(error.contains("f8") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn the_best_level_is_supported() {
        assert!(SimdLevel::best().is_supported());
        assert!(SimdLevel::supported().any(|level| level == SimdLevel::Scalar));
    }

    #[test]
    fn a_level_of_another_architecture_is_refused() {
        let foreign = if cfg!(target_arch = "aarch64") {
            SimdLevel::Avx2
        } else {
            SimdLevel::Neon
        };
        let error = foreign.require().unwrap_err().to_string();
        assert!(error.contains(&foreign.to_string()), "{error}");
    }
}
