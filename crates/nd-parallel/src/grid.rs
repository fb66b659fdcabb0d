//! Points of a grid: every combination of some values.

use std::fmt;

use crate::error::ParallelError;

/// What a grid search goes through: vectors and slices of points of any type, and [`ParamGrid`].
pub trait Grid {
    /// A point.
    type Point: Clone + Send + Sync;

    /// Every point, in the order in which they are tried.
    ///
    /// # Errors
    /// A grid that is empty, names a parameter twice, or has more points than could be kept.
    fn points(&self) -> Result<Vec<Self::Point>, ParallelError>;
}

/// Points of a [`ParamGrid`] at most: some hundred megabytes of names and values, and more fits than anybody waits for.
const MOST_POINTS: usize = 1_000_000;

fn listed<P: Clone>(points: &[P]) -> Result<Vec<P>, ParallelError> {
    if points.is_empty() {
        return Err(ParallelError::EmptyGrid);
    }
    Ok(points.to_vec())
}

impl<P: Clone + Send + Sync> Grid for [P] {
    type Point = P;

    fn points(&self) -> Result<Vec<P>, ParallelError> {
        listed(self)
    }
}

impl<P: Clone + Send + Sync> Grid for Vec<P> {
    type Point = P;

    fn points(&self) -> Result<Vec<P>, ParallelError> {
        listed(self)
    }
}

impl<P: Clone + Send + Sync, const N: usize> Grid for [P; N] {
    type Point = P;

    fn points(&self) -> Result<Vec<P>, ParallelError> {
        listed(self)
    }
}

/// The value of a named parameter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ParamValue {
    /// A whole number.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A choice that is on or off.
    Flag(bool),
    /// A choice by name.
    Text(String),
}

macro_rules! value_from {
    ($($type:ty => $variant:ident),+ $(,)?) => {$(
        impl From<$type> for ParamValue {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

value_from!(i32 => Integer, i64 => Integer, u32 => Integer, f32 => Number, f64 => Number, bool => Flag, &str => Text, String => Text);

impl From<usize> for ParamValue {
    fn from(value: usize) -> Self {
        // Beyond this, a setting is wrong in any case, and the model says so.
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Flag(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// A value for each named parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParamPoint {
    /// Names and values, in the order of the grid.
    pub values: Vec<(String, ParamValue)>,
}

impl ParamPoint {
    /// The value of a parameter, if the point has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ParamValue> {
        let mut values = self.values.iter();
        values.find(|(n, _)| n == name).map(|(_, value)| value)
    }
}

impl fmt::Display for ParamPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.values.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name} = {value}")?;
        }
        Ok(())
    }
}

/// Every combination of the values of some named parameters; the last parameter changes fastest.
///
/// ```
/// use nd_parallel::{Grid, ParamGrid};
/// let grid = ParamGrid::new().axis("learning_rate", [1e-3, 1e-4]).axis("hidden_size", [64, 128]);
/// let points = grid.points()?;
/// assert_eq!(points.len(), 4);
/// assert_eq!(points[1].to_string(), "learning_rate = 0.001, hidden_size = 128");
/// # Ok::<(), nd_parallel::ParallelError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParamGrid {
    axes: Vec<(String, Vec<ParamValue>)>,
}

impl ParamGrid {
    /// A grid without parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same grid with a further parameter and its values.
    #[must_use]
    pub fn axis<V: Into<ParamValue>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.axes.push((name.into(), values));
        self
    }
}

impl Grid for ParamGrid {
    type Point = ParamPoint;

    fn points(&self) -> Result<Vec<ParamPoint>, ParallelError> {
        if self.axes.is_empty() {
            return Err(ParallelError::EmptyGrid);
        }
        let sizes = || self.axes.iter().map(|(_, values)| values.len());
        let count = sizes().try_fold(1usize, |n, size| n.checked_mul(size.max(1)));
        if count.is_none_or(|count| count > MOST_POINTS) {
            let points: f64 = sizes().map(|size| size.max(1) as f64).product();
            return Err(ParallelError::LargeGrid {
                points: count.map_or_else(|| format!("{points:e}"), |count| count.to_string()),
                most: MOST_POINTS,
            });
        }
        let mut points = vec![ParamPoint::default()];
        for (i, (name, values)) in self.axes.iter().enumerate() {
            let axis_error = |found: &str, expected| ParallelError::GridAxis {
                name: name.clone(),
                found: found.to_owned(),
                expected,
            };
            if values.is_empty() {
                return Err(axis_error(
                    "no value",
                    "give at least one, or leave the parameter out",
                ));
            }
            if self.axes[..i].iter().any(|(other, _)| other == name) {
                return Err(axis_error(
                    "two lists",
                    "give all values of a parameter in one list",
                ));
            }
            points = points
                .iter()
                .flat_map(|point| {
                    values.iter().map(|value| {
                        let mut point = point.clone();
                        point.values.push((name.clone(), value.clone()));
                        point
                    })
                })
                .collect();
        }
        Ok(points)
    }
}
