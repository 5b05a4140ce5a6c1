//! Attachments by device and substream: each has its own domain, and a change of one interrupts no
//! other.
//!
//! A fake SMMU looks at the entries after each published store: once straight in memory, and once
//! through caches that forget nothing before a `CFGI_STE`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rstest::rstest;
use smmu_attach::*;
use smmu_types::fake::*;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

use crate::common::*;
use crate::watched_memory::{Look, WatchedMemory};

type Watched = FakePlatform<WatchedMemory<Look>, RecordingObserver>;

/// Where a transaction without a SubstreamID (`None`) or with one ends.
pub(crate) type Source = Option<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    Nothing,
    Memory,
    Stage1(Asid),
    Stage2(Vmid),
}

/// What the SMMU makes of a transaction, with a CD from `cd`.
pub(crate) fn walk(ste: Ste, source: Source, cd: impl FnOnce(&TableConfig, u32) -> Cd) -> Reached {
    let config = match ste.decode() {
        SteConfig::Bypass => return Reached::Memory,
        // Stage 2 without stage 1: a SubstreamID is a fault.
        SteConfig::Stage2(config) if source.is_none() => return Reached::Stage2(config.vmid),
        SteConfig::Stage1(config) => config,
        _ => return Reached::Nothing,
    };
    let zero = config.substream_default == SubstreamDefault::Substream0;
    let index = match (source, config.substream_default) {
        (None, SubstreamDefault::Substream0) => 0,
        (None, SubstreamDefault::Bypass) => return Reached::Memory,
        (Some(n), _) if n >> config.cd_max == 0 && !(zero && n == 0) => n,
        _ => return Reached::Nothing,
    };
    match cd(&config, index) {
        cd if cd.is_valid() => Reached::Stage1(cd.asid()),
        _ => Reached::Nothing,
    }
}

#[derive(Default)]
struct Caches {
    ste: Option<Ste>,
    /// By SubstreamID: an SMMU may cache one descriptor for each.
    level_1: BTreeMap<u32, u64>,
    cds: BTreeMap<u32, Cd>,
}

struct Rig {
    env: Env<Watched>,
    smmu: Smmu<Watched>,
    device: Device<Watched>,
    /// Three of stage 1 and one of stage 2.
    domains: Vec<Domain<Watched>>,
    memory: Arc<[AtomicU64]>,
    caches: Arc<Mutex<Caches>>,
    look: Look,
    fail_at: Arc<AtomicU32>,
    bits: u8,
}

const SMMU: SmmuId = SmmuId(0);

/// SubstreamIDs of a device with a linear table, and of one with a two-level table.
const LINEAR: u8 = 2;
const TWO_LEVEL: u8 = 9;

/// The SubstreamID of key 1, 2 or 3. In two levels, the first is in the leaf of SubstreamID 0.
fn number(bits: u8, key: u32) -> u32 {
    if bits == LINEAR { key } else { [0, 1, 0x43, 0x7e][key as usize] }
}

