//! What an attach promises, step by step, against a sink that remembers every command.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use smmu_attach::*;
use smmu_invs::{ArcSwapCell, EntryState, InvArray};
use smmu_tags::SpaceConfig;
use smmu_types::fake::*;
use smmu_types::range::Extent;
use smmu_types::seam::{Notice, SinkError};
use smmu_types::*;

struct Test;

impl Platform for Test {
    type Lock = parking_lot::RawMutex;
    type DomainLock = parking_lot::RawMutex;
    type Dma = Pool<HeapWindow>;
    type Sink = RecordingSink;
    type Cell = ArcSwapCell<InvArray>;
    type Observer = RecordingObserver;
}

struct Tables(TableDescription);

impl TranslationTable for Tables {
    fn describe(&self) -> TableDescription {
        self.0
    }
}

fn tables(stage: TranslationStage, root: u64) -> Tables {
    Tables(TableDescription {
        stage,
        root: PhysAddr(root),
        t0sz: 25,
        granule: Granule::K4,
        output_size: OutputSize::Bits40,
        walk: WalkAttributes::COHERENT,
        forced_write_back: ForcedWriteBack::Off,
    })
}

const S1: TranslationStage = TranslationStage::Stage1 { mair: 0xff };
const S2: TranslationStage = TranslationStage::Stage2 { start_level: 1 };

fn domain(id: u32, stage: TranslationStage) -> Arc<Domain<Test>> {
    Arc::new(
        Domain::new(DomainId(id), &tables(stage, 0x8000_0000 + u64::from(id) * 0x1000)).unwrap(),
    )
}

fn caps() -> Capabilities {
    Capabilities::decode(ID_REGISTERS)
}

struct Bench {
    dma: Pool<HeapWindow>,
    sink: RecordingSink,
    observer: RecordingObserver,
}

impl Bench {
    fn new(sink: RecordingSink) -> Self {
        Bench { dma: heap_pool(4 << 20), sink, observer: RecordingObserver::new() }
    }

    fn env(&self) -> Env<'_, Test> {
        Env { dma: &self.dma, sink: &self.sink, observer: &self.observer }
    }

    fn smmu(&self, id: u16) -> Arc<Smmu<Test>> {
        Arc::new(Smmu::new(SmmuId(id), caps(), SmmuConfig::default(), &self.dma).unwrap())
    }

    fn device(&self, smmu: &Arc<Smmu<Test>>, stream: u32) -> Device<Test> {
        let device = Smmu::add_device(smmu, &[StreamId(stream)], &self.env()).unwrap();
        self.sink.take();
        device
    }

    fn attach(&self, device: &mut Device<Test>, target: Target<'_, Test>) -> Committed {
        device.prepare(target, &self.env()).unwrap().publish().install().commit()
    }

    /// The names of all commands so far, each `CMD_SYNC` included.
    fn commands(&self) -> Vec<String> {
        let mut names = Vec::new();
        for call in self.sink.take() {
            match call {
                SinkCall::Issue(smmu, commands) => {
                    names.extend(commands.iter().map(|c| format!("{smmu} {c}")));
                    names.push(format!("{smmu} SYNC"));
                }
                SinkCall::Push(smmu, commands) => {
                    names.extend(commands.iter().map(|c| format!("{smmu} {c}")));
                }
                SinkCall::Wait(_) => {}
            }
        }
        names
    }
}

fn states(domain: &Domain<Test>) -> Vec<(u16, u32, u32, EntryState)> {
    domain.array().iter().map(|v| (v.spec.key.smmu.0, v.spec.key.id, v.users, v.state)).collect()
}

const ASID1: CacheTag = CacheTag::Asid(Regime::El1, Asid(1));
const DONE: Committed = Committed { freed: None, quarantined: None, config: Ok(()) };

