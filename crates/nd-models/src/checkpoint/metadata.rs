//! The text entries of a checkpoint and what the checksum covers.

use std::collections::BTreeMap;

use nd_core::Real;
use nd_core::rng::{Key, StreamPosition};
use nd_core::train_state::{LossScaleState, TrainState};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checksum::Crc64;
use super::codec::Stored;

/// Key of the format version; its presence says that the file is a checkpoint of this library.
pub(super) const VERSION: &str = "neuro_divergent";
/// The version that is written and read.
pub(super) const CURRENT: &str = "1";
/// Key of the forecaster's configuration.
pub(super) const CONFIG: &str = "config";
/// Key of the scalars of the training state.
pub(super) const STATE: &str = "state";
/// Key of the number of bytes that the tensors take.
pub(super) const DATA_BYTES: &str = "data_bytes";
/// Key of the checksum.
pub(super) const CHECKSUM: &str = "checksum";

/// First part of the name of a parameter's tensor.
pub(super) const PARAMS: &str = "params.";
/// First part of the name of an optimizer moment's tensor; its number and a dot follow.
pub(super) const MOMENTS: &str = "moments.";
/// First part of the name of a tensor of the best weights so far.
pub(super) const BEST: &str = "best.";
/// The name of the tensor of the groups still to come in the epoch.
pub(super) const EPOCH: &str = "sampler.epoch";

/// Moments that an optimizer may keep; Adam has 2.
pub(super) const MOST_MOMENTS: usize = 8;

/// The text entries, sorted by key.
pub(super) type Metadata = BTreeMap<String, String>;

/// The checksum of the text entries; tensors follow through [`add_tensor`].
pub(super) fn checksum_of(metadata: &Metadata) -> Crc64 {
    let mut crc = Crc64::new();
    let entries = metadata.iter().filter(|(key, _)| *key != CHECKSUM);
    crc.update_number(entries.clone().count());
    for (key, value) in entries {
        crc.update_field(key.as_bytes());
        crc.update_field(value.as_bytes());
    }
    crc
}

/// Adds what comes before a tensor's bytes.
pub(super) fn add_tensor(
    crc: &mut Crc64,
    name: &str,
    stored: &Stored,
    shape: &[usize],
    bytes: usize,
) {
    crc.update_field(name.as_bytes());
    crc.update_field(stored.name().as_bytes());
    crc.update_number(shape.len());
    for &dim in shape {
        crc.update_number(dim);
    }
    crc.update_number(bytes);
}

/// The scalars of a [`TrainState`] as they stand in the metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateRecord {
    pub(super) step: u64,
    pub(super) seed: u64,
    pub(super) moments: usize,
    pub(super) sampler: StreamRecord,
    pub(super) loss_scale: LossScaleRecord,
    pub(super) checks_since_best: u64,
    pub(super) best: Option<BestRecord>,
}

/// A [`StreamPosition`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamRecord {
    seed: u64,
    step: u32,
    op: u32,
    drawn: u64,
}

impl StreamRecord {
    pub(super) fn position(&self) -> StreamPosition {
        let &Self {
            seed,
            step,
            op,
            drawn,
        } = self;
        StreamPosition {
            key: Key { seed, step, op },
            drawn,
        }
    }
}

/// A [`LossScaleState`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LossScaleRecord {
    #[serde(with = "bits")]
    scale: f64,
    clean_steps: u64,
    skipped_in_row: u64,
}

impl LossScaleRecord {
    pub(super) fn state(&self) -> LossScaleState {
        let &Self {
            scale,
            clean_steps,
            skipped_in_row,
        } = self;
        LossScaleState {
            scale,
            clean_steps,
            skipped_in_row,
        }
    }
}

/// The scalars of [`nd_core::train_state::Best`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BestRecord {
    #[serde(with = "bits")]
    pub(super) loss: f64,
    pub(super) step: u64,
}

impl StateRecord {
    pub(super) fn of<R: Real>(state: &TrainState<R>) -> Self {
        let StreamPosition { key, drawn } = state.sampler.stream;
        let early_stopping = &state.early_stopping;
        Self {
            step: state.step,
            seed: state.seed,
            moments: state.moments.len(),
            sampler: StreamRecord {
                seed: key.seed,
                step: key.step,
                op: key.op,
                drawn,
            },
            loss_scale: LossScaleRecord {
                scale: state.loss_scale.scale,
                clean_steps: state.loss_scale.clean_steps,
                skipped_in_row: state.loss_scale.skipped_in_row,
            },
            checks_since_best: early_stopping.checks_since_best,
            best: early_stopping.best.as_ref().map(|best| BestRecord {
                loss: best.loss,
                step: best.step,
            }),
        }
    }
}

/// Sixteen hexadecimal digits, as the checksum is written.
pub(super) fn parse_hex(text: &str) -> Option<u64> {
    let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != 16 || !text.bytes().all(digits) {
        return None;
    }
    u64::from_str_radix(text, 16).ok()
}

/// An f64 as the sixteen hexadecimal digits of its bits: exact, and JSON has neither NaN nor infinity.
mod bits {
    use super::{Deserialize, Deserializer, Serializer, parse_hex};

    pub(super) fn serialize<S: Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", x.to_bits()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        let text = String::deserialize(d)?;
        parse_hex(&text).map(f64::from_bits).ok_or_else(|| {
            let message = "expected the 16 hexadecimal digits of an f64";
            serde::de::Error::custom(message)
        })
    }
}
