//! The CPU's memory map: addresses as they are, in blocks of 1 GiB.
//!
//! The map begins with the block of the image. The program adds RAM and registers that the device
//! tree names. Nothing else is mapped, so a CPU never reads ahead from a device.
//!
//! 1. A block is written once, from invalid to valid, so no TLB invalidation is needed.
//! 2. RAM is Normal memory, Write-Back, Inner Shareable. Registers are Device-nGnRE, which no
//!    instruction is fetched from.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::Region;

/// 2^30: what one entry of a level-1 table maps.
const BLOCK_SHIFT: u32 = 30;
const ENTRIES: usize = 512;

const VALID: u64 = 1;
const ATTR_NORMAL: u64 = 1 << 2;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 54 | 1 << 53;
const NORMAL: u64 = VALID | ATTR_NORMAL | INNER_SHAREABLE | ACCESSED;
const DEVICE: u64 = VALID | ACCESSED | NO_EXECUTE;

/// Where the image is linked.
const IMAGE: u64 = parse(env!("SMMU_BOARD_IMAGE"));

const fn parse(text: &str) -> u64 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u64;
        at += 1;
    }
    value
}

#[repr(C, align(4096))]
struct Level1([AtomicU64; ENTRIES]);

const TABLE_BYTES: usize = size_of::<Level1>();

/// The table of every CPU, from its first instruction with the MMU on.
///
/// `enable_mmu` writes it on the first CPU. The section is not loaded, which makes the image a page
/// smaller, and the start does not zero it: it zeroes `.bss` after the MMU is on.
// SAFETY: aarch64-rt's `image.ld` reserves memory for `.stack` behind `.bss`, and no stack is there.
#[unsafe(link_section = ".stack.memory_map")]
static TABLE: Level1 = Level1([const { AtomicU64::new(0) }; ENTRIES]);

/// The block of the image: its entry, and the entry's offset in bytes.
const FIRST: u64 = IMAGE >> BLOCK_SHIFT << BLOCK_SHIFT | NORMAL;
const FIRST_OFFSET: u64 = (IMAGE >> BLOCK_SHIFT) * size_of::<u64>() as u64;

/// `MAIR`: attribute 0 is Device-nGnRE, attribute 1 Normal Write-Back.
const MAIR: u64 = 0x04 | 0xff << 8;
/// `TCR`: 39 bits of address, 4 KiB pages, walks Write-Back and Inner Shareable.
const TCR: u64 = (64 - 39) | 1 << 8 | 1 << 10 | 3 << 12;
/// `TCR_EL1`: no walk for the upper half, whose granule is 4 KiB. `TCR_EL2`: bits that are RES1.
const TCR_EL1: u64 = TCR | 1 << 23 | 2 << 30;
const TCR_EL2: u64 = TCR | 1 << 31 | 1 << 23;

