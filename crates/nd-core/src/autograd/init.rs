//! Initial values of parameters.
//!
//! A parameter draws from a stream of its own, keyed by the seed and its place in the layout. The place of every number in its stream is
//! known, so pieces of a large parameter are drawn by several threads, and the values are those that one would draw.

use std::sync::Arc;

use crate::element::Real;
use crate::rng::{Key, Stream, StreamPosition};
use crate::threads;

/// The step number under which initial values are drawn, apart from every training step.
const INIT_STEP: u32 = u32::MAX;

/// Where initial values come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Every value the same.
    Constant(f64),
    /// Uniform in `[-bound, bound)`.
    Uniform(f64),
    /// Normal with mean zero and this standard deviation.
    Normal(f64),
    /// Given, row-major.
    Values(Arc<[f64]>),
}

impl Init {
    /// Writes the values of the parameter with this number in the layout, row-major.
    pub(super) fn fill<R: Real>(&self, seed: u64, parameter: u32, slots: &mut [R]) {
        let key = Key {
            seed,
            step: INIT_STEP,
            op: parameter,
        };
        match self {
            Self::Constant(value) => slots.fill(R::from_f64(*value)),
            Self::Uniform(bound) => draw(key, slots, Stream::UNIFORM_WORDS, |stream| {
                (2.0 * stream.uniform::<f64>() - 1.0) * bound
            }),
            Self::Normal(deviation) => draw(key, slots, Stream::NORMAL_WORDS, |stream| {
                stream.normal() * deviation
            }),
            Self::Values(values) => {
                for (slot, &value) in slots.iter_mut().zip(values.iter()) {
                    *slot = R::from_f64(value);
                }
            }
        }
    }
}

/// Numbers that one task draws.
const DRAWN: usize = 1 << 14;

/// Fills `slots` with the numbers of a stream, each of which takes so many words, piece by piece on the threads of the current pool.
fn draw<R: Real>(
    key: Key,
    slots: &mut [R],
    words: usize,
    number: impl Fn(&mut Stream) -> f64 + Sync,
) {
    threads::for_each_chunk(threads::parallel(), slots, DRAWN, |piece, slots| {
        let drawn = (piece * DRAWN * words) as u64;
        let mut stream = Stream::resume(StreamPosition { key, drawn });
        for slot in slots {
            *slot = R::from_f64(number(&mut stream));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Threads;

    /// The numbers of the stream one after the other, whatever the pieces and threads.
    #[test]
    fn values_are_those_of_one_stream() {
        const LEN: usize = 2 * DRAWN + 77;
        let stream = || {
            Stream::new(Key {
                seed: 3,
                step: INIT_STEP,
                op: 5,
            })
        };
        for threads in [1, 3] {
            let threads = Threads::new(Some(threads)).unwrap();
            let filled = |init: Init| {
                let mut values = vec![0f32; LEN];
                threads.install(|| init.fill(3, 5, &mut values));
                values
            };
            let mut expected = stream();
            for x in filled(Init::Uniform(0.5)) {
                assert_eq!(x, ((2.0 * expected.uniform::<f64>() - 1.0) * 0.5) as f32);
            }
            let mut expected = stream();
            for x in filled(Init::Normal(2.0)) {
                assert_eq!(x, (expected.normal() * 2.0) as f32);
            }
        }
    }
}
