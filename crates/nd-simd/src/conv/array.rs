//! Convolution of arrays along time.

use nd_core::autograd::Accumulate;
use ndarray::{Array1, Array3, ArrayRef1, ArrayRef3, Dim};

use super::{
    Conv1d, ConvLayout, ConvSizes, conv1d_backward, conv1d_forward, conv1d_scratch, transpose_taps,
};
use crate::lanes::SimdReal;
use crate::layout::{copy_standard, from_values, has_shape, level, parallel, standard};

/// The gradients of a convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv1dGradients<R> {
    /// Of the input, of its shape.
    pub x: Array3<R>,
    /// Of the weight, `[out, in, kernel]`.
    pub w: Array3<R>,
    /// Of the bias, `[out]`.
    pub bias: Array1<R>,
}

/// The sizes, from arrays that have been checked to fit.
#[track_caller]
fn sizes(conv: &Conv1d, x: &[usize], w: &[usize]) -> ConvSizes {
    let (inputs, len) = match conv.layout {
        ConvLayout::ChannelsLast => (x[2], x[1]),
        ConvLayout::ChannelsFirst => (x[1], x[2]),
    };
    let because = format!("`x` {x:?} with {conv:?}");
    has_shape("w", w, &[w[0], inputs, conv.kernel], &because);
    ConvSizes {
        batch: x[0],
        len,
        inputs,
        outputs: w[0],
    }
}

fn output_dim(conv: &Conv1d, sizes: ConvSizes, steps: usize) -> [usize; 3] {
    match conv.layout {
        ConvLayout::ChannelsLast => [sizes.batch, steps, sizes.outputs],
        ConvLayout::ChannelsFirst => [sizes.batch, sizes.outputs, steps],
    }
}

/// `[out, in, kernel]` to `[kernel, in, out]`, a matrix for each tap.
fn taps<R: SimdReal>(w: &ArrayRef3<R>) -> Vec<R> {
    let mut taps = vec![R::ZERO; w.len()];
    copy_standard(&w.view().reversed_axes(), &mut taps);
    taps
}

/// A convolution along time, as PyTorch's `Conv1d`: weight `[out, in, kernel]`, bias `[out]`, and sequences as
/// [`Conv1d::layout`] says. The result is in standard layout.
///
/// ```
/// use ndarray::array;
/// use nd_simd::conv::{Conv1d, ConvLayout, conv1d};
///
/// let x = array![[[1.0f32, 2.0, 3.0, 4.0]]]; // [batch, channels, steps]
/// let difference = array![[[-1.0, 1.0]]]; // one step against the one before
/// let conv = Conv1d::causal(2, 1).layout(ConvLayout::ChannelsFirst);
/// assert_eq!(conv1d(&x, &difference, None, &conv), array![[[1.0, 1.0, 1.0, 1.0]]]);
/// ```
///
/// # Panics
/// The shapes do not fit, or the taps reach beyond the padded input.
#[must_use]
#[track_caller]
pub fn conv1d<R: SimdReal>(
    x: &ArrayRef3<R>,
    w: &ArrayRef3<R>,
    bias: Option<&ArrayRef1<R>>,
    conv: &Conv1d,
) -> Array3<R> {
    let sizes = sizes(conv, x.shape(), w.shape());
    if let Some(bias) = bias {
        has_shape(
            "bias",
            bias.shape(),
            &[sizes.outputs],
            &format!("`w` {:?}", w.shape()),
        );
    }
    let steps = conv.output_len(sizes.len);
    let mut y = vec![R::ZERO; sizes.batch * steps * sizes.outputs];
    let bias = bias.map(|bias| standard(bias));
    conv1d_forward(
        level(),
        parallel(),
        *conv,
        sizes,
        &standard(x),
        &taps(w),
        bias.as_deref(),
        &mut y,
    );
    from_values(Dim(output_dim(conv, sizes, steps)), y)
}

/// The gradients of [`conv1d()`].
///
/// # Panics
/// As [`conv1d()`]; or `dy` does not have the shape of its result.
#[must_use]
#[track_caller]
pub fn conv1d_gradient<R: SimdReal>(
    x: &ArrayRef3<R>,
    w: &ArrayRef3<R>,
    dy: &ArrayRef3<R>,
    conv: &Conv1d,
) -> Conv1dGradients<R> {
    let sizes = sizes(conv, x.shape(), w.shape());
    let steps = conv.output_len(sizes.len);
    let because = format!("convolving `x` {:?} with `w` {:?}", x.shape(), w.shape());
    has_shape("dy", dy.shape(), &output_dim(conv, sizes, steps), &because);
    let (level, dims) = (level(), (conv.kernel, sizes.inputs, sizes.outputs));
    let mut w_t = vec![R::ZERO; w.len()];
    transpose_taps(level, &taps(w), dims, &mut w_t);
    let (mut dx, mut dw) = (vec![R::ZERO; x.len()], vec![R::ZERO; w.len()]);
    let mut dbias = vec![R::ZERO; sizes.outputs];
    conv1d_backward(
        level,
        parallel(),
        *conv,
        sizes,
        &standard(x),
        &w_t,
        &standard(dy),
        Some((&mut dx, Accumulate::Write)),
        Some((&mut dw, Accumulate::Write)),
        Some((&mut dbias, Accumulate::Write)),
        &mut vec![R::ZERO; conv1d_scratch(*conv, sizes)],
    );
    let dw = from_values(Dim([dims.0, dims.1, dims.2]), dw);
    Conv1dGradients {
        x: from_values(x.raw_dim(), dx),
        w: crate::permute::permuted(&dw, &[2, 1, 0]),
        bias: Array1::from_vec(dbias),
    }
}
