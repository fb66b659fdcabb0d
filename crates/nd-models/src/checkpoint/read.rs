//! A checkpoint from bytes.
//!
//! Reading has two halves. [`RawCheckpoint::parse`] checks all that can be checked without a network: structure,
//! places, checksum, names. [`RawCheckpoint::params`] and [`RawCheckpoint::state`] then look for every parameter of a
//! layout, and only when all are there with their shapes is memory for them asked for.
//! Known weakness: the file is read into memory as a whole, so for a moment its numbers are there twice.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nd_core::autograd::{ParamId, ParamLayout, Params};
use nd_core::train_state::{Best, EarlyStopping, SamplerState, TrainState};
use nd_core::{Buffer, Real};

use super::atomic::require_file;
use super::codec::{Stored, decode};
use super::error::{CheckpointError, Fault, excerpt};
use super::header::{Header, Tensor, place};
use super::metadata::{
    BEST, CHECKSUM, CONFIG, CURRENT, DATA_BYTES, EPOCH, MOMENTS, MOST_MOMENTS, Metadata, PARAMS,
    STATE, StateRecord, VERSION, add_tensor, checksum_of, parse_hex,
};
use super::write::{owned, trainable};

/// A checkpoint that was read and found whole, before a network claims its tensors.
#[derive(Debug)]
pub struct RawCheckpoint {
    path: PathBuf,
    config: String,
    state: Option<StateRecord>,
    /// Sorted by name.
    tensors: Vec<Tensor>,
    file: Vec<u8>,
    data_start: usize,
}

/// Reads a checkpoint and checks it; see [`RawCheckpoint`] for what to do with it.
///
/// # Errors
/// [`CheckpointError`] says whether the file cannot be read or what in it is damaged.
pub fn read(path: &Path) -> Result<RawCheckpoint, CheckpointError> {
    let io = |action| move |e| CheckpointError::io(path, action, e);
    // Before it is opened: opening a pipe waits for a writer.
    require_file(path, &fs::metadata(path).map_err(io("opening"))?)?;
    let file = File::open(path).map_err(io("opening"))?;
    let length = file.metadata().map_err(io("looking at it"))?.len();
    let mut bytes = Vec::new();
    usize::try_from(length)
        .ok()
        .and_then(|length| bytes.try_reserve_exact(length).ok())
        .ok_or_else(|| io("reading")(std::io::ErrorKind::OutOfMemory.into()))?;
    (file.take(length).read_to_end(&mut bytes)).map_err(io("reading"))?;
    RawCheckpoint::parse(bytes, path)
}

impl RawCheckpoint {
    /// Checks the bytes of a checkpoint; `path` is for messages only.
    ///
    /// # Errors
    /// [`CheckpointError::Content`] with the first fault.
    pub fn parse(file: Vec<u8>, path: &Path) -> Result<Self, CheckpointError> {
        let checked = check(&file).map_err(|fault| CheckpointError::content(path, fault))?;
        let (config, state, tensors, data_start) = checked;
        Ok(Self {
            path: path.to_owned(),
            config,
            state,
            tensors,
            file,
            data_start,
        })
    }

    /// The configuration of the forecaster, a JSON text.
    #[must_use]
    pub fn config(&self) -> &str {
        &self.config
    }

    /// How many numbers the parameters have in the file, whatever network they belong to.
    #[must_use]
    pub fn parameter_values(&self) -> usize {
        let parameters = self.tensors.iter().filter(|t| t.name.starts_with(PARAMS));
        // The tensors fill the file without overlap, so the sum is below its length.
        parameters.map(|tensor| tensor.shape.numel()).sum()
    }

