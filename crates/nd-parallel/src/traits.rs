//! What a model is to this crate: the traits that users implement for their own.
//!
//! A model predicts samples ([`Predict`]); one that can be trained is fitted and scored ([`Fit`]), and one with settings can be
//! tuned ([`Tune`]). A prediction is numbers ([`Values`]), so that predictions of many models or draws can be combined.
//! Samples and predictions are `Vec<f32>` unless said otherwise, so `Box<dyn Predict>` is a forecaster of plain series.

use std::ops::Range;

use crate::error::BoxError;
use crate::task::Task;

/// Turns samples into predictions; shared by all threads.
///
/// ```
/// use nd_parallel::{BoxError, ParallelConfig, Predict, parallel_batch_inference};
///
/// /// Repeats the last value.
/// struct Naive { horizon: usize }
///
/// impl Predict for Naive {
///     fn predict(&self, history: &Vec<f32>) -> Result<Vec<f32>, BoxError> {
///         let last = history.last().ok_or("a series without values")?;
///         Ok(vec![*last; self.horizon])
///     }
/// }
///
/// let model: Box<dyn Predict> = Box::new(Naive { horizon: 2 });
/// let data = vec![vec![1.0, 2.0], vec![5.0]];
/// let predictions = parallel_batch_inference(&model, &data, &ParallelConfig::default())?;
/// assert_eq!(predictions, [[2.0, 2.0], [5.0, 5.0]]);
/// # Ok::<(), nd_parallel::ParallelError>(())
/// ```
pub trait Predict<X = Vec<f32>, Y = Vec<f32>>: Send + Sync {
    /// Predicts one sample.
    ///
    /// # Errors
    /// Whatever makes this sample impossible; the others are predicted all the same.
    fn predict(&self, sample: &X) -> Result<Y, BoxError>;

    /// Predicts a chunk of samples, one result for each; models that are faster on many at once bring their own.
    ///
    /// A sample's prediction must not depend on its neighbours. When a chunk fails, its samples are predicted one by one, so that only
    /// bad ones are lost.
    ///
    /// # Errors
    /// Some sample is impossible.
    fn predict_batch(&self, samples: &[X]) -> Result<Vec<Y>, BoxError> {
        samples.iter().map(|sample| self.predict(sample)).collect()
    }
}

/// Implements a trait of samples `X` and predictions `Y` for what points to a model.
macro_rules! through_pointers {
    ($trait:ident $methods:tt) => {
        through_pointers!(&M, $trait $methods);
        through_pointers!(Box<M>, $trait $methods);
        through_pointers!(std::sync::Arc<M>, $trait $methods);
    };
    ($pointer:ty, $trait:ident {
        $(fn $method:ident(&self, $($name:ident: $type:ty),+) -> $result:ty;)+
    }) => {
        impl<X, Y, M: $trait<X, Y> + ?Sized> $trait<X, Y> for $pointer {
            $(fn $method(&self, $($name: $type),+) -> $result {
                (**self).$method($($name),+)
            })+
        }
    };
}
pub(crate) use through_pointers;

through_pointers!(Predict {
    fn predict(&self, sample: &X) -> Result<Y, BoxError>;
    fn predict_batch(&self, samples: &[X]) -> Result<Vec<Y>, BoxError>;
});

/// A model that can be trained on data and judged on other data: what cross-validation needs.
///
/// The data are any [`Samples`](crate::Samples): vectors, arrays, pairs of these, panels.
pub trait Fit<D>: Send + Sync {
    /// What training gives.
    type Fitted: Send;

    /// Trains on all of `train`.
    ///
    /// It runs inside a rayon pool with the threads that it may use. A long training looks at [`Task::is_cancelled`] now and then and
    /// ends with [`Task::check`].
    ///
    /// # Errors
    /// Whatever makes the training impossible.
    fn fit(&self, train: &D, task: &Task<'_>) -> Result<Self::Fitted, BoxError>;

    /// How far the predictions of the samples `test` of `data` are from the truth; smaller is better.
    ///
    /// In time-ordered folds `data` begins where the training samples did and ends with the last test sample, so that what comes before a
    /// forecast is there; of shuffled folds it holds the test samples alone.
    ///
    /// # Errors
    /// Whatever makes the test impossible.
    fn score(
        &self,
        fitted: &Self::Fitted,
        data: &D,
        test: Range<usize>,
        task: &Task<'_>,
    ) -> Result<f64, BoxError>;
}

/// A model with settings that a grid search varies; `P` is a point of the grid.
pub trait Tune<P>: Sized {
    /// The same model with the settings of a point. Folds of a point that begin at the same time may each ask for it.
    ///
    /// # Errors
    /// Settings that cannot be; the point is reported as failed.
    fn tune(&self, point: &P) -> Result<Self, BoxError>;
}

/// Turns one item into another before a model sees it; every `Fn(&X) -> Result<Y, BoxError>` does.
pub trait Preprocess<X, Y = X>: Send + Sync {
    /// Prepares one item.
    ///
    /// # Errors
    /// Whatever makes this item impossible.
    fn preprocess(&self, item: &X) -> Result<Y, BoxError>;
}

impl<X, Y, F: Fn(&X) -> Result<Y, BoxError> + Send + Sync> Preprocess<X, Y> for F {
    fn preprocess(&self, item: &X) -> Result<Y, BoxError> {
        self(item)
    }
}

/// A prediction as numbers, to be combined with others of its shape.
pub trait Values: Sized + Send + Sync {
    /// Appends every number, in a fixed order.
    fn extend_values(&self, out: &mut Vec<f64>);

    /// A prediction of the same shape with other numbers, as many and in the same order.
    #[must_use]
    fn with_values(&self, values: &[f64]) -> Self;
}

macro_rules! values_of {
    ($($number:ty),+) => {$(
        impl Values for $number {
            fn extend_values(&self, out: &mut Vec<f64>) {
                out.push(f64::from(*self));
            }

            fn with_values(&self, values: &[f64]) -> Self {
                values[0] as $number
            }
        }

        impl Values for Vec<$number> {
            fn extend_values(&self, out: &mut Vec<f64>) {
                out.extend(self.iter().map(|&value| f64::from(value)));
            }

            fn with_values(&self, values: &[f64]) -> Self {
                values.iter().map(|&value| value as $number).collect()
            }
        }
    )+};
}

values_of!(f32, f64);
