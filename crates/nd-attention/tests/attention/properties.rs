//! Random shapes, masks, biases, heads and block sizes against the f64 specification, forward and backward.

use nd_attention::flash::{
    AttentionElement, Bias, BlockMask, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut,
    HeadsRef, Mask, Window,
};
use nd_attention::reference;
use nd_core::autograd::Accumulate;
use nd_core::{Element, MemoryPool, SimdLevel, bf16, f16};
use nd_simd::matmul::Bf16Engine;
use nd_testing::cases::normals;
use proptest::prelude::*;

/// Relative to the largest element of a tensor, or, for gradients of queries, keys and the bias, to the sum of the absolute values of an
/// element's terms if that is more: a few hundred roundings.
const TOLERANCE_F32: f64 = 1e-5;
/// As above.
const TOLERANCE_F64: f64 = 1e-12;
/// Eight roundings to bf16: of weights, of the output that the backward pass reads, of results.
const TOLERANCE_BF16: f64 = 8.0 / 512.0;
/// The same to f16.
const TOLERANCE_F16: f64 = 8.0 / 4096.0;

#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    /// Heads of values, of keys for each of those, of queries for each of these.
    heads: [usize; 3],
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
    causal: Option<Causal>,
    window: Option<Window>,
    lengths: bool,
    /// Sizes of the blocks of a grid, and a seed for which of them are kept.
    grid: Option<(usize, usize, u64)>,
    bias: bool,
    blocks: (usize, usize),
    token_major: bool,
    seed: u64,
    level: usize,
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = (1..3_usize, 1..3_usize, 1..3_usize).prop_map(|(a, b, c)| [a, b, c]);
    let causal = prop_oneof![
        Just(None),
        Just(Some(Causal::UpperLeft)),
        Just(Some(Causal::LowerRight))
    ];
    let window = proptest::option::of(
        (0..40_usize, 0..40_usize).prop_map(|(before, after)| Window { before, after }),
    );
    let grid = proptest::option::of((1..40_usize, 1..40_usize, any::<u64>()));
    let blocks = prop_oneof![Just((0, 0)), (1..80_usize, 1..80_usize)];
    let sizes = (1..3_usize, heads, 1..150_usize, 1..300_usize);
    let widths = (1..40_usize, 1..40_usize);
    let masks = (causal, window, any::<bool>(), grid, any::<bool>());
    let rest = (blocks, any::<bool>(), any::<u64>(), 0..8_usize);
    (sizes, widths, masks, rest).prop_map(|(sizes, widths, masks, rest)| Case {
        batch: sizes.0,
        heads: sizes.1,
        queries: sizes.2,
        keys: sizes.3,
        dim: widths.0,
        value_dim: widths.1,
        causal: masks.0,
        window: masks.1,
        lengths: masks.2,
        grid: masks.3,
        bias: masks.4,
        blocks: rest.0,
        token_major: rest.1,
        seed: rest.2,
        level: rest.3,
    })
}

impl Case {
    fn head_counts(&self) -> [usize; 3] {
        let [values, keys, queries] = self.heads;
        [values * keys * queries, values * keys, values]
    }

    fn layout(&self, heads: usize, tokens: usize, channels: usize) -> HeadLayout {
        if self.token_major {
            HeadLayout::token_major(self.batch, tokens, heads, channels)
        } else {
            HeadLayout::head_major(self.batch, heads, tokens, channels)
        }
    }

    fn mask(&self) -> Mask {
        Mask {
            causal: self.causal,
            window: self.window,
            key_lengths: self.lengths.then(|| {
                (0..self.batch)
                    .map(|b| (self.seed as usize).wrapping_add(b * 31) % (self.keys + 1))
                    .collect()
            }),
            blocks: self.grid.map(|(rows, columns, seed)| {
                let across = self.keys.div_ceil(columns);
                let kept = (0..self.queries.div_ceil(rows) * across)
                    .map(|at| seed.rotate_left((at * 7 % 64) as u32) & 3 != 0)
                    .collect();
                BlockMask::new(rows, columns, across, kept)
            }),
        }
    }

    /// Whether query `i` of row `b` sees key `j`, by definition.
    fn sees(&self, mask: &Mask, b: usize, i: usize, j: usize) -> bool {
        let shift = match self.causal {
            Some(Causal::LowerRight) => self.keys as isize - self.queries as isize,
            _ => 0,
        };
        let (at, key) = (i as isize + shift, j as isize);
        let causal = self.causal.is_none() || key <= at;
        let window = self
            .window
            .is_none_or(|w| key >= at - w.before as isize && key <= at + w.after as isize);
        let exists = mask
            .key_lengths
            .as_ref()
            .is_none_or(|lengths| j < lengths[b]);
        let kept = self.grid.is_none_or(|(rows, columns, seed)| {
            let at = i / rows * self.keys.div_ceil(columns) + j / columns;
            seed.rotate_left((at * 7 % 64) as u32) & 3 != 0
        });
        causal && window && exists && kept
    }