#[test]
fn inv_4_only_the_last_detach_flushes_and_only_then_frees() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let (mut a, mut b) = (bench.device(&smmu, 8), bench.device(&smmu, 0x10));
    let d = domain(1, S1);
    assert_eq!(bench.attach(&mut a, Target::Domain(&d)), DONE);
    assert_eq!(
        bench.commands(),
        [
            "smmu0 CFGI_STE sid=0x8 leaf=1",
            "smmu0 SYNC",
            "smmu0 CFGI_STE sid=0x8 leaf=1",
            "smmu0 SYNC",
        ]
    );
    assert_eq!(bench.attach(&mut b, Target::Domain(&d)), DONE);
    assert_eq!(states(&d), [(0, 1, 2, EntryState::Live)]);
    assert_eq!(smmu.asids().stats().in_use, 1);
    bench.commands();
    bench.observer.take();

    assert_eq!(bench.attach(&mut a, Target::Blocked), DONE);
    assert!(bench.commands().iter().all(|c| !c.contains("TLBI")));
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);

    let done = bench.attach(&mut b, Target::Blocked);
    assert_eq!(done.freed, Some(ASID1));
    let commands = bench.commands();
    assert_eq!(commands[commands.len() - 2..], ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert!(d.array().is_empty());
    let (id, smmu_id) = (DomainId(1), SmmuId(0));
    let tags: Vec<Notice> = bench
        .observer
        .take()
        .into_iter()
        .filter(|n| !matches!(n, Notice::EntryWritten { .. }))
        .collect();
    assert_eq!(
        tags,
        [
            Notice::TagRetired { domain: id, smmu: smmu_id, tag: ASID1 },
            Notice::TagFreed { smmu: smmu_id, tag: ASID1 },
        ]
    );
    let stats = smmu.asids().stats();
    assert_eq!((stats.in_use, stats.quarantined, stats.free), (0, 0, stats.capacity));
}

#[test]
fn inv_1_a_dropped_preparation_leaves_no_trace() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let free = bench.dma.free_bytes();
    let ste = device.read_ste();
    drop(device.prepare(Target::Domain(&d), &bench.env()).unwrap());
    assert_eq!(bench.dma.free_bytes(), free);
    assert_eq!((device.read_ste(), device.read_cd()), (ste, None));
    assert!(matches!(device.attachment(), Attachment::Blocked));
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
    assert!(d.array().is_empty());
    assert!(bench.sink.take().is_empty());
    // The domain's lock is free again, and the number is the next one given out.
    assert_eq!(bench.attach(&mut device, Target::Domain(&d)), DONE);
    assert_eq!(d.tag_on(SmmuId(0)), Some(ASID1));
}

#[test]
fn dropping_a_published_attach_takes_the_device_out_again() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let (mut a, mut b) = (bench.device(&smmu, 8), bench.device(&smmu, 0x10));
    let d = domain(1, S1);
    drop(a.prepare(Target::Domain(&d), &bench.env()).unwrap().publish());
    assert!(d.array().is_empty());
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
    assert_eq!(bench.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert!(matches!(a.attachment(), Attachment::Blocked));

    let _ = bench.attach(&mut b, Target::Domain(&d));
    drop(a.prepare(Target::Domain(&d), &bench.env()).unwrap().publish());
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
}

#[test]
fn dropping_an_installed_attach_commits_it() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let (d, e) = (domain(1, S1), domain(2, S1));
    let _ = bench.attach(&mut device, Target::Domain(&d));
    drop(device.prepare(Target::Domain(&e), &bench.env()).unwrap().publish().install());
    assert!(matches!(device.attachment(), Attachment::Domain(now) if Arc::ptr_eq(now, &e)));
    assert!(d.array().is_empty());
    assert_eq!(smmu.asids().stats().in_use, 1);
}

#[test]
fn inv_2_both_domains_invalidate_between_publish_and_commit() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let (d, e) = (domain(1, S1), domain(2, S1));
    let _ = bench.attach(&mut device, Target::Domain(&d));
    let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
    let both = |when: &str| {
        bench.sink.take();
        d.invalidate(page, &bench.sink).unwrap();
        e.invalidate(page, &bench.sink).unwrap();
        let commands = bench.commands().join("; ");
        assert!(commands.contains("asid=1") && commands.contains("asid=2"), "{when}: {commands}");
    };
    let published = device.prepare(Target::Domain(&e), &bench.env()).unwrap().publish();
    both("published");
    let installed = published.install();
    both("installed");
    assert_eq!(installed.commit().freed, Some(ASID1));
    bench.sink.take();
    d.invalidate(page, &bench.sink).unwrap();
    assert!(bench.commands().is_empty());
}

