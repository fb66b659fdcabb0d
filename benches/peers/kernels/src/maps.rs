//! Functions of one element, and rows: softmax, norms, losses, sums.

use std::mem::MaybeUninit;
use std::rc::Rc;

use nd_core::{Buffer, SimdLevel};
use nd_simd::activations::{Activation, activation_forward};
use nd_simd::losses::{PointLoss, point_loss};
use nd_simd::map::{Unary, map_unary};
use nd_simd::norm::{layer_norm_forward, rms_norm_forward};
use nd_simd::reduce::{dot_slice, squared_norm, sum_slice};
use nd_simd::softmax::softmax_forward;
use nd_simd::{Isa, Kernel, Lanes, SimdReal, dispatch, math};
use ndarray::ArrayView1;
use rten_simd::{SimdOp, SimdUnaryOp};
use rten_vecmath::{
    ApproxGelu, Exp, Gelu, LeakyRelu, Normalize, NormalizeOptions, Sigmoid, Silu, Softmax, Sum,
    SumSquare, SumSquareSub, Tanh,
};

use crate::row::{Contestant, Plan, Row, Work, by, noise};

const SIZES: [usize; 3] = [4096, 65_536, 4 << 20];
const SHAPES: [(usize, usize); 2] = [(1024, 64), (1024, 1024)];
/// The group whose results are single numbers.
const SUMS: &str = "losses and sums";
const EPS: f32 = 1e-5;

/// A slice that rten will fill.
fn uninit(out: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the layout is the same, and rten only writes numbers there.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [MaybeUninit<f32>]) }
}

/// Plans over arrays, each input shared by its contestants.
pub(crate) fn plans(level: SimdLevel) -> Vec<Plan> {
    let mut plans = Vec::new();
    for len in SIZES {
        for (name, make) in MAPS {
            plans.push(plan("elementwise", format!("{name} {len}"), move || {
                let x = Rc::new(scaled(len, 3.0, 3));
                (len, 2 * len, len, make(level, x))
            }));
        }
        for (name, make) in REDUCTIONS {
            plans.push(plan(SUMS, format!("{name} {len}"), move || {
                let (inputs, contestants) = make(level, len);
                (len, inputs * len, inputs * len / 2, contestants)
            }));
        }
    }
    for (rows, cols) in SHAPES {
        for (name, make) in ROWS {
            plans.push(plan("rows", format!("{name} {rows} x {cols}"), move || {
                let x = Rc::new(scaled(rows * cols, 3.0, 4));
                (
                    rows * cols,
                    2 * rows * cols,
                    rows * cols,
                    make(level, cols, x),
                )
            }));
        }
    }
    plans
}

fn scaled(len: usize, size: f32, seed: u32) -> Buffer<f32> {
    let mut x = noise(len, seed);
    x.iter_mut().for_each(|x| *x *= size);
    x
}

/// `make` gives elements, f32s read and written, elements of the copy to compare with, and the contestants.
fn plan(
    group: &'static str,
    name: String,
    make: impl Fn() -> (usize, usize, usize, Vec<Contestant>) + Send + Sync + 'static,
) -> Plan {
    let title = name.clone();
    Plan {
        group,
        name: title,
        threads: 1,
        make: Box::new(move || {
            let (elements, moved, copied, contestants) = make();
            Row {
                group,
                name: name.clone(),
                work: Work::Elements {
                    elements,
                    bytes: 4 * moved,
                    copied,
                },
                out: if group == SUMS { 1 } else { elements },
                // Peers add up to half a million terms in one f32.
                tolerance: if group == SUMS { 1e-3 } else { 2e-5 },
                threads: 1,
                contestants,
            }
        }),
    }
}

type MakeMap = fn(SimdLevel, Rc<Buffer<f32>>) -> Vec<Contestant>;

