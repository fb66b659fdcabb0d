//! Test support for every crate of the workspace: how close is close, which values and lengths are worth trying,
//! the instruction sets a run must cover, gradient checks, golden files, guard pages, and a counting allocator.
//!
//! Functions here panic with a message that says what differs and where; they are meant for tests only.

pub mod alloc;
pub mod cases;
pub mod close;
pub mod golden;
pub mod gradcheck;
#[cfg(unix)]
pub mod guard;
pub mod isa;
pub mod ops;
pub mod patience;
pub mod ulp;

pub use close::{assert_close, assert_norm_close, norm_error};
pub use golden::Golden;
pub use gradcheck::{GradInput, gradcheck};
#[cfg(unix)]
pub use guard::{Edge, Guarded};
pub use isa::{levels, required_isa};
pub use patience::in_time;
pub use ulp::{ulp_distance_f32, ulp_distance_f64};
