//! The training step: loss scaling, finite checks, clipping and the optimizer in single passes.
