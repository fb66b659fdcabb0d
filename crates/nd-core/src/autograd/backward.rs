//! The backward pass.
//!
//! In its simple form: walk the tape from the end, and let each op turn the gradient of its output into gradients of
//! its inputs. The first gradient to arrive at a node writes, later ones add. Values and gradients go back to the pool
//! as soon as the walk has passed them, so memory falls from the first op on.

use std::cell::{Cell, OnceCell, RefMut};
use std::ops::{Deref, DerefMut};

use super::accumulate::Accumulate;
use super::grads::{Lending, LentGrad, ParamGrads};
use super::op::Op;
use super::stored::{PART, Stored, StoredRef, Value};
use super::tape::{NodeId, NodeValue, Tape};
use crate::buffer::Buffer;
use crate::element::Real;
use crate::options::{Precision, RunOptions};
use crate::pool::MemoryPool;
use crate::shape::Shape;
use crate::threads;

/// The gradient of a node: none until the first contribution.
pub(super) struct GradSlot<R: Real>(Option<Stored<R>>);

impl<R: Real> GradSlot<R> {
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// The gradient in the tape's own type, made by `first` if there is none.
    fn full(
        &mut self,
        parallel: bool,
        pool: &MemoryPool,
        first: impl FnOnce() -> Buffer<R>,
    ) -> &mut Buffer<R> {
        let stored = self.0.get_or_insert_with(|| Stored::Full(first()));
        if let Value::Widened(wide) = stored.load_on(parallel, pool) {
            *stored = Stored::Full(wide);
        }
        match stored {
            Stored::Full(values) => values,
            _ => unreachable!("widened just above"),
        }
    }
}

/// What an op's backward pass works with.
pub struct Backward<'a, R: Real> {
    tape: &'a Tape<R>,
    params: Option<&'a Lending<'a, R>>,
    node: NodeId,
    dy: &'a Stored<R>,
    /// `dy` in the tape's own type, made when an op asks for it.
    wide: &'a OnceCell<Buffer<R>>,
    passed: Cell<Option<NodeId>>,
}

