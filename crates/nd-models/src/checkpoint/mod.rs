//! Checkpoints: the parameters of a network, the configuration it was built from and, if training is to go on, the
//! state of the run, in one file.
//!
//! In its simple form: [`save`] writes a file in the safetensors format, [`read`] reads it back. Nothing of the reader
//! trusts the file, and the writer leaves the file from before alone until the new one is on the disk, whole.
//!
//! # The file
//! 8 bytes (the length of the header, little-endian), the header (a JSON object in UTF-8, filled up with spaces to a
//! multiple of 8 bytes), the tensors (little-endian, row-major, without gaps). Any reader of safetensors can open it:
//! in Python `safetensors.numpy.load_file(path)["params.encoder.weight"]`.
//!
//! | tensor | type | shape | what |
//! |---|---|---|---|
//! | `params.<name>` | F64, F32, F16 or BF16 | the parameter's | every parameter that owns its memory, buffers and frozen values too; tied ones appear once, under the name of the owner |
//! | `moments.<k>.<name>` | the same | the parameter's | moment `k` of the optimizer, for every trainable parameter |
//! | `best.<name>` | the same | the parameter's | the best weights so far, if early stopping has some |
//! | `sampler.epoch` | U32 | `[groups]` | the groups of windows still to come in the epoch, in their order |
//!
//! Only `params.` is there when no state was saved. [`save`] uses the type of the network (F64 or F32), [`save_half`] the
//! format it is asked for; the reader takes all four and converts. The order of the tensors does not matter.
//!
//! | key of `__metadata__` | value |
//! |---|---|
//! | `neuro_divergent` | the version of this format: `1`; files without the key are refused as foreign |
//! | `config` | the forecaster's configuration, a JSON text |
//! | `state` | the scalars of the training state, a JSON text; only if there is a state |
//! | `data_bytes` | the bytes that the tensors take, in decimal |
//! | `checksum` | CRC-64/XZ of the contents, 16 hexadecimal digits |
//!
//! `state` is an object with `step`, `seed`, `moments` (their number), `sampler` (`seed`, `step`, `op`, `drawn`),
//! `loss_scale` (`scale`, `clean_steps`, `skipped_in_row`), `checks_since_best` and `best` (`loss`, `step`, or null).
//! Counts are integers of 64 bits; `scale` and `loss` are the 16 hexadecimal digits of the bits of an f64.
//!
//! The checksum is one of the contents, not of the bytes of the header, so that a file stays valid when another
//! program writes the same tensors and texts in another order. It covers, numbers as 64 bits little-endian: the number
//! of metadata entries but `checksum`; of each, sorted by key, the length of the key, the key, the length of the value
//! and the value; of each tensor, sorted by name, the length of the name, the name, the length of the type's name, the
//! type's name, the number of dimensions, each dimension, the number of bytes and the bytes. Names sort by their UTF-8
//! bytes.
//!
//! A reader refuses every other version. What changes the meaning of a file raises the version.
//!
//! # Weaknesses
//! The checksum finds damage, not malice. A file is read into memory as a whole.
//!
//! # Example
//! ```
//! use nd_core::autograd::{Init, Params, ParamsBuilder};
//! use nd_models::checkpoint;
//!
//! let mut b = ParamsBuilder::new();
//! let weight = b.trainable("linear.weight", [2, 3], Init::Uniform(0.5));
//! let params = Params::<f32>::init(&b.build(), 1);
//!
//! let path = std::env::temp_dir().join(format!("example-{}.safetensors", std::process::id()));
//! checkpoint::save(&path, r#"{"model": "linear"}"#, &params, None)?;
//! let raw = checkpoint::read(&path)?;
//! assert_eq!(raw.config(), r#"{"model": "linear"}"#);
//! assert_eq!(raw.params::<f32>(params.layout())?.get(weight), params.get(weight));
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), checkpoint::CheckpointError>(())
//! ```

mod atomic;
mod checksum;
mod codec;
mod error;
mod header;
mod metadata;
mod read;
mod write;

use std::path::Path;

use nd_core::autograd::Params;
use nd_core::train_state::TrainState;
use nd_core::{Precision, Real};

pub use error::{CheckpointError, Fault};
pub use read::{RawCheckpoint, read};

/// Writes a checkpoint, in place of the one that may be there.
///
/// Until the new file is complete and on the disk the old one stays as it is, whatever happens to the program or the
/// machine. The temporary file beside it, `.<file>.<process>-<n>.tmp`, is removed on failure; what a killed process
/// left behind, the next `save` to the same path removes. Several processes may save to one path: the last one wins.
/// A symbolic link stays a link, and the permissions of an old file carry over.
///
/// # Errors
/// The file cannot be written, the path is no file or read-only, or `config` is no JSON text.
///
/// # Panics
/// `state` was made for another layout than that of `params`, or has more than 8 moments.
#[track_caller]
pub fn save<R: Real>(
    path: &Path,
    config: &str,
    params: &Params<R>,
    state: Option<&TrainState<R>>,
) -> Result<(), CheckpointError> {
    read::require_json(config).map_err(|fault| CheckpointError::content(path, fault))?;
    let contents = write::Contents::new(config, params, state, Precision::F32);
    atomic::replace(path, |out| contents.write(out))
}

/// Writes a checkpoint of the parameters alone in sixteen bits, half as large: for forecasting, or as the start of another training.
///
/// Parameters are rounded to nearest; [`read`] gives them back in f32 or f64. A training run is not resumed from here to the bit,
/// so there is no state to save. With [`Precision::F32`] this is [`save`].
///
/// # Errors
/// As [`save`]; or a parameter is too large for f16.
pub fn save_half<R: Real>(
    path: &Path,
    config: &str,
    params: &Params<R>,
    precision: Precision,
) -> Result<(), CheckpointError> {
    read::require_json(config).map_err(|fault| CheckpointError::content(path, fault))?;
    let contents = write::Contents::new(config, params, None, precision);
    if let Some(fault) = contents.too_large() {
        return Err(CheckpointError::content(path, fault));
    }
    atomic::replace(path, |out| contents.write(out))
}
