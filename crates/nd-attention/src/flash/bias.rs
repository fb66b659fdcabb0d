//! Additive biases and their gradients.
//!
//! A bias that rows, heads or queries share has the sum of their gradients. Where each block of queries has a bias of its own, its
//! gradient is written in the backward pass; a shared one needs a pass of its own, in which one task goes over everything that shares an
//! element, in a fixed order: so its bits do not depend on threads, and no copies are summed.

use std::marker::PhantomData;

use nd_core::autograd::Accumulate;
use nd_simd::SimdReal;
use nd_simd::matmul::Fetch;

use super::backward::{Backward, Tile, TileRoom, for_each_tile};
use super::element::{Blocks, with_engine};
use super::plan::Dims;
use super::tasks::for_each;

/// Something added to the scores before the softmax.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a, R> {
    /// `bias[b, h, i, j]` with any strides; a stride of zero shares the bias between rows or heads.
    Dense {
        /// The numbers.
        data: &'a [R],
        /// Elements from row to row, head to head, query to query, key to key.
        strides: [usize; 4],
    },
    /// `-slope[h] |i + N_k - N_q - j|` (Press, Smith and Lewis, "Train short, test long", 2022; the last query is beside the last
    /// key).
    Alibi {
        /// One slope for each head.
        slopes: &'a [R],
    },
}

/// How far query `i` is from key `j`, when the last query is beside the last key.
fn distance(dims: &Dims, i: usize, j: usize) -> f64 {
    ((i + dims.keys) as f64 - (dims.queries + j) as f64).abs()
}

impl<R: SimdReal> Bias<'_, R> {
    /// # Panics
    /// The bias does not cover the scores.
    #[track_caller]
    pub(super) fn check(&self, dims: &Dims) {
        match self {
            Self::Dense { data, strides } => {
                let extents = dims.scores();
                let last: usize = extents
                    .iter()
                    .zip(strides)
                    .map(|(&extent, stride)| extent.saturating_sub(1) * stride)
                    .sum();
                assert!(
                    extents.contains(&0) || last < data.len(),
                    "a bias of {extents:?} with strides {strides:?} needs {} elements, its slice has {}",
                    last + 1,
                    data.len()
                );
            }
            Self::Alibi { slopes } => assert_eq!(
                slopes.len(),
                dims.heads,
                "slopes of the bias: expected one for each of {} heads, found {}",
                dims.heads,
                slopes.len()
            ),
        }
    }

    /// Adds the bias to a tile `[keys, width]`.
    pub(super) fn add_to(
        &self,
        dims: &Dims,
        (b, h): (usize, usize),
        queries: (usize, usize),
        keys: (usize, usize),
        tile: &mut [R],
        width: usize,
    ) {
        match *self {
            Self::Dense { data, strides } => {
                // Along the keys, which usually lie side by side in the bias; the tile stays in the first cache level.
                for i in 0..queries.1 {
                    let start = b * strides[0]
                        + h * strides[1]
                        + (queries.0 + i) * strides[2]
                        + keys.0 * strides[3];
                    for p in 0..keys.1 {
                        tile[p * width + i] += data[start + p * strides[3]];
                    }
                }
            }
            Self::Alibi { slopes } => {
                let slope = slopes[h].to_f64();
                for (p, row) in tile.chunks_exact_mut(width).enumerate() {
                    for (i, score) in row[..queries.1].iter_mut().enumerate() {
                        let far = distance(dims, queries.0 + i, keys.0 + p);
                        *score += R::from_f64(-slope * far);
                    }
                }
            }
        }
    }
}

/// The gradient of a bias, which several threads write, each its own elements.
pub(super) struct BiasMut<'a, R> {
    data: *mut R,
    len: usize,
    /// The strides of a dense bias; none for slopes.
    strides: Option<[usize; 4]>,
    how: Accumulate,
    borrow: PhantomData<&'a mut [R]>,
}

// SAFETY: the slice is borrowed mutably for `'a`, and `BiasMut::add` obliges its callers to keep to elements of their own.
unsafe impl<R: Send> Send for BiasMut<'_, R> {}
// SAFETY: as above.
unsafe impl<R: Send> Sync for BiasMut<'_, R> {}

