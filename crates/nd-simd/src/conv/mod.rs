//! Convolution along time with dilation and padding, forward and backward: the causal convolution of temporal networks.
//!
//! `y[b, t, o] = bias[o] + sum_j sum_c w[j, c, o] x[b, t + j dilation - left, c]`, zeros beyond both ends (a cross-correlation, as
//! PyTorch's `Conv1d`, at stride one). Causal is `left = (kernel - 1) dilation`, nothing on the right: step `t` sees `t` and
//! what came before.
//!
//! The simple version is five nested loops. Here a convolution is a sum of `kernel` matrix products, one for each tap: the steps that
//! a tap reaches form a block of rows of `x`, so nothing is gathered or padded. The sum stays in the output, which the
//! products of one sequence find in cache. Backward, the taps' products with the transposed weights are added to the shifted
//! rows of `dx`, and the weights of a tap get the product of its rows of `x` with those of `dy`.
//!
//! Sequences may be `[B, T, C]` or `[B, C, T]`; that is a matter of strides ([`ConvLayout`]). Weights are `[kernel, in, out]`, a matrix
//! for each tap.
//!
//! Known weakness: short sequences make small products; few channels leave lanes idle. Kernels of many taps read and write the
//! output once per tap.

mod array;

pub use array::{Conv1dGradients, conv1d, conv1d_gradient};

use nd_core::autograd::Accumulate;
use nd_core::threads;

use crate::dispatch::SimdLevel;
use crate::elementwise::accumulate;
use crate::lanes::SimdReal;
use crate::matmul::{Epilogue, MatMut, MatRef, multiply, multiply_fused};
use crate::reduce::{column_sums, sum_slice};
use crate::tree::for_each_block;

/// Multiply-adds that one task handles at least: tens of microseconds of one core.
const TASK: usize = 1 << 20;

/// Steps that one chain of additions takes for the gradient of a weight: as many as a matrix product's. Over thousands of
/// sequences a single chain would lose digits.
const CHAIN: usize = 512;

/// The order of the axes of sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConvLayout {
    /// `[batch, steps, channels]`
    #[default]
    ChannelsLast,
    /// `[batch, channels, steps]`, PyTorch's.
    ChannelsFirst,
}

/// A convolution along time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv1d {
    /// The number of taps.
    pub kernel: usize,
    /// The distance between taps.
    pub dilation: usize,
    /// Zeros before the first step.
    pub left: usize,
    /// Zeros after the last step.
    pub right: usize,
    /// The order of the axes of input and output.
    pub layout: ConvLayout,
}

impl Conv1d {
    /// A causal convolution: as many steps as the input has, each seeing itself and the past.
    ///
    /// # Panics
    /// No taps, or a dilation of zero.
    #[must_use]
    #[track_caller]
    pub fn causal(kernel: usize, dilation: usize) -> Self {
        let conv = Self {
            kernel,
            dilation,
            left: 0,
            right: 0,
            layout: ConvLayout::default(),
        };
        Self {
            left: conv.reach(),
            ..conv
        }
    }

    /// A convolution without padding.
    #[must_use]
    pub fn valid(kernel: usize, dilation: usize) -> Self {
        Self {
            kernel,
            dilation,
            left: 0,
            right: 0,
            layout: ConvLayout::default(),
        }
    }

    /// The same with another order of axes.
    #[must_use]
    pub fn layout(self, layout: ConvLayout) -> Self {
        Self { layout, ..self }
    }

    /// The steps between the first and the last tap.
    #[track_caller]
    fn reach(&self) -> usize {
        assert!(
            self.kernel > 0 && self.dilation > 0,
            "a convolution needs a kernel and a dilation of at least one, found {self:?}"
        );
        (self.kernel - 1) * self.dilation
    }

