//! What can be trained: a network and a loss, paired in an objective.
//!
//! Neither contains the other: the network turns a batch into raw outputs `[rows, h * Q * n]`, the loss says how many
//! outputs `Q` a time step has and what they mean. So the training step, gradient shards and checkpoints work for any
//! pair, ours or a user's.

use std::sync::Arc;

use crate::autograd::{ParamLayout, Tape, Var};
use crate::batch::BatchView;
use crate::element::Real;
use crate::options::SimdLevel;

/// Whether the rows of a batch influence each other in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowCoupling {
    /// Each row's output depends on that row alone: shards of rows can run on tapes of their own.
    RowLocal,
    /// Some op looks at the whole batch (batch norm, top-k over the batch): one tape has all rows.
    BatchWide,
}

/// An architecture: the parameters it needs, and a batch to raw outputs.
///
/// A network holds no values of parameters, so one network is shared by all threads.
pub trait Network<R: Real>: Send + Sync {
    /// The parameters it needs.
    fn layout(&self) -> &Arc<ParamLayout>;

    /// Whether rows influence each other.
    fn coupling(&self) -> RowCoupling;

    /// Raw outputs `[rows, h, Q]` (multivariate: `[rows, h, n * Q]`) for the rows of a batch; the tape was begun with this network's
    /// parameters.
    ///
    /// # Panics
    /// The batch has another layout than the network was made for.
    fn forward<'t>(&self, tape: &'t Tape<R>, batch: &BatchView<'_, R>) -> Var<'t, R>;
}

/// A network that can also run one time step after another, carrying its state.
pub trait RecurrentNetwork<R: Real>: Network<R> {
    /// What is carried from step to step, for example the hidden and cell state of every layer.
    type State<'t>
    where
        R: 't;

    /// The state before the first step, for `rows` windows.
    fn init_state<'t>(&self, tape: &'t Tape<R>, rows: usize) -> Self::State<'t>;

    /// One time step: inputs `[rows, features]` and the state to raw outputs `[rows, Q]` and the next state.
    fn step<'t>(&self, input: Var<'t, R>, state: Self::State<'t>) -> (Var<'t, R>, Self::State<'t>);
}

/// The value of a loss over a whole batch, and what its gradients still have to be multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossValue {
    /// The loss.
    pub value: f64,
    /// The derivative of `value` by the weighted mean: 1 for a mean, `1 / (2 rmse)` for a root.
    pub gradient_factor: f64,
}

/// What outputs mean and how far they are from the truth.
///
/// A loss is a sum over entries, each weighted by `mask * horizon weight`, divided by the sum of the weights. Shards
/// give their sums; the total weight is known as soon as the batch is gathered, so gradients are exact over shards.
/// Entries of weight zero contribute nothing, even where target or output are NaN.
pub trait Loss<R: Real>: Send + Sync {
    /// The name in reports and checkpoints.
    fn name(&self) -> String;

    /// Outputs that the network gives for each time step, `Q`.
    fn outputs_per_step(&self) -> usize;

    /// Suffixes of the forecast columns, one for each output: empty for a point forecast, `-median`, `-lo-90`, ...
    fn output_names(&self) -> Vec<String>;

    /// Whether the loss is a sum over rows. One that is not has to see the whole batch at once, so the batch is not cut.
    fn coupling(&self) -> RowCoupling {
        RowCoupling::RowLocal
    }

    /// Turns raw outputs `[rows, h, Q]` into forecasts in the scaled space, in place.
    fn domain_map(&self, raw: &mut [R], batch: &BatchView<'_, R>);

    /// The sum of the weights of the rows.
    fn total_weight(&self, batch: &BatchView<'_, R>) -> f64;

    /// The sum of the weighted losses of the rows.
    fn forward(&self, simd: SimdLevel, raw: &[R], batch: &BatchView<'_, R>) -> f64;

    /// The same sum, and in the same pass its gradient times `gradient_scale`, written to `draw`.
    fn backward(
        &self,
        simd: SimdLevel,
        raw: &[R],
        batch: &BatchView<'_, R>,
        gradient_scale: R,
        draw: &mut [R],
    ) -> f64;

    /// The loss from the sums over all shards; zero when the weight is.
    fn finish(&self, sum: f64, weight: f64) -> LossValue {
        let value = if weight == 0.0 { 0.0 } else { sum / weight };
        LossValue {
            value,
            gradient_factor: 1.0,
        }
    }
}

/// A network and the loss it is trained with.
pub struct Objective<'a, R: Real> {
    /// The architecture.
    pub network: &'a dyn Network<R>,
    /// The loss.
    pub loss: &'a dyn Loss<R>,
}

impl<R: Real> Objective<'_, R> {
    /// Whether rows influence each other, in the network or in the loss.
    #[must_use]
    pub fn coupling(&self) -> RowCoupling {
        match (self.network.coupling(), self.loss.coupling()) {
            (RowCoupling::RowLocal, RowCoupling::RowLocal) => RowCoupling::RowLocal,
            _ => RowCoupling::BatchWide,
        }
    }
}

impl<R: Real> Clone for Objective<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Real> Copy for Objective<'_, R> {}

impl<R: Real> std::fmt::Debug for Objective<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let params = self.network.layout().trainable_count();
        write!(f, "Objective({params} parameters, {})", self.loss.name())
    }
}
