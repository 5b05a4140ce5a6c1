//! Times of attaches, each beside the baseline of the same run: the smallest attach there is.
//!
//!     cargo bench -p smmu-attach

use std::hint::black_box;

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, InvArray};
use smmu_measure::{BenchTable, nanoseconds, nanoseconds_threads};
use smmu_types::fake::{HeapWindow, ID_REGISTERS, InstantSink, Pool, heap_pool};
use smmu_types::*;

const OPERATIONS: u64 = 2_000;

struct BenchPlatform;
impl Platform for BenchPlatform {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = InstantSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

const S1: TableDescription =
    TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0x8000_0000));

/// Attach to the domain and block again.
fn pair(device: &Device<BenchPlatform>, domain: &Domain<BenchPlatform>) {
    black_box(device.attach(domain).is_ok());
    let _ = black_box(device.block());
}

#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn main() {
    let env = Env::<BenchPlatform>::new(heap_pool(16 << 20), InstantSink, ()).unwrap();
    let caps = Capabilities::decode(ID_REGISTERS);
    let smmu = Smmu::new(&env, SmmuId(0), ID_REGISTERS, caps, SmmuConfig::default()).unwrap();
    let other = Smmu::new(&env, SmmuId(1), ID_REGISTERS, caps, SmmuConfig::default()).unwrap();
    let device = |streams: &[u32]| {
        let streams: Vec<_> = streams.iter().copied().map(StreamId).collect();
        smmu.add_device(&streams).unwrap()
    };
    let domain = |id: u32| Domain::new(&env, DomainId(id), S1).unwrap();
    let times = |device: &Device<BenchPlatform>, domain: &Domain<BenchPlatform>| {
        nanoseconds(OPERATIONS, || (0..OPERATIONS).for_each(|_| pair(device, domain)))
    };

    let mut table = BenchTable::new("attach and block, with a sink that confirms at once");
    let one = device(&[0]);
    let bypass = nanoseconds(OPERATIONS, || {
        for _ in 0..OPERATIONS {
            black_box(one.bypass().is_ok());
            let _ = black_box(one.block());
        }
    });
    let least = "bypass and block";
    table.row("bypass and block, which need no tag", bypass);

    let (shared, kept) = (domain(1), device(&[1]));
    let _ = kept.attach(&shared).unwrap();
    table.row("stage 1, tag found", times(&one, &shared)).bar(1500.0).against(least, bypass);
    let fresh = domain(2);
    table
        .row("stage 1, tag allocated and flushed", times(&one, &fresh))
        .bar(2000.0)
        .against(least, bypass);
    let many = device(&(1000..1064).collect::<Vec<_>>());
    table.row("stage 1, 64 streams, tag found", times(&many, &shared)).against(least, bypass);
    println!("{table}");

    let mut table = BenchTable::new("two threads, each with its device and domain");
    let two = |smmus: [&Smmu<BenchPlatform>; 2], first: u32| -> Vec<_> {
        let pair = |n: usize| {
            let device = smmus[n].add_device(&[StreamId(first + n as u32)]).unwrap();
            (device, domain(first + n as u32))
        };
        (0..2).map(pair).collect()
    };
    let threads = |count: usize, mine: &[(Device<BenchPlatform>, Domain<BenchPlatform>)]| {
        nanoseconds_threads(count, OPERATIONS, |thread| {
            (0..OPERATIONS).for_each(|_| pair(&mine[thread].0, &mine[thread].1));
        })
    };
    let (shared, apart) = (two([&smmu, &smmu], 20), two([&other, &smmu], 30));
    let alone = threads(1, &shared);
    table.row("one thread", alone);
    // What two threads of this machine reach when they share no SMMU and no tag space.
    table.row("two threads, an SMMU each", threads(2, &apart)).against("one thread", alone);
    let both = threads(2, &shared);
    table.row("two threads, one SMMU", both).against_at_least("one thread", alone, 1.2);
    println!("{table}");

    substreams(&env);
    groups(&env);
    deferred(&env);
}

