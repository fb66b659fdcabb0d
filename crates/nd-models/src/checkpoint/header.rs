//! The header of a safetensors file, read strictly.
//!
//! The format: 8 bytes with the header's length, a JSON object that maps `__metadata__` to texts and every other name
//! to the type, shape and place of a tensor, then the tensors' bytes without gaps. The specification forbids more
//! than common readers refuse (duplicate keys, a header that does not begin with `{`, shapes that overflow), and
//! whatever it forbids is refused here. Nothing is allocated that the header's own length does not pay for.

use std::fmt;
use std::ops::Range;

use nd_core::Shape;
use nd_core::shape::MAX_RANK;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::codec::Stored;
use super::error::{Fault, excerpt};
use super::metadata::Metadata;

/// The key of the texts.
pub(super) const METADATA: &str = "__metadata__";
/// The longest header that the format allows, in bytes.
pub(super) const LONGEST: u64 = 100_000_000;
/// Metadata entries that are read; a checkpoint has five, and a short one costs ten times its length in memory.
const MOST_TEXTS: usize = 100;
/// Bytes of the header's length.
pub(super) const LENGTH_BYTES: usize = 8;

/// What a header says, unchecked against the data.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Option<Metadata>,
    /// Sorted by name.
    pub(super) tensors: Vec<Record>,
    /// Where the tensors' bytes begin in the file.
    pub(super) data_start: usize,
}

/// What a header says about one tensor.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) stored: Stored,
    dims: Dims,
    offsets: [u64; 2],
}

/// A tensor that lies within the data.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) stored: Stored,
    pub(super) shape: Shape,
    /// Its bytes, counted from the start of the data.
    pub(super) range: Range<usize>,
}

impl Header {
    pub(super) fn parse(file: &[u8]) -> Result<Self, Fault> {
        let Some((length, rest)) = file.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(Fault::TooShort { found: file.len() });
        };
        let found = u64::from_le_bytes(*length);
        let most = (rest.len() as u64).min(LONGEST);
        let text = (usize::try_from(found).ok())
            .filter(|_| found <= most)
            .and_then(|length| rest.get(..length))
            .ok_or(Fault::HeaderLength { found, most })?;
        if text.first() != Some(&b'{') {
            let found = text.first().map_or("nothing".to_owned(), |byte| {
                format!("{:?}", char::from(*byte))
            });
            return Err(Fault::HeaderStart { found });
        }
        let text = std::str::from_utf8(text).map_err(|e| Fault::Header {
            at: LENGTH_BYTES + e.valid_up_to(),
            reason: "the text is not UTF-8".to_owned(),
        })?;
        let parsed: Contents = serde_json::from_str(text).map_err(|e| malformed(text, &e))?;
        let Contents {
            metadata,
            mut tensors,
        } = parsed;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let twice = tensors.array_windows().find(|[a, b]| a.name == b.name);
        if let Some([record, _]) = twice {
            // JSON writes a name in many ways, so the place of the second cannot be found by searching the text.
            return Err(Fault::Header {
                at: LENGTH_BYTES,
                reason: format!("the tensor {:?} occurs twice", excerpt(&record.name)),
            });
        }
        Ok(Self {
            metadata,
            tensors,
            data_start: LENGTH_BYTES + text.len(),
        })
    }
}

/// The fault of a JSON text that begins after the header's length.
fn malformed(text: &str, error: &serde_json::Error) -> Fault {
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = (text.split_inclusive('\n').take(lines_before))
        .map(str::len)
        .sum();
    let at = (line_start + error.column().saturating_sub(1)).min(text.len());
    let message = error.to_string();
    let reason = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(reason, _)| reason);
    Fault::Header {
        at: LENGTH_BYTES + at,
        reason: reason.to_owned(),
    }
}

/// Checks every record against its type, its shape and the data, and that the tensors fill the data without overlap.
pub(super) fn place(
    records: Vec<Record>,
    data_len: usize,
    at: usize,
) -> Result<Vec<Tensor>, Fault> {
    let mut tensors = Vec::with_capacity(records.len());
    for record in records {
        tensors.push(record.place(data_len)?);
    }
    let mut order: Vec<u32> = (0u32..).zip(&tensors).map(|(i, _)| i).collect();
    let range = |i: &u32| tensors.get(*i as usize).map_or(0..0, |t| t.range.clone());
    order.sort_by_key(|i| (range(i).start, range(i).end));
    let mut end = 0;
    for tensor in order.iter().filter_map(|&i| tensors.get(i as usize)) {
        if tensor.range.start != end {
            return Err(Fault::Offsets {
                tensor: excerpt(&tensor.name),
                expected: format!("{end}, where the ones before it end"),
                found: format!("{}: an overlap or a gap", tensor.range.start),
            });
        }
        end = tensor.range.end;
    }
    if end != data_len {
        return Err(Fault::DataLength {
            at,
            expected: end as u64,
            found: data_len,
        });
    }
    Ok(tensors)
}

