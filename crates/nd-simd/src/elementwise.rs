//! Arithmetic between slices: sums, products, scaled copies, and biases over the rows of a matrix.
//!
//! The `accumulate*` family is what backward passes are made of: with [`Accumulate::Write`] the destination is replaced
//! and never read, with [`Accumulate::Add`] the value is added.
//!
//! Memory decides the speed of everything here beyond the caches; fuse where a loop can be saved.

use nd_core::autograd::Accumulate;

use crate::dispatch::{Isa, Kernel, SimdLevel, dispatch, instantiate, same_length};
use crate::lanes::{Lanes, SimdReal};
use crate::map::{
    Binary, Ternary, Unary, map_binary, map_in_place, map_unary, update_binary, update_unary,
};

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident |$a:ident, $b:ident| $value:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            struct $name;
            impl Binary for $name {
                #[inline(always)]
                fn apply<S: Isa, R: SimdReal>(self, $a: Lanes<S, R>, $b: Lanes<S, R>) -> Lanes<S, R> {
                    $value
                }
            }
        )*
    };
}

binary! {
    Sum |a, b| a + b;
    Difference |a, b| a - b;
    Product |a, b| a * b;
    Quotient |a, b| a / b;
    /// The derivative of `a / b` in `b`, given `dy / b` and `a / b`.
    NegativeProduct |a, b| -(a * b);
}

#[derive(Clone, Copy)]
struct Identity;

impl Unary for Identity {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x
    }
}

/// `scale x + shift`, in the element type.
#[derive(Clone, Copy)]
struct Affine {
    scale: f64,
    shift: f64,
}

impl Unary for Affine {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x.mul_add(
            x.constant(R::from_f64(self.scale)),
            x.constant(R::from_f64(self.shift)),
        )
    }
}

/// `scale x`
#[derive(Clone, Copy)]
struct Scale(f64);

impl Unary for Scale {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R> {
        x * R::from_f64(self.0)
    }
}

/// `a x + y`
#[derive(Clone, Copy)]
struct Axpy(f64);

impl Binary for Axpy {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>, y: Lanes<S, R>) -> Lanes<S, R> {
        x.mul_add(x.constant(R::from_f64(self.0)), y)
    }
}

/// `a b + y`
#[derive(Clone, Copy)]
struct MulAdd;

impl Ternary for MulAdd {
    #[inline(always)]
    fn apply<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        b: Lanes<S, R>,
        y: Lanes<S, R>,
    ) -> Lanes<S, R> {
        a.mul_add(b, y)
    }
}

struct BinaryKernel<'a, F, R> {
    f: F,
    a: &'a [R],
    b: &'a [R],
    y: &'a mut [R],
    acc: Accumulate,
}

impl<F: Binary, R: SimdReal> Kernel for BinaryKernel<'_, F, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        match self.acc {
            Accumulate::Write => map_binary::<false, S, R>(simd, self.f, self.a, self.b, self.y),
            Accumulate::Add => map_binary::<true, S, R>(simd, self.f, self.a, self.b, self.y),
        }
    }
}

struct UnaryKernel<'a, F, R> {
    f: F,
    x: &'a [R],
    y: &'a mut [R],
    acc: Accumulate,
}

impl<F: Unary, R: SimdReal> Kernel for UnaryKernel<'_, F, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        match self.acc {
            Accumulate::Write => map_unary::<false, S, R>(simd, self.f, self.x, self.y),
            Accumulate::Add => map_unary::<true, S, R>(simd, self.f, self.x, self.y),
        }
    }
}

struct InPlaceKernel<'a, F, R> {
    f: F,
    x: &'a mut [R],
}

impl<F: Unary, R: SimdReal> Kernel for InPlaceKernel<'_, F, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        map_in_place(simd, self.f, self.x);
    }
}

struct UpdateKernel<'a, F, R> {
    f: F,
    x: &'a [R],
    y: &'a mut [R],
}

impl<F: Binary, R: SimdReal> Kernel for UpdateKernel<'_, F, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        update_unary(simd, self.f, self.x, self.y);
    }
}

