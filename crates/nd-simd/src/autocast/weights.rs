//! Weights rounded once, for the right side of products in sixteen bits.

use nd_core::autograd::{Orientation, Packed, ParamId, Params, StoredRef};
use nd_core::{MemoryPool, Precision, bf16, f16};

use super::blocks::Format;
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::matmul::{
    Epilogue, MatMut, MatRef, Operand, PackedBf16, multiply_half, multiply_half_parallel,
    multiply_packed, multiply_packed_parallel, pack_bf16, packed_bf16_len,
};

/// A weight `[k, n]` in the form that products take on the right.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HalfWeight<'a> {
    Bf16(PackedBf16<'a>),
    F16(MatRef<'a, f16>),
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
            (Self::F16(b), false) => {
                multiply_half(level, Precision::F16, 1.0, a, b, beta, c, epilogue);
            }
            (Self::F16(b), true) => {
                multiply_half_parallel(level, Precision::F16, 1.0, a, b, beta, c, epilogue);
            }
        }
    }
}

/// A rounded weight: the one that all shards share, or a copy of a value that is no parameter.
pub(crate) enum WeightCopy<'a, R: SimdReal> {
    Shared(&'a Packed<R>),
    Own(Packed<R>),
}

impl<R: SimdReal> WeightCopy<'_, R> {
    /// The weight `[k, n]` that [`weight_copy`] was asked for.
    pub(crate) fn view(&self, orientation: Orientation, k: usize, n: usize) -> HalfWeight<'_> {
        let packed = match self {
            Self::Shared(packed) => packed,
            Self::Own(packed) => packed,
        };
        match packed {
            Packed::Bf16(data) => HalfWeight::Bf16(PackedBf16::new(data, k, n)),
            Packed::F16(data) => HalfWeight::F16(match orientation {
                Orientation::AsStored => MatRef::row_major(data, k, n),
                Orientation::Transposed => MatRef::row_major(data, n, k).t(),
            }),
            Packed::Full(_) => unreachable!("copies of weights are made in sixteen bits"),
        }
    }
}

/// The weight `w [rows, cols]`, or its transpose, in sixteen bits for the right side of products.
///
/// bf16 is packed for each orientation; f16 is kept once, in the order of the weight.
pub(crate) fn weight_copy<'a, R: SimdReal>(
    level: SimdLevel,
    params: Option<(&'a Params<R>, ParamId)>,
    pool: &MemoryPool,
    precision: Precision,
    orientation: Orientation,
    w: StoredRef<'_, R>,
    [rows, cols]: [usize; 2],
) -> WeightCopy<'a, R> {
    let (kept, len) = match precision {
        Precision::F16 => (Orientation::AsStored, rows * cols),
        _ => match orientation {
            Orientation::AsStored => (orientation, packed_bf16_len(rows, cols)),
            Orientation::Transposed => (orientation, packed_bf16_len(cols, rows)),
        },
    };
    let w = super::stored_f32(w);
    let fill = |packed: &mut Packed<R>| match packed {
        Packed::Bf16(out) => match w {
            StoredRef::Full(w) => pack(level, kept, w, rows, cols, out),
            StoredRef::Bf16(w) => pack(level, kept, w, rows, cols, out),
            StoredRef::F16(w) => pack(level, kept, w, rows, cols, out),
        },
        Packed::F16(out) => match w {
            StoredRef::Full(w) => f16::narrow_all(level, w, out),
            StoredRef::F16(w) => out.copy_from_slice(w),
            StoredRef::Bf16(_) => unreachable!("a run has one format"),
        },
        Packed::Full(_) => unreachable!("copies of weights are made in sixteen bits"),
    };
    match params {
        Some((params, id)) => {
            WeightCopy::Shared(params.packs().get(id, kept, precision, len, fill))
        }
        None => {
            let mut packed = match precision {
                Precision::F16 => Packed::F16(pool.take(len)),
                _ => Packed::Bf16(pool.take(len)),
            };
            fill(&mut packed);
            WeightCopy::Own(packed)
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
