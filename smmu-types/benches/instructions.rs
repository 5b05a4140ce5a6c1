//! The cost of typed encoders and decoders in instructions, beside the same words packed by hand.
//!
//! `cargo xtask bench` runs this under valgrind and compares the two functions of each pair,
//! `<case>_typed` and `<case>_packed`. Both take the same values, which the compiler does not know,
//! and make the same words. The packed function is the code of a driver without types. It has no
//! mask if the value has no more bits than the field. If the typed encoder refuses values that do
//! not fit, so does the packed function, by the shortest correct condition.
#![expect(missing_docs, reason = "the macros make public modules")]

use std::sync::atomic::{AtomicU64, Ordering};

use gungraun::{library_benchmark, library_benchmark_group, main};
use smmu_types::range::{Level, LevelHint, Span};
use smmu_types::{
    Asid, AtcScope, AtcSpan, AtsMode, Cacheability, Cd, Command, EventRecord, Granule, Iova, Leaf,
    OutputSize, PhysAddr, Shareability, ShareabilityOverride, Stage1Config, Stage2Config, Ste,
    StreamId, StreamWorld, SubstreamDefault, SubstreamId, TableConfig, Vmid,
};

#[library_benchmark]
#[bench::one(Vmid(3), Asid(0x7cd), Iova(0x1234_5000))]
fn tlbi_nh_va_typed(vmid: Vmid, asid: Asid, address: Iova) -> [u64; 2] {
    match Span::single(address, Leaf::Last) {
        Ok(span) => Command::TlbiNhVa { vmid, asid, span }.encode().0,
        Err(_) => [0; 2],
    }
}

#[library_benchmark]
#[bench::one(Vmid(3), Asid(0x7cd), Iova(0x1234_5000))]
fn tlbi_nh_va_packed(vmid: Vmid, asid: Asid, address: Iova) -> [u64; 2] {
    if address.0 & 0xfff != 0 {
        return [0; 2];
    }
    [0x12 | u64::from(vmid.0) << 32 | u64::from(asid.0) << 48, 1 | address.0]
}

#[library_benchmark]
#[bench::one(Vmid(3), Asid(0x7cd), Iova(0x1234_5000), 6, 0)]
fn tlbi_range_typed(vmid: Vmid, asid: Asid, address: Iova, num: u8, scale: u8) -> [u64; 2] {
    let pages = LevelHint::Bits64(Level::L3);
    match Span::ranged(address, Leaf::Last, Granule::K4, num, scale, pages) {
        Ok(span) => Command::TlbiNhVa { vmid, asid, span }.encode().0,
        Err(_) => [0; 2],
    }
}

#[library_benchmark]
#[bench::one(Vmid(3), Asid(0x7cd), Iova(0x1234_5000), 6, 0)]
fn tlbi_range_packed(vmid: Vmid, asid: Asid, address: Iova, num: u8, scale: u8) -> [u64; 2] {
    if num > 31 || scale > 39 || address.0 & 0xfff != 0 {
        return [0; 2];
    }
    let w0 = 0x12
        | u64::from(num) << 12
        | u64::from(scale) << 20
        | u64::from(vmid.0) << 32
        | u64::from(asid.0) << 48;
    [w0, 1 | 3 << 8 | 1 << 10 | address.0]
}

#[library_benchmark]
#[bench::one(StreamId(8), SubstreamId::new(5), AtcSpan::covering(Iova(0x8000), Iova(0xffff)))]
fn atc_inv_typed(stream: StreamId, substream: Option<SubstreamId>, span: AtcSpan) -> [u64; 2] {
    Command::AtcInv { stream, substream, scope: AtcScope::Substream, span }.encode().0
}

#[library_benchmark]
#[bench::one(StreamId(8), SubstreamId::new(5), AtcSpan::covering(Iova(0x8000), Iova(0xffff)))]
fn atc_inv_packed(stream: StreamId, substream: Option<SubstreamId>, span: AtcSpan) -> [u64; 2] {
    let ssid = match substream {
        Some(substream) => 1 << 11 | u64::from(substream.get()) << 12,
        None => 0,
    };
    [0x40 | ssid | u64::from(stream.0) << 32, u64::from(span.size()) | span.address().0]
}

#[library_benchmark]
#[bench::one(StreamId(8))]
fn cfgi_ste_typed(stream: StreamId) -> [u64; 2] {
    Command::CfgiSte { stream, leaf: Leaf::Last }.encode().0
}

#[library_benchmark]
#[bench::one(StreamId(8))]
fn cfgi_ste_packed(stream: StreamId) -> [u64; 2] {
    [0x03 | u64::from(stream.0) << 32, 1]
}

#[library_benchmark]
fn sync_typed() -> [u64; 2] {
    Command::SYNC.encode().0
}

#[library_benchmark]
fn sync_packed() -> [u64; 2] {
    [0x46 | 3 << 22 | 0xf << 24, 0]
}

/// An entry of a table that hardware reads: each word is a store of 64 bits.
type SteMemory = [AtomicU64; 8];

static ENTRY: SteMemory = [const { AtomicU64::new(0) }; 8];

#[inline]
fn store(entry: &SteMemory, words: [u64; 8]) -> bool {
    for (place, word) in entry.iter().zip(words) {
        place.store(word, Ordering::Relaxed);
    }
    true
}

#[library_benchmark]
#[bench::one(&ENTRY, PhysAddr(0x4000_0040), 4)]
fn ste_stage1_typed(entry: &SteMemory, context: PhysAddr, cd_max: u8) -> bool {
    let table = TableConfig {
        format: 0,
        context,
        cd_max,
        substream_default: SubstreamDefault::Substream0,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        stall_disable: true,
        world: StreamWorld::El1,
    };
    match Ste::stage1(table, AtsMode::Full, ShareabilityOverride::Incoming) {
        Ok(ste) => store(entry, ste.0),
        Err(_) => false,
    }
}

