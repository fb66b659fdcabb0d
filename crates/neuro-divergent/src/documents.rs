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
