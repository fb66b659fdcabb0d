//! The micro-kernel: a `ROWS x VECS` block of vectors of C held in registers while k runs.
//!
//! ```text
//! for p in 0..k {
//!     b[j] = VECS vectors of row p of B            (unit stride, maybe masked at the right edge)
//!     for i in 0..ROWS { acc[i][j] += splat(A[i, p]) * b[j] }
//! }
//! ```
//!
//! A is read one element at a time, so it may have any strides. Every element of C is the sum,
//! in the order of k, of chains of [`PIECE`] fused multiply-adds, whatever the block it falls into; so the same bits come out for any
//! vector width, any block shape and any split of the rows and columns over threads.

use pulp::{Simd, WithSimd};

use super::fetch::Stream;
use crate::activations::{Activation, activate_rows};
use crate::dispatch::{Isa, SimdLevel};
use crate::lanes::{Lanes, SimdReal};

/// One block of C and the strips of A and B that make it.
///
/// Pointers, because the block of C is one of many disjoint blocks of one matrix.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, R> {
    pub(super) k: usize,
    pub(super) a: *const R,
    pub(super) a_row_stride: usize,
    pub(super) a_col_stride: usize,
    pub(super) b: *const R,
    pub(super) b_row_stride: usize,
    pub(super) output: Output<R>,
    /// How many products of a stack have such a block, and how much further each next one lies.
    pub(super) count: usize,
    pub(super) a_step: usize,
    pub(super) b_step: usize,
    pub(super) c_step: usize,
    /// What is asked for before it is needed.
    pub(super) ahead: Ahead<'a>,
}

/// What the micro-kernel asks the caches for while it works.
#[derive(Clone, Copy)]
pub(super) enum Ahead<'a> {
    /// The rows of B that come next: they lie far apart, and the processor's own prefetching does not follow.
    RowsOfB,
    /// The rows of A of the next block, one line after the other, where B is packed and comes by itself.
    BlockOfA,
    /// What the caller says will be read next; and the rows of B, where these lie far apart.
    Stream(&'a Stream, bool),
}

/// How many rows of B ahead: some fifty cycles, enough for the second cache level.
const ROWS_AHEAD: usize = 4;

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Asks for a cache line; any address will do.
#[inline(always)]
pub(super) fn prefetch<R, const HINT: i32>(address: *const R) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint to the processor, which never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<HINT>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// To every cache level.
const NEAR: i32 = 3;
/// To the second cache level.
pub(super) const FAR: i32 = 2;

/// The block of C, and what is done to sums on their way there.
#[derive(Clone, Copy)]
pub(super) struct Output<R> {
    pub(super) c: *mut R,
    pub(super) c_row_stride: usize,
    pub(super) store: Store<R>,
    /// One value for each column, or null.
    pub(super) bias: *const R,
    pub(super) relu: bool,
}

/// What happens to C in the pass that stores it, as pointers.
#[derive(Clone, Copy)]
pub(super) struct Finish<R> {
    /// One value for each column, or null.
    pub(super) bias: *const R,
    pub(super) activation: Activation,
}

impl<R: SimdReal> Finish<R> {
    /// The bias from `column` on, and whether a ReLU follows: what the micro-kernel does, in the `last` block of k.
    #[inline(always)]
    pub(super) fn in_registers(&self, last: bool, column: usize) -> (*const R, bool) {
        if last && !self.bias.is_null() {
            (self.bias.wrapping_add(column), self.is_relu())
        } else {
            (std::ptr::null(), last && self.is_relu())
        }
    }

    #[inline(always)]
    fn is_relu(&self) -> bool {
        self.activation == Activation::Relu
    }

    /// Applies what is left to do to rows of C.
    ///
    /// # Safety
    /// The rows are ours to read and write.
    #[inline(always)]
    pub(super) unsafe fn rest(
        &self,
        level: SimdLevel,
        c: *mut R,
        rows: usize,
        cols: usize,
        stride: usize,
    ) {
        if !matches!(self.activation, Activation::Identity | Activation::Relu) {
            // SAFETY: the caller's.
            unsafe { activate_rows(level, self.activation, c, rows, cols, stride) };
        }
    }

    /// Bias and activation of one element, for the loops that have no vectors; [`Finish::rest`] follows.
    #[inline(always)]
    pub(super) fn element(&self, mut value: R, column: usize) -> R {
        if !self.bias.is_null() {
            // SAFETY: the bias has a value for each column.
            value += unsafe { *self.bias.wrapping_add(column) };
        }
        // A NaN is not less than zero, and stays.
        if self.is_relu() && value < R::ZERO {
            R::ZERO
        } else {
            value
        }
    }
}

