//! What each kernel computes: plain loops in f64, the specification that the tests compare with.

pub mod activations;
pub mod matmul;
pub mod optim;
pub mod recurrent;
