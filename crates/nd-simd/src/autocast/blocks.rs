//! Sixteen-bit values in blocks: widened, computed with, rounded.

use std::ops::Range;

use nd_core::autograd::{Stored, StoredRef, Tape, Value};
use nd_core::{Buffer, Element, Precision, bf16, f16, threads};

use crate::convert::{
    bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, round_to_bf16, round_to_f16,
};
use crate::dispatch::SimdLevel;
use crate::lanes::SimdReal;

use super::{as_f32, as_f32_mut};

/// Elements that are widened at a time: three such blocks of f32 stay in the first cache level.
pub(crate) const PART: usize = 4096;

/// f32 numbers of a block of rows of a gradient, which are summed and rounded while they are in the second cache level: 128 KiB.
pub(super) const BLOCK: usize = 32 * 1024;

/// Elements that one task handles: the same whatever the threads.
const TASK: usize = 4 * PART;

/// A sixteen-bit format.
pub(crate) trait Format: Element + crate::matmul::Operand {
    /// Rounds.
    fn narrow_all<R: SimdReal>(level: SimdLevel, wide: &[R], narrow: &mut [Self]);
    /// Exact.
    fn widen_all<R: SimdReal>(level: SimdLevel, narrow: &[Self], wide: &mut [R]);
    /// Rounds, and widens again.
    fn round_all(level: SimdLevel, x: &mut [f32]);
    /// As a value of a tape.
    fn keep<R: SimdReal>(values: Buffer<Self>) -> Stored<R>;
    /// Values of a tape in this format.
    fn of<R: SimdReal>(values: StoredRef<'_, R>) -> Option<&[Self]>;
    /// Values in this format, to be changed.
    fn of_mut<R: SimdReal>(values: &mut Stored<R>) -> Option<&mut [Self]>;
    /// Values in this format.
    fn of_half(values: HalfMut<'_>) -> Option<&mut [Self]>;
}

/// Values in sixteen bits, to be changed.
pub(crate) enum HalfMut<'a> {
    Bf16(&'a mut [bf16]),
    F16(&'a mut [f16]),
}

impl<'a> HalfMut<'a> {
    /// The same for a while.
    pub(crate) fn reborrow(&mut self) -> HalfMut<'_> {
        match self {
            Self::Bf16(values) => HalfMut::Bf16(values),
            Self::F16(values) => HalfMut::F16(values),
        }
    }

    /// Values that are kept in sixteen bits; `None` for others.
    pub(crate) fn of<R: SimdReal>(values: &'a mut Stored<R>) -> Option<Self> {
        match values {
            Stored::Full(_) => None,
            Stored::Bf16(values) => Some(Self::Bf16(values)),
            Stored::F16(values) => Some(Self::F16(values)),
        }
    }
}

macro_rules! format {
    ($type:ty, $variant:ident, $narrow:ident, $widen:ident, $round:ident, $narrow_any:ident, $widen_any:ident) => {
        impl Format for $type {
            #[inline]
            fn narrow_all<R: SimdReal>(level: SimdLevel, wide: &[R], narrow: &mut [Self]) {
                match as_f32(wide) {
                    Some(wide) => $narrow(level, wide, narrow),
                    None => R::$narrow_any(wide, narrow),
                }
            }
            #[inline]
            fn widen_all<R: SimdReal>(level: SimdLevel, narrow: &[Self], wide: &mut [R]) {
                match as_f32_mut(wide) {
                    Some(wide) => $widen(level, narrow, wide),
                    None => R::$widen_any(narrow, wide),
                }
            }
            #[inline]
            fn round_all(level: SimdLevel, x: &mut [f32]) {
                $round(level, x);
            }
            fn keep<R: SimdReal>(values: Buffer<Self>) -> Stored<R> {
                Stored::$variant(values)
            }
            fn of<R: SimdReal>(values: StoredRef<'_, R>) -> Option<&[Self]> {
                match values {
                    StoredRef::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn of_mut<R: SimdReal>(values: &mut Stored<R>) -> Option<&mut [Self]> {
                match values {
                    Stored::$variant(values) => Some(values),
                    _ => None,
                }
            }
            fn of_half(values: HalfMut<'_>) -> Option<&mut [Self]> {
                match values {
                    HalfMut::$variant(values) => Some(values),
                    _ => None,
                }
            }
        }
    };
}

format!(
    bf16,
    Bf16, f32_to_bf16, bf16_to_f32, round_to_bf16, narrow_bf16, widen_bf16
);
format!(
    f16,
    F16, f32_to_f16, f16_to_f32, round_to_f16, narrow_f16, widen_f16
);

/// Room for the blocks of one task.
pub(crate) struct Rooms<R> {
    pub(crate) a: [R; PART],
    pub(crate) b: [R; PART],
}

impl<R: SimdReal> Rooms<R> {
    fn new() -> Self {
        Self {
            a: [R::ZERO; PART],
            b: [R::ZERO; PART],
        }
    }
}

/// Part of a value in the tape's own type: lent, or widened into `room`.
#[inline]
pub(crate) fn read<'a, R: SimdReal>(
    level: SimdLevel,
    x: StoredRef<'a, R>,
    range: Range<usize>,
    room: &'a mut [R],
) -> &'a [R] {
    match x {
        StoredRef::Full(x) => &x[range],
        StoredRef::Bf16(x) => {
            let room = &mut room[..range.len()];
            bf16::widen_all(level, &x[range], room);
            room
        }
        StoredRef::F16(x) => {
            let room = &mut room[..range.len()];
            f16::widen_all(level, &x[range], room);
            room
        }
    }
}

/// All of a value in the tape's own type: lent, or widened into memory of the pool.
pub(crate) fn wide<'a, R: SimdReal>(tape: &'a Tape<R>, x: StoredRef<'a, R>) -> Value<'a, R> {
    let level = tape.options().simd;
    let len = match x {
        StoredRef::Full(x) => return Value::Lent(x),
        StoredRef::Bf16(x) => x.len(),
        StoredRef::F16(x) => x.len(),
    };
    let mut y = tape.scratch(len);
    threads::for_each_chunk(tape.parallel(), &mut y, TASK, |i, y| {
        let part = i * TASK..i * TASK + y.len();
        match x {
            StoredRef::Full(_) => unreachable!("lent just above"),
            StoredRef::Bf16(x) => bf16::widen_all(level, &x[part], y),
            StoredRef::F16(x) => f16::widen_all(level, &x[part], y),
        }
    });
    Value::Widened(y)
}

/// Calls `work` for parts of at most [`PART`] elements of `out`, with the place of the part and room to widen into.
pub(crate) fn for_each_part<R: SimdReal>(
    parallel: bool,
    out: &mut [R],
    work: impl Fn(Range<usize>, &mut [R], &mut Rooms<R>) + Sync,
) {
    threads::for_each_chunk(parallel, out, TASK, |i, out| {
        let mut rooms = Rooms::new();
        for (j, out) in out.chunks_mut(PART).enumerate() {
            let start = i * TASK + j * PART;
            work(start..start + out.len(), out, &mut rooms);
        }
    });
}

/// A new value of `len` elements in `precision`, computed in parts of at most [`PART`] elements: `work` gets the place of the part, where to
/// write it and room to widen into.
pub(crate) fn map_stored<R: SimdReal>(
    tape: &Tape<R>,
    precision: Precision,
    len: usize,
    work: impl Fn(Range<usize>, &mut [R], &mut Rooms<R>) + Sync,
) -> Stored<R> {
    match precision {
        Precision::F32 => {
            let mut y = tape.scratch(len);
            for_each_part(tape.parallel(), &mut y, work);
            Stored::Full(y)
        }
        Precision::Bf16 => map_half::<bf16, R>(tape, len, work),
        Precision::F16 => map_half::<f16, R>(tape, len, work),
    }
}

fn map_half<H: Format, R: SimdReal>(
    tape: &Tape<R>,
    len: usize,
    work: impl Fn(Range<usize>, &mut [R], &mut Rooms<R>) + Sync,
) -> Stored<R> {
    let level = tape.options().simd;
    let mut y: Buffer<H> = tape.pool().take(len);
    // A task zeroes its rooms first: the more it does, the less that counts.
    let task = TASK * (len / TASK / 16).clamp(1, 8);
    threads::for_each_chunk(tape.parallel(), &mut y, task, |i, y| {
        let mut rooms = Rooms::new();
        let mut wide = [R::ZERO; PART];
        for (j, y) in y.chunks_mut(PART).enumerate() {
            let start = i * task + j * PART;
            let wide = &mut wide[..y.len()];
            work(start..start + wide.len(), wide, &mut rooms);
            H::narrow_all(level, wide, y);
        }
    });
    H::keep(y)
}

/// All of a computed value, rounded; the wide buffer goes back to the pool.
pub(crate) fn narrow_all<R: SimdReal>(
    tape: &Tape<R>,
    precision: Precision,
    wide: Buffer<R>,
) -> Stored<R> {
    let level = tape.options().simd;
    match precision {
        Precision::F32 => Stored::Full(wide),
        Precision::Bf16 => Stored::Bf16(narrowed(tape, level, &wide)),
        Precision::F16 => Stored::F16(narrowed(tape, level, &wide)),
    }
}

fn narrowed<H: Format, R: SimdReal>(tape: &Tape<R>, level: SimdLevel, wide: &[R]) -> Buffer<H> {
    let mut y: Buffer<H> = tape.pool().take(wide.len());
    threads::for_each_chunk(tape.parallel(), &mut y, TASK, |i, y| {
        H::narrow_all(level, &wide[i * TASK..i * TASK + y.len()], y);
    });
    y
}
