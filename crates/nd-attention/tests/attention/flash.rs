//! Flash attention against the specification: shapes, masks, biases, heads, dropout, both precisions, every level.

use nd_attention::flash::{
    Bias, BlockMask, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask,
    WeightsOf, Window,
};
use nd_attention::{Dropout, reference};
use nd_core::autograd::Accumulate;
use nd_core::rng::Key;
use nd_core::{MemoryPool, SimdLevel, Threads};
use nd_simd::SimdReal;
use nd_testing::cases::normals;

/// A random attention and everything about it.
#[derive(Clone)]
struct Case {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    value_heads: usize,
    queries: usize,
    keys: usize,
    head_dim: usize,
    value_dim: usize,
    mask: Mask,
    bias: Biased,
    dropout: Option<Dropout>,
    blocks: (usize, usize),
    token_major: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Biased {
    No,
    /// One bias for all rows and heads.
    Shared,
    /// One bias for all heads and queries of a row.
    Keys,
    Own,
    Alibi,
}

impl Case {
    fn new(queries: usize, keys: usize, head_dim: usize) -> Self {
        Self {
            batch: 2,
            heads: 2,
            kv_heads: 2,
            value_heads: 2,
            queries,
            keys,
            head_dim,
            value_dim: head_dim,
            mask: Mask::default(),
            bias: Biased::No,
            dropout: None,
            blocks: (0, 0),
            token_major: true,
        }
    }

    fn layout(&self, heads: usize, tokens: usize, channels: usize) -> HeadLayout {
        if self.token_major {
            HeadLayout::token_major(self.batch, tokens, heads, channels)
        } else {
            HeadLayout::head_major(self.batch, heads, tokens, channels)
        }
    }

    /// Whether query `i` of row `b` sees key `j`, by definition.
    fn sees(&self, b: usize, i: usize, j: usize) -> bool {
        let shift = match self.mask.causal {
            Some(Causal::LowerRight) => self.keys as isize - self.queries as isize,
            _ => 0,
        };
        let (at, j_) = (i as isize + shift, j as isize);
        let causal = self.mask.causal.is_none() || j_ <= at;
        let window = self
            .mask
            .window
            .is_none_or(|w| j_ >= at - w.before as isize && j_ <= at + w.after as isize);
        let exists = self
            .mask
            .key_lengths
            .as_ref()
            .is_none_or(|lengths| j < lengths[b]);
        causal && window && exists && (self.mask.blocks.is_none() || kept(i, j))
    }

