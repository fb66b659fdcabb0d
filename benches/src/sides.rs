//! The sides of every comparison of training steps: the library with each optimization on or off, and plain code.
//!
//! Four switches make sixteen ways to run the library, all in one process: that with none on is the baseline called (a), and
//! leaving one out or turning only one on shows what it is worth. (b) and (c) are not the library: see [`crate::plain`].

use std::fmt;
use std::str::FromStr;

use nd_core::{AttentionKind, Precision, RunOptions, SimdLevel};
use nd_data::PanelWindows;

use crate::machine::cores;
use crate::plain::{PlainTrainer, Products};
use crate::trainer::Trainer;
use crate::workloads::training::Prepared;

/// One of the four optimizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Optimization {
    /// Explicit SIMD at the machine's best level; off: textbook loops and scalar functions.
    Simd,
    /// Tiled attention; off: all scores in memory.
    Flash,
    /// All cores; off: one thread.
    Parallel,
    /// bf16 in products, attention and kept activations; off: f32.
    Half,
}

impl Optimization {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Simd, Self::Flash, Self::Parallel, Self::Half];

    /// The name on the command line and in `sides`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simd => "simd",
            Self::Flash => "flash",
            Self::Parallel => "parallel",
            Self::Half => "bf16",
        }
    }

    /// The name in sentences.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Simd => "SIMD",
            Self::Flash => "Flash attention",
            Self::Parallel => "Parallel processing",
            Self::Half => "Mixed precision",
        }
    }
}

/// Which optimizations are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Switches([bool; 4]);

impl Switches {
    /// None.
    pub const NONE: Self = Self([false; 4]);
    /// All.
    pub const ALL: Self = Self([true; 4]);

    /// Only this one.
    #[must_use]
    pub fn only(optimization: Optimization) -> Self {
        Self::NONE.with(optimization, true)
    }

    /// All but this one.
    #[must_use]
    pub fn without(optimization: Optimization) -> Self {
        Self::ALL.with(optimization, false)
    }

    /// The same with one of them turned on or off.
    #[must_use]
    pub fn with(mut self, optimization: Optimization, on: bool) -> Self {
        self.0[optimization as usize] = on;
        self
    }

    /// Whether it is on.
    #[must_use]
    pub fn has(self, optimization: Optimization) -> bool {
        self.0[optimization as usize]
    }

    /// The options of a run on this machine.
    #[must_use]
    pub fn options(self) -> RunOptions {
        let choose = |optimization| self.has(optimization);
        RunOptions {
            simd: match choose(Optimization::Simd) {
                true => SimdLevel::best(),
                false => SimdLevel::Scalar,
            },
            attention: match choose(Optimization::Flash) {
                true => AttentionKind::Flash,
                false => AttentionKind::Standard,
            },
            threads: Some(if choose(Optimization::Parallel) {
                cores()
            } else {
                1
            }),
            precision: match choose(Optimization::Half) {
                true => Precision::Bf16,
                false => Precision::F32,
            },
        }
    }
}

/// Who takes the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The library.
    Library(Switches),
    /// Plain code.
    Plain(Products),
}

impl Side {
    /// Baseline (a): the library with nothing on.
    pub const BASELINE: Self = Self::Library(Switches::NONE);
    /// The library with everything on.
    pub const ALL: Self = Self::Library(Switches::ALL);
    /// SIMD and tiled attention on one thread: between "SIMD alone" and "all in f32".
    pub const SIMD_FLASH: Self = Self::Library(Switches([true, true, false, false]));
    /// The library with everything on that leaves the numbers in f32.
    pub const ALL_F32: Self = Self::Library(Switches([true, true, true, false]));

    /// Every side that has a name.
    #[must_use]
    pub fn every() -> Vec<Self> {
        let mut sides = vec![Self::BASELINE];
        sides.extend(Optimization::ALL.map(|o| Self::Library(Switches::only(o))));
        sides.extend(Optimization::ALL.map(|o| Self::Library(Switches::without(o))));
        sides.push(Self::SIMD_FLASH);
        sides.push(Self::ALL);
        sides.extend(Products::ALL.map(Self::Plain));
        sides
    }

