//! The loss of a batch and its gradient, over shards.
//!
//! In its simple form: run the network forward, let the loss turn the outputs into their gradient, run the tape
//! backward. The tricks: shards run at the same time on tapes of their own; their gradients are added as soon as they are there, in a tree that
//! is fixed by the number of shards (see `tree`) and asks for few buffers; tapes and gradient buffers are kept, so a steady step allocates
//! nothing.
//! Known weakness: a tape that has not run yet has no memory; so the first step runs the largest shard once more on
//! every further tape.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use nd_core::autograd::{
    BufferUpdate, Mode, NonFinite, ParamGrads, ParamLayout, Params, StepContext, Tape,
};
use nd_core::rng::Key;
use nd_core::{Batch, Objective, Real, RowCoupling, RunOptions};

use crate::error::BoxError;
use crate::reduce::{AllReduce, ReduceError, SingleProcess};
use crate::shard::ShardPlan;
use crate::tree;

/// What one computation of gradients needs to know.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// The choices of the run.
    pub options: RunOptions,
    /// The seed and the step of random ops.
    pub key: Key,
    /// Dropout and batch statistics on or off.
    pub mode: Mode,
    /// The factor of the loss that keeps half-precision gradients from underflowing; 1 otherwise.
    pub loss_scale: f64,
    /// The place of the batch's first window in the whole batch, which random ops are keyed by: 0 when one process has all of it, the
    /// windows of the processes before this one otherwise.
    pub first_row: usize,
}

/// The loss of a batch; the gradients stay in the engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradients {
    /// The loss.
    pub loss: f64,
    /// What the gradients must be multiplied with to be those of `loss`: the loss's own factor over the loss scale.
    pub factor: f64,
    /// The sum of the weights of all windows.
    pub weight: f64,
}

/// A loss that is infinite or NaN, and where that began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The first bad value of this process's forward pass; `None` when only the loss itself is bad, or that of another process.
    pub place: Option<NonFinite>,
    /// Whether the loss of this process is bad. With several processes that of another may be, which then knows the place.
    pub here: bool,
}

impl NotFinite {
    /// Where the first bad value came from, in words.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.place {
            Some(place) => place.to_string(),
            None if self.here => "the loss itself".to_owned(),
            None => {
                "another process, whose error names the place, or from adding up all".to_owned()
            }
        }
    }
}

/// Why a batch has no gradients.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GradientError {
    /// The loss is infinite or NaN, in this process or in another.
    #[error("{0}")]
    NotFinite(NotFinite),
    /// The processes could not be added up.
    #[error(transparent)]
    Reduce(#[from] ReduceError),
    /// The batch is spread over processes, and the network or the loss would have to see all of it.
    #[error(
        "the network or the loss looks at a whole batch (RowCoupling::BatchWide), found one that is spread over {processes} processes: \
         train in one process, or take a network and a loss of independent rows"
    )]
    BatchWide {
        /// The processes.
        processes: usize,
    },
}

nd_core::debug_as_display!(GradientError);

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the loss is not finite; the first bad value came from {}",
            self.origin()
        )
    }
}

struct Slot<R: Real> {
    tape: Tape<R>,
    primed: Option<usize>,
}

/// Computes losses and gradients; keeps tapes and buffers between steps. See the module.
pub struct GradientEngine<R: Real = f32> {
    plan: Option<ShardPlan>,
    slots: Vec<Mutex<Slot<R>>>,
    spare: Mutex<Vec<ParamGrads<R>>>,
    total: Option<ParamGrads<R>>,
    updates: Mutex<Vec<BufferUpdate<R>>>,
    all_reduce: Arc<dyn AllReduce<R>>,
    /// The first sum over processes that failed: this process no longer knows which step the others are at.
    lost: Option<ReduceError>,
}

impl<R: Real> Default for GradientEngine<R> {
    fn default() -> Self {
        Self::new()
    }
}