    /// Runs everything in one precision at one level and compares it with the specification.
    fn check<R: SimdReal>(&self, level: SimdLevel, tolerance: f64) {
        let Self {
            batch,
            heads,
            kv_heads,
            value_heads,
            queries,
            keys,
            head_dim,
            value_dim,
            ..
        } = *self;
        let (ql, kl) = (
            self.layout(heads, queries, head_dim),
            self.layout(kv_heads, keys, head_dim),
        );
        let (vl, yl) = (
            self.layout(value_heads, keys, value_dim),
            self.layout(heads, queries, value_dim),
        );
        let tensor = |seed: u64, layout: &HeadLayout| -> Vec<R> {
            normals(seed, layout.count() * layout.channels)
        };
        let (q, k, v) = (tensor(1, &ql), tensor(2, &kl), tensor(3, &vl));
        let dy = tensor(4, &yl);
        let scale = 0.7 / (head_dim as f64).sqrt();
        let (own, shared) = (
            [heads * queries * keys, queries * keys, keys, 1],
            [0, 0, keys, 1],
        );
        let bias_data: Vec<R> = normals(5, batch * heads * queries * keys);
        let slopes: Vec<R> = (0..heads)
            .map(|h| R::from_f64(0.05 * (h + 1) as f64))
            .collect();
        let bias = match self.bias {
            Biased::No => None,
            Biased::Own => Some(Bias::Dense {
                data: &bias_data[..],
                strides: own,
            }),
            Biased::Shared => Some(Bias::Dense {
                data: &bias_data[..],
                strides: shared,
            }),
            Biased::Keys => Some(Bias::Dense {
                data: &bias_data[..],
                strides: [keys, 0, 0, 1],
            }),
            Biased::Alibi => Some(Bias::Alibi { slopes: &slopes }),
        };
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: R::from_f64(scale),
            mask: &self.mask,
            bias,
            dropout: self.dropout,
            pool: &pool,
            block_q: self.blocks.0,
            block_k: self.blocks.1,
            level,
            parallel: true,
        };
        let nan = R::from_f64(f64::NAN);
        let mut output = vec![nan; dy.len()];
        let mut lse = vec![nan; batch * heads * queries];
        let (qr, kr, vr) = (
            HeadsRef::new(&q, ql),
            HeadsRef::new(&k, kl),
            HeadsRef::new(&v, vl),
        );
        plan.forward(qr, kr, vr, HeadsMut::new(&mut output, yl), &mut lse);
        let mut dq = vec![nan; q.len()];
        let mut dk = vec![R::ONE; k.len()];
        let mut dv = vec![nan; v.len()];
        // What is shared is added to, the other is written over.
        let (mut dbias, how) = match self.bias {
            Biased::No => (Vec::new(), Accumulate::Write),
            Biased::Own => (vec![nan; bias_data.len()], Accumulate::Write),
            Biased::Shared => (vec![R::ONE; queries * keys], Accumulate::Add),
            Biased::Keys => (vec![nan; batch * keys], Accumulate::Write),
            Biased::Alibi => (vec![nan; heads], Accumulate::Write),
        };
        plan.backward(
            qr,
            kr,
            vr,
            HeadsRef::new(&output, yl),
            &lse,
            HeadsRef::new(&dy, yl),
            FlashGradients {
                dq: Some((HeadsMut::new(&mut dq, ql), Accumulate::Write)),
                dk: Some((HeadsMut::new(&mut dk, kl), Accumulate::Add)),
                dv: Some((HeadsMut::new(&mut dv, vl), Accumulate::Write)),
                dbias: (self.bias != Biased::No).then_some((&mut dbias[..], how)),
            },
        );

