//! Blocks summed on AMX tiles: `TDPBF16PS`, 16 x 16 x 32 in one instruction (Intel 64 manual, vol. 1,
//! ch. 18). The instructions have no stable intrinsics, so they are written in assembly.
//!
//! A process asks Linux once for the right to use tiles; a unit of work sets their sizes
//! ([`configure`]) and frees them at its end ([`release`]): a thread that waits has no tiles to be saved.

use std::arch::asm;
#[cfg(target_os = "linux")]
use std::arch::x86_64::__cpuid_count;

use super::Tile;

/// Sizes of the eight tiles: palette 1, 16 rows of 64 bytes each.
#[repr(C, align(64))]
struct Sizes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

static SIZES: Sizes = {
    let mut sizes =
        Sizes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    let mut tile = 0;
    while tile < 8 {
        sizes.row_bytes[tile] = 64;
        sizes.rows[tile] = 16;
        tile += 1;
    }
    sizes
};

/// Whether the processor has bf16 tiles and the system lets this process use them.
#[cfg(target_os = "linux")]
pub(super) fn available() -> bool {
    use std::sync::OnceLock;
    /// arch_prctl(2): asks for a part of the processor's state; 18 is the data of tiles.
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        if __cpuid_count(0, 0).eax < 7 {
            return false;
        }
        // AMX-BF16 and AMX-TILE: bits 22 and 24
        let edx = __cpuid_count(7, 0).edx;
        if edx >> 22 & 1 == 0 || edx >> 24 & 1 == 0 {
            return false;
        }
        // SAFETY: a request that changes nothing but what this process may do.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
    })
}

/// Only Linux's way of asking for tiles is known here.
#[cfg(not(target_os = "linux"))]
pub(super) fn available() -> bool {
    false
}

/// Sets the tiles' sizes for this thread.
///
/// # Safety
/// [`available`]
pub(super) unsafe fn configure() {
    // SAFETY: 64 bytes of a valid configuration.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SIZES, options(nostack, readonly)) }
}

/// Frees the tiles of this thread.
///
/// # Safety
/// [`available`]
pub(super) unsafe fn release() {
    // SAFETY: nothing is kept in tiles between blocks.
    unsafe { asm!("tilerelease", options(nostack, nomem)) }
}

/// Tiles 0 to 3 are the four quarters of c; 4 and 5 hold rows of a, 6 and 7 columns of b.
///
/// # Safety
/// As for `super::block`, and [`configure`] was called on this thread.
pub(super) unsafe fn block(
    a: *const Tile,
    b: *const Tile,
    steps: usize,
    c: *mut f32,
    step: usize,
    add: bool,
) {
    // SAFETY: reads 2 steps tiles from a and b, and reads and writes the block at c, as the caller
    // promises; what it changes is named.
    unsafe {
        asm!(
            "test {add:e}, {add:e}",
            "jz 2f",
            "tileloadd tmm0, [{c} + {step}*1]",
            "tileloadd tmm1, [{c} + {step}*1 + 64]",
            "tileloadd tmm2, [{below} + {step}*1]",
            "tileloadd tmm3, [{below} + {step}*1 + 64]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "tileloadd tmm4, [{a} + {line}*1]",
            "tileloadd tmm6, [{b} + {line}*1]",
            "tileloadd tmm7, [{b} + {line}*1 + 1024]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm5, [{a} + {line}*1 + 1024]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a}, 2048",
            "add {b}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{c} + {step}*1], tmm0",
            "tilestored [{c} + {step}*1 + 64], tmm1",
            "tilestored [{below} + {step}*1], tmm2",
            "tilestored [{below} + {step}*1 + 64], tmm3",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            steps = inout(reg) steps => _,
            line = in(reg) 64usize,
            c = in(reg) c,
            below = in(reg) c.wrapping_add(16 * step),
            step = in(reg) 4 * step,
            add = in(reg) u32::from(add),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