/// The sum over some shards.
struct Partial<R: Real> {
    grads: ParamGrads<R>,
    sum: f64,
    /// Where the first bad value of a sum that is not finite came from, if not from the loss itself.
    place: Option<NonFinite>,
}

struct Run<'a, R: Real> {
    objective: Objective<'a, R>,
    params: &'a Arc<Params<R>>,
    batch: &'a Batch<R>,
    step: StepOptions,
    plan: ShardPlan,
    gradient_scale: R,
    threads: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a shard unwinds through the whole step; tapes are reset before they are used again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Real> GradientEngine<R> {
    /// An engine for one process that plans its shards by [`ShardPlan::new`].
    #[must_use]
    pub fn new() -> Self {
        Self {
            plan: None,
            slots: Vec::new(),
            spare: Mutex::new(Vec::new()),
            total: None,
            updates: Mutex::new(Vec::new()),
            all_reduce: Arc::new(SingleProcess),
            lost: None,
        }
    }

    /// The same engine with a plan of the caller's.
    #[must_use]
    pub fn with_plan(mut self, plan: ShardPlan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// The same engine, adding up over several processes. An earlier failure is that of the connection before, and forgotten.
    ///
    /// Each has its part of the batch, whose place is [`StepOptions::first_row`]. Give every process the plan of the whole batch
    /// ([`Self::with_plan`]): left to itself, an engine plans for the rows it sees. The sums have the bits of one process with that plan when
    /// every process has the same multiple of four full shards, the processes are a power of two and are added as a balanced tree in
    /// their order, and the weights of windows add up exactly, as masks of 0 and 1 do.
    #[must_use]
    pub fn with_all_reduce(mut self, all_reduce: Arc<dyn AllReduce<R>>) -> Self {
        self.all_reduce = all_reduce;
        self.lost = None;
        self
    }

    /// The gradients of the last step, to be multiplied with [`Gradients::factor`].
    ///
    /// # Panics
    /// No step has been computed.
    #[must_use]
    #[track_caller]
    pub fn gradients(&self) -> &ParamGrads<R> {
        self.total
            .as_ref()
            .expect("a step was computed before its gradients are read")
    }

    /// The gradients of the last step, to be unscaled and clipped in place.
    ///
    /// # Panics
    /// No step has been computed.
    #[track_caller]
    pub fn gradients_mut(&mut self) -> &mut ParamGrads<R> {
        self.total
            .as_mut()
            .expect("a step was computed before its gradients are read")
    }

    /// The buffer updates of the last step's forward pass, in its order.
    pub fn take_updates(&mut self) -> std::vec::Drain<'_, BufferUpdate<R>> {
        self.updates
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
    }

    /// Computes the loss of a batch and its gradients.
    ///
    /// Call it inside [`nd_core::Threads::install`]: it uses the threads of the pool it runs in, and outside of any the calling one alone.
    ///
    /// # Errors
    /// The loss is infinite or NaN, processes cannot be added up, or the network needs its whole batch in one process. The gradients
    /// are then worthless, and no buffer update is kept. Once processes could not be added up, every later call gives that error
    /// at once, until there is another connection ([`Self::with_all_reduce`]): the others may be a step ahead, and a repeated sum would
    /// meet another one of theirs. The same holds after a panic once several processes have begun to add up.
    ///
    /// # Panics
    /// The parameters are not those of the network, or the network's outputs have the wrong shape.
    pub fn compute(
        &mut self,
        objective: Objective<'_, R>,
        params: &Arc<Params<R>>,
        batch: &Batch<R>,
        step: StepOptions,
    ) -> Result<Gradients, GradientError> {
        let layout = objective.network.layout();
        let same = Arc::ptr_eq(params.layout(), layout) || params.layout() == layout;
        assert!(same, "the parameters are those of the network");
        let processes = self.all_reduce.processes();
        let coupling = objective.coupling();
        if processes > 1 && coupling == RowCoupling::BatchWide {
            return Err(GradientError::BatchWide { processes });
        }
        self.updates
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        if let Some(lost) = &self.lost {
            return Err(lost.clone().into());
        }
        let rows = batch.rows();
        let plan = self
            .plan
            .unwrap_or_else(|| ShardPlan::new(coupling, rows, layout.trainable_len()));
        let weight = objective.loss.total_weight(&batch.all());
        if processes > 1 {
            // Until the loss is known: a panic on the way leaves the others in the midst of the step.
            self.lost = Some(ReduceError::interrupted());
        }
        let weight = self.all_reduce.sum(weight);
        let weight = self.note("weights", weight)?;
        let scale = if weight == 0.0 {
            0.0
        } else {
            step.loss_scale / weight
        };
        let gradient_scale = R::from_f64(scale);
        let run = Run {
            objective,
            params,
            batch,
            step,
            plan,
            gradient_scale,
            threads: nd_core::threads::current().unwrap_or(1),
        };
        self.prepare(&run, layout);

        let shards = plan.shards(rows);
        let Partial {
            mut grads,
            sum,
            place,
        } = if shards == 0 {
            let mut grads = self.take_grads(layout);
            grads.finish();
            Partial {
                grads,
                sum: 0.0,
                place: None,
            }
        } else {
            self.reduce(&run, 0, shards)
        };
        let is_own_bad = processes == 1 || !sum.is_finite();
        // A bad loss is no reason to leave: the other processes wait for this one's part, and learn from the sum that it is bad.
        let sum = self.all_reduce.sum_gradients(sum, grads.flat_mut());
        self.total = Some(grads);
        let found = match self.note("losses and gradients", sum) {
            Ok(sum) => {
                let value = objective.loss.finish(sum, weight);
                self.lost = None;
                // By what all processes know, so that all decide alike; a sum with a bad term is bad, whatever the loss makes of it.
                if sum.is_finite() && value.value.is_finite() {
                    Ok(value)
                } else {
                    // Of a fine sum the loss is bad by itself, which is so on every process.
                    let here = is_own_bad || sum.is_finite();
                    Err(GradientError::NotFinite(NotFinite { place, here }))
                }
            }
            Err(lost) => Err(lost.into()),
        };
        let value = found.inspect_err(|_| {
            lock(&self.updates).clear();
        })?;
        Ok(Gradients {
            loss: value.value,
            factor: value.gradient_factor / step.loss_scale,
            weight,
        })
    }

    /// What a sum over processes gave; remembers that it failed.
    fn note<T>(&mut self, what: &'static str, sum: Result<T, BoxError>) -> Result<T, ReduceError> {
        sum.map_err(|cause| {
            let lost = ReduceError::new(what, cause);
            self.lost = Some(lost.clone());
            lost
        })
    }

    /// Makes tapes and buffers for every thread, and lets every new tape see the largest shard once.
    fn prepare(&mut self, run: &Run<'_, R>, layout: &Arc<ParamLayout>) {
        let rows = run.batch.rows();
        let shards = run.plan.shards(rows);
        let slots = run.threads.min(shards).max(1);
        while self.slots.len() < slots {
            // A pool for each tape: what a tape needs does not depend on what the others do meanwhile.
            self.slots.push(Mutex::new(Slot {
                tape: Tape::default(),
                primed: None,
            }));
        }
        let spare = self.spare.get_mut().unwrap_or_else(PoisonError::into_inner);
        if spare.first().is_some_and(|grads| grads.layout() != layout) {
            spare.clear();
        }
        if let Some(total) = self.total.take().filter(|grads| grads.layout() == layout) {
            spare.push(total);
        }
        // As many as could ever be needed at once, so that no step allocates; those that the schedule never takes stay
        // untouched, and untouched zeroed memory is not resident. The last one given back is the first one taken.
        let needed = tree::buffers(shards, run.threads);
        while spare.len() < needed {
            spare.push(ParamGrads::new(layout));
        }
        let largest = run.plan.rows_of(0, rows).len();
        if shards < 2 {
            return;
        }
        for slot in &self.slots[..slots] {
            let mut slot = lock(slot);
            if slot.primed.is_none_or(|primed| largest > primed) {
                let Partial { grads, .. } = self.run_shard(run, 0, &mut slot.tape);
                lock(&self.spare).push(grads);
                slot.primed = Some(largest);
            }
        }
        self.updates
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn take_grads(&self, layout: &Arc<ParamLayout>) -> ParamGrads<R> {
        let mut grads = lock(&self.spare)
            .pop()
            .unwrap_or_else(|| ParamGrads::new(layout));
        grads.clear();
        grads
    }

    fn reduce(&self, run: &Run<'_, R>, first: usize, shards: usize) -> Partial<R> {
        if shards == 1 {
            // Any free tape will do. There is one for every thread, and a thread holds at most one at a time, unless a
            // network enters the thread pool though it was told not to.
            let free = self.slots.iter().find_map(|slot| match slot.try_lock() {
                Ok(slot) => Some(slot),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            });
            return match free {
                Some(mut slot) => self.run_shard(run, first, &mut slot.tape),
                None => self.run_shard(run, first, &mut Tape::default()),
            };
        }
        let before = tree::left(shards);
        let left = || self.reduce(run, first, before);
        let right = || self.reduce(run, first + before, shards - before);
        let (mut left, right) = if run.threads > 1 {
            rayon::join(left, right)
        } else {
            // Rayon is not asked: outside of any pool it would start its global one.
            (left(), right())
        };
        for (sum, &term) in left.grads.flat_mut().iter_mut().zip(right.grads.flat()) {
            *sum += term;
        }
        lock(&self.spare).push(right.grads);
        left.sum += right.sum;
        left.place = left.place.or(right.place);
        left
    }

    fn run_shard(&self, run: &Run<'_, R>, shard: usize, tape: &mut Tape<R>) -> Partial<R> {
        let rows = run.plan.rows_of(shard, run.batch.rows());
        let whole = rows.len() == run.batch.rows();
        let view = run.batch.view(rows.clone());
        tape.begin(StepContext {
            params: Some(Arc::clone(run.params)),
            options: run.step.options,
            mode: run.step.mode,
            key: run.step.key,
            first_row: run.step.first_row + rows.start,
            parallel: run.plan == ShardPlan::Whole && run.threads > 1,
        });
        let raw = run.objective.network.forward(tape, &view);
        let outputs = run.objective.loss.outputs_per_step();
        let layout = view.layout();
        assert_eq!(
            raw.shape().numel(),
            rows.len() * layout.horizon * layout.n_series * outputs,
            "outputs of the network, shape {}, for {} windows of horizon {} with {} series and {outputs} outputs a step",
            raw.shape(),
            rows.len(),
            layout.horizon,
            layout.n_series,
        );
        let values = raw.value();
        let mut dy = tape.scratch(values.len());
        let sum = run.objective.loss.backward(
            run.step.options.simd,
            &values,
            &view,
            run.gradient_scale,
            &mut dy,
        );
        drop(values);
        let finite = sum.is_finite();
        let place = if finite {
            None
        } else {
            tape.first_non_finite()
        };
        let root = raw.id();
        let mut grads = self.take_grads(run.params.layout());
        if finite {
            tape.backward(root, dy, Some(&mut grads));
        }
        grads.finish();
        for update in tape.take_updates() {
            assert!(
                whole,
                "a network that updates buffers from the batch couples its rows: its coupling must be BatchWide"
            );
            if finite {
                lock(&self.updates).push(update);
            }
        }
        tape.reset();
        Partial { grads, sum, place }
    }
}

impl<R: Real> std::fmt::Debug for GradientEngine<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GradientEngine")
            .field("plan", &self.plan)
            .field("tapes", &self.slots.len())
            .finish_non_exhaustive()
    }
}