struct MulAddKernel<'a, R> {
    a: &'a [R],
    b: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for MulAddKernel<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        update_binary(simd, MulAdd, self.a, self.b, self.y);
    }
}

macro_rules! forward {
    ($($doc:literal $name:ident $f:ident;)*) => {
        $(
            instantiate! {
                #[doc = $doc]
                ///
                /// # Panics
                /// The lengths differ, or the machine lacks the level.
                pub fn $name<R>(level: SimdLevel, a: &[R], b: &[R], y: &mut [R])
                {
                    same_length("a", a.len(), "b", b.len());
                    same_length("a", a.len(), "y", y.len());
                }
                then { dispatch(level, BinaryKernel { f: $f, a, b, y, acc: Accumulate::Write }) }
            }
        )*
    };
}

forward! {
    "`y = a + b`" add_forward Sum;
    "`y = a - b`" sub_forward Difference;
    "`y = a b`, element by element." mul_forward Product;
    "`y = a / b`, element by element." div_forward Quotient;
}

instantiate! {
    /// The gradients of [`div_forward`] from its output: `da (+)= dy / b` and `db (+)= -dy y / b`. `scratch` receives `dy / b`.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn div_backward<R>(
        level: SimdLevel,
        b: &[R],
        y: &[R],
        dy: &[R],
        scratch: &mut [R],
        db: &mut [R],
        acc: Accumulate,
    )
    {
        same_length("b", b.len(), "y", y.len());
        same_length("b", b.len(), "dy", dy.len());
        same_length("b", b.len(), "scratch", scratch.len());
        same_length("b", b.len(), "db", db.len());
    }
    then {
        dispatch(level, BinaryKernel { f: Quotient, a: dy, b, y: scratch, acc: Accumulate::Write });
        dispatch(level, BinaryKernel { f: NegativeProduct, a: scratch, b: y, y: db, acc });
    }
}

instantiate! {
    /// `dst = src` or `dst += src`: the gradient of anything that passes its input on.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn accumulate<R>(level: SimdLevel, src: &[R], dst: &mut [R], acc: Accumulate)
    { same_length("src", src.len(), "dst", dst.len()); }
    then {
        match acc {
            Accumulate::Write => dst.copy_from_slice(src),
            Accumulate::Add => dispatch(level, UnaryKernel { f: Identity, x: src, y: dst, acc }),
        }
    }
}

instantiate! {
    /// `dst = scale src` or `dst += scale src`.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn accumulate_scaled<R>(
        level: SimdLevel,
        scale: f64,
        src: &[R],
        dst: &mut [R],
        acc: Accumulate,
    )
    { same_length("src", src.len(), "dst", dst.len()); }
    then {
        match acc {
            Accumulate::Write => {
                dispatch(level, UnaryKernel { f: Scale(scale), x: src, y: dst, acc });
            }
            Accumulate::Add => dispatch(level, UpdateKernel { f: Axpy(scale), x: src, y: dst }),
        }
    }
}

instantiate! {
    /// `dst = a b` or `dst += a b`, element by element: the gradient of a product.
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn accumulate_product<R>(
        level: SimdLevel,
        a: &[R],
        b: &[R],
        dst: &mut [R],
        acc: Accumulate,
    )
    {
        same_length("a", a.len(), "b", b.len());
        same_length("a", a.len(), "dst", dst.len());
    }
    then {
        match acc {
            Accumulate::Write => dispatch(level, BinaryKernel { f: Product, a, b, y: dst, acc }),
            Accumulate::Add => dispatch(level, MulAddKernel { a, b, y: dst }),
        }
    }
}

instantiate! {
    /// `y += a x`
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn axpy<R>(level: SimdLevel, a: f64, x: &[R], y: &mut [R])
    { same_length("x", x.len(), "y", y.len()); }
    then { dispatch(level, UpdateKernel { f: Axpy(a), x, y }) }
}

