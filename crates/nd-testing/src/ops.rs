//! Small ops in plain loops, as a user of the engine would write them: they exercise the engine without any kernel.

use nd_core::Real;
use nd_core::autograd::{Backward, NodeId, Op, Stored, Var};
use nd_core::rng::{self, Key};

struct Dense {
    x: NodeId,
    w: NodeId,
}

/// `y[m, n] = x[m, k] w[k, n]`.
///
/// # Panics
/// The shapes do not fit.
#[must_use]
pub fn dense<'t, R: Real>(x: Var<'t, R>, w: Var<'t, R>) -> Var<'t, R> {
    let (m, k, n) = (x.shape().rows(), x.shape().cols(), w.shape().cols());
    let mut y = x.tape().scratch(m * n);
    let (xv, wv) = (x.value(), w.value());
    for i in 0..m {
        for j in 0..n {
            y[i * n + j] = (0..k).map(|l| xv[i * k + l] * wv[l * n + j]).sum();
        }
    }
    x.tape().record([m, n], y, &[x, w], || Dense {
        x: x.id(),
        w: w.id(),
    })
}

impl<R: Real> Op<R> for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (x, w, dy) = (step.value(self.x), step.value(self.w), step.dy());
        let (m, k, n) = (
            step.shape(self.x).rows(),
            step.shape(self.x).cols(),
            step.shape(self.w).cols(),
        );
        if let Some(mut dx) = step.grad(self.x) {
            let accumulate = dx.accumulate;
            for i in 0..m {
                for l in 0..k {
                    let value = (0..n).map(|j| dy[i * n + j] * w[l * n + j]).sum();
                    accumulate.store(&mut dx[i * k + l], value);
                }
            }
        }
        if let Some(mut dw) = step.grad(self.w) {
            let accumulate = dw.accumulate;
            for l in 0..k {
                for j in 0..n {
                    let value = (0..m).map(|i| x[i * k + l] * dy[i * n + j]).sum();
                    accumulate.store(&mut dw[l * n + j], value);
                }
            }
        }
    }
}

struct Square<R: Real> {
    x: NodeId,
    saved: Stored<R>,
    factor: R,
}

fn factor_times_square<R: Real>(x: Var<'_, R>, factor: R) -> Var<'_, R> {
    let tape = x.tape();
    let mut y = tape.scratch(x.shape().numel());
    for (y, &x) in y.iter_mut().zip(x.value().iter()) {
        *y = factor * x * x;
    }
    // Saved by the op, not read from the input's node, so that the way of saving is exercised.
    let saved = tape.pool().take_copy(&x.value());
    tape.record(x.shape(), y, &[x], || Square {
        x: x.id(),
        saved: tape.save_for_backward(saved, tape.options().precision),
        factor,
    })
}

/// `y = x^2`; the op saves its input itself.
#[must_use]
pub fn square<R: Real>(x: Var<'_, R>) -> Var<'_, R> {
    factor_times_square(x, R::ONE)
}

/// `y = x^2 / 4`, kept in the run's precision.
#[must_use]
pub fn scaled_square<R: Real>(x: Var<'_, R>) -> Var<'_, R> {
    let tape = x.tape();
    let factor = R::from_f64(0.25);
    let mut y = tape.scratch(x.shape().numel());
    for (y, &x) in y.iter_mut().zip(x.value().iter()) {
        *y = factor * x * x;
    }
    tape.record_autocast(x.shape(), y, &[x], || ScaledSquare { x: x.id(), factor })
}

impl<R: Real> Op<R> for Square<R> {
    fn name(&self) -> &'static str {
        "square"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let x = self.saved.load(step.pool());
        square_backward(step, self.x, &x, self.factor);
    }
}

struct ScaledSquare<R> {
    x: NodeId,
    factor: R,
}

impl<R: Real> Op<R> for ScaledSquare<R> {
    fn name(&self) -> &'static str {
        "scaled_square"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        square_backward(step, self.x, &step.value(self.x), self.factor);
    }
}

fn square_backward<R: Real>(step: &Backward<'_, R>, id: NodeId, x: &[R], factor: R) {
    let Some(mut dx) = step.grad(id) else { return };
    let (accumulate, two) = (dx.accumulate, R::from_usize(2));
    for (i, dx) in dx.iter_mut().enumerate() {
        accumulate.store(dx, two * factor * x[i] * step.dy()[i]);
    }
}

struct Center {
    x: NodeId,
}

/// Subtracts the mean over all rows from each column: an op that couples rows.
#[must_use]
pub fn center<R: Real>(x: Var<'_, R>) -> Var<'_, R> {
    let mut y = x.tape().scratch(x.shape().numel());
    y.copy_from_slice(&x.value());
    subtract_column_means(&mut y, x.shape().cols());
    x.tape().record(x.shape(), y, &[x], || Center { x: x.id() })
}

fn subtract_column_means<R: Real>(values: &mut [R], cols: usize) {
    let rows = R::from_usize(values.len() / cols);
    for j in 0..cols {
        let mean = values.iter().skip(j).step_by(cols).copied().sum::<R>() / rows;
        for x in values.iter_mut().skip(j).step_by(cols) {
            *x -= mean;
        }
    }
}

impl<R: Real> Op<R> for Center {
    fn name(&self) -> &'static str {
        "center"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let mut centered = step.scratch(dx.len());
        centered.copy_from_slice(step.dy());
        subtract_column_means(&mut centered, step.shape(self.x).cols());
        let accumulate = dx.accumulate;
        for (dx, &value) in dx.iter_mut().zip(centered.iter()) {
            accumulate.store(dx, value);
        }
    }
}

struct Dropout {
    x: NodeId,
    key: Key,
    rate: f64,
}

/// Zeroes entries at random and scales the others up; the mask is never stored.
#[must_use]
pub fn dropout<R: Real>(x: Var<'_, R>, rate: f64) -> Var<'_, R> {
    let tape = x.tape();
    let key = tape.next_key();
    let mut y = tape.scratch(x.shape().numel());
    let cols = x.shape().cols();
    let value = x.value();
    for (row, y) in y.chunks_mut(cols).enumerate() {
        let keep = mask(key, tape.context().first_row + row, cols, rate);
        for (j, y) in y.iter_mut().enumerate() {
            *y = value[row * cols + j] * R::from_f64(keep[j]);
        }
    }
    tape.record(x.shape(), y, &[x], || Dropout {
        x: x.id(),
        key,
        rate,
    })
}

fn mask(key: Key, row: usize, cols: usize, rate: f64) -> Vec<f64> {
    let mut words = vec![0; cols];
    rng::fill(nd_core::SimdLevel::Scalar, key, row as u64, 0, &mut words);
    let keep = |&word: &u32| f64::from(word) >= rate * 2f64.powi(32);
    words
        .iter()
        .map(|word| if keep(word) { 1.0 / (1.0 - rate) } else { 0.0 })
        .collect()
}

impl<R: Real> Op<R> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let Some(mut dx) = step.grad(self.x) else {
            return;
        };
        let (accumulate, cols) = (dx.accumulate, step.shape(self.x).cols());
        for (row, dx) in dx.chunks_mut(cols).enumerate() {
            let keep = mask(
                self.key,
                step.tape().context().first_row + row,
                cols,
                self.rate,
            );
            for (j, dx) in dx.iter_mut().enumerate() {
                accumulate.store(dx, step.dy()[row * cols + j] * R::from_f64(keep[j]));
            }
        }
    }
}
