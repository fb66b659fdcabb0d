//! Weights rounded for the right side of products in sixteen bits.
//!
//! Where the processor multiplies bf16, a weight is packed as those products read it: once for all shards, which share it, or, on a training tape
//! that has the whole batch, by all threads for the op that reads it. Everywhere else the op that reads a weight rounds it into f32,
//! on all threads where it may, and gives that back when it is done: such a step keeps no copy of a weight at all.

use nd_core::autograd::{Orientation, ParamId, StoredRef, Tape};
use nd_core::{Buffer, MemoryPool, Precision, bf16, f16, threads};

use super::blocks::Format;
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;
use crate::matmul::{
    Bf16Engine, MatRef, Operand, PackedBf16, Prepared, pack_bf16_on, packed_bf16_len,
};
use crate::permute::transpose_then;

/// Numbers that one thread rounds at a time.
const PART: usize = 1 << 14;

/// A rounded weight.
pub(crate) enum WeightCopy<'a> {
    /// Packed, for all shards.
    Shared(&'a [bf16]),
    /// Packed, for one op.
    Own(Buffer<bf16>),
    /// The rounded numbers `[k, n]` in f32, for one op.
    Wide(Precision, Buffer<f32>),
}

impl WeightCopy<'_> {
    /// The weight `[k, n]` that [`weight_copy`] was asked for.
    pub(crate) fn view(&self, k: usize, n: usize) -> Prepared<'_> {
        match self {
            Self::Shared(data) => Prepared::Packed(PackedBf16::new(data, k, n)),
            Self::Own(data) => Prepared::Packed(PackedBf16::new(data, k, n)),
            Self::Wide(precision, wide) => {
                Prepared::Wide(*precision, MatRef::row_major(wide, k, n))
            }
        }
    }
}

/// The weight `w [rows, cols]`, or its transpose, rounded for the right side of products.
///
/// A `param` that is read under its own shape is shared.
pub(crate) fn weight_copy<'a, R: SimdReal>(
    tape: &'a Tape<R>,
    precision: Precision,
    orientation: Orientation,
    param: Option<ParamId>,
    w: StoredRef<'_, R>,
    [rows, cols]: [usize; 2],
) -> WeightCopy<'a> {
    let (level, parallel, pool) = (tape.options().simd, tape.parallel(), tape.pool());
    let w = super::stored_f32(w);
    if precision == Precision::F16 {
        let wide = widened::<f16>(level, parallel, pool, orientation, w, [rows, cols]);
        return WeightCopy::Wide(precision, wide);
    }
    if Bf16Engine::at(level) == Bf16Engine::Widen {
        let wide = widened::<bf16>(level, parallel, pool, orientation, w, [rows, cols]);
        return WeightCopy::Wide(precision, wide);
    }
    let (k, n) = match orientation {
        Orientation::AsStored => (rows, cols),
        Orientation::Transposed => (cols, rows),
    };
    let len = packed_bf16_len(k, n);
    let fill = |parallel: bool, out: &mut [bf16]| match w {
        StoredRef::Full(w) => pack(level, parallel, orientation, w, [rows, cols], out),
        StoredRef::Bf16(w) => pack(level, parallel, orientation, w, [rows, cols], out),
        StoredRef::F16(w) => pack(level, parallel, orientation, w, [rows, cols], out),
    };
    // A step that trains on the whole batch reads each copy once.
    let once = parallel && tape.is_recording();
    let shared = param
        .filter(|_| !once)
        .map(|id| (tape.params(), id))
        .filter(|(params, id)| params.layout().entry(*id).shape[..] == [rows, cols]);
    let Some((params, id)) = shared else {
        let mut own = pool.take(len);
        fill(parallel, &mut own);
        return WeightCopy::Own(own);
    };
    // Who waits for it may be in the thread pool: one thread packs.
    let packs = params.packs();
    WeightCopy::Shared(packs.bf16_panels(id, orientation, len, |out| fill(false, out)))
}

/// `w [rows, cols]` or its transpose, rounded to the format, in f32.
fn widened<H: Format>(
    level: SimdLevel,
    parallel: bool,
    pool: &MemoryPool,
    orientation: Orientation,
    w: StoredRef<'_, f32>,
    [rows, cols]: [usize; 2],
) -> Buffer<f32> {
    let mut wide: Buffer<f32> = pool.take(rows * cols);
    match (orientation, H::of(w), w) {
        (Orientation::AsStored, Some(w), _) => {
            threads::for_each_chunk(parallel, &mut wide, PART, |i, wide| {
                H::widen_all(level, &w[i * PART..][..wide.len()], wide);
            });
        }
        (Orientation::AsStored, None, StoredRef::Full(w)) => {
            threads::for_each_chunk(parallel, &mut wide, PART, |i, wide| {
                wide.copy_from_slice(&w[i * PART..][..wide.len()]);
                H::round_all(level, wide);
            });
        }
        (Orientation::Transposed, Some(w), _) => {
            let mut straight: Buffer<f32> = pool.take(w.len());
            threads::for_each_chunk(parallel, &mut straight, PART, |i, wide| {
                H::widen_all(level, &w[i * PART..][..wide.len()], wide);
            });
            transpose_then(level, parallel, &straight, [rows, cols], &mut wide, |_| {});
        }
        (Orientation::Transposed, None, StoredRef::Full(w)) => {
            transpose_then(level, parallel, w, [rows, cols], &mut wide, |wide| {
                H::round_all(level, wide);
            });
        }
        _ => unreachable!("a run has one format"),
    }
    wide
}

fn pack<B: Operand>(
    level: SimdLevel,
    parallel: bool,
    orientation: Orientation,
    w: &[B],
    [rows, cols]: [usize; 2],
    out: &mut [bf16],
) {
    let w = MatRef::row_major(w, rows, cols);
    match orientation {
        Orientation::AsStored => pack_bf16_on(level, parallel, w, out),
        Orientation::Transposed => pack_bf16_on(level, parallel, w.t(), out),
    }
}