        // The specification has one layout and as many heads of keys as of queries; its residual is bias and mask.
        let (group, value_group) = (heads / kv_heads, heads / value_heads);
        let spread = |x: &[R], layout: &HeadLayout, share: usize| -> Vec<f64> {
            let mut out = Vec::new();
            for b in 0..batch {
                for n in 0..layout.tokens {
                    for h in 0..heads {
                        let start = start(layout, b, h / share, n);
                        out.extend(x[start..start + layout.channels].iter().map(|x| x.to_f64()));
                    }
                }
            }
            out
        };
        let mut residual = Vec::new();
        let mut factors = Vec::new();
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    for j in 0..keys {
                        let added = match self.bias {
                            Biased::No => 0.0,
                            Biased::Own => {
                                bias_data[((b * heads + h) * queries + i) * keys + j].to_f64()
                            }
                            Biased::Shared => bias_data[i * keys + j].to_f64(),
                            Biased::Keys => bias_data[b * keys + j].to_f64(),
                            Biased::Alibi => {
                                let distance = i as f64 + keys as f64 - queries as f64 - j as f64;
                                -slopes[h].to_f64() * distance.abs()
                            }
                        };
                        residual.push(if self.sees(b, i, j) {
                            added
                        } else {
                            f64::NEG_INFINITY
                        });
                        if let Some(dropout) = &self.dropout {
                            let mut word = [0];
                            let row = (dropout.first_row + b) as u64;
                            let element = (h * queries + i) * keys + j;
                            nd_core::rng::fill(
                                SimdLevel::Scalar,
                                dropout.key,
                                row,
                                element,
                                &mut word,
                            );
                            let keep = f64::from(word[0]) >= dropout.rate * 2f64.powi(32);
                            factors.push(if keep {
                                1.0 / (1.0 - dropout.rate)
                            } else {
                                0.0
                            });
                        }
                    }
                }
            }
        }
        let (qs, ks, vs) = (
            spread(&q, &ql, 1),
            spread(&k, &kl, group),
            spread(&v, &vl, value_group),
        );
        let specification = reference::Attention {
            dims: [batch, heads, queries, keys, head_dim, value_dim],
            scale,
            causal: false,
            factors: self.dropout.is_some().then_some(&factors[..]),
            q: &qs,
            k: &ks,
            v: &vs,
            residual: Some(&residual),
        };
        let expected = specification.forward();
        let gradients = specification.backward(&spread(&dy, &yl, 1), None);
        let close = |name: &str, found: &[f64], expected: &[f64]| {
            let size = expected.iter().fold(1.0_f64, |size, x| size.max(x.abs()));
            for (at, (x, y)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (x - y).abs() <= tolerance * size,
                    "{level} {}: {name}[{at}] is {x}, expected {y} ({queries} x {keys}, d {head_dim}, {:?})",
                    R::DTYPE,
                    self.mask,
                );
            }
        };
        close("output", &spread(&output, &yl, 1), &expected.output);
        close("dq", &spread(&dq, &ql, 1), &gradients.dq);
        // Gradients of shared heads are sums.
        for (name, found, layout, each, base) in [
            ("dk", &dk, &kl, &gradients.dk, 1.0),
            ("dv", &dv, &vl, &gradients.dv, 0.0),
        ] {
            let (channels, kv_heads) = (layout.channels, layout.heads);
            let group = heads / kv_heads;
            let mut sums = Vec::new();
            let mut values = Vec::new();
            for b in 0..batch {
                for n in 0..keys {
                    for kv in 0..kv_heads {
                        for c in 0..channels {
                            let of = |h: usize| each[((b * keys + n) * heads + h) * channels + c];
                            sums.push(base + (kv * group..(kv + 1) * group).map(of).sum::<f64>());
                            values.push(found[start(layout, b, kv, n) + c].to_f64());
                        }
                    }
                }
            }
            close(name, &values, &sums);
        }
        let mut expected_dbias = vec![0.0; dbias.len()];
        if self.bias == Biased::Shared {
            expected_dbias.fill(1.0);
        }
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    for j in 0..keys {
                        let ds = gradients.dscores[((b * heads + h) * queries + i) * keys + j];
                        let distance = i as f64 + keys as f64 - queries as f64 - j as f64;
                        match self.bias {
                            Biased::No => {}
                            Biased::Own => {
                                expected_dbias[((b * heads + h) * queries + i) * keys + j] += ds;
                            }
                            Biased::Shared => expected_dbias[i * keys + j] += ds,
                            Biased::Keys => expected_dbias[b * keys + j] += ds,
                            Biased::Alibi => expected_dbias[h] -= ds * distance.abs(),
                        }
                    }
                }
            }
        }
        let wide: Vec<f64> = dbias.iter().map(|x| x.to_f64()).collect();
        close("dbias", &wide, &expected_dbias);
        for (of, share) in [(WeightsOf::EachHead, 1), (WeightsOf::MeanOfHeads, heads)] {
            let mut weights = vec![nan; batch * heads / share * queries * keys];
            plan.weights(qr, kr, &lse, of, &mut weights);
            let each = queries * keys;
            let wanted: Vec<f64> = (0..weights.len())
                .map(|at| {
                    let first = at / each * share;
                    let heads = first..first + share;
                    let sum: f64 = heads
                        .map(|h| expected.probabilities[h * each + at % each])
                        .sum();
                    sum / share as f64
                })
                .collect();
            let wide: Vec<f64> = weights.iter().map(|x| x.to_f64()).collect();
            close("weights", &wide, &wanted);
        }
        for b in 0..batch {
            for h in 0..heads {
                for i in 0..queries {
                    let at = (b * heads + h) * queries + i;
                    let row = &expected.scores[at * keys..][..keys];
                    let sum: f64 = row.iter().map(|x| x.exp()).sum();
                    let (found, wanted) = (lse[at].to_f64(), sum.ln());
                    assert!(
                        found == wanted
                            || (found - wanted).abs() <= 10.0 * tolerance * wanted.abs().max(1.0),
                        "{level}: the logarithm of sum {at} is {found}, expected {wanted}"
                    );
                }
            }
        }
    }

    fn check_all(&self) {
        for level in nd_testing::levels() {
            self.check::<f32>(level, 1e-5);
            self.check::<f64>(level, 1e-12);
        }
    }
}

fn start(layout: &HeadLayout, b: usize, h: usize, n: usize) -> usize {
    b * layout.strides[0] + h * layout.strides[1] + n * layout.strides[2]
}

