//! Where the backward pass sums gradients: in the gradient itself where it can, in memory of its own otherwise.

use nd_core::autograd::Accumulate;
use nd_core::{Buffer, SimdLevel};

use super::backward::Backward;
use super::element::Blocks;
use super::views::HeadsMut;

/// A gradient to write or add to.
pub(super) type Target<'a, E> = Option<(HeadsMut<'a, E>, Accumulate)>;

/// Whether sums of a gradient are made where it goes.
pub(super) fn in_place<E: Blocks>(to: &Target<'_, E::Element>) -> bool {
    to.as_ref().is_some_and(|(to, how)| {
        *how == Accumulate::Write && to.layout().is_gapless() && E::as_sums(&mut []).is_some()
    })
}

/// Some of a head's tokens of a gradient whose sums are made in place.
///
/// # Safety
/// Nobody else has these tokens.
#[allow(
    clippy::mut_from_ref,
    reason = "tokens are disjoint, and the caller has these to itself"
)]
pub(super) unsafe fn place<'x, E: Blocks>(
    to: &'x Target<'_, E::Element>,
    (b, h): (usize, usize),
    first: usize,
    count: usize,
) -> Option<&'x mut [E::Sum]> {
    if !in_place::<E>(to) {
        return None;
    }
    let (to, _) = to.as_ref()?;
    // SAFETY: the caller's.
    unsafe { to.rows(b, h, first, count) }.and_then(E::as_sums)
}

/// Where one task sums the gradients of one head of values, and of the heads of keys that share it: memory of its own, nothing where the
/// sums are made in place or nobody wants them.
pub(super) struct Sums<E: Blocks> {
    /// `[heads of keys, N_k, d]`
    pub(super) dk: Buffer<E::Sum>,
    /// `[N_k, d_v]`
    pub(super) dv: Buffer<E::Sum>,
    /// Whether this task is the one that may sum in place.
    may_be_in_place: bool,
}

impl<E: Blocks> Sums<E> {
    pub(super) fn new(arguments: &Backward<'_, E>, may_be_in_place: bool) -> Self {
        let Backward { plan, dims, .. } = arguments;
        let room = |to: &Target<'_, E::Element>, len: usize| {
            let needed = to.is_some() && !(may_be_in_place && in_place::<E>(to));
            plan.pool.take(if needed { len } else { 0 })
        };
        Self {
            dk: room(&arguments.dk, dims.kv_group() * dims.keys * dims.head_dim),
            dv: room(&arguments.dv, dims.keys * dims.value_dim),
            may_be_in_place,
        }
    }

    /// The sums of a head of keys.
    ///
    /// # Safety
    /// The head of values is this task's, and what an earlier call returned is not used any more.
    pub(super) unsafe fn dk<'x>(
        &'x mut self,
        arguments: &'x Backward<'_, E>,
        (b, key_head): (usize, usize),
    ) -> &'x mut [E::Sum] {
        let dims = &arguments.dims;
        if self.may_be_in_place {
            // SAFETY: the caller's.
            let place = unsafe { place::<E>(&arguments.dk, (b, key_head), 0, dims.keys) };
            if let Some(place) = place {
                return place;
            }
        }
        let len = dims.keys * dims.head_dim;
        let start = key_head % dims.kv_group() * len;
        &mut self.dk[start..start + len]
    }

    /// The sums of a head of values.
    ///
    /// # Safety
    /// As [`Sums::dk`].
    pub(super) unsafe fn dv<'x>(
        &'x mut self,
        arguments: &'x Backward<'_, E>,
        (b, value_head): (usize, usize),
    ) -> &'x mut [E::Sum] {
        let dims = &arguments.dims;
        if self.may_be_in_place {
            // SAFETY: the caller's.
            let place = unsafe { place::<E>(&arguments.dv, (b, value_head), 0, dims.keys) };
            if let Some(place) = place {
                return place;
            }
        }
        &mut self.dv[..]
    }

    /// Brings the sums to the gradients, if they are not there.
    ///
    /// # Safety
    /// This head of values and the heads of keys that share it are the caller's.
    pub(super) unsafe fn deliver(&self, arguments: &Backward<'_, E>, (b, v): (usize, usize)) {
        let (dims, level) = (&arguments.dims, arguments.plan.level);
        // SAFETY: the caller's.
        unsafe {
            if let (Some((to, how)), false) = (&arguments.dv, self.dv.is_empty()) {
                deliver::<E>(level, to, *how, (b, v), 0, &self.dv);
            }
            let each = dims.keys * dims.head_dim;
            for (i, dk) in self.dk.chunks_exact(each).enumerate() {
                if let Some((to, how)) = &arguments.dk {
                    deliver::<E>(level, to, *how, (b, v * dims.kv_group() + i), 0, dk);
                }
            }
        }
    }
}

/// Writes or adds the sums of some tokens of a head, from `first` on, to where they go.
///
/// # Safety
/// Nobody else has these tokens.
pub(super) unsafe fn deliver<E: Blocks>(
    level: SimdLevel,
    to: &HeadsMut<'_, E::Element>,
    how: Accumulate,
    (b, h): (usize, usize),
    first: usize,
    sums: &[E::Sum],
) {
    let channels = to.layout().channels.max(1);
    // SAFETY: the caller's.
    if let Some(rows) = unsafe { to.rows(b, h, first, sums.len() / channels) } {
        E::deliver(level, sums, how, rows);
        return;
    }
    for (i, from) in sums.chunks_exact(channels).enumerate() {
        // SAFETY: the caller's.
        let row = unsafe { to.row(b, h, first + i) };
        E::deliver(level, from, how, row);
    }
}
