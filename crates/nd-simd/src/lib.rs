//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward.

pub mod activations;
pub mod convert;
pub mod dispatch;
pub mod dropout;
pub mod elementwise;
pub mod gather;
pub mod interpolate;
pub mod lanes;
pub mod losses;
pub mod map;
pub mod math;
pub mod matmul;
pub mod moving_average;
pub mod norm;
pub mod ops;
pub mod optim;
pub mod patches;
pub mod permute;
pub mod pool;
pub mod recurrent;
pub mod reduce;
pub mod reference;
pub mod softmax;
#[cfg(test)]
mod testing;
mod tree;

pub use dispatch::{Isa, Kernel, SimdLevel, dispatch};
pub use lanes::{LaneMask, Lanes, SimdReal};