/// The pattern of the block masks here: blocks of 8 queries and 12 keys.
fn kept(i: usize, j: usize) -> bool {
    !(i / 8 + j / 12).is_multiple_of(3)
}

fn block_mask(queries: usize, keys: usize) -> BlockMask {
    let (rows, columns) = (queries.div_ceil(8), keys.div_ceil(12));
    let grid = (0..rows * columns)
        .map(|at| kept(at / columns * 8, at % columns * 12))
        .collect();
    BlockMask::new(8, 12, columns, grid)
}

#[test]
fn lengths_around_every_block_and_vector() {
    for (queries, keys) in [
        (1, 1),
        (1, 7),
        (7, 1),
        (15, 16),
        (16, 17),
        (17, 33),
        (33, 31),
        (64, 65),
        (127, 129),
        (130, 128),
        (200, 270),
    ] {
        let mut case = Case::new(queries, keys, 8);
        case.token_major = queries % 2 == 0;
        case.check_all();
        case.blocks = (16, 24);
        case.check_all();
    }
}

#[test]
fn channels_from_one_to_256_and_values_of_another_width() {
    for (head_dim, value_dim) in [
        (1, 1),
        (3, 5),
        (16, 64),
        (64, 16),
        (65, 33),
        (128, 128),
        (256, 256),
    ] {
        let mut case = Case::new(40, 50, head_dim);
        case.value_dim = value_dim;
        case.batch = 1;
        case.check_all();
    }
}

#[test]
fn masks_alone_and_together() {
    for (queries, keys) in [(40, 40), (30, 70), (70, 30)] {
        for causal in [None, Some(Causal::UpperLeft), Some(Causal::LowerRight)] {
            for window in [
                None,
                Some(Window {
                    before: 9,
                    after: 4,
                }),
            ] {
                for lengths in [None, Some(vec![keys - 3, keys / 2])] {
                    for blocks in [None, Some(block_mask(queries, keys))] {
                        let mut case = Case::new(queries, keys, 4);
                        case.mask = Mask {
                            causal,
                            window,
                            key_lengths: lengths.clone(),
                            blocks,
                        };
                        case.blocks = (16, 20);
                        case.check_all();
                    }
                }
            }
        }
    }
}

#[test]
fn biases_with_and_without_masks() {
    for bias in [Biased::Own, Biased::Shared, Biased::Keys, Biased::Alibi] {
        for causal in [None, Some(Causal::LowerRight)] {
            let mut case = Case::new(37, 53, 8);
            case.bias = bias;
            case.mask.causal = causal;
            case.blocks = (32, 16);
            case.check_all();
            case.mask.blocks = Some(block_mask(37, 53));
            case.check_all();
        }
    }
}

#[test]
fn heads_of_queries_share_heads_of_keys() {
    for (heads, kv_heads) in [(4, 1), (4, 2), (6, 3)] {
        let mut case = Case::new(33, 40, 8);
        (case.heads, case.kv_heads, case.value_heads) = (heads, kv_heads, kv_heads);
        case.mask.causal = Some(Causal::UpperLeft);
        case.token_major = heads == 4;
        case.check_all();
    }
}

#[test]
fn heads_of_keys_share_heads_of_values() {
    for (heads, kv_heads, value_heads) in [(4, 4, 1), (4, 4, 2), (4, 2, 1)] {
        let mut case = Case::new(33, 40, 8);
        (case.heads, case.kv_heads, case.value_heads) = (heads, kv_heads, value_heads);
        case.value_dim = 5;
        case.mask.causal = Some(Causal::UpperLeft);
        case.token_major = kv_heads == 4;
        case.check_all();
    }
}

#[test]
fn dropout_is_the_same_in_both_passes() {
    let mut case = Case::new(45, 60, 8);
    case.dropout = Some(Dropout {
        rate: 0.3,
        key: Key::new(11),
        first_row: 5,
    });
    case.check_all();
    case.blocks = (16, 16);
    case.mask.causal = Some(Causal::UpperLeft);
    case.check_all();
}

#[test]
fn one_head_over_several_tasks() {
    let mut case = Case::new(300, 300, 8);
    (case.batch, case.heads, case.kv_heads, case.value_heads) = (1, 1, 1, 1);
    case.blocks = (32, 64);
    case.check_all();
    case.mask.causal = Some(Causal::UpperLeft);
    case.check_all();
}

