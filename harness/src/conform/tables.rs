//! STEs and CDs, and streams that use them.

use smmu_types::range::Span;
use smmu_types::{
    Asid, AtsMode, Cacheability, Cd, Command, EventClass, EventKind, EventRecord, FieldError,
    Granule, Iova, Ipa, Leaf, OutputSize, PhysAddr, Shareability, ShareabilityOverride,
    Stage1Config, Stage2Config, Ste, StreamWorld, SubstreamDefault, SubstreamId, TableConfig, Vmid,
};

use super::bench::{Bench, smmu_of, stream_of};
use super::ended::Checked;
use super::pages::Tables;

/// An input address of stage 1 that most checks use.
pub(super) const IOVA: u64 = 0x5000_0000;
/// Where nested checks put pages between the stages.
pub(super) const ALIAS: u64 = 0x10_0000_0000;
/// An ASID, and another one. They fit 8 bits.
pub(super) const ASID: u16 = 5;
pub(super) const OTHER_ASID: u16 = 6;
pub(super) const VMID: u16 = 3;
pub(super) const OTHER_VMID: u16 = 4;

/// The largest output size that tables of 4 KiB pages have here.
pub(super) fn output_size(bench: &Bench) -> OutputSize {
    match bench.caps.output_size {
        Some(size) if size.bits() <= 48 => size,
        _ => OutputSize::Bits48,
    }
}

/// A CD that translates by `TTB0`.
pub(super) fn cd(bench: &Bench, asid: u16, tables: &Tables) -> Checked<Cd> {
    Ok(Cd::stage1(Stage1Config {
        asid: Asid(asid),
        t0sz: (64 - tables.input_bits) as u8,
        granule: tables.granule,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        output_size: output_size(bench),
        table: PhysAddr(tables.root),
        mair: 0xff,
        stall: false,
    })?)
}

/// An STE of stage 1, with one CD.
pub(super) fn stage1_ste(cd: u64) -> Checked<Ste> {
    let table = TableConfig {
        format: 0,
        context: PhysAddr(cd),
        cd_max: 0,
        substream_default: SubstreamDefault::Terminate,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        stall_disable: false,
        world: StreamWorld::El1,
    };
    Ok(Ste::stage1(table, AtsMode::Off, ShareabilityOverride::Incoming)?)
}

/// An STE of stage 2.
pub(super) fn stage2_ste(bench: &Bench, vmid: u16, tables: &Tables) -> Checked<Ste> {
    let start_level = match (tables.granule, tables.start_level) {
        (Granule::K4, level) => 2_u32.saturating_sub(level),
        (_, level) => 3_u32.saturating_sub(level),
    };
    let stage2 = Stage2Config {
        vmid: Vmid(vmid),
        t0sz: (64 - tables.input_bits) as u8,
        start_level: start_level as u8,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule: tables.granule,
        output_size: output_size(bench),
        table: PhysAddr(tables.root),
        forced_write_back: false,
        protected_walk: false,
        stall: false,
        record: true,
    };
    Ok(Ste::stage2(stage2, AtsMode::Off, ShareabilityOverride::Incoming)?)
}

/// An STE of both stages. Each field of an STE belongs to one stage, or is alike in both.
pub(super) fn nested_ste(one: Ste, two: Ste) -> Ste {
    let mut both = one;
    for (to, from) in both.0.iter_mut().zip(two.0) {
        *to |= from;
    }
    both
}

/// The address of the STE of a device.
pub(super) fn ste_of(bench: &Bench, device: usize) -> u64 {
    bench.stream_table(smmu_of(device)) + 64 * u64::from(stream_of(device).0)
}

/// Writes the STE of a device, and tells the SMMU.
pub(super) fn set_ste(bench: &mut Bench, device: usize, ste: Ste) -> Checked {
    bench.put_all(ste_of(bench, device), &ste.0);
    bench.send(smmu_of(device), &[cfgi_ste(device)])
}

/// A stream of stage 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) device: usize,
    pub(super) cd: u64,
    pub(super) tables: Tables,
}

/// A device with stage 1 and an empty tree for 39 bits. The SMMU is on.
pub(super) fn stage1(bench: &mut Bench, device: usize, asid: u16) -> Checked<Context> {
    let tables = Tables::new(bench, Granule::K4, 39)?;
    stage1_with(bench, device, asid, tables)
}

