//! CRC-64/XZ: 64 bits that change with the bytes.
//!
//! In its simple form: the remainder of the bytes, taken as a polynomial over GF(2), by the polynomial of ECMA-182,
//! lowest bit first, all ones at the start and inverted at the end. Every burst of damage up to 64 bits long is
//! noticed for certain, other damage with probability `1 - 2^-64`.
//! The trick: eight tables take eight bytes a step (Kounavis and Berry, "Novel table lookup-based algorithms for
//! high-performance CRC generation", IEEE Transactions on Computers 57, 2008).
//! Known weakness: no protection against somebody who changes a file on purpose; he computes the sum again.

/// ECMA-182, reflected.
const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;
/// `TABLES[k][b]`: what byte `b` becomes after `k` further zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            let odd = remainder & 1 == 1;
            remainder = (remainder >> 1) ^ if odd { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[zeros - 1][byte];
            tables[zeros][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// A checksum that grows with the bytes it is given.
#[derive(Clone, Debug)]
pub(super) struct Crc64(u64);

impl Crc64 {
    pub(super) fn new() -> Self {
        Self(!0)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for word in words {
            let mixed = (crc ^ u64::from_le_bytes(*word)).to_le_bytes();
            crc = 0;
            for (byte, table) in mixed.iter().zip(TABLES.iter().rev()) {
                crc ^= table[usize::from(*byte)];
            }
        }
        for &byte in rest {
            crc = (crc >> 8) ^ TABLES[0][usize::from(crc as u8 ^ byte)];
        }
        self.0 = crc;
    }

    /// A length and the bytes, so that no two lists of fields give the same sequence.
    pub(super) fn update_field(&mut self, bytes: &[u8]) {
        self.update_number(bytes.len());
        self.update(bytes);
    }

    /// A number as 64 bits.
    pub(super) fn update_number(&mut self, number: usize) {
        self.update(&(number as u64).to_le_bytes());
    }

    pub(super) fn value(&self) -> u64 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit.
    fn reference(bytes: &[u8]) -> u64 {
        let mut crc = !0u64;
        for &byte in bytes {
            crc ^= u64::from(byte);
            for _ in 0..8 {
                crc = (crc >> 1) ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            }
        }
        !crc
    }

    fn whole(bytes: &[u8]) -> u64 {
        let mut crc = Crc64::new();
        crc.update(bytes);
        crc.value()
    }

    #[test]
    fn the_published_check_value_comes_out() {
        // The "check" of CRC-64/XZ in the catalogue of parametrised CRC algorithms.
        assert_eq!(whole(b"123456789"), 0x995D_C9BB_DF19_39FA);
        assert_eq!(whole(b""), 0);
    }

    #[test]
    fn every_length_and_every_split_agrees_with_the_reference() {
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * i * 7 + 3) as u8).collect();
        for len in 0..=bytes.len() {
            let bytes = &bytes[..len];
            assert_eq!(whole(bytes), reference(bytes), "length {len}");
            let (head, tail) = bytes.split_at(len / 3);
            let mut crc = Crc64::new();
            crc.update(head);
            crc.update(tail);
            assert_eq!(crc.value(), reference(bytes), "length {len}, in two pieces");
        }
    }

    #[test]
    fn fields_are_told_apart() {
        let of = |fields: &[&[u8]]| {
            let mut crc = Crc64::new();
            for field in fields {
                crc.update_field(field);
            }
            crc.value()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"abc"]), of(&[b"abc", b""]));
    }
}
