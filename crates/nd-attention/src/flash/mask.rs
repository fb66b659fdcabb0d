//! Which scores exist: masks and additive biases, all of which combine.
//!
//! A mask is asked in two ways: which keys of a block of keys matter at all to a block of queries, so that blocks are
//! skipped, and which single scores of a block that is partly visible are.

/// What a query may see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mask {
    /// Query `i` sees keys `0..=i + offset` only.
    pub causal: Option<Causal>,
    /// Query `i` sees keys `i - before ..= i + after` only (of the causal diagonal, if there is one).
    pub window: Option<Window>,
    /// The keys of each row of the batch that exist: `key_lengths[b]` of them, from the first on.
    pub key_lengths: Option<Vec<usize>>,
    /// Blocks of scores that are computed at all.
    pub blocks: Option<BlockMask>,
}

impl Mask {
    /// Whether parts of blocks of so many queries may be left out, so that smaller blocks do less for nothing.
    pub(super) fn leaves_out_parts(&self, queries: usize) -> bool {
        let grid = &self.blocks;
        let cuts = |grid: &BlockMask| !grid.query_block.is_multiple_of(queries);
        self.causal.is_some() || self.window.is_some() || grid.as_ref().is_some_and(cuts)
    }
}

/// Where the causal diagonal starts when there are more or fewer keys than queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Causal {
    /// Query 0 sees key 0 (PyTorch's `is_causal`).
    #[default]
    UpperLeft,
    /// The last query sees the last key: queries that continue a sequence whose keys are cached.
    LowerRight,
}

/// A band around the diagonal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Keys before the query's own place.
    pub before: usize,
    /// Keys after it.
    pub after: usize,
}

/// A grid of blocks of scores; only those marked are computed, the others cost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockMask {
    /// Queries of a block.
    query_block: usize,
    /// Keys of a block.
    key_block: usize,
    /// Blocks in a row of the grid.
    columns: usize,
    kept: Vec<bool>,
}

impl BlockMask {
    /// A grid with `columns` blocks in each row, row by row; blocks of `query_block` queries and `key_block` keys.
    ///
    /// # Panics
    /// A size is zero, or the grid has no whole rows.
    #[must_use]
    #[track_caller]
    pub fn new(query_block: usize, key_block: usize, columns: usize, kept: Vec<bool>) -> Self {
        assert!(
            query_block > 0 && key_block > 0,
            "blocks of {query_block} queries and {key_block} keys: both must be positive"
        );
        assert!(
            columns > 0 && kept.len().is_multiple_of(columns),
            "a grid of {} blocks has no whole rows of {columns}",
            kept.len()
        );
        Self {
            query_block,
            key_block,
            columns,
            kept,
        }
    }

    /// The share of blocks that are kept.
    #[must_use]
    pub fn density(&self) -> f64 {
        let kept = self.kept.iter().filter(|&&kept| kept).count();
        kept as f64 / self.kept.len().max(1) as f64
    }
}

/// A mask for one number of queries and keys, checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visibility<'a> {
    mask: &'a Mask,
    queries: usize,
    keys: usize,
}

impl<'a> Visibility<'a> {
    /// # Panics
    /// The mask does not fit the shape.
    #[track_caller]
    pub(crate) fn new(mask: &'a Mask, batch: usize, queries: usize, keys: usize) -> Self {
        if let Some(lengths) = &mask.key_lengths {
            assert_eq!(
                lengths.len(),
                batch,
                "key lengths of a mask: expected one for each of {batch} rows of the batch, found {}",
                lengths.len()
            );
            if let Some((b, &length)) = lengths.iter().enumerate().find(|(_, len)| **len > keys) {
                panic!("row {b} is said to have {length} keys, but there are {keys}");
            }
        }
        if let Some(blocks) = &mask.blocks {
            let rows = blocks.kept.len() / blocks.columns;
            assert!(
                rows == queries.div_ceil(blocks.query_block)
                    && blocks.columns == keys.div_ceil(blocks.key_block),
                "a grid of {rows} x {} blocks of {} x {} does not cover {queries} x {keys} scores",
                blocks.columns,
                blocks.query_block,
                blocks.key_block
            );
        }
        Self {
            mask,
            queries,
            keys,
        }
    }

