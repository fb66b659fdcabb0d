//! The error of every elementary function over the arguments of f32, against f64.
//!
//! A scan walks bit patterns in blocks; each block's reference values are computed once and every level is compared
//! with them. The ignored test walks all 2^32 and prints the table of docs/numerics.md: `cargo xtask accuracy`. The
//! other one walks a dense part of them within seconds.
//!
//! The references are std's and libm's f64 functions, arranged as in `nd_simd::reference`; their own error is a few ULP
//! of f64, less than 1e-6 of the unit counted here, and 2e-6 for `gelu_tanh`, whose argument is rounded first.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use nd_simd::map::{Unary, map_unary};
use nd_simd::reference::activations as exact;
use nd_simd::{Isa, Kernel, Lanes, SimdLevel, SimdReal, activations, dispatch, math};

/// Arguments of one block.
const BLOCK: usize = 1 << 15;

macro_rules! functions {
    ($($name:ident $function:path),*) => {
        $(
            #[derive(Clone, Copy)]
            struct $name;
            impl Unary for $name {
                #[inline(always)]
                fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
                    $function(x)
                }
            }
            impl $name {
                fn run(level: SimdLevel, x: &[f32], y: &mut [f32]) {
                    struct Run<'a>(&'a [f32], &'a mut [f32]);
                    impl Kernel for Run<'_> {
                        type Output = ();
                        #[inline(always)]
                        fn run<S: Isa>(self, simd: S) {
                            map_unary::<false, _, _>(simd, $name, self.0, self.1);
                        }
                    }
                    dispatch(level, Run(x, y));
                }
            }
        )*
    };
}

functions!(Exp math::exp, Log math::log, Erf math::erf);

/// A function under test.
struct Row {
    name: &'static str,
    kernel: fn(SimdLevel, &[f32], &mut [f32]),
    reference: fn(f64) -> f64,
    /// In ULP.
    bound: f64,
}

const fn row(
    name: &'static str,
    kernel: fn(SimdLevel, &[f32], &mut [f32]),
    reference: fn(f64) -> f64,
    bound: f64,
) -> Row {
    Row {
        name,
        kernel,
        reference,
        bound,
    }
}

const TABLE: [Row; 9] = [
    row("exp", Exp::run, f64::exp, math::EXP_MAX_ULP),
    row("log", Log::run, f64::ln, math::LOG_MAX_ULP),
    row(
        "tanh",
        activations::tanh_forward,
        f64::tanh,
        math::TANH_MAX_ULP,
    ),
    row(
        "sigmoid",
        activations::sigmoid_forward,
        exact::sigmoid,
        math::SIGMOID_MAX_ULP,
    ),
    row("erf", Erf::run, libm::erf, math::ERF_MAX_ULP),
    row(
        "gelu",
        activations::gelu_forward,
        exact::gelu,
        math::GELU_MAX_ULP,
    ),
    row(
        "gelu_tanh",
        activations::gelu_tanh_forward,
        exact::gelu_tanh,
        math::GELU_TANH_MAX_ULP,
    ),
    row(
        "silu",
        activations::silu_forward,
        exact::silu,
        math::SIGMOID_MAX_ULP,
    ),
    row(
        "softplus",
        activations::softplus_forward,
        exact::softplus,
        math::SOFTPLUS_MAX_ULP,
    ),
];

/// `|got - exact|` in units of the last place of f32 at `exact`; infinite where a NaN or an infinity is wrong.
///
/// The unit is that of the binade of `exact`, and the smallest denormal below. A value beyond f32's range by less than
/// half a place may round to infinity.
#[inline]
fn ulp(got: f32, exact: f64) -> f64 {
    let difference = (f64::from(got) - exact).abs();
    if difference.is_finite() {
        let exponent = (exact.to_bits() >> 52 & 0x7ff).max(1023 - 126);
        // 2^-(exponent - 23)
        let reciprocal = f64::from_bits((2046 + 23 - exponent) << 52);
        return difference * reciprocal;
    }
    let half_beyond = 2f64.powi(128) * (1.0 - 2f64.powi(-25));
    let overflows = exact.abs() >= half_beyond && got.is_infinite();
    let fine = (exact.is_nan() && got.is_nan())
        || (overflows && exact.signum() == f64::from(got).signum());
    if fine { 0.0 } else { f64::INFINITY }
}