    /// Whether training can be resumed from here.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.state.is_some()
    }

    /// The parameters, converted to `R`.
    ///
    /// The same bits come back where the file has numbers of type `R`; F64, F32, F16 and BF16 are read as either.
    ///
    /// # Errors
    /// A parameter of `layout` is missing or has another shape, the file has one that `layout` has not, or a number
    /// is too large for `R`.
    pub fn params<R: Real>(&self, layout: &Arc<ParamLayout>) -> Result<Params<R>, CheckpointError> {
        let group = Group::find(self, PARAMS, layout, owned);
        let group = group.map_err(|fault| CheckpointError::content(&self.path, fault))?;
        let mut params = Params::zeros(layout);
        (group.fill(params.flat_mut())).map_err(|fault| self.fault(fault))?;
        Ok(params)
    }

    /// What a resumed training needs, converted to `R`; `None` where the file has parameters alone.
    ///
    /// Training goes on bit for bit if the file has numbers of type `R`.
    ///
    /// # Errors
    /// As for [`RawCheckpoint::params`].
    pub fn state<R: Real>(
        &self,
        layout: &Arc<ParamLayout>,
    ) -> Result<Option<TrainState<R>>, CheckpointError> {
        let state = self
            .state
            .as_ref()
            .map(|record| self.resume(record, layout));
        state.transpose().map_err(|fault| self.fault(fault))
    }

    fn fault(&self, fault: Fault) -> CheckpointError {
        CheckpointError::content(&self.path, fault)
    }

    fn resume<R: Real>(
        &self,
        record: &StateRecord,
        layout: &Arc<ParamLayout>,
    ) -> Result<TrainState<R>, Fault> {
        let mut moments = Vec::new();
        for k in 0..record.moments {
            let group = Group::find(self, &format!("{MOMENTS}{k}."), layout, trainable)?;
            let mut flat = Buffer::zeroed(layout.trainable_len());
            group.fill(&mut flat)?;
            moments.push(flat);
        }
        let best = match &record.best {
            None => None,
            Some(record) => {
                let group = Group::find(self, BEST, layout, owned)?;
                let mut flat = Buffer::zeroed(layout.len());
                group.fill(&mut flat)?;
                Some(Best {
                    loss: record.loss,
                    step: record.step,
                    flat,
                })
            }
        };
        let epoch = find(&self.tensors, EPOCH).map(|tensor| self.bytes(tensor));
        let (epoch, _) = epoch.unwrap_or_default().as_chunks();
        Ok(TrainState {
            step: record.step,
            seed: record.seed,
            sampler: SamplerState {
                stream: record.sampler.position(),
                epoch: epoch
                    .iter()
                    .map(|bytes| u32::from_le_bytes(*bytes))
                    .collect(),
            },
            moments,
            loss_scale: record.loss_scale.state(),
            early_stopping: EarlyStopping {
                best,
                checks_since_best: record.checks_since_best,
            },
        })
    }

    fn bytes(&self, tensor: &Tensor) -> &[u8] {
        // The range was checked against the data.
        let data = self.file.get(self.data_start..).unwrap_or_default();
        data.get(tensor.range.clone()).unwrap_or_default()
    }
}

/// The tensors whose names have a common first part, each with the parameter it belongs to.
struct Group<'a> {
    checkpoint: &'a RawCheckpoint,
    layout: &'a ParamLayout,
    pairs: Vec<(ParamId, &'a Tensor)>,
}

