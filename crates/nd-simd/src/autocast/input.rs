//! Where a layer in sixteen bits puts the gradient of its input.

use std::cell::RefMut;

use nd_core::autograd::{Backward, Grad, NodeId, Stored};

use super::{Gradient, HalfMut, InputGradient, as_f32_mut};
use crate::lanes::SimdReal;

/// The gradient of an input as the tape has it, held while a layer computes.
pub(crate) enum InputSlot<'s, R: SimdReal> {
    Unwanted,
    /// The layer's is the first, and is rounded.
    First,
    /// There is one in sixteen bits.
    Rounded(RefMut<'s, Stored<R>>),
    /// The tape's own type.
    Wide(Grad<'s, R>),
}

impl<'s, R: SimdReal> InputSlot<'s, R> {
    pub(crate) fn of(step: &'s Backward<'_, R>, id: NodeId) -> Self {
        if step.takes_half(id).is_some() {
            Self::First
        } else if let Some(there) = step.half_grad(id) {
            Self::Rounded(there)
        } else {
            step.grad(id).map_or(Self::Unwanted, Self::Wide)
        }
    }

    /// What the layer is to do; the tape is f32.
    pub(crate) fn gradient(&mut self) -> InputGradient<'_> {
        match self {
            Self::Unwanted => InputGradient::None,
            Self::First => InputGradient::Rounded,
            Self::Rounded(there) => match HalfMut::of(there) {
                Some(there) => InputGradient::AddRounded(there),
                None => unreachable!("`half_grad` gives sixteen bits"),
            },
            Self::Wide(grad) => {
                let accumulate = grad.accumulate;
                match as_f32_mut(&mut grad[..]) {
                    Some(values) => InputGradient::Into(Gradient { values, accumulate }),
                    None => unreachable!("autocast is for f32 tapes"),
                }
            }
        }
    }
}