/// What was found of one function on one level.
#[derive(Clone, Copy, Default)]
struct Found {
    worst: f64,
    at: f32,
    sum: f64,
    count: u64,
}

impl Found {
    fn add(&mut self, x: &[f32], y: &[f32], exact: &[f64]) {
        let (mut block, mut at) = (0.0f64, 0);
        for (i, (&y, &exact)) in y.iter().zip(exact).enumerate() {
            let error = ulp(y, exact);
            self.sum += if error.is_finite() { error } else { 0.0 };
            if error > block {
                (block, at) = (error, i);
            }
        }
        self.count += exact.iter().filter(|exact| !exact.is_nan()).count() as u64;
        self.consider(block, x[at]);
    }

    /// Of equal errors that of the smallest bits is kept, so that the order of blocks does not matter.
    fn consider(&mut self, worst: f64, at: f32) {
        if worst > self.worst || (worst == self.worst && at.to_bits() < self.at.to_bits()) {
            (self.worst, self.at) = (worst, at);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.consider(other.worst, other.at);
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// Every function on every level over the bit patterns `0, step, 2 step, ...`, on two threads.
fn scan(levels: &[SimdLevel], step: u64, progress: bool) -> Vec<Vec<Found>> {
    let count = (1u64 << 32).div_ceil(step);
    let blocks = count.div_ceil(BLOCK as u64);
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let work = || {
        let mut found = vec![vec![Found::default(); levels.len()]; TABLE.len()];
        let (mut x, mut y) = (vec![0.0f32; BLOCK], vec![0.0f32; BLOCK]);
        let mut exact = vec![0.0f64; BLOCK];
        loop {
            let block = next.fetch_add(1, Relaxed);
            if block >= blocks {
                return found;
            }
            let first = block * BLOCK as u64;
            let len = (count - first).min(BLOCK as u64) as usize;
            for (i, x) in x[..len].iter_mut().enumerate() {
                *x = f32::from_bits(((first + i as u64) * step) as u32);
            }
            for (row, found) in TABLE.iter().zip(&mut found) {
                for (exact, &x) in exact[..len].iter_mut().zip(&x) {
                    *exact = (row.reference)(f64::from(x));
                }
                for (&level, found) in levels.iter().zip(found) {
                    (row.kernel)(level, &x[..len], &mut y[..len]);
                    found.add(&x[..len], &y[..len], &exact[..len]);
                }
            }
            if progress && block % (blocks / 64).max(1) == 0 {
                let share = 100.0 * block as f64 / blocks as f64;
                eprintln!("{share:5.1} % after {:.0} s", start.elapsed().as_secs_f64());
            }
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut found = work();
        let other = other.join().expect("the scan does not panic");
        for (row, other) in found.iter_mut().zip(&other) {
            for (found, other) in row.iter_mut().zip(other) {
                found.merge(other);
            }
        }
        found
    })
}

/// The table of docs/numerics.md, and what breaks its bound.
fn report(levels: &[SimdLevel], found: &[Vec<Found>]) -> (String, Vec<String>) {
    let mut table = String::from(
        "| function | level | largest error, ULP | at | mean error, ULP |\n|---|---|---|---|---|\n",
    );
    let mut broken = Vec::new();
    for (row, found) in TABLE.iter().zip(found) {
        for (level, found) in levels.iter().zip(found) {
            let (worst, at) = (found.worst, found.at);
            let mean = found.sum / found.count.max(1) as f64;
            let name = row.name;
            table += &format!("| `{name}` | {level} | {worst:.3} | {at:e} | {mean:.4} |\n");
            if worst > row.bound {
                let bound = row.bound;
                broken.push(format!(
                    "{level} {name}({at:e}): {worst:.3} ULP, bound {bound}"
                ));
            }
        }
    }
    (table, broken)
}

#[test]
fn a_dense_part_of_all_arguments_is_within_the_bounds() {
    let levels: Vec<SimdLevel> = nd_testing::levels().collect();
    // A prime, so that the lowest bits take every value.
    let step = if cfg!(debug_assertions) { 16_381 } else { 1021 };
    let (table, broken) = report(&levels, &scan(&levels, step, false));
    assert!(broken.is_empty(), "{broken:#?}\n{table}");
}

/// `cargo xtask accuracy`
#[test]
#[ignore = "all 2^32 arguments of every function on every level: a quarter of an hour on two cores"]
fn all_arguments_are_within_the_bounds() {
    let levels: Vec<SimdLevel> = nd_testing::levels().collect();
    let start = Instant::now();
    let (table, broken) = report(&levels, &scan(&levels, 1, true));
    println!(
        "{table}\nAll 2^32 arguments, {:.0} s.",
        start.elapsed().as_secs_f64()
    );
    assert!(broken.is_empty(), "{broken:#?}");
}

/// NaN stays NaN; infinities, zeros and the ends of the denormals give what the reference gives, sign included.
#[test]
fn special_arguments_are_right_on_every_level() {
    let mut x = vec![
        0.0,
        1.0,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::from_bits(0x007f_ffff),
        f32::from_bits(0x0040_0000),
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::from_bits(0x7fff_ffff),
    ];
    x.extend(x.clone().iter().map(|x| -x));
    for level in nd_testing::levels() {
        for row in &TABLE {
            let mut y = vec![0.5; x.len()];
            (row.kernel)(level, &x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let exact = (row.reference)(f64::from(x));
                let place = format!(
                    "{level} {}({x:e} = {:#x}) = {y:e}, exactly {exact:e}",
                    row.name,
                    x.to_bits()
                );
                assert!(ulp(y, exact) <= row.bound, "{place}");
                assert!(!x.is_nan() || y.is_nan(), "{place}");
                if x == 0.0 || x.is_infinite() {
                    let same = y.to_bits() == (exact as f32).to_bits();
                    assert!(same || (y.is_nan() && exact.is_nan()), "{place}");
                }
            }
        }
    }
}

#[test]
fn the_unit_is_that_of_the_exact_value() {
    assert_eq!(ulp(1.0 + f32::EPSILON, 1.0), 1.0);
    assert_eq!(
        ulp(1.0, 1.0 + 1e-9),
        1e-9f64 / f64::from(f32::EPSILON) * ((1.0 + 1e-9 - 1.0) / 1e-9)
    );
    assert_eq!(ulp(f32::from_bits(3), f64::from(f32::from_bits(1))), 2.0);
    assert_eq!(ulp(0.0, 2f64.powi(-151)), 0.25);
    assert_eq!(ulp(f32::INFINITY, 3.5e38), 0.0);
    assert_eq!(ulp(f32::INFINITY, -3.5e38), f64::INFINITY);
    assert_eq!(ulp(f32::INFINITY, 3.4e38), f64::INFINITY);
    assert_eq!(ulp(f32::MAX, f64::INFINITY), f64::INFINITY);
    assert_eq!(ulp(f32::NAN, 1.0), f64::INFINITY);
    assert_eq!(ulp(1.0, f64::NAN), f64::INFINITY);
    assert_eq!(ulp(f32::NAN, f64::NAN), 0.0);
    assert_eq!(ulp(f32::NEG_INFINITY, f64::NEG_INFINITY), 0.0);
}
