//! A checkpoint as bytes.
//!
//! Tensors are laid out in the order of their names. The header stands before them and holds their checksum, so the
//! numbers are turned into bytes twice, once for the sum and once for the file, in pieces: no copy of the whole.

use std::io::{self, Write};

use nd_core::autograd::{ParamId, ParamLayout, Params};
use nd_core::train_state::TrainState;
use nd_core::{Precision, Real, bf16, f16};
use serde_json::{Map, Value, json};

use super::codec::{Stored, encode};
use super::error::Fault;
use super::header::{LENGTH_BYTES, LONGEST, METADATA};
use super::metadata::{
    BEST, CHECKSUM, CONFIG, CURRENT, DATA_BYTES, EPOCH, MOMENTS, MOST_MOMENTS, Metadata, PARAMS,
    STATE, StateRecord, VERSION, add_tensor, checksum_of,
};

/// Bytes that are encoded at once.
const PIECE: usize = 1 << 16;

/// Everything that goes into one file.
pub(super) struct Contents<'a, R: Real> {
    metadata: Metadata,
    /// Sorted by name.
    tensors: Vec<Tensor<'a, R>>,
}

struct Tensor<'a, R> {
    name: String,
    shape: Vec<usize>,
    numbers: Numbers<'a, R>,
    /// The type of the numbers in the file.
    stored: Stored,
}

