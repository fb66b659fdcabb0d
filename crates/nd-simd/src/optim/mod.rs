//! Optimizers over flat parameters, each in one pass.
//!
//! In its simple form an optimizer is a loop over elements: read gradient and moments, write moments and weight. That
//! loop is bound by memory, so everything else that touches the gradient rides along: its factor (loss unscaling and
//! clipping) is applied on loading, and [`check_norm`] reads the gradient once for both its norm and its finiteness.
//! Passes are cut at fixed places, so any number of threads gives the same bits.
//!
//! Formulas are those of PyTorch 2: epsilon outside the root, bias corrections, decoupled decay before the step.

mod adam;
mod array;
mod check;
mod rmsprop;
mod sgd;

pub use adam::{Adam, adam_step};
pub use array::{adam, clip_by_norm, rmsprop, sgd};
pub use check::{GradientCheck, check_norm, unscale_check_norm};
pub use rmsprop::{RmsProp, rmsprop_step};
pub use sgd::{Sgd, sgd_step};

use crate::dispatch::Isa;
use crate::lanes::{Lanes, SimdReal};

/// Elements that one task of a parallel pass handles: 256 KiB of f32, so that a task lasts tens of microseconds.
pub(crate) const TASK: usize = 64 * 1024;

/// The slices of one optimizer pass: the gradient, and what is updated.
struct Slices<'a, R, const N: usize> {
    grad: &'a [R],
    state: [&'a mut [R]; N],
}

impl<R: SimdReal, const N: usize> Slices<'_, R, N> {
    /// Calls `work` on consecutive pieces of [`TASK`] elements, in parallel when asked.
    fn for_each(self, parallel: bool, work: &(impl Fn(&[R], [&mut [R]; N]) + Sync)) {
        if self.grad.len() <= TASK {
            if !self.grad.is_empty() {
                work(self.grad, self.state);
            }
            return;
        }
        let tasks = self.grad.len().div_ceil(TASK);
        let middle = tasks / 2 * TASK;
        let (grad_left, grad_right) = self.grad.split_at(middle);
        let mut rights = [const { None }; N];
        let mut at = 0;
        let left = self.state.map(|slice| {
            let (left, right) = slice.split_at_mut(middle);
            rights[at] = Some(right);
            at += 1;
            left
        });
        let right = rights.map(|right| right.unwrap_or_default());
        let left = Slices {
            grad: grad_left,
            state: left,
        };
        let right = Slices {
            grad: grad_right,
            state: right,
        };
        if parallel {
            rayon::join(|| left.for_each(true, work), || right.for_each(true, work));
        } else {
            left.for_each(false, work);
            right.for_each(false, work);
        }
    }
}

/// What an optimizer does to one vector of elements.
trait Update<S: Isa, R: SimdReal, const N: usize> {
    /// The next weight and moments from the gradient and the present ones; must be `#[inline(always)]`.
    fn update(&self, g: Lanes<S, R>, state: [Lanes<S, R>; N]) -> [Lanes<S, R>; N];
}

/// Applies an update to every vector of the slices, and to the masked rest.
#[inline(always)]
fn update_all<S: Isa, R: SimdReal, const N: usize>(
    simd: S,
    rule: &impl Update<S, R, N>,
    grad: &[R],
    state: [&mut [R]; N],
) {
    let (g_full, g_rest) = R::split::<S>(grad);
    let n = g_full.len();
    let mut fulls: [&mut [R::Vector<S>]; N] = std::array::from_fn(|_| Default::default());
    let mut rests: [&mut [R]; N] = std::array::from_fn(|_| Default::default());
    for ((slice, full), rest) in state.into_iter().zip(&mut fulls).zip(&mut rests) {
        let (whole, tail) = R::split_mut::<S>(slice);
        // The same length for all, which the compiler can see: no bounds are checked in the loop below.
        *full = &mut whole[..n];
        *rest = tail;
    }
    for i in 0..n {
        let mut now = [Lanes::zero(simd); N];
        for k in 0..N {
            now[k] = Lanes::from_raw(simd, fulls[k][i]);
        }
        let next = rule.update(Lanes::from_raw(simd, g_full[i]), now);
        for k in 0..N {
            fulls[k][i] = next[k].raw();
        }
    }
    if !g_rest.is_empty() {
        let mut now = [Lanes::zero(simd); N];
        for k in 0..N {
            now[k] = Lanes::load_partial(simd, rests[k]);
        }
        let next = rule.update(Lanes::load_partial(simd, g_rest), now);
        for k in 0..N {
            next[k].store_partial(rests[k]);
        }
    }
}

#[cfg(test)]
mod tests;
