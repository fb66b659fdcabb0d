//! A value on a tape.

use super::stored::{StoredRef, Value};
use super::tape::{NodeId, Tape};
use crate::element::Real;
use crate::shape::Shape;

/// A value on a tape: two words, copied freely, gone with the step.
///
/// Ops are methods brought by extension traits of the kernel crates.
#[derive(Clone, Copy)]
pub struct Var<'t, R: Real = f32> {
    tape: &'t Tape<R>,
    id: NodeId,
}

impl<'t, R: Real> Var<'t, R> {
    pub(super) fn new(tape: &'t Tape<R>, id: NodeId) -> Self {
        Self { tape, id }
    }

    /// The tape it is on.
    #[must_use]
    pub fn tape(self) -> &'t Tape<R> {
        self.tape
    }

    /// Its place on the tape; what an op keeps of its inputs.
    #[must_use]
    pub fn id(self) -> NodeId {
        self.id
    }

    /// Its shape.
    #[must_use]
    pub fn shape(self) -> Shape {
        self.tape.shape(self.id)
    }

    /// Its values, row-major.
    #[must_use]
    #[track_caller]
    pub fn value(self) -> Value<'t, R> {
        self.tape.value(self.id)
    }

    /// Its values in the format they are kept in, row-major; for ops that work on sixteen bits directly.
    #[must_use]
    #[track_caller]
    pub fn stored(self) -> StoredRef<'t, R> {
        self.tape.stored(self.id)
    }

    /// Whether a backward pass brings a gradient here.
    #[must_use]
    pub fn requires_grad(self) -> bool {
        self.tape.node(self.id).requires_grad
    }

    /// Whether both are the same value, perhaps under other shapes, and so have one gradient.
    #[must_use]
    pub fn shares_value_with(self, other: Self) -> bool {
        self.tape.resolve(self.id) == self.tape.resolve(other.id)
    }

    /// The parameter that this node is, if it is one.
    #[must_use]
    pub fn param_id(self) -> Option<super::ParamId> {
        match self.tape.node(self.id).value {
            super::tape::NodeValue::Param(id) => Some(id),
            _ => None,
        }
    }

    /// The same values under another shape, without a copy; gradients flow through.
    ///
    /// # Panics
    /// The shapes differ in their number of elements.
    #[must_use]
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Self {
        self.tape.alias(self.id, shape.into())
    }
}

impl<R: Real> std::fmt::Debug for Var<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var({:?}, {})", self.id, self.shape())
    }
}