    fn check<E: AttentionElement>(
        &self,
        level: SimdLevel,
        tolerance: f64,
    ) -> Result<(), TestCaseError> {
        let Self {
            batch,
            queries,
            keys,
            dim,
            value_dim,
            ..
        } = *self;
        let [heads, key_heads, value_heads] = self.head_counts();
        let (ql, kl) = (
            self.layout(heads, queries, dim),
            self.layout(key_heads, keys, dim),
        );
        let (vl, yl) = (
            self.layout(value_heads, keys, value_dim),
            self.layout(heads, queries, value_dim),
        );
        let tensor = |seed: u64, layout: &HeadLayout| -> Vec<E> {
            let values: Vec<f64> = normals(
                self.seed.wrapping_add(seed),
                layout.count() * layout.channels,
            );
            values.into_iter().map(E::from_f64).collect()
        };
        let (q, k, v, dy) = (
            tensor(1, &ql),
            tensor(2, &kl),
            tensor(3, &vl),
            tensor(4, &yl),
        );
        let added: Vec<E::Sum> = normals(self.seed.wrapping_add(5), queries * keys);
        let scale = 1.0 / (dim as f64).sqrt();
        let (mask, pool) = (self.mask(), MemoryPool::new());
        let plan = FlashPlan {
            scale: E::Sum::from_f64(scale),
            mask: &mask,
            bias: self.bias.then_some(Bias::Dense {
                data: &added[..],
                strides: [0, 0, keys, 1],
            }),
            dropout: None,
            pool: &pool,
            block_q: self.blocks.0,
            block_k: self.blocks.1,
            level,
            parallel: false,
        };
        let nan = E::from_f64(f64::NAN);
        let nan_sum = E::Sum::from_f64(f64::NAN);
        let (mut y, mut lse) = (vec![nan; dy.len()], vec![nan_sum; ql.count()]);
        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![nan; x.len()]);
        let mut dbias = vec![nan_sum; added.len()];
        let (qr, kr, vr) = (
            HeadsRef::new(&q, ql),
            HeadsRef::new(&k, kl),
            HeadsRef::new(&v, vl),
        );
        plan.forward_half(qr, kr, vr, HeadsMut::new(&mut y, yl), &mut lse);
        let how = Accumulate::Write;
        let to = FlashGradients {
            dq: Some((HeadsMut::new(&mut dq, ql), how)),
            dk: Some((HeadsMut::new(&mut dk, kl), how)),
            dv: Some((HeadsMut::new(&mut dv, vl), how)),
            dbias: self.bias.then_some((&mut dbias[..], how)),
        };
        let (yr, dyr) = (HeadsRef::new(&y, yl), HeadsRef::new(&dy, yl));
        plan.backward_half(qr, kr, vr, yr, &lse, dyr, to);