#[test]
fn inv_3_and_4_the_order_of_a_replace() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let (d, g) = (domain(1, S1), domain(2, S2));
    let _ = bench.attach(&mut device, Target::Domain(&d));
    bench.sink.take();
    assert_eq!(bench.attach(&mut device, Target::Domain(&g)).freed, Some(ASID1));
    let names: Vec<String> = bench
        .commands()
        .iter()
        .filter(|c| !c.ends_with("SYNC"))
        .map(|c| c.split(' ').nth(1).unwrap().to_owned())
        .collect();
    // The entry first, then the old tag.
    assert_eq!(names, ["CFGI_STE", "CFGI_STE", "CFGI_STE", "TLBI_NH_ASID"]);
    assert_eq!(device.read_cd(), None);
    assert!(
        matches!(device.read_ste().unwrap().decode(), SteConfig::Stage2(s2) if s2.vmid == Vmid(1))
    );
}

#[test]
fn inv_3_from_stage_1_to_stage_1_is_hitless() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let (d, e) = (domain(1, S1), domain(2, S1));
    let _ = bench.attach(&mut device, Target::Domain(&d));
    for (to, asid) in [(&e, 2), (&d, 1), (&e, 2)] {
        let (before, cd_before) = (device.read_ste().unwrap(), device.read_cd().unwrap());
        bench.sink.take();
        let published = device.prepare(Target::Domain(to), &bench.env()).unwrap().publish();
        let _ = published.install().commit();
        let commands = bench.commands();
        // One store, one sync, and the flush of the old tag.
        assert_eq!(commands[..2], ["smmu0 CFGI_STE sid=0x8 leaf=1", "smmu0 SYNC"]);
        assert!(commands[2].contains("TLBI_NH_ASID") && commands.len() == 4, "{commands:?}");
        let after = device.read_ste().unwrap();
        let differing = before.0.iter().zip(after.0).filter(|(old, new)| **old != *new).count();
        assert_eq!(differing, 1);
        assert_ne!(device.read_cd().unwrap(), cd_before);
        assert_eq!(device.read_cd().unwrap().asid(), Asid(asid));
    }
}

#[test]
fn a_descriptor_that_may_still_be_read_is_replaced_with_syncs() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let (d, e, f) = (domain(1, S1), domain(2, S1), domain(3, S1));
    let _ = bench.attach(&mut device, Target::Domain(&d));
    let broken = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Domain(&e)).config.is_err());
    assert_eq!(device.read_cd(), None);
    bench.sink.take();
    // The SMMU may hold the entry that leads to the old place, so that is not simply overwritten.
    assert_eq!(bench.attach(&mut device, Target::Domain(&f)).config, Ok(()));
    let commands = bench.commands();
    assert!(commands[0].contains("CFGI_CD"), "{commands:?}");
    assert!(device.read_cd().is_some());
    // From then on all is known again.
    bench.sink.take();
    let _ = bench.attach(&mut device, Target::Domain(&e));
    assert!(bench.commands().iter().all(|command| !command.contains("CFGI_CD")));
}

fn fails_on(name: &'static str) -> RecordingSink {
    RecordingSink::failing(move |call| match call {
        SinkCall::Issue(smmu, commands) if commands.iter().any(|c| c.name() == name) => {
            Some(SinkError::timeout(*smmu))
        }
        _ => None,
    })
}