instantiate! {
    /// `y = scale x + shift`
    ///
    /// # Panics
    /// The lengths differ, or the machine lacks the level.
    pub fn affine_forward<R>(level: SimdLevel, scale: f64, shift: f64, x: &[R], y: &mut [R])
    { same_length("x", x.len(), "y", y.len()); }
    then {
        dispatch(level, UnaryKernel { f: Affine { scale, shift }, x, y, acc: Accumulate::Write })
    }
}

instantiate! {
    /// `x = scale x`
    ///
    /// # Panics
    /// The machine lacks the level.
    pub fn scale_in_place<R>(level: SimdLevel, scale: f64, x: &mut [R])
    {}
    then { dispatch(level, InPlaceKernel { f: Scale(scale), x }) }
}

/// Asserts that a buffer is whole rows of a length.
#[inline]
#[track_caller]
pub(crate) fn whole_rows(name: &str, len: usize, row: &str, cols: usize) {
    if if cols == 0 {
        len != 0
    } else {
        !len.is_multiple_of(cols)
    } {
        ragged_rows(name, len, row, cols);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn ragged_rows(name: &str, len: usize, row: &str, cols: usize) -> ! {
    panic!("`{name}` has {len} elements, which is not a whole number of rows of `{row}`'s {cols}")
}

struct BiasKernel<'a, R> {
    x: &'a [R],
    bias: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for BiasKernel<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let cols = self.bias.len();
        if cols == 0 {
            return;
        }
        for (x, y) in self.x.chunks_exact(cols).zip(self.y.chunks_exact_mut(cols)) {
            map_binary::<false, S, R>(simd, Sum, x, self.bias, y);
        }
    }
}

instantiate! {
    /// `y[r, c] = x[r, c] + bias[c]` for `x` and `y` of `[rows, bias.len()]`. The gradient of the bias is
    /// [`column_sums`](crate::reduce::column_sums).
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn bias_forward<R>(level: SimdLevel, x: &[R], bias: &[R], y: &mut [R])
    {
        same_length("x", x.len(), "y", y.len());
        whole_rows("x", x.len(), "bias", bias.len());
    }
    then { dispatch(level, BiasKernel { x, bias, y }) }
}

struct BiasInPlaceKernel<'a, R> {
    bias: &'a [R],
    y: &'a mut [R],
}

impl<R: SimdReal> Kernel for BiasInPlaceKernel<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        if !self.bias.is_empty() {
            for y in self.y.chunks_exact_mut(self.bias.len()) {
                update_unary(simd, Sum, self.bias, y);
            }
        }
    }
}