    /// The steps of the output for `len` steps of input: `len + left + right - (kernel - 1) dilation`.
    ///
    /// # Panics
    /// No taps, a dilation of zero, or taps that reach beyond the padded input.
    #[must_use]
    #[track_caller]
    pub fn output_len(&self, len: usize) -> usize {
        let (padded, reach) = (len + self.left + self.right, self.reach());
        assert!(
            padded > reach,
            "{self:?} reaches over {} steps, but the padded input has {padded}",
            reach + 1
        );
        padded - reach
    }

    /// The steps of the output that tap `j` adds to, and the step of the input that the first of them reads.
    fn tap(&self, j: usize, len: usize) -> (std::ops::Range<usize>, usize) {
        let shift = j * self.dilation;
        let end = (len + self.left)
            .saturating_sub(shift)
            .min(self.output_len(len));
        let start = self.left.saturating_sub(shift).min(end);
        (start..end, (start + shift).saturating_sub(self.left))
    }
}

/// The sizes of a convolution's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvSizes {
    /// Sequences.
    pub batch: usize,
    /// Steps of the input.
    pub len: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
}

/// The plan that all passes share.
#[derive(Clone, Copy)]
struct Plan {
    level: SimdLevel,
    conv: Conv1d,
    sizes: ConvSizes,
    steps: usize,
}

impl Plan {
    #[track_caller]
    fn new(level: SimdLevel, conv: Conv1d, sizes: ConvSizes) -> Self {
        let steps = conv.output_len(sizes.len);
        Self {
            level,
            conv,
            sizes,
            steps,
        }
    }

    #[track_caller]
    fn check(&self, name: &str, len: usize, shape: &[usize]) {
        assert_eq!(
            len,
            shape.iter().product::<usize>(),
            "elements of {name} {shape:?} of {:?} with {:?}",
            self.conv,
            self.sizes
        );
    }