#[test]
fn inv_4_an_unproven_flush_quarantines_and_stays_visible() {
    let bench = Bench::new(fails_on("TLBI_NH_ASID"));
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    let done = bench.attach(&mut device, Target::Blocked);
    assert_eq!(done, Committed { freed: None, quarantined: Some(ASID1), config: Ok(()) });
    assert_eq!(states(&d), [(0, 1, 0, EntryState::Retiring)]);
    assert_eq!(smmu.asids().stats().retiring, 1);
    // Readers still send the flush of the tag.
    bench.sink.take();
    let page = Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint();
    d.invalidate(page, &bench.sink).unwrap();
    assert!(bench.commands()[0].contains("asid=1"));
    // The next attach gets another number, and the retiring one is not found.
    let _ = bench.attach(&mut device, Target::Domain(&d));
    assert_eq!(d.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    // Once the SMMU answers again, the number can be had back.
    assert!(d.retry_flushes(SmmuId(0), &bench.env()).is_err());
    assert_eq!(smmu.asids().stats().retiring, 1);
    let mended = Bench { dma: bench.dma.clone(), ..Bench::new(RecordingSink::new()) };
    assert_eq!(d.retry_flushes(SmmuId(1), &mended.env()), Ok(1));
    assert_eq!(d.retry_flushes(SmmuId(0), &mended.env()), Ok(0));
    assert_eq!(mended.commands(), ["smmu0 TLBI_NH_ASID vmid=0 asid=1", "smmu0 SYNC"]);
    assert_eq!(smmu.asids().stats().retiring, 0);
    mended.sink.take();
    d.invalidate(page, &mended.sink).unwrap();
    assert!(mended.commands().iter().all(|c| !c.contains("asid=1")));
}

#[test]
fn inv_5_an_unconfirmed_detach_from_a_shared_tag_keeps_the_tag() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let (mut a, mut b) = (bench.device(&smmu, 8), bench.device(&smmu, 0x10));
    let (d, e) = (domain(1, S1), domain(2, S1));
    let _ = bench.attach(&mut a, Target::Domain(&d));
    let _ = bench.attach(&mut b, Target::Domain(&d));
    let broken = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    let done = broken.attach(&mut a, Target::Blocked);
    assert_eq!((done.freed, done.quarantined), (None, Some(ASID1)));
    assert!(!a.is_confirmed());
    // The last device that is known goes; the SMMU may still use the tag for the first one.
    let done = bench.attach(&mut b, Target::Blocked);
    assert_eq!((done.freed, done.quarantined), (None, None));
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    let _ = bench.attach(&mut b, Target::Domain(&e));
    assert_eq!(e.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
}

#[test]
fn a_device_whose_block_is_not_confirmed_keeps_its_memory_and_its_streams() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let _ = bench.attach(&mut device, Target::Domain(&domain(1, S1)));
    let broken = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Blocked).config.is_err());
    let free = bench.dma.free_bytes();
    drop(device);
    assert_eq!(bench.dma.free_bytes(), free);
    assert!(Smmu::add_device(&smmu, &[StreamId(8)], &bench.env()).is_err());
    drop(smmu);
    assert_eq!(bench.dma.free_bytes(), free, "the stream table went");
}

#[test]
fn inv_3_giving_up_takes_the_valid_bit_and_nothing_else() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let streams = [StreamId(8), StreamId(9)];
    let mut device = Smmu::add_device(&smmu, &streams, &bench.env()).unwrap();
    let _ = bench.attach(&mut device, Target::Domain(&domain(1, S2)));
    let before = device.read_ste().unwrap();
    let broken = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    assert!(broken.attach(&mut device, Target::Blocked).config.is_err());
    let after = device.read_ste().unwrap();
    assert_eq!(after.0[0], 0);
    assert_eq!(after.0[1..], before.0[1..]);
    let said = broken.observer.take();
    assert!(said.iter().any(|n| matches!(n, Notice::ConfigUnconfirmed { .. })), "{said:?}");
}

#[test]
fn vmids_are_set_up_as_the_configuration_says() {
    let bench = Bench::new(RecordingSink::new());
    let vmids = SpaceConfig { reserved: &[Vmid(1)], ..SpaceConfig::default() };
    let config = SmmuConfig { vmids, ..SmmuConfig::default() };
    let smmu = Arc::new(Smmu::<Test>::new(SmmuId(0), caps(), config, &bench.dma).unwrap());
    let mut device = bench.device(&smmu, 8);
    let g = Arc::new(Domain::<Test>::new(DomainId(1), &tables(S2, 0x8000_0000)).unwrap());
    let prepared = device.prepare(Target::Domain(&g), &bench.env()).unwrap();
    let _ = prepared.publish().install().commit();
    assert_eq!(g.tag_on(SmmuId(0)), Some(CacheTag::Vmid(Vmid(2))), "1 is the firmware's");
}

#[test]
fn a_forced_write_back_domain_says_so_in_the_entry() {
    let bench = Bench::new(RecordingSink::new());
    let mut capable = caps();
    capable.forced_write_back = true;
    let smmu = Smmu::<Test>::new(SmmuId(0), capable, SmmuConfig::default(), &bench.dma).unwrap();
    let mut device = bench.device(&Arc::new(smmu), 8);
    let mut tables = tables(S2, 0x8000_0000);
    tables.0.forced_write_back = ForcedWriteBack::On;
    let g = Arc::new(Domain::<Test>::new(DomainId(1), &tables).unwrap());
    let _ = bench.attach(&mut device, Target::Domain(&g));
    assert!(
        matches!(device.read_ste().unwrap().decode(), SteConfig::Stage2(s2) if s2.forced_write_back)
    );
}

#[test]
fn two_smmus_with_one_number_are_refused() {
    let bench = Bench::new(RecordingSink::new());
    let (one, other) = (bench.smmu(0), bench.smmu(0));
    let (mut a, mut b) = (bench.device(&one, 8), bench.device(&other, 8));
    let d = domain(1, S1);
    let _ = bench.attach(&mut a, Target::Domain(&d));
    assert_eq!(
        b.prepare(Target::Domain(&d), &bench.env()).map(|_| ()).unwrap_err(),
        AttachError::SameSmmuId { smmu: SmmuId(0) }
    );
}

