//! A checked product, and which way it is computed.

use nd_core::bf16;
use nd_core::options::Precision;

use super::Operand;
#[cfg(target_arch = "x86_64")]
use super::amx::Tiles;
use super::choice::Bf16Engine;
#[cfg(target_arch = "x86_64")]
use super::dot::PairDot;
use super::pack::PackedBf16;
use super::rounded::Rounded;
use super::widen::{Rounding, ToBf16, ToF16};
use crate::dispatch::SimdLevel;
use crate::matmul::kernel::{Finish, PIECE};
use crate::matmul::view::{MatMut, MatRef};
use crate::matmul::{Epilogue, Fetch};

/// The right operand.
#[derive(Clone, Copy)]
pub(super) enum Right<'a, B> {
    Plain(MatRef<'a, B>),
    Packed(PackedBf16<'a>),
    /// Numbers of the format that have been widened before.
    Wide(MatRef<'a, f32>),
}

impl<B: Operand> Right<'_, B> {
    pub(super) fn cols(&self) -> usize {
        match self {
            Self::Plain(b) => b.cols(),
            Self::Packed(b) => b.cols(),
            Self::Wide(b) => b.cols(),
        }
    }
}

/// The engine of a product; what is neither is widened to f32.
#[derive(Clone, Copy)]
pub(super) enum Chosen {
    Widening,
    #[cfg(target_arch = "x86_64")]
    Dot(PairDot),
    #[cfg(target_arch = "x86_64")]
    Tiles(Tiles),
}

impl Chosen {
    /// What the calling thread's [`Bf16Engine`] means for a product over `k`.
    #[track_caller]
    fn new(level: SimdLevel, precision: Precision, k: usize, is_wide: bool) -> Self {
        // An empty sum has no blocks of k; any engine would do.
        if precision != Precision::Bf16 || k == 0 || is_wide {
            return Self::Widening;
        }
        match Bf16Engine::at(level) {
            Bf16Engine::Widen => Self::Widening,
            #[cfg(target_arch = "x86_64")]
            Bf16Engine::Dot => PairDot::new().map_or(Self::Widening, Self::Dot),
            #[cfg(target_arch = "x86_64")]
            Bf16Engine::Amx => Tiles::new().map_or(Self::Widening, Self::Tiles),
            #[cfg(not(target_arch = "x86_64"))]
            _ => Self::Widening,
        }
    }
}

/// A checked product.
pub(super) struct Task<'a, A, B> {
    pub(super) level: SimdLevel,
    pub(super) engine: Chosen,
    pub(super) precision: Precision,
    pub(super) alpha: f32,
    pub(super) a: MatRef<'a, A>,
    /// Whether zeros follow each row of A, as many as [`padded_rows`] says.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for products that only x86-64 has")
    )]
    pub(super) a_padded: bool,
    pub(super) b: Right<'a, B>,
    pub(super) beta: f32,
    /// Unused where the results are [`Task::rounded`].
    pub(super) c: *mut f32,
    pub(super) c_row_stride: usize,
    /// Where tiles round their results to.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "for products that only x86-64 has")
    )]
    pub(super) rounded: Option<Rounded<bf16>>,
    pub(super) epilogue: Epilogue<'a, f32>,
    /// The same as pointers.
    pub(super) finish: Finish<f32>,
    /// What is read or written after it: what a product that widens asks for with its last block.
    pub(super) soon: Fetch,
}

// SAFETY: threads read A, B and the bias, and write disjoint blocks of C, which is borrowed while the task runs.
unsafe impl<A: Operand, B: Operand> Sync for Task<'_, A, B> {}

impl<'a, A: Operand, B: Operand> Task<'a, A, B> {
    /// A product without a place for its results. The shapes have been checked.
    #[track_caller]
    pub(super) fn new(
        level: SimdLevel,
        precision: Precision,
        alpha: f32,
        a: MatRef<'a, A>,
        b: Right<'a, B>,
        beta: f32,
        epilogue: Epilogue<'a, f32>,
    ) -> Self {
        Self {
            level,
            engine: Chosen::new(level, precision, a.cols(), matches!(b, Right::Wide(_))),
            precision,
            alpha,
            a,
            a_padded: false,
            b,
            beta,
            c: std::ptr::null_mut(),
            c_row_stride: 0,
            rounded: None,
            epilogue,
            finish: epilogue.finish(),
            soon: Fetch::default(),
        }
    }

    /// Computes all of C, whose columns are neighbours.
    pub(super) fn run(mut self, c: &mut MatMut<'_, f32>, parallel: bool) {
        debug_assert_eq!((c.rows(), c.cols()), (self.a.rows(), self.b.cols()));
        self.c_row_stride = c.row_stride();
        self.c = c.data_mut().as_mut_ptr();
        if self.a.rows() == 0 || self.b.cols() == 0 {
            return;
        }
        if self.level == SimdLevel::Scalar {
            // SAFETY: C is borrowed.
            return unsafe { self.textbook() };
        }
        match self.engine {
            Chosen::Widening => self.run_widened(parallel),
            #[cfg(target_arch = "x86_64")]
            _ => self.run_engine(parallel),
        }
    }

    /// The textbook product, the meaning of [`SimdLevel::Scalar`].
    ///
    /// # Safety
    /// As [`Task::block`], for all of C.
    unsafe fn textbook(&self) {
        let round = |x: f32| match self.precision {
            Precision::F32 => x,
            Precision::Bf16 => ToBf16::round(x),
            Precision::F16 => ToF16::round(x),
        };
        for i in 0..self.a.rows() {
            for j in 0..self.b.cols() {
                let k = self.a.cols();
                let mut total = 0.0;
                for start in (0..k).step_by(PIECE) {
                    let mut sum = 0.0;
                    for p in start..k.min(start + PIECE) {
                        let b = match self.b {
                            Right::Plain(b) => round(b.at(p, j).widen()),
                            Right::Packed(b) => b.at(p, j).widen(),
                            Right::Wide(b) => b.at(p, j),
                        };
                        sum += round(self.a.at(i, p).widen()) * b;
                    }
                    total += sum;
                }
                let mut value = self.alpha * total;
                // SAFETY: inside C.
                let slot = unsafe { &mut *self.c.add(i * self.c_row_stride + j) };
                if self.beta != 0.0 {
                    value += self.beta * *slot;
                }
                *slot = self.finish.element(value, j);
            }
        }
        let (m, n) = (self.a.rows(), self.b.cols());
        // SAFETY: all of C.
        unsafe {
            self.finish
                .rest(self.level, self.c, m, n, self.c_row_stride)
        };
    }
}