#[library_benchmark]
#[bench::one(&ENTRY, PhysAddr(0x4000_0040), 4)]
fn ste_stage1_packed(entry: &SteMemory, context: PhysAddr, cd_max: u8) -> bool {
    if context.0 & !0x000f_ffff_ffff_ffc0 != 0 || cd_max > 31 {
        return false;
    }
    let w0 = 1 | 5 << 1 | context.0 | u64::from(cd_max) << 59;
    let w1 = 2 | 1 << 2 | 1 << 4 | 3 << 6 | 1 << 27 | 1 << 28 | 1 << 44;
    store(entry, [w0, w1, 0, 0, 0, 0, 0, 0])
}

#[library_benchmark]
#[bench::one(&ENTRY, Vmid(3), 24, PhysAddr(0x4000_1000), OutputSize::Bits44)]
fn ste_stage2_typed(
    entry: &SteMemory,
    vmid: Vmid,
    t0sz: u8,
    table: PhysAddr,
    output_size: OutputSize,
) -> bool {
    let stage2 = Stage2Config {
        vmid,
        t0sz,
        start_level: 1,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule: Granule::K4,
        output_size,
        table,
        forced_write_back: false,
        protected_walk: true,
        stall: false,
        record: true,
    };
    match Ste::stage2(stage2, AtsMode::Off, ShareabilityOverride::Incoming) {
        Ok(ste) => store(entry, ste.0),
        Err(_) => false,
    }
}

#[library_benchmark]
#[bench::one(&ENTRY, Vmid(3), 24, PhysAddr(0x4000_1000), OutputSize::Bits44)]
fn ste_stage2_packed(
    entry: &SteMemory,
    vmid: Vmid,
    t0sz: u8,
    table: PhysAddr,
    output_size: OutputSize,
) -> bool {
    if table.0 & !0x000f_ffff_ffff_fff0 != 0 || t0sz > 63 {
        return false;
    }
    let w2 = u64::from(vmid.0)
        | u64::from(t0sz) << 32
        | 1 << 38
        | 1 << 40
        | 1 << 42
        | 3 << 44
        | (output_size as u64) << 48
        | 1 << 51
        | 1 << 54
        | 1 << 58;
    store(entry, [1 | 6 << 1, 1 << 44, w2, table.0, 0, 0, 0, 0])
}

#[library_benchmark]
#[bench::one(&ENTRY, Asid(0x7cd), 16, PhysAddr(0x4000_1000), OutputSize::Bits44, 0x0000_00ff_4404_0000)]
fn cd_typed(
    entry: &SteMemory,
    asid: Asid,
    t0sz: u8,
    table: PhysAddr,
    output_size: OutputSize,
    mair: u64,
) -> bool {
    let config = Stage1Config {
        asid,
        t0sz,
        granule: Granule::K4,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        output_size,
        table,
        mair,
        stall: false,
    };
    match Cd::stage1(config) {
        Ok(cd) => store(entry, cd.0),
        Err(_) => false,
    }
}

#[library_benchmark]
#[bench::one(&ENTRY, Asid(0x7cd), 16, PhysAddr(0x4000_1000), OutputSize::Bits44, 0x0000_00ff_4404_0000)]
fn cd_packed(
    entry: &SteMemory,
    asid: Asid,
    t0sz: u8,
    table: PhysAddr,
    output_size: OutputSize,
    mair: u64,
) -> bool {
    if table.0 & !0x000f_ffff_ffff_fff0 != 0 || t0sz > 63 {
        return false;
    }
    let w0 = u64::from(t0sz)
        | 1 << 8
        | 1 << 10
        | 3 << 12
        | 1 << 30
        | 1 << 31
        | (output_size as u64) << 32
        | 1 << 41
        | 7 << 45
        | u64::from(asid.0) << 48;
    store(entry, [w0, table.0, 0, mair, 0, 0, 0, 0])
}

const EVENT: [u64; 4] = [0x8_0000_5810, 0x0000_0208_0000_0000, 0x1234_5678, 0];

/// The first questions of a fault handler.
type Fault = (u8, u32, Option<u32>, u64, bool);

#[library_benchmark]
#[bench::one(EVENT)]
fn event_typed(words: [u64; 4]) -> Fault {
    let record = EventRecord(words);
    let substream = record.substream().map(SubstreamId::get);
    (record.kind().0, record.stream().0, substream, record.address().0, record.is_read())
}

#[library_benchmark]
#[bench::one(EVENT)]
fn event_packed(words: [u64; 4]) -> Fault {
    let [w0, w1, address, _] = words;
    // Some kinds have no SubstreamID, and one kind always has it.
    let substream = match w0 as u8 {
        0x06 | 0x07 => None,
        kind if kind == 0x08 || w0 & 1 << 11 != 0 => Some(w0 as u32 >> 12),
        _ => None,
    };
    (w0 as u8, (w0 >> 32) as u32, substream, address, w1 >> 35 & 1 != 0)
}

library_benchmark_group!(
    name = encoders,
    benchmarks = [
        tlbi_nh_va_typed,
        tlbi_nh_va_packed,
        tlbi_range_typed,
        tlbi_range_packed,
        atc_inv_typed,
        atc_inv_packed,
        cfgi_ste_typed,
        cfgi_ste_packed,
        sync_typed,
        sync_packed,
        ste_stage1_typed,
        ste_stage1_packed,
        ste_stage2_typed,
        ste_stage2_packed,
        cd_typed,
        cd_packed
    ]
);

library_benchmark_group!(name = decoders, benchmarks = [event_typed, event_packed]);

main!(library_benchmark_groups = [encoders, decoders]);
