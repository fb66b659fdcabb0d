//! Numbers as bytes, little-endian, and back.
//!
//! Between equal types the bits stay as they are, NaN payloads included. Widening is exact, narrowing f64 to f32
//! rounds to nearest. Two code paths per type would say the same twice, so a number of the generic type is recognised
//! as `f32` or `f64` through [`Any`], which costs nothing: the compiler knows the answer.

use std::any::Any;

use nd_core::{DType, Real, bf16, f16};

/// The type of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    F64,
    F32,
    F16,
    Bf16,
    /// 32-bit unsigned.
    U32,
    /// Any other, by its name.
    Other(Box<str>),
}

impl Stored {
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::Bf16 => Self::Bf16,
        }
    }

    pub(super) fn parse(name: &str) -> Self {
        match name {
            "F64" => Self::F64,
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "U32" => Self::U32,
            other => Self::Other(other.into()),
        }
    }

    /// The name that the format gives it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::U32 => "U32",
            Self::Other(name) => name,
        }
    }

    /// Bytes of one number; `None` where we do not know.
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::F64 => Some(8),
            Self::F32 | Self::U32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Other(_) => None,
        }
    }
}

/// The same number, where `A` and `B` are one type.
#[inline]
fn same<A: Copy + 'static, B: Copy + 'static>(x: A) -> Option<B> {
    (&x as &dyn Any).downcast_ref::<B>().copied()
}

/// Writes numbers into bytes of their own type; `bytes` is as long as they need.
pub(super) fn encode<R: Real>(values: &[R], bytes: &mut [u8]) {
    debug_assert_eq!(bytes.len(), size_of_val(values));
    for (slot, &x) in bytes.chunks_exact_mut(size_of::<R>()).zip(values) {
        if let Some(x) = same::<R, f32>(x) {
            slot.copy_from_slice(&x.to_le_bytes());
        } else {
            slot.copy_from_slice(&x.to_f64().to_le_bytes());
        }
    }
}

/// Reads numbers of the type `stored`; the first that is finite there and not in `R` ends it, with its place.
///
/// `bytes` hold as many numbers as `values`, and `stored` is a floating-point type.
pub(super) fn decode<R: Real>(
    stored: &Stored,
    bytes: &[u8],
    values: &mut [R],
) -> Result<(), (usize, f64)> {
    match stored {
        Stored::F64 => {
            for (i, (slot, bytes)) in values.iter_mut().zip(bytes.as_chunks().0).enumerate() {
                let x = f64::from_le_bytes(*bytes);
                *slot = same(x).unwrap_or_else(|| R::from_f64(x));
                if x.is_finite() && !slot.is_finite() {
                    return Err((i, x));
                }
            }
        }
        Stored::F32 => {
            for (slot, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                let x = f32::from_le_bytes(*bytes);
                *slot = same(x).unwrap_or_else(|| R::from_f64(f64::from(x)));
            }
        }
        Stored::F16 => {
            for (slot, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *slot = R::from_f64(f16::from_le_bytes(*bytes).to_f64());
            }
        }
        Stored::Bf16 => {
            for (slot, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                *slot = R::from_f64(bf16::from_le_bytes(*bytes).to_f64());
            }
        }
        Stored::U32 | Stored::Other(_) => {
            debug_assert!(false, "{stored:?} was refused when the file was read");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: [f64; 10] = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f32::MAX as f64,
        f32::MIN_POSITIVE as f64,
        1e-45,
        0.1,
    ];

    #[test]
    fn equal_types_keep_every_bit() {
        let quiet = [0x7fc0_0000, 0xffc1_2345u32].map(f32::from_bits);
        let signalling = [0x7f80_0001, 0xffbf_ffff].map(f32::from_bits);
        let mut values: Vec<f32> = SPECIAL.map(|x| x as f32).to_vec();
        values.extend(quiet);
        values.extend(signalling);
        let mut bytes = vec![0; 4 * values.len()];
        encode(&values, &mut bytes);
        let mut back = vec![0f32; values.len()];
        decode(&Stored::F32, &bytes, &mut back).unwrap();
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&values));

        let values = [f64::from_bits(0x7ff0_0000_0000_0001), f64::MAX, 5e-324];
        let mut bytes = [0; 24];
        encode(&values, &mut bytes);
        let mut back = [0f64; 3];
        decode(&Stored::F64, &bytes, &mut back).unwrap();
        assert_eq!(back.map(f64::to_bits), values.map(f64::to_bits));
    }

    #[test]
    fn other_types_are_converted_by_value() {
        let narrow = SPECIAL.map(|x| x as f32);
        let mut bytes = [0; 4 * SPECIAL.len()];
        encode(&narrow, &mut bytes);
        let mut wide = [0f64; SPECIAL.len()];
        decode(&Stored::F32, &bytes, &mut wide).unwrap();
        assert_eq!(wide, narrow.map(f64::from));

        let mut bytes = [0; 8 * SPECIAL.len()];
        encode(&SPECIAL, &mut bytes);
        let mut back = [0f32; SPECIAL.len()];
        decode(&Stored::F64, &bytes, &mut back).unwrap();
        assert_eq!(back.map(f32::to_bits), narrow.map(f32::to_bits));

        let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut values = vec![0f32; 1 << 16];
        decode(&Stored::F16, &halves, &mut values).unwrap();
        for (i, &x) in values.iter().enumerate() {
            let half = f16::from_bits(i as u16);
            assert!(x == half.to_f32() || (x.is_nan() && half.is_nan()), "{i}");
        }
        decode(&Stored::Bf16, &halves, &mut values).unwrap();
        for (i, &x) in values.iter().enumerate() {
            let half = bf16::from_bits(i as u16);
            assert!(x == half.to_f32() || (x.is_nan() && half.is_nan()), "{i}");
        }
    }

    #[test]
    fn a_number_out_of_range_is_found() {
        let mut bytes = [0; 24];
        encode(&[1.0, f64::NAN, 1e39], &mut bytes);
        let mut narrow = [0f32; 3];
        assert_eq!(
            decode(&Stored::F64, &bytes, &mut narrow),
            Err((2, 1e39)),
            "NaN and infinity are kept, a finite number may not become one of them"
        );
        assert!(decode(&Stored::F64, &bytes, &mut [0f64; 3]).is_ok());
    }

    #[test]
    fn names_are_those_of_the_format() {
        for name in ["F64", "F32", "F16", "BF16", "U32", "I64", "F8_E4M3"] {
            assert_eq!(Stored::parse(name).name(), name);
        }
        assert_eq!(Stored::of(DType::Bf16).name(), "BF16");
    }
}
