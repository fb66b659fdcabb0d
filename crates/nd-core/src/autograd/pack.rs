//! Weights rearranged for the kernels, made once per version of the parameters and shared by every shard.
//!
//! In its simple form: a table from (parameter, arrangement) to a buffer, filled by whoever needs it first while the
//! others wait. A change of the parameters empties the table but keeps the memory for the next filling.
//! Known weakness: whoever waits does nothing else; so a filler must be short and must not enter the thread pool.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::params::ParamId;
use crate::buffer::Buffer;
use crate::element::{Real, bf16, f16};
use crate::options::Precision;

/// How a packed copy is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// In the order of the parameter, for a copy that differs in precision or padding.
    AsStored,
    /// Rows and columns exchanged.
    Transposed,
}

/// In which order a packed copy holds its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Row by row.
    Rows,
    /// In panels of pairs, as the products of bf16 read them. Which layout a run takes depends on its instruction set, and runs on
    /// several may share parameters.
    Panels,
}

/// The values of a packed copy.
#[derive(Debug)]
pub enum Packed<R: Real> {
    /// In the parameters' own type.
    Full(Buffer<R>),
    /// In bf16.
    Bf16(Buffer<bf16>),
    /// In f16.
    F16(Buffer<f16>),
}

impl<R: Real> Packed<R> {
    fn zeroed(precision: Precision, len: usize) -> Self {
        match precision {
            Precision::F32 => Self::Full(Buffer::zeroed(len)),
            Precision::Bf16 => Self::Bf16(Buffer::zeroed(len)),
            Precision::F16 => Self::F16(Buffer::zeroed(len)),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Full(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::F16(values) => values.len(),
        }
    }

    /// The values in the parameters' own type.
    ///
    /// # Panics
    /// The copy was made in half precision.
    #[must_use]
    #[track_caller]
    pub fn full(&self) -> &[R] {
        match self {
            Self::Full(values) => values,
            Self::Bf16(_) => panic!("this packed copy holds bf16 values, not {}", R::DTYPE),
            Self::F16(_) => panic!("this packed copy holds f16 values, not {}", R::DTYPE),
        }
    }
}

#[derive(Debug)]
struct Slot<R: Real> {
    ready: OnceLock<Packed<R>>,
    spare: Mutex<Option<Packed<R>>>,
}

/// Two orientations in two layouts and three precisions.
const SLOTS_PER_PARAM: usize = 12;

/// Packed copies of parameters.
#[derive(Debug)]
pub struct PackCache<R: Real> {
    slots: Vec<Slot<R>>,
}

impl<R: Real> PackCache<R> {
    pub(super) fn new(params: usize) -> Self {
        let slots = (0..params * SLOTS_PER_PARAM)
            .map(|_| Slot {
                ready: OnceLock::new(),
                spare: Mutex::new(None),
            })
            .collect();
        Self { slots }
    }

    /// The packed copy of `len` elements, made by `fill` if nobody has yet.
    ///
    /// `fill` gets memory with old contents. It must not enter the thread pool: another task of the pool may be waiting
    /// for this very copy.
    ///
    /// # Panics
    /// The copy was made with another length.
    #[track_caller]
    pub fn get(
        &self,
        param: ParamId,
        orientation: Orientation,
        layout: Layout,
        precision: Precision,
        len: usize,
        fill: impl FnOnce(&mut Packed<R>),
    ) -> &Packed<R> {
        let place = (orientation as usize * 2 + layout as usize) * 3 + precision as usize;
        let slot = &self.slots[param.index() * SLOTS_PER_PARAM + place];
        let packed = slot.ready.get_or_init(|| {
            let spare = slot
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let mut packed = spare
                .filter(|spare| spare.len() == len)
                .unwrap_or_else(|| Packed::zeroed(precision, len));
            fill(&mut packed);
            packed
        });
        let found = packed.len();
        assert!(
            found == len,
            "a copy of parameter {param:?} was made with {found} values and asked for with {len}"
        );
        packed
    }

    /// Forgets every copy, keeping the memory.
    pub(super) fn invalidate(&mut self) {
        for slot in &mut self.slots {
            if let Some(packed) = slot.ready.take() {
                *slot.spare.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(packed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::{Init, Params, ParamsBuilder};
    use super::*;

    #[test]
    fn a_copy_is_made_once_per_version() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let mut params = Params::<f32>::init(&b.build(), 1);
        let mut fills = 0;
        let mut ask = |params: &Params<f32>| {
            let packed = params.packs().get(
                w,
                Orientation::Transposed,
                Layout::Rows,
                Precision::F32,
                6,
                |out| {
                    fills += 1;
                    let Packed::Full(out) = out else {
                        panic!("full precision was asked for")
                    };
                    for (i, x) in params.get(w).iter().enumerate() {
                        out[(i % 3) * 2 + i / 3] = *x;
                    }
                },
            );
            (packed.full()[1], packed.full().as_ptr())
        };
        let (value, address) = ask(&params);
        assert_eq!(ask(&params).0, value);
        params.get_mut(w)[3] = 42.0;
        let (value, again) = ask(&params);
        assert_eq!(value, 42.0);
        assert_eq!(address, again, "the memory is used again");
        assert_eq!(fills, 2);
    }

    /// A run on another instruction set reads another layout of the same weight, though both may be equally long.
    #[test]
    fn layouts_do_not_share_a_copy() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let params = Params::<f32>::init(&b.build(), 1);
        let filled_with = |layout, value| {
            let fill = |out: &mut Packed<f32>| {
                if let Packed::Bf16(out) = out {
                    out.fill(bf16::from_f32(value));
                }
            };
            let copy =
                params
                    .packs()
                    .get(w, Orientation::AsStored, layout, Precision::Bf16, 6, fill);
            let Packed::Bf16(values) = copy else {
                panic!("bf16 was asked for")
            };
            values[0].to_f32()
        };
        assert_eq!(filled_with(Layout::Panels, 1.0), 1.0);
        assert_eq!(filled_with(Layout::Rows, 2.0), 2.0);
        assert_eq!(filled_with(Layout::Panels, 3.0), 1.0);
    }

    #[test]
    #[should_panic(expected = "made with 6 values and asked for with 8")]
    fn another_length_is_refused() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let params = Params::<f32>::init(&b.build(), 1);
        for len in [6, 8] {
            let (turn, layout) = (Orientation::AsStored, Layout::Rows);
            params
                .packs()
                .get(w, turn, layout, Precision::F32, len, |_| ());
        }
    }
}
