//! The tape: values of one step in the order they were computed, and the ops between them.
//!
//! In its simple form: an append-only list of nodes, each with a shape, a value and perhaps the op that made it. A
//! [`Var`] is a number into the list. The tricks: values never move, so kernels read old nodes while new ones are added;
//! buffers come from the tape's pool and boxes of ops are used again, so a step that looks like the last one allocates
//! nothing; reshapes are aliases without memory.
//! Known weakness: a value lives until the backward pass has passed its node, or until the tape is reset, even when no
//! later op needs it.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::arena::Arena;
use super::backward::GradSlot;
use super::op::{Op, OpBox, SpareBoxes};
use super::params::{ParamId, Params};
use super::stored::{Stored, StoredRef, Value};
use super::var::Var;
use crate::buffer::Buffer;
use crate::element::Real;
use crate::options::{Precision, RunOptions};
use crate::pool::MemoryPool;
use crate::rng::Key;
use crate::shape::Shape;

/// A node of a tape; valid until the tape is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }

    pub(super) fn new(index: usize) -> Self {
        Self(u32::try_from(index).expect("a tape has fewer than 2^32 nodes"))
    }
}

pub(super) enum NodeValue<R: Real> {
    Own(Stored<R>),
    /// The memory, the gradient and all else are those of an earlier node.
    Alias(NodeId),
    Param(ParamId),
    /// Passed by the backward pass.
    Freed,
}

pub(super) struct Node<R: Real> {
    pub(super) shape: Shape,
    pub(super) value: NodeValue<R>,
    pub(super) requires_grad: bool,
    pub(super) op: Option<Box<dyn OpBox<R>>>,
    /// A parameter among the op's inputs; it names the layer in messages.
    near: Option<ParamId>,
}

/// What a tape is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ops are recorded, dropout drops, batch norm uses the batch.
    Train,
    /// Ops are recorded, but the network behaves as in inference; for gradients of a fixed function.
    TrainFrozen,
    /// Nothing is recorded.
    Infer,
    /// Nothing is recorded, but dropout drops: Monte Carlo dropout.
    InferWithDropout,
}

/// What one use of a tape needs to know.
#[derive(Clone, Debug)]
pub struct StepContext<R: Real> {
    /// The parameters; `None` for a tape of plain functions.
    pub params: Option<Arc<Params<R>>>,
    /// The choices of the run.
    pub options: RunOptions,
    /// Training or inference.
    pub mode: Mode,
    /// The seed and the step of random ops; their `op` numbers count from the key's.
    pub key: Key,
    /// The place of this tape's first row within the whole batch.
    pub first_row: usize,
    /// Whether ops may split their work over the threads of the pool they run in.
    pub parallel: bool,
}

impl<R: Real> StepContext<R> {
    /// One training tape over the whole batch, on one thread.
    #[must_use]
    pub fn new(params: Option<Arc<Params<R>>>) -> Self {
        Self {
            params,
            options: RunOptions::default(),
            mode: Mode::Train,
            key: Key::default(),
            first_row: 0,
            parallel: false,
        }
    }
}

/// New values for a buffer parameter, applied after the step.
#[derive(Debug)]
pub struct BufferUpdate<R: Real> {
    /// The parameter, of kind [`super::ParamKind::Buffer`].
    pub param: ParamId,
    /// All of its values.
    pub values: Buffer<R>,
}

/// The recording of one step; see the module.
pub struct Tape<R: Real = f32> {
    pub(super) nodes: Arena<Node<R>>,
    pub(super) spares: RefCell<SpareBoxes<R>>,
    pub(super) slots: Vec<RefCell<GradSlot<R>>>,
    pool: MemoryPool,
    context: StepContext<R>,
    param_nodes: RefCell<Vec<Option<NodeId>>>,
    next_op: Cell<u32>,
    updates: RefCell<Vec<BufferUpdate<R>>>,
}

impl<R: Real> Default for Tape<R> {
    fn default() -> Self {
        Self::new(MemoryPool::new())
    }
}