    /// The visible band of query `i`: the first key, and one past the last.
    fn band(&self, b: usize, i: usize) -> (usize, usize) {
        let mut end = match &self.mask.key_lengths {
            Some(lengths) => lengths[b],
            None => self.keys,
        };
        let mut start = 0;
        // The query's own place among the keys; behind the first key it may be negative.
        let place = match self.mask.causal {
            Some(Causal::LowerRight) => (i + self.keys).checked_sub(self.queries),
            _ => Some(i),
        };
        if self.mask.causal.is_some() {
            end = end.min(place.map_or(0, |place| place + 1));
        }
        if let Some(Window { before, after }) = self.mask.window {
            start = place.map_or(0, |place| place.saturating_sub(before));
            let last = match place {
                Some(place) => place.saturating_add(after).saturating_add(1),
                // `place` is `-(queries - keys - i)`.
                None => after
                    .saturating_add(1)
                    .saturating_sub(self.queries - self.keys - i),
            };
            end = end.min(last);
        }
        (start, end)
    }

    /// The keys that queries `first..first + count` may see: all others are invisible to all of them.
    pub(crate) fn keys_of(&self, b: usize, first: usize, count: usize) -> (usize, usize) {
        // Bands move to the right with the query.
        let (start, _) = self.band(b, first);
        let (_, end) = self.band(b, first + count - 1);
        (start.min(end), end)
    }

    /// The blocks of at most `size` keys that some of these queries may see: the first key of each, and how many.
    pub(crate) fn key_blocks(
        &self,
        b: usize,
        queries: (usize, usize),
        size: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        let (start, end) = self.keys_of(b, queries.0, queries.1);
        let all = (start..end)
            .step_by(size)
            .map(move |key| (key, size.min(end - key)));
        all.filter(move |&keys| self.any(queries, keys))
    }

    /// Whether any score of a block may exist.
    pub(crate) fn any(&self, queries: (usize, usize), keys: (usize, usize)) -> bool {
        let Some(blocks) = &self.mask.blocks else {
            return true;
        };
        let rows =
            queries.0 / blocks.query_block..(queries.0 + queries.1).div_ceil(blocks.query_block);
        rows.into_iter().any(|row| {
            let columns = keys.0 / blocks.key_block..(keys.0 + keys.1).div_ceil(blocks.key_block);
            columns
                .into_iter()
                .any(|column| blocks.kept[row * blocks.columns + column])
        })
    }