/// How sums reach C.
#[derive(Clone, Copy)]
pub(super) enum Store<R> {
    /// C is overwritten, unread.
    Write,
    /// The sums are added to what C holds.
    Add,
    /// `alpha sum + beta C`; C is not read when `beta` is zero.
    Scale { alpha: R, beta: R },
}

impl<R: SimdReal> Store<R> {
    /// How the first sums reach C.
    #[inline(always)]
    pub(super) fn first(alpha: R, beta: R) -> Self {
        if alpha != R::ONE || (beta != R::ZERO && beta != R::ONE) {
            Self::Scale { alpha, beta }
        } else if beta == R::ZERO {
            Self::Write
        } else {
            Self::Add
        }
    }

    /// How the sums of the next piece of k follow.
    #[inline(always)]
    pub(super) fn next(self) -> Self {
        match self {
            Self::Write | Self::Add => Self::Add,
            Self::Scale { alpha, .. } => Self::Scale {
                alpha,
                beta: R::ONE,
            },
        }
    }
}

/// Products that are added in one chain; the sums of pieces of k are added to C, so that the error grows with the pieces, not
/// with k. (C stays in the first cache level meanwhile: it costs about two percent.)
pub(crate) const PIECE: usize = 128;

/// The vectors of a block, held in registers.
pub(super) type Sums<S, R, const ROWS: usize, const VECS: usize> = [[Lanes<S, R>; VECS]; ROWS];

/// Vector `j` of `VECS` from `pointer` on; of the last one only `last` lanes when `MASKED`.
///
/// # Safety
/// Those elements may be read.
#[inline(always)]
pub(super) unsafe fn load<S: Isa, R: SimdReal, const VECS: usize, const MASKED: bool>(
    simd: S,
    pointer: *const R,
    j: usize,
    last: usize,
) -> Lanes<S, R> {
    let pointer = pointer.wrapping_add(j * Lanes::<S, R>::LEN);
    // SAFETY: the caller's.
    unsafe {
        if MASKED && j + 1 == VECS {
            let mask = R::first_lanes(simd, last);
            Lanes::from_raw(simd, R::load_masked(simd, mask, pointer))
        } else {
            Lanes::load_ptr(simd, pointer)
        }
    }
}

impl<R: SimdReal> Output<R> {
    /// Asks for the lines of so many rows and columns of C, before the kernel that ends with them.
    #[inline(always)]
    pub(super) fn near(&self, rows: usize, cols: usize) {
        for i in 0..rows {
            let row = self.c.wrapping_add(i * self.c_row_stride).cast::<u8>();
            let within = row.addr() % LINE;
            for byte in (0..within + cols * size_of::<R>()).step_by(LINE) {
                prefetch::<u8, NEAR>(row.wrapping_sub(within).wrapping_add(byte));
            }
        }
    }

    /// Brings the sums to C.
    ///
    /// # Safety
    /// The block of C may be read and written, and the bias, if any, be read; its last vector is `last` lanes wide when
    /// `MASKED`.
    #[inline(always)]
    pub(super) unsafe fn finish<
        S: Isa,
        const ROWS: usize,
        const VECS: usize,
        const MASKED: bool,
    >(
        &self,
        simd: S,
        last: usize,
        mut acc: Sums<S, R, ROWS, VECS>,
    ) {
        // One small loop for each thing that can happen, because the compiler unrolls only small loops.
        if let Store::Add = self.store {
            for i in 0..ROWS {
                let c = self.c.wrapping_add(i * self.c_row_stride);
                for j in 0..VECS {
                    // SAFETY: the caller's.
                    acc[i][j] += unsafe { load::<S, R, VECS, MASKED>(simd, c, j, last) };
                }
            }
        }
        if let Store::Scale { alpha, beta } = self.store {
            for i in 0..ROWS {
                for j in 0..VECS {
                    acc[i][j] = acc[i][j] * alpha;
                }
            }
            if beta != R::ZERO {
                let beta = Lanes::splat(simd, beta);
                for i in 0..ROWS {
                    let c = self.c.wrapping_add(i * self.c_row_stride);
                    for j in 0..VECS {
                        // SAFETY: the caller's.
                        let old = unsafe { load::<S, R, VECS, MASKED>(simd, c, j, last) };
                        acc[i][j] = beta.mul_add(old, acc[i][j]);
                    }
                }
            }
        }
        if !self.bias.is_null() {
            for j in 0..VECS {
                // SAFETY: the caller's.
                let bias = unsafe { load::<S, R, VECS, MASKED>(simd, self.bias, j, last) };
                for i in 0..ROWS {
                    acc[i][j] += bias;
                }
            }
        }
        if self.relu {
            let zero = Lanes::zero(simd);
            for i in 0..ROWS {
                for j in 0..VECS {
                    // The second operand when either is NaN, so NaN stays.
                    acc[i][j] = zero.larger_of(acc[i][j]);
                }
            }
        }
        for i in 0..ROWS {
            let c = self.c.wrapping_add(i * self.c_row_stride);
            for j in 0..VECS {
                let target = c.wrapping_add(j * Lanes::<S, R>::LEN);
                // SAFETY: the caller's.
                unsafe {
                    if MASKED && j + 1 == VECS {
                        let mask = R::first_lanes(simd, last);
                        R::store_masked(simd, mask, target, acc[i][j].raw());
                    } else {
                        acc[i][j].store_ptr(target);
                    }
                }
            }
        }
    }
}

