//! Gradients of the parameters: one flat allocation in the layout of the parameters.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::accumulate::Accumulate;
use super::params::{ParamId, ParamLayout};
use crate::buffer::Buffer;
use crate::element::Real;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has arrived; the memory holds old numbers.
    Untouched,
    /// A gradient has arrived.
    Written,
    /// A kernel is writing.
    Lent,
}

/// The gradients of the trainable parameters of a layout.
///
/// Every parameter's range is lent out separately, so an op can write the gradients of its weight and of its bias in
/// one pass. The first gradient of a parameter writes and later ones add, over all backward passes since
/// [`ParamGrads::clear`]; [`ParamGrads::finish`] zeroes what no gradient has reached.
#[derive(Clone)]
pub struct ParamGrads<R: Real> {
    layout: Arc<ParamLayout>,
    flat: Buffer<R>,
    states: Vec<State>,
}

impl<R: Real> ParamGrads<R> {
    /// Gradients that nothing has reached.
    #[must_use]
    pub fn new(layout: &Arc<ParamLayout>) -> Self {
        Self {
            layout: Arc::clone(layout),
            flat: Buffer::zeroed(layout.trainable_len()),
            states: vec![State::Untouched; layout.entries().len()],
        }
    }

    /// The layout of the parameters.
    #[must_use]
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    /// Forgets every gradient; nothing is written.
    pub fn clear(&mut self) {
        self.states.fill(State::Untouched);
    }

    /// Zeroes the gradients of the parameters that no backward pass has reached, so that [`ParamGrads::flat`] is whole.
    pub fn finish(&mut self) {
        for id in self.layout.ids() {
            let entry = self.layout.entry(id);
            let untouched = self.states[id.index()] == State::Untouched;
            if untouched && entry.tied_to.is_none() && entry.kind.is_trainable() {
                let range = self.layout.range(id);
                self.flat[range].fill(R::ZERO);
                self.states[id.index()] = State::Written;
            }
        }
    }

    /// Whether a gradient has reached a parameter since [`ParamGrads::clear`].
    #[must_use]
    pub fn is_written(&self, id: ParamId) -> bool {
        self.states[self.layout.owner(id).index()] == State::Written
    }

    /// Every gradient, gaps (zero) included; call [`ParamGrads::finish`] first.
    #[must_use]
    pub fn flat(&self) -> &[R] {
        &self.flat
    }

    /// Every gradient, gaps included; the gaps must stay zero.
    pub fn flat_mut(&mut self) -> &mut [R] {
        &mut self.flat
    }

    /// The gradient of one parameter.
    #[must_use]
    pub fn get(&self, id: ParamId) -> &[R] {
        &self.flat[self.layout.range(id)]
    }

    /// Splits the gradients so that each parameter's range can be lent by itself.
    pub(super) fn lending(&mut self) -> Lending<'_, R> {
        Lending {
            layout: &self.layout,
            start: self.flat.as_mut_ptr(),
            states: Cell::from_mut(self.states.as_mut_slice()).as_slice_of_cells(),
            flat: PhantomData,
        }
    }
}

/// The gradients during a backward pass: each parameter's range is lent at most once at a time.
pub(super) struct Lending<'a, R: Real> {
    layout: &'a ParamLayout,
    start: *mut R,
    states: &'a [Cell<State>],
    flat: PhantomData<&'a mut [R]>,
}

impl<R: Real> Lending<'_, R> {
    /// Lends one parameter's gradient to a kernel.
    ///
    /// # Panics
    /// It is lent already, or the parameter is not trainable.
    #[track_caller]
    pub(super) fn lend(&self, id: ParamId) -> (Accumulate, LentGrad<'_, R>) {
        let id = self.layout.owner(id);
        let entry = self.layout.entry(id);
        assert!(
            entry.kind.is_trainable(),
            "{} is not trainable and has no gradient",
            entry.name
        );
        let state = &self.states[id.index()];
        let accumulate = match state.get() {
            State::Untouched => Accumulate::Write,
            State::Written => Accumulate::Add,
            State::Lent => panic!(
                "the gradient of {} was asked for twice at once: take one after the other",
                entry.name
            ),
        };
        state.set(State::Lent);
        let range = self.layout.range(id);
        // SAFETY: `start` is the beginning of the flat gradients, which `self` borrows mutably for its whole life; the
        // range of a trainable parameter lies within them; ranges of different owners are disjoint, and the state just
        // set keeps this one from being lent again until the loan is dropped.
        let values =
            unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) };
        (accumulate, LentGrad { values, state })
    }
}

/// One parameter's gradient, on loan to a kernel.
pub(super) struct LentGrad<'a, R: Real> {
    values: &'a mut [R],
    state: &'a Cell<State>,
}

impl<R: Real> Deref for LentGrad<'_, R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        self.values
    }
}

impl<R: Real> DerefMut for LentGrad<'_, R> {
    fn deref_mut(&mut self) -> &mut [R] {
        self.values
    }
}

impl<R: Real> Drop for LentGrad<'_, R> {
    fn drop(&mut self) {
        self.state.set(State::Written);
    }
}

impl<R: Real> std::fmt::Debug for ParamGrads<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParamGrads")
            .field("flat", &self.flat)
            .finish_non_exhaustive()
    }
}
