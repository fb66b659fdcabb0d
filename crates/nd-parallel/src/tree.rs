//! In which order the gradients of shards are added.
//!
//! The simple version would be a balanced tree. But a thread that runs all shards alone holds a buffer of gradients for every level of it, and
//! gradients are f32 in every format: they are what a run in sixteen bits does not halve. So up to four shards are added one after the other,
//!
//! ```text
//! ((0 + 1) + 2) + 3
//! ```
//!
//! in one buffer beside that of the shard that runs, and only these sums in a balanced tree. The order depends on the number of shards alone, so the
//! bits do not depend on threads.
//! Known weakness: with as many threads as shards, three additions in a row instead of two.

/// Shards that are added one after the other.
const CHAIN: usize = 4;

/// How many of some shards are in the left part of their sum; there are two at least.
pub(crate) fn left(shards: usize) -> usize {
    if shards <= CHAIN {
        shards - 1
    } else {
        // Whole chains, and nearly half of all.
        (shards / 2 / CHAIN * CHAIN).max(CHAIN)
    }
}

/// Buffers of gradients that one thread holds at once, at most.
fn alone(shards: usize) -> usize {
    if shards < 2 {
        return 1;
    }
    let left = left(shards);
    alone(left).max(1 + alone(shards - left))
}

/// Buffers of gradients that `threads` threads hold at once, at most.
///
/// A thread that waits for the other part of a sum takes up other shards meanwhile, so several threads may come to hold one for every shard.
/// Buffers that the schedule never takes stay untouched, and untouched memory is not resident.
pub(crate) fn buffers(shards: usize, threads: usize) -> usize {
    if threads < 2 {
        alone(shards)
    } else {
        shards.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the tree on one thread and counts buffers: those in use and the most there were.
    fn run(shards: usize, used: &mut usize, most: &mut usize) {
        if shards == 1 {
            *used += 1;
            *most = (*most).max(*used);
            return;
        }
        run(left(shards), used, most);
        run(shards - left(shards), used, most);
        *used -= 1;
    }

    #[test]
    fn one_thread_needs_what_it_is_given() {
        for shards in 1..=70 {
            let (mut used, mut most) = (0, 0);
            run(shards, &mut used, &mut most);
            assert_eq!(used, 1, "{shards} shards end in one sum");
            assert_eq!(most, buffers(shards, 1), "{shards} shards");
        }
        assert_eq!([1, 2, 4, 8, 16].map(|n| buffers(n, 1)), [1, 2, 2, 3, 4]);
    }

    #[test]
    fn both_parts_have_shards() {
        for shards in 2..=1000 {
            assert!((1..shards).contains(&left(shards)), "{shards}");
        }
    }
}