/// The token travels in the struct, because pulp's trait hands out one that is not known to be an [`Isa`].
struct Micro<'a, S, R, const ROWS: usize, const VECS: usize, const MASKED: bool> {
    simd: S,
    block: &'a Block<'a, R>,
    /// The width of the last vector when `MASKED`.
    last: usize,
}

impl<S: Isa, R: SimdReal, const ROWS: usize, const VECS: usize, const MASKED: bool> WithSimd
    for Micro<'_, S, R, ROWS, VECS, MASKED>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<T: Simd>(self, _: T) {
        let Self {
            simd,
            block: &block,
            last,
        } = self;
        // Index loops over constant bounds: they unroll completely, so that `acc` lives in registers.
        macro_rules! step {
            ($near:expr, $acc:ident, $a:expr, $b:expr) => {{
                let mut row = [Lanes::<S, R>::zero(simd); VECS];
                if $near {
                    for j in 0..VECS {
                        let offset = j * Lanes::<S, R>::LEN;
                        if (offset * size_of::<R>()).is_multiple_of(LINE) {
                            let next = ROWS_AHEAD * block.b_row_stride + offset;
                            prefetch::<R, NEAR>($b.wrapping_add(next));
                        }
                    }
                }
                for j in 0..VECS {
                    // SAFETY: `run` promises `VECS` vectors of B, the last one `last` lanes wide when masked.
                    row[j] = unsafe { load::<S, R, VECS, MASKED>(simd, $b, j, last) };
                }
                for i in 0..ROWS {
                    // SAFETY: `run` promises `ROWS` rows of A.
                    let x = Lanes::splat(simd, unsafe { *$a.wrapping_add(i * block.a_row_stride) });
                    for j in 0..VECS {
                        $acc[i][j] = x.mul_add(row[j], $acc[i][j]);
                    }
                }
            }};
        }
        // With sixteen registers a block is two vectors wide and a step takes six cycles: what waits in the processor hides the second
        // cache level, and asking costs time. Elsewhere than on x86-64 asking does nothing.
        let near = const { ROWS >= 4 && S::REGISTER_COUNT >= 32 && cfg!(target_arch = "x86_64") }
            && matches!(block.ahead, Ahead::RowsOfB | Ahead::Stream(_, true));
        let (mut a_start, mut b_start, mut output) = (block.a, block.b, block.output);
        for _ in 0..block.count {
            let (mut a, mut b) = (a_start, b_start);
            let mut left = block.k;
            let mut pairs = 0;
            let mut piece = output;
            loop {
                let depth = left.min(PIECE);
                left -= depth;
                let mut acc = [[Lanes::<S, R>::zero(simd); VECS]; ROWS];
                macro_rules! all_pairs {
                    ($near:expr) => {
                        for _ in 0..depth / 2 {
                            match block.ahead {
                                Ahead::BlockOfA if ROWS >= 4 => {
                                    // A line of a row lasts for eight pairs of f32; in that time, one of each of the next rows.
                                    let row = ROWS + pairs % 8;
                                    prefetch::<R, FAR>(a.wrapping_add(row * block.a_row_stride));
                                    pairs += 1;
                                }
                                Ahead::Stream(stream, _) if ROWS >= 4 => {
                                    stream.step(pairs);
                                    pairs += 1;
                                }
                                _ => {}
                            }
                            step!($near, acc, a, b);
                            step!(
                                $near,
                                acc,
                                a.wrapping_add(block.a_col_stride),
                                b.wrapping_add(block.b_row_stride)
                            );
                            a = a.wrapping_add(2 * block.a_col_stride);
                            b = b.wrapping_add(2 * block.b_row_stride);
                        }
                    };
                }
                if near {
                    all_pairs!(true);
                } else {
                    all_pairs!(false);
                }
                if depth % 2 == 1 {
                    step!(false, acc, a, b);
                }
                let whole = left == 0;
                if whole {
                    (piece.bias, piece.relu) = (output.bias, output.relu);
                } else {
                    (piece.bias, piece.relu) = (std::ptr::null(), false);
                }
                // SAFETY: `run` promises the block of C and the bias.
                unsafe { piece.finish::<S, ROWS, VECS, MASKED>(simd, last, acc) };
                if whole {
                    break;
                }
                piece.store = piece.store.next();
            }
            a_start = a_start.wrapping_add(block.a_step);
            b_start = b_start.wrapping_add(block.b_step);
            output.c = output.c.wrapping_add(block.c_step);
        }
    }
}

