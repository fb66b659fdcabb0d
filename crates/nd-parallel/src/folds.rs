//! How data are cut into parts to train and parts to test on.
//!
//! Time-ordered folds move a forecast's origin through the data: each trains on what lies before its test samples and on nothing
//! after them. Counted from the end of the `n` samples, fold `i` of `k` tests
//!
//! ```text
//! [n - h - (k - 1 - i) s, n - (k - 1 - i) s)      h samples in a test, s from one test to the next
//! ```
//!
//! and trains on all samples before that, less a gap (expanding), or on the last `w` of them (sliding). Shuffled folds deal
//! independent samples out at random, each to the test of exactly one fold.

use std::ops::Range;

use nd_core::rng::{Key, Stream};
use nd_core::{Rows, Samples};

use crate::error::ParallelError;
use crate::lanes::guarded;

/// Which samples train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoldStyle {
    /// All samples before the test: the origin rolls, the training part grows.
    Expanding,
    /// So many samples before the test: the origin rolls, the training part rolls with it.
    Sliding {
        /// Samples to train on.
        window: usize,
    },
    /// All samples that are not tested, in random order; for independent samples only.
    Shuffled {
        /// Which random order.
        seed: u64,
    },
}

/// A way to cut data into folds; a number `k` is `Folds::expanding(k)`.
///
/// ```
/// use nd_parallel::Folds;
/// let data: Vec<f32> = vec![0.0; 100];
/// let folds = Folds::expanding(3).test_samples(10).of(&data)?;
/// assert_eq!((folds[0].train.len(), folds[2].train.len()), (70, 90));
/// assert_eq!(folds[2].test.iter().last(), Some(99));
/// # Ok::<(), nd_parallel::ParallelError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    style: FoldStyle,
    count: usize,
    test: Option<usize>,
    step: Option<usize>,
    gap: usize,
}

/// One fold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The samples to train on.
    pub train: Rows,
    /// The samples to test on.
    pub test: Rows,
}

impl Fold {
    /// The samples that a test sees, and which of them are tested.
    pub(crate) fn evaluation(&self) -> (Rows, Range<usize>) {
        match (&self.train, &self.test) {
            (Rows::Range(train), Rows::Range(test)) => (
                Rows::Range(train.start..test.end),
                test.start - train.start..test.end - train.start,
            ),
            (_, test) => (test.clone(), 0..test.len()),
        }
    }
}

impl From<usize> for Folds {
    fn from(count: usize) -> Self {
        Self::expanding(count)
    }
}

impl Folds {
    fn new(style: FoldStyle, count: usize) -> Self {
        Self {
            style,
            count,
            test: None,
            step: None,
            gap: 0,
        }
    }

    /// Folds in time order that each train on everything before their test.
    #[must_use]
    pub fn expanding(count: usize) -> Self {
        Self::new(FoldStyle::Expanding, count)
    }

    /// Folds in time order that each train on the last `window` samples before their test.
    #[must_use]
    pub fn sliding(count: usize, window: usize) -> Self {
        Self::new(FoldStyle::Sliding { window }, count)
    }

    /// Folds of independent samples, dealt out at random.
    #[must_use]
    pub fn shuffled(count: usize, seed: u64) -> Self {
        Self::new(FoldStyle::Shuffled { seed }, count)
    }

    /// Samples in each test of time-ordered folds; without this the `(k + 1)`-th part of all.
    #[must_use]
    pub fn test_samples(mut self, samples: usize) -> Self {
        self.test = Some(samples);
        self
    }

    /// Samples from one test to the next in time-ordered folds; without this a whole test, so that no sample is tested twice.
    #[must_use]
    pub fn step(mut self, samples: usize) -> Self {
        self.step = Some(samples);
        self
    }

    /// Samples between training and test that neither sees, in time-ordered folds.
    #[must_use]
    pub fn gap(mut self, samples: usize) -> Self {
        self.gap = samples;
        self
    }

    /// Which samples train.
    #[must_use]
    pub fn style(&self) -> FoldStyle {
        self.style
    }

    /// The number of folds.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The folds of some data, the earliest test first.
    ///
    /// # Errors
    /// No folds, an empty part, more than the data have, shuffled folds of data in time order, or data whose parts differ in length.
    pub fn of<D: Samples>(&self, data: &D) -> Result<Vec<Fold>, ParallelError> {
        if matches!(self.style, FoldStyle::Shuffled { .. }) && !data.is_independent() {
            return Err(ParallelError::NotIndependent);
        }
        let samples = guarded(|| data.samples());
        self.over(samples.map_err(|message| ParallelError::Samples { message })?)
    }

