//! The hyperbolic tangent.
//!
//! `tanh x = E / (E + 2)` with `E = e^(2|x|) - 1`, the sign put back at the end. `E` is computed without cancellation, so one
//! formula serves every size of argument; beyond saturation the argument is clamped.

use super::exp::expm1_small;
use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// The error bound of [`tanh`], in ULP.
pub const TANH_MAX_ULP: f64 = 3.0;

/// `tanh x`; error at most [`TANH_MAX_ULP`].
#[inline(always)]
pub fn tanh<S: Isa, R: SimdReal>(x: Lanes<S, R>) -> Lanes<S, R> {
    if S::IS_SCALAR {
        return x.map(R::std_tanh);
    }
    let size = x.constant(R::TANH_SATURATES).smaller_of(x.abs());
    let e = expm1_small(size + size);
    let y = e / (e + x.constant(R::ONE + R::ONE));
    y.bit_or(x.sign_bit())
}