#[test]
fn queries_that_see_nothing_give_zeros() {
    let mut case = Case::new(20, 10, 4);
    case.mask.causal = Some(Causal::LowerRight);
    case.check_all();
    case.mask = Mask {
        key_lengths: Some(vec![0, 10]),
        ..Mask::default()
    };
    case.check_all();
}

#[test]
fn extreme_scores_stay_finite() {
    for level in nd_testing::levels() {
        let layout = HeadLayout::head_major(1, 1, 40, 2);
        let q: Vec<f32> = (0..80)
            .map(|i| if i % 3 == 0 { 100.0 } else { -100.0 })
            .collect();
        let mask = Mask::default();
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: 1.0,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 16,
            block_k: 8,
            level,
            parallel: false,
        };
        let (mut y, mut lse) = (vec![f32::NAN; 80], vec![f32::NAN; 40]);
        let view = HeadsRef::new(&q, layout);
        plan.forward(view, view, view, HeadsMut::new(&mut y, layout), &mut lse);
        assert!(
            y.iter().all(|x| x.is_finite() && x.abs() <= 100.001),
            "{level}"
        );
        assert!(
            lse.iter().all(|x| (x - 20000.0).abs() < 10.0),
            "{level}: {lse:?}"
        );
    }
}

#[test]
fn a_nan_spoils_its_queries_and_no_others() {
    for level in nd_testing::levels() {
        let layout = HeadLayout::head_major(1, 2, 40, 4);
        let mut q: Vec<f32> = normals(1, 320);
        let k = q.clone();
        q[5 * 4 + 1] = f32::NAN;
        let mask = Mask::default();
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: 0.5,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 16,
            block_k: 8,
            level,
            parallel: false,
        };
        let (mut y, mut lse) = (vec![0.0; 320], vec![0.0; 80]);
        let keys = HeadsRef::new(&k, layout);
        plan.forward(
            HeadsRef::new(&q, layout),
            keys,
            keys,
            HeadsMut::new(&mut y, layout),
            &mut lse,
        );
        for (at, x) in y.iter().enumerate() {
            assert_eq!(x.is_nan(), at / 4 == 5, "{level}: element {at} is {x}");
        }
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let run = |threads: usize| {
        let team = Threads::new(Some(threads)).expect("threads");
        let (ql, kl) = (
            HeadLayout::token_major(1, 300, 2, 16),
            HeadLayout::token_major(1, 280, 1, 16),
        );
        let q: Vec<f32> = normals(1, 300 * 32);
        let k: Vec<f32> = normals(2, 280 * 16);
        let mask = Mask {
            causal: Some(Causal::LowerRight),
            ..Mask::default()
        };
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: 0.25,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 32,
            block_k: 48,
            level: SimdLevel::current(),
            parallel: true,
        };
        let (mut y, mut lse) = (vec![0.0; q.len()], vec![0.0; 600]);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; k.len()]);
        let bias: Vec<f32> = normals(3, 300 * 280);
        let mut dbias = vec![0.0; bias.len()];
        let plan = FlashPlan {
            bias: Some(Bias::Dense {
                data: &bias[..],
                strides: [0, 0, 280, 1],
            }),
            ..plan
        };
        team.install(|| {
            let (qr, kr) = (HeadsRef::new(&q, ql), HeadsRef::new(&k, kl));
            plan.forward(qr, kr, kr, HeadsMut::new(&mut y, ql), &mut lse);
            let yr = HeadsRef::new(&y, ql);
            plan.backward(
                qr,
                kr,
                kr,
                yr,
                &lse,
                qr,
                FlashGradients {
                    dq: Some((HeadsMut::new(&mut dq, ql), Accumulate::Write)),
                    dk: Some((HeadsMut::new(&mut dk, kl), Accumulate::Write)),
                    dv: Some((HeadsMut::new(&mut dv, kl), Accumulate::Write)),
                    dbias: Some((&mut dbias[..], Accumulate::Write)),
                },
            );
        });
        [y, lse, dq, dk, dv, dbias].map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    let one = run(1);
    for threads in [2, 3, 8, 16] {
        assert!(run(threads) == one, "{threads} threads");
    }
}