impl Rig {
    fn new(streams: &[u32], bits: u8) -> Self {
        let look: Look = Arc::default();
        let window = HeapWindow::new(PhysAddr(0x4000_0000), 4 << 20);
        let memory = window.share();
        let caches = Arc::new(Mutex::new(Caches::default()));
        let fail_at = Arc::new(AtomicU32::new(0));
        let (flushed, left) = (Arc::clone(&caches), Arc::clone(&fail_at));
        let first = StreamId(streams[0]);
        let sink = RecordingSink::failing(move |call| {
            // From the failing step on the SMMU does nothing, until it is mended.
            match left.load(Ordering::Relaxed) {
                0 => {}
                1 => return Some(SinkError::timeout(SMMU)),
                n => left.store(n - 1, Ordering::Relaxed),
            }
            let (SinkCall::Issue(_, commands) | SinkCall::Push(_, commands)) = call else {
                return None;
            };
            for command in commands {
                let mut caches = flushed.lock().unwrap();
                match command {
                    Command::CfgiSte { stream, .. } if *stream == first => {
                        *caches = Caches::default();
                    }
                    Command::CfgiCdAll { stream } if *stream == first => {
                        *caches = Caches { ste: caches.ste, ..Caches::default() };
                    }
                    _ => {}
                }
            }
            None
        });
        let dma = WatchedMemory(Pool::new(window), Arc::clone(&look));
        let env = Env::<Watched>::new(dma, sink, RecordingObserver::new()).unwrap();
        let registers = IdRegisters { idr0: LARGE.idr0 | 1 << 19, ..LARGE };
        let caps = Capabilities::decode(registers);
        let smmu = Smmu::new(&env, SMMU, registers, caps, SmmuConfig::default()).unwrap();
        let streams: Vec<_> = streams.iter().copied().map(StreamId).collect();
        let config = DeviceConfig::default().with_substream_bits(bits);
        let device = smmu.add_device_with(&streams, config).unwrap();
        let domain = |id: u32, stage| {
            let tables = tables(stage, 0x8000_0000 + u64::from(id) * 0x1000);
            Domain::new(&env, DomainId(id), tables).unwrap()
        };
        let domains = vec![domain(1, S1), domain(2, S1), domain(3, S1), domain(4, S2)];
        Rig { env, smmu, device, domains, memory, caches, look, fail_at, bits }
    }

    fn reached(&self, domain: usize) -> Reached {
        match self.domains[domain].tag_on(SMMU).unwrap() {
            CacheTag::Asid(_, asid) => Reached::Stage1(asid),
            CacheTag::Vmid(vmid) => Reached::Stage2(vmid),
        }
    }

    /// Look at each source after each store of `run`: it always reaches one of two ends.
    fn undisturbed<T>(&self, others: &[(Source, [Reached; 2])], run: impl FnOnce() -> T) -> T {
        let (device, memory) = (self.device.clone(), Arc::clone(&self.memory));
        let (caches, others) = (Arc::clone(&self.caches), others.to_vec());
        *self.look.lock().unwrap() = Some(Box::new(move || {
            let now = device.read_ste().unwrap();
            let mut caches = caches.lock().unwrap();
            let cached = *caches.ste.get_or_insert(now);
            for &(source, reaches) in &others {
                let fetch = |table: &TableConfig, n: u32| {
                    let level_1 = level_1(&memory, table, n);
                    cd_at(&memory, table, level_1, n)
                };
                let check = |end: Reached, what| {
                    assert!(reaches.contains(&end), "{source:?}, {what}: {end:?}, not {reaches:?}");
                };
                check(walk(now, source, fetch), "from memory");
                check(walk(cached, source, fetch), "STE cached");
                let Caches { level_1: descriptors, cds, .. } = &mut *caches;
                let mut through = |table: &TableConfig, n| {
                    let descriptor =
                        *descriptors.entry(n).or_insert_with(|| level_1(&memory, table, n));
                    cd_at(&memory, table, descriptor, n)
                };
                check(walk(cached, source, &mut through), "level 1 cached");
                let keep =
                    |table: &TableConfig, n| *cds.entry(n).or_insert_with(|| through(table, n));
                check(walk(cached, source, keep), "all cached");
            }
        }));
        let result = run();
        *self.look.lock().unwrap() = None;
        result
    }

    /// After a confirmed change each source reaches what it should, also through the caches.
    fn check(&self, expected: &[(Source, Reached)], what: &str) {
        let now = self.device.read_ste().unwrap();
        let mut caches = self.caches.lock().unwrap();
        let cached = *caches.ste.get_or_insert(now);
        for &(source, reaches) in expected {
            let fetch = |table: &TableConfig, n: u32| {
                cd_at(&self.memory, table, level_1(&self.memory, table, n), n)
            };
            assert_eq!(walk(now, source, fetch), reaches, "{what}: {source:?} from memory");
            let Caches { level_1: descriptors, cds, .. } = &mut *caches;
            let mut through = |table: &TableConfig, n| {
                let level_1 =
                    *descriptors.entry(n).or_insert_with(|| level_1(&self.memory, table, n));
                cd_at(&self.memory, table, level_1, n)
            };
            let end = walk(cached, source, &mut through);
            assert_eq!(end, reaches, "{what}: {source:?} through level 1");
            let keep = |table: &TableConfig, n| *cds.entry(n).or_insert_with(|| through(table, n));
            assert_eq!(walk(cached, source, keep), reaches, "{what}: {source:?} from the caches");
        }
    }

