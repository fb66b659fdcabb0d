//! Weights rounded once, for the right side of products in sixteen bits.
//!
//! All shards share the rounded weight. Where the processor has no arithmetic for the format, each op that reads a weight also widens it, once for
//! all its products: a step keeps sixteen bits of each weight, and 32 of the one that is read at the moment.

use nd_core::autograd::{Layout, Orientation, Packed, ParamId, Params, StoredRef};
use nd_core::{Buffer, MemoryPool, Precision, bf16, threads};

use super::blocks::Format;
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::matmul::{
    Bf16Engine, Epilogue, MatMut, MatRef, Operand, PackedBf16, multiply_packed,
    multiply_packed_parallel, multiply_wide, pack_bf16, packed_bf16_len,
};
use crate::permute::transpose;

/// Numbers that one thread widens at a time.
const PART: usize = 1 << 14;

/// A weight `[k, n]` in the form that products take on the right.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HalfWeight<'a> {
    /// Packed for the arithmetic of bf16.
    Bf16(PackedBf16<'a>),
    /// Numbers of a format without arithmetic, widened.
    Wide(Precision, MatRef<'a, f32>),
}

impl HalfWeight<'_> {
    /// `C = A B + beta C`, bias and activation.
    #[track_caller]
    pub(crate) fn multiply<A: Operand>(
        &self,
        level: SimdLevel,
        parallel: bool,
        a: MatRef<'_, A>,
        beta: f32,
        c: MatMut<'_, f32>,
        epilogue: Epilogue<'_, f32>,
    ) {
        match (*self, parallel) {
            (Self::Bf16(b), false) => multiply_packed(level, 1.0, a, b, beta, c, epilogue),
            (Self::Bf16(b), true) => multiply_packed_parallel(level, 1.0, a, b, beta, c, epilogue),
            (Self::Wide(precision, b), _) => {
                multiply_wide(level, precision, parallel, a, b, beta, c, epilogue);
            }
        }
    }
}

/// A rounded weight.
pub(crate) struct WeightCopy<'a, R: SimdReal> {
    rounded: Rounded<'a, R>,
    /// The same numbers `[k, n]` in f32, where there is no arithmetic for the format.
    wide: Option<Buffer<f32>>,
}

/// The one that all shards share, or a copy of a value that is no parameter.
enum Rounded<'a, R: SimdReal> {
    Shared(&'a Packed<R>),
    Own(Packed<R>),
}

impl<R: SimdReal> Rounded<'_, R> {
    fn packed(&self) -> &Packed<R> {
        match self {
            Self::Shared(packed) => packed,
            Self::Own(packed) => packed,
        }
    }
}

impl<R: SimdReal> WeightCopy<'_, R> {
    /// The weight `[k, n]` that [`weight_copy`] was asked for.
    pub(crate) fn view(&self, k: usize, n: usize) -> HalfWeight<'_> {
        match (self.rounded.packed(), &self.wide) {
            (Packed::Bf16(_), Some(wide)) => {
                HalfWeight::Wide(Precision::Bf16, MatRef::row_major(wide, k, n))
            }
            (Packed::Bf16(data), None) => HalfWeight::Bf16(PackedBf16::new(data, k, n)),
            (Packed::F16(_), Some(wide)) => {
                HalfWeight::Wide(Precision::F16, MatRef::row_major(wide, k, n))
            }
            (Packed::F16(_), None) => unreachable!("f16 has no arithmetic and is widened"),
            (Packed::Full(_), _) => unreachable!("copies of weights are made in sixteen bits"),
        }
    }
}

/// The weight `w [rows, cols]`, or its transpose, in sixteen bits for the right side of products.
pub(crate) fn weight_copy<'a, R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    params: Option<(&'a Params<R>, ParamId)>,
    pool: &MemoryPool,
    precision: Precision,
    orientation: Orientation,
    w: StoredRef<'_, R>,
    [rows, cols]: [usize; 2],
) -> WeightCopy<'a, R> {
    let (k, n) = match orientation {
        Orientation::AsStored => (rows, cols),
        Orientation::Transposed => (cols, rows),
    };
    // Without arithmetic for the format, products read the numbers row by row.
    let plain = precision == Precision::F16 || Bf16Engine::at(level) == Bf16Engine::Widen;
    let (layout, len) = if plain {
        (Layout::Rows, k * n)
    } else {
        (Layout::Panels, packed_bf16_len(k, n))
    };
    let w = super::stored_f32(w);
    let fill = |packed: &mut Packed<R>| match packed {
        Packed::Bf16(out) if plain => narrow(level, pool, orientation, w, [rows, cols], out),
        Packed::Bf16(out) => match w {
            StoredRef::Full(w) => pack(level, orientation, w, rows, cols, out),
            StoredRef::Bf16(w) => pack(level, orientation, w, rows, cols, out),
            StoredRef::F16(w) => pack(level, orientation, w, rows, cols, out),
        },
        Packed::F16(out) => narrow(level, pool, orientation, w, [rows, cols], out),
        Packed::Full(_) => unreachable!("copies of weights are made in sixteen bits"),
    };
    let rounded = match params {
        Some((params, id)) => {
            let packs = params.packs();
            Rounded::Shared(packs.get(id, orientation, layout, precision, len, fill))
        }
        None => {
            let mut packed = match precision {
                Precision::F16 => Packed::F16(pool.take(len)),
                _ => Packed::Bf16(pool.take(len)),
            };
            fill(&mut packed);
            Rounded::Own(packed)
        }
    };
    let wide = match rounded.packed() {
        Packed::Bf16(data) if plain => Some(widened(level, parallel, pool, data)),
        Packed::Bf16(_) => None,
        Packed::F16(data) => Some(widened(level, parallel, pool, data)),
        Packed::Full(_) => unreachable!("copies of weights are made in sixteen bits"),
    };
    WeightCopy { rounded, wide }
}

/// Numbers of sixteen bits as f32.
fn widened<H: Format>(
    level: SimdLevel,
    parallel: bool,
    pool: &MemoryPool,
    data: &[H],
) -> Buffer<f32> {
    let mut wide: Buffer<f32> = pool.take(data.len());
    threads::for_each_chunk(parallel, &mut wide, PART, |i, wide| {
        H::widen_all(level, &data[i * PART..][..wide.len()], wide);
    });
    wide
}

/// `w [rows, cols]` or its transpose, rounded.
fn narrow<H: Format>(
    level: SimdLevel,
    pool: &MemoryPool,
    orientation: Orientation,
    w: StoredRef<'_, f32>,
    [rows, cols]: [usize; 2],
    out: &mut [H],
) {
    let mut room: Buffer<f32>;
    let w = match (H::of(w), w) {
        (_, StoredRef::Full(w)) => w,
        (Some(w), _) => {
            room = pool.take(w.len());
            H::widen_all(level, w, &mut room);
            &room
        }
        _ => unreachable!("a run has one format"),
    };
    match orientation {
        Orientation::AsStored => H::narrow_all(level, w, out),
        Orientation::Transposed => {
            let mut turned: Buffer<f32> = pool.take(w.len());
            transpose(level, w, rows, cols, &mut turned);
            H::narrow_all(level, &turned, out);
        }
    }
}

fn pack<B: Operand>(
    level: SimdLevel,
    orientation: Orientation,
    w: &[B],
    rows: usize,
    cols: usize,
    out: &mut [bf16],
) {
    let w = MatRef::row_major(w, rows, cols);
    match orientation {
        Orientation::AsStored => pack_bf16(level, w, out),
        Orientation::Transposed => pack_bf16(level, w.t(), out),
    }
}
