//! Loops over slices: apply a function of lanes to whole vectors, then to the masked rest.
//!
//! A function is a small `Copy` struct that implements [`Unary`], [`Binary`] or [`Ternary`]; it is written once for every
//! instruction set and element type. Structs rather than closures: a closure cannot be `#[inline(always)]`, and one that
//! is not inlined is compiled without the instruction set.
//!
//! Functions of one and two inputs work on two vectors at a time: constants are read once for both, and while one waits for a result the other
//! goes on. (At [`crate::SimdLevel::Scalar`] one element follows the other, which the compiler makes vectors of where it can.)
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

/// Vectors in pairs, and the last one when their number is odd; without pairs at the scalar level.
#[inline(always)]
fn in_pairs<S: Isa, V>(x: &[V]) -> (&[[V; 2]], &[V]) {
    if S::IS_SCALAR {
        (&[], x)
    } else {
        x.as_chunks()
    }
}

/// As [`in_pairs`].
#[inline(always)]
fn in_pairs_mut<S: Isa, V>(x: &mut [V]) -> (&mut [[V; 2]], &mut [V]) {
    if S::IS_SCALAR {
        (&mut [], x)
    } else {
        x.as_chunks_mut()
    }
}

/// `y = value`, or `y += value`.
#[inline(always)]
fn write<const ADD: bool, S: Isa, R: SimdReal>(y: &mut R::Vector<S>, value: Lanes<S, R>) {
    *y = if ADD {
        Lanes::from_raw(value.simd(), *y) + value
    } else {
        value
    }
    .raw();
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
    let len = x_full.len().min(y_full.len());
    let (x_pairs, x_single) = in_pairs::<S, _>(&x_full[..len]);
    let (y_pairs, y_single) = in_pairs_mut::<S, _>(&mut y_full[..len]);
    for (x, y) in x_pairs.iter().zip(y_pairs) {
        let first = f.apply::<S, R>(Lanes::from_raw(simd, x[0]));
        let second = f.apply::<S, R>(Lanes::from_raw(simd, x[1]));
        write::<ADD, S, R>(&mut y[0], first);
        write::<ADD, S, R>(&mut y[1], second);
    }
    for (&x, y) in x_single.iter().zip(y_single) {
        write::<ADD, S, R>(y, f.apply::<S, R>(Lanes::from_raw(simd, x)));
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
    let (pairs, single) = in_pairs_mut::<S, _>(full);
    for x in pairs {
        let first = f.apply::<S, R>(Lanes::from_raw(simd, x[0]));
        let second = f.apply::<S, R>(Lanes::from_raw(simd, x[1]));
        *x = [first.raw(), second.raw()];
    }
    for x in single {
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
    let len = a_full.len().min(b_full.len()).min(y_full.len());
    let (a_pairs, a_single) = in_pairs::<S, _>(&a_full[..len]);
    let (b_pairs, b_single) = in_pairs::<S, _>(&b_full[..len]);
    let (y_pairs, y_single) = in_pairs_mut::<S, _>(&mut y_full[..len]);
    for ((a, b), y) in a_pairs.iter().zip(b_pairs).zip(y_pairs) {
        let first = f.apply::<S, R>(Lanes::from_raw(simd, a[0]), Lanes::from_raw(simd, b[0]));
        let second = f.apply::<S, R>(Lanes::from_raw(simd, a[1]), Lanes::from_raw(simd, b[1]));
        write::<ADD, S, R>(&mut y[0], first);
        write::<ADD, S, R>(&mut y[1], second);
    }
    for ((&a, &b), y) in a_single.iter().zip(b_single).zip(y_single) {
        let value = f.apply::<S, R>(Lanes::from_raw(simd, a), Lanes::from_raw(simd, b));
        write::<ADD, S, R>(y, value);
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