/// Every block of rows has a number of rows that divides this, where rows are not left over; so parts of the rows are multiples of it.
pub(super) const WHOLE_ROWS: usize = 12;

/// How many vectors wide the next block is, when `left` vectors of `m` rows are left: as wide as leaves room for six rows,
/// or narrower where all rows then fit into one block, so that B is read once.
#[inline(always)]
pub(super) fn block_vecs<S: Isa>(m: usize, left: usize) -> usize {
    block_vecs_of(S::REGISTER_COUNT, m, left)
}

/// [`block_vecs`] for a number of vector registers.
#[inline(always)]
pub(super) fn block_vecs_of(registers: usize, m: usize, left: usize) -> usize {
    let widest = match (registers >= 32, m) {
        (true, 7..=8) => 3,
        (true, 9..=12) => 2,
        (true, _) => 4,
        (false, _) => 2,
    };
    left.min(widest)
}

/// The number of rows of the next block when `left` rows are left and a block is `vecs` vectors wide.
///
/// Blocks are made nearly equal, because a last block of one row would read all of B for little work.
#[inline(always)]
pub(super) fn block_rows<S: Isa>(vecs: usize, left: usize) -> usize {
    block_rows_of(S::REGISTER_COUNT, vecs, left)
}

/// [`block_rows`] for a number of vector registers.
#[inline(always)]
pub(super) fn block_rows_of(registers: usize, vecs: usize, left: usize) -> usize {
    let most = match (registers >= 32, vecs) {
        (true, 4) | (false, 2) => 6,
        (true, 3) | (false, 1) => 8,
        _ => 12,
    };
    if left <= most {
        return left;
    }
    // `left / blocks` rounded up; the divisions are by constants.
    let blocks = match most {
        6 => left.div_ceil(6),
        8 => left.div_ceil(8),
        _ => left.div_ceil(12),
    };
    left.div_ceil(blocks)
}

/// Calls one micro-kernel.
///
/// Never inlined, so that each kernel is a function of its own: all of them in one are 100 KiB of code that the compiler
/// would optimise as a whole, and differently in every build.
#[inline(never)]
fn enter<S: Isa, R: SimdReal, const ROWS: usize, const VECS: usize, const MASKED: bool>(
    simd: S,
    block: &Block<'_, R>,
    last: usize,
) {
    simd.vectorize(Micro::<S, R, ROWS, VECS, MASKED> { simd, block, last });
}

/// Computes one block of `rows` rows and `vecs` vectors, the last of them `last` lanes wide.
///
/// # Safety
/// The strips of A (`rows x k`) and B (`k x` that width) may be read, the block of C read and written, and the bias, if
/// any, read; nobody else touches the block meanwhile. `rows` comes from [`block_rows`] for these `vecs`.
#[inline(always)]
pub(super) unsafe fn run<S: Isa, R: SimdReal>(
    simd: S,
    rows: usize,
    vecs: usize,
    last: usize,
    block: &Block<'_, R>,
) {
    // The constants are settled before code is made, so that nothing is compiled for an instruction set without use for it.
    macro_rules! dispatch {
        ($vecs:literal: $($rows:literal)*) => {{
            if const { Lanes::<S, R>::LEN == 1 } || last == Lanes::<S, R>::LEN {
                match rows {
                    $($rows => enter::<S, R, $rows, $vecs, false>(simd, block, last),)*
                    _ => unreachable!("a block of {rows} rows and {vecs} vectors"),
                }
            } else if const { Lanes::<S, R>::LEN > 1 } {
                match rows {
                    $($rows => enter::<S, R, $rows, $vecs, true>(simd, block, last),)*
                    _ => unreachable!("a block of {rows} rows and {vecs} vectors"),
                }
            }
        }};
    }
    if const { S::REGISTER_COUNT >= 32 } {
        match vecs {
            1 => dispatch!(1: 1 2 3 4 5 6 7 8 9 10 11 12),
            2 => dispatch!(2: 1 2 3 4 5 6 7 8 9 10 11 12),
            3 => dispatch!(3: 1 2 3 4 5 6 7 8),
            _ => dispatch!(4: 1 2 3 4 5 6),
        }
    } else {
        match vecs {
            1 => dispatch!(1: 1 2 3 4 5 6 7 8),
            _ => dispatch!(2: 1 2 3 4 5 6),
        }
    }
}
