//! The micro-kernel: up to 2 x 2 tiles of sums stay in tile registers while k runs, in one block of assembly.
//!
//! ```text
//! for each step of 32 numbers of k
//!     load 1 or 2 tiles of A (16 rows of 32 numbers), 1 or 2 tiles of B (16 pairs of 16 columns)
//!     sums[i][j] += A[i] . B[j]
//! store the sums
//! ```
//!
//! Four loads feed four products: at a product each 16 cycles and a load each 8, loads are half the time, provided that they come from
//! the first cache level. One row of a tile is one cache line of either operand.

use super::config::TILE;

/// Numbers of k in a step.
pub(super) const STEP: usize = 2 * TILE;

/// The operands of one micro-kernel.
#[derive(Clone, Copy)]
pub(super) struct Strips {
    /// The first row of A.
    pub(super) a: *const u8,
    /// Bytes from row to row of A.
    pub(super) a_row_bytes: usize,
    /// Rows of the upper tile: where the lower one begins.
    pub(super) top: usize,
    /// The first pair of B.
    pub(super) b: *const u8,
    /// Bytes from pair to pair of B.
    pub(super) b_pair_bytes: usize,
    pub(super) steps: usize,
    /// Where the sums go.
    pub(super) c: *mut f32,
    /// Bytes from row to row of the sums.
    pub(super) c_row_bytes: usize,
}

/// One micro-kernel of `$rows` x `$cols` tiles.
macro_rules! kernel {
    ($name:ident, $what:literal, zero [$($zero:literal)*], step [$($step:literal)*], store [$($store:literal)*]) => {
        #[doc = $what]
        ///
        /// # Safety
        /// A [`super::config::TileGuard`] of this thread is alive. `steps` (at least one) times 64 bytes of each row of A's tiles
        /// and 16 pairs of B's may be read, and the rows of the sums be written.
        #[inline(never)]
        pub(super) unsafe fn $name(strips: &Strips) {
            let &Strips {
                a,
                a_row_bytes,
                top,
                b,
                b_pair_bytes,
                steps,
                c,
                c_row_bytes,
            } = strips;
            debug_assert!(steps > 0);
            // SAFETY: the caller's. All that is read from or left in tiles is inside this block, but for their shapes, which the guard
            // keeps; memory is touched at the addresses above only.
            unsafe {
                std::arch::asm!(
                    $(concat!("tilezero ", $zero),)*
                    "2:",
                    $($step,)*
                    "add {a0}, 64",
                    "add {a1}, 64",
                    "add {b}, {b_step}",
                    "dec {steps}",
                    "jnz 2b",
                    $($store,)*
                    a0 = inout(reg) a => _,
                    a1 = inout(reg) a.wrapping_add(top * a_row_bytes) => _,
                    a_row = in(reg) a_row_bytes,
                    b = inout(reg) b => _,
                    b_pair = in(reg) b_pair_bytes,
                    b_step = in(reg) TILE * b_pair_bytes,
                    steps = inout(reg) steps => _,
                    c0 = in(reg) c,
                    c1 = in(reg) c.wrapping_byte_add(top * c_row_bytes),
                    c_row = in(reg) c_row_bytes,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

kernel!(
    two_by_two, "Two tiles of rows, two of columns.",
    zero ["tmm0" "tmm1" "tmm2" "tmm3"],
    step [
        "tileloadd tmm4, [{a0} + {a_row}*1]"
        "tileloadd tmm6, [{b} + {b_pair}*1]"
        "tileloadd tmm7, [{b} + {b_pair}*1 + 64]"
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
        "tileloadd tmm5, [{a1} + {a_row}*1]"
        "tdpbf16ps tmm2, tmm5, tmm6"
        "tdpbf16ps tmm3, tmm5, tmm7"
    ],
    store [
        "tilestored [{c0} + {c_row}*1], tmm0"
        "tilestored [{c0} + {c_row}*1 + 64], tmm1"
        "tilestored [{c1} + {c_row}*1], tmm2"
        "tilestored [{c1} + {c_row}*1 + 64], tmm3"
    ]
);

kernel!(
    two_by_one, "Two tiles of rows, one of columns.",
    zero ["tmm0" "tmm2"],
    step [
        "tileloadd tmm4, [{a0} + {a_row}*1]"
        "tileloadd tmm6, [{b} + {b_pair}*1]"
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tileloadd tmm5, [{a1} + {a_row}*1]"
        "tdpbf16ps tmm2, tmm5, tmm6"
    ],
    store [
        "tilestored [{c0} + {c_row}*1], tmm0"
        "tilestored [{c1} + {c_row}*1], tmm2"
    ]
);

kernel!(
    one_by_two, "One tile of rows, two of columns.",
    zero ["tmm0" "tmm1"],
    step [
        "tileloadd tmm4, [{a0} + {a_row}*1]"
        "tileloadd tmm6, [{b} + {b_pair}*1]"
        "tileloadd tmm7, [{b} + {b_pair}*1 + 64]"
        "tdpbf16ps tmm0, tmm4, tmm6"
        "tdpbf16ps tmm1, tmm4, tmm7"
    ],
    store [
        "tilestored [{c0} + {c_row}*1], tmm0"
        "tilestored [{c0} + {c_row}*1 + 64], tmm1"
        "/* {c1} */"
    ]
);

kernel!(
    one_by_one, "One tile of rows, one of columns.",
    zero ["tmm0"],
    step [
        "tileloadd tmm4, [{a0} + {a_row}*1]"
        "tileloadd tmm6, [{b} + {b_pair}*1]"
        "tdpbf16ps tmm0, tmm4, tmm6"
    ],
    store [
        "tilestored [{c0} + {c_row}*1], tmm0"
        "/* {c1} */"
    ]
);
