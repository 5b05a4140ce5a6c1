//! HeapPlatform memory: each allocation of each operation fails once, and what must not allocate does not.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unsafe_code, reason = "implements an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell as ThreadCell;

use smmu_attach::*;
use smmu_invs::{InvArray, LockCell};
use smmu_types::fake::{HeapWindow, ID_REGISTERS, InstantSink, Pool, heap_pool};
use smmu_types::seam::{CommandSink, SinkError, SyncProof};
use smmu_types::*;

#[path = "attach/adopt_bytes.rs"]
mod adopt_bytes;

thread_local! {
    /// Allocations of this thread until one fails; 0 counts on below.
    static LEFT: ThreadCell<i64> = const { ThreadCell::new(i64::MAX) };
    /// Bytes that this thread has allocated and not freed.
    static HELD: ThreadCell<i64> = const { ThreadCell::new(0) };
}

struct NthFailingAllocator;

// SAFETY: all memory is the system's; an allocation may fail.
unsafe impl GlobalAlloc for NthFailingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let left = LEFT.get() - 1;
        LEFT.set(left);
        if left == 0 {
            return std::ptr::null_mut();
        }
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the caller's promise; all memory came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: NthFailingAllocator = NthFailingAllocator;

/// Run `run` while allocation number `n` of it fails. Returns its result and its allocations.
fn failing<T>(n: i64, run: impl FnOnce() -> T) -> (T, i64) {
    LEFT.set(n);
    let result = run();
    let left = LEFT.replace(i64::MAX);
    (result, n - left)
}

thread_local! {
    /// How many waits the SMMU confirms before it is dead.
    static CONFIRMS: ThreadCell<u32> = const { ThreadCell::new(u32::MAX) };
}

/// Runs `run` while the SMMU confirms only the first `waits` waits.
fn dead_after<T>(waits: u32, run: impl FnOnce() -> T) -> T {
    CONFIRMS.set(waits);
    let result = run();
    CONFIRMS.set(u32::MAX);
    result
}

/// A sink that confirms at once, until the SMMU is dead.
struct SwitchedSink;

impl CommandSink for SwitchedSink {
    type Ticket = SmmuId;
    type Pushed = SmmuId;

    fn issue(&self, smmu: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        InstantSink.issue(smmu, commands)
    }
    fn push(
        &self,
        smmu: SmmuId,
        pushed: Option<SmmuId>,
        commands: &[Command],
    ) -> Result<SmmuId, SinkError> {
        InstantSink.push(smmu, pushed, commands)
    }
    fn prove(&self, pushed: SmmuId, commands: &[Command]) -> Result<SmmuId, SinkError> {
        InstantSink.prove(pushed, commands)
    }
    fn wait(&self, ticket: SmmuId) -> Result<SyncProof, SinkError> {
        match CONFIRMS.get().checked_sub(1) {
            None => Err(SinkError::timeout(ticket)),
            Some(left) => {
                CONFIRMS.set(left);
                InstantSink.wait(ticket)
            }
        }
    }
}

struct HeapPlatform;
impl Platform for HeapPlatform {
    type Lock = parking_lot::RawMutex;
    type SleepLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = SwitchedSink;
    type Cell = LockCell<parking_lot::RawMutex, InvArray>;
    type Observer = ();
    type Tables = TableDescription;
    type Ats = ();
}

const TABLES: TableDescription =
    TableDescription::new(TranslationStage::Stage1 { mair: 0xff }, PhysAddr(0x8000_0000));

struct OneSmmu {
    env: Env<HeapPlatform>,
    smmu: Smmu<HeapPlatform>,
}

impl OneSmmu {
    fn new() -> Self {
        let env = Env::new(heap_pool(4 << 20), SwitchedSink, ()).unwrap();
        let registers = IdRegisters { idr1: ID_REGISTERS.idr1 | 20 << 6, ..ID_REGISTERS };
        let caps = Capabilities::decode(registers);
        let smmu = Smmu::new(&env, SmmuId(0), registers, caps, SmmuConfig::default()).unwrap();
        OneSmmu { env, smmu }
    }
    fn device(&self, stream: u32) -> Device<HeapPlatform> {
        let config = DeviceConfig::default().with_substream_bits(4);
        self.smmu.add_device_with(&[StreamId(stream)], config).unwrap()
    }
    fn domain(&self, id: u32) -> Domain<HeapPlatform> {
        Domain::new(&self.env, DomainId(id), TABLES).unwrap()
    }
}

