//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward.

pub mod dispatch;
pub mod lanes;
pub mod math;

pub use dispatch::{Isa, Kernel, SimdLevel, dispatch};
pub use lanes::{LaneMask, Lanes, SimdReal};
