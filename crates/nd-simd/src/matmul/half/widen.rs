//! Operands widened to f32 blocks and panels, for the micro-kernel of [`crate::matmul::multiply`].

use std::marker::PhantomData;

use nd_core::{DType, bf16};
use pulp::NullaryFnOnce;

use super::Operand;
use super::engine::{Engine, Tile};
use crate::convert::{narrow_bf16, narrow_f16, widen_f16};
use crate::dispatch::Isa;
use crate::lanes::Lanes;
use crate::matmul::kernel::{Ahead, Block, run};

/// How an operand is rounded before the product.
pub(super) trait Rounding: Copy {
    /// The nearest number of the format.
    fn round(x: f32) -> f32;
    /// Whether nothing is rounded.
    const EXACT: bool = false;
}

#[derive(Clone, Copy)]
pub(super) struct Exact;
#[derive(Clone, Copy)]
pub(super) struct ToBf16;
#[derive(Clone, Copy)]
pub(super) struct ToF16;

impl Rounding for Exact {
    const EXACT: bool = true;
    #[inline(always)]
    fn round(x: f32) -> f32 {
        x
    }
}

impl Rounding for ToBf16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        f32::from_bits(u32::from(narrow_bf16(x)) << 16)
    }
}

impl Rounding for ToF16 {
    #[inline(always)]
    fn round(x: f32) -> f32 {
        widen_f16(narrow_f16(x))
    }
}

/// Two numbers rounded to bf16.
#[inline(always)]
pub(super) fn narrow_pair<B: Operand>(pair: [B; 2]) -> [bf16; 2] {
    pair.map(|x| bf16::from_bits(narrow_bf16(x.widen())))
}

/// The engine of a level's f32 vectors.
#[derive(Clone, Copy)]
pub(super) struct Widening<S, P> {
    simd: S,
    rounding: PhantomData<P>,
}

impl<S: Isa, P: Rounding> Widening<S, P> {
    pub(super) fn new(simd: S) -> Self {
        Self {
            simd,
            rounding: PhantomData,
        }
    }
}

/// `target[i * target_stride + j] = round(source[i, j])`, and zeros up to `padded` columns.
struct Copy2d<A, P> {
    source: *const A,
    strides: (usize, usize),
    rows: usize,
    cols: usize,
    target: *mut f32,
    target_stride: usize,
    padded: usize,
    rounding: PhantomData<P>,
}

impl<A: Operand, P: Rounding> NullaryFnOnce for Copy2d<A, P> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (row_stride, col_stride) = self.strides;
        for i in 0..self.rows {
            let source = self.source.wrapping_add(i * row_stride);
            let target = self.target.wrapping_add(i * self.target_stride);
            // SAFETY: `Engine` promises `rows x cols` elements of the source and `padded` of each row of the target.
            unsafe {
                if col_stride == 1 {
                    for j in 0..self.cols {
                        *target.add(j) = P::round((*source.add(j)).widen());
                    }
                } else {
                    for j in 0..self.cols {
                        *target.add(j) = P::round((*source.add(j * col_stride)).widen());
                    }
                }
                for j in self.cols..self.padded {
                    *target.add(j) = 0.0;
                }
            }
        }
    }
}

/// Rows of a packed bf16 panel as f32.
struct Unpack {
    panel: *const u16,
    depth: usize,
    stored: usize,
    target: *mut f32,
}

impl NullaryFnOnce for Unpack {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for p in 0..self.depth {
            // The upper half of an f32 is a bf16: the second row of a pair is there already.
            let (shift, keep) = if p % 2 == 0 {
                (16, !0)
            } else {
                (0, 0xffff_0000_u32)
            };
            let source = self
                .panel
                .wrapping_add(p / 2 * 2 * self.stored)
                .cast::<u32>();
            let target = self.target.wrapping_add(p * self.stored);
            for j in 0..self.stored {
                // SAFETY: `Engine::unpack_right` promises `stored` pairs for every two rows, and room for all rows.
                unsafe {
                    let pair = source.add(j).read_unaligned();
                    *target.add(j) = f32::from_bits((pair << shift) & keep);
                }
            }
        }
    }
}

impl<S: Isa, P: Rounding> Engine for Widening<S, P> {
    const K_BLOCK: usize = 256;
    const LANES: usize = Lanes::<S, f32>::LEN;
    const REGISTERS: usize = S::REGISTER_COUNT;

    fn in_place<A: Operand>(
        self,
        a: *const A,
        (row_stride, col_stride): (usize, usize),
        _: usize,
        _: bool,
    ) -> Option<(*const u8, usize)> {
        (P::EXACT && A::DTYPE == DType::F32 && col_stride == 1)
            .then(|| (a.cast(), row_stride * size_of::<f32>()))
    }

    unsafe fn pack_left<A: Operand>(
        self,
        a: *const A,
        strides: (usize, usize),
        rows: usize,
        depth: usize,
        target: *mut u32,
    ) -> usize {
        self.simd.vectorize(Copy2d::<A, P> {
            source: a,
            strides,
            rows,
            cols: depth,
            target: target.cast(),
            target_stride: depth,
            padded: depth,
            rounding: PhantomData,
        });
        depth * size_of::<f32>()
    }

    unsafe fn pack_right<B: Operand>(
        self,
        b: *const B,
        strides: (usize, usize),
        depth: usize,
        width: usize,
        target: *mut u32,
        stored: usize,
    ) {
        self.simd.vectorize(Copy2d::<B, P> {
            source: b,
            strides,
            rows: depth,
            cols: width,
            target: target.cast(),
            target_stride: stored,
            padded: stored,
            rounding: PhantomData,
        });
    }

    unsafe fn unpack_right(
        self,
        panel: *const u16,
        depth: usize,
        stored: usize,
        target: *mut u32,
    ) -> *const u32 {
        self.simd.vectorize(Unpack {
            panel,
            depth,
            stored,
            target: target.cast(),
        });
        target
    }

    unsafe fn run(self, rows: usize, vecs: usize, last: usize, tile: &Tile) {
        let block = Block {
            k: tile.depth,
            a: tile.a.cast(),
            a_row_stride: tile.a_row_bytes / size_of::<f32>(),
            a_col_stride: 1,
            b: tile.b.cast(),
            b_row_stride: tile.b_stride,
            output: tile.output,
            count: 1,
            a_step: 0,
            b_step: 0,
            c_step: 0,
            ahead: Ahead::BlockOfA,
        };
        // SAFETY: the caller's.
        unsafe { run::<S, f32>(self.simd, rows, vecs, last, &block) };
    }
}