impl<'a> Group<'a> {
    /// Finds the tensor of each parameter that `chosen` names, and requires that there are no others.
    fn find<I: Iterator<Item = ParamId>>(
        checkpoint: &'a RawCheckpoint,
        prefix: &str,
        layout: &'a ParamLayout,
        chosen: impl Fn(&'a ParamLayout) -> I,
    ) -> Result<Self, Fault> {
        let all = &checkpoint.tensors;
        let begin = all.partition_point(|tensor| tensor.name.as_str() < prefix);
        let tensors = all.get(begin..).unwrap_or_default();
        let end = tensors.partition_point(|tensor| tensor.name.starts_with(prefix));
        let tensors = tensors.get(..end).unwrap_or_default();

        // The first tensor that no parameter claims.
        let unclaimed = || {
            tensors.iter().find(|tensor| {
                let name = tensor.name.strip_prefix(prefix).unwrap_or_default();
                !chosen(layout).any(|id| layout.entry(id).name == name)
            })
        };
        let mut pairs = Vec::new();
        for id in chosen(layout) {
            let entry = layout.entry(id);
            let name = format!("{prefix}{}", entry.name);
            let Some(tensor) = find(tensors, &name) else {
                let found = unclaimed().map_or("none".to_owned(), |other| {
                    let (name, shape) = (excerpt(&other.name), &other.shape);
                    format!("none, but \"{name}\" {shape}, which the network lacks")
                });
                return Err(Fault::Missing {
                    tensor: name,
                    expected: format!("one of shape {}", entry.shape),
                    found,
                });
            };
            if tensor.shape != entry.shape {
                return Err(Fault::Shape {
                    tensor: name,
                    expected: format!("shape {}", entry.shape),
                    found: tensor.shape.to_string(),
                });
            }
            pairs.push((id, tensor));
        }
        if let Some(tensor) = unclaimed().filter(|_| pairs.len() != tensors.len()) {
            return Err(Fault::Unexpected {
                tensor: excerpt(&tensor.name),
                found: format!("one of shape {}, which the network lacks", tensor.shape),
            });
        }
        Ok(Self {
            checkpoint,
            layout,
            pairs,
        })
    }

    /// Writes every tensor to its place in `flat`.
    fn fill<R: Real>(&self, flat: &mut [R]) -> Result<(), Fault> {
        for &(id, tensor) in &self.pairs {
            let values = flat.get_mut(self.layout.range(id)).unwrap_or_default();
            decode(&tensor.stored, self.checkpoint.bytes(tensor), values).map_err(
                |(element, x)| Fault::Range {
                    tensor: tensor.name.clone(),
                    element,
                    found: format!("{x:e}"),
                },
            )?;
        }
        Ok(())
    }
}

/// The tensor of this name among sorted ones.
fn find<'a>(tensors: &'a [Tensor], name: &str) -> Option<&'a Tensor> {
    let at = tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name));
    at.ok().and_then(|at| tensors.get(at))
}

/// Everything about a file that can be checked without a network: its configuration, state, tensors and where their
/// bytes begin.
fn check(file: &[u8]) -> Result<(String, Option<StateRecord>, Vec<Tensor>, usize), Fault> {
    let header = Header::parse(file)?;
    let data_start = header.data_start;
    let data = file.get(data_start..).unwrap_or_default();
    let mut metadata = header.metadata.unwrap_or_default();
    // First of all: another version may differ in everything that follows.
    match metadata.get(VERSION).map(String::as_str) {
        None => return Err(Fault::Foreign),
        Some(CURRENT) => {}
        Some(found) => {
            return Err(Fault::Version {
                found: excerpt(found),
                expected: CURRENT,
            });
        }
    }
    let known = [VERSION, CONFIG, STATE, DATA_BYTES, CHECKSUM];
    if let Some(key) = metadata.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Fault::Metadata {
            key: excerpt(key),
            expected: format!("one of the keys {}", known.join(", ")),
            found: "another key".to_owned(),
        });
    }
    let expected = number(&metadata, DATA_BYTES, "a decimal number", |text| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then_some(text)?
            .parse()
            .ok()
    })?;
    if expected != data.len() as u64 {
        return Err(Fault::DataLength {
            at: data_start,
            expected,
            found: data.len(),
        });
    }
    let tensors = place(header.tensors, data.len(), data_start)?;
    let expected = number(&metadata, CHECKSUM, "16 hexadecimal digits", parse_hex)?;
    let found = checksum(&metadata, &tensors, data);
    if expected != found {
        return Err(Fault::Checksum { expected, found });
    }
    let config = metadata
        .remove(CONFIG)
        .ok_or_else(|| absent(CONFIG, "a JSON text"))?;
    require_json(&config)?;
    let state: Option<StateRecord> = match metadata.remove(STATE) {
        None => None,
        Some(text) => Some(serde_json::from_str(&text).map_err(|e| Fault::Metadata {
            key: STATE.to_owned(),
            expected: "the JSON text of a training state".to_owned(),
            found: e.to_string(),
        })?),
    };
    require_roles(&tensors, state.as_ref())?;
    Ok((config, state, tensors, data_start))
}

