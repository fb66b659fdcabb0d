//! Attention as something that can be timed: flash, standard, and what a user of ndarray writes.
//!
//! In its simple form: inputs of one shape, and for each contestant a function that goes over them once. All of them compute
//! the same from the same numbers; [`agree`] checks it before the clock starts. The criterion suite
//! `flash_attention_benchmark` and the table that `attention` prints walk the same shapes.

mod half;
mod naive;
mod ours;
mod recorded;

use std::sync::Arc;

use nd_core::Buffer;

pub use half::flash_half;
pub use naive::naive_forward;
pub use ours::{Threading, flash, flash_masked, standard};
pub use recorded::{RECORDED, Recorded};

/// The dimensions of self-attention: `[B, H, N, d]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of the batch.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Queries and keys.
    pub tokens: usize,
    /// Channels of a head.
    pub dim: usize,
}

impl Size {
    /// `[B, H, N, d]`
    #[must_use]
    pub const fn new(batch: usize, heads: usize, tokens: usize, dim: usize) -> Self {
        Self {
            batch,
            heads,
            tokens,
            dim,
        }
    }

    /// Numbers in each of q, k, v.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.batch * self.heads * self.tokens * self.dim
    }

    /// The shape in words.
    #[must_use]
    pub fn name(&self) -> String {
        let Self {
            batch,
            heads,
            tokens,
            dim,
        } = self;
        format!("{batch} x {heads} x {tokens} x {dim}")
    }
}

/// The shapes of the comparison: short ones of forecasting models, then long ones.
pub const SIZES: [Size; 6] = [
    Size::new(32, 8, 64, 64),
    Size::new(32, 8, 96, 64),
    Size::new(8, 8, 336, 64),
    Size::new(4, 8, 1024, 64),
    Size::new(1, 8, 4096, 64),
    Size::new(1, 1, 16_384, 64),
];

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The output.
    Forward,
    /// The output, then the gradients of q, k and v.
    Both,
}

/// A shape, a mask and a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The dimensions.
    pub size: Size,
    /// Whether query `i` sees keys `0..=i` only.
    pub causal: bool,
    /// What is timed.
    pub pass: Pass,
}

impl Case {
    /// The case in words; unique.
    #[must_use]
    pub fn name(&self) -> String {
        let pass = match self.pass {
            Pass::Forward => "forward",
            Pass::Both => "forward and backward",
        };
        let mask = if self.causal { "causal " } else { "" };
        format!("{} {mask}{pass}", self.size.name())
    }

    /// Multiplications and additions of the matrix products: two products forward, five backward (one of them again), half of them
    /// under a causal mask. Exponentials are not counted.
    #[must_use]
    pub fn flops(&self) -> f64 {
        let scores = (self.size.batch * self.size.heads * self.size.tokens.pow(2)) as f64;
        let products = match self.pass {
            Pass::Forward => 2.0,
            Pass::Both => 7.0,
        };
        let share = if self.causal { 0.5 } else { 1.0 };
        2.0 * products * share * scores * self.size.dim as f64
    }
}

/// Every shape, pass and mask.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for size in SIZES {
        for pass in [Pass::Forward, Pass::Both] {
            for causal in [false, true] {
                cases.push(Case { size, causal, pass });
            }
        }
    }
    cases
}

/// q, k, v and the gradient of the output, head by head: `[B, H, N, d]`.
#[derive(Debug)]
pub struct Inputs {
    /// The dimensions.
    pub size: Size,
    /// Queries.
    pub q: Buffer<f32>,
    /// Keys.
    pub k: Buffer<f32>,
    /// Values.
    pub v: Buffer<f32>,
    /// The gradient of the output.
    pub dy: Buffer<f32>,
}

impl Inputs {
    /// Numbers between -1 and 1 without a pattern.
    #[must_use]
    pub fn new(size: Size) -> Arc<Self> {
        let noise = |seed: u32| {
            let values: Vec<f32> = (1..=size.numel() as u32)
                .map(|i| {
                    let bits = i.wrapping_mul(2_654_435_769).wrapping_add(seed * 40_503);
                    let bits = (bits ^ bits >> 15).wrapping_mul(2_246_822_519);
                    (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
                })
                .collect();
            Buffer::from_slice(&values)
        };
        Arc::new(Self {
            size,
            q: noise(1),
            k: noise(2),
            v: noise(3),
            dy: noise(4),
        })
    }

    /// The factor of the scores.
    #[must_use]
    pub fn scale(&self) -> f32 {
        1.0 / (self.size.dim as f32).sqrt()
    }
}

/// Does the work once and returns what it wrote: the output, or the gradient of the queries, `[B, H, N, d]`.
pub type Run = Box<dyn FnMut() -> Vec<f32> + Send>;

/// Does the work once.
pub type Work = Box<dyn FnMut() + Send>;

/// Someone who computes a case.
pub struct Contestant {
    /// Who.
    pub name: &'static str,
    /// Does the work once.
    pub run: Work,
    /// What the last run wrote, `[B, H, N, d]`: the output, or the gradient of the queries.
    pub result: Run,
}

/// The largest difference between the results of two contestants, relative to the largest number in them, that is not a mistake.
const TOLERANCE: f32 = 2e-5;

/// The same where the inputs were rounded to bf16.
const TOLERANCE_BF16: f32 = 2e-2;

/// Runs everyone once and compares what they wrote.
///
/// # Errors
/// Two results differ.
pub fn agree(contestants: &mut [Contestant]) -> Result<(), String> {
    let mut first: Option<(&'static str, Vec<f32>)> = None;
    for contestant in contestants {
        (contestant.run)();
        let found = (contestant.result)();
        let Some((name, first)) = &first else {
            first = Some((contestant.name, found));
            continue;
        };
        let tolerance = if contestant.name.contains("bf16") {
            TOLERANCE_BF16
        } else {
            TOLERANCE
        };
        let size = first.iter().fold(0.0f32, |size, x| size.max(x.abs()));
        for (i, (a, b)) in first.iter().zip(&found).enumerate() {
            let difference = (a - b).abs();
            if difference.is_nan() || difference > tolerance * size {
                return Err(format!(
                    "element {i} is {a} of {name} but {b} of {}",
                    contestant.name
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_computes_the_same() {
        let size = Size::new(2, 2, 70, 16);
        let inputs = Inputs::new(size);
        for pass in [Pass::Forward, Pass::Both] {
            for causal in [false, true] {
                let case = Case { size, causal, pass };
                let mut contestants = vec![
                    flash(case, &inputs, Threading::One),
                    standard(case, &inputs, Threading::One),
                    flash(case, &inputs, Threading::Two),
                ];
                contestants.push(flash_half(case, &inputs, Threading::Two));
                if pass == Pass::Forward {
                    contestants.push(naive_forward(causal, &inputs));
                }
                agree(&mut contestants).expect("equal results");
            }
        }
    }

    #[test]
    fn a_wrong_result_is_found() {
        let size = Size::new(1, 1, 40, 8);
        let inputs = Inputs::new(size);
        let of = |causal| Case {
            size,
            causal,
            pass: Pass::Forward,
        };
        let mut contestants = [
            flash(of(false), &inputs, Threading::One),
            standard(of(true), &inputs, Threading::One),
        ];
        assert!(agree(&mut contestants).is_err());
    }
}
