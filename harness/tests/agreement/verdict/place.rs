//! The addresses of tables and memory: the same on every machine.

use std::sync::atomic::Ordering;

use smmu_types::seam::DmaBlock;
use smmu_types::{PhysAddr, Ste};

use super::Configuration;

/// The stream table, or its first level. It begins RAM, and so is aligned to each size of it.
pub(crate) const STREAM_TABLE: PhysAddr = PhysAddr(0x4000_0000);
/// A second-level stream table, aligned for 2^10 entries.
pub(crate) const L2_TABLE: PhysAddr = PhysAddr(0x4002_0000);
/// Where CDs may lie, 64 KiB.
pub(crate) const CDS: PhysAddr = PhysAddr(0x4003_0000);
/// The root of stage 1, aligned for tables of 64 KiB. It maps the first 1 GiB of RAM to itself, for
/// the 4 KiB granule and start levels 0 and 1.
pub(crate) const S1_ROOT: PhysAddr = PhysAddr(0x4004_0000);
/// The root of stage 2, the same way.
pub(crate) const S2_ROOT: PhysAddr = PhysAddr(0x4005_0000);
/// The address of the device's write, before translation and after it by the good tables.
pub(crate) const TARGET: PhysAddr = PhysAddr(0x4006_0000);

/// Bytes from [`STREAM_TABLE`] that hold all of these.
pub(super) const BYTES: u64 = 0x7_0000;
/// Bytes from one place to the next.
const ROOM: u64 = 0x1_0000;

const POINTER: u64 = 0x00ff_ffff_ffff_ffc0;
const VALID_TABLE: u64 = 3;
const VALID_BLOCK: u64 = 1;
const ACCESS_FLAG: u64 = 1 << 10;
const SHAREABLE: u64 = 3 << 8;
/// Stage 1: unprivileged read and write.
const S1_READ_WRITE: u64 = 1 << 6;
/// Stage 2: normal write-back memory, read and write.
const S2_READ_WRITE: u64 = 0xf << 2 | 3 << 6;

fn room(at: u64, place: PhysAddr) -> Option<PhysAddr> {
    (place.0..place.0 + ROOM).contains(&at).then_some(PhysAddr(at))
}

/// Where the CD lies, if the STE leads into [`CDS`].
pub(super) fn cd(ste: &Ste) -> Option<PhysAddr> {
    room(ste.0[0] & POINTER, CDS)
}

/// Bits of a StreamID that index the second level. Reserved values stand for 6.
fn split(strtab: u32) -> Option<u32> {
    let bits = match strtab >> 6 & 0x1f {
        bits @ (6 | 8 | 10) => bits,
        _ => 6,
    };
    (strtab >> 16 & 3 == 1).then_some(bits)
}

/// The address of the STE, if it is in one of the two tables. The end of the table does not matter.
fn ste(c: &Configuration) -> Option<PhysAddr> {
    let Some(split) = split(c.strtab) else {
        return room(STREAM_TABLE.0 + u64::from(c.stream.0) * 64, STREAM_TABLE);
    };
    let l1 = c.l1?;
    // The pointer is aligned to the size that the descriptor gives.
    let span = (l1 & 0x1f).min(11) as u32;
    let table = l1 & POINTER & !((32 << span) - 1);
    room(table + (u64::from(c.stream.0) & ((1 << split) - 1)) * 64, L2_TABLE)
}

/// Write a configuration and its page tables, and nothing else.
pub(super) fn write(c: &Configuration, arena: &impl DmaBlock) {
    let words = arena.words();
    let store = |at: PhysAddr, values: &[u64]| {
        let first = ((at.0 - STREAM_TABLE.0) / 8) as usize;
        let slots = words.get(first..).unwrap_or_default();
        for (word, value) in slots.iter().zip(values) {
            word.store(*value, Ordering::Relaxed);
        }
    };
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
    if let (Some(_), Some(descriptor)) = (split(c.strtab), c.l1) {
        // Whatever an SMMU makes of a reserved split, it finds this one.
        store(STREAM_TABLE, &[descriptor; ROOM as usize / 8]);
    }
    if let Some(at) = ste(c) {
        store(at, &c.ste.0);
    }
    if let (Some(at), Some(cd)) = (cd(&c.ste), c.cd) {
        store(at, &cd.0);
    }
    let block = STREAM_TABLE.0 | VALID_BLOCK | ACCESS_FLAG | SHAREABLE;
    // The first entry points to the table itself: a walk from one level higher ends at the same
    // block.
    store(S1_ROOT, &[S1_ROOT.0 | VALID_TABLE, block | S1_READ_WRITE]);
    store(S2_ROOT, &[S2_ROOT.0 | VALID_TABLE, block | S2_READ_WRITE]);
    arena.publish(0..words.len());
}
