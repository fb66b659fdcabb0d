//! Neural time-series forecasting on ordinary CPUs.