#[test]
fn an_extent_of_another_granule_is_taken_for_the_domains_own() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    bench.sink.take();
    d.invalidate(Extent::range(0, 0x10000, Granule::K64, Leaf::Last).with_page_hint(), &bench.sink)
        .unwrap();
    let commands = bench.commands();
    assert!(commands[0].contains("pages=16x4K ttl=0"), "{commands:?}");
}

#[test]
fn inv_5_an_unconfirmed_entry_is_left_invalid_and_the_old_tag_quarantined() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    let broken = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    let done = broken.attach(&mut device, Target::Blocked);
    assert_eq!(done.config, Err(SinkError::timeout(SmmuId(0))));
    assert_eq!((done.freed, done.quarantined), (None, Some(ASID1)));
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Invalid);
    // The old domain goes on invalidating for it.
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert!(broken.commands().iter().all(|c| !c.contains("TLBI")));
    // A later attach works from there.
    assert_eq!(bench.attach(&mut device, Target::Bypass), DONE);
    assert_eq!(device.read_ste().unwrap().decode(), SteConfig::Bypass);
    assert!(device.is_confirmed());
}

#[test]
fn attaching_to_the_same_domain_again_changes_nothing() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    bench.sink.take();
    assert_eq!(bench.attach(&mut device, Target::Domain(&d)), DONE);
    assert_eq!(states(&d), [(0, 1, 1, EntryState::Live)]);
    assert!(bench.commands().is_empty());
}

#[test]
fn one_domain_has_a_tag_on_each_smmu_and_one_unmap_reaches_them_all() {
    let bench = Bench::new(RecordingSink::new());
    let (s0, s1) = (bench.smmu(0), bench.smmu(1));
    let mut other = bench.device(&s0, 0x20);
    let _ = bench.attach(&mut other, Target::Domain(&domain(9, S1)));
    let (mut a, mut b) = (bench.device(&s0, 8), bench.device(&s1, 8));
    let d = domain(1, S1);
    let _ = bench.attach(&mut a, Target::Domain(&d));
    let _ = bench.attach(&mut b, Target::Domain(&d));
    bench.sink.take();
    d.invalidate(
        Extent::range(0x1000, 0x1000, Granule::K4, Leaf::Last).with_page_hint(),
        &bench.sink,
    )
    .unwrap();
    let calls = bench.sink.take();
    assert!(matches!(
        &calls[..],
        [
            SinkCall::Issue(SmmuId(0), first),
            SinkCall::Issue(SmmuId(1), second),
            SinkCall::Wait(SmmuId(0)),
            SinkCall::Wait(SmmuId(1)),
        ] if first.len() == 1 && second.len() == 1
    ));
    assert_eq!(d.tag_on(SmmuId(0)), Some(CacheTag::Asid(Regime::El1, Asid(2))));
    assert_eq!(d.tag_on(SmmuId(1)), Some(ASID1));
}

#[test]
fn every_stream_of_a_device_gets_its_entry() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let streams: Vec<StreamId> = (0..40).rev().chain([3, 3]).map(StreamId).collect();
    let mut device = Smmu::add_device(&smmu, &streams, &bench.env()).unwrap();
    assert_eq!(device.streams().len(), 40);
    // A second-level table is new, and the SMMU may hold that there was none.
    assert_eq!(bench.commands().len(), 2);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    let commands = bench.commands();
    let count = |what: &str| commands.iter().filter(|c| c.contains(what)).count();
    // Each STE is written in two steps, with a SYNC of its own for each.
    assert_eq!((count("CFGI_CD"), count("CFGI_STE"), count("SYNC")), (0, 80, 80));
    assert_eq!(smmu.device_of(StreamId(39)), Some(device.key()));
}