enum Numbers<'a, R> {
    Reals(&'a [R]),
    Indices(&'a [u32]),
}

/// The parameters that own their memory.
pub(super) fn owned(layout: &ParamLayout) -> impl Iterator<Item = ParamId> {
    layout.ids().filter(|&id| layout.owner(id) == id)
}

/// The parameters that own their memory and have moments.
pub(super) fn trainable(layout: &ParamLayout) -> impl Iterator<Item = ParamId> {
    owned(layout).filter(|&id| layout.entry(id).kind.is_trainable())
}

impl<'a, R: Real> Contents<'a, R> {
    /// # Panics
    /// The state is one of another layout, or has more than [`MOST_MOMENTS`] moments.
    #[track_caller]
    pub(super) fn new(
        config: &str,
        params: &'a Params<R>,
        state: Option<&'a TrainState<R>>,
        precision: Precision,
    ) -> Self {
        let stored = match precision {
            Precision::F32 => Stored::of(R::DTYPE),
            Precision::Bf16 => Stored::Bf16,
            Precision::F16 => Stored::F16,
        };
        let layout = params.layout();
        let mut tensors = Vec::new();
        let mut add = |prefix: &str, id: ParamId, flat: &'a [R]| {
            let entry = layout.entry(id);
            tensors.push(Tensor {
                name: format!("{prefix}{}", entry.name),
                shape: entry.shape.to_vec(),
                // Within the flat allocation: the lengths are those of the layout.
                numbers: Numbers::Reals(&flat[layout.range(id)]),
                stored: stored.clone(),
            });
        };
        owned(layout).for_each(|id| add(PARAMS, id, params.flat()));
        let mut metadata = Metadata::new();
        if let Some(state) = state {
            assert!(
                state.moments.len() <= MOST_MOMENTS,
                "a checkpoint keeps at most {MOST_MOMENTS} moments, found {}",
                state.moments.len()
            );
            for (k, moments) in state.moments.iter().enumerate() {
                assert_eq!(
                    moments.len(),
                    layout.trainable_len(),
                    "values of moment {k} for a layout with so many trainable ones"
                );
                let prefix = format!("{MOMENTS}{k}.");
                trainable(layout).for_each(|id| add(&prefix, id, moments));
            }
            if let Some(best) = &state.early_stopping.best {
                assert_eq!(
                    best.flat.len(),
                    layout.len(),
                    "best values for a layout of so many"
                );
                owned(layout).for_each(|id| add(BEST, id, &best.flat));
            }
            tensors.push(Tensor {
                name: EPOCH.to_owned(),
                shape: vec![state.sampler.epoch.len()],
                numbers: Numbers::Indices(&state.sampler.epoch),
                stored: Stored::U32,
            });
            metadata.insert(STATE.to_owned(), json!(StateRecord::of(state)).to_string());
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let data_bytes: usize = tensors.iter().map(Tensor::bytes).sum();
        metadata.insert(VERSION.to_owned(), CURRENT.to_owned());
        metadata.insert(CONFIG.to_owned(), config.to_owned());
        metadata.insert(DATA_BYTES.to_owned(), data_bytes.to_string());
        Self { metadata, tensors }
    }

    /// The first number that the file cannot hold.
    pub(super) fn too_large(&self) -> Option<Fault> {
        self.tensors.iter().find_map(Tensor::too_large)
    }

    /// Writes the file.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        let header = self.header(self.checksum(&mut piece)?)?;
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for tensor in &self.tensors {
            tensor.pieces(&mut piece, |bytes| out.write_all(bytes))?;
        }
        Ok(())
    }

    fn checksum(&self, piece: &mut [u8]) -> io::Result<u64> {
        let mut crc = checksum_of(&self.metadata);
        for tensor in &self.tensors {
            add_tensor(
                &mut crc,
                &tensor.name,
                &tensor.stored,
                &tensor.shape,
                tensor.bytes(),
            );
            tensor.pieces(piece, |bytes| {
                crc.update(bytes);
                Ok(())
            })?;
        }
        Ok(crc.value())
    }

    /// The JSON object, filled up with spaces so that the data begin at a multiple of eight bytes.
    fn header(&self, checksum: u64) -> io::Result<String> {
        let mut metadata = self.metadata.clone();
        metadata.insert(CHECKSUM.to_owned(), format!("{checksum:016x}"));
        let mut object = Map::new();
        object.insert(METADATA.to_owned(), json!(metadata));
        let mut end = 0;
        for tensor in &self.tensors {
            let begin = end;
            end += tensor.bytes();
            let record = json!({
                "dtype": tensor.stored.name(),
                "shape": tensor.shape,
                "data_offsets": [begin, end],
            });
            object.insert(tensor.name.clone(), record);
        }
        let mut text = Value::Object(object).to_string();
        let padding = text.len().next_multiple_of(LENGTH_BYTES) - text.len();
        text.extend(std::iter::repeat_n(' ', padding));
        if text.len() as u64 > LONGEST {
            let message = format!(
                "a header takes at most {LONGEST} bytes, found {}: the configuration is too long",
                text.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(text)
    }
}

impl<R: Real> Tensor<'_, R> {
    /// The first finite number that is infinite in the type of the file.
    fn too_large(&self) -> Option<Fault> {
        let Numbers::Reals(values) = self.numbers else {
            return None;
        };
        if self.stored != Stored::F16 {
            return None;
        }
        let is_too_large = |x: &R| x.is_finite() && !f16::from_f64(x.to_f64()).is_finite();
        let element = values.iter().position(is_too_large)?;
        Some(Fault::TooLarge {
            tensor: self.name.clone(),
            element,
            found: values[element].to_string(),
        })
    }

    fn bytes(&self) -> usize {
        match self.numbers {
            Numbers::Reals(values) => self.size() * values.len(),
            Numbers::Indices(values) => size_of_val(values),
        }
    }

    /// Bytes of a number in the file.
    fn size(&self) -> usize {
        self.stored.size().unwrap_or(size_of::<R>())
    }

    /// Hands the bytes to `sink`, as many at a time as `piece` takes.
    fn pieces(
        &self,
        piece: &mut [u8],
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.numbers {
            Numbers::Reals(values) => {
                for values in values.chunks(piece.len() / size_of::<R>()) {
                    let bytes = &mut piece[..self.size() * values.len()];
                    match self.stored {
                        Stored::Bf16 => {
                            for (slot, x) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                                *slot = bf16::from_f64(x.to_f64()).to_le_bytes();
                            }
                        }
                        Stored::F16 => {
                            for (slot, x) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                                *slot = f16::from_f64(x.to_f64()).to_le_bytes();
                            }
                        }
                        _ => encode(values, bytes),
                    }
                    sink(bytes)?;
                }
            }
            Numbers::Indices(values) => {
                for values in values.chunks(piece.len() / size_of::<u32>()) {
                    let bytes = &mut piece[..size_of_val(values)];
                    for (slot, value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
                        *slot = value.to_le_bytes();
                    }
                    sink(bytes)?;
                }
            }
        }
        Ok(())
    }
}
