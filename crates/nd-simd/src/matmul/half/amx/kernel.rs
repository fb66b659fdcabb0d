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
//!
//! The 64 lines of C that four tiles fill take longer to arrive from the third cache level than a short sum takes to compute, and a store that
//! waits for its line holds up the loads behind it. So [`two_by_two_ahead`] asks with each step for some lines that the next kernel writes. Where C is bf16, sums
//! wait in the first cache level, and [`two_by_two_rounding`] rounds those of the kernel before with its first steps.

use nd_core::bf16;

use super::config::TILE;
use super::rounding::Waiting;

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

/// What comes after a kernel, for which it asks while it computes.
///
/// Passed on by reference: a copy is read in wider pieces than it was written in, and then waits until all stores before it have left the
/// core, those of tiles too.
pub(super) struct Ahead {
    /// The first of [`AHEAD_ROWS`] rows of C, two lines of each. Neither these addresses nor those of A are checked, nor need they be.
    pub(super) c: *const u8,
    /// The first of two rows of A, as far apart and as long as those that the kernel reads. (It stands between the others because it alone
    /// changes from chain to chain: so these are copied one by one.)
    pub(super) a: *const u8,
    /// Bytes from row to row of C.
    pub(super) c_row_bytes: usize,
}

/// Rows of C that a kernel asks for.
const AHEAD_ROWS: usize = 2 * TILE;

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

/// Two by two tiles that ask for two rows of A with each step, and do more with the first `$steps`: `$rows` times each what `$more` says, which has
/// the operands that follow it. Evaluated in an unsafe block, for as many steps at least.
macro_rules! two_by_two_with {
    ($strips:expr, $a_ahead:expr, $steps:ident times $rows:ident, [$($more:literal)*], $($operands:tt)*) => {{
        const { assert!($steps * $rows == AHEAD_ROWS && TILE == 16) };
        let &Strips {
            a,
            a_row_bytes,
            top,
            b,
            b_pair_bytes,
            steps,
            c,
            c_row_bytes,
        } = $strips;
        debug_assert!(steps >= $steps);
        // For registers that are free when the sums are done.
        let later = [
            steps - $steps,
            c.expose_provenance(),
            c.wrapping_byte_add(top * c_row_bytes).expose_provenance(),
            c_row_bytes,
        ];
        std::arch::asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "2:",
            step!(".rept {rows}" $($more)* ".endr"),
            "jnz 2b",
            "mov {steps}, [{later}]",
            "test {steps}, {steps}",
            "jz 4f",
            "3:",
            step!(),
            "jnz 3b",
            "4:",
            "mov {a0}, [{later} + 8]",
            "mov {a1}, [{later} + 16]",
            "mov {a_row}, [{later} + 24]",
            "tilestored [{a0} + {a_row}*1], tmm0",
            "tilestored [{a0} + {a_row}*1 + 64], tmm1",
            "tilestored [{a1} + {a_row}*1], tmm2",
            "tilestored [{a1} + {a_row}*1 + 64], tmm3",
            rows = const $rows,
            a0 = inout(reg) a => _,
            a1 = inout(reg) a.wrapping_add(top * a_row_bytes) => _,
            a_row = inout(reg) a_row_bytes => _,
            a_ahead = inout(reg) $a_ahead => _,
            b = inout(reg) b => _,
            b_pair = in(reg) b_pair_bytes,
            steps = inout(reg) $steps => _,
            later = in(reg) later.as_ptr(),
            $($operands)*
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }};
}

