//! Products of matrices whose elements are vectors.
//!
//! The simple version: `C[i, j] = sum_k A[i, k] B[k, j]`, lane by lane. A block of 3 x 4 elements of C stays in registers while k
//! runs, so that seven loads serve twelve multiply-adds. Elements of A and B may lie with any strides; what happens to an
//! element of C is the business of a [`Sink`].

use nd_simd::{Isa, Lanes, SimdReal};

/// A matrix of vectors: element `(outer, inner)` is `data[outer * strides.0 + inner * strides.1]`, and the inner index is the
/// one that is summed over.
pub(super) struct Operand<'a, V> {
    pub(super) data: &'a [V],
    pub(super) strides: (usize, usize),
}

impl<V> Clone for Operand<'_, V> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Operand<'_, V> {}

impl<V> Operand<'_, V> {
    #[inline(always)]
    fn holds(&self, outer: usize, inner: usize) -> bool {
        (outer - 1) * self.strides.0 + (inner - 1) * self.strides.1 < self.data.len()
    }
}

/// A writable matrix of vectors: element `(i, j)` is `data[i * strides.0 + j * strides.1]`.
pub(super) struct TileMut<'a, V> {
    pub(super) data: &'a mut [V],
    pub(super) strides: (usize, usize),
}

impl<V> TileMut<'_, V> {
    #[inline(always)]
    fn at(&self, i: usize, j: usize) -> usize {
        i * self.strides.0 + j * self.strides.1
    }

    #[inline(always)]
    fn holds(&self, m: usize, n: usize) -> bool {
        self.at(m - 1, n - 1) < self.data.len()
    }
}

/// Where the elements of a product go.
pub(super) trait Sink<S: Isa, R: SimdReal> {
    /// Whether there is room for `m x n` elements, neither being zero.
    fn holds(&self, m: usize, n: usize) -> bool;
    /// What the sum of element `(i, j)` starts from.
    ///
    /// # Safety
    /// There is room for the element.
    #[inline(always)]
    unsafe fn start(&self, simd: S, _i: usize, _j: usize) -> Lanes<S, R> {
        Lanes::zero(simd)
    }
    /// Takes element `(i, j)`.
    ///
    /// # Safety
    /// There is room for the element.
    unsafe fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>);
}

/// The product of an `m x k` and a `k x n` matrix; `a` is indexed `(i, k)`, `b` is indexed `(j, k)`.
///
/// # Panics
/// An operand or the sink is too small.
#[inline(always)]
pub(super) fn product<S: Isa, R: SimdReal>(
    simd: S,
    (m, n, k): (usize, usize, usize),
    a: Operand<'_, R::Vector<S>>,
    b: Operand<'_, R::Vector<S>>,
    sink: &mut impl Sink<S, R>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        sink.holds(m, n) && (k == 0 || (a.holds(m, k) && b.holds(n, k))),
        "a product of tiles leaves its operands"
    );
    let mut i = 0;
    // SAFETY: the operands hold every element of an `m x k` and an `n x k` matrix, and the sink has room for `m x n`, as just
    // checked.
    unsafe {
        while i + 3 <= m {
            block_row::<S, R, 3>(simd, i, n, k, a, b, sink);
            i += 3;
        }
        while i < m {
            block_row::<S, R, 1>(simd, i, n, k, a, b, sink);
            i += 1;
        }
    }
}

/// Rows `i .. i + M`.
///
/// # Safety
/// As [`block`], for every `j` up to `n`.
#[inline(always)]
unsafe fn block_row<S: Isa, R: SimdReal, const M: usize>(
    simd: S,
    i: usize,
    n: usize,
    k: usize,
    a: Operand<'_, R::Vector<S>>,
    b: Operand<'_, R::Vector<S>>,
    sink: &mut impl Sink<S, R>,
) {
    let mut j = 0;
    // SAFETY: the caller's contract.
    unsafe {
        while j + 4 <= n {
            block::<S, R, M, 4>(simd, i, j, k, a, b, sink);
            j += 4;
        }
        while j < n {
            block::<S, R, M, 1>(simd, i, j, k, a, b, sink);
            j += 1;
        }
    }
}

