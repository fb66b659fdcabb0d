//! Working memory of a task: one buffer from the caller's pool, cut into pieces.

use nd_core::Real;

/// Elements that a piece is rounded up to: a cache line of f32.
const GRAIN: usize = 16;

/// How many elements pieces of these lengths take together.
pub(super) fn total(lengths: &[usize]) -> usize {
    lengths.iter().map(|len| len.next_multiple_of(GRAIN)).sum()
}

/// The pieces of a buffer of [`total`] elements.
pub(super) fn pieces<R: Real, const N: usize>(
    mut buffer: &mut [R],
    lengths: [usize; N],
) -> [&mut [R]; N] {
    lengths.map(|len| {
        let (piece, rest) = std::mem::take(&mut buffer).split_at_mut(len.next_multiple_of(GRAIN));
        buffer = rest;
        &mut piece[..len]
    })
}
