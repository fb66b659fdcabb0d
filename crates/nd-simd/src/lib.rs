//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward, and functions of ndarray arrays over
//! them.
//!
//! # Arrays
//!
//! Functions of arrays take `&ArrayRef<R, D>` of [`ndarray`], to which every array and view derefs, of any layout and number of
//! dimensions, and return arrays. They run at the level of the machine, [`SimdLevel::current`].
//!
//! ```
//! use nd_simd as simd;
//! use ndarray::array;
//!
//! let (a, b) = (array![[1.0f32, 2.0], [3.0, 4.0]], array![[0.5, -1.0], [2.0, 0.0]]);
//! let (matrix, vec) = (&a, array![1.0, -1.0]);
//!
//! // Matrix operations
//! let result = simd::matmul::gemm(&a, &b);
//! assert_eq!(result, array![[4.5, -1.0], [9.5, -3.0]]);
//! let result = simd::matmul::gemv(&matrix, &vec);
//! assert_eq!(result, array![-1.0, -1.0]);
//!
//! // Activations
//! let input = b.t(); // a view
//! let result = simd::activations::relu(&input);
//! assert_eq!(result, array![[0.5, 2.0], [0.0, 0.0]]);
//! let result = simd::activations::gelu(&input);
//! assert!((result[[0, 1]] - 1.9545).abs() < 1e-4);
//! let result = simd::activations::softmax(&input);
//! assert!((result.row(0).sum() - 1.0).abs() < 1e-6);
//!
//! // Losses
//! let (pred, target) = (&a, &b);
//! let loss = simd::losses::mse(&pred, &target);
//! assert_eq!(loss, 6.5625);
//! let grad = simd::losses::mse_gradient(&pred, &target);
//! assert_eq!(grad, array![[0.25, 1.5], [0.5, 2.0]]);
//!
//! // What the processor offers
//! let features = simd::detect_cpu_features();
//! println!("AVX2: {}, NEON: {}", features.has_avx2, features.has_neon);
//! println!("{features}, at least one lane: {}", simd::is_simd_available());
//! ```
//!
//! * [`matmul`]: products, with transposes by stride; [`activations`] (softmax among them), [`losses`], [`norm`], [`reduce`];
//! * [`recurrent`], [`conv`], [`pool`], [`interpolate`], [`moving_average`]: layers along time;
//! * [`gather`], [`permute`]: embeddings, picking, scattering, axes in another order;
//! * [`optim`]: optimizer steps; [`convert`]: f16 and bf16.
//!
//! What is differentiable has its gradient beside it, as `gelu` and `gelu_gradient`. Shapes that do not fit panic with both
//! shapes and the caller's line. Empty arrays give empty or neutral results. Inside a rayon pool of several threads large
//! work uses them, with the same bits; the global pool is never touched.
//!
//! # Kernels
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
pub mod autocast;
pub mod conv;
pub mod convert;
pub mod dispatch;
pub mod dropout;
pub mod elementwise;
pub mod features;
pub mod gather;
pub mod interpolate;
pub mod lanes;
mod layout;
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
pub use features::{CpuFeatures, detect_cpu_features, is_simd_available};
pub use lanes::{LaneMask, Lanes, SimdReal};

/// The array types that functions here take and return.
pub use ndarray;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
