//! What happens to a tile of scores between the products: `[keys, queries]`, queries across.

use nd_core::SimdLevel;
use nd_simd::{Isa, Kernel, Lanes, SimdReal, dispatch, math};

use super::exponential::weight;

/// How much the largest score may exceed the base before the base follows: exponentials reach 3000 then, and nothing is lost, because
/// all are divided by their sum in the end.
const SLACK: f64 = 8.0;

/// The running softmax of a block of queries.
pub(super) struct Running<'a, R> {
    /// What exponentials are relative to: the largest score so far, or one that is less than [`SLACK`] below it.
    pub(super) base: &'a mut [R],
    /// The sum of exponentials, relative to it.
    pub(super) sum: &'a mut [R],
    /// How much the block has scaled the past down: written.
    pub(super) factor: &'a mut [R],
}

/// The online softmax of one tile.
struct Online<'a, 'b, R> {
    /// Scores, which become exponentials.
    tile: &'a mut [R],
    width: usize,
    running: Running<'b, R>,
}

impl<R: SimdReal> Kernel for Online<'_, '_, R> {
    /// Whether any factor is not one.
    type Output = bool;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> bool {
        let Self {
            tile,
            width,
            running,
        } = self;
        let mut changed = false;
        let (vectors, rest) = R::split_mut::<S>(tile);
        debug_assert!(rest.is_empty(), "rows of a tile are whole vectors");
        let across = width / Lanes::<S, R>::LEN;
        let mut columns = Columns {
            simd,
            vectors,
            across,
            running,
        };
        let mut column = 0;
        while column + TOGETHER <= across {
            changed |= columns.run::<TOGETHER>(column);
            column += TOGETHER;
        }
        while column < across {
            changed |= columns.run::<1>(column);
            column += 1;
        }
        changed
    }
}

/// Vectors of a row that are worked on together: enough to hide the latency of an exponential.
const TOGETHER: usize = 4;

/// A tile as vectors, row by row.
struct Columns<'a, 'b, S: Isa, R: SimdReal> {
    simd: S,
    vectors: &'a mut [R::Vector<S>],
    /// Vectors in a row.
    across: usize,
    running: Running<'b, R>,
}

impl<S: Isa, R: SimdReal> Columns<'_, '_, S, R> {
    /// `N` neighbouring columns of vectors, from `column` on.
    #[inline(always)]
    fn run<const N: usize>(&mut self, column: usize) -> bool {
        let simd = self.simd;
        let lane = |x| Lanes::<S, R>::from_raw(simd, x);
        let one = Lanes::<S, R>::splat(simd, R::ONE);
        let lowest = Lanes::<S, R>::splat(simd, R::from_f64(f64::NEG_INFINITY));
        let slack = Lanes::<S, R>::splat(simd, R::from_f64(SLACK));
        let at = |j: usize| (column + j) * Lanes::<S, R>::LEN;
        let mut old = [lowest; N];
        for j in 0..N {
            old[j] = Lanes::load(simd, &self.running.base[at(j)..]);
        }
        let mut best = old;
        // NaN is dropped here; it comes back through the exponential.
        for row in self.vectors.chunks_exact(self.across) {
            let row = &row[column..column + N];
            for j in 0..N {
                best[j] = lane(row[j]).larger_of(best[j]);
            }
        }
        let mut base = best;
        let mut total = [Lanes::<S, R>::zero(simd); N];
        for j in 0..N {
            // Where one of them is infinite the difference is not within the slack, and the base follows.
            best[j] = (best[j] - old[j])
                .less_or_equal(slack)
                .select(old[j], best[j]);
            // A query that has seen nothing yet stays at zero rather than at infinity minus infinity.
            base[j] = best[j].equal(lowest).select(Lanes::zero(simd), best[j]);
        }
        for row in self.vectors.chunks_exact_mut(self.across) {
            let row = &mut row[column..column + N];
            for j in 0..N {
                let e = weight(lane(row[j]) - base[j]);
                row[j] = e.raw();
                total[j] += e;
            }
        }
        let mut changed = false;
        for j in 0..N {
            let scale = weight(old[j] - base[j]);
            let sum = &mut self.running.sum[at(j)..];
            let past = Lanes::<S, R>::load(simd, sum);
            past.mul_add(scale, total[j]).store(sum);
            best[j].store(&mut self.running.base[at(j)..]);
            scale.store(&mut self.running.factor[at(j)..]);
            changed |= (!scale.equal(one)).any();
        }
        changed
    }
}