/// Fails each allocation of `run` in turn, each time on what `make` makes. Returns their number.
fn each<B, T, E>(
    make: impl Fn() -> B,
    run: impl Fn(&B) -> Result<T, E>,
    check: impl Fn(&B),
) -> i64 {
    for n in 1.. {
        let bench = make();
        let (result, allocations) = failing(n, || run(&bench));
        if result.is_ok() {
            assert!(allocations < n, "allocation {n} failed without an error");
            return allocations;
        }
        assert!(allocations >= n, "an error without a failed allocation");
        drop(result);
        check(&bench);
        let (again, _) = failing(i64::MAX, || run(&bench));
        assert!(again.is_ok(), "after allocation {n} failed, nothing works");
    }
    unreachable!()
}

#[test]
fn every_shortage_is_an_error_that_leaves_no_trace() {
    let env = || heap_pool(1 << 16);
    assert!(
        each(env, |pool| Env::<HeapPlatform>::new(pool.clone(), SwitchedSink, ()), |_| ()) == 1
    );

    let caps = Capabilities::decode(ID_REGISTERS);
    let smmu = |env: &Env<HeapPlatform>| {
        Smmu::new(env, SmmuId(0), ID_REGISTERS, caps, SmmuConfig::default())
    };
    let env = || Env::new(heap_pool(1 << 20), SwitchedSink, ()).unwrap();
    let smmus = each(env, smmu, |_| ());
    assert!(smmus >= 7, "the table, two for each tag space, and two of its own: {smmus}");

    let domains = each(OneSmmu::new, |b| Domain::new(&b.env, DomainId(1), TABLES), |_| ());
    assert!(domains >= 2, "{domains}");

    let streams: Vec<_> = (0..4).map(|n| StreamId(n << 8)).collect();
    let devices = each(
        OneSmmu::new,
        |b| b.smmu.add_device(&streams),
        |b| {
            assert!(streams.iter().all(|stream| b.smmu.device_of(*stream).is_none()));
        },
    );
    assert!(devices >= 8, "{devices}");

    let attached = || {
        let bench = OneSmmu::new();
        let (device, domain) = (bench.device(8), bench.domain(1));
        (bench, device, domain)
    };
    let attach = each(
        attached,
        |(_, device, domain)| device.attach(domain),
        |(bench, device, domain)| {
            assert!(matches!(device.attachment(), Attachment::Blocked));
            let stats = bench.smmu.asids().stats();
            assert_eq!((stats.free, domain.tag_on(SmmuId(0))), (stats.capacity, None));
        },
    );
    assert!(attach >= 5, "{attach}");

    let second = || {
        let (bench, device, domain) = attached();
        let other = bench.domain(2);
        assert_eq!(device.attach(&domain), Ok(Outcome::Done));
        (bench, device, domain, other)
    };
    let moved = each(
        second,
        |(.., device, _, other)| device.attach(other),
        |(.., device, domain, _)| {
            assert!(matches!(device.attachment(), Attachment::Domain(d) if d.is_same(domain)));
        },
    );
    assert!(moved >= 4, "{moved}");

    let substream = each(
        second,
        |(.., device, _, other)| substream(device, 1).attach(other),
        |(.., device, domain, other)| {
            assert!(matches!(device.attachment(), Attachment::Domain(d) if d.is_same(domain)));
            assert!(matches!(substream(device, 1).attachment(), Attachment::Blocked));
            assert_eq!(other.tag_on(SmmuId(0)), None);
        },
    );
    assert!(substream >= 5, "{substream}");
}