    fn steps(&self) -> u32 {
        self.env.sink().take().len() as u32
    }

    fn substream(&self, key: u32) -> Substream<Watched> {
        self.device.substream(SubstreamId::new(number(self.bits, key)).unwrap()).unwrap()
    }

    fn source(&self, key: usize) -> Source {
        (key > 0).then(|| number(self.bits, key as u32))
    }

    /// Block all, and see all tags, memory and users come back.
    fn end(self, what: &str) {
        let _ = self.device.block_all();
        assert_eq!(self.smmu.settle(), Ok(()), "{what}");
        let _ = self.device.block_all();
        assert!(self.device.is_settled(), "{what}");
        assert_eq!(self.smmu.remove_device(&self.device), Ok(()), "{what}");
        for stats in [self.smmu.asids().stats(), self.smmu.vmids().stats()] {
            assert_eq!((stats.in_use, stats.retiring, stats.quarantined), (0, 0, 0), "{what}");
        }
        for domain in self.domains {
            assert!(domain.array().is_empty(), "{what}");
            assert!(domain.into_tables().is_ok(), "{what}: tables are kept for ever");
        }
    }
}

fn word(memory: &[AtomicU64], address: u64) -> u64 {
    memory[(address - 0x4000_0000) as usize / 8].load(Ordering::Relaxed)
}

/// The descriptor that leads to the CD, in a two-level table.
fn level_1(memory: &[AtomicU64], table: &TableConfig, n: u32) -> u64 {
    match table.format {
        0 => 0,
        _ => word(memory, table.context.0 + u64::from(n >> 6) * 8),
    }
}

fn cd_at(memory: &[AtomicU64], table: &TableConfig, level_1: u64, n: u32) -> Cd {
    let first = match table.format {
        0 => table.context.0 + u64::from(n) * 64,
        _ if level_1 & 1 == 0 => return Cd::INVALID,
        _ => (level_1 & !0xfff) + u64::from(n % 64) * 64,
    };
    Cd(std::array::from_fn(|at| word(memory, first + at as u64 * 8)))
}

/// What a source is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Blocked,
    Bypass,
    Domain(usize),
}

/// The attachments of a device: the stream's own, then those of substreams 1 to 3.
type Wishes = [Wish; 4];

fn expected(rig: &Rig, wishes: &Wishes) -> Vec<(Source, Reached)> {
    let reached = |wish| match wish {
        Wish::Blocked => Reached::Nothing,
        Wish::Bypass => Reached::Memory,
        Wish::Domain(n) => rig.reached(n),
    };
    let all = wishes.iter().enumerate();
    // An SMMU without stage 1 ignores a SubstreamID: beside bypass a blocked substream may bypass.
    let defined =
        all.filter(|(key, wish)| *key == 0 || wishes[0] != Wish::Bypass || **wish != Wish::Blocked);
    defined.map(|(key, wish)| (rig.source(key), reached(*wish))).collect()
}

fn go(rig: &Rig, key: usize, wish: Wish) -> Result<Outcome, AttachError> {
    match (key, wish) {
        (0, Wish::Blocked) => Ok(rig.device.block()),
        (0, Wish::Bypass) => rig.device.bypass(),
        (0, Wish::Domain(n)) => rig.device.attach(&rig.domains[n]),
        (n, Wish::Blocked) => Ok(rig.substream(n as u32).block()),
        (n, Wish::Domain(domain)) => rig.substream(n as u32).attach(&rig.domains[domain]),
        (_, Wish::Bypass) => unreachable!(),
    }
}

/// Whether the attach must be refused: stage 2 has no substreams.
fn refused(wishes: &Wishes, key: usize, wish: Wish) -> bool {
    let substreams = wishes[1..].iter().any(|wish| *wish != Wish::Blocked);
    match (key, wish) {
        (0, Wish::Domain(3)) => substreams,
        (0, _) | (_, Wish::Blocked) => false,
        (_, Wish::Domain(n)) => n == 3 || wishes[0] == Wish::Domain(3),
        _ => false,
    }
}

