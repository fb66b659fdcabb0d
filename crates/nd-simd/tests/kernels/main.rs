//! Kernels against their references, in one program, which is linked once for all files.
//!
//! `cargo test -p nd-simd --test kernels conv::` runs the tests of one file. Products in f32 and f64 and elementary functions are
//! beside this, because the short form on aarch64 runs them by themselves.

mod bf16_engines;
mod conv;
mod exp_or_zero;
mod half_products;
mod large_products;
mod ops;
mod permute;
mod products_exact;
mod recurrent;
mod rounded_products;
mod temporal;
