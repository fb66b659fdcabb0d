//! Reductions whose shape depends on the number of elements alone.
//!
//! The simple version: cut the elements into blocks of a fixed size, reduce each, and merge neighbours in a binary tree.
//! The tree is the same for one thread and for many, so the bits are too; and a sum over it has an error that grows with the
//! logarithm of the number of blocks only.

use std::ops::Range;

/// Reduces `0..n`, `block` elements at a time, and merges the results in a fixed tree.
///
/// With `parallel` the two halves of a node may run on different threads of the current rayon pool. `None` when `n` is zero.
pub(crate) fn reduce<T: Send>(
    n: usize,
    block: usize,
    parallel: bool,
    leaf: &(impl Fn(Range<usize>) -> T + Sync),
    merge: &(impl Fn(T, T) -> T + Sync),
) -> Option<T> {
    if n == 0 {
        return None;
    }
    Some(node(0..n.div_ceil(block), n, block, parallel, leaf, merge))
}

fn node<T: Send>(
    blocks: Range<usize>,
    n: usize,
    block: usize,
    parallel: bool,
    leaf: &(impl Fn(Range<usize>) -> T + Sync),
    merge: &(impl Fn(T, T) -> T + Sync),
) -> T {
    if blocks.len() == 1 {
        return leaf(blocks.start * block..n.min(blocks.end * block));
    }
    let left = blocks.start..blocks.start + blocks.len().next_power_of_two() / 2;
    let right = left.end..blocks.end;
    if parallel {
        let (a, b) = rayon::join(
            || node(left, n, block, parallel, leaf, merge),
            || node(right, n, block, parallel, leaf, merge),
        );
        merge(a, b)
    } else {
        let a = node(left, n, block, parallel, leaf, merge);
        let b = node(right, n, block, parallel, leaf, merge);
        merge(a, b)
    }
}

/// Runs `work` on disjoint pieces of `rows` rows of several slices, possibly on several threads.
///
/// `split` cuts one piece of the slices after so many rows; the pieces are the same for any number of threads.
pub(crate) fn for_each_block<T: Send>(
    piece: T,
    rows: usize,
    block: usize,
    parallel: bool,
    split: &(impl Fn(T, usize) -> (T, T) + Sync),
    work: &(impl Fn(T) + Sync),
) {
    let blocks = rows.div_ceil(block);
    if !parallel || blocks <= 1 {
        if rows > 0 {
            work(piece);
        }
        return;
    }
    let cut = blocks.next_power_of_two() / 2 * block;
    let (left, right) = split(piece, cut);
    rayon::join(
        || for_each_block(left, cut, block, parallel, split, work),
        || for_each_block(right, rows - cut, block, parallel, split, work),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_the_same_with_and_without_threads() {
        for n in [0, 1, 3, 4, 5, 17, 100] {
            let show = |parallel| {
                reduce(
                    n,
                    4,
                    parallel,
                    &|r: Range<usize>| format!("{r:?}"),
                    &|a, b| format!("({a} {b})"),
                )
            };
            assert_eq!(show(false), show(true));
        }
        let seen = reduce(
            11,
            4,
            false,
            &|r: Range<usize>| format!("{r:?}"),
            &|a, b| format!("({a} {b})"),
        );
        assert_eq!(seen.as_deref(), Some("((0..4 4..8) 8..11)"));
    }

    #[test]
    fn blocks_cover_every_row_once() {
        for rows in [0, 1, 7, 8, 9, 40] {
            let mut values = vec![0u8; rows];
            for_each_block(
                &mut values[..],
                rows,
                4,
                true,
                &|piece: &mut [u8], at| piece.split_at_mut(at),
                &|piece| piece.iter_mut().for_each(|x| *x += 1),
            );
            assert!(values.iter().all(|&x| x == 1), "{rows}");
        }
    }
}
