//! Every kernel of nd-simd as something that can be timed at each level.
//!
//! In its simple form: a list of cases, each with a name, the amount of its work and a function of the level. Data is made when a
//! case is run, so that only one case's buffers exist at a time. The criterion suite `simd_benchmarks` and the table that `kernels` prints
//! walk the same list. What [`SimdLevel::Scalar`] runs is the baseline: textbook loops (i-j-k in products) and std's scalar
//! functions, which the compiler vectorises where it can; where another plain loop is customary too, the case has it.

mod arrays;
mod products;
mod recurrent;
mod rows;

use nd_core::{Buffer, SimdLevel};

/// What a call of a case amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Elements of the result (of the input, where that is a number), and the f32s that must be read and written.
    Elements {
        /// The elements.
        count: usize,
        /// The f32s.
        moved: usize,
    },
}

impl Work {
    /// `passes` arrays of `count` elements read or written.
    #[must_use]
    pub fn elements(count: usize, passes: usize) -> Self {
        Self::Elements {
            count,
            moved: passes * count,
        }
    }
}

/// A loop without arguments.
pub type Loop = Box<dyn FnMut()>;

/// A kernel with its data.
pub struct Run {
    /// Calls the kernel once at a level.
    pub at: Box<dyn FnMut(SimdLevel)>,
    /// The name of another plain loop for the same work, and the loop.
    pub plain: Option<(&'static str, Loop)>,
}

impl Run {
    /// A kernel without another loop beside it.
    pub fn of(at: impl FnMut(SimdLevel) + 'static) -> Self {
        Self {
            at: Box::new(at),
            plain: None,
        }
    }

    /// The same with a plain loop beside it.
    #[must_use]
    pub fn beside(mut self, name: &'static str, plain: impl FnMut() + 'static) -> Self {
        self.plain = Some((name, Box::new(plain)));
        self
    }
}

/// A kernel at one size.
pub struct Case {
    /// Kernel and size.
    pub name: String,
    /// The work of one call.
    pub work: Work,
    /// Makes the data.
    pub make: Box<dyn Fn() -> Run>,
}

impl Case {
    fn new(name: impl Into<String>, work: Work, make: impl Fn() -> Run + 'static) -> Self {
        Self {
            name: name.into(),
            work,
            make: Box::new(make),
        }
    }
}

/// Every case, products first.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = products::cases();
    cases.extend(arrays::cases());
    cases.extend(rows::cases());
    cases.extend(recurrent::cases());
    cases
}

/// Aligned numbers between -3 and 3.
fn numbers(len: usize) -> Buffer<f32> {
    let values: Vec<f32> = (0..len)
        .map(|i| ((i * 7919 % 2003) as f32 / 1001.5 - 1.0) * 3.0)
        .collect();
    Buffer::from_slice(&values)
}

fn zeros(len: usize) -> Buffer<f32> {
    Buffer::zeroed(len)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_small_cases_run_at_every_level() {
        let cases = cases();
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let small = match case.work {
                Work::Flops(flops) => flops < 3e6,
                Work::Elements { count, .. } => count <= 4096,
            };
            if small {
                let mut run = (case.make)();
                SimdLevel::supported().for_each(|level| (run.at)(level));
                if let Some((_, plain)) = &mut run.plain {
                    plain();
                }
            }
        }
    }
}
