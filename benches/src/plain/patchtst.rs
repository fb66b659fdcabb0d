//! PatchTST, with or without residual scores.

use nd_models::models::PatchTstConfig;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice, Zip};

use super::Pass;
use super::layers::{
    Mask, Normalized, batch_norm, batch_norm_backward, gelu, gelu_backward, linear,
    linear_backward, linear_weights, mask,
};

/// Added to the variance of a window.
const REVIN_EPS: f64 = 1e-5;

/// What an encoder layer keeps.
struct Saved {
    x: Array2<f32>,
    q: Array2<f32>,
    k: Array2<f32>,
    v: Array2<f32>,
    /// The softmax of the scores of every window and head.
    probabilities: Vec<Array2<f32>>,
    mixed: Array2<f32>,
    masks: [Mask; 4],
    norm_attn: Normalized,
    /// The argument of GELU.
    wide: Array2<f32>,
    /// What the second layer of a token's network saw.
    activated: Array2<f32>,
    norm_ffn: Normalized,
}

/// The sizes of attention.
#[derive(Clone, Copy)]
struct Sizes {
    windows: usize,
    tokens: usize,
    heads: usize,
    /// The width of a head.
    width: usize,
}

impl Sizes {
    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    fn ranges(self, window: usize, head: usize) -> [Slice; 2] {
        [
            Slice::from(window * self.tokens..(window + 1) * self.tokens),
            Slice::from(head * self.width..(head + 1) * self.width),
        ]
    }

    /// The tokens of a window, the columns of a head.
    fn part(self, x: &Array2<f32>, window: usize, head: usize) -> ArrayView2<'_, f32> {
        let [rows, cols] = self.ranges(window, head);
        let mut part = x.slice_axis(Axis(0), rows);
        part.slice_axis_inplace(Axis(1), cols);
        part
    }

    fn part_mut(self, x: &mut Array2<f32>, window: usize, head: usize) -> ArrayViewMut2<'_, f32> {
        let [rows, cols] = self.ranges(window, head);
        let mut part = x.slice_axis_mut(Axis(0), rows);
        part.slice_axis_inplace(Axis(1), cols);
        part
    }

    fn problems(self) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> {
        (0..self.windows * self.heads).map(move |at| (at, at / self.heads, at % self.heads))
    }
}

/// Forward, loss and backward; gradients go to `pass.gradients`.
pub(super) fn pass(
    mut pass: Pass<'_>,
    config: &PatchTstConfig,
    inputs: ArrayView2<'_, f32>,
    loss: &mut dyn FnMut(&Array2<f32>) -> Array2<f32>,
) {
    let (rows, _) = inputs.dim();
    let width = config.hidden_size;
    let positions = pass.weights.matrix("model.backbone.W_pos");
    let tokens = positions.nrows();
    let sizes = Sizes {
        windows: rows,
        tokens,
        heads: config.n_heads,
        width: width / config.n_heads,
    };
    let (windows, levels, deviations) = normalized(inputs);
    let patches = patches(&windows, tokens, config);
    let mut x = linear(&pass, "model.backbone.W_P", &patches); // [B N, d]
    for mut window in x.exact_chunks_mut((tokens, width)) {
        window += &positions;
    }
    let dropped = mask(&mut pass, rows, x.dim(), config.dropout);
    x = dropped.apply(x);
    let mut layers = Vec::new();
    let mut scores = None;
    for layer in 0..config.encoder_layers {
        let saved = forward(&mut pass, layer, x, &mut scores, config, sizes);
        x = saved.norm_ffn.y.clone();
        layers.push(saved);
    }
    // The head's weight has the width before the tokens.
    let outputs = pass.weights.vector("model.head.linear.bias").len();
    let head = pass.weights.matrix("model.head.linear.weight");
    let turned = Array2::from_shape_fn((tokens * width, outputs), |(at, out)| {
        head[[at % width * tokens + at / width, out]]
    });
    let flat = x.into_shape_with_order((rows, tokens * width));
    let flat = flat.unwrap_or_else(|_| unreachable!("tokens have no gaps"));
    let mut y = pass.products.of(flat.view(), turned.view());
    y += &pass.weights.vector("model.head.linear.bias");
    for ((mut y, &level), &deviation) in y.outer_iter_mut().zip(&levels).zip(&deviations) {
        y.mapv_inplace(|y| y * deviation + level);
    }

    let mut dy = loss(&y);
    for (mut dy, &deviation) in dy.outer_iter_mut().zip(&deviations) {
        dy *= deviation;
    }
    let dhead = pass.products.of(flat.t(), dy.view());
    let dhead = Array2::from_shape_fn(dhead.dim(), |(at, out)| {
        dhead[[at % tokens * width + at / tokens, out]]
    });
    pass.gradients
        .put_matrix("model.head.linear.weight", &dhead);
    let dbias = dy.sum_axis(Axis(0));
    pass.gradients.put_vector("model.head.linear.bias", &dbias);
    let dx = pass.products.of(dy.view(), turned.t());
    let dx = dx.into_shape_with_order((rows * tokens, width));
    let mut dx = dx.unwrap_or_else(|_| unreachable!("a product has no gaps"));
    let mut dscores = None;
    for (layer, saved) in layers.iter().enumerate().rev() {
        dx = backward(&mut pass, layer, saved, dx, &mut dscores, config, sizes);
    }
    let dx = dropped.apply(dx);
    linear_weights(&mut pass, "model.backbone.W_P", &patches, &dx);
    let mut dpositions = Array2::zeros((tokens, width));
    for window in dx.exact_chunks((tokens, width)) {
        dpositions += &window;
    }
    pass.gradients
        .put_matrix("model.backbone.W_pos", &dpositions);
}

