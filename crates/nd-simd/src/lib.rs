//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward.
//!
//! A kernel is a function of slices whose first argument is the [`SimdLevel`] to run at; nothing is a cargo feature, so every level can be
//! measured in one process. Backward kernels write or add as [`nd_core::autograd::Accumulate`] says. Each kernel is compiled
//! once for f32 and once for f64, here and not in the crates that call it.
//!
//! * [`dispatch`](mod@dispatch), [`lanes`], [`map`]: from a level to vector code; what a new kernel is written with.
//! * [`math`]: elementary functions, one vector in and one out, each with its error bound.
//! * [`mod@reference`]: what every kernel computes, as plain loops in f64; the specification that tests compare with.
//! * [`ops`]: the kernels as ops on the tape. `use nd_simd::ops::prelude::*`.
//! * everything else: the kernels, one concept a module.
//!
//! ```
//! use nd_simd::SimdLevel;
//! use nd_simd::activations::gelu_forward;
//!
//! let x = [-1.0f32, 0.0, 2.0];
//! let mut y = [0.0; 3];
//! gelu_forward(SimdLevel::current(), &x, &mut y);
//! assert!((y[2] - 1.9545).abs() < 1e-4);
//! ```

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