/// Requires the JSON text of a configuration.
pub(super) fn require_json(config: &str) -> Result<(), Fault> {
    serde_json::from_str::<serde::de::IgnoredAny>(config).map_err(|e| Fault::Metadata {
        key: CONFIG.to_owned(),
        expected: "a JSON text".to_owned(),
        found: e.to_string(),
    })?;
    Ok(())
}

fn absent(key: &str, expected: &str) -> Fault {
    Fault::Metadata {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: "no such key".to_owned(),
    }
}

/// The metadata entry `key` as a number.
fn number(
    metadata: &Metadata,
    key: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<u64>,
) -> Result<u64, Fault> {
    let text = metadata.get(key).ok_or_else(|| absent(key, expected))?;
    parse(text).ok_or_else(|| Fault::Metadata {
        key: key.to_owned(),
        expected: expected.to_owned(),
        found: format!("{:?}", excerpt(text)),
    })
}

fn checksum(metadata: &Metadata, tensors: &[Tensor], data: &[u8]) -> u64 {
    let mut crc = checksum_of(metadata);
    for tensor in tensors {
        let bytes = data.get(tensor.range.clone()).unwrap_or_default();
        add_tensor(
            &mut crc,
            &tensor.name,
            &tensor.stored,
            &tensor.shape,
            bytes.len(),
        );
        crc.update(bytes);
    }
    crc.value()
}

/// Requires every tensor to have a role and the type that goes with it.
fn require_roles(tensors: &[Tensor], state: Option<&StateRecord>) -> Result<(), Fault> {
    let moments = state.map_or(0, |state| state.moments);
    if moments > MOST_MOMENTS {
        return Err(Fault::Metadata {
            key: STATE.to_owned(),
            expected: format!("at most {MOST_MOMENTS} moments"),
            found: moments.to_string(),
        });
    }
    if state.is_some() && find(tensors, EPOCH).is_none() {
        return Err(Fault::Missing {
            tensor: EPOCH.to_owned(),
            expected: "one of type U32, because there is a training state".to_owned(),
            found: "none".to_owned(),
        });
    }
    let best = state.is_some_and(|state| state.best.is_some());
    let moments: Vec<String> = (0..moments).map(|k| format!("{MOMENTS}{k}.")).collect();
    for tensor in tensors {
        let name = tensor.name.as_str();
        let is_epoch = name == EPOCH && state.is_some();
        let is_real = name.starts_with(PARAMS)
            || (best && name.starts_with(BEST))
            || moments.iter().any(|prefix| name.starts_with(prefix));
        if !is_epoch && !is_real {
            return Err(Fault::Unexpected {
                tensor: excerpt(name),
                found: format!(
                    "one of shape {}, which the metadata do not tell of",
                    tensor.shape
                ),
            });
        }
        if is_epoch && tensor.shape.len() != 1 {
            return Err(Fault::Shape {
                tensor: EPOCH.to_owned(),
                expected: "one dimension".to_owned(),
                found: tensor.shape.to_string(),
            });
        }
        if is_epoch != (tensor.stored == Stored::U32) {
            return Err(Fault::Dtype {
                tensor: excerpt(name),
                expected: if is_epoch {
                    "U32"
                } else {
                    "F64, F32, F16 or BF16"
                },
                found: tensor.stored.name().to_owned(),
            });
        }
    }
    Ok(())
}
