//! Checkpoints: round trips, damage of every kind, and processes killed while they save.

mod crash;
mod files;
mod fuzz;
mod malformed;
mod mismatch;
mod properties;
mod round_trip;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nd_core::autograd::{Init, ParamKind, ParamLayout, Params, ParamsBuilder};
use nd_core::rng::{Key, StreamPosition};
use nd_core::train_state::{Best, EarlyStopping, LossScaleState, SamplerState, TrainState};
use nd_core::{Buffer, Real};
use nd_models::checkpoint::{CheckpointError, Fault, RawCheckpoint, save};

const CONFIG: &str = r#"{"model":"mlp","note":"a \"quoted\" ü"}"#;

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("checkpoint-{name}-{}-{n}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names in it, sorted.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every kind of parameter, a tied one, a scalar, an empty one and an awkward name.
fn rich_layout() -> Arc<ParamLayout> {
    let mut b = ParamsBuilder::new();
    b.frozen("basis", [3], Init::Values(Arc::from([1.0, 2.0, 3.0])));
    let weight = b.scope("linear", |b| {
        b.add(
            "bias",
            [7],
            ParamKind::TrainableNoDecay,
            Init::Uniform(0.25),
        );
        b.trainable("weight", [5, 7], Init::Uniform(0.5))
    });
    b.buffer("norm.mean", [4], Init::Normal(1.0));
    b.tie("decoder.weight", weight);
    b.trainable("scale", [], Init::Constant(1.5));
    b.trainable("empty", [0, 3], Init::Constant(0.0));
    b.trainable("a \"ü\\\n name", [2, 1, 2], Init::Uniform(1.0));
    b.build()
}

/// A small one, for files that are taken apart.
fn plain_layout() -> Arc<ParamLayout> {
    let mut b = ParamsBuilder::new();
    b.trainable("w", [2, 3], Init::Uniform(0.5));
    b.frozen("b", [3], Init::Uniform(0.5));
    b.build()
}

/// A state in which every field has a value of its own.
fn rich_state<R: Real>(layout: &Arc<ParamLayout>) -> TrainState<R> {
    let moment = |seed| {
        let params = Params::<R>::init(layout, seed);
        Buffer::from_slice(&params.flat()[..layout.trainable_len()])
    };
    TrainState {
        step: 12_345,
        seed: u64::MAX - 1,
        sampler: SamplerState {
            stream: StreamPosition {
                key: Key {
                    seed: 1 << 63,
                    step: u32::MAX - 1,
                    op: 7,
                },
                drawn: (1 << 53) + 1,
            },
            epoch: vec![3, 0, u32::MAX, 17, 4],
        },
        moments: vec![moment(10), moment(11)],
        loss_scale: LossScaleState {
            scale: 0.1,
            clean_steps: 99,
            skipped_in_row: 2,
        },
        early_stopping: EarlyStopping {
            best: Some(Best {
                loss: 1.0 / 3.0,
                step: 12_000,
                flat: Buffer::from_slice(Params::<R>::init(layout, 12).flat()),
            }),
            checks_since_best: 3,
        },
    }
}

/// What [`save`] writes.
fn bytes_of<R: Real>(params: &Params<R>, state: Option<&TrainState<R>>) -> Vec<u8> {
    let folder = Folder::new("bytes");
    let path = folder.file("a.safetensors");
    save(&path, CONFIG, params, state).unwrap();
    std::fs::read(path).unwrap()
}

/// The small file with a state that malformed ones are made from.
fn plain_file() -> Vec<u8> {
    let layout = plain_layout();
    let state = rich_state::<f32>(&layout);
    bytes_of(&Params::init(&layout, 1), Some(&state))
}

type Loaded = (String, Params<f32>, Option<TrainState<f32>>);

/// All that can be read from the bytes of a file.
fn load(bytes: Vec<u8>, layout: &Arc<ParamLayout>) -> Result<Loaded, CheckpointError> {
    let raw = RawCheckpoint::parse(bytes, Path::new("the.file"))?;
    let (params, state) = (raw.params(layout)?, raw.state(layout)?);
    Ok((raw.config().to_owned(), params, state))
}

/// The bits of numbers.
fn bits<R: Real>(values: &[R]) -> Vec<u64> {
    // Through f64 every f32 but a signalling NaN keeps its identity.
    values.iter().map(|x| x.to_f64().to_bits()).collect()
}

#[track_caller]
fn assert_same_state<R: Real>(a: &TrainState<R>, b: &TrainState<R>) {
    assert_eq!((a.step, a.seed, &a.sampler), (b.step, b.seed, &b.sampler));
    let moments = |s: &TrainState<R>| s.moments.iter().map(|m| bits(m)).collect::<Vec<_>>();
    assert_eq!(moments(a), moments(b));
    let scale = |s: &TrainState<R>| {
        let LossScaleState {
            scale,
            clean_steps,
            skipped_in_row,
        } = s.loss_scale;
        (scale.to_bits(), clean_steps, skipped_in_row)
    };
    assert_eq!(scale(a), scale(b));
    let best = |s: &TrainState<R>| {
        let best = s.early_stopping.best.as_ref();
        best.map(|best| (best.loss.to_bits(), best.step, bits(&best.flat)))
    };
    assert_eq!(best(a), best(b));
    assert_eq!(
        a.early_stopping.checks_since_best,
        b.early_stopping.checks_since_best
    );
}

/// The fault of an error about contents.
#[track_caller]
fn fault<T>(result: Result<T, CheckpointError>) -> Fault {
    match result {
        Ok(_) => panic!("a fault was expected"),
        Err(error) => error.fault().cloned().unwrap_or_else(|| panic!("{error}")),
    }
}

/// A file from a header and data.
fn assemble(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    file
}

/// The header and the data of a well-formed file.
fn take_apart(file: &[u8]) -> (String, Vec<u8>) {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    (String::from_utf8(header.to_vec()).unwrap(), data.to_vec())
}

/// The checksum of the module's documentation, written a second time, bit by bit.
fn checksum(header: &serde_json::Value, data: &[u8]) -> u64 {
    let mut bytes = Vec::new();
    let number = |bytes: &mut Vec<u8>, n: u64| bytes.extend(n.to_le_bytes());
    let field = |bytes: &mut Vec<u8>, text: &[u8]| {
        number(bytes, text.len() as u64);
        bytes.extend(text);
    };
    let object = header.as_object().unwrap();
    let mut texts: Vec<_> = object["__metadata__"].as_object().unwrap().iter().collect();
    texts.retain(|(key, _)| *key != "checksum");
    texts.sort_by_key(|(key, _)| *key);
    number(&mut bytes, texts.len() as u64);
    for (key, value) in texts {
        field(&mut bytes, key.as_bytes());
        field(&mut bytes, value.as_str().unwrap_or_default().as_bytes());
    }
    let mut tensors: Vec<_> = object.iter().collect();
    tensors.retain(|(name, _)| *name != "__metadata__");
    tensors.sort_by_key(|(name, _)| *name);
    for (name, record) in tensors {
        field(&mut bytes, name.as_bytes());
        field(
            &mut bytes,
            record["dtype"].as_str().unwrap_or_default().as_bytes(),
        );
        let shape = record["shape"].as_array().cloned().unwrap_or_default();
        number(&mut bytes, shape.len() as u64);
        for dim in &shape {
            number(&mut bytes, dim.as_u64().unwrap_or_default());
        }
        let offset = |i: usize| record["data_offsets"][i].as_u64().unwrap_or_default() as usize;
        field(
            &mut bytes,
            data.get(offset(0)..offset(1)).unwrap_or_default(),
        );
    }
    let mut crc = !0u64;
    for byte in bytes {
        crc ^= u64::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1)
                ^ if crc & 1 == 1 {
                    0xC96C_5795_D787_0F42
                } else {
                    0
                };
        }
    }
    !crc
}

/// A file whose checksum fits its header and data, whatever they say.
fn sign(header: &str, data: &[u8]) -> Vec<u8> {
    let value: serde_json::Value = serde_json::from_str(header).unwrap();
    let old = value["__metadata__"]["checksum"].as_str().unwrap();
    let new = format!("{:016x}", checksum(&value, data));
    assemble(header.replacen(old, &new, 1).as_bytes(), data)
}
