//! What an op must bring, and where recorded ops live.

use std::any::{Any, TypeId};

use super::backward::Backward;
use crate::element::Real;

/// A recorded op: what its backward pass needs, and the backward pass itself.
///
/// There is no default body: an op without a gradient cannot be written. What an op saves beyond its inputs and its
/// output, it owns (a [`super::Stored`], a buffer of the tape's pool); it is dropped as soon as its backward has run.
pub trait Op<R: Real>: Send + 'static {
    /// The op's name in messages and profiles.
    fn name(&self) -> &'static str;

    /// Turns the gradient of the output, [`Backward::dy`], into gradients of the inputs, [`Backward::grad`].
    fn backward(&self, step: &Backward<'_, R>);
}

/// An op in its box, or an empty box that waits for the next op of its type.
pub(super) trait OpBox<R: Real>: Send {
    fn op(&self) -> Option<&dyn Op<R>>;
    fn clear(&mut self);
    fn op_type(&self) -> TypeId;
    fn as_any(&mut self) -> &mut dyn Any;
}

struct Cell<O>(Option<O>);

impl<R: Real, O: Op<R>> OpBox<R> for Cell<O> {
    fn op(&self) -> Option<&dyn Op<R>> {
        self.0.as_ref().map(|op| op as &dyn Op<R>)
    }

    fn clear(&mut self) {
        self.0 = None;
    }

    fn op_type(&self) -> TypeId {
        TypeId::of::<O>()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

type Boxes<R> = Vec<Box<dyn OpBox<R>>>;

/// Empty boxes by op type, so that recording the same ops every step allocates nothing.
pub(super) struct SpareBoxes<R: Real> {
    by_type: Vec<(TypeId, Boxes<R>)>,
}

impl<R: Real> SpareBoxes<R> {
    pub(super) fn new() -> Self {
        Self {
            by_type: Vec::new(),
        }
    }

    pub(super) fn store<O: Op<R>>(&mut self, op: O) -> Box<dyn OpBox<R>> {
        let list = self
            .by_type
            .iter_mut()
            .find(|(ty, _)| *ty == TypeId::of::<O>());
        if let Some(mut spare) = list.and_then(|(_, list)| list.pop())
            && let Some(Cell(slot)) = spare.as_any().downcast_mut::<Cell<O>>()
        {
            *slot = Some(op);
            return spare;
        }
        Box::new(Cell(Some(op)))
    }

    pub(super) fn give_back(&mut self, mut used: Box<dyn OpBox<R>>) {
        used.clear();
        let ty = used.op_type();
        match self.by_type.iter_mut().find(|(t, _)| *t == ty) {
            Some((_, list)) => list.push(used),
            None => self.by_type.push((ty, vec![used])),
        }
    }
}