#[test]
fn only_a_new_second_level_table_is_announced() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let add = |stream| Smmu::add_device(&smmu, &[StreamId(stream)], &bench.env()).unwrap();
    let _first = add(0x108);
    assert_eq!(bench.commands(), ["smmu0 CFGI_STE sid=0x108 leaf=0", "smmu0 SYNC"]);
    let _second = add(0x110);
    assert!(bench.commands().is_empty());

    let deaf = Bench { dma: bench.dma.clone(), ..Bench::new(fails_on("CFGI_STE")) };
    let refused = Smmu::add_device(&smmu, &[StreamId(0x208)], &deaf.env()).map(|_| ());
    assert_eq!(refused, Err(AttachError::Sink(SinkError::timeout(SmmuId(0)))));
    assert_eq!(smmu.device_of(StreamId(0x208)), None);
    // It is announced again until the SMMU confirms.
    let _third = add(0x208);
    assert_eq!(bench.commands(), ["smmu0 CFGI_STE sid=0x208 leaf=0", "smmu0 SYNC"]);
}

#[test]
fn refusals_say_why_and_change_nothing() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let add = |streams: &[StreamId]| Smmu::add_device(&smmu, streams, &bench.env()).map(|_| ());
    let id = SmmuId(0);
    assert_eq!(
        add(&[StreamId(7), StreamId(8)]),
        Err(AttachError::StreamInUse { smmu: id, stream: StreamId(8) })
    );
    assert_eq!(smmu.device_of(StreamId(7)), None);
    assert_eq!(add(&[]), Err(AttachError::NoStream { smmu: id }));
    assert_eq!(
        add(&[StreamId(0x10000)]),
        Err(AttachError::StreamRange { smmu: id, stream: StreamId(0x10000), bits: 16 })
    );

    let mut wide = tables(S1, 0x8000_0000);
    wide.0.output_size = OutputSize::Bits48;
    let wide = Arc::new(Domain::<Test>::new(DomainId(5), &wide).unwrap());
    assert_eq!(
        device.prepare(Target::Domain(&wide), &bench.env()).map(|_| ()).unwrap_err(),
        AttachError::CannotShare { domain: DomainId(5), smmu: id, lacks: Requirement::OutputSize }
    );
    let mut crooked = tables(S1, 0x8000_0008);
    crooked.0.root = PhysAddr(0x8000_0008);
    let crooked = Arc::new(Domain::<Test>::new(DomainId(6), &crooked).unwrap());
    let refused = device.prepare(Target::Domain(&crooked), &bench.env()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, AttachError::Layout(FieldError::Misaligned { field: "TTB0", .. })));
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);

    let mut narrow = tables(S1, 0x8000_0000);
    narrow.0.t0sz = 40;
    assert!(matches!(
        Domain::<Test>::new(DomainId(7), &narrow).map(|_| ()),
        Err(AttachError::InputSize { t0sz: 40, .. })
    ));

    let _ = bench.attach(&mut device, Target::Domain(&domain(1, S1)));
    let twin = domain(1, S1);
    assert_eq!(
        device.prepare(Target::Domain(&twin), &bench.env()).map(|_| ()).unwrap_err(),
        AttachError::SameDomainId { domain: DomainId(1) }
    );
    assert!(bench.attach(&mut device, Target::Blocked).freed.is_some());
    drop(device);
    assert_eq!(smmu.device_of(StreamId(8)), None);
    assert_eq!(add(&[StreamId(8)]), Ok(()));
}

#[test]
fn a_device_that_is_dropped_while_attached_keeps_its_tag_and_its_streams() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let mut device = bench.device(&smmu, 8);
    let d = domain(1, S1);
    let _ = bench.attach(&mut device, Target::Domain(&d));
    drop(device);
    drop(d);
    assert_eq!(smmu.asids().stats().in_use, 1);
    assert!(Smmu::add_device(&smmu, &[StreamId(8)], &bench.env()).is_err());
}

#[test]
fn devices_cross_between_two_domains_in_parallel() {
    let bench = Bench::new(RecordingSink::new());
    let smmu = bench.smmu(0);
    let (d, e) = (domain(1, S1), domain(2, S1));
    std::thread::scope(|scope| {
        for (stream, from, to) in [(8, &d, &e), (0x10, &e, &d), (0x18, &d, &e)] {
            let (bench, smmu) = (&bench, &smmu);
            scope.spawn(move || {
                let mut device = bench.device(smmu, stream);
                for _ in 0..200 {
                    assert_eq!(bench.attach(&mut device, Target::Domain(from)).config, Ok(()));
                    assert_eq!(bench.attach(&mut device, Target::Domain(to)).config, Ok(()));
                }
                let _ = bench.attach(&mut device, Target::Blocked);
            });
        }
    });
    assert!(d.array().is_empty() && e.array().is_empty());
    assert_eq!(smmu.asids().stats().free, smmu.asids().stats().capacity);
}
