//! Dropout on the tape.
//!
//! The mask is a function of the step's key, the op's number, the window and the element, and nothing of it is stored.

use nd_core::autograd::{Accumulate, Backward, NodeId, Op, Stored, StoredRef, Tape, Var};
use nd_core::rng::Key;
use nd_core::{Precision, threads};

use super::row_chunk;
use crate::autocast;
use crate::dropout::{GRAIN, dropout, dropout_part};
use crate::elementwise::add_forward;
use crate::lanes::SimdReal;

/// Dropout.
///
/// The first dimension of a value is that of the windows: row `i` belongs to window `first_row + i` of the batch.
pub trait DropoutExt: Sized {
    /// Zeroes each element with probability `p` and scales the others by `1 / (1 - p)`; the value itself when the tape does not drop.
    ///
    /// # Panics
    /// `p` is not in `[0, 1)`.
    #[must_use]
    #[track_caller]
    fn dropout(self, p: f64) -> Self;

    /// `self + dropout(branch)`: the end of a residual branch, in one value less.
    ///
    /// # Panics
    /// The shapes differ, or `p` is not in `[0, 1)`.
    #[must_use]
    #[track_caller]
    fn add_dropout(self, branch: Self, p: f64) -> Self;
}

#[track_caller]
fn check(p: f64) {
    assert!(
        (0.0..1.0).contains(&p),
        "dropout with probability {p}: expected 0 <= p < 1"
    );
}

impl<R: SimdReal> DropoutExt for Var<'_, R> {
    fn dropout(self, p: f64) -> Self {
        check(p);
        let tape = self.tape();
        if p == 0.0 || !tape.drops() {
            return self;
        }
        let mask = Mask::new(self, p, tape.next_key());
        let stored = self.stored();
        if autocast::is_half(stored) {
            let len = self.shape().numel();
            let y = mask.stored(tape, stored, None, len, stored.precision());
            return tape.record_stored(self.shape(), y, &[self], || Dropout { x: self.id(), mask });
        }
        let mut y = tape.scratch(self.shape().numel());
        let value = self.value();
        mask.apply(
            tape.options().simd,
            tape.parallel(),
            &value,
            &mut y,
            Accumulate::Write,
        );
        tape.record(self.shape(), y, &[self], || Dropout { x: self.id(), mask })
    }

    fn add_dropout(self, branch: Self, p: f64) -> Self {
        check(p);
        let (shape, other) = (self.shape(), branch.shape());
        assert!(
            shape == other,
            "a branch of shape {other} joins {shape}: they must be equal"
        );
        let tape = self.tape();
        let level = tape.options().simd;
        let stored = branch.stored();
        if autocast::is_half(stored) {
            let precision = stored.precision();
            let mask = (p > 0.0 && tape.drops()).then(|| Mask::new(branch, p, tape.next_key()));
            let y = match mask {
                Some(mask) => {
                    let base = Some(self.stored());
                    mask.stored(tape, stored, base, shape.numel(), precision)
                }
                None => {
                    let base = self.stored();
                    autocast::map_stored(tape, precision, shape.numel(), |part, y, rooms| {
                        let a = autocast::read(level, base, part.clone(), &mut rooms.a);
                        let b = autocast::read(level, stored, part, &mut rooms.b);
                        add_forward(level, a, b, y);
                    })
                }
            };
            return tape.record_stored(shape, y, &[self, branch], || AddDropout {
                x: self.id(),
                branch: branch.id(),
                mask,
            });
        }
        let (value, branch_value) = (self.value(), branch.value());
        let mut y;
        let mask = if p == 0.0 || !tape.drops() {
            y = tape.scratch(shape.numel());
            let (a, b): (&[R], &[R]) = (&value, &branch_value);
            threads::for_each_chunk(tape.parallel(), &mut y, super::BLOCK, |i, y| {
                let part = i * super::BLOCK..i * super::BLOCK + y.len();
                add_forward(level, &a[part.clone()], &b[part], y);
            });
            None
        } else {
            let mask = Mask::new(branch, p, tape.next_key());
            y = tape.scratch(shape.numel());
            mask.add(level, tape.parallel(), &value, &branch_value, &mut y);
            Some(mask)
        };
        tape.record(shape, y, &[self, branch], || AddDropout {
            x: self.id(),
            branch: branch.id(),
            mask,
        })
    }
}

/// A run of elements of one window: the window, the first element, the place in the whole value.
type Piece = (u64, usize, std::ops::Range<usize>);

/// Everything that a mask is a function of.
#[derive(Clone, Copy)]
struct Mask {
    key: Key,
    p: f64,
    first_window: u64,
    cols: usize,
}

impl Mask {
    fn new<R: SimdReal>(x: Var<'_, R>, p: f64, key: Key) -> Self {
        let windows = x.shape().first().copied().unwrap_or(1).max(1);
        Self {
            key,
            p,
            first_window: x.tape().context().first_row as u64,
            cols: x.shape().numel() / windows,
        }
    }