    /// The folds of so many samples, the earliest test first.
    ///
    /// # Errors
    /// No folds, an empty part, or more than there are samples.
    pub fn over(&self, samples: usize) -> Result<Vec<Fold>, ParallelError> {
        let empty = |what| Err(ParallelError::EmptyPart { what });
        if self.count == 0 {
            return Err(ParallelError::ZeroFolds);
        }
        if self.test == Some(0) {
            return empty("the test part");
        }
        if self.step == Some(0) {
            return empty("the step");
        }
        match self.style {
            FoldStyle::Shuffled { seed } => self.shuffle(samples, seed),
            FoldStyle::Sliding { window: 0 } => empty("the training window"),
            FoldStyle::Sliding { window } => self.roll(samples, Some(window)),
            FoldStyle::Expanding => self.roll(samples, None),
        }
    }

    fn roll(&self, samples: usize, window: Option<usize>) -> Result<Vec<Fold>, ParallelError> {
        let test = self
            .test
            .unwrap_or(samples / (self.count.saturating_add(1)));
        let step = self.step.unwrap_or(test);
        let least = window.unwrap_or(1);
        // The tests of all folds but the first begin a step after the one before.
        let taken = (self.count - 1)
            .saturating_mul(step)
            .saturating_add(test)
            .saturating_add(self.gap)
            .saturating_add(least);
        if test == 0 || taken > samples {
            let needed = self.needed(samples, self.gap.saturating_add(least));
            let gap = self.gap;
            let test = self
                .test
                .unwrap_or((needed / self.count.saturating_add(1)).max(1));
            let step = self.step.unwrap_or(test);
            return Err(ParallelError::TooFewSamples {
                folds: self.count,
                needed,
                explanation: format!(
                    "{least} to train on, a gap of {gap}, tests of {test} that begin {step} apart"
                ),
                samples,
            });
        }
        let fold = |i| {
            let begin = samples - test - (self.count - 1 - i) * step;
            let end = begin - self.gap;
            Fold {
                train: Rows::Range(window.map_or(0, |window| end - window)..end),
                test: Rows::Range(begin..begin + test),
            }
        };
        Ok((0..self.count).map(fold).collect())
    }

    /// The least number above `samples`, which are too few, that has room for time-ordered folds with so many samples before the first
    /// test.
    fn needed(&self, samples: usize, before: usize) -> usize {
        let (k, part) = (self.count, self.count.saturating_add(1));
        // Of n = q (k + 1) + r samples, a test has q.
        let number = |q: usize, r: usize| q.saturating_mul(part).saturating_add(r);
        match (self.test, self.step) {
            (Some(test), step) => (k - 1)
                .saturating_mul(step.unwrap_or(test))
                .saturating_add(test)
                .saturating_add(before),
            (None, Some(step)) => {
                // All but the last test are q k + r, which never falls; the smallest that is enough has r from 1 to k.
                let rest = (k - 1).saturating_mul(step).saturating_add(before);
                let q = (rest - 1) / k;
                number(q, rest - q * k).max(part)
            }
            (None, None) => {
                // All but the tests are q + r. They fall where tests grow, so a larger number may be too small again.
                let q = samples / part;
                let r = (samples % part + 1).max(before.saturating_sub(q));
                if q > 0 && r <= k {
                    return number(q, r);
                }
                let q = (q + 1).max(before.saturating_sub(k));
                number(q, before.saturating_sub(q))
            }
        }
    }

    fn shuffle(&self, samples: usize, seed: u64) -> Result<Vec<Fold>, ParallelError> {
        if self.count == 1 {
            return Err(ParallelError::OneShuffledFold);
        }
        for (given, what) in [
            (self.test, "a number of test samples"),
            (self.step, "a step"),
            (Some(self.gap).filter(|&gap| gap > 0), "a gap"),
        ] {
            if let Some(found) = given {
                return Err(ParallelError::OutOfRange {
                    what,
                    found: found as f64,
                    expected: "shuffled folds have none: leave it out, or take folds in time order",
                });
            }
        }
        if self.count > samples {
            return Err(ParallelError::TooFewSamples {
                folds: self.count,
                needed: self.count,
                explanation: "1 to test on in each".to_owned(),
                samples,
            });
        }
        let mut order: Vec<usize> = (0..samples).collect();
        let mut stream = Stream::new(Key::new(seed));
        for i in (1..samples).rev() {
            order.swap(i, stream.below(i as u64 + 1) as usize);
        }
        let border = |i: usize| i * samples / self.count;
        let fold = |i| {
            let (begin, end) = (border(i), border(i + 1));
            let train = order[..begin].iter().chain(&order[end..]);
            Fold {
                train: Rows::Picked(train.copied().collect()),
                test: Rows::Picked(order[begin..end].to_vec()),
            }
        };
        Ok((0..self.count).map(fold).collect())
    }
}
