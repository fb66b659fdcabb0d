//! Reverse-mode differentiation on a tape of few, coarse, fused ops.
//!
//! A step goes like this: [`Tape::begin`] with the parameters, values computed by ops (extension traits on [`Var`] that
//! the kernel crates bring), [`Tape::backward`] from the gradient of the last value, and [`Tape::reset`]. Gradients of
//! parameters arrive in a flat [`ParamGrads`].
//!
//! A new op is one file: a method that computes the value and calls [`Tape::record`], and below it an [`Op`] with its
//! backward pass. `docs/autograd.md` walks through one.

mod accumulate;
mod arena;
mod backward;
mod grads;
mod init;
mod op;
mod pack;
mod params;
mod stored;
mod tape;
mod var;

pub use accumulate::Accumulate;
pub use backward::{Backward, Grad};
pub use grads::ParamGrads;
pub use init::Init;
pub use op::Op;
pub use pack::{Orientation, PackCache};
pub use params::{ParamEntry, ParamId, ParamKind, ParamLayout, Params, ParamsBuilder};
pub use stored::{Stored, StoredRef, Value};
pub use tape::{BufferUpdate, Mode, NodeId, NonFinite, StepContext, Tape};
pub use var::Var;
