//! Sums made in the output and the gradients themselves, where the tokens of a head lie side by side, beside sums that are copied there.

use nd_attention::flash::{
    BlockMask, Causal, FlashGradients, FlashPlan, HeadLayout, HeadsMut, HeadsRef, Mask, Window,
};
use nd_core::autograd::Accumulate;
use nd_core::{MemoryPool, SimdLevel, Threads};
use nd_testing::cases::normals;

const D: usize = 12;
const BLOCK: usize = 16;

/// `[B, H, N, channels]`, token by token in the layout asked for, noise of its own everywhere.
struct Heads {
    batch: usize,
    heads: usize,
    tokens: usize,
}

impl Heads {
    fn layout(&self, token_major: bool) -> HeadLayout {
        if token_major {
            HeadLayout::token_major(self.batch, self.tokens, self.heads, D)
        } else {
            HeadLayout::head_major(self.batch, self.heads, self.tokens, D)
        }
    }

    fn len(&self) -> usize {
        self.batch * self.heads * self.tokens * D
    }

    /// What `x` in one layout is head by head.
    fn head_by_head(&self, x: &[f32], token_major: bool) -> Vec<u32> {
        let [row, head, token] = self.layout(token_major).strides;
        let mut found = Vec::new();
        for b in 0..self.batch {
            for h in 0..self.heads {
                for n in 0..self.tokens {
                    let start = b * row + h * head + n * token;
                    found.extend(x[start..start + D].iter().map(|x| x.to_bits()));
                }
            }
        }
        found
    }
}

struct Case {
    batch: usize,
    /// Of queries, keys and values.
    heads: [usize; 3],
    queries: usize,
    keys: usize,
    mask: Mask,
}

impl Case {
    /// The bits of the output and of the three gradients, whose memory holds NaN before.
    fn run(&self, token_major: bool, parallel: bool) -> [Vec<u32>; 4] {
        let of = |heads, tokens| Heads {
            batch: self.batch,
            heads,
            tokens,
        };
        let [q, k, v] = [
            of(self.heads[0], self.queries),
            of(self.heads[1], self.keys),
            of(self.heads[2], self.keys),
        ];
        let noise = |seed, heads: &Heads| normals::<f32>(seed, heads.len());
        let inputs = [noise(1, &q), noise(2, &k), noise(3, &v), noise(4, &q)];
        let read = |at: usize, heads: &Heads| HeadsRef::new(&inputs[at], heads.layout(false));
        let pool = MemoryPool::new();
        let plan = FlashPlan {
            scale: 0.3,
            mask: &self.mask,
            bias: None,
            dropout: None,
            pool: &pool,
            block_q: BLOCK,
            block_k: BLOCK,
            level: SimdLevel::current(),
            parallel,
        };
        let mut lse = vec![f32::NAN; q.len() / D];
        let [mut y, mut dq, mut dk, mut dv] =
            [&q, &q, &k, &v].map(|heads| vec![f32::NAN; heads.len()]);
        let to = HeadsMut::new(&mut y, q.layout(token_major));
        plan.forward(read(0, &q), read(1, &k), read(2, &v), to, &mut lse);
        let write = |x, heads: &Heads| {
            Some((
                HeadsMut::new(x, heads.layout(token_major)),
                Accumulate::Write,
            ))
        };
        let to = FlashGradients {
            dq: write(&mut dq, &q),
            dk: write(&mut dk, &k),
            dv: write(&mut dv, &v),
            dbias: None,
        };
        let output = HeadsRef::new(&y, q.layout(token_major));
        plan.backward(
            read(0, &q),
            read(1, &k),
            read(2, &v),
            output,
            &lse,
            read(3, &q),
            to,
        );
        [(&y, &q), (&dq, &q), (&dk, &k), (&dv, &v)]
            .map(|(x, heads)| heads.head_by_head(x, token_major))
    }
}

fn masks(queries: usize, keys: usize) -> Vec<Mask> {
    let columns = keys.div_ceil(BLOCK);
    let kept = (0..queries.div_ceil(BLOCK) * columns)
        .map(|at| (at / columns + at % columns) % 2 == 1)
        .collect();
    let window = |before, after| Some(Window { before, after });
    vec![
        Mask::default(),
        Mask {
            causal: Some(Causal::UpperLeft),
            ..Mask::default()
        },
        Mask {
            causal: Some(Causal::LowerRight),
            window: window(9, 0),
            ..Mask::default()
        },
        Mask {
            window: window(3, 20),
            ..Mask::default()
        },
        Mask {
            key_lengths: Some(vec![0, keys - 1]),
            ..Mask::default()
        },
        Mask {
            blocks: Some(BlockMask::new(BLOCK, BLOCK, columns, kept)),
            ..Mask::default()
        },
    ]
}

#[test]
fn the_bits_are_those_of_sums_that_are_copied() {
    let two = Threads::new(Some(2)).expect("two threads");
    // One block and several, in one part and in several; heads that share keys and values.
    for (batch, heads, queries, keys) in [
        (2, [8, 8, 8], 13, 13),
        (2, [1, 1, 1], 70, 41),
        (2, [4, 2, 1], 40, 70),
        (2, [4, 4, 2], 16, 32),
    ] {
        for mask in masks(queries, keys) {
            let case = Case {
                batch,
                heads,
                queries,
                keys,
                mask,
            };
            let expected = case.run(true, false);
            let what = (queries, keys, heads, &case.mask);
            for found in [
                case.run(false, false),
                two.install(|| case.run(false, true)),
            ] {
                for ((found, expected), name) in
                    found.iter().zip(&expected).zip(["y", "dq", "dk", "dv"])
                {
                    assert!(found == expected, "{name} of {what:?}");
                    let finite = found.iter().all(|&bits| f32::from_bits(bits).is_finite());
                    assert!(finite, "{name} of {what:?} has what was in memory before");
                }
            }
        }
    }
}
