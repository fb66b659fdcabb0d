//! What each kernel computes: plain loops in f64, the specification that the tests compare with.
//!
//! Nothing here imports more than std and libm (`cargo xtask tidy` holds it): a specification that shares types or code with
//! the kernels would share their mistakes.

pub mod activations;
pub mod conv;
pub mod gather;
pub mod log_softmax;
pub mod losses;
pub mod matmul;
pub mod norm;
pub mod optim;
pub mod recurrent;
pub mod softmax;
pub mod temporal;