/// A group is attached as a whole or not at all, and blocked without memory too.
#[test]
fn every_shortage_of_a_group_leaves_no_trace() {
    let make = || {
        let bench = OneSmmu::new();
        let devices: Vec<_> = (8..13).map(|n| bench.device(n)).collect();
        let group = Group::new(&devices).unwrap();
        let [old, new] = [1, 2].map(|n| bench.domain(n));
        assert_eq!(devices[0].attach(&old), Ok(Outcome::Done));
        (bench, devices, group, old, new)
    };
    let groups = each(make, |(_, devices, ..)| Group::new(devices), |_| ());
    assert_eq!(groups, 1);
    let attaches = each(
        make,
        |(_, _, group, _, new)| group.attach(new),
        |(bench, devices, _, old, new)| {
            assert!(matches!(devices[0].attachment(), Attachment::Domain(d) if d.is_same(old)));
            for device in &devices[1..] {
                assert!(matches!(device.attachment(), Attachment::Blocked));
            }
            assert!(new.array().is_empty());
            assert_eq!(bench.smmu.asids().stats().in_use, 1);
        },
    );
    assert!(attaches >= 15, "{attaches}");
    for n in 1.. {
        let (bench, devices, group, old, new) = make();
        assert_eq!(group.attach(&new), Ok(Outcome::Freed(old_tag())));
        let (outcome, allocations) = failing(n, || group.block());
        assert_eq!(outcome.settled(), Ok(()), "allocation {n}");
        assert!(devices.iter().all(|device| matches!(device.attachment(), Attachment::Blocked)));
        assert_eq!(bench.smmu.asids().stats().in_use, 0);
        drop(old);
        if allocations < n {
            break;
        }
    }
    // After `prepare`, a group allocates nothing.
    let (_bench, _devices, group, _old, new) = make();
    let prepared = group.prepare(Target::Domain(&new)).unwrap();
    let (outcome, allocations) = failing(1, || prepared.publish().install().commit());
    assert_eq!((outcome.settled(), allocations), (Ok(()), 0));
}

#[cfg(feature = "guest")]
#[test]
fn every_shortage_of_a_virtual_smmu_leaves_no_trace() {
    use smmu_attach::guest::*;
    let host = || {
        let bench = OneSmmu::new();
        let stage = TranslationStage::Stage2 { start_level: 1 };
        let tables = TableDescription::new(stage, PhysAddr(0x8000_0000));
        let parent = Domain::new(&bench.env, DomainId(1), tables).unwrap();
        let device = bench.device(8);
        (bench, parent, device)
    };
    let ids = IdRegisters { idr1: ID_REGISTERS.idr1 | 20 << 6, ..ID_REGISTERS };
    let ids = guest_ids(&[ids], &Emulation::new(OutputSize::Bits44)).unwrap();
    let made = each(
        host,
        |(bench, parent, _)| bench.smmu.virtual_smmu(parent, ids),
        |(bench, ..)| {
            let stats = bench.smmu.vmids().stats();
            assert_eq!((stats.in_use, stats.free), (0, stats.capacity));
        },
    );
    assert!(made >= 2, "{made}");
    let guest = || {
        let (bench, parent, device) = host();
        let guest = bench.smmu.virtual_smmu(&parent, ids).unwrap();
        let ste = Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
        let entry = guest.policy().entry(&ste, AtsPermission::Denied).unwrap();
        (bench, parent, device, guest, entry)
    };
    let attached = each(
        guest,
        |(_, _, device, guest, entry)| device.attach_nested(guest, entry),
        |(_, parent, device, ..)| {
            assert!(matches!(device.attachment(), Attachment::Blocked));
            assert!(parent.array().is_empty());
        },
    );
    assert!(attached >= 3, "{attached}");
    // Leaving and the end need no memory, also without a proof.
    let (_bench, parent, device, guest, entry) = guest();
    let _ = device.attach_nested(&guest, &entry).unwrap();
    assert_eq!(failing(1, || device.block()), (Outcome::Done, 0));
    let (ended, allocations) = dead_after(0, || failing(1, || guest.end().ok()));
    assert!(matches!(ended, Some(Outcome::Unflushed(..))), "{ended:?}");
    assert_eq!((allocations, parent.retry_flushes(SmmuId(0))), (0, Ok(0)));
}