    /// One sequence as a matrix of steps and channels.
    fn sequence<'a, R: SimdReal>(
        &self,
        data: &'a [R],
        steps: usize,
        channels: usize,
    ) -> MatRef<'a, R> {
        match self.conv.layout {
            ConvLayout::ChannelsLast => MatRef::row_major(data, steps, channels),
            ConvLayout::ChannelsFirst => MatRef::row_major(data, channels, steps).t(),
        }
    }

    fn sequence_mut<'a, R: SimdReal>(
        &self,
        data: &'a mut [R],
        steps: usize,
        channels: usize,
    ) -> MatMut<'a, R> {
        match self.conv.layout {
            ConvLayout::ChannelsLast => MatMut::row_major(data, steps, channels),
            ConvLayout::ChannelsFirst => MatMut::row_major(data, channels, steps).t(),
        }
    }

    /// Elements of whole sequences of `each` elements that one task handles.
    fn chunk(&self, each: usize) -> usize {
        let ConvSizes {
            inputs, outputs, ..
        } = self.sizes;
        let work = self.conv.kernel * self.steps * inputs * outputs;
        each.max(1) * TASK.div_ceil(work.max(1))
    }

    /// One sequence forward.
    fn forward<R: SimdReal>(&self, x: &[R], w: &[R], bias: Option<&[R]>, y: &mut [R]) {
        let ConvSizes {
            len,
            inputs,
            outputs,
            ..
        } = self.sizes;
        let rows = self.conv.layout == ConvLayout::ChannelsLast;
        let reaches_all = |&j: &usize| self.conv.tap(j, len).0 == (0..self.steps);
        // The first product writes if it reaches every step, and brings the bias where channels are neighbours.
        let first = (0..self.conv.kernel).rev().find(reaches_all);
        let first = first.filter(|_| rows || bias.is_none());
        if first.is_none() {
            self.fill(bias, y);
        }
        let x = self.sequence(x, len, inputs);
        let mut y = self.sequence_mut(y, self.steps, outputs);
        let tap_weight = |j: usize| {
            let size = inputs * outputs;
            MatRef::row_major(&w[j * size..][..size], inputs, outputs)
        };
        if let Some(j) = first {
            let (_, from) = self.conv.tap(j, len);
            let epilogue = Epilogue {
                bias,
                ..Epilogue::default()
            };
            let x = x.row_block(from, self.steps);
            let y = y.reborrow();
            multiply_fused(self.level, R::ONE, x, tap_weight(j), R::ZERO, y, epilogue);
        }
        for j in (0..self.conv.kernel).filter(|&j| Some(j) != first) {
            let (range, from) = self.conv.tap(j, len);
            if range.is_empty() {
                continue;
            }
            let x = x.row_block(from, range.len());
            let y = y.reborrow().row_block(range.start, range.len());
            multiply(self.level, R::ONE, x, tap_weight(j), R::ONE, y);
        }
    }

    /// `y = bias`
    fn fill<R: SimdReal>(&self, bias: Option<&[R]>, y: &mut [R]) {
        match (bias, self.conv.layout) {
            (None, _) => y.fill(R::ZERO),
            (Some(bias), ConvLayout::ChannelsLast) => {
                for y in y.chunks_exact_mut(bias.len().max(1)) {
                    y.copy_from_slice(bias);
                }
            }
            (Some(bias), ConvLayout::ChannelsFirst) => {
                for (y, &bias) in y.chunks_exact_mut(self.steps).zip(bias) {
                    y.fill(bias);
                }
            }
        }
    }

    /// One sequence: `dx (+)= sum over taps of dy w_j^T`.
    fn input_gradient<R: SimdReal>(&self, w_t: &[R], dy: &[R], dx: &mut [R], acc: Accumulate) {
        let ConvSizes {
            len,
            inputs,
            outputs,
            ..
        } = self.sizes;
        if acc == Accumulate::Write {
            dx.fill(R::ZERO);
        }
        let dy = self.sequence(dy, self.steps, outputs);
        let mut dx = self.sequence_mut(dx, len, inputs);
        for (j, w_t) in w_t.chunks_exact((inputs * outputs).max(1)).enumerate() {
            let (range, from) = self.conv.tap(j, len);
            if range.is_empty() {
                continue;
            }
            let w_t = MatRef::row_major(w_t, outputs, inputs);
            let dy = dy.row_block(range.start, range.len());
            let dx = dx.reborrow().row_block(from, range.len());
            multiply(self.level, R::ONE, dy, w_t, R::ONE, dx);
        }
    }

    /// Sequences whose products for the gradient of a weight may be added in one chain.
    fn group(&self) -> usize {
        (CHAIN / self.steps).max(1)
    }

    /// The weights of tap `j`: `dw_j (+)= sum over sequences of x^T dy`, in one chain of additions.
    fn sum_of_products<R: SimdReal>(
        &self,
        j: usize,
        x: &[R],
        dy: &[R],
        dw: &mut [R],
        mut acc: Accumulate,
    ) {
        let ConvSizes {
            len,
            inputs,
            outputs,
            ..
        } = self.sizes;
        let (range, from) = self.conv.tap(j, len);
        let sequences = x
            .chunks_exact((len * inputs).max(1))
            .zip(dy.chunks_exact((self.steps * outputs).max(1)));
        for (x, dy) in sequences.filter(|_| !range.is_empty()) {
            let x = self.sequence(x, len, inputs).row_block(from, range.len());
            let dy = self.sequence(dy, self.steps, outputs);
            let dy = dy.row_block(range.start, range.len());
            let dw = MatMut::row_major(dw, inputs, outputs);
            multiply(self.level, R::ONE, x.t(), dy, acc.beta(), dw);
            acc = Accumulate::Add;
        }
        if acc == Accumulate::Write {
            dw.fill(R::ZERO);
        }
    }

    /// The same over any number of sequences, a chain at a time.
    fn tap_gradient<R: SimdReal>(
        &self,
        j: usize,
        x: &[R],
        dy: &[R],
        dw: &mut [R],
        partial: &mut [R],
        mut acc: Accumulate,
    ) {
        if partial.is_empty() {
            self.sum_of_products(j, x, dy, dw, acc);
            return;
        }
        let each = |steps: usize, channels: usize| (self.group() * steps * channels).max(1);
        let groups = x
            .chunks(each(self.sizes.len, self.sizes.inputs))
            .zip(dy.chunks(each(self.steps, self.sizes.outputs)));
        for (x, dy) in groups {
            self.sum_of_products(j, x, dy, partial, Accumulate::Write);
            accumulate(self.level, partial, dw, acc);
            acc = Accumulate::Add;
        }
        if acc == Accumulate::Write {
            dw.fill(R::ZERO);
        }
    }

    fn bias_gradient<R: SimdReal>(&self, dy: &[R], dbias: &mut [R], acc: Accumulate) {
        let outputs = self.sizes.outputs;
        if self.conv.layout == ConvLayout::ChannelsLast {
            column_sums(self.level, dy, dbias, acc);
            return;
        }
        for (o, dbias) in dbias.iter_mut().enumerate() {
            let channel = dy.chunks_exact(self.steps).skip(o).step_by(outputs);
            let total: f64 = channel.map(|dy| sum_slice(self.level, dy)).sum();
            acc.store(dbias, R::from_f64(total));
        }
    }
}

