//! The parallel calls over models of a user's.

mod bad_input;
mod cancel;
mod failures;
mod folds;
mod models;
mod same;
mod search;
mod uncertain;
