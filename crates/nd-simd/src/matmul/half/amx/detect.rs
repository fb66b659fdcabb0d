//! Whether this process may use AMX: the processor's word, the system's word, and the permission of this process.
//!
//! Tiles are eight kilobytes of state for each thread, so Linux saves them only for processes that ask
//! (`arch_prctl(ARCH_REQ_XCOMP_PERM)`, Linux 5.16). The request holds for all threads of the process, also those that run already.
//! Other systems are not asked: there the tiles count as missing.

use std::sync::OnceLock;

/// Whether tile products of bf16 run here. Asks for the permission at the first call.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_tiles() && system_saves_tiles() && permission())
}

/// CPUID: AMX-TILE and AMX-BF16, and tiles of the shape that the kernels are written for.
fn processor_has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    let (leaves, _) = __get_cpuid_max(0);
    if leaves < 0x1d || __cpuid_count(7, 0).edx & (BF16 | TILE) != BF16 | TILE {
        return false;
    }
    // Palette 1: eight tiles of sixteen rows of 64 bytes.
    let palette = __cpuid_count(0x1d, 1);
    palette.ebx >> 16 >= 8 && palette.ebx & 0xffff >= 64 && palette.ecx & 0xffff >= 16
}

/// XGETBV: the system saves the tiles' configuration and data (bits 17 and 18 of XCR0) when it switches threads.
fn system_saves_tiles() -> bool {
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 0b11 << 17;
    if std::arch::x86_64::__cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let low: u32;
    // SAFETY: OSXSAVE says that the instruction exists; it reads register 0 and changes nothing else.
    unsafe {
        std::arch::asm!(
            "xgetbv", in("ecx") 0, out("eax") low, out("edx") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    low & TILES == TILES
}

/// Asks the system to save this process's tiles.
#[cfg(target_os = "linux")]
fn permission() -> bool {
    const ARCH_PRCTL: isize = 158;
    const ARCH_REQ_XCOMP_PERM: isize = 0x1023;
    const XTILEDATA: isize = 18;
    let result: isize;
    // SAFETY: a system call without pointers, whose one effect is that larger signal frames hold the tiles. It returns an error
    // where the kernel does not know it, or where a thread's signal stack is too small.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn permission() -> bool {
    false
}