instantiate! {
    /// `y[r, c] += bias[c]` for `y` of `[rows, bias.len()]`.
    ///
    /// # Panics
    /// The lengths do not fit, or the machine lacks the level.
    pub fn bias_in_place<R>(level: SimdLevel, bias: &[R], y: &mut [R])
    { whole_rows("y", y.len(), "bias", bias.len()); }
    then { dispatch(level, BiasInPlaceKernel { bias, y }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{LENGTHS, Noise, assert_all_close, poisoned, to_f64};

    fn agrees<R: SimdReal>(tolerance: f64) {
        let mut noise = Noise::new(2);
        for level in nd_testing::levels() {
            for &len in LENGTHS {
                let a: Vec<R> = noise.vec(len, 3.0);
                let b: Vec<R> = noise.vec(len, 3.0);
                let old: Vec<R> = noise.vec(len, 3.0);
                let (a64, b64, old64) = (to_f64(&a), to_f64(&b), to_f64(&old));
                let zip = |f: &dyn Fn(f64, f64, f64) -> f64| -> Vec<f64> {
                    (0..len).map(|i| f(a64[i], b64[i], old64[i])).collect()
                };
                let what = format!("{level}, {len} elements");
                type Forward<R> = fn(SimdLevel, &[R], &[R], &mut [R]);
                type Exact = fn(f64, f64) -> f64;
                let table: [(Forward<R>, Exact); 4] = [
                    (add_forward, |a, b| a + b),
                    (sub_forward, |a, b| a - b),
                    (mul_forward, |a, b| a * b),
                    (div_forward, |a, b| a / b),
                ];
                for (forward, exact) in table {
                    let mut y = poisoned(len);
                    forward(level, &a, &b, &mut y);
                    for i in 0..len {
                        let expected = exact(a64[i], b64[i]);
                        crate::testing::assert_close(
                            y[i],
                            expected,
                            tolerance * expected.abs(),
                            || what.clone(),
                        );
                    }
                }
                for acc in [Accumulate::Write, Accumulate::Add] {
                    let start = |acc| {
                        if acc == Accumulate::Add {
                            old.clone()
                        } else {
                            poisoned(len)
                        }
                    };
                    let keep = if acc == Accumulate::Add { 1.0 } else { 0.0 };
                    let bound = 20.0 * tolerance;
                    let mut y = start(acc);
                    accumulate(level, &a, &mut y, acc);
                    assert_all_close(&y, &zip(&|a, _, old| keep * old + a), bound, &what);
                    let mut y = start(acc);
                    accumulate_scaled(level, -0.75, &a, &mut y, acc);
                    assert_all_close(&y, &zip(&|a, _, old| keep * old - 0.75 * a), bound, &what);
                    let mut y = start(acc);
                    accumulate_product(level, &a, &b, &mut y, acc);
                    assert_all_close(&y, &zip(&|a, b, old| keep * old + a * b), bound, &what);
                }
                let mut y = old.clone();
                axpy(level, 1.5, &a, &mut y);
                assert_all_close(
                    &y,
                    &zip(&|a, _, old| old + 1.5 * a),
                    20.0 * tolerance,
                    &what,
                );
                let mut y = poisoned(len);
                affine_forward(level, 2.0, -1.0, &a, &mut y);
                assert_all_close(&y, &zip(&|a, _, _| 2.0 * a - 1.0), 20.0 * tolerance, &what);
                let mut y = a.clone();
                scale_in_place(level, 0.25, &mut y);
                assert_all_close(&y, &zip(&|a, _, _| 0.25 * a), tolerance, &what);
            }
        }
    }

    #[test]
    fn f32_agrees_with_scalar_arithmetic() {
        agrees::<f32>(1.2e-7);
    }

    #[test]
    fn f64_agrees_with_scalar_arithmetic() {
        agrees::<f64>(2.3e-16);
    }

    #[test]
    fn quotients_have_both_gradients() {
        for level in nd_testing::levels() {
            let (a, b, dy) = ([3.0f64, -1.0, 0.5], [2.0, 4.0, -0.25], [1.0, 0.5, -2.0]);
            let mut y = [0.0; 3];
            div_forward(level, &a, &b, &mut y);
            let (mut da, mut db) = ([f64::NAN; 3], [1.0; 3]);
            div_backward(level, &b, &y, &dy, &mut da, &mut db, Accumulate::Add);
            for i in 0..3 {
                assert!((da[i] - dy[i] / b[i]).abs() < 1e-15);
                assert!((db[i] - 1.0 + dy[i] * a[i] / (b[i] * b[i])).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn biases_reach_every_row() {
        let mut noise = Noise::new(3);
        for level in nd_testing::levels() {
            for cols in [1, 2, 7, 16, 17, 33] {
                for rows in [0, 1, 3] {
                    let x: Vec<f32> = noise.vec(rows * cols, 1.0);
                    let bias: Vec<f32> = noise.vec(cols, 1.0);
                    let mut y = poisoned(rows * cols);
                    bias_forward(level, &x, &bias, &mut y);
                    let mut in_place = x.clone();
                    bias_in_place(level, &bias, &mut in_place);
                    assert_eq!(y, in_place);
                    for (i, &y) in y.iter().enumerate() {
                        assert_eq!(y, x[i] + bias[i % cols]);
                    }
                }
            }
            bias_forward::<f32>(level, &[], &[], &mut []);
        }
    }

    #[test]
    #[should_panic(
        expected = "`x` has 7 elements, which is not a whole number of rows of `bias`'s 3"
    )]
    fn ragged_rows_are_refused() {
        bias_forward(SimdLevel::Scalar, &[0.0f32; 7], &[0.0; 3], &mut [0.0; 7]);
    }
}