/// Functions of one element.
const MAPS: [(&str, MakeMap); 7] = [
    ("relu", |level, x| {
        let z = Rc::clone(&x);
        let mut all = map(level, Activation::Relu, x, LeakyRelu { alpha: 0.0 });
        all.push(by("plain loop", move |out| {
            for (out, &x) in out.iter_mut().zip(&z[..]) {
                *out = x.max(0.0);
            }
        }));
        all
    }),
    ("gelu", |level, x| map(level, Activation::Gelu, x, Gelu {})),
    ("gelu_tanh", |level, x| {
        map(level, Activation::GeluTanh, x, ApproxGelu {})
    }),
    ("silu", |level, x| map(level, Activation::Silu, x, Silu {})),
    ("sigmoid", |level, x| {
        map(level, Activation::Sigmoid, x, Sigmoid {})
    }),
    ("tanh", |level, x| map(level, Activation::Tanh, x, Tanh {})),
    ("exp", |level, x| {
        let z = Rc::clone(&x);
        vec![
            by("nd-simd", move |out| dispatch(level, ExpKernel(&x, out))),
            theirs(z, Exp {}),
        ]
    }),
];

fn map(
    level: SimdLevel,
    activation: Activation,
    x: Rc<Buffer<f32>>,
    op: impl SimdUnaryOp<f32> + 'static,
) -> Vec<Contestant> {
    let z = Rc::clone(&x);
    vec![
        by("nd-simd", move |out| {
            activation_forward(level, activation, &x, out)
        }),
        theirs(z, op),
    ]
}

fn theirs(x: Rc<Buffer<f32>>, op: impl SimdUnaryOp<f32> + 'static) -> Contestant {
    by("rten-vecmath", move |out| {
        op.map(&x, uninit(out));
    })
}

/// `e^x` of a slice, from the function of a vector.
struct ExpKernel<'a>(&'a [f32], &'a mut [f32]);

#[derive(Clone, Copy)]
struct ExpOfLanes;

impl Unary for ExpOfLanes {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        math::exp(x)
    }
}

impl Kernel for ExpKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        map_unary::<false, S, f32>(simd, ExpOfLanes, self.0, self.1);
    }
}

type MakeRows = fn(SimdLevel, usize, Rc<Buffer<f32>>) -> Vec<Contestant>;

/// Functions of the rows of a matrix.
const ROWS: [(&str, MakeRows); 3] = [
    ("softmax", |level, cols, x| {
        let z = Rc::clone(&x);
        vec![
            by("nd-simd", move |out| softmax_forward(level, cols, &x, out)),
            by("rten-vecmath", move |out| {
                for (x, out) in z.chunks_exact(cols).zip(uninit(out).chunks_exact_mut(cols)) {
                    Softmax::new(x, out).dispatch();
                }
            }),
        ]
    }),
    ("layer norm", |level, cols, x| {
        let (gain, bias) = (Rc::new(noise(cols, 5)), Rc::new(noise(cols, 6)));
        let (z, their_gain, their_bias) = (Rc::clone(&x), Rc::clone(&gain), Rc::clone(&bias));
        let mut mean = vec![0.0; x.len() / cols];
        let mut rstd = mean.clone();
        vec![
            by("nd-simd", move |out| {
                let eps = f64::from(EPS);
                layer_norm_forward(level, eps, &x, &gain, &bias, out, &mut mean, &mut rstd);
            }),
            by("rten-vecmath", move |out| {
                for (x, out) in z.chunks_exact(cols).zip(uninit(out).chunks_exact_mut(cols)) {
                    let share = 1.0 / cols as f32;
                    let mean = Sum::new(x).dispatch() * share;
                    let variance = SumSquareSub::new(x, mean).dispatch() * share;
                    let options = NormalizeOptions {
                        pre_scale_bias: mean,
                        scale: 1.0 / (variance + EPS).sqrt(),
                        element_scale: Some(&their_gain),
                        bias: 0.0,
                        element_bias: Some(&their_bias),
                    };
                    Normalize::new(x, out, options).dispatch();
                }
            }),
        ]
    }),
    ("rms norm", |level, cols, x| {
        let gain = Rc::new(noise(cols, 5));
        let (z, their_gain) = (Rc::clone(&x), Rc::clone(&gain));
        let mut rstd = vec![0.0; x.len() / cols];
        vec![
            by("nd-simd", move |out| {
                rms_norm_forward(level, f64::from(EPS), &x, &gain, out, &mut rstd);
            }),
            by("rten-vecmath", move |out| {
                for (x, out) in z.chunks_exact(cols).zip(uninit(out).chunks_exact_mut(cols)) {
                    let square = SumSquare::new(x).dispatch() / cols as f32;
                    let options = NormalizeOptions {
                        scale: 1.0 / (square + EPS).sqrt(),
                        element_scale: Some(&their_gain),
                        ..NormalizeOptions::default()
                    };
                    Normalize::new(x, out, options).dispatch();
                }
            }),
        ]
    }),
];