const WISHES: [Wish; 6] = [
    Wish::Blocked,
    Wish::Bypass,
    Wish::Domain(0),
    Wish::Domain(1),
    Wish::Domain(2),
    Wish::Domain(3),
];

#[rstest]
fn a_change_of_one_interrupts_no_other(
    #[values(&[8], &[8, 0x108, 0x20])] streams: &[u32],
    #[values(LINEAR, TWO_LEVEL)] bits: u8,
) {
    let rig = Rig::new(streams, bits);
    let mut wishes = [Wish::Blocked; 4];
    let (mut random, mut refusals) = (7u64, 0);
    for step in 0..2_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = (random >> 33) as usize % 4;
        let wish = WISHES[(random >> 40) as usize % 6];
        if key > 0 && wish == Wish::Bypass {
            continue;
        }
        let what = format!("step {step}: {wishes:?}, {:?} becomes {wish:?}", rig.source(key));
        let before = expected(&rig, &wishes);
        let mut always: Vec<_> = before.iter().map(|(from, end)| (*from, [*end, *end])).collect();
        // Between two domains of substreams, and to and from bypass, the changing source is never
        // without one of both. A domain without users has no tag yet: then nothing is known of it.
        let of = |wish| match wish {
            Wish::Blocked => Some(Reached::Nothing),
            Wish::Bypass => Some(Reached::Memory),
            Wish::Domain(n) => rig.domains[n].tag_on(SMMU).map(|_| rig.reached(n)),
        };
        let live = wishes[1..].iter().enumerate().any(|(n, w)| n + 1 != key && *w != Wish::Blocked);
        always.retain_mut(|(from, ends)| {
            if *from == rig.source(key) {
                let new = of(wish);
                *ends = [ends[0], new.unwrap_or(Reached::Nothing)];
                return live && new.is_some();
            }
            (key, wish) != (0, Wish::Bypass) || ends[0] != Reached::Nothing
        });
        let result = rig.undisturbed(&always, || go(&rig, key, wish));
        if refused(&wishes, key, wish) {
            assert!(result.is_err(), "{what}");
            refusals += 1;
        } else {
            assert_eq!(result.unwrap().settled(), Ok(()), "{what}");
            wishes[key] = wish;
        }
        rig.check(&expected(&rig, &wishes), &what);
        // A domain has a tag while a source uses it, and no longer.
        for (n, domain) in rig.domains.iter().enumerate() {
            let used = wishes.contains(&Wish::Domain(n));
            assert_eq!(domain.tag_on(SMMU).is_some(), used, "{what}: domain {n}");
        }
    }
    assert!(refusals > 50, "{refusals}");
    rig.end("random work");
}

#[rstest]
fn each_change_of_a_cd_takes_one_sync(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    let _ = go(&rig, 0, Wish::Domain(0)).unwrap();
    let _ = rig.steps();
    let syncs = |key, wish| {
        let outcome = go(&rig, key, wish).unwrap();
        let calls = rig.env.sink().take();
        let waits = calls.iter().filter(|call| matches!(call, SinkCall::Wait(_))).count();
        // The flush of a tag that is free is not part of the change.
        waits - usize::from(outcome.freed().is_some())
    };
    assert_eq!(syncs(1, Wish::Domain(1)), 1, "the first substream, beside stage 1");
    assert_eq!(syncs(2, Wish::Domain(2)), 1, "another");
    assert_eq!(syncs(1, Wish::Domain(2)), 1, "a replacement");
    assert_eq!(syncs(0, Wish::Domain(1)), 1, "a replacement for the stream");
    assert_eq!(syncs(2, Wish::Blocked), 1, "one leaves");
    assert_eq!(syncs(1, Wish::Blocked), 1, "the last one leaves");
    assert_eq!(syncs(1, Wish::Blocked), 0, "nothing changes");
    let SteConfig::Stage1(config) = rig.device.read_ste().unwrap().decode() else { panic!() };
    assert_eq!(config.cd_max, 0, "the table is taken out again");
    rig.end("syncs");
}

