//! What the suites run with: the cargo features of the package that a suite is built for, as options of a run.
//!
//! `cargo bench --no-default-features` measures the baseline, `--no-default-features --features simd` SIMD alone. Kernels know
//! nothing of features: every choice is made at run time, and one program can make all of them. The features are those of the
//! package that compiles the suite (nd-bench or the facade), which is why a macro reads them.

use crate::sides::{Optimization, Switches};

/// The optimizations that the features of this package turn on, as [`Switches`].
#[macro_export]
macro_rules! switches_of_features {
    () => {
        $crate::defaults::switches([
            cfg!(feature = "simd"),
            cfg!(feature = "flash-attention"),
            cfg!(feature = "parallel"),
            cfg!(feature = "mixed-precision"),
        ])
    };
}

/// Which optimizations are on, in the order of [`Optimization::ALL`].
#[must_use]
pub fn switches(on: [bool; 4]) -> Switches {
    let pairs = Optimization::ALL.into_iter().zip(on);
    pairs.fold(Switches::NONE, |switches, (optimization, on)| {
        switches.with(optimization, on)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_what_is_on() {
        let found = switches_of_features!();
        assert_eq!(found.has(Optimization::Simd), cfg!(feature = "simd"));
        assert_eq!(
            found.has(Optimization::Half),
            cfg!(feature = "mixed-precision")
        );
        assert_eq!(switches([true; 4]), Switches::ALL);
    }
}