/// The number of inputs, and the contestants, who write one number.
type MakeReduction = fn(SimdLevel, usize) -> (usize, Vec<Contestant>);

const REDUCTIONS: [(&str, MakeReduction); 6] = [
    ("sum", |level, len| {
        // Not centred, so that the sum is not all rounding.
        let x = Rc::new(shifted(len, 7));
        let (y, z) = (Rc::clone(&x), Rc::clone(&x));
        let all = vec![
            by("nd-simd", move |out| out[0] = sum_slice(level, &x) as f32),
            by("rten-vecmath", move |out| out[0] = Sum::new(&y).dispatch()),
            by("ndarray", move |out| {
                out[0] = ArrayView1::from(&z[..]).sum()
            }),
        ];
        (1, all)
    }),
    ("sum of squares", |level, len| {
        let x = Rc::new(shifted(len, 8));
        let y = Rc::clone(&x);
        let all = vec![
            by("nd-simd", move |out| {
                out[0] = squared_norm(level, &x) as f32
            }),
            by("rten-vecmath", move |out| {
                out[0] = SumSquare::new(&y).dispatch()
            }),
        ];
        (1, all)
    }),
    ("dot", |level, len| {
        let (a, b) = (Rc::new(shifted(len, 9)), Rc::new(shifted(len, 10)));
        let (c, d) = (Rc::clone(&a), Rc::clone(&b));
        let all = vec![
            by("nd-simd", move |out| {
                out[0] = dot_slice(level, &a, &b) as f32
            }),
            by("ndarray", move |out| {
                out[0] = ArrayView1::from(&c[..]).dot(&ArrayView1::from(&d[..]));
            }),
        ];
        (2, all)
    }),
    ("mse", |level, len| {
        loss(level, len, PointLoss::Squared, |e| e * e)
    }),
    ("mae", |level, len| {
        loss(level, len, PointLoss::Absolute, f32::abs)
    }),
    ("huber", |level, len| {
        loss(level, len, PointLoss::Huber { delta: 1.0 }, |e| {
            let size = e.abs();
            if size < 1.0 { 0.5 * e * e } else { size - 0.5 }
        })
    }),
];

fn shifted(len: usize, seed: u32) -> Buffer<f32> {
    let mut x = noise(len, seed);
    x.iter_mut().for_each(|x| *x += 2.0);
    x
}

fn loss(
    level: SimdLevel,
    len: usize,
    loss: PointLoss,
    of_error: impl Fn(f32) -> f32 + 'static,
) -> (usize, Vec<Contestant>) {
    let (y, y_hat) = (Rc::new(noise(len, 11)), Rc::new(scaled(len, 2.0, 12)));
    let (z, z_hat) = (Rc::clone(&y), Rc::clone(&y_hat));
    let share = 1.0 / len as f64;
    let all = vec![
        by("nd-simd", move |out| {
            out[0] = (point_loss(level, loss, &y, &y_hat, None, None, 1.0) * share) as f32;
        }),
        by("plain loop", move |out| {
            // Eight sums, so that the compiler may use vectors.
            let mut sums = [0.0f32; 8];
            for (y, y_hat) in z.chunks_exact(8).zip(z_hat.chunks_exact(8)) {
                for i in 0..8 {
                    sums[i] += of_error(y_hat[i] - y[i]);
                }
            }
            out[0] = (f64::from(sums.iter().sum::<f32>()) * share) as f32;
        }),
    ];
    (2, all)
}
