//! Products of tiles, AMX (`tdpbf16ps`): 16 x 32 by 32 x 16 numbers in one instruction, sixteen times the rate of f32.
//!
//! ```text
//! for each block of k (at most 1024; all of it where C is bf16, whose sums cannot wait in C)
//!     for each block of columns of B that fits half of L2:  pack it, unless that has been done
//!         for each 32 rows of A:                            pack them, unless they can be read in place
//!             for each 32 columns:  2 x 2 tiles of sums, all of the block of k        (`kernel`)
//!                                 where C is bf16, the sums before are rounded meanwhile
//! ```
//!
//! Operands are packed as for the dot product of pairs; a tile of B is sixteen pairs of a panel, a tile of A sixteen rows as they are.
//!
//! * `detect`: the processor, the system and the permission;
//! * `config`: the shapes of the tiles and how long they hold;
//! * `kernel`: the sums, in assembly, because rustc has no stable intrinsics for tiles;
//! * `finish`: from the sums to C; `rounding`, to one of bf16, by `rows`;
//! * `blocking`: the loops above.
//!
//! What the loops are about is the second cache level: the kernel reads 64 bytes a cycle, and L1 keeps neither operand while k is long. So B
//! stays in L2, A passes once for each block of columns, and C is written row by row. C and the next rows of A come from farther away, so
//! kernels ask for them while they compute the block before: 6 to 15 % of a product with a core to itself, a third where neighbours use
//! the same caches. A row of A that begins within a line costs two lines for each row of a tile; such rows are packed where
//! enough columns read them.
//!
//! Blocks of rows all have one height, so that the tiles' shapes are loaded once; the last block begins early where rows are left
//! over, and stores only those that are its own. Rows never meet in a tile, so that changes no bit.
//!
//! Numbers: a tile product adds 16 even and 16 odd products in two chains, and their sum to the tile of sums; each in f32, rounded to
//! nearest. Denormal operands count as zero, denormal sums are flushed.

mod blocking;
mod config;
mod detect;
mod finish;
mod kernel;
mod rounding;
mod rows;

use pulp::x86::V4;

use super::dot::PairDot;
pub(super) use config::KeepTiles;

/// Proof that tile products of bf16 may be used, and the packing that they share with the dot product.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    packing: PairDot,
    simd: V4,
}

impl Tiles {
    /// The engine, where the machine has it.
    pub(super) fn new() -> Option<Self> {
        let packing = PairDot::new()?;
        let simd = V4::try_new()?;
        detect::is_available().then_some(Self { packing, simd })
    }
}