impl<'a, R: SimdReal> BiasMut<'a, R> {
    /// The gradient of `bias`, laid out like it.
    ///
    /// # Panics
    /// There is no bias, the slice is shorter than that of the bias needs to be, or strides other than zero make elements share a
    /// place.
    #[track_caller]
    pub(super) fn new(
        bias: Option<Bias<'_, R>>,
        (data, how): (&'a mut [R], Accumulate),
        dims: &Dims,
    ) -> Self {
        let strides = match bias {
            None => panic!("the gradient of a bias is wanted, but there is no bias"),
            Some(Bias::Dense { strides, .. }) => {
                Bias::Dense { data, strides }.check(dims);
                let mut axes: Vec<(usize, usize)> =
                    strides.into_iter().zip(dims.scores()).collect();
                axes.retain(|&(stride, extent)| stride > 0 && extent > 1);
                axes.sort_unstable();
                let mut reach = 1;
                for (stride, extent) in axes {
                    assert!(
                        stride >= reach,
                        "a bias whose strides {strides:?} make elements of {:?} share places has no gradient; only a stride of \
                         zero may",
                        dims.scores()
                    );
                    reach += (extent - 1) * stride;
                }
                Some(strides)
            }
            Some(Bias::Alibi { .. }) => {
                assert_eq!(
                    data.len(),
                    dims.heads,
                    "gradients of the bias: one for each head's slope"
                );
                None
            }
        };
        Self {
            data: data.as_mut_ptr(),
            len: data.len(),
            strides,
            how,
            borrow: PhantomData,
        }
    }

    /// Whether rows, heads and queries have elements of their own.
    pub(super) fn is_own(&self, dims: &Dims) -> bool {
        let extents = dims.scores();
        self.strides
            .is_some_and(|strides| (0..3).all(|axis| strides[axis] > 0 || extents[axis] == 1))
    }

    /// Zeros where the gradient is written, before anything is added.
    pub(super) fn begin(&self, dims: &Dims) {
        if self.how == Accumulate::Add {
            return;
        }
        let Some(strides) = self.strides else {
            for h in 0..self.len {
                // SAFETY: nobody else writes yet.
                unsafe { *self.at(h) = R::ZERO };
            }
            return;
        };
        let extents = dims.scores();
        let once = |axis: usize| {
            if strides[axis] == 0 {
                extents[axis].min(1)
            } else {
                extents[axis]
            }
        };
        for b in 0..once(0) {
            for h in 0..once(1) {
                for i in 0..once(2) {
                    for j in 0..once(3) {
                        let [to_b, to_h, to_i, to_j] = strides;
                        // SAFETY: nobody else writes yet.
                        unsafe { *self.at(b * to_b + h * to_h + i * to_i + j * to_j) = R::ZERO };
                    }
                }
            }
        }
    }

    /// One element.
    ///
    /// # Safety
    /// Nobody else has it.
    unsafe fn at(&self, at: usize) -> *mut R {
        assert!(at < self.len, "an element of the gradient of a bias");
        self.data.wrapping_add(at)
    }

    /// Adds the gradient of a block of scores.
    ///
    /// # Safety
    /// Nobody else has the elements of these queries of this head.
    pub(super) unsafe fn add<E: Blocks<Sum = R>>(
        &self,
        dims: &Dims,
        (b, h): (usize, usize),
        queries: (usize, usize),
        tile: &Tile<'_, E>,
    ) {
        let ((first, count), dscores) = (tile.keys, tile.full_dscores());
        let Some(strides) = self.strides else {
            let mut sum = 0.0;
            for (p, row) in dscores.chunks_exact(tile.width).enumerate() {
                for (i, ds) in row[..queries.1].iter().enumerate() {
                    sum -= ds.to_f64() * distance(dims, queries.0 + i, first + p);
                }
            }
            // SAFETY: the caller's.
            unsafe { *self.at(h) += R::from_f64(sum) };
            return;
        };
        for i in 0..queries.1 {
            let start =
                b * strides[0] + h * strides[1] + (queries.0 + i) * strides[2] + first * strides[3];
            for p in 0..count {
                // SAFETY: the caller's.
                unsafe { *self.at(start + p * strides[3]) += dscores[p * tile.width + i] };
            }
        }
    }
}

/// The gradient of a bias that rows, heads or queries share.
pub(super) fn run<E: Blocks>(arguments: &Backward<'_, E>) {
    let (dims, plan) = (&arguments.dims, &arguments.plan);
    let Some(dbias) = &arguments.dbias else {
        return;
    };
    let (block_q, _) = plan.blocks(dims);
    let extents = [dims.batch, dims.heads, dims.queries.div_ceil(block_q)];
    // Slopes are shared by rows and queries.
    let strides = dbias.strides.unwrap_or([0, 1, 0, 0]);
    let tasks: [usize; 3] =
        std::array::from_fn(|axis| if strides[axis] == 0 { 1 } else { extents[axis] });
    let of = |axis: usize, task: usize| {
        if strides[axis] == 0 {
            0..extents[axis]
        } else {
            task..task + 1
        }
    };
    let engine = E::engine(plan.level);
    for_each(plan.parallel, 0..tasks.iter().product(), 1, &|pieces| {
        let mut room = TileRoom::new(arguments, false);
        for task in pieces {
            let (b, rest) = (task / (tasks[1] * tasks[2]), task % (tasks[1] * tasks[2]));
            for b in of(0, b) {
                for h in of(1, rest / tasks[2]) {
                    for block in of(2, rest % tasks[2]) {
                        let first = block * block_q;
                        let count = block_q.min(dims.queries - first);
                        let add = |tile: &Tile<'_, E>| {
                            // SAFETY: everything that shares these elements is in this task.
                            unsafe { dbias.add(dims, (b, h), (first, count), tile) };
                        };
                        with_engine(engine, || {
                            let nothing = <[Fetch; 2]>::default();
                            for_each_tile(arguments, (b, h), first, count, &mut room, nothing, add)
                        });
                    }
                }
            }
        }
    });
}