/// A device with stage 1 and a tree.
pub(super) fn stage1_with(
    bench: &mut Bench,
    device: usize,
    asid: u16,
    tables: Tables,
) -> Checked<Context> {
    let words = cd(bench, asid, &tables)?;
    let cd = bench.allocate(64)?;
    bench.put_all(cd, &words.0);
    let ste = stage1_ste(cd)?;
    set_ste(bench, device, ste)?;
    Ok(Context { device, cd, tables })
}

/// Changes the CD of a stream, and tells the SMMU.
pub(super) fn change_cd(
    bench: &mut Bench,
    context: &Context,
    change: impl FnOnce(Cd) -> Result<Cd, FieldError>,
) -> Checked {
    let mut words = [0; 8];
    for (n, word) in (0u64..).zip(&mut words) {
        *word = bench.get(context.cd + 8 * n);
    }
    let changed = change(Cd(words))?;
    bench.put_all(context.cd, &changed.0);
    bench.send(smmu_of(context.device), &[cfgi_cd(context.device)])
}

/// A device with stage 2 and an empty tree for 39 bits.
pub(super) fn stage2(bench: &mut Bench, device: usize, vmid: u16) -> Checked<Tables> {
    let tables = Tables::from_level(bench, Granule::K4, 39, 1)?;
    stage2_with(bench, device, vmid, tables)?;
    Ok(tables)
}

pub(super) fn stage2_with(bench: &mut Bench, device: usize, vmid: u16, tables: Tables) -> Checked {
    let ste = stage2_ste(bench, vmid, &tables)?;
    set_ste(bench, device, ste)
}

/// A stream of both stages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nested {
    pub(super) one: Context,
    pub(super) two: Tables,
}

/// A device with both stages. Stage 2 leaves RAM where it is.
pub(super) fn nested(bench: &mut Bench, device: usize, asid: u16, vmid: u16) -> Checked<Nested> {
    let two = Tables::from_level(bench, Granule::K4, 39, 1)?;
    two.map_ram(bench)?;
    let tables = Tables::new(bench, Granule::K4, 39)?;
    let words = cd(bench, asid, &tables)?;
    let cd = bench.allocate(64)?;
    bench.put_all(cd, &words.0);
    let ste = nested_ste(stage1_ste(cd)?, stage2_ste(bench, vmid, &two)?);
    set_ste(bench, device, ste)?;
    Ok(Nested { one: Context { device, cd, tables }, two })
}

pub(super) fn cfgi_ste(device: usize) -> Command {
    Command::CfgiSte { stream: stream_of(device), leaf: Leaf::Last }
}

pub(super) fn cfgi_cd(device: usize) -> Command {
    let substream = SubstreamId::default();
    Command::CfgiCd { stream: stream_of(device), substream, leaf: Leaf::Last }
}

pub(super) fn nh_va(vmid: u16, asid: u16, va: u64, leaf: Leaf) -> Checked<Command> {
    let span = Span::single(Iova(va), leaf)?;
    Ok(Command::TlbiNhVa { vmid: Vmid(vmid), asid: Asid(asid), span })
}

pub(super) fn nh_vaa(vmid: u16, va: u64, leaf: Leaf) -> Checked<Command> {
    Ok(Command::TlbiNhVaa { vmid: Vmid(vmid), span: Span::single(Iova(va), leaf)? })
}

pub(super) const fn nh_asid(vmid: u16, asid: u16) -> Command {
    Command::TlbiNhAsid { vmid: Vmid(vmid), asid: Asid(asid) }
}

pub(super) const fn nh_all(vmid: u16) -> Command {
    Command::TlbiNhAll { vmid: Vmid(vmid) }
}

pub(super) const fn s12_vmall(vmid: u16) -> Command {
    Command::TlbiS12Vmall { vmid: Vmid(vmid) }
}

pub(super) fn s2_ipa(vmid: u16, ipa: u64, leaf: Leaf) -> Checked<Command> {
    Ok(Command::TlbiS2Ipa { vmid: Vmid(vmid), span: Span::single(Ipa(ipa), leaf)? })
}

/// A fault of stage 1 at the input address of a write of device 0.
pub(super) fn s1(kind: EventKind, iova: u64) -> EventRecord {
    let event = EventRecord::new(kind, stream_of(0)).with_access(Iova(iova), false);
    event.with_class(EventClass::In)
}

/// A fault of stage 2 alone.
pub(super) fn s2(kind: EventKind, iova: u64) -> EventRecord {
    s2_at(kind, iova, iova)
}

/// A fault of stage 2 at an IPA.
pub(super) fn s2_at(kind: EventKind, iova: u64, ipa: u64) -> EventRecord {
    s1(kind, iova).with_stage2(Ipa(ipa & !0xfff))
}
