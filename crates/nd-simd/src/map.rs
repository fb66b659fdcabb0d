//! Loops over slices: apply a function of lanes to whole vectors, then to the masked rest.
//!
//! A function is a small `Copy` struct that implements [`Unary`], [`Binary`] or [`Ternary`]; it is written once for every
//! instruction set and element type. Structs rather than closures: a closure cannot be `#[inline(always)]`, and one that
//! is not inlined is compiled without the instruction set.
//!
//! `ADD` chooses between `y = f(..)` and `y += f(..)` at compile time: with `false` the old `y` is never read, whatever it holds.

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// A function of one vector.
pub trait Unary: Copy {
    /// The function; must be `#[inline(always)]`.
    fn apply<S: Isa, R: SimdReal>(self, x: Lanes<S, R>) -> Lanes<S, R>;
}

/// A function of two vectors.
pub trait Binary: Copy {
    /// The function; must be `#[inline(always)]`.
    fn apply<S: Isa, R: SimdReal>(self, a: Lanes<S, R>, b: Lanes<S, R>) -> Lanes<S, R>;
}

/// A function of three vectors.
pub trait Ternary: Copy {
    /// The function; must be `#[inline(always)]`.
    fn apply<S: Isa, R: SimdReal>(
        self,
        a: Lanes<S, R>,
        b: Lanes<S, R>,
        c: Lanes<S, R>,
    ) -> Lanes<S, R>;
}

/// `y = f(x)`, or `y += f(x)`; lengths are the caller's business (the shorter counts).
#[inline(always)]
pub fn map_unary<const ADD: bool, S: Isa, R: SimdReal>(
    simd: S,
    f: impl Unary,
    x: &[R],
    y: &mut [R],
) {
    let (x_full, x_rest) = R::split::<S>(x);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for (&x, y) in x_full.iter().zip(y_full) {
        let value = f.apply::<S, R>(Lanes::from_raw(simd, x));
        *y = if ADD {
            Lanes::from_raw(simd, *y) + value
        } else {
            value
        }
        .raw();
    }
    if !x_rest.is_empty() {
        let value = f.apply::<S, R>(Lanes::load_partial(simd, x_rest));
        let value = if ADD {
            Lanes::load_partial(simd, y_rest) + value
        } else {
            value
        };
        value.store_partial(y_rest);
    }
}

/// `x = f(x)`
#[inline(always)]
pub fn map_in_place<S: Isa, R: SimdReal>(simd: S, f: impl Unary, x: &mut [R]) {
    let (full, rest) = R::split_mut::<S>(x);
    for x in full {
        *x = f.apply::<S, R>(Lanes::from_raw(simd, *x)).raw();
    }
    if !rest.is_empty() {
        f.apply::<S, R>(Lanes::load_partial(simd, rest))
            .store_partial(rest);
    }
}

/// `y = f(a, b)`, or `y += f(a, b)`.
#[inline(always)]
pub fn map_binary<const ADD: bool, S: Isa, R: SimdReal>(
    simd: S,
    f: impl Binary,
    a: &[R],
    b: &[R],
    y: &mut [R],
) {
    let (a_full, a_rest) = R::split::<S>(a);
    let (b_full, b_rest) = R::split::<S>(b);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for ((&a, &b), y) in a_full.iter().zip(b_full).zip(y_full) {
        let value = f.apply::<S, R>(Lanes::from_raw(simd, a), Lanes::from_raw(simd, b));
        *y = if ADD {
            Lanes::from_raw(simd, *y) + value
        } else {
            value
        }
        .raw();
    }
    if !a_rest.is_empty() {
        let value = f.apply::<S, R>(
            Lanes::load_partial(simd, a_rest),
            Lanes::load_partial(simd, b_rest),
        );
        let value = if ADD {
            Lanes::load_partial(simd, y_rest) + value
        } else {
            value
        };
        value.store_partial(y_rest);
    }
}

/// `y = f(x, y)`
#[inline(always)]
pub fn update_unary<S: Isa, R: SimdReal>(simd: S, f: impl Binary, x: &[R], y: &mut [R]) {
    let (x_full, x_rest) = R::split::<S>(x);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for (&x, y) in x_full.iter().zip(y_full) {
        *y = f
            .apply::<S, R>(Lanes::from_raw(simd, x), Lanes::from_raw(simd, *y))
            .raw();
    }
    if !x_rest.is_empty() {
        f.apply::<S, R>(
            Lanes::load_partial(simd, x_rest),
            Lanes::load_partial(simd, y_rest),
        )
        .store_partial(y_rest);
    }
}

/// `y = f(a, b, y)`
#[inline(always)]
pub fn update_binary<S: Isa, R: SimdReal>(simd: S, f: impl Ternary, a: &[R], b: &[R], y: &mut [R]) {
    let (a_full, a_rest) = R::split::<S>(a);
    let (b_full, b_rest) = R::split::<S>(b);
    let (y_full, y_rest) = R::split_mut::<S>(y);
    for ((&a, &b), y) in a_full.iter().zip(b_full).zip(y_full) {
        *y = f
            .apply::<S, R>(
                Lanes::from_raw(simd, a),
                Lanes::from_raw(simd, b),
                Lanes::from_raw(simd, *y),
            )
            .raw();
    }
    if !a_rest.is_empty() {
        f.apply::<S, R>(
            Lanes::load_partial(simd, a_rest),
            Lanes::load_partial(simd, b_rest),
            Lanes::load_partial(simd, y_rest),
        )
        .store_partial(y_rest);
    }
}