impl<R: Real> Tape<R> {
    /// A tape whose buffers come from `pool`.
    #[must_use]
    pub fn new(pool: MemoryPool) -> Self {
        Self {
            nodes: Arena::new(),
            spares: RefCell::new(SpareBoxes::new()),
            slots: Vec::new(),
            pool,
            context: StepContext::new(None),
            param_nodes: RefCell::new(Vec::new()),
            next_op: Cell::new(0),
            updates: RefCell::new(Vec::new()),
        }
    }

    /// Resets the tape and starts a step.
    pub fn begin(&mut self, context: StepContext<R>) {
        self.reset();
        self.next_op.set(context.key.op);
        let params = context
            .params
            .as_ref()
            .map_or(0, |params| params.layout().entries().len());
        let nodes = self.param_nodes.get_mut();
        nodes.clear();
        nodes.resize(params, None);
        self.context = context;
    }

    /// Forgets every node, gives every buffer back and lets go of the parameters.
    pub fn reset(&mut self) {
        let spares = self.spares.get_mut();
        self.nodes.drain(|node| {
            if let Some(op) = node.op {
                spares.give_back(op);
            }
        });
        for slot in &mut self.slots {
            slot.get_mut().clear();
        }
        self.param_nodes.get_mut().fill(None);
        self.updates.get_mut().clear();
        self.context.params = None;
    }

    /// The pool of the tape's buffers.
    #[must_use]
    pub fn pool(&self) -> &MemoryPool {
        &self.pool
    }

    /// What this step was told.
    #[must_use]
    pub fn context(&self) -> &StepContext<R> {
        &self.context
    }

    /// The choices of the run.
    #[must_use]
    pub fn options(&self) -> RunOptions {
        self.context.options
    }

    /// Whether ops may split their work over the threads of the pool they run in.
    #[must_use]
    pub fn parallel(&self) -> bool {
        self.context.parallel
    }

    /// Whether batch norm uses the batch's statistics and updates its own.
    #[must_use]
    pub fn is_training(&self) -> bool {
        self.context.mode == Mode::Train
    }

    /// Whether dropout drops.
    #[must_use]
    pub fn drops(&self) -> bool {
        matches!(self.context.mode, Mode::Train | Mode::InferWithDropout)
    }