/// Each hardware step of each change fails once, beside each kind of neighbour. Nothing that the
/// SMMU may use is given back, and after it answers again all is as the state says.
#[rstest]
fn every_hardware_step_fails_once(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let neighbours: [Wishes; 5] = [
        [Wish::Blocked; 4],
        [Wish::Blocked, Wish::Blocked, Wish::Domain(0), Wish::Blocked],
        [Wish::Bypass, Wish::Domain(0), Wish::Domain(1), Wish::Blocked],
        [Wish::Domain(0), Wish::Domain(1), Wish::Domain(0), Wish::Blocked],
        [Wish::Domain(2), Wish::Blocked, Wish::Blocked, Wish::Blocked],
    ];
    let build = |wishes: &Wishes| {
        let rig = Rig::new(&[8, 0x108], bits);
        for (key, wish) in wishes.iter().enumerate() {
            if *wish != Wish::Blocked {
                assert_eq!(go(&rig, key, *wish).unwrap().settled(), Ok(()));
            }
        }
        let _ = rig.steps();
        rig
    };
    let mut failures = 0;
    for (wishes, key, wish) in neighbours
        .iter()
        .flat_map(|wishes| (0..4).map(move |key| (wishes, key)))
        .flat_map(|(wishes, key)| WISHES.map(|wish| (wishes, key, wish)))
    {
        if refused(wishes, key, wish) || key > 0 && wish == Wish::Bypass {
            continue;
        }
        let rehearsal = build(wishes);
        let _ = go(&rehearsal, key, wish).unwrap();
        for n in 1..=rehearsal.steps() {
            let rig = build(wishes);
            let source = rig.source(key);
            let what = format!("{wishes:?}, {source:?} becomes {wish:?}, step {n}");
            rig.fail_at.store(n, Ordering::Relaxed);
            let outcome = go(&rig, key, wish).unwrap();
            assert!(outcome.settled().is_err(), "{what}");
            // What any source used before or after is still invalidated for.
            for used in wishes.iter().chain([&wish]) {
                if let Wish::Domain(domain) = used {
                    assert!(!rig.domains[*domain].array().is_empty(), "{what}: {domain}");
                }
            }
            // Blocking a substream on the dead SMMU must not bring its CD back later.
            let again = rig.substream(2).block();
            if let Outcome::Unconfirmed(_) = outcome {
                assert!(matches!(again, Outcome::Unconfirmed(_)), "{what}: {again:?}");
            }
            rig.fail_at.store(0, Ordering::Relaxed);
            assert_eq!(rig.smmu.settle(), Ok(()), "{what}");
            let mut after = *wishes;
            after[key] = wish;
            after[2] = Wish::Blocked;
            // Any attach writes all entries again.
            let spare =
                [Wish::Domain(1), Wish::Domain(2)][usize::from(after[0] == Wish::Domain(1))];
            if after[0] != Wish::Domain(3) {
                assert_eq!(go(&rig, 3, spare).unwrap().settled(), Ok(()), "{what}");
                after[3] = spare;
                rig.check(&expected(&rig, &after), &what);
            }
            rig.end(&what);
            failures += 1;
        }
    }
    assert!(failures > 150, "{failures}");
}

#[rstest]
fn what_cannot_be_attached_is_refused_by_name(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    let id = |n| SubstreamId::new(n).unwrap();
    for n in [0, 1 << bits] {
        let error = rig.device.substream(id(n)).unwrap_err();
        let (stream, substream) = (StreamId(8), id(n));
        let range = AttachError::SubstreamRange { smmu: SMMU, stream, substream, bits };
        assert_eq!(error, range);
    }
    let bypass = rig.substream(1).prepare(Target::Bypass).err().unwrap();
    assert_eq!(bypass, AttachError::SubstreamBypass { smmu: SMMU, substream: id(1) });
    let stage2 = go(&rig, 1, Wish::Domain(3)).unwrap_err();
    assert_eq!(stage2, AttachError::SubstreamStage2 { smmu: SMMU, domain: DomainId(4) });
    let _ = go(&rig, 1, Wish::Domain(0)).unwrap();
    let beside = go(&rig, 0, Wish::Domain(3)).unwrap_err();
    assert_eq!(beside, AttachError::SubstreamsAttached { smmu: SMMU, domain: DomainId(4) });
    // A device whose substream is attached is attached.
    let attached = AttachError::StillAttached { smmu: SMMU, stream: StreamId(8) };
    assert_eq!(rig.smmu.remove_device(&rig.device), Err(attached));
    let _ = go(&rig, 1, Wish::Blocked).unwrap();
    let _ = go(&rig, 0, Wish::Domain(3)).unwrap();
    let beside = go(&rig, 1, Wish::Domain(0)).unwrap_err();
    let (substream, domain) = (id(1), DomainId(4));
    assert_eq!(beside, AttachError::StreamStage2 { smmu: SMMU, substream, domain });
    rig.end("refusals");
}

