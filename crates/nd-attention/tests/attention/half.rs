//! bf16 and f16 queries, keys and values with sums in f32: the error beside that of a naive attention in the same type.

use nd_attention::flash::{
    AttentionElement, Causal, FlashAttention, FlashAttentionConfig, FlashGradients, FlashPlan,
    HeadLayout, HeadsMut, HeadsRef, Mask,
};
use nd_attention::reference;
use nd_core::autograd::Accumulate;
use nd_core::{Element, MemoryPool, SimdLevel, Threads, bf16, f16};
use nd_simd::matmul::Bf16Engine;
use nd_testing::cases::normals;
use ndarray::{Array3, Array4};

/// The largest error of flash attention, in errors of the naive attention in the same type: FlashAttention's own tests allow as much.
const TIMES_NAIVE: f64 = 2.0;

/// One head.
struct Case {
    queries: usize,
    keys: usize,
    dim: usize,
    causal: bool,
}

/// Output and gradients of q, k and v.
type Results = [Vec<f64>; 4];

fn rounded<E: Element>(seed: u64, len: usize) -> Vec<E> {
    let values: Vec<f64> = normals(seed, len);
    values.into_iter().map(E::from_f64).collect()
}

fn wide<E: Element>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| x.to_f64()).collect()
}

impl Case {
    fn inputs<E: Element>(&self) -> [Vec<E>; 4] {
        let (q, k) = (self.queries * self.dim, self.keys * self.dim);
        [rounded(1, q), rounded(2, k), rounded(3, k), rounded(4, q)]
    }

    fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    fn flash<E: AttentionElement<Sum = f32>>(&self, level: SimdLevel, parallel: bool) -> Results {
        let [q, k, v, dy] = self.inputs::<E>();
        let layout = |tokens| HeadLayout::head_major(1, 1, tokens, self.dim);
        let (ql, kl) = (layout(self.queries), layout(self.keys));
        let mask = Mask {
            causal: self.causal.then_some(Causal::UpperLeft),
            ..Mask::default()
        };
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: self.scale() as f32,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 0,
            block_k: 0,
            level,
            parallel,
        };
        let nan = E::from_f64(f64::NAN);
        let (mut y, mut lse) = (vec![nan; q.len()], vec![f32::NAN; self.queries]);
        let (mut dq, mut dk, mut dv) = (vec![nan; q.len()], vec![nan; k.len()], vec![nan; k.len()]);
        let (qr, kr, vr) = (
            HeadsRef::new(&q, ql),
            HeadsRef::new(&k, kl),
            HeadsRef::new(&v, kl),
        );
        plan.forward_half(qr, kr, vr, HeadsMut::new(&mut y, ql), &mut lse);
        let to = FlashGradients {
            dq: Some((HeadsMut::new(&mut dq, ql), Accumulate::Write)),
            dk: Some((HeadsMut::new(&mut dk, kl), Accumulate::Write)),
            dv: Some((HeadsMut::new(&mut dv, kl), Accumulate::Write)),
            dbias: None,
        };
        let (yr, dyr) = (HeadsRef::new(&y, ql), HeadsRef::new(&dy, ql));
        plan.backward_half(qr, kr, vr, yr, &lse, dyr, to);
        [wide(&y), wide(&dq), wide(&dk), wide(&dv)]
    }

    fn reference<E: Element>(&self) -> Results {
        let [q, k, v, dy] = self.inputs::<E>().map(|x| wide(&x));
        let attention = reference::Attention {
            dims: [1, 1, self.queries, self.keys, self.dim, self.dim],
            scale: self.scale(),
            causal: self.causal,
            factors: None,
            q: &q,
            k: &k,
            v: &v,
            residual: None,
        };
        let (values, gradients) = (attention.forward(), attention.backward(&dy, None));
        [values.output, gradients.dq, gradients.dk, gradients.dv]
    }

    /// The textbook attention with every tensor rounded to the type: scores, probabilities, output, and so on backward.
    /// Sums are exact, as a careful matrix product's nearly are.
    fn naive<E: Element>(&self) -> Results {
        let round = |x: f64| E::from_f64(x).to_f64();
        let [q, k, v, dy] = self.inputs::<E>().map(|x| wide(&x));
        let (n, m, d) = (self.queries, self.keys, self.dim);
        let product = |a: &dyn Fn(usize, usize) -> f64,
                       b: &dyn Fn(usize, usize) -> f64,
                       [rows, inner, cols]: [usize; 3]| {
            let mut out = vec![0.0; rows * cols];
            for i in 0..rows {
                for j in 0..cols {
                    out[i * cols + j] = round((0..inner).map(|p| a(i, p) * b(p, j)).sum());
                }
            }
            out
        };
        let mut p = product(&|i, c| q[i * d + c], &|c, j| k[j * d + c], [n, d, m]);
        for (i, row) in p.chunks_exact_mut(m).enumerate() {
            let seen = if self.causal { m.min(i + 1) } else { m };
            let scores: Vec<f64> = row.iter().map(|x| round(x * self.scale())).collect();
            let largest = scores[..seen].iter().fold(f64::MIN, |a, &b| a.max(b));
            let sum: f64 = scores[..seen].iter().map(|x| (x - largest).exp()).sum();
            for (j, x) in row.iter_mut().enumerate() {
                *x = if j < seen {
                    round((scores[j] - largest).exp() / sum)
                } else {
                    0.0
                };
            }
        }
        let y = product(&|i, j| p[i * m + j], &|j, c| v[j * d + c], [n, m, d]);
        let dv = product(&|j, i| p[i * m + j], &|i, c| dy[i * d + c], [m, n, d]);
        let dp = product(&|i, c| dy[i * d + c], &|c, j| v[j * d + c], [n, d, m]);
        let mut ds = vec![0.0; n * m];
        for i in 0..n {
            let of = |j: usize| p[i * m + j] * dp[i * m + j];
            let delta: f64 = (0..m).map(of).sum();
            for j in 0..m {
                let at = i * m + j;
                ds[at] = round(round(p[at] * (dp[at] - delta)) * self.scale());
            }
        }
        let dq = product(&|i, j| ds[i * m + j], &|j, c| k[j * d + c], [n, m, d]);
        let dk = product(&|j, i| ds[i * m + j], &|i, c| q[i * d + c], [m, n, d]);
        [y, dq, dk, dv]
    }

    fn check<E: AttentionElement<Sum = f32>>(&self) {
        let exact = self.reference::<E>();
        let naive = self.naive::<E>();
        for level in nd_testing::levels() {
            let found = self.flash::<E>(level, false);
            for (name, (found, (naive, exact))) in ["y", "dq", "dk", "dv"]
                .iter()
                .zip(found.iter().zip(naive.iter().zip(&exact)))
            {
                let error = |x: &[f64]| {
                    let largest = x.iter().zip(exact).map(|(a, b)| (a - b).abs());
                    let largest =
                        largest.fold(0.0, |a: f64, b| if b.is_nan() { b } else { a.max(b) });
                    assert!(!largest.is_nan(), "{name} has a NaN");
                    largest
                };
                // Where the naive one is exact by chance, a rounding of the largest number is allowed, and one of a hundredth
                // where all are zero: a single key has no gradient but what its sums round away.
                let size = exact.iter().fold(0.01_f64, |a, b| a.max(b.abs()));
                let unit = if E::DTYPE == nd_core::DType::Bf16 {
                    2f64.powi(-9)
                } else {
                    2f64.powi(-12)
                };
                // Of a handful of scores, luck decides how well the naive one rounds: two roundings.
                let roundings = if self.queries * self.keys < 64 {
                    2.0
                } else {
                    1.0
                };
                let (ours, theirs) = (error(found), error(naive));
                println!(
                    "{} {level} {}x{} d {} causal {}: {name} {ours:.2e}, naive {theirs:.2e}, {:.2}",
                    E::DTYPE,
                    self.queries,
                    self.keys,
                    self.dim,
                    self.causal,
                    ours / theirs
                );
                assert!(
                    ours <= TIMES_NAIVE * theirs.max(roundings * unit * size),
                    "{} {level} {} x {}, d {}: the error of {name} is {ours:e}, of the naive one {theirs:e}",
                    E::DTYPE,
                    self.queries,
                    self.keys,
                    self.dim
                );
            }
        }
    }
}

#[test]
fn errors_are_at_most_twice_those_of_naive_attention() {
    // In bf16 a width of 16 is summed across wherever blocks of queries are wide, 33 and 64 where they have 128, which a causal mask halves,
    // and 72 nowhere.
    for (queries, keys) in [(1, 1), (3, 3), (113, 203), (128, 217), (256, 512)] {
        for dim in [16, 33, 64, 72] {
            for causal in [false, true] {
                let case = Case {
                    queries,
                    keys,
                    dim,
                    causal,
                };
                case.check::<bf16>();
                case.check::<f16>();
            }
        }
    }
}

