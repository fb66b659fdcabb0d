//! A row of the comparison: one piece of work, and everyone who does it.

use nd_bench::limits;
use nd_bench::turns::{Effort, Turns};
use nd_core::{Buffer, SimdLevel};
use serde::Serialize;

/// What our contestants' names begin with.
pub(crate) const OURS: &str = "nd-simd";

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Floating-point operations of one call; the limit is `rate` times the peak of f32 multiply-adds.
    Flops { flops: f64, rate: f64 },
    /// Elements of one call and the bytes it must read and write; the limit is a copy of `copied` elements.
    Elements {
        elements: usize,
        bytes: usize,
        copied: usize,
    },
}

/// Does the work once and writes the result to the slice.
type Call = Box<dyn FnMut(&mut [f32])>;

/// Someone who does the work.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) call: Call,
    /// Brings the result of a call that has a place of its own to the slice, to be compared.
    pub(crate) show: Option<Call>,
}

/// A contestant from a function.
pub(crate) fn by(name: &'static str, call: impl FnMut(&mut [f32]) + 'static) -> Contestant {
    Contestant {
        name,
        call: Box::new(call),
        show: None,
    }
}

/// One piece of work.
pub(crate) struct Row {
    /// What kind of work, for grouping.
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) work: Work,
    /// Elements of the result.
    pub(crate) out: usize,
    /// The largest difference between two results, relative to the largest number in them.
    pub(crate) tolerance: f32,
    pub(crate) threads: usize,
    /// Ours first.
    pub(crate) contestants: Vec<Contestant>,
}

/// A row, not yet filled with data: big inputs are made when their row is run.
pub(crate) struct Plan {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) threads: usize,
    pub(crate) make: Box<dyn Fn() -> Row + Send + Sync>,
}

/// The result of a row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) group: &'static str,
    pub(crate) row: String,
    pub(crate) threads: usize,
    /// `GFLOP/s` or `GB/s`.
    pub(crate) unit: &'static str,
    /// What everyone reached, ours first.
    pub(crate) speeds: Vec<Speed>,
    /// The peak of multiply-adds, or the speed of a copy of the same size.
    pub(crate) limit: f64,
    /// Against the fastest peer; none where there is no peer.
    pub(crate) against: Option<Against>,
    /// Nanoseconds per element of ours, where elements are counted.
    pub(crate) ns_per_element: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Speed {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Against {
    pub(crate) peer: &'static str,
    /// Ours over theirs, median over rounds with its interval.
    pub(crate) ratio: nd_bench::statistics::Interval,
}

impl Row {
    /// Checks that all results agree, then times everyone and the limit in turns.
    ///
    /// # Errors
    /// Two results differ by more than the tolerance.
    pub(crate) fn run(mut self, level: SimdLevel, effort: Effort) -> Result<Outcome, String> {
        let mut out = Buffer::<f32>::zeroed(self.out);
        self.check(&mut out)?;
        let count = self.contestants.len();
        let mut limit = Limit::new(self.work, level, self.threads);
        let turns = Turns::take(count + 1, effort, |i| match self.contestants.get_mut(i) {
            Some(contestant) => (contestant.call)(&mut out),
            None => limit.call(),
        });
        let (amount, unit) = match self.work {
            Work::Flops { flops, .. } => (flops, "GFLOP/s"),
            Work::Elements { bytes, .. } => (bytes as f64, "GB/s"),
        };
        let speeds: Vec<Speed> = (0..count)
            .map(|i| Speed {
                name: self.contestants[i].name,
                value: amount / turns.median(i) * 1e-9,
            })
            .collect();
        let peers = (1..count).filter(|&i| !speeds[i].name.starts_with(OURS));
        let best = peers.max_by(|&a, &b| speeds[a].value.total_cmp(&speeds[b].value));
        Ok(Outcome {
            group: self.group,
            row: self.name,
            threads: self.threads,
            unit,
            limit: limit.amount / turns.median(count) * 1e-9,
            against: best.map(|i| Against {
                peer: speeds[i].name,
                ratio: turns.speed_ratio(0, i),
            }),
            ns_per_element: match self.work {
                Work::Flops { .. } => None,
                Work::Elements { elements, .. } => Some(turns.median(0) / elements as f64 * 1e9),
            },
            speeds,
        })
    }

    fn check(&mut self, out: &mut [f32]) -> Result<(), String> {
        let mut first: Option<Vec<f32>> = None;
        for contestant in &mut self.contestants {
            out.fill(f32::NAN);
            (contestant.call)(out);
            if let Some(show) = &mut contestant.show {
                show(out);
            }
            let Some(first) = &first else {
                first = Some(out.to_vec());
                continue;
            };
            let size = first.iter().fold(0.0f32, |size, x| size.max(x.abs()));
            for (i, (a, b)) in first.iter().zip(&*out).enumerate() {
                let difference = (a - b).abs();
                if difference.is_nan() || difference > self.tolerance * size {
                    return Err(format!(
                        "{}: element {i} is {a} of ours but {b} of {}",
                        self.name, contestant.name
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The limit that a row is held against.
struct Limit {
    level: SimdLevel,
    threads: usize,
    copied: Option<(Buffer<f32>, Buffer<f32>)>,
    rate: f64,
    /// Operations or bytes of one call.
    amount: f64,
}

impl Limit {
    fn new(work: Work, level: SimdLevel, threads: usize) -> Self {
        let copied = match work {
            Work::Flops { .. } => None,
            Work::Elements { copied, .. } => {
                let from: Vec<f32> = (0..copied).map(|i| i as f32).collect();
                Some((Buffer::from_slice(&from), Buffer::zeroed(copied)))
            }
        };
        let rate = match work {
            Work::Flops { rate, .. } => rate,
            Work::Elements { .. } => 1.0,
        };
        let mut limit = Self {
            rate,
            level,
            threads,
            copied,
            amount: 0.0,
        };
        limit.call();
        limit
    }

    fn call(&mut self) {
        self.amount = match &mut self.copied {
            Some((from, to)) => limits::copy(from, to),
            None if self.threads == 1 => self.rate * limits::multiply_adds(self.level),
            None => {
                let level = self.level;
                // Long enough for every thread to wake up.
                let many = || (0..64).map(|_| limits::multiply_adds(level)).sum::<f64>();
                let all = rayon::broadcast(|_| many());
                self.rate * all.iter().sum::<f64>()
            }
        };
    }
}

/// Numbers between -1 and 1 without a pattern that a cache or a branch could learn (Weyl's sequence).
pub(crate) fn noise(len: usize, seed: u32) -> Buffer<f32> {
    let values: Vec<f32> = (1..=len)
        .map(|i| {
            let bits = (i as u32)
                .wrapping_mul(2_654_435_769)
                .wrapping_add(seed.wrapping_mul(40_503));
            let bits = (bits ^ bits >> 15).wrapping_mul(2_246_822_519);
            (bits >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Buffer::from_slice(&values)
}
