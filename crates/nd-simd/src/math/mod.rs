//! Elementary functions: one vector in, one vector out, each with a named bound on its error.

/// The elementary functions of an element type.
pub trait Transcendental: Sized {}
impl Transcendental for f32 {}
impl Transcendental for f64 {}
