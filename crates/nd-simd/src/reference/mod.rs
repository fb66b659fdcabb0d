//! What each kernel computes: plain loops in f64, the specification that the tests compare with.

pub mod activations;
pub mod losses;
pub mod matmul;
pub mod norm;
pub mod optim;
pub mod recurrent;
pub mod softmax;
pub mod temporal;