/// Windows less their last value, over their deviation; both.
fn normalized(inputs: ArrayView2<'_, f32>) -> (Array2<f32>, Vec<f32>, Vec<f32>) {
    let mut out = inputs.to_owned();
    let (mut levels, mut deviations) = (Vec::new(), Vec::new());
    for mut window in out.outer_iter_mut() {
        let count = window.len() as f64;
        let mean = window.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
        let squares = window.iter().map(|&x| (f64::from(x) - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count + REVIN_EPS).sqrt() as f32;
        let level = window[window.len() - 1];
        window.mapv_inplace(|x| (x - level) / deviation);
        levels.push(level);
        deviations.push(deviation);
    }
    (out, levels, deviations)
}

/// The tokens of all windows; the last value is repeated for a stride.
fn patches(windows: &Array2<f32>, tokens: usize, config: &PatchTstConfig) -> Array2<f32> {
    let (rows, length) = windows.dim();
    let shape = (rows * tokens, config.patch_len);
    Array2::from_shape_fn(shape, |(token, at)| {
        let place = token % tokens * config.stride + at;
        windows[[token / tokens, place.min(length - 1)]]
    })
}

fn forward(
    pass: &mut Pass<'_>,
    layer: usize,
    x: Array2<f32>,
    scores: &mut Option<Vec<Array2<f32>>>,
    config: &PatchTstConfig,
    sizes: Sizes,
) -> Saved {
    let name = |part: &str| format!("model.backbone.encoder.layers.{layer}.{part}");
    let [q, k, v] = ["self_attn.W_Q", "self_attn.W_K", "self_attn.W_V"]
        .map(|part| linear(pass, &name(part), &x));
    let (mixed, probabilities) = attention(pass, &q, &k, &v, scores, config, sizes);
    let out = linear(pass, &name("self_attn.to_out.0"), &mixed);
    let mut draw = |cols: usize| mask(pass, sizes.windows, (x.nrows(), cols), config.dropout);
    let width = x.ncols();
    let masks = [width, width, config.linear_hidden_size, width].map(&mut draw);
    let branch = masks[1].apply(masks[0].apply(out));
    let norm_attn = batch_norm(pass, &name("norm_attn.1"), &x + &branch);
    let wide = linear(pass, &name("ff.0"), &norm_attn.y);
    let activated = masks[2].apply(gelu(&wide));
    let narrow = masks[3].apply(linear(pass, &name("ff.3"), &activated));
    let norm_ffn = batch_norm(pass, &name("norm_ffn.1"), &norm_attn.y + &narrow);
    Saved {
        x,
        q,
        k,
        v,
        probabilities,
        mixed,
        masks,
        norm_attn,
        wide,
        activated,
        norm_ffn,
    }
}

fn backward(
    pass: &mut Pass<'_>,
    layer: usize,
    saved: &Saved,
    dy: Array2<f32>,
    dscores: &mut Option<Vec<Array2<f32>>>,
    config: &PatchTstConfig,
    sizes: Sizes,
) -> Array2<f32> {
    let name = |part: &str| format!("model.backbone.encoder.layers.{layer}.{part}");
    let dsum = batch_norm_backward(pass, &name("norm_ffn.1"), &saved.norm_ffn, dy);
    let dnarrow = saved.masks[3].apply(dsum.clone());
    let dactivated = linear_backward(pass, &name("ff.3"), &saved.activated, &dnarrow);
    let dwide = gelu_backward(&saved.wide, saved.masks[2].apply(dactivated));
    let dnorm = dsum + linear_backward(pass, &name("ff.0"), &saved.norm_attn.y, &dwide);
    let mut dx = batch_norm_backward(pass, &name("norm_attn.1"), &saved.norm_attn, dnorm);
    let dout = saved.masks[0].apply(saved.masks[1].apply(dx.clone()));
    let dmixed = linear_backward(pass, &name("self_attn.to_out.0"), &saved.mixed, &dout);
    let [dq, dk, dv] = attention_backward(pass, saved, &dmixed, dscores, config, sizes);
    for (part, d) in [
        ("self_attn.W_Q", dq),
        ("self_attn.W_K", dk),
        ("self_attn.W_V", dv),
    ] {
        dx += &linear_backward(pass, &name(part), &saved.x, &d);
    }
    dx
}

/// `softmax(scale q k^T + scores before) v` of every window and head; the scores become those of this layer.
fn attention(
    pass: &Pass<'_>,
    q: &Array2<f32>,
    k: &Array2<f32>,
    v: &Array2<f32>,
    scores: &mut Option<Vec<Array2<f32>>>,
    config: &PatchTstConfig,
    sizes: Sizes,
) -> (Array2<f32>, Vec<Array2<f32>>) {
    let mut out = Array2::zeros(q.dim());
    let (mut probabilities, mut own_scores) = (Vec::new(), Vec::new());
    let scale = sizes.scale();
    for (at, window, head) in sizes.problems() {
        let part = |x| sizes.part(x, window, head);
        let mut s = pass.products.of(part(q), part(k).reversed_axes());
        s.mapv_inplace(|x| x * scale);
        if let Some(before) = scores.as_ref() {
            s += &before[at];
        }
        if config.res_attention {
            own_scores.push(s.clone());
        }
        for mut row in s.outer_iter_mut() {
            let largest = row.fold(f32::NEG_INFINITY, |a, &x| a.max(x));
            row.mapv_inplace(|x| (x - largest).exp());
            let sum = row.sum();
            row /= sum;
        }
        let mixed = pass.products.of(s.view(), part(v));
        sizes.part_mut(&mut out, window, head).assign(&mixed);
        probabilities.push(s);
    }
    *scores = config.res_attention.then_some(own_scores);
    (out, probabilities)
}

/// The gradients of q, k and v; those of the scores go on to the layer before.
fn attention_backward(
    pass: &Pass<'_>,
    saved: &Saved,
    dmixed: &Array2<f32>,
    dscores: &mut Option<Vec<Array2<f32>>>,
    config: &PatchTstConfig,
    sizes: Sizes,
) -> [Array2<f32>; 3] {
    let [mut dq, mut dk, mut dv] = [(); 3].map(|()| Array2::zeros(saved.q.dim()));
    let mut own = Vec::new();
    let scale = sizes.scale();
    for (at, window, head) in sizes.problems() {
        let part = |x| sizes.part(x, window, head);
        let put = |to: &mut Array2<f32>, values: &Array2<f32>| {
            sizes.part_mut(to, window, head).assign(values);
        };
        let (p, dout) = (&saved.probabilities[at], part(dmixed));
        put(&mut dv, &pass.products.of(p.t(), dout));
        let mut ds = pass.products.of(dout, part(&saved.v).reversed_axes());
        for (mut ds, p) in ds.outer_iter_mut().zip(p.outer_iter()) {
            let mean: f32 = ds.iter().zip(&p).map(|(ds, p)| ds * p).sum();
            Zip::from(&mut ds)
                .and(&p)
                .for_each(|ds, &p| *ds = p * (*ds - mean));
        }
        if let Some(later) = dscores.as_ref() {
            ds += &later[at];
        }
        let mut scaled = pass.products.of(ds.view(), part(&saved.k));
        scaled *= scale;
        put(&mut dq, &scaled);
        let mut scaled = pass.products.of(ds.t(), part(&saved.q));
        scaled *= scale;
        put(&mut dk, &scaled);
        if config.res_attention {
            own.push(ds);
        }
    }
    *dscores = config.res_attention.then_some(own);
    [dq, dk, dv]
}
