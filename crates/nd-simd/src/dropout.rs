//! Dropout (Srivastava et al. 2014): each element is zeroed with probability `p`, the others are scaled by `1 / (1 - p)`.
//!
//! Every element has 16 random bits and is dropped when they are below `p 2^16` (rounded, and the scale is that of the rounded
//! `p`). The bits come from [`nd_core::rng`], by window and element, so the backward pass computes the same mask again
//! instead of keeping it, and the mask does not depend on shards or threads. The forward and the backward pass are one
//! function: multiply by the mask. One 32-bit word serves two elements, 512 apart.
//!
//! NaN times the mask is NaN also where it is dropped.
//!
//! Known weakness: most of the time goes into the random words (about 200 instructions for four vectors of them).

use nd_core::autograd::Accumulate;
use nd_core::rng::{self, Key};

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{LaneMask, Lanes, SimdReal};

/// Random words that are generated at once, on the stack; they serve twice as many elements.
const WORDS: usize = 512;

/// The probability that is used for `p`, in units of `2^-16`.
fn rounded_probability(p: f64) -> u32 {
    (p * 65_536.0).round().min(65_535.0) as u32
}

/// Below this word an element is dropped.
fn threshold(p: f64) -> u32 {
    (p * 4_294_967_296.0).round().min(f64::from(u32::MAX)) as u32
}

struct ApplyMask<'a, R> {
    /// Applied to a word before it is compared.
    shift: u32,
    threshold: u32,
    scale: R,
    words: &'a [u32],
    x: &'a [R],
    y: &'a mut [R],
    acc: Accumulate,
}

impl<R: SimdReal> Kernel for ApplyMask<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        match self.acc {
            Accumulate::Write => self.apply::<false, S>(simd),
            Accumulate::Add => self.apply::<true, S>(simd),
        }
    }
}

impl<R: SimdReal> ApplyMask<'_, R> {
    #[inline(always)]
    fn apply<const ADD: bool, S: Isa>(self, simd: S) {
        let lanes = Lanes::<S, R>::LEN;
        let scale = Lanes::<S, R>::splat(simd, self.scale);
        let (x_full, x_rest) = R::split::<S>(self.x);
        let (y_full, y_rest) = R::split_mut::<S>(self.y);
        let (words, words_rest) = self.words.split_at(x_full.len() * lanes);
        for ((&x, y), words) in x_full.iter().zip(y_full).zip(words.chunks_exact(lanes)) {
            let mask = LaneMask::from_raw(
                simd,
                R::words_at_least(simd, words, self.shift, self.threshold),
            );
            let value = Lanes::<S, R>::from_raw(simd, x) * mask.or_zero(scale);
            *y = if ADD {
                Lanes::from_raw(simd, *y) + value
            } else {
                value
            }
            .raw();
        }
        if !x_rest.is_empty() {
            let mask = LaneMask::from_raw(
                simd,
                R::words_at_least(simd, words_rest, self.shift, self.threshold),
            );
            let value = Lanes::<S, R>::load_partial(simd, x_rest) * mask.or_zero(scale);
            let value = if ADD {
                Lanes::load_partial(simd, y_rest) + value
            } else {
                value
            };
            value.store_partial(y_rest);
        }
    }
}

instantiate! {
    /// `y (+)= x mask / (1 - p)` with the mask of given random words: an element is dropped when its word is below
    /// `p 2^32`.
    ///
    /// # Panics
    /// The lengths differ, `p` is not in `[0, 1)`, or the machine lacks the level.
    pub fn dropout_with_words<R>(
        level: SimdLevel,
        p: f64,
        words: &[u32],
        x: &[R],
        y: &mut [R],
        acc: Accumulate,
    )
    {
        check_probability(p);
        same_length("x", x.len(), "y", y.len());
        same_length("x", x.len(), "words", words.len());
    }
    then {
        let scale = R::from_f64(1.0 / (1.0 - p));
        dispatch(level, ApplyMask { shift: 0, threshold: threshold(p), scale, words, x, y, acc });
    }
}

/// `y (+)= x mask / (1 - p)` where row `r` of `cols` elements belongs to window `first_window + r`; forward and backward alike.
///
/// # Panics
/// The lengths do not fit, `p` is not in `[0, 1)`, or the machine lacks the level.
#[track_caller]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel names its arguments one by one"
)]
pub fn dropout<R: SimdReal>(
    level: SimdLevel,
    key: Key,
    p: f64,
    first_window: u64,
    cols: usize,
    x: &[R],
    y: &mut [R],
    acc: Accumulate,
) {
    check_probability(p);
    same_length("x", x.len(), "y", y.len());
    crate::elementwise::whole_rows("x", x.len(), "a row", cols);
    if cols == 0 {
        return;
    }
    masked_rows(
        level,
        key,
        rounded_probability(p),
        first_window,
        cols,
        x,
        y,
        acc,
    );
}

/// Elements of a row that share no random word with those after them.
pub(crate) const GRAIN: usize = 2 * WORDS;

/// Part of one row of [`dropout`], from the element `first` on, a multiple of [`GRAIN`].
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel names its arguments one by one"
)]
pub(crate) fn dropout_part<R: SimdReal>(
    level: SimdLevel,
    key: Key,
    p: f64,
    window: u64,
    first: usize,
    x: &[R],
    y: &mut [R],
    acc: Accumulate,
) {
    debug_assert!(first.is_multiple_of(GRAIN) && x.len() == y.len());
    masked_part(level, key, rounded_probability(p), window, first, x, y, acc);
}