impl<'a, R: Real> Backward<'a, R> {
    /// The gradient of the op's output.
    #[must_use]
    pub fn dy(&self) -> &'a [R] {
        match self.dy {
            Stored::Full(dy) => dy,
            half => self
                .wide
                .get_or_init(|| match half.load_on(self.parallel(), self.pool()) {
                    Value::Widened(wide) => wide,
                    Value::Lent(_) => unreachable!("sixteen bits are widened"),
                }),
        }
    }

    /// The gradient of the op's output in the format it is kept in.
    #[must_use]
    pub fn stored_dy(&self) -> StoredRef<'a, R> {
        self.dy.view()
    }

    /// The op's output.
    #[must_use]
    pub fn y(&self) -> Value<'a, R> {
        self.tape.value(self.node)
    }

    /// The value of an input.
    #[must_use]
    pub fn value(&self, id: NodeId) -> Value<'a, R> {
        self.tape.value(id)
    }

    /// The value of an input in the format it is kept in.
    #[must_use]
    pub fn stored(&self, id: NodeId) -> StoredRef<'a, R> {
        self.tape.stored(id)
    }

    /// The op's output in the format it is kept in.
    #[must_use]
    pub fn stored_y(&self) -> StoredRef<'a, R> {
        self.tape.stored(self.node)
    }

    /// The shape of an input or of the output.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> Shape {
        self.tape.shape(id)
    }

    /// The parameter that an input is, if it is one.
    #[must_use]
    pub fn param_id(&self, id: NodeId) -> Option<super::ParamId> {
        match self.tape.node(id).value {
            NodeValue::Param(id) => Some(id),
            _ => None,
        }
    }

    /// The tape, for its parameters, its pool and its options.
    #[must_use]
    pub fn tape(&self) -> &'a Tape<R> {
        self.tape
    }

    /// The choices of the run.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        self.tape.options()
    }

    /// Whether the op may split its work over the threads of the pool it runs in.
    #[must_use]
    pub fn parallel(&self) -> bool {
        self.tape.parallel()
    }

    /// The pool of the tape's buffers.
    #[must_use]
    pub fn pool(&self) -> &'a MemoryPool {
        self.tape.pool()
    }

    /// A buffer of the pool with whatever contents the memory has.
    #[must_use]
    pub fn scratch(&self, len: usize) -> Buffer<R> {
        self.tape.scratch(len)
    }

    /// Whether an input takes a gradient.
    #[must_use]
    pub fn wants(&self, id: NodeId) -> bool {
        self.tape.node(id).requires_grad
    }

    /// The gradient of an input, to be written or added to as [`Grad::accumulate`] says; `None` when it takes none.
    ///
    /// Gradients of different inputs can be held at the same time. Of two inputs that are the same node (`x * x`), take
    /// one after the other.
    ///
    /// # Panics
    /// The same gradient is held already.
    #[must_use]
    #[track_caller]
    pub fn grad(&self, id: NodeId) -> Option<Grad<'_, R>> {
        let id = self.tape.resolve(id);
        let node = self.tape.node(id);
        if !node.requires_grad {
            return None;
        }
        if let NodeValue::Param(param) = node.value {
            let params = self
                .params
                .expect("a backward pass through parameters has their gradients");
            let (accumulate, lent) = params.lend(param);
            return Some(Grad {
                accumulate,
                values: GradValues::Param(lent),
            });
        }
        let Ok(slot) = self.tape.slots[id.index()].try_borrow_mut() else {
            panic!(
                "the gradient of one input was asked for twice at once: take one after the other"
            );
        };
        let accumulate = if slot.0.is_some() {
            Accumulate::Add
        } else {
            Accumulate::Write
        };
        let values = RefMut::map(slot, |slot| {
            let first = || self.tape.scratch(node.shape.numel());
            slot.full(self.parallel(), self.pool(), first)
        });
        Some(Grad {
            accumulate,
            values: GradValues::Node(values),
        })
    }

    /// The format in which the gradient of an input may be given, through [`Backward::give`], rather than written through
    /// [`Backward::grad`]: that of the input, when it is kept in sixteen bits, takes a gradient and has none yet.
    #[must_use]
    pub fn takes_half(&self, id: NodeId) -> Option<Precision> {
        let id = self.tape.resolve(id);
        let node = self.tape.node(id);
        let NodeValue::Own(value) = &node.value else {
            return None;
        };
        let precision = value.view().precision();
        // A value without an op is one whose gradient is read after the pass, in the tape's own type.
        let free = node.requires_grad
            && node.op.is_some()
            && self.passed.get() != Some(id)
            && self.tape.slots[id.index()].borrow().0.is_none();
        (free && precision != Precision::F32).then_some(precision)
    }

    /// Gives an input its first gradient, in the format that [`Backward::takes_half`] named.
    ///
    /// # Panics
    /// There is a gradient already, or the number of values is not that of the input.
    #[track_caller]
    pub fn give(&self, id: NodeId, gradient: Stored<R>) {
        let id = self.tape.resolve(id);
        let shape = self.tape.node(id).shape;
        assert_eq!(
            gradient.len(),
            shape.numel(),
            "values of the gradient of an input of shape {shape}"
        );
        let slot = &mut self.tape.slots[id.index()].borrow_mut().0;
        assert!(
            slot.is_none(),
            "a gradient was given to an input that has one: add to it"
        );
        *slot = Some(gradient);
    }

    /// The gradient of an input that is there already and kept in sixteen bits; what is added to it is rounded with it.
    ///
    /// `None` where there is no gradient yet, where it or the input itself is in the tape's own type, and where it is read after the pass.
    #[must_use]
    pub fn half_grad(&self, id: NodeId) -> Option<RefMut<'_, Stored<R>>> {
        let id = self.tape.resolve(id);
        let node = self.tape.node(id);
        // A gradient in sixteen bits may have been passed on to an input in the tape's own type; its sums are not rounded.
        let in_half = matches!(&node.value, NodeValue::Own(value) if value.view().precision() != Precision::F32);
        if !in_half || !node.requires_grad || node.op.is_none() || self.passed.get() == Some(id) {
            return None;
        }
        let slot = self.tape.slots[id.index()].try_borrow_mut().ok()?;
        RefMut::filter_map(slot, |slot| {
            slot.0
                .as_mut()
                .filter(|there| there.view().precision() != Precision::F32)
        })
        .ok()
    }

    /// Hands the output's gradient on to an input unchanged, without a copy where that can be.
    ///
    /// # Panics
    /// The input has another number of elements.
    #[track_caller]
    pub fn pass(&self, id: NodeId) {
        let id = self.tape.resolve(id);
        let node = self.tape.node(id);
        assert_eq!(
            node.shape.numel(),
            self.dy.len(),
            "elements of an input that takes dy as it is"
        );
        if !node.requires_grad {
            return;
        }
        // As in `takes_half`: what is read after the pass is in the tape's own type.
        let free = match node.value {
            NodeValue::Param(_) => false,
            _ => node.op.is_some() || matches!(self.dy, Stored::Full(_)),
        };
        if free && self.passed.get().is_none() && self.tape.slots[id.index()].borrow().0.is_none() {
            self.passed.set(Some(id));
        } else if let Some(mut grad) = self.grad(id) {
            let accumulate = grad.accumulate;
            for (slot, &value) in grad.iter_mut().zip(self.dy()) {
                accumulate.store(slot, value);
            }
        }
    }
}

