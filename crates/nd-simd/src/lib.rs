//! CPU kernels for f32 and f64 on AVX2, AVX-512, NEON and scalar, forward and backward.