    /// `base + x mask`, kept in `precision`.
    fn stored<R: SimdReal>(
        &self,
        tape: &Tape<R>,
        x: StoredRef<'_, R>,
        base: Option<StoredRef<'_, R>>,
        len: usize,
        precision: Precision,
    ) -> Stored<R> {
        let level = tape.options().simd;
        let acc = match base {
            Some(_) => Accumulate::Add,
            None => Accumulate::Write,
        };
        autocast::map_stored(tape, precision, len, |part, y, rooms| {
            let (key, p) = (self.key, self.p);
            if let Some(base) = base {
                y.copy_from_slice(autocast::read(level, base, part.clone(), &mut rooms.b));
            }
            let x = autocast::read(level, x, part.clone(), &mut rooms.a);
            self.for_each_piece(part.clone(), |(window, first, place)| {
                let skipped = first % GRAIN;
                let place = place.start - part.start..place.end - part.start;
                if skipped == 0 {
                    let (x, y) = (&x[place.clone()], &mut y[place]);
                    dropout_part(level, key, p, window, first, x, y, acc);
                } else {
                    // The beginning of the run shares random words with elements of the part before.
                    let count = (GRAIN - skipped).min(place.len());
                    let (mut wide, mut out) = ([R::ZERO; GRAIN], [R::ZERO; GRAIN]);
                    let middle = place.start + count;
                    let here = skipped..skipped + count;
                    wide[here.clone()].copy_from_slice(&x[place.start..middle]);
                    out[here.clone()].copy_from_slice(&y[place.start..middle]);
                    let width = GRAIN.min(self.cols - (first - skipped));
                    let (wide, out) = (&wide[..width], &mut out[..width]);
                    dropout_part(level, key, p, window, first - skipped, wide, out, acc);
                    y[place.start..middle].copy_from_slice(&out[here]);
                    if middle < place.end {
                        let (x, y) = (&x[middle..place.end], &mut y[middle..place.end]);
                        dropout_part(level, key, p, window, first + count, x, y, acc);
                    }
                }
            });
        })
    }

    /// The windows, or pieces of windows, that a part of the value is made of.
    fn for_each_piece(&self, part: std::ops::Range<usize>, mut work: impl FnMut(Piece)) {
        let mut start = part.start;
        while start < part.end {
            let (window, first) = (start / self.cols, start % self.cols);
            let end = part.end.min(start + self.cols - first);
            work((self.first_window + window as u64, first, start..end));
            start = end;
        }
    }

    /// `y (+)= x mask`
    fn apply<R: SimdReal>(
        &self,
        level: nd_core::SimdLevel,
        parallel: bool,
        x: &[R],
        y: &mut [R],
        acc: Accumulate,
    ) {
        let chunk = row_chunk(self.cols);
        threads::for_each_chunk(parallel, y, chunk, |i, y| {
            let window = self.first_window + (i * chunk / self.cols.max(1)) as u64;
            let x = &x[i * chunk..][..y.len()];
            dropout(level, self.key, self.p, window, self.cols, x, y, acc);
        });
    }

    /// `y = a + b mask`
    fn add<R: SimdReal>(
        &self,
        level: nd_core::SimdLevel,
        parallel: bool,
        a: &[R],
        b: &[R],
        y: &mut [R],
    ) {
        let chunk = row_chunk(self.cols);
        threads::for_each_chunk(parallel, y, chunk, |i, y| {
            let window = self.first_window + (i * chunk / self.cols.max(1)) as u64;
            let part = i * chunk..i * chunk + y.len();
            y.copy_from_slice(&a[part.clone()]);
            dropout(
                level,
                self.key,
                self.p,
                window,
                self.cols,
                &b[part],
                y,
                Accumulate::Add,
            );
        });
    }
}

struct Dropout {
    x: NodeId,
    mask: Mask,
}

impl<R: SimdReal> Op<R> for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(precision) = step.takes_half(self.x) {
            let (dy, len) = (step.stored_dy(), step.shape(self.x).numel());
            let dx = self.mask.stored(step.tape(), dy, None, len, precision);
            step.give(self.x, dx);
            return;
        }
        if let Some(mut dx) = step.grad(self.x) {
            let accumulate = dx.accumulate;
            self.mask.apply(
                step.options().simd,
                step.parallel(),
                step.dy(),
                &mut dx,
                accumulate,
            );
        }
    }
}

struct AddDropout {
    x: NodeId,
    branch: NodeId,
    mask: Option<Mask>,
}

impl<R: SimdReal> Op<R> for AddDropout {
    fn name(&self) -> &'static str {
        "add_dropout"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        if let Some(precision) = step.takes_half(self.branch) {
            let (dy, len) = (step.stored_dy(), step.shape(self.branch).numel());
            let (tape, level) = (step.tape(), step.options().simd);
            let branch = match &self.mask {
                Some(mask) => mask.stored(tape, dy, None, len, precision),
                None => autocast::map_stored(tape, precision, len, |part, dx, rooms| {
                    dx.copy_from_slice(autocast::read(level, dy, part, &mut rooms.a));
                }),
            };
            step.give(self.branch, branch);
        } else if let Some(mut branch) = step.grad(self.branch) {
            let (level, accumulate) = (step.options().simd, branch.accumulate);
            match &self.mask {
                Some(mask) => {
                    mask.apply(level, step.parallel(), step.dy(), &mut branch, accumulate);
                }
                None => {
                    crate::elementwise::accumulate(level, step.dy(), &mut branch, accumulate);
                }
            }
        }
        step.pass(self.x);
    }
}
