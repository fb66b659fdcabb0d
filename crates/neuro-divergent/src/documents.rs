//! The code of the documents, compiled and run as tests.

#[doc = include_str!("../../../README.md")]
struct Readme;

#[doc = include_str!("../../../docs/forecasting.md")]
struct Forecasting;

#[doc = include_str!("../../../docs/autograd.md")]
struct Autograd;

#[doc = include_str!("../../../docs/adding-a-loss.md")]
struct AddingALoss;

#[doc = include_str!("../../../docs/adding-a-model.md")]
struct AddingAModel;

#[doc = include_str!("../../../docs/quick-reference.md")]
struct QuickReference;

/// Each crate's own page; its examples use nothing but that crate.
mod readmes {
    #[doc = include_str!("../README.md")]
    struct NeuroDivergent;

    #[doc = include_str!("../../nd-core/README.md")]
    struct NdCore;

    #[doc = include_str!("../../nd-attention/README.md")]
    struct NdAttention;

    #[doc = include_str!("../../nd-parallel/README.md")]
    struct NdParallel;

    #[doc = include_str!("../../nd-amp/README.md")]
    struct NdAmp;

    #[doc = include_str!("../../nd-data/README.md")]
    struct NdData;

    #[doc = include_str!("../../nd-models/README.md")]
    struct NdModels;
}