/// A step of [`two_by_two_with`], with more instructions after the loads of B. To the next pairs of B it is [`TILE`] times the distance of
/// two, which has no register of its own.
macro_rules! step {
    ($($more:literal)*) => {
        concat!(
            "tileloadd tmm4, [{a0} + {a_row}*1]\n",
            "tileloadd tmm6, [{b} + {b_pair}*1]\n",
            "tileloadd tmm7, [{b} + {b_pair}*1 + 64]\n",
            $($more, "\n",)*
            "prefetcht1 [{a_ahead}]\n",
            "prefetcht1 [{a_ahead} + {a_row}]\n",
            "add {a_ahead}, 64\n",
            "tdpbf16ps tmm0, tmm4, tmm6\n",
            "tdpbf16ps tmm1, tmm4, tmm7\n",
            "tileloadd tmm5, [{a1} + {a_row}*1]\n",
            "tdpbf16ps tmm2, tmm5, tmm6\n",
            "tdpbf16ps tmm3, tmm5, tmm7\n",
            "add {a0}, 64\n",
            "add {a1}, 64\n",
            "lea {b}, [{b} + {b_pair}*8]\n",
            "lea {b}, [{b} + {b_pair}*8]\n",
            "dec {steps}\n",
        )
    };
}

/// Calls `$kernel` for as many first steps as a power of two can be, and as many times with each as make up [`AHEAD_ROWS`].
macro_rules! by_steps {
    ($kernel:ident, $strips:expr, $($more:expr),*) => {
        match $strips.steps {
            32.. => $kernel::<32, 1>($strips, $($more),*),
            16.. => $kernel::<16, 2>($strips, $($more),*),
            8.. => $kernel::<8, 4>($strips, $($more),*),
            4.. => $kernel::<4, 8>($strips, $($more),*),
            2.. => $kernel::<2, 16>($strips, $($more),*),
            _ => $kernel::<1, 32>($strips, $($more),*),
        }
    };
}

/// [`two_by_two`], which asks for what comes next: in its first steps for the rows of C, equally many with each; in all of them for the
/// rows of A.
///
/// # Safety
/// As [`two_by_two`].
pub(super) unsafe fn two_by_two_ahead(strips: &Strips, ahead: &Ahead) {
    // SAFETY: the caller's; there are as many steps.
    unsafe { by_steps!(asking, strips, ahead) }
}

/// [`two_by_two_ahead`] for `STEPS` steps that ask for `ROWS` rows of C each.
///
/// # Safety
/// As [`two_by_two`]; there are at least `STEPS` steps.
#[inline(never)]
unsafe fn asking<const STEPS: usize, const ROWS: usize>(strips: &Strips, ahead: &Ahead) {
    // SAFETY: as `two_by_two`; `later` is read while it is alive, and what is asked for is a hint.
    unsafe {
        two_by_two_with!(
            strips, ahead.a, STEPS times ROWS,
            [
                "prefetchw [{c_ahead}]"
                "prefetchw [{c_ahead} + 64]"
                "add {c_ahead}, {c_ahead_row}"
            ],
            c_ahead = inout(reg) ahead.c => _,
            c_ahead_row = in(reg) ahead.c_row_bytes,
        );
    }
}

/// [`two_by_two`], which rounds the sums before its own, a whole block: in its first steps, equally many rows with each. Tile products wait
/// for one another and for their operands; this fits in between. It also asks for the rows of `next`, where its own sums go, as far
/// apart, and for two rows of A from `a_ahead` on, as [`Ahead`] says.
///
/// What is rounded is said by reference, and in one word each: see [`Ahead`].
///
/// # Safety
/// As [`two_by_two`]; the sums before and their bias may be read, their target be written; the processor has AVX-512 and its bf16.
pub(super) unsafe fn two_by_two_rounding(
    strips: &Strips,
    sums: *const f32,
    before: &Waiting,
    next: *const bf16,
    a_ahead: *const u8,
) {
    // SAFETY: the caller's; there are as many steps.
    unsafe { by_steps!(rounding, strips, sums, before, next, a_ahead) }
}

