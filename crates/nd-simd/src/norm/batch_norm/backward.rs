//! The backward passes of batch norm: through the batch's statistics, and with frozen ones.

use super::*;

/// `sum dy` and `sum dy x_hat` of each column of one block: `out` is `[2, cols]`.
pub(super) struct BlockGradients<'a, R> {
    pub(super) saved: BatchNormSaved<'a, R>,
    pub(super) x: &'a [R],
    pub(super) dy: &'a [R],
    pub(super) out: &'a mut [R],
}

impl<R: SimdReal> Kernel for BlockGradients<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let Self { saved, x, dy, out } = self;
        let cols = saved.gain.len();
        let (biases, gains) = out.split_at_mut(cols);
        for_each_strip!(S, R, cols, |c, width| strip_gradients(
            simd,
            saved,
            x,
            dy,
            c,
            &mut biases[c..c + width],
            &mut gains[c..c + width]
        ));
    }
}

#[inline(always)]
fn strip_gradients<const W: usize, S: Isa, R: SimdReal>(
    simd: S,
    saved: BatchNormSaved<'_, R>,
    x: &[R],
    dy: &[R],
    c: usize,
    biases: &mut [R],
    gains: &mut [R],
) {
    let (cols, width) = (saved.gain.len(), biases.len());
    let [mean, rstd, _] = saved.strip::<W, S>(simd, c, width);
    let mut bias = [Lanes::<S, R>::zero(simd); W];
    let mut gain = bias;
    for (x, dy) in x.chunks_exact(cols).zip(dy.chunks_exact(cols)) {
        let x = load::<W, S, R>(simd, &x[c..c + width]);
        let dy = load::<W, S, R>(simd, &dy[c..c + width]);
        for i in 0..W {
            bias[i] += dy[i];
            gain[i] = dy[i].mul_add((x[i] - mean[i]) * rstd[i], gain[i]);
        }
    }
    store(bias, biases);
    store(gain, gains);
}

pub(super) struct InputGradient<'a, R> {
    pub(super) saved: BatchNormSaved<'a, R>,
    /// `sum dy` and `sum dy x_hat`, each over the number of rows; `None` when the statistics do not depend on `x`.
    pub(super) means: Option<(&'a [R], &'a [R])>,
    pub(super) share: f64,
    pub(super) x: &'a [R],
    pub(super) dy: &'a [R],
    pub(super) dx: &'a mut [R],
    pub(super) acc: Accumulate,
}

impl<R: SimdReal> Kernel for InputGradient<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let cols = self.saved.gain.len();
        let mut this = self;
        for_each_strip!(S, R, cols, |c, width| strip_input_gradient(
            simd, &mut this, c, width
        ));
    }
}

#[inline(always)]
fn strip_input_gradient<const W: usize, S: Isa, R: SimdReal>(
    simd: S,
    this: &mut InputGradient<'_, R>,
    c: usize,
    width: usize,
) {
    let cols = this.saved.gain.len();
    let zero = Lanes::<S, R>::zero(simd);
    let [mean, rstd, slope] = this.saved.strip::<W, S>(simd, c, width);
    // dx = slope (dy - mean(dy) - x_hat mean(dy x_hat)) = slope (dy - shift - (x - mean) tilt)
    let mut shift = [zero; W];
    let mut tilt = [zero; W];
    if let Some((bias, gain)) = this.means {
        let bias = load::<W, S, R>(simd, &bias[c..c + width]);
        let gain = load::<W, S, R>(simd, &gain[c..c + width]);
        for i in 0..W {
            shift[i] = bias[i] * R::from_f64(this.share);
            tilt[i] = gain[i] * R::from_f64(this.share) * rstd[i];
        }
    }
    let rows = this.x.chunks_exact(cols).zip(this.dy.chunks_exact(cols));
    for ((x, dy), dx) in rows.zip(this.dx.chunks_exact_mut(cols)) {
        let x = load::<W, S, R>(simd, &x[c..c + width]);
        let dy = load::<W, S, R>(simd, &dy[c..c + width]);
        let dx = &mut dx[c..c + width];
        let mut out = match this.acc {
            Accumulate::Write => [zero; W],
            Accumulate::Add => load::<W, S, R>(simd, dx),
        };
        for i in 0..W {
            let inner = (mean[i] - x[i]).mul_add(tilt[i], dy[i] - shift[i]);
            out[i] = inner.mul_add(slope[i], out[i]);
        }
        store(out, dx);
    }
}

instantiate! {
    /// The gradients of a batch norm that used the statistics of its batch.
    ///
    /// `dbias (+)= sum dy`, `dgain (+)= sum dy x_hat`, and
    /// `dx (+)= gain rstd (dy - mean(dy) - x_hat mean(dy x_hat))`. `scratch` has [`batch_norm_scratch`] elements; the bits
    /// do not depend on `parallel`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn batch_norm_backward<R>(
        level: SimdLevel,
        parallel: bool,
        saved: BatchNormSaved<'_, R>,
        x: &[R],
        dy: &[R],
        dx: Option<(&mut [R], Accumulate)>,
        dgain: Option<(&mut [R], Accumulate)>,
        dbias: Option<(&mut [R], Accumulate)>,
        scratch: &mut [R],
    )
    { check_backward(saved, x, dy, &dx, &dgain, &dbias, scratch); }
    then {
        backward(level, parallel, saved, x, dy, dx, dgain, dbias, scratch, true)
    }
}