    /// Whether ops are recorded for a backward pass.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        matches!(self.context.mode, Mode::Train | Mode::TrainFrozen)
    }

    /// The parameters of this step.
    ///
    /// # Panics
    /// The step was begun without parameters.
    #[must_use]
    #[track_caller]
    pub fn params(&self) -> &Params<R> {
        self.context
            .params
            .as_ref()
            .expect("this step was begun with parameters")
    }

    /// The key of the next random op: the step's seed and number, and an op number that grows with each call.
    ///
    /// Forward passes over different shards call it in the same order and so get the same keys.
    pub fn next_key(&self) -> Key {
        let op = self.next_op.get();
        self.next_op.set(op + 1);
        Key {
            op,
            ..self.context.key
        }
    }

    /// A buffer of the pool with whatever contents the memory has.
    #[must_use]
    pub fn scratch(&self, len: usize) -> Buffer<R> {
        self.pool.take(len)
    }

    fn push(&self, shape: Shape, value: NodeValue<R>, requires_grad: bool) -> Var<'_, R> {
        self.push_node(Node {
            shape,
            value,
            requires_grad,
            op: None,
            near: None,
        })
    }

    fn push_node(&self, node: Node<R>) -> Var<'_, R> {
        Var::new(self, NodeId::new(self.nodes.push(node)))
    }

    /// A value that needs no gradient.
    ///
    /// # Panics
    /// The buffer's length is not that of the shape.
    #[track_caller]
    pub fn constant(&self, shape: impl Into<Shape>, values: Buffer<R>) -> Var<'_, R> {
        let shape = shape.into();
        require_len(shape, &values);
        self.push(shape, NodeValue::Own(Stored::Full(values)), false)
    }

    /// A copy of values that need no gradient.
    ///
    /// # Panics
    /// The slice's length is not that of the shape.
    #[track_caller]
    pub fn input(&self, shape: impl Into<Shape>, values: &[R]) -> Var<'_, R> {
        self.constant(shape, self.pool.take_copy(values))
    }

    /// A value whose gradient can be read after the backward pass ([`Tape::gradient`]).
    ///
    /// # Panics
    /// The buffer's length is not that of the shape.
    #[track_caller]
    pub fn variable(&self, shape: impl Into<Shape>, values: Buffer<R>) -> Var<'_, R> {
        let shape = shape.into();
        require_len(shape, &values);
        self.push(shape, NodeValue::Own(Stored::Full(values)), true)
    }

    /// A parameter of the step; every call for the same parameter, or one tied to it, gives the same node.
    ///
    /// # Panics
    /// The step was begun without parameters.
    #[track_caller]
    pub fn param(&self, id: ParamId) -> Var<'_, R> {
        let layout = self.params().layout();
        let id = layout.owner(id);
        if let Some(node) = self.param_nodes.borrow()[id.index()] {
            return Var::new(self, node);
        }
        let entry = layout.entry(id);
        let var = self.push(entry.shape, NodeValue::Param(id), entry.kind.is_trainable());
        self.param_nodes.borrow_mut()[id.index()] = Some(var.id());
        var
    }

    /// Adds the result of an op.
    ///
    /// The op is made, and kept, only when the tape records and an input requires a gradient.
    ///
    /// # Panics
    /// The buffer's length is not that of the shape.
    #[track_caller]
    pub fn record<O: Op<R>>(
        &self,
        shape: impl Into<Shape>,
        values: Buffer<R>,
        inputs: &[Var<'_, R>],
        op: impl FnOnce() -> O,
    ) -> Var<'_, R> {
        self.record_stored(shape, Stored::Full(values), inputs, op)
    }

    /// Adds the result of an autocast op: kept in the run's precision.
    ///
    /// # Panics
    /// The buffer's length is not that of the shape.
    #[track_caller]
    pub fn record_autocast<O: Op<R>>(
        &self,
        shape: impl Into<Shape>,
        values: Buffer<R>,
        inputs: &[Var<'_, R>],
        op: impl FnOnce() -> O,
    ) -> Var<'_, R> {
        let stored = self.save_for_backward(values, self.options().precision);
        self.record_stored(shape, stored, inputs, op)
    }

    /// Adds the result of an op that has brought it to the format it is kept in.
    ///
    /// # Panics
    /// The number of values is not that of the shape.
    #[track_caller]
    pub fn record_stored<O: Op<R>>(
        &self,
        shape: impl Into<Shape>,
        values: Stored<R>,
        inputs: &[Var<'_, R>],
        op: impl FnOnce() -> O,
    ) -> Var<'_, R> {
        let shape = shape.into();
        assert_eq!(
            shape.numel(),
            values.len(),
            "{} values for the shape {shape}",
            values.len()
        );
        let requires_grad = self.is_recording() && inputs.iter().any(|var| var.requires_grad());
        let op = requires_grad.then(|| self.spares.borrow_mut().store(op()));
        let near = inputs
            .iter()
            .find_map(|var| match self.node(var.id()).value {
                NodeValue::Param(param) => Some(param),
                _ => None,
            });
        let value = NodeValue::Own(values);
        self.push_node(Node {
            shape,
            value,
            requires_grad,
            op,
            near,
        })
    }

    /// Keeps values for the backward pass in the given precision; the one way for ops to save activations.
    #[must_use]
    pub fn save_for_backward(&self, values: Buffer<R>, precision: Precision) -> Stored<R> {
        Stored::new_on(self.parallel(), &self.pool, values, precision)
    }

    /// Replaces a buffer parameter's values once the step is over.
    ///
    /// # Panics
    /// The parameter is not a buffer, it was updated in this step already, or this tape sees only a part of the batch (a network that
    /// has statistics of the batch couples its rows).
    #[track_caller]
    pub fn update_buffer(&self, param: ParamId, values: Buffer<R>) {
        let entry = self.params().layout().entry(param);
        assert_eq!(
            entry.kind,
            super::ParamKind::Buffer,
            "{} is not a buffer and cannot be updated by the forward pass",
            entry.name
        );
        assert_eq!(
            values.len(),
            entry.shape.numel(),
            "values for {} {}",
            entry.name,
            entry.shape
        );
        let mut updates = self.updates.borrow_mut();
        assert!(
            updates.iter().all(|update| update.param != param),
            "the buffer {} was updated twice in one step",
            entry.name
        );
        updates.push(BufferUpdate { param, values });
    }

    /// The buffer updates of this step, in the order of the forward pass.
    pub fn take_updates(&mut self) -> std::vec::Drain<'_, BufferUpdate<R>> {
        self.updates.get_mut().drain(..)
    }

    /// The node that owns the memory of `id`.
    pub(super) fn resolve(&self, id: NodeId) -> NodeId {
        match self.nodes.get(id.index()).value {
            NodeValue::Alias(of) => of,
            _ => id,
        }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<R> {
        self.nodes.get(self.resolve(id).index())
    }

    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.nodes.get(id.index()).shape
    }

    #[track_caller]
    pub(super) fn value(&self, id: NodeId) -> Value<'_, R> {
        match &self.node(id).value {
            NodeValue::Own(stored) => stored.load_on(self.parallel(), &self.pool),
            NodeValue::Param(param) => Value::Lent(self.params().get(*param)),
            NodeValue::Alias(_) => unreachable!("aliases name the owner, never another alias"),
            NodeValue::Freed => {
                panic!(
                    "the value of node {} is gone: the backward pass has passed it",
                    id.0
                )
            }
        }
    }

    #[track_caller]
    pub(super) fn stored(&self, id: NodeId) -> StoredRef<'_, R> {
        match &self.node(id).value {
            NodeValue::Own(stored) => stored.view(),
            NodeValue::Param(param) => StoredRef::Full(self.params().get(*param)),
            NodeValue::Alias(_) => unreachable!("aliases name the owner, never another alias"),
            NodeValue::Freed => {
                panic!(
                    "the value of node {} is gone: the backward pass has passed it",
                    id.0
                )
            }
        }
    }

    #[track_caller]
    pub(super) fn alias(&self, of: NodeId, shape: Shape) -> Var<'_, R> {
        let found = self.shape(of);
        assert_eq!(
            shape.numel(),
            found.numel(),
            "a value of shape {found} cannot be seen as {shape}: the numbers of elements differ"
        );
        let of = self.resolve(of);
        let requires_grad = self.node(of).requires_grad;
        self.push(shape, NodeValue::Alias(of), requires_grad)
    }

    /// The first node, in the order of computation, whose value holds an infinity or NaN: its op (or what else it is)
    /// and the parameter nearest to it.
    #[must_use]
    pub fn first_non_finite(&self) -> Option<NonFinite> {
        (0..self.nodes.len()).find_map(|index| {
            let node = self.nodes.get(index);
            if matches!(node.value, NodeValue::Alias(_) | NodeValue::Freed) {
                return None;
            }
            let id = NodeId::new(index);
            if self.value(id).iter().all(|x| x.is_finite()) {
                return None;
            }
            let layout = self.context.params.as_ref().map(|params| params.layout());
            let near = match node.value {
                NodeValue::Param(param) => Some(param),
                _ => node.near,
            };
            Some(NonFinite {
                op: match (&node.value, &node.op) {
                    (_, Some(op)) => op.op().map_or("op", Op::name),
                    (NodeValue::Param(_), None) => "parameter",
                    _ => "input",
                },
                near: near
                    .zip(layout)
                    .map(|(id, layout)| layout.entry(id).name.clone()),
            })
        })
    }
}

#[track_caller]
fn require_len<R: Real>(shape: Shape, values: &Buffer<R>) {
    assert_eq!(
        shape.numel(),
        values.len(),
        "{} values for the shape {shape}",
        values.len()
    );
}

/// Where the first infinity or NaN of a forward pass stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// The op that made it, or `input` or `parameter`.
    pub op: &'static str,
    /// A parameter among the op's inputs.
    pub near: Option<String>,
}

impl std::fmt::Display for NonFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.near {
            Some(param) => write!(f, "{} near parameter {param}", self.op),
            None => f.write_str(self.op),
        }
    }
}