/// `y = conv(x, w) + bias`: x `[batch, len, inputs]` and y `[batch, output_len, outputs]` (or with steps last, as the layout says), w
/// `[kernel, inputs, outputs]`, bias `[outputs]`.
///
/// With `parallel`, sequences are split over the threads of the current pool; the bits are the same.
///
/// # Panics
/// A slice does not have the size of its shape, or the taps do not fit ([`Conv1d::output_len`]).
#[track_caller]
pub fn conv1d_forward<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    conv: Conv1d,
    sizes: ConvSizes,
    x: &[R],
    w: &[R],
    bias: Option<&[R]>,
    y: &mut [R],
) {
    let plan = Plan::new(level, conv, sizes);
    let ConvSizes {
        batch,
        len,
        inputs,
        outputs,
    } = sizes;
    plan.check("x", x.len(), &[batch, len, inputs]);
    plan.check("w", w.len(), &[conv.kernel, inputs, outputs]);
    plan.check("y", y.len(), &[batch, plan.steps, outputs]);
    if let Some(bias) = bias {
        plan.check("the bias", bias.len(), &[outputs]);
    }
    if y.is_empty() {
        return;
    }
    let (from, to) = (len * inputs, plan.steps * outputs);
    let chunk = plan.chunk(to);
    threads::for_each_chunk(parallel, y, chunk, |i, y| {
        for (b, y) in y.chunks_exact_mut(to).enumerate() {
            let b = i * (chunk / to) + b;
            plan.forward(&x[b * from..][..from], w, bias, y);
        }
    });
}

/// The gradients of the weights of some taps.
struct Taps<'a, R> {
    first: usize,
    size: usize,
    dw: &'a mut [R],
    /// Memory for the sum of a chain, as much; empty where one chain is enough.
    partial: &'a mut [R],
}

impl<R> Taps<'_, R> {
    fn split(self, taps: usize) -> (Self, Self) {
        let Self { first, size, .. } = self;
        let (dw, more_dw) = self.dw.split_at_mut((taps * size).min(self.dw.len()));
        let cut = (taps * size).min(self.partial.len());
        let (partial, more_partial) = self.partial.split_at_mut(cut);
        (
            Self {
                first,
                size,
                dw,
                partial,
            },
            Self {
                first: first + taps,
                size,
                dw: more_dw,
                partial: more_partial,
            },
        )
    }
}

