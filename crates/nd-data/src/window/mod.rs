//! Windows of a panel: which there are, and their values when asked for.
//!
//! The simple version: a window is a series and a first row; its inputs are the `L` rows from there on, its targets the
//! `h` rows after them. [`Windows`] lists them, as a range of first rows per series (three numbers) or, where masked
//! rows leave holes, as an explicit list. [`PanelWindows`] copies the values of one window into a row of a batch, scaled
//! by the window's own statistics; nothing else is ever copied.
//!
//! Which windows exist follows NeuralForecast to the row, so that training sees the same data:
//! * the last `val_size + test_size` rows of every series are cut off; what lies behind the cut is zero and masked;
//! * series end together: a shorter one is padded on the left to the length of the longest, and its windows may begin
//!   in the padding as long as one input is observed;
//! * windows may reach up to `h - 1` rows beyond the cut; the targets there are masked;
//! * a window needs at least one observed input and one observed target (more by the availability thresholds);
//! * with a step size, first rows count from the left end of the padded timeline;
//! * validation and test windows lie entirely before the cut and are all kept.
//!
//! Known difference: NeuralForecast pads to the longest series among the (random) 32 of a loader's batch, here it is the
//! longest of the panel; the sets agree up to 32 series, and beyond for a step size of one.

mod rules;
mod source;

pub use rules::{Starts, WindowConfig, WindowSet, Windows};
pub use source::{Exogenous, PanelWindows};
