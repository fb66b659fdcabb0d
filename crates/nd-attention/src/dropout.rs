//! Dropout of probabilities, computed from its place and never stored.

use nd_core::rng::{self, Key};
use nd_core::{Real, SimdLevel};

/// Elements whose random words are drawn at once.
const WORDS: usize = 256;

/// Dropout of probabilities: element `(h N_q + i) N_k + j` of row `first_row + b` is dropped or scaled up by
/// `1 / (1 - rate)`, the same in forward and backward pass, on any thread, in any shard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The probability of being dropped, in `[0, 1)`.
    pub rate: f64,
    /// What the random numbers are for.
    pub key: Key,
    /// The place of row 0 within the whole batch.
    pub first_row: usize,
}

impl Dropout {
    /// # Panics
    /// The rate is not in `[0, 1)`.
    #[track_caller]
    pub(crate) fn check(&self) {
        assert!(
            (0.0..1.0).contains(&self.rate),
            "the dropout rate of attention is {}, expected one in [0, 1): with 1 nothing would be left to scale up",
            self.rate
        );
    }

    /// Writes the factors, zero or `1 / (1 - rate)`, of the elements `first ..` of row `b` to every `step`-th place of
    /// `out`, until `count` are written.
    pub(crate) fn factors<R: Real>(
        &self,
        level: SimdLevel,
        b: usize,
        first: usize,
        count: usize,
        out: &mut [R],
        step: usize,
    ) {
        // A word is below the threshold with the probability `rate`, to within 2^-32.
        let threshold = (self.rate * 2f64.powi(32)) as u64;
        let kept = R::from_f64(1.0 / (1.0 - self.rate));
        let mut words = [0u32; WORDS];
        let mut done = 0;
        while done < count {
            let now = (count - done).min(WORDS);
            let words = &mut words[..now];
            let row = (self.first_row + b) as u64;
            rng::fill(level, self.key, row, first + done, words);
            for (at, &word) in words.iter().enumerate() {
                let keep = u64::from(word) >= threshold;
                out[(done + at) * step] = if keep { kept } else { R::ZERO };
            }
            done += now;
        }
    }
}