/// A parent keeps room for the VMID of each virtual SMMU, also while it takes tags of its own.
#[cfg(feature = "guest")]
#[test]
fn the_ends_of_virtual_smmus_do_not_allocate() {
    use smmu_attach::guest::*;
    let bench = OneSmmu::new();
    let stage = TranslationStage::Stage2 { start_level: 1 };
    let tables = TableDescription::new(stage, PhysAddr(0x8000_0000));
    let parent = Domain::new(&bench.env, DomainId(1), tables).unwrap();
    let ids = IdRegisters { idr1: ID_REGISTERS.idr1 | 20 << 6, ..ID_REGISTERS };
    let ids = guest_ids(&[ids], &Emulation::new(OutputSize::Bits44)).unwrap();
    for native in [false, true] {
        let guests: Vec<_> =
            (0..9).map(|_| bench.smmu.virtual_smmu(&parent, ids).unwrap()).collect();
        let device = bench.device(if native { 8 } else { 9 });
        let ste = Ste([0x8000_000b, 0xd4, 0, 0, 0, 0, 0, 0]);
        for guest in &guests {
            // Its VMID is in use from here on, so its end needs a proof.
            let entry = guest.policy().entry(&ste, AtsPermission::Denied).unwrap();
            let _ = device.attach_nested(guest, &entry).unwrap();
        }
        // The parent itself, or nothing.
        let _ = if native { device.attach(&parent).unwrap() } else { device.block() };
        let ended = dead_after(0, || {
            failing(1, || {
                guests.into_iter().map(|guest| guest.end().is_ok()).filter(|ended| *ended).count()
            })
        });
        assert_eq!(ended, (9, 0), "native: {native}");
        assert_eq!(parent.retry_flushes(SmmuId(0)), Ok(0));
        let _ = device.block();
    }
}

/// After `prepare`, a substream in a new leaf allocates nothing, and neither does a group behind
/// several SMMUs.
#[test]
fn leaves_and_tags_of_a_prepared_attach_have_room() {
    let env = Env::<HeapPlatform>::new(heap_pool(8 << 20), SwitchedSink, ()).unwrap();
    let registers = IdRegisters {
        idr0: ID_REGISTERS.idr0 | 1 << 19,
        idr1: ID_REGISTERS.idr1 | 20 << 6,
        ..ID_REGISTERS
    };
    let caps = Capabilities::decode(registers);
    assert!(caps.two_level_cd);
    let smmus: Vec<_> = (0..9)
        .map(|id| Smmu::new(&env, SmmuId(id), registers, caps, SmmuConfig::default()).unwrap())
        .collect();
    let config = DeviceConfig::default().with_substream_bits(12);
    let devices: Vec<_> =
        smmus.iter().map(|smmu| smmu.add_device_with(&[StreamId(8)], config).unwrap()).collect();
    let domain = |id: u32| Domain::new(&env, DomainId(id), TABLES).unwrap();
    let (group, all) = (Group::new(&devices).unwrap(), domain(1));
    let prepared = group.prepare(Target::Domain(&all)).unwrap();
    let (outcome, allocations) = failing(1, || prepared.publish().install().commit());
    assert_eq!((outcome.settled(), allocations), (Ok(()), 0), "tags on nine SMMUs");
    let one = domain(2);
    for n in 0..20 {
        let substream = substream(&devices[0], 1 + n * 64);
        let prepared = substream.prepare(Target::Domain(&one)).unwrap();
        let (outcome, allocations) = failing(1, || prepared.publish().install().commit());
        assert_eq!((outcome.settled(), allocations), (Ok(()), 0), "leaf {n}");
    }
}

fn old_tag() -> CacheTag {
    CacheTag::Asid(Regime::El1, Asid(1))
}

fn substream(device: &Device<HeapPlatform>, n: u32) -> Substream<HeapPlatform> {
    device.substream(SubstreamId::new(n).unwrap()).unwrap()
}