instantiate! {
    /// The gradients of a batch norm that used running statistics: as [`batch_norm_backward`], but `dx (+)= gain rstd dy`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn batch_norm_frozen_backward<R>(
        level: SimdLevel,
        parallel: bool,
        saved: BatchNormSaved<'_, R>,
        x: &[R],
        dy: &[R],
        dx: Option<(&mut [R], Accumulate)>,
        dgain: Option<(&mut [R], Accumulate)>,
        dbias: Option<(&mut [R], Accumulate)>,
        scratch: &mut [R],
    )
    { check_backward(saved, x, dy, &dx, &dgain, &dbias, scratch); }
    then {
        backward(level, parallel, saved, x, dy, dx, dgain, dbias, scratch, false)
    }
}

type Slot<'a, R> = Option<(&'a mut [R], Accumulate)>;

#[track_caller]
fn check_backward<R: SimdReal>(
    saved: BatchNormSaved<'_, R>,
    x: &[R],
    dy: &[R],
    dx: &Slot<'_, R>,
    dgain: &Slot<'_, R>,
    dbias: &Slot<'_, R>,
    scratch: &[R],
) {
    let cols = saved.gain.len();
    saved.check(cols);
    same_length("x", x.len(), "dy", dy.len());
    whole_rows("x", x.len(), "gain", cols);
    if let Some((dx, _)) = dx {
        same_length("x", x.len(), "dx", dx.len());
    }
    for slot in [dgain, dbias].into_iter().flatten() {
        same_length("gain", cols, "dgain or dbias", slot.0.len());
    }
    let needed = batch_norm_scratch(x.len() / cols.max(1), cols);
    same_length(
        "scratch",
        scratch.len(),
        "batch_norm_scratch(rows, cols)",
        needed,
    );
}

#[allow(
    clippy::too_many_arguments,
    reason = "the body of two public functions"
)]
#[inline(always)]
fn backward<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    saved: BatchNormSaved<'_, R>,
    x: &[R],
    dy: &[R],
    dx: Slot<'_, R>,
    dgain: Slot<'_, R>,
    dbias: Slot<'_, R>,
    scratch: &mut [R],
    through_statistics: bool,
) {
    let cols = saved.gain.len();
    if x.is_empty() {
        for (slot, acc) in [dgain, dbias].into_iter().flatten() {
            if acc == Accumulate::Write {
                slot.fill(R::ZERO);
            }
        }
        return;
    }
    let (rows, block) = (x.len() / cols, block_rows(cols));
    tree::for_each_block(
        (x, dy, &mut *scratch),
        rows,
        block,
        parallel,
        &|(x, dy, partials): (&[R], &[R], &mut [R]), at| {
            let (x_left, x_right) = x.split_at(at * cols);
            let (dy_left, dy_right) = dy.split_at(at * cols);
            let (left, right) = partials.split_at_mut(at / block * 2 * cols);
            ((x_left, dy_left, left), (x_right, dy_right, right))
        },
        &|(x, dy, partials)| {
            let blocks = x.chunks(block * cols).zip(dy.chunks(block * cols));
            for ((x, dy), out) in blocks.zip(partials.chunks_exact_mut(2 * cols)) {
                dispatch(level, BlockGradients { saved, x, dy, out });
            }
        },
    );
    dispatch(
        level,
        MergeSums {
            partials: scratch,
            width: 2 * cols,
        },
    );
    let (bias, gain) = scratch[..2 * cols].split_at(cols);
    if let Some((dbias, acc)) = dbias {
        accumulate(level, bias, dbias, acc);
    }
    if let Some((dgain, acc)) = dgain {
        accumulate(level, gain, dgain, acc);
    }
    if let Some((dx, acc)) = dx {
        let means = through_statistics.then_some((bias, gain));
        let share = 1.0 / rows as f64;
        tree::for_each_block(
            (x, dy, dx),
            rows,
            block,
            parallel,
            &|(x, dy, dx): (&[R], &[R], &mut [R]), at| {
                let (x_left, x_right) = x.split_at(at * cols);
                let (dy_left, dy_right) = dy.split_at(at * cols);
                let (dx_left, dx_right) = dx.split_at_mut(at * cols);
                ((x_left, dy_left, dx_left), (x_right, dy_right, dx_right))
            },
            &|(x, dy, dx)| {
                dispatch(
                    level,
                    InputGradient {
                        saved,
                        means,
                        share,
                        x,
                        dy,
                        dx,
                        acc,
                    },
                );
            },
        );
    }
}
