//! Flash attention against torch's, in both precisions at every level; `tools/golden/README.md` describes the file.

use nd_attention::flash::{
    Bias, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask, WeightsOf,
    Window,
};
use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel};
use nd_simd::SimdReal;
use nd_testing::golden::Golden;

/// Relative to the largest element of a tensor; the cases are small.
const TOLERANCE_F64: f64 = 1e-12;
/// As above.
const TOLERANCE_F32: f64 = 2e-6;

const CASES: [&str; 12] = [
    "plain",
    "cross",
    "causal",
    "causal_more_keys",
    "window",
    "lengths",
    "bias",
    "bias_shared",
    "grouped",
    "one_value_head",
    "one_key",
    "extreme",
];

fn numbers(text: &str) -> Vec<usize> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().expect("a number"))
        .collect()
}

fn mask(golden: &Golden, case: &str) -> Mask {
    let mut mask = Mask::default();
    match case {
        "causal" | "causal_more_keys" | "bias_shared" | "grouped" => {
            mask.causal = Some(Causal::UpperLeft);
        }
        "window" => {
            let sizes = numbers(golden.metadata("window"));
            mask.window = Some(Window {
                before: sizes[0],
                after: sizes[1],
            });
        }
        "lengths" => mask.key_lengths = Some(numbers(golden.metadata("lengths"))),
        _ => {}
    }
    mask
}

fn check<R: SimdReal>(golden: &Golden, case: &str, level: SimdLevel, tolerance: f64) {
    let name = |what: &str| format!("{case}.{what}");
    let tensor = |what: &str| golden.rounded::<R>(&name(what));
    let layout = |what: &str| {
        let &[batch, heads, tokens, channels] = golden.shape(&name(what)) else {
            panic!("{case}.{what} has not four dimensions");
        };
        HeadLayout::head_major(batch, heads, tokens, channels)
    };
    let [q, k, v, dy] = ["q", "k", "v", "dy"].map(tensor);
    let [ql, kl, vl, yl] = ["q", "k", "v", "y"].map(layout);
    let mask = mask(golden, case);
    let biased = golden.has(&name("bias"));
    let bias = biased.then(|| tensor("bias"));
    let strides = |shape: &[usize]| {
        let mut strides = [0, 0, shape[3], 1];
        if shape[1] > 1 {
            strides[1] = shape[2] * shape[3];
            strides[0] = shape[1] * strides[1];
        }
        strides
    };
    let pool = MemoryPool::new();
    let scale: f64 = golden.metadata("scale").parse().expect("a scale");
    let plan = FlashPlan {
        scale: R::from_f64(scale),
        mask: &mask,
        bias: bias.as_ref().map(|data| Bias::Dense {
            data: &data[..],
            strides: strides(golden.shape(&name("bias"))),
        }),
        dropout: None,
        pool: &pool,
        block_q: 16,
        block_k: 8,
        level,
        parallel: false,
    };
    let zeros = |len: usize| vec![R::ZERO; len];
    let (mut y, mut lse) = (zeros(dy.len()), zeros(ql.count()));
    let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| zeros(x.len()));
    let mut dbias = zeros(bias.as_ref().map_or(0, Vec::len));
    let mut weights = zeros(ql.count() * kl.tokens);
    let (qr, kr, vr) = (
        HeadsRef::new(&q, ql),
        HeadsRef::new(&k, kl),
        HeadsRef::new(&v, vl),
    );
    plan.forward(qr, kr, vr, HeadsMut::new(&mut y, yl), &mut lse);
    let how = Accumulate::Write;
    let to = FlashGradients {
        dq: Some((HeadsMut::new(&mut dq, ql), how)),
        dk: Some((HeadsMut::new(&mut dk, kl), how)),
        dv: Some((HeadsMut::new(&mut dv, vl), how)),
        dbias: biased.then_some((&mut dbias[..], how)),
    };
    let (yr, dyr) = (HeadsRef::new(&y, yl), HeadsRef::new(&dy, yl));
    plan.backward(qr, kr, vr, yr, &lse, dyr, to);
    plan.weights(qr, kr, &lse, WeightsOf::EachHead, &mut weights);
    let mut compared = vec![
        ("y", y),
        ("lse", lse),
        ("weights", weights),
        ("dq", dq),
        ("dk", dk),
        ("dv", dv),
    ];
    if biased {
        compared.push(("dbias", dbias));
    }
    for (what, found) in compared {
        let expected = golden.values(&name(what));
        assert_eq!(found.len(), expected.len(), "{case}.{what}");
        let size = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        // Scores of 1e5 are known to a few of their units only, and so are the weights that follow.
        let slack = if case == "extreme" { 1e4 } else { 1.0 };
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found.to_f64() - expected).abs() <= slack * tolerance * size.max(1.0),
                "{level} {} {case}.{what}[{at}]: {found}, torch {expected}",
                R::DTYPE
            );
        }
    }
}

#[test]
fn torch_computes_the_same() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/attention.safetensors"
    );
    let golden = Golden::read(path);
    for case in CASES {
        for level in nd_testing::levels() {
            check::<f64>(&golden, case, level, TOLERANCE_F64);
            check::<f32>(&golden, case, level, TOLERANCE_F32);
        }
    }
    let names: std::collections::BTreeSet<&str> = golden
        .names("")
        .filter_map(|name| name.split('.').next())
        .collect();
    assert_eq!(names.len(), CASES.len(), "cases without a test: {names:?}");
}