// aarch64-rt calls `enable_mmu` on every CPU before Rust code runs. It must keep x0 to x3.
//
// The first CPU comes from the image's entry, and writes the table. Its caches are off, so it stores
// to memory. A boot loader may have left lines of this memory in the cache: a dirty one could be
// written back over the table, and any of them would hide it from the walks. So the CPU drops the
// lines before its stores and after them.
global_asm!(
    ".section .init, \"ax\"",
    ".global enable_mmu",
    "enable_mmu:",
    "ldr x8, ={mair}",
    "adrp x11, {table}",
    "adr x12, entry + 4",
    "cmp x30, x12",
    "b.ne 4f",
    "mrs x14, ctr_el0",
    "ubfx x14, x14, #16, #4",
    // `CTR_EL0.DminLine` counts in words of 4 bytes.
    "mov x15, #4",
    "lsl x14, x15, x14",
    "add x13, x11, #{bytes}",
    "mov x12, x11",
    "1:",
    "dc ivac, x12",
    "add x12, x12, x14",
    "cmp x12, x13",
    "b.lo 1b",
    "dsb sy",
    "mov x12, x11",
    "2:",
    "stp xzr, xzr, [x12], #16",
    "cmp x12, x13",
    "b.lo 2b",
    "ldr x12, ={first}",
    "ldr x15, ={first_offset}",
    "str x12, [x11, x15]",
    "dsb sy",
    "mov x12, x11",
    "3:",
    "dc ivac, x12",
    "add x12, x12, x14",
    "cmp x12, x13",
    "b.lo 3b",
    "dsb sy",
    "4:",
    "mrs x12, id_aa64mmfr0_el1",
    "and x12, x12, #0xf",
    // Addresses above 48 bits need a larger granule.
    "cmp x12, #5",
    "mov x13, #5",
    "csel x12, x12, x13, ls",
    "ldr x9, ={sctlr}",
    "mrs x13, CurrentEL",
    "cmp x13, #(2 << 2)",
    "b.eq 0f",
    "ldr x10, ={tcr_el1}",
    "bfi x10, x12, #32, #3",
    "msr mair_el1, x8",
    "msr ttbr0_el1, x11",
    "msr tcr_el1, x10",
    "isb",
    "tlbi vmalle1",
    "ic iallu",
    "dsb nsh",
    "isb",
    "msr sctlr_el1, x9",
    "isb",
    "ret",
    "0:",
    "ldr x10, ={tcr_el2}",
    "bfi x10, x12, #16, #3",
    "msr mair_el2, x8",
    "msr ttbr0_el2, x11",
    "msr tcr_el2, x10",
    "isb",
    "tlbi alle2",
    "ic iallu",
    "dsb nsh",
    "isb",
    "msr sctlr_el2, x9",
    "isb",
    "ret",
    ".ltorg",
    mair = const MAIR,
    sctlr = const aarch64_rt::DEFAULT_SCTLR,
    tcr_el1 = const TCR_EL1,
    tcr_el2 = const TCR_EL2,
    table = sym TABLE,
    bytes = const TABLE_BYTES,
    first = const FIRST,
    first_offset = const FIRST_OFFSET,
);

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// RAM.
    Memory,
    /// Registers of devices.
    Registers,
}

/// The map has no block for a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The address is beyond the map.
    #[error("{region} lies above the first 512 GiB, which this program can map")]
    TooHigh {
        /// What was to be mapped.
        region: Region,
    },
    /// A block of 1 GiB holds both RAM and registers.
    #[error(
        "the block of 1 GiB at {block:#x} has both RAM and registers ({region}); this program maps whole blocks"
    )]
    Mixed {
        /// What was to be mapped.
        region: Region,
        /// The block.
        block: u64,
    },
}

/// Maps a region. No effect on blocks that have this use already.
///
/// # Errors
///
/// The map has no block for it.
pub fn map(region: Region, of: Use) -> Result<(), MapError> {
    if region.bytes == 0 {
        return Ok(());
    }
    for number in region.base >> BLOCK_SHIFT..=(region.end() - 1) >> BLOCK_SHIFT {
        let entry = usize::try_from(number).ok().and_then(|number| TABLE.0.get(number));
        let entry = entry.ok_or(MapError::TooHigh { region })?;
        let block = number << BLOCK_SHIFT;
        let wanted = block | if of == Use::Memory { NORMAL } else { DEVICE };
        match entry.load(Ordering::Relaxed) {
            0 => entry.store(wanted, Ordering::Relaxed),
            there if there == wanted => {}
            _ => return Err(MapError::Mixed { region, block }),
        }
    }
    // SAFETY: orders the stores before the walks of all CPUs; changes nothing else.
    unsafe { core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags)) };
    Ok(())
}

/// Whether the map has all of a region as `of`.
#[must_use]
pub fn is_mapped(region: Region, of: Use) -> bool {
    let Some(last) = region.end().checked_sub(1) else { return false };
    let kind = if of == Use::Memory { NORMAL } else { DEVICE };
    (region.base >> BLOCK_SHIFT..=last >> BLOCK_SHIFT).all(|number| {
        let entry = usize::try_from(number).ok().and_then(|number| TABLE.0.get(number));
        entry.is_some_and(|entry| entry.load(Ordering::Relaxed) == number << BLOCK_SHIFT | kind)
    })
}