    /// Calls `hide(p, lanes)` for the queries `lanes` (from the first on) that do not see key `keys.0 + p`.
    pub(crate) fn hidden(
        &self,
        b: usize,
        queries: (usize, usize),
        keys: (usize, usize),
        mut hide: impl FnMut(usize, std::ops::Range<usize>),
    ) {
        let (first, count) = queries;
        let bands = self.mask.causal.is_some()
            || self.mask.window.is_some()
            || self.mask.key_lengths.is_some();
        // A block that all see whole needs no look at its scores.
        let inside = {
            let (start, _) = self.band(b, first + count - 1);
            let (_, end) = self.band(b, first);
            start <= keys.0 && keys.0 + keys.1 <= end
        };
        if bands && !inside {
            // Bands move to the right with the query, so the queries that are past a key, and those that have not reached it,
            // are a first and a last part of the block.
            let (mut before, mut after) = (0, 0);
            for p in 0..keys.1 {
                let key = keys.0 + p;
                while before < count && self.band(b, first + before).1 <= key {
                    before += 1;
                }
                while after < count && self.band(b, first + after).0 <= key {
                    after += 1;
                }
                if before > 0 {
                    hide(p, 0..before);
                }
                if after < count {
                    hide(p, after..count);
                }
            }
        }
        if let Some(blocks) = &self.mask.blocks {
            let mut i = 0;
            while i < count {
                // Up to the end of the block of the grid, and so below.
                let row = (first + i) / blocks.query_block;
                let next = ((row + 1) * blocks.query_block - first).min(count);
                let mut p = 0;
                while p < keys.1 {
                    let column = (keys.0 + p) / blocks.key_block;
                    let end = ((column + 1) * blocks.key_block - keys.0).min(keys.1);
                    if !blocks.kept[row * blocks.columns + column] {
                        (p..end).for_each(|p| hide(p, i..next));
                    }
                    p = end;
                }
                i = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every score that a block hides, and no other, is hidden by the definitions of the masks.
    #[test]
    fn blocks_hide_what_the_definitions_hide() {
        let kept = |i: usize, j: usize| (i / 3 + j / 4).is_multiple_of(2);
        let (queries, keys) = (11, 14);
        let grid: Vec<bool> = (0..4 * 4).map(|at| kept(at / 4 * 3, at % 4 * 4)).collect();
        let windows = [
            None,
            Some(Window {
                before: 2,
                after: 1,
            }),
        ];
        for causal in [None, Some(Causal::UpperLeft), Some(Causal::LowerRight)] {
            for window in windows {
                for lengths in [None, Some(vec![9, 0])] {
                    for blocks in [None, Some(BlockMask::new(3, 4, 4, grid.clone()))] {
                        for (queries, keys) in [(queries, keys), (keys - 3, queries + 2), (12, 13)]
                        {
                            let mask = Mask {
                                causal,
                                window,
                                key_lengths: lengths.clone(),
                                blocks: blocks.clone(),
                            };
                            check(&mask, queries, keys, kept);
                        }
                    }
                }
            }
        }
    }

    fn check(mask: &Mask, queries: usize, keys: usize, kept: impl Fn(usize, usize) -> bool) {
        if let Some(blocks) = &mask.blocks
            && (queries.div_ceil(3) * blocks.columns != blocks.kept.len()
                || keys.div_ceil(4) != blocks.columns)
        {
            return;
        }
        let visibility = Visibility::new(mask, 2, queries, keys);
        for b in 0..2 {
            for (q0, qn, k0, kn) in [
                (0, queries, 0, keys),
                (2, 5, 3, 6),
                (queries - 1, 1, keys - 2, 2),
            ] {
                let mut visible = vec![true; qn * kn];
                visibility.hidden(b, (q0, qn), (k0, kn), |p, lanes| {
                    for i in lanes {
                        visible[i * kn + p] = false;
                    }
                });
                let (start, end) = visibility.keys_of(b, q0, qn);
                for i in 0..qn {
                    for p in 0..kn {
                        let (i, j) = ((q0 + i) as isize, (k0 + p) as isize);
                        let shift = match mask.causal {
                            Some(Causal::LowerRight) => keys as isize - queries as isize,
                            _ => 0,
                        };
                        let mut expected = mask.causal.is_none() || j <= i + shift;
                        if let Some(Window { before, after }) = mask.window {
                            expected &=
                                j >= i + shift - before as isize && j <= i + shift + after as isize;
                        }
                        if let Some(lengths) = &mask.key_lengths {
                            expected &= (j as usize) < lengths[b];
                        }
                        if mask.blocks.is_some() {
                            expected &= kept(i as usize, j as usize);
                        }
                        let found = visible[(i as usize - q0) * kn + p];
                        assert_eq!(
                            found, expected,
                            "{mask:?} {queries} x {keys}, row {b}, ({i}, {j})"
                        );
                        if expected {
                            assert!((start..end).contains(&(j as usize)));
                            assert!(visibility.any((q0, qn), (k0, kn)));
                        }
                    }
                }
            }
        }
    }
}