instantiate! {
    /// [`dropout`] after its checks, with the probability in units of `2^-16`.
    fn masked_rows<R>(
        level: SimdLevel,
        key: Key,
        probability: u32,
        first_window: u64,
        cols: usize,
        x: &[R],
        y: &mut [R],
        acc: Accumulate,
    )
    {}
    then {
        let rows = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
        for (window, (x, y)) in (first_window..).zip(rows) {
            masked_part(level, key, probability, window, 0, x, y, acc);
        }
    }
}

instantiate! {
    /// [`dropout_part`] with the probability in units of `2^-16`.
    fn masked_part<R>(
        level: SimdLevel,
        key: Key,
        probability: u32,
        window: u64,
        first: usize,
        x: &[R],
        y: &mut [R],
        acc: Accumulate,
    )
    {}
    then {
        let scale = R::from_f64(1.0 / (1.0 - f64::from(probability) / 65_536.0));
        let threshold = probability << 16;
        let mut words = [0; WORDS];
        let chunks = x.chunks(GRAIN).zip(y.chunks_mut(GRAIN));
        for (first, (x, y)) in (first / 2..).step_by(WORDS).zip(chunks) {
            let words = &mut words[..x.len().min(WORDS)];
            rng::fill(level, key, window, first, words);
            // The upper halves of the words for the first elements, the lower halves for the others.
            for (shift, (x, y)) in (0..).step_by(16).zip(x.chunks(WORDS).zip(y.chunks_mut(WORDS))) {
                let words = &words[..x.len()];
                dispatch(level, ApplyMask { shift, threshold, scale, words, x, y, acc });
            }
        }
    }
}

#[track_caller]
fn check_probability(p: f64) {
    assert!(
        (0.0..1.0).contains(&p),
        "dropout with probability {p}: expected 0 <= p < 1"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LENGTHS, Noise, poisoned};

    fn follows_its_words<R: SimdReal>() {
        let mut noise = Noise::new(13);
        for level in nd_testing::levels() {
            for &len in LENGTHS {
                for p in [0.0, 0.2, 0.5, 0.9] {
                    let words: Vec<u32> = (0..len).map(|_| noise.bits() as u32).collect();
                    let x: Vec<R> = noise.vec(len, 1.0);
                    let mut y = poisoned(len);
                    dropout_with_words(level, p, &words, &x, &mut y, Accumulate::Write);
                    let mut added = vec![R::ONE; len];
                    dropout_with_words(level, p, &words, &x, &mut added, Accumulate::Add);
                    for i in 0..len {
                        let keep = f64::from(words[i]) >= (p * 2f64.powi(32)).round();
                        let scale = R::from_f64(1.0 / (1.0 - p));
                        let expected = if keep { x[i] * scale } else { R::ZERO };
                        assert_eq!(y[i], expected, "{level} p {p} element {i} of {len}");
                        assert_eq!(added[i], R::ONE + expected);
                    }
                }
            }
        }
    }

    #[test]
    fn masks_follow_their_words() {
        follows_its_words::<f32>();
        follows_its_words::<f64>();
    }

    #[test]
    fn masks_depend_on_window_and_element_alone() {
        let key = Key {
            seed: 5,
            step: 2,
            op: 1,
        };
        let (rows, cols) = (6, 1500);
        let x = vec![1.0f32; rows * cols];
        let mut whole = poisoned(rows * cols);
        dropout(
            SimdLevel::Scalar,
            key,
            0.3,
            10,
            cols,
            &x,
            &mut whole,
            Accumulate::Write,
        );
        let kept = whole.iter().filter(|&&y| y != 0.0).count() as f64 / whole.len() as f64;
        assert!((kept - 0.7).abs() < 0.02, "{kept}");
        for level in nd_testing::levels() {
            let mut part = poisoned(2 * cols);
            let x = &x[..2 * cols];
            dropout(level, key, 0.3, 13, cols, x, &mut part, Accumulate::Write);
            assert!(part == whole[3 * cols..5 * cols], "{level}");
        }
    }

    #[test]
    fn a_word_serves_two_elements() {
        let (key, cols, p) = (Key::new(9), 1800, 0.25);
        let mut words = vec![0; 1024];
        rng::fill(SimdLevel::Scalar, key, 4, 0, &mut words);
        for level in nd_testing::levels() {
            let mut y = poisoned::<f64>(cols);
            dropout(
                level,
                key,
                p,
                4,
                cols,
                &vec![3.0; cols],
                &mut y,
                Accumulate::Write,
            );
            for (i, &y) in y.iter().enumerate() {
                let word = words[i / 1024 * 512 + i % 512];
                let bits = if i % 1024 < 512 {
                    word >> 16
                } else {
                    word & 0xffff
                };
                assert_eq!(
                    y,
                    if bits < 1 << 14 { 0.0 } else { 4.0 },
                    "{level} element {i}"
                );
            }
        }
    }

    #[test]
    fn nan_survives_being_dropped() {
        for level in nd_testing::levels() {
            let mut y = [0.0f32; 2];
            let x = [f32::NAN; 2];
            dropout_with_words(level, 0.5, &[0, u32::MAX], &x, &mut y, Accumulate::Write);
            assert!(y[0].is_nan() && y[1].is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "probability 1")]
    fn probability_one_is_refused() {
        dropout_with_words(
            SimdLevel::Scalar,
            1.0,
            &[],
            &[0.0f32; 0],
            &mut [],
            Accumulate::Write,
        );
    }
}
