//! The baseline against the optimised run, in turns.
//!
//! Both sides take the same training step: same network, weights to begin with, windows, loss and optimizer. The
//! baseline runs it at [`SimdLevel::Scalar`] on one thread, the other side as the request says. They take turns within
//! one process, so that a machine that slows down slows both, and the ratio of each turn is kept.

use std::time::Instant;

use nd_core::{Objective, RunOptions, SimdLevel};
use nd_data::{Exogenous, PanelWindows, WindowConfig, WindowSet};
use nd_models::Fitted;

use crate::measure::options;
use crate::progress::Progress;
use crate::report::Speedup;
use crate::request::Request;
use crate::statistics::{Interval, Measure};
use crate::trainer::{Trainer, Work};
use crate::workloads::DataSet;

/// What the baseline is; stands beneath every table.
pub const BASELINE: &str = "the same network, weights, windows, loss and optimizer, hence the same algorithm, as \
textbook loops over slices with std's scalar functions, without explicit SIMD, on one thread (SimdLevel::Scalar), \
compiled with the same release profile. A matrix product is the textbook triple loop over rows, columns and their sum, \
which walks one operand down its columns; simple code in another order can be faster. It is this library with its \
kernels turned off, not another library. Both sides take turns in one process; the ratio is the median over the turns, in \
brackets its 95 % interval, which with fewer than six turns is their range. \
The baseline is slow, so turns are few (3 to 15), and a step has fewer windows than in training where it would take \
longer than about 2 s; report.json has both numbers.";

/// What stands beneath the table of a request instead of [`BASELINE`] when nothing is compared; `None` when it is.
///
/// # Errors
/// As [`options`].
pub fn not_compared(request: &Request) -> Result<Option<&'static str>, String> {
    let optimised = options(request)?;
    Ok(if request.quick {
        Some("not measured: --quick takes no turns against it.")
    } else if optimised == baseline_of(optimised) {
        Some("not measured: at --simd scalar on one thread the run is the baseline itself.")
    } else {
        None
    })
}

fn baseline_of(optimised: RunOptions) -> RunOptions {
    RunOptions {
        simd: SimdLevel::Scalar,
        threads: Some(1),
        ..optimised
    }
}

/// Turns at least, and at most.
const TURNS: std::ops::RangeInclusive<usize> = 3..=15;
/// Seconds of turns after which no further one begins, once there are enough.
const ENOUGH: f64 = 3.0;
/// Seconds that a step of the baseline should not exceed.
const LONGEST_STEP: f64 = 2.0;
/// Windows of the step that the time of a baseline step is estimated from.
const TRIAL_WINDOWS: usize = 8;

/// Measures both sides in turns; `None` when there is nothing to compare ([`not_compared`]).
///
/// # Errors
/// A step that cannot be taken.
pub fn compare(
    fitted: &Fitted,
    set: &DataSet,
    request: &Request,
    label: &str,
) -> Result<Option<Speedup>, String> {
    if not_compared(request)?.is_some() {
        return Ok(None);
    }
    let optimised = options(request)?;
    let baseline = baseline_of(optimised);
    let config = fitted.config();
    let loss = config
        .loss
        .build(config.horizon)
        .map_err(|error| error.to_string())?;
    let train = set.until(set.test_rows());
    let windows = WindowConfig::new(config.input_size, config.horizon);
    let source = PanelWindows::new(&train, &windows, WindowSet::Train, &Exogenous::default());
    let source = source
        .map_err(|error| error.to_string())?
        .with_scaler(config.scaler);
    let work = Work {
        objective: Objective {
            network: fitted.network(),
            loss: &*loss,
        },
        source: &source,
        train: &config.train,
    };
    let trainer = |options| Trainer::with_params(work, options, fitted.params().clone());
    let mut sides = [trainer(baseline)?, trainer(optimised)?];
    let wanted = set.windows_per_step;
    let trial = sides[0].step(TRIAL_WINDOWS.min(wanted))?.seconds();
    let affordable = (LONGEST_STEP / trial * TRIAL_WINDOWS as f64) as usize;
    let windows = wanted
        .min(affordable.next_power_of_two() / 2)
        .max(TRIAL_WINDOWS.min(wanted));
    // Neither side is measured while it asks for memory. The trial has done that for the baseline where it was of this size.
    for _ in 0..2 {
        sides[1].step(windows)?;
    }
    if windows != TRIAL_WINDOWS.min(wanted) {
        sides[0].step(windows)?;
    }

    let mut lines = Progress::begin(format!("{label}, turns against the baseline"));
    let (least, most) = (*TURNS.start(), *TURNS.end());
    let (mut slow, mut fast, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let start = Instant::now();
    while ratios.len() < least || (ratios.len() < most && start.elapsed().as_secs_f64() < ENOUGH) {
        let (b, o) = (
            sides[0].step(windows)?.seconds(),
            sides[1].step(windows)?.seconds(),
        );
        slow.push(b * 1e3);
        fast.push(o * 1e3);
        ratios.push(b / o);
        lines.step(ratios.len(), most, "");
    }
    let speedup = Measure::of(&ratios, "x")
        .zip(Measure::of(&slow, "ms"))
        .zip(Measure::of(&fast, "ms"))
        .map(|((ratio, baseline), optimised)| Speedup {
            ratio,
            interval: Interval::of_median(&ratios),
            baseline,
            optimised,
            windows,
        });
    if let Some(speedup) = &speedup {
        lines.finish(&format!(
            "{:.1}x over {} turns",
            speedup.ratio.median,
            ratios.len()
        ));
    }
    Ok(speedup)
}
