//! How a batch is cut, from shapes alone.

use std::ops::Range;

use nd_core::RowCoupling;

/// Shards of a batch are not smaller than this: below it the products of a recurrent step lose their efficiency.
const MIN_ROWS: usize = 32;
/// A batch is cut into at most so many shards: enough for every core of an ordinary machine.
const MAX_SHARDS: usize = 16;
/// Networks with more trainable values run on one tape: adding up their gradients would cost more than the ops'
/// own splitting does. Two MiB of f32, about what a core's L2 cache and its share of L3 move at full speed.
const MAX_SHARDED_VALUES: usize = 512 * 1024;

/// How the rows of a batch are cut.
///
/// A plan depends on the number of rows, the number of trainable values and the coupling of the network; never on the
/// number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShardPlan {
    /// One tape has all rows; its ops split their work into fixed blocks.
    Whole,
    /// Tapes of so many consecutive rows each (the last may have fewer), gradients added in a fixed tree.
    Rows(usize),
}

impl ShardPlan {
    /// The plan for `rows` windows and `values` trainable values.
    #[must_use]
    pub fn new(coupling: RowCoupling, rows: usize, values: usize) -> Self {
        match coupling {
            RowCoupling::BatchWide => Self::Whole,
            RowCoupling::RowLocal if values > MAX_SHARDED_VALUES => Self::Whole,
            RowCoupling::RowLocal => Self::Rows(rows.div_ceil(MAX_SHARDS).max(MIN_ROWS)),
        }
    }

    /// The number of shards of a batch.
    #[must_use]
    pub fn shards(self, rows: usize) -> usize {
        match self {
            Self::Whole => rows.min(1),
            Self::Rows(per_shard) => rows.div_ceil(per_shard.max(1)),
        }
    }

    /// The rows of a shard.
    #[must_use]
    pub fn rows_of(self, shard: usize, rows: usize) -> Range<usize> {
        match self {
            Self::Whole => 0..rows,
            Self::Rows(per_shard) => {
                let per_shard = per_shard.max(1);
                (shard * per_shard).min(rows)..((shard + 1) * per_shard).min(rows)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_every_row_once() {
        for rows in [0, 1, 31, 32, 33, 128, 1000, 1024, 5000] {
            for plan in [
                ShardPlan::Whole,
                ShardPlan::Rows(1),
                ShardPlan::Rows(48),
                ShardPlan::new(RowCoupling::RowLocal, rows, 1000),
            ] {
                let covered: Vec<usize> = (0..plan.shards(rows))
                    .flat_map(|shard| plan.rows_of(shard, rows))
                    .collect();
                assert_eq!(
                    covered,
                    (0..rows).collect::<Vec<_>>(),
                    "{plan:?} of {rows} rows"
                );
            }
        }
    }

    #[test]
    fn large_and_coupled_networks_stay_whole() {
        assert_eq!(
            ShardPlan::new(RowCoupling::BatchWide, 1024, 10),
            ShardPlan::Whole
        );
        assert_eq!(
            ShardPlan::new(RowCoupling::RowLocal, 1024, 2_600_000),
            ShardPlan::Whole
        );
        assert_eq!(
            ShardPlan::new(RowCoupling::RowLocal, 1024, 4_656),
            ShardPlan::Rows(64)
        );
        assert_eq!(
            ShardPlan::new(RowCoupling::RowLocal, 128, 215_809),
            ShardPlan::Rows(32)
        );
    }
}