        // The specification has tokens before heads, and every head its own keys and values.
        let spread = |x: &[E], layout: &HeadLayout| -> Vec<f64> {
            let (share, mut out) = (heads / layout.heads, Vec::new());
            for b in 0..batch {
                for n in 0..layout.tokens {
                    for h in 0..heads {
                        let [to_b, to_h, to_n] = layout.strides;
                        let start = b * to_b + h / share * to_h + n * to_n;
                        out.extend(x[start..start + layout.channels].iter().map(|x| x.to_f64()));
                    }
                }
            }
            out
        };
        let mut residual = Vec::new();
        for b in 0..batch {
            for _ in 0..heads {
                for i in 0..queries {
                    for j in 0..keys {
                        residual.push(match (self.sees(&mask, b, i, j), self.bias) {
                            (false, _) => f64::NEG_INFINITY,
                            (true, true) => added[i * keys + j].to_f64(),
                            (true, false) => 0.0,
                        });
                    }
                }
            }
        }
        let (qs, ks, vs) = (spread(&q, &ql), spread(&k, &kl), spread(&v, &vl));
        let specification = reference::Attention {
            dims: [batch, heads, queries, keys, dim, value_dim],
            scale,
            causal: false,
            factors: None,
            q: &qs,
            k: &ks,
            v: &vs,
            residual: Some(&residual),
        };
        let expected = specification.forward();
        let dys = spread(&dy, &yl);
        let gradients = specification.backward(&dys, None);
        let shared = |each: &[f64], layout: &HeadLayout| -> Vec<f64> {
            let (share, channels) = (heads / layout.heads, layout.channels);
            let mut out = vec![0.0; layout.count() * channels];
            for (at, x) in each.iter().enumerate() {
                let (token, c) = (at / channels, at % channels);
                let (n, h) = (token / heads, token % heads);
                let [to_b, to_h, to_n] = layout.strides;
                let start = n / keys * to_b + h / share * to_h + n % keys * to_n;
                out[start + c] += x;
            }
            out
        };
        let terms = absolute_terms(&specification, &expected, &dys);
        let mut wanted = vec![
            ("y", spread(&y, &yl), expected.output, None),
            ("dq", spread(&dq, &ql), gradients.dq, Some(terms.dq)),
            (
                "dk",
                wide(&dk),
                shared(&gradients.dk, &kl),
                Some(shared(&terms.dk, &kl)),
            ),
            ("dv", wide(&dv), shared(&gradients.dv, &vl), None),
        ];
        if self.bias {
            let over_heads = |each: &[f64]| {
                let mut sums = vec![0.0; queries * keys];
                for (at, ds) in each.iter().enumerate() {
                    sums[at % (queries * keys)] += ds;
                }
                sums
            };
            let terms = over_heads(&terms.dscores);
            let sums = over_heads(&gradients.dscores);
            wanted.push(("dbias", wide(&dbias), sums, Some(terms)));
        }
        for (what, found, expected, terms) in wanted {
            let largest = expected.iter().fold(1.0_f64, |a, b| a.max(b.abs()));
            for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
                let size = terms.as_ref().map_or(largest, |t| largest.max(t[at]));
                prop_assert!(
                    (a - b).abs() <= tolerance * size,
                    "{level} {}: {what}[{at}] is {a}, expected {b}",
                    E::DTYPE
                );
            }
        }
        Ok(())
    }
}

/// Sums that rounding errors are in proportion to.
struct Terms {
    dq: Vec<f64>,
    dk: Vec<f64>,
    dscores: Vec<f64>,
}

/// The gradients of queries, keys and scores with every term of every sum made positive: `dP` and `delta` are sums of absolute products,
/// and add up. Where terms cancel, as with a single key, whose gradient is zero, rounding errors are in proportion to these.
fn absolute_terms(of: &reference::Attention<'_>, values: &reference::Values, dy: &[f64]) -> Terms {
    let [batch, heads, queries, keys, dim, value_dim] = of.dims;
    let mut terms = Terms {
        dq: vec![0.0; of.q.len()],
        dk: vec![0.0; of.k.len()],
        dscores: Vec::with_capacity(values.probabilities.len()),
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum::<f64>();
    for head in 0..batch * heads {
        let (b, h) = (head / heads, head % heads);
        let at = |tokens: usize, n: usize, channels: usize| {
            let start = ((b * tokens + n) * heads + h) * channels;
            start..start + channels
        };
        for i in 0..queries {
            let (of_query, of_output) = (at(queries, i, dim), at(queries, i, value_dim));
            let delta = dot(&dy[of_output.clone()], &values.output[of_output.clone()]);
            for j in 0..keys {
                let p = values.probabilities[(head * queries + i) * keys + j];
                let (of_key, of_value) = (at(keys, j, dim), at(keys, j, value_dim));
                let ds = p * (dot(&dy[of_output.clone()], &of.v[of_value]) + delta);
                for c in 0..dim {
                    terms.dq[of_query.start + c] += of.scale * ds * of.k[of_key.start + c].abs();
                    terms.dk[of_key.start + c] += of.scale * ds * of.q[of_query.start + c].abs();
                }
                terms.dscores.push(ds);
            }
        }
    }
    terms
}

fn wide<E: Element>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

fn is_attention(case: &Case) -> Result<(), TestCaseError> {
    let levels: Vec<SimdLevel> = nd_testing::levels().collect();
    let level = levels[case.level % levels.len()];
    case.check::<f32>(level, TOLERANCE_F32)?;
    case.check::<f64>(level, TOLERANCE_F64)?;
    case.check::<f16>(level, TOLERANCE_F16)?;
    let engines: Vec<Bf16Engine> = Bf16Engine::supported().collect();
    let engine = engines[case.seed as usize % engines.len()];
    engine.scope(|| case.check::<bf16>(level, TOLERANCE_BF16))
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// As many cases as the environment asks for, or what takes a quiet machine some ten minutes.
fn very_many() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 20_000,
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn flash_attention_is_attention(case in cases()) {
        is_attention(&case)?;
    }
}

proptest! {
    #![proptest_config(config(very_many()))]

    #[test]
    #[ignore = "takes many minutes: `PROPTEST_CASES=20000 cargo test -p nd-attention --test attention properties:: -- --ignored`"]
    fn flash_attention_is_attention_in_very_many_cases(case in cases()) {
        is_attention(&case)?;
    }
}