    /// The options of [`Side::ALL`] on this machine.
    #[must_use]
    pub fn all_options() -> RunOptions {
        Switches::ALL.options()
    }

    /// Whether its steps are a hundred times as slow as the fast ones.
    #[must_use]
    pub fn is_slow(self) -> bool {
        match self {
            Self::Library(switches) => !switches.has(Optimization::Simd),
            Self::Plain(products) => products == Products::Textbook,
        }
    }

    /// A runner of this side's steps.
    ///
    /// # Errors
    /// Threads cannot be started, or plain code knows no such network.
    pub fn runner<'a>(
        self,
        prepared: &'a Prepared,
        source: &'a PanelWindows<'a, f32>,
    ) -> Result<Runner<'a>, String> {
        Ok(match self {
            Self::Library(switches) => {
                Runner::Library(Box::new(prepared.trainer(source, switches.options())?))
            }
            Self::Plain(products) => {
                Runner::Plain(Box::new(PlainTrainer::new(prepared, source, products)?))
            }
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BASELINE => f.write_str("baseline"),
            Self::ALL => f.write_str("all"),
            Self::Library(switches) => {
                let on: Vec<_> = Optimization::ALL
                    .into_iter()
                    .filter(|&o| switches.has(o))
                    .collect();
                let off = Optimization::ALL.into_iter().find(|&o| !switches.has(o));
                match (on.as_slice(), off) {
                    ([one], _) => write!(f, "only-{}", one.name()),
                    ([_, _, _], Some(off)) => write!(f, "no-{}", off.name()),
                    _ => {
                        let names: Vec<_> = on.iter().map(|o| o.name()).collect();
                        f.write_str(&names.join("+"))
                    }
                }
            }
            Self::Plain(Products::Textbook) => f.write_str("plain-ijk"),
            Self::Plain(Products::Reordered) => f.write_str("plain-ikj"),
            Self::Plain(Products::Ndarray) => f.write_str("plain-ndarray"),
        }
    }
}

impl FromStr for Side {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let every = Self::every();
        let found = every.iter().find(|side| side.to_string() == name);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = every.iter().map(Self::to_string).collect();
            format!(
                "there is no side {name:?}; the sides are: {}",
                names.join(", ")
            )
        })
    }
}

/// Takes the steps of one side.
pub enum Runner<'a> {
    /// The library.
    Library(Box<Trainer<'a>>),
    /// Plain code.
    Plain(Box<PlainTrainer<'a>>),
}

impl Runner<'_> {
    /// Takes a step on `windows` windows: its seconds, and the loss before it.
    ///
    /// # Errors
    /// The loss or its gradient is not finite.
    pub fn step(&mut self, windows: usize) -> Result<(f64, f64), String> {
        match self {
            Self::Library(trainer) => {
                let taken = trainer.step(windows)?;
                Ok((taken.seconds(), taken.report.loss))
            }
            Self::Plain(trainer) => Ok(trainer.step(windows)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_is_found_by_its_name() {
        let every = Side::every();
        assert_eq!(every.len(), 14);
        for side in every {
            assert_eq!(side.to_string().parse(), Ok(side));
        }
        assert_eq!("no-bf16".parse(), Ok(Side::ALL_F32));
        let error = "fast".parse::<Side>().unwrap_err();
        assert!(
            error.contains("fast") && error.contains("only-simd"),
            "{error}"
        );
    }

    #[test]
    fn switches_become_options() {
        let options = Switches::only(Optimization::Parallel).options();
        assert_eq!(options.simd, SimdLevel::Scalar);
        assert_eq!(options.attention, AttentionKind::Standard);
        assert_eq!(options.threads, Some(cores()));
        let options = Switches::without(Optimization::Parallel).options();
        assert_eq!(
            (options.precision, options.threads),
            (Precision::Bf16, Some(1))
        );
    }
}
