//! The functions of arrays against the references in f64: every layout, both types, bad shapes.

mod elementwise;
mod layers;
mod losses;
mod products;
mod rearrangements;
mod reductions;
mod shapes;
mod support;
