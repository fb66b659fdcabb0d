//! Weights rearranged for the kernels, made once per version of the parameters and shared by every shard.
//!
//! In its simple form: a table from (parameter, type, orientation) to a buffer, filled by whoever needs it first while the
//! others wait. A change of the parameters empties the table but keeps the memory for the next filling.
//! Known weakness: whoever waits does nothing else; so a filler must be short and must not enter the thread pool.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::params::ParamId;
use crate::buffer::Buffer;
use crate::element::{Element, Real, bf16};

/// How a packed copy is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// In the order of the parameter, for a copy that differs in format or padding.
    AsStored,
    /// Rows and columns exchanged.
    Transposed,
}

const ORIENTATIONS: usize = 2;

#[derive(Debug)]
struct Slot<E: Element> {
    ready: OnceLock<Buffer<E>>,
    spare: Mutex<Option<Buffer<E>>>,
}

/// The copies of one type of number.
#[derive(Debug)]
struct Slots<E: Element>(Vec<Slot<E>>);

impl<E: Element> Slots<E> {
    fn new(params: usize) -> Self {
        let slot = || Slot {
            ready: OnceLock::new(),
            spare: Mutex::new(None),
        };
        Self(
            std::iter::repeat_with(slot)
                .take(params * ORIENTATIONS)
                .collect(),
        )
    }

    #[track_caller]
    fn get(
        &self,
        param: ParamId,
        orientation: Orientation,
        len: usize,
        fill: impl FnOnce(&mut [E]),
    ) -> &[E] {
        let slot = &self.0[param.index() * ORIENTATIONS + orientation as usize];
        let packed = slot.ready.get_or_init(|| {
            let spare = slot
                .spare
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let mut packed = spare
                .filter(|spare| spare.len() == len)
                .unwrap_or_else(|| Buffer::zeroed(len));
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

    fn invalidate(&mut self) {
        for slot in &mut self.0 {
            if let Some(packed) = slot.ready.take() {
                *slot.spare.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(packed);
            }
        }
    }
}

/// Packed copies of parameters. What a copy holds follows from its type alone, so runs on several instruction sets may share
/// parameters.
#[derive(Debug)]
pub struct PackCache<R: Real> {
    full: Slots<R>,
    bf16: Slots<bf16>,
}

impl<R: Real> PackCache<R> {
    pub(super) fn new(params: usize) -> Self {
        Self {
            full: Slots::new(params),
            bf16: Slots::new(params),
        }
    }

    /// The copy of `len` elements in the parameters' own type, row by row, made by `fill` if nobody has yet.
    ///
    /// `fill` gets memory with old contents. It must not enter the thread pool: another task of the pool may be waiting
    /// for this very copy.
    ///
    /// # Panics
    /// The copy was made with another length.
    #[track_caller]
    pub fn full(
        &self,
        param: ParamId,
        orientation: Orientation,
        len: usize,
        fill: impl FnOnce(&mut [R]),
    ) -> &[R] {
        self.full.get(param, orientation, len, fill)
    }

    /// The same in bf16, in panels of pairs, as products of bf16 read them.
    ///
    /// # Panics
    /// The copy was made with another length.
    #[track_caller]
    pub fn bf16_panels(
        &self,
        param: ParamId,
        orientation: Orientation,
        len: usize,
        fill: impl FnOnce(&mut [bf16]),
    ) -> &[bf16] {
        self.bf16.get(param, orientation, len, fill)
    }

    /// Forgets every copy, keeping the memory.
    pub(super) fn invalidate(&mut self) {
        self.full.invalidate();
        self.bf16.invalidate();
    }
}

#[cfg(test)]
mod tests {
    use super::super::init::Init;
    use super::super::params::{Params, ParamsBuilder};
    use super::*;

    #[test]
    fn a_copy_is_made_once_per_version() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let mut params = Params::<f32>::init(&b.build(), 1);
        let mut fills = 0;
        let mut ask = |params: &Params<f32>| {
            let packed = params.packs().full(w, Orientation::Transposed, 6, |out| {
                fills += 1;
                for (i, x) in params.get(w).iter().enumerate() {
                    out[(i % 3) * 2 + i / 3] = *x;
                }
            });
            (packed[1], packed.as_ptr())
        };
        let (value, address) = ask(&params);
        assert_eq!(ask(&params).0, value);
        params.get_mut(w)[3] = 42.0;
        let (value, again) = ask(&params);
        assert_eq!(value, 42.0);
        assert_eq!(address, again, "the memory is used again");
        assert_eq!(fills, 2);
    }

    /// Copies that may be equally long.
    #[test]
    fn types_and_orientations_do_not_share_a_copy() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let params = Params::<f32>::init(&b.build(), 1);
        let packs = params.packs();
        for (turn, value) in [(Orientation::AsStored, 1.0), (Orientation::Transposed, 2.0)] {
            let half = packs.bf16_panels(w, turn, 6, |out| out.fill(bf16::from_f32(value)));
            assert_eq!(half[0].to_f32(), value);
            let full = packs.full(w, turn, 6, |out| out.fill(10.0 * value));
            assert_eq!(full[0], 10.0 * value);
            let again = packs.bf16_panels(w, turn, 6, |_| panic!("it is there"));
            assert_eq!(again[0].to_f32(), value);
        }
    }

    #[test]
    #[should_panic(expected = "made with 6 values and asked for with 8")]
    fn another_length_is_refused() {
        let mut b = ParamsBuilder::new();
        let w = b.trainable("w", [2, 3], Init::Uniform(1.0));
        let params = Params::<f32>::init(&b.build(), 1);
        for len in [6, 8] {
            params.packs().full(w, Orientation::AsStored, len, |_| ());
        }
    }
}