/// [`two_by_two_rounding`] with `ROWS` rows in each of the first `STEPS` steps.
///
/// # Safety
/// As [`two_by_two_rounding`]; there are at least `STEPS` steps.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn rounding<const STEPS: usize, const ROWS: usize>(
    strips: &Strips,
    sums: *const f32,
    before: &Waiting,
    next: *const bf16,
    a_ahead: *const u8,
) {
    // SAFETY: the caller's: the block is whole.
    let bias = unsafe { before.last.bias([!0; 2]) };
    // Registers from the sixteenth on have no halves that older instructions would have to keep: after others, the first of those, and the first
    // one of AVX after it, would each wait until the core has finished all before.
    // SAFETY: as `two_by_two`; `later` is read while it is alive; the rows that are rounded are the caller's, and what is asked for
    // is a hint.
    unsafe {
        two_by_two_with!(
            strips, a_ahead, STEPS times ROWS,
            [
                "vmovups zmm27, [{sums}]"
                "vmovups zmm28, [{sums} + 64]"
                "vaddps zmm27, zmm27, zmm29"
                "vaddps zmm28, zmm28, zmm30"
                "vmaxps zmm27, zmm31, zmm27"
                "vmaxps zmm28, zmm31, zmm28"
                "prefetchw [{next}]"
                "vcvtne2ps2bf16 zmm27, zmm28, zmm27"
                "vmovups [{to}], zmm27"
                "add {sums}, 128"
                "add {next}, {to_row}"
                "add {to}, {to_row}"
            ],
            sums = inout(reg) sums => _,
            to = inout(reg) before.target => _,
            to_row = in(reg) before.stride.wrapping_mul(size_of::<bf16>()),
            next = inout(reg) next => _,
            in("zmm29") bias[0],
            in("zmm30") bias[1],
            in("zmm31") before.last.least(),
            out("zmm27") _, out("zmm28") _,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tiles;
    use super::super::config::TileGuard;
    use super::*;

    /// Whole numbers, so that all orders of adding have one sum.
    fn numbers(len: usize, seed: usize) -> Vec<bf16> {
        let whole = |i: usize| (i * 7919 + seed).wrapping_mul(0x9e37_79b9) >> 9;
        (0..len)
            .map(|i| bf16::from_f32((whole(i) % 17) as f32 - 8.0))
            .collect()
    }

    #[test]
    fn asking_for_what_is_next_changes_no_sum_after_any_number_of_steps() {
        if Tiles::new().is_none() {
            return;
        }
        const COLS: usize = 2 * TILE;
        for (top, bottom) in [(16, 16), (16, 3), (9, 9)] {
            for steps in 1..=70 {
                let depth = steps * STEP;
                let (a, b) = (numbers((top + bottom) * depth, 1), numbers(depth * COLS, 2));
                // SAFETY: there are tiles, their rows are from 1 to 16, and this is the only guard.
                let _guard = unsafe { TileGuard::new(top, bottom) };
                let sums = |ahead: Option<&Ahead>| {
                    let mut c = vec![f32::NAN; (top + bottom) * COLS];
                    let strips = Strips {
                        a: a.as_ptr().cast(),
                        a_row_bytes: 2 * depth,
                        top,
                        b: b.as_ptr().cast(),
                        b_pair_bytes: 4 * COLS,
                        steps,
                        c: c.as_mut_ptr(),
                        c_row_bytes: 4 * COLS,
                    };
                    // SAFETY: the guard is alive; A has `depth` numbers in each row, B as many rows in pairs, C all rows.
                    unsafe {
                        match ahead {
                            Some(ahead) => two_by_two_ahead(&strips, ahead),
                            None => two_by_two(&strips),
                        }
                    }
                    c
                };
                let plain = sums(None);
                let at = |i: usize, j: usize| -> f32 {
                    let b = |p: usize| b[p / 2 * 2 * COLS + 2 * j + p % 2].to_f32();
                    (0..depth).map(|p| a[i * depth + p].to_f32() * b(p)).sum()
                };
                for (c, got) in plain.iter().enumerate() {
                    assert_eq!(
                        *got,
                        at(c / COLS, c % COLS),
                        "{top} + {bottom} rows, {steps} steps, {c}"
                    );
                }
                // Addresses of nothing are as good as others.
                for c in [std::ptr::null(), plain.as_ptr().cast()] {
                    let ahead = Ahead {
                        c,
                        c_row_bytes: 4 * COLS,
                        a: c,
                    };
                    assert_eq!(
                        sums(Some(&ahead)),
                        plain,
                        "{top} + {bottom} rows, {steps} steps"
                    );
                }
            }
        }
    }
}