impl Record {
    fn place(self, data_len: usize) -> Result<Tensor, Fault> {
        let Some(size) = self.stored.size() else {
            return Err(Fault::Dtype {
                tensor: excerpt(&self.name),
                expected: "F64, F32, F16, BF16 or U32",
                found: excerpt(self.stored.name()),
            });
        };
        // Zeros do not excuse dimensions whose product overflows.
        let dims = self.dims.as_slice();
        let Some(shape) = self.dims.shape() else {
            return Err(Fault::Shape {
                tensor: excerpt(&self.name),
                expected: "a number of bytes that can be counted".to_owned(),
                found: format!("{dims:?}"),
            });
        };
        let bytes = size * shape.numel();
        let [begin, end] = self.offsets;
        let range = match (usize::try_from(begin), usize::try_from(end)) {
            (Ok(begin), Ok(end)) if begin <= end && end <= data_len => begin..end,
            _ => {
                return Err(Fault::Offsets {
                    tensor: excerpt(&self.name),
                    expected: format!("increasing places up to {data_len}, the end of the data"),
                    found: format!("[{begin}, {end}]"),
                });
            }
        };
        if range.len() != bytes {
            return Err(Fault::Offsets {
                tensor: excerpt(&self.name),
                expected: format!("{bytes} bytes ({} {shape})", self.stored.name()),
                found: format!("{} ({begin} to {end})", range.len()),
            });
        }
        Ok(Tensor {
            name: self.name,
            stored: self.stored,
            shape,
            range,
        })
    }
}

/// The JSON object of a header.
struct Contents {
    metadata: Option<Metadata>,
    tensors: Vec<Record>,
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ContentsVisitor)
    }
}

struct ContentsVisitor;

impl<'de> Visitor<'de> for ContentsVisitor {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Contents, A::Error> {
        let mut contents = Contents {
            metadata: None,
            tensors: Vec::new(),
        };
        while let Some(name) = map.next_key::<String>()? {
            if name != METADATA {
                let record = map.next_value_seed(RecordSeed { name })?;
                contents.tensors.push(record);
            } else if contents.metadata.is_none() {
                contents.metadata = Some(map.next_value::<Texts>()?.0);
            } else {
                return Err(de::Error::custom(format_args!("{METADATA:?} occurs twice")));
            }
        }
        Ok(contents)
    }
}

/// An object of texts without duplicates.
struct Texts(Metadata);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts for the metadata")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = Metadata::new();
        while let Some(key) = map.next_key::<String>()? {
            if texts.contains_key(&key) {
                let key = excerpt(&key);
                let message = format!("the metadata key {key:?} occurs twice");
                return Err(de::Error::custom(message));
            }
            if texts.len() == MOST_TEXTS {
                let message = format!("the metadata have more than {MOST_TEXTS} entries");
                return Err(de::Error::custom(message));
            }
            texts.insert(key, map.next_value()?);
        }
        Ok(Texts(texts))
    }
}

/// Reads the record of the tensor with this name; errors carry the name.
struct RecordSeed {
    name: String,
}

impl<'de> DeserializeSeed<'de> for RecordSeed {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        let name = excerpt(&self.name);
        (deserializer.deserialize_map(self))
            .map_err(|e| de::Error::custom(format_args!("tensor {name:?}: {e}")))
    }
}

impl<'de> Visitor<'de> for RecordSeed {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"dtype\", \"shape\" and \"data_offsets\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let (mut stored, mut dims, mut offsets) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            let twice = match field.as_str() {
                "dtype" => {
                    let name: String = map.next_value()?;
                    stored.replace(Stored::parse(&name)).is_some()
                }
                "shape" => dims.replace(map.next_value::<Dims>()?).is_some(),
                "data_offsets" => offsets.replace(map.next_value()?).is_some(),
                other => {
                    let message = format!("the field {:?} is unknown", excerpt(other));
                    return Err(de::Error::custom(message));
                }
            };
            if twice {
                return Err(de::Error::custom(format_args!("{field:?} occurs twice")));
            }
        }
        let missing = |field| de::Error::custom(format_args!("{field:?} is missing"));
        Ok(Record {
            name: self.name,
            stored: stored.ok_or_else(|| missing("dtype"))?,
            dims: dims.ok_or_else(|| missing("shape"))?,
            offsets: offsets.ok_or_else(|| missing("data_offsets"))?,
        })
    }
}

/// Up to [`MAX_RANK`] dimensions, without an allocation.
#[derive(Clone, Copy, Debug, Default)]
struct Dims {
    dims: [u64; MAX_RANK],
    rank: usize,
}

impl Dims {
    fn as_slice(&self) -> &[u64] {
        self.dims.get(..self.rank).unwrap_or(&self.dims)
    }

    /// The shape, if eight bytes for each of its elements can be counted.
    fn shape(&self) -> Option<Shape> {
        let mut dims = [0; MAX_RANK];
        let mut span = 8usize;
        for (slot, &dim) in dims.iter_mut().zip(self.as_slice()) {
            *slot = usize::try_from(dim).ok()?;
            span = span.checked_mul((*slot).max(1))?;
        }
        dims.get(..self.rank).map(Shape::new)
    }
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(DimsVisitor)
    }
}

struct DimsVisitor;

impl<'de> Visitor<'de> for DimsVisitor {
    type Value = Dims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_RANK} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Dims, A::Error> {
        let mut out = Dims::default();
        while let Some(dim) = seq.next_element()? {
            let Some(slot) = out.dims.get_mut(out.rank) else {
                return Err(de::Error::invalid_length(out.rank + 1, &self));
            };
            *slot = dim;
            out.rank += 1;
        }
        Ok(out)
    }
}
