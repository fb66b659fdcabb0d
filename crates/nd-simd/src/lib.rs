//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward.

pub mod activations;
pub mod dispatch;
pub mod elementwise;
pub mod lanes;
pub mod map;
pub mod math;
pub mod matmul;
pub mod ops;
pub mod optim;
pub mod permute;
pub mod recurrent;
pub mod reduce;
pub mod reference;
#[cfg(test)]
mod testing;
mod tree;

pub use dispatch::{Isa, Kernel, SimdLevel, dispatch};
pub use lanes::{LaneMask, Lanes, SimdReal};
