//! What multiplies bf16: the choice at run time among the ways that a processor has.
//!
//! Beside the level, because it is not a level: everything but products of bf16 runs the same. The choice is made once, on the
//! thread that calls a product, and travels with it; so [`Bf16Engine::scope`] also holds for the threads that help.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::dispatch::SimdLevel;

/// The environment variable that forces a [`Bf16Engine`]: `widen`, `dot`, `amx`, or `auto` for the best.
pub const BF16_ENV: &str = "ND_BF16";

/// The instructions that multiply bf16 operands.
///
/// ```
/// use nd_simd::matmul::Bf16Engine;
///
/// // Every engine of this machine, slowest first.
/// for engine in Bf16Engine::supported() {
///     println!("{engine}");
/// }
/// let name = Bf16Engine::Widen.scope(|| Bf16Engine::current().to_string());
/// assert_eq!(name, "widen");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Bf16Engine {
    /// Operands are widened to f32; every level has this.
    Widen,
    /// AVX-512 BF16: a dot product of two pairs in each lane (`vdpbf16ps`).
    Dot,
    /// AMX: products of tiles of 16 x 32 and 32 x 16 (`tdpbf16ps`).
    Amx,
}

thread_local! {
    static SCOPE: Cell<Option<Bf16Engine>> = const { Cell::new(None) };
}

impl Bf16Engine {
    /// Every engine, slowest first.
    pub const ALL: [Self; 3] = [Self::Widen, Self::Dot, Self::Amx];

    /// Whether this machine has the engine, at [`SimdLevel::Avx512`] where it is more than widening.
    #[must_use]
    pub fn is_supported(self) -> bool {
        match self {
            Self::Widen => true,
            #[cfg(target_arch = "x86_64")]
            Self::Dot => super::dot::PairDot::new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => super::amx::Tiles::new().is_some(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Dot | Self::Amx => false,
        }
    }

    /// The engines of this machine, slowest first.
    pub fn supported() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|engine| engine.is_supported())
    }

    /// The fastest engine of this machine, whatever the environment says.
    #[must_use]
    pub fn best() -> Self {
        Self::supported().last().unwrap_or(Self::Widen)
    }

    /// The engine of products that this thread calls: that of the innermost [`Bf16Engine::scope`], else what [`BF16_ENV`] asks for,
    /// else the best.
    ///
    /// # Panics
    /// The environment names an engine that does not exist or that this machine lacks.
    #[must_use]
    #[track_caller]
    pub fn current() -> Self {
        static CURRENT: OnceLock<Bf16Engine> = OnceLock::new();
        if let Some(engine) = SCOPE.get() {
            return engine;
        }
        *CURRENT.get_or_init(|| {
            let name = std::env::var(BF16_ENV).unwrap_or_default();
            if name.is_empty() || name == "auto" {
                return Self::best();
            }
            match name.parse::<Self>() {
                Ok(engine) if engine.is_supported() => engine,
                Ok(engine) => panic!(
                    "{BF16_ENV}={engine}, but this machine has at most {}",
                    Self::best()
                ),
                Err(UnknownBf16Engine(name)) => {
                    panic!("{BF16_ENV}={name} names no engine; known are widen, dot, amx and auto")
                }
            }
        })
    }

    /// Calls a function whose products of bf16, called from this thread, use this engine: the choice of a thread, taken along to those
    /// that help it, or one that is tested or measured. Many small products in a row are faster within one scope, because shapes of tiles
    /// stay loaded from one to the next.
    ///
    /// # Panics
    /// The machine lacks the engine.
    #[track_caller]
    pub fn scope<T>(self, f: impl FnOnce() -> T) -> T {
        struct Restore(Option<Bf16Engine>);
        impl Drop for Restore {
            fn drop(&mut self) {
                SCOPE.set(self.0);
            }
        }
        assert!(
            self.is_supported(),
            "the engine {self} was asked for, but this machine has at most {}",
            Self::best()
        );
        let _restore = Restore(SCOPE.replace(Some(self)));
        #[cfg(target_arch = "x86_64")]
        let _tiles = (self == Self::Amx).then(super::amx::KeepTiles::new);
        f()
    }

    /// The engine of a product at a level: widening at all but AVX-512.
    #[track_caller]
    pub(crate) fn at(level: SimdLevel) -> Self {
        if level == SimdLevel::Avx512 {
            Self::current()
        } else {
            Self::Widen
        }
    }
}

impl fmt::Display for Bf16Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Widen => "widen",
            Self::Dot => "dot",
            Self::Amx => "amx",
        })
    }
}

/// No [`Bf16Engine`] has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no bf16 engine `{0}`; known are widen, dot and amx")]
pub struct UnknownBf16Engine(
    /// The name.
    pub String,
);

impl FromStr for Bf16Engine {
    type Err = UnknownBf16Engine;

    fn from_str(name: &str) -> Result<Self, UnknownBf16Engine> {
        Self::ALL
            .into_iter()
            .find(|engine| engine.to_string().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownBf16Engine(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for engine in Bf16Engine::ALL {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        let error = "tmul".parse::<Bf16Engine>().unwrap_err();
        assert!(error.to_string().contains("`tmul`"));
    }

    #[test]
    fn scopes_nest_and_end() {
        let outside = Bf16Engine::current();
        for engine in Bf16Engine::supported() {
            engine.scope(|| {
                assert_eq!(Bf16Engine::current(), engine);
                Bf16Engine::Widen
                    .scope(|| assert_eq!(Bf16Engine::at(SimdLevel::Avx512), Bf16Engine::Widen));
                assert_eq!(Bf16Engine::current(), engine);
                assert_eq!(Bf16Engine::at(SimdLevel::Avx2), Bf16Engine::Widen);
            });
        }
        let panic = std::panic::catch_unwind(|| Bf16Engine::Widen.scope(|| panic!("inside")));
        assert!(panic.is_err());
        assert_eq!(Bf16Engine::current(), outside);
    }
}