/// 256 unmaps of 4 KiB: one by one, as one range, and by one flush. For each unmap.
#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn deferred(env: &Env<BenchPlatform>) {
    const UNMAPS: u64 = 256;
    let caps = Capabilities::decode(ID_REGISTERS);
    for (first, smmus) in [(48, 1), (64, 16)] {
        let domain = Domain::new(env, DomainId(300), S1).unwrap();
        let config = || SmmuConfig::default().with_stream_bits(4);
        let smmu = |n| Smmu::new(env, SmmuId(n), ID_REGISTERS, caps, config()).unwrap();
        let smmus: Vec<_> = (first..first + smmus).map(smmu).collect();
        let devices: Vec<_> =
            smmus.iter().map(|smmu| smmu.add_device(&[StreamId(0)]).unwrap()).collect();
        for device in &devices {
            let _ = device.attach(&domain).unwrap();
        }
        let page = |n: u64| {
            range::Extent::range(n * 0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint()
        };
        let what = format!("256 unmaps of a domain on {} SMMUs, for each unmap", smmus.len());
        let mut table = BenchTable::new(&what);
        let strict = nanoseconds(UNMAPS, || {
            for n in 0..UNMAPS {
                black_box(domain.invalidate(page(n)).is_ok());
            }
        });
        table.row(&format!("one by one: {} syncs", UNMAPS * smmus.len() as u64), strict);
        let mut unmaps = DeferredUnmaps::with_capacity(&domain, UNMAPS as usize).unwrap();
        for (what, step) in [("as one range", 1), ("by one flush of the tag", 7)] {
            let time = nanoseconds(UNMAPS, || {
                for n in 0..UNMAPS {
                    let _ = black_box(unmaps.defer(page(n * step % UNMAPS), n));
                }
                black_box(unmaps.flush().unwrap().count());
            });
            table.row(&format!("{what}: {} syncs", smmus.len()), time).against("strict", strict);
        }
        println!("{table}");
        drop(unmaps);
        for device in &devices {
            let _ = device.block();
        }
    }
}

/// One substream beside others of the same device.
#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn substreams(env: &Env<BenchPlatform>) {
    let registers = IdRegisters {
        idr0: ID_REGISTERS.idr0 | 1 << 19,
        idr1: ID_REGISTERS.idr1 | 20 << 6,
        ..ID_REGISTERS
    };
    let caps = Capabilities::decode(registers);
    let config = SmmuConfig::default().with_stream_bits(4);
    let smmu = Smmu::new(env, SmmuId(2), registers, caps, config).unwrap();
    let domain = Domain::new(env, DomainId(100), S1).unwrap();
    let mut table =
        BenchTable::new("attach and block of a substream, tag found, 16 SubstreamID bits");
    let mut least = 0.0;
    for (stream, live) in [(0, 1), (1, 64), (2, 1024), (3, 4096)] {
        let config = DeviceConfig::default().with_substream_bits(16);
        let device = smmu.add_device_with(&[StreamId(stream)], config).unwrap();
        let substream = |n: u32| device.substream(SubstreamId::new(n).unwrap()).unwrap();
        for n in 0..live {
            let _ = substream(2 * n + 1).attach(&domain).unwrap();
        }
        let between = substream(live & !1 | 2);
        let time = nanoseconds(OPERATIONS, || {
            for _ in 0..OPERATIONS {
                black_box(between.attach(&domain).is_ok());
                let _ = black_box(between.block());
            }
        });
        let row = table.row(&format!("beside {live} live substreams"), time);
        if live == 1 {
            least = time;
        } else {
            row.against("beside one", least);
        }
        let _ = device.block_all();
    }
    println!("{table}");
}

/// Devices behind 16 SMMUs attach to one domain: one after another, and as a group.
#[expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
fn groups(env: &Env<BenchPlatform>) {
    const SMMUS: u32 = 16;
    let caps = Capabilities::decode(ID_REGISTERS);
    let config = || SmmuConfig::default().with_stream_bits(10);
    let smmu = |n| Smmu::new(env, SmmuId(n), ID_REGISTERS, caps, config()).unwrap();
    let smmus: Vec<_> = (16..16 + SMMUS as u16).map(smmu).collect();
    let device = |n: u32| smmus[(n % SMMUS) as usize].add_device(&[StreamId(n / SMMUS)]).unwrap();
    let devices: Vec<_> = (0..16_384).map(device).collect();
    let domain = Domain::new(env, DomainId(200), S1).unwrap();
    let mut table = BenchTable::new(
        "attach and block of n devices of one domain behind 16 SMMUs, for each device",
    );
    for n in [16, 256, 4096, 16_384] {
        let members = &devices[..n];
        let alone = nanoseconds(n as u64, || {
            for device in members {
                black_box(device.attach(&domain).is_ok());
            }
            for device in members {
                let _ = black_box(device.block());
            }
        });
        table.row(&format!("{n} devices, one after another"), alone);
        let group = Group::new(members).unwrap();
        let together = nanoseconds(n as u64, || {
            black_box(group.attach(&domain).is_ok());
            let _ = black_box(group.block());
        });
        table.row(&format!("{n} devices as a group"), together).against("alone", alone);
    }
    println!("{table}");
}
