//! The architectures, one file each.

mod block_mlp;
pub mod dlinear;
pub mod lstm;
pub mod mlp;
pub mod nbeats;
pub mod nhits;
pub mod nlinear;
pub mod patchtst;

pub use dlinear::{DLinear, DLinearConfig};
pub use lstm::{Lstm, LstmConfig};
pub use mlp::{Mlp, MlpConfig};
pub use nbeats::{Nbeats, NbeatsConfig, StackType};
pub use nhits::{Nhits, NhitsConfig};
pub use nlinear::{NLinear, NLinearConfig};
pub use patchtst::{PatchTst, PatchTstActivation, PatchTstConfig};