/// The block of `M x N` elements at `(i, j)`.
///
/// # Safety
/// `a` holds the elements `(i .. i + M, 0 .. k)`, `b` the elements `(j .. j + N, 0 .. k)`, and the sink has room for
/// the elements `(i .. i + M, j .. j + N)`.
#[inline(always)]
unsafe fn block<S: Isa, R: SimdReal, const M: usize, const N: usize>(
    simd: S,
    i: usize,
    j: usize,
    k: usize,
    a: Operand<'_, R::Vector<S>>,
    b: Operand<'_, R::Vector<S>>,
    sink: &mut impl Sink<S, R>,
) {
    let mut sums = [[Lanes::<S, R>::zero(simd); N]; M];
    for x in 0..M {
        for y in 0..N {
            // SAFETY: the caller's contract.
            sums[x][y] = unsafe { sink.start(simd, i + x, j + y) };
        }
    }
    for l in 0..k {
        let mut left = [Lanes::<S, R>::zero(simd); M];
        for x in 0..M {
            let at = (i + x) * a.strides.0 + l * a.strides.1;
            // SAFETY: the caller's contract.
            left[x] = Lanes::from_raw(simd, unsafe { *a.data.get_unchecked(at) });
        }
        for y in 0..N {
            let at = (j + y) * b.strides.0 + l * b.strides.1;
            // SAFETY: the caller's contract.
            let right = Lanes::<S, R>::from_raw(simd, unsafe { *b.data.get_unchecked(at) });
            for x in 0..M {
                sums[x][y] = left[x].mul_add(right, sums[x][y]);
            }
        }
    }
    for x in 0..M {
        for y in 0..N {
            // SAFETY: the caller's contract.
            unsafe { sink.finish(i + x, j + y, sums[x][y]) };
        }
    }
}

/// Writes `factor(i) C[i, j]`.
pub(super) struct ScaledRows<'a, V> {
    pub(super) tile: TileMut<'a, V>,
    /// The factor of row `i` is `factors[i * step]`.
    pub(super) factors: &'a [V],
    pub(super) step: usize,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for ScaledRows<'_, R::Vector<S>> {
    #[inline(always)]
    fn holds(&self, m: usize, n: usize) -> bool {
        self.tile.holds(m, n) && (m - 1) * self.step < self.factors.len()
    }

    #[inline(always)]
    unsafe fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        let at = self.tile.at(i, j);
        // SAFETY: the caller's contract.
        unsafe {
            let factor = Lanes::from_raw(sum.simd(), *self.factors.get_unchecked(i * self.step));
            *self.tile.data.get_unchecked_mut(at) = (sum * factor).raw();
        }
    }
}

/// Writes `factor C[i, j]`.
pub(super) struct Scaled<'a, V, R> {
    pub(super) tile: TileMut<'a, V>,
    pub(super) factor: R,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for Scaled<'_, R::Vector<S>, R> {
    #[inline(always)]
    fn holds(&self, m: usize, n: usize) -> bool {
        self.tile.holds(m, n)
    }

    #[inline(always)]
    unsafe fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        let at = self.tile.at(i, j);
        // SAFETY: the caller's contract.
        unsafe { *self.tile.data.get_unchecked_mut(at) = (sum * self.factor).raw() };
    }
}

/// Adds C to what is there.
pub(super) struct Added<'a, V> {
    pub(super) tile: TileMut<'a, V>,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for Added<'_, R::Vector<S>> {
    #[inline(always)]
    fn holds(&self, m: usize, n: usize) -> bool {
        self.tile.holds(m, n)
    }

    #[inline(always)]
    unsafe fn start(&self, simd: S, i: usize, j: usize) -> Lanes<S, R> {
        let at = self.tile.at(i, j);
        // SAFETY: the caller's contract.
        Lanes::from_raw(simd, unsafe { *self.tile.data.get_unchecked(at) })
    }

    #[inline(always)]
    unsafe fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        let at = self.tile.at(i, j);
        // SAFETY: the caller's contract.
        unsafe { *self.tile.data.get_unchecked_mut(at) = sum.raw() };
    }
}

/// Writes `scale C[i, j] + residual[i, j]` to a tile and to an array of scores.
pub(super) struct Scores<'a, V, R> {
    pub(super) tile: TileMut<'a, V>,
    pub(super) scores: TileMut<'a, V>,
    /// Arranged as the scores.
    pub(super) residual: Option<&'a [V]>,
    pub(super) scale: R,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for Scores<'_, R::Vector<S>, R> {
    #[inline(always)]
    fn holds(&self, m: usize, n: usize) -> bool {
        let residual_holds = self
            .residual
            .is_none_or(|residual| self.scores.at(m - 1, n - 1) < residual.len());
        self.tile.holds(m, n) && self.scores.holds(m, n) && residual_holds
    }

    #[inline(always)]
    unsafe fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        let (at, at_tile) = (self.scores.at(i, j), self.tile.at(i, j));
        // SAFETY: the caller's contract.
        unsafe {
            let score = match self.residual {
                Some(residual) => {
                    let residual = Lanes::from_raw(sum.simd(), *residual.get_unchecked(at));
                    sum.mul_add(sum.constant(self.scale), residual)
                }
                None => sum * self.scale,
            };
            *self.scores.data.get_unchecked_mut(at) = score.raw();
            *self.tile.data.get_unchecked_mut(at_tile) = score.raw();
        }
    }
}