/// Blocking needs no memory, also where the SMMU confirms nothing and every use is remembered.
#[test]
fn blocking_on_a_dead_smmu_does_not_allocate() {
    let blocks: [fn(&Device<HeapPlatform>) -> Outcome; 3] = [
        |device| device.block(),
        |device| device.block_all(),
        |device| (1..16).fold(Outcome::Done, |_, n| substream(device, n).block()),
    ];
    for block in blocks {
        let bench = OneSmmu::new();
        let device = bench.device(8);
        let domains: Vec<_> = (0..16).map(|n| bench.domain(n)).collect();
        let _ = device.attach(&domains[0]).unwrap();
        for n in 1..16 {
            let _ = substream(&device, n).attach(&domains[n as usize]).unwrap();
        }
        let (outcome, allocations) = dead_after(0, || failing(1, || block(&device)));
        assert!(matches!(outcome, Outcome::Unconfirmed(_)), "{outcome:?}");
        assert_eq!(allocations, 0);
        let settled = failing(1, || (device.settle(), device.block_all().settled()));
        assert_eq!(settled, ((Ok(()), Ok(())), 0));
        assert_eq!(bench.smmu.remove_device(&device), Ok(()));
        assert!(domains.into_iter().all(|domain| domain.into_tables().is_ok()));
    }
}

/// A tag whose flush has no proof is kept in room that the attach reserved.
#[test]
fn an_unproven_flush_does_not_allocate() {
    let mut unproven = 0;
    for confirmed in 0.. {
        let bench = OneSmmu::new();
        let (device, domain) = (bench.device(8), bench.domain(1));
        let _ = device.attach(&domain).unwrap();
        let block = || failing(1, || device.block());
        let (outcome, allocations) = dead_after(confirmed, block);
        assert_eq!(allocations, 0, "{outcome:?}");
        match outcome {
            Outcome::Unconfirmed(_) => {}
            Outcome::Unflushed(..) => unproven += 1,
            outcome => {
                assert!(matches!(outcome, Outcome::Freed(_)), "{outcome:?}");
                break;
            }
        }
    }
    assert!(unproven > 0, "no wait was that of the flush");
}

/// Each substream that leaves has a place in the list of free ones, however many there were.
#[test]
fn substreams_leave_without_memory() {
    for n in 1..=9 {
        let bench = OneSmmu::new();
        let (device, domain) = (bench.device(8), bench.domain(1));
        for id in 1..=n {
            let _ = substream(&device, id).attach(&domain).unwrap();
        }
        let leave = || (1..=n).all(|id| substream(&device, id).block().settled().is_ok());
        assert_eq!(failing(1, leave), (true, 0), "{n} substreams");
    }
}

#[test]
fn what_must_not_allocate_does_not() {
    let bench = OneSmmu::new();
    let streams: Vec<_> = (0..64).map(StreamId).collect();
    let device = bench.smmu.add_device(&streams).unwrap();
    let [d, e] = [1, 2].map(|n| bench.domain(n));
    for domain in [&d, &e] {
        let prepared = device.prepare(Target::Domain(domain)).unwrap();
        let (outcome, n) = failing(1, || prepared.publish().install().commit());
        assert_eq!((outcome.settled(), n), (Ok(()), 0), "after prepare");
    }
    assert_eq!(failing(1, || device.bypass().unwrap().settled()), (Ok(()), 0), "bypass");
    let _ = device.attach(&d).unwrap();
    let extent = range::Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last);
    assert_eq!(failing(1, || d.invalidate(extent)), (Ok(()), 0), "invalidate");
    assert_eq!(failing(1, || device.block().settled()), (Ok(()), 0), "block");
    assert_eq!(failing(1, || device.settle()), (Ok(()), 0), "settle");
    let _ = device.attach(&d).unwrap();
    let proof = GoneProof::vouch(SmmuId(0));
    assert_eq!(failing(1, || bench.smmu.gone(&proof)), (Ok(()), 0), "gone");
    assert_eq!(failing(1, || bench.smmu.remove_device(&device)), (Ok(()), 0), "remove");
}

/// An SMMU that was taken over, and is dropped while kept streams still have their tags.
#[test]
fn a_takeover_leaves_no_memory_behind() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/adopt");
    for seed in std::fs::read_dir(folder).unwrap() {
        let path = seed.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        // The first run also makes what a thread keeps.
        adopt_bytes::bytes(&bytes);
        let before = HELD.get();
        adopt_bytes::bytes(&bytes);
        assert_eq!(HELD.get() - before, 0, "bytes are left of {}", path.display());
    }
}