/// The elements of scratch memory that [`conv1d_backward`] needs: none for few sequences.
///
/// # Panics
/// The taps do not fit ([`Conv1d::output_len`]).
#[must_use]
#[track_caller]
pub fn conv1d_scratch(conv: Conv1d, sizes: ConvSizes) -> usize {
    let group = Plan::new(SimdLevel::Scalar, conv, sizes).group();
    if sizes.batch > group {
        conv.kernel * sizes.inputs * sizes.outputs
    } else {
        0
    }
}

/// The gradients of [`conv1d_forward`]; `None` for those nobody wants.
///
/// `w_t [kernel, outputs, inputs]` holds the transposed weights of each tap; `scratch` has [`conv1d_scratch`] elements. Sums
/// over sequences are taken in their order, so any number of threads gives the same bits.
///
/// # Panics
/// A slice does not have the size of its shape, or the taps do not fit ([`Conv1d::output_len`]).
#[track_caller]
pub fn conv1d_backward<R: SimdReal>(
    level: SimdLevel,
    parallel: bool,
    conv: Conv1d,
    sizes: ConvSizes,
    x: &[R],
    w_t: &[R],
    dy: &[R],
    dx: Option<(&mut [R], Accumulate)>,
    dw: Option<(&mut [R], Accumulate)>,
    dbias: Option<(&mut [R], Accumulate)>,
    scratch: &mut [R],
) {
    let plan = Plan::new(level, conv, sizes);
    let ConvSizes {
        batch,
        len,
        inputs,
        outputs,
    } = sizes;
    plan.check("scratch", scratch.len(), &[conv1d_scratch(conv, sizes)]);
    plan.check("x", x.len(), &[batch, len, inputs]);
    plan.check("w_t", w_t.len(), &[conv.kernel, outputs, inputs]);
    plan.check("dy", dy.len(), &[batch, plan.steps, outputs]);
    if let Some((dbias, acc)) = dbias {
        plan.check("the bias gradient", dbias.len(), &[outputs]);
        plan.bias_gradient(dy, dbias, acc);
    }
    if let Some((dw, acc)) = dw {
        plan.check("dw", dw.len(), &[conv.kernel, inputs, outputs]);
        let taps = Taps {
            first: 0,
            size: (inputs * outputs).max(1),
            dw,
            partial: scratch,
        };
        let work = |taps: Taps<'_, R>| {
            let mut partials = taps.partial.chunks_exact_mut(taps.size);
            for (j, dw) in taps.dw.chunks_exact_mut(taps.size).enumerate() {
                let partial = partials.next().unwrap_or_default();
                plan.tap_gradient(taps.first + j, x, dy, dw, partial, acc);
            }
        };
        for_each_block(taps, conv.kernel, 1, parallel, &Taps::split, &work);
    }
    if let Some((dx, acc)) = dx {
        plan.check("dx", dx.len(), &[batch, len, inputs]);
        if dx.is_empty() {
            return;
        }
        let (to, from) = (len * inputs, plan.steps * outputs);
        let chunk = plan.chunk(to);
        threads::for_each_chunk(parallel, dx, chunk, |i, dx| {
            for (b, dx) in dx.chunks_exact_mut(to).enumerate() {
                let b = i * (chunk / to) + b;
                plan.input_gradient(w_t, &dy[b * from..][..from], dx, acc);
            }
        });
    }
}

/// The weights of each tap transposed: `[kernel, rows, cols]` to `[kernel, cols, rows]`.
///
/// # Panics
/// A slice has another size.
#[track_caller]
pub fn transpose_taps<R: SimdReal>(
    level: SimdLevel,
    w: &[R],
    (kernel, rows, cols): (usize, usize, usize),
    w_t: &mut [R],
) {
    assert!(
        w.len() == kernel * rows * cols && w_t.len() == w.len(),
        "{} and {} weights of {kernel} taps of {rows} x {cols}",
        w.len(),
        w_t.len()
    );
    let size = (rows * cols).max(1);
    for (w, w_t) in w.chunks_exact(size).zip(w_t.chunks_exact_mut(size)) {
        crate::permute::transpose(level, w, rows, cols, w_t);
    }
}