#[test]
fn a_device_or_smmu_without_substreams_has_none() {
    let fixture = Fixture::new();
    let smmu = fixture.smmu(0);
    let config = DeviceConfig::default().with_substream_bits(8);
    let device = smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let error = device.substream(SubstreamId::new(1).unwrap()).unwrap_err();
    assert!(matches!(error, AttachError::SubstreamRange { bits: 0, .. }), "{error}");
}

/// The CD of each substream is found in memory, with the domain's root and tag.
#[rstest]
fn a_substream_reads_its_own_cd(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    let wishes = [(0, 0), (1, 1), (2, 2)];
    for (key, domain) in wishes {
        let _ = go(&rig, key, Wish::Domain(domain)).unwrap();
    }
    for (key, domain) in wishes {
        let cd = match key {
            0 => rig.device.read_cd(),
            key => rig.substream(key as u32).read_cd(),
        };
        let root = cd.and_then(|cd| cd.decode()).map(|cd| cd.table);
        assert_eq!(root, Some(rig.domains[domain].description().root), "{key}");
    }
    assert!(rig.substream(3).read_cd().is_none_or(|cd| !cd.is_valid()));
}

#[rstest]
fn gone_takes_every_substream_out(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    for (key, domain) in [(0, 0), (1, 1), (2, 1), (3, 2)] {
        let _ = go(&rig, key, Wish::Domain(domain)).unwrap();
    }
    assert_eq!(rig.smmu.gone(&GoneProof::vouch(SMMU)), Ok(()));
    assert!(matches!(rig.substream(1).attachment(), Attachment::Blocked));
    for domain in rig.domains {
        assert!(domain.array().is_empty());
        assert!(domain.into_tables().is_ok());
    }
}

/// A handle of a removed device, or of one whose SMMU is gone, changes no entry.
#[rstest]
fn a_stale_handle_blocks_nothing(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    let stale = rig.device.clone();
    assert_eq!(rig.smmu.remove_device(&stale), Ok(()));
    let config = DeviceConfig::default().with_substream_bits(bits);
    let next = rig.smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let _ = next.attach(&rig.domains[0]).unwrap();
    let (before, _) = (next.read_ste(), rig.steps());
    let substream = stale.substream(SubstreamId::new(1).unwrap()).unwrap();
    assert_eq!([stale.block(), stale.block_all(), substream.block()], [Outcome::Done; 3]);
    assert_eq!((next.read_ste(), rig.steps()), (before, 0));
    assert_eq!(rig.smmu.gone(&GoneProof::vouch(SMMU)), Ok(()));
    assert_eq!([next.block(), next.block_all()], [Outcome::Done; 2]);
    assert_eq!(rig.steps(), 0);
}

/// The observer hears of all syncs of a change in two steps.
#[rstest]
fn a_notice_counts_the_syncs_of_both_steps(#[values(LINEAR, TWO_LEVEL)] bits: u8) {
    let rig = Rig::new(&[8], bits);
    let _ = go(&rig, 1, Wish::Domain(0)).unwrap();
    let _ = go(&rig, 0, Wish::Domain(1)).unwrap();
    rig.env.observer().take();
    let _ = go(&rig, 0, Wish::Bypass).unwrap();
    let written = |notice| match notice {
        Notice::EntryWritten { syncs, .. } => Some(syncs),
        _ => None,
    };
    let syncs: Vec<_> = rig.env.observer().take().into_iter().filter_map(written).collect();
    assert_eq!(syncs, [2]);
    rig.end("notices");
}

