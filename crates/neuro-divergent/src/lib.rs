//! Neural time-series forecasting on ordinary CPUs.

#![forbid(unsafe_code)]

#[cfg(doctest)]
mod documents;
