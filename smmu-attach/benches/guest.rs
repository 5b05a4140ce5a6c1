//! Times of the guest policy, each beside the baseline of the same run.
//!
//!     cargo bench -p smmu-attach --bench guest

use std::hint::black_box;

use smmu_attach::guest::*;
use smmu_measure::{BenchTable, nanoseconds};
use smmu_types::fake::ID_REGISTERS;
use smmu_types::legal::SmmuView;
use smmu_types::range::{Level, LevelHint, Span};
use smmu_types::*;

const COMMANDS: u64 = 64;

#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn parent() -> Ste {
    let stage2 = Stage2Config {
        vmid: Vmid(7),
        t0sz: 20,
        start_level: 2,
        inner: Cacheability::WriteBack,
        outer: Cacheability::WriteBack,
        shareability: Shareability::Inner,
        granule: Granule::K4,
        output_size: OutputSize::Bits44,
        table: PhysAddr(0x8000_0000),
        forced_write_back: false,
        protected_walk: true,
        stall: false,
        record: true,
    };
    Ste::stage2(stage2, AtsMode::Off, ShareabilityOverride::NonShareable).unwrap()
}

/// A batch of [`COMMANDS`] commands.
fn batch(command: impl Fn(u64) -> Command) -> Vec<RawCommand> {
    (0..COMMANDS).map(|n| command(n).encode()).collect()
}

/// A guest's StreamIDs as of PCI devices, some with a function that is not 0.
const fn functions(n: u32) -> u32 {
    n * 8 + n % 3
}

/// A guest's StreamIDs of distances that differ a lot.
const fn scattered(n: u32) -> u32 {
    n * n * 8
}

/// Nanoseconds of one command of a batch.
fn translate<M: StreamMap + ?Sized>(smmu: &GuestSmmu, map: &M, batch: &[RawCommand]) -> f64 {
    let mut out = vec![RawCommand::default(); COMMANDS as usize];
    nanoseconds(COMMANDS, || {
        let progress = smmu.commands(black_box(batch), black_box(map), &mut out);
        assert_eq!(black_box(progress).done, COMMANDS as usize);
        black_box(&mut out);
    })
}

#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn main() {
    let host = IdRegisters { idr0: ID_REGISTERS.idr0 | 1 << 10, ..ID_REGISTERS };
    let mut emulation = Emulation::new(OutputSize::Bits44);
    emulation.ats = true;
    let ids = guest_ids(&[host], &emulation).unwrap();
    let smmu = GuestSmmu::new(SmmuView::new(host), ids, parent()).unwrap();
    let guest = Ste([0x4000_000b, 0x1000_00d6, 0, 0, 0, 0, 0, 0]);
    let entry = smmu.entry(&guest, AtsPermission::Allowed).unwrap();
    let streams: Vec<StreamId> = (0x100..0x500).map(StreamId).collect();
    let devices = |count: usize, stream: fn(u32) -> u32| -> Vec<VirtualDevice<'_>> {
        let rows = streams.chunks(1).take(count).zip(0..);
        rows.map(|(host, n)| VirtualDevice { guest: StreamId(stream(n)), host, entry }).collect()
    };

    let single = |n: u64| Command::TlbiNhVa {
        vmid: Vmid(0),
        asid: Asid(3),
        span: Span::single(Iova(n << 12), Leaf::Last).unwrap(),
    };
    let level = LevelHint::Bits64(Level::L3);
    let ranged = |n: u64| Command::TlbiNhVa {
        vmid: Vmid(0),
        asid: Asid(3),
        span: Span::ranged(Iova(n << 20), Leaf::Last, Granule::K4, 31, 3, level).unwrap(),
    };
    let asid = |n: u64| Command::TlbiNhAsid { vmid: Vmid(0), asid: Asid(n as u16) };
    let cd = |stream: u32, _: u64| Command::CfgiCd {
        stream: StreamId(stream),
        substream: SubstreamId::default(),
        leaf: Leaf::Last,
    };
    let atc = |stream: u32, n: u64| Command::AtcInv {
        stream: StreamId(stream),
        substream: None,
        scope: AtcScope::Substream,
        span: AtcSpan::new(Iova(n << 12), 0).unwrap(),
    };
    let mut table = BenchTable::new("one of 64 commands of a guest");
    let plain = batch(ranged);
    let mut copies = vec![RawCommand::default(); COMMANDS as usize];
    let recoded = nanoseconds(COMMANDS, || {
        for (place, raw) in copies.iter_mut().zip(black_box(&plain)) {
            *place = Command::interpret(*raw).encode();
        }
        black_box(&mut copies);
    });
    let least = "decode and encode";
    table.row("decode and encode a TLBI_NH_VA with a range", recoded);
    let few = devices(16, functions);
    let map = SortedDevices::new(&few).unwrap();
    let mut row = |name: &str, time: f64| {
        table.row(name, time).bar(10.0).against(least, recoded);
    };
    row("TLBI_NH_VA with a range", translate(&smmu, &map, &plain));
    row("TLBI_NH_VA of one page", translate(&smmu, &map, &batch(single)));
    row("TLBI_NH_ASID", translate(&smmu, &map, &batch(asid)));
    // The devices in an order that no branch predictor learns.
    let each = |count: u32, stream: fn(u32) -> u32, command: fn(u32, u64) -> Command| {
        batch(move |n| command(stream(n as u32 * 619 % count), n))
    };
    row("CFGI_CD, 16 devices", translate(&smmu, &map, &each(16, functions, cd)));
    row("ATC_INV, 16 devices", translate(&smmu, &map, &each(16, functions, atc)));
    let all = batch(|n| match n % 5 {
        0 => single(n),
        1 => ranged(n),
        2 => asid(n),
        3 => cd(functions(n as u32 % 16), n),
        _ => atc(functions(n as u32 % 16), n),
    });
    row("all five in turn, 16 devices", translate(&smmu, &map, &all));
    let many = devices(1024, functions);
    let many = SortedDevices::new(&many).unwrap();
    row("CFGI_CD, 1,024 devices", translate(&smmu, &many, &each(1024, functions, cd)));
    // A map that searches.
    for (name, count) in [
        ("CFGI_CD, 16 devices, StreamIDs far apart", 16),
        ("CFGI_CD, 1,024 devices, StreamIDs far apart", 1024),
    ] {
        let devices = devices(count, scattered);
        let map = SortedDevices::new(&devices).unwrap();
        let searched = translate(&smmu, &map, &each(count as u32, scattered, cd));
        table.row(name, searched).against(least, recoded);
    }
    let slice = translate(&smmu, &few[..], &each(16, functions, cd));
    table.row("CFGI_CD, 16 devices, a slice in any order", slice).against(least, recoded);
    println!("{table}");

    let mut table = BenchTable::new("one STE, one event");
    let judged = nanoseconds(1, || {
        black_box(smmu.entry(black_box(&guest), AtsPermission::Allowed).is_ok());
    });
    table.row("a guest's STE of stage 1", judged);
    let fault = EventRecord::new(EventKind::F_TRANSLATION, StreamId(0x10f));
    let told = nanoseconds(1, || {
        black_box(smmu.event(black_box(&fault), &map));
    });
    table.row("an event of stage 1", told);
    println!("{table}");
}