/// The last reference to an attached device goes: its domains stay in memory, because the SMMU may
/// still use them.
#[rstest]
#[case::by_the_stream(Some(0), None)]
#[case::by_a_substream(None, Some(1))]
#[case::not_at_all(None, None)]
fn what_an_smmu_may_use_is_never_freed(
    #[case] stream: Option<usize>,
    #[case] substream: Option<usize>,
    #[values(LINEAR, TWO_LEVEL)] bits: u8,
) {
    let rig = Rig::new(&[8], bits);
    if let Some(domain) = stream {
        let _ = go(&rig, 0, Wish::Domain(domain)).unwrap();
    }
    if let Some(domain) = substream {
        let _ = go(&rig, 1, Wish::Domain(domain)).unwrap();
    }
    let lives: Vec<_> = rig.domains.iter().map(|domain| Arc::clone(&domain.tables().1)).collect();
    drop(rig);
    for (n, life) in lives.iter().enumerate() {
        let used = [stream, substream].contains(&Some(n));
        assert_eq!(Arc::strong_count(life) > 1, used, "domain {n}");
    }
}

/// One leaf of a two-level table holds 64 CDs: up to there, the table is linear.
#[rstest]
#[case(6, 0)]
#[case(7, 1)]
fn a_table_has_two_levels_only_beyond_one_leaf(#[case] bits: u8, #[case] format: u8) {
    let rig = Rig::new(&[8], bits);
    let _ = rig.substream(1).attach(&rig.domains[0]).unwrap();
    let SteConfig::Stage1(config) = rig.device.read_ste().unwrap().decode() else {
        panic!("no stage 1");
    };
    assert_eq!((config.format, config.cd_max), (format, bits));
}

/// Bypass keeps the shareability of a transaction where the SMMU can (`IDR1.ATTR_TYPES_OVR`), also
/// beside substreams. Elsewhere the field is reserved.
#[rstest]
#[case(1 << 27, ShareabilityOverride::Incoming)]
#[case(0, ShareabilityOverride::NonShareable)]
fn bypass_keeps_the_shareability(#[case] idr1: u32, #[case] expected: ShareabilityOverride) {
    let fixture = Fixture::new();
    let registers = IdRegisters { idr1: LARGE.idr1 & !(1 << 27) | idr1, ..LARGE };
    let caps = Capabilities::decode(registers);
    let smmu = Smmu::new(&fixture.env, SMMU, registers, caps, SmmuConfig::default()).unwrap();
    let config = DeviceConfig::default().with_substream_bits(2);
    let device = smmu.add_device_with(&[StreamId(8)], config).unwrap();
    let shareability = |device: &Device<HeapPlatform>| device.read_ste().unwrap().0[1] >> 44 & 3;
    let _ = device.bypass().unwrap();
    assert_eq!(shareability(&device), expected as u64);
    let domain = Domain::new(&fixture.env, DomainId(1), tables(S1, 0x8000_0000)).unwrap();
    let _ = device.substream(SubstreamId::new(1).unwrap()).unwrap().attach(&domain).unwrap();
    assert_eq!(shareability(&device), expected as u64, "beside a substream");
}

/// An attach that is withdrawn leaves a leaf that no descriptor leads to. The next attach uses it.
#[test]
fn a_leaf_of_a_withdrawn_attach_is_used_again() {
    let rig = Rig::new(&[8], TWO_LEVEL);
    let _ = rig.substream(1).attach(&rig.domains[0]).unwrap();
    drop(rig.substream(2).prepare(Target::Domain(&rig.domains[1])).unwrap().publish());
    assert_eq!(rig.substream(2).attach(&rig.domains[1]), Ok(Outcome::Done));
    let ends = [(rig.source(1), rig.reached(0)), (rig.source(2), rig.reached(1))];
    rig.check(&ends, "after the second attach");
    rig.end("a leaf again");
}
