//! Convolution along time.

use nd_core::autograd::{Backward, NodeId, Op, Orientation, Var};

use super::slot;
use crate::conv::{
    Conv1d, ConvLayout, ConvSizes, conv1d_backward, conv1d_forward, conv1d_scratch, transpose_taps,
};
use crate::lanes::SimdReal;

/// Convolutions on the tape.
pub trait Conv1dExt<'t, R: SimdReal>: Sized {
    /// A convolution along time: x `[B, T, in]` or `[B, in, T]`, as [`Conv1d::layout`] says, w `[kernel, in, out]`, bias `[out]`.
    ///
    /// # Panics
    /// The shapes do not fit, or the taps reach beyond the padded input.
    #[must_use]
    #[track_caller]
    fn conv1d(self, w: Var<'t, R>, bias: Option<Var<'t, R>>, conv: Conv1d) -> Var<'t, R>;
}

impl<'t, R: SimdReal> Conv1dExt<'t, R> for Var<'t, R> {
    fn conv1d(self, w: Var<'t, R>, bias: Option<Var<'t, R>>, conv: Conv1d) -> Var<'t, R> {
        let (x, tape) = (self, self.tape());
        let (xs, ws) = (x.shape(), w.shape());
        assert!(
            xs.len() == 3 && ws.len() == 3,
            "a convolution of x {xs} with w {ws}: both need three dimensions"
        );
        let (len, inputs) = match conv.layout {
            ConvLayout::ChannelsLast => (xs[1], xs[2]),
            ConvLayout::ChannelsFirst => (xs[2], xs[1]),
        };
        assert!(
            ws[0] == conv.kernel && ws[1] == inputs,
            "a convolution of x {xs} needs w [{}, {inputs}, out], found {ws}",
            conv.kernel
        );
        let sizes = ConvSizes {
            batch: xs[0],
            len,
            inputs,
            outputs: ws[2],
        };
        if let Some(bias) = bias {
            assert_eq!(
                bias.shape().numel(),
                sizes.outputs,
                "the bias {} of a convolution with w {ws}",
                bias.shape()
            );
        }
        let steps = conv.output_len(len);
        let shape = match conv.layout {
            ConvLayout::ChannelsLast => [sizes.batch, steps, sizes.outputs],
            ConvLayout::ChannelsFirst => [sizes.batch, sizes.outputs, steps],
        };
        let mut y = tape.scratch(shape.iter().product());
        let bias_value = bias.map(Var::value);
        conv1d_forward(
            tape.options().simd,
            tape.parallel(),
            conv,
            sizes,
            &x.value(),
            &w.value(),
            bias_value.as_deref(),
            &mut y,
        );
        let op = || Convolution {
            x: x.id(),
            w: w.id(),
            bias: bias.map(Var::id),
            conv,
            sizes,
        };
        match bias {
            Some(bias) => tape.record(shape, y, &[x, w, bias], op),
            None => tape.record(shape, y, &[x, w], op),
        }
    }
}

struct Convolution {
    x: NodeId,
    w: NodeId,
    bias: Option<NodeId>,
    conv: Conv1d,
    sizes: ConvSizes,
}

impl<R: SimdReal> Op<R> for Convolution {
    fn name(&self) -> &'static str {
        "conv1d"
    }

    fn backward(&self, step: &Backward<'_, R>) {
        let (level, conv, sizes) = (step.options().simd, self.conv, self.sizes);
        let (x, w) = (step.value(self.x), step.value(self.w));
        let mut dx = step.grad(self.x);
        let mut dw = step.grad(self.w);
        let mut dbias = self.bias.and_then(|bias| step.grad(bias));
        let taps = (conv.kernel, sizes.inputs, sizes.outputs);
        let run = |w_t: &[R], dx, dw, dbias| {
            let parallel = step.parallel();
            conv1d_backward(
                level,
                parallel,
                conv,
                sizes,
                &x,
                w_t,
                step.dy(),
                dx,
                dw,
                dbias,
                &mut step.scratch(conv1d_scratch(conv, sizes)),
            );
        };
        let (dx, dw, dbias) = (slot(&mut dx), slot(&mut dw), slot(&mut dbias));
        match step.param_id(self.w) {
            // Shared by all shards.
            Some(id) => {
                let packs = step.tape().params().packs();
                let w_t = packs.full(id, Orientation::Transposed, w.len(), |out| {
                    transpose_taps(level, &w, taps, out);
                });
                run(w_t, dx, dw, dbias);
            }
            None => {
                let mut w_t = step.scratch(w.len());
                transpose_taps(level, &w, taps, &mut w_t);
                run(&w_t, dx, dw, dbias);
            }
        }
    }
}