#[test]
fn long_sequences() {
    for (queries, keys) in [(1023, 1024), (1024, 1023)] {
        let case = Case {
            queries,
            keys,
            dim: 16,
            causal: true,
        };
        case.check::<bf16>();
        case.check::<f16>();
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let case = Case {
        queries: 300,
        keys: 280,
        dim: 32,
        causal: true,
    };
    let level = SimdLevel::current();
    let run = |threads: usize| {
        let team = Threads::new(Some(threads)).expect("threads");
        team.install(|| {
            (
                case.flash::<bf16>(level, true),
                case.flash::<f16>(level, true),
            )
        })
    };
    let one = run(1);
    for threads in [2, 3, 8, 16] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn the_engine_of_the_caller_holds_on_every_thread() {
    let case = Case {
        queries: 300,
        keys: 280,
        dim: 32,
        causal: false,
    };
    let team = Threads::new(Some(4)).expect("threads");
    for level in nd_testing::levels() {
        for engine in Bf16Engine::supported() {
            let run = |parallel| engine.scope(|| case.flash::<bf16>(level, parallel));
            let alone = run(false);
            assert!(team.install(|| run(true)) == alone, "{level}, {engine}");
        }
    }
}

#[test]
fn arrays_of_sixteen_bit_numbers() {
    let x = Array4::from_shape_fn((2, 3, 40, 8), |(b, h, n, c)| {
        bf16::from_f32(((b * 7 + h * 5 + n * 3 + c) % 11) as f32 / 8.0 - 0.5)
    });
    let flash = FlashAttention::new(FlashAttentionConfig::auto(8));
    let saved = flash.forward_saving(&x, &x, &x);
    let exact = flash.forward(&x.mapv(f64::from), &x.mapv(f64::from), &x.mapv(f64::from));
    for (a, b) in saved.output.iter().zip(&exact) {
        assert!((f64::from(*a) - b).abs() < 4e-3, "{a} and {b}");
    }
    let gradients = flash.backward(&x, &x, &x, &saved, &x);
    assert!(gradients.iter().all(|dx| dx.dim() == x.dim()));
    // Blocks of queries that are no multiple of a vector, and more than one; the logarithms come from a forward pass without values.
    for queries in [1, 40, 41, 130] {
        let q = Array4::from_shape_fn((2, 3, queries, 8), |(b, h, n, c)| x[(b, h, n % 40, c)]);
        let weights = flash.weights(&q, &x);
        assert_eq!(weights.dim(), (2, 3, queries, 40));
        for row in weights.rows() {
            assert!((row.sum() - 1.0).abs() < 1e-2);
        }
    }
    let no_values = Array4::from_elem((2, 3, 40, 0), bf16::ZERO);
    let saved = flash.forward_saving(&x, &x, &no_values);
    let [dq, dk, dv] = flash.backward(&x, &x, &no_values, &saved, &no_values);
    assert!(dq.iter().chain(&dk).all(|dx| *dx == bf16::ZERO));
    assert_eq!(dv.dim(), no_values.dim());
    let narrow = Array3::<f16>::from_elem((1, 5, 3), f16::from_f32(0.5));
    let y = flash.forward(&narrow, &narrow, &narrow);
    assert!(y.iter().all(|y| (y.to_f32() - 0.5).abs() < 1e-3));
}

#[test]
fn extreme_scores_stay_finite_and_hidden_queries_are_zero() {
    for level in nd_testing::levels() {
        let layout = HeadLayout::head_major(1, 1, 40, 2);
        let q: Vec<bf16> = (0..80)
            .map(|i| bf16::from_f32(if i % 3 == 0 { 100.0 } else { -100.0 }))
            .collect();
        let mask = Mask {
            causal: Some(Causal::UpperLeft),
            key_lengths: Some(vec![39]),
            window: Some(nd_attention::flash::Window {
                before: 3,
                after: 0,
            }),
            ..Mask::default()
        };
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: 1.0_f32,
            mask: &mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: 16,
            block_k: 8,
            level,
            parallel: false,
        };
        let (mut y, mut lse) = (vec![bf16::NAN; 80], vec![f32::NAN; 40]);
        let view = HeadsRef::new(&q, layout);
        plan.forward_half(view, view, view, HeadsMut::new(&mut y, layout), &mut lse);
        assert!(y.iter().all(|y| y.is_finite()), "{level}: {y:?}");
    }
}
