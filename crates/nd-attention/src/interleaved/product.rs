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

/// Where the elements of a product go.
pub(super) trait Sink<S: Isa, R: SimdReal> {
    /// What the sum of element `(i, j)` starts from.
    fn start(&self, simd: S, i: usize, j: usize) -> Lanes<S, R>;
    /// Takes element `(i, j)`.
    fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>);
}

/// The product of an `m x k` and a `k x n` matrix; `a` is indexed `(i, k)`, `b` is indexed `(j, k)`.
///
/// # Panics
/// An operand is too short.
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
        k == 0 || (a.holds(m, k) && b.holds(n, k)),
        "a product of tiles leaves its operands"
    );
    let mut i = 0;
    // SAFETY: the operands hold every element of an `m x k` and an `n x k` matrix, as just checked.
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
/// `a` holds the elements `(i .. i + M, 0 .. k)` and `b` the elements `(j .. j + N, 0 .. k)`.
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
            sums[x][y] = sink.start(simd, i + x, j + y);
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
            sink.finish(i + x, j + y, sums[x][y]);
        }
    }
}

/// Writes `factor(i) C[i, j]` to a tile, row-major with `width` columns.
pub(super) struct ScaledRows<'a, V> {
    pub(super) tile: &'a mut [V],
    pub(super) width: usize,
    /// The factor of row `i` is `factors[i * step]`.
    pub(super) factors: &'a [V],
    pub(super) step: usize,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for ScaledRows<'_, R::Vector<S>> {
    #[inline(always)]
    fn start(&self, simd: S, _: usize, _: usize) -> Lanes<S, R> {
        Lanes::zero(simd)
    }

    #[inline(always)]
    fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        let factor = Lanes::from_raw(sum.simd(), self.factors[i * self.step]);
        self.tile[i * self.width + j] = (sum * factor).raw();
    }
}

/// Writes `factor C[i, j]` to a tile, row-major with `width` columns.
pub(super) struct Scaled<'a, V, R> {
    pub(super) tile: &'a mut [V],
    pub(super) width: usize,
    pub(super) factor: R,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for Scaled<'_, R::Vector<S>, R> {
    #[inline(always)]
    fn start(&self, simd: S, _: usize, _: usize) -> Lanes<S, R> {
        Lanes::zero(simd)
    }

    #[inline(always)]
    fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        self.tile[i * self.width + j] = (sum * self.factor).raw();
    }
}

/// Adds C to a tile, row-major with `width` columns.
pub(super) struct Added<'a, V> {
    pub(super) tile: &'a mut [V],
    pub(super) width: usize,
}

impl<S: Isa, R: SimdReal> Sink<S, R> for Added<'_, R::Vector<S>> {
    #[inline(always)]
    fn start(&self, simd: S, i: usize, j: usize) -> Lanes<S, R> {
        Lanes::from_raw(simd, self.tile[i * self.width + j])
    }

    #[inline(always)]
    fn finish(&mut self, i: usize, j: usize, sum: Lanes<S, R>) {
        self.tile[i * self.width + j] = sum.raw();
    }
}
