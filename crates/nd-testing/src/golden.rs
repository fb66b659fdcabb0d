//! Golden files: tensors computed by another implementation, stored as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use nd_core::Real;
use safetensors::{Dtype, SafeTensors};

/// The tensors of a golden file, widened to f64, and its metadata.
#[derive(Debug)]
pub struct Golden {
    name: String,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    metadata: BTreeMap<String, String>,
}

impl Golden {
    /// Reads a golden file.
    ///
    /// # Panics
    /// The file cannot be read, or holds another type than f32, f64 or i64.
    #[must_use]
    #[track_caller]
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = std::fs::read(path)
            .unwrap_or_else(|error| panic!("golden file {}: {error}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes)
            .unwrap_or_else(|error| panic!("golden file {}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes)
            .unwrap_or_else(|error| panic!("golden file {}: {error}", path.display()));
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let data = view.data();
                let values = match view.dtype() {
                    Dtype::F64 => read_values(data, f64::from_le_bytes),
                    Dtype::F32 => read_values(data, |b| f64::from(f32::from_le_bytes(b))),
                    Dtype::I64 => read_values(data, |b| i64::from_le_bytes(b) as f64),
                    other => panic!("golden tensor {name} has the type {other:?}"),
                };
                (name.to_owned(), (view.shape().to_vec(), values))
            })
            .collect();
        let metadata = header
            .metadata()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        Self {
            name: path.display().to_string(),
            tensors,
            metadata,
        }
    }

    /// The names of all tensors that begin with `prefix`, without it.
    pub fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors
            .keys()
            .filter_map(move |name| name.strip_prefix(prefix))
    }

    /// Whether the file has a tensor.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    #[track_caller]
    fn tensor(&self, name: &str) -> &(Vec<usize>, Vec<f64>) {
        self.tensors.get(name).unwrap_or_else(|| {
            let names: Vec<_> = self.tensors.keys().collect();
            panic!("{} has no tensor {name}; it has {names:?}", self.name)
        })
    }

    /// The values of a tensor, row-major.
    ///
    /// # Panics
    /// There is no such tensor.
    #[must_use]
    #[track_caller]
    pub fn values(&self, name: &str) -> &[f64] {
        &self.tensor(name).1
    }

    /// The values of a tensor rounded to `R`.
    ///
    /// # Panics
    /// There is no such tensor.
    #[must_use]
    #[track_caller]
    pub fn rounded<R: Real>(&self, name: &str) -> Vec<R> {
        self.values(name).iter().map(|&x| R::from_f64(x)).collect()
    }

    /// The shape of a tensor.
    ///
    /// # Panics
    /// There is no such tensor.
    #[must_use]
    #[track_caller]
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensor(name).0
    }

    /// A metadata string.
    ///
    /// # Panics
    /// There is no such key.
    #[must_use]
    #[track_caller]
    pub fn metadata(&self, key: &str) -> &str {
        self.metadata.get(key).map_or_else(
            || {
                panic!(
                    "{} has no metadata {key}; it has {:?}",
                    self.name,
                    self.metadata.keys()
                )
            },
            String::as_str,
        )
    }
}

fn read_values<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f64) -> Vec<f64> {
    data.as_chunks::<N>()
        .0
        .iter()
        .map(|&bytes| read(bytes))
        .collect()
}