/// The gradient of an input; dereferences to its values.
pub struct Grad<'a, R: Real> {
    /// Whether to write or to add.
    pub accumulate: Accumulate,
    values: GradValues<'a, R>,
}

enum GradValues<'a, R: Real> {
    Node(RefMut<'a, Buffer<R>>),
    Param(LentGrad<'a, R>),
}

impl<R: Real> Deref for Grad<'_, R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        match &self.values {
            GradValues::Node(values) => values,
            GradValues::Param(values) => values,
        }
    }
}

impl<R: Real> DerefMut for Grad<'_, R> {
    fn deref_mut(&mut self) -> &mut [R] {
        match &mut self.values {
            GradValues::Node(values) => values,
            GradValues::Param(values) => values,
        }
    }
}

impl<R: Real> Tape<R> {
    /// Walks back from `root`, whose gradient is `dy`.
    ///
    /// Gradients of parameters are written into `grads` or added to what is there; those of [`Tape::variable`]s stay
    /// until the next step ([`Tape::gradient`]); all other values and gradients are given back on the way.
    ///
    /// # Panics
    /// `dy` has not the shape of the root; the tape has parameters that take gradients but `grads` is `None`, or `grads`
    /// is of another layout.
    #[track_caller]
    pub fn backward(&mut self, root: NodeId, dy: Buffer<R>, grads: Option<&mut ParamGrads<R>>) {
        let shape = self.shape(root);
        assert_eq!(
            shape.numel(),
            dy.len(),
            "elements of dy for a root of shape {shape}"
        );
        if let (Some(grads), Some(params)) = (&grads, &self.context().params) {
            let same = std::sync::Arc::ptr_eq(grads.layout(), params.layout())
                || grads.layout() == params.layout();
            assert!(
                same,
                "the gradients have the layout of the step's parameters"
            );
        }
        let root = self.resolve(root);
        let missing = (root.index() + 1).saturating_sub(self.slots.len());
        self.slots
            .extend((0..missing).map(|_| std::cell::RefCell::new(GradSlot(None))));
        if !self.node(root).requires_grad {
            return;
        }
        self.slots[root.index()].get_mut().0 = Some(Stored::Full(dy));
        let lending = grads.map(ParamGrads::lending);
        for index in (0..=root.index()).rev() {
            let Some(used) = self.nodes.get_mut(index).op.take() else {
                continue;
            };
            if let (Some(dy), Some(op)) = (self.slots[index].get_mut().0.take(), used.op()) {
                self.step_back(NodeId::new(index), dy, op, lending.as_ref());
            }
            self.spares.get_mut().give_back(used);
            self.nodes.get_mut(index).value = NodeValue::Freed;
        }
    }

    fn step_back(
        &mut self,
        node: NodeId,
        dy: Stored<R>,
        op: &dyn Op<R>,
        params: Option<&Lending<'_, R>>,
    ) {
        let wide = OnceCell::new();
        let step = Backward {
            tape: self,
            params,
            node,
            dy: &dy,
            wide: &wide,
            passed: Cell::new(None),
        };
        op.backward(&step);
        let passed = step.passed.get();
        if let Some(to) = passed {
            let (pool, parallel) = (self.pool().clone(), self.parallel());
            let slot = self.slots[to.index()].get_mut();
            if slot.0.is_none() {
                slot.0 = Some(dy);
            } else {
                let there = slot.full(parallel, &pool, || unreachable!("there is a gradient"));
                let dy = dy.load_on(parallel, &pool);
                threads::for_each_chunk(parallel, there, PART, |i, there| {
                    for (slot, &value) in there.iter_mut().zip(&dy[i * PART..]) {
                        *slot += value;
                    }
                });
            }
        }
    }

    /// The gradient that a backward pass brought to a [`Tape::variable`]; `None` when none arrived.
    #[must_use]
    pub fn gradient(&self, id: NodeId) -> Option<std::cell::Ref<'_, [R]>> {
        let slot = self.slots.get(self.resolve(id).index())?.borrow();
        std::cell::Ref::filter_map(slot, |slot| match &slot.0 {
            Some(Stored::Full(values)) => Some(&values[..]),
            _ => None,
        })
        .ok()
    }
}