/// Turns scores into exponentials relative to the base; whether the past has to be scaled by
/// `running.factor`.
///
/// All slices have `width` numbers per row, a multiple of 16.
pub(super) fn online_softmax<R: SimdReal>(
    level: SimdLevel,
    tile: &mut [R],
    width: usize,
    running: Running<'_, R>,
) -> bool {
    dispatch(
        level,
        Online {
            tile,
            width,
            running,
        },
    )
}

/// What is left to know of a block of queries that has seen all its keys.
struct Finish<'a, R> {
    base: &'a mut [R],
    sum: &'a [R],
    factor: &'a mut [R],
}

impl<R: SimdReal> Kernel for Finish<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let zero = Lanes::<S, R>::zero(simd);
        let lowest = Lanes::splat(simd, R::from_f64(f64::NEG_INFINITY));
        let one = Lanes::splat(simd, R::ONE);
        let (base, _) = R::split_mut::<S>(self.base);
        let (sum, _) = R::split::<S>(self.sum);
        let (factor, _) = R::split_mut::<S>(self.factor);
        for ((base, &sum), factor) in base.iter_mut().zip(sum).zip(factor) {
            let sum = Lanes::<S, R>::from_raw(simd, sum);
            // Nothing is visible, or only minus infinities.
            let nothing = sum.equal(zero);
            *factor = nothing.select(zero, one / sum).raw();
            let log = Lanes::from_raw(simd, *base) + math::log(sum);
            *base = nothing.select(lowest, log).raw();
        }
    }
}

/// Turns `base` into the logarithm of the sum of exponentials, `-inf` for a query that has seen nothing, and `factor` into the reciprocal of
/// the sum relative to the base, zero then.
///
/// All slices are as long as a row of the tile, a multiple of 16.
pub(super) fn finish<R: SimdReal>(level: SimdLevel, base: &mut [R], sum: &[R], factor: &mut [R]) {
    dispatch(level, Finish { base, sum, factor });
}

/// `x *= factor`, row by row.
struct ScaleRows<'a, R> {
    x: &'a mut [R],
    cols: usize,
    factors: &'a [R],
}

impl<R: SimdReal> Kernel for ScaleRows<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for (row, &factor) in self.x.chunks_exact_mut(self.cols).zip(self.factors) {
            let lanes = Lanes::splat(simd, factor);
            let (row, rest) = R::split_mut::<S>(row);
            for x in row {
                *x = (Lanes::<S, R>::from_raw(simd, *x) * lanes).raw();
            }
            for x in rest {
                *x *= factor;
            }
        }
    }
}

/// Multiplies each row by its factor.
pub(super) fn scale_rows<R: SimdReal>(level: SimdLevel, x: &mut [R], cols: usize, factors: &[R]) {
    if cols > 0 {
        dispatch(level, ScaleRows { x, cols, factors });
    }
}

/// `x *= factors` in every row.
struct ScaleColumns<'a, R> {
    x: &'a mut [R],
    factors: &'a [R],
}

impl<R: SimdReal> Kernel for ScaleColumns<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let (factors, _) = R::split::<S>(self.factors);
        for row in self.x.chunks_exact_mut(self.factors.len()) {
            let (row, _) = R::split_mut::<S>(row);
            for (x, &factor) in row.iter_mut().zip(factors) {
                let factor = Lanes::<S, R>::from_raw(simd, factor);
                *x = (Lanes::from_raw(simd, *x) * factor).raw();
            }
        }
    }
}

/// Multiplies each column by its factor; there is a multiple of 16 of them.
pub(super) fn scale_columns<R: SimdReal>(level: SimdLevel, x: &mut [R], factors: &[R]) {
    dispatch(level, ScaleColumns { x, factors });
}
