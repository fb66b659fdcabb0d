//! Work dealt to threads in pieces that are worth it.

use std::ops::Range;

/// Multiply-adds that make a piece of work: some ten microseconds, of which handing it to another thread takes little.
const PIECE: usize = 1 << 20;

/// Pieces that there should be at least, so that no thread waits long for the last one.
const PIECES: usize = 64;

/// How many tasks of so many multiply-adds each make a piece.
pub(super) fn grain(tasks: usize, each: usize) -> usize {
    (PIECE / each.max(1)).min(tasks / PIECES).max(1)
}

/// Calls `work` with pieces of the tasks, at most `grain` each if they run in parallel; without allocation.
pub(super) fn for_each(
    parallel: bool,
    tasks: Range<usize>,
    grain: usize,
    work: &(impl Fn(Range<usize>) + Sync),
) {
    let Range { start, end } = tasks;
    if parallel && end - start > grain.max(1) {
        let middle = start + (end - start) / 2;
        rayon::join(
            || for_each(true, start..middle, grain, work),
            || for_each(true, middle..end, grain, work),
        );
    } else if end > start {
        work(start..end);
    }
}
